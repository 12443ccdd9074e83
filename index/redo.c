/*
 * Writing records.
 *
 *     redo_prepare()       redo_begin()         redo_finish()
 *   none ------------> empty ------------> open -------------> empty or used
 *                        ^                  | redo_abort(), an error
 *                        |                  v
 *                        +--------------- behind          (also from used)
 *                 redo_restart(), after a commit
 *
 * Why a record may be written over what lies in the log: the log starts again only after the
 * commit that carries what its records say is durable, under a new epoch, and records of another
 * epoch do not count.  The epoch is drawn by lot, so that not even an index that came back from a
 * backup can meet records that seem to be its own.
 *
 * Why a record that was confirmed is not harmed by the next one: each has sectors of its own
 * (REDO_ALIGN), and is durable before the next is begun.
 *
 * The file is written once with zeros, so that later writes change neither its size nor its
 * blocks, and fdatasync(2) has no metadata to write.  It is made when it is first wanted, and
 * twice as large after it was full.
 */
#include "index/redo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "index/format_file_internal.h"
#include "index/store_internal.h"
#include "index/util/bytes.h"

#define RETRY_NS ((uint64_t)5 * 1000 * 1000 * 1000)

enum { ZEROS = 1 << 20, FIRST_BUFFER = 64 << 10 };

void redo_init(struct store *store)
{
	store->redo.store = store;
	store->redo.fd = -1;
}

void redo_release(struct store *store)
{
	struct redo *redo = &store->redo;

	if (redo->fd >= 0)
		close(redo->fd);
	free(redo->buffer);
	free(redo->chunks);
}

bool redo_is_used(struct store *store)
{
	return atomic_load(&store->redo.sequence) > 0;
}

uint64_t redo_new_epoch(void)
{
	uint64_t epoch = 0;

	while (!epoch) {
		if (getrandom(&epoch, sizeof(epoch), 0) != (ssize_t)sizeof(epoch))
			epoch = 0;
	}
	return epoch;
}

void redo_restart(struct redo *redo, uint64_t epoch)
{
	redo->epoch = epoch;
	redo->position = 0;
	redo->behind = false;
	memset(redo->previous, 0, sizeof(redo->previous));
	atomic_store(&redo->sequence, 0);
}

/* ---- the file ---- */

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int write_zeros(struct redo *redo, uint64_t from, uint64_t to)
{
	const struct io *io = &redo->store->io;
	uint8_t *zeros = calloc(1, ZEROS);
	int r = zeros ? 0 : -ENOMEM;

	while (r == 0 && from < to) {
		size_t piece = to - from < ZEROS ? (size_t)(to - from) : ZEROS;
		struct iovec vector[2] = {{zeros, piece / 2}, {zeros, piece - piece / 2}};

		r = io->ops->write(io->context, redo->fd, vector, 2, from);
		from += piece;
	}
	free(zeros);
	return r;
}

/* Makes the file, or makes it larger; nothing that counts is in it.  What a failure leaves behind
 * is used as far as it goes, or made anew by the next try. */
static int resize(struct redo *redo, uint64_t size)
{
	struct store *store = redo->store;
	const struct io *io = &store->io;
	int r = 0;

	if (redo->fd < 0) {
		int fd =
			io->ops->open(io->context, store->dirfd, REDO_NAME, O_RDWR | O_CREAT, 0600);
		if (fd < 0)
			return fd;
		redo->fd = fd;
	}
	redo->durable = false;
	r = write_zeros(redo, redo->capacity, size);
	if (r == 0)
		redo->capacity = size;
	else
		(void)io->ops->truncate(io->context, redo->fd, redo->capacity);
	return r;
}

/* Once in a process: who made the file may have been killed before he synced it.  A program that
 * does not know the log must not write to the store: it would leave what is in there behind. */
static int make_durable(struct redo *redo)
{
	const struct io *io = &redo->store->io;
	int r = io->ops->sync(io->context, redo->fd);

	if (r == 0)
		r = format_file_add_redo(io, redo->store->dirfd);
	if (r == 0)
		r = io->ops->sync_dir(io->context, redo->store->dirfd);
	redo->durable = r == 0;
	return r;
}

/* An error here is none of the caller's: there is no log then, or a small one, for some time. */
void redo_prepare(struct store *store)
{
	struct redo *redo = &store->redo;
	bool enlarge = redo->capacity < REDO_MIN || redo->wanted > redo->capacity;
	int r = 0;

	if (!redo->limit || store_failed(store) || (redo->durable && !enlarge))
		return;
	if (redo_is_used(store) || redo->behind || now_ns() < redo->retry_ns)
		return;
	if (enlarge && !store_space_low(store))
		r = resize(redo, redo->wanted > REDO_MIN ? redo->wanted : REDO_MIN);
	redo->wanted = redo->capacity;
	if (redo->capacity >= REDO_MIN && !redo->durable)
		r = make_durable(redo);
	if (r < 0 || redo->capacity < REDO_MIN)
		redo->retry_ns = now_ns() + RETRY_NS;
}

/* ---- filling a record ---- */

/* Room for `length` more bytes at buffer + used. */
static int reserve(struct redo *redo, size_t length)
{
	size_t size = redo->size ? redo->size : FIRST_BUFFER;
	uint8_t *buffer;

	if (length > REDO_RECORD_MAX || redo->used + length > REDO_RECORD_MAX)
		return -EAGAIN;
	if (redo->used + length <= redo->size)
		return 0;
	while (size < redo->used + length)
		size *= 2;
	buffer = aligned_alloc(REDO_ALIGN, size);
	if (!buffer)
		return -ENOMEM;
	if (redo->used)
		memcpy(buffer, redo->buffer, redo->used);
	free(redo->buffer);
	redo->buffer = buffer;
	redo->size = size;
	return 0;
}

static uint64_t aligned(uint64_t length, uint64_t to)
{
	return (length + to - 1) / to * to;
}

/* Adds an entry with room for `length` bytes, and returns the room; NULL: redo->error. */
static uint8_t *add(struct redo *redo, enum redo_kind kind, size_t length)
{
	size_t whole = sizeof(struct disk_redo_entry) + aligned(length, 8);
	struct disk_redo_entry *entry;
	int r;

	if (redo->error)
		return NULL;
	r = reserve(redo, whole);
	if (r < 0) {
		redo->error = r;
		return NULL;
	}
	entry = (struct disk_redo_entry *)(redo->buffer + redo->used);
	memset(redo->buffer + redo->used + whole - 8, 0, 8);
	*entry = (struct disk_redo_entry){.kind = (uint8_t)kind};
	put_le32(entry->length, (uint32_t)length);
	redo->used += whole;
	return (uint8_t *)(entry + 1);
}

int redo_begin(struct store *store, struct redo **ret)
{
	struct redo *redo = &store->redo;

	if (store_is_read_only(store))
		return -EROFS;
	if (store_failed(store))
		return -EIO;
	if (redo->behind || !redo->durable || !redo->epoch)
		return -EAGAIN;
	redo->used = 0;
	redo->error = 0;
	redo->chunk_count = 0;
	if (reserve(redo, sizeof(struct disk_redo)) < 0)
		return -ENOMEM;
	memset(redo->buffer, 0, sizeof(struct disk_redo));
	redo->used = sizeof(struct disk_redo);
	*ret = redo;
	return 0;
}

int redo_put_node(struct redo *redo, uint64_t id, uint8_t *node)
{
	uint8_t *room;

	if (!id || get_le64(node + 8) != id)
		redo->error = redo->error ? redo->error : -EINVAL;
	room = add(redo, REDO_NODE, NODE_SIZE);
	if (!room)
		return redo->error;
	memcpy(room, node, NODE_SIZE); /* its checksum is made where it is put into the index */
	return 0;
}

int redo_delete_nodes(struct redo *redo, const uint64_t *ids, size_t count)
{
	uint8_t *room = count ? add(redo, REDO_DELETE, count * 8) : NULL;

	for (size_t i = 0; room && i < count; i++)
		put_le64(room + 8 * i, ids[i]);
	return redo->error;
}

int redo_put_record(struct redo *redo, enum table table, struct bytes key, struct bytes value)
{
	uint8_t *room;

	if (!key.length || key.length > RECORD_KEY_MAX || value.length > RECORD_VALUE_MAX)
		redo->error = redo->error ? redo->error : -EINVAL;
	room = add(redo, REDO_RECORD, key.length + value.length);
	if (!room)
		return redo->error;
	struct disk_redo_entry *entry = (struct disk_redo_entry *)room - 1;
	entry->table = (uint8_t)table;
	put_le16(entry->key_length, (uint16_t)key.length);
	memcpy(room, key.data, key.length);
	if (value.length)
		memcpy(room + key.length, value.data, value.length);
	return 0;
}

/* Takes note of the chunks that are in no record.  How long they are is known, their bytes are
 * fetched by redo_finish(), without the caller's locks. */
static int take_chunks(struct redo *redo, uint64_t *ret_bytes)
{
	struct pending_table *table = &redo->store->chunks;
	uint64_t bytes = 0;
	int r = 0;

	pthread_mutex_lock(&table->lock);
	if (table->unlogged_count > redo->chunk_capacity) {
		struct redo_chunk *chunks =
			reallocarray(redo->chunks, table->unlogged_count * 2, sizeof(*chunks));
		if (chunks) {
			redo->chunks = chunks;
			redo->chunk_capacity = table->unlogged_count * 2;
		} else {
			r = -ENOMEM;
		}
	}
	for (struct pending *pending = r == 0 ? table->unlogged : NULL; pending;
	     pending = pending->next_unlogged) {
		redo->chunks[redo->chunk_count++] = (struct redo_chunk){pending->id, pending->info};
		bytes += sizeof(struct disk_redo_entry) + record_size(pending->info.stored_length);
		pending->logged = true;
	}
	if (r == 0) {
		table->unlogged = NULL;
		table->unlogged_count = 0;
	}
	pthread_mutex_unlock(&table->lock);
	*ret_bytes = bytes;
	return r;
}

int redo_seal(struct redo *redo)
{
	struct disk_redo *header = (struct disk_redo *)redo->buffer;
	uint64_t bytes = 0, whole;
	int r = redo->error ? redo->error : take_chunks(redo, &bytes);

	if (r < 0)
		return r;
	whole = aligned(redo->used + bytes, REDO_ALIGN);
	if (whole > REDO_RECORD_MAX)
		return -EAGAIN;
	if (whole > redo->capacity - redo->position) {
		uint64_t larger = redo->capacity * 2;

		redo->wanted = larger < redo->limit ? larger : redo->limit;
		return -EAGAIN;
	}
	for (int i = 0; i < STORE_COUNTERS; i++)
		put_le64(header->next[i], atomic_load(&redo->store->counters[i]));
	return 0;
}

struct redo *redo_abort(struct redo *redo)
{
	if (redo)
		redo->behind = true;
	return NULL;
}

/* ---- writing it ---- */

static int by_place(const void *a, const void *b)
{
	const struct chunk_info *x = &((const struct redo_chunk *)a)->info;
	const struct chunk_info *y = &((const struct redo_chunk *)b)->info;

	if (x->pack != y->pack)
		return x->pack < y->pack ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* The records of chunks, as they lie in the packs (where they are still in memory). */
static int add_chunks(struct redo *redo)
{
	qsort(redo->chunks, redo->chunk_count, sizeof(*redo->chunks), by_place);
	for (size_t i = 0; i < redo->chunk_count; i++) {
		const struct chunk_info *info = &redo->chunks[i].info;
		size_t size = record_size(info->stored_length);
		uint8_t *room = add(redo, REDO_CHUNK, size);
		struct iovec vector = {room, size};
		struct chunk_info found;
		uint64_t id;

		if (!room)
			return redo->error;
		ssize_t done = pack_read(redo->store, info->pack, &vector, 1, info->offset);
		if (done < 0)
			return (int)done;
		if ((size_t)done != size)
			return -EBADMSG;
		int r = record_decode((struct disk_record *)room, &id, &found);
		if (r < 0 || id != redo->chunks[i].id)
			return r < 0 ? r : -EBADMSG;
	}
	return 0;
}

static int write_record(struct redo *redo)
{
	struct disk_redo *header = (struct disk_redo *)redo->buffer;
	const struct io *io = &redo->store->io;
	size_t length = redo->used - sizeof(*header), padding = -redo->used % REDO_ALIGN;
	struct iovec vector[2];
	int r = reserve(redo, padding);

	if (r < 0)
		return r;
	header = (struct disk_redo *)redo->buffer;
	memset(redo->buffer + redo->used, 0, padding);
	memcpy(header->magic, REDO_MAGIC, sizeof(header->magic));
	put_le64(header->epoch, redo->epoch);
	put_le64(header->sequence, atomic_load(&redo->sequence));
	put_le64(header->length, length);
	memcpy(header->previous, redo->previous, sizeof(header->previous));
	redo_checksum(redo->buffer, redo->used, header->checksum);
	vector[0] = (struct iovec){redo->buffer, sizeof(*header)};
	vector[1] = (struct iovec){redo->buffer + sizeof(*header), length + padding};
	r = io->ops->write(io->context, redo->fd, vector, 2, redo->position);
	if (r == 0)
		r = io->ops->sync(io->context, redo->fd);
	return r;
}

/* A file system that copies on write may have no room even for what is there. */
static bool is_harmless(int error)
{
	return error == -ENOSPC || error == -EDQUOT || error == -ENOMEM || error == -EAGAIN;
}

int redo_finish(struct redo *redo)
{
	struct disk_redo *header;
	int r = store_failed(redo->store) ? -EIO : add_chunks(redo);

	if (r < 0) { /* nothing was written; the commit will tell what is wrong with a pack */
		redo_abort(redo);
		return store_failed(redo->store) ? -EIO : -EAGAIN;
	}
	r = write_record(redo);
	if (r < 0) {
		redo_abort(redo);
		if (is_harmless(r))
			return -EAGAIN;
		store_fail(redo->store, r);
		return r;
	}
	header = (struct disk_redo *)redo->buffer;
	memcpy(redo->previous, header->checksum, sizeof(redo->previous));
	redo->position += aligned(redo->used, REDO_ALIGN);
	atomic_fetch_add(&redo->sequence, 1);
	return 0;
}

int redo_verify(struct store *store)
{
	struct redo *redo = &store->redo;
	uint64_t end = 0;
	int r;

	if (!redo_is_used(store))
		return 0;
	r = redo_scan(&store->io, redo->fd, redo->capacity, redo->epoch, NULL, NULL, &end);
	if (r == 0 && end != redo->position)
		r = -EBADMSG;
	return r;
}
