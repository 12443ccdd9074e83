/*
 * The engine: workers, and the queues that they serve.
 *
 * Three queues: urgent jobs (somebody waits for a read), the flush queue (streams to cut and
 * batches to store), and other jobs (reading ahead).  Urgent jobs go first, but not for ever: after
 * a few of them a worker looks after a flush, so that readers cannot starve writers.
 *
 * Readers are further threads that serve urgent jobs alone.  A worker that waits for the disk in a
 * read would leave its core idle, and the disk with too little to do at a time.
 *
 * Threads that wait for flushes take items out of the flush queue themselves, so that even with
 * all workers waiting somewhere things go on.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "fs/data_internal.h"

enum {
	WORKERS_MIN = 2,
	WORKERS_MAX = 8,
	READERS = 2,
	URGENT_IN_A_ROW = 8,
	KEEP_FREE_BYTES = 96 << 20, /* for TRIM_AFTER_MS: buffer_pool_trim() */
	TRIM_AFTER_MS = 1000,
	CACHE_BYTES = 32 << 20,
	DIRTY_BUDGET = 96 << 20,
	RETRY_NS = 1000000000,
};

static int64_t engine_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void engine_note_result(struct engine *engine, int error)
{
	atomic_store(&engine->stuck, error);
	atomic_store(&engine->retry_after, error ? engine_now() + RETRY_NS : 0);
}

bool engine_may_retry(struct engine *engine)
{
	int64_t after = atomic_load_explicit(&engine->retry_after, memory_order_relaxed);

	return !after || engine_now() >= after;
}

/* ---- queues ---- */

static void queue_push(struct job_queue *queue, struct job *job)
{
	job->next = NULL;
	if (queue->last)
		queue->last->next = job;
	else
		queue->first = job;
	queue->last = job;
}

static struct job *queue_pop(struct job_queue *queue)
{
	struct job *job = queue->first;
	if (job) {
		queue->first = job->next;
		if (!queue->first)
			queue->last = NULL;
	}
	return job;
}

void engine_submit(struct engine *engine, struct job *job, bool urgent)
{
	pthread_mutex_lock(&engine->lock);
	queue_push(urgent ? &engine->urgent : &engine->normal, job);
	engine->urgent_count += urgent;
	if (urgent && engine->urgent_count <= engine->idle_readers)
		pthread_cond_signal(&engine->reading);
	else if (engine->idle)
		pthread_cond_signal(&engine->work);
	pthread_mutex_unlock(&engine->lock);
}

void engine_queue_flush(struct engine *engine, struct batch *batch, bool front)
{
	pthread_mutex_lock(&engine->lock);
	if (front) {
		batch->next = engine->flush_first;
		engine->flush_first = batch;
		if (!engine->flush_last)
			engine->flush_last = batch;
	} else {
		batch->next = NULL;
		if (engine->flush_last)
			engine->flush_last->next = batch;
		else
			engine->flush_first = batch;
		engine->flush_last = batch;
	}
	if (batch->number)
		batch->table->flush.in_flight++;
	batch->table->flush.users++;
	bool wake = engine->idle && !batch->quiet;
	pthread_mutex_unlock(&engine->lock);
	if (wake) /* outside, lest it wakes only to wait for the lock */
		pthread_cond_signal(&engine->work);
}

struct batch *engine_take_flush_locked(struct engine *engine, const struct inode_table *table)
{
	struct batch *previous = NULL, *batch = engine->flush_first;

	while (batch && table && (batch->table != table || !batch->number)) {
		previous = batch;
		batch = batch->next;
	}
	if (!batch)
		return NULL;
	if (previous)
		previous->next = batch->next;
	else
		engine->flush_first = batch->next;
	if (engine->flush_last == batch)
		engine->flush_last = previous;
	batch->next = NULL;
	return batch;
}

/* True where the time ran out. */
static bool wait_locked(struct engine *engine, pthread_cond_t *condition, unsigned milliseconds)
{
	int64_t until = engine_now() + (int64_t)milliseconds * 1000000;
	struct timespec deadline = {until / 1000000000, until % 1000000000};

	return pthread_cond_timedwait(condition, &engine->lock, &deadline) == ETIMEDOUT;
}

void engine_wait_locked(struct engine *engine, unsigned milliseconds)
{
	wait_locked(engine, &engine->progress, milliseconds);
}

/* ---- workers ---- */

static struct job *urgent_pop(struct engine *engine)
{
	struct job *job = queue_pop(&engine->urgent);

	engine->urgent_count -= job != NULL;
	return job;
}

/* One piece of work; false where there is none.  Called and returns with the lock held. */
static bool work_once_locked(struct engine *engine, unsigned *urgent_in_a_row)
{
	struct job *job = NULL;
	struct batch *batch = NULL;

	if (*urgent_in_a_row < URGENT_IN_A_ROW || !engine->flush_first)
		job = urgent_pop(engine);
	if (job) {
		(*urgent_in_a_row)++;
	} else {
		*urgent_in_a_row = 0;
		batch = engine_take_flush_locked(engine, NULL);
		if (!batch)
			job = queue_pop(&engine->normal);
	}
	if (!job && !batch)
		return false;
	pthread_mutex_unlock(&engine->lock);
	if (batch)
		flush_work(engine, batch);
	else
		job->run(job);
	pthread_mutex_lock(&engine->lock);
	return true;
}

/* Who has nothing to do gives back the memory that nobody uses. */
static void wait_for_work_locked(struct engine *engine)
{
	if (buffer_pool_is_empty(engine->pool)) {
		pthread_cond_wait(&engine->work, &engine->lock);
	} else if (wait_locked(engine, &engine->work, TRIM_AFTER_MS) &&
		   engine_now() >= engine->trim_next) {
		buffer_pool_trim(engine->pool);
		engine->trim_next = engine_now() + TRIM_AFTER_MS * INT64_C(1000000);
	}
}

static void *worker_main(void *context)
{
	struct engine *engine = context;
	unsigned urgent_in_a_row = 0;

	pthread_mutex_lock(&engine->lock);
	for (;;) {
		if (work_once_locked(engine, &urgent_in_a_row))
			continue;
		if (engine->stop)
			break;
		engine->idle++;
		wait_for_work_locked(engine);
		engine->idle--;
	}
	pthread_mutex_unlock(&engine->lock);
	return NULL;
}

static void *reader_main(void *context)
{
	struct engine *engine = context;

	pthread_mutex_lock(&engine->lock);
	for (;;) {
		struct job *job = urgent_pop(engine);
		if (job) {
			pthread_mutex_unlock(&engine->lock);
			job->run(job);
			pthread_mutex_lock(&engine->lock);
			continue;
		}
		if (engine->stop)
			break;
		engine->idle_readers++;
		pthread_cond_wait(&engine->reading, &engine->lock);
		engine->idle_readers--;
	}
	pthread_mutex_unlock(&engine->lock);
	return NULL;
}

static void stop_workers(struct engine *engine)
{
	pthread_mutex_lock(&engine->lock);
	engine->stop = true;
	pthread_cond_broadcast(&engine->work);
	pthread_cond_broadcast(&engine->reading);
	pthread_mutex_unlock(&engine->lock);
	for (unsigned i = 0; i < engine->thread_count; i++)
		pthread_join(engine->threads[i], NULL);
	engine->thread_count = engine->worker_count = 0;
}

static int start_thread(struct engine *engine, void *(*run)(void *))
{
	int error = pthread_create(&engine->threads[engine->thread_count], NULL, run, engine);

	engine->thread_count += !error;
	return -error;
}

static int start_workers(struct engine *engine, unsigned count)
{
	int error = 0;

	engine->threads = calloc(count + READERS, sizeof(engine->threads[0]));
	if (!engine->threads)
		return -ENOMEM;
	while (engine->worker_count < count && !error) {
		error = start_thread(engine, worker_main);
		engine->worker_count += !error;
	}
	while (engine->thread_count < count + READERS && !error)
		error = start_thread(engine, reader_main);
	return error;
}

static unsigned default_workers(void)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	if (cores < WORKERS_MIN)
		return WORKERS_MIN;
	return cores > WORKERS_MAX ? WORKERS_MAX : (unsigned)cores;
}

/* ---- life ---- */

static void init_locks(struct engine *engine)
{
	pthread_condattr_t attributes;

	pthread_mutex_init(&engine->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&engine->work, &attributes);
	pthread_cond_init(&engine->reading, &attributes);
	pthread_cond_init(&engine->progress, &attributes);
	pthread_condattr_destroy(&attributes);
}

int engine_open(struct store *store, const struct engine_options *options, struct engine **ret)
{
	static const struct engine_options none = {0};
	if (!options)
		options = &none;
	struct engine *engine = calloc(1, sizeof(*engine));
	if (!engine)
		return -ENOMEM;
	engine->store = store;
	engine->dirty_budget = options->dirty_budget ? options->dirty_budget : DIRTY_BUDGET;
	init_locks(engine);

	int error = -ENOMEM;
	engine->pool = buffer_pool_new(KEEP_FREE_BYTES);
	if (engine->pool)
		engine->cache =
			chunk_cache_new(store, engine->pool,
					options->cache_bytes ? options->cache_bytes : CACHE_BYTES);
	if (engine->cache)
		error = start_workers(engine,
				      options->workers ? options->workers : default_workers());
	if (error) {
		engine_close(engine);
		return error;
	}
	*ret = engine;
	return 0;
}

struct engine *engine_close(struct engine *engine)
{
	if (!engine)
		return NULL;
	stop_workers(engine);
	assert(!engine->flush_first && !engine->urgent.first && !engine->normal.first);
	assert(engine->segment_bytes == 0);
	free(engine->threads);
	chunk_cache_free(engine->cache);
	buffer_pool_free(engine->pool);
	pthread_cond_destroy(&engine->progress);
	pthread_cond_destroy(&engine->work);
	pthread_cond_destroy(&engine->reading);
	pthread_mutex_destroy(&engine->lock);
	free(engine);
	return NULL;
}

struct buffer_pool *engine_buffers(struct engine *engine)
{
	return engine->pool;
}

size_t engine_dirty_bytes(struct engine *engine)
{
	return atomic_load_explicit(&engine->segment_bytes, memory_order_relaxed);
}

unsigned engine_workers(const struct engine *engine)
{
	return engine->worker_count;
}

void engine_set_aside(struct engine *engine, int64_t bytes)
{
	atomic_fetch_add(&engine->set_aside, (size_t)bytes);
}

size_t engine_dirty_budget(struct engine *engine)
{
	size_t budget = engine->dirty_budget;
	size_t set_aside = atomic_load_explicit(&engine->set_aside, memory_order_relaxed);

	return set_aside < budget / 2 ? budget - set_aside : budget / 2;
}

/* A single write larger than the whole budget must pass too. */
bool engine_is_over_budget(struct engine *engine, size_t more)
{
	size_t charged = buffer_pool_charged(engine->pool);

	return charged > 0 && charged + more > engine_dirty_budget(engine);
}

/* ---- waiting for room ---- */

static bool must_wait(struct engine *engine)
{
	size_t segments = atomic_load(&engine->segment_bytes);
	size_t dirty = atomic_load(&engine->dirty_bytes);

	if (atomic_load(&engine->short_of_space) && segments > dirty)
		return true;
	return engine_is_over_budget(engine, BUFFER_REQUEST);
}

void data_wait_for_room(struct engine *engine)
{
	enum { STEP_MS = 20, STEPS = 50 };

	pthread_mutex_lock(&engine->lock);
	for (int step = 0; step < STEPS && must_wait(engine);) {
		struct batch *batch = engine_take_flush_locked(engine, NULL);
		if (batch) {
			pthread_mutex_unlock(&engine->lock);
			flush_work(engine, batch);
			/* Whoever had no room takes old files out of memory when he tries again. */
			return;
		}
		bool in_flight =
			atomic_load(&engine->segment_bytes) > atomic_load(&engine->dirty_bytes);
		engine_wait_locked(engine, STEP_MS);
		if (!in_flight)
			break;
		step++;
	}
	pthread_mutex_unlock(&engine->lock);
}
