/*
 * The one door for commits.
 *
 *   callers                  leader                                   heads
 *   -------                  ------                                   -----
 *   join the gathering       commit lock (first come, first served)
 *   group, or found one      prepare() of each head                   unlocked
 *   and lead it              commit_begin()
 *                            close the group                          locked, in order of id
 *                            cut(), tree_collect(), workspace records   |
 *                            act()                                      |  (an action only)
 *                            commit_seal()                              |
 *                            ------------------------------------------ unlocked without action
 *                            commit_finish(): sync                      |
 *                            tree_committed()                         locked again
 *                            done()                                     |  (an action only)
 *   take the result          commit unlock                            unlocked
 *
 * A caller may share a commit whose group was still open when it came: the cut lies after its
 * call, so it covers all that the caller was acknowledged before.  Whoever comes later founds the
 * next group.
 *
 * repo_sync() goes the same way, but where nobody in the group wants more than that all is durable
 * it writes a record of the redo log instead (index/redo.h):
 *
 *                            prepare() of each head                   unlocked
 *                            redo_begin(), close the group
 *                            cut(), tree_log(), workspace records     locked, in order of id
 *                            redo_seal()                                |
 *                            redo_finish(): write, sync               unlocked
 *
 * The cut is the same, so a record is as consistent as a commit; the records behind one commit say,
 * one after the other, what has changed since it.  The nodes stay dirty in the trees, and the next
 * commit has them all: it settles the log.  Since both are made with the commit lock held, no
 * record is written between a commit's cut and the moment from which it counts.  A record that
 * fails leaves a gap that only a commit can close, and that commit is made at once; the log takes
 * no record until one is durable.  Everything else that changes the index is an action, and a
 * commit itself.
 *
 * tree_committed() follows commit_finish(), under the exclusive lock: a reader that was acquired
 * after the head lock finds each node in the tree's table or in the index.
 *
 * The dirty flag of a head is cleared before its cut, under its lock.  Who sets it has put his
 * change where cut() finds it before; so a change is either in the cut or leaves the flag set.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "snapshot/repo_internal.h"
#include "snapshot/workspace_internal.h"

/* From here on an action first commits without one, so that the heads are locked for less long. */
enum { LONG_COMMIT_BYTES = 2 << 20 };

/* Commit lock or repo->lock held. */
static bool any_dirty(const struct repo *repo)
{
	for (size_t i = 0; i < repo->head_count; i++)
		if (atomic_load(&repo->heads[i]->dirty))
			return true;
	return false;
}

/* Whether there is something that the index has not, or (not `full`) is not durable at all. */
static bool any_left(const struct repo *repo, bool full)
{
	return any_dirty(repo) || (full && redo_is_used(repo->store));
}

bool repo_is_dirty(struct repo *repo)
{
	pthread_mutex_lock(&repo->lock);
	bool dirty = any_left(repo, true);
	pthread_mutex_unlock(&repo->lock);
	return dirty;
}

static void lock_heads(struct repo *repo)
{
	for (size_t i = 0; i < repo->head_count; i++)
		head_lock(repo->heads[i]);
}

static void unlock_heads(struct repo *repo)
{
	for (size_t i = repo->head_count; i > 0; i--)
		head_unlock(repo->heads[i - 1]);
}

static int prepare_heads(struct repo *repo)
{
	for (size_t i = 0; i < repo->head_count; i++) {
		struct head *head = repo->heads[i];
		int error = head->ops && head->ops->prepare ? head->ops->prepare(head->context) : 0;
		if (error)
			return error;
	}
	return 0;
}

static int cut_head(struct head *head)
{
	atomic_store(&head->dirty, false);
	int error = head->ops && head->ops->cut ? head->ops->cut(head->context) : 0;
	if (error)
		head_mark_dirty(head);
	return error;
}

/* The cut, and what belongs to it into the commit.  Heads locked.  After an error the caller
 * tells the trees that nothing was committed. */
static int collect_heads(struct repo *repo, struct commit *commit)
{
	for (size_t i = 0; i < repo->head_count; i++) {
		int error = cut_head(repo->heads[i]);
		if (error)
			return error;
	}
	for (size_t i = 0; i < repo->head_count; i++) {
		struct head *head = repo->heads[i];
		head->collected = true;
		int error = tree_collect(head->tree, commit);
		if (error)
			return error;
		struct head_state state;
		head_get_state(head, &state);
		error = workspace_put_state(commit, head->workspace, &state);
		if (error)
			return error;
	}
	return 0;
}

/* Heads locked. */
static void settle_heads(struct repo *repo, bool success)
{
	for (size_t i = 0; i < repo->head_count; i++) {
		struct head *head = repo->heads[i];
		if (!head->collected)
			continue;
		head->collected = false;
		tree_committed(head->tree, success);
		if (!success)
			head_mark_dirty(head);
	}
}

/* The same one by one, so that each is locked for a moment only. */
static void settle_unlocked_heads(struct repo *repo, bool success)
{
	for (size_t i = 0; i < repo->head_count; i++) {
		struct head *head = repo->heads[i];
		if (!head->collected)
			continue;
		head_lock(head);
		head->collected = false;
		tree_committed(head->tree, success);
		if (!success)
			head_mark_dirty(head);
		head_unlock(head);
	}
}

/* From here on nobody joins.  Whether one of those who did wants all to be in the index. */
static bool close_group(struct repo *repo, struct commit_group *group)
{
	if (!group)
		return true;
	pthread_mutex_lock(&repo->lock);
	if (repo->gathering == group)
		repo->gathering = NULL;
	bool full = group->full;
	pthread_mutex_unlock(&repo->lock);
	return full;
}

/* Everything up to the seal; heads are locked before and after, whatever the result.  Takes the
 * commit: where it fails it is aborted. */
static int fill_commit(struct repo *repo, const struct repo_action *action, struct commit *commit)
{
	int error = collect_heads(repo, commit);
	if (!error)
		error = commit_settles_redo(commit);
	if (!error && action && action->act)
		error = action->act(repo, commit, action->context);
	if (!error)
		error = commit_seal(commit);
	if (error) {
		commit_abort(commit);
		settle_heads(repo, false);
	}
	return error;
}

/* One try.  Commit lock held, heads prepared. */
static int commit_once(struct repo *repo, const struct repo_action *action,
		       struct commit_group *group)
{
	struct commit *commit;
	int error = commit_begin(repo->store, &commit);
	if (error) {
		close_group(repo, group);
		return error;
	}
	close_group(repo, group);
	lock_heads(repo);
	error = fill_commit(repo, action, commit);
	if (error) {
		unlock_heads(repo);
		return error;
	}
	if (!action) {
		unlock_heads(repo);
		error = commit_finish(commit);
		settle_unlocked_heads(repo, error == 0);
		return error;
	}
	error = commit_finish(commit);
	settle_heads(repo, error == 0);
	if (!error && action->done)
		action->done(repo, action->context);
	unlock_heads(repo);
	return error;
}

/* A full disk: the index has given up its ballast by now, so that a second try has room. */
static int commit_twice(struct repo *repo, const struct repo_action *action,
			struct commit_group *group)
{
	int error = commit_once(repo, action, group);
	if (error == -ENOSPC)
		error = commit_once(repo, action, NULL);
	return error;
}

/* The cut, and what has changed by it into a record.  Heads locked. */
static int log_heads(struct repo *repo, struct redo *redo)
{
	struct reader *reader;
	int error = 0;
	for (size_t i = 0; i < repo->head_count && !error; i++)
		error = cut_head(repo->heads[i]);
	if (!error)
		error = reader_acquire(repo->store, &reader);
	if (error)
		return error;
	for (size_t i = 0; i < repo->head_count && !error; i++) {
		struct head *head = repo->heads[i];
		struct head_state state;
		head_get_state(head, &state);
		error = workspace_log_state(redo, reader, head->workspace, &state);
		if (!error)
			error = tree_log(head->tree, redo);
	}
	reader_release(reader);
	return error ? error : redo_seal(redo);
}

/* Nothing is durable, or it is not known whether it is: all counts as changed.  A commit may find
 * room where there was none: it has the ballast. */
static int log_failed(struct repo *repo, int error)
{
	for (size_t i = 0; i < repo->head_count; i++)
		head_mark_dirty(repo->heads[i]);
	return error == -ENOSPC || error == -EDQUOT || error == -ENOMEM ? -EAGAIN : error;
}

/* The cheap way.  -EAGAIN: it has to be a commit.  Commit lock held, heads prepared. */
static int log_once(struct repo *repo, struct commit_group *group)
{
	struct redo *redo;
	redo_prepare(repo->store);
	int error = redo_begin(repo->store, &redo);
	if (error == -EAGAIN || error == -ENOMEM)
		return -EAGAIN;
	bool full = close_group(repo, group);
	if (error)
		return error;
	if (full)
		return -EAGAIN; /* nothing has been taken yet, so the log lacks nothing */
	lock_heads(repo);
	error = log_heads(repo, redo);
	unlock_heads(repo);
	if (error)
		redo_abort(redo);
	else
		error = redo_finish(redo);
	return error ? log_failed(repo, error) : 0;
}

/* Commit lock held. */
static int commit_group_run(struct repo *repo, struct commit_group *group, bool full)
{
	if (any_dirty(repo)) {
		int error = prepare_heads(repo);
		if (error) {
			close_group(repo, group);
			return error;
		}
	} else {
		/* Closed first: who joined until now has set his flag before. */
		full = close_group(repo, group);
		if (!any_left(repo, full))
			return 0;
	}
	if (!full) {
		int error = log_once(repo, group);
		if (error != -EAGAIN)
			return error;
	}
	return commit_twice(repo, NULL, group);
}

int repo_verify_log(struct repo *repo)
{
	repo_commit_lock(repo);
	int error = redo_verify(repo->store);
	repo_commit_unlock(repo);
	return error;
}

int repo_settle_redo(struct repo *repo)
{
	return redo_is_used(repo->store) ? commit_twice(repo, NULL, NULL) : 0;
}

/* repo->lock held. */
static int group_leave(struct commit_group *group)
{
	int error = group->error;
	if (--group->members == 0)
		free(group);
	return error;
}

static int group_lead(struct repo *repo, struct commit_group *group)
{
	repo_commit_lock(repo);
	pthread_mutex_lock(&repo->lock);
	bool full = group->full;
	pthread_mutex_unlock(&repo->lock);
	int error = commit_group_run(repo, group, full);
	repo_commit_unlock(repo);

	pthread_mutex_lock(&repo->lock);
	assert(repo->gathering != group);
	group->error = error;
	group->finished = true;
	pthread_cond_broadcast(&repo->group_finished);
	error = group_leave(group);
	pthread_mutex_unlock(&repo->lock);
	return error;
}

static int join_group(struct repo *repo, bool full)
{
	int error = 0;
	pthread_mutex_lock(&repo->lock);
	struct commit_group *group = repo->gathering;
	if (group) {
		group->members++;
		group->full = group->full || full;
		while (!group->finished)
			pthread_cond_wait(&repo->group_finished, &repo->lock);
		error = group_leave(group);
		pthread_mutex_unlock(&repo->lock);
		return error;
	}
	/* A commit under way has cleared the flags of what is not yet durable. */
	if (!repo_commit_running(repo) && !any_left(repo, full)) {
		pthread_mutex_unlock(&repo->lock);
		return 0;
	}
	group = calloc(1, sizeof(*group));
	if (group) {
		group->members = 1;
		group->full = full;
		repo->gathering = group;
	}
	pthread_mutex_unlock(&repo->lock);
	return group ? group_lead(repo, group) : -ENOMEM;
}

int repo_commit(struct repo *repo)
{
	return join_group(repo, true);
}

int repo_sync(struct repo *repo)
{
	return join_group(repo, false);
}

static size_t dirty_bytes(struct repo *repo)
{
	size_t bytes = 0;
	for (size_t i = 0; i < repo->head_count; i++) {
		head_lock_shared(repo->heads[i]);
		bytes += tree_dirty_bytes(repo->heads[i]->tree);
		head_unlock(repo->heads[i]);
	}
	return bytes;
}

int repo_commit_action(struct repo *repo, const struct repo_action *action)
{
	repo_commit_lock(repo);
	int error = prepare_heads(repo);
	if (!error && dirty_bytes(repo) > LONG_COMMIT_BYTES)
		error = commit_twice(repo, NULL, NULL);
	if (!error)
		error = store_presync(repo->store);
	if (!error)
		error = commit_twice(repo, action, NULL);
	repo_commit_unlock(repo);
	return error;
}
