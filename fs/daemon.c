/*
 * The daemon: the one process that has a store open for writing, with all its mounts.
 *
 *   service_run_daemon()
 *     open      store (its lock), engine, control.sock, committer, rest
 *     first     the mount that it was started for; ready() hears how that went
 *     serve     requests, until the last mount has ended or a signal says so
 *     close     control.sock, clients, mounts, rest, committer, engine, store; last the connections of
 *               those who wait until the store is free
 *
 * The main thread sleeps in poll(): signals come through a signalfd (they are blocked in every
 * thread), ended mounts and connections through an eventfd.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/daemon_internal.h"
#include "fs/bury.h"
#include "fs/log.h"
#include "fs/rest.h"

enum { OOM_SCORE_ADJ = -500 };

struct daemon {
	struct service *service; /* all owned */
	struct engine *engine;
	struct mounts *mounts;
	struct connections *connections;
	struct committer *committer;
	struct rest *rest;
	char *socket_path;
	int wake, signals, listener; /* -1: not open */
	bool bound;
	sigset_t old_signals;
};

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* ---- opening ---- */

/*
 * What whoever started us has set for himself must not bind a file system: a `ulimit -f` would
 * fail the appending to packs, one of `-v` the map of the index, and so on.  As far as we may.
 */
static void raise_limits(void)
{
	static const int resources[] = {RLIMIT_NOFILE, RLIMIT_FSIZE, RLIMIT_AS, RLIMIT_DATA,
					RLIMIT_CPU};

	for (size_t i = 0; i < sizeof(resources) / sizeof(resources[0]); i++) {
		struct rlimit limit;
		if (getrlimit(resources[i], &limit) || limit.rlim_cur == limit.rlim_max)
			continue;
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(resources[i], &limit);
	}
}

/* When memory is short, killing us takes the files of everybody away, and frees little.  Only
 * root may lower it. */
static void ask_to_be_spared(void)
{
	char text[16] = "";
	int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	if (read(fd, text, sizeof(text) - 1) > 0 && atoi(text) > OOM_SCORE_ADJ)
		(void)dprintf(fd, "%d\n", OOM_SCORE_ADJ);
	close(fd);
}

/* A process as if nobody had started it: from a job with limits, with signals ignored, from within
 * a directory that is to be unmounted. */
static void prepare_process(void)
{
	struct sigaction action;

	raise_limits();
	ask_to_be_spared();
	for (int number = 1; number < NSIG; number++)
		if (!sigaction(number, NULL, &action) && action.sa_handler == SIG_IGN)
			signal(number, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* EFBIG will do */
	umask(077);
	/* It fails where / is closed to us: then the directory that we are in stays in use. */
	(void)!chdir("/");
}

static int open_signals(struct daemon *daemon)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	int error = -pthread_sigmask(SIG_SETMASK, &set, &daemon->old_signals);
	if (error)
		return error;
	daemon->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (daemon->signals < 0) {
		error = -errno;
		pthread_sigmask(SIG_SETMASK, &daemon->old_signals, NULL);
		return error;
	}
	daemon->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return daemon->wake < 0 ? -errno : 0;
}

static int socket_path(const char *directory, char **ret)
{
	size_t length = strlen(directory);
	char *path = malloc(length + sizeof("/" CONTROL_SOCKET_NAME));
	if (!path)
		return -ENOMEM;
	memcpy(path, directory, length);
	memcpy(path + length, "/" CONTROL_SOCKET_NAME, sizeof("/" CONTROL_SOCKET_NAME));
	*ret = path;
	return 0;
}

/* A socket that is there already was left by a daemon that died: the store's lock is ours. */
static int open_listener(struct daemon *daemon)
{
	const char *directory = store_directory(repo_store(daemon->service->repo));
	int error = socket_path(directory, &daemon->socket_path);
	if (error)
		return error;
	if (unlink(daemon->socket_path) && errno != ENOENT)
		return -errno;
	daemon->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (daemon->listener < 0)
		return -errno;
	error = control_socket_bind(daemon->listener, directory);
	if (error)
		return error;
	daemon->bound = true;
	if (chmod(daemon->socket_path, 0600) || listen(daemon->listener, SOMAXCONN))
		return -errno;
	return 0;
}

static int open_store(struct daemon *daemon, const char *store, struct errbuf *err)
{
	int error = service_open(store, false, &daemon->service, err);
	if (error)
		return error;
	error = engine_open(repo_store(daemon->service->repo), &(struct engine_options){0},
			    &daemon->engine);
	if (error)
		return err_set(err, error, "cannot start the workers: %s", strerror(-error));
	daemon->mounts = mounts_new(daemon->engine, daemon->wake);
	daemon->connections = connections_new(daemon->service, daemon->wake);
	if (!daemon->mounts || !daemon->connections)
		return -ENOMEM;
	daemon->service->mounts = daemon->mounts;
	return 0;
}

static int daemon_open(struct daemon *daemon, const char *store, struct errbuf *err)
{
	int error = open_signals(daemon);
	if (error)
		return err_set(err, error, "cannot set up signals: %s", strerror(-error));
	error = open_store(daemon, store, err);
	if (error)
		return error;
	error = open_listener(daemon);
	if (error)
		return err_set(err, error, "cannot listen on %s/" CONTROL_SOCKET_NAME ": %s", store,
			       strerror(-error));
	error = committer_start(daemon->service, &daemon->committer);
	if (!error)
		error = rest_start(daemon->service, &daemon->rest);
	return error ? err_set(err, error, "cannot start a thread: %s", strerror(-error)) : 0;
}

/* ---- serving ---- */

/* True where a signal asks for the end. */
static bool take_signals(struct daemon *daemon)
{
	struct signalfd_siginfo signal_info;
	bool any = false;

	while (read(daemon->signals, &signal_info, sizeof(signal_info)) ==
	       (ssize_t)sizeof(signal_info)) {
		if (signal_info.ssi_signo == SIGHUP)
			continue; /* a terminal was closed: no reason to take files away */
		log_line(LOG_LEVEL_INFO, "signal %u from pid %u: unmounting everything",
			 signal_info.ssi_signo, signal_info.ssi_pid);
		any = true;
	}
	return any;
}

static void drain_wake(struct daemon *daemon)
{
	uint64_t count;
	ssize_t got = read(daemon->wake, &count, sizeof(count));
	(void)got; /* -EAGAIN: nobody woke us */
}

static void serve(struct daemon *daemon)
{
	struct pollfd fds[] = {
		{.fd = daemon->signals, .events = POLLIN},
		{.fd = daemon->wake, .events = POLLIN},
		{.fd = daemon->listener, .events = POLLIN},
	};

	for (;;) {
		if (poll(fds, sizeof(fds) / sizeof(fds[0]), -1) < 0 && errno != EINTR) {
			log_line(LOG_LEVEL_ERROR, "poll: %s", strerror(errno));
			return;
		}
		if (take_signals(daemon))
			return;
		drain_wake(daemon);
		connections_accept(daemon->connections, daemon->listener);
		mounts_reap(daemon->mounts);
		connections_reap(daemon->connections);
		if (mounts_close(daemon->mounts))
			return;
	}
}

/* ---- closing ---- */

static int final_commit(struct daemon *daemon)
{
	int error = repo_commit(daemon->service->repo);
	if (error)
		log_line(LOG_LEVEL_ERROR, "the last commit failed: %s", strerror(-error));
	return error;
}

/*
 * From here on new clients find no daemon, and those that found one are taken in.  While the
 * store's lock is still ours: later it could be another daemon's socket.
 */
static void close_socket(struct daemon *daemon)
{
	if (daemon->bound) {
		unlink(daemon->socket_path);
		connections_accept(daemon->connections, daemon->listener);
	}
	close_fd(daemon->listener);
	free(daemon->socket_path);
}

/* Requests and mounts, then what they need.  Works on what daemon_open() left half done, too. */
static int daemon_close(struct daemon *daemon)
{
	int error = 0;

	/* Whoever is taken in now and wants to mount shall start another daemon: his mount would go
	 * with this one right after he was told that it is there. */
	if (daemon->mounts)
		mounts_refuse(daemon->mounts);
	close_socket(daemon);
	if (daemon->connections)
		connections_end(daemon->connections);
	int stuck = daemon->mounts ? mounts_stop_all(daemon->mounts) : 0;
	daemon->rest = rest_stop(daemon->rest);
	daemon->committer = committer_stop(daemon->committer);
	if (daemon->service)
		error = final_commit(daemon);
	if (stuck) {
		/* Its threads still use all the rest; the end of the process takes it down. */
		connections_free(daemon->connections);
		return stuck;
	}
	if (daemon->mounts)
		daemon->service->mounts = NULL;
	mounts_free(daemon->mounts);
	engine_close(daemon->engine);
	service_close(daemon->service);
	connections_free(daemon->connections);
	close_fd(daemon->wake);
	if (daemon->signals >= 0) {
		close(daemon->signals);
		pthread_sigmask(SIG_SETMASK, &daemon->old_signals, NULL);
	}
	return error;
}

int service_run_daemon(const char *store, const json_t *first,
		       void (*ready)(const json_t *result, void *context), void *context,
		       bool log_to_stderr)
{
	struct daemon daemon = {.wake = -1, .signals = -1, .listener = -1};
	struct errbuf err = {""};
	json_t *result;

	log_open(log_to_stderr, LOG_LEVEL_INFO);
	prepare_process();
	daemon_start_guardian(store);
	int error = daemon_open(&daemon, store, &err);
	if (error) {
		result = service_error(error, err.text);
	} else {
		struct asker asker = {.uid = getuid(), .gid = getgid()};
		result = service_execute(daemon.service, first, &asker);
	}
	enum service_code code = service_result_code(result);
	ready(result, context);
	json_decref(result);
	if (code == SERVICE_OK)
		serve(&daemon);
	error = daemon_close(&daemon);
	if (code == SERVICE_OK && error)
		code = service_code_of(error);
	return (int)code;
}
