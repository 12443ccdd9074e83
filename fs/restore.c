/*
 * Restore of a mounted workspace.
 *
 *   1. refuse while files are open for writing (unless forced)
 *   2. barrier: what was written is in the daemon, so that the safety point has it (I8).  With
 *      force the writers hold still until the switch (coherence.c): what their write(2) returned
 *      for is in the safety point
 *   3. hold: from here on opens for writing wait; again no writers, now under the head lock.
 *      Without writers the kernel has no dirty pages: close(2) and munmap(2) wait for them
 *   4. point_restore(): in its commit, with the head locked, mount_switched() refreshes hot
 *      inodes, gives changed files new node numbers, and notes what the kernel must hear
 *   5. answer held opens whose node number has died, so that the kernel looks again.  Then drain:
 *      the kernel's own late updates of times are ignored
 *   6. drop pages and attributes (tell_kernel.c): needs locks of no file and of no directory
 *   7. let all go that were held
 *   8. drop names, tell of directories that are gone or have moved
 *
 * Nothing is held in step 8, as it takes locks of directories and of what has the names now: a
 * CREATE that waits for us has its directory's.
 *
 * Nothing of the abandoned state can leak in: dirty pages of forced writers and pages read before
 * belong to node numbers that answer ESTALE.  A file whose node number lives on is the same at both
 * states, and so are its names.
 *
 * Between 4 and the end of 8 the kernel may take a name for another inode than it now stands for.
 * Most requests do no harm then: what they make or remove is the same for both.  Who opens a file
 * in that time that is the same, but by the old path of its directory, gets the file, as if he had
 * had the directory open.  But rename(2), and rmdir(2), change the kernel's idea of an inode: they
 * answer ESTALE for names that the restore changed (restore_check_name()), upon which the kernel
 * looks again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>

#include "fs/restore_internal.h"
#include "snapshot/path.h"

enum { NAMED_USERS = 10, RELEASE_TRIES = 100, RELEASE_WAIT_NS = 10 * 1000 * 1000 };

static void set_hold(struct mount *mount, enum hold hold)
{
	head_lock(mount->head);
	mount->hold = hold;
	head_unlock(mount->head);
}

/* Steps 5 to 8; `list` NULL: nothing changed, just let everybody go on. */
void settle_kernel(struct mount *mount, struct change_list *list)
{
	if (list) {
		parked_release(mount, PARKED_STALE);
		/* Who goes on writing sends times that are right. */
		atomic_store(&mount->draining, !list->partial);
		if (!list->partial)
			kernel_sync(mount);
		tell_nodes(mount, list);
		atomic_store(&mount->draining, false);
	}
	set_hold(mount, HOLD_NOTHING);
	parked_release(mount, PARKED_ALL);
	if (list)
		tell_names(mount, list);
}

/* Memory ran out, or the old state is damaged: what the kernel has cached cannot be trusted. */
int give_up_mount(struct mount *mount, int error, struct errbuf *err)
{
	log_line(LOG_LEVEL_ERROR,
		 "%s: restored, but the caches could not be brought up to date: %s; unmounting",
		 mount->mountpoint, strerror(-error));
	mount_detach(mount);
	return err_set(err, fs_errno(error) == EIO ? error : -EIO,
		       "the workspace is restored, but the mount at %s could not follow and was "
		       "taken away: mount it again",
		       mount->mountpoint);
}

/* ---- who is in the way ---- */

static bool has_writers(struct mount *mount)
{
	bool found = false;

	head_lock_shared(mount->head);
	for (struct handle *handle = mount->handles; handle && !found; handle = handle->next)
		found = handle->writes && handle_is_current(mount, handle);
	head_unlock(mount->head);
	return found;
}

/* Where no process was found (it may be the kernel itself, as for NFS or a loop device). */
static int refuse_by_path(struct mount *mount, struct errbuf *err)
{
	char *path = NULL;
	struct scope scope;
	uint64_t ino = 0;

	if (!scope_enter(mount, ROOT_INO, &scope)) {
		for (struct handle *handle = mount->handles; handle && !ino; handle = handle->next)
			if (handle->writes && handle_is_current(mount, handle))
				ino = handle->inode->ino;
		if (!ino || path_of_inode(scope.tree, scope.reader, ino, &path))
			path = NULL;
		scope_leave(&scope);
	}
	err_set(err, -EBUSY, "'%s' is open for writing; close it, or use --force",
		path ? path : "a file without a name");
	free(path);
	return -EBUSY;
}

/* The kernel tells us of a close(2) a little later: a process that has just closed its file must
 * not be refused. */
static int check_writers(struct mount *mount, struct mount_user **ret_users,
			 size_t *ret_user_count, struct errbuf *err)
{
	const struct timespec wait = {.tv_nsec = RELEASE_WAIT_NS};
	struct mount_user *users;
	size_t count;

	for (int i = 0; has_writers(mount); i++) {
		int error = mount_users(mount, &users, &count);
		if (error)
			return err_set(err, error, "cannot look for open files: %s",
				       strerror(-error));
		if (count) {
			char *text = users_describe(users, count);
			err_set(err, -EBUSY,
				"files are open for writing: %s; close them, or use --force",
				text ? text : "(no memory to say which)");
			free(text);
			*ret_users = users;
			*ret_user_count = count;
			return -EBUSY;
		}
		mount_users_free(users, count);
		if (i == RELEASE_TRIES)
			return refuse_by_path(mount, err);
		nanosleep(&wait, NULL);
	}
	return 0;
}

/* ---- restore ---- */

/* Step 3. */
static bool hold_writers(struct mount *mount, struct change_list *list, bool force)
{
	bool writers = false;

	head_lock(mount->head);
	for (struct handle *handle = mount->handles; !force && handle && !writers;
	     handle = handle->next)
		writers = handle->writes && handle_is_current(mount, handle);
	if (!writers) {
		mount->hold = HOLD_EVERYTHING;
		mount->changes = list;
	}
	head_unlock(mount->head);
	return !writers;
}

static int count_changes(struct mount *mount, const struct restore_result *restore,
			 struct diff_summary *ret)
{
	struct tree *old_tree = NULL, *new_tree = NULL;
	struct reader *reader = NULL;

	int error = tree_open(mount->store, restore->old_root, 0, &old_tree);
	if (!error)
		error = tree_open(mount->store, restore->new_root, 0, &new_tree);
	if (!error)
		error = reader_acquire(mount->store, &reader);
	if (!error)
		error = diff_summarize(old_tree, new_tree, reader, ret);
	reader_release(reader);
	tree_close(new_tree);
	tree_close(old_tree);
	return error;
}

/* Steps 1 to 3. */
static int clear_the_way(struct mount *mount, struct change_list *list, bool force,
			 struct mount_user **ret_users, size_t *ret_user_count, struct errbuf *err)
{
	for (;;) {
		int error = force ? 0 : check_writers(mount, ret_users, ret_user_count, err);
		if (!error)
			error = force ? mount_still(mount, err) : mount_barrier(mount, err);
		if (error || hold_writers(mount, list, force))
			return error;
		/* Somebody opened a file in between: look again who it is. */
	}
}

/* The names are told: no request meets the kernel's old idea of one any more. */
void forget_changes(struct mount *mount)
{
	head_lock(mount->head);
	mount->changes = NULL;
	head_unlock(mount->head);
}

/* Steps 4 to 8. */
static int switch_over(struct mount *mount, const struct point *target, const char *by,
		       struct change_list *list, struct restore_result *ret, struct errbuf *err)
{
	int error = point_restore(mount->head, target, by, ret, err);

	/* Before the names: who waits may hold a lock that this needs. */
	mount_move_on(mount);
	settle_kernel(mount, error ? NULL : list);
	forget_changes(mount);
	return error;
}

/* Steps 4 to 8, and what follows. */
static int restore(struct mount *mount, const struct point *target, const char *by,
		   struct change_list *list, struct mount_restore_result *ret, struct errbuf *err)
{
	struct mount_restore_result result = {0};

	int error = switch_over(mount, target, by, list, &result.restore, err);
	if (!error && list->error)
		error = give_up_mount(mount, list->error, err);
	if (!error) {
		mount_points_changed(mount);
		*ret = result;
		return 0;
	}
	mount_restore_result_release(&result);
	return error;
}

int mount_restore(struct mount *mount, const struct point *target, const char *by, bool force,
		  struct mount_restore_result *ret, struct mount_user **ret_users,
		  size_t *ret_user_count, struct errbuf *err)
{
	struct change_list list = {0};

	*ret_users = NULL;
	*ret_user_count = 0;
	pthread_mutex_lock(&mount->restore_lock);
	pthread_mutex_lock(&mount->still_lock);
	int error = atomic_load(&mount->cut) ? err_set(err, -ENOTCONN, "%s is being unmounted",
						       mount->mountpoint)
					     : 0;
	if (!error)
		error = clear_the_way(mount, &list, force, ret_users, ret_user_count, err);
	if (error)
		mount_move_on(mount);
	else
		error = restore(mount, target, by, &list, ret, err);
	change_list_release(&list);
	pthread_mutex_unlock(&mount->still_lock);
	pthread_mutex_unlock(&mount->restore_lock);
	/* Both roots are points: nobody need wait until they have been compared.  The restore is
	 * done and durable; a count that cannot be made stays zero. */
	if (!error)
		(void)count_changes(mount, &ret->restore, &ret->changed);
	return error;
}

void mount_restore_result_release(struct mount_restore_result *result)
{
	restore_result_release(&result->restore);
	result->changed = (struct diff_summary){0};
}
