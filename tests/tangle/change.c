/* One random change after the other. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tangle.h"

enum { DIRECTORIES = 4, FILES = 10, DEPTH = 4, PATH_SIZE = 128, SIZE_MAX_KIB = 120 };

/*
 * Names of directories and of files are not kept apart altogether: one in eight final names is of
 * the other kind, so that a file can be where a directory is looked for.
 */
static void choose(struct dice *dice, bool directory, char *ret)
{
	uint32_t depth = dice_roll(dice, DEPTH);
	int length = snprintf(ret, PATH_SIZE, "mess");

	for (uint32_t i = 0; i < depth; i++)
		length += snprintf(ret + length, PATH_SIZE - (size_t)length, "/d%u",
				   dice_roll(dice, DIRECTORIES));
	if (dice_roll(dice, 8) == 0)
		directory = !directory;
	snprintf(ret + length, PATH_SIZE - (size_t)length, directory ? "/d%u" : "/f%u",
		 dice_roll(dice, directory ? DIRECTORIES : FILES));
}

/* What the other processes can lead to. */
static bool is_expected(int error)
{
	switch (error) {
	case ENOENT:
	case EEXIST:
	case ENOTDIR:
	case EISDIR:
	case ENOTEMPTY:
	case EINVAL: /* a directory into itself */
	case EPERM:  /* unlink or link of a directory */
	case EMLINK:
	case ELOOP:
	case ENXIO: /* a fifo */
	case ENODATA:
		return true;
	default:
		return false;
	}
}

static void result(int value, const char *what, const char *a, const char *b)
{
	if (value < 0 && !is_expected(errno))
		fail("%s %s %s", what, a, b);
}

static void make_file(struct dice *dice)
{
	char path[PATH_SIZE];

	choose(dice, false, path);
	int flags = O_CREAT | O_RDWR | O_NONBLOCK | (dice_roll(dice, 3) ? 0 : O_EXCL);
	int fd = open(path, flags, 0600 + dice_roll(dice, 0100));
	result(fd, "open", path, "");
	if (fd >= 0)
		close(fd);
}

static int open_some(struct dice *dice, int flags, char *path)
{
	struct stat stat;

	choose(dice, false, path);
	int fd = open(path, flags | O_NONBLOCK | O_NOFOLLOW);
	result(fd, "open", path, "");
	if (fd < 0)
		return fd;
	if (!fstat(fd, &stat) && S_ISREG(stat.st_mode))
		return fd;
	close(fd);
	return -1;
}

static void write_file(struct dice *dice)
{
	static char bytes[64 << 10];
	char path[PATH_SIZE];
	size_t length = dice_roll(dice, 4) ? dice_roll(dice, 5000) : dice_roll(dice, sizeof(bytes));
	int fd = open_some(dice, O_RDWR, path);

	if (fd < 0)
		return;
	for (size_t i = 0; i < length; i += 64)
		bytes[i] = (char)dice_roll(dice, 256);
	off_t offset = (off_t)dice_roll(dice, SIZE_MAX_KIB << 10);
	if (pwrite(fd, bytes, length, offset) != (ssize_t)length)
		fail("write %s", path);
	if (dice_roll(dice, 60) == 0 && fsync(fd))
		fail("fsync %s", path);
	close(fd);
}

static void write_mapping(struct dice *dice)
{
	char path[PATH_SIZE];
	int fd = open_some(dice, O_RDWR, path);

	if (fd < 0)
		return;
	/* Through a file of one's own: another process may cut a shared one short (SIGBUS). */
	char own[64];
	snprintf(own, sizeof(own), "mess/map.%d", getpid());
	int to = open(own, O_RDWR | O_CREAT | O_TRUNC, 0644);
	if (to < 0 || ftruncate(to, 20000))
		fail("open %s", own);
	char *view = mmap(NULL, 20000, PROT_READ | PROT_WRITE, MAP_SHARED, to, 0);
	if (view == MAP_FAILED)
		fail("mmap %s", own);
	view[dice_roll(dice, 20000)] = 1;
	view[19999] = 2;
	munmap(view, 20000);
	loff_t from = 0;
	if (copy_file_range(to, &from, fd, NULL, 20000, 0) < 0 && errno != EXDEV)
		fail("copy_file_range to %s", path);
	close(to);
	close(fd);
}

static void truncate_file(struct dice *dice)
{
	char path[PATH_SIZE];
	int fd = open_some(dice, O_WRONLY, path);

	if (fd < 0)
		return;
	if (ftruncate(fd, (off_t)dice_roll(dice, SIZE_MAX_KIB << 10)))
		fail("ftruncate %s", path);
	close(fd);
}

static void make_directory(struct dice *dice)
{
	char path[PATH_SIZE];

	choose(dice, true, path);
	result(mkdir(path, dice_roll(dice, 5) ? 0755 : 02775), "mkdir", path, "");
}

static void remove_something(struct dice *dice)
{
	char path[PATH_SIZE];
	bool directory = dice_roll(dice, 3) == 0;

	choose(dice, directory, path);
	result(directory ? rmdir(path) : unlink(path), directory ? "rmdir" : "unlink", path, "");
}

/* rm -r among the others; renaming makes trees deeper than choose() can reach. */
static void remove_below(int at, const char *name, unsigned depth)
{
	struct dirent *entry;

	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	if (fd < 0 && errno == ELOOP)
		errno = ENOTDIR;
	result(fd, "open", name, "for its removal");
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	if (!directory)
		return;
	while (!time_is_up() && (entry = readdir(directory))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (!unlinkat(fd, entry->d_name, 0) || errno != EISDIR)
			continue;
		if (depth < 200)
			remove_below(fd, entry->d_name, depth + 1);
		result(unlinkat(fd, entry->d_name, AT_REMOVEDIR), "rmdir", name, entry->d_name);
	}
	closedir(directory);
}

static void remove_tree(struct dice *dice)
{
	char path[PATH_SIZE];

	if (dice_roll(dice, 100))
		return;
	choose(dice, true, path);
	remove_below(AT_FDCWD, path, 0);
}

static void rename_something(struct dice *dice)
{
	static const unsigned flags[] = {0, 0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
	char from[PATH_SIZE], to[PATH_SIZE];
	bool directory = dice_roll(dice, 2);

	choose(dice, directory, from);
	choose(dice, directory, to);
	result(renameat2(AT_FDCWD, from, AT_FDCWD, to, flags[dice_roll(dice, 6)]), "rename", from,
	       to);
}

static void link_something(struct dice *dice)
{
	char from[PATH_SIZE], to[PATH_SIZE];

	choose(dice, false, from);
	choose(dice, false, to);
	result(link(from, to), "link", from, to);
}

static void link_unnamed(struct dice *dice)
{
	char path[PATH_SIZE], proc[64];

	int fd = open("mess", O_TMPFILE | O_RDWR, 0640);
	if (fd < 0)
		fail("O_TMPFILE");
	choose(dice, false, path);
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	if (write(fd, path, strlen(path)) < 0)
		fail("write");
	result(linkat(AT_FDCWD, proc, AT_FDCWD, path, AT_SYMLINK_FOLLOW), "linkat", path, "");
	close(fd);
}

static void make_special(struct dice *dice)
{
	char from[PATH_SIZE], to[PATH_SIZE];

	choose(dice, dice_roll(dice, 2), to);
	if (dice_roll(dice, 3)) {
		choose(dice, dice_roll(dice, 2), from);
		result(symlink(from + sizeof("mess"), to), "symlink", from, to);
	} else {
		result(mkfifo(to, 0600), "mkfifo", to, "");
	}
}

static void change_attributes(struct dice *dice)
{
	char path[PATH_SIZE], name[32], value[600];
	int size = (int)dice_roll(dice, sizeof(value));

	choose(dice, dice_roll(dice, 3) == 0, path);
	snprintf(name, sizeof(name), "trusted.x%u", dice_roll(dice, 6));
	memset(value, (int)dice_roll(dice, 256), (size_t)size);
	switch (dice_roll(dice, 5)) {
	case 0:
		result(lsetxattr(path, name, value, (size_t)size, 0), "setxattr", path, name);
		break;
	case 1:
		result(lremovexattr(path, name), "removexattr", path, name);
		break;
	case 2:
		result(fchmodat(AT_FDCWD, path, 0600 + dice_roll(dice, 0200), 0), "chmod", path,
		       "");
		break;
	case 3:
		result(lchown(path, dice_roll(dice, 5), dice_roll(dice, 5)), "chown", path, "");
		break;
	default:
		result(utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW), "utimensat", path, "");
	}
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A name that is there from one moment on must not be told twice in one pass. */
static void list_directory(struct dice *dice)
{
	char path[PATH_SIZE], *names[512];
	size_t count = 0;
	struct dirent *entry;

	choose(dice, true, path);
	DIR *directory = opendir(dice_roll(dice, 4) ? path : "mess");
	if (!directory)
		return result(-1, "opendir", path, "");
	while ((errno = 0, entry = readdir(directory)) && count < 512)
		names[count++] = strdup(entry->d_name);
	if (errno && errno != ENOENT)
		fail("readdir %s", path);
	closedir(directory);
	qsort(names, count, sizeof(*names), compare_names);
	for (size_t i = 0; i < count; i++) {
		if (i && !strcmp(names[i], names[i - 1]))
			fail("readdir %s has %s twice", path, names[i]);
	}
	while (count)
		free(names[--count]);
}

/* Whoever finds a file by its name can stat it through what was opened, even unlinked since. */
static void read_something(struct dice *dice)
{
	static char bytes[64 << 10];
	char path[PATH_SIZE];
	struct stat before, after;
	int fd = open_some(dice, O_RDONLY, path);

	if (fd < 0)
		return;
	if (fstat(fd, &before) || read(fd, bytes, sizeof(bytes)) < 0 || fstat(fd, &after))
		fail("read %s", path);
	if (before.st_ino != after.st_ino)
		fail("%s: the inode number changed", path);
	close(fd);
}

void change_tree(struct dice *dice)
{
	static const struct {
		unsigned weight;
		void (*run)(struct dice *dice);
	} operations[] = {
		{12, make_file},     {14, write_file},	     {3, write_mapping},
		{5, truncate_file},  {7, make_directory},    {13, remove_something},
		{1, remove_tree},    {13, rename_something}, {8, link_something},
		{2, link_unnamed},   {3, make_special},	     {8, change_attributes},
		{6, list_directory}, {5, read_something},
	};
	uint32_t roll = dice_roll(dice, 100);

	for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
		if (roll < operations[i].weight) {
			operations[i].run(dice);
			return;
		}
		roll -= operations[i].weight;
	}
}
