/* Who did what to the points and workspaces of the store. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/service.h"
#include "tools/call.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/failure.h"
#include "tools/output.h"

/* ---- the entries ---------------------------------------------------------------------- */

/* "name value, name value": what else an entry tells; malloc'ed, NULL without memory. */
static char *join_details(const json_t *row)
{
	char *text = NULL;
	size_t size = 0, i;
	FILE *stream = open_memstream(&text, &size);
	const char *name, *separator = "";
	json_t *value, *item;

	if (!stream)
		return NULL;
	json_object_foreach(json_object_get(row, "details"), name, value)
	{
		if (json_is_string(value)) {
			fprintf(stream, "%s%s %s", separator, name, json_string_value(value));
			separator = ", ";
		}
		json_array_foreach(value, i, item)
		{
			fprintf(stream, "%s%s %s", separator, name, json_string_value(item));
			separator = ", ";
		}
	}
	if (fclose(stream)) {
		free(text);
		return NULL;
	}
	return text;
}

/* Exactly, however long ago: "just now" is no record. */
static char *cell_time(const json_t *row)
{
	char buffer[FORMAT_MAX] = "";
	int64_t seconds;

	if (format_parse_time(get_text(row, "time"), &seconds))
		format_time(seconds, buffer);
	return strdup(buffer);
}

static char *cell_who(const json_t *row)
{
	char *text, *escaped;

	if (asprintf(&text, "%s@%s", get_text(row, "by"), get_text(row, "host")) < 0)
		return NULL;
	escaped = format_escape(text);
	free(text);
	return escaped;
}

/* The reason, and what else there is. */
static char *cell_reason(const json_t *row)
{
	const char *reason = get_text(row, "reason");
	char *details = join_details(row), *text = NULL, *escaped;
	int length = -1;

	if (details)
		length = asprintf(&text, "%.*s%s%s%s%s", (int)strcspn(reason, "\n"), reason,
				  reason[0] && details[0] ? " " : "", details[0] ? "(" : "",
				  details, details[0] ? ")" : "");
	free(details);
	if (length < 0)
		return NULL;
	escaped = format_escape(text);
	free(text);
	return escaped;
}

static const struct column columns[] = {
	{"number", "NUMBER", COLUMN_NUMBER, 0, NULL},
	{"time", "TIME", COLUMN_AGE, 0, cell_time},
	{"by", "WHO", COLUMN_TEXT, 0, cell_who},
	{"host", "HOST", COLUMN_TEXT, COLUMN_RAW_ONLY, NULL},
	{"action", "ACTION", COLUMN_TEXT, 0, NULL},
	{"workspace", "WORKSPACE", COLUMN_TEXT, 0, NULL},
	{"point", "POINT", COLUMN_TEXT, 0, NULL},
	{"reason", "REASON", COLUMN_TEXT, COLUMN_SHRINKS, cell_reason},
	{"details", "DETAILS", COLUMN_TEXT, COLUMN_RAW_ONLY, NULL},
	{"hash", "HASH", COLUMN_TEXT, COLUMN_RAW_ONLY, NULL},
	{NULL, NULL, COLUMN_TEXT, 0, NULL},
};

/* For -H, where a value is text. */
static int flatten_details(json_t *rows)
{
	json_t *row;
	size_t i;

	json_array_foreach(rows, i, row)
	{
		char *details = join_details(row);
		int error =
			details ? json_object_set_new(row, "details", json_string(details)) : -1;

		free(details);
		if (error)
			return error;
	}
	return 0;
}

static int parse_after(struct invocation *invocation, struct call *call)
{
	const char *text = option_value(invocation, "after");
	long long number;
	char *end;

	if (!text)
		return 0;
	errno = 0;
	number = strtoll(text, &end, 10);
	if (errno || end == text || *end || number < 0)
		return usage_error(invocation, "--after is the number of an entry, not '%s'", text);
	call_set(call, "after", json_integer(number));
	return 0;
}

/* All of the store, unless a workspace was asked for: that somebody stands in one says nothing. */
static int list_entries(struct invocation *invocation)
{
	bool of_point = invocation->argument_count > 0;
	struct call call;
	json_t *rows;
	int code;

	call_begin(&call, invocation, "journal", CALL_READ_ONLY | (of_point ? CALL_WORKSPACE : 0));
	if (of_point)
		call_text(&call, "point", invocation->arguments[0]);
	else
		call_text(&call, "workspace", invocation->workspace);
	call_text(&call, "action", option_value(invocation, "action"));
	code = parse_after(invocation, &call);
	if (code) {
		call_drop(&call);
		return code;
	}
	code = call_run(&call, &rows);
	if (code)
		return code;
	if (json_array_size(rows) == 0 && !invocation->json && !invocation->raw)
		talk(invocation, "no entries");
	if (invocation->raw && flatten_details(rows))
		code = failure_memory(invocation);
	else
		code = output_rows(invocation, columns, rows);
	json_decref(rows);
	return code;
}

/* ---- verifying ------------------------------------------------------------------------ */

static void report_verified(const struct invocation *invocation, const json_t *result)
{
	long long entries = (long long)get_number(result, "entries");
	const char *hash = get_text(result, "hash");
	char count[FORMAT_MAX];

	if (entries == 0) {
		if (!invocation->quiet)
			puts("the journal is empty, and there are no points");
	} else if (invocation->quiet) {
		printf("%lld:%s\n", entries, hash);
	} else {
		printf("the journal holds together: %s%s\n",
		       entries == 1 ? "1 entry" : format_count((uint64_t)entries, "entrie", count),
		       option_given(invocation, "expect") ? ", with the one that was noted" : "");
		printf("last entry: %lld:%s\n", entries, hash);
		puts("noted where nobody can change it, it proves later by --expect that nothing "
		     "up to here\nwas changed, removed or written anew");
	}
}

static int verify(struct invocation *invocation)
{
	struct call call;
	json_t *answer;
	int code;

	if (invocation->argument_count || option_given(invocation, "action") ||
	    option_given(invocation, "after"))
		return usage_error(invocation, "--verify is about all entries: it takes no POINT, "
					       "--action or --after");
	call_begin(&call, invocation, "journal_verify", CALL_READ_ONLY);
	call_text(&call, "expect", option_value(invocation, "expect"));
	if (call.place_failed) {
		call_drop(&call);
		return SERVICE_FAILED;
	}
	answer = call_result(&call);
	code = service_result_code(answer);
	if (code)
		code = failure_findings(invocation, answer);
	else if (invocation->json)
		output_json(json_object_get(answer, "ok"));
	else
		report_verified(invocation, json_object_get(answer, "ok"));
	json_decref(answer);
	return code;
}

int cmd_journal(struct invocation *invocation)
{
	if (option_given(invocation, "verify") || option_given(invocation, "expect"))
		return verify(invocation);
	return list_entries(invocation);
}
