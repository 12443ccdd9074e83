/*
 * Telling the kernel what a restore changed.
 *
 * Look-ups under way.  A LOOKUP or READDIRPLUS that was answered from the old tree may reach the
 * kernel's caches after we have told it to drop something that it did not yet have.  For names
 * the kernel itself prevents that: it holds the directory's lock through a look-up, and takes it
 * to drop a name.  For attributes we do the same by hand: where it says that it does not know an
 * inode that was looked up, it is made to take and leave the lock of each directory in which the
 * look-up can have been, by dropping a name that cannot exist; then the inode is dropped again.
 *
 * Directories that are gone are told with their removal, which makes the kernel treat them as one
 * that rmdir(2) has removed.  It does so only for a directory without cached entries: the lowest
 * come first.
 *
 * Directories that have another name are looked up by it.  The kernel then moves what it has
 * cached to the new place, so that getcwd(3) and ".." are right for processes that stay in there.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fs/restore_internal.h"
#include "snapshot/path.h"

enum { LOOK_UP_TRIES = 5 };

/* ---- attributes and pages ---- */

static bool drop_node(struct mount *mount, uint64_t node)
{
	return fuse_lowlevel_notify_inval_inode(mount->session, node, 0, 0) != -ENOENT;
}

static int pass_directory(uint64_t directory, const struct dirent_name *name, void *context)
{
	struct mount *mount = context;

	(void)name;
	fuse_lowlevel_notify_inval_entry(mount->session, directory, "/", 1);
	return 0;
}

/* Waits until look-ups that were answered from the old tree are over, and tries again. */
static void drop_node_late(struct mount *mount, const struct change_list *list, uint64_t node)
{
	struct reader *reader;

	if (reader_acquire(mount->store, &reader))
		return;
	(void)backref_iterate(list->old_tree, reader, node_ino(node), pass_directory, mount);
	reader_release(reader);
	drop_node(mount, node);
}

/* Those that the kernel does not know come to the front: their directories' locks are to be had
 * only when no CREATE is held. */
void tell_nodes(struct mount *mount, struct change_list *list)
{
	for (size_t i = 0; i < list->node_count; i++) {
		uint64_t node = list->nodes[i];
		if (drop_node(mount, node))
			continue;
		list->nodes[i] = list->nodes[list->unknown_count];
		list->nodes[list->unknown_count++] = node;
	}
}

/* ---- names ---- */

static void drop_name(struct mount *mount, const struct change_list *list,
		      const struct changed_name *name)
{
	fuse_lowlevel_notify_inval_entry(mount->session, name->directory, list->text + name->text,
					 name->length);
}

struct removal {
	const struct changed_name *name;
	size_t depth; /* below the first directory that stays */
};

static int compare_removed(const void *a, const void *b)
{
	uint64_t x = ((const struct removal *)a)->name->removed;
	uint64_t y = ((const struct removal *)b)->name->removed;

	return x < y ? -1 : x > y;
}

static int compare_depth(const void *a, const void *b)
{
	size_t x = ((const struct removal *)a)->depth, y = ((const struct removal *)b)->depth;

	return x > y ? -1 : x < y;
}

static const struct removal *find_removal(const struct removal *removals, size_t count,
					  uint64_t node)
{
	const struct changed_name name = {.removed = node};
	const struct removal key = {.name = &name};

	return bsearch(&key, removals, count, sizeof(*removals), compare_removed);
}

/* Sorted by node number, so that a parent is found. */
static void measure_depths(struct removal *removals, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct removal *above = &removals[i];
		while (above && removals[i].depth < count) {
			removals[i].depth++;
			above = find_removal(removals, count, above->name->directory);
		}
	}
}

/* The lowest first. NULL: no memory, or nothing. */
static struct removal *list_removals(const struct change_list *list, size_t *ret_count)
{
	struct removal *removals;
	size_t count = 0;

	for (size_t i = 0; i < list->name_count; i++)
		count += list->names[i].removed != 0;
	*ret_count = count;
	removals = count ? calloc(count, sizeof(*removals)) : NULL;
	if (!removals)
		return NULL;
	count = 0;
	for (size_t i = 0; i < list->name_count; i++)
		if (list->names[i].removed)
			removals[count++].name = &list->names[i];
	qsort(removals, count, sizeof(*removals), compare_removed);
	measure_depths(removals, count);
	qsort(removals, count, sizeof(*removals), compare_depth);
	return removals;
}

/* What could not be removed (a mount lies on it, or the kernel knows it by no name) loses its name:
 * requests on it then answer ESTALE. */
static void remove_directory(struct mount *mount, const struct change_list *list,
			     const struct changed_name *name)
{
	int error = fuse_lowlevel_notify_delete(mount->session, name->directory, name->removed,
						list->text + name->text, name->length);

	if (error)
		drop_name(mount, list, name);
}

static void tell_removals(struct mount *mount, const struct change_list *list)
{
	size_t count;
	struct removal *removals = list_removals(list, &count);

	for (size_t i = 0; removals && i < count; i++)
		remove_directory(mount, list, removals[i].name);
	for (size_t i = 0; !removals && count && i < list->name_count; i++)
		if (list->names[i].removed)
			remove_directory(mount, list, &list->names[i]);
	free(removals);
}

/* ---- directories that have another name ---- */

static char *path_of(struct mount *mount, uint64_t ino)
{
	struct scope scope;
	char *path = NULL;

	if (scope_enter(mount, ROOT_INO, &scope))
		return NULL;
	if (path_of_inode(scope.tree, scope.reader, ino, &path))
		path = NULL;
	scope_leave(&scope);
	return path;
}

/* Not into other mounts, where it might hang.  ESTALE: the kernel was busy with another rename. */
static void look_up(int root, const char *path)
{
	const struct open_how how = {
		.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH,
	};

	for (int i = 0; i < LOOK_UP_TRIES; i++) {
		int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
		if (fd >= 0)
			close(fd);
		if (fd >= 0 || errno != ESTALE)
			return;
		usleep(1000);
	}
}

struct looking_up {
	const struct mount *mount;
	char **paths; /* owned; some may be NULL */
	size_t count;
};

static void look_up_from_outside(void *context)
{
	const struct looking_up *looking_up = context;
	const struct mount *mount = looking_up->mount;
	struct stat stat;

	int root = open(mount->mountpoint, O_PATH | O_CLOEXEC);
	if (root < 0)
		return;
	if (!fstat(root, &stat) && stat.st_dev == mount->device)
		for (size_t i = 0; i < looking_up->count; i++)
			if (looking_up->paths[i] && looking_up->paths[i][0])
				look_up(root, looking_up->paths[i]);
	close(root);
}

static void look_up_moved(struct mount *mount, const struct change_list *list)
{
	struct looking_up looking_up = {.mount = mount, .count = list->moved_count};

	if (!list->moved_count)
		return;
	looking_up.paths = calloc(list->moved_count, sizeof(char *));
	if (!looking_up.paths)
		return;
	for (size_t i = 0; i < list->moved_count; i++)
		looking_up.paths[i] = path_of(mount, list->moved[i]);
	(void)outside_run(look_up_from_outside, &looking_up);
	for (size_t i = 0; i < list->moved_count; i++)
		free(looking_up.paths[i]);
	free(looking_up.paths);
}

void tell_names(struct mount *mount, const struct change_list *list)
{
	for (size_t i = 0; i < list->unknown_count; i++)
		drop_node_late(mount, list, list->nodes[i]);
	for (size_t i = 0; i < list->name_count; i++)
		if (!list->names[i].removed)
			drop_name(mount, list, &list->names[i]);
	tell_removals(mount, list);
	look_up_moved(mount, list);
}
