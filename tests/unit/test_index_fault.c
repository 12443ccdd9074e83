/*
 * Faults: the Nth call of each kind of I/O fails, for N = 1, 2, 3 … until the work completes,
 * once and for good; each time the store must come back with all that it had confirmed.  Then the
 * order of durability (I3), and a disk that is full to the last byte.
 */
#include "index_checking.h"

#include "index/relocate.h"

#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

enum kind { OPEN, WRITE, READ, SYNC, SYNC_DIR, PUNCH, TRUNCATE, UNLINK, KINDS };

static const char *const kind_names[KINDS] = {"open",	  "write", "read",     "sync",
					      "sync_dir", "punch", "truncate", "unlink"};

static struct fault {
	enum kind kind;
	uint64_t at; /* which call fails; 0: none */
	bool forever;
	int error;
	uint64_t calls[KINDS];
} fault;

static int strike(enum kind kind)
{
	uint64_t call = ++fault.calls[kind];

	if (kind != fault.kind || !fault.at || call < fault.at ||
	    (!fault.forever && call > fault.at))
		return 0;
	return fault.error;
}

static int faulty_open(void *context, int dirfd, const char *name, int flags, mode_t mode)
{
	int r = strike(OPEN);

	return r ? r : io_system.open(context, dirfd, name, flags, mode);
}

/* A write that fails has written half. */
static int faulty_write(void *context, int fd, struct iovec *vector, int count, uint64_t offset)
{
	int r = strike(WRITE);

	if (!r)
		return io_system.write(context, fd, vector, count, offset);
	if (count > 2)
		count = 2;
	vector[count - 1].iov_len /= 2;
	io_system.write(context, fd, vector, count, offset);
	return r;
}

static ssize_t faulty_read(void *context, int fd, struct iovec *vector, int count, uint64_t offset)
{
	int r = strike(READ);

	return r ? r : io_system.read(context, fd, vector, count, offset);
}

static int faulty_sync(void *context, int fd)
{
	int r = strike(SYNC);

	return r ? r : io_system.sync(context, fd);
}

static int faulty_sync_dir(void *context, int fd)
{
	int r = strike(SYNC_DIR);

	return r ? r : io_system.sync_dir(context, fd);
}

static int faulty_punch(void *context, int fd, uint64_t offset, uint64_t length)
{
	int r = strike(PUNCH);

	return r ? r : io_system.punch(context, fd, offset, length);
}

static int faulty_truncate(void *context, int fd, uint64_t length)
{
	int r = strike(TRUNCATE);

	return r ? r : io_system.truncate(context, fd, length);
}

static int faulty_unlink(void *context, int dirfd, const char *name)
{
	int r = strike(UNLINK);

	return r ? r : io_system.unlink(context, dirfd, name);
}

static const struct io_ops faulty = {
	.open = faulty_open,
	.write = faulty_write,
	.read = faulty_read,
	.sync = faulty_sync,
	.sync_dir = faulty_sync_dir,
	.punch = faulty_punch,
	.truncate = faulty_truncate,
	.unlink = faulty_unlink,
};
static const struct io faulty_io = {&faulty, NULL};

enum { CHUNKS = 32, SIZE = 5000, PER_PACK = 6 };

/* What the store has confirmed. */
struct known {
	uint64_t ids[CHUNKS + 1];   /* of contents 1 … */
	bool committed[CHUNKS + 1]; /* must be there */
	bool swept[CHUNKS + 1];	    /* may be gone */
};

static void fill(uint8_t bytes[SIZE], uint64_t content)
{
	fill_random(bytes, SIZE, content);
}

static int store_some(struct store *store, struct known *known, uint64_t first, uint64_t last)
{
	int failure = 0;

	for (uint64_t content = first; content <= last; content++) {
		uint8_t bytes[SIZE];
		int r;

		fill(bytes, content);
		r = chunk_store(store, bytes, SIZE, &known->ids[content], NULL);
		if (r < 0) {
			known->ids[content] = 0;
			failure = r;
		}
	}
	return failure;
}

static int commit_some(struct store *store, struct known *known)
{
	int r = try_commit_all(store);

	for (int content = 1; content <= CHUNKS && r == 0; content++)
		known->committed[content] = known->ids[content] != 0;
	return r;
}

static int sweep_some(struct store *store, struct known *known)
{
	struct idset none = IDSET_INIT, kept = IDSET_INIT;
	struct sweep_result result;
	struct sweep *sweep;
	int r = sweep_begin(store, &sweep);

	if (r < 0)
		return r;
	r = try_commit_all(store);
	for (int content = 1; content <= CHUNKS && r == 0; content++) {
		if (known->ids[content] &&
		    ((content % 3 == 0 && content > PER_PACK) || content > CHUNKS / 2))
			assert_true(idset_add(&kept, known->ids[content]) >= 0);
		else
			known->swept[content] = true;
	}
	if (r == 0)
		r = sweep_run(sweep, &none, &kept, false, NULL, NULL, &result);
	sweep_end(sweep);
	idset_release(&kept);
	return r;
}

static int move_some(struct store *store, const struct known *known)
{
	struct relocation *relocation;
	int failure = 0, r = relocation_begin(store, &relocation);

	if (r < 0)
		return r;
	for (int content = CHUNKS; content > 0; content--) {
		r = known->ids[content] ? relocation_add(relocation, known->ids[content], true) : 0;
		if (r < 0)
			failure = r;
	}
	/* What could not be done once is done when it can be. */
	r = relocation_flush(relocation);
	if (r < 0) {
		failure = r;
		relocation_flush(relocation);
	}
	relocation_end(relocation, NULL);
	return failure;
}

/* All the work; goes on after errors where a daemon would. */
static int work(struct place *place, struct known *known)
{
	struct store *store = NULL;
	int failure, r = store_open(place->path, 0, &faulty_io, &store, NULL);

	if (r < 0)
		return r;
	store->packs.max = PER_PACK * 5100;
	failure = store_some(store, known, 1, CHUNKS / 2);
	if ((r = commit_some(store, known)) < 0)
		failure = r;
	if ((r = store_some(store, known, CHUNKS / 2 - 5, CHUNKS)) < 0)
		failure = r;
	if ((r = store_presync(store)) < 0)
		failure = r;
	if ((r = commit_some(store, known)) < 0)
		failure = r;
	if ((r = sweep_some(store, known)) < 0)
		failure = r;
	if ((r = move_some(store, known)) < 0)
		failure = r;
	for (int content = 1; content <= CHUNKS; content++) {
		uint8_t bytes[SIZE], buffer[SIZE];
		size_t length;

		if (!known->ids[content] || known->swept[content])
			continue;
		fill(bytes, (uint64_t)content);
		r = chunk_read(store, known->ids[content], buffer, SIZE, &length, NULL);
		if (r < 0)
			failure = r;
		else
			assert_memory_equal(buffer, bytes, SIZE);
	}
	assert_int_equal(atomic_load(&store->order_violations), 0);
	store_close(store);
	return failure;
}

static void check_known(struct place *place, const struct known *known)
{
	struct store *store = open_store(place);

	check_store(store);
	for (int content = 1; content <= CHUNKS; content++) {
		uint8_t bytes[SIZE];

		if (!known->committed[content] || known->swept[content])
			continue;
		fill(bytes, (uint64_t)content);
		check_chunk(store, known->ids[content], bytes, SIZE);
	}
	/* And it works. */
	store_bytes(store, "after all that", 14, false);
	commit_all(store);
	check_store(store);
	store_close(store);
}

static void fail_each(struct place *place, enum kind kind, int error, bool forever)
{
	for (uint64_t at = 1;; at++) {
		struct known known = {0};
		int r;

		make_store(place, "none");
		fault = (struct fault){.kind = kind, .at = at, .forever = forever, .error = error};
		r = work(place, &known);
		fault.at = 0;
		check_known(place, &known);
		/* Something left over, for the second opening to cut and to remove. */
		remove_tree(place->path);
		if (fault.calls[kind] < at) {
			assert_ok(r);
			for (int content = 1; content <= CHUNKS; content++)
				assert_true(known.committed[content]);
			if (at == 1 && kind != TRUNCATE)
				fail_msg("no %s at all", kind_names[kind]);
			return;
		}
		/* A read or an unlink that fails may go unnoticed: the first only costs a
		 * duplicate, the second is made up for at the next open. */
		if (r == 0 && kind != READ && kind != UNLINK)
			fail_msg("%s %" PRIu64 " failed unnoticed", kind_names[kind], at);
		if (at > 12)
			at += at / 6; /* one of many alike */
	}
}

static void each_call_fails(void **state)
{
	for (enum kind kind = 0; kind < KINDS; kind++) {
		fail_each(*state, kind, -EIO, false);
		fail_each(*state, kind, -EIO, true);
	}
	fail_each(*state, WRITE, -ENOSPC, false);
	fail_each(*state, WRITE, -ENOSPC, true);
}

/* What opening does after a crash, with faults. */
static void each_call_fails_at_open(void **state)
{
	struct place *place = *state;

	for (enum kind kind = 0; kind < KINDS; kind++) {
		for (uint64_t at = 1;; at++) {
			struct known known = {0};
			struct store *store = NULL;
			int r;

			/* Packs to cut, packs to remove, ranges to punch. */
			make_store(place, "none");
			fault = (struct fault){
				.kind = PUNCH, .at = 1, .forever = true, .error = -EIO};
			work(place, &known);
			fault.at = 0;
			store = open_store_with(place, STORE_READ_ONLY, &faulty_io);
			store_close(store);
			fault = (struct fault){
				.kind = PUNCH, .at = 1, .forever = true, .error = -EIO};
			store = open_store_with(place, 0, &faulty_io);
			store->packs.max = PER_PACK * 5100;
			for (uint64_t content = 1000; content < 1030; content++) {
				uint8_t bytes[SIZE];

				fill(bytes, content);
				store_bytes(store, bytes, SIZE, false);
			}
			store_close(store);

			store = NULL;
			fault = (struct fault){.kind = kind, .at = at, .error = -EIO};
			r = store_open(place->path, 0, &faulty_io, &store, NULL);
			fault.at = 0;
			store_close(store);
			check_known(place, &known);
			remove_tree(place->path);
			if (fault.calls[kind] < at) {
				assert_ok(r);
				break;
			}
			if (kind != PUNCH)
				assert_int_equal(r, kind == OPEN && r == 0 ? 0 : -EIO);
		}
	}
}

/* After a failed sync nothing is committed any more, until the store is opened again. */
static void a_failed_sync_fails_the_store(void **state)
{
	struct place *place = *state;
	struct store *store;
	struct commit *commit;
	uint64_t id, kept;

	make_store(place, "none");
	fault = (struct fault){.kind = SYNC, .at = 2, .error = -EIO};
	store = open_store_with(place, 0, &faulty_io);
	kept = store_bytes(store, "kept", 4, false);
	commit_all(store);
	id = store_bytes(store, "lost", 4, false);
	assert_error(try_commit_all(store), EIO);
	assert_int_equal(store_failed(store), -EIO);
	assert_error(commit_begin(store, &commit), EIO);
	assert_error(store_presync(store), EIO);
	assert_error(chunk_store(store, "more", 4, &id, NULL), EIO);
	check_chunk(store, kept, "kept", 4); /* reading goes on */
	store_close(store);
	store = open_store(place);
	assert_int_equal(store_failed(store), 0);
	check_chunk(store, kept, "kept", 4);
	assert_int_equal(store_peek(store, COUNTER_CHUNK), id);
	store_close(store);
}

/* A failed write is not fatal, and its room is given back. */
static void a_failed_write_loses_no_room(void **state)
{
	struct place *place = *state;
	struct chunk_info info;
	struct store *store;
	uint64_t id;

	make_store(place, "none");
	fault = (struct fault){.kind = WRITE, .at = 2, .error = -ENOSPC};
	store = open_store_with(place, 0, &faulty_io);
	store_bytes(store, "one", 3, false);
	assert_error(chunk_store(store, "two", 3, &id, NULL), ENOSPC);
	assert_int_equal(store_failed(store), 0);
	assert_ok(chunk_info(store, store_bytes(store, "two", 3, false), &info));
	assert_int_equal(info.offset, record_size(3));
	commit_all(store);
	check_store(store);
	store_close(store);
}

/* A write that fails when others have already written behind it: its room becomes a dead range. */
static struct store *overtaken;

static int overtaken_write(void *context, int fd, struct iovec *vector, int count, uint64_t offset)
{
	struct store *store = overtaken;

	if (!store)
		return io_system.write(context, fd, vector, count, offset);
	overtaken = NULL;
	store_bytes(store, "faster", 6, false);
	return -EIO;
}

static void room_of_overtaken_writes_is_noted(void **state)
{
	struct place *place = *state;
	struct io_ops ops = io_system;
	struct io io = {&ops, NULL};
	struct store *store;
	struct reader *reader;
	struct state found;
	uint8_t bytes[20000];
	MDB_stat dead;
	uint64_t id;

	ops.write = overtaken_write;
	ops.punch = faulty_punch;
	make_store(place, "none");
	overtaken = store = open_store_with(place, 0, &io);
	fill_random(bytes, sizeof(bytes), 1);
	assert_error(chunk_store(store, bytes, sizeof(bytes), &id, NULL), EIO);
	assert_int_equal(store->packs.dead_count, 1);
	commit_all(store);
	assert_int_equal(store->packs.dead_count, 0);
	check_store(store);
	assert_ok(reader_acquire(store, &reader));
	assert_ok(env_get_state(&store->env, reader_txn(reader), &found));
	assert_int_equal(found.unpunched, 1);
	reader_release(reader);
	store_close(store);

	fault = (struct fault){.kind = KINDS};
	store = open_store_with(place, 0, &io);
	assert_int_equal(fault.calls[PUNCH], 1);
	assert_ok(reader_acquire(store, &reader));
	assert_ok(env_get_state(&store->env, reader_txn(reader), &found));
	assert_int_equal(found.unpunched, 0);
	assert_int_equal(mdb_stat(reader_txn(reader), store->env.dbi[DB_PUNCHES], &dead), 0);
	assert_int_equal(dead.ms_entries, 1);
	reader_release(reader);
	store_bytes(store, "faster", 6, true);
	check_store(store);
	store_close(store);
}

/* Two threads with the same bytes: the first fails when the second waits for it already. */
struct pair {
	struct store *store;
	pthread_mutex_t lock;
	bool failed; /* lock */
	int results[2];
};

static int pair_write(void *context, int fd, struct iovec *vector, int count, uint64_t offset)
{
	struct pair *pair = context;
	bool first;

	pthread_mutex_lock(&pair->lock);
	first = !pair->failed;
	pair->failed = true;
	pthread_mutex_unlock(&pair->lock);
	for (unsigned waiters = 0; first && !waiters; sched_yield()) {
		pthread_mutex_lock(&pair->store->chunks.lock);
		waiters = pair->store->chunks.waiters;
		pthread_mutex_unlock(&pair->store->chunks.lock);
	}
	return first ? -EIO : io_system.write(NULL, fd, vector, count, offset);
}

static void *store_in_pair(void *argument)
{
	struct pair *pair = argument;
	uint64_t id;
	int r = chunk_store(pair->store, "the same", 8, &id, NULL);

	pthread_mutex_lock(&pair->lock);
	pair->results[r == 0]++;
	pthread_mutex_unlock(&pair->lock);
	return NULL;
}

static void the_second_tries_itself(void **state)
{
	struct place *place = *state;
	struct pair pair = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct io_ops ops = io_system;
	struct io io = {&ops, &pair};
	pthread_t threads[2];

	ops.write = pair_write;
	make_store(place, "none");
	pair.store = open_store_with(place, 0, &io);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, store_in_pair, &pair), 0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(pair.results[0], 1);
	assert_int_equal(pair.results[1], 1);
	store_bytes(pair.store, "the same", 8, true);
	commit_all(pair.store);
	check_store(pair.store);
	store_close(pair.store);
}

/* I3, seen from outside: when commit_finish() returns nothing written is unsynced. */
static struct {
	unsigned unsynced[1024]; /* by descriptor */
	bool dir_unsynced;
} order;

static int ordered_open(void *context, int dirfd, const char *name, int flags, mode_t mode)
{
	if (flags & O_CREAT)
		order.dir_unsynced = true;
	return io_system.open(context, dirfd, name, flags, mode);
}

static int ordered_write(void *context, int fd, struct iovec *vector, int count, uint64_t offset)
{
	order.unsynced[fd]++;
	return io_system.write(context, fd, vector, count, offset);
}

static int ordered_sync(void *context, int fd)
{
	order.unsynced[fd] = 0;
	return io_system.sync(context, fd);
}

static int ordered_sync_dir(void *context, int fd)
{
	order.dir_unsynced = false;
	return io_system.sync_dir(context, fd);
}

static void packs_are_synced_before_the_index(void **state)
{
	struct place *place = *state;
	struct io_ops ops = io_system;
	struct io io = {&ops, NULL};
	struct store *store;
	uint64_t content = 1;

	ops.open = ordered_open;
	ops.write = ordered_write;
	ops.sync = ordered_sync;
	ops.sync_dir = ordered_sync_dir;
	make_store(place, "none");
	store = open_store_with(place, 0, &io);
	store->packs.max = 30000;
	for (int round = 0; round < 30; round++) {
		for (int i = 0; i < round; i++) {
			uint8_t bytes[SIZE];

			fill(bytes, content++);
			store_bytes(store, bytes, SIZE, false);
		}
		commit_all(store);
		for (size_t fd = 0; fd < 1024; fd++)
			assert_int_equal(order.unsynced[fd], 0);
		assert_false(order.dir_unsynced);
	}
	assert_int_equal(atomic_load(&store->order_violations), 0);
	/* More packs than stay open. */
	assert_true(store->packs.by_number.count > 64);
	assert_true(store->packs.open_files <= 64);
	check_store(store);
	store_close(store);
}

/* Fills the file system to the last block. */
static void fill_up(const char *directory)
{
	static const char zeros[65536];
	char path[PATH_MAX + 16];
	size_t size = sizeof(zeros);
	int fd;

	snprintf(path, sizeof(path), "%s/filler", directory);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	while (size >= 512) {
		if (write(fd, zeros, size) < 0)
			size /= 2;
	}
	close(fd);
}

static bool has_ballast(struct place *place)
{
	char path[PATH_MAX + 80];
	struct stat st;

	snprintf(path, sizeof(path), "%s/ballast", place->path);
	return stat(path, &st) == 0 && st.st_blocks > 0;
}

/* Deleting, committing and collecting with nothing left at all. */
static void on_a_full_disk(struct place *place)
{
	struct known known = {0};
	struct idset none = IDSET_INIT;
	struct sweep_result result;
	struct commit *commit;
	struct sweep *sweep;
	struct store *store;
	uint8_t bytes[SIZE];
	uint64_t id, content = 1;
	char filler[PATH_MAX + 16];
	int r = 0;

	make_store(place, "none");
	store = open_store(place);
	assert_true(has_ballast(place));
	assert_ok(store_some(store, &known, 1, CHUNKS));
	assert_ok(commit_some(store, &known));
	while (store_reserve(store, SIZE) == 0)
		content++;
	assert_true(content > 100);
	assert_true(store_space_low(store));
	store_unreserve(store, UINT64_MAX);

	fill_up(place->directory);
	nanosleep(&(struct timespec){0, 150000000}, NULL); /* until it asks again */
	assert_error(store_reserve(store, 1), ENOSPC);
	for (content = 1000; r == 0; content++) {
		fill(bytes, content);
		r = chunk_store(store, bytes, SIZE, &id, NULL);
	}
	assert_int_equal(r, -ENOSPC);
	assert_int_equal(store_failed(store), 0);

	/* Nodes that need new pages, until LMDB finds no room; then once more, with the ballast. */
	for (uint64_t round = 0; has_ballast(place); round++) {
		assert_true(round < 100);
		for (int attempt = 0; attempt < 2; attempt++) {
			r = commit_begin(store, &commit);
			assert_ok(r);
			for (uint64_t i = 0; i < 5; i++)
				put_node(commit, round * 5 + i + 1, round);
			r = commit_seal(commit);
			r = r == 0 ? commit_finish(commit) : (commit_abort(commit), r);
			if (r == 0)
				break;
			assert_int_equal(r, -ENOSPC);
		}
		assert_ok(r);
	}
	assert_int_equal(store_failed(store), 0);
	check_store(store);

	fill_up(place->directory);
	assert_ok(sweep_begin(store, &sweep));
	store->counters[COUNTER_NODE] = 1000;
	for (uint64_t i = 1; i <= 5; i++)
		assert_true(idset_add(&none, i) >= 0);
	r = try_commit_all(store);
	assert_true(r == 0 || r == -ENOSPC);
	snprintf(filler, sizeof(filler), "%s/filler", place->directory);
	r = sweep_run(sweep, &none, &none, false, NULL, NULL, &result);
	/* With the ballast gone too there may be no room even for this: then a file must go. */
	if (r == -ENOSPC) {
		assert_int_equal(truncate(filler, 65536), 0);
		r = sweep_run(sweep, &none, &none, false, NULL, NULL, &result);
	}
	assert_ok(r);
	sweep_end(sweep);
	idset_release(&none);
	check_store(store);
	assert_int_equal(unlink(filler), 0);
	nanosleep(&(struct timespec){0, 150000000}, NULL);
	store_bytes(store, "room again", 10, false);
	commit_all(store);
	assert_true(has_ballast(place));
	store_close(store);
	store = open_store(place);
	check_store(store);
	store_close(store);
}

static void a_full_disk_is_survived(void **state)
{
	struct place *place = *state;
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		if (unshare(CLONE_NEWNS) < 0 ||
		    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		    mount("tmpfs", place->directory, "tmpfs", 0, "size=8m") < 0)
			_exit(77);
		on_a_full_disk(place);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		print_message("SKIP: needs root, to mount a small file system\n");
		skip();
	}
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		index_test(each_call_fails),
		index_test(each_call_fails_at_open),
		index_test(a_failed_sync_fails_the_store),
		index_test(a_failed_write_loses_no_room),
		index_test(room_of_overtaken_writes_is_noted),
		index_test(the_second_tries_itself),
		index_test(packs_are_synced_before_the_index),
		index_test(a_full_disk_is_survived),
	};

	/* No power is cut here, so that memory will do for a disk. */
	if (access("/dev/shm", W_OK) == 0)
		setenv("TMPDIR", "/dev/shm", 0);
	return cmocka_run_group_tests_name("index: faults", tests, NULL, NULL);
}
