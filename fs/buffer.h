/*
 * Reference-counted buffers for file data and for requests from the kernel.
 *
 * Buffers come in size classes (powers of two from 256 bytes to 1 MiB, and BUFFER_REQUEST for a
 * whole request of the kernel).  Those from 64 KiB on go back to a bounded pool, so that streaming
 * does not fault in fresh pages for each megabyte.  Reference counts are atomic; contents are
 * written by one owner before they are shared and never after, except behind `used` by the one
 * who appends (head lock).
 */
#ifndef CAIRN_FS_BUFFER_H
#define CAIRN_FS_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	BUFFER_REQUEST = (1 << 20) + (64 << 10), /* the largest request, with headers */
	BUFFER_WRITE_HEADER = 80, /* so far into such a buffer a page begins: a WRITE's contents */
};

struct buffer {
	_Atomic uint32_t references;
	uint32_t size_class;	  /* private */
	_Atomic uint32_t charged; /* counts in buffer_pool_charged() */
	size_t capacity;
	size_t used; /* bytes filled from the start */
	uint8_t data[];
};

struct buffer_pool;

struct buffer_pool *buffer_pool_new(size_t keep_bytes); /* NULL on -ENOMEM */
struct buffer_pool *buffer_pool_free(struct buffer_pool *pool);
/* Gives back the memory of those buffers that nobody needed since the last call. */
void buffer_pool_trim(struct buffer_pool *pool);
bool buffer_pool_is_empty(struct buffer_pool *pool); /* there is nothing to trim */

/* A buffer of at least `capacity` bytes with one reference; NULL where memory is out. */
struct buffer *buffer_new(struct buffer_pool *pool, size_t capacity);
struct buffer *buffer_ref(struct buffer *buffer);
struct buffer *buffer_unref(struct buffer_pool *pool, struct buffer *buffer); /* returns NULL */

/* The memory held for dirty data: from buffer_charge() until the buffer is freed its whole
 * capacity counts, whoever still refers to it.  Charging twice counts once. */
void buffer_charge(struct buffer_pool *pool, struct buffer *buffer);
size_t buffer_pool_charged(struct buffer_pool *pool);

/* Nobody else has a reference: the contents may be changed.  Meaningful while nobody else can take
 * one: under the exclusive head lock, or before the buffer was shared. */
bool buffer_is_sole(struct buffer *buffer);

#endif
