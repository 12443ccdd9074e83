/*
 * Storing a chunk:
 *
 *   1. Under the lock: wait while another thread stores bytes with the same key; note the
 *      pending chunks with that key; enter a reservation, which makes others wait for us.
 *   2. Without a lock: compare with these, then with what the index has under that key (I5).
 *      Looking there after entering the reservation misses nothing: a chunk leaves the pending
 *      table only when readers see it.
 *   3. On a hit, under the lock: make sure that no collection has forgotten or withdrawn the
 *      chunk since step 1, and save it from the one that is running.
 *   4. Otherwise compress, take an id, append to a pack, and turn the reservation into a READY
 *      chunk.
 *
 * A stored chunk that is damaged, gone or otherwise unreadable is no duplicate: the bytes in
 * hand are good, and become a chunk of their own.
 */
#include "index/chunk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "index/chunk_internal.h"
#include "index/store_internal.h"
#include "index/util/bytes.h"

/* Reads a record: checks the header against the index, and puts the payload where asked. */
static int fetch(struct store *store, uint64_t id, const struct chunk_info *info, void *payload)
{
	struct disk_record header;
	struct iovec vector[2] = {{&header, sizeof(header)}, {payload, info->stored_length}};
	ssize_t done = pack_read(store, info->pack, vector, 2, info->offset);

	if (done < 0)
		return done == -ENOENT ? -EUCLEAN : (int)done;
	if ((size_t)done != sizeof(header) + info->stored_length)
		return -EBADMSG;
	return record_check(&header, id, info);
}

/* Reads and decompresses to info->raw_length bytes.  Does not verify the hash. */
static int load(struct store *store, uint64_t id, const struct chunk_info *info, void *raw)
{
	struct scratch *scratch;
	int r;

	if (info->codec == CODEC_NONE)
		return fetch(store, id, info, raw);
	scratch = scratch_get(&store->scratch);
	if (!scratch)
		return -ENOMEM;
	r = fetch(store, id, info, scratch->stored);
	if (r == 0)
		r = codec_decompress(scratch, info->codec, scratch->stored, info->stored_length,
				     raw, info->raw_length);
	scratch_put(&store->scratch, scratch);
	return r;
}

static int find_pending(struct store *store, uint64_t id, struct chunk_info *ret)
{
	struct pending *pending;

	pthread_mutex_lock(&store->chunks.lock);
	pending = u64map_get(&store->chunks.by_id, id);
	if (pending)
		*ret = pending->info;
	pthread_mutex_unlock(&store->chunks.lock);
	return pending ? 0 : -ENOENT;
}

static int find_committed(struct store *store, uint64_t id, struct chunk_info *ret)
{
	struct reader *reader;
	int r = reader_acquire(store, &reader);

	if (r < 0)
		return r;
	r = reader_chunk(reader, id, ret);
	reader_release(reader);
	if (r != -ENOENT)
		return r;
	/* An id that was never handed out is not one that collection took back. */
	if (!id || (!store_is_read_only(store) && id >= store_peek(store, COUNTER_CHUNK)))
		return -EUCLEAN;
	return -ESTALE;
}

int chunk_info(struct store *store, uint64_t id, struct chunk_info *ret)
{
	/* In this order: what leaves the pending table is in the index by then. */
	return find_pending(store, id, ret) == 0 ? 0 : find_committed(store, id, ret);
}

/* After `error` from the place that `info` says: whether the chunk was moved since it was looked up
 * (index/relocate.h), and `info` now says where to. */
static bool has_moved(struct store *store, uint64_t id, int error, struct chunk_info *info)
{
	struct chunk_info now;

	if (!is_damage(error) || chunk_info(store, id, &now) < 0 ||
	    (now.pack == info->pack && now.offset == info->offset))
		return false;
	*info = now;
	return true;
}

static int verify(const void *raw, const struct chunk_info *info)
{
	uint8_t hash[HASH_SIZE];

	chunk_hash(raw, info->raw_length, hash);
	return memcmp(hash, info->hash, HASH_SIZE) == 0 ? 0 : -EBADMSG;
}

/* Reads, decompresses and verifies. */
static int load_verified(struct store *store, uint64_t id, struct chunk_info *info, void *raw)
{
	int r;

	do {
		r = load(store, id, info, raw);
		if (r == 0)
			r = verify(raw, info);
	} while (r < 0 && has_moved(store, id, r, info));
	return r;
}

static int load_stored(struct store *store, uint64_t id, const struct chunk_info *info,
		       void *stored, void *raw)
{
	struct scratch *scratch;
	int r = fetch(store, id, info, stored);

	if (r < 0)
		return r;
	if (info->codec == CODEC_NONE) {
		memcpy(raw, stored, info->raw_length);
		return verify(raw, info);
	}
	scratch = scratch_get(&store->scratch);
	if (!scratch)
		return -ENOMEM;
	r = codec_decompress(scratch, info->codec, stored, info->stored_length, raw,
			     info->raw_length);
	scratch_put(&store->scratch, scratch);
	return r < 0 ? r : verify(raw, info);
}

int chunk_read_stored(struct store *store, uint64_t id, struct chunk_info *info, void *stored,
		      void *raw)
{
	struct chunk_info now;
	int r;

	do {
		r = load_stored(store, id, info, stored, raw);
	} while (r < 0 && has_moved(store, id, r, info));
	return is_damage(r) && chunk_info(store, id, &now) == -ESTALE ? -ESTALE : r;
}

int chunk_read(struct store *store, uint64_t id, void *buffer, size_t capacity, size_t *ret_length,
	       struct errbuf *err)
{
	struct chunk_info info, again;
	int r = chunk_info(store, id, &info);

	if (r == -ESTALE)
		return err_set(err, r, "chunk %" PRIu64 " is not in the store", id);
	if (r < 0)
		return err_set(err, r, "cannot look up chunk %" PRIu64 " in the index: %s", id,
			       strerror(-r));
	if (info.raw_length > capacity)
		return -ERANGE;
	r = load_verified(store, id, &info, buffer);
	if (r == 0) {
		*ret_length = info.raw_length;
		return 0;
	}
	/* Forgotten and punched between look-up and reading? */
	if (is_damage(r) && chunk_info(store, id, &again) == -ESTALE)
		return err_set(err, -ESTALE, "chunk %" PRIu64 " is no longer in the store", id);
	return err_set(err, r,
		       "cannot read chunk %" PRIu64 " (pack %08" PRIx64 ", offset %" PRIu64
		       ", %" PRIu32 " bytes stored): %s",
		       id, info.pack, info.offset, info.stored_length,
		       r == -EBADMSG   ? "its checksum does not match"
		       : r == -EUCLEAN ? "the pack is missing or its record is malformed"
				       : strerror(-r));
}

/* One call of chunk_store(). */
struct job {
	struct store *store;
	const void *raw;
	uint32_t length;
	struct scratch *scratch;
	struct pending *pending; /* the reservation, once entered */
	uint64_t epoch;		 /* forget_epoch when it was */
};

/* Without memory for it a candidate is left out: a duplicate is then stored twice. */
static void add_candidate(struct scratch *scratch, uint64_t id, const struct chunk_info *info)
{
	if (scratch->candidate_count == scratch->candidate_capacity) {
		size_t capacity = scratch->candidate_capacity * 2 + 8;
		struct candidate *candidates =
			reallocarray(scratch->candidates, capacity, sizeof(*candidates));

		if (!candidates)
			return;
		scratch->candidates = candidates;
		scratch->candidate_capacity = capacity;
	}
	scratch->candidates[scratch->candidate_count++] = (struct candidate){id, *info};
}

/* A chunk under way that may hold the same bytes. */
static struct pending *find_writing(struct pending_table *table, const struct job *job)
{
	struct pending *pending = pending_first(table, job->pending->key);

	while (pending &&
	       (pending->state != PENDING_WRITING || pending->info.raw_length != job->length))
		pending = pending_next(pending);
	return pending;
}

/* Step 1. */
static int enter(struct job *job)
{
	struct pending_table *table = &job->store->chunks;
	struct pending *pending;
	int r;

	job->scratch->candidate_count = 0;
	pthread_mutex_lock(&table->lock);
	while (find_writing(table, job)) {
		table->waiters++;
		pthread_cond_wait(&table->finished, &table->lock);
		table->waiters--;
	}
	for (pending = pending_first(table, job->pending->key); pending;
	     pending = pending_next(pending)) {
		if (pending->state != PENDING_WRITING && pending->info.raw_length == job->length)
			add_candidate(job->scratch, pending->id, &pending->info);
	}
	job->epoch = table->forget_epoch;
	r = pending_enter(table, job->pending);
	pthread_mutex_unlock(&table->lock);
	return r;
}

/* Adds what the index has under the same key. */
static int look_up(struct job *job)
{
	struct disk_hash_key wanted;
	MDB_val key = {sizeof(wanted), &wanted}, value;
	MDB_cursor_op op = MDB_SET_RANGE;
	struct chunk_info info;
	struct reader *reader;
	MDB_cursor *cursor;
	int r = reader_acquire(job->store, &reader);

	if (r < 0)
		return r;
	memcpy(wanted.hash, job->pending->key, HASH_SIZE);
	put_be64(wanted.id, 0);
	r = from_mdb(mdb_cursor_open(reader_txn(reader), job->store->env.dbi[DB_HASHES], &cursor));
	if (r < 0) {
		reader_release(reader);
		return r;
	}
	while ((r = from_mdb(mdb_cursor_get(cursor, &key, &value, op))) == 0) {
		const struct disk_hash_key *found = key.mv_data;

		op = MDB_NEXT;
		if (key.mv_size != sizeof(*found) ||
		    memcmp(found->hash, wanted.hash, HASH_SIZE) != 0)
			break;
		if (reader_chunk(reader, get_be64(found->id), &info) == 0 &&
		    info.raw_length == job->length)
			add_candidate(job->scratch, get_be64(found->id), &info);
	}
	mdb_cursor_close(cursor);
	reader_release(reader);
	return r == -ENOENT ? 0 : r;
}

/* Where the bytes differ the place may have been punched since it was looked up. */
static bool is_equal(struct job *job, struct candidate *candidate)
{
	uint8_t *raw = job->scratch->raw;
	int r;

	do {
		r = load(job->store, candidate->id, &candidate->info, raw);
		if (r == 0 && memcmp(raw, job->raw, job->length) == 0)
			return true;
	} while (has_moved(job->store, candidate->id, r < 0 ? r : -EBADMSG, &candidate->info));
	return false;
}

/* Step 3.  Ends the reservation if the chunk may be shared. */
static bool share(struct job *job, uint64_t id)
{
	struct pending_table *table = &job->store->chunks;
	bool good;

	pthread_mutex_lock(&table->lock);
	good = table->forget_epoch == job->epoch;
	if (good && table->sweeping && id < table->sweep_limit)
		good = !idset_has(&table->withdrawn, id) && idset_add(&table->saved, id) >= 0;
	if (good)
		pending_drop(table, job->pending);
	pthread_mutex_unlock(&table->lock);
	return good;
}

/* Step 2.  Returns 1 with the id of a chunk that is now shared, or 0. */
static int find_duplicate(struct job *job, uint64_t *ret_id)
{
	struct scratch *scratch = job->scratch;
	size_t i = 0;

	for (int from_index = 0; from_index < 2; from_index++) {
		if (from_index) {
			int r = look_up(job);

			if (r < 0)
				return r;
		}
		for (; i < scratch->candidate_count; i++) {
			if (is_equal(job, &scratch->candidates[i]) &&
			    share(job, scratch->candidates[i].id)) {
				*ret_id = scratch->candidates[i].id;
				return 1;
			}
		}
	}
	return 0;
}

/* Step 4. */
static int append(struct job *job, uint64_t *ret_id)
{
	static const uint8_t padding[RECORD_ALIGN];
	struct pending_table *table = &job->store->chunks;
	struct chunk_info info = job->pending->info;
	struct store_compression compression;
	const void *payload = job->scratch->stored;
	struct pack_place place;
	struct disk_record header;
	uint64_t id, size;
	int r;

	store_get_compression(job->store, &compression);
	info.codec = compression.codec;
	info.stored_length =
		(uint32_t)codec_compress(job->scratch, &compression, job->raw, job->length);
	if (!info.stored_length) {
		info.codec = CODEC_NONE;
		info.stored_length = job->length;
		payload = job->raw;
	}

	/* Under the lock, because sweep_begin() looks for the smallest id under way. */
	pthread_mutex_lock(&table->lock);
	id = job->pending->id = store_next(job->store, COUNTER_CHUNK);
	pthread_mutex_unlock(&table->lock);

	record_encode(id, &info, &header);
	size = record_size(info.stored_length);
	r = pack_append(
		job->store,
		(struct iovec[]){
			{&header, sizeof(header)},
			{(void *)(uintptr_t)payload, info.stored_length},
			{(void *)(uintptr_t)padding, size - sizeof(header) - info.stored_length},
		},
		3, size, &place);
	if (r < 0)
		return r;
	info.pack = place.pack;
	info.offset = place.offset;
	pthread_mutex_lock(&table->lock);
	job->pending->info = info;
	job->pending->write = place.write;
	pending_ready(table, job->pending);
	pthread_mutex_unlock(&table->lock);
	*ret_id = id;
	return 0;
}

static int store_job(struct job *job, uint64_t *ret_id, bool *ret_duplicate)
{
	int r = enter(job);

	if (r < 0) {
		free(job->pending);
		return r;
	}
	r = find_duplicate(job, ret_id);
	if (r > 0) {
		*ret_duplicate = true;
		return 0;
	}
	if (r == 0)
		r = append(job, ret_id);
	if (r < 0) {
		pthread_mutex_lock(&job->store->chunks.lock);
		pending_drop(&job->store->chunks, job->pending);
		pthread_mutex_unlock(&job->store->chunks.lock);
		return r;
	}
	*ret_duplicate = false;
	return 0;
}

int chunk_store(struct store *store, const void *raw, size_t length, uint64_t *ret_id,
		bool *ret_duplicate)
{
	struct job job = {.store = store, .raw = raw, .length = (uint32_t)length};
	bool duplicate = false;
	uint64_t id = 0;
	int r;

	if (!length || length > CHUNK_MAX)
		return -EINVAL;
	if (store_is_read_only(store))
		return -EROFS;
	if (store_failed(store))
		return -EIO;
	job.scratch = scratch_get(&store->scratch);
	job.pending = calloc(1, sizeof(*job.pending));
	if (!job.scratch || !job.pending) {
		if (job.scratch)
			scratch_put(&store->scratch, job.scratch);
		free(job.pending);
		return -ENOMEM;
	}
	job.pending->info.raw_length = job.length;
	chunk_hash(raw, length, job.pending->info.hash);
	pending_key(&store->chunks, job.pending->info.hash, job.pending->key);
	r = store_job(&job, &id, &duplicate);
	scratch_put(&store->scratch, job.scratch);
	if (r < 0)
		return r;
	*ret_id = id;
	if (ret_duplicate)
		*ret_duplicate = duplicate;
	return 0;
}

void chunk_test_limit_hash(struct store *store, unsigned bits)
{
	store->chunks.hash_bits = bits < HASH_SIZE * 8 ? bits : HASH_SIZE * 8;
}
