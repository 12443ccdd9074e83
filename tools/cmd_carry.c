#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "snapshot/carry.h"
#include "tools/call.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/failure.h"
#include "tools/output.h"
#include "tools/revising.h"

/* ---- entries -------------------------------------------------------------------------- */

static const char *conflict_sentence(const char *text)
{
#define SENTENCE(name, word, sentence)                                                             \
	if (strcmp(text, word) == 0)                                                               \
		return sentence;
	CARRY_CONFLICTS(SENTENCE)
#undef SENTENCE
	return text;
}

/* "C path  (changed on both sides; …)" */
static void print_conflict(FILE *stream, const json_t *entry, const char *path, const char *copy)
{
	const char *resolution = get_text(entry, "resolution");

	fprintf(stream, "C %s  (%s", path, conflict_sentence(get_text(entry, "conflict")));
	if (strcmp(resolution, "keep") == 0)
		fputs("; stays as it is here", stream);
	else if (strcmp(resolution, "take") == 0)
		fputs("; as it is there", stream);
	else if (copy[0])
		fprintf(stream, "; theirs is %s", copy);
	fputs(")\n", stream);
}

static void print_entry(FILE *stream, const json_t *entry)
{
	char *path = get_quoted_path(entry, "path"), *old_path = get_quoted_path(entry, "old_path"),
	     *copy = get_quoted_path(entry, "copy_path");

	if (path && old_path && copy) {
		if (get_text(entry, "conflict")[0])
			print_conflict(stream, entry, path, copy);
		else
			fprintf(stream, "%s %s%s%s\n", get_text(entry, "op"), old_path,
				old_path[0] ? " -> " : "", path);
	}
	free(copy);
	free(old_path);
	free(path);
}

static void print_entries(FILE *stream, const json_t *result, bool conflicts_only)
{
	const json_t *entry;
	size_t i;

	json_array_foreach(json_object_get(result, "entries"), i, entry)
	{
		if (!conflicts_only || get_text(entry, "conflict")[0])
			print_entry(stream, entry);
	}
}

/* ---- what was done -------------------------------------------------------------------- */

static void print_origin(const json_t *result)
{
	const char *base = get_text(json_object_get(result, "base"), "name");

	fputs(get_text(json_object_get(result, "from"), "name"), stdout);
	if (base[0])
		printf(" (since %s)", base);
}

static void print_conflict_count(const json_t *result)
{
	char text[FORMAT_MAX];
	int64_t count = get_number(result, "conflicts");

	if (count)
		printf(", %s", format_count((uint64_t)count, "conflict", text));
}

static bool nothing_came(const json_t *result)
{
	return !json_array_size(json_object_get(result, "entries"));
}

static void print_nothing(const json_t *result)
{
	const json_t *from = json_object_get(result, "from"),
		     *base = json_object_get(result, "base");

	fputs("nothing to carry over from ", stdout);
	print_origin(result);
	putchar('\n');
	if (get_number(from, "id") == get_number(base, "id"))
		puts("the workspace comes from that point, and what it changed since stays: "
		     "'cairn restore POINT PATH' brings single files back");
}

static void carry_report(const struct invocation *invocation, const json_t *result)
{
	char time[FORMAT_MAX];

	print_entries(stdout, result, false);
	if (nothing_came(result)) {
		print_nothing(result);
		return;
	}
	fputs("carried over from ", stdout);
	print_origin(result);
	fputs(": ", stdout);
	print_changed(result);
	print_conflict_count(result);
	printf(" in %s\n", format_duration(get_number(result, "elapsed_ns"), time));
	print_kept(invocation, result);
}

static void carry_preview(const struct invocation *invocation, const json_t *result)
{
	print_entries(stdout, result, false);
	if (nothing_came(result)) {
		print_nothing(result);
		return;
	}
	fputs("would carry over from ", stdout);
	print_origin(result);
	fputs(": ", stdout);
	print_changed(result);
	print_conflict_count(result);
	putchar('\n');
	if (json_is_true(json_object_get(result, "stopped")))
		puts("would stop at the conflicts and change nothing; --on-conflict decides "
		     "about them");
	else
		print_would_keep(result);
	print_would_block(invocation, result);
}

/* ---- the command ---------------------------------------------------------------------- */

/* Conflicts with what they are about, before what can be done. */
static int tell_failure(const struct invocation *invocation, const json_t *result)
{
	const json_t *detail = json_object_get(json_object_get(result, "error"), "detail");

	if (service_result_code(result) == SERVICE_CONFLICT && !invocation->json)
		print_entries(stderr, detail, true);
	return failure_result(invocation, result);
}

static int carry_request(struct invocation *invocation, struct call *call)
{
	const char *policy = option_value(invocation, "on-conflict");

	call_begin(call, invocation, "carry", CALL_WORKSPACE | CALL_PRESENT);
	call_text(call, "from", invocation->arguments[0]);
	call_text(call, "on_conflict", policy);
	call_flag(call, "force", option_given(invocation, "force"));
	call_flag(call, "dry_run", invocation->dry_run);
	int code = add_path_arguments(call, 1);
	if (code)
		call_drop(call);
	return code;
}

static bool is_policy(const char *text)
{
	return strcmp(text, "stop") == 0 || strcmp(text, "keep") == 0 ||
	       strcmp(text, "take") == 0 || strcmp(text, "both") == 0;
}

int cmd_carry(struct invocation *invocation)
{
	const char *policy = option_value(invocation, "on-conflict");
	struct call call;
	json_t *result;

	if (policy && !is_policy(policy))
		return usage_error(invocation,
				   "--on-conflict is stop, keep, take or both, not '%s'", policy);
	int code = carry_request(invocation, &call);
	if (code)
		return code;
	result = call_result(&call);
	const json_t *ok = json_object_get(result, "ok");
	if (!ok) {
		code = tell_failure(invocation, result);
	} else if (invocation->json) {
		output_json(ok);
	} else if (invocation->dry_run) {
		carry_preview(invocation, ok);
	} else if (!invocation->quiet) {
		carry_report(invocation, ok);
	}
	json_decref(result);
	return code;
}
