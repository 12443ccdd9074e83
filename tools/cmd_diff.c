#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/call.h"
#include "tools/changes.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/failure.h"
#include "tools/output.h"
#include "tools/place.h"

static const struct column diff_columns[] = {
	{"op", "OP", COLUMN_TEXT, 0, NULL},
	{"type", "TYPE", COLUMN_TEXT, 0, NULL},
	{"old_size", "OLD SIZE", COLUMN_SIZE, 0, NULL},
	{"new_size", "NEW SIZE", COLUMN_SIZE, 0, NULL},
	{"path", "PATH", COLUMN_TEXT, 0, NULL},
	{"old_path", "OLD PATH", COLUMN_TEXT, 0, NULL},
	{NULL, NULL, COLUMN_TEXT, 0, NULL},
};

/* ---- which arguments are points ------------------------------------------------------- */

/* Asks for something in a point; 0, an exit code (untold), or 1 without memory. */
static int probe(struct invocation *invocation, const char *op, const char *point, const char *path)
{
	struct call call;
	json_t *result;
	int code;

	call_begin(&call, invocation, op, CALL_WORKSPACE | CALL_READ_ONLY);
	call_text(&call, "point", point);
	if (path)
		call_path(&call, "path", path);
	result = call_result(&call);
	code = service_result_code(result);
	json_decref(result);
	return code;
}

/*
 * Is the second argument B or the first PATH?  What no point can be called is a path, what begins
 * with '@' or contains one is a point; else it is what exists.  Returns 0 or an exit code.
 */
static int find_paths(struct invocation *invocation, int *ret_first_path)
{
	const char *a = invocation->arguments[0], *word = invocation->arguments[1];
	int points = invocation->argument_count - invocation->after_dashes;
	const struct place *place;
	char *path;
	int is_path;

	*ret_first_path = points < 2 ? points : 2;
	if (points < 2)
		return points < 1 ? usage_error(invocation, "the point A is missing") : 0;
	if (word[0] != '@' && (strchr(word, '/') || word[0] == '.'))
		*ret_first_path = 1;
	if (word[0] == '@' || strchr(word, '/') || word[0] == '.' ||
	    probe(invocation, "show", word, NULL) == 0)
		return 0;
	place = place_get(invocation);
	path = place ? path_in_workspace(place, word) : NULL;
	is_path = path && (probe(invocation, "ls", "@head", path) == 0 ||
			   probe(invocation, "ls", a, path) == 0);
	free(path);
	if (is_path)
		*ret_first_path = 1;
	return 0; /* neither: as a point, so that the error says that there is none */
}

/* ---- output --------------------------------------------------------------------------- */

/* A rename is "R old", NUL, "new", NUL. */
static int print_null(const struct invocation *invocation, const json_t *entries)
{
	const json_t *entry;
	size_t i;

	json_array_foreach(entries, i, entry)
	{
		char *path = get_path(entry, "path"), *old_path = get_path(entry, "old_path");

		if (path && old_path) {
			printf("%s ", get_text(entry, "op"));
			if (old_path[0])
				printf("%s%c", old_path, '\0');
			printf("%s%c", path, '\0');
		}
		free(old_path);
		if (!path || !old_path) {
			free(path);
			return failure_memory(invocation);
		}
		free(path);
	}
	return 0;
}

static int print_summary(const struct invocation *invocation, const json_t *entries)
{
	struct changes s;
	json_t *document;

	changes_count(entries, &s);
	if (!invocation->json) {
		if (invocation->raw)
			printf("%lld\t%lld\t%lld\t%lld\t%lld\t%lld\t%lld\n", s.added, s.removed,
			       s.modified, s.attributes, s.renamed, s.old_bytes, s.new_bytes);
		else
			changes_print_counts(stdout, &s);
		return 0;
	}
	document = changes_json(&s);
	if (!document)
		return failure_memory(invocation);
	output_json(document);
	json_decref(document);
	return 0;
}

static int print_diff(const struct invocation *invocation, const json_t *entries)
{
	if (option_given(invocation, "stat"))
		return print_summary(invocation, entries);
	if (invocation->json || invocation->raw)
		return output_rows(invocation, diff_columns, entries);
	if (!option_given(invocation, "null"))
		return changes_print(stdout, entries, SIZE_MAX) ? failure_memory(invocation) : 0;
	return print_null(invocation, entries);
}

/* ---- the command ---------------------------------------------------------------------- */

static int add_paths(struct call *call, int first, char ***ret_paths, int *ret_count)
{
	struct invocation *invocation = call->invocation;
	int count = invocation->argument_count - first;
	char **paths = calloc((size_t)count + 1, sizeof(*paths));

	if (!paths)
		return -1;
	*ret_paths = paths;
	for (int i = 0; i < count; i++) {
		paths[i] = path_in_workspace(invocation->place, invocation->arguments[first + i]);
		if (!paths[i])
			return -1;
		call_append_path(call, "paths", paths[i]);
		*ret_count = i + 1;
	}
	return 0;
}

int cmd_diff(struct invocation *invocation)
{
	struct call call;
	json_t *entries;
	char **paths = NULL;
	int first_path, count = 0, code;

	if (option_given(invocation, "null") && (invocation->json || invocation->raw))
		return usage_error(invocation, "-z excludes --json and -H");
	if (!place_get(invocation))
		return 1;
	code = find_paths(invocation, &first_path);
	if (code)
		return code;
	call_begin(&call, invocation, "diff", CALL_WORKSPACE | CALL_READ_ONLY);
	call_text(&call, "a", invocation->arguments[0]);
	if (first_path > 1)
		call_text(&call, "b", invocation->arguments[1]);
	if (add_paths(&call, first_path, &paths, &count))
		call.failed = true;
	code = call_run(&call, &entries);
	for (int i = 0; i < count; i++)
		free(paths[i]);
	free(paths);
	if (code)
		return code;
	code = print_diff(invocation, entries);
	if (code == 0 && option_given(invocation, "exit-code") && json_array_size(entries) > 0)
		code = 1;
	json_decref(entries);
	return code;
}
