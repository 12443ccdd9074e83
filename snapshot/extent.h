/*
 * Contents of files: EXTENT items (pieces of chunks) or, for the smallest, INLINE items.
 *
 * Extents of a file never overlap; what lies between them is a hole.  None is longer than
 * CHUNK_MAX.  Functions here keep neither size nor `allocated` of the inode: they return how the
 * sum of extent lengths changed, and the caller (fs/ or restore) keeps the attributes.
 */
#ifndef CAIRN_SNAPSHOT_EXTENT_H
#define CAIRN_SNAPSHOT_EXTENT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "index/chunk.h"
#include "snapshot/tree.h"

/*
 * A file is kept inline while its size is at most INLINE_MAX; pieces of INLINE_PIECE bytes each.
 * Inline contents are not deduplicated: each copy of the file has its own, while an extent costs 37
 * bytes a copy and its chunk about 150 once.  Measured with 75,000 files of /usr, a second copy
 * of which took 84 MB with a limit of 2048, 30 MB with 512 and 28 MB with 256.
 */
enum { INLINE_MAX = 256, INLINE_PIECE = 1024, SYMLINK_MAX = 4095 };

struct extent {
	uint64_t offset; /* in the file */
	uint64_t chunk;	 /* id */
	uint32_t chunk_offset;
	uint32_t length;
};

/* Decodes an EXTENT item; -EUCLEAN. */
int extent_decode(const struct tree_item *item, struct extent *ret);

/* Finds up to `capacity` extents that intersect [offset, offset + length), in order, whole (not
 * clipped). Returns how many, or an error. */
int extent_map(struct tree *tree, struct reader *reader, uint64_t ino, uint64_t offset,
	       uint64_t length, struct extent *ret, int capacity);

/* Makes [offset, offset + length) consist of `pieces` (sorted, inside the range, not overlapping:
 * -EINVAL; what they leave out becomes a hole).  Extents that straddle the borders are cut; a first
 * piece that continues the extent to its left in the same chunk is joined to it.
 * Where it fails, everything outside the range is as it was, and the range holds some of the
 * old, some of the new and some holes: the caller still has the new data, and tries again. */
int extent_replace(struct tree *tree, struct reader *reader, uint64_t ino, uint64_t offset,
		   uint64_t length, const struct extent *pieces, int count, int64_t *ret_allocated);

/* The first byte at or after `offset` that lies in an extent (`ret_offset`); -ENXIO if none. */
int extent_seek_data(struct tree *tree, struct reader *reader, uint64_t ino, uint64_t offset,
		     uint64_t *ret_offset);
/* The first byte at or after `offset` that lies in none. */
int extent_seek_hole(struct tree *tree, struct reader *reader, uint64_t ino, uint64_t offset,
		     uint64_t *ret_offset);

/* Inline contents: whole file at once.  `length` up to SYMLINK_MAX (-EFBIG).  Replaces what was
 * there; where it fails on the way, pieces of both may be left: try again. */
int inline_put(struct tree *tree, struct reader *reader, uint64_t ino, const void *data,
	       size_t length);
/* Copies the contents; -ERANGE where `capacity` is too small, -EUCLEAN where a piece is missing.
 * Without INLINE items the length is 0. */
int inline_get(struct tree *tree, struct reader *reader, uint64_t ino, void *buffer,
	       size_t capacity, size_t *ret_length);
int inline_delete(struct tree *tree, struct reader *reader, uint64_t ino);

/* Reads contents through the tree alone, holes as zeros (what fs/ holds in memory is not seen).
 * Returns the bytes read, fewer than `length` only at the end of the file, or an error: -EISDIR,
 * -ESTALE (the tree has moved on: look up again), and what chunk_read() returns. */
ssize_t file_read(struct tree *tree, struct reader *reader, uint64_t ino, uint64_t offset,
		  void *buffer, size_t length, struct errbuf *err);

#endif
