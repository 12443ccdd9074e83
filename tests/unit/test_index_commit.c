/* Commits: nodes and records, isolation of readers, atomicity (I4), damage in the index (I6). */
#include "index_testing.h"

#include <pthread.h>
#include <signal.h>

#include "index/store_internal.h"

static struct reader *acquire(struct store *store)
{
	struct reader *reader;

	assert_ok(reader_acquire(store, &reader));
	return reader;
}

static uint64_t read_content(struct store *store, uint64_t id)
{
	struct reader *reader = acquire(store);
	const uint8_t *node;
	uint64_t content;

	assert_ok(reader_node(reader, id, &node));
	content = node_content(node);
	reader_release(reader);
	return content;
}

static void nodes_come_and_go(void **state)
{
	enum { NODES = 2000 };
	struct place *place = *state;
	struct store *store = new_store(place, "lz4");
	struct store_statistics statistics;
	uint64_t model[NODES] = {0}, random = 3;
	const uint8_t *node;
	struct reader *reader;

	for (uint64_t round = 1; round < 40; round++) {
		struct commit *commit;

		assert_ok(commit_begin(store, &commit));
		for (int i = 0; i < 150; i++) {
			uint64_t id = next_random(&random) % (NODES - 1) + 1;

			if (next_random(&random) % 4) {
				model[id] = round << 32 | (uint64_t)i;
				put_node(commit, id, model[id]);
			} else {
				model[id] = 0;
				assert_ok(commit_delete_node(commit, id));
			}
		}
		if (round % 7 == 0) { /* all in vain */
			for (uint64_t id = 1; id < NODES; id += 3)
				put_node(commit, id, 1);
			commit_abort(commit);
			store_close(store);
			store = open_store(place);
			for (uint64_t id = 1; id < NODES; id++)
				model[id] = 0;
			reader = acquire(store);
			for (uint64_t id = 1; id < NODES; id++) {
				if (reader_node(reader, id, &node) == 0)
					model[id] = node_content(node);
				assert_true(model[id] >> 32 < round);
			}
			reader_release(reader);
			continue;
		}
		assert_ok(commit_seal(commit));
		assert_ok(commit_finish(commit));
		if (round % 5 == 0) {
			store_close(store);
			store = open_store(place);
		}
		reader = acquire(store);
		for (uint64_t id = 1; id < NODES; id++) {
			int r = reader_node(reader, id, &node);

			assert_int_equal(r, model[id] ? 0 : -EUCLEAN);
			if (r == 0)
				assert_true(node_content(node) == model[id]);
		}
		reader_release(reader);
	}
	{
		uint64_t alive = 0;

		for (uint64_t id = 1; id < NODES; id++)
			alive += model[id] != 0;
		assert_ok(store_statistics(store, &statistics));
		assert_int_equal(statistics.nodes, alive);
	}
	store_close(store);
}

static void misuse_of_a_commit_is_refused(void **state)
{
	struct place *place = *state;
	struct store *store = new_store(place, "lz4");
	uint8_t node[NODE_SIZE];
	struct commit *commit;

	fill_node(node, 5, 1);
	assert_ok(commit_begin(store, &commit));
	assert_error(commit_put_node(commit, 6, node), EINVAL); /* holds another id */
	assert_error(commit_seal(commit), EINVAL);		/* the error sticks */
	assert_error(commit_finish(commit), EINVAL);

	assert_ok(commit_begin(store, &commit));
	assert_ok(commit_put_node(commit, 5, node));
	assert_error(commit_finish(commit), EINVAL); /* not sealed */

	assert_ok(commit_begin(store, &commit));
	assert_ok(commit_seal(commit));
	assert_error(commit_put_node(commit, 5, node), EINVAL);
	assert_error(commit_finish(commit), EINVAL);

	assert_int_equal(store_failed(store), 0);
	assert_null(commit_abort(NULL));
	assert_null(reader_release(NULL));
	store_close(store);
}

struct seen {
	char keys[2000];
	int count;
	int stop_at;
};

static int see(struct bytes key, struct bytes value, void *context)
{
	struct seen *seen = context;
	size_t used = strlen(seen->keys);

	snprintf(seen->keys + used, sizeof(seen->keys) - used, "%.*s=%.*s ", (int)key.length,
		 (const char *)key.data, (int)value.length, (const char *)value.data);
	seen->count++;
	return seen->count == seen->stop_at ? 77 : 0;
}

static void records_of_the_upper_rooms(void **state)
{
	struct place *place = *state;
	struct store *store = new_store(place, "lz4");
	struct commit *commit;
	struct reader *reader;
	struct bytes value;
	struct seen seen = {.count = 0};
	char long_key[RECORD_KEY_MAX + 1];
	uint8_t *large = malloc(RECORD_VALUE_MAX + 1);

	assert_non_null(large);
	fill_random(large, RECORD_VALUE_MAX, 4);
	memset(long_key, 'k', sizeof(long_key));
	assert_ok(commit_begin(store, &commit));
	assert_ok(commit_put_record(commit, TABLE_POINTS, text("b/2"), text("two")));
	assert_ok(commit_put_record(commit, TABLE_POINTS, text("b/1"), text("one")));
	assert_ok(commit_put_record(commit, TABLE_POINTS, text("b"), text("")));
	assert_ok(commit_put_record(commit, TABLE_POINTS, text("a"), text("x")));
	assert_ok(commit_put_record(commit, TABLE_POINTS, text("c"), text("gone")));
	assert_ok(commit_put_record(commit, TABLE_POINTS, text("a"), text("y")));
	assert_ok(commit_put_record(commit, TABLE_NAMES, (struct bytes){long_key, RECORD_KEY_MAX},
				    (struct bytes){large, RECORD_VALUE_MAX}));
	assert_ok(commit_delete_record(commit, TABLE_POINTS, text("c")));
	assert_error(commit_delete_record(commit, TABLE_POINTS, text("c")), ENOENT);
	/* Through the commit. */
	assert_ok(commit_record(commit, TABLE_POINTS, text("a"), &value));
	assert_int_equal(value.length, 1);
	assert_memory_equal(value.data, "y", 1);
	assert_error(commit_record(commit, TABLE_NAMES, text("a"), &value), ENOENT);
	assert_ok(commit_records(commit, TABLE_POINTS, text("b"), see, &seen));
	assert_string_equal(seen.keys, "b= b/1=one b/2=two ");
	/* Not otherwise. */
	reader = acquire(store);
	assert_error(reader_record(reader, TABLE_POINTS, text("a"), &value), ENOENT);
	reader_release(reader);
	assert_ok(commit_seal(commit));
	assert_ok(commit_finish(commit));

	store_close(store);
	store = open_store(place);
	reader = acquire(store);
	seen = (struct seen){.count = 0};
	assert_ok(reader_records(reader, TABLE_POINTS, (struct bytes){NULL, 0}, see, &seen));
	assert_string_equal(seen.keys, "a=y b= b/1=one b/2=two ");
	seen = (struct seen){"", 0, 2};
	assert_int_equal(reader_records(reader, TABLE_POINTS, text("b"), see, &seen), 77);
	assert_string_equal(seen.keys, "b= b/1=one ");
	seen = (struct seen){.count = 0};
	assert_ok(reader_records(reader, TABLE_JOURNAL, (struct bytes){NULL, 0}, see, &seen));
	assert_ok(reader_records(reader, TABLE_POINTS, text("z"), see, &seen));
	assert_int_equal(seen.count, 0);
	/* From a key on, in both directions. */
	static const struct {
		const char *from, *up, *down;
	} walks[] = {
		{"", "a=y b= b/1=one b/2=two ", "b/2=two b/1=one b= a=y "},
		{"b/1", "b/1=one b/2=two ", "b/1=one b= a=y "},
		{"b/11", "b/2=two ", "b/1=one b= a=y "},
		{"A", "a=y b= b/1=one b/2=two ", ""},
		{"z", "", "b/2=two b/1=one b= a=y "},
	};
	for (size_t i = 0; i < sizeof(walks) / sizeof(walks[0]); i++) {
		seen = (struct seen){.count = 0};
		assert_ok(reader_records_from(reader, TABLE_POINTS, text(walks[i].from), RECORDS_UP,
					      see, &seen));
		assert_string_equal(seen.keys, walks[i].up);
		seen = (struct seen){.count = 0};
		assert_ok(reader_records_from(reader, TABLE_POINTS, text(walks[i].from),
					      RECORDS_DOWN, see, &seen));
		assert_string_equal(seen.keys, walks[i].down);
	}
	seen = (struct seen){.count = 0};
	assert_ok(reader_records_from(reader, TABLE_JOURNAL, text(""), RECORDS_DOWN, see, &seen));
	assert_int_equal(seen.count, 0);
	seen = (struct seen){"", 0, 2};
	assert_int_equal(
		reader_records_from(reader, TABLE_POINTS, text(""), RECORDS_DOWN, see, &seen), 77);
	assert_string_equal(seen.keys, "b/2=two b/1=one ");
	assert_ok(reader_record(reader, TABLE_NAMES, (struct bytes){long_key, RECORD_KEY_MAX},
				&value));
	assert_int_equal(value.length, RECORD_VALUE_MAX);
	assert_memory_equal(value.data, large, RECORD_VALUE_MAX);
	reader_release(reader);

	assert_ok(commit_begin(store, &commit));
	assert_error(commit_put_record(commit, TABLE_NAMES, text(""), text("x")), EINVAL);
	commit_abort(commit);
	assert_ok(commit_begin(store, &commit));
	assert_error(commit_put_record(commit, TABLE_NAMES,
				       (struct bytes){long_key, RECORD_KEY_MAX + 1}, text("x")),
		     EINVAL);
	commit_abort(commit);
	assert_ok(commit_begin(store, &commit));
	assert_error(commit_put_record(commit, TABLE_NAMES, text("x"),
				       (struct bytes){large, RECORD_VALUE_MAX + 1}),
		     EINVAL);
	commit_abort(commit);
	free(large);
	store_close(store);
}

static void put_one(struct store *store, uint64_t id, uint64_t content)
{
	struct commit *commit;

	assert_ok(commit_begin(store, &commit));
	put_node(commit, id, content);
	assert_ok(commit_seal(commit));
	assert_ok(commit_finish(commit));
}

/* A reader sees one commit, however many follow, and its pointers stay good. */
static void readers_are_isolated(void **state)
{
	struct place *place = *state;
	struct store *store = new_store(place, "lz4");
	struct reader *old, *other;
	const uint8_t *node, *again;

	put_one(store, 1, 100);
	old = acquire(store);
	assert_ok(reader_node(old, 1, &node));
	for (uint64_t i = 1; i <= 50; i++) {
		put_one(store, 1, 100 + i);
		put_one(store, 1 + i, i);
		other = acquire(store);
		assert_true(reader_sequence(other) > reader_sequence(old));
		assert_ok(reader_node(other, 1, &again));
		assert_int_equal(node_content(again), 100 + i);
		reader_release(other);
		assert_int_equal(node_content(node), 100);
	}
	assert_ok(reader_node(old, 1, &again));
	assert_ptr_equal(node, again);
	assert_error(reader_node(old, 2, &again), EUCLEAN);
	assert_ptr_equal(reader_store(old), store);
	reader_release(old);
	assert_int_equal(read_content(store, 1), 150);
	/* Two nodes that share a place in the memo. */
	put_one(store, 1 + 512, 7);
	for (int i = 0; i < 3; i++) {
		other = acquire(store);
		assert_ok(reader_node(other, 1, &node));
		assert_ok(reader_node(other, 513, &again));
		assert_int_equal(node_content(node), 150);
		assert_int_equal(node_content(again), 7);
		reader_release(other);
	}
	store_close(store);
}

static void idle_readers_hold_nothing_back(void **state)
{
	struct place *place = *state;
	struct store *store = new_store(place, "lz4");
	struct reader *readers[10];
	struct store_statistics before, after;

	put_one(store, 1, 1);
	for (int i = 0; i < 10; i++)
		readers[i] = acquire(store);
	for (int i = 0; i < 10; i++)
		reader_release(readers[i]);
	for (uint64_t i = 0; i < 20; i++)
		put_one(store, 1, i);
	assert_ok(store_statistics(store, &before));
	for (uint64_t i = 0; i < 200; i++) {
		read_content(store, 1);
		put_one(store, 1, i);
	}
	assert_ok(store_statistics(store, &after));
	assert_int_equal(after.index_bytes, before.index_bytes);
	assert_true(after.commits > before.commits);
	store_close(store);
}

struct race {
	struct store *store;
	_Atomic bool stop;
	_Atomic uint64_t finished; /* content of the last finished commit */
	int result;
};

enum { RACE_NODES = 20 };

/* All nodes have the same content in each commit, and it never goes back. */
static void *read_in_race(void *argument)
{
	struct race *race = argument;
	uint64_t last = 0;

	while (!atomic_load(&race->stop) && race->result == 0) {
		uint64_t at_least = atomic_load(&race->finished), content = 0;
		struct reader *reader;
		const uint8_t *node;
		int r = reader_acquire(race->store, &reader);

		if (r < 0) {
			race->result = r;
			break;
		}
		for (uint64_t id = 1; id <= RACE_NODES && r == 0; id++) {
			r = reader_node(reader, id, &node);
			if (r == 0 && id > 1 && node_content(node) != content)
				r = -EPROTO;
			if (r == 0)
				content = node_content(node);
		}
		reader_release(reader);
		if (r == 0 && (content < last || content < at_least))
			r = -ERANGE;
		last = content;
		race->result = r;
	}
	return NULL;
}

static void readers_race_with_commits(void **state)
{
	enum { READERS = 3, COMMITS = 200 };
	struct place *place = *state;
	struct store *store = new_store(place, "lz4");
	struct race races[READERS];
	pthread_t threads[READERS];

	for (uint64_t round = 1; round <= COMMITS; round++) {
		struct commit *commit;

		assert_ok(commit_begin(store, &commit));
		for (uint64_t id = 1; id <= RACE_NODES; id++)
			put_node(commit, id, round);
		assert_ok(commit_seal(commit));
		assert_ok(commit_finish(commit));
		for (int i = 0; i < READERS; i++) {
			if (round == 1) {
				races[i] = (struct race){.store = store};
				assert_int_equal(
					pthread_create(&threads[i], NULL, read_in_race, &races[i]),
					0);
			}
			atomic_store(&races[i].finished, round);
		}
	}
	for (int i = 0; i < READERS; i++) {
		atomic_store(&races[i].stop, true);
		pthread_join(threads[i], NULL);
		assert_ok(races[i].result);
	}
	store_close(store);
}

/* Chunks stored after commit_seal() belong to the next commit. */
static void sealing_draws_the_line(void **state)
{
	struct place *place = *state;
	struct store *store = new_store(place, "none");
	struct chunk_info info;
	struct commit *commit;
	struct reader *reader;
	uint64_t before, after;

	before = store_bytes(store, "before", 6, false);
	assert_ok(commit_begin(store, &commit));
	assert_ok(commit_seal(commit));
	after = store_bytes(store, "after", 5, false);
	assert_int_equal(store_bytes(store, "before", 6, true), before); /* sealed, pending */
	check_chunk(store, before, "before", 6);
	assert_ok(commit_finish(commit));
	reader = acquire(store);
	assert_ok(reader_chunk(reader, before, &info));
	assert_error(reader_chunk(reader, after, &info), ENOENT);
	reader_release(reader);
	check_chunk(store, after, "after", 5);

	/* What an aborted commit had sealed is in the next one. */
	assert_ok(commit_begin(store, &commit));
	assert_ok(commit_seal(commit));
	commit_abort(commit);
	assert_int_equal(store_bytes(store, "after", 5, true), after);
	assert_ok(store_presync(store));
	commit_all(store);
	store_close(store);
	store = open_store(place);
	check_chunk(store, before, "before", 6);
	check_chunk(store, after, "after", 5);
	store_close(store);
}

static void flipped_bits_in_nodes_are_seen(void **state)
{
	struct place *place = *state;
	char path[PATH_MAX + 128];
	uint8_t *map, node[NODE_SIZE];
	struct store *store = new_store(place, "lz4");
	size_t at = 0;
	ssize_t length;
	int fd;

	put_one(store, 9, UINT64_C(0x1122334455667788));
	store_close(store);
	snprintf(path, sizeof(path), "%s/index/data.mdb", place->path);
	fill_node(node, 9, UINT64_C(0x1122334455667788));
	map = malloc(1 << 20);
	assert_non_null(map);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	length = read(fd, map, 1 << 20);
	close(fd);
	for (size_t i = 0; i + NODE_SIZE <= (size_t)length && !at; i += 8)
		at = memcmp(map + i + 8, node + 8, NODE_SIZE - 8) == 0 ? i : 0;
	assert_true(at);
	free(map);
	for (size_t offset = 0; offset < NODE_SIZE; offset += offset < 24 ? 1 : 101) {
		const uint8_t *found;
		struct reader *reader;

		flip(path, at + offset, (unsigned)offset % 8);
		store = open_store(place);
		reader = acquire(store);
		assert_error(reader_node(reader, 9, &found), EBADMSG);
		reader_release(reader);
		store_close(store);
		flip(path, at + offset, (unsigned)offset % 8);
	}
	store = open_store(place);
	assert_true(read_content(store, 9) == UINT64_C(0x1122334455667788));
	store_close(store);
}

static void flipped_bits_in_records_are_seen(void **state)
{
	struct place *place = *state;
	struct store *store = new_store(place, "lz4");
	struct commit *commit;
	char path[PATH_MAX + 128];
	uint8_t *map = malloc(1 << 20);
	ssize_t length;
	uint64_t id;
	int fd, found = 0;

	id = store_bytes(store, "some bytes", 10, false);
	assert_ok(commit_begin(store, &commit));
	assert_ok(commit_put_record(commit, TABLE_NAMES, text("a key"),
				    text("a very recognisable value")));
	assert_ok(commit_seal(commit));
	assert_ok(commit_finish(commit));
	store_close(store);
	snprintf(path, sizeof(path), "%s/index/data.mdb", place->path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	length = read(fd, map, 1 << 20);
	close(fd);
	for (ssize_t at = 0; at + 33 <= length; at++) {
		if (memcmp(map + at, "a very recognisable value", 25) != 0)
			continue;
		found++;
		for (ssize_t i = at; i < at + 33; i++) {
			struct reader *reader;
			struct bytes value;

			flip(path, (uint64_t)i, 2);
			store = open_store(place);
			reader = acquire(store);
			assert_error(reader_record(reader, TABLE_NAMES, text("a key"), &value),
				     EBADMSG);
			reader_release(reader);
			check_chunk(store, id, "some bytes", 10);
			store_close(store);
			flip(path, (uint64_t)i, 2);
		}
	}
	assert_int_equal(found, 1);
	free(map);
}

/*
 * I4, with a killed writer.  Each commit puts the same number into a node, a record and a chunk,
 * and takes as many inode numbers; it then reports the number.  After the kill all agree, and
 * nothing reported is missing.
 */
static void commit_until_killed(const char *path, int report)
{
	struct store *store;

	if (store_open(path, 0, NULL, &store, NULL) < 0)
		_exit(1);
	for (uint64_t round = store_peek(store, COUNTER_INODE) - 16 + 1;; round++) {
		uint8_t bytes[3000], node[NODE_SIZE];
		struct commit *commit;
		uint64_t id;

		fill_random(bytes, sizeof(bytes), round);
		store_next(store, COUNTER_INODE);
		fill_node(node, 1 + round % 50, round);
		if (chunk_store(store, bytes, sizeof(bytes), &id, NULL) < 0 ||
		    commit_begin(store, &commit) < 0 ||
		    commit_put_node(commit, 1 + round % 50, node) < 0 ||
		    commit_put_record(commit, TABLE_POINTS, (struct bytes){&round, sizeof(round)},
				      (struct bytes){&id, sizeof(id)}) < 0 ||
		    commit_seal(commit) < 0 || commit_finish(commit) < 0 ||
		    write(report, &round, sizeof(round)) != sizeof(round))
			_exit(1);
	}
}

static void check_after_kill(struct store *store, uint64_t reported)
{
	uint64_t rounds = store_peek(store, COUNTER_INODE) - 16;
	uint8_t bytes[3000];

	assert_true(rounds == reported || rounds == reported + 1);
	for (uint64_t round = 1; round <= rounds; round++) {
		struct reader *reader = acquire(store);
		struct bytes value;
		uint64_t id;

		assert_ok(reader_record(reader, TABLE_POINTS, (struct bytes){&round, sizeof(round)},
					&value));
		assert_int_equal(value.length, sizeof(id));
		memcpy(&id, value.data, sizeof(id));
		reader_release(reader);
		fill_random(bytes, sizeof(bytes), round);
		check_chunk(store, id, bytes, sizeof(bytes));
		if (round + 50 > rounds)
			assert_int_equal(read_content(store, 1 + round % 50), round);
	}
	{
		struct store_statistics statistics;

		assert_ok(store_statistics(store, &statistics));
		assert_int_equal(statistics.chunks, rounds);
		assert_int_equal(statistics.raw_bytes, rounds * sizeof(bytes));
	}
}

static void killed_writers_leave_whole_commits(void **state)
{
	struct place *place = *state;
	uint64_t reported = 0;

	make_store(place, "none");
	for (int life = 0; life < 8; life++) {
		const struct timespec pause = {0, 20000000 + life * 7777777};
		struct store *store;
		uint64_t round;
		int report[2];
		pid_t child;

		assert_int_equal(pipe(report), 0);
		child = fork();
		assert_true(child >= 0);
		if (child == 0)
			commit_until_killed(place->path, report[1]);
		close(report[1]);
		nanosleep(&pause, NULL);
		kill(child, SIGKILL);
		while (read(report[0], &round, sizeof(round)) == sizeof(round))
			reported = round;
		close(report[0]);
		assert_int_equal(waitpid(child, NULL, 0), child);
		store = open_store(place);
		check_after_kill(store, reported);
		/* The commit that was durable, but not yet reported, counts from here on. */
		reported = store_peek(store, COUNTER_INODE) - 16;
		store_close(store);
	}
	assert_true(reported > 20);
}

/* A reading process that was killed in the middle leaves a slot behind, which would hold back the
 * reuse of every page that was freed since. */
static void killed_readers_hold_nothing_back(void **state)
{
	struct place *place = *state;
	struct store *store = new_store(place, "lz4");
	struct store_statistics before, after;
	int ready[2];
	char byte = 0;
	pid_t child;

	put_one(store, 1, 1);
	store_close(store);
	assert_int_equal(pipe(ready), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		struct reader *reader;

		if (store_open(place->path, STORE_READ_ONLY, NULL, &store, NULL) < 0 ||
		    reader_acquire(store, &reader) < 0 || write(ready[1], &byte, 1) != 1)
			_exit(1);
		pause();
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	store = open_store(place);
	put_one(store, 1, 2);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	for (uint64_t i = 0; i < 100; i++)
		put_one(store, 1, i);
	assert_ok(store_statistics(store, &before));
	for (uint64_t i = 0; i < 300; i++)
		put_one(store, 1, i);
	assert_ok(store_statistics(store, &after));
	assert_int_equal(after.index_bytes, before.index_bytes);
	store_close(store);
	close(ready[0]);
	close(ready[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		index_test(nodes_come_and_go),
		index_test(misuse_of_a_commit_is_refused),
		index_test(records_of_the_upper_rooms),
		index_test(readers_are_isolated),
		index_test(idle_readers_hold_nothing_back),
		index_test(readers_race_with_commits),
		index_test(sealing_draws_the_line),
		index_test(flipped_bits_in_nodes_are_seen),
		index_test(flipped_bits_in_records_are_seen),
		index_test(killed_writers_leave_whole_commits),
		index_test(killed_readers_hold_nothing_back),
	};

	return cmocka_run_group_tests_name("index: commits", tests, NULL, NULL);
}
