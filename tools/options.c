/* From argv to a struct invocation, by getopt_long(3) fed from the option tables. */
#include <assert.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/command.h"
#include "tools/failure.h"
#include "tools/place.h"

enum {
	OPTIONS_MAX = 24, /* the common ones and those of one command */
	LONG_BASE = 256,  /* getopt's `val` of option number n is LONG_BASE + n */
};

/* The tables in the form that getopt wants. */
struct option_set {
	const struct option_spec *specs[OPTIONS_MAX]; /* the common ones first */
	int count, common;
	struct option longs[OPTIONS_MAX + 1];
	char shorts[2 + 2 * OPTIONS_MAX + 1];
};

/* "[=NAME]": a value may be left out, also of the letter. */
static bool option_is_bare(const struct option_spec *option)
{
	return option->value && option->value[0] == '[';
}

static void set_add(struct option_set *set, const struct option_spec *table)
{
	char *letter = set->shorts + strlen(set->shorts);

	for (; table && table->name; table++) {
		assert(set->count < OPTIONS_MAX);
		set->specs[set->count] = table;
		set->longs[set->count] = (struct option){
			.name = table->name,
			.has_arg = !table->value	   ? no_argument
				   : option_is_bare(table) ? optional_argument
							   : required_argument,
			.val = LONG_BASE + set->count,
		};
		set->count++;
		if (table->letter) {
			*letter++ = table->letter;
			if (table->value && !option_is_bare(table))
				*letter++ = ':';
		}
	}
	*letter = '\0';
}

static void set_init(struct option_set *set, const char *mode, const struct command *command)
{
	memset(set, 0, sizeof(*set));
	stpcpy(set->shorts, mode);
	set_add(set, common_options);
	set->common = set->count;
	if (command)
		set_add(set, command->options);
}

/* The number of the option that getopt's result means, or -1. */
static int set_find(const struct option_set *set, int result)
{
	if (result >= LONG_BASE)
		return result - LONG_BASE;
	for (int i = 0; i < set->count; i++)
		if (set->specs[i]->letter && set->specs[i]->letter == result)
			return i;
	return -1;
}

static int parse_progress(struct invocation *invocation, const char *text)
{
	static const char *const words[] = {"auto", "always", "never", "json"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(text, words[i]) == 0) {
			invocation->progress = (enum progress_mode)i;
			return 0;
		}
	}
	return usage_error(invocation, "--progress is auto, always, never or json, not '%s'", text);
}

static int take_common(struct invocation *invocation, const struct option_spec *spec,
		       const char *value)
{
	const struct {
		const char *name;
		bool *flag;
	} flags[] = {
		{"json", &invocation->json},	   {"quiet", &invocation->quiet},
		{"dry-run", &invocation->dry_run}, {"no-header", &invocation->raw},
		{"help", &invocation->help},	   {"version", &invocation->version},
	};

	if (value && value[0] == '\0')
		return usage_error(invocation, "--%s needs a value that is not empty", spec->name);
	if (strcmp(spec->name, "store") == 0)
		invocation->store = value;
	else if (strcmp(spec->name, "workspace") == 0)
		invocation->workspace = value;
	else if (strcmp(spec->name, "verbose") == 0)
		invocation->verbose++;
	else if (strcmp(spec->name, "progress") == 0)
		return parse_progress(invocation, value);
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		if (strcmp(spec->name, flags[i].name) == 0)
			*flags[i].flag = true;
	return 0;
}

static int take_own(struct invocation *invocation, const struct option_spec *spec,
		    const char *value)
{
	struct option_value *values =
		reallocarray(invocation->values, invocation->value_count + 1, sizeof(*values));

	if (!values)
		return failure_memory(invocation);
	values[invocation->value_count++] = (struct option_value){spec, value};
	invocation->values = values;
	return 0;
}

static int refuse(struct invocation *invocation, const struct option_set *set, int result,
		  char *const *argv)
{
	int number = set_find(set, optopt);

	if (result == ':')
		return usage_error(invocation, "--%s needs a value", set->specs[number]->name);
	if (number >= 0 && optopt >= LONG_BASE)
		return usage_error(invocation, "--%s takes no value", set->specs[number]->name);
	if (optopt)
		return usage_error(invocation, "no such option: -%c", optopt);
	return usage_error(invocation, "no such option: %s", argv[optind - 1]);
}

/* One pass of getopt. `mode` "+:" stops at the first word that is no option. */
static int parse_pass(struct invocation *invocation, const char *mode,
		      const struct command *command, int argc, char **argv)
{
	struct option_set set;
	int result;

	set_init(&set, mode, command);
	opterr = 0;
	optind = 0; /* glibc: start anew */
	while ((result = getopt_long(argc, argv, set.shorts, set.longs, NULL)) != -1) {
		int code, number;

		if (result == '?' || result == ':')
			return refuse(invocation, &set, result, argv);
		number = set_find(&set, result);
		code = number < set.common ? take_common(invocation, set.specs[number], optarg)
					   : take_own(invocation, set.specs[number], optarg);
		if (code)
			return code;
	}
	return 0;
}

static int unknown_command(struct invocation *invocation, char *const *words)
{
	const char *suggestion;

	if (command_is_group(words[0]))
		return usage_error(invocation,
				   words[1] ? "no such command: %s %s" : "'%s' needs another word",
				   words[0], words[1]);
	suggestion = command_suggest(words[0]);
	if (suggestion)
		return failure(invocation, SERVICE_USAGE,
			       "no such command: %s\n"
			       "Did you mean '%s'?  'cairn help' lists the commands.",
			       words[0], suggestion);
	return failure(invocation, SERVICE_USAGE,
		       "no such command: %s\n'cairn help' lists the commands.", words[0]);
}

/* What the command does not understand is refused, not ignored: -n above all. */
static int check_fit(struct invocation *invocation)
{
	const struct command *command = invocation->command;
	int count = invocation->argument_count;

	if (invocation->dry_run && !(command->flags & COMMAND_DRY_RUN))
		return usage_error(invocation, "there is no dry run (-n) of it");
	if (invocation->raw && !(command->flags & COMMAND_LISTS))
		return usage_error(invocation, "it lists nothing, so -H has no meaning");
	if (invocation->json && !(command->flags & COMMAND_JSON))
		return usage_error(invocation, "there is no --json form of it");
	if (invocation->json && invocation->raw)
		return usage_error(invocation, "--json and -H exclude each other");
	if (count < command->min_arguments)
		return usage_error(invocation, count == 0 ? "an argument is missing"
							  : "one more argument is needed");
	if (count > command->max_arguments)
		return usage_error(invocation, "one argument too many: '%s'",
				   invocation->arguments[command->max_arguments]);
	return 0;
}

static bool is_value(const struct invocation *invocation, const char *word)
{
	for (size_t i = 0; i < invocation->value_count; i++)
		if (invocation->values[i].value == word)
			return true;
	return word == invocation->store || word == invocation->workspace;
}

/* How many arguments stand behind the first "--" that is no option's value; getopt has moved it to
 * argv[first - 1] if there was one. */
static int count_after_dashes(const struct invocation *invocation, int argc, char **argv, int first,
			      const char *const *original)
{
	if (first < 2 || strcmp(argv[first - 1], "--") != 0)
		return 0;
	for (int i = 1; i < argc; i++)
		if (strcmp(original[i], "--") == 0 && !is_value(invocation, original[i]))
			return argc - 1 - i;
	return 0;
}

static int parse_command(struct invocation *invocation, int argc, char **argv)
{
	const char **original = calloc((size_t)argc + 1, sizeof(*original));
	int code;

	if (!original)
		return failure_memory(invocation);
	memcpy(original, argv, (size_t)argc * sizeof(*original));
	code = parse_pass(invocation, ":", invocation->command, argc, argv);
	invocation->arguments = argv + optind;
	invocation->argument_count = argc - optind;
	if (code == 0)
		invocation->after_dashes =
			count_after_dashes(invocation, argc, argv, optind, original);
	free(original);
	if (code || invocation->help || invocation->version)
		return code;
	return check_fit(invocation);
}

/* Errors in the options before --json shall be told as JSON too. */
static bool json_wanted(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--json") == 0)
			return true;
	return false;
}

int invocation_parse(int argc, char **argv, struct invocation *ret)
{
	int used = 0, first, code;

	memset(ret, 0, sizeof(*ret));
	ret->json = json_wanted(argc, argv);
	code = parse_pass(ret, "+:", NULL, argc, argv);
	if (code)
		return code;
	first = optind;
	if (first >= argc)
		return 0;
	ret->command = command_find(argv + first, &used);
	if (!ret->command && command_is_group(argv[first]) && argv[first + 1] &&
	    (strcmp(argv[first + 1], "--help") == 0 || strcmp(argv[first + 1], "-h") == 0)) {
		ret->help = true;
		ret->arguments = argv + first;
		ret->argument_count = 1;
		return 0;
	}
	if (!ret->command)
		return unknown_command(ret, argv + first);
	/* The command's (last) word takes the place of argv[0]. */
	return parse_command(ret, argc - first - used + 1, argv + first + used - 1);
}

void invocation_release(struct invocation *invocation)
{
	free(invocation->values);
	place_free(invocation->place);
	memset(invocation, 0, sizeof(*invocation));
}

static void assert_option(const struct invocation *invocation, const char *name)
{
	const struct option_spec *spec = invocation->command->options;

	while (spec && spec->name && strcmp(spec->name, name) != 0)
		spec++;
	assert(spec && spec->name);
	(void)spec;
	(void)name;
}

const char *option_next(const struct invocation *invocation, const char *name, size_t *position)
{
	assert_option(invocation, name);
	while (*position < invocation->value_count) {
		const struct option_value *value = &invocation->values[(*position)++];

		if (strcmp(value->option->name, name) == 0)
			return value->value ? value->value : "";
	}
	return NULL;
}

const char *option_value(const struct invocation *invocation, const char *name)
{
	const char *value, *last = NULL;
	size_t position = 0;

	while ((value = option_next(invocation, name, &position)))
		last = value;
	return last;
}

bool option_given(const struct invocation *invocation, const char *name)
{
	return option_value(invocation, name) != NULL;
}
