/*
 * index/FORMAT.md against the code: every dump that is printed there is decoded, and made again
 * from the values that the text beside it gives.
 */
#include "index_testing.h"

#include <lz4.h>
#include <sys/mman.h>
#include <zstd.h>

#include "index/codec_internal.h"
#include "index/format_internal.h"
#include "index/hash_internal.h"
#include "index/redo_internal.h"

enum { DUMPS = 32, DUMP_MAX = 512 };

static struct dump {
	char name[32];
	uint8_t bytes[DUMP_MAX];
	size_t length;
	bool used;
} dumps[DUMPS];
static int dump_count;

/* Lines of a dump: four digits of offset, two spaces, up to sixteen bytes. */
static void parse_line(struct dump *dump, const char *line)
{
	unsigned offset, byte;
	int used;

	if (sscanf(line, "%4x%n", &offset, &used) != 1 || offset != dump->length)
		fail_msg("dump %s: offset %04zx expected: %s", dump->name, dump->length, line);
	for (line += used; sscanf(line, " %2x%n", &byte, &used) == 1; line += used) {
		assert_true(dump->length < DUMP_MAX);
		dump->bytes[dump->length++] = (uint8_t)byte;
	}
}

static int read_document(void **state)
{
	char path[PATH_MAX] = __FILE__, line[1024];
	struct dump *dump = NULL;
	FILE *file;

	(void)state;
	strcpy(strrchr(path, '/'), "/../../index/FORMAT.md");
	file = fopen(path, "re");
	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file)) {
		if (strncmp(line, "```dump ", 8) == 0) {
			dump = &dumps[dump_count++];
			if (dump_count == DUMPS || sscanf(line + 8, "%31s", dump->name) != 1)
				return -1;
		} else if (strncmp(line, "```", 3) == 0) {
			dump = NULL;
		} else if (dump) {
			parse_line(dump, line);
		}
	}
	fclose(file);
	return 0;
}

static struct dump *find_dump(const char *name)
{
	for (int i = 0; i < dump_count; i++) {
		if (strcmp(dumps[i].name, name) == 0) {
			dumps[i].used = true;
			return &dumps[i];
		}
	}
	fail_msg("index/FORMAT.md has no dump \"%s\"", name);
	return NULL;
}

static void print_dump(const char *name, const uint8_t *bytes, size_t length)
{
	print_message("```dump %s\n", name);
	for (size_t i = 0; i < length; i += 16) {
		print_message("%04zx ", i);
		for (size_t j = i; j < i + 16 && j < length; j++)
			print_message(" %02x", bytes[j]);
		print_message("\n");
	}
	print_message("```\n");
}

/* The dump must be exactly this; otherwise it is printed as it should be. */
static const uint8_t *expect_dump(const char *name, const void *bytes, size_t length)
{
	struct dump *dump = find_dump(name);

	if (dump->length != length || memcmp(dump->bytes, bytes, length) != 0) {
		print_dump(name, bytes, length);
		fail_msg("index/FORMAT.md: dump \"%s\" should be as above", name);
	}
	return dump->bytes;
}

static const char hello[] = "hello, cairn\n";

static struct chunk_info hello_info(void)
{
	struct chunk_info info = {
		.pack = 3,
		.offset = 4096,
		.stored_length = sizeof(hello) - 1,
		.raw_length = sizeof(hello) - 1,
		.codec = CODEC_NONE,
	};

	chunk_hash(hello, sizeof(hello) - 1, info.hash);
	return info;
}

static void dump_of_state(void **state)
{
	struct state values = {
		.next = {258, 515, 772, 1029, 1286, 1543, 1800},
		.next_pack = 9,
		.raw_bytes = 1000000,
		.stored_bytes = 600000,
		.unpunched = 2,
		.compression = {.codec = CODEC_ZSTD, .level = 3},
		.redo_epoch = UINT64_C(0x1122334455667788),
	};
	struct disk_state disk;
	struct state decoded;

	(void)state;
	state_encode(&values, &disk);
	assert_ok(state_decode(expect_dump("state", &disk, sizeof(disk)), sizeof(disk), &decoded));
	assert_memory_equal(decoded.next, values.next, sizeof(values.next));
	assert_int_equal(decoded.next_pack, 9);
	assert_int_equal(decoded.raw_bytes, 1000000);
	assert_int_equal(decoded.stored_bytes, 600000);
	assert_int_equal(decoded.unpunched, 2);
	assert_int_equal(decoded.compression.codec, CODEC_ZSTD);
	assert_int_equal(decoded.compression.level, 3);
	assert_int_equal(decoded.redo_epoch, UINT64_C(0x1122334455667788));
}

static void dump_of_chunk(void **state)
{
	struct chunk_info info = hello_info(), decoded;
	struct disk_hash_key key;
	struct disk_chunk disk;

	(void)state;
	chunk_encode(7, &info, &disk);
	assert_ok(
		chunk_decode(7, expect_dump("chunk", &disk, sizeof(disk)), sizeof(disk), &decoded));
	assert_int_equal(decoded.pack, 3);
	assert_int_equal(decoded.offset, 4096);
	assert_int_equal(decoded.stored_length, 13);
	assert_int_equal(decoded.raw_length, 13);
	assert_int_equal(decoded.codec, CODEC_NONE);
	assert_memory_equal(decoded.hash, info.hash, HASH_SIZE);

	memcpy(key.hash, info.hash, HASH_SIZE);
	put_be64(key.id, 7);
	expect_dump("hash", &key, sizeof(key));
}

static void dump_of_pack(void **state)
{
	struct pack_entry entry = {.length = 8192, .live = 5000, .records = 17}, decoded;
	struct disk_pack disk;

	(void)state;
	pack_encode(3, &entry, &disk);
	assert_ok(pack_decode(3, expect_dump("pack", &disk, sizeof(disk)), sizeof(disk), &decoded));
	assert_int_equal(decoded.length, 8192);
	assert_int_equal(decoded.live, 5000);
	assert_int_equal(decoded.records, 17);
}

static void dump_of_dead_range(void **state)
{
	struct dead_range range = {.pack = 3, .offset = 4096, .length = 8192}, decoded;
	struct disk_punch_key key;
	struct disk_punch disk;

	(void)state;
	punch_encode(&range, &key, &disk);
	assert_ok(punch_decode(expect_dump("punch-key", &key, sizeof(key)), sizeof(key),
			       expect_dump("punch", &disk, sizeof(disk)), sizeof(disk), &decoded));
	assert_int_equal(decoded.pack, 3);
	assert_int_equal(decoded.offset, 4096);
	assert_int_equal(decoded.length, 8192);
	assert_false(decoded.punched);
}

static void dump_of_record_value(void **state)
{
	uint8_t stored[4 + RECORD_TRAILER];

	(void)state;
	memcpy(stored, "head", 4);
	put_le64(stored + 4, value_checksum(text("main"), text("head")));
	expect_dump("record-value", stored, sizeof(stored));
}

static void dump_of_record(void **state)
{
	struct chunk_info info = hello_info(), decoded;
	uint8_t bytes[64] = {0};
	uint64_t id;

	(void)state;
	assert_int_equal(record_size(info.stored_length), sizeof(bytes));
	record_encode(7, &info, (struct disk_record *)bytes);
	memcpy(bytes + sizeof(struct disk_record), hello, sizeof(hello) - 1);
	assert_ok(record_decode((const void *)expect_dump("record", bytes, sizeof(bytes)), &id,
				&decoded));
	assert_int_equal(id, 7);
	assert_int_equal(decoded.raw_length, 13);
	assert_memory_equal(decoded.hash, info.hash, HASH_SIZE);
}

struct expected {
	int calls;
	const uint8_t *bytes;
	size_t length;
};

static int see_record(const struct disk_redo *header, uint8_t *body, uint64_t length, void *context)
{
	struct expected *expected = context;

	expected->calls++;
	assert_int_equal(sizeof(*header) + length, expected->length);
	assert_memory_equal(header, expected->bytes, sizeof(*header));
	assert_memory_equal(body, expected->bytes + sizeof(*header), length);
	return 0;
}

/* And the reader of the log finds it. */
static void dump_of_redo(void **state)
{
	struct state values = {.next = {258, 515, 772, 1029, 1286, 1543, 1800}};
	const uint64_t epoch = UINT64_C(0x1122334455667788);
	struct chunk_info info = hello_info();
	uint8_t record[4096], stored[4096] = {0};
	struct disk_record *chunk = (struct disk_record *)(record + 176);
	struct disk_redo *header = (struct disk_redo *)record;
	struct expected expected = {.length = 240};
	uint64_t end;

	(void)state;
	memset(record, 0, sizeof(record));
	memcpy(header->magic, REDO_MAGIC, 4);
	put_le64(header->epoch, epoch);
	put_le64(header->length, expected.length - sizeof(*header));
	for (int i = 0; i < STORE_COUNTERS; i++)
		put_le64(header->next[i], values.next[i]);
	record[128] = REDO_DELETE;
	put_le32(record + 132, 16);
	put_le64(record + 136, 5);
	put_le64(record + 144, 6);
	record[152] = REDO_RECORD;
	record[153] = TABLE_WORKSPACES;
	put_le16(record + 154, 4);
	put_le32(record + 156, 8);
	memcpy(record + 160, "mainhead", 8);
	record[168] = REDO_CHUNK;
	put_le32(record + 172, 64);
	record_encode(7, &info, chunk);
	memcpy(record + 176 + sizeof(*chunk), hello, sizeof(hello) - 1);
	redo_checksum(record, expected.length, header->checksum);
	expected.bytes = expect_dump("redo", record, expected.length);

	int fd = memfd_create("redo", MFD_CLOEXEC);
	assert_true(fd >= 0);
	memcpy(stored, expected.bytes, expected.length);
	assert_int_equal(pwrite(fd, stored, sizeof(stored), 0), sizeof(stored));
	const struct io io = {&io_system, NULL};
	assert_ok(redo_scan(&io, fd, sizeof(stored), epoch, see_record, &expected, &end));
	assert_int_equal(expected.calls, 1);
	assert_int_equal(end, sizeof(stored));
	assert_ok(redo_scan(&io, fd, sizeof(stored), epoch + 1, see_record, &expected, &end));
	assert_int_equal(end, 0);
	close(fd);
}

/* Compressed payloads are decoded only: their bytes are the libraries' business. */
static void compressed_record(const char *name, uint64_t id, enum codec codec)
{
	struct scratch_pool pool;
	struct dump *dump = find_dump(name);
	const struct disk_record *header = (const void *)dump->bytes;
	struct scratch *scratch;
	struct chunk_info info;
	uint8_t raw[200], wanted[200], hash[HASH_SIZE];
	uint64_t found;

	for (size_t i = 0; i < sizeof(wanted); i++)
		wanted[i] = i % 2 ? 'b' : 'a';
	assert_ok(scratch_pool_init(&pool));
	scratch = scratch_get(&pool);
	assert_non_null(scratch);
	if (dump->length < sizeof(*header)) {
		struct store_compression compression = {.codec = codec,
							.level = codec == CODEC_ZSTD ? 3 : 0};
		uint8_t bytes[DUMP_MAX] = {0};

		info = (struct chunk_info){.raw_length = sizeof(wanted), .codec = codec};
		info.stored_length =
			(uint32_t)codec_compress(scratch, &compression, wanted, sizeof(wanted));
		chunk_hash(wanted, sizeof(wanted), info.hash);
		record_encode(id, &info, (struct disk_record *)bytes);
		memcpy(bytes + sizeof(*header), scratch->stored, info.stored_length);
		print_dump(name, bytes, record_size(info.stored_length));
		fail_msg("index/FORMAT.md: dump \"%s\" could be as above", name);
	}
	assert_ok(record_decode(header, &found, &info));
	assert_int_equal(found, id);
	assert_int_equal(info.codec, codec);
	assert_int_equal(info.raw_length, sizeof(raw));
	assert_int_equal(dump->length, record_size(info.stored_length));
	assert_ok(codec_decompress(scratch, codec, dump->bytes + sizeof(*header),
				   info.stored_length, raw, sizeof(raw)));
	assert_memory_equal(raw, wanted, sizeof(raw));
	chunk_hash(raw, sizeof(raw), hash);
	assert_memory_equal(hash, info.hash, HASH_SIZE);
	scratch_put(&pool, scratch);
	scratch_pool_release(&pool);
}

static void dumps_of_compressed_records(void **state)
{
	(void)state;
	compressed_record("record-lz4", 8, CODEC_LZ4);
	compressed_record("record-zstd", 9, CODEC_ZSTD);
}

static void dump_of_node_header(void **state)
{
	uint8_t node[NODE_SIZE];

	(void)state;
	for (size_t i = 16; i < NODE_SIZE; i++)
		node[i] = (uint8_t)(i - 16);
	put_le64(node + 8, 5);
	put_le64(node, node_checksum(node));
	expect_dump("node-header", node, 24);
}

/* XXH3 itself: the values that its authors promise to keep. */
static void hashes_are_the_known_ones(void **state)
{
	static const uint8_t empty[HASH_SIZE] = {0x99, 0xaa, 0x06, 0xd3, 0x01, 0x47, 0x98, 0xd8,
						 0x60, 0x01, 0xc3, 0x24, 0x46, 0x8d, 0x49, 0x7f};
	uint8_t hash[HASH_SIZE];

	(void)state;
	chunk_hash("", 0, hash);
	assert_memory_equal(hash, empty, sizeof(hash));
}

/* Whatever vectors a processor has, the values are these. */
static void hashes_are_alike_on_all_processors(void **state)
{
	enum { LENGTH = 300000 };
	static const uint8_t of_all[HASH_SIZE] = {0xcb, 0x6e, 0x19, 0xbb, 0x1f, 0x7d, 0x11, 0x77, 0x02, 0x09, 0xd7, 0x92, 0xbc, 0xc7, 0xa1, 0x63};
	static const size_t lengths[] = {0,    1,    16,    17,	   128,	  129,	 240,	241,   1023,
					 1024, 1025, 16384, 65535, 65536, 65537, 262144, LENGTH};
	uint8_t *bytes = malloc(LENGTH + 3);

	(void)state;
	assert_non_null(bytes);
	for (size_t i = 0; i < LENGTH + 3; i++)
		bytes[i] = (uint8_t)(i * i + i / 251);
	for (const struct hashing *const *each = hashings(); *each; each++) {
		uint8_t hash[HASH_SIZE], plain[HASH_SIZE];
		print_message("%s\n", (*each)->name);
		(*each)->long128(bytes, LENGTH, hash);
		assert_memory_equal(hash, of_all, HASH_SIZE);
		assert_int_equal((*each)->long64(bytes, LENGTH), UINT64_C(0x0209d792bcc7a163));
		for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
			const uint8_t *at = bytes + i % 4;
			(*each)->long128(at, lengths[i], hash);
			hashing_plain.long128(at, lengths[i], plain);
			assert_memory_equal(hash, plain, HASH_SIZE);
			assert_int_equal((*each)->long64(at, lengths[i]),
					 hashing_plain.long64(at, lengths[i]));
		}
	}
	free(bytes);
}

/* Every bit of every structure is covered by its checksum, reserved bytes included. */
static void flipped_bits_are_refused(void **state)
{
	struct chunk_info info = hello_info();
	struct dead_range range = {.pack = 3, .offset = 4096, .length = 8192};
	struct pack_entry entry = {.length = 8192, .live = 5000, .records = 17};
	struct state values;
	struct disk_state disk_state;
	struct disk_chunk disk_chunk;
	struct disk_pack disk_pack;
	struct disk_punch_key disk_key;
	struct disk_punch disk_punch;
	struct disk_record disk_record;
	uint64_t id;

	(void)state;
	memcpy(&disk_state, find_dump("state")->bytes, sizeof(disk_state));
	chunk_encode(7, &info, &disk_chunk);
	pack_encode(3, &entry, &disk_pack);
	punch_encode(&range, &disk_key, &disk_punch);
	record_encode(7, &info, &disk_record);
#define FLIP(disk, decode)                                                                         \
	for (size_t bit = 0; bit < sizeof(disk) * 8; bit++) {                                      \
		((uint8_t *)&(disk))[bit / 8] ^= (uint8_t)(1u << bit % 8);                         \
		assert_int_equal(decode, -EBADMSG);                                                \
		((uint8_t *)&(disk))[bit / 8] ^= (uint8_t)(1u << bit % 8);                         \
	}                                                                                          \
	assert_ok(decode)
	FLIP(disk_state, state_decode(&disk_state, sizeof(disk_state), &values));
	FLIP(disk_chunk, chunk_decode(7, &disk_chunk, sizeof(disk_chunk), &info));
	FLIP(disk_pack, pack_decode(3, &disk_pack, sizeof(disk_pack), &entry));
	FLIP(disk_key,
	     punch_decode(&disk_key, sizeof(disk_key), &disk_punch, sizeof(disk_punch), &range));
	FLIP(disk_punch,
	     punch_decode(&disk_key, sizeof(disk_key), &disk_punch, sizeof(disk_punch), &range));
	FLIP(disk_record, record_decode(&disk_record, &id, &info));
	/* In the wrong place, or of the wrong size. */
	assert_error(chunk_decode(8, &disk_chunk, sizeof(disk_chunk), &info), EBADMSG);
	assert_error(pack_decode(4, &disk_pack, sizeof(disk_pack), &entry), EBADMSG);
	assert_error(chunk_decode(7, &disk_chunk, sizeof(disk_chunk) - 1, &info), EUCLEAN);
	assert_error(pack_decode(3, &disk_pack, 0, &entry), EUCLEAN);
	assert_error(state_decode(&disk_state, 127, &values), EUCLEAN);
	assert_error(punch_decode(&disk_key, 15, &disk_punch, sizeof(disk_punch), &range), EUCLEAN);
}

/* What is impossible is refused although its checksum is right. */
static void impossible_values_are_refused(void **state)
{
	struct chunk_info good = hello_info(), info, decoded;
	struct pack_entry entry;
	struct dead_range range;
	struct disk_punch_key key;
	struct disk_punch disk_punch;
	struct disk_chunk disk;
	struct disk_pack disk_pack;

	(void)state;
#define REFUSE(field, value)                                                                       \
	info = good;                                                                               \
	info.field = value;                                                                        \
	chunk_encode(7, &info, &disk);                                                             \
	assert_error(chunk_decode(7, &disk, sizeof(disk), &decoded), EUCLEAN)
	REFUSE(pack, 0);
	REFUSE(offset, 4);
	REFUSE(offset, UINT64_C(1) << 40);
	REFUSE(stored_length, 0);
	REFUSE(stored_length, 12);
	REFUSE(raw_length, 0);
	REFUSE(raw_length, CHUNK_MAX + 1);
	REFUSE(codec, CODEC_LZ4); /* compressed, and no shorter */
	REFUSE(codec, (enum codec)3);

#define REFUSE_PACK(...)                                                                           \
	entry = (struct pack_entry){__VA_ARGS__};                                                  \
	pack_encode(3, &entry, &disk_pack);                                                        \
	assert_error(pack_decode(3, &disk_pack, sizeof(disk_pack), &entry), EUCLEAN)
	REFUSE_PACK(8, 16, 1);
	REFUSE_PACK(8, 8, 0);
	REFUSE_PACK(8, 0, 1);
	REFUSE_PACK(12, 8, 1);
	REFUSE_PACK((uint64_t)PACK_MAX + 8, 8, 1);

#define REFUSE_RANGE(...)                                                                          \
	range = (struct dead_range){__VA_ARGS__};                                                  \
	punch_encode(&range, &key, &disk_punch);                                                   \
	assert_error(punch_decode(&key, sizeof(key), &disk_punch, sizeof(disk_punch), &range),     \
		     EUCLEAN)
	REFUSE_RANGE(0, 8, 8, false);
	REFUSE_RANGE(3, 8, 0, false);
	REFUSE_RANGE(3, PACK_MAX, 8, false);
	REFUSE_RANGE(3, 8, UINT64_MAX, false);
}

static void every_dump_is_checked(void **state)
{
	(void)state;
	for (int i = 0; i < dump_count; i++) {
		/* The sections of snapshot/ have their own test. */
		if (!dumps[i].used && strncmp(dumps[i].name, "tree-", 5) != 0)
			fail_msg("nothing checks the dump \"%s\"", dumps[i].name);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dump_of_state),
		cmocka_unit_test(dump_of_chunk),
		cmocka_unit_test(dump_of_pack),
		cmocka_unit_test(dump_of_dead_range),
		cmocka_unit_test(dump_of_record_value),
		cmocka_unit_test(dump_of_record),
		cmocka_unit_test(dump_of_redo),
		cmocka_unit_test(dumps_of_compressed_records),
		cmocka_unit_test(dump_of_node_header),
		cmocka_unit_test(hashes_are_the_known_ones),
		cmocka_unit_test(hashes_are_alike_on_all_processors),
		cmocka_unit_test(flipped_bits_are_refused),
		cmocka_unit_test(impossible_values_are_refused),
		cmocka_unit_test(every_dump_is_checked),
	};

	return cmocka_run_group_tests_name("index: format", tests, read_document, NULL);
}
