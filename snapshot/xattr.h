/*
 * Extended attributes.  Names up to 255 bytes, values up to 65536 as the kernel's limits are;
 * a value that does not fit its item (or is longer than 1024 bytes) is kept as a chunk.  The caller
 * keeps INODE_HAS_XATTRS and ctime.
 */
#ifndef CAIRN_SNAPSHOT_XATTR_H
#define CAIRN_SNAPSHOT_XATTR_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "snapshot/tree.h"

enum xattr_mode { XATTR_SET_ANY = 0, XATTR_SET_CREATE = 1, XATTR_SET_REPLACE = 2 };

/* Returns the length of the value; copies it where `capacity` suffices, -ERANGE where it is not
 * zero and does not.  -ENODATA. */
ssize_t xattr_get(struct tree *tree, struct reader *reader, uint64_t ino, const char *name,
		  void *buffer, size_t capacity);
/* -EEXIST, -ENODATA by mode; -E2BIG, -ERANGE (name), -ENOSPC (too many names of one hash). */
int xattr_set(struct tree *tree, struct reader *reader, uint64_t ino, const char *name,
	      const void *value, size_t length, enum xattr_mode mode);
int xattr_remove(struct tree *tree, struct reader *reader, uint64_t ino, const char *name);
/* Calls `visit` with each chunk that an XATTR item refers to; -EUCLEAN where it does not decode. */
int xattr_chunks(const struct tree_item *item, int (*visit)(uint64_t chunk, void *context),
		 void *context);
/* Names, each terminated, as listxattr(2) wants them; capacity as for xattr_get(). */
ssize_t xattr_list(struct tree *tree, struct reader *reader, uint64_t ino, char *buffer,
		   size_t capacity);

#endif
