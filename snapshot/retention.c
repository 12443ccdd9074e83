/*
 * Which points to keep.  The rules are those of restic's `forget` (its manual, "Removing snapshots
 * according to a policy"): one walk from the newest to the oldest point; a rule for hours, days
 * … keeps a point whose hour, day … is another than that of the point it kept last, as long as
 * its number lasts; where it lasts to the end, the oldest point is kept too.
 */
#include "snapshot/retention.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct {
	enum retention_reason reason;
	const char *text;
} reason_texts[] = {
	{RETENTION_LAST, "last"},	{RETENTION_HOURLY, "hourly"},
	{RETENTION_DAILY, "daily"},	{RETENTION_WEEKLY, "weekly"},
	{RETENTION_MONTHLY, "monthly"}, {RETENTION_YEARLY, "yearly"},
	{RETENTION_WITHIN, "within"},	{RETENTION_TAG, "tag"},
	{RETENTION_HELD, "held"},	{RETENTION_WORKING, "working"},
	{RETENTION_FIRST, "first"},	{RETENTION_CURRENT, "current"},
};

const char *retention_reason_text(enum retention_reason reason)
{
	for (size_t i = 0; i < sizeof(reason_texts) / sizeof(reason_texts[0]); i++)
		if (reason_texts[i].reason == reason)
			return reason_texts[i].text;
	return "unknown";
}

/* ---- durations ---- */

static int *duration_part(struct retention_rules *rules, char unit)
{
	switch (unit) {
	case 'y':
		return &rules->within.years;
	case 'm':
		return &rules->within.months;
	case 'd':
		return &rules->within.days;
	case 'h':
		return &rules->within.hours;
	default:
		return NULL;
	}
}

static bool has_within(const struct retention_rules *rules)
{
	return rules->within.years || rules->within.months || rules->within.days ||
	       rules->within.hours;
}

int retention_parse_duration(const char *text, struct retention_rules *rules, struct errbuf *err)
{
	const char *rest = text;
	rules->within.years = rules->within.months = rules->within.days = rules->within.hours = 0;
	while (*rest) {
		char *end;
		errno = 0;
		long number = isdigit((unsigned char)*rest) ? strtol(rest, &end, 10) : -1;
		int *part = number >= 0 ? duration_part(rules, *end) : NULL;
		if (!part || *part || errno || number > 100000)
			break;
		*part = (int)number;
		rest = end + 1;
	}
	if (*rest || !has_within(rules))
		return err_set(err, -EINVAL,
			       "'%s' is no duration; write years, months, days and hours like "
			       "1y6m14d12h",
			       text);
	return 0;
}

bool retention_is_given(const struct retention_rules *rules)
{
	return rules->last || rules->hourly || rules->daily || rules->weekly || rules->monthly ||
	       rules->yearly || rules->tag_count || has_within(rules);
}

/* The instant that lies the duration before `from_ns`, by the calendar.  INT64_MIN: before all. */
static int64_t before(const struct retention_rules *rules, int64_t from_ns)
{
	time_t seconds = (time_t)(from_ns / 1000000000);
	struct tm local;
	int64_t result;
	if (!localtime_r(&seconds, &local))
		return INT64_MIN;
	local.tm_year -= rules->within.years;
	local.tm_mon -= rules->within.months;
	local.tm_mday -= rules->within.days;
	local.tm_isdst = -1;
	local.tm_wday = -1; /* set by mktime() where it succeeds */
	int64_t then = mktime(&local);
	if (local.tm_wday < 0)
		return INT64_MIN;
	then -= (int64_t)rules->within.hours * 3600;
	if (__builtin_mul_overflow(then, 1000000000, &result) ||
	    __builtin_add_overflow(result, from_ns % 1000000000, &result))
		return INT64_MIN;
	return result;
}

/* ---- buckets ---- */

enum { BUCKETS = 6 };

struct bucket {
	enum retention_reason reason;
	int left;     /* -1: without limit */
	int64_t last; /* the hour, day … of the point that was kept last */
};

static int64_t iso_week(const struct tm *local)
{
	char text[16];
	strftime(text, sizeof(text), "%G%V", local);
	return strtoll(text, NULL, 10);
}

static int64_t bucket_value(enum retention_reason reason, const struct tm *local, size_t number)
{
	int64_t year = local->tm_year + 1900, month = local->tm_mon + 1;
	int64_t day = (year * 100 + month) * 100 + local->tm_mday;
	switch (reason) {
	case RETENTION_HOURLY:
		return day * 100 + local->tm_hour;
	case RETENTION_DAILY:
		return day;
	case RETENTION_WEEKLY:
		return iso_week(local);
	case RETENTION_MONTHLY:
		return year * 100 + month;
	case RETENTION_YEARLY:
		return year;
	default: /* RETENTION_LAST */
		return (int64_t)number;
	}
}

static uint32_t by_buckets(struct bucket *buckets, const struct point *point, size_t number,
			   bool oldest)
{
	time_t seconds = (time_t)(point->created_ns / 1000000000);
	struct tm local = {0};
	uint32_t reasons = 0;
	localtime_r(&seconds, &local);
	for (int i = 0; i < BUCKETS; i++) {
		struct bucket *bucket = &buckets[i];
		int64_t value = bucket_value(bucket->reason, &local, number);
		if (bucket->left == 0 || (value == bucket->last && !oldest))
			continue;
		bucket->last = value;
		if (bucket->left > 0)
			bucket->left--;
		reasons |= (uint32_t)bucket->reason;
	}
	return reasons;
}

/* ---- all points ---- */

static bool has_tag(const struct point *point, const char *tag, size_t length)
{
	for (size_t i = 0; i < point->tag_count; i++)
		if (strlen(point->tags[i]) == length && memcmp(point->tags[i], tag, length) == 0)
			return true;
	return false;
}

bool retention_has_tags(const struct point *point, const char *list)
{
	if (has_tag(point, list, strlen(list)))
		return true;
	for (const char *tag = list;; tag++) {
		size_t length = strcspn(tag, ",");
		if (!has_tag(point, tag, length))
			return false;
		tag += length;
		if (!*tag)
			return true;
	}
}

static bool has_any_tags(const struct point *point, const struct retention_rules *rules)
{
	for (size_t i = 0; i < rules->tag_count; i++)
		if (retention_has_tags(point, rules->tags[i]))
			return true;
	return false;
}

/* What no rule takes away. */
static uint32_t by_nature(const struct point *point, bool first, uint64_t current, int64_t now_ns)
{
	return (point_is_held(point, now_ns) ? (uint32_t)RETENTION_HELD : 0) |
	       (point->verdict == VERDICT_WORKING ? (uint32_t)RETENTION_WORKING : 0) |
	       (first ? (uint32_t)RETENTION_FIRST : 0) |
	       (point->id == current ? (uint32_t)RETENTION_CURRENT : 0);
}

/* By time: a clock that was set back makes ids and times disagree. */
static int newest_first(const void *a, const void *b)
{
	const struct point *x = *(const struct point *const *)a;
	const struct point *y = *(const struct point *const *)b;
	if (x->created_ns != y->created_ns)
		return x->created_ns < y->created_ns ? 1 : -1;
	return x->id < y->id ? 1 : x->id > y->id ? -1 : 0;
}

/* From when on `within` keeps: counted from the newest point that is not from the future. */
static int64_t within_since(const struct retention_rules *rules, const struct point **order,
			    size_t count, int64_t now_ns)
{
	if (!has_within(rules))
		return INT64_MAX;
	for (size_t i = 0; i < count; i++)
		if (order[i]->created_ns < now_ns)
			return before(rules, order[i]->created_ns);
	return INT64_MIN;
}

static void apply(const struct point **order, size_t count, const struct retention_rules *rules,
		  int64_t since, uint32_t *reasons)
{
	struct bucket buckets[BUCKETS] = {
		{RETENTION_LAST, rules->last, -1},	 {RETENTION_HOURLY, rules->hourly, -1},
		{RETENTION_DAILY, rules->daily, -1},	 {RETENTION_WEEKLY, rules->weekly, -1},
		{RETENTION_MONTHLY, rules->monthly, -1}, {RETENTION_YEARLY, rules->yearly, -1},
	};
	for (size_t i = 0; i < count; i++) {
		const struct point *point = order[i];
		reasons[i] = by_buckets(buckets, point, i, i == count - 1) |
			     (has_any_tags(point, rules) ? (uint32_t)RETENTION_TAG : 0) |
			     (point->created_ns > since ? (uint32_t)RETENTION_WITHIN : 0);
	}
}

int retention_apply(const struct point *points, size_t count, const bool *considered,
		    uint64_t current, const struct retention_rules *rules, int64_t now_ns,
		    uint32_t *ret_reasons)
{
	const struct point **order = reallocarray(NULL, count + 1, sizeof(order[0]));
	uint32_t *reasons = reallocarray(NULL, count + 1, sizeof(reasons[0]));
	size_t considered_count = 0;
	int error = order && reasons ? 0 : -ENOMEM;

	for (size_t i = 0; !error && i < count; i++) {
		ret_reasons[i] = UINT32_MAX;
		if (!considered || considered[i])
			order[considered_count++] = &points[i];
	}
	if (!error) {
		qsort(order, considered_count, sizeof(order[0]), newest_first);
		apply(order, considered_count, rules,
		      within_since(rules, order, considered_count, now_ns), reasons);
		for (size_t i = 0; i < considered_count; i++) {
			size_t at = (size_t)(order[i] - points);
			ret_reasons[at] =
				reasons[i] | by_nature(order[i], at == 0, current, now_ns);
		}
	}
	free(order);
	free(reasons);
	return error;
}
