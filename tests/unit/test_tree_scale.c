/*
 * The tree at size: how full its nodes get, what changes, range deletes and differences cost.
 * Prints what it measures; asserts only what does not depend on the machine.
 */
#include "tree_testing.h"

enum { INODES = 330000, ITEMS = 3 * INODES, SAMPLES = 200000 };

static struct store *store;
static struct tree *tree;

static struct tree_key inode_key(uint64_t ino)
{
	return (struct tree_key){ino, ITEM_INODE, 0};
}

static void build_sequential(void)
{
	struct reader *reader = NULL;
	uint8_t value[100] = {1};
	double start = now_ns(), syncing = 0;

	for (uint64_t ino = 16; ino < 16 + INODES; ino++) {
		struct tree_key key = inode_key(ino);

		if (!reader)
			reader = test_reader(store);
		must(tree_put(tree, reader, &key, value, 80));
		key = (struct tree_key){ino, ITEM_BACKREF, 16};
		must(tree_put(tree, reader, &key, value, 8));
		key = (struct tree_key){ino, ITEM_EXTENT, 0};
		must(tree_put(tree, reader, &key, value, 16));
		if (ino % 32768 == 0) {
			double before = now_ns();

			reader = reader_release(reader);
			test_commit(store, tree);
			syncing += now_ns() - before;
		}
	}
	reader_release(reader);
	start = now_ns() - start - syncing;
	print_message("sequential put: %.0f ns; commits: %.0f ns an item\n", start / ITEMS,
		      syncing / ITEMS);
	test_commit(store, tree);
}

static void check_fill(const char *what, double least)
{
	struct reader *reader = test_reader(store);
	struct shape shape = tree_shape(tree, reader);
	double fill = (double)shape.leaf_bytes / (double)(shape.leaves * NODE_ROOM);

	print_message("%s: %zu items, %zu nodes, %d levels, leaves %.1f %% full\n", what,
		      shape.items, shape.nodes, shape.levels, 100 * fill);
	assert_true(fill >= least);
	reader_release(reader);
}

static void measure_get(void)
{
	struct reader *reader = test_reader(store);
	double best = 1e18;

	for (int round = 0; round < 3; round++) {
		double start = now_ns();

		for (int i = 0; i < SAMPLES; i++) {
			struct tree_key key = inode_key(16 + random_below(INODES));
			struct tree_item item;

			must(tree_get(tree, reader, &key, &item));
		}
		best = start = now_ns() - start < best ? now_ns() - start : best;
	}
	print_message("random get, clean, whole tree: %.0f ns\n", best / SAMPLES);
	for (int round = 0; round < 2; round++) {
		double start = now_ns();

		for (int i = 0; i < SAMPLES; i++) {
			struct tree_key key = inode_key(16 + random_below(2000));
			struct tree_item item;

			must(tree_get(tree, reader, &key, &item));
		}
		best = now_ns() - start;
	}
	print_message("random get, clean, hot set: %.0f ns\n", best / SAMPLES);
	reader_release(reader);
}

static void measure_replace(void)
{
	struct reader *reader = test_reader(store);
	uint8_t value[100] = {2};

	for (int round = 0; round < 3; round++) {
		double start = now_ns();

		for (int i = 0; i < SAMPLES; i++) {
			struct tree_key key = inode_key(16 + random_below(20000));

			value[0]++;
			must(tree_put(tree, reader, &key, value, 80));
		}
		print_message("random replace, %s nodes: %.0f ns\n", round ? "dirty" : "clean",
			      (now_ns() - start) / SAMPLES);
	}
	reader_release(reader);
	test_commit(store, tree);
}

static int count_difference(const struct tree_item *old_item, const struct tree_item *new_item,
			    void *context)
{
	assert_true(old_item || new_item);
	(*(size_t *)context)++;
	return 0;
}

/* Changes a few items of a large tree: the diff reads the ways to them and nothing else. */
static void measure_diff(uint64_t changes, uint64_t width)
{
	uint64_t before = tree_root(tree);
	struct reader *reader = test_reader(store);
	uint64_t first = 16 + random_below(INODES - width);
	size_t found = 0, opened;
	struct tree *view;
	uint8_t value[80];
	double start;

	tree_set_generation(tree, store_next(store, COUNTER_GENERATION));
	for (uint64_t i = 0; i < changes; i++) {
		struct tree_key key = inode_key(first + i * (width / changes));

		memset(value, (int)random_next(), sizeof(value));
		put_le64(value, random_next());
		must(tree_put(tree, reader, &key, value, sizeof(value)));
	}
	reader_release(reader);
	test_commit(store, tree);
	reader = test_reader(store);
	must(tree_open(store, before, 0, &view));
	start = now_ns();
	must(tree_diff_counted(view, tree, reader, count_difference, &found, &opened));
	print_message("diff of %" PRIu64 " changes: %zu nodes read, %.1f us\n", changes, opened,
		      (now_ns() - start) / 1e3);
	assert_int_equal(found, changes);
	assert_true(opened <= changes * 2 * 5);
	tree_close(view);
	reader_release(reader);
}

/* An insert at the front and a delete shift bounds; what is shared is found all the same. */
static void measure_shifted_diff(void)
{
	struct tree_key from = inode_key(5000), to = {9000, UINT8_MAX, UINT64_MAX};
	struct tree_key key = {1, ITEM_INLINE, 0};
	uint64_t before = tree_root(tree);
	size_t found = 0, opened;
	struct reader *reader = test_reader(store);
	struct tree *view;
	uint8_t value[80] = {0};
	int64_t gone;

	tree_set_generation(tree, store_next(store, COUNTER_GENERATION));
	for (key.offset = 0; key.offset < 2000; key.offset++)
		must(tree_put(tree, reader, &key, value, sizeof(value)));
	gone = tree_delete_range(tree, reader, &from, &to);
	assert_int_equal(gone, 3 * 4001);
	reader_release(reader);
	test_commit(store, tree);
	reader = test_reader(store);
	must(tree_open(store, before, 0, &view));
	must(tree_diff_counted(view, tree, reader, count_difference, &found, &opened));
	print_message("diff of 2000 items in front and %" PRId64 " gone: %zu nodes read\n", gone,
		      opened);
	assert_int_equal(found, 2000 + gone);
	assert_true(opened < 600);
	tree_close(view);
	reader_release(reader);
}

/* Bursts in the middle (a file that grows) fill nodes as well as at the end. */
static void test_ascending_in_the_middle(void **state)
{
	struct reader *reader;
	uint8_t value[24] = {0};

	(void)state;
	store = test_store_make();
	must(tree_open(store, 0, store_next(store, COUNTER_GENERATION), &tree));
	reader = test_reader(store);
	for (uint64_t ino = 16; ino < 10000; ino += 100) {
		struct tree_key key = inode_key(ino);

		must(tree_put(tree, reader, &key, value, 24));
	}
	for (uint64_t ino = 9916; ino > 300; ino -= 300) {
		struct tree_key key = {ino, ITEM_EXTENT, 0};

		for (; key.offset < 2000; key.offset++)
			must(tree_put(tree, reader, &key, value, 24));
	}
	reader_release(reader);
	check_fill("ascending in the middle", 0.9);
	tree_close(tree);
	test_store_remove(store);
}

static void test_random_order(void **state)
{
	struct reader *reader;
	uint8_t value[60] = {0};
	double start;

	(void)state;
	store = test_store_make();
	must(tree_open(store, 0, store_next(store, COUNTER_GENERATION), &tree));
	reader = test_reader(store);
	start = now_ns();
	for (int i = 0; i < SAMPLES; i++) {
		struct tree_key key = {16, ITEM_DIRENT, random_next()};

		must(tree_put(tree, reader, &key, value, 60));
	}
	print_message("random insert, dirty nodes: %.0f ns\n", (now_ns() - start) / SAMPLES);
	check_fill("random order", 0.6);
	tree_close(tree);
	reader_release(reader);
	test_store_remove(store);
}

static void measure_range_delete(void)
{
	struct tree_key from = {100, 0, 0}, to = {16 + INODES - 100, UINT8_MAX, UINT64_MAX};
	struct reader *reader = test_reader(store);
	double start = now_ns();
	int64_t gone = tree_delete_range(tree, reader, &from, &to);
	struct shape shape;

	assert_true(gone > 0);
	print_message("range delete: %" PRId64 " items in %.1f ms (%.0f ns each)\n", gone,
		      (now_ns() - start) / 1e6, (now_ns() - start) / (double)gone);
	shape = tree_shape(tree, reader);
	assert_true(shape.nodes < 100);
	reader_release(reader);
	test_commit(store, tree);
}

static void test_million(void **state)
{
	(void)state;
	store = test_store_make();
	must(tree_open(store, 0, store_next(store, COUNTER_GENERATION), &tree));
	build_sequential();
	check_fill("sequential", 0.95);
	measure_get();
	measure_replace();
	measure_diff(1, 1);
	measure_diff(10, 10);
	measure_diff(100, INODES / 2);
	measure_diff(1000, INODES / 2);
	measure_shifted_diff();
	measure_range_delete();
	tree_close(tree);
	test_store_remove(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ascending_in_the_middle),
		cmocka_unit_test(test_random_order),
		cmocka_unit_test(test_million),
	};

	random_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
