/* Where a request reads, what it may change, and how it is answered. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "fs/mount_internal.h"
#include "snapshot/path.h"

/* ---- reading ---- */

static int scope_enter_view(struct mount *mount, uint64_t node, struct scope *ret)
{
	int error = view_open(mount, node_epoch(node), &ret->view);
	if (error)
		return error;
	error = reader_acquire(mount->store, &ret->reader);
	if (error) {
		view_close(mount, ret->view);
		return error;
	}
	ret->tree = ret->view->tree;
	return 0;
}

int scope_enter(struct mount *mount, uint64_t node, struct scope *ret)
{
	ret->mount = mount;
	ret->ino = node_ino(node);
	if (node_is_view(node))
		return scope_enter_view(mount, node, ret);
	ret->view = NULL;
	ret->tree = mount->tree;
	head_lock_shared(mount->head);
	int error = node_is_current(mount, node) ? 0 : -ESTALE;
	if (!error)
		error = reader_acquire(mount->store, &ret->reader);
	if (error)
		head_unlock(mount->head);
	return error;
}

void scope_leave(struct scope *scope)
{
	reader_release(scope->reader);
	if (scope->view)
		view_close(scope->mount, scope->view);
	else
		head_unlock(scope->mount->head);
}

int scope_attributes(struct scope *scope, uint64_t ino, struct inode_attr *ret)
{
	if (scope->view)
		return inode_get(scope->tree, scope->reader, ino, ret);
	const struct inode *inode = inode_find(&scope->mount->inodes, ino);
	if (inode && inode->gone)
		return -ESTALE;
	return inode_attributes(&scope->mount->inodes, scope->reader, ino, ret);
}

uint64_t scope_node(const struct scope *scope, uint64_t ino)
{
	if (scope->view)
		return NODE_VIEW | scope->view->point << NODE_INO_BITS | ino;
	return node_of(scope->mount, ino);
}

/* Numbers in a point never equal those of the live files: cp and tar compare them. */
void scope_stat(const struct scope *scope, uint64_t ino, const struct inode_attr *attr,
		struct stat *ret)
{
	struct inode *inode = scope->view ? NULL : inode_find(&scope->mount->inodes, ino);

	if (inode)
		inode_to_stat(inode, ret);
	else
		attr_to_stat(scope->view ? scope_node(scope, ino) : ino, attr, ret);
}

/* ---- changing ---- */

/*
 * The clock that the kernel stamps files with.  It moves in ticks, but since Linux 6.13 a file
 * system that wants finer times moves it for all of them, which cannot be asked for: so we hold on
 * to the latest time that the kernel has sent.  If we fell behind it, what we stamp would differ
 * from what the kernel keeps: where the tick is still the same it sees nothing to send.
 */
static _Atomic int64_t time_heard; /* nanoseconds */

int64_t time_nanoseconds(const struct timespec *time)
{
	const int64_t second = 1000000000;

	if (time->tv_sec < 0)
		return 0;
	return time->tv_sec < INT64_MAX / second ? time->tv_sec * second + time->tv_nsec
						 : INT64_MAX;
}

void time_hear(const struct timespec *time)
{
	int64_t before = atomic_load_explicit(&time_heard, memory_order_relaxed);

	int64_t sent = time_nanoseconds(time);
	while (sent > before &&
	       !atomic_compare_exchange_weak_explicit(&time_heard, &before, sent,
						      memory_order_relaxed, memory_order_relaxed))
		;
}

struct timespec time_now(void)
{
	int64_t heard = atomic_load_explicit(&time_heard, memory_order_relaxed);
	struct timespec now, fine;

	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	if (heard <= time_nanoseconds(&now))
		return now;
	clock_gettime(CLOCK_REALTIME, &fine);
	if (heard > time_nanoseconds(&fine)) /* the clock was set back */
		return now;
	return (struct timespec){.tv_sec = heard / 1000000000, .tv_nsec = heard % 1000000000};
}

int change_begin(struct mount *mount, uint64_t node, struct change *ret)
{
	if (node_is_view(node)) /* where the mount is read-only, the kernel refuses by itself */
		return -EROFS;
	head_lock(mount->head);
	int error = node_is_current(mount, node) ? 0 : -ESTALE;
	if (!error)
		error = reader_acquire(mount->store, &ret->reader);
	if (error) {
		head_unlock(mount->head);
		return error;
	}
	ret->mount = mount;
	ret->tree = mount->tree;
	ret->ino = node_ino(node);
	ret->now = time_now();
	return 0;
}

void change_end(struct change *change)
{
	reader_release(change->reader);
	head_unlock(change->mount->head);
}

int change_load(struct change *change, uint64_t ino, struct inode **ret)
{
	int error = inode_load(&change->mount->inodes, change->reader, ino, ret);

	return !error && (*ret)->gone ? -ESTALE : error;
}

void change_touch_directory(struct change *change, struct inode *directory, int links)
{
	directory->attr.nlink += (uint32_t)links;
	directory->attr.mtime = directory->attr.ctime = change->now;
	inode_mark_attr_dirty(directory);
}

/* ---- attributes ---- */

void attr_to_stat(uint64_t st_ino, const struct inode_attr *attr, struct stat *ret)
{
	bool directory = S_ISDIR(attr->mode);

	*ret = (struct stat){
		.st_ino = st_ino,
		.st_mode = attr->mode,
		.st_nlink = attr->nlink,
		.st_uid = attr->uid,
		.st_gid = attr->gid,
		.st_rdev = attr->rdev,
		.st_size = directory ? 4096 : (off_t)attr->size,
		.st_blksize = 4096,
		.st_blocks = directory ? 8 : (blkcnt_t)((attr->allocated + 511) / 512),
		.st_atim = attr->atime,
		.st_mtim = attr->mtime,
		.st_ctim = attr->ctime,
	};
}

/*
 * What is not yet in extents counts as well, and so does what the kernel may hold of a file that is
 * open for writing: with st_blocks 0, tar and cp would take it for a single hole.
 */
static uint64_t inode_blocks(const struct inode *inode)
{
	uint64_t blocks = (data_allocated(inode) + 511) / 512;

	return !blocks && inode->writers ? 4096 / 512 : blocks;
}

static void note_told(struct inode *inode, uint64_t blocks)
{
	if (blocks >= BLOCKS_MIXED)
		return;
	uint32_t before = atomic_exchange_explicit(&inode->told_blocks, (uint32_t)blocks,
						   memory_order_relaxed);
	if (before != BLOCKS_UNTOLD && before != blocks)
		atomic_fetch_or_explicit(&inode->told_blocks, BLOCKS_MIXED, memory_order_relaxed);
}

void inode_to_stat(struct inode *inode, struct stat *ret)
{
	attr_to_stat(inode->ino, &inode->attr, ret);
	if (S_ISREG(inode->attr.mode))
		ret->st_blocks = (blkcnt_t)inode_blocks(inode);
	note_told(inode, (uint64_t)ret->st_blocks);
}

bool inode_is_told_wrong(struct inode *inode)
{
	uint64_t told = atomic_load_explicit(&inode->told_blocks, memory_order_relaxed);

	if (told == BLOCKS_UNTOLD)
		return false;
	if (!S_ISREG(inode->attr.mode))
		return S_ISDIR(inode->attr.mode);
	uint64_t now = inode_blocks(inode);
	if (!inode->writers)
		return told != now;
	told &= ~(uint64_t)BLOCKS_MIXED;
	return (told < now ? now - told : told - now) > told / 32;
}

/* ---- replies ---- */

int fs_errno(int error)
{
	switch (error) {
	case -EBADMSG:
	case -EUCLEAN:
		return EIO;
	default:
		return -error;
	}
}

static char *path_for_message(struct mount *mount, uint64_t node)
{
	struct scope scope;
	char *path;

	if (scope_enter(mount, node, &scope))
		return NULL;
	if (path_of_inode(scope.tree, scope.reader, scope.ino, &path))
		path = NULL;
	scope_leave(&scope);
	return path;
}

void log_damage(struct mount *mount, uint64_t node, uint64_t offset, const struct errbuf *err)
{
	char *path = path_for_message(mount, node);

	log_line(LOG_LEVEL_ERROR,
		 "workspace %s: damaged data in '%s%s' (inode %llu) at offset %llu: %s",
		 mount->workspace, node_is_view(node) ? POINTS_NAME "/…/" : "",
		 path ? path : "(no path)", (unsigned long long)node_ino(node),
		 (unsigned long long)offset,
		 err && err->text[0] ? err->text : "a checksum does not match");
	free(path);
}

void reply_error(struct mount *mount, fuse_req_t request, uint64_t node, int error)
{
	if (error == -EBADMSG || error == -EUCLEAN)
		log_line(LOG_LEVEL_ERROR,
			 "workspace %s: damaged index met at inode %llu: %s; run 'cairn check'",
			 mount->workspace, (unsigned long long)node_ino(node),
			 error == -EBADMSG ? "a checksum does not match"
					   : "an impossible structure");
	fuse_reply_err(request, fs_errno(error));
}

/* While writers hold still the kernel must not come to know attributes (coherence.c). */
static double attributes_remembered(const struct mount *mount)
{
	return atomic_load(&mount->still) ? 0 : mount->remembered;
}

void reply_attr(fuse_req_t request, const struct stat *stat)
{
	const struct mount *mount = fuse_req_userdata(request);

	fuse_reply_attr(request, stat, attributes_remembered(mount));
}

/* What the kernel expects for STATX (protocol 7.39), which is younger than our libfuse. */
struct statx_reply {
	uint64_t valid; /* seconds */
	uint32_t valid_nanoseconds;
	uint32_t flags;
	uint64_t spare[2];
	struct statx stat;
};

_Static_assert(sizeof(struct statx_reply) == 288, "as the kernel has it");

static struct statx_timestamp statx_time(const struct timespec *time)
{
	return (struct statx_timestamp){.tv_sec = time->tv_sec, .tv_nsec = (uint32_t)time->tv_nsec};
}

static struct statx statx_of(const struct stat *stat)
{
	return (struct statx){
		.stx_mask = STATX_BASIC_STATS,
		.stx_blksize = (uint32_t)stat->st_blksize,
		.stx_nlink = (uint32_t)stat->st_nlink,
		.stx_uid = stat->st_uid,
		.stx_gid = stat->st_gid,
		.stx_mode = (uint16_t)stat->st_mode,
		.stx_ino = stat->st_ino,
		.stx_size = (uint64_t)stat->st_size,
		.stx_blocks = (uint64_t)stat->st_blocks,
		.stx_atime = statx_time(&stat->st_atim),
		.stx_ctime = statx_time(&stat->st_ctim),
		.stx_mtime = statx_time(&stat->st_mtim),
		.stx_rdev_major = major(stat->st_rdev),
		.stx_rdev_minor = minor(stat->st_rdev),
	};
}

void reply_statx(fuse_req_t request, const struct stat *stat, const struct timespec *born)
{
	const struct mount *mount = fuse_req_userdata(request);
	struct statx_reply reply = {
		.valid = (uint64_t)attributes_remembered(mount),
		.stat = statx_of(stat),
	};

	if (born) {
		reply.stat.stx_mask |= STATX_BTIME;
		reply.stat.stx_btime = statx_time(born);
	}
	fuse_reply_buf(request, (const char *)&reply, sizeof(reply));
}

void entry_fill(const struct mount *mount, uint64_t node, const struct stat *stat,
		struct fuse_entry_param *ret)
{
	*ret = (struct fuse_entry_param){
		.ino = node,
		.attr = *stat,
		.attr_timeout = attributes_remembered(mount),
		.entry_timeout = mount->remembered,
	};
}

void reply_counted_entry(struct mount *mount, fuse_req_t request, uint64_t node,
			 const struct stat *stat)
{
	struct fuse_entry_param entry;

	entry_fill(mount, node, stat, &entry);
	if (fuse_reply_entry(request, &entry) == -ENOENT)
		node_forget(mount, node, 1);
}
