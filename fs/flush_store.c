/*
 * What a worker does with a batch while no lock is held: cutting runs into parts, finding holes,
 * storing chunks.
 *
 * A run is first split at stretches of zeros (HOLE_MIN bytes or more, in blocks of HOLE_BLOCK as
 * the file has them), which become holes.  What lies between is one chunk where it is short, and
 * cut by content otherwise.  A chunk that turns out to be all zeros becomes a hole, too.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/chunker.h"
#include "fs/data_internal.h"

enum {
	HOLE_BLOCK = 4096,
	HOLE_MIN = 16 * 1024,
	WINDOW_VECTORS = 64, /* more pieces than that are copied together for the chunker */
};

_Static_assert((int)CHUNKER_MAX <= (int)CHUNK_MAX, "every chunk must fit the store");

/* ---- batches as containers ---- */

/* Doubles an array that is full.  `array` points to the pointer. */
static int grow(void *array, uint32_t count, uint32_t *capacity, size_t size)
{
	if (count < *capacity)
		return 0;
	uint32_t wanted = *capacity ? *capacity * 2 : 8;
	void *old, *new;
	memcpy(&old, array, sizeof(old));
	new = reallocarray(old, wanted, size);
	if (!new)
		return -ENOMEM;
	memcpy(array, &new, sizeof(new));
	*capacity = wanted;
	return 0;
}

struct batch *batch_new(struct inode_table *table)
{
	struct batch *batch = calloc(1, sizeof(*batch));
	if (batch)
		batch->table = table;
	return batch;
}

struct batch *batch_free(struct engine *engine, struct batch *batch)
{
	if (!batch)
		return NULL;
	for (uint32_t i = 0; i < batch->vector_count; i++)
		buffer_unref(engine->pool, batch->buffers[i]);
	for (uint32_t i = 0; i < batch->run_count; i++)
		inode_unref(batch->runs[i].inode);
	free(batch->vectors);
	free(batch->buffers);
	free(batch->runs);
	free(batch->parts);
	free(batch->extents);
	free(batch);
	return NULL;
}

static int reserve_vector(struct batch *batch)
{
	uint32_t capacity = batch->vector_capacity;
	int error =
		grow(&batch->buffers, batch->vector_count, &capacity, sizeof(batch->buffers[0]));
	if (!error)
		error = grow(&batch->vectors, batch->vector_count, &batch->vector_capacity,
			     sizeof(batch->vectors[0]));
	return error;
}

int batch_add(struct batch *batch, struct inode *inode, uint64_t offset, struct buffer *buffer,
	      uint32_t start, uint32_t length)
{
	struct run *last = batch->run_count ? &batch->runs[batch->run_count - 1] : NULL;
	bool goes_on = last && last->inode == inode && last->offset + last->length == offset;

	int error = reserve_vector(batch);
	if (!error && !goes_on)
		error = grow(&batch->runs, batch->run_count, &batch->run_capacity,
			     sizeof(batch->runs[0]));
	if (error)
		return error;
	if (!goes_on) {
		last = &batch->runs[batch->run_count++];
		*last = (struct run){.inode = inode, .offset = offset};
		inode_ref(inode);
	}
	batch->buffers[batch->vector_count] = buffer_ref(buffer);
	batch->vectors[batch->vector_count++] =
		(struct iovec){.iov_base = buffer->data + start, .iov_len = length};
	last->vectors++;
	last->length += length;
	batch->bytes += length;
	return 0;
}

/* ---- walking over scattered bytes ---- */

struct cursor {
	const struct iovec *vector;
	size_t skip; /* bytes of *vector that are passed */
};

static void cursor_advance(struct cursor *cursor, size_t length)
{
	cursor->skip += length;
	while (cursor->skip && cursor->skip >= cursor->vector->iov_len) {
		cursor->skip -= cursor->vector->iov_len;
		cursor->vector++;
	}
}

/* The next `length` bytes (at least one), if they lie together. */
static const uint8_t *cursor_flat(const struct cursor *cursor, size_t length)
{
	if (cursor->vector->iov_len - cursor->skip < length)
		return NULL;
	return (const uint8_t *)cursor->vector->iov_base + cursor->skip;
}

static void cursor_gather(struct cursor cursor, uint8_t *out, size_t length)
{
	while (length) {
		size_t piece = cursor.vector->iov_len - cursor.skip;
		if (piece > length)
			piece = length;
		memcpy(out, (const uint8_t *)cursor.vector->iov_base + cursor.skip, piece);
		out += piece;
		length -= piece;
		cursor_advance(&cursor, piece);
	}
}

/* The next `length` bytes as a vector of at most `capacity`; how many, or 0 where that is too few.
 */
static int cursor_window(struct cursor cursor, size_t length, struct iovec *window, int capacity)
{
	int count = 0;

	while (length) {
		if (count == capacity)
			return 0;
		size_t piece = cursor.vector->iov_len - cursor.skip;
		if (piece > length)
			piece = length;
		window[count++] = (struct iovec){
			.iov_base = (uint8_t *)cursor.vector->iov_base + cursor.skip,
			.iov_len = piece,
		};
		length -= piece;
		cursor_advance(&cursor, piece);
	}
	return count;
}

static bool bytes_are_zero(const uint8_t *bytes, size_t length)
{
	static const uint8_t zeros[8];
	size_t head = length < sizeof(zeros) ? length : sizeof(zeros);

	if (memcmp(bytes, zeros, head) != 0)
		return false;
	return length <= sizeof(zeros) ||
	       memcmp(bytes, bytes + sizeof(zeros), length - sizeof(zeros)) == 0;
}

static bool cursor_is_zero(struct cursor cursor, size_t length)
{
	while (length) {
		size_t piece = cursor.vector->iov_len - cursor.skip;
		if (piece > length)
			piece = length;
		if (!bytes_are_zero((const uint8_t *)cursor.vector->iov_base + cursor.skip, piece))
			return false;
		length -= piece;
		cursor_advance(&cursor, piece);
	}
	return true;
}

/* ---- cutting ---- */

struct cutter {
	struct batch *batch;
	struct buffer *scratch; /* of CHUNKER_MAX bytes; made when first needed */
	struct buffer_pool *pool;
	struct cursor at; /* behind the parts so far */
	bool open;	  /* more bytes may follow the run */
	size_t done;	  /* length of the parts so far */
};

static int add_part(struct cutter *cutter, size_t length, uint32_t flags)
{
	struct batch *batch = cutter->batch;
	int error = grow(&batch->parts, batch->part_count, &batch->part_capacity,
			 sizeof(batch->parts[0]));
	if (error)
		return error;
	batch->parts[batch->part_count++] = (uint32_t)length | flags;
	cursor_advance(&cutter->at, length);
	cutter->done += length;
	return 0;
}

static int need_scratch(struct buffer_pool *pool, struct buffer **scratch)
{
	if (!*scratch)
		*scratch = buffer_new(pool, CHUNKER_MAX);
	return *scratch ? 0 : -ENOMEM;
}

/* Where the next chunk of at most `length` bytes ends. */
static int64_t cut_chunk(struct cutter *cutter, size_t length)
{
	struct iovec window[WINDOW_VECTORS];

	if (length > CHUNKER_MAX)
		length = CHUNKER_MAX;
	int count = cursor_window(cutter->at, length, window, WINDOW_VECTORS);
	if (count)
		return (int64_t)chunker_cut_vector(window, count);
	int error = need_scratch(cutter->pool, &cutter->scratch);
	if (error)
		return error;
	cursor_gather(cutter->at, cutter->scratch->data, length);
	return (int64_t)chunker_cut(cutter->scratch->data, length);
}

/* Bytes without long zeros.  `open`: what follows may yet belong to the last chunk. */
static int cut_stretch(struct cutter *cutter, size_t length, bool open)
{
	if (length && length <= CHUNKER_AVERAGE && !open)
		return add_part(cutter, length, 0);
	while (length) {
		int64_t cut = cut_chunk(cutter, length);
		if (cut < 0)
			return (int)cut;
		if (open && (size_t)cut == length && cut < CHUNKER_MAX)
			break;
		int error = add_part(cutter, (size_t)cut, 0);
		if (error)
			return error;
		length -= (size_t)cut;
	}
	return 0;
}

/* The zeros from `from` to `to` in the run, and what is between the parts so far and them. */
static int cut_hole(struct cutter *cutter, size_t from, size_t to)
{
	if (to - from < HOLE_MIN)
		return 0;
	int error = cut_stretch(cutter, from - cutter->done, false);
	if (!error)
		error = add_part(cutter, to - from, PART_HOLE);
	return error;
}

/* Cuts a run into batch->parts. */
static int cut_run(struct cutter *cutter, const struct run *run)
{
	struct cursor look = cutter->at;
	size_t position = (size_t)(-run->offset % HOLE_BLOCK);
	size_t zeros = position; /* since when there have been only zeros */
	int error = 0;

	if (position < run->length)
		cursor_advance(&look, position);
	while (!error && position + HOLE_BLOCK <= run->length) {
		bool zero = cursor_is_zero(look, HOLE_BLOCK);
		if (!zero) {
			error = cut_hole(cutter, zeros, position);
			zeros = position + HOLE_BLOCK;
		}
		position += HOLE_BLOCK;
		if (position < run->length)
			cursor_advance(&look, HOLE_BLOCK);
	}
	if (!error && zeros < position && position <= run->length)
		error = cut_hole(cutter, zeros, position);
	if (!error)
		error = cut_stretch(cutter, run->length - cutter->done, cutter->open);
	return error;
}

int64_t batch_cut(struct batch *batch, bool open)
{
	struct cutter cutter = {
		.batch = batch,
		.pool = engine_buffers(batch->table->flush.engine),
		.at = {batch->vectors, 0},
		.open = open,
	};

	assert(batch->run_count == 1);
	batch->part_count = 0;
	int error = cut_run(&cutter, &batch->runs[0]);
	buffer_unref(cutter.pool, cutter.scratch);
	batch->is_cut = !error;
	return error ? error : (int64_t)cutter.done;
}

/* ---- dividing a batch of one long run ---- */

/* Moves the first `count` parts, which are `length` bytes, to the empty batch `front`. */
static int move_front(struct batch *batch, struct batch *front, uint32_t count, uint32_t length)
{
	struct run *run = &batch->runs[0];
	uint64_t offset = run->offset;
	uint32_t whole = 0;

	for (uint32_t left = length; left; whole++) {
		const struct iovec *vector = &batch->vectors[whole];
		struct buffer *buffer = batch->buffers[whole];
		uint32_t piece = vector->iov_len < left ? (uint32_t)vector->iov_len : left;
		uint32_t start = (uint32_t)((uint8_t *)vector->iov_base - buffer->data);
		int error = batch_add(front, run->inode, offset, buffer, start, piece);
		if (error)
			return error;
		offset += piece;
		left -= piece;
		if (piece < vector->iov_len)
			break;
	}
	front->parts = reallocarray(NULL, count, sizeof(front->parts[0]));
	if (!front->parts)
		return -ENOMEM;
	memcpy(front->parts, batch->parts, count * sizeof(front->parts[0]));
	front->part_count = front->part_capacity = count;
	front->is_cut = true;
	front->number = batch->number;
	return 0;
}

/* The other side of it, which cannot fail. */
static void drop_front(struct engine *engine, struct batch *batch, uint32_t count, uint32_t length)
{
	struct run *run = &batch->runs[0];
	uint32_t whole = 0;

	run->offset += length;
	run->length -= length;
	batch->bytes -= length;
	for (; whole < batch->vector_count && batch->vectors[whole].iov_len <= length; whole++) {
		length -= (uint32_t)batch->vectors[whole].iov_len;
		buffer_unref(engine->pool, batch->buffers[whole]);
	}
	run->vectors -= whole;
	batch->vector_count -= whole;
	memmove(batch->vectors, batch->vectors + whole,
		batch->vector_count * sizeof(batch->vectors[0]));
	memmove(batch->buffers, batch->buffers + whole,
		batch->vector_count * sizeof(batch->buffers[0]));
	if (length) {
		batch->vectors[0].iov_base = (uint8_t *)batch->vectors[0].iov_base + length;
		batch->vectors[0].iov_len -= length;
	}
	batch->part_count -= count;
	memmove(batch->parts, batch->parts + count, batch->part_count * sizeof(batch->parts[0]));
}

struct batch *batch_split(struct engine *engine, struct batch *batch, size_t bytes)
{
	uint32_t count = 0, length = 0;

	while (count < batch->part_count && length < bytes)
		length += batch->parts[count++] & ~(uint32_t)PART_HOLE;
	if (length >= batch->runs[0].length)
		return NULL;
	struct batch *front = batch_new(batch->table);
	if (!front)
		return NULL;
	if (move_front(batch, front, count, length))
		return batch_free(engine, front);
	drop_front(engine, batch, count, length);
	return front;
}

/* ---- storing ---- */

struct storer {
	struct engine *engine;
	struct batch *batch;
	struct buffer *scratch;
};

static int store_part(struct storer *storer, struct cursor at, uint64_t offset, uint32_t length)
{
	struct batch *batch = storer->batch;
	const uint8_t *bytes = cursor_flat(&at, length);
	uint64_t chunk;

	int error = grow(&batch->extents, batch->extent_count, &batch->extent_capacity,
			 sizeof(batch->extents[0]));
	if (!error && !bytes) {
		error = need_scratch(storer->engine->pool, &storer->scratch);
		if (!error) {
			cursor_gather(at, storer->scratch->data, length);
			bytes = storer->scratch->data;
		}
	}
	if (error)
		return error;
	if (bytes_are_zero(bytes, length))
		return 0;
	error = chunk_store(storer->engine->store, bytes, length, &chunk, NULL);
	if (error)
		return error;
	batch->extents[batch->extent_count++] =
		(struct extent){.offset = offset, .chunk = chunk, .length = length};
	return 0;
}

static int store_run(struct storer *storer, struct run *run, const struct iovec *vectors)
{
	struct batch *batch = storer->batch;
	struct cursor at = {vectors, 0};
	uint32_t before = batch->extent_count;
	uint64_t offset = run->offset;
	int error = 0;

	if (!batch->is_cut) {
		struct cutter cutter = {
			.batch = batch,
			.scratch = storer->scratch,
			.pool = storer->engine->pool,
			.at = at,
		};
		batch->part_count = 0;
		error = cut_run(&cutter, run);
		storer->scratch = cutter.scratch;
	}
	for (uint32_t i = 0; i < batch->part_count && !error; i++) {
		uint32_t length = batch->parts[i] & ~(uint32_t)PART_HOLE;
		if (!(batch->parts[i] & PART_HOLE))
			error = store_part(storer, at, offset, length);
		offset += length;
		if (offset < run->offset + run->length)
			cursor_advance(&at, length);
	}
	if (error)
		batch->extent_count = before;
	assert(error || offset == run->offset + run->length);
	run->extents = batch->extent_count - before;
	return error;
}

void batch_store(struct engine *engine, struct batch *batch)
{
	struct storer storer = {.engine = engine, .batch = batch};
	const struct iovec *vectors = batch->vectors;

	for (uint32_t i = 0; i < batch->run_count; i++) {
		struct run *run = &batch->runs[i];
		/* After a failure the rest is not even tried: it would most likely fail as well. */
		run->error = batch->error ? batch->error : store_run(&storer, run, vectors);
		if (run->error && !batch->error)
			batch->error = run->error;
		vectors += run->vectors;
	}
	buffer_unref(engine->pool, storer.scratch);
}
