/* Moving chunks: what they hold stays, what they take shrinks, and the order is the one asked for.
 */
#include "index_checking.h"

#include <pthread.h>

#include "index/relocate.h"

enum { SIZE = 20000 };

static void fill(uint8_t bytes[SIZE], uint64_t number, bool text)
{
	if (text)
		fill_text(bytes, SIZE, number);
	else
		fill_random(bytes, SIZE, number);
}

static uint64_t store_number(struct store *store, uint64_t number, bool text, bool duplicate)
{
	uint8_t bytes[SIZE];

	fill(bytes, number, text);
	return store_bytes(store, bytes, SIZE, duplicate);
}

static void check_number(struct store *store, uint64_t id, uint64_t number, bool text)
{
	uint8_t bytes[SIZE];

	fill(bytes, number, text);
	check_chunk(store, id, bytes, SIZE);
}

static struct store_statistics statistics_of(struct store *store)
{
	struct store_statistics statistics;

	assert_ok(store_statistics(store, &statistics));
	return statistics;
}

static struct relocation_result recompress(struct store *store)
{
	struct relocation_result result;

	assert_ok(relocate_recompress(store, NULL, NULL, &result));
	return result;
}

static void set_rest(struct store *store, const char *text)
{
	struct store_compression compression;
	struct errbuf err;

	store_get_compression(store, &compression);
	assert_ok(store_parse_rest_compression(text, &compression, &err));
	assert_ok(store_set_compression(store, &compression));
}

static void text_becomes_smaller_and_random_bytes_stay(void **state)
{
	enum { COUNT = 400 };
	struct place *place = *state;
	struct store *store = new_store(place, "lz4");
	struct relocation_result result;
	struct store_statistics before, after;
	uint64_t ids[COUNT];

	for (uint64_t i = 0; i < COUNT; i++)
		ids[i] = store_number(store, i, i % 4 != 0, false);
	assert_int_equal(relocate_waiting(store), 0); /* what no commit has may still change */
	commit_all(store);
	before = statistics_of(store);
	assert_int_equal(relocate_waiting(store), COUNT);

	result = recompress(store);
	assert_int_equal(result.moved, COUNT * 3 / 4);
	assert_int_equal(result.damaged, 0);
	assert_true(result.stored_after < result.stored_before * 9 / 10);
	after = statistics_of(store);
	assert_int_equal(before.stored_bytes - after.stored_bytes,
			 result.stored_before - result.stored_after);
	assert_int_equal(before.raw_bytes, after.raw_bytes);
	/* The old places are given back, but for blocks that they share with others. */
	assert_true(after.pack_bytes < after.stored_bytes + COUNT * 4096);

	assert_int_equal(relocate_waiting(store), 0);
	assert_int_equal(recompress(store).moved, 0);
	for (int round = 0; round < 2; round++) {
		check_store(store);
		for (uint64_t i = 0; i < COUNT; i++) {
			check_number(store, ids[i], i, i % 4 != 0);
			assert_int_equal(store_number(store, i, i % 4 != 0, true), ids[i]);
		}
		store_close(store);
		store = open_store(place);
		assert_int_equal(relocate_waiting(store), 0);
	}

	/* What comes later is the next pass's. */
	store_number(store, COUNT, true, false);
	commit_all(store);
	assert_int_equal(relocate_waiting(store), 1);
	assert_int_equal(recompress(store).moved, 1);
	store_close(store);
}

static void the_setting_is_kept(void **state)
{
	static const struct {
		const char *arrival, *rest;
		bool moves;
	} cases[] = {
		{"lz4", NULL, true},   {"lz4", "none", false}, {"lz4", "zstd:7", true},
		{"none", NULL, false}, {"none", "zstd", true}, {"zstd:1", NULL, false},
	};
	struct place *place = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct store *store = new_store(place, cases[i].arrival);
		struct store_compression compression;
		struct errbuf err;

		if (cases[i].rest)
			set_rest(store, cases[i].rest);
		store_number(store, 1, true, false);
		commit_all(store);
		store_close(store);
		store = open_store(place);
		assert_int_equal(recompress(store).moved, cases[i].moves);
		check_store(store);
		store_close(store);
		remove_tree(place->path);
		assert_error(store_parse_rest_compression("lz4", &compression, &err), EINVAL);
		assert_error(store_parse_rest_compression("zstd:20", &compression, &err), EINVAL);
	}
}

static int stop_at_ten(uint64_t done, uint64_t total, void *context)
{
	int *calls = context;

	(void)done;
	(void)total;
	return ++*calls > 10;
}

static void a_pass_that_was_stopped_goes_on(void **state)
{
	enum { COUNT = 95 };
	struct place *place = *state;
	struct store *store = new_store(place, "lz4");
	struct relocation_result result;
	uint64_t moved = 0;
	int passes = 0;

	for (uint64_t i = 0; i < COUNT; i++)
		store_number(store, i, true, false);
	commit_all(store);
	do {
		int calls = 0;

		assert_ok(relocate_recompress(store, stop_at_ten, &calls, &result));
		moved += result.moved;
		check_store(store);
		store_close(store);
		store = open_store(place);
	} while (++passes < 100 && relocate_waiting(store));
	assert_int_equal(moved, COUNT);
	assert_int_equal(passes, (COUNT + 9) / 10);
	store_close(store);
}

/* Each behind the one before, as they were named. */
static void order_is_as_asked(void **state)
{
	enum { COUNT = 700 };
	struct place *place = *state;
	struct store *store = new_store(place, "lz4");
	struct relocation *relocation;
	struct relocation_result result;
	struct chunk_info last, info;
	uint64_t ids[COUNT];
	int jumps = 0;

	for (uint64_t i = 0; i < COUNT; i++)
		ids[i * 411 % COUNT] = store_number(store, i * 411 % COUNT, i % 2, false);
	commit_all(store);
	assert_ok(relocation_begin(store, &relocation));
	for (int i = 0; i < COUNT; i++)
		assert_ok(relocation_add(relocation, ids[i], true));
	assert_ok(relocation_flush(relocation));
	assert_null(relocation_end(relocation, &result));
	assert_int_equal(result.moved, COUNT);
	check_store(store);
	for (int i = 0; i < COUNT; i++) {
		assert_ok(chunk_info(store, ids[i], &info));
		if (i)
			jumps += info.pack != last.pack ||
				 info.offset != last.offset + record_size(last.stored_length);
		last = info;
	}
	assert_int_equal(jumps, 0);
	store_close(store);
}

static void damage_stays_where_it_is(void **state)
{
	struct place *place = *state;
	struct store *store = new_store(place, "lz4");
	uint8_t buffer[SIZE];
	struct relocation_result result;
	struct chunk_info info, after;
	struct errbuf err = {""};
	char path[PATH_MAX + 128];
	uint64_t ids[3];
	size_t length;

	for (uint64_t i = 0; i < 3; i++)
		ids[i] = store_number(store, i, true, false);
	commit_all(store);
	assert_ok(chunk_info(store, ids[1], &info));
	snprintf(path, sizeof(path), "%s/packs/%08" PRIx64, place->path, info.pack);
	flip(path, info.offset + sizeof(struct disk_record) + 100, 3);
	result = recompress(store);
	assert_int_equal(result.moved, 2);
	assert_int_equal(result.damaged, 1);
	assert_ok(chunk_info(store, ids[1], &after));
	assert_int_equal(after.pack, info.pack);
	assert_int_equal(after.offset, info.offset);
	assert_error(chunk_read(store, ids[1], buffer, SIZE, &length, &err), EBADMSG);
	check_number(store, ids[0], 0, true);
	check_number(store, ids[2], 2, true);
	/* A pass looks at each once. */
	assert_int_equal(recompress(store).damaged, 0);
	store_close(store);
}

static void readers_are_not_written_for(void **state)
{
	struct place *place = *state;
	struct relocation *relocation;
	struct store *store;

	make_store(place, "lz4");
	store = open_store_with(place, STORE_READ_ONLY, NULL);
	assert_error(relocation_begin(store, &relocation), EROFS);
	store_close(store);
}

/* ---- beside others ---- */

enum { SHARED = 60, ROUNDS = 60 };

struct beside {
	struct store *store;
	uint64_t ids[SHARED];
	_Atomic bool stop;
	_Atomic uint64_t reads;
};

static void *read_all_the_time(void *context)
{
	struct beside *beside = context;
	uint64_t id, random = (uintptr_t)&random;
	uint8_t bytes[SIZE];

	while (!atomic_load(&beside->stop)) {
		uint64_t i = next_random(&random) % SHARED;

		check_number(beside->store, beside->ids[i], i, i % 2);
		/* The same bytes again are compared with where they are now.  (A sweep that goes on
		 * beside may refuse to share; then they are stored once more, and swept.) */
		fill(bytes, i, i % 2);
		if (i % 7 == 0)
			assert_ok(chunk_store(beside->store, bytes, SIZE, &id, NULL));
		atomic_fetch_add(&beside->reads, 1);
	}
	return NULL;
}

static void *write_all_the_time(void *context)
{
	struct beside *beside = context;

	for (uint64_t i = 1000; !atomic_load(&beside->stop); i++) {
		store_number(beside->store, i, i % 2, false);
		if (i % 8 == 0)
			commit_all(beside->store);
	}
	return NULL;
}

static void move_all(struct store *store, const uint64_t *ids, uint64_t *random)
{
	struct relocation *relocation;
	size_t first = next_random(random) % SHARED;

	assert_ok(relocation_begin(store, &relocation));
	for (size_t i = 0; i < SHARED; i++) {
		assert_ok(relocation_add(relocation, ids[(first + i * 7) % SHARED], true));
		if (next_random(random) % 16 == 0)
			assert_ok(relocation_flush(relocation));
	}
	assert_ok(relocation_flush(relocation));
	assert_null(relocation_end(relocation, NULL)); /* punches the old places */
}

static void sweep_all_but(struct store *store, const uint64_t *ids, size_t count)
{
	struct idset nodes = IDSET_INIT, chunks = IDSET_INIT;
	struct sweep_result result;
	struct sweep *sweep;

	assert_ok(sweep_begin(store, &sweep));
	commit_all(store);
	for (size_t i = 0; i < count; i++)
		assert_true(idset_add(&chunks, ids[i]) >= 0);
	assert_ok(sweep_run(sweep, &nodes, &chunks, false, NULL, NULL, &result));
	assert_null(sweep_end(sweep));
	idset_release(&chunks);
}

/* Old places are punched, and their packs removed, under the readers' hands. */
static void readers_writers_and_sweeps_go_on(void **state)
{
	struct place *place = *state;
	struct beside beside = {.store = new_store(place, "lz4")};
	struct relocation_result result;
	uint64_t random = 77;
	pthread_t reader[2], writer;

	beside.store->packs.max = 400000;
	for (uint64_t i = 0; i < SHARED; i++)
		beside.ids[i] = store_number(beside.store, i, i % 2, false);
	commit_all(beside.store);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&reader[i], NULL, read_all_the_time, &beside), 0);
	assert_int_equal(pthread_create(&writer, NULL, write_all_the_time, &beside), 0);
	for (int i = 0; i < ROUNDS; i++) {
		move_all(beside.store, beside.ids, &random);
		if (i % 5 == 0)
			assert_ok(relocate_recompress(beside.store, NULL, NULL, &result));
		if (i % 9 == 0)
			sweep_all_but(beside.store, beside.ids, SHARED);
	}
	atomic_store(&beside.stop, true);
	for (int i = 0; i < 2; i++)
		pthread_join(reader[i], NULL);
	pthread_join(writer, NULL);
	assert_true(atomic_load(&beside.reads) > SHARED);
	commit_all(beside.store);
	sweep_all_but(beside.store, beside.ids, SHARED);
	check_store(beside.store);
	assert_int_equal(statistics_of(beside.store).chunks, SHARED);
	store_close(beside.store);
}

/* ---- property: whatever is done, contents stay and the tables agree ---- */

enum { NUMBERS = 300 };

struct model {
	struct store *store;
	uint64_t ids[NUMBERS]; /* 0: not stored */
	bool committed[NUMBERS];
};

static void model_store(struct model *model, uint64_t number)
{
	uint64_t id = store_number(model->store, number, number % 3, model->ids[number] != 0);

	if (model->ids[number])
		assert_int_equal(id, model->ids[number]);
	model->ids[number] = id;
}

static void model_commit(struct model *model)
{
	commit_all(model->store);
	for (int i = 0; i < NUMBERS; i++)
		model->committed[i] = model->ids[i] != 0;
}

static void model_move(struct model *model, uint64_t *random)
{
	struct relocation *relocation;

	assert_ok(relocation_begin(model->store, &relocation));
	for (int i = 0; i < 40; i++) {
		uint64_t number = next_random(random) % NUMBERS;

		/* Also the same one twice, what is not committed, and what never was. */
		assert_ok(relocation_add(relocation, model->ids[number], next_random(random) & 1));
		if (next_random(random) % 10 == 0)
			assert_ok(relocation_flush(relocation));
	}
	if (next_random(random) & 1)
		assert_ok(relocation_flush(relocation));
	relocation_end(relocation, NULL);
}

static void model_sweep(struct model *model, uint64_t *random)
{
	uint64_t kept[NUMBERS];
	size_t count = 0;

	model_commit(model); /* what no commit has is not swept */
	for (int i = 0; i < NUMBERS; i++) {
		if (model->ids[i] && next_random(random) % 4)
			kept[count++] = model->ids[i];
		else
			model->ids[i] = 0;
	}
	sweep_all_but(model->store, kept, count);
	for (int i = 0; i < NUMBERS; i++)
		model->committed[i] = model->ids[i] != 0;
}

static void model_reopen(struct model *model, struct place *place)
{
	store_close(model->store);
	model->store = open_store(place);
	model->store->packs.max = 300000;
	for (int i = 0; i < NUMBERS; i++)
		if (!model->committed[i])
			model->ids[i] = 0;
}

static void whatever_is_done_contents_stay(void **state)
{
	struct place *place = *state;
	struct model *model = calloc(1, sizeof(*model));
	uint64_t random = 20261201;

	assert_non_null(model);
	model->store = new_store(place, "lz4");
	model->store->packs.max = 300000;
	for (int step = 0; step < 400; step++) {
		switch (next_random(&random) % 8) {
		case 0:
			model_commit(model);
			break;
		case 1:
			model_move(model, &random);
			break;
		case 2:
			recompress(model->store);
			break;
		case 3:
			if (next_random(&random) % 4 == 0)
				model_sweep(model, &random);
			break;
		case 4:
			if (next_random(&random) % 4 == 0)
				model_reopen(model, place);
			break;
		default:
			for (int i = 0; i < 10; i++)
				model_store(model, next_random(&random) % NUMBERS);
		}
		if (step % 20 == 19) {
			model_commit(model);
			check_store(model->store);
			for (uint64_t i = 0; i < NUMBERS; i++)
				if (model->ids[i])
					check_number(model->store, model->ids[i], i, i % 3);
		}
	}
	store_close(model->store);
	free(model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		index_test(text_becomes_smaller_and_random_bytes_stay),
		index_test(the_setting_is_kept),
		index_test(a_pass_that_was_stopped_goes_on),
		index_test(order_is_as_asked),
		index_test(damage_stays_where_it_is),
		index_test(readers_are_not_written_for),
		index_test(readers_writers_and_sweeps_go_on),
		index_test(whatever_is_done_contents_stay),
	};

	return cmocka_run_group_tests_name("index: relocate", tests, NULL, NULL);
}
