#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/call.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/output.h"

static void print_field(const char *label, const char *value)
{
	char *escaped = format_escape(value);

	if (value[0])
		printf("%-10s %s\n", label, escaped ? escaped : "");
	free(escaped);
}

static void print_time(const char *label, const char *text)
{
	char local[FORMAT_MAX], age[FORMAT_MAX];
	int64_t seconds;

	if (format_parse_time(text, &seconds))
		printf("%-10s %s (%s)\n", label, format_time(seconds, local),
		       format_age(seconds, (int64_t)time(NULL), age));
}

static void print_holds(const json_t *holds)
{
	char local[FORMAT_MAX];
	const json_t *hold;
	int64_t seconds;
	size_t i;

	json_array_foreach(holds, i, hold)
	{
		char *reason = format_escape(get_text(hold, "reason"));

		printf("%-10s %lld: %s (by %s", "hold", (long long)get_number(hold, "id"),
		       reason ? reason : "", get_text(hold, "by"));
		free(reason);
		if (format_parse_time(json_string_value(json_object_get(hold, "until")), &seconds))
			printf(", until %s", format_time(seconds, local));
		puts(")");
	}
}

static void print_lists(const json_t *point)
{
	char *tags = join_texts(json_object_get(point, "tags"), ", ");
	const char *key;
	json_t *value;

	print_field("tags", tags ? tags : "");
	free(tags);
	json_object_foreach(json_object_get(point, "anchors"), key, value)
	{
		char *pair;

		if (asprintf(&pair, "%s = %s", key,
			     json_is_string(value) ? json_string_value(value) : "") < 0)
			continue;
		print_field("anchor", pair);
		free(pair);
	}
	print_holds(json_object_get(point, "holds"));
}

/* Messages may have several lines; each is indented and escaped. */
static void print_message(const char *message)
{
	if (message[0])
		putchar('\n');
	while (message[0]) {
		size_t length = strcspn(message, "\n");
		char *line = strndup(message, length);
		char *escaped = line ? format_escape(line) : NULL;

		printf("    %s\n", escaped ? escaped : "");
		free(escaped);
		free(line);
		message += length + (message[length] == '\n');
	}
}

static void print_point(const json_t *point)
{
	char files[FORMAT_MAX], size[FORMAT_MAX], changed[FORMAT_MAX];
	bool safety = strcmp(get_text(point, "origin"), "safety") == 0;

	print_field("point", get_text(point, "name"));
	printf("%-10s %lld\n", "id", (long long)get_number(point, "id"));
	print_field("workspace", get_text(point, "workspace"));
	print_time("created", get_text(point, "created"));
	print_field("by", get_text(point, "by"));
	if (safety)
		print_field("origin", "kept by restore");
	print_field("parent", get_text(point, "parent"));
	print_field("verdict", get_text(point, "verdict"));
	printf("%-10s %s in %lld director%s, %s (%s changed)\n", "contents",
	       format_count((uint64_t)get_number(point, "files"), "file", files),
	       (long long)get_number(point, "directories"),
	       get_number(point, "directories") == 1 ? "y" : "ies",
	       format_size((uint64_t)get_number(point, "bytes"), size),
	       format_size((uint64_t)get_number(point, "changed_bytes"), changed));
	print_lists(point);
	if (json_is_true(json_object_get(point, "current")))
		print_field("current", "the workspace is based on this point");
	print_message(get_text(point, "message"));
}

int cmd_show(struct invocation *invocation)
{
	struct call call;
	json_t *point;
	int code;

	call_begin(&call, invocation, "show", CALL_WORKSPACE | CALL_READ_ONLY);
	call_text(&call, "point", invocation->arguments[0]);
	code = call_run(&call, &point);
	if (code)
		return code;
	if (invocation->json)
		output_json(point);
	else if (invocation->raw)
		code = output_properties(invocation, point);
	else
		print_point(point);
	json_decref(point);
	return code;
}
