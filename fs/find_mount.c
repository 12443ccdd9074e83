/* Where a path lies, by the mount table of the kernel. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/mountinfo.h"
#include "fs/service.h"

void mountinfo_unescape(char *text)
{
	char *to = text;
	for (const char *from = text; *from;) {
		if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' &&
		    from[2] <= '7' && from[3] >= '0' && from[3] <= '7') {
			*to++ = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 |
				       (from[3] - '0'));
			from += 4;
		} else {
			*to++ = *from++;
		}
	}
	*to = '\0';
}

/* What is needed of a line; points into it. */
struct mount_line {
	char *device; /* "major:minor" */
	char *mountpoint;
	char *type;
	char *source;
};

/* id parent major:minor root MOUNTPOINT options [optional fields]… - TYPE SOURCE super-options */
static bool parse_line(char *line, struct mount_line *ret)
{
	char *rest = line, *field;
	struct mount_line parsed = {0};
	int number = 0;

	line[strcspn(line, "\n")] = '\0';
	while ((field = strsep(&rest, " "))) {
		if (number == 2)
			parsed.device = field;
		if (number == 4)
			parsed.mountpoint = field;
		if (number > 5 && strcmp(field, "-") == 0)
			break;
		number++;
	}
	parsed.type = strsep(&rest, " ");
	parsed.source = strsep(&rest, " ");
	if (!parsed.device || !parsed.mountpoint || !parsed.type || !parsed.source)
		return false;
	mountinfo_unescape(parsed.mountpoint);
	mountinfo_unescape(parsed.source);
	*ret = parsed;
	return true;
}

/* Length of the mount point where it contains `path`, else -1; "/" contains everything. */
static long covered(const char *mountpoint, const char *path)
{
	size_t length = strlen(mountpoint);
	if (length == 1 && mountpoint[0] == '/')
		return 0;
	if (strncmp(mountpoint, path, length) == 0 && (path[length] == '\0' || path[length] == '/'))
		return (long)length;
	return -1;
}

struct found {
	char *source, *mountpoint; /* owned; NULL where the mount is not one of ours */
};

static void found_release(struct found *found)
{
	free(found->source);
	free(found->mountpoint);
	*found = (struct found){0};
}

/* The mount that `path` (absolute, resolved) lies in: the longest, and of those the last. */
static int search(FILE *table, const char *path, struct found *found)
{
	char *line = NULL;
	size_t capacity = 0;
	long best = -1;
	int error = 0;

	while (!error && getline(&line, &capacity, table) > 0) {
		struct mount_line parsed;
		if (!parse_line(line, &parsed))
			continue;
		long length = covered(parsed.mountpoint, path);
		if (length < 0 || length < best)
			continue;
		best = length;
		found_release(found);
		if (strcmp(parsed.type, "fuse.cairn") != 0)
			continue;
		found->source = strdup(parsed.source);
		found->mountpoint = strdup(parsed.mountpoint);
		if (!found->source || !found->mountpoint)
			error = -ENOMEM;
	}
	if (!error && ferror(table))
		error = -EIO;
	free(line);
	return error;
}

/* STORE#WORKSPACE; the last '#' separates, as a store's path may contain some. */
static int split_source(const char *source, char **ret_store, char **ret_workspace)
{
	const char *mark = strrchr(source, '#');
	if (source[0] != '/' || !mark || mark == source || !mark[1])
		return -ENOENT;
	char *store = strndup(source, (size_t)(mark - source));
	char *workspace = strdup(mark + 1);
	if (!store || !workspace) {
		free(store);
		free(workspace);
		return -ENOMEM;
	}
	*ret_store = store;
	*ret_workspace = workspace;
	return 0;
}

/* Connecting is what clears away. */
static void clear_remains_of(const char *store)
{
	int fd;

	if (!service_connect(store, &fd))
		close(fd);
}

void service_clear_remains(const char *path)
{
	char *here = path[0] == '/' ? NULL : getcwd(NULL, 0);
	char *whole = NULL, *store, *workspace;
	struct found found = {0};

	if (path[0] != '/' && (!here || asprintf(&whole, "%s/%s", here, path) < 0))
		whole = NULL;
	free(here);
	FILE *table = fopen("/proc/self/mountinfo", "re");
	if (table && (whole || path[0] == '/') && !search(table, whole ? whole : path, &found) &&
	    found.source && !split_source(found.source, &store, &workspace)) {
		clear_remains_of(store);
		free(store);
		free(workspace);
	}
	if (table)
		fclose(table);
	found_release(&found);
	free(whole);
}

int service_find_mount(const char *path, char **ret_store, char **ret_workspace,
		       char **ret_mountpoint)
{
	struct found found = {0};
	service_clear_remains(path);
	char *real = realpath(path, NULL);
	if (!real && (errno == ENOTCONN || errno == ECONNABORTED) && path[0] == '/')
		real = strdup(path); /* a dead mount cannot be asked */
	if (!real)
		return errno == ENOMEM ? -ENOMEM : errno == ENOTDIR ? -ENOENT : -errno;
	FILE *table = fopen("/proc/self/mountinfo", "re");
	int error = table ? search(table, real, &found) : -errno;
	if (table)
		fclose(table);
	free(real);
	if (!error && !found.source)
		error = -ENOENT;
	if (!error)
		error = split_source(found.source, ret_store, ret_workspace);
	if (!error) {
		*ret_mountpoint = found.mountpoint;
		found.mountpoint = NULL;
	}
	found_release(&found);
	return error;
}

/* Whether a source names this store and, where one is given, this workspace. */
static bool is_of(const char *source, const char *store, const char *workspace)
{
	char *its_store, *its_workspace;
	if (split_source(source, &its_store, &its_workspace))
		return false;
	bool same = strcmp(its_store, store) == 0 &&
		    (!workspace || strcmp(its_workspace, workspace) == 0);
	free(its_store);
	free(its_workspace);
	return same;
}

/* Calls `visit` for each mount of the store, and of the workspace unless it is NULL. */
static int each_mount(const char *store, const char *workspace,
		      int (*visit)(const char *mountpoint, unsigned device, void *context),
		      void *context)
{
	FILE *table = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t capacity = 0;
	int result = table ? 0 : -errno;

	while (!result && getline(&line, &capacity, table) > 0) {
		struct mount_line parsed;
		if (!parse_line(line, &parsed) || strcmp(parsed.type, "fuse.cairn") != 0 ||
		    !is_of(parsed.source, store, workspace))
			continue;
		const char *colon = strchr(parsed.device, ':');
		result = visit(parsed.mountpoint,
			       colon ? (unsigned)strtoul(colon + 1, NULL, 10) : 0, context);
	}
	if (table)
		fclose(table);
	free(line);
	return result;
}

int mounts_of_store(const char *store,
		    int (*visit)(const char *mountpoint, unsigned device, void *context),
		    void *context)
{
	return each_mount(store, NULL, visit, context);
}

static int take_first(const char *mountpoint, unsigned device, void *context)
{
	char **ret = context;
	(void)device;
	*ret = strdup(mountpoint);
	return *ret ? 1 : -ENOMEM;
}

int service_find_mount_of(const char *store, const char *workspace, char **ret_mountpoint)
{
	char *real = realpath(store, NULL), *mountpoint = NULL;
	if (!real)
		return -errno;
	int found = each_mount(real, workspace, take_first, &mountpoint);
	free(real);
	if (found <= 0)
		return found ? found : -ENOENT;
	*ret_mountpoint = mountpoint;
	return 0;
}
