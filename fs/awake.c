/* Keeping the processors awake during bursts of small requests: see the header. */
#include "fs/awake.h"

#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "fs/mount_internal.h"

enum {
	PROCESSORS_MAX = 8,
	CLOSE_NS = 1000 * 1000,	      /* requests this near to each other … */
	CLOSE_STREAK = 8,	      /* … and so many of them make a burst */
	RELEASE_NS = 3 * 1000 * 1000, /* after the last */
};

static uint64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Lock held.  The kernel drops the request by itself when the descriptor is closed. */
static void set_held(struct awake *awake, bool held)
{
	const int32_t wanted_us = held ? 0 : 2000 * 1000 * 1000; /* the kernel's default */

	if (atomic_load(&awake->held) == held)
		return;
	ssize_t written = write(awake->fd, &wanted_us, sizeof(wanted_us));
	(void)written;
	atomic_store(&awake->held, held);
}

void awake_note_request(struct awake *awake)
{
	if (!awake->used)
		return;
	uint64_t now = monotonic_ns();
	uint64_t last = atomic_load_explicit(&awake->last, memory_order_relaxed);
	atomic_store_explicit(&awake->last, now, memory_order_relaxed);
	if (now - last > CLOSE_NS) {
		awake->streak = 0;
	} else if (awake->streak < CLOSE_STREAK) {
		awake->streak++;
	} else if (!atomic_load_explicit(&awake->held, memory_order_relaxed)) {
		pthread_mutex_lock(&awake->lock);
		set_held(awake, true);
		pthread_cond_signal(&awake->changed);
		pthread_mutex_unlock(&awake->lock);
	}
}

static bool burst_is_over(struct awake *awake)
{
	return monotonic_ns() >
	       atomic_load_explicit(&awake->last, memory_order_relaxed) + RELEASE_NS;
}

/* Sleeps between bursts; during one it looks every few milliseconds whether it is over. */
static void *release_run(void *context)
{
	const struct timespec while_held = {.tv_nsec = RELEASE_NS};
	struct awake *awake = context;

	pthread_mutex_lock(&awake->lock);
	while (!awake->stopping) {
		if (!atomic_load(&awake->held)) {
			pthread_cond_wait(&awake->changed, &awake->lock);
			continue;
		}
		pthread_mutex_unlock(&awake->lock);
		nanosleep(&while_held, NULL);
		pthread_mutex_lock(&awake->lock);
		if (burst_is_over(awake))
			set_held(awake, false);
	}
	pthread_mutex_unlock(&awake->lock);
	return NULL;
}

void awake_start(struct awake *awake)
{
	cpu_set_t allowed;

	if (sched_getaffinity(0, sizeof(allowed), &allowed) || CPU_COUNT(&allowed) > PROCESSORS_MAX)
		return;
	awake->fd = open("/dev/cpu_dma_latency", O_WRONLY | O_CLOEXEC);
	if (awake->fd < 0)
		return;
	/* Opening it asks for the default already, which is no constraint. */
	pthread_mutex_init(&awake->lock, NULL);
	pthread_cond_init(&awake->changed, NULL);
	awake->used = thread_start(&awake->thread, release_run, awake) == 0;
	if (!awake->used) {
		pthread_cond_destroy(&awake->changed);
		pthread_mutex_destroy(&awake->lock);
		close(awake->fd);
	}
}

void awake_stop(struct awake *awake)
{
	if (!awake->used)
		return;
	pthread_mutex_lock(&awake->lock);
	awake->stopping = true;
	pthread_cond_signal(&awake->changed);
	pthread_mutex_unlock(&awake->lock);
	pthread_join(awake->thread, NULL);
	pthread_cond_destroy(&awake->changed);
	pthread_mutex_destroy(&awake->lock);
	close(awake->fd);
	awake->used = false;
}
