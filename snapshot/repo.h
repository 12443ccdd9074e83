/*
 * An open store with its workspaces, and the one door for commits.
 *
 * Below it is the index; above it fs/ (a mounted workspace) or a command that works on an
 * unmounted store.  Everything that changes the store goes through repo_commit().
 *
 * Head: the mutable state of a workspace: a tree, its lock, the point that it is based on.
 *
 *                 repo_head()                    head_put() last
 *   (on disk) ---------------------> open head --------------------> closed
 *                                     |    ^
 *        tree changes, lock exclusive |    | repo_commit()
 *                                     v    |
 *                                    dirty head
 *
 * Lock order, outermost first (each may be taken while holding those above it, never the reverse):
 *   1. repo commit lock   held by the one committing thread for the whole commit
 *   2. head locks         in order of workspace id
 *   3. fs/ inode locks    (fs/ says which)
 *   4. locks inside index/, never visible outside
 */
#ifndef CAIRN_SNAPSHOT_REPO_H
#define CAIRN_SNAPSHOT_REPO_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "index/commit.h"
#include "index/store.h"
#include "snapshot/tree.h"

struct repo;
struct head;

/* A new store (store_create()) has no workspace yet: workspace_create(repo, "main", …). */
int repo_open(const char *directory, unsigned store_flags, const struct io *io, struct repo **ret,
	      struct errbuf *err);
struct repo *repo_close(struct repo *repo); /* all heads must have been put; NULL is fine */
struct store *repo_store(struct repo *repo);

/* What a mounted workspace does around a commit.  `context` is its own. */
struct head_ops {
	/* No lock held: push out as much dirty data as possible, so that the cut is short. */
	int (*prepare)(void *context);
	/* Head lock held exclusively: everything acknowledged so far reaches the tree and the
	 * head's counters.  This instant is the cut (I4).  An error ends the commit. */
	int (*cut)(void *context);
	/* Head lock held exclusively, after a restore became durable: the tree has a new root. */
	void (*switched)(void *context, uint64_t old_root, uint64_t new_root);
};

/* Opens a workspace's head, or returns the open one with one more reference.
 * -ENOENT, with a message that lists what there is.  Waits for a running commit where the head
 * is not open yet, as do head_attach(), head_detach() and the last head_put(): none of them may be
 * called with a head lock held or from the callbacks below. */
int repo_head(struct repo *repo, const char *workspace, struct head **ret, struct errbuf *err);
/* Gives the reference back; the last one closes it (uncommitted changes are dropped, unless
 * something was made durable by repo_sync() alone: commit first).  Returns NULL. */
struct head *head_put(struct head *head);

/* One mount at a time attaches itself; -EBUSY otherwise. */
int head_attach(struct head *head, const struct head_ops *ops, void *context);
void head_detach(struct head *head);

struct tree *head_tree(struct head *head);
uint64_t head_workspace(const struct head *head); /* id */
const char *head_name(const struct head *head);	  /* of the workspace; under its lock */
uint64_t head_base(const struct head *head);	  /* point id, 0: none yet */
struct repo *head_repo(const struct head *head);

void head_lock(struct head *head);	    /* exclusive: to change the tree */
void head_lock_shared(struct head *head);   /* to read it */
void head_unlock(struct head *head);	    /* after a change of the tree also head_mark_dirty() */
void head_assert_locked(struct head *head); /* exclusively, in debug builds */

/* Running totals that make `files` and `bytes` of a point O(1); head lock held exclusively.
 * Orphans do not count: they leave the totals when their last name goes. */
struct head_counters {
	int64_t files;	       /* inodes that are not directories, each once */
	int64_t directories;   /* without the root */
	int64_t bytes;	       /* sum of sizes of regular files */
	int64_t changed_bytes; /* written since the base point */
};
void head_count(struct head *head, const struct head_counters *delta);
void head_get_counters(struct head *head, struct head_counters *ret); /* lock held, any way */

/*
 * Commits everything acknowledged before the call (concurrent callers share one commit): calls
 * `prepare`, locks all heads, `cut`, collects, unlocks, syncs.  Where nothing is dirty it returns
 * at once.  -ENOSPC: nothing lost, still dirty.  Must not be called with a head lock held.
 * When it returns the index has it all: readers see it.
 */
int repo_commit(struct repo *repo);

/*
 * The same for fsync: makes everything acknowledged before the call durable, by a record of the
 * redo log (index/redo.h) where that will do, else by a commit.  After a crash it is there; until
 * the next commit readers of the index see what was there before.
 */
int repo_sync(struct repo *repo);

/* Reads what the redo log holds once more (redo_verify()). */
int repo_verify_log(struct repo *repo);

/*
 * A commit with an action in its cut: `act` runs with all heads locked, after their cut and with
 * the nodes collected, and may put records.  The heads stay locked until all is durable, so the
 * action and the state belong together.  An error from `act` aborts: nothing of the action
 * happens, nothing is lost.  `done` (may be NULL) runs with the heads still locked, when all is
 * durable: it may set the roots and generations of heads and cannot fail.
 * On a full disk `act` may be called a second time, with a new commit, after the first was
 * aborted.  `act` NULL: a commit even where no head is dirty (for store_set_compression()).
 */
struct repo_action {
	int (*act)(struct repo *repo, struct commit *commit, void *context);
	void (*done)(struct repo *repo, void *context);
	void *context;
};
int repo_commit_action(struct repo *repo, const struct repo_action *action);

/* True while anything waits for a commit, be it in the redo log (a hint, without head locks). */
bool repo_is_dirty(struct repo *repo);
/* fs/ has something for the next cut(): call it when it is where cut() will find it, and before it
 * is acknowledged.  Any thread, any locks. */
void head_mark_dirty(struct head *head);

#endif
