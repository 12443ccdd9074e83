/*
 * What is left of a daemon that was killed.
 *
 * A thread that tells the kernel to let go of pages waits, unkillable, until those that are dirty
 * have been written, which only the daemon could do.  Killed then (kill -9, memory short), the
 * daemon stays as a zombie with one thread; that thread keeps /dev/fuse open, so the kernel does
 * not notice that nobody serves, and the store's lock and socket stay, too: whoever touches the
 * mount or asks the daemon waits for ever.  (Calls into the mount itself are made by
 * outside_run(), which has no such remains.)
 *
 * Cutting the mount's connection to the kernel wakes that thread, and all who wait with it.
 */
#ifndef CAIRN_FS_BURY_H
#define CAIRN_FS_BURY_H

#include <stdbool.h>
#include <sys/types.h>

/* Whether the process was killed and a thread of it is still there. */
bool daemon_lingers(pid_t pid);

/*
 * Cuts the connections of all mounts of this store (an absolute, resolved path), whose daemon,
 * `pid`, lingers, and waits until it is gone: 0.  -EBUSY where it stays, mostly because the mount
 * is another user's and this one may not cut it.
 */
int daemon_bury(const char *store, pid_t pid);

/*
 * Starts the process that does so for this store (any path to it) when the calling process, the
 * daemon, is killed.  It sleeps all the time and ends with the daemon.  To be called by the thread
 * that lives as long as the process, before there are others.  Best effort: without it the next
 * command buries.
 */
void daemon_start_guardian(const char *store);

#endif
