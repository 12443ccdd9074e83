/* What is in a file: INLINE items, and reading through INLINE or EXTENT items. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "snapshot/extent_internal.h"
#include "snapshot/inode.h"

_Static_assert(INLINE_MAX <= SYMLINK_MAX, "one buffer of SYMLINK_MAX holds any inline contents");
_Static_assert((int)INLINE_PIECE <= (int)TREE_VALUE_MAX, "a piece fits an item");

/* Deletes the pieces at `from` and behind. */
static int delete_pieces(struct tree *tree, struct reader *reader, uint64_t ino, uint64_t from)
{
	const struct tree_key first = {ino, ITEM_INLINE, from};
	const struct tree_key last = {ino, ITEM_INLINE, UINT64_MAX};
	int64_t count = tree_delete_range(tree, reader, &first, &last);

	return count < 0 ? (int)count : 0;
}

int inline_put(struct tree *tree, struct reader *reader, uint64_t ino, const void *data,
	       size_t length)
{
	size_t at = 0;

	if (length > SYMLINK_MAX)
		return -EFBIG;
	while (at < length) {
		const struct tree_key key = {ino, ITEM_INLINE, at};
		size_t piece = length - at < INLINE_PIECE ? length - at : INLINE_PIECE;
		int error = tree_put(tree, reader, &key, (const uint8_t *)data + at, piece);

		if (error)
			return error;
		at += piece;
	}
	return delete_pieces(tree, reader, ino, at);
}

int inline_delete(struct tree *tree, struct reader *reader, uint64_t ino)
{
	return delete_pieces(tree, reader, ino, 0);
}

/* All pieces but the last are full; together they are no longer than SYMLINK_MAX. */
static bool is_next_piece(const struct tree_item *item, size_t length)
{
	return item->key.offset == length && length % INLINE_PIECE == 0 && item->length > 0 &&
	       item->length <= INLINE_PIECE && length + item->length <= SYMLINK_MAX;
}

int inline_get(struct tree *tree, struct reader *reader, uint64_t ino, void *buffer,
	       size_t capacity, size_t *ret_length)
{
	const struct tree_key key = {ino, ITEM_INLINE, 0};
	struct tree_cursor cursor;
	struct tree_item item;
	size_t length = 0;
	int error = tree_seek(tree, reader, &key, &cursor, &item);

	while (!error && item.key.ino == ino && item.key.type == ITEM_INLINE) {
		if (!is_next_piece(&item, length))
			return -EUCLEAN;
		if (item.length > capacity - length)
			return -ERANGE;
		memcpy((uint8_t *)buffer + length, item.value, item.length);
		length += item.length;
		error = tree_next(&cursor, &item);
	}
	if (error && error != -ENOENT)
		return error;
	*ret_length = length;
	return 0;
}

/* One call of file_read(): bytes from [offset, end) of the file go to `buffer`. */
struct reading {
	struct store *store;
	struct errbuf *err;
	uint64_t offset, end;
	uint8_t *buffer;
	uint8_t *scratch;	/* owned: CHUNK_MAX bytes, made when first needed */
	uint64_t scratch_chunk; /* what it holds; 0: nothing */
	size_t scratch_length;
};

static int read_inline(struct reading *reading, struct tree *tree, struct reader *reader,
		       uint64_t ino)
{
	uint8_t contents[SYMLINK_MAX];
	size_t wanted = (size_t)(reading->end - reading->offset);
	size_t length;
	size_t there = 0;
	int error = inline_get(tree, reader, ino, contents, sizeof(contents), &length);

	if (error)
		return error;
	if (reading->offset < length)
		there = length - (size_t)reading->offset;
	if (there > wanted)
		there = wanted;
	if (there > 0)
		memcpy(reading->buffer, contents + reading->offset, there);
	memset(reading->buffer + there, 0, wanted - there);
	return 0;
}

/* Has the chunk in the scratch buffer: of two extents around an overwritten page, one read. */
static int load_scratch(struct reading *reading, uint64_t chunk)
{
	int error;

	if (reading->scratch_chunk == chunk)
		return 0;
	if (!reading->scratch) {
		reading->scratch = malloc(CHUNK_MAX);
		if (!reading->scratch)
			return -ENOMEM;
	}
	reading->scratch_chunk = 0;
	error = chunk_read(reading->store, chunk, reading->scratch, CHUNK_MAX,
			   &reading->scratch_length, reading->err);
	if (!error)
		reading->scratch_chunk = chunk;
	return error;
}

static int wrong_length(struct reading *reading, uint64_t chunk)
{
	return err_set(reading->err, -EUCLEAN, "chunk %llu is shorter than an extent says",
		       (unsigned long long)chunk);
}

/* Reads [from, to) of the file, which lies inside the extent. */
static int read_extent(struct reading *reading, const struct extent *extent, uint64_t from,
		       uint64_t to)
{
	uint8_t *target = reading->buffer + (from - reading->offset);
	size_t wanted = (size_t)(to - from);
	size_t skip = (size_t)extent->chunk_offset + (size_t)(from - extent->offset);
	size_t length;
	int error;

	if (skip == 0 && wanted == extent->length && reading->scratch_chunk != extent->chunk) {
		/* Probably the whole chunk; if it is longer, -ERANGE costs a look-up. */
		error = chunk_read(reading->store, extent->chunk, target, wanted, &length,
				   reading->err);
		if (error != -ERANGE)
			return error || length == wanted ? error
							 : wrong_length(reading, extent->chunk);
	}
	error = load_scratch(reading, extent->chunk);
	if (error)
		return error;
	if (reading->scratch_length < skip + wanted)
		return wrong_length(reading, extent->chunk);
	memcpy(target, reading->scratch + skip, wanted);
	return 0;
}

static int read_extents(struct reading *reading, struct tree *tree, struct reader *reader,
			uint64_t ino)
{
	uint64_t position = reading->offset;
	struct tree_cursor cursor;
	struct extent extent;
	int found = extent_first(tree, reader, ino, position, &cursor, &extent);

	while (found > 0 && extent.offset < reading->end) {
		uint64_t from = extent.offset > position ? extent.offset : position;
		uint64_t to =
			extent_end(&extent) < reading->end ? extent_end(&extent) : reading->end;
		int error;

		memset(reading->buffer + (position - reading->offset), 0, from - position);
		error = read_extent(reading, &extent, from, to);
		if (error)
			return error;
		position = to;
		found = extent_next(&cursor, ino, &extent);
	}
	if (found < 0)
		return found;
	memset(reading->buffer + (position - reading->offset), 0, reading->end - position);
	return 0;
}

ssize_t file_read(struct tree *tree, struct reader *reader, uint64_t ino, uint64_t offset,
		  void *buffer, size_t length, struct errbuf *err)
{
	struct reading reading = {
		.store = tree_store(tree), .err = err, .offset = offset, .buffer = buffer};
	struct inode_attr attr;
	int error = inode_get(tree, reader, ino, &attr);

	if (error)
		return error;
	if (S_ISDIR(attr.mode))
		return -EISDIR;
	if (offset >= attr.size || length == 0)
		return 0;
	if (length > attr.size - offset)
		length = attr.size - offset;
	reading.end = offset + length;
	if (attr.flags & INODE_INLINE)
		error = read_inline(&reading, tree, reader, ino);
	else
		error = read_extents(&reading, tree, reader, ino);
	free(reading.scratch);
	return error ? error : (ssize_t)length;
}
