/*
 * Compression, and the buffers it needs.
 *
 * A scratch is a set of buffers and contexts for one operation at a time.  They come from a
 * pool, so that as many are made as threads work at once, and all are freed with the store.
 */
#ifndef CAIRN_INDEX_CODEC_INTERNAL_H
#define CAIRN_INDEX_CODEC_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index/chunk.h"

struct candidate {
	uint64_t id;
	struct chunk_info info;
};

struct scratch {
	struct scratch *next;
	uint8_t *stored; /* owned, CHUNK_MAX bytes: compressed */
	uint8_t *raw;	 /* owned, CHUNK_MAX bytes: decompressed, for comparing */
	uint8_t *gather; /* owned; several compressed chunks; made when first used, as what follows */
	void *lz4;
	void *compress;
	void *decompress;
	struct candidate *candidates; /* owned; for chunk_store() */
	size_t candidate_count;
	size_t candidate_capacity;
};

struct scratch_pool {
	pthread_mutex_t lock;
	struct scratch *idle; /* owned */
};

int scratch_pool_init(struct scratch_pool *pool);
void scratch_pool_release(struct scratch_pool *pool);
struct scratch *scratch_get(struct scratch_pool *pool); /* NULL: no memory */
void scratch_put(struct scratch_pool *pool, struct scratch *scratch);
/* Makes scratch->gather, always of the same size; false: no memory. */
bool scratch_gather(struct scratch *scratch, size_t size);

/*
 * Compresses into scratch->stored.  Returns the length, or 0 where it does not pay (less than a
 * sixteenth gained, or it cannot be done now): the chunk is then stored raw.
 */
size_t codec_compress(struct scratch *scratch, const struct store_compression *compression,
		      const void *raw, size_t length);

/* Decompresses to exactly `raw_length` bytes.  -EBADMSG, -ENOMEM. */
int codec_decompress(struct scratch *scratch, enum codec codec, const void *stored,
		     size_t stored_length, void *raw, size_t raw_length);

#endif
