/*
 * Hash map from non-zero u64 to pointer: open addressing, linear probing, backward-shift
 * deletion (Knuth, TAOCP vol. 3, 6.4, algorithm R), so that there are no tombstones.
 *
 * Not locked; the owner's lock covers it.  Key 0 is not allowed.  A NULL value is not
 * allowed (it means "absent").
 */
#ifndef CAIRN_INDEX_UTIL_U64MAP_H
#define CAIRN_INDEX_UTIL_U64MAP_H

#include <stddef.h>
#include <stdint.h>

struct u64map_entry {
	uint64_t key; /* 0: free */
	void *value;
};

struct u64map {
	struct u64map_entry *entries; /* owned; capacity is a power of two, or 0 */
	size_t capacity;
	size_t count;
};

#define U64MAP_INIT                                                                                \
	{                                                                                          \
		0                                                                                  \
	}

void u64map_release(struct u64map *map); /* frees the table, not the values */
void u64map_clear(struct u64map *map);	 /* empties it, keeps nothing allocated */

void *u64map_get(const struct u64map *map, uint64_t key); /* NULL where absent */

/* Inserts or replaces.  Returns 0 or -ENOMEM (the map is unchanged then). */
int u64map_put(struct u64map *map, uint64_t key, void *value);

/* Makes room for `extra` more keys, after which as many u64map_put() cannot fail. */
int u64map_reserve(struct u64map *map, size_t extra);

void *u64map_remove(struct u64map *map, uint64_t key); /* returns the value, or NULL */

/* Iteration: start with *position = 0; returns NULL at the end.  The map must not be
 * changed meanwhile. */
struct u64map_entry *u64map_next(const struct u64map *map, size_t *position);

#endif
