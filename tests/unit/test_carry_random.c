/* Carry: random histories, and a naive merge of plain lists to compare with. */
#include "history_testing.h"

struct history {
	struct fixture fixture;
	struct random random;
	struct point base, from;
	char *base_text, *from_text, *head_text;
};

/* BASE, FROM and a head, with work below these directories (NULL: none). */
static void make_history(struct history *history, const char *from_top, const char *head_top,
			 const char *verbs)
{
	struct fixture *fixture = &history->fixture;
	struct random *random = &history->random;
	fixture_create(fixture);
	run(fixture->head, "m L;m R");
	random_work(fixture, random, "L", verbs, 40);
	random_work(fixture, random, "R", verbs, 40);
	random_work(fixture, random, "", verbs, 10);
	run(fixture->head, "m keep");
	history->base = keep_as(fixture, "base");
	history->base_text = list_head(fixture);
	struct small small = small_begin(fixture->head);
	bool sides = find(&small, "L") && find(&small, "R") &&
		     is_directory(&small, find(&small, "L")) &&
		     is_directory(&small, find(&small, "R"));
	small_end(&small);
	if (!sides)
		from_top = head_top = from_top && head_top ? "" : from_top;
	if (from_top)
		random_work(fixture, random, from_top, verbs, 5 + random_below(random, 40));
	run(fixture->head, "w stamp 1");
	history->from = keep_as(fixture, "from");
	history->from_text = list_head(fixture);
	go_back(fixture, &history->base);
	if (head_top && sides)
		random_work(fixture, random, head_top, verbs, 5 + random_below(random, 40));
	history->head_text = list_head(fixture);
}

static void drop_history(struct history *history)
{
	fixture_destroy(&history->fixture);
	point_release(&history->base);
	point_release(&history->from);
	free(history->base_text);
	free(history->from_text);
	free(history->head_text);
}

/* The words of a state that are below (or are) `top`, or are not. */
static void pick(const char *text, const char *top, bool below, char *ret)
{
	char *copy = strdup(text), *rest = copy, *word;
	size_t length = strlen(top);
	while ((word = strsep(&rest, " ")))
		if ((strncmp(word, top, length) == 0 && word[length] == '/') == below && *word)
			strcat(strcat(ret, *ret ? " " : ""), word);
	free(copy);
}

static void test_untouched_head_becomes_from(void **state)
{
	(void)state;
	uint64_t seed = random_seed();
	for (int round = 0; round < test_rounds(60); round++) {
		struct history history = {.random = random_from(seed + (uint64_t)round)};
		struct told told = {"", ""};
		make_history(&history, "", NULL, EVERYTHING);
		struct carry_result result =
			carry(&history.fixture, &history.from, CARRY_STOP, &told);
		char *after = list_head(&history.fixture);
		if (strcmp(after, history.from_text) != 0 || result.conflicts)
			fail_msg("round %d\nbase %s\nfrom %s\ngot  %s\n%s\n%s", round,
				 history.base_text, history.from_text, after, told.changes,
				 told.conflicts);
		assert_sound(history.fixture.repo, false);
		free(after);
		carry_result_release(&result);
		drop_history(&history);
	}
}

static void test_disjoint_work_is_united(void **state)
{
	(void)state;
	uint64_t seed = random_seed();
	for (int round = 0; round < test_rounds(60); round++) {
		struct history history = {.random = random_from(seed + (uint64_t)round)};
		struct told told = {"", ""};
		char expected[16384] = "", sorted[16384];
		make_history(&history, "L", "R", EVERYTHING);
		if (strstr(history.from_text, "links=")) { /* they may reach across */
			drop_history(&history);
			continue;
		}
		pick(history.from_text, "R", false, expected);
		pick(history.head_text, "R", true, expected);
		struct carry_result result =
			carry(&history.fixture, &history.from, CARRY_STOP, &told);
		char *after = list_head(&history.fixture);
		char *copy = strdup(expected), *rest = copy, *word, *words[512];
		size_t count = 0;
		while ((word = strsep(&rest, " ")))
			words[count++] = word;
		qsort(words, count, sizeof(words[0]), compare_lines);
		*sorted = 0;
		for (size_t i = 0; i < count; i++)
			strcat(strcat(sorted, i ? " " : ""), words[i]);
		free(copy);
		if (result.conflicts == 0 ? strcmp(after, sorted) != 0
					  : strcmp(after, history.head_text) != 0)
			fail_msg("round %d\nbase %s\nfrom %s\nhead %s\nwant %s\ngot  %s\n%s\n%s",
				 round, history.base_text, history.from_text, history.head_text,
				 sorted, after, told.changes, told.conflicts);
		assert_int_equal(result.conflicts, 0);
		assert_sound(history.fixture.repo, false);
		free(after);
		carry_result_release(&result);
		drop_history(&history);
	}
}

/* ---- against a naive merge: path by path, of plain lists ---- */

static const char *find_path(const char *text, const char *path, size_t length, char ret[256])
{
	char *copy = strdup(text), *rest = copy, *word;
	const char *found = NULL;
	while ((word = strsep(&rest, " "))) {
		size_t used = strcspn(word, "=");
		if (used == length && strncmp(word, path, length) == 0) {
			snprintf(ret, 256, "%s", word);
			found = ret;
		}
	}
	free(copy);
	return found;
}

static bool same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

/* The word that the path gets, by the policy. */
static const char *merge_naively(const char *base, const char *from, const char *head, bool take,
				 unsigned *conflicts)
{
	if (same(from, base) || same(from, head))
		return head;
	if (same(head, base))
		return from;
	++*conflicts;
	return take ? from : head;
}

static void add_word(const char *word, char *expected)
{
	if (word)
		strcat(strcat(expected, *expected ? " " : ""), word);
}

static unsigned merge_texts(const struct history *history, bool take, char *expected)
{
	static const char names[] = "abcdefghijklmnopqrstuvwxyz";
	unsigned conflicts = 0;
	for (size_t i = 0; i < sizeof(names) - 1; i++) {
		char base[256], from[256], head[256];
		const char *path = names + i;
		add_word(merge_naively(find_path(history->base_text, path, 1, base),
				       find_path(history->from_text, path, 1, from),
				       find_path(history->head_text, path, 1, head), take,
				       &conflicts),
			 expected);
	}
	return conflicts;
}

static void flat_work(struct fixture *fixture, struct random *random, int steps)
{
	struct small small = small_begin(fixture->head);
	for (int i = 0; i < steps; i++) {
		char path[2] = {(char)('a' + random_below(random, 26)), 0}, text[8];
		const char *verbs = "wwod";
		char verb = verbs[random_below(random, 4)];
		snprintf(text, sizeof(text), "%u", (unsigned)random_below(random, 4));
		if (verb == 'w' || find(&small, path))
			step(&small, verb, path, text);
	}
	small_end(&small);
	head_mark_dirty(fixture->head);
}

static void test_against_a_naive_merge(void **state)
{
	(void)state;
	uint64_t seed = random_seed();
	for (int round = 0; round < test_rounds(80); round++) {
		struct history history = {.random = random_from(seed + (uint64_t)round)};
		struct fixture *fixture = &history.fixture;
		struct told told = {"", ""};
		char expected[8192] = "";
		bool take = round % 2;
		fixture_create(fixture);
		flat_work(fixture, &history.random, 30);
		history.base = keep_as(fixture, "base");
		history.base_text = list_head(fixture);
		flat_work(fixture, &history.random, 20);
		history.from = keep_as(fixture, "from");
		history.from_text = list_head(fixture);
		go_back(fixture, &history.base);
		flat_work(fixture, &history.random, 20);
		history.head_text = list_head(fixture);
		unsigned conflicts = merge_texts(&history, take, expected);
		struct carry_result result =
			carry(fixture, &history.from, take ? CARRY_TAKE : CARRY_KEEP, &told);
		char *after = list_head(fixture);
		if (strcmp(after, expected) != 0 || result.conflicts != conflicts)
			fail_msg("round %d, take %d\nbase %s\nfrom %s\nhead %s\nwant %s (%u)\n"
				 "got  %s (%u)\n%s\n%s",
				 round, take, history.base_text, history.from_text,
				 history.head_text, expected, conflicts, after,
				 (unsigned)result.conflicts, told.changes, told.conflicts);
		assert_sound(fixture->repo, false);
		free(after);
		carry_result_release(&result);
		drop_history(&history);
	}
}

/* ---- whatever meets ---- */

static struct carry_result dry_run(struct fixture *fixture, const struct point *from,
				   enum carry_policy policy, struct told *told)
{
	const struct carry_options options = {.policy = policy,
					      .entry = tell,
					      .restart = start_again,
					      .context = told,
					      .dry_run = true};
	struct carry_result result;
	struct errbuf err = {""};
	int error = point_carry(fixture->head, from, &options, &result, &err);
	if (error)
		fail_msg("dry run: %s (%s)", strerror(-error), err.text);
	return result;
}

static void test_anything_stays_sound(void **state)
{
	(void)state;
	uint64_t seed = random_seed();
	for (int round = 0; round < test_rounds(200); round++) {
		struct history history = {.random = random_from(seed + (uint64_t)round)};
		struct fixture *fixture = &history.fixture;
		struct told dry = {"", ""}, told = {"", ""};
		enum carry_policy policy = (enum carry_policy)(round % 4);
		make_history(&history, "", "", EVERYTHING);
		struct carry_result first = dry_run(fixture, &history.from, policy, &dry);
		char *untouched = list_head(fixture);
		assert_string_equal(untouched, history.head_text);
		struct carry_result result = carry(fixture, &history.from, policy, &told);
		assert_string_equal(dry.changes, told.changes);
		assert_string_equal(dry.conflicts, told.conflicts);
		assert_int_equal(first.conflicts, result.conflicts);
		char *after = list_head(fixture);
		if (result.stopped)
			assert_string_equal(after, history.head_text);
		must(repo_commit(fixture->repo));
		assert_sound(fixture->repo, false);
		if (!result.stopped && result.revised.changed) {
			struct carry_result twice =
				carry(fixture, &history.from, CARRY_STOP, &told);
			assert_false(twice.revised.changed);
			assert_int_equal(twice.conflicts, 0);
			carry_result_release(&twice);
			struct restore_result back;
			must(point_restore(fixture->head, &result.revised.safety, NULL, &back,
					   NULL));
			char *restored = list_head(fixture);
			assert_string_equal(restored, history.head_text);
			free(restored);
			restore_result_release(&back);
		}
		free(after);
		free(untouched);
		carry_result_release(&first);
		carry_result_release(&result);
		drop_history(&history);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_untouched_head_becomes_from),
		cmocka_unit_test(test_disjoint_work_is_united),
		cmocka_unit_test(test_against_a_naive_merge),
		cmocka_unit_test(test_anything_stays_sound),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
