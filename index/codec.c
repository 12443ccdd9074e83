#include "index/codec_internal.h"

#include <errno.h>
#include <lz4.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

int scratch_pool_init(struct scratch_pool *pool)
{
	pool->idle = NULL;
	return pthread_mutex_init(&pool->lock, NULL) == 0 ? 0 : -ENOMEM;
}

static void scratch_free(struct scratch *scratch)
{
	if (!scratch)
		return;
	free(scratch->stored);
	free(scratch->raw);
	free(scratch->gather);
	free(scratch->lz4);
	ZSTD_freeCCtx(scratch->compress);
	ZSTD_freeDCtx(scratch->decompress);
	free(scratch->candidates);
	free(scratch);
}

void scratch_pool_release(struct scratch_pool *pool)
{
	while (pool->idle) {
		struct scratch *scratch = pool->idle;

		pool->idle = scratch->next;
		scratch_free(scratch);
	}
	pthread_mutex_destroy(&pool->lock);
}

struct scratch *scratch_get(struct scratch_pool *pool)
{
	struct scratch *scratch;

	pthread_mutex_lock(&pool->lock);
	scratch = pool->idle;
	if (scratch)
		pool->idle = scratch->next;
	pthread_mutex_unlock(&pool->lock);
	if (scratch)
		return scratch;

	scratch = calloc(1, sizeof(*scratch));
	if (!scratch)
		return NULL;
	scratch->stored = malloc(CHUNK_MAX);
	scratch->raw = malloc(CHUNK_MAX);
	if (!scratch->stored || !scratch->raw) {
		scratch_free(scratch);
		return NULL;
	}
	return scratch;
}

void scratch_put(struct scratch_pool *pool, struct scratch *scratch)
{
	pthread_mutex_lock(&pool->lock);
	scratch->next = pool->idle;
	pool->idle = scratch;
	pthread_mutex_unlock(&pool->lock);
}

bool scratch_gather(struct scratch *scratch, size_t size)
{
	if (!scratch->gather)
		scratch->gather = malloc(size);
	return scratch->gather != NULL;
}

/*
 * Whether the bytes look compressed or encrypted already: a sample from four places in which
 * every value is about equally frequent.  For 4096 random bytes the sum of the squared counts
 * is 69,632 with a standard deviation of 361; text has a few hundred thousand.  This costs 2 us,
 * where lz4 takes 150 us to give up on 64 KiB of such bytes.  What it misses is random bytes that
 * repeat within one chunk.
 */
static bool looks_random(const uint8_t *raw, size_t length)
{
	enum { SAMPLE = 1024, SAMPLES = 4, LIMIT = 73000 };
	unsigned counts[256] = {0};
	unsigned sum = 0;

	if (length < SAMPLES * SAMPLE)
		return false;
	for (int i = 0; i < SAMPLES; i++) {
		const uint8_t *sample = raw + (length - SAMPLE) / (SAMPLES - 1) * (unsigned)i;

		for (int j = 0; j < SAMPLE; j++)
			counts[sample[j]]++;
	}
	for (int i = 0; i < 256; i++)
		sum += counts[i] * counts[i];
	return sum < LIMIT;
}

static size_t compress_lz4(struct scratch *scratch, const void *raw, size_t length, size_t limit)
{
	int done;

	if (!scratch->lz4)
		scratch->lz4 = malloc((size_t)LZ4_sizeofState());
	if (!scratch->lz4)
		return 0;
	/* Gives up when `limit` is reached. */
	done = LZ4_compress_fast_extState(scratch->lz4, raw, (char *)scratch->stored, (int)length,
					  (int)limit, 1);
	return done > 0 ? (size_t)done : 0;
}

static size_t compress_zstd(struct scratch *scratch, int level, const void *raw, size_t length,
			    size_t limit)
{
	size_t done;

	if (!scratch->compress)
		scratch->compress = ZSTD_createCCtx();
	if (!scratch->compress)
		return 0;
	done = ZSTD_compressCCtx(scratch->compress, scratch->stored, limit, raw, length, level);
	return ZSTD_isError(done) ? 0 : done;
}

size_t codec_compress(struct scratch *scratch, const struct store_compression *compression,
		      const void *raw, size_t length)
{
	size_t limit = length - (length + 15) / 16;

	if (!limit || compression->codec == CODEC_NONE || looks_random(raw, length))
		return 0;
	switch (compression->codec) {
	case CODEC_LZ4:
		return compress_lz4(scratch, raw, length, limit);
	case CODEC_ZSTD:
		return compress_zstd(scratch, compression->level, raw, length, limit);
	case CODEC_NONE:
		break;
	}
	return 0;
}

int codec_decompress(struct scratch *scratch, enum codec codec, const void *stored,
		     size_t stored_length, void *raw, size_t raw_length)
{
	size_t done;

	if (codec == CODEC_LZ4) {
		int r = LZ4_decompress_safe(stored, raw, (int)stored_length, (int)raw_length);

		return r >= 0 && (size_t)r == raw_length ? 0 : -EBADMSG;
	}
	if (!scratch->decompress)
		scratch->decompress = ZSTD_createDCtx();
	if (!scratch->decompress)
		return -ENOMEM;
	done = ZSTD_decompressDCtx(scratch->decompress, raw, raw_length, stored, stored_length);
	return !ZSTD_isError(done) && done == raw_length ? 0 : -EBADMSG;
}
