/*
 * The daemon's own commits: what was acknowledged is on the disk after COMMIT_AFTER at the latest,
 * and changed nodes do not pile up in memory, nor what fsync() made durable in the redo log.
 *
 * A failed commit loses nothing, so it is tried again: on a full disk until there is room.  Only
 * after a failed sync is there nothing left to try (the store refuses): that is told once.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/daemon_internal.h"
#include "fs/log.h"

#define MILLISECOND UINT64_C(1000000)
#define LOOK_EVERY (250 * MILLISECOND)
#define COMMIT_AFTER (5000 * MILLISECOND)
#define RETRY_AFTER (1000 * MILLISECOND)

enum { TREE_BUDGET = 64 << 20, MAPPED_BUDGET = 96 << 20 };

struct committer {
	struct service *service; /* borrowed, fixed */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stop; /* lock */

	/* The rest is the thread's own. */
	uint64_t dirty_since; /* 0: clean when last looked at */
	uint64_t not_before;  /* after a failure */
	int logged;	      /* the kind of failure that was told last */
	bool gave_up;
};

/* Memory in nodes of mounted workspaces; all others are committed by who changes them. */
static size_t tree_bytes(struct service *service)
{
	struct mount_slot **slots;
	size_t count, bytes = 0;

	if (mounts_take_all(service, false, &slots, &count))
		return 0;
	for (size_t i = 0; i < count; i++) {
		struct head *head = mount_head(slot_mount(slots[i]));
		head_lock_shared(head);
		bytes += tree_dirty_bytes(head_tree(head));
		head_unlock(head);
	}
	mounts_put_all(service, slots, count);
	return bytes;
}

static void tell_result(struct committer *committer, int error)
{
	atomic_store(&committer->service->commit_error, error);
	if (error == committer->logged)
		return;
	committer->logged = error;
	if (error)
		log_line(LOG_LEVEL_ERROR, "a commit failed, it is tried again: %s",
			 strerror(-error));
	else
		log_line(LOG_LEVEL_INFO, "commits succeed again");
}

static void commit_now(struct committer *committer)
{
	struct service *service = committer->service;
	int error = repo_commit(service->repo);

	committer->dirty_since = 0;
	if (error && store_failed(repo_store(service->repo))) {
		atomic_store(&service->commit_error, error);
		committer->gave_up = true;
		log_line(LOG_LEVEL_ERROR, "a write to disk failed; unmount and mount again to "
					  "continue from the last commit");
		return;
	}
	if (error)
		committer->not_before = service_clock() + RETRY_AFTER;
	tell_result(committer, error);
}

static void look(struct committer *committer)
{
	struct service *service = committer->service;
	uint64_t now = service_clock();

	if (committer->gave_up)
		return;
	if (!repo_is_dirty(service->repo)) {
		committer->dirty_since = 0;
		return;
	}
	if (!committer->dirty_since)
		committer->dirty_since = now;
	if (now < committer->not_before)
		return;
	if (now - committer->dirty_since >= COMMIT_AFTER || tree_bytes(service) > TREE_BUDGET)
		commit_now(committer);
}

/* Lock held. */
static void sleep_until(struct committer *committer, uint64_t when)
{
	struct timespec time = {.tv_sec = (time_t)(when / 1000000000),
				.tv_nsec = (long)(when % 1000000000)};
	while (!committer->stop && service_clock() < when)
		if (pthread_cond_timedwait(&committer->wake, &committer->lock, &time) == ETIMEDOUT)
			break;
}

static void *committer_run(void *context)
{
	struct committer *committer = context;

	pthread_mutex_lock(&committer->lock);
	while (!committer->stop) {
		pthread_mutex_unlock(&committer->lock);
		look(committer);
		/* Best effort: without /proc the daemon only looks larger than it is. */
		(void)store_trim_memory(repo_store(committer->service->repo), MAPPED_BUDGET);
		pthread_mutex_lock(&committer->lock);
		sleep_until(committer, service_clock() + LOOK_EVERY);
	}
	pthread_mutex_unlock(&committer->lock);
	return NULL;
}

int daemon_init_wake(pthread_cond_t *wake)
{
	pthread_condattr_t attributes;
	int error = pthread_condattr_init(&attributes);
	if (error)
		return -error;
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	error = pthread_cond_init(wake, &attributes);
	pthread_condattr_destroy(&attributes);
	return -error;
}

int committer_start(struct service *service, struct committer **ret)
{
	struct committer *committer = calloc(1, sizeof(*committer));
	if (!committer)
		return -ENOMEM;
	committer->service = service;
	int error = daemon_init_wake(&committer->wake);
	if (error) {
		free(committer);
		return error;
	}
	pthread_mutex_init(&committer->lock, NULL);
	error = -pthread_create(&committer->thread, NULL, committer_run, committer);
	if (error) {
		pthread_cond_destroy(&committer->wake);
		pthread_mutex_destroy(&committer->lock);
		free(committer);
		return error;
	}
	*ret = committer;
	return 0;
}

struct committer *committer_stop(struct committer *committer)
{
	if (!committer)
		return NULL;
	pthread_mutex_lock(&committer->lock);
	committer->stop = true;
	pthread_cond_signal(&committer->wake);
	pthread_mutex_unlock(&committer->lock);
	pthread_join(committer->thread, NULL);
	pthread_cond_destroy(&committer->wake);
	pthread_mutex_destroy(&committer->lock);
	free(committer);
	return NULL;
}
