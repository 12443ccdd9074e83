/*
 * io_uring by system calls: the two rings that are shared with the kernel.
 *
 * Tails are written by the producer with release, and read by the consumer with acquire
 * (io_uring(7)).  The kernel takes submissions only within io_uring_enter(2), so that all slots
 * are free again after it; the array of indices between them and their ring is the identity.
 */
#include "fs/uring.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SUBMISSION_SIZE = 128 };

static unsigned load_acquire(const unsigned *shared)
{
	return atomic_load_explicit((const _Atomic unsigned *)shared, memory_order_acquire);
}

static void store_release(unsigned *shared, unsigned value)
{
	atomic_store_explicit((_Atomic unsigned *)shared, value, memory_order_release);
}

static void *map_shared(int fd, size_t size, off_t what)
{
	void *memory =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, what);
	return memory == MAP_FAILED ? NULL : memory;
}

static void *ring_at(const struct uring *ring, unsigned offset)
{
	return (uint8_t *)ring->rings + offset;
}

static int map_rings(struct uring *ring, const struct io_uring_params *params)
{
	size_t submission = params->sq_off.array + params->sq_entries * sizeof(unsigned);
	size_t completion = params->cq_off.cqes + params->cq_entries * sizeof(struct io_uring_cqe);

	ring->rings_size = submission > completion ? submission : completion;
	ring->rings = map_shared(ring->fd, ring->rings_size, IORING_OFF_SQ_RING);
	if (!ring->rings)
		return -ENOMEM;
	ring->submissions_size = (size_t)params->sq_entries * SUBMISSION_SIZE;
	ring->submissions = map_shared(ring->fd, ring->submissions_size, IORING_OFF_SQES);
	if (!ring->submissions)
		return -ENOMEM;
	ring->entries = params->sq_entries;
	ring->submission_tail = ring_at(ring, params->sq_off.tail);
	ring->submission_mask = *(unsigned *)ring_at(ring, params->sq_off.ring_mask);
	ring->completion_head = ring_at(ring, params->cq_off.head);
	ring->completion_tail = ring_at(ring, params->cq_off.tail);
	ring->completion_mask = *(unsigned *)ring_at(ring, params->cq_off.ring_mask);
	ring->completions = ring_at(ring, params->cq_off.cqes);
	unsigned *array = ring_at(ring, params->sq_off.array);
	for (unsigned i = 0; i < params->sq_entries; i++)
		array[i] = i;
	return 0;
}

int uring_open(struct uring *ring, unsigned entries, unsigned completions)
{
	/* Its work waits until the one thread that owns it asks for completions: no interrupts. */
	struct io_uring_params params = {
		.flags = IORING_SETUP_SQE128 | IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL |
			 IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
		.cq_entries = completions,
	};

	*ring = URING_CLOSED;
	ring->fd = (int)syscall(SYS_io_uring_setup, entries, &params);
	if (ring->fd < 0) {
		ring->fd = -1;
		return -errno;
	}
	int error =
		params.features & IORING_FEAT_SINGLE_MMAP ? map_rings(ring, &params) : -EOPNOTSUPP;
	if (error)
		uring_close(ring);
	return error;
}

void uring_close(struct uring *ring)
{
	if (ring->submissions)
		munmap(ring->submissions, ring->submissions_size);
	if (ring->rings)
		munmap(ring->rings, ring->rings_size);
	if (ring->fd >= 0)
		close(ring->fd);
	*ring = URING_CLOSED;
}

struct io_uring_sqe *uring_next(struct uring *ring)
{
	if (ring->filled == ring->entries && uring_enter(ring, false))
		return NULL;
	unsigned tail = *ring->submission_tail;
	uint8_t *entry =
		ring->submissions + (tail & ring->submission_mask) * (size_t)SUBMISSION_SIZE;
	memset(entry, 0, SUBMISSION_SIZE);
	store_release(ring->submission_tail, tail + 1);
	ring->filled++;
	return (struct io_uring_sqe *)entry;
}

int uring_enter(struct uring *ring, bool wait)
{
	unsigned flags = wait ? IORING_ENTER_GETEVENTS : 0;

	if (!ring->filled && !wait)
		return 0;
	long taken =
		syscall(SYS_io_uring_enter, ring->fd, ring->filled, wait ? 1 : 0, flags, NULL, 0);
	if (taken < 0)
		return errno == EINTR || errno == EAGAIN || errno == EBUSY ? 0 : -errno;
	ring->filled -= (unsigned)taken;
	return 0;
}

bool uring_has_more(const struct uring *ring)
{
	return *ring->completion_head != load_acquire(ring->completion_tail);
}

bool uring_take(struct uring *ring, struct io_uring_cqe *ret)
{
	unsigned head = *ring->completion_head;

	if (head == load_acquire(ring->completion_tail))
		return false;
	*ret = ring->completions[head & ring->completion_mask];
	store_release(ring->completion_head, head + 1);
	return true;
}
