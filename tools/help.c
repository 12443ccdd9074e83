/* Help texts, made from the command table; 80 columns at most (tests/cli holds them to it). */
#include <stdio.h>
#include <string.h>

#include "tools/command.h"

static void print_options(const struct option_spec *options)
{
	for (; options && options->name; options++) {
		char left[64];
		int length = snprintf(left, sizeof(left), "--%s%s%s", options->name,
				      options->value && options->value[0] != '[' ? " " : "",
				      options->value ? options->value : "");

		if (options->letter)
			printf("  -%c, ", options->letter);
		else
			fputs("      ", stdout);
		printf("%-*s%s%s\n", length > 20 ? 0 : 20, left, length > 18 ? "  " : "",
		       options->help);
	}
}

/* Common options that this command takes. */
static void print_common(unsigned flags)
{
	static const struct {
		const char *name;
		unsigned flag;
	} needs[] = {
		{"json", COMMAND_JSON}, {"no-header", COMMAND_LISTS}, {"dry-run", COMMAND_DRY_RUN}};

	for (const struct option_spec *o = common_options; o->name; o++) {
		struct option_spec one[2] = {*o, {NULL, 0, NULL, NULL}};
		int shown = strcmp(o->name, "version") != 0;

		for (size_t i = 0; i < sizeof(needs) / sizeof(needs[0]); i++)
			if (strcmp(o->name, needs[i].name) == 0 && !(flags & needs[i].flag))
				shown = 0;
		if (shown)
			print_options(one);
	}
}

static void print_usage_lines(const char *usage)
{
	const char *prefix = "usage: cairn ";

	for (; usage[0]; prefix = "             ") {
		size_t length = strcspn(usage, "\n");

		printf("%s%.*s\n", prefix, (int)length, usage);
		usage += length + (usage[length] == '\n');
	}
}

void help_command(const struct command *command)
{
	print_usage_lines(command->usage);
	printf("\ncairn %s: %s\n", command->name, command->summary);
	if (command->details)
		printf("\n%s\n", command->details);
	if (command->options) {
		fputs("\nOptions\n", stdout);
		print_options(command->options);
	}
	fputs("\nCommon options\n", stdout);
	print_common(command->flags);
}

void help_group(const char *name)
{
	size_t length = strlen(name);

	printf("usage: cairn %s COMMAND\n\nCommands\n", name);
	for (const struct command *c = commands; c->name; c++)
		if (strncmp(c->name, name, length) == 0 && c->name[length] == ' ')
			printf("  %-18s%s\n", c->name, c->summary);
	printf("\n'cairn help %s COMMAND' tells all about one command.\n", name);
}

void help_overview(void)
{
	const char *group = "";

	fputs("usage: cairn [OPTION]... COMMAND [ARGUMENT]...\n\n"
	      "A working directory that can go back to named points in time.\n",
	      stdout);
	for (const struct command *c = commands; c->name; c++) {
		if (strcmp(c->group, group) != 0)
			printf("\n%s\n", c->group);
		group = c->group;
		printf("  %-18s%s\n", c->name, c->summary);
	}
	fputs("\nCommon options, before or after the command\n", stdout);
	print_options(common_options);
	fputs("\nThe store is --store, else $CAIRN_STORE, else that of the mount around the\n"
	      "current directory, else ${XDG_DATA_HOME:-~/.local/share}/cairn; likewise\n"
	      "--workspace and $CAIRN_WORKSPACE.  'cairn help COMMAND' tells all about one\n"
	      "command.  Exit codes: 0 done, 1 failed, 2 wrong usage, 3 busy, 4 conflicts,\n"
	      "5 damage, 6 no such store, workspace or point, 7 no space.\n",
	      stdout);
}
