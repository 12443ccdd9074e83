/* Sweeping: what goes, what stays, and that its room is given back. */
#include "index_checking.h"

#include <pthread.h>
#include <signal.h>

static const struct idset nothing = IDSET_INIT;

static uint64_t pack_bytes(struct store *store)
{
	struct store_statistics statistics;

	assert_ok(store_statistics(store, &statistics));
	return statistics.pack_bytes;
}

static struct sweep_result sweep_all(struct store *store, const struct idset *nodes,
				     const struct idset *chunks, bool dry_run)
{
	struct sweep_result result = {0};
	struct sweep *sweep;

	assert_ok(sweep_begin(store, &sweep));
	commit_all(store);
	assert_ok(sweep_run(sweep, nodes, chunks, dry_run, NULL, NULL, &result));
	assert_null(sweep_end(sweep));
	return result;
}

static void mark(struct idset *set, uint64_t id)
{
	assert_true(idset_add(set, id) >= 0);
}

static uint64_t store_number(struct store *store, uint64_t number, size_t length, bool duplicate)
{
	static uint8_t bytes[CHUNK_MAX];

	fill_random(bytes, length, number);
	return store_bytes(store, bytes, length, duplicate);
}

static void check_number(struct store *store, uint64_t id, uint64_t number, size_t length)
{
	static uint8_t bytes[CHUNK_MAX];

	fill_random(bytes, length, number);
	check_chunk(store, id, bytes, length);
}

static void assert_gone(struct store *store, uint64_t id)
{
	uint8_t buffer[CHUNK_MAX];
	struct errbuf err = {""};
	size_t length;

	assert_error(chunk_read(store, id, buffer, sizeof(buffer), &length, &err), ESTALE);
}

static void unmarked_goes_and_marked_stays(void **state)
{
	enum { COUNT = 300, SIZE = 9000 };
	struct place *place = *state;
	struct store *store = new_store(place, "none");
	struct idset nodes = IDSET_INIT, chunks = IDSET_INIT;
	struct sweep_result result, dry;
	struct commit *commit;
	uint64_t before;

	assert_ok(commit_begin(store, &commit));
	for (uint64_t i = 1; i <= COUNT; i++) {
		assert_int_equal(store_number(store, i, SIZE, false), i);
		assert_int_equal(store_next(store, COUNTER_NODE), i);
		put_node(commit, i, i);
		if (i % 3 == 0) {
			mark(&nodes, i);
			mark(&chunks, i);
		}
	}
	assert_ok(commit_seal(commit));
	assert_ok(commit_finish(commit));
	before = pack_bytes(store);

	dry = sweep_all(store, &nodes, &chunks, true);
	assert_int_equal(pack_bytes(store), before);
	check_number(store, 1, 1, SIZE);
	result = sweep_all(store, &nodes, &chunks, false);
	assert_memory_equal(&dry, &result, sizeof(dry));
	assert_int_equal(result.nodes, COUNT / 3 * 2);
	assert_int_equal(result.chunks, COUNT / 3 * 2);
	assert_int_equal(result.raw_bytes, COUNT / 3 * 2 * SIZE);
	/* Two of three, less what whole blocks leave at both ends of each pair. */
	assert_true(pack_bytes(store) <= before - COUNT / 3 * (2 * SIZE - 2 * 4096));
	check_store(store);
	for (int round = 0; round < 2; round++) {
		for (uint64_t i = 1; i <= COUNT; i++) {
			const uint8_t *node;
			struct reader *reader;

			assert_ok(reader_acquire(store, &reader));
			assert_int_equal(reader_node(reader, i, &node), i % 3 ? -EUCLEAN : 0);
			reader_release(reader);
			if (i % 3)
				assert_gone(store, i);
			else
				check_number(store, i, i, SIZE);
		}
		store_close(store);
		store = open_store(place);
	}
	result = sweep_all(store, &nodes, &chunks, false);
	assert_int_equal(result.nodes + result.chunks, 0);
	/* What is gone can be stored again, as a new chunk. */
	assert_int_equal(store_number(store, 1, SIZE, false), COUNT + 1);
	assert_int_equal(store_number(store, 3, SIZE, true), 3);
	idset_release(&nodes);
	idset_release(&chunks);
	store_close(store);
}

static void what_is_new_or_hit_is_saved(void **state)
{
	struct place *place = *state;
	struct store *store = new_store(place, "none");
	struct sweep_result result;
	struct sweep *sweep, *second;
	uint64_t hit, lost, pending, fresh;

	hit = store_number(store, 1, 5000, false);
	lost = store_number(store, 2, 5000, false);
	commit_all(store);
	pending = store_number(store, 3, 5000, false);
	assert_ok(sweep_begin(store, &sweep));
	assert_error(sweep_begin(store, &second), EBUSY);
	fresh = store_number(store, 4, 5000, false);
	commit_all(store);
	assert_int_equal(store_number(store, 1, 5000, true), hit);
	assert_ok(sweep_run(sweep, &nothing, &nothing, false, NULL, NULL, &result));
	sweep_end(sweep);
	assert_int_equal(result.chunks, 1);
	assert_gone(store, lost);
	check_number(store, hit, 1, 5000);
	check_number(store, pending, 3, 5000);
	check_number(store, fresh, 4, 5000);
	check_store(store);
	assert_null(sweep_end(NULL));

	/* Saved for that collection only. */
	result = sweep_all(store, &nothing, &nothing, false);
	assert_int_equal(result.chunks, 3);
	check_store(store);
	store_close(store);
}

static int stop_after_two(uint64_t done, uint64_t total, void *context)
{
	assert_true(done <= total);
	return ++*(int *)context == 2;
}

static void stopping_keeps_what_is_done(void **state)
{
	enum { NODES = 10000 };
	struct place *place = *state;
	struct store *store = new_store(place, "none");
	struct sweep_result result;
	struct commit *commit;
	struct sweep *sweep;
	uint64_t done;
	int calls = 0;

	assert_ok(commit_begin(store, &commit));
	for (uint64_t i = 1; i <= NODES; i++)
		put_node(commit, store_next(store, COUNTER_NODE), i);
	assert_ok(commit_seal(commit));
	assert_ok(commit_finish(commit));
	assert_ok(sweep_begin(store, &sweep));
	assert_ok(sweep_run(sweep, &nothing, &nothing, false, stop_after_two, &calls, &result));
	sweep_end(sweep);
	assert_int_equal(calls, 2);
	done = result.nodes; /* two batches, whose size depends on how long a commit takes */
	assert_in_range(done, 2 * 128, 2 * 4096);
	result = sweep_all(store, &nothing, &nothing, false);
	assert_int_equal(result.nodes, NODES - done);
	store_close(store);
}

/* Records far smaller than a block: only together do they free any. */
static void neighbours_are_punched_together(void **state)
{
	enum { COUNT = 400, SIZE = 1500 };
	struct place *place = *state;
	struct store *store = new_store(place, "none");
	struct idset even = IDSET_INIT, last = IDSET_INIT;
	uint64_t before, half;

	for (uint64_t i = 1; i <= COUNT; i++) {
		store_number(store, i, SIZE, false);
		if (i % 2 == 0)
			mark(&even, i);
	}
	mark(&last, COUNT);
	commit_all(store);
	before = pack_bytes(store);
	sweep_all(store, &nothing, &even, false);
	half = pack_bytes(store);
	assert_int_equal(half, before);
	check_store(store);
	store_close(store);
	store = open_store(place);
	sweep_all(store, &nothing, &last, false);
	assert_true(pack_bytes(store) <= 8192);
	check_number(store, COUNT, COUNT, SIZE);
	check_store(store);
	{
		struct reader *reader;
		MDB_stat dead;

		assert_ok(reader_acquire(store, &reader));
		assert_int_equal(mdb_stat(reader_txn(reader), store->env.dbi[DB_PUNCHES], &dead),
				 0);
		assert_int_equal(dead.ms_entries, 1);
		reader_release(reader);
	}
	idset_release(&even);
	idset_release(&last);
	store_close(store);
}

static void empty_packs_are_removed(void **state)
{
	enum { COUNT = 40, SIZE = 60000 };
	struct place *place = *state;
	struct store *store = new_store(place, "none");
	struct idset kept = IDSET_INIT;
	struct sweep_result result;
	struct chunk_info info;
	char path[PATH_MAX + 128];
	struct stat st;

	store->packs.max = 256 * 1024; /* four records */
	for (uint64_t i = 1; i <= COUNT; i++)
		store_number(store, i, SIZE, false);
	commit_all(store);
	assert_ok(chunk_info(store, 18, &info));
	assert_int_equal(info.pack, 5);
	mark(&kept, 18);
	result = sweep_all(store, &nothing, &kept, false);
	assert_int_equal(result.chunks, COUNT - 1);
	assert_int_equal(result.packs, 8); /* of 10: one has a chunk, one is current */
	for (uint64_t number = 1; number <= 10; number++) {
		snprintf(path, sizeof(path), "%s/packs/%08" PRIx64, place->path, number);
		assert_int_equal(stat(path, &st), number == 5 || number == 10 ? 0 : -1);
	}
	check_store(store);
	assert_gone(store, 1);
	/* Numbers are not used again. */
	store->packs.max = 8;
	assert_ok(chunk_info(store, store_number(store, 99, SIZE, false), &info));
	assert_int_equal(info.pack, 11);
	commit_all(store);
	store_close(store);
	store = open_store(place);
	check_number(store, 18, 18, SIZE);
	assert_int_equal(store->packs.next_number, 12);
	check_store(store);
	idset_release(&kept);
	store_close(store);
}

static int refuse_punch(void *context, int fd, uint64_t offset, uint64_t length)
{
	(void)context;
	(void)fd;
	(void)offset;
	(void)length;
	return -EIO;
}

static void interrupted_punches_are_finished_at_open(void **state)
{
	enum { COUNT = 50, SIZE = 40000 };
	struct place *place = *state;
	struct io_ops ops = io_system;
	struct io io = {&ops, NULL};
	struct sweep_result result;
	struct idset kept = IDSET_INIT;
	struct sweep *sweep;
	struct store *store;
	uint64_t before;

	make_store(place, "none");
	store = open_store_with(place, 0, &io);
	for (uint64_t i = 1; i <= COUNT; i++)
		store_number(store, i, SIZE, false);
	commit_all(store);
	before = pack_bytes(store);
	mark(&kept, 7);
	ops.punch = refuse_punch;
	assert_ok(sweep_begin(store, &sweep));
	assert_error(sweep_run(sweep, &nothing, &kept, false, NULL, NULL, &result), EIO);
	sweep_end(sweep);
	assert_int_equal(pack_bytes(store), before);
	check_store(store);
	store_close(store);

	store = open_store_with(place, 0, &io); /* still in vain, but it opens */
	assert_int_equal(pack_bytes(store), before);
	store_close(store);

	store = open_store(place);
	assert_true(pack_bytes(store) <= SIZE + 3 * 4096);
	check_number(store, 7, 7, SIZE);
	check_store(store);
	idset_release(&kept);
	store_close(store);
}

/*
 * Writers that store, share and drop chunks, against collections.  A writer holds the gate for
 * reading from chunk_store() until its id is in `held`; the collector takes it for writing once,
 * which is the waiting that sweep.h asks for.
 */
enum { WRITERS = 4, CONTENTS = 300, SLOTS = 16, ROUNDS = 40, CONTENT_SIZE = 6000 };

struct market {
	struct store *store;
	pthread_rwlock_t gate;
	struct held {
		uint64_t id, content;
	} held[WRITERS][SLOTS];
	_Atomic bool stop;
	_Atomic int result;
};

struct writer {
	struct market *market;
	unsigned number;
};

static void *trade(void *argument)
{
	struct writer *writer = argument;
	struct market *market = writer->market;
	uint64_t random = writer->number + 1;
	uint8_t bytes[CONTENT_SIZE], buffer[CONTENT_SIZE];

	while (!atomic_load(&market->stop) && !atomic_load(&market->result)) {
		struct held *held = &market->held[writer->number][next_random(&random) % SLOTS];
		uint64_t id, content = next_random(&random) % CONTENTS + 1;
		size_t length;
		int r;

		fill_random(bytes, sizeof(bytes), content);
		pthread_rwlock_rdlock(&market->gate);
		r = chunk_store(market->store, bytes, sizeof(bytes), &id, NULL);
		if (r == 0)
			*held = (struct held){id, content};
		pthread_rwlock_unlock(&market->gate);
		held = &market->held[writer->number][next_random(&random) % SLOTS];
		if (r == 0 && held->id) {
			fill_random(bytes, sizeof(bytes), held->content);
			r = chunk_read(market->store, held->id, buffer, sizeof(buffer), &length,
				       NULL);
			if (r == 0 && memcmp(bytes, buffer, sizeof(bytes)) != 0)
				r = -EPROTO;
		}
		if (r == 0 && next_random(&random) % 16 == 0)
			r = try_commit_all(market->store);
		if (r < 0)
			atomic_store(&market->result, r);
	}
	return NULL;
}

static void collect(struct market *market, struct sweep_result *total)
{
	struct idset marked = IDSET_INIT;
	struct sweep_result result;
	struct sweep *sweep;

	assert_ok(sweep_begin(market->store, &sweep));
	pthread_rwlock_wrlock(&market->gate);
	for (int i = 0; i < WRITERS; i++) {
		for (int j = 0; j < SLOTS; j++) {
			if (market->held[i][j].id)
				mark(&marked, market->held[i][j].id);
		}
	}
	pthread_rwlock_unlock(&market->gate);
	commit_all(market->store);
	assert_ok(sweep_run(sweep, &nothing, &marked, false, NULL, NULL, &result));
	sweep_end(sweep);
	total->chunks += result.chunks;
	total->packs += result.packs;
	idset_release(&marked);
}

/* Now and then so slow that a whole batch is forgotten between reading and confirming a hit. */
static ssize_t dawdle(void *context, int fd, struct iovec *vector, int count, uint64_t offset)
{
	static _Atomic unsigned calls;
	const struct timespec pause = {0, 4000000};
	ssize_t done = io_system.read(context, fd, vector, count, offset);

	if (atomic_fetch_add(&calls, 1) % 16 == 0)
		nanosleep(&pause, NULL);
	return done;
}

static void collections_beside_writers(void **state)
{
	struct place *place = *state;
	struct io_ops ops = io_system;
	struct io io = {&ops, NULL};
	struct market *market = calloc(1, sizeof(*market));
	struct writer writers[WRITERS];
	pthread_t threads[WRITERS];
	struct sweep_result total = {0};

	assert_non_null(market);
	ops.read = dawdle;
	make_store(place, "none");
	market->store = open_store_with(place, 0, &io);
	market->store->packs.max = 64 * 1024;
	assert_int_equal(pthread_rwlock_init(&market->gate, NULL), 0);
	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){market, i};
		assert_int_equal(pthread_create(&threads[i], NULL, trade, &writers[i]), 0);
	}
	for (int i = 0; i < ROUNDS || (total.chunks < 1000 && i < 50 * ROUNDS); i++)
		collect(market, &total);
	atomic_store(&market->stop, true);
	for (int i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	assert_ok(atomic_load(&market->result));
	assert_true(total.chunks > 0); /* how many depends on the machine */
	commit_all(market->store);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < WRITERS; i++) {
			for (int j = 0; j < SLOTS; j++) {
				struct held *held = &market->held[i][j];

				if (held->id)
					check_number(market->store, held->id, held->content,
						     CONTENT_SIZE);
			}
		}
		check_store(market->store);
		store_close(market->store);
		market->store = open_store(place);
	}
	store_close(market->store);
	pthread_rwlock_destroy(&market->gate);
	free(market);
}

/* Stores chunks, keeps every tenth, sweeps, for ever. */
static void sweep_until_killed(const char *path)
{
	struct store *store;

	if (store_open(path, 0, NULL, &store, NULL) < 0)
		_exit(1);
	store->packs.max = 200 * 1024;
	for (;;) {
		struct idset kept = IDSET_INIT;
		struct sweep_result result;
		struct sweep *sweep;
		uint8_t bytes[3000];

		for (int i = 0; i < 100; i++) {
			uint64_t id;

			fill_random(bytes, sizeof(bytes), store_peek(store, COUNTER_CHUNK));
			if (chunk_store(store, bytes, sizeof(bytes), &id, NULL) < 0)
				_exit(1);
		}
		if (try_commit_all(store) < 0 || sweep_begin(store, &sweep) < 0)
			_exit(1);
		for (uint64_t id = 10; id < store_peek(store, COUNTER_CHUNK); id += 10)
			idset_add(&kept, id);
		if (sweep_run(sweep, &nothing, &kept, false, NULL, NULL, &result) < 0)
			_exit(1);
		sweep_end(sweep);
		idset_release(&kept);
	}
}

static void killed_collections_leave_a_good_store(void **state)
{
	struct place *place = *state;
	uint64_t reached = 0;

	make_store(place, "none");
	for (int life = 0; life < 15; life++) {
		const struct timespec pause = {0, 15000000 + life * 4444444};
		struct store *store;
		int status;
		pid_t child = fork();

		assert_true(child >= 0);
		if (child == 0)
			sweep_until_killed(place->path);
		nanosleep(&pause, NULL);
		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status));
		store = open_store(place);
		check_store(store);
		reached = store_peek(store, COUNTER_CHUNK);
		for (uint64_t id = 10; id < reached; id += 10)
			check_number(store, id, id, 3000);
		store_close(store);
	}
	assert_true(reached > 300);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		index_test(unmarked_goes_and_marked_stays),
		index_test(what_is_new_or_hit_is_saved),
		index_test(stopping_keeps_what_is_done),
		index_test(neighbours_are_punched_together),
		index_test(empty_packs_are_removed),
		index_test(interrupted_punches_are_finished_at_open),
		index_test(collections_beside_writers),
		index_test(killed_collections_leave_a_good_store),
	};

	return cmocka_run_group_tests_name("index: sweep", tests, NULL, NULL);
}
