/*
 * A chunk on the move:
 *
 *     index ──(look up)──> read, verify ──> encode ──> buffer ──> pack ──(sync)──> commit
 *
 * The commit compares the entry with the one that was looked up, so that a chunk that was
 * forgotten or moved meanwhile stays as it is; its copy is then dead, like the room of a failed
 * write.
 */
#include "index/relocate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "index/chunk_internal.h"
#include "index/commit_internal.h"
#include "index/util/bytes.h"

enum {
	BATCH = 256, /* chunks in a commit */
	BATCH_BYTES = 4 << 20,
	RECORD_BYTES_MAX = CHUNK_MAX + sizeof(struct disk_record) + RECORD_ALIGN,
	PUNCH_EVERY = 64 << 20, /* stored bytes that are dead before they are given back */
};

struct moving {
	uint64_t id;
	struct chunk_info from, to; /* `to`: `offset` is one in the buffer until it is in a pack */
	bool gone;		    /* or elsewhere by now */
};

struct relocation {
	struct store *store;
	struct store_compression compression; /* fixed; codec none: nothing is encoded anew */
	uint8_t *raw, *stored;		      /* owned, CHUNK_MAX bytes each */
	uint8_t *buffer;		      /* owned, BATCH_BYTES: records */
	uint64_t filled;
	struct moving list[BATCH];
	size_t count;
	uint64_t position; /* to be noted, 0: none */
	uint64_t unpunched;
	struct relocation_result result;
};

static struct relocation *relocation_free(struct relocation *relocation)
{
	free(relocation->raw);
	free(relocation->stored);
	free(relocation->buffer);
	free(relocation);
	return NULL;
}

int relocation_begin(struct store *store, struct relocation **ret)
{
	struct relocation *relocation;

	if (store_is_read_only(store))
		return -EROFS;
	if (store_failed(store))
		return -EIO;
	relocation = calloc(1, sizeof(*relocation));
	if (!relocation)
		return -ENOMEM;
	relocation->store = store;
	relocation->raw = malloc(CHUNK_MAX);
	relocation->stored = malloc(CHUNK_MAX);
	relocation->buffer = malloc(BATCH_BYTES);
	if (!relocation->raw || !relocation->stored || !relocation->buffer) {
		relocation_free(relocation);
		return -ENOMEM;
	}
	store_get_rest_compression(store, &relocation->compression);
	*ret = relocation;
	return 0;
}

/* ---- gathering ---- */

/* The committed entry; -ENOENT also for a chunk that no commit has. */
static int find(struct store *store, uint64_t id, struct chunk_info *ret)
{
	struct reader *reader;
	int r = reader_acquire(store, &reader);

	if (r < 0)
		return r;
	r = reader_chunk(reader, id, ret);
	reader_release(reader);
	return r;
}

/* Where the setting would make the record smaller by a sixteenth: the new payload, and its length
 * and codec in `info`. */
static const void *encode(struct relocation *relocation, struct scratch *scratch,
			  struct chunk_info *info)
{
	size_t length;

	if (relocation->compression.codec != CODEC_ZSTD || info->codec == CODEC_ZSTD)
		return NULL;
	length = codec_compress(scratch, &relocation->compression, relocation->raw,
				info->raw_length);
	if (!length || length + info->stored_length / 16 > info->stored_length)
		return NULL;
	info->codec = CODEC_ZSTD;
	info->stored_length = (uint32_t)length;
	return scratch->stored;
}

static void gather(struct relocation *relocation, uint64_t id, const struct chunk_info *from,
		   const struct chunk_info *to, const void *payload)
{
	uint64_t size = record_size(to->stored_length);
	uint8_t *record = relocation->buffer + relocation->filled;
	struct disk_record header;
	struct moving *moving = &relocation->list[relocation->count++];

	record_encode(id, to, &header);
	memcpy(record, &header, sizeof(header));
	memcpy(record + sizeof(header), payload, to->stored_length);
	memset(record + sizeof(header) + to->stored_length, 0,
	       size - sizeof(header) - to->stored_length);
	*moving = (struct moving){.id = id, .from = *from, .to = *to};
	moving->to.offset = relocation->filled;
	relocation->filled += size;
}

int relocation_add(struct relocation *relocation, uint64_t id, bool always)
{
	struct store *store = relocation->store;
	struct chunk_info from, to;
	struct scratch *scratch;
	const void *payload;
	int r = find(store, id, &from);

	if (r == -ENOENT)
		return 0;
	if (is_damage(r)) {
		relocation->result.damaged++;
		return 0;
	}
	if (r < 0)
		return r;
	if (!always && (from.codec == CODEC_ZSTD || relocation->compression.codec != CODEC_ZSTD))
		return 0;
	if (relocation->count == BATCH || relocation->filled + RECORD_BYTES_MAX > BATCH_BYTES) {
		r = relocation_flush(relocation);
		if (r < 0)
			return r;
	}
	r = chunk_read_stored(store, id, &from, relocation->stored, relocation->raw);
	if (r == -ESTALE)
		return 0;
	if (is_damage(r)) {
		relocation->result.damaged++;
		return 0;
	}
	if (r < 0)
		return r;
	scratch = scratch_get(&store->scratch);
	if (!scratch)
		return -ENOMEM;
	to = from;
	payload = encode(relocation, scratch, &to);
	if (payload || always)
		gather(relocation, id, &from, &to, payload ? payload : relocation->stored);
	scratch_put(&store->scratch, scratch);
	return 0;
}

void relocation_pass(struct relocation *relocation, uint64_t position)
{
	relocation->position = position;
}

/* ---- the commit ---- */

/* Whether the index still has the chunk where it was looked up. */
static int is_unchanged(struct commit *commit, const struct moving *moving, bool *ret)
{
	uint64_t id = moving->id;
	MDB_val key = {sizeof(id), &id}, value;
	struct chunk_info now;
	int r = from_mdb(mdb_get(commit->txn, commit->store->env.dbi[DB_CHUNKS], &key, &value));

	if (r == 0)
		r = chunk_decode(id, value.mv_data, value.mv_size, &now);
	*ret = r == 0 && now.pack == moving->from.pack && now.offset == moving->from.offset;
	return r == -ENOENT || is_damage(r) ? 0 : r;
}

/* Enters the new place, notes the old one as dead. */
static int move(struct commit *commit, struct moving *moving, struct dead_range *dead,
		size_t *dead_count)
{
	uint64_t id = moving->id, before = record_size(moving->from.stored_length);
	struct disk_chunk disk;
	MDB_val key = {sizeof(id), &id}, value = {sizeof(disk), &disk};
	bool unchanged;
	int r = is_unchanged(commit, moving, &unchanged);

	if (r < 0)
		return r;
	moving->gone = !unchanged;
	if (moving->gone)
		return 0;
	chunk_encode(id, &moving->to, &disk);
	r = from_mdb(mdb_put(commit->txn, commit->store->env.dbi[DB_CHUNKS], &key, &value, 0));
	if (r < 0)
		return r;
	dead[(*dead_count)++] = (struct dead_range){
		.pack = moving->from.pack,
		.offset = moving->from.offset,
		.length = before,
	};
	commit->state.stored_bytes += record_size(moving->to.stored_length) - before;
	return 0;
}

/* All went into one pack. */
static int enter_pack(struct relocation *relocation, struct commit *commit,
		      const struct pack_place *place)
{
	struct pack_entry entry = {0};
	int r = pack_entry_get(relocation->store, commit->txn, place->pack, &entry);

	if (r < 0 && r != -ENOENT)
		return r;
	for (size_t i = 0; i < relocation->count; i++) {
		if (relocation->list[i].gone)
			continue;
		entry.live += record_size(relocation->list[i].to.stored_length);
		entry.records++;
	}
	if (entry.length < place->offset + relocation->filled)
		entry.length = place->offset + relocation->filled;
	return pack_entry_put(relocation->store, commit->txn, place->pack, &entry);
}

struct batch_dead {
	struct dead_range ranges[BATCH];
	size_t count;
	uint64_t removed[BATCH]; /* packs */
	size_t removed_count;
};

static int fill(struct relocation *relocation, struct commit *commit,
		const struct pack_place *place, struct batch_dead *dead)
{
	struct state *state;
	int r = commit_state(commit, &state);

	dead->count = dead->removed_count = 0;
	for (size_t i = 0; i < relocation->count && r == 0; i++)
		r = commit_note(commit,
				move(commit, &relocation->list[i], dead->ranges, &dead->count));
	if (r == 0 && relocation->count)
		r = commit_note(commit, enter_pack(relocation, commit, place));
	if (r == 0)
		r = commit_note(commit, dead_forget(commit, dead->ranges, dead->count,
						    dead->removed, &dead->removed_count));
	if (r == 0 && relocation->position > state->treated)
		state->treated = relocation->position;
	return r == 0 ? commit_seal_alone(commit) : r;
}

static int commit_batch(struct relocation *relocation, const struct pack_place *place,
			struct batch_dead *dead)
{
	struct commit *commit;
	int r;

	commit_give_way(relocation->store);
	r = commit_begin(relocation->store, &commit);
	if (r < 0)
		return r;
	r = fill(relocation, commit, place, dead);
	if (r < 0) {
		commit_abort(commit);
		return r;
	}
	return commit_finish(commit);
}

/* The copies that no entry points to. */
static void let_go(struct relocation *relocation, const struct pack_place *place, bool all)
{
	for (size_t i = 0; i < relocation->count; i++) {
		const struct moving *moving = &relocation->list[i];

		if (all || moving->gone)
			packs_note_dead(relocation->store, place->pack, moving->to.offset,
					record_size(moving->to.stored_length));
	}
}

static void account(struct relocation *relocation, const struct batch_dead *dead)
{
	for (size_t i = 0; i < relocation->count; i++) {
		const struct moving *moving = &relocation->list[i];

		if (moving->gone)
			continue;
		relocation->result.moved++;
		relocation->result.stored_before += record_size(moving->from.stored_length);
		relocation->result.stored_after += record_size(moving->to.stored_length);
		relocation->unpunched += record_size(moving->from.stored_length);
	}
	/* A pack that cannot be removed now is unknown to the index, and goes at the next open. */
	for (size_t i = 0; i < dead->removed_count; i++)
		(void)pack_remove(relocation->store, dead->removed[i]);
}

static int append(struct relocation *relocation, struct pack_place *ret)
{
	struct iovec vector = {relocation->buffer, relocation->filled};
	int r = pack_append(relocation->store, &vector, 1, relocation->filled, ret);

	if (r < 0)
		return r;
	for (size_t i = 0; i < relocation->count; i++) {
		relocation->list[i].to.pack = ret->pack;
		relocation->list[i].to.offset += ret->offset;
	}
	return 0;
}

/* Everything gathered is in a durable commit, or nothing is; then it can be flushed again. */
static int flush(struct relocation *relocation, struct batch_dead *dead)
{
	struct store *store = relocation->store;
	struct pack_place place = {0};
	bool any = relocation->count > 0;
	int r = any ? append(relocation, &place) : 0;

	if (r < 0)
		return r;
	/* Before the write transaction begins, so that nobody waits for this sync. */
	r = any ? packs_sync(store) : 0;
	if (r == 0 && any && !pack_is_durable(store, place.pack, place.write))
		r = -EIO;
	if (r == 0)
		r = commit_batch(relocation, &place, dead);
	if (any) {
		let_go(relocation, &place, r < 0);
		pack_settle(store, place.pack, 1);
	}
	if (r == 0)
		account(relocation, dead);
	else
		for (size_t i = 0; i < relocation->count; i++)
			relocation->list[i].to.offset -= place.offset;
	return r;
}

int relocation_flush(struct relocation *relocation)
{
	struct store *store = relocation->store;
	uint64_t bytes = relocation->filled;
	struct batch_dead *dead;
	int r;

	if (!relocation->count && !relocation->position)
		return 0;
	if (store_space_low(store))
		return -ENOSPC;
	dead = malloc(sizeof(*dead));
	if (!dead)
		return -ENOMEM;
	r = store_reserve(store, bytes);
	if (r == 0) {
		r = flush(relocation, dead);
		store_unreserve(store, bytes);
	}
	free(dead);
	if (r < 0)
		return r;
	relocation->count = 0;
	relocation->filled = 0;
	relocation->position = 0;
	if (relocation->unpunched < PUNCH_EVERY)
		return 0;
	relocation->unpunched = 0;
	return punch_run(store);
}

struct relocation *relocation_end(struct relocation *relocation, struct relocation_result *ret)
{
	if (!relocation)
		return NULL;
	/* What cannot be punched now is at the next open or collection. */
	if (relocation->unpunched && !store_failed(relocation->store))
		(void)punch_run(relocation->store);
	if (ret)
		*ret = relocation->result;
	return relocation_free(relocation);
}
