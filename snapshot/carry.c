/*
 * Carry: the base, and one carry from beginning to end.
 *
 * The merge is computed where it is applied, in the edit of a revision (snapshot/revise.h): on a
 * tree over the head's, with the head locked.  A dry run, and one that conflicts stop, drop that
 * tree; so what they list is what would have happened.
 */
#include "snapshot/carry.h"
#include "index/util/array.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "index/util/idset.h"
#include "snapshot/carry_internal.h"
#include "snapshot/path.h"
#include "snapshot/point_internal.h"
#include "snapshot/workspace_internal.h"

void carry_result_release(struct carry_result *result)
{
	point_release(&result->from);
	point_release(&result->base);
	revise_result_release(&result->revised);
	*result = (struct carry_result){0};
}

/* ---- the base ---- */

/* Ids still to look at, the newest on top: parents are older than their children. */
struct frontier {
	uint64_t *ids; /* owned; a heap */
	size_t count, capacity;
};

static int frontier_add(struct frontier *frontier, uint64_t id)
{
	if (!id)
		return 0;
	uint64_t *ids = array_reserve(frontier->ids, frontier->count + 1, &frontier->capacity,
				      sizeof(ids[0]));
	if (!ids)
		return -ENOMEM;
	frontier->ids = ids;
	size_t at = frontier->count++;
	for (; at > 0 && frontier->ids[(at - 1) / 2] < id; at = (at - 1) / 2)
		frontier->ids[at] = frontier->ids[(at - 1) / 2];
	frontier->ids[at] = id;
	return 0;
}

static uint64_t frontier_take(struct frontier *frontier)
{
	uint64_t top = frontier->ids[0], last = frontier->ids[--frontier->count];
	size_t at = 0;
	for (;;) {
		size_t child = 2 * at + 1;
		if (child + 1 < frontier->count && frontier->ids[child + 1] > frontier->ids[child])
			child++;
		if (child >= frontier->count || frontier->ids[child] <= last)
			break;
		frontier->ids[at] = frontier->ids[child];
		at = child;
	}
	if (frontier->count)
		frontier->ids[at] = last;
	return top;
}

static int add_origins(struct reader *reader, uint64_t id, struct frontier *frontier)
{
	struct point point;
	int error = point_read(reader, id, &point);
	if (error) /* one that was carried, and deleted since */
		return error == -ENOENT ? 0 : error;
	if (point.parent < id)
		error = frontier_add(frontier, point.parent);
	for (size_t i = 0; i < point.carried_count && !error; i++)
		if (point.carried[i] < id)
			error = frontier_add(frontier, point.carried[i]);
	point_release(&point);
	return error;
}

/* These points and `id`, and all that they come from.  Ends the frontier. */
static int walk_back(struct reader *reader, struct frontier *frontier, uint64_t id,
		     struct idset *ret)
{
	int error = frontier_add(frontier, id);
	while (!error && frontier->count) {
		uint64_t next = frontier_take(frontier);
		int added = idset_add(ret, next);
		if (added < 0)
			error = added;
		else if (added)
			error = add_origins(reader, next, frontier);
	}
	free(frontier->ids);
	return error;
}

/* Every point that the head comes from. */
static int find_ancestors(struct reader *reader, const struct workspace *workspace,
			  struct idset *ret)
{
	struct frontier frontier = {0};
	int error = 0;
	for (size_t i = 0; i < workspace->carried_count && !error; i++)
		error = frontier_add(&frontier, workspace->carried[i]);
	if (error) {
		free(frontier.ids);
		return error;
	}
	return walk_back(reader, &frontier, workspace->base, ret);
}

enum { BASES_MAX = 8 };

/* The nearest points that two lines have in common, newest first; several where they crossed. */
struct bases {
	struct point points[BASES_MAX]; /* owned */
	size_t count;
};

static void bases_release(struct bases *bases)
{
	while (bases->count)
		point_release(&bases->points[--bases->count]);
}

struct searching {
	struct reader *reader;
	const struct idset *ancestors; /* of the head */
	struct idset seen;	       /* owned; of FROM */
	struct idset covered;	       /* owned; what a base found comes from */
	struct bases *bases;
};

/* One of both lines, looked at from the newest down: a base, unless another one comes from it. */
static int meet(struct searching *searching, uint64_t id)
{
	struct bases *bases = searching->bases;
	if (bases->count == BASES_MAX || idset_has(&searching->covered, id))
		return 0;
	int error = point_read(searching->reader, id, &bases->points[bases->count]);
	if (error)
		return error == -ENOENT ? 0 : error;
	bases->count++;
	return walk_back(searching->reader, &(struct frontier){0}, id, &searching->covered);
}

static int find_common(struct searching *searching, uint64_t from)
{
	struct frontier frontier = {0};
	int error = frontier_add(&frontier, from);
	while (!error && frontier.count) {
		uint64_t id = frontier_take(&frontier);
		int added = idset_add(&searching->seen, id);
		if (added <= 0)
			error = added;
		else if (idset_has(searching->ancestors, id))
			error = meet(searching, id);
		else
			error = add_origins(searching->reader, id, &frontier);
	}
	free(frontier.ids);
	return error;
}

/* -ENOENT: nothing in common. */
static int find_bases(struct reader *reader, const struct workspace *workspace, uint64_t from,
		      struct bases *ret)
{
	struct idset ancestors = IDSET_INIT;
	struct searching searching = {
		.reader = reader,
		.ancestors = &ancestors,
		.seen = IDSET_INIT,
		.covered = IDSET_INIT,
		.bases = ret,
	};
	ret->count = 0;
	int error = find_ancestors(reader, workspace, &ancestors);
	if (!error)
		error = find_common(&searching, from);
	idset_release(&ancestors);
	idset_release(&searching.seen);
	idset_release(&searching.covered);
	if (error)
		bases_release(ret);
	return !error && !ret->count ? -ENOENT : error;
}

static int find_base(struct reader *reader, const struct workspace *workspace, uint64_t from,
		     struct point *ret)
{
	struct bases bases;
	int error = find_bases(reader, workspace, from, &bases);
	if (error)
		return error;
	*ret = bases.points[0];
	bases.points[0] = (struct point){0};
	bases_release(&bases);
	return 0;
}

int carry_find_base(struct head *head, const struct point *from, struct point *ret)
{
	struct workspace workspace;
	struct reader *reader;
	int error = reader_acquire(head->repo->store, &reader);
	if (error)
		return error;
	error = workspace_read(reader, head->workspace, &workspace);
	if (!error) {
		error = find_base(reader, &workspace, from->id, ret);
		workspace_release(&workspace);
	}
	reader_release(reader);
	return error;
}

/* ---- one carry ---- */

struct carrying {
	struct head *head;
	const struct carry_options *options;
	struct carry_result result;	/* owned */
	struct tree *base, *from;	/* owned */
	struct tree *others[BASES_MAX]; /* owned; further bases */
	size_t other_count;
	struct errbuf *err;
};

static int refuse_unknown_paths(struct merge *merge)
{
	const struct carry_options *options = merge->options;
	for (size_t i = 0; i < options->path_count; i++) {
		uint64_t ino;
		int error = path_lookup(merge->from, merge->reader, options->paths[i], &ino);
		if (error == -ENOENT || error == -ENOTDIR)
			error = path_lookup(merge->head, merge->reader, options->paths[i], &ino);
		if (error == -ENOENT || error == -ENOTDIR)
			error = path_lookup(merge->base, merge->reader, options->paths[i], &ino);
		if (error)
			return err_set(merge->err, error,
				       "'%s' is neither in the workspace nor in '%s'",
				       options->paths[i], merge->label);
	}
	return 0;
}

static int points_are_there(struct merge *merge, const struct carry_result *result)
{
	int error = point_exists(merge->reader, result->from.id);
	if (!error && result->base.id)
		error = point_exists(merge->reader, result->base.id);
	return error == -ENOENT ? err_set(merge->err, error, "point '%s' was deleted meanwhile",
					  result->from.name)
				: error;
}

static int run_merge(struct carrying *carrying, struct merge *merge)
{
	struct carry_result *result = &carrying->result;
	const struct carry_options *options = carrying->options;
	int error = points_are_there(merge, result);
	if (!error)
		error = refuse_unknown_paths(merge);
	if (!error)
		error = merge_apply(merge);
	if (!error)
		error = merge_report(merge, &result->brought);
	result->conflicts = merge->conflict_count;
	result->stopped = merge->conflict_count && options->policy == CARRY_STOP;
	return !error && result->stopped ? 1 : error;
}

static void close_bases(struct carrying *carrying)
{
	carrying->base = tree_close(carrying->base);
	while (carrying->other_count)
		tree_close(carrying->others[--carrying->other_count]);
}

/* With the head locked: a restore or a freeze before would have given it another base. */
static int open_base(struct carrying *carrying, struct reader *reader)
{
	struct carry_result *result = &carrying->result;
	struct workspace workspace;
	struct store *store = carrying->head->repo->store;
	struct bases bases = {.count = 0};
	point_release(&result->base); /* of a first try on a full disk */
	close_bases(carrying);
	int error = workspace_read(reader, carrying->head->workspace, &workspace);
	if (error)
		return error;
	error = find_bases(reader, &workspace, result->from.id, &bases);
	workspace_release(&workspace);
	if (error && error != -ENOENT)
		return error;
	error = tree_open(store, bases.count ? bases.points[0].root : 0, 0, &carrying->base);
	for (size_t i = 1; i < bases.count && !error; i++) {
		error = tree_open(store, bases.points[i].root, 0,
				  &carrying->others[carrying->other_count]);
		carrying->other_count += !error;
	}
	if (bases.count) {
		result->base = bases.points[0];
		bases.points[0] = (struct point){0};
	}
	bases_release(&bases);
	return error;
}

static int carry_edit(struct tree *tree, struct reader *reader, struct head_counters *counters,
		      void *context)
{
	struct carrying *carrying = context;
	int error = open_base(carrying, reader);
	if (error)
		return error;
	struct merge merge = {
		.options = carrying->options,
		.label = carrying->result.from.name,
		.base = carrying->base,
		.from = carrying->from,
		.others = carrying->others,
		.other_count = carrying->other_count,
		.head = carrying->head->tree,
		.graft = {tree, carrying->from, reader, counters},
		.reader = reader,
		.err = carrying->err,
	};
	if (carrying->options->restart)
		carrying->options->restart(carrying->options->context);
	error = run_merge(carrying, &merge);
	merge_release(&merge);
	return error;
}

static int open_states(struct carrying *carrying, const struct point *from)
{
	struct carry_result *result = &carrying->result;
	struct repo *repo = carrying->head->repo;
	int error = point_get(repo, from->id, &result->from);
	if (error)
		return error == -ENOENT ? err_set(carrying->err, error,
						  "point '%s' was deleted meanwhile", from->name)
					: error;
	return tree_open(repo->store, from->root, 0, &carrying->from);
}

static int revise(struct carrying *carrying)
{
	const struct carry_options *options = carrying->options;
	struct carry_result *result = &carrying->result;
	char reason[REVISE_REASON];
	revise_reason(options->paths, options->path_count, reason);
	const struct journal_note note = {
		.action = JOURNAL_CARRY,
		.by = options->by,
		.point = result->from.id,
		.point_name = result->from.name,
		.reason = reason,
	};
	const struct revision revision = {
		.edit = carry_edit,
		.context = carrying,
		.what = "carry",
		.target = result->from.name,
		.by = options->by,
		.note = &note,
		.carried = options->path_count ? 0 : result->from.id,
		.dry_run = options->dry_run,
		.may_change = options->may_change,
		.may_change_context = options->context,
	};
	return head_revise(carrying->head, &revision, &result->revised, carrying->err);
}

int point_carry(struct head *head, const struct point *from, const struct carry_options *options,
		struct carry_result *ret, struct errbuf *err)
{
	struct carrying carrying = {.head = head, .options = options, .err = err};
	int error = open_states(&carrying, from);
	if (!error)
		error = revise(&carrying);
	close_bases(&carrying);
	tree_close(carrying.from);
	if (error) {
		carry_result_release(&carrying.result);
		return error;
	}
	*ret = carrying.result;
	return 0;
}
