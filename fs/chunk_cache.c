/*
 * Decompressed, verified chunks, least recently used go first.
 *
 * An entry is made before its chunk is loaded, so that a second thread that wants the same chunk
 * waits for the first.  A load that fails takes its entry away; whoever waited tries for himself
 * and gets his own error.  Contents are immutable: a reference to the buffer outlives the entry.
 */
#include <errno.h>
#include <stdlib.h>

#include "fs/data_internal.h"
#include "index/chunk.h"

struct entry {
	uint64_t id;
	struct buffer *buffer; /* NULL: on its way */
	struct entry *newer, *older;
};

struct chunk_cache {
	struct store *store;
	struct buffer_pool *pool;
	size_t capacity;
	pthread_mutex_t lock;
	pthread_cond_t loaded;
	struct u64map entries;	       /* lock */
	struct entry *newest, *oldest; /* those that are there; lock */
	size_t bytes;		       /* lock */
};

struct chunk_cache *chunk_cache_new(struct store *store, struct buffer_pool *pool, size_t capacity)
{
	struct chunk_cache *cache = calloc(1, sizeof(*cache));
	if (!cache)
		return NULL;
	cache->store = store;
	cache->pool = pool;
	cache->capacity = capacity;
	pthread_mutex_init(&cache->lock, NULL);
	pthread_cond_init(&cache->loaded, NULL);
	return cache;
}

static void list_add(struct chunk_cache *cache, struct entry *entry)
{
	entry->newer = NULL;
	entry->older = cache->newest;
	if (cache->newest)
		cache->newest->newer = entry;
	else
		cache->oldest = entry;
	cache->newest = entry;
}

static void list_remove(struct chunk_cache *cache, struct entry *entry)
{
	if (entry->newer)
		entry->newer->older = entry->older;
	else
		cache->newest = entry->older;
	if (entry->older)
		entry->older->newer = entry->newer;
	else
		cache->oldest = entry->newer;
}

static void evict(struct chunk_cache *cache, size_t limit)
{
	while (cache->oldest && cache->bytes > limit) {
		struct entry *entry = cache->oldest;
		list_remove(cache, entry);
		u64map_remove(&cache->entries, entry->id);
		cache->bytes -= entry->buffer->capacity;
		buffer_unref(cache->pool, entry->buffer);
		free(entry);
	}
}

struct chunk_cache *chunk_cache_free(struct chunk_cache *cache)
{
	if (!cache)
		return NULL;
	evict(cache, 0);
	u64map_release(&cache->entries);
	pthread_cond_destroy(&cache->loaded);
	pthread_mutex_destroy(&cache->lock);
	free(cache);
	return NULL;
}

/* A reference to what is there, after waiting for what is on its way. Lock held. */
static struct buffer *find_locked(struct chunk_cache *cache, uint64_t id)
{
	struct entry *entry;

	while ((entry = u64map_get(&cache->entries, id)) && !entry->buffer)
		pthread_cond_wait(&cache->loaded, &cache->lock);
	if (!entry)
		return NULL;
	if (entry != cache->newest) {
		list_remove(cache, entry);
		list_add(cache, entry);
	}
	return buffer_ref(entry->buffer);
}

bool chunk_cache_has(struct chunk_cache *cache, uint64_t id)
{
	pthread_mutex_lock(&cache->lock);
	bool has = u64map_get(&cache->entries, id) != NULL;
	pthread_mutex_unlock(&cache->lock);
	return has;
}

/* No lock held. */
static int load(struct chunk_cache *cache, uint64_t id, struct buffer **ret, struct errbuf *err)
{
	struct chunk_info info;
	int error = chunk_info(cache->store, id, &info);
	if (error)
		return error == -ENOENT ? -ESTALE : error;
	struct buffer *buffer = buffer_new(cache->pool, info.raw_length);
	if (!buffer)
		return -ENOMEM;
	error = chunk_read(cache->store, id, buffer->data, buffer->capacity, &buffer->used, err);
	if (error) {
		buffer_unref(cache->pool, buffer);
		return error;
	}
	*ret = buffer;
	return 0;
}

/* Makes an entry that is on its way; NULL: -ENOMEM. Lock held. */
static struct entry *entry_new(struct chunk_cache *cache, uint64_t id)
{
	struct entry *entry = calloc(1, sizeof(*entry));
	if (!entry)
		return NULL;
	entry->id = id;
	if (u64map_put(&cache->entries, id, entry)) {
		free(entry);
		return NULL;
	}
	return entry;
}

int chunk_cache_begin(struct chunk_cache *cache, uint64_t id, struct buffer **ret)
{
	pthread_mutex_lock(&cache->lock);
	struct entry *entry = u64map_get(&cache->entries, id);
	int result = 1;

	if (!entry)
		result = entry_new(cache, id) ? 0 : -ENOMEM;
	else if (!entry->buffer)
		result = -EBUSY;
	else
		*ret = find_locked(cache, id);
	pthread_mutex_unlock(&cache->lock);
	return result;
}

void chunk_cache_end(struct chunk_cache *cache, uint64_t id, struct buffer *buffer)
{
	pthread_mutex_lock(&cache->lock);
	struct entry *entry = u64map_get(&cache->entries, id);
	if (!buffer) {
		u64map_remove(&cache->entries, id);
		free(entry);
	} else {
		entry->buffer = buffer_ref(buffer);
		list_add(cache, entry);
		cache->bytes += buffer->capacity;
		evict(cache, cache->capacity);
	}
	pthread_cond_broadcast(&cache->loaded);
	pthread_mutex_unlock(&cache->lock);
}

int chunk_cache_get(struct chunk_cache *cache, uint64_t id, struct buffer **ret, struct errbuf *err)
{
	pthread_mutex_lock(&cache->lock);
	struct buffer *buffer = find_locked(cache, id);
	struct entry *entry = buffer ? NULL : entry_new(cache, id);
	pthread_mutex_unlock(&cache->lock);
	if (!buffer && !entry)
		return -ENOMEM;
	if (!buffer) {
		int error = load(cache, id, &buffer, err);
		chunk_cache_end(cache, id, error ? NULL : buffer);
		if (error)
			return error;
	}
	*ret = buffer;
	return 0;
}
