/*
 * Revision (snapshot/revise.h), as one action:
 *
 *       head: root R, generation g                  head: root R', generation g'
 *   ------------------------------- revise ------------------------------------->
 *                                   safety point: root R
 *
 * The changes go into a tree of their own over the head's (tree_open_over()).  Only when the
 * commit is durable does the head take its root; until then there is nothing to undo.
 */
#include "snapshot/revise.h"

#include <errno.h>
#include <stdlib.h>

#include "snapshot/point_internal.h"
#include "snapshot/workspace_internal.h"

struct revising {
	struct head *head;
	const struct revision *revision;
	struct revise_result result; /* owned */
	struct tree *tree;	     /* owned; over the head's */
	struct head_state state;     /* of the head afterwards */
};

void revise_result_release(struct revise_result *result)
{
	point_release(&result->safety);
	*result = (struct revise_result){0};
}

static void drop(struct revising *revising)
{
	revise_result_release(&revising->result);
	revising->tree = tree_close(revising->tree);
}

/* `edit` on a tree over the head's. */
static int edit_tree(struct repo *repo, struct revising *revising)
{
	const struct revision *revision = revising->revision;
	struct head *head = revising->head;
	struct head_counters delta = {0};
	struct reader *reader;
	revising->state.generation = store_next(repo->store, COUNTER_GENERATION);
	int error = tree_open_over(head->tree, revising->state.generation, &revising->tree);
	if (!error)
		error = reader_acquire(repo->store, &reader);
	if (error)
		return error;
	error = revision->edit(revising->tree, reader, &delta, revision->context);
	reader_release(reader);
	revising->result.changed = error == 0;
	revising->result.old_root = tree_root(head->tree);
	revising->result.new_root = tree_root(revising->tree);
	revising->state.counters = head->counters;
	revising->state.counters.files += delta.files;
	revising->state.counters.directories += delta.directories;
	revising->state.counters.bytes += delta.bytes;
	revising->state.counters.changed_bytes += delta.changed_bytes;
	return error;
}

/* What was carried is the head's, beside what it had since its base. */
static int put_carried(struct commit *commit, const struct revising *revising)
{
	uint64_t workspace = revising->head->workspace, *carried;
	size_t count;
	if (!revising->revision->carried)
		return 0;
	int error = workspace_take_carried(commit, workspace, &carried, &count);
	if (error)
		return error;
	uint64_t *grown = reallocarray(carried, count + 1, sizeof(*carried));
	if (grown) {
		grown[count] = revising->revision->carried;
		error = workspace_put_carried(commit, workspace, grown, count + 1);
	}
	free(grown ? grown : carried);
	return grown ? error : -ENOMEM;
}

static int put_journal(struct repo *repo, struct commit *commit, const struct revising *revising)
{
	const struct revise_result *result = &revising->result;
	const struct point_pair kept = {(char *)"safety_point", result->safety.name};
	struct journal_note note = *revising->revision->note;
	note.workspace = revising->head->workspace;
	note.details = &kept;
	note.detail_count = result->safety_made;
	return journal_append(repo, commit, &note);
}

static int put_revision(struct repo *repo, struct commit *commit, struct revising *revising)
{
	const struct revision *revision = revising->revision;
	struct revise_result *result = &revising->result;
	struct head *head = revising->head;
	const struct point_keeping keeping = {revision->what, revision->target, revision->by};
	int error = point_keep(commit, head, &keeping, &result->safety, &result->safety_made);
	if (error)
		return error;
	revising->state.root = result->new_root;
	revising->state.base = head->base;
	if (result->safety_made) {
		revising->state.base = result->safety.id;
		revising->state.counters.changed_bytes -= head->counters.changed_bytes;
	}
	error = tree_collect(revising->tree, commit);
	if (!error)
		error = workspace_put_state(commit, head->workspace, &revising->state);
	if (!error)
		error = put_carried(commit, revising);
	return error ? error : put_journal(repo, commit, revising);
}

static int revise_act(struct repo *repo, struct commit *commit, void *context)
{
	struct revising *revising = context;
	drop(revising); /* of a first try on a full disk */
	int error = edit_tree(repo, revising);
	if (error)
		return error == 1 ? -ECANCELED : error;
	if (revising->result.new_root == revising->result.old_root)
		revising->result.changed = false;
	if (!revising->result.changed || revising->revision->dry_run)
		return -ECANCELED;
	return put_revision(repo, commit, revising);
}

static void revise_done(struct repo *repo, void *context)
{
	struct revising *revising = context;
	struct head *head = revising->head;
	const struct head_state *state = &revising->state;
	(void)repo;
	tree_set_root(head->tree, state->root, state->generation);
	head->base = state->base;
	head->counters = state->counters;
	if (head->ops && head->ops->switched)
		head->ops->switched(head->context, revising->result.old_root,
				    revising->result.new_root);
}

int head_revise(struct head *head, const struct revision *revision, struct revise_result *ret,
		struct errbuf *err)
{
	struct revising revising = {.head = head, .revision = revision};
	const struct repo_action action = {revise_act, revise_done, &revising};
	int error = repo_commit_action(head->repo, &action);
	revising.tree = tree_close(revising.tree);
	if (error == -ECANCELED)
		error = 0;
	if (error) {
		revise_result_release(&revising.result);
		if (error == -E2BIG)
			err_set(err, error,
				"too much was carried since the last point; freeze first");
		return error;
	}
	*ret = revising.result;
	return 0;
}
