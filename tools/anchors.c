#include "tools/anchors.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/service.h"
#include "tools/call.h"
#include "tools/command.h"
#include "tools/failure.h"
#include "tools/output.h"
#include "tools/place.h"
#include "tools/shell.h"

enum { ANCHOR_SECONDS = 30 }; /* a neighbour that does not answer must not keep us for ever */

/* ---- freeze --------------------------------------------------------------------------- */

static int refuse_pair(struct invocation *invocation, const char *option, const char *what,
		       const char *text)
{
	return usage_error(invocation, "--%s is NAME=%s, not '%s'", option, what, text);
}

/* Adds NAME=TEXT to an object of the request.  What is no UTF-8 is told by call_run(). */
static int add_pair(struct call *call, const char *key, const char *name, const char *text)
{
	json_t *object = json_object_get(call->object, key);

	if (!object) {
		call_set(call, key, json_object());
		object = json_object_get(call->object, key);
	}
	if (object && json_object_set_new(object, name, json_string(text)))
		call->invalid = text;
	return 0;
}

static int add_option(struct call *call, const char *option, const char *key, const char *text)
{
	char *name = strndup(text, strcspn(text, "="));
	int code;

	if (!name)
		return failure_memory(call->invocation);
	if (json_object_get(json_object_get(call->object, "anchors"), name) ||
	    json_object_get(json_object_get(call->object, "anchor_commands"), name))
		code = usage_error(call->invocation, "--%s: there are two anchors '%s'", option,
				   name);
	else
		code = add_pair(call, key, name, text + strlen(name) + 1);
	free(name);
	return code;
}

int anchors_add(struct call *call)
{
	static const struct {
		const char *option, *what, *key;
	} kinds[] = {{"anchor", "VALUE", "anchors"}, {"anchor-cmd", "CMD", "anchor_commands"}};
	const char *text;
	int code = 0;

	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		for (size_t i = 0;
		     !code && (text = option_next(call->invocation, kinds[k].option, &i));) {
			if (text[0] == '=' || !strchr(text, '='))
				code = refuse_pair(call->invocation, kinds[k].option, kinds[k].what,
						   text);
			else
				code = add_option(call, kinds[k].option, kinds[k].key, text);
		}
	}
	return code;
}

static int tell_trouble(struct invocation *invocation, const char *name, char *trouble)
{
	int code = trouble ? failure(invocation, SERVICE_FAILED,
				     "freeze: the command of anchor '%s' %s\nNo point was made.",
				     name, trouble)
			   : failure_memory(invocation);

	free(trouble);
	return code;
}

static int ask_one(struct call *call, struct shell *shell, const char *name, const char *command)
{
	struct shell_result result = {0};
	int error = shell_run(shell, command, SHELL_ANSWER, &result), code;

	if (error || shell->caught || result.timed_out || result.status || result.complaint)
		code = tell_trouble(call->invocation, name, shell_trouble(shell, error, &result));
	else
		code = add_pair(call, "anchors", name, result.answer);
	shell_result_release(&result);
	return code;
}

int anchors_ask(struct call *call, struct shell *shell)
{
	json_t *asked = json_object_get(call->object, "anchor_commands"), *command;
	unsigned limit = shell->limit;
	const char *name;
	int code = 0;

	if (!limit)
		shell->limit = ANCHOR_SECONDS;
	json_object_foreach(asked, name, command)
	{
		if (!code)
			code = ask_one(call, shell, name, json_string_value(command));
	}
	shell->limit = limit;
	return code;
}

/* ---- restore -------------------------------------------------------------------------- */

/*
 * Why the commands in a store are not run: whoever can write to it has chosen them, and must not
 * get to act as another user by it.  malloc'ed; "" where they are run, NULL without memory.
 */
static char *find_objection(struct invocation *invocation)
{
	const struct place *place = place_get(invocation);
	struct passwd *owner;
	struct stat status;
	char *text;
	int length;

	if (option_given(invocation, "no-anchors"))
		return strdup("not asked: --no-anchors");
	if (!place || stat(place->store, &status))
		return strdup("not asked: the store cannot be seen");
	if (status.st_uid == geteuid())
		return strdup("");
	owner = getpwuid(status.st_uid);
	if (owner)
		length = asprintf(&text, "not asked: the store belongs to user %s", owner->pw_name);
	else
		length = asprintf(&text, "not asked: the store belongs to user %u",
				  (unsigned)status.st_uid);
	return length < 0 ? NULL : text;
}

static json_t *anchor_unasked(const char *name, const char *then, const json_t *command,
			      const char *error)
{
	json_t *anchor = json_pack("{s:s, s:s, s:n, s:O?, s:n}", "name", name, "then", then, "now",
				   "command", command, "differs");

	if (anchor && error && json_object_set_new(anchor, "error", json_string(error))) {
		json_decref(anchor);
		return NULL;
	}
	return anchor;
}

static json_t *anchor_asked(struct shell *shell, const char *name, const char *then,
			    const json_t *command)
{
	struct shell_result result = {0};
	int error = shell_run(shell, json_string_value(command), SHELL_ANSWER, &result);
	char *trouble = shell_trouble(shell, error, &result);
	json_t *anchor = NULL;

	if (trouble && trouble[0])
		anchor = anchor_unasked(name, then, command, trouble);
	else if (trouble)
		anchor = json_pack("{s:s, s:s, s:s, s:O, s:b}", "name", name, "then", then, "now",
				   result.answer, "command", command, "differs",
				   strcmp(then, result.answer) != 0);
	free(trouble);
	shell_result_release(&result);
	return anchor;
}

/* `shell` NULL: none is asked, because of the objection. */
static json_t *compare(struct shell *shell, const json_t *point, const char *objection)
{
	const json_t *asked = json_object_get(point, "anchor_commands");
	json_t *list = json_array(), *value;
	const char *name;

	json_object_foreach(json_object_get(point, "anchors"), name, value)
	{
		const json_t *command = json_object_get(asked, name);
		const char *then = json_string_value(value);
		json_t *anchor;

		if (command && shell && !shell->caught)
			anchor = anchor_asked(shell, name, then, command);
		else
			anchor = anchor_unasked(name, then, command, command ? objection : NULL);
		if (json_array_append_new(list, anchor)) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

/* The point, or NULL: the restore will tell why. */
static json_t *find_point(struct invocation *invocation)
{
	json_t *result, *point;
	struct call call;

	call_begin_point(&call, invocation, "show", CALL_READ_ONLY);
	result = call_result(&call);
	point = json_incref(json_object_get(result, "ok"));
	json_decref(result);
	return point;
}

/* The workspace that is restored: where none is named, that of the point. */
static int ask_again(struct invocation *invocation, const json_t *point, unsigned limit,
		     json_t **ret)
{
	const char *workspace = place_get(invocation)->workspace;
	struct shell shell;
	int code = shell_begin(&shell, invocation,
			       workspace ? workspace : get_text(point, "workspace"),
			       get_text(point, "name"));

	if (code)
		return code;
	shell.limit = limit;
	*ret = compare(&shell, point, NULL);
	shell_end(&shell);
	return 0;
}

int anchors_compare(struct invocation *invocation, json_t **ret)
{
	json_t *point, *list = NULL;
	char *objection;
	unsigned limit;
	int code = shell_parse_limit(invocation, ANCHOR_SECONDS, &limit);

	if (code)
		return code;
	point = find_point(invocation);
	objection = find_objection(invocation);
	if (objection && !objection[0] &&
	    json_object_size(json_object_get(point, "anchor_commands")))
		code = ask_again(invocation, point, limit, &list);
	else if (objection)
		list = compare(NULL, point, objection);
	free(objection);
	json_decref(point);
	if (!code && !list)
		code = failure_memory(invocation);
	if (!code)
		*ret = list;
	return code;
}

static void print_anchor(const json_t *anchor)
{
	char *name = format_escape(get_text(anchor, "name"));
	char *then = format_escape(get_text(anchor, "then"));
	char *now = format_escape(get_text(anchor, "now"));
	const char *error = json_string_value(json_object_get(anchor, "error"));

	if (!name || !then || !now)
		fputs("anchor: out of memory\n", stdout);
	else if (error)
		printf("anchor %s: was %s, now unknown: %s%s\n", name, then,
		       strncmp(error, "not ", 4) == 0 ? "" : "its command ", error);
	else if (json_is_null(json_object_get(anchor, "command")))
		printf("anchor %s: was %s, now unknown: not checked, given by hand\n", name, then);
	else if (json_is_true(json_object_get(anchor, "differs")))
		printf("anchor %s: was %s, is now %s\n", name, then, now);
	else
		printf("anchor %s: still %s\n", name, then);
	free(name);
	free(then);
	free(now);
}

void anchors_print(const json_t *anchors)
{
	const json_t *anchor;
	bool moved = false;
	size_t i;

	json_array_foreach(anchors, i, anchor)
	{
		print_anchor(anchor);
		moved = moved || json_is_true(json_object_get(anchor, "differs"));
	}
	if (moved)
		puts("what has moved on is not restored by cairn: take it back as well, or carry "
		     "on "
		     "knowing it");
}
