/* Starting the daemon of a store in the background. */
#ifndef CAIRN_TOOLS_DAEMONIZE_H
#define CAIRN_TOOLS_DAEMONIZE_H

#include <jansson.h>

/*
 * Forks a daemon (its own session, working directory /, no descriptor of ours) that serves `store`
 * and carries out `first`, a mount request.  Returns when that is done, with its result; NULL:
 * no memory.  A daemon that ends before it has answered is a "failed" result.
 */
json_t *daemonize(const char *store, const json_t *first);

#endif
