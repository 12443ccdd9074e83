/*
 * Set of u64 ids, sparse: two levels, pages of 32768 bits made when first touched.
 * For marking nodes and chunks, whose ids are dense where they live at all.
 * Not locked.
 */
#ifndef CAIRN_INDEX_UTIL_IDSET_H
#define CAIRN_INDEX_UTIL_IDSET_H

#include <stdbool.h>
#include <stdint.h>

#include "index/util/u64map.h"

struct idset {
	struct u64map pages; /* (id / 32768 + 1) -> owned page of 4096 bytes */
	uint64_t count;
};

#define IDSET_INIT                                                                                 \
	{                                                                                          \
		U64MAP_INIT, 0                                                                     \
	}

void idset_release(struct idset *set);

/* Adds id.  Returns 1 when it was new, 0 when it was there, -ENOMEM. */
int idset_add(struct idset *set, uint64_t id);
bool idset_has(const struct idset *set, uint64_t id);

#endif
