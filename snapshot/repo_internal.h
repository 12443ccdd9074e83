/* What the files of snapshot/ that keep heads, commits and records know of each other. */
#ifndef CAIRN_SNAPSHOT_REPO_INTERNAL_H
#define CAIRN_SNAPSHOT_REPO_INTERNAL_H

#include <stdatomic.h>

#include "snapshot/repo.h"

/* A group of repo_commit() callers that share one commit.  Fields: repo->lock. */
struct commit_group {
	unsigned members; /* callers that have yet to take the result; the last one frees it */
	bool finished;
	bool full; /* a record of the redo log will not do for one of them */
	int error;
};

struct repo {
	struct store *store;  /* owned, fixed after open */
	pthread_mutex_t lock; /* the innermost of this room: nothing is taken under it */

	/* The commit lock, first come, first served (repo->lock). */
	pthread_cond_t turn_changed;
	uint64_t turn_next; /* the next ticket to hand out */
	uint64_t turn;	    /* the ticket whose owner has the commit lock */

	/* Held shared, outside of the commit lock, by who makes nodes that are not in a head, from
	 * the first one until they are committed; exclusively where a collection begins. */
	pthread_rwlock_t making;

	/* Group commit (repo->lock). */
	pthread_cond_t group_finished;
	struct commit_group *gathering; /* callers may join until its cut; NULL: none */

	/* Open heads in order of workspace id.  Changed with both the commit lock and repo->lock
	 * held, so either suffices to look. */
	struct head **heads;
	size_t head_count, head_capacity;
};

struct head {
	struct repo *repo;  /* fixed after open */
	uint64_t workspace; /* fixed after open */
	char *name;	    /* owned; head lock */
	struct tree *tree;  /* owned; head lock */
	pthread_rwlock_t lock;
	_Atomic unsigned long writer;  /* the thread that holds the lock exclusively, 0: nobody */
	_Atomic uint64_t base;	       /* point id; changed under the head lock */
	atomic_bool dirty;	       /* something waits for the next cut */
	struct head_counters counters; /* head lock */
	const struct head_ops *ops;    /* commit lock; NULL: not attached */
	void *context;
	unsigned references; /* repo->lock */
	bool collected;	     /* between tree_collect() and tree_committed(); commit lock */
};

/* The commit lock: the outermost.  Whoever holds it is the committing thread. */
void repo_commit_lock(struct repo *repo);
void repo_commit_unlock(struct repo *repo);
bool repo_commit_running(const struct repo *repo); /* repo->lock */

/* Commits what only the redo log has; commit lock held. */
int repo_settle_redo(struct repo *repo);

/* The open head of a workspace, or NULL; commit lock held (as in an action). */
struct head *repo_open_head(struct repo *repo, uint64_t workspace);

/* State of a head as its workspace record has it. */
struct head_state {
	uint64_t root, generation, base;
	struct head_counters counters;
};
void head_get_state(struct head *head, struct head_state *ret); /* lock held, any way */

#endif
