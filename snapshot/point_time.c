/*
 * Times as people write them:
 *
 *   2026-11-22            midnight, local time
 *   2026-11-22 09:00[:SS[.fraction]]   local; 'T' may stand for the blank (RFC 3339), and a zone
 *                         (Z, +02:00, +0200) may follow
 *   2 hours ago, an hour ago, 1 day 3 hours ago; in 3 days
 *   now; today (its first instant); yesterday (this time of day)
 */
#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "snapshot/point.h"

enum { NS = 1000000000 };

static const char *skip_blanks(const char *text)
{
	while (isspace((unsigned char)*text))
		text++;
	return text;
}

/* Exactly `digits` digits; NULL if there are others. */
static const char *take_digits(const char *text, int digits, int *ret)
{
	int number = 0;
	for (int i = 0; i < digits; i++) {
		if (!isdigit((unsigned char)text[i]))
			return NULL;
		number = number * 10 + (text[i] - '0');
	}
	*ret = number;
	return text + digits;
}

static const char *take_char(const char *text, const char *any_of)
{
	return text && *text && strchr(any_of, *text) ? text + 1 : NULL;
}

/* ":SS" and ".fraction", both optional. */
static const char *take_seconds(const char *text, struct tm *tm, int64_t *ret_fraction)
{
	if (*text != ':')
		return text;
	text = take_digits(text + 1, 2, &tm->tm_sec);
	if (!text || *text != '.')
		return text;
	text++;
	if (!isdigit((unsigned char)*text))
		return NULL;
	int64_t unit = NS;
	while (isdigit((unsigned char)*text)) {
		unit /= 10;
		*ret_fraction += unit * (*text - '0');
		text++;
	}
	return text;
}

/* "Z", "+HH:MM" or "+HHMM", or nothing (`ret_given` false). */
static const char *take_zone(const char *text, bool *ret_given, int *ret_offset)
{
	text = skip_blanks(text);
	*ret_given = *text != 0;
	if (*text == 0)
		return text;
	if (*text == 'Z' || *text == 'z') {
		*ret_offset = 0;
		return text + 1;
	}
	int sign = *text == '-' ? -1 : 1, hours, minutes;
	text = take_char(text, "+-");
	text = text ? take_digits(text, 2, &hours) : NULL;
	if (text && *text == ':')
		text++;
	text = text ? take_digits(text, 2, &minutes) : NULL;
	if (!text || hours > 23 || minutes > 59)
		return NULL;
	*ret_offset = sign * (hours * 3600 + minutes * 60);
	return text;
}

static const char *take_date(const char *text, struct tm *tm)
{
	text = take_digits(text, 4, &tm->tm_year);
	text = take_char(text, "-");
	text = text ? take_digits(text, 2, &tm->tm_mon) : NULL;
	text = take_char(text, "-");
	text = text ? take_digits(text, 2, &tm->tm_mday) : NULL;
	if (text) {
		tm->tm_year -= 1900;
		tm->tm_mon -= 1;
	}
	return text;
}

/* Seconds of a broken-down time; false where there is no such date (mktime would bend it). */
static bool to_seconds(const struct tm *given, bool zone, int offset, int64_t *ret)
{
	if (given->tm_hour > 23 || given->tm_min > 59 || given->tm_sec > 60)
		return false;
	struct tm tm = *given;
	tm.tm_isdst = -1;
	/* tm_wday tells whether it worked: -1 is a legal time. */
	tm.tm_wday = -1;
	time_t seconds = zone ? timegm(&tm) : mktime(&tm);
	if (tm.tm_wday == -1)
		return false;
	/* Day and month must have stayed, unless a leap second rolled over. */
	if ((tm.tm_mday != given->tm_mday || tm.tm_mon != given->tm_mon) && given->tm_sec != 60)
		return false;
	*ret = (int64_t)seconds - (zone ? offset : 0);
	return true;
}

static bool parse_absolute(const char *text, int64_t *ret_ns)
{
	struct tm tm = {0};
	int64_t fraction = 0, seconds;
	bool zone = false;
	int offset = 0;
	text = take_date(text, &tm);
	if (!text)
		return false;
	const char *rest = skip_blanks(text);
	if (*rest) {
		if (rest == text && !(rest = take_char(rest, "Tt")))
			return false;
		text = take_digits(rest, 2, &tm.tm_hour);
		text = take_char(text, ":");
		text = text ? take_digits(text, 2, &tm.tm_min) : NULL;
		text = text ? take_seconds(text, &tm, &fraction) : NULL;
		text = text ? take_zone(text, &zone, &offset) : NULL;
		if (!text || *skip_blanks(text))
			return false;
	}
	if (!to_seconds(&tm, zone, offset, &seconds))
		return false;
	return !__builtin_mul_overflow(seconds, (int64_t)NS, ret_ns) &&
	       !__builtin_add_overflow(*ret_ns, fraction, ret_ns);
}

/* ---- ages ---- */

enum unit { UNIT_SECOND, UNIT_MINUTE, UNIT_HOUR, UNIT_DAY, UNIT_MONTH, UNIT_YEAR };

static const struct {
	const char *name;
	enum unit unit;
	int factor;
} units[] = {
	{"s", UNIT_SECOND, 1},	  {"sec", UNIT_SECOND, 1},    {"second", UNIT_SECOND, 1},
	{"min", UNIT_MINUTE, 1},  {"minute", UNIT_MINUTE, 1}, {"h", UNIT_HOUR, 1},
	{"hour", UNIT_HOUR, 1},	  {"d", UNIT_DAY, 1},	      {"day", UNIT_DAY, 1},
	{"week", UNIT_DAY, 7},	  {"w", UNIT_DAY, 7},	      {"fortnight", UNIT_DAY, 14},
	{"month", UNIT_MONTH, 1}, {"year", UNIT_YEAR, 1},
};

static bool find_unit(const char *word, size_t length, size_t *ret)
{
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		size_t known = strlen(units[i].name);
		bool plural = length == known + 1 && known > 1 && tolower(word[known]) == 's';
		if ((length == known || plural) && strncasecmp(word, units[i].name, known) == 0) {
			*ret = i;
			return true;
		}
	}
	return false;
}

enum { COUNT_MAX = 1000000000 };

/* Days, months and years go by the calendar, so that "1 day ago" is the same time of day also
 * where the clocks were changed in between. */
static bool advance(struct tm *tm, int64_t *seconds, enum unit unit, int64_t count)
{
	switch (unit) {
	case UNIT_SECOND:
		*seconds += count;
		return true;
	case UNIT_MINUTE:
		*seconds += count * 60;
		return true;
	case UNIT_HOUR:
		*seconds += count * 3600;
		return true;
	default:
		break;
	}
	if (count > 1000000 || count < -1000000)
		return false;
	int step = (int)count;
	if (unit == UNIT_DAY)
		tm->tm_mday += step;
	else if (unit == UNIT_MONTH)
		tm->tm_mon += step;
	else
		tm->tm_year += step;
	return true;
}

/* A number, or "a", "an", "one"; NULL if neither. */
static const char *take_count(const char *text, int64_t *ret)
{
	if (isdigit((unsigned char)*text)) {
		char *end;
		errno = 0;
		*ret = strtoll(text, &end, 10);
		return errno || *ret > COUNT_MAX ? NULL : skip_blanks(end);
	}
	static const char *const ones[] = {"a", "an", "one"};
	size_t length = strcspn(text, " \t");
	for (size_t i = 0; i < 3; i++)
		if (length == strlen(ones[i]) && strncasecmp(text, ones[i], length) == 0) {
			*ret = 1;
			return skip_blanks(text + length);
		}
	return NULL;
}

/* "2 hours ago", "1 day 3 hours ago", "in 3 days". */
static bool parse_age(const char *text, int64_t now_ns, int64_t *ret_ns)
{
	time_t now = (time_t)(now_ns / NS);
	struct tm tm;
	int64_t seconds = 0;
	bool future = strncasecmp(text, "in ", 3) == 0, any = false;
	if (!localtime_r(&now, &tm))
		return false;
	if (future)
		text = skip_blanks(text + 3);
	for (;;) {
		int64_t count;
		size_t unit;
		if (any && strcasecmp(text, future ? "" : "ago") == 0)
			break;
		text = take_count(text, &count);
		size_t length = text ? strspn(text, "abcdefghijklmnopqrstuvwxyz"
						    "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
				     : 0;
		if (length == 0 || !find_unit(text, length, &unit) ||
		    !advance(&tm, &seconds, units[unit].unit,
			     count * units[unit].factor * (future ? 1 : -1)))
			return false;
		text = skip_blanks(text + length);
		any = true;
	}
	tm.tm_isdst = -1;
	int64_t when = (int64_t)mktime(&tm) + seconds;
	return !__builtin_mul_overflow(when, (int64_t)NS, ret_ns) &&
	       !__builtin_add_overflow(*ret_ns, now_ns % NS, ret_ns);
}

static bool parse_word(const char *text, int64_t now_ns, int64_t *ret_ns)
{
	if (strcasecmp(text, "now") == 0) {
		*ret_ns = now_ns;
		return true;
	}
	if (strcasecmp(text, "yesterday") == 0)
		return parse_age("1 day ago", now_ns, ret_ns);
	if (strcasecmp(text, "today") != 0)
		return false;
	time_t now = (time_t)(now_ns / NS);
	struct tm tm;
	if (!localtime_r(&now, &tm))
		return false;
	tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
	tm.tm_isdst = -1;
	*ret_ns = (int64_t)mktime(&tm) * NS;
	return true;
}

int point_parse_time(const char *text, int64_t now_ns, int64_t *ret_ns, struct errbuf *err)
{
	char copy[128];
	text = skip_blanks(text);
	size_t length = strlen(text);
	while (length > 0 && isspace((unsigned char)text[length - 1]))
		length--;
	if (length > 0 && length < sizeof(copy)) {
		int64_t ns;
		memcpy(copy, text, length);
		copy[length] = 0;
		if (parse_word(copy, now_ns, &ns) || parse_age(copy, now_ns, &ns) ||
		    parse_absolute(copy, &ns)) {
			*ret_ns = ns;
			return 0;
		}
	}
	return err_set(err, -EINVAL,
		       "cannot make out the time '%.100s'; write 2026-11-22 09:00, "
		       "2026-11-22T09:00:00+01:00, '2 hours ago' or yesterday",
		       text);
}
