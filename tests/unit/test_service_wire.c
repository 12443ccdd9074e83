/* The service over a socket: the client's side, the daemon's connections, and a whole daemon with
 * a real mount. */
#include "service_testing.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "fs/daemon_internal.h"

/* ---- connecting ---- */

static void make_store(char directory[64])
{
	const struct store_compression compression = {.codec = CODEC_LZ4};
	struct errbuf err = {""};
	strcpy(directory, "/tmp/cairn-test-XXXXXX");
	assert_non_null(mkdtemp(directory));
	if (service_init_store(directory, &compression, &err))
		fail_msg("service_init_store: %s", err.text);
}

static void remove_store(const char *directory)
{
	nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void test_connect(void **state)
{
	char directory[64] = "/tmp/cairn-test-XXXXXX", path[400];
	int fd, listener;
	(void)state;
	assert_int_equal(service_connect("/nowhere/at/all", &fd), -ENOENT);
	assert_int_equal(service_connect("/etc/passwd", &fd), -ENOENT);
	assert_non_null(mkdtemp(directory));
	assert_int_equal(service_connect(directory, &fd), -ENOENT);

	/* longer than any socket's address */
	snprintf(path, sizeof(path), "%s/%0200d", directory, 7);
	must(mkdir(path, 0700));
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(control_socket_bind(listener, path));
	assert_int_equal(service_connect(path, &fd), -ECONNREFUSED);
	must(listen(listener, 1));
	must(service_connect(path, &fd));
	close(fd);
	close(listener);
	assert_int_equal(service_connect(path, &fd), -ECONNREFUSED);
	remove_store(directory);
}

/* ---- a call to a daemon that says what the test wants ---- */

struct script {
	int fd;
	const char *const *pieces; /* sent one after the other, NULL at the end */
	size_t padding;		   /* as many blanks before the last piece */
	int delay_ms;		   /* before hanging up */
	double hung_up;
};

static void *play(void *context)
{
	struct script *script = context;
	char request[4096];
	size_t length = 0;
	while (length == 0 || request[length - 1] != '\n') {
		ssize_t got = recv(script->fd, request + length, sizeof(request) - length, 0);
		if (got <= 0)
			break;
		length += (size_t)got;
	}
	for (const char *const *piece = script->pieces; *piece; piece++) {
		if (!piece[1] && script->padding) {
			char *blanks = malloc(script->padding);
			memset(blanks, ' ', script->padding);
			size_t sent = 0;
			while (sent < script->padding)
				sent += (size_t)send(script->fd, blanks + sent,
						     script->padding - sent, MSG_NOSIGNAL);
			free(blanks);
		}
		send(script->fd, *piece, strlen(*piece), MSG_NOSIGNAL);
		poll(NULL, 0, 5);
	}
	poll(NULL, 0, script->delay_ms);
	script->hung_up = now_ms();
	close(script->fd);
	return NULL;
}

static void note_progress(const char *phase, uint64_t done, uint64_t total, void *context)
{
	char *text = context;
	size_t length = strlen(text);
	snprintf(text + length, 256 - length, "%s %d/%d;", phase, (int)done, (int)total);
}

static json_t *call_script(struct script *script, const char *op, char progress[256])
{
	pthread_t thread;
	int ends[2];
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
	script->fd = ends[1];
	must(pthread_create(&thread, NULL, play, script));
	json_t *request = json_pack("{s:s}", "op", op);
	json_t *result = service_call(ends[0], request, note_progress, progress);
	double returned = now_ms();
	json_decref(request);
	must(pthread_join(thread, NULL));
	if (script->delay_ms && strcmp(op, "umount") == 0)
		assert_true(returned >= script->hung_up);
	else if (script->delay_ms)
		assert_true(returned < script->hung_up);
	close(ends[0]);
	return result;
}

static void test_call(void **state)
{
	static const char *const good[] = {
		"{\"progress\":{\"phase\":\"mark\",\"done\":1,\"to",
		"tal\":2}}\n{\"progress\":{\"phase\":\"sweep\",\"done\":",
		"3,\"total\":4}}\n{\"ok\":", "{\"x\":1}}\n", NULL};
	static const char *const garbage[] = {"what?\n", NULL};
	static const char *const half[] = {"{\"ok\":", NULL};
	static const char *const nothing[] = {NULL};
	char progress[256] = "";
	(void)state;

	json_t *ok = need_ok(call_script(&(struct script){.pieces = good}, "gc", progress));
	assert_int_equal(number_of(ok, "x"), 1);
	assert_string_equal(progress, "mark 1/2;sweep 3/4;");
	json_decref(ok);
	ok = need_ok(
		call_script(&(struct script){.pieces = good, .padding = 5000000}, "gc", progress));
	json_decref(ok);
	ok = need_ok(
		call_script(&(struct script){.pieces = good, .delay_ms = 200}, "gc", progress));
	json_decref(ok);
	ok = need_ok(
		call_script(&(struct script){.pieces = good, .delay_ms = 200}, "umount", progress));
	json_decref(ok);
	need_error(call_script(&(struct script){.pieces = garbage}, "gc", progress), SERVICE_FAILED,
		   "broke");
	need_error(call_script(&(struct script){.pieces = half}, "gc", progress), SERVICE_FAILED,
		   "ended");
	need_error(call_script(&(struct script){.pieces = nothing}, "umount", progress),
		   SERVICE_FAILED, "ended");
	/* A daemon that is being killed: the next one can be asked. */
	json_t *lost = call_script(&(struct script){.pieces = nothing}, "mount", progress);
	assert_true(service_result_is_ending(lost));
	json_decref(lost);
	lost = call_script(&(struct script){.pieces = nothing}, "gc", progress);
	assert_false(service_result_is_ending(lost));
	json_decref(lost);
}

/* ---- the daemon's connections, without any mount ---- */

struct server {
	char directory[64];
	struct service *service;
	struct mounts *mounts;
	struct connections *connections;
	int wake, stop, listener;
	pthread_t thread;
};

static void *serve_connections(void *context)
{
	struct server *server = context;
	struct pollfd fds[] = {{.fd = server->wake, .events = POLLIN},
			       {.fd = server->listener, .events = POLLIN},
			       {.fd = server->stop, .events = POLLIN}};
	uint64_t count;
	while (poll(fds, 3, -1) > 0 && !fds[2].revents) {
		if (fds[0].revents && read(server->wake, &count, sizeof(count)) < 0)
			break;
		connections_accept(server->connections, server->listener);
		connections_reap(server->connections);
	}
	connections_end(server->connections);
	return NULL;
}

static int server_setup(void **state)
{
	struct server *server = calloc(1, sizeof(*server));
	struct errbuf err = {""};
	assert_non_null(server);
	make_store(server->directory);
	must(service_open(server->directory, false, &server->service, &err));
	server->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	server->stop = eventfd(0, EFD_CLOEXEC);
	server->mounts = mounts_new(NULL, server->wake);
	server->service->mounts = server->mounts;
	server->connections = connections_new(server->service, server->wake);
	server->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	must(control_socket_bind(server->listener, server->directory));
	must(listen(server->listener, 64));
	must(pthread_create(&server->thread, NULL, serve_connections, server));
	*state = server;
	return 0;
}

static int server_teardown(void **state)
{
	struct server *server = *state;
	uint64_t one = 1;
	double start = now_ms();
	assert_int_equal(write(server->stop, &one, sizeof(one)), sizeof(one));
	must(pthread_join(server->thread, NULL));
	assert_true(now_ms() - start < 5000); /* it does not wait for those who say nothing */
	connections_free(server->connections);
	server->service->mounts = NULL;
	mounts_free(server->mounts);
	service_close(server->service);
	close(server->listener);
	close(server->wake);
	close(server->stop);
	remove_store(server->directory);
	free(server);
	return 0;
}

static __attribute__((format(printf, 2, 3))) json_t *call_daemon(const char *store,
								 const char *format, ...)
{
	va_list arguments;
	int fd;
	va_start(arguments, format);
	json_t *request = parse_request(format, arguments);
	va_end(arguments);
	must(service_connect(store, &fd));
	json_t *result = service_call(fd, request, NULL, NULL);
	close(fd);
	json_decref(request);
	return result;
}

/* Sends bytes as they are, and reads everything that comes. */
static json_t *send_raw(const char *store, const char *bytes, size_t length, bool half_close)
{
	char answer[4096];
	size_t got = 0;
	int fd;
	must(service_connect(store, &fd));
	while (length) {
		ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL);
		if (sent <= 0)
			break; /* it has heard enough */
		bytes += sent;
		length -= (size_t)sent;
	}
	if (half_close)
		shutdown(fd, SHUT_WR);
	for (;;) {
		ssize_t count = recv(fd, answer + got, sizeof(answer) - got, 0);
		if (count <= 0)
			break;
		got += (size_t)count;
	}
	close(fd);
	return json_loadb(answer, got, JSON_DISABLE_EOF_CHECK, NULL);
}

static void test_connections(void **state)
{
	struct server *server = *state;
	const char *store = server->directory;

	json_t *ok = need_ok(call_daemon(store, "{'op': 'ping'}"));
	assert_int_equal(number_of(ok, "pid"), getpid());
	json_decref(ok);
	need_error(call_daemon(store, "{'op': 'dance'}"), SERVICE_USAGE, "dance");
	need_error(call_daemon(store, "{'op': 'umount', 'mountpoint': '/x'}"), SERVICE_NOT_FOUND,
		   "/x");
	need_error(call_daemon(store, "{'op': 'umount', 'mountpoint': 'x'}"), SERVICE_USAGE,
		   "absolute");
	need_error(call_daemon(store, "{'op': 'cat', 'point': 'p', 'path': 'x', 'fd': 1}"),
		   SERVICE_FAILED, "daemon");
	ok = need_ok(call_daemon(store, "{'op': 'freeze', 'name': 'one'}"));
	assert_string_equal(text_of(ok, "by"), "root");
	json_decref(ok);
	json_decref(need_ok(call_daemon(store, "{'op': 'gc'}")));
	ok = need_ok(call_daemon(store, "{'op': 'status'}"));
	assert_int_equal(number_of(ok, "daemon_pid"), getpid());
	json_decref(ok);
}

static void test_bad_lines(void **state)
{
	struct server *server = *state;
	const char *store = server->directory;
	size_t size = (1 << 20) + 100;
	char *large = malloc(size);

	need_error(send_raw(store, "hello\n", 6, false), SERVICE_USAGE, "JSON");
	need_error(send_raw(store, "\n", 1, false), SERVICE_USAGE, "JSON");
	need_error(send_raw(store, "{\"op\":\"\\u0000\"}\n", 16, false), SERVICE_USAGE, "JSON");
	need_error(send_raw(store, "{\"op\":\"\xff\"}\n", 11, false), SERVICE_USAGE, "JSON");
	assert_null(send_raw(store, "{\"op\":\"ping\"}", 13, true)); /* cut short */
	json_decref(need_ok(send_raw(store, "{\"op\":\"ping\"}\n", 14, true)));

	assert_non_null(large);
	memset(large, ' ', size);
	need_error(send_raw(store, large, size, false), SERVICE_USAGE, "1 MiB");
	memcpy(large + (1 << 20) - 20, "{\"op\":\"ping\"}\n", 14);
	json_decref(need_ok(send_raw(store, large, (1 << 20) - 6, false)));
	free(large);
}

static void test_many(void **state)
{
	struct server *server = *state;
	int fds[33];
	for (int i = 0; i < 32; i++)
		must(service_connect(server->directory, &fds[i]));
	need_error(call_daemon(server->directory, "{'op': 'ping'}"), SERVICE_BUSY, "32");
	close(fds[0]);
	json_t *result = NULL;
	for (int tries = 0; tries < 100; tries++) {
		result = call_daemon(server->directory, "{'op': 'ping'}");
		if (service_result_code(result) == SERVICE_OK)
			break;
		json_decref(result);
		result = NULL;
		poll(NULL, 0, 20);
	}
	assert_non_null(result);
	json_decref(result);
	for (int i = 1; i < 16; i++)
		close(fds[i]);
	/* The others stay as they are: the end of the daemon does not wait for them. */
	poll(NULL, 0, 50);
}

/* Counts a result that is an error, and shows it. */
static int count_failure(json_t *result)
{
	bool failed = service_result_code(result) != SERVICE_OK;
	if (failed)
		json_dumpf(result, stderr, JSON_ENCODE_ANY);
	json_decref(result);
	return failed;
}

struct freezer {
	pthread_t thread;
	const char *store;
	int number, failures;
};

static void *freeze_often(void *context)
{
	struct freezer *freezer = context;
	for (int i = 0; i < 10; i++) {
		json_t *result = call_daemon(freezer->store, "{'op': 'freeze', 'name': 'p%d-%d'}",
					     freezer->number, i);
		freezer->failures += count_failure(result);
		result = call_daemon(freezer->store, "{'op': 'log'}");
		freezer->failures += count_failure(result);
	}
	return NULL;
}

static void test_at_once(void **state)
{
	struct server *server = *state;
	struct freezer freezers[6];
	for (int i = 0; i < 6; i++) {
		freezers[i] = (struct freezer){.store = server->directory, .number = i};
		must(pthread_create(&freezers[i].thread, NULL, freeze_often, &freezers[i]));
	}
	for (int i = 0; i < 6; i++)
		must(pthread_join(freezers[i].thread, NULL));
	for (int i = 0; i < 6; i++)
		assert_int_equal(freezers[i].failures, 0);
	json_t *log = need_ok(call_daemon(server->directory, "{'op': 'log'}"));
	assert_int_equal(json_array_size(log), 60);
	json_decref(log);
}

static bool gone_at_once(void *context)
{
	++*(int *)context;
	return true;
}

/* Nobody waits for the result: long operations stop, and say so to whoever looks. */
static void test_gone(void **state)
{
	static const char *const ops[] = {"gc", "check"};
	struct server *server = *state;
	for (int i = 0; i < 2; i++) {
		int calls = 0;
		struct asker asker = {.gone = gone_at_once, .context = &calls};
		json_t *request = json_pack("{s:s}", "op", ops[i]);
		need_error(service_execute(server->service, request, &asker), SERVICE_FAILED,
			   "interrupted");
		json_decref(request);
		assert_true(calls > 0);
	}
	json_decref(need_ok(call_daemon(server->directory, "{'op': 'gc'}")));
}

/* ---- a whole daemon ---- */

struct daemon_test {
	char store[64], mountpoint[64];
	pid_t pid;
	int ready; /* what ready() was told comes out here */
};

static int ready_fd;

static void tell_ready(const json_t *result, void *context)
{
	char *text = json_dumps(result, JSON_COMPACT);
	(void)context;
	if (!text || write(ready_fd, text, strlen(text)) < 0)
		_exit(99);
	free(text);
	close(ready_fd);
}

static pid_t start_daemon(const struct daemon_test *test, const char *mountpoint, json_t **ret)
{
	int ends[2];
	char text[4096];
	size_t length = 0;
	must(pipe2(ends, O_CLOEXEC));
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		json_t *first = json_pack("{s:s, s:s}", "op", "mount", "mountpoint", mountpoint);
		close(ends[0]);
		ready_fd = ends[1];
		int code = service_run_daemon(test->store, first, tell_ready, NULL, true);
		json_decref(first);
		_exit(code);
	}
	close(ends[1]);
	for (;;) {
		ssize_t got = read(ends[0], text + length, sizeof(text) - length);
		if (got <= 0)
			break;
		length += (size_t)got;
	}
	close(ends[0]);
	*ret = json_loadb(text, length, 0, NULL);
	assert_non_null(*ret);
	return pid;
}

static bool have_fuse(void)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static int daemon_setup(void **state)
{
	struct daemon_test *test = calloc(1, sizeof(*test));
	assert_non_null(test);
	make_store(test->store);
	strcpy(test->mountpoint, "/tmp/cairn-mount-XXXXXX");
	assert_non_null(mkdtemp(test->mountpoint));
	*state = test;
	return 0;
}

static int daemon_teardown(void **state)
{
	struct daemon_test *test = *state;
	if (test->pid) {
		kill(test->pid, SIGKILL);
		waitpid(test->pid, NULL, 0);
	}
	rmdir(test->mountpoint);
	remove_store(test->store);
	free(test);
	return 0;
}

static void write_file(const struct daemon_test *test, const char *name, const char *text)
{
	char path[200];
	snprintf(path, sizeof(path), "%s/%s", test->mountpoint, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

/* The daemon ends with this code, and the store is free then. */
static void need_end(struct daemon_test *test, int code)
{
	int status;
	assert_int_equal(waitpid(test->pid, &status, 0), test->pid);
	test->pid = 0;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), code);
}

static void need_free(const struct daemon_test *test)
{
	struct service *service;
	struct errbuf err = {""};
	int fd;
	assert_int_equal(service_connect(test->store, &fd), -ENOENT);
	if (service_open(test->store, false, &service, &err))
		fail_msg("%s", err.text);
	json_t *ok = ask_ok(service, "{'op': 'check', 'read_data': true}");
	json_decref(ok);
	service_close(service);
}

static void need_file(const struct daemon_test *test, const char *path)
{
	struct service *service;
	must(service_open(test->store, false, &service, NULL));
	json_decref(ask_ok(service, "{'op': 'ls', 'point': '@head', 'path': '%s'}", path));
	service_close(service);
}

static void begin_daemon(struct daemon_test *test)
{
	json_t *result;
	if (!have_fuse()) {
		print_message("SKIP: /dev/fuse cannot be opened\n");
		skip();
	}
	test->pid = start_daemon(test, test->mountpoint, &result);
	json_t *ok = need_ok(result);
	assert_string_equal(text_of(ok, "mountpoint"), test->mountpoint);
	assert_string_equal(text_of(ok, "workspace"), "main");
	assert_int_equal(number_of(ok, "pid"), test->pid);
	json_decref(ok);
}

static void test_daemon_points(void **state)
{
	struct daemon_test *test = *state;
	begin_daemon(test);
	write_file(test, "a", "hello");
	json_t *ok = need_ok(call_daemon(test->store, "{'op': 'freeze', 'name': 'one'}"));
	assert_int_equal(number_of(ok, "files"), 1);
	assert_int_equal(number_of(ok, "bytes"), 5);
	json_decref(ok);
	write_file(test, "b", "more");
	ok = need_ok(call_daemon(test->store, "{'op': 'diff', 'a': 'one'}"));
	assert_int_equal(json_array_size(ok), 1);
	json_decref(ok);
	ok = need_ok(call_daemon(test->store, "{'op': 'status'}"));
	const json_t *mounted = json_array_get(json_object_get(ok, "mounts"), 0);
	assert_string_equal(text_of(mounted, "mountpoint"), test->mountpoint);
	const json_t *workspace = json_array_get(json_object_get(ok, "workspaces"), 0);
	assert_string_equal(text_of(workspace, "mounted"), test->mountpoint);
	assert_int_equal(number_of(workspace, "bytes"), 9);
	json_decref(ok);
	need_error(call_daemon(test->store,
			       "{'op': 'workspace_rename', 'name': 'main', 'new_name': 'x'}"),
		   SERVICE_BUSY, test->mountpoint);
	json_decref(need_ok(call_daemon(test->store, "{'op': 'sync'}")));

	char path[200];
	snprintf(path, sizeof(path), "%s/b", test->mountpoint);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	ok = need_ok(
		call_daemon(test->store, "{'op': 'restore', 'point': 'one', 'dry_run': true}"));
	assert_int_equal(number_of(json_object_get(ok, "changed"), "removed"), 1);
	const json_t *user = json_array_get(json_object_get(ok, "would_block"), 0);
	assert_int_equal(number_of(user, "pid"), getpid());
	json_decref(ok);
	need_error(call_daemon(test->store, "{'op': 'restore', 'point': 'one'}"), SERVICE_BUSY, "");
	close(fd);
	ok = need_ok(call_daemon(test->store, "{'op': 'restore', 'point': 'one'}"));
	assert_true(is_true(ok, "safety_made"));
	assert_int_equal(number_of(json_object_get(ok, "changed"), "removed"), 1);
	json_decref(ok);
	assert_int_equal(access(path, F_OK), -1);

	ok = need_ok(
		call_daemon(test->store, "{'op': 'umount', 'mountpoint': '%s'}", test->mountpoint));
	json_decref(ok);
	need_free(test);
	need_end(test, 0);
}

static void test_daemon_mounts(void **state)
{
	struct daemon_test *test = *state;
	char second[64] = "/tmp/cairn-mount-XXXXXX", *store, *workspace, *mountpoint;
	begin_daemon(test);
	assert_non_null(mkdtemp(second));
	need_error(call_daemon(test->store, "{'op': 'mount', 'mountpoint': '%s'}", second),
		   SERVICE_BUSY, "");
	json_decref(need_ok(call_daemon(test->store, "{'op': 'workspace_create', 'name': 'w'}")));
	need_error(
		call_daemon(test->store,
			    "{'op': 'mount', 'mountpoint': '/etc/passwd', 'workspace': 'w'}"),
		SERVICE_FAILED, "");
	json_decref(need_ok(call_daemon(
		test->store, "{'op': 'mount', 'mountpoint': '%s', 'workspace': 'w'}", second)));
	must(service_find_mount(second, &store, &workspace, &mountpoint));
	assert_string_equal(store, test->store);
	assert_string_equal(workspace, "w");
	assert_string_equal(mountpoint, second);
	free(store);
	free(workspace);
	free(mountpoint);
	json_decref(need_ok(call_daemon(test->store, "{'op': 'umount', 'mountpoint': '%s/'}",
					test->mountpoint)));
	json_decref(need_ok(call_daemon(test->store, "{'op': 'ping'}")));
	int busy = open(second, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	need_error(call_daemon(test->store, "{'op': 'umount', 'mountpoint': '%s'}", second),
		   SERVICE_BUSY, "");
	close(busy);
	json_decref(
		need_ok(call_daemon(test->store, "{'op': 'umount', 'mountpoint': '%s'}", second)));
	need_free(test);
	need_end(test, 0);
	rmdir(second);
}

static void test_daemon_signal(void **state)
{
	struct daemon_test *test = *state;
	begin_daemon(test);
	write_file(test, "a", "hello");
	kill(test->pid, SIGTERM);
	need_end(test, 0);
	need_free(test);
	need_file(test, "a");
}

static void test_daemon_fusermount(void **state)
{
	struct daemon_test *test = *state;
	char command[200];
	begin_daemon(test);
	write_file(test, "a", "hello");
	snprintf(command, sizeof(command), "umount %s", test->mountpoint);
	must(system(command));
	need_end(test, 0);
	need_free(test);
	need_file(test, "a");
}

/* What is five seconds old survives; the socket that is left over does no harm. */
static void test_daemon_killed(void **state)
{
	struct daemon_test *test = *state;
	char command[200];
	begin_daemon(test);
	write_file(test, "a", "hello");
	poll(NULL, 0, 6000);
	kill(test->pid, SIGKILL);
	waitpid(test->pid, NULL, 0);
	test->pid = 0;
	snprintf(command, sizeof(command), "umount -l %s", test->mountpoint);
	must(system(command));
	int fd;
	assert_int_equal(service_connect(test->store, &fd), -ECONNREFUSED);
	need_file(test, "a");
	begin_daemon(test);
	kill(test->pid, SIGINT);
	need_end(test, 0);
	need_free(test);
}

static void test_daemon_fails(void **state)
{
	struct daemon_test *test = *state;
	json_t *result;
	if (!have_fuse()) {
		print_message("SKIP: /dev/fuse cannot be opened\n");
		skip();
	}
	test->pid = start_daemon(test, "/etc/passwd", &result);
	need_error(result, SERVICE_FAILED, "");
	need_end(test, SERVICE_FAILED);
	need_free(test);

	begin_daemon(test);
	pid_t first = test->pid;
	test->pid = start_daemon(test, test->mountpoint, &result);
	need_error(result, SERVICE_BUSY, "");
	need_end(test, SERVICE_BUSY);
	test->pid = first;
	json_decref(need_ok(call_daemon(test->store, "{'op': 'ping'}")));
	kill(first, SIGHUP); /* ignored */
	kill(first, SIGTERM);
	need_end(test, 0);
}

#define SERVER(test) cmocka_unit_test_setup_teardown(test, server_setup, server_teardown)
#define DAEMON(test) cmocka_unit_test_setup_teardown(test, daemon_setup, daemon_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_connect),
		cmocka_unit_test(test_call),
		SERVER(test_connections),
		SERVER(test_bad_lines),
		SERVER(test_many),
		SERVER(test_at_once),
		SERVER(test_gone),
		DAEMON(test_daemon_points),
		DAEMON(test_daemon_mounts),
		DAEMON(test_daemon_signal),
		DAEMON(test_daemon_fusermount),
		DAEMON(test_daemon_killed),
		DAEMON(test_daemon_fails),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
