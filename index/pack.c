/*
 * A pack in memory:
 *
 *     pack_append() makes it ──> current ──(full)──> closed ──pack_remove()──> gone
 *     packs_load() finds it ─────┴───────────────────┘
 *
 * `tail` is where the next record goes.  A write that fails gives its room back when it was the
 * last; otherwise the room is noted as dead, and a later commit puts it among the ranges to
 * punch.  What a crash leaves between committed records, of writes that were then under way, is
 * lost until the pack is removed: at most one record for each writing thread, and one batch of a
 * relocation.
 */
#include "index/pack_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "index/store_internal.h"

enum { OPEN_FILES = 64 };

struct pack {
	/* all under packs->lock */
	uint64_t number;
	uint64_t tail;
	uint64_t unsettled;
	uint64_t writes;  /* completed */
	uint64_t synced;  /* of these, durable */
	uint64_t made;	  /* packs->dir_changes when it was made; 0: found at open */
	uint64_t last_use;
	unsigned users; /* of the descriptor */
	int fd;		/* owned; -1: not open */
};

void pack_name(uint64_t number, char ret[PACK_NAME_SIZE])
{
	snprintf(ret, PACK_NAME_SIZE, "%08" PRIx64, number);
}

int packs_init(struct store *store)
{
	struct packs *packs = &store->packs;

	packs->dirfd = -1;
	packs->max = PACK_MAX;
	packs->next_number = 1;
	packs->first_dirty = 1;
	if (pthread_mutex_init(&packs->lock, NULL) != 0)
		return -ENOMEM;
	if (pthread_mutex_init(&packs->sync_lock, NULL) != 0) {
		pthread_mutex_destroy(&packs->lock);
		return -ENOMEM;
	}
	if (pthread_cond_init(&packs->early.wake, NULL) != 0) {
		pthread_mutex_destroy(&packs->sync_lock);
		pthread_mutex_destroy(&packs->lock);
		return -ENOMEM;
	}
	return 0;
}

void packs_release(struct store *store)
{
	struct packs *packs = &store->packs;
	struct u64map_entry *entry;
	size_t position = 0;

	pack_early_stop(store);
	while ((entry = u64map_next(&packs->by_number, &position))) {
		struct pack *pack = entry->value;

		if (pack->fd >= 0)
			close(pack->fd);
		free(pack);
	}
	u64map_release(&packs->by_number);
	free(packs->dead);
	if (packs->dirfd >= 0)
		close(packs->dirfd);
	pthread_cond_destroy(&packs->early.wake);
	pthread_mutex_destroy(&packs->sync_lock);
	pthread_mutex_destroy(&packs->lock);
}

static int add_pack(struct packs *packs, uint64_t number, struct pack **ret)
{
	struct pack *pack = calloc(1, sizeof(*pack));

	if (!pack)
		return -ENOMEM;
	pack->number = number;
	pack->fd = -1;
	if (u64map_put(&packs->by_number, number, pack) < 0) {
		free(pack);
		return -ENOMEM;
	}
	*ret = pack;
	return 0;
}

static void drop_pack(struct packs *packs, struct pack *pack)
{
	if (pack->fd >= 0) {
		close(pack->fd);
		packs->open_files--;
	}
	if (packs->current == pack)
		packs->current = NULL;
	u64map_remove(&packs->by_number, pack->number);
	free(pack);
}

/* Closes the descriptor that has been idle longest.  Those of packs with unsynced writes stay:
 * an error of writing back is reported through the descriptor that wrote. */
static void close_one(struct packs *packs)
{
	struct pack *oldest = NULL;
	struct u64map_entry *entry;
	size_t position = 0;

	while ((entry = u64map_next(&packs->by_number, &position))) {
		struct pack *pack = entry->value;

		if (pack->fd < 0 || pack->users || pack->writes != pack->synced)
			continue;
		if (!oldest || pack->last_use < oldest->last_use)
			oldest = pack;
	}
	if (oldest) {
		close(oldest->fd);
		oldest->fd = -1;
		packs->open_files--;
	}
}

static int open_locked(struct store *store, struct pack *pack, int flags)
{
	char name[PACK_NAME_SIZE];
	int fd;

	pack_name(pack->number, name);
	if (store->packs.open_files >= OPEN_FILES)
		close_one(&store->packs);
	fd = store->io.ops->open(store->io.context, store->packs.dirfd, name, flags, 0600);
	if (fd < 0)
		return fd;
	pack->fd = fd;
	store->packs.open_files++;
	return 0;
}

int pack_adopt(struct store *store, uint64_t number, uint64_t length, bool current)
{
	struct packs *packs = &store->packs;
	struct pack *pack;
	int r;

	pthread_mutex_lock(&packs->lock);
	r = add_pack(packs, number, &pack);
	if (r == 0) {
		pack->tail = length;
		if (current)
			packs->current = pack;
	}
	pthread_mutex_unlock(&packs->lock);
	return r;
}

bool pack_is_known(struct store *store, uint64_t number)
{
	bool known;

	pthread_mutex_lock(&store->packs.lock);
	known = u64map_get(&store->packs.by_number, number) != NULL;
	pthread_mutex_unlock(&store->packs.lock);
	return known;
}

/* Finds the pack with its descriptor open, and holds the latter until unuse(). */
static int use(struct store *store, uint64_t number, struct pack **ret)
{
	struct packs *packs = &store->packs;
	struct pack *pack;
	int r = 0;

	pthread_mutex_lock(&packs->lock);
	pack = u64map_get(&packs->by_number, number);
	if (!pack) {
		/* A reader beside a writer meets packs that were made later.  A writer knows all
		 * packs, but may be asked for one that damage or removal took away. */
		if (!store_is_read_only(store))
			r = -ENOENT;
		else
			r = add_pack(packs, number, &pack);
	}
	if (r == 0 && pack->fd < 0)
		r = open_locked(store, pack, store_is_read_only(store) ? O_RDONLY : O_RDWR);
	if (r == 0) {
		pack->users++;
		pack->last_use = ++packs->ticks;
	}
	pthread_mutex_unlock(&packs->lock);
	if (r == 0)
		*ret = pack;
	return r;
}

static void unuse(struct store *store, struct pack *pack)
{
	pthread_mutex_lock(&store->packs.lock);
	pack->users--;
	pthread_mutex_unlock(&store->packs.lock);
}

/* Makes the next pack the current one. */
static int start_pack(struct store *store)
{
	struct packs *packs = &store->packs;
	struct pack *pack;
	int r = add_pack(packs, packs->next_number, &pack);

	if (r < 0)
		return r;
	r = open_locked(store, pack, O_RDWR | O_CREAT | O_EXCL);
	if (r < 0) {
		drop_pack(packs, pack);
		return r;
	}
	packs->next_number++;
	pack->made = ++packs->dir_changes;
	packs->current = pack;
	return 0;
}

static int reserve(struct store *store, uint64_t length, struct pack **ret, uint64_t *ret_offset)
{
	struct packs *packs = &store->packs;
	struct pack *pack;
	int r = 0;

	pthread_mutex_lock(&packs->lock);
	if (!packs->current || packs->current->tail + length > packs->max)
		r = start_pack(store);
	pack = packs->current;
	if (r == 0 && pack->fd < 0)
		r = open_locked(store, pack, O_RDWR);
	if (r == 0) {
		*ret_offset = pack->tail;
		pack->tail += length;
		pack->unsettled++;
		pack->users++;
		pack->last_use = ++packs->ticks;
		*ret = pack;
	}
	pthread_mutex_unlock(&packs->lock);
	return r;
}

/* Without memory the range is lost until its pack is removed, which is no harm.  Lock held. */
static void note_dead(struct packs *packs, uint64_t number, uint64_t offset, uint64_t length)
{
	if (packs->dead_count == packs->dead_capacity) {
		size_t capacity = packs->dead_capacity ? packs->dead_capacity * 2 : 16;
		struct dead_range *dead = reallocarray(packs->dead, capacity, sizeof(*dead));

		if (!dead)
			return;
		packs->dead = dead;
		packs->dead_capacity = capacity;
	}
	packs->dead[packs->dead_count++] =
		(struct dead_range){.pack = number, .offset = offset, .length = length};
}

int pack_append(struct store *store, struct iovec *vector, int count, uint64_t length,
		struct pack_place *ret)
{
	struct packs *packs = &store->packs;
	struct pack *pack = NULL;
	uint64_t offset = 0;
	int r = reserve(store, length, &pack, &offset);

	if (r < 0)
		return r;
	r = store->io.ops->write(store->io.context, pack->fd, vector, count, offset);

	pthread_mutex_lock(&packs->lock);
	if (r == 0) {
		*ret = (struct pack_place){pack->number, offset, ++pack->writes};
		if (pack->number < packs->first_dirty)
			packs->first_dirty = pack->number;
		pack_early_note(store, length);
	} else {
		pack->unsettled--;
		if (pack->tail == offset + length)
			pack->tail = offset;
		else
			note_dead(packs, pack->number, offset, length);
	}
	pack->users--;
	pthread_mutex_unlock(&packs->lock);
	return r;
}

void pack_settle(struct store *store, uint64_t number, uint64_t count)
{
	struct pack *pack;

	pthread_mutex_lock(&store->packs.lock);
	pack = u64map_get(&store->packs.by_number, number);
	if (pack)
		pack->unsettled -= count;
	pthread_mutex_unlock(&store->packs.lock);
}

ssize_t pack_read(struct store *store, uint64_t number, struct iovec *vector, int count,
		  uint64_t offset)
{
	struct pack *pack;
	ssize_t r = use(store, number, &pack);

	if (r < 0)
		return r;
	r = store->io.ops->read(store->io.context, pack->fd, vector, count, offset);
	unuse(store, pack);
	return r;
}

void pack_prefetch(struct store *store, uint64_t number, uint64_t offset, uint64_t length)
{
	struct pack *pack;

	if (use(store, number, &pack) < 0)
		return;
	posix_fadvise(pack->fd, (off_t)offset, (off_t)length, POSIX_FADV_WILLNEED);
	unuse(store, pack);
}

/* The first pack from `number` on, up to `last`, with unsynced writes; its descriptor is held. */
static struct pack *next_dirty(struct packs *packs, uint64_t number, uint64_t last,
			       uint64_t *ret_writes)
{
	struct pack *found = NULL;

	pthread_mutex_lock(&packs->lock);
	if (number == packs->first_dirty) {
		/* What is clean at the front need not be looked at next time. */
		for (; number <= last && !found; number++) {
			found = u64map_get(&packs->by_number, number);
			if (found && found->writes == found->synced)
				found = NULL;
			if (!found)
				packs->first_dirty = number + 1;
		}
	}
	for (; number <= last && !found; number++) {
		found = u64map_get(&packs->by_number, number);
		if (found && found->writes == found->synced)
			found = NULL;
	}
	if (found) {
		found->users++;
		*ret_writes = found->writes;
	}
	pthread_mutex_unlock(&packs->lock);
	return found;
}

/* Writes go to the current pack only, so that few packs are dirty, with neighbouring numbers.
 * Each is synced once, although writers may dirty it again meanwhile. */
static int sync_files(struct store *store)
{
	struct packs *packs = &store->packs;
	uint64_t number, last, writes;
	struct pack *pack;

	pthread_mutex_lock(&packs->lock);
	packs->early.unsynced = 0;
	number = packs->first_dirty;
	last = packs->next_number - 1;
	pthread_mutex_unlock(&packs->lock);

	while ((pack = next_dirty(packs, number, last, &writes))) {
		int r = store->io.ops->sync(store->io.context, pack->fd);

		number = pack->number + 1;
		pthread_mutex_lock(&packs->lock);
		pack->users--;
		if (r == 0)
			pack->synced = writes;
		pthread_mutex_unlock(&packs->lock);
		if (r < 0)
			return r;
	}
	return 0;
}

static int sync_dir(struct store *store)
{
	struct packs *packs = &store->packs;
	uint64_t changes, synced;
	int r;

	pthread_mutex_lock(&packs->lock);
	changes = packs->dir_changes;
	synced = packs->dir_synced;
	pthread_mutex_unlock(&packs->lock);
	if (changes == synced)
		return 0;
	r = store->io.ops->sync_dir(store->io.context, packs->dirfd);
	if (r < 0)
		return r;
	pthread_mutex_lock(&packs->lock);
	packs->dir_synced = changes;
	pthread_mutex_unlock(&packs->lock);
	return 0;
}

int packs_sync(struct store *store)
{
	int r;

	pthread_mutex_lock(&store->packs.sync_lock);
	r = sync_files(store);
	if (r == 0)
		r = sync_dir(store);
	if (r < 0)
		store_fail(store, r);
	pthread_mutex_unlock(&store->packs.sync_lock);
	return r;
}

bool pack_is_durable(struct store *store, uint64_t number, uint64_t write)
{
	struct pack *pack;
	bool durable;

	pthread_mutex_lock(&store->packs.lock);
	pack = u64map_get(&store->packs.by_number, number);
	durable = pack && write <= pack->synced && pack->made <= store->packs.dir_synced;
	pthread_mutex_unlock(&store->packs.lock);
	return durable;
}

int pack_punch(struct store *store, uint64_t number, uint64_t offset, uint64_t length)
{
	struct pack *pack;
	int r = use(store, number, &pack);

	if (r < 0)
		return r;
	r = store->io.ops->punch(store->io.context, pack->fd, offset, length);
	unuse(store, pack);
	return r;
}

bool pack_is_idle(struct store *store, uint64_t number)
{
	struct packs *packs = &store->packs;
	struct pack *pack;
	bool idle;

	pthread_mutex_lock(&packs->lock);
	pack = u64map_get(&packs->by_number, number);
	idle = !pack || (pack != packs->current && !pack->unsettled);
	pthread_mutex_unlock(&packs->lock);
	return idle;
}

/* Freeing the room of a large file takes its time: no lock is held meanwhile. */
int pack_remove(struct store *store, uint64_t number)
{
	struct packs *packs = &store->packs;
	char name[PACK_NAME_SIZE];
	struct pack *pack;
	int r, fd = -1;

	pthread_mutex_lock(&packs->sync_lock); /* a sync may be under way on its descriptor */
	pthread_mutex_lock(&packs->lock);
	pack = u64map_get(&packs->by_number, number);
	/* A reader that holds the descriptor goes on; its pack stays known until the next open. */
	if (pack && !pack->users) {
		fd = pack->fd;
		packs->open_files -= fd >= 0;
		pack->fd = -1;
		drop_pack(packs, pack);
	}
	for (size_t i = packs->dead_count; i > 0; i--) {
		if (packs->dead[i - 1].pack == number)
			packs->dead[i - 1] = packs->dead[--packs->dead_count];
	}
	pthread_mutex_unlock(&packs->lock);
	pthread_mutex_unlock(&packs->sync_lock);
	pack_name(number, name);
	r = store->io.ops->unlink(store->io.context, packs->dirfd, name);
	if (fd >= 0)
		close(fd);
	return r == -ENOENT ? 0 : r;
}

void packs_note_dead(struct store *store, uint64_t number, uint64_t offset, uint64_t length)
{
	pthread_mutex_lock(&store->packs.lock);
	note_dead(&store->packs, number, offset, length);
	pthread_mutex_unlock(&store->packs.lock);
}

size_t packs_copy_dead(struct store *store, struct dead_range *ranges, size_t capacity)
{
	struct packs *packs = &store->packs;
	size_t count;

	pthread_mutex_lock(&packs->lock);
	count = packs->dead_count < capacity ? packs->dead_count : capacity;
	if (count)
		memcpy(ranges, packs->dead, count * sizeof(*ranges));
	pthread_mutex_unlock(&packs->lock);
	return count;
}

void packs_forget_dead(struct store *store, const struct dead_range *range)
{
	struct packs *packs = &store->packs;

	pthread_mutex_lock(&packs->lock);
	for (size_t i = 0; i < packs->dead_count; i++) {
		if (packs->dead[i].pack != range->pack || packs->dead[i].offset != range->offset)
			continue;
		packs->dead[i] = packs->dead[--packs->dead_count];
		break;
	}
	pthread_mutex_unlock(&packs->lock);
}
