/*
 * Requests that wait, away from the dispatcher.
 *
 * Sync thread: takes all queued FSYNCs at once and answers them after one repo_sync().  It also
 * tells the kernel which attributes are no longer what it was told.
 *
 * Throttle thread: WRITEs that data_write() refused for lack of room.  While one is queued or being
 * taken in, every later WRITE queues up behind it, so that writes to a place keep their order.
 *
 * Seek thread: the kernel asks where data and holes lie without having sent what it holds itself,
 * be it a size that we have not heard of.  So it is made to send that first, and waited for: the
 * other threads must go on meanwhile, because they take those WRITEs in.  It also answers RENAMEs
 * that gave directories another parent: the kernel may hold listings of theirs, with the old "..",
 * and lets go of them only when whoever is reading them is done, which may in turn need a READ.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "fs/restore_internal.h"

enum { STALE_TRIES = 5, STALE_WAIT_NS = 1000 * 1000 };

struct deferred_sync {
	struct deferred_sync *next;
	fuse_req_t request;
	struct inode *inode; /* a reference, or NULL */
};

struct deferred_write {
	struct deferred_write *next;
	struct write_request write;
	struct buffer *buffer; /* a reference, or NULL */
};

struct deferred_seek {
	struct deferred_seek *next;
	struct seek_request seek;
};

struct deferred_move {
	struct deferred_move *next;
	struct move_request move;
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

/* Returns how many are left, at the front: a look-up was answered, but the kernel has no inode of
 * it yet, and will make one of the old answer (or it has let go, and tells us so in a moment). */
static size_t tell_to_ask(struct mount *mount, uint64_t *nodes, size_t count)
{
	size_t left = 0;

	for (size_t i = 0; i < count; i++) {
		int error = fuse_lowlevel_notify_inval_inode(mount->session, nodes[i], -1, 0);
		if (error == -ENOENT && node_is_known(mount, nodes[i]))
			nodes[left++] = nodes[i];
	}
	return left;
}

/*
 * Never from the dispatcher: a file that the kernel is just letting go of is waited for, and its
 * last WRITEs must get their answers meanwhile.
 */
static void drop_stale_attributes(struct mount *mount)
{
	const struct timespec wait = {.tv_nsec = STALE_WAIT_NS};
	struct deferred *deferred = &mount->deferred;

	pthread_mutex_lock(&deferred->lock);
	uint64_t *nodes = deferred->stale;
	size_t count = deferred->stale_count;
	deferred->stale = NULL;
	deferred->stale_count = deferred->stale_capacity = 0;
	pthread_mutex_unlock(&deferred->lock);
	for (int i = 0; count && i < STALE_TRIES; i++) {
		if (i)
			nanosleep(&wait, NULL);
		count = tell_to_ask(mount, nodes, count);
	}
	free(nodes);
}

void defer_stale_attributes(struct mount *mount, uint64_t node)
{
	struct deferred *deferred = &mount->deferred;

	pthread_mutex_lock(&deferred->lock);
	if (deferred->stopping) {
		pthread_mutex_unlock(&deferred->lock);
		return;
	}
	if (deferred->stale_count == deferred->stale_capacity) {
		size_t capacity = deferred->stale_capacity ? deferred->stale_capacity * 2 : 64;
		uint64_t *nodes = reallocarray(deferred->stale, capacity, sizeof(*nodes));
		if (nodes) {
			deferred->stale = nodes;
			deferred->stale_capacity = capacity;
		}
	}
	if (deferred->stale_count < deferred->stale_capacity)
		deferred->stale[deferred->stale_count++] = node;
	pthread_cond_signal(&deferred->sync_wanted);
	pthread_mutex_unlock(&deferred->lock);
}

static void *sync_run(void *context)
{
	struct mount *mount = context;
	struct deferred *deferred = &mount->deferred;

	pthread_mutex_lock(&deferred->lock);
	for (;;) {
		while (!deferred->syncs && !deferred->stale_count && !deferred->stopping)
			pthread_cond_wait(&deferred->sync_wanted, &deferred->lock);
		struct deferred_sync *syncs = deferred->syncs;
		if (!syncs && deferred->stopping)
			break;
		deferred->syncs = NULL;
		pthread_mutex_unlock(&deferred->lock);
		int error = syncs ? repo_sync(mount->repo) : 0;
		drop_stale_attributes(mount);
		answer_syncs(mount, syncs, error);
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
	pthread_mutex_unlock(&deferred->lock);
	/* Outside, lest it wakes only to wait for the lock. */
	pthread_cond_signal(&deferred->sync_wanted);
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
	entry->buffer = buffer ? buffer_ref(buffer) : NULL;
	atomic_fetch_add(&deferred->writes, 1);
	pthread_mutex_lock(&deferred->lock);
	*deferred->last_write = entry;
	deferred->last_write = &entry->next;
	pthread_cond_signal(&deferred->write_wanted);
	pthread_mutex_unlock(&deferred->lock);
}

/* ---- seeks ---- */

static void finish_seeks(struct mount *mount, struct deferred_seek *deferred)
{
	while (deferred) {
		struct deferred_seek *next = deferred->next;

		seek_finish(mount, &deferred->seek);
		free(deferred);
		deferred = next;
	}
}

static void finish_moves(struct mount *mount, struct deferred_move *deferred)
{
	while (deferred) {
		struct deferred_move *next = deferred->next;
		const struct move_request *move = &deferred->move;

		for (size_t i = 0; i < move->count; i++)
			(void)fuse_lowlevel_notify_inval_inode(mount->session, move->nodes[i], 0,
							       0);
		fuse_reply_err(move->request, 0);
		free(deferred);
		deferred = next;
	}
}

static void *seek_run(void *context)
{
	struct mount *mount = context;
	struct deferred *deferred = &mount->deferred;

	pthread_mutex_lock(&deferred->lock);
	for (;;) {
		while (!deferred->seeks && !deferred->moves && !deferred->stopping)
			pthread_cond_wait(&deferred->seek_wanted, &deferred->lock);
		struct deferred_seek *seeks = deferred->seeks;
		struct deferred_move *moves = deferred->moves;
		if (!seeks && !moves)
			break;
		deferred->seeks = NULL;
		deferred->moves = NULL;
		pthread_mutex_unlock(&deferred->lock);
		finish_moves(mount, moves);
		if (seeks)
			finish_seeks(mount, seeks);
		pthread_mutex_lock(&deferred->lock);
	}
	pthread_mutex_unlock(&deferred->lock);
	return NULL;
}

void defer_seek(struct mount *mount, const struct seek_request *seek)
{
	struct deferred *deferred = &mount->deferred;
	struct deferred_seek *entry = malloc(sizeof(*entry));

	if (!entry) {
		fuse_reply_err(seek->request, ENOMEM);
		return;
	}
	entry->seek = *seek;
	pthread_mutex_lock(&deferred->lock);
	entry->next = deferred->seeks;
	deferred->seeks = entry;
	pthread_cond_signal(&deferred->seek_wanted);
	pthread_mutex_unlock(&deferred->lock);
}

void defer_move(struct mount *mount, const struct move_request *move)
{
	struct deferred *deferred = &mount->deferred;
	struct deferred_move *entry = malloc(sizeof(*entry));

	if (!entry) { /* it is done; only ".." of a listing may be the old one */
		fuse_reply_err(move->request, 0);
		return;
	}
	entry->move = *move;
	pthread_mutex_lock(&deferred->lock);
	entry->next = deferred->moves;
	deferred->moves = entry;
	pthread_cond_signal(&deferred->seek_wanted);
	pthread_mutex_unlock(&deferred->lock);
}

/* ---- life cycle ---- */

static void stop_threads(struct deferred *deferred, const pthread_t *threads, size_t count)
{
	pthread_mutex_lock(&deferred->lock);
	deferred->stopping = true;
	pthread_cond_signal(&deferred->sync_wanted);
	pthread_cond_signal(&deferred->write_wanted);
	pthread_cond_signal(&deferred->seek_wanted);
	pthread_mutex_unlock(&deferred->lock);
	while (count)
		pthread_join(threads[--count], NULL);
}

int deferred_start(struct mount *mount)
{
	static void *(*const run[DEFERRED_THREADS])(void *) = {sync_run, write_run, seek_run};
	struct deferred *deferred = &mount->deferred;
	int error = 0;

	pthread_mutex_init(&deferred->lock, NULL);
	pthread_cond_init(&deferred->sync_wanted, NULL);
	pthread_cond_init(&deferred->write_wanted, NULL);
	pthread_cond_init(&deferred->seek_wanted, NULL);
	deferred->last_write = &deferred->first_write;
	for (size_t i = 0; i < DEFERRED_THREADS && !error; i++) {
		error = thread_start(&deferred->threads[i], run[i], mount);
		if (error)
			stop_threads(deferred, deferred->threads, i);
	}
	return error;
}

void deferred_stop(struct mount *mount)
{
	stop_threads(&mount->deferred, mount->deferred.threads, DEFERRED_THREADS);
	free(mount->deferred.stale);
}
