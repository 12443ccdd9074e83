#include "index/util/u64map.h"

#include <errno.h>
#include <stdlib.h>

/* At most three quarters full: probes stay short, and there is always a free entry to stop at. */
enum { FIRST_CAPACITY = 16 };

static size_t limit_of(size_t capacity)
{
	return capacity / 4 * 3;
}

/* Fibonacci hashing, then the high half folded in, because the mask takes low bits. */
static size_t home(uint64_t key, size_t mask)
{
	uint64_t mixed = key * UINT64_C(0x9e3779b97f4a7c15);

	return (size_t)(mixed ^ mixed >> 32) & mask;
}

/* The entry of `key`, or the free one where it would go. */
static size_t find(const struct u64map_entry *entries, size_t mask, uint64_t key)
{
	size_t at = home(key, mask);

	while (entries[at].key && entries[at].key != key)
		at = (at + 1) & mask;
	return at;
}

static int resize(struct u64map *map, size_t capacity)
{
	struct u64map_entry *entries = calloc(capacity, sizeof(*entries));

	if (!entries)
		return -ENOMEM;
	for (size_t i = 0; i < map->capacity; i++) {
		if (map->entries[i].key)
			entries[find(entries, capacity - 1, map->entries[i].key)] = map->entries[i];
	}
	free(map->entries);
	map->entries = entries;
	map->capacity = capacity;
	return 0;
}

void u64map_release(struct u64map *map)
{
	free(map->entries);
	*map = (struct u64map)U64MAP_INIT;
}

void u64map_clear(struct u64map *map)
{
	u64map_release(map);
}

void *u64map_get(const struct u64map *map, uint64_t key)
{
	size_t at;

	if (!map->capacity || !key)
		return NULL;
	at = find(map->entries, map->capacity - 1, key);
	return map->entries[at].key ? map->entries[at].value : NULL;
}

int u64map_reserve(struct u64map *map, size_t extra)
{
	size_t capacity = map->capacity ? map->capacity : FIRST_CAPACITY;

	if (extra > SIZE_MAX / 4 / sizeof(*map->entries) - map->count)
		return -ENOMEM;
	while (limit_of(capacity) < map->count + extra)
		capacity *= 2;
	return capacity == map->capacity ? 0 : resize(map, capacity);
}

int u64map_put(struct u64map *map, uint64_t key, void *value)
{
	size_t at;

	if (!key || !value)
		return -EINVAL;
	if (map->capacity) {
		at = find(map->entries, map->capacity - 1, key);
		if (map->entries[at].key) {
			map->entries[at].value = value;
			return 0;
		}
	}
	if (u64map_reserve(map, 1) < 0)
		return -ENOMEM;
	at = find(map->entries, map->capacity - 1, key);
	map->entries[at] = (struct u64map_entry){key, value};
	map->count++;
	return 0;
}

void *u64map_remove(struct u64map *map, uint64_t key)
{
	size_t mask = map->capacity - 1;
	size_t hole, at;
	void *value;

	if (!map->capacity || !key)
		return NULL;
	hole = find(map->entries, mask, key);
	if (!map->entries[hole].key)
		return NULL;
	value = map->entries[hole].value;

	/* Algorithm R: pull back what would no longer be found behind the hole, that is, each
	 * entry whose home does not lie (cyclically) between the hole and itself. */
	for (at = (hole + 1) & mask; map->entries[at].key; at = (at + 1) & mask) {
		size_t wanted = home(map->entries[at].key, mask);

		if (((at - wanted) & mask) >= ((at - hole) & mask)) {
			map->entries[hole] = map->entries[at];
			hole = at;
		}
	}
	map->entries[hole] = (struct u64map_entry){0, NULL};
	map->count--;
	return value;
}

struct u64map_entry *u64map_next(const struct u64map *map, size_t *position)
{
	while (*position < map->capacity) {
		struct u64map_entry *entry = &map->entries[(*position)++];

		if (entry->key)
			return entry;
	}
	return NULL;
}
