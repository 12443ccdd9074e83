/* Every root of a store: what collection, usage and the checker must reach. */
#ifndef CAIRN_SNAPSHOT_ROOTS_INTERNAL_H
#define CAIRN_SNAPSHOT_ROOTS_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#include "index/reader.h"

struct root {
	uint64_t point;	 /* id; 0: of a head */
	uint64_t root;	 /* node of its tree, 0: empty */
	uint64_t digest; /* node of its tree of digests (snapshot/digest.h), 0: none */
};

/* Heads first, then points in order of id, as of the reader's commit. Free with free(). */
int roots_read(struct reader *reader, struct root **ret, size_t *ret_count);

#endif
