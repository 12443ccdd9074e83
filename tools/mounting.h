/* Mounting and unmounting without a word about it, for commands that mount on their own
 * (cmd_mount.c). */
#ifndef CAIRN_TOOLS_MOUNTING_H
#define CAIRN_TOOLS_MOUNTING_H

#include <jansson.h>
#include <stdbool.h>

struct invocation;

/*
 * Hands a mount request to the daemon of the store, or to a new one; waits where the store is in
 * use for a moment (only that is told).  The result as the service gives it; NULL: no memory.
 */
json_t *mount_background(struct invocation *invocation, const char *store, const json_t *object);

/* Asks the daemon to unmount: 0 with its result (owned, an error maybe), or why there is none. */
int umount_live(struct invocation *invocation, const char *store, const char *mountpoint, bool lazy,
		json_t **ret_result);

/* A mount whose daemon is gone. */
bool mount_is_dead(const char *mountpoint);
/* Takes such a one away. */
int mount_take_away(const char *mountpoint, bool lazy);

#endif
