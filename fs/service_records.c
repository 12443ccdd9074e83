/* Requests that change what people said of a point: hold, release, verdict, tag. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/service_internal.h"

/* ---- holds ---- */

int request_until(struct request *request, const char *name, int64_t *ret)
{
	const char *text = request_text(request, name);
	struct timespec clock;
	int64_t until;

	if (!text) {
		*ret = 0;
		return 0;
	}
	clock_gettime(CLOCK_REALTIME, &clock);
	int64_t now = (int64_t)clock.tv_sec * 1000000000 + clock.tv_nsec;
	int error = point_parse_time(text, now, &until, &request->err);
	if (error)
		return error;
	if (until <= now)
		return err_set(&request->err, -EINVAL, "hold: '%s' is not in the future", text);
	*ret = until;
	return 0;
}

int service_hold(struct request *request, json_t **ret)
{
	struct repo *repo = request->service->repo;
	struct point point = {0};
	int64_t until = 0;
	uint64_t hold = 0;
	json_t *json = NULL;

	int error = request_until(request, "until", &until);
	if (!error)
		error = request_point(request, "point", &point);
	if (!error)
		error = point_hold(repo, point.id, request_text(request, "reason"), request->by,
				   until, &hold, &request->err);
	if (!error)
		error = point_json_by_id(repo, point.id, &json);
	if (!error && json_object_set_new(json, "hold", json_number(hold)))
		error = -ENOMEM;
	point_release(&point);
	if (error)
		json_decref(json);
	else
		*ret = json;
	return error;
}

int service_release(struct request *request, json_t **ret)
{
	struct repo *repo = request->service->repo;
	const json_t *hold = request_value(request, "hold");
	struct point point = {0};

	/* Below, 0 means all holds; ids start at 1. */
	if (hold && json_integer_value(hold) == 0)
		return err_set(&request->err, -EINVAL, "release: 'hold' must be the id of a hold");
	int error = request_point(request, "point", &point);
	if (!error)
		error = point_unhold(repo, point.id, (uint64_t)json_integer_value(hold),
				     request->by, &request->err);
	if (!error)
		error = point_json_by_id(repo, point.id, ret);
	point_release(&point);
	return error;
}

/* ---- verdicts ---- */

int request_verdict(struct request *request, enum verdict *ret)
{
	const char *text = request_text(request, "verdict");
	if (point_parse_verdict(text, ret))
		return err_set(&request->err, -EINVAL,
			       "a verdict is open, working, broken or superseded, not '%s'", text);
	return 0;
}

int service_verdict(struct request *request, json_t **ret)
{
	struct repo *repo = request->service->repo;
	const char *reason = request_text(request, "reason");
	struct point point = {0};
	enum verdict verdict;

	int error = request_verdict(request, &verdict);
	if (!error)
		error = request_point(request, "point", &point);
	if (!error)
		error = point_set_verdict(repo, point.id, verdict, reason ? reason : "",
					  request->by, request->user, &request->err);
	if (!error)
		error = point_json_by_id(repo, point.id, ret);
	point_release(&point);
	return error;
}

/* ---- tags ---- */

int service_tag(struct request *request, json_t **ret)
{
	struct repo *repo = request->service->repo;
	const char **add = NULL, **remove = NULL;
	size_t add_count = 0, remove_count = 0;
	struct point point = {0};

	int error = request_texts(request, "add", &add, &add_count);
	if (!error)
		error = request_texts(request, "remove", &remove, &remove_count);
	if (!error && !add_count && !remove_count)
		error = err_set(&request->err, -EINVAL, "tag: there is no tag to add or remove");
	if (!error)
		error = request_point(request, "point", &point);
	if (!error)
		error = point_set_tags(repo, point.id, add, add_count, remove, remove_count,
				       request->by, &request->err);
	if (!error)
		error = point_json_by_id(repo, point.id, ret);
	point_release(&point);
	free(add);
	free(remove);
	return error;
}
