/* What a file is besides its contents, put on a copy of it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "snapshot/extract_internal.h"
#include "snapshot/xattr.h"

enum {
	LIST_BYTES = 1 << 16, /* the kernel's limits */
	VALUE_BYTES = 1 << 16,
};
_Static_assert((int)LIST_BYTES + (int)VALUE_BYTES <= (int)EXTRACT_PIECE, "fit the buffer");

/* The way to a descriptor's file, of whatever type, for calls that take no O_PATH descriptor. */
struct fd_path {
	char text[40];
};

static const char *path_of_fd(int fd, struct fd_path *ret)
{
	snprintf(ret->text, sizeof(ret->text), "/proc/self/fd/%d", fd);
	return ret->text;
}

static int give_owner(struct extraction *extraction, int fd, const char *path,
		      const struct inode_attr *attr)
{
	struct stat now;

	if (fstat(fd, &now))
		return -errno;
	if (now.st_uid == attr->uid && now.st_gid == attr->gid)
		return 0;
	if (fchownat(fd, "", attr->uid, attr->gid, AT_EMPTY_PATH) == 0)
		return 0;
	if (errno != EPERM && errno != EINVAL)
		return -errno;
	extraction_skip(extraction, path, "owner %u:%u", attr->uid, attr->gid);
	return 0;
}

/* What the file system, or the user's rights, are no match for is skipped. */
static bool is_refusal(int error)
{
	return error == ENOTSUP || error == EPERM || error == EACCES || error == EINVAL ||
	       error == E2BIG || error == ENOSPC || error == ERANGE;
}

static int give_xattr(struct extraction *extraction, int fd, const char *path, uint64_t ino,
		      const char *name)
{
	uint8_t *value = extraction->buffer + LIST_BYTES;
	struct fd_path way;

	if (strcmp(name, "security.selinux") == 0)
		return 0;
	ssize_t length =
		xattr_get(extraction->tree, extraction->reader, ino, name, value, VALUE_BYTES);
	if (length < 0)
		return (int)length;
	if (setxattr(path_of_fd(fd, &way), name, value, (size_t)length, 0) == 0)
		return 0;
	if (!is_refusal(errno))
		return -errno;
	extraction_skip(extraction, path, "extended attribute %s", name);
	return 0;
}

static int give_xattrs(struct extraction *extraction, int fd, const char *path, uint64_t ino)
{
	char *names = (char *)extraction->buffer;
	ssize_t length = xattr_list(extraction->tree, extraction->reader, ino, names, LIST_BYTES);
	int error = length < 0 ? (int)length : 0;

	for (const char *name = names; !error && name < names + length; name += strlen(name) + 1)
		error = give_xattr(extraction, fd, path, ino, name);
	return error;
}

/* What a file got from the default access control list of the directory it was made in. */
static int drop_inherited(int fd, const char *name)
{
	struct fd_path way;

	if (getxattr(path_of_fd(fd, &way), name, NULL, 0) < 0)
		return 0;
	return removexattr(way.text, name) && !is_refusal(errno) && errno != ENODATA ? -errno : 0;
}

static int drop_inherited_lists(int fd, const struct inode_attr *attr)
{
	int error = S_ISLNK(attr->mode) ? 0 : drop_inherited(fd, "system.posix_acl_access");

	return error || !S_ISDIR(attr->mode) ? error
					     : drop_inherited(fd, "system.posix_acl_default");
}

static int give_mode(struct extraction *extraction, int fd, const char *path,
		     const struct inode_attr *attr)
{
	mode_t mode = attr->mode & 07777;
	struct fd_path way;

	if (S_ISLNK(attr->mode))
		return 0;
	/* On a directory the group bit runs nothing: it hands the group down. */
	if (!extraction->privileged && !S_ISDIR(attr->mode) && mode & (S_ISUID | S_ISGID)) {
		mode &= ~(mode_t)(S_ISUID | S_ISGID);
		extraction_skip(extraction, path, "set-id bit");
	}
	if (chmod(path_of_fd(fd, &way), mode) == 0)
		return 0;
	if (errno != EPERM)
		return -errno;
	extraction_skip(extraction, path, "mode %04o", mode);
	return 0;
}

static int give_times(struct extraction *extraction, int fd, const char *path,
		      const struct inode_attr *attr)
{
	const struct timespec times[2] = {attr->atime, attr->mtime};

	if (utimensat(fd, "", times, AT_EMPTY_PATH) == 0)
		return 0;
	if (errno != EPERM)
		return -errno;
	extraction_skip(extraction, path, "times");
	return 0;
}

/* Changing the owner takes set-id bits and capabilities away, writing the times; so this order. */
int extract_attributes(struct extraction *extraction, int fd, const char *path, uint64_t ino,
		       const struct inode_attr *attr)
{
	int error = give_owner(extraction, fd, path, attr);

	if (!error)
		error = drop_inherited_lists(fd, attr);
	if (!error && attr->flags & INODE_HAS_XATTRS)
		error = give_xattrs(extraction, fd, path, ino);
	if (!error)
		error = give_mode(extraction, fd, path, attr);
	return error ? error : give_times(extraction, fd, path, attr);
}
