/*
 * Commands are rows of one table; option parsing and every help text are made from it.
 *
 * A command's function gets the parsed invocation and returns an exit code, after it has told
 * what went wrong (tools/failure.h).  Names with a space ("workspace list") are commands of a
 * group.
 */
#ifndef CAIRN_TOOLS_COMMAND_H
#define CAIRN_TOOLS_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

struct invocation;
struct place;

struct option_spec {
	const char *name;  /* long name; NULL ends a table */
	char letter;	   /* 0: none */
	const char *value; /* what its value is called in help, "[=NAME]" where it may be left out;
			      NULL: it takes none */
	const char *help;
};

enum command_flags {
	COMMAND_JSON = 1 << 0,	  /* has a result for --json */
	COMMAND_LISTS = 1 << 1,	  /* understands -H */
	COMMAND_DRY_RUN = 1 << 2, /* understands -n */
};

enum { ANY_NUMBER = 1000000 };

struct command {
	const char *name;
	int (*run)(struct invocation *invocation);
	const char *group;   /* heading in the overview */
	const char *summary; /* one line */
	const char *usage;   /* lines, without "cairn " in front */
	const char *details; /* more paragraphs for the command's own help; may be NULL */
	const struct option_spec *options; /* may be NULL */
	unsigned flags;
	int min_arguments, max_arguments;
};

extern const struct command commands[]; /* ends with a NULL name */
extern const struct option_spec common_options[];

/* Finds a command by its words: 1 or 2 of `words` (NULL-terminated) are used. NULL: none. */
const struct command *command_find(char *const *words, int *ret_used);
/* Is there a group of this name ("workspace")? */
bool command_is_group(const char *name);
/* The command or group whose name is closest to a mistyped one; NULL where none is close. */
const char *command_suggest(const char *word);

enum progress_mode { PROGRESS_AUTO, PROGRESS_ALWAYS, PROGRESS_NEVER, PROGRESS_JSON };

struct option_value {
	const struct option_spec *option;
	const char *value; /* NULL for an option without */
};

struct invocation {
	const struct command *command; /* NULL: none was named */
	char **arguments;	       /* borrowed from argv */
	int argument_count;
	int after_dashes; /* how many of the arguments stood behind "--" */

	struct option_value *values; /* owned; options of the command only */
	size_t value_count;

	const char *store, *workspace; /* of -s and -w; NULL: not given */
	bool json, quiet, raw, dry_run, help, version;
	int verbose;
	enum progress_mode progress;

	struct place *place; /* owned; tools/place.h */
};

/* Fills `ret` from the command line.  Returns 0, or 2 after it has told what is wrong.
 * invocation_release() in any case. */
int invocation_parse(int argc, char **argv, struct invocation *ret);
void invocation_release(struct invocation *invocation);

/* Of the command's own options.  `name` must be in its table. */
bool option_given(const struct invocation *invocation, const char *name);
const char *option_value(const struct invocation *invocation, const char *name); /* the last */
/* Each value in turn: start with *position 0; NULL at the end. */
const char *option_next(const struct invocation *invocation, const char *name, size_t *position);

/* Help, on stdout. */
void help_overview(void);
void help_command(const struct command *command);
void help_group(const char *name);

#endif
