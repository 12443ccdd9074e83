/*
 * Reading several chunks at once.
 *
 * Chunks of one file that were stored together lie one behind the other in a pack.  A group of
 * such records is read with one call: raw payloads go where they are wanted, compressed ones to
 * a buffer of the thread's scratch, headers and what lies between to the side.  A large read also
 * lets the kernel read ahead as for any file that is read in sequence.
 *
 * This is the straight way only.  Where anything is not as it should be, each chunk of the group
 * that has not been verified is read by chunk_read(), which knows what the matter is.
 */
#include <stdlib.h>
#include <string.h>

#include "index/store_internal.h"

enum {
	GROUP_RECORDS = 64,
	GROUP_GATHER = 1 << 20, /* compressed bytes */
	GAP_MAX = 4096,		/* between two records: cheaper to read than to seek over */
	VECTORS = 3 * GROUP_RECORDS,
};

struct group {
	struct store *store;
	struct chunk_load *loads;
	int count;
	struct scratch *scratch;
	struct disk_record headers[GROUP_RECORDS];
	struct iovec vectors[VECTORS];
	int vector_count;
	size_t bytes;	 /* in the vectors */
	size_t gathered; /* compressed bytes so far */
	uint64_t end;	 /* of what is read, in the pack */
};

static bool is_compressed(const struct chunk_load *load)
{
	return load->info.codec != CODEC_NONE;
}

/* Without memory compressed chunks are read one by one. */
static bool has_room(const struct group *group, const struct chunk_load *load)
{
	if (group->count == GROUP_RECORDS)
		return false;
	if (!is_compressed(load))
		return true;
	return group->scratch && scratch_gather(group->scratch, GROUP_GATHER) &&
	       group->gathered + load->info.stored_length <= GROUP_GATHER;
}

static void add_vector(struct group *group, void *bytes, size_t length)
{
	if (!length)
		return;
	group->vectors[group->vector_count++] = (struct iovec){bytes, length};
	group->bytes += length;
	group->end += length;
}

/* Whether the next chunk can be read together with those before it; then it is. */
static bool group_add(struct group *group, struct chunk_load *load)
{
	const struct chunk_info *info = &load->info;
	struct disk_record *header = &group->headers[group->count];

	if (!has_room(group, load) || info->raw_length > load->capacity)
		return false;
	if (group->count) {
		if (info->pack != group->loads[0].info.pack || info->offset < group->end ||
		    info->offset - group->end > GAP_MAX)
			return false;
		/* What lies between is of no use: wherever it does no harm. */
		add_vector(group, group->scratch->stored, info->offset - group->end);
	} else {
		group->end = info->offset;
	}
	add_vector(group, header, sizeof(*header));
	if (is_compressed(load)) {
		add_vector(group, group->scratch->gather + group->gathered, info->stored_length);
		group->gathered += info->stored_length;
	} else {
		add_vector(group, load->buffer, info->stored_length);
	}
	group->count++;
	return true;
}

static bool load_is_good(struct group *group, int i, const uint8_t *stored)
{
	struct chunk_load *load = &group->loads[i];
	const struct chunk_info *info = &load->info;
	uint8_t hash[HASH_SIZE];

	if (record_check(&group->headers[i], load->id, info) < 0)
		return false;
	if (is_compressed(load) &&
	    codec_decompress(group->scratch, info->codec, stored, info->stored_length, load->buffer,
			     info->raw_length) < 0)
		return false;
	chunk_hash(load->buffer, info->raw_length, hash);
	return memcmp(hash, info->hash, HASH_SIZE) == 0;
}

static int group_read(struct group *group, struct errbuf *err)
{
	uint64_t pack = group->loads[0].info.pack, offset = group->loads[0].info.offset;
	size_t gathered = 0;
	ssize_t done = pack_read(group->store, pack, group->vectors, group->vector_count, offset);
	bool complete = done >= 0 && (size_t)done == group->bytes;

	for (int i = 0; i < group->count; i++) {
		struct chunk_load *load = &group->loads[i];
		size_t length;
		int r = 0;

		if (!complete || !load_is_good(group, i, group->scratch->gather + gathered))
			r = chunk_read(group->store, load->id, load->buffer, load->capacity,
				       &length, err);
		if (r < 0)
			return r;
		if (is_compressed(load))
			gathered += load->info.stored_length;
	}
	return 0;
}

int chunks_read(struct store *store, struct chunk_load *loads, int count, struct errbuf *err)
{
	struct scratch *scratch = scratch_get(&store->scratch);
	int done = 0, r = 0;
	size_t length;

	while (done < count && r == 0) {
		struct group group = {.store = store, .loads = loads + done, .scratch = scratch};

		while (scratch && done + group.count < count &&
		       group_add(&group, &loads[done + group.count]))
			;
		if (group.count) {
			r = group_read(&group, err);
			done += group.count;
		} else {
			r = chunk_read(store, loads[done].id, loads[done].buffer,
				       loads[done].capacity, &length, err);
			done++;
		}
	}
	if (scratch)
		scratch_put(&store->scratch, scratch);
	return r;
}

/* Asks for merged ranges: the records of a stream are one. */
void chunks_prefetch(struct store *store, const uint64_t *ids, int count)
{
	uint64_t pack = 0, offset = 0, end = 0;

	for (int i = 0; i < count; i++) {
		struct chunk_info info;

		if (chunk_info(store, ids[i], &info) < 0)
			continue;
		if (end && (info.pack != pack || info.offset != end)) {
			pack_prefetch(store, pack, offset, end - offset);
			end = 0;
		}
		if (!end) {
			pack = info.pack;
			offset = info.offset;
		}
		end = info.offset + record_size(info.stored_length);
	}
	if (end)
		pack_prefetch(store, pack, offset, end - offset);
}
