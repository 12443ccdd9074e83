/*
 * Sharing contents between files: extents are copied, chunks and buffers are not.
 *
 * The target's range is emptied first.  Then come the source's extents, and over them, as DIRTY
 * segments of the target, whatever the source has in memory.
 */
#include <errno.h>
#include <string.h>

#include "fs/data_internal.h"

enum { EXTENTS_AT_ONCE = 64 };

struct clone {
	struct engine *engine;
	struct inode *target;
	uint64_t to;
	struct inode *source; /* NULL: source_tree alone */
	struct tree *source_tree;
	uint64_t source_ino;
	uint64_t from, length;
	struct reader *reader;
};

/* The extents of [position, end) of the source, as many as fit; returns where they end. */
static int clone_window(struct clone *clone, uint64_t position, uint64_t end, uint64_t *ret_end)
{
	struct extent extents[EXTENTS_AT_ONCE];
	int64_t delta;

	int count = extent_map(clone->source_tree, clone->reader, clone->source_ino, position,
			       end - position, extents, EXTENTS_AT_ONCE);
	if (count < 0)
		return count;
	if (count == EXTENTS_AT_ONCE) {
		uint64_t stop = extents[count - 1].offset + extents[count - 1].length;
		if (stop < end)
			end = stop;
	}
	for (int i = 0; i < count; i++) {
		struct extent *extent = &extents[i];
		uint64_t extent_end = extent->offset + extent->length;
		if (extent_end > end)
			extent->length -= (uint32_t)(extent_end - end);
		if (extent->offset < position) {
			uint32_t skip = (uint32_t)(position - extent->offset);
			extent->offset += skip;
			extent->chunk_offset += skip;
			extent->length -= skip;
		}
		extent->offset = extent->offset - clone->from + clone->to;
	}
	int error = extent_replace(head_tree(clone->target->table->head), clone->reader,
				   clone->target->ino, position - clone->from + clone->to,
				   end - position, extents, count, &delta);
	if (error)
		return error;
	clone->target->attr.allocated += (uint64_t)delta;
	inode_mark_attr_dirty(clone->target);
	*ret_end = end;
	return 0;
}

static int clone_segment(struct clone *clone, const struct segment *segment)
{
	uint64_t from = segment->offset, end = segment_end(segment);

	if (from < clone->from)
		from = clone->from;
	if (end > clone->from + clone->length)
		end = clone->from + clone->length;
	size_t length = (size_t)(end - from);
	int error = store_reserve(clone->engine->store, length);
	if (error)
		return error;
	struct segment *copy =
		segment_new(from - clone->from + clone->to, segment->buffer,
			    segment->start + (size_t)(from - segment->offset), length);
	if (!copy) {
		store_unreserve(clone->engine->store, length);
		return -ENOMEM;
	}
	map_insert(clone->engine, clone->target, copy);
	return 0;
}

/* Source and target may be one file: what is inserted lies outside the source's range. */
static int clone_segments(struct clone *clone)
{
	uint64_t position = clone->from, end = clone->from + clone->length;
	struct segment *segment;

	while ((segment = map_find(&clone->source->data, position)) && segment->offset < end) {
		position = segment_end(segment);
		int error = clone_segment(clone, segment);
		if (error)
			return error;
	}
	return 0;
}

/* -ENOENT: the source is not inline. */
static int clone_inline(struct clone *clone)
{
	uint8_t contents[SYMLINK_MAX + 1];
	size_t length;

	if (clone->source && !(clone->source->attr.flags & INODE_INLINE))
		return -ENOENT;
	int error = inline_get(clone->source_tree, clone->reader, clone->source_ino, contents,
			       sizeof(contents), &length);
	if (error)
		return error;
	if (!length)
		return -ENOENT;
	if (clone->from >= length)
		return 0;
	length -= clone->from;
	if (length > clone->length)
		length = clone->length;
	return data_write_bytes(clone->engine, clone->target, clone->reader, clone->to,
				contents + clone->from, length);
}

static int clone_run(struct clone *clone)
{
	uint64_t position = clone->from, end = clone->from + clone->length;

	int error = clone_inline(clone);
	if (error != -ENOENT)
		return error;
	while (position < end) {
		error = clone_window(clone, position, end, &position);
		if (error)
			return error;
	}
	return clone->source ? clone_segments(clone) : 0;
}

int data_clone(struct engine *engine, struct inode *target, uint64_t to, struct inode *source,
	       struct tree *source_tree, uint64_t source_ino, uint64_t from, uint64_t length,
	       struct reader *reader)
{
	struct clone clone = {
		.engine = engine,
		.target = target,
		.to = to,
		.source = source,
		.source_tree = source_tree,
		.source_ino = source_ino,
		.from = from,
		.length = length,
		.reader = reader,
	};

	if (!length)
		return 0;
	if (length > UINT64_MAX - from || length > UINT64_MAX - to)
		return -EINVAL;
	data_use_engine(engine, target);
	if (source) {
		clone.source_tree = head_tree(source->table->head);
		clone.source_ino = source->ino;
	}
	/* The map and extents of a target that is its own source must be what is cloned from. */
	int error = 0;
	if (target->attr.flags & INODE_INLINE)
		error = data_load_inline(engine, target, reader);
	if (!error)
		error = data_punch(engine, target, reader, to, length);
	if (!error)
		error = clone_run(&clone);
	head_mark_dirty(target->table->head);
	data_update_lists(target);
	if (!error)
		flush_consider_stream(engine, target, to + length);
	return error;
}
