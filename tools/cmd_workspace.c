#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/call.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/failure.h"
#include "tools/output.h"

static const struct column list_columns[] = {
	{"name", "NAME", COLUMN_TEXT, 0, NULL},
	{"id", "ID", COLUMN_NUMBER, COLUMN_RAW_ONLY, NULL},
	{"created", "CREATED", COLUMN_AGE, 0, NULL},
	{"base", "BASED ON", COLUMN_TEXT, COLUMN_SHRINKS, NULL},
	{"files", "FILES", COLUMN_NUMBER, 0, NULL},
	{"directories", "DIRECTORIES", COLUMN_NUMBER, COLUMN_RAW_ONLY, NULL},
	{"bytes", "SIZE", COLUMN_SIZE, 0, NULL},
	{"changed_bytes", "CHANGED", COLUMN_SIZE, 0, NULL},
	{NULL, NULL, COLUMN_TEXT, 0, NULL},
};

int cmd_workspace_list(struct invocation *invocation)
{
	struct call call;
	json_t *workspaces;
	int code;

	call_begin(&call, invocation, "workspace_list", CALL_READ_ONLY);
	code = call_run(&call, &workspaces);
	if (code)
		return code;
	code = output_rows(invocation, list_columns, workspaces);
	json_decref(workspaces);
	return code;
}

/* Runs the request and prints its result as JSON, or one line made of `format` and two names. */
static int run_and_say(struct call *call, const char *format, const char *first, const char *second)
{
	const struct invocation *invocation = call->invocation;
	json_t *result;
	int code = call_run(call, &result);

	if (code)
		return code;
	if (invocation->json)
		output_json(result);
	else if (!invocation->quiet)
		printf(format, first, second);
	json_decref(result);
	return 0;
}

int cmd_workspace_create(struct invocation *invocation)
{
	struct call call;

	call_begin(&call, invocation, "workspace_create", 0);
	call_text(&call, "name", invocation->arguments[0]);
	return run_and_say(&call, "made workspace %s\n", invocation->arguments[0], NULL);
}

int cmd_workspace_rename(struct invocation *invocation)
{
	struct call call;

	call_begin(&call, invocation, "workspace_rename", 0);
	call_text(&call, "name", invocation->arguments[0]);
	call_text(&call, "new_name", invocation->arguments[1]);
	return run_and_say(&call, "renamed workspace %s to %s\n", invocation->arguments[0],
			   invocation->arguments[1]);
}

int cmd_workspace_delete(struct invocation *invocation)
{
	char count[FORMAT_MAX];
	struct call call;
	const json_t *points, *name;
	json_t *result;
	size_t i;
	int code;

	call_begin(&call, invocation, "workspace_delete", 0);
	call_text(&call, "name", invocation->arguments[0]);
	call_flag(&call, "dry_run", invocation->dry_run);
	code = call_run(&call, &result);
	if (code)
		return code;
	points = json_object_get(result, "points");
	if (invocation->json) {
		output_json(result);
	} else if (!invocation->quiet || invocation->dry_run) {
		printf("%s workspace %s with %s\n",
		       invocation->dry_run ? "would delete" : "deleted", invocation->arguments[0],
		       format_count(json_array_size(points), "point", count));
		if (invocation->dry_run || invocation->verbose)
			json_array_foreach(points, i, name)
				printf("  %s\n", json_string_value(name));
	}
	json_decref(result);
	return 0;
}

int cmd_clone(struct invocation *invocation)
{
	struct call call;

	call_begin(&call, invocation, "clone", CALL_WORKSPACE);
	call_text(&call, "point", invocation->arguments[0]);
	call_text(&call, "name", invocation->arguments[1]);
	return run_and_say(&call, "made workspace %s from %s\n", invocation->arguments[1],
			   invocation->arguments[0]);
}
