/*
 * One io_uring(7), by system calls of our own: set up, fill in, enter, take (internal to fs/).
 *
 * One thread owns it: the one that called uring_open() fills in and takes; only uring_close() may
 * come from another, when that one has ended.  Entries are the long ones (128 bytes), which
 * commands to devices need.
 */
#ifndef CAIRN_FS_URING_H
#define CAIRN_FS_URING_H

#include <linux/io_uring.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct uring {
	int fd; /* owned; -1: not open */
	unsigned entries, filled;
	uint8_t *submissions; /* entries of 128 bytes */
	size_t submissions_size;
	void *rings; /* both, in one mapping */
	size_t rings_size;
	unsigned *submission_tail, submission_mask;
	unsigned *completion_head, *completion_tail, completion_mask;
	struct io_uring_cqe *completions;
};

/* Not open; uring_close() does nothing. */
#define URING_CLOSED ((struct uring){.fd = -1})

/* -ENOSYS, -EPERM: the kernel has none, or does not let us (kernel.io_uring_disabled). */
int uring_open(struct uring *ring, unsigned entries, unsigned completions);
void uring_close(struct uring *ring);

/* The next entry to be filled in, all zero: 128 bytes, command data from `cmd` on.  Where there is
 * no room those before are submitted; NULL only where that failed. */
struct io_uring_sqe *uring_next(struct uring *ring);

/* Hands over what was filled in; with `wait` returns when there is something to take (or after a
 * signal). 0, or -errno. */
int uring_enter(struct uring *ring, bool wait);

/* False: nothing there. */
bool uring_take(struct uring *ring, struct io_uring_cqe *ret);
bool uring_has_more(const struct uring *ring);

#endif
