/* The body of a file that defines one `struct hashing`; before it is included the compiler knows
 * for which processor, and HASHING names the struct. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "index/hash_internal.h"

static uint64_t long64(const void *data, size_t length)
{
	return XXH3_64bits(data, length);
}

static void long128(const void *data, size_t length, uint8_t ret[HASH_SIZE])
{
	XXH128_canonical_t canonical;

	XXH128_canonicalFromHash(&canonical, XXH3_128bits(data, length));
	memcpy(ret, canonical.digest, HASH_SIZE);
}
