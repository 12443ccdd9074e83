#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/call.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/failure.h"
#include "tools/graph.h"
#include "tools/output.h"

static const struct column log_columns[] = {
	{"name", "NAME", COLUMN_TEXT, 0, NULL},
	{"id", "ID", COLUMN_NUMBER, COLUMN_RAW_ONLY, NULL},
	{"created", "CREATED", COLUMN_AGE, 0, NULL},
	{"parent", "PARENT", COLUMN_TEXT, COLUMN_RAW_ONLY, NULL},
	{"files", "FILES", COLUMN_NUMBER, 0, NULL},
	{"bytes", "SIZE", COLUMN_SIZE, 0, NULL},
	{"changed_bytes", "CHANGED", COLUMN_SIZE, 0, NULL},
	{"exclusive_bytes", "ALONE", COLUMN_SIZE, 0, NULL}, /* only with --sizes */
	{"tags", "TAGS", COLUMN_LIST, 0, NULL},
	{"verdict", "VERDICT", COLUMN_TEXT, 0, NULL},
	{"message", "MESSAGE", COLUMN_TEXT, COLUMN_SHRINKS, NULL},
	{NULL, NULL, COLUMN_TEXT, 0, NULL},
};

static json_t *newest_first(const json_t *points)
{
	json_t *result = json_array();

	for (size_t i = json_array_size(points); result && i-- > 0;) {
		if (json_array_append(result, json_array_get(points, i))) {
			json_decref(result);
			return NULL;
		}
	}
	return result;
}

/* ---- sizes ---------------------------------------------------------------------------- */

/* Both lists are in order of id, but points may have come or gone between the two requests. */
static int merge_sizes(json_t *points, const json_t *usages)
{
	size_t at = 0, i;
	json_t *point;

	json_array_foreach(points, i, point)
	{
		int64_t id = get_number(point, "id");
		const json_t *usage = NULL;

		while (at < json_array_size(usages) &&
		       get_number(json_array_get(usages, at), "id") < id)
			at++;
		if (get_number(json_array_get(usages, at), "id") == id)
			usage = json_array_get(usages, at);
		if (json_object_set(point, "exclusive_bytes",
				    usage ? json_object_get(usage, "exclusive_bytes")
					  : json_null()))
			return -1;
	}
	return 0;
}

/* `points` oldest first. */
static int add_sizes(struct invocation *invocation, json_t *points)
{
	struct call call;
	json_t *usage;
	int code;

	call_begin(&call, invocation, "usage", CALL_WORKSPACE | CALL_READ_ONLY);
	code = call_run(&call, &usage);
	if (code)
		return code;
	if (merge_sizes(points, json_object_get(usage, "points")))
		code = failure_memory(invocation);
	json_decref(usage);
	return code;
}

static int print_log(const struct invocation *invocation, const json_t *points, bool sizes)
{
	struct column columns[sizeof(log_columns) / sizeof(log_columns[0])];
	size_t count = 0;

	for (size_t i = 0; i < sizeof(log_columns) / sizeof(log_columns[0]); i++)
		if (sizes || !log_columns[i].key ||
		    strcmp(log_columns[i].key, "exclusive_bytes") != 0)
			columns[count++] = log_columns[i];
	return output_rows(invocation, columns, points);
}

/* For a graph: also what is not drawn, as it connects the rest; and where the heads are. */
static int print_graph(struct invocation *invocation, const json_t *points)
{
	struct graph_input input = {.points = points};
	json_t *all = NULL, *workspaces = NULL;
	struct call call;
	int code;

	call_begin(&call, invocation, "log", CALL_READ_ONLY);
	call_flag(&call, "all_workspaces", true);
	call_flag(&call, "brief", true);
	code = call_run(&call, &all);
	if (code)
		return code;
	call_begin(&call, invocation, "workspace_list", CALL_READ_ONLY);
	code = call_run(&call, &workspaces);
	if (!code) {
		input.all = all;
		input.workspaces = workspaces;
		code = graph_print(invocation, &input);
	}
	json_decref(workspaces);
	json_decref(all);
	return code;
}

static int print_list(struct invocation *invocation, json_t *oldest_first)
{
	bool sizes = option_given(invocation, "sizes");
	int code = sizes ? add_sizes(invocation, oldest_first) : 0;
	json_t *points;

	if (code)
		return code;
	points = newest_first(oldest_first);
	code = points ? print_log(invocation, points, sizes) : failure_memory(invocation);
	json_decref(points);
	return code;
}

/* --last takes a number; what is none is refused. */
static json_t *last_number(struct invocation *invocation, const char *text)
{
	char *end;
	long long number;

	errno = 0;
	number = strtoll(text, &end, 10);
	if (errno || end == text || *end || number < 1) {
		usage_error(invocation, "--last takes a number of points, not '%s'", text);
		return NULL;
	}
	return json_integer(number);
}

static bool is_filtered(const struct invocation *invocation)
{
	return option_given(invocation, "verdict") || option_given(invocation, "tag") ||
	       option_given(invocation, "since") || option_given(invocation, "until");
}

int cmd_log(struct invocation *invocation)
{
	bool graph = option_given(invocation, "graph");
	const char *last = option_value(invocation, "last");
	json_t *number = NULL, *points;
	struct call call;
	int code;

	if (graph && (invocation->json || invocation->raw))
		return usage_error(invocation, "--graph is for people; --json and -H tell parents");
	if (last && !(number = last_number(invocation, last)))
		return 2;
	call_begin(&call, invocation, "log", CALL_WORKSPACE | CALL_READ_ONLY);
	call_text(&call, "tag", option_value(invocation, "tag"));
	call_text(&call, "verdict", option_value(invocation, "verdict"));
	call_text(&call, "since", option_value(invocation, "since"));
	call_text(&call, "until", option_value(invocation, "until"));
	call_flag(&call, "all_workspaces", option_given(invocation, "all-workspaces"));
	if (number)
		call_set(&call, "last", number);
	code = call_run(&call, &points);
	if (code)
		return code;
	if (json_array_size(points) == 0 && !invocation->json && !invocation->raw)
		talk(invocation, "no points %s",
		     is_filtered(invocation) ? "like this" : "yet; 'cairn freeze NAME' makes one");
	code = graph ? print_graph(invocation, points) : print_list(invocation, points);
	json_decref(points);
	return code;
}
