/*
 * Requests that wait, away from the dispatcher.
 *
 * Sync thread: takes all queued FSYNCs at once and answers them after one commit.
 *
 * Throttle thread: WRITEs that data_write() refused for lack of room.  While one is queued or being
 * taken in, every later WRITE queues up behind it, so that writes to a place keep their order.
 */
#include <errno.h>
#include <stdlib.h>

#include "fs/mount_internal.h"

struct deferred_sync {
	struct deferred_sync *next;
	fuse_req_t request;
	struct inode *inode; /* a reference, or NULL */
};

struct deferred_write {
	struct deferred_write *next;
	struct write_request write;
	struct buffer *buffer; /* a reference */
};

/* ---- fsync ---- */

/* The error of a background flush is told once. */
static int take_data_error(struct mount *mount, struct inode *inode)
{
	if (!inode)
		return 0;
	head_lock(mount->head);
	int error = inode->data.error;
	inode->data.error = 0;
	head_unlock(mount->head);
	return error;
}

static void answer_syncs(struct mount *mount, struct deferred_sync *sync, int result)
{
	while (sync) {
		struct deferred_sync *next = sync->next;
		int error = take_data_error(mount, sync->inode);

		if (sync->inode)
			inode_unref(sync->inode);
		reply_error(mount, sync->request, 0, result ? result : error);
		free(sync);
		sync = next;
	}
}

static void *sync_run(void *context)
{
	struct mount *mount = context;
	struct deferred *deferred = &mount->deferred;

	pthread_mutex_lock(&deferred->lock);
	for (;;) {
		while (!deferred->syncs && !deferred->stopping)
			pthread_cond_wait(&deferred->sync_wanted, &deferred->lock);
		struct deferred_sync *syncs = deferred->syncs;
		if (!syncs)
			break;
		deferred->syncs = NULL;
		pthread_mutex_unlock(&deferred->lock);
		answer_syncs(mount, syncs, repo_commit(mount->repo));
		pthread_mutex_lock(&deferred->lock);
	}
	pthread_mutex_unlock(&deferred->lock);
	return NULL;
}

void defer_sync(struct mount *mount, fuse_req_t request, struct inode *inode)
{
	struct deferred *deferred = &mount->deferred;
	struct deferred_sync *sync = malloc(sizeof(*sync));

	if (!sync) {
		fuse_reply_err(request, ENOMEM);
		return;
	}
	if (inode)
		inode_ref(inode);
	sync->request = request;
	sync->inode = inode;
	pthread_mutex_lock(&deferred->lock);
	sync->next = deferred->syncs;
	deferred->syncs = sync;
	pthread_cond_signal(&deferred->sync_wanted);
	pthread_mutex_unlock(&deferred->lock);
}

/* ---- writes ---- */

static void finish_write(struct mount *mount, struct deferred_write *deferred)
{
	const struct write_request *write = &deferred->write;
	int error;

	while ((error = write_take_in(mount, write, deferred->buffer)) == -EAGAIN)
		data_wait_for_room(mount->engine);
	buffer_unref(mount->buffers, deferred->buffer);
	if (error)
		reply_error(mount, write->request, write->node, error);
	else
		fuse_reply_write(write->request, write->length);
	free(deferred);
}

static void *write_run(void *context)
{
	struct mount *mount = context;
	struct deferred *deferred = &mount->deferred;

	pthread_mutex_lock(&deferred->lock);
	for (;;) {
		while (!deferred->first_write && !deferred->stopping)
			pthread_cond_wait(&deferred->write_wanted, &deferred->lock);
		struct deferred_write *write = deferred->first_write;
		if (!write)
			break;
		deferred->first_write = write->next;
		if (!write->next)
			deferred->last_write = &deferred->first_write;
		pthread_mutex_unlock(&deferred->lock);
		finish_write(mount, write);
		atomic_fetch_sub(&deferred->writes, 1);
		pthread_mutex_lock(&deferred->lock);
	}
	pthread_mutex_unlock(&deferred->lock);
	return NULL;
}

void defer_write(struct mount *mount, const struct write_request *write, struct buffer *buffer)
{
	struct deferred *deferred = &mount->deferred;
	struct deferred_write *entry = malloc(sizeof(*entry));

	if (!entry) {
		fuse_reply_err(write->request, ENOMEM);
		return;
	}
	entry->next = NULL;
	entry->write = *write;
	entry->buffer = buffer_ref(buffer);
	atomic_fetch_add(&deferred->writes, 1);
	pthread_mutex_lock(&deferred->lock);
	*deferred->last_write = entry;
	deferred->last_write = &entry->next;
	pthread_cond_signal(&deferred->write_wanted);
	pthread_mutex_unlock(&deferred->lock);
}

/* ---- life cycle ---- */

int deferred_start(struct mount *mount)
{
	struct deferred *deferred = &mount->deferred;

	pthread_mutex_init(&deferred->lock, NULL);
	pthread_cond_init(&deferred->sync_wanted, NULL);
	pthread_cond_init(&deferred->write_wanted, NULL);
	deferred->last_write = &deferred->first_write;
	int error = thread_start(&deferred->sync_thread, sync_run, mount);
	if (error)
		return error;
	error = thread_start(&deferred->write_thread, write_run, mount);
	if (error) {
		pthread_mutex_lock(&deferred->lock);
		deferred->stopping = true;
		pthread_cond_signal(&deferred->sync_wanted);
		pthread_mutex_unlock(&deferred->lock);
		pthread_join(deferred->sync_thread, NULL);
	}
	return error;
}

void deferred_stop(struct mount *mount)
{
	struct deferred *deferred = &mount->deferred;

	pthread_mutex_lock(&deferred->lock);
	deferred->stopping = true;
	pthread_cond_signal(&deferred->sync_wanted);
	pthread_cond_signal(&deferred->write_wanted);
	pthread_mutex_unlock(&deferred->lock);
	pthread_join(deferred->write_thread, NULL);
	pthread_join(deferred->sync_thread, NULL);
}
