/*
 * Commits, freezes, restores, deletes, reads and collections at the same time.  Mostly of use under
 * the thread sanitizer.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "repo_testing.h"

struct crowd {
	struct fixture fixture;
	struct head *other;
	_Atomic bool stop;
	_Atomic int commits, freezes, reads, restores, collections;
};

/* Makes files in pairs under one lock: whoever looks sees both or neither. */
static void *crowd_writer(void *context)
{
	struct crowd *crowd = context;
	struct random random = random_from((uint64_t)pthread_self());
	uint8_t bytes[6000];
	while (!crowd->stop) {
		struct head *head = random_below(&random, 2) ? crowd->other : crowd->fixture.head;
		int number = (int)random_below(&random, 50);
		char left[16], right[16];
		snprintf(left, sizeof(left), "left%d", number);
		snprintf(right, sizeof(right), "right%d", number);
		/* Few contents, so that chunks are given up and wanted again all the time. */
		fill_bytes(bytes, sizeof(bytes), random_below(&random, 12));
		struct small small = small_begin(head);
		if (small_lookup(&small, ROOT_INO, left)) {
			small_remove(&small, ROOT_INO, left, false);
			small_remove(&small, ROOT_INO, right, false);
		} else {
			uint64_t a = small_make(&small, ROOT_INO, left, S_IFREG | 0644);
			uint64_t b = small_make(&small, ROOT_INO, right, S_IFREG | 0644);
			small_write(&small, a, 0, bytes, sizeof(bytes));
			small_write(&small, b, 0, bytes, 300);
		}
		small_end(&small);
		if (random_below(&random, 4) == 0) {
			must(random_below(&random, 4) ? repo_sync(crowd->fixture.repo)
						      : repo_commit(crowd->fixture.repo));
			crowd->commits++;
		}
	}
	return NULL;
}

static int count_sides(const struct dirent_entry *entry, void *context)
{
	int *sides = context;
	sides[entry->name.text[0] == 'l']++;
	return 0;
}

static void *crowd_reader(void *context)
{
	struct crowd *crowd = context;
	while (!crowd->stop) {
		struct head *head = crowd->reads % 2 ? crowd->other : crowd->fixture.head;
		struct reader *reader;
		int sides[2] = {0, 0};
		head_lock_shared(head);
		must(reader_acquire(repo_store(crowd->fixture.repo), &reader));
		must(dirent_iterate(head_tree(head), reader, ROOT_INO, 0, count_sides, sides));
		reader_release(reader);
		head_unlock(head);
		assert_int_equal(sides[0], sides[1]);
		crowd->reads++;
	}
	return NULL;
}

static void look_at_point(struct crowd *crowd, const struct point *point)
{
	struct tree *view;
	struct reader *reader;
	int sides[2] = {0, 0};
	must(point_view(crowd->fixture.repo, point, &view));
	must(reader_acquire(repo_store(crowd->fixture.repo), &reader));
	must(dirent_iterate(view, reader, ROOT_INO, 0, count_sides, sides));
	reader_release(reader);
	tree_close(view);
	assert_int_equal(sides[0], sides[1]);
	assert_int_equal(sides[0] + sides[1], point->files);
}

/* Freezes, restores to what it froze before, deletes. */
static void *crowd_freezer(void *context)
{
	struct crowd *crowd = context;
	struct point last = {0};
	int number = 0;
	while (!crowd->stop) {
		char name[48];
		snprintf(name, sizeof(name), "%lx-%d", (unsigned long)pthread_self(), number++);
		struct point point = freeze(crowd->fixture.head, name);
		crowd->freezes++;
		look_at_point(crowd, &point);
		if (last.id && number % 3 == 0) {
			struct restore_result result;
			must(point_restore(crowd->fixture.head, &last, NULL, &result, NULL));
			restore_result_release(&result);
			crowd->restores++;
		}
		if (last.id && number % 2 == 0) {
			look_at_point(crowd, &last);
			must(point_delete(crowd->fixture.repo, &last.id, 1, false, NULL, NULL));
		}
		point_release(&last);
		last = point;
		usleep(1000);
	}
	point_release(&last);
	return NULL;
}

static void *crowd_collector(void *context)
{
	struct crowd *crowd = context;
	while (!crowd->stop) {
		struct sweep_result result;
		must(repo_collect(crowd->fixture.repo, false, NULL, NULL, &result));
		crowd->collections++;
		usleep(1000);
	}
	return NULL;
}

/* Opens and closes heads, which waits for commits. */
static void *crowd_visitor(void *context)
{
	struct crowd *crowd = context;
	while (!crowd->stop) {
		struct head *head;
		must(repo_head(crowd->fixture.repo, "rarely used", &head, NULL));
		put_file(head, "f", 500, 1);
		must(repo_commit(crowd->fixture.repo));
		head_put(head);
		repo_is_dirty(crowd->fixture.repo);
		usleep(2000);
	}
	return NULL;
}

static void test_side_by_side(void **state)
{
	(void)state;
	static struct crowd crowd;
	static void *(*const parts[])(void *) = {crowd_writer,	crowd_writer,	 crowd_reader,
						 crowd_freezer, crowd_collector, crowd_visitor};
	enum { PARTS = sizeof(parts) / sizeof(parts[0]) };
	pthread_t threads[PARTS];
	struct errbuf err = {""};
	fixture_create(&crowd.fixture);
	must(workspace_create(crowd.fixture.repo, "other", 0, 0, NULL, &err));
	must(workspace_create(crowd.fixture.repo, "rarely used", 0, 0, NULL, &err));
	must(repo_head(crowd.fixture.repo, "other", &crowd.other, &err));
	for (int i = 0; i < PARTS; i++)
		must(pthread_create(&threads[i], NULL, parts[i], &crowd));
	usleep(2500000);
	crowd.stop = true;
	for (int i = 0; i < PARTS; i++)
		pthread_join(threads[i], NULL);
	print_message("%d commits, %d freezes, %d restores, %d collections, %d reads\n",
		      crowd.commits, crowd.freezes, crowd.restores, crowd.collections, crowd.reads);
	must(repo_commit(crowd.fixture.repo));
	assert_sound(crowd.fixture.repo, true);
	crowd.other = head_put(crowd.other);
	fixture_close(&crowd.fixture);
	fixture_open(&crowd.fixture);
	assert_sound(crowd.fixture.repo, true);
	fixture_destroy(&crowd.fixture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_side_by_side),
	};
	return cmocka_run_group_tests_name("side by side", tests, NULL, NULL);
}
