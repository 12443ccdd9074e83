/* Lines of /proc/PID/mountinfo (internal to fs/). */
#ifndef CAIRN_FS_MOUNTINFO_H
#define CAIRN_FS_MOUNTINFO_H

#include <stddef.h>
#include <sys/types.h>

/* The kernel writes blanks, tabs, newlines, backslashes and '#' as \ooo.  In place. */
void mountinfo_unescape(char *text);

/* Calls `visit` for each mount of this store (an absolute, resolved path) that this process sees,
 * with the minor number of its device, by which the kernel names its connection.  A non-zero
 * result ends it and is returned. */
int mounts_of_store(const char *store,
		    int (*visit)(const char *mountpoint, unsigned device, void *context),
		    void *context);

/* A place at which a file system is mounted: as a whole, or a directory of it (a bind mount). */
struct mount_place {
	int id;	     /* unique on the machine, as in /proc/PID/fdinfo */
	char *root;  /* owned: the directory, without a slash at the end; "" is the whole */
	char *point; /* owned: where, as its process sees it; likewise */
};

struct mount_places {
	struct mount_place *list; /* owned */
	size_t count;
};

/* Adds those of the device that the process sees.  A process that has ended adds nothing. */
int mount_places_add(struct mount_places *places, int pid, dev_t device);
void mount_places_release(struct mount_places *places);
const struct mount_place *mount_places_find(const struct mount_places *places, int id);

#endif
