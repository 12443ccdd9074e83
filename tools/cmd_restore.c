#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/call.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/output.h"

static void print_option(const char *option, const char *value)
{
	char *word = value ? format_shell(value) : NULL;

	if (word)
		printf(" %s %s", option, word);
	free(word);
}

/* "cairn restore NAME", with the options that found the store this time. */
static void print_way_back(const struct invocation *invocation, const char *name)
{
	fputs("go back with: cairn", stdout);
	print_option("-s", invocation->store);
	print_option("-w", invocation->workspace);
	print_option("restore", name);
	putchar('\n');
}

static void print_changed(const json_t *result)
{
	const json_t *changed = json_object_get(result, "changed");

	printf("%lld added, %lld removed, %lld modified", (long long)get_number(changed, "added"),
	       (long long)get_number(changed, "removed"),
	       (long long)get_number(changed, "modified"));
}

static void restore_report(const struct invocation *invocation, const json_t *result)
{
	const json_t *safety = json_object_get(result, "safety_point");
	const char *name = get_text(safety, "name");
	char time[FORMAT_MAX];

	printf("restored %s: ", get_text(json_object_get(result, "point"), "name"));
	print_changed(result);
	printf(" in %s\n", format_duration(get_number(result, "elapsed_ns"), time));
	if (!name[0])
		return;
	if (json_is_true(json_object_get(result, "safety_made")))
		printf("the state until now is kept as the point %s\n", name);
	else
		printf("the state until now was that of the point %s\n", name);
	print_way_back(invocation, name);
}

static void restore_preview(const struct invocation *invocation, const json_t *result)
{
	const json_t *processes = json_object_get(result, "would_block"), *process;
	size_t i;

	printf("would restore %s: ", get_text(json_object_get(result, "point"), "name"));
	print_changed(result);
	putchar('\n');
	puts("the present state would be kept as a point first");
	if (json_array_size(processes) == 0)
		return;
	puts(option_given(invocation, "force")
		     ? "would go ahead although these have files open for writing:"
		     : "would refuse, because these have files open for writing:");
	json_array_foreach(processes, i, process) print_process(stdout, process);
}

int cmd_restore(struct invocation *invocation)
{
	struct call call;
	json_t *result;
	int code;

	call_begin(&call, invocation, "restore", CALL_WORKSPACE | CALL_PRESENT);
	call_text(&call, "point", invocation->arguments[0]);
	call_flag(&call, "force", option_given(invocation, "force"));
	call_flag(&call, "dry_run", invocation->dry_run);
	code = call_run(&call, &result);
	if (code)
		return code;
	if (invocation->json)
		output_json(result);
	else if (invocation->dry_run)
		restore_preview(invocation, result);
	else if (!invocation->quiet)
		restore_report(invocation, result);
	json_decref(result);
	return 0;
}
