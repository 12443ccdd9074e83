/*
 * Restore of some paths; snapshot/restore_paths.h.
 *
 *   1. the directories that the paths lie in are found, or made as in the point
 *   2. from each path downwards, name by name, in the head's next tree: what is there and should
 *      not be loses the name; what should be there is made or made equal, and gets it.  Of a
 *      directory that was in the head only touched names are looked at (paths_touched.c)
 *   3. what has no name any more is deleted
 *   4. directories get attributes and times, now that nothing in them changes any more
 *
 * A name that an inode has to get is free, or freed, when its turn comes; a directory that still
 * has another name loses that first.  So files and directories may have been swapped, or put
 * into one another.
 */
#include "snapshot/restore_paths.h"
#include "index/util/array.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "snapshot/path.h"
#include "snapshot/paths_internal.h"
#include "snapshot/point_internal.h"

void restore_paths_result_release(struct restore_paths_result *result)
{
	point_release(&result->target);
	revise_result_release(&result->revised);
	*result = (struct restore_paths_result){0};
}

/* ---- the paths ---- */

static void paths_release(struct paths *paths)
{
	for (size_t i = 0; i < paths->count; i++)
		free(paths->list[i].text);
	free(paths->list);
	for (int side = 0; side < SIDES; side++)
		u64map_release(&paths->inside[side]);
	u64map_release(&paths->numbers);
	idset_release(&paths->taken);
	touched_release(&paths->touched);
	free(paths->directories.pairs);
	free(paths->loose.pairs);
}

static int list_add(struct paths_list *list, uint64_t source, uint64_t ino, bool made)
{
	struct paths_pair *grown =
		array_reserve(list->pairs, list->count + 1, &list->capacity, sizeof(grown[0]));
	if (!grown)
		return -ENOMEM;
	list->pairs = grown;
	list->pairs[list->count++] = (struct paths_pair){source, ino, made};
	return 0;
}

/* A copy without leading, doubled and trailing slashes and "." components. */
static int normalize(const char *path, char **ret)
{
	char *copy = malloc(strlen(path) + 1), *to = copy;
	if (!copy)
		return -ENOMEM;
	while (*path) {
		size_t length = strcspn(path, "/");
		if (length == 2 && path[0] == '.' && path[1] == '.') {
			free(copy);
			return -EINVAL;
		}
		if (length && !(length == 1 && path[0] == '.')) {
			if (to != copy)
				*to++ = '/';
			memcpy(to, path, length);
			to += length;
		}
		path += length + strspn(path + length, "/");
	}
	*to = '\0';
	*ret = copy;
	return 0;
}

/* "a" comes before "a/b", and what is below "a" right after it. */
static int compare_paths(const void *left, const void *right)
{
	const char *a = ((const struct wanted_path *)left)->text;
	const char *b = ((const struct wanted_path *)right)->text;
	for (; *a && *a == *b; a++, b++)
		;
	int x = *a == '/' ? 1 : (unsigned char)*a + (*a != 0);
	int y = *b == '/' ? 1 : (unsigned char)*b + (*b != 0);
	return x - y;
}

static bool lies_below(const char *path, const char *directory)
{
	size_t length = strlen(directory);
	return strncmp(path, directory, length) == 0 &&
	       (!length || path[length] == '/' || !path[length]);
}

/* Each path once, without those that lie below another. */
static void drop_covered(struct paths *paths)
{
	size_t kept = 0;
	qsort(paths->list, paths->count, sizeof(paths->list[0]), compare_paths);
	for (size_t i = 1; i < paths->count; i++) {
		if (lies_below(paths->list[i].text, paths->list[kept].text))
			free(paths->list[i].text);
		else
			paths->list[++kept] = paths->list[i];
	}
	paths->count = kept + 1;
}

static int take_paths(struct paths *paths, const struct restore_paths_options *options)
{
	if (!options->path_count)
		return -EINVAL;
	paths->list = calloc(options->path_count, sizeof(paths->list[0]));
	if (!paths->list)
		return -ENOMEM;
	for (size_t i = 0; i < options->path_count; i++) {
		int error = normalize(options->paths[i], &paths->list[i].text);
		if (error == -EINVAL)
			return err_set(paths->err, error, "'%s': '..' is not accepted in a path",
				       options->paths[i]);
		if (error)
			return error;
		const char *slash = strrchr(paths->list[i].text, '/');
		paths->list[i].name = slash ? slash + 1 : paths->list[i].text;
		paths->count++;
	}
	return 0;
}

/* ---- 1. where they lie ---- */

/* 0 in `ret` where it is not there; a file on the way counts as that. */
static int look_up(struct paths *paths, struct tree *tree, const char *path, uint64_t *ret)
{
	*ret = 0;
	int error = path_lookup(tree, paths->reader, path, ret);
	return error == -ENOENT || error == -ENOTDIR ? 0 : error;
}

static int slot_get(struct paths *paths, struct tree *tree, uint64_t directory, const char *name,
		    size_t length, struct dirent_target *ret)
{
	*ret = (struct dirent_target){0};
	if (!directory)
		return 0;
	int error = dirent_lookup(tree, paths->reader, directory, name, length, ret);
	return error == -ENOENT ? 0 : error;
}

static int locate_on(struct paths *paths, enum paths_side side, struct wanted_path *path,
		     bool *ret_there)
{
	struct dirent_target target;
	uint64_t directory;
	size_t length = strlen(path->text) - strlen(path->name);
	char *parent = strndup(path->text, length);
	if (!parent)
		return -ENOMEM;
	int error = look_up(paths, paths->trees[side], parent, &directory);
	free(parent);
	if (error)
		return error;
	path->directory[side] = directory;
	*ret_there = !*path->name; /* the root */
	if (*ret_there)
		return 0;
	error = slot_get(paths, paths->trees[side], directory, path->name, strlen(path->name),
			 &target);
	*ret_there = target.ino != 0;
	return error;
}

static int locate(struct paths *paths)
{
	for (size_t i = 0; i < paths->count; i++) {
		struct wanted_path *path = &paths->list[i];
		bool here, there;
		int error = locate_on(paths, SIDE_HEAD, path, &here);
		if (!error)
			error = locate_on(paths, SIDE_POINT, path, &there);
		if (!error && !here && !there)
			return err_set(paths->err, -ENOENT,
				       "'%s' is neither in the workspace nor in '%s'", path->text,
				       paths->label);
		if (error)
			return error;
	}
	return 0;
}

/* Makes the directory in the head's next tree. */
static int make_parent(struct paths *paths, uint64_t directory, const char *name, size_t length,
		       uint64_t source, uint64_t *ret)
{
	struct inode_attr attr;
	int error = inode_get(paths->graft.to, paths->reader, source, &attr);
	if (error && error != -ENOENT)
		return error;
	uint64_t ino = error ? source : store_next(tree_store(paths->graft.to), COUNTER_INODE);
	error = graft_inode(&paths->graft, source, ino, GRAFT_ALL);
	if (!error)
		error = graft_link(&paths->graft, directory, name, length, ino);
	if (!error)
		error = list_add(&paths->directories, source, ino, false);
	*ret = ino;
	return error;
}

/* The directory that the path lies in, in the head's next tree; `source` in the point. */
static int reach(struct paths *paths, const struct wanted_path *path, uint64_t *ret)
{
	struct dirent_target here, there = {.ino = ROOT_INO, .type = DT_DIR};
	const char *end = path->name, *at = path->text;
	uint64_t directory = ROOT_INO;
	while (at < end) {
		size_t length = strcspn(at, "/");
		int error = slot_get(paths, paths->graft.to, directory, at, length, &here);
		if (!error)
			error = slot_get(paths, paths->trees[SIDE_POINT], there.ino, at, length,
					 &there);
		if (!error && here.ino && here.type != DT_DIR)
			error = err_set(paths->err, -ENOTDIR,
					"'%.*s' is not a directory in the workspace; restore it "
					"as a whole",
					(int)(at + length - path->text), path->text);
		if (!error && !here.ino)
			error = make_parent(paths, directory, at, length, there.ino, &here.ino);
		if (error)
			return error;
		directory = here.ino;
		at += length + 1;
	}
	*ret = directory;
	return 0;
}

/* ---- 2. from the paths downwards ---- */

static int make_equal(struct paths *paths, uint64_t source, uint64_t ino, unsigned parts)
{
	int error = 0;
	if (parts & GRAFT_CONTENTS)
		return graft_inode(&paths->graft, source, ino, GRAFT_ALL);
	if (parts & GRAFT_XATTRS)
		error = graft_inode(&paths->graft, source, ino, GRAFT_XATTRS);
	if (!error && (parts & GRAFT_ATTRIBUTES))
		error = graft_inode(&paths->graft, source, ino, GRAFT_ATTRIBUTES);
	return error;
}

/* `ino` is there, and as in the point; directories are completed at the end. */
static int bring(struct paths *paths, uint64_t source, uint64_t ino, bool is_directory)
{
	struct inode_attr attr;
	unsigned parts;
	int error = inode_get(paths->graft.to, paths->reader, ino, &attr);
	bool made = error == -ENOENT;
	if (made)
		error = graft_inode(&paths->graft, source, ino, GRAFT_ALL);
	if (error)
		return error;
	if (is_directory)
		return list_add(&paths->directories, source, ino, made);
	if (made)
		return 0;
	error = parts_that_differ(paths, paths->graft.to, ino, source, &parts);
	return error ? error : make_equal(paths, source, ino, parts);
}

/* A directory has one name: the one that it has goes. */
static int unlink_directory(struct paths *paths, uint64_t ino)
{
	struct backref_name name;
	int error = backref_first(paths->graft.to, paths->reader, ino, &name);
	if (error)
		return error == -ENOENT ? 0 : error;
	return graft_unlink(&paths->graft, name.directory, name.text, name.length);
}

/* What the point has there, 0: nothing. */
static int settle_slot(struct paths *paths, uint64_t directory, const char *name, size_t length,
		       const struct dirent_target *there)
{
	struct dirent_target here;
	uint64_t ino = 0;
	int error = slot_get(paths, paths->graft.to, directory, name, length, &here);
	if (!error && there->ino)
		error = number_of(paths, there->ino, here.ino, &ino);
	if (!error && here.ino && here.ino != ino) {
		error = graft_unlink(&paths->graft, directory, name, length);
		if (!error)
			error = list_add(&paths->loose, 0, here.ino, false);
	}
	if (error || !there->ino)
		return error;
	bool is_directory = there->type == DT_DIR;
	error = bring(paths, there->ino, ino, is_directory);
	if (error || here.ino == ino)
		return error;
	if (is_directory)
		error = unlink_directory(paths, ino);
	return error ? error : graft_link(&paths->graft, directory, name, length, ino);
}

static int settle_touched(struct paths *paths, const struct paths_pair *pair)
{
	struct touched *touched = &paths->touched;
	struct dirent_target there;
	int error = touched_collect(paths);
	for (size_t i = touched_find(touched, pair->source); !error && i < touched->count; i++) {
		const struct touched_name *name = &touched->names[i];
		const char *text = touched->text + name->text;
		if (name->directory != pair->source)
			break;
		error = slot_get(paths, paths->trees[SIDE_POINT], pair->source, text, name->length,
				 &there);
		if (!error)
			error = settle_slot(paths, pair->ino, text, name->length, &there);
	}
	return error;
}

struct filling {
	struct paths *paths;
	uint64_t source, ino;
};

static int fill_entry(const struct dirent_entry *entry, void *context)
{
	const struct filling *filling = context;
	return settle_slot(filling->paths, filling->ino, entry->name.text, entry->name.length,
			   &entry->target);
}

/* Of a directory that was in the head. */
static int sort_entry(const struct dirent_entry *entry, void *context)
{
	const struct filling *filling = context;
	struct paths *paths = filling->paths;
	struct dirent_target there;
	int error = slot_get(paths, paths->trees[SIDE_POINT], filling->source, entry->name.text,
			     entry->name.length, &there);
	return error ? error
		     : settle_slot(paths, filling->ino, entry->name.text, entry->name.length,
				   &there);
}

static int settle_directory(struct paths *paths, const struct paths_pair *pair)
{
	struct filling filling = {paths, pair->source, pair->ino};
	int error = 0;
	if (!pair->made && pair->ino == pair->source)
		return settle_touched(paths, pair);
	if (!pair->made)
		error = dirent_iterate(paths->trees[SIDE_HEAD], paths->reader, pair->ino, 0,
				       sort_entry, &filling);
	if (error)
		return error;
	return dirent_iterate(paths->trees[SIDE_POINT], paths->reader, pair->source, 0, fill_entry,
			      &filling);
}

/* `ret_first`: in the list of directories, behind the parents that this makes: nothing else comes
 * into those. */
static int settle_path(struct paths *paths, const struct wanted_path *path, size_t *ret_first)
{
	struct dirent_target there;
	uint64_t directory;
	*ret_first = paths->directories.count;
	if (!*path->name)
		return list_add(&paths->directories, ROOT_INO, ROOT_INO, false);
	int error = slot_get(paths, paths->trees[SIDE_POINT], path->directory[SIDE_POINT],
			     path->name, strlen(path->name), &there);
	if (!error)
		error = reach(paths, path, &directory);
	*ret_first = paths->directories.count;
	return error ? error
		     : settle_slot(paths, directory, path->name, strlen(path->name), &there);
}

/* The list grows meanwhile. */
static int settle(struct paths *paths)
{
	int error = 0;
	for (size_t i = 0; i < paths->count && !error; i++) {
		size_t next;
		error = settle_path(paths, &paths->list[i], &next);
		for (; !error && next < paths->directories.count; next++) {
			const struct paths_pair pair = paths->directories.pairs[next];
			error = settle_directory(paths, &pair);
		}
	}
	return error;
}

/* ---- 3. and 4. ---- */

static int bury_loose(struct paths *paths)
{
	int error = 0;
	for (size_t i = 0; i < paths->loose.count && !error; i++)
		error = graft_bury(&paths->graft, paths->loose.pairs[i].ino);
	return error;
}

static int complete_directories(struct paths *paths)
{
	int error = 0;
	for (size_t i = 0; i < paths->directories.count && !error; i++) {
		const struct paths_pair *pair = &paths->directories.pairs[i];
		unsigned parts;
		error = parts_that_differ(paths, paths->graft.to, pair->ino, pair->source, &parts);
		if (!error)
			error = make_equal(paths, pair->source, pair->ino, parts);
	}
	return error;
}

/* ---- one restore ---- */

struct restoring {
	struct head *head;
	const struct restore_paths_options *options;
	struct restore_paths_result result; /* owned */
	struct tree *point;		    /* owned */
	struct errbuf *err;
};

static int run(struct paths *paths, struct restoring *restoring)
{
	int error = point_exists(paths->reader, restoring->result.target.id);
	if (error == -ENOENT)
		return err_set(paths->err, error, "point '%s' was deleted meanwhile", paths->label);
	if (!error)
		error = take_paths(paths, restoring->options);
	if (!error)
		error = locate(paths);
	if (error)
		return error;
	drop_covered(paths);
	error = settle(paths);
	if (!error)
		error = bury_loose(paths);
	if (!error)
		error = complete_directories(paths);
	if (error)
		return error;
	return diff_summarize(paths->trees[SIDE_HEAD], paths->graft.to, paths->reader,
			      &restoring->result.changed);
}

static int restore_edit(struct tree *tree, struct reader *reader, struct head_counters *counters,
			void *context)
{
	struct restoring *restoring = context;
	struct paths paths = {
		.trees = {restoring->head->tree, restoring->point},
		.graft = {tree, restoring->point, reader, counters},
		.reader = reader,
		.label = restoring->result.target.name,
		.err = restoring->err,
		.taken = IDSET_INIT,
		.touched.climbed = {IDSET_INIT, IDSET_INIT},
	};
	int error = run(&paths, restoring);
	paths_release(&paths);
	return error;
}

static int revise(struct restoring *restoring)
{
	const struct restore_paths_options *options = restoring->options;
	const struct point *target = &restoring->result.target;
	char reason[REVISE_REASON];
	revise_reason(options->paths, options->path_count, reason);
	const struct journal_note note = {
		.action = JOURNAL_RESTORE,
		.by = options->by,
		.point = target->id,
		.point_name = target->name,
		.reason = reason,
	};
	const struct revision revision = {
		.edit = restore_edit,
		.context = restoring,
		.what = "restore",
		.target = target->name,
		.by = options->by,
		.note = &note,
		.dry_run = options->dry_run,
		.may_change = options->may_change,
		.may_change_context = options->context,
	};
	return head_revise(restoring->head, &revision, &restoring->result.revised, restoring->err);
}

int point_restore_paths(struct head *head, const struct point *target,
			const struct restore_paths_options *options,
			struct restore_paths_result *ret, struct errbuf *err)
{
	struct restoring restoring = {.head = head, .options = options, .err = err};
	struct repo *repo = head->repo;
	int error = point_get(repo, target->id, &restoring.result.target);
	if (error == -ENOENT)
		return err_set(err, error, "point '%s' was deleted meanwhile", target->name);
	if (!error)
		error = tree_open(repo->store, restoring.result.target.root, 0, &restoring.point);
	if (!error)
		error = revise(&restoring);
	tree_close(restoring.point);
	if (error) {
		restore_paths_result_release(&restoring.result);
		return error;
	}
	*ret = restoring.result;
	return 0;
}
