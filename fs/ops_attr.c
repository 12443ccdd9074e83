/* Attributes: getattr, setattr, readlink, statfs; sizes and privileges of files. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "fs/mount_internal.h"
#include "snapshot/extent.h"

/* ---- helpers for writes and truncation ---- */

void inode_grow(struct mount *mount, struct inode *inode, uint64_t size)
{
	if (size <= inode->attr.size)
		return;
	if (inode->attr.nlink) {
		const struct head_counters counters = {.bytes = (int64_t)(size - inode->attr.size)};
		head_count(mount->head, &counters);
	}
	inode->attr.size = size;
}

int inode_resize(struct change *change, struct inode *inode, uint64_t size)
{
	struct mount *mount = change->mount;

	if (size > INT64_MAX)
		return -EFBIG;
	int error = data_truncate(mount->engine, inode, change->reader, size);
	if (error)
		return error;
	if (size >= inode->attr.size) {
		inode_grow(mount, inode, size);
		return 0;
	}
	if (inode->attr.nlink) {
		const struct head_counters counters = {.bytes = (int64_t)size -
								(int64_t)inode->attr.size};
		head_count(mount->head, &counters);
	}
	inode->attr.size = size;
	return 0;
}

/* As the VFS does it: the set-group-ID bit means something else without group execution. */
static uint32_t without_set_ids(uint32_t mode)
{
	return mode & ~(uint32_t)(mode & S_IXGRP ? S_ISUID | S_ISGID : S_ISUID);
}

/* An error leaves the attribute in place, where the next write tries again. */
void inode_kill_privileges(struct mount *mount, struct reader *reader, struct inode *inode,
			   bool set_ids)
{
	if (set_ids)
		inode->attr.mode = without_set_ids(inode->attr.mode);
	if (inode->attr.flags & INODE_HAS_XATTRS)
		(void)xattr_remove(mount->tree, reader, inode->ino, "security.capability");
}

/* ---- getattr ---- */

void op_getattr(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *info)
{
	struct mount *mount = fuse_req_userdata(request);
	struct inode_attr attr;
	struct scope scope;
	struct stat stat;

	(void)info;
	if (node == NODE_VIEW)
		return points_getattr(mount, request);
	int error = scope_enter(mount, node, &scope);
	if (!error) {
		error = scope_attributes(&scope, scope.ino, &attr);
		if (!error)
			scope_stat(&scope, scope.ino, &attr, &stat);
		scope_leave(&scope);
	}
	if (error)
		return reply_error(mount, request, node, error == -ENOENT ? -ESTALE : error);
	reply_attr(request, &stat);
}

/* ---- setattr ---- */

static int set_mode(struct change *change, struct inode *inode, uint32_t mode)
{
	inode->attr.mode = (inode->attr.mode & S_IFMT) | (mode & 07777);
	return acl_follow_mode(change, inode);
}

static void set_owner(struct change *change, struct inode *inode, const struct stat *stat, int set)
{
	if (set & FUSE_SET_ATTR_UID)
		inode->attr.uid = stat->st_uid;
	if (set & FUSE_SET_ATTR_GID)
		inode->attr.gid = stat->st_gid;
	if (!S_ISDIR(inode->attr.mode))
		inode_kill_privileges(change->mount, change->reader, inode,
				      !(set & FUSE_SET_ATTR_MODE));
}

/* `ret_touched`: the size changed, and with it the times. */
static int set_size(struct change *change, struct inode *inode, uint64_t size, bool kill,
		    bool *ret_touched)
{
	uint64_t before = inode->attr.size;

	if (!S_ISREG(inode->attr.mode))
		return S_ISDIR(inode->attr.mode) ? -EISDIR : -EINVAL;
	int error = inode_resize(change, inode, size);
	if (error)
		return error;
	inode_kill_privileges(change->mount, change->reader, inode, kill);
	if (size != before)
		inode->attr.mtime = change->now;
	*ret_touched = size != before;
	return 0;
}

static void set_times(const struct change *change, struct inode *inode, const struct stat *stat,
		      int set)
{
	if (set & FUSE_SET_ATTR_ATIME_NOW)
		inode->attr.atime = change->now;
	else if (set & FUSE_SET_ATTR_ATIME)
		inode->attr.atime = inode_clamp_time(stat->st_atim);
	if (set & FUSE_SET_ATTR_MTIME_NOW)
		inode->attr.mtime = change->now;
	else if (set & FUSE_SET_ATTR_MTIME)
		inode->attr.mtime = inode_clamp_time(stat->st_mtim);
	inode->attr.ctime = set & FUSE_SET_ATTR_CTIME ? stat->st_ctim : change->now;
}

/* The size first: it alone can fail half way.  Truncating to the present size leaves the times
 * alone: so does the kernel, which believes its own times of regular files. */
static int set_attributes(struct change *change, struct inode *inode, const struct stat *stat,
			  int set, bool kill)
{
	bool touched = set & ~FUSE_SET_ATTR_SIZE;
	int error = 0;

	if (set & FUSE_SET_ATTR_SIZE) {
		bool resized;
		error = set_size(change, inode, (uint64_t)stat->st_size, kill, &resized);
		touched |= !error && resized;
	}
	if (!error && set & FUSE_SET_ATTR_MODE)
		error = set_mode(change, inode, stat->st_mode);
	if (error)
		return error;
	if (set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
		set_owner(change, inode, stat, set);
	if (touched)
		set_times(change, inode, stat, set);
	inode_mark_attr_dirty(inode);
	return 0;
}

/*
 * The kernel's own update of times (it keeps them for a while) has just this shape.  What it sends
 * between a restore and the end of its clean-up dates from before.
 */
static bool is_stale_update(struct mount *mount, int set)
{
	const int shape = FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_CTIME;

	return set == shape && atomic_load_explicit(&mount->draining, memory_order_relaxed);
}

void op_setattr(fuse_req_t request, fuse_ino_t node, struct stat *wanted, int set,
		struct fuse_file_info *info)
{
	struct mount *mount = fuse_req_userdata(request);
	const struct fuse_setattr_in *in = request_argument();
	struct change change;
	struct inode *inode;
	struct stat stat;

	if (is_stale_update(mount, set))
		return op_getattr(request, node, info);
	int error = change_begin(mount, node, &change);
	if (error)
		return reply_error(mount, request, node, error);
	error = change_load(&change, change.ino, &inode);
	if (!error)
		error = set_attributes(&change, inode, wanted, set, in->valid & FATTR_KILL_SUIDGID);
	if (!error)
		inode_to_stat(inode, &stat);
	change_end(&change);
	if (error)
		return reply_error(mount, request, node, error == -ENOENT ? -ESTALE : error);
	reply_attr(request, &stat);
}

/* ---- the rest ---- */

void op_readlink(fuse_req_t request, fuse_ino_t node)
{
	struct mount *mount = fuse_req_userdata(request);
	char target[SYMLINK_MAX + 1];
	struct scope scope;
	size_t length;

	int error = scope_enter(mount, node, &scope);
	if (!error) {
		error = inline_get(scope.tree, scope.reader, scope.ino, target, SYMLINK_MAX,
				   &length);
		scope_leave(&scope);
	}
	if (error)
		return reply_error(mount, request, node, error);
	target[length] = 0;
	fuse_reply_readlink(request, target);
}

/* The store shares its file system's space with everybody on it. */
void op_statfs(fuse_req_t request, fuse_ino_t node)
{
	struct mount *mount = fuse_req_userdata(request);
	struct statvfs below;

	(void)node;
	if (statvfs(store_directory(mount->store), &below))
		return (void)fuse_reply_err(request, errno);
	uint64_t unit = below.f_frsize ? below.f_frsize : 4096;
	const struct statvfs reply = {
		.f_bsize = 4096,
		.f_frsize = 4096,
		.f_blocks = below.f_blocks * unit / 4096,
		.f_bfree = below.f_bfree * unit / 4096,
		.f_bavail = below.f_bavail * unit / 4096,
		.f_files = below.f_files,
		.f_ffree = below.f_ffree,
		.f_favail = below.f_favail,
		.f_namemax = NAME_MAX_BYTES,
	};
	fuse_reply_statfs(request, &reply);
}
