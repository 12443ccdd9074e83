/* The data engine under load: memory limits, streams, many small files, failing disks, speed. */
#include <pthread.h>
#include <stdatomic.h>

#include "data_testing.h"

static double seconds_since(double begin_ms)
{
	return (now_ms() - begin_ms) / 1e3;
}

static void random_fill(uint8_t *bytes, size_t length, uint64_t seed)
{
	struct random random = random_from(seed);
	for (size_t i = 0; i + 8 <= length; i += 8) {
		uint64_t word = random_next(&random);
		memcpy(bytes + i, &word, 8);
	}
}

static uint8_t *allocate(size_t length)
{
	uint8_t *bytes = malloc(length);
	assert_non_null(bytes);
	return bytes;
}

static unsigned scale(unsigned normal)
{
	const char *text = getenv("CAIRN_TEST_SCALE");
	return text ? normal * (unsigned)atoi(text) : normal;
}

/* ---- memory ---- */

struct writer {
	struct bench *bench;
	struct inode *inode;
	size_t most; /* the largest sum seen */
};

static void *write_much(void *context)
{
	enum { REQUEST = 1 << 20, REQUESTS = 24 };
	struct writer *writer = context;
	uint8_t *bytes = allocate(REQUEST);
	for (int i = 0; i < REQUESTS; i++) {
		random_fill(bytes, REQUEST, (uint64_t)i + writer->inode->ino * 1000);
		size_t length = i % 3 ? REQUEST : 5000;
		bench_write_request(writer->bench, writer->inode, (uint64_t)i * REQUEST, bytes,
				    length);
		size_t charged = buffer_pool_charged(engine_buffers(writer->bench->engine));
		if (charged > writer->most)
			writer->most = charged;
	}
	free(bytes);
	return NULL;
}

static void writers_are_throttled(void **state)
{
	enum { WRITERS = 4, BUDGET = 8 << 20 };
	const struct engine_options options = {.workers = 2, .dirty_budget = BUDGET};
	struct bench bench;
	struct writer writers[WRITERS];
	pthread_t threads[WRITERS];

	(void)state;
	bench_create(&bench, &options);
	for (int i = 0; i < WRITERS; i++) {
		char name[32];
		snprintf(name, sizeof(name), "file-%d", i);
		writers[i] = (struct writer){&bench, bench_file(&bench, name), 0};
	}
	for (int i = 0; i < WRITERS; i++)
		must(pthread_create(&threads[i], NULL, write_much, &writers[i]));
	for (int i = 0; i < WRITERS; i++) {
		must(pthread_join(threads[i], NULL));
		assert_true(writers[i].most <= BUDGET + (2 << 20));
		print_message("at most %zu KiB held\n", writers[i].most >> 10);
		inode_unref(writers[i].inode);
	}
	must(repo_commit(bench.store.repo));
	assert_int_equal(engine_dirty_bytes(bench.engine), 0);
	assert_int_equal(buffer_pool_charged(engine_buffers(bench.engine)), 0);
	assert_sound(bench.store.repo, true);
	bench_destroy(&bench);
}

/* Waiting for room and flushing must go on when every worker does just that. */
struct nested {
	struct job job;
	struct bench *bench;
	struct inode *inode;
	_Atomic int *left;
};

static void nested_run(struct job *job)
{
	enum { REQUEST = 1 << 20 };
	struct nested *nested = (struct nested *)job;
	uint8_t *bytes = allocate(REQUEST);
	for (int i = 0; i < 12; i++) {
		random_fill(bytes, REQUEST, (uint64_t)i + nested->inode->ino * 100);
		bench_write_request(nested->bench, nested->inode, (uint64_t)i * REQUEST, bytes,
				    REQUEST);
	}
	must(data_flush_all(nested->bench->engine, &nested->bench->table));
	must(repo_commit(nested->bench->store.repo));
	free(bytes);
	atomic_fetch_sub(nested->left, 1);
}

static void workers_may_wait_themselves(void **state)
{
	enum { JOBS = 6 };
	const struct engine_options options = {.workers = 2, .dirty_budget = 4 << 20};
	struct bench bench;
	struct nested jobs[JOBS];
	_Atomic int left = JOBS;

	(void)state;
	bench_create(&bench, &options);
	for (int i = 0; i < JOBS; i++) {
		char name[32];
		snprintf(name, sizeof(name), "file-%d", i);
		jobs[i] = (struct nested){.job = {.run = nested_run},
					  .bench = &bench,
					  .inode = bench_file(&bench, name),
					  .left = &left};
	}
	for (int i = 0; i < JOBS; i++)
		engine_submit(bench.engine, &jobs[i].job, i % 2);
	while (atomic_load(&left))
		usleep(1000);
	for (int i = 0; i < JOBS; i++)
		inode_unref(jobs[i].inode);
	assert_int_equal(engine_dirty_bytes(bench.engine), 0);
	assert_sound(bench.store.repo, true);
	bench_destroy(&bench);
}

/* A commit holds the locks of both heads while it waits for the batches of one. */
static void *write_and_commit(void *context)
{
	struct writer *writer = context;
	write_much(writer);
	must(repo_commit(writer->bench->store.repo));
	return write_much(writer);
}

static void two_workspaces_share_an_engine(void **state)
{
	enum { WRITERS = 4 };
	const struct engine_options options = {.workers = 2, .dirty_budget = 8 << 20};
	struct bench bench, other = {.flush_error = 0};
	struct writer writers[WRITERS];
	pthread_t threads[WRITERS];

	(void)state;
	bench_create(&bench, &options);
	must(workspace_create(bench.store.repo, "other", 0, 0, NULL, NULL));
	other.store.repo = bench.store.repo;
	other.engine = bench.engine;
	must(repo_head(bench.store.repo, "other", &other.store.head, NULL));
	inode_table_init(&other.table, other.store.head);
	must(head_attach(other.store.head, &bench_ops, &other));
	for (int i = 0; i < WRITERS; i++) {
		struct bench *where = i % 2 ? &bench : &other;
		writers[i] = (struct writer){where, bench_file(where, i / 2 ? "a" : "b"), 0};
	}
	for (int i = 0; i < WRITERS; i++)
		must(pthread_create(&threads[i], NULL, write_and_commit, &writers[i]));
	for (int i = 0; i < WRITERS; i++) {
		must(pthread_join(threads[i], NULL));
		inode_unref(writers[i].inode);
	}
	must(repo_commit(bench.store.repo));
	assert_int_equal(engine_dirty_bytes(bench.engine), 0);
	assert_sound(bench.store.repo, true);
	head_detach(other.store.head);
	inode_table_release(&other.table);
	head_put(other.store.head);
	bench_destroy(&bench);
}

/* ---- streams ---- */

static char *make_csv(size_t rows, const char *first_row, size_t *ret_length)
{
	char *text = malloc(rows * 64 + 256);
	struct random random = random_from(6);
	assert_non_null(text);
	size_t length = (size_t)sprintf(text, "id,name,amount\n%s", first_row);
	for (size_t i = 0; i < rows; i++)
		length += (size_t)sprintf(text + length, "%zu,customer-%u,%u.%02u\n", i,
					  (unsigned)random_below(&random, 100000),
					  (unsigned)random_below(&random, 10000),
					  (unsigned)random_below(&random, 100));
	*ret_length = length;
	return text;
}

static void write_stream(struct bench *bench, const char *name, const char *text, size_t length,
			 size_t request)
{
	struct inode *inode = bench_file(bench, name);
	for (size_t offset = 0; offset < length; offset += request) {
		size_t piece = length - offset < request ? length - offset : request;
		bench_write_request(bench, inode, offset, text + offset, piece);
	}
	must(repo_commit(bench->store.repo));
	uint8_t *bytes = allocate(length);
	bench_read(bench, inode, 0, bytes, length);
	assert_memory_equal(bytes, text, length);
	free(bytes);
	inode_unref(inode);
}

static uint64_t count_chunks(struct bench *bench)
{
	struct store_statistics statistics;
	must(store_statistics(repo_store(bench->store.repo), &statistics));
	return statistics.chunks;
}

static void streams_deduplicate(void **state)
{
	enum { ROWS = 800000 };
	static const size_t requests[] = {1 << 20, 128 << 10, 4096, 100003};
	struct bench bench;
	size_t length;

	(void)state;
	bench_create(&bench, NULL);
	char *text = make_csv(ROWS, "", &length);
	write_stream(&bench, "first", text, length, 1 << 20);
	free(text);
	uint64_t first = count_chunks(&bench);
	text = make_csv(ROWS, "99999999,somebody new,12.50\n", &length);
	for (int i = 0; i < 4; i++) {
		char name[32];
		uint64_t before = count_chunks(&bench);
		snprintf(name, sizeof(name), "again-%d", i);
		write_stream(&bench, name, text, length, requests[i]);
		uint64_t new = count_chunks(&bench) - before;
		print_message("%zu byte requests: %llu of %llu chunks are new\n", requests[i],
			      (unsigned long long)new, (unsigned long long)first);
		assert_true(new * 100 < first * 3);
	}
	free(text);
	assert_sound(bench.store.repo, true);
	bench_destroy(&bench);
}

static void zeros_become_holes(void **state)
{
	enum { LENGTH = 12 << 20, DATA = 100000 };
	struct bench bench;
	struct model model;

	(void)state;
	bench_create(&bench, NULL);
	model_create(&bench, &model, "sparse", LENGTH);
	model.size = LENGTH;
	random_fill(model.bytes + (1 << 20) + 5000, DATA, 1);
	random_fill(model.bytes + (9 << 20), DATA, 2);
	for (size_t offset = 0; offset < LENGTH; offset += 1 << 20)
		bench_write_request(&bench, model.inode, offset, model.bytes + offset, 1 << 20);
	must(repo_commit(bench.store.repo));
	model_verify(&bench, &model, 0, LENGTH);
	model_verify_tree(&bench, &model);
	print_message("%llu of %d bytes allocated\n",
		      (unsigned long long)model.inode->attr.allocated, LENGTH);
	assert_true(model.inode->attr.allocated < 2 * DATA + 8 * 16384);

	/* Zeros over data give the space back. */
	memset(model.bytes, 0, LENGTH);
	for (size_t offset = 0; offset < LENGTH; offset += 1 << 16)
		bench_write(&bench, model.inode, offset, model.bytes + offset, 1 << 16);
	must(repo_commit(bench.store.repo));
	assert_int_equal(model.inode->attr.allocated, 0);
	model_verify_tree(&bench, &model);
	assert_sound(bench.store.repo, true);
	model_release(&model);
	bench_destroy(&bench);
}

/* ---- many small things ---- */

static void scattered_pages(void **state)
{
	enum { PAGE = 4096, PAGES = 250000 };
	unsigned writes = scale(30000);
	struct bench bench;
	struct random random = random_from(7);
	uint8_t page[PAGE];

	(void)state;
	bench_create(&bench, NULL);
	struct inode *inode = bench_file(&bench, "database");
	double begin = now_ms();
	for (unsigned i = 0; i < writes; i++) {
		random_fill(page, PAGE, i);
		bench_write(&bench, inode, random_below(&random, PAGES) * PAGE, page, PAGE);
	}
	double taken_in = seconds_since(begin);
	must(repo_commit(bench.store.repo));
	print_message("%u scattered pages: %.0f writes/s taken in, %.0f/s with the commit\n",
		      writes, writes / taken_in, writes / seconds_since(begin));
	assert_sound(bench.store.repo, false);
	inode_unref(inode);
	bench_destroy(&bench);
}

static void many_small_files(void **state)
{
	enum { LENGTH = 4096 };
	unsigned files = scale(5000);
	struct bench bench;
	uint8_t bytes[LENGTH];

	(void)state;
	bench_create(&bench, NULL);
	struct inode **inodes = calloc(files, sizeof(*inodes));
	assert_non_null(inodes);
	for (unsigned i = 0; i < files; i++) {
		char name[32];
		snprintf(name, sizeof(name), "%u", i);
		inodes[i] = bench_file(&bench, name);
	}
	double begin = now_ms();
	for (unsigned i = 0; i < files; i++) {
		random_fill(bytes, LENGTH, i);
		bench_write(&bench, inodes[i], 0, bytes, i % 2 ? LENGTH : 900);
	}
	double taken_in = seconds_since(begin);
	must(repo_commit(bench.store.repo));
	print_message("%u small files: %.0f/s taken in, %.0f/s with the commit\n", files,
		      files / taken_in, files / seconds_since(begin));
	assert_sound(bench.store.repo, true);
	for (unsigned i = 0; i < files; i++)
		inode_unref(inodes[i]);
	head_lock(bench.store.head);
	inode_table_reap(&bench.table);
	assert_int_equal(bench.table.by_ino.count, 0);
	head_unlock(bench.store.head);
	free(inodes);
	bench_destroy(&bench);
}

/* ---- a failing disk ---- */

struct faulty {
	_Atomic int error; /* of every write to a pack; 0: none */
};

static int faulty_write(void *context, int fd, struct iovec *vector, int count, uint64_t offset)
{
	struct faulty *faulty = context;
	int error = atomic_load(&faulty->error);
	return error ? error : io_system.write(NULL, fd, vector, count, offset);
}

static void bench_create_faulty(struct bench *bench, struct io_ops *ops, struct faulty *faulty)
{
	const struct engine_options options = {.workers = 2, .dirty_budget = 4 << 20};
	const struct io io = {.ops = ops, .context = faulty};
	struct errbuf err = {""};

	*ops = io_system;
	ops->write = faulty_write;
	*bench = (struct bench){.flush_error = 0};
	fixture_create_store(&bench->store);
	must(repo_open(bench->store.directory, 0, &io, &bench->store.repo, &err));
	must(workspace_create(bench->store.repo, "main", 0, 0, NULL, &err));
	must(repo_head(bench->store.repo, "main", &bench->store.head, &err));
	bench_start(bench, &options);
}

static void nothing_is_lost_when(int failure)
{
	enum { LENGTH = 3 << 20 };
	struct faulty faulty = {0};
	struct io_ops ops;
	struct bench bench;
	struct model model;

	bench_create_faulty(&bench, &ops, &faulty);
	model_create(&bench, &model, "file", LENGTH);
	fill_bytes(model.bytes, LENGTH, 3);
	random_fill(model.bytes + LENGTH / 2, LENGTH / 2, 4);
	model.size = LENGTH;
	must(repo_commit(bench.store.repo));
	atomic_store(&faulty.error, failure);
	for (size_t offset = 0; offset < LENGTH; offset += 1 << 19)
		bench_write_request(&bench, model.inode, offset, model.bytes + offset, 1 << 19);
	assert_int_equal(repo_commit(bench.store.repo), failure);
	assert_int_equal(bench.flush_error, failure);
	model_verify(&bench, &model, 0, LENGTH);
	assert_true(repo_is_dirty(bench.store.repo));
	head_lock(bench.store.head);
	assert_int_equal(model.inode->data.error, failure == -EIO ? -EIO : 0);
	assert_int_equal(model.inode->data.dirty_bytes, LENGTH);
	head_unlock(bench.store.head);

	/* More than memory holds is refused, not waited for. */
	uint8_t *more = allocate(1 << 20);
	int error = 0;
	for (int i = 0; i < 64 && error == 0; i++) {
		random_fill(more, 1 << 20, (uint64_t)i);
		while ((error = bench_try_write(&bench, model.inode, LENGTH + ((uint64_t)i << 20),
						more, 1 << 20)) == -EAGAIN)
			data_wait_for_room(bench.engine);
	}
	assert_int_equal(error, failure);
	free(more);
	struct small small = small_begin(bench.store.head);
	must(data_truncate(bench.engine, model.inode, small.reader, LENGTH));
	bench_set_size(model.inode, LENGTH);
	small_end(&small);

	atomic_store(&faulty.error, 0);
	must(repo_commit(bench.store.repo));
	assert_int_equal(engine_dirty_bytes(bench.engine), 0);
	model_verify(&bench, &model, 0, LENGTH);
	model_verify_tree(&bench, &model);
	assert_sound(bench.store.repo, true);
	model_release(&model);
	bench_destroy(&bench);
}

static void a_full_disk_loses_nothing(void **state)
{
	(void)state;
	nothing_is_lost_when(-ENOSPC);
}

static void a_bad_disk_loses_nothing(void **state)
{
	(void)state;
	nothing_is_lost_when(-EIO);
}

/* ---- speed ---- */

static void measure_stream(const char *what, uint8_t *bytes, size_t length, unsigned rounds)
{
	struct bench bench;
	bench_create(&bench, NULL);
	struct inode *inode = bench_file(&bench, "stream");
	double begin = now_ms();
	uint64_t offset = 0;
	for (unsigned round = 0; round < rounds; round++) {
		for (size_t i = 0; i < length; i += 4096)
			memcpy(bytes + i, &offset, sizeof(offset));
		for (size_t i = 0; i < length; i += 1 << 20, offset += 1 << 20)
			bench_write_request(&bench, inode, offset, bytes + i, 1 << 20);
	}
	must(data_flush_all(bench.engine, &bench.table));
	double stored = seconds_since(begin);
	must(repo_commit(bench.store.repo));
	double seconds = seconds_since(begin);
	struct store_statistics statistics;
	must(store_statistics(repo_store(bench.store.repo), &statistics));
	print_message("%s: stored at %.0f MB/s, durable at %.0f MB/s (%llu MB)", what,
		      (double)offset / 1e6 / stored, (double)offset / 1e6 / seconds,
		      (unsigned long long)statistics.stored_bytes / 1000000);
	begin = now_ms();
	uint8_t *back = allocate(1 << 20);
	for (uint64_t at = 0; at < offset; at += 1 << 20)
		bench_read(&bench, inode, at, back, 1 << 20);
	print_message(", read by one thread at %.0f MB/s\n",
		      (double)offset / 1e6 / seconds_since(begin));
	free(back);
	inode_unref(inode);
	bench_destroy(&bench);
}

static void speed(void **state)
{
	enum { LENGTH = 32 << 20 };
	size_t length;
	uint8_t *bytes = allocate(LENGTH);

	(void)state;
	random_fill(bytes, LENGTH, 11);
	measure_stream("random bytes", bytes, LENGTH, scale(4));
	free(bytes);
	char *text = make_csv(1500000, "", &length);
	assert_true(length > LENGTH);
	measure_stream("a table as text", (uint8_t *)text, LENGTH, scale(4));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writers_are_throttled),
		cmocka_unit_test(workers_may_wait_themselves),
		cmocka_unit_test(two_workspaces_share_an_engine),
		cmocka_unit_test(streams_deduplicate),
		cmocka_unit_test(zeros_become_holes),
		cmocka_unit_test(scattered_pages),
		cmocka_unit_test(many_small_files),
		cmocka_unit_test(a_full_disk_loses_nothing),
		cmocka_unit_test(a_bad_disk_loses_nothing),
		cmocka_unit_test(speed),
	};

	/* A pattern, as "*stream*". */
	cmocka_set_test_filter(getenv("CAIRN_TEST_ONLY"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
