/*
 * XXH3 of long inputs, by wider vectors where the processor has them.
 *
 * The packaged library of a distribution is built for the oldest processor of its architecture.
 * So xxhash.h is compiled into files of our own, once for each width (with still wider ones memory
 * is the limit); the values are the same (tests/unit/test_index_format.c).
 */
#ifndef CAIRN_INDEX_HASH_INTERNAL_H
#define CAIRN_INDEX_HASH_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#include "index/format_internal.h"

struct hashing {
	const char *name;
	uint64_t (*long64)(const void *data, size_t length); /* XXH3-64, seed 0 */
	void (*long128)(const void *data, size_t length, uint8_t ret[HASH_SIZE]); /* canonical */
};

/* Those that this processor can carry out, the fastest first; a NULL ends them. */
const struct hashing *const *hashings(void);
static inline const struct hashing *hashing(void)
{
	return hashings()[0];
}

extern const struct hashing hashing_plain;
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define CAIRN_HASHING_WIDE 1
extern const struct hashing hashing_avx2;
#endif

#endif
