/* The 64-bit hash of names (XXH3-64, seed 0): stable, part of the format, not cryptographic. */
#ifndef CAIRN_INDEX_UTIL_HASH_H
#define CAIRN_INDEX_UTIL_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t hash64(const void *data, size_t length);

#endif
