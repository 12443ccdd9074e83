/*
 * The journal: who did what to the points and workspaces of a store, when, from where, and why.
 *
 * Append-only; an entry is written in the same commit as what it tells of, so neither is ever
 * there without the other.  Entry n holds the hash of entry n - 1, and its own hash is the SHA-256
 * of all its bytes (index/FORMAT.md): no entry can be changed, removed or put in between without
 * breaking every hash after it.  What a chain alone cannot prove is that its tail was not cut
 * off, or all of it written anew: journal_verify() compares the journal with the points that exist,
 * and takes the number and hash of an entry that an auditor has noted before.
 */
#ifndef CAIRN_SNAPSHOT_JOURNAL_H
#define CAIRN_SNAPSHOT_JOURNAL_H

#include <stddef.h>
#include <stdint.h>

#include "index/commit.h"
#include "snapshot/point.h"
#include "snapshot/repo.h"

enum { JOURNAL_HASH_BYTES = 32 };

/* On disk: numbers are never used again for something else. The texts are those of the JSON. */
#define JOURNAL_ACTIONS(X)                                                                         \
	X(BEGIN, 1, "begin") /* the first entry; points that are older than the journal */         \
	X(FREEZE, 2, "freeze")                                                                     \
	X(RESTORE, 3, "restore")                                                                   \
	X(CARRY, 4, "carry")                                                                       \
	X(HOLD, 5, "hold")                                                                         \
	X(RELEASE, 6, "release")                                                                   \
	X(VERDICT, 7, "verdict")                                                                   \
	X(RENAME, 8, "rename")                                                                     \
	X(DELETE, 9, "delete")                                                                     \
	X(PRUNE, 10, "prune")                                                                      \
	X(TAG, 11, "tag")                                                                          \
	X(DIGEST, 12, "digest")                                                                    \
	X(CLONE, 13, "clone")                                                                      \
	X(WORKSPACE_CREATE, 14, "workspace-create")                                                \
	X(WORKSPACE_RENAME, 15, "workspace-rename")                                                \
	X(WORKSPACE_DELETE, 16, "workspace-delete")                                                \
	X(IMPORT, 17, "import")                                                                    \
	X(RECEIVE, 18, "receive")                                                                  \
	X(LEASE, 19, "lease")                                                                      \
	X(CONFIRM, 20, "confirm")

enum journal_action {
#define JOURNAL_ACTION_NUMBER(name, number, text) JOURNAL_##name = number,
	JOURNAL_ACTIONS(JOURNAL_ACTION_NUMBER)
#undef JOURNAL_ACTION_NUMBER
};
const char *journal_action_text(enum journal_action action); /* "unknown" for what is newer */

/* What to write down.  All texts are borrowed; NULL is like "". */
struct journal_note {
	enum journal_action action;
	const char *by;	    /* NULL: the user of this process */
	uint64_t workspace; /* id, 0: none */
	const char *workspace_name;
	uint64_t point;			  /* id, 0: none */
	const char *point_name;		  /* as it is called now */
	const char *reason;		  /* message, reason of a hold, of a verdict … */
	const struct point_pair *details; /* more, as "safety_point" = name; in this order */
	size_t detail_count;
};

/* In an action of a commit (repo_commit_action()): appends an entry with the time and the name
 * of this host.  May be called several times in one commit. */
int journal_append(struct repo *repo, struct commit *commit, const struct journal_note *note);

struct journal_entry {
	uint64_t number; /* from 1, without gaps */
	int64_t time_ns;
	enum journal_action action;
	uint64_t workspace, point;
	char *by, *host, *workspace_name, *point_name, *reason; /* never NULL */
	struct point_pair *details;
	size_t detail_count;
	uint8_t previous[JOURNAL_HASH_BYTES]; /* zeros in entry 1 */
	uint8_t hash[JOURNAL_HASH_BYTES];
};

/* Calls `visit` with each entry whose number is above `after`, oldest first; the entry is valid
 * during the call.  Non-zero ends and is returned. */
int journal_read(struct repo *repo, uint64_t after,
		 int (*visit)(const struct journal_entry *entry, void *context), void *context);

/* The number of the newest entry, 0: none yet. */
int journal_last(struct repo *repo, uint64_t *ret_number);

struct journal_state {
	uint64_t entries;
	uint8_t last[JOURNAL_HASH_BYTES]; /* hash of the last entry: what an auditor notes */
	uint64_t errors;
};
/*
 * Verifies every entry, the chain, and that journal and points agree: each point has its entry
 * (or is older than the journal), and each point that an entry made and that is gone was deleted
 * or pruned by one.  `expect_number` (0: none): that this entry exists and has the hash
 * `expect_hash`.  Each finding goes to `report`.  Returns 0 (look at `errors`) or an error of
 * reading.
 */
int journal_verify(struct repo *repo, uint64_t expect_number, const uint8_t *expect_hash,
		   void (*report)(const char *finding, void *context), void *context,
		   struct journal_state *ret);

#endif
