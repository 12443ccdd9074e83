/*
 * How much space each point holds: exact, from the index alone, in time proportional to the
 * nodes of the store (not nodes times points).
 *
 * exclusive: what would come free if this point alone were deleted: chunks, by their records in
 *            packs, and nodes, that nothing else reaches.
 * shared:    the rest of what it reaches.
 *
 * Each owner (a point, or all heads as one) walks its trees once; a node that a second one reaches
 * becomes shared with all below it, and is entered no more.  So each node is entered twice at
 * most.
 *
 * All of these first commit what was acknowledged so far (not where the store is open
 * read-only: then they tell of the last commit).  -EINTR where `progress` (may be NULL; phase
 * "mark") stopped it.
 */
#ifndef CAIRN_SNAPSHOT_USAGE_H
#define CAIRN_SNAPSHOT_USAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot/collect.h"
#include "snapshot/point.h"
#include "snapshot/repo.h"

/* What a node takes in the index: one page. */
enum { USAGE_NODE_BYTES = 4096 };

struct usage_point {
	uint64_t point;		  /* id */
	uint64_t exclusive_bytes; /* records of chunks, and nodes */
	uint64_t exclusive_chunks, exclusive_nodes;
};

struct usage {
	struct usage_point *points; /* owned, sorted by id */
	size_t count;
	uint64_t shared_bytes; /* what more than one owner reaches, once */
	uint64_t head_bytes;   /* what only heads reach */
};

int usage_measure(struct repo *repo, collect_progress *progress, void *context, struct usage *ret);
void usage_release(struct usage *usage);
const struct usage_point *usage_of(const struct usage *usage, uint64_t point); /* NULL: unknown */

/* Everything that one point reaches: records of chunks, and nodes. */
int usage_reachable(struct repo *repo, const struct point *point, uint64_t *ret_bytes);

/* What would come free if these points were deleted together, as gc would count it then (`packs`
 * is 0).  In addition to what gc would free now, which is left out. */
int usage_of_set(struct repo *repo, const uint64_t *points, size_t count,
		 collect_progress *progress, void *context, struct sweep_result *ret);

#endif
