/*
 * File data on its way between the kernel and the store (internal to fs/).
 *
 * Writes gather per file in a map of *segments*: sorted, never overlapping pieces of buffers.
 * The map lies over the tree's extents: where it has a segment, the segment counts.
 *
 *              data_write()                 a flush takes it            its chunks are stored,
 *   (nothing) -------------> DIRTY segment ----------------> FLUSHING ----------------------> tree
 *                              ^                                 |        extents are put
 *                              +---------------------------------+
 *                                the flush failed
 *
 * An overwrite or a truncation cuts or removes segments of either state.  A flush holds its own
 * references to the buffers; when it is done, extents are put only for those parts that the map
 * still shows as FLUSHING under that flush's number, so whatever came later wins by itself and
 * nobody waits.
 *
 * Flushing a contiguous run: up to CHUNKER_AVERAGE bytes become one chunk of exactly that range (a
 * database's pages); longer ones are streams, cut by content (fs/chunker.h).  All-zero blocks of
 * 4 KiB or more at a stretch of 16 KiB become holes.  A file of at most INLINE_MAX bytes without
 * extents goes inline.
 *
 * A stream is first cut, with no lock held, while its segments are still DIRTY; then the worker
 * takes what lies before the last cut point (the tail stays for the next round, and the next worker
 * goes on with it at once), and hashes, compresses and appends it, again with no lock.  So
 * whatever is FLUSHING never waits for the head lock before its chunks are stored, which is why
 * data_cut() may wait for it while holding that lock.  A commit takes streams whole; runs longer
 * than a batch are then divided among the workers, again at cut points.
 *
 * When: a stream has FLUSH_STREAM bytes dirty in one run; the engine's dirty memory passes a
 * quarter of its budget (oldest files first); data_flush_all() before a commit.  A file
 * deleted before that is never stored.
 *
 * Memory: data_write() asks for what it will hold; past the budget it answers -EAGAIN and the
 * caller waits with data_wait_for_room() in a thread that may wait.  store_reserve() is asked
 * too: -ENOSPC comes before a write is acknowledged.
 *
 * Threads: one engine for a store, with one worker a core (2 to 8) and two threads that only read.  Functions marked [X] want the
 * head lock exclusive, [S] shared or exclusive, [-] none (and must not be called with it).
 */
#ifndef CAIRN_FS_DATA_H
#define CAIRN_FS_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "fs/buffer.h"
#include "index/reader.h"
#include "index/store.h"
#include "snapshot/extent.h"

struct inode;
struct inode_table;

enum { FLUSH_STREAM = 2 << 20 };

/* Segments of one file; private to fs/data*.c and fs/flush.c but embedded in the inode. */
struct segment;
struct batch;
struct file_data {
	struct segment *root;	       /* owned; a treap by offset */
	struct batch *cutting;	       /* a worker looks for cut points in this file's stream */
	uint64_t segment_bytes;	       /* of either state; so much is reserved in the store */
	uint64_t dirty_bytes;	       /* DIRTY segments only */
	uint64_t last_write_end;       /* where a sequential writer would go on */
	struct inode *next, *previous; /* table->flush: files with DIRTY segments, oldest first */
	_Atomic uint64_t read_next;    /* where a sequential reader would go on (relaxed) */
	_Atomic uint32_t read_run;     /* how far it has come, up to READ_RUN_MAX (relaxed) */
	_Atomic uint64_t fetch_next;   /* how far the disk has been asked to read ahead (relaxed) */
	uint32_t round;		       /* of data_flush_all() that need not look at it */
	int error; /* of a failed background flush: -EIO; told (and cleared) once by the next fsync
		    */
	bool listed;
};

struct engine;
struct engine_options {
	unsigned workers;    /* 0: one a core, 2 to 8 */
	size_t dirty_budget; /* 0: 96 MiB */
	size_t cache_bytes;  /* decompressed chunks; 0: 32 MiB */
};
int engine_open(struct store *store, const struct engine_options *options, struct engine **ret);
struct engine *engine_close(struct engine *engine); /* nothing may be in flight */
struct buffer_pool *engine_buffers(struct engine *engine);
/* Memory that somebody holds all the time counts against the budget (negative: no longer). */
void engine_set_aside(struct engine *engine, int64_t bytes);
size_t engine_dirty_bytes(struct engine *engine); /* in segments, of either state */
unsigned engine_workers(const struct engine *engine);

/* Runs `run(context)` on a worker; `urgent` jobs (reads) go before others (flushes). */
struct job {
	struct job *next;
	void (*run)(struct job *job); /* embed the job; it may free itself */
};
void engine_submit(struct engine *engine, struct job *job, bool urgent);

void data_init(struct file_data *data);
/* [X] Drops all segments (the file is deleted or gone); flushes under way find nothing to put. */
void data_discard(struct engine *engine, struct inode *inode);
bool data_is_dirty(const struct file_data *data); /* [S] any segment, of either state */
/* [S] For st_blocks: `attr.allocated` and what is not stored yet. */
uint64_t data_allocated(const struct inode *inode);

/*
 * [X] The bytes `buffer->data[start .. start + length)` are the file's contents at `offset` from
 * now on.
 * Takes its own reference (small writes are copied into a segment's own buffer instead).
 * Updates the map and dirty accounting, and un-inlines an inline file; size, times and
 * `changed_bytes` are the caller's, before the head lock is released.  `buffer->used` must say
 * how far the buffer is filled.  -EAGAIN: over budget, nothing happened; -ENOSPC; -ENOMEM; -EIO
 * where memory is full of data that cannot be stored.
 */
int data_write(struct engine *engine, struct inode *inode, struct reader *reader, uint64_t offset,
	       struct buffer *buffer, size_t start, size_t length);
/* The same from plain memory (copied). */
int data_write_bytes(struct engine *engine, struct inode *inode, struct reader *reader,
		     uint64_t offset, const void *bytes, size_t length);
/* [-] Waits until data_write() is likely to have room, lending a hand meanwhile: it may also be
 * called on a worker. Returns after a second at the latest. */
void data_wait_for_room(struct engine *engine);

/* [X] Removes contents from [offset, offset + length): a hole, in segments and extents.
 * `attr.allocated` follows.  For truncation: from the new size on, length UINT64_MAX - offset. */
int data_punch(struct engine *engine, struct inode *inode, struct reader *reader, uint64_t offset,
	       uint64_t length);

/* [X] Before `attr.size` becomes `size` by truncation or extension (not by a write): punches what
 * lies behind, and takes inline contents, whose length is the size, back into the map. */
int data_truncate(struct engine *engine, struct inode *inode, struct reader *reader, uint64_t size);

/* [X] Shares `source`'s contents [from, from + length) into `target` at `to` (copy_file_range):
 * extents are shared, segments are shared buffers, inline data is copied.  `target` and `source`
 * may be the same file (ranges do not overlap).  `source` may be NULL and the contents come from
 * `source_tree`/`source_ino` (a point).  The caller clips `length` to the source's size.  After an
 * error part of the range may be there. */
int data_clone(struct engine *engine, struct inode *target, uint64_t to, struct inode *source,
	       struct tree *source_tree, uint64_t source_ino, uint64_t from, uint64_t length,
	       struct reader *reader);

/* [S] as lseek(2) with SEEK_DATA / SEEK_HOLE, over map and tree; -ENXIO past the end. */
int data_seek(struct inode *inode, struct reader *reader, uint64_t offset, int whence,
	      uint64_t *ret_offset);

/*
 * Reading, in two steps.  The plan says where each piece of the range lies, with references to
 * buffers; filling it does the I/O and needs no lock.
 */
enum { READ_PLAN_PIECES = 96 };
struct read_piece {
	enum { PIECE_HOLE, PIECE_MEMORY, PIECE_CHUNK } kind;
	uint32_t length;
	uint32_t start;	       /* in buffer or chunk */
	struct buffer *buffer; /* owned reference */
	uint64_t chunk;
};
struct read_plan {
	struct engine *engine;
	uint64_t offset;
	size_t length; /* what the pieces add up to: clipped at the size, or where pieces ran out */
	int count;
	bool in_memory; /* no piece needs the disk: fill it on the spot */
	struct read_piece pieces[READ_PLAN_PIECES];
};
/* [S] `inode` NULL: contents of `ino` in `tree` alone, with its size. -EAGAIN is never returned. */
int data_plan_read(struct engine *engine, struct inode *inode, struct tree *tree,
		   struct reader *reader, uint64_t ino, uint64_t size, uint64_t offset,
		   size_t length, struct read_plan *ret);
/* [-] Copies into `out` (plan->length bytes). -ESTALE: plan again (a collection removed a chunk of
 * the old plan); -EBADMSG with a message. Pieces of chunks go through the engine's cache, whole
 * chunks that are not in it straight into `out`; chunks that lie together are read together. */
int data_fill(struct read_plan *plan, uint8_t *out, struct errbuf *err);
void data_plan_release(struct read_plan *plan);
/* [-] A reader goes on after `plan`: fetch these chunks of the file in the background. */
void data_read_ahead(struct engine *engine, const uint64_t *chunks, int count);
/* [S] After data_plan_read() of `length` bytes that end at `end`, same arguments: where the reads of
 * this inode have been sequential, asks the disk for what comes next, and for a reader in small
 * pieces loads the next READ_AHEAD bytes in the background. */
enum { READ_AHEAD = 3 << 19, READ_RUN_MAX = 1 << 20 };
void data_read_ahead_after(struct engine *engine, struct inode *inode, struct tree *tree,
			   struct reader *reader, uint64_t ino, uint64_t end, size_t length);

/*
 * Flushing for a commit.
 *   data_flush_all() [-]  brings everything dirty in the table into the tree, in parallel;
 *                         writers go on meanwhile, and what they add is not waited for
 *   data_cut()       [X]  the same for all that is left, tails included; returns when every
 *                         segment is in the tree (workers' results are applied by this thread).
 * Both may run on a worker: the caller lends a hand, so progress does not depend on others.
 * Unlinked files are left in memory: no commit needs their data.
 * Errors: -ENOSPC, -EIO: the segments that could not be stored are DIRTY again.
 */
int data_flush_all(struct engine *engine, struct inode_table *table);
int data_cut(struct engine *engine, struct inode_table *table);
/* [-] Waits until no worker has to do with the table any more. inode_table_release() calls it. */
void data_quiesce(struct inode_table *table);

#endif
