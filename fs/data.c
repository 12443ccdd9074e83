/*
 * Changing a file's contents: writes, holes, truncation.
 *
 * A write first gets everything that it needs (memory, space, room in the budget) and changes the
 * map only then, so that a failure leaves the old contents.  Where its bytes end up:
 *
 *   in place               they lie in one DIRTY segment whose buffer nobody else refers to
 *   behind the segment     that ends where they begin, in the spare room of its buffer, or after
 *   before                 moving it to a buffer twice as large (up to STREAM_BUFFER)
 *   the request's buffer   a large write keeps the kernel's request, without copying
 *   an own buffer          otherwise
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "fs/data_internal.h"

enum { STREAM_BUFFER = 1 << 20 };

void data_init(struct file_data *data)
{
	memset(data, 0, sizeof(*data));
}

void data_discard(struct engine *engine, struct inode *inode)
{
	data_drop_segments(engine, inode);
	data_update_lists(inode);
}

bool data_is_dirty(const struct file_data *data)
{
	return data->root != NULL;
}

/* Never more than the file has: what is dirty may lie over extents. */
uint64_t data_allocated(const struct inode *inode)
{
	uint64_t sum = inode->attr.allocated + inode->data.segment_bytes;
	uint64_t most =
		inode->attr.size > inode->attr.allocated ? inode->attr.size : inode->attr.allocated;

	return sum < most ? sum : most;
}

void data_use_engine(struct engine *engine, struct inode *inode)
{
	struct table_flush *flush = &inode->table->flush;

	/* Workers read it without the lock. */
	if (!flush->engine)
		flush->engine = engine;
	assert(flush->engine == engine);
}

/* ---- inline contents ---- */

/* Inline items are gone: the file has no contents but those in its map. */
static void leave_inline(struct inode *inode)
{
	inode->attr.flags &= ~(uint32_t)INODE_INLINE;
	inode->attr.allocated = 0;
	inode_mark_attr_dirty(inode);
}

static int delete_inline(struct inode *inode, struct reader *reader)
{
	int error = inline_delete(head_tree(inode->table->head), reader, inode->ino);
	if (error && error != -ENOENT)
		return error;
	leave_inline(inode);
	return 0;
}

/* The inline contents, up to the size, as a segment that is in no map yet; NULL if empty. */
static int read_inline(struct engine *engine, struct inode *inode, struct reader *reader,
		       struct segment **ret)
{
	struct buffer *buffer = buffer_new(engine->pool, SYMLINK_MAX);
	size_t length = 0;
	int error = buffer ? inline_get(head_tree(inode->table->head), reader, inode->ino,
					buffer->data, buffer->capacity, &length)
			   : -ENOMEM;
	struct segment *segment = NULL;

	if (!error && length > inode->attr.size)
		length = inode->attr.size;
	if (!error && length) {
		buffer->used = length;
		segment = segment_new(0, buffer, 0, length);
		error = segment ? store_reserve(engine->store, length) : -ENOMEM;
	}
	if (error)
		segment = segment_free(engine, segment);
	buffer_unref(engine->pool, buffer);
	if (!error)
		*ret = segment;
	return error;
}

int data_load_inline(struct engine *engine, struct inode *inode, struct reader *reader)
{
	struct segment *segment = NULL;

	assert(!inode->data.root);
	data_use_engine(engine, inode);
	int error = read_inline(engine, inode, reader, &segment);
	if (error)
		return error;
	error = delete_inline(inode, reader);
	if (error) {
		if (segment)
			store_unreserve(engine->store, segment->length);
		segment_free(engine, segment);
		return error;
	}
	if (segment) {
		map_insert(engine, inode, segment);
		data_update_lists(inode);
	}
	return 0;
}

/* Before [offset, end) changes. */
static int prepare_inline(struct engine *engine, struct inode *inode, struct reader *reader,
			  uint64_t offset, uint64_t end)
{
	if (!(inode->attr.flags & INODE_INLINE))
		return 0;
	if (offset == 0 && end >= inode->attr.size)
		return delete_inline(inode, reader);
	return data_load_inline(engine, inode, reader);
}

/* ---- writing ---- */

struct write {
	struct engine *engine;
	struct inode *inode;
	uint64_t offset;
	const uint8_t *bytes;
	size_t length;
	struct buffer *request; /* that the bytes lie in, or NULL */

	/* What write_prepare() decided. */
	struct segment *tail;  /* the segment that is continued, or NULL */
	bool grow;	       /* `buffer` takes the place of the tail's */
	size_t fill;	       /* bytes that go into the tail's spare room */
	struct buffer *buffer; /* owned, for the rest */
	struct segment *fresh; /* owned, for the rest */
	struct segment *spare; /* owned, for cutting */
};

static bool write_in_place(struct write *write)
{
	struct segment *segment = map_find(&write->inode->data, write->offset);

	if (!segment || segment->flush || segment->offset > write->offset ||
	    segment_end(segment) < write->offset + write->length ||
	    !buffer_is_sole(segment->buffer))
		return false;
	memcpy(segment->buffer->data + segment->start + (write->offset - segment->offset),
	       write->bytes, write->length);
	return true;
}

/* Room in memory and on the disk; on success `length` bytes are reserved. */
static int write_admit(struct write *write, struct reader *reader)
{
	struct engine *engine = write->engine;
	struct inode_table *table = write->inode->table;
	bool over = engine_is_over_budget(engine, write->length);

	flush_relieve(engine, table, reader, over);
	int error = over ? -EAGAIN : store_reserve(engine->store, write->length);
	if (!error) {
		atomic_store_explicit(&engine->short_of_space, false, memory_order_relaxed);
		return 0;
	}
	size_t segments = atomic_load(&engine->segment_bytes);
	if (error == -ENOSPC && segments) {
		/* Reserved is more than will be stored: see what is left when it is. */
		atomic_store(&engine->short_of_space, true);
		flush_relieve(engine, table, reader, true);
		error = -EAGAIN;
	}
	int stuck = atomic_load(&engine->stuck);
	if (error == -EAGAIN && stuck && segments == atomic_load(&engine->dirty_bytes))
		return stuck == -ENOSPC || stuck == -ENOMEM ? stuck : -EIO;
	return error;
}

/* A segment that bytes can be appended to. */
static struct segment *find_tail(const struct write *write)
{
	struct segment *tail = map_find_ending(&write->inode->data, write->offset);

	if (!tail || tail->flush || tail->start + tail->length != tail->buffer->used)
		return NULL;
	return tail;
}

static bool keeps_request(const struct write *write)
{
	return write->request && write->length >= write->request->capacity / 4 * 3;
}

/* Chooses the place and gets the memory. */
static int write_prepare(struct write *write)
{
	struct buffer_pool *pool = write->engine->pool;
	size_t rest = write->length, wanted = rest;

	int error = map_prepare_carve(&write->inode->data, write->offset,
				      write->offset + write->length, &write->spare);
	if (error)
		return error;
	if (keeps_request(write)) {
		write->fresh =
			segment_new(write->offset, write->request,
				    (size_t)(write->bytes - write->request->data), write->length);
		return write->fresh ? 0 : -ENOMEM;
	}
	struct segment *tail = write->tail = find_tail(write);
	if (tail) {
		size_t capacity = tail->buffer->capacity, spare = capacity - tail->buffer->used;
		size_t twice = capacity * 2 < STREAM_BUFFER ? capacity * 2 : STREAM_BUFFER;
		write->fill = rest < spare ? rest : spare;
		rest -= write->fill;
		wanted = rest > twice ? rest : twice;
		if (rest && tail->length + write->length <= STREAM_BUFFER) {
			write->grow = true;
			write->fill = 0;
			wanted = tail->length + write->length;
			wanted = wanted > twice ? wanted : twice;
		}
	}
	if (!rest)
		return 0;
	write->buffer = buffer_new(pool, wanted);
	if (!write->buffer)
		return -ENOMEM;
	if (write->grow)
		return 0;
	write->fresh = segment_new(write->offset + write->fill, write->buffer, 0, rest);
	return write->fresh ? 0 : -ENOMEM;
}

static void write_release(struct write *write)
{
	segment_free(write->engine, write->spare);
	segment_free(write->engine, write->fresh);
	buffer_unref(write->engine->pool, write->buffer);
}

/* Moves the tail to the larger buffer, which then has room. */
static void write_grow(struct write *write)
{
	struct segment *tail = write->tail;
	struct buffer *buffer = write->buffer;

	memcpy(buffer->data, tail->buffer->data + tail->start, tail->length);
	buffer->used = tail->length;
	buffer_charge(write->engine->pool, buffer);
	buffer_unref(write->engine->pool, tail->buffer);
	tail->buffer = buffer;
	tail->start = 0;
	write->buffer = NULL;
	write->fill = write->length;
}

static void write_apply(struct write *write)
{
	struct engine *engine = write->engine;
	struct inode *inode = write->inode;

	map_carve(engine, inode, write->offset, write->offset + write->length, write->spare);
	write->spare = NULL;
	if (write->grow)
		write_grow(write);
	if (write->fill) {
		struct buffer *buffer = write->tail->buffer;
		memcpy(buffer->data + buffer->used, write->bytes, write->fill);
		buffer->used += write->fill;
		map_extend(engine, inode, write->tail, write->fill);
	}
	if (write->fresh) {
		if (write->buffer) {
			memcpy(write->buffer->data, write->bytes + write->fill,
			       write->fresh->length);
			write->buffer->used = write->fresh->length;
		}
		map_insert(engine, inode, write->fresh);
		write->fresh = NULL;
	}
}

static int write_run(struct write *write, struct reader *reader)
{
	struct engine *engine = write->engine;
	struct inode *inode = write->inode;
	uint64_t end = write->offset + write->length;

	if (!write->length)
		return 0;
	data_use_engine(engine, inode);
	if (write_in_place(write)) {
		head_mark_dirty(inode->table->head);
		return 0;
	}
	int error = write_admit(write, reader);
	if (error)
		return error;
	error = prepare_inline(engine, inode, reader, write->offset, end);
	if (!error)
		error = write_prepare(write);
	if (error) {
		store_unreserve(engine->store, write->length);
		write_release(write);
		return error;
	}
	write_apply(write);
	write_release(write);
	inode->data.last_write_end = end;
	head_mark_dirty(inode->table->head);
	data_update_lists(inode);
	flush_consider_stream(engine, inode, end);
	return 0;
}

int data_write(struct engine *engine, struct inode *inode, struct reader *reader, uint64_t offset,
	       struct buffer *buffer, size_t start, size_t length)
{
	struct write write = {
		.engine = engine,
		.inode = inode,
		.offset = offset,
		.bytes = buffer->data + start,
		.length = length,
		.request = buffer,
	};

	assert(start + length <= buffer->capacity);
	return write_run(&write, reader);
}

int data_write_bytes(struct engine *engine, struct inode *inode, struct reader *reader,
		     uint64_t offset, const void *bytes, size_t length)
{
	struct write write = {
		.engine = engine,
		.inode = inode,
		.offset = offset,
		.bytes = bytes,
		.length = length,
	};

	assert(length <= UINT32_MAX);
	return write_run(&write, reader);
}

/* ---- holes ---- */

int data_punch(struct engine *engine, struct inode *inode, struct reader *reader, uint64_t offset,
	       uint64_t length)
{
	uint64_t end = length > UINT64_MAX - offset ? UINT64_MAX : offset + length;
	struct segment *spare;
	int64_t delta = 0;

	if (offset >= end)
		return 0;
	int error = prepare_inline(engine, inode, reader, offset, end);
	if (!error)
		error = map_prepare_carve(&inode->data, offset, end, &spare);
	if (error)
		return error;
	if (inode->attr.allocated)
		error = extent_replace(head_tree(inode->table->head), reader, inode->ino, offset,
				       end - offset, NULL, 0, &delta);
	if (error) {
		segment_free(engine, spare);
		return error;
	}
	map_carve(engine, inode, offset, end, spare);
	inode->attr.allocated += (uint64_t)delta;
	inode_mark_attr_dirty(inode);
	data_update_lists(inode);
	return 0;
}

int data_truncate(struct engine *engine, struct inode *inode, struct reader *reader, uint64_t size)
{
	if (size < inode->attr.size)
		return data_punch(engine, inode, reader, size, UINT64_MAX - size);
	if (size > inode->attr.size && (inode->attr.flags & INODE_INLINE))
		return data_load_inline(engine, inode, reader);
	return 0;
}
