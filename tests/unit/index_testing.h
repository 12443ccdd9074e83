/* What the tests of index/ share: a directory for each test, stores in it, data to store. */
#ifndef CAIRN_TESTS_INDEX_TESTING_H
#define CAIRN_TESTS_INDEX_TESTING_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "index/chunk.h"
#include "index/commit.h"
#include "index/reader.h"
#include "index/store.h"
#include "index/sweep.h"
#include "index/util/bytes.h"

#define UNUSED __attribute__((unused))

/* Fails with the error's name rather than with two numbers. */
#define assert_ok(expression)                                                                      \
	do {                                                                                       \
		int assert_r = (expression);                                                       \
		if (assert_r < 0)                                                                  \
			fail_msg("%s: %s", #expression, strerror(-assert_r));                      \
	} while (0)
#define assert_error(expression, error)                                                            \
	do {                                                                                       \
		int assert_r = (expression);                                                       \
		if (assert_r != -(error))                                                          \
			fail_msg("%s: got %d, wanted %d", #expression, assert_r, -(error));        \
	} while (0)

struct place {
	char directory[PATH_MAX]; /* of the test */
	char path[PATH_MAX + 64]; /* of the store in it */
};

static UNUSED int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static UNUSED void remove_tree(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static UNUSED int place_setup(void **state)
{
	struct place *place = calloc(1, sizeof(*place));
	const char *base = getenv("TMPDIR");

	if (!place)
		return -1;
	snprintf(place->directory, sizeof(place->directory), "%s/cairn-index-XXXXXX",
		 base && *base ? base : "/tmp");
	if (!mkdtemp(place->directory))
		return -1;
	snprintf(place->path, sizeof(place->path), "%s/store", place->directory);
	*state = place;
	return 0;
}

static UNUSED int place_teardown(void **state)
{
	struct place *place = *state;

	remove_tree(place->directory);
	free(place);
	return 0;
}

#define index_test(function) cmocka_unit_test_setup_teardown(function, place_setup, place_teardown)

static UNUSED void make_store(struct place *place, const char *compression)
{
	struct store_compression parsed;
	struct errbuf err = {""};

	assert_ok(store_parse_compression(compression, &parsed, &err));
	if (store_create(place->path, &parsed, &err) < 0)
		fail_msg("store_create: %s", err.text);
}

static UNUSED struct store *open_store_with(struct place *place, unsigned flags,
					    const struct io *io)
{
	struct errbuf err = {""};
	struct store *store = NULL;

	if (store_open(place->path, flags, io, &store, &err) < 0)
		fail_msg("store_open: %s", err.text);
	return store;
}

static UNUSED struct store *open_store(struct place *place)
{
	return open_store_with(place, 0, NULL);
}

static UNUSED struct store *new_store(struct place *place, const char *compression)
{
	make_store(place, compression);
	return open_store(place);
}

static UNUSED int try_commit_all(struct store *store)
{
	struct commit *commit;
	int r = commit_begin(store, &commit);

	if (r < 0)
		return r;
	r = commit_seal(commit);
	if (r < 0) {
		commit_abort(commit);
		return r;
	}
	return commit_finish(commit);
}

static UNUSED void commit_all(struct store *store)
{
	assert_ok(try_commit_all(store));
}

/* xorshift64*: the same everywhere. */
static UNUSED uint64_t next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}

static UNUSED void fill_random(uint8_t *bytes, size_t length, uint64_t seed)
{
	uint64_t random = seed * 2 + 1;

	for (size_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)(next_random(&random) >> 32);
}

/* Compresses to about a half. */
static UNUSED void fill_text(uint8_t *bytes, size_t length, uint64_t seed)
{
	uint64_t random = seed * 2 + 1;

	for (size_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)("0123456789;\nabcd"[next_random(&random) >> 60]);
}

static UNUSED uint64_t store_bytes(struct store *store, const void *bytes, size_t length,
				   bool duplicate)
{
	bool was_duplicate;
	uint64_t id;

	assert_ok(chunk_store(store, bytes, length, &id, &was_duplicate));
	assert_int_equal(was_duplicate, duplicate);
	return id;
}

static UNUSED void check_chunk(struct store *store, uint64_t id, const void *bytes, size_t length)
{
	static _Thread_local uint8_t buffer[CHUNK_MAX];
	struct errbuf err = {""};
	size_t got;

	if (chunk_read(store, id, buffer, sizeof(buffer), &got, &err) < 0)
		fail_msg("chunk_read: %s", err.text);
	assert_int_equal(got, length);
	assert_memory_equal(buffer, bytes, length);
}

static UNUSED void fill_node(uint8_t node[NODE_SIZE], uint64_t id, uint64_t content)
{
	memset(node, 0, NODE_SIZE);
	put_le64(node + 8, id);
	for (size_t i = 16; i + 8 <= NODE_SIZE; i += 8)
		put_le64(node + i, content);
}

static UNUSED void put_node(struct commit *commit, uint64_t id, uint64_t content)
{
	uint8_t node[NODE_SIZE];

	fill_node(node, id, content);
	assert_ok(commit_put_node(commit, id, node));
}

static UNUSED uint64_t node_content(const uint8_t *node)
{
	return get_le64(node + 16);
}

static UNUSED struct bytes text(const char *string)
{
	return (struct bytes){string, strlen(string)};
}

/* Flips one bit of a file. */
static UNUSED void flip(const char *path, uint64_t offset, unsigned bit)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	uint8_t byte;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
	byte ^= (uint8_t)(1u << bit);
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
	close(fd);
}

#endif
