/*
 * Deleting points: all or nothing, in one action.
 *
 * A deleted point's children, and the heads that are based on it, are given its parent (the
 * nearest one that stays).  Its nodes and chunks stay where they are until a collection
 * (snapshot/collect.h) finds that nothing reaches them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "index/util/bytes.h"
#include "snapshot/point_internal.h"
#include "snapshot/workspace_internal.h"

/* The nearest ancestor that stays, starting with `id` itself. */
static uint64_t surviving(uint64_t id, const struct idset *doomed, const struct point *points,
			  size_t count)
{
	/* A parent is older than its child: the walk goes down in ids, and ends also where a
	 * damaged record says otherwise. */
	while (id && idset_has(doomed, id)) {
		uint64_t parent = 0;
		for (size_t i = 0; i < count; i++)
			if (points[i].id == id)
				parent = points[i].parent;
		id = parent < id ? parent : 0;
	}
	return id;
}

struct orphaned {
	uint64_t id, parent;
};

/* Points that stay and have a parent that goes. */
struct orphaned_list {
	const struct idset *doomed;
	struct orphaned *items; /* owned */
	size_t count, capacity;
};

static int find_orphaned(struct bytes key, struct bytes value, void *context)
{
	struct orphaned_list *list = context;
	uint64_t id;
	const struct point_fixed *fixed;
	int error = point_peek(key, value, &id, &fixed);
	if (error)
		return error;
	uint64_t parent = get_le64(fixed->parent);
	if (!parent || !idset_has(list->doomed, parent) || idset_has(list->doomed, id))
		return 0;
	if (list->count == list->capacity) {
		size_t capacity = list->capacity ? list->capacity * 2 : 16;
		struct orphaned *items =
			reallocarray(list->items, capacity, sizeof(list->items[0]));
		if (!items)
			return -ENOMEM;
		list->items = items;
		list->capacity = capacity;
	}
	list->items[list->count++] = (struct orphaned){id, parent};
	return 0;
}

static int reparent_points(struct commit *commit, const struct idset *doomed,
			   const struct point *points, size_t count)
{
	struct orphaned_list list = {.doomed = doomed};
	int error =
		commit_records(commit, TABLE_POINTS, (struct bytes){NULL, 0}, find_orphaned, &list);
	for (size_t i = 0; !error && i < list.count; i++) {
		struct point point;
		error = point_read_in_commit(commit, list.items[i].id, &point);
		if (error)
			break;
		point.parent = surviving(list.items[i].parent, doomed, points, count);
		error = point_write(commit, &point);
		point_release(&point);
	}
	free(list.items);
	return error;
}

/* Records of all workspaces, also those of open heads: the state was put before the action. */
static int rebase_workspaces(struct commit *commit, const struct idset *doomed,
			     const struct point *points, size_t count)
{
	struct workspace *workspaces = NULL;
	size_t workspace_count = 0;
	int error = workspaces_read_in_commit(commit, &workspaces, &workspace_count);
	if (error)
		return error;
	for (size_t i = 0; !error && i < workspace_count; i++) {
		const struct workspace *workspace = &workspaces[i];
		uint64_t base = surviving(workspace->base, doomed, points, count);
		if (base == workspace->base)
			continue;
		const struct head_state state = {
			.root = workspace->root,
			.generation = workspace->generation,
			.base = base,
			.counters = workspace->counters,
		};
		error = workspace_put_state(commit, workspace->id, &state);
	}
	workspaces_free(workspaces, workspace_count);
	return error;
}

int points_remove(struct repo *repo, struct commit *commit, const struct idset *doomed,
		  const struct point *points, size_t count, struct errbuf *err)
{
	(void)repo;
	int error = points_refuse_held(points, count, err);
	if (!error)
		error = reparent_points(commit, doomed, points, count);
	if (!error)
		error = rebase_workspaces(commit, doomed, points, count);
	for (size_t i = 0; !error && i < count; i++) {
		struct record_key key;
		error = commit_delete_record(commit, TABLE_POINTS,
					     record_id_key(&key, points[i].id));
		if (!error)
			error = record_delete_name(commit, points[i].workspace, points[i].name);
	}
	return error;
}

void points_removed(struct repo *repo, const struct idset *doomed, const struct point *points,
		    size_t count)
{
	for (size_t i = 0; i < repo->head_count; i++) {
		struct head *head = repo->heads[i];
		head->base = surviving(head->base, doomed, points, count);
	}
}

struct deletion {
	const uint64_t *ids;
	size_t id_count;
	struct errbuf *err;
	bool dry_run;
	struct idset doomed;  /* owned */
	struct point *points; /* owned */
	size_t count;
};

static void deletion_release(struct deletion *deletion)
{
	points_free(deletion->points, deletion->count);
	deletion->points = NULL;
	deletion->count = 0;
	idset_release(&deletion->doomed);
	deletion->doomed = (struct idset)IDSET_INIT;
}

/* Reads the points to delete, each once. */
static int deletion_load(struct deletion *deletion, struct commit *commit)
{
	deletion_release(deletion);
	deletion->points = calloc(deletion->id_count + 1, sizeof(deletion->points[0]));
	if (!deletion->points)
		return -ENOMEM;
	for (size_t i = 0; i < deletion->id_count; i++) {
		uint64_t id = deletion->ids[i];
		int added = idset_add(&deletion->doomed, id);
		if (added < 0)
			return added;
		if (!added)
			continue;
		int error = point_read_in_commit(commit, id, &deletion->points[deletion->count]);
		if (error == -ENOENT)
			return err_set(deletion->err, error, "there is no point with id %llu",
				       (unsigned long long)id);
		if (error)
			return error;
		deletion->count++;
	}
	return 0;
}

static int deletion_act(struct repo *repo, struct commit *commit, void *context)
{
	struct deletion *deletion = context;
	int error = deletion_load(deletion, commit);
	if (!error)
		error = points_remove(repo, commit, &deletion->doomed, deletion->points,
				      deletion->count, deletion->err);
	if (!error && deletion->dry_run)
		error = -ECANCELED;
	return error;
}

static void deletion_done(struct repo *repo, void *context)
{
	struct deletion *deletion = context;
	points_removed(repo, &deletion->doomed, deletion->points, deletion->count);
}

int point_delete(struct repo *repo, const uint64_t *ids, size_t count, bool dry_run,
		 struct errbuf *err)
{
	struct deletion deletion = {.ids = ids,
				    .id_count = count,
				    .err = err,
				    .dry_run = dry_run,
				    .doomed = IDSET_INIT};
	const struct repo_action action = {deletion_act, deletion_done, &deletion};
	int error = repo_commit_action(repo, &action);
	if (error == -ECANCELED && dry_run)
		error = 0;
	deletion_release(&deletion);
	return error;
}
