/*
 * Buffers.
 *
 * Small ones are malloc's business.  Large ones are mapped, so that freeing one gives its pages
 * back whatever else lies on the heap, and up to `keep_bytes` of them wait for reuse: a fresh
 * megabyte costs 256 page faults.
 */
#include "fs/buffer.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

enum {
	SMALLEST_SHIFT = 8,
	MAPPED_SHIFT = 16,
	LARGEST_SHIFT = 20,
	CLASS_MAPPED = MAPPED_SHIFT - SMALLEST_SHIFT,
	CLASS_REQUEST = LARGEST_SHIFT - SMALLEST_SHIFT + 1,
	CLASSES,
	CLASS_HUGE = CLASSES, /* larger than a request: never kept */
	PAGE = 4096,
};

struct free_buffer {
	struct free_buffer *next;
};

struct buffer_pool {
	pthread_mutex_t lock;
	struct free_buffer *free[CLASSES]; /* lock */
	size_t free_bytes;		   /* lock */
	size_t keep_bytes;		   /* fixed */
	_Atomic size_t charged;
};

struct buffer_pool *buffer_pool_new(size_t keep_bytes)
{
	struct buffer_pool *pool = calloc(1, sizeof(*pool));
	if (!pool)
		return NULL;
	pthread_mutex_init(&pool->lock, NULL);
	pool->keep_bytes = keep_bytes;
	return pool;
}

static size_t class_capacity(unsigned size_class)
{
	if (size_class == CLASS_REQUEST)
		return BUFFER_REQUEST;
	return (size_t)1 << (size_class + SMALLEST_SHIFT);
}

static unsigned class_of(size_t capacity)
{
	unsigned size_class = 0;

	if (capacity > BUFFER_REQUEST)
		return CLASS_HUGE;
	while (size_class < CLASS_REQUEST && class_capacity(size_class) < capacity)
		size_class++;
	return size_class;
}

static size_t mapped_size(size_t capacity)
{
	return (sizeof(struct buffer) + capacity + PAGE - 1) / PAGE * PAGE;
}

struct buffer_pool *buffer_pool_free(struct buffer_pool *pool)
{
	if (!pool)
		return NULL;
	for (unsigned i = CLASS_MAPPED; i < CLASSES; i++) {
		while (pool->free[i]) {
			struct free_buffer *buffer = pool->free[i];
			pool->free[i] = buffer->next;
			munmap(buffer, mapped_size(class_capacity(i)));
		}
	}
	pthread_mutex_destroy(&pool->lock);
	free(pool);
	return NULL;
}

static void *pool_take(struct buffer_pool *pool, unsigned size_class)
{
	pthread_mutex_lock(&pool->lock);
	struct free_buffer *buffer = pool->free[size_class];
	if (buffer) {
		pool->free[size_class] = buffer->next;
		pool->free_bytes -= class_capacity(size_class);
	}
	pthread_mutex_unlock(&pool->lock);
	return buffer;
}

static bool pool_keep(struct buffer_pool *pool, unsigned size_class, void *memory)
{
	struct free_buffer *buffer = memory;
	size_t capacity = class_capacity(size_class);

	pthread_mutex_lock(&pool->lock);
	bool keep = pool->free_bytes + capacity <= pool->keep_bytes;
	if (keep) {
		buffer->next = pool->free[size_class];
		pool->free[size_class] = buffer;
		pool->free_bytes += capacity;
	}
	pthread_mutex_unlock(&pool->lock);
	return keep;
}

static void *map_memory(size_t capacity)
{
	void *memory = mmap(NULL, mapped_size(capacity), PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return memory == MAP_FAILED ? NULL : memory;
}

struct buffer *buffer_new(struct buffer_pool *pool, size_t capacity)
{
	unsigned size_class = class_of(capacity);
	struct buffer *buffer;

	if (size_class < CLASS_HUGE)
		capacity = class_capacity(size_class);
	if (size_class < CLASS_MAPPED) {
		buffer = malloc(sizeof(*buffer) + capacity);
	} else {
		buffer = size_class < CLASSES ? pool_take(pool, size_class) : NULL;
		if (!buffer)
			buffer = map_memory(capacity);
	}
	if (!buffer)
		return NULL;
	atomic_init(&buffer->references, 1);
	atomic_init(&buffer->charged, 0);
	buffer->size_class = size_class;
	buffer->capacity = capacity;
	buffer->used = 0;
	return buffer;
}

struct buffer *buffer_ref(struct buffer *buffer)
{
	atomic_fetch_add_explicit(&buffer->references, 1, memory_order_relaxed);
	return buffer;
}

struct buffer *buffer_unref(struct buffer_pool *pool, struct buffer *buffer)
{
	if (!buffer)
		return NULL;
	if (atomic_fetch_sub_explicit(&buffer->references, 1, memory_order_acq_rel) > 1)
		return NULL;
	if (atomic_load_explicit(&buffer->charged, memory_order_relaxed))
		atomic_fetch_sub_explicit(&pool->charged, buffer->capacity, memory_order_relaxed);
	if (buffer->size_class < CLASS_MAPPED)
		free(buffer);
	else if (buffer->size_class == CLASS_HUGE || !pool_keep(pool, buffer->size_class, buffer))
		munmap(buffer, mapped_size(buffer->capacity));
	return NULL;
}

void buffer_charge(struct buffer_pool *pool, struct buffer *buffer)
{
	if (!atomic_exchange_explicit(&buffer->charged, 1, memory_order_relaxed))
		atomic_fetch_add_explicit(&pool->charged, buffer->capacity, memory_order_relaxed);
}

size_t buffer_pool_charged(struct buffer_pool *pool)
{
	return atomic_load_explicit(&pool->charged, memory_order_relaxed);
}

bool buffer_is_sole(struct buffer *buffer)
{
	return atomic_load_explicit(&buffer->references, memory_order_acquire) == 1;
}
