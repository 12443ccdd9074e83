/* The other end of control.sock, and where a path lies. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fs/bury.h"
#include "fs/daemon_internal.h"

enum { LOOK_EVERY_MS = 1000 };

/* ---- the socket's address ---- */

/* Socket addresses are short; where the path is not, it is written by way of the directory's
 * descriptor (`ret_dirfd`, -1: not needed). */
static int socket_address(const char *store, struct sockaddr_un *ret, int *ret_dirfd)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t size = sizeof(address.sun_path);
	int dirfd = open(store, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return errno == ENOTDIR ? -ENOENT : -errno;
	int length = snprintf(address.sun_path, size, "%s/" CONTROL_SOCKET_NAME, store);
	if (length >= 0 && (size_t)length < size) {
		close(dirfd);
		dirfd = -1;
	} else {
		snprintf(address.sun_path, size, "/proc/self/fd/%d/" CONTROL_SOCKET_NAME, dirfd);
	}
	*ret = address;
	*ret_dirfd = dirfd;
	return 0;
}

static int with_address(int fd, const char *store,
			int (*act)(int fd, const struct sockaddr *address, socklen_t length))
{
	struct sockaddr_un address;
	int dirfd = -1;
	int error = socket_address(store, &address, &dirfd);
	if (error)
		return error;
	error = act(fd, (const struct sockaddr *)&address, sizeof(address)) ? -errno : 0;
	if (dirfd >= 0)
		close(dirfd);
	return error;
}

int control_socket_bind(int fd, const char *store)
{
	return with_address(fd, store, bind);
}

int control_socket_connect(int fd, const char *store)
{
	return with_address(fd, store, connect);
}

/* Who listens, by his end of the socket; 0: not to be seen from here. */
static pid_t peer_of(int fd)
{
	struct ucred peer = {0};
	socklen_t length = sizeof(peer);
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) ? 0 : peer.pid;
}

/* -ECONNREFUSED where the daemon was dead and is gone now, as if it had not been there. */
static int bury_if_dead(int fd, const char *store)
{
	pid_t pid = peer_of(fd);
	if (!daemon_lingers(pid))
		return 0;
	char *real = realpath(store, NULL);
	int error = real ? daemon_bury(real, pid) : -errno;
	free(real);
	return error ? error : -ECONNREFUSED;
}

int service_connect(const char *store, int *ret_fd)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	int error = control_socket_connect(fd, store);
	if (!error)
		error = bury_if_dead(fd, store);
	if (error) {
		close(fd);
		return error;
	}
	*ret_fd = fd;
	return 0;
}

/* ---- a call ---- */

/* What has been received and not yet been taken out as a line. */
struct input {
	int fd;
	char *data; /* owned */
	size_t length, capacity;
	size_t searched; /* no newline before this */
};

/* However long it takes, but not for the remains of a daemon. */
static int wait_for_answer(int fd)
{
	struct pollfd readable = {.fd = fd, .events = POLLIN};
	for (;;) {
		int ready = poll(&readable, 1, LOOK_EVERY_MS);
		if (ready > 0)
			return 0;
		if (ready < 0 && errno != EINTR)
			return -errno;
		if (daemon_lingers(peer_of(fd)))
			return -ECONNRESET;
	}
}

static int input_receive(struct input *input)
{
	if (input->length == input->capacity) {
		size_t capacity = input->capacity ? input->capacity * 2 : 16384;
		char *data = realloc(input->data, capacity);
		if (!data)
			return -ENOMEM;
		input->data = data;
		input->capacity = capacity;
	}
	int error = wait_for_answer(input->fd);
	if (error)
		return error;
	ssize_t got;
	do {
		got = recv(input->fd, input->data + input->length, input->capacity - input->length,
			   0);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	if (got == 0)
		return -ECONNRESET;
	input->length += (size_t)got;
	return 0;
}

/* The next line, parsed.  -EPROTO where it is no JSON. */
static int input_message(struct input *input, json_t **ret)
{
	char *end;
	while (!(end = input->length > input->searched ? memchr(input->data + input->searched, '\n',
								input->length - input->searched)
						       : NULL)) {
		input->searched = input->length;
		int error = input_receive(input);
		if (error)
			return error;
	}
	size_t length = (size_t)(end - input->data);
	json_t *json = json_loadb(input->data, length, JSON_DECODE_ANY, NULL);
	input->length -= length + 1;
	memmove(input->data, end + 1, input->length);
	input->searched = 0;
	if (!json)
		return -EPROTO;
	*ret = json;
	return 0;
}

static int send_request(int fd, const json_t *request)
{
	char *text = json_dumps(request, JSON_COMPACT);
	if (!text)
		return -ENOMEM;
	size_t length = strlen(text), sent = 0;
	int error = 0;
	text[length++] = '\n'; /* in place of the terminator */
	while (sent < length && !error) {
		ssize_t count = send(fd, text + sent, length - sent, MSG_NOSIGNAL);
		if (count >= 0)
			sent += (size_t)count;
		else if (errno != EINTR)
			error = -errno;
	}
	free(text);
	return error;
}

/* Messages until one is the result. */
static int receive_result(struct input *input, service_progress *progress, void *context,
			  json_t **ret)
{
	for (;;) {
		json_t *message;
		int error = input_message(input, &message);
		if (error)
			return error;
		json_t *report = json_object_get(message, "progress");
		if (!report) {
			*ret = message;
			return 0;
		}
		const char *phase = json_string_value(json_object_get(report, "phase"));
		if (progress && phase)
			progress(phase,
				 (uint64_t)json_integer_value(json_object_get(report, "done")),
				 (uint64_t)json_integer_value(json_object_get(report, "total")),
				 context);
		json_decref(message);
	}
}

static bool is_request(const json_t *request, const char *op)
{
	const char *text = json_string_value(json_object_get(request, "op"));
	return text && strcmp(text, op) == 0;
}

/*
 * A daemon that has been killed listens until its last thread is gone.  Whatever it did with a
 * request to mount has gone with it: the next daemon can be asked as if it had never been.
 */
static bool is_lost_with_daemon(const json_t *request, int error)
{
	return (error == -ECONNRESET || error == -EPIPE) && is_request(request, "mount");
}

/* Until the daemon closes its end. */
static void wait_for_end(int fd)
{
	char byte;
	ssize_t got;
	do {
		got = recv(fd, &byte, 1, 0);
	} while (got > 0 || (got < 0 && errno == EINTR));
}

json_t *service_call(int fd, const json_t *request, service_progress *progress, void *context)
{
	struct input input = {.fd = fd};
	json_t *result = NULL;

	/* A daemon that refuses says so before it hangs up: what it said counts for more than
	 * that it did not listen. */
	int send_error = send_request(fd, request);
	int error = send_error == -ENOMEM ? send_error
					  : receive_result(&input, progress, context, &result);
	free(input.data);
	if (error) {
		struct errbuf err = {""};
		error = send_error ? send_error : error;
		err_set(&err, error, "the connection to the daemon broke: %s",
			error == -ECONNRESET ? "it has ended" : strerror(-error));
		if (is_lost_with_daemon(request, error))
			return service_error(-ESHUTDOWN, err.text);
		return service_error_detail(SERVICE_FAILED, err.text, NULL);
	}
	if (is_request(request, "umount"))
		wait_for_end(fd);
	return result;
}
