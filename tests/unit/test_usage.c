/*
 * snapshot/usage.h: what it says of points must be what a collection frees when they really go.
 *
 * CAIRN_TEST_SEED repeats a run, CAIRN_TEST_ROUNDS makes it longer.
 */
#include "repo_testing.h"
#include "snapshot/carry.h"
#include "snapshot/digest.h"
#include "snapshot/usage.h"

enum { WORKSPACES = 3, SEEDS = 25, NAMES = 30 };

struct history {
	struct fixture fixture;
	struct random random;
	struct head *heads[WORKSPACES]; /* NULL: not there yet; 0 is the fixture's */
	int made;			/* points, for their names */
};

static uint64_t below(struct history *history, uint64_t limit)
{
	return random_below(&history->random, limit);
}

/* A few contents under many names: most of it is shared, within and across workspaces. */
static void change(struct history *history, struct head *head)
{
	static const size_t lengths[] = {50, 1500, 5000, 40000, 300000};
	char name[16];
	for (uint64_t left = 1 + below(history, 6); left > 0; left--) {
		uint64_t seed = 1 + below(history, SEEDS);
		snprintf(name, sizeof(name), "f%d", (int)below(history, NAMES));
		if (has_file(head, name) && below(history, 3) == 0) {
			struct small small = small_begin(head);
			small_remove(&small, ROOT_INO, name, false);
			small_end(&small);
			continue;
		}
		uint64_t ino = put_file(head, name, lengths[seed % 5], seed);
		if (below(history, 5) == 0) {
			uint8_t value[6000];
			struct small small = small_begin(head);
			fill_bytes(value, sizeof(value), seed);
			small_set_xattr(&small, ino, "user.large", value, sizeof(value));
			small_end(&small);
		}
	}
}

static bool any_point(struct history *history, struct point *ret)
{
	struct point *points;
	size_t count;
	must(point_list(history->fixture.repo, 0, &points, &count));
	uint64_t id = count ? points[below(history, count)].id : 0;
	points_free(points, count);
	if (id)
		must(point_get(history->fixture.repo, id, ret));
	return id != 0;
}

static void clone_any(struct history *history, int to)
{
	struct errbuf err = {""};
	struct point point;
	char name[16];
	if (history->heads[to] || !any_point(history, &point))
		return;
	snprintf(name, sizeof(name), "clone-%d", to);
	must(workspace_clone(history->fixture.repo, &point, name, NULL, &err));
	must(repo_head(history->fixture.repo, name, &history->heads[to], &err));
	point_release(&point);
}

static void restore_any(struct history *history, struct head *head)
{
	struct restore_result result;
	struct errbuf err = {""};
	struct point point;
	if (!any_point(history, &point))
		return;
	must(point_restore(head, &point, NULL, &result, &err));
	restore_result_release(&result);
	point_release(&point);
}

static void carry_any(struct history *history, struct head *head)
{
	const struct carry_options options = {.policy = CARRY_TAKE};
	struct carry_result result;
	struct errbuf err = {""};
	struct point from;
	if (!any_point(history, &from))
		return;
	int error = point_carry(head, &from, &options, &result, &err);
	if (error)
		fail_msg("carry: %s (%s)", strerror(-error), err.text);
	carry_result_release(&result);
	point_release(&from);
}

/* Digests have a tree of their own, which starts as that of another point. */
static void digest_any(struct history *history)
{
	struct digest digest;
	bool recorded;
	struct errbuf err = {""};
	struct point point;
	if (!any_point(history, &point))
		return;
	must(digest_of_point(history->fixture.repo, point.id, NULL, NULL, NULL, &digest, &recorded,
			     &err));
	point_release(&point);
}

/* What was recorded still holds: nothing of it was forgotten. */
static void assert_digests(struct history *history)
{
	struct repo *repo = history->fixture.repo;
	struct point *points;
	size_t count;
	must(point_list(repo, 0, &points, &count));
	for (size_t i = 0; i < count; i++) {
		struct digest_check check;
		struct errbuf err = {""};
		if (!points[i].digest.known)
			continue;
		must(digest_verify(repo, points[i].id, NULL, NULL, NULL, &check, &err));
		assert_memory_equal(&check.expected, &check.found, sizeof(check.found));
		free(check.path);
	}
	points_free(points, count);
}

static void step(struct history *history)
{
	int which = (int)below(history, WORKSPACES);
	struct head *head = history->heads[which];
	char name[16];
	if (!head) {
		if (below(history, 4) == 0)
			clone_any(history, which);
		return;
	}
	change(history, head);
	switch (below(history, 8)) {
	case 0:
		restore_any(history, head);
		break;
	case 1:
		carry_any(history, head);
		break;
	case 2:
		digest_any(history);
		break;
	default:
		snprintf(name, sizeof(name), "p%d", history->made++);
		struct point point = freeze(head, name);
		point_release(&point);
		break;
	}
}

/* ---- comparing ---- */

static void assert_frees(struct history *history, const uint64_t *ids, size_t count,
			 const struct sweep_result *expected)
{
	struct sweep_result result;
	struct errbuf err = {""};
	must(point_delete(history->fixture.repo, ids, count, false, NULL, &err));
	must(repo_collect(history->fixture.repo, false, NULL, NULL, &result));
	assert_int_equal(result.nodes, expected->nodes);
	assert_int_equal(result.chunks, expected->chunks);
	assert_int_equal(result.raw_bytes, expected->raw_bytes);
	assert_int_equal(result.stored_bytes, expected->stored_bytes);
}

/* All sums of a measurement belong together, and each point's equals that of a set of it alone. */
static void assert_agrees(struct history *history, const struct usage *usage)
{
	struct repo *repo = history->fixture.repo;
	struct store_statistics statistics;
	uint64_t sum = usage->shared_bytes + usage->head_bytes;
	for (size_t i = 0; i < usage->count; i++) {
		const struct usage_point *point = &usage->points[i];
		struct sweep_result alone;
		struct point record;
		uint64_t reachable;
		must(usage_of_set(repo, &point->point, 1, NULL, NULL, &alone));
		assert_int_equal(point->exclusive_nodes, alone.nodes);
		assert_int_equal(point->exclusive_chunks, alone.chunks);
		assert_int_equal(point->exclusive_bytes,
				 alone.stored_bytes + alone.nodes * USAGE_NODE_BYTES);
		must(point_get(repo, point->point, &record));
		must(usage_reachable(repo, &record, &reachable));
		assert_true(point->exclusive_bytes <= reachable);
		assert_true(reachable - point->exclusive_bytes <= usage->shared_bytes);
		point_release(&record);
		sum += point->exclusive_bytes;
		assert_ptr_equal(usage_of(usage, point->point), point);
	}
	/* Collected just before: there is nothing else in the store. */
	must(store_statistics(repo_store(repo), &statistics));
	assert_int_equal(sum, statistics.stored_bytes + statistics.nodes * USAGE_NODE_BYTES);
}

static void delete_one(struct history *history)
{
	struct repo *repo = history->fixture.repo;
	struct sweep_result swept, expected;
	struct usage usage;
	must(repo_commit(repo));
	must(repo_collect(repo, false, NULL, NULL, &swept));
	must(usage_measure(repo, NULL, NULL, &usage));
	assert_agrees(history, &usage);
	assert_null(usage_of(&usage, 0));
	assert_null(usage_of(&usage, 1 << 30));
	if (usage.count) {
		uint64_t id = usage.points[below(history, usage.count)].point;
		must(usage_of_set(repo, &id, 1, NULL, NULL, &expected));
		assert_frees(history, &id, 1, &expected);
	}
	usage_release(&usage);
}

static void delete_several(struct history *history)
{
	struct repo *repo = history->fixture.repo;
	struct sweep_result swept, expected;
	struct point *points;
	uint64_t ids[64];
	size_t count, chosen = 0;
	/* What is garbage already does not count. */
	must(point_list(repo, 0, &points, &count));
	if (count)
		must(point_delete(repo, &points[below(history, count)].id, 1, false, NULL, NULL));
	points_free(points, count);
	must(point_list(repo, 0, &points, &count));
	for (size_t i = 0; i < count && chosen < 64; i++)
		if (below(history, 3) == 0)
			ids[chosen++] = points[i].id;
	points_free(points, count);
	must(usage_of_set(repo, ids, chosen, NULL, NULL, &expected));
	must(repo_collect(repo, false, NULL, NULL, &swept));
	assert_frees(history, ids, chosen, &expected);
}

static void test_usage_is_what_a_collection_frees(void **state)
{
	(void)state;
	struct history history = {.random = random_from(random_seed())};
	for (int round = 0; round < test_rounds(6); round++) {
		fixture_create(&history.fixture);
		history.heads[0] = history.fixture.head;
		for (int steps = 0; steps < 60; steps++) {
			step(&history);
			if (steps % 12 == 11)
				delete_one(&history);
			if (steps % 20 == 19)
				delete_several(&history);
		}
		assert_sound(history.fixture.repo, true);
		assert_digests(&history);
		for (int i = 1; i < WORKSPACES; i++)
			history.heads[i] = head_put(history.heads[i]);
		fixture_destroy(&history.fixture);
	}
}

/* ---- cases ---- */

static void test_usage_counts_what_is_not_committed(void **state)
{
	(void)state;
	struct fixture fixture;
	struct usage usage;
	fixture_create(&fixture);
	put_file(fixture.head, "a", 100000, 1);
	struct point one = freeze(fixture.head, "one");
	struct small small = small_begin(fixture.head);
	small_remove(&small, ROOT_INO, "a", false);
	small_end(&small);
	must(usage_measure(fixture.repo, NULL, NULL, &usage));
	assert_int_equal(usage_of(&usage, one.id)->exclusive_chunks, 1);
	assert_true(usage_of(&usage, one.id)->exclusive_bytes > 6000);
	usage_release(&usage);
	put_file(fixture.head, "again", 100000, 1);
	must(usage_measure(fixture.repo, NULL, NULL, &usage));
	assert_int_equal(usage_of(&usage, one.id)->exclusive_chunks, 0);
	usage_release(&usage);
	point_release(&one);
	fixture_destroy(&fixture);
}

static int stop(const char *phase, uint64_t done, uint64_t total, void *context)
{
	(void)context;
	assert_string_equal(phase, "mark");
	assert_true(done < total);
	return 1;
}

static void test_usage_can_be_stopped(void **state)
{
	(void)state;
	struct fixture fixture;
	struct usage usage;
	struct sweep_result result;
	fixture_create(&fixture);
	assert_int_equal(usage_measure(fixture.repo, stop, NULL, &usage), -EINTR);
	assert_int_equal(usage_of_set(fixture.repo, NULL, 0, stop, NULL, &result), -EINTR);
	must(usage_of_set(fixture.repo, NULL, 0, NULL, NULL, &result));
	assert_int_equal(result.nodes + result.chunks + result.stored_bytes, 0);
	fixture_destroy(&fixture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_usage_is_what_a_collection_frees),
		cmocka_unit_test(test_usage_counts_what_is_not_committed),
		cmocka_unit_test(test_usage_can_be_stopped),
	};
	return cmocka_run_group_tests_name("usage", tests, NULL, NULL);
}
