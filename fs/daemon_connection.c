/*
 * Clients of the daemon: one request, progress, one result, each on a connection and a thread of
 * its own.
 *
 *   accepted --> reading --> executing --> replied --> done --> joined, closed
 *                                                            \-> kept: the client of an umount
 *                                                                waits for the daemon's end
 *
 * No client can hold up the daemon: reading has a deadline, sending a timeout, and who does not
 * read is taken for gone.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fs/daemon_internal.h"
#include "fs/log.h"

enum {
	CONNECTIONS_MAX = 32,
	REQUEST_MAX = 1 << 20, /* bytes of a request's line */
	SEND_TIMEOUT = 30,     /* seconds without any progress */
};

#define SECOND UINT64_C(1000000000)
#define REQUEST_TIMEOUT (10 * SECOND)
#define PROGRESS_EVERY (SECOND / 10)

struct connection {
	struct connection *next; /* main thread */
	struct connections *connections;
	pthread_t thread;
	int fd; /* closed by the main thread, after the join */
	struct ucred peer;
	bool keep_open; /* of the connection's thread, until it is done */
	bool broken;	/* likewise: the client does not read any more */
	uint64_t next_progress;
	const char *phase; /* of the last progress */
	atomic_bool done;
};

struct connections {
	struct service *service; /* borrowed */
	int wake;		 /* borrowed */
	atomic_bool ending;
	struct connection *list; /* the rest is the main thread's */
	unsigned count;
	struct connection *kept; /* done and joined, but still open */
};

/* ---- lines ---- */

static int send_all(int fd, const char *data, size_t length, int flags)
{
	while (length) {
		ssize_t sent = send(fd, data, length, MSG_NOSIGNAL | flags);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return -errno;
		data += sent;
		length -= (size_t)sent;
	}
	return 0;
}

static int send_line(int fd, const json_t *json, int flags)
{
	char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
	if (!text)
		return -ENOMEM;
	size_t length = strlen(text);
	text[length] = '\n'; /* in place of the terminator */
	int error = send_all(fd, text, length + 1, flags);
	free(text);
	return error;
}

static int wait_readable(int fd, uint64_t deadline)
{
	uint64_t now = service_clock();
	if (now >= deadline)
		return -ETIMEDOUT;
	struct pollfd wait = {.fd = fd, .events = POLLIN};
	int ready = poll(&wait, 1, (int)((deadline - now) / 1000000) + 1);
	if (ready < 0 && errno != EINTR)
		return -errno;
	return 0;
}

/* What has come of a request. */
struct input {
	char *data; /* owned */
	size_t length, capacity;
};

/* Receives what is there.  1 where the line is complete (and terminated then), 0 where not. */
static int receive_some(int fd, struct input *input)
{
	if (input->length == input->capacity) {
		size_t capacity = input->capacity ? input->capacity * 2 : 4096;
		char *data = realloc(input->data, capacity);
		if (!data)
			return -ENOMEM;
		input->data = data;
		input->capacity = capacity;
	}
	char *from = input->data + input->length;
	ssize_t got = recv(fd, from, input->capacity - input->length, MSG_DONTWAIT);
	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (got == 0)
		return -ECONNRESET;
	input->length += (size_t)got;
	char *end = memchr(from, '\n', (size_t)got);
	if (end ? end - input->data > REQUEST_MAX : input->length > REQUEST_MAX)
		return -E2BIG;
	if (end)
		*end = '\0';
	return end != NULL;
}

/* Reads up to the newline. malloc'ed, terminated. */
static int read_line(int fd, char **ret)
{
	uint64_t deadline = service_clock() + REQUEST_TIMEOUT;
	struct input input = {0};
	int result = 0;

	while (result == 0) {
		result = wait_readable(fd, deadline);
		if (result == 0)
			result = receive_some(fd, &input);
	}
	if (result < 0) {
		free(input.data);
		return result;
	}
	*ret = input.data;
	return 0;
}

/* ---- one connection ---- */

static void send_progress(const char *phase, uint64_t done, uint64_t total, void *context)
{
	struct connection *connection = context;
	uint64_t now = service_clock();

	/* The first and the last of a phase always; otherwise a few a second. */
	bool same = connection->phase && strcmp(connection->phase, phase) == 0;
	if (connection->broken || (same && done != total && now < connection->next_progress))
		return;
	connection->phase = phase;
	connection->next_progress = now + PROGRESS_EVERY;
	json_t *json = json_pack("{s:{s:s, s:o, s:o}}", "progress", "phase", phase, "done",
				 json_number(done), "total", json_number(total));
	if (json && send_line(connection->fd, json, 0))
		connection->broken = true;
	json_decref(json);
}

/* A client that only said that it has no more to send is still there. */
static bool client_is_gone(void *context)
{
	struct connection *connection = context;
	struct pollfd state = {.fd = connection->fd};

	if (connection->broken || atomic_load(&connection->connections->ending))
		return true;
	return poll(&state, 1, 0) > 0 && (state.revents & (POLLHUP | POLLERR));
}

static json_t *execute_line(struct connection *connection, const char *line)
{
	struct service *service = connection->connections->service;
	struct asker asker = {
		.uid = connection->peer.uid,
		.gid = connection->peer.gid,
		.remote = true,
		.progress = send_progress,
		.gone = client_is_gone,
		.context = connection,
	};
	json_error_t parse_error;
	json_t *request = json_loads(line, JSON_REJECT_DUPLICATES, &parse_error);
	if (!request) {
		struct errbuf err = {""};
		err_set(&err, -EINVAL, "the request is not JSON: %s", parse_error.text);
		return service_error(-EINVAL, err.text);
	}
	json_t *result = service_execute(service, request, &asker);
	const char *op = json_string_value(json_object_get(request, "op"));
	connection->keep_open = op && strcmp(op, "umount") == 0 &&
				service_result_code(result) == SERVICE_OK &&
				mounts_are_empty(service->mounts);
	json_decref(request);
	return result;
}

static json_t *read_and_execute(struct connection *connection)
{
	char *line = NULL;
	int error = read_line(connection->fd, &line);
	if (error == -E2BIG)
		return service_error(-EINVAL, "the request is longer than 1 MiB");
	if (error == -ETIMEDOUT)
		return service_error(error, "no request came within 10 seconds");
	if (error && atomic_load(&connection->connections->ending))
		return service_error(-ESHUTDOWN, "the daemon of this store is ending: try again");
	if (error)
		return NULL; /* nobody is there to be told */
	json_t *result = execute_line(connection, line);
	free(line);
	return result;
}

static void *connection_run(void *context)
{
	struct connection *connection = context;
	struct connections *connections = connection->connections;
	uint64_t one = 1;

	json_t *result = read_and_execute(connection);
	if (result)
		(void)send_line(connection->fd, result, 0);
	json_decref(result);
	/* What the client waits for is the end of the line; the descriptor goes with the join. */
	if (!connection->keep_open)
		shutdown(connection->fd, SHUT_RDWR);
	atomic_store(&connection->done, true);
	ssize_t written = write(connections->wake, &one, sizeof(one));
	(void)written;
	return NULL;
}

/* ---- the main thread's side ---- */

struct connections *connections_new(struct service *service, int wake)
{
	struct connections *connections = calloc(1, sizeof(*connections));
	if (connections) {
		connections->service = service;
		connections->wake = wake;
	}
	return connections;
}

/* Without waiting for who does not read. */
static void refuse(int fd, int error, const char *message)
{
	json_t *json = service_error(error, message);
	(void)send_line(fd, json, MSG_DONTWAIT);
	json_decref(json);
	close(fd);
}

static int start_connection(struct connections *connections, int fd, const struct ucred *peer)
{
	struct timeval timeout = {.tv_sec = SEND_TIMEOUT};
	struct connection *connection = calloc(1, sizeof(*connection));
	if (!connection)
		return -ENOMEM;
	connection->connections = connections;
	connection->fd = fd;
	connection->peer = *peer;
	int error = setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) ? -errno : 0;
	if (!error)
		error = -pthread_create(&connection->thread, NULL, connection_run, connection);
	if (error) {
		free(connection);
		return error;
	}
	connection->next = connections->list;
	connections->list = connection;
	connections->count++;
	return 0;
}

static void take_in(struct connections *connections, int fd)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length)) {
		close(fd);
		return;
	}
	if (peer.uid != geteuid() && peer.uid != 0) {
		log_line(LOG_LEVEL_WARNING, "refused a request of uid %u (pid %d)",
			 (unsigned)peer.uid, (int)peer.pid);
		refuse(fd, -EACCES, "only the owner of the daemon and root may use it");
		return;
	}
	/* Those that have their results count no more, even if new ones come faster than we wake.
	 */
	if (connections->count >= CONNECTIONS_MAX)
		connections_reap(connections);
	if (connections->count >= CONNECTIONS_MAX) {
		refuse(fd, -EBUSY, "the daemon has 32 requests under way: try again later");
		return;
	}
	int error = start_connection(connections, fd, &peer);
	if (error)
		refuse(fd, error, "the daemon cannot take another request now");
}

void connections_accept(struct connections *connections, int listener)
{
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0 && errno != EAGAIN)
			poll(NULL, 0, 100); /* out of descriptors: not as fast as we can */
		if (fd < 0)
			return;
		take_in(connections, fd);
	}
}

/* Whose mount was the last until another one came has waited long enough. */
static void close_kept(struct connections *connections)
{
	while (connections->kept) {
		struct connection *connection = connections->kept;
		connections->kept = connection->next;
		close(connection->fd);
		free(connection);
	}
}

static void finish_connection(struct connections *connections, struct connection *connection)
{
	pthread_join(connection->thread, NULL);
	connections->count--;
	if (connection->keep_open) {
		connection->next = connections->kept;
		connections->kept = connection;
		return;
	}
	close(connection->fd);
	free(connection);
}

void connections_reap(struct connections *connections)
{
	struct connection **link = &connections->list;
	while (*link) {
		struct connection *connection = *link;
		if (!atomic_load(&connection->done)) {
			link = &connection->next;
			continue;
		}
		*link = connection->next;
		finish_connection(connections, connection);
	}
	if (connections->kept && !mounts_are_empty(connections->service->mounts))
		close_kept(connections);
}

void connections_end(struct connections *connections)
{
	atomic_store(&connections->ending, true);
	/* Ends the waiting for requests that have not come. */
	for (struct connection *connection = connections->list; connection;
	     connection = connection->next)
		shutdown(connection->fd, SHUT_RD);
	while (connections->list) {
		struct connection *connection = connections->list;
		connections->list = connection->next;
		finish_connection(connections, connection);
	}
}

struct connections *connections_free(struct connections *connections)
{
	if (!connections)
		return NULL;
	close_kept(connections);
	free(connections);
	return NULL;
}
