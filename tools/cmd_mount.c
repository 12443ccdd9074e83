#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fs/service.h"
#include "tools/call.h"
#include "tools/command.h"
#include "tools/commands.h"
#include "tools/daemonize.h"
#include "tools/failure.h"
#include "tools/mount_helper.h"
#include "tools/mounting.h"
#include "tools/output.h"
#include "tools/place.h"

enum {
	RACE_PATIENCE_MS = 2000,  /* for another command that starts the daemon of the store */
	LOCK_PATIENCE_MS = 30000, /* for the process that has the store, such as a daemon that
				     writes what is left after umount(8) */
	TELL_AFTER_MS = 500,
	STEP_MS = 50,
};

static void step(void)
{
	struct timespec delay = {.tv_nsec = STEP_MS * 1000000L};

	nanosleep(&delay, NULL);
}

/* ---- mount ---------------------------------------------------------------------------- */

/* A mount whose daemon is gone.  Listings may still come from the kernel's cache, attributes too;
 * statfs always asks.  ECONNABORTED: it asked when the daemon was just dying. */
bool mount_is_dead(const char *mountpoint)
{
	struct statvfs status;

	/* One that was killed and lingers would never answer. */
	service_clear_remains(mountpoint);
	return statvfs(mountpoint, &status) != 0 && (errno == ENOTCONN || errno == ECONNABORTED);
}

/* 0, -EIO where it failed, or what kept it from being run. */
static int run_program(const char *const arguments[])
{
	pid_t child;
	int status;

	fflush(NULL);
	child = fork();
	if (child < 0)
		return -errno;
	if (child == 0) {
		execvp(arguments[0], (char *const *)arguments);
		_exit(127);
	}
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

int mount_take_away(const char *mountpoint, bool lazy)
{
	/* "--": the path may start with anything. */
	const char *const fusermount[] = {"fusermount3", lazy ? "-uz" : "-u", "--", mountpoint,
					  NULL};
	/* The daemon had told umount(8) of the mount (fs/mount_table.c). */
	const char *const forget[] = {"umount", "-i",	    "--fake", "--no-canonicalize",
				      "--",	mountpoint, NULL};

	if (umount2(mountpoint, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0) {
		(void)run_program(forget);
		return 0;
	}
	if (errno != EPERM)
		return -errno;
	return run_program(fusermount);
}

static void tell_dead(const struct invocation *invocation, const char *store,
		      const char *mountpoint)
{
	talk(invocation,
	     "The daemon of %s was gone (it crashed or was killed); the dead mount is taken away.\n"
	     "What fsync, freeze or restore confirmed is safe in %s.",
	     mountpoint, store);
}

/* Takes a dead mount of the store away from where the next one is to be: nothing is lost by that,
 * and who still holds files of it gets ENOTCONN in any case. */
static int heal_mount(struct invocation *invocation, const char *path, const char *real)
{
	const struct place *place = place_get(invocation);
	char *store, *workspace, *mountpoint;
	int code = 0;

	if (!place)
		return 1;
	if (service_find_mount(real, &store, &workspace, &mountpoint))
		return failure(invocation, SERVICE_FAILED,
			       "a file system that has died is mounted at %s\n"
			       "'umount %s' or 'fusermount3 -u %s' takes it away.",
			       path, path, path);
	if (strcmp(mountpoint, real) != 0 || strcmp(store, place->store) != 0)
		code = failure(invocation, SERVICE_FAILED,
			       "the daemon of the mount at %s (store %s) is gone\n"
			       "'cairn umount %s' takes that mount away.",
			       mountpoint, store, mountpoint);
	else if (mount_take_away(mountpoint, false) && mount_take_away(mountpoint, true))
		code = failure(
			invocation, SERVICE_FAILED,
			"the daemon of the mount at %s is gone, and it cannot be taken away\n"
			"Run 'cairn umount --lazy %s' as the user who mounted it, or as root.",
			mountpoint, mountpoint);
	else
		tell_dead(invocation, store, mountpoint);
	free(store);
	free(workspace);
	free(mountpoint);
	return code;
}

static int heal(struct invocation *invocation, const char *path)
{
	char *real = path_real(path);
	int code;

	if (!real)
		return failure_memory(invocation);
	do {
		code = heal_mount(invocation, path, real);
	} while (code == 0 && mount_is_dead(path)); /* mounts may lie on each other */
	free(real);
	return code;
}

static int check_mountpoint(struct invocation *invocation, const char *path)
{
	struct stat status;

	if (mount_is_dead(path)) {
		int code = heal(invocation, path);

		if (code)
			return code;
	}
	if (stat(path, &status) == 0) {
		if (S_ISDIR(status.st_mode))
			return 0;
		return failure(invocation, SERVICE_FAILED, "%s is not a directory", path);
	}
	if (errno == ENOENT)
		return failure(invocation, SERVICE_FAILED,
			       "no such directory: %s\n'mkdir -p %s' makes it.", path, path);
	return failure(invocation, SERVICE_FAILED, "%s: %s", path, strerror(errno));
}

/* Some process has the store: true where it is worth while to look again a step later. */
static bool wait_for_lock(const struct invocation *invocation, const char *store, int waited)
{
	int pid;

	if (waited >= LOCK_PATIENCE_MS || !service_store_is_locked(store, &pid))
		return false;
	if (waited == TELL_AFTER_MS)
		talk(invocation,
		     "process %d still has the store %s open: waiting for it, at most %d seconds",
		     pid, store, LOCK_PATIENCE_MS / 1000);
	step();
	return true;
}

/* The daemon that is there, or a new one; both may change under our hands for a moment. */
json_t *mount_background(struct invocation *invocation, const char *store, const json_t *object)
{
	for (int waited = 0;; waited += STEP_MS) {
		json_t *result = NULL;
		int error = call_daemon(invocation, store, object, &result);

		if (error == 0 && !service_result_is_ending(result))
			return result;
		if (error && error != -ENOENT && error != -ECONNREFUSED)
			return service_error(error, "cannot talk to the daemon of the store");
		if (error) {
			result = daemonize(store, object);
			if (service_result_code(result) != SERVICE_BUSY)
				return result;
		}
		if (!wait_for_lock(invocation, store, waited)) {
			if (waited >= RACE_PATIENCE_MS)
				return result;
			step();
		}
		json_decref(result);
	}
}

static void foreground_ready(const json_t *result, void *context)
{
	const struct invocation *invocation = context;
	const json_t *ok = json_object_get(result, "ok");

	if (!ok)
		failure_result(invocation, result);
	else if (invocation->json)
		output_json(ok);
	else
		talk(invocation, "%s is mounted at %s; Ctrl-C unmounts it",
		     get_text(ok, "workspace"), get_text(ok, "mountpoint"));
	fflush(stdout);
}

static int mount_foreground(struct invocation *invocation, const char *store, const json_t *object)
{
	int fd, waited = 0;

	while (service_connect(store, &fd) != 0 && wait_for_lock(invocation, store, waited))
		waited += STEP_MS;
	if (service_connect(store, &fd) == 0) {
		close(fd);
		return failure(invocation, SERVICE_BUSY,
			       "a daemon serves this store already\n"
			       "Mount without -f, or unmount its mounts first ('cairn status').");
	}
	return service_run_daemon(store, object, foreground_ready, invocation, true);
}

static int mount_report(const struct invocation *invocation, const json_t *result)
{
	const json_t *ok = json_object_get(result, "ok");

	if (service_result_code(result))
		return failure_result(invocation, result);
	if (invocation->json)
		output_json(ok);
	else if (invocation->verbose)
		talk(invocation, "%s is mounted at %s (daemon %lld)", get_text(ok, "workspace"),
		     get_text(ok, "mountpoint"), (long long)get_number(ok, "pid"));
	return 0;
}

static int mount_at(struct invocation *invocation, const char *mountpoint, const char *options,
		    bool foreground)
{
	const struct place *place;
	struct call call;
	json_t *result;
	int code;

	call_begin(&call, invocation, "mount", CALL_WORKSPACE);
	call_path(&call, "mountpoint", mountpoint);
	if (options && options[0])
		call_text(&call, "options", options);
	place = invocation->place;
	if (call.failed || call.invalid) {
		code = call.place_failed ? 1
		       : call.failed	 ? failure_memory(invocation)
					 : usage_error(invocation, "a name is not valid UTF-8");
	} else if (foreground) {
		code = mount_foreground(invocation, place->store, call.object);
	} else {
		result = mount_background(invocation, place->store, call.object);
		code = mount_report(invocation, result);
		json_decref(result);
	}
	call_drop(&call);
	return code;
}

/* The value of workspace= among the options, the last one; "" where it is empty. */
static const char *named_workspace(const char *options, size_t *ret_length)
{
	static const char word[] = "workspace=";
	const char *found = NULL;

	while (options && *options) {
		size_t length = strcspn(options, ",");

		if (strncmp(options, word, sizeof(word) - 1) == 0) {
			found = options + sizeof(word) - 1;
			*ret_length = length - (sizeof(word) - 1);
		}
		options += length + (options[length] == ',');
	}
	return found;
}

/* -o workspace=NAME is as good as -w NAME.  `ret` is owned by the caller, NULL: not given. */
static int take_workspace(struct invocation *invocation, const char *options, char **ret)
{
	size_t length;
	const char *named = named_workspace(options, &length);

	*ret = NULL;
	if (!named)
		return 0;
	*ret = strndup(named, length);
	if (!*ret)
		return failure_memory(invocation);
	if (length == 0)
		return usage_error(invocation, "workspace= needs a name");
	if (invocation->workspace && strcmp(invocation->workspace, *ret) != 0)
		return usage_error(invocation, "two workspaces are named: '%s' and '%s'",
				   invocation->workspace, *ret);
	invocation->workspace = *ret;
	return 0;
}

int mount_path(struct invocation *invocation, const char *path, const char *options,
	       bool foreground)
{
	const char *before = invocation->workspace;
	char *mountpoint = NULL, *workspace;
	int code = take_workspace(invocation, options, &workspace);

	if (!code)
		code = check_mountpoint(invocation, path);
	if (!code) {
		mountpoint = path_real(path);
		code = mountpoint ? mount_at(invocation, mountpoint, options, foreground)
				  : failure_memory(invocation);
	}
	invocation->workspace = before;
	free(mountpoint);
	free(workspace);
	return code;
}

int cmd_mount(struct invocation *invocation)
{
	return mount_path(invocation, invocation->arguments[0], option_value(invocation, "options"),
			  option_given(invocation, "foreground"));
}

/* ---- umount --------------------------------------------------------------------------- */

static int umount_dead(const struct invocation *invocation, const char *store,
		       const char *workspace, const char *mountpoint, bool lazy)
{
	json_t *document;
	int error = mount_take_away(mountpoint, lazy);

	if (error == -EBUSY)
		return failure(invocation, SERVICE_BUSY,
			       "%s is in use, and its daemon is gone\n"
			       "Leave the directory, or take it away with --lazy.",
			       mountpoint);
	if (error)
		return failure(invocation, SERVICE_FAILED, "cannot unmount %s: %s", mountpoint,
			       strerror(-error));
	tell_dead(invocation, store, mountpoint);
	if (!invocation->json)
		return 0;
	document = json_pack("{s:s, s:s, s:b}", "mountpoint", mountpoint, "workspace", workspace,
			     "dead", 1);
	output_json(document);
	json_decref(document);
	return 0;
}

/* The call returns when the daemon has let go of the store, or serves another mount. */
int umount_live(struct invocation *invocation, const char *store, const char *mountpoint, bool lazy,
		json_t **ret_result)
{
	char *encoded = service_encode_text(mountpoint, strlen(mountpoint));
	json_t *object = encoded ? json_pack("{s:s, s:s, s:b}", "op", "umount", "mountpoint",
					     encoded, "lazy", lazy)
				 : NULL;
	int error = object ? call_daemon(invocation, store, object, ret_result) : -ENOMEM;

	json_decref(object);
	free(encoded);
	return error;
}

static int umount_mount(struct invocation *invocation, const char *store, const char *workspace,
			const char *mountpoint, bool lazy)
{
	json_t *result = NULL;
	int error = umount_live(invocation, store, mountpoint, lazy, &result), code;

	/* A daemon that answers may be another one, which knows nothing of this mount. */
	if ((error || service_result_code(result)) && mount_is_dead(mountpoint)) {
		json_decref(result);
		return umount_dead(invocation, store, workspace, mountpoint, lazy);
	}
	if (error)
		return failure(invocation, SERVICE_FAILED,
			       "cannot reach the daemon of %s: %s\n"
			       "Its control socket is %s/control.sock.",
			       mountpoint, strerror(-error), store);
	code = service_result_code(result);
	if (code) {
		code = failure_result(invocation, result);
	} else {
		if (invocation->json)
			output_json(json_object_get(result, "ok"));
		else if (invocation->verbose)
			talk(invocation, "%s is unmounted; everything is on disk", mountpoint);
	}
	json_decref(result);
	return code;
}

int umount_path(struct invocation *invocation, const char *given, bool lazy)
{
	char *path = path_real(given);
	char *store = NULL, *workspace = NULL, *mountpoint = NULL;
	int error, code;

	if (!path)
		return failure_memory(invocation);
	/* Not to be one of those who keep it busy. */
	error = chdir("/") ? -errno : service_find_mount(path, &store, &workspace, &mountpoint);
	if (error) {
		code = failure(invocation, SERVICE_FAILED, "%s is not a cairn mount", given);
	} else {
		if (strcmp(path, mountpoint) != 0)
			code = failure(invocation, SERVICE_FAILED,
				       "%s is not a mount point; the mount around it is %s", given,
				       mountpoint);
		else
			code = umount_mount(invocation, store, workspace, mountpoint, lazy);
		free(store);
		free(workspace);
		free(mountpoint);
	}
	free(path);
	return code;
}

int cmd_umount(struct invocation *invocation)
{
	return umount_path(invocation, invocation->arguments[0], option_given(invocation, "lazy"));
}
