/*
 * A mounted workspace.
 *
 * One thread reads requests and answers by itself everything that does not wait: look-ups,
 * attributes, directories, creating, renaming, unlinking, taking in writes, reads from memory. What
 * waits (reads from packs, fsync, writes over the memory budget, fallocate of long ranges) goes
 * to the engine's workers or to the mount's sync thread.
 */
#ifndef CAIRN_FS_MOUNT_H
#define CAIRN_FS_MOUNT_H

#include <stdbool.h>
#include <stddef.h>

#include "fs/data.h"
#include "snapshot/diff.h"
#include "snapshot/point.h"
#include "snapshot/repo.h"

struct mount;

struct mount_options {
	const char *mountpoint; /* an existing directory; made absolute inside */
	const char *workspace;
	const char
		*fuse_options; /* the -o list of the command line, may be NULL: ro, allow_other,
				  allow_root, default_permissions (always on), noatime, dev, suid,
				  nodev, nosuid, noexec, fsname=…, subtype=…; unknown: -EINVAL */
};

/* Mounts and starts serving; returns once the mount is usable. Errors come with a message that
 * says what to do (not a directory, not empty is fine, already mounted, no /dev/fuse, no
 * fusermount3, allow_other without user_allow_other …). */
int mount_start(struct repo *repo, struct engine *engine, const struct mount_options *options,
		struct mount **ret, struct errbuf *err);

/* Makes everything durable, unmounts, and waits until the kernel has let go.  -EBUSY with the
 * processes that use it named, unless `lazy`: then they have two seconds to leave and are cut off
 * (-ENOTCONN).  After success mount_free() it. */
int mount_stop(struct mount *mount, bool lazy, struct errbuf *err);
/* True once the kernel has let go (also by umount(8) or fusermount3 -u); everything is durable. */
bool mount_has_ended(struct mount *mount);
/* `ended` is called once from the mount's own thread when that happens. */
void mount_on_end(struct mount *mount, void (*ended)(void *context), void *context);
struct mount *mount_free(struct mount *mount); /* joins its threads; must have ended */

const char *mount_point(const struct mount *mount);
const char *mount_workspace(const struct mount *mount);
struct head *mount_head(struct mount *mount);
const char *mount_fuse_options(const struct mount *mount);

/* I7: everything that a process wrote before the call (also through mmap) is in the daemon. */
int mount_barrier(struct mount *mount, struct errbuf *err);

int mount_freeze(struct mount *mount, const struct freeze_options *options, struct point *ret,
		 bool *ret_made, struct errbuf *err);

/* A process that has something open for writing below the mount. */
struct mount_user {
	int pid;
	char command[64];
	char *path; /* owned */
};

/* Who has files open for writing now, sorted by pid (the same list that mount_restore() refuses
 * with): malloc'ed, free with mount_users_free(). */
int mount_users(struct mount *mount, struct mount_user **ret, size_t *ret_count);
void mount_users_free(struct mount_user *users, size_t count);

struct mount_restore_result {
	struct restore_result restore;
	struct diff_summary changed;
};
/* -EBUSY where files are open for writing and not `force`: the message names the processes
 * (at most ten, then how many more) and says what to do.  With `force` their handles answer ESTALE
 * from here on and nothing that they write later reaches the restored state.  So do handles for
 * reading on files that the restore changed (the kernel would go on with the old size and times:
 * mount_internal.h); those on other files and on directories stay good. */
int mount_restore(struct mount *mount, const struct point *target, const char *by, bool force,
		  struct mount_restore_result *ret, struct errbuf *err);
void mount_restore_result_release(struct mount_restore_result *result);

/* Points came, went or were renamed: `.snapshots` must not show stale names. */
void mount_points_changed(struct mount *mount);

struct mount_statistics {
	uint64_t open_files, open_for_writing, hot_inodes, known_inodes, dirty_bytes;
};
void mount_statistics(struct mount *mount, struct mount_statistics *ret);

#endif
