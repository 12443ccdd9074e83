#include "tools/daemonize.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/service.h"
#include "tools/failure.h"

enum { READY_FD = 3 }; /* the daemon's end of the pipe */

static void write_all(int fd, const char *text, size_t length)
{
	while (length > 0) {
		ssize_t written = write(fd, text, length);

		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return; /* whoever waited has gone: nobody to tell */
		text += written;
		length -= (size_t)written;
	}
}

static void point_to_null(int fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null >= 0) {
		dup2(null, fd);
		close(null);
	}
}

/* In the daemon: hands the result over, and lets go of the terminal. */
static void ready(const json_t *result, void *context)
{
	char *text = json_dumps(result, JSON_COMPACT);

	(void)context;
	if (text)
		write_all(READY_FD, text, strlen(text));
	free(text);
	close(READY_FD);
	point_to_null(STDERR_FILENO);
}

static void __attribute__((noreturn))
run_daemon(const char *store, const json_t *first, int pipe_fd)
{
	/* Alive until `ready`: a mount started under a pipeline that ends must not die of it. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGQUIT, SIG_DFL); /* who starts it may have caught it (tools/child.h) */
	setsid();
	point_to_null(STDIN_FILENO);
	point_to_null(STDOUT_FILENO);
	if (pipe_fd != READY_FD)
		dup2(pipe_fd, READY_FD);
	closefrom(READY_FD + 1);
	if (chdir("/") != 0)
		_exit(1);
	_exit(service_run_daemon(store, first, ready, NULL, false));
}

/* Everything until the other end closes; NULL: no memory, or nothing came. */
static char *read_all(int fd)
{
	char *text = NULL;
	size_t length = 0, capacity = 0;

	for (;;) {
		ssize_t got;

		if (capacity - length < 2) {
			char *larger = realloc(text, capacity + 4096);

			if (!larger)
				break;
			text = larger;
			capacity += 4096;
		}
		got = read(fd, text + length, capacity - length - 1);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		length += (size_t)got;
	}
	if (text)
		text[length] = '\0';
	return text;
}

/* What to tell where no result came. */
static json_t *explain_death(pid_t child)
{
	char message[128];
	int status;

	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return service_error(-errno, NULL);
	if (WIFSIGNALED(status))
		snprintf(message, sizeof(message),
			 "the daemon died of signal %d before the mount was usable",
			 WTERMSIG(status));
	else
		snprintf(message, sizeof(message),
			 "the daemon ended with code %d before the mount was usable",
			 WEXITSTATUS(status));
	return service_error(-EIO, message);
}

json_t *daemonize(const char *store, const json_t *first)
{
	int ends[2], error;
	json_t *result = NULL;
	char *text;
	pid_t child;

	if (pipe2(ends, O_CLOEXEC))
		return service_error(-errno, NULL);
	fflush(NULL); /* or the child would hold it too */
	child = fork();
	if (child < 0) {
		error = -errno;
		close(ends[0]);
		close(ends[1]);
		return service_error(error, NULL);
	}
	if (child == 0)
		run_daemon(store, first, ends[1]);
	close(ends[1]);
	text = read_all(ends[0]);
	close(ends[0]);
	if (text)
		result = json_loads(text, 0, NULL);
	free(text);
	return result ? result : explain_death(child);
}
