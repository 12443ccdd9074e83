/* For processors that have it: index/hash.c asks. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)

#include <string.h>

#pragma GCC target("avx2")
#include "index/hash_body_internal.h"

const struct hashing hashing_avx2 = {"avx2", long64, long128};

#else

typedef int hash_avx2_is_empty;

#endif
