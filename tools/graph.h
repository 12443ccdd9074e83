/* log --graph: the history of a workspace as a tree, for people. */
#ifndef CAIRN_TOOLS_GRAPH_H
#define CAIRN_TOOLS_GRAPH_H

#include <jansson.h>

struct invocation;

/*
 * What a graph is made of, all in the form of fs/PROTOCOL.md.  `points` are to be drawn, oldest
 * first; `all` (of all workspaces, brief) tells how those that are left out connect them, and which
 * workspaces were cloned from them; `workspaces` where the heads are.
 */
struct graph_input {
	const json_t *points, *all, *workspaces;
};

/* Returns an exit code. */
int graph_print(const struct invocation *invocation, const struct graph_input *input);

#endif
