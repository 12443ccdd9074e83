/* restore --to: a point's files in a plain directory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/call.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/failure.h"
#include "tools/output.h"
#include "tools/place.h"

enum { SKIPPED_SHOWN = 20 };

static int add_paths(struct invocation *invocation, struct call *call)
{
	const struct place *place = place_get(invocation);

	for (int i = 1; place && i < invocation->argument_count; i++) {
		char *inside = path_in_workspace(place, invocation->arguments[i]);

		if (!inside)
			return failure_memory(invocation);
		call_append_path(call, "paths", inside);
		free(inside);
	}
	return place ? 0 : 1;
}

/* On stderr: the result is good, but not all that the point has. */
static void tell_skipped(const json_t *result)
{
	const json_t *entries = json_object_get(result, "skipped"), *entry;
	int64_t count = get_number(result, "skipped_count");
	size_t i;

	json_array_foreach(entries, i, entry)
	{
		char *path = get_quoted_path(entry, "path"), *what = get_quoted_path(entry, "what");

		if (i < SKIPPED_SHOWN)
			warning("%s: not kept: %s", path ? path : "", what ? what : "");
		free(path);
		free(what);
	}
	if (count > SKIPPED_SHOWN)
		warning("and %lld more that could not be kept (--json lists them)",
			(long long)(count - SKIPPED_SHOWN));
}

static void tell_result(const struct invocation *invocation, const json_t *result,
			const char *destination)
{
	char files[FORMAT_MAX], size[FORMAT_MAX];
	char *path = format_path(destination);
	int64_t directories = get_number(result, "directories");

	if (!invocation->quiet)
		printf("extracted %s and %lld director%s (%s) to %s\n",
		       format_count((uint64_t)get_number(result, "files"), "file", files),
		       (long long)directories, directories == 1 ? "y" : "ies",
		       format_size((uint64_t)get_number(result, "bytes"), size), path ? path : "");
	free(path);
	tell_skipped(result);
}

int restore_to(struct invocation *invocation, const char *destination)
{
	struct call call;
	json_t *result;
	int code;

	if (invocation->dry_run)
		return usage_error(invocation, "there is nothing to preview with --to");
	if (!*destination)
		return usage_error(invocation, "--to needs a directory");
	call_begin(&call, invocation, "extract", CALL_WORKSPACE | CALL_READ_ONLY | CALL_IN_PROCESS);
	code = add_paths(invocation, &call);
	if (code) {
		call_drop(&call);
		return code;
	}
	call_text(&call, "point", invocation->arguments[0]);
	call_path(&call, "destination", destination);
	call_flag(&call, "overwrite", option_given(invocation, "force"));
	code = call_run(&call, &result);
	if (code)
		return code;
	if (invocation->json)
		output_json(result);
	else
		tell_result(invocation, result, destination);
	json_decref(result);
	return 0;
}
