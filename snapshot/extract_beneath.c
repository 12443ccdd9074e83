/* Opening what lies below the destination and nothing else. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "snapshot/extract_internal.h"

/* -EAGAIN: something was renamed meanwhile, and the kernel cannot tell whether we left. */
static int open_beneath(int directory, const char *path, int flags)
{
	const struct open_how how = {
		.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC | O_NOFOLLOW),
		.mode = flags & O_CREAT ? 0600 : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};

	for (int attempt = 0;; attempt++) {
		int fd = (int)syscall(SYS_openat2, directory, path, &how, sizeof(how));

		if (fd >= 0)
			return fd;
		if (errno != EINTR && (errno != EAGAIN || attempt == 100))
			return -errno;
	}
}

int beneath_open(int directory, const char *name, int flags)
{
	return open_beneath(directory, name, flags);
}

/* The longest part of the path that one call may take, cut at a slash. */
static size_t part_length(const char *path)
{
	size_t length = strlen(path);

	if (length < PATH_MAX)
		return length;
	length = PATH_MAX - 1;
	while (length && path[length] != '/')
		length--;
	return length;
}

int beneath_directory(int root, const char *path)
{
	char part[PATH_MAX];
	int at = open_beneath(root, ".", O_PATH | O_DIRECTORY);

	while (at >= 0 && *path) {
		size_t length = part_length(path);

		memcpy(part, path, length);
		part[length] = '\0';
		int next = open_beneath(at, part, O_PATH | O_DIRECTORY);
		close(at);
		at = next;
		path += length;
		path += *path == '/';
	}
	return at;
}
