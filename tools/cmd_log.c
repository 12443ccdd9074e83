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

int cmd_log(struct invocation *invocation)
{
	bool graph = option_given(invocation, "graph");
	struct call call;
	json_t *oldest_first, *points;
	int code;

	if (graph && (invocation->json || invocation->raw))
		return usage_error(invocation, "--graph is for people; --json and -H tell parents");
	call_begin(&call, invocation, "log", CALL_WORKSPACE | CALL_READ_ONLY);
	call_text(&call, "tag", option_value(invocation, "tag"));
	code = call_run(&call, &oldest_first);
	if (code)
		return code;
	points = newest_first(oldest_first);
	json_decref(oldest_first);
	if (!points)
		return failure_memory(invocation);
	if (json_array_size(points) == 0 && !invocation->json && !invocation->raw)
		talk(invocation, "no points %s",
		     option_given(invocation, "tag") ? "with this tag"
						     : "yet; 'cairn freeze NAME' makes one");
	code = graph ? graph_print(invocation, points)
		     : output_rows(invocation, log_columns, points);
	json_decref(points);
	return code;
}
