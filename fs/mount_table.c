/*
 * What umount(8) knows of our mounts.
 *
 * By itself it returns when the kernel has let go; through its helper (umount.fuse.cairn) it asks
 * the daemon, and returns when everything is durable.  For root it looks for the helper of the
 * kernel's type alone, which is "fuse" for every FUSE file system, unless /run/mount/utab names a
 * helper for the mount.  That file is libmount's own: mount(8) writes it for us, where it is told
 * to do all but the mounting.  Without an entry nothing is lost but the waiting.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/mount_internal.h"
#include "fs/mountinfo.h"

extern char **environ;

int program_run(char *const arguments[])
{
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
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

/* An entry for the place was left by a daemon that died, or by who unmounts with the system call:
 * it does as well, and a second one would stay for ever. */
static bool is_registered(const char *mountpoint)
{
	char *line = NULL;
	size_t size = 0;
	bool found = false;

	FILE *stream = fopen("/run/mount/utab", "re");
	while (stream && !found && getline(&line, &size, stream) > 0) {
		char *target = strstr(line, " TARGET=");
		if (!target)
			continue;
		target += strlen(" TARGET=");
		target[strcspn(target, " \n")] = '\0';
		mountinfo_unescape(target);
		found = strcmp(target, mountpoint) == 0;
	}
	if (stream)
		fclose(stream);
	free(line);
	return found;
}

void mount_register(struct mount *mount, const char *source)
{
	char *const arguments[] = {(char *)"mount",   (char *)"-i",
				   (char *)"--fake",  (char *)"--no-canonicalize",
				   (char *)"-t",      (char *)"fuse.cairn",
				   (char *)"-o",      (char *)"uhelper=fuse.cairn",
				   (char *)"--",      (char *)source,
				   mount->mountpoint, NULL};

	if (geteuid() == 0 && (is_registered(mount->mountpoint) || program_run(arguments) == 0))
		atomic_store(&mount->registered, true);
}

void mount_unregister(struct mount *mount)
{
	char *const arguments[] = {(char *)"umount",
				   (char *)"-i",
				   (char *)"--fake",
				   (char *)"--no-canonicalize",
				   (char *)"--",
				   mount->mountpoint,
				   NULL};

	if (atomic_exchange(&mount->registered, false))
		(void)program_run(arguments);
}
