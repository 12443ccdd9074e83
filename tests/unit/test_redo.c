/*
 * The redo log: what a record holds comes back after a crash, whatever the crash, the disk or the
 * replay does; what is damaged is noticed; what must not count does not.
 *
 * A crash is a copy of the store's directory, or closing, which commits nothing.
 */
#include "index_checking.h"

#include "index/redo.h"

enum { SIZE = 5000, RECORDS = 5 };

/* ---- working with a log ---- */

/* A commit that carries the state, as those of the heads do. */
static int settle(struct store *store)
{
	struct commit *commit;
	int r = commit_begin(store, &commit);

	if (r < 0)
		return r;
	r = commit_settles_redo(commit);
	if (r == 0)
		r = commit_seal(commit);
	if (r < 0) {
		commit_abort(commit);
		return r;
	}
	return commit_finish(commit);
}

static void start_log(struct store *store)
{
	redo_prepare(store);
	assert_ok(settle(store));
	assert_false(redo_is_used(store));
}

static struct store *new_logged_store(struct place *place)
{
	struct store *store = new_store(place, "lz4");

	start_log(store);
	return store;
}

static int try_log(struct store *store, uint64_t number)
{
	uint8_t node[NODE_SIZE], bytes[SIZE];
	struct redo *redo;
	char name[24];
	uint64_t id;
	int r;

	fill_text(bytes, sizeof(bytes), number);
	r = chunk_store(store, bytes, sizeof(bytes), &id, NULL);
	if (r < 0)
		return r;
	assert_int_equal(id, number);
	r = redo_begin(store, &redo);
	if (r < 0)
		return r;
	fill_node(node, 100 + number, number);
	assert_ok(redo_put_node(redo, 100 + number, node));
	fill_node(node, 100, number); /* one that each record has */
	assert_ok(redo_put_node(redo, 100, node));
	if (number > 2)
		assert_ok(redo_delete_nodes(redo, (uint64_t[]){100 + number - 2}, 1));
	snprintf(name, sizeof(name), "record %d", (int)number);
	assert_ok(redo_put_record(redo, TABLE_NAMES, text(name), text("value")));
	r = redo_seal(redo);
	if (r < 0) {
		redo_abort(redo);
		return r;
	}
	return redo_finish(redo);
}

static void log_records(struct store *store, uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i <= to; i++)
		assert_ok(try_log(store, i));
}

/* The store is as record `last` left it. */
static void expect_records(struct store *store, uint64_t last)
{
	struct reader *reader;
	uint8_t bytes[SIZE];
	const uint8_t *node;
	struct bytes value;
	char name[24];

	check_store(store);
	assert_ok(reader_acquire(store, &reader));
	for (uint64_t i = 1; i <= RECORDS; i++) {
		bool there = i <= last;

		snprintf(name, sizeof(name), "record %d", (int)i);
		assert_int_equal(reader_record(reader, TABLE_NAMES, text(name), &value),
				 there ? 0 : -ENOENT);
		assert_int_equal(reader_node(reader, 100 + i, &node) == 0, there && i + 2 > last);
		if (there) {
			fill_text(bytes, sizeof(bytes), i);
			check_chunk(store, i, bytes, sizeof(bytes));
		}
	}
	assert_int_equal(reader_node(reader, 100, &node) == 0, last > 0);
	if (last)
		assert_int_equal(node_content(node), last);
	reader_release(reader);
	assert_int_equal(store_peek(store, COUNTER_CHUNK), last + 1);
}

static void log_path(struct place *place, char path[PATH_MAX + 80])
{
	snprintf(path, PATH_MAX + 80, "%s/redo", place->path);
}

static size_t log_read(struct place *place, uint8_t *bytes, size_t size)
{
	char path[PATH_MAX + 80];
	log_path(place, path);
	int fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	ssize_t done = pread(fd, bytes, size, 0);
	assert_true(done > 0);
	close(fd);
	return (size_t)done;
}

static void log_write(struct place *place, const uint8_t *bytes, size_t length)
{
	char path[PATH_MAX + 80];
	log_path(place, path);
	int fd = open(path, O_WRONLY);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, length, 0), length);
	close(fd);
}

/* Where record `number` begins; all are of the same size but the first two. */
static uint64_t record_at(const uint8_t *bytes, uint64_t number)
{
	uint64_t at = 0;

	for (; number; number--) {
		const struct disk_redo *header = (const void *)(bytes + at);

		assert_memory_equal(header->magic, REDO_MAGIC, 4);
		at += (sizeof(*header) + get_le64(header->length) + REDO_ALIGN - 1) / REDO_ALIGN *
		      REDO_ALIGN;
	}
	return at;
}

/* A directory beside the store that holds the same; removed with the test's. */
static void copy(struct place *place, struct place *ret)
{
	char command[3 * PATH_MAX + 1024];

	*ret = *place;
	snprintf(ret->path, sizeof(ret->path), "%s/copy", place->directory);
	snprintf(command, sizeof(command), "rm -rf '%s' && cp -a --sparse=always '%s' '%s'",
		 ret->path, place->path, ret->path);
	assert_int_equal(system(command), 0);
}

/* ---- what it is for ---- */

static void records_come_back(void **state)
{
	struct place *place = *state;
	struct store *store = new_logged_store(place);

	log_records(store, 1, RECORDS);
	assert_true(redo_is_used(store));
	assert_ok(redo_verify(store));
	store_close(store);

	store = open_store(place);
	assert_int_equal(store->redo.replayed, RECORDS);
	assert_false(redo_is_used(store));
	expect_records(store, RECORDS);
	store_close(store);

	store = open_store(place); /* once */
	assert_int_equal(store->redo.replayed, 0);
	expect_records(store, RECORDS);
	store_close(store);
}

static void a_commit_settles_the_log(void **state)
{
	struct place *place = *state;
	struct store *store = new_logged_store(place);
	uint64_t epoch = store->redo.epoch;

	log_records(store, 1, 2);
	commit_all(store); /* one that does not carry the state: the records still count */
	assert_true(redo_is_used(store));
	log_records(store, 3, 3);
	assert_ok(settle(store));
	assert_false(redo_is_used(store));
	assert_int_not_equal(store->redo.epoch, epoch);
	store_close(store);
	store = open_store(place);
	assert_int_equal(store->redo.replayed, 0);
	start_log(store);
	log_records(store, 4, 4);
	store_close(store);
	store = open_store(place);
	assert_int_equal(store->redo.replayed, 1);
	store_close(store);
}

/* Chunks that another commit has put into the index meanwhile are there once. */
static void commits_beside_the_log(void **state)
{
	struct place *place = *state;
	struct store *store = new_logged_store(place);

	log_records(store, 1, 3);
	commit_all(store);
	log_records(store, 4, RECORDS);
	store_close(store);
	store = open_store(place);
	assert_int_equal(store->redo.replayed, RECORDS);
	expect_records(store, RECORDS);
	store_close(store);
}

static void deduplication_finds_what_the_log_has(void **state)
{
	struct place *place = *state;
	struct store *store = new_logged_store(place);
	uint8_t bytes[SIZE];

	log_records(store, 1, 2);
	fill_text(bytes, sizeof(bytes), 1);
	assert_int_equal(store_bytes(store, bytes, sizeof(bytes), true), 1);
	store_close(store);
	store = open_store(place);
	assert_int_equal(store_bytes(store, bytes, sizeof(bytes), true), 1);
	expect_records(store, 2);
	store_close(store);
}

/* A store that was made before there was a log, which has none yet. */
static void without_a_log(void **state)
{
	struct place *place = *state;
	struct store *store = new_store(place, "none");
	char path[PATH_MAX + 80];
	struct redo *redo;

	log_path(place, path);
	assert_int_equal(access(path, F_OK), -1);
	assert_error(redo_begin(store, &redo), EAGAIN);
	assert_ok(settle(store));
	assert_int_equal(store->redo.epoch, 0);
	redo_prepare(store);
	assert_error(redo_begin(store, &redo), EAGAIN); /* the index does not know of it */
	assert_ok(settle(store));
	log_records(store, 1, 1);
	store_close(store);
	store = open_store(place);
	expect_records(store, 1);
	store_close(store);
	assert_int_equal(unlink(path), 0); /* what FORMAT.md allows */
	store = open_store(place);
	expect_records(store, 1);
	start_log(store);
	log_records(store, 2, 2);
	store_close(store);
	store = open_store(place);
	expect_records(store, 2);
	store_close(store);
}

/* ---- crashes ---- */

/* Of the last record only what lies before a sector has reached the disk, or only what lies behind;
 * the rest is what was there before. */
static void torn_at_every_sector(void **state)
{
	enum { BEFORE = 3, SECTOR = 512 };
	static uint8_t old[1 << 20], new[1 << 20], mixed[1 << 20];
	struct place *place = *state, broken;
	struct store *store = new_logged_store(place);

	/* Not onto zeros: onto records of an earlier epoch. */
	log_records(store, 1, RECORDS);
	store_close(store);
	size_t length = log_read(place, old, sizeof(old));
	remove_tree(place->path);
	store = new_logged_store(place);
	log_write(place, old, length);
	log_records(store, 1, BEFORE);
	log_read(place, old, sizeof(old));
	log_records(store, BEFORE + 1, BEFORE + 1);
	log_read(place, new, sizeof(new));
	store_close(store);
	uint64_t begin = record_at(new, BEFORE), end = record_at(new, BEFORE + 1);
	for (uint64_t cut = begin; cut <= end; cut += SECTOR) {
		for (int side = 0; side < 2; side++) {
			memcpy(mixed, side ? new : old, sizeof(mixed));
			memcpy(mixed + begin, (side ? old : new) + begin, cut - begin);
			bool whole = memcmp(mixed + begin, new + begin, end - begin) == 0;
			copy(place, &broken);
			log_write(&broken, mixed, sizeof(mixed));
			store = open_store(&broken);
			expect_records(store, whole ? BEFORE + 1 : BEFORE);
			/* and life goes on */
			start_log(store);
			assert_int_equal(store_peek(store, COUNTER_CHUNK),
					 whole ? BEFORE + 2 : BEFORE + 1);
			log_records(store, whole ? BEFORE + 2 : BEFORE + 1, RECORDS);
			store_close(store);
			store = open_store(&broken);
			expect_records(store, RECORDS);
			store_close(store);
		}
	}
}

static void refuse(struct place *place, unsigned flags, int error, const char *words)
{
	struct errbuf err = {""};
	struct store *store;

	assert_error(store_open(place->path, flags, NULL, &store, &err), error);
	if (!strstr(err.text, words))
		fail_msg("\"%s\" is not in: %s", words, err.text);
}

/* What was confirmed is never dropped in silence. */
static void damage_is_noticed(void **state)
{
	struct place *place = *state, broken;
	struct store *store = new_logged_store(place);
	static uint8_t bytes[1 << 20];
	char path[PATH_MAX + 80];

	log_records(store, 1, RECORDS);
	log_read(place, bytes, sizeof(bytes));
	log_path(place, path);
	flip(path, record_at(bytes, 2) + 3000, 1);
	assert_error(redo_verify(store), EBADMSG);
	store_close(store);
	for (int record = 0; record < RECORDS; record++) {
		copy(place, &broken);
		log_write(&broken, bytes, sizeof(bytes));
		log_path(&broken, path);
		flip(path, record_at(bytes, (uint64_t)record) + 200, 5);
		if (record == RECORDS - 1) { /* as if torn */
			store = open_store(&broken);
			expect_records(store, RECORDS - 1);
			store_close(store);
			continue;
		}
		refuse(&broken, 0, EBADMSG, "remove the file \"redo\"");
		refuse(&broken, STORE_READ_ONLY, EBADMSG, "remove the file \"redo\"");
		assert_int_equal(unlink(path), 0);
		store = open_store(&broken);
		expect_records(store, 0);
		store_close(store);
	}
}

/* Records of another epoch, or of this one after it has ended. */
static void other_epochs_do_not_count(void **state)
{
	struct place *place = *state;
	struct store *store = new_logged_store(place);
	static uint8_t bytes[1 << 20];

	log_records(store, 1, 2);
	log_read(place, bytes, sizeof(bytes));
	store_close(store);
	store_close(open_store(place));
	log_write(place, bytes, sizeof(bytes)); /* as before they were taken over */
	store = open_store(place);
	assert_int_equal(store->redo.replayed, 0);
	expect_records(store, 2);
	start_log(store);
	log_records(store, 3, 3); /* over record 0 of the old ones, before the others */
	store_close(store);
	store = open_store(place);
	assert_int_equal(store->redo.replayed, 1);
	expect_records(store, 3);
	store_close(store);
}

static void readers_see_what_the_log_has(void **state)
{
	struct place *place = *state;
	struct store *store = new_logged_store(place);
	int status;

	log_records(store, 1, 3);
	pid_t child = fork();
	if (child == 0) { /* beside a writer: the last commit */
		execl("/proc/self/exe", "test_redo", place->path, (char *)NULL);
		_exit(1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	store_close(store);
	store = open_store_with(place, STORE_READ_ONLY, NULL);
	expect_records(store, 3);
	store_close(store);
}

/* The other process of the test above. */
static int count_chunks(const char *path)
{
	struct errbuf err = {""};
	struct store_statistics statistics;
	struct store *store;

	if (store_open(path, STORE_READ_ONLY, NULL, &store, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		return 2;
	}
	if (err.text[0] || store_statistics(store, &statistics) < 0)
		return 3;
	store_close(store);
	return statistics.chunks == 0 ? 0 : 4;
}

/* ---- faults ---- */

enum kind { WRITE, READ, SYNC, SYNC_DIR, OPEN, TRUNCATE, KINDS };

static struct fault {
	enum kind kind;
	int at; /* 0: none */
	int error;
	int calls;
} fault;

static int strike(enum kind kind)
{
	if (kind != fault.kind || !fault.at)
		return 0;
	return ++fault.calls == fault.at ? fault.error : 0;
}

static int faulty_open(void *context, int dirfd, const char *name, int flags, mode_t mode)
{
	int r = strike(OPEN);

	return r ? r : io_system.open(context, dirfd, name, flags, mode);
}

/* One that fails has written half. */
static int faulty_write(void *context, int fd, struct iovec *vector, int count, uint64_t offset)
{
	int r = strike(WRITE);

	if (r) {
		vector[1].iov_len /= 2;
		count = 2;
	}
	int written = io_system.write(context, fd, vector, count, offset);
	return r ? r : written;
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

static int faulty_truncate(void *context, int fd, uint64_t length)
{
	int r = strike(TRUNCATE);

	return r ? r : io_system.truncate(context, fd, length);
}

static struct io faulty_io(void)
{
	static struct io_ops ops;

	ops = io_system;
	ops.open = faulty_open;
	ops.write = faulty_write;
	ops.read = faulty_read;
	ops.sync = faulty_sync;
	ops.sync_dir = faulty_sync_dir;
	ops.truncate = faulty_truncate;
	return (struct io){&ops, NULL};
}

/* Whatever call of a replay fails, the next opening has everything. */
static void replay_with_faults(void **state)
{
	struct place *place = *state, broken;
	struct store *store = new_logged_store(place);
	const struct io io = faulty_io();

	log_records(store, 1, RECORDS);
	store_close(store);
	for (int kind = 0; kind < KINDS; kind++) {
		bool done = false;

		for (int at = 1; !done; at++) {
			assert_true(at < 100);
			copy(place, &broken);
			fault = (struct fault){.kind = (enum kind)kind,
					       .at = at,
					       .error = at % 2 ? -EIO : -ENOSPC};
			if (store_open(broken.path, 0, &io, &store, NULL) == 0)
				store_close(store);
			done = fault.calls < at;
			fault.at = 0;
			store = open_store(&broken);
			expect_records(store, RECORDS);
			store_close(store);
		}
	}
}

/* The process ends in the middle of a replay: at its commit's sync. */
static void replay_is_repeated(void **state)
{
	struct place *place = *state;
	struct store *store = new_logged_store(place);
	const struct io io = faulty_io();

	log_records(store, 1, RECORDS);
	store_close(store);
	for (int i = 0; i < 3; i++) {
		fault = (struct fault){.kind = SYNC, .at = 1, .error = -EIO};
		assert_error(store_open(place->path, 0, &io, &store, NULL), EIO);
	}
	fault.at = 0;
	store = open_store(place);
	expect_records(store, RECORDS);
	store_close(store);
}

/* What was confirmed before is there; the record that failed may be. */
static void failed_writes(void **state)
{
	struct place *place = *state;
	const struct io io = faulty_io();

	for (int at = 1; at <= 3; at++) {
		for (int sync = 0; sync < 2; sync++) {
			struct store *store;

			remove_tree(place->path);
			make_store(place, "lz4");
			store = open_store_with(place, 0, &io);
			start_log(store);
			log_records(store, 1, 2);
			/* A record is two writes (one into a pack) and one sync. */
			fault = (struct fault){
				.kind = sync ? SYNC : WRITE, .at = sync ? 1 : 2, .error = -EIO};
			assert_error(try_log(store, 3), EIO);
			fault.at = 0;
			assert_error(store_failed(store), EIO);
			assert_error(try_log(store, 4), EIO);
			assert_error(settle(store), EIO);
			store_close(store);
			store = open_store(place);
			uint64_t found = store->redo.replayed;
			assert_true(found == 2 || (sync && found == 3));
			expect_records(store, found);
			store_close(store);
		}
	}
}

/* On a full disk the log is out of use until there was a commit; nothing is lost. */
static void no_room_for_a_record(void **state)
{
	struct place *place = *state;
	const struct io io = faulty_io();
	struct store *store;
	struct redo *redo;

	make_store(place, "lz4");
	store = open_store_with(place, 0, &io);
	start_log(store);
	log_records(store, 1, 2);
	fault = (struct fault){.kind = WRITE, .at = 2, .error = -ENOSPC};
	assert_error(try_log(store, 3), EAGAIN);
	fault.at = 0;
	assert_ok(store_failed(store));
	assert_error(redo_begin(store, &redo), EAGAIN);
	commit_all(store); /* not the one that is needed */
	assert_error(redo_begin(store, &redo), EAGAIN);
	assert_ok(settle(store));
	assert_ok(try_log(store, 4));
	store_close(store);
	store = open_store(place);
	assert_int_equal(store->redo.replayed, 1);
	check_store(store);
	assert_int_equal(store_peek(store, COUNTER_CHUNK), 5);
	store_close(store);
}

/* The log cannot be made: then there is none, and nobody is told. */
static void making_it_fails(void **state)
{
	struct place *place = *state, broken;
	const struct io io = faulty_io();
	struct store *store;
	struct redo *redo;

	make_store(place, "lz4");
	for (int kind = 0; kind < KINDS; kind++) {
		bool done = false;

		for (int at = 1; !done; at++) {
			assert_true(at < 50);
			copy(place, &broken);
			store = open_store_with(&broken, 0, &io);
			fault = (struct fault){.kind = (enum kind)kind, .at = at, .error = -EIO};
			redo_prepare(store);
			done = fault.calls < at;
			fault.at = 0;
			assert_ok(store_failed(store));
			assert_ok(settle(store));
			if (!done && kind != TRUNCATE && kind != READ)
				assert_error(redo_begin(store, &redo), EAGAIN);
			store_close(store);
			store = open_store(&broken);
			start_log(store);
			log_records(store, 1, 2);
			store_close(store);
			store = open_store(&broken);
			expect_records(store, 2);
			store_close(store);
		}
	}
}

/* ---- limits ---- */

static void a_full_log_grows(void **state)
{
	struct place *place = *state;
	struct store *store = new_logged_store(place);
	uint64_t capacity = store->redo.capacity, number = 1;
	struct redo *redo;
	int r;

	assert_int_equal(capacity, REDO_MIN);
	while ((r = try_log(store, number)) == 0)
		number++;
	assert_error(r, EAGAIN);
	assert_true(number > REDO_MIN / (5 * REDO_ALIGN));
	assert_error(redo_begin(store, &redo), EAGAIN);
	assert_ok(settle(store));
	redo_prepare(store);
	assert_int_equal(store->redo.capacity, 2 * capacity);
	assert_ok(try_log(store, number + 1));
	store_close(store);
	store = open_store(place);
	assert_int_equal(store->redo.replayed, 1);
	assert_int_equal(store->redo.capacity, 2 * capacity);
	assert_int_equal(store_peek(store, COUNTER_CHUNK), number + 2);
	store_close(store);
}

static void large_records_are_commits(void **state)
{
	struct place *place = *state;
	struct store *store = new_logged_store(place);
	static uint8_t bytes[CHUNK_MAX];
	struct redo *redo;

	for (uint64_t i = 0; i < REDO_RECORD_MAX / CHUNK_MAX; i++) {
		fill_random(bytes, sizeof(bytes), i);
		store_bytes(store, bytes, sizeof(bytes), false);
	}
	assert_ok(redo_begin(store, &redo));
	assert_error(redo_seal(redo), EAGAIN);
	redo_abort(redo);
	assert_error(redo_begin(store, &redo), EAGAIN);
	assert_ok(settle(store));
	assert_ok(redo_begin(store, &redo));
	assert_ok(redo_seal(redo));
	assert_ok(redo_finish(redo));
	check_store(store);
	store_close(store);
}

static void misuse_is_refused(void **state)
{
	struct place *place = *state;
	struct store *store = new_logged_store(place);
	uint8_t node[NODE_SIZE];
	struct redo *redo;

	assert_ok(redo_begin(store, &redo));
	fill_node(node, 8, 0);
	assert_error(redo_put_node(redo, 7, node), EINVAL);
	assert_error(redo_put_node(redo, 8, node), EINVAL); /* it sticks */
	assert_error(redo_seal(redo), EINVAL);
	redo_abort(redo);
	assert_ok(settle(store));
	store_close(store);
	store = open_store_with(place, STORE_READ_ONLY, NULL);
	assert_error(redo_begin(store, &redo), EROFS);
	store_close(store);
}

/* ---- the format file ---- */

static void format_tells_of_the_log(void **state)
{
	struct place *place = *state;
	char path[PATH_MAX + 80], line[4096] = "";

	make_store(place, "none");
	snprintf(path, sizeof(path), "%s/format", place->path);
	for (int round = 0; round < 3; round++) {
		FILE *file = fopen(path, "re");
		bool told = false;

		assert_non_null(file);
		while (fgets(line, sizeof(line), file))
			told = told || strcmp(line, "readonly: redo\n") == 0;
		fclose(file);
		assert_int_equal(told, round > 0);
		struct store *store = open_store(place);
		start_log(store);
		store_close(store);
	}
	store_close(open_store_with(place, STORE_READ_ONLY, NULL));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		index_test(records_come_back),
		index_test(a_commit_settles_the_log),
		index_test(commits_beside_the_log),
		index_test(deduplication_finds_what_the_log_has),
		index_test(without_a_log),
		index_test(torn_at_every_sector),
		index_test(damage_is_noticed),
		index_test(other_epochs_do_not_count),
		index_test(readers_see_what_the_log_has),
		index_test(replay_with_faults),
		index_test(replay_is_repeated),
		index_test(failed_writes),
		index_test(no_room_for_a_record),
		index_test(making_it_fails),
		index_test(a_full_log_grows),
		index_test(large_records_are_commits),
		index_test(misuse_is_refused),
		index_test(format_tells_of_the_log),
	};

	if (argc == 2)
		return count_chunks(argv[1]);
	return cmocka_run_group_tests_name("redo log", tests, NULL, NULL);
}
