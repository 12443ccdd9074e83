/*
 * What a spec stands for, as an immutable tree.
 *
 * A point's tree never changes.  A head's does, in place (I1), so "the head now" is the root in the
 * workspace's record of one commit, read through a reader of that same commit: a snapshot of
 * the index.  No lock is held while it is looked at, and writers go on.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/service_internal.h"

/* A commit may slip between two look-ups; so many in a row mean that something is wrong. */
enum { STATES_TRIES = 1000 };

bool spec_is_head(const char *spec)
{
	const char *at = strchr(spec, '@');
	return at && strcmp(at, "@head") == 0;
}

/* Brings what was written to a workspace until now into a commit. */
static int settle_head(struct request *request, const char *workspace)
{
	struct service *service = request->service;
	int error = 0;

	if (service->read_only)
		return 0;
	struct mount_slot *slot = mounts_take(service, workspace);
	if (slot) {
		error = mount_barrier(slot_mount(slot), &request->err);
		mounts_put(service, slot);
	}
	return error ? error : repo_commit(service->repo);
}

static int workspace_missing(struct request *request, const char *name)
{
	return err_set(&request->err, -ENOENT, "no workspace '%s' in %s", name,
		       store_directory(repo_store(request->service->repo)));
}

int request_spec_workspace(struct request *request, const char *spec, char **ret)
{
	if (!spec_is_head(spec) || spec[0] == '@')
		return request_workspace(request, spec, ret);
	/* In "main@head" the text before the '@' counts, whatever the request's workspace is. */
	char *workspace = strndup(spec, (size_t)(strchr(spec, '@') - spec));
	if (!workspace)
		return -ENOMEM;
	*ret = workspace;
	return 0;
}

static int state_resolve(struct request *request, const char *spec, struct state *ret)
{
	struct state state = {.is_head = spec_is_head(spec)};
	int error = request_spec_workspace(request, spec, &state.workspace);
	if (error)
		return error;
	if (state.is_head)
		error = settle_head(request, state.workspace);
	else
		error = point_resolve(request->service->repo, state.workspace, spec, &state.point,
				      &request->err);
	if (error)
		free(state.workspace);
	else
		*ret = state;
	return error;
}

static int open_head_tree(struct request *request, struct state *state)
{
	struct repo *repo = request->service->repo;
	struct workspace record = {0};
	int error = workspace_get(repo, state->workspace, &record);
	if (error == -ENOENT)
		return workspace_missing(request, state->workspace);
	if (error)
		return error;
	error = tree_open(repo_store(repo), record.root, 0, &state->tree);
	workspace_release(&record);
	return error;
}

static int open_trees(struct request *request, struct states *states)
{
	for (int i = 0; i < states->count; i++) {
		struct state *state = &states->list[i];
		int error = state->is_head ? open_head_tree(request, state)
					   : point_view(request->service->repo, &state->point,
							&state->tree);
		if (error)
			return error;
	}
	return 0;
}

static void close_trees(struct states *states)
{
	for (int i = 0; i < states->count; i++)
		states->list[i].tree = tree_close(states->list[i].tree);
}

/*
 * Records are read between two readers; where both see the same commit, so did everything in
 * between.
 */
static int open_consistently(struct request *request, struct states *states, bool *ret_good)
{
	struct store *store = repo_store(request->service->repo);
	struct reader *after = NULL;
	int error = reader_acquire(store, &states->reader);
	if (!error)
		error = open_trees(request, states);
	if (!error)
		error = reader_acquire(store, &after);
	bool good = !error && reader_sequence(states->reader) == reader_sequence(after);
	reader_release(after);
	if (!good) {
		states->reader = reader_release(states->reader);
		close_trees(states);
	}
	if (!error)
		*ret_good = good;
	return error;
}

int states_open(struct request *request, const char *const *specs, int count, struct states *ret)
{
	struct states states = {.service = request->service, .count = count};
	int error = 0;
	for (int i = 0; i < count && !error; i++)
		error = state_resolve(request, specs[i], &states.list[i]);
	bool good = false;
	for (int tries = 0; !error && !good; tries++) {
		if (tries == STATES_TRIES)
			error = -EAGAIN;
		else
			error = open_consistently(request, &states, &good);
	}
	if (error)
		states_release(&states);
	else
		*ret = states;
	return error;
}

int states_renew(struct states *states)
{
	states->reader = reader_release(states->reader);
	return reader_acquire(repo_store(states->service->repo), &states->reader);
}

void states_release(struct states *states)
{
	reader_release(states->reader);
	for (int i = 0; i < states->count; i++) {
		struct state *state = &states->list[i];
		tree_close(state->tree);
		point_release(&state->point);
		free(state->workspace);
	}
	*states = (struct states){0};
}
