/*
 * Running a command of the user's, and living through signals: what was made for it has to be taken
 * away again whatever happens.
 *
 *   signals_catch();
 *   …make things…
 *   if (!signals_caught())
 *           error = child_run(&child, &result);
 *   …take them away…
 */
#ifndef CAIRN_TOOLS_CHILD_H
#define CAIRN_TOOLS_CHILD_H

#include <stdbool.h>
#include <stdint.h>

/* From now on SIGINT, SIGTERM, SIGHUP and SIGQUIT (unless they were ignored) do not end this
 * process: they are noted, and handed to the child.  SIGPIPE is ignored. */
void signals_catch(void);
int signals_caught(void); /* the first of them; 0: none */

struct child_variable {
	const char *name, *value; /* value NULL: is taken out of the environment */
};

struct child {
	char *const *arguments; /* NULL-terminated; looked up in $PATH */
	const char *directory;	/* where it runs */
	const struct child_variable *environment;
	int variable_count;
	bool stdout_to_stderr;
};

struct child_result {
	int status; /* as a shell has it: 127 not found, 126 not executable, 128 + signal */
	int signal; /* that ended it; 0: none */
	uint64_t started_ns, ended_ns; /* CLOCK_MONOTONIC */
};

/* Waits for it.  It is sent SIGTERM where this process dies.  Negative errno where it could not be
 * started at all, for example in a directory that is not there; -EINTR: a signal came before. */
int child_run(const struct child *child, struct child_result *ret);

uint64_t monotonic_ns(void);

#endif
