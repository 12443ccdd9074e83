/* Where a command works: which store, which workspace, and where in it the caller stands. */
#ifndef CAIRN_TOOLS_PLACE_H
#define CAIRN_TOOLS_PLACE_H

struct invocation;

struct place {
	char *store;	  /* absolute */
	char *workspace;  /* NULL: the service decides (the only one, else main) */
	char *mountpoint; /* of the cairn mount of this store that the current directory lies in */
	char *directory;  /* the current directory, where there is a mountpoint */
};

/*
 * --store, $CAIRN_STORE, the mount that the current directory lies in, the default place; and
 * likewise the workspace.  Found once, kept in the invocation.  NULL: told, exit code 1.
 */
const struct place *place_get(struct invocation *invocation);
void place_free(struct place *place);

/* Absolute without looking (also for paths below dead mounts): the current directory in front,
 * "." and ".." and double slashes resolved.  malloc'ed; NULL without memory. */
char *path_absolute(const char *path);
/* The same with symbolic links resolved as far as the path exists. */
char *path_real(const char *path);

/*
 * A path in a workspace as people give it, relative to the workspace's root.  "./x" and "../x" are
 * meant from the current directory where that lies in the mount, and an absolute path below the
 * mount point is understood.  malloc'ed; NULL without memory.
 */
char *path_in_workspace(const struct place *place, const char *path);

#endif
