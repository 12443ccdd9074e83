/*
 * A stand-in for index/chunk.h, for programs that use memory_tree.h: chunks in memory, under ids
 * from 1, each read counted.  Nothing is deduplicated; two chunks of the same bytes have the
 * same "hash".
 */
#ifndef CAIRN_TESTS_MEMORY_CHUNKS_H
#define CAIRN_TESTS_MEMORY_CHUNKS_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "index/chunk.h"

enum { MEMORY_CHUNKS = 256 };

static struct {
	uint8_t *bytes; /* owned */
	size_t length;
	int reads; /* that delivered */
} memory_chunks[MEMORY_CHUNKS];
static uint64_t memory_chunk_count;

static void memory_chunks_clear(void)
{
	for (uint64_t i = 0; i < memory_chunk_count; i++)
		free(memory_chunks[i].bytes);
	memset(memory_chunks, 0, sizeof(memory_chunks));
	memory_chunk_count = 0;
}

int chunk_store(struct store *store, const void *raw, size_t length, uint64_t *ret_id,
		bool *ret_duplicate)
{
	uint8_t *bytes = malloc(length);

	(void)store;
	assert_in_range(length, 1, CHUNK_MAX);
	assert_non_null(bytes);
	assert_true(memory_chunk_count < MEMORY_CHUNKS);
	memcpy(bytes, raw, length);
	memory_chunks[memory_chunk_count].bytes = bytes;
	memory_chunks[memory_chunk_count].length = length;
	*ret_id = ++memory_chunk_count;
	if (ret_duplicate)
		*ret_duplicate = false;
	return 0;
}

int chunk_read(struct store *store, uint64_t id, void *buffer, size_t capacity, size_t *ret_length,
	       struct errbuf *err)
{
	(void)store;
	(void)err;
	if (id == 0 || id > memory_chunk_count)
		return -ESTALE;
	if (capacity < memory_chunks[id - 1].length)
		return -ERANGE;
	memcpy(buffer, memory_chunks[id - 1].bytes, memory_chunks[id - 1].length);
	*ret_length = memory_chunks[id - 1].length;
	memory_chunks[id - 1].reads++;
	return 0;
}

int chunk_info(struct store *store, uint64_t id, struct chunk_info *ret)
{
	(void)store;
	if (id == 0 || id > memory_chunk_count)
		return -ENOENT;
	*ret = (struct chunk_info){.raw_length = (uint32_t)memory_chunks[id - 1].length};
	return 0;
}

#endif
