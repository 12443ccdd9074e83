/* The inside of the redo log: its state, and its bytes (index/FORMAT.md). */
#ifndef CAIRN_INDEX_REDO_INTERNAL_H
#define CAIRN_INDEX_REDO_INTERNAL_H

#include <stdatomic.h>

#include "index/format_internal.h"
#include "index/redo.h"

enum {
	REDO_ALIGN = 4096, /* records begin at multiples; no sector of any disk holds two */
	REDO_MIN = 4 << 20,
	REDO_MAX = 32 << 20, /* of the file; what a replay puts into packs must fit the margin */
};

#define REDO_NAME "redo"
#define REDO_MAGIC "crnr"

struct disk_redo {
	uint8_t magic[4];
	uint8_t flags[4];
	uint8_t epoch[8];
	uint8_t sequence[8];
	uint8_t length[8];   /* of what follows, without the zeros up to REDO_ALIGN */
	uint8_t previous[8]; /* the first half of the previous record's checksum */
	uint8_t reserved[8];
	uint8_t checksum[HASH_SIZE];
	uint8_t next[STORE_COUNTERS][8];
	uint8_t end[8];
};
_Static_assert(sizeof(struct disk_redo) == 128, "size of a redo record's header");
_Static_assert(offsetof(struct disk_redo, checksum) == 48, "offset of checksum");
_Static_assert(offsetof(struct disk_redo, next) == 64, "offset of the counters");

enum redo_kind { REDO_NODE = 1, REDO_DELETE = 2, REDO_RECORD = 3, REDO_CHUNK = 4 };

struct disk_redo_entry {
	uint8_t kind;
	uint8_t table;
	uint8_t key_length[2];
	uint8_t length[4]; /* of key and contents, without the zeros up to a multiple of 8 */
};
_Static_assert(sizeof(struct disk_redo_entry) == 8, "size of a redo entry's header");

/* A chunk that the record has to bring along. */
struct redo_chunk {
	uint64_t id;
	struct chunk_info info;
};

/* What is not said to be fixed or atomic belongs to who has the caller's lock for records. */
struct redo {
	struct store *store; /* fixed */
	int fd;		     /* owned; -1: not open */
	bool durable;	     /* the file, its zeros and its name were synced by this process */
	bool behind;	     /* something is in no record: only a commit helps */
	uint64_t capacity;   /* of the file, 0: none */
	uint64_t wanted;
	uint64_t limit;	   /* how large it may get; 0: there is none on this file system */
	uint64_t retry_ns; /* not to be made or enlarged before that */
	uint64_t epoch;	   /* 0: the index does not know of a log yet */
	uint64_t position;
	_Atomic uint64_t sequence; /* of the next record; 0: the log is empty */
	uint8_t previous[8];

	/* the record under way */
	uint8_t *buffer; /* owned */
	size_t used, size;
	struct redo_chunk *chunks; /* owned */
	size_t chunk_count, chunk_capacity;
	int error;

	uint64_t replayed; /* records that opening took over */
};

void redo_init(struct store *store);
void redo_release(struct store *store);
/* Opens the log, and for a writer makes a commit of what waits in it. */
int redo_load(struct store *store, struct errbuf *err);
/* For a read-only store: whether records wait in the log. */
int redo_is_pending(struct store *store, bool *ret, struct errbuf *err);

/* A new epoch, never used before. */
uint64_t redo_new_epoch(void);
/* After the commit that made it durable. */
void redo_restart(struct redo *redo, uint64_t epoch);

/* The checksum of a record: of everything but itself. */
void redo_checksum(const uint8_t *record, uint64_t length, uint8_t ret[HASH_SIZE]);

/*
 * Hands the valid records of the epoch, in order, to `visit` (NULL: none; a negative result ends
 * it). `ret_end` (may be NULL): where the next would be.  -EBADMSG where a record is not valid
 * although one behind it is.  `fd` may be read through `io` only.
 */
int redo_scan(const struct io *io, int fd, uint64_t capacity, uint64_t epoch,
	      int (*visit)(const struct disk_redo *header, uint8_t *body, uint64_t length,
			   void *context),
	      void *context, uint64_t *ret_end);

#endif
