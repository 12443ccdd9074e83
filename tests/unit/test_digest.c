/* Digests of points: snapshot/digest.h.  The definition itself is also checked by
 * tests/cli/digest.sh, with the script of README.md. */
#include <pthread.h>
#include <stdatomic.h>

#include "carry_testing.h"
#include "index/util/bytes.h"
#include "snapshot/digest_internal.h"
#include "snapshot/point_internal.h"

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

/* ---- shorthands ---- */

static struct digest digest_of(struct fixture *fixture, uint64_t point)
{
	struct errbuf err = {""};
	struct digest digest;
	bool recorded = false;
	int error = digest_of_point(fixture->repo, point, "tester", NULL, NULL, &digest, &recorded,
				    &err);
	if (error)
		fail_msg("digest: %s (%s)", strerror(-error), err.text);
	assert_true(recorded);
	return digest;
}

static struct digest_check verify(struct fixture *fixture, uint64_t point,
				  const struct digest *expected)
{
	struct errbuf err = {""};
	struct digest_check check;
	int error = digest_verify(fixture->repo, point, expected, NULL, NULL, &check, &err);
	if (error)
		fail_msg("verify: %s (%s)", strerror(-error), err.text);
	return check;
}

/* The digest, and that computing it from nothing gives the same. */
static struct digest sound_digest(struct fixture *fixture, uint64_t point)
{
	struct digest digest = digest_of(fixture, point);
	struct digest_check check = verify(fixture, point, NULL);
	assert_true(check.equal);
	assert_null(check.path);
	assert_memory_equal(check.found.bytes, digest.bytes, DIGEST_BYTES);
	digest_check_release(&check);
	return digest;
}

static uint64_t freeze_id(struct fixture *fixture, const char *name)
{
	struct point point = keep_as(fixture, name);
	uint64_t id = point.id;
	point_release(&point);
	return id;
}

static void set_time(struct fixture *fixture, const char *path, int64_t seconds, long nanoseconds)
{
	struct small small = small_begin(fixture->head);
	uint64_t ino = *path ? ino_of(&small, path) : ROOT_INO;
	struct inode_attr attr;
	must(inode_get(small.tree, small.reader, ino, &attr));
	attr.mtime = (struct timespec){seconds, nanoseconds};
	must(inode_put(small.tree, small.reader, ino, &attr));
	small_end(&small);
	head_mark_dirty(fixture->head);
}

/* ---- the definition ---- */

static void make_known(struct fixture *fixture)
{
	run(fixture->head, "m d;m d/e;w d/e/f hello;s link d/e/f;l d/e/f hard;w empty ;c hard 4755;"
			   "x hard v;m z");
	struct small small = small_begin(fixture->head);
	struct inode_attr attr;
	small_set_xattr(&small, ino_of(&small, "hard"), "user.a=b\n", "", 0);
	small_set_xattr(&small, ino_of(&small, "hard"), "security.selinux", "label", 5);
	uint64_t device = make(&small, "device", S_IFCHR | 0600);
	must(inode_get(small.tree, small.reader, device, &attr));
	attr.rdev = 5 << 8 | (300 & 0xff) | (300 & ~0xff) << 12;
	attr.uid = 4000000000;
	attr.gid = 7;
	must(inode_put(small.tree, small.reader, device, &attr));
	make(&small, "fifo", S_IFIFO | 0);
	make(&small, "d/a\\\nb", S_IFREG | 0600);
	write_text(&small, "d/a\\\nb", "x");
	uint64_t name = make(&small, "d/\377 \r", S_IFREG | 0644);
	uint8_t bytes[70000];
	fill_bytes(bytes, sizeof(bytes), 5);
	small_write(&small, name, 100000, bytes, sizeof(bytes));
	small_end(&small);
	static const char *const paths[] = {"hard", "link", "empty", "device", "fifo"};
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		set_time(fixture, paths[i], 1700000000 + (int64_t)i, 123456789);
	set_time(fixture, "d/a\\\nb", -3, 750000000);
	set_time(fixture, "d/\377 \r", 1, 1);
	set_time(fixture, "d/e/f", 0, 0);
}

static void test_definition(void **state)
{
	struct fixture *fixture = *state;
	char text[DIGEST_TEXT];
	make_known(fixture);
	struct digest digest = sound_digest(fixture, freeze_id(fixture, "one"));
	digest_text(&digest, text);
	/* Change it only together with "cairn digest 1". */
	assert_string_equal(text,
			    "225a1f1038ae4fec31546457095541491a2a687aa0d6e8e258d8e2cdc24d0fc8");
}

static void test_texts(void **state)
{
	(void)state;
	struct digest digest;
	char text[DIGEST_TEXT];
	const char *upper = "00FF00000000000000000000000000000000000000000000000000000000ABCD";
	must(digest_parse(upper, &digest));
	digest_text(&digest, text);
	assert_string_equal(text,
			    "00ff00000000000000000000000000000000000000000000000000000000abcd");
	assert_int_equal(digest_parse("", &digest), -EINVAL);
	assert_int_equal(digest_parse(upper + 1, &digest), -EINVAL);
	text[63] = 'g';
	assert_int_equal(digest_parse(text, &digest), -EINVAL);
	char name[DIGEST_NAME_MAX];
	assert_int_equal(digest_name("a\\\n\r=", 5, name), 14);
	assert_string_equal(name, "a\\134\\012\\015=");
}

/* ---- whatever changes ---- */

static void change_attr(struct fixture *fixture, const char *path, int what)
{
	struct small small = small_begin(fixture->head);
	uint64_t ino = *path ? ino_of(&small, path) : ROOT_INO;
	struct inode_attr attr;
	must(inode_get(small.tree, small.reader, ino, &attr));
	switch (what) {
	case 'm':
		attr.mode ^= 01;
		break;
	case 'u':
		attr.uid++;
		break;
	case 'g':
		attr.gid++;
		break;
	case 't':
		attr.mtime.tv_nsec = (attr.mtime.tv_nsec + 1) % 1000000000;
		break;
	case 'a':
		attr.atime.tv_sec++;
		break;
	case 'c':
		attr.ctime.tv_sec++;
		break;
	default:
		fail();
	}
	must(inode_put(small.tree, small.reader, ino, &attr));
	small_end(&small);
	head_mark_dirty(fixture->head);
}

static void change_byte(struct fixture *fixture, const char *path, uint64_t offset)
{
	struct small small = small_begin(fixture->head);
	uint64_t ino = ino_of(&small, path);
	struct inode_attr attr;
	uint8_t byte;
	must(inode_get(small.tree, small.reader, ino, &attr));
	assert_int_equal(file_read(small.tree, small.reader, ino, offset, &byte, 1, NULL), 1);
	byte ^= 1;
	small_write(&small, ino, offset, &byte, 1);
	/* The time must not be what tells. */
	struct inode_attr now;
	must(inode_get(small.tree, small.reader, ino, &now));
	now.mtime = attr.mtime;
	must(inode_put(small.tree, small.reader, ino, &now));
	small_end(&small);
	head_mark_dirty(fixture->head);
}

static void script(struct fixture *fixture, const char *text)
{
	run(fixture->head, text);
}

static int step_number;

/* The digest now, which must (or must not) be another than before. */
static void now_differs(struct fixture *fixture, struct digest *before, bool differs)
{
	char name[32];
	snprintf(name, sizeof(name), "step-%d", ++step_number);
	struct digest now = sound_digest(fixture, freeze_id(fixture, name));
	bool other = memcmp(now.bytes, before->bytes, DIGEST_BYTES) != 0;
	if (other != differs)
		fail_msg("%s: the digest is %s", name, other ? "another" : "the same");
	*before = now;
}

static void test_every_change(void **state)
{
	struct fixture *fixture = *state;
	step_number = 0;
	make_known(fixture);
	struct digest digest = sound_digest(fixture, freeze_id(fixture, "start"));
	static const char *const paths[] = {"", "d", "d/e/f", "link", "device", "fifo", "empty"};
	static const char kinds[] = "mug";
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		for (const char *kind = kinds; *kind; kind++) {
			change_attr(fixture, paths[i], *kind);
			now_differs(fixture, &digest, true);
		}
	for (size_t i = 2; i < sizeof(paths) / sizeof(paths[0]); i++) {
		change_attr(fixture, paths[i], 't');
		now_differs(fixture, &digest, true);
	}
	/* What does not count. */
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		change_attr(fixture, paths[i], 'a');
		change_attr(fixture, paths[i], 'c');
	}
	change_attr(fixture, "d", 't');
	change_attr(fixture, "", 't');
	now_differs(fixture, &digest, false);
	change_byte(fixture, "d/e/f", 4);
	now_differs(fixture, &digest, true);
	change_byte(fixture, "d/\377 \r", 0);
	now_differs(fixture, &digest, true);
	change_byte(fixture, "d/\377 \r", 169999);
	now_differs(fixture, &digest, true);
	static const char *const scripts[] = {
		"r d/e/f d/e/F", "r d/e d/E",	 "r z d/z",	 "x hard w",   "x empty v",
		"d fifo",	 "m new",	 "w new/file x", "d new/file", "l hard d/z/more",
		"d link",	 "s link d/E/F", "d d/z/more",
	};
	for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
		script(fixture, scripts[i]);
		now_differs(fixture, &digest, true);
	}
	assert_sound(fixture->repo, true);
}

/* ---- histories ---- */

enum { NAMES = 12, DIRECTORIES = 5 };

static void random_path(struct random *random, char ret[64])
{
	if (random_below(random, 3))
		snprintf(ret, 64, "d%d/n%d", (int)random_below(random, DIRECTORIES),
			 (int)random_below(random, NAMES));
	else
		snprintf(ret, 64, "n%d", (int)random_below(random, NAMES));
}

static void random_change(struct random *random, struct fixture *fixture)
{
	char path[64], other[64];
	uint8_t bytes[3000];
	const char *name, *new_name;
	struct small small = small_begin(fixture->head);
	struct inode_attr attr;

	random_path(random, path);
	random_path(random, other);
	uint64_t directory = parent_of(&small, path, &name), ino = ino_of(&small, path);
	uint64_t to = parent_of(&small, other, &new_name), there = ino_of(&small, other);
	uint64_t what = random_below(random, 10);
	if (!ino) {
		ino = what ? small_make(&small, directory, name, S_IFREG | 0644)
			   : small_symlink(&small, directory, name, other);
		what = what ? 0 : 20;
	} else {
		must(inode_get(small.tree, small.reader, ino, &attr));
		if (S_ISLNK(attr.mode) && what < 2)
			what = 5;
	}
	if (what < 2) {
		size_t length = 1 + random_below(random, sizeof(bytes));
		fill_bytes(bytes, length, random_next(random));
		small_write(&small, ino, random_below(random, 9000), bytes, length);
	} else if (what == 2 && S_ISREG(attr.mode)) {
		small_truncate(&small, ino, random_below(random, 12000));
	} else if (what == 3) {
		small_set_xattr(&small, ino, "user.x", path, random_below(random, 4));
	} else if (what == 4) {
		attr.mode ^= 0222;
		must(inode_put(small.tree, small.reader, ino, &attr));
	} else if (what < 7) {
		small_remove(&small, directory, name, random_below(random, 4) == 0);
	} else if (what == 7 && !there) {
		small_link(&small, ino, to, new_name);
	} else if ((what == 8 || what == 9) && ino != there) {
		small_rename(&small, directory, name, to, new_name);
	}
	small_end(&small);
	head_mark_dirty(fixture->head);
}

/* Points in random order, of a history that goes back now and then. */
static void test_histories(void **state)
{
	struct fixture *fixture = *state;
	struct random random = random_from(random_seed());
	uint64_t points[400];
	size_t count = 0;
	char name[32];
	run(fixture->head, "m d0;m d1;m d2;m d3;m d4");
	for (int round = 0; round < test_rounds(60); round++) {
		for (uint64_t i = random_below(&random, 15); i > 0; i--)
			random_change(&random, fixture);
		if (round % 7 == 3)
			run(fixture->head, round % 2 ? "r d1 d0/d1;r d0/d1 d1" : "r d2 x;r x d2");
		snprintf(name, sizeof(name), "point-%d", round);
		points[count++] = freeze_id(fixture, name);
		if (random_below(&random, 2))
			sound_digest(fixture, points[random_below(&random, count)]);
		if (random_below(&random, 8) == 0) {
			struct point back;
			must(point_get(fixture->repo, points[random_below(&random, count)], &back));
			go_back(fixture, &back);
			point_release(&back);
		}
		if (random_below(&random, 10) == 0 && count > 2) {
			size_t at = random_below(&random, count);
			must(point_delete(fixture->repo, &points[at], 1, false, NULL, NULL));
			points[at] = points[--count];
			struct sweep_result swept;
			must(repo_collect(fixture->repo, false, NULL, NULL, &swept));
		}
		if (count == sizeof(points) / sizeof(points[0]))
			break;
	}
	for (size_t i = count; i-- > 0;)
		sound_digest(fixture, points[i]);
	assert_sound(fixture->repo, true);
}

/* ---- what is kept ---- */

static uint64_t nodes_of(struct fixture *fixture)
{
	struct store_statistics statistics;
	must(store_statistics(repo_store(fixture->repo), &statistics));
	return statistics.nodes;
}

static void collect(struct fixture *fixture)
{
	struct sweep_result swept;
	must(repo_collect(fixture->repo, false, NULL, NULL, &swept));
}

static void make_many(struct fixture *fixture, int count)
{
	struct small small = small_begin(fixture->head);
	for (int i = 0; i < count; i++) {
		char name[32];
		snprintf(name, sizeof(name), "file-%d", i);
		uint64_t ino = small_make(&small, ROOT_INO, name, S_IFREG | 0644);
		small_write(&small, ino, 0, (const uint8_t *)name, strlen(name));
	}
	small_end(&small);
	head_mark_dirty(fixture->head);
}

static void test_collection(void **state)
{
	struct fixture *fixture = *state;
	make_many(fixture, 2000);
	uint64_t one = freeze_id(fixture, "one");
	collect(fixture);
	uint64_t without = nodes_of(fixture);
	sound_digest(fixture, one);
	uint64_t with = nodes_of(fixture);
	assert_true(with > without + 20);
	collect(fixture);
	assert_int_equal(nodes_of(fixture), with);
	assert_sound(fixture->repo, false);
	/* The next one shares most of it. */
	run(fixture->head, "w file-7 changed");
	uint64_t two = freeze_id(fixture, "two");
	uint64_t before = nodes_of(fixture);
	sound_digest(fixture, two);
	assert_true(nodes_of(fixture) - before < 8);
	must(point_delete(fixture->repo, &one, 1, false, NULL, NULL));
	collect(fixture);
	assert_sound(fixture->repo, false);
	sound_digest(fixture, two);
	must(point_delete(fixture->repo, &two, 1, false, NULL, NULL));
	collect(fixture);
	assert_true(nodes_of(fixture) <= without);
	assert_sound(fixture->repo, false);
}

static int forge(struct commit *commit, struct point *point, struct journal_note *note,
		 void *context, struct errbuf *err)
{
	(void)commit;
	(void)note;
	(void)err;
	point->digest = *(const struct point_digest *)context;
	return 1;
}

static void forge_digest(struct fixture *fixture, uint64_t id, const struct point_digest *digest)
{
	const struct point_change change = {JOURNAL_DIGEST, NULL, forge, (void *)digest};
	must(point_change(fixture->repo, id, &change, NULL));
}

static atomic_bool collecting;
static atomic_int collect_error; /* of the last collection that failed: it finds what is missing */

/* Whatever is committed while it marks must be safe from the sweep. */
static int linger(const char *phase, uint64_t done, uint64_t total, void *context)
{
	(void)done;
	(void)total;
	(void)context;
	if (strcmp(phase, "mark") == 0)
		usleep(2000);
	return 0;
}

static void *collect_all_the_time(void *context)
{
	int rounds = 0;
	while (atomic_load(&collecting)) {
		struct sweep_result swept;
		int error = repo_collect(context, false, linger, NULL, &swept);
		if (error)
			atomic_store(&collect_error, error);
		rounds++;
	}
	return (void *)(intptr_t)rounds;
}

/* Nodes on their way into a commit are not forgotten. */
static void test_beside_collections(void **state)
{
	struct fixture *fixture = *state;
	pthread_t thread;
	void *rounds;
	make_many(fixture, 10000);
	uint64_t last = freeze_id(fixture, "start");
	atomic_store(&collecting, true);
	atomic_store(&collect_error, 0);
	must(pthread_create(&thread, NULL, collect_all_the_time, fixture->repo));
	for (int i = 0; i < 20; i++) {
		char name[32];
		snprintf(name, sizeof(name), "round-%d", i);
		uint64_t point = freeze_id(fixture, name);
		digest_of(fixture, point);
		/* The next one has nothing to start from, and makes all nodes anew. */
		must(point_delete(fixture->repo, &last, 1, false, NULL, NULL));
		last = point;
		if (i % 2) {
			const struct point_digest none = {0};
			forge_digest(fixture, point, &none);
		}
		assert_sound(fixture->repo, false);
	}
	atomic_store(&collecting, false);
	pthread_join(thread, &rounds);
	must(atomic_load(&collect_error));
	print_message("%d collections meanwhile\n", (int)(intptr_t)rounds);
	assert_true((intptr_t)rounds > 5);
	sound_digest(fixture, last);
	assert_sound(fixture->repo, true);
}

static void test_reopened(void **state)
{
	struct fixture *fixture = *state;
	struct digest read_only;
	struct errbuf err = {""};
	bool recorded = true;
	make_known(fixture);
	uint64_t one = freeze_id(fixture, "one");
	fixture_close(fixture);
	must(repo_open(fixture->directory, STORE_READ_ONLY, NULL, &fixture->repo, &err));
	must(digest_of_point(fixture->repo, one, NULL, NULL, NULL, &read_only, &recorded, &err));
	assert_false(recorded);
	fixture->repo = repo_close(fixture->repo);
	fixture_open(fixture);
	struct digest_check check;
	assert_int_equal(digest_verify(fixture->repo, one, NULL, NULL, NULL, &check, &err),
			 -ENODATA);
	struct digest digest = sound_digest(fixture, one);
	assert_memory_equal(digest.bytes, read_only.bytes, DIGEST_BYTES);
	fixture_close(fixture);
	fixture_open(fixture);
	digest = sound_digest(fixture, one);
	assert_memory_equal(digest.bytes, read_only.bytes, DIGEST_BYTES);
	assert_int_equal(
		digest_of_point(fixture->repo, 4711, NULL, NULL, NULL, &digest, &recorded, &err),
		-ENOENT);
}

static int stop(const char *phase, uint64_t done, uint64_t total, void *context)
{
	(void)total;
	(void)context;
	assert_string_equal(phase, "digest");
	return done > 0;
}

static void test_stopped(void **state)
{
	struct fixture *fixture = *state;
	struct digest digest;
	struct errbuf err = {""};
	bool recorded;
	for (int i = 0; i < 4; i++) {
		char name[8] = {'f', (char)('0' + i), 0};
		put_file(fixture->head, name, 3000000, (uint64_t)i);
	}
	head_mark_dirty(fixture->head);
	uint64_t one = freeze_id(fixture, "one");
	assert_int_equal(
		digest_of_point(fixture->repo, one, NULL, stop, NULL, &digest, &recorded, &err),
		-EINTR);
	sound_digest(fixture, one);
}

/* ---- damage ---- */

/* A point that has the digest of another: whoever altered it went round all other checks. */
static void test_first_path(void **state)
{
	struct fixture *fixture = *state;
	static const struct {
		const char *change, *path;
	} cases[] = {
		{"w a/b/c other", "a/b/c"},
		{"w z/y/x 1;w a/b/c other2", "a/b/c"},
		{"d a/b/c", "a/b"},
		{"c z/y/x 600", "z/y"},
		{"d z", ""},
	};
	run(fixture->head, "m a;m a/b;w a/b/c text;w a/b/d text;m z;m z/y;w z/y/x text");
	struct point start = keep_as(fixture, "start");
	digest_of(fixture, start.id);
	struct point with = {0};
	must(point_get(fixture->repo, start.id, &with));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char name[16];
		snprintf(name, sizeof(name), "case-%zu", i);
		go_back(fixture, &start);
		run(fixture->head, cases[i].change);
		uint64_t id = freeze_id(fixture, name);
		forge_digest(fixture, id, &with.digest);
		struct digest_check check = verify(fixture, id, NULL);
		assert_false(check.equal);
		assert_non_null(check.path);
		assert_string_equal(check.path, cases[i].path);
		digest_check_release(&check);
	}
	/* A wrong expectation says nothing of the data. */
	struct digest other = {{1}};
	struct digest_check check = verify(fixture, start.id, &other);
	assert_false(check.equal);
	assert_null(check.path);
	digest_check_release(&check);
	point_release(&with);
	point_release(&start);
}

static char last_finding[2048];
static int findings;

static void take_finding(const char *finding, void *context)
{
	(void)context;
	findings++;
	snprintf(last_finding, sizeof(last_finding), "%s", finding);
}

static void put_node(struct fixture *fixture, uint64_t id, uint8_t *node)
{
	struct commit *commit;
	must(commit_begin(repo_store(fixture->repo), &commit));
	must(commit_put_node(commit, id, node));
	must(commit_seal(commit));
	must(commit_finish(commit));
}

static void test_check_finds_damage(void **state)
{
	struct fixture *fixture = *state;
	uint8_t sound[NODE_SIZE], node[NODE_SIZE];
	struct check_result result;
	struct reader *reader;
	const uint8_t *found;
	make_known(fixture);
	uint64_t id = freeze_id(fixture, "one");
	digest_of(fixture, id);
	struct point point;
	must(point_get(fixture->repo, id, &point));
	must(reader_acquire(repo_store(fixture->repo), &reader));
	must(reader_node(reader, point.digest.root, &found));
	memcpy(sound, found, NODE_SIZE);
	reader_release(reader);
	/* Byte 32 + 8 is the type in the first key, 32 + 19 the length of the first value; 26 the
	 * number of items (index/FORMAT.md). */
	static const size_t places[] = {32 + 8, 32 + 19, 26, 24};
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		memcpy(node, sound, NODE_SIZE);
		node[places[i]] ^= 1;
		put_node(fixture, point.digest.root, node);
		findings = 0;
		must(repo_check(fixture->repo, false, take_finding, NULL, NULL, &result));
		assert_true(findings > 0);
		assert_int_equal(result.errors, findings);
		assert_non_null(strstr(last_finding, "main@one"));
		assert_non_null(strstr(last_finding, "digests"));
	}
	/* The next digest does without them. */
	run(fixture->head, "w another file");
	sound_digest(fixture, freeze_id(fixture, "two"));
	memcpy(node, sound, NODE_SIZE);
	put_node(fixture, point.digest.root, node);
	assert_sound(fixture->repo, false);
	const struct point_digest nothing = {true, {1}, 0};
	forge_digest(fixture, id, &nothing);
	findings = 0;
	must(repo_check(fixture->repo, false, take_finding, NULL, NULL, &result));
	assert_int_equal(findings, 1);
	forge_digest(fixture, id, &point.digest);
	assert_sound(fixture->repo, false);
	point_release(&point);
}

/* A workspace's tree has no digests in it. */
static void test_digest_in_workspace(void **state)
{
	struct fixture *fixture = *state;
	const struct tree_key key = {ROOT_INO, ITEM_DIGEST, 0};
	struct check_result result;
	struct small small = small_begin(fixture->head);
	must(tree_put(small.tree, small.reader, &key, "12345678901234567890123456789012", 32));
	small_end(&small);
	head_mark_dirty(fixture->head);
	must(repo_commit(fixture->repo));
	findings = 0;
	must(repo_check(fixture->repo, false, take_finding, NULL, NULL, &result));
	assert_true(findings > 0);
}

#define digest_test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_texts),
		digest_test(test_definition),
		digest_test(test_every_change),
		digest_test(test_histories),
		digest_test(test_collection),
		digest_test(test_beside_collections),
		digest_test(test_reopened),
		digest_test(test_stopped),
		digest_test(test_first_path),
		digest_test(test_check_finds_damage),
		digest_test(test_digest_in_workspace),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
