/*
 * Differences between two trees that share nodes.
 *
 * One position walks through each tree, in order of key.  A position stands at an item, or at
 * a subtree that it has not opened.  As the same node id means the same contents, two positions
 * that both stand at the beginning of the same subtree both skip it; whatever differs around
 * it (level of the trees, bounds, number of siblings) does not matter.
 *
 * A subtree is opened only when that cannot be avoided: of two different subtrees the one that
 * begins lower, since the other might turn up there later; where both begin at the same key, the
 * higher one, which might contain the other; if they are of the same level, both.  An item that
 * lies before the other side's subtree is on its side only, and the subtree stays closed.  So
 * what is read is what differs, and the way down to it.
 */
#include "snapshot/tree_internal.h"

#include <errno.h>

struct position {
	struct tree *tree;
	struct reader *reader;
	int top;   /* level of the root */
	int level; /* lowest opened level: 0: at an item; top + 1: not even the root is open */
	bool at_end;
	uint64_t root;
	size_t opened;			     /* how many nodes so far */
	struct tree_step at[TREE_DEPTH_MAX]; /* by level; those below `level` are not open */
};

static int position_start(struct position *position, struct tree *tree, struct reader *reader)
{
	struct tree_step root;
	int err;

	*position = (struct position){.tree = tree, .reader = reader, .root = tree->root};
	if (tree->root == 0) {
		position->at_end = true;
		return 0;
	}
	err = tree_root_node(tree, reader, &root);
	if (err)
		return err;
	position->top = (int)node_level(root.node);
	position->level = position->top + 1;
	return 0;
}

/* Opens the subtree that the position stands at. */
static int position_open(struct position *position)
{
	int level = position->level;
	struct tree_step step;
	int err;

	if (level > position->top)
		err = tree_root_node(position->tree, position->reader, &step);
	else
		err = tree_child(position->tree, position->reader, position->at[level].node,
				 position->at[level].slot, &step);
	if (err)
		return err;
	if (!step.draft && node_check(step.node, node_level(step.node), UINT64_MAX, NULL))
		return -EUCLEAN;
	step.slot = 0;
	position->opened++;
	position->level = level - 1;
	position->at[level - 1] = step;
	return 0;
}

/* Leaves everything below `level`, and goes on to the next slot there or above. */
static void position_skip(struct position *position, int level)
{
	for (; level <= position->top; level++) {
		struct tree_step *step = &position->at[level];

		if (step->slot + 1u < node_count(step->node)) {
			step->slot++;
			position->level = level;
			return;
		}
	}
	position->at_end = true;
}

static bool position_at_item(const struct position *position)
{
	return position->level == 0;
}

static void position_item(const struct position *position, struct tree_item *ret)
{
	leaf_item(position->at[0].node, position->at[0].slot, ret);
}

/* No key from here on is below this one. */
static struct packed_key position_key(const struct position *position)
{
	const struct tree_step *step = &position->at[0];

	if (position_at_item(position))
		return key_load(leaf_slot(step->node, step->slot)->key);
	for (int level = position->level; level <= position->top; level++) {
		step = &position->at[level];
		if (step->slot > 0)
			return key_load(inner_slot(step->node, step->slot)->key);
	}
	return (struct packed_key){0, 0};
}

/* The id of the node of that level at whose beginning the position stands, or 0. */
static uint64_t position_node(const struct position *position, int level)
{
	if (level > position->top || level < position->level - 1)
		return 0;
	for (int below = position->level; below <= level; below++) {
		if (position->at[below].slot > 0)
			return 0;
	}
	if (level == position->top)
		return position->root;
	return inner_child(position->at[level + 1].node, position->at[level + 1].slot);
}

/* Skips the largest subtree at the beginning of which both stand. */
static bool skip_shared(struct position *a, struct position *b)
{
	int level = a->level > b->level ? a->level - 1 : b->level - 1;
	int found = -1;

	for (level = level < 0 ? 0 : level; level < TREE_DEPTH_MAX; level++) {
		uint64_t id = position_node(a, level);
		uint64_t other = position_node(b, level);

		if (id == 0 || other == 0)
			break;
		if (id == other)
			found = level;
	}
	if (found < 0)
		return false;
	position_skip(a, found + 1);
	position_skip(b, found + 1);
	return true;
}

static bool same_value(const struct tree_item *a, const struct tree_item *b)
{
	return a->length == b->length && memcmp(a->value, b->value, a->length) == 0;
}

/* Where both stand at items: tells the difference and goes on. */
static int diff_items(struct position *a, struct position *b, tree_diff_visitor *visit,
		      void *context)
{
	struct packed_key key_a = position_key(a);
	struct packed_key key_b = position_key(b);
	struct tree_item item_a, item_b;
	bool take_a = key_not_above(key_a, key_b);
	bool take_b = key_not_above(key_b, key_a);
	int result = 0;

	position_item(a, &item_a);
	position_item(b, &item_b);
	if (!take_a || !take_b || !same_value(&item_a, &item_b))
		result = visit(take_a ? &item_a : NULL, take_b ? &item_b : NULL, context);
	if (take_a)
		position_skip(a, 0);
	if (take_b)
		position_skip(b, 0);
	return result;
}

/* One step where only `one` has anything left, or lies before the other. */
static int diff_alone(struct position *one, bool is_old, tree_diff_visitor *visit, void *context)
{
	struct tree_item item;
	int result;

	if (!position_at_item(one))
		return position_open(one);
	position_item(one, &item);
	result = visit(is_old ? &item : NULL, is_old ? NULL : &item, context);
	position_skip(one, 0);
	return result;
}

static int diff_step(struct position *a, struct position *b, tree_diff_visitor *visit,
		     void *context)
{
	struct packed_key key_a = position_key(a);
	struct packed_key key_b = position_key(b);
	int err;

	if (position_at_item(a) && position_at_item(b))
		return diff_items(a, b, visit, context);
	if (position_at_item(a))
		return key_below(key_a, key_b) ? diff_alone(a, true, visit, context)
					       : position_open(b);
	if (position_at_item(b))
		return key_below(key_b, key_a) ? diff_alone(b, false, visit, context)
					       : position_open(a);
	if (key_below(key_a, key_b))
		return position_open(a);
	if (key_below(key_b, key_a))
		return position_open(b);
	if (a->level != b->level)
		return position_open(a->level > b->level ? a : b);
	err = position_open(a);
	return err ? err : position_open(b);
}

int tree_diff_counted(struct tree *old_tree, struct tree *new_tree, struct reader *reader,
		      tree_diff_visitor *visit, void *context, size_t *ret_opened)
{
	struct position a, b;
	int result;

	*ret_opened = 0;
	if (old_tree->root == new_tree->root)
		return 0;
	result = position_start(&a, old_tree, reader);
	if (result == 0)
		result = position_start(&b, new_tree, reader);
	while (result == 0 && !(a.at_end && b.at_end)) {
		if (a.at_end)
			result = diff_alone(&b, false, visit, context);
		else if (b.at_end)
			result = diff_alone(&a, true, visit, context);
		else if (!skip_shared(&a, &b))
			result = diff_step(&a, &b, visit, context);
	}
	if (result == 0)
		*ret_opened = a.opened + b.opened;
	return result;
}

/* Goes to the first item with a key >= `key`, and opens what is above it. */
static int position_seek(struct position *position, struct packed_key key)
{
	while (!position->at_end && position->level > 0) {
		int err = position_open(position);
		struct tree_step *step = &position->at[position->level];

		if (err)
			return err;
		if (position->level > 0) {
			step->slot = (uint16_t)inner_search(step->node, key);
			continue;
		}
		step->slot = (uint16_t)leaf_search(step->node, key);
		if (step->slot > 0 && leaf_has_key(step->node, step->slot - 1u, key))
			step->slot--;
		if (step->slot == node_count(step->node)) {
			position_skip(position, 1);
			return 0;
		}
	}
	return 0;
}

int tree_diff_range(struct tree *old_tree, struct tree *new_tree, struct reader *reader,
		    const struct tree_key *from, const struct tree_key *to,
		    tree_diff_visitor *visit, void *context)
{
	struct packed_key begin = key_pack(from), end = key_pack(to);
	struct position a, b;
	int result;

	if (old_tree->root == new_tree->root)
		return 0;
	result = position_start(&a, old_tree, reader);
	if (result == 0)
		result = position_start(&b, new_tree, reader);
	if (result == 0)
		result = position_seek(&a, begin);
	if (result == 0)
		result = position_seek(&b, begin);
	while (result == 0) {
		bool a_ends = a.at_end || key_below(end, position_key(&a));
		bool b_ends = b.at_end || key_below(end, position_key(&b));

		if (a_ends && b_ends)
			break;
		if (a_ends)
			result = diff_alone(&b, false, visit, context);
		else if (b_ends)
			result = diff_alone(&a, true, visit, context);
		else if (!skip_shared(&a, &b))
			result = diff_step(&a, &b, visit, context);
	}
	return result;
}

int tree_diff(struct tree *old_tree, struct tree *new_tree, struct reader *reader,
	      tree_diff_visitor *visit, void *context)
{
	size_t opened;

	return tree_diff_counted(old_tree, new_tree, reader, visit, context, &opened);
}
