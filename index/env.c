#include "index/env_internal.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Address space only: LMDB's file grows as pages are used. */
#define MAP_SIZE ((size_t)1 << 40)
#define MAP_SIZE_MIN ((size_t)1 << 30)

enum { MAX_READERS = 512, MAX_DBS = 16, UUID_LENGTH = 36, SMALLEST_FILE = 2 * 512 };

static const struct {
	const char *name;
	unsigned flags;
} tables[DB_COUNT] = {
	[DB_META] = {"meta", 0},
	[DB_NODES] = {"nodes", MDB_INTEGERKEY},
	[DB_CHUNKS] = {"chunks", MDB_INTEGERKEY},
	[DB_HASHES] = {"hashes", 0},
	[DB_PACKS] = {"packs", MDB_INTEGERKEY},
	[DB_PUNCHES] = {"punches", 0},
	[DB_WORKSPACES] = {"workspaces", 0},
	[DB_POINTS] = {"points", 0},
	[DB_NAMES] = {"names", 0},
	[DB_JOURNAL] = {"journal", 0},
};

int from_mdb(int code)
{
	if (code >= 0)
		return -code;
	switch (code) {
	case MDB_NOTFOUND:
		return -ENOENT;
	case MDB_KEYEXIST:
		return -EEXIST;
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_INVALID:
	case MDB_INCOMPATIBLE:
	case MDB_CURSOR_FULL:
	case MDB_PAGE_FULL:
		return -EUCLEAN;
	case MDB_VERSION_MISMATCH:
		return -EOPNOTSUPP;
	case MDB_MAP_FULL:
	case MDB_TXN_FULL:
		return -ENOSPC;
	case MDB_READERS_FULL:
	case MDB_MAP_RESIZED:
		return -EAGAIN;
	case MDB_BAD_VALSIZE:
		return -EINVAL;
	default: /* MDB_PANIC, and codes that only a bug of ours can cause */
		return -EIO;
	}
}

static int open_tables(struct env *env, unsigned txn_flags, unsigned create)
{
	MDB_txn *txn;
	int code = mdb_txn_begin(env->mdb, NULL, txn_flags, &txn);

	if (code)
		return from_mdb(code);
	for (int i = 0; i < DB_COUNT && !code; i++)
		code = mdb_dbi_open(txn, tables[i].name, tables[i].flags | create, &env->dbi[i]);
	if (code == MDB_NOTFOUND)
		code = MDB_INVALID;
	if (code) {
		mdb_txn_abort(txn);
		return from_mdb(code);
	}
	return from_mdb(mdb_txn_commit(txn)); /* keeps the handles, also of a read */
}

/*
 * Readahead stays on (no MDB_NORDAHEAD).  Measured with 60,000 cold nodes: 12 us a node in order of
 * id, against 65 to 90 us without; 70 to 100 us at random either way, because the kernel stops
 * reading around where that keeps missing.
 */
static int make_env_of(const char *path, unsigned flags, size_t map_size, MDB_env **ret)
{
	MDB_env *mdb;
	int code = mdb_env_create(&mdb);

	if (code)
		return from_mdb(code);
	if (!(code = mdb_env_set_mapsize(mdb, map_size)) &&
	    !(code = mdb_env_set_maxreaders(mdb, MAX_READERS)) &&
	    !(code = mdb_env_set_maxdbs(mdb, MAX_DBS)))
		code = mdb_env_open(mdb, path, MDB_NOTLS | flags, 0600);
	if (code) {
		mdb_env_close(mdb);
		return from_mdb(code);
	}
	*ret = mdb;
	return 0;
}

/* Where the address space is limited (ulimit -v; valgrind, which says EINVAL) the map is as large
 * as it may be. */
static int make_env(const char *path, unsigned flags, MDB_env **ret)
{
	size_t size = MAP_SIZE;
	int r = make_env_of(path, flags, size, ret);

	while ((r == -ENOMEM || r == -EINVAL) && size / 4 >= MAP_SIZE_MIN) {
		size /= 4;
		r = make_env_of(path, flags, size, ret);
	}
	return r;
}

/* LMDB would take a missing or empty file for a new environment. */
static int check_file(const char *path, struct errbuf *err)
{
	char name[PATH_MAX];
	struct stat st;

	if (snprintf(name, sizeof(name), "%s/data.mdb", path) >= (int)sizeof(name))
		return err_set(err, -ENAMETOOLONG, "the path of the store is too long: %s", path);
	if (stat(name, &st) < 0 && errno != ENOENT)
		return err_set(err, -errno, "cannot look at %s: %s", name, strerror(errno));
	if (access(name, F_OK) < 0 || st.st_size < SMALLEST_FILE)
		return err_set(err, -EUCLEAN,
			       "the index of the store is missing or empty (%s): "
			       "bring it back from a backup",
			       name);
	return 0;
}

/* How many bytes the file of the index is shorter than its pages need. */
static int missing_bytes(MDB_env *mdb, int *ret_fd, off_t *ret_size, off_t *ret_missing)
{
	MDB_envinfo info;
	MDB_stat stat;
	struct stat st;
	int r = from_mdb(mdb_env_info(mdb, &info));

	if (r == 0)
		r = from_mdb(mdb_env_stat(mdb, &stat));
	if (r == 0)
		r = from_mdb(mdb_env_get_fd(mdb, ret_fd));
	if (r == 0 && fstat(*ret_fd, &st) < 0)
		r = -errno;
	if (r < 0)
		return r;
	*ret_size = (off_t)(info.me_last_pgno + 1) * (off_t)stat.ms_psize;
	*ret_missing = *ret_size > st.st_size ? *ret_size - st.st_size : 0;
	return 0;
}

int env_extend(struct env *env)
{
	off_t size, missing;
	int fd;
	int r = missing_bytes(env->mdb, &fd, &size, &missing);

	if (r < 0 || !missing)
		return r;
	return ftruncate(fd, size) < 0 ? -errno : 0;
}

/* A reader cannot extend the file.  It waits for a writer who is just about to. */
static int check_not_cut_off(struct env *env, struct errbuf *err)
{
	const struct timespec pause = {0, 20 * 1000 * 1000};
	off_t size, missing = 0;
	int fd;

	for (int attempt = 0; attempt < 5; attempt++) {
		int r = missing_bytes(env->mdb, &fd, &size, &missing);

		if (r < 0 || !missing)
			return r;
		nanosleep(&pause, NULL);
	}
	return err_set(
		err, -EUCLEAN,
		"the index of the store is cut off (%lld bytes are missing at its end): open "
		"the store for writing once, or bring the index back from a backup",
		(long long)missing);
}

int env_open(const char *path, bool read_only, struct env *ret, struct errbuf *err)
{
	struct env env = {0};
	int r = check_file(path, err);

	if (r < 0)
		return r;
	r = make_env(path, read_only ? MDB_RDONLY : 0, &env.mdb);
	if (r < 0)
		return err_set(err, r == -ENOENT ? -EUCLEAN : r,
			       "cannot open the index of the store (%s): %s", path,
			       r == -EUCLEAN ? "it is damaged" : strerror(-r));
	if (read_only)
		r = check_not_cut_off(&env, err);
	else if ((r = env_extend(&env)) < 0)
		err_set(err, r, "cannot extend the index of the store (%s): %s", path,
			strerror(-r));
	if (r == 0) {
		r = open_tables(&env, read_only ? MDB_RDONLY : 0, 0);
		if (r < 0)
			err_set(err, r, "cannot read the index of the store (%s): %s", path,
				r == -EUCLEAN ? "a table is missing or damaged" : strerror(-r));
	}
	if (r < 0) {
		mdb_env_close(env.mdb);
		return r;
	}
	*ret = env;
	return 0;
}

static MDB_val text_val(const char *text)
{
	return (MDB_val){strlen(text), (void *)(uintptr_t)text};
}

static int put_first(struct env *env, const char *uuid, const struct state *state)
{
	MDB_val key = text_val("uuid"), value = text_val(uuid);
	MDB_txn *txn;
	int r = from_mdb(mdb_txn_begin(env->mdb, NULL, 0, &txn));

	if (r < 0)
		return r;
	r = from_mdb(mdb_put(txn, env->dbi[DB_META], &key, &value, 0));
	if (r == 0)
		r = env_put_state(env, txn, state);
	if (r < 0) {
		mdb_txn_abort(txn);
		return r;
	}
	return from_mdb(mdb_txn_commit(txn));
}

int env_create(const char *path, const char *uuid, const struct state *state)
{
	struct env env = {0};
	int r = make_env(path, 0, &env.mdb);

	if (r < 0)
		return r;
	r = open_tables(&env, 0, MDB_CREATE);
	if (r == 0)
		r = put_first(&env, uuid, state);
	env_close(&env);
	return r;
}

void env_close(struct env *env)
{
	if (env->mdb)
		mdb_env_close(env->mdb);
	env->mdb = NULL;
}

int env_get_state(const struct env *env, MDB_txn *txn, struct state *ret)
{
	MDB_val key = text_val("state"), value;
	int r = from_mdb(mdb_get(txn, env->dbi[DB_META], &key, &value));

	if (r < 0)
		return r == -ENOENT ? -EUCLEAN : r;
	return state_decode(value.mv_data, value.mv_size, ret);
}

int env_put_state(const struct env *env, MDB_txn *txn, const struct state *state)
{
	struct disk_state disk;
	MDB_val key = text_val("state"), old;
	MDB_val value = {sizeof(disk), &disk};

	state_encode(state, &disk);
	if (mdb_get(txn, env->dbi[DB_META], &key, &old) == 0 && old.mv_size == sizeof(disk) &&
	    memcmp(old.mv_data, &disk, sizeof(disk)) == 0)
		return 0;
	return from_mdb(mdb_put(txn, env->dbi[DB_META], &key, &value, 0));
}

int env_check_uuid(const struct env *env, MDB_txn *txn, const char *uuid)
{
	MDB_val key = text_val("uuid"), value;
	int r = from_mdb(mdb_get(txn, env->dbi[DB_META], &key, &value));

	if (r < 0)
		return r == -ENOENT ? -EUCLEAN : r;
	return value.mv_size == UUID_LENGTH && memcmp(value.mv_data, uuid, UUID_LENGTH) == 0
		       ? 0
		       : -EUCLEAN;
}

int env_last_id(const struct env *env, MDB_txn *txn, enum db db, uint64_t *ret)
{
	MDB_cursor *cursor;
	MDB_val key, value;
	int r = from_mdb(mdb_cursor_open(txn, env->dbi[db], &cursor));

	if (r < 0)
		return r;
	r = from_mdb(mdb_cursor_get(cursor, &key, &value, MDB_LAST));
	if (r == 0 && key.mv_size != sizeof(*ret))
		r = -EUCLEAN;
	if (r == 0)
		memcpy(ret, key.mv_data, sizeof(*ret));
	else if (r == -ENOENT)
		*ret = 0;
	mdb_cursor_close(cursor);
	return r == -ENOENT ? 0 : r;
}
