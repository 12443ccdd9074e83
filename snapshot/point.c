/* Points: finding them, and who and when. */
#include "snapshot/point.h"
#include "index/util/array.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "index/util/bytes.h"
#include "snapshot/journal.h"
#include "snapshot/point_internal.h"

int64_t point_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

char *point_user(const char *by)
{
	if (by && *by)
		return strdup(by);
	char buffer[2048];
	struct passwd entry, *found = NULL;
	if (getpwuid_r(getuid(), &entry, buffer, sizeof(buffer), &found) == 0 && found)
		return strdup(found->pw_name);
	char number[16];
	snprintf(number, sizeof(number), "%u", (unsigned)getuid());
	return strdup(number);
}

int point_journal(struct repo *repo, struct commit *commit, const struct point *point,
		  struct journal_note *note)
{
	note->workspace = point->workspace;
	note->point = point->id;
	note->point_name = point->name;
	return journal_append(repo, commit, note);
}

/* ---- finding them ---- */

int point_get(struct repo *repo, uint64_t id, struct point *ret)
{
	struct reader *reader;
	int error = reader_acquire(repo->store, &reader);
	if (error)
		return error;
	error = point_read(reader, id, ret);
	reader_release(reader);
	return error;
}

int head_is_at_base(struct head *head)
{
	struct record_key key;
	struct bytes value;
	struct reader *reader;
	const struct point_fixed *fixed;
	uint64_t id;
	if (!head->base)
		return 0;
	int error = reader_acquire(head->repo->store, &reader);
	if (error)
		return error;
	struct bytes bytes = record_id_key(&key, head->base);
	error = reader_record(reader, TABLE_POINTS, bytes, &value);
	if (!error)
		error = point_peek(bytes, value, &id, &fixed);
	if (!error)
		error = get_le64(fixed->root) == tree_root(head->tree);
	reader_release(reader);
	return error;
}

int point_exists(struct reader *reader, uint64_t id)
{
	struct record_key key;
	struct bytes value;
	return reader_record(reader, TABLE_POINTS, record_id_key(&key, id), &value);
}

int point_by_name(struct repo *repo, uint64_t workspace, const char *name, size_t length,
		  struct point *ret)
{
	struct reader *reader;
	int error = reader_acquire(repo->store, &reader);
	if (error)
		return error;
	uint64_t id;
	error = length ? record_find_name(reader, workspace, name, length, &id) : -ENOENT;
	if (!error) {
		error = point_read(reader, id, ret);
		if (error == -ENOENT)
			error = -EUCLEAN;
	}
	reader_release(reader);
	return error;
}

int point_list(struct repo *repo, uint64_t workspace, struct point **ret, size_t *ret_count)
{
	struct reader *reader;
	int error = reader_acquire(repo->store, &reader);
	if (error)
		return error;
	error = points_read(reader, workspace, ret, ret_count);
	reader_release(reader);
	return error;
}

struct naming {
	uint64_t workspace;
	int (*visit)(uint64_t id, const char *name, size_t length, void *context);
	void *context;
};

static int visit_name(struct bytes key, struct bytes value, void *context)
{
	const struct naming *naming = context;
	const struct point_fixed *fixed;
	const char *name;
	size_t length;
	uint64_t id;
	int error = point_peek(key, value, &id, &fixed);
	if (error || get_le64(fixed->workspace) != naming->workspace)
		return error;
	error = point_peek_name(value, &name, &length);
	return error ? error : naming->visit(id, name, length, naming->context);
}

int point_names(struct repo *repo, uint64_t workspace, uint64_t from,
		int (*visit)(uint64_t id, const char *name, size_t length, void *context),
		void *context)
{
	struct naming naming = {workspace, visit, context};
	struct record_key key;
	struct reader *reader;
	int error = reader_acquire(repo->store, &reader);
	if (error)
		return error;
	error = reader_records_from(reader, TABLE_POINTS, record_id_key(&key, from), RECORDS_UP,
				    visit_name, &naming);
	reader_release(reader);
	return error;
}

struct totalling {
	struct point_totals *items; /* owned, in order of workspace */
	size_t count, capacity;
};

/* Where the workspace is, or belongs.  There are few workspaces, and neighbours have the same. */
static size_t totals_place(const struct totalling *totalling, uint64_t workspace)
{
	size_t low = 0, high = totalling->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (totalling->items[middle].workspace < workspace)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int visit_totals(struct bytes key, struct bytes value, void *context)
{
	struct totalling *totalling = context;
	const struct point_fixed *fixed;
	uint64_t id;
	int error = point_peek(key, value, &id, &fixed);
	if (error)
		return error;
	uint64_t workspace = get_le64(fixed->workspace);
	size_t place = totals_place(totalling, workspace);
	if (place == totalling->count || totalling->items[place].workspace != workspace) {
		struct point_totals *items = array_reserve(totalling->items, totalling->count + 1,
							   &totalling->capacity, sizeof(items[0]));
		if (!items)
			return -ENOMEM;
		totalling->items = items;
		memmove(&totalling->items[place + 1], &totalling->items[place],
			(totalling->count - place) * sizeof(totalling->items[0]));
		totalling->items[place] = (struct point_totals){.workspace = workspace};
		totalling->count++;
	}
	totalling->items[place].points++;
	totalling->items[place].bytes += get_le64(fixed->bytes);
	return 0;
}

int point_totals(struct repo *repo, struct point_totals **ret, size_t *ret_count)
{
	struct totalling totalling = {0};
	struct reader *reader;
	int error = reader_acquire(repo->store, &reader);
	if (error)
		return error;
	error = reader_records(reader, TABLE_POINTS, (struct bytes){NULL, 0}, visit_totals,
			       &totalling);
	reader_release(reader);
	if (error) {
		free(totalling.items);
		return error;
	}
	*ret = totalling.items;
	*ret_count = totalling.count;
	return 0;
}

int point_view(struct repo *repo, const struct point *point, struct tree **ret)
{
	return tree_open(repo->store, point->root, 0, ret);
}
