/* Points: finding them, and who and when. */
#include "snapshot/point.h"

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

int point_view(struct repo *repo, const struct point *point, struct tree **ret)
{
	return tree_open(repo->store, point->root, 0, ret);
}
