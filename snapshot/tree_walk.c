/*
 * Walking the tree: cursors, marking, checking.
 */
#include "snapshot/tree_internal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>

/* Appends a node to the cursor's path, its root first. */
static void cursor_push(struct tree_cursor *cursor, const struct tree_step *step)
{
	cursor->path[cursor->depth].node = step->node;
	cursor->path[cursor->depth].slot = step->slot;
	cursor->depth++;
}

static int cursor_item(const struct tree_cursor *cursor, struct tree_item *ret)
{
	int leaf = cursor->depth - 1;

	return leaf_item_checked(cursor->path[leaf].node, cursor->path[leaf].slot, ret);
}

/* Completes the path below its last node, which is an inner one, along the lower or the upper
 * edge. */
static int cursor_sink(struct tree_cursor *cursor, bool upper)
{
	struct tree_step step;
	int last = cursor->depth - 1;
	const uint8_t *node = cursor->path[last].node;
	unsigned slot = cursor->path[last].slot;

	while (node_level(node) > 0) {
		int err = tree_child(cursor->tree, cursor->reader, node, slot, &step);

		if (err) {
			cursor->depth = 0; /* half a path leads nowhere */
			return err;
		}
		node = step.node;
		slot = upper ? node_count(node) - 1 : 0;
		step.slot = (uint16_t)slot;
		cursor_push(cursor, &step);
	}
	return 0;
}

/* Goes on from the end of a leaf. */
static int cursor_next_leaf(struct tree_cursor *cursor)
{
	int depth = cursor->depth - 1;

	while (depth > 0) {
		unsigned next = cursor->path[depth - 1].slot + 1u;

		if (next < node_count(cursor->path[depth - 1].node)) {
			cursor->path[depth - 1].slot = (uint16_t)next;
			cursor->depth = depth;
			return cursor_sink(cursor, false);
		}
		depth--;
	}
	return -ENOENT;
}

static int cursor_previous_leaf(struct tree_cursor *cursor)
{
	int depth = cursor->depth - 1;

	while (depth > 0) {
		if (cursor->path[depth - 1].slot > 0) {
			cursor->path[depth - 1].slot--;
			cursor->depth = depth;
			return cursor_sink(cursor, true);
		}
		depth--;
	}
	return -ENOENT;
}

/* Sets the cursor to the leaf that covers `key`; its slot is the number of keys not above it. */
static int cursor_descend(struct tree *tree, struct reader *reader, struct packed_key key,
			  struct tree_cursor *ret)
{
	struct tree_path path;
	int err;

	ret->tree = tree;
	ret->reader = reader;
	ret->depth = 0;
	if (tree->root == 0)
		return -ENOENT;
	err = tree_descend(tree, reader, key, &path);
	if (err)
		return err;
	for (int level = path.top; level >= 0; level--)
		cursor_push(ret, &path.at[level]);
	return 0;
}

int tree_seek(struct tree *tree, struct reader *reader, const struct tree_key *key,
	      struct tree_cursor *ret_cursor, struct tree_item *ret)
{
	struct packed_key packed = key_pack(key);
	const uint8_t *leaf;
	uint16_t *slot;
	int err;

	err = cursor_descend(tree, reader, packed, ret_cursor);
	if (err)
		return err;
	leaf = ret_cursor->path[ret_cursor->depth - 1].node;
	slot = &ret_cursor->path[ret_cursor->depth - 1].slot;
	if (*slot > 0 && leaf_has_key(leaf, *slot - 1u, packed)) {
		(*slot)--;
	} else if (*slot == node_count(leaf)) {
		err = cursor_next_leaf(ret_cursor);
		if (err)
			return err;
	}
	return cursor_item(ret_cursor, ret);
}

int tree_seek_before(struct tree *tree, struct reader *reader, const struct tree_key *key,
		     struct tree_cursor *ret_cursor, struct tree_item *ret)
{
	uint16_t *slot;
	int err;

	err = cursor_descend(tree, reader, key_pack(key), ret_cursor);
	if (err)
		return err;
	slot = &ret_cursor->path[ret_cursor->depth - 1].slot;
	if (*slot > 0) {
		(*slot)--;
	} else {
		err = cursor_previous_leaf(ret_cursor);
		if (err)
			return err;
	}
	return cursor_item(ret_cursor, ret);
}

int tree_next(struct tree_cursor *cursor, struct tree_item *ret)
{
	int leaf = cursor->depth - 1;
	unsigned next;
	int err;

	if (leaf < 0)
		return -ENOENT;
	next = cursor->path[leaf].slot + 1u;
	if (next < node_count(cursor->path[leaf].node)) {
		cursor->path[leaf].slot = (uint16_t)next;
	} else {
		err = cursor_next_leaf(cursor);
		if (err)
			return err;
	}
	return cursor_item(cursor, ret);
}

/* A walk over committed nodes, each once. */
struct walk {
	struct reader *reader;
	struct idset *nodes;			    /* or: */
	int (*enter)(uint64_t node, void *context); /* 1: go in, 0: do not, or an error */
	int (*visit)(const struct tree_item *item, void *context);
	void *context;
	struct errbuf *err; /* of a check */
	bool check;	    /* also keys against the parent's, and shared bytes */
};

/* What a node's parent says about it. */
struct expectation {
	unsigned level;
	uint64_t birth; /* not younger than this */
	bool bounded;	/* keys are below `end` */
	struct packed_key begin, end;
};

static int walk_error(const struct walk *walk, int error, uint64_t id, unsigned slot,
		      const char *what)
{
	if (error == -EUCLEAN)
		return err_set(walk->err, error, "node %" PRIu64 ", slot %u: %s", id, slot, what);
	if (error == -EBADMSG)
		return err_set(walk->err, error, "node %" PRIu64 ": wrong checksum", id);
	return err_set(walk->err, error, "node %" PRIu64 " cannot be read", id);
}

static int walk_check(const struct walk *walk, const uint8_t *node,
		      const struct expectation *expected)
{
	unsigned level = expected->level;
	unsigned last = node_count(node) - 1;
	uint64_t id = node_id(node);
	unsigned slot;
	const char *wrong = node_check(node, level, expected->birth, &slot);
	const uint8_t *low, *high;

	if (wrong)
		return walk_error(walk, -EUCLEAN, id, slot, wrong);
	if (!walk->check)
		return 0;
	if (level == 0 && !leaf_values_disjoint(node))
		return walk_error(walk, -EUCLEAN, id, 0, "values overlap");
	/* Slot 0 of an inner node has no key of its own. */
	slot = level > 0;
	if (slot > last)
		return 0;
	low = level ? inner_slot(node, slot)->key : leaf_slot(node, slot)->key;
	high = level ? inner_slot(node, last)->key : leaf_slot(node, last)->key;
	if (key_below(key_load(low), expected->begin))
		return walk_error(walk, -EUCLEAN, id, slot, "key below the parent's");
	if (expected->bounded && !key_below(key_load(high), expected->end))
		return walk_error(walk, -EUCLEAN, id, last, "key above the parent's");
	return 0;
}

static int walk_leaf(const struct walk *walk, const uint8_t *node)
{
	unsigned count = node_count(node);
	int result = 0;

	for (unsigned slot = 0; slot < count && result == 0; slot++) {
		struct tree_item item;

		leaf_item(node, slot, &item);
		result = walk->visit(&item, walk->context);
	}
	return result;
}

static int walk_node(const struct walk *walk, uint64_t id, const struct expectation *expected);

static int walk_children(const struct walk *walk, const uint8_t *node,
			 const struct expectation *expected)
{
	unsigned count = node_count(node);
	int result = 0;

	for (unsigned slot = 0; slot < count && result == 0; slot++) {
		struct expectation below = *expected;

		below.level = expected->level - 1;
		below.birth = node_birth(node);
		if (slot > 0)
			below.begin = key_load(inner_slot(node, slot)->key);
		if (slot + 1 < count) {
			below.bounded = true;
			below.end = key_load(inner_slot(node, slot + 1)->key);
		}
		result = walk_node(walk, inner_child(node, slot), &below);
	}
	return result;
}

/* The levels fall strictly, so that not even a damaged tree can lead in circles. */
static int walk_node(const struct walk *walk, uint64_t id, const struct expectation *expected)
{
	struct expectation own = *expected;
	const uint8_t *node;
	int err;

	err = walk->enter ? walk->enter(id, walk->context) : idset_add(walk->nodes, id);
	if (err <= 0)
		return err;
	/* Nothing to learn from the leaf: it need not even be read. */
	if (own.level == 0 && !walk->visit && !walk->check)
		return 0;
	err = reader_node(walk->reader, id, &node);
	if (err)
		return walk_error(walk, err, id, 0, "referred to, but missing or not itself");
	if (own.level == TREE_DEPTH_MAX) {
		own.level = node_level(node);
		if (own.level >= TREE_DEPTH_MAX)
			return walk_error(walk, -EUCLEAN, id, 0, "impossible level");
	}
	err = walk_check(walk, node, &own);
	if (err)
		return err;
	if (own.level > 0)
		return walk_children(walk, node, &own);
	return walk->visit ? walk_leaf(walk, node) : 0;
}

static int walk_root(const struct walk *walk, uint64_t root)
{
	/* The root is of any level. */
	struct expectation expected = {.level = TREE_DEPTH_MAX, .birth = UINT64_MAX};

	return root == 0 ? 0 : walk_node(walk, root, &expected);
}

int tree_mark(struct store *store, struct reader *reader, uint64_t root, struct idset *nodes,
	      int (*visit)(const struct tree_item *item, void *context), void *context)
{
	struct walk walk = {.reader = reader, .nodes = nodes, .visit = visit, .context = context};

	assert(reader_store(reader) == store);
	(void)store;
	return walk_root(&walk, root);
}

int tree_walk(struct store *store, struct reader *reader, uint64_t root,
	      int (*enter)(uint64_t node, void *context),
	      int (*visit)(const struct tree_item *item, void *context), void *context)
{
	struct walk walk = {.reader = reader, .enter = enter, .visit = visit, .context = context};

	assert(reader_store(reader) == store);
	(void)store;
	return walk_root(&walk, root);
}

int tree_check(struct store *store, struct reader *reader, uint64_t root, struct idset *nodes,
	       int (*visit)(const struct tree_item *item, void *context), void *context,
	       struct errbuf *err)
{
	struct walk walk = {.reader = reader,
			    .nodes = nodes,
			    .visit = visit,
			    .context = context,
			    .err = err,
			    .check = true};

	assert(reader_store(reader) == store);
	(void)store;
	return walk_root(&walk, root);
}
