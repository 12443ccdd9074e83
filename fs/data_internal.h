/*
 * What the files of the data engine know of each other: segments, batches, the engine.
 *
 * Locks, outermost first: head lock, engine->lock, and as leaves those of the buffer pool and
 * the chunk cache.  A thread that waits for the head lock holds none of the others.
 */
#ifndef CAIRN_FS_DATA_INTERNAL_H
#define CAIRN_FS_DATA_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "fs/data.h"
#include "fs/inode.h"

/* ---- segments (fs/data_map.c); all with the head lock, exclusive where something changes ---- */

struct segment {
	struct segment *left, *right, *parent;
	uint64_t offset;       /* in the file */
	uint64_t flush;	       /* 0: DIRTY; else FLUSHING in the batch of that number */
	struct buffer *buffer; /* owned reference */
	uint32_t start, length;
	uint32_t priority; /* a parent's is not lower than its children's */
};

static inline uint64_t segment_end(const struct segment *segment)
{
	return segment->offset + segment->length;
}

/* The first segment that ends behind `offset`, or NULL. */
struct segment *map_find(const struct file_data *data, uint64_t offset);
/* The segment that ends exactly at `offset`, or NULL. */
struct segment *map_find_ending(const struct file_data *data, uint64_t offset);
struct segment *map_last(const struct file_data *data);
struct segment *segment_next(const struct segment *segment);
struct segment *segment_previous(const struct segment *segment);

/* Not in any map; takes its own reference to the buffer. NULL: -ENOMEM. */
struct segment *segment_new(uint64_t offset, struct buffer *buffer, size_t start, size_t length);
struct segment *segment_free(struct engine *engine, struct segment *segment);

/* Puts a segment where there is none; the space must be reserved already. */
void map_insert(struct engine *engine, struct inode *inode, struct segment *segment);
/* Takes it out, frees it and its reservation. */
void map_delete(struct engine *engine, struct inode *inode, struct segment *segment);
/* A DIRTY segment got longer at its end; the space is reserved already. */
void map_extend(struct engine *engine, struct inode *inode, struct segment *segment, size_t by);
/* DIRTY <-> FLUSHING. */
void map_set_flush(struct engine *engine, struct inode *inode, struct segment *segment,
		   uint64_t flush);

/* Memory that map_carve() may need: 0 or -ENOMEM. `ret_spare` is NULL where it needs none. */
int map_prepare_carve(const struct file_data *data, uint64_t offset, uint64_t end,
		      struct segment **ret_spare);
/* Removes [offset, end) from the map. Uses or frees `spare`. */
void map_carve(struct engine *engine, struct inode *inode, uint64_t offset, uint64_t end,
	       struct segment *spare);
/* Cuts the segment that contains `offset` in its middle in two. */
int map_split(struct engine *engine, struct inode *inode, uint64_t offset);

/* After any of the changes above: both lists of dirty files. */
void data_update_lists(struct inode *inode);
void data_drop_segments(struct engine *engine, struct inode *inode);

/* ---- batches (fs/flush.c, fs/flush_store.c) ---- */

enum {
	BATCH_BYTES = 4 << 20,
	BATCH_RUNS = 256,
	BATCH_RUN_MAX = 64 << 20, /* one long run; whoever gets it divides it at cut points */
	PART_HOLE = 1u << 31,	  /* in a part: it is a hole */
};

/* A contiguous piece of one file. */
struct run {
	struct inode *inode; /* owned reference */
	uint64_t offset;
	uint32_t length;
	uint32_t vectors; /* how many of the batch's it consists of */
	uint32_t extents; /* how many of the batch's were stored for it */
	int error;	  /* it goes back to DIRTY */
};

/* Who waits for batches; fields: engine->lock. */
struct flush_waiter {
	unsigned pending;
	int error;
};

/*
 *   stream_submit()                          batch_submit()
 *        |                                         |
 *        v     a worker cuts and takes             v    a worker stores        batches_apply()
 *     a stream -----------------------------> a batch ----------------> done ----------------->
 * gone
 */
struct batch {
	struct batch *next;	   /* in a queue or on table->flush.done */
	struct inode_table *table; /* fixed */
	uint64_t number;	   /* 0: still a stream */
	struct flush_waiter *waiter;
	bool stale;  /* a stream whose segments changed; head lock */
	bool is_cut; /* `parts` are known already */
	bool quiet;  /* small, and who queues it will store it himself: no worker need wake up */
	int error;   /* the first of its runs' */
	size_t bytes;
	struct run *runs;
	uint32_t run_count, run_capacity;
	struct iovec *vectors;
	struct buffer **buffers; /* owned references, one per vector */
	uint32_t vector_count, vector_capacity;
	uint32_t *parts; /* lengths, with PART_HOLE, of the present run */
	uint32_t part_count, part_capacity;
	struct extent *extents;
	uint32_t extent_count, extent_capacity;
};

struct batch *batch_new(struct inode_table *table); /* NULL: -ENOMEM */
struct batch *batch_free(struct engine *engine, struct batch *batch);
/* Appends a piece of a file; it continues the last run where it can. */
int batch_add(struct batch *batch, struct inode *inode, uint64_t offset, struct buffer *buffer,
	      uint32_t start, uint32_t length);

/* Cuts the only run; where it is `open`, as far as the cut points are certain. Returns that length.
 */
int64_t batch_cut(struct batch *batch, bool open);
/* Takes the front of a batch that is cut, `bytes` or a little more, into a batch of its own with
 * the same number; NULL where there is no more than that, or no memory. */
struct batch *batch_split(struct engine *engine, struct batch *batch, size_t bytes);
/* Hashes, compresses and appends.  No lock held.  Errors are kept in the batch. */
void batch_store(struct engine *engine, struct batch *batch);

/* Works on an item of the flush queue, from beginning to end; no lock held. */
void flush_work(struct engine *engine, struct batch *batch);
/* Writing has come to `offset`: starts a stream where one is long enough. */
void flush_consider_stream(struct engine *engine, struct inode *inode, uint64_t offset);
/* Takes old files out of memory where there is much; `force`: anyway. Head lock exclusive. */
void flush_relieve(struct engine *engine, struct inode_table *table, struct reader *reader,
		   bool force);

/* ---- fs/data.c ---- */

/* From the first write on a table belongs to an engine.  Exclusive lock. */
void data_use_engine(struct engine *engine, struct inode *inode);

/* Takes inline contents back into the map.  Exclusive lock. */
int data_load_inline(struct engine *engine, struct inode *inode, struct reader *reader);

/* ---- the chunk cache (fs/chunk_cache.c) ---- */

struct chunk_cache;

struct chunk_cache *chunk_cache_new(struct store *store, struct buffer_pool *pool, size_t capacity);
struct chunk_cache *chunk_cache_free(struct chunk_cache *cache);
/* The chunk's bytes, loaded if need be (once, where two threads want it). The caller owns a
 * reference. -ESTALE, -EBADMSG, … as chunk_read(). */
int chunk_cache_get(struct chunk_cache *cache, uint64_t id, struct buffer **ret,
		    struct errbuf *err);
/*
 * For who loads several chunks himself.  1 and a reference where the chunk is there; 0: the caller
 * loads it and must call chunk_cache_end(), with the buffer (the cache takes its own reference), or
 * NULL where he could not; -EBUSY: another thread loads it; -ENOMEM.  Between begin and end nobody
 * may wait for a chunk: others may wait for his.
 */
int chunk_cache_begin(struct chunk_cache *cache, uint64_t id, struct buffer **ret);
void chunk_cache_end(struct chunk_cache *cache, uint64_t id, struct buffer *buffer);
bool chunk_cache_has(struct chunk_cache *cache, uint64_t id);

/* ---- the engine (fs/engine.c) ---- */

struct job_queue {
	struct job *first, *last;
};

struct engine {
	struct store *store;	  /* borrowed */
	struct buffer_pool *pool; /* owned */
	struct chunk_cache *cache;
	size_t dirty_budget;
	_Atomic size_t set_aside; /* of it, for memory that others hold */
	unsigned worker_count;
	unsigned thread_count;
	pthread_t *threads; /* owned: the workers, then the readers */

	_Atomic size_t segment_bytes; /* in all maps */
	_Atomic size_t dirty_bytes;   /* of DIRTY segments */
	_Atomic uint64_t last_number; /* of a batch */
	_Atomic int stuck;	      /* the last batch failed with this error */
	_Atomic int64_t retry_after;  /* ns, monotonic: no flush by itself before that */
	atomic_bool short_of_space;   /* the last reservation was refused */
	_Atomic int reading_ahead;    /* chunks on their way */

	pthread_mutex_t lock;
	pthread_cond_t work;			/* something to do */
	pthread_cond_t reading;			/* something to do for a reader */
	pthread_cond_t progress;		/* a batch is stored, applied or queued */
	struct job_queue urgent, normal;	/* lock */
	struct batch *flush_first, *flush_last; /* lock */
	unsigned urgent_count;			/* jobs in `urgent`; lock */
	unsigned idle;				/* workers that wait; lock */
	unsigned idle_readers;			/* lock */
	int64_t trim_next;			/* ns, monotonic: the pool is left alone until; lock */
	bool stop;				/* lock */
};

/* Queue of streams and batches; `front`: before others. engine->lock not held. */
void engine_queue_flush(struct engine *engine, struct batch *batch, bool front);
/* Takes the first one out of the queue, or NULL.  With `table` only a batch (not a stream) of
 * that table.  engine->lock held. */
struct batch *engine_take_flush_locked(struct engine *engine, const struct inode_table *table);
/* Waits for `engine->progress`, at most that long.  engine->lock held. */
void engine_wait_locked(struct engine *engine, unsigned milliseconds);
/* What became of a batch.  For a while after a failure nothing is flushed but for a commit. */
void engine_note_result(struct engine *engine, int error);
bool engine_may_retry(struct engine *engine);
/* What dirty data may take: the budget without what is set aside, but at least half of it. */
size_t engine_dirty_budget(struct engine *engine);
/* Holding so much more would be more than the budget. */
bool engine_is_over_budget(struct engine *engine, size_t more);

#endif
