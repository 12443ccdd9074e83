/*
 * Who uses a mount: a walk through /proc.
 *
 * A descriptor counts where the mount that it was opened through is of our device: fdinfo names the
 * mount, and mountinfo its device, so that bind mounts and other name spaces count as well.
 * Neither touches the file itself, which may lie on a file system that hangs.  For the same
 * reason stat(2) is called on the links that have no fdinfo (working directory, root, program)
 * only where their path lies below one of our places.  Writable shared mappings outlive their
 * descriptors and are found in /proc/PID/maps by the device.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fs/mount_internal.h"
#include "fs/mountinfo.h"
#include "index/util/array.h"

enum { DESCRIBED_MAX = 10, DESCRIPTION_SIZE = 384 };

struct search {
	dev_t device;
	bool any;
	struct mount_places ours; /* as this process sees them: what a chroot hides is here */
	int pid;
	struct mount_places theirs; /* as that process sees them */
	struct mount_user *users;   /* owned */
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

static void read_user(int pid, char *ret, size_t size)
{
	struct passwd entry, *found = NULL;
	struct stat stat_buffer;
	char path[64], buffer[4096];

	snprintf(path, sizeof(path), "/proc/%d", pid);
	ret[0] = '\0';
	if (stat(path, &stat_buffer))
		return;
	if (!getpwuid_r(stat_buffer.st_uid, &entry, buffer, sizeof(buffer), &found) && found)
		snprintf(ret, size, "%s", found->pw_name);
	else
		snprintf(ret, size, "%u", (unsigned)stat_buffer.st_uid);
}

/* The part of `path` below the place's mount point; NULL where it does not lie there. */
static const char *path_below(const struct mount_place *place, const char *path)
{
	size_t length = strlen(place->point);

	if (strncmp(path, place->point, length) != 0 || (path[length] && path[length] != '/'))
		return NULL;
	return path + length;
}

/* `path` as seen from the root of the workspace; as it is where it does not lie below the place. */
static void path_inside(const struct mount_place *place, const char *path, char *ret, size_t size)
{
	const char *below = place ? path_below(place, path) : NULL;
	const char *root = below ? place->root : "";

	if (below && *root == '/')
		root++;
	else if (below && *below == '/')
		below++;
	snprintf(ret, size, "%s%s", root, below ? below : path);
}

/* The place with the longest mount point that `path` lies below. */
static const struct mount_place *place_of(const struct mount_places *places, const char *path)
{
	const struct mount_place *best = NULL;

	for (size_t i = 0; i < places->count; i++) {
		const struct mount_place *place = &places->list[i];
		if (path_below(place, path) &&
		    (!best || strlen(place->point) >= strlen(best->point)))
			best = place;
	}
	return best;
}

static int add_user(struct search *search, const char *path, uint64_t ino)
{
	for (size_t i = search->count; i > 0 && search->users[i - 1].pid == search->pid; i--)
		if (search->users[i - 1].ino == ino && strcmp(search->users[i - 1].path, path) == 0)
			return 0;
	struct mount_user *users = array_reserve(search->users, search->count + 1,
						 &search->capacity, sizeof(users[0]));
	if (!users)
		return -ENOMEM;
	search->users = users;
	struct mount_user *user = &search->users[search->count];
	user->pid = search->pid;
	user->ino = ino;
	user->path = strdup(path);
	if (!user->path)
		return -ENOMEM;
	read_command(search->pid, user->command, sizeof(user->command));
	read_user(search->pid, user->user, sizeof(user->user));
	search->count++;
	return 0;
}

static bool read_link(const struct search *search, const char *name, char *ret, size_t size)
{
	char link[PATH_MAX];

	snprintf(link, sizeof(link), "/proc/%d/%s", search->pid, name);
	ssize_t length = readlink(link, ret, size - 1);
	ret[length > 0 ? length : 0] = '\0';
	return length > 0;
}

/* Where the link /proc/PID/`name` leads on our device: its path in `ret`. */
static bool link_is_below(const struct search *search, const char *name, char *ret, size_t size)
{
	char link[PATH_MAX], target[PATH_MAX];
	struct stat stat_buffer;

	if (!read_link(search, name, target, sizeof(target)))
		return false;
	const struct mount_place *place = place_of(&search->ours, target);
	if (!place)
		place = place_of(&search->theirs, target);
	snprintf(link, sizeof(link), "/proc/%d/%s", search->pid, name);
	if (!place || stat(link, &stat_buffer) || stat_buffer.st_dev != search->device)
		return false;
	path_inside(place, target, ret, size);
	return true;
}

/* What fdinfo says of a descriptor. */
static bool read_descriptor(const struct search *search, const char *number, unsigned *ret_flags,
			    int *ret_mount, uint64_t *ret_ino)
{
	char path[PATH_MAX], text[256];

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%s", search->pid, number);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t length = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (length <= 0)
		return false;
	text[length] = 0;
	const char *flags = strstr(text, "flags:"), *mount = strstr(text, "mnt_id:");
	const char *ino = strstr(text, "\nino:"); /* since Linux 5.14 */
	*ret_ino = ino ? strtoull(ino + strlen("\nino:"), NULL, 10) : 0;
	return flags && sscanf(flags, "flags: %o", ret_flags) == 1 && mount &&
	       sscanf(mount, "mnt_id: %d", ret_mount) == 1;
}

static int search_descriptor(struct search *search, const char *number)
{
	char name[300], target[PATH_MAX], path[PATH_MAX];
	unsigned flags;
	uint64_t ino;
	int mount;

	if (!read_descriptor(search, number, &flags, &mount, &ino))
		return 0;
	if (!search->any && (flags & O_PATH || (flags & O_ACCMODE) == O_RDONLY))
		return 0;
	const struct mount_place *place = mount_places_find(&search->ours, mount);
	if (!place)
		place = mount_places_find(&search->theirs, mount);
	snprintf(name, sizeof(name), "fd/%s", number);
	if (!place || !read_link(search, name, target, sizeof(target)))
		return 0;
	path_inside(place, target, path, sizeof(path));
	return add_user(search, path, ino);
}

static int search_descriptors(struct search *search)
{
	char directory[64];
	struct dirent *entry;
	int error = 0;

	snprintf(directory, sizeof(directory), "/proc/%d/fd", search->pid);
	DIR *stream = opendir(directory);
	if (!stream) /* it has ended, or is not ours to look at */
		return 0;
	while (!error && (entry = readdir(stream)))
		if (isdigit((unsigned char)entry->d_name[0]))
			error = search_descriptor(search, entry->d_name);
	closedir(stream);
	return error;
}

/* A line of maps: "from-to perms offset major:minor inode path". */
static int search_mapping(struct search *search, char *line)
{
	unsigned device_major, device_minor;
	char permissions[8];
	uint64_t ino;
	int at = 0;

	if (sscanf(line, "%*s %7s %*s %x:%x %" SCNu64 " %n", permissions, &device_major,
		   &device_minor, &ino, &at) != 4 ||
	    !at || makedev(device_major, device_minor) != search->device)
		return 0;
	if (!search->any && (permissions[1] != 'w' || permissions[3] != 's'))
		return 0;
	line[strcspn(line, "\n")] = 0;
	const struct mount_place *place = place_of(&search->ours, line + at);
	if (!place)
		place = place_of(&search->theirs, line + at);
	char path[PATH_MAX];
	path_inside(place, line + at, path, sizeof(path));
	return add_user(search, path, ino);
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

	int error = mount_places_add(&search->theirs, search->pid, search->device);
	if (!error)
		error = search_descriptors(search);
	for (size_t i = 0; search->any && !error && i < sizeof(places) / sizeof(*places); i++)
		if (link_is_below(search, places[i], path, sizeof(path)))
			error = add_user(search, path, 0);
	if (!error)
		error = search_mappings(search);
	mount_places_release(&search->theirs);
	return error;
}

static int search_processes(struct search *search)
{
	struct dirent *entry;
	int error = 0;

	DIR *stream = opendir("/proc");
	if (!stream)
		return -errno;
	while (!error && (entry = readdir(stream))) {
		search->pid = atoi(entry->d_name);
		if (search->pid > 0 && search->pid != getpid())
			error = search_process(search);
	}
	closedir(stream);
	return error;
}

int users_find(dev_t device, bool any, struct mount_user **ret, size_t *ret_count)
{
	struct search search = {.device = device, .any = any};

	int error = mount_places_add(&search.ours, getpid(), device);
	if (!error)
		error = search_processes(&search);
	mount_places_release(&search.ours);
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
	return users_find(mount->device, false, ret, ret_count);
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
		fprintf(stream, "%s%s (pid %d, user %s) '%s'", i ? ", " : "", users[i].command,
			users[i].pid, users[i].user, users[i].path[0] ? users[i].path : ".");
	}
	if (i < count)
		fprintf(stream, " and %zu more", count - i);
	if (fclose(stream)) {
		free(text);
		return NULL;
	}
	return text;
}
