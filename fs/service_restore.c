/* The request to restore: of everything, and of some paths. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/service_internal.h"
#include "snapshot/restore_paths.h"

/* ---- for carry too ---- */

json_t *summary_json(const struct diff_summary *summary)
{
	return json_pack("{s:o, s:o, s:o}", "added", json_number(summary->added), "removed",
			 json_number(summary->removed), "modified", json_number(summary->modified));
}

int users_json(const struct mount_user *users, size_t count, json_t **ret)
{
	json_t *array = json_array();
	if (!array)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		json_t *json =
			json_pack("{s:i, s:o, s:o, s:o}", "pid", users[i].pid, "command",
				  json_text(users[i].command), "user", json_text(users[i].user),
				  "path", json_text(users[i].path));
		if (json_array_append_new(array, json)) {
			json_decref(array);
			return -ENOMEM;
		}
	}
	*ret = array;
	return 0;
}

/* Runs it on the workspace, mounted or not.  Where processes are in the way they are the
 * error's detail; on a dry run they are `ret_blockers`. */
int revise_workspace(struct request *request, const char *workspace,
		     const struct mount_revision *revision, json_t **ret_blockers)
{
	struct service *service = request->service;
	struct mount_user *users = NULL;
	struct mount_slot *slot = mounts_take(service, workspace);
	struct head *head;
	size_t count = 0;
	int error;

	if (slot) {
		error = mount_revise(slot_mount(slot), revision, &users, &count, &request->err);
		mounts_put(service, slot);
	} else {
		error = repo_head(service->repo, workspace, &head, &request->err);
		if (error)
			return error;
		error = revision->run(head, NULL, revision->context, &request->err);
		head_put(head);
	}
	if (error && count && users_json(users, count, &request->detail))
		request->detail = NULL;
	if (!error && ret_blockers)
		error = users_json(users, count, ret_blockers);
	mount_users_free(users, count);
	return error;
}

/* "safety_point" of a result: what was kept, or would be. */
int safety_json(struct repo *repo, const struct point *safety, bool dry_run, json_t **ret)
{
	if (!safety->id)
		return json_result(json_null(), ret);
	if (dry_run) /* it has a name, but does not exist */
		return json_result(json_pack("{s:o}", "name", json_text(safety->name)), ret);
	return point_json_alone(repo, safety, ret);
}

/* ---- of everything ---- */

/* What a restore exchanged: `old_root` was just frozen, so both are immutable. */
static int summarize_roots(struct repo *repo, uint64_t old_root, uint64_t new_root,
			   struct diff_summary *ret)
{
	struct store *store = repo_store(repo);
	struct tree *old_tree = NULL, *new_tree = NULL;
	struct reader *reader = NULL;
	int error = tree_open(store, old_root, 0, &old_tree);
	if (!error)
		error = tree_open(store, new_root, 0, &new_tree);
	if (!error)
		error = reader_acquire(store, &reader);
	if (!error)
		error = diff_summarize(old_tree, new_tree, reader, ret);
	reader_release(reader);
	tree_close(old_tree);
	tree_close(new_tree);
	return error;
}

static int restore_unmounted(struct request *request, const char *workspace,
			     const struct point *target, struct mount_restore_result *ret)
{
	struct repo *repo = request->service->repo;
	struct mount_restore_result result = {0};
	struct head *head;
	int error = repo_head(repo, workspace, &head, &request->err);
	if (error)
		return error;
	error = point_restore(head, target, request->by, &result.restore, &request->err);
	head_put(head);
	if (error)
		return error;
	/* The restore is durable; that it cannot be counted does not make it fail. */
	if (summarize_roots(repo, result.restore.old_root, result.restore.new_root,
			    &result.changed))
		result.changed = (struct diff_summary){0};
	*ret = result;
	return 0;
}

static int restore_result_json(struct repo *repo, const struct mount_restore_result *result,
			       json_t **ret)
{
	json_t *target = NULL, *safety = NULL;
	int error = point_json_by_id(repo, result->restore.target.id, &target);
	if (error == -ENOENT) /* deleted meanwhile */
		error = point_json_alone(repo, &result->restore.target, &target);
	if (!error)
		error = result->restore.safety.id
				? point_json_alone(repo, &result->restore.safety, &safety)
				: json_result(json_null(), &safety);
	if (error) {
		json_decref(target);
		return error;
	}
	return json_result(json_pack("{s:o, s:o, s:b, s:o}", "point", target, "safety_point",
				     safety, "safety_made", result->restore.safety_made, "changed",
				     summary_json(&result->changed)),
			   ret);
}

/* Where processes are in the way they are the error's detail, which may be missing. */
static int restore_mounted(struct request *request, struct mount *mount, const struct point *target,
			   struct mount_restore_result *ret)
{
	struct mount_user *users;
	size_t count;
	int error = mount_restore(mount, target, request->by, request_flag(request, "force"), ret,
				  &users, &count, &request->err);
	if (count && users_json(users, count, &request->detail))
		request->detail = NULL;
	mount_users_free(users, count);
	return error;
}

static int restore_workspace(struct request *request, const char *workspace,
			     const struct point *target, json_t **ret)
{
	struct service *service = request->service;
	struct mount_restore_result result = {0};
	struct mount_slot *slot = mounts_take(service, workspace);
	int error;
	if (slot) {
		error = restore_mounted(request, slot_mount(slot), target, &result);
		mounts_put(service, slot);
	} else {
		error = restore_unmounted(request, workspace, target, &result);
	}
	if (error)
		return error;
	error = restore_result_json(service->repo, &result, ret);
	restore_result_release(&result.restore);
	return error;
}

/* ---- restore, dry run ---- */

static int would_block(struct request *request, const char *workspace, json_t **ret)
{
	struct mount_user *users = NULL;
	size_t count = 0;
	int error = 0;
	struct mount_slot *slot = mounts_take(request->service, workspace);
	if (slot) {
		error = mount_users(slot_mount(slot), &users, &count);
		mounts_put(request->service, slot);
	}
	if (error)
		return error;
	error = users_json(users, count, ret);
	mount_users_free(users, count);
	return error;
}

/* The head of `workspace` as a spec, as the request's own workspace may be another one. */
static int head_spec(const char *workspace, char **ret)
{
	size_t size = strlen(workspace) + sizeof("@head");
	char *spec = malloc(size);
	if (!spec)
		return -ENOMEM;
	memcpy(spec, workspace, size - sizeof("@head"));
	memcpy(spec + size - sizeof("@head"), "@head", sizeof("@head"));
	*ret = spec;
	return 0;
}

/* null in `ret` where the present state is that of a point already. */
static int would_keep(struct request *request, const char *workspace, const struct point *target,
		      json_t **ret, bool *ret_made)
{
	struct repo *repo = request->service->repo;
	struct point safety = {0};
	struct head *head;
	int error = repo_head(repo, workspace, &head, &request->err);
	if (error)
		return error;
	error = point_restore_would_keep(head, target, request->by, &safety, ret_made);
	head_put(head);
	if (!error)
		error = *ret_made ? safety_json(repo, &safety, true, ret)
				  : json_result(json_null(), ret);
	point_release(&safety);
	return error;
}

static int restore_dry(struct request *request, const char *workspace, const struct point *target,
		       json_t **ret)
{
	struct repo *repo = request->service->repo;
	struct diff_summary summary = {0};
	struct states states = {0};
	struct tree *tree = NULL;
	json_t *users = NULL, *point = NULL, *safety = NULL;
	char *spec = NULL;
	bool made = false;

	int error = head_spec(workspace, &spec);
	if (!error)
		error = states_open(request, (const char *const *)&spec, 1, &states);
	if (!error)
		error = point_view(repo, target, &tree);
	if (!error)
		error = diff_summarize(states.list[0].tree, tree, states.reader, &summary);
	tree_close(tree);
	states_release(&states);
	free(spec);
	if (!error)
		error = would_block(request, workspace, &users);
	if (!error)
		error = would_keep(request, workspace, target, &safety, &made);
	if (!error)
		error = point_json_alone(repo, target, &point);
	if (error) {
		json_decref(users);
		json_decref(safety);
		return error;
	}
	return json_result(json_pack("{s:o, s:o, s:b, s:o, s:o}", "point", point, "safety_point",
				     safety, "safety_made", made, "changed", summary_json(&summary),
				     "would_block", users),
			   ret);
}

/* ---- of some paths ---- */

struct paths_run {
	struct request *request;
	const struct point *target;
	char **paths;
	size_t count;
	bool dry_run;
	struct restore_paths_result result; /* owned */
};

static int may_change(uint64_t ino, void *guard)
{
	return mount_guard_may_change(ino, guard);
}

static int run_paths(struct head *head, struct mount_guard *guard, void *context,
		     struct errbuf *err)
{
	struct paths_run *run = context;
	const struct restore_paths_options options = {
		.paths = (const char *const *)run->paths,
		.path_count = run->count,
		.by = run->request->by,
		.dry_run = run->dry_run,
		.may_change = guard ? may_change : NULL,
		.context = guard,
	};
	restore_paths_result_release(&run->result);
	return point_restore_paths(head, run->target, &options, &run->result, err);
}

static int paths_json(const struct paths_run *run, json_t **ret)
{
	json_t *array = json_array();
	for (size_t i = 0; array && i < run->count; i++) {
		if (json_array_append_new(array, json_text(run->paths[i]))) {
			json_decref(array);
			array = NULL;
		}
	}
	return json_result(array, ret);
}

static int paths_result_json(const struct paths_run *run, json_t *blockers, json_t **ret)
{
	struct repo *repo = run->request->service->repo;
	const struct revise_result *revised = &run->result.revised;
	json_t *point = NULL, *safety = NULL, *paths = NULL, *json = NULL;
	int error = point_json_alone(repo, &run->result.target, &point);
	if (!error)
		error = run->dry_run && !revised->safety_made
				? json_result(json_null(), &safety)
				: safety_json(repo, &revised->safety, run->dry_run, &safety);
	if (!error)
		error = paths_json(run, &paths);
	if (!error)
		error = json_result(json_pack("{s:O, s:O, s:b, s:O, s:o}", "point", point,
					      "safety_point", safety, "safety_made",
					      revised->safety_made, "paths", paths, "changed",
					      summary_json(&run->result.changed)),
				    &json);
	if (!error && blockers && json_object_set(json, "would_block", blockers))
		error = -ENOMEM;
	json_decref(point);
	json_decref(safety);
	json_decref(paths);
	if (error)
		json_decref(json);
	else
		*ret = json;
	return error;
}

static int restore_paths(struct request *request, const char *workspace, const struct point *target,
			 json_t **ret)
{
	struct paths_run run = {
		.request = request, .target = target, .dry_run = request_flag(request, "dry_run")};
	const struct mount_revision revision = {
		.run = run_paths,
		.context = &run,
		.force = request_flag(request, "force"),
		.dry_run = run.dry_run,
	};
	json_t *blockers = NULL;
	int error = request_paths(request, "paths", &run.paths, &run.count);
	if (!error)
		error = revise_workspace(request, workspace, &revision,
					 run.dry_run ? &blockers : NULL);
	if (!error)
		error = paths_result_json(&run, blockers, ret);
	json_decref(blockers);
	restore_paths_result_release(&run.result);
	free_paths(run.paths, run.count);
	return error;
}

/* ---- the request ---- */

int service_restore(struct request *request, json_t **ret)
{
	uint64_t start = service_clock();
	const char *spec = request_text(request, "point");
	struct point target = {0};
	char *workspace;
	json_t *json = NULL;

	int error = request_workspace(request, spec, &workspace);
	if (error)
		return error;
	error = point_resolve(request->service->repo, workspace, spec, &target, &request->err);
	if (!error && json_array_size(request_value(request, "paths")))
		error = restore_paths(request, workspace, &target, &json);
	else if (!error && request_flag(request, "dry_run"))
		error = restore_dry(request, workspace, &target, &json);
	else if (!error)
		error = restore_workspace(request, workspace, &target, &json);
	if (!error)
		error = json_set_elapsed(json, start);
	point_release(&target);
	free(workspace);
	if (error)
		json_decref(json);
	else
		*ret = json;
	return error;
}
