/*
 * What lies on the disk, byte for byte: index/FORMAT.md in C.
 *
 * Each structure is made of byte arrays; the functions below translate it from and to the
 * structure that the code works with, and are the only ones that know the layout.  Decoding
 * checks everything: the size, the checksum (which covers the key as well, so that an intact
 * value in the wrong place is noticed) and the range of each field.
 */
#ifndef CAIRN_INDEX_FORMAT_INTERNAL_H
#define CAIRN_INDEX_FORMAT_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#include "index/chunk.h"
#include "index/reader.h"
#include "index/store.h"

enum {
	FORMAT_VERSION = 1,
	FIRST_INODE = 16,
	HASH_SIZE = 16,
	NODE_CHECKED = 8, /* a node's checksum covers it from here on */
	RECORD_ALIGN = 8, /* records in packs begin at multiples of this */
	PACK_MAX = 256 * 1024 * 1024,
	PUNCH_BLOCK = 4096, /* ranges are punched in whole blocks of this size */
};

/* meta["state"] */
struct disk_state {
	uint8_t checksum[8];
	uint8_t next[STORE_COUNTERS][8];
	uint8_t next_pack[8];
	uint8_t raw_bytes[8];
	uint8_t stored_bytes[8];
	uint8_t unpunched[8];
	uint8_t codec[4];
	uint8_t level[4];
	uint8_t redo_epoch[8];
	uint8_t rest_level[4];
	uint8_t scattered;
	uint8_t reserved[3];
	uint8_t treated[8];
};
_Static_assert(sizeof(struct disk_state) == 128, "size of meta state");
_Static_assert(offsetof(struct disk_state, next_pack) == 64, "offset of next_pack");
_Static_assert(offsetof(struct disk_state, codec) == 96, "offset of codec");
_Static_assert(offsetof(struct disk_state, redo_epoch) == 104, "offset of redo_epoch");
_Static_assert(offsetof(struct disk_state, treated) == 120, "offset of treated");

struct state {
	uint64_t next[STORE_COUNTERS];
	uint64_t next_pack;
	uint64_t raw_bytes;
	uint64_t stored_bytes;
	uint64_t unpunched; /* entries of `punches` that are still to be punched */
	struct store_compression compression;
	uint64_t redo_epoch; /* of the records in the redo log that count; 0: none */
	bool scattered;	     /* files may be, since they were last put in order */
	uint64_t treated;    /* chunks with smaller ids lie as the setting for rest says; 0: none */
};

void state_encode(const struct state *state, struct disk_state *ret);
int state_decode(const void *data, size_t length, struct state *ret);

/* chunks[id] */
struct disk_chunk {
	uint8_t hash[HASH_SIZE];
	uint8_t pack[8];
	uint8_t offset[8];
	uint8_t stored_length[4];
	uint8_t raw_length[4];
	uint8_t codec;
	uint8_t reserved[3];
	uint8_t checksum[4];
};
_Static_assert(sizeof(struct disk_chunk) == 48, "size of a chunk's entry");
_Static_assert(offsetof(struct disk_chunk, stored_length) == 32, "offset of stored_length");
_Static_assert(offsetof(struct disk_chunk, checksum) == 44, "offset of checksum");

void chunk_encode(uint64_t id, const struct chunk_info *info, struct disk_chunk *ret);
int chunk_decode(uint64_t id, const void *data, size_t length, struct chunk_info *ret);

/* Key of `hashes`; there is no value. */
struct disk_hash_key {
	uint8_t hash[HASH_SIZE];
	uint8_t id[8]; /* big endian, so that the keys of one hash sort by id */
};
_Static_assert(sizeof(struct disk_hash_key) == 24, "size of a hash's key");

/* packs[number] */
struct disk_pack {
	uint8_t length[8];
	uint8_t live[8];
	uint8_t records[8];
	uint8_t reserved[4];
	uint8_t checksum[4];
};
_Static_assert(sizeof(struct disk_pack) == 32, "size of a pack's entry");

struct pack_entry {
	uint64_t length;  /* committed: what lies behind was left by a crash */
	uint64_t live;	  /* bytes of records that chunks refer to */
	uint64_t records; /* how many those are */
};

void pack_encode(uint64_t number, const struct pack_entry *entry, struct disk_pack *ret);
int pack_decode(uint64_t number, const void *data, size_t length, struct pack_entry *ret);

/* punches[key]: a range of a pack that no chunk refers to any more */
struct disk_punch_key {
	uint8_t pack[8];   /* big endian */
	uint8_t offset[8]; /* big endian */
};
_Static_assert(sizeof(struct disk_punch_key) == 16, "size of a dead range's key");

struct disk_punch {
	uint8_t length[8];
	uint8_t punched; /* 1: given back, as far as whole blocks allow */
	uint8_t reserved[3];
	uint8_t checksum[4];
};
_Static_assert(sizeof(struct disk_punch) == 16, "size of a dead range's entry");

struct dead_range {
	uint64_t pack;
	uint64_t offset;
	uint64_t length;
	bool punched;
};

void punch_encode(const struct dead_range *range, struct disk_punch_key *ret_key,
		  struct disk_punch *ret);
int punch_decode(const void *key, size_t key_length, const void *data, size_t length,
		 struct dead_range *ret);

/* The header of a record in a pack; payload and padding to RECORD_ALIGN follow. */
struct disk_record {
	uint8_t magic[4];
	uint8_t codec;
	uint8_t flags;
	uint8_t reserved[2];
	uint8_t stored_length[4];
	uint8_t raw_length[4];
	uint8_t id[8];
	uint8_t hash[HASH_SIZE];
	uint8_t checksum[8];
};
_Static_assert(sizeof(struct disk_record) == 48, "size of a record's header");
_Static_assert(offsetof(struct disk_record, id) == 16, "offset of id");
_Static_assert(offsetof(struct disk_record, checksum) == 40, "offset of checksum");

#define RECORD_MAGIC "crn\x01"

/* Header, payload and padding of a record whose payload has this length. */
static inline uint64_t record_size(uint32_t stored_length)
{
	uint64_t size = sizeof(struct disk_record) + (uint64_t)stored_length;

	return (size + RECORD_ALIGN - 1) / RECORD_ALIGN * RECORD_ALIGN;
}

/* `pack` and `offset` of the info are not part of the record. */
void record_encode(uint64_t id, const struct chunk_info *info, struct disk_record *ret);
int record_decode(const struct disk_record *record, uint64_t *ret_id, struct chunk_info *ret);
/* Whether it is the header of this chunk's record: -EBADMSG, -EUCLEAN. */
int record_check(const struct disk_record *record, uint64_t id, const struct chunk_info *info);

/* XXH3-64 of a node without its first 8 bytes. */
uint64_t node_checksum(const uint8_t *node);

/* Checksum behind the value of a record of the upper rooms. */
enum { RECORD_TRAILER = 8 };
uint64_t value_checksum(struct bytes key, struct bytes value);

/* XXH3-128 of raw bytes, canonical. */
void chunk_hash(const void *raw, size_t length, uint8_t ret[HASH_SIZE]);

#endif
