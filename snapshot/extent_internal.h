/* Walking the extents of one file with a cursor. */
#ifndef CAIRN_SNAPSHOT_EXTENT_INTERNAL_H
#define CAIRN_SNAPSHOT_EXTENT_INTERNAL_H

#include "snapshot/extent.h"

static inline uint64_t extent_end(const struct extent *extent)
{
	return extent->offset + extent->length;
}

/* Goes to the first extent that ends after `offset`.  1: found; 0: there is none. */
int extent_first(struct tree *tree, struct reader *reader, uint64_t ino, uint64_t offset,
		 struct tree_cursor *ret_cursor, struct extent *ret);
/* 1: the next one of this file; 0: no more. */
int extent_next(struct tree_cursor *cursor, uint64_t ino, struct extent *ret);

#endif
