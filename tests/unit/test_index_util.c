/* The containers of index/util against naive models, and byte order. */
#include "index_testing.h"

#include "index/util/array.h"
#include "index/util/idset.h"
#include "index/util/shell.h"
#include "index/util/u64map.h"

static void map_behaves_like_an_array(void **state)
{
	enum { KEYS = 700, STEPS = 200000 };
	static void *model[KEYS + 1];
	struct u64map map = U64MAP_INIT;
	uint64_t random = 1;
	size_t count = 0;

	(void)state;
	for (int i = 0; i < STEPS; i++) {
		/* Keys that differ in high bits only, too. */
		size_t at = next_random(&random) % KEYS + 1;
		uint64_t key = at % 2 ? at : (uint64_t)at << 48;
		void *value = (void *)(uintptr_t)(next_random(&random) | 1);

		if (next_random(&random) % 3) {
			assert_ok(u64map_put(&map, key, value));
			count += !model[at];
			model[at] = value;
		} else {
			assert_ptr_equal(u64map_remove(&map, key), model[at]);
			count -= !!model[at];
			model[at] = NULL;
		}
		assert_int_equal(map.count, count);
		at = next_random(&random) % KEYS + 1;
		assert_ptr_equal(u64map_get(&map, at % 2 ? at : (uint64_t)at << 48), model[at]);
	}
	for (size_t position = 0, seen = 0;; seen++) {
		struct u64map_entry *entry = u64map_next(&map, &position);

		if (!entry) {
			assert_int_equal(seen, count);
			break;
		}
		assert_ptr_equal(entry->value,
				 model[entry->key >> 48 ? entry->key >> 48 : entry->key]);
	}
	u64map_clear(&map);
	assert_int_equal(map.count, 0);
	assert_null(u64map_get(&map, 1));
	u64map_release(&map);
}

static void map_refuses_what_it_cannot_hold(void **state)
{
	struct u64map map = U64MAP_INIT;
	size_t capacity;

	(void)state;
	assert_null(u64map_get(&map, 5));
	assert_null(u64map_remove(&map, 5));
	assert_error(u64map_put(&map, 0, &map), EINVAL);
	assert_error(u64map_put(&map, 1, NULL), EINVAL);
	assert_error(u64map_reserve(&map, SIZE_MAX / 2), ENOMEM);
	assert_int_equal(map.count, 0);
	assert_ok(u64map_reserve(&map, 1000));
	capacity = map.capacity;
	for (uint64_t key = 1; key <= 1000; key++)
		assert_ok(u64map_put(&map, key << 32, &map));
	assert_int_equal(map.capacity, capacity);
	u64map_release(&map);
}

static void set_behaves_like_an_array(void **state)
{
	enum { IDS = 100000, STEPS = 300000 };
	static bool model[IDS];
	struct idset set = IDSET_INIT;
	uint64_t random = 7, count = 0;

	(void)state;
	for (int i = 0; i < STEPS; i++) {
		size_t id = next_random(&random) % IDS;

		assert_int_equal(idset_add(&set, id), !model[id]);
		count += !model[id];
		model[id] = true;
		id = next_random(&random) % IDS;
		assert_int_equal(idset_has(&set, id), model[id]);
	}
	assert_int_equal(set.count, count);
	for (size_t id = 0; id < IDS; id++)
		assert_int_equal(idset_has(&set, id), model[id]);
	assert_int_equal(idset_add(&set, UINT64_C(1) << 63), 1);
	assert_true(idset_has(&set, UINT64_C(1) << 63));
	assert_false(idset_has(&set, UINT64_C(1) << 62));
	idset_release(&set);
	assert_int_equal(set.count, 0);
	assert_false(idset_has(&set, 1));
	idset_release(&set);
}

static void bytes_have_an_order(void **state)
{
	uint8_t bytes[9] = {0};

	(void)state;
	put_le64(bytes + 1, UINT64_C(0x0102030405060708));
	assert_memory_equal(bytes, "\0\x08\x07\x06\x05\x04\x03\x02\x01", 9);
	assert_true(get_le64(bytes + 1) == UINT64_C(0x0102030405060708));
	assert_int_equal(get_be32(bytes + 1), 0x08070605);
	put_be16(bytes, 0xabcd);
	assert_memory_equal(bytes, "\xab\xcd", 2);
	assert_int_equal(get_le16(bytes), 0xcdab);
}

static void messages_are_cut_to_fit(void **state)
{
	struct errbuf err = {""};
	char text[2000];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(err_set(&err, -EIO, "%s", text), -EIO);
	assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
	assert_int_equal(err_set(NULL, -EPERM, "%s", text), -EPERM);
}

static void words_are_quoted_for_a_shell(void **state)
{
	static const struct {
		const char *word, *quoted;
	} cases[] = {
		{"plain-1.2_3@x", "plain-1.2_3@x"},
		{"", "''"},
		{"two words", "'two words'"},
		{"it's", "'it'\\''s'"},
		{"$(x) `x` \"y\"", "'$(x) `x` \"y\"'"},
		{"~", "'~'"},
		{"\xc3\xa4", "'\xc3\xa4'"},
	};
	char buffer[SHELL_QUOTED(16)];
	(void)state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(shell_quote(cases[i].word, buffer, sizeof(buffer)),
				    cases[i].quoted);
	/* The longest that a word of this length can become. */
	assert_int_equal(strlen(shell_quote("''''''''''''''''", buffer, sizeof(buffer))),
			 SHELL_QUOTED(16) - 1);
	assert_string_equal(shell_quote("two words", buffer, 12), "two words");
}

static void arrays_grow_and_keep_what_they_hold(void **state)
{
	uint64_t *numbers = NULL;
	size_t capacity = 0, moves = 0;
	(void)state;

	for (uint64_t count = 0; count < 10000; count++) {
		size_t before = capacity;
		numbers = array_reserve(numbers, count + 1, &capacity, sizeof(numbers[0]));
		assert_non_null(numbers);
		assert_in_range(capacity, count + 1, 2 * count + 16);
		moves += capacity != before;
		numbers[count] = count;
	}
	assert_in_range(moves, 1, 16);
	for (uint64_t i = 0; i < 10000; i++)
		assert_int_equal(numbers[i], i);

	/* What no memory can hold leaves both as they were. */
	size_t before = capacity;
	assert_null(array_reserve(numbers, SIZE_MAX, &capacity, sizeof(numbers[0])));
	assert_null(array_reserve(numbers, SIZE_MAX / 4, &capacity, sizeof(numbers[0])));
	assert_int_equal(capacity, before);
	free(numbers);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(map_behaves_like_an_array),
		cmocka_unit_test(map_refuses_what_it_cannot_hold),
		cmocka_unit_test(set_behaves_like_an_array),
		cmocka_unit_test(bytes_have_an_order),
		cmocka_unit_test(messages_are_cut_to_fit),
		cmocka_unit_test(words_are_quoted_for_a_shell),
		cmocka_unit_test(arrays_grow_and_keep_what_they_hold),
	};

	return cmocka_run_group_tests_name("index: util", tests, NULL, NULL);
}
