/*
 * Chunks: deduplicated, compressed, verified pieces of file data (1 byte to CHUNK_MAX).
 *
 * Storing: XXH3-128 of the raw bytes, look-up, comparison of the bytes on a hit (I5),
 * compression, one record appended to the current pack.  A chunk is readable at once, durable
 * with the next commit that is sealed after chunk_store() returned.  Two threads that store the
 * same bytes at the same time get the same chunk: the second waits for the first.
 *
 * Reading verifies the hash every time (I6): -EBADMSG where it does not match.
 *
 * Ids are never used twice.  A chunk that collection removed while a caller still held its id
 * reads as -ESTALE: look up the extent again.
 */
#ifndef CAIRN_INDEX_CHUNK_H
#define CAIRN_INDEX_CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index/reader.h"
#include "index/store.h"

enum { CHUNK_MAX = 256 * 1024 };

/* Stores `length` bytes (1 to CHUNK_MAX).  `ret_duplicate` (may be NULL) says whether they
 * were there already.  -ENOSPC, -EIO (a failed write is not fatal: nothing refers to it). */
int chunk_store(struct store *store, const void *raw, size_t length, uint64_t *ret_id,
		bool *ret_duplicate);

int chunk_info(struct store *store, uint64_t id, struct chunk_info *ret); /* also uncommitted */

/*
 * Reads the whole chunk into `buffer` of at least `capacity` bytes (-ERANGE if it does not fit)
 * and verifies it.  `err` gets pack and offset on damage, for the log line of I6.
 */
int chunk_read(struct store *store, uint64_t id, void *buffer, size_t capacity, size_t *ret_length,
	       struct errbuf *err);

/*
 * Reads several chunks as chunk_read() does each, but those whose records lie together with one
 * call.  `info` is what chunk_info() said.  Stops at the first error and returns it; the buffers of
 * the others then hold anything.
 */
struct chunk_load {
	uint64_t id;
	struct chunk_info info;
	void *buffer; /* for info.raw_length bytes at least */
	size_t capacity;
};
int chunks_read(struct store *store, struct chunk_load *loads, int count, struct errbuf *err);

/* Tells the kernel that the chunks' records will be read soon (posix_fadvise). */
void chunks_prefetch(struct store *store, const uint64_t *ids, int count);

/* For tests only: the number of low bits of the hash that count (128: all), so that a small
 * number forces collisions (I5).  Set before anything is stored. */
void chunk_test_limit_hash(struct store *store, unsigned bits);

#endif
