/*
 * Flushing: what is taken when, and how the results come into the tree.
 *
 * Why nobody waits for ever.  Everything that is FLUSHING is a batch that is either in the flush
 * queue, or with a thread that stores it (which takes no head lock while it does), or on its
 * table's list `done`.  Whoever waits for batches takes them out of the queue himself (for a small
 * one no worker is even woken), and applies `done` himself if he holds the head lock.  A worker that
 * has stored a batch puts it on `done` before it asks for the head lock; if the committing thread
 * holds that, it finds the batch there.  A stream that a worker still cuts is not FLUSHING: taking
 * its segments while the worker waits for the head lock makes it stale, and the worker drops it.
 *
 * Why no result comes too late.  Extents are put only where the map still shows the number of the
 * batch; numbers are never used twice.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/data_internal.h"

enum {
	RELIEVE_BYTES = 8 << 20, /* taken at a time, by whoever writes */
	RELIEVE_SEGMENTS = 2048,
	FLUSH_ALL_BYTES = 16 << 20, /* taken at a time for a commit */
	FLUSH_ALL_SEGMENTS = 4096,
	FLUSH_ALL_PENDING = 8,
	QUIET_BYTES = 64 << 10,
};

/* ---- applying results; head lock held exclusively ---- */

/* Puts what was stored for [offset, end), all of which is still FLUSHING. */
static int put_range(struct inode *inode, struct reader *reader, struct extent *extents,
		     uint32_t count, uint64_t offset, uint64_t end)
{
	uint32_t first = 0, last;
	int64_t delta;

	while (first < count && extents[first].offset + extents[first].length <= offset)
		first++;
	for (last = first; last < count && extents[last].offset < end; last++) {
		struct extent *extent = &extents[last];
		uint64_t extent_end = extent->offset + extent->length;
		if (extent_end > end)
			extent->length -= (uint32_t)(extent_end - end);
		if (extent->offset < offset) {
			uint32_t skip = (uint32_t)(offset - extent->offset);
			extent->offset += skip;
			extent->chunk_offset += skip;
			extent->length -= skip;
		}
	}
	int error = extent_replace(head_tree(inode->table->head), reader, inode->ino, offset,
				   end - offset, extents + first, (int)(last - first), &delta);
	if (error)
		return error;
	inode->attr.allocated += (uint64_t)delta;
	if (delta)
		inode_mark_attr_dirty(inode);
	return 0;
}

/* An extent that two ranges share is clipped for one of them only. */
static int put_range_of(struct inode *inode, struct reader *reader, const struct run *run,
			struct extent *extents, uint64_t offset, uint64_t end)
{
	bool whole = offset == run->offset && end == run->offset + run->length;
	if (whole)
		return put_range(inode, reader, extents, run->extents, offset, end);
	enum { COPY = 64 };
	struct extent copy[COPY];
	uint32_t first = 0;

	/* In windows of COPY extents, each with its part of the range. */
	while (first < run->extents && extents[first].offset + extents[first].length <= offset)
		first++;
	while (offset < end) {
		uint32_t count = run->extents - first < COPY ? run->extents - first : COPY;
		uint64_t stop = end;
		for (uint32_t i = 0; i < count; i++)
			copy[i] = extents[first + i];
		if (first + count < run->extents && extents[first + count].offset < end)
			stop = extents[first + count].offset;
		int error = put_range(inode, reader, copy, count, offset, stop);
		if (error)
			return error;
		first += count;
		offset = stop;
	}
	return 0;
}

static struct segment *first_of_batch(struct segment *segment, const struct batch *batch,
				      uint64_t end)
{
	while (segment && segment->offset < end && segment->flush != batch->number)
		segment = segment_next(segment);
	return segment && segment->offset < end ? segment : NULL;
}

/* What comes after a failure: everything of the run is DIRTY again. */
static void run_failed(struct engine *engine, struct inode *inode, const struct batch *batch,
		       const struct run *run, int error)
{
	uint64_t end = run->offset + run->length;
	struct segment *segment = map_find(&inode->data, run->offset);

	while ((segment = first_of_batch(segment, batch, end))) {
		map_set_flush(engine, inode, segment, 0);
		segment = segment_next(segment);
	}
	if (error != -ENOSPC && error != -ENOMEM)
		inode->data.error = -EIO;
	head_mark_dirty(inode->table->head);
}

/*
 * One stretch that still shows the batch's number, from the segment `first` on; `ret_position` is
 * where it ends.  Of a long run that was divided, segments may reach beyond this piece of it.
 */
static int apply_stretch(struct engine *engine, struct reader *reader, struct inode *inode,
			 const struct batch *batch, const struct run *run, struct extent *extents,
			 struct segment *first, uint64_t *ret_position)
{
	uint64_t offset = first->offset, end = segment_end(first), stop = run->offset + run->length;
	struct segment *spare, *next = segment_next(first);

	while (next && next->flush == batch->number && next->offset == end && end < stop) {
		end = segment_end(next);
		next = segment_next(next);
	}
	offset = offset > run->offset ? offset : run->offset;
	end = end < stop ? end : stop;
	int error = map_prepare_carve(&inode->data, offset, end, &spare);
	if (error)
		return error;
	/* `gone`: the tree has other contents by now, or none. */
	if (!inode->gone)
		error = put_range_of(inode, reader, run, extents, offset, end);
	if (error) {
		segment_free(engine, spare);
		return error;
	}
	map_carve(engine, inode, offset, end, spare);
	*ret_position = end;
	return 0;
}

static int apply_run(struct engine *engine, struct reader *reader, const struct batch *batch,
		     struct run *run, struct extent *extents)
{
	struct inode *inode = run->inode;
	uint64_t end = run->offset + run->length, position = run->offset;
	int error = run->error;

	if (!reader && !error)
		error = -ENOMEM;
	while (!error) {
		struct segment *segment =
			first_of_batch(map_find(&inode->data, position), batch, end);
		if (!segment)
			break;
		error = apply_stretch(engine, reader, inode, batch, run, extents, segment,
				      &position);
	}
	if (error)
		run_failed(engine, inode, batch, run, error);
	else if (run->extents == 1)
		scattered_note(&inode->table->scattered, engine->store, inode->ino, run->offset,
			       run->length, inode->attr.size);
	data_update_lists(inode);
	return error;
}

/* Applies a batch, tells who waits for it, frees it. */
static int batch_apply(struct engine *engine, struct reader *reader, struct batch *batch)
{
	struct extent *extents = batch->extents;
	int error = 0;

	for (uint32_t i = 0; i < batch->run_count; i++) {
		int run_error = apply_run(engine, reader, batch, &batch->runs[i], extents);
		if (run_error && !error)
			error = run_error;
		extents += batch->runs[i].extents;
	}
	head_mark_dirty(batch->table->head);
	engine_note_result(engine, error);

	struct inode_table *table = batch->table;
	struct flush_waiter *waiter = batch->waiter;
	batch_free(engine, batch);
	pthread_mutex_lock(&engine->lock);
	table->flush.in_flight--;
	if (waiter) {
		waiter->pending--;
		if (error && !waiter->error)
			waiter->error = error;
	}
	pthread_cond_broadcast(&engine->progress);
	pthread_mutex_unlock(&engine->lock);
	return error;
}

/* Applies everything on the table's list; the first error. */
static int batches_apply(struct engine *engine, struct inode_table *table)
{
	pthread_mutex_lock(&engine->lock);
	struct batch *batch = table->flush.done;
	table->flush.done = NULL;
	pthread_mutex_unlock(&engine->lock);
	if (!batch)
		return 0;

	struct reader *reader = NULL;
	int error = reader_acquire(engine->store, &reader);
	while (batch) {
		struct batch *next = batch->next;
		int batch_error = batch_apply(engine, reader, batch);
		if (batch_error && !error)
			error = batch_error;
		batch = next;
	}
	reader_release(reader);
	return error;
}

/* ---- taking segments; head lock held exclusively ---- */

/* Gathers segments, also of several files, into batches. */
struct taker {
	struct engine *engine;
	struct inode_table *table;
	struct reader *reader;
	struct flush_waiter *waiter;
	bool front; /* before what is in the queue */
	struct batch *batch;
	bool submitted;
	size_t bytes;	   /* taken so far */
	unsigned segments; /* so many, and files that went inline */
};

static void taker_submit(struct taker *taker)
{
	struct batch *batch = taker->batch;
	if (!batch)
		return;
	taker->batch = NULL;
	/* Those who wait for what they take lend a hand, and another thread is not awake sooner. */
	batch->quiet =
		(taker->waiter || taker->front) && !taker->submitted && batch->bytes <= QUIET_BYTES;
	taker->submitted = true;
	if (taker->waiter) {
		batch->waiter = taker->waiter;
		pthread_mutex_lock(&taker->engine->lock);
		taker->waiter->pending++;
		pthread_mutex_unlock(&taker->engine->lock);
	}
	engine_queue_flush(taker->engine, batch, taker->front);
}

static bool continues_run(const struct batch *batch, const struct inode *inode, uint64_t offset)
{
	if (!batch || !batch->run_count)
		return false;
	const struct run *last = &batch->runs[batch->run_count - 1];
	return last->inode == inode && last->offset + last->length == offset;
}

/* The batch for a segment.  A run goes on in its batch, so that it is cut by content only. */
static struct batch *taker_batch(struct taker *taker, const struct inode *inode, uint64_t offset)
{
	struct batch *batch = taker->batch;
	size_t most = continues_run(batch, inode, offset) ? BATCH_RUN_MAX : BATCH_BYTES;

	if (batch &&
	    (batch->bytes >= most || (batch->run_count >= BATCH_RUNS && most == BATCH_BYTES)))
		taker_submit(taker);
	if (!taker->batch) {
		taker->batch = batch_new(taker->table);
		if (taker->batch)
			taker->batch->number = atomic_fetch_add(&taker->engine->last_number, 1) + 1;
	}
	return taker->batch;
}

static int take_segment(struct taker *taker, struct inode *inode, struct segment *segment)
{
	struct batch *batch = taker_batch(taker, inode, segment->offset);
	if (!batch)
		return -ENOMEM;
	int error = batch_add(batch, inode, segment->offset, segment->buffer, segment->start,
			      segment->length);
	if (error) {
		/* An empty batch would do no harm, but tell nobody anything. */
		if (!batch->run_count)
			taker->batch = batch_free(taker->engine, batch);
		return error;
	}
	map_set_flush(taker->engine, inode, segment, batch->number);
	taker->bytes += segment->length;
	taker->segments++;
	return 0;
}

/* Small, without extents: its contents belong into the tree. */
static bool goes_inline(const struct inode *inode)
{
	const struct inode_attr *attr = &inode->attr;
	const struct segment *last = map_last(&inode->data);

	return S_ISREG(attr->mode) && attr->size <= INLINE_MAX && attr->allocated == 0 &&
	       !(attr->flags & INODE_INLINE) && last && segment_end(last) <= attr->size;
}

static int take_inline(struct taker *taker, struct inode *inode)
{
	uint8_t contents[INLINE_MAX] = {0};
	struct inode_attr *attr = &inode->attr;

	for (struct segment *segment = map_find(&inode->data, 0); segment;
	     segment = segment_next(segment))
		memcpy(contents + segment->offset, segment->buffer->data + segment->start,
		       segment->length);
	int error = inline_put(head_tree(taker->table->head), taker->reader, inode->ino, contents,
			       attr->size);
	if (error)
		return error;
	attr->flags |= INODE_INLINE;
	attr->allocated = attr->size;
	taker->segments++;
	taker->bytes += inode->data.segment_bytes;
	data_drop_segments(taker->engine, inode);
	inode_mark_attr_dirty(inode);
	return 0;
}

/* The DIRTY segments of a file, run by run, until the limits are passed. */
static int take_segments(struct taker *taker, struct inode *inode, size_t max_bytes,
			 unsigned max_segments)
{
	/* A long run had better be alone in its batch. */
	if (inode->data.dirty_bytes > BATCH_BYTES)
		taker_submit(taker);
	int error = 0;
	struct segment *segment = map_find(&inode->data, 0);
	for (; segment && !error; segment = segment_next(segment)) {
		if (segment->flush)
			continue;
		if ((taker->bytes >= max_bytes || taker->segments >= max_segments) &&
		    !continues_run(taker->batch, inode, segment->offset))
			break;
		error = take_segment(taker, inode, segment);
	}
	return error;
}

/* Everything DIRTY of a file, unless that is more than the limits. */
static int take_inode(struct taker *taker, struct inode *inode, size_t max_bytes,
		      unsigned max_segments)
{
	int error = 0;

	if (inode->gone) {
		data_discard(taker->engine, inode);
		return 0;
	}
	if (inode->data.cutting)
		inode->data.cutting->stale = true;
	if (goes_inline(inode))
		error = take_inline(taker, inode);
	else
		error = take_segments(taker, inode, max_bytes, max_segments);
	data_update_lists(inode);
	return error;
}

/* ---- streams ---- */

/* How much from `segment` on is DIRTY without a gap, looking no further than `enough`. */
static uint64_t run_length_from(struct segment *segment, uint64_t enough)
{
	uint64_t length = 0, end = segment ? segment->offset : 0;

	while (segment && !segment->flush && segment->offset == end && length < enough) {
		length += segment->length;
		end = segment_end(segment);
		segment = segment_next(segment);
	}
	return length;
}

/* Gives a run that starts with `segment` to a worker.  Without memory it stays DIRTY; the budget or
 * the next commit will take it. */
static void stream_submit(struct engine *engine, struct inode *inode, struct segment *segment)
{
	struct batch *batch = batch_new(inode->table);
	if (!batch)
		return;
	uint64_t end = segment->offset;
	while (segment && !segment->flush && segment->offset == end && batch->bytes < BATCH_BYTES) {
		if (batch_add(batch, inode, segment->offset, segment->buffer, segment->start,
			      segment->length))
			break;
		end = segment_end(segment);
		segment = segment_next(segment);
	}
	if (batch->bytes < FLUSH_STREAM) {
		batch_free(engine, batch);
		return;
	}
	inode->data.cutting = batch;
	engine_queue_flush(engine, batch, false);
}

void flush_consider_stream(struct engine *engine, struct inode *inode, uint64_t offset)
{
	struct file_data *data = &inode->data;
	if (data->cutting || data->dirty_bytes < FLUSH_STREAM || !engine_may_retry(engine))
		return;
	struct segment *first = map_find_ending(data, offset);
	if (!first || first->flush)
		return;
	uint64_t length = run_length_from(first, FLUSH_STREAM);
	for (struct segment *before = segment_previous(first);
	     before && !before->flush && segment_end(before) == first->offset;
	     before = segment_previous(before)) {
		first = before;
		length += before->length;
	}
	if (length >= FLUSH_STREAM)
		stream_submit(engine, inode, first);
}

/* Keeps the first `length` bytes of the stream's run. */
static void stream_shorten(struct engine *engine, struct batch *batch, size_t length)
{
	struct run *run = &batch->runs[0];

	while (run->length > length) {
		struct iovec *last = &batch->vectors[batch->vector_count - 1];
		size_t excess = run->length - length;
		if (excess < last->iov_len) {
			last->iov_len -= excess;
			run->length -= (uint32_t)excess;
		} else {
			run->length -= (uint32_t)last->iov_len;
			run->vectors--;
			buffer_unref(engine->pool, batch->buffers[--batch->vector_count]);
		}
	}
	batch->bytes = length;
}

/* Takes the part of a stream that is cut; exclusive lock.  -ESTALE: there is nothing to store. */
static int stream_take(struct engine *engine, struct batch *batch, int64_t cut)
{
	struct run *run = &batch->runs[0];
	struct inode *inode = run->inode;
	struct file_data *data = &inode->data;

	data->cutting = NULL;
	if (cut <= 0 || batch->stale || inode->gone)
		return -ESTALE;
	int error = map_split(engine, inode, run->offset + (uint64_t)cut);
	if (error)
		return error;
	stream_shorten(engine, batch, (size_t)cut);
	batch->number = atomic_fetch_add(&engine->last_number, 1) + 1;
	uint64_t end = run->offset + run->length;
	struct segment *segment = map_find(data, run->offset);
	for (; segment && segment->offset < end; segment = segment_next(segment)) {
		assert(!segment->flush && segment_end(segment) <= end);
		map_set_flush(engine, inode, segment, batch->number);
	}
	if (run_length_from(segment, FLUSH_STREAM) >= FLUSH_STREAM)
		stream_submit(engine, inode, segment);
	data_update_lists(inode);
	return 0;
}

/* From a stream to a batch; false where it came to nothing. */
static bool stream_work(struct engine *engine, struct batch *batch)
{
	struct inode_table *table = batch->table;
	int64_t cut = batch_cut(batch, true);

	head_lock(table->head);
	int error = stream_take(engine, batch, cut);
	if (!error) {
		pthread_mutex_lock(&engine->lock);
		table->flush.in_flight++;
		pthread_mutex_unlock(&engine->lock);
	}
	head_unlock(table->head);
	return error == 0;
}

/* ---- work ---- */

/* Gives the pieces of a long run to others, but for the last one. */
static void batch_divide(struct engine *engine, struct batch *batch)
{
	struct batch *front;

	if (batch->run_count != 1 || batch->bytes <= BATCH_BYTES)
		return;
	if (!batch->is_cut && batch_cut(batch, false) < 0)
		return;
	while (batch->bytes > BATCH_BYTES &&
	       (front = batch_split(engine, batch, BATCH_BYTES / 2))) {
		front->waiter = batch->waiter;
		if (front->waiter) {
			pthread_mutex_lock(&engine->lock);
			front->waiter->pending++;
			pthread_mutex_unlock(&engine->lock);
		}
		engine_queue_flush(engine, front, true);
	}
}

static void batch_store_and_announce(struct engine *engine, struct batch *batch)
{
	struct inode_table *table = batch->table;

	batch_divide(engine, batch);
	batch_store(engine, batch);
	pthread_mutex_lock(&engine->lock);
	batch->next = table->flush.done;
	table->flush.done = batch;
	pthread_cond_broadcast(&engine->progress);
	pthread_mutex_unlock(&engine->lock);
}

static void user_leaves(struct engine *engine, struct inode_table *table)
{
	pthread_mutex_lock(&engine->lock);
	table->flush.users--;
	pthread_cond_broadcast(&engine->progress);
	pthread_mutex_unlock(&engine->lock);
}

void flush_work(struct engine *engine, struct batch *batch)
{
	struct inode_table *table = batch->table;

	if (!batch->number && !stream_work(engine, batch)) {
		batch_free(engine, batch);
	} else {
		batch_store_and_announce(engine, batch);
		head_lock(table->head);
		batches_apply(engine, table);
		head_unlock(table->head);
	}
	user_leaves(engine, table);
}

/* ---- who asks for flushes ---- */

void flush_relieve(struct engine *engine, struct inode_table *table, struct reader *reader,
		   bool force)
{
	size_t charged = buffer_pool_charged(engine->pool);
	size_t dirty = atomic_load_explicit(&engine->dirty_bytes, memory_order_relaxed);
	size_t segments = atomic_load_explicit(&engine->segment_bytes, memory_order_relaxed);
	size_t flushing = segments > dirty ? segments - dirty : 0;
	size_t budget = engine_dirty_budget(engine), limit = budget / 4;

	if (!force && dirty > limit / 8 && store_space_low(engine->store))
		limit /= 8;
	if (!force && dirty <= limit && charged <= flushing + budget / 2)
		return;
	if (!engine_may_retry(engine))
		return;
	struct taker taker = {.engine = engine, .table = table, .reader = reader};
	struct inode *next;
	for (struct inode *inode = table->flush.first; inode; inode = next) {
		next = inode->data.next;
		/* A stream gets shorter by itself, and better cut. */
		if (inode->data.cutting && !inode->data.cutting->stale)
			continue;
		if (take_inode(&taker, inode, RELIEVE_BYTES, RELIEVE_SEGMENTS))
			break;
		if (taker.bytes >= RELIEVE_BYTES || taker.segments >= RELIEVE_SEGMENTS)
			break;
	}
	taker_submit(&taker);
}

/* Moves a file to the end of the list, as one that this round need not look at. */
static void requeue(struct inode *inode)
{
	struct table_flush *flush = &inode->table->flush;
	struct file_data *data = &inode->data;

	if (flush->last == inode) {
		data->round = flush->round;
		return;
	}
	if (data->previous)
		data->previous->data.next = data->next;
	else
		flush->first = data->next;
	data->next->data.previous = data->previous;
	data->next = NULL;
	data->previous = flush->last;
	flush->last->data.next = inode;
	flush->last = inode;
	data->round = flush->round;
}

/* Takes the next files of a round.  Exclusive lock. Returns 1 where more are left. */
static int take_round(struct taker *taker)
{
	struct table_flush *flush = &taker->table->flush;
	int error = 0;

	while (!error && flush->first && flush->first->data.round != flush->round) {
		struct inode *inode = flush->first;
		if (inode->unlinked) {
			requeue(inode);
			continue;
		}
		error = take_inode(taker, inode, FLUSH_ALL_BYTES, FLUSH_ALL_SEGMENTS);
		if (taker->bytes >= FLUSH_ALL_BYTES || taker->segments >= FLUSH_ALL_SEGMENTS) {
			taker_submit(taker);
			return error ? error : 1;
		}
	}
	taker_submit(taker);
	return error;
}

/* Waits until at most `pending` of the waiter's batches are under way, lending a hand. */
static void wait_for(struct engine *engine, struct flush_waiter *waiter, unsigned pending)
{
	pthread_mutex_lock(&engine->lock);
	while (waiter->pending > pending) {
		struct batch *batch = engine_take_flush_locked(engine, NULL);
		if (!batch) {
			pthread_cond_wait(&engine->progress, &engine->lock);
			continue;
		}
		pthread_mutex_unlock(&engine->lock);
		flush_work(engine, batch);
		pthread_mutex_lock(&engine->lock);
	}
	pthread_mutex_unlock(&engine->lock);
}

static int take_some(struct engine *engine, struct inode_table *table, struct flush_waiter *waiter,
		     bool begin)
{
	head_lock(table->head);
	struct taker taker = {.engine = engine, .table = table, .waiter = waiter};
	if (begin)
		table->flush.round++;
	int more = reader_acquire(engine->store, &taker.reader);
	if (!more)
		more = take_round(&taker);
	reader_release(taker.reader);
	head_unlock(table->head);
	return more;
}

int data_flush_all(struct engine *engine, struct inode_table *table)
{
	struct flush_waiter waiter = {0};
	int more = take_some(engine, table, &waiter, true);

	while (more > 0) {
		wait_for(engine, &waiter, FLUSH_ALL_PENDING);
		more = take_some(engine, table, &waiter, false);
	}
	wait_for(engine, &waiter, 0);
	return more < 0 ? more : waiter.error;
}

/* Until nothing of the table is in flight.  Exclusive lock. */
static int settle(struct engine *engine, struct inode_table *table)
{
	int error = 0;

	pthread_mutex_lock(&engine->lock);
	while (table->flush.in_flight) {
		if (table->flush.done) {
			pthread_mutex_unlock(&engine->lock);
			int apply_error = batches_apply(engine, table);
			if (apply_error && !error)
				error = apply_error;
			pthread_mutex_lock(&engine->lock);
			continue;
		}
		struct batch *batch = engine_take_flush_locked(engine, table);
		if (!batch) {
			pthread_cond_wait(&engine->progress, &engine->lock);
			continue;
		}
		pthread_mutex_unlock(&engine->lock);
		batch_store_and_announce(engine, batch);
		pthread_mutex_lock(&engine->lock);
		table->flush.users--;
	}
	pthread_mutex_unlock(&engine->lock);
	return error;
}

int data_cut(struct engine *engine, struct inode_table *table)
{
	head_assert_locked(table->head);
	struct taker taker = {.engine = engine, .table = table, .front = true};
	struct inode *next;
	int error = reader_acquire(engine->store, &taker.reader);

	for (struct inode *inode = table->flush.first; inode && !error; inode = next) {
		next = inode->data.next;
		if (!inode->unlinked)
			error = take_inode(&taker, inode, SIZE_MAX, UINT32_MAX);
	}
	taker_submit(&taker);
	/* A reader is not held while waiting: it would keep old pages of the index. */
	reader_release(taker.reader);
	int settle_error = settle(engine, table);
	return error ? error : settle_error;
}

void data_quiesce(struct inode_table *table)
{
	struct engine *engine = table->flush.engine;
	if (!engine)
		return;
	pthread_mutex_lock(&engine->lock);
	while (table->flush.in_flight || table->flush.users) {
		struct batch *batch = engine_take_flush_locked(engine, NULL);
		if (!batch) {
			pthread_cond_wait(&engine->progress, &engine->lock);
			continue;
		}
		pthread_mutex_unlock(&engine->lock);
		flush_work(engine, batch);
		pthread_mutex_lock(&engine->lock);
	}
	pthread_mutex_unlock(&engine->lock);
}
