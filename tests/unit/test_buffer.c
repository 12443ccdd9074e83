/* Buffers: what waits for reuse, and what is given back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "fs/buffer.h"

enum { MIB = 1 << 20, KEEP = 16 * MIB, CHUNK = 100 * 1024, PAGE = 4096 };

/* Whether a buffer of this size comes out of the pool with what was in it. */
static bool is_reused(struct buffer_pool *pool, size_t capacity)
{
	struct buffer *buffer = buffer_new(pool, capacity);

	assert_non_null(buffer);
	bool reused = buffer->data[PAGE] == 0x5a;
	buffer_unref(pool, buffer);
	return reused;
}

/* Uses `count` buffers of a size at the same time. */
static void use(struct buffer_pool *pool, size_t capacity, int count)
{
	struct buffer *buffers[64];

	for (int i = 0; i < count; i++) {
		buffers[i] = buffer_new(pool, capacity);
		assert_non_null(buffers[i]);
		assert_true(buffers[i]->capacity >= capacity);
		memset(buffers[i]->data, 0x5a, buffers[i]->capacity);
	}
	for (int i = 0; i < count; i++)
		buffer_unref(pool, buffers[i]);
}

static void sizes_in_use_displace_others(void **state)
{
	struct buffer_pool *pool = buffer_pool_new(KEEP);

	(void)state;
	assert_non_null(pool);
	assert_true(buffer_pool_is_empty(pool));
	use(pool, BUFFER_REQUEST, 40); /* more than is kept */
	assert_false(buffer_pool_is_empty(pool));
	assert_true(is_reused(pool, BUFFER_REQUEST));
	use(pool, CHUNK, 1);
	assert_true(is_reused(pool, CHUNK));
	assert_true(is_reused(pool, BUFFER_REQUEST));
	buffer_pool_free(pool);
}

static void trimming_leaves_what_was_needed(void **state)
{
	struct buffer_pool *pool = buffer_pool_new(KEEP);
	struct buffer *buffers[4];

	(void)state;
	assert_non_null(pool);
	use(pool, BUFFER_REQUEST, 12);
	buffer_pool_trim(pool); /* the period begins */
	for (int i = 0; i < 4; i++)
		buffers[i] = buffer_new(pool, BUFFER_REQUEST);
	for (int i = 0; i < 4; i++)
		buffer_unref(pool, buffers[i]);
	buffer_pool_trim(pool);
	assert_false(buffer_pool_is_empty(pool));
	assert_true(is_reused(pool, BUFFER_REQUEST));
	buffer_pool_trim(pool);
	buffer_pool_trim(pool);
	assert_true(buffer_pool_is_empty(pool));
	assert_false(is_reused(pool, BUFFER_REQUEST));
	buffer_pool_free(pool);
}

/* Where the kernel copies to: page to page. */
static void contents_begin_at_a_page(void **state)
{
	struct buffer_pool *pool = buffer_pool_new(KEEP);
	struct buffer *request = buffer_new(pool, BUFFER_REQUEST), *reply = buffer_new(pool, MIB),
		      *huge = buffer_new(pool, 3 * MIB);

	(void)state;
	assert_int_equal((uintptr_t)(request->data + BUFFER_WRITE_HEADER) % PAGE, 0);
	assert_int_equal((uintptr_t)reply->data % PAGE, 0);
	assert_int_equal((uintptr_t)huge->data % PAGE, 0);
	memset(request->data, 1, request->capacity);
	memset(reply->data, 1, reply->capacity);
	memset(huge->data, 1, huge->capacity);
	buffer_unref(pool, request);
	buffer_unref(pool, reply);
	buffer_unref(pool, huge);
	buffer_pool_free(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_in_use_displace_others),
		cmocka_unit_test(trimming_leaves_what_was_needed),
		cmocka_unit_test(contents_begin_at_a_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
