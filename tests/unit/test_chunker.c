/* Content-defined chunking: where chunks end is part of the format. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "fs/chunker.h"

static uint64_t splitmix64(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* Little-endian words of splitmix64. */
static uint8_t *random_bytes(size_t length, uint64_t seed)
{
	uint8_t *bytes = malloc(length);

	assert_non_null(bytes);
	for (size_t i = 0; i < length; i += 8) {
		uint64_t word = splitmix64(&seed);
		for (size_t j = 0; j < 8; j++)
			bytes[i + j] = (uint8_t)(word >> (8 * j));
	}
	return bytes;
}

/* 4 MiB of splitmix64 from the seed 1. */
static const size_t cut_points[] = {
	113503,	 188027,  257129,  327570,  446084,  548140,  632487,  706342,	733463,
	800418,	 873176,  926270,  994896,  1078614, 1195671, 1284756, 1336858, 1420074,
	1498517, 1583954, 1653729, 1690799, 1768458, 1833929, 1914700, 1985291, 2057060,
	2096743, 2172302, 2239685, 2331399, 2382153, 2460533, 2534930, 2604515, 2735118,
	2812433, 2884345, 2986252, 3064084, 3139978, 3190728, 3280694, 3397318, 3503947,
	3586482, 3654447, 3734490, 3814976, 3917259, 4023910, 4082517, 4168438, 4194304,
};

static void cuts_are_where_they_always_were(void **state)
{
	enum { LENGTH = 4 << 20 };
	uint8_t *bytes = random_bytes(LENGTH, 1);
	size_t position = 0, count = 0;

	(void)state;
	while (position < LENGTH) {
		position += chunker_cut(bytes + position, LENGTH - position);
		assert_int_equal(position, cut_points[count]);
		count++;
	}
	assert_int_equal(count, sizeof(cut_points) / sizeof(cut_points[0]));
	free(bytes);
}

/* The definition at the top of fs/chunker.c, byte by byte. */
static size_t cut_by_definition(const uint8_t *bytes, size_t length)
{
	static uint64_t gear[256];
	uint64_t seed = UINT64_C(0x636169726e206331), hash = 0;

	if (!gear[0])
		for (int i = 0; i < 256; i++)
			gear[i] = splitmix64(&seed);
	if (length > CHUNKER_MAX)
		length = CHUNKER_MAX;
	for (size_t i = CHUNKER_MIN - 1; i < length; i++) {
		hash = 2 * hash + gear[bytes[i]];
		/* Bits 45 to 62 below the average, 49 to 62 above it. */
		int low = i < CHUNKER_AVERAGE ? 45 : 49;
		if ((hash << 1 >> (low + 1)) == 0)
			return i + 1;
	}
	return length;
}

static void cuts_follow_the_definition(void **state)
{
	enum { LENGTH = 16 << 20 };
	uint8_t *bytes = random_bytes(LENGTH, 8);
	size_t position = 0;

	(void)state;
	while (position < LENGTH) {
		size_t cut = chunker_cut(bytes + position, LENGTH - position);
		assert_int_equal(cut, cut_by_definition(bytes + position, LENGTH - position));
		position += cut;
	}
	free(bytes);
}

static void lengths_keep_the_limits(void **state)
{
	enum { LENGTH = 32 << 20 };
	uint8_t *bytes = random_bytes(LENGTH, 2);
	size_t position = 0, count = 0;

	(void)state;
	while (position < LENGTH) {
		size_t cut = chunker_cut(bytes + position, LENGTH - position);
		assert_true(cut <= CHUNKER_MAX);
		position += cut;
		assert_true(cut >= CHUNKER_MIN || position == LENGTH);
		count++;
	}
	size_t average = LENGTH / count;
	print_message("average chunk of random bytes: %zu\n", average);
	assert_in_range(average, CHUNKER_AVERAGE * 3 / 4, CHUNKER_AVERAGE * 3 / 2);
	free(bytes);

	uint8_t *zeros = calloc(1, 2 * CHUNKER_MAX);
	assert_non_null(zeros);
	assert_int_equal(chunker_cut(zeros, 2 * CHUNKER_MAX), CHUNKER_MAX);
	assert_int_equal(chunker_cut(zeros, 100), 100);
	assert_int_equal(chunker_cut(zeros, 1), 1);
	assert_int_equal(chunker_cut(zeros, 0), 0);
	free(zeros);
}

static int scatter(uint8_t *bytes, size_t length, struct iovec *vector, int capacity,
		   uint64_t *seed)
{
	int count = 0;

	while (length) {
		size_t piece = 1 + splitmix64(seed) % (count % 3 ? 50000 : 70);
		if (piece > length || count == capacity - 1)
			piece = length;
		vector[count++] = (struct iovec){.iov_base = bytes, .iov_len = piece};
		bytes += piece;
		length -= piece;
	}
	return count;
}

static void scattered_bytes_are_cut_alike(void **state)
{
	enum { LENGTH = 1 << 20, VECTORS = 64 };
	uint8_t *bytes = random_bytes(LENGTH, 3);
	uint64_t seed = 4;

	(void)state;
	for (int round = 0; round < 300; round++) {
		size_t from = splitmix64(&seed) % LENGTH;
		size_t length = splitmix64(&seed) % (LENGTH - from + 1);
		struct iovec vector[VECTORS];
		int count = scatter(bytes + from, length, vector, VECTORS, &seed);
		assert_int_equal(chunker_cut_vector(vector, count),
				 chunker_cut(bytes + from, length));
	}
	free(bytes);
}

/* What is known of a chunk does not change when more bytes come. */
static void cuts_do_not_depend_on_what_follows(void **state)
{
	enum { LENGTH = 1 << 20 };
	uint8_t *bytes = random_bytes(LENGTH, 5);
	size_t position = 0;

	(void)state;
	while (position + CHUNKER_MAX <= LENGTH) {
		size_t cut = chunker_cut(bytes + position, LENGTH - position);
		assert_int_equal(chunker_cut(bytes + position, CHUNKER_MAX), cut);
		assert_int_equal(chunker_cut(bytes + position, cut), cut);
		if (cut > 1)
			assert_int_equal(chunker_cut(bytes + position, cut - 1), cut - 1);
		position += cut;
	}
	free(bytes);
}

static char *make_csv(size_t rows, const char *first_row, size_t *ret_length)
{
	char *text = malloc(rows * 64 + 256);
	size_t length = 0;
	uint64_t seed = 6;

	assert_non_null(text);
	length += (size_t)sprintf(text, "id,name,amount,date\n%s", first_row);
	for (size_t i = 0; i < rows; i++)
		length += (size_t)sprintf(text + length,
					  "%zu,customer-%llu,%llu.%02llu,2026-11-%02llu\n", i,
					  (unsigned long long)(splitmix64(&seed) % 100000),
					  (unsigned long long)(splitmix64(&seed) % 10000),
					  (unsigned long long)(splitmix64(&seed) % 100),
					  (unsigned long long)(splitmix64(&seed) % 30 + 1));
	*ret_length = length;
	return text;
}

/* FNV-1a: the chunks of a test need no better. */
static uint64_t digest(const uint8_t *bytes, size_t length)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
	return hash;
}

static size_t digests(const char *text, size_t length, uint64_t *ret)
{
	const uint8_t *bytes = (const uint8_t *)text;
	size_t position = 0, count = 0;

	while (position < length) {
		size_t cut = chunker_cut(bytes + position, length - position);
		ret[count++] = digest(bytes + position, cut);
		position += cut;
	}
	return count;
}

static void a_row_at_the_top_changes_one_chunk(void **state)
{
	enum { ROWS = 400000, CHUNKS = 4096 };
	static uint64_t old[CHUNKS], new[CHUNKS];
	size_t length, shared = 0;

	(void)state;
	char *text = make_csv(ROWS, "", &length);
	size_t old_count = digests(text, length, old);
	free(text);
	text = make_csv(ROWS, "9999999,somebody new,12.50,2026-12-01\n", &length);
	size_t new_count = digests(text, length, new);
	free(text);

	for (size_t i = 0; i < new_count; i++)
		for (size_t j = 0; j < old_count; j++)
			if (new[i] == old[j]) {
				shared++;
				break;
			}
	print_message("%zu of %zu chunks shared\n", shared, new_count);
	assert_true(shared * 100 > new_count * 97);
}

static void speed(void **state)
{
	enum { LENGTH = 64 << 20, ROUNDS = 4 };
	uint8_t *bytes = random_bytes(LENGTH, 7);
	struct timespec begin, end;
	size_t count = 0;

	(void)state;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
	for (int round = 0; round < ROUNDS; round++)
		for (size_t position = 0; position < LENGTH; count++)
			position += chunker_cut(bytes + position, LENGTH - position);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
	double seconds =
		(double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
	print_message("%zu chunks, %.2f GB/s\n", count, (double)LENGTH * ROUNDS / seconds / 1e9);
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cuts_are_where_they_always_were),
		cmocka_unit_test(cuts_follow_the_definition),
		cmocka_unit_test(lengths_keep_the_limits),
		cmocka_unit_test(scattered_bytes_are_cut_alike),
		cmocka_unit_test(cuts_do_not_depend_on_what_follows),
		cmocka_unit_test(a_row_at_the_top_changes_one_chunk),
		cmocka_unit_test(speed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
