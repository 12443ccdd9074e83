/*
 * Which points to keep: the keep rules of restic's `forget`, over the points of one workspace.
 * A pure function of points, rules and the time; prune deletes what it does not keep.
 *
 * --keep-last N keeps the N newest; --keep-hourly … --keep-yearly N keep the newest point of each
 * of the last N hours, days, ISO weeks, months, years that have one (local time); --keep-within D
 * all that are no older than D before the newest (that is not from the future); --keep-tag T all
 * with that tag, or "A,B" all with both.  A point is kept where any rule wants it.  N = -1:
 * without limit.  Where a rule is not used up, it keeps the oldest point too.
 */
#ifndef CAIRN_SNAPSHOT_RETENTION_H
#define CAIRN_SNAPSHOT_RETENTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot/point.h"

struct retention_rules {
	int last, hourly, daily, weekly, monthly, yearly; /* 0: not given */
	struct {
		int years, months, days, hours;
	} within; /* all 0: not given */
	const char *const *tags;
	size_t tag_count;
};

/* "1y6m14d12h" in any selection, each at most once. -EINVAL with a message. */
int retention_parse_duration(const char *text, struct retention_rules *rules, struct errbuf *err);
/* At least one rule is given. */
bool retention_is_given(const struct retention_rules *rules);

enum retention_reason { /* a set of bits; 0: goes */
			RETENTION_LAST = 1 << 0,
			RETENTION_HOURLY = 1 << 1,
			RETENTION_DAILY = 1 << 2,
			RETENTION_WEEKLY = 1 << 3,
			RETENTION_MONTHLY = 1 << 4,
			RETENTION_YEARLY = 1 << 5,
			RETENTION_WITHIN = 1 << 6,
			RETENTION_TAG = 1 << 7,
			/* Not by a rule: prune never takes these unless they are named to `delete`.
			 */
			RETENTION_HELD = 1 << 8,
			RETENTION_WORKING = 1 << 9,  /* verdict */
			RETENTION_FIRST = 1 << 10,   /* the first point of its workspace */
			RETENTION_CURRENT = 1 << 11, /* a head is based on it */
};
/* "last", "daily" … of one bit. */
const char *retention_reason_text(enum retention_reason reason);

/* The point has the tag, or each of "A,B". */
bool retention_has_tags(const struct point *point, const char *list);

/* `points` in order of id, all of one workspace (all of them, so that the first is known);
 * `considered` (may be NULL: all) says which ones the rules are applied to: the others are kept
 * and do not count.  `current` is the head's base.  Fills `ret_reasons[count]`; a point that is not
 * considered gets UINT32_MAX.  -ENOMEM. */
int retention_apply(const struct point *points, size_t count, const bool *considered,
		    uint64_t current, const struct retention_rules *rules, int64_t now_ns,
		    uint32_t *ret_reasons);

#endif
