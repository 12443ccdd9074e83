/*
 * The limits of the data path's components, on one core: MB/s of hashing, cutting, compressing and
 * decompressing, in each way that this processor has.
 *
 *     build/release/tests/components [FILE]      (without a file: random bytes and CSV, 32 MiB
 * each)
 *
 * Chunks are those that a stream of these bytes is cut into.  The best of ROUNDS is printed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fs/chunker.h"
#include "index/codec_internal.h"
#include "index/hash_internal.h"

enum { SIZE = 32 << 20, ROUNDS = 5, CHUNKS_MAX = SIZE / CHUNKER_MIN + 1 };

struct input {
	uint8_t *bytes;
	size_t length;
	size_t chunks[CHUNKS_MAX]; /* their lengths */
	size_t count;
};

static struct scratch *scratch;
static uint8_t *packed[CHUNKS_MAX];
static size_t packed_length[CHUNKS_MAX];
static enum codec packed_codec;
static uint64_t sink;

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void report(const char *what, const char *how, const struct input *input,
		   void (*run)(const struct input *input, const void *how), const void *context)
{
	double best = 1e9;

	for (int i = 0; i < ROUNDS; i++) {
		double begin = now();
		run(input, context);
		double time = now() - begin;
		best = time < best ? time : best;
	}
	printf("  %-11s %-8s %7.0f MB/s", what, how, (double)input->length / best / 1e6);
}

static void run_hash(const struct input *input, const void *how)
{
	const struct hashing *hashing_used = *(const struct hashing *const *)how;
	const uint8_t *at = input->bytes;
	uint8_t hash[HASH_SIZE];

	for (size_t i = 0; i < input->count; i++) {
		hashing_used->long128(at, input->chunks[i], hash);
		sink += hash[0];
		at += input->chunks[i];
	}
}

static void run_cut(const struct input *input, const void *how)
{
	(void)how;
	for (size_t position = 0; position < input->length;)
		position += chunker_cut(input->bytes + position, input->length - position);
}

static void run_compress(const struct input *input, const void *how)
{
	const struct store_compression *compression = how;
	const uint8_t *at = input->bytes;

	for (size_t i = 0; i < input->count; i++) {
		packed_length[i] = codec_compress(scratch, compression, at, input->chunks[i]);
		free(packed[i]);
		packed[i] = malloc(packed_length[i] + 1);
		if (packed[i])
			memcpy(packed[i], scratch->stored, packed_length[i]);
		at += input->chunks[i];
	}
}

static void run_decompress(const struct input *input, const void *how)
{
	(void)how;
	for (size_t i = 0; i < input->count; i++)
		if (packed_length[i] && packed[i] &&
		    codec_decompress(scratch, packed_codec, packed[i], packed_length[i],
				     scratch->raw, input->chunks[i]) < 0)
			abort();
}

static void measure_codec(const struct input *input, const char *name,
			  const struct store_compression *compression)
{
	size_t stored = 0;

	report("compress", name, input, run_compress, compression);
	for (size_t i = 0; i < input->count; i++)
		stored += packed_length[i] ? packed_length[i] : input->chunks[i];
	printf(", share %.3f\n", (double)stored / (double)input->length);
	if (stored == input->length)
		return;
	packed_codec = compression->codec;
	report("decompress", name, input, run_decompress, NULL);
	printf("\n");
}

static void measure(const char *name, struct input *input)
{
	static const struct store_compression lz4 = {.codec = CODEC_LZ4},
					      zstd1 = {.codec = CODEC_ZSTD, .level = 1},
					      zstd3 = {.codec = CODEC_ZSTD, .level = 3};

	for (size_t position = 0; position < input->length; input->count++) {
		input->chunks[input->count] =
			chunker_cut(input->bytes + position, input->length - position);
		position += input->chunks[input->count];
	}
	printf("%s: %zu bytes in %zu chunks\n", name, input->length, input->count);
	for (const struct hashing *const *each = hashings(); *each; each++) {
		report("hash", (*each)->name, input, run_hash, each);
		printf("\n");
	}
	report("cut", "", input, run_cut, NULL);
	printf("\n");
	measure_codec(input, "lz4", &lz4);
	measure_codec(input, "zstd:1", &zstd1);
	measure_codec(input, "zstd:3", &zstd3);
}

static uint64_t next_random(void)
{
	static uint64_t state = 88172645463325252u;

	state ^= state << 13;
	state ^= state >> 7;
	return state ^= state << 17;
}

static void make_random(struct input *input)
{
	for (size_t i = 0; i + 8 <= SIZE; i += 8) {
		uint64_t word = next_random();
		memcpy(input->bytes + i, &word, sizeof(word));
	}
	input->length = SIZE;
}

static void make_csv(struct input *input)
{
	static const char *const towns[] = {"Bergen", "Cordoba", "Dresden", "Ghent",
					    "Jena",   "Lyon",	 "Turin",   "Zurich"};
	char *text = (char *)input->bytes;
	size_t length = 0;

	for (unsigned row = 100000; length + 128 < SIZE; row++) {
		uint64_t value = next_random();
		length += (size_t)sprintf(
			text + length, "%u,customer-%u,%u.%02u,EUR,20%02u-%02u-%02u,%s,%s\n", row,
			(unsigned)(value % 50000), (unsigned)(value >> 20) % 9000,
			(unsigned)(value >> 40) % 100, 10 + (unsigned)(value >> 24) % 16,
			1 + (unsigned)(value >> 32) % 12, 1 + (unsigned)(value >> 36) % 28,
			towns[value >> 61], value >> 44 & 1 ? "open" : "paid");
	}
	input->length = length;
}

static int read_file(struct input *input, const char *path)
{
	FILE *stream = fopen(path, "re");

	if (!stream) {
		perror(path);
		return 1;
	}
	input->length = fread(input->bytes, 1, SIZE, stream);
	fclose(stream);
	return 0;
}

int main(int count, char **arguments)
{
	static struct input input;
	struct scratch_pool pool;
	int failed = 0;

	input.bytes = malloc(SIZE);
	if (!input.bytes || scratch_pool_init(&pool) || !(scratch = scratch_get(&pool)))
		return 1;
	if (count > 1) {
		failed = read_file(&input, arguments[1]);
		if (!failed)
			measure(arguments[1], &input);
	} else {
		make_random(&input);
		measure("random bytes", &input);
		input.count = 0;
		make_csv(&input);
		measure("CSV", &input);
	}
	for (size_t i = 0; i < CHUNKS_MAX; i++)
		free(packed[i]);
	free(input.bytes);
	scratch_put(&pool, scratch);
	scratch_pool_release(&pool);
	return failed;
}
