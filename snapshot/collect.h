/* Garbage collection (mark, then index/sweep.h) and the structural check of a whole store. */
#ifndef CAIRN_SNAPSHOT_COLLECT_H
#define CAIRN_SNAPSHOT_COLLECT_H

#include <stdbool.h>
#include <stdint.h>

#include "index/sweep.h"
#include "snapshot/repo.h"

/* `phase` is "mark", "sweep" or "check"; non-zero return stops (the result is -EINTR). */
typedef int collect_progress(const char *phase, uint64_t done, uint64_t total, void *context);

/*
 * Forgets what no head and no point reaches.  Runs beside live writes. -EBUSY: one is running.
 *
 * What is about to be used must be reachable when a collection marks.  So whoever puts chunks into
 * a head
 *   - that chunk_store() returned: has the head marked dirty before he calls it, and puts the id
 *     into the tree before the next cut() returns; or holds the head lock from one to the other
 *   - that he found in a point: looks under the head lock whether it still exists (point_exists()),
 *     and puts the id into the tree under the same lock.
 */
int repo_collect(struct repo *repo, bool dry_run, collect_progress *progress, void *context,
		 struct sweep_result *ret);

struct check_result {
	uint64_t nodes, inodes, chunks; /* looked at */
	uint64_t errors;
};
/*
 * Verifies every node that a head or point reaches, that every item decodes, every chunk referred
 * to is in the index, names and backrefs mirror each other, link counts and counters are right;
 * with `read_data` also reads every chunk.  Each finding goes to `report` (workspace or point, path
 * or inode, what is wrong).  Returns 0 (look at `errors`), or an error where checking itself
 * failed.
 */
int repo_check(struct repo *repo, bool read_data,
	       void (*report)(const char *finding, void *context), collect_progress *progress,
	       void *context, struct check_result *ret);

#endif
