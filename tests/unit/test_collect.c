/* Garbage collection and the checker: snapshot/collect.h. */
#include <pthread.h>
#include <semaphore.h>

#include "repo_testing.h"

static int setup(void **state)
{
	static struct fixture fixture;
	fixture_create(&fixture);
	*state = &fixture;
	return 0;
}

static int teardown(void **state)
{
	fixture_destroy(*state);
	return 0;
}

static struct sweep_result collect(struct fixture *fixture, bool dry_run)
{
	struct sweep_result result = {0};
	must(repo_collect(fixture->repo, dry_run, NULL, NULL, &result));
	return result;
}

static uint64_t chunks(struct fixture *fixture)
{
	struct store_statistics statistics;
	must(store_statistics(repo_store(fixture->repo), &statistics));
	return statistics.chunks;
}

static void remove_file(struct head *head, const char *name)
{
	struct small small = small_begin(head);
	small_remove(&small, ROOT_INO, name, false);
	small_end(&small);
}

static void test_collect_frees_what_nothing_reaches(void **state)
{
	struct fixture *fixture = *state;
	struct errbuf err = {""};
	put_file(fixture->head, "kept", 100000, 1);
	put_file(fixture->head, "doomed", 300000, 2);
	struct point point = freeze(fixture->head, "one");
	remove_file(fixture->head, "doomed");
	struct point second = freeze(fixture->head, "two");
	struct sweep_result result = collect(fixture, false);
	assert_int_equal(result.chunks, 0); /* the point has it */

	must(point_delete(fixture->repo, &point.id, 1, false, NULL, &err));
	uint64_t before = chunks(fixture);
	result = collect(fixture, true);
	assert_int_equal(result.chunks, 2);
	assert_int_equal(result.raw_bytes, 300000);
	assert_true(result.nodes > 0);
	assert_int_equal(chunks(fixture), before);
	struct sweep_result again = collect(fixture, false);
	assert_int_equal(again.chunks, result.chunks);
	assert_int_equal(again.nodes, result.nodes);
	assert_int_equal(chunks(fixture), before - 2);
	again = collect(fixture, false);
	assert_int_equal(again.chunks + again.nodes, 0);
	assert_sound(fixture->repo, true);
	fixture_close(fixture);
	fixture_open(fixture);
	assert_sound(fixture->repo, true);
	point_release(&point);
	point_release(&second);
}

static void test_collect_keeps_what_is_not_committed(void **state)
{
	struct fixture *fixture = *state;
	put_file(fixture->head, "new", 400000, 1);
	struct sweep_result result = collect(fixture, false);
	assert_int_equal(result.chunks, 0);
	assert_sound(fixture->repo, true);
	/* Stored, but nothing refers to it yet: newer than the marks, so it stays. */
	uint8_t bytes[5000];
	uint64_t chunk;
	bool duplicate;
	fill_bytes(bytes, sizeof(bytes), 77);
	must(chunk_store(repo_store(fixture->repo), bytes, sizeof(bytes), &chunk, &duplicate));
	assert_false(duplicate);
	must(chunk_store(repo_store(fixture->repo), bytes, sizeof(bytes), &chunk, &duplicate));
	assert_true(duplicate);
}

static void test_collect_keeps_values_of_xattrs(void **state)
{
	struct fixture *fixture = *state;
	uint8_t value[20000], got[20000];
	fill_bytes(value, sizeof(value), 5);
	uint64_t ino = put_file(fixture->head, "a", 10, 1);
	struct small small = small_begin(fixture->head);
	small_set_xattr(&small, ino, "user.large", value, sizeof(value));
	small_end(&small);
	must(repo_commit(fixture->repo));
	struct sweep_result result = collect(fixture, false);
	assert_int_equal(result.chunks, 0);
	fixture_close(fixture);
	fixture_open(fixture);
	small = small_begin(fixture->head);
	assert_int_equal(xattr_get(small.tree, small.reader, ino, "user.large", got, sizeof(got)),
			 sizeof(got));
	small_end(&small);
	assert_memory_equal(value, got, sizeof(got));
	assert_sound(fixture->repo, true);
}

struct late {
	struct fixture *fixture;
	sem_t stored;
	bool duplicate;
};

/* Gets an old chunk, and puts it into the tree only while a collection is on its way. */
static void *put_late(void *context)
{
	struct late *late = context;
	uint8_t bytes[5000];
	struct extent piece = {.length = sizeof(bytes)};
	int64_t change;
	fill_bytes(bytes, sizeof(bytes), 9);
	struct small small = small_begin(late->fixture->head);
	must(chunk_store(repo_store(late->fixture->repo), bytes, sizeof(bytes), &piece.chunk,
			 &late->duplicate));
	sem_post(&late->stored);
	usleep(50000);
	uint64_t ino = small_make(&small, ROOT_INO, "late", S_IFREG | 0644);
	struct inode_attr attr;
	must(extent_replace(small.tree, small.reader, ino, 0, sizeof(bytes), &piece, 1, &change));
	must(inode_get(small.tree, small.reader, ino, &attr));
	attr.size = attr.allocated = sizeof(bytes);
	must(inode_put(small.tree, small.reader, ino, &attr));
	head_count(small.head, &(struct head_counters){.bytes = sizeof(bytes)});
	small_end(&small);
	return NULL;
}

static void test_collect_waits_for_hits_before_it(void **state)
{
	struct late late = {.fixture = *state};
	struct fixture *fixture = *state;
	pthread_t thread;
	put_file(fixture->head, "doomed", 5000, 9);
	must(repo_commit(fixture->repo));
	remove_file(fixture->head, "doomed");
	must(repo_commit(fixture->repo));
	must(sem_init(&late.stored, 0, 0));
	must(pthread_create(&thread, NULL, put_late, &late));
	sem_wait(&late.stored);
	collect(fixture, false);
	pthread_join(thread, NULL);
	sem_destroy(&late.stored);
	assert_true(late.duplicate);
	must(repo_commit(fixture->repo));
	assert_sound(fixture->repo, true);
}

/* An old chunk that only the redo log refers to: the index shows nobody who has it. */
static void test_collect_keeps_what_is_in_the_log(void **state)
{
	struct fixture *fixture = *state;
	put_file(fixture->head, "first", 100, 1);
	must(repo_sync(fixture->repo)); /* makes the log */
	put_file(fixture->head, "old", 5000, 9);
	must(repo_commit(fixture->repo));
	remove_file(fixture->head, "old");
	must(repo_commit(fixture->repo));
	put_file(fixture->head, "again", 5000, 9);
	must(repo_sync(fixture->repo));
	assert_true(redo_is_used(repo_store(fixture->repo)));
	collect(fixture, false);
	must(repo_commit(fixture->repo)); /* so that the check sees it */
	assert_sound(fixture->repo, true);
	put_file(fixture->head, "new", 5000, 10);
	must(repo_sync(fixture->repo));
	assert_true(redo_is_used(repo_store(fixture->repo)));
	remove_file(fixture->head, "again");
	remove_file(fixture->head, "new");
	must(repo_sync(fixture->repo));
	collect(fixture, false);
	assert_int_equal(chunks(fixture), 1); /* of "first" */
	fixture_close(fixture);
	fixture_open(fixture);
	assert_sound(fixture->repo, true);
}

struct stop {
	const char *phase;
	int calls;
};

static int stop_at(const char *phase, uint64_t done, uint64_t total, void *context)
{
	struct stop *stop = context;
	assert_true(done <= total);
	stop->calls++;
	return stop->phase && strcmp(phase, stop->phase) == 0;
}

static void test_collect_can_be_stopped(void **state)
{
	struct fixture *fixture = *state;
	struct errbuf err = {""};
	struct sweep_result result;
	put_file(fixture->head, "doomed", 300000, 2);
	struct point point = freeze(fixture->head, "one");
	remove_file(fixture->head, "doomed");
	must(point_delete(fixture->repo, &point.id, 1, false, NULL, &err));
	point_release(&point);
	struct stop stop = {"mark", 0};
	assert_int_equal(repo_collect(fixture->repo, false, stop_at, &stop, &result), -EINTR);
	assert_int_equal(stop.calls, 1);
	stop.phase = "sweep";
	assert_int_equal(repo_collect(fixture->repo, false, stop_at, &stop, &result), -EINTR);
	stop = (struct stop){NULL, 0};
	must(repo_collect(fixture->repo, false, stop_at, &stop, &result));
	assert_true(stop.calls >= 1);
	assert_sound(fixture->repo, true);
	struct check_result check;
	stop.phase = "check";
	assert_int_equal(repo_check(fixture->repo, false, NULL, stop_at, &stop, &check), -EINTR);
}

/* ---- the checker must find what is wrong ---- */

struct findings {
	const char *expected;
	bool found;
	char all[4096];
};

static void look_for(const char *finding, void *context)
{
	struct findings *findings = context;
	if (strstr(finding, findings->expected))
		findings->found = true;
	strncat(findings->all, finding, sizeof(findings->all) - strlen(findings->all) - 2);
	strcat(findings->all, "\n");
}

static void assert_finds(struct fixture *fixture, const char *expected)
{
	struct findings findings = {.expected = expected};
	struct check_result result;
	must(repo_commit(fixture->repo));
	must(repo_check(fixture->repo, false, look_for, NULL, &findings, &result));
	if (!findings.found)
		fail_msg("the checker does not say '%s' but:\n%s", expected, findings.all);
	assert_true(result.errors > 0);
}

static uint64_t prepare(struct fixture *fixture, struct small *small)
{
	uint64_t ino = put_file(fixture->head, "file", 100000, 1);
	*small = small_begin(fixture->head);
	uint64_t directory = small_make(small, ROOT_INO, "directory", S_IFDIR | 0755);
	small_make(small, directory, "inner", S_IFREG | 0644);
	return ino;
}

static void change_attr(struct small *small, uint64_t ino, struct inode_attr change)
{
	struct inode_attr attr;
	must(inode_get(small->tree, small->reader, ino, &attr));
	attr.nlink += change.nlink;
	attr.size += change.size;
	attr.allocated += change.allocated;
	attr.flags ^= change.flags;
	attr.mode ^= change.mode;
	must(inode_put(small->tree, small->reader, ino, &attr));
}

static void test_finds_wrong_attributes(void **state)
{
	struct fixture *fixture = *state;
	struct small small;
	uint64_t ino = prepare(fixture, &small);
	small_end(&small);
	must(repo_commit(fixture->repo));
	assert_sound(fixture->repo, false);

	static const struct {
		struct inode_attr change;
		const char *finding;
	} wrong[] = {
		{{.nlink = 1}, "/file (inode 16): its link count is 2, but should be 1"},
		{{.size = 1}, "it should have 100000 bytes, but has 100001"},
		{{.size = (uint64_t)-1}, "an extent ends at 100000, the size is 99999"},
		{{.allocated = 512}, "allocated is 100512"},
		{{.flags = INODE_INLINE}, "is marked inline but has extents"},
		{{.mode = S_IFREG ^ S_IFDIR}, "its name says another type than its mode"},
		{{.mode = S_IFREG ^ S_IFLNK}, "has extents but is no regular file"},
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct inode_attr before;
		small = small_begin(fixture->head);
		must(inode_get(small.tree, small.reader, ino, &before));
		change_attr(&small, ino, wrong[i].change);
		small_end(&small);
		assert_finds(fixture, wrong[i].finding);
		small = small_begin(fixture->head);
		must(inode_put(small.tree, small.reader, ino, &before));
		small_end(&small);
	}
	must(repo_commit(fixture->repo));
	assert_sound(fixture->repo, true);
}

static void remove_item(struct small *small, uint64_t ino, uint8_t type)
{
	const struct tree_key first = {ino, type, 0};
	struct tree_cursor cursor;
	struct tree_item item;
	must(tree_seek(small->tree, small->reader, &first, &cursor, &item));
	assert_true(item.key.ino == ino && item.key.type == type);
	struct tree_key key = item.key;
	must(tree_delete(small->tree, small->reader, &key));
}

static void test_finds_missing_items(void **state)
{
	struct fixture *fixture = *state;
	static const struct {
		const char *directory; /* the item's inode is the root's if NULL */
		uint8_t type;
		const char *finding;
	} missing[] = {
		{"file", ITEM_INODE, "there is no such inode, but a name leads to it"},
		{"file", ITEM_BACKREF, "1 names lead to it, but it has 0 backrefs"},
		{"directory", ITEM_DIRENT, "a backref has no name that goes with it"},
		{"directory", ITEM_BACKREF, "1 names lead to it, but it has 0 backrefs"},
		{"file", ITEM_EXTENT, "allocated is 100000, its contents take 0"},
		{NULL, ITEM_INODE, "there is no root directory"},
	};
	for (size_t i = 0; i < sizeof(missing) / sizeof(missing[0]); i++) {
		struct small small;
		prepare(fixture, &small);
		uint64_t ino = missing[i].directory
				       ? small_lookup(&small, ROOT_INO, missing[i].directory)
				       : ROOT_INO;
		remove_item(&small, ino, missing[i].type);
		small_end(&small);
		assert_finds(fixture, missing[i].finding);
		fixture_destroy(fixture);
		fixture_create(fixture);
	}
}

static void put_item(struct small *small, struct tree_key key, const char *value)
{
	must(tree_put(small->tree, small->reader, &key, value, strlen(value)));
}

static void test_finds_strange_items(void **state)
{
	struct fixture *fixture = *state;
	struct small small;
	prepare(fixture, &small);
	uint64_t file = small_lookup(&small, ROOT_INO, "file");
	put_item(&small, (struct tree_key){file, 99, 7}, "what");
	put_item(&small, (struct tree_key){7777, ITEM_XATTR, 1}, "x");
	must(orphan_add(small.tree, small.reader, 8888));
	must(orphan_add(small.tree, small.reader, file));
	const struct dirent_target nowhere = {9999, DT_REG};
	must(dirent_insert(small.tree, small.reader, ROOT_INO, "nowhere", 7, &nowhere));
	const struct extent piece = {.offset = 1 << 20, .chunk = 123456, .length = 10};
	int64_t change;
	must(extent_replace(small.tree, small.reader, file, 1 << 20, 10, &piece, 1, &change));
	struct inode_attr attr;
	must(inode_get(small.tree, small.reader, file, &attr));
	must(inode_put(small.tree, small.reader, 6666, &attr));
	head_count(fixture->head, &(struct head_counters){.files = 3, .directories = -1});
	small_end(&small);
	assert_finds(fixture, "inode 16: item of type 99 at 7 does not decode");
	assert_finds(fixture, "inode 7777: there is no such inode, but items of it");
	assert_finds(fixture, "inode 8888: there is no such inode, but an orphan item names it");
	assert_finds(fixture, "/file (inode 16): is an orphan but has a name");
	assert_finds(fixture, "/nowhere (inode 9999): there is no such inode, but a name");
	assert_finds(fixture, "inode 16: chunk 123456 is not in the index");
	assert_finds(fixture, "inode 6666: has no name and is no orphan");
	assert_finds(fixture, "workspace 'main': it should have 0 directories, but has 1");
}

static void test_finds_a_loop_of_directories(void **state)
{
	struct fixture *fixture = *state;
	struct small small = small_begin(fixture->head);
	uint64_t a = small_make(&small, ROOT_INO, "a", S_IFDIR | 0755);
	uint64_t b = small_make(&small, a, "b", S_IFDIR | 0755);
	small_rename(&small, ROOT_INO, "a", b, "a");
	small_end(&small);
	assert_finds(fixture, "lies in a directory that lies in itself");
}

/* ---- damaged records ---- */

struct tampering {
	enum table table;
	struct bytes key, value; /* value of no bytes: delete */
};

static int tamper(struct repo *repo, struct commit *commit, void *context)
{
	(void)repo;
	const struct tampering *tampering = context;
	if (tampering->value.length)
		return commit_put_record(commit, tampering->table, tampering->key,
					 tampering->value);
	return commit_delete_record(commit, tampering->table, tampering->key);
}

static void test_finds_damaged_records(void **state)
{
	struct fixture *fixture = *state;
	static const struct {
		struct tampering tampering;
		const char *finding;
	} cases[] = {
		{{TABLE_NAMES, {"\0\0\0\0\0\0\0\1one", 11}, {NULL, 0}},
		 "point 'main@one': its name is missing in the table of names"},
		{{TABLE_NAMES, {"\0\0\0\0\0\0\0\1two", 11}, {"\1\0\0\0\0\0\0\0", 8}},
		 "the name 'two' leads to nothing that is called so"},
		{{TABLE_NAMES, {"short", 5}, {"x", 1}}, "is malformed"},
		{{TABLE_POINTS, {"\0\0\0\0\0\0\0\1", 8}, {"x", 1}},
		 "the record of point 1 does not decode"},
		{{TABLE_POINTS, {"\0\0\0\0\0\0\0\1", 8}, {NULL, 0}},
		 "it is based on point 1, which does not exist"},
		{{TABLE_WORKSPACES, {"\0\0\0\0\0\0\0\2", 8}, {"x", 1}},
		 "the record of workspace 2 does not decode"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct point point = freeze(fixture->head, "one");
		assert_sound(fixture->repo, false);
		point_release(&point);
		struct tampering tampering = cases[i].tampering;
		const struct repo_action action = {tamper, NULL, &tampering};
		must(repo_commit_action(fixture->repo, &action));
		assert_finds(fixture, cases[i].finding);
		fixture_destroy(fixture);
		fixture_create(fixture);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_collect_frees_what_nothing_reaches),
		TEST(test_collect_keeps_what_is_not_committed),
		TEST(test_collect_keeps_values_of_xattrs),
		TEST(test_collect_waits_for_hits_before_it),
		TEST(test_collect_keeps_what_is_in_the_log),
		TEST(test_collect_can_be_stopped),
		TEST(test_finds_wrong_attributes),
		TEST(test_finds_missing_items),
		TEST(test_finds_strange_items),
		TEST(test_finds_a_loop_of_directories),
		TEST(test_finds_damaged_records),
	};
	return cmocka_run_group_tests_name("collect", tests, NULL, NULL);
}
