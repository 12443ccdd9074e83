/*
 * Reading the index: one LMDB read transaction, borrowed by one thread at a time.
 *
 * A pointer that a reader gave out points into the memory map and dies when the reader is
 * released.  Acquire, do one operation, release: an old reader holds back the reuse of pages.
 * Readers come from a pool; acquiring one costs about as much as an uncontended lock.
 *
 * -EAGAIN: too many readers at once (several hundred).
 *
 * A reader acquired after a commit finished sees it.  It remembers which nodes it has verified
 * within the same commit, so that walking the same path twice costs one checksum.
 */
#ifndef CAIRN_INDEX_READER_H
#define CAIRN_INDEX_READER_H

#include <stddef.h>
#include <stdint.h>

#include "index/store.h"

struct reader;

int reader_acquire(struct store *store, struct reader **ret);
struct reader *reader_release(struct reader *reader);  /* accepts NULL; returns NULL */
uint64_t reader_sequence(const struct reader *reader); /* number of the commit it sees */
struct store *reader_store(const struct reader *reader);

enum { NODE_SIZE = 4080 };

/* A node of the tree, its checksum and id verified: NODE_SIZE bytes in the map.
 * -EUCLEAN: there is no such node (a tree refers to it, so that is damage); -EBADMSG.
 * The first 8 bytes of a node are the XXH3-64 of the other 4072, the next 8 its id, both little
 * endian; index/ knows no more of its inside. */
int reader_node(struct reader *reader, uint64_t id, const uint8_t **ret);

/* What the index knows of a chunk. */
struct chunk_info {
	uint64_t pack;
	uint64_t offset;	/* of the record in the pack */
	uint32_t stored_length; /* payload, without the record's header */
	uint32_t raw_length;
	enum codec codec;
	uint8_t hash[16]; /* XXH3-128, canonical (big endian) */
};
int reader_chunk(struct reader *reader, uint64_t id, struct chunk_info *ret); /* -ENOENT */
uint64_t chunk_record_bytes(const struct chunk_info *info); /* what it takes in its pack */

/*
 * Records of the upper rooms.  Keys are 1 to 500 bytes, compared as bytes (memcmp, shorter
 * first); values up to 16 MiB.  What they mean is the business of snapshot/.  Each value is
 * verified when it is read (-EBADMSG): index/ stores a checksum behind it.
 */
enum table { TABLE_WORKSPACES, TABLE_POINTS, TABLE_NAMES, TABLE_JOURNAL };

struct bytes {
	const void *data;
	size_t length;
};

int reader_record(struct reader *reader, enum table table, struct bytes key,
		  struct bytes *ret_value); /* -ENOENT */

/* Calls `visit` for each record whose key starts with `prefix` (empty: all), in order of key,
 * until it returns non-zero; returns that, or 0 at the end, or an error. */
int reader_records(struct reader *reader, enum table table, struct bytes prefix,
		   int (*visit)(struct bytes key, struct bytes value, void *context),
		   void *context);

/* The same for all records from a key on: those with a key >= `from` in order, or (down) those
 * with a key <= `from` in reverse order.  `from` empty: from the first, or the last. */
enum records_order { RECORDS_UP, RECORDS_DOWN };
int reader_records_from(struct reader *reader, enum table table, struct bytes from,
			enum records_order order,
			int (*visit)(struct bytes key, struct bytes value, void *context),
			void *context);

#endif
