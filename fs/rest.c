/*
 * At rest: what is worth doing when nobody writes.
 *
 *   - What came in quickly (raw, or with lz4) is compressed with zstd (index/relocate.h).
 *   - Files that were written here and there are put in order (snapshot/order.h).
 *
 * The daemon is at rest when for REST_AFTER nothing has waited for a commit, and no longer than
 * that: each chunk is a moment to stop at.  Reading goes on beside.  The thread works at normal
 * priority, because it holds the index's write lock for the milliseconds of a commit, and whoever
 * begins to write would wait for a thread that gets no processor; instead it sleeps as long as it
 * works.  Where there is nothing to do it only looks, every REST_LOOK.
 *
 * A full disk, damage or another error ends it until something is written again: the next pass
 * would meet the same.
 */
#include "fs/rest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/daemon_internal.h"
#include "fs/log.h"
#include "fs/mount.h"
#include "snapshot/order.h"

#define MILLISECOND UINT64_C(1000000)
#define REST_LOOK (1000 * MILLISECOND)
#define REST_AFTER (3000 * MILLISECOND)
#define REST_SLICE (20 * MILLISECOND) /* of work, then as much sleep */

enum { FILES_AT_ONCE = 64 };

struct rest {
	struct service *service; /* borrowed, fixed */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	_Atomic bool stop;

	/* The rest is the thread's own. */
	uint64_t quiet_since; /* 0: not quiet when last looked at */
	uint64_t slice_began;
	bool gave_up;  /* until something is written */
	bool all_due;  /* all files are to be looked at */
	bool restless; /* somebody writes: stop */
};

static void sleep_for(struct rest *rest, uint64_t nanoseconds)
{
	uint64_t until = service_clock() + nanoseconds;
	struct timespec time = {.tv_sec = (time_t)(until / 1000000000),
				.tv_nsec = (long)(until % 1000000000)};

	pthread_mutex_lock(&rest->lock);
	while (!atomic_load(&rest->stop) && service_clock() < until)
		if (pthread_cond_timedwait(&rest->wake, &rest->lock, &time) == ETIMEDOUT)
			break;
	pthread_mutex_unlock(&rest->lock);
}

/* Between two chunks: whether to stop.  Also where the pauses are made. */
static bool must_stop(void *context)
{
	struct rest *rest = context;
	uint64_t worked = service_clock() - rest->slice_began;

	if (worked >= REST_SLICE) {
		sleep_for(rest, worked);
		rest->slice_began = service_clock();
	}
	rest->restless = atomic_load(&rest->stop) || repo_is_dirty(rest->service->repo);
	return rest->restless;
}

static int recompress_step(uint64_t done, uint64_t total, void *context)
{
	(void)done;
	(void)total;
	return must_stop(context);
}

/* ---- order ---- */

/* Of each mount in turn; false where no mount has any. */
static bool take_scattered(struct service *service, uint64_t *inos, size_t *ret_count,
			   char **ret_workspace, bool *ret_many)
{
	struct mount_slot **slots;
	size_t count;

	*ret_count = 0;
	*ret_many = false;
	if (mounts_take_all(service, false, &slots, &count))
		return false;
	for (size_t i = 0; i < count && !*ret_count && !*ret_many; i++) {
		struct mount *mount = slot_mount(slots[i]);

		*ret_count = mount_take_scattered(mount, inos, FILES_AT_ONCE, ret_many);
		if (*ret_count) {
			*ret_workspace = strdup(mount_workspace(mount));
			if (!*ret_workspace)
				*ret_count = 0;
		}
	}
	mounts_put_all(service, slots, count);
	return *ret_count || *ret_many;
}

static int order_some(struct rest *rest, const char *workspace, const uint64_t *inos, size_t count)
{
	struct repo *repo = rest->service->repo;
	struct order_result result = {0};
	struct relocation *relocation;
	struct head *head;
	int error = repo_head(repo, workspace, &head, NULL);

	if (error)
		return error == -ENOENT ? 0 : error;
	error = relocation_begin(repo_store(repo), &relocation);
	if (error) {
		head_put(head);
		return error;
	}
	for (size_t i = 0; i < count && !error; i++) {
		if (must_stop(rest))
			rest->all_due = true; /* those that are left are among all */
		else
			error = order_file(head, inos[i], relocation, must_stop, rest, &result);
	}
	rest->all_due |= rest->restless;
	if (!error)
		error = relocation_flush(relocation);
	relocation_end(relocation, NULL);
	head_put(head);
	return error;
}

static int order_named(struct rest *rest)
{
	uint64_t inos[FILES_AT_ONCE];
	char *workspace = NULL;
	size_t count;
	bool many;
	int error = 0;

	while (!error && !rest->restless &&
	       take_scattered(rest->service, inos, &count, &workspace, &many)) {
		rest->all_due |= many;
		if (count)
			error = order_some(rest, workspace, inos, count);
		free(workspace);
		workspace = NULL;
	}
	return error;
}

int rest_order_all(struct service *service, order_stop *stop, void *context,
		   struct order_result *result, struct relocation_result *ret_moved)
{
	struct workspace *list = NULL;
	struct relocation *relocation = NULL;
	size_t count = 0;
	int error = workspace_list(service->repo, &list, &count);

	if (!error)
		error = relocation_begin(repo_store(service->repo), &relocation);
	for (size_t i = 0; i < count && !error && !(stop && stop(context)); i++) {
		uint64_t position = 0;
		struct head *head;

		error = repo_head(service->repo, list[i].name, &head, NULL);
		if (error == -ENOENT) { /* deleted meanwhile */
			error = 0;
			continue;
		}
		if (error)
			break;
		error = order_all(head, &position, relocation, stop, context, result);
		head_put(head);
	}
	if (!error && relocation)
		error = relocation_flush(relocation);
	relocation_end(relocation, ret_moved);
	workspaces_free(list, count);
	return error;
}

static int order_whatever(struct rest *rest)
{
	struct order_result result = {0};
	int error = rest_order_all(rest->service, must_stop, rest, &result, NULL);

	if (error || rest->restless)
		return error;
	rest->all_due = false;
	/* The note goes with the next commit, whoever makes it: losing it costs another look. */
	store_note_scattered(repo_store(rest->service->repo), false);
	return 0;
}

/* ---- the thread ---- */

static int work(struct rest *rest)
{
	struct store *store = repo_store(rest->service->repo);
	struct relocation_result result;
	int error = 0;

	rest->restless = false;
	rest->slice_began = service_clock();
	if (relocate_waiting(store))
		error = relocate_recompress(store, recompress_step, rest, &result);
	if (!error && !rest->restless)
		error = order_named(rest);
	if (!error && !rest->restless && rest->all_due)
		error = order_whatever(rest);
	return error;
}

static void look(struct rest *rest)
{
	uint64_t now = service_clock();
	int error;

	if (repo_is_dirty(rest->service->repo)) {
		rest->quiet_since = 0;
		rest->gave_up = false;
		return;
	}
	if (!rest->quiet_since)
		rest->quiet_since = now;
	if (rest->gave_up || now - rest->quiet_since < REST_AFTER)
		return;
	error = work(rest);
	rest->gave_up = error != 0;
	if (rest->restless)
		rest->quiet_since = 0;
	if (error && error != -ENOSPC)
		log_line(LOG_LEVEL_WARNING, "what lies at rest could not be put in order: %s",
			 strerror(-error));
}

static void *rest_run(void *context)
{
	struct rest *rest = context;

	while (!atomic_load(&rest->stop)) {
		look(rest);
		sleep_for(rest, REST_LOOK);
	}
	return NULL;
}

int rest_start(struct service *service, struct rest **ret)
{
	struct rest *rest = calloc(1, sizeof(*rest));
	int error;

	if (!rest)
		return -ENOMEM;
	rest->service = service;
	rest->all_due = store_is_scattered(repo_store(service->repo));
	error = daemon_init_wake(&rest->wake);
	if (error) {
		free(rest);
		return error;
	}
	pthread_mutex_init(&rest->lock, NULL);
	error = -pthread_create(&rest->thread, NULL, rest_run, rest);
	if (error) {
		pthread_cond_destroy(&rest->wake);
		pthread_mutex_destroy(&rest->lock);
		free(rest);
		return error;
	}
	*ret = rest;
	return 0;
}

struct rest *rest_stop(struct rest *rest)
{
	if (!rest)
		return NULL;
	pthread_mutex_lock(&rest->lock);
	atomic_store(&rest->stop, true);
	pthread_cond_signal(&rest->wake);
	pthread_mutex_unlock(&rest->lock);
	pthread_join(rest->thread, NULL);
	pthread_cond_destroy(&rest->wake);
	pthread_mutex_destroy(&rest->lock);
	free(rest);
	return NULL;
}
