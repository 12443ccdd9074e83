/*
 * find: which points hold a path, and in which version.
 *
 * For people a line a version, the one of the newest point first, with the points as ranges;
 * -H and --json tell every point.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/call.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/failure.h"
#include "tools/format.h"
#include "tools/output.h"
#include "tools/place.h"

static const struct column point_columns[] = {
	{"point", "POINT", COLUMN_TEXT, 0, NULL},
	{"version", "VERSION", COLUMN_NUMBER, 0, NULL},
	{"type", "TYPE", COLUMN_TEXT, 0, NULL},
	{"size", "SIZE", COLUMN_SIZE, 0, NULL},
	{"mtime", "MODIFIED", COLUMN_AGE, 0, NULL},
	{"ino", "INODE", COLUMN_NUMBER, 0, NULL},
	{"workspace", "WORKSPACE", COLUMN_TEXT, 0, NULL},
	{"id", "ID", COLUMN_NUMBER, 0, NULL},
	{"created", "CREATED", COLUMN_AGE, 0, NULL},
	{NULL, NULL, COLUMN_TEXT, 0, NULL},
};

static const struct column version_columns[] = {
	{"version", "VERSION", COLUMN_NUMBER, 0, NULL},
	{"type", "TYPE", COLUMN_TEXT, 0, NULL},
	{"size", "SIZE", COLUMN_SIZE, 0, NULL},
	{"mtime", "MODIFIED", COLUMN_AGE, 0, NULL},
	{"points", "POINTS", COLUMN_TEXT, COLUMN_SHRINKS, NULL},
	{NULL, NULL, COLUMN_TEXT, 0, NULL},
};

enum { RANGES_SHOWN = 4 };

/* Points in a row with the same version. */
struct range {
	size_t first, last; /* in the list */
};

struct found {
	const json_t *points; /* oldest first */
	bool all_workspaces;
	size_t count;	/* of versions */
	size_t *newest; /* owned; by version - 1: the last point that holds it */
};

static int64_t version_at(const struct found *found, size_t index)
{
	return get_number(json_array_get(found->points, index), "version");
}

static bool found_init(struct found *found)
{
	size_t total = json_array_size(found->points);

	found->newest = calloc(total + 1, sizeof(*found->newest));
	if (!found->newest)
		return false;
	for (size_t i = 0; i < total; i++) {
		size_t version = (size_t)version_at(found, i);
		if (version == 0 || version > total)
			continue;
		if (version > found->count)
			found->count = version;
		found->newest[version - 1] = i;
	}
	return true;
}

/* NAME, or WORKSPACE@NAME; malloc'ed. */
static char *point_spec(const struct found *found, size_t index)
{
	const json_t *point = json_array_get(found->points, index);
	char *spec;

	if (!found->all_workspaces)
		return strdup(get_text(point, "point"));
	if (asprintf(&spec, "%s@%s", get_text(point, "workspace"), get_text(point, "point")) < 0)
		return NULL;
	return spec;
}

static int print_range(FILE *stream, const struct found *found, const struct range *range)
{
	char *first = point_spec(found, range->first), *last = point_spec(found, range->last);
	int printed = -1;

	if (first && last && range->first == range->last)
		printed = fputs(first, stream);
	else if (first && last)
		printed = fprintf(stream, "%s%s%s", first,
				  range->last == range->first + 1 ? ", " : " .. ", last);
	free(first);
	free(last);
	return printed < 0 ? -1 : 0;
}

/* "a, b .. f, k (7 points)", oldest first; of many ranges the newest ones. */
static char *ranges_text(const struct found *found, int64_t version)
{
	struct range ranges[RANGES_SHOWN];
	size_t count = 0, points = 0, size, total = json_array_size(found->points);
	char *text = NULL;
	int error = 0;

	for (size_t i = 0; i < total; i++) {
		if (version_at(found, i) != version)
			continue;
		struct range *last = count ? &ranges[(count - 1) % RANGES_SHOWN] : NULL;
		points++;
		if (last && last->last + 1 == i)
			last->last = i;
		else
			ranges[count++ % RANGES_SHOWN] = (struct range){i, i};
	}
	FILE *stream = open_memstream(&text, &size);
	if (!stream)
		return NULL;
	size_t from = count > RANGES_SHOWN ? count - RANGES_SHOWN : 0;
	if (from > 0)
		fputs("..., ", stream);
	for (size_t i = from; i < count && !error; i++) {
		if (i > from)
			fputs(", ", stream);
		error = print_range(stream, found, &ranges[i % RANGES_SHOWN]);
	}
	if (points > 2)
		fprintf(stream, " (%zu points)", points);
	if (fclose(stream) || error) {
		free(text);
		return NULL;
	}
	return text;
}

static json_t *version_row(const struct found *found, size_t newest)
{
	const json_t *point = json_array_get(found->points, newest);
	char *ranges = ranges_text(found, version_at(found, newest));
	json_t *row = ranges ? json_pack("{s:O, s:O, s:O, s:O, s:s}", "version",
					 json_object_get(point, "version"), "type",
					 json_object_get(point, "type"), "size",
					 json_object_get(point, "size"), "mtime",
					 json_object_get(point, "mtime"), "points", ranges)
			     : NULL;

	free(ranges);
	return row;
}

static int newer_first(const void *a, const void *b)
{
	size_t left = *(const size_t *)a, right = *(const size_t *)b;

	return (left < right) - (left > right);
}

static json_t *version_rows(struct found *found)
{
	json_t *rows = json_array();

	qsort(found->newest, found->count, sizeof(*found->newest), newer_first);
	for (size_t i = 0; rows && i < found->count; i++) {
		if (json_array_append_new(rows, version_row(found, found->newest[i]))) {
			json_decref(rows);
			return NULL;
		}
	}
	return rows;
}

/* What to type to have it back: of the version before the newest one, where there are several, as
 * the newest is likely what is there. */
static void tell_restore(const struct invocation *invocation, const struct found *found,
			 const char *path)
{
	size_t which = found->newest[found->count > 1 ? 1 : 0];
	char *spec = point_spec(found, which), *point = spec ? format_shell(spec) : NULL;
	char *shown = format_shell(path);
	char *workspace = invocation->workspace ? format_shell(invocation->workspace) : NULL;

	if (point && shown)
		talk(invocation, "to get version %lld back: cairn %s%s%srestore %s%s%s",
		     (long long)version_at(found, which), workspace ? "-w " : "",
		     workspace ? workspace : "", workspace ? " " : "", point, *path ? " " : "",
		     *path ? shown : "");
	free(workspace);
	free(shown);
	free(point);
	free(spec);
}

static int print_versions(const struct invocation *invocation, const json_t *points,
			  const char *path)
{
	struct found found = {.points = points,
			      .all_workspaces = option_given(invocation, "all-workspaces")};
	json_t *rows = found_init(&found) ? version_rows(&found) : NULL;
	int code =
		rows ? output_rows(invocation, version_columns, rows) : failure_memory(invocation);

	if (!code && found.count > 0)
		tell_restore(invocation, &found, path);
	json_decref(rows);
	free(found.newest);
	return code;
}

/* Without the slashes and dots that mean nothing. */
static void tidy(char *path)
{
	char *to = path;

	for (const char *from = path; *from;) {
		size_t length = strcspn(from, "/");
		if (length > 0 && !(length == 1 && *from == '.')) {
			if (to > path)
				*to++ = '/';
			memmove(to, from, length);
			to += length;
		}
		from += length;
		from += strspn(from, "/");
	}
	*to = '\0';
}

int cmd_find(struct invocation *invocation)
{
	const struct place *place = place_get(invocation);
	char *inside = place ? path_in_workspace(place, invocation->arguments[0]) : NULL;
	struct call call;
	json_t *points;
	int code;

	if (!inside)
		return place ? failure_memory(invocation) : 1;
	tidy(inside);
	call_begin(&call, invocation, "find", CALL_WORKSPACE | CALL_READ_ONLY);
	call_path(&call, "path", inside);
	call_flag(&call, "all_workspaces", option_given(invocation, "all-workspaces"));
	code = call_run(&call, &points);
	if (!code) {
		code = invocation->json || invocation->raw
			       ? output_rows(invocation, point_columns, points)
			       : print_versions(invocation, points, inside);
		json_decref(points);
	}
	free(inside);
	return code;
}
