#include "tools/shell.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fs/service.h"
#include "tools/call.h"
#include "tools/command.h"
#include "tools/failure.h"
#include "tools/output.h"
#include "tools/place.h"

enum { GRACE_MS = 2000 }; /* between SIGTERM and SIGKILL when the time is over */

static const int ending_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

/* ---- the environment ------------------------------------------------------------------ */

/* The workspace that a request means where it names none; "" where there is no such one. */
static int default_workspace(struct invocation *invocation, char **ret)
{
	const json_t *workspace;
	struct call call;
	json_t *list;
	size_t i;
	int code;

	call_begin(&call, invocation, "workspace_list", CALL_READ_ONLY);
	code = call_run(&call, &list);
	if (code)
		return code;
	*ret = NULL;
	json_array_foreach(list, i, workspace)
	{
		if (!*ret && json_is_true(json_object_get(workspace, "default")))
			*ret = strdup(get_text(workspace, "name"));
	}
	if (!*ret)
		*ret = strdup("");
	json_decref(list);
	return *ret ? 0 : failure_memory(invocation);
}

static int set_environment(const struct place *place, const char *workspace, const char *point)
{
	char *mountpoint = NULL;
	int error = service_find_mount_of(place->store, workspace, &mountpoint);

	if (error == -ENOMEM)
		return error;
	error = setenv("CAIRN_STORE", place->store, 1) || setenv("CAIRN_WORKSPACE", workspace, 1) ||
		setenv("CAIRN_POINT", point, 1) ||
		(mountpoint ? setenv("CAIRN_MOUNTPOINT", mountpoint, 1)
			    : unsetenv("CAIRN_MOUNTPOINT"));
	free(mountpoint);
	return error ? -ENOMEM : 0;
}

/* ---- signals -------------------------------------------------------------------------- */

/* Those that are ignored (nohup, a job in the background) stay so. */
static void add_unless_ignored(sigset_t *set, int signal)
{
	struct sigaction action;

	if (sigaction(signal, NULL, &action) == 0 && action.sa_handler != SIG_IGN)
		sigaddset(set, signal);
}

static int hold_signals(struct shell *shell)
{
	struct sigaction action = {.sa_handler = SIG_DFL};
	sigset_t set;

	sigaction(SIGCHLD, &action, NULL); /* ignored, children could not be waited for */
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	for (size_t i = 0; i < sizeof(ending_signals) / sizeof(ending_signals[0]); i++)
		add_unless_ignored(&set, ending_signals[i]);
	shell->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (shell->signals < 0)
		return -errno;
	sigprocmask(SIG_BLOCK, &set, &shell->mask);
	return 0;
}

int shell_begin(struct shell *shell, struct invocation *invocation, const char *workspace,
		const char *point)
{
	const struct place *place = place_get(invocation);
	char *found = NULL;
	int error, code = place ? 0 : SERVICE_FAILED;

	if (!code && !workspace)
		workspace = place->workspace;
	if (!code && !workspace)
		code = default_workspace(invocation, &found);
	if (code)
		return code;
	*shell = (struct shell){.signals = -1};
	error = set_environment(place, workspace ? workspace : found, point);
	free(found);
	if (!error)
		error = hold_signals(shell);
	return error ? failure_errno(invocation, error, NULL) : 0;
}

void shell_end(struct shell *shell)
{
	close(shell->signals);
	fflush(NULL);
	if (shell->caught)
		raise(shell->caught);
	sigprocmask(SIG_SETMASK, &shell->mask, NULL);
}

int shell_parse_limit(const struct invocation *invocation, unsigned otherwise, unsigned *ret)
{
	const char *text = option_value(invocation, "time-limit");
	unsigned long value;
	char *end;

	*ret = otherwise;
	if (!text)
		return 0;
	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno || text[strspn(text, "0123456789")] || end == text || value > 1000000)
		return usage_error(invocation, "--time-limit is a number of seconds, not '%s'",
				   text);
	*ret = (unsigned)value;
	return 0;
}

/* ---- running -------------------------------------------------------------------------- */

struct running {
	struct shell *shell;
	pid_t pid;
	bool own_group;
	int answer; /* end of a pipe; -1: none, or closed */
	char text[SHELL_ANSWER_MAX + 1];
	size_t used;
	bool too_long;
	bool ended;
	int wait_status;
};

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* `out` is the writing end of the pipe for an answer, else -1. */
static int spawn(struct running *running, const char *command, int out)
{
	const char *const arguments[] = {"sh", "-c", command, NULL};
	short flags = POSIX_SPAWN_SETSIGMASK | (running->own_group ? POSIX_SPAWN_SETPGROUP : 0);
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int error = posix_spawn_file_actions_init(&actions);

	if (error)
		return -error;
	error = posix_spawnattr_init(&attributes);
	if (error) {
		posix_spawn_file_actions_destroy(&actions);
		return -error;
	}
	error = posix_spawn_file_actions_adddup2(&actions, out >= 0 ? out : STDERR_FILENO,
						 STDOUT_FILENO);
	if (!error && running->own_group)
		error = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null",
							 O_RDONLY, 0);
	if (!error)
		error = posix_spawnattr_setsigmask(&attributes, &running->shell->mask);
	if (!error)
		error = posix_spawnattr_setpgroup(&attributes, 0);
	if (!error)
		error = posix_spawnattr_setflags(&attributes, flags);
	if (!error)
		error = posix_spawn(&running->pid, "/bin/sh", &actions, &attributes,
				    (char *const *)arguments, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return -error;
}

static void send_signal(const struct running *running, int signal)
{
	if (!running->ended)
		kill(running->own_group ? -running->pid : running->pid, signal);
}

static void take_answer(struct running *running)
{
	char piece[4096];
	ssize_t length;

	while (running->answer >= 0 &&
	       (length = read(running->answer, piece, sizeof(piece))) != 0) {
		size_t room = SHELL_ANSWER_MAX - running->used;

		if (length < 0 && errno == EINTR)
			continue;
		if (length < 0 && errno == EAGAIN)
			return;
		if (length < 0)
			break;
		running->too_long = running->too_long || (size_t)length > room;
		room = (size_t)length < room ? (size_t)length : room;
		memcpy(running->text + running->used, piece, room);
		running->used += room;
	}
	if (running->answer >= 0)
		close(running->answer);
	running->answer = -1;
}

static void take_signals(struct running *running)
{
	struct signalfd_siginfo info;

	while (read(running->shell->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGCHLD)
			continue;
		running->shell->caught = (int)info.ssi_signo;
		/* What a terminal sends it sends to all of its foreground. */
		if (running->own_group || info.ssi_code != SI_KERNEL)
			send_signal(running, (int)info.ssi_signo);
	}
	if (waitpid(running->pid, &running->wait_status, WNOHANG) == running->pid)
		running->ended = true;
}

/* Until the command has ended.  Returns whether its time was over before that. */
static bool wait_for_end(struct running *running)
{
	int64_t limit = (int64_t)running->shell->limit * 1000, deadline = now_ms() + limit;
	bool timed_out = false;

	while (!running->ended) {
		struct pollfd polled[] = {{.fd = running->shell->signals, .events = POLLIN},
					  {.fd = running->answer, .events = POLLIN}};
		int64_t left = deadline - now_ms();

		if (limit && left <= 0) {
			send_signal(running, timed_out ? SIGKILL : SIGTERM);
			send_signal(running, SIGCONT);
			timed_out = true;
			deadline = now_ms() + GRACE_MS;
			continue;
		}
		poll(polled, 2, limit ? (int)left : -1);
		take_answer(running);
		take_signals(running);
	}
	take_answer(running); /* what it wrote before it ended is in the pipe */
	return timed_out;
}

static const char *find_complaint(const struct running *running)
{
	json_t *text;

	if (running->too_long)
		return "printed too much for a value";
	if (running->used == 0)
		return "printed nothing";
	text = json_stringn(running->text, running->used);
	json_decref(text);
	if (!text || memchr(running->text, '\0', running->used))
		return "printed what is not text in UTF-8";
	return NULL;
}

static int finish(struct running *running, struct shell_result *result)
{
	while (running->used && running->text[running->used - 1] == '\n')
		running->used--;
	result->complaint = find_complaint(running);
	result->answer = strndup(running->text, running->used);
	return result->answer ? 0 : -ENOMEM;
}

int shell_run(struct shell *shell, const char *command, enum shell_output output,
	      struct shell_result *ret)
{
	bool answer = output == SHELL_ANSWER;
	struct running running = {
		.shell = shell, .own_group = answer || shell->limit, .answer = -1};
	struct shell_result result = {0};
	int ends[2] = {-1, -1}, error;
	int64_t start = now_ms();

	if (answer && pipe2(ends, O_CLOEXEC))
		return -errno;
	running.answer = ends[0];
	if (answer)
		fcntl(ends[0], F_SETFL, O_NONBLOCK);
	fflush(NULL);
	error = spawn(&running, command, ends[1]);
	if (answer)
		close(ends[1]);
	if (!error) {
		result.timed_out = wait_for_end(&running);
		result.status = WIFSIGNALED(running.wait_status)
					? 128 + WTERMSIG(running.wait_status)
					: WEXITSTATUS(running.wait_status);
		result.elapsed_ns = (uint64_t)(now_ms() - start) * 1000000;
		if (answer)
			error = finish(&running, &result);
	}
	if (running.answer >= 0)
		close(running.answer);
	if (!error)
		*ret = result;
	return error;
}

void shell_result_release(struct shell_result *result)
{
	free(result->answer);
	*result = (struct shell_result){0};
}

char *shell_trouble(const struct shell *shell, int error, const struct shell_result *result)
{
	char *text = NULL;
	int length;

	if (error)
		length = asprintf(&text, "could not be started: %s", strerror(-error));
	else if (result->timed_out)
		length = asprintf(&text, "did not end within %u second%s", shell->limit,
				  shell->limit == 1 ? "" : "s");
	else if (shell->caught)
		length = asprintf(&text, "was interrupted");
	else if (result->status)
		length = asprintf(&text, "ended with exit code %d", result->status);
	else
		length = asprintf(&text, "%s", result->complaint ? result->complaint : "");
	return length < 0 ? NULL : text;
}
