/*
 * The redo log: what makes fsync() cheap.
 *
 * A commit (index/commit.h) waits for the disk three times: for the packs, for the index, and for
 * the index's meta page.  A record of the redo log is one write to blocks that are there already,
 * and one wait.  It says what has changed in the state that commits carry since the record before,
 * or since the last commit that carried it, chunks with their bytes included; so the packs need not
 * be synced either.  After a crash the next opening for writing makes one commit of all records.
 *
 *   redo_prepare()      makes the log ready, or larger (slow, once in a while); no lock needed
 *   redo_begin()        -EAGAIN: make a commit instead
 *   redo_put_node() …   any number of changes, in memory
 *   redo_seal()         adds the counters and every chunk that is completely in a pack and in no
 *                       earlier record.  Call it while whatever refers to chunks is locked.
 *   redo_finish()       writes and syncs.  May be called with all locks released.
 *   redo_abort()        drops the record instead.  Accepts NULL; returns NULL.
 *
 * One record at a time, and none beside a commit that calls commit_settles_redo(): the caller has a
 * lock for both.  Other commits (a sweep) may go on beside.
 *
 * The first error of a redo_put… or redo_delete… sticks.  After redo_abort(), and after
 * redo_finish() failed, redo_begin() says -EAGAIN until a commit that calls commit_settles_redo()
 * is durable: what the record was to say is in no record.  -EAGAIN also of redo_seal() and
 * redo_finish(): there is no room, in the log or on the disk; nothing is lost, make that commit.
 * Any other error of writing or syncing fails the store (store_failed()).
 */
#ifndef CAIRN_INDEX_REDO_H
#define CAIRN_INDEX_REDO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index/reader.h"
#include "index/store.h"

struct redo;

enum { REDO_RECORD_MAX = 2 << 20 }; /* bytes; what is larger goes into a commit */

void redo_prepare(struct store *store);
int redo_begin(struct store *store, struct redo **ret);

/* As commit_put_node(); the last record that has a node counts. */
int redo_put_node(struct redo *redo, uint64_t id, uint8_t *node);
int redo_delete_nodes(struct redo *redo, const uint64_t *ids, size_t count);
int redo_put_record(struct redo *redo, enum table table, struct bytes key, struct bytes value);

int redo_seal(struct redo *redo);
int redo_finish(struct redo *redo);
struct redo *redo_abort(struct redo *redo);

/* Whether records wait for a commit (a hint where the lock mentioned above is not held). */
bool redo_is_used(struct store *store);

/* Reads the records that wait for a commit once more, under that lock: -EBADMSG where they are not
 * as they were written. */
int redo_verify(struct store *store);

#endif
