/* Requests about points: restore, log, show, rename, delete. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/service_internal.h"

/* ---- restore ---- */

static json_t *summary_json(const struct diff_summary *summary)
{
	return json_pack("{s:o, s:o, s:o}", "added", json_number(summary->added), "removed",
			 json_number(summary->removed), "modified", json_number(summary->modified));
}

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

static int users_json(const struct mount_user *users, size_t count, json_t **ret)
{
	json_t *array = json_array();
	if (!array)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		json_t *json = json_pack("{s:i, s:o, s:o, s:o}", "pid", users[i].pid, "command",
					 json_text(users[i].command), "user",
					 json_text(users[i].user), "path",
					 json_text(users[i].path));
		if (json_array_append_new(array, json)) {
			json_decref(array);
			return -ENOMEM;
		}
	}
	*ret = array;
	return 0;
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

static int restore_dry(struct request *request, const char *workspace, const struct point *target,
		       json_t **ret)
{
	struct repo *repo = request->service->repo;
	struct diff_summary summary = {0};
	struct states states = {0};
	struct tree *tree = NULL;
	json_t *users = NULL, *point = NULL;
	char *spec = NULL;

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
		error = point_json_alone(repo, target, &point);
	if (error) {
		json_decref(users);
		return error;
	}
	return json_result(json_pack("{s:o, s:n, s:b, s:o, s:o}", "point", point, "safety_point",
				     "safety_made", 0, "changed", summary_json(&summary),
				     "would_block", users),
			   ret);
}

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
	if (!error && request_flag(request, "dry_run"))
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

/* ---- log and show ---- */

static bool point_has_tag(const struct point *point, const char *tag)
{
	for (size_t i = 0; i < point->tag_count; i++)
		if (strcmp(point->tags[i], tag) == 0)
			return true;
	return false;
}

/* Of a list: those that the request asks for. */
struct points_filter {
	const char *tag; /* NULL: any */
	bool by_verdict;
	enum verdict verdict;
};

static int request_filter(struct request *request, struct points_filter *ret)
{
	*ret = (struct points_filter){.tag = request_text(request, "tag")};
	ret->by_verdict = request_text(request, "verdict") != NULL;
	return ret->by_verdict ? request_verdict(request, &ret->verdict) : 0;
}

static bool filter_has(const struct points_filter *filter, const struct point *point)
{
	return (!filter->tag || point_has_tag(point, filter->tag)) &&
	       (!filter->by_verdict || point->verdict == filter->verdict);
}

static int points_json(struct request *request, const struct names *names,
		       const struct points_filter *filter, const struct point *points, size_t count,
		       json_t **ret)
{
	json_t *array = json_array();
	int error = array ? 0 : -ENOMEM;
	for (size_t i = 0; i < count && !error; i++) {
		json_t *json;
		if (!filter_has(filter, &points[i]))
			continue;
		error = point_json(request->service->repo, names, &points[i], &json);
		if (!error && json_array_append_new(array, json))
			error = -ENOMEM;
	}
	if (error)
		json_decref(array);
	else
		*ret = array;
	return error;
}

int service_log(struct request *request, json_t **ret)
{
	struct repo *repo = request->service->repo;
	struct workspace workspace = {0};
	struct points_filter filter;
	struct names names = {0};
	struct point *points = NULL;
	size_t count = 0;
	char *name;

	int error = request_filter(request, &filter);
	if (!error)
		error = request_workspace(request, NULL, &name);
	if (error)
		return error;
	error = workspace_get(repo, name, &workspace);
	if (error == -ENOENT)
		err_set(&request->err, error, "no workspace '%s' in %s", name,
			store_directory(repo_store(repo)));
	if (!error)
		error = names_load(repo, &names);
	if (!error)
		error = point_list(repo, workspace.id, &points, &count);
	if (!error)
		error = points_json(request, &names, &filter, points, count, ret);
	points_free(points, count);
	names_release(&names);
	workspace_release(&workspace);
	free(name);
	return error;
}

int service_show(struct request *request, json_t **ret)
{
	struct point point = {0};
	int error = request_point(request, "point", &point);
	if (!error)
		error = point_json_alone(request->service->repo, &point, ret);
	point_release(&point);
	return error;
}

/* ---- rename and delete ---- */

int service_rename(struct request *request, json_t **ret)
{
	struct service *service = request->service;
	struct point point = {0};
	int error = request_point(request, "point", &point);
	if (error)
		return error;
	error = point_rename(service->repo, point.id, request_text(request, "new_name"),
			     request->by, &request->err);
	if (!error) {
		mounts_points_changed(service, point.workspace);
		error = point_json_by_id(service->repo, point.id, ret);
	}
	point_release(&point);
	return error;
}

/* Points that a request names, each once. */
struct chosen {
	struct point *points; /* owned */
	uint64_t *ids;	      /* owned */
	size_t count;
};

static void chosen_release(struct chosen *chosen)
{
	points_free(chosen->points, chosen->count);
	free(chosen->ids);
}

static int choose_point(struct request *request, const char *spec, struct chosen *chosen)
{
	struct point *point = &chosen->points[chosen->count];
	char *workspace;
	int error = request_workspace(request, spec, &workspace);
	if (error)
		return error;
	error = point_resolve(request->service->repo, workspace, spec, point, &request->err);
	free(workspace);
	if (error)
		return error;
	for (size_t i = 0; i < chosen->count; i++) {
		if (chosen->ids[i] == point->id) {
			point_release(point);
			*point = (struct point){0};
			return 0;
		}
	}
	chosen->ids[chosen->count++] = point->id;
	return 0;
}

static int choose_points(struct request *request, struct chosen *ret)
{
	struct chosen chosen = {0};
	const char **specs;
	size_t count;
	int error = request_texts(request, "points", &specs, &count);
	if (error)
		return error;
	if (!count)
		return err_set(&request->err, -EINVAL, "delete: 'points' is empty");
	chosen.points = calloc(count, sizeof(*chosen.points));
	chosen.ids = calloc(count, sizeof(*chosen.ids));
	error = chosen.points && chosen.ids ? 0 : -ENOMEM;
	for (size_t i = 0; i < count && !error; i++)
		error = choose_point(request, specs[i], &chosen);
	free(specs);
	if (error)
		chosen_release(&chosen);
	else
		*ret = chosen;
	return error;
}

static void chosen_are_gone(struct service *service, const struct chosen *chosen)
{
	for (size_t i = 0; i < chosen->count; i++) {
		uint64_t workspace = chosen->points[i].workspace;
		if (i == 0 || workspace != chosen->points[i - 1].workspace)
			mounts_points_changed(service, workspace);
	}
}

int service_delete(struct request *request, json_t **ret)
{
	struct service *service = request->service;
	const struct points_filter all = {.tag = NULL};
	bool dry_run = request_flag(request, "dry_run");
	struct chosen chosen = {0};
	struct names names = {0};
	json_t *json = NULL;

	int error = choose_points(request, &chosen);
	if (!error)
		error = names_load(service->repo, &names);
	if (!error)
		error = points_json(request, &names, &all, chosen.points, chosen.count, &json);
	if (!error)
		error = point_delete(service->repo, chosen.ids, chosen.count, dry_run, request->by,
				     &request->err);
	if (!error && !dry_run)
		chosen_are_gone(service, &chosen);
	chosen_release(&chosen);
	names_release(&names);
	if (error)
		json_decref(json);
	else
		*ret = json;
	return error;
}
