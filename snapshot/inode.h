/*
 * INODE items: the attributes of a file, and the root directory.
 *
 * The root directory of every workspace is inode ROOT_INO.  All other numbers come from
 * store_next(COUNTER_INODE) and are never used twice in a store (I2).
 */
#ifndef CAIRN_SNAPSHOT_INODE_H
#define CAIRN_SNAPSHOT_INODE_H

#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "snapshot/tree.h"

enum { ROOT_INO = 1 };

enum inode_flags {
	INODE_HAS_XATTRS = 1 << 0, /* may have XATTR items (saves a look-up where it has none) */
	INODE_INLINE = 1 << 1,	   /* contents (or link target) are INLINE items, not extents */
};

struct inode_attr {
	uint32_t mode; /* type and permissions, as st_mode */
	uint32_t nlink;
	uint32_t uid;
	uint32_t gid;
	uint32_t rdev;	/* makedev() in the kernel's 32-bit encoding */
	uint32_t flags; /* enum inode_flags */
	uint64_t size;
	uint64_t allocated; /* bytes behind extents and inline data: st_blocks * 512, rounded up */
	struct timespec atime, mtime, ctime, btime;
};

enum { INODE_ITEM_MAX = 68 }; /* on disk, at the longest; see index/FORMAT.md */

/* Returns the length.  Times outside of 1901 to 2446 are clamped. */
size_t inode_encode(const struct inode_attr *attr, uint8_t ret[INODE_ITEM_MAX]);
int inode_decode(const uint8_t *bytes, size_t length, struct inode_attr *ret); /* -EUCLEAN */

/* The nearest time that can be stored (as ext4: 1901-12-13 to 2446-05-10). */
struct timespec inode_clamp_time(struct timespec time);

int inode_get(struct tree *tree, struct reader *reader, uint64_t ino, struct inode_attr *ret);
int inode_put(struct tree *tree, struct reader *reader, uint64_t ino,
	      const struct inode_attr *attr);

/* Removes the inode with its extents, inline data and xattrs (not its names or backrefs:
 * those went with dirent_remove). */
int inode_delete(struct tree *tree, struct reader *reader, uint64_t ino);

/* Orphans: unlinked, still open.  They are deleted on last close, or at the next mount. */
int orphan_add(struct tree *tree, struct reader *reader, uint64_t ino);
int orphan_remove(struct tree *tree, struct reader *reader, uint64_t ino); /* -ENOENT */
/* The first orphan with a number above `after`; -ENOENT where there is none. */
int orphan_next(struct tree *tree, struct reader *reader, uint64_t after, uint64_t *ret_ino);

#endif
