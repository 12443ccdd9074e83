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
#include "tools/output.h"
#include "tools/place.h"

enum {
	RACE_PATIENCE_MS =
		2000, /* for another command that holds the store, or starts its daemon */
	STEP_MS = 50,
};

static void step(void)
{
	struct timespec delay = {.tv_nsec = STEP_MS * 1000000L};

	nanosleep(&delay, NULL);
}

/* ---- mount ---------------------------------------------------------------------------- */

/* A mount whose daemon is gone.  Listings may still come from the kernel's cache, attributes too;
 * statfs always asks. */
static bool is_dead(const char *mountpoint)
{
	struct statvfs status;

	return statvfs(mountpoint, &status) != 0 && errno == ENOTCONN;
}

static int check_mountpoint(const struct invocation *invocation, const char *path)
{
	struct stat status;

	if (is_dead(path))
		return failure(invocation, SERVICE_FAILED,
			       "%s is a mount whose daemon is gone\n"
			       "'cairn umount %s' takes it away.",
			       path, path);
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

/* The daemon that is there, or a new one; both may change under our hands for a moment. */
static json_t *mount_background(struct invocation *invocation, const char *store,
				const json_t *object)
{
	for (int waited = 0;; waited += STEP_MS) {
		json_t *result = NULL;
		int error = call_daemon(invocation, store, object, &result);

		if (error == 0)
			return result;
		if (error != -ENOENT && error != -ECONNREFUSED)
			return service_error(error, "cannot talk to the daemon of the store");
		result = daemonize(store, object);
		if (service_result_code(result) != SERVICE_BUSY || waited >= RACE_PATIENCE_MS)
			return result;
		json_decref(result);
		step();
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
	int fd;

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

static int mount_path(struct invocation *invocation, const char *path, const char *options,
		      bool foreground)
{
	char *mountpoint;
	int code = check_mountpoint(invocation, path);

	if (code)
		return code;
	mountpoint = path_real(path);
	if (!mountpoint)
		return failure_memory(invocation);
	code = mount_at(invocation, mountpoint, options, foreground);
	free(mountpoint);
	return code;
}

int cmd_mount(struct invocation *invocation)
{
	return mount_path(invocation, invocation->arguments[0], option_value(invocation, "options"),
			  option_given(invocation, "foreground"));
}

/* ---- mount.cairn ---------------------------------------------------------------------- */

struct helper {
	const char *words[2]; /* SOURCE and MOUNTPOINT */
	int word_count;
	const char *options;
	bool fake;
};

/* The letters that mount(8) hands to its helpers; what -o holds for fstab alone, fs/ ignores.
 * Returns 0 or 2. */
static int helper_parse(int argc, char **argv, struct helper *helper, struct invocation *invocation)
{
	int letter;

	while ((letter = getopt(argc, argv, "sfnvo:t:N:")) != -1) {
		switch (letter) {
		case 'f':
			helper->fake = true;
			break;
		case 'v':
			invocation->verbose++;
			break;
		case 'o':
			helper->options = optarg;
			break;
		case 's':
		case 'n':
		case 't':
		case 'N':
			break;
		default:
			return 2;
		}
	}
	for (; optind < argc && helper->word_count < 2; optind++)
		helper->words[helper->word_count++] = argv[optind];
	if (helper->word_count < 2 || optind < argc) {
		fputs("usage: mount.cairn STORE[#WORKSPACE] MOUNTPOINT [-sfnv] [-o OPTS]\n",
		      stderr);
		return 2;
	}
	return 0;
}

/* STORE or STORE#WORKSPACE; a directory whose name has a '#' is a store. */
static void split_source(char *source, struct invocation *invocation)
{
	char *mark = strrchr(source, '#');
	struct stat status;

	invocation->store = source;
	if (!mark || stat(source, &status) == 0)
		return;
	*mark = '\0';
	if (mark[1])
		invocation->workspace = mark + 1;
}

int mount_helper(int argc, char **argv)
{
	struct helper helper = {0};
	struct invocation invocation = {0};
	char *source = NULL;
	int code = helper_parse(argc, argv, &helper, &invocation);

	if (code == 0 && !helper.fake) {
		source = strdup(helper.words[0]);
		if (source) {
			split_source(source, &invocation);
			code = mount_path(&invocation, helper.words[1], helper.options, false);
		} else {
			code = failure_memory(&invocation);
		}
	}
	invocation_release(&invocation);
	free(source);
	return code;
}

/* ---- umount --------------------------------------------------------------------------- */

static int run_fusermount(const char *mountpoint, bool lazy)
{
	pid_t child;
	int status;

	fflush(NULL);
	child = fork();
	if (child < 0)
		return -errno;
	if (child == 0) {
		/* After "-z" and "-u" alike "--": the path may start with anything. */
		execlp("fusermount3", "fusermount3", lazy ? "-uz" : "-u", "--", mountpoint,
		       (char *)NULL);
		_exit(127);
	}
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

static int take_away(const char *mountpoint, bool lazy)
{
	if (umount2(mountpoint, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0)
		return 0;
	if (errno != EPERM)
		return -errno;
	return run_fusermount(mountpoint, lazy);
}

static int umount_dead(const struct invocation *invocation, const char *store,
		       const char *workspace, const char *mountpoint, bool lazy)
{
	json_t *document;
	int error = take_away(mountpoint, lazy);

	if (error == -EBUSY)
		return failure(invocation, SERVICE_BUSY,
			       "%s is in use, and its daemon is gone\n"
			       "Leave the directory, or take it away with --lazy.",
			       mountpoint);
	if (error)
		return failure(invocation, SERVICE_FAILED, "cannot unmount %s: %s", mountpoint,
			       strerror(-error));
	talk(invocation,
	     "The daemon of %s was gone (it crashed or was killed); the dead mount is taken away.\n"
	     "What fsync, freeze or restore confirmed is safe in %s.",
	     mountpoint, store);
	if (!invocation->json)
		return 0;
	document = json_pack("{s:s, s:s, s:b}", "mountpoint", mountpoint, "workspace", workspace,
			     "dead", 1);
	output_json(document);
	json_decref(document);
	return 0;
}

/* The call returns when the daemon has let go of the store, or serves another mount. */
static int umount_live(struct invocation *invocation, const char *store, const char *mountpoint,
		       bool lazy, json_t **ret_result)
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
			const char *mountpoint)
{
	bool lazy = option_given(invocation, "lazy");
	json_t *result = NULL;
	int error = umount_live(invocation, store, mountpoint, lazy, &result), code;

	/* A daemon that answers may be another one, which knows nothing of this mount. */
	if ((error || service_result_code(result)) && is_dead(mountpoint)) {
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

int cmd_umount(struct invocation *invocation)
{
	char *path = path_real(invocation->arguments[0]);
	char *store = NULL, *workspace = NULL, *mountpoint = NULL;
	int error, code;

	if (!path)
		return failure_memory(invocation);
	/* Not to be one of those who keep it busy. */
	error = chdir("/") ? -errno : service_find_mount(path, &store, &workspace, &mountpoint);
	if (error) {
		code = failure(invocation, SERVICE_FAILED, "%s is not a cairn mount",
			       invocation->arguments[0]);
	} else {
		if (strcmp(path, mountpoint) != 0)
			code = failure(invocation, SERVICE_FAILED,
				       "%s is not a mount point; the mount around it is %s",
				       invocation->arguments[0], mountpoint);
		else
			code = umount_mount(invocation, store, workspace, mountpoint);
		free(store);
		free(workspace);
		free(mountpoint);
	}
	free(path);
	return code;
}
