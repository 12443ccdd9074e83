#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/call.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/failure.h"
#include "tools/output.h"

int cmd_hold(struct invocation *invocation)
{
	struct call call;
	json_t *point;
	int code;

	call_begin(&call, invocation, "hold", CALL_WORKSPACE);
	call_text(&call, "point", invocation->arguments[0]);
	call_text(&call, "reason", invocation->arguments[1]);
	call_text(&call, "until", option_value(invocation, "until"));
	code = call_run(&call, &point);
	if (code)
		return code;
	if (invocation->json)
		output_json(point);
	else if (!invocation->quiet)
		printf("held %s (hold %lld)\n", get_text(point, "name"),
		       (long long)get_number(point, "hold"));
	json_decref(point);
	return 0;
}

static int parse_hold(struct invocation *invocation, const char *text, json_int_t *ret_id)
{
	char *end;

	errno = 0;
	*ret_id = strtoll(text, &end, 10);
	if (errno || end == text || *end || *ret_id <= 0)
		return usage_error(invocation, "HOLD is a number from 'cairn show', not '%s'",
				   text);
	return 0;
}

int cmd_release(struct invocation *invocation)
{
	bool one = invocation->argument_count > 1;
	struct call call;
	json_int_t hold = 0;
	json_t *point;
	int code;

	if (one && parse_hold(invocation, invocation->arguments[1], &hold))
		return SERVICE_USAGE;
	call_begin(&call, invocation, "release", CALL_WORKSPACE);
	call_text(&call, "point", invocation->arguments[0]);
	if (one)
		call_set(&call, "hold", json_integer(hold));
	code = call_run(&call, &point);
	if (code)
		return code;
	if (invocation->json)
		output_json(point);
	else if (!invocation->quiet)
		printf("released %s; %zu holds are left\n", get_text(point, "name"),
		       json_array_size(json_object_get(point, "holds")));
	json_decref(point);
	return 0;
}

int cmd_rename(struct invocation *invocation)
{
	struct call call;
	json_t *point;
	int code;

	call_begin(&call, invocation, "rename", CALL_WORKSPACE);
	call_text(&call, "point", invocation->arguments[0]);
	call_text(&call, "new_name", invocation->arguments[1]);
	code = call_run(&call, &point);
	if (code)
		return code;
	if (invocation->json)
		output_json(point);
	else if (!invocation->quiet)
		printf("renamed %s to %s\n", invocation->arguments[0], get_text(point, "name"));
	json_decref(point);
	return 0;
}

int cmd_delete(struct invocation *invocation)
{
	struct call call;
	json_t *points, *point;
	size_t i;
	int code;

	call_begin(&call, invocation, "delete", CALL_WORKSPACE);
	for (int k = 0; k < invocation->argument_count; k++)
		call_append(&call, "points", invocation->arguments[k]);
	call_flag(&call, "dry_run", invocation->dry_run);
	code = call_run(&call, &points);
	if (code)
		return code;
	if (invocation->json)
		output_json(points);
	else if (!invocation->quiet || invocation->dry_run)
		json_array_foreach(points, i, point) printf(
			"%s %s\n", invocation->dry_run ? "would delete" : "deleted",
			json_is_string(point) ? json_string_value(point) : get_text(point, "name"));
	json_decref(points);
	return 0;
}
