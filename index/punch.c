/*
 * Dead ranges: what no chunk refers to any more, one entry for each maximal run of dead records
 * in a pack.  Runs that touch become one, because only whole blocks can be punched, and a block
 * at the border of two runs is free only when both are dead.
 *
 * An entry is made by the commit that forgets its chunks, and punched once that is durable (I3);
 * a later commit notes that.  Punching twice does no harm, so that a crash in between costs
 * nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "index/commit_internal.h"
#include "index/util/bytes.h"

static void encode_key(uint64_t pack, uint64_t offset, struct disk_punch_key *ret)
{
	put_be64(ret->pack, pack);
	put_be64(ret->offset, offset);
}

static int get_range(MDB_cursor *cursor, MDB_cursor_op op, const struct disk_punch_key *from,
		     struct dead_range *ret)
{
	MDB_val key = {sizeof(*from), (void *)(uintptr_t)from}, value;
	int r = from_mdb(mdb_cursor_get(cursor, &key, &value, op));

	return r < 0 ? r
		     : punch_decode(key.mv_data, key.mv_size, value.mv_data, value.mv_size, ret);
}

static int put_range(struct store *store, MDB_txn *txn, const struct dead_range *range)
{
	struct disk_punch_key disk_key;
	struct disk_punch disk;
	MDB_val key = {sizeof(disk_key), &disk_key}, value = {sizeof(disk), &disk};

	punch_encode(range, &disk_key, &disk);
	return from_mdb(mdb_put(txn, store->env.dbi[DB_PUNCHES], &key, &value, 0));
}

static int delete_range(struct store *store, MDB_txn *txn, struct state *state,
			const struct dead_range *range)
{
	struct disk_punch_key disk_key;
	MDB_val key = {sizeof(disk_key), &disk_key};
	int r;

	encode_key(range->pack, range->offset, &disk_key);
	r = from_mdb(mdb_del(txn, store->env.dbi[DB_PUNCHES], &key, NULL));
	if (r == 0 && !range->punched && state->unpunched)
		state->unpunched--;
	return r;
}

/* Finds the entries just before and behind.  Where there is none, or it is damaged, the length
 * returned is 0. */
static int find_neighbours(struct store *store, MDB_txn *txn, const struct dead_range *range,
			   struct dead_range *ret_before, struct dead_range *ret_behind)
{
	struct disk_punch_key from;
	MDB_cursor *cursor;
	int r = from_mdb(mdb_cursor_open(txn, store->env.dbi[DB_PUNCHES], &cursor));

	if (r < 0)
		return r;
	*ret_before = *ret_behind = (struct dead_range){0};
	encode_key(range->pack, range->offset, &from);
	r = get_range(cursor, MDB_SET_RANGE, &from, ret_behind);
	if (r == -ENOENT)
		get_range(cursor, MDB_LAST, NULL, ret_before);
	else
		get_range(cursor, MDB_PREV, NULL, ret_before);
	mdb_cursor_close(cursor);
	if (ret_before->pack != range->pack)
		ret_before->length = 0;
	if (ret_behind->pack != range->pack)
		ret_behind->length = 0;
	return 0;
}

int punch_add(struct store *store, MDB_txn *txn, struct state *state, uint64_t pack,
	      uint64_t offset, uint64_t length)
{
	struct dead_range range = {.pack = pack, .offset = offset, .length = length};
	struct dead_range before, behind;
	int r = find_neighbours(store, txn, &range, &before, &behind);

	if (r < 0)
		return r;
	if ((before.length && before.offset + before.length > offset) ||
	    (behind.length && behind.offset < offset + length))
		return -EUCLEAN; /* dead twice */
	if (behind.length && behind.offset == offset + length) {
		r = delete_range(store, txn, state, &behind);
		range.length += behind.length;
	}
	if (r == 0 && before.length && before.offset + before.length == offset) {
		r = delete_range(store, txn, state, &before);
		range.offset = before.offset;
		range.length += before.length;
	}
	if (r == 0)
		r = put_range(store, txn, &range);
	if (r == 0)
		state->unpunched++;
	return r;
}

int punch_forget_pack(struct store *store, MDB_txn *txn, struct state *state, uint64_t pack)
{
	struct disk_punch_key from;
	struct dead_range range;
	MDB_cursor *cursor;
	int r = from_mdb(mdb_cursor_open(txn, store->env.dbi[DB_PUNCHES], &cursor));

	if (r < 0)
		return r;
	encode_key(pack, 0, &from);
	while ((r = get_range(cursor, MDB_SET_RANGE, &from, &range)) == 0 && range.pack == pack) {
		if (!range.punched && state->unpunched)
			state->unpunched--;
		r = from_mdb(mdb_cursor_del(cursor, 0));
		if (r < 0)
			break;
	}
	mdb_cursor_close(cursor);
	return r == -ENOENT ? 0 : r;
}

/* ---- records that no chunk refers to any more ---- */

static int by_place(const void *a, const void *b)
{
	const struct dead_range *x = a, *y = b;

	if (x->pack != y->pack)
		return x->pack < y->pack ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Adds dead[0 … count) of one pack, records that touch as one. */
static int add_ranges(struct commit *commit, const struct dead_range *dead, size_t count)
{
	size_t at = 0;
	int r = 0;

	while (r == 0 && at < count) {
		struct dead_range range = dead[at++];

		while (at < count && dead[at].offset == range.offset + range.length)
			range.length += dead[at++].length;
		r = punch_add(commit->store, commit->txn, &commit->state, range.pack, range.offset,
			      range.length);
	}
	return r;
}

/* Takes records of one pack off its entry; the pack goes when nothing is left alive. */
static int forget_in_pack(struct commit *commit, const struct dead_range *dead, size_t count,
			  bool *ret_removed)
{
	struct store *store = commit->store;
	uint64_t number = dead[0].pack;
	MDB_val key = {sizeof(number), &number};
	struct pack_entry entry;
	int r = pack_entry_get(store, commit->txn, number, &entry);

	if (r < 0)
		return r == -ENOENT ? -EUCLEAN : r;
	for (size_t i = 0; i < count; i++) {
		if (entry.live < dead[i].length || !entry.records)
			return -EUCLEAN;
		entry.live -= dead[i].length;
		entry.records--;
	}
	*ret_removed = !entry.live && pack_is_idle(store, number);
	if (!*ret_removed) {
		r = pack_entry_put(store, commit->txn, number, &entry);
		return r < 0 ? r : add_ranges(commit, dead, count);
	}
	r = from_mdb(mdb_del(commit->txn, store->env.dbi[DB_PACKS], &key, NULL));
	return r < 0 ? r : punch_forget_pack(store, commit->txn, &commit->state, number);
}

int dead_forget(struct commit *commit, struct dead_range *dead, size_t count, uint64_t *ret_removed,
		size_t *ret_removed_count)
{
	size_t at = 0;
	int r = 0;

	*ret_removed_count = 0;
	qsort(dead, count, sizeof(*dead), by_place);
	while (r == 0 && at < count) {
		size_t end = at + 1;
		bool removed;

		while (end < count && dead[end].pack == dead[at].pack)
			end++;
		r = forget_in_pack(commit, &dead[at], end - at, &removed);
		if (r == 0 && removed)
			ret_removed[(*ret_removed_count)++] = dead[at].pack;
		at = end;
	}
	return r;
}

/* ---- punching ---- */

enum { AT_ONCE = 256 };

/* Collects entries that are to be punched, from `*position` on; moves it behind them. */
static int collect(struct store *store, struct disk_punch_key *position, struct dead_range *ranges,
		   size_t *ret_count)
{
	MDB_cursor_op op = MDB_SET_RANGE;
	struct dead_range range;
	struct reader *reader;
	MDB_cursor *cursor;
	size_t count = 0;
	int r = reader_acquire(store, &reader);

	if (r < 0)
		return r;
	r = from_mdb(mdb_cursor_open(reader_txn(reader), store->env.dbi[DB_PUNCHES], &cursor));
	if (r == 0) {
		while (count < AT_ONCE) {
			r = get_range(cursor, op, position, &range);
			op = MDB_NEXT;
			if (r == -EBADMSG || r == -EUCLEAN)
				continue; /* what is damaged is better not punched */
			if (r < 0)
				break;
			encode_key(range.pack, range.offset + 1, position);
			if (!range.punched)
				ranges[count++] = range;
		}
		mdb_cursor_close(cursor);
	}
	reader_release(reader);
	if (r < 0 && r != -ENOENT)
		return r;
	*ret_count = count;
	return 0;
}

static int punch(struct store *store, struct dead_range *range)
{
	uint64_t begin = (range->offset + PUNCH_BLOCK - 1) / PUNCH_BLOCK * PUNCH_BLOCK;
	uint64_t end = (range->offset + range->length) / PUNCH_BLOCK * PUNCH_BLOCK;
	int r = 0;

	if (begin < end)
		r = pack_punch(store, range->pack, begin, end - begin);
	/* Where the file system cannot, or the pack is lost, trying again would not help. */
	if (r == 0 || r == -EOPNOTSUPP || r == -ENOSYS || r == -ENOENT)
		range->punched = true;
	return range->punched ? 0 : r;
}

/* Notes what was punched, unless the entry has grown since. */
static int note(struct store *store, const struct dead_range *ranges, size_t count)
{
	struct commit *commit;
	struct state *state;
	int r = commit_begin(store, &commit);

	if (r < 0)
		return r;
	r = commit_state(commit, &state);
	for (size_t i = 0; i < count && r == 0; i++) {
		struct disk_punch_key disk_key;
		MDB_val key = {sizeof(disk_key), &disk_key}, value;
		struct dead_range now;

		if (!ranges[i].punched)
			continue;
		encode_key(ranges[i].pack, ranges[i].offset, &disk_key);
		if (mdb_get(commit->txn, store->env.dbi[DB_PUNCHES], &key, &value) != 0 ||
		    punch_decode(&disk_key, sizeof(disk_key), value.mv_data, value.mv_size, &now) <
			    0 ||
		    now.punched || now.length != ranges[i].length)
			continue;
		r = commit_note(commit, put_range(store, commit->txn, &ranges[i]));
		if (state->unpunched)
			state->unpunched--;
	}
	if (r == 0)
		r = commit_seal_alone(commit);
	if (r < 0) {
		commit_abort(commit);
		return r;
	}
	return commit_finish(commit);
}

static int is_anything_to_punch(struct store *store)
{
	struct reader *reader;
	struct state state;
	int r = reader_acquire(store, &reader);

	if (r < 0)
		return r;
	r = env_get_state(&store->env, reader_txn(reader), &state);
	reader_release(reader);
	return r < 0 ? r : state.unpunched != 0;
}

int punch_run(struct store *store)
{
	struct disk_punch_key position;
	struct dead_range *ranges;
	size_t count = 0;
	int failure = 0, r = is_anything_to_punch(store);

	if (r <= 0)
		return r;
	ranges = reallocarray(NULL, AT_ONCE, sizeof(*ranges));
	if (!ranges)
		return -ENOMEM;
	encode_key(0, 0, &position);
	do {
		r = collect(store, &position, ranges, &count);
		for (size_t i = 0; i < count && r == 0; i++) {
			int error = punch(store, &ranges[i]);

			if (error < 0 && !failure)
				failure = error;
		}
		if (r == 0 && count) {
			commit_give_way(store);
			r = note(store, ranges, count);
		}
	} while (r == 0 && count == AT_ONCE);
	free(ranges);
	return r < 0 ? r : failure;
}
