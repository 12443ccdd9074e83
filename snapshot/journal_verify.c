/*
 * Verifying the journal: each entry against its hash, each against the one before, the tail, and
 * all of it against the points that exist.
 *
 * Two sets tell the story that the entries tell: the points that they made, and of those the
 * ones that they took away.  What exists must be what is left.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/util/bytes.h"
#include "index/util/idset.h"
#include "snapshot/journal_internal.h"
#include "snapshot/point_internal.h"

struct verifying {
	struct reader *reader;
	uint64_t expect_number;
	const uint8_t *expect_hash;
	void (*report)(const char *finding, void *context);
	void *context;
	struct journal_state state;
	struct journal_tail tail;
	bool expected_found;
	uint64_t older; /* points up to this id are older than the journal */
	struct idset made, removed;
};

__attribute__((format(printf, 2, 3))) static void finding(struct verifying *verifying,
							  const char *format, ...)
{
	char text[512];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	verifying->state.errors++;
	verifying->report(text, verifying->context);
}

static int note_entry(struct verifying *verifying, const struct journal_entry *entry)
{
	int added = 0;
	switch (entry->action) {
	case JOURNAL_BEGIN:
		verifying->older = entry->point;
		if (entry->number != 1)
			finding(verifying, "entry %llu begins the journal a second time",
				(unsigned long long)entry->number);
		break;
	case JOURNAL_FREEZE:
	case JOURNAL_RECEIVE:
		added = idset_add(&verifying->made, entry->point);
		break;
	case JOURNAL_DELETE:
	case JOURNAL_PRUNE:
		added = idset_add(&verifying->removed, entry->point);
		break;
	default:
		break;
	}
	return added < 0 ? added : 0;
}

static void check_expected(struct verifying *verifying, uint64_t number, const uint8_t *hash)
{
	if (number != verifying->expect_number)
		return;
	verifying->expected_found = true;
	if (memcmp(hash, verifying->expect_hash, JOURNAL_HASH_BYTES) != 0)
		finding(verifying, "entry %llu is not the one that was noted",
			(unsigned long long)number);
}

static int check_entry(struct verifying *verifying, uint64_t number, struct bytes value)
{
	struct journal_state *state = &verifying->state;
	struct journal_entry entry;
	uint8_t hash[JOURNAL_HASH_BYTES];
	int error = journal_decode(number, value, &entry);
	if (error == -EUCLEAN) {
		finding(verifying, "entry %llu cannot be read", (unsigned long long)number);
		return 0;
	}
	if (error)
		return error;
	error = journal_hash(number, (struct bytes){value.data, value.length - JOURNAL_HASH_BYTES},
			     hash);
	if (!error && memcmp(hash, entry.hash, sizeof(hash)) != 0)
		finding(verifying, "entry %llu was changed", (unsigned long long)number);
	if (!error && memcmp(entry.previous, state->last, sizeof(entry.previous)) != 0)
		finding(verifying, "entry %llu does not follow the one before it",
			(unsigned long long)number);
	if (!error)
		error = note_entry(verifying, &entry);
	memcpy(state->last, entry.hash, sizeof(state->last));
	check_expected(verifying, number, entry.hash);
	journal_entry_release(&entry);
	return error;
}

static void find_missing(struct verifying *verifying, uint64_t first, uint64_t last,
			 const char *where)
{
	if (first == last)
		finding(verifying, "entry %llu is missing%s", (unsigned long long)first, where);
	else
		finding(verifying, "entries %llu to %llu are missing%s", (unsigned long long)first,
			(unsigned long long)last, where);
}

static int visit_entry(struct bytes key, struct bytes value, void *context)
{
	struct verifying *verifying = context;
	struct journal_state *state = &verifying->state;
	if (key.length != 8) {
		finding(verifying, "the journal has an entry without a number");
		return 0;
	}
	uint64_t number = get_be64(key.data);
	if (number == 0) {
		if (journal_tail_decode(value, &verifying->tail))
			finding(verifying, "the record of the journal's end cannot be read");
		return 0;
	}
	if (number != state->entries + 1)
		find_missing(verifying, state->entries + 1, number - 1, "");
	state->entries = number;
	return check_entry(verifying, number, value);
}

static void check_end(struct verifying *verifying)
{
	struct journal_state *state = &verifying->state;
	uint64_t number = get_le64(verifying->tail.number);
	if (number > state->entries)
		find_missing(verifying, state->entries + 1, number, " at the end");
	else if (number < state->entries)
		finding(verifying, "there are entries behind number %llu, the last",
			(unsigned long long)number);
	else if (memcmp(verifying->tail.hash, state->last, sizeof(state->last)) != 0)
		finding(verifying, "the last entry is another than the one that was written");
	if (verifying->expect_number && !verifying->expected_found)
		finding(verifying, "entry %llu, which was noted, is missing",
			(unsigned long long)verifying->expect_number);
}

static int visit_point(struct bytes key, struct bytes value, void *context)
{
	struct verifying *verifying = context;
	uint64_t id;
	const struct point_fixed *fixed;
	int error = point_peek(key, value, &id, &fixed);
	if (error)
		return error;
	if (id > verifying->older && !idset_has(&verifying->made, id))
		finding(verifying, "point %llu exists, but no entry tells how it was made",
			(unsigned long long)id);
	if (idset_has(&verifying->removed, id))
		finding(verifying, "point %llu exists, but an entry says that it was deleted",
			(unsigned long long)id);
	return 0;
}

/* A second walk: every point that was made and not taken away is there. */
static int visit_made(struct bytes key, struct bytes value, void *context)
{
	struct verifying *verifying = context;
	const struct journal_fixed *fixed = value.data;
	if (key.length != 8 || get_be64(key.data) == 0 || value.length < sizeof(*fixed))
		return 0;
	unsigned action = get_le16(fixed->action);
	uint64_t point = get_le64(fixed->point);
	if ((action != JOURNAL_FREEZE && action != JOURNAL_RECEIVE) ||
	    idset_has(&verifying->removed, point))
		return 0;
	int error = point_exists(verifying->reader, point);
	if (error == -ENOENT)
		finding(verifying, "point %llu is gone, but no entry tells who deleted it",
			(unsigned long long)point);
	return error == -ENOENT ? 0 : error;
}

int journal_verify(struct repo *repo, uint64_t expect_number, const uint8_t *expect_hash,
		   void (*report)(const char *finding, void *context), void *context,
		   struct journal_state *ret)
{
	struct verifying verifying = {
		.expect_number = expect_number,
		.expect_hash = expect_hash,
		.report = report,
		.context = context,
		.made = IDSET_INIT,
		.removed = IDSET_INIT,
	};
	const struct bytes all = {NULL, 0};
	int error = reader_acquire(repo_store(repo), &verifying.reader);
	if (error)
		return error;
	error = reader_records(verifying.reader, TABLE_JOURNAL, all, visit_entry, &verifying);
	if (!error) {
		check_end(&verifying);
		error = reader_records(verifying.reader, TABLE_POINTS, all, visit_point,
				       &verifying);
	}
	if (!error)
		error = reader_records(verifying.reader, TABLE_JOURNAL, all, visit_made,
				       &verifying);
	reader_release(verifying.reader);
	idset_release(&verifying.made);
	idset_release(&verifying.removed);
	if (!error)
		*ret = verifying.state;
	return error;
}
