/*
 * Carry, where it could lose work: files with several names, what the head has moved to where FROM
 * wants something else, paths with borders, times, and histories with more than two lines.
 */
#include "history_testing.h"
#include "snapshot/diff_internal.h"

struct scene {
	const char *name, *base, *from, *head;
	enum carry_policy policy;
	const char *after, *conflicts; /* after NULL: as before */
	const char *path;	       /* only this */
};

static const struct scene scenes[] = {
	{"two names, both refused: they stay", "w a 1;l a b", "r a x;r b y", "w x 9;w y 9",
	 CARRY_KEEP, NULL, .conflicts = "created_twice x; created_twice y"},
	{"two names, one refused: it stays", "w a 1;l a b", "r a x", "w x 9", CARRY_KEEP, NULL,
	 .conflicts = "created_twice x"},
	{"two names, one moved by both: the other stays", "w a 1;l a b", "r b c", "r b d",
	 CARRY_TAKE, "a=1,links=2 c=1,links=2", .conflicts = "renamed_twice d"},
	{"two names, one moved by both: all stay", "w a 1;l a b", "r b c", "r b d", CARRY_KEEP,
	 NULL, .conflicts = "renamed_twice d"},
	{"a name moved there, deleted here: the other stays", "w a 1;l a b", "r b c", "d b",
	 CARRY_TAKE, "a=1,links=2 c=1,links=2", .conflicts = "renamed_twice a"},
	{"each took another name away, and one wrote", "w a 1;l a b", "d b", "d a;w b 2",
	 CARRY_KEEP, NULL, .conflicts = "deleted_changed b"},
	{"each took another name away: FROM's", "w a 1;l a b", "d b", "d a;w b 2", CARRY_TAKE,
	 "a=2", .conflicts = "deleted_changed b"},
	{"each took another name away: both", "w a 1;l a b", "d b", "d a;w b 2", CARRY_BOTH, NULL,
	 .conflicts = "deleted_changed b"},
	{"a file with two names comes back with both", "w a 1;l a b;w z 1", "w a 2", "d a;d b",
	 CARRY_TAKE, "a=2,links=2 b=2,links=2 z=1", .conflicts = "changed_deleted b"},
	{"moved here into a directory deleted there", "m d;w x 1", "d d", "r x d/x", CARRY_TAKE,
	 "x=1", .conflicts = "deleted_changed d"},
	{"a tree moved here into a directory deleted there", "m d;m t;m t/u;w t/u/x 1", "d d",
	 "r t d/t;w d/t/u/n 2;w d/m 3", CARRY_TAKE, "t/ t/u/ t/u/n=2 t/u/x=1",
	 .conflicts = "deleted_changed d"},
	{"moved here to a name that was given there", "w a 1;w y 1", "r a b", "r y b", CARRY_TAKE,
	 "b=1 y=1", .conflicts = "created_twice b"},
	{"moved here below a name that was given there", "w x 1;w z 1", "w n 1", "m n;r x n/x",
	 CARRY_TAKE, "n=1 x=1 z=1", .conflicts = "type_clash n"},
	{"into a directory that is a file here: taken", "m d;w z 1", "w d/n 1", "d d;w d 5",
	 CARRY_TAKE, "d/ d/n=1 z=1", .conflicts = "no_parent d/n"},
	{"into a directory that is a file here: both", "m d;w z 1", "w d/n 1", "d d;w d 5",
	 CARRY_BOTH, "d.from-from/ d.from-from/n=1 d=5 z=1", .conflicts = "no_parent d/n"},
	{"into a directory that is a file here: kept", "m d;w z 1", "w d/n 1", "d d;w d 5",
	 CARRY_KEEP, NULL, .conflicts = "no_parent d/n"},
	{"directories swapped there, a file added here", "m a;w a/f 1;m b;w b/g 1",
	 "r a t;r b a;r t b", "w a/n 1;w b/m 1", CARRY_STOP, "a/ a/g=1 a/m=1 b/ b/f=1 b/n=1",
	 .conflicts = ""},
	{"directories moved into one another", "m a;w a/f 1;m b;w b/g 1", "r a b/a", "r b a/b",
	 CARRY_TAKE, NULL, .conflicts = "cycle a/b/a"},
	{"a new tree below a path", "w z 1", "m n;m n/o;w n/o/f 1;w n/g 1", "", CARRY_STOP,
	 "n/ n/o/ n/o/f=1 z=1", "", "n/o/f"},
	{"moved into a new directory, by its new path", "w f 1;w z 1", "m n;r f n/f;w n/g 1", "",
	 CARRY_STOP, "n/ n/f=1 z=1", "", "n/f"},
	{"a name inside of the path, one outside", "m d;w d/f 1;l d/f a;w y 1", "w a 2;w y 2", "",
	 CARRY_STOP, "a=2,links=2 d/ d/f=2,links=2 y=1", "", "d"},
	{"a name inside of the path, the first outside", "m d;w a 1;l a d/f;w y 1", "w a 2;w y 2",
	 "", CARRY_STOP, "a=2,links=2 d/ d/f=2,links=2 y=1", "", "d"},
	{"a directory renamed there, by its name here", "m d;w d/f 1;w y 1;w x 1",
	 "r d e;m e/o;w e/o/n 1;w e/f 2;w y 2;r x e/x", "", CARRY_STOP,
	 "e/ e/f=2 e/o/ e/o/n=1 e/x=1 y=1", "", "d"},
	{"a directory renamed there, deleted here", "m d;w d/f 1;w z 1", "r d e", "d d", CARRY_TAKE,
	 "e/ z=1", .conflicts = "changed_deleted e"},
	{"a link becomes a file, changed here", "s a one;w z 1", "d a;w a 1", "d a;s a two",
	 CARRY_KEEP, NULL, .conflicts = "deleted_changed a; created_twice a"},
	{"out of the path", "m d;w d/f 1;w y 1", "r d/f g;w y 2", "", CARRY_STOP, "d/ g=1 y=1", "",
	 "d"},
	{"conflicts outside of the path do not count", "m d;w d/f 1;w y 1", "w d/f 2;w y 2",
	 "w y 3", CARRY_STOP, "d/ d/f=2 y=3", "", "d"},
	{"a new file with two names of which one is taken", "w z 1", "w a 1;l a b", "w a 2",
	 CARRY_BOTH, "a.from-from=1,links=2 a=2 b=1,links=2 z=1", .conflicts = "created_twice a"},
	{"a copy's name is taken too", "w a 1", "w a 2;w a.from-from 7", "w a 3", CARRY_BOTH,
	 "a.from-from=7 a=3 a.from-from-2=2", .conflicts = "both_changed a"},
	{"a copy's name is taken here", "w a 1", "w a 2", "w a 3;w a.from-from 8", CARRY_BOTH,
	 "a.from-from-2=2 a.from-from=8 a=3", .conflicts = "both_changed a"},
	{"a new link there, the file written anew here", "w a 1", "l a b", "o a 2", CARRY_STOP,
	 "a=2,links=2 b=2,links=2", .conflicts = ""},
	{"a directory made again here without what FROM changed", "m d;w d/f 1;w z 1", "w d/f 2",
	 "d d;m d", CARRY_KEEP, NULL, .conflicts = "changed_deleted d/f"},
	{"renamed over a file that was changed here", "w a 1;w b 1", "d a;r b a", "w a 2",
	 CARRY_KEEP, NULL, .conflicts = "deleted_changed a; created_twice a"},
	{"renamed over a file that was changed here: both", "w a 1;w b 1", "d a;r b a", "w a 2",
	 CARRY_BOTH, "a.from-from=1 a=2", .conflicts = "deleted_changed a; created_twice a"},
};

static void play(const struct scene *scene)
{
	struct fixture fixture;
	struct told told = {"", ""};
	struct carry_result result;
	struct errbuf err = {""};
	fixture_create(&fixture);
	run(fixture.head, scene->base);
	struct point base = keep_as(&fixture, "base");
	run(fixture.head, scene->from);
	struct point from = keep_as(&fixture, "from");
	go_back(&fixture, &base);
	run(fixture.head, scene->head);
	char *before = list_head(&fixture), expected[2048];
	const struct carry_options options = {.policy = scene->policy,
					      .entry = tell,
					      .restart = start_again,
					      .context = &told,
					      .paths = &scene->path,
					      .path_count = scene->path ? 1 : 0};
	int error = point_carry(fixture.head, &from, &options, &result, &err);
	if (error)
		fail_msg("%s: %s (%s)", scene->name, strerror(-error), err.text);
	char *after = list_head(&fixture);
	sort_words(scene->after ? scene->after : before, expected);
	if (strcmp(after, expected) != 0 || strcmp(told.conflicts, scene->conflicts) != 0)
		print_error("%s: expected\n  %s\n  %s\ngot\n  %s\n  %s\n", scene->name, expected,
			    scene->conflicts, after, told.conflicts);
	struct check_result checked;
	must(repo_commit(fixture.repo));
	must(repo_check(fixture.repo, true, print_finding, NULL, NULL, &checked));
	bool good = strcmp(after, expected) == 0 && !checked.errors &&
		    strcmp(told.conflicts, scene->conflicts) == 0;
	free(before);
	free(after);
	carry_result_release(&result);
	point_release(&base);
	point_release(&from);
	fixture_destroy(&fixture);
	if (!good)
		fail_msg("%s", scene->name);
}

static void test_scene(void **state)
{
	play(*state);
}

/* ---- times ---- */

static struct inode_attr attributes(struct fixture *fixture, const char *path)
{
	struct small small = small_begin(fixture->head);
	struct inode_attr attr;
	must(inode_get(small.tree, small.reader, ino_of(&small, path), &attr));
	small_end(&small);
	return attr;
}

/* make(1) and rsync(1) see that a file has changed by its mtime. */
static void test_mtimes_belong_to_contents(void **state)
{
	(void)state;
	struct fixture fixture;
	struct told told = {"", ""};
	fixture_create(&fixture);
	run(fixture.head, "w a 1;w b 1;w c 1");
	struct point base = keep_as(&fixture, "base");
	run(fixture.head, "c a 600;w b 2;x c v");
	const struct timespec there = attributes(&fixture, "b").mtime;
	struct point from = keep_as(&fixture, "from");
	go_back(&fixture, &base);
	run(fixture.head, "w a 2;c b 600;w c 2");
	const struct timespec here = attributes(&fixture, "a").mtime,
			      other = attributes(&fixture, "c").mtime;
	struct carry_result result = carry(&fixture, &from, CARRY_STOP, &told);
	const struct inode_attr a = attributes(&fixture, "a"), b = attributes(&fixture, "b"),
				c = attributes(&fixture, "c");
	assert_int_equal(a.mode & 07777, 0600);
	assert_memory_equal(&a.mtime, &here, sizeof(here));
	assert_memory_equal(&b.mtime, &there, sizeof(there));
	assert_memory_equal(&c.mtime, &other, sizeof(other));
	carry_result_release(&result);
	point_release(&base);
	point_release(&from);
	fixture_destroy(&fixture);
}

/* ---- what is durable afterwards ---- */

/* Who hears that the head has it all already may rely on it, though nothing had to be changed. */
static void test_nothing_to_carry_is_durable(void **state)
{
	(void)state;
	struct fixture fixture;
	struct told told = {"", ""};
	char crashed[300];
	fixture_create(&fixture);
	run(fixture.head, "w a 1");
	struct point base = keep_as(&fixture, "base");
	run(fixture.head, "w b 2");
	struct point from = keep_as(&fixture, "from");
	go_back(&fixture, &base);
	struct carry_result result = carry(&fixture, &from, CARRY_STOP, &told);
	carry_result_release(&result);
	run(fixture.head, "w c 3");
	result = carry(&fixture, &from, CARRY_STOP, &told);
	assert_false(result.revised.changed);
	carry_result_release(&result);
	snprintf(crashed, sizeof(crashed), "%s-crashed", fixture.directory);
	fixture_copy_store(&fixture, crashed);
	fixture_close(&fixture);
	fixture_replace_store(&fixture, crashed);
	fixture_open(&fixture);
	assert_true(has_file(fixture.head, "b"));
	assert_true(has_file(fixture.head, "c"));
	point_release(&base);
	point_release(&from);
	fixture_destroy(&fixture);
}

/* ---- a directory that is deleted, and open ---- */

static void test_an_open_directory_comes_back(void **state)
{
	(void)state;
	struct fixture fixture;
	struct told told = {"", ""};
	fixture_create(&fixture);
	run(fixture.head, "m d;w f 1");
	struct point base = keep_as(&fixture, "base");
	run(fixture.head, "w d/n 1;w f 2");
	struct point from = keep_as(&fixture, "from");
	go_back(&fixture, &base);
	struct small small = small_begin(fixture.head);
	small_remove(&small, ROOT_INO, "d", true);
	small_remove(&small, ROOT_INO, "f", true);
	small_end(&small);
	head_mark_dirty(fixture.head);
	struct carry_result result = carry(&fixture, &from, CARRY_TAKE, &told);
	char *after = list_head(&fixture);
	assert_string_equal(after, "d/ d/n=1 f=2");
	assert_int_equal(attributes(&fixture, "d").nlink, 2);
	must(repo_commit(fixture.repo));
	assert_sound(fixture.repo, true);
	free(after);
	carry_result_release(&result);
	point_release(&base);
	point_release(&from);
	fixture_destroy(&fixture);
}

/* ---- names of copies ---- */

static void test_copies_of_long_names(void **state)
{
	(void)state;
	struct fixture fixture;
	struct told told = {"", ""};
	char name[256] = "", script[600];
	for (int i = 0; i < 127; i++)
		strcat(name, "\xc3\xa4");
	strcat(name, "z");
	fixture_create(&fixture);
	snprintf(script, sizeof(script), "w %s 1", name);
	run(fixture.head, script);
	struct point base = keep_as(&fixture, "base");
	snprintf(script, sizeof(script), "w %s 2", name);
	run(fixture.head, script);
	struct point from = keep_as(&fixture, "from");
	go_back(&fixture, &base);
	snprintf(script, sizeof(script), "w %s 3", name);
	run(fixture.head, script);
	struct carry_result result = carry(&fixture, &from, CARRY_BOTH, &told);
	char *after = list_head(&fixture), *suffix = strstr(after, ".from-from=2");
	assert_non_null(suffix);
	assert_int_equal((suffix - after) % 2, 0); /* no half character */
	free(after);
	carry_result_release(&result);
	point_release(&base);
	point_release(&from);
	fixture_destroy(&fixture);
}

/* ---- lines of history ---- */

/*
 *   base --- p1 --- p2        carried p1; it is deleted; p2 still comes from what is here
 */
static void test_base_of_a_deleted_point(void **state)
{
	(void)state;
	struct fixture fixture;
	struct told told = {"", ""};
	struct errbuf err = {""};
	fixture_create(&fixture);
	run(fixture.head, "w a 1;w b 1;w c 1");
	struct point base = keep_as(&fixture, "base");
	run(fixture.head, "w a 2");
	struct point first = keep_as(&fixture, "first");
	run(fixture.head, "w b 2");
	struct point second = keep_as(&fixture, "second");
	run(fixture.head, "w c 2");
	struct point third = keep_as(&fixture, "third");
	go_back(&fixture, &base);
	struct carry_result result = carry(&fixture, &second, CARRY_STOP, &told);
	carry_result_release(&result);
	run(fixture.head, "w a 1;w b 1"); /* taken back by hand */
	for (int round = 0; round < 2; round++) {
		struct point later = {0};
		if (round)
			later = keep_as(&fixture, "later");
		if (!round)
			must(point_delete(fixture.repo, &second.id, 1, false, NULL, &err));
		struct point found;
		must(carry_find_base(fixture.head, &third, &found));
		assert_int_equal(found.id, first.id);
		point_release(&found);
		point_release(&later);
	}
	result = carry(&fixture, &third, CARRY_KEEP, &told);
	char *after = list_head(&fixture);
	assert_non_null(strstr(after, "a=1")); /* it did not come again */
	assert_non_null(strstr(after, "c=2"));
	free(after);
	carry_result_release(&result);
	assert_sound(fixture.repo, true);
	point_release(&base);
	point_release(&first);
	point_release(&second);
	point_release(&third);
	fixture_destroy(&fixture);
}

/*
 *   base --- p1 ----- p2       two workspaces that carried one another's work, and each kept its
 *       \        \ /  .        own side of a conflict: what one has decided may not be undone
 *        `-- q1 --X-- q2       without a word, whichever is the base
 */
static void criss_cross(bool turn)
{
	struct fixture fixture;
	struct told told = {"", ""};
	struct head *other;
	fixture_create(&fixture);
	run(fixture.head, "w a 1;w b 1");
	struct point base = keep_as(&fixture, "base");
	must(workspace_clone(fixture.repo, &base, "other", NULL, NULL));
	must(repo_head(fixture.repo, "other", &other, NULL));
	struct fixture twin = fixture;
	twin.head = other;
	struct fixture *one = turn ? &twin : &fixture, *two = turn ? &fixture : &twin;
	run(one->head, "w a 2;w c 1"); /* something has to come over, or nothing is noted */
	struct point p1 = keep_as(one, "p1");
	run(two->head, "w a 3;w b 3");
	struct point q1 = keep_as(two, "q1");
	struct carry_result result = carry(one, &q1, CARRY_KEEP, &told);
	carry_result_release(&result);
	result = carry(two, &p1, CARRY_KEEP, &told);
	carry_result_release(&result);
	run(one->head, "w x 1");
	run(two->head, "w y 1");
	struct point p2 = keep_as(one, "p2"), q2 = keep_as(two, "q2");
	result = carry(one, &q2, CARRY_STOP, &told);
	char *after = list_head(one);
	if (!strstr(after, "a=2"))
		fail_msg("turn %d: base %s: %s", turn, result.base.name, after);
	free(after);
	carry_result_release(&result);
	result = carry(two, &p2, CARRY_STOP, &told);
	after = list_head(two);
	if (!strstr(after, "a=3"))
		fail_msg("turn %d: base %s: %s", turn, result.base.name, after);
	free(after);
	carry_result_release(&result);
	point_release(&base);
	point_release(&p1);
	point_release(&q1);
	point_release(&p2);
	point_release(&q2);
	head_put(other);
	assert_sound(fixture.repo, true);
	fixture_destroy(&fixture);
}

static void test_criss_cross(void **state)
{
	(void)state;
	criss_cross(false);
	criss_cross(true);
}

/* ---- tried twice, and given up ---- */

struct failing {
	struct told told;
	int fails, error, started;
};

static int fail_at_first(const struct carry_entry *entry, void *context)
{
	struct failing *failing = context;
	int error = tell(entry, &failing->told);
	return failing->fails-- > 0 ? failing->error : error;
}

static void count_start(void *context)
{
	struct failing *failing = context;
	failing->started++;
	start_again(&failing->told);
}

static size_t count_points(struct fixture *fixture)
{
	struct point *points;
	size_t count;
	must(point_list(fixture->repo, head_workspace(fixture->head), &points, &count));
	points_free(points, count);
	return count;
}

/* A full disk is tried again from the start; after any other error nothing has happened. */
static void test_second_try(void **state)
{
	(void)state;
	struct fixture fixture;
	struct carry_result result;
	struct failing failing = {.fails = 1, .error = -EIO};
	struct carry_options options = {.policy = CARRY_BOTH,
					.entry = fail_at_first,
					.restart = count_start,
					.context = &failing};
	fixture_create(&fixture);
	run(fixture.head, "w a 1;w b 1;m d;w x 1");
	struct point base = keep_as(&fixture, "base");
	run(fixture.head, "w a 2;w b 2;d d;r x y;w n 1");
	struct point from = keep_as(&fixture, "from");
	go_back(&fixture, &base);
	run(fixture.head, "w b 3;w d/f 1");
	char *before = list_head(&fixture);
	assert_int_equal(point_carry(fixture.head, &from, &options, &result, NULL), -EIO);
	char *after = list_head(&fixture);
	assert_string_equal(before, after);
	assert_int_equal(count_points(&fixture), 2);
	free(after);

	failing = (struct failing){.fails = 1, .error = -ENOSPC};
	must(point_carry(fixture.head, &from, &options, &result, NULL));
	after = list_head(&fixture);
	assert_string_equal(after, "a=2 b.from-from=2 b=3 d/ d/f=1 n=1 y=1");
	assert_int_equal(failing.started, 2);
	assert_int_equal(result.conflicts, 2);
	assert_string_equal(failing.told.conflicts, "both_changed b; deleted_changed d");
	assert_int_equal(count_points(&fixture), 3);
	char *kept = list_point(&fixture, &result.revised.safety);
	assert_string_equal(kept, before);
	assert_sound(fixture.repo, true);
	free(kept);
	free(before);
	free(after);
	carry_result_release(&result);
	point_release(&base);
	point_release(&from);
	fixture_destroy(&fixture);
}

/* ---- all kinds of contents ---- */

static int count_difference(const struct diff_entry *entry, void *context)
{
	print_error("%c %s\n", entry->op, entry->path);
	++*(int *)context;
	return 0;
}

static void put_kinds(struct fixture *fixture, bool second)
{
	static uint8_t bytes[300000];
	fill_bytes(bytes, sizeof(bytes), second);
	struct small small = small_begin(fixture->head);
	uint64_t inline_first = ino_of(&small, "a"), extents_first = ino_of(&small, "b");
	if (second) {
		small_write(&small, inline_first, 1000000, bytes, sizeof(bytes)); /* a hole */
		small_truncate(&small, extents_first, 0);
		small_write(&small, extents_first, 0, bytes, 10);
	} else {
		small_write(&small, extents_first, 0, bytes, sizeof(bytes));
	}
	small_set_xattr(&small, inline_first, "user.long", bytes, 40000);
	small_set_xattr(&small, extents_first, "user.long", bytes, second ? 10 : 40000);
	if (second) {
		uint64_t fifo = make(&small, "p", S_IFIFO | 0600);
		uint64_t device = make(&small, "n", S_IFBLK | 0660);
		struct inode_attr attr;
		must(inode_get(small.tree, small.reader, device, &attr));
		attr.rdev = 0x0801;
		must(inode_put(small.tree, small.reader, device, &attr));
		assert_true(fifo != device);
	}
	small_end(&small);
	run(fixture->head, second ? "c a 4755;d s;s s elsewhere" : "s s here");
}

static void test_all_kinds_of_contents(void **state)
{
	(void)state;
	struct fixture fixture;
	struct told told = {"", ""};
	int differences = 0;
	fixture_create(&fixture);
	run(fixture.head, "w a 1;w b 1;w z 1");
	put_kinds(&fixture, false);
	struct point base = keep_as(&fixture, "base");
	put_kinds(&fixture, true);
	struct point from = keep_as(&fixture, "from");
	go_back(&fixture, &base);
	run(fixture.head, "w z 2;w z 1");
	struct carry_result result = carry(&fixture, &from, CARRY_STOP, &told);
	assert_int_equal(result.conflicts, 0);
	struct tree *view;
	must(point_view(fixture.repo, &from, &view));
	struct small small = small_begin(fixture.head);
	must(diff_trees(view, small.tree, small.reader, count_difference, &differences, NULL));
	struct inode_attr attr;
	must(inode_get(small.tree, small.reader, ino_of(&small, "n"), &attr));
	small_end(&small);
	tree_close(view);
	assert_int_equal(attr.rdev, 0x0801);
	assert_true(differences <= 1); /* the time of z */
	must(repo_commit(fixture.repo));
	assert_sound(fixture.repo, true);
	carry_result_release(&result);
	point_release(&base);
	point_release(&from);
	fixture_destroy(&fixture);
}

/* ---- whatever meets ---- */

enum { INOS = 2000 };

/* Which numbers have a name. */
struct census {
	bool named[INOS];
};

static void count_all(struct fixture *fixture, struct tree *tree, struct census *ret)
{
	struct reader *reader;
	must(reader_acquire(repo_store(fixture->repo), &reader));
	for (uint64_t ino = ROOT_INO + 1; ino < INOS; ino++) {
		struct backref_name name;
		ret->named[ino] = backref_first(tree, reader, ino, &name) == 0;
	}
	reader_release(reader);
}

static void count_point(struct fixture *fixture, const struct point *point, struct census *ret)
{
	struct tree *view;
	must(point_view(fixture->repo, point, &view));
	count_all(fixture, view, ret);
	tree_close(view);
}

/* Random work, with some texts in between that nobody else writes: "h0.", "h1." … */
static void unique_work(struct fixture *fixture, struct random *random, char letter)
{
	static const char verbs[] = EVERYTHING "rrl";
	random_work(fixture, random, "", verbs, 5 + random_below(random, 20));
	struct small small = small_begin(fixture->head);
	for (int i = 0; i < 5; i++) {
		char path[64], text[16];
		random_path(random, "", path);
		uint64_t ino = find(&small, path);
		snprintf(text, sizeof(text), "%c%d.", letter, i);
		if (parent_is_directory(&small, path) && (!ino || !is_directory(&small, ino)))
			step(&small, ino && random_below(random, 2) ? 'o' : 'w', path, text);
	}
	small_end(&small);
	random_work(fixture, random, "", verbs, random_below(random, 20));
}

static bool keeps_texts(const char *before, const char *after, char letter)
{
	for (int i = 0; i < 5; i++) {
		char text[16];
		snprintf(text, sizeof(text), "=%c%d.", letter, i);
		if (strstr(before, text) && !strstr(after, text))
			return false;
	}
	return true;
}

/*
 * What both sides have is there afterwards, whatever the policy.  What the head has written is
 * there as it wrote it, unless the policy lets FROM's side replace it.  Where it lets both stay,
 * what FROM has written is there too; where it prefers FROM's, that is there.
 */
static void test_no_work_is_lost(void **state)
{
	static struct census from, head, after;
	(void)state;
	uint64_t seed = random_seed();
	for (int round = 0; round < test_rounds(200); round++) {
		struct random random = random_from(seed + (uint64_t)round);
		enum carry_policy policy = CARRY_KEEP + (enum carry_policy)(round % 3);
		struct fixture fixture;
		struct told told = {"", ""};
		fixture_create(&fixture);
		random_work(&fixture, &random, "", EVERYTHING, 60);
		struct point first = keep_as(&fixture, "base");
		unique_work(&fixture, &random, 'f');
		struct point second = keep_as(&fixture, "from");
		go_back(&fixture, &first);
		unique_work(&fixture, &random, 'h');
		count_point(&fixture, &second, &from);
		count_all(&fixture, head_tree(fixture.head), &head);
		char *text_base = list_point(&fixture, &first), *text_head = list_head(&fixture),
		     *text_from = list_point(&fixture, &second);
		struct carry_result result = carry(&fixture, &second, policy, &told);
		count_all(&fixture, head_tree(fixture.head), &after);
		char *text_after = list_head(&fixture);
		const char *lost = NULL;
		for (uint64_t ino = ROOT_INO; ino < INOS; ino++)
			if (from.named[ino] && head.named[ino] && !after.named[ino])
				lost = "what both have";
		if (policy != CARRY_TAKE && !keeps_texts(text_head, text_after, 'h'))
			lost = "what the head wrote";
		if (policy != CARRY_KEEP && !keeps_texts(text_from, text_after, 'f'))
			lost = "what FROM wrote";
		if (lost)
			fail_msg("round %d, policy %d: %s\nbase %s\nfrom %s\nhead %s\ngot  %s\n"
				 "%s\n%s",
				 round, policy, lost, text_base, text_from, text_head, text_after,
				 told.changes, told.conflicts);
		must(repo_commit(fixture.repo));
		assert_sound(fixture.repo, false);
		free(text_base);
		free(text_head);
		free(text_from);
		free(text_after);
		carry_result_release(&result);
		point_release(&first);
		point_release(&second);
		fixture_destroy(&fixture);
	}
}

int main(void)
{
	struct CMUnitTest tests[sizeof(scenes) / sizeof(scenes[0]) + 9] = {
		cmocka_unit_test(test_mtimes_belong_to_contents),
		cmocka_unit_test(test_an_open_directory_comes_back),
		cmocka_unit_test(test_copies_of_long_names),
		cmocka_unit_test(test_base_of_a_deleted_point),
		cmocka_unit_test(test_criss_cross),
		cmocka_unit_test(test_no_work_is_lost),
		cmocka_unit_test(test_second_try),
		cmocka_unit_test(test_all_kinds_of_contents),
		cmocka_unit_test(test_nothing_to_carry_is_durable),
	};
	size_t count = 9;
	for (size_t i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++)
		tests[count++] = (struct CMUnitTest){scenes[i].name, test_scene, NULL, NULL,
						     (void *)&scenes[i]};
	return _cmocka_run_group_tests("carry", tests, count, NULL, NULL);
}
