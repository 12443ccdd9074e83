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

/*
 * Root, and who belongs to the group.  Asked for where it matters, which is rare, because
 * supplementary groups are read from /proc.
 */
static bool caller_keeps_group(fuse_req_t request, uint32_t gid)
{
	enum { GROUPS_MAX = 256 };
	const struct fuse_ctx *context = fuse_req_ctx(request);
	gid_t groups[GROUPS_MAX];

	if (context->uid == 0 || context->gid == gid)
		return true;
	int count = fuse_req_getgroups(request, GROUPS_MAX, groups);
	for (int i = 0; i < count && i < GROUPS_MAX; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

/* As the VFS does it: without group execution, set-group-ID means something else, and stays with
 * those who may set it. */
static void kill_set_ids(struct inode *inode, fuse_req_t by)
{
	uint32_t mode = inode->attr.mode;

	if (mode & S_ISGID && (mode & S_IXGRP || !caller_keeps_group(by, inode->attr.gid)))
		mode &= ~(uint32_t)S_ISGID;
	inode->attr.mode = mode & ~(uint32_t)S_ISUID;
}

/* An error leaves the attribute in place, where the next write tries again. */
void inode_kill_privileges(struct mount *mount, struct reader *reader, struct inode *inode,
			   fuse_req_t by)
{
	if (by)
		kill_set_ids(inode, by);
	if (inode->attr.flags & INODE_HAS_XATTRS)
		(void)xattr_remove(mount->tree, reader, inode->ino, "security.capability");
}

/* ---- getattr ---- */

void getattr_reply(struct mount *mount, fuse_req_t request, uint64_t node)
{
	struct inode_attr attr = {0};
	struct scope scope;
	struct stat stat;

	if (node == NODE_VIEW)
		return points_getattr(mount, request);
	int error = scope_enter(mount, node, &scope);
	if (!error) {
		error = scope_attributes(&scope, scope.ino, &attr);
		if (!error)
			scope_stat(&scope, scope.ino, &attr, &stat);
		scope_leave(&scope);
	}
	if (error == -ENOENT || error == -ESTALE) {
		error = node_gone_attributes(mount, node, &attr);
		attr_to_stat(node_ino(node), &attr, &stat);
	}
	if (error)
		return reply_error(mount, request, node, error);
	if (request_frame.statx)
		reply_statx(request, &stat, &attr.btime);
	else
		reply_attr(request, &stat);
}

/* stat(2) and statx(2) have no handle; it is write(2) that asks through one. */
void op_getattr(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *info)
{
	struct mount *mount = fuse_req_userdata(request);
	const struct handle *handle = info ? (struct handle *)(uintptr_t)info->fh : NULL;

	if (!handle || !handle->writes || request_frame.statx ||
	    !still_holds_question(mount, request, node))
		getattr_reply(mount, request, node);
}

/* ---- setattr ---- */

static int set_mode(struct change *change, struct inode *inode, uint32_t mode)
{
	inode->attr.mode = (inode->attr.mode & S_IFMT) | (mode & 07777);
	return acl_follow_mode(change, inode);
}

static void set_owner(struct change *change, fuse_req_t request, struct inode *inode,
		      const struct stat *stat, int set)
{
	if (!S_ISDIR(inode->attr.mode))
		inode_kill_privileges(change->mount, change->reader, inode,
				      set & FUSE_SET_ATTR_MODE ? NULL : request);
	if (set & FUSE_SET_ATTR_UID)
		inode->attr.uid = stat->st_uid;
	if (set & FUSE_SET_ATTR_GID)
		inode->attr.gid = stat->st_gid;
}

/*
 * chown(2) with -1 and -1 comes as nothing to set, or for a regular file as the ctime that the
 * kernel keeps.  It takes set-IDs away as any chown does, which here is a change of mode: the
 * owner's right.
 */
static bool sets_nothing(const struct inode *inode, int set)
{
	return set == (S_ISREG(inode->attr.mode) ? FUSE_SET_ATTR_CTIME : 0);
}

static int set_nothing(struct change *change, fuse_req_t request, struct inode *inode)
{
	const struct fuse_ctx *context = fuse_req_ctx(request);
	uint32_t before = inode->attr.mode;

	if (S_ISDIR(before))
		return 0;
	kill_set_ids(inode, request);
	if (inode->attr.mode != before && context->uid != 0 && context->uid != inode->attr.uid) {
		inode->attr.mode = before;
		return -EPERM;
	}
	inode_kill_privileges(change->mount, change->reader, inode, NULL);
	return 0;
}

/* `ret_touched`: the size changed, and with it the times. */
static int set_size(struct change *change, struct inode *inode, uint64_t size, fuse_req_t killer,
		    bool *ret_touched)
{
	uint64_t before = inode->attr.size;

	if (!S_ISREG(inode->attr.mode))
		return S_ISDIR(inode->attr.mode) ? -EISDIR : -EINVAL;
	int error = inode_resize(change, inode, size);
	if (error)
		return error;
	inode_kill_privileges(change->mount, change->reader, inode, killer);
	if (size != before)
		inode->attr.mtime = change->now;
	*ret_touched = size != before;
	return 0;
}

static struct sent_time *sent_time(struct mount *mount, const struct inode *inode)
{
	return &mount->sent[inode->ino % SENT_TIMES];
}

static void set_times(const struct change *change, struct inode *inode, const struct stat *stat,
		      int set)
{
	/* Also where it says "now": its own comes along, and goes with the times it keeps. */
	if (set & FUSE_SET_ATTR_ATIME)
		inode->attr.atime = inode_clamp_time(stat->st_atim);
	if (set & FUSE_SET_ATTR_MTIME)
		inode->attr.mtime = inode_clamp_time(stat->st_mtim);
	inode->attr.ctime = set & FUSE_SET_ATTR_CTIME ? stat->st_ctim : change->now;
	if (set & FUSE_SET_ATTR_CTIME)
		*sent_time(change->mount, inode) =
			(struct sent_time){inode->ino, time_nanoseconds(&stat->st_ctim)};
}

/* The size first: it alone can fail half way.  Truncating to the present size leaves the times
 * alone: so does the kernel, which believes its own times of regular files. */
static int set_attributes(struct change *change, fuse_req_t request, struct inode *inode,
			  const struct stat *stat, int set)
{
	const struct fuse_setattr_in *in = request_argument();
	bool touched = set != FUSE_SET_ATTR_SIZE;
	int error = 0;

	if (set & FUSE_SET_ATTR_SIZE) {
		bool resized;
		error = set_size(change, inode, (uint64_t)stat->st_size,
				 in->valid & FATTR_KILL_SUIDGID ? request : NULL, &resized);
		touched |= !error && resized;
	}
	if (!error && set & FUSE_SET_ATTR_MODE)
		error = set_mode(change, inode, stat->st_mode);
	if (!error && sets_nothing(inode, set))
		error = set_nothing(change, request, inode);
	if (error)
		return error;
	if (set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
		set_owner(change, request, inode, stat, set);
	if (touched)
		set_times(change, inode, stat, set);
	inode_mark_attr_dirty(inode);
	return 0;
}

/*
 * The kernel's own update of times (it keeps them for a while) has just this shape, and so has
 * utimensat(2).  What comes between a restore and the end of its clean-up with a ctime from before
 * is of the abandoned state.  And as the kernel sends its updates without the file's lock, one
 * may come behind a truncation that it took no notice of; that has sent a later ctime.  Head lock.
 */
static bool is_stale_update(struct mount *mount, const struct inode *inode, int set,
			    const struct stat *wanted)
{
	const int shape = FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_CTIME;
	const struct sent_time *sent = sent_time(mount, inode);
	int64_t time = time_nanoseconds(&wanted->st_ctim);
	struct timespec now;

	if (set != shape)
		return false;
	if (atomic_load_explicit(&mount->draining, memory_order_relaxed) &&
	    time < time_nanoseconds(&mount->switched))
		return true;
	if (sent->ino != inode->ino || time >= sent->ctime)
		return false;
	clock_gettime(CLOCK_REALTIME, &now);
	return sent->ctime <= time_nanoseconds(&now); /* else the clock was set back */
}

/* When the kernel sends times by itself it does not look at the answer. */
static void setattr_stat(struct inode *inode, int set, struct stat *ret)
{
	uint32_t told = atomic_load_explicit(&inode->told_blocks, memory_order_relaxed);

	inode_to_stat(inode, ret);
	if (set == (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_CTIME))
		atomic_store_explicit(&inode->told_blocks, told, memory_order_relaxed);
}

void op_setattr(fuse_req_t request, fuse_ino_t node, struct stat *wanted, int set,
		struct fuse_file_info *info)
{
	struct mount *mount = fuse_req_userdata(request);
	struct change change;
	struct inode *inode;
	struct stat stat;

	(void)info;
	if (set & FUSE_SET_ATTR_CTIME)
		time_hear(&wanted->st_ctim);
	int error = change_begin(mount, node, &change);
	if (error)
		return reply_error(mount, request, node, error);
	error = change_load(&change, change.ino, &inode);
	if (!error && !is_stale_update(mount, inode, set, wanted))
		error = set_attributes(&change, request, inode, wanted, set);
	if (!error)
		setattr_stat(inode, set, &stat);
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
	struct inode_attr attr;
	struct scope scope;
	size_t length;
	bool due = false;

	int error = scope_enter(mount, node, &scope);
	if (!error) {
		error = inline_get(scope.tree, scope.reader, scope.ino, target, SYMLINK_MAX,
				   &length);
		due = !error && !scope.view && !scope_attributes(&scope, scope.ino, &attr) &&
		      atime_is_due(mount, &attr);
		scope_leave(&scope);
	}
	if (error)
		return reply_error(mount, request, node, error);
	if (due)
		atime_note(mount, node);
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
