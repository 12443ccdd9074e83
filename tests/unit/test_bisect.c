/* The search of `cairn bisect`, without points and commands. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "tools/bisect.c"

static unsigned logarithm(size_t number) /* rounded up */
{
	unsigned steps = 0;
	while (((size_t)1 << steps) < number)
		steps++;
	return steps;
}

/* Searches until the end; `judgeable` NULL: all are. How many were looked at. */
static unsigned hunt(size_t count, size_t first_bad, const bool *judgeable, struct bisection *b)
{
	size_t index, last = 0;
	unsigned runs = 0;
	assert_int_equal(bisection_begin(count, b), 0);
	while (bisection_next(b, &index)) {
		assert_true(index > b->good && index < b->bad && (runs == 0 || index != last));
		assert_false(b->skipped[index]);
		assert_true(bisection_left(b) > 0);
		assert_true(++runs <= count);
		bisection_note(b, index,
			       judgeable && !judgeable[index] ? BISECT_SKIP
			       : index < first_bad	      ? BISECT_GOOD
							      : BISECT_BAD);
		last = index;
	}
	assert_int_equal(bisection_left(b), 0);
	assert_int_equal(bisection_steps(b), 0);
	return runs;
}

static void test_every_place(void **state)
{
	(void)state;
	for (size_t count = 2; count <= 130; count++) {
		for (size_t bad = 1; bad < count; bad++) {
			struct bisection b;
			unsigned runs = hunt(count, bad, NULL, &b);
			assert_int_equal(b.bad, bad);
			assert_int_equal(b.good, bad - 1);
			assert_true(runs <= logarithm(count - 1));
			bisection_release(&b);
		}
	}
}

static void test_thousand(void **state)
{
	struct bisection b;
	(void)state;
	for (size_t bad = 1; bad < 1000; bad++) {
		assert_true(hunt(1000, bad, NULL, &b) <= 10);
		bisection_release(&b);
	}
	assert_int_equal(bisection_begin(1000, &b), 0);
	assert_int_equal(bisection_left(&b), 998);
	assert_int_equal(bisection_steps(&b), 10);
	bisection_release(&b);
}

/* The bounds are right whatever is skipped, and as tight as they can be. */
static void test_skips(void **state)
{
	unsigned seed = (unsigned)time(NULL);
	const char *text = getenv("CAIRN_TEST_SEED");
	(void)state;
	if (text)
		seed = (unsigned)strtoul(text, NULL, 0);
	print_message("seed %u (CAIRN_TEST_SEED)\n", seed);
	srandom(seed);
	for (int round = 0; round < 20000; round++) {
		bool judgeable[64];
		size_t count = 2 + (size_t)random() % 60, bad = 1 + (size_t)random() % (count - 1);
		long share = random() % 5;
		for (size_t i = 0; i < count; i++)
			judgeable[i] = random() % 5 >= share;
		struct bisection b;
		hunt(count, bad, judgeable, &b);
		assert_true(b.good < bad && b.bad >= bad);
		for (size_t i = b.good + 1; i < b.bad; i++)
			assert_false(judgeable[i]);
		bisection_release(&b);
	}
}

/* A long stretch that cannot be judged is left after few steps. */
static void test_stretch(void **state)
{
	static bool judgeable[1000];
	struct bisection b;
	(void)state;
	for (size_t i = 0; i < 1000; i++)
		judgeable[i] = i < 300 || i > 700;
	assert_true(hunt(1000, 100, judgeable, &b) < 50);
	assert_int_equal(b.bad, 100);
	bisection_release(&b);
	assert_true(hunt(1000, 900, judgeable, &b) < 50);
	assert_int_equal(b.bad, 900);
	bisection_release(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_place),
		cmocka_unit_test(test_thousand),
		cmocka_unit_test(test_skips),
		cmocka_unit_test(test_stretch),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
