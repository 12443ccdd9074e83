/*
 * Reading the log, and making a commit of what waits in it.
 *
 * Why it does not matter where a replay is interrupted: until its commit is durable the epoch is
 * the old one and all records count, and what was appended to packs lies behind their committed
 * ends and is cut off by the next opening.  Once it is durable no record counts.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "index/commit_internal.h"
#include "index/redo_internal.h"
#include "index/util/bytes.h"

void redo_checksum(const uint8_t *record, uint64_t length, uint8_t ret[HASH_SIZE])
{
	static const uint8_t zeros[HASH_SIZE];
	const size_t at = offsetof(struct disk_redo, checksum);
	XXH128_canonical_t canonical;
	uint8_t header[sizeof(struct disk_redo)];

	memcpy(header, record, sizeof(header));
	memcpy(header + at, zeros, sizeof(zeros));
	uint64_t first = XXH3_64bits(header, sizeof(header));
	XXH128_canonicalFromHash(&canonical, XXH3_128bits_withSeed(record + sizeof(header),
								   length - sizeof(header), first));
	memcpy(ret, canonical.digest, HASH_SIZE);
}

/* ---- scanning ---- */

struct scan {
	const struct io *io;
	int fd;
	uint64_t capacity, epoch;
	uint64_t position, sequence;
	uint8_t previous[8];
	uint8_t *buffer; /* of REDO_RECORD_MAX, */
	uint8_t *window; /* and as much behind it */
};

/* 1: there is a valid record at `position`, in the buffer; 0: there is none. */
static int read_record(struct scan *scan, uint64_t position, bool chained)
{
	struct disk_redo *header = (struct disk_redo *)scan->buffer;
	struct iovec vector = {scan->buffer, sizeof(*header)};
	uint8_t checksum[HASH_SIZE];
	uint64_t length;
	ssize_t done;

	if (position + sizeof(*header) > scan->capacity)
		return 0;
	done = scan->io->ops->read(scan->io->context, scan->fd, &vector, 1, position);
	if (done < 0)
		return (int)done;
	if (done != sizeof(*header) || memcmp(header->magic, REDO_MAGIC, 4) != 0 ||
	    get_le64(header->epoch) != scan->epoch)
		return 0;
	length = get_le64(header->length);
	if (length > REDO_RECORD_MAX - sizeof(*header) ||
	    length > scan->capacity - position - sizeof(*header))
		return 0;
	if (chained ? get_le64(header->sequence) != scan->sequence ||
			      memcmp(header->previous, scan->previous, 8) != 0
		    : get_le64(header->sequence) <= scan->sequence)
		return 0;
	vector = (struct iovec){scan->buffer + sizeof(*header), length};
	done = scan->io->ops->read(scan->io->context, scan->fd, &vector, 1,
				   position + sizeof(*header));
	if (done < 0)
		return (int)done;
	if ((uint64_t)done != length)
		return 0;
	redo_checksum(scan->buffer, sizeof(*header) + length, checksum);
	return memcmp(checksum, header->checksum, HASH_SIZE) == 0;
}

/* A record is begun only when the one before is durable.  So where a later one is valid behind one
 * that is not, the latter was not torn by a crash: what was confirmed is damaged. */
static int look_behind(struct scan *scan)
{
	uint64_t begin = scan->position + REDO_ALIGN;
	struct iovec vector = {scan->window, REDO_RECORD_MAX};
	ssize_t length = begin < scan->capacity ? scan->io->ops->read(scan->io->context, scan->fd,
								      &vector, 1, begin)
						: 0;
	int r = length < 0 ? (int)length : 0;

	for (ssize_t at = 0; r == 0 && at + REDO_ALIGN <= length; at += REDO_ALIGN) {
		const struct disk_redo *header = (const struct disk_redo *)(scan->window + at);

		if (memcmp(header->magic, REDO_MAGIC, sizeof(header->magic)) == 0 &&
		    get_le64(header->epoch) == scan->epoch)
			r = read_record(scan, begin + (uint64_t)at, false);
	}
	return r > 0 ? -EBADMSG : r;
}

int redo_scan(const struct io *io, int fd, uint64_t capacity, uint64_t epoch,
	      int (*visit)(const struct disk_redo *header, uint8_t *body, uint64_t length,
			   void *context),
	      void *context, uint64_t *ret_end)
{
	struct scan scan = {.io = io, .fd = fd, .capacity = capacity, .epoch = epoch};
	struct disk_redo *header;
	int r;

	scan.buffer = aligned_alloc(REDO_ALIGN, 2 * REDO_RECORD_MAX);
	if (!scan.buffer)
		return -ENOMEM;
	scan.window = scan.buffer + REDO_RECORD_MAX;
	header = (struct disk_redo *)scan.buffer;
	while ((r = read_record(&scan, scan.position, true)) > 0) {
		uint64_t length = get_le64(header->length), whole = sizeof(*header) + length;

		scan.sequence++;
		memcpy(scan.previous, header->checksum, sizeof(scan.previous));
		scan.position += (whole + REDO_ALIGN - 1) / REDO_ALIGN * REDO_ALIGN;
		r = visit ? visit(header, scan.buffer + sizeof(*header), length, context) : 0;
		if (r < 0)
			break;
	}
	if (r == 0)
		r = look_behind(&scan);
	free(scan.buffer);
	if (r == 0 && ret_end)
		*ret_end = scan.position;
	return r;
}

/* ---- replaying ---- */

struct replay {
	struct store *store;
	struct commit *commit;
	uint64_t records;
};

static bool chunk_is_known(struct replay *replay, uint64_t id)
{
	struct pending_table *table = &replay->store->chunks;
	MDB_val key = {sizeof(id), &id}, value;
	bool known;

	/* Of an earlier record, or of an earlier try. */
	pthread_mutex_lock(&table->lock);
	known = u64map_get(&table->by_id, id) != NULL;
	pthread_mutex_unlock(&table->lock);
	return known ||
	       mdb_get(replay->commit->txn, replay->store->env.dbi[DB_CHUNKS], &key, &value) == 0;
}

/* Makes the chunk one that is in a pack and waits for a commit. */
static int enter_chunk(struct store *store, uint64_t id, const struct chunk_info *info,
		       uint64_t write)
{
	struct pending_table *table = &store->chunks;
	struct pending *pending = calloc(1, sizeof(*pending));
	int r;

	if (!pending)
		return -ENOMEM;
	pending->id = id;
	pending->info = *info;
	pending->write = write;
	pending_key(table, info->hash, pending->key);
	pthread_mutex_lock(&table->lock);
	r = pending_enter(table, pending);
	if (r == 0)
		pending_ready(table, pending);
	pthread_mutex_unlock(&table->lock);
	if (r < 0)
		free(pending);
	return r;
}

static int replay_chunk(struct replay *replay, uint8_t *data, uint64_t length)
{
	static uint8_t nothing[RECORD_ALIGN];
	struct pack_place place;
	struct chunk_info info;
	uint64_t id;
	int r = length < sizeof(struct disk_record)
			? -EUCLEAN
			: record_decode((struct disk_record *)data, &id, &info);

	if (r == 0 && record_size(info.stored_length) != length)
		r = -EUCLEAN;
	if (r < 0 || chunk_is_known(replay, id))
		return r;
	r = pack_append(replay->store,
			(struct iovec[]){{data, sizeof(struct disk_record)},
					 {data + sizeof(struct disk_record),
					  length - sizeof(struct disk_record)},
					 {nothing, 0}},
			3, length, &place);
	if (r < 0)
		return r;
	info.pack = place.pack;
	info.offset = place.offset;
	return enter_chunk(replay->store, id, &info, place.write);
}

static int replay_entry(struct replay *replay, const struct disk_redo_entry *entry, uint8_t *data,
			uint64_t length)
{
	uint64_t key_length = get_le16(entry->key_length);
	int r = 0;

	switch ((enum redo_kind)entry->kind) {
	case REDO_NODE:
		if (length != NODE_SIZE)
			return -EUCLEAN;
		return commit_put_node(replay->commit, get_le64(data + 8), data);
	case REDO_DELETE:
		for (uint64_t at = 0; r == 0 && at + 8 <= length; at += 8)
			r = commit_delete_node(replay->commit, get_le64(data + at));
		return r;
	case REDO_RECORD:
		if (entry->table > TABLE_JOURNAL || key_length > length)
			return -EUCLEAN;
		return commit_put_record(replay->commit, (enum table)entry->table,
					 (struct bytes){data, key_length},
					 (struct bytes){data + key_length, length - key_length});
	case REDO_CHUNK:
		return replay_chunk(replay, data, length);
	}
	return -EUCLEAN;
}

static void raise_counters(struct store *store, const struct disk_redo *header)
{
	for (int i = 0; i < STORE_COUNTERS; i++) {
		uint64_t next = get_le64(header->next[i]);

		if (next > atomic_load(&store->counters[i]))
			atomic_store(&store->counters[i], next);
	}
}

static int replay_record(const struct disk_redo *header, uint8_t *body, uint64_t length,
			 void *context)
{
	struct replay *replay = context;
	uint64_t at = 0;
	int r = 0;

	replay->records++;
	raise_counters(replay->store, header);
	while (r == 0 && at < length) {
		struct disk_redo_entry *entry = (struct disk_redo_entry *)(body + at);
		uint64_t left = length - at - sizeof(*entry), size;

		if (length - at < sizeof(*entry))
			return -EUCLEAN;
		size = get_le32(entry->length);
		if (size > left)
			return -EUCLEAN;
		r = replay_entry(replay, entry, (uint8_t *)(entry + 1), size);
		at += sizeof(*entry) + (size + 7) / 8 * 8;
	}
	return r;
}

/* One try. */
static int replay_once(struct store *store)
{
	struct redo *redo = &store->redo;
	struct replay replay = {.store = store};
	int r = commit_begin(store, &replay.commit);

	if (r < 0)
		return r;
	r = redo_scan(&store->io, redo->fd, redo->capacity, redo->epoch, replay_record, &replay,
		      NULL);
	if (r == 0)
		atomic_store(&redo->sequence, replay.records);
	if (r < 0 || !replay.records) {
		commit_note(replay.commit, r);
		commit_abort(replay.commit);
		return r;
	}
	r = commit_settles_redo(replay.commit);
	if (r == 0)
		r = commit_seal(replay.commit);
	if (r < 0) {
		commit_abort(replay.commit);
		return r;
	}
	r = commit_finish(replay.commit);
	if (r == 0)
		redo->replayed = replay.records;
	return r;
}

static int open_file(struct store *store, int flags)
{
	struct redo *redo = &store->redo;
	struct stat st;
	int r;

	redo->fd = store->io.ops->open(store->io.context, store->dirfd, REDO_NAME, flags, 0);
	if (redo->fd < 0) {
		r = redo->fd == -ENOENT ? 0 : redo->fd;
		redo->fd = -1;
		return r;
	}
	if (fstat(redo->fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EUCLEAN;
	redo->capacity = (uint64_t)st.st_size / REDO_ALIGN * REDO_ALIGN;
	if (redo->capacity > REDO_MAX)
		redo->capacity = REDO_MAX;
	return 0;
}

static int explain(struct store *store, int error, struct errbuf *err)
{
	if (error == -EBADMSG || error == -EUCLEAN)
		return err_set(err, error,
			       "the redo log of the store %s is damaged: what was made durable in "
			       "the last seconds before a crash cannot be taken over; to go on "
			       "without it remove the file \"" REDO_NAME "\" there",
			       store->directory);
	return err_set(err, error, "cannot take over the redo log of the store %s: %s",
		       store->directory, strerror(-error));
}

int redo_load(struct store *store, struct errbuf *err)
{
	struct redo *redo = &store->redo;
	int r = open_file(store, O_RDWR);

	if (r == 0 && redo->fd >= 0 && redo->epoch) {
		r = replay_once(store);
		if (r == -ENOSPC) /* the ballast has been given up */
			r = replay_once(store);
	}
	if (r < 0)
		return explain(store, r, err);
	/* A log that was cut off by hand, or left by who was interrupted, is made anew. */
	redo->limit = space_redo_limit(store);
	return 0;
}

int redo_is_pending(struct store *store, bool *ret, struct errbuf *err)
{
	struct redo *redo = &store->redo;
	uint64_t end = 0;
	int r = redo->epoch ? open_file(store, O_RDONLY) : 0;

	if (r == 0 && redo->epoch && redo->fd >= 0)
		r = redo_scan(&store->io, redo->fd, redo->capacity, redo->epoch, NULL, NULL, &end);
	/* Beside a writer a record is mistaken for a damaged one; without, the writer will tell. */
	if (r < 0 && r != -EBADMSG)
		return explain(store, r, err);
	*ret = r < 0 || end > 0;
	return 0;
}
