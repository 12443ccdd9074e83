/*
 * EXTENT items.
 *
 * extent_replace() looks once at what lies in the range and to its left, then changes as few
 * items as it can, in an order in which extents never overlap and nothing outside the range is
 * ever missing, so that a failure in the middle loses nothing that the caller does not hold:
 *
 *   1. an extent that reaches beyond the range: its rest becomes an item of its own
 *   2. an extent that begins before the range: is shortened
 *   3. extents that begin inside are deleted, unless a piece takes their key
 *   4. the pieces are put
 *
 * An append is one look and one put; a database page rewritten in place too.
 */
#include "snapshot/extent.h"

#include <errno.h>

#include "index/util/bytes.h"
#include "snapshot/extent_internal.h"

/* (ino, EXTENT, file offset): index/FORMAT.md, "EXTENT". */
enum {
	AT_CHUNK = 0,
	AT_CHUNK_OFFSET = 8,
	AT_LENGTH = 12,
	EXTENT_ITEM_SIZE = 16,
};

_Static_assert(AT_LENGTH + 4 == EXTENT_ITEM_SIZE, "EXTENT items are 16 bytes");

static bool is_possible(const struct extent *extent)
{
	return extent->chunk != 0 && extent->length > 0 && extent->length <= CHUNK_MAX &&
	       extent->chunk_offset <= CHUNK_MAX - extent->length &&
	       extent->offset <= (uint64_t)INT64_MAX - extent->length;
}

int extent_decode(const struct tree_item *item, struct extent *ret)
{
	struct extent extent;

	if (item->length != EXTENT_ITEM_SIZE)
		return -EUCLEAN;
	extent.offset = item->key.offset;
	extent.chunk = get_le64(item->value + AT_CHUNK);
	extent.chunk_offset = get_le32(item->value + AT_CHUNK_OFFSET);
	extent.length = get_le32(item->value + AT_LENGTH);
	if (!is_possible(&extent))
		return -EUCLEAN;
	*ret = extent;
	return 0;
}

/* 1: the item is an extent of this file; 0: something else. */
static int decode_if_ours(const struct tree_item *item, uint64_t ino, struct extent *ret)
{
	int error;

	if (item->key.ino != ino || item->key.type != ITEM_EXTENT)
		return 0;
	error = extent_decode(item, ret);
	return error ? error : 1;
}

int extent_next(struct tree_cursor *cursor, uint64_t ino, struct extent *ret)
{
	struct tree_item item;
	int error = tree_next(cursor, &item);

	if (error)
		return error == -ENOENT ? 0 : error;
	return decode_if_ours(&item, ino, ret);
}

/* Goes to the last extent that begins at or before `offset`, else to the first after it. */
static int extent_around(struct tree *tree, struct reader *reader, uint64_t ino, uint64_t offset,
			 struct tree_cursor *ret_cursor, struct extent *ret)
{
	const struct tree_key key = {ino, ITEM_EXTENT, offset};
	struct tree_item item;
	int found = tree_seek_before(tree, reader, &key, ret_cursor, &item);

	if (found == -ENOENT) {
		found = tree_seek(tree, reader, &key, ret_cursor, &item);
		if (found)
			return found == -ENOENT ? 0 : found;
		return decode_if_ours(&item, ino, ret);
	}
	if (found)
		return found;
	found = decode_if_ours(&item, ino, ret);
	return found ? found : extent_next(ret_cursor, ino, ret);
}

int extent_first(struct tree *tree, struct reader *reader, uint64_t ino, uint64_t offset,
		 struct tree_cursor *ret_cursor, struct extent *ret)
{
	int found = extent_around(tree, reader, ino, offset, ret_cursor, ret);

	while (found > 0 && extent_end(ret) <= offset)
		found = extent_next(ret_cursor, ino, ret);
	return found;
}

static uint64_t range_end(uint64_t offset, uint64_t length)
{
	return length > UINT64_MAX - offset ? UINT64_MAX : offset + length;
}

int extent_map(struct tree *tree, struct reader *reader, uint64_t ino, uint64_t offset,
	       uint64_t length, struct extent *ret, int capacity)
{
	uint64_t end = range_end(offset, length);
	struct tree_cursor cursor;
	struct extent extent;
	int count = 0;
	int found;

	if (length == 0 || capacity <= 0)
		return 0;
	found = extent_first(tree, reader, ino, offset, &cursor, &extent);
	while (found > 0 && extent.offset < end) {
		ret[count++] = extent;
		if (count == capacity)
			return count;
		found = extent_next(&cursor, ino, &extent);
	}
	return found < 0 ? found : count;
}

/* What extent_replace() is about, and what it found. */
struct replace {
	struct tree *tree;
	struct reader *reader;
	uint64_t ino;
	uint64_t offset, end;
	const struct extent *pieces;
	int count;
	int placed;	    /* the piece that has been put already, or -1 */
	int joined;	    /* 1: the first piece becomes part of `left` */
	struct extent left; /* begins before the range; length 0: there is none */
	struct extent last; /* reaches beyond the range; length 0: there is none */
	uint64_t covered;   /* bytes of the range that were in extents */
	int64_t doomed;	    /* extents that begin in the range and whose key no piece takes */
};

static int put_extent(struct replace *replace, uint64_t offset, uint64_t chunk,
		      uint32_t chunk_offset, uint32_t length)
{
	const struct tree_key key = {replace->ino, ITEM_EXTENT, offset};
	uint8_t value[EXTENT_ITEM_SIZE];

	put_le64(value + AT_CHUNK, chunk);
	put_le32(value + AT_CHUNK_OFFSET, chunk_offset);
	put_le32(value + AT_LENGTH, length);
	return tree_put(replace->tree, replace->reader, &key, value, sizeof(value));
}

static int put_piece(struct replace *replace, const struct extent *piece)
{
	return put_extent(replace, piece->offset, piece->chunk, piece->chunk_offset, piece->length);
}

static int delete_extent(struct replace *replace, uint64_t offset)
{
	const struct tree_key key = {replace->ino, ITEM_EXTENT, offset};

	return tree_delete(replace->tree, replace->reader, &key);
}

static int check_pieces(const struct replace *replace)
{
	uint64_t position = replace->offset;

	for (int i = 0; i < replace->count; i++) {
		const struct extent *piece = &replace->pieces[i];

		if (!is_possible(piece) || piece->offset < position ||
		    extent_end(piece) > replace->end)
			return -EINVAL;
		position = extent_end(piece);
	}
	return 0;
}

/* Does the first piece go on where the extent to the left, as far as it stays, ends?  (Together
 * they are not too long: they lie in one chunk.) */
static bool continues_left(const struct replace *replace)
{
	const struct extent *left = &replace->left;
	const struct extent *piece = replace->pieces;
	uint64_t before = replace->offset - left->offset;

	return left->length > 0 && extent_end(left) >= replace->offset && replace->count > 0 &&
	       piece->offset == replace->offset && piece->chunk == left->chunk &&
	       piece->chunk_offset == left->chunk_offset + before;
}

/* Takes note of one extent; extents come in order. */
static void survey_extent(struct replace *replace, const struct extent *extent, int *piece)
{
	uint64_t from = extent->offset > replace->offset ? extent->offset : replace->offset;
	uint64_t to = extent_end(extent) < replace->end ? extent_end(extent) : replace->end;

	if (to > from)
		replace->covered += to - from;
	if (extent_end(extent) > replace->end)
		replace->last = *extent;
	if (extent->offset < replace->offset)
		return;
	while (*piece < replace->count && replace->pieces[*piece].offset < extent->offset)
		(*piece)++;
	if (*piece == replace->count || replace->pieces[*piece].offset != extent->offset)
		replace->doomed++;
}

static int survey(struct replace *replace)
{
	uint64_t before = replace->offset > 0 ? replace->offset - 1 : 0;
	struct tree_cursor cursor;
	struct extent extent;
	int piece;
	int found;

	found = extent_around(replace->tree, replace->reader, replace->ino, before, &cursor,
			      &extent);
	if (found > 0 && extent.offset < replace->offset)
		replace->left = extent;
	replace->joined = continues_left(replace);
	piece = replace->joined;
	while (found > 0 && extent.offset < replace->end) {
		survey_extent(replace, &extent, &piece);
		found = extent_next(&cursor, replace->ino, &extent);
	}
	return found < 0 ? found : 0;
}

/* Where `last` begins inside the range, its rest now being an item of its own: its key is taken
 * over by a piece, or dropped. */
static int settle_last(struct replace *replace)
{
	uint64_t offset = replace->last.offset;
	int error;

	for (int i = replace->joined; i < replace->count; i++) {
		if (replace->pieces[i].offset != offset)
			continue;
		error = put_piece(replace, &replace->pieces[i]);
		if (!error)
			replace->placed = i;
		return error;
	}
	error = delete_extent(replace, offset);
	if (!error)
		replace->doomed--;
	return error;
}

/* Steps 1 and 2; `left` and `last` may be one and the same extent. */
static int cut_borders(struct replace *replace)
{
	const struct extent *left = &replace->left;
	const struct extent *last = &replace->last;
	int error = 0;

	if (last->length > 0) {
		uint32_t skip = (uint32_t)(replace->end - last->offset);

		error = put_extent(replace, replace->end, last->chunk, last->chunk_offset + skip,
				   last->length - skip);
		if (error)
			return error;
	}
	if (left->length > 0 && extent_end(left) > replace->offset)
		error = put_extent(replace, left->offset, left->chunk, left->chunk_offset,
				   (uint32_t)(replace->offset - left->offset));
	if (!error && last->length > 0 && last->offset >= replace->offset)
		error = settle_last(replace);
	if (error && last->length > 0)
		(void)delete_extent(replace, replace->end);
	return error;
}

static int delete_between(struct replace *replace, uint64_t from, uint64_t to)
{
	const struct tree_key first = {replace->ino, ITEM_EXTENT, from};
	const struct tree_key last = {replace->ino, ITEM_EXTENT, to - 1};
	int64_t count;

	if (from >= to || replace->doomed == 0)
		return 0;
	count = tree_delete_range(replace->tree, replace->reader, &first, &last);
	if (count < 0)
		return (int)count;
	replace->doomed -= count;
	return 0;
}

static int delete_doomed(struct replace *replace)
{
	uint64_t from = replace->offset;

	for (int i = replace->joined; i < replace->count && replace->doomed > 0; i++) {
		int error = delete_between(replace, from, replace->pieces[i].offset);

		if (error)
			return error;
		from = replace->pieces[i].offset + 1;
	}
	return delete_between(replace, from, replace->end);
}

static int put_pieces(struct replace *replace, int64_t *ret_bytes)
{
	const struct extent *left = &replace->left;
	int64_t bytes = 0;

	for (int i = 0; i < replace->count; i++) {
		const struct extent *piece = &replace->pieces[i];
		int error = 0;

		if (i == 0 && replace->joined)
			error = put_extent(replace, left->offset, left->chunk, left->chunk_offset,
					   (uint32_t)(extent_end(piece) - left->offset));
		else if (i != replace->placed)
			error = put_piece(replace, piece);
		if (error)
			return error;
		bytes += piece->length;
	}
	*ret_bytes = bytes;
	return 0;
}

int extent_replace(struct tree *tree, struct reader *reader, uint64_t ino, uint64_t offset,
		   uint64_t length, const struct extent *pieces, int count, int64_t *ret_allocated)
{
	struct replace replace = {
		.tree = tree,
		.reader = reader,
		.ino = ino,
		.offset = offset,
		.end = range_end(offset, length),
		.pieces = pieces,
		.count = count,
		.placed = -1,
	};
	int64_t bytes;
	int error = check_pieces(&replace);

	if (!error && length > 0)
		error = survey(&replace);
	if (!error)
		error = cut_borders(&replace);
	if (!error)
		error = delete_doomed(&replace);
	if (!error)
		error = put_pieces(&replace, &bytes);
	if (!error)
		*ret_allocated = bytes - (int64_t)replace.covered;
	return error;
}

int extent_seek_data(struct tree *tree, struct reader *reader, uint64_t ino, uint64_t offset,
		     uint64_t *ret_offset)
{
	struct tree_cursor cursor;
	struct extent extent;
	int found = extent_first(tree, reader, ino, offset, &cursor, &extent);

	if (found <= 0)
		return found ? found : -ENXIO;
	*ret_offset = extent.offset > offset ? extent.offset : offset;
	return 0;
}

int extent_seek_hole(struct tree *tree, struct reader *reader, uint64_t ino, uint64_t offset,
		     uint64_t *ret_offset)
{
	struct tree_cursor cursor;
	struct extent extent;
	int found = extent_first(tree, reader, ino, offset, &cursor, &extent);

	while (found > 0 && extent.offset <= offset) {
		offset = extent_end(&extent);
		found = extent_next(&cursor, ino, &extent);
	}
	if (found < 0)
		return found;
	*ret_offset = offset;
	return 0;
}
