/* Workspaces: making, cloning, renaming, deleting. Each is one action. */
#include "snapshot/workspace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "snapshot/inode.h"
#include "snapshot/journal.h"
#include "snapshot/point_internal.h"
#include "snapshot/workspace_internal.h"
#include "snapshot/workspace_record_internal.h"

int workspace_check_name(const char *name, struct errbuf *err)
{
	int error = name_check("workspace", name, err);
	if (!error && strchr(name, '@'))
		error = err_set(err, -EINVAL, "the name of a workspace cannot contain '@': %s",
				name);
	return error;
}

/* ---- finding them ---- */

int workspace_get(struct repo *repo, const char *name, struct workspace *ret)
{
	struct reader *reader;
	if (!*name)
		return -ENOENT;
	int error = reader_acquire(repo->store, &reader);
	if (error)
		return error;
	uint64_t id;
	error = record_find_name(reader, 0, name, strlen(name), &id);
	if (!error) {
		error = workspace_read(reader, id, ret);
		if (error == -ENOENT)
			error = -EUCLEAN;
	}
	reader_release(reader);
	return error;
}

int workspace_list(struct repo *repo, struct workspace **ret, size_t *ret_count)
{
	struct reader *reader;
	int error = reader_acquire(repo->store, &reader);
	if (error)
		return error;
	error = workspaces_read(reader, ret, ret_count);
	reader_release(reader);
	return error;
}

int workspace_not_found(struct repo *repo, const char *name, struct errbuf *err)
{
	struct workspace *workspaces = NULL;
	size_t count = 0, used = 0;
	char names[256] = "";
	int error = err ? workspace_list(repo, &workspaces, &count) : -ENOENT;
	if (error)
		return error;
	for (size_t i = 0; i < count && used < sizeof(names); i++)
		used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s", i ? ", " : "",
					 workspaces[i].name);
	workspaces_free(workspaces, count);
	if (count == 0)
		return err_set(err, -ENOENT, "no workspace '%s'; the store has none yet", name);
	return err_set(err, -ENOENT, "no workspace '%s'; there %s: %s", name,
		       count == 1 ? "is" : "are", names);
}

static int name_is_taken(const char *name, struct errbuf *err)
{
	return err_set(err, -EEXIST, "workspace '%s' exists already; choose another name", name);
}

/* -EEXIST, 0 where the name is free. */
static int check_free(struct commit *commit, const char *name, struct errbuf *err)
{
	uint64_t id;
	int error = record_find_name_in_commit(commit, 0, name, &id);
	if (error == -ENOENT)
		return 0;
	return error ? error : name_is_taken(name, err);
}

/* ---- making ---- */

struct creation {
	const char *name;
	uint32_t uid, gid;
	const struct point *point; /* to clone, or NULL */
	struct head *head;	   /* to clone, or NULL */
	uint64_t generation;	   /* of that head from then on */
	const char *by;
	struct errbuf *err;
};

static int put_root_directory(struct tree *tree, struct reader *reader,
			      const struct creation *creation)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	const struct inode_attr attr = {
		.mode = S_IFDIR | 0755,
		.nlink = 2,
		.uid = creation->uid,
		.gid = creation->gid,
		.atime = now,
		.mtime = now,
		.ctime = now,
		.btime = now,
	};
	return inode_put(tree, reader, ROOT_INO, &attr);
}

/* A tree with nothing but the root directory, into the commit. */
static int make_tree(struct repo *repo, struct commit *commit, const struct creation *creation,
		     uint64_t generation, uint64_t *ret_root)
{
	struct tree *tree;
	struct reader *reader;
	int error = tree_open(repo->store, 0, generation, &tree);
	if (error)
		return error;
	error = reader_acquire(repo->store, &reader);
	if (!error) {
		error = put_root_directory(tree, reader, creation);
		reader_release(reader);
	}
	if (!error)
		error = tree_collect(tree, commit);
	if (!error)
		*ret_root = tree_root(tree);
	tree_close(tree);
	return error;
}

/* As a freeze does, it gives the head a new generation: from then on no node that the clone
 * reaches is changed in place (I1). */
static int clone_state(struct repo *repo, struct commit *commit, struct creation *creation,
		       struct workspace *workspace)
{
	struct head_state state;
	struct workspace source;
	head_get_state(creation->head, &state);
	int error = workspace_read_in_commit(commit, creation->head->workspace, &source);
	if (error)
		return error == -ENOENT ? -EUCLEAN : error;
	workspace->root = state.root;
	workspace->base = state.base;
	workspace->counters = state.counters;
	workspace->carried = source.carried;
	workspace->carried_count = source.carried_count;
	source.carried = NULL;
	source.carried_count = 0;
	workspace_release(&source);
	creation->generation = store_next(repo->store, COUNTER_GENERATION);
	state.generation = creation->generation;
	return workspace_put_state(commit, creation->head->workspace, &state);
}

/* The rest of a record of which id, generation and name are known. */
static int fill_workspace(struct repo *repo, struct commit *commit, struct creation *creation,
			  struct workspace *workspace)
{
	if (creation->head)
		return clone_state(repo, commit, creation, workspace);
	if (!creation->point)
		return make_tree(repo, commit, creation, workspace->generation, &workspace->root);
	struct point point;
	int error = point_read_in_commit(commit, creation->point->id, &point);
	if (error == -ENOENT)
		return err_set(creation->err, error, "point '%s' was deleted meanwhile",
			       creation->point->name);
	if (error)
		return error;
	workspace->root = point.root;
	workspace->base = point.id;
	workspace->counters = (struct head_counters){
		.files = (int64_t)point.files,
		.directories = (int64_t)point.directories,
		.bytes = (int64_t)point.bytes,
	};
	point_release(&point);
	return 0;
}

static int journal_creation(struct repo *repo, struct commit *commit,
			    const struct creation *creation, const struct workspace *workspace)
{
	bool clone = creation->point || creation->head;
	const struct journal_note note = {
		.action = clone ? JOURNAL_CLONE : JOURNAL_WORKSPACE_CREATE,
		.by = creation->by,
		.workspace = workspace->id,
		.workspace_name = workspace->name,
		.point = creation->point ? creation->point->id : 0,
		.point_name = creation->point ? creation->point->name : NULL,
	};
	return journal_append(repo, commit, &note);
}

static int create_act(struct repo *repo, struct commit *commit, void *context)
{
	struct creation *creation = context;
	int error = check_free(commit, creation->name, creation->err);
	if (error)
		return error;
	struct workspace workspace = {
		.id = store_next(repo->store, COUNTER_WORKSPACE),
		.generation = store_next(repo->store, COUNTER_GENERATION),
		.created_ns = point_now(),
		.name = strdup(creation->name),
	};
	if (!workspace.name)
		return -ENOMEM;
	error = fill_workspace(repo, commit, creation, &workspace);
	if (!error)
		error = workspace_write(commit, &workspace);
	if (!error)
		error = record_put_name(commit, 0, workspace.name, workspace.id);
	if (!error)
		error = journal_creation(repo, commit, creation, &workspace);
	workspace_release(&workspace);
	return error;
}

static void create_done(struct repo *repo, void *context)
{
	const struct creation *creation = context;
	(void)repo;
	if (creation->head)
		tree_set_generation(creation->head->tree, creation->generation);
}

static int create(struct repo *repo, struct creation *creation)
{
	int error = workspace_check_name(creation->name, creation->err);
	if (error)
		return error;
	const struct repo_action action = {create_act, create_done, creation};
	return repo_commit_action(repo, &action);
}

int workspace_create(struct repo *repo, const char *name, uint32_t uid, uint32_t gid,
		     const char *by, struct errbuf *err)
{
	struct creation creation = {.name = name, .uid = uid, .gid = gid, .by = by, .err = err};
	return create(repo, &creation);
}

int workspace_clone(struct repo *repo, const struct point *point, const char *name, const char *by,
		    struct errbuf *err)
{
	struct creation creation = {.name = name, .point = point, .by = by, .err = err};
	return create(repo, &creation);
}

int workspace_clone_head(struct head *head, const char *name, const char *by, struct errbuf *err)
{
	struct creation creation = {.name = name, .head = head, .by = by, .err = err};
	return create(head->repo, &creation);
}

/* ---- renaming ---- */

struct renaming {
	const char *name, *new_name, *by;
	struct errbuf *err;
	uint64_t id;
	char *head_name; /* owned; for the open head */
};

/* Finds the workspace of a name: not_found has the message, outside of the commit. */
static int find_in_commit(struct commit *commit, const char *name, struct workspace *ret)
{
	uint64_t id;
	int error = record_find_name_in_commit(commit, 0, name, &id);
	if (error)
		return error;
	error = workspace_read_in_commit(commit, id, ret);
	return error == -ENOENT ? -EUCLEAN : error;
}

static int rename_in_commit(struct commit *commit, struct workspace *workspace,
			    const char *new_name)
{
	int error = record_delete_name(commit, 0, workspace->name);
	if (!error)
		error = record_put_name(commit, 0, new_name, workspace->id);
	if (error)
		return error;
	char *copy = strdup(new_name);
	if (!copy)
		return -ENOMEM;
	free(workspace->name);
	workspace->name = copy;
	return workspace_write(commit, workspace);
}

static int journal_renaming(struct repo *repo, struct commit *commit,
			    const struct renaming *renaming)
{
	const struct point_pair old_name = {(char *)"old_name", (char *)renaming->name};
	const struct journal_note note = {
		.action = JOURNAL_WORKSPACE_RENAME,
		.by = renaming->by,
		.workspace = renaming->id,
		.workspace_name = renaming->new_name,
		.details = &old_name,
		.detail_count = 1,
	};
	return journal_append(repo, commit, &note);
}

static int rename_act(struct repo *repo, struct commit *commit, void *context)
{
	struct renaming *renaming = context;
	struct workspace workspace;
	int error = find_in_commit(commit, renaming->name, &workspace);
	if (error)
		return error;
	renaming->id = workspace.id;
	if (strcmp(renaming->name, renaming->new_name) != 0) {
		error = check_free(commit, renaming->new_name, renaming->err);
		if (!error)
			error = rename_in_commit(commit, &workspace, renaming->new_name);
		if (!error)
			error = journal_renaming(repo, commit, renaming);
	}
	workspace_release(&workspace);
	return error;
}

static void rename_done(struct repo *repo, void *context)
{
	struct renaming *renaming = context;
	struct head *head = repo_open_head(repo, renaming->id);
	if (!head)
		return;
	free(head->name);
	head->name = renaming->head_name;
	renaming->head_name = NULL;
}

int workspace_rename(struct repo *repo, const char *name, const char *new_name, const char *by,
		     struct errbuf *err)
{
	int error = workspace_check_name(new_name, err);
	if (error)
		return error;
	if (!*name || strlen(name) > 255)
		return workspace_not_found(repo, name, err);
	struct renaming renaming = {
		.name = name,
		.new_name = new_name,
		.by = by,
		.err = err,
		.head_name = strdup(new_name),
	};
	if (!renaming.head_name)
		return -ENOMEM;
	const struct repo_action action = {rename_act, rename_done, &renaming};
	error = repo_commit_action(repo, &action);
	free(renaming.head_name);
	return error == -ENOENT ? workspace_not_found(repo, name, err) : error;
}

/* ---- deleting ---- */

struct deletion {
	const char *name, *by;
	bool dry_run;
	struct errbuf *err;
	struct point *points; /* owned */
	size_t count;
	struct idset doomed; /* owned */
};

static void deletion_release(struct deletion *deletion)
{
	points_free(deletion->points, deletion->count);
	deletion->points = NULL;
	deletion->count = 0;
	idset_release(&deletion->doomed);
	deletion->doomed = (struct idset)IDSET_INIT;
}

static int delete_in_commit(struct repo *repo, struct commit *commit,
			    const struct workspace *workspace, struct deletion *deletion)
{
	if (repo_open_head(repo, workspace->id))
		return err_set(deletion->err, -EBUSY, "workspace '%s' is in use; unmount it first",
			       workspace->name);
	const struct journal_note note = {
		.action = JOURNAL_WORKSPACE_DELETE,
		.by = deletion->by,
		.workspace = workspace->id,
		.workspace_name = workspace->name,
	};
	struct journal_note entry = note;
	entry.action = JOURNAL_DELETE;
	int error =
		points_read_in_commit(commit, workspace->id, &deletion->points, &deletion->count);
	for (size_t i = 0; !error && i < deletion->count; i++) {
		int added = idset_add(&deletion->doomed, deletion->points[i].id);
		error = added < 0 ? added : 0;
	}
	if (!error)
		error = points_remove(repo, commit, &deletion->doomed, deletion->points,
				      deletion->count, &entry, deletion->err);
	if (!error)
		error = journal_append(repo, commit, &note);
	struct record_key key;
	if (!error)
		error = commit_delete_record(commit, TABLE_WORKSPACES,
					     record_id_key(&key, workspace->id));
	if (!error)
		error = record_delete_name(commit, 0, workspace->name);
	return error;
}

static int delete_act(struct repo *repo, struct commit *commit, void *context)
{
	struct deletion *deletion = context;
	deletion_release(deletion);
	struct workspace workspace;
	int error = find_in_commit(commit, deletion->name, &workspace);
	if (error)
		return error;
	error = delete_in_commit(repo, commit, &workspace, deletion);
	workspace_release(&workspace);
	if (!error && deletion->dry_run)
		error = -ECANCELED;
	return error;
}

static void delete_done(struct repo *repo, void *context)
{
	struct deletion *deletion = context;
	points_removed(repo, &deletion->doomed, deletion->points, deletion->count);
}

int workspace_delete(struct repo *repo, const char *name, bool dry_run, const char *by,
		     struct errbuf *err)
{
	if (!*name || strlen(name) > 255)
		return workspace_not_found(repo, name, err);
	struct deletion deletion = {
		.name = name, .by = by, .dry_run = dry_run, .err = err, .doomed = IDSET_INIT};
	const struct repo_action action = {delete_act, delete_done, &deletion};
	int error = repo_commit_action(repo, &action);
	if (error == -ECANCELED && dry_run)
		error = 0;
	if (error == -ENOENT)
		error = workspace_not_found(repo, name, err);
	deletion_release(&deletion);
	return error;
}
