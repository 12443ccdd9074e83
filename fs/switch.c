/*
 * The moment of a restore: the tree has another root, and everything that was known about the old
 * one is brought up to date or noted for the kernel.
 *
 * What the kernel knows comes to one of these ends:
 *
 *     a regular file that changed     gets a new node number; requests on the old one: ESTALE
 *     a directory that comes back     gets a new node number: the kernel holds the old one for dead
 *     a directory that is gone        is told as removed; who stays in it sees what he would see
 *                                     in a removed directory anywhere
 *     any other inode that changed    keeps its number; attributes, ACLs and pages are dropped
 *     a name that leads elsewhere     is dropped, with what lies below it
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/restore_internal.h"
#include "index/util/array.h"

void change_list_release(struct change_list *list)
{
	free(list->nodes);
	free(list->names);
	free(list->text);
	free(list->moved);
	tree_close(list->old_tree);
	tree_close(list->new_tree);
	*list = (struct change_list){0};
}

static int add_node(struct change_list *list, uint64_t node)
{
	uint64_t *nodes = array_reserve(list->nodes, list->node_count + 1, &list->node_capacity,
					sizeof(nodes[0]));

	if (!nodes)
		return -ENOMEM;
	list->nodes = nodes;
	list->nodes[list->node_count++] = node;
	return 0;
}

static int add_moved(struct change_list *list, uint64_t ino)
{
	uint64_t *moved = array_reserve(list->moved, list->moved_count + 1, &list->moved_capacity,
					sizeof(moved[0]));

	if (!moved)
		return -ENOMEM;
	list->moved = moved;
	list->moved[list->moved_count++] = ino;
	return 0;
}

static int add_name(struct change_list *list, uint64_t directory, uint64_t removed,
		    const char *name, size_t length)
{
	struct changed_name *names = array_reserve(list->names, list->name_count + 1,
						   &list->name_capacity, sizeof(names[0]));

	if (!names)
		return -ENOMEM;
	list->names = names;
	char *text =
		array_reserve(list->text, list->text_length + length + 1, &list->text_capacity, 1);
	if (!text)
		return -ENOMEM;
	list->text = text;
	memcpy(list->text + list->text_length, name, length);
	list->text[list->text_length + length] = 0; /* libfuse sends it, too */
	list->names[list->name_count++] =
		(struct changed_name){directory, removed, list->text_length, length};
	list->text_length += length + 1;
	return 0;
}

struct switching {
	struct mount *mount;
	struct change_list *list;
	struct reader *reader;
};

/* nlink is 0 where it is not there (mode 0, too), or has no name any more. */
static int attributes_named(struct switching *switching, struct tree *tree, uint64_t ino,
			    struct inode_attr *ret)
{
	int error = inode_get(tree, switching->reader, ino, ret);

	if (error != -ENOENT)
		return error;
	*ret = (struct inode_attr){0};
	return 0;
}

/* ---- inodes ---- */

static int visit_backref(uint64_t directory, const struct dirent_name *name, void *context)
{
	struct switching *switching = context;
	uint64_t node = node_of(switching->mount, directory);

	if (!node_is_known(switching->mount, node))
		return 0;
	return add_name(switching->list, node, 0, name->text, name->length);
}

/* The node number of a regular file dies; its names must lead to the new one. */
static int retire_file(struct switching *switching, uint64_t ino)
{
	struct inode *inode = inode_find(&switching->mount->inodes, ino);

	int error = node_new_epoch(switching->mount, ino);
	if (error)
		return error;
	if (inode)
		inode->writers = 0;
	return backref_iterate(switching->list->old_tree, switching->reader, ino, visit_backref,
			       switching);
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/* Reading moves the access time, and the kernel takes ours: no reason to give a file that somebody
 * reads a new number.  Whatever changes anything else changes the ctime. */
static bool same_but_for_atime(const struct inode_attr *before, const struct inode_attr *after)
{
	return before->mode == after->mode && before->nlink == after->nlink &&
	       before->uid == after->uid && before->gid == after->gid &&
	       before->rdev == after->rdev && before->flags == after->flags &&
	       before->size == after->size && before->allocated == after->allocated &&
	       same_time(&before->mtime, &after->mtime) &&
	       same_time(&before->ctime, &after->ctime) && same_time(&before->btime, &after->btime);
}

/* The kernel knows the inode. */
static int note_known(struct switching *switching, uint64_t ino, uint64_t node, bool contents)
{
	struct change_list *list = switching->list;
	struct inode_attr before, after;

	int error = attributes_named(switching, list->old_tree, ino, &before);
	if (!error)
		error = attributes_named(switching, list->new_tree, ino, &after);
	if (error)
		return error;
	uint32_t mode = before.mode ? before.mode : after.mode;
	bool back = S_ISDIR(mode) && !before.nlink && after.nlink;
	if (!S_ISREG(mode) && before.mode && (back || !after.mode))
		node_note_gone(switching->mount, node, &before);
	error = add_node(list, node);
	if (!error && S_ISREG(mode) && (contents || !same_but_for_atime(&before, &after)))
		error = retire_file(switching, ino);
	if (!error && back)
		error = node_new_epoch(switching->mount, ino);
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
	inode->atime_waits = false;
	inode_update_dirty_list(inode);
}

static int visit_inode(uint64_t ino, int contents, void *context)
{
	struct switching *switching = context;
	struct mount *mount = switching->mount;
	uint64_t node = node_of(mount, ino);
	struct inode *inode = inode_find(&mount->inodes, ino);
	int error = 0;

	if (node_is_known(mount, node))
		error = note_known(switching, ino, node, contents);
	if (inode)
		refresh_inode(switching, inode);
	return error;
}

/* Forced: also those whose file is the same at both points may have dirty pages. */
static int retire_writers(struct switching *switching)
{
	struct mount *mount = switching->mount;
	int error = 0;

	if (switching->list->partial)
		return 0;
	for (struct handle *handle = mount->handles; handle && !error; handle = handle->next) {
		if (!handle->writes || !node_is_current(mount, handle->node))
			continue;
		error = add_node(switching->list, handle->node);
		if (!error)
			error = retire_file(switching, handle->inode->ino);
	}
	return error;
}

/* ---- names ---- */

/* The directory that has this name in `tree` and that the kernel knows; 0: none. */
static int known_directory(struct switching *switching, struct tree *tree, uint64_t directory,
			   const char *name, size_t length, uint64_t *ret_ino)
{
	struct mount *mount = switching->mount;
	struct dirent_target target;

	*ret_ino = 0;
	int error = dirent_lookup(tree, switching->reader, directory, name, length, &target);
	if (error)
		return error == -ENOENT ? 0 : error;
	if (target.type == DT_DIR && node_is_known(mount, node_of(mount, target.ino)))
		*ret_ino = target.ino;
	return 0;
}

static int note_name(struct switching *switching, uint64_t directory, uint64_t node,
		     const char *name, size_t length)
{
	struct change_list *list = switching->list;
	uint64_t before, after;
	struct inode_attr attr;

	int error = known_directory(switching, list->old_tree, directory, name, length, &before);
	if (!error)
		error = known_directory(switching, list->new_tree, directory, name, length, &after);
	if (!error && before)
		error = attributes_named(switching, list->new_tree, before, &attr);
	if (!error && before && attr.nlink)
		before = 0;
	if (!error && after)
		error = add_moved(list, after);
	if (error)
		return error;
	return add_name(list, node, before ? node_of(switching->mount, before) : 0, name, length);
}

static int visit_name(uint64_t directory, const char *name, size_t length, void *context)
{
	struct switching *switching = context;
	uint64_t node = node_of(switching->mount, directory);

	/* One that has just come back has a new number, under which the kernel knows nothing. */
	if (!node_is_known(switching->mount, node))
		return 0;
	return note_name(switching, directory, node, name, length);
}

/* ---- the whole ---- */

static int switch_nodes(struct switching *switching, uint64_t old_root, uint64_t new_root)
{
	struct mount *mount = switching->mount;
	struct change_list *list = switching->list;
	const struct diff_kernel_visitor visitor = {
		.inode = visit_inode, .name = visit_name, .context = switching};

	int error = tree_open(mount->store, old_root, 0, &list->old_tree);
	if (!error)
		error = tree_open(mount->store, new_root, 0, &list->new_tree);
	if (!error)
		error = diff_for_kernel(list->old_tree, list->new_tree, switching->reader,
					&visitor);
	return error ? error : retire_writers(switching);
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

	mount->switched = time_now();
	memset(mount->sent, 0, sizeof(mount->sent));
	int error = reader_acquire(mount->store, &switching.reader);
	if (!error) {
		error = switch_nodes(&switching, old_root, new_root);
		if (error)
			refresh_everything(&switching);
		unlinked_after_switch(mount, switching.reader);
		reader_release(switching.reader);
	}
	switching.list->error = error;
	change_list_release(&unheard);
}

/* ---- requests that come before the kernel has heard ---- */

static int target_of(struct tree *tree, struct reader *reader, uint64_t directory, const char *name,
		     uint64_t *ret_ino)
{
	struct dirent_target target = {0};

	int error = dirent_lookup(tree, reader, directory, name, strlen(name), &target);
	*ret_ino = target.ino;
	return error == -ENOENT ? 0 : error;
}

int restore_check_name(struct mount *mount, struct reader *reader, uint64_t directory,
		       const char *name)
{
	const struct change_list *list = mount->changes;
	uint64_t before, after;

	if (!list || !list->old_tree || !list->new_tree)
		return 0;
	int error = target_of(list->old_tree, reader, directory, name, &before);
	if (!error)
		error = target_of(list->new_tree, reader, directory, name, &after);
	if (error)
		return error;
	return before == after ? 0 : -ESTALE;
}
