/*
 * A mounted workspace.
 *
 * One thread reads requests (where the kernel offers it one a processor gets them through io_uring:
 * ring.h) and answers by itself everything that does not wait: look-ups,
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
				  allow_root, workspace=NAME (must be the one above), noatime, noxattr,
				  io_uring=auto|on|off, dev, suid and the like (mount_options.c); unknown or refused: -EINVAL */
};

/* 0, or -EINVAL with a message that names the option. */
int mount_options_check(const char *fuse_options, struct errbuf *err);

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
/* True from when the kernel has let go: mount_has_ended() soon follows. */
bool mount_is_ending(struct mount *mount);
void mount_wait_end(struct mount *mount); /* until mount_has_ended() */
/* `ended` is called once from the mount's own thread when that happens. */
void mount_on_end(struct mount *mount, void (*ended)(void *context), void *context);
struct mount *mount_free(struct mount *mount); /* joins its threads; must have ended */

const char *mount_point(const struct mount *mount);
const char *mount_workspace(const struct mount *mount);
struct head *mount_head(struct mount *mount);
const char *mount_fuse_options(const struct mount *mount);
const char *mount_transport(const struct mount *mount); /* "io_uring" or "dev_fuse" */

/* Files that were written here and there since they were asked for last: see fs/scattered.h. */
size_t mount_take_scattered(struct mount *mount, uint64_t *ret, size_t capacity, bool *ret_many);

/* I7: everything that a process wrote before the call (also through mmap) is in the daemon.  Of
 * what it writes during the call anything may be. */
int mount_barrier(struct mount *mount, struct errbuf *err);

/* One moment: beside all that I7 asks for, the point has of what each process writes meanwhile
 * with write(2) and its kin a prefix in its own order, over all its files (coherence.c says how).
 * Stores through shared mappings are seen if made before the call; those made during it may be
 * seen page by page. */
int mount_freeze(struct mount *mount, const struct freeze_options *options, struct point *ret,
		 bool *ret_made, struct errbuf *err);
/* A new workspace that is as this one is now: the same moment as that of a freeze. */
int mount_clone(struct mount *mount, const char *name, const char *by, struct errbuf *err);

/* A process that has something open for writing below the mount. */
struct mount_user {
	int pid;
	char command[64];
	char user[64]; /* by name, or as a number */
	char *path;    /* owned: from the workspace's root, where that can be told */
	uint64_t ino;  /* of the file, 0: not known */
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
 * (at most ten, then how many more) and says what to do; `ret_users` gets them all, to be freed
 * with mount_users_free() (NULL, 0 where there are none, and after any other result).
 *
 * With `force` their handles answer ESTALE from here on, whether their file changed or not, and
 * nothing that they write later reaches the restored state.  What their write(2) had returned for
 * is in the safety point, save the last one of a thread that was in it when the restore came.
 *
 * What processes see that go on:
 *
 *   handles and mappings for reading,    as if nothing had happened
 *     the file is the same
 *   the same, the file changed           read(2) and all else: ESTALE; mappings: SIGBUS where they
 *                                        are touched (what a private one has changed is its own).
 *                                        Never a mixture: the kernel would go on with the old size
 *                                        and times (mount_internal.h).  A program that runs from
 *                                        such a file ends so, too; opening the path anew is right
 *   directories, open or worked in       the restored entries, also in a half-read stream (what
 *                                        is there at both states is told once); renamed ones
 *                                        are at their restored place; removed ones are as
 *                                        after rmdir(2), and stay so if a later restore brings the
 *                                        directory back: its path leads to it
 *   fifos, sockets, devices              as after rename(2) or unlink(2)
 *   bind mounts inside                   stay where the name is the same at both states, and for a
 *                                        file also its contents; else they are taken away, as
 *                                        rmdir(2) does
 *   inotify, fanotify, dnotify           no events for what a restore changes, as on a network
 *                                        file system: the kernel tells of what its own
 *                                        processes do, never of something that did not happen
 *   advisory locks                       belong to the kernel's inode: a changed file has none
 */
int mount_restore(struct mount *mount, const struct point *target, const char *by, bool force,
		  struct mount_restore_result *ret, struct mount_user **ret_users,
		  size_t *ret_user_count, struct errbuf *err);
void mount_restore_result_release(struct mount_restore_result *result);

/*
 * A change of some files from below (snapshot/revise.h): carry, restore of paths.
 *
 * As mount_restore(), but only files that it changes can be in the way; with `force` only their
 * handles answer ESTALE.  All others go on, those being written too: for the moment that a freeze
 * takes they may have to wait, as in mount_freeze(), whose promise holds for the kept point and
 * for what the revision gets to see.
 *
 * `run` calls head_revise() (by way of point_carry() and the like) with mount_guard_may_change() and
 * `guard` as its may_change.  It may be called several times, and must drop what it has from
 * before.  On a dry run nothing is in the way: `ret_users` tells who would be.
 */
struct mount_guard;
int mount_guard_may_change(uint64_t ino, struct mount_guard *guard);

struct mount_revision {
	int (*run)(struct head *head, struct mount_guard *guard, void *context, struct errbuf *err);
	void *context;
	bool force, dry_run;
};
int mount_revise(struct mount *mount, const struct mount_revision *revision,
		 struct mount_user **ret_users, size_t *ret_user_count, struct errbuf *err);

/* Points came, went or were renamed: `.snapshots` must not show stale names. */
void mount_points_changed(struct mount *mount);

struct mount_statistics {
	uint64_t open_files, open_for_writing, hot_inodes, known_inodes, dirty_bytes;
};
void mount_statistics(struct mount *mount, struct mount_statistics *ret);

#endif
