/* What the operations on names share (internal to fs/ops_*.c). */
#ifndef CAIRN_FS_OPS_NAME_INTERNAL_H
#define CAIRN_FS_OPS_NAME_INTERNAL_H

#include "fs/mount_internal.h"

/* What an inode adds to (or with `sign` -1 takes from) the head's counters. */
void counters_of(const struct inode *inode, int sign, struct head_counters *ret);
/* One link less, after the name is gone; needs unlinked_reserve() before. */
void inode_drop_name(struct change *change, struct inode *inode);
/* The file that RENAME_WHITEOUT leaves behind in `directory`: a character device 0:0 with one link,
 * for which the caller inserts the name. */
int whiteout_make(struct change *change, const struct inode *directory, uint32_t uid, uint32_t gid,
		  uint64_t *ret_ino);
/* -EISDIR, -ENOTDIR, -ENOTEMPTY */
int check_removable(struct change *change, uint64_t ino, uint32_t mode, bool directory);

#endif
