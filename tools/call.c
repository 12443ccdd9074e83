#include "tools/call.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fs/service.h"
#include "tools/command.h"
#include "tools/failure.h"
#include "tools/output.h"
#include "tools/place.h"
#include "tools/progress.h"

enum {
	BUSY_PATIENCE_MS = 2000, /* other commands hold the lock for a moment only */
	BUSY_STEP_MS = 50,
};

void call_begin(struct call *call, struct invocation *invocation, const char *op, unsigned flags)
{
	const struct place *place = place_get(invocation);

	memset(call, 0, sizeof(*call));
	call->invocation = invocation;
	call->flags = flags;
	call->object = json_object();
	call->place_failed = !place;
	call->failed = !place || !call->object;
	call_text(call, "op", op);
	if (place && (flags & CALL_WORKSPACE))
		call_text(call, "workspace", place->workspace);
}

void call_begin_point(struct call *call, struct invocation *invocation, const char *op,
		      unsigned flags)
{
	call_begin(call, invocation, op, CALL_WORKSPACE | flags);
	call_text(call, "point", invocation->arguments[0]);
}

void call_set(struct call *call, const char *key, json_t *value)
{
	if (json_object_set_new(call->object, key, value))
		call->failed = true;
}

static json_t *text_new(struct call *call, const char *value)
{
	json_t *text = json_string(value);

	if (!text)
		call->invalid = value;
	return text;
}

void call_text(struct call *call, const char *key, const char *value)
{
	json_t *text = value ? text_new(call, value) : NULL;

	if (text)
		call_set(call, key, text);
}

static json_t *path_new(const char *path)
{
	char *encoded = service_encode_text(path, strlen(path));
	json_t *text = encoded ? json_string(encoded) : NULL;

	free(encoded);
	return text;
}

void call_path(struct call *call, const char *key, const char *path)
{
	call_set(call, key, path_new(path));
}

void call_flag(struct call *call, const char *key, bool value)
{
	if (value)
		call_set(call, key, json_true());
}

static void append(struct call *call, const char *key, json_t *text)
{
	json_t *list = json_object_get(call->object, key);

	if (!list) {
		call_set(call, key, json_array());
		list = json_object_get(call->object, key);
	}
	if (json_array_append_new(list, text))
		call->failed = true;
}

void call_append(struct call *call, const char *key, const char *value)
{
	json_t *text = text_new(call, value);

	if (text)
		append(call, key, text);
}

void call_append_path(struct call *call, const char *key, const char *path)
{
	append(call, key, path_new(path));
}

void call_drop(struct call *call)
{
	json_decref(call->object);
	call->object = NULL;
}

int call_daemon(struct invocation *invocation, const char *store, const json_t *object,
		json_t **ret_result)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN}, old;
	struct progress progress;
	int fd, error = service_connect(store, &fd);

	if (error)
		return error;
	/* A daemon that went away is an error to tell, not a signal to die of. */
	sigaction(SIGPIPE, &ignore, &old);
	progress_begin(&progress, invocation);
	*ret_result = service_call(fd, object, progress_update, &progress);
	progress_end(&progress);
	sigaction(SIGPIPE, &old, NULL);
	return 0;
}

/* Carries the request out in this process. -EBUSY (with nothing done): another one has the store.
 */
static int call_here(const struct call *call, const char *store, json_t **ret_result,
		     struct errbuf *err)
{
	struct progress progress;
	struct service *service;
	int error = service_open(store, call->flags & CALL_READ_ONLY, &service, err);

	if (error)
		return error;
	progress_begin(&progress, call->invocation);
	*ret_result = service_request(service, call->object, progress_update, &progress);
	progress_end(&progress);
	service_close(service);
	return 0;
}

/*
 * A daemon that has crashed leaves its mount behind, and has lost what no commit had made durable.
 * A freeze would then quietly take an older state for the present one: the user has to look first.
 */
static int refuse_dead_mount(const struct call *call, const char *store, struct errbuf *err)
{
	const json_t *workspace = json_object_get(call->object, "workspace");
	char *mountpoint, *word;

	if (!(call->flags & CALL_PRESENT) ||
	    service_find_mount_of(store, json_string_value(workspace), &mountpoint))
		return 0;
	word = format_shell(mountpoint);
	err_set(err, -ENOTCONN,
		"the daemon that served %s has ended unexpectedly; take the dead mount away (cairn "
		"umount %s), mount again, and look at what is there (the last commit) first",
		mountpoint, word ? word : mountpoint);
	free(word);
	free(mountpoint);
	return -ENOTCONN;
}

static json_t *execute(const struct call *call)
{
	const struct place *place = call->invocation->place;
	struct timespec step = {.tv_nsec = BUSY_STEP_MS * 1000000L};
	json_t *result = NULL;

	for (int waited = 0;; waited += BUSY_STEP_MS) {
		struct errbuf err = {""};
		int error = -ENOENT;

		if (!(call->flags & CALL_IN_PROCESS))
			error = call_daemon(call->invocation, place->store, call->object, &result);
		if (error == -ENOENT || error == -ECONNREFUSED) {
			error = refuse_dead_mount(call, place->store, &err);
			if (!error)
				error = call_here(call, place->store, &result, &err);
		}
		if (error == 0)
			return result;
		if (error != -EBUSY || waited >= BUSY_PATIENCE_MS)
			return service_error(error, err.text);
		nanosleep(&step, NULL);
	}
}

json_t *call_result(struct call *call)
{
	json_t *result = NULL;

	if (!call->failed && !call->invalid)
		result = execute(call);
	else if (call->invalid && !call->failed)
		result = service_error(-EINVAL, "an argument is not valid UTF-8");
	call_drop(call);
	return result;
}

int call_run(struct call *call, json_t **ret_ok)
{
	bool told = call->place_failed;
	json_t *result = call_result(call);
	int code = 0;

	if (told) {
		json_decref(result);
		return 1;
	}
	code = service_result_code(result);
	if (code)
		code = failure_result(call->invocation, result);
	else
		*ret_ok = json_incref(json_object_get(result, "ok"));
	json_decref(result);
	return code;
}

int call_report(struct call *call,
		void (*report)(const struct invocation *invocation, const json_t *ok))
{
	const struct invocation *invocation = call->invocation;
	json_t *ok;
	int code = call_run(call, &ok);

	if (code)
		return code;
	if (invocation->json)
		output_json(ok);
	else if (!invocation->quiet || invocation->dry_run)
		report(invocation, ok);
	json_decref(ok);
	return 0;
}
