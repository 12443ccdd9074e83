#include <stdatomic.h>
#include <string.h>

#include "index/hash_body_internal.h"

_Static_assert(sizeof(XXH128_canonical_t) == HASH_SIZE, "size of a hash");

/* What the compiler was told about the processor. */
const struct hashing hashing_plain = {"plain", long64, long128};

#ifdef CAIRN_HASHING_WIDE

const struct hashing *const *hashings(void)
{
	static const struct hashing *const all[] = {&hashing_avx2, &hashing_plain, NULL};
	static _Atomic int has_avx2; /* 0: not asked yet; then 1, or -1 */
	int has = atomic_load_explicit(&has_avx2, memory_order_relaxed);

	if (!has) {
		has = __builtin_cpu_supports("avx2") ? 1 : -1;
		atomic_store_explicit(&has_avx2, has, memory_order_relaxed);
	}
	return has > 0 ? all : all + 1;
}

#else

const struct hashing *const *hashings(void)
{
	static const struct hashing *const all[] = {&hashing_plain, NULL};

	return all;
}

#endif
