/*
 * Which names below the paths of a restore have to be looked at: those that differ between
 * the head and the point, and those on the way down to an inode that differs.  Found from what a
 * walk of both trees tells; a directory of which nothing is noted is the same at both states.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "index/util/array.h"
#include "snapshot/diff_internal.h"
#include "snapshot/paths_internal.h"

void touched_release(struct touched *touched)
{
	free(touched->names);
	free(touched->text);
	for (int side = 0; side < SIDES; side++)
		idset_release(&touched->climbed[side]);
}

static int note_name(struct paths *paths, uint64_t directory, const char *name, size_t length)
{
	struct touched *touched = &paths->touched;
	struct touched_name *names = array_reserve(touched->names, touched->count + 1,
						   &touched->capacity, sizeof(names[0]));
	if (!names)
		return -ENOMEM;
	touched->names = names;
	char *text = array_reserve(touched->text, touched->text_length + length,
				   &touched->text_capacity, 1);
	if (!text)
		return -ENOMEM;
	touched->text = text;
	memcpy(touched->text + touched->text_length, name, length);
	touched->names[touched->count++] =
		(struct touched_name){directory, touched->text_length, (uint8_t)length};
	touched->text_length += length;
	return 0;
}

/* The name of a directory, and those of the directories above it, as far as they are inside. */
static int climb(struct paths *paths, enum paths_side side, uint64_t directory)
{
	struct backref_name name;
	for (;;) {
		int added = idset_add(&paths->touched.climbed[side], directory);
		if (added <= 0)
			return added;
		int error = backref_first(paths->trees[side], paths->reader, directory, &name);
		if (error) /* the root has none */
			return error == -ENOENT ? 0 : error;
		int inside = name_is_inside(paths, side, name.directory, name.text, name.length);
		if (inside <= 0)
			return inside;
		error = note_name(paths, name.directory, name.text, name.length);
		if (error)
			return error;
		directory = name.directory;
	}
}

struct climbing {
	struct paths *paths;
	enum paths_side side;
};

static int visit_backref(uint64_t directory, const struct dirent_name *name, void *context)
{
	const struct climbing *climbing = context;
	struct paths *paths = climbing->paths;
	int inside = name_is_inside(paths, climbing->side, directory, name->text, name->length);
	if (inside <= 0)
		return inside;
	int error = note_name(paths, directory, name->text, name->length);
	return error ? error : climb(paths, climbing->side, directory);
}

static int visit_inode(const struct inode_change *change, void *context)
{
	struct climbing climbing = {.paths = context};
	struct paths *paths = context;
	if (!change->attributes && !change->contents && !change->xattrs)
		return 0;
	for (int side = 0; side < SIDES; side++) {
		climbing.side = (enum paths_side)side;
		if (idset_has(&paths->touched.climbed[side], change->ino))
			continue;
		int error = backref_iterate(paths->trees[side], paths->reader, change->ino,
					    visit_backref, &climbing);
		if (error)
			return error;
	}
	return 0;
}

static int visit_name(const struct name_change *change, void *context)
{
	struct paths *paths = context;
	enum paths_side side = change->gained ? SIDE_POINT : SIDE_HEAD;
	int inside = name_is_inside(paths, side, change->directory, change->name, change->length);
	if (inside <= 0)
		return inside;
	int error = note_name(paths, change->directory, change->name, change->length);
	if (!error)
		error = climb(paths, SIDE_HEAD, change->directory);
	return error ? error : climb(paths, SIDE_POINT, change->directory);
}

static int compare_names(const void *left, const void *right, void *text)
{
	const struct touched_name *a = left, *b = right;
	if (a->directory != b->directory)
		return a->directory < b->directory ? -1 : 1;
	if (a->length != b->length)
		return a->length < b->length ? -1 : 1;
	return memcmp((char *)text + a->text, (char *)text + b->text, a->length);
}

static void sort_names(struct touched *touched)
{
	size_t kept = 0;
	if (!touched->count)
		return;
	qsort_r(touched->names, touched->count, sizeof(touched->names[0]), compare_names,
		touched->text);
	for (size_t i = 1; i < touched->count; i++)
		if (compare_names(&touched->names[kept], &touched->names[i], touched->text))
			touched->names[++kept] = touched->names[i];
	touched->count = kept + 1;
}

int touched_collect(struct paths *paths)
{
	const struct diff_collector collector = {
		.inode = visit_inode, .name = visit_name, .context = paths};
	if (paths->touched.collected)
		return 0;
	int error = diff_collect(paths->trees[SIDE_HEAD], paths->trees[SIDE_POINT], paths->reader,
				 &collector);
	if (error)
		return error;
	sort_names(&paths->touched);
	paths->touched.collected = true;
	return 0;
}

size_t touched_find(const struct touched *touched, uint64_t directory)
{
	size_t low = 0, high = touched->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (touched->names[middle].directory < directory)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}
