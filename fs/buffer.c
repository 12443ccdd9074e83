/*
 * Buffers.
 *
 * Small ones are malloc's business.  Large ones are mapped, so that freeing one gives its pages
 * back whatever else lies on the heap, and up to `keep_bytes` of them wait for reuse: a fresh
 * megabyte costs 256 page faults, as much as copying it does.  Where the room for those that
 * wait is used up, the size of which most wait gives way, so that the sizes that are in use now
 * are kept.  What nobody needed from one buffer_pool_trim() to the next is unmapped.
 *
 * In a mapping the data begin where the kernel's copies are cheapest: at a page, and in buffers for
 * requests so that the contents of a WRITE do.  A page then goes to one page, and not to two.
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

_Static_assert(sizeof(struct buffer) + BUFFER_WRITE_HEADER <= PAGE, "both fit the first page");

struct free_buffer {
	struct free_buffer *next;
};

struct buffer_pool {
	pthread_mutex_t lock;
	struct free_buffer *free[CLASSES]; /* lock */
	size_t free_bytes_of[CLASSES];	   /* lock */
	size_t free_bytes;		   /* lock */
	size_t least_free_bytes;	   /* since the last trim; lock */
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

/* ---- mappings: the header ends where the data begin, in the first page ---- */

static size_t data_place(unsigned size_class)
{
	return size_class == CLASS_REQUEST ? PAGE - BUFFER_WRITE_HEADER : PAGE;
}

static size_t mapped_size(unsigned size_class, size_t capacity)
{
	return (data_place(size_class) + capacity + PAGE - 1) / PAGE * PAGE;
}

static struct buffer *buffer_map(unsigned size_class, size_t capacity)
{
	uint8_t *memory = mmap(NULL, mapped_size(size_class, capacity), PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return NULL;
	return (struct buffer *)(memory + data_place(size_class) - sizeof(struct buffer));
}

static void buffer_unmap(void *buffer, unsigned size_class, size_t capacity)
{
	uint8_t *memory = (uint8_t *)buffer + sizeof(struct buffer) - data_place(size_class);

	munmap(memory, mapped_size(size_class, capacity));
}

/* ---- those that wait for reuse ---- */

/* Lock held. */
static struct free_buffer *pop_locked(struct buffer_pool *pool, unsigned size_class)
{
	struct free_buffer *buffer = pool->free[size_class];

	if (buffer) {
		pool->free[size_class] = buffer->next;
		pool->free_bytes -= class_capacity(size_class);
		pool->free_bytes_of[size_class] -= class_capacity(size_class);
	}
	return buffer;
}

/* The size of which most bytes wait.  Lock held. */
static unsigned fullest_class(const struct buffer_pool *pool)
{
	unsigned fullest = CLASS_MAPPED;

	for (unsigned i = CLASS_MAPPED; i < CLASSES; i++)
		if (pool->free_bytes_of[i] > pool->free_bytes_of[fullest])
			fullest = i;
	return fullest;
}

void buffer_pool_trim(struct buffer_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	size_t unused = pool->least_free_bytes;
	while (unused && pool->free_bytes) {
		unsigned size_class = fullest_class(pool);
		size_t capacity = class_capacity(size_class);
		struct free_buffer *buffer = pop_locked(pool, size_class);
		unused -= capacity < unused ? capacity : unused;
		pthread_mutex_unlock(&pool->lock);
		buffer_unmap(buffer, size_class, capacity);
		pthread_mutex_lock(&pool->lock);
	}
	pool->least_free_bytes = pool->free_bytes;
	pthread_mutex_unlock(&pool->lock);
}

bool buffer_pool_is_empty(struct buffer_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	bool empty = pool->free_bytes == 0;
	pthread_mutex_unlock(&pool->lock);
	return empty;
}

struct buffer_pool *buffer_pool_free(struct buffer_pool *pool)
{
	if (!pool)
		return NULL;
	pool->least_free_bytes = pool->free_bytes;
	buffer_pool_trim(pool);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
	return NULL;
}

static struct buffer *pool_take(struct buffer_pool *pool, unsigned size_class)
{
	pthread_mutex_lock(&pool->lock);
	struct free_buffer *buffer = pop_locked(pool, size_class);
	if (pool->free_bytes < pool->least_free_bytes)
		pool->least_free_bytes = pool->free_bytes;
	pthread_mutex_unlock(&pool->lock);
	return (struct buffer *)buffer;
}

static void pool_keep(struct buffer_pool *pool, unsigned size_class, void *memory)
{
	struct free_buffer *buffer = memory, *victim = NULL;
	size_t capacity = class_capacity(size_class);

	pthread_mutex_lock(&pool->lock);
	buffer->next = pool->free[size_class];
	pool->free[size_class] = buffer;
	pool->free_bytes += capacity;
	pool->free_bytes_of[size_class] += capacity;
	if (pool->free_bytes > pool->keep_bytes) {
		size_class = fullest_class(pool);
		victim = pop_locked(pool, size_class);
	}
	pthread_mutex_unlock(&pool->lock);
	if (victim)
		buffer_unmap(victim, size_class, class_capacity(size_class));
}

/* ---- buffers ---- */

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
			buffer = buffer_map(size_class, capacity);
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
	else if (buffer->size_class == CLASS_HUGE)
		buffer_unmap(buffer, CLASS_HUGE, buffer->capacity);
	else
		pool_keep(pool, buffer->size_class, buffer);
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
