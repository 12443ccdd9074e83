/*
 * Making a store: everything is put in place and synced first, and the format file, which makes
 * a directory a store, comes last.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "index/format_file_internal.h"
#include "index/store_internal.h"

/* Names in a store, in the order in which they are made.  Removed backwards. */
static const struct {
	const char *name;
	bool directory;
} contents[] = {
	{"lock", false},       {"ballast", false},	  {"packs", true},
	{"index", true},       {"index/data.mdb", false}, {"index/lock.mdb", false},
	{"format.new", false}, {"format", false},
};

enum { CONTENTS = sizeof(contents) / sizeof(contents[0]) };

/* Makes the directory and its parents.  `ret_made` is the length of the part of the path that
 * was there before (so that what lies below can be removed again). */
static int make_directory(const char *directory, size_t *ret_there)
{
	size_t length = strlen(directory);
	size_t there = length;
	char path[PATH_MAX];
	struct stat st;

	if (!length || length >= sizeof(path))
		return length ? -ENAMETOOLONG : -ENOENT;
	memcpy(path, directory, length + 1);

	/* Upwards to what exists … */
	while (stat(path, &st) < 0) {
		if (errno != ENOENT)
			return -errno;
		while (there && path[there - 1] == '/')
			there--;
		while (there && path[there - 1] != '/')
			there--;
		if (!there)
			break;
		path[there] = '\0';
	}
	*ret_there = there;

	/* … and down again. */
	for (size_t at = there; at < length; at++) {
		path[at] = directory[at];
		if (directory[at + 1] != '/' && directory[at + 1] != '\0')
			continue;
		path[at + 1] = '\0';
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			return -errno;
	}
	return 0;
}

/* Removes the directories that make_directory() made, as far as they are empty. */
static void remove_directories(const char *directory, size_t there)
{
	char path[PATH_MAX];
	size_t length = strlen(directory);

	memcpy(path, directory, length + 1);
	while (length > there) {
		path[length] = '\0';
		if (rmdir(path) < 0 && errno != ENOENT)
			return;
		while (length > there && path[length - 1] != '/')
			length--;
		while (length > there && path[length - 1] == '/')
			length--;
	}
}

/* Syncs what holds the names of the new directories, up to the one that was there. */
static int sync_parents(const char *directory, size_t there)
{
	char path[PATH_MAX];
	size_t length = strlen(directory);
	int r = 0;

	memcpy(path, directory, length + 1);
	while (r == 0 && length > there) {
		int fd;

		while (length && path[length - 1] == '/')
			length--;
		while (length && path[length - 1] != '/')
			length--;
		path[length] = '\0';
		fd = open(length ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		r = io_system.sync_dir(NULL, fd);
		close(fd);
	}
	return r;
}

static int check_file_system(int fd, const char *directory, struct errbuf *err)
{
	static const struct {
		uint32_t magic;
		const char *name;
	} unfit[] = {
		{NFS_SUPER_MAGIC, "NFS"},   {SMB_SUPER_MAGIC, "SMB"},	{CIFS_SUPER_MAGIC, "CIFS"},
		{SMB2_SUPER_MAGIC, "SMB"},  {FUSE_SUPER_MAGIC, "FUSE"}, {V9FS_MAGIC, "9P"},
		{CEPH_SUPER_MAGIC, "Ceph"}, {AFS_SUPER_MAGIC, "AFS"},	{AFS_FS_MAGIC, "AFS"},
		{CODA_SUPER_MAGIC, "Coda"}, {NCP_SUPER_MAGIC, "NCP"},
	};
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return -errno;
	for (size_t i = 0; i < sizeof(unfit) / sizeof(unfit[0]); i++) {
		if ((uint32_t)fs.f_type == unfit[i].magic)
			return err_set(err, -EOPNOTSUPP,
				       "%s lies on a %s file system, where locks and memory maps "
				       "cannot be relied on: choose a local disk",
				       directory, unfit[i].name);
	}
	return 0;
}

/* lost+found is what a new file system holds that is mounted here. */
static int check_empty(int dirfd, const char *directory, struct errbuf *err)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	bool store, empty = true;
	struct dirent *entry;

	if (!dir) {
		int r = -errno;

		if (fd >= 0)
			close(fd);
		return r;
	}
	while ((entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
		    strcmp(entry->d_name, "lost+found") != 0)
			empty = false;
	}
	closedir(dir);
	store = faccessat(dirfd, "format", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	if (store)
		return err_set(err, -EEXIST, "%s already is a cairn store", directory);
	if (!empty)
		return err_set(err, -ENOTEMPTY,
			       "%s is not empty: a store needs a directory of its own (what an "
			       "interrupted init left behind has to be removed first)",
			       directory);
	return 0;
}

static int write_file(int dirfd, const char *name, const char *text, size_t length)
{
	struct iovec vector = {(void *)(uintptr_t)text, length};
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int r;

	if (fd < 0)
		return -errno;
	r = length ? io_system.write(NULL, fd, &vector, 1, 0) : 0;
	if (r == 0)
		r = io_system.sync_dir(NULL, fd);
	if (close(fd) < 0 && r == 0)
		r = -errno;
	return r;
}

static int make_index(int dirfd, const char *directory, const char *uuid,
		      const struct store_compression *compression)
{
	struct state state = {.next_pack = 1, .compression = *compression};
	char path[PATH_MAX];
	int fd, r;

	for (int i = 0; i < STORE_COUNTERS; i++)
		state.next[i] = i == COUNTER_INODE ? FIRST_INODE : 1;
	if (snprintf(path, sizeof(path), "%s/index", directory) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	if (mkdirat(dirfd, "index", 0700) < 0 || mkdirat(dirfd, "packs", 0700) < 0)
		return -errno;
	r = env_create(path, uuid, &state);
	if (r < 0)
		return r;
	fd = openat(dirfd, "index", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = io_system.sync_dir(NULL, fd);
	close(fd);
	return r;
}

static int fill(int dirfd, const char *directory, const struct store_compression *compression)
{
	char text[FORMAT_FILE_MAX], uuid[UUID_SIZE];
	uint64_t margin, ballast;
	size_t length;
	int r = format_make_uuid(uuid);

	if (r == 0)
		r = write_file(dirfd, "lock", "", 0); /* O_EXCL: one of two at once fails here */
	if (r < 0)
		return r;
	space_sizes(dirfd, &margin, &ballast);
	r = space_make_ballast(dirfd, ballast);
	if (r == 0)
		r = make_index(dirfd, directory, uuid, compression);
	if (r == 0)
		r = io_system.sync_dir(NULL, dirfd);
	if (r < 0)
		return r;
	length = format_file_print(uuid, text);
	r = write_file(dirfd, "format.new", text, length);
	if (r == 0 && renameat(dirfd, "format.new", dirfd, "format") < 0)
		r = -errno;
	return r < 0 ? r : io_system.sync_dir(NULL, dirfd);
}

static void remove_contents(int dirfd)
{
	for (int i = CONTENTS - 1; i >= 0; i--)
		unlinkat(dirfd, contents[i].name, contents[i].directory ? AT_REMOVEDIR : 0);
}

int store_create(const char *directory, const struct store_compression *compression,
		 struct errbuf *err)
{
	size_t there = 0;
	int dirfd, r;

	if (!compression_is_valid(compression))
		return err_set(err, -EINVAL, "invalid compression for a new store");
	r = make_directory(directory, &there);
	if (r < 0) {
		remove_directories(directory, there);
		return err_set(err, r, "cannot make the directory %s: %s", directory, strerror(-r));
	}
	dirfd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0) {
		r = err_set(err, -errno, "cannot open %s: %s", directory, strerror(errno));
		remove_directories(directory, there);
		return r;
	}
	r = check_empty(dirfd, directory, err);
	if (r == 0)
		r = check_file_system(dirfd, directory, err);
	if (r == 0) {
		r = fill(dirfd, directory, compression);
		if (r == 0)
			r = sync_parents(directory, there);
		/* -EEXIST: another process makes a store here, and what is there is its. */
		if (r < 0 && r != -EEXIST)
			remove_contents(dirfd);
	}
	if (r < 0 && err && !err->text[0])
		err_set(err, r, "cannot make a store in %s: %s", directory, strerror(-r));
	close(dirfd);
	if (r < 0)
		remove_directories(directory, there);
	return r;
}
