/*
 * FastCDC.
 *
 * hash(i) = 2 * hash(i - 1) + gear[byte i], modulo 2^64, from 0 at the first byte that may be the
 * last of a chunk.  A chunk ends behind byte i where the bits of a mask are all zero in hash(i).
 * The masks lie high in the word, where a bit depends on the last 47 bytes or more; below the
 * average length the mask has two bits more than the average asks for, above it two less
 * (normalised chunking), which gathers the lengths around the average.
 *
 * gear[] is defined as the first 256 outputs of splitmix64 (S. Vigna) from the state GEAR_SEED.
 * Table, masks and limits decide where chunks end and so what deduplicates with what is stored
 * already: they are part of the format (tests/unit/test_chunker.c holds cut points).
 */
#include "fs/chunker.h"

#include <pthread.h>
#include <stdbool.h>

#define GEAR_SEED UINT64_C(0x636169726e206331) /* "cairn c1" */

/* 18 and 14 bits; bit 63 is left out, so that a hash shifted by one still has all that count. */
#define MASK_SHORT (UINT64_C(0x3ffff) << 45)
#define MASK_LONG (UINT64_C(0x3fff) << 49)

static uint64_t gear[256];
static uint64_t gear_shifted[256]; /* gear[i] << 1 */
static pthread_once_t gear_once = PTHREAD_ONCE_INIT;

static void gear_fill(void)
{
	uint64_t state = GEAR_SEED;

	for (int i = 0; i < 256; i++) {
		state += UINT64_C(0x9e3779b97f4a7c15);
		uint64_t z = state;
		z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
		z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
		gear[i] = z ^ (z >> 31);
		gear_shifted[i] = gear[i] << 1;
	}
}

/* Two bytes a round: the first is tested in a hash that is shifted by one already, so that the
 * chain from round to round is one shift and one addition. */
struct lane {
	uint64_t hash;
	uint64_t first; /* the hash after the first byte of the round, shifted by one */
};

static inline void lane_roll(struct lane *lane, const uint8_t *bytes)
{
	lane->first = (lane->hash << 2) + gear_shifted[bytes[0]];
	lane->hash = lane->first + gear[bytes[1]];
}

/* How many bytes of the round there are up to the one that ends a chunk; 0: none does. */
static inline unsigned lane_cut(const struct lane *lane, uint64_t mask)
{
	if (!(lane->first & (mask << 1)))
		return 1;
	return lane->hash & mask ? 0 : 2;
}

/* Scans bytes[i .. length), of even length, in one lane: the position behind the cut, or 0. */
static size_t scan_one(const uint8_t *bytes, size_t i, size_t length, uint64_t mask, uint64_t *hash)
{
	struct lane lane = {.hash = *hash};

	for (; i + 2 <= length; i += 2) {
		lane_roll(&lane, bytes + i);
		unsigned cut = lane_cut(&lane, mask);
		if (cut)
			return i + cut;
	}
	*hash = lane.hash;
	return 0;
}

/*
 * Scans 2 * LANE bytes in two lanes side by side, which keeps the processor busier than one chain
 * of additions does.  The hash is a function of the last WINDOW bytes alone (a byte is shifted
 * out after 64), so the second lane can start with those before it, and finds what the first
 * would have found there.
 */
enum { LANE = 1024, WINDOW = 64 };

static size_t scan_two(const uint8_t *bytes, uint64_t mask, uint64_t *hash)
{
	struct lane one = {.hash = *hash}, two = {0};

	for (size_t i = LANE - WINDOW; i < LANE; i += 2)
		lane_roll(&two, bytes + i);
	/* Unrolled, the speed does not hang on where the loop happens to lie in memory. */
#pragma GCC unroll 8
	for (size_t i = 0; i < LANE; i += 2) {
		lane_roll(&one, bytes + i);
		lane_roll(&two, bytes + LANE + i);
		unsigned cut = lane_cut(&one, mask), later = lane_cut(&two, mask);
		if (cut)
			return i + cut;
		if (later) {
			size_t earlier = scan_one(bytes, i + 2, LANE, mask, &one.hash);
			return earlier ? earlier : LANE + i + later;
		}
	}
	*hash = two.hash;
	return 0;
}

/* Hashes bytes[0 .. length) until one ends a chunk: returns how many that were, and whether there
 * was one. */
static size_t scan(const uint8_t *bytes, size_t length, uint64_t mask, uint64_t *hash,
		   bool *ret_found)
{
	size_t i = 0, cut;

	for (; i + 2 * LANE <= length; i += 2 * LANE) {
		cut = scan_two(bytes + i, mask, hash);
		if (cut) {
			*ret_found = true;
			return i + cut;
		}
	}
	cut = scan_one(bytes, i, length, mask, hash);
	*ret_found = cut != 0;
	if (cut)
		return cut;
	if (length % 2) {
		*hash = (*hash << 1) + gear[bytes[length - 1]];
		*ret_found = !(*hash & mask);
	}
	return length;
}

/* Scans the bytes [from, to) of a vector. */
static size_t scan_vector(const struct iovec *vector, size_t from, size_t to, uint64_t mask,
			  uint64_t *hash, bool *ret_found)
{
	size_t begin = 0, position = from;

	*ret_found = false;
	for (; position < to; vector++) {
		size_t end = begin + vector->iov_len;
		if (end > position) {
			size_t stop = end < to ? end : to;
			const uint8_t *bytes = vector->iov_base;
			position += scan(bytes + (position - begin), stop - position, mask, hash,
					 ret_found);
			if (*ret_found)
				break;
		}
		begin = end;
	}
	return position;
}

size_t chunker_cut_vector(const struct iovec *vector, int count)
{
	size_t length = 0;
	uint64_t hash = 0;
	bool found;

	for (int i = 0; i < count; i++)
		length += vector[i].iov_len;
	if (length > CHUNKER_MAX)
		length = CHUNKER_MAX;
	if (length <= CHUNKER_MIN)
		return length;
	pthread_once(&gear_once, gear_fill);

	/* The chunk is at least CHUNKER_MIN long: the first byte that may end it is the last of
	 * those.
	 */
	size_t normal = length < CHUNKER_AVERAGE ? length : CHUNKER_AVERAGE;
	size_t position = scan_vector(vector, CHUNKER_MIN - 1, normal, MASK_SHORT, &hash, &found);
	if (found)
		return position;
	return scan_vector(vector, position, length, MASK_LONG, &hash, &found);
}

size_t chunker_cut(const uint8_t *bytes, size_t length)
{
	struct iovec vector = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length};

	return chunker_cut_vector(&vector, 1);
}
