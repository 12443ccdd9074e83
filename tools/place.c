#include "tools/place.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/service.h"
#include "tools/command.h"
#include "tools/failure.h"

/* Resolves ".", ".." and empty parts of an absolute path, in place. */
static void normalise(char *path)
{
	char *out = path, *in = path;

	while (*in) {
		size_t length;

		while (*in == '/')
			in++;
		length = strcspn(in, "/");
		if (length == 0 || (length == 1 && in[0] == '.')) {
			in += length;
			continue;
		}
		if (length == 2 && in[0] == '.' && in[1] == '.') {
			while (out > path && *--out != '/')
				;
		} else {
			*out++ = '/';
			memmove(out, in, length);
			out += length;
		}
		in += length;
	}
	if (out == path)
		*out++ = '/';
	*out = '\0';
}

char *path_absolute(const char *path)
{
	char *directory = NULL, *result = NULL;

	if (path[0] != '/') {
		directory = getcwd(NULL, 0);
		if (!directory && errno == ENOMEM)
			return NULL;
	}
	if (asprintf(&result, "%s/%s", directory ? directory : "", path) < 0)
		result = NULL;
	free(directory);
	if (result)
		normalise(result);
	return result;
}

char *path_real(const char *path)
{
	char *result, *parent, *end, *real;

	service_clear_remains(path);
	result = realpath(path, NULL);
	if (result)
		return result;
	/* The last part need not exist yet. */
	result = path_absolute(path);
	if (!result)
		return NULL;
	end = strrchr(result, '/');
	if (end == result)
		return result;
	*end = '\0';
	parent = realpath(result, NULL);
	*end = '/';
	if (!parent)
		return result;
	if (asprintf(&real, "%s%s", strcmp(parent, "/") == 0 ? "" : parent, end) < 0)
		real = NULL;
	free(parent);
	free(result);
	return real;
}

static char *default_store(void)
{
	const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
	char *result = NULL;
	int length;

	/* The XDG specification: a relative path is invalid and to be ignored. */
	if (data && data[0] == '/')
		length = asprintf(&result, "%s/cairn", data);
	else
		length = asprintf(&result, "%s/.local/share/cairn", home && home[0] ? home : "");
	return length < 0 ? NULL : result;
}

static bool same_directory(const char *a, const char *b)
{
	struct stat a_stat, b_stat;

	if (strcmp(a, b) == 0)
		return true;
	return stat(a, &a_stat) == 0 && stat(b, &b_stat) == 0 && a_stat.st_dev == b_stat.st_dev &&
	       a_stat.st_ino == b_stat.st_ino;
}

static const char *environment(const char *name)
{
	const char *value = getenv(name);

	return value && value[0] ? value : NULL;
}

/* The mount that the current directory lies in, if any. */
struct here {
	char *directory, *store, *workspace, *mountpoint;
};

static void here_find(struct here *here)
{
	memset(here, 0, sizeof(*here));
	here->directory = getcwd(NULL, 0);
	if (here->directory &&
	    service_find_mount(here->directory, &here->store, &here->workspace, &here->mountpoint))
		here->store = NULL;
}

static void here_release(struct here *here)
{
	free(here->directory);
	if (here->store) {
		free(here->store);
		free(here->workspace);
		free(here->mountpoint);
	}
}

static int find_store(const struct invocation *invocation, struct here *here, struct place *place)
{
	const char *named = invocation->store ? invocation->store : environment("CAIRN_STORE");

	if (named)
		place->store = path_real(named);
	else if (here->store)
		place->store = strdup(here->store);
	else
		place->store = default_store();
	return place->store ? 0 : -ENOMEM;
}

static int find_workspace(const struct invocation *invocation, struct here *here,
			  struct place *place)
{
	const char *named =
		invocation->workspace ? invocation->workspace : environment("CAIRN_WORKSPACE");
	/* A mount of another store says nothing about the workspaces of this one. */
	bool inside = here->store && same_directory(here->store, place->store);

	if (!named && inside)
		named = here->workspace;
	if (named) {
		place->workspace = strdup(named);
		if (!place->workspace)
			return -ENOMEM;
	}
	if (inside && named && strcmp(named, here->workspace) == 0) {
		place->mountpoint = strdup(here->mountpoint);
		place->directory = strdup(here->directory);
		if (!place->mountpoint || !place->directory)
			return -ENOMEM;
	}
	return 0;
}

const struct place *place_get(struct invocation *invocation)
{
	struct here here;
	struct place *place = invocation->place;
	int error;

	if (place)
		return place;
	place = calloc(1, sizeof(*place));
	if (!place) {
		failure_memory(invocation);
		return NULL;
	}
	here_find(&here);
	error = find_store(invocation, &here, place);
	if (!error)
		error = find_workspace(invocation, &here, place);
	here_release(&here);
	if (error) {
		place_free(place);
		failure_memory(invocation);
		return NULL;
	}
	invocation->place = place;
	return place;
}

void place_free(struct place *place)
{
	if (!place)
		return;
	free(place->store);
	free(place->workspace);
	free(place->mountpoint);
	free(place->directory);
	free(place);
}

/* What stands behind `directory` in `path`: "" for itself, NULL where it lies elsewhere. */
static const char *path_below(const char *path, const char *directory)
{
	size_t length = strlen(directory);

	if (strncmp(path, directory, length) != 0)
		return NULL;
	if (path[length] == '\0')
		return "";
	return path[length] == '/' ? path + length + 1 : NULL;
}

char *path_in_workspace(const struct place *place, const char *path)
{
	char *result = NULL;
	const char *below = NULL;
	bool from_here =
		path[0] == '.' && (path[1] == '\0' || path[1] == '/' ||
				   (path[1] == '.' && (path[2] == '\0' || path[2] == '/')));

	if (place->mountpoint && (from_here || path[0] == '/')) {
		if (asprintf(&result, "%s/%s", from_here ? place->directory : "", path) < 0)
			return NULL;
		normalise(result);
		below = path_below(result, place->mountpoint);
		if (below) {
			memmove(result, below, strlen(below) + 1);
			return result;
		}
		free(result);
	}
	if (asprintf(&result, "/%s", path) < 0)
		return NULL;
	normalise(result);
	memmove(result, result + 1, strlen(result));
	return result;
}
