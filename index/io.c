/* The real I/O on packs.  Nobody else in the project writes or syncs a pack file. */
#include "index/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

static int system_open(void *context, int dirfd, const char *name, int flags, mode_t mode)
{
	int fd;

	(void)context;
	do
		fd = openat(dirfd, name, flags | O_CLOEXEC | O_NOFOLLOW, mode);
	while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}

/* Takes `done` bytes off the front of the vector; returns how many elements are left. */
static int advance(struct iovec **vector, int count, size_t done)
{
	while (count && done >= (*vector)->iov_len) {
		done -= (*vector)->iov_len;
		++*vector;
		count--;
	}
	if (count) {
		(*vector)->iov_base = (char *)(*vector)->iov_base + done;
		(*vector)->iov_len -= done;
	}
	return count;
}

static int system_write(void *context, int fd, struct iovec *vector, int count, uint64_t offset)
{
	(void)context;
	count = advance(&vector, count, 0);
	while (count) {
		ssize_t done = pwritev(fd, vector, count, (off_t)offset);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		if (!done)
			return -EIO;
		offset += (uint64_t)done;
		count = advance(&vector, count, (size_t)done);
	}
	return 0;
}

static ssize_t system_read(void *context, int fd, struct iovec *vector, int count, uint64_t offset)
{
	ssize_t total = 0;

	(void)context;
	count = advance(&vector, count, 0);
	while (count) {
		ssize_t done = preadv(fd, vector, count, (off_t)offset);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		if (!done)
			break;
		total += done;
		offset += (uint64_t)done;
		count = advance(&vector, count, (size_t)done);
	}
	return total;
}

/* A sync is not repeated after an error other than EINTR: the kernel may have dropped the pages
 * and would then report success. */
static int system_sync(void *context, int fd)
{
	(void)context;
	while (fdatasync(fd) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

static int system_sync_dir(void *context, int fd)
{
	(void)context;
	while (fsync(fd) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

static int system_punch(void *context, int fd, uint64_t offset, uint64_t length)
{
	(void)context;
	while (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
			 (off_t)length) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

static int system_truncate(void *context, int fd, uint64_t length)
{
	(void)context;
	while (ftruncate(fd, (off_t)length) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

static int system_unlink(void *context, int dirfd, const char *name)
{
	(void)context;
	return unlinkat(dirfd, name, 0) < 0 ? -errno : 0;
}

const struct io_ops io_system = {
	.open = system_open,
	.write = system_write,
	.read = system_read,
	.sync = system_sync,
	.sync_dir = system_sync_dir,
	.punch = system_punch,
	.truncate = system_truncate,
	.unlink = system_unlink,
};
