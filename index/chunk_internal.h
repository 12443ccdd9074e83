/* Chunks, for the rest of index/. */
#ifndef CAIRN_INDEX_CHUNK_INTERNAL_H
#define CAIRN_INDEX_CHUNK_INTERNAL_H

#include <errno.h>
#include <stdbool.h>

#include "index/chunk.h"

/* What a reader finds, as opposed to what keeps it from reading. */
static inline bool is_damage(int error)
{
	return error == -EBADMSG || error == -EUCLEAN;
}

/*
 * Reads and verifies the chunk that `info` describes, and keeps its stored bytes: `stored` and
 * `raw` hold CHUNK_MAX bytes each.  Where it was moved meanwhile `info` says so afterwards.
 * -ESTALE: it is gone.
 */
int chunk_read_stored(struct store *store, uint64_t id, struct chunk_info *info, void *stored,
		      void *raw);

#endif
