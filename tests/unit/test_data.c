/* The data engine against plain arrays of bytes, over a real store. */
#include <pthread.h>
#include <stdatomic.h>

#include "data_testing.h"

/* ---- the map ---- */

static unsigned check_node(const struct segment *node, const struct segment *parent)
{
	if (!node)
		return 0;
	assert_ptr_equal(node->parent, parent);
	assert_true(!parent || parent->priority >= node->priority);
	return 1 + check_node(node->left, node) + check_node(node->right, node);
}

static void check_map(const struct file_data *data)
{
	unsigned count = 0;
	uint64_t end = 0, bytes = 0, dirty = 0;
	const struct segment *previous = NULL;
	for (struct segment *segment = map_find(data, 0); segment;
	     segment = segment_next(segment)) {
		assert_true(segment->length > 0 && segment->offset >= end);
		assert_ptr_equal(segment_previous(segment), previous);
		assert_ptr_equal(map_find(data, segment->offset), segment);
		assert_ptr_equal(map_find_ending(data, segment_end(segment)), segment);
		previous = segment;
		end = segment_end(segment);
		bytes += segment->length;
		dirty += segment->flush ? 0 : segment->length;
		count++;
	}
	assert_int_equal(count, check_node(data->root, NULL));
	assert_int_equal(bytes, data->segment_bytes);
	assert_int_equal(dirty, data->dirty_bytes);
	assert_ptr_equal(map_last(data), previous);
}

static void the_map_keeps_its_order(void **state)
{
	enum { SLOTS = 4000, STEPS = 20000 };
	static uint8_t page[256];
	struct random random = random_from(1);
	struct bench bench;

	(void)state;
	bench_create(&bench, NULL);
	struct inode *inode = bench_file(&bench, "file");
	for (int i = 0; i < STEPS; i++) {
		uint64_t offset = random_below(&random, SLOTS) * 128;
		struct small small = small_begin(bench.store.head);
		if (random_below(&random, 4))
			must(data_write_bytes(bench.engine, inode, small.reader, offset, page,
					      1 + random_below(&random, sizeof(page))));
		else
			must(data_punch(bench.engine, inode, small.reader, offset,
					1 + random_below(&random, 2000)));
		bench_grow(inode, SLOTS * 128 + 256);
		if (i % 500 == 0)
			check_map(&inode->data);
		small_end(&small);
	}
	head_lock(bench.store.head);
	check_map(&inode->data);
	head_unlock(bench.store.head);
	must(repo_commit(bench.store.repo));
	assert_null(inode->data.root);
	assert_sound(bench.store.repo, true);
	inode_unref(inode);
	bench_destroy(&bench);
}

/* ---- random changes ---- */

enum { MODEL_SIZE = 5 << 20, SOURCE_SIZE = 8 << 20 };

/* One thread with two files of its own. */
struct player {
	struct bench *bench;
	struct random random;
	struct model files[2];
	const uint8_t *source; /* bytes to write: random, text, zeros */
	int steps;
	bool commits;
};

static size_t random_length(struct player *player)
{
	struct random *random = &player->random;
	switch (random_below(random, 6)) {
	case 0:
		return 1 + random_below(random, 300);
	case 1:
		return 4096 * (1 + random_below(random, 4));
	case 2:
		return 1 + random_below(random, 100000);
	case 3:
		return (256 << 10) * (1 + random_below(random, 4));
	default:
		return 1 + random_below(random, 3000);
	}
}

static size_t random_offset(struct player *player, const struct model *model, size_t length)
{
	struct random *random = &player->random;
	size_t offset = random_below(random, model->capacity - length + 1);
	switch (random_below(random, 4)) {
	case 0:
		offset = model->size;
		break;
	case 1:
		offset = offset / 4096 * 4096;
		break;
	case 2:
		if (model->size > length)
			offset = random_below(random, model->size - length);
		break;
	}
	return offset + length > model->capacity ? model->capacity - length : offset;
}

static void play_write(struct player *player, struct model *model)
{
	size_t length = random_length(player);
	size_t offset = random_offset(player, model, length);
	const uint8_t *bytes =
		player->source + random_below(&player->random, SOURCE_SIZE - length + 1);
	if (random_below(&player->random, 2) && length <= 1 << 20)
		bench_write_request(player->bench, model->inode, offset, bytes, length);
	else
		bench_write(player->bench, model->inode, offset, bytes, length);
	memcpy(model->bytes + offset, bytes, length);
	if (offset + length > model->size)
		model->size = offset + length;
}

static void play_punch(struct player *player, struct model *model)
{
	size_t length = random_length(player);
	size_t offset = random_offset(player, model, length);
	struct small small = small_begin(player->bench->store.head);
	must(data_punch(player->bench->engine, model->inode, small.reader, offset, length));
	small_end(&small);
	if (offset + length > model->size)
		length = offset < model->size ? model->size - offset : 0;
	memset(model->bytes + offset, 0, length);
}

static void play_truncate(struct player *player, struct model *model)
{
	size_t size = random_below(&player->random, 3)
			      ? random_below(&player->random, model->capacity + 1)
			      : random_below(&player->random, 3000);
	struct small small = small_begin(player->bench->store.head);
	must(data_truncate(player->bench->engine, model->inode, small.reader, size));
	bench_set_size(model->inode, size);
	small_end(&small);
	if (size < model->size)
		memset(model->bytes + size, 0, model->size - size);
	model->size = size;
}

static void play_clone(struct player *player, struct model *target, struct model *source)
{
	size_t length = random_length(player), from, to;
	if (length > source->size)
		length = source->size;
	from = random_below(&player->random, source->size - length + 1);
	to = random_offset(player, target, length);
	if (target == source && from < to + length && to < from + length)
		return;
	int error;
	do {
		struct small small = small_begin(player->bench->store.head);
		error = data_clone(player->bench->engine, target->inode, to, source->inode, NULL, 0,
				   from, length, small.reader);
		if (!error && length)
			bench_grow(target->inode, to + length);
		small_end(&small);
		if (error == -EAGAIN)
			data_wait_for_room(player->bench->engine);
	} while (error == -EAGAIN);
	must(error);
	memmove(target->bytes + to, source->bytes + from, length);
	if (length && to + length > target->size)
		target->size = to + length;
}

static void assert_zeros(const uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		assert_int_equal(bytes[i], 0);
}

static void play_seek(struct player *player, struct model *model)
{
	uint64_t offset = random_below(&player->random, model->capacity), data, hole;
	struct small small = small_begin(player->bench->store.head);
	int data_error = data_seek(model->inode, small.reader, offset, SEEK_DATA, &data);
	int hole_error = data_seek(model->inode, small.reader, offset, SEEK_HOLE, &hole);
	int next_error = 0;
	uint64_t next = model->size;
	if (!hole_error && hole < model->size)
		next_error = data_seek(model->inode, small.reader, hole, SEEK_DATA, &next);
	small_end(&small);
	if (offset >= model->size) {
		assert_int_equal(data_error, -ENXIO);
		assert_int_equal(hole_error, -ENXIO);
		return;
	}
	must(hole_error);
	assert_in_range(hole, offset, model->size);
	if (data_error) {
		assert_int_equal(data_error, -ENXIO);
		data = model->size;
	}
	assert_zeros(model->bytes + offset, data - offset);
	if (next_error)
		next = model->size;
	assert_zeros(model->bytes + hole, next - hole);
}

static void play_read(struct player *player, struct model *model)
{
	size_t offset = random_below(&player->random, model->capacity);
	if (offset < model->size)
		model_verify(player->bench, model, offset,
			     1 + random_below(&player->random, model->size - offset));
}

static void play_step(struct player *player)
{
	struct model *model = &player->files[random_below(&player->random, 2)];
	struct model *other = &player->files[random_below(&player->random, 2)];
	uint64_t what = random_below(&player->random, 100);
	if (what < 50)
		play_write(player, model);
	else if (what < 60)
		play_punch(player, model);
	else if (what < 66)
		play_truncate(player, model);
	else if (what < 76)
		play_clone(player, model, other);
	else if (what < 83)
		play_seek(player, model);
	else if (what < 97)
		play_read(player, model);
	else if (player->commits)
		must(repo_commit(player->bench->store.repo));
}

static void *play(void *context)
{
	struct player *player = context;
	for (int i = 0; i < player->steps; i++) {
		play_step(player);
		if (i % 50 == 0)
			for (int j = 0; j < 2; j++)
				model_verify(player->bench, &player->files[j], 0,
					     player->files[j].size);
	}
	return NULL;
}

static uint8_t *make_source(void)
{
	uint8_t *source = malloc(SOURCE_SIZE);
	assert_non_null(source);
	fill_bytes(source, SOURCE_SIZE / 2, 1);
	struct random random = random_from(2);
	for (size_t i = SOURCE_SIZE / 2; i < SOURCE_SIZE; i += 8) {
		uint64_t word = random_next(&random);
		memcpy(source + i, &word, 8);
	}
	memset(source + SOURCE_SIZE / 4, 0, 300000);
	memset(source + SOURCE_SIZE / 2, 0, 40000);
	return source;
}

static void player_create(struct player *player, struct bench *bench, int number, uint64_t seed,
			  const uint8_t *source, int steps)
{
	*player = (struct player){.bench = bench,
				  .random = random_from(seed + (uint64_t)number),
				  .source = source,
				  .steps = steps,
				  .commits = true};
	for (int i = 0; i < 2; i++) {
		char name[32];
		snprintf(name, sizeof(name), "file-%d-%d", number, i);
		/* One that stays small enough to change between inline and extents. */
		model_create(bench, &player->files[i], name, MODEL_SIZE);
	}
}

static void player_verify_tree(struct player *player)
{
	for (int i = 0; i < 2; i++)
		model_verify_tree(player->bench, &player->files[i]);
}

static int steps(int wanted)
{
	const char *text = getenv("CAIRN_TEST_STEPS");
	return text ? atoi(text) : wanted;
}

static void random_changes(void **state)
{
	const struct engine_options options = {.workers = 2, .dirty_budget = 8 << 20};
	struct bench bench;
	struct player player;
	uint8_t *source = make_source();

	(void)state;
	bench_create(&bench, &options);
	player_create(&player, &bench, 0, random_seed(), source, steps(1500));
	play(&player);
	must(repo_commit(bench.store.repo));
	player_verify_tree(&player);
	assert_int_equal(engine_dirty_bytes(bench.engine), 0);
	assert_sound(bench.store.repo, true);
	for (int i = 0; i < 2; i++)
		model_release(&player.files[i]);

	/* Nobody refers to anything any more. */
	head_lock(bench.store.head);
	inode_table_reap(&bench.table);
	assert_int_equal(bench.table.by_ino.count, 0);
	head_unlock(bench.store.head);
	bench_destroy(&bench);
	free(source);
}

static void random_changes_in_many_threads(void **state)
{
	enum { PLAYERS = 4 };
	const struct engine_options options = {.workers = 2, .dirty_budget = 6 << 20};
	struct bench bench;
	static struct player players[PLAYERS];
	pthread_t threads[PLAYERS];
	uint8_t *source = make_source();
	uint64_t seed = random_seed();

	(void)state;
	bench_create(&bench, &options);
	for (int i = 0; i < PLAYERS; i++)
		player_create(&players[i], &bench, i, seed, source, steps(500));
	for (int i = 0; i < PLAYERS; i++)
		must(pthread_create(&threads[i], NULL, play, &players[i]));
	for (int i = 0; i < PLAYERS; i++)
		must(pthread_join(threads[i], NULL));
	must(repo_commit(bench.store.repo));
	for (int i = 0; i < PLAYERS; i++) {
		player_verify_tree(&players[i]);
		model_release(&players[i].files[0]);
		model_release(&players[i].files[1]);
	}
	assert_int_equal(engine_dirty_bytes(bench.engine), 0);
	assert_sound(bench.store.repo, true);
	bench_destroy(&bench);
	free(source);
}

/* Small files: between inline, map and extents all the time. */
static void small_files_change_their_form(void **state)
{
	enum { CAPACITY = 5000 };
	struct bench bench;
	struct model model;
	struct random random = random_from(random_seed());
	uint8_t bytes[CAPACITY];

	(void)state;
	bench_create(&bench, NULL);
	model_create(&bench, &model, "small", CAPACITY);
	fill_bytes(bytes, sizeof(bytes), 5);
	for (int i = 0; i < steps(600); i++) {
		size_t length = 1 + random_below(&random, 1200);
		size_t offset = random_below(&random, 2) ? 0 : random_below(&random, 1500);
		struct small small = small_begin(bench.store.head);
		switch (random_below(&random, 4)) {
		case 0:
			must(data_truncate(bench.engine, model.inode, small.reader, offset));
			bench_set_size(model.inode, offset);
			if (offset < model.size)
				memset(model.bytes + offset, 0, model.size - offset);
			model.size = offset;
			break;
		case 1:
			must(data_punch(bench.engine, model.inode, small.reader, offset, length));
			memset(model.bytes + offset, 0, length);
			break;
		default:
			must(data_write_bytes(bench.engine, model.inode, small.reader, offset,
					      bytes, length));
			bench_grow(model.inode, offset + length);
			memcpy(model.bytes + offset, bytes, length);
			if (offset + length > model.size)
				model.size = offset + length;
		}
		small_end(&small);
		model_verify(&bench, &model, 0, model.size);
		if (random_below(&random, 3) == 0) {
			must(repo_commit(bench.store.repo));
			model_verify_tree(&bench, &model);
			model_verify(&bench, &model, 0, model.size);
			if (model.size <= INLINE_MAX && model.inode->data.segment_bytes)
				fail_msg("still in memory");
			assert_sound(bench.store.repo, true);
		}
	}
	model_release(&model);
	bench_destroy(&bench);
}

/* ---- other trees, deleted files ---- */

/* Without a hot inode: contents of a tree alone. */
static void verify_in_tree(struct bench *bench, struct tree *tree, uint64_t ino,
			   const uint8_t *wanted, size_t size)
{
	uint8_t *bytes = malloc(size);
	struct reader *reader;
	assert_non_null(bytes);
	for (size_t done = 0; done < size;) {
		struct read_plan plan;
		must(reader_acquire(repo_store(bench->store.repo), &reader));
		must(data_plan_read(bench->engine, NULL, tree, reader, ino, size, done, size - done,
				    &plan));
		reader_release(reader);
		assert_true(plan.length > 0);
		must(data_fill(&plan, bytes + done, NULL));
		done += plan.length;
		data_plan_release(&plan);
	}
	assert_same_bytes(bytes, wanted, size, 0);
	free(bytes);
}

static void clone_from(struct bench *bench, struct inode *target, struct tree *view, uint64_t ino,
		       uint64_t from, uint64_t length)
{
	struct small small = small_begin(bench->store.head);
	must(data_clone(bench->engine, target, 0, NULL, view, ino, from, length, small.reader));
	bench_grow(target, length);
	small_end(&small);
}

static void contents_come_back_from_a_point(void **state)
{
	enum { LARGE = 3 << 20, SMALL = INLINE_MAX - 6 };
	struct bench bench;
	struct tree *view;
	uint8_t *source = make_source(), *bytes = malloc(LARGE);

	(void)state;
	assert_non_null(bytes);
	bench_create(&bench, NULL);
	struct inode *large = bench_file(&bench, "large"), *small = bench_file(&bench, "small");
	struct inode *copy = bench_file(&bench, "copy"), *copy2 = bench_file(&bench, "copy2");
	bench_write(&bench, large, 0, source, LARGE);
	bench_write(&bench, small, 0, source, SMALL);
	struct point point = freeze(bench.store.head, "one");
	must(point_view(bench.store.repo, &point, &view));
	point_release(&point);
	bench_write(&bench, large, 0, source + LARGE, LARGE);
	bench_write(&bench, small, 0, source + LARGE, SMALL);

	verify_in_tree(&bench, view, large->ino, source, LARGE);
	verify_in_tree(&bench, view, small->ino, source, SMALL);
	clone_from(&bench, copy, view, large->ino, 100, LARGE - 100);
	bench_read(&bench, copy, 0, bytes, LARGE - 100);
	assert_same_bytes(bytes, source + 100, LARGE - 100, 0);
	clone_from(&bench, copy2, view, small->ino, 7, SMALL - 7);
	bench_read(&bench, copy2, 0, bytes, SMALL - 7);
	assert_same_bytes(bytes, source + 7, SMALL - 7, 0);
	must(repo_commit(bench.store.repo));
	bench_read(&bench, large, 0, bytes, LARGE);
	assert_same_bytes(bytes, source + LARGE, LARGE, 0);
	bench_read(&bench, copy, 0, bytes, LARGE - 100);
	assert_same_bytes(bytes, source + 100, LARGE - 100, 0);
	assert_true(copy2->attr.flags & INODE_INLINE);
	assert_sound(bench.store.repo, true);

	tree_close(view);
	inode_unref(large);
	inode_unref(small);
	inode_unref(copy);
	inode_unref(copy2);
	bench_destroy(&bench);
	free(source);
	free(bytes);
}

static void deleted_while_it_is_flushed(void **state)
{
	enum { FILES = 12, LENGTH = 5 << 20 };
	const struct engine_options options = {.dirty_budget = 16 << 20};
	struct bench bench;
	uint8_t *source = make_source();

	(void)state;
	bench_create(&bench, &options);
	for (int i = 0; i < FILES; i++) {
		struct inode *inode = bench_file(&bench, "file");
		bench_write(&bench, inode, 0, source + i * 4096, LENGTH);
		bench_write(&bench, inode, LENGTH, source, 1000);
		struct small small = small_begin(bench.store.head);
		must(dirent_remove(small.tree, small.reader, ROOT_INO, "file", 4));
		bench_set_size(inode, 0);
		small_count(&small, -1, 0, 0);
		must(inode_delete(small.tree, small.reader, inode->ino));
		inode_forget_deleted(bench.engine, inode);
		inode_unref(inode);
		inode_table_reap(&bench.table);
		small_end(&small);
	}
	assert_int_equal(engine_dirty_bytes(bench.engine), 0);
	must(repo_commit(bench.store.repo));
	data_quiesce(&bench.table);
	head_lock(bench.store.head);
	inode_table_reap(&bench.table);
	assert_int_equal(bench.table.by_ino.count, 0);
	head_unlock(bench.store.head);
	assert_sound(bench.store.repo, true);
	bench_destroy(&bench);
	free(source);
}

/* ---- readers beside a writer ---- */

enum { SHARED_PAGES = 300, PAGE = 4096 };

struct watcher {
	struct bench *bench;
	struct inode *inode;
	atomic_bool *stop;
	int rounds;
};

/* Each page is written at once, all bytes alike. */
static void *watch(void *context)
{
	struct watcher *watcher = context;
	struct random random = random_from(3);
	uint8_t page[PAGE];
	while (!atomic_load(watcher->stop)) {
		uint64_t number = random_below(&random, SHARED_PAGES);
		bench_read(watcher->bench, watcher->inode, number * PAGE, page, PAGE);
		for (int i = 1; i < PAGE; i++)
			assert_int_equal(page[i], page[0]);
		watcher->rounds++;
	}
	return NULL;
}

static void readers_see_whole_writes(void **state)
{
	enum { READERS = 2 };
	const struct engine_options options = {.dirty_budget = 2 << 20, .cache_bytes = 1 << 20};
	struct bench bench;
	struct watcher watchers[READERS];
	pthread_t threads[READERS];
	struct random random = random_from(4);
	atomic_bool stop = false;
	uint8_t page[PAGE];

	(void)state;
	bench_create(&bench, &options);
	struct inode *inode = bench_file(&bench, "file");
	for (uint64_t i = 0; i < SHARED_PAGES; i++) {
		memset(page, (int)i, PAGE);
		bench_write(&bench, inode, i * PAGE, page, PAGE);
	}
	for (int i = 0; i < READERS; i++) {
		watchers[i] = (struct watcher){&bench, inode, &stop, 0};
		must(pthread_create(&threads[i], NULL, watch, &watchers[i]));
	}
	for (int i = 0; i < steps(4000); i++) {
		memset(page, i % 251 + 1, PAGE);
		bench_write(&bench, inode, random_below(&random, SHARED_PAGES) * PAGE, page, PAGE);
		if (i % 400 == 0)
			must(repo_commit(bench.store.repo));
	}
	atomic_store(&stop, true);
	for (int i = 0; i < READERS; i++) {
		must(pthread_join(threads[i], NULL));
		assert_true(watchers[i].rounds > 0);
	}
	must(repo_commit(bench.store.repo));
	assert_sound(bench.store.repo, true);
	inode_unref(inode);
	bench_destroy(&bench);
}

/* ---- inodes ---- */

static void inodes_are_freed_when_nobody_needs_them(void **state)
{
	struct bench bench;
	struct small small;

	(void)state;
	bench_create(&bench, NULL);
	struct inode *inode = bench_file(&bench, "file");
	uint64_t ino = inode->ino;
	inode_ref(inode);
	inode_unref(inode);
	small = small_begin(bench.store.head);
	inode_table_reap(&bench.table);
	assert_ptr_equal(inode_find(&bench.table, ino), inode);
	must(data_write_bytes(bench.engine, inode, small.reader, 0, "abc", 3));
	bench_grow(inode, 3);
	assert_int_equal(data_allocated(inode), 3);
	inode_unref(inode);
	inode_table_reap(&bench.table);
	assert_ptr_equal(inode_find(&bench.table, ino), inode);
	small_end(&small);

	must(repo_commit(bench.store.repo));
	small = small_begin(bench.store.head);
	assert_int_equal(bench.table.dirty_count, 0);
	inode_table_reap(&bench.table);
	assert_null(inode_find(&bench.table, ino));

	must(inode_load(&bench.table, small.reader, ino, &inode));
	assert_true(inode->attr.flags & INODE_INLINE);
	inode->unlinked = true;
	inode_table_reap(&bench.table);
	assert_ptr_equal(inode_find(&bench.table, ino), inode);
	must(data_write_bytes(bench.engine, inode, small.reader, 1, "abc", 3));
	bench_grow(inode, 4);
	small_end(&small);

	/* No commit needs what is in an unlinked file. */
	must(repo_commit(bench.store.repo));
	small = small_begin(bench.store.head);
	assert_true(data_is_dirty(&inode->data));
	bench_set_size(inode, 0);
	must(dirent_remove(small.tree, small.reader, ROOT_INO, "file", 4));
	must(inode_delete(small.tree, small.reader, ino));
	small_count(&small, -1, 0, 0);
	inode_forget_deleted(bench.engine, inode);
	inode_table_reap(&bench.table);
	assert_null(inode_find(&bench.table, ino));
	assert_int_equal(engine_dirty_bytes(bench.engine), 0);
	small_end(&small);
	must(repo_commit(bench.store.repo));
	assert_sound(bench.store.repo, true);
	bench_destroy(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_map_keeps_its_order),
		cmocka_unit_test(small_files_change_their_form),
		cmocka_unit_test(inodes_are_freed_when_nobody_needs_them),
		cmocka_unit_test(contents_come_back_from_a_point),
		cmocka_unit_test(deleted_while_it_is_flushed),
		cmocka_unit_test(readers_see_whole_writes),
		cmocka_unit_test(random_changes),
		cmocka_unit_test(random_changes_in_many_threads),
	};

	/* A pattern, as "*stream*". */
	cmocka_set_test_filter(getenv("CAIRN_TEST_ONLY"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
