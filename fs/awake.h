/*
 * Keeping the processors awake during bursts of small requests (internal to fs/).
 *
 * A look-up or a getattr takes 3 us of work, but its client and the dispatcher take turns, and in
 * between each lets its processor fall idle.  In a virtual machine an idle processor halts, and
 * getting it back costs 20 to 30 us, twice a request: measured 67 us a getattr, against 6 us where
 * the processors do not halt.  (Spinning in the daemon was tried: it helps an idle machine, but
 * on a busy one it takes the processor that the client waits for.)
 *
 * Linux has a request for this, /dev/cpu_dma_latency: while it is held at 0, idle processors
 * poll.  It is held while requests follow one another closely and given back a few milliseconds
 * after the last.  It is for root alone; without it, and on larger machines, where so many
 * processors should not poll for two, everything works as well, only slower.
 */
#ifndef CAIRN_FS_AWAKE_H
#define CAIRN_FS_AWAKE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct awake {
	bool used;	       /* fixed after the start */
	int fd;		       /* fixed after the start; owned */
	unsigned streak;       /* the dispatcher's own: requests that followed closely */
	_Atomic uint64_t last; /* monotonic ns of the last request; the dispatcher writes */
	_Atomic bool held;     /* changed under the lock */
	bool stopping;	       /* lock */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	pthread_t thread; /* gives it back */
};

/* Before the dispatcher starts.  A failure leaves it unused. */
void awake_start(struct awake *awake);
void awake_stop(struct awake *awake);
/* The dispatcher has a request. */
void awake_note_request(struct awake *awake);

#endif
