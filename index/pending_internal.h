/*
 * Chunks that are not yet in a durable commit, and what a running collection must know.
 *
 *     chunk_store() ──> WRITING ──(in the pack)──> READY ──commit_seal()──> SEALED ──> gone
 *                          │                         ^                        │   (durable)
 *                          └─(failed, or a duplicate)│                        │
 *                                  gone              └──(commit failed)───────┘
 *
 * A chunk is found by id (from READY on) and by key (always): WRITING is the reservation that
 * makes a second thread with the same bytes wait.
 */
#ifndef CAIRN_INDEX_PENDING_INTERNAL_H
#define CAIRN_INDEX_PENDING_INTERNAL_H

#include <pthread.h>
#include <stdint.h>

#include "index/format_internal.h"
#include "index/util/idset.h"
#include "index/util/u64map.h"

enum pending_state { PENDING_WRITING, PENDING_READY, PENDING_SEALED };

struct pending {
	uint64_t id; /* 0: none yet */
	struct chunk_info info;
	uint8_t key[HASH_SIZE]; /* the hash as far as it counts: see chunk_test_limit_hash() */
	enum pending_state state;
	uint64_t write;		   /* of the pack: see pack_is_durable() */
	struct pending *next_same; /* hangs off the same entry of by_key */
	struct pending *next_ready;
	bool logged; /* a record of the redo log has it */
	struct pending *next_unlogged;
};

struct pending_table {
	pthread_mutex_t lock;	 /* everything below, and the pending chunks */
	pthread_cond_t finished; /* a WRITING chunk became READY or is gone */
	unsigned waiters;
	size_t writing;	      /* how many chunks are WRITING */
	struct u64map by_key; /* owns the chunks */
	struct u64map by_id;
	struct pending *ready; /* in no particular order */
	size_t ready_count;
	struct pending *unlogged; /* of the READY ones, those that no record of the redo log has */
	size_t unlogged_count;
	unsigned hash_bits; /* that count; fixed before the first chunk */

	/* collection; see sweep.c */
	bool sweeping;
	uint64_t sweep_limit;	/* only chunks with smaller ids are candidates */
	struct idset saved;	/* old chunks that were hit meanwhile */
	struct idset withdrawn; /* about to be forgotten: must not be hit */
	uint64_t forget_epoch;	/* counts the batches that were forgotten */
};

int pending_init(struct pending_table *table);
void pending_release(struct pending_table *table);

/* The part of a hash that counts. */
void pending_key(const struct pending_table *table, const uint8_t hash[HASH_SIZE],
		 uint8_t ret[HASH_SIZE]);

/* The following need the lock. */
struct pending *pending_first(struct pending_table *table, const uint8_t key[HASH_SIZE]);
struct pending *pending_next(struct pending *pending);
/* The smallest id of a chunk that is in no commit yet; `next` (to be handed out next) where all are. */
uint64_t pending_first_id(struct pending_table *table, uint64_t next);
/* Enters a WRITING chunk, with room for its id. */
int pending_enter(struct pending_table *table, struct pending *pending);
void pending_ready(struct pending_table *table, struct pending *pending);
/* For a chunk that is READY but not logged. */
void pending_unlogged(struct pending_table *table, struct pending *pending);
/* Takes a WRITING or SEALED chunk out of the table and frees it. */
void pending_drop(struct pending_table *table, struct pending *pending);

#endif
