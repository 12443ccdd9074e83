/*
 * Anchors: where the neighbours of a workspace stood when a point was made (a database, an
 * interface, the code), and where they stand now.  Those that a command told can be asked again.
 */
#ifndef CAIRN_TOOLS_ANCHORS_H
#define CAIRN_TOOLS_ANCHORS_H

#include <jansson.h>

struct call;
struct invocation;
struct shell;

/* For a freeze: adds --anchor and --anchor-cmd to the request.  Returns an exit code. */
int anchors_add(struct call *call);
/* Then runs the commands, and adds the values that they tell.  Returns an exit code: where one
 * tells none this was told, and there must be no freeze. */
int anchors_ask(struct call *call, struct shell *shell);

/*
 * For a restore (and its -n), before it: asks the anchors of the point that the first argument
 * names again.  Gives [{"name", "then", "now", "command", "differs", "error"?}]: `now`, `command`
 * and `differs` are null where an anchor was given by hand; where it could not be asked
 * (--no-anchors; the store of another user; a failing command) `error` says why and `now` and
 * `differs` are null. They inform, and stop nothing: where the point cannot be found the list is
 * empty, and the restore itself will tell.  Returns an exit code.  What was caught meanwhile
 * (Ctrl-C) ends us.
 */
int anchors_compare(struct invocation *invocation, json_t **ret);

/* The same for people, a line an anchor, on stdout. */
void anchors_print(const json_t *anchors);

#endif
