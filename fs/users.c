/*
 * Who uses a mount: a walk through /proc.
 *
 * A descriptor counts where its path lies below the mount point and stat(2) confirms the device:
 * stat is not called on other paths, for it may hang there.  Writable shared mappings outlive
 * their descriptors and are found in /proc/PID/maps by the device.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fs/mount_internal.h"

enum { DESCRIBED_MAX = 10, DESCRIPTION_SIZE = 384 };

struct search {
	const char *mountpoint;
	size_t mountpoint_length;
	dev_t device;
	bool any;
	int pid;
	struct mount_user *users; /* owned */
	size_t count, capacity;
};

void mount_users_free(struct mount_user *users, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(users[i].path);
	free(users);
}

static void read_command(int pid, char *ret, size_t size)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, ret, size - 1);
	if (fd >= 0)
		close(fd);
	if (length > 0 && ret[length - 1] == '\n')
		length--;
	ret[length > 0 ? length : 0] = 0;
}

/* The part of `path` below the mount point; NULL where it does not lie there. */
static const char *path_below(const struct search *search, const char *path)
{
	size_t length = search->mountpoint_length;

	if (strncmp(path, search->mountpoint, length) != 0)
		return NULL;
	if (path[length] == '/')
		return path + length + 1;
	return path[length] ? NULL : path + length;
}

static int add_user(struct search *search, const char *path)
{
	for (size_t i = search->count; i > 0 && search->users[i - 1].pid == search->pid; i--)
		if (strcmp(search->users[i - 1].path, path) == 0)
			return 0;
	if (search->count == search->capacity) {
		size_t capacity = search->capacity ? 2 * search->capacity : 16;
		struct mount_user *users = reallocarray(search->users, capacity, sizeof(*users));
		if (!users)
			return -ENOMEM;
		search->users = users;
		search->capacity = capacity;
	}
	struct mount_user *user = &search->users[search->count];
	user->pid = search->pid;
	user->path = strdup(path);
	if (!user->path)
		return -ENOMEM;
	read_command(search->pid, user->command, sizeof(user->command));
	search->count++;
	return 0;
}

/* Where the link /proc/PID/`name` leads on our device: its path below the mount point in `ret`. */
static bool link_is_below(const struct search *search, const char *name, char *ret, size_t size)
{
	char link[PATH_MAX], target[PATH_MAX];
	struct stat stat_buffer;

	snprintf(link, sizeof(link), "/proc/%d/%s", search->pid, name);
	ssize_t length = readlink(link, target, sizeof(target) - 1);
	if (length <= 0)
		return false;
	target[length] = 0;
	const char *below = path_below(search, target);
	if (!below || stat(link, &stat_buffer) || stat_buffer.st_dev != search->device)
		return false;
	snprintf(ret, size, "%s", below);
	return true;
}

static bool descriptor_writes(const struct search *search, const char *number)
{
	char path[PATH_MAX], text[256];
	unsigned flags = 0;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%s", search->pid, number);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t length = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (length <= 0)
		return false;
	text[length] = 0;
	const char *line = strstr(text, "flags:");
	return line && sscanf(line, "flags: %o", &flags) == 1 && !(flags & O_PATH) &&
	       (flags & O_ACCMODE) != O_RDONLY;
}

static int search_descriptors(struct search *search)
{
	char directory[64], name[300], path[PATH_MAX];
	struct dirent *entry;
	int error = 0;

	snprintf(directory, sizeof(directory), "/proc/%d/fd", search->pid);
	DIR *stream = opendir(directory);
	if (!stream) /* it has ended, or is not ours to look at */
		return 0;
	while (!error && (entry = readdir(stream))) {
		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		snprintf(name, sizeof(name), "fd/%s", entry->d_name);
		if (link_is_below(search, name, path, sizeof(path)) &&
		    (search->any || descriptor_writes(search, entry->d_name)))
			error = add_user(search, path);
	}
	closedir(stream);
	return error;
}

/* A line of maps: "from-to perms offset major:minor inode path". */
static int search_mapping(struct search *search, char *line)
{
	unsigned device_major, device_minor;
	char permissions[8];
	int at = 0;

	if (sscanf(line, "%*s %7s %*s %x:%x %*s %n", permissions, &device_major, &device_minor,
		   &at) != 3 ||
	    !at || makedev(device_major, device_minor) != search->device)
		return 0;
	if (!search->any && (permissions[1] != 'w' || permissions[3] != 's'))
		return 0;
	line[strcspn(line, "\n")] = 0;
	const char *below = path_below(search, line + at);
	return add_user(search, below ? below : line + at);
}

static int search_mappings(struct search *search)
{
	char path[64], *line = NULL;
	size_t size = 0;
	int error = 0;

	snprintf(path, sizeof(path), "/proc/%d/maps", search->pid);
	FILE *stream = fopen(path, "re");
	if (!stream)
		return 0;
	while (!error && getline(&line, &size, stream) > 0)
		error = search_mapping(search, line);
	free(line);
	fclose(stream);
	return error;
}

static int search_process(struct search *search)
{
	static const char *const places[] = {"cwd", "root", "exe"};
	char path[PATH_MAX];
	int error = search_descriptors(search);

	for (size_t i = 0; search->any && !error && i < sizeof(places) / sizeof(*places); i++)
		if (link_is_below(search, places[i], path, sizeof(path)))
			error = add_user(search, path);
	return error ? error : search_mappings(search);
}

int users_find(const char *mountpoint, dev_t device, bool any, struct mount_user **ret,
	       size_t *ret_count)
{
	struct search search = {
		.mountpoint = mountpoint,
		.mountpoint_length = strlen(mountpoint),
		.device = device,
		.any = any,
	};
	struct dirent *entry;
	int error = 0;

	DIR *stream = opendir("/proc");
	if (!stream)
		return -errno;
	while (!error && (entry = readdir(stream))) {
		search.pid = atoi(entry->d_name);
		if (search.pid > 0 && search.pid != getpid())
			error = search_process(&search);
	}
	closedir(stream);
	if (error) {
		mount_users_free(search.users, search.count);
		return error;
	}
	*ret = search.users;
	*ret_count = search.count;
	return 0;
}

int mount_users(struct mount *mount, struct mount_user **ret, size_t *ret_count)
{
	return users_find(mount->mountpoint, mount->device, false, ret, ret_count);
}

char *users_describe(const struct mount_user *users, size_t count)
{
	char *text = NULL;
	size_t size, i;

	FILE *stream = open_memstream(&text, &size);
	if (!stream)
		return NULL;
	for (i = 0; i < count && i < DESCRIBED_MAX; i++) {
		if (ftell(stream) > DESCRIPTION_SIZE)
			break;
		fprintf(stream, "%s%s (pid %d) '%s'", i ? ", " : "", users[i].command, users[i].pid,
			users[i].path[0] ? users[i].path : ".");
	}
	if (i < count)
		fprintf(stream, " and %zu more", count - i);
	if (fclose(stream)) {
		free(text);
		return NULL;
	}
	return text;
}
