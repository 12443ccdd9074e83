/* The inside of a commit, for sweep.c and punch.c. */
#ifndef CAIRN_INDEX_COMMIT_INTERNAL_H
#define CAIRN_INDEX_COMMIT_INTERNAL_H

#include "index/commit.h"
#include "index/store_internal.h"

struct commit {
	struct store *store;
	MDB_txn *txn; /* owned */
	int error;    /* the first; the commit can then only be dropped */
	bool sealed;
	bool state_loaded;
	bool settles_redo; /* once durable, no record of the redo log counts */
	struct state state;
	uint64_t last_node; /* largest id in the table, or larger; */
	bool last_node_known;
	struct pending **chunks; /* owned array of chunks that are SEALED by this commit */
	size_t chunk_count;
	struct dead_range *dead; /* owned: room of failed writes that is noted by this commit */
	size_t dead_count;
};

/* The state as it will be committed; the caller may change it before the commit is sealed. */
int commit_state(struct commit *commit, struct state **ret);
/* Seals only what the caller put, with the counters, but without pending chunks. */
int commit_seal_alone(struct commit *commit);
/* For those who make many commits in a row: lets whoever waits for one go first (for some
 * milliseconds at most).  LMDB's lock is not fair: who has just released it mostly gets it
 * again. No lock held. */
void commit_give_way(struct store *store);
/*
 * Records that nothing refers to once the commit is durable: takes them off the entries of their
 * packs, and notes them as dead.  Sorts `dead`.  `ret_removed` (room for `count`) gets the packs in
 * which nothing is left: for pack_remove() after the commit.  (punch.c)
 */
int dead_forget(struct commit *commit, struct dead_range *dead, size_t count, uint64_t *ret_removed,
		size_t *ret_removed_count);
/* Notes the error for commit_finish(), and returns it. */
int commit_note(struct commit *commit, int error);

#endif
