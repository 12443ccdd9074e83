/*
 * The map of a file's segments: a treap (Seidel and Aragon, "Randomized Search Trees", 1996).
 *
 * A search tree by offset that is at the same time a heap by random priorities, which keeps its
 * depth logarithmic whatever the order of insertion: a database may leave a hundred thousand dirty
 * pages in one file.  Segments never overlap, so they are ordered by their ends as well, and
 * trimming one at either side does not change its place.
 *
 * Every change of segments goes through here, and so do the sums over them: per file, per engine,
 * and the reservation in the store, which is as large as all segments are.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "fs/data_internal.h"

/* ---- the tree ---- */

struct segment *map_find(const struct file_data *data, uint64_t offset)
{
	struct segment *node = data->root, *best = NULL;

	while (node) {
		if (segment_end(node) > offset) {
			best = node;
			node = node->left;
		} else {
			node = node->right;
		}
	}
	return best;
}

struct segment *map_find_ending(const struct file_data *data, uint64_t offset)
{
	struct segment *node = data->root;

	while (node && segment_end(node) != offset)
		node = segment_end(node) > offset ? node->left : node->right;
	return node;
}

struct segment *map_last(const struct file_data *data)
{
	struct segment *node = data->root;

	while (node && node->right)
		node = node->right;
	return node;
}

struct segment *segment_next(const struct segment *segment)
{
	const struct segment *node = segment;

	if (node->right) {
		node = node->right;
		while (node->left)
			node = node->left;
		return (struct segment *)node;
	}
	while (node->parent && node->parent->right == node)
		node = node->parent;
	return node->parent;
}

struct segment *segment_previous(const struct segment *segment)
{
	const struct segment *node = segment;

	if (node->left) {
		node = node->left;
		while (node->right)
			node = node->right;
		return (struct segment *)node;
	}
	while (node->parent && node->parent->left == node)
		node = node->parent;
	return node->parent;
}

/* Exchanges a node and its parent, keeping the order. */
static void rotate_up(struct file_data *data, struct segment *node)
{
	struct segment *parent = node->parent;
	struct segment *grandparent = parent->parent;
	struct segment *moved;

	if (parent->left == node) {
		moved = parent->left = node->right;
		node->right = parent;
	} else {
		moved = parent->right = node->left;
		node->left = parent;
	}
	if (moved)
		moved->parent = parent;
	parent->parent = node;
	node->parent = grandparent;
	if (!grandparent)
		data->root = node;
	else if (grandparent->left == parent)
		grandparent->left = node;
	else
		grandparent->right = node;
}

static void tree_link(struct file_data *data, struct segment *segment)
{
	struct segment **link = &data->root;

	segment->left = segment->right = segment->parent = NULL;
	while (*link) {
		segment->parent = *link;
		link = segment->offset < (*link)->offset ? &(*link)->left : &(*link)->right;
	}
	*link = segment;
	while (segment->parent && segment->parent->priority < segment->priority)
		rotate_up(data, segment);
}

static void tree_unlink(struct file_data *data, struct segment *segment)
{
	while (segment->left || segment->right) {
		struct segment *child = segment->left;
		if (!child || (segment->right && segment->right->priority > child->priority))
			child = segment->right;
		rotate_up(data, child);
	}
	if (!segment->parent)
		data->root = NULL;
	else if (segment->parent->left == segment)
		segment->parent->left = NULL;
	else
		segment->parent->right = NULL;
}

/* ---- segments and their sums ---- */

static uint32_t random_priority(void)
{
	static _Thread_local uint64_t state = UINT64_C(0x2545f4914f6cdd1d);

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 32);
}

struct segment *segment_new(uint64_t offset, struct buffer *buffer, size_t start, size_t length)
{
	struct segment *segment = malloc(sizeof(*segment));
	if (!segment)
		return NULL;
	*segment = (struct segment){
		.offset = offset,
		.buffer = buffer ? buffer_ref(buffer) : NULL,
		.start = (uint32_t)start,
		.length = (uint32_t)length,
		.priority = random_priority(),
	};
	return segment;
}

struct segment *segment_free(struct engine *engine, struct segment *segment)
{
	if (!segment)
		return NULL;
	if (segment->buffer)
		buffer_unref(engine->pool, segment->buffer);
	free(segment);
	return NULL;
}

static void dirty_add(struct engine *engine, struct file_data *data, size_t bytes)
{
	data->dirty_bytes += bytes;
	atomic_fetch_add_explicit(&engine->dirty_bytes, bytes, memory_order_relaxed);
}

static void dirty_subtract(struct engine *engine, struct file_data *data, size_t bytes)
{
	assert(data->dirty_bytes >= bytes);
	data->dirty_bytes -= bytes;
	atomic_fetch_sub_explicit(&engine->dirty_bytes, bytes, memory_order_relaxed);
}

static void count_in(struct engine *engine, struct file_data *data, uint64_t flush, size_t bytes)
{
	data->segment_bytes += bytes;
	atomic_fetch_add_explicit(&engine->segment_bytes, bytes, memory_order_relaxed);
	if (!flush)
		dirty_add(engine, data, bytes);
}

static void count_out(struct engine *engine, struct file_data *data, uint64_t flush, size_t bytes)
{
	assert(data->segment_bytes >= bytes);
	data->segment_bytes -= bytes;
	atomic_fetch_sub_explicit(&engine->segment_bytes, bytes, memory_order_relaxed);
	if (!flush)
		dirty_subtract(engine, data, bytes);
	store_unreserve(engine->store, bytes);
}

void map_insert(struct engine *engine, struct inode *inode, struct segment *segment)
{
	tree_link(&inode->data, segment);
	count_in(engine, &inode->data, segment->flush, segment->length);
	buffer_charge(engine->pool, segment->buffer);
}

void map_delete(struct engine *engine, struct inode *inode, struct segment *segment)
{
	tree_unlink(&inode->data, segment);
	count_out(engine, &inode->data, segment->flush, segment->length);
	segment_free(engine, segment);
}

void map_extend(struct engine *engine, struct inode *inode, struct segment *segment, size_t by)
{
	assert(!segment->flush);
	segment->length += (uint32_t)by;
	count_in(engine, &inode->data, 0, by);
}

void map_set_flush(struct engine *engine, struct inode *inode, struct segment *segment,
		   uint64_t flush)
{
	if (segment->flush && !flush)
		dirty_add(engine, &inode->data, segment->length);
	else if (!segment->flush && flush)
		dirty_subtract(engine, &inode->data, segment->length);
	segment->flush = flush;
}

/* ---- cutting out ---- */

/* The two halves share the buffer; the reservation stays as it is. */
static void split_at(struct file_data *data, struct segment *segment, uint64_t offset,
		     struct segment *spare)
{
	uint32_t left = (uint32_t)(offset - segment->offset);

	spare->offset = offset;
	spare->flush = segment->flush;
	spare->buffer = buffer_ref(segment->buffer);
	spare->start = segment->start + left;
	spare->length = segment->length - left;
	segment->length = left;
	tree_link(data, spare);
}

int map_split(struct engine *engine, struct inode *inode, uint64_t offset)
{
	(void)engine;
	struct segment *segment = map_find(&inode->data, offset);
	if (!segment || segment->offset >= offset)
		return 0;
	struct segment *spare = segment_new(0, NULL, 0, 0);
	if (!spare)
		return -ENOMEM;
	split_at(&inode->data, segment, offset, spare);
	return 0;
}

int map_prepare_carve(const struct file_data *data, uint64_t offset, uint64_t end,
		      struct segment **ret_spare)
{
	struct segment *segment = map_find(data, offset);
	struct segment *spare = NULL;

	if (segment && segment->offset < offset && segment_end(segment) > end) {
		spare = segment_new(0, NULL, 0, 0);
		if (!spare)
			return -ENOMEM;
	}
	*ret_spare = spare;
	return 0;
}

/* A stream that is being cut must not take what has changed since. */
static void note_stale(struct file_data *data, const struct segment *segment)
{
	struct batch *stream = data->cutting;
	if (!stream || segment->flush)
		return;
	const struct run *run = &stream->runs[0];
	if (segment->offset < run->offset + run->length && segment_end(segment) > run->offset)
		stream->stale = true;
}

/* Removes [offset, end) from one segment that it intersects. */
static void carve_segment(struct engine *engine, struct inode *inode, struct segment *segment,
			  uint64_t offset, uint64_t end, struct segment **spare)
{
	struct file_data *data = &inode->data;

	note_stale(data, segment);
	if (segment->offset < offset && segment_end(segment) > end) {
		split_at(data, segment, end, *spare);
		*spare = NULL;
	}
	if (segment->offset < offset) {
		uint32_t keep = (uint32_t)(offset - segment->offset);
		count_out(engine, data, segment->flush, segment->length - keep);
		segment->length = keep;
	} else if (segment_end(segment) > end) {
		uint32_t drop = (uint32_t)(end - segment->offset);
		count_out(engine, data, segment->flush, drop);
		segment->offset = end;
		segment->start += drop;
		segment->length -= drop;
	} else {
		map_delete(engine, inode, segment);
	}
}

void map_carve(struct engine *engine, struct inode *inode, uint64_t offset, uint64_t end,
	       struct segment *spare)
{
	struct segment *segment = map_find(&inode->data, offset);

	while (segment && segment->offset < end) {
		struct segment *next = segment_next(segment);
		carve_segment(engine, inode, segment, offset, end, &spare);
		segment = next;
	}
	free(spare);
}

void data_drop_segments(struct engine *engine, struct inode *inode)
{
	map_carve(engine, inode, 0, UINT64_MAX, NULL);
}

/* ---- lists of dirty files ---- */

static void list_add(struct table_flush *flush, struct inode *inode)
{
	struct file_data *data = &inode->data;

	data->listed = true;
	data->round = flush->round;
	data->next = NULL;
	data->previous = flush->last;
	if (flush->last)
		flush->last->data.next = inode;
	else
		flush->first = inode;
	flush->last = inode;
}

static void list_remove(struct table_flush *flush, struct inode *inode)
{
	struct file_data *data = &inode->data;

	data->listed = false;
	if (data->previous)
		data->previous->data.next = data->next;
	else
		flush->first = data->next;
	if (data->next)
		data->next->data.previous = data->previous;
	else
		flush->last = data->previous;
	data->next = data->previous = NULL;
}

void data_update_lists(struct inode *inode)
{
	bool dirty = inode->data.dirty_bytes > 0;

	if (dirty != inode->data.listed) {
		if (dirty)
			list_add(&inode->table->flush, inode);
		else
			list_remove(&inode->table->flush, inode);
	}
	inode_update_dirty_list(inode);
}
