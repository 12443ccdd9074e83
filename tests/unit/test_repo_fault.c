/*
 * The Nth write or sync of a pack or of the redo log fails, for N = 1, 2, 3 … until the work
 * completes: once and for good, with a full disk and with an error of the device.  Work goes on
 * where it can.  After reopening, the head is as the last confirmed commit left it, or as the one
 * that failed would have; every confirmed point is there.
 */
#include "repo_testing.h"

static struct fault {
	bool sync; /* or write */
	int at;	   /* which call fails, 0: none */
	bool forever;
	int error;
	int calls;
} fault;

static int strike(bool sync)
{
	if (fault.sync != sync || !fault.at)
		return 0;
	int call = ++fault.calls;
	return call == fault.at || (fault.forever && call > fault.at) ? fault.error : 0;
}

static int faulty_write(void *context, int fd, struct iovec *vector, int count, uint64_t offset)
{
	int error = strike(false);
	return error ? error : io_system.write(context, fd, vector, count, offset);
}

static int faulty_sync(void *context, int fd)
{
	int error = strike(true);
	return error ? error : io_system.sync(context, fd);
}

enum { STEPS = 12 };

/* Files are bits: file n is there or not. */
struct progress {
	uint32_t now;		     /* the head in memory */
	uint32_t confirmed, pending; /* the head on disk is one of these */
	uint32_t points[STEPS];	     /* of confirmed ones: bits, and bit 31 */
	bool ended;		     /* the store has failed for good */
};

static const uint32_t there = 1u << 31;

static bool make_file(struct head *head, int number)
{
	static uint8_t bytes[5000];
	struct extent piece = {.length = sizeof(bytes)};
	char name[16];
	int64_t change;
	fill_bytes(bytes, sizeof(bytes), (uint64_t)number);
	struct small small = small_begin(head);
	int error = chunk_store(tree_store(small.tree), bytes, sizeof(bytes), &piece.chunk, NULL);
	if (!error) {
		struct inode_attr attr;
		snprintf(name, sizeof(name), "f%d", number);
		uint64_t ino = small_make(&small, ROOT_INO, name, S_IFREG | 0644);
		must(extent_replace(small.tree, small.reader, ino, 0, sizeof(bytes), &piece, 1,
				    &change));
		must(inode_get(small.tree, small.reader, ino, &attr));
		attr.size = attr.allocated = sizeof(bytes);
		must(inode_put(small.tree, small.reader, ino, &attr));
		head_count(head, &(struct head_counters){.bytes = sizeof(bytes)});
	}
	small_end(&small);
	return error == 0;
}

static void note(struct fixture *fixture, struct progress *progress, int error, uint32_t after)
{
	if (error) {
		progress->pending = after;
		progress->ended = store_failed(repo_store(fixture->repo)) != 0;
	} else {
		progress->now = progress->confirmed = progress->pending = after;
	}
}

static void do_freeze(struct fixture *fixture, struct progress *progress, int step)
{
	char name[16];
	struct point point;
	bool made;
	snprintf(name, sizeof(name), "p%d", step);
	const struct freeze_options options = {.name = name};
	int error = point_freeze(fixture->head, &options, &point, &made, NULL);
	note(fixture, progress, error, progress->now);
	if (!error) {
		progress->points[step] = progress->now | there;
		point_release(&point);
	}
}

static void do_restore(struct fixture *fixture, struct progress *progress)
{
	struct point point;
	struct restore_result result;
	if (!progress->points[0])
		return;
	must(point_resolve(fixture->repo, "main", "p0", &point, NULL));
	int error = point_restore(fixture->head, &point, NULL, &result, NULL);
	uint32_t target = progress->points[0] & ~there, before = progress->now;
	note(fixture, progress, error, target);
	if (!error) {
		if (result.safety_made)
			assert_int_equal(__builtin_popcount(before), result.safety.files);
		restore_result_release(&result);
	} else if (!progress->ended) {
		/* Nothing of it happened. */
		progress->pending = progress->now;
		assert_int_equal(tree_root(head_tree(fixture->head)) == point.root,
				 before == target);
	}
	point_release(&point);
}

static void work(struct fixture *fixture, struct progress *progress, int (*sync)(struct repo *))
{
	struct sweep_result swept;
	for (int step = 0; step < STEPS && !progress->ended; step++) {
		if (make_file(fixture->head, step))
			progress->now |= 1u << step;
		if (step % 4 == 0)
			do_freeze(fixture, progress, step);
		else if (step % 5 == 0)
			do_restore(fixture, progress);
		else if (step == 7)
			note(fixture, progress,
			     repo_collect(fixture->repo, false, NULL, NULL, &swept), progress->now);
		else
			note(fixture, progress, sync(fixture->repo), progress->now);
	}
}

static uint32_t files_of(struct tree *tree, struct reader *reader)
{
	uint32_t files = 0;
	for (int i = 0; i < STEPS; i++) {
		char name[16];
		uint64_t ino;
		snprintf(name, sizeof(name), "f%d", i);
		if (path_lookup(tree, reader, name, &ino) == 0)
			files |= 1u << i;
	}
	return files;
}

static void verify_points(struct fixture *fixture, const struct progress *progress)
{
	for (int i = 0; i < STEPS; i++) {
		struct point point;
		struct tree *view;
		struct reader *reader;
		char name[16];
		if (!progress->points[i])
			continue;
		snprintf(name, sizeof(name), "p%d", i);
		must(point_resolve(fixture->repo, "main", name, &point, NULL));
		must(point_view(fixture->repo, &point, &view));
		must(reader_acquire(repo_store(fixture->repo), &reader));
		assert_int_equal(files_of(view, reader), progress->points[i] & ~there);
		reader_release(reader);
		tree_close(view);
		point_release(&point);
	}
}

static void verify(struct fixture *fixture, const struct progress *progress)
{
	struct small small = small_begin(fixture->head);
	uint32_t files = files_of(small.tree, small.reader);
	small_end(&small);
	if (files != progress->confirmed && files != progress->pending)
		fail_msg("files %x, not %x or %x", files, progress->confirmed, progress->pending);
	verify_points(fixture, progress);
	assert_sound(fixture->repo, true);
}

/* True once the fault lies behind the end of the work. */
static bool run_with_fault(int (*sync)(struct repo *))
{
	struct fixture fixture;
	struct io_ops ops = io_system;
	const struct io io = {&ops, NULL};
	struct progress progress = {0};
	struct errbuf err = {""};
	ops.write = faulty_write;
	ops.sync = faulty_sync;
	fixture_create(&fixture);
	fixture_close(&fixture);
	must(repo_open(fixture.directory, 0, &io, &fixture.repo, &err));
	must(repo_head(fixture.repo, "main", &fixture.head, &err));
	fault.calls = 0;
	work(&fixture, &progress, sync);
	bool done = fault.calls < fault.at;
	fault.at = 0;
	if (!progress.ended) {
		/* The disk works again: what was put off can be committed. */
		must(repo_commit(fixture.repo));
		progress.confirmed = progress.pending = progress.now;
		verify(&fixture, &progress);
	} else {
		assert_int_equal(repo_commit(fixture.repo) == 0, !repo_is_dirty(fixture.repo));
		make_file(fixture.head, 30);
		head_mark_dirty(fixture.head);
		assert_int_equal(repo_sync(fixture.repo), -EIO);
	}
	fixture_close(&fixture);
	fixture_open(&fixture);
	verify(&fixture, &progress);
	assert_true(make_file(fixture.head, 30));
	must(repo_commit(fixture.repo));
	assert_sound(fixture.repo, true);
	fixture_destroy(&fixture);
	return done;
}

static void fail_each_of(bool sync, bool forever, int error, int (*way)(struct repo *))
{
	int at = 1;
	do
		fault = (struct fault){.sync = sync, .at = at, .forever = forever, .error = error};
	while (at++ < 200 && !run_with_fault(way));
	print_message("%d calls\n", at - 2);
	assert_true(at > 3 && at < 200);
}

/* Commits, then records of the redo log. */
static void fail_each(bool sync, bool forever, int error)
{
	fail_each_of(sync, forever, error, repo_commit);
	fail_each_of(sync, forever, error, repo_sync);
}

static void test_full_disk(void **state)
{
	(void)state;
	fail_each(false, false, -ENOSPC);
	fail_each(false, true, -ENOSPC);
}

static void test_failing_writes(void **state)
{
	(void)state;
	fail_each(false, false, -EIO);
	fail_each(false, true, -EIO);
}

static void test_failing_syncs(void **state)
{
	(void)state;
	fail_each(true, false, -EIO);
	fail_each(true, true, -EIO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_full_disk),
		cmocka_unit_test(test_failing_writes),
		cmocka_unit_test(test_failing_syncs),
	};
	return cmocka_run_group_tests_name("repo faults", tests, NULL, NULL);
}
