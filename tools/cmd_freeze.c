#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/anchors.h"
#include "tools/call.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/failure.h"
#include "tools/output.h"
#include "tools/shell.h"

static void freeze_report(const struct invocation *invocation, const json_t *point)
{
	char files[FORMAT_MAX], size[FORMAT_MAX], changed[FORMAT_MAX], time[FORMAT_MAX];

	(void)invocation;
	if (json_is_false(json_object_get(point, "made"))) {
		printf("nothing changed since %s: no point made\n", get_text(point, "name"));
		return;
	}
	printf("froze %s: %s, %s (%s changed) in %s\n", get_text(point, "name"),
	       format_count((uint64_t)get_number(point, "files"), "file", files),
	       format_size((uint64_t)get_number(point, "bytes"), size),
	       format_size((uint64_t)get_number(point, "changed_bytes"), changed),
	       format_duration(get_number(point, "elapsed_ns"), time));
}

static void freeze_begin(struct call *call, struct invocation *invocation)
{
	const char *text;

	call_begin(call, invocation, "freeze", CALL_WORKSPACE | CALL_PRESENT);
	call_text(call, "name", invocation->arguments[0]);
	call_text(call, "message", option_value(invocation, "message"));
	for (size_t i = 0; (text = option_next(invocation, "tag", &i));)
		call_append(call, "tags", text);
	for (size_t i = 0; (text = option_next(invocation, "hold", &i));)
		call_append(call, "holds", text);
	call_text(call, "hold_until", option_value(invocation, "hold-until"));
	call_flag(call, "if_changed", option_given(invocation, "if-changed"));
}

/* ---- with commands around it ---------------------------------------------------------- */

/* Runs a hook. NULL: it went well; else what was wrong with it, malloc'ed. */
static char *run_hook(struct invocation *invocation, struct shell *shell, const char *option)
{
	struct shell_result result = {0};
	char *trouble;
	int error;

	error = shell_run(shell, option_value(invocation, option), SHELL_TALK, &result);
	if (!error && !result.status && !result.timed_out)
		return NULL;
	trouble = shell_trouble(shell, error, &result);
	shell_result_release(&result);
	return trouble ? trouble : strdup("failed");
}

static int run_pre(struct invocation *invocation, struct shell *shell)
{
	char *trouble;

	if (!option_given(invocation, "pre"))
		return 0;
	trouble = run_hook(invocation, shell, "pre");
	if (!trouble)
		return 0;
	failure(invocation, SERVICE_FAILED, "freeze: the command of --pre %s\nNo point was made.",
		trouble);
	free(trouble);
	return SERVICE_FAILED;
}

static int run_and_freeze(struct call *call, struct shell *shell, json_t **ret_point)
{
	struct invocation *invocation = call->invocation;
	int code = 0;

	if (!call->failed && !call->invalid) { /* else call_run() tells it */
		code = run_pre(invocation, shell);
		if (!code)
			code = anchors_ask(call, shell);
		if (!code && shell->caught)
			code = failure(invocation, SERVICE_FAILED,
				       "freeze: interrupted\nNo point was made.");
	}
	if (!code)
		return call_run(call, ret_point);
	call_drop(call);
	return code;
}

/* The point is there, but who asked for it has to look after what --post should have done. */
static int post_failed(const struct invocation *invocation, json_t *point, const char *trouble)
{
	json_t *result;
	char *text;
	int code;

	if (asprintf(&text, "the point '%s' is there, but the command of --post %s",
		     get_text(point, "name"), trouble) < 0)
		return failure_memory(invocation);
	result = json_pack("{s:{s:s, s:s, s:O}}", "error", "code", "failed", "message", text,
			   "detail", point);
	free(text);
	code = failure_result(invocation, result);
	json_decref(result);
	return code;
}

/* Whatever happened before: --post takes back what --pre did. */
static int finish(struct invocation *invocation, struct shell *shell, int code, json_t *point)
{
	char *trouble = NULL;

	if (option_given(invocation, "post")) {
		if (setenv("CAIRN_STATUS", code ? "1" : "0", 1))
			trouble = strdup("could not be started: out of memory");
		else
			trouble = run_hook(invocation, shell, "post");
	}
	if (point && !invocation->quiet && !invocation->json)
		freeze_report(invocation, point);
	if (trouble && code)
		warning("freeze: the command of --post %s", trouble);
	else if (trouble)
		code = post_failed(invocation, point, trouble);
	else if (point && invocation->json)
		output_json(point);
	free(trouble);
	return code;
}

static int freeze_with_commands(struct call *call)
{
	struct invocation *invocation = call->invocation;
	json_t *point = NULL;
	struct shell shell;
	unsigned limit;
	int code = shell_parse_limit(invocation, 0, &limit);

	if (!code)
		code = shell_begin(&shell, invocation, NULL, invocation->arguments[0]);
	if (code) {
		call_drop(call);
		return code;
	}
	shell.limit = limit;
	code = run_and_freeze(call, &shell, &point);
	code = finish(invocation, &shell, code, point);
	json_decref(point);
	shell_end(&shell);
	return code;
}

int cmd_freeze(struct invocation *invocation)
{
	struct call call;
	int code;

	freeze_begin(&call, invocation);
	code = anchors_add(&call);
	if (code) {
		call_drop(&call);
		return code;
	}
	if (option_given(invocation, "pre") || option_given(invocation, "post") ||
	    option_given(invocation, "anchor-cmd"))
		return freeze_with_commands(&call);
	return call_report(&call, freeze_report);
}
