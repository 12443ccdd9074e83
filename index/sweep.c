/*
 * Sweeping, in batches that are as large as a short commit allows, so that an fsync() beside it
 * does not wait for long:
 *
 *     scan (reader) ──> withdraw (chunks.lock) ──> forget (commit) ──> admit (chunks.lock)
 *
 * and at the end the ranges are punched.  A chunk that chunk_store() found before it was withdrawn
 * is saved, and one that it found but had not yet confirmed when it was forgotten is refused
 * there by the epoch; see share() in chunk.c.
 */
#include "index/sweep.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "index/commit_internal.h"
#include "index/util/bytes.h"

enum {
	BATCH = 4096, /* at most */
	BATCH_MIN = 128,
	BATCH_FIRST = 512,
	SLICE = 65536, /* entries looked at with one reader, so that it does not grow old */
};

/* How long a commit may take: the next batch is smaller or larger. */
#define COMMIT_LONG_NS ((uint64_t)20 * 1000 * 1000)
#define COMMIT_SHORT_NS ((uint64_t)8 * 1000 * 1000)

struct sweep {
	struct store *store;
	size_t batch; /* ids in a commit */
	uint64_t node_limit;
	uint64_t chunk_limit;

	/* of the batch at hand */
	uint64_t ids[BATCH];
	size_t count;
	struct dead_range dead[BATCH];
	size_t dead_count;
	uint64_t removed[BATCH]; /* packs */
	size_t removed_count;
};

/* What one run carries along. */
struct run {
	struct sweep *sweep;
	const struct idset *marked;
	bool dry_run;
	sweep_progress *progress;
	void *context;
	uint64_t done;
	uint64_t total;
	bool stopped;
	struct sweep_result result;
};

int sweep_begin(struct store *store, struct sweep **ret)
{
	struct pending_table *table = &store->chunks;
	struct sweep *sweep;
	int r = 0;

	if (store_is_read_only(store))
		return -EROFS;
	sweep = calloc(1, sizeof(*sweep));
	if (!sweep)
		return -ENOMEM;
	sweep->store = store;
	sweep->batch = BATCH_FIRST;
	pthread_mutex_lock(&table->lock);
	if (table->sweeping) {
		r = -EBUSY;
	} else {
		table->sweeping = true;
		/* Whoever stored what is not yet committed may not have told a tree about it. */
		table->sweep_limit =
			pending_first_id(table, store_peek(store, COUNTER_CHUNK));
		sweep->chunk_limit = table->sweep_limit;
		sweep->node_limit = store_peek(store, COUNTER_NODE);
	}
	pthread_mutex_unlock(&table->lock);
	if (r < 0) {
		free(sweep);
		return r;
	}
	*ret = sweep;
	return 0;
}

struct sweep *sweep_end(struct sweep *sweep)
{
	struct pending_table *table;

	if (!sweep)
		return NULL;
	table = &sweep->store->chunks;
	pthread_mutex_lock(&table->lock);
	table->sweeping = false;
	idset_release(&table->saved);
	idset_release(&table->withdrawn);
	pthread_mutex_unlock(&table->lock);
	free(sweep);
	return NULL;
}

/* Collects the next unmarked ids from `*position` on.  `*ret_end` says that there are no more. */
static int scan(struct run *run, enum db db, uint64_t limit, uint64_t *position, bool *ret_end)
{
	struct sweep *sweep = run->sweep;
	MDB_cursor_op op = MDB_SET_RANGE;
	uint64_t id = *position;
	MDB_val key = {sizeof(id), &id}, value;
	struct reader *reader;
	MDB_cursor *cursor;
	int looked = 0, r = reader_acquire(sweep->store, &reader);

	if (r < 0)
		return r;
	sweep->count = 0;
	*ret_end = false;
	r = from_mdb(mdb_cursor_open(reader_txn(reader), sweep->store->env.dbi[db], &cursor));
	if (r == 0) {
		while (sweep->count < sweep->batch && looked++ < SLICE) {
			r = from_mdb(mdb_cursor_get(cursor, &key, &value, op));
			if (r < 0)
				break;
			op = MDB_NEXT;
			memcpy(&id, key.mv_data, sizeof(id));
			if (id >= limit) {
				r = -ENOENT;
				break;
			}
			*position = id + 1;
			run->done++;
			if (!idset_has(run->marked, id))
				sweep->ids[sweep->count++] = id;
		}
		mdb_cursor_close(cursor);
	}
	reader_release(reader);
	*ret_end = r == -ENOENT;
	return r == -ENOENT ? 0 : r;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* After a commit that had begun at `since`. */
static void adapt_batch(struct sweep *sweep, uint64_t since)
{
	uint64_t elapsed = now_ns() - since;

	if (elapsed > COMMIT_LONG_NS && sweep->batch > BATCH_MIN)
		sweep->batch /= 2;
	else if (elapsed < COMMIT_SHORT_NS && sweep->batch < BATCH)
		sweep->batch *= 2;
}

/* The end of a batch's commit. */
static int finish_batch(struct sweep *sweep, struct commit *commit, uint64_t since)
{
	int r = commit_finish(commit);

	adapt_batch(sweep, since);
	return r;
}

static int forget_nodes(struct sweep *sweep)
{
	struct commit *commit;
	uint64_t since;
	int r = commit_begin(sweep->store, &commit);

	if (r < 0)
		return r;
	since = now_ns();
	for (size_t i = 0; i < sweep->count && r == 0; i++)
		r = commit_delete_node(commit, sweep->ids[i]);
	if (r == 0)
		r = commit_seal_alone(commit);
	if (r < 0) {
		commit_abort(commit);
		return r;
	}
	return finish_batch(sweep, commit, since);
}

/* The first -ENOSPC has given up the ballast, so that the second try finds room. */
static int with_ballast(struct sweep *sweep, int (*step)(struct sweep *))
{
	int r = step(sweep);

	return r == -ENOSPC ? step(sweep) : r;
}

static int sweep_nodes(struct run *run)
{
	struct sweep *sweep = run->sweep;
	uint64_t position = 1;
	bool end = false;
	int r = 0;

	while (r == 0 && !end && !run->stopped) {
		r = scan(run, DB_NODES, sweep->node_limit, &position, &end);
		if (r == 0 && sweep->count && !run->dry_run) {
			commit_give_way(sweep->store);
			r = with_ballast(sweep, forget_nodes);
		}
		if (r == 0)
			run->result.nodes += sweep->count;
		if (r == 0 && run->progress)
			run->stopped = run->progress(run->done, run->total, run->context) != 0;
	}
	return r;
}

/* Leaves in the batch what nobody has hit; from here on nobody will. */
static int withdraw(struct sweep *sweep, bool dry_run)
{
	struct pending_table *table = &sweep->store->chunks;
	size_t kept = 0;
	int r = 0;

	pthread_mutex_lock(&table->lock);
	for (size_t i = 0; i < sweep->count && r >= 0; i++) {
		if (idset_has(&table->saved, sweep->ids[i]))
			continue;
		if (!dry_run)
			r = idset_add(&table->withdrawn, sweep->ids[i]);
		sweep->ids[kept++] = sweep->ids[i];
	}
	if (r < 0)
		idset_release(&table->withdrawn);
	pthread_mutex_unlock(&table->lock);
	sweep->count = kept;
	return r < 0 ? r : 0;
}

static void admit(struct sweep *sweep, bool forgotten)
{
	struct pending_table *table = &sweep->store->chunks;

	pthread_mutex_lock(&table->lock);
	idset_release(&table->withdrawn);
	if (forgotten)
		table->forget_epoch++;
	pthread_mutex_unlock(&table->lock);
}

/* Takes one chunk out of the index.  One whose entry is damaged stays: where its bytes lie is not
 * known, and the checker reports it. */
static int forget_chunk(struct commit *commit, uint64_t id, struct sweep *sweep)
{
	const struct env *env = &commit->store->env;
	struct disk_hash_key disk;
	MDB_val key = {sizeof(id), &id}, hash_key = {sizeof(disk), &disk}, value;
	struct chunk_info info;
	int r = from_mdb(mdb_get(commit->txn, env->dbi[DB_CHUNKS], &key, &value));

	if (r == 0)
		r = chunk_decode(id, value.mv_data, value.mv_size, &info);
	if (r == -ENOENT || r == -EBADMSG || r == -EUCLEAN)
		return 0;
	if (r == 0)
		r = from_mdb(mdb_del(commit->txn, env->dbi[DB_CHUNKS], &key, NULL));
	if (r < 0)
		return commit_note(commit, r);
	pending_key(&commit->store->chunks, info.hash, disk.hash);
	put_be64(disk.id, id);
	r = from_mdb(mdb_del(commit->txn, env->dbi[DB_HASHES], &hash_key, NULL));
	if (r < 0 && r != -ENOENT)
		return commit_note(commit, r);
	sweep->dead[sweep->dead_count++] = (struct dead_range){
		.pack = info.pack,
		.offset = info.offset,
		.length = record_size(info.stored_length),
	};
	commit->state.raw_bytes -= info.raw_length;
	commit->state.stored_bytes -= record_size(info.stored_length);
	return 0;
}

static int forget_chunks(struct sweep *sweep)
{
	struct commit *commit;
	uint64_t since;
	struct state *state;
	int r = commit_begin(sweep->store, &commit);

	if (r < 0)
		return r;
	since = now_ns();
	sweep->dead_count = sweep->removed_count = 0;
	r = commit_state(commit, &state);
	for (size_t i = 0; i < sweep->count && r == 0; i++)
		r = forget_chunk(commit, sweep->ids[i], sweep);
	if (r == 0)
		r = commit_note(commit, dead_forget(commit, sweep->dead, sweep->dead_count,
						    sweep->removed, &sweep->removed_count));
	if (r == 0)
		r = commit_seal_alone(commit);
	if (r < 0) {
		commit_abort(commit);
		return r;
	}
	return finish_batch(sweep, commit, since);
}

/* Raw and stored bytes of the batch, before it is forgotten. */
static int count_chunks(struct run *run)
{
	struct sweep *sweep = run->sweep;
	struct chunk_info info;
	struct reader *reader;
	int r = reader_acquire(sweep->store, &reader);

	if (r < 0)
		return r;
	for (size_t i = 0; i < sweep->count; i++) {
		if (reader_chunk(reader, sweep->ids[i], &info) < 0)
			continue;
		run->result.chunks++;
		run->result.raw_bytes += info.raw_length;
		run->result.stored_bytes += record_size(info.stored_length);
	}
	reader_release(reader);
	return 0;
}

static int sweep_batch(struct run *run)
{
	struct sweep *sweep = run->sweep;
	struct sweep_result before = run->result;
	int r;

	if (sweep->count && !run->dry_run)
		commit_give_way(sweep->store);
	r = withdraw(sweep, run->dry_run);
	if (r == 0 && sweep->count)
		r = count_chunks(run);
	if (!sweep->count || run->dry_run)
		return r;
	if (r == 0)
		r = with_ballast(sweep, forget_chunks);
	admit(sweep, r == 0);
	if (r < 0) {
		run->result = before;
		return r;
	}
	run->result.packs += sweep->removed_count;
	/* A pack that cannot be removed now is unknown to the index, and goes at the next open. */
	for (size_t i = 0; i < sweep->removed_count; i++)
		(void)pack_remove(sweep->store, sweep->removed[i]);
	return 0;
}

static int sweep_chunks(struct run *run)
{
	uint64_t position = 1;
	bool end = false;
	int r = 0;

	while (r == 0 && !end && !run->stopped) {
		r = scan(run, DB_CHUNKS, run->sweep->chunk_limit, &position, &end);
		if (r == 0)
			r = sweep_batch(run);
		if (r == 0 && run->progress)
			run->stopped = run->progress(run->done, run->total, run->context) != 0;
	}
	return r;
}

static int count_candidates(struct store *store, uint64_t *ret)
{
	MDB_stat nodes, chunks;
	struct reader *reader;
	int r = reader_acquire(store, &reader);

	if (r < 0)
		return r;
	r = from_mdb(mdb_stat(reader_txn(reader), store->env.dbi[DB_NODES], &nodes));
	if (r == 0)
		r = from_mdb(mdb_stat(reader_txn(reader), store->env.dbi[DB_CHUNKS], &chunks));
	reader_release(reader);
	if (r == 0)
		*ret = nodes.ms_entries + chunks.ms_entries;
	return r;
}

int sweep_run(struct sweep *sweep, const struct idset *nodes, const struct idset *chunks,
	      bool dry_run, sweep_progress *progress, void *context, struct sweep_result *ret)
{
	struct run run = {
		.sweep = sweep,
		.marked = nodes,
		.dry_run = dry_run,
		.progress = progress,
		.context = context,
	};
	int r = count_candidates(sweep->store, &run.total);

	if (r == 0)
		r = sweep_nodes(&run);
	run.marked = chunks;
	if (r == 0)
		r = sweep_chunks(&run);
	if (r == 0 && !dry_run)
		r = punch_run(sweep->store);
	if (r == 0)
		*ret = run.result;
	return r;
}
