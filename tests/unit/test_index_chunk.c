/* Chunks: round trips, deduplication, collisions (I5), damage (I6). */
#include "index_testing.h"

#include <pthread.h>

#include "index/store_internal.h"

static const char *const codecs[] = {"none", "lz4", "zstd:1", "zstd:19"};
enum { CODECS = sizeof(codecs) / sizeof(codecs[0]) };

static void pack_path(struct place *place, uint64_t number, char ret[PATH_MAX + 128])
{
	snprintf(ret, PATH_MAX + 128, "%s/packs/%08" PRIx64, place->path, number);
}

static void every_size_comes_back(void **state)
{
	static const size_t sizes[] = {
		1,	  2,   7,    8,	   9,	 15,	16,    17,    47,    48,     100,
		511,	  512, 4095, 4096, 4097, 16383, 65535, 65536, 65537, 200000, CHUNK_MAX - 1,
		CHUNK_MAX};
	enum { SIZES = sizeof(sizes) / sizeof(sizes[0]), KINDS = 3 };
	struct place *place = *state;
	static uint8_t bytes[CHUNK_MAX];

	for (int codec = 0; codec < CODECS; codec++) {
		uint64_t ids[SIZES][KINDS];
		struct store *store = new_store(place, codecs[codec]);

		for (int round = 0; round < 4; round++) {
			for (size_t i = 0; i < SIZES; i++) {
				for (int kind = 0; kind < KINDS; kind++) {
					if (kind == 0)
						fill_random(bytes, sizes[i], 11);
					else if (kind == 1)
						fill_text(bytes, sizes[i], 5);
					else
						memset(bytes, 'z', sizes[i]);
					if (round == 0)
						assert_ok(chunk_store(store, bytes, sizes[i],
								      &ids[i][kind], NULL));
					else
						check_chunk(store, ids[i][kind], bytes, sizes[i]);
				}
			}
			if (round == 1)
				commit_all(store);
			if (round == 2) {
				store_close(store);
				store = open_store(place);
			}
		}
		assert_int_equal(atomic_load(&store->order_violations), 0);
		store_close(store);
		remove_tree(place->path);
	}
}

static void compression_is_used_where_it_pays(void **state)
{
	struct place *place = *state;
	struct store *store = new_store(place, "lz4");
	static uint8_t bytes[65536];
	static const enum codec expected[] = {CODEC_NONE, CODEC_LZ4, CODEC_ZSTD, CODEC_ZSTD};

	for (int codec = 0; codec < CODECS; codec++) {
		struct store_compression compression;
		struct chunk_info info;
		uint64_t id;

		assert_ok(store_parse_compression(codecs[codec], &compression, NULL));
		assert_ok(store_set_compression(store, &compression));
		fill_text(bytes, sizeof(bytes), 100 + (uint64_t)codec);
		id = store_bytes(store, bytes, sizeof(bytes), false);
		assert_ok(chunk_info(store, id, &info));
		assert_int_equal(info.codec, expected[codec]);
		assert_int_equal(info.raw_length, sizeof(bytes));
		assert_true(codec ? info.stored_length <= sizeof(bytes) / 16 * 15
				  : info.stored_length == sizeof(bytes));
		fill_random(bytes, sizeof(bytes), 200 + (uint64_t)codec);
		id = store_bytes(store, bytes, sizeof(bytes), false);
		assert_ok(chunk_info(store, id, &info));
		assert_int_equal(info.codec, CODEC_NONE);
		assert_int_equal(info.stored_length, sizeof(bytes));
	}
	/* Almost random, too short for the sample to tell: does not shrink by a sixteenth. */
	fill_random(bytes, 2000, 7);
	memset(bytes, 0, 60);
	{
		struct chunk_info info;

		assert_ok(chunk_info(store, store_bytes(store, bytes, 2000, false), &info));
		assert_int_equal(info.codec, CODEC_NONE);
	}
	store_close(store);
}

static void equal_bytes_share_a_chunk(void **state)
{
	struct place *place = *state;
	struct store *store = new_store(place, "zstd");
	struct store_statistics statistics;
	static uint8_t bytes[70000];
	uint64_t id, other;

	fill_text(bytes, sizeof(bytes), 1);
	id = store_bytes(store, bytes, sizeof(bytes), false);
	assert_int_equal(store_bytes(store, bytes, sizeof(bytes), true), id); /* pending */
	commit_all(store);
	assert_int_equal(store_bytes(store, bytes, sizeof(bytes), true), id); /* in the index */
	other = store_bytes(store, bytes, sizeof(bytes) - 1, false);
	assert_int_not_equal(other, id);
	commit_all(store);
	store_close(store);
	store = open_store(place);
	assert_int_equal(store_bytes(store, bytes, sizeof(bytes), true), id);
	assert_int_equal(store_bytes(store, bytes, sizeof(bytes) - 1, true), other);
	assert_ok(store_statistics(store, &statistics));
	assert_int_equal(statistics.chunks, 2);
	assert_int_equal(statistics.raw_bytes, 2 * sizeof(bytes) - 1);
	assert_int_equal(store_peek(store, COUNTER_CHUNK), 3);
	store_close(store);
}

static void limits_of_arguments(void **state)
{
	struct place *place = *state;
	struct store *store = new_store(place, "none");
	uint8_t bytes[100] = {1}, buffer[100];
	struct errbuf err = {""};
	struct chunk_info info;
	uint64_t id;
	size_t length = 77;

	assert_error(chunk_store(store, bytes, 0, &id, NULL), EINVAL);
	assert_error(chunk_store(store, bytes, CHUNK_MAX + 1, &id, NULL), EINVAL);
	id = store_bytes(store, bytes, sizeof(bytes), false);
	assert_error(chunk_read(store, id, buffer, sizeof(buffer) - 1, &length, &err), ERANGE);
	assert_error(chunk_read(store, id + 1, buffer, sizeof(buffer), &length, &err), EUCLEAN);
	assert_error(chunk_read(store, 0, buffer, sizeof(buffer), &length, &err), EUCLEAN);
	assert_error(chunk_info(store, 99, &info), EUCLEAN);
	assert_int_equal(length, 77);
	chunks_prefetch(store, &id, 1);
	chunks_prefetch(store, (uint64_t[]){99, id, 98, id}, 4);
	store_close(store);
}

/* I5: with so few bits that count, nearly everything collides. */
static void colliding_chunks_stay_apart(void **state)
{
	enum { CHUNKS = 300, SIZE = 5000 };
	static const unsigned widths[] = {0, 1, 5, 12, 64, 70};
	struct place *place = *state;
	static uint8_t bytes[SIZE];

	for (size_t width = 0; width < sizeof(widths) / sizeof(widths[0]); width++) {
		struct store *store = new_store(place, "lz4");
		uint64_t ids[CHUNKS];

		chunk_test_limit_hash(store, widths[width]);
		for (int round = 0; round < 3; round++) {
			for (int i = 0; i < CHUNKS; i++) {
				uint64_t id;

				fill_text(bytes, SIZE, (uint64_t)i);
				id = store_bytes(store, bytes, SIZE, round > 0);
				if (round == 0)
					ids[i] = id;
				assert_int_equal(id, ids[i]);
				if (i == CHUNKS / 2)
					commit_all(store);
			}
			commit_all(store);
		}
		for (int i = 0; i < CHUNKS; i++) {
			fill_text(bytes, SIZE, (uint64_t)i);
			check_chunk(store, ids[i], bytes, SIZE);
		}
		store_close(store);
		remove_tree(place->path);
	}
}

enum { THREADS = 8, SHARED = 400 };

struct crowd {
	struct store *store;
	unsigned seed;
	uint64_t ids[SHARED];
	uint64_t stored; /* not duplicates */
	bool commits;
	int result;
};

static void *store_in_a_crowd(void *argument)
{
	struct crowd *crowd = argument;
	uint8_t *bytes = malloc(40000);

	for (unsigned i = 0; i < SHARED && bytes && crowd->result == 0; i++) {
		/* All threads want the same chunks, in about the same order. */
		unsigned at = (i + crowd->seed % 3) % SHARED;
		bool duplicate;

		fill_text(bytes, 40000, at);
		crowd->result = chunk_store(crowd->store, bytes, 10000 + at * 50, &crowd->ids[at],
					    &duplicate);
		if (crowd->result == 0 && !duplicate)
			crowd->stored++;
		if (crowd->commits && i % 32 == 0 && crowd->result == 0)
			crowd->result = try_commit_all(crowd->store);
	}
	free(bytes);
	return NULL;
}

static void identical_stores_at_once(void **state)
{
	struct place *place = *state;
	struct store *store = new_store(place, "lz4");
	struct store_statistics statistics;
	static struct crowd crowds[THREADS];
	pthread_t threads[THREADS];
	uint64_t stored = 0;
	uint8_t *bytes = malloc(40000);

	memset(crowds, 0, sizeof(crowds));
	for (unsigned i = 0; i < THREADS; i++) {
		crowds[i] = (struct crowd){.store = store, .seed = i, .commits = i == 0};
		assert_int_equal(pthread_create(&threads[i], NULL, store_in_a_crowd, &crowds[i]),
				 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_ok(crowds[i].result);
		assert_memory_equal(crowds[i].ids, crowds[0].ids, sizeof(crowds[i].ids));
		stored += crowds[i].stored;
	}
	assert_int_equal(stored, SHARED);
	commit_all(store);
	assert_ok(store_statistics(store, &statistics));
	assert_int_equal(statistics.chunks, SHARED);
	assert_int_equal(store->chunks.by_id.count, 0);
	assert_int_equal(store->chunks.by_key.count, 0);
	assert_int_equal(store->chunks.writing, 0);
	for (unsigned i = 0; i < SHARED; i++) {
		fill_text(bytes, 40000, i);
		check_chunk(store, crowds[0].ids[i], bytes, 10000 + i * 50);
	}
	free(bytes);
	assert_int_equal(atomic_load(&store->order_violations), 0);
	store_close(store);
}

/* I6: a record of each kind, every bit flipped: an error, or the right bytes. */
static void flipped_bits_are_seen(void **state)
{
	struct place *place = *state;
	uint8_t bytes[300], buffer[CHUNK_MAX];
	char path[PATH_MAX + 128];
	unsigned wrong = 0, seen = 0;

	for (int codec = 0; codec < CODECS; codec++) {
		struct store *store = new_store(place, codecs[codec]);
		struct chunk_info info;
		uint64_t id;

		memset(bytes, 'a', sizeof(bytes));
		fill_random(bytes, 60, 3);
		id = store_bytes(store, bytes, sizeof(bytes), false);
		commit_all(store);
		assert_ok(chunk_info(store, id, &info));
		assert_int_equal(info.codec, codec < 2 ? codec : 2);
		pack_path(place, info.pack, path);
		for (uint64_t offset = 0; offset < record_size(info.stored_length); offset++) {
			for (unsigned bit = 0; bit < 8; bit++) {
				struct errbuf err = {""};
				char words[64];
				size_t length;
				int r;

				flip(path, offset, bit);
				r = chunk_read(store, id, buffer, sizeof(buffer), &length, &err);
				flip(path, offset, bit);
				if (r == 0) {
					assert_int_equal(length, sizeof(bytes));
					assert_memory_equal(buffer, bytes, length);
					wrong += offset <
						 sizeof(struct disk_record) + info.stored_length;
					continue;
				}
				seen++;
				assert_int_equal(r, -EBADMSG);
				snprintf(words, sizeof(words),
					 "pack %08" PRIx64 ", offset %" PRIu64, info.pack,
					 info.offset);
				assert_non_null(strstr(err.text, words));
			}
		}
		check_chunk(store, id, bytes, sizeof(bytes));
		store_close(store);
		remove_tree(place->path);
	}
	/* A few bits of a compressed stream mean nothing. */
	assert_true(wrong < 40);
	assert_true(seen > 4000);
}

enum { MANY = 200, MANY_MAX = 40000 };

/* Sizes, kinds and codecs alternate, so that records of all sorts lie side by side. */
static size_t many_bytes(int i, uint8_t *bytes)
{
	size_t length = i % 7 == 0 ? 1 + (size_t)i : (size_t)(i * 7919) % MANY_MAX + 1;

	if (i % 3 == 0)
		fill_random(bytes, length, (uint64_t)i + 1);
	else
		fill_text(bytes, length, (uint64_t)i + 1);
	return length;
}

static int read_many(struct store *store, const uint64_t *ids, int count, struct errbuf *err)
{
	static uint8_t buffers[MANY][MANY_MAX], bytes[MANY_MAX];
	static struct chunk_load loads[MANY];

	memset(buffers, 0xee, sizeof(buffers));
	for (int i = 0; i < count; i++) {
		uint64_t id = ids[i];
		loads[i] =
			(struct chunk_load){.id = id, .buffer = buffers[i], .capacity = MANY_MAX};
		assert_ok(chunk_info(store, id, &loads[i].info));
	}
	int error = chunks_read(store, loads, count, err);
	for (int i = 0; i < count && !error; i++) {
		/* The first chunk of a store is number 1. */
		size_t length = many_bytes((int)ids[i] - 1, bytes);
		assert_int_equal(loads[i].info.raw_length, length);
		assert_memory_equal(buffers[i], bytes, length);
		assert_true(length == MANY_MAX || buffers[i][length] == 0xee);
	}
	return error;
}

static void many_chunks_are_read_at_once(void **state)
{
	struct place *place = *state;
	struct store *store = new_store(place, "none");
	static uint8_t bytes[MANY_MAX];
	uint64_t ids[MANY], order[MANY];
	struct errbuf err = {""};
	char path[PATH_MAX + 128];
	struct chunk_info info;

	for (int i = 0; i < MANY; i++) {
		struct store_compression compression;
		assert_ok(store_parse_compression(codecs[i / 5 % CODECS], &compression, NULL));
		assert_ok(store_set_compression(store, &compression));
		size_t length = many_bytes(i, bytes);
		ids[i] = store_bytes(store, bytes, length, false);
		assert_int_equal(ids[i], i + 1);
	}
	assert_ok(read_many(store, ids, MANY, &err)); /* not committed yet */
	commit_all(store);
	assert_ok(read_many(store, ids, MANY, &err));
	assert_ok(read_many(store, ids, 0, &err));
	/* Backwards, every other one, the same one again and again. */
	for (int i = 0; i < MANY; i++)
		order[i] = ids[MANY - 1 - i];
	assert_ok(read_many(store, order, MANY, &err));
	for (int i = 0; i < MANY / 2; i++)
		order[i] = ids[2 * i];
	assert_ok(read_many(store, order, MANY / 2, &err));
	for (int i = 0; i < MANY; i++)
		order[i] = ids[i / 4];
	assert_ok(read_many(store, order, MANY, &err));

	/* I6 in the midst of a group: said of the chunk that it is. */
	assert_ok(chunk_info(store, ids[MANY / 2], &info));
	pack_path(place, info.pack, path);
	flip(path, info.offset + 48 + info.stored_length / 2, 5);
	assert_error(read_many(store, ids, MANY, &err), EBADMSG);
	assert_non_null(strstr(err.text, "chunk 101 "));
	assert_ok(read_many(store, ids, MANY / 2, &err));
	flip(path, info.offset + 48 + info.stored_length / 2, 5);
	assert_ok(read_many(store, ids, MANY, &err));
	/* A pack that ends too early. */
	assert_ok(chunk_info(store, ids[MANY - 1], &info));
	assert_int_equal(truncate(path, (off_t)info.offset + 50), 0);
	assert_error(read_many(store, ids, MANY, &err), EBADMSG);
	assert_non_null(strstr(err.text, "chunk 200 "));
	store_close(store);
}

/* A stream is on the disk before any commit asks for it, but for its end. */
static void a_stream_is_synced_early(void **state)
{
	enum { LENGTH = 48 << 20, WAIT_MS = 20000 };
	struct place *place = *state;
	struct store *store = new_store(place, "none");
	static uint8_t bytes[CHUNK_MAX];
	bool durable = false;

	for (size_t done = 0; done < LENGTH; done += CHUNK_MAX) {
		assert_false(durable);
		fill_random(bytes, CHUNK_MAX, done + 1);
		store_bytes(store, bytes, CHUNK_MAX, false);
		if (done < LENGTH / 4)
			durable = pack_is_durable(store, 1, 1);
	}
	for (int i = 0; i < WAIT_MS && !durable; i++) {
		usleep(1000);
		durable = pack_is_durable(store, 1, 1);
	}
	assert_true(durable);
	commit_all(store);
	assert_int_equal(atomic_load(&store->order_violations), 0);
	store_close(store);
}

static void a_damaged_chunk_is_not_shared(void **state)
{
	struct place *place = *state;
	struct store *store = new_store(place, "none");
	uint8_t bytes[1000], buffer[1000];
	char path[PATH_MAX + 128];
	uint64_t id, again;
	size_t length;

	fill_random(bytes, sizeof(bytes), 9);
	id = store_bytes(store, bytes, sizeof(bytes), false);
	commit_all(store);
	pack_path(place, 1, path);
	flip(path, 48 + 500, 3);
	assert_error(chunk_read(store, id, buffer, sizeof(buffer), &length, NULL), EBADMSG);
	again = store_bytes(store, bytes, sizeof(bytes), false);
	assert_int_not_equal(again, id);
	commit_all(store);
	/* From now on the good one is found behind the bad one. */
	assert_int_equal(store_bytes(store, bytes, sizeof(bytes), true), again);
	check_chunk(store, again, bytes, sizeof(bytes));
	store_close(store);
}

static void lost_packs_are_told(void **state)
{
	struct place *place = *state;
	struct store *store = new_store(place, "none");
	uint8_t bytes[5000], buffer[5000];
	struct errbuf err = {""};
	char path[PATH_MAX + 128];
	uint64_t id, later;
	size_t length;

	fill_random(bytes, sizeof(bytes), 1);
	id = store_bytes(store, bytes, sizeof(bytes), false);
	commit_all(store);
	store_close(store);

	/* Cut in the middle: the store opens, the chunk is damaged, new ones go elsewhere. */
	pack_path(place, 1, path);
	assert_int_equal(truncate(path, 3000), 0);
	store = open_store(place);
	assert_error(chunk_read(store, id, buffer, sizeof(buffer), &length, &err), EBADMSG);
	later = store_bytes(store, bytes, sizeof(bytes), false);
	commit_all(store);
	check_chunk(store, later, bytes, sizeof(bytes));
	store_close(store);

	assert_int_equal(unlink(path), 0);
	store = open_store(place);
	assert_error(chunk_read(store, id, buffer, sizeof(buffer), &length, &err), EUCLEAN);
	assert_non_null(strstr(err.text, "pack 00000001"));
	check_chunk(store, later, bytes, sizeof(bytes));
	store_close(store);
}

static void opening_cuts_what_no_commit_knows(void **state)
{
	struct place *place = *state;
	struct store *store = new_store(place, "none");
	uint8_t bytes[3000];
	char path[PATH_MAX + 128];
	struct stat st;
	uint64_t id;

	fill_random(bytes, sizeof(bytes), 1);
	id = store_bytes(store, bytes, sizeof(bytes), false);
	commit_all(store);
	pack_path(place, 1, path);
	assert_int_equal(stat(path, &st), 0);
	for (uint64_t i = 2; i < 20; i++) {
		fill_random(bytes, sizeof(bytes), i);
		store_bytes(store, bytes, sizeof(bytes), false);
	}
	store_close(store);
	{
		off_t committed = st.st_size;
		char stray[PATH_MAX + 128], note[PATH_MAX + 128];

		pack_path(place, 0xabcdef, stray);
		close(open(stray, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
		snprintf(note, sizeof(note), "%s/packs/README", place->path);
		close(open(note, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
		assert_int_equal(stat(path, &st), 0);
		assert_true(st.st_size > committed);

		/* A reader leaves everything as it is. */
		store_close(open_store_with(place, STORE_READ_ONLY, NULL));
		assert_int_equal(stat(stray, &st), 0);
		store = open_store(place);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_size, committed);
		assert_int_equal(stat(stray, &st), -1);
		assert_int_equal(stat(note, &st), 0);
	}
	fill_random(bytes, sizeof(bytes), 1);
	check_chunk(store, id, bytes, sizeof(bytes));
	/* The ids of what is gone are handed out again: no commit has seen them. */
	fill_random(bytes, sizeof(bytes), 77);
	assert_int_equal(store_bytes(store, bytes, sizeof(bytes), false), id + 1);
	check_chunk(store, id + 1, bytes, sizeof(bytes));
	store_close(store);
}

static void a_reader_beside_a_writer_sees_commits(void **state)
{
	struct place *place = *state;
	int ready[2], ask[2];
	uint8_t bytes[2000];
	char byte = 0;
	pid_t child;

	make_store(place, "lz4");
	assert_int_equal(pipe(ready), 0);
	assert_int_equal(pipe(ask), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		struct store *store = NULL;
		uint64_t id;

		close(ask[1]);
		if (store_open(place->path, 0, NULL, &store, NULL) < 0)
			_exit(1);
		for (uint64_t i = 1; read(ask[0], &byte, 1) == 1; i++) {
			fill_random(bytes, sizeof(bytes), i);
			if (chunk_store(store, bytes, sizeof(bytes), &id, NULL) < 0 ||
			    try_commit_all(store) < 0 || write(ready[1], &byte, 1) != 1)
				_exit(1);
		}
		store_close(store);
		_exit(0);
	}
	close(ready[1]);
	close(ask[0]);
	{
		struct store *store = NULL;

		for (uint64_t i = 1; i < 50; i++) {
			assert_int_equal(write(ask[1], &byte, 1), 1);
			assert_int_equal(read(ready[0], &byte, 1), 1);
			if (!store)
				store = open_store_with(place, STORE_READ_ONLY, NULL);
			fill_random(bytes, sizeof(bytes), i);
			check_chunk(store, i, bytes, sizeof(bytes));
		}
		store_close(store);
	}
	close(ask[1]);
	close(ready[0]);
	{
		int status;

		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(status, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		index_test(every_size_comes_back),
		index_test(compression_is_used_where_it_pays),
		index_test(equal_bytes_share_a_chunk),
		index_test(limits_of_arguments),
		index_test(colliding_chunks_stay_apart),
		index_test(identical_stores_at_once),
		index_test(flipped_bits_are_seen),
		index_test(many_chunks_are_read_at_once),
		index_test(a_stream_is_synced_early),
		index_test(a_damaged_chunk_is_not_shared),
		index_test(lost_packs_are_told),
		index_test(opening_cuts_what_no_commit_knows),
		index_test(a_reader_beside_a_writer_sees_commits),
	};

	return cmocka_run_group_tests_name("index: chunks", tests, NULL, NULL);
}
