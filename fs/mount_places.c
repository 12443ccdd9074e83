/* Where a file system is mounted, by the mount table of a process. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "fs/mountinfo.h"

void mount_places_release(struct mount_places *places)
{
	for (size_t i = 0; i < places->count; i++) {
		free(places->list[i].root);
		free(places->list[i].point);
	}
	free(places->list);
	*places = (struct mount_places){0};
}

const struct mount_place *mount_places_find(const struct mount_places *places, int id)
{
	for (size_t i = 0; i < places->count; i++)
		if (places->list[i].id == id)
			return &places->list[i];
	return NULL;
}

/* Unescaped, and without the slash at the end. */
static char *copy_path(char *path)
{
	size_t length;

	mountinfo_unescape(path);
	length = strlen(path);
	if (length && path[length - 1] == '/')
		path[length - 1] = '\0';
	return strdup(path);
}

static int add_place(struct mount_places *places, int id, char *root, char *point)
{
	struct mount_place *list =
		reallocarray(places->list, places->count + 1, sizeof(*places->list));

	if (!list)
		return -ENOMEM;
	places->list = list;
	struct mount_place place = {.id = id, .root = copy_path(root), .point = copy_path(point)};
	if (!place.root || !place.point) {
		free(place.root);
		free(place.point);
		return -ENOMEM;
	}
	list[places->count++] = place;
	return 0;
}

/* ID parent MAJOR:MINOR ROOT POINT options … */
static int read_line(struct mount_places *places, char *line, dev_t device)
{
	char *field[5], *rest = line;
	unsigned device_major, device_minor;

	for (size_t i = 0; i < sizeof(field) / sizeof(*field); i++) {
		field[i] = strsep(&rest, " ");
		if (!field[i])
			return 0;
	}
	if (sscanf(field[2], "%u:%u", &device_major, &device_minor) != 2 ||
	    makedev(device_major, device_minor) != device)
		return 0;
	int id = atoi(field[0]);
	return mount_places_find(places, id) ? 0 : add_place(places, id, field[3], field[4]);
}

int mount_places_add(struct mount_places *places, int pid, dev_t device)
{
	char path[64], *line = NULL;
	size_t capacity = 0;
	int error = 0;

	snprintf(path, sizeof(path), "/proc/%d/mountinfo", pid);
	FILE *table = fopen(path, "re");
	if (!table)
		return 0;
	while (!error && getline(&line, &capacity, table) > 0)
		error = read_line(places, line, device);
	free(line);
	fclose(table);
	return error;
}
