#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/call.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/failure.h"
#include "tools/output.h"

static int add_anchors(struct call *call)
{
	struct invocation *invocation = call->invocation;
	json_t *anchors = NULL;
	const char *text;
	size_t position = 0;

	while ((text = option_next(invocation, "anchor", &position))) {
		size_t length = strcspn(text, "=");
		char *name;

		if (length == 0 || text[length] == '\0')
			return usage_error(invocation, "--anchor is NAME=VALUE, not '%s'", text);
		if (!anchors) {
			call_set(call, "anchors", json_object());
			anchors = json_object_get(call->object, "anchors");
		}
		name = strndup(text, length);
		if (!name || json_object_set_new(anchors, name, json_string(text + length + 1)))
			call->invalid = text;
		free(name);
	}
	return 0;
}

static void freeze_report(const struct invocation *invocation, const json_t *point)
{
	char files[FORMAT_MAX], size[FORMAT_MAX], changed[FORMAT_MAX], time[FORMAT_MAX];

	if (invocation->json) {
		output_json(point);
	} else if (invocation->quiet) {
		return;
	} else if (json_is_false(json_object_get(point, "made"))) {
		printf("nothing changed since %s: no point made\n", get_text(point, "name"));
	} else {
		printf("froze %s: %s, %s (%s changed) in %s\n", get_text(point, "name"),
		       format_count((uint64_t)get_number(point, "files"), "file", files),
		       format_size((uint64_t)get_number(point, "bytes"), size),
		       format_size((uint64_t)get_number(point, "changed_bytes"), changed),
		       format_duration(get_number(point, "elapsed_ns"), time));
	}
}

int cmd_freeze(struct invocation *invocation)
{
	struct call call;
	const char *text;
	json_t *point;
	int code;

	call_begin(&call, invocation, "freeze", CALL_WORKSPACE | CALL_PRESENT);
	call_text(&call, "name", invocation->arguments[0]);
	call_text(&call, "message", option_value(invocation, "message"));
	for (size_t i = 0; (text = option_next(invocation, "tag", &i));)
		call_append(&call, "tags", text);
	for (size_t i = 0; (text = option_next(invocation, "hold", &i));)
		call_append(&call, "holds", text);
	call_flag(&call, "if_changed", option_given(invocation, "if-changed"));
	code = add_anchors(&call);
	if (code) {
		call_drop(&call);
		return code;
	}
	code = call_run(&call, &point);
	if (code)
		return code;
	freeze_report(invocation, point);
	json_decref(point);
	return 0;
}
