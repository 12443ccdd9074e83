/* Checks tree_diff_range() against tree_diff(), for the tests of the tree. */
#ifndef CAIRN_TESTS_RANGE_TESTING_H
#define CAIRN_TESTS_RANGE_TESTING_H

#include "tree_testing.h"

/* What a walk over a range must tell, in order. */
struct ranged {
	struct tree_key from, to;
	struct tree_key keys[4096];
	uint8_t sides[4096];
	size_t count, at;
};

static int collect_in_range(const struct tree_item *old_item, const struct tree_item *new_item,
			    void *context)
{
	struct ranged *ranged = context;
	const struct tree_key *key = old_item ? &old_item->key : &new_item->key;

	if (tree_key_compare(key, &ranged->from) < 0 || tree_key_compare(key, &ranged->to) > 0)
		return 0;
	if (ranged->count == 4096)
		return 1;
	ranged->sides[ranged->count] = (uint8_t)((old_item != NULL) | (new_item != NULL) << 1);
	ranged->keys[ranged->count++] = *key;
	return 0;
}

static int follow_in_range(const struct tree_item *old_item, const struct tree_item *new_item,
			   void *context)
{
	struct ranged *ranged = context;
	const struct tree_key *key = old_item ? &old_item->key : &new_item->key;

	if (ranged->at == ranged->count)
		return 1;
	assert_int_equal(tree_key_compare(key, &ranged->keys[ranged->at]), 0);
	assert_int_equal((old_item != NULL) | (new_item != NULL) << 1, ranged->sides[ranged->at]);
	ranged->at++;
	return 0;
}

/* The walk over a range tells what the whole one tells there. */
static void check_diff_range(struct tree *old_tree, struct tree *new_tree, struct reader *reader,
			     struct tree_key from, struct tree_key to)
{
	static struct ranged ranged;
	int full;

	ranged.count = ranged.at = 0;
	ranged.from = from;
	ranged.to = to;
	full = tree_diff(old_tree, new_tree, reader, collect_in_range, &ranged);
	assert_int_equal(
		tree_diff_range(old_tree, new_tree, reader, &from, &to, follow_in_range, &ranged),
		full);
	assert_int_equal(ranged.at, ranged.count);
}

#endif
