#include "tools/rehearse.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fs/service.h"
#include "tools/call.h"
#include "tools/child.h"
#include "tools/command.h"
#include "tools/failure.h"
#include "tools/mounting.h"
#include "tools/output.h"
#include "tools/place.h"

static const char records_name[] = "rehearsals";

/* ---- taking away ---------------------------------------------------------------------- */

static const char *store_of(const struct rehearsal *rehearsal)
{
	return rehearsal->invocation->place->store;
}

/* Sends a request and returns its error's message (malloc'ed), or NULL where it went well. */
static char *request_quietly(struct call *call, enum service_code *ret_code)
{
	json_t *result = call_result(call);
	char *message = NULL;

	*ret_code = service_result_code(result);
	if (*ret_code) {
		const json_t *error = json_object_get(result, "error");

		message = strdup(error ? get_text(error, "message") : "out of memory");
	}
	json_decref(result);
	return message;
}

static bool is_mounted_at(const char *path)
{
	char *store, *workspace, *mountpoint;
	bool there;

	if (service_find_mount(path, &store, &workspace, &mountpoint))
		return false;
	there = strcmp(mountpoint, path) == 0;
	free(store);
	free(workspace);
	free(mountpoint);
	return there;
}

/* The daemon is asked in any case: its mount may be in another namespace. */
static int ask_to_unmount(const struct rehearsal *rehearsal, bool lazy)
{
	json_t *result = NULL;
	int error = umount_live(rehearsal->invocation, store_of(rehearsal), rehearsal->mountpoint,
				lazy, &result);

	if (error == 0 && service_result_code(result) == SERVICE_BUSY)
		error = service_result_is_ending(result) ? 0 : -EBUSY;
	json_decref(result);
	return error;
}

static int unmount(const struct rehearsal *rehearsal)
{
	const char *mountpoint = rehearsal->mountpoint;

	if (ask_to_unmount(rehearsal, false) == -EBUSY) {
		talk(rehearsal->invocation, "processes still use %s: they are cut off", mountpoint);
		(void)ask_to_unmount(rehearsal, true);
	}
	if (mount_is_dead(mountpoint) && mount_take_away(mountpoint, false))
		(void)mount_take_away(mountpoint, true);
	if (!is_mounted_at(mountpoint))
		return 0;
	warning("cannot unmount %s", mountpoint);
	return -EBUSY;
}

static int delete_clone(const struct rehearsal *rehearsal)
{
	enum service_code code;
	struct call call;
	char *message;

	call_begin(&call, rehearsal->invocation, "workspace_delete", 0);
	call_text(&call, "name", rehearsal->workspace);
	message = request_quietly(&call, &code);
	if (code && code != SERVICE_NOT_FOUND)
		warning("cannot delete the workspace %s: %s", rehearsal->workspace,
			message ? message : "out of memory");
	free(message);
	return code && code != SERVICE_NOT_FOUND ? -EBUSY : 0;
}

static int remove_directory(const struct rehearsal *rehearsal)
{
	if ((unlink(rehearsal->steps) && errno != ENOENT) ||
	    (rmdir(rehearsal->mountpoint) && errno != ENOENT) ||
	    (rmdir(rehearsal->directory) && errno != ENOENT)) {
		int error = -errno;

		/* The whole place may be gone, after a restart. */
		if (error == -ENOTDIR)
			return 0;
		warning("cannot remove %s: %s", rehearsal->directory, strerror(-error));
		return error;
	}
	return 0;
}

static void rehearsal_release(struct rehearsal *rehearsal)
{
	free(rehearsal->workspace);
	free(rehearsal->directory);
	free(rehearsal->mountpoint);
	free(rehearsal->steps);
	free(rehearsal->record);
	if (rehearsal->lock >= 0)
		close(rehearsal->lock);
	*rehearsal = (struct rehearsal){.lock = -1};
}

/* The record goes last, and only where all it names is gone. */
static int take_away(struct rehearsal *rehearsal, bool with_workspace)
{
	int error = unmount(rehearsal);

	if (!error && with_workspace)
		error = delete_clone(rehearsal);
	if (!error)
		error = remove_directory(rehearsal);
	if (!error)
		unlink(rehearsal->record);
	return error;
}

void rehearsal_drop(struct rehearsal *rehearsal)
{
	if (rehearsal->invocation)
		(void)take_away(rehearsal, rehearsal->owned);
	if (rehearsal->invocation)
		rehearsal_release(rehearsal);
}

void rehearsal_keep(struct rehearsal *rehearsal, char **ret_workspace)
{
	(void)take_away(rehearsal, false);
	*ret_workspace = rehearsal->workspace;
	rehearsal->workspace = NULL;
	rehearsal_release(rehearsal);
}

/* ---- records -------------------------------------------------------------------------- */

static int fill_paths(struct rehearsal *rehearsal)
{
	if (asprintf(&rehearsal->mountpoint, "%s/work", rehearsal->directory) < 0)
		rehearsal->mountpoint = NULL;
	if (asprintf(&rehearsal->steps, "%s/steps", rehearsal->directory) < 0)
		rehearsal->steps = NULL;
	return rehearsal->mountpoint && rehearsal->steps ? 0 : -ENOMEM;
}

/* "clone WORKSPACE" or "view WORKSPACE", and "at DIRECTORY". */
static int record_write(const struct rehearsal *rehearsal)
{
	if (dprintf(rehearsal->lock, "%s %s\nat %s\n", rehearsal->owned ? "clone" : "view",
		    rehearsal->workspace, rehearsal->directory) < 0)
		return -errno;
	return fsync(rehearsal->lock) ? -errno : 0;
}

static int record_parse(char *text, struct rehearsal *ret)
{
	char *end = strchr(text, '\n'), *place = end ? end + 1 : NULL;
	char *word = strchr(text, ' ');

	if (!word || !end || word > end || strncmp(place, "at /", 4) != 0)
		return -EINVAL;
	*end = '\0';
	*word++ = '\0';
	place += 3;
	place[strcspn(place, "\n")] = '\0';
	ret->owned = strcmp(text, "clone") == 0;
	ret->workspace = strdup(word);
	ret->directory = strdup(place);
	return ret->workspace && ret->directory ? fill_paths(ret) : -ENOMEM;
}

/* A record is locked by another process: -EWOULDBLOCK. It was taken away before the lock: -ENOENT.
 */
static int record_lock(int fd, bool wait)
{
	struct stat status;

	while (flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB)))
		if (errno != EINTR)
			return -errno;
	if (fstat(fd, &status))
		return -errno;
	return status.st_nlink > 0 ? 0 : -ENOENT;
}

/* The directory of records belongs to whom the store belongs. */
static int records_make(const char *store, char **ret)
{
	struct stat status;
	char *path;

	if (asprintf(&path, "%s/%s", store, records_name) < 0)
		return -ENOMEM;
	if (mkdir(path, 0700) == 0) {
		if (stat(store, &status) == 0 && status.st_uid != geteuid() &&
		    chown(path, status.st_uid, status.st_gid))
			warning("cannot give %s to the owner of the store: %s", path,
				strerror(errno));
	} else if (errno != EEXIST) {
		int error = -errno;

		free(path);
		return error;
	}
	*ret = path;
	return 0;
}

static int record_make(struct rehearsal *rehearsal, const char *name)
{
	char *records = NULL;
	int error = records_make(store_of(rehearsal), &records);

	if (!error && asprintf(&rehearsal->record, "%s/%s", records, name) < 0) {
		rehearsal->record = NULL;
		error = -ENOMEM;
	}
	free(records);
	while (!error) {
		rehearsal->lock =
			open(rehearsal->record, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (rehearsal->lock < 0)
			return -errno;
		/* Who cleans up may have come first, and have found it empty. */
		error = record_lock(rehearsal->lock, true);
		if (error == 0)
			return record_write(rehearsal);
		close(rehearsal->lock);
		rehearsal->lock = -1;
		error = error == -ENOENT ? 0 : error;
	}
	return error;
}

static void record_clean(struct invocation *invocation, const char *path, int fd)
{
	struct rehearsal rehearsal = {.invocation = invocation, .lock = -1};
	char text[8192];
	ssize_t length = pread(fd, text, sizeof(text) - 1, 0);

	if (length < 0)
		return;
	text[length] = '\0';
	rehearsal.record = strdup(path);
	/* One that was cut short is of a process that had made nothing yet. */
	if (rehearsal.record && record_parse(text, &rehearsal) == -EINVAL)
		unlink(path);
	else if (rehearsal.record && rehearsal.steps && take_away(&rehearsal, rehearsal.owned) == 0)
		talk(invocation, "took away what a rehearsal had left that was killed: %s",
		     rehearsal.owned ? rehearsal.workspace : rehearsal.mountpoint);
	rehearsal_release(&rehearsal);
}

void rehearsals_clean(struct invocation *invocation)
{
	const struct place *place = place_get(invocation);
	struct dirent *entry;
	DIR *directory = NULL;
	char *path;

	if (place && asprintf(&path, "%s/%s", place->store, records_name) >= 0) {
		directory = opendir(path);
		free(path);
	}
	while (directory && (entry = readdir(directory))) {
		int fd = openat(dirfd(directory), entry->d_name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

		if (fd < 0)
			continue;
		if (record_lock(fd, false) == 0 &&
		    asprintf(&path, "%s/%s/%s", place->store, records_name, entry->d_name) >= 0) {
			record_clean(invocation, path, fd);
			free(path);
		}
		close(fd);
	}
	if (directory)
		closedir(directory);
}

/* ---- making --------------------------------------------------------------------------- */

static int interrupted(void)
{
	return signals_caught() ? 128 + signals_caught() : 0;
}

/* "try-20261130-213419-9f3c" */
static int make_name(char **ret)
{
	time_t now = time(NULL);
	uint16_t number;
	struct tm local;
	char when[32];

	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		return -errno;
	if (!localtime_r(&now, &local) || !strftime(when, sizeof(when), "%Y%m%d-%H%M%S", &local))
		return -EOVERFLOW;
	return asprintf(ret, "try-%s-%04x", when, number) < 0 ? -ENOMEM : 0;
}

/* $XDG_RUNTIME_DIR, $TMPDIR or /tmp: the first that is a directory to write in. */
static char *base_directory(void)
{
	const char *const candidates[] = {getenv("XDG_RUNTIME_DIR"), getenv("TMPDIR"), "/tmp"};

	for (size_t i = 0; i < sizeof(candidates) / sizeof(candidates[0]); i++)
		if (candidates[i] && candidates[i][0] == '/' && !strchr(candidates[i], '\n') &&
		    access(candidates[i], W_OK | X_OK) == 0)
			return path_real(candidates[i]);
	return strdup("/tmp");
}

static int make_directory(const struct rehearsal *rehearsal)
{
	if (mkdir(rehearsal->directory, 0700) || mkdir(rehearsal->mountpoint, 0700))
		return failure(rehearsal->invocation, SERVICE_FAILED, "cannot make %s: %s",
			       rehearsal->directory, strerror(errno));
	return 0;
}

/* All that is known before anything is made; then the record. */
static int plan(struct rehearsal *rehearsal, const char *workspace)
{
	char *name = NULL, *base = base_directory();
	int error = base ? make_name(&name) : -ENOMEM;

	if (!error && asprintf(&rehearsal->directory, "%s/cairn-%s", base, name) < 0) {
		rehearsal->directory = NULL;
		error = -ENOMEM;
	}
	if (!error) {
		rehearsal->workspace = strdup(workspace ? workspace : name);
		error = rehearsal->workspace ? fill_paths(rehearsal) : -ENOMEM;
	}
	if (!error)
		error = record_make(rehearsal, name);
	if (error)
		error = failure(rehearsal->invocation, SERVICE_FAILED,
				"cannot note the rehearsal in %s: %s", store_of(rehearsal),
				strerror(-error));
	free(name);
	free(base);
	return error;
}

bool source_is_head(const char *source)
{
	const char *at = strchr(source, '@');

	return at && strcmp(at, "@head") == 0;
}

static int run_and_forget(struct call *call)
{
	json_t *ok;
	int code = call_run(call, &ok);

	if (code == 0)
		json_decref(ok);
	return code ? code : interrupted();
}

static int make_clone(struct rehearsal *rehearsal, const char *workspace, const char *source,
		      const char *start)
{
	bool head = source_is_head(source);
	struct call call;
	char *message;
	int code;

	call_begin(&call, rehearsal->invocation, "clone", head ? CALL_PRESENT : 0);
	call_text(&call, "workspace", workspace);
	call_text(&call, "point", source);
	call_text(&call, "name", rehearsal->workspace);
	code = run_and_forget(&call);
	if (code || !start)
		return code;
	if (asprintf(&message, "start of a rehearsal, a clone of %s",
		     head ? "what was then" : source) < 0)
		return failure_memory(rehearsal->invocation);
	call_begin(&call, rehearsal->invocation, "freeze", 0);
	call_text(&call, "workspace", rehearsal->workspace);
	call_text(&call, "name", start);
	call_text(&call, "message", message);
	code = run_and_forget(&call);
	free(message);
	return code;
}

static int mount_it(struct rehearsal *rehearsal)
{
	struct invocation *invocation = rehearsal->invocation;
	json_t *result = NULL;
	struct call call;
	int code;

	call_begin(&call, invocation, "mount", 0);
	call_text(&call, "workspace", rehearsal->workspace);
	call_path(&call, "mountpoint", rehearsal->mountpoint);
	call_text(&call, "options", rehearsal->owned ? NULL : "ro");
	if (!call.failed && !call.invalid)
		result = mount_background(invocation, store_of(rehearsal), call.object);
	call_drop(&call);
	code = service_result_code(result);
	if (code)
		code = failure_result(invocation, result);
	json_decref(result);
	return code ? code : interrupted();
}

static int finish(int code, struct rehearsal *rehearsal, struct rehearsal *ret)
{
	if (code && rehearsal->lock >= 0)
		rehearsal_drop(rehearsal);
	else if (code)
		rehearsal_release(rehearsal);
	else
		*ret = *rehearsal;
	return code;
}

int rehearsal_begin(struct invocation *invocation, const char *workspace, const char *source,
		    const char *start, struct rehearsal *ret)
{
	struct rehearsal rehearsal = {.invocation = invocation, .lock = -1, .owned = true};
	int code = place_get(invocation) ? interrupted() : 1;

	if (!code)
		code = plan(&rehearsal, NULL);
	if (!code)
		code = make_clone(&rehearsal, workspace, source, start);
	if (!code)
		code = make_directory(&rehearsal);
	if (!code)
		code = mount_it(&rehearsal);
	return finish(code, &rehearsal, ret);
}

int rehearsal_view(struct invocation *invocation, const char *workspace, struct rehearsal *ret)
{
	struct rehearsal rehearsal = {.invocation = invocation, .lock = -1};
	int code = place_get(invocation) ? interrupted() : 1;

	if (!code)
		code = plan(&rehearsal, workspace);
	if (!code)
		code = make_directory(&rehearsal);
	if (!code)
		code = mount_it(&rehearsal);
	return finish(code, &rehearsal, ret);
}
