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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

/* Cuts a name to `length` bytes at most, not inside a character. */
static int cut_length(const char *name, size_t length)
{
	size_t cut = strlen(name);
	if (cut > length) {
		cut = length;
		while (cut > 0 && ((unsigned char)name[cut] & 0xC0) == 0x80)
			cut--;
	}
	return (int)cut;
}

/* "before-restore-TARGET-YYYYMMDD-HHMMSS", with "-2", "-3" … where there is one already. */
static int safety_name(struct commit *commit, uint64_t workspace, const char *target, char ret[256])
{
	time_t now = time(NULL);
	struct tm local;
	char when[32];
	if (!localtime_r(&now, &local) || !strftime(when, sizeof(when), "%Y%m%d-%H%M%S", &local))
		return -EOVERFLOW;
	int room = cut_length(target, 255 - sizeof("before-restore--20261122-090000-4294967295"));
	for (unsigned attempt = 1; attempt; attempt++) {
		char suffix[16] = "";
		if (attempt > 1)
			snprintf(suffix, sizeof(suffix), "-%u", attempt);
		snprintf(ret, 256, "before-restore-%.*s-%s%s", room, target, when, suffix);
		uint64_t id;
		int error = record_find_name_in_commit(commit, workspace, ret, &id);
		if (error)
			return error == -ENOENT ? 0 : error;
	}
	return -EEXIST;
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
	int equal = head_equals_base(head, commit, &result->safety);
	if (equal < 0)
		return equal;
	if (equal == 1)
		return forget_carried(head, commit);
	char name[256], message[320];
	int error = safety_name(commit, head->workspace, result->target.name, name);
	if (error)
		return error;
	snprintf(message, sizeof(message), "state before the restore of '%s'", result->target.name);
	const struct freeze_options options = {
		.name = name, .message = message, .by = restoring->by};
	error = point_make(commit, head, &options, POINT_SAFETY, &result->safety);
	result->safety_made = !error;
	return error;
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
