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

/*
 * Hashes bytes[0 .. length) until one ends a chunk: returns how many that were, and whether there
 * was one.  Two bytes a round: the first is tested in a hash that is shifted by one already, so
 * that the chain from round to round is one shift and one addition.
 */
static size_t scan(const uint8_t *bytes, size_t length, uint64_t mask, uint64_t *hash,
		   bool *ret_found)
{
	uint64_t h = *hash;
	size_t i = 0;

	*ret_found = true;
	for (; i + 2 <= length; i += 2) {
		uint64_t first = (h << 2) + gear_shifted[bytes[i]];
		if (!(first & (mask << 1)))
			return i + 1;
		h = first + gear[bytes[i + 1]];
		if (!(h & mask))
			return i + 2;
	}
	if (i < length) {
		h = (h << 1) + gear[bytes[i++]];
		if (!(h & mask))
			return i;
	}
	*hash = h;
	*ret_found = false;
	return i;
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
