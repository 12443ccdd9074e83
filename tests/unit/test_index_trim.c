/* store_trim_memory(): mapped pages of the index go, what they hold does not. */
#include "index_testing.h"

enum { NODES = 8000, KEEP = 4 << 20 };

/* Bytes of files that are mapped in. */
static size_t resident(void)
{
	unsigned long shared = 0;
	FILE *file = fopen("/proc/self/statm", "r");

	assert_non_null(file);
	assert_int_equal(fscanf(file, "%*u %*u %lu", &shared), 1);
	fclose(file);
	return shared * (size_t)sysconf(_SC_PAGESIZE);
}

static void test_pages_go_and_pointers_stay(void **state)
{
	struct store *store = new_store(*state, "none");
	struct commit *commit;
	struct reader *reader;
	const uint8_t *node, *first;

	assert_int_equal(commit_begin(store, &commit), 0);
	for (uint64_t id = 1; id <= NODES; id++)
		put_node(commit, id, id);
	assert_int_equal(commit_seal(commit), 0);
	assert_int_equal(commit_finish(commit), 0);

	assert_int_equal(reader_acquire(store, &reader), 0);
	assert_int_equal(reader_node(reader, 1, &first), 0);
	for (uint64_t id = 2; id <= NODES; id++)
		assert_int_equal(reader_node(reader, id, &node), 0);
	size_t before = resident();
	assert_true(before > (size_t)NODES * NODE_SIZE);

	assert_int_equal(store_trim_memory(store, before + KEEP), 0);
	assert_true(resident() >= before); /* within the budget: nothing happens */
	assert_int_equal(store_trim_memory(store, KEEP), 0);
	assert_true(resident() < before - (size_t)NODES * NODE_SIZE / 2);

	assert_int_equal(node_content(first), 1);
	for (uint64_t id = 1; id <= NODES; id++) {
		assert_int_equal(reader_node(reader, id, &node), 0);
		assert_int_equal(node_content(node), id);
	}
	reader_release(reader);
	store_close(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_pages_go_and_pointers_stay, place_setup,
						place_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
