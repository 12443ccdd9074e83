/* What the files of the daemon share (internal to fs/). */
#ifndef CAIRN_FS_DAEMON_INTERNAL_H
#define CAIRN_FS_DAEMON_INTERNAL_H

#include "fs/service_internal.h"

/* Connects or binds to STORE/control.sock, however long the path is. */
int control_socket_connect(int fd, const char *store);
int control_socket_bind(int fd, const char *store);
#define CONTROL_SOCKET_NAME "control.sock"

/*
 * Connections of clients (daemon_connection.c): a thread each.  Only the main thread calls these.
 * `wake` is an eventfd that is written to whenever a connection has ended.
 */
struct connections;
struct connections *connections_new(struct service *service, int wake);
/* Takes in whoever waits at the listening socket, which does not block. */
void connections_accept(struct connections *connections, int listener);
/* Joins the threads of those that have ended. */
void connections_reap(struct connections *connections);
/* Lets requests come to their end, cancels what can be cancelled, and joins all threads. */
void connections_end(struct connections *connections);
/* Closes what was kept open for those that wait for the daemon's end.  NULL is fine. */
struct connections *connections_free(struct connections *connections);

/* A condition for waits by the monotonic clock, as service_clock() tells it. */
int daemon_init_wake(pthread_cond_t *wake);

/* Commits by itself (committer.c): a thread that looks a few times a second. */
struct committer;
int committer_start(struct service *service, struct committer **ret);
struct committer *committer_stop(struct committer *committer); /* NULL is fine */

#endif
