/*
 * Shell commands of the user: what to do around a freeze, and what tells where a neighbour stands.
 *
 * They run as the caller, by /bin/sh -c, in the current directory.  The text of a command is what
 * the user wrote: nothing is ever put into it.  What it is about is in its environment:
 * CAIRN_STORE, CAIRN_WORKSPACE, CAIRN_POINT, and CAIRN_MOUNTPOINT where the workspace is mounted.
 *
 * From shell_begin() to shell_end() signals that ask us to end (SIGINT, SIGTERM, SIGHUP, SIGQUIT)
 * reach the command that runs, and us only afterwards: what was begun by one command can
 * be ended by another.
 */
#ifndef CAIRN_TOOLS_SHELL_H
#define CAIRN_TOOLS_SHELL_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

struct invocation;

struct shell {
	unsigned limit; /* seconds that a command may take, 0: any; may be changed meanwhile */
	sigset_t mask;	/* as it was before */
	int signals;	/* a signalfd */
	int caught;	/* a signal that asked us to end, 0: none */
};

/*
 * Sets the environment.  `workspace` NULL: the one that is meant where none is named.  Returns an
 * exit code; shell_end() only where it is 0.
 */
int shell_begin(struct shell *shell, struct invocation *invocation, const char *workspace,
		const char *point);
/* A signal that was caught is raised again. */
void shell_end(struct shell *shell);

enum shell_output {
	SHELL_TALK,   /* what the command prints goes to stderr */
	SHELL_ANSWER, /* stdout is what we want to know */
};

enum { SHELL_ANSWER_MAX = 4096 };

struct shell_result {
	int status; /* as $?: 128 + the signal that ended it */
	bool timed_out;
	uint64_t elapsed_ns;
	char *answer;	       /* owned; without newlines at its end */
	const char *complaint; /* static: why the answer is none; NULL: it is one */
};

/*
 * Runs a command and waits for it.  With a limit, or for an answer, it has no input and is a
 * process group of its own, which is ended when the time is over; else it is as if the user had
 * typed it.  0 or negative errno (could not be started).
 */
int shell_run(struct shell *shell, const char *command, enum shell_output output,
	      struct shell_result *ret);
void shell_result_release(struct shell_result *result);

/* "ended with exit code 3", "did not end within 30 seconds", "printed nothing" …; malloc'ed, NULL
 * without memory.  `error` is what shell_run() returned. "" where all went well. */
char *shell_trouble(const struct shell *shell, int error, const struct shell_result *result);

/* The option --time-limit of the invocation, else `otherwise`. 0, or 2 after it has told. */
int shell_parse_limit(const struct invocation *invocation, unsigned otherwise, unsigned *ret);

#endif
