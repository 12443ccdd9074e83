/*
 * What lies below the paths of a restore, and which inode becomes which.
 *
 * An inode of the point that is inside there becomes, in the head,
 *      itself         where the head has it only inside of the paths too, or not at all
 *      itself         where it is also outside, the same at both states, and has a name that is the
 *                     same at both: a hard link stays one
 *      another        where changing or moving it would show outside, and where it is only
 *                     held open by somebody: he goes on with what he has.  That is what
 *                     lies at its path now, if that is of no use otherwise, or a new inode
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "snapshot/diff_internal.h"
#include "snapshot/paths_internal.h"

/* In the maps: u64map holds pointers that are not NULL. */
static char no, yes;

static bool is_wanted(const struct paths *paths, enum paths_side side, uint64_t directory,
		      const char *name, size_t length)
{
	for (size_t i = 0; i < paths->count; i++) {
		const struct wanted_path *path = &paths->list[i];
		if (path->directory[side] == directory && strlen(path->name) == length &&
		    memcmp(path->name, name, length) == 0)
			return true;
	}
	return false;
}

/* The whole workspace is one path without a name. */
static bool is_everything(const struct paths *paths)
{
	return paths->count == 1 && !*paths->list[0].name;
}

/* Goes up from `directory` until it is known; `ret_top` is where that was. */
static int find_inside(struct paths *paths, enum paths_side side, uint64_t directory,
		       char **ret_answer, uint64_t *ret_top)
{
	struct backref_name name;
	uint64_t at = directory;
	char *answer;
	while (!(answer = u64map_get(&paths->inside[side], at)) && at != ROOT_INO) {
		int error = backref_first(paths->trees[side], paths->reader, at, &name);
		if (error == -ENOENT)
			answer = &no;
		else if (error)
			return error;
		else if (is_wanted(paths, side, name.directory, name.text, name.length))
			answer = &yes;
		if (answer)
			break;
		at = name.directory;
	}
	*ret_answer = answer ? answer : &no;
	*ret_top = at;
	return 0;
}

static int directory_is_inside(struct paths *paths, enum paths_side side, uint64_t directory)
{
	struct backref_name name;
	uint64_t top;
	char *answer;
	if (is_everything(paths))
		return 1;
	int error = find_inside(paths, side, directory, &answer, &top);
	for (uint64_t at = directory; !error; at = name.directory) {
		error = u64map_put(&paths->inside[side], at, answer);
		if (error || at == top)
			break;
		error = backref_first(paths->trees[side], paths->reader, at, &name);
	}
	return error ? error : answer == &yes;
}

int name_is_inside(struct paths *paths, enum paths_side side, uint64_t directory, const char *name,
		   size_t length)
{
	if (is_wanted(paths, side, directory, name, length))
		return 1;
	return directory_is_inside(paths, side, directory);
}

/* ---- comparing ---- */

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool same_attributes(const struct inode_attr *a, const struct inode_attr *b)
{
	return a->mode == b->mode && a->uid == b->uid && a->gid == b->gid && a->rdev == b->rdev &&
	       same_time(&a->mtime, &b->mtime);
}

int parts_that_differ(struct paths *paths, struct tree *tree, uint64_t ino, uint64_t source,
		      unsigned *ret)
{
	struct diff_file here = {.tree = tree, .ino = ino};
	struct diff_file there = {.tree = paths->trees[SIDE_POINT], .ino = source};
	int error = inode_get(here.tree, paths->reader, here.ino, &here.attr);
	if (!error)
		error = inode_get(there.tree, paths->reader, there.ino, &there.attr);
	if (error)
		return error;
	int contents = S_ISDIR(there.attr.mode)
			       ? 0
			       : diff_contents(&here, &there, paths->reader, 0, UINT64_MAX);
	int xattrs = contents < 0 ? contents : diff_xattrs(&here, &there, paths->reader);
	if (xattrs < 0)
		return xattrs;
	*ret = (contents ? GRAFT_CONTENTS : 0u) | (xattrs ? GRAFT_XATTRS : 0u) |
	       (same_attributes(&here.attr, &there.attr) ? 0u : GRAFT_ATTRIBUTES);
	return 0;
}

/* ---- which becomes which ---- */

struct names_of {
	struct paths *paths;
	uint64_t ino;
	unsigned inside, outside;
	bool common; /* one of them is there at both states, and inside or outside at both */
};

static int has_name(struct paths *paths, const struct names_of *names, uint64_t directory,
		    const struct dirent_name *name)
{
	struct dirent_target target;
	int error = dirent_lookup(paths->trees[SIDE_POINT], paths->reader, directory, name->text,
				  name->length, &target);
	if (error)
		return error == -ENOENT ? 0 : error;
	return target.ino == names->ino;
}

static int visit_name(uint64_t directory, const struct dirent_name *name, void *context)
{
	struct names_of *names = context;
	struct paths *paths = names->paths;
	int inside = name_is_inside(paths, SIDE_HEAD, directory, name->text, name->length);
	if (inside < 0)
		return inside;
	names->inside += inside == 1;
	names->outside += inside == 0;
	int there = has_name(paths, names, directory, name);
	if (there > 0)
		there = name_is_inside(paths, SIDE_POINT, directory, name->text, name->length);
	else if (!there)
		return 0;
	if (there < 0)
		return there;
	names->common |= there == inside;
	return 0;
}

/* 1: it stays the inode that it is. */
static int stays_itself(struct paths *paths, uint64_t ino)
{
	struct names_of names = {.paths = paths, .ino = ino};
	struct tree *head = paths->trees[SIDE_HEAD];
	struct inode_attr attr;
	unsigned differ;
	int error = inode_get(head, paths->reader, ino, &attr);
	if (error || ino == ROOT_INO)
		return error == -ENOENT || !error ? 1 : error;
	error = backref_iterate(head, paths->reader, ino, visit_name, &names);
	if (error)
		return error;
	if (!names.inside && !names.outside)
		return 0;
	if (!names.outside)
		return 1;
	if (S_ISDIR(attr.mode) || !names.common)
		return 0;
	error = parts_that_differ(paths, head, ino, ino, &differ);
	return error ? error : !differ;
}

/* 1: the inode is of the same type, unknown to the point, and has no name outside. */
static int can_be_used(struct paths *paths, uint64_t source, uint64_t ino)
{
	struct names_of names = {.paths = paths, .ino = ino};
	struct inode_attr here, there;
	if (!ino || idset_has(&paths->taken, ino))
		return 0;
	int error = inode_get(paths->trees[SIDE_POINT], paths->reader, ino, &there);
	if (error != -ENOENT)
		return error;
	error = inode_get(paths->trees[SIDE_POINT], paths->reader, source, &there);
	if (!error)
		error = inode_get(paths->trees[SIDE_HEAD], paths->reader, ino, &here);
	if (error)
		return error == -ENOENT ? 0 : error;
	if ((here.mode & S_IFMT) != (there.mode & S_IFMT))
		return 0;
	error = backref_iterate(paths->trees[SIDE_HEAD], paths->reader, ino, visit_name, &names);
	return error ? error : !names.outside;
}

static int choose_another(struct paths *paths, uint64_t source, uint64_t occupant, uint64_t *ret)
{
	int usable = can_be_used(paths, source, occupant);
	if (usable < 0)
		return usable;
	uint64_t ino = usable ? occupant : store_next(tree_store(paths->graft.to), COUNTER_INODE);
	int added = idset_add(&paths->taken, ino);
	if (added < 0)
		return added;
	*ret = ino;
	return 0;
}

int number_of(struct paths *paths, uint64_t source, uint64_t occupant, uint64_t *ret)
{
	void *known = u64map_get(&paths->numbers, source);
	if (known) {
		*ret = (uint64_t)(uintptr_t)known;
		return 0;
	}
	int stays = stays_itself(paths, source);
	if (stays < 0)
		return stays;
	uint64_t ino = source;
	int error = stays ? 0 : choose_another(paths, source, occupant, &ino);
	if (!error)
		error = u64map_put(&paths->numbers, source, (void *)(uintptr_t)ino);
	if (!error)
		*ret = ino;
	return error;
}
