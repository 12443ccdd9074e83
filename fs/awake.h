/*
 * Keeping the processors awake during bursts of small requests (internal to fs/).
 *
 * A look-up or a getattr takes 3 us of work, but its client and we take turns, and in between each
 * lets its processor fall idle.  In a virtual machine an idle processor halts, and getting it back
 * costs 20 to 30 us, once or twice a request: measured 67 us a getattr, against 6 us where the
 * processors do not halt.  (Spinning in the dispatcher itself was tried: it helps an idle machine,
 * but on a busy one it takes the processor that the client waits for.)
 *
 * So while requests follow one another closely, processors that have nothing to do are kept from
 * halting, in one of two ways:
 *
 *   spinners  a thread a processor that spins in SCHED_IDLE, which everything else takes the
 *             processor from at once.  For everybody.  The scheduler also leaves a client where it
 *             is then: on the processor on which a ring serves it (ring.h).
 *   latency   /dev/cpu_dma_latency, held at 0: idle processors poll.  For root alone; where there
 *             is no ring it is the better way, because client and dispatcher work on two.
 *
 * Either is given back shortly after the last request.  SCHED_IDLE holds between the threads of a
 * session or control group only; against those of others a spinner would count like any thread,
 * and against our own in that.  So it does not begin while more threads want to run than there are
 * processors; and when time is missing, somebody else works on its processor: then it stays away
 * for a while, longer each time.  On larger machines, where so many processors should not be busy
 * for two, neither is used, and everything works as well, only slower.
 */
#ifndef CAIRN_FS_AWAKE_H
#define CAIRN_FS_AWAKE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum { AWAKE_PROCESSORS = 8 };

struct awake;

struct spinner {
	struct awake *awake;
	unsigned processor;
	pthread_t thread;
};

struct awake {
	bool used;				   /* fixed after the start */
	int fd;					   /* fixed after the start; owned; -1: spinners */
	unsigned count;				   /* fixed after the start: threads */
	struct spinner spinners[AWAKE_PROCESSORS]; /* the first gives the latency back */

	_Atomic uint32_t streak; /* requests that followed closely */
	_Atomic uint64_t last;	 /* monotonic ns of the last request */
	_Atomic bool held;	 /* a burst: changed under the lock */
	_Atomic unsigned spinning;
	_Atomic bool stopping; /* changed under the lock */
	pthread_mutex_t lock;
	pthread_cond_t changed;
};

/* Before requests come.  A failure leaves it unused. `ring`: they come through one. */
void awake_start(struct awake *awake, bool ring);
void awake_stop(struct awake *awake);
/* There is a request. Any thread. */
void awake_note_request(struct awake *awake);

#endif
