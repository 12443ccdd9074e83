#include "tools/revising.h"

#include <stdlib.h>

#include "tools/call.h"
#include "tools/command.h"
#include "tools/failure.h"
#include "tools/output.h"
#include "tools/place.h"

int add_path_arguments(struct call *call, int first)
{
	struct invocation *invocation = call->invocation;
	const struct place *place = place_get(invocation);

	for (int i = first; place && i < invocation->argument_count; i++) {
		char *inside = path_in_workspace(place, invocation->arguments[i]);

		if (!inside)
			return failure_memory(invocation);
		call_append_path(call, "paths", inside);
		free(inside);
	}
	return place ? 0 : 1;
}

void print_changed(const json_t *result)
{
	const json_t *changed = json_object_get(result, "changed");

	printf("%lld added, %lld removed, %lld modified", (long long)get_number(changed, "added"),
	       (long long)get_number(changed, "removed"),
	       (long long)get_number(changed, "modified"));
}

/* With the options that found the store this time. */
void print_kept(const struct invocation *invocation, const json_t *result)
{
	const char *name = get_text(json_object_get(result, "safety_point"), "name");
	const char *const words[] = {"restore", name, NULL};
	char *command;

	if (!name[0])
		return;
	if (json_is_true(json_object_get(result, "safety_made")))
		printf("the state until now is kept as the point %s\n", name);
	else
		printf("the state until now was that of the point %s\n", name);
	command = format_cairn(invocation->store, invocation->workspace, words);
	if (command)
		printf("go back with: %s\n", command);
	free(command);
}

void print_would_keep(const json_t *result)
{
	const char *name = get_text(json_object_get(result, "safety_point"), "name");

	if (name[0])
		printf("the present state would be kept as the point %s\n", name);
	else
		puts("the present state is that of a point already: none would be made");
}

void print_would_block(const struct invocation *invocation, const json_t *result)
{
	const json_t *processes = json_object_get(result, "would_block"), *process;
	size_t i;

	if (json_array_size(processes) == 0)
		return;
	puts(option_given(invocation, "force")
		     ? "would go ahead although these have files open for writing:"
		     : "would refuse, because these have files open for writing:");
	json_array_foreach(processes, i, process) print_process(stdout, process);
}
