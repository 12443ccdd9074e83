#include "fs/scattered.h"

void scattered_release(struct scattered *scattered)
{
	u64map_release(&scattered->inos);
	scattered->many = false;
}

void scattered_note(struct scattered *scattered, struct store *store, uint64_t ino, uint64_t offset,
		    uint64_t length, uint64_t size)
{
	/* The end of a file that grows lies behind what went before. */
	if (size < SCATTERED_FILE || length > SCATTERED_WRITE || offset + length >= size ||
	    scattered->many)
		return;
	store_note_scattered(store, true);
	if (scattered->inos.count >= SCATTERED_MAX ||
	    u64map_put(&scattered->inos, ino, scattered) < 0)
		scattered->many = true;
}

size_t scattered_take(struct scattered *scattered, uint64_t *ret, size_t capacity, bool *ret_many)
{
	struct u64map_entry *entry;
	size_t count = 0, position = 0;

	while (count < capacity && (entry = u64map_next(&scattered->inos, &position)))
		ret[count++] = entry->key;
	for (size_t i = 0; i < count; i++)
		u64map_remove(&scattered->inos, ret[i]);
	*ret_many = scattered->many;
	scattered->many = false;
	return count;
}
