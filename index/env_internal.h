/* The LMDB environment of a store: opening, tables, and the one door for its codes. */
#ifndef CAIRN_INDEX_ENV_INTERNAL_H
#define CAIRN_INDEX_ENV_INTERNAL_H

#include <lmdb.h>
#include <stdbool.h>

#include "index/format_internal.h"
#include "index/util/errbuf.h"

enum db {
	DB_META,
	DB_NODES,
	DB_CHUNKS,
	DB_HASHES,
	DB_PACKS,
	DB_PUNCHES,
	DB_WORKSPACES,
	DB_POINTS,
	DB_NAMES,
	DB_JOURNAL,
	DB_COUNT
};

struct env {
	MDB_env *mdb;
	MDB_dbi dbi[DB_COUNT];
};

/* LMDB reports errno values as positive numbers and its own codes as negative ones. */
int from_mdb(int code);

/* Opens the environment in the existing directory `path` and its tables (all must be there). */
int env_open(const char *path, bool read_only, struct env *ret, struct errbuf *err);
/* Makes a new environment with empty tables, the state and the uuid. Durable on return. */
int env_create(const char *path, const char *uuid, const struct state *state);
void env_close(struct env *env);

/*
 * Makes the file as long as its pages need.  LMDB does not write pages that a transaction took
 * at the end of the file and freed again; whoever touched them in the map (after damage to a
 * tree, say) would get SIGBUS.  Done at open and after each commit.
 */
int env_extend(struct env *env);

int env_get_state(const struct env *env, MDB_txn *txn, struct state *ret);
/* Writes the state unless it is what is there already. */
int env_put_state(const struct env *env, MDB_txn *txn, const struct state *state);
/* The largest id in a table of ids; 0 where it is empty. */
int env_last_id(const struct env *env, MDB_txn *txn, enum db db, uint64_t *ret);
int env_check_uuid(const struct env *env, MDB_txn *txn, const char *uuid);

#endif
