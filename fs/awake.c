/* Keeping the processors awake during bursts of small requests: see the header. */
#include "fs/awake.h"

#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "fs/mount_internal.h"

enum {
	CLOSE_NS = 1000 * 1000,		 /* requests this near to each other … */
	CLOSE_STREAK = 8,		 /* … and so many of them make a burst */
	RELEASE_NS = 3 * 1000 * 1000,	 /* after the last */
	SPIN_NS = 500 * 1000,		 /* the same for spinners */
	SPIN_TURNS = 16,		 /* between two looks at the clock */
	MISSING_NS = 200 * 1000,	 /* away so long: somebody works on this processor */
	AWAY_NS = 5 * 1000 * 1000,	 /* then it is left alone for so long at first, */
	AWAY_MAX_NS = 160 * 1000 * 1000, /* and at most, until */
	CLEAN_NS = 20 * 1000 * 1000,	 /* there was nobody for so long */
};

static uint64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t since_last(struct awake *awake, uint64_t now)
{
	uint64_t last = atomic_load_explicit(&awake->last, memory_order_relaxed);

	return now > last ? now - last : 0;
}

/* Lock held.  The kernel drops the request by itself when the descriptor is closed. */
static void set_held(struct awake *awake, bool held)
{
	const int32_t wanted_us = held ? 0 : 2000 * 1000 * 1000; /* the kernel's default */

	if (atomic_load(&awake->held) == held)
		return;
	if (awake->fd >= 0) {
		ssize_t written = write(awake->fd, &wanted_us, sizeof(wanted_us));
		(void)written;
	}
	atomic_store(&awake->held, held);
	if (held)
		pthread_cond_broadcast(&awake->changed);
}

void awake_note_request(struct awake *awake)
{
	if (!awake->used)
		return;
	uint64_t now = monotonic_ns();
	uint64_t gap = since_last(awake, now);
	uint32_t streak = atomic_load_explicit(&awake->streak, memory_order_relaxed);

	atomic_store_explicit(&awake->last, now, memory_order_relaxed);
	if (gap > CLOSE_NS) {
		atomic_store_explicit(&awake->streak, 0, memory_order_relaxed);
	} else if (streak < CLOSE_STREAK) {
		atomic_store_explicit(&awake->streak, streak + 1, memory_order_relaxed);
	} else if (!atomic_load_explicit(&awake->held, memory_order_relaxed)) {
		pthread_mutex_lock(&awake->lock);
		set_held(awake, true);
		pthread_mutex_unlock(&awake->lock);
	}
}

/* True: there is a burst. False: it is time to stop. */
static bool await_burst(struct awake *awake)
{
	pthread_mutex_lock(&awake->lock);
	while (!atomic_load(&awake->held) && !atomic_load(&awake->stopping))
		pthread_cond_wait(&awake->changed, &awake->lock);
	bool stopping = atomic_load(&awake->stopping);
	pthread_mutex_unlock(&awake->lock);
	return !stopping;
}

static void end_burst(struct awake *awake, uint64_t after)
{
	pthread_mutex_lock(&awake->lock);
	if (since_last(awake, monotonic_ns()) > after)
		set_held(awake, false);
	pthread_mutex_unlock(&awake->lock);
}

static void sleep_ns(uint64_t length)
{
	const struct timespec wait = {.tv_nsec = (long)length};

	nanosleep(&wait, NULL);
}

/* During a burst it looks every few milliseconds whether it is over. */
static void *latency_run(void *context)
{
	const struct spinner *self = context;

	while (await_burst(self->awake)) {
		sleep_ns(RELEASE_NS);
		end_burst(self->awake, RELEASE_NS);
	}
	return NULL;
}

static void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* More threads want to run than there are processors, those aside that spin. */
static bool is_crowded(struct awake *awake)
{
	unsigned running = 0;

	FILE *stream = fopen("/proc/loadavg", "re");
	if (!stream)
		return false;
	if (fscanf(stream, "%*s %*s %*s %u/", &running) != 1)
		running = 0;
	fclose(stream);
	return running > awake->count + 1 + atomic_load(&awake->spinning);
}

/* To the end of the burst, for at most CLEAN_NS; false where somebody else wants the processor. */
static bool spin(struct awake *awake)
{
	uint64_t begun = monotonic_ns(), seen = begun;

	while (!atomic_load_explicit(&awake->stopping, memory_order_relaxed)) {
		for (int i = 0; i < SPIN_TURNS; i++)
			pause_briefly();
		uint64_t now = monotonic_ns();
		if (now - seen > MISSING_NS)
			return false;
		seen = now;
		if (since_last(awake, now) > SPIN_NS || now - begun > CLEAN_NS)
			break;
	}
	return true;
}

static bool spin_where_useful(struct awake *awake)
{
	if (is_crowded(awake))
		return false;
	atomic_fetch_add(&awake->spinning, 1);
	bool alone = spin(awake);
	atomic_fetch_sub(&awake->spinning, 1);
	return alone;
}

static bool become_idle(unsigned processor)
{
	const struct sched_param none = {0};
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(processor, &set);
	return !pthread_setaffinity_np(pthread_self(), sizeof(set), &set) &&
	       !pthread_setschedparam(pthread_self(), SCHED_IDLE, &none);
}

static void *spinner_run(void *context)
{
	const struct spinner *self = context;
	struct awake *awake = self->awake;
	uint64_t away = AWAY_NS, begun;

	if (!become_idle(self->processor))
		return NULL;
	while (await_burst(awake)) {
		begun = monotonic_ns();
		if (!spin_where_useful(awake)) {
			sleep_ns(away);
			away = away < AWAY_MAX_NS ? away * 2 : AWAY_MAX_NS;
		} else if (monotonic_ns() - begun > CLEAN_NS) {
			away = AWAY_NS;
		}
		end_burst(awake, SPIN_NS);
	}
	return NULL;
}

static int start_thread(struct awake *awake, unsigned processor, void *(*run)(void *))
{
	struct spinner *spinner = &awake->spinners[awake->count];

	*spinner = (struct spinner){.awake = awake, .processor = processor};
	int error = thread_start(&spinner->thread, run, spinner);
	awake->count += !error;
	return error;
}

static void start_spinners(struct awake *awake, const cpu_set_t *allowed)
{
	for (unsigned i = 0; i < CPU_SETSIZE && awake->count < AWAKE_PROCESSORS; i++)
		if (CPU_ISSET(i, allowed))
			(void)start_thread(awake, i, spinner_run);
}

void awake_start(struct awake *awake, bool ring)
{
	cpu_set_t allowed;

	if (sched_getaffinity(0, sizeof(allowed), &allowed) ||
	    CPU_COUNT(&allowed) > AWAKE_PROCESSORS)
		return;
	pthread_mutex_init(&awake->lock, NULL);
	pthread_cond_init(&awake->changed, NULL);
	/* Opening it asks for the default already, which is no constraint. */
	awake->fd = ring ? -1 : open("/dev/cpu_dma_latency", O_WRONLY | O_CLOEXEC);
	if (awake->fd >= 0)
		(void)start_thread(awake, 0, latency_run);
	else
		start_spinners(awake, &allowed);
	awake->used = true;
}

void awake_stop(struct awake *awake)
{
	if (!awake->used)
		return;
	pthread_mutex_lock(&awake->lock);
	atomic_store(&awake->stopping, true);
	pthread_cond_broadcast(&awake->changed);
	pthread_mutex_unlock(&awake->lock);
	for (unsigned i = 0; i < awake->count; i++)
		pthread_join(awake->spinners[i].thread, NULL);
	pthread_cond_destroy(&awake->changed);
	pthread_mutex_destroy(&awake->lock);
	if (awake->fd >= 0)
		close(awake->fd);
	awake->used = false;
}
