/* A checker: whether all tables of the index agree with each other and with the packs. */
#ifndef CAIRN_TESTS_INDEX_CHECKING_H
#define CAIRN_TESTS_INDEX_CHECKING_H

#include "index_testing.h"

#include "index/store_internal.h"

enum { CHECK_RANGES = 20000, CHECK_PACKS = 5000 };

struct check {
	struct store *store;
	MDB_txn *txn;
	struct dead_range ranges[CHECK_RANGES]; /* of chunks and dead ones */
	size_t range_count;
	struct pack_entry packs[CHECK_PACKS]; /* by number, as the chunks have it */
	uint64_t chunks, raw_bytes, stored_bytes, unpunched;
};

static UNUSED void check_table(struct check *check, enum db db,
			       void (*visit)(struct check *, MDB_val *, MDB_val *))
{
	MDB_cursor *cursor;
	MDB_val key, value;

	assert_int_equal(mdb_cursor_open(check->txn, check->store->env.dbi[db], &cursor), 0);
	while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0)
		visit(check, &key, &value);
	mdb_cursor_close(cursor);
}

static UNUSED void check_one_chunk(struct check *check, MDB_val *key, MDB_val *value)
{
	static uint8_t buffer[CHUNK_MAX];
	struct errbuf err = {""};
	struct disk_hash_key disk;
	MDB_val hash = {sizeof(disk), &disk}, nothing;
	struct chunk_info info;
	struct pack_entry *pack;
	uint64_t id, size;
	size_t length;

	memcpy(&id, key->mv_data, sizeof(id));
	assert_ok(chunk_decode(id, value->mv_data, value->mv_size, &info));
	pending_key(&check->store->chunks, info.hash, disk.hash);
	put_be64(disk.id, id);
	assert_int_equal(mdb_get(check->txn, check->store->env.dbi[DB_HASHES], &hash, &nothing), 0);
	size = record_size(info.stored_length);
	assert_true(check->range_count < CHECK_RANGES && info.pack < CHECK_PACKS);
	check->ranges[check->range_count++] =
		(struct dead_range){.pack = info.pack, .offset = info.offset, .length = size};
	pack = &check->packs[info.pack];
	pack->live += size;
	pack->records++;
	check->chunks++;
	check->raw_bytes += info.raw_length;
	check->stored_bytes += size;
	if (chunk_read(check->store, id, buffer, sizeof(buffer), &length, &err) < 0)
		fail_msg("%s", err.text);
}

static UNUSED void check_one_dead(struct check *check, MDB_val *key, MDB_val *value)
{
	struct dead_range range;

	assert_ok(punch_decode(key->mv_data, key->mv_size, value->mv_data, value->mv_size, &range));
	check->unpunched += !range.punched;
	assert_true(check->range_count < CHECK_RANGES);
	check->ranges[check->range_count++] = range;
}

static UNUSED void check_one_pack(struct check *check, MDB_val *key, MDB_val *value)
{
	struct pack_entry entry;
	uint64_t number;

	memcpy(&number, key->mv_data, sizeof(number));
	assert_ok(pack_decode(number, value->mv_data, value->mv_size, &entry));
	assert_int_equal(entry.live, check->packs[number].live);
	assert_int_equal(entry.records, check->packs[number].records);
	for (size_t i = 0; i < check->range_count; i++) {
		const struct dead_range *range = &check->ranges[i];

		if (range->pack == number)
			assert_true(range->offset + range->length <= entry.length);
	}
	check->packs[number] = (struct pack_entry){0};
}

static UNUSED int check_by_place(const void *a, const void *b)
{
	const struct dead_range *x = a, *y = b;

	if (x->pack != y->pack)
		return x->pack < y->pack ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static UNUSED void check_store(struct store *store)
{
	struct check *check = calloc(1, sizeof(*check));
	struct store_statistics statistics;
	struct state state;
	MDB_stat hashes;

	assert_non_null(check);
	check->store = store;
	assert_int_equal(mdb_txn_begin(store->env.mdb, NULL, MDB_RDONLY, &check->txn), 0);
	check_table(check, DB_CHUNKS, check_one_chunk);
	check_table(check, DB_PUNCHES, check_one_dead);
	qsort(check->ranges, check->range_count, sizeof(*check->ranges), check_by_place);
	for (size_t i = 1; i < check->range_count; i++) {
		const struct dead_range *range = &check->ranges[i - 1];

		if (range->pack == range[1].pack)
			assert_true(range->offset + range->length <= range[1].offset);
	}
	check_table(check, DB_PACKS, check_one_pack);
	for (int i = 0; i < CHECK_PACKS; i++)
		assert_int_equal(check->packs[i].records, 0); /* every pack has an entry */
	assert_ok(env_get_state(&store->env, check->txn, &state));
	assert_int_equal(state.raw_bytes, check->raw_bytes);
	assert_int_equal(state.stored_bytes, check->stored_bytes);
	assert_int_equal(state.unpunched, check->unpunched);
	assert_int_equal(mdb_stat(check->txn, store->env.dbi[DB_HASHES], &hashes), 0);
	assert_int_equal(hashes.ms_entries, check->chunks);
	mdb_txn_abort(check->txn);
	assert_ok(store_statistics(store, &statistics));
	assert_int_equal(statistics.chunks, check->chunks);
	assert_int_equal(atomic_load(&store->order_violations), 0);
	free(check);
}

#endif
