/*
 * The tree against a sorted array: random changes, generations, commits that succeed and fail,
 * failed allocations, damaged neighbours, reopening; what the points hold stays what it was.
 */
#include "range_testing.h"
#include "tree_testing.h"

struct entry {
	struct tree_key key;
	uint32_t version; /* the value follows from key and version */
	uint16_t length;
};

/* A naive model of a tree. */
struct model {
	struct entry *entries; /* owned, sorted */
	size_t count, capacity;
};

struct state {
	uint64_t root;
	struct model model;
};

enum { POINTS_MAX = 12 };

struct world {
	struct store *store;
	struct tree *tree;
	struct model model; /* of the head */
	struct state point[POINTS_MAX];
	bool point_durable[POINTS_MAX];
	size_t points;
	struct state durable; /* the head as last committed */
	uint64_t durable_generation;
	uint32_t version;
	uint64_t burst; /* next offset of an ascending run */
	size_t failures;
};

static void fill_value(const struct entry *entry, uint8_t *value)
{
	uint64_t seed = entry->key.ino * 31 + entry->key.offset * 7 + entry->version;

	for (unsigned i = 0; i < entry->length; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		value[i] = (uint8_t)(seed >> 56);
	}
}

/* First index with a key that is not below. */
static size_t model_find(const struct model *model, const struct tree_key *key)
{
	size_t low = 0, high = model->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (tree_key_compare(&model->entries[middle].key, key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool model_has(const struct model *model, size_t at, const struct tree_key *key)
{
	return at < model->count && tree_key_compare(&model->entries[at].key, key) == 0;
}

static void model_put(struct model *model, const struct entry *entry)
{
	size_t at = model_find(model, &entry->key);

	if (!model_has(model, at, &entry->key)) {
		if (model->count == model->capacity) {
			model->capacity = model->capacity ? 2 * model->capacity : 64;
			model->entries = reallocarray(model->entries, model->capacity,
						      sizeof(*model->entries));
			assert_non_null(model->entries);
		}
		memmove(model->entries + at + 1, model->entries + at,
			(model->count - at) * sizeof(*model->entries));
		model->count++;
	}
	model->entries[at] = *entry;
}

static void model_remove(struct model *model, size_t from, size_t to)
{
	if (from == to)
		return;
	memmove(model->entries + from, model->entries + to,
		(model->count - to) * sizeof(*model->entries));
	model->count -= to - from;
}

static void model_copy(struct model *to, const struct model *from)
{
	free(to->entries);
	*to = (struct model){NULL, from->count, from->count};
	to->entries = calloc(from->count + 1, sizeof(*to->entries));
	assert_non_null(to->entries);
	if (from->count > 0)
		memcpy(to->entries, from->entries, from->count * sizeof(*to->entries));
}

static void check_item(const struct entry *entry, const struct tree_item *item)
{
	uint8_t value[TREE_VALUE_MAX];

	assert_int_equal(tree_key_compare(&entry->key, &item->key), 0);
	assert_int_equal(entry->length, item->length);
	fill_value(entry, value);
	assert_memory_equal(value, item->value, item->length);
}

/* Iterates through all and compares; looks around at random places. */
static void check_tree(struct tree *tree, struct reader *reader, const struct model *model)
{
	struct tree_key zero = {0, 0, 0};
	struct tree_cursor cursor;
	struct tree_item item;
	size_t at = 0;
	int err = tree_seek(tree, reader, &zero, &cursor, &item);

	for (; err == 0; err = tree_next(&cursor, &item)) {
		assert_true(at < model->count);
		check_item(&model->entries[at++], &item);
	}
	assert_int_equal(err, -ENOENT);
	assert_int_equal(at, model->count);
	assert_int_equal(tree_shape(tree, reader).items, model->count);
}

static struct tree_key random_key(struct world *world)
{
	static const uint64_t far[] = {0, 1, 0xff, 0x100, UINT64_MAX, 1ull << 63};
	struct tree_key key;

	key.ino = 16 + random_below(24);
	key.type = (uint8_t)(1 + random_below(7));
	switch (random_below(6)) {
	case 0:
		key.offset = random_next();
		break;
	case 1:
		key.offset = far[random_below(6)];
		break;
	default:
		key.offset = random_below(512);
		break;
	}
	if (world->model.count > 0 && random_below(3) == 0)
		key = world->model.entries[random_below(world->model.count)].key;
	return key;
}

static uint16_t random_length(void)
{
	switch (random_below(8)) {
	case 0:
		return (uint16_t)random_below(TREE_VALUE_MAX + 1);
	case 1:
		return TREE_VALUE_MAX - (uint16_t)random_below(3);
	case 2:
		return 0;
	case 3:
		return (uint16_t)random_below(400);
	default:
		return (uint16_t)(20 + random_below(80));
	}
}

/* Lets the next change fail, sometimes. */
static void maybe_fail(struct world *world)
{
	tree_test_fail(world->tree, random_below(6) == 0 ? 1 + (unsigned)random_below(3) : 0);
}

static void put_entry(struct world *world, const struct tree_key *key, uint16_t length)
{
	struct entry entry = {*key, ++world->version, length};
	struct reader *reader = test_reader(world->store);
	uint8_t value[TREE_VALUE_MAX];
	int err;

	fill_value(&entry, value);
	maybe_fail(world);
	err = tree_put(world->tree, reader, key, value, length);
	tree_test_fail(world->tree, 0);
	reader_release(reader);
	if (err == -ENOMEM) {
		world->failures++;
		return;
	}
	must(err);
	model_put(&world->model, &entry);
}

static void act_put(struct world *world)
{
	struct tree_key key = random_key(world);
	size_t at = model_find(&world->model, &key);
	uint16_t length = random_length();

	if (model_has(&world->model, at, &key) && random_below(2) == 0)
		length = world->model.entries[at].length;
	put_entry(world, &key, length);
}

static void act_burst(struct world *world)
{
	struct tree_key key = {16 + random_below(24), ITEM_EXTENT, 1000 + random_below(1000)};
	uint64_t count = 1 + random_below(60);
	uint16_t length = (uint16_t)random_below(100);
	bool down = random_below(4) == 0;

	for (uint64_t i = 0; i < count; i++) {
		key.offset = down ? key.offset - 1 : key.offset + 1;
		put_entry(world, &key, length);
	}
}

static void act_delete(struct world *world)
{
	struct tree_key key = random_key(world);
	size_t at = model_find(&world->model, &key);
	struct reader *reader = test_reader(world->store);
	int err;

	if (at < world->model.count && random_below(4) > 0)
		key = world->model.entries[at].key;
	maybe_fail(world);
	err = tree_delete(world->tree, reader, &key);
	tree_test_fail(world->tree, 0);
	reader_release(reader);
	if (err == -ENOMEM) {
		world->failures++;
	} else if (model_has(&world->model, at, &key)) {
		must(err);
		model_remove(&world->model, at, at + 1);
	} else {
		assert_int_equal(err, -ENOENT);
	}
}

/* How many of the model's items from `from` to `to` (indices) the tree has lost, in order. */
static size_t lost_prefix(struct world *world, struct reader *reader, size_t from, size_t to)
{
	struct tree_item item;
	size_t lost = 0;

	while (from + lost < to &&
	       tree_get(world->tree, reader, &world->model.entries[from + lost].key, &item) ==
		       -ENOENT)
		lost++;
	return lost;
}

static void act_delete_range(struct world *world)
{
	struct tree_key from = random_key(world), to = random_key(world);
	struct reader *reader = test_reader(world->store);
	size_t begin, end;
	int64_t count;

	if (random_below(4) > 0)
		to = (struct tree_key){from.ino, from.type, UINT64_MAX};
	if (random_below(40) == 0)
		to.ino = UINT64_MAX;
	begin = model_find(&world->model, &from);
	end = model_find(&world->model, &to);
	end += model_has(&world->model, end, &to);
	if (end < begin)
		end = begin;
	maybe_fail(world);
	count = tree_delete_range(world->tree, reader, &from, &to);
	tree_test_fail(world->tree, 0);
	if (count == -ENOMEM) {
		world->failures++;
		end = begin + lost_prefix(world, reader, begin, end);
	} else {
		assert_int_equal(count, end - begin);
	}
	reader_release(reader);
	model_remove(&world->model, begin, end);
}

static void act_look(struct world *world)
{
	struct tree_key key = random_key(world);
	const struct model *model = &world->model;
	struct reader *reader = test_reader(world->store);
	size_t at = model_find(model, &key);
	struct tree_cursor cursor;
	struct tree_item item;
	int err = tree_get(world->tree, reader, &key, &item);

	assert_int_equal(err, model_has(model, at, &key) ? 0 : -ENOENT);
	if (err == 0)
		check_item(&model->entries[at], &item);
	err = tree_seek(world->tree, reader, &key, &cursor, &item);
	assert_int_equal(err, at < model->count ? 0 : -ENOENT);
	for (size_t i = at; i < at + 5 && i < model->count; i++) {
		must(err);
		check_item(&model->entries[i], &item);
		err = tree_next(&cursor, &item);
	}
	at += model_has(model, at, &key);
	err = tree_seek_before(world->tree, reader, &key, &cursor, &item);
	assert_int_equal(err, at > 0 ? 0 : -ENOENT);
	for (size_t i = at - 1; at > 0 && i < at + 5 && i < model->count; i++) {
		must(err);
		check_item(&model->entries[i], &item);
		err = tree_next(&cursor, &item);
	}
	reader_release(reader);
}

static void act_freeze(struct world *world)
{
	size_t at = world->points;

	if (at == POINTS_MAX) {
		at = random_below(POINTS_MAX);
		free(world->point[at].model.entries);
	} else {
		world->points++;
	}
	world->point[at] = (struct state){.root = tree_root(world->tree)};
	model_copy(&world->point[at].model, &world->model);
	world->point_durable[at] = false;
	tree_set_generation(world->tree, store_next(world->store, COUNTER_GENERATION));
}

static void small_change(struct world *world)
{
	for (uint64_t i = random_below(30); i > 0; i--) {
		if (random_below(2) == 0)
			act_put(world);
		else
			act_delete(world);
	}
	if (random_below(6) == 0)
		act_delete_range(world);
}

/* Commits, while changes go on; the cut is what is durable then. */
static void act_commit(struct world *world)
{
	bool fails = random_below(3) == 0, busy = random_below(2) == 0;
	bool seen[POINTS_MAX];
	uint64_t root = tree_root(world->tree), generation = tree_generation(world->tree);
	struct model cut = {0};
	struct commit *commit;

	must(commit_begin(world->store, &commit));
	if (random_below(8) == 0) {
		tree_test_fail(world->tree, 1);
		assert_int_equal(tree_collect(world->tree, commit), -ENOMEM);
		tree_test_fail(world->tree, 0);
		commit_abort(commit);
		if (random_below(2) == 0)
			tree_committed(world->tree, false);
		return;
	}
	must(tree_collect(world->tree, commit));
	assert_false(tree_is_dirty(world->tree));
	model_copy(&cut, &world->model);
	for (size_t i = 0; i < POINTS_MAX; i++)
		seen[i] = i < world->points;
	if (fails) {
		if (busy)
			small_change(world);
		commit_abort(commit);
		tree_committed(world->tree, false);
		free(cut.entries);
		return;
	}
	must(commit_seal(commit));
	if (busy)
		small_change(world);
	must(commit_finish(commit));
	tree_committed(world->tree, true);
	if (!busy)
		assert_int_equal(tree_dirty_bytes(world->tree), 0);
	free(world->durable.model.entries);
	world->durable = (struct state){root, cut};
	world->durable_generation = generation;
	for (size_t i = 0; i < POINTS_MAX; i++)
		world->point_durable[i] = seen[i] && i < world->points;
}

/* A crash: what was committed is there. */
static void act_reopen(struct world *world)
{
	size_t kept = 0;

	tree_close(world->tree);
	store_close(world->store);
	world->store = test_store_open();
	must(tree_open(world->store, world->durable.root, world->durable_generation, &world->tree));
	model_copy(&world->model, &world->durable.model);
	for (size_t i = 0; i < world->points; i++) {
		if (!world->point_durable[i]) {
			free(world->point[i].model.entries);
			continue;
		}
		world->point[kept] = world->point[i];
		world->point_durable[kept++] = true;
	}
	world->points = kept;
}

static void act_restore(struct world *world)
{
	size_t at = world->points ? random_below(world->points) : 0;

	if (at >= world->points || !world->point_durable[at] || tree_is_dirty(world->tree))
		return;
	tree_set_root(world->tree, world->point[at].root,
		      store_next(world->store, COUNTER_GENERATION));
	model_copy(&world->model, &world->point[at].model);
}

struct difference {
	const struct model *old_model, *new_model;
	size_t old_at, new_at, count;
};

static bool same_entry(const struct entry *a, const struct entry *b)
{
	uint8_t x[TREE_VALUE_MAX], y[TREE_VALUE_MAX];

	if (a->length != b->length)
		return false;
	fill_value(a, x);
	fill_value(b, y);
	return memcmp(x, y, a->length) == 0;
}

/* Steps over what is equal in both models; says which side has the next difference. */
static void difference_next(struct difference *difference, const struct entry **ret_old,
			    const struct entry **ret_new)
{
	*ret_old = *ret_new = NULL;
	while (!*ret_old && !*ret_new) {
		const struct entry *a = NULL, *b = NULL;
		int order;

		if (difference->old_at < difference->old_model->count)
			a = &difference->old_model->entries[difference->old_at];
		if (difference->new_at < difference->new_model->count)
			b = &difference->new_model->entries[difference->new_at];
		if (!a && !b)
			return;
		order = !a ? 1 : !b ? -1 : tree_key_compare(&a->key, &b->key);
		difference->old_at += order <= 0;
		difference->new_at += order >= 0;
		if (order == 0 && same_entry(a, b))
			continue;
		*ret_old = order <= 0 ? a : NULL;
		*ret_new = order >= 0 ? b : NULL;
	}
}

static int expect_difference(const struct tree_item *old_item, const struct tree_item *new_item,
			     void *context)
{
	struct difference *difference = context;
	const struct entry *a, *b;

	difference_next(difference, &a, &b);
	assert_int_equal(a != NULL, old_item != NULL);
	assert_int_equal(b != NULL, new_item != NULL);
	assert_true(a || b);
	if (a)
		check_item(a, old_item);
	if (b)
		check_item(b, new_item);
	difference->count++;
	return 0;
}

static size_t difference_of(struct tree *old_tree, const struct model *old_model,
			    struct tree *new_tree, const struct model *new_model,
			    struct reader *reader, size_t *ret_opened)
{
	struct difference difference = {old_model, new_model, 0, 0, 0};
	const struct entry *a, *b;

	must(tree_diff_counted(old_tree, new_tree, reader, expect_difference, &difference,
			       ret_opened));
	difference_next(&difference, &a, &b);
	assert_true(!a && !b);
	for (size_t i = 0; i < 4 && new_model->count > 0; i++) {
		struct tree_key from = new_model->entries[new_model->count * i / 5].key;

		from.offset += i % 2; /* also where there is no item */
		check_diff_range(old_tree, new_tree, reader, from,
				 new_model->entries[new_model->count * (i + 2) / 6].key);
	}
	return difference.count;
}

/* The nodes that only one of two roots reaches. */
static size_t unshared(struct store *store, struct reader *reader, uint64_t a, uint64_t b)
{
	struct idset of_a = IDSET_INIT, of_b = IDSET_INIT, both = IDSET_INIT;
	size_t count;

	must(tree_mark(store, reader, a, &of_a, NULL, NULL));
	must(tree_mark(store, reader, b, &of_b, NULL, NULL));
	must(tree_mark(store, reader, a, &both, NULL, NULL));
	must(tree_mark(store, reader, b, &both, NULL, NULL));
	count = 2 * both.count - of_a.count - of_b.count;
	idset_release(&of_a);
	idset_release(&of_b);
	idset_release(&both);
	return count;
}

/* Against each other and against the head, in both directions. */
static void check_differences(struct world *world, struct reader *reader)
{
	for (int i = 0; i < 3 && world->points > 0; i++) {
		size_t one = random_below(world->points), other = random_below(world->points);
		struct state *a = &world->point[one], *b = &world->point[other];
		struct tree *tree_a, *tree_b;
		size_t opened, alone, levels;

		if (!world->point_durable[one] || !world->point_durable[other])
			continue;
		must(tree_open(world->store, a->root, 0, &tree_a));
		must(tree_open(world->store, b->root, 0, &tree_b));
		difference_of(tree_a, &a->model, tree_b, &b->model, reader, &opened);
		alone = unshared(world->store, reader, a->root, b->root);
		levels = (size_t)tree_shape(tree_a, reader).levels;
		levels += (size_t)tree_shape(tree_b, reader).levels;
		if (opened > alone + alone / 8 + levels)
			fail_msg("diff opened %zu nodes of %zu unshared", opened, alone);
		difference_of(tree_a, &a->model, world->tree, &world->model, reader, &opened);
		difference_of(world->tree, &world->model, tree_b, &b->model, reader, &opened);
		tree_close(tree_a);
		tree_close(tree_b);
	}
}

static int count_item(const struct tree_item *item, void *context)
{
	assert_non_null(item->value);
	(*(size_t *)context)++;
	return 0;
}

/* What marking finds is what can be reached. */
static void check_marks(struct world *world, struct reader *reader, const struct state *state)
{
	struct idset checked = IDSET_INIT, marked = IDSET_INIT, bare = IDSET_INIT;
	size_t items = 0, again = 0;
	struct errbuf err = {""};
	struct tree *view;
	struct shape shape;

	if (tree_check(world->store, reader, state->root, &checked, count_item, &items, &err) != 0)
		fail_msg("tree_check: %s", err.text);
	must(tree_mark(world->store, reader, state->root, &marked, count_item, &again));
	must(tree_mark(world->store, reader, state->root, &bare, NULL, NULL));
	assert_int_equal(items, state->model.count);
	assert_int_equal(again, state->model.count);
	must(tree_open(world->store, state->root, 0, &view));
	shape = tree_shape(view, reader);
	assert_int_equal(shape.nodes, checked.count);
	assert_int_equal(shape.nodes, marked.count);
	assert_int_equal(shape.nodes, bare.count);
	check_tree(view, reader, &state->model);
	tree_close(view);
	idset_release(&checked);
	idset_release(&marked);
	idset_release(&bare);
}

static void check_world(struct world *world)
{
	struct reader *reader = test_reader(world->store);

	check_tree(world->tree, reader, &world->model);
	for (size_t i = 0; i < world->points; i++) {
		if (world->point_durable[i])
			check_marks(world, reader, &world->point[i]);
	}
	/* While the head goes on in the same generation, its durable root is still whole. */
	check_marks(world, reader, &world->durable);
	check_differences(world, reader);
	reader_release(reader);
}

/* Nothing but what can be reached, or was when a point was there, may be in the index. */
static void check_no_leaks(struct world *world)
{
	struct idset nodes = IDSET_INIT;
	struct store_statistics statistics;
	struct reader *reader;

	test_commit(world->store, world->tree);
	must(store_statistics(world->store, &statistics));
	reader = test_reader(world->store);
	must(tree_mark(world->store, reader, tree_root(world->tree), &nodes, NULL, NULL));
	assert_int_equal(statistics.nodes, nodes.count);
	reader_release(reader);
	idset_release(&nodes);
}

static void world_open(struct world *world)
{
	*world = (struct world){.store = test_store_make()};
	world->durable_generation = store_next(world->store, COUNTER_GENERATION);
	must(tree_open(world->store, 0, world->durable_generation, &world->tree));
	test_commit(world->store, world->tree);
}

static void world_close(struct world *world)
{
	for (size_t i = 0; i < world->points; i++)
		free(world->point[i].model.entries);
	free(world->model.entries);
	free(world->durable.model.entries);
	tree_close(world->tree);
	test_store_remove(world->store);
}

/* The tree grows in one phase and shrinks in the next. */
static void act_anything(struct world *world, bool grow)
{
	uint64_t dice = random_below(1000);

	if (dice < (grow ? 480 : 300))
		act_put(world);
	else if (dice < (grow ? 530 : 310))
		act_burst(world);
	else if (dice < (grow ? 795 : 780))
		act_delete(world);
	else if (dice < 800)
		act_delete_range(world);
	else if (dice < 970)
		act_look(world);
	else if (dice < 978)
		act_freeze(world);
	else if (dice < 994)
		act_commit(world);
	else if (dice < 997)
		act_restore(world);
	else
		act_reopen(world);
}

static void test_model(void **state)
{
	struct world world;
	size_t most = 0;

	(void)state;
	random_seed();
	world_open(&world);
	for (int step = 0; step < 30000; step++) {
		act_anything(&world, step % 12000 < 8000);
		if (world.model.count > most)
			most = world.model.count;
		if (step % 400 == 0)
			check_world(&world);
	}
	check_world(&world);
	print_message("%zu items at most, %zu at the end, %zu changes failed on purpose\n", most,
		      world.model.count, world.failures);
	world_close(&world);
}

/* One generation, many commits: every node that is not needed is deleted from the index. */
static void test_no_leaks(void **state)
{
	struct world world;

	(void)state;
	world_open(&world);
	for (int round = 0; round < 60; round++) {
		for (int i = 0; i < 60; i++) {
			small_change(&world);
			if (random_below(8) == 0)
				act_burst(&world);
		}
		act_commit(&world);
		check_no_leaks(&world);
	}
	world_close(&world);
}

/* With a node missing, changes either work or leave the tree as it was. */
static void test_missing_nodes(void **state)
{
	struct world world;

	(void)state;
	world_open(&world);
	for (int i = 0; i < 3000; i++)
		act_put(&world);
	test_commit(world.store, world.tree);
	for (int round = 0; round < 40; round++) {
		struct tree_key key = world.model.entries[random_below(world.model.count)].key;
		struct reader *reader = test_reader(world.store);
		uint8_t copy[NODE_SIZE];
		struct tree_path path;
		struct commit *commit;
		struct tree *tree;
		uint64_t root = tree_root(world.tree);
		uint64_t generation = store_next(world.store, COUNTER_GENERATION);

		must(tree_descend(world.tree, reader, key_pack(&key), &path));
		memcpy(copy, path.at[0].node, NODE_SIZE);
		reader_release(reader);
		must(commit_begin(world.store, &commit));
		must(commit_delete_node(commit, node_id(copy)));
		must(commit_seal(commit));
		must(commit_finish(commit));
		must(tree_open(world.store, root, generation, &tree));
		reader = test_reader(world.store);
		for (size_t i = 0; i < world.model.count; i += 1 + random_below(4)) {
			const struct entry *entry = &world.model.entries[i];
			int err = tree_delete(tree, reader, &entry->key);
			struct tree_item item;
			int found;

			assert_true(err == 0 || err == -EUCLEAN);
			/* Where it was may now belong to the missing node. */
			found = tree_get(tree, reader, &entry->key, &item);
			assert_true(found == -EUCLEAN || (err == 0 && found == -ENOENT));
		}
		assert_int_equal(tree_delete(tree, reader, &key), -EUCLEAN);
		tree_close(tree);
		reader_release(reader);
		must(commit_begin(world.store, &commit));
		must(commit_put_node(commit, node_id(copy), copy));
		must(commit_seal(commit));
		must(commit_finish(commit));
	}
	check_world(&world);
	world_close(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_no_leaks),
		cmocka_unit_test(test_missing_nodes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
