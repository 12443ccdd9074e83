#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/call.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/failure.h"
#include "tools/output.h"

/* ---- freeze --------------------------------------------------------------------------- */

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

/* ---- restore -------------------------------------------------------------------------- */

static void print_option(const char *option, const char *value)
{
	char *word = value ? format_shell(value) : NULL;

	if (word)
		printf(" %s %s", option, word);
	free(word);
}

/* "cairn restore NAME", with the options that found the store this time. */
static void print_way_back(const struct invocation *invocation, const char *name)
{
	fputs("go back with: cairn", stdout);
	print_option("-s", invocation->store);
	print_option("-w", invocation->workspace);
	print_option("restore", name);
	putchar('\n');
}

static void print_changed(const json_t *result)
{
	const json_t *changed = json_object_get(result, "changed");

	printf("%lld added, %lld removed, %lld modified", (long long)get_number(changed, "added"),
	       (long long)get_number(changed, "removed"),
	       (long long)get_number(changed, "modified"));
}

static void restore_report(const struct invocation *invocation, const json_t *result)
{
	const json_t *safety = json_object_get(result, "safety_point");
	const char *name = get_text(safety, "name");
	char time[FORMAT_MAX];

	printf("restored %s: ", get_text(json_object_get(result, "point"), "name"));
	print_changed(result);
	printf(" in %s\n", format_duration(get_number(result, "elapsed_ns"), time));
	if (!name[0])
		return;
	if (json_is_true(json_object_get(result, "safety_made")))
		printf("the state until now is kept as the point %s\n", name);
	else
		printf("the state until now was that of the point %s\n", name);
	print_way_back(invocation, name);
}

static void restore_preview(const struct invocation *invocation, const json_t *result)
{
	const json_t *processes = json_object_get(result, "would_block"), *process;
	size_t i;

	printf("would restore %s: ", get_text(json_object_get(result, "point"), "name"));
	print_changed(result);
	putchar('\n');
	puts("the present state would be kept as a point first");
	if (json_array_size(processes) == 0)
		return;
	puts(option_given(invocation, "force")
		     ? "would go ahead although these have files open for writing:"
		     : "would refuse, because these have files open for writing:");
	json_array_foreach(processes, i, process) print_process(stdout, process);
}

int cmd_restore(struct invocation *invocation)
{
	struct call call;
	json_t *result;
	int code;

	call_begin(&call, invocation, "restore", CALL_WORKSPACE | CALL_PRESENT);
	call_text(&call, "point", invocation->arguments[0]);
	call_flag(&call, "force", option_given(invocation, "force"));
	call_flag(&call, "dry_run", invocation->dry_run);
	code = call_run(&call, &result);
	if (code)
		return code;
	if (invocation->json)
		output_json(result);
	else if (invocation->dry_run)
		restore_preview(invocation, result);
	else if (!invocation->quiet)
		restore_report(invocation, result);
	json_decref(result);
	return 0;
}

/* ---- show ----------------------------------------------------------------------------- */

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

/* ---- hold, release, rename, delete ---------------------------------------------------- */

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
