/*
 * Pool of read transactions.
 *
 * An idle reader of the writer's process keeps its transaction as long as this sees the last
 * commit: it then holds back no page that the next commit could reuse (LMDB reuses what was
 * freed before the commit that the next one builds on), and acquiring it needs no call into LMDB.
 * After a commit readers_refresh() resets what is idle.  Beside a writer in another process
 * nobody tells us, so there each release resets.
 *
 * The memo of verified nodes is good for one commit: within it neither the place nor the bytes
 * of a node can change.
 */
#include "index/reader.h"

#include <errno.h>
#include <stdlib.h>

#include "index/store_internal.h"
#include "index/util/bytes.h"

enum { MEMO_SIZE = 512 };

struct memo {
	uint64_t id;
	const uint8_t *node;
};

struct reader {
	struct store *store;
	MDB_txn *txn; /* owned */
	bool live;    /* the transaction is not reset */
	uint64_t sequence;
	struct reader *next;
	struct memo memo[MEMO_SIZE]; /* of `sequence` */
};

int readers_init(struct store *store)
{
	return pthread_mutex_init(&store->readers.lock, NULL) == 0 ? 0 : -ENOMEM;
}

static struct reader *reader_free(struct reader *reader)
{
	if (reader->txn)
		mdb_txn_abort(reader->txn);
	free(reader);
	return NULL;
}

void readers_release(struct store *store)
{
	while (store->readers.idle) {
		struct reader *reader = store->readers.idle;

		store->readers.idle = reader->next;
		reader_free(reader);
	}
	pthread_mutex_destroy(&store->readers.lock);
}

void readers_refresh(struct store *store)
{
	uint64_t sequence = atomic_load(&store->sequence);

	pthread_mutex_lock(&store->readers.lock);
	for (struct reader *reader = store->readers.idle; reader; reader = reader->next) {
		if (reader->live && reader->sequence != sequence) {
			mdb_txn_reset(reader->txn);
			reader->live = false;
		}
	}
	pthread_mutex_unlock(&store->readers.lock);
}

/* Begins or renews the transaction. */
static int refresh(struct reader *reader)
{
	MDB_env *mdb = reader->store->env.mdb;
	uint64_t sequence;
	int dead, code;

	if (reader->live)
		mdb_txn_reset(reader->txn);
	reader->live = false;
	if (reader->txn)
		code = mdb_txn_renew(reader->txn);
	else
		code = mdb_txn_begin(mdb, NULL, MDB_RDONLY, &reader->txn);
	if (code == MDB_READERS_FULL && !reader->txn && mdb_reader_check(mdb, &dead) == 0 && dead)
		code = mdb_txn_begin(mdb, NULL, MDB_RDONLY, &reader->txn);
	if (code)
		return from_mdb(code);
	reader->live = true;
	sequence = mdb_txn_id(reader->txn);
	if (sequence != reader->sequence) {
		memset(reader->memo, 0, sizeof(reader->memo));
		reader->sequence = sequence;
	}
	return 0;
}

int reader_acquire(struct store *store, struct reader **ret)
{
	struct reader *reader;
	int r;

	pthread_mutex_lock(&store->readers.lock);
	reader = store->readers.idle;
	if (reader)
		store->readers.idle = reader->next;
	pthread_mutex_unlock(&store->readers.lock);

	if (!reader) {
		reader = calloc(1, sizeof(*reader));
		if (!reader)
			return -ENOMEM;
		reader->store = store;
	}
	if (!reader->live || reader->sequence != atomic_load(&store->sequence)) {
		r = refresh(reader);
		if (r < 0) {
			reader_free(reader);
			return r;
		}
	}
	*ret = reader;
	return 0;
}

struct reader *reader_release(struct reader *reader)
{
	struct store *store;

	if (!reader)
		return NULL;
	store = reader->store;
	if (store_is_read_only(store)) {
		mdb_txn_reset(reader->txn);
		reader->live = false;
	}
	pthread_mutex_lock(&store->readers.lock);
	/* A commit may have finished since; readers_refresh() did not see this one. */
	if (reader->live && reader->sequence != atomic_load(&store->sequence)) {
		mdb_txn_reset(reader->txn);
		reader->live = false;
	}
	reader->next = store->readers.idle;
	store->readers.idle = reader;
	pthread_mutex_unlock(&store->readers.lock);
	return NULL;
}

uint64_t reader_sequence(const struct reader *reader)
{
	return reader->sequence;
}

struct store *reader_store(const struct reader *reader)
{
	return reader->store;
}

MDB_txn *reader_txn(const struct reader *reader)
{
	return reader->txn;
}

int reader_node(struct reader *reader, uint64_t id, const uint8_t **ret)
{
	struct memo *memo = &reader->memo[id % MEMO_SIZE];
	MDB_val key = {sizeof(id), &id}, value;
	int r;

	if (!id)
		return -EUCLEAN;
	if (memo->id == id) {
		*ret = memo->node;
		return 0;
	}
	r = from_mdb(mdb_get(reader->txn, reader->store->env.dbi[DB_NODES], &key, &value));
	if (r < 0)
		return r == -ENOENT ? -EUCLEAN : r;
	if (value.mv_size != NODE_SIZE)
		return -EUCLEAN;
	if (get_le64(value.mv_data) != node_checksum(value.mv_data))
		return -EBADMSG;
	if (get_le64((const uint8_t *)value.mv_data + 8) != id)
		return -EUCLEAN;
	*memo = (struct memo){id, value.mv_data};
	*ret = value.mv_data;
	return 0;
}

int reader_chunk(struct reader *reader, uint64_t id, struct chunk_info *ret)
{
	MDB_val key = {sizeof(id), &id}, value;
	int r = from_mdb(mdb_get(reader->txn, reader->store->env.dbi[DB_CHUNKS], &key, &value));

	return r < 0 ? r : chunk_decode(id, value.mv_data, value.mv_size, ret);
}

uint64_t chunk_record_bytes(const struct chunk_info *info)
{
	return record_size(info->stored_length);
}

int reader_record(struct reader *reader, enum table table, struct bytes key,
		  struct bytes *ret_value)
{
	return record_get(&reader->store->env, reader->txn, table, key, ret_value);
}

int reader_records(struct reader *reader, enum table table, struct bytes prefix,
		   int (*visit)(struct bytes key, struct bytes value, void *context), void *context)
{
	return records_visit(&reader->store->env, reader->txn, table, prefix, visit, context);
}

int reader_records_from(struct reader *reader, enum table table, struct bytes from,
			enum records_order order,
			int (*visit)(struct bytes key, struct bytes value, void *context),
			void *context)
{
	return records_visit_from(&reader->store->env, reader->txn, table, from, order, visit,
				  context);
}
