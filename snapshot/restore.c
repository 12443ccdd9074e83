/*
 * Restore: the head becomes equal to a point, and the present state is kept as a point (I8).
 *
 *       head: root R, generation g, based on B        head: root of T, generation g', based on T
 *   --------------------------------- restore ------------------------------------------->
 *                                     safety point S: root R, parent B
 *                                     (unless R is B's root: then B has it already)
 *
 * One action: S, and the head's new root, generation, base and counters become durable together.
 * The target may be a point of another workspace.
 */
#include <errno.h>
#include <stdlib.h>

#include "snapshot/journal.h"
#include "snapshot/point_internal.h"
#include "snapshot/workspace_internal.h"

struct restoring {
	struct head *head;
	const struct point *target;
	const char *by;
	struct errbuf *err;
	struct restore_result result; /* owned */
	struct head_state state;      /* of the head afterwards */
};

void restore_result_release(struct restore_result *result)
{
	point_release(&result->target);
	point_release(&result->safety);
	*result = (struct restore_result){0};
}

/* The head comes from its new base alone. */
static int forget_carried(struct head *head, struct commit *commit)
{
	uint64_t *carried;
	size_t count;
	int error = workspace_take_carried(commit, head->workspace, &carried, &count);
	if (!error)
		free(carried);
	return error;
}

static int journal_restore(struct repo *repo, struct commit *commit,
			   const struct restoring *restoring)
{
	const struct restore_result *result = &restoring->result;
	const struct point_pair kept = {(char *)"safety_point", result->safety.name};
	struct journal_note note = {
		.action = JOURNAL_RESTORE,
		.by = restoring->by,
		.workspace = restoring->head->workspace,
		.point = result->target.id,
		.point_name = result->target.name,
		.details = &kept,
		.detail_count = result->safety_made,
	};
	return journal_append(repo, commit, &note);
}

static int keep_present_state(struct restoring *restoring, struct commit *commit)
{
	struct head *head = restoring->head;
	struct restore_result *result = &restoring->result;
	const struct point_keeping keeping = {"restore", result->target.name, restoring->by};
	int error = point_keep(commit, head, &keeping, &result->safety, &result->safety_made);
	return error || result->safety_made ? error : forget_carried(head, commit);
}

static int restore_act(struct repo *repo, struct commit *commit, void *context)
{
	struct restoring *restoring = context;
	struct head *head = restoring->head;
	struct restore_result *result = &restoring->result;
	restore_result_release(result); /* of a first try on a full disk */
	int error = point_read_in_commit(commit, restoring->target->id, &result->target);
	if (error == -ENOENT)
		return err_set(restoring->err, error, "point '%s' was deleted meanwhile",
			       restoring->target->name);
	if (!error)
		error = keep_present_state(restoring, commit);
	if (error)
		return error;
	result->old_root = tree_root(head->tree);
	result->new_root = result->target.root;
	restoring->state = (struct head_state){
		.root = result->target.root,
		.generation = store_next(repo->store, COUNTER_GENERATION),
		.base = result->target.id,
		.counters =
			{
				.files = (int64_t)result->target.files,
				.directories = (int64_t)result->target.directories,
				.bytes = (int64_t)result->target.bytes,
			},
	};
	error = workspace_put_state(commit, head->workspace, &restoring->state);
	return error ? error : journal_restore(repo, commit, restoring);
}

static void restore_done(struct repo *repo, void *context)
{
	(void)repo;
	struct restoring *restoring = context;
	struct head *head = restoring->head;
	const struct head_state *state = &restoring->state;
	tree_set_root(head->tree, state->root, state->generation);
	head->base = state->base;
	head->counters = state->counters;
	if (head->ops && head->ops->switched)
		head->ops->switched(head->context, restoring->result.old_root,
				    restoring->result.new_root);
}

int point_restore(struct head *head, const struct point *target, const char *by,
		  struct restore_result *ret, struct errbuf *err)
{
	struct restoring restoring = {.head = head, .target = target, .by = by, .err = err};
	const struct repo_action action = {restore_act, restore_done, &restoring};
	int error = repo_commit_action(head->repo, &action);
	if (error) {
		restore_result_release(&restoring.result);
		return error;
	}
	*ret = restoring.result;
	return 0;
}

struct previewing {
	struct head *head;
	struct point_keeping keeping;
	struct point safety; /* owned */
	bool made;
};

/* Ends as if it had failed, so that nothing stays. */
static int preview_act(struct repo *repo, struct commit *commit, void *context)
{
	struct previewing *previewing = context;
	(void)repo;
	point_release(&previewing->safety); /* of a first try on a full disk */
	previewing->safety = (struct point){0};
	int error = point_keep(commit, previewing->head, &previewing->keeping, &previewing->safety,
			       &previewing->made);
	return error ? error : -ECANCELED;
}

int point_restore_would_keep(struct head *head, const struct point *target, const char *by,
			     struct point *ret, bool *ret_made)
{
	struct previewing previewing = {.head = head, .keeping = {"restore", target->name, by}};
	const struct repo_action action = {preview_act, NULL, &previewing};
	int error = repo_commit_action(head->repo, &action);
	if (error != -ECANCELED) {
		point_release(&previewing.safety);
		return error ? error : -EIO;
	}
	*ret = previewing.safety;
	*ret_made = previewing.made;
	return 0;
}
