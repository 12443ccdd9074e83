/* Repositories, heads, workspaces and commits: snapshot/repo.h, snapshot/workspace.h. */
#include <pthread.h>
#include <stdatomic.h>

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

static uint64_t commits(struct repo *repo)
{
	struct store_statistics statistics;
	must(store_statistics(repo_store(repo), &statistics));
	return statistics.commits;
}

static void test_heads_are_shared(void **state)
{
	struct fixture *fixture = *state;
	struct head *again;
	struct errbuf err = {""};
	must(repo_head(fixture->repo, "main", &again, &err));
	assert_ptr_equal(again, fixture->head);
	assert_string_equal(head_name(again), "main");
	assert_int_equal(head_base(again), 0);
	assert_ptr_equal(head_repo(again), fixture->repo);
	assert_null(head_put(again));
	put_file(fixture->head, "still-open", 10, 1);
	assert_true(has_file(fixture->head, "still-open"));
}

static void test_unknown_workspace(void **state)
{
	struct fixture *fixture = *state;
	struct head *head;
	struct errbuf err = {""};
	must(workspace_create(fixture->repo, "other", 0, 0, NULL, &err));
	assert_int_equal(repo_head(fixture->repo, "mian", &head, &err), -ENOENT);
	assert_string_equal(err.text, "no workspace 'mian'; there are: main, other");
	assert_int_equal(repo_head(fixture->repo, "", &head, NULL), -ENOENT);
}

static void test_commit_survives_reopening(void **state)
{
	struct fixture *fixture = *state;
	put_file(fixture->head, "kept", 5000, 1);
	assert_true(repo_is_dirty(fixture->repo));
	must(repo_commit(fixture->repo));
	assert_false(repo_is_dirty(fixture->repo));
	put_file(fixture->head, "dropped", 5000, 2);
	fixture_close(fixture);
	fixture_open(fixture);
	assert_true(has_file(fixture->head, "kept"));
	assert_false(has_file(fixture->head, "dropped"));
	assert_sound(fixture->repo, true);
}

static void test_clean_commit_does_nothing(void **state)
{
	struct fixture *fixture = *state;
	put_file(fixture->head, "a", 10, 1);
	must(repo_commit(fixture->repo));
	uint64_t before = commits(fixture->repo);
	for (int i = 0; i < 5; i++)
		must(repo_commit(fixture->repo));
	assert_int_equal(commits(fixture->repo), before);
	const struct repo_action nothing = {0};
	must(repo_commit_action(fixture->repo, &nothing));
	assert_int_equal(commits(fixture->repo), before + 1);
}

/* ---- callbacks ---- */

struct recorder {
	struct head *head;
	char calls[64];
	int prepare_error, cut_error;
	uint64_t late_file; /* cut() makes one */
};

static int record_prepare(void *context)
{
	struct recorder *recorder = context;
	strcat(recorder->calls, "p");
	head_lock(recorder->head); /* nobody holds it */
	head_unlock(recorder->head);
	return recorder->prepare_error;
}

static int record_cut(void *context)
{
	struct recorder *recorder = context;
	strcat(recorder->calls, "c");
	head_assert_locked(recorder->head);
	return recorder->cut_error;
}

static void record_switched(void *context, uint64_t old_root, uint64_t new_root)
{
	struct recorder *recorder = context;
	strcat(recorder->calls, "s");
	head_assert_locked(recorder->head);
	assert_true(old_root != new_root);
	assert_int_equal(tree_root(head_tree(recorder->head)), new_root);
}

static const struct head_ops recording = {record_prepare, record_cut, record_switched};

static void test_callbacks(void **state)
{
	struct fixture *fixture = *state;
	struct recorder recorder = {.head = fixture->head};
	struct errbuf err = {""};
	must(head_attach(fixture->head, &recording, &recorder));
	assert_int_equal(head_attach(fixture->head, &recording, &recorder), -EBUSY);
	must(repo_commit(fixture->repo));
	assert_string_equal(recorder.calls, "");
	head_mark_dirty(fixture->head);
	must(repo_commit(fixture->repo));
	assert_string_equal(recorder.calls, "pc");
	struct point point = freeze(fixture->head, "one");
	assert_string_equal(recorder.calls, "pcpc");
	put_file(fixture->head, "a", 10, 1);
	struct restore_result result;
	must(point_restore(fixture->head, &point, NULL, &result, &err));
	assert_string_equal(recorder.calls, "pcpcpcs");
	restore_result_release(&result);
	point_release(&point);
	head_detach(fixture->head);
	put_file(fixture->head, "b", 10, 1);
	must(repo_commit(fixture->repo));
	assert_string_equal(recorder.calls, "pcpcpcs");
}

static void test_failed_callbacks_lose_nothing(void **state)
{
	struct fixture *fixture = *state;
	struct recorder recorder = {.head = fixture->head};
	must(head_attach(fixture->head, &recording, &recorder));
	put_file(fixture->head, "a", 3000, 1);
	recorder.prepare_error = -EIO;
	assert_int_equal(repo_commit(fixture->repo), -EIO);
	assert_true(repo_is_dirty(fixture->repo));
	recorder.prepare_error = 0;
	recorder.cut_error = -ENOMEM;
	assert_int_equal(repo_commit(fixture->repo), -ENOMEM);
	assert_true(repo_is_dirty(fixture->repo));
	recorder.cut_error = 0;
	must(repo_commit(fixture->repo));
	head_detach(fixture->head);
	fixture_close(fixture);
	fixture_open(fixture);
	assert_true(has_file(fixture->head, "a"));
	assert_sound(fixture->repo, true);
}

/* ---- actions ---- */

struct attempt {
	int error;    /* of act */
	int failures; /* this many times */
	int acts, dones;
};

static int attempt_act(struct repo *repo, struct commit *commit, void *context)
{
	struct attempt *attempt = context;
	(void)repo;
	must(commit_put_record(commit, TABLE_JOURNAL, (struct bytes){"key", 3},
			       (struct bytes){"value", 5}));
	return attempt->acts++ < attempt->failures ? attempt->error : 0;
}

static void attempt_done(struct repo *repo, void *context)
{
	struct attempt *attempt = context;
	(void)repo;
	attempt->dones++;
}

static bool has_journal(struct repo *repo)
{
	struct reader *reader;
	struct bytes value;
	must(reader_acquire(repo_store(repo), &reader));
	int error = reader_record(reader, TABLE_JOURNAL, (struct bytes){"key", 3}, &value);
	reader_release(reader);
	return error == 0;
}

static void test_failed_action(void **state)
{
	struct fixture *fixture = *state;
	struct attempt attempt = {.error = -EPERM, .failures = 1};
	const struct repo_action action = {attempt_act, attempt_done, &attempt};
	put_file(fixture->head, "a", 3000, 1);
	assert_int_equal(repo_commit_action(fixture->repo, &action), -EPERM);
	assert_int_equal(attempt.dones, 0);
	assert_false(has_journal(fixture->repo));
	assert_true(repo_is_dirty(fixture->repo));
	assert_true(has_file(fixture->head, "a"));
	must(repo_commit_action(fixture->repo, &action));
	assert_int_equal(attempt.dones, 1);
	assert_true(has_journal(fixture->repo));
	assert_false(repo_is_dirty(fixture->repo));
}

static void test_full_disk_is_tried_twice(void **state)
{
	struct fixture *fixture = *state;
	struct attempt attempt = {.error = -ENOSPC, .failures = 1};
	const struct repo_action action = {attempt_act, attempt_done, &attempt};
	put_file(fixture->head, "a", 3000, 1);
	must(repo_commit_action(fixture->repo, &action));
	assert_int_equal(attempt.acts, 2);
	assert_int_equal(attempt.dones, 1);
	attempt = (struct attempt){.error = -ENOSPC, .failures = 2};
	put_file(fixture->head, "b", 3000, 2);
	assert_int_equal(repo_commit_action(fixture->repo, &action), -ENOSPC);
	assert_int_equal(attempt.acts, 2);
	assert_true(repo_is_dirty(fixture->repo));
	must(repo_commit(fixture->repo));
	assert_sound(fixture->repo, true);
}

/* ---- group commit ---- */

enum { COMMITTERS = 8, ROUNDS = 20 };

struct committer {
	struct fixture *fixture;
	int number;
};

static void *commit_in_thread(void *context)
{
	struct committer *committer = context;
	for (int i = 0; i < ROUNDS; i++) {
		char name[32];
		snprintf(name, sizeof(name), "%d-%d", committer->number, i);
		put_file(committer->fixture->head, name, 200, (uint64_t)i);
		/* Whoever needs no more than durability may share with whoever does. */
		must(committer->number % 2 ? repo_sync(committer->fixture->repo)
					   : repo_commit(committer->fixture->repo));
	}
	return NULL;
}

static void test_group_commit(void **state)
{
	struct fixture *fixture = *state;
	struct committer committers[COMMITTERS];
	pthread_t threads[COMMITTERS];
	uint64_t before = commits(fixture->repo);
	for (int i = 0; i < COMMITTERS; i++) {
		committers[i] = (struct committer){fixture, i};
		must(pthread_create(&threads[i], NULL, commit_in_thread, &committers[i]));
	}
	for (int i = 0; i < COMMITTERS; i++)
		pthread_join(threads[i], NULL);
	uint64_t made = commits(fixture->repo) - before;
	print_message("%d calls shared %" PRIu64 " commits\n", COMMITTERS * ROUNDS, made);
	assert_true(made < COMMITTERS * ROUNDS);
	fixture_close(fixture);
	fixture_open(fixture);
	for (int i = 0; i < COMMITTERS * ROUNDS; i++) {
		char name[32];
		snprintf(name, sizeof(name), "%d-%d", i / ROUNDS, i % ROUNDS);
		assert_true(has_file(fixture->head, name));
	}
	assert_sound(fixture->repo, true);
}

/* What a caller was acknowledged before its call is durable after it: seen by a reader. */
struct promise {
	struct fixture *fixture;
	_Atomic int failures;
};

static void *check_promises(void *context)
{
	struct promise *promise = context;
	struct head *head = promise->fixture->head;
	for (int i = 0; i < 50; i++) {
		char name[48];
		snprintf(name, sizeof(name), "promise-%lx-%d", (unsigned long)pthread_self(), i);
		put_file(head, name, 100, 1);
		must(repo_commit(promise->fixture->repo));
		struct workspace workspace;
		struct tree *view;
		struct reader *reader;
		struct dirent_target target;
		must(workspace_get(promise->fixture->repo, "main", &workspace));
		must(reader_acquire(repo_store(promise->fixture->repo), &reader));
		must(tree_open(repo_store(promise->fixture->repo), workspace.root, 0, &view));
		int error = dirent_lookup(view, reader, ROOT_INO, name, strlen(name), &target);
		/* A later commit may have dropped the node of the record that we read. */
		if (error != 0 && error != -EUCLEAN)
			promise->failures++;
		tree_close(view);
		reader_release(reader);
		workspace_release(&workspace);
	}
	return NULL;
}

static void test_commit_keeps_its_promise(void **state)
{
	struct promise promise = {.fixture = *state};
	pthread_t threads[4];
	for (int i = 0; i < 4; i++)
		must(pthread_create(&threads[i], NULL, check_promises, &promise));
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(promise.failures, 0);
}

/* ---- workspaces ---- */

static void test_workspaces(void **state)
{
	struct fixture *fixture = *state;
	struct errbuf err = {""};
	struct workspace *list;
	size_t count;
	must(workspace_create(fixture->repo, "two", 1000, 100, NULL, &err));
	assert_int_equal(workspace_create(fixture->repo, "two", 0, 0, NULL, &err), -EEXIST);
	assert_non_null(strstr(err.text, "'two' exists already"));
	assert_int_equal(workspace_create(fixture->repo, "a@b", 0, 0, NULL, &err), -EINVAL);
	assert_int_equal(workspace_create(fixture->repo, "a/b", 0, 0, NULL, &err), -EINVAL);
	must(workspace_list(fixture->repo, &list, &count));
	assert_int_equal(count, 2);
	assert_string_equal(list[0].name, "main");
	assert_string_equal(list[1].name, "two");
	assert_true(list[1].generation > list[0].generation);
	workspaces_free(list, count);

	struct head *two;
	struct inode_attr attr;
	must(repo_head(fixture->repo, "two", &two, &err));
	struct small small = small_begin(two);
	must(inode_get(small.tree, small.reader, ROOT_INO, &attr));
	small_end(&small);
	assert_int_equal(attr.mode, S_IFDIR | 0755);
	assert_int_equal(attr.nlink, 2);
	assert_int_equal(attr.uid, 1000);
	assert_int_equal(attr.gid, 100);
	put_file(two, "only-in-two", 10, 1);
	must(repo_commit(fixture->repo));
	assert_false(has_file(fixture->head, "only-in-two"));

	must(workspace_rename(fixture->repo, "two", "three", NULL, &err));
	assert_string_equal(head_name(two), "three");
	assert_int_equal(workspace_rename(fixture->repo, "two", "four", NULL, &err), -ENOENT);
	assert_non_null(strstr(err.text, "main, three"));
	assert_int_equal(workspace_rename(fixture->repo, "three", "main", NULL, &err), -EEXIST);
	must(workspace_rename(fixture->repo, "three", "three", NULL, &err));

	assert_int_equal(workspace_delete(fixture->repo, "three", false, NULL, &err), -EBUSY);
	head_put(two);
	must(workspace_delete(fixture->repo, "three", true, NULL, &err));
	must(workspace_delete(fixture->repo, "three", false, NULL, &err));
	assert_int_equal(workspace_delete(fixture->repo, "three", false, NULL, &err), -ENOENT);
	assert_sound(fixture->repo, true);
}

static void test_clone(void **state)
{
	struct fixture *fixture = *state;
	struct errbuf err = {""};
	put_file(fixture->head, "a", 9000, 1);
	struct point point = freeze(fixture->head, "one");
	must(workspace_clone(fixture->repo, &point, "copy", NULL, &err));
	struct head *copy;
	must(repo_head(fixture->repo, "copy", &copy, &err));
	assert_int_equal(head_base(copy), point.id);
	assert_true(has_file(copy, "a"));
	put_file(copy, "b", 9000, 2);
	put_file(fixture->head, "c", 9000, 3);
	must(repo_commit(fixture->repo));
	assert_false(has_file(copy, "c"));
	assert_false(has_file(fixture->head, "b"));
	struct point second = freeze(copy, "two");
	assert_int_equal(second.parent, point.id);
	/* Deleting the origin gives the clone's point and head another parent. */
	must(point_delete(fixture->repo, &point.id, 1, false, NULL, &err));
	point_release(&second);
	must(point_resolve(fixture->repo, "copy", "two", &second, &err));
	assert_int_equal(second.parent, 0);
	assert_int_equal(workspace_clone(fixture->repo, &point, "late", NULL, &err), -ENOENT);
	point_release(&second);
	point_release(&point);
	head_put(copy);
	assert_sound(fixture->repo, true);
	must(workspace_delete(fixture->repo, "copy", false, NULL, &err));
	assert_sound(fixture->repo, true);
}

static void test_clone_of_head(void **state)
{
	struct fixture *fixture = *state;
	struct errbuf err = {""};
	struct head *copy, *again;
	put_file(fixture->head, "a", 9000, 1);
	struct point point = freeze(fixture->head, "one");
	put_file(fixture->head, "b", 9000, 2); /* not yet committed */
	must(workspace_clone_head(fixture->head, "copy", NULL, &err));
	must(repo_head(fixture->repo, "copy", &copy, &err));
	assert_int_equal(head_base(copy), point.id);
	assert_int_equal(head_base(fixture->head), point.id);
	assert_true(has_file(copy, "a"));
	assert_true(has_file(copy, "b"));
	/* Neither changes the other's nodes (I1), however often they part. */
	for (int i = 0; i < 3; i++) {
		char mine[16], its[16];
		snprintf(mine, sizeof(mine), "m%d", i);
		snprintf(its, sizeof(its), "c%d", i);
		put_file(fixture->head, mine, 9000, 3);
		put_file(copy, its, 9000, 4);
		must(repo_commit(fixture->repo));
		assert_false(has_file(copy, mine));
		assert_false(has_file(fixture->head, its));
		must(workspace_clone_head(copy, "again", NULL, &err));
		must(repo_head(fixture->repo, "again", &again, &err));
		assert_true(has_file(again, its));
		put_file(copy, "later", 100, 5);
		must(repo_commit(fixture->repo));
		assert_true(i > 0 || !has_file(again, "later"));
		head_put(again);
		must(workspace_delete(fixture->repo, "again", false, NULL, &err));
	}
	assert_int_equal(workspace_clone_head(copy, "main", NULL, &err), -EEXIST);
	struct point second = freeze(copy, "two");
	assert_int_equal(second.parent, point.id);
	point_release(&second);
	point_release(&point);
	head_put(copy);
	assert_sound(fixture->repo, true);
	must(workspace_delete(fixture->repo, "copy", false, NULL, &err));
	assert_sound(fixture->repo, true);
	assert_true(has_file(fixture->head, "b"));
}

static void test_read_only(void **state)
{
	struct fixture *fixture = *state;
	struct repo *repo;
	struct head *head;
	struct errbuf err = {""};
	put_file(fixture->head, "a", 100, 1);
	must(repo_commit(fixture->repo));
	fixture_close(fixture); /* one process opens a store once */
	must(repo_open(fixture->directory, STORE_READ_ONLY, NULL, &repo, &err));
	must(repo_head(repo, "main", &head, &err));
	assert_true(has_file(head, "a"));
	must(repo_commit(repo));
	assert_int_equal(workspace_create(repo, "x", 0, 0, NULL, &err), -EROFS);
	assert_sound(repo, true);
	head_put(head);
	repo_close(repo);
	fixture_open(fixture);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_heads_are_shared),
		TEST(test_unknown_workspace),
		TEST(test_commit_survives_reopening),
		TEST(test_clean_commit_does_nothing),
		TEST(test_callbacks),
		TEST(test_failed_callbacks_lose_nothing),
		TEST(test_failed_action),
		TEST(test_full_disk_is_tried_twice),
		TEST(test_group_commit),
		TEST(test_commit_keeps_its_promise),
		TEST(test_workspaces),
		TEST(test_clone),
		TEST(test_clone_of_head),
		TEST(test_read_only),
	};
	return cmocka_run_group_tests_name("repo", tests, NULL, NULL);
}
