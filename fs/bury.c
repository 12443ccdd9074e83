#include "fs/bury.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "fs/mountinfo.h"
#include "fs/service.h"

enum {
	GONE_TRIES = 250, /* until the threads that were woken have ended */
	GONE_WAIT_US = 20 * 1000,
	SURE_WAIT_US = 100 * 1000, /* a process on its way out has all its threads for a moment */
};

/* ---- what is left ---- */

static size_t count_threads(pid_t pid)
{
	char path[48];
	size_t count = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	DIR *tasks = opendir(path);
	for (struct dirent *task; tasks && (task = readdir(tasks));)
		count += task->d_name[0] != '.';
	if (tasks)
		closedir(tasks);
	return count;
}

/* The letter of /proc/PID/stat; 0 where there is no such process. */
static char process_state(pid_t pid)
{
	char path[48], text[256] = "";

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t length = read(fd, text, sizeof(text) - 1);
	close(fd);
	/* The name, in brackets, may contain anything. */
	const char *end = length > 0 ? strrchr(text, ')') : NULL;
	return end && end[1] == ' ' ? end[2] : 0;
}

bool daemon_lingers(pid_t pid)
{
	return pid > 0 && process_state(pid) == 'Z' && count_threads(pid) > 1;
}

/* ---- cutting ---- */

static bool cut_by_file(unsigned device)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/abort", device);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	bool done = write(fd, "1", 1) == 1;
	close(fd);
	return done;
}

/* Where that file system is not mounted root has another way: to unmount by force begins with it.
 */
static int cut(const char *mountpoint, unsigned device, void *context)
{
	(void)context;
	if (!cut_by_file(device) && geteuid() == 0)
		(void)umount2(mountpoint, MNT_FORCE);
	return 0;
}

/* While its process lingers the store's lock is held: these mounts are nobody else's. */
int daemon_bury(const char *store, pid_t pid)
{
	if (!daemon_lingers(pid))
		return 0;
	usleep(SURE_WAIT_US);
	for (int i = 0; i < GONE_TRIES && daemon_lingers(pid); i++) {
		/* Again: a connection that was just being set up may have been missed. */
		if (i % 50 == 0)
			(void)mounts_of_store(store, cut, NULL);
		usleep(GONE_WAIT_US);
	}
	return daemon_lingers(pid) ? -EBUSY : 0;
}

/* ---- the guardian ---- */

static void guard(const char *store, pid_t daemon)
{
	sigset_t set;
	int number;

	/* A signal comes as soon as the daemon's main thread is gone. */
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_SETMASK, &set, NULL);
	if (prctl(PR_SET_PDEATHSIG, SIGUSR1) || prctl(PR_SET_NAME, "cairn-guardian"))
		return;
	if (getppid() == daemon)
		while (sigwait(&set, &number))
			continue;
	(void)daemon_bury(store, daemon);
}

/* Between fork() and _exit() of a process without other threads anything may be called. */
void daemon_start_guardian(const char *store)
{
	pid_t daemon = getpid();
	pid_t child = fork();

	if (child != 0)
		return;
	/* Nothing of the daemon's, above all not the store's lock. */
	(void)close_range(0, ~0U, 0);
	(void)setsid();
	char *real = realpath(store, NULL);
	if (real)
		guard(real, daemon);
	_exit(0);
}
