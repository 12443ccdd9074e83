#include "tools/lineage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/call.h"
#include "tools/command.h"
#include "tools/failure.h"
#include "tools/output.h"

/* Points by id. */
struct history {
	struct invocation *invocation;
	json_t *points;
	bool complete; /* those of all workspaces are in it */
};

struct id_text {
	char text[24];
};

static struct id_text id_text(json_int_t id)
{
	struct id_text key;

	snprintf(key.text, sizeof(key.text), "%lld", (long long)id);
	return key;
}

static int add_workspace(struct history *history, const char *workspace)
{
	json_t *points, *point;
	struct call call;
	size_t i;
	int code;

	call_begin(&call, history->invocation, "log", CALL_READ_ONLY);
	call_text(&call, "workspace", workspace);
	code = call_run(&call, &points);
	if (code)
		return code;
	json_array_foreach(points, i,
			   point) if (json_object_set(history->points,
						      id_text(get_number(point, "id")).text, point))
		code = 1;
	json_decref(points);
	return code ? failure_memory(history->invocation) : 0;
}

static int add_all(struct history *history)
{
	json_t *workspaces, *workspace;
	struct call call;
	size_t i;
	int code;

	call_begin(&call, history->invocation, "workspace_list", CALL_READ_ONLY);
	code = call_run(&call, &workspaces);
	if (code)
		return code;
	json_array_foreach(workspaces, i, workspace) if (!code) code =
		add_workspace(history, get_text(workspace, "name"));
	json_decref(workspaces);
	history->complete = true;
	return code;
}

/* Borrowed; NULL where it has none. */
static int parent_of(struct history *history, const json_t *point, const json_t **ret)
{
	json_int_t id = get_number(point, "parent_id");
	const json_t *parent = NULL;
	int code = 0;

	if (id) {
		parent = json_object_get(history->points, id_text(id).text);
		if (!parent && !history->complete) {
			code = add_all(history);
			parent = json_object_get(history->points, id_text(id).text);
		}
	}
	if (!code)
		*ret = parent;
	return code;
}

/* From `bad` back to `good` (NULL: to the first point), newest first. */
static int walk_back(struct history *history, const json_t *bad, const json_t *good, json_t *line,
		     bool *ret_met)
{
	const json_t *point = bad;
	int code = 0;

	*ret_met = false;
	while (!code && point && !*ret_met) {
		if (json_array_append(line, (json_t *)point))
			return failure_memory(history->invocation);
		*ret_met = good && get_number(point, "id") == get_number(good, "id");
		if (!*ret_met)
			code = parent_of(history, point, &point);
	}
	return code;
}

static bool line_has(const json_t *line, json_int_t id)
{
	const json_t *point;
	size_t i;

	json_array_foreach(line, i, point) if (get_number(point, "id") == id) return true;
	return false;
}

char *point_spec(const json_t *point, const char *workspace)
{
	const char *its = get_text(point, "workspace"), *name = get_text(point, "name");
	char *text;

	if (workspace && strcmp(its, workspace) == 0)
		return strdup(name);
	return asprintf(&text, "%s@%s", its, name) < 0 ? NULL : text;
}

static int tell_apart(struct history *history, const json_t *good, const json_t *bad,
		      const json_t *common)
{
	const struct invocation *invocation = history->invocation;
	const char *good_name = get_text(good, "name"), *bad_name = get_text(bad, "name");
	char *spec, *better;
	int code;

	if (!common)
		return failure(invocation, SERVICE_FAILED,
			       "'%s' is no ancestor of '%s': they have no point in common\n"
			       "'cairn log --graph' shows the history.",
			       good_name, bad_name);
	spec = point_spec(common, get_text(bad, "workspace"));
	better = spec ? format_shell(spec) : NULL;
	if (!better)
		code = failure_memory(invocation);
	else if (get_number(common, "id") == get_number(bad, "id"))
		code = failure(invocation, SERVICE_FAILED,
			       "'%s' is no ancestor of '%s': it came after it\n"
			       "To find where CMD began to succeed, exchange the two and let it "
			       "fail where it succeeds: sh -c '! ...'.",
			       good_name, bad_name);
	else
		code = failure(invocation, SERVICE_FAILED,
			       "'%s' is no ancestor of '%s': their ways part at '%s'\n"
			       "Where CMD succeeds at that, search from there: --good %s.  "
			       "'cairn log --graph' shows the history.",
			       good_name, bad_name, get_text(common, "name"), better);
	free(better);
	free(spec);
	return code;
}

/* Where the ways of the two part; `line` is that of `bad` to its first point. */
static int refuse(struct history *history, const json_t *good, const json_t *bad,
		  const json_t *line)
{
	const json_t *point = good;
	int code = 0;

	while (!code && point && !line_has(line, get_number(point, "id")))
		code = parent_of(history, point, &point);
	return code ? code : tell_apart(history, good, bad, point);
}

static json_t *reversed(const json_t *line)
{
	json_t *result = json_array();

	for (size_t i = json_array_size(line); result && i > 0; i--) {
		if (json_array_append(result, json_array_get(line, i - 1))) {
			json_decref(result);
			result = NULL;
		}
	}
	return result;
}

int lineage_find(struct invocation *invocation, const json_t *good, const json_t *bad,
		 json_t **ret_line)
{
	struct history history = {.invocation = invocation, .points = json_object()};
	json_t *line = json_array(), *result = NULL;
	bool met = false;
	int code = history.points && line ? add_workspace(&history, get_text(bad, "workspace"))
					  : failure_memory(invocation);

	if (!code)
		code = walk_back(&history, bad, good, line, &met);
	if (!code && !met)
		code = refuse(&history, good, bad, line);
	if (!code) {
		result = reversed(line);
		if (!result)
			code = failure_memory(invocation);
	}
	json_decref(line);
	json_decref(history.points);
	if (!code)
		*ret_line = result;
	return code;
}
