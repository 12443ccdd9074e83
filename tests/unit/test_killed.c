/*
 * A process that commits, freezes, restores, deletes and collects in a loop is killed at any time.
 * What it had confirmed must be there; what was under way is there whole or not at all (I4).
 *
 * CAIRN_TEST_SEED chooses the moments, CAIRN_TEST_ROUNDS how many.
 */
#include <signal.h>
#include <sys/wait.h>

#include "repo_testing.h"

static uint64_t seed;

/*
 * Step n of the process is a function of n alone, so the parent can say what the store must look
 * like after each: which version of each of SLOTS files there is, and which points, with theirs.
 */
enum { SLOTS = 12, LIVING_POINTS = 5 };

struct saga {
	int versions[SLOTS]; /* 0: no such file */
	struct {
		int number; /* its name is "p<number>"; 0: none */
		int versions[SLOTS];
	} points[LIVING_POINTS];
};

enum deed { DEED_WRITE, DEED_FREEZE, DEED_RESTORE, DEED_COLLECT };

static enum deed deed_of(int n)
{
	return n % 31 == 30   ? DEED_COLLECT
	       : n % 13 == 12 ? DEED_RESTORE
	       : n % 4 == 3   ? DEED_FREEZE
			      : DEED_WRITE;
}

/* A freeze at step n uses place (n / 4) % LIVING_POINTS, whose older point it deletes before (a
 * step of its own as far as a crash is concerned). */
static int place_of(int n)
{
	return n / 4 % LIVING_POINTS;
}

static int newest_point(const struct saga *saga)
{
	int best = -1;
	for (int i = 0; i < LIVING_POINTS; i++)
		if (saga->points[i].number &&
		    (best < 0 || saga->points[i].number > saga->points[best].number))
			best = i;
	return best;
}

static void saga_delete(struct saga *saga, int n)
{
	if (deed_of(n) == DEED_FREEZE)
		memset(&saga->points[place_of(n)], 0, sizeof(saga->points[0]));
}

static void saga_step(struct saga *saga, int n)
{
	int newest = newest_point(saga);
	saga_delete(saga, n);
	switch (deed_of(n)) {
	case DEED_WRITE:
		saga->versions[n % SLOTS] = n;
		if (n % 5 == 0)
			saga->versions[(n * 7) % SLOTS] = 0;
		break;
	case DEED_FREEZE:
		saga->points[place_of(n)].number = n;
		memcpy(saga->points[place_of(n)].versions, saga->versions, sizeof(saga->versions));
		break;
	case DEED_RESTORE:
		if (newest >= 0)
			memcpy(saga->versions, saga->points[newest].versions,
			       sizeof(saga->versions));
		break;
	case DEED_COLLECT:
		break;
	}
}

static size_t length_of_version(int version)
{
	return version % 3 == 0 ? 500 : version % 3 == 1 ? 9000 : 300000;
}

static void deed_write(struct head *head, int n)
{
	static uint8_t bytes[300000];
	char name[16];
	struct small small = small_begin(head);
	snprintf(name, sizeof(name), "%d", n % SLOTS);
	if (small_lookup(&small, ROOT_INO, name))
		small_remove(&small, ROOT_INO, name, false);
	uint64_t ino = small_make(&small, ROOT_INO, name, S_IFREG | 0644);
	fill_bytes(bytes, length_of_version(n), (uint64_t)n);
	small_write(&small, ino, 0, bytes, length_of_version(n));
	snprintf(name, sizeof(name), "%d", (n * 7) % SLOTS);
	if (n % 5 == 0 && small_lookup(&small, ROOT_INO, name))
		small_remove(&small, ROOT_INO, name, false);
	small_end(&small);
}

/* The safety points of restores are in the way of comparing: they go with the next freeze. */
static void deed_delete(struct repo *repo, const char *name, bool safety_points)
{
	struct point *points;
	size_t count;
	uint64_t ids[64];
	size_t doomed = 0;
	must(point_list(repo, 0, &points, &count));
	for (size_t i = 0; i < count && doomed < 64; i++)
		if (strcmp(points[i].name, name) == 0 ||
		    (safety_points && points[i].origin == POINT_SAFETY))
			ids[doomed++] = points[i].id;
	if (doomed)
		must(point_delete(repo, ids, doomed, false, NULL, NULL));
	points_free(points, count);
}

static void point_name(char name[24], int number)
{
	snprintf(name, 24, "p%d", number);
}

static void do_deed(struct fixture *fixture, const struct saga *saga, int n)
{
	char name[24];
	struct point point;
	struct restore_result result;
	struct sweep_result swept;
	switch (deed_of(n)) {
	case DEED_WRITE:
		deed_write(fixture->head, n);
		/* What is durable in the redo log alone is to be found, too. */
		must(n % 6 ? repo_sync(fixture->repo) : repo_commit(fixture->repo));
		break;
	case DEED_FREEZE:
		point_name(name, saga->points[place_of(n)].number);
		deed_delete(fixture->repo, name, true);
		point_name(name, n);
		point = freeze(fixture->head, name);
		point_release(&point);
		break;
	case DEED_RESTORE:
		if (newest_point(saga) < 0)
			break;
		point_name(name, saga->points[newest_point(saga)].number);
		must(point_resolve(fixture->repo, "main", name, &point, NULL));
		must(point_restore(fixture->head, &point, NULL, &result, NULL));
		restore_result_release(&result);
		point_release(&point);
		break;
	case DEED_COLLECT:
		must(repo_collect(fixture->repo, false, NULL, NULL, &swept));
		break;
	}
}

static void live_until_killed(struct fixture *fixture, struct saga saga, int n, int pipe_fd)
{
	fixture_open(fixture);
	for (;; n++) {
		do_deed(fixture, &saga, n);
		saga_step(&saga, n);
		if (write(pipe_fd, &n, sizeof(n)) != sizeof(n))
			_exit(1);
	}
}

/* The version of each file in a tree, or -1 where it is none that ever was. */
static void read_versions(struct tree *tree, struct reader *reader, int newest, int versions[SLOTS])
{
	static uint8_t bytes[300001], expected[300000];
	for (int slot = 0; slot < SLOTS; slot++) {
		char name[16];
		uint64_t ino;
		struct errbuf err = {""};
		snprintf(name, sizeof(name), "%d", slot);
		versions[slot] = 0;
		if (path_lookup(tree, reader, name, &ino) == -ENOENT)
			continue;
		ssize_t length = file_read(tree, reader, ino, 0, bytes, sizeof(bytes), &err);
		if (length < 0)
			fail_msg("file %s: %s", name, err.text);
		versions[slot] = -1;
		for (int version = newest; version > 0 && versions[slot] < 0; version--) {
			if (version % SLOTS != slot || length_of_version(version) != (size_t)length)
				continue;
			fill_bytes(expected, (size_t)length, (uint64_t)version);
			if (memcmp(bytes, expected, (size_t)length) == 0)
				versions[slot] = version;
		}
		assert_true(versions[slot] > 0);
	}
}

static void read_point_versions(struct repo *repo, const struct point *point, int newest,
				int versions[SLOTS])
{
	struct tree *view;
	struct reader *reader;
	must(point_view(repo, point, &view));
	must(reader_acquire(repo_store(repo), &reader));
	read_versions(view, reader, newest, versions);
	reader_release(reader);
	tree_close(view);
}

static void read_saga(struct fixture *fixture, int newest, struct saga *ret)
{
	struct point *points;
	size_t count;
	*ret = (struct saga){0};
	must(point_list(fixture->repo, 0, &points, &count));
	for (size_t i = 0; i < count; i++) {
		if (points[i].origin == POINT_SAFETY)
			continue;
		int number = atoi(points[i].name + 1);
		assert_int_equal(ret->points[place_of(number)].number, 0);
		ret->points[place_of(number)].number = number;
		read_point_versions(fixture->repo, &points[i], newest,
				    ret->points[place_of(number)].versions);
	}
	points_free(points, count);
	struct small small = small_begin(fixture->head);
	read_versions(small.tree, small.reader, newest, ret->versions);
	small_end(&small);
}

/* Finds where the store stands: what was confirmed, or the step (or half of a freeze) after it. */
static int find_state(const struct saga *found, const struct saga *confirmed, int next)
{
	struct saga possible = *confirmed;
	if (memcmp(found, &possible, sizeof(possible)) == 0)
		return next;
	saga_step(&possible, next);
	if (memcmp(found, &possible, sizeof(possible)) == 0)
		return next + 1;
	possible = *confirmed;
	saga_delete(&possible, next);
	return memcmp(found, &possible, sizeof(possible)) == 0 ? next : -1;
}

static void test_killed(void **state)
{
	(void)state;
	struct fixture fixture;
	struct random random = random_from(seed);
	struct saga saga = {0}, found;
	int next = 1; /* the step that has not been confirmed */
	fixture_create(&fixture);
	for (int round = 0; round < test_rounds(100); round++) {
		int ends[2];
		fixture_close(&fixture);
		must(pipe(ends));
		pid_t child = fork();
		assert_true(child >= 0);
		if (child == 0) {
			close(ends[0]);
			live_until_killed(&fixture, saga, next, ends[1]);
		}
		close(ends[1]);
		usleep((useconds_t)(1000 + random_below(&random, 60000)));
		kill(child, SIGKILL);
		int status, n;
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status)); /* and did not fail before */
		while (read(ends[0], &n, sizeof(n)) == sizeof(n)) {
			assert_int_equal(n, next);
			saga_step(&saga, next++);
		}
		close(ends[0]);

		fixture_open(&fixture);
		read_saga(&fixture, next, &found);
		int at = find_state(&found, &saga, next);
		if (at < 0)
			fail_msg("round %d: neither the state after step %d nor after %d", round,
				 next - 1, next);
		saga = found;
		next = at;
		assert_sound(fixture.repo, round % 10 == 0);
	}
	print_message("%d steps were confirmed\n", next - 1);
	assert_sound(fixture.repo, true);
	fixture_destroy(&fixture);
}

int main(void)
{
	seed = random_seed();
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed),
	};
	return cmocka_run_group_tests_name("killed", tests, NULL, NULL);
}
