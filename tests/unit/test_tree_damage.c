/*
 * Nodes with flipped bits under a checksum that is right: whatever is done with such a tree ends,
 * with a result or an error, and stays within memory (run it under ASan).
 */
#include "tree_testing.h"

enum { INODES = 400, STEPS_MAX = 200000 };

static size_t found_by_check, flips;

static void commit_node(struct store *store, const uint8_t *node, uint64_t id)
{
	uint8_t copy[NODE_SIZE];
	struct commit *commit;

	memcpy(copy, node, NODE_SIZE);
	must(commit_begin(store, &commit));
	must(commit_put_node(commit, id, copy));
	must(commit_seal(commit));
	must(commit_finish(commit));
}

static struct tree *build(struct store *store)
{
	struct reader *reader = test_reader(store);
	uint8_t value[300] = {0};
	struct tree *tree;

	must(tree_open(store, 0, store_next(store, COUNTER_GENERATION), &tree));
	for (uint64_t ino = 16; ino < 16 + INODES; ino++) {
		for (uint8_t type = 1; type < 5; type++) {
			struct tree_key key = {ino, type, random_below(2) * random_next()};

			must(tree_put(tree, reader, &key, value, random_below(300)));
		}
	}
	reader_release(reader);
	test_commit(store, tree);
	tree_set_generation(tree, store_next(store, COUNTER_GENERATION));
	return tree;
}

static int visit_item(const struct tree_item *item, void *context)
{
	size_t *steps = context;

	/* Touches the bytes, so that a sanitizer looks at them. */
	for (unsigned i = 0; i < item->length; i++)
		*steps += item->value[i];
	return ++*steps > STEPS_MAX;
}

static int visit_difference(const struct tree_item *old_item, const struct tree_item *new_item,
			    void *context)
{
	int result = 0;

	if (old_item)
		result = visit_item(old_item, context);
	if (new_item && result == 0)
		result = visit_item(new_item, context);
	return result;
}

static void read_all(struct tree *tree, struct reader *reader, const struct tree_key *around)
{
	struct tree_key zero = {0, 0, 0};
	struct tree_cursor cursor;
	struct tree_item item;
	size_t steps = 0;
	int err = tree_seek(tree, reader, &zero, &cursor, &item);

	while (err == 0 && visit_item(&item, &steps) == 0)
		err = tree_next(&cursor, &item);
	assert_true(err == 0 || err == -ENOENT || err == -EUCLEAN || err == -EBADMSG);
	assert_true(steps <= STEPS_MAX);
	if (tree_get(tree, reader, around, &item) == 0)
		visit_item(&item, &steps);
	if (tree_seek_before(tree, reader, around, &cursor, &item) == 0)
		visit_item(&item, &steps);
}

static void change_some(struct tree *tree, struct reader *reader, const struct tree_key *around)
{
	struct tree_key key = *around;
	struct tree_key end = {around->ino + 3, 2, 0};
	uint8_t value[TREE_VALUE_MAX] = {0};

	for (int i = 0; i < 6; i++) {
		key.offset += (uint64_t)i;
		(void)tree_put(tree, reader, &key, value, random_below(TREE_VALUE_MAX));
		(void)tree_put(tree, reader, around, value, random_below(TREE_VALUE_MAX));
	}
	(void)tree_delete(tree, reader, around);
	(void)tree_delete_range(tree, reader, around, &end);
}

/* One damaged node: everything that can be done with the tree. */
static void try_damaged(struct store *store, uint64_t root, uint64_t intact_root,
			const struct tree_key *around)
{
	uint64_t generation = store_next(store, COUNTER_GENERATION);
	struct reader *reader = test_reader(store);
	struct idset nodes = IDSET_INIT, marks = IDSET_INIT;
	struct errbuf err = {""};
	struct tree *tree, *intact;
	size_t steps = 0;
	size_t opened;

	must(tree_open(store, root, generation, &tree));
	must(tree_open(store, intact_root, 0, &intact));
	read_all(tree, reader, around);
	(void)tree_diff_counted(tree, intact, reader, visit_difference, &steps, &opened);
	steps = 0;
	(void)tree_diff_counted(intact, tree, reader, visit_difference, &steps, &opened);
	steps = 0;
	if (tree_check(store, reader, root, &nodes, visit_item, &steps, &err) < 0) {
		found_by_check++;
		assert_true(err.text[0] != '\0');
	}
	steps = 0;
	(void)tree_mark(store, reader, root, &marks, visit_item, &steps);
	change_some(tree, reader, around);
	read_all(tree, reader, around);
	tree_close(tree);
	tree_close(intact);
	idset_release(&nodes);
	idset_release(&marks);
	reader_release(reader);
	flips++;
}

/* Flips bits of the header and of a sample of slots, one at a time. */
static void damage_node(struct store *store, uint64_t root, uint64_t intact_root,
			const uint8_t *node, const struct tree_key *around)
{
	size_t slot_size = node_level(node) ? sizeof(struct inner_slot) : sizeof(struct leaf_slot);
	size_t end = NODE_HEADER + node_count(node) * slot_size;
	uint64_t id = node_id(node);
	uint8_t copy[NODE_SIZE];

	/* The checksum and the id are index/'s; it verifies them before we see the node. */
	for (size_t at = offsetof(struct node_header, birth); at < end; at++) {
		bool in_header = at < NODE_HEADER;

		if (!in_header && random_below(end / 100) != 0)
			continue;
		for (unsigned bit = 0; bit < 8; bit++) {
			if (!in_header && random_below(4) != 0)
				continue;
			memcpy(copy, node, NODE_SIZE);
			copy[at] ^= (uint8_t)(1u << bit);
			commit_node(store, copy, id);
			try_damaged(store, root, intact_root, around);
		}
	}
	for (int i = 0; i < 30; i++) {
		memcpy(copy, node, NODE_SIZE);
		for (size_t at = NODE_HEADER - (size_t)(i % 9); at < NODE_SIZE; at++)
			copy[at] = (uint8_t)random_next();
		commit_node(store, copy, id);
		try_damaged(store, root, intact_root, around);
	}
	commit_node(store, node, id);
}

static void test_flips(void **state)
{
	struct store *store = test_store_make();
	struct tree *tree = build(store);
	struct tree_key around = {16 + INODES / 2, 1, 0};
	struct reader *reader;
	uint8_t nodes[TREE_DEPTH_MAX][NODE_SIZE];
	struct tree_path path;
	uint64_t root = tree_root(tree), intact;

	(void)state;
	random_seed();
	reader = test_reader(store);
	/* A second tree that shares all but one path with the first. */
	must(tree_put(tree, reader, &around, "x", 1));
	reader_release(reader);
	test_commit(store, tree);
	intact = tree_root(tree);
	tree_close(tree);

	must(tree_open(store, root, 0, &tree));
	reader = test_reader(store);
	must(tree_descend(tree, reader, key_pack(&around), &path));
	assert_true(path.top >= 1);
	for (int level = 0; level <= path.top; level++)
		memcpy(nodes[level], path.at[level].node, NODE_SIZE);
	around = key_read(leaf_slot(path.at[0].node, node_count(path.at[0].node) / 2)->key);
	reader_release(reader);
	tree_close(tree);
	for (int level = 0; level <= path.top; level++)
		damage_node(store, root, intact, nodes[level], &around);
	print_message("%zu damaged nodes, the check found %zu\n", flips, found_by_check);
	test_store_remove(store);
}

/* A node in the place of another, and nodes that lead to one another. */
static void test_wrong_references(void **state)
{
	struct store *store = test_store_make();
	struct tree *tree = build(store);
	struct tree_key around = {16 + INODES / 2, 1, 0};
	struct reader *reader = test_reader(store);
	uint64_t root = tree_root(tree);
	uint8_t node[NODE_SIZE], copy[NODE_SIZE];
	struct tree_step step;
	unsigned count;

	(void)state;
	must(tree_root_node(tree, reader, &step));
	memcpy(node, step.node, NODE_SIZE);
	count = node_count(node);
	reader_release(reader);
	tree_close(tree);
	assert_true(count > 2);
	for (unsigned slot = 0; slot < count; slot++) {
		uint64_t wrong[] = {0, root, inner_child(node, (slot + 1) % count), UINT64_MAX};

		for (unsigned i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
			memcpy(copy, node, NODE_SIZE);
			inner_set_child(copy, slot, wrong[i]);
			commit_node(store, copy, root);
			around.ino = key_read(inner_slot(node, slot)->key).ino;
			try_damaged(store, root, 0, &around);
		}
	}
	test_store_remove(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flips),
		cmocka_unit_test(test_wrong_references),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
