/*
 * What the tests of the tree share: a store in a temporary directory, a seeded generator of
 * numbers, a strict look at a tree's structure.
 */
#ifndef CAIRN_TESTS_TREE_TESTING_H
#define CAIRN_TESTS_TREE_TESTING_H

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "snapshot/tree_internal.h"

#define UNUSED __attribute__((unused))

#define must(expression)                                                                           \
	do {                                                                                       \
		long long must_result = (expression);                                              \
		if (must_result != 0)                                                              \
			fail_msg("%s: %lld (%s)", #expression, must_result,                        \
				 strerror((int)-must_result));                                     \
	} while (0)

/* Xorshift64*: S. Vigna, "An experimental exploration of Marsaglia's xorshift generators". */
static uint64_t random_state = 88172645463325252u;

static UNUSED uint64_t random_next(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 2685821657736338717u;
}

static UNUSED uint64_t random_below(uint64_t limit)
{
	return (random_next() >> 11) % limit;
}

static UNUSED void random_seed(void)
{
	const char *text = getenv("CAIRN_TEST_SEED");
	uint64_t seed = text ? strtoull(text, NULL, 0) : 20261122;

	print_message("seed %" PRIu64 " (CAIRN_TEST_SEED)\n", seed);
	random_state = seed * 0x9e3779b97f4a7c15u + 1;
	for (int i = 0; i < 10; i++)
		random_next();
}

static UNUSED double now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static char test_directory[64];

static UNUSED struct store *test_store_open(void)
{
	struct errbuf err = {""};
	struct store *store;

	if (store_open(test_directory, 0, NULL, &store, &err) != 0)
		fail_msg("store_open: %s", err.text);
	return store;
}

static UNUSED struct store *test_store_make(void)
{
	struct store_compression none = {.codec = CODEC_NONE};
	struct errbuf err = {""};

	snprintf(test_directory, sizeof(test_directory), "/tmp/cairn-test-tree.XXXXXX");
	assert_non_null(mkdtemp(test_directory));
	if (store_create(test_directory, &none, &err) != 0)
		fail_msg("store_create: %s", err.text);
	return test_store_open();
}

static UNUSED void test_store_remove(struct store *store)
{
	char command[128];

	store_close(store);
	snprintf(command, sizeof(command), "rm -rf '%s'", test_directory);
	assert_int_equal(system(command), 0);
}

static UNUSED struct reader *test_reader(struct store *store)
{
	struct reader *reader;

	must(reader_acquire(store, &reader));
	return reader;
}

static UNUSED void test_commit(struct store *store, struct tree *tree)
{
	struct commit *commit;

	must(commit_begin(store, &commit));
	must(tree_collect(tree, commit));
	must(commit_seal(commit));
	must(commit_finish(commit));
	tree_committed(tree, true);
}

/* What a look at a tree found. */
struct shape {
	size_t nodes, leaves, items;
	size_t leaf_bytes; /* used, without headers */
	int levels;
};

static UNUSED void shape_node(struct tree *tree, struct reader *reader,
			      const struct tree_step *step, const struct packed_key *begin,
			      const struct packed_key *end, struct shape *shape)
{
	const uint8_t *node = step->node;
	unsigned level = node_level(node);
	unsigned count = node_count(node);
	unsigned slot = 0;
	const char *wrong = node_check(node, level, UINT64_MAX, &slot);

	if (wrong)
		fail_msg("node %" PRIu64 " slot %u: %s", node_id(node), slot, wrong);
	if (step->draft)
		assert_ptr_equal(u64map_get(&tree->drafts, node_id(node)), step->draft);
	shape->nodes++;
	if (level == 0) {
		assert_true(leaf_values_disjoint(node));
		assert_true(key_not_above(*begin, key_load(leaf_slot(node, 0)->key)));
		assert_true(!end || key_below(key_load(leaf_slot(node, count - 1)->key), *end));
		shape->leaves++;
		shape->items += count;
		shape->leaf_bytes += leaf_used(node);
		return;
	}
	for (slot = 0; slot < count; slot++) {
		struct packed_key low = slot ? key_load(inner_slot(node, slot)->key) : *begin;
		struct packed_key high;
		struct tree_step child;
		bool last = slot + 1 == count;

		if (!last)
			high = key_load(inner_slot(node, slot + 1)->key);
		assert_true(key_not_above(*begin, low));
		must(tree_child(tree, reader, node, slot, &child));
		shape_node(tree, reader, &child, &low, last ? end : &high, shape);
	}
}

/* Checks all nodes of a tree, in memory or not. */
static UNUSED struct shape tree_shape(struct tree *tree, struct reader *reader)
{
	struct packed_key begin = {0, 0};
	struct shape shape = {0};
	struct tree_step root;

	if (tree_root(tree) == 0)
		return shape;
	must(tree_root_node(tree, reader, &root));
	if (node_level(root.node) > 0)
		assert_true(node_count(root.node) > 1);
	shape.levels = (int)node_level(root.node) + 1;
	shape_node(tree, reader, &root, &begin, NULL, &shape);
	return shape;
}

#endif
