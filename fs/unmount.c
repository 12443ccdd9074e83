/* Taking a mount out of the name space, politely and otherwise. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/mount_internal.h"

enum { BUSY_TRIES = 25, LAZY_TRIES = 100, TRY_WAIT_US = 20 * 1000 };

extern char **environ;

/* Ordinary users may unmount through fusermount3 only. -EBUSY for any failure of it. */
static int run_fusermount(const char *mountpoint, bool lazy)
{
	char *const arguments[] = {(char *)"fusermount3", (char *)(lazy ? "-uqz" : "-uq"),
				   (char *)"--", (char *)mountpoint, NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none;
	pid_t pid;
	int status;

	sigemptyset(&none);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	int error = posix_spawnp(&pid, arguments[0], &actions, &attributes, arguments, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	if (error)
		return -error;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EBUSY;
}

static int unmount_once(struct mount *mount, int flags)
{
	if (geteuid() == 0)
		return umount2(mount->mountpoint, flags) ? -errno : 0;
	return run_fusermount(mount->mountpoint, flags & MNT_DETACH);
}

int mount_detach(struct mount *mount)
{
	return unmount_once(mount, MNT_DETACH);
}

static bool is_covered(const struct mount *mount)
{
	struct stat stat_buffer;

	return stat(mount->mountpoint, &stat_buffer) == 0 && stat_buffer.st_dev != mount->device;
}

static int refuse_busy(struct mount *mount, struct errbuf *err)
{
	struct mount_user *users;
	char *text = NULL;
	size_t count;

	if (!users_find(mount->mountpoint, mount->device, true, &users, &count)) {
		text = count ? users_describe(users, count) : NULL;
		mount_users_free(users, count);
	}
	err_set(err, -EBUSY, "%s is in use%s%s; leave it, or use --lazy", mount->mountpoint,
		text ? ": " : " (by a process that cannot be seen from here)", text ? text : "");
	free(text);
	return -EBUSY;
}

/* The kernel's last references go a moment after close(2). */
static int unmount_politely(struct mount *mount)
{
	int error = unmount_once(mount, 0);

	for (int i = 0; error == -EBUSY && i < BUSY_TRIES; i++) {
		usleep(TRY_WAIT_US);
		error = unmount_once(mount, 0);
	}
	return error;
}

/* Users have a moment to leave after it is gone from the name space, then they are cut off;
 * everything that they had written before is durable. */
static int unmount_lazily(struct mount *mount, struct errbuf *err)
{
	int error = mount_detach(mount);

	if (error)
		return err_set(err, error, "cannot unmount %s: %s", mount->mountpoint,
			       strerror(-error));
	for (int i = 0; i < LAZY_TRIES; i++) {
		if (mount_has_ended(mount))
			return 0;
		usleep(TRY_WAIT_US);
	}
	dispatch_cut(mount);
	return 0;
}

static int unmount(struct mount *mount, bool lazy, struct errbuf *err)
{
	if (is_covered(mount))
		return err_set(err, -EBUSY,
			       "another file system is mounted over %s: unmount that first",
			       mount->mountpoint);
	int error = unmount_politely(mount);
	if (error == -EBUSY)
		return lazy ? unmount_lazily(mount, err) : refuse_busy(mount, err);
	if (error && !mount_has_ended(mount))
		return err_set(err, error, "cannot unmount %s: %s", mount->mountpoint,
			       strerror(-error));
	return 0;
}

int mount_stop(struct mount *mount, bool lazy, struct errbuf *err)
{
	if (!mount_has_ended(mount)) {
		int error = mount_barrier(mount, err);
		if (error && !lazy)
			return error;
		error = repo_commit(mount->repo);
		if (error)
			return err_set(err, error,
				       "%s: what was written cannot be made durable: %s",
				       mount->mountpoint, strerror(fs_errno(error)));
		error = unmount(mount, lazy, err);
		if (error)
			return error;
		mount_wait_end(mount);
	}
	return 0;
}
