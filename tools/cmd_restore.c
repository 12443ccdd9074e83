#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/anchors.h"
#include "tools/call.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/failure.h"
#include "tools/output.h"
#include "tools/revising.h"

enum { PATHS_NAMED = 3 };

/* "from POINT", or what of it. */
static void print_what(const json_t *result)
{
	const json_t *paths = json_object_get(result, "paths"), *item;
	const char *point = get_text(json_object_get(result, "point"), "name");
	size_t count = json_array_size(paths), i;

	if (count > PATHS_NAMED)
		printf("%zu paths of ", count);
	json_array_foreach(paths, i, item)
	{
		char *bytes = service_decode_text(json_string_value(item));
		char *path = bytes ? format_path(*bytes ? bytes : ".") : NULL;

		if (count <= PATHS_NAMED)
			printf("%s%s", path ? path : "", i + 1 < count ? ", " : " of ");
		free(path);
		free(bytes);
	}
	fputs(point, stdout);
}

static void restore_report(const struct invocation *invocation, const json_t *result)
{
	char time[FORMAT_MAX];

	fputs("restored ", stdout);
	print_what(result);
	fputs(": ", stdout);
	print_changed(result);
	printf(" in %s\n", format_duration(get_number(result, "elapsed_ns"), time));
	anchors_print(json_object_get(result, "anchors"));
	print_kept(invocation, result);
}

static void restore_preview(const struct invocation *invocation, const json_t *result)
{
	fputs("would restore ", stdout);
	print_what(result);
	fputs(": ", stdout);
	print_changed(result);
	putchar('\n');
	print_would_keep(result);
	anchors_print(json_object_get(result, "anchors"));
	print_would_block(invocation, result);
}

int cmd_restore(struct invocation *invocation)
{
	json_t *result, *anchors;
	struct call call;
	int code;

	if (option_given(invocation, "to"))
		return restore_to(invocation, option_value(invocation, "to"));
	code = anchors_compare(invocation, &anchors);
	if (code)
		return code;
	call_begin_point(&call, invocation, "restore", CALL_PRESENT);
	call_flag(&call, "force", option_given(invocation, "force"));
	call_flag(&call, "dry_run", invocation->dry_run);
	code = add_path_arguments(&call, 1);
	if (code)
		call_drop(&call);
	else
		code = call_run(&call, &result);
	if (code) {
		json_decref(anchors);
		return code;
	}
	if (json_object_set_new(result, "anchors", anchors))
		code = failure_memory(invocation);
	else if (invocation->json)
		output_json(result);
	else if (invocation->dry_run)
		restore_preview(invocation, result);
	else if (!invocation->quiet)
		restore_report(invocation, result);
	json_decref(result);
	return code;
}
