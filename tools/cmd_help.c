#include <stdio.h>

#include "tools/command.h"
#include "tools/commands.h"
#include "tools/failure.h"
#include "tools/output.h"

int cmd_help(struct invocation *invocation)
{
	const struct command *command;
	int used = 0;

	if (invocation->argument_count == 0) {
		help_overview();
		return 0;
	}
	command = command_find(invocation->arguments, &used);
	if (command && used == invocation->argument_count) {
		help_command(command);
		return 0;
	}
	if (invocation->argument_count == 1 && command_is_group(invocation->arguments[0])) {
		help_group(invocation->arguments[0]);
		return 0;
	}
	return failure(invocation, SERVICE_USAGE,
		       "no such command: %s%s%s\n'cairn help' lists the commands.",
		       invocation->arguments[0], invocation->argument_count > 1 ? " " : "",
		       invocation->argument_count > 1 ? invocation->arguments[1] : "");
}

int cmd_version(struct invocation *invocation)
{
	json_t *document;

	if (!invocation->json) {
		puts("cairn " CAIRN_VERSION);
		return 0;
	}
	document = json_pack("{s:s}", "version", CAIRN_VERSION);
	if (!document)
		return failure_memory(invocation);
	output_json(document);
	json_decref(document);
	return 0;
}
