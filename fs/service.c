/*
 * Executing requests: the table of operations, and what all of them have in common.
 *
 * A request is checked against its operation's table before a handler sees it, so that handlers
 * only ask for values.  A handler returns an errno and perhaps a message; what a client gets to see
 * of it is made here.
 */
#include "fs/service.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/service_internal.h"

enum argument_type {
	ARGUMENT_TEXT,
	ARGUMENT_FLAG,
	ARGUMENT_NUMBER,
	ARGUMENT_LIMIT, /* a number, or -1: no limit */
	ARGUMENT_TEXTS, /* array of strings */
	ARGUMENT_PAIRS, /* object of strings */
	ARGUMENT_OBJECT,
	ARGUMENT_OBJECTS, /* array of objects; handlers look into them */
};

struct argument {
	const char *name; /* NULL ends the list */
	enum argument_type type;
	bool required;
};

enum operation_flags {
	OPERATION_WRITES = 1 << 0,  /* refused where the store is open read-only */
	OPERATION_DAEMON = 1 << 1,  /* only in the daemon */
	OPERATION_PROCESS = 1 << 2, /* only in a command's own process */
};

struct operation {
	const char *name;
	service_handler *run;
	const char *what; /* after "cannot" */
	unsigned flags;	  /* enum operation_flags */
	struct argument arguments[16];
};

#define REQUIRED(name, type)                                                                       \
	{                                                                                          \
		name, ARGUMENT_##type, true                                                        \
	}
#define OPTIONAL(name, type)                                                                       \
	{                                                                                          \
		name, ARGUMENT_##type, false                                                       \
	}
#define WORKSPACE OPTIONAL("workspace", TEXT)
#define BY OPTIONAL("by", TEXT)

static const struct operation operations[] = {
	{"ping", service_ping, "answer", 0, {{0}}},
	{"mount",
	 service_mount,
	 "mount the workspace",
	 OPERATION_WRITES | OPERATION_DAEMON,
	 {REQUIRED("mountpoint", TEXT), WORKSPACE, OPTIONAL("options", TEXT)}},
	{"umount",
	 service_umount,
	 "unmount the workspace",
	 OPERATION_DAEMON,
	 {REQUIRED("mountpoint", TEXT), OPTIONAL("lazy", FLAG)}},
	{"sync", service_sync, "make everything durable", OPERATION_WRITES, {{0}}},
	{"status", service_status, "look at the store", 0, {{0}}},
	{"freeze",
	 service_freeze,
	 "freeze the workspace",
	 OPERATION_WRITES,
	 {WORKSPACE, REQUIRED("name", TEXT), OPTIONAL("message", TEXT), OPTIONAL("tags", TEXTS),
	  OPTIONAL("holds", TEXTS), OPTIONAL("hold_until", TEXT), OPTIONAL("anchors", PAIRS),
	  OPTIONAL("anchor_commands", PAIRS), OPTIONAL("run", OBJECT), OPTIONAL("steps", OBJECTS),
	  OPTIONAL("if_changed", FLAG), BY}},
	{"restore",
	 service_restore,
	 "restore the workspace",
	 OPERATION_WRITES,
	 {WORKSPACE, REQUIRED("point", TEXT), OPTIONAL("paths", TEXTS), OPTIONAL("force", FLAG),
	  OPTIONAL("dry_run", FLAG), BY}},
	{"carry",
	 service_carry,
	 "carry the work over",
	 OPERATION_WRITES,
	 {WORKSPACE, REQUIRED("from", TEXT), OPTIONAL("paths", TEXTS),
	  OPTIONAL("on_conflict", TEXT), OPTIONAL("force", FLAG), OPTIONAL("dry_run", FLAG), BY}},
	{"log",
	 service_log,
	 "list the points",
	 0,
	 {WORKSPACE, OPTIONAL("tag", TEXT), OPTIONAL("verdict", TEXT), OPTIONAL("since", TEXT),
	  OPTIONAL("until", TEXT), OPTIONAL("last", NUMBER), OPTIONAL("all_workspaces", FLAG),
	  OPTIONAL("brief", FLAG)}},
	{"show",
	 service_show,
	 "show the point",
	 0,
	 {WORKSPACE, REQUIRED("point", TEXT), OPTIONAL("sizes", FLAG)}},
	{"diff",
	 service_diff,
	 "compare",
	 0,
	 {WORKSPACE, REQUIRED("a", TEXT), OPTIONAL("b", TEXT), OPTIONAL("paths", TEXTS)}},
	{"ls",
	 service_ls,
	 "list the directory",
	 0,
	 {WORKSPACE, REQUIRED("point", TEXT), OPTIONAL("path", TEXT)}},
	{"cat",
	 service_cat,
	 "read the file",
	 OPERATION_PROCESS,
	 {WORKSPACE, REQUIRED("point", TEXT), REQUIRED("path", TEXT), REQUIRED("fd", NUMBER)}},
	{"find",
	 service_find,
	 "find the path",
	 0,
	 {WORKSPACE, REQUIRED("path", TEXT), OPTIONAL("all_workspaces", FLAG)}},
	{"clone",
	 service_clone,
	 "clone the point",
	 OPERATION_WRITES,
	 {WORKSPACE, REQUIRED("point", TEXT), REQUIRED("name", TEXT), BY}},
	{"workspace_list", service_workspace_list, "list the workspaces", 0, {{0}}},
	{"workspace_create",
	 service_workspace_create,
	 "create the workspace",
	 OPERATION_WRITES,
	 {REQUIRED("name", TEXT), BY}},
	{"workspace_rename",
	 service_workspace_rename,
	 "rename the workspace",
	 OPERATION_WRITES,
	 {REQUIRED("name", TEXT), REQUIRED("new_name", TEXT), BY}},
	{"workspace_delete",
	 service_workspace_delete,
	 "delete the workspace",
	 OPERATION_WRITES,
	 {REQUIRED("name", TEXT), OPTIONAL("dry_run", FLAG), BY}},
	{"rename",
	 service_rename,
	 "rename the point",
	 OPERATION_WRITES,
	 {WORKSPACE, REQUIRED("point", TEXT), REQUIRED("new_name", TEXT), BY}},
	{"delete",
	 service_delete,
	 "delete the points",
	 OPERATION_WRITES,
	 {WORKSPACE, REQUIRED("points", TEXTS), OPTIONAL("dry_run", FLAG), BY}},
	{"hold",
	 service_hold,
	 "hold the point",
	 OPERATION_WRITES,
	 {WORKSPACE, REQUIRED("point", TEXT), REQUIRED("reason", TEXT), OPTIONAL("until", TEXT), BY}},
	{"release",
	 service_release,
	 "release the point",
	 OPERATION_WRITES,
	 {WORKSPACE, REQUIRED("point", TEXT), OPTIONAL("hold", NUMBER), BY}},
	{"verdict",
	 service_verdict,
	 "give the verdict",
	 OPERATION_WRITES,
	 {WORKSPACE, REQUIRED("point", TEXT), REQUIRED("verdict", TEXT), OPTIONAL("reason", TEXT),
	  BY}},
	{"tag",
	 service_tag,
	 "tag the point",
	 OPERATION_WRITES,
	 {WORKSPACE, REQUIRED("point", TEXT), OPTIONAL("add", TEXTS), OPTIONAL("remove", TEXTS),
	  BY}},
	{"journal",
	 service_journal,
	 "read the journal",
	 0,
	 {WORKSPACE, OPTIONAL("point", TEXT), OPTIONAL("action", TEXT), OPTIONAL("after", NUMBER)}},
	{"journal_verify",
	 service_journal_verify,
	 "verify the journal",
	 0,
	 {OPTIONAL("expect", TEXT)}},
	{"prune",
	 service_prune,
	 "prune the points",
	 OPERATION_WRITES,
	 {WORKSPACE, OPTIONAL("all_workspaces", FLAG), OPTIONAL("keep_last", LIMIT),
	  OPTIONAL("keep_hourly", LIMIT), OPTIONAL("keep_daily", LIMIT),
	  OPTIONAL("keep_weekly", LIMIT), OPTIONAL("keep_monthly", LIMIT),
	  OPTIONAL("keep_yearly", LIMIT), OPTIONAL("keep_within", TEXT),
	  OPTIONAL("keep_tags", TEXTS), OPTIONAL("filter_tags", TEXTS), OPTIONAL("dry_run", FLAG),
	  OPTIONAL("no_gc", FLAG), BY}},
	{"usage", service_usage, "measure the points", 0, {WORKSPACE}},
	{"digest",
	 service_digest,
	 "compute the digest",
	 0,
	 {WORKSPACE, REQUIRED("point", TEXT), BY}},
	{"digest_check",
	 service_digest_check,
	 "check the digest",
	 0,
	 {WORKSPACE, REQUIRED("point", TEXT), OPTIONAL("expect", TEXT)}},
	{"extract",
	 service_extract,
	 "extract the files",
	 OPERATION_PROCESS,
	 {WORKSPACE, REQUIRED("point", TEXT), OPTIONAL("paths", TEXTS),
	  REQUIRED("destination", TEXT), OPTIONAL("overwrite", FLAG)}},
	{"gc", service_gc, "collect garbage", OPERATION_WRITES, 
	 {OPTIONAL("dry_run", FLAG), OPTIONAL("compact", FLAG)}},
	{"check", service_check, "check the store", 0, {OPTIONAL("read_data", FLAG)}},
};

/* ---- opening ---- */

int service_open(const char *store, bool read_only, struct service **ret, struct errbuf *err)
{
	struct service *service = calloc(1, sizeof(*service));
	if (!service)
		return err_set(err, -ENOMEM, "cannot open the store: %s", strerror(ENOMEM));
	int error = repo_open(store, read_only ? STORE_READ_ONLY : 0, NULL, &service->repo, err);
	if (error) {
		if (err && !err->text[0])
			err_set(err, error, "cannot open the store %s: %s", store,
				strerror(-error));
		free(service);
		return error;
	}
	service->read_only = read_only;
	service->reclaimable_commit = service->space_commit = UINT64_MAX;
	pthread_mutex_init(&service->collect_lock, NULL);
	pthread_mutex_init(&service->lock, NULL);
	*ret = service;
	return 0;
}

bool service_store_is_locked(const char *store, int *ret_pid)
{
	return store_is_locked(store, ret_pid);
}

struct service *service_close(struct service *service)
{
	if (!service)
		return NULL;
	/* Handlers commit what they do; after a failure nothing here could do better. */
	if (!service->read_only)
		(void)repo_commit(service->repo);
	repo_close(service->repo);
	pthread_mutex_destroy(&service->lock);
	pthread_mutex_destroy(&service->collect_lock);
	free(service);
	return NULL;
}

int service_init_store(const char *directory, const struct store_compression *compression,
		       struct errbuf *err)
{
	int error = store_create(directory, compression, err);
	if (error)
		return error;
	struct repo *repo;
	error = repo_open(directory, 0, NULL, &repo, err);
	if (error)
		return error;
	error = workspace_create(repo, "main", getuid(), getgid(), NULL, err);
	repo_close(repo);
	return error;
}

/* ---- checking arguments ---- */

static const struct operation *operation_find(const char *name)
{
	for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++)
		if (strcmp(operations[i].name, name) == 0)
			return &operations[i];
	return NULL;
}

static const struct argument *argument_find(const struct operation *operation, const char *name)
{
	const struct argument *argument = operation->arguments;
	for (; argument->name; argument++)
		if (strcmp(argument->name, name) == 0)
			return argument;
	return NULL;
}

/* NULL where the value is as it should be, else what it should be. */
static const char *argument_complaint(enum argument_type type, const json_t *value)
{
	static const char objects[] = "must be an array of objects";
	const char *key;
	json_t *item;
	size_t i;

	switch (type) {
	case ARGUMENT_TEXT:
		return json_is_string(value) ? NULL : "must be a string";
	case ARGUMENT_FLAG:
		return json_is_boolean(value) ? NULL : "must be true or false";
	case ARGUMENT_NUMBER:
		return json_is_integer(value) && json_integer_value(value) >= 0
			       ? NULL
			       : "must be a whole number, not negative";
	case ARGUMENT_LIMIT:
		return json_is_integer(value) && json_integer_value(value) >= -1
			       ? NULL
			       : "must be a whole number, or -1: no limit";
	case ARGUMENT_TEXTS:
		if (!json_is_array(value))
			return "must be an array of strings";
		json_array_foreach(
			value, i,
			item) if (!json_is_string(item)) return "must be an array of strings";
		return NULL;
	case ARGUMENT_PAIRS:
		if (!json_is_object(value))
			return "must be an object of strings";
		json_object_foreach(
			(json_t *)value, key,
			item) if (!json_is_string(item)) return "must be an object of strings";
		return NULL;
	case ARGUMENT_OBJECT:
		return json_is_object(value) ? NULL : "must be an object";
	case ARGUMENT_OBJECTS:
		if (!json_is_array(value))
			return objects;
		json_array_foreach(value, i, item) if (!json_is_object(item)) return objects;
		return NULL;
	}
	return "is of an unknown kind";
}

static int check_arguments(const struct operation *operation, const json_t *arguments,
			   struct errbuf *err)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)arguments, key, value)
	{
		if (strcmp(key, "op") == 0)
			continue;
		const struct argument *argument = argument_find(operation, key);
		if (!argument)
			return err_set(err, -EINVAL, "%s: unknown argument '%s'", operation->name,
				       key);
		const char *complaint = argument_complaint(argument->type, value);
		if (complaint)
			return err_set(err, -EINVAL, "%s: '%s' %s", operation->name, key,
				       complaint);
	}
	for (const struct argument *argument = operation->arguments; argument->name; argument++)
		if (argument->required && !json_object_get(arguments, argument->name))
			return err_set(err, -EINVAL, "%s: '%s' is missing", operation->name,
				       argument->name);
	return 0;
}

static int check_place(const struct operation *operation, const struct service *service,
		       struct errbuf *err)
{
	if ((operation->flags & OPERATION_DAEMON) && !service->mounts)
		return err_set(err, -ESRCH, "cannot %s: no daemon serves %s, nothing is mounted",
			       operation->what, store_directory(repo_store(service->repo)));
	if ((operation->flags & OPERATION_PROCESS) && service->mounts)
		return err_set(err, -EOPNOTSUPP,
			       "cannot %s through the daemon: open the store read-only instead",
			       operation->what);
	if ((operation->flags & OPERATION_WRITES) && service->read_only)
		return err_set(err, -EROFS, "cannot %s: the store is open read-only",
			       operation->what);
	return 0;
}

/* ---- arguments for handlers ---- */

const json_t *request_value(const struct request *request, const char *name)
{
	return json_object_get(request->arguments, name);
}

const char *request_text(const struct request *request, const char *name)
{
	return json_string_value(request_value(request, name));
}

bool request_flag(const struct request *request, const char *name)
{
	return json_is_true(request_value(request, name));
}

int request_path(const struct request *request, const char *name, char **ret)
{
	const char *text = request_text(request, name);
	char *path = service_decode_text(text ? text : "");
	if (!path)
		return -ENOMEM;
	*ret = path;
	return 0;
}

int request_texts(const struct request *request, const char *name, const char ***ret,
		  size_t *ret_count)
{
	const json_t *array = request_value(request, name);
	size_t count = json_array_size(array);
	const char **texts = NULL;

	if (count) {
		texts = calloc(count, sizeof(*texts));
		if (!texts)
			return -ENOMEM;
	}
	for (size_t i = 0; i < count; i++)
		texts[i] = json_string_value(json_array_get(array, i));
	*ret = texts;
	*ret_count = count;
	return 0;
}

void free_paths(char **paths, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(paths[i]);
	free(paths);
}

int request_paths(const struct request *request, const char *name, char ***ret,
		  size_t *ret_count)
{
	const json_t *array = request_value(request, name);
	size_t count = json_array_size(array);
	char **paths = count ? calloc(count, sizeof(*paths)) : NULL;

	if (count && !paths)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		paths[i] = service_decode_text(json_string_value(json_array_get(array, i)));
		if (!paths[i]) {
			free_paths(paths, i);
			return -ENOMEM;
		}
	}
	*ret = paths;
	*ret_count = count;
	return 0;
}

/* What a rehearsal (cairn try) works in comes and goes: it never makes another choice. */
static bool is_rehearsal(const char *workspace)
{
	return strncmp(workspace, "try-", 4) == 0;
}

/* The only workspace, or `main`. */
static int default_workspace(struct request *request, char **ret)
{
	struct names names;
	int error = names_load(request->service->repo, &names);
	if (error)
		return error;
	const char *name = NULL, *found = NULL;
	size_t lasting = 0;
	for (size_t i = 0; !name && i < names.count; i++) {
		if (strcmp(names.workspaces[i].name, "main") == 0)
			name = names.workspaces[i].name;
		else if (!is_rehearsal(names.workspaces[i].name) && ++lasting)
			found = names.workspaces[i].name;
	}
	if (!name && lasting == 1)
		name = found;
	else if (!name && names.count == 1)
		name = names.workspaces[0].name;
	if (name) {
		char *copy = strdup(name);
		if (copy)
			*ret = copy;
		else
			error = -ENOMEM;
	} else if (names.count) {
		error = err_set(&request->err, -EINVAL,
				"there are %zu workspaces and none is called main: name one",
				names.count);
	} else {
		error = err_set(&request->err, -ENOENT, "the store has no workspace");
	}
	names_release(&names);
	return error;
}

int request_workspace(struct request *request, const char *spec, char **ret)
{
	const char *name = request_text(request, "workspace");
	const char *at = spec ? strchr(spec, '@') : NULL;
	char *copy;

	if (name)
		copy = strdup(name);
	else if (at && at != spec)
		copy = strndup(spec, (size_t)(at - spec));
	else
		return default_workspace(request, ret);
	if (!copy)
		return -ENOMEM;
	*ret = copy;
	return 0;
}

int request_point(struct request *request, const char *name, struct point *ret)
{
	const char *spec = request_text(request, name);
	char *workspace;
	int error = request_workspace(request, spec, &workspace);
	if (error)
		return error;
	error = point_resolve(request->service->repo, workspace, spec, ret, &request->err);
	free(workspace);
	return error;
}

/* ---- dispatch ---- */

int service_ping(struct request *request, json_t **ret)
{
	(void)request;
	return json_result(json_pack("{s:i, s:s}", "pid", (int)getpid(), "version", CAIRN_VERSION),
			   ret);
}

/* "name" of a uid, or "uid N". */
static void asker_name(uid_t uid, char *ret, size_t size)
{
	struct passwd entry, *found = NULL;
	char buffer[4096];

	if (getpwuid_r(uid, &entry, buffer, sizeof(buffer), &found) == 0 && found)
		snprintf(ret, size, "%s", found->pw_name);
	else
		snprintf(ret, size, "uid %u", (unsigned)uid);
}

/* A message that the handler left out, so that none is ever empty. */
static void complete_message(const struct operation *operation, int error, struct errbuf *err)
{
	if (err->text[0])
		return;
	if (error == -EBADMSG)
		err_set(err, error, "cannot %s: damaged data (a checksum does not match)",
			operation->what);
	else if (error == -EUCLEAN)
		err_set(err, error, "cannot %s: damaged data (an impossible structure)",
			operation->what);
	else
		err_set(err, error, "cannot %s: %s", operation->what, strerror(-error));
}

static json_t *run_operation(const struct operation *operation, struct request *request)
{
	json_t *value = NULL;
	int error = operation->run(request, &value);
	if (!error) {
		json_t *result = json_pack("{s:o}", "ok", value);
		json_decref(request->detail);
		return result ? result : json_null();
	}
	complete_message(operation, error, &request->err);
	if (error == -ESHUTDOWN) {
		json_decref(request->detail);
		return service_error(error, request->err.text);
	}
	return service_error_detail(service_code_of(error), request->err.text, request->detail);
}

json_t *service_execute(struct service *service, const json_t *arguments, const struct asker *asker)
{
	struct request request = {.service = service, .arguments = arguments, .asker = asker};
	const char *name = json_string_value(json_object_get(arguments, "op"));
	if (!name)
		return service_error(-EINVAL, "a request is an object with a string 'op'");
	const struct operation *operation = operation_find(name);
	if (!operation) {
		err_set(&request.err, -EINVAL, "unknown operation '%s'", name);
		return service_error(-EINVAL, request.err.text);
	}
	int error = check_arguments(operation, arguments, &request.err);
	if (!error)
		error = check_place(operation, service, &request.err);
	if (error)
		return service_error(error, request.err.text);

	char user[256];
	asker_name(asker->uid, user, sizeof(user));
	request.user = user;
	request.by = request_text(&request, "by");
	if (!request.by)
		request.by = user;
	return run_operation(operation, &request);
}

json_t *service_request(struct service *service, const json_t *request, service_progress *progress,
			void *context)
{
	struct asker asker = {
		.uid = getuid(), .gid = getgid(), .progress = progress, .context = context};
	return service_execute(service, request, &asker);
}
