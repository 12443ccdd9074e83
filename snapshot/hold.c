/* Holds: who protects a point from delete and prune, why, and until when. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "index/util/shell.h"
#include "snapshot/point_internal.h"

static bool hold_counts(const struct point_hold *hold, int64_t now_ns)
{
	return hold->until_ns == 0 || hold->until_ns > now_ns;
}

bool point_is_held(const struct point *point, int64_t now_ns)
{
	for (size_t i = 0; i < point->hold_count; i++)
		if (hold_counts(&point->holds[i], now_ns))
			return true;
	return false;
}

__attribute__((format(strftime, 4, 0))) static void format_until(int64_t until_ns, char *buffer,
								 size_t size, const char *format)
{
	time_t seconds = (time_t)(until_ns / 1000000000);
	struct tm local;
	buffer[0] = 0;
	if (until_ns && localtime_r(&seconds, &local))
		strftime(buffer, size, format, &local);
}

/* Lines of a message that has room for a last one, "and more". */
struct refusal {
	char text[sizeof(((struct errbuf *)NULL)->text) - sizeof("\n  and more")];
	size_t used;
	bool full;
};

__attribute__((format(printf, 2, 3))) static void refusal_add(struct refusal *refusal,
							      const char *format, ...)
{
	va_list arguments;
	size_t room = sizeof(refusal->text) - refusal->used;
	if (refusal->full)
		return;
	va_start(arguments, format);
	int length = vsnprintf(refusal->text + refusal->used, room, format, arguments);
	va_end(arguments);
	if (length < 0 || (size_t)length >= room) {
		refusal->text[refusal->used] = 0;
		refusal->full = true;
	} else {
		refusal->used += (size_t)length;
	}
}

static void refusal_add_point(struct refusal *refusal, const struct point *point, int64_t now)
{
	char quoted[SHELL_QUOTED(255)];
	const char *name = shell_quote(point->name, quoted, sizeof(quoted));
	refusal_add(refusal, "%spoint '%s' is held:", refusal->used ? "\n" : "", point->name);
	for (size_t i = 0; i < point->hold_count; i++) {
		const struct point_hold *hold = &point->holds[i];
		char until[48];
		if (!hold_counts(hold, now))
			continue;
		format_until(hold->until_ns, until, sizeof(until), ", until %Y-%m-%d %H:%M");
		refusal_add(refusal, "\n  hold %llu by %s: %s%s; to lift it: cairn release %s %llu",
			    (unsigned long long)hold->id, hold->by, hold->reason, until,
			    name, (unsigned long long)hold->id);
	}
}

int points_refuse_held(const struct point *points, size_t count, struct errbuf *err)
{
	struct refusal refusal = {.used = 0};
	int64_t now = point_now();
	bool held = false;
	for (size_t i = 0; i < count; i++) {
		if (!point_is_held(&points[i], now))
			continue;
		held = true;
		refusal_add_point(&refusal, &points[i], now);
	}
	if (!held)
		return 0;
	return err_set(err, -EBUSY, "%s%s", refusal.text, refusal.full ? "\n  and more" : "");
}

/* ---- changing them ---- */

struct holding {
	/* To add: */
	const char *reason, *by;
	int64_t until_ns;
	uint64_t added;
	/* To remove (0: all): */
	uint64_t hold;
	struct hold_details details; /* for the journal */
};

void hold_describe(uint64_t id, int64_t until_ns, struct hold_details *details,
		   struct journal_note *note)
{
	snprintf(details->number, sizeof(details->number), "%llu", (unsigned long long)id);
	details->pairs[0] = (struct point_pair){(char *)"hold", details->number};
	note->details = details->pairs;
	note->detail_count = 1;
	if (!until_ns)
		return;
	format_until(until_ns, details->until, sizeof(details->until), "%Y-%m-%d %H:%M:%S %z");
	details->pairs[1] = (struct point_pair){(char *)"until", details->until};
	note->detail_count = 2;
}

static int apply_hold(struct commit *commit, struct point *point, struct journal_note *note,
		      void *context, struct errbuf *err)
{
	struct holding *holding = context;
	(void)commit;
	(void)err;
	struct point_hold *holds =
		reallocarray(point->holds, point->hold_count + 1, sizeof(point->holds[0]));
	if (!holds)
		return -ENOMEM;
	point->holds = holds;
	struct point_hold *hold = &holds[point->hold_count++];
	*hold = (struct point_hold){
		.id = holding->added,
		.reason = strdup(holding->reason),
		.by = point_user(holding->by),
		.since_ns = point_now(),
		.until_ns = holding->until_ns,
	};
	note->reason = holding->reason;
	hold_describe(hold->id, hold->until_ns, &holding->details, note);
	return hold->reason && hold->by ? 1 : -ENOMEM;
}

int point_hold(struct repo *repo, uint64_t id, const char *reason, const char *by, int64_t until_ns,
	       uint64_t *ret_hold, struct errbuf *err)
{
	if (!*reason)
		return err_set(err, -EINVAL, "a hold needs a reason");
	if (until_ns && until_ns <= point_now())
		return err_set(err, -EINVAL, "the hold would end in the past");
	struct holding holding = {
		.reason = reason,
		.by = by,
		.until_ns = until_ns,
		.added = store_next(repo->store, COUNTER_HOLD),
	};
	const struct point_change change = {JOURNAL_HOLD, by, apply_hold, &holding};
	int error = point_change(repo, id, &change, err);
	if (!error)
		*ret_hold = holding.added;
	return error;
}

static size_t hold_drop(struct point *point, uint64_t id)
{
	size_t kept = 0, count = point->hold_count;
	for (size_t i = 0; i < count; i++) {
		struct point_hold *hold = &point->holds[i];
		if (id == 0 || hold->id == id) {
			free(hold->reason);
			free(hold->by);
		} else {
			point->holds[kept++] = *hold;
		}
	}
	point->hold_count = kept;
	return count - kept;
}

static int apply_unhold(struct commit *commit, struct point *point, struct journal_note *note,
			void *context, struct errbuf *err)
{
	struct holding *holding = context;
	(void)commit;
	if (holding->hold)
		hold_describe(holding->hold, 0, &holding->details, note);
	if (hold_drop(point, holding->hold) > 0)
		return 1;
	if (holding->hold)
		return err_set(err, -ENOENT, "point '%s' has no hold %llu", point->name,
			       (unsigned long long)holding->hold);
	return err_set(err, -ENOENT, "point '%s' has no holds", point->name);
}

int point_unhold(struct repo *repo, uint64_t id, uint64_t hold, const char *by, struct errbuf *err)
{
	struct holding holding = {.hold = hold};
	const struct point_change change = {JOURNAL_RELEASE, by, apply_unhold, &holding};
	return point_change(repo, id, &change, err);
}
