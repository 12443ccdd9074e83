#include "tools/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const int caught_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

static volatile sig_atomic_t first_caught;
static volatile sig_atomic_t running; /* the child's pid; 0: none */
static struct sigaction old_pipe;

uint64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* What the terminal sends it sends to the child as well: to the whole group. */
static void note_signal(int number, siginfo_t *info, void *context)
{
	int saved = errno;

	(void)context;
	if (!first_caught)
		first_caught = number;
	if (running && info->si_code != SI_KERNEL)
		kill(running, number);
	errno = saved;
}

void signals_catch(void)
{
	struct sigaction action = {.sa_sigaction = note_signal,
				   .sa_flags = SA_SIGINFO | SA_RESTART};
	struct sigaction ignore = {.sa_handler = SIG_IGN}, old;

	sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < sizeof(caught_signals) / sizeof(caught_signals[0]); i++)
		if (sigaction(caught_signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaction(caught_signals[i], &action, NULL);
	sigaction(SIGPIPE, &ignore, &old_pipe);
}

int signals_caught(void)
{
	return first_caught;
}

static void block_signals(sigset_t *old)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(caught_signals) / sizeof(caught_signals[0]); i++)
		sigaddset(&set, caught_signals[i]);
	sigprocmask(SIG_BLOCK, &set, old);
}

static void set_environment(const struct child *child)
{
	for (int i = 0; i < child->variable_count; i++) {
		const struct child_variable *variable = &child->environment[i];

		if (variable->value)
			setenv(variable->name, variable->value, 1);
		else
			unsetenv(variable->name);
	}
}

static void __attribute__((noreturn))
become(const struct child *child, int directory, pid_t parent, const sigset_t *mask)
{
	int error;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent) /* it has died before that */
		_exit(1);
	sigaction(SIGPIPE, &old_pipe, NULL);
	for (size_t i = 0; i < sizeof(caught_signals) / sizeof(caught_signals[0]); i++) {
		struct sigaction old;

		if (sigaction(caught_signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			signal(caught_signals[i], SIG_DFL);
	}
	set_environment(child);
	if (fchdir(directory) == 0 &&
	    (!child->stdout_to_stderr || dup2(STDERR_FILENO, STDOUT_FILENO) >= 0)) {
		setenv("PWD", child->directory, 1);
		sigprocmask(SIG_SETMASK, mask, NULL);
		execvp(child->arguments[0], child->arguments);
	}
	error = errno;
	dprintf(STDERR_FILENO, "cairn: %s: %s\n", child->arguments[0], strerror(error));
	_exit(error == ENOENT ? 127 : 126);
}

static int wait_for(pid_t pid, struct child_result *result)
{
	siginfo_t info;
	int status;

	/* As long as nobody has waited for it the number is that of no other process. */
	while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) < 0)
		if (errno != EINTR)
			return -errno;
	running = 0;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	result->ended_ns = monotonic_ns();
	result->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	result->status = result->signal ? 128 + result->signal : WEXITSTATUS(status);
	return 0;
}

int child_run(const struct child *child, struct child_result *ret)
{
	struct child_result result = {0};
	pid_t parent = getpid(), pid = -1;
	sigset_t old;
	int error, directory = open(child->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (directory < 0)
		return -errno;
	fflush(NULL);
	block_signals(&old);
	error = first_caught ? -EINTR : 0;
	if (!error) {
		result.started_ns = monotonic_ns();
		pid = fork();
		error = pid < 0 ? -errno : 0;
	}
	if (pid == 0)
		become(child, directory, parent, &old);
	running = pid > 0 ? pid : 0;
	sigprocmask(SIG_SETMASK, &old, NULL);
	close(directory);
	if (!error)
		error = wait_for(pid, &result);
	running = 0;
	if (!error)
		*ret = result;
	return error;
}
