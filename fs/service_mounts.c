/*
 * The mounts of a daemon: the list, and the requests mount and umount.
 *
 *           service_mount()                  service_umount(), mounts_stop_all()
 *   (none) -----------------> listed --------------------------------------------> stopping
 *                              |  ^                                                  |   |
 *          the kernel let go:  |  +----------- the mount is busy --------------------+   | done
 *          mounts_reap()       +-----------------------------------------------> freed <-+
 *
 * Whoever works with a mount holds its slot (`users`).  Stopping waits until nobody does, and
 * who comes meanwhile waits for the outcome: so a freeze runs on a mount that is whole, or on the
 * head of a workspace that is not mounted, never on one that is half gone.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/log.h"
#include "fs/service_internal.h"

struct mount_slot {
	struct mount_slot *next; /* lock */
	struct mount *mount;	 /* owned, fixed */
	unsigned users;		 /* lock */
	bool stopping;		 /* lock: one thread is about to unmount or free it */
	bool stuck;		 /* lock: mounts_stop_all() could not unmount it */
};

struct mounts {
	struct engine *engine;	/* borrowed, fixed */
	int wake;		/* borrowed, fixed */
	pthread_mutex_t lock;	/* no mount function that waits is called under it */
	pthread_cond_t changed; /* users, stopping, list, starting, ending */
	struct mount_slot *list;
	unsigned starting; /* mounts on their way into the list */
	unsigned ending;   /* mounts out of the list that are being freed */
	bool closed;	   /* no mount is accepted any more */
};

struct mounts *mounts_new(struct engine *engine, int wake)
{
	struct mounts *mounts = calloc(1, sizeof(*mounts));
	if (!mounts)
		return NULL;
	mounts->engine = engine;
	mounts->wake = wake;
	pthread_mutex_init(&mounts->lock, NULL);
	pthread_cond_init(&mounts->changed, NULL);
	return mounts;
}

struct mounts *mounts_free(struct mounts *mounts)
{
	if (!mounts)
		return NULL;
	pthread_cond_destroy(&mounts->changed);
	pthread_mutex_destroy(&mounts->lock);
	free(mounts);
	return NULL;
}

static void mounts_wake(void *context)
{
	struct mounts *mounts = context;
	uint64_t one = 1;
	/* It fails only where the counter is full: then the reader is awake anyway. */
	ssize_t written = write(mounts->wake, &one, sizeof(one));
	(void)written;
}

struct mount *slot_mount(struct mount_slot *slot)
{
	return slot->mount;
}

/* ---- holding ---- */

/* Lock held.  NULL where there is none; one that the kernel has let go of is none any more. */
static struct mount_slot *find_workspace(struct mounts *mounts, const char *workspace)
{
	struct mount_slot *slot = mounts->list;
	while (slot && (strcmp(mount_workspace(slot->mount), workspace) != 0 ||
			(!slot->stopping && mount_has_ended(slot->mount))))
		slot = slot->next;
	return slot;
}

struct mount_slot *mounts_take(struct service *service, const char *workspace)
{
	struct mounts *mounts = service->mounts;
	struct mount_slot *slot;

	if (!mounts)
		return NULL;
	pthread_mutex_lock(&mounts->lock);
	while ((slot = find_workspace(mounts, workspace)) && slot->stopping)
		pthread_cond_wait(&mounts->changed, &mounts->lock);
	if (slot)
		slot->users++;
	pthread_mutex_unlock(&mounts->lock);
	return slot;
}

/* Lock held. */
static void put_locked(struct mounts *mounts, struct mount_slot *slot)
{
	if (--slot->users == 0)
		pthread_cond_broadcast(&mounts->changed);
}

void mounts_put(struct service *service, struct mount_slot *slot)
{
	struct mounts *mounts = service->mounts;
	pthread_mutex_lock(&mounts->lock);
	put_locked(mounts, slot);
	pthread_mutex_unlock(&mounts->lock);
}

static bool any_stopping(const struct mounts *mounts)
{
	for (const struct mount_slot *slot = mounts->list; slot; slot = slot->next)
		if (slot->stopping)
			return true;
	return false;
}

int mounts_take_all(struct service *service, bool wait, struct mount_slot ***ret, size_t *ret_count)
{
	struct mounts *mounts = service->mounts;
	struct mount_slot **slots = NULL;
	size_t count = 0, capacity = 0;

	*ret = NULL;
	*ret_count = 0;
	if (!mounts)
		return 0;
	pthread_mutex_lock(&mounts->lock);
	while (wait && any_stopping(mounts))
		pthread_cond_wait(&mounts->changed, &mounts->lock);
	for (struct mount_slot *slot = mounts->list; slot; slot = slot->next)
		capacity++;
	if (capacity)
		slots = calloc(capacity, sizeof(struct mount_slot *));
	if (capacity && !slots) {
		pthread_mutex_unlock(&mounts->lock);
		return -ENOMEM;
	}
	for (struct mount_slot *slot = mounts->list; slot; slot = slot->next) {
		if (slot->stopping || mount_has_ended(slot->mount))
			continue;
		slot->users++;
		slots[count++] = slot;
	}
	pthread_mutex_unlock(&mounts->lock);
	*ret = slots;
	*ret_count = count;
	return 0;
}

void mounts_put_all(struct service *service, struct mount_slot **slots, size_t count)
{
	for (size_t i = 0; i < count; i++)
		mounts_put(service, slots[i]);
	free(slots);
}

void mounts_points_changed(struct service *service, uint64_t workspace)
{
	struct mount_slot **slots;
	size_t count;
	/* Without memory for the list the names stay in the kernel's cache: worth a line. */
	if (mounts_take_all(service, false, &slots, &count)) {
		log_line(LOG_LEVEL_WARNING, "out of memory: .snapshots may show old names");
		return;
	}
	for (size_t i = 0; i < count; i++) {
		struct mount *mount = slot_mount(slots[i]);
		if (head_workspace(mount_head(mount)) == workspace)
			mount_points_changed(mount);
	}
	mounts_put_all(service, slots, count);
}

/* ---- stopping ---- */

/* Lock held, and dropped meanwhile: nobody else stops it, and nobody holds it. */
static void begin_stopping(struct mounts *mounts, struct mount_slot *slot)
{
	slot->stopping = true;
	while (slot->users)
		pthread_cond_wait(&mounts->changed, &mounts->lock);
}

/* Lock held. */
static void unlink_slot(struct mounts *mounts, struct mount_slot *slot)
{
	struct mount_slot **link = &mounts->list;
	while (*link != slot)
		link = &(*link)->next;
	*link = slot->next;
}

/* Lock held, and dropped meanwhile; the slot is stopping and its mount has ended. */
static void free_slot(struct mounts *mounts, struct mount_slot *slot)
{
	unlink_slot(mounts, slot);
	mounts->ending++;
	pthread_mutex_unlock(&mounts->lock);
	mount_free(slot->mount);
	free(slot);
	pthread_mutex_lock(&mounts->lock);
	mounts->ending--;
	pthread_cond_broadcast(&mounts->changed);
}

/* Lock held, and dropped meanwhile.  Frees the slot where it returns 0. */
static int stop_slot(struct mounts *mounts, struct mount_slot *slot, bool lazy, struct errbuf *err)
{
	begin_stopping(mounts, slot);
	pthread_mutex_unlock(&mounts->lock);
	int error = mount_has_ended(slot->mount) ? 0 : mount_stop(slot->mount, lazy, err);
	pthread_mutex_lock(&mounts->lock);
	if (error) {
		slot->stopping = false;
		pthread_cond_broadcast(&mounts->changed);
	} else {
		free_slot(mounts, slot);
	}
	return error;
}

void mounts_reap(struct mounts *mounts)
{
	pthread_mutex_lock(&mounts->lock);
	struct mount_slot *slot = mounts->list;
	while (slot) {
		if (slot->stopping || !mount_has_ended(slot->mount)) {
			slot = slot->next;
			continue;
		}
		begin_stopping(mounts, slot);
		log_line(LOG_LEVEL_INFO, "%s is unmounted", mount_point(slot->mount));
		free_slot(mounts, slot);
		slot = mounts->list;
	}
	pthread_mutex_unlock(&mounts->lock);
}

/* Lock held. */
static bool nothing_left(const struct mounts *mounts)
{
	return !mounts->list && !mounts->starting && !mounts->ending;
}

bool mounts_are_empty(struct mounts *mounts)
{
	pthread_mutex_lock(&mounts->lock);
	bool empty = nothing_left(mounts);
	pthread_mutex_unlock(&mounts->lock);
	return empty;
}

bool mounts_close(struct mounts *mounts)
{
	pthread_mutex_lock(&mounts->lock);
	bool empty = nothing_left(mounts);
	if (empty)
		mounts->closed = true;
	pthread_mutex_unlock(&mounts->lock);
	return empty;
}

void mounts_refuse(struct mounts *mounts)
{
	pthread_mutex_lock(&mounts->lock);
	mounts->closed = true;
	pthread_mutex_unlock(&mounts->lock);
}

/* Lock held.  The next one to stop; waits where others stop or start some. NULL: no more. */
static struct mount_slot *next_to_stop(struct mounts *mounts)
{
	for (;;) {
		struct mount_slot *slot = mounts->list;
		while (slot && (slot->stopping || slot->stuck))
			slot = slot->next;
		if (slot)
			return slot;
		if (!mounts->starting && !mounts->ending && !any_stopping(mounts))
			return NULL;
		pthread_cond_wait(&mounts->changed, &mounts->lock);
	}
}

int mounts_stop_all(struct mounts *mounts)
{
	struct mount_slot *slot;
	int result = 0;

	pthread_mutex_lock(&mounts->lock);
	mounts->closed = true;
	while ((slot = next_to_stop(mounts))) {
		struct errbuf err = {""};
		int error = stop_slot(mounts, slot, false, &err);
		if (error) {
			log_line(LOG_LEVEL_WARNING, "unmounting %s lazily: %s",
				 mount_point(slot->mount),
				 err.text[0] ? err.text : strerror(-error));
			err.text[0] = '\0';
			error = stop_slot(mounts, slot, true, &err);
		}
		if (error) {
			log_line(LOG_LEVEL_ERROR, "cannot unmount %s: %s", mount_point(slot->mount),
				 err.text[0] ? err.text : strerror(-error));
			slot->stuck = true;
			result = error;
		}
	}
	pthread_mutex_unlock(&mounts->lock);
	return result;
}

/* ---- requests ---- */

/* Lock held.  The slot of a workspace whether or not the kernel has let go of it. */
static struct mount_slot *find_any(struct mounts *mounts, const char *workspace)
{
	struct mount_slot *slot = mounts->list;
	while (slot && strcmp(mount_workspace(slot->mount), workspace) != 0)
		slot = slot->next;
	return slot;
}

/* Lock held, and dropped meanwhile: until another thread has stopped the slot, or this one has
 * reaped it (the main thread may be waiting for this one). */
static void wait_for_slot(struct mounts *mounts, struct mount_slot *slot)
{
	if (slot->stopping) {
		pthread_cond_wait(&mounts->changed, &mounts->lock);
		return;
	}
	begin_stopping(mounts, slot);
	pthread_mutex_unlock(&mounts->lock);
	mount_wait_end(slot->mount);
	log_line(LOG_LEVEL_INFO, "%s is unmounted", mount_point(slot->mount));
	pthread_mutex_lock(&mounts->lock);
	free_slot(mounts, slot);
}

/* Who mounts again right after umount(8) comes before the old mount has finished. */
static int begin_starting(struct mounts *mounts, const char *workspace, struct errbuf *err)
{
	struct mount_slot *slot;
	int error = 0;

	pthread_mutex_lock(&mounts->lock);
	while ((slot = find_any(mounts, workspace)) &&
	       (slot->stopping || mount_is_ending(slot->mount)))
		wait_for_slot(mounts, slot);
	if (mounts->closed)
		error = err_set(err, -ESHUTDOWN, "the daemon of this store is ending: try again");
	else if (slot)
		error = err_set(err, -EBUSY, "workspace '%s' is mounted already, at %s", workspace,
				mount_point(slot->mount));
	else
		mounts->starting++;
	pthread_mutex_unlock(&mounts->lock);
	return error;
}

/* `slot` NULL: it came to nothing. */
static void end_starting(struct mounts *mounts, struct mount_slot *slot)
{
	pthread_mutex_lock(&mounts->lock);
	mounts->starting--;
	if (slot) {
		slot->next = mounts->list;
		mounts->list = slot;
	}
	pthread_cond_broadcast(&mounts->changed);
	pthread_mutex_unlock(&mounts->lock);
}

/* The new slot is held. */
static int start_mount(struct request *request, const struct mount_options *options,
		       struct mount_slot **ret)
{
	struct mounts *mounts = request->service->mounts;
	struct mount_slot *slot = calloc(1, sizeof(*slot));
	if (!slot)
		return -ENOMEM;
	int error = begin_starting(mounts, options->workspace, &request->err);
	if (error) {
		free(slot);
		return error;
	}
	error = mount_start(request->service->repo, mounts->engine, options, &slot->mount,
			    &request->err);
	slot->users = 1;
	end_starting(mounts, error ? NULL : slot);
	if (error) {
		free(slot);
		mounts_wake(mounts);
		return error;
	}
	mount_on_end(slot->mount, mounts_wake, mounts);
	/* It may have ended before somebody listened. */
	mounts_wake(mounts);
	*ret = slot;
	return 0;
}

static int check_mountpoint(struct request *request, const char *mountpoint)
{
	if (mountpoint[0] == '/')
		return 0;
	return err_set(&request->err, -EINVAL, "'mountpoint' must be an absolute path");
}

int service_mount(struct request *request, json_t **ret)
{
	char *mountpoint, *workspace = NULL;
	struct mount_slot *slot = NULL;
	int error = request_path(request, "mountpoint", &mountpoint);
	if (error)
		return error;
	error = check_mountpoint(request, mountpoint);
	if (!error)
		error = mount_options_check(request_text(request, "options"), &request->err);
	if (!error)
		error = request_workspace(request, NULL, &workspace);
	if (!error) {
		struct mount_options options = {
			.mountpoint = mountpoint,
			.workspace = workspace,
			.fuse_options = request_text(request, "options"),
		};
		error = start_mount(request, &options, &slot);
	}
	if (!error) {
		log_line(LOG_LEVEL_INFO, "%s is mounted: workspace %s", mount_point(slot->mount),
			 workspace);
		error = json_result(json_pack("{s:o, s:o, s:i}", "mountpoint",
					      json_text(mount_point(slot->mount)), "workspace",
					      json_text(workspace), "pid", (int)getpid()),
				    ret);
		mounts_put(request->service, slot);
	}
	free(workspace);
	free(mountpoint);
	return error;
}

static bool same_path(const char *a, const char *b)
{
	size_t a_length = strlen(a), b_length = strlen(b);
	while (a_length > 1 && a[a_length - 1] == '/')
		a_length--;
	while (b_length > 1 && b[b_length - 1] == '/')
		b_length--;
	return a_length == b_length && memcmp(a, b, a_length) == 0;
}

/* Lock held. */
static struct mount_slot *find_mountpoint(struct mounts *mounts, const char *mountpoint)
{
	struct mount_slot *slot = mounts->list;
	while (slot && !same_path(mount_point(slot->mount), mountpoint))
		slot = slot->next;
	return slot;
}

static int stop_mount(struct request *request, const char *mountpoint, bool lazy, json_t **ret)
{
	struct mounts *mounts = request->service->mounts;
	struct mount_slot *slot;
	json_t *result = NULL;
	int error;

	pthread_mutex_lock(&mounts->lock);
	while ((slot = find_mountpoint(mounts, mountpoint)) && slot->stopping)
		pthread_cond_wait(&mounts->changed, &mounts->lock);
	if (slot) {
		result = json_pack("{s:o, s:o}", "mountpoint", json_text(mount_point(slot->mount)),
				   "workspace", json_text(mount_workspace(slot->mount)));
		error = result ? stop_slot(mounts, slot, lazy, &request->err) : -ENOMEM;
	} else {
		error = err_set(&request->err, -ENOENT, "nothing of %s is mounted on %s",
				store_directory(repo_store(request->service->repo)), mountpoint);
	}
	pthread_mutex_unlock(&mounts->lock);
	if (error) {
		json_decref(result);
		return error;
	}
	log_line(LOG_LEVEL_INFO, "%s is unmounted", mountpoint);
	mounts_wake(mounts);
	*ret = result;
	return 0;
}

int service_umount(struct request *request, json_t **ret)
{
	char *mountpoint;
	int error = request_path(request, "mountpoint", &mountpoint);
	if (error)
		return error;
	error = check_mountpoint(request, mountpoint);
	if (!error)
		error = stop_mount(request, mountpoint, request_flag(request, "lazy"), ret);
	free(mountpoint);
	return error;
}
