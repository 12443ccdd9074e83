/* Directories, backrefs and paths against a model, with colliding hashes and failing changes. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "memory_tree.h"
#include "snapshot/dirent.h"
#include "snapshot/inode.h"
#include "snapshot/item.h"
#include "snapshot/path.h"

enum { DIRECTORIES = 12, INODES = 300, NAMES = 60, STEPS = 20000 };

static uint64_t random_state = 88172645463325252u;

static unsigned random_below(unsigned limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (unsigned)(random_state >> 33) % limit;
}

/* model[d][n]: the inode that name n in directory d leads to, 0: none.  Directory 0 is the root,
 * directory d > 0 is inode 100 + d and stays where it was put; files are inodes from 1000. */
static uint64_t model[DIRECTORIES][NAMES];

static uint64_t directory_ino(unsigned directory)
{
	return directory == 0 ? ROOT_INO : 100 + directory;
}

/* Names of all lengths: the longest make items overflow. */
static size_t make_name(unsigned number, char name[NAME_MAX_BYTES + 1])
{
	int length = snprintf(name, NAME_MAX_BYTES + 1, "n%u.", number);
	size_t wanted = number % 7 == 0 ? NAME_MAX_BYTES : (size_t)length + number % 5;

	memset(name + length, 'x', wanted - (size_t)length);
	name[wanted] = '\0';
	return wanted;
}

/* Bytes of the item that a name is in, from the model. */
static size_t item_bytes(unsigned directory, uint64_t hash)
{
	char name[NAME_MAX_BYTES + 1];
	size_t bytes = 0;

	for (unsigned n = 0; n < NAMES; n++) {
		size_t length = make_name(n, name);

		if (model[directory][n] && dirent_hash(name, length) == hash)
			bytes += 10 + length;
	}
	return bytes;
}

static int expected_error(unsigned what, unsigned directory, unsigned number, const char *name,
			  size_t length)
{
	bool there = model[directory][number] != 0;

	if (what != 0)
		return there ? 0 : -ENOENT;
	if (there)
		return -EEXIST;
	return item_bytes(directory, dirent_hash(name, length)) + 10 + length > TREE_VALUE_MAX
		       ? -ENOSPC
		       : 0;
}

static int do_operation(struct tree *tree, unsigned what, uint64_t directory, const char *name,
			size_t length, uint64_t ino)
{
	const struct dirent_target target = {ino, DT_REG};

	switch (what) {
	case 0:
		return dirent_insert(tree, NULL, directory, name, length, &target);
	case 1:
		return dirent_remove(tree, NULL, directory, name, length);
	default:
		return dirent_replace(tree, NULL, directory, name, length, &target);
	}
}

static void random_step(struct tree *tree)
{
	unsigned what = random_below(3);
	unsigned directory = random_below(DIRECTORIES);
	unsigned number = random_below(NAMES);
	uint64_t ino = 1000 + random_below(INODES);
	char name[NAME_MAX_BYTES + 1];
	size_t length = make_name(number, name);
	int expected = expected_error(what, directory, number, name, length);
	struct tree *before = random_below(4) == 0 ? memory_tree_clone(tree) : NULL;
	int error;

	if (before) { /* a failure, at any of the changes, changes nothing */
		tree->fail_after = random_below(3);
		error = do_operation(tree, what, directory_ino(directory), name, length, ino);
		tree->fail_after = -1;
		if (error) {
			assert_true(error == -ENOMEM || error == expected);
			assert_true(memory_tree_equal(tree, before));
			memory_tree_free(before);
			return;
		}
		memory_tree_free(before);
	} else {
		error = do_operation(tree, what, directory_ino(directory), name, length, ino);
	}
	assert_int_equal(error, expected);
	if (!error)
		model[directory][number] = what == 1 ? 0 : ino;
}

struct listing {
	uint64_t previous;
	unsigned seen;
	unsigned directory;
	bool expect_new_cookie;
};

static int check_entry(const struct dirent_entry *entry, void *context)
{
	struct listing *listing = context;
	unsigned number;
	char name[NAME_MAX_BYTES + 1];

	assert_int_equal(entry->cookie, dirent_hash(entry->name.text, entry->name.length));
	if (listing->expect_new_cookie)
		assert_true(entry->cookie > listing->previous);
	else
		assert_int_equal(entry->cookie, listing->previous);
	listing->previous = entry->cookie;
	listing->expect_new_cookie = entry->last_of_cookie;
	assert_in_range(entry->name.length, 1, NAME_MAX_BYTES);
	memcpy(name, entry->name.text, entry->name.length);
	name[entry->name.length] = '\0';
	assert_int_equal(sscanf(name, "n%u.", &number), 1);
	assert_int_equal(entry->name.length, make_name(number, name));
	assert_memory_equal(entry->name.text, name, entry->name.length);
	assert_int_equal(entry->target.ino, model[listing->directory][number]);
	listing->seen++;
	return 0;
}

static unsigned model_names(unsigned directory)
{
	unsigned count = 0;

	for (unsigned n = 0; n < NAMES; n++)
		count += model[directory][n] != 0;
	return count;
}

struct resumed {
	uint64_t cookie;
	unsigned seen;
};

static int stop_at_cookie(const struct dirent_entry *entry, void *context)
{
	struct resumed *resumed = context;

	resumed->seen++;
	resumed->cookie = entry->cookie;
	return entry->last_of_cookie ? 7 : 0;
}

static void check_directory(struct tree *tree, unsigned directory)
{
	struct listing listing = {.directory = directory, .expect_new_cookie = true};
	struct resumed resumed = {0};
	uint64_t ino = directory_ino(directory);
	unsigned expected = model_names(directory);
	bool empty;

	assert_int_equal(dirent_iterate(tree, NULL, ino, 0, check_entry, &listing), 0);
	assert_int_equal(listing.seen, expected);
	assert_int_equal(dirent_is_empty(tree, NULL, ino, &empty), 0);
	assert_int_equal(empty, expected == 0);
	while (dirent_iterate(tree, NULL, ino, resumed.cookie, stop_at_cookie, &resumed) == 7)
		assert_true(resumed.seen <= expected);
	assert_int_equal(resumed.seen, expected);
}

struct links {
	struct tree *tree;
	uint64_t ino;
	unsigned seen;
	uint64_t directory, hash;
};

static int check_link(uint64_t directory, const struct dirent_name *name, void *context)
{
	struct links *links = context;
	uint64_t hash = dirent_hash(name->text, name->length);
	struct dirent_target target;
	uint64_t ino;
	char *path;

	assert_true(directory > links->directory ||
		    (directory == links->directory && hash >= links->hash));
	links->directory = directory;
	links->hash = hash;
	assert_int_equal(
		dirent_lookup(links->tree, NULL, directory, name->text, name->length, &target), 0);
	assert_int_equal(target.ino, links->ino);
	if (directory == ROOT_INO) { /* other directories hang nowhere in this model */
		assert_int_equal(
			path_of_name(links->tree, NULL, directory, name->text, name->length, &path),
			0);
		assert_int_equal(path_lookup(links->tree, NULL, path, &ino), 0);
		assert_int_equal(ino, links->ino);
		free(path);
	}
	links->seen++;
	return 0;
}

static void check_inode(struct tree *tree, uint64_t ino)
{
	struct links links = {.tree = tree, .ino = ino};
	struct backref_name first;
	unsigned expected = 0;

	for (unsigned d = 0; d < DIRECTORIES; d++)
		for (unsigned n = 0; n < NAMES; n++)
			expected += model[d][n] == ino;
	assert_int_equal(backref_iterate(tree, NULL, ino, check_link, &links), 0);
	assert_int_equal(links.seen, expected);
	assert_int_equal(backref_first(tree, NULL, ino, &first), expected ? 0 : -ENOENT);
}

static void check_all(struct tree *tree)
{
	for (unsigned d = 0; d < DIRECTORIES; d++)
		check_directory(tree, d);
	for (unsigned i = 0; i < INODES; i++)
		check_inode(tree, 1000 + i);
	for (size_t i = 0; i < tree->count; i++) {
		const struct memory_item *item = &tree->items[i];
		const struct tree_item view = {item->key, item->value, item->length};

		assert_int_equal(item_check(&view), 0);
	}
}

static void run_model(unsigned hash_bits)
{
	struct tree *tree = memory_tree_new();

	memset(model, 0, sizeof(model));
	dirent_test_limit_hash(hash_bits);
	for (int step = 0; step < STEPS; step++) {
		random_step(tree);
		if (step % 1000 == 999)
			check_all(tree);
	}
	dirent_test_limit_hash(63);
	memory_tree_free(tree);
}

static void test_model_colliding(void **state)
{
	(void)state;
	run_model(4);
}

static void test_model_full_hash(void **state)
{
	(void)state;
	run_model(63);
}

static void test_names_that_are_refused(void **state)
{
	struct tree *tree = memory_tree_new();
	const struct dirent_target target = {20, DT_REG};
	struct dirent_target found;
	char longest[NAME_MAX_BYTES + 1];

	(void)state;
	memset(longest, 'l', sizeof(longest));
	assert_int_equal(dirent_insert(tree, NULL, 1, "", 0, &target), -EINVAL);
	assert_int_equal(dirent_insert(tree, NULL, 1, "a/b", 3, &target), -EINVAL);
	assert_int_equal(dirent_insert(tree, NULL, 1, "a\0b", 3, &target), -EINVAL);
	assert_int_equal(dirent_insert(tree, NULL, 1, ".", 1, &target), -EINVAL);
	assert_int_equal(dirent_insert(tree, NULL, 1, "..", 2, &target), -EINVAL);
	assert_int_equal(dirent_insert(tree, NULL, 1, longest, 256, &target), -ENAMETOOLONG);
	assert_int_equal(dirent_lookup(tree, NULL, 1, longest, 256, &found), -ENAMETOOLONG);
	assert_int_equal(tree->count, 0);
	assert_int_equal(dirent_insert(tree, NULL, 1, longest, 255, &target), 0);
	assert_int_equal(dirent_insert(tree, NULL, 1, "...", 3, &target), 0);
	assert_int_equal(dirent_lookup(tree, NULL, 1, longest, 255, &found), 0);
	assert_int_equal(dirent_lookup(tree, NULL, 1, longest, 254, &found), -ENOENT);
	memory_tree_free(tree);
}

static void test_hash_leaves_room_for_dots(void **state)
{
	(void)state;
	dirent_test_limit_hash(0);
	assert_int_equal(dirent_hash("x", 1), 16);
	dirent_test_limit_hash(4);
	for (char c = 'a'; c <= 'z'; c++)
		assert_in_range(dirent_hash(&c, 1), 16, 31);
	dirent_test_limit_hash(63);
	for (char c = 'a'; c <= 'z'; c++)
		assert_in_range(dirent_hash(&c, 1), 16, INT64_MAX - 1);
}

/* More names of one inode in one directory than a backref can list. */
enum { LINKS = 600 };

static size_t link_name(int number, char name[16])
{
	return (size_t)snprintf(name, 16, "link%d", number);
}

static int count_name(uint64_t directory, const struct dirent_name *name, void *context)
{
	assert_int_equal(directory, ROOT_INO);
	assert_memory_equal(name->text, "link", 4);
	++*(int *)context;
	return 0;
}

static void check_links(struct tree *tree, int expected)
{
	int count = 0;
	char *path = NULL;
	uint64_t ino;

	assert_int_equal(backref_iterate(tree, NULL, 50, count_name, &count), 0);
	assert_int_equal(count, expected);
	if (expected == 0) {
		assert_int_equal(path_of_inode(tree, NULL, 50, &path), -ENOENT);
		return;
	}
	assert_int_equal(path_of_inode(tree, NULL, 50, &path), 0);
	assert_int_equal(path_lookup(tree, NULL, path, &ino), 0);
	assert_int_equal(ino, 50);
	free(path);
}

static void test_many_links(void **state)
{
	struct tree *tree = memory_tree_new();
	const struct dirent_target target = {50, DT_REG};
	const struct dirent_target other = {51, DT_REG};
	char name[16];

	(void)state;
	assert_int_equal(dirent_insert(tree, NULL, 1, "other", 5, &other), 0);
	for (int i = 0; i < LINKS; i++) {
		assert_int_equal(dirent_insert(tree, NULL, 1, name, link_name(i, name), &target),
				 0);
		if (i > 230 && i < 245)
			check_links(tree, i + 1);
	}
	check_links(tree, LINKS);
	for (int i = 0; i < LINKS; i++) {
		size_t length = link_name(i, name);

		if (i % 2)
			assert_int_equal(dirent_remove(tree, NULL, 1, name, length), 0);
		else
			assert_int_equal(dirent_replace(tree, NULL, 1, name, length, &other), 0);
	}
	check_links(tree, 0);
	for (int i = 0; i < LINKS; i += 2)
		assert_int_equal(dirent_remove(tree, NULL, 1, name, link_name(i, name)), 0);
	assert_int_equal(dirent_remove(tree, NULL, 1, "other", 5), 0);
	assert_int_equal(tree->count, 0);
	memory_tree_free(tree);
}

static void add(struct tree *tree, uint64_t directory, const char *name, uint64_t ino, uint8_t type)
{
	const struct dirent_target target = {ino, type};

	assert_int_equal(dirent_insert(tree, NULL, directory, name, strlen(name), &target), 0);
}

static void check_path(struct tree *tree, const char *path, int error, uint64_t ino)
{
	uint64_t found = 0;

	assert_int_equal(path_lookup(tree, NULL, path, &found), error);
	assert_int_equal(found, ino);
}

static void test_paths(void **state)
{
	struct tree *tree = memory_tree_new();
	uint64_t parent;
	char *path;

	(void)state;
	add(tree, 1, "etc", 20, DT_DIR);
	add(tree, 20, "app", 21, DT_DIR);
	add(tree, 21, "config", 22, DT_REG);
	check_path(tree, "", 0, 1);
	check_path(tree, "/", 0, 1);
	check_path(tree, ".", 0, 1);
	check_path(tree, "etc/app/config", 0, 22);
	check_path(tree, "//etc/./app///config/", 0, 22);
	check_path(tree, "etc/../etc", -EINVAL, 0);
	check_path(tree, "etc/app/config/x", -ENOTDIR, 0);
	check_path(tree, "etc/none/config", -ENOENT, 0);
	assert_int_equal(path_of_inode(tree, NULL, 1, &path), 0);
	assert_string_equal(path, "");
	free(path);
	assert_int_equal(path_of_inode(tree, NULL, 22, &path), 0);
	assert_string_equal(path, "etc/app/config");
	free(path);
	assert_int_equal(path_of_name(tree, NULL, 21, "new", 3, &path), 0);
	assert_string_equal(path, "etc/app/new");
	free(path);
	assert_int_equal(path_of_inode(tree, NULL, 99, &path), -ENOENT);
	assert_int_equal(dirent_parent(tree, NULL, 1, &parent), 0);
	assert_int_equal(parent, 1);
	assert_int_equal(dirent_parent(tree, NULL, 21, &parent), 0);
	assert_int_equal(parent, 20);
	assert_int_equal(dirent_parent(tree, NULL, 99, &parent), -ENOENT);
	memory_tree_free(tree);
}

static void test_deep_path(void **state)
{
	struct tree *tree = memory_tree_new();
	char name[NAME_MAX_BYTES + 1] = {0};
	uint64_t ino;
	char *path;

	(void)state;
	memset(name, 'd', NAME_MAX_BYTES);
	for (unsigned i = 0; i < 300; i++)
		add(tree, i == 0 ? 1 : 100 + i, name, 101 + i, DT_DIR);
	assert_int_equal(path_of_inode(tree, NULL, 400, &path), 0);
	assert_int_equal(strlen(path), 300 * 256 - 1);
	assert_int_equal(path_lookup(tree, NULL, path, &ino), 0);
	assert_int_equal(ino, 400);
	free(path);
	memory_tree_free(tree);
}

/* Damaged values are refused, whatever is cut off. */
static void test_damage(void **state)
{
	struct tree *tree = memory_tree_new();
	struct memory_item *item;
	struct dirent_target found;
	char *path;

	(void)state;
	add(tree, 1, "file", 20, DT_REG);
	item = &tree->items[0];
	assert_int_equal(item->key.type, ITEM_DIRENT);
	for (uint16_t length = 1; length < 14; length++) {
		item->length = length;
		assert_int_equal(dirent_lookup(tree, NULL, 1, "file", 4, &found), -EUCLEAN);
		assert_int_equal(dirent_remove(tree, NULL, 1, "file", 4), -EUCLEAN);
	}
	item->length = 14;
	item->value[0]++; /* now it leads to inode 21, and 20 has a backref to nothing */
	assert_int_equal(path_of_inode(tree, NULL, 20, &path), -EUCLEAN);
	assert_int_equal(dirent_remove(tree, NULL, 1, "file", 4), -EUCLEAN);
	memory_tree_free(tree);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model_colliding),
		cmocka_unit_test(test_model_full_hash),
		cmocka_unit_test(test_names_that_are_refused),
		cmocka_unit_test(test_hash_leaves_room_for_dots),
		cmocka_unit_test(test_many_links),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_deep_path),
		cmocka_unit_test(test_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
