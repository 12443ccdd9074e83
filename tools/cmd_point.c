/* What people say of a point: holds, verdicts, tags, its name; and the end of it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/call.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/failure.h"
#include "tools/output.h"

static void print_word(const char *text)
{
	char *word = format_shell(text);

	fputs(word ? word : text, stdout);
	free(word);
}

/* ---- hold, release -------------------------------------------------------------------- */

static const json_t *find_hold(const json_t *point, int64_t id)
{
	const json_t *hold;
	size_t i;

	json_array_foreach(json_object_get(point, "holds"), i, hold)
	{
		if (get_number(hold, "id") == id)
			return hold;
	}
	return NULL;
}

static void report_hold(const struct invocation *invocation, const json_t *point)
{
	int64_t id = get_number(point, "hold"), seconds;
	const json_t *until = json_object_get(find_hold(point, id), "until");
	char time[FORMAT_MAX];

	printf("held %s", get_text(point, "name"));
	if (format_parse_time(json_string_value(until), &seconds))
		printf(" until %s", format_time(seconds, time));
	printf(" (hold %lld; to lift it: cairn release ", (long long)id);
	print_word(invocation->arguments[0]);
	printf(" %lld)\n", (long long)id);
}

int cmd_hold(struct invocation *invocation)
{
	struct call call;

	call_begin_point(&call, invocation, "hold", 0);
	call_text(&call, "reason", invocation->arguments[1]);
	call_text(&call, "until", option_value(invocation, "until"));
	return call_report(&call, report_hold);
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

static void report_release(const struct invocation *invocation, const json_t *point)
{
	size_t left = json_array_size(json_object_get(point, "holds"));
	char count[FORMAT_MAX];

	(void)invocation;
	if (left == 0)
		printf("released %s; no hold is left\n", get_text(point, "name"));
	else
		printf("released %s; %s %s left\n", get_text(point, "name"),
		       format_count(left, "hold", count), left == 1 ? "is" : "are");
}

int cmd_release(struct invocation *invocation)
{
	bool one = invocation->argument_count > 1;
	struct call call;
	json_int_t hold = 0;

	if (one && parse_hold(invocation, invocation->arguments[1], &hold))
		return SERVICE_USAGE;
	call_begin_point(&call, invocation, "release", 0);
	if (one)
		call_set(&call, "hold", json_integer(hold));
	return call_report(&call, report_release);
}

/* ---- verdict, tag --------------------------------------------------------------------- */

static void report_verdict(const struct invocation *invocation, const json_t *point)
{
	(void)invocation;
	printf("%s is %s\n", get_text(point, "name"), get_text(point, "verdict"));
}

int cmd_verdict(struct invocation *invocation)
{
	struct call call;

	call_begin_point(&call, invocation, "verdict", 0);
	call_text(&call, "verdict", invocation->arguments[1]);
	call_text(&call, "reason", option_value(invocation, "message"));
	call_text(&call, "by", option_value(invocation, "by"));
	return call_report(&call, report_verdict);
}

static void report_tags(const struct invocation *invocation, const json_t *point)
{
	char *tags = join_texts(json_object_get(point, "tags"), ", ");
	char *line = tags ? format_escape(tags) : NULL;

	(void)invocation;
	if (line && line[0])
		printf("tags of %s: %s\n", get_text(point, "name"), line);
	else
		printf("%s has no tags\n", get_text(point, "name"));
	free(line);
	free(tags);
}

int cmd_tag(struct invocation *invocation)
{
	struct call call;
	const char *text;

	if (invocation->argument_count < 2 && !option_given(invocation, "remove"))
		return usage_error(invocation, "there is no TAG to add, and none to remove");
	call_begin_point(&call, invocation, "tag", 0);
	for (int i = 1; i < invocation->argument_count; i++)
		call_append(&call, "add", invocation->arguments[i]);
	for (size_t i = 0; (text = option_next(invocation, "remove", &i));)
		call_append(&call, "remove", text);
	return call_report(&call, report_tags);
}

/* ---- rename, delete ------------------------------------------------------------------- */

static void report_rename(const struct invocation *invocation, const json_t *point)
{
	printf("renamed %s to %s\n", invocation->arguments[0], get_text(point, "name"));
}

int cmd_rename(struct invocation *invocation)
{
	struct call call;

	call_begin_point(&call, invocation, "rename", 0);
	call_text(&call, "new_name", invocation->arguments[1]);
	return call_report(&call, report_rename);
}

static void report_delete(const struct invocation *invocation, const json_t *points)
{
	const json_t *point;
	size_t i;

	json_array_foreach(points, i, point)
		printf("%s %s\n", invocation->dry_run ? "would delete" : "deleted",
		       get_text(point, "name"));
}

int cmd_delete(struct invocation *invocation)
{
	struct call call;

	call_begin(&call, invocation, "delete", CALL_WORKSPACE);
	for (int k = 0; k < invocation->argument_count; k++)
		call_append(&call, "points", invocation->arguments[k]);
	call_flag(&call, "dry_run", invocation->dry_run);
	return call_report(&call, report_delete);
}
