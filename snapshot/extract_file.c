/*
 * Making files, links, devices under a name.
 *
 * A name that is taken is replaced in one step: the new one is made beside it and renamed over it.
 * A file with several names is made once and linked to from then on; the link is made to the very
 * inode that we made, whatever its name means by now.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot/extent.h"
#include "snapshot/extract_internal.h"

/* ---- contents ---- */

static int write_at(int fd, uint64_t offset, const uint8_t *data, size_t length)
{
	if (lseek(fd, (off_t)offset, SEEK_SET) < 0)
		return -errno;
	while (length) {
		ssize_t written = write(fd, data, length);
		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return -errno;
		data += written;
		length -= (size_t)written;
	}
	return 0;
}

static int tell(struct extraction *extraction)
{
	const struct extract_options *options = extraction->options;

	if (options->progress && options->progress("extract", extraction->result.bytes,
						   extraction->total, options->context))
		return -EINTR;
	return 0;
}

static int copy_range(struct extraction *extraction, int fd, uint64_t ino, uint64_t from,
		      uint64_t to)
{
	while (from < to) {
		size_t wanted = to - from < EXTRACT_PIECE ? (size_t)(to - from) : EXTRACT_PIECE;
		ssize_t length = file_read(extraction->tree, extraction->reader, ino, from,
					   extraction->buffer, wanted, extraction->err);
		if (length <= 0)
			return length < 0 ? (int)length : -EUCLEAN;
		int error = write_at(fd, from, extraction->buffer, (size_t)length);
		from += (uint64_t)length;
		extraction->result.bytes += (uint64_t)length;
		if (!error)
			error = tell(extraction);
		if (!error && from < to)
			error = extraction_renew(extraction);
		if (error)
			return error;
	}
	return 0;
}

/* Up to the end of the piece of data that begins at or after *offset, which moves there. */
static int copy_next(struct extraction *extraction, int fd, uint64_t ino, uint64_t size,
		     uint64_t *offset)
{
	uint64_t from = size, to = size;
	int error = extent_seek_data(extraction->tree, extraction->reader, ino, *offset, &from);

	if (!error)
		error = extent_seek_hole(extraction->tree, extraction->reader, ino, from, &to);
	if (error == -ENXIO)
		error = 0;
	if (error)
		return error;
	from = from < size ? from : size;
	to = to < size ? to : size;
	extraction->result.bytes += from - *offset;
	*offset = to;
	return copy_range(extraction, fd, ino, from, to);
}

static int copy_contents(struct extraction *extraction, int fd, uint64_t ino,
			 const struct inode_attr *attr)
{
	uint64_t offset = 0;
	int error = 0;

	if (attr->flags & INODE_INLINE)
		error = copy_range(extraction, fd, ino, 0, attr->size);
	else
		while (!error && offset < attr->size)
			error = copy_next(extraction, fd, ino, attr->size, &offset);
	if (!error && ftruncate(fd, (off_t)attr->size))
		error = -errno;
	return error;
}

/* ---- making one ---- */

/* Returns a descriptor of a new regular file. */
static int make_regular(struct extraction *extraction, int directory, const char *name,
			uint64_t ino, const struct inode_attr *attr)
{
	int fd = beneath_open(directory, name, O_WRONLY | O_CREAT | O_EXCL);
	if (fd < 0)
		return fd;
	int error = copy_contents(extraction, fd, ino, attr);
	if (error) {
		close(fd);
		return error;
	}
	return fd;
}

static int make_link_or_node(struct extraction *extraction, int directory, const char *name,
			     uint64_t ino, const struct inode_attr *attr)
{
	char target[SYMLINK_MAX + 1];
	size_t length;

	if (!S_ISLNK(attr->mode))
		return mknodat(directory, name, (attr->mode & S_IFMT) | 0600, attr->rdev) ? -errno
											  : 0;
	int error =
		inline_get(extraction->tree, extraction->reader, ino, target, SYMLINK_MAX, &length);
	if (error)
		return error;
	target[length] = '\0';
	return symlinkat(target, directory, name) ? -errno : 0;
}

/* Somebody may have exchanged it already: it must be of our making, and have no other name. */
static int check_ours(int fd, const struct inode_attr *attr)
{
	struct stat now;

	if (fstat(fd, &now))
		return -errno;
	return (now.st_mode & S_IFMT) == (attr->mode & S_IFMT) && now.st_uid == geteuid() &&
			       now.st_nlink == 1
		       ? 0
		       : -EEXIST;
}

/* Returns an O_PATH descriptor of a new symbolic link, device, fifo or socket. */
static int make_special(struct extraction *extraction, int directory, const char *name,
			uint64_t ino, const struct inode_attr *attr)
{
	int error = make_link_or_node(extraction, directory, name, ino, attr);
	if (error)
		return error;
	int fd = beneath_open(directory, name, O_PATH);
	error = fd < 0 ? fd : check_ours(fd, attr);
	if (!error)
		return fd;
	if (fd >= 0)
		close(fd);
	return error;
}

/* ---- hard links ---- */

struct extract_link {
	dev_t device;
	ino_t inode;
	char path[]; /* of the first name */
};

void extract_links_release(struct extraction *extraction)
{
	size_t position = 0;
	struct u64map_entry *entry;

	while ((entry = u64map_next(&extraction->links, &position)))
		free(entry->value);
	u64map_release(&extraction->links);
}

static int remember_link(struct extraction *extraction, uint64_t ino, int fd, const char *path)
{
	struct stat now;
	size_t size = strlen(path) + 1;
	struct extract_link *link;

	if (fstat(fd, &now))
		return -errno;
	link = malloc(sizeof(*link) + size);
	if (!link)
		return -ENOMEM;
	link->device = now.st_dev;
	link->inode = now.st_ino;
	memcpy(link->path, path, size);
	int error = u64map_put(&extraction->links, ino, link);
	if (error)
		free(link);
	return error;
}

static int open_first(struct extraction *extraction, const struct extract_link *link)
{
	const char *slash = strrchr(link->path, '/');
	const char *name = slash ? slash + 1 : link->path;
	char *parent = strndup(link->path, slash ? (size_t)(slash - link->path) : 0);
	struct stat now;

	if (!parent)
		return -ENOMEM;
	int directory = beneath_directory(extraction->destination, parent);
	free(parent);
	if (directory < 0)
		return directory;
	int fd = beneath_open(directory, name, O_PATH);
	close(directory);
	if (fd < 0)
		return fd;
	if (fstat(fd, &now) || now.st_dev != link->device || now.st_ino != link->inode) {
		close(fd);
		return -EEXIST;
	}
	return fd;
}

static int make_hard_link(struct extraction *extraction, int directory, const char *name,
			  const struct extract_link *link)
{
	char way[40];
	int fd = open_first(extraction, link);

	if (fd < 0)
		return fd;
	snprintf(way, sizeof(way), "/proc/self/fd/%d", fd);
	int error = linkat(AT_FDCWD, way, directory, name, AT_SYMLINK_FOLLOW) ? -errno : 0;
	close(fd);
	return error;
}

/* ---- the name ---- */

static int make_copy(struct extraction *extraction, int directory, const char *name,
		     const char *path, uint64_t ino, const struct inode_attr *attr)
{
	int fd = S_ISREG(attr->mode) ? make_regular(extraction, directory, name, ino, attr)
				     : make_special(extraction, directory, name, ino, attr);
	if (fd < 0)
		return fd;
	int error = extract_attributes(extraction, fd, path, ino, attr);
	if (!error && attr->nlink > 1)
		error = remember_link(extraction, ino, fd, path);
	/* Some file systems tell only now that there was no room. */
	if (close(fd) && !error)
		error = -errno;
	return error;
}

static int make(struct extraction *extraction, int directory, const char *name, const char *path,
		uint64_t ino, const struct inode_attr *attr)
{
	const struct extract_link *link = u64map_get(&extraction->links, ino);
	int error = -ENOENT;

	if (link) {
		error = make_hard_link(extraction, directory, name, link);
		if (error != -EPERM && error != -EMLINK && error != -EXDEV && error != -EOPNOTSUPP)
			return error;
		extraction_skip(extraction, path, "hard link to %s (a copy was made)", link->path);
		free(u64map_remove(&extraction->links, ino));
	}
	error = make_copy(extraction, directory, name, path, ino, attr);
	if (error == -EPERM && (S_ISCHR(attr->mode) || S_ISBLK(attr->mode))) {
		extraction_skip(extraction, path, "device");
		return -ECANCELED;
	}
	return error;
}

static int replace(struct extraction *extraction, int directory, const char *name, const char *path,
		   uint64_t ino, const struct inode_attr *attr)
{
	char temporary[64];

	snprintf(temporary, sizeof(temporary), ".cairn-%d-%u~", (int)getpid(),
		 ++extraction->temporary);
	int error = make(extraction, directory, temporary, path, ino, attr);
	if (error == -EEXIST)
		return error;
	if (!error && renameat(directory, temporary, directory, name))
		error = -errno;
	/* Still there after an error, or where both names are one file's already. */
	(void)unlinkat(directory, temporary, 0);
	return error;
}

int extract_file(struct extraction *extraction, int directory, const char *name, const char *path,
		 uint64_t ino, const struct inode_attr *attr)
{
	struct stat now;
	int error;

	if (fstatat(directory, name, &now, AT_SYMLINK_NOFOLLOW) == 0) {
		if (!extraction->options->overwrite)
			return -EEXIST;
		error = S_ISDIR(now.st_mode)
				? -EISDIR
				: replace(extraction, directory, name, path, ino, attr);
	} else if (errno == ENOENT) {
		error = make(extraction, directory, name, path, ino, attr);
		/* Half a file would look like one. */
		if (error && error != -EEXIST && error != -ECANCELED)
			(void)unlinkat(directory, name, 0);
	} else {
		error = -errno;
	}
	if (!error)
		extraction->result.files++;
	return error == -ECANCELED ? 0 : error;
}
