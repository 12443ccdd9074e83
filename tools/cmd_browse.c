/* Looking into a point without a mount: ls and cat. */
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/call.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/failure.h"
#include "tools/output.h"
#include "tools/place.h"

/* "drwxr-xr-x", as ls(1) shows it. */
static char *text_mode(const json_t *row)
{
	static const struct {
		const char *type;
		char letter;
	} letters[] = {{"directory", 'd'}, {"link", 'l'}, {"fifo", 'p'},
		       {"socket", 's'},	   {"char", 'c'}, {"block", 'b'}};
	unsigned mode = (unsigned)strtoul(get_text(row, "mode"), NULL, 8);
	char text[] = "-rwxrwxrwx";

	for (size_t i = 0; i < sizeof(letters) / sizeof(letters[0]); i++)
		if (strcmp(get_text(row, "type"), letters[i].type) == 0)
			text[0] = letters[i].letter;
	for (int bit = 0; bit < 9; bit++)
		if (!(mode & (0400u >> bit)))
			text[1 + bit] = '-';
	for (int set = 0; set < 3; set++) /* set-user-id, set-group-id, sticky */
		if (mode & (04000u >> set))
			text[3 + 3 * set] = (char)((set == 2 ? 't' : 's') -
						   (text[3 + 3 * set] == 'x' ? 0 : 'a' - 'A'));
	return strdup(text);
}

static char *text_owner(const json_t *row)
{
	const struct passwd *user = getpwuid((uid_t)get_number(row, "uid"));
	char *text;

	if (user)
		return strdup(user->pw_name);
	if (asprintf(&text, "%lld", (long long)get_number(row, "uid")) < 0)
		return NULL;
	return text;
}

static char *text_name(const json_t *row)
{
	char *name = get_quoted_path(row, "name"), *target = get_quoted_path(row, "target"),
	     *text = NULL;

	if (name && target && asprintf(&text, target[0] ? "%s -> %s" : "%s", name, target) < 0)
		text = NULL;
	free(name);
	free(target);
	return text;
}

static const struct column ls_columns[] = {
	{"type", "TYPE", COLUMN_TEXT, COLUMN_RAW_ONLY, NULL},
	{"mode", "MODE", COLUMN_TEXT, 0, text_mode},
	{"uid", "OWNER", COLUMN_TEXT, 0, text_owner},
	{"gid", "GROUP", COLUMN_NUMBER, COLUMN_RAW_ONLY, NULL},
	{"nlink", "LINKS", COLUMN_NUMBER, COLUMN_RAW_ONLY, NULL},
	{"size", "SIZE", COLUMN_SIZE, 0, NULL},
	{"mtime", "MODIFIED", COLUMN_AGE, 0, NULL},
	{"name", "NAME", COLUMN_TEXT, 0, text_name},
	{"target", "TARGET", COLUMN_TEXT, COLUMN_RAW_ONLY, NULL},
	{NULL, NULL, COLUMN_TEXT, 0, NULL},
};

int cmd_ls(struct invocation *invocation)
{
	const char *path = invocation->argument_count > 1 ? invocation->arguments[1] : "";
	const struct place *place = place_get(invocation);
	char *inside = place ? path_in_workspace(place, path) : NULL;
	struct call call;
	json_t *entries;
	int code;

	if (!inside)
		return place ? failure_memory(invocation) : 1;
	call_begin(&call, invocation, "ls", CALL_WORKSPACE | CALL_READ_ONLY);
	call_text(&call, "point", invocation->arguments[0]);
	call_path(&call, "path", inside);
	code = call_run(&call, &entries);
	free(inside);
	if (code)
		return code;
	code = output_rows(invocation, ls_columns, entries);
	json_decref(entries);
	return code;
}

/* What the daemon has not committed yet is not in the store, where cat looks. */
static void sync_daemon(struct invocation *invocation)
{
	json_t *object = json_pack("{s:s}", "op", "sync"), *result = NULL;

	if (object)
		call_daemon(invocation, invocation->place->store, object, &result);
	json_decref(object);
	json_decref(result);
}

static bool is_head(const char *point)
{
	size_t length = strlen(point);

	return length >= 5 && strcmp(point + length - 5, "@head") == 0;
}

/* The service writes to stdout itself, so a file of any size passes through no memory of ours. */
int cmd_cat(struct invocation *invocation)
{
	const struct place *place = place_get(invocation);
	char *inside = place ? path_in_workspace(place, invocation->arguments[1]) : NULL;
	struct call call;
	json_t *result;
	int code;

	if (!inside)
		return place ? failure_memory(invocation) : 1;
	if (is_head(invocation->arguments[0]))
		sync_daemon(invocation);
	call_begin(&call, invocation, "cat", CALL_WORKSPACE | CALL_READ_ONLY | CALL_IN_PROCESS);
	call_text(&call, "point", invocation->arguments[0]);
	call_path(&call, "path", inside);
	call_set(&call, "fd", json_integer(STDOUT_FILENO));
	code = call_run(&call, &result);
	free(inside);
	if (code == 0)
		json_decref(result);
	return code;
}
