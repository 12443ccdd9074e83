/* What restore and carry have in common: paths as arguments, and what they tell of the point that
 * was kept and of processes in the way. */
#ifndef CAIRN_TOOLS_REVISING_H
#define CAIRN_TOOLS_REVISING_H

#include <jansson.h>
#include <stdio.h>

struct call;
struct invocation;

/* The arguments from `first` on, as "paths".  Returns an exit code. */
int add_path_arguments(struct call *call, int first);

/* "3 added, 0 removed, 1 modified", without a newline. */
void print_changed(const json_t *result);
/* Which point holds the state until now, and the command that goes back to it. */
void print_kept(const struct invocation *invocation, const json_t *result);
/* The same of a dry run, and which processes would be in the way. */
void print_would_keep(const json_t *result);
void print_would_block(const struct invocation *invocation, const json_t *result);

#endif
