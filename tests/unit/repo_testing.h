/*
 * What the tests of repositories share: a store in a temporary directory, a seeded generator of
 * numbers, and a small file system over the items of a head, which keeps link counts, sizes and
 * counters as fs/ does.
 */
#ifndef CAIRN_TESTS_REPO_TESTING_H
#define CAIRN_TESTS_REPO_TESTING_H

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "index/chunk.h"
#include "snapshot/collect.h"
#include "snapshot/dirent.h"
#include "snapshot/extent.h"
#include "snapshot/inode.h"
#include "snapshot/path.h"
#include "snapshot/point.h"
#include "snapshot/repo.h"
#include "snapshot/workspace.h"
#include "snapshot/xattr.h"

#define UNUSED __attribute__((unused))

#define must(expression)                                                                           \
	do {                                                                                       \
		long long must_result = (expression);                                              \
		if (must_result != 0)                                                              \
			fail_msg("%s: %lld (%s)", #expression, must_result,                        \
				 strerror((int)-must_result));                                     \
	} while (0)

/* ---- numbers ---- */

/* Xorshift64*: S. Vigna, "An experimental exploration of Marsaglia's xorshift generators". */
struct random {
	uint64_t state;
};

static UNUSED uint64_t random_next(struct random *random)
{
	random->state ^= random->state >> 12;
	random->state ^= random->state << 25;
	random->state ^= random->state >> 27;
	return random->state * 2685821657736338717u;
}

static UNUSED uint64_t random_below(struct random *random, uint64_t limit)
{
	return (random_next(random) >> 11) % limit;
}

static UNUSED struct random random_from(uint64_t seed)
{
	struct random random = {seed * 0x9e3779b97f4a7c15u + 1};
	for (int i = 0; i < 10; i++)
		random_next(&random);
	return random;
}

static UNUSED uint64_t random_seed(void)
{
	const char *text = getenv("CAIRN_TEST_SEED");
	uint64_t seed = text ? strtoull(text, NULL, 0) : (uint64_t)time(NULL);
	print_message("seed %" PRIu64 " (CAIRN_TEST_SEED)\n", seed);
	return seed;
}

static UNUSED int test_rounds(int usual)
{
	const char *text = getenv("CAIRN_TEST_ROUNDS");
	return text ? atoi(text) : usual;
}

/* Bytes that compress a little; the same for the same seed. */
static UNUSED void fill_bytes(uint8_t *bytes, size_t length, uint64_t seed)
{
	struct random random = random_from(seed);
	for (size_t i = 0; i < length; i++) {
		uint64_t number = i % 16 == 0 ? random_next(&random) : 0;
		bytes[i] =
			i % 16 < 8 ? (uint8_t)(number >> (8 * (i % 8))) : (uint8_t)(seed + i / 64);
	}
}

static UNUSED double now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* ---- a store ---- */

struct fixture {
	char directory[256];
	struct repo *repo;
	struct head *head; /* of "main" */
};

static UNUSED void fixture_open(struct fixture *fixture)
{
	struct errbuf err = {""};
	if (repo_open(fixture->directory, 0, NULL, &fixture->repo, &err))
		fail_msg("cannot open %s: %s", fixture->directory, err.text);
	must(repo_head(fixture->repo, "main", &fixture->head, NULL));
}

static UNUSED void fixture_close(struct fixture *fixture)
{
	fixture->head = head_put(fixture->head);
	fixture->repo = repo_close(fixture->repo);
}

static UNUSED void fixture_create_store(struct fixture *fixture)
{
	const struct store_compression compression = {.codec = CODEC_LZ4};
	struct errbuf err = {""};
	const char *temporary = getenv("TMPDIR");
	*fixture = (struct fixture){0};
	snprintf(fixture->directory, sizeof(fixture->directory), "%s/cairn-test-XXXXXX",
		 temporary ? temporary : "/tmp");
	assert_non_null(mkdtemp(fixture->directory));
	if (store_create(fixture->directory, &compression, &err))
		fail_msg("cannot create %s: %s", fixture->directory, err.text);
}

static UNUSED void fixture_create(struct fixture *fixture)
{
	struct errbuf err = {""};
	fixture_create_store(fixture);
	must(repo_open(fixture->directory, 0, NULL, &fixture->repo, &err));
	must(workspace_create(fixture->repo, "main", 0, 0, NULL, &err));
	must(repo_head(fixture->repo, "main", &fixture->head, &err));
}

/* What a crash at this moment would leave. */
static UNUSED void fixture_copy_store(const struct fixture *fixture, const char *to)
{
	char command[1024];
	snprintf(command, sizeof(command), "cp -a --sparse=always '%s' '%s'", fixture->directory,
		 to);
	assert_int_equal(system(command), 0);
}

/* While the store is not open. */
static UNUSED void fixture_replace_store(const struct fixture *fixture, const char *from)
{
	char command[1024];
	snprintf(command, sizeof(command), "rm -rf '%s' && mv '%s' '%s'", fixture->directory, from,
		 fixture->directory);
	assert_int_equal(system(command), 0);
}

static int remove_entry(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
	(void)stat;
	(void)type;
	(void)ftw;
	return remove(path);
}

static UNUSED void fixture_destroy(struct fixture *fixture)
{
	fixture_close(fixture);
	nftw(fixture->directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void print_finding(const char *finding, void *context)
{
	(void)context;
	print_error("%s\n", finding);
}

static UNUSED void assert_sound(struct repo *repo, bool read_data)
{
	struct check_result result;
	must(repo_check(repo, read_data, print_finding, NULL, NULL, &result));
	assert_int_equal(result.errors, 0);
}

/* ---- a small file system ---- */

struct small {
	struct head *head;
	struct tree *tree;
	struct reader *reader;
};

static UNUSED struct small small_begin(struct head *head)
{
	struct small small = {.head = head, .tree = head_tree(head)};
	head_lock(head);
	must(reader_acquire(repo_store(head_repo(head)), &small.reader));
	return small;
}

static UNUSED void small_end(struct small *small)
{
	reader_release(small->reader);
	head_unlock(small->head);
}

static void small_touch(struct inode_attr *attr)
{
	clock_gettime(CLOCK_REALTIME, &attr->mtime);
	attr->ctime = attr->mtime;
}

static void small_count(struct small *small, int64_t files, int64_t directories, int64_t bytes)
{
	head_count(small->head, &(struct head_counters){.files = files,
							.directories = directories,
							.bytes = bytes});
}

static void small_link_count(struct small *small, uint64_t ino, int change)
{
	struct inode_attr attr;
	must(inode_get(small->tree, small->reader, ino, &attr));
	const struct timespec mtime = attr.mtime;
	attr.nlink = (uint32_t)((int)attr.nlink + change);
	small_touch(&attr);
	if (!S_ISDIR(attr.mode)) /* a link changes the ctime only */
		attr.mtime = mtime;
	must(inode_put(small->tree, small->reader, ino, &attr));
}

static UNUSED uint64_t small_make(struct small *small, uint64_t directory, const char *name,
				  uint32_t mode)
{
	uint64_t ino = store_next(tree_store(small->tree), COUNTER_INODE);
	struct inode_attr attr = {.mode = mode, .nlink = S_ISDIR(mode) ? 2 : 1};
	const struct dirent_target target = {ino, IFTODT(mode)};
	small_touch(&attr);
	attr.atime = attr.btime = attr.mtime;
	must(inode_put(small->tree, small->reader, ino, &attr));
	must(dirent_insert(small->tree, small->reader, directory, name, strlen(name), &target));
	small_link_count(small, directory, S_ISDIR(mode) ? 1 : 0);
	small_count(small, !S_ISDIR(mode), S_ISDIR(mode), 0);
	return ino;
}

static UNUSED uint64_t small_lookup(struct small *small, uint64_t directory, const char *name)
{
	struct dirent_target target;
	int error =
		dirent_lookup(small->tree, small->reader, directory, name, strlen(name), &target);
	if (error == -ENOENT)
		return 0;
	must(error);
	return target.ino;
}

/* Stores bytes as chunks and puts them as the contents of [offset, offset + length). */
static void small_put_extents(struct small *small, uint64_t ino, uint64_t offset,
			      const uint8_t *data, size_t length, struct inode_attr *attr)
{
	struct extent pieces[16];
	int count = 0;
	int64_t change;
	for (size_t done = 0; done < length;) {
		size_t piece = length - done < CHUNK_MAX ? length - done : CHUNK_MAX;
		assert_true(count < 16);
		pieces[count] = (struct extent){.offset = offset + done, .length = (uint32_t)piece};
		must(chunk_store(tree_store(small->tree), data + done, piece, &pieces[count].chunk,
				 NULL));
		count++;
		done += piece;
	}
	must(extent_replace(small->tree, small->reader, ino, offset, length, pieces, count,
			    &change));
	attr->allocated = (uint64_t)((int64_t)attr->allocated + change);
}

/* Inline contents become extents. */
static void small_spread(struct small *small, uint64_t ino, struct inode_attr *attr)
{
	uint8_t bytes[SYMLINK_MAX];
	size_t length;
	if (!(attr->flags & INODE_INLINE))
		return;
	must(inline_get(small->tree, small->reader, ino, bytes, sizeof(bytes), &length));
	must(inline_delete(small->tree, small->reader, ino));
	attr->flags &= ~(uint32_t)INODE_INLINE;
	attr->allocated = 0;
	if (length)
		small_put_extents(small, ino, 0, bytes, length, attr);
}

/* The file is short and has no extents: all of it inline, cut or padded to `size`. */
static void small_put_inline(struct small *small, uint64_t ino, uint64_t offset,
			     const uint8_t *data, size_t length, uint64_t size,
			     struct inode_attr *attr)
{
	uint8_t bytes[INLINE_MAX] = {0};
	size_t old = 0;
	if (attr->flags & INODE_INLINE)
		must(inline_get(small->tree, small->reader, ino, bytes, sizeof(bytes), &old));
	if (old > size)
		old = size;
	memset(bytes + old, 0, sizeof(bytes) - old);
	if (length)
		memcpy(bytes + offset, data, length);
	must(inline_put(small->tree, small->reader, ino, bytes, size));
	attr->flags |= INODE_INLINE;
	attr->allocated = size;
}

static UNUSED void small_write(struct small *small, uint64_t ino, uint64_t offset,
			       const uint8_t *data, size_t length)
{
	struct inode_attr attr;
	must(inode_get(small->tree, small->reader, ino, &attr));
	uint64_t end = offset + length, size = end > attr.size ? end : attr.size;
	bool no_extents = attr.allocated == 0 || (attr.flags & INODE_INLINE);
	if (no_extents && size <= INLINE_MAX && attr.size <= INLINE_MAX) {
		small_put_inline(small, ino, offset, data, length, size, &attr);
	} else {
		small_spread(small, ino, &attr);
		small_put_extents(small, ino, offset, data, length, &attr);
	}
	head_count(small->head, &(struct head_counters){.bytes = (int64_t)(size - attr.size),
							.changed_bytes = (int64_t)length});
	attr.size = size;
	small_touch(&attr);
	must(inode_put(small->tree, small->reader, ino, &attr));
}

static UNUSED void small_truncate(struct small *small, uint64_t ino, uint64_t size)
{
	struct inode_attr attr;
	must(inode_get(small->tree, small->reader, ino, &attr));
	if ((attr.flags & INODE_INLINE) && size <= INLINE_MAX) {
		small_put_inline(small, ino, 0, NULL, 0, size, &attr);
	} else {
		int64_t change;
		small_spread(small, ino, &attr);
		must(extent_replace(small->tree, small->reader, ino, size, UINT64_MAX - size, NULL,
				    0, &change));
		attr.allocated = (uint64_t)((int64_t)attr.allocated + change);
	}
	small_count(small, 0, 0, (int64_t)size - (int64_t)attr.size);
	attr.size = size;
	small_touch(&attr);
	must(inode_put(small->tree, small->reader, ino, &attr));
}

static UNUSED uint64_t small_symlink(struct small *small, uint64_t directory, const char *name,
				     const char *target)
{
	uint64_t ino = small_make(small, directory, name, S_IFLNK | 0777);
	struct inode_attr attr;
	must(inode_get(small->tree, small->reader, ino, &attr));
	attr.size = attr.allocated = strlen(target);
	attr.flags |= INODE_INLINE;
	must(inline_put(small->tree, small->reader, ino, target, strlen(target)));
	must(inode_put(small->tree, small->reader, ino, &attr));
	return ino;
}

static UNUSED void small_link(struct small *small, uint64_t ino, uint64_t directory,
			      const char *name)
{
	struct inode_attr attr;
	must(inode_get(small->tree, small->reader, ino, &attr));
	const struct dirent_target target = {ino, IFTODT(attr.mode)};
	must(dirent_insert(small->tree, small->reader, directory, name, strlen(name), &target));
	small_link_count(small, ino, 1);
	small_link_count(small, directory, 0);
}

/* A name of the inode is gone; with the last one goes the inode, or it is left as an orphan. */
static void small_drop(struct small *small, uint64_t directory, uint64_t ino, bool keep_orphan)
{
	struct inode_attr attr;
	must(inode_get(small->tree, small->reader, ino, &attr));
	bool is_directory = S_ISDIR(attr.mode);
	small_link_count(small, directory, is_directory ? -1 : 0);
	small_link_count(small, ino, is_directory ? -2 : -1);
	if (!is_directory && attr.nlink > 1)
		return;
	small_count(small, !is_directory ? -1 : 0, is_directory ? -1 : 0,
		    S_ISREG(attr.mode) ? -(int64_t)attr.size : 0);
	if (keep_orphan)
		must(orphan_add(small->tree, small->reader, ino));
	else
		must(inode_delete(small->tree, small->reader, ino));
}

static UNUSED void small_remove(struct small *small, uint64_t directory, const char *name,
				bool keep_orphan)
{
	uint64_t ino = small_lookup(small, directory, name);
	assert_true(ino != 0);
	must(dirent_remove(small->tree, small->reader, directory, name, strlen(name)));
	small_drop(small, directory, ino, keep_orphan);
}

/* Rename, over a file or an empty directory where there is one. */
static UNUSED void small_rename(struct small *small, uint64_t from, const char *name, uint64_t to,
				const char *new_name)
{
	struct dirent_target target, replaced;
	must(dirent_lookup(small->tree, small->reader, from, name, strlen(name), &target));
	int error = dirent_lookup(small->tree, small->reader, to, new_name, strlen(new_name),
				  &replaced);
	must(dirent_remove(small->tree, small->reader, from, name, strlen(name)));
	if (error == 0) {
		must(dirent_replace(small->tree, small->reader, to, new_name, strlen(new_name),
				    &target));
		small_drop(small, to, replaced.ino, false);
	} else {
		assert_int_equal(error, -ENOENT);
		must(dirent_insert(small->tree, small->reader, to, new_name, strlen(new_name),
				   &target));
	}
	if (target.type == DT_DIR) {
		small_link_count(small, from, -1);
		small_link_count(small, to, 1);
	}
}

static UNUSED void small_set_xattr(struct small *small, uint64_t ino, const char *name,
				   const void *value, size_t length)
{
	struct inode_attr attr;
	must(xattr_set(small->tree, small->reader, ino, name, value, length, XATTR_SET_ANY));
	must(inode_get(small->tree, small->reader, ino, &attr));
	attr.flags |= INODE_HAS_XATTRS;
	must(inode_put(small->tree, small->reader, ino, &attr));
}

/* ---- shorthands ---- */

/* Makes a file of `length` bytes in the root of a head. */
static UNUSED uint64_t put_file(struct head *head, const char *name, size_t length, uint64_t seed)
{
	uint8_t *bytes = malloc(length + 1);
	assert_non_null(bytes);
	fill_bytes(bytes, length, seed);
	struct small small = small_begin(head);
	uint64_t ino = small_lookup(&small, ROOT_INO, name);
	if (!ino)
		ino = small_make(&small, ROOT_INO, name, S_IFREG | 0644);
	if (length)
		small_write(&small, ino, 0, bytes, length);
	small_end(&small);
	free(bytes);
	return ino;
}

static UNUSED bool has_file(struct head *head, const char *name)
{
	struct small small = small_begin(head);
	bool found = small_lookup(&small, ROOT_INO, name) != 0;
	small_end(&small);
	return found;
}

static UNUSED struct point freeze(struct head *head, const char *name)
{
	const struct freeze_options options = {.name = name};
	struct errbuf err = {""};
	struct point point = {0};
	bool made = false;
	int error = point_freeze(head, &options, &point, &made, &err);
	if (error)
		fail_msg("freeze %s: %s (%s)", name, strerror(-error), err.text);
	assert_true(made);
	return point;
}

#endif
