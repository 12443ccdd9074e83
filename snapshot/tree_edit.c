/*
 * Changing the tree.
 *
 * Every change has three parts, so that a failure leaves the tree as it was:
 *   plan     go down, read and check whatever will take part, decide what happens at each level
 *   reserve  memory for every node that will be made or dropped
 *   apply    nothing can fail any more
 *
 * The way to the changed leaf is shadowed from the root down (I1), so parents are always
 * changeable when a child gets a new id.
 *
 * Splits follow what the writer does.  A file's extents, a new inode's items, a load in order all
 * go in ascending: a draft counts how many insertions in a row went in closely behind the one
 * before (the contents of many new files step over the items that came with their creation), and
 * such a run cuts the node where it stands instead of in halves.  At its upper edge that leaves
 * full nodes behind.  The last node of a level, into which new files go, is cut late even by an
 * insertion into its middle (a name in a new directory): few will follow that one.
 *
 * A node that falls below a third is joined with a neighbour under the same parent, or evened
 * out with it where both do not fit well into one.
 */
#include "snapshot/tree_internal.h"

#include <assert.h>
#include <errno.h>

enum {
	STREAK_MIN = 2,			       /* insertions in a row that count as a run */
	STREAK_GAP = 4,			       /* items that a run may step over */
	FILL_MIN = NODE_ROOM / 3,	       /* below it, a node looks for a neighbour */
	JOIN_MAX = NODE_ROOM - NODE_ROOM / 16, /* fuller than this would split again at once */
};

/* What is read from the index is checked in full before it becomes a draft. */
static int step_trust(const struct tree_step *step)
{
	if (step->draft)
		return 0;
	return node_check(step->node, node_level(step->node), UINT64_MAX, NULL) ? -EUCLEAN : 0;
}

static int path_trust(const struct tree_path *path)
{
	int err = 0;

	for (int level = path->top; level >= 0 && !err; level--)
		err = step_trust(&path->at[level]);
	return err;
}

/* How many nodes shadowing the path down to `lowest` may make. */
static unsigned path_shadows(const struct tree *tree, const struct tree_path *path, int lowest)
{
	unsigned nodes = 0;

	for (int level = lowest; level <= path->top; level++)
		nodes += !tree_may_change(tree, &path->at[level]);
	return nodes;
}

/* Shadows a child of the node at `level`, or the root for the level above the top. */
static void shadow_below(struct tree *tree, struct tree_path *path, int level, unsigned slot,
			 struct tree_step *step)
{
	const uint8_t *before = step->node;

	tree_shadow(tree, step);
	if (step->node == before)
		return;
	if (level > path->top)
		tree->root = node_id(step->node);
	else
		inner_set_child(path->at[level].draft->node, slot, node_id(step->node));
}

static void path_shadow(struct tree *tree, struct tree_path *path, int lowest)
{
	for (int level = path->top; level >= lowest; level--) {
		unsigned slot = level < path->top ? path->at[level + 1].slot : 0;

		shadow_below(tree, path, level + 1, slot, &path->at[level]);
	}
}

/* Whether the node at `level` is the last of its level in the whole tree. */
static bool path_is_last(const struct tree_path *path, int level)
{
	for (int above = level + 1; above <= path->top; above++) {
		const struct tree_step *step = &path->at[above];

		if (step->slot + 1u != node_count(step->node))
			return false;
	}
	return true;
}

static uint16_t streak_at(const struct draft *draft, unsigned slot)
{
	bool follows = slot > draft->last && slot - draft->last <= STREAK_GAP;

	if (!follows)
		return 0;
	return draft->streak < UINT16_MAX ? draft->streak + 1 : draft->streak;
}

static void draft_note(struct draft *draft, unsigned slot, uint16_t streak)
{
	draft->last = (uint16_t)slot;
	draft->streak = streak;
}

static enum cut choose_cut(const struct tree_path *path, int level, unsigned slot, uint16_t streak)
{
	bool at_end = slot == node_count(path->at[level].node);
	bool is_last = path_is_last(path, level);

	if (streak >= STREAK_MIN || (at_end && is_last))
		return CUT_BEHIND;
	return is_last ? CUT_LATE : CUT_EVEN;
}

/* After a split: the node that got the new slot goes on with the run. */
static void note_split(struct draft *left, struct draft *right, unsigned slot, uint16_t streak)
{
	unsigned count = node_count(left->node);

	draft_note(left, slot, slot < count ? streak : 0);
	draft_note(right, slot < count ? 0 : slot - count, slot < count ? 0 : streak);
}

/* Hangs a new right neighbour of the node below `level` into the path. */
static void hang_in(struct tree *tree, struct tree_path *path, int level, uint8_t *key,
		    uint64_t child)
{
	for (; level <= path->top; level++) {
		struct draft *draft = path->at[level].draft;
		unsigned slot = path->at[level].slot + 1u;
		uint16_t streak = streak_at(draft, slot);
		uint8_t separator[NODE_KEY];
		struct draft *right;
		enum cut cut;

		if (node_count(draft->node) < INNER_SLOTS) {
			inner_insert(draft->node, slot, key, child);
			draft_note(draft, slot, streak);
			return;
		}
		cut = choose_cut(path, level, slot, streak);
		right = tree_new_node(tree, (unsigned)level);
		inner_split(draft->node, right->node, slot, key, child, cut, separator);
		note_split(draft, right, slot, streak);
		memcpy(key, separator, NODE_KEY);
		child = node_id(right->node);
	}
	struct draft *root = tree_new_node(tree, (unsigned)level);

	inner_insert(root->node, 0, NULL, tree->root);
	inner_insert(root->node, 1, key, child);
	draft_note(root, 1, 0);
	tree->root = node_id(root->node);
}

/* A put as planned. */
struct put {
	const struct tree_key *key;
	const void *value;
	unsigned length;
	unsigned slot;
	bool replace; /* the item at `slot` */
	bool split;
};

/* How many nodes the put needs beside the shadows: 0 where the leaf has room. */
static int plan_splits(const struct tree_path *path, const struct put *put, unsigned *ret)
{
	unsigned nodes = 1;
	int level = 1;

	if (!put->split) {
		*ret = 0;
		return 0;
	}
	for (; level <= path->top && node_count(path->at[level].node) == INNER_SLOTS; level++)
		nodes++;
	if (level > path->top) {
		if (level >= TREE_DEPTH_MAX)
			return -EFBIG;
		nodes++;
	}
	*ret = nodes;
	return 0;
}

static void apply_split(struct tree *tree, struct tree_path *path, const struct put *put)
{
	struct draft *leaf = path->at[0].draft;
	uint16_t streak = put->replace ? 0 : streak_at(leaf, put->slot);
	enum cut cut = put->replace ? CUT_EVEN : choose_cut(path, 0, put->slot, streak);
	struct draft *right = tree_new_node(tree, 0);
	uint8_t separator[NODE_KEY];

	leaf_split(leaf->node, right->node, put->slot, put->replace, put->key, put->value,
		   put->length, cut);
	note_split(leaf, right, put->slot, streak);
	memcpy(separator, leaf_slot(right->node, 0)->key, NODE_KEY);
	hang_in(tree, path, 1, separator, node_id(right->node));
}

static void apply_put(struct tree *tree, struct tree_path *path, const struct put *put)
{
	struct draft *leaf;

	path_shadow(tree, path, 0);
	tree->changed = true;
	leaf = path->at[0].draft;
	if (put->split) {
		apply_split(tree, path, put);
	} else if (put->replace) {
		leaf_replace(leaf->node, put->slot, put->value, put->length);
	} else {
		uint16_t streak = streak_at(leaf, put->slot);

		leaf_insert(leaf->node, put->slot, put->key, put->value, put->length);
		draft_note(leaf, put->slot, streak);
	}
}

/* What would change nothing must not copy nodes, nor make a head differ from its point. */
static bool same_value(const uint8_t *leaf, const struct put *put)
{
	return leaf_length(leaf, put->slot) == put->length &&
	       (put->length == 0 ||
		memcmp(leaf_value(leaf, put->slot), put->value, put->length) == 0);
}

static int put_first(struct tree *tree, const struct put *put)
{
	struct draft *leaf;
	int err;

	err = tree_reserve(tree, 1, 0);
	if (err)
		return err;
	leaf = tree_new_node(tree, 0);
	leaf_insert(leaf->node, 0, put->key, put->value, put->length);
	tree->root = node_id(leaf->node);
	tree->changed = true;
	return 0;
}

int tree_put(struct tree *tree, struct reader *reader, const struct tree_key *key,
	     const void *value, size_t length)
{
	struct put put = {.key = key, .value = value, .length = (unsigned)length};
	struct packed_key packed = key_pack(key);
	struct tree_path path;
	const uint8_t *leaf;
	unsigned shadows, splits;
	int err;

	if (tree->generation == 0)
		return -EROFS;
	if (length > TREE_VALUE_MAX)
		return -EINVAL;
	if (tree->root == 0)
		return put_first(tree, &put);
	err = tree_descend(tree, reader, packed, &path);
	if (err)
		return err;
	err = path_trust(&path);
	if (err)
		return err;
	leaf = path.at[0].node;
	put.slot = path.at[0].slot;
	put.replace = put.slot > 0 && leaf_has_key(leaf, put.slot - 1, packed);
	put.slot -= put.replace;
	if (put.replace && same_value(leaf, &put))
		return 0;
	put.split = put.replace ? !leaf_fits_replaced(leaf, put.slot, put.length)
				: !leaf_fits(leaf, put.length);
	err = plan_splits(&path, &put, &splits);
	if (err)
		return err;
	shadows = path_shadows(tree, &path, 0);
	if (shadows + splits > 0) {
		err = tree_reserve(tree, shadows + splits, 0);
		if (err)
			return err;
	}
	apply_put(tree, &path, &put);
	return 0;
}

enum fix {
	FIX_NONE,
	FIX_JOIN,    /* with the sibling; the right one of the two goes */
	FIX_BALANCE, /* with the sibling */
};

/* A removal of leaf items as planned. */
struct removal {
	unsigned from, to; /* slots of the leaf */
	int lowest;	   /* the levels below it vanish altogether; above the top: all do */
	int last;	   /* the last level where something is removed or fixed */
	enum fix fix[TREE_DEPTH_MAX];
	bool sibling_is_left[TREE_DEPTH_MAX];
	struct tree_step sibling[TREE_DEPTH_MAX];
};

/* A neighbour that can take part, or false.  One that cannot be read is no reason to refuse the
 * removal: the node stays small. */
static bool find_sibling(const struct tree *tree, struct reader *reader,
			 const struct tree_path *path, int level, bool left, struct tree_step *ret)
{
	const struct tree_step *parent = &path->at[level + 1];
	unsigned slot = parent->slot;

	if (left ? slot == 0 : slot + 1 == node_count(parent->node))
		return false;
	if (tree_child(tree, reader, parent->node, left ? slot - 1 : slot + 1, ret) != 0)
		return false;
	return step_trust(ret) == 0 && node_id(ret->node) != node_id(path->at[level].node);
}

/* Chooses what to do about the node at `level` that will be small. */
static void plan_fix(const struct tree *tree, struct reader *reader, const struct tree_path *path,
		     int level, unsigned used, struct removal *removal)
{
	int best_score = 0;

	for (int left = 1; left >= 0; left--) {
		struct tree_step sibling;
		unsigned together;
		int score;

		if (!find_sibling(tree, reader, path, level, left, &sibling))
			continue;
		together = used + node_used(sibling.node);
		score = together <= JOIN_MAX ? 3 : 1;
		score += tree_may_change(tree, &sibling);
		if (score <= best_score)
			continue;
		best_score = score;
		removal->fix[level] = together <= JOIN_MAX ? FIX_JOIN : FIX_BALANCE;
		removal->sibling[level] = sibling;
		removal->sibling_is_left[level] = left;
	}
}

static unsigned removed_bytes(const uint8_t *leaf, unsigned from, unsigned to)
{
	unsigned bytes = (to - from) * (unsigned)sizeof(struct leaf_slot);

	for (unsigned slot = from; slot < to; slot++)
		bytes += leaf_length(leaf, slot);
	return bytes;
}

/* `settle`: whether a leaf that is small afterwards is joined. */
static void plan_removal(const struct tree *tree, struct reader *reader,
			 const struct tree_path *path, bool settle, struct removal *removal)
{
	unsigned removed = removal->to - removal->from;
	unsigned bytes = removed_bytes(path->at[0].node, removal->from, removal->to);

	removal->lowest = 0;
	for (int level = 0;; level++) {
		const uint8_t *node = path->at[level].node;
		unsigned used = node_used(node) - bytes;

		removal->last = level;
		removal->fix[level] = FIX_NONE;
		if (node_count(node) == removed) {
			removal->lowest = level + 1;
			if (level == path->top)
				return;
		} else {
			if (level == path->top || used >= FILL_MIN || (level == 0 && !settle))
				return;
			plan_fix(tree, reader, path, level, used, removal);
			if (removal->fix[level] != FIX_JOIN)
				return;
		}
		removed = 1;
		bytes = sizeof(struct inner_slot);
	}
}

static int reserve_removal(struct tree *tree, const struct tree_path *path,
			   const struct removal *removal)
{
	unsigned nodes = path_shadows(tree, path, removal->lowest);

	for (int level = removal->lowest; level <= removal->last; level++) {
		if (removal->fix[level] != FIX_NONE)
			nodes += !tree_may_change(tree, &removal->sibling[level]);
	}
	return tree_reserve(tree, nodes, 2 * TREE_DEPTH_MAX);
}

/* Joins or balances the node at `level` with its sibling; returns the slot that the parent
 * loses, or -1. */
static int apply_fix(struct tree *tree, struct tree_path *path, int level, struct removal *removal)
{
	struct tree_step *node = &path->at[level];
	struct tree_step *sibling = &removal->sibling[level];
	struct tree_step *parent = &path->at[level + 1];
	bool is_left = removal->sibling_is_left[level];
	struct tree_step *left = is_left ? sibling : node;
	struct tree_step *right = is_left ? node : sibling;
	unsigned right_slot = parent->slot + (is_left ? 0u : 1u);
	uint8_t separator[NODE_KEY];

	shadow_below(tree, path, level + 1, is_left ? right_slot - 1 : right_slot, sibling);
	left->draft->streak = 0;
	right->draft->streak = 0;
	memcpy(separator, inner_slot(parent->node, right_slot)->key, NODE_KEY);
	if (removal->fix[level] == FIX_JOIN) {
		if (level == 0)
			leaf_join(left->draft->node, right->draft->node);
		else
			inner_join(left->draft->node, right->draft->node, separator);
		tree_drop(tree, right);
		return (int)right_slot;
	}
	if (level == 0) {
		leaf_balance(left->draft->node, right->draft->node);
		memcpy(separator, leaf_slot(right->node, 0)->key, NODE_KEY);
	} else {
		inner_balance(left->draft->node, right->draft->node, separator);
	}
	inner_set_key(parent->draft->node, right_slot, separator);
	return -1;
}

/* A root with one child gives way to it.  Where the child cannot be read the tree just stays
 * one level higher than it need be. */
static void collapse_root(struct tree *tree, struct reader *reader)
{
	struct tree_step root, child;

	while (tree_root_node(tree, reader, &root) == 0 && node_level(root.node) > 0 &&
	       node_count(root.node) == 1) {
		if (tree_child(tree, reader, root.node, 0, &child) != 0)
			return;
		tree->root = node_id(child.node);
		tree_drop(tree, &root);
	}
}

static void apply_removal(struct tree *tree, struct reader *reader, struct tree_path *path,
			  struct removal *removal)
{
	int lowest = removal->lowest;
	int slot = -1;

	tree->changed = true;
	path_shadow(tree, path, lowest);
	for (int level = 0; level < lowest; level++)
		tree_drop(tree, &path->at[level]);
	if (lowest > path->top) {
		tree->root = 0;
		return;
	}
	if (lowest == 0)
		leaf_remove(path->at[0].draft->node, removal->from, removal->to);
	else
		slot = path->at[lowest].slot;
	for (int level = lowest; level <= removal->last; level++) {
		struct draft *draft = path->at[level].draft;

		draft->streak = 0;
		if (level > 0 && slot >= 0)
			inner_remove(draft->node, (unsigned)slot);
		if (removal->fix[level] == FIX_NONE)
			break;
		/* The parent still shows the slots as they were. */
		slot = apply_fix(tree, path, level, removal);
	}
	collapse_root(tree, reader);
}

/* Removes the slots from <= slot < to of the path's leaf; none: only joins it if it is small. */
static int remove_run(struct tree *tree, struct reader *reader, struct tree_path *path,
		      unsigned from, unsigned to, bool settle)
{
	struct removal removal = {.from = from, .to = to};
	int err;

	err = path_trust(path);
	if (err)
		return err;
	plan_removal(tree, reader, path, settle, &removal);
	if (from == to && removal.fix[0] == FIX_NONE)
		return 0;
	err = reserve_removal(tree, path, &removal);
	if (err)
		return err;
	apply_removal(tree, reader, path, &removal);
	return 0;
}

int tree_delete(struct tree *tree, struct reader *reader, const struct tree_key *key)
{
	struct packed_key packed = key_pack(key);
	struct tree_path path;
	unsigned slot;
	int err;

	if (tree->generation == 0)
		return -EROFS;
	if (tree->root == 0)
		return -ENOENT;
	err = tree_descend(tree, reader, packed, &path);
	if (err)
		return err;
	slot = path.at[0].slot;
	if (slot == 0 || !leaf_has_key(path.at[0].node, slot - 1, packed))
		return -ENOENT;
	return remove_run(tree, reader, &path, slot - 1, slot, true);
}

/* The first key above all that the path's leaf can hold; false: it is the last leaf. */
static bool path_upper_bound(const struct tree_path *path, struct packed_key *ret)
{
	for (int level = 1; level <= path->top; level++) {
		const struct tree_step *step = &path->at[level];

		if (step->slot + 1u < node_count(step->node)) {
			*ret = key_load(inner_slot(step->node, step->slot + 1u)->key);
			return true;
		}
	}
	return false;
}

/* Joins the leaf at `key` if a range delete left it small; that it cannot is no failure. */
static void settle_leaf(struct tree *tree, struct reader *reader, struct packed_key key)
{
	struct tree_path path;

	if (tree->root == 0 || tree_descend(tree, reader, key, &path) != 0)
		return;
	if (path.top == 0 || leaf_used(path.at[0].node) >= FILL_MIN)
		return;
	(void)remove_run(tree, reader, &path, 0, 0, true);
}

/* One leaf at a time: what falls into the range goes in one piece, and a leaf that lies in it
 * altogether is dropped without being copied. */
int64_t tree_delete_range(struct tree *tree, struct reader *reader, const struct tree_key *from,
			  const struct tree_key *to)
{
	struct packed_key first = key_pack(from);
	struct packed_key last = key_pack(to);
	struct packed_key at = first;
	bool more = true;
	int64_t total = 0;

	if (tree->generation == 0)
		return -EROFS;
	while (more && tree->root != 0 && key_not_above(at, last)) {
		struct tree_path path;
		struct packed_key bound;
		const uint8_t *leaf;
		unsigned begin, end;
		int err;

		err = tree_descend(tree, reader, at, &path);
		if (err)
			return err;
		leaf = path.at[0].node;
		begin = path.at[0].slot;
		if (begin > 0 && leaf_has_key(leaf, begin - 1, at))
			begin--;
		end = leaf_search(leaf, last);
		more = end == node_count(leaf) && path_upper_bound(&path, &bound);
		if (begin < end) {
			err = remove_run(tree, reader, &path, begin, end, !more);
			if (err)
				return err;
			total += end - begin;
		}
		if (more)
			at = bound;
	}
	if (total > 0)
		settle_leaf(tree, reader, first);
	return total;
}
