/* Carry, scene by scene: every conflict, every policy; snapshot/carry.h. */
#include "carry_testing.h"

struct scene {
	const char *name, *base, *from, *head;
	const char *changes, *conflicts;       /* as CARRY_STOP tells them */
	const char *stop, *keep, *take, *both; /* states; stop NULL: as keep, or unchanged */
};

static void play(struct fixture *fixture, const struct scene *scene, enum carry_policy policy)
{
	struct told told = {"", ""};
	run(fixture->head, scene->base);
	struct point base = keep_as(fixture, "base");
	run(fixture->head, scene->from);
	struct point from = keep_as(fixture, "from");
	go_back(fixture, &base);
	run(fixture->head, scene->head);
	char *before = list_head(fixture);
	struct carry_result result = carry(fixture, &from, policy, &told);
	char *after = list_head(fixture);
	const char *expected = policy == CARRY_STOP && *scene->conflicts ? before
			       : policy == CARRY_TAKE			 ? scene->take
			       : policy == CARRY_BOTH			 ? scene->both
									 : scene->keep;
	if (!expected)
		expected = scene->keep;
	char sorted[2048];
	sort_words(expected, sorted);
	if (strcmp(after, sorted) != 0)
		fail_msg("%s, policy %d: expected\n  %s\ngot\n  %s\n(%s | %s)", scene->name, policy,
			 expected, after, told.changes, told.conflicts);
	if (policy == CARRY_STOP && (strcmp(told.changes, scene->changes) != 0 ||
				     strcmp(told.conflicts, scene->conflicts) != 0))
		fail_msg("%s: tells\n  %s\n  %s", scene->name, told.changes, told.conflicts);
	assert_int_equal(result.stopped, policy == CARRY_STOP && *scene->conflicts);
	if (result.revised.changed && !result.stopped) {
		/* The state before is kept. */
		char *kept = list_point(fixture, &result.revised.safety);
		assert_string_equal(kept, before);
		free(kept);
	}
	must(repo_commit(fixture->repo));
	assert_sound(fixture->repo, true);
	fixture_close(fixture);
	fixture_open(fixture);
	char *again = list_head(fixture);
	assert_string_equal(again, after);
	/* Carried once more, there is nothing left to do, and nothing is in dispute any more. */
	if (!result.stopped && result.revised.changed) {
		struct carry_result twice = carry(fixture, &from, CARRY_STOP, &told);
		if (twice.revised.changed || twice.conflicts)
			fail_msg("%s: twice: %s | %s", scene->name, told.changes, told.conflicts);
		carry_result_release(&twice);
	}
	free(again);
	free(after);
	free(before);
	carry_result_release(&result);
	point_release(&base);
	point_release(&from);
}

static const struct scene scenes[] = {
	{"new, changed and deleted files", "w a 1;w b 1;w c 1", "w a 2;d b;w n new", "",
	 "M a; - b; + n", "", .keep = "a=2 c=1 n=new"},
	{"both sides did other things", "w a 1;w b 1;m d;w d/f 1", "w a 2;w d/n 1", "w b 2;w d/m 1",
	 "M a; + d/n", "", .keep = "a=2 b=2 d/ d/f=1 d/m=1 d/n=1"},
	{"the same on both sides", "w a 1;w b 1;w c 1", "w a 2;d b;w n 1", "w a 2;d b;w n 1", "",
	 "", .keep = "a=2 c=1 n=1"},
	{"both changed", "w a 1;w z 1", "w a 2;w z 2", "w a 3", "M z", "both_changed a",
	 .keep = "a=3 z=2", .take = "a=2 z=2", .both = "a=3 a.from-from=2 z=2"},
	{"contents there, mode here", "w a 1", "w a 2", "c a 600", "M a", "", .keep = "a=2,600"},
	{"replaced here, moved there", "w d 1;m t", "m c;r d c/b", "o d 2", "+ c; R d -> c/b", "",
	 .keep = "c/ c/b=2 t/"},
	{"mode there, contents here", "w a 1", "c a 600", "w a 2", "m a", "", .keep = "a=2,600"},
	{"xattr there, contents here", "w a 1", "x a v", "w a 2", "m a", "", .keep = "a=2,x=v"},
	{"modes differ", "w a 1", "c a 600", "c a 640", "", "both_changed a", .keep = "a=1,640",
	 .take = "a=1,600", .both = "a=1,640 a.from-from=1,600"},
	{"changed there, deleted here", "w a 1", "w a 2", "d a", "", "changed_deleted a",
	 .keep = "", .take = "a=2", .both = "a=2"},
	{"deleted there, changed here", "w a 1;w z 1", "d a;d z", "w a 2", "- z",
	 "deleted_changed a", .keep = "a=2", .take = "", .both = "a=2"},
	{"created twice", "m d", "w d/n 1", "w d/n 2", "", "created_twice d/n", .keep = "d/ d/n=2",
	 .take = "d/ d/n=1", .both = "d/ d/n=2 d/n.from-from=1"},
	{"file there, directory here", "w z 1", "w n 1", "m n;w n/f 1", "", "type_clash n",
	 .keep = "n/ n/f=1 z=1", .take = "n=1 z=1", .both = "n.from-from=1 n/ n/f=1 z=1"},
	{"directory there, file here", "w z 1", "m n;w n/f 1", "w n 1", "", "type_clash n",
	 .keep = "n=1 z=1", .take = "n/ n/f=1 z=1", .both = "n.from-from/ n.from-from/f=1 n=1 z=1"},
	{"directories of one name are merged", "w z 1", "m n;w n/f 1", "m n;w n/g 1", "+ n/f", "",
	 .keep = "n/ n/f=1 n/g=1 z=1"},
	{"renamed there, changed here", "w a 1", "r a b", "w a 2", "R a -> b", "", .keep = "b=2"},
	{"changed there, renamed here", "w a 1", "w a 2", "r a b", "M b", "", .keep = "b=2"},
	{"renamed the same", "w a 1", "r a b;w b 2", "r a b", "M b", "", .keep = "b=2"},
	{"renamed twice", "w a 1", "r a b", "r a c", "", "renamed_twice c", .keep = "c=1",
	 .take = "b=1", .both = "c=1"},
	{"renamed there, deleted here", "w a 1", "r a b", "d a", "", "changed_deleted b",
	 .keep = "", .take = "b=1", .both = "b=1"},
	{"renamed to a name that is taken", "w a 1", "r a b", "w b 2", "", "created_twice b",
	 .keep = "a=1 b=2", .take = "b=1", .both = "b.from-from=1 b=2"},
	{"a directory renamed there, a file added here", "m d;w d/f 1", "r d e;w e/f 2", "w d/g 1",
	 "R d -> e; M e/f", "", .keep = "e/ e/f=2 e/g=1"},
	{"a directory renamed here, a file added there", "m d;w d/f 1", "w d/g 1", "r d e", "+ e/g",
	 "", .keep = "e/ e/f=1 e/g=1"},
	{"added to a directory that is deleted here", "m d;w d/f 1;w z 1", "w d/n 1", "d d", "",
	 "no_parent d/n", .keep = "z=1", .take = "d/ d/n=1 z=1", .both = "d/ d/n=1 z=1"},
	{"a directory deleted there, a file added here", "m d;w d/f 1;w z 1", "d d", "w d/n 1",
	 "- d/f", "deleted_changed d", .keep = "d/ d/n=1 z=1", .take = "z=1",
	 .both = "d/ d/n=1 z=1"},
	{"a directory deleted there, a file changed here", "m d;w d/f 1;w d/g 1", "d d", "w d/f 2",
	 "- d/g", "deleted_changed d/f", .keep = "d/ d/f=2", .take = "", .both = "d/ d/f=2"},
	{"below itself", "m a;m b", "r b a/b", "r a b/a", "", "cycle b/a/b", .keep = "b/ b/a/",
	 .take = "b/ b/a/", .both = "b/ b/a/"},
	{"written anew there", "w a 1;w z 1", "o a 2", "", "M a", "", .keep = "a=2 z=1"},
	{"written anew there, changed here", "w a 1", "o a 2", "w a 3", "", "both_changed a",
	 .keep = "a=3", .take = "a=2", .both = "a=3 a.from-from=2"},
	{"changed there, written anew here", "w a 1", "w a 2", "o a 3", "", "both_changed a",
	 .keep = "a=3", .take = "a=2", .both = "a=3 a.from-from=2"},
	{"written anew there, renamed here", "w a 1", "o a 2", "r a b", "M b", "", .keep = "b=2"},
	{"written anew here with the same text, changed there", "w a 1", "w a 2", "o a 1", "M a",
	 "", .keep = "a=2"},
	{"written anew on both sides alike", "w a 1", "o a 2", "o a 2", "", "", .keep = "a=2"},
	{"made again with the same names", "m d;w d/f 1;w d/g 1", "d d;m d;w d/f 2;w d/n 1",
	 "w d/h 1", "M d/f; - d/g; + d/n", "", .keep = "d/ d/f=2 d/h=1 d/n=1"},
	{"made again here, changed there", "m d;w d/f 1;w d/g 1", "w d/g 2",
	 "d d;m d;w d/f 1;w d/g 1", "M d/g", "", .keep = "d/ d/f=1 d/g=2"},
	{"made again there, a file changed here", "m d;w d/f 1", "d d;m d;w d/f 2", "w d/f 3", "",
	 "both_changed d/f", .keep = "d/ d/f=3", .take = "d/ d/f=2",
	 .both = "d/ d/f.from-from=2 d/f=3"},
	{"names swapped", "w a 1;w b 2", "r a t;r b a;r t b", "", "R b -> a; R a -> b", "",
	 .keep = "a=2 b=1"},
	{"names swapped, one changed here", "w a 1;w b 2", "r a t;r b a;r t b", "w a 3",
	 "R b -> a; R a -> b", "", .keep = "a=2 b=3"},
	{"a file becomes a directory", "w a 1", "d a;m a;w a/f 1", "", "- a; + a; + a/f", "",
	 .keep = "a/ a/f=1"},
	{"a directory becomes a file", "m a;w a/f 1", "d a;w a 1", "", "- a; + a; - a/f", "",
	 .keep = "a=1"},
	{"a hard link there", "w a 1", "l a b", "w a 2", "+ b", "",
	 .keep = "a=2,links=2 b=2,links=2"},
	{"a hard link less there", "w a 1;l a b", "d b", "w a 2", "- b", "", .keep = "a=2"},
	{"a new file with two names", "w z 1", "w a 1;l a b", "", "+ a; + b", "",
	 .keep = "a=1,links=2 b=1,links=2 z=1"},
	{"links", "s a one;w z 1", "d a;s a two;s b three", "", "M a; + b", "",
	 .keep = "a->two b->three z=1"},
	{"links differ", "s a one", "d a;s a two", "d a;s a three", "", "both_changed a",
	 .keep = "a->three", .take = "a->two", .both = "a->three a.from-from->two"},
	{"a whole new tree", "w z 1", "m a;m a/b;m a/b/c;w a/b/c/f 1;w a/g 1", "w y 1",
	 "+ a; + a/b; + a/b/c; + a/b/c/f; + a/g", "",
	 .keep = "a/ a/b/ a/b/c/ a/b/c/f=1 a/g=1 y=1 z=1"},
	{"moved into a new directory", "w a 1", "m n;r a n/a", "w a 2", "+ n; R a -> n/a", "",
	 .keep = "n/ n/a=2"},
	{"moved into a directory that is deleted here", "m d;w a 1", "r a d/a", "d d", "",
	 "no_parent d/a", .keep = "a=1", .take = "d/ d/a=1", .both = "d/ d/a=1"},
	{"a new tree in a deleted directory", "m d;w z 1", "m d/e;w d/e/f 1", "d d", "",
	 "no_parent d/e", .keep = "z=1", .take = "d/ d/e/ d/e/f=1 z=1",
	 .both = "d/ d/e/ d/e/f=1 z=1"},
	{"directory modes", "m d", "c d 700", "w d/f 1", "m d", "", .keep = "d/,700 d/f=1"},
	{"directory modes differ", "m d", "c d 700", "c d 711", "", "both_changed d",
	 .keep = "d/,711", .take = "d/,700", .both = "d/,711"},
	{"nothing there", "w a 1", "", "w a 2", "", "", .keep = "a=2"},
};

static void test_scenes(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++)
		for (int policy = CARRY_STOP; policy <= CARRY_BOTH; policy++) {
			struct fixture fixture;
			fixture_create(&fixture);
			play(&fixture, &scenes[i], (enum carry_policy)policy);
			fixture_destroy(&fixture);
		}
}

/* ---- options, and what stays known of a carry ---- */

static void begin(struct fixture *fixture, const char *base, const char *from, const char *head,
		  struct point *ret_base, struct point *ret_from)
{
	fixture_create(fixture);
	run(fixture->head, base);
	*ret_base = keep_as(fixture, "base");
	run(fixture->head, from);
	*ret_from = keep_as(fixture, "from");
	go_back(fixture, ret_base);
	run(fixture->head, head);
}

static void assert_head(struct fixture *fixture, const char *expected)
{
	char *text = list_head(fixture);
	assert_string_equal(text, expected);
	free(text);
}

static int refuse_all(uint64_t ino, void *context)
{
	(void)ino;
	(void)context;
	return -EBUSY;
}

static void test_options(void **state)
{
	(void)state;
	struct fixture fixture;
	struct point base, from;
	struct carry_result result;
	struct errbuf err = {""};
	const char *unknown[] = {"none"}, *some[] = {"/d/", "x"};
	begin(&fixture, "m d;w d/f 1;w x 1;w y 1", "w d/f 2;w d/n 2;r x z;w y 2", "", &base, &from);
	struct carry_options options = {.paths = unknown, .path_count = 1};
	assert_int_equal(point_carry(fixture.head, &from, &options, &result, &err), -ENOENT);
	assert_non_null(strstr(err.text, "'none' is neither in the workspace nor in 'from'"));
	options = (struct carry_options){.may_change = refuse_all};
	assert_int_equal(point_carry(fixture.head, &from, &options, &result, &err), -EBUSY);
	assert_head(&fixture, "d/ d/f=1 x=1 y=1");
	options = (struct carry_options){.paths = some, .path_count = 2};
	must(point_carry(fixture.head, &from, &options, &result, &err));
	assert_head(&fixture, "d/ d/f=2 d/n=2 y=1 z=1");
	assert_int_equal(result.brought.added, 1);
	assert_int_equal(result.brought.modified, 2);
	carry_result_release(&result);
	/* The rest is still to come. */
	struct told told = {"", ""};
	result = carry(&fixture, &from, CARRY_STOP, &told);
	assert_string_equal(told.changes, "M y");
	carry_result_release(&result);
	assert_sound(fixture.repo, true);
	point_release(&base);
	point_release(&from);
	fixture_destroy(&fixture);
}

static void test_what_came_over_is_remembered(void **state)
{
	(void)state;
	struct fixture fixture;
	struct point base, from, later;
	struct errbuf err = {""};
	struct told told = {"", ""};
	begin(&fixture, "w a 1;w b 1", "w a 2", "w b 2", &base, &from);
	struct carry_result result = carry(&fixture, &from, CARRY_STOP, &told);
	assert_int_equal(result.base.id, base.id);
	carry_result_release(&result);
	run(fixture.head, "w a 3");
	for (int i = 0; i < 3; i++) { /* at once, after a freeze, and after the point is deleted */
		result = carry(&fixture, &from, CARRY_STOP, &told);
		assert_int_equal(result.base.id, from.id);
		assert_int_equal(result.conflicts, 0);
		assert_false(result.revised.changed);
		carry_result_release(&result);
		if (i == 0)
			later = keep_as(&fixture, "later");
		else if (i == 1)
			must(point_delete(fixture.repo, &later.id, 1, false, NULL, &err));
	}
	assert_head(&fixture, "a=3 b=2");
	assert_sound(fixture.repo, true);
	point_release(&later);
	point_release(&base);
	point_release(&from);
	fixture_destroy(&fixture);
}

static int last_action(const struct journal_entry *entry, void *context)
{
	enum journal_action *action = context;
	*action = entry->action;
	if (entry->action == JOURNAL_CARRY) {
		assert_string_equal(entry->point_name, "from");
		assert_int_equal(entry->detail_count, 1);
	}
	return 0;
}

static void test_base_and_journal(void **state)
{
	(void)state;
	struct fixture fixture;
	struct point base, from, found, after;
	enum journal_action action = 0;
	struct told told = {"", ""};
	begin(&fixture, "w a 1", "w a 2", "w b 1", &base, &from);
	after = keep_as(&fixture, "after");
	must(carry_find_base(fixture.head, &from, &found));
	assert_int_equal(found.id, base.id);
	point_release(&found);
	run(fixture.head, "w c 1");
	struct carry_result result = carry(&fixture, &from, CARRY_STOP, &told);
	assert_int_equal(result.revised.safety.parent, after.id);
	assert_true(strncmp(result.revised.safety.name, "before-carry-from-", 18) == 0);
	must(journal_read(fixture.repo, 0, last_action, &action));
	assert_int_equal(action, JOURNAL_CARRY);
	carry_result_release(&result);
	/* Another workspace that has nothing in common: all of it comes. */
	struct head *other;
	must(workspace_create(fixture.repo, "other", 0, 0, NULL, NULL));
	must(repo_head(fixture.repo, "other", &other, NULL));
	assert_int_equal(carry_find_base(other, &from, &found), -ENOENT);
	const struct carry_options options = {.policy = CARRY_STOP};
	must(point_carry(other, &from, &options, &result, NULL));
	assert_int_equal(result.conflicts, 0);
	assert_int_equal(result.brought.added, 1);
	carry_result_release(&result);
	head_put(other);
	assert_sound(fixture.repo, true);
	point_release(&base);
	point_release(&from);
	point_release(&after);
	fixture_destroy(&fixture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scenes),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_what_came_over_is_remembered),
		cmocka_unit_test(test_base_and_journal),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
