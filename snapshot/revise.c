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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/diff_internal.h"
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

struct asking {
	const struct revision *revision;
	int error; /* the first */
};

static int ask_inode(const struct inode_change *change, void *context)
{
	struct asking *asking = context;
	const struct revision *revision = asking->revision;
	if (!change->attributes && !change->contents && !change->xattrs)
		return 0;
	int error = revision->may_change(change->ino, revision->may_change_context);
	if (error && !asking->error)
		asking->error = error;
	return 0;
}

/* Nothing that a program is about to write may change under it. */
static int ask_for_all(struct revising *revising, struct reader *reader)
{
	struct asking asking = {.revision = revising->revision};
	const struct diff_collector collector = {.inode = ask_inode, .context = &asking};
	if (!revising->revision->may_change)
		return 0;
	int error = diff_collect(revising->head->tree, revising->tree, reader, &collector);
	return error ? error : asking.error;
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
	if (!error)
		error = ask_for_all(revising, reader);
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

static int keep_state(struct commit *commit, struct revising *revising)
{
	const struct revision *revision = revising->revision;
	struct revise_result *result = &revising->result;
	const struct point_keeping keeping = {revision->what, revision->target, revision->by};
	return point_keep(commit, revising->head, &keeping, &result->safety, &result->safety_made);
}

static int put_revision(struct repo *repo, struct commit *commit, struct revising *revising)
{
	struct revise_result *result = &revising->result;
	struct head *head = revising->head;
	int error = keep_state(commit, revising);
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
	if (!revising->result.changed)
		return -ECANCELED;
	if (revising->revision->dry_run) {
		error = keep_state(commit, revising); /* dropped with the commit */
		return error ? error : -ECANCELED;
	}
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

void revise_reason(const char *const *paths, size_t count, char ret[REVISE_REASON])
{
	const size_t more = sizeof(" and 18446744073709551615 more");
	size_t used = 0, i = 0;
	*ret = '\0';
	for (; i < count; i++) {
		const char *path = *paths[i] ? paths[i] : ".";
		if (used + strlen(path) + sizeof("only ") + more > REVISE_REASON)
			break;
		used += (size_t)snprintf(ret + used, REVISE_REASON - used, "%s%s",
					 i ? ", " : "only ", path);
	}
	if (i && i < count)
		snprintf(ret + used, REVISE_REASON - used, " and %zu more", count - i);
	else if (i < count)
		snprintf(ret, REVISE_REASON, "only %zu paths", count);
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
	/* Who is told that the head has it all already may rely on that, too. */
	if (!error && !revising.result.changed && !revision->dry_run)
		error = repo_sync(head->repo);
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
