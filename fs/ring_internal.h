/* What ring.c (life, memory, threads) and ring_serve.c (requests and answers) share. */
#ifndef CAIRN_FS_RING_INTERNAL_H
#define CAIRN_FS_RING_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "fs/fuse_uring_abi.h"
#include "fs/mount_internal.h"
#include "fs/ring.h"
#include "fs/uring.h"

enum {
	RING_BYTES = 32 << 20, /* of all queues at the start */
	RING_DEPTH_MAX = 16,   /* entries a queue */
	RING_DEPTH_MIN = 2,
	RING_SPARE = 2,	    /* a queue has so many entries that no waiting request occupies */
	RING_GROWTH = 8,    /* else it gets so many more */
	RING_FRONT = 4096,  /* in front of an entry's payload */
	RING_KEEP = 65536,  /* of the payload of an entry beyond the first ones stays resident */
	RING_FEW = 1 << 17, /* requests are not made smaller than this */
};

struct ring_queue;

struct ring_entry {
	struct ring_queue *queue;
	struct ring_entry *next_answered;     /* queue lock */
	struct fuse_uring_req_header *header; /* of the request, then of its answer */
	uint8_t *payload;		      /* page-aligned; RING_FRONT bytes lie in front */
	struct iovec vector[2];		      /* header, payload: the kernel reads it once */
	uint64_t unique, commit_id;	      /* of the request */
	size_t received;		      /* bytes of payload that came with it */
	_Atomic bool answered;
	/* The queue thread's own. */
	uint32_t command; /* the last that was given */
	bool extra;	  /* beyond the first ones */
	bool waits;	  /* counted in queue->waiting */
};

/* Entries that were mapped together. */
struct ring_block {
	struct ring_block *next;
	uint8_t *memory;
	size_t size;
	size_t count;
	struct ring_entry entries[];
};

struct ring_queue {
	struct ring *ring;
	unsigned number; /* the processor's */
	pthread_t thread;
	int wake_fd; /* owned */

	pthread_mutex_t lock;
	struct ring_entry *answered; /* lock: by other threads, not yet handed over */
	bool asleep;		     /* lock: is to be woken for them */

	/* The thread's own. */
	struct uring uring;
	struct ring_block *blocks; /* owned */
	size_t count, waiting;	   /* entries; of them occupied by requests that wait */
	bool dead;
	uint64_t kicks;
};

enum ring_state { RING_PREPARING, RING_PREPARED, RING_STARTING, RING_SERVING, RING_STOPPED };

struct ring {
	struct mount *mount;
	size_t payload; /* bytes an entry */
	unsigned depth, count;
	size_t set_aside; /* of the engine's budget */

	pthread_mutex_t lock;
	pthread_cond_t changed;
	enum ring_state state; /* lock */
	unsigned reported;     /* lock: queues that are done with the present state */
	int error;	       /* lock: the first */
	int fd;		       /* lock: the device, from RING_STARTING on */
	unsigned threads;      /* started */
	_Atomic bool stopping;
	struct ring_queue queues[];
};

/* More entries for a queue, to be registered: -ENOMEM.  By the queue's thread. */
int ring_add_entries(struct ring_queue *queue, size_t count, bool extra);
/* Asks for requests with the newest block's entries. */
int ring_register_block(struct ring_queue *queue);
/* Serves until the kernel has let go, or the ring is to stop. */
void ring_serve(struct ring_queue *queue);
/* A registration that the kernel refused: its error, or 0. Other completions are served. */
int ring_take_all(struct ring_queue *queue);

#endif
