/*
 * snapshot/retention.h against a model of restic's `forget` (its manual, "Removing snapshots
 * according to a policy"), which is written here in another way: it has its own calendar (UTC and
 * fixed offsets), looks at sets of periods rather than at the one before, and never sorts.
 */
#include <time.h>

#include "repo_testing.h"
#include "snapshot/retention.h"

#define SECOND ((int64_t)1000000000)
#define HOUR (3600 * SECOND)
#define DAY (24 * HOUR)

static void set_zone(const char *zone)
{
	setenv("TZ", zone, 1);
	tzset();
}

static int64_t at(const char *text)
{
	int64_t ns;
	struct errbuf err = {""};
	if (point_parse_time(text, 0, &ns, &err))
		fail_msg("%s: %s", text, err.text);
	return ns;
}

/* ---- the model ---- */

enum { MODEL_MAX = 200 };

/* Days since 1970 to a date: E. M. Reingold and N. Dershowitz, "Calendrical Calculations". */
static void civil(int64_t days, int64_t *ret_year, int64_t *ret_month, int64_t *ret_day)
{
	int64_t year = 1970;
	static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	for (;;) {
		bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
		int length = leap ? 366 : 365;
		if (days < length) {
			for (int month = 0;; month++) {
				int in_month = lengths[month] + (leap && month == 1);
				if (days < in_month) {
					*ret_year = year;
					*ret_month = month + 1;
					*ret_day = days + 1;
					return;
				}
				days -= in_month;
			}
		}
		days -= length;
		year++;
	}
}

/* A number that is the same for the same period, and differs otherwise. */
static int64_t period(enum retention_reason rule, int64_t ns, int64_t offset_hours)
{
	int64_t hours = ns / HOUR + offset_hours, days = hours / 24, year, month, day;
	civil(days, &year, &month, &day);
	switch (rule) {
	case RETENTION_HOURLY:
		return hours;
	case RETENTION_DAILY:
		return days;
	case RETENTION_WEEKLY:
		return (days + 3) / 7; /* 1970-01-01 was a Thursday */
	case RETENTION_MONTHLY:
		return year * 12 + month;
	default:
		return year;
	}
}

static int older_count(const struct point *points, size_t count, const struct point *than)
{
	int result = 0;
	for (size_t i = 0; i < count; i++)
		result += points[i].created_ns < than->created_ns;
	return result;
}

/* Is the point among those that `number` of the rule keep?  Created times differ. */
static bool model_keeps(const struct point *points, size_t count, size_t which, int number,
			enum retention_reason rule, int64_t offset_hours)
{
	const struct point *point = &points[which];
	int64_t seen[MODEL_MAX];
	int periods = 0;
	bool newest_of_its_own = true;
	if (number == 0)
		return false;
	for (size_t i = 0; i < count; i++) { /* what is newer: its periods, each once */
		if (points[i].created_ns <= point->created_ns)
			continue;
		int64_t value = rule == RETENTION_LAST
					? (int64_t)i
					: period(rule, points[i].created_ns, offset_hours);
		if (rule != RETENTION_LAST &&
		    value == period(rule, point->created_ns, offset_hours))
			newest_of_its_own = false;
		bool known = false;
		for (int k = 0; k < periods; k++)
			known |= seen[k] == value;
		if (!known)
			seen[periods++] = value;
	}
	bool oldest = older_count(points, count, point) == 0;
	return (number < 0 || periods < number) && (newest_of_its_own || oldest);
}

static const enum retention_reason counted[] = {RETENTION_LAST,	   RETENTION_HOURLY,
						RETENTION_DAILY,   RETENTION_WEEKLY,
						RETENTION_MONTHLY, RETENTION_YEARLY};

static int number_of(const struct retention_rules *rules, int i)
{
	const int numbers[] = {rules->last,   rules->hourly,  rules->daily,
			       rules->weekly, rules->monthly, rules->yearly};
	return numbers[i];
}

/* ---- random histories ---- */

static void make_points(struct random *random, struct point *points, size_t count, int64_t span)
{
	int64_t time = at("2026-03-01 12:00:00");
	memset(points, 0, count * sizeof(points[0]));
	for (size_t i = 0; i < count; i++) {
		time += 1 + (int64_t)random_below(random, (uint64_t)span);
		points[i].id = i + 1;
		points[i].created_ns = time;
	}
	/* Now and then a clock was set back. */
	for (size_t i = 1; i < count; i++) {
		if (random_below(random, 10) == 0) {
			int64_t other = points[i].created_ns;
			points[i].created_ns = points[i - 1].created_ns;
			points[i - 1].created_ns = other;
		}
	}
}

static int random_number(struct random *random)
{
	switch (random_below(random, 4)) {
	case 0:
		return random_below(random, 5) == 0 ? -1 : 0;
	case 1:
		return 0;
	default:
		return (int)random_below(random, 12);
	}
}

static void test_keeps_what_restic_keeps(void **state)
{
	(void)state;
	static struct point points[MODEL_MAX];
	static const struct {
		const char *zone;
		int64_t offset_hours;
	} zones[] = {{"UTC", 0}, {"XYZ-5", 5}, {"XYZ+9", -9}, {"XYZ-13", 13}};
	static const int64_t spans[] = {20 * 60 * SECOND, 5 * HOUR, 3 * DAY, 40 * DAY};
	struct random random = random_from(random_seed());
	for (int round = 0; round < test_rounds(400); round++) {
		size_t zone = random_below(&random, 4), count = random_below(&random, MODEL_MAX);
		set_zone(zones[zone].zone);
		make_points(&random, points, count, spans[random_below(&random, 4)]);
		struct retention_rules rules = {
			.last = random_number(&random),
			.hourly = random_number(&random),
			.daily = random_number(&random),
			.weekly = random_number(&random),
			.monthly = random_number(&random),
			.yearly = random_number(&random),
		};
		uint32_t reasons[MODEL_MAX];
		must(retention_apply(points, count, NULL, 0, &rules, INT64_MAX, reasons));
		for (size_t i = 0; i < count; i++) {
			uint32_t expected = i == 0 ? RETENTION_FIRST : 0;
			for (int k = 0; k < 6; k++)
				if (model_keeps(points, count, i, number_of(&rules, k), counted[k],
						zones[zone].offset_hours))
					expected |= counted[k];
			if (reasons[i] != expected)
				fail_msg("round %d, point %zu of %zu: %#x, not %#x", round, i,
					 count, reasons[i], expected);
		}
	}
	set_zone("UTC");
}

/* ---- cases ---- */

enum { CASE_MAX = 16 };

/* Points at these times, oldest first; the result as text: for each 'k' or '-'. */
static const char *kept(const struct retention_rules *rules, const char *const *times,
			const char *now)
{
	static char text[CASE_MAX + 1];
	struct point points[CASE_MAX] = {0};
	uint32_t reasons[CASE_MAX];
	size_t count = 0;
	for (; times[count]; count++) {
		points[count].id = count + 1;
		points[count].created_ns = at(times[count]);
	}
	must(retention_apply(points, count, NULL, 0, rules, at(now), reasons));
	for (size_t i = 0; i < count; i++)
		text[i] = reasons[i] & ~(uint32_t)RETENTION_FIRST ? 'k' : '-';
	text[count] = 0;
	return text;
}

#define TIMES(...)                                                                                 \
	(const char *const[])                                                                      \
	{                                                                                          \
		__VA_ARGS__, NULL                                                                  \
	}
#define RULES(...) (&(const struct retention_rules){__VA_ARGS__})
#define LATER "2030-01-01 00:00:00"

static void test_iso_weeks(void **state)
{
	(void)state;
	set_zone("UTC");
	/* 2026-12-28 (Monday) to 2027-01-03 are one week: 2026-W53. */
	assert_string_equal(kept(RULES(.weekly = 2),
				 TIMES("2026-12-24 10:00", "2026-12-27 10:00", "2026-12-28 10:00",
				       "2026-12-31 10:00", "2027-01-01 10:00", "2027-01-03 10:00"),
				 LATER),
			    "-k---k");
	assert_string_equal(
		kept(RULES(.weekly = 1), TIMES("2027-01-01 10:00", "2027-01-04 10:00"), LATER),
		"-k");
	assert_string_equal(kept(RULES(.yearly = 2),
				 TIMES("2026-01-01 10:00", "2026-12-31 10:00", "2027-01-01 10:00"),
				 LATER),
			    "-kk");
}

static void test_oldest_is_kept_while_a_rule_lasts(void **state)
{
	(void)state;
	set_zone("UTC");
	const char *const *times = TIMES("2026-01-02 13:42", "2026-01-03 01:04", "2026-01-04 20:09",
					 "2026-01-04 20:20");
	assert_string_equal(kept(RULES(.monthly = 4), times, LATER), "k--k");
	assert_string_equal(kept(RULES(.monthly = 1), times, LATER), "---k");
	assert_string_equal(kept(RULES(.daily = 3), times, LATER), "kk-k");
	assert_string_equal(kept(RULES(.daily = 2), times, LATER), "-k-k");
	assert_string_equal(kept(RULES(.last = 2), times, LATER), "--kk");
	assert_string_equal(kept(RULES(.hourly = -1), times, LATER), "kk-k");
}

static void test_clocks_that_change(void **state)
{
	(void)state;
	/* On 2026-10-25 at 03:00 clocks in Berlin go back to 02:00: that hour comes twice, and is
	 * one hour by the calendar, as with restic. */
	set_zone("Europe/Berlin");
	if (at("2026-07-01 12:00") % DAY != 10 * HOUR) {
		set_zone("CET-1CEST,M3.5.0,M10.5.0/3"); /* without tzdata */
	}
	struct point points[3] = {{.id = 1, .created_ns = at("2026-10-25T00:30:00Z")},
				  {.id = 2, .created_ns = at("2026-10-25T01:30:00Z")},
				  {.id = 3, .created_ns = at("2026-10-25T02:30:00Z")}};
	uint32_t reasons[3];
	must(retention_apply(points, 3, NULL, 0, RULES(.hourly = 2), INT64_MAX, reasons));
	assert_int_equal(reasons[2], RETENTION_HOURLY);
	assert_int_equal(reasons[1], RETENTION_HOURLY);
	assert_int_equal(reasons[0], RETENTION_FIRST);
	/* A day by the calendar has 25 hours then. */
	const char *const *times =
		TIMES("2026-10-24T09:59:00Z", "2026-10-24T10:01:00Z", "2026-10-25T11:00:00Z");
	assert_string_equal(kept(RULES(.within.days = 1), times, LATER), "-kk");
	assert_string_equal(kept(RULES(.within.hours = 24), times, LATER), "--k");
	/* The day begins at local midnight. */
	assert_string_equal(kept(RULES(.daily = 1),
				 TIMES("2026-07-01T21:59:00Z", "2026-07-01T22:01:00Z"), LATER),
			    "-k");
	assert_string_equal(
		kept(RULES(.daily = 2),
		     TIMES("2026-07-01T20:00:00Z", "2026-07-01T21:59:00Z", "2026-07-01T22:01:00Z"),
		     LATER),
		"-kk");
	set_zone("UTC");
}

static void test_within(void **state)
{
	(void)state;
	set_zone("UTC");
	const char *const *times = TIMES("2026-02-28 12:00:00", "2026-03-30 12:00:00",
					 "2026-03-31 12:00:00", "2026-03-31 12:00:01");
	assert_string_equal(kept(RULES(.within.hours = 1), times, LATER), "--kk");
	assert_string_equal(kept(RULES(.within.days = 1), times, LATER), "--kk");
	assert_string_equal(kept(RULES(.within = {.days = 1, .hours = 1}), times, LATER), "-kkk");
	/* A month before 31 March is 31 February, which is 3 March. */
	assert_string_equal(kept(RULES(.within.months = 1),
				 TIMES("2026-03-03 11:00", "2026-03-03 13:00", "2026-03-31 12:00"),
				 LATER),
			    "-kk");
	assert_string_equal(kept(RULES(.within.years = 100000), times, LATER), "kkkk");
	/* What is from the future is kept, but time is not counted from it. */
	const char *const *odd = TIMES("2026-01-01 00:00", "2026-06-01 00:00", "2029-01-01 00:00");
	assert_string_equal(kept(RULES(.within.days = 1), odd, "2026-06-02 00:00"), "-kk");
	assert_string_equal(kept(RULES(.within.days = 1), odd, "2025-01-01 00:00"), "kkk");
}

static void test_tags_holds_and_what_else_protects(void **state)
{
	(void)state;
	static char a[] = "a", b[] = "b", a_b[] = "a,b";
	char *both[] = {a, b}, *one[] = {b}, *comma[] = {a_b};
	struct point_hold hold = {.id = 1, .until_ns = 0}, over = {.id = 2, .until_ns = 50};
	struct point points[7] = {
		{.id = 1, .created_ns = 10},
		{.id = 2, .created_ns = 20, .tags = both, .tag_count = 2},
		{.id = 3,
		 .created_ns = 30,
		 .tags = one,
		 .tag_count = 1,
		 .holds = &over,
		 .hold_count = 1},
		{.id = 4, .created_ns = 40, .holds = &hold, .hold_count = 1},
		{.id = 5, .created_ns = 50, .verdict = VERDICT_WORKING},
		{.id = 6, .created_ns = 60, .tags = comma, .tag_count = 1},
		{.id = 7, .created_ns = 70, .verdict = VERDICT_BROKEN},
	};
	const char *tags[] = {"a,b", "c"};
	uint32_t reasons[7];
	must(retention_apply(points, 7, NULL, 7, RULES(.tags = tags, .tag_count = 2), 100,
			     reasons));
	const uint32_t expected[] = {RETENTION_FIRST,  RETENTION_TAG,	  0,
				     RETENTION_HELD,   RETENTION_WORKING, RETENTION_TAG,
				     RETENTION_CURRENT};
	assert_memory_equal(reasons, expected, sizeof(expected));
	/* Only two are considered: the others neither go nor count. */
	const bool considered[7] = {[2] = true, [5] = true};
	must(retention_apply(points, 7, considered, 7, RULES(.last = 1), 100, reasons));
	for (int i = 0; i < 7; i++)
		assert_int_equal(reasons[i], i == 5 ? RETENTION_LAST : i == 2 ? 0 : UINT32_MAX);
	must(retention_apply(points, 0, NULL, 0, RULES(.last = 1), 100, reasons));
}

static void test_durations(void **state)
{
	(void)state;
	struct retention_rules rules = {0};
	struct errbuf err = {""};
	assert_false(retention_is_given(&rules));
	must(retention_parse_duration("1y6m14d12h", &rules, &err));
	assert_int_equal(rules.within.years, 1);
	assert_int_equal(rules.within.months, 6);
	assert_int_equal(rules.within.days, 14);
	assert_int_equal(rules.within.hours, 12);
	assert_true(retention_is_given(&rules));
	must(retention_parse_duration("12h3d", &rules, &err));
	assert_int_equal(rules.within.years, 0);
	assert_int_equal(rules.within.days, 3);
	static const char *const wrong[] = {"",
					    "1",
					    "d",
					    "1d2d",
					    "1w",
					    "-1d",
					    "0d",
					    "1.5d",
					    " 1d",
					    "1d ",
					    "1D",
					    "1d,",
					    "99999999999999999999d",
					    "100001d"};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		err.text[0] = 0;
		assert_int_equal(retention_parse_duration(wrong[i], &rules, &err), -EINVAL);
		assert_non_null(strstr(err.text, "is no duration"));
	}
	assert_true(retention_is_given(RULES(.yearly = -1)));
	assert_string_equal(retention_reason_text(RETENTION_WEEKLY), "weekly");
	assert_string_equal(retention_reason_text(RETENTION_CURRENT), "current");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keeps_what_restic_keeps),
		cmocka_unit_test(test_iso_weeks),
		cmocka_unit_test(test_oldest_is_kept_while_a_rule_lasts),
		cmocka_unit_test(test_clocks_that_change),
		cmocka_unit_test(test_within),
		cmocka_unit_test(test_tags_holds_and_what_else_protects),
		cmocka_unit_test(test_durations),
	};
	return cmocka_run_group_tests_name("retention", tests, NULL, NULL);
}
