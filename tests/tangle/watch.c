/* What holds at every moment, whatever the neighbours do. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tangle.h"

static void make(const char *path, size_t size)
{
	static char bytes[REPLACED_SIZE];

	memset(bytes, 'r', sizeof(bytes));
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0644);
	if (fd < 0 || write(fd, bytes, size) != (ssize_t)size || close(fd))
		fail("make %s", path);
}

static bool exists(const char *path)
{
	struct stat stat;

	if (!lstat(path, &stat))
		return true;
	if (errno != ENOENT)
		fail("stat %s", path);
	return false;
}

/* ---- steady/ ---- */

static void steady_name(uint32_t number, char *ret)
{
	sprintf(ret, "steady/always-%u", number);
}

void watched_make(void)
{
	char path[64];

	for (uint32_t i = 0; i < ALWAYS; i++) {
		steady_name(i, path);
		make(path, 10);
	}
	make("swing/a", 10);
	make("swing/x", 1);
	make("swing/y", 2);
	make("replaced/target", REPLACED_SIZE);
}

/* Names of many lengths, so that they lie before, between and behind those that stay. */
void steady_neighbours(struct dice *dice)
{
	char path[64], other[64];

	while (!time_is_up()) {
		sprintf(path, "steady/passing-%u", dice_roll(dice, 3000));
		sprintf(other, "steady/passing-%u", dice_roll(dice, 3000));
		int fd = -1, error = 0;
		switch (dice_roll(dice, 3)) {
		case 0:
			fd = open(path, O_CREAT | O_WRONLY, 0644);
			error = fd < 0 ? -1 : close(fd);
			break;
		case 1:
			error = unlink(path);
			break;
		default:
			error = rename(path, other);
		}
		if (error && errno != ENOENT)
			fail("%s", path);
	}
}

static void steady_list(void)
{
	unsigned seen[ALWAYS] = {0}, number;
	struct dirent *entry;

	DIR *directory = opendir("steady");
	if (!directory)
		fail("opendir steady");
	while ((errno = 0, entry = readdir(directory)))
		if (sscanf(entry->d_name, "always-%u", &number) == 1)
			seen[number]++;
	if (errno)
		fail("readdir steady");
	closedir(directory);
	for (unsigned i = 0; i < ALWAYS; i++)
		if (seen[i] != 1)
			fail("readdir found steady/always-%u %u times", i, seen[i]);
}

void steady_watch(struct dice *dice)
{
	char path[64];

	while (!time_is_up()) {
		steady_list();
		for (uint32_t i = 0; i < ALWAYS; i++) {
			steady_name(dice_roll(dice, ALWAYS), path);
			if (!exists(path))
				fail("%s is always there, and was not found", path);
		}
	}
}

/* ---- swing/ ---- */

void swing_move(struct dice *dice)
{
	while (!time_is_up()) {
		if (rename("swing/a", "swing/b") || rename("swing/b", "swing/a"))
			fail("rename swing/a");
		if (renameat2(AT_FDCWD, "swing/x", AT_FDCWD, "swing/y", RENAME_EXCHANGE))
			fail("exchange swing/x");
		if (dice_roll(dice, 100) == 0)
			usleep(1000);
	}
}

static void swing_list(void)
{
	unsigned swinging = 0, exchanged = 0;
	struct dirent *entry;

	DIR *directory = opendir("swing");
	if (!directory)
		fail("opendir swing");
	while ((errno = 0, entry = readdir(directory))) {
		swinging += entry->d_name[0] == 'a' || entry->d_name[0] == 'b';
		exchanged += entry->d_name[0] == 'x' || entry->d_name[0] == 'y';
	}
	if (errno)
		fail("readdir swing");
	closedir(directory);
	if (swinging > 2)
		fail("readdir found one file %u times", swinging);
	if (exchanged != 2)
		fail("readdir found %u of the two that are exchanged", exchanged);
}

void swing_watch(struct dice *dice)
{
	unsigned missed = 0;

	while (!time_is_up()) {
		missed = exists("swing/a") || exists("swing/b") ? 0 : missed + 1;
		if (missed == 2000)
			fail("the file that swings is under neither name, 2000 times");
		if (!exists("swing/x") || !exists("swing/y"))
			fail("one that is exchanged was not found");
		if (dice_roll(dice, 10) == 0)
			swing_list();
	}
}

/* ---- replaced/ ---- */

void replaced_move(struct dice *dice)
{
	while (!time_is_up()) {
		make("replaced/new", REPLACED_SIZE);
		if (rename("replaced/new", "replaced/target"))
			fail("replace");
		if (dice_roll(dice, 20) == 0)
			usleep(1000);
	}
}

void replaced_watch(struct dice *dice)
{
	char bytes[REPLACED_SIZE + 1];

	while (!time_is_up()) {
		int fd = open("replaced/target", O_RDONLY);
		if (fd < 0)
			fail("a file that is always replaced could not be opened");
		ssize_t length = read(fd, bytes, sizeof(bytes));
		if (length != REPLACED_SIZE || bytes[0] != 'r' || bytes[length - 1] != 'r')
			fail("a file that is always replaced was torn: %zd bytes", length);
		close(fd);
		if (dice_roll(dice, 50) == 0)
			usleep(1000);
	}
}
