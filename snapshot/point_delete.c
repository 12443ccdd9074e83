/*
 * Deleting points: all or nothing, in one action.
 *
 * A deleted point's children, and the heads that are based on it, are given its parent (the
 * nearest one that stays), and so are those into which it was carried.  Its nodes and chunks stay where they are until a collection
 * (snapshot/collect.h) finds that nothing reaches them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "index/util/bytes.h"
#include "snapshot/point_internal.h"
#include "snapshot/workspace_internal.h"
#include "snapshot/workspace_record_internal.h"

static const struct point *doomed_point(uint64_t id, const struct point *points, size_t count)
{
	size_t low = 0, high = count; /* sorted by id */
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (points[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < count && points[low].id == id ? &points[low] : NULL;
}

/* The nearest ancestor that stays, starting with `id` itself. */
static uint64_t surviving(uint64_t id, const struct idset *doomed, const struct point *points,
			  size_t count)
{
	/* A parent is older than its child: the walk goes down in ids, and ends also where a
	 * damaged record says otherwise. */
	while (id && idset_has(doomed, id)) {
		const struct point *point = doomed_point(id, points, count);
		id = point && point->parent < id ? point->parent : 0;
	}
	return id;
}

static bool id_is_in(uint64_t id, const uint64_t *ids, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (ids[i] == id)
			return true;
	return false;
}

/* Who loses a parent goes on with what had been carried into it. */
static int inherit_carried(uint64_t id, const struct idset *doomed, const struct point *points,
			   size_t count, uint64_t **carried, size_t *carried_count)
{
	while (id && idset_has(doomed, id)) {
		const struct point *point = doomed_point(id, points, count);
		if (!point)
			break;
		uint64_t *grown = reallocarray(*carried, *carried_count + point->carried_count + 1,
					       sizeof(**carried));
		if (!grown)
			return -ENOMEM;
		*carried = grown;
		for (size_t i = 0; i < point->carried_count; i++)
			if (!id_is_in(point->carried[i], grown, *carried_count))
				grown[(*carried_count)++] = point->carried[i];
		id = point->parent < id ? point->parent : 0;
	}
	return 0;
}

/* Adds an id where it is not there yet. */
static int add_carried(uint64_t id, uint64_t **carried, size_t *count)
{
	if (!id || id_is_in(id, *carried, *count))
		return 0;
	uint64_t *grown = reallocarray(*carried, *count + 1, sizeof(**carried));
	if (!grown)
		return -ENOMEM;
	*carried = grown;
	grown[(*count)++] = id;
	return 0;
}

static bool any_doomed(const struct idset *doomed, const uint64_t *carried, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (idset_has(doomed, carried[i]))
			return true;
	return false;
}

/*
 * What had been carried and goes leaves what it came from itself: its parent, and what had been
 * carried into it.  Origins are older, so that the list comes to an end.
 */
static int replace_carried(const struct idset *doomed, const struct point *points, size_t count,
			   uint64_t **carried, size_t *carried_count)
{
	int error = 0;
	for (size_t i = 0; i < *carried_count && !error; i++) {
		uint64_t id = (*carried)[i];
		const struct point *point =
			idset_has(doomed, id) ? doomed_point(id, points, count) : NULL;
		if (point && point->parent < id)
			error = add_carried(point->parent, carried, carried_count);
		for (size_t j = 0; point && j < point->carried_count && !error; j++)
			if (point->carried[j] < id)
				error = add_carried(point->carried[j], carried, carried_count);
	}
	size_t kept = 0;
	for (size_t i = 0; i < *carried_count && !error; i++)
		if (!idset_has(doomed, (*carried)[i]))
			(*carried)[kept++] = (*carried)[i];
	if (!error)
		*carried_count = kept;
	return error;
}

struct orphaned {
	uint64_t id, parent;
};

/* Points that stay and have a parent, or something carried, that goes. */
struct orphaned_list {
	const struct idset *doomed;
	struct orphaned *items; /* owned */
	size_t count, capacity;
};

static int carries_doomed(const struct idset *doomed, uint64_t id, struct bytes value)
{
	struct point point;
	int error = point_decode(id, value, &point);
	if (error)
		return error;
	bool any = any_doomed(doomed, point.carried, point.carried_count);
	point_release(&point);
	return any;
}

static int find_orphaned(struct bytes key, struct bytes value, void *context)
{
	struct orphaned_list *list = context;
	uint64_t id;
	const struct point_fixed *fixed;
	int error = point_peek(key, value, &id, &fixed);
	if (error)
		return error;
	uint64_t parent = get_le64(fixed->parent);
	if (idset_has(list->doomed, id))
		return 0;
	if (!parent || !idset_has(list->doomed, parent)) {
		int carries = carries_doomed(list->doomed, id, value);
		if (carries <= 0)
			return carries;
	}
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

/* A child is younger than its parent: none comes before the oldest that goes. */
static int reparent_points(struct commit *commit, const struct idset *doomed,
			   const struct point *points, size_t count)
{
	struct orphaned_list list = {.doomed = doomed};
	struct record_key key;
	int error =
		count ? commit_records_from(commit, TABLE_POINTS, record_id_key(&key, points[0].id),
					    RECORDS_UP, find_orphaned, &list)
		      : 0;
	for (size_t i = 0; !error && i < list.count; i++) {
		struct point point;
		error = point_read_in_commit(commit, list.items[i].id, &point);
		if (error)
			break;
		point.parent = surviving(list.items[i].parent, doomed, points, count);
		error = inherit_carried(list.items[i].parent, doomed, points, count, &point.carried,
					&point.carried_count);
		if (!error)
			error = replace_carried(doomed, points, count, &point.carried,
						&point.carried_count);
		if (!error)
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
		struct workspace *workspace = &workspaces[i];
		uint64_t base = workspace->base;
		workspace->base = surviving(base, doomed, points, count);
		if (base == workspace->base &&
		    !any_doomed(doomed, workspace->carried, workspace->carried_count))
			continue;
		error = inherit_carried(base, doomed, points, count, &workspace->carried,
					&workspace->carried_count);
		if (!error)
			error = replace_carried(doomed, points, count, &workspace->carried,
						&workspace->carried_count);
		if (!error)
			error = workspace_write(commit, workspace);
	}
	workspaces_free(workspaces, workspace_count);
	return error;
}

int points_remove(struct repo *repo, struct commit *commit, const struct idset *doomed,
		  const struct point *points, size_t count, const struct journal_note *note,
		  struct errbuf *err)
{
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
		struct journal_note entry = *note;
		if (!error)
			error = point_journal(repo, commit, &points[i], &entry);
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
	struct journal_note note; /* of each */
	struct idset doomed;	  /* owned */
	struct point *points;	  /* owned */
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

static int by_id(const void *a, const void *b)
{
	const struct point *left = a, *right = b;
	return left->id < right->id ? -1 : left->id > right->id;
}

/* Reads the points to delete, each once, in order of id. */
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
	qsort(deletion->points, deletion->count, sizeof(deletion->points[0]), by_id);
	return 0;
}

static int deletion_act(struct repo *repo, struct commit *commit, void *context)
{
	struct deletion *deletion = context;
	int error = deletion_load(deletion, commit);
	if (!error)
		error = points_remove(repo, commit, &deletion->doomed, deletion->points,
				      deletion->count, &deletion->note, deletion->err);
	if (!error && deletion->dry_run)
		error = -ECANCELED;
	return error;
}

static void deletion_done(struct repo *repo, void *context)
{
	struct deletion *deletion = context;
	points_removed(repo, &deletion->doomed, deletion->points, deletion->count);
}

static int delete_points(struct repo *repo, struct deletion *deletion)
{
	const struct repo_action action = {deletion_act, deletion_done, deletion};
	int error = repo_commit_action(repo, &action);
	if (error == -ECANCELED && deletion->dry_run)
		error = 0;
	deletion_release(deletion);
	return error;
}

int point_delete(struct repo *repo, const uint64_t *ids, size_t count, bool dry_run, const char *by,
		 struct errbuf *err)
{
	struct deletion deletion = {
		.ids = ids,
		.id_count = count,
		.err = err,
		.dry_run = dry_run,
		.note = {.action = JOURNAL_DELETE, .by = by},
		.doomed = IDSET_INIT,
	};
	return delete_points(repo, &deletion);
}

int point_prune(struct repo *repo, const uint64_t *ids, size_t count, const char *rules,
		const char *by, struct errbuf *err)
{
	struct deletion deletion = {
		.ids = ids,
		.id_count = count,
		.err = err,
		.note = {.action = JOURNAL_PRUNE, .by = by, .reason = rules},
		.doomed = IDSET_INIT,
	};
	return delete_points(repo, &deletion);
}
