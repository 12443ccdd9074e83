/* Taking a mount out of the name space, politely and otherwise. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/mount_internal.h"

enum { BUSY_TRIES = 3, END_TRIES = 100, TRY_WAIT_US = 20 * 1000, BUSY_WAIT_US = 150 * 1000 };

/* Ordinary users may unmount through fusermount3 only. -EBUSY for any failure of it. */
static int run_fusermount(char *mountpoint, bool lazy)
{
	char *const arguments[] = {(char *)"fusermount3", (char *)(lazy ? "-uqz" : "-uq"),
				   (char *)"--", mountpoint, NULL};

	int error = program_run(arguments);
	return error == -EIO ? -EBUSY : error;
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

static int refuse_busy(struct mount *mount, const char *text, struct errbuf *err)
{
	return err_set(err, -EBUSY, "%s is in use%s%s; leave it, or use --lazy", mount->mountpoint,
		       text ? ": " : " (by a process that cannot be seen from here)",
		       text ? text : "");
}

/* The processes that use the mount, as text (owned by the caller); NULL: none is to be seen. */
static char *describe_users(struct mount *mount)
{
	struct mount_user *users;
	char *text = NULL;
	size_t count;

	if (users_find(mount->device, true, &users, &count))
		return NULL;
	if (count)
		text = users_describe(users, count);
	mount_users_free(users, count);
	return text;
}

/* True once the kernel has let go, within the time of `tries`. */
static bool has_ended_soon(struct mount *mount, int tries)
{
	for (int i = 0; i < tries && !mount_is_ending(mount); i++)
		usleep(TRY_WAIT_US);
	return mount_is_ending(mount);
}

/*
 * The kernel refuses only where processes of our mount name space use it; those of others, such as
 * a container's, are looked for.  The kernel's last references go a moment after close(2).
 */
static int unmount_politely(struct mount *mount, struct errbuf *err)
{
	char *users = describe_users(mount);
	int error = users ? -EBUSY : unmount_once(mount, 0);

	for (int i = 0; error == -EBUSY && i < BUSY_TRIES; i++) {
		usleep(BUSY_WAIT_US);
		free(users);
		users = describe_users(mount);
		error = users ? -EBUSY : unmount_once(mount, 0);
	}
	if (error == -EBUSY)
		refuse_busy(mount, users, err);
	free(users);
	return error;
}

static int unmount_lazily(struct mount *mount, struct errbuf *err)
{
	int error = mount_detach(mount);

	if (error)
		return err_set(err, error, "cannot unmount %s: %s", mount->mountpoint,
			       strerror(-error));
	return 0;
}

/* A restore or freeze under way needs the kernel's requests answered; later ones are refused, or
 * do without the kernel. */
static void cut_off(struct mount *mount)
{
	pthread_mutex_lock(&mount->restore_lock);
	pthread_mutex_lock(&mount->still_lock);
	dispatch_cut(mount);
	pthread_mutex_unlock(&mount->still_lock);
	pthread_mutex_unlock(&mount->restore_lock);
}

/*
 * Out of our name space.  Users that a lazy unmount leaves behind, and copies in other mount name
 * spaces, have a moment to go, then they are cut off; everything that was written before is
 * durable.
 */
static int unmount(struct mount *mount, bool lazy, struct errbuf *err)
{
	if (is_covered(mount))
		return err_set(err, -EBUSY,
			       "another file system is mounted over %s: unmount that first",
			       mount->mountpoint);
	int error = lazy ? unmount_once(mount, 0) : unmount_politely(mount, err);
	if (error == -EBUSY && lazy)
		error = unmount_lazily(mount, err);
	if (error && !mount_is_ending(mount))
		return err->text[0] ? error
				    : err_set(err, error, "cannot unmount %s: %s",
					      mount->mountpoint, strerror(-error));
	mount_unregister(mount);
	if (!has_ended_soon(mount, END_TRIES)) {
		log_line(LOG_LEVEL_WARNING, "%s: cut off from those who still have it",
			 mount->mountpoint);
		cut_off(mount);
	}
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
