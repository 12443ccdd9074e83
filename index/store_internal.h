/*
 * The inside of a store.
 *
 * Locks, in the order in which they are taken:
 *
 *     LMDB's write lock      commit_begin() to commit_finish()
 *     packs.sync_lock        packs_sync(), pack_remove()
 *     chunks.lock            pending chunks, saved and withdrawn ids
 *     packs.lock             packs in memory
 *     (the redo log has no lock of its own: its callers have one, see index/redo.h)
 *     readers.lock, scratch.lock, space.lock   each alone, last
 */
#ifndef CAIRN_INDEX_STORE_INTERNAL_H
#define CAIRN_INDEX_STORE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "index/codec_internal.h"
#include "index/env_internal.h"
#include "index/pack_internal.h"
#include "index/pending_internal.h"
#include "index/redo_internal.h"
#include "index/store.h"

struct readers {
	pthread_mutex_t lock;
	struct reader *idle; /* owned; stack, so that few of them are warm */
};

struct space {
	pthread_mutex_t lock;
	uint64_t reserved;  /* by writers */
	uint64_t available; /* on the file system when it was last asked, */
	uint64_t polled_ns; /* which was then; */
	uint64_t unpolled;  /* reserved since */
	uint64_t margin;    /* fixed after open */
	uint64_t ballast;   /* size wanted; fixed after open */
	bool ballast_there;
};

struct store {
	char *directory; /* owned */
	unsigned flags;
	unsigned version;
	char uuid[40];
	int dirfd;
	int lock_fd; /* -1: read-only */
	bool registered;
	bool redo_pending; /* read-only: records of the redo log wait for a writer */
	dev_t device; /* which directory it is, for the register of open stores */
	ino_t inode;
	struct store *next_open;

	struct io io;
	struct env env;
	_Atomic uint64_t counters[STORE_COUNTERS]; /* the next of each */
	_Atomic uint64_t compression;		   /* codec << 32 | level */
	_Atomic bool scattered;
	_Atomic uint64_t sequence;		   /* of the last commit */
	_Atomic int failed;
	_Atomic int commit_waiters; /* threads in commit_begin() */
	_Atomic uint64_t order_violations; /* commits that I3 forbade; tests expect 0 */

	struct readers readers;
	struct packs packs;
	struct pending_table chunks;
	struct redo redo;
	struct scratch_pool scratch;
	struct space space;
};

/* The first failure stays. */
void store_fail(struct store *store, int error);

/* compression.c */
bool compression_is_valid(const struct store_compression *compression);

/* space.c */
int space_init(struct store *store);
void space_measure(struct store *store); /* once the directory is open */
void space_release(struct store *store);
/* How large the ballast and the margin are on this file system. */
void space_sizes(int dirfd, uint64_t *ret_margin, uint64_t *ret_ballast);
/* How large the redo log may get on this file system; 0: there is to be none. */
uint64_t space_redo_limit(const struct store *store);
int space_make_ballast(int dirfd, uint64_t size);
/* After -ENOSPC: gives the ballast up. */
void space_drop_ballast(struct store *store);
/* Makes it again where there is room for it. */
void space_restore_ballast(struct store *store);

/* reader.c */
int readers_init(struct store *store);
void readers_release(struct store *store);
/* After a commit: lets go of what idle readers hold back. */
void readers_refresh(struct store *store);
MDB_txn *reader_txn(const struct reader *reader);

/* record.c: records of the upper rooms, for readers and commits alike */
enum { RECORD_KEY_MAX = 500, RECORD_VALUE_MAX = 16 * 1024 * 1024 };
enum db record_db(enum table table);
int record_get(const struct env *env, MDB_txn *txn, enum table table, struct bytes key,
	       struct bytes *ret_value);
int records_visit(const struct env *env, MDB_txn *txn, enum table table, struct bytes prefix,
		  int (*visit)(struct bytes key, struct bytes value, void *context), void *context);
int records_visit_from(const struct env *env, MDB_txn *txn, enum table table, struct bytes from,
		       enum records_order order,
		       int (*visit)(struct bytes key, struct bytes value, void *context),
		       void *context);

/* punch.c: ranges that no chunk refers to */
int punch_add(struct store *store, MDB_txn *txn, struct state *state, uint64_t pack,
	      uint64_t offset, uint64_t length);
int punch_forget_pack(struct store *store, MDB_txn *txn, struct state *state, uint64_t pack);
/* Punches what is durably forgotten and not yet punched. */
int punch_run(struct store *store);

/* pack entries within a write transaction */
int pack_entry_get(struct store *store, MDB_txn *txn, uint64_t number, struct pack_entry *ret);
int pack_entry_put(struct store *store, MDB_txn *txn, uint64_t number,
		   const struct pack_entry *entry);

#endif
