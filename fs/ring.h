/*
 * FUSE over io_uring (internal to fs/): requests and answers change hands in memory.
 *
 * The kernel has one queue a processor; so do we, each with a thread that is bound to it.  A
 * process that calls into the mount is served on its own processor, with one system call a
 * request and no wake-up of another processor.  A request lies in an *entry* of the queue, which
 * takes the answer too and is then the kernel's again.  FORGET, INTERRUPT, notifications and all
 * that comes before the ring is agreed on go through /dev/fuse as ever: dispatch.c.
 *
 *   ring_new()            INIT answered             all queues registered
 *  ------------> prepared --------------> starting -----------------------> serving
 *                    |                        | refused by the kernel          | the kernel has let
 *                    v                        v                                v go, ring_stop()
 *                stopped <----------------------------------------------------
 *
 * Requests that wait.  An entry is occupied until its request is answered, and the kernel takes
 * none back.  FSYNC, a GETATTR during a freeze and others wait until WRITEs have been answered;
 * were all entries of a queue occupied by such, no WRITE would come.  So a queue gets more entries
 * before it runs out of them.  But the kernel does not look for queued requests when it gets an
 * entry, only when it gets an answer: so for each request that waits we make it send us something
 * that we answer at once (FUSE_NOTIFY_RETRIEVE of nothing, which brings a NOTIFY_REPLY on the same
 * queue).
 *
 * Memory: RING_BYTES for all queues, set aside from the engine's budget; where there are many
 * processors, requests are made smaller for it.  It becomes resident as far as it is used.
 */
#ifndef CAIRN_FS_RING_H
#define CAIRN_FS_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "index/util/errbuf.h"

struct mount;
struct ring;

enum ring_choice {
	RING_AUTO, /* where the kernel offers it */
	RING_ON,   /* or the mount fails */
	RING_OFF,
};

/* 0 where the kernel offers it to us; -EOPNOTSUPP with a message that says who has to do what. */
int ring_is_offered(struct errbuf *err);

/* Memory, one thread a processor.  Errors come with a message.  Before INIT. */
int ring_new(struct mount *mount, struct ring **ret, struct errbuf *err);
/* The largest contents of a READ or WRITE. */
size_t ring_request_max(const struct ring *ring);
/* The answer to INIT with INIT_OVER_IO_URING is out: requests are asked for from `fd`. */
void ring_go(struct ring *ring, int fd);
/* Waits until the kernel has taken the ring or refused it: 0, or negative errno. */
int ring_wait_registered(struct ring *ring);
bool ring_is_serving(struct ring *ring);
/* Joins the threads; what is answered later gets lost. */
void ring_stop(struct ring *ring);
struct ring *ring_free(struct ring *ring); /* stopped; nobody answers requests of it any more */

/* An answer that libfuse sends: is it to a request of the ring?  Then ring_answer() takes it, from
 * any thread, with no lock held. */
bool ring_is_ours(uint64_t unique);
ssize_t ring_answer(const struct iovec *vector, int count);
/* To be called before a notification: answers that this thread has not yet handed over. */
void ring_hand_over(void);

#endif
