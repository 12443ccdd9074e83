/*
 * Packs: append-only files of chunk records.
 *
 * A record's place is taken under a short lock and written outside of it, by many threads at
 * once.  Each write that is complete gets a number within its pack; after a sync the numbers up
 * to then are durable.  That is how a commit proves that it names nothing that is not (I3).
 *
 * A pack's number is never used for another file once a commit has named it.
 */
#ifndef CAIRN_INDEX_PACK_INTERNAL_H
#define CAIRN_INDEX_PACK_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "index/format_internal.h"
#include "index/util/u64map.h"

struct store;

enum { PACK_NAME_SIZE = 20 };

struct pack; /* pack.c */

/* The thread that syncs before a commit asks (pack_early.c); all under packs->lock. */
struct pack_early {
	pthread_t thread;
	pthread_cond_t wake;
	uint64_t unsynced; /* bytes appended since the last sync began */
	bool running;
	bool stop;
};

struct packs {
	int dirfd;		 /* owned; fixed after open */
	uint64_t max;		 /* PACK_MAX; tests make it smaller before they store */
	pthread_mutex_t lock;	 /* everything below */
	struct u64map by_number; /* owns struct pack */
	struct pack *current;	 /* takes new records; may be NULL */
	uint64_t next_number;
	uint64_t first_dirty; /* no pack with a smaller number has unsynced writes */
	uint64_t ticks;	      /* counts uses of descriptors, for choosing one to close */
	unsigned open_files;
	uint64_t dir_changes;	 /* packs made; */
	uint64_t dir_synced;	 /* of these, in a synced directory */
	struct dead_range *dead; /* owned: room of failed writes, not yet in the index */
	size_t dead_count;
	size_t dead_capacity;
	struct pack_early early;

	pthread_mutex_t sync_lock; /* one syncs at a time, the next finds less to do; taken first */
};

struct pack_place {
	uint64_t pack;
	uint64_t offset;
	uint64_t write; /* number of the write within the pack */
};

int packs_init(struct store *store);
/* For a writer: reads the table, removes packs that it does not know, cuts off what lies behind
 * the committed lengths, and finds the pack to append to. */
int packs_load(struct store *store, struct errbuf *err);
void packs_release(struct store *store);

/* For packs_load(): a pack of the table.  `current`: new records go behind `length`. */
int pack_adopt(struct store *store, uint64_t number, uint64_t length, bool current);
bool pack_is_known(struct store *store, uint64_t number);

void pack_name(uint64_t number, char ret[PACK_NAME_SIZE]);

/* Appends one record of `length` bytes (a multiple of RECORD_ALIGN).  The record is unsettled
 * until pack_settle(). */
int pack_append(struct store *store, struct iovec *vector, int count, uint64_t length,
		struct pack_place *ret);
/* `count` records of the pack are in a durable commit, or dropped. */
void pack_settle(struct store *store, uint64_t number, uint64_t count);

/* Returns the number of bytes read; -ENOENT where there is no such file. */
ssize_t pack_read(struct store *store, uint64_t number, struct iovec *vector, int count,
		  uint64_t offset);
void pack_prefetch(struct store *store, uint64_t number, uint64_t offset, uint64_t length);

/* So many bytes have been appended.  packs->lock held. */
void pack_early_note(struct store *store, uint64_t bytes);
void pack_early_stop(struct store *store);

/* Makes durable every write completed before the call.  A failure fails the store. */
int packs_sync(struct store *store);
bool pack_is_durable(struct store *store, uint64_t number, uint64_t write);

int pack_punch(struct store *store, uint64_t number, uint64_t offset, uint64_t length);

/* Whether the pack takes no more records and has no unsettled ones. */
bool pack_is_idle(struct store *store, uint64_t number);
/* Removes an idle pack that no commit names any more. */
int pack_remove(struct store *store, uint64_t number);

/* Written, but no commit will name it. */
void packs_note_dead(struct store *store, uint64_t number, uint64_t offset, uint64_t length);
/* Room of failed writes that no commit has noted yet: copies up to `capacity` ranges; each is
 * forgotten once it is in a durable commit. */
size_t packs_copy_dead(struct store *store, struct dead_range *ranges, size_t capacity);
void packs_forget_dead(struct store *store, const struct dead_range *range);

#endif
