/* Names: look up, forget, link, unlink. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/mount_internal.h"
#include "fs/ops_name_internal.h"

bool name_is_reserved(uint64_t directory, const char *name)
{
	return directory == ROOT_INO && name[0] == '.' && strcmp(name, POINTS_NAME) == 0;
}

int check_new_name(uint64_t directory, const char *name)
{
	if (name_is_reserved(directory, name))
		return -EEXIST;
	return strlen(name) > NAME_MAX_BYTES ? -ENAMETOOLONG : 0;
}

/* ---- look-up ---- */

/* "." and ".." are asked for by NFS and open_by_handle_at(2). */
static int lookup_target(const struct scope *scope, const char *name, uint64_t *ret_ino)
{
	struct dirent_target target;

	if (name[0] == '.' && !name[1]) {
		*ret_ino = scope->ino;
		return 0;
	}
	if (name[0] == '.' && name[1] == '.' && !name[2])
		return dirent_parent(scope->tree, scope->reader, scope->ino, ret_ino);
	int error =
		dirent_lookup(scope->tree, scope->reader, scope->ino, name, strlen(name), &target);
	if (!error)
		*ret_ino = target.ino;
	return error;
}

static void reply_negative(fuse_req_t request)
{
	const struct mount *mount = fuse_req_userdata(request);
	const struct fuse_entry_param entry = {.entry_timeout = mount->remembered};

	fuse_reply_entry(request, &entry);
}

/* -ENOENT: there is no such name. */
static int lookup(struct scope *scope, const char *name, uint64_t *ret_node, struct stat *ret)
{
	struct inode_attr attr;
	uint64_t ino;

	int error = lookup_target(scope, name, &ino);
	if (error)
		return error;
	error = scope_attributes(scope, ino, &attr);
	if (error == -ENOENT) /* a handle that outlived its file, or a name without an inode */
		return ino == scope->ino ? -ESTALE : -EUCLEAN;
	if (error)
		return error;
	if (ino == scope->ino && !attr.nlink) /* a handle, and the file is about to be deleted */
		return -ESTALE;
	*ret_node = scope_node(scope, ino);
	scope_stat(scope, ino, &attr, ret);
	/* Counted under the lock: a restore that comes now must know of it. */
	return node_count_lookup(scope->mount, *ret_node);
}

void op_lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
	struct mount *mount = fuse_req_userdata(request);
	struct scope scope;
	struct stat stat;
	uint64_t node = 0;

	if (name_is_reserved(parent, name))
		return points_lookup_root(mount, request);
	if (parent == NODE_VIEW)
		return points_lookup(mount, request, name);
	if (strlen(name) > NAME_MAX_BYTES)
		return (void)fuse_reply_err(request, ENAMETOOLONG);
	if (node_is_view(parent) && node_ino(parent) == ROOT_INO && !strcmp(name, ".."))
		return points_lookup_root(mount, request);
	int error = scope_enter(mount, parent, &scope);
	if (error)
		return reply_error(mount, request, parent, error);
	error = lookup(&scope, name, &node, &stat);
	scope_leave(&scope);
	if (error == -ENOENT)
		return reply_negative(request);
	if (error)
		return reply_error(mount, request, parent, error);
	reply_counted_entry(mount, request, node, &stat);
}

/* ---- forget ---- */

static void delete_forgotten(struct mount *mount, const struct fuse_forget_data *forgotten,
			     size_t count)
{
	struct reader *reader;

	head_lock(mount->head);
	if (!reader_acquire(mount->store, &reader)) {
		for (size_t i = 0; i < count; i++)
			unlinked_try_delete(mount, reader, node_ino(forgotten[i].ino));
		reader_release(reader);
	}
	head_unlock(mount->head);
}

static void forget(struct mount *mount, const struct fuse_forget_data *forgotten, size_t count)
{
	bool last = false;

	for (size_t i = 0; i < count; i++)
		last |= node_forget(mount, forgotten[i].ino, forgotten[i].nlookup);
	if (last && atomic_load_explicit(&mount->nodes.unlinked_count, memory_order_relaxed))
		delete_forgotten(mount, forgotten, count);
}

void op_forget(fuse_req_t request, fuse_ino_t node, uint64_t count)
{
	const struct fuse_forget_data forgotten = {.ino = node, .nlookup = count};

	forget(fuse_req_userdata(request), &forgotten, 1);
	fuse_reply_none(request);
}

void op_forget_multi(fuse_req_t request, size_t count, struct fuse_forget_data *forgotten)
{
	forget(fuse_req_userdata(request), forgotten, count);
	fuse_reply_none(request);
}

/* ---- unlink ---- */

void counters_of(const struct inode *inode, int sign, struct head_counters *ret)
{
	*ret = (struct head_counters){0};
	if (S_ISDIR(inode->attr.mode))
		ret->directories = sign;
	else
		ret->files = sign;
	if (S_ISREG(inode->attr.mode))
		ret->bytes = sign * (int64_t)inode->attr.size;
}

/* The caller has called unlinked_reserve(). */
void inode_drop_name(struct change *change, struct inode *inode)
{
	struct head_counters counters;

	inode->attr.ctime = change->now;
	inode->attr.nlink = S_ISDIR(inode->attr.mode) ? 0 : inode->attr.nlink - 1;
	inode_mark_attr_dirty(inode);
	if (inode->attr.nlink)
		return;
	counters_of(inode, -1, &counters);
	head_count(change->mount->head, &counters);
	unlinked_add(change->mount, inode);
}

int check_removable(struct change *change, uint64_t ino, uint32_t mode, bool directory)
{
	bool empty;

	if (S_ISDIR(mode) != directory)
		return directory ? -ENOTDIR : -EISDIR;
	if (!directory)
		return 0;
	int error = dirent_is_empty(change->tree, change->reader, ino, &empty);
	return error ? error : empty ? 0 : -ENOTEMPTY;
}

static int remove_name(struct change *change, const char *name, bool is_directory)
{
	struct dirent_target target;
	struct inode *directory, *inode;
	size_t length = strlen(name);

	int error = is_directory ? restore_check_name(change->mount, change->reader, change->ino,
						      name)
				 : 0;
	if (!error)
		error = dirent_lookup(change->tree, change->reader, change->ino, name, length,
				      &target);
	if (!error)
		error = change_load(change, change->ino, &directory);
	if (!error)
		error = change_load(change, target.ino, &inode);
	if (!error)
		error = check_removable(change, target.ino, inode->attr.mode, is_directory);
	if (!error)
		error = unlinked_reserve(change->mount);
	if (!error)
		error = dirent_remove(change->tree, change->reader, change->ino, name, length);
	if (error)
		return error;
	change_touch_directory(change, directory, is_directory ? -1 : 0);
	inode_drop_name(change, inode);
	return 0;
}

static void unlink_or_rmdir(fuse_req_t request, fuse_ino_t parent, const char *name,
			    bool is_directory)
{
	struct mount *mount = fuse_req_userdata(request);
	struct change change;

	int error = name_is_reserved(parent, name) ? -EROFS : change_begin(mount, parent, &change);
	if (!error) {
		error = remove_name(&change, name, is_directory);
		change_end(&change);
	}
	reply_error(mount, request, parent, error);
}

void op_unlink(fuse_req_t request, fuse_ino_t parent, const char *name)
{
	unlink_or_rmdir(request, parent, name, false);
}

void op_rmdir(fuse_req_t request, fuse_ino_t parent, const char *name)
{
	unlink_or_rmdir(request, parent, name, true);
}

/* ---- link ---- */

/* `nlink` 0 is a file made with O_TMPFILE, or one that is being brought back by its /proc link. */
static int add_name(struct change *change, struct inode *inode, const char *name)
{
	const struct dirent_target target = {.ino = inode->ino, .type = IFTODT(inode->attr.mode)};
	struct inode *directory;

	if (S_ISDIR(inode->attr.mode))
		return -EPERM;
	if (inode->attr.nlink >= LINK_MAX_COUNT)
		return -EMLINK;
	int error = change_load(change, change->ino, &directory);
	if (!error && !S_ISDIR(directory->attr.mode))
		error = -ENOTDIR;
	if (!error && !directory->attr.nlink)
		error = -ENOENT;
	if (!error)
		error = dirent_insert(change->tree, change->reader, change->ino, name, strlen(name),
				      &target);
	if (error)
		return error;
	if (inode->unlinked)
		error = unlinked_remove(change->mount, change->reader, inode);
	if (error) {
		(void)dirent_remove(change->tree, change->reader, change->ino, name, strlen(name));
		return error;
	}
	change_touch_directory(change, directory, 0);
	inode->attr.ctime = change->now;
	if (inode->attr.nlink++ == 0) {
		struct head_counters counters;
		counters_of(inode, 1, &counters);
		head_count(change->mount->head, &counters);
	}
	inode_mark_attr_dirty(inode);
	return 0;
}

void op_link(fuse_req_t request, fuse_ino_t node, fuse_ino_t parent, const char *name)
{
	struct mount *mount = fuse_req_userdata(request);
	struct change change;
	struct inode *inode;
	struct stat stat;

	int error =
		node_is_view(node) && !node_is_view(parent) ? -EXDEV : check_new_name(parent, name);
	if (!error)
		error = change_begin(mount, parent, &change);
	if (error)
		return reply_error(mount, request, parent, error);
	error = node_is_current(mount, node) ? change_load(&change, node_ino(node), &inode)
					     : -ESTALE;
	if (!error)
		error = add_name(&change, inode, name);
	if (!error) {
		inode_to_stat(inode, &stat);
		error = node_count_lookup(mount, node);
	}
	change_end(&change);
	if (error)
		return reply_error(mount, request, node, error);
	reply_counted_entry(mount, request, node, &stat);
}
