#include <errno.h>
#include <string.h>

#include "index/store_internal.h"
#include "index/util/bytes.h"

_Static_assert(DB_WORKSPACES + TABLE_POINTS == DB_POINTS, "order of tables");
_Static_assert(DB_WORKSPACES + TABLE_NAMES == DB_NAMES, "order of tables");
_Static_assert(DB_WORKSPACES + TABLE_JOURNAL == DB_JOURNAL, "order of tables");

enum db record_db(enum table table)
{
	return DB_WORKSPACES + (enum db)table;
}

/* Checks what was stored and takes the checksum off. */
static int unwrap(struct bytes key, const MDB_val *stored, struct bytes *ret)
{
	struct bytes value = {stored->mv_data, stored->mv_size - RECORD_TRAILER};

	if (stored->mv_size < RECORD_TRAILER)
		return -EUCLEAN;
	if (get_le64((const uint8_t *)stored->mv_data + value.length) != value_checksum(key, value))
		return -EBADMSG;
	*ret = value;
	return 0;
}

int record_get(const struct env *env, MDB_txn *txn, enum table table, struct bytes key,
	       struct bytes *ret_value)
{
	MDB_val mdb_key = {key.length, (void *)(uintptr_t)key.data}, stored;
	int r;

	if (!key.length || key.length > RECORD_KEY_MAX)
		return -EINVAL;
	r = from_mdb(mdb_get(txn, env->dbi[record_db(table)], &mdb_key, &stored));
	return r < 0 ? r : unwrap(key, &stored, ret_value);
}

static int visit_prefix(MDB_cursor *cursor, struct bytes prefix,
			int (*visit)(struct bytes key, struct bytes value, void *context),
			void *context)
{
	MDB_val mdb_key = {prefix.length, (void *)(uintptr_t)prefix.data}, stored;
	MDB_cursor_op op = prefix.length ? MDB_SET_RANGE : MDB_FIRST;
	struct bytes key, value;
	int r;

	while ((r = from_mdb(mdb_cursor_get(cursor, &mdb_key, &stored, op))) == 0) {
		op = MDB_NEXT;
		key = (struct bytes){mdb_key.mv_data, mdb_key.mv_size};
		if (key.length < prefix.length ||
		    (prefix.length && memcmp(key.data, prefix.data, prefix.length) != 0))
			return 0;
		r = unwrap(key, &stored, &value);
		if (r == 0)
			r = visit(key, value, context);
		if (r != 0)
			return r;
	}
	return r == -ENOENT ? 0 : r;
}

int records_visit(const struct env *env, MDB_txn *txn, enum table table, struct bytes prefix,
		  int (*visit)(struct bytes key, struct bytes value, void *context), void *context)
{
	MDB_cursor *cursor;
	int r;

	if (prefix.length > RECORD_KEY_MAX)
		return -EINVAL;
	r = from_mdb(mdb_cursor_open(txn, env->dbi[record_db(table)], &cursor));
	if (r < 0)
		return r;
	r = visit_prefix(cursor, prefix, visit, context);
	mdb_cursor_close(cursor);
	return r;
}

/* Moves to the record at which a walk from `from` begins. */
static int cursor_start(MDB_cursor *cursor, struct bytes from, enum records_order order,
			MDB_val *ret_key, MDB_val *ret_stored)
{
	MDB_val key = {from.length, (void *)(uintptr_t)from.data};
	int r;

	if (!from.length)
		return from_mdb(mdb_cursor_get(cursor, ret_key, ret_stored,
					       order == RECORDS_UP ? MDB_FIRST : MDB_LAST));
	r = from_mdb(mdb_cursor_get(cursor, &key, ret_stored, MDB_SET_RANGE));
	*ret_key = key;
	if (order == RECORDS_UP)
		return r;
	if (r == -ENOENT)
		return from_mdb(mdb_cursor_get(cursor, ret_key, ret_stored, MDB_LAST));
	if (r < 0 ||
	    (key.mv_size == from.length && memcmp(key.mv_data, from.data, from.length) == 0))
		return r;
	return from_mdb(mdb_cursor_get(cursor, ret_key, ret_stored, MDB_PREV));
}

static int visit_from(MDB_cursor *cursor, struct bytes from, enum records_order order,
		      int (*visit)(struct bytes key, struct bytes value, void *context),
		      void *context)
{
	MDB_cursor_op on = order == RECORDS_UP ? MDB_NEXT : MDB_PREV;
	MDB_val mdb_key, stored;
	int r = cursor_start(cursor, from, order, &mdb_key, &stored);

	while (r == 0) {
		struct bytes key = {mdb_key.mv_data, mdb_key.mv_size}, value;

		r = unwrap(key, &stored, &value);
		if (r == 0)
			r = visit(key, value, context);
		if (r != 0)
			return r;
		r = from_mdb(mdb_cursor_get(cursor, &mdb_key, &stored, on));
	}
	return r == -ENOENT ? 0 : r;
}

int records_visit_from(const struct env *env, MDB_txn *txn, enum table table, struct bytes from,
		       enum records_order order,
		       int (*visit)(struct bytes key, struct bytes value, void *context),
		       void *context)
{
	MDB_cursor *cursor;
	int r;

	if (from.length > RECORD_KEY_MAX)
		return -EINVAL;
	r = from_mdb(mdb_cursor_open(txn, env->dbi[record_db(table)], &cursor));
	if (r < 0)
		return r;
	r = visit_from(cursor, from, order, visit, context);
	mdb_cursor_close(cursor);
	return r;
}
