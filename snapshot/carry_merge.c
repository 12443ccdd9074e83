/*
 * Applying what FROM changed to the head's next tree.
 *
 *   1. names that FROM took away; files that it deleted, and directories that are empty by that
 *   2. names that it gave and what it created: directories, those above first; then files
 *   3. contents, attributes, xattrs of files that are on both sides
 *   4. directories that it deleted and that are not empty
 *
 * A name that FROM moved is free by step 2, so that files can swap names.  Each step compares the
 * head with BASE: where the head has left it alone, FROM's side is taken; where both have
 * changed it in the same way, there is nothing to do; otherwise it is a conflict, and the policy
 * decides.  Keeping leaves the head's side as it is.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "snapshot/carry_internal.h"
#include "snapshot/path.h"

void merge_release(struct merge *merge)
{
	units_release(&merge->units);
	u64map_release(&merge->twins);
	u64map_release(&merge->places);
	for (size_t i = 0; i < merge->conflict_count; i++) {
		free(merge->conflicts[i].path);
		free(merge->conflicts[i].copy_path);
	}
	free(merge->conflicts);
	free(merge->homeless);
}

/* ---- conflicts ---- */

/* A conflict about something that is in the head as `ino`. */
static int conflict_at(struct merge *merge, enum carry_conflict kind, uint64_t ino,
		       struct conflict **ret)
{
	struct inode_attr attr;
	char *path = NULL;
	int error = inode_get(merge->graft.to, merge->reader, ino, &attr);
	if (!error)
		error = path_of_inode(merge->graft.to, merge->reader, ino, &path);
	return error ? error : conflict_add(merge, kind, attr.mode, attr.size, path, ret);
}

/* A conflict about a name that FROM gives. */
static int conflict_over(struct merge *merge, enum carry_conflict kind, const struct unit *unit,
			 char *path, struct conflict **ret)
{
	struct inode_attr attr;
	int error = inode_get(merge->from, merge->reader, unit->from, &attr);
	if (error) {
		free(path);
		return error;
	}
	return conflict_add(merge, kind, attr.mode, attr.size, path, ret);
}

static bool takes(const struct conflict *conflict)
{
	return conflict->resolved == CARRY_TAKE;
}

static bool keeps(const struct conflict *conflict)
{
	return conflict->resolved == CARRY_KEEP || conflict->resolved == CARRY_STOP;
}

/* ---- 1. names taken away ---- */

/* The slot of a name in the head: 0 in `ret_ino` where the directory or the name is not there. */
static int find_slot(struct merge *merge, const struct unit_name *name, uint64_t *ret_directory,
		     uint64_t *ret_ino)
{
	*ret_ino = 0;
	int error = place_of(merge, name->directory, ret_directory);
	if (error || !*ret_directory)
		return error;
	return slot_get(merge, *ret_directory, name->text, name->length, ret_ino);
}

/* Every name of an inode goes, and the inode with the last one. */
static int erase(struct merge *merge, uint64_t ino)
{
	struct backref_name name;
	int error;
	while ((error = backref_first(merge->graft.to, merge->reader, ino, &name)) == 0) {
		error = evict(merge, name.directory, name.text, name.length);
		if (error)
			return error;
	}
	return error == -ENOENT ? 0 : error;
}

/* How many of the unit's names the head still has. */
static int count_slots(struct merge *merge, const struct unit *unit, uint64_t ino, size_t *ret)
{
	uint64_t directory, there;
	*ret = 0;
	for (size_t i = 0; i < unit->lost_count; i++) {
		int error = find_slot(merge, &unit->lost[i], &directory, &there);
		if (error)
			return error;
		*ret += there == ino;
	}
	return 0;
}

static int unlink_slots(struct merge *merge, const struct unit *unit, uint64_t ino)
{
	uint64_t directory, there;
	for (size_t i = 0; i < unit->lost_count; i++) {
		const struct unit_name *name = &unit->lost[i];
		int error = find_slot(merge, name, &directory, &there);
		if (!error && there == ino)
			error = graft_unlink(&merge->graft, directory, name->text, name->length);
		if (error)
			return error;
	}
	return graft_bury(&merge->graft, ino);
}

static int delete_file(struct merge *merge, const struct unit *unit)
{
	struct conflict *conflict;
	unsigned changed;
	uint64_t ino;
	size_t slots;
	int error = unit_in_head(merge, unit, &ino);
	if (error || !ino)
		return error;
	const struct side base = in_base(merge, unit), head = in_head(merge, ino);
	error = compare_sides(merge, &base, &head, &changed);
	if (!error)
		error = count_slots(merge, unit, ino, &slots);
	if (error)
		return error;
	if (!(changed & GRAFT_ALL) && slots == unit->lost_count)
		return unlink_slots(merge, unit, ino);
	error = conflict_at(merge, CARRY_DELETED_CHANGED, ino, &conflict);
	return error || !takes(conflict) ? error : erase(merge, ino);
}

struct new_name {
	struct merge *merge;
	const struct unit *unit;
	struct backref_name name;
};

static int visit_new_name(uint64_t directory, const struct dirent_name *name, void *context)
{
	struct new_name *found = context;
	struct dirent_target target;
	int error = dirent_lookup(found->merge->base, found->merge->reader, directory, name->text,
				  name->length, &target);
	if (error && error != -ENOENT)
		return error;
	if (!error && target.ino == found->unit->base)
		return 0;
	found->name.directory = directory;
	found->name.length = name->length;
	memcpy(found->name.text, name->text, name->length);
	return 1;
}

/* The head's name goes: not one that the file had in BASE and has beside. */
static int take_new_name(struct merge *merge, const struct unit *unit, uint64_t ino)
{
	struct new_name found = {.merge = merge, .unit = unit};
	int error = backref_iterate(merge->graft.to, merge->reader, ino, visit_new_name, &found);
	return error <= 0 ? error
			  : graft_unlink(&merge->graft, found.name.directory, found.name.text,
					 found.name.length);
}

/* The head has moved it elsewhere.  1: its names stay. */
static int renamed_twice(struct merge *merge, struct unit *unit, uint64_t ino)
{
	struct conflict *conflict;
	uint64_t directory, there;
	int error = find_slot(merge, unit->gained, &directory, &there);
	if (error || there == ino)
		return error ? error : 1;
	error = conflict_at(merge, CARRY_RENAMED_TWICE, ino, &conflict);
	if (error || !takes(conflict))
		return error ? error : 1;
	unit->lost->taken = true;
	return take_new_name(merge, unit, ino);
}

static int take_names(struct merge *merge, struct unit *unit)
{
	uint64_t ino, directory, there;
	int error = unit_in_head(merge, unit, &ino);
	if (error || !ino)
		return error;
	if (ino != unit->base && ino != unit->from) {
		unit->here = ino;
		error = S_ISDIR(unit->mode) ? place_set(merge, unit->base, ino) : 0;
		if (error)
			return error;
	}
	for (size_t i = 0; i < unit->lost_count; i++) {
		struct unit_name *name = &unit->lost[i];
		if (name->paired)
			continue;
		error = find_slot(merge, name, &directory, &there);
		if (error)
			return error;
		name->taken = there == ino;
		if (there == ino)
			error = graft_unlink(&merge->graft, directory, name->text, name->length);
		else if (unit->lost_count == 1 && unit->gained_count == 1)
			error = renamed_twice(merge, unit, ino);
		if (error == 1)
			unit->gained[0].paired = true;
		if (error < 0)
			return error;
	}
	return 0;
}

/* ---- 2. names given ---- */

static struct unit_name *find_taken(const struct unit *unit)
{
	for (size_t i = 0; i < unit->lost_count; i++)
		if (unit->lost[i].taken)
			return &unit->lost[i];
	return NULL;
}

/* Back to where it was, or beside what is there now.  For an inode whose new name was refused:
 * one of the names that it has lost for that. */
static int put_back(struct merge *merge, const struct unit *unit, uint64_t ino)
{
	struct unit_name *name = find_taken(unit);
	uint64_t directory, there;
	char *copy = NULL;
	if (!name)
		return 0;
	name->taken = false;
	int error = place_revive(merge, merge->base, name->directory, CARRY_KEEP, &directory);
	if (error)
		return error;
	if (!directory)
		directory = ROOT_INO;
	error = slot_get(merge, directory, name->text, name->length, &there);
	if (error)
		return error;
	if (!there)
		return graft_link(&merge->graft, directory, name->text, name->length, ino);
	error = link_copy(merge, directory, name->text, name->length, ino, &copy);
	free(copy);
	return error;
}

/* The directory for a name of FROM.  0 in `ret`: it stays out (and was reported, if that is new).
 */
static int find_parent(struct merge *merge, const struct unit *unit, const struct unit_name *name,
		       uint64_t *ret)
{
	struct conflict *conflict;
	char *path;
	int error = place_of(merge, name->directory, ret);
	if (error || *ret || place_is_left_out(merge, name->directory))
		return error;
	error = path_of_name(merge->from, merge->reader, name->directory, name->text, name->length,
			     &path);
	if (!error)
		error = conflict_over(merge, CARRY_NO_PARENT, unit, path, &conflict);
	if (error || keeps(conflict))
		return error;
	error = place_revive(merge, merge->from, name->directory, conflict->resolved, ret);
	if (!error && !*ret)
		conflict->resolved = CARRY_KEEP;
	return error;
}

static int leave_out(struct merge *merge, const struct unit *unit)
{
	return S_ISDIR(unit->mode) ? place_set(merge, unit->from, PLACE_LEFT_OUT) : 0;
}

/* Gives a name to an inode that has come (or stays) in the head. */
static int give(struct merge *merge, const struct unit *unit, uint64_t ino, uint64_t directory,
		const struct unit_name *name, struct conflict *copy_of)
{
	char *copy = NULL;
	int error;
	if (!copy_of)
		error = graft_link(&merge->graft, directory, name->text, name->length, ino);
	else
		error = link_copy(merge, directory, name->text, name->length, ino, &copy);
	if (!error && copy) {
		free(copy_of->copy_path); /* of another name */
		copy_of->copy_path = path_in_head(merge, directory, copy, strlen(copy));
		error = copy_of->copy_path ? 0 : -ENOMEM;
	}
	free(copy);
	if (error)
		return error;
	return S_ISDIR(unit->mode) && unit->from ? place_set(merge, unit->from, ino) : 0;
}

/* Somebody else has the name in the head.  `ret_copy`: FROM's goes beside it; 1: it stays out. */
static int clash(struct merge *merge, const struct unit *unit, const struct unit_name *name,
		 uint64_t directory, uint64_t other, struct conflict **ret_copy)
{
	struct inode_attr attr;
	struct conflict *conflict;
	int error = inode_get(merge->graft.to, merge->reader, other, &attr);
	if (error)
		return error;
	bool types = S_ISDIR(attr.mode) != S_ISDIR(unit->mode);
	error = conflict_over(merge, types ? CARRY_TYPE_CLASH : CARRY_CREATED_TWICE, unit,
			      path_in_head(merge, directory, name->text, name->length), &conflict);
	if (error || keeps(conflict))
		return error ? error : 1;
	if (!takes(conflict)) {
		*ret_copy = conflict;
		return 0;
	}
	return evict(merge, directory, name->text, name->length);
}

/* Two directories of one name are one; two files that are alike too.  1: so it is. */
static int is_the_same(struct merge *merge, const struct unit *unit, uint64_t other)
{
	struct inode_attr attr;
	unsigned differ;
	int error = inode_get(merge->graft.to, merge->reader, other, &attr);
	if (error || (attr.mode & S_IFMT) != (unit->mode & S_IFMT))
		return error;
	if (S_ISDIR(unit->mode)) {
		error = place_set(merge, unit->from, other);
		return error ? error : 1;
	}
	const struct side from = in_from(merge, unit), head = in_head(merge, other);
	error = compare_sides(merge, &from, &head, &differ);
	return error ? error : !(differ & GRAFT_ALL);
}

static int create_name(struct merge *merge, struct unit *unit, const struct unit_name *name)
{
	struct conflict *copy_of = NULL;
	uint64_t directory, other;
	int error = find_parent(merge, unit, name, &directory);
	if (error || !directory)
		return error ? error : leave_out(merge, unit);
	error = slot_get(merge, directory, name->text, name->length, &other);
	if (error || other == unit->from)
		return error;
	int same = other ? is_the_same(merge, unit, other) : 0;
	if (same)
		return same < 0 ? same : 0;
	if (other)
		error = clash(merge, unit, name, directory, other, &copy_of);
	if (error)
		return error < 0 ? error : leave_out(merge, unit);
	error = graft_inode(&merge->graft, unit->from, unit->from, GRAFT_ALL);
	return error ? error : give(merge, unit, unit->from, directory, name, copy_of);
}

static int merge_items(struct merge *merge, const struct unit *unit, uint64_t ino);

static int create(struct merge *merge, struct unit *unit)
{
	uint64_t ino;
	int error = unit_in_head(merge, unit, &ino);
	if (error)
		return error;
	if (ino) /* it came over before */
		return merge_items(merge, unit, ino);
	for (size_t i = 0; i < unit->gained_count && !error; i++)
		error = create_name(merge, unit, &unit->gained[i]);
	return error;
}

struct all_names {
	struct backref_name *list; /* owned */
	size_t count;
};

static int add_name(uint64_t directory, const struct dirent_name *name, void *context)
{
	struct all_names *names = context;
	struct backref_name *list =
		reallocarray(names->list, names->count + 1, sizeof(names->list[0]));
	if (!list)
		return -ENOMEM;
	names->list = list;
	list[names->count] = (struct backref_name){.directory = directory, .length = name->length};
	memcpy(list[names->count++].text, name->text, name->length);
	return 0;
}

/* One of the names that it has in FROM. */
static int bring_name(struct merge *merge, const struct unit *unit, struct conflict *conflict,
		      const struct backref_name *from)
{
	const struct unit_name name = {
		.directory = from->directory, .text = from->text, .length = (uint8_t)from->length};
	uint64_t directory, other;
	int error =
		place_revive(merge, merge->from, from->directory, conflict->resolved, &directory);
	if (error || !directory)
		return error;
	error = slot_get(merge, directory, name.text, name.length, &other);
	if (error || other == unit->from)
		return error;
	error = graft_inode(&merge->graft, unit->from, unit->from, GRAFT_ALL);
	return error ? error
		     : give(merge, unit, unit->from, directory, &name, other ? conflict : NULL);
}

static int bring_names(struct merge *merge, const struct unit *unit, struct conflict *conflict)
{
	struct all_names names = {0};
	struct inode_attr attr;
	int error = backref_iterate(merge->from, merge->reader, unit->from, add_name, &names);
	for (size_t i = 0; i < names.count && !error; i++)
		error = bring_name(merge, unit, conflict, &names.list[i]);
	free(names.list);
	if (!error && inode_get(merge->graft.to, merge->reader, unit->from, &attr) == -ENOENT)
		conflict->resolved = CARRY_KEEP; /* there was no place for it */
	return error;
}

/* FROM changed or moved it, and the head has deleted it: it comes back as it is in FROM. */
static int bring_back(struct merge *merge, struct unit *unit)
{
	struct conflict *conflict;
	struct backref_name first;
	char *path;
	unit->settled = true;
	int error = backref_first(merge->from, merge->reader, unit->from, &first);
	if (!error)
		error = path_of_inode(merge->from, merge->reader, unit->from, &path);
	if (error)
		return error;
	if (place_is_left_out(merge, first.directory)) {
		free(path);
		return leave_out(merge, unit);
	}
	error = conflict_over(merge, CARRY_CHANGED_DELETED, unit, path, &conflict);
	if (error || keeps(conflict))
		return error;
	return bring_names(merge, unit, conflict);
}

static int is_unnamed(struct merge *merge, uint64_t ino)
{
	struct backref_name name;
	int error = backref_first(merge->graft.to, merge->reader, ino, &name);
	return error == -ENOENT ? 1 : error;
}

/* A directory cannot come to lie below itself. 1: it would. */
static int refuse_cycle(struct merge *merge, const struct unit *unit, uint64_t ino,
			uint64_t directory, const struct unit_name *name)
{
	struct conflict *conflict;
	int below = S_ISDIR(unit->mode) ? lies_below(merge, directory, ino) : 0;
	if (below <= 0)
		return below;
	int error = put_back(merge, unit, ino);
	if (!error)
		error = conflict_over(merge, CARRY_CYCLE, unit,
				      path_in_head(merge, directory, name->text, name->length),
				      &conflict);
	if (error)
		return error;
	if (conflict->resolved != CARRY_STOP)
		conflict->resolved = CARRY_KEEP;
	return 1;
}

static int move_name(struct merge *merge, struct unit *unit, uint64_t ino,
		     const struct unit_name *name)
{
	struct conflict *copy_of = NULL;
	uint64_t directory, other;
	int error = find_parent(merge, unit, name, &directory);
	if (error || !directory)
		return error ? error : put_back(merge, unit, ino);
	error = slot_get(merge, directory, name->text, name->length, &other);
	if (error || other == ino)
		return error;
	int cycle = refuse_cycle(merge, unit, ino, directory, name);
	if (cycle)
		return cycle < 0 ? cycle : 0;
	if (other)
		error = clash(merge, unit, name, directory, other, &copy_of);
	if (error)
		return error < 0 ? error : put_back(merge, unit, ino);
	if (S_ISDIR(unit->mode)) {
		int unnamed = is_unnamed(merge, ino);
		if (unnamed <= 0)
			return unnamed; /* the head's name for it stays */
	}
	return give(merge, unit, ino, directory, name, copy_of);
}

static int give_names(struct merge *merge, struct unit *unit)
{
	uint64_t ino;
	int error = unit_in_head(merge, unit, &ino);
	for (size_t i = 0; i < unit->gained_count && !error && !unit->settled; i++) {
		if (unit->gained[i].paired)
			continue;
		error = ino ? move_name(merge, unit, ino, &unit->gained[i])
			    : bring_back(merge, unit);
	}
	return error;
}

/* Each side took away another of its names, so that none was left: it keeps the head's, or gets
 * FROM's. */
static int name_again(struct merge *merge, struct unit *unit)
{
	struct conflict *conflict;
	struct backref_name name;
	uint64_t ino;
	int error = unit_in_head(merge, unit, &ino);
	if (error || !ino || ino == ROOT_INO || unit->settled)
		return error;
	int unnamed = is_unnamed(merge, ino);
	if (unnamed <= 0 || !find_taken(unit))
		return unnamed < 0 ? unnamed : 0;
	error = put_back(merge, unit, ino);
	if (!error)
		error = conflict_at(merge, CARRY_DELETED_CHANGED, ino, &conflict);
	if (error || !takes(conflict))
		return error;
	error = backref_first(merge->graft.to, merge->reader, ino, &name);
	return error ? error : evict(merge, name.directory, name.text, name.length);
}

/* ---- 3. contents and attributes ---- */

static int put_copy_beside(struct merge *merge, const struct unit *unit, uint64_t ino,
			   struct conflict *conflict)
{
	struct backref_name name;
	uint64_t copy = store_next(tree_store(merge->graft.to), COUNTER_INODE);
	if (S_ISDIR(unit->mode)) {
		conflict->resolved = CARRY_KEEP;
		return 0;
	}
	int error = backref_first(merge->graft.to, merge->reader, ino, &name);
	if (!error)
		error = graft_inode(&merge->graft, unit->from, copy, GRAFT_ALL);
	const struct unit_name slot = {.text = name.text, .length = (uint8_t)name.length};
	return error ? error : give(merge, unit, copy, name.directory, &slot, conflict);
}

static int merge_items(struct merge *merge, const struct unit *unit, uint64_t ino)
{
	struct conflict *conflict;
	unsigned there, here, disputed;
	if (!unit->base && S_ISDIR(unit->mode)) /* two directories of one name are one */
		return 0;
	int error = changed_parts(merge, unit, ino, &there, &here);
	if (!error)
		error = disputed_parts(merge, unit, ino, there, here, &disputed);
	if (error)
		return error;
	unsigned parts = there & ~here & GRAFT_ALL;
	if (disputed) {
		error = conflict_at(merge, CARRY_BOTH_CHANGED, ino, &conflict);
		if (!error && conflict->resolved == CARRY_BOTH)
			return put_copy_beside(merge, unit, ino, conflict);
		if (!error && takes(conflict))
			parts |= disputed;
	} else if (there == TOUCHED && !here) {
		parts = GRAFT_ATTRIBUTES; /* only the time */
	}
	if (parts && here & (GRAFT_CONTENTS | TOUCHED))
		parts |= GRAFT_KEEP_MTIME;
	return error || !parts ? error : graft_inode(&merge->graft, unit->from, ino, parts);
}

static int merge_unit(struct merge *merge, struct unit *unit)
{
	unsigned changed;
	uint64_t ino;
	int error = unit_in_head(merge, unit, &ino);
	if (error || unit->settled)
		return error;
	if (ino)
		return merge_items(merge, unit, ino);
	const struct side base = in_base(merge, unit), from = in_from(merge, unit);
	error = compare_sides(merge, &base, &from, &changed);
	return error || !(changed & GRAFT_ALL) ? error : bring_back(merge, unit);
}

/* ---- directories taken away ---- */

/* The head's copy of a directory that FROM took away: 0 where there is none.  `ret_there` is what
 * stands in its place in the head now. */
static int find_taken_away(struct merge *merge, const struct unit *unit, uint64_t *ret_ino,
			   uint64_t *ret_there, bool *ret_empty)
{
	uint64_t directory;
	int error = unit_in_head(merge, unit, ret_ino);
	if (error || !*ret_ino)
		return error;
	error = find_slot(merge, unit->lost, &directory, ret_there);
	return error ? error : dirent_is_empty(merge->graft.to, merge->reader, *ret_ino, ret_empty);
}

/* The ordinary case, before the names in the way are given to others. */
static int delete_empty(struct merge *merge, const struct unit *unit)
{
	uint64_t ino, there;
	bool empty;
	int error = find_taken_away(merge, unit, &ino, &there, &empty);
	if (error || !ino)
		return error;
	return empty && there == ino ? unlink_slots(merge, unit, ino) : 0;
}

struct leftover {
	struct merge *merge;
	uint64_t base; /* the directory in BASE */
};

/* 1 at an entry that the head has put there. */
static int is_new(const struct dirent_entry *entry, void *context)
{
	const struct leftover *leftover = context;
	struct dirent_target target;
	int error = dirent_lookup(leftover->merge->base, leftover->merge->reader, leftover->base,
				  entry->name.text, entry->name.length, &target);
	if (error && error != -ENOENT)
		return error;
	return error == -ENOENT || target.ino != entry->target.ino;
}

static int delete_directory(struct merge *merge, const struct unit *unit)
{
	struct leftover leftover = {merge, unit->base};
	struct conflict *conflict;
	uint64_t ino, there;
	bool empty;
	int error = find_taken_away(merge, unit, &ino, &there, &empty);
	if (error || !ino)
		return error;
	if (empty && there == ino)
		return unlink_slots(merge, unit, ino);
	/* What FROM could not take from it was told already. */
	int added = there != ino ? 1
				 : dirent_iterate(merge->graft.to, merge->reader, ino, 0, is_new,
						  &leftover);
	if (added <= 0)
		return added;
	error = conflict_at(merge, CARRY_DELETED_CHANGED, ino, &conflict);
	return error || !takes(conflict) ? error : erase(merge, ino);
}

/* ---- all of it ---- */

static int compare_depth(const void *left, const void *right)
{
	const struct unit *a = left, *b = right;
	if (a->depth != b->depth)
		return a->depth < b->depth ? -1 : 1;
	uint64_t x = a->from ? a->from : a->base, y = b->from ? b->from : b->base;
	return x < y ? -1 : x > y;
}

static int step_take(struct merge *merge, struct unit *unit)
{
	if (unit->from && unit->base)
		return take_names(merge, unit);
	return unit->base && !S_ISDIR(unit->mode) ? delete_file(merge, unit) : 0;
}

static int give_unit(struct merge *merge, struct unit *unit)
{
	if (!unit->from)
		return 0;
	return unit->base ? give_names(merge, unit) : create(merge, unit);
}

static int step_give_directories(struct merge *merge, struct unit *unit)
{
	return S_ISDIR(unit->mode) ? give_unit(merge, unit) : 0;
}

/* A file may have names in several of them. */
static int step_give_files(struct merge *merge, struct unit *unit)
{
	return S_ISDIR(unit->mode) ? 0 : give_unit(merge, unit);
}

static int step_name_again(struct merge *merge, struct unit *unit)
{
	return unit->from && unit->base ? name_again(merge, unit) : 0;
}

static int step_items(struct merge *merge, struct unit *unit)
{
	return unit->from && unit->base && unit->items ? merge_unit(merge, unit) : 0;
}

static bool is_deleted_directory(const struct unit *unit)
{
	return unit->base && !unit->from && S_ISDIR(unit->mode) && unit->lost_count;
}

static int step_empty(struct merge *merge, struct unit *unit)
{
	return is_deleted_directory(unit) ? delete_empty(merge, unit) : 0;
}

static int step_directories(struct merge *merge, struct unit *unit)
{
	return is_deleted_directory(unit) ? delete_directory(merge, unit) : 0;
}

/* Each unit, those above first, or last. */
static int for_each(struct merge *merge, int (*step)(struct merge *, struct unit *), bool up)
{
	struct units *units = &merge->units;
	int error = 0;
	for (size_t i = 0; i < units->count && !error; i++) {
		struct unit *unit = &units->list[up ? units->count - 1 - i : i];
		if (!unit->absorbed && !unit->excluded)
			error = step(merge, unit);
	}
	return error;
}

int merge_apply(struct merge *merge)
{
	struct units *units = &merge->units;
	int error = units_collect(merge);
	if (error || !units->count)
		return error;
	qsort(units->list, units->count, sizeof(units->list[0]), compare_depth);
	error = for_each(merge, step_take, false);
	if (!error)
		error = for_each(merge, step_empty, true);
	if (!error)
		error = for_each(merge, step_give_directories, false);
	if (!error)
		error = for_each(merge, step_give_files, false);
	if (!error)
		error = settle_homeless(merge);
	if (!error)
		error = for_each(merge, step_name_again, false);
	if (!error)
		error = settle_homeless(merge);
	if (!error)
		error = for_each(merge, step_items, false);
	if (!error)
		error = for_each(merge, step_directories, true);
	return error ? error : settle_homeless(merge);
}
