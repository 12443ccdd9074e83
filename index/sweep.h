/*
 * Giving space back: forget nodes and chunks that marking did not reach, then punch their
 * ranges out of the packs (never before the commit that forgot them is durable: I3).
 *
 * Protocol, beside live writers:
 *
 *   sweep_begin()  from here on each deduplication hit on an old chunk is remembered ("saved");
 *                  notes the limits: only ids below them are candidates
 *   (the caller waits until every id that chunk_store() returned before sweep_begin() has been
 *    put into a head, or dropped: such an id, when it was a hit, is neither saved nor marked;
 *    then it makes a commit that contains everything acknowledged so far, and marks from a
 *    reader acquired after it: all heads and points)
 *   sweep_run()    in batches, a short commit each, between which other commits go first: forgets
 *                  unmarked, unsaved ids below the limits;
 *                  then punches.  A chunk is withdrawn from deduplication before the commit that
 *                  forgets it, under the same lock as the look-up, so no hit can slip between.
 *   sweep_end()    always; accepts NULL
 *
 * One collection at a time: -EBUSY.  Interrupted anywhere, nothing is lost: what was forgotten
 * but not punched is recorded in the index and punched at the next open or sweep.
 */
#ifndef CAIRN_INDEX_SWEEP_H
#define CAIRN_INDEX_SWEEP_H

#include <stdbool.h>
#include <stdint.h>

#include "index/store.h"
#include "index/util/idset.h"

struct sweep;

struct sweep_result {
	uint64_t nodes; /* forgotten */
	uint64_t chunks;
	uint64_t raw_bytes;    /* of those chunks */
	uint64_t stored_bytes; /* of their records in packs */
	uint64_t packs;	       /* removed whole (a dry run does not tell) */
};

/* `done` of `total` entries looked at.  A non-zero return stops after the current batch, and
 * sweep_run() then succeeds with what was forgotten so far. */
typedef int sweep_progress(uint64_t done, uint64_t total, void *context);

int sweep_begin(struct store *store, struct sweep **ret);
int sweep_run(struct sweep *sweep, const struct idset *nodes, const struct idset *chunks,
	      bool dry_run, sweep_progress *progress, void *context, struct sweep_result *ret);
struct sweep *sweep_end(struct sweep *sweep);

#endif
