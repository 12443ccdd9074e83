/*
 * A stand-in for snapshot/tree.h: a sorted array.  Programs that include this file get these
 * functions instead of the room's (the linker then takes nothing from tree.o), which gives
 *
 *   - failure of the Nth change, with everything as it was before that change, as tree.h promises;
 *   - a check on borrowed memory: values are exact malloc blocks, and what a read lent out moves at
 *     the next change, so that the address sanitizer sees any use that outlives its promise;
 *   - a count of changes.
 *
 * Readers are not used: pass NULL.
 */
#ifndef CAIRN_TESTS_MEMORY_TREE_H
#define CAIRN_TESTS_MEMORY_TREE_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/tree.h"

struct memory_item {
	struct tree_key key;
	uint8_t *value; /* owned */
	uint16_t length;
	bool lent;
};

struct tree {
	struct memory_item *items;
	size_t count, capacity;
	uint64_t version;
	long fail_after; /* this many changes succeed, then one fails; negative: none fails */
	long puts, deletes;
};

static struct tree *memory_tree_new(void)
{
	struct tree *tree = calloc(1, sizeof(*tree));

	assert_non_null(tree);
	tree->fail_after = -1;
	return tree;
}

static void memory_tree_free(struct tree *tree)
{
	for (size_t i = 0; i < tree->count; i++)
		free(tree->items[i].value);
	free(tree->items);
	free(tree);
}

static uint8_t *memory_copy(const void *value, size_t length)
{
	uint8_t *copy = malloc(length ? length : 1);

	assert_non_null(copy);
	if (length > 0)
		memcpy(copy, value, length);
	return copy;
}

static inline struct tree *memory_tree_clone(const struct tree *tree)
{
	struct tree *clone = memory_tree_new();

	clone->items = calloc(tree->count + 1, sizeof(*clone->items));
	assert_non_null(clone->items);
	for (size_t i = 0; i < tree->count; i++) {
		clone->items[i] = tree->items[i];
		clone->items[i].value = memory_copy(tree->items[i].value, tree->items[i].length);
		clone->items[i].lent = false;
	}
	clone->count = tree->count;
	clone->capacity = tree->count + 1;
	return clone;
}

static inline bool memory_tree_equal(const struct tree *a, const struct tree *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++) {
		const struct memory_item *x = &a->items[i];
		const struct memory_item *y = &b->items[i];

		if (tree_key_compare(&x->key, &y->key) || x->length != y->length ||
		    memcmp(x->value, y->value, x->length) != 0)
			return false;
	}
	return true;
}

int tree_key_compare(const struct tree_key *a, const struct tree_key *b)
{
	if (a->ino != b->ino)
		return a->ino < b->ino ? -1 : 1;
	if (a->type != b->type)
		return a->type < b->type ? -1 : 1;
	return (a->offset > b->offset) - (a->offset < b->offset);
}

/* The number of items with a smaller key. */
static size_t memory_position(const struct tree *tree, const struct tree_key *key)
{
	size_t low = 0;
	size_t high = tree->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (tree_key_compare(&tree->items[middle].key, key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool memory_has(const struct tree *tree, size_t at, const struct tree_key *key)
{
	return at < tree->count && tree_key_compare(&tree->items[at].key, key) == 0;
}

static int memory_lend(struct tree *tree, size_t at, struct tree_item *ret)
{
	struct memory_item *item = &tree->items[at];

	item->lent = true;
	*ret = (struct tree_item){item->key, item->value, item->length};
	return 0;
}

static int memory_change(struct tree *tree)
{
	if (tree->fail_after == 0) {
		tree->fail_after = -1;
		return -ENOMEM;
	}
	if (tree->fail_after > 0)
		tree->fail_after--;
	tree->version++;
	for (size_t i = 0; i < tree->count; i++) {
		struct memory_item *item = &tree->items[i];

		if (item->lent) {
			uint8_t *moved = memory_copy(item->value, item->length);

			free(item->value);
			item->value = moved;
			item->lent = false;
		}
	}
	return 0;
}

struct store *tree_store(const struct tree *tree)
{
	(void)tree;
	return NULL;
}

int tree_get(struct tree *tree, struct reader *reader, const struct tree_key *key,
	     struct tree_item *ret)
{
	size_t at = memory_position(tree, key);

	(void)reader;
	return memory_has(tree, at, key) ? memory_lend(tree, at, ret) : -ENOENT;
}

int tree_put(struct tree *tree, struct reader *reader, const struct tree_key *key,
	     const void *value, size_t length)
{
	size_t at = memory_position(tree, key);
	uint8_t *copy;
	int error = memory_change(tree);

	(void)reader;
	if (error)
		return error;
	assert_true(length <= TREE_VALUE_MAX);
	copy = memory_copy(value, length);
	tree->puts++;
	if (!memory_has(tree, at, key)) {
		if (tree->count == tree->capacity) {
			tree->capacity = 2 * tree->capacity + 64;
			tree->items =
				reallocarray(tree->items, tree->capacity, sizeof(*tree->items));
			assert_non_null(tree->items);
		}
		memmove(tree->items + at + 1, tree->items + at,
			(tree->count - at) * sizeof(*tree->items));
		tree->items[at] = (struct memory_item){.key = *key};
		tree->count++;
	}
	free(tree->items[at].value);
	tree->items[at].value = copy;
	tree->items[at].length = (uint16_t)length;
	return 0;
}

static void memory_remove(struct tree *tree, size_t at)
{
	free(tree->items[at].value);
	tree->count--;
	memmove(tree->items + at, tree->items + at + 1, (tree->count - at) * sizeof(*tree->items));
	tree->deletes++;
}

int tree_delete(struct tree *tree, struct reader *reader, const struct tree_key *key)
{
	size_t at = memory_position(tree, key);
	int error;

	(void)reader;
	if (!memory_has(tree, at, key))
		return -ENOENT;
	error = memory_change(tree);
	if (!error)
		memory_remove(tree, at);
	return error;
}

int64_t tree_delete_range(struct tree *tree, struct reader *reader, const struct tree_key *from,
			  const struct tree_key *to)
{
	size_t at = memory_position(tree, from);
	int64_t count = 0;

	(void)reader;
	while (at < tree->count && tree_key_compare(&tree->items[at].key, to) <= 0) {
		int error = memory_change(tree);

		if (error)
			return error;
		memory_remove(tree, at);
		count++;
	}
	return count;
}

/* A cursor keeps the next position in `reader` and the version of the tree in `depth`. */
static int memory_go(struct tree *tree, size_t at, struct tree_cursor *ret_cursor,
		     struct tree_item *ret)
{
	ret_cursor->tree = tree;
	ret_cursor->depth = (int)(tree->version & INT32_MAX);
	ret_cursor->reader = (struct reader *)(uintptr_t)(at + 1);
	return memory_lend(tree, at, ret);
}

int tree_seek(struct tree *tree, struct reader *reader, const struct tree_key *key,
	      struct tree_cursor *ret_cursor, struct tree_item *ret)
{
	size_t at = memory_position(tree, key);

	(void)reader;
	return at < tree->count ? memory_go(tree, at, ret_cursor, ret) : -ENOENT;
}

int tree_seek_before(struct tree *tree, struct reader *reader, const struct tree_key *key,
		     struct tree_cursor *ret_cursor, struct tree_item *ret)
{
	size_t at = memory_position(tree, key);

	(void)reader;
	if (!memory_has(tree, at, key)) {
		if (at == 0)
			return -ENOENT;
		at--;
	}
	return memory_go(tree, at, ret_cursor, ret);
}

int tree_next(struct tree_cursor *cursor, struct tree_item *ret)
{
	struct tree *tree = cursor->tree;
	size_t at = (size_t)(uintptr_t)cursor->reader;

	assert_int_equal(cursor->depth, (int)(tree->version & INT32_MAX));
	return at < tree->count ? memory_go(tree, at, cursor, ret) : -ENOENT;
}

#endif
