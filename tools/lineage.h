/* The line of points from one to another along the parents. */
#ifndef CAIRN_TOOLS_LINEAGE_H
#define CAIRN_TOOLS_LINEAGE_H

#include <jansson.h>

struct invocation;

/*
 * Points as JSON, from `good` to `bad`, both included.  Looks into other workspaces where the line
 * began in one of them (a clone).  Returns 0, or an exit code after it has told what is wrong and
 * what to do: good may be no ancestor of bad.
 */
int lineage_find(struct invocation *invocation, const json_t *good, const json_t *bad,
		 json_t **ret_line);

/* NAME, or WORKSPACE@NAME where that is not `workspace`. malloc'ed, NULL without memory. */
char *point_spec(const json_t *point, const char *workspace);

#endif
