/* Extents against a model of bytes, with failing changes; inline contents; reading files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "memory_chunks.h"
#include "memory_tree.h"
#include "snapshot/extent.h"
#include "snapshot/inode.h"
#include "snapshot/item.h"

enum { FILE_BYTES = 16384, PIECES_MAX = 6, STEPS = 30000, INO = 77 };

static uint64_t random_state = 2463534242u;

static unsigned random_below(unsigned limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (unsigned)(random_state >> 33) % limit;
}

/* What each byte is: chunk * 2^20 + offset in it, 0: hole.  One byte more: never data. */
static uint64_t model[FILE_BYTES + 1];

static void check_byte(uint64_t offset, const struct extent *extent)
{
	uint64_t expected =
		extent ? (extent->chunk << 20) + (extent->chunk_offset + (offset - extent->offset))
		       : 0;

	if (model[offset] != expected)
		fail_msg("byte %llu is %llx, not %llx", (unsigned long long)offset,
			 (unsigned long long)expected, (unsigned long long)model[offset]);
}

/* Compares [offset, end) with what extent_map() says, in batches of `capacity`. */
static void check_range(struct tree *tree, uint64_t offset, uint64_t end, int capacity)
{
	struct extent extents[16];
	uint64_t position = offset;

	for (;;) {
		int count =
			extent_map(tree, NULL, INO, position, end - position, extents, capacity);

		assert_in_range(count, 0, capacity);
		for (int i = 0; i < count; i++) {
			const struct extent *extent = &extents[i];

			assert_true(extent->offset + extent->length > position);
			assert_true(extent->offset < end);
			if (i > 0)
				assert_true(extent->offset >= position);
			while (position < extent->offset)
				check_byte(position++, NULL);
			while (position < extent->offset + extent->length && position < end)
				check_byte(position++, extent);
		}
		if (count < capacity || position == end)
			break;
	}
	while (position < end)
		check_byte(position++, NULL);
}

static void check_seek(struct tree *tree, uint64_t offset)
{
	uint64_t data = offset;
	uint64_t hole = offset;
	uint64_t found;

	while (data < FILE_BYTES && !model[data])
		data++;
	while (hole < FILE_BYTES && model[hole])
		hole++;
	if (data == FILE_BYTES) {
		assert_int_equal(extent_seek_data(tree, NULL, INO, offset, &found), -ENXIO);
	} else {
		assert_int_equal(extent_seek_data(tree, NULL, INO, offset, &found), 0);
		assert_int_equal(found, data);
	}
	assert_int_equal(extent_seek_hole(tree, NULL, INO, offset, &found), 0);
	assert_int_equal(found, hole);
}

static int64_t model_allocated(void)
{
	int64_t bytes = 0;

	for (int i = 0; i < FILE_BYTES; i++)
		bytes += model[i] != 0;
	return bytes;
}

/* Random pieces in a range: now and then one takes the key of an old extent, or goes on in the
 * chunk that the bytes to its left are in. */
static int make_pieces(uint64_t offset, uint64_t end, struct extent *pieces)
{
	int count = 0;

	while (count < PIECES_MAX && offset < end) {
		uint64_t left = end - offset;
		struct extent *piece = &pieces[count];

		if (random_below(4) == 0)
			offset += random_below((unsigned)left);
		piece->offset = offset;
		piece->length = 1 + random_below((unsigned)(end - offset));
		piece->chunk = 1 + random_below(5);
		piece->chunk_offset = random_below(2000);
		if (offset > 0 && model[offset - 1] && random_below(2)) {
			piece->chunk = model[offset - 1] >> 20;
			piece->chunk_offset = (uint32_t)(model[offset - 1] & 0xfffff) + 1;
		}
		if (piece->chunk_offset + piece->length > CHUNK_MAX)
			piece->chunk_offset = 0;
		offset += piece->length;
		count++;
		if (random_below(3) == 0)
			break;
	}
	return count;
}

static void model_replace(uint64_t offset, uint64_t end, const struct extent *pieces, int count)
{
	for (uint64_t i = offset; i < end; i++)
		model[i] = 0;
	for (int p = 0; p < count; p++)
		for (uint32_t i = 0; i < pieces[p].length; i++)
			model[pieces[p].offset + i] =
				(pieces[p].chunk << 20) + pieces[p].chunk_offset + i;
}

/* After a failure: nothing overlaps, and outside of the range nothing changed. */
static void check_failed(struct tree *tree, uint64_t offset, uint64_t end)
{
	struct extent extents[FILE_BYTES / 64];
	uint64_t position = 0;
	int count = extent_map(tree, NULL, INO, 0, FILE_BYTES, extents, FILE_BYTES / 64);

	for (int i = 0; i < count; i++) {
		assert_true(extents[i].offset >= position);
		position = extents[i].offset + extents[i].length;
	}
	check_range(tree, 0, offset, 16);
	check_range(tree, end, FILE_BYTES, 16);
}

static uint64_t random_offset(struct tree *tree)
{
	struct extent extent;
	uint64_t offset = random_below(FILE_BYTES);

	/* A third of all borders are those of extents that are there. */
	if (random_below(3) == 0 &&
	    extent_map(tree, NULL, INO, offset, FILE_BYTES, &extent, 1) == 1)
		offset = extent.offset + (random_below(2) ? extent.length : 0);
	return offset;
}

static void random_step(struct tree *tree, int64_t *allocated)
{
	struct extent pieces[PIECES_MAX];
	uint64_t offset = random_offset(tree);
	uint64_t end = random_below(2) ? random_offset(tree) : offset + random_below(300);
	int64_t delta = 0;
	int count;
	int error;

	if (end < offset) {
		uint64_t swap = end;

		end = offset;
		offset = swap;
	}
	if (end > FILE_BYTES)
		end = FILE_BYTES;
	if (end - offset > 3000)
		end = offset + 3000;
	count = random_below(4) && end > offset ? make_pieces(offset, end, pieces) : 0;
	if (random_below(3) == 0)
		tree->fail_after = random_below(6);
	error = extent_replace(tree, NULL, INO, offset, end - offset, pieces, count, &delta);
	if (error) {
		assert_int_equal(error, -ENOMEM);
		tree->fail_after = -1;
		check_failed(tree, offset, end);
		/* The range now holds anything; a second try settles it, but its delta tells
		 * of that.  So count anew. */
		assert_int_equal(extent_replace(tree, NULL, INO, offset, end - offset, pieces,
						count, &delta),
				 0);
		model_replace(offset, end, pieces, count);
		*allocated = model_allocated();
	} else {
		tree->fail_after = -1;
		model_replace(offset, end, pieces, count);
		*allocated += delta;
	}
	check_range(tree, offset > 50 ? offset - 50 : 0,
		    end + 50 < FILE_BYTES ? end + 50 : FILE_BYTES, 1 + (int)random_below(16));
}

static void test_model(void **state)
{
	struct tree *tree = memory_tree_new();
	int64_t allocated = 0;

	(void)state;
	for (int step = 0; step < STEPS; step++) {
		random_step(tree, &allocated);
		check_seek(tree, random_below(FILE_BYTES));
		if (step % 200)
			continue;
		check_range(tree, 0, FILE_BYTES, 7);
		assert_int_equal(allocated, model_allocated());
		for (size_t i = 0; i < tree->count; i++) {
			const struct memory_item *item = &tree->items[i];
			const struct tree_item view = {item->key, item->value, item->length};

			assert_int_equal(item_check(&view), 0);
		}
	}
	memory_tree_free(tree);
}

static int64_t replace(struct tree *tree, uint64_t offset, uint32_t length, uint64_t chunk,
		       uint32_t chunk_offset)
{
	const struct extent piece = {offset, chunk, chunk_offset, length};
	int64_t delta = 0;

	tree->puts = tree->deletes = 0;
	assert_int_equal(extent_replace(tree, NULL, INO, offset, length, &piece, 1, &delta), 0);
	return delta;
}

/* What the common cases cost. */
static void test_costs(void **state)
{
	struct tree *tree = memory_tree_new();
	int64_t delta;

	(void)state;
	for (uint32_t i = 0; i < 10; i++) { /* appending */
		assert_int_equal(replace(tree, i * 8192, 8192, i + 1, 0), 8192);
		assert_int_equal(tree->puts, 1);
		assert_int_equal(tree->deletes, 0);
	}
	assert_int_equal(replace(tree, 8192, 8192, 50, 0), 0); /* a page in place */
	assert_int_equal(tree->puts, 1);
	assert_int_equal(tree->deletes, 0);
	assert_int_equal(replace(tree, 8192 + 1024, 1024, 51, 0), 0); /* the middle of a chunk */
	assert_int_equal(tree->puts, 3);
	assert_int_equal(tree->deletes, 0);
	assert_int_equal(tree->count, 12);
	assert_int_equal(replace(tree, 16384, 4096, 52, 0), 0); /* the first half of a chunk */
	assert_int_equal(tree->puts, 2);
	assert_int_equal(tree->deletes, 0);
	assert_int_equal(tree->count, 13);
	/* Joining what goes on in the same chunk, as copy_file_range in steps does. */
	assert_int_equal(replace(tree, 100000, 1000, 60, 500), 1000);
	assert_int_equal(replace(tree, 101000, 1000, 60, 1500), 1000);
	assert_int_equal(tree->puts, 1);
	assert_int_equal(tree->count, 14);
	/* Everything goes, up to the largest offset there is. */
	tree->puts = tree->deletes = 0;
	assert_int_equal(extent_replace(tree, NULL, INO, 4096, UINT64_MAX - 4096, NULL, 0, &delta),
			 0);
	assert_int_equal(delta, 4096 - 81920 - 2000);
	assert_int_equal(tree->puts, 1);
	assert_int_equal(tree->count, 1);
	memory_tree_free(tree);
}

static void test_refusals(void **state)
{
	struct tree *tree = memory_tree_new();
	const struct extent outside = {10, 1, 0, 10};
	const struct extent overlapping[] = {{0, 1, 0, 10}, {9, 1, 0, 1}};
	const struct extent empty = {0, 1, 0, 0};
	const struct extent beyond_chunk = {0, 1, CHUNK_MAX - 1, 2};
	const struct extent no_chunk = {0, 0, 0, 1};
	int64_t delta;

	(void)state;
	assert_int_equal(extent_replace(tree, NULL, INO, 11, 10, &outside, 1, &delta), -EINVAL);
	assert_int_equal(extent_replace(tree, NULL, INO, 10, 9, &outside, 1, &delta), -EINVAL);
	assert_int_equal(extent_replace(tree, NULL, INO, 0, 10, overlapping, 2, &delta), -EINVAL);
	assert_int_equal(extent_replace(tree, NULL, INO, 0, 10, &empty, 1, &delta), -EINVAL);
	assert_int_equal(extent_replace(tree, NULL, INO, 0, 10, &beyond_chunk, 1, &delta), -EINVAL);
	assert_int_equal(extent_replace(tree, NULL, INO, 0, 10, &no_chunk, 1, &delta), -EINVAL);
	assert_int_equal(tree->count, 0);
	memory_tree_free(tree);
}

/* Items of neighbours are never touched or taken for ours. */
static void test_neighbours(void **state)
{
	struct tree *tree = memory_tree_new();
	const struct extent piece = {0, 9, 0, 100};
	struct extent found;
	int64_t delta;

	(void)state;
	assert_int_equal(extent_replace(tree, NULL, INO - 1, 0, 100, &piece, 1, &delta), 0);
	assert_int_equal(extent_replace(tree, NULL, INO + 1, 0, 100, &piece, 1, &delta), 0);
	assert_int_equal(inline_put(tree, NULL, INO, "abc", 3), 0);
	assert_int_equal(extent_map(tree, NULL, INO, 0, UINT64_MAX, &found, 1), 0);
	assert_int_equal(extent_replace(tree, NULL, INO, 0, UINT64_MAX, NULL, 0, &delta), 0);
	assert_int_equal(delta, 0);
	assert_int_equal(tree->count, 3);
	memory_tree_free(tree);
}

static void test_inline(void **state)
{
	static const size_t lengths[] = {1, 1023, 1024, 1025, 2048, 4095, 3000, 1024, 5, 0, 2048};
	struct tree *tree = memory_tree_new();
	uint8_t data[SYMLINK_MAX + 1];
	uint8_t back[SYMLINK_MAX];
	size_t length;

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + i / 256);
	assert_int_equal(inline_get(tree, NULL, INO, back, 0, &length), 0);
	assert_int_equal(length, 0);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		assert_int_equal(inline_put(tree, NULL, INO, data + i % 2, lengths[i]), 0);
		assert_int_equal(tree->count, (lengths[i] + 1023) / 1024);
		assert_int_equal(inline_get(tree, NULL, INO, back, sizeof(back), &length), 0);
		assert_int_equal(length, lengths[i]);
		assert_memory_equal(back, data + i % 2, length);
	}
	assert_int_equal(inline_get(tree, NULL, INO, back, 2047, &length), -ERANGE);
	assert_int_equal(inline_get(tree, NULL, INO, back, 2048, &length), 0);
	assert_int_equal(inline_put(tree, NULL, INO, data, SYMLINK_MAX + 1), -EFBIG);
	/* A piece is missing. */
	assert_int_equal(tree_delete(tree, NULL, &(struct tree_key){INO, ITEM_INLINE, 0}), 0);
	assert_int_equal(inline_get(tree, NULL, INO, back, sizeof(back), &length), -EUCLEAN);
	assert_int_equal(inline_delete(tree, NULL, INO), 0);
	assert_int_equal(tree->count, 0);
	memory_tree_free(tree);
}

static void make_inode(struct tree *tree, uint32_t flags, uint64_t size)
{
	const struct inode_attr attr = {
		.mode = S_IFREG | 0644, .nlink = 1, .flags = flags, .size = size};

	assert_int_equal(inode_put(tree, NULL, INO, &attr), 0);
}

static void check_read(struct tree *tree, uint64_t offset, size_t length, const uint8_t *expected,
		       size_t expected_length)
{
	uint8_t *buffer = malloc(length + 1);

	assert_non_null(buffer);
	memset(buffer, 0xee, length + 1);
	assert_int_equal(file_read(tree, NULL, INO, offset, buffer, length, NULL), expected_length);
	if (expected_length > 0)
		assert_memory_equal(buffer, expected, expected_length);
	assert_int_equal(buffer[length], 0xee);
	free(buffer);
}

static void test_read_inline(void **state)
{
	struct tree *tree = memory_tree_new();
	uint8_t data[3000];

	(void)state;
	memset(data, 0, sizeof(data));
	for (size_t i = 0; i < 2000; i++)
		data[i] = (uint8_t)(i % 251 + 1);
	assert_int_equal(inline_put(tree, NULL, INO, data, 2000), 0);
	make_inode(tree, INODE_INLINE, 2500); /* grown by truncate: zeros follow */
	for (size_t offset = 0; offset < 2600; offset += 123)
		for (size_t length = 1; length < 3000; length += 357) {
			size_t left = offset < 2500 ? 2500 - offset : 0;

			check_read(tree, offset, length, data + offset,
				   left < length ? left : length);
		}
	memory_tree_free(tree);
}

static void fill(uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)random_below(256);
}

/* 16 chunks of 64 KiB; the first KiB of each chunk but the first is cut off by the read below. */
static void test_read_chunks(void **state)
{
	struct tree *tree = memory_tree_new();
	size_t size = 1 << 20;
	uint8_t *data = malloc(size);
	uint64_t chunk;

	(void)state;
	assert_non_null(data);
	fill(data, size);
	for (uint32_t i = 0; i < 16; i++) {
		assert_int_equal(chunk_store(NULL, data + i * 65536, 65536, &chunk, NULL), 0);
		replace(tree, i * 65536, 65536, chunk, 0);
	}
	make_inode(tree, 0, size);
	check_read(tree, 0, size + 5, data, size);
	for (int i = 0; i < 16; i++)
		assert_int_equal(memory_chunks[i].reads, 1);
	check_read(tree, 65536 + 10, 65536, data + 65536 + 10, 65536);
	assert_int_equal(memory_chunks[1].reads, 2);
	assert_int_equal(memory_chunks[2].reads, 2);
	/* A page in the middle of chunk 4 is overwritten: its two rests cost one read. */
	assert_int_equal(chunk_store(NULL, data, 4096, &chunk, NULL), 0);
	replace(tree, 4 * 65536 + 8192, 4096, chunk, 0);
	memcpy(data + 4 * 65536 + 8192, data, 4096);
	check_read(tree, 4 * 65536, 65536, data + 4 * 65536, 65536);
	assert_int_equal(memory_chunks[4].reads, 2);
	assert_int_equal(memory_chunks[16].reads, 1);
	free(data);
	memory_chunks_clear();
	memory_tree_free(tree);
}

static void test_read_random(void **state)
{
	struct tree *tree = memory_tree_new();
	uint8_t data[FILE_BYTES] = {0};
	uint8_t bytes[2000];
	uint64_t chunk;
	int64_t delta;

	(void)state;
	make_inode(tree, 0, FILE_BYTES);
	for (int i = 0; i < 200; i++) {
		uint32_t length = 1 + random_below(sizeof(bytes));
		uint32_t skip = random_below(length);
		uint32_t offset = random_below(FILE_BYTES - length);

		fill(bytes, length);
		assert_int_equal(chunk_store(NULL, bytes, length, &chunk, NULL), 0);
		replace(tree, offset, length - skip, chunk, skip);
		memcpy(data + offset, bytes + skip, length - skip);
		offset = random_below(FILE_BYTES - 500);
		assert_int_equal(extent_replace(tree, NULL, INO, offset, 500, NULL, 0, &delta), 0);
		memset(data + offset, 0, 500);
		check_read(tree, 0, FILE_BYTES, data, FILE_BYTES);
		offset = random_below(FILE_BYTES);
		length = random_below(FILE_BYTES - offset);
		check_read(tree, offset, length, data + offset, length);
	}
	memory_chunks_clear();
	memory_tree_free(tree);
}

static void test_read_damage(void **state)
{
	struct tree *tree = memory_tree_new();
	struct inode_attr directory = {.mode = S_IFDIR | 0755};
	uint8_t buffer[4096];
	uint64_t chunk;

	(void)state;
	assert_int_equal(file_read(tree, NULL, INO, 0, buffer, 10, NULL), -ENOENT);
	assert_int_equal(inode_put(tree, NULL, INO, &directory), 0);
	assert_int_equal(file_read(tree, NULL, INO, 0, buffer, 10, NULL), -EISDIR);
	make_inode(tree, 0, 4096);
	assert_int_equal(chunk_store(NULL, "abcdef", 6, &chunk, NULL), 0);
	replace(tree, 0, 7, chunk, 0); /* longer than the chunk */
	assert_int_equal(file_read(tree, NULL, INO, 0, buffer, 4096, NULL), -EUCLEAN);
	assert_int_equal(file_read(tree, NULL, INO, 0, buffer, 7, NULL), -EUCLEAN);
	assert_int_equal(file_read(tree, NULL, INO, 0, buffer, 6, NULL), 6);
	replace(tree, 0, 7, 200, 0); /* a chunk that collection took */
	assert_int_equal(file_read(tree, NULL, INO, 0, buffer, 4096, NULL), -ESTALE);
	memory_chunks_clear();
	memory_tree_free(tree);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),	    cmocka_unit_test(test_costs),
		cmocka_unit_test(test_refusals),    cmocka_unit_test(test_neighbours),
		cmocka_unit_test(test_inline),	    cmocka_unit_test(test_read_inline),
		cmocka_unit_test(test_read_chunks), cmocka_unit_test(test_read_random),
		cmocka_unit_test(test_read_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
