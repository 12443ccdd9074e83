#include "index/format_internal.h"

#include <errno.h>
#include <xxhash.h>

#include "index/hash_internal.h"
#include "index/store_internal.h"
#include "index/util/bytes.h"

static uint32_t checksum32(const void *data, size_t length, uint64_t key)
{
	return (uint32_t)XXH3_64bits_withSeed(data, length, key);
}

static int check_lengths(const struct chunk_info *info)
{
	if (info->codec > CODEC_ZSTD || !info->raw_length || info->raw_length > CHUNK_MAX)
		return -EUCLEAN;
	if (info->codec == CODEC_NONE ? info->stored_length != info->raw_length
				      : info->stored_length >= info->raw_length)
		return -EUCLEAN;
	return info->stored_length ? 0 : -EUCLEAN;
}

void state_encode(const struct state *state, struct disk_state *ret)
{
	const uint8_t *bytes = (const uint8_t *)ret;

	memset(ret, 0, sizeof(*ret));
	for (int i = 0; i < STORE_COUNTERS; i++)
		put_le64(ret->next[i], state->next[i]);
	put_le64(ret->next_pack, state->next_pack);
	put_le64(ret->raw_bytes, state->raw_bytes);
	put_le64(ret->stored_bytes, state->stored_bytes);
	put_le64(ret->unpunched, state->unpunched);
	put_le32(ret->codec, state->compression.codec);
	put_le32(ret->level, (uint32_t)state->compression.level);
	put_le64(ret->redo_epoch, state->redo_epoch);
	put_le32(ret->rest_level, (uint32_t)state->compression.rest_level);
	ret->scattered = state->scattered;
	put_le64(ret->treated, state->treated);
	put_le64(ret->checksum, XXH3_64bits(bytes + 8, sizeof(*ret) - 8));
}

int state_decode(const void *data, size_t length, struct state *ret)
{
	struct disk_state disk;
	struct state state = {0};

	if (length != sizeof(disk))
		return -EUCLEAN;
	memcpy(&disk, data, sizeof(disk));
	if (get_le64(disk.checksum) != XXH3_64bits((uint8_t *)&disk + 8, sizeof(disk) - 8))
		return -EBADMSG;
	for (int i = 0; i < STORE_COUNTERS; i++) {
		state.next[i] = get_le64(disk.next[i]);
		if (!state.next[i])
			return -EUCLEAN;
	}
	state.next_pack = get_le64(disk.next_pack);
	state.raw_bytes = get_le64(disk.raw_bytes);
	state.stored_bytes = get_le64(disk.stored_bytes);
	state.unpunched = get_le64(disk.unpunched);
	state.compression.codec = (enum codec)get_le32(disk.codec);
	state.compression.level = (int)get_le32(disk.level);
	state.compression.rest_level = (int)get_le32(disk.rest_level);
	state.redo_epoch = get_le64(disk.redo_epoch);
	state.scattered = disk.scattered & 1;
	state.treated = get_le64(disk.treated);
	if (disk.scattered > 1 || !state.next_pack || !compression_is_valid(&state.compression))
		return -EUCLEAN;
	*ret = state;
	return 0;
}

void chunk_encode(uint64_t id, const struct chunk_info *info, struct disk_chunk *ret)
{
	memset(ret, 0, sizeof(*ret));
	memcpy(ret->hash, info->hash, HASH_SIZE);
	put_le64(ret->pack, info->pack);
	put_le64(ret->offset, info->offset);
	put_le32(ret->stored_length, info->stored_length);
	put_le32(ret->raw_length, info->raw_length);
	ret->codec = (uint8_t)info->codec;
	put_le32(ret->checksum, checksum32(ret, offsetof(struct disk_chunk, checksum), id));
}

int chunk_decode(uint64_t id, const void *data, size_t length, struct chunk_info *ret)
{
	struct disk_chunk disk;
	struct chunk_info info;

	if (length != sizeof(disk))
		return -EUCLEAN;
	memcpy(&disk, data, sizeof(disk));
	if (get_le32(disk.checksum) != checksum32(&disk, offsetof(struct disk_chunk, checksum), id))
		return -EBADMSG;
	memcpy(info.hash, disk.hash, HASH_SIZE);
	info.pack = get_le64(disk.pack);
	info.offset = get_le64(disk.offset);
	info.stored_length = get_le32(disk.stored_length);
	info.raw_length = get_le32(disk.raw_length);
	info.codec = (enum codec)disk.codec;
	if (!info.pack || info.offset % RECORD_ALIGN || info.offset > PACK_MAX)
		return -EUCLEAN;
	if (check_lengths(&info) < 0)
		return -EUCLEAN;
	*ret = info;
	return 0;
}

void pack_encode(uint64_t number, const struct pack_entry *entry, struct disk_pack *ret)
{
	memset(ret, 0, sizeof(*ret));
	put_le64(ret->length, entry->length);
	put_le64(ret->live, entry->live);
	put_le64(ret->records, entry->records);
	put_le32(ret->checksum, checksum32(ret, offsetof(struct disk_pack, checksum), number));
}

int pack_decode(uint64_t number, const void *data, size_t length, struct pack_entry *ret)
{
	struct disk_pack disk;
	struct pack_entry entry;

	if (length != sizeof(disk))
		return -EUCLEAN;
	memcpy(&disk, data, sizeof(disk));
	if (get_le32(disk.checksum) !=
	    checksum32(&disk, offsetof(struct disk_pack, checksum), number))
		return -EBADMSG;
	entry.length = get_le64(disk.length);
	entry.live = get_le64(disk.live);
	entry.records = get_le64(disk.records);
	if (!number || entry.length > PACK_MAX || entry.length % RECORD_ALIGN ||
	    entry.live > entry.length || !entry.live != !entry.records)
		return -EUCLEAN;
	*ret = entry;
	return 0;
}

void punch_encode(const struct dead_range *range, struct disk_punch_key *ret_key,
		  struct disk_punch *ret)
{
	put_be64(ret_key->pack, range->pack);
	put_be64(ret_key->offset, range->offset);
	memset(ret, 0, sizeof(*ret));
	put_le64(ret->length, range->length);
	ret->punched = range->punched;
	put_le32(ret->checksum, checksum32(ret, offsetof(struct disk_punch, checksum),
					   XXH3_64bits(ret_key, sizeof(*ret_key))));
}

int punch_decode(const void *key, size_t key_length, const void *data, size_t length,
		 struct dead_range *ret)
{
	struct disk_punch_key disk_key;
	struct disk_punch disk;
	struct dead_range range;

	if (key_length != sizeof(disk_key) || length != sizeof(disk))
		return -EUCLEAN;
	memcpy(&disk_key, key, sizeof(disk_key));
	memcpy(&disk, data, sizeof(disk));
	if (get_le32(disk.checksum) != checksum32(&disk, offsetof(struct disk_punch, checksum),
						  XXH3_64bits(&disk_key, sizeof(disk_key))))
		return -EBADMSG;
	range.pack = get_be64(disk_key.pack);
	range.offset = get_be64(disk_key.offset);
	range.length = get_le64(disk.length);
	range.punched = disk.punched;
	if (!range.pack || disk.punched > 1 || range.offset > PACK_MAX || !range.length ||
	    range.length > PACK_MAX - range.offset)
		return -EUCLEAN;
	*ret = range;
	return 0;
}

void record_encode(uint64_t id, const struct chunk_info *info, struct disk_record *ret)
{
	memset(ret, 0, sizeof(*ret));
	memcpy(ret->magic, RECORD_MAGIC, sizeof(ret->magic));
	ret->codec = (uint8_t)info->codec;
	put_le32(ret->stored_length, info->stored_length);
	put_le32(ret->raw_length, info->raw_length);
	put_le64(ret->id, id);
	memcpy(ret->hash, info->hash, HASH_SIZE);
	put_le64(ret->checksum, XXH3_64bits(ret, offsetof(struct disk_record, checksum)));
}

int record_decode(const struct disk_record *record, uint64_t *ret_id, struct chunk_info *ret)
{
	struct chunk_info info = {0};

	if (memcmp(record->magic, RECORD_MAGIC, sizeof(record->magic)) != 0 ||
	    get_le64(record->checksum) !=
		    XXH3_64bits(record, offsetof(struct disk_record, checksum)))
		return -EBADMSG;
	if (record->flags)
		return -EOPNOTSUPP;
	info.codec = (enum codec)record->codec;
	info.stored_length = get_le32(record->stored_length);
	info.raw_length = get_le32(record->raw_length);
	memcpy(info.hash, record->hash, HASH_SIZE);
	if (check_lengths(&info) < 0)
		return -EUCLEAN;
	*ret_id = get_le64(record->id);
	*ret = info;
	return 0;
}

int record_check(const struct disk_record *record, uint64_t id, const struct chunk_info *info)
{
	struct chunk_info found;
	uint64_t found_id;
	int r = record_decode(record, &found_id, &found);

	if (r < 0)
		return r;
	if (found_id != id || found.codec != info->codec ||
	    found.stored_length != info->stored_length || found.raw_length != info->raw_length ||
	    memcmp(found.hash, info->hash, HASH_SIZE) != 0)
		return -EBADMSG;
	return 0;
}

uint64_t node_checksum(const uint8_t *node)
{
	return hashing()->long64(node + NODE_CHECKED, NODE_SIZE - NODE_CHECKED);
}

uint64_t value_checksum(struct bytes key, struct bytes value)
{
	return XXH3_64bits_withSeed(value.data, value.length, XXH3_64bits(key.data, key.length));
}

void chunk_hash(const void *raw, size_t length, uint8_t ret[HASH_SIZE])
{
	hashing()->long128(raw, length, ret);
}
