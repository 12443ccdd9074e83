/*
 * A store: one directory with an LMDB index, packs of chunks, and nothing else.
 *
 *   STORE/format          text: magic, format version, uuid, feature names
 *   STORE/index/          LMDB environment
 *   STORE/packs/NNNNNNNN  chunk records (eight hexadecimal digits)
 *   STORE/redo            redo log: what fsync made durable since the last commit
 *   STORE/ballast         space kept back for deleting on a full disk
 *   STORE/lock            flock: one process has the store open for writing
 *
 * index/FORMAT.md says what the bytes mean.
 *
 * Threads: everything here may be called from any thread unless said otherwise.
 * Errors: negative errno.  Damage: -EBADMSG (a checksum does not match), -EUCLEAN (an
 * impossible structure); -EOPNOTSUPP (a feature or version this build does not know).
 * After a failed sync the store is failed: every later commit returns -EIO until it is
 * closed and opened again (the state on disk is that of the last commit).
 */
#ifndef CAIRN_INDEX_STORE_H
#define CAIRN_INDEX_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "index/io.h"
#include "index/util/errbuf.h"

struct store;

enum codec { CODEC_NONE = 0, CODEC_LZ4 = 1, CODEC_ZSTD = 2 };

struct store_compression {
	enum codec codec;
	int level;	/* zstd: 1..19; otherwise 0 */
	int rest_level; /* of zstd, for what lies at rest: 1..19; REST_DEFAULT, REST_OFF */
};

enum {
	REST_DEFAULT = 0, /* a level of ours where chunks come in with lz4, otherwise as REST_OFF */
	REST_OFF = -1,	  /* chunks stay as they came in */
};

/* Parses "none", "lz4", "zstd", "zstd:LEVEL". -EINVAL with a message otherwise. */
int store_parse_compression(const char *text, struct store_compression *ret, struct errbuf *err);
/* Writes the same notation ("zstd:3") into a buffer of at least 16 bytes. */
void store_format_compression(const struct store_compression *compression, char ret[16]);
/* Parses what follows for chunks at rest, into `ret->rest_level`: "none", "zstd", "zstd:LEVEL". */
int store_parse_rest_compression(const char *text, struct store_compression *ret,
				 struct errbuf *err);

/*
 * Makes a new empty store in `directory` (made, with its parents, mode 0700, if missing; it
 * must be empty otherwise: -EEXIST where it already is a store, -ENOTEMPTY for anything
 * else).  Durable on return.  On failure nothing is left behind that was not there.
 * Refuses (-EOPNOTSUPP) a directory on a network or FUSE file system, where flock and mmap
 * cannot be relied on.
 */
int store_create(const char *directory, const struct store_compression *compression,
		 struct errbuf *err);

enum store_open_flags {
	STORE_READ_ONLY = 1 << 0, /* no lock is taken; also works beside a writer */
};

/*
 * Opens a store.  -ENOENT: there is none (no such directory, or no format file in it);
 * -EBUSY: another process has it open for writing (the message names its pid where known), or
 * this process has it open in whatever way (LMDB cannot have a file open twice in one process);
 * -EOPNOTSUPP: unknown version or feature; -EACCES; -EBADMSG/-EUCLEAN: damaged.
 * `io` may be NULL for io_system.  Opening cuts off what a crash left in the packs behind
 * the last commit, makes a commit of what waits in the redo log (index/redo.h), and finishes
 * punches that it interrupted; it needs no repair step.  Read-only opening has somebody do the
 * same: it opens the store for writing first where records wait and no writer is there.  Beside a
 * writer a reader sees the last commit.
 */
int store_open(const char *directory, unsigned flags, const struct io *io, struct store **ret,
	       struct errbuf *err);

/* Whether a process has the store open for writing at this moment; its pid, 0: not known.  False
 * also where there is no store.  For those who wait: it holds the lock itself for an instant. */
bool store_is_locked(const char *directory, int *ret_pid);

/* Closes without committing: what no commit made durable is gone.  Accepts NULL; returns NULL.
 * No reader may be open. */
struct store *store_close(struct store *store);

const char *store_directory(const struct store *store); /* absolute; lives as long as it */
const char *store_uuid(const struct store *store);
unsigned store_format_version(const struct store *store);
bool store_is_read_only(const struct store *store);
/* 0, or the negative errno of the sync that failed for good. */
int store_failed(const struct store *store);

void store_get_compression(struct store *store, struct store_compression *ret);
/* How chunks are to lie at rest (index/relocate.h): zstd, or CODEC_NONE where they stay as they came in. */
void store_get_rest_compression(struct store *store, struct store_compression *ret);
/* Applies to chunks stored from now on, and to those that come to rest from now on; durable with the
 * next commit. */
int store_set_compression(struct store *store, const struct store_compression *compression);

/* Whether files may lie scattered over the packs (snapshot/order.h).  A note for later openings:
 * durable with the next commit. */
bool store_is_scattered(struct store *store);
void store_note_scattered(struct store *store, bool scattered);

/*
 * Store-wide counters.  Each call hands out the next number, never the same twice in the life
 * of the store as far as any commit has seen it (I2).  The values reach the disk with the commit
 * that refers to them.  All start at 1, except inode numbers, which start at 16.
 */
enum store_counter {
	COUNTER_NODE,
	COUNTER_INODE,
	COUNTER_CHUNK,
	COUNTER_GENERATION,
	COUNTER_POINT,
	COUNTER_WORKSPACE,
	COUNTER_HOLD,
	STORE_COUNTERS /* how many */
};
uint64_t store_next(struct store *store, enum store_counter counter);
uint64_t store_peek(struct store *store, enum store_counter counter); /* the next, not taken */

struct store_statistics {
	uint64_t nodes; /* in the index */
	uint64_t chunks;
	uint64_t raw_bytes;    /* sum over chunks before compression: "unique bytes" */
	uint64_t stored_bytes; /* the same as they lie in the packs, headers included */
	uint64_t index_bytes;  /* disk space that the LMDB file takes */
	uint64_t pack_bytes;   /* disk space that packs take (st_blocks) */
	uint64_t free_bytes;   /* available to us on the store's file system */
	uint64_t total_bytes;  /* size of that file system */
	uint64_t commits;      /* sequence number of the last commit */
};
int store_statistics(struct store *store, struct store_statistics *ret);

/*
 * Space.  A writer reserves what it is about to keep in memory before it acknowledges it, so
 * that it hears -ENOSPC then and not when it is too late.  Reservations are bookkeeping against
 * the free space of the file system less a margin (enough for commits, deletes and gc); they
 * cost a statvfs every few MiB, not each time.  store_unreserve() when the data is stored or
 * dropped.  `store_space_low` says that less than four margins are left: new writers should
 * then write through.
 */
int store_reserve(struct store *store, uint64_t bytes);
void store_unreserve(struct store *store, uint64_t bytes);
bool store_space_low(struct store *store);

/*
 * Memory.  Pages of the index that were read count as memory of this process until they are given
 * back: where more than `keep` bytes of files are mapped in, the index's are (to the page cache;
 * nothing is lost, pointers stay good).  For a daemon, now and then.
 */
int store_trim_memory(struct store *store, uint64_t keep);

#endif
