/*
 * Restore of a mounted workspace.
 *
 *   1. refuse while files are open for writing (unless forced)
 *   2. barrier: what was written is in the daemon, so that the safety point has it (I8)
 *   3. hold: from here on opens for writing wait; again no writers, now under the head lock.
 *      Without writers the kernel has no dirty pages: close(2) and munmap(2) wait for them
 *   4. point_restore(): in its commit, with the head locked, mount_switched() refreshes hot
 *      inodes, gives changed files new node numbers, and notes what the kernel must hear
 *   5. drain: the kernel's own late updates of times are ignored
 *   6. invalidate pages and attributes
 *   7. let CREATEs go: each holds its directory's lock, which the next step needs
 *   8. invalidate names
 *   9. let the other opens go
 *
 * Nothing of the abandoned state can leak in: dirty pages of forced writers and pages read before
 * belong to node numbers that answer ESTALE; a file opened for writing after 9 is reached by
 * names that were looked up in the restored tree.
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

static void change_list_release(struct change_list *list)
{
	free(list->nodes);
	free(list->names);
	free(list->text);
}

/* ---- collecting, in mount_switched() ---- */

static int make_room(void **array, size_t *capacity, size_t wanted, size_t size)
{
	if (wanted <= *capacity)
		return 0;
	size_t more = *capacity ? *capacity : 64;
	while (more < wanted)
		more *= 2;
	void *grown = reallocarray(*array, more, size);
	if (!grown)
		return -ENOMEM;
	*array = grown;
	*capacity = more;
	return 0;
}

static int add_node(struct change_list *list, uint64_t node)
{
	int error = make_room((void **)&list->nodes, &list->node_capacity, list->node_count + 1,
			      sizeof(*list->nodes));

	if (!error)
		list->nodes[list->node_count++] = node;
	return error;
}

static int add_name(struct change_list *list, uint64_t directory, const char *name, size_t length)
{
	int error = make_room((void **)&list->names, &list->name_capacity, list->name_count + 1,
			      sizeof(*list->names));

	if (!error)
		error = make_room((void **)&list->text, &list->text_capacity,
				  list->text_length + length, 1);
	if (error)
		return error;
	memcpy(list->text + list->text_length, name, length);
	list->names[list->name_count++] =
		(struct changed_name){directory, list->text_length, length};
	list->text_length += length;
	return 0;
}

struct switching {
	struct mount *mount;
	struct change_list *list;
	struct tree *old_tree; /* owned */
	struct reader *reader;
};

static int visit_backref(uint64_t directory, const struct dirent_name *name, void *context)
{
	struct switching *switching = context;

	if (!node_is_known(switching->mount, directory))
		return 0;
	return add_name(switching->list, directory, name->text, name->length);
}

/* The node number of a regular file dies; its names must lead to the new one. */
static int retire_node(struct switching *switching, uint64_t ino)
{
	struct mount *mount = switching->mount;
	struct inode *inode = inode_find(&mount->inodes, ino);

	int error = node_new_epoch(mount, ino);
	if (error)
		return error;
	if (inode)
		inode->writers = 0;
	return backref_iterate(switching->old_tree, switching->reader, ino, visit_backref,
			       switching);
}

static int mode_of(struct switching *switching, uint64_t ino, uint32_t *ret)
{
	struct inode_attr attr;

	int error = inode_get(switching->old_tree, switching->reader, ino, &attr);
	if (error == -ENOENT)
		error = inode_get(switching->mount->tree, switching->reader, ino, &attr);
	if (!error)
		*ret = attr.mode;
	return error;
}

/* All data is in the old tree since the cut.  What cannot be read is as good as gone. */
static void refresh_inode(struct switching *switching, struct inode *inode)
{
	struct mount *mount = switching->mount;

	data_discard(mount->engine, inode);
	int error = inode_get(mount->tree, switching->reader, inode->ino, &inode->attr);
	inode->gone = error != 0;
	inode->unlinked = !error && inode->attr.nlink == 0;
	inode->attr_dirty = false;
	inode_update_dirty_list(inode);
}

static int visit_inode(uint64_t ino, int contents, void *context)
{
	struct switching *switching = context;
	struct mount *mount = switching->mount;
	uint64_t node = node_of(mount, ino);
	struct inode *inode = inode_find(&mount->inodes, ino);
	uint32_t mode;
	int error = 0;

	(void)contents;
	if (node_is_known(mount, node)) {
		error = add_node(switching->list, node);
		if (!error)
			error = mode_of(switching, ino, &mode);
		if (!error && S_ISREG(mode))
			error = retire_node(switching, ino);
	}
	if (inode)
		refresh_inode(switching, inode);
	return error;
}

static int visit_name(uint64_t directory, const char *name, size_t length, void *context)
{
	struct switching *switching = context;

	if (!node_is_known(switching->mount, directory))
		return 0;
	return add_name(switching->list, directory, name, length);
}

/* Forced: also those whose file is the same at both points may have dirty pages. */
static int retire_writers(struct switching *switching)
{
	struct mount *mount = switching->mount;
	int error = 0;

	for (struct handle *handle = mount->handles; handle && !error; handle = handle->next) {
		if (!handle->writes || !node_is_current(mount, handle->node))
			continue;
		error = add_node(switching->list, handle->node);
		if (!error)
			error = retire_node(switching, handle->inode->ino);
	}
	return error;
}

static int switch_nodes(struct switching *switching, uint64_t old_root)
{
	struct mount *mount = switching->mount;
	const struct diff_kernel_visitor visitor = {
		.inode = visit_inode, .name = visit_name, .context = switching};

	int error = tree_open(mount->store, old_root, 0, &switching->old_tree);
	if (!error)
		error = diff_for_kernel(switching->old_tree, mount->tree, switching->reader,
					&visitor);
	if (!error)
		error = retire_writers(switching);
	tree_close(switching->old_tree);
	return error;
}

static void refresh_everything(struct switching *switching)
{
	struct inode_table *table = &switching->mount->inodes;
	struct u64map_entry *entry;
	size_t position = 0;

	while ((entry = u64map_next(&table->by_ino, &position)))
		refresh_inode(switching, entry->value);
}

void mount_switched(void *context, uint64_t old_root, uint64_t new_root)
{
	struct mount *mount = context;
	struct change_list unheard = {0};
	struct switching switching = {.mount = mount,
				      .list = mount->changes ? mount->changes : &unheard};

	(void)new_root;
	int error = reader_acquire(mount->store, &switching.reader);
	if (!error) {
		error = switch_nodes(&switching, old_root);
		if (error)
			refresh_everything(&switching);
		unlinked_after_switch(mount, switching.reader);
		reader_release(switching.reader);
	}
	switching.list->error = error;
	if (!mount->changes)
		change_list_release(&unheard);
}

/* ---- telling the kernel ---- */

static void invalidate_nodes(struct mount *mount, const struct change_list *list)
{
	for (size_t i = 0; i < list->node_count; i++)
		fuse_lowlevel_notify_inval_inode(mount->session, list->nodes[i], 0, 0);
}

static void invalidate_names(struct mount *mount, const struct change_list *list)
{
	for (size_t i = 0; i < list->name_count; i++) {
		const struct changed_name *name = &list->names[i];
		fuse_lowlevel_notify_inval_entry(mount->session, name->directory,
						 list->text + name->text, name->length);
	}
}

static void set_hold(struct mount *mount, enum hold hold)
{
	head_lock(mount->head);
	mount->hold = hold;
	head_unlock(mount->head);
}

/* Steps 5 to 9; `list` NULL: nothing changed, just let everybody go on. */
static void settle_kernel(struct mount *mount, const struct change_list *list)
{
	if (list) {
		atomic_store(&mount->draining, true);
		kernel_sync(mount);
		invalidate_nodes(mount, list);
		atomic_store(&mount->draining, false);
	}
	set_hold(mount, HOLD_OPENS);
	parked_release(mount, true);
	if (list)
		invalidate_names(mount, list);
	set_hold(mount, HOLD_NOTHING);
	parked_release(mount, false);
}

/* Memory ran out, or the old state is damaged: what the kernel has cached cannot be trusted. */
static int give_up_mount(struct mount *mount, int error, struct errbuf *err)
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
static int check_writers(struct mount *mount, struct errbuf *err)
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
			mount_users_free(users, count);
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
			 struct errbuf *err)
{
	for (;;) {
		int error = force ? 0 : check_writers(mount, err);
		if (!error)
			error = mount_barrier(mount, err);
		if (error || hold_writers(mount, list, force))
			return error;
		/* Somebody opened a file in between: look again who it is. */
	}
}

static int restore(struct mount *mount, const struct point *target, const char *by, bool force,
		   struct mount_restore_result *ret, struct errbuf *err)
{
	struct mount_restore_result result = {0};
	struct change_list list = {0};

	int error = clear_the_way(mount, &list, force, err);
	if (error)
		return error;
	error = point_restore(mount->head, target, by, &result.restore, err);
	head_lock(mount->head);
	mount->changes = NULL;
	head_unlock(mount->head);
	settle_kernel(mount, error ? NULL : &list);
	if (!error && list.error)
		error = give_up_mount(mount, list.error, err);
	change_list_release(&list);
	if (!error) {
		mount_points_changed(mount);
		/* The restore is done and durable; a count that cannot be made stays zero. */
		(void)count_changes(mount, &result.restore, &result.changed);
		*ret = result;
		return 0;
	}
	mount_restore_result_release(&result);
	return error;
}

int mount_restore(struct mount *mount, const struct point *target, const char *by, bool force,
		  struct mount_restore_result *ret, struct errbuf *err)
{
	pthread_mutex_lock(&mount->restore_lock);
	int error = restore(mount, target, by, force, ret, err);
	pthread_mutex_unlock(&mount->restore_lock);
	return error;
}

void mount_restore_result_release(struct mount_restore_result *result)
{
	restore_result_release(&result->restore);
	result->changed = (struct diff_summary){0};
}
