/* cairn prune: retention by rules. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/call.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/failure.h"
#include "tools/output.h"

/* ---- the request ---------------------------------------------------------------------- */

static const struct {
	const char *option, *key;
} counts[] = {
	{"keep-last", "keep_last"},	  {"keep-hourly", "keep_hourly"},
	{"keep-daily", "keep_daily"},	  {"keep-weekly", "keep_weekly"},
	{"keep-monthly", "keep_monthly"}, {"keep-yearly", "keep_yearly"},
};

/* "unlimited" is -1. */
static bool parse_count(const char *text, long *ret)
{
	char *end;

	if (strcmp(text, "unlimited") == 0) {
		*ret = -1;
		return true;
	}
	if (text[0] < '0' || text[0] > '9')
		return false;
	*ret = strtol(text, &end, 10);
	return !*end && *ret <= 1000000;
}

static int set_counts(const struct invocation *invocation, struct call *call)
{
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		const char *text = option_value(invocation, counts[i].option);
		long number;

		if (!text)
			continue;
		if (!parse_count(text, &number))
			return usage_error(invocation,
					   "--%s is a number up to 1000000 or 'unlimited', not "
					   "'%s'",
					   counts[i].option, text);
		call_set(call, counts[i].key, json_integer(number));
	}
	return 0;
}

static void append_all(const struct invocation *invocation, struct call *call, const char *option,
		       const char *key)
{
	size_t position = 0;
	const char *value;

	while ((value = option_next(invocation, option, &position)))
		call_append(call, key, value);
}

/* ---- what is printed ------------------------------------------------------------------ */

static void print_hold_reasons(FILE *text, const json_t *row)
{
	const json_t *hold;
	size_t i;

	json_array_foreach(json_object_get(row, "holds"), i, hold)
	{
		fprintf(text, "%s%s, by %s", i ? "; " : " (", get_text(hold, "reason"),
			get_text(hold, "by"));
		if (get_text(hold, "until")[0])
			fprintf(text, ", until %.10s", get_text(hold, "until"));
	}
	if (i)
		fputc(')', text);
}

/* What protects without a rule says so in words. */
static void print_reason(FILE *text, const json_t *row, const char *reason)
{
	if (strcmp(reason, "working") == 0)
		fputs("verdict working", text);
	else if (strcmp(reason, "first") == 0)
		fputs("first point", text);
	else if (strcmp(reason, "current") == 0)
		fputs("a workspace is based on it", text);
	else
		fputs(reason, text);
	if (strcmp(reason, "held") == 0)
		print_hold_reasons(text, row);
}

static char *text_reasons(const json_t *row)
{
	const json_t *reason;
	char *result = NULL;
	size_t i, length;
	FILE *text = open_memstream(&result, &length);

	if (!text)
		return NULL;
	json_array_foreach(json_object_get(row, "reasons"), i, reason)
	{
		fputs(i ? ", " : "", text);
		print_reason(text, row, json_string_value(reason));
	}
	fclose(text);
	return result;
}

static const struct column columns[] = {
	{"action", "ACTION", COLUMN_TEXT, COLUMN_RAW_ONLY, NULL},
	{"workspace", "WORKSPACE", COLUMN_TEXT, 0, NULL},
	{"point", "POINT", COLUMN_TEXT, 0, NULL},
	{"id", "ID", COLUMN_NUMBER, COLUMN_RAW_ONLY, NULL},
	{"created", "CREATED", COLUMN_AGE, 0, NULL},
	{"reasons", "REASONS", COLUMN_LIST, 0, text_reasons},
	{NULL, NULL, COLUMN_TEXT, 0, NULL},
};

static const struct column removed_columns[] = {
	{"workspace", "WORKSPACE", COLUMN_TEXT, 0, NULL},
	{"point", "POINT", COLUMN_TEXT, 0, NULL},
	{"created", "CREATED", COLUMN_AGE, 0, NULL},
	{NULL, NULL, COLUMN_TEXT, 0, NULL},
};

static int add_rows(json_t *rows, const json_t *points, const char *action)
{
	json_t *point;
	size_t i;

	json_array_foreach(points, i, point)
	{
		if (json_object_set_new(point, "action", json_string(action)) ||
		    json_array_append(rows, point))
			return -1;
	}
	return 0;
}

static int print_raw(const struct invocation *invocation, const json_t *result)
{
	json_t *rows = json_array();
	int code;

	if (!rows || add_rows(rows, json_object_get(result, "kept"), "keep") ||
	    add_rows(rows, json_object_get(result, "removed"), "remove"))
		code = failure_memory(invocation);
	else
		code = output_rows(invocation, columns, rows);
	json_decref(rows);
	return code;
}

static void print_freed(const struct invocation *invocation, const json_t *result, bool collected)
{
	char stored[FORMAT_MAX], chunks[FORMAT_MAX], nodes[FORMAT_MAX], time[FORMAT_MAX];
	const json_t *freed = json_object_get(result, "freed");

	format_size((uint64_t)get_number(freed, "stored_bytes"), stored);
	format_count((uint64_t)get_number(freed, "chunks"), "chunk", chunks);
	format_count((uint64_t)get_number(freed, "nodes"), "node", nodes);
	if (invocation->dry_run)
		printf("would free %s: %s and %s%s\n", stored, chunks, nodes,
		       collected ? "" : ", once 'cairn gc' has run");
	else if (collected)
		printf("gave back %s: %s and %s, in %s\n", stored, chunks, nodes,
		       format_duration(get_number(result, "elapsed_ns"), time));
	else
		puts("'cairn gc' gives the space back");
}

static int print_tables(const struct invocation *invocation, const json_t *result)
{
	const json_t *kept = json_object_get(result, "kept");
	const json_t *removed = json_object_get(result, "removed");
	char count[FORMAT_MAX];
	int code = 0;

	printf("rules: %s\n\n", get_text(result, "rules"));
	printf("keep %s\n", format_count(json_array_size(kept), "point", count));
	if (json_array_size(kept))
		code = output_rows(invocation, columns, kept);
	printf("\n%s %s\n", invocation->dry_run ? "would remove" : "removed",
	       format_count(json_array_size(removed), "point", count));
	if (!code && json_array_size(removed))
		code = output_rows(invocation, removed_columns, removed);
	putchar('\n');
	return code;
}

int cmd_prune(struct invocation *invocation)
{
	bool collect = !option_given(invocation, "no-gc");
	struct call call;
	json_t *result;
	int code;

	if (option_given(invocation, "all-workspaces") && invocation->workspace)
		return usage_error(invocation,
				   "--all-workspaces and --workspace exclude each other");
	call_begin(&call, invocation, "prune",
		   option_given(invocation, "all-workspaces") ? 0 : CALL_WORKSPACE);
	code = set_counts(invocation, &call);
	if (code) {
		call_drop(&call);
		return code;
	}
	call_text(&call, "keep_within", option_value(invocation, "keep-within"));
	append_all(invocation, &call, "keep-tag", "keep_tags");
	append_all(invocation, &call, "tag", "filter_tags");
	call_flag(&call, "all_workspaces", option_given(invocation, "all-workspaces"));
	call_flag(&call, "dry_run", invocation->dry_run);
	call_flag(&call, "no_gc", !collect);
	code = call_run(&call, &result);
	if (code)
		return code;
	if (invocation->json) {
		output_json(result);
	} else if (invocation->raw) {
		code = print_raw(invocation, result);
	} else if (!invocation->quiet || invocation->dry_run) {
		code = print_tables(invocation, result);
		print_freed(invocation, result, collect);
	}
	json_decref(result);
	return code;
}
