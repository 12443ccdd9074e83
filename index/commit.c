/*
 * Order in commit_finish() (I3): packs, then the directory of packs, then the index.
 *
 * LMDB frees its transaction when committing fails, so that a commit cannot be tried again from
 * here; what its caller had dirty is still dirty.  After -ENOSPC that is all there is to it: LMDB
 * writes pages that nothing durable refers to, and the meta page last.  After any other error of
 * the write or the sync it is unknown what is on the disk, and the store is failed.
 */
#include "index/commit_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "index/util/bytes.h"

enum { READER_CHECK_INTERVAL = 64 }; /* commits */

int commit_begin(struct store *store, struct commit **ret)
{
	struct commit *commit;
	int r = 0;

	if (store_is_read_only(store))
		return -EROFS;
	if (store_failed(store))
		return -EIO;
	commit = calloc(1, sizeof(*commit));
	if (!commit)
		return -ENOMEM;
	commit->store = store;
	atomic_fetch_add(&store->commit_waiters, 1);
	r = from_mdb(mdb_txn_begin(store->env.mdb, NULL, 0, &commit->txn));
	atomic_fetch_sub(&store->commit_waiters, 1);
	if (r == 0 && store_failed(store)) { /* while we waited */
		mdb_txn_abort(commit->txn);
		r = -EIO;
	}
	if (r < 0) {
		if (r == -EIO)
			store_fail(store, r); /* LMDB has failed for good */
		free(commit);
		return r;
	}
	*ret = commit;
	return 0;
}

void commit_give_way(struct store *store)
{
	const struct timespec pause = {.tv_nsec = 200000};

	for (int i = 0; i < 100 && atomic_load(&store->commit_waiters); i++)
		nanosleep(&pause, NULL);
}

int commit_note(struct commit *commit, int error)
{
	if (error < 0 && !commit->error)
		commit->error = error;
	return error;
}

/* Nodes behind all others are appended, which leaves the pages before them full; LMDB would
 * otherwise split these in halves. */
static int last_node_flag(struct commit *commit, uint64_t id, unsigned *ret)
{
	if (!commit->last_node_known) {
		int r = env_last_id(&commit->store->env, commit->txn, DB_NODES, &commit->last_node);

		if (r < 0)
			return r;
		commit->last_node_known = true;
	}
	*ret = id > commit->last_node ? MDB_APPEND : 0;
	if (id > commit->last_node)
		commit->last_node = id;
	return 0;
}

int commit_put_node(struct commit *commit, uint64_t id, uint8_t *node)
{
	MDB_val key = {sizeof(id), &id}, value = {NODE_SIZE, node};
	unsigned flags;
	int r;

	if (commit->sealed || !id || get_le64(node + 8) != id)
		return commit_note(commit, -EINVAL);
	if (commit->error)
		return commit->error;
	put_le64(node, node_checksum(node));
	r = last_node_flag(commit, id, &flags);
	if (r == 0)
		r = from_mdb(mdb_put(commit->txn, commit->store->env.dbi[DB_NODES], &key, &value,
				     flags));
	return commit_note(commit, r);
}

int commit_delete_node(struct commit *commit, uint64_t id)
{
	MDB_val key = {sizeof(id), &id};
	int r;

	if (commit->sealed)
		return commit_note(commit, -EINVAL);
	if (commit->error)
		return commit->error;
	r = from_mdb(mdb_del(commit->txn, commit->store->env.dbi[DB_NODES], &key, NULL));
	return r == -ENOENT ? 0 : commit_note(commit, r);
}

int commit_put_record(struct commit *commit, enum table table, struct bytes key, struct bytes value)
{
	MDB_val mdb_key = {key.length, (void *)(uintptr_t)key.data};
	MDB_val stored = {value.length + RECORD_TRAILER, NULL};
	uint64_t checksum;
	int r;

	if (commit->sealed || !key.length || key.length > RECORD_KEY_MAX ||
	    value.length > RECORD_VALUE_MAX)
		return commit_note(commit, -EINVAL);
	if (commit->error)
		return commit->error;
	checksum = value_checksum(key, value);
	r = from_mdb(mdb_put(commit->txn, commit->store->env.dbi[record_db(table)], &mdb_key,
			     &stored, MDB_RESERVE));
	if (r < 0)
		return commit_note(commit, r);
	if (value.length)
		memcpy(stored.mv_data, value.data, value.length);
	put_le64((uint8_t *)stored.mv_data + value.length, checksum);
	return 0;
}

int commit_delete_record(struct commit *commit, enum table table, struct bytes key)
{
	MDB_val mdb_key = {key.length, (void *)(uintptr_t)key.data};
	int r;

	if (commit->sealed || !key.length || key.length > RECORD_KEY_MAX)
		return commit_note(commit, -EINVAL);
	if (commit->error)
		return commit->error;
	r = from_mdb(
		mdb_del(commit->txn, commit->store->env.dbi[record_db(table)], &mdb_key, NULL));
	return r == -ENOENT ? r : commit_note(commit, r);
}

int commit_record(struct commit *commit, enum table table, struct bytes key,
		  struct bytes *ret_value)
{
	return record_get(&commit->store->env, commit->txn, table, key, ret_value);
}

int commit_records(struct commit *commit, enum table table, struct bytes prefix,
		   int (*visit)(struct bytes key, struct bytes value, void *context), void *context)
{
	return records_visit(&commit->store->env, commit->txn, table, prefix, visit, context);
}

int commit_records_from(struct commit *commit, enum table table, struct bytes from,
			enum records_order order,
			int (*visit)(struct bytes key, struct bytes value, void *context),
			void *context)
{
	return records_visit_from(&commit->store->env, commit->txn, table, from, order, visit,
				  context);
}

int commit_state(struct commit *commit, struct state **ret)
{
	if (!commit->state_loaded) {
		int r = env_get_state(&commit->store->env, commit->txn, &commit->state);

		if (r < 0)
			return commit_note(commit, r);
		commit->state_loaded = true;
	}
	*ret = &commit->state;
	return 0;
}

int commit_settles_redo(struct commit *commit)
{
	struct redo *redo = &commit->store->redo;
	struct state *state;
	int r;

	if (commit->sealed)
		return commit_note(commit, -EINVAL);
	if (!redo->behind && !redo_is_used(commit->store) && (redo->epoch || !redo->durable))
		return 0; /* there is nothing that must not count any more */
	r = commit_state(commit, &state);
	if (r < 0)
		return r;
	state->redo_epoch = redo_new_epoch();
	commit->settles_redo = true;
	return 0;
}

int commit_seal_alone(struct commit *commit)
{
	struct store *store = commit->store;
	struct state *state;
	int r;

	if (commit->error)
		return commit->error;
	r = commit_state(commit, &state);
	if (r < 0)
		return r;
	for (int i = 0; i < STORE_COUNTERS; i++)
		state->next[i] = atomic_load(&store->counters[i]);
	pthread_mutex_lock(&store->packs.lock);
	state->next_pack = store->packs.next_number;
	pthread_mutex_unlock(&store->packs.lock);
	store_get_compression(store, &state->compression);
	state->scattered = store_is_scattered(store);
	r = commit_note(commit, env_put_state(&store->env, commit->txn, state));
	commit->sealed = r == 0;
	return r;
}

/* Takes every READY chunk. */
static int take_chunks(struct commit *commit)
{
	struct pending_table *table = &commit->store->chunks;
	struct pending *pending;
	size_t count = 0;
	int r = 0;

	pthread_mutex_lock(&table->lock);
	if (table->ready_count) {
		commit->chunks = reallocarray(NULL, table->ready_count, sizeof(*commit->chunks));
		if (!commit->chunks)
			r = -ENOMEM;
	}
	for (pending = r == 0 ? table->ready : NULL; pending; pending = pending->next_ready) {
		pending->state = PENDING_SEALED;
		commit->chunks[count++] = pending;
	}
	if (r == 0) {
		table->ready = NULL;
		table->ready_count = 0;
		table->unlogged = NULL;
		table->unlogged_count = 0;
		commit->chunk_count = count;
	}
	pthread_mutex_unlock(&table->lock);
	return r;
}

static void give_chunks_back(struct commit *commit)
{
	struct pending_table *table = &commit->store->chunks;

	pthread_mutex_lock(&table->lock);
	for (size_t i = 0; i < commit->chunk_count; i++) {
		struct pending *pending = commit->chunks[i];

		pending->state = PENDING_READY;
		pending->next_ready = table->ready;
		table->ready = pending;
		table->ready_count++;
		if (!pending->logged)
			pending_unlogged(table, pending);
	}
	pthread_mutex_unlock(&table->lock);
	commit->chunk_count = 0;
}

static int by_place(const void *a, const void *b)
{
	const struct chunk_info *x = &(*(struct pending *const *)a)->info;
	const struct chunk_info *y = &(*(struct pending *const *)b)->info;

	if (x->pack != y->pack)
		return x->pack < y->pack ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static int by_id(const void *a, const void *b)
{
	uint64_t x = (*(struct pending *const *)a)->id, y = (*(struct pending *const *)b)->id;

	return x < y ? -1 : x > y;
}

static int by_key(const void *a, const void *b)
{
	const struct pending *x = *(struct pending *const *)a, *y = *(struct pending *const *)b;
	int r = memcmp(x->key, y->key, HASH_SIZE);

	return r ? r : by_id(a, b);
}

int pack_entry_get(struct store *store, MDB_txn *txn, uint64_t number, struct pack_entry *ret)
{
	MDB_val key = {sizeof(number), &number}, value;
	int r = from_mdb(mdb_get(txn, store->env.dbi[DB_PACKS], &key, &value));

	return r < 0 ? r : pack_decode(number, value.mv_data, value.mv_size, ret);
}

int pack_entry_put(struct store *store, MDB_txn *txn, uint64_t number,
		   const struct pack_entry *entry)
{
	struct disk_pack disk;
	MDB_val key = {sizeof(number), &number}, value = {sizeof(disk), &disk};

	pack_encode(number, entry, &disk);
	return from_mdb(mdb_put(txn, store->env.dbi[DB_PACKS], &key, &value, 0));
}

/* Enters the chunks into the entries of their packs. */
static int put_packs(struct commit *commit, struct state *state)
{
	size_t i = 0;
	int r;

	qsort(commit->chunks, commit->chunk_count, sizeof(*commit->chunks), by_place);
	while (i < commit->chunk_count) {
		uint64_t number = commit->chunks[i]->info.pack;
		struct pack_entry entry = {0};

		r = pack_entry_get(commit->store, commit->txn, number, &entry);
		if (r < 0 && r != -ENOENT)
			return r;
		for (; i < commit->chunk_count && commit->chunks[i]->info.pack == number; i++) {
			const struct chunk_info *info = &commit->chunks[i]->info;
			uint64_t size = record_size(info->stored_length);

			entry.live += size;
			entry.records++;
			if (entry.length < info->offset + size)
				entry.length = info->offset + size;
			state->raw_bytes += info->raw_length;
			state->stored_bytes += size;
		}
		r = pack_entry_put(commit->store, commit->txn, number, &entry);
		if (r < 0)
			return r;
	}
	return 0;
}

static int put_chunks(struct commit *commit)
{
	const struct env *env = &commit->store->env;
	uint64_t last;
	int r = env_last_id(env, commit->txn, DB_CHUNKS, &last);

	qsort(commit->chunks, commit->chunk_count, sizeof(*commit->chunks), by_id);
	for (size_t i = 0; i < commit->chunk_count && r == 0; i++) {
		uint64_t id = commit->chunks[i]->id;
		struct disk_chunk disk;
		MDB_val key = {sizeof(id), &id}, value = {sizeof(disk), &disk};

		chunk_encode(id, &commit->chunks[i]->info, &disk);
		r = from_mdb(mdb_put(commit->txn, env->dbi[DB_CHUNKS], &key, &value,
				     id > last ? MDB_APPEND : MDB_NOOVERWRITE));
	}
	return r == -EEXIST ? -EUCLEAN : r;
}

static int put_hashes(struct commit *commit)
{
	const struct env *env = &commit->store->env;
	int r = 0;

	qsort(commit->chunks, commit->chunk_count, sizeof(*commit->chunks), by_key);
	for (size_t i = 0; i < commit->chunk_count && r == 0; i++) {
		struct disk_hash_key disk;
		MDB_val key = {sizeof(disk), &disk}, value = {0, NULL};

		memcpy(disk.hash, commit->chunks[i]->key, HASH_SIZE);
		put_be64(disk.id, commit->chunks[i]->id);
		r = from_mdb(mdb_put(commit->txn, env->dbi[DB_HASHES], &key, &value, 0));
	}
	return r;
}

/*
 * Notes the room of failed writes as dead.  Only what lies before the committed end of its pack:
 * what lies behind is cut off by a crash, and may then hold a good record.
 */
static int put_dead(struct commit *commit, struct state *state)
{
	struct store *store = commit->store;
	enum { AT_ONCE = 64 };
	size_t count;

	commit->dead = reallocarray(NULL, AT_ONCE, sizeof(*commit->dead));
	if (!commit->dead)
		return -ENOMEM;
	count = packs_copy_dead(store, commit->dead, AT_ONCE);
	for (size_t i = 0; i < count; i++) {
		struct dead_range range = commit->dead[i];
		struct pack_entry entry;
		int r = pack_entry_get(store, commit->txn, range.pack, &entry);

		if (r == -ENOENT || (r == 0 && range.offset + range.length > entry.length))
			continue;
		if (r == 0)
			r = punch_add(store, commit->txn, state, range.pack, range.offset,
				      range.length);
		if (r < 0)
			return r;
		commit->dead[commit->dead_count++] = range;
	}
	return 0;
}

int commit_seal(struct commit *commit)
{
	struct state *state;
	int r;

	if (commit->sealed)
		return commit_note(commit, -EINVAL);
	if (commit->error)
		return commit->error;
	r = commit_state(commit, &state);
	if (r == 0)
		r = take_chunks(commit);
	if (r == 0 && commit->chunk_count) {
		r = put_packs(commit, state);
		if (r == 0)
			r = put_chunks(commit);
		if (r == 0)
			r = put_hashes(commit);
	}
	if (r == 0)
		r = put_dead(commit, state);
	if (r < 0)
		return commit_note(commit, r);
	return commit_seal_alone(commit);
}

/* The chunks of a durable commit are found in the index from now on. */
static void settle_chunks(struct commit *commit)
{
	struct store *store = commit->store;
	struct pending_table *table = &store->chunks;
	uint64_t pack = 0, count = 0;

	for (size_t i = 0; i < commit->chunk_count; i++) {
		uint64_t next = commit->chunks[i]->info.pack;

		if (count && next != pack) {
			pack_settle(store, pack, count);
			count = 0;
		}
		pack = next;
		count++;
	}
	if (count)
		pack_settle(store, pack, count);

	pthread_mutex_lock(&table->lock);
	for (size_t i = 0; i < commit->chunk_count; i++)
		pending_drop(table, commit->chunks[i]);
	pthread_mutex_unlock(&table->lock);
	commit->chunk_count = 0;
}

static void publish(struct store *store)
{
	uint64_t seen = atomic_load(&store->sequence);
	MDB_envinfo info;

	int dead;

	mdb_env_info(store->env.mdb, &info);
	/* A reading process that crashed would hold back the reuse of pages for ever. */
	if (info.me_last_txnid % READER_CHECK_INTERVAL == 0)
		mdb_reader_check(store->env.mdb, &dead);
	/* The next commit may already have published a larger number. */
	while (seen < info.me_last_txnid &&
	       !atomic_compare_exchange_weak(&store->sequence, &seen, info.me_last_txnid))
		;
	readers_refresh(store);
}

/* I3: nothing that the commit names may be undurable. */
static int check_order(struct commit *commit)
{
	struct store *store = commit->store;

	for (size_t i = 0; i < commit->chunk_count; i++) {
		if (pack_is_durable(store, commit->chunks[i]->info.pack, commit->chunks[i]->write))
			continue;
		atomic_fetch_add(&store->order_violations, 1);
		return -EIO;
	}
	return 0;
}

/* Whether committing failed without a doubt about what is on the disk. */
static bool is_harmless(int error)
{
	return error == -ENOSPC || error == -EDQUOT || error == -ENOMEM;
}

/* Where it was the meta page that could not be written, whatever the reason, LMDB does not know
 * what is on the disk, and answers nothing any more. */
static bool has_given_up(struct store *store)
{
	MDB_txn *txn;
	int code = mdb_txn_begin(store->env.mdb, NULL, MDB_RDONLY, &txn);

	if (code == 0)
		mdb_txn_abort(txn);
	return code == MDB_PANIC;
}

static int finish(struct commit *commit)
{
	struct store *store = commit->store;
	int r = commit->chunk_count ? packs_sync(store) : 0;

	if (r == 0)
		r = check_order(commit);
	if (r < 0) {
		store_fail(store, r);
		return r;
	}
	r = from_mdb(mdb_txn_commit(commit->txn));
	commit->txn = NULL;
	if (r < 0) {
		if (!is_harmless(r) || has_given_up(store))
			store_fail(store, r);
		return r;
	}
	/* Only what damage to a tree leads to could miss these bytes; the next open adds them. */
	(void)env_extend(&store->env);
	if (commit->settles_redo)
		redo_restart(&store->redo, commit->state.redo_epoch);
	publish(store);
	settle_chunks(commit);
	for (size_t i = 0; i < commit->dead_count; i++)
		packs_forget_dead(store, &commit->dead[i]);
	return 0;
}

int commit_finish(struct commit *commit)
{
	struct store *store = commit->store;
	int r = commit->error;

	if (r == 0 && !commit->sealed)
		r = -EINVAL;
	if (r == 0 && store_failed(store))
		r = -EIO;
	if (r == 0)
		r = finish(commit);
	if (r == -EDQUOT)
		r = -ENOSPC;
	commit_abort(commit);
	if (r == -ENOSPC)
		space_drop_ballast(store);
	else if (r == 0)
		space_restore_ballast(store);
	return r;
}

struct commit *commit_abort(struct commit *commit)
{
	if (!commit)
		return NULL;
	if (commit->txn)
		mdb_txn_abort(commit->txn);
	if (commit->error == -ENOSPC)
		space_drop_ballast(commit->store);
	give_chunks_back(commit);
	free(commit->chunks);
	free(commit->dead);
	free(commit);
	return NULL;
}

int store_presync(struct store *store)
{
	if (store_failed(store))
		return -EIO;
	return packs_sync(store);
}
