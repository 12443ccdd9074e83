/*
 * Room on the file system: reservations of writers, and the ballast.
 *
 *     |<------------------- free on the file system -------------------->|
 *     | reserved by writers | free for writers |          margin         | ballast (a file)
 *
 * The margin is what commits, deletes and collection live on when writers have used up theirs.
 * Where other programs have eaten it too, a commit that finds no room gives the ballast up.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "index/store_internal.h"

#define MARGIN ((uint64_t)32 << 20)
#define BALLAST ((uint64_t)16 << 20)
#define POLL_BYTES ((uint64_t)4 << 20)
#define POLL_NS ((uint64_t)100 * 1000 * 1000)

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static int ask(int dirfd, uint64_t *ret_free, uint64_t *ret_total)
{
	struct statvfs vfs;

	if (fstatvfs(dirfd, &vfs) < 0)
		return -errno;
	*ret_free = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	*ret_total = (uint64_t)vfs.f_blocks * vfs.f_frsize;
	return 0;
}

void space_sizes(int dirfd, uint64_t *ret_margin, uint64_t *ret_ballast)
{
	uint64_t available, total = 0;

	*ret_margin = MARGIN;
	*ret_ballast = BALLAST;
	if (ask(dirfd, &available, &total) < 0 || !total)
		return;
	*ret_margin = min_u64(MARGIN, total / 16);
	*ret_ballast = min_u64(BALLAST, total / 32);
}

uint64_t space_redo_limit(const struct store *store)
{
	uint64_t available, total = 0;

	if (ask(store->dirfd, &available, &total) < 0)
		return 0;
	total = total / 32 / REDO_ALIGN * REDO_ALIGN;
	return total < REDO_MIN ? 0 : min_u64(total, REDO_MAX);
}

int space_make_ballast(int dirfd, uint64_t size)
{
	int fd = openat(dirfd, "ballast", O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r = 0;

	if (fd < 0)
		return -errno;
	/* A file system without fallocate gets none: written zeros would be compressed away on
	 * those that lack it. */
	if (size && fallocate(fd, 0, 0, (off_t)size) < 0)
		r = errno == EOPNOTSUPP ? 0 : -errno;
	close(fd);
	if (r < 0)
		unlinkat(dirfd, "ballast", 0);
	return r;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void poll_locked(struct store *store, uint64_t now)
{
	struct space *space = &store->space;
	uint64_t total;

	/* If the file system cannot tell, the last answer stands; a write will find out. */
	(void)ask(store->dirfd, &space->available, &total);
	space->polled_ns = now;
	space->unpolled = 0;
}

int space_init(struct store *store)
{
	return pthread_mutex_init(&store->space.lock, NULL) == 0 ? 0 : -ENOMEM;
}

void space_measure(struct store *store)
{
	struct space *space = &store->space;
	struct stat st;

	space_sizes(store->dirfd, &space->margin, &space->ballast);
	space->ballast_there = fstatat(store->dirfd, "ballast", &st, AT_SYMLINK_NOFOLLOW) == 0;
	poll_locked(store, now_ns());
}

void space_release(struct store *store)
{
	pthread_mutex_destroy(&store->space.lock);
}

void space_drop_ballast(struct store *store)
{
	pthread_mutex_lock(&store->space.lock);
	unlinkat(store->dirfd, "ballast", 0);
	store->space.ballast_there = false;
	pthread_mutex_unlock(&store->space.lock);
}

void space_restore_ballast(struct store *store)
{
	struct space *space = &store->space;
	uint64_t now = now_ns();

	pthread_mutex_lock(&space->lock);
	if (!space->ballast_there) {
		if (now - space->polled_ns > POLL_NS)
			poll_locked(store, now);
		if (space->available > 4 * space->margin + space->ballast)
			space->ballast_there =
				space_make_ballast(store->dirfd, space->ballast) == 0;
	}
	pthread_mutex_unlock(&space->lock);
}

static bool fits(const struct space *space, uint64_t bytes)
{
	uint64_t taken = space->margin + space->reserved;

	return space->available > taken && bytes <= space->available - taken;
}

int store_reserve(struct store *store, uint64_t bytes)
{
	struct space *space = &store->space;
	uint64_t now = now_ns();
	int r = 0;

	pthread_mutex_lock(&space->lock);
	if (bytes > POLL_BYTES - min_u64(space->unpolled, POLL_BYTES) ||
	    now - space->polled_ns > POLL_NS)
		poll_locked(store, now);
	if (fits(space, bytes)) {
		space->reserved += bytes;
		space->unpolled += bytes;
	} else {
		r = -ENOSPC;
	}
	pthread_mutex_unlock(&space->lock);
	return r;
}

void store_unreserve(struct store *store, uint64_t bytes)
{
	struct space *space = &store->space;

	pthread_mutex_lock(&space->lock);
	space->reserved -= min_u64(bytes, space->reserved);
	pthread_mutex_unlock(&space->lock);
}

bool store_space_low(struct store *store)
{
	struct space *space = &store->space;
	uint64_t now = now_ns();
	bool low;

	pthread_mutex_lock(&space->lock);
	if (now - space->polled_ns > POLL_NS)
		poll_locked(store, now);
	low = space->available < 4 * space->margin + space->reserved;
	pthread_mutex_unlock(&space->lock);
	return low;
}
