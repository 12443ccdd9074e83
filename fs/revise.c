/*
 * Revision of a mounted workspace: some of its files change from below (fs/mount.h).
 *
 *   1. writers hold still and what the kernel holds of theirs comes in, as for a freeze
 *      (coherence.c): the kept point and the merge see one moment
 *   2. hold: opens for writing wait, so that none meets the kernel's old idea of a name
 *   3. the revision, in its commit with the head locked: when it has made its changes it is asked
 *      of each inode whether a handle writes to it.  None does, or it is forced: then
 *      mount_switched() does as for a restore, for the inodes that changed only
 *   4. writers go on; the kernel is told (steps 5 to 8 of restore.c)
 *
 * Without a writer there are no dirty pages of the files that change.  Updates of times that come
 * late are for files that did not change, or for node numbers that have died: none are ignored.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fs/restore_internal.h"
#include "index/util/idset.h"
#include "snapshot/path.h"

enum { RELEASE_TRIES = 100, RELEASE_WAIT_NS = 10 * 1000 * 1000 };

struct mount_guard {
	struct mount *mount;
	bool force, dry_run;
	struct idset blocked; /* inodes that are open for writing and would change */
};

int mount_guard_may_change(uint64_t ino, struct mount_guard *guard)
{
	struct inode *inode = inode_find(&guard->mount->inodes, ino);

	head_assert_locked(guard->mount->head);
	if (!inode || !inode->writers)
		return 0;
	int added = idset_add(&guard->blocked, ino);
	if (added < 0)
		return added;
	return guard->force || guard->dry_run ? 0 : -EBUSY;
}

/* ---- who is in the way ---- */

static bool still_blocked(struct mount_guard *guard)
{
	struct mount *mount = guard->mount;
	bool found = false;

	head_lock_shared(mount->head);
	for (struct handle *handle = mount->handles; handle && !found; handle = handle->next)
		found = handle->writes && handle_is_current(mount, handle) &&
			idset_has(&guard->blocked, handle->inode->ino);
	head_unlock(mount->head);
	return found;
}

/* Of all that have files open for writing, those who are in the way. */
static int find_blockers(struct mount_guard *guard, struct mount_user **ret, size_t *ret_count)
{
	struct mount_user *users;
	size_t count, kept = 0;

	int error = mount_users(guard->mount, &users, &count);
	if (error)
		return error;
	for (size_t i = 0; i < count; i++) {
		if (!users[i].ino || idset_has(&guard->blocked, users[i].ino))
			users[kept++] = users[i];
		else
			free(users[i].path);
	}
	if (!kept)
		mount_users_free(users, 0);
	*ret = kept ? users : NULL;
	*ret_count = kept;
	return 0;
}

static int refuse_users(const struct mount_user *users, size_t count, struct errbuf *err)
{
	char *text = users_describe(users, count);

	err_set(err, -EBUSY,
		"files that would change are open for writing: %s; close them, or use --force",
		text ? text : "(no memory to say which)");
	free(text);
	return -EBUSY;
}

/* Where no process was found (it may be the kernel itself, as for NFS or a loop device). */
static int refuse_by_path(struct mount_guard *guard, struct errbuf *err)
{
	struct mount *mount = guard->mount;
	struct scope scope;
	char *path = NULL;
	uint64_t ino = 0;

	if (!scope_enter(mount, ROOT_INO, &scope)) {
		for (struct handle *handle = mount->handles; handle && !ino; handle = handle->next)
			if (handle->writes && idset_has(&guard->blocked, handle->inode->ino))
				ino = handle->inode->ino;
		if (!ino || path_of_inode(scope.tree, scope.reader, ino, &path))
			path = NULL;
		scope_leave(&scope);
	}
	err_set(err, -EBUSY, "'%s' would change and is open for writing; close it, or use --force",
		path ? path : "a file without a name");
	free(path);
	return -EBUSY;
}

/* The kernel tells us of a close(2) a little later: a process that has just closed its file must
 * not be refused.  0: nobody is in the way any more. */
static int name_blockers(struct mount_guard *guard, struct mount_user **ret_users,
			 size_t *ret_count, struct errbuf *err)
{
	const struct timespec wait = {.tv_nsec = RELEASE_WAIT_NS};

	for (int i = 0; still_blocked(guard); i++) {
		int error = find_blockers(guard, ret_users, ret_count);
		if (error)
			return err_set(err, error, "cannot look for open files: %s",
				       strerror(-error));
		if (*ret_count)
			return refuse_users(*ret_users, *ret_count, err);
		if (i == RELEASE_TRIES)
			return refuse_by_path(guard, err);
		nanosleep(&wait, NULL);
	}
	return 0;
}

/* ---- one attempt ---- */

static void hold_opens(struct mount *mount, struct change_list *list)
{
	head_lock(mount->head);
	mount->hold = HOLD_EVERYTHING;
	mount->changes = list;
	head_unlock(mount->head);
}

/* Steps 2 to 4, with `still_lock`. */
static int switch_over(struct mount *mount, const struct mount_revision *revision,
		       struct mount_guard *guard, struct errbuf *err)
{
	struct change_list list = {.partial = true};

	hold_opens(mount, &list);
	int error = revision->run(mount->head, guard, revision->context, err);
	/* Before the names: who waits may hold a lock that this needs. */
	mount_move_on(mount);
	settle_kernel(mount, !error && list.new_tree ? &list : NULL);
	forget_changes(mount);
	if (!error && list.error)
		error = give_up_mount(mount, list.error, err);
	if (!error)
		mount_points_changed(mount);
	change_list_release(&list);
	return error;
}

static int attempt(struct mount *mount, const struct mount_revision *revision,
		   struct mount_guard *guard, struct errbuf *err)
{
	pthread_mutex_lock(&mount->restore_lock);
	pthread_mutex_lock(&mount->still_lock);
	int error = atomic_load(&mount->cut)
			    ? err_set(err, -ENOTCONN, "%s is being unmounted", mount->mountpoint)
			    : mount_still(mount, err);
	if (error)
		mount_move_on(mount);
	else
		error = switch_over(mount, revision, guard, err);
	pthread_mutex_unlock(&mount->still_lock);
	pthread_mutex_unlock(&mount->restore_lock);
	return error;
}

static int preview(struct mount *mount, const struct mount_revision *revision,
		   struct mount_guard *guard, struct mount_user **ret_users, size_t *ret_count,
		   struct errbuf *err)
{
	int error = mount_barrier(mount, err);
	if (!error)
		error = revision->run(mount->head, guard, revision->context, err);
	return error || !guard->blocked.count ? error : find_blockers(guard, ret_users, ret_count);
}

/* ---- all of it ---- */

static int revise(struct mount *mount, const struct mount_revision *revision,
		  struct mount_guard *guard, struct mount_user **ret_users, size_t *ret_count,
		  struct errbuf *err)
{
	for (;;) {
		int error = attempt(mount, revision, guard, err);
		if (error != -EBUSY || !guard->blocked.count)
			return error;
		error = name_blockers(guard, ret_users, ret_count, err);
		if (error)
			return error;
		idset_release(&guard->blocked); /* they have closed their files */
		guard->blocked = (struct idset)IDSET_INIT;
	}
}

int mount_revise(struct mount *mount, const struct mount_revision *revision,
		 struct mount_user **ret_users, size_t *ret_user_count, struct errbuf *err)
{
	struct mount_guard guard = {
		.mount = mount,
		.force = revision->force,
		.dry_run = revision->dry_run,
		.blocked = IDSET_INIT,
	};

	*ret_users = NULL;
	*ret_user_count = 0;
	int error = revision->dry_run
			    ? preview(mount, revision, &guard, ret_users, ret_user_count, err)
			    : revise(mount, revision, &guard, ret_users, ret_user_count, err);
	idset_release(&guard.blocked);
	return error;
}
