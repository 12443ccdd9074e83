/*
 * try: a dress rehearsal in a throw-away clone.
 *
 *   clone, mount -> CMD -> steps and diff -> (keep: freeze) -> unmount -> delete, or keep
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/service.h"
#include "tools/call.h"
#include "tools/changes.h"
#include "tools/child.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/failure.h"
#include "tools/output.h"
#include "tools/place.h"
#include "tools/rehearse.h"
#include "tools/steps.h"

enum { CHANGES_SHOWN = 20 };

static const char head_start[] = "before-try", end_name[] = "after-try";

struct attempt {
	struct invocation *invocation;
	struct rehearsal rehearsal;
	const char *spec;	/* as given; @head: the present state */
	const char *start;	/* the point in the clone that the changes are told from */
	json_t *source;		/* owned; the point, NULL: the present state */
	char *command;		/* owned; CMD in one line, as a shell takes it */
	char *const *arguments; /* CMD */
	struct child_result run;
	json_t *steps, *entries; /* owned; entries NULL: could not be found out */
	json_t *after;		 /* owned; the point made at the end, of --keep */
	char *kept;		 /* owned; the workspace */
};

static void attempt_release(struct attempt *attempt)
{
	rehearsal_drop(&attempt->rehearsal);
	json_decref(attempt->source);
	json_decref(attempt->steps);
	json_decref(attempt->entries);
	json_decref(attempt->after);
	free(attempt->command);
	free(attempt->kept);
}

/* ---- before --------------------------------------------------------------------------- */

static int take_arguments(struct attempt *attempt)
{
	struct invocation *invocation = attempt->invocation;
	int points = invocation->argument_count - invocation->after_dashes;

	if (invocation->after_dashes == 0)
		return usage_error(invocation, "the command is missing: try [POINT] -- CMD...");
	if (points > 1)
		return usage_error(invocation, "one argument too many before '--': '%s'",
				   invocation->arguments[1]);
	attempt->spec = points ? invocation->arguments[0] : "@head";
	attempt->arguments = invocation->arguments + points;
	attempt->command = format_command((const char *const *)attempt->arguments);
	return attempt->command ? 0 : failure_memory(invocation);
}

/* Told before the command has run for an hour: what cannot be kept under that name, and that there
 * is no such point. */
static int look_around(struct attempt *attempt)
{
	struct invocation *invocation = attempt->invocation;
	const char *name = option_value(invocation, "keep");
	json_t *workspaces, *workspace;
	struct call call;
	size_t i;
	int code;

	call_begin(&call, invocation, "workspace_list", CALL_READ_ONLY);
	code = call_run(&call, &workspaces);
	if (code)
		return code;
	json_array_foreach(workspaces, i,
			   workspace) if (name && strcmp(get_text(workspace, "name"), name) == 0)
		code = failure(invocation, SERVICE_FAILED,
			       "workspace '%s' exists already; choose another name", name);
	json_decref(workspaces);
	attempt->start = head_start;
	if (code || source_is_head(attempt->spec))
		return code;
	call_begin(&call, invocation, "show", CALL_WORKSPACE | CALL_READ_ONLY);
	call_text(&call, "point", attempt->spec);
	code = call_run(&call, &attempt->source);
	if (!code)
		attempt->start = get_text(attempt->source, "name");
	return code;
}

/* ---- CMD ------------------------------------------------------------------------------ */

static int run_command(struct attempt *attempt)
{
	const struct rehearsal *rehearsal = &attempt->rehearsal;
	const struct child_variable environment[] = {
		{"CAIRN_POINT", attempt->start},
		{"CAIRN_WORKSPACE", rehearsal->workspace},
		{"CAIRN_STORE", attempt->invocation->place->store},
		{"CAIRN_MOUNTPOINT", rehearsal->mountpoint},
		{STEPS_VARIABLE, rehearsal->steps},
	};
	const struct child child = {
		.arguments = attempt->arguments,
		.directory = rehearsal->mountpoint,
		.environment = environment,
		.variable_count = sizeof(environment) / sizeof(environment[0]),
		.stdout_to_stderr = attempt->invocation->json,
	};
	int error = child_run(&child, &attempt->run);

	if (error == -EINTR)
		return 128 + signals_caught();
	if (error)
		return failure(attempt->invocation, SERVICE_FAILED, "cannot run %s in %s: %s",
			       attempt->command, rehearsal->mountpoint, strerror(-error));
	return 0;
}

/* ---- after ---------------------------------------------------------------------------- */

static void look_at_changes(struct attempt *attempt)
{
	struct call call;
	json_t *result;

	call_begin(&call, attempt->invocation, "diff", CALL_PRESENT);
	call_text(&call, "workspace", attempt->rehearsal.workspace);
	call_text(&call, "a", attempt->start);
	result = call_result(&call);
	if (service_result_code(result) == SERVICE_OK)
		attempt->entries = json_incref(json_object_get(result, "ok"));
	else
		warning("cannot tell what changed: %s",
			get_text(json_object_get(result, "error"), "message"));
	json_decref(result);
}

static json_t *run_json(const struct attempt *attempt)
{
	const struct child_result *run = &attempt->run;

	return json_pack("{s:s, s:i, s:I}", "command", attempt->command, "exit_status", run->status,
			 "elapsed_ns", (json_int_t)(run->ended_ns - run->started_ns));
}

static int freeze_end(struct attempt *attempt)
{
	struct call call;

	call_begin(&call, attempt->invocation, "freeze", CALL_PRESENT);
	call_text(&call, "workspace", attempt->rehearsal.workspace);
	call_text(&call, "name", end_name);
	call_set(&call, "run", run_json(attempt));
	call_set(&call, "steps", json_incref(attempt->steps));
	return call_run(&call, &attempt->after);
}

/* The clone gets its own name when it is no longer mounted. */
static int rename_kept(struct attempt *attempt)
{
	struct invocation *invocation = attempt->invocation;
	const char *name = option_value(invocation, "keep");
	struct call call;
	json_t *ok;
	int code;

	if (!name[0])
		return 0;
	call_begin(&call, invocation, "workspace_rename", 0);
	call_text(&call, "name", attempt->kept);
	call_text(&call, "new_name", name);
	code = call_run(&call, &ok);
	if (code) {
		warning("the clone is kept as the workspace %s", attempt->kept);
		return code;
	}
	json_decref(ok);
	free(attempt->kept);
	attempt->kept = strdup(name);
	return attempt->kept ? 0 : failure_memory(invocation);
}

/* Whatever fails here, the clone stays where it was asked for. */
static int finish(struct attempt *attempt)
{
	int code = 0;

	attempt->steps = steps_read(attempt->rehearsal.steps, &attempt->run);
	if (!attempt->steps)
		return failure_memory(attempt->invocation);
	look_at_changes(attempt);
	if (!option_given(attempt->invocation, "keep")) {
		rehearsal_drop(&attempt->rehearsal);
		return 0;
	}
	code = freeze_end(attempt);
	rehearsal_keep(&attempt->rehearsal, &attempt->kept);
	if (code) {
		warning("the clone is kept as the workspace %s", attempt->kept);
		return code;
	}
	return rename_kept(attempt);
}

/* ---- telling -------------------------------------------------------------------------- */

static void tell_run(const struct attempt *attempt)
{
	const struct child_result *run = &attempt->run;
	const json_t *step;
	char time[FORMAT_MAX];
	size_t i;

	if (run->signal)
		fprintf(stderr, "signal %d (%s)", run->signal, strsignal(run->signal));
	else
		fprintf(stderr, "exit status %d", run->status);
	fprintf(stderr, " after %s\n",
		format_duration((int64_t)(run->ended_ns - run->started_ns), time));
	json_array_foreach(attempt->steps, i, step)
	{
		char *name = format_escape(get_text(step, "name"));

		fprintf(stderr, "  %-30s %10s\n", name ? name : "",
			format_duration(get_number(step, "elapsed_ns"), time));
		free(name);
	}
}

static void tell_changes(const struct attempt *attempt)
{
	size_t count = json_array_size(attempt->entries);
	struct changes changes;

	if (!attempt->entries)
		return;
	if (count == 0) {
		fputs("it changed nothing\n", stderr);
		return;
	}
	changes_count(attempt->entries, &changes);
	fputs("it changed: ", stderr);
	changes_print_counts(stderr, &changes);
	(void)changes_print(stderr, attempt->entries, CHANGES_SHOWN);
	if (count > CHANGES_SHOWN)
		fprintf(stderr, "and %zu more\n", count - CHANGES_SHOWN);
}

static void tell_command(const struct attempt *attempt, const char *what, const char *workspace,
			 const char *const *words)
{
	char *line = format_cairn(attempt->invocation->store, workspace, words);

	if (line)
		fprintf(stderr, "  %-18s %s\n", what, line);
	free(line);
}

static void tell_kept(const struct attempt *attempt)
{
	const char *kept = attempt->kept;

	if (!kept) {
		fputs("the clone is dropped (--keep keeps it); 'cairn gc' gives its space back\n",
		      stderr);
		return;
	}
	fprintf(stderr, "kept as the workspace %s, point %s\n", kept, end_name);
	tell_command(attempt, "all that changed:", kept,
		     (const char *[]){"diff", attempt->start, end_name, NULL});
	tell_command(attempt, "look at it:", kept, (const char *[]){"mount", "DIRECTORY", NULL});
	tell_command(attempt, "drop it:", NULL,
		     (const char *[]){"workspace", "delete", kept, NULL});
}

static int tell_json(const struct attempt *attempt)
{
	struct changes changes;
	json_t *document, *counts = NULL;

	if (attempt->entries) {
		changes_count(attempt->entries, &changes);
		counts = changes_json(&changes);
	}
	document = json_pack("{s:O?, s:s?, s:O?, s:O, s:o*, s:O?}", "point", attempt->source,
			     "workspace", attempt->kept, "after", attempt->after, "steps",
			     attempt->steps, "changed", counts, "changes", attempt->entries);
	if (!document || json_object_update_new(document, run_json(attempt)) ||
	    json_object_set_new(document, "signal",
				attempt->run.signal ? json_integer(attempt->run.signal)
						    : json_null())) {
		json_decref(document);
		return failure_memory(attempt->invocation);
	}
	output_json(document);
	json_decref(document);
	return 0;
}

static int tell(const struct attempt *attempt)
{
	const struct invocation *invocation = attempt->invocation;

	if (invocation->json)
		return tell_json(attempt);
	if (!invocation->quiet) {
		tell_run(attempt);
		tell_changes(attempt);
		tell_kept(attempt);
	}
	return 0;
}

/* @latest may be another point by now: the one that was found is meant. */
static int begin(struct attempt *attempt)
{
	const json_t *source = attempt->source;
	const char *workspace =
		source ? get_text(source, "workspace") : attempt->invocation->place->workspace;

	return rehearsal_begin(attempt->invocation, workspace,
			       source ? get_text(source, "name") : attempt->spec, attempt->start,
			       &attempt->rehearsal);
}

/* CMD's exit status, unless all went well with it and not with us. */
int cmd_try(struct invocation *invocation)
{
	struct attempt attempt = {.invocation = invocation, .rehearsal.lock = -1};
	int code = take_arguments(&attempt);

	if (!code && !place_get(invocation))
		code = 1;
	if (!code)
		code = look_around(&attempt);
	if (!code) {
		signals_catch();
		rehearsals_clean(invocation);
		code = begin(&attempt);
	}
	if (!code)
		code = run_command(&attempt);
	if (code > 128) {
		(void)failure(invocation, SERVICE_FAILED,
			      "interrupted by signal %d before the command began", code - 128);
	} else if (!code) {
		code = finish(&attempt);
		if (!code)
			code = tell(&attempt);
		if (attempt.run.status)
			code = attempt.run.status;
	}
	attempt_release(&attempt);
	return code;
}
