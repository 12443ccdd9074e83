#include "index/util/idset.h"

#include <errno.h>
#include <stdlib.h>

enum { PAGE_IDS = 32768, PAGE_WORDS = PAGE_IDS / 64 };

void idset_release(struct idset *set)
{
	size_t position = 0;
	struct u64map_entry *entry;

	while ((entry = u64map_next(&set->pages, &position)))
		free(entry->value);
	u64map_release(&set->pages);
	set->count = 0;
}

int idset_add(struct idset *set, uint64_t id)
{
	uint64_t key = id / PAGE_IDS + 1;
	uint64_t *page = u64map_get(&set->pages, key);
	uint64_t *word;

	if (!page) {
		page = calloc(PAGE_WORDS, sizeof(*page));
		if (!page || u64map_put(&set->pages, key, page) < 0) {
			free(page);
			return -ENOMEM;
		}
	}
	word = &page[id % PAGE_IDS / 64];
	if (*word >> id % 64 & 1)
		return 0;
	*word |= UINT64_C(1) << id % 64;
	set->count++;
	return 1;
}

bool idset_has(const struct idset *set, uint64_t id)
{
	const uint64_t *page = u64map_get(&set->pages, id / PAGE_IDS + 1);

	return page && (page[id % PAGE_IDS / 64] >> id % 64 & 1);
}
