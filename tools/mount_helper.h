/* How mount(8) and umount(8) call us, and what they share with the commands (cmd_mount.c). */
#ifndef CAIRN_TOOLS_MOUNT_HELPER_H
#define CAIRN_TOOLS_MOUNT_HELPER_H

#include <stdbool.h>

struct invocation;

/*
 * Where `name` (argv[0] without its directory) is that of a helper, runs it and fills in its exit
 * code; false: it is not.
 *
 *   mount.cairn, mount.fuse.cairn     SOURCE MOUNTPOINT [-sfnv] [-o OPTS] [-t TYPE] [-N NAMESPACE]
 *   umount.cairn, umount.fuse.cairn   MOUNTPOINT [-flnrv] [-t TYPE] [-N NAMESPACE]
 */
bool mount_helper(const char *name, int argc, char **argv, int *ret_code);

/* Both return exit codes, after they have told what went wrong. */
int mount_path(struct invocation *invocation, const char *path, const char *options,
	       bool foreground);
int umount_path(struct invocation *invocation, const char *path, bool lazy);

#endif
