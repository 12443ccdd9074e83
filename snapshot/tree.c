/*
 * The tree, its drafts and the commit protocol: see tree_internal.h.
 */
#include "snapshot/tree_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int tree_key_compare(const struct tree_key *a, const struct tree_key *b)
{
	if (a->ino != b->ino)
		return a->ino < b->ino ? -1 : 1;
	if (a->type != b->type)
		return a->type < b->type ? -1 : 1;
	if (a->offset != b->offset)
		return a->offset < b->offset ? -1 : 1;
	return 0;
}

void tree_test_fail(struct tree *tree, unsigned countdown)
{
	tree->test_countdown = countdown;
}

static bool test_fails(struct tree *tree)
{
	return tree->test_countdown > 0 && --tree->test_countdown == 0;
}

int id_list_reserve(struct id_list *list, size_t extra)
{
	size_t capacity = list->capacity ? list->capacity : 64;
	uint64_t *ids;

	if (extra <= list->capacity - list->count)
		return 0;
	while (capacity - list->count < extra)
		capacity *= 2;
	ids = reallocarray(list->ids, capacity, sizeof(*ids));
	if (!ids)
		return -ENOMEM;
	list->ids = ids;
	list->capacity = capacity;
	return 0;
}

void id_list_release(struct id_list *list)
{
	free(list->ids);
	*list = (struct id_list){0};
}

int tree_open(struct store *store, uint64_t root, uint64_t generation, struct tree **ret)
{
	struct tree *tree = calloc(1, sizeof(*tree));

	if (!tree)
		return -ENOMEM;
	tree->store = store;
	tree->root = root;
	tree->generation = generation;
	*ret = tree;
	return 0;
}

int tree_open_over(const struct tree *below, uint64_t generation, struct tree **ret)
{
	int err;

	assert(generation > below->generation);
	err = tree_open(below->store, below->root, generation, ret);
	if (!err)
		(*ret)->below = below;
	return err;
}

struct tree *tree_close(struct tree *tree)
{
	struct u64map_entry *entry;
	size_t position = 0;

	if (!tree)
		return NULL;
	while ((entry = u64map_next(&tree->drafts, &position)) != NULL)
		free(entry->value);
	u64map_release(&tree->drafts);
	while (tree->spare_count > 0)
		free(tree->spares[--tree->spare_count]);
	id_list_release(&tree->dropped);
	id_list_release(&tree->putting);
	id_list_release(&tree->deleting);
	free(tree);
	return NULL;
}

uint64_t tree_root(const struct tree *tree)
{
	return tree->root;
}

uint64_t tree_generation(const struct tree *tree)
{
	return tree->generation;
}

struct store *tree_store(const struct tree *tree)
{
	return tree->store;
}

size_t tree_dirty_bytes(const struct tree *tree)
{
	return tree->drafts.count * sizeof(struct draft);
}

bool tree_is_dirty(const struct tree *tree)
{
	return tree->changed;
}

void tree_set_generation(struct tree *tree, uint64_t generation)
{
	assert(generation > tree->generation);
	tree->generation = generation;
}

void tree_set_root(struct tree *tree, uint64_t root, uint64_t generation)
{
	assert(!tree->changed);
	tree->root = root;
	tree->generation = generation;
}

/* A node, and no word about its level. */
static int find_node(const struct tree *tree, struct reader *reader, uint64_t id,
		     struct tree_step *ret)
{
	struct draft *draft = tree->drafts.count ? u64map_get(&tree->drafts, id) : NULL;
	int err;

	/* What lies below was born earlier, so that it is only ever copied. */
	if (!draft && tree->below && tree->below->drafts.count)
		draft = u64map_get(&tree->below->drafts, id);
	if (draft) {
		ret->node = draft->node;
	} else {
		err = reader_node(reader, id, &ret->node);
		if (err)
			return err;
	}
	ret->draft = draft;
	ret->slot = 0;
	return 0;
}

int tree_node(const struct tree *tree, struct reader *reader, uint64_t id, unsigned level,
	      uint64_t birth, struct tree_step *ret)
{
	struct tree_step step;
	int err;

	if (id == 0)
		return -EUCLEAN;
	err = find_node(tree, reader, id, &step);
	if (err)
		return err;
	if (!node_admit(step.node, level, birth))
		return -EUCLEAN;
	*ret = step;
	return 0;
}

int tree_root_node(const struct tree *tree, struct reader *reader, struct tree_step *ret)
{
	uint64_t birth = tree->generation ? tree->generation : UINT64_MAX;
	struct tree_step step;
	unsigned level;
	int err;

	err = find_node(tree, reader, tree->root, &step);
	if (err)
		return err;
	level = node_level(step.node);
	if (level >= TREE_DEPTH_MAX || !node_admit(step.node, level, birth))
		return -EUCLEAN;
	*ret = step;
	return 0;
}

int tree_child(const struct tree *tree, struct reader *reader, const uint8_t *parent, unsigned slot,
	       struct tree_step *ret)
{
	return tree_node(tree, reader, inner_child(parent, slot), node_level(parent) - 1,
			 node_birth(parent), ret);
}

int tree_descend(const struct tree *tree, struct reader *reader, struct packed_key key,
		 struct tree_path *ret)
{
	struct tree_step step;
	int err, level;

	err = tree_root_node(tree, reader, &step);
	if (err)
		return err;
	level = (int)node_level(step.node);
	ret->top = level;
	for (; level > 0; level--) {
		step.slot = (uint16_t)inner_search(step.node, key);
		ret->at[level] = step;
		err = tree_child(tree, reader, step.node, step.slot, &step);
		if (err)
			return err;
	}
	step.slot = (uint16_t)leaf_search(step.node, key);
	ret->at[0] = step;
	return 0;
}

int tree_get(struct tree *tree, struct reader *reader, const struct tree_key *key,
	     struct tree_item *ret)
{
	struct packed_key packed = key_pack(key);
	struct tree_step step;
	unsigned slot;
	int err;

	if (tree->root == 0)
		return -ENOENT;
	err = tree_root_node(tree, reader, &step);
	if (err)
		return err;
	while (node_level(step.node) > 0) {
		slot = inner_search(step.node, packed);
		err = tree_child(tree, reader, step.node, slot, &step);
		if (err)
			return err;
	}
	slot = leaf_search(step.node, packed);
	if (slot == 0 || !leaf_has_key(step.node, slot - 1, packed))
		return -ENOENT;
	return leaf_item_checked(step.node, slot - 1, ret);
}

int tree_reserve(struct tree *tree, unsigned nodes, unsigned drops)
{
	int err;

	assert(nodes <= TREE_SPARES);
	if (test_fails(tree))
		return -ENOMEM;
	while (tree->spare_count < nodes) {
		struct draft *draft = malloc(sizeof(*draft));

		if (!draft)
			return -ENOMEM;
		tree->spares[tree->spare_count++] = draft;
	}
	err = u64map_reserve(&tree->drafts, nodes);
	if (err || drops == 0)
		return err;
	return id_list_reserve(&tree->dropped, drops + tree->deleting.count);
}

static void mark_unlogged(struct tree *tree, struct draft *draft)
{
	if (draft->unlogged)
		return;
	draft->unlogged = true;
	draft->previous = NULL;
	draft->next = tree->unlogged;
	if (draft->next)
		draft->next->previous = draft;
	tree->unlogged = draft;
}

static void unmark_unlogged(struct tree *tree, struct draft *draft)
{
	if (!draft->unlogged)
		return;
	draft->unlogged = false;
	if (draft->next)
		draft->next->previous = draft->previous;
	if (draft->previous)
		draft->previous->next = draft->next;
	else
		tree->unlogged = draft->next;
}

static void give_back(struct tree *tree, struct draft *draft)
{
	unmark_unlogged(tree, draft);
	if (tree->spare_count < TREE_SPARES)
		tree->spares[tree->spare_count++] = draft;
	else
		free(draft);
}

static struct draft *take_spare(struct tree *tree, uint64_t id)
{
	struct draft *draft = tree->spares[--tree->spare_count];
	int err = u64map_put(&tree->drafts, id, draft);

	assert(err == 0); /* tree_reserve() made room */
	(void)err;
	draft->state = DRAFT_DIRTY;
	draft->unlogged = false;
	mark_unlogged(tree, draft);
	draft->stored = false;
	draft->last = 0;
	draft->streak = 0;
	return draft;
}

bool tree_may_change(const struct tree *tree, const struct tree_step *step)
{
	return step->draft && node_birth(step->node) == tree->generation;
}

void tree_shadow(struct tree *tree, struct tree_step *step)
{
	struct draft *draft = step->draft;

	if (tree_may_change(tree, step)) {
		draft->state = DRAFT_DIRTY;
		mark_unlogged(tree, draft);
		return;
	}
	if (node_birth(step->node) == tree->generation) {
		draft = take_spare(tree, node_id(step->node));
		memcpy(draft->node, step->node, NODE_SIZE);
		draft->stored = true;
	} else {
		uint64_t id = store_next(tree->store, COUNTER_NODE);
		struct node_header *header;

		draft = take_spare(tree, id);
		memcpy(draft->node, step->node, NODE_SIZE);
		header = (struct node_header *)draft->node;
		put_le64(header->id, id);
		put_le64(header->birth, tree->generation);
	}
	step->draft = draft;
	step->node = draft->node;
}

struct draft *tree_new_node(struct tree *tree, unsigned level)
{
	uint64_t id = store_next(tree->store, COUNTER_NODE);
	struct draft *draft = take_spare(tree, id);

	node_init(draft->node, id, tree->generation, level);
	return draft;
}

/* An older node is left alone: a point may refer to it, and collection finds out. */
void tree_drop(struct tree *tree, struct tree_step *step)
{
	uint64_t id = node_id(step->node);

	if (node_birth(step->node) != tree->generation)
		return;
	if (!step->draft || step->draft->stored)
		tree->dropped.ids[tree->dropped.count++] = id;
	if (step->draft) {
		u64map_remove(&tree->drafts, id);
		give_back(tree, step->draft);
	}
	*step = (struct tree_step){0};
}

static int compare_ids(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a;
	uint64_t y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void id_list_sort(struct id_list *list)
{
	if (list->count > 1)
		qsort(list->ids, list->count, sizeof(*list->ids), compare_ids);
}

/* Lists the dirty drafts, in order of id. */
static int list_dirty(struct tree *tree, struct id_list *list)
{
	struct u64map_entry *entry;
	size_t position = 0;
	int err;

	list->count = 0;
	if (test_fails(tree))
		return -ENOMEM;
	err = id_list_reserve(list, tree->drafts.count);
	if (err)
		return err;
	while ((entry = u64map_next(&tree->drafts, &position)) != NULL) {
		const struct draft *draft = entry->value;

		if (draft->state == DRAFT_DIRTY)
			list->ids[list->count++] = entry->key;
	}
	id_list_sort(list);
	return 0;
}

int tree_collect(struct tree *tree, struct commit *commit)
{
	struct id_list *list = &tree->putting;
	struct id_list empty;
	int err;

	assert(tree->deleting.count == 0);
	err = list_dirty(tree, list);
	for (size_t i = 0; i < list->count && !err; i++) {
		struct draft *draft = u64map_get(&tree->drafts, list->ids[i]);

		err = commit_put_node(commit, list->ids[i], draft->node);
	}
	tree->dropped_logged = 0; /* the order changes */
	id_list_sort(&tree->dropped);
	for (size_t i = 0; i < tree->dropped.count && !err; i++)
		err = commit_delete_node(commit, tree->dropped.ids[i]);
	if (err) {
		/* Nothing has changed its state yet: all is as dirty as before. */
		list->count = 0;
		return err;
	}
	for (size_t i = 0; i < list->count; i++) {
		struct draft *draft = u64map_get(&tree->drafts, list->ids[i]);

		draft->state = DRAFT_COMMITTING;
		draft->stored = true;
	}
	empty = tree->deleting;
	tree->deleting = tree->dropped;
	tree->dropped = empty;
	tree->collected_change = tree->changed;
	tree->changed = false;
	return 0;
}

static void forget_committed(struct tree *tree)
{
	for (size_t i = 0; i < tree->putting.count; i++) {
		uint64_t id = tree->putting.ids[i];
		struct draft *draft = u64map_get(&tree->drafts, id);

		if (!draft || draft->state != DRAFT_COMMITTING)
			continue;
		u64map_remove(&tree->drafts, id);
		give_back(tree, draft);
	}
}

static void take_back(struct tree *tree)
{
	struct id_list empty;

	for (size_t i = 0; i < tree->putting.count; i++) {
		struct draft *draft = u64map_get(&tree->drafts, tree->putting.ids[i]);

		if (draft)
			draft->state = DRAFT_DIRTY;
	}
	if (tree->dropped.count == 0) {
		empty = tree->dropped;
		tree->dropped = tree->deleting;
		tree->deleting = empty;
	} else if (tree->deleting.count > 0) {
		memcpy(tree->dropped.ids + tree->dropped.count, tree->deleting.ids,
		       tree->deleting.count * sizeof(uint64_t));
		tree->dropped.count += tree->deleting.count;
	}
	tree->dropped_logged = 0; /* to be told twice does no harm */
	tree->changed = tree->changed || tree->collected_change;
}

void tree_committed(struct tree *tree, bool success)
{
	if (success)
		forget_committed(tree);
	else
		take_back(tree);
	tree->putting.count = 0;
	tree->deleting.count = 0;
	tree->collected_change = false;
}

int tree_log(struct tree *tree, struct redo *redo)
{
	struct id_list *dropped = &tree->dropped;
	int err = 0;

	assert(tree->deleting.count == 0);
	for (struct draft *draft = tree->unlogged; draft && !err; draft = draft->next)
		err = redo_put_node(redo, node_id(draft->node), draft->node);
	if (!err)
		err = redo_delete_nodes(redo, dropped->ids + tree->dropped_logged,
					dropped->count - tree->dropped_logged);
	if (err)
		return err;
	while (tree->unlogged) {
		/* What a replay puts into the index must go from there, too. */
		tree->unlogged->stored = true;
		unmark_unlogged(tree, tree->unlogged);
	}
	tree->dropped_logged = dropped->count;
	tree->changed = false;
	return 0;
}
