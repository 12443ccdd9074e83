/*
 * Names of points, and the notations by which people mean one:
 *
 *   NAME              an existing point of the workspace
 *   @latest, @0       the newest
 *   @N                N before it
 *   @{WHEN}           the newest that was made at or before WHEN
 *   WORKSPACE@REST    a point of another workspace: NAME, or one of the above without its '@'.
 *                     A point with exactly that name wins.
 *
 * A name may contain '@' further inside, so an exact name in the own workspace comes first.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/util/bytes.h"
#include "snapshot/point_internal.h"
#include "snapshot/workspace_internal.h"

/* ---- names ---- */

/* Length of the well-formed UTF-8 sequence at `text` (no overlong forms, no surrogates), or 0. */
static size_t utf8_sequence(const unsigned char *text)
{
	unsigned char lead = text[0];
	size_t length = lead < 0x80   ? 1
			: lead < 0xC2 ? 0
			: lead < 0xE0 ? 2
			: lead < 0xF0 ? 3
			: lead < 0xF5 ? 4
				      : 0;
	for (size_t i = 1; i < length; i++)
		if ((text[i] & 0xC0) != 0x80)
			return 0;
	if ((lead == 0xE0 && text[1] < 0xA0) || (lead == 0xED && text[1] > 0x9F) ||
	    (lead == 0xF0 && text[1] < 0x90) || (lead == 0xF4 && text[1] > 0x8F))
		return 0;
	return length;
}

static bool is_control(const unsigned char *text)
{
	/* C0, DEL, and C1 (two bytes in UTF-8) */
	return text[0] < 0x20 || text[0] == 0x7F || (text[0] == 0xC2 && text[1] < 0xA0);
}

int name_check(const char *what, const char *name, struct errbuf *err)
{
	size_t length = strlen(name);
	if (length == 0)
		return err_set(err, -EINVAL, "the name of a %s cannot be empty", what);
	if (length > 255)
		return err_set(err, -EINVAL,
			       "the name of a %s has at most 255 bytes; this one has %zu", what,
			       length);
	if (strchr("@-.", name[0]))
		return err_set(err, -EINVAL, "the name of a %s cannot start with '%c'", what,
			       name[0]);
	const unsigned char *text = (const unsigned char *)name;
	while (*text) {
		size_t sequence = utf8_sequence(text);
		if (sequence == 0)
			return err_set(err, -EINVAL, "the name of a %s must be valid UTF-8", what);
		if (*text == '/')
			return err_set(err, -EINVAL, "the name of a %s cannot contain '/': %s",
				       what, name);
		if (is_control(text))
			return err_set(err, -EINVAL,
				       "the name of a %s cannot contain control characters", what);
		text += sequence;
	}
	return 0;
}

int point_check_name(const char *name, struct errbuf *err)
{
	return name_check("point", name, err);
}

/* ---- close matches ---- */

enum { SUGGESTIONS = 3 };

/* Levenshtein distance (insert, delete, replace a byte), row by row; both at most 255 long. */
static unsigned edit_distance(const char *a, const char *b, size_t columns)
{
	uint16_t row[256];
	for (size_t j = 0; j <= columns; j++)
		row[j] = (uint16_t)j;
	for (size_t i = 0; a[i]; i++) {
		unsigned diagonal = row[0];
		row[0] = (uint16_t)(i + 1);
		for (size_t j = 1; j <= columns; j++) {
			unsigned replace = diagonal + (tolower((unsigned char)a[i]) !=
						       tolower((unsigned char)b[j - 1]));
			unsigned shift = 1u + (row[j] < row[j - 1] ? row[j] : row[j - 1]);
			diagonal = row[j];
			row[j] = (uint16_t)(replace < shift ? replace : shift);
		}
	}
	return row[columns];
}

struct suggestion {
	char name[256];
	unsigned distance;
};

struct suggestions {
	const char *name; /* what was asked for */
	struct suggestion items[SUGGESTIONS];
	size_t count;
};

/* How far a name is away; more than `limit` is not close.  A name that contains what was asked for
 * is close, too. */
static unsigned suggestion_distance(const char *asked, const char *name, size_t length,
				    unsigned limit)
{
	size_t asked_length = strlen(asked);
	size_t apart = asked_length > length ? asked_length - length : length - asked_length;
	unsigned distance = apart > limit ? limit + 1 : edit_distance(asked, name, length);
	if (distance > limit && (asked_length < 3 || !memmem(name, length, asked, asked_length)))
		return limit + 2;
	return distance > limit ? limit + 1 : distance;
}

/* Keeps the closest, in order. */
static int suggest(struct suggestions *list, const char *name, size_t length)
{
	size_t asked_length = strlen(list->name);
	unsigned limit = asked_length < 6 ? 2 : (unsigned)asked_length / 3;
	unsigned distance = suggestion_distance(list->name, name, length, limit);
	size_t place = list->count;
	while (place > 0 && list->items[place - 1].distance > distance)
		place--;
	if (distance > limit + 1 || place == SUGGESTIONS)
		return 0;
	if (list->count < SUGGESTIONS)
		list->count++;
	memmove(&list->items[place + 1], &list->items[place],
		(list->count - 1 - place) * sizeof(list->items[0]));
	memcpy(list->items[place].name, name, length);
	list->items[place].name[length] = 0;
	list->items[place].distance = distance;
	return 0;
}

static int report_not_found(const struct suggestions *list, const char *workspace,
			    struct errbuf *err)
{
	char names[3 * 260] = "";
	size_t used = 0;
	for (size_t i = 0; i < list->count && used < sizeof(names); i++)
		used += (size_t)snprintf(names + used, sizeof(names) - used, "%s'%s'",
					 i == 0			? ""
					 : i + 1 == list->count ? " or "
								: ", ",
					 list->items[i].name);
	if (list->count)
		return err_set(err, -ENOENT, "no point '%s' in workspace '%s'; did you mean %s?",
			       list->name, workspace, names);
	return err_set(err, -ENOENT, "no point '%s' in workspace '%s'; 'cairn log' lists them",
		       list->name, workspace);
}

static int suggest_name(uint64_t id, const char *name, size_t length, void *context)
{
	struct suggestions *list = context;
	(void)id;
	return suggest(list, name, length);
}

int point_not_found(struct repo *repo, uint64_t workspace, const char *workspace_name,
		    const char *name, struct errbuf *err)
{
	struct suggestions list = {.name = name};
	int error = 0;
	if (!err)
		return -ENOENT;
	if (strlen(name) <= 255)
		error = point_names(repo, workspace, 0, suggest_name, &list);
	return error ? error : report_not_found(&list, workspace_name, err);
}

/* ---- notations ---- */

struct resolving {
	struct repo *repo;
	uint64_t workspace;
	const char *workspace_name;
	const char *spec; /* as it was given, for messages */
	struct errbuf *err;
};

/* A walk over the points of a workspace, newest first. */
struct choosing {
	uint64_t workspace;
	uint64_t skip;	 /* by number: how many come before the one */
	int64_t when_ns; /* by time */
	uint64_t count;	 /* of the workspace's points so far */
	uint64_t id;	 /* the one, 0: none yet */
	int64_t created_ns;
};

/* 1: a point of the workspace; 0: of another one; -EUCLEAN. */
static int choosing_takes(struct choosing *choosing, struct bytes key, struct bytes value,
			  uint64_t *ret_id, int64_t *ret_created_ns)
{
	const struct point_fixed *fixed;
	int error = point_peek(key, value, ret_id, &fixed);
	if (error || get_le64(fixed->workspace) != choosing->workspace)
		return error;
	*ret_created_ns = (int64_t)get_le64(fixed->created);
	choosing->count++;
	return 1;
}

static int choose_number(struct bytes key, struct bytes value, void *context)
{
	struct choosing *choosing = context;
	uint64_t id;
	int64_t created_ns;
	int takes = choosing_takes(choosing, key, value, &id, &created_ns);
	if (takes <= 0 || choosing->count - 1 < choosing->skip)
		return takes < 0 ? takes : 0;
	choosing->id = id;
	return 1;
}

/* The clock may have been set back: only looking at all of them tells which is the newest. */
static int choose_time(struct bytes key, struct bytes value, void *context)
{
	struct choosing *choosing = context;
	uint64_t id = 0;
	int64_t created_ns = 0;
	int takes = choosing_takes(choosing, key, value, &id, &created_ns);
	if (takes == 1 && created_ns <= choosing->when_ns &&
	    (!choosing->id || created_ns > choosing->created_ns)) {
		choosing->id = id;
		choosing->created_ns = created_ns;
	}
	return takes < 0 ? takes : 0;
}

/* Fills `ret` with the one that was chosen: 1, or 0 where there is none. */
static int choose(const struct resolving *resolving, struct choosing *choosing,
		  int (*visit)(struct bytes key, struct bytes value, void *context),
		  struct point *ret)
{
	struct reader *reader;
	int result = reader_acquire(resolving->repo->store, &reader);
	if (result)
		return result;
	choosing->workspace = resolving->workspace;
	result = reader_records_from(reader, TABLE_POINTS, (struct bytes){NULL, 0}, RECORDS_DOWN,
				     visit, choosing);
	if (result >= 0 && choosing->id)
		result = point_read(reader, choosing->id, ret);
	reader_release(reader);
	return result < 0 ? result : choosing->id != 0;
}

static int resolve_number(const struct resolving *resolving, uint64_t number, struct point *ret)
{
	struct choosing choosing = {.skip = number};
	int found = choose(resolving, &choosing, choose_number, ret);
	if (found)
		return found < 0 ? found : 0;
	uint64_t count = choosing.count;
	if (count == 0)
		return err_set(resolving->err, -ENOENT, "workspace '%s' has no points yet",
			       resolving->workspace_name);
	return err_set(resolving->err, -ENOENT, "'%s': workspace '%s' has only %llu point%s",
		       resolving->spec, resolving->workspace_name, (unsigned long long)count,
		       count == 1 ? "" : "s");
}

static int resolve_time(const struct resolving *resolving, int64_t when_ns, struct point *ret)
{
	struct choosing choosing = {.when_ns = when_ns};
	int found = choose(resolving, &choosing, choose_time, ret);
	if (found)
		return found < 0 ? found : 0;
	return err_set(resolving->err, -ENOENT, "'%s': workspace '%s' has no point that old",
		       resolving->spec, resolving->workspace_name);
}

static int resolve_braces(const struct resolving *resolving, const char *rest, struct point *ret)
{
	size_t length = strlen(rest);
	if (length < 3 || rest[length - 1] != '}')
		return err_set(resolving->err, -EINVAL,
			       "'%s': a time is written @{2026-11-22 09:00} or @{2 hours ago}",
			       resolving->spec);
	char *text = strndup(rest + 1, length - 2);
	if (!text)
		return -ENOMEM;
	int64_t when_ns;
	int error = point_parse_time(text, point_now(), &when_ns, resolving->err);
	free(text);
	return error ? error : resolve_time(resolving, when_ns, ret);
}

static bool is_number(const char *text)
{
	return *text && strspn(text, "0123456789") == strlen(text);
}

/* What follows an '@'. */
static int resolve_notation(const struct resolving *resolving, const char *rest, struct point *ret)
{
	if (strcmp(rest, "latest") == 0)
		return resolve_number(resolving, 0, ret);
	if (is_number(rest)) {
		errno = 0;
		uint64_t number = strtoull(rest, NULL, 10);
		return resolve_number(resolving, errno ? UINT64_MAX : number, ret);
	}
	if (*rest == '{')
		return resolve_braces(resolving, rest, ret);
	if (strcmp(rest, "head") == 0)
		return err_set(resolving->err, -EINVAL,
			       "'%s' is the present state, not a point; freeze it first",
			       resolving->spec);
	return err_set(resolving->err, -EINVAL,
		       "'%s' is not a point; there are @latest, @1 (one before the latest), "
		       "@{2 hours ago} and @head",
		       resolving->spec);
}

static bool is_notation(const char *rest)
{
	return strcmp(rest, "latest") == 0 || strcmp(rest, "head") == 0 || *rest == '{' ||
	       is_number(rest);
}

/* WORKSPACE@REST; `at` points to the '@'. */
static int resolve_elsewhere(struct resolving *resolving, const char *at, struct point *ret)
{
	char *name = strndup(resolving->spec, (size_t)(at - resolving->spec));
	if (!name)
		return -ENOMEM;
	struct workspace workspace = {0};
	int error = workspace_get(resolving->repo, name, &workspace);
	if (error) {
		if (error == -ENOENT)
			error = workspace_not_found(resolving->repo, name, resolving->err);
		free(name);
		return error;
	}
	const char *rest = at + 1;
	resolving->workspace = workspace.id;
	resolving->workspace_name = workspace.name;
	error = point_by_name(resolving->repo, workspace.id, rest, strlen(rest), ret);
	if (error == -ENOENT)
		error = is_notation(rest) ? resolve_notation(resolving, rest, ret)
					  : point_not_found(resolving->repo, workspace.id,
							    workspace.name, rest, resolving->err);
	workspace_release(&workspace);
	free(name);
	return error;
}

/* The workspace that specs without one refer to. */
static int resolve_own_workspace(struct resolving *resolving, const char *name,
				 struct workspace *ret)
{
	if (!name)
		return err_set(resolving->err, -EINVAL, "'%s': which workspace? say WORKSPACE@%s",
			       resolving->spec,
			       resolving->spec + (resolving->spec[0] == '@' ? 1 : 0));
	int error = workspace_get(resolving->repo, name, ret);
	if (error == -ENOENT)
		return workspace_not_found(resolving->repo, name, resolving->err);
	if (error)
		return error;
	resolving->workspace = ret->id;
	resolving->workspace_name = ret->name;
	return 0;
}

int point_resolve(struct repo *repo, const char *workspace, const char *spec, struct point *ret,
		  struct errbuf *err)
{
	struct resolving resolving = {.repo = repo, .spec = spec, .err = err};
	const char *at = strchr(spec, '@');
	if (*spec == 0)
		return err_set(err, -EINVAL, "the name of a point is missing");
	if (at && at > spec && !workspace)
		return resolve_elsewhere(&resolving, at, ret);

	struct workspace own = {0};
	int error = resolve_own_workspace(&resolving, workspace, &own);
	if (error)
		return error;
	if (at == spec) {
		error = resolve_notation(&resolving, spec + 1, ret);
	} else {
		error = point_by_name(repo, own.id, spec, strlen(spec), ret);
		if (error == -ENOENT)
			error = at ? resolve_elsewhere(&resolving, at, ret)
				   : point_not_found(repo, own.id, own.name, spec, err);
	}
	workspace_release(&own);
	return error;
}
