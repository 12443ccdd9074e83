/*
 * Access times, as relatime has it: reading moves one that is not later than the other times, or
 * a day old.
 *
 * What the kernel answers from its caches we do not hear of, so opening for reading counts as
 * reading; so do READ, READDIR and READLINK.
 *
 * An access time alone makes nothing dirty (as with lazytime): it waits in the hot inode for the
 * next change of the file, for the end of the mount, or until there are many.  Otherwise reading a
 * tree would be a change of the workspace, to be frozen and kept.
 */
#include <errno.h>

#include "fs/mount_internal.h"

enum { DAY = 24 * 60 * 60, WAITING_MAX = 16384 };

static bool is_later(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec > b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec > b->tv_nsec);
}

bool atime_is_due(const struct mount *mount, const struct inode_attr *attr)
{
	if (!mount->keeps_atime)
		return false;
	if (!is_later(&attr->atime, &attr->mtime) || !is_later(&attr->atime, &attr->ctime))
		return true;
	return time_now().tv_sec - attr->atime.tv_sec >= DAY;
}

void atimes_settle(struct mount *mount)
{
	size_t position = 0;
	struct u64map_entry *entry;

	while (mount->atimes_waiting && (entry = u64map_next(&mount->inodes.by_ino, &position))) {
		struct inode *inode = entry->value;
		if (inode->atime_waits)
			inode_mark_attr_dirty(inode);
	}
	mount->atimes_waiting = 0;
}

bool atime_touch(struct mount *mount, struct inode *inode)
{
	const struct timespec now = time_now();

	/* In the future it is no use to anybody, and never moved back. */
	if (inode->gone || !atime_is_due(mount, &inode->attr) ||
	    !is_later(&now, &inode->attr.atime))
		return false;
	inode->attr.atime = now;
	if (inode->attr_dirty || inode->atime_waits)
		return true;
	inode->atime_waits = true;
	if (++mount->atimes_waiting >= WAITING_MAX)
		atimes_settle(mount);
	return true;
}

void atime_note(struct mount *mount, uint64_t node)
{
	struct change change;
	struct inode *inode;

	if (change_begin(mount, node, &change))
		return;
	if (!change_load(&change, change.ino, &inode))
		(void)atime_touch(mount, inode);
	change_end(&change);
}
