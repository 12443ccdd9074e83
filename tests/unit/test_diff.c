/*
 * diff_trees(), diff_summarize() and diff_for_kernel() on real trees, against a naive comparison
 * of two models: random edits with renames, hard links, swaps, replacements, removed directories.
 */
#include <string.h>

#include "snapshot/diff.h"
#include "world_testing.h"

enum { PATH_BYTES = 512, ENTRIES = 2000 };

/* The naive diff. */

struct entry {
	struct diff_entry entry;
	char path[PATH_BYTES], old_path[PATH_BYTES];
};

static struct entry expected[ENTRIES], actual[ENTRIES];
static int expected_count, actual_count;
static struct world *old_world, *new_world;

static void model_path(struct world *world, uint64_t directory, const char *text,
		       char path[PATH_BYTES])
{
	char rest[PATH_BYTES];

	snprintf(path, PATH_BYTES, "%s", text);
	while (directory != ROOT_INO) {
		const struct name *name = NULL;

		for (int i = 0; i < world->name_count; i++)
			if (world->names[i].ino == directory)
				name = &world->names[i];
		assert_non_null(name);
		memcpy(rest, path, PATH_BYTES);
		assert_in_range(snprintf(path, PATH_BYTES, "%s/%s", name->text, rest), 1,
				PATH_BYTES - 1);
		directory = name->directory;
	}
}

static bool contents_differ(const struct file *a, const struct file *b)
{
	if (a->directory)
		return false;
	if (a->size != b->size)
		return true;
	for (int block = 0; (uint32_t)block * BLOCK < a->size; block++)
		if (a->seeds[block] != b->seeds[block])
			return true;
	return false;
}

static bool looks_differ(const struct file *a, const struct file *b)
{
	return a->mode != b->mode || a->uid != b->uid || a->xattr != b->xattr ||
	       (!a->directory && a->mtime != b->mtime);
}

static struct entry *expect(enum diff_op op, uint64_t ino, struct world *world,
			    const struct name *name)
{
	const struct file *old_file = &old_world->files[ino];
	const struct file *new_file = &new_world->files[ino];
	struct entry *entry = &expected[expected_count++];

	assert_true(expected_count <= ENTRIES);
	memset(entry, 0, sizeof(*entry));
	entry->entry.op = op;
	entry->entry.ino = ino;
	entry->entry.contents = op == DIFF_MODIFIED;
	entry->entry.old_size = old_file->exists && !old_file->directory ? old_file->size : 0;
	entry->entry.new_size = new_file->exists && !new_file->directory ? new_file->size : 0;
	if (name)
		model_path(world, name->directory, name->text, entry->path);
	else
		snprintf(entry->path, PATH_BYTES, ".");
	return entry;
}

/* The name under which a change is told: the first that stayed, by directory and hash. */
static const struct name *first_kept(uint64_t ino)
{
	const struct name *first = NULL;

	for (int i = 0; i < new_world->name_count; i++) {
		const struct name *name = &new_world->names[i];

		if (name->ino != ino || !has_name(old_world, name))
			continue;
		if (!first || name->directory < first->directory ||
		    (name->directory == first->directory &&
		     dirent_hash(name->text, strlen(name->text)) <
			     dirent_hash(first->text, strlen(first->text))))
			first = name;
	}
	return first;
}

static void expect_names(uint64_t ino, int lost, int gained, bool contents)
{
	struct entry *renamed = NULL;

	for (int i = 0; i < new_world->name_count; i++) {
		const struct name *name = &new_world->names[i];

		if (name->ino != ino || has_name(old_world, name))
			continue;
		if (lost == 1 && gained == 1) {
			renamed = expect(DIFF_RENAMED, ino, new_world, name);
			renamed->entry.contents = contents;
		} else {
			expect(DIFF_ADDED, ino, new_world, name);
		}
	}
	for (int i = 0; i < old_world->name_count; i++) {
		const struct name *name = &old_world->names[i];

		if (name->ino != ino || has_name(new_world, name))
			continue;
		if (renamed)
			model_path(old_world, name->directory, name->text, renamed->old_path);
		else
			expect(DIFF_REMOVED, ino, old_world, name);
	}
}

static void expect_inode(uint64_t ino)
{
	const struct file *old_file = &old_world->files[ino];
	const struct file *new_file = &new_world->files[ino];
	bool both = old_file->exists && new_file->exists;
	bool contents = both && contents_differ(old_file, new_file);
	int lost = 0;
	int gained = 0;

	for (int i = 0; i < old_world->name_count; i++)
		lost += old_world->names[i].ino == ino &&
			!has_name(new_world, &old_world->names[i]);
	for (int i = 0; i < new_world->name_count; i++)
		gained += new_world->names[i].ino == ino &&
			  !has_name(old_world, &new_world->names[i]);
	expect_names(ino, lost, gained, contents);
	if ((lost == 1 && gained == 1) || !both || (!contents && !looks_differ(old_file, new_file)))
		return;
	if (ino == ROOT_INO || first_kept(ino))
		expect(contents ? DIFF_MODIFIED : DIFF_ATTRIBUTES, ino, new_world, first_kept(ino));
}

static int compare_entries(const void *left, const void *right)
{
	const struct entry *a = left;
	const struct entry *b = right;
	int order = strcmp(a->path, b->path);

	return order ? order : (a->entry.op != DIFF_REMOVED) - (b->entry.op != DIFF_REMOVED);
}

static bool same_type(uint64_t old_ino, uint64_t new_ino)
{
	return old_world->files[old_ino].directory == new_world->files[new_ino].directory;
}

static void fuse_expected(void)
{
	int kept = 0;

	for (int i = 0; i < expected_count; i++) {
		const struct entry *a = &expected[i];
		struct entry *b = &expected[i + 1];

		if (i + 1 < expected_count && a->entry.op == DIFF_REMOVED &&
		    b->entry.op == DIFF_ADDED && strcmp(a->path, b->path) == 0 &&
		    same_type(a->entry.ino, b->entry.ino)) {
			const struct file *old_file = &old_world->files[a->entry.ino];
			const struct file *new_file = &new_world->files[b->entry.ino];

			b->entry.contents = contents_differ(old_file, new_file);
			b->entry.op = b->entry.contents ? DIFF_MODIFIED : DIFF_ATTRIBUTES;
			b->entry.old_size = a->entry.old_size;
			i++;
			if (!b->entry.contents && !looks_differ(old_file, new_file))
				continue;
		}
		expected[kept++] = expected[i];
	}
	expected_count = kept;
}

/* Which of several names of one hash is the first is left open: takes the model's. */
static void settle_path(struct entry *entry)
{
	uint64_t ino = entry->entry.ino;
	const struct name *first = first_kept(ino);

	for (int i = 0; first && i < new_world->name_count; i++) {
		const struct name *name = &new_world->names[i];
		char path[PATH_BYTES];

		if (name->ino != ino || name->directory != first->directory ||
		    dirent_hash(name->text, strlen(name->text)) !=
			    dirent_hash(first->text, strlen(first->text)) ||
		    !has_name(old_world, name))
			continue;
		model_path(new_world, name->directory, name->text, path);
		if (strcmp(path, entry->path) == 0) {
			model_path(new_world, first->directory, first->text, entry->path);
			return;
		}
	}
}

static int collect_entry(const struct diff_entry *entry, void *context)
{
	struct entry *copy = &actual[actual_count++];

	(void)context;
	assert_true(actual_count <= ENTRIES);
	memset(copy, 0, sizeof(*copy));
	copy->entry = *entry;
	snprintf(copy->path, PATH_BYTES, "%s", entry->path);
	if (entry->old_path)
		snprintf(copy->old_path, PATH_BYTES, "%s", entry->old_path);
	if (actual_count > 1)
		assert_true(compare_entries(copy - 1, copy) <= 0);
	return 0;
}

static void print_entries(const char *title, const struct entry *entries, int count)
{
	print_message("%s:\n", title);
	for (int i = 0; i < count; i++)
		print_message("  %c %s <- %s ino %d contents %d size %d -> %d\n",
			      (char)entries[i].entry.op, entries[i].path, entries[i].old_path,
			      (int)entries[i].entry.ino, entries[i].entry.contents,
			      (int)entries[i].entry.old_size, (int)entries[i].entry.new_size);
}

static bool same_entry(const struct entry *a, const struct entry *b)
{
	return a->entry.op == b->entry.op && a->entry.ino == b->entry.ino &&
	       a->entry.contents == b->entry.contents && strcmp(a->path, b->path) == 0 &&
	       strcmp(a->old_path, b->old_path) == 0 &&
	       (b->entry.op == DIFF_ADDED || a->entry.old_size == b->entry.old_size) &&
	       (b->entry.op == DIFF_REMOVED || a->entry.new_size == b->entry.new_size);
}

static void check_summary(struct tree *old_tree, struct tree *new_tree)
{
	struct diff_summary summary;
	uint64_t added = 0;
	uint64_t removed = 0;

	for (int i = 0; i < expected_count; i++) {
		added += expected[i].entry.op == DIFF_ADDED;
		removed += expected[i].entry.op == DIFF_REMOVED;
	}
	must(diff_summarize(old_tree, new_tree, reader, &summary));
	assert_int_equal(summary.added, added);
	assert_int_equal(summary.removed, removed);
	assert_int_equal(summary.modified, (uint64_t)expected_count - added - removed);
}

static void check_diff(struct tree *old_tree, struct world *from, struct tree *new_tree,
		       struct world *to)
{
	bool same;

	old_world = from;
	new_world = to;
	expected_count = actual_count = 0;
	for (uint64_t ino = 1; ino < now.next_ino; ino++)
		expect_inode(ino);
	qsort(expected, (size_t)expected_count, sizeof(expected[0]), compare_entries);
	fuse_expected();
	must(diff_trees(old_tree, new_tree, reader, collect_entry, NULL, NULL));
	for (int i = 0; i < actual_count; i++)
		if (actual[i].entry.op == DIFF_MODIFIED || actual[i].entry.op == DIFF_ATTRIBUTES)
			settle_path(&actual[i]);
	qsort(actual, (size_t)actual_count, sizeof(actual[0]), compare_entries);
	same = expected_count == actual_count;
	for (int i = 0; same && i < expected_count; i++)
		same = same_entry(&expected[i], &actual[i]);
	if (!same) {
		print_entries("expected", expected, expected_count);
		print_entries("actual", actual, actual_count);
		fail();
	}
	check_summary(old_tree, new_tree);
}

/* The kernel's view. */

static struct {
	int inodes[FILES]; /* 0: not told; 1: attributes; 2: contents too */
	int names;
} kernel;

static int kernel_inode(uint64_t ino, int contents, void *context)
{
	(void)context;
	assert_true(ino < FILES);
	assert_int_equal(kernel.inodes[ino], 0);
	assert_true(touched[ino]);
	kernel.inodes[ino] = contents ? 2 : 1;
	return 0;
}

static int kernel_name(uint64_t directory, const char *text, size_t length, void *context)
{
	const struct name *old_name, *new_name;
	char terminated[8];

	(void)context;
	snprintf(terminated, sizeof(terminated), "%.*s", (int)length, text);
	old_name = find_name(old_world, directory, terminated);
	new_name = find_name(new_world, directory, terminated);
	assert_true(old_name || new_name);
	assert_true(!old_name || !new_name || old_name->ino != new_name->ino);
	kernel.names++;
	return 0;
}

static bool any_difference(const struct file *a, const struct file *b)
{
	return a->exists != b->exists || a->mode != b->mode || a->uid != b->uid ||
	       a->nlink != b->nlink || a->mtime != b->mtime || a->atime != b->atime ||
	       a->xattr != b->xattr || contents_differ(a, b);
}

static void check_kernel(struct tree *old_tree, struct tree *new_tree)
{
	const struct diff_kernel_visitor visitor = {kernel_inode, kernel_name, NULL};
	int names = 0;

	memset(&kernel, 0, sizeof(kernel));
	must(diff_for_kernel(old_tree, new_tree, reader, &visitor));
	for (int i = 0; i < new_world->name_count; i++) {
		const struct name *name = &new_world->names[i];

		if (!has_name(old_world, name)) {
			names++;
			assert_int_equal(kernel.inodes[name->directory], 2);
		}
	}
	for (int i = 0; i < old_world->name_count; i++) {
		const struct name *name = &old_world->names[i];

		if (!has_name(new_world, name))
			assert_int_equal(kernel.inodes[name->directory], 2);
		names += !find_name(new_world, name->directory, name->text);
	}
	assert_int_equal(kernel.names, names);
	for (uint64_t ino = 1; ino < FILES; ino++) {
		const struct file *a = &old_world->files[ino];
		const struct file *b = &new_world->files[ino];

		if (!a->exists && !b->exists)
			continue;
		if (any_difference(a, b))
			assert_true(kernel.inodes[ino] > 0);
		if (a->exists != b->exists || contents_differ(a, b))
			assert_int_equal(kernel.inodes[ino], 2);
	}
}

static void run(unsigned hash_bits)
{
	begin(hash_bits);
	for (int i = 0; i < 250; i++)
		random_edit();
	for (int round = 0; round < 120; round++) {
		struct tree *point = freeze();
		int edits = 1 + (int)random_below(round % 2 ? 4 : 60);

		for (int i = 0; i < edits; i++)
			random_edit();
		check_diff(point, &before, head, &now);
		check_kernel(point, head);
		check_diff(head, &now, point, &before);
		check_kernel(head, point);
		tree_close(point);
	}
	end();
}

static void test_model(void **state)
{
	(void)state;
	random_seed();
	run(63);
}

static void test_model_colliding(void **state)
{
	(void)state;
	run(4);
}

static void test_against_nothing(void **state)
{
	struct tree *empty;

	(void)state;
	begin(63);
	memset(&before, 0, sizeof(before));
	memset(touched, 0, sizeof(touched));
	put_inode(ROOT_INO);
	for (int i = 0; i < 100; i++)
		random_edit();
	must(tree_open(store, 0, 0, &empty));
	check_diff(empty, &before, head, &now);
	check_diff(head, &now, empty, &before);
	check_kernel(head, empty);
	tree_close(empty);
	end();
}

static int stop(const struct diff_entry *entry, void *context)
{
	(void)entry;
	++*(int *)context;
	return 42;
}

static void test_visitor_ends_the_walk(void **state)
{
	struct tree *point;
	int calls = 0;

	(void)state;
	begin(63);
	point = freeze();
	add_name(ROOT_INO, "a", create(false));
	add_name(ROOT_INO, "b", create(false));
	assert_int_equal(diff_trees(point, head, reader, stop, &calls, NULL), 42);
	assert_int_equal(calls, 1);
	tree_close(point);
	end();
}

/* More names than a backref lists: path and diff still tell each. */
static void test_many_links(void **state)
{
	struct diff_summary summary;
	struct tree *point;
	uint64_t ino;
	struct dirent_target target;
	char text[16];

	(void)state;
	begin(63);
	ino = create(false);
	target = target_of(ino);
	point = freeze();
	for (int i = 0; i < 1000; i++) {
		size_t length = (size_t)snprintf(text, sizeof(text), "link%d", i);

		must(dirent_insert(head, reader, ROOT_INO, text, length, &target));
	}
	must(diff_summarize(point, head, reader, &summary));
	assert_int_equal(summary.added, 1000);
	tree_close(point);
	point = freeze();
	must(dirent_remove(head, reader, ROOT_INO, "link7", 5));
	now.files[ino].mode = 0600;
	put_inode(ino);
	must(diff_summarize(point, head, reader, &summary));
	assert_int_equal(summary.removed, 1);
	assert_int_equal(summary.modified, 1);
	assert_int_equal(summary.added, 0);
	tree_close(point);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_model_colliding),
		cmocka_unit_test(test_against_nothing),
		cmocka_unit_test(test_visitor_ends_the_walk),
		cmocka_unit_test(test_many_links),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
