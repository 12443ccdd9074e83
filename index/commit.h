/*
 * A commit: one atomic, durable step of the store (I4).
 *
 *   commit_begin()      takes the store's only write transaction; others wait here
 *   commit_put_node() … any number of changes, in memory
 *   commit_seal()       adds the counters and every chunk that is completely in a pack; from here
 *                       on nothing may be put.  Call it while whatever refers to chunks (the
 *                       heads) is still locked, so that no reference can overtake its chunk.
 *   commit_finish()     makes the packs durable, then the index (I3).  May be called with all
 *                       locks released.  Frees the commit.
 *   commit_abort()      drops it instead.  Accepts NULL; returns NULL.
 *
 * On -ENOSPC (of any function here) the ballast is given up and the commit can only be dropped;
 * nothing is lost: the caller's dirty state is still dirty.  The caller then makes the whole
 * commit once more, from commit_begin() on, which now has the room of the ballast; if that fails
 * too a later commit may succeed.  The ballast is made again when there is room for it.
 * After another error of a sync or of writing the index the store is failed for good
 * (store_failed()).  The first error of a commit_put… or commit_delete… sticks: commit_seal()
 * and commit_finish() return it.
 *
 * A commit belongs to one thread from begin to end: LMDB's write lock is owned by the thread
 * that took it.
 */
#ifndef CAIRN_INDEX_COMMIT_H
#define CAIRN_INDEX_COMMIT_H

#include <stdint.h>

#include "index/reader.h"
#include "index/store.h"

struct commit;

int commit_begin(struct store *store, struct commit **ret);

/* `node` is NODE_SIZE bytes and holds its id (-EINVAL otherwise); its checksum is computed here,
 * into the stored copy and into `node` itself.  Nodes are best put in order of id. */
int commit_put_node(struct commit *commit, uint64_t id, uint8_t *node);
int commit_delete_node(struct commit *commit, uint64_t id); /* absent is no error */

int commit_put_record(struct commit *commit, enum table table, struct bytes key,
		      struct bytes value);
int commit_delete_record(struct commit *commit, enum table table, struct bytes key); /* -ENOENT */
/* Reads through the commit: sees what it has put. The value lives until the next change. */
int commit_record(struct commit *commit, enum table table, struct bytes key,
		  struct bytes *ret_value);
/* As reader_records(); `visit` must not change the commit. */
int commit_records(struct commit *commit, enum table table, struct bytes prefix,
		   int (*visit)(struct bytes key, struct bytes value, void *context),
		   void *context);

/* As reader_records_from(), likewise. */
int commit_records_from(struct commit *commit, enum table table, struct bytes from,
			enum records_order order,
			int (*visit)(struct bytes key, struct bytes value, void *context),
			void *context);

/* The commit carries all that the records of the redo log say (index/redo.h): once it is durable
 * they do not count any more.  Before commit_seal(). */
int commit_settles_redo(struct commit *commit);

int commit_seal(struct commit *commit);
int commit_finish(struct commit *commit);
struct commit *commit_abort(struct commit *commit);

/* Makes durable what is in the packs so far, so that the next commit_finish() has little left
 * to sync.  No lock needed; errors are those of a sync. */
int store_presync(struct store *store);

#endif
