/* The tree's format byte by byte, its limits, and changes that are none. */
#include <limits.h>

#include "tree_testing.h"

/* The bytes of a dump in index/FORMAT.md. */
static size_t read_dump(const char *name, uint8_t *bytes, size_t capacity)
{
	char path[PATH_MAX], line[1024], start[64];
	size_t length = 0;
	bool inside = false;
	FILE *file;

	snprintf(path, sizeof(path), "%.*s/../../index/FORMAT.md",
		 (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__);
	snprintf(start, sizeof(start), "```dump %s\n", name);
	file = fopen(path, "re");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		unsigned offset, byte;
		int used = 0;
		const char *at = line;

		if (strncmp(line, "```", 3) == 0)
			inside = strcmp(line, start) == 0;
		if (!inside || sscanf(line, "%4x%n", &offset, &used) != 1)
			continue;
		assert_int_equal(offset, length);
		for (at += used; sscanf(at, " %2x%n", &byte, &used) == 1; at += used) {
			assert_true(length < capacity);
			bytes[length++] = (uint8_t)byte;
		}
	}
	fclose(file);
	return length;
}

static void expect_dump(const char *name, const uint8_t *node)
{
	uint8_t bytes[NODE_SIZE];
	size_t size = node_level(node) ? sizeof(struct inner_slot) : sizeof(struct leaf_slot);
	size_t length = read_dump(name, bytes, sizeof(bytes));

	assert_int_equal(length, NODE_HEADER + node_count(node) * size);
	assert_memory_equal(node, bytes, length);
}

static void test_format(void **state)
{
	struct tree_key inode = {16, ITEM_INODE, 0}, name = {16, ITEM_DIRENT, 0x0102030405060708};
	struct tree_key extent = {16, ITEM_EXTENT, 0x1000};
	uint8_t node[NODE_SIZE], key[NODE_KEY];

	(void)state;
	node_init(node, 7, 3, 0);
	leaf_insert(node, 0, &inode, "abc", 3);
	leaf_insert(node, 1, &name, "de", 2);
	expect_dump("tree-leaf", node);
	assert_memory_equal(node + NODE_SIZE - 5, "deabc", 5);
	assert_null(node_check(node, 0, 3, NULL));
	node_init(node, 9, 3, 1);
	inner_insert(node, 0, NULL, 7);
	key_write(key, &extent);
	inner_insert(node, 1, key, 8);
	expect_dump("tree-inner", node);
	assert_null(node_check(node, 1, 3, NULL));
	assert_int_equal(inner_search(node, key_pack(&name)), 0);
	assert_int_equal(inner_search(node, key_pack(&extent)), 1);
}

static void test_edges(void **state)
{
	struct tree_key key = {1, 1, 1}, all = {UINT64_MAX, UINT8_MAX, UINT64_MAX};
	uint8_t value[TREE_VALUE_MAX + 1] = {0};
	struct store *store = test_store_make();
	struct reader *reader = test_reader(store);
	struct tree_cursor cursor;
	struct tree_item item;
	struct tree *tree;

	(void)state;
	must(tree_open(store, 0, 0, &tree));
	assert_int_equal(tree_put(tree, reader, &key, value, 1), -EROFS);
	assert_int_equal(tree_delete(tree, reader, &key), -EROFS);
	assert_int_equal(tree_get(tree, reader, &key, &item), -ENOENT);
	assert_int_equal(tree_seek(tree, reader, &key, &cursor, &item), -ENOENT);
	assert_int_equal(tree_next(&cursor, &item), -ENOENT);
	assert_int_equal(tree_seek_before(tree, reader, &all, &cursor, &item), -ENOENT);
	tree_close(tree);
	must(tree_open(store, 0, 1, &tree));
	assert_int_equal(tree_put(tree, reader, &key, value, TREE_VALUE_MAX + 1), -EINVAL);
	assert_int_equal(tree_delete_range(tree, reader, &key, &all), 0);
	assert_false(tree_is_dirty(tree));
	must(tree_put(tree, reader, &all, NULL, 0));
	must(tree_put(tree, reader, &key, value, TREE_VALUE_MAX));
	assert_true(tree_is_dirty(tree));
	test_commit(store, tree);
	/* The same again is no change. */
	reader_release(reader);
	reader = test_reader(store);
	must(tree_put(tree, reader, &key, value, TREE_VALUE_MAX));
	must(tree_put(tree, reader, &all, NULL, 0));
	assert_false(tree_is_dirty(tree));
	must(tree_get(tree, reader, &all, &item));
	assert_int_equal(item.length, 0);
	assert_int_equal(tree_delete_range(tree, reader, &all, &key), 0);
	assert_int_equal(tree_delete_range(tree, reader, &key, &all), 2);
	assert_int_equal(tree_root(tree), 0);
	assert_int_equal(tree_dirty_bytes(tree), 0);
	tree_close(tree);
	assert_null(tree_close(NULL));
	reader_release(reader);
	test_store_remove(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_format),
		cmocka_unit_test(test_edges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
