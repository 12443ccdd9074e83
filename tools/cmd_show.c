/* One point in full. */
#include <stdarg.h>
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

/* What is printed is one line, whatever is in it. */
__attribute__((format(printf, 2, 3))) static void print_line(const char *label, const char *format,
							     ...)
{
	va_list list;
	char *text;
	int length;

	va_start(list, format);
	length = vasprintf(&text, format, list);
	va_end(list);
	if (length < 0)
		return;
	print_field(label, text);
	free(text);
}

static void print_time(const char *label, const char *text)
{
	char local[FORMAT_MAX], age[FORMAT_MAX];
	int64_t seconds;

	if (format_parse_time(text, &seconds))
		printf("%-10s %s (%s)\n", label, format_time(seconds, local),
		       format_age(seconds, (int64_t)time(NULL), age));
}

/* Local time of an RFC 3339 text; "" where there is none. */
static const char *local_time(const json_t *object, const char *key, char buffer[FORMAT_MAX])
{
	int64_t seconds;

	if (!format_parse_time(json_string_value(json_object_get(object, key)), &seconds))
		return "";
	return format_time(seconds, buffer);
}

/* ---- what people said of it ----------------------------------------------------------- */

static void print_verdict(const json_t *point)
{
	const char *reason = get_text(point, "verdict_reason");
	char when[FORMAT_MAX];

	if (!local_time(point, "verdict_time", when)[0])
		print_field("verdict", get_text(point, "verdict"));
	else
		print_line("verdict", "%s (by %s, %s)%s%s", get_text(point, "verdict"),
			   get_text(point, "verdict_by"), local_time(point, "verdict_time", when),
			   reason[0] ? ": " : "", reason);
}

static void print_holds(const json_t *holds)
{
	char since[FORMAT_MAX], until[FORMAT_MAX];
	const json_t *hold;
	int64_t seconds;
	size_t i;

	json_array_foreach(holds, i, hold)
	{
		const char *end = local_time(hold, "until", until), *expired = "";

		if (format_parse_time(get_text(hold, "until"), &seconds) && seconds <= time(NULL))
			expired = ": expired";
		print_line("hold", "%lld: %s (by %s, since %s%s%s%s)",
			   (long long)get_number(hold, "id"), get_text(hold, "reason"),
			   get_text(hold, "by"), local_time(hold, "since", since),
			   end[0] ? ", until " : "", end, expired);
	}
}

static void print_texts(const char *label, const json_t *texts)
{
	char *joined = join_texts(texts, ", ");

	print_field(label, joined ? joined : "");
	free(joined);
}

static void print_anchors(const json_t *point)
{
	const json_t *asked = json_object_get(point, "anchor_commands");
	const char *name;
	json_t *value;

	json_object_foreach(json_object_get(point, "anchors"), name, value)
	{
		const char *command = json_string_value(json_object_get(asked, name));

		print_line("anchor", "%s = %s", name, json_string_value(value));
		if (command)
			print_line("", "  told by: %s", command);
	}
}

/* ---- the rehearsal that it was made by ------------------------------------------------ */

static void print_outcome(const char *label, const char *what, const json_t *object)
{
	long long status = (long long)get_number(object, "exit_status");
	char elapsed[FORMAT_MAX];

	format_duration(get_number(object, "elapsed_ns"), elapsed);
	if (status)
		print_line(label, "%s: %s, exit code %lld", what, elapsed, status);
	else
		print_line(label, "%s: %s", what, elapsed);
}

static void print_run(const json_t *point)
{
	const json_t *run = json_object_get(point, "run"), *step;
	size_t i;

	if (json_is_object(run))
		print_outcome("run", get_text(run, "command"), run);
	json_array_foreach(json_object_get(point, "steps"), i, step)
		print_outcome("step", get_text(step, "name"), step);
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

static void print_space(const json_t *point)
{
	char alone[FORMAT_MAX], shared[FORMAT_MAX];

	if (json_is_null(json_object_get(point, "exclusive_bytes")))
		return;
	print_line("space", "%s alone (deleting it frees that), %s shared with others",
		   format_size((uint64_t)get_number(point, "exclusive_bytes"), alone),
		   format_size((uint64_t)get_number(point, "shared_bytes"), shared));
}

static void print_contents(const json_t *point)
{
	char files[FORMAT_MAX], size[FORMAT_MAX], changed[FORMAT_MAX];

	printf("%-10s %s in %lld director%s, %s (%s changed)\n", "contents",
	       format_count((uint64_t)get_number(point, "files"), "file", files),
	       (long long)get_number(point, "directories"),
	       get_number(point, "directories") == 1 ? "y" : "ies",
	       format_size((uint64_t)get_number(point, "bytes"), size),
	       format_size((uint64_t)get_number(point, "changed_bytes"), changed));
	print_space(point);
	if (get_text(point, "digest")[0])
		print_line("digest", "sha256 %s", get_text(point, "digest"));
}

static void print_point(const json_t *point)
{
	print_field("point", get_text(point, "name"));
	printf("%-10s %lld\n", "id", (long long)get_number(point, "id"));
	print_field("workspace", get_text(point, "workspace"));
	print_time("created", get_text(point, "created"));
	print_field("by", get_text(point, "by"));
	if (strcmp(get_text(point, "origin"), "safety") == 0)
		print_field("origin", "kept by restore or carry");
	print_field("parent", get_text(point, "parent"));
	print_texts("carried", json_object_get(point, "carried"));
	print_verdict(point);
	print_contents(point);
	print_texts("tags", json_object_get(point, "tags"));
	print_anchors(point);
	print_holds(json_object_get(point, "holds"));
	print_run(point);
	if (json_is_true(json_object_get(point, "current")))
		print_field("current", "the workspace is based on this point");
	print_message(get_text(point, "message"));
}

int cmd_show(struct invocation *invocation)
{
	struct call call;
	json_t *point;
	int code;

	if (option_given(invocation, "digest"))
		return show_digest(invocation);
	call_begin_point(&call, invocation, "show", CALL_READ_ONLY);
	call_flag(&call, "sizes", true);
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
