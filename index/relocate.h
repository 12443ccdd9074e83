/*
 * Moving chunks: to another place in the packs, and into another encoding.
 *
 * A chunk keeps its id, its bytes and its hash; only where and how they are stored changes.  So no
 * tree notices, deduplication goes on as before, and a point keeps what it holds.  (Cutting a
 * fragmented file anew instead would store it a second time, since its points go on referring to
 * the old chunks.)
 *
 *   relocation_begin()
 *   relocation_add() …   reads and verifies the chunk (I6), encodes it, gathers it
 *   relocation_flush()   where enough is gathered, relocation_add() does it
 *   relocation_end()     drops what is gathered, gives back the old places
 *
 * What is gathered goes behind each other into one pack, in the order of relocation_add().  Then
 * the packs are synced (I3), and one short commit enters the new places.  The old ones are dead
 * from then on, and punched like those of forgotten chunks.  Who has looked an old place up and
 * finds it punched looks once more: see chunk_read().  A crash leaves each chunk in one place or in
 * the other.
 *
 * Beside everything else: writers, collections (a chunk that was forgotten meanwhile is let go
 * of), readers.  One thread at a time for each relocation.
 *
 * Damage does not spread: a chunk that does not verify stays where it is, and is counted.
 */
#ifndef CAIRN_INDEX_RELOCATE_H
#define CAIRN_INDEX_RELOCATE_H

#include <stdbool.h>
#include <stdint.h>

#include "index/store.h"

struct relocation;

struct relocation_result {
	uint64_t moved;		/* chunks */
	uint64_t damaged;	/* left in place */
	uint64_t stored_before; /* bytes of the moved ones' records */
	uint64_t stored_after;
};

/* -EROFS, -ENOMEM, -EIO (the store has failed). */
int relocation_begin(struct store *store, struct relocation **ret);

/*
 * Takes a chunk in, to be stored as the store's setting for what lies at rest says; where that
 * does not make it smaller it is left where it is, or moved as it is (`always`).  Chunks that are
 * not yet in a commit, and those that are gone, are left alone.  -ENOSPC: the disk is nearly full;
 * what was gathered is still there.
 */
int relocation_add(struct relocation *relocation, uint64_t id, bool always);

/* Up to here (ids below `position`) nothing needs to be encoded anew; noted by the next flush. */
void relocation_pass(struct relocation *relocation, uint64_t position);
int relocation_flush(struct relocation *relocation);

/* Also after errors; accepts NULL; returns NULL.  `ret` may be NULL. */
struct relocation *relocation_end(struct relocation *relocation, struct relocation_result *ret);

/*
 * One pass over all chunks that came since the last one (the store remembers how far it got): what
 * was taken in raw or with lz4 is compressed with zstd where the store's setting says so.
 * `progress` may be NULL; non-zero stops, which is no error, and the next pass goes on from there.
 */
typedef int relocate_progress(uint64_t done, uint64_t total, void *context);
int relocate_recompress(struct store *store, relocate_progress *progress, void *context,
			struct relocation_result *ret);

/* How many chunks the next pass has to look at (more, where some were forgotten). */
uint64_t relocate_waiting(struct store *store);

#endif
