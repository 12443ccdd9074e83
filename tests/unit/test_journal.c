/*
 * The journal: who did what, in a chain that shows every change, removal and insertion; and the
 * changes of points that it tells of (verdict, tags, holds at a freeze, anchors, runs).
 */
#include "index/util/bytes.h"
#include "record_dump.h"
#include "repo_testing.h"
#include "snapshot/journal_internal.h"
#include "snapshot/point_internal.h"

static int fixture_setup(void **state)
{
	static struct fixture fixture;
	fixture_create(&fixture);
	*state = &fixture;
	return 0;
}

static int fixture_teardown(void **state)
{
	fixture_destroy(*state);
	return 0;
}

static void fixture_reopen(struct fixture *fixture)
{
	fixture_close(fixture);
	fixture_open(fixture);
}

/* ---- reading it ---- */

struct story {
	char text[65536]; /* "action workspace point reason by; " of each entry */
	uint64_t count, last_number;
	uint8_t last_hash[JOURNAL_HASH_BYTES];
};

static int tell(const struct journal_entry *entry, void *context)
{
	struct story *story = context;
	size_t used = strlen(story->text);
	snprintf(story->text + used, sizeof(story->text) - used, "%s %s %s %s",
		 journal_action_text(entry->action), entry->workspace_name, entry->point_name,
		 entry->reason);
	for (size_t i = 0; i < entry->detail_count; i++) {
		used = strlen(story->text);
		snprintf(story->text + used, sizeof(story->text) - used, " %s=%s",
			 entry->details[i].name, entry->details[i].value);
	}
	strcat(story->text, "\n");
	assert_int_equal(entry->number, story->last_number + 1);
	assert_true(*entry->by && *entry->host);
	assert_true(entry->time_ns > 1700000000000000000);
	story->last_number = entry->number;
	story->count++;
	memcpy(story->last_hash, entry->hash, sizeof(story->last_hash));
	return 0;
}

static struct story read_story(struct repo *repo)
{
	static struct story story;
	story = (struct story){.count = 0};
	must(journal_read(repo, 0, tell, &story));
	return story;
}

struct findings {
	char text[4096];
};

static void add_finding(const char *finding, void *context)
{
	struct findings *findings = context;
	size_t used = strlen(findings->text);
	snprintf(findings->text + used, sizeof(findings->text) - used, "%s\n", finding);
}

static uint64_t verify(struct repo *repo, uint64_t number, const uint8_t *hash,
		       struct findings *findings)
{
	struct journal_state state;
	*findings = (struct findings){""};
	must(journal_verify(repo, number, hash, add_finding, findings, &state));
	return state.errors;
}

static void assert_verified(struct repo *repo)
{
	struct findings findings;
	if (verify(repo, 0, NULL, &findings))
		fail_msg("%s", findings.text);
}

/* ---- telling everything ---- */

static struct point freeze_named(struct head *head, const char *name)
{
	const struct freeze_options options = {.name = name, .message = "why", .by = "anna"};
	struct point point;
	bool made;
	must(point_freeze(head, &options, &point, &made, NULL));
	return point;
}

static void test_every_change_has_its_entry(void **state)
{
	struct fixture *fixture = *state;
	struct repo *repo = fixture->repo;
	struct errbuf err = {""};
	uint64_t hold;
	struct restore_result restored;
	const char *tags[] = {"gate"};
	struct point one = freeze_named(fixture->head, "one");
	struct small small = small_begin(fixture->head);
	small_make(&small, ROOT_INO, "f", S_IFREG | 0644);
	small_end(&small);
	must(point_restore(fixture->head, &one, "bert", &restored, &err));
	must(point_hold(repo, one.id, "audit", "bert", 0, &hold, &err));
	must(point_unhold(repo, one.id, hold, "bert", &err));
	must(point_set_verdict(repo, one.id, VERDICT_WORKING, "sums agree", "eva", "root", &err));
	must(point_set_tags(repo, one.id, tags, 1, NULL, 0, "eva", &err));
	must(point_rename(repo, one.id, "uno", "eva", &err));
	must(workspace_clone(repo, &one, "copy", "eva", &err));
	must(workspace_rename(repo, "copy", "copy2", "eva", &err));
	must(workspace_delete(repo, "copy2", false, "eva", &err));
	must(point_prune(repo, &restored.safety.id, 1, "keep-last 1", "cron", &err));
	must(point_delete(repo, &one.id, 1, false, "eva", &err));

	struct story story = read_story(repo);
	char expected[4096];
	snprintf(expected, sizeof(expected),
		 "begin   \n"
		 "workspace-create main  \n"
		 "freeze main one why\n"
		 "freeze main %s state before the restore of 'one'\n"
		 "restore main one  safety_point=%s\n"
		 "hold main one audit hold=%llu\n"
		 "release main one  hold=%llu\n"
		 "verdict main one sums agree verdict=working old_verdict=open given_by=eva\n"
		 "tag main one  added=gate\n"
		 "rename main uno  old_name=one\n"
		 "clone copy one \n"
		 "workspace-rename copy2   old_name=copy\n"
		 "workspace-delete copy2  \n"
		 "prune main %s keep-last 1\n"
		 "delete main uno \n",
		 restored.safety.name, restored.safety.name, (unsigned long long)hold,
		 (unsigned long long)hold, restored.safety.name);
	assert_string_equal(story.text, expected);
	assert_verified(repo);
	fixture_reopen(fixture);
	assert_string_equal(read_story(fixture->repo).text, expected);
	assert_verified(fixture->repo);
	restore_result_release(&restored);
	point_release(&one);
}

static void test_refused_changes_have_none(void **state)
{
	struct fixture *fixture = *state;
	struct repo *repo = fixture->repo;
	struct errbuf err = {""};
	uint64_t hold;
	const char *missing[] = {"none"};
	struct point one = freeze_named(fixture->head, "one");
	must(point_hold(repo, one.id, "audit", "bert", 0, &hold, &err));
	uint64_t count = read_story(repo).count;
	bool made;
	struct point again;
	const struct freeze_options taken = {.name = "one"},
				    unchanged = {.name = "two", .if_changed = true};
	assert_int_equal(point_freeze(fixture->head, &taken, &again, &made, &err), -EEXIST);
	must(point_freeze(fixture->head, &unchanged, &again, &made, &err));
	assert_false(made);
	point_release(&again);
	assert_int_equal(point_delete(repo, &one.id, 1, false, NULL, &err), -EBUSY);
	must(workspace_clone(repo, &one, "copy", NULL, &err));
	must(workspace_delete(repo, "copy", true, NULL, &err)); /* a dry run */
	must(point_rename(repo, one.id, "one", NULL, &err));	/* its own name */
	assert_int_equal(point_set_tags(repo, one.id, NULL, 0, missing, 1, NULL, &err), -ENOENT);
	assert_int_equal(point_set_verdict(repo, 999, VERDICT_BROKEN, "", NULL, NULL, &err), -ENOENT);
	assert_int_equal(read_story(repo).count, count + 1); /* the clone */
	assert_verified(repo);
	point_release(&one);
}

/* ---- what people say of a point ---- */

static void test_verdicts_and_tags(void **state)
{
	struct fixture *fixture = *state;
	struct repo *repo = fixture->repo;
	struct errbuf err = {""};
	const char *two[] = {"a", "b"}, *three[] = {"b", "c"}, *empty[] = {""};
	struct point point = freeze_named(fixture->head, "one");
	assert_int_equal(point.verdict, VERDICT_OPEN);
	assert_int_equal(point.verdict_ns, 0);
	must(point_set_verdict(repo, point.id, VERDICT_BROKEN, "rents are doubled", "eva", NULL, &err));
	must(point_set_tags(repo, point.id, two, 2, NULL, 0, NULL, &err));
	must(point_set_tags(repo, point.id, three, 2, two, 1, NULL, &err));
	assert_int_equal(point_set_tags(repo, point.id, empty, 1, NULL, 0, NULL, &err), -EINVAL);
	point_release(&point);
	fixture_reopen(fixture);
	must(point_resolve(fixture->repo, "main", "one", &point, &err));
	assert_int_equal(point.verdict, VERDICT_BROKEN);
	assert_string_equal(point.verdict_by, "eva");
	assert_string_equal(point.verdict_reason, "rents are doubled");
	assert_true(point.verdict_ns >= point.created_ns);
	assert_int_equal(point.tag_count, 2);
	assert_string_equal(point.tags[0], "b");
	assert_string_equal(point.tags[1], "c");
	point_release(&point);
	enum verdict verdict;
	must(point_parse_verdict("superseded", &verdict));
	assert_int_equal(verdict, VERDICT_SUPERSEDED);
	assert_int_equal(point_parse_verdict("good", &verdict), -EINVAL);
}

static void test_freeze_with_everything(void **state)
{
	struct fixture *fixture = *state;
	struct errbuf err = {""};
	const char *holds[] = {"gate", "audit"};
	const struct point_anchor anchors[] = {
		{(char *)"db", (char *)"0/17", (char *)"psql -c lsn"},
		{(char *)"code", (char *)"v1", NULL}};
	const struct point_run run = {(char *)"./load.sh", 5000000000, 3};
	const struct point_step steps[] = {{(char *)"extract", 1, 0}, {(char *)"load", 2, 3}};
	struct freeze_options options = {
		.name = "dr2",
		.by = "anna",
		.holds = holds,
		.hold_count = 2,
		.hold_until_ns = 1,
		.anchors = anchors,
		.anchor_count = 2,
		.run = &run,
		.steps = steps,
		.step_count = 2,
	};
	struct point point;
	bool made;
	assert_int_equal(point_freeze(fixture->head, &options, &point, &made, &err), -EINVAL);
	options.hold_until_ns = 4102444800000000000; /* 2100 */
	must(point_freeze(fixture->head, &options, &point, &made, &err));
	point_release(&point);
	fixture_reopen(fixture);
	must(point_resolve(fixture->repo, "main", "dr2", &point, &err));
	assert_int_equal(point.hold_count, 2);
	assert_int_equal(point.holds[1].until_ns, 4102444800000000000);
	assert_int_equal(point.anchor_count, 2);
	assert_string_equal(point.anchors[0].command, "psql -c lsn");
	assert_null(point.anchors[1].command);
	assert_string_equal(point.run.command, "./load.sh");
	assert_int_equal(point.run.exit_status, 3);
	assert_int_equal(point.step_count, 2);
	assert_string_equal(point.steps[1].name, "load");
	assert_int_equal(point.steps[1].exit_status, 3);
	point_release(&point);
	assert_non_null(strstr(read_story(fixture->repo).text, "hold main dr2 audit hold="));
	assert_non_null(strstr(read_story(fixture->repo).text, " until=2100-01-01 "));
	assert_verified(fixture->repo);
}

/* ---- tampering ---- */

struct tampering {
	uint64_t from, to; /* 0: not at all */
	bool remove;
	size_t flip; /* a byte of the value */
	bool drop_point;
};

/* Entry `from` is put where `to` is, removed, or changed. */
static int tamper_act(struct repo *repo, struct commit *commit, void *context)
{
	const struct tampering *tampering = context;
	struct record_key key;
	struct bytes value;
	uint8_t copy[4096];
	(void)repo;
	if (tampering->drop_point)
		return commit_delete_record(commit, TABLE_POINTS,
					    record_id_key(&key, tampering->from));
	must(commit_record(commit, TABLE_JOURNAL, record_id_key(&key, tampering->from), &value));
	memcpy(copy, value.data, value.length);
	if (tampering->remove)
		return commit_delete_record(commit, TABLE_JOURNAL,
					    record_id_key(&key, tampering->from));
	copy[tampering->flip % value.length] ^= 0x10;
	return commit_put_record(commit, TABLE_JOURNAL, record_id_key(&key, tampering->to),
				 (struct bytes){copy, value.length});
}

static void assert_noticed(struct fixture *fixture, const struct tampering *tampering,
			   const char *expected)
{
	struct findings findings;
	const struct repo_action action = {tamper_act, NULL, (void *)tampering};
	must(repo_commit_action(fixture->repo, &action));
	if (verify(fixture->repo, 0, NULL, &findings) == 0 || !strstr(findings.text, expected))
		fail_msg("expected '%s', got '%s'", expected, findings.text);
}

static void make_history(struct fixture *fixture)
{
	for (int i = 0; i < 5; i++) {
		char name[16];
		snprintf(name, sizeof(name), "p%d", i);
		struct point point = freeze_named(fixture->head, name);
		point_release(&point);
	}
	assert_verified(fixture->repo);
}

static void test_removal_is_noticed(void **state)
{
	struct fixture *fixture = *state;
	make_history(fixture);
	const struct tampering middle = {.from = 4, .remove = true};
	assert_noticed(fixture, &middle, "entry 4 is missing");
}

static void test_cut_tail_is_noticed(void **state)
{
	struct fixture *fixture = *state;
	make_history(fixture);
	const struct tampering last = {.from = 7, .remove = true};
	assert_noticed(fixture, &last, "missing at the end");
}

static void test_insertion_is_noticed(void **state)
{
	struct fixture *fixture = *state;
	make_history(fixture);
	const struct tampering copy = {.from = 3, .to = 8, .flip = 300};
	assert_noticed(fixture, &copy, "behind number 7");
}

static void test_any_flipped_byte_is_noticed(void **state)
{
	struct fixture *fixture = *state;
	make_history(fixture);
	struct tampering flip = {.from = 5, .to = 5};
	for (flip.flip = 0; flip.flip < 130; flip.flip++) {
		assert_noticed(fixture, &flip, "entry");
		const struct repo_action back = {tamper_act, NULL, &flip};
		must(repo_commit_action(fixture->repo, &back));
		assert_verified(fixture->repo);
	}
}

static void test_points_and_journal_agree(void **state)
{
	struct fixture *fixture = *state;
	make_history(fixture);
	const struct tampering drop = {.from = 2, .drop_point = true};
	assert_noticed(fixture, &drop, "no entry tells who deleted it");
}

static void test_noted_hash(void **state)
{
	struct fixture *fixture = *state;
	struct findings findings;
	make_history(fixture);
	struct story story = read_story(fixture->repo);
	uint8_t other[JOURNAL_HASH_BYTES] = {1};
	assert_int_equal(verify(fixture->repo, story.last_number, story.last_hash, &findings), 0);
	assert_int_equal(verify(fixture->repo, story.last_number, other, &findings), 1);
	assert_non_null(strstr(findings.text, "is not the one that was noted"));
	assert_int_equal(verify(fixture->repo, 99, other, &findings), 1);
	assert_non_null(strstr(findings.text, "which was noted, is missing"));
}

/* A store from before the journal: its points are not missed. */
static int drop_journal(struct repo *repo, struct commit *commit, void *context)
{
	struct record_key key;
	(void)repo;
	for (uint64_t number = 0; number <= *(uint64_t *)context; number++)
		must(commit_delete_record(commit, TABLE_JOURNAL, record_id_key(&key, number)));
	return 0;
}

static void test_older_points_are_known(void **state)
{
	struct fixture *fixture = *state;
	struct errbuf err = {""};
	make_history(fixture);
	uint64_t last = read_story(fixture->repo).last_number;
	const struct repo_action action = {drop_journal, NULL, &last};
	must(repo_commit_action(fixture->repo, &action));
	struct point point = freeze_named(fixture->head, "later");
	assert_verified(fixture->repo);
	must(point_delete(fixture->repo, &point.id, 1, false, NULL, &err));
	const uint64_t old = 2;
	must(point_delete(fixture->repo, &old, 1, false, NULL, &err));
	assert_verified(fixture->repo);
	point_release(&point);
}

/* ---- bytes (index/FORMAT.md, "Journal") ---- */

static void test_bytes(void **state)
{
	struct record_writer writer = {0};
	struct journal_fixed fixed = {.time = {1}, .workspace = {3}, .point = {11}};
	struct journal_entry entry;
	uint8_t hash[JOURNAL_HASH_BYTES];
	(void)state;
	put_le16(fixed.length, sizeof(fixed));
	put_le16(fixed.action, JOURNAL_FREEZE);
	memset(fixed.previous, 0x11, sizeof(fixed.previous));
	record_append(&writer, &fixed, sizeof(fixed));
	record_append_field(&writer, JOURNAL_FIELD_BY, "anna", 4);
	record_append_field(&writer, JOURNAL_FIELD_HOST, "host", 4);
	record_append_field(&writer, JOURNAL_FIELD_WORKSPACE, "main", 4);
	record_append_field(&writer, JOURNAL_FIELD_POINT, "first", 5);
	record_append_field(&writer, JOURNAL_FIELD_REASON, "hi", 2);
	record_append_field(&writer, JOURNAL_FIELD_DETAIL, "\1\0\0\0ab", 6);
	must(journal_hash(2, (struct bytes){writer.data, writer.length}, hash));
	record_append(&writer, hash, sizeof(hash));
	struct bytes bytes = {writer.data, writer.length};
	assert_dumped("journal", bytes);
	must(journal_decode(2, bytes, &entry));
	assert_int_equal(entry.action, JOURNAL_FREEZE);
	assert_string_equal(entry.point_name, "first");
	assert_string_equal(entry.details[0].name, "a");
	assert_string_equal(entry.details[0].value, "b");
	journal_entry_release(&entry);
	/* Cut anywhere, or with any wrong byte, it is refused or reads as something else. */
	for (size_t length = 0; length < writer.length; length++) {
		uint8_t *copy = malloc(length + 1);
		memcpy(copy, writer.data, length);
		if (journal_decode(2, (struct bytes){copy, length}, &entry) == 0)
			journal_entry_release(&entry);
		free(copy);
	}
	for (size_t i = 0; i < writer.length * 8; i++) {
		writer.data[i / 8] ^= (uint8_t)(1 << i % 8);
		if (journal_decode(2, bytes, &entry) == 0)
			journal_entry_release(&entry);
		writer.data[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	record_writer_release(&writer);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_every_change_has_its_entry), TEST(test_refused_changes_have_none),
		TEST(test_verdicts_and_tags),	       TEST(test_freeze_with_everything),
		TEST(test_removal_is_noticed),	       TEST(test_cut_tail_is_noticed),
		TEST(test_insertion_is_noticed),       TEST(test_any_flipped_byte_is_noticed),
		TEST(test_points_and_journal_agree),   TEST(test_noted_hash),
		TEST(test_older_points_are_known),     TEST(test_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
