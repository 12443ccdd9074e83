/* Running the `cairn` command. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bytes.h"

extern char **environ;

/* `fd`: where its output goes. */
static pid_t start(struct world *world, const char *const *words, int fd)
{
	const char *argv[COMMAND_WORDS + 5] = {world->cairn, "--json", "-s", world->store};
	posix_spawn_file_actions_t actions;
	pid_t pid;

	for (int i = 0; words[i]; i++)
		argv[4 + i] = words[i];
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fd, 1);
	posix_spawn_file_actions_adddup2(&actions, fd, 2);
	/* posix_spawn() does not change the words. */
	int error = posix_spawn(&pid, world->cairn, &actions, NULL, (char *const *)(uintptr_t)argv,
				environ);
	posix_spawn_file_actions_destroy(&actions);
	if (error) {
		errno = error;
		fail(world, "cannot run %s", world->cairn);
	}
	return pid;
}

static int wait_for(struct world *world, pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			fail(world, "waitpid()");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* In a file, not a pipe: a daemon that the command starts must not hold us up. */
int command(struct world *world, char ret_output[OUTPUT_SIZE], const char *const *words)
{
	FILE *file = tmpfile();

	if (!file)
		fail(world, "tmpfile()");
	fcntl(fileno(file), F_SETFD, FD_CLOEXEC);
	command_wait(world);
	int code = wait_for(world, start(world, words, fileno(file)));
	ssize_t length = pread(fileno(file), ret_output, OUTPUT_SIZE - 1, 0);
	ret_output[length > 0 ? length : 0] = 0;
	fclose(file);
	return code;
}

void command_must(struct world *world, char ret_output[OUTPUT_SIZE], const char *const *words)
{
	int code = command(world, ret_output, words);

	errno = 0;
	if (code)
		fail(world, "cairn %s: exit code %d: %s", words[0], code, ret_output);
}

void command_start(struct world *world, const char *const *words)
{
	int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		fail(world, "/dev/null");
	command_wait(world);
	world->background = start(world, words, fd);
	close(fd);
}

void command_wait(struct world *world)
{
	pid_t pid = world->background;

	world->background = 0;
	errno = 0;
	if (pid && wait_for(world, pid))
		fail(world, "the command in the background failed");
}

void command_abandon(struct world *world, pid_t pid)
{
	if (pid)
		(void)wait_for(world, pid);
}

static const char *value_of(const char *output, const char *key)
{
	char quoted[100];

	snprintf(quoted, sizeof(quoted), "\"%s\":", key);
	const char *at = strstr(output, quoted);
	if (!at)
		return NULL;
	at += strlen(quoted);
	return at + strspn(at, " \n");
}

bool output_text(const char *output, const char *after, const char *key, char *ret, size_t size)
{
	const char *at = after[0] ? value_of(output, after) : output;

	if (!at || (after[0] && *at != '{'))
		return false;
	at = value_of(at, key);
	if (!at || *at != '"')
		return false;
	size_t length = strcspn(++at, "\"");
	if (length >= size)
		return false;
	memcpy(ret, at, length);
	ret[length] = 0;
	return true;
}

long output_number(const char *output, const char *key)
{
	const char *at = value_of(output, key);

	return at ? strtol(at, NULL, 10) : -1;
}
