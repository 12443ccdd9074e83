/* The history of a workspace drawn as a tree, newest first. */
#ifndef CAIRN_TOOLS_GRAPH_H
#define CAIRN_TOOLS_GRAPH_H

#include <jansson.h>

struct invocation;

/* `points`: an array as `log` gives it, newest first.  Returns an exit code. */
int graph_print(const struct invocation *invocation, const json_t *points);

#endif
