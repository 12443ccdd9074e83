/* What the tests of the data engine share: a store with an engine and a table of inodes whose
 * commits work as those of a mount, and files that are compared with plain arrays of bytes. */
#ifndef CAIRN_TESTS_DATA_TESTING_H
#define CAIRN_TESTS_DATA_TESTING_H

#include "repo_testing.h"

#include "fs/data_internal.h"

struct bench {
	struct fixture store;
	struct engine *engine;
	struct inode_table table;
	int flush_error; /* what the last data_flush_all() said */
};

static int bench_prepare(void *context)
{
	struct bench *bench = context;
	bench->flush_error = data_flush_all(bench->engine, &bench->table);
	return 0;
}

static int bench_cut(void *context)
{
	struct bench *bench = context;
	struct reader *reader;
	int error = data_cut(bench->engine, &bench->table);
	if (error)
		return error;
	error = reader_acquire(repo_store(bench->store.repo), &reader);
	if (error)
		return error;
	error = inode_table_write_back(&bench->table, reader);
	reader_release(reader);
	return error;
}

static const struct head_ops bench_ops = {.prepare = bench_prepare, .cut = bench_cut};

/* The store is open. */
static UNUSED void bench_start(struct bench *bench, const struct engine_options *options)
{
	must(engine_open(repo_store(bench->store.repo), options, &bench->engine));
	inode_table_init(&bench->table, bench->store.head);
	must(head_attach(bench->store.head, &bench_ops, bench));
}

static UNUSED void bench_create(struct bench *bench, const struct engine_options *options)
{
	*bench = (struct bench){.flush_error = 0};
	fixture_create(&bench->store);
	bench_start(bench, options);
}

/* Without a commit: what is not committed is lost. */
static UNUSED void bench_stop(struct bench *bench)
{
	head_detach(bench->store.head);
	inode_table_release(&bench->table);
	bench->engine = engine_close(bench->engine);
}

static UNUSED void bench_destroy(struct bench *bench)
{
	bench_stop(bench);
	fixture_destroy(&bench->store);
}

/* A new file with a reference. */
static UNUSED struct inode *bench_file(struct bench *bench, const char *name)
{
	struct inode *inode;
	struct small small = small_begin(bench->store.head);
	uint64_t ino = small_make(&small, ROOT_INO, name, S_IFREG | 0644);
	must(inode_load(&bench->table, small.reader, ino, &inode));
	inode_ref(inode);
	small_end(&small);
	return inode;
}

/* What the operations do around the engine; head lock held. */
static UNUSED void bench_set_size(struct inode *inode, uint64_t size)
{
	const struct head_counters counters = {.bytes = (int64_t)size - (int64_t)inode->attr.size};
	head_count(inode->table->head, &counters);
	inode->attr.size = size;
	inode_mark_attr_dirty(inode);
}

static UNUSED void bench_grow(struct inode *inode, uint64_t size)
{
	if (size > inode->attr.size)
		bench_set_size(inode, size);
}

static UNUSED int bench_try_write(struct bench *bench, struct inode *inode, uint64_t offset,
				  const void *bytes, size_t length)
{
	struct small small = small_begin(bench->store.head);
	int error = data_write_bytes(bench->engine, inode, small.reader, offset, bytes, length);
	if (!error)
		bench_grow(inode, offset + length);
	small_end(&small);
	return error;
}

static UNUSED void bench_write(struct bench *bench, struct inode *inode, uint64_t offset,
			       const void *bytes, size_t length)
{
	int error;
	while ((error = bench_try_write(bench, inode, offset, bytes, length)) == -EAGAIN)
		data_wait_for_room(bench->engine);
	must(error);
}

/* As a request of the kernel: in a buffer that the engine may keep. */
static UNUSED void bench_write_request(struct bench *bench, struct inode *inode, uint64_t offset,
				       const void *bytes, size_t length)
{
	enum { HEADER = 80 };
	struct buffer *buffer = buffer_new(engine_buffers(bench->engine), BUFFER_REQUEST);
	int error;

	assert_non_null(buffer);
	memcpy(buffer->data + HEADER, bytes, length);
	buffer->used = HEADER + length;
	do {
		struct small small = small_begin(bench->store.head);
		error = data_write(bench->engine, inode, small.reader, offset, buffer, HEADER,
				   length);
		if (!error)
			bench_grow(inode, offset + length);
		small_end(&small);
		if (error == -EAGAIN)
			data_wait_for_room(bench->engine);
	} while (error == -EAGAIN);
	must(error);
	buffer_unref(engine_buffers(bench->engine), buffer);
}

/* Reads through map and tree. */
static UNUSED int bench_try_read(struct bench *bench, struct inode *inode, uint64_t offset,
				 uint8_t *bytes, size_t length)
{
	size_t done = 0;
	while (done < length) {
		struct read_plan plan;
		struct reader *reader;
		head_lock_shared(bench->store.head);
		must(reader_acquire(repo_store(bench->store.repo), &reader));
		int error = data_plan_read(bench->engine, inode, head_tree(bench->store.head),
					   reader, inode->ino, inode->attr.size, offset + done,
					   length - done, &plan);
		if (!error)
			data_read_ahead_after(bench->engine, inode, head_tree(bench->store.head),
					      reader, inode->ino, offset + done + plan.length,
					      plan.length);
		reader_release(reader);
		head_unlock(bench->store.head);
		must(error);
		assert_true(plan.length > 0);
		error = data_fill(&plan, bytes + done, NULL);
		done += plan.length;
		data_plan_release(&plan);
		if (error)
			return error;
	}
	return 0;
}

static UNUSED void bench_read(struct bench *bench, struct inode *inode, uint64_t offset,
			      uint8_t *bytes, size_t length)
{
	must(bench_try_read(bench, inode, offset, bytes, length));
}

/* ---- a file and what it should contain ---- */

struct model {
	struct inode *inode;
	uint8_t *bytes; /* zeros behind the size */
	size_t size, capacity;
};

static UNUSED void model_create(struct bench *bench, struct model *model, const char *name,
				size_t capacity)
{
	*model = (struct model){.inode = bench_file(bench, name), .capacity = capacity};
	model->bytes = calloc(1, capacity);
	assert_non_null(model->bytes);
}

static UNUSED void model_release(struct model *model)
{
	inode_unref(model->inode);
	free(model->bytes);
}

static UNUSED void assert_same_bytes(const uint8_t *bytes, const uint8_t *wanted, size_t length,
				     uint64_t offset)
{
	if (memcmp(bytes, wanted, length) == 0)
		return;
	size_t i = 0;
	while (bytes[i] == wanted[i])
		i++;
	fail_msg("byte %" PRIu64 " is %02x, not %02x", offset + i, bytes[i], wanted[i]);
}

static UNUSED void model_verify(struct bench *bench, const struct model *model, size_t offset,
				size_t length)
{
	uint8_t *bytes = malloc(length + 1);
	assert_non_null(bytes);
	bench_read(bench, model->inode, offset, bytes, length);
	assert_same_bytes(bytes, model->bytes + offset, length, offset);
	free(bytes);
}

/* Through the tree alone: after a cut it has everything. */
static UNUSED void model_verify_tree(struct bench *bench, const struct model *model)
{
	uint8_t *bytes = malloc(model->size + 1);
	struct errbuf err = {""};
	assert_non_null(bytes);
	struct small small = small_begin(bench->store.head);
	ssize_t length = file_read(small.tree, small.reader, model->inode->ino, 0, bytes,
				   model->size + 1, &err);
	small_end(&small);
	if (length != (ssize_t)model->size)
		fail_msg("%zd of %zu bytes: %s", length, model->size, err.text);
	assert_same_bytes(bytes, model->bytes, model->size, 0);
	free(bytes);
}

#endif
