#include "index/pending_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "index/util/bytes.h"

int pending_init(struct pending_table *table)
{
	table->hash_bits = HASH_SIZE * 8;
	if (pthread_mutex_init(&table->lock, NULL) != 0)
		return -ENOMEM;
	if (pthread_cond_init(&table->finished, NULL) != 0) {
		pthread_mutex_destroy(&table->lock);
		return -ENOMEM;
	}
	return 0;
}

void pending_release(struct pending_table *table)
{
	struct u64map_entry *entry;
	size_t position = 0;

	while ((entry = u64map_next(&table->by_key, &position))) {
		struct pending *pending = entry->value;

		while (pending) {
			struct pending *next = pending->next_same;

			free(pending);
			pending = next;
		}
	}
	u64map_release(&table->by_key);
	u64map_release(&table->by_id);
	idset_release(&table->saved);
	idset_release(&table->withdrawn);
	pthread_cond_destroy(&table->finished);
	pthread_mutex_destroy(&table->lock);
}

void pending_key(const struct pending_table *table, const uint8_t hash[HASH_SIZE],
		 uint8_t ret[HASH_SIZE])
{
	unsigned dropped = HASH_SIZE * 8 - table->hash_bits;

	memcpy(ret, hash, HASH_SIZE);
	memset(ret, 0, dropped / 8);
	if (dropped % 8)
		ret[dropped / 8] &= (uint8_t)(0xff >> dropped % 8);
}

/* The low half of a big-endian hash; keys that meet in one entry hang in a list. */
static uint64_t map_key(const uint8_t key[HASH_SIZE])
{
	return get_be64(key + 8) | UINT64_C(1) << 63;
}

static struct pending *skip_others(struct pending *pending, const uint8_t key[HASH_SIZE])
{
	while (pending && memcmp(pending->key, key, HASH_SIZE) != 0)
		pending = pending->next_same;
	return pending;
}

struct pending *pending_first(struct pending_table *table, const uint8_t key[HASH_SIZE])
{
	return skip_others(u64map_get(&table->by_key, map_key(key)), key);
}

struct pending *pending_next(struct pending *pending)
{
	return skip_others(pending->next_same, pending->key);
}

int pending_enter(struct pending_table *table, struct pending *pending)
{
	uint64_t key = map_key(pending->key);

	/* So that pending_ready() cannot fail: room for each chunk that is under way. */
	if (u64map_reserve(&table->by_id, table->writing + 1) < 0)
		return -ENOMEM;
	pending->state = PENDING_WRITING;
	pending->next_same = u64map_get(&table->by_key, key);
	if (u64map_put(&table->by_key, key, pending) < 0)
		return -ENOMEM;
	table->writing++;
	return 0;
}

static void wake(struct pending_table *table)
{
	table->writing--;
	if (table->waiters)
		pthread_cond_broadcast(&table->finished);
}

void pending_ready(struct pending_table *table, struct pending *pending)
{
	int r = u64map_put(&table->by_id, pending->id, pending);

	assert(r == 0);
	(void)r;
	pending->state = PENDING_READY;
	pending->next_ready = table->ready;
	table->ready = pending;
	table->ready_count++;
	pending_unlogged(table, pending);
	wake(table);
}

void pending_unlogged(struct pending_table *table, struct pending *pending)
{
	pending->next_unlogged = table->unlogged;
	table->unlogged = pending;
	table->unlogged_count++;
}

void pending_drop(struct pending_table *table, struct pending *pending)
{
	uint64_t key = map_key(pending->key);
	struct pending *head = u64map_get(&table->by_key, key);

	if (head != pending) {
		while (head->next_same != pending)
			head = head->next_same;
		head->next_same = pending->next_same;
	} else if (pending->next_same) {
		u64map_put(&table->by_key, key, pending->next_same); /* replaces: cannot fail */
	} else {
		u64map_remove(&table->by_key, key);
	}
	if (pending->state == PENDING_WRITING)
		wake(table);
	else
		u64map_remove(&table->by_id, pending->id);
	free(pending);
}

uint64_t pending_first_id(struct pending_table *table, uint64_t next)
{
	struct u64map_entry *entry;
	size_t position = 0;

	while ((entry = u64map_next(&table->by_key, &position))) {
		for (struct pending *pending = entry->value; pending;
		     pending = pending->next_same) {
			if (pending->id && pending->id < next)
				next = pending->id;
		}
	}
	return next;
}
