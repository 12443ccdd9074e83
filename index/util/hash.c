#include "index/util/hash.h"

#include <xxhash.h>

uint64_t hash64(const void *data, size_t length)
{
	return XXH3_64bits(data, length);
}
