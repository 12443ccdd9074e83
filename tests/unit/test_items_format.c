/* INODE and ORPHAN items, extended attributes, and the dumps of all items in index/FORMAT.md. */
#include <ctype.h>
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "index/util/bytes.h"
#include "memory_chunks.h"
#include "memory_tree.h"
#include "snapshot/dirent.h"
#include "snapshot/extent.h"
#include "snapshot/inode.h"
#include "snapshot/item.h"
#include "snapshot/xattr.h"

/* The file of examples in FORMAT.md. */
static const struct inode_attr example = {
	.mode = S_IFREG | 0640,
	.nlink = 2,
	.uid = 1000,
	.gid = 100,
	.rdev = 0,
	.flags = INODE_HAS_XATTRS,
	.size = 70000,
	.allocated = 70144,
	.atime = {1763802000, 1},
	.mtime = {1763802000, 500000000},
	.ctime = {1763802001, 999999999},
	.btime = {-1, 0},
};

enum { EXAMPLE_INO = 0x14, EXAMPLE_DIRECTORY = 0x11 };

static void check_same_attr(const struct inode_attr *a, const struct inode_attr *b)
{
	uint8_t a_bytes[INODE_ITEM_MAX] = {0}, b_bytes[INODE_ITEM_MAX] = {0};

	assert_int_equal(inode_encode(a, a_bytes), inode_encode(b, b_bytes));
	assert_memory_equal(a_bytes, b_bytes, INODE_ITEM_MAX);
}

static void check_same_time(struct timespec a, struct timespec b)
{
	assert_int_equal(a.tv_sec, b.tv_sec);
	assert_int_equal(a.tv_nsec, b.tv_nsec);
}

/* Field by field: what the decoder makes of the encoder's bytes. */
static void check_round_trip(const struct inode_attr *attr)
{
	uint8_t bytes[INODE_ITEM_MAX];
	struct inode_attr back;
	size_t length = inode_encode(attr, bytes);

	assert_in_range(length, 12, INODE_ITEM_MAX);
	assert_int_equal(inode_decode(bytes, length, &back), 0);
	assert_int_equal(back.mode, attr->mode);
	assert_int_equal(back.nlink, attr->nlink);
	assert_int_equal(back.uid, attr->uid);
	assert_int_equal(back.gid, attr->gid);
	assert_int_equal(back.rdev, attr->rdev);
	assert_int_equal(back.flags, attr->flags);
	assert_int_equal(back.size, attr->size);
	assert_int_equal(back.allocated, attr->allocated);
	check_same_time(back.atime, attr->atime);
	check_same_time(back.mtime, attr->mtime);
	check_same_time(back.ctime, attr->ctime);
	check_same_time(back.btime, attr->btime);
	for (size_t less = 0; less < length; less++)
		assert_int_equal(inode_decode(bytes, less, &back), -EUCLEAN);
}

/* Every combination of fields that are there or left out. */
static void test_inode_round_trip(void **state)
{
	static const mode_t types[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFCHR,
				       S_IFBLK, S_IFIFO, S_IFSOCK};
	static const uint64_t sizes[] = {0, 1, UINT32_MAX, (uint64_t)UINT32_MAX + 1, INT64_MAX};
	const struct timespec now = {1763802000, 999999999};
	const struct timespec times[] = {now, {INT32_MIN, 0}, {15032385535, 1}, {4102444800, 5}};

	(void)state;
	for (unsigned fields = 0; fields < 1 << 10; fields++) {
		struct inode_attr attr = {
			.mode = types[fields % 7] | (fields % 2 ? 07777 : 0644),
			.nlink = fields & 1 ? fields : 1,
			.uid = fields & 2 ? UINT32_MAX : 0,
			.flags = fields & 3,
			.rdev = fields & 8 ? UINT32_MAX : 0,
			.size = sizes[fields % 5],
			.mtime = times[fields % 4],
		};
		attr.gid = fields & 4 ? 77 : attr.uid;
		attr.allocated = fields & 64 ? 512 : attr.size;
		attr.atime = fields & 128 ? now : attr.mtime;
		attr.ctime = fields & 256 ? times[fields % 3] : attr.mtime;
		attr.btime = fields & 512 ? (struct timespec){-1, 0} : attr.ctime;
		check_round_trip(&attr);
	}
}

/* As on ext4: what no time can be becomes the nearest that one can. */
static void test_inode_clamped_times(void **state)
{
	uint8_t bytes[INODE_ITEM_MAX];
	struct inode_attr attr = example, back;

	(void)state;
	attr.atime = (struct timespec){INT64_MIN, 999999999};
	attr.mtime = (struct timespec){INT64_MAX, 5};
	assert_int_equal(inode_decode(bytes, inode_encode(&attr, bytes), &back), 0);
	assert_int_equal(back.atime.tv_sec, INT32_MIN);
	assert_int_equal(back.mtime.tv_sec, 15032385535); /* 2446-05-10 22:38:55 */
	check_same_time(inode_clamp_time(attr.atime), back.atime);
	check_same_time(inode_clamp_time(attr.mtime), back.mtime);
	check_same_time(inode_clamp_time(example.ctime), example.ctime);
}

static void refuse(size_t at, uint8_t value)
{
	uint8_t bytes[INODE_ITEM_MAX];
	struct inode_attr untouched = example;
	size_t length = inode_encode(&example, bytes);

	bytes[at] = value;
	assert_int_equal(inode_decode(bytes, length, &untouched), -EUCLEAN);
	check_same_attr(&untouched, &example);
}

static void test_inode_damage(void **state)
{
	uint8_t bytes[INODE_ITEM_MAX + 1] = {0};
	struct inode_attr attr;

	(void)state;
	size_t length = inode_encode(&example, bytes);
	assert_int_equal(inode_decode(bytes, length, &attr), 0);
	assert_int_equal(inode_decode(bytes, length + 1, &attr), -EUCLEAN);
	refuse(0, bytes[0] ^ 0x01); /* a field less */
	refuse(0, bytes[0] | 0x20); /* both sizes */
	refuse(1, bytes[1] | 0x04); /* unknown field */
	refuse(1, bytes[1] | 0x80); /* unknown flag */
	refuse(3, 0x01);	    /* no type of file */
	refuse(27, 0x80);	    /* negative allocation */
	for (size_t time = 28; time < length; time += 8)
		refuse(time + 3, bytes[time + 3] | 0x3f); /* a thousand million nanoseconds */
}

static void test_inode_delete(void **state)
{
	struct tree *tree = memory_tree_new();
	struct dirent_target target = {20, DT_REG};
	const struct extent piece = {4096, 5, 0, 100};
	struct inode_attr attr;
	int64_t delta;

	(void)state;
	assert_int_equal(inode_delete(tree, NULL, 20), -ENOENT);
	for (uint64_t ino = 19; ino <= 21; ino++) {
		assert_int_equal(inode_put(tree, NULL, ino, &example), 0);
		assert_int_equal(inline_put(tree, NULL, ino, "0123", 4), 0);
		assert_int_equal(xattr_set(tree, NULL, ino, "user.a", "b", 1, XATTR_SET_ANY), 0);
		assert_int_equal(extent_replace(tree, NULL, ino, 4096, 100, &piece, 1, &delta), 0);
	}
	assert_int_equal(dirent_insert(tree, NULL, 1, "name", 4, &target), 0);
	/* Whichever change fails, the call can be repeated. */
	for (int fail = 0; fail < 4; fail++) {
		struct tree *clone = memory_tree_clone(tree);

		clone->fail_after = fail;
		assert_int_equal(inode_delete(clone, NULL, 20), -ENOMEM);
		assert_int_equal(inode_get(clone, NULL, 20, &attr), 0);
		assert_int_equal(inode_delete(clone, NULL, 20), 0);
		assert_int_equal(clone->count, tree->count - 4);
		memory_tree_free(clone);
	}
	assert_int_equal(inode_delete(tree, NULL, 20), 0);
	assert_int_equal(inode_get(tree, NULL, 20, &attr), -ENOENT);
	assert_int_equal(tree->count, 2 * 4 + 2);
	assert_int_equal(dirent_lookup(tree, NULL, 1, "name", 4, &target), 0);
	memory_tree_free(tree);
}

static void test_orphans(void **state)
{
	struct tree *tree = memory_tree_new();
	uint64_t ino = 0;

	(void)state;
	assert_int_equal(orphan_next(tree, NULL, 0, &ino), -ENOENT);
	assert_int_equal(inode_put(tree, NULL, 1, &example), 0);
	assert_int_equal(orphan_next(tree, NULL, 0, &ino), -ENOENT);
	assert_int_equal(orphan_add(tree, NULL, 30), 0);
	assert_int_equal(orphan_add(tree, NULL, 20), 0);
	assert_int_equal(orphan_add(tree, NULL, 20), 0);
	assert_int_equal(orphan_next(tree, NULL, 0, &ino), 0);
	assert_int_equal(ino, 20);
	assert_int_equal(orphan_next(tree, NULL, 20, &ino), 0);
	assert_int_equal(ino, 30);
	assert_int_equal(orphan_next(tree, NULL, 30, &ino), -ENOENT);
	assert_int_equal(orphan_next(tree, NULL, UINT64_MAX, &ino), -ENOENT);
	assert_int_equal(orphan_remove(tree, NULL, 20), 0);
	assert_int_equal(orphan_remove(tree, NULL, 20), -ENOENT);
	memory_tree_free(tree);
}

enum { XATTRS = 12, XATTR_BYTES = 65536 };

/* model[i]: the attribute user.i; length -1: none. */
static struct {
	int length;
	uint8_t seed;
} model[XATTRS];

static uint8_t value[XATTR_BYTES + 1], back[XATTR_BYTES + 1];

static void make_value(int length, uint8_t seed)
{
	for (int i = 0; i < length; i++)
		value[i] = (uint8_t)(seed + i * 31 + i / 256);
}

static void check_xattrs(struct tree *tree)
{
	char names[1024];
	size_t expected = 0;
	ssize_t length = xattr_list(tree, NULL, 9, names, sizeof(names));

	assert_true(length >= 0);
	for (ssize_t at = 0; at < length; at += (ssize_t)strlen(names + at) + 1)
		assert_true(model[atoi(names + at + 5)].length >= 0);
	for (int i = 0; i < XATTRS; i++) {
		char name[32];

		snprintf(name, sizeof(name), "user.%d", i);
		if (model[i].length < 0) {
			assert_int_equal(xattr_get(tree, NULL, 9, name, back, 10), -ENODATA);
			continue;
		}
		expected += strlen(name) + 1;
		assert_int_equal(xattr_get(tree, NULL, 9, name, NULL, 0), model[i].length);
		if (model[i].length > 1)
			assert_int_equal(
				xattr_get(tree, NULL, 9, name, back, (size_t)model[i].length - 1),
				-ERANGE);
		assert_int_equal(xattr_get(tree, NULL, 9, name, back, sizeof(back)),
				 model[i].length);
		make_value(model[i].length, model[i].seed);
		assert_memory_equal(back, value, (size_t)model[i].length);
	}
	assert_int_equal(length, expected);
	assert_int_equal(xattr_list(tree, NULL, 9, NULL, 0), expected);
	if (expected > 0)
		assert_int_equal(xattr_list(tree, NULL, 9, names, expected - 1), -ERANGE);
}

/* All names share one item: values move out into chunks as it fills. */
static void test_xattr_model(void **state)
{
	static const int lengths[] = {0, 1, 100, 1000, 1024, 1025, 20000, XATTR_BYTES};
	struct tree *tree = memory_tree_new();

	(void)state;
	dirent_test_limit_hash(0);
	for (int i = 0; i < XATTRS; i++)
		model[i].length = -1;
	srand(7);
	for (int step = 0; step < 200; step++) {
		int i = rand() % XATTRS;
		bool there = model[i].length >= 0;
		enum xattr_mode mode = (enum xattr_mode)(rand() % 3);
		char name[32];
		int length = lengths[rand() % 8];
		int expected = 0;

		snprintf(name, sizeof(name), "user.%d", i);
		if (rand() % 3 == 0) {
			assert_int_equal(xattr_remove(tree, NULL, 9, name), there ? 0 : -ENODATA);
			model[i].length = -1;
			check_xattrs(tree);
			continue;
		}
		if (there && mode == XATTR_SET_CREATE)
			expected = -EEXIST;
		if (!there && mode == XATTR_SET_REPLACE)
			expected = -ENODATA;
		make_value(length, (uint8_t)step);
		assert_int_equal(xattr_set(tree, NULL, 9, name, value, (size_t)length, mode),
				 expected);
		if (!expected) {
			model[i].length = length;
			model[i].seed = (uint8_t)step;
		}
		check_xattrs(tree);
	}
	dirent_test_limit_hash(63);
	memory_chunks_clear();
	memory_tree_free(tree);
}

static int count_chunk(uint64_t chunk, void *context)
{
	assert_in_range(chunk, 1, memory_chunk_count);
	++*(int *)context;
	return 0;
}

static void test_xattr_limits(void **state)
{
	struct tree *tree = memory_tree_new();
	struct tree_item item;
	char name[257];
	int chunks = 0;
	int stored = 0;

	(void)state;
	memset(name, 'n', 256);
	name[256] = '\0';
	assert_int_equal(xattr_set(tree, NULL, 9, name, "v", 1, XATTR_SET_ANY), -ERANGE);
	assert_int_equal(xattr_set(tree, NULL, 9, "", "v", 1, XATTR_SET_ANY), -ERANGE);
	assert_int_equal(xattr_get(tree, NULL, 9, name, back, 1), -ERANGE);
	assert_int_equal(xattr_set(tree, NULL, 9, "user.a", value, XATTR_BYTES + 1, XATTR_SET_ANY),
			 -E2BIG);
	assert_int_equal(tree->count, 0);
	/* Of one hash: the first value lies in the item, those of the next two in chunks. */
	dirent_test_limit_hash(0);
	for (char c = 'a'; c < 'z'; c++) {
		int error;

		memset(name, c, 255);
		name[255] = '\0';
		error = xattr_set(tree, NULL, 9, name, value, 900, XATTR_SET_ANY);
		if (error) {
			assert_int_equal(error, -ENOSPC);
			break;
		}
		stored++;
	}
	assert_int_equal(stored, 3);
	assert_int_equal(tree_get(tree, NULL, &tree->items[0].key, &item), 0);
	assert_int_equal(item_chunks(&item, count_chunk, &chunks), 0);
	assert_int_equal(chunks, stored - 1);
	for (uint16_t length = 1; length < item.length; length++) {
		const struct tree_item cut = {item.key, item.value, length};
		int error = item_check(&cut);

		assert_true(error == -EUCLEAN || error == 0); /* 0: cut between two entries */
	}
	dirent_test_limit_hash(63);
	memory_chunks_clear();
	memory_tree_free(tree);
}

/* The dump number `block` below a heading of FORMAT.md: bytes of key and value. */
static size_t read_dump(const char *heading, int block, uint8_t *ret, size_t capacity)
{
	char path[4096];
	char line[512];
	size_t length = 0;
	bool inside = false;
	bool below = false;
	FILE *file;

	snprintf(path, sizeof(path), "%.*s/../../index/FORMAT.md",
		 (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__);
	file = fopen(path, "r");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		if (line[0] == '#')
			below = strcmp(line, heading) == 0;
		if (!below)
			continue;
		if (strncmp(line, "```", 3) == 0) {
			inside = !inside;
			block -= inside;
			continue;
		}
		if (!inside || block != -1)
			continue;
		for (char *at = strchr(line, ':'); at && *at; at++) {
			unsigned byte;

			if (!isxdigit((unsigned char)*at))
				continue;
			assert_true(length < capacity);
			assert_int_equal(sscanf(at, "%2x", &byte), 1);
			ret[length++] = (uint8_t)byte;
			at++;
		}
	}
	fclose(file);
	return length;
}

static void print_dump(const uint8_t *bytes, size_t length)
{
	print_message("key: ");
	for (size_t i = 0; i < length; i++) {
		if (i >= 17 && (i - 17) % 16 == 0)
			print_message("\n%03zx:", i - 17);
		print_message(" %02x", bytes[i]);
	}
	print_message("\n");
}

static void check_dump(struct tree *tree, const char *heading, int block, uint64_t ino,
		       enum item_type type)
{
	const struct tree_key from = {ino, type, 0};
	uint8_t expected[17 + TREE_VALUE_MAX], found[17 + TREE_VALUE_MAX];
	struct tree_cursor cursor;
	struct tree_item item;
	size_t length = read_dump(heading, block, expected, sizeof(expected));

	assert_int_equal(tree_seek(tree, NULL, &from, &cursor, &item), 0);
	assert_int_equal(item.key.ino, ino);
	assert_int_equal(item.key.type, type);
	assert_int_equal(item_check(&item), 0);
	put_be64(found, item.key.ino);
	found[8] = item.key.type;
	put_be64(found + 9, item.key.offset);
	memcpy(found + 17, item.value, item.length);
	if (length != 17u + item.length || memcmp(found, expected, length) != 0) {
		print_message("%s in index/FORMAT.md (dump %d) should be\n", heading, block + 1);
		print_dump(found, 17u + item.length);
		fail();
	}
}

static void test_format_document(void **state)
{
	struct tree *tree = memory_tree_new();
	const struct dirent_target target = {EXAMPLE_INO, DT_REG};
	const struct dirent_target many = {0x15, DT_REG};
	const struct extent piece = {65536, 0x2a, 4096, 4464};
	const struct tree_key digest_key = {EXAMPLE_INO, ITEM_DIGEST, 0};
	uint8_t digest[32];
	int64_t delta;

	(void)state;
	for (uint64_t i = 0; i < 0x2a; i++) {
		uint64_t chunk;

		assert_int_equal(chunk_store(NULL, "filler", 6, &chunk, NULL), 0);
	}
	make_value(2000, 0);
	assert_int_equal(inode_put(tree, NULL, EXAMPLE_INO, &example), 0);
	assert_int_equal(dirent_insert(tree, NULL, EXAMPLE_DIRECTORY, "config.ini", 10, &target),
			 0);
	assert_int_equal(xattr_set(tree, NULL, EXAMPLE_INO, "user.origin", "ERP", 3, XATTR_SET_ANY),
			 0);
	assert_int_equal(xattr_set(tree, NULL, 0x15, "user.map", value, 2000, XATTR_SET_ANY), 0);
	assert_int_equal(inline_put(tree, NULL, 0x16, "../shared/config.ini", 20), 0);
	assert_int_equal(extent_replace(tree, NULL, EXAMPLE_INO, 65536, 4464, &piece, 1, &delta),
			 0);
	assert_int_equal(orphan_add(tree, NULL, 0x17), 0);
	for (int i = 0; i < 32; i++)
		digest[i] = (uint8_t)i;
	assert_int_equal(tree_put(tree, NULL, &digest_key, digest, sizeof(digest)), 0);
	for (int i = 0; i < 238; i++) {
		char name[16];
		int length = snprintf(name, sizeof(name), "link%d", i);

		assert_int_equal(dirent_insert(tree, NULL, 0x12, name, (size_t)length, &many), 0);
	}
	check_dump(tree, "### INODE", 0, EXAMPLE_INO, ITEM_INODE);
	check_dump(tree, "### BACKREF", 0, EXAMPLE_INO, ITEM_BACKREF);
	check_dump(tree, "### BACKREF", 1, 0x15, ITEM_BACKREF);
	check_dump(tree, "### XATTR", 0, EXAMPLE_INO, ITEM_XATTR);
	check_dump(tree, "### XATTR", 1, 0x15, ITEM_XATTR);
	check_dump(tree, "### DIRENT", 0, EXAMPLE_DIRECTORY, ITEM_DIRENT);
	check_dump(tree, "### INLINE", 0, 0x16, ITEM_INLINE);
	check_dump(tree, "### EXTENT", 0, EXAMPLE_INO, ITEM_EXTENT);
	check_dump(tree, "### ORPHAN", 0, 0, ITEM_ORPHAN);
	check_dump(tree, "### DIGEST", 0, EXAMPLE_INO, ITEM_DIGEST);
	memory_chunks_clear();
	memory_tree_free(tree);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_inode_round_trip), cmocka_unit_test(test_inode_clamped_times),
		cmocka_unit_test(test_inode_damage),	 cmocka_unit_test(test_inode_delete),
		cmocka_unit_test(test_orphans),		 cmocka_unit_test(test_xattr_model),
		cmocka_unit_test(test_xattr_limits),	 cmocka_unit_test(test_format_document),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
