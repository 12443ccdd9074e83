/*
 * What FROM changed since BASE, file by file.
 *
 *   collect   one walk over what differs: inodes, names lost and gained
 *   pair      a name that went from a file that is gone to one that is new, of the same type: the
 *             file was replaced.  Directories too (removed and made again), and then the names in
 *             them, so parents come first.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "index/util/array.h"
#include "snapshot/carry_internal.h"
#include "snapshot/path.h"

struct collecting {
	struct merge *merge;
	struct unit *list;
	size_t count, capacity;
	struct unit_name *names;
	size_t name_count, name_capacity;
};

void units_release(struct units *units)
{
	free(units->list);
	free(units->names);
	*units = (struct units){0};
}

/* ---- collecting ---- */

static int collect_inode(const struct inode_change *change, void *context)
{
	struct collecting *collecting = context;
	if (!change->attributes && !change->contents && !change->xattrs)
		return 0;
	struct unit *list = array_reserve(collecting->list, collecting->count + 1,
					  &collecting->capacity, sizeof(list[0]));
	if (!list)
		return -ENOMEM;
	collecting->list = list;
	collecting->list[collecting->count++] = (struct unit){.base = change->ino, .items = true};
	return 0;
}

static int collect_name(const struct name_change *change, void *context)
{
	struct collecting *collecting = context;
	struct unit_name *names = array_reserve(collecting->names, collecting->name_count + 1,
						&collecting->name_capacity, sizeof(names[0]));
	if (!names)
		return -ENOMEM;
	collecting->names = names;
	collecting->names[collecting->name_count++] = (struct unit_name){
		.ino = change->ino,
		.directory = change->directory,
		.text = change->name,
		.length = change->length,
		.gained = change->gained,
	};
	return 0;
}

static int compare_names(const void *left, const void *right)
{
	const struct unit_name *a = left, *b = right;
	if (a->ino != b->ino)
		return a->ino < b->ino ? -1 : 1;
	return a->gained - b->gained;
}

/* Inodes of which only names changed get a unit too. */
static int add_named_units(struct collecting *collecting)
{
	size_t known = collecting->count;
	for (size_t i = 0; i < collecting->name_count; i++) {
		uint64_t ino = collecting->names[i].ino;
		if (i > 0 && collecting->names[i - 1].ino == ino)
			continue;
		size_t low = 0, high = known;
		while (low < high) {
			size_t middle = low + (high - low) / 2;
			if (collecting->list[middle].base < ino)
				low = middle + 1;
			else
				high = middle;
		}
		if (low < known && collecting->list[low].base == ino)
			continue;
		const struct inode_change change = {.ino = ino, .attributes = true};
		int error = collect_inode(&change, collecting);
		if (error)
			return error;
		collecting->list[collecting->count - 1].items = false;
	}
	return 0;
}

static int compare_units(const void *left, const void *right)
{
	const struct unit *a = left, *b = right;
	return a->base < b->base ? -1 : a->base > b->base;
}

/* Names to their units; both are in order of inode. */
static void hand_out_names(struct collecting *collecting)
{
	size_t name = 0;
	for (size_t i = 0; i < collecting->count; i++) {
		struct unit *unit = &collecting->list[i];
		for (; name < collecting->name_count && collecting->names[name].ino == unit->base;
		     name++) {
			struct unit_name *entry = &collecting->names[name];
			struct unit_name **list = entry->gained ? &unit->gained : &unit->lost;
			size_t *count = entry->gained ? &unit->gained_count : &unit->lost_count;
			if (!*list)
				*list = entry;
			(*count)++;
		}
	}
}

/* ---- what a unit is on both sides ---- */

static int depth_of(struct merge *merge, struct tree *tree, uint64_t ino, unsigned *ret)
{
	struct backref_name name;
	unsigned depth = 0;
	while (ino != ROOT_INO) {
		int error = backref_first(tree, merge->reader, ino, &name);
		if (error || ++depth > 1u << 20)
			return error && error != -ENOENT ? error : -EUCLEAN;
		ino = name.directory;
	}
	*ret = depth;
	return 0;
}

static int is_named(struct merge *merge, struct tree *tree, uint64_t ino, uint32_t *mode)
{
	struct inode_attr attr;
	struct backref_name name;
	int error = inode_get(tree, merge->reader, ino, &attr);
	if (!error && ino != ROOT_INO)
		error = backref_first(tree, merge->reader, ino, &name);
	if (error)
		return error == -ENOENT ? 0 : error;
	*mode = attr.mode;
	return 1;
}

static int place_unit(struct merge *merge, struct unit *unit)
{
	uint64_t ino = unit->number = unit->base;
	int in_base = is_named(merge, merge->base, ino, &unit->mode);
	int in_from = in_base < 0 ? in_base : is_named(merge, merge->from, ino, &unit->mode);
	if (in_from < 0)
		return in_from;
	unit->base = in_base ? ino : 0;
	unit->from = in_from ? ino : 0;
	unit->excluded = !in_base && !in_from; /* came and went as an orphan */
	return unit->excluded
		       ? 0
		       : depth_of(merge, in_from ? merge->from : merge->base, ino, &unit->depth);
}

/* ---- pairing ---- */

static int compare_slots(const struct unit_name *a, const struct unit_name *b)
{
	if (a->directory != b->directory)
		return a->directory < b->directory ? -1 : 1;
	int order = memcmp(a->text, b->text, a->length < b->length ? a->length : b->length);
	return order ? order : (int)a->length - (int)b->length;
}

static int compare_lost(const void *left, const void *right)
{
	const struct unit *const *a = left, *const *b = right;
	return compare_slots((*a)->lost, (*b)->lost);
}

static int compare_depth(const void *left, const void *right)
{
	const struct unit *const *a = left, *const *b = right;
	return (*a)->depth < (*b)->depth ? -1 : (*a)->depth > (*b)->depth;
}

static struct unit *find_lost(struct unit *const *lost, size_t count, const struct unit_name *slot)
{
	size_t low = 0, high = count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = compare_slots(lost[middle]->lost, slot);
		if (order == 0)
			return lost[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

/* `created` took the place of `deleted`. */
static int pair(struct merge *merge, struct unit *deleted, struct unit *created)
{
	if (deleted->from || (deleted->mode & S_IFMT) != (created->mode & S_IFMT))
		return 0;
	deleted->from = created->from;
	deleted->mode = created->mode;
	deleted->depth = created->depth;
	deleted->items = true;
	deleted->lost[0].paired = true;
	created->gained[0].paired = true;
	deleted->gained = created->gained;
	deleted->gained_count = created->gained_count;
	created->absorbed = true;
	if (!S_ISDIR(deleted->mode))
		return 0;
	return u64map_put(&merge->twins, deleted->from, (void *)(uintptr_t)deleted->base);
}

/* A gained name with its directory as BASE knows it. */
static struct unit_name in_base_terms(struct merge *merge, const struct unit_name *name)
{
	struct unit_name slot = *name;
	const void *known = u64map_get(&merge->twins, name->directory);
	if (known)
		slot.directory = (uint64_t)(uintptr_t)known;
	return slot;
}

/* Files with several names are left alone: which one would the other replace? */
static int pair_all(struct merge *merge, struct units *units)
{
	struct unit **lost = calloc(units->count + 1, sizeof(*lost));
	struct unit **gained = calloc(units->count + 1, sizeof(*gained));
	size_t lost_count = 0, gained_count = 0;
	int error = lost && gained ? 0 : -ENOMEM;
	for (size_t i = 0; !error && i < units->count; i++) {
		struct unit *unit = &units->list[i];
		if (!unit->excluded && !unit->from && unit->lost_count == 1)
			lost[lost_count++] = unit;
		if (!unit->excluded && !unit->base && unit->gained_count == 1)
			gained[gained_count++] = unit;
	}
	if (!error) {
		qsort(lost, lost_count, sizeof(*lost), compare_lost);
		qsort(gained, gained_count, sizeof(*gained), compare_depth);
	}
	for (size_t i = 0; !error && i < gained_count; i++) {
		struct unit_name slot = in_base_terms(merge, gained[i]->gained);
		struct unit *deleted = find_lost(lost, lost_count, &slot);
		if (deleted)
			error = pair(merge, deleted, gained[i]);
	}
	free(lost);
	free(gained);
	return error;
}

/* ---- the caller's paths ---- */

static bool path_is_in(const struct carry_options *options, const char *path)
{
	for (size_t i = 0; i < options->path_count; i++) {
		const char *wanted = options->paths[i];
		while (*wanted == '/')
			wanted++;
		size_t length = strlen(wanted);
		while (length && wanted[length - 1] == '/')
			length--;
		if (length == 0 || (length == 1 && *wanted == '.'))
			return true;
		if (strncmp(path, wanted, length) == 0 &&
		    (path[length] == 0 || path[length] == '/'))
			return true;
	}
	return false;
}

struct name_search {
	struct merge *merge;
	struct tree *tree;
};

static int name_is_in(uint64_t directory, const struct dirent_name *name, void *context)
{
	const struct name_search *search = context;
	struct merge *merge = search->merge;
	char *path;
	int error = path_of_name(search->tree, merge->reader, directory, name->text, name->length,
				 &path);
	if (error)
		return error == -ENOENT ? 0 : error;
	bool in = path_is_in(merge->options, path);
	free(path);
	return in;
}

/* Is one of its names there? */
static int inode_is_in(struct merge *merge, struct tree *tree, uint64_t ino)
{
	struct name_search search = {merge, tree};
	if (!ino)
		return 0;
	if (ino == ROOT_INO)
		return path_is_in(merge->options, "");
	return backref_iterate(tree, merge->reader, ino, name_is_in, &search);
}

/* Still in order of inode. */
static struct unit *find_unit(struct units *units, uint64_t ino)
{
	size_t low = 0, high = units->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		struct unit *unit = &units->list[middle];
		uint64_t number = unit->number;
		if (number == ino)
			return unit;
		if (number < ino)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

/* Did FROM put it into a directory that lies there by the name that it has in BASE or the head? */
static int destination_is_in(struct merge *merge, struct units *units, const struct unit *unit)
{
	for (size_t i = 0; i < unit->gained_count; i++) {
		uint64_t directory = unit->gained[i].directory;
		struct unit *above;
		int in = 0;
		while (!in && (above = find_unit(units, directory)) && !above->base)
			in = dirent_parent(merge->from, merge->reader, directory, &directory);
		if (!in)
			in = inode_is_in(merge, merge->base, directory);
		if (!in)
			in = inode_is_in(merge, merge->head, directory);
		if (in)
			return in;
	}
	return 0;
}

/* Directories that FROM has created above something that comes have to come too. */
static int include_above(struct merge *merge, struct units *units, const struct unit *unit)
{
	for (size_t i = 0; i < unit->gained_count; i++) {
		uint64_t directory = unit->gained[i].directory;
		struct unit *above;
		while ((above = find_unit(units, directory)) && !above->base) {
			above->excluded = false;
			int error =
				dirent_parent(merge->from, merge->reader, directory, &directory);
			if (error)
				return error;
		}
	}
	return 0;
}

static int exclude_others(struct merge *merge, struct units *units)
{
	for (size_t i = 0; merge->options->path_count && i < units->count; i++) {
		struct unit *unit = &units->list[i];
		int in = inode_is_in(merge, merge->from, unit->from);
		if (in == 0)
			in = inode_is_in(merge, merge->base, unit->base);
		if (in == 0)
			in = inode_is_in(merge, merge->head, unit->base);
		if (in == 0)
			in = destination_is_in(merge, units, unit);
		if (in < 0)
			return in;
		unit->outside = unit->excluded = unit->excluded || !in;
	}
	for (size_t i = 0; merge->options->path_count && i < units->count; i++) {
		int error =
			units->list[i].outside ? 0 : include_above(merge, units, &units->list[i]);
		if (error)
			return error;
	}
	return 0;
}

static int units_finish(struct merge *merge, struct units *units)
{
	for (size_t i = 0; i < units->count; i++) {
		int error = place_unit(merge, &units->list[i]);
		if (error)
			return error;
	}
	int error = pair_all(merge, units);
	return error ? error : exclude_others(merge, units);
}

int units_collect(struct merge *merge)
{
	struct collecting collecting = {.merge = merge};
	const struct diff_collector collector = {
		.inode = collect_inode, .name = collect_name, .context = &collecting};
	int error = diff_collect(merge->base, merge->from, merge->reader, &collector);
	if (!error && collecting.name_count)
		qsort(collecting.names, collecting.name_count, sizeof(collecting.names[0]),
		      compare_names);
	if (!error)
		error = add_named_units(&collecting);
	merge->units = (struct units){
		.list = collecting.list,
		.count = collecting.count,
		.names = collecting.names,
		.name_count = collecting.name_count,
	};
	if (error)
		return error;
	if (collecting.count)
		qsort(collecting.list, collecting.count, sizeof(collecting.list[0]), compare_units);
	hand_out_names(&collecting);
	return units_finish(merge, &merge->units);
}
