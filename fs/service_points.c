/* Requests about points: log, show, rename, delete. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/service_internal.h"

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
	int64_t since_ns, until_ns; /* INT64_MIN, INT64_MAX: any */
	size_t last;		    /* so many of the newest; SIZE_MAX: all */
};

static const struct points_filter filter_none = {
	.since_ns = INT64_MIN, .until_ns = INT64_MAX, .last = SIZE_MAX};

static int request_time(struct request *request, const char *name, int64_t *ret)
{
	const char *text = request_text(request, name);
	return text ? point_parse_time(text, (int64_t)time(NULL) * 1000000000, ret, &request->err)
		    : 0;
}

static int request_filter(struct request *request, struct points_filter *ret)
{
	const json_t *last = request_value(request, "last");
	*ret = filter_none;
	ret->tag = request_text(request, "tag");
	ret->by_verdict = request_text(request, "verdict") != NULL;
	if (last)
		ret->last = (size_t)json_integer_value(last);
	int error = request_time(request, "since", &ret->since_ns);
	if (!error)
		error = request_time(request, "until", &ret->until_ns);
	if (!error && ret->by_verdict)
		error = request_verdict(request, &ret->verdict);
	return error;
}

static bool filter_has(const struct points_filter *filter, const struct point *point)
{
	return (!filter->tag || point_has_tag(point, filter->tag)) &&
	       (!filter->by_verdict || point->verdict == filter->verdict) &&
	       point->created_ns >= filter->since_ns && point->created_ns <= filter->until_ns;
}

/* Where the newest `last` of those that the filter takes begin. */
static size_t filter_first(const struct points_filter *filter, const struct point *points,
			   size_t count)
{
	size_t first = count;
	for (size_t taken = 0; first > 0 && taken < filter->last; first--)
		taken += filter_has(filter, &points[first - 1]);
	return first;
}

/* What connects points: enough to draw how they hang together. */
static int brief_json(const struct names *names, const struct point *point, json_t **ret)
{
	json_t *parent = point->parent ? json_number(point->parent) : json_null();
	return json_result(json_pack("{s:o, s:o, s:o, s:o}", "name", json_text(point->name), "id",
				     json_number(point->id), "workspace",
				     json_text(names_of_workspace(names, point->workspace)),
				     "parent_id", parent),
			   ret);
}

static int points_json(struct request *request, const struct names *names,
		       const struct points_filter *filter, const struct point *points, size_t count,
		       json_t **ret)
{
	bool brief = request_flag(request, "brief");
	json_t *array = json_array();
	int error = array ? 0 : -ENOMEM;
	for (size_t i = filter_first(filter, points, count); i < count && !error; i++) {
		json_t *json;
		if (!filter_has(filter, &points[i]))
			continue;
		error = brief ? brief_json(names, &points[i], &json)
			      : point_json(request->service->repo, names, &points[i], &json);
		if (!error && json_array_append_new(array, json))
			error = -ENOMEM;
	}
	if (error)
		json_decref(array);
	else
		*ret = array;
	return error;
}

static int log_workspace(struct request *request, struct workspace *ret)
{
	struct repo *repo = request->service->repo;
	char *name;
	int error = request_workspace(request, NULL, &name);
	if (error)
		return error;
	error = workspace_get(repo, name, ret);
	if (error == -ENOENT)
		err_set(&request->err, error, "no workspace '%s' in %s", name,
			store_directory(repo_store(repo)));
	free(name);
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

	int error = request_filter(request, &filter);
	if (!error && !request_flag(request, "all_workspaces"))
		error = log_workspace(request, &workspace);
	if (!error)
		error = names_load(repo, &names);
	if (!error)
		error = point_list(repo, workspace.id, &points, &count);
	if (!error)
		error = points_json(request, &names, &filter, points, count, ret);
	points_free(points, count);
	names_release(&names);
	workspace_release(&workspace);
	return error;
}

int service_show(struct request *request, json_t **ret)
{
	struct point point = {0};
	json_t *json = NULL;
	int error = request_point(request, "point", &point);
	if (!error)
		error = point_json_alone(request->service->repo, &point, &json);
	/* Exact, so it looks at the whole index: only for who wants to know. */
	if (!error && request_flag(request, "sizes"))
		error = point_space_json(request, &point, json);
	point_release(&point);
	if (error)
		json_decref(json);
	else
		*ret = json;
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
	bool dry_run = request_flag(request, "dry_run");
	struct chosen chosen = {0};
	struct names names = {0};
	json_t *json = NULL;

	int error = choose_points(request, &chosen);
	if (!error)
		error = names_load(service->repo, &names);
	if (!error)
		error = points_json(request, &names, &filter_none, chosen.points, chosen.count, &json);
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
