/* Comparing files without reading them, as far as that goes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "index/chunk.h"
#include "snapshot/diff_internal.h"
#include "snapshot/extent_internal.h"

/* The extents of one file, in step with those of the other. */
struct walk {
	const struct diff_file *file;
	struct tree_cursor cursor;
	struct extent extent;
	int found; /* 1: `extent` is one; 0: no more */
};

/* Goes on to the extent that ends after `position`; an error or 0. */
static int walk_to(struct walk *walk, uint64_t position)
{
	while (walk->found > 0 && extent_end(&walk->extent) <= position)
		walk->found = extent_next(&walk->cursor, walk->file->ino, &walk->extent);
	return walk->found < 0 ? walk->found : 0;
}

static int walk_start(struct walk *walk, const struct diff_file *file, struct reader *reader,
		      uint64_t position)
{
	walk->file = file;
	walk->found =
		extent_first(file->tree, reader, file->ino, position, &walk->cursor, &walk->extent);
	return walk->found < 0 ? walk->found : 0;
}

static bool walk_has(const struct walk *walk, uint64_t position)
{
	return walk->found > 0 && walk->extent.offset <= position;
}

/* Where what is at `position` (an extent or a hole) ends, at most `limit`. */
static uint64_t walk_border(const struct walk *walk, uint64_t position, uint64_t limit)
{
	uint64_t border;

	if (walk->found == 0)
		return limit;
	border = walk_has(walk, position) ? extent_end(&walk->extent) : walk->extent.offset;
	return border < limit ? border : limit;
}

/* Two chunks with the same bytes are rare (a collection that ran between): their hashes tell. */
static bool same_chunks(struct store *store, const struct extent *a, const struct extent *b)
{
	struct chunk_info a_info, b_info;

	if (a->offset != b->offset || a->length != b->length || a->chunk_offset != b->chunk_offset)
		return false;
	if (chunk_info(store, a->chunk, &a_info) || chunk_info(store, b->chunk, &b_info))
		return false;
	return a_info.raw_length == b_info.raw_length &&
	       memcmp(a_info.hash, b_info.hash, sizeof(a_info.hash)) == 0;
}

/* Both have an extent at `position`. */
static bool same_bytes(const struct walk *a, const struct walk *b, uint64_t position)
{
	const struct extent *x = &a->extent;
	const struct extent *y = &b->extent;

	if (x->chunk == y->chunk)
		return x->chunk_offset + (position - x->offset) ==
		       y->chunk_offset + (position - y->offset);
	return same_chunks(tree_store(a->file->tree), x, y);
}

static int compare_extents(const struct diff_file *old_file, const struct diff_file *new_file,
			   struct reader *reader, uint64_t from, uint64_t to)
{
	struct walk a, b;
	int error = walk_start(&a, old_file, reader, from);

	if (!error)
		error = walk_start(&b, new_file, reader, from);
	if (error)
		return error;
	while (from < to) {
		bool data = walk_has(&a, from);

		if (data != walk_has(&b, from) || (data && !same_bytes(&a, &b, from)))
			return 1;
		from = walk_border(&a, from, walk_border(&b, from, to));
		error = walk_to(&a, from);
		if (!error)
			error = walk_to(&b, from);
		if (error)
			return error;
	}
	return 0;
}

/* Small files, at least one of them inline: the bytes decide. */
static int compare_bytes(const struct diff_file *old_file, const struct diff_file *new_file,
			 struct reader *reader)
{
	size_t size = (size_t)new_file->attr.size;
	uint8_t *buffers;
	ssize_t a, b;
	int result;

	if (old_file->attr.size > SYMLINK_MAX)
		return 1;
	buffers = malloc(2 * SYMLINK_MAX);
	if (!buffers)
		return -ENOMEM;
	a = file_read(old_file->tree, reader, old_file->ino, 0, buffers, size, NULL);
	b = file_read(new_file->tree, reader, new_file->ino, 0, buffers + SYMLINK_MAX, size, NULL);
	if (a == -ENOMEM || b == -ENOMEM)
		result = -ENOMEM;
	else /* what cannot be read counts as different: damage is told by those who read */
		result = a != b || a < 0 || memcmp(buffers, buffers + SYMLINK_MAX, size) != 0;
	free(buffers);
	return result;
}

int diff_contents(const struct diff_file *old_file, const struct diff_file *new_file,
		  struct reader *reader, uint64_t from, uint64_t to)
{
	if (S_ISDIR(new_file->attr.mode))
		return 0;
	if (old_file->attr.size != new_file->attr.size)
		return 1;
	if (new_file->attr.size == 0)
		return 0;
	if ((old_file->attr.flags | new_file->attr.flags) & INODE_INLINE)
		return compare_bytes(old_file, new_file, reader);
	if (to > new_file->attr.size) /* preallocated space behind the end is not contents */
		to = new_file->attr.size;
	return compare_extents(old_file, new_file, reader, from, to);
}

struct xattr_walk {
	uint64_t ino;
	struct tree_cursor cursor;
	struct tree_item item;
	int found;
};

/* `error` is what tree_seek() or tree_next() said. */
static int xattr_settle(struct xattr_walk *walk, int error)
{
	if (error && error != -ENOENT)
		return error;
	walk->found =
		!error && walk->item.key.ino == walk->ino && walk->item.key.type == ITEM_XATTR;
	return 0;
}

static int xattr_start(struct xattr_walk *walk, const struct diff_file *file, struct reader *reader)
{
	const struct tree_key key = {file->ino, ITEM_XATTR, 0};

	walk->ino = file->ino;
	return xattr_settle(walk, tree_seek(file->tree, reader, &key, &walk->cursor, &walk->item));
}

int diff_xattrs(const struct diff_file *old_file, const struct diff_file *new_file,
		struct reader *reader)
{
	struct xattr_walk a, b;
	int error = xattr_start(&a, old_file, reader);

	if (!error)
		error = xattr_start(&b, new_file, reader);
	while (!error && a.found && b.found) {
		if (a.item.key.offset != b.item.key.offset || a.item.length != b.item.length ||
		    memcmp(a.item.value, b.item.value, a.item.length) != 0)
			return 1;
		error = xattr_settle(&a, tree_next(&a.cursor, &a.item));
		if (!error)
			error = xattr_settle(&b, tree_next(&b.cursor, &b.item));
	}
	return error ? error : a.found != b.found;
}
