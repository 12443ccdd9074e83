/* Steps of a rehearsal: `cairn step NAME` notes where each begins, in a file of lines
 * "NANOSECONDS NAME" (CLOCK_MONOTONIC). */
#ifndef CAIRN_TOOLS_STEPS_H
#define CAIRN_TOOLS_STEPS_H

#include <jansson.h>

#include "tools/child.h"

#define STEPS_VARIABLE "CAIRN_STEPS"

/* [{"name", "elapsed_ns", "exit_status"}]: each ends where the next begins, the last with the run,
 * whose exit status it has. NULL: no memory. */
json_t *steps_read(const char *file, const struct child_result *run);

#endif
