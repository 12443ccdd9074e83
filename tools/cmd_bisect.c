/*
 * bisect: the first point at which a command fails.
 *
 * A candidate is looked at as it is in .snapshots of a mount of its workspace (one that is there,
 * or a private one), or as a writable clone.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fs/service.h"
#include "tools/bisect.h"
#include "tools/call.h"
#include "tools/changes.h"
#include "tools/child.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/failure.h"
#include "tools/lineage.h"
#include "tools/output.h"
#include "tools/place.h"
#include "tools/progress.h"
#include "tools/rehearse.h"
#include "tools/steps.h"

enum {
	CHANGES_SHOWN = 20,
	STATUS_SKIP = 125,
	STATUS_NOT_RUN = 126, /* and 127 */
	STATUS_SIGNAL = 128,  /* and above */
};

struct view {
	char *workspace;	    /* owned */
	char *mountpoint;	    /* owned */
	struct rehearsal rehearsal; /* where the mount is ours */
};

struct hunt {
	struct invocation *invocation;
	char *const *arguments; /* CMD */
	json_t *line;		/* owned; points, from the good one to the bad one */
	struct bisection search;
	struct view *views; /* owned */
	size_t view_count;
	json_t *runs;  /* owned; what was found at each */
	bool runnable; /* CMD could be run once */
	struct progress progress;
	uint64_t started_ns;
};

static const json_t *point_at(const struct hunt *hunt, size_t index)
{
	return json_array_get(hunt->line, index);
}

static const char *name_at(const struct hunt *hunt, size_t index)
{
	return get_text(point_at(hunt, index), "name");
}

static void hunt_release(struct hunt *hunt)
{
	for (size_t i = 0; i < hunt->view_count; i++) {
		rehearsal_drop(&hunt->views[i].rehearsal);
		free(hunt->views[i].workspace);
		free(hunt->views[i].mountpoint);
	}
	free(hunt->views);
	bisection_release(&hunt->search);
	json_decref(hunt->line);
	json_decref(hunt->runs);
}

/* ---- which points --------------------------------------------------------------------- */

static int find_point(struct invocation *invocation, const char *option, json_t **ret)
{
	const char *spec = option_value(invocation, option);
	struct call call;

	if (source_is_head(spec))
		return failure(invocation, SERVICE_USAGE,
			       "--%s must be a point, and the present state is none\n"
			       "'cairn freeze NAME' makes one of it.",
			       option);
	call_begin(&call, invocation, "show", CALL_WORKSPACE | CALL_READ_ONLY);
	call_text(&call, "point", spec);
	return call_run(&call, ret);
}

static int find_line(struct hunt *hunt)
{
	struct invocation *invocation = hunt->invocation;
	json_t *good = NULL, *bad = NULL;
	int code = find_point(invocation, "good", &good);

	if (!code)
		code = find_point(invocation, "bad", &bad);
	if (!code && get_number(good, "id") == get_number(bad, "id"))
		code = usage_error(invocation, "'%s' cannot be both good and bad",
				   get_text(good, "name"));
	if (!code)
		code = lineage_find(invocation, good, bad, &hunt->line);
	if (!code && bisection_begin(json_array_size(hunt->line), &hunt->search))
		code = failure_memory(invocation);
	json_decref(good);
	json_decref(bad);
	return code;
}

static int take_arguments(struct hunt *hunt)
{
	struct invocation *invocation = hunt->invocation;
	int extra = invocation->argument_count - invocation->after_dashes;

	if (!option_given(invocation, "good") || !option_given(invocation, "bad"))
		return usage_error(invocation, "both --good and --bad are needed");
	if (invocation->after_dashes == 0)
		return usage_error(invocation, "the command is missing: -- CMD...");
	if (extra > 0)
		return usage_error(invocation, "one argument too many before '--': '%s'",
				   invocation->arguments[0]);
	hunt->arguments = invocation->arguments;
	hunt->runs = json_array();
	return hunt->runs ? 0 : failure_memory(invocation);
}

/* ---- views ---------------------------------------------------------------------------- */

/* A mount that is there, if it can be entered. */
static char *find_mount(const struct hunt *hunt, const char *workspace)
{
	char *mountpoint, *snapshots = NULL;
	bool usable;

	if (service_find_mount_of(hunt->invocation->place->store, workspace, &mountpoint))
		return NULL;
	usable = asprintf(&snapshots, "%s/.snapshots", mountpoint) >= 0 &&
		 access(snapshots, R_OK | X_OK) == 0;
	free(snapshots);
	if (usable)
		return mountpoint;
	free(mountpoint);
	return NULL;
}

static int open_view(struct hunt *hunt, const char *workspace)
{
	struct view view = {.rehearsal.lock = -1};
	struct view *views = reallocarray(hunt->views, hunt->view_count + 1, sizeof(*hunt->views));
	int code;

	if (!views)
		return failure_memory(hunt->invocation);
	hunt->views = views;
	view.mountpoint = find_mount(hunt, workspace);
	if (!view.mountpoint) {
		code = rehearsal_view(hunt->invocation, workspace, &view.rehearsal);
		if (code)
			return code;
		view.mountpoint = strdup(view.rehearsal.mountpoint);
	}
	view.workspace = strdup(workspace);
	hunt->views[hunt->view_count++] = view;
	return view.workspace && view.mountpoint ? 0 : failure_memory(hunt->invocation);
}

static int get_view(struct hunt *hunt, const char *workspace, const struct view **ret)
{
	int code;

	for (size_t i = 0; i < hunt->view_count; i++) {
		if (strcmp(hunt->views[i].workspace, workspace) == 0) {
			*ret = &hunt->views[i];
			return 0;
		}
	}
	code = open_view(hunt, workspace);
	if (!code)
		*ret = &hunt->views[hunt->view_count - 1];
	return code;
}

/* ---- running CMD ---------------------------------------------------------------------- */

/* CMD's output is talk: the result has stdout for itself. */
static int run_in(struct hunt *hunt, const json_t *point, const char *workspace,
		  const char *directory, struct child_result *ret)
{
	const struct child_variable environment[] = {
		{"CAIRN_POINT", get_text(point, "name")},
		{"CAIRN_WORKSPACE", workspace},
		{"CAIRN_STORE", hunt->invocation->place->store},
		{"CAIRN_MOUNTPOINT", directory},
		{STEPS_VARIABLE, NULL},
	};
	const struct child child = {
		.arguments = hunt->arguments,
		.directory = directory,
		.environment = environment,
		.variable_count = sizeof(environment) / sizeof(environment[0]),
		.stdout_to_stderr = true,
	};
	int error = child_run(&child, ret);

	if (signals_caught())
		return 128 + signals_caught();
	if (error == -ENOENT)
		return failure(hunt->invocation, SERVICE_NOT_FOUND,
			       "the point '%s' is gone: it was deleted or renamed meanwhile",
			       get_text(point, "name"));
	if (error)
		return failure(hunt->invocation, SERVICE_FAILED, "cannot run %s in %s: %s",
			       hunt->arguments[0], directory, strerror(-error));
	return 0;
}

static int run_in_view(struct hunt *hunt, const json_t *point, struct child_result *ret)
{
	const char *workspace = get_text(point, "workspace");
	const struct view *view;
	char *directory;
	int code = get_view(hunt, workspace, &view);

	if (code)
		return code;
	if (asprintf(&directory, "%s/.snapshots/%s", view->mountpoint, get_text(point, "name")) < 0)
		return failure_memory(hunt->invocation);
	code = run_in(hunt, point, workspace, directory, ret);
	free(directory);
	return code;
}

static int run_in_clone(struct hunt *hunt, const json_t *point, struct child_result *ret)
{
	struct rehearsal rehearsal = {.lock = -1};
	int code = rehearsal_begin(hunt->invocation, get_text(point, "workspace"),
				   get_text(point, "name"), NULL, &rehearsal);

	if (!code)
		code = run_in(hunt, point, rehearsal.workspace, rehearsal.mountpoint, ret);
	rehearsal_drop(&rehearsal);
	return code;
}

static const char *verdict_text(enum bisect_verdict verdict)
{
	return verdict == BISECT_GOOD ? "good" : verdict == BISECT_BAD ? "bad" : "skip";
}

static int note_run(struct hunt *hunt, const json_t *point, const struct child_result *run,
		    enum bisect_verdict verdict)
{
	json_int_t elapsed = (json_int_t)(run->ended_ns - run->started_ns);
	char time[FORMAT_MAX];
	json_t *entry =
		json_pack("{s:O, s:O, s:s, s:i, s:I}", "point", json_object_get(point, "name"),
			  "workspace", json_object_get(point, "workspace"), "verdict",
			  verdict_text(verdict), "exit_status", run->status, "elapsed_ns", elapsed);

	talk(hunt->invocation, "%s is %s (exit status %d after %s)", get_text(point, "name"),
	     verdict == BISECT_SKIP ? "skipped" : verdict_text(verdict), run->status,
	     format_duration(elapsed, time));
	return json_array_append_new(hunt->runs, entry) ? failure_memory(hunt->invocation) : 0;
}

static int run_at(struct hunt *hunt, size_t index, struct child_result *ret)
{
	const json_t *point = point_at(hunt, index);

	return option_given(hunt->invocation, "writable") ? run_in_clone(hunt, point, ret)
							  : run_in_view(hunt, point, ret);
}

static int judge(struct hunt *hunt, size_t index, enum bisect_verdict *ret)
{
	struct child_result run;
	int code = run_at(hunt, index, &run);

	if (code)
		return code;
	if (run.status >= STATUS_SIGNAL)
		return failure(hunt->invocation, SERVICE_FAILED,
			       "CMD ended with status %d at '%s': that says neither good nor bad\n"
			       "0 is good, 125 skips the point, 1 to 127 is bad.",
			       run.status, name_at(hunt, index));
	*ret = run.status == 0 ? BISECT_GOOD : run.status == STATUS_SKIP ? BISECT_SKIP : BISECT_BAD;
	return note_run(hunt, point_at(hunt, index), &run, *ret);
}

/* Statuses 126 and 127 are bad, but they are also what a mistyped CMD gives everywhere. */
static int check_runnable(struct hunt *hunt)
{
	const json_t *last = json_array_get(hunt->runs, json_array_size(hunt->runs) - 1);
	json_int_t status = get_number(last, "exit_status");
	struct child_result run;
	int code;

	if (hunt->runnable || status < STATUS_NOT_RUN) {
		hunt->runnable = true;
		return 0;
	}
	hunt->runnable = true;
	talk(hunt->invocation, "looking whether CMD can be run at '%s'", name_at(hunt, 0));
	code = run_at(hunt, 0, &run);
	if (!code && run.status >= STATUS_NOT_RUN && run.status < STATUS_SIGNAL)
		code = failure(hunt->invocation, SERVICE_FAILED,
			       "CMD cannot be run (exit status %d), not even at the good point "
			       "'%s'\nIts directory is the candidate's: give programs that are "
			       "not in $PATH by their absolute path.",
			       run.status, name_at(hunt, 0));
	return code;
}

static int check_ends(struct hunt *hunt)
{
	enum bisect_verdict verdict;
	size_t last = json_array_size(hunt->line) - 1;
	int code = judge(hunt, 0, &verdict);

	if (!code && verdict != BISECT_GOOD)
		return failure(hunt->invocation, SERVICE_FAILED,
			       "CMD fails at '%s' already: it is not good\n"
			       "Name an earlier point with --good.",
			       name_at(hunt, 0));
	hunt->runnable = true;
	if (!code)
		code = judge(hunt, last, &verdict);
	if (!code && verdict != BISECT_BAD)
		return failure(hunt->invocation, SERVICE_FAILED,
			       "CMD does not fail at '%s': it is not bad\n"
			       "Name a later point with --bad.",
			       name_at(hunt, last));
	return code;
}

/* ---- the search ----------------------------------------------------------------------- */

static void tell_step(struct hunt *hunt, const char *name)
{
	char points[FORMAT_MAX], steps[FORMAT_MAX];
	size_t done = json_array_size(hunt->runs);
	unsigned ahead = bisection_steps(&hunt->search);

	if (hunt->progress.form == PROGRESS_LINES)
		progress_update("bisect", done, done + ahead, &hunt->progress);
	talk(hunt->invocation, "%s left, about %s: looking at %s",
	     format_count(bisection_left(&hunt->search), "point", points),
	     format_count(ahead, "step", steps), name);
}

static int search(struct hunt *hunt)
{
	enum bisect_verdict verdict;
	size_t index;
	int code = 0;

	if (option_given(hunt->invocation, "check-ends"))
		code = check_ends(hunt);
	while (!code && bisection_next(&hunt->search, &index)) {
		tell_step(hunt, name_at(hunt, index));
		code = judge(hunt, index, &verdict);
		if (!code)
			code = check_runnable(hunt);
		if (!code)
			bisection_note(&hunt->search, index, verdict);
	}
	return code;
}

/* The command that goes on from here. */
static char *way_on(const struct hunt *hunt)
{
	const struct invocation *invocation = hunt->invocation;
	bool writable = option_given(invocation, "writable");
	const char **words = calloc((size_t)invocation->argument_count + 8, sizeof(*words));
	const char *home = invocation->workspace ? invocation->workspace
						 : get_text(point_at(hunt, 0), "workspace");
	char *good = point_spec(point_at(hunt, hunt->search.good), home);
	char *bad = point_spec(point_at(hunt, hunt->search.bad), home);
	char *line = NULL;
	int n = 0;

	if (words && good && bad) {
		const char *const options[] = {"bisect", "--good", good, "--bad", bad};

		for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
			words[n++] = options[i];
		if (writable)
			words[n++] = "--writable";
		words[n++] = "--";
		for (int i = 0; hunt->arguments[i]; i++)
			words[n++] = hunt->arguments[i];
		line = format_cairn(invocation->store, invocation->workspace, words);
	}
	free(words);
	free(good);
	free(bad);
	return line;
}

/* What is known so far is not lost. */
static void tell_stopped(const struct hunt *hunt)
{
	const struct invocation *invocation = hunt->invocation;
	char points[FORMAT_MAX], *line = way_on(hunt);
	bool learnt = hunt->search.good > 0 || hunt->search.bad + 1 < json_array_size(hunt->line);

	if (learnt && !invocation->quiet && !invocation->json && line)
		fprintf(stderr, "stopped: %s is good, %s is bad, %s left; go on with:\n  %s\n",
			name_at(hunt, hunt->search.good), name_at(hunt, hunt->search.bad),
			format_count(bisection_left(&hunt->search), "point", points), line);
	free(line);
}

static int tell_interrupted(const struct hunt *hunt)
{
	json_t *error;

	tell_stopped(hunt);
	if (hunt->invocation->json) {
		error = json_pack("{s:{s:s, s:s, s:{s:s, s:s, s:O}}}", "error", "code", "failed",
				  "message", "interrupted by a signal", "detail", "good",
				  name_at(hunt, hunt->search.good), "bad",
				  name_at(hunt, hunt->search.bad), "runs", hunt->runs);
		failure_result(hunt->invocation, error);
		json_decref(error);
	}
	return 128 + signals_caught();
}

/* ---- the result ----------------------------------------------------------------------- */

static int find_changes(const struct hunt *hunt, json_t **ret)
{
	const json_t *bad = point_at(hunt, hunt->search.bad);
	const char *workspace = get_text(bad, "workspace");
	char *good = point_spec(point_at(hunt, hunt->search.good), workspace);
	struct call call;

	if (!good)
		return failure_memory(hunt->invocation);
	call_begin(&call, hunt->invocation, "diff", CALL_READ_ONLY);
	call_text(&call, "workspace", workspace);
	call_text(&call, "a", good);
	call_text(&call, "b", get_text(bad, "name"));
	free(good);
	return call_run(&call, ret);
}

static void print_bad(const struct hunt *hunt)
{
	const json_t *bad = point_at(hunt, hunt->search.bad);
	char local[FORMAT_MAX], age[FORMAT_MAX];
	char *message = format_escape(get_text(bad, "message"));
	int64_t seconds;

	printf("first bad point: %s\n", get_text(bad, "name"));
	if (format_parse_time(get_text(bad, "created"), &seconds))
		printf("created:         %s (%s) by %s\n", format_time(seconds, local),
		       format_age(seconds, (int64_t)time(NULL), age), get_text(bad, "by"));
	if (message && message[0])
		printf("message:         %s\n", message);
	printf("last good point: %s\n", name_at(hunt, hunt->search.good));
	free(message);
}

static void print_changes(const struct hunt *hunt, const json_t *entries)
{
	const struct invocation *invocation = hunt->invocation;
	const json_t *bad = point_at(hunt, hunt->search.bad);
	size_t count = json_array_size(entries);
	struct changes changes;
	char *good, *line;

	changes_count(entries, &changes);
	fputs("between them:    ", stdout);
	changes_print_counts(stdout, &changes);
	(void)changes_print(stdout, entries, CHANGES_SHOWN);
	if (count <= CHANGES_SHOWN)
		return;
	good = point_spec(point_at(hunt, hunt->search.good), get_text(bad, "workspace"));
	line = good ? format_cairn(invocation->store, invocation->workspace,
				   (const char *[]){"diff", good, get_text(bad, "name"), NULL})
		    : NULL;
	if (line)
		printf("and %zu more: %s\n", count - CHANGES_SHOWN, line);
	free(line);
	free(good);
}

static json_t *result_json(const struct hunt *hunt, const json_t *entries)
{
	struct changes changes;

	changes_count(entries, &changes);
	return json_pack("{s:O, s:O, s:s, s:s, s:O, s:o, s:O, s:I}", "first_bad",
			 point_at(hunt, hunt->search.bad), "parent",
			 point_at(hunt, hunt->search.good), "good", name_at(hunt, 0), "bad",
			 name_at(hunt, json_array_size(hunt->line) - 1), "runs", hunt->runs,
			 "changed", changes_json(&changes), "changes", entries, "elapsed_ns",
			 (json_int_t)(monotonic_ns() - hunt->started_ns));
}

static int tell_found(const struct hunt *hunt)
{
	json_t *entries, *document;
	int code = find_changes(hunt, &entries);

	if (code)
		return code;
	if (!hunt->invocation->json) {
		print_bad(hunt);
		print_changes(hunt, entries);
	} else {
		document = result_json(hunt, entries);
		if (document)
			output_json(document);
		else
			code = failure_memory(hunt->invocation);
		json_decref(document);
	}
	json_decref(entries);
	return code;
}

/* All between the last good and the first bad one were skipped. */
static int tell_undecided(const struct hunt *hunt)
{
	json_t *candidates = json_array(), *error;

	for (size_t i = hunt->search.good + 1; i <= hunt->search.bad; i++)
		json_array_append(candidates, json_object_get(point_at(hunt, i), "name"));
	if (!hunt->invocation->json) {
		printf("cannot tell the first bad point, as some were skipped; it is one of:\n");
		for (size_t i = hunt->search.good + 1; i <= hunt->search.bad; i++)
			printf("  %s%s\n", name_at(hunt, i),
			       i < hunt->search.bad ? " (skipped)" : " (bad)");
		printf("last good point: %s\n", name_at(hunt, hunt->search.good));
		json_decref(candidates);
		return 1;
	}
	error = json_pack("{s:{s:s, s:s, s:{s:o, s:s, s:O}}}", "error", "code", "failed", "message",
			  "some points were skipped, so the first bad one is one of several",
			  "detail", "candidates", candidates, "last_good",
			  name_at(hunt, hunt->search.good), "runs", hunt->runs);
	failure_result(hunt->invocation, error);
	json_decref(error);
	return 1;
}

static int tell(const struct hunt *hunt)
{
	return hunt->search.bad == hunt->search.good + 1 ? tell_found(hunt) : tell_undecided(hunt);
}

int cmd_bisect(struct invocation *invocation)
{
	struct hunt hunt = {.invocation = invocation, .started_ns = monotonic_ns()};
	int code = take_arguments(&hunt);

	if (!code && !place_get(invocation))
		code = 1;
	if (!code)
		code = find_line(&hunt);
	if (!code) {
		progress_begin(&hunt.progress, invocation);
		signals_catch();
		rehearsals_clean(invocation);
		code = search(&hunt);
		if (!code)
			code = tell(&hunt);
		else if (signals_caught())
			code = tell_interrupted(&hunt);
		else
			tell_stopped(&hunt);
	}
	hunt_release(&hunt);
	return code;
}
