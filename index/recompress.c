/*
 * Recompression at rest: one pass over the chunks that came since the last one.
 *
 * Ids grow, and a pass looks at each once, whatever comes of it; so one number says how far it
 * got.  What is not yet committed may have smaller ids than what is, so a pass ends before it.
 */
#include <errno.h>
#include <string.h>

#include "index/relocate.h"
#include "index/store_internal.h"

enum {
	SLICE = 64,   /* chunks looked up with one reader */
	SCAN = 65536, /* entries walked over with one reader, so that it does not grow old */
	PASS_EVERY = 1 << 16, /* ids: progress is noted even where nothing was moved */
};

struct pass {
	struct store *store;
	struct relocation *relocation; /* owned */
	uint64_t position, limit;      /* the next id to look at, and the end */
	uint64_t noted;
	uint64_t ids[SLICE];
	size_t count;
};

static uint64_t end_of_pass(struct store *store)
{
	struct pending_table *table = &store->chunks;
	uint64_t end;

	pthread_mutex_lock(&table->lock);
	end = pending_first_id(table, store_peek(store, COUNTER_CHUNK));
	pthread_mutex_unlock(&table->lock);
	return end;
}

static int read_position(struct store *store, uint64_t *ret)
{
	struct reader *reader;
	struct state state;
	int r = reader_acquire(store, &reader);

	if (r < 0)
		return r;
	r = env_get_state(&store->env, reader_txn(reader), &state);
	reader_release(reader);
	if (r == 0)
		*ret = state.treated ? state.treated : 1;
	return r;
}

/* The next chunks that may gain.  Entries that do not decode are the checker's. */
static int scan(struct pass *pass)
{
	uint64_t id = pass->position;
	MDB_val key = {sizeof(id), &id}, value;
	MDB_cursor_op op = MDB_SET_RANGE;
	struct chunk_info info;
	struct reader *reader;
	MDB_cursor *cursor;
	int looked = 0, r = reader_acquire(pass->store, &reader);

	if (r < 0)
		return r;
	pass->count = 0;
	r = from_mdb(mdb_cursor_open(reader_txn(reader), pass->store->env.dbi[DB_CHUNKS], &cursor));
	if (r == 0) {
		while (pass->count < SLICE && looked++ < SCAN) {
			r = from_mdb(mdb_cursor_get(cursor, &key, &value, op));
			if (r < 0)
				break;
			op = MDB_NEXT;
			memcpy(&id, key.mv_data, sizeof(id));
			if (id >= pass->limit) {
				r = -ENOENT;
				break;
			}
			pass->position = id + 1;
			if (chunk_decode(id, value.mv_data, value.mv_size, &info) == 0 &&
			    info.codec != CODEC_ZSTD)
				pass->ids[pass->count++] = id;
		}
		mdb_cursor_close(cursor);
	}
	reader_release(reader);
	if (r == -ENOENT)
		pass->position = pass->limit;
	return r == -ENOENT ? 0 : r;
}

/* Stopped in the middle of a slice, its beginning is what was done. */
static int treat(struct pass *pass, relocate_progress *progress, void *context, bool *ret_stopped)
{
	for (size_t i = 0; i < pass->count; i++) {
		int r;

		if (progress && progress(pass->ids[i], pass->limit, context)) {
			pass->position = pass->ids[i];
			*ret_stopped = true;
			return 0;
		}
		r = relocation_add(pass->relocation, pass->ids[i], false);
		if (r < 0) {
			pass->position = pass->ids[i];
			return r;
		}
		relocation_pass(pass->relocation, pass->ids[i] + 1);
	}
	return 0;
}

static int run(struct pass *pass, relocate_progress *progress, void *context)
{
	bool stopped = false;
	int r = 0;

	pass->noted = pass->position;
	while (r == 0 && !stopped && pass->position < pass->limit) {
		r = scan(pass);
		if (r == 0)
			r = treat(pass, progress, context, &stopped);
		if (r == 0 && !stopped && pass->position - pass->noted > PASS_EVERY) {
			relocation_pass(pass->relocation, pass->position);
			r = relocation_flush(pass->relocation);
			pass->noted = pass->position;
		}
	}
	if (r == 0) {
		relocation_pass(pass->relocation, pass->position);
		r = relocation_flush(pass->relocation);
	}
	return r;
}

int relocate_recompress(struct store *store, relocate_progress *progress, void *context,
			struct relocation_result *ret)
{
	struct pass pass = {.store = store, .limit = end_of_pass(store)};
	struct relocation_result result = {0};
	struct store_compression compression;
	int r;

	store_get_rest_compression(store, &compression);
	if (compression.codec == CODEC_NONE) {
		*ret = result;
		return 0;
	}
	r = read_position(store, &pass.position);
	if (r == 0 && pass.position < pass.limit) {
		r = relocation_begin(store, &pass.relocation);
		if (r == 0)
			r = run(&pass, progress, context);
		relocation_end(pass.relocation, &result);
	}
	*ret = result;
	return r;
}

uint64_t relocate_waiting(struct store *store)
{
	struct store_compression compression;
	uint64_t position, limit = end_of_pass(store);

	store_get_rest_compression(store, &compression);
	if (compression.codec == CODEC_NONE || read_position(store, &position) < 0)
		return 0;
	return limit > position ? limit - position : 0;
}
