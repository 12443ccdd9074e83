/* Points: freezing, restoring, naming, holding, deleting: snapshot/point.h. */
#include "index/util/bytes.h"
#include "record_dump.h"
#include "repo_testing.h"
#include "snapshot/point_internal.h"
#include "snapshot/workspace_internal.h"
#include "snapshot/workspace_record_internal.h"

static int setup(void **state)
{
	static struct fixture fixture;
	setenv("TZ", "Europe/Berlin", 1);
	tzset();
	fixture_create(&fixture);
	*state = &fixture;
	return 0;
}

static int teardown(void **state)
{
	fixture_destroy(*state);
	return 0;
}

static struct point resolve(struct fixture *fixture, const char *spec)
{
	struct point point = {0};
	struct errbuf err = {""};
	int error = point_resolve(fixture->repo, "main", spec, &point, &err);
	if (error)
		fail_msg("%s: %s", spec, err.text);
	return point;
}

static void assert_resolves(struct fixture *fixture, const char *spec, const char *name)
{
	struct point point = resolve(fixture, spec);
	assert_string_equal(point.name, name);
	point_release(&point);
}

static void assert_fails(struct fixture *fixture, const char *spec, int error, const char *message)
{
	struct point point;
	struct errbuf err = {""};
	assert_int_equal(point_resolve(fixture->repo, "main", spec, &point, &err), error);
	if (!strstr(err.text, message))
		fail_msg("%s: says '%s', not '%s'", spec, err.text, message);
}

static bool view_has(struct fixture *fixture, const struct point *point, const char *name)
{
	struct tree *view;
	struct reader *reader;
	uint64_t ino;
	must(point_view(fixture->repo, point, &view));
	must(reader_acquire(repo_store(fixture->repo), &reader));
	int error = path_lookup(view, reader, name, &ino);
	reader_release(reader);
	tree_close(view);
	assert_true(error == 0 || error == -ENOENT);
	return error == 0;
}

static void test_names(void **state)
{
	(void)state;
	static const char *const good[] = {"a",	  "before import", "Übergabe 2",
					   "a@b", "x.y-z",	   "日本"};
	static const char *const bad[] = {
		"",	      "@a",   "-a",	  ".a",	       "a/b",	       "a\nb",
		"a\x7f",      "\xff", "\xc0\xaf", "a\xc2\x85", "\xed\xa0\x80", "\xf4\x90\x80\x80",
		"abc\xe2\x82"};
	struct errbuf err = {""};
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		must(point_check_name(good[i], &err));
	assert_string_equal(err.text, "");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err.text[0] = 0;
		assert_int_equal(point_check_name(bad[i], &err), -EINVAL);
		assert_true(err.text[0] != 0);
	}
	char name[300];
	memset(name, 'x', sizeof(name));
	name[255] = 0;
	must(point_check_name(name, NULL));
	name[255] = 'x';
	name[256] = 0;
	assert_int_equal(point_check_name(name, NULL), -EINVAL);
}

static void test_freeze(void **state)
{
	struct fixture *fixture = *state;
	static const char *const tags[] = {"import", "week 47"};
	static const char *const holds[] = {"audit"};
	struct point_anchor anchors[] = {{(char *)"db", (char *)"lsn=17", NULL}};
	const struct freeze_options options = {
		.name = "first",
		.message = "before the import",
		.by = "anna",
		.tags = tags,
		.tag_count = 2,
		.holds = holds,
		.hold_count = 1,
		.anchors = anchors,
		.anchor_count = 1,
	};
	struct point point, again;
	struct errbuf err = {""};
	bool made;
	put_file(fixture->head, "a", 70000, 1);
	struct small small = small_begin(fixture->head);
	small_make(&small, ROOT_INO, "directory", S_IFDIR | 0755);
	small_end(&small);
	must(point_freeze(fixture->head, &options, &point, &made, &err));
	assert_true(made);
	assert_int_equal(point.files, 1);
	assert_int_equal(point.directories, 1);
	assert_int_equal(point.bytes, 70000);
	assert_int_equal(point.changed_bytes, 70000);
	assert_int_equal(point.parent, 0);
	assert_int_equal(head_base(fixture->head), point.id);
	struct head_counters counters;
	head_get_counters(fixture->head, &counters);
	assert_int_equal(counters.changed_bytes, 0);

	fixture_close(fixture);
	fixture_open(fixture);
	must(point_get(fixture->repo, point.id, &again));
	assert_string_equal(again.name, "first");
	assert_string_equal(again.message, "before the import");
	assert_string_equal(again.by, "anna");
	assert_int_equal(again.tag_count, 2);
	assert_string_equal(again.tags[1], "week 47");
	assert_int_equal(again.hold_count, 1);
	assert_string_equal(again.holds[0].reason, "audit");
	assert_string_equal(again.holds[0].by, "anna");
	assert_int_equal(again.anchor_count, 1);
	assert_string_equal(again.anchors[0].name, "db");
	assert_string_equal(again.anchors[0].value, "lsn=17");
	assert_int_equal(again.created_ns, point.created_ns);
	assert_int_equal(again.root, point.root);
	point_release(&again);

	assert_int_equal(point_freeze(fixture->head, &options, &again, &made, &err), -EEXIST);
	assert_string_equal(err.text, "point 'first' exists already; choose another name or "
				      "delete it: cairn delete first");
	put_file(fixture->head, "b", 10, 2);
	assert_false(view_has(fixture, &point, "b"));
	assert_true(view_has(fixture, &point, "directory"));
	point_release(&point);
	assert_sound(fixture->repo, true);
}

static void test_freeze_if_changed(void **state)
{
	struct fixture *fixture = *state;
	const struct freeze_options options = {.name = "maybe", .if_changed = true};
	struct errbuf err = {""};
	struct point first, second;
	bool made = false;
	must(point_freeze(fixture->head, &options, &first, &made, &err));
	assert_true(made); /* there is no base yet */
	must(point_freeze(fixture->head, &options, &second, &made, &err));
	assert_false(made);
	assert_int_equal(second.id, first.id);
	point_release(&second);
	put_file(fixture->head, "a", 10, 1);
	assert_int_equal(point_freeze(fixture->head, &options, &second, &made, &err), -EEXIST);
	point_release(&first);
}

static void test_resolve(void **state)
{
	struct fixture *fixture = *state;
	struct errbuf err = {""};
	assert_fails(fixture, "@latest", -ENOENT, "no points yet");
	static const char *const names[] = {"alpha", "beta", "a@b", "before import 1",
					    "before import 2"};
	int64_t after_beta = 0;
	for (size_t i = 0; i < 5; i++) {
		struct point point = freeze(fixture->head, names[i]);
		if (i == 1)
			after_beta = point.created_ns;
		point_release(&point);
		usleep(2000);
	}
	assert_resolves(fixture, "alpha", "alpha");
	assert_resolves(fixture, "a@b", "a@b");
	assert_resolves(fixture, "@latest", "before import 2");
	assert_resolves(fixture, "@0", "before import 2");
	assert_resolves(fixture, "@1", "before import 1");
	assert_resolves(fixture, "@4", "alpha");
	assert_resolves(fixture, "main@alpha", "alpha");
	assert_resolves(fixture, "main@a@b", "a@b");
	assert_resolves(fixture, "main@latest", "before import 2");
	assert_resolves(fixture, "main@3", "beta");
	assert_resolves(fixture, "@{now}", "before import 2");
	char spec[64];
	snprintf(spec, sizeof(spec), "@{1970-01-01T00:00:%02d.5Z}", 1);
	assert_fails(fixture, spec, -ENOENT, "no point that old");
	time_t seconds = (time_t)(after_beta / 1000000000);
	struct tm utc;
	gmtime_r(&seconds, &utc);
	size_t used = strftime(spec, sizeof(spec), "@{%Y-%m-%dT%H:%M:%S", &utc);
	snprintf(spec + used, sizeof(spec) - used, ".%09dZ}", (int)(after_beta % 1000000000));
	assert_resolves(fixture, spec, "beta");

	assert_fails(fixture, "@5", -ENOENT, "only 5 points");
	assert_fails(fixture, "@99999999999999999999", -ENOENT, "only 5 points");
	assert_fails(fixture, "@head", -EINVAL, "present state");
	assert_fails(fixture, "@nonsense", -EINVAL, "not a point");
	assert_fails(fixture, "@{half past}", -EINVAL, "cannot make out");
	assert_fails(fixture, "@{", -EINVAL, "a time is written");
	assert_fails(fixture, "alhpa", -ENOENT, "did you mean 'alpha'?");
	assert_fails(fixture, "before import 3", -ENOENT,
		     "did you mean 'before import 1' or 'before import 2'?");
	assert_fails(fixture, "import", -ENOENT, "before import 1");
	assert_fails(fixture, "something else", -ENOENT, "cairn log");
	assert_fails(fixture, "other@alpha", -ENOENT, "no workspace 'other'; there is: main");
	assert_fails(fixture, "", -EINVAL, "missing");

	/* A name wins over a notation after WORKSPACE@, and only there. */
	struct point point = freeze(fixture->head, "1");
	point_release(&point);
	assert_resolves(fixture, "main@1", "1");
	assert_resolves(fixture, "@1", "before import 2");
	assert_int_equal(point_resolve(fixture->repo, NULL, "alpha", &point, &err), -EINVAL);
	must(point_resolve(fixture->repo, NULL, "main@alpha", &point, &err));
	point_release(&point);
}

static void assert_time(const char *text, int64_t now_s, const char *expected)
{
	int64_t ns;
	struct errbuf err = {""};
	if (point_parse_time(text, now_s * 1000000000, &ns, &err))
		fail_msg("%s: %s", text, err.text);
	time_t seconds = (time_t)(ns / 1000000000);
	struct tm local;
	char got[64];
	localtime_r(&seconds, &local);
	strftime(got, sizeof(got), "%Y-%m-%d %H:%M:%S", &local);
	if (strcmp(got, expected) != 0)
		fail_msg("'%s' is %s, not %s", text, got, expected);
}

static void test_times(void **state)
{
	(void)state;
	const int64_t now = 1795339845; /* 2026-11-22 10:30:45 in Berlin */
	assert_time("now", now, "2026-11-22 10:30:45");
	assert_time("today", now, "2026-11-22 00:00:00");
	assert_time("yesterday", now, "2026-11-21 10:30:45");
	assert_time("2026-11-22 09:00", now, "2026-11-22 09:00:00");
	assert_time("  2026-11-22 09:00:07 ", now, "2026-11-22 09:00:07");
	assert_time("2026-11-22", now, "2026-11-22 00:00:00");
	assert_time("2026-11-22T09:00:00Z", now, "2026-11-22 10:00:00");
	assert_time("2026-11-22t09:00:00.25+02:00", now, "2026-11-22 08:00:00");
	assert_time("2026-11-22 09:00 -0330", now, "2026-11-22 13:30:00");
	assert_time("2026-07-01 12:00", now, "2026-07-01 12:00:00");
	assert_time("2024-02-29 12:00", now, "2024-02-29 12:00:00");
	assert_time("2 hours ago", now, "2026-11-22 08:30:45");
	assert_time("an hour ago", now, "2026-11-22 09:30:45");
	assert_time("90 seconds ago", now, "2026-11-22 10:29:15");
	assert_time("5 min ago", now, "2026-11-22 10:25:45");
	assert_time("1 Day 3 hours ago", now, "2026-11-21 07:30:45");
	assert_time("2 weeks ago", now, "2026-11-08 10:30:45");
	assert_time("1 month ago", now, "2026-10-22 10:30:45"); /* summer time, same time of day */
	assert_time("3 years ago", now, "2023-11-22 10:30:45");
	assert_time("in 3 days", now, "2026-11-25 10:30:45");
	static const char *const garbage[] = {"",
					      " ",
					      "noon",
					      "2026",
					      "2026-13-01",
					      "2026-02-30",
					      "2025-02-29 10:00",
					      "2026-11-22 25:00",
					      "2026-11-22 10:60",
					      "2026-11-22 10",
					      "2026-11-22 10:00 foo",
					      "2026-11-22x10:00",
					      "2026-11-22T10:00+2",
					      "hours ago",
					      "2 ago",
					      "2 hours",
					      "2 parsecs ago",
					      "99999999999999999999 days ago",
					      "-2 hours ago",
					      "2 hours ago now",
					      "2026-11-22 10:00:00.",
					      "in 3",
					      "in",
					      "2 hourss ago"};
	for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
		int64_t ns;
		struct errbuf err = {""};
		if (point_parse_time(garbage[i], now * 1000000000, &ns, &err) != -EINVAL)
			fail_msg("'%s' was taken for a time", garbage[i]);
		assert_non_null(strstr(err.text, "cannot make out"));
	}
}

static void test_restore_keeps_work(void **state)
{
	struct fixture *fixture = *state;
	struct errbuf err = {""};
	struct restore_result result;
	put_file(fixture->head, "a", 5000, 1);
	struct point first = freeze(fixture->head, "first");
	put_file(fixture->head, "b", 6000, 2);

	must(point_restore(fixture->head, &first, "bert", &result, &err));
	assert_true(result.safety_made);
	assert_int_equal(strncmp(result.safety.name, "before-restore-first-20", 23), 0);
	assert_int_equal(result.safety.origin, POINT_SAFETY);
	assert_string_equal(result.safety.by, "bert");
	assert_int_equal(result.safety.parent, first.id);
	assert_int_equal(result.safety.files, 2);
	assert_int_equal(result.new_root, first.root);
	assert_int_equal(result.old_root, result.safety.root);
	assert_int_equal(head_base(fixture->head), first.id);
	assert_true(has_file(fixture->head, "a"));
	assert_false(has_file(fixture->head, "b"));
	assert_true(view_has(fixture, &result.safety, "b"));
	struct point safety = result.safety;
	result.safety = (struct point){0};
	restore_result_release(&result);

	/* Unchanged since: nothing to keep; the base has it. */
	must(point_restore(fixture->head, &safety, NULL, &result, &err));
	assert_false(result.safety_made);
	assert_int_equal(result.safety.id, first.id);
	assert_true(has_file(fixture->head, "b"));
	restore_result_release(&result);

	/* A change of the restored state does not reach the point. */
	put_file(fixture->head, "b", 6000, 3);
	put_file(fixture->head, "c", 100, 4);
	must(repo_commit(fixture->repo));
	assert_false(view_has(fixture, &safety, "c"));
	fixture_close(fixture);
	fixture_open(fixture);
	assert_int_equal(head_base(fixture->head), safety.id);
	assert_true(has_file(fixture->head, "c"));
	assert_sound(fixture->repo, true);

	/* Twice in the same second: the names differ. */
	must(point_restore(fixture->head, &first, NULL, &result, &err));
	restore_result_release(&result);
	put_file(fixture->head, "d", 100, 4);
	must(point_restore(fixture->head, &first, NULL, &result, &err));
	restore_result_release(&result);
	put_file(fixture->head, "e", 100, 4);
	must(point_restore(fixture->head, &first, NULL, &result, &err));
	restore_result_release(&result);
	struct point *points;
	size_t count;
	must(point_list(fixture->repo, 0, &points, &count));
	assert_int_equal(count, 5);
	points_free(points, count);

	must(point_delete(fixture->repo, &first.id, 1, false, NULL, &err));
	assert_int_equal(point_restore(fixture->head, &first, NULL, &result, &err), -ENOENT);
	assert_non_null(strstr(err.text, "deleted meanwhile"));
	point_release(&first);
	point_release(&safety);
	assert_sound(fixture->repo, true);
}

static void test_restore_from_other_workspace(void **state)
{
	struct fixture *fixture = *state;
	struct errbuf err = {""};
	struct restore_result result;
	struct head *other;
	char name[256];
	memset(name, 'n', 255);
	name[255] = 0;
	must(workspace_create(fixture->repo, "other", 0, 0, NULL, &err));
	must(repo_head(fixture->repo, "other", &other, &err));
	put_file(other, "theirs", 3000, 1);
	struct point point = freeze(other, name);
	put_file(fixture->head, "ours", 3000, 1);
	must(point_restore(fixture->head, &point, NULL, &result, &err));
	assert_true(strlen(result.safety.name) <= 255);
	assert_true(has_file(fixture->head, "theirs"));
	assert_false(has_file(fixture->head, "ours"));
	restore_result_release(&result);
	/* Both go on from the same root, apart. */
	put_file(fixture->head, "one", 3000, 2);
	put_file(other, "two", 3000, 3);
	must(repo_commit(fixture->repo));
	assert_false(has_file(other, "one"));
	assert_false(view_has(fixture, &point, "one"));
	point_release(&point);
	head_put(other);
	assert_sound(fixture->repo, true);
}

static void test_holds(void **state)
{
	struct fixture *fixture = *state;
	struct errbuf err = {""};
	struct point point = freeze(fixture->head, "held");
	uint64_t audit, expired, id = point.id;
	char expected[256];
	must(point_hold(fixture->repo, id, "audit", "anna", 0, &audit, &err));
	assert_int_equal(point_hold(fixture->repo, id, "", "anna", 0, &expired, &err), -EINVAL);
	assert_int_equal(point_hold(fixture->repo, id, "late", "anna", 1, &expired, &err), -EINVAL);
	assert_int_equal(point_delete(fixture->repo, &id, 1, true, NULL, &err), -EBUSY);
	assert_int_equal(point_delete(fixture->repo, &id, 1, false, NULL, &err), -EBUSY);
	snprintf(expected, sizeof(expected),
		 "point 'held' is held:\n  hold %" PRIu64
		 " by anna: audit; to lift it: cairn release held %" PRIu64,
		 audit, audit);
	assert_string_equal(err.text, expected);
	assert_int_equal(workspace_delete(fixture->repo, "main", false, NULL, &err), -EBUSY);
	must(point_hold(fixture->repo, id, "short", "bert", point_now() + 30000000, &expired,
			&err));
	assert_int_equal(point_unhold(fixture->repo, id, 999, NULL, &err), -ENOENT);
	must(point_unhold(fixture->repo, id, audit, NULL, &err));
	assert_int_equal(point_delete(fixture->repo, &id, 1, false, NULL, &err), -EBUSY);
	assert_non_null(strstr(err.text, "until 20"));
	usleep(40000); /* it expires */
	must(point_delete(fixture->repo, &id, 1, true, NULL, &err));
	must(point_hold(fixture->repo, id, "again", NULL, 0, &audit, &err));
	must(point_unhold(fixture->repo, id, 0, NULL, &err));
	assert_int_equal(point_unhold(fixture->repo, id, 0, NULL, &err), -ENOENT);
	must(point_delete(fixture->repo, &id, 1, false, NULL, &err));
	assert_int_equal(point_hold(fixture->repo, id, "x", NULL, 0, &audit, &err), -ENOENT);
	point_release(&point);
}

static void test_refusal_names_all(void **state)
{
	struct fixture *fixture = *state;
	struct errbuf err = {""};
	struct point points[3];
	uint64_t ids[3], hold;
	char name[200] = "";
	for (int i = 0; i < 3; i++) {
		memset(name, 'a' + i, 10);
		points[i] = freeze(fixture->head, name);
		ids[i] = points[i].id;
	}
	must(point_hold(fixture->repo, ids[0], "audit", "anna", 0, &hold, &err));
	must(point_hold(fixture->repo, ids[2], "copy", "bert", 0, &hold, &err));
	assert_int_equal(point_delete(fixture->repo, ids, 3, false, NULL, &err), -EBUSY);
	assert_string_equal(err.text, "point 'aaaaaaaaaa' is held:\n"
				      "  hold 1 by anna: audit; to lift it: cairn release "
				      "aaaaaaaaaa 1\n"
				      "point 'cccccccccc' is held:\n"
				      "  hold 2 by bert: copy; to lift it: cairn release "
				      "cccccccccc 2");
	for (int i = 0; i < 10; i++)
		must(point_hold(fixture->repo, ids[1], "many", "anna", 0, &hold, &err));
	assert_int_equal(point_delete(fixture->repo, ids, 3, true, NULL, &err), -EBUSY);
	assert_true(strlen(err.text) < sizeof(err.text));
	assert_non_null(strstr(err.text, "\n  and more"));
	for (int i = 0; i < 3; i++)
		point_release(&points[i]);
}

static uint64_t parent_of(struct fixture *fixture, const char *name)
{
	struct point point = resolve(fixture, name);
	uint64_t parent = point.parent;
	point_release(&point);
	return parent;
}

static void test_delete_reparents(void **state)
{
	struct fixture *fixture = *state;
	struct errbuf err = {""};
	uint64_t ids[6];
	for (int i = 0; i < 6; i++) {
		char name[16];
		snprintf(name, sizeof(name), "p%d", i);
		put_file(fixture->head, name, 4000, (uint64_t)i);
		struct point point = freeze(fixture->head, name);
		ids[i] = point.id;
		point_release(&point);
	}
	const uint64_t middle[] = {ids[2], ids[3], ids[2]}; /* one of them twice */
	must(point_delete(fixture->repo, middle, 3, true, NULL, &err));
	assert_int_equal(parent_of(fixture, "p4"), ids[3]);
	must(point_delete(fixture->repo, middle, 3, false, NULL, &err));
	assert_int_equal(parent_of(fixture, "p4"), ids[1]);
	assert_fails(fixture, "p3", -ENOENT, "no point 'p3'");
	/* All or nothing. */
	const uint64_t unknown[] = {ids[1], 12345};
	assert_int_equal(point_delete(fixture->repo, unknown, 2, false, NULL, &err), -ENOENT);
	assert_resolves(fixture, "p1", "p1");
	/* The base of the head. */
	must(point_delete(fixture->repo, &ids[5], 1, false, NULL, &err));
	assert_int_equal(head_base(fixture->head), ids[4]);
	const uint64_t rest[] = {ids[0], ids[1], ids[4]};
	must(point_delete(fixture->repo, rest, 3, false, NULL, &err));
	assert_int_equal(head_base(fixture->head), 0);
	fixture_close(fixture);
	fixture_open(fixture);
	assert_int_equal(head_base(fixture->head), 0);
	for (int i = 0; i < 6; i++) {
		char name[16];
		snprintf(name, sizeof(name), "p%d", i);
		assert_true(has_file(fixture->head, name));
	}
	must(point_delete(fixture->repo, NULL, 0, false, NULL, &err));
	assert_sound(fixture->repo, true);
}

static void test_rename(void **state)
{
	struct fixture *fixture = *state;
	struct errbuf err = {""};
	struct point first = freeze(fixture->head, "first"),
		     second = freeze(fixture->head, "second");
	must(point_rename(fixture->repo, first.id, "renamed", NULL, &err));
	assert_resolves(fixture, "renamed", "renamed");
	assert_fails(fixture, "first", -ENOENT, "");
	assert_int_equal(point_rename(fixture->repo, first.id, "second", NULL, &err), -EEXIST);
	assert_int_equal(point_rename(fixture->repo, first.id, "a/b", NULL, &err), -EINVAL);
	assert_int_equal(point_rename(fixture->repo, 999, "x", NULL, &err), -ENOENT);
	must(point_rename(fixture->repo, first.id, "renamed", NULL, &err));
	point_release(&first);
	point_release(&second);
	assert_sound(fixture->repo, true);
}

/* ---- bytes of records (index/FORMAT.md, "Workspaces and points") ---- */

static const char point_vector[] = "50 00 01 02 00 00 00 00 03 00 00 00 00 00 00 00"
				   "0a 00 00 00 00 00 00 00 04 03 02 01 00 00 00 00"
				   "07 00 00 00 00 00 00 00 00 a0 dc e2 2b f0 89 18"
				   "e8 03 00 00 00 00 00 00 2a 00 00 00 00 00 00 00"
				   "00 00 00 40 01 00 00 00 00 20 00 00 00 00 00 00"
				   "01 00 05 00 00 00 66 69 72 73 74 02 00 02 00 00"
				   "00 68 69 03 00 04 00 00 00 61 6e 6e 61 04 00 01"
				   "00 00 00 74 05 00 25 00 00 00 09 00 00 00 00 00"
				   "00 00 01 00 00 00 00 00 00 00 00 00 00 00 00 00"
				   "00 00 05 00 00 00 61 75 64 69 74 62 65 72 74 06"
				   "00 0c 00 00 00 02 00 00 00 64 62 6c 73 6e 3d 31"
				   "37 07 00 13 00 00 00 05 00 00 00 00 00 00 00 03"
				   "00 00 00 65 76 61 73 75 6d 73 08 00 0a 00 00 00"
				   "02 00 00 00 64 62 70 73 71 6c 09 00 10 00 00 00"
				   "b8 0b 00 00 00 00 00 00 01 00 00 00 2e 2f 67 6f"
				   "0a 00 10 00 00 00 d0 07 00 00 00 00 00 00 00 00"
				   "00 00 6c 6f 61 64 0b 00 08 00 00 00 08 00 00 00"
				   "00 00 00 00 0c 00 28 00 00 00 06 05 00 00 00 00"
				   "00 00 d1 00 00 00 00 00 00 00 00 00 00 00 00 00"
				   "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00"
				   "00 d2";

static struct point sample_point(void)
{
	static char *tags[] = {(char *)"t"};
	static struct point_hold holds[] = {{9, (char *)"audit", (char *)"bert", 1, 0}};
	static struct point_anchor anchors[] = {{(char *)"db", (char *)"lsn=17", (char *)"psql"}};
	static struct point_step steps[] = {{(char *)"load", 2000, 0}};
	static uint64_t carried[] = {8};
	return (struct point){
		.id = 11,
		.workspace = 3,
		.parent = 10,
		.root = 0x01020304,
		.generation = 7,
		.created_ns = 1768208400000000000,
		.files = 1000,
		.directories = 42,
		.bytes = 0x140000000,
		.changed_bytes = 8192,
		.origin = POINT_SAFETY,
		.verdict = VERDICT_BROKEN,
		.name = (char *)"first",
		.message = (char *)"hi",
		.by = (char *)"anna",
		.tags = tags,
		.tag_count = 1,
		.holds = holds,
		.hold_count = 1,
		.anchors = anchors,
		.anchor_count = 1,
		.verdict_ns = 5,
		.verdict_by = (char *)"eva",
		.verdict_reason = (char *)"sums",
		.run = {(char *)"./go", 3000, 1},
		.steps = steps,
		.step_count = 1,
		.carried = carried,
		.carried_count = 1,
		.digest = {true, {0xd1, [31] = 0xd2}, 0x0506},
	};
}

static void test_point_bytes(void **state)
{
	(void)state;
	const struct point point = sample_point();
	struct record_writer writer = {0};
	point_encode(&point, (struct bytes){NULL, 0}, &writer);
	assert_int_equal(writer.error, 0);
	struct bytes bytes = {writer.data, writer.length};
	assert_record("point", bytes, point_vector);
	struct point decoded;
	must(point_decode(11, bytes, &decoded));
	assert_int_equal(decoded.holds[0].id, 9);
	assert_string_equal(decoded.anchors[0].value, "lsn=17");
	assert_string_equal(decoded.anchors[0].command, "psql");
	assert_string_equal(decoded.verdict_by, "eva");
	assert_string_equal(decoded.verdict_reason, "sums");
	assert_int_equal(decoded.run.exit_status, 1);
	assert_string_equal(decoded.steps[0].name, "load");
	assert_int_equal(decoded.carried[0], 8);
	assert_int_equal(decoded.digest.root, 0x0506);
	point_release(&decoded);
	/* Cut anywhere it is refused, or lacks whole fields; never read beyond. */
	for (size_t length = 0; length < writer.length; length++) {
		uint8_t *copy = malloc(length + 1);
		memcpy(copy, writer.data, length);
		int error = point_decode(11, (struct bytes){copy, length}, &decoded);
		assert_true(error == 0 || error == -EUCLEAN);
		if (error == 0)
			point_release(&decoded);
		free(copy);
	}
	/* Any single wrong byte as well. */
	for (size_t i = 0; i < writer.length; i++) {
		for (int flip = 1; flip < 256; flip += 37) {
			writer.data[i] ^= (uint8_t)flip;
			if (point_decode(11, bytes, &decoded) == 0)
				point_release(&decoded);
			writer.data[i] ^= (uint8_t)flip;
		}
	}
	record_writer_release(&writer);
}

static int write_future_point(struct repo *repo, struct commit *commit, void *context)
{
	(void)repo;
	struct record_writer *writer = context;
	struct record_key key;
	return commit_put_record(commit, TABLE_POINTS, record_id_key(&key, 1),
				 (struct bytes){writer->data, writer->length});
}

/* A record that a later version wrote: longer fixed part, unknown fields.  Both survive. */
static void test_unknown_parts_survive(void **state)
{
	struct fixture *fixture = *state;
	struct errbuf err = {""};
	struct point point = freeze(fixture->head, "first");
	assert_int_equal(point.id, 1);
	struct record_writer old = {0}, future = {0};
	point_encode(&point, (struct bytes){NULL, 0}, &old);
	record_append(&future, old.data, sizeof(struct point_fixed));
	record_append(&future, "newer", 5);
	put_le16(future.data, sizeof(struct point_fixed) + 5);
	record_append_field(&future, 900, "unknown", 7);
	record_append(&future, old.data + sizeof(struct point_fixed),
		      old.length - sizeof(struct point_fixed));
	const struct repo_action action = {write_future_point, NULL, &future};
	must(repo_commit_action(fixture->repo, &action));

	uint64_t hold;
	must(point_hold(fixture->repo, 1, "reason", "anna", 0, &hold, &err));
	must(point_rename(fixture->repo, 1, "other", NULL, &err));
	struct reader *reader;
	struct record_key key;
	struct bytes value;
	must(reader_acquire(repo_store(fixture->repo), &reader));
	must(reader_record(reader, TABLE_POINTS, record_id_key(&key, 1), &value));
	assert_int_equal(get_le16(value.data), sizeof(struct point_fixed) + 5);
	assert_memory_equal((const uint8_t *)value.data + sizeof(struct point_fixed), "newer", 5);
	assert_non_null(memmem(value.data, value.length, "unknown", 7));
	assert_non_null(memmem(value.data, value.length, "other", 5));
	reader_release(reader);
	record_writer_release(&old);
	record_writer_release(&future);
	point_release(&point);
	assert_sound(fixture->repo, true);
}

static const char workspace_vector[] = "48 00 00 00 00 00 00 00 04 03 02 01 00 00 00 00"
				       "07 00 00 00 00 00 00 00 0b 00 00 00 00 00 00 00"
				       "00 a0 dc e2 2b f0 89 18 e8 03 00 00 00 00 00 00"
				       "2a 00 00 00 00 00 00 00 00 00 00 40 01 00 00 00"
				       "00 20 00 00 00 00 00 00 01 00 04 00 00 00 6d 61"
				       "69 6e";

static int write_sample_workspace(struct repo *repo, struct commit *commit, void *context)
{
	(void)repo;
	struct record_writer *copy = context;
	const struct workspace workspace = {.id = 500,
					    .name = (char *)"main",
					    .root = 1,
					    .generation = 2,
					    .created_ns = 1768208400000000000};
	const struct head_state state = {.root = 0x01020304,
					 .generation = 7,
					 .base = 11,
					 .counters = {1000, 42, 0x140000000, 8192}};
	int error = workspace_write(commit, &workspace);
	if (!error)
		error = workspace_put_state(commit, 500, &state);
	struct record_key key;
	struct bytes value;
	if (!error)
		error = commit_record(commit, TABLE_WORKSPACES, record_id_key(&key, 500), &value);
	if (!error)
		record_append(copy, value.data, value.length);
	return error ? error : -ECANCELED;
}

static void test_workspace_bytes(void **state)
{
	struct fixture *fixture = *state;
	struct record_writer copy = {0};
	const struct repo_action action = {write_sample_workspace, NULL, &copy};
	assert_int_equal(repo_commit_action(fixture->repo, &action), -ECANCELED);
	assert_record("workspace", (struct bytes){copy.data, copy.length}, workspace_vector);
	record_writer_release(&copy);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_names),
		TEST(test_freeze),
		TEST(test_freeze_if_changed),
		TEST(test_resolve),
		TEST(test_times),
		TEST(test_restore_keeps_work),
		TEST(test_restore_from_other_workspace),
		TEST(test_holds),
		TEST(test_refusal_names_all),
		TEST(test_delete_reparents),
		TEST(test_rename),
		TEST(test_point_bytes),
		TEST(test_unknown_parts_survive),
		TEST(test_workspace_bytes),
	};
	return cmocka_run_group_tests_name("points", tests, NULL, NULL);
}
