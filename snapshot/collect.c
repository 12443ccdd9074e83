/*
 * Garbage collection: marking what heads and points reach, then index/sweep.h.
 *
 *   sweep_begin()  ->  pass_heads(), repo_commit()  ->  reader, mark from its records  ->
 * sweep_run()
 *
 * Why what is alive survives: what was acknowledged before the commit is in the records that the
 * reader sees, and gets marked.  What comes later either refers to nodes and chunks that are
 * newer than the sweep's limits, or to chunks that a deduplication hit has saved, or to what it
 * found in a head or a point, which is marked.  A point that goes meanwhile stays marked: the
 * next collection gets it.
 *
 * Ids that chunk_store() returned before sweep_begin() are not saved if they were hits.  By
 * snapshot/collect.h their heads are dirty, so the commit has a cut and they are in a tree after
 * it; or they are put under a head lock that is still held: that is what pass_heads() waits for.
 *
 * Nodes are marked once each, whatever number of points share them, so a collection costs what
 * the store holds, not what its points would hold apart.
 */
#include "snapshot/collect.h"

#include <errno.h>
#include <stdlib.h>

#include "snapshot/item.h"
#include "snapshot/repo_internal.h"
#include "snapshot/roots_internal.h"

struct marking {
	struct repo *repo;
	struct reader *reader;	    /* borrowed */
	struct idset nodes, chunks; /* owned */
	struct root *roots;	    /* owned */
	size_t root_count;
	collect_progress *progress;
	void *context;
};

static void marking_release(struct marking *marking)
{
	idset_release(&marking->nodes);
	idset_release(&marking->chunks);
	free(marking->roots);
}

static int mark_chunk(uint64_t chunk, void *context)
{
	struct marking *marking = context;
	int added = idset_add(&marking->chunks, chunk);
	return added < 0 ? added : 0;
}

static int mark_item(const struct tree_item *item, void *context)
{
	return item_chunks(item, mark_chunk, context);
}

/* A tree of digests refers to no chunks, so its leaves need not be read. */
static int mark_root(struct marking *marking, const struct root *root)
{
	struct store *store = marking->repo->store;
	int error =
		tree_mark(store, marking->reader, root->root, &marking->nodes, mark_item, marking);
	if (!error)
		error = tree_mark(store, marking->reader, root->digest, &marking->nodes, NULL,
				  NULL);
	return error;
}

static int mark_roots(struct marking *marking)
{
	int error = roots_read(marking->reader, &marking->roots, &marking->root_count);
	for (size_t i = 0; !error && i < marking->root_count; i++) {
		if (marking->progress &&
		    marking->progress("mark", i, marking->root_count, marking->context))
			return -EINTR;
		error = mark_root(marking, &marking->roots[i]);
	}
	return error;
}

/* The reader is held for the marking alone: an old one holds back the reuse of pages. */
static int mark(struct marking *marking)
{
	int error = reader_acquire(marking->repo->store, &marking->reader);
	if (error)
		return error;
	error = mark_roots(marking);
	marking->reader = reader_release(marking->reader);
	return error;
}

struct sweeping {
	collect_progress *progress;
	void *context;
	bool stopped;
};

static int sweep_step(uint64_t done, uint64_t total, void *context)
{
	struct sweeping *sweeping = context;
	if (sweeping->progress && sweeping->progress("sweep", done, total, sweeping->context))
		sweeping->stopped = true;
	return sweeping->stopped;
}

/* Takes and gives each head's lock: who holds it now is done then, and has left his head dirty. */
static void pass_heads(struct repo *repo)
{
	repo_commit_lock(repo);
	for (size_t i = 0; i < repo->head_count; i++) {
		head_lock(repo->heads[i]);
		head_unlock(repo->heads[i]);
	}
	repo_commit_unlock(repo);
}

int repo_collect(struct repo *repo, bool dry_run, collect_progress *progress, void *context,
		 struct sweep_result *ret)
{
	struct marking marking = {
		.repo = repo,
		.nodes = IDSET_INIT,
		.chunks = IDSET_INIT,
		.progress = progress,
		.context = context,
	};
	struct sweeping sweeping = {.progress = progress, .context = context};
	struct sweep_result result = {0};
	struct sweep *sweep;
	/* Who makes nodes that no head refers to (a tree of digests) is waited for. */
	pthread_rwlock_wrlock(&repo->making);
	int error = sweep_begin(repo->store, &sweep);
	pthread_rwlock_unlock(&repo->making);
	if (error)
		return error;
	pass_heads(repo);
	error = repo_commit(repo);
	if (!error)
		error = mark(&marking);
	if (!error)
		error = sweep_run(sweep, &marking.nodes, &marking.chunks, dry_run, sweep_step,
				  &sweeping, &result);
	sweep_end(sweep);
	marking_release(&marking);
	if (sweeping.stopped)
		return -EINTR;
	if (!error)
		*ret = result;
	return error;
}
