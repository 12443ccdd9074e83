/*
 * Telling what went wrong: one clear line on stderr (and what may help below it), or with --json
 * {"error": {"code", "message", "detail"}} on stdout.  All of these return the exit code.
 */
#ifndef CAIRN_TOOLS_FAILURE_H
#define CAIRN_TOOLS_FAILURE_H

#include <jansson.h>

#include "fs/service.h"

struct invocation;

/* The first line of the message is the message, what follows is detail. */
int failure(const struct invocation *invocation, enum service_code code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
int failure_memory(const struct invocation *invocation);
/* Wrong usage of a command: the message and where to read about it. */
int usage_error(const struct invocation *invocation, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* Tells the error of a service's result; NULL: no memory. */
int failure_result(const struct invocation *invocation, const json_t *result);
/* The same where something was checked: what was found ("findings" in the error's detail) is the
 * result, a line each on stdout. */
int failure_findings(const struct invocation *invocation, const json_t *result);
/* Tells a negative errno of a function that filled `message` (may be empty). */
int failure_errno(const struct invocation *invocation, int error, const char *message);

/* Talk on stderr, a line: not with -q. `warning` always. */
void talk(const struct invocation *invocation, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void warning(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
