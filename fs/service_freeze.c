/* The request to freeze: points are made. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/service_internal.h"

/* Arrays are owned, texts borrowed from the request. */
struct freeze_lists {
	const char **tags, **holds;
	size_t tag_count, hold_count, anchor_count, step_count;
	struct point_anchor *anchors;
	struct point_run run; /* command NULL: none */
	struct point_step *steps;
	int64_t hold_until_ns;
};

static void freeze_lists_release(struct freeze_lists *lists)
{
	free(lists->tags);
	free(lists->holds);
	free(lists->anchors);
	free(lists->steps);
}

static int fill_anchors(struct request *request, struct freeze_lists *lists)
{
	json_t *object = (json_t *)request_value(request, "anchors");
	json_t *commands = (json_t *)request_value(request, "anchor_commands");
	size_t count = json_object_size(object);
	const char *name;
	json_t *value;

	json_object_foreach(commands, name, value)
	{
		if (!json_object_get(object, name))
			return err_set(&request->err, -EINVAL,
				       "freeze: 'anchor_commands' names '%s', which is not among "
				       "'anchors'",
				       name);
	}
	lists->anchors = calloc(count + 1, sizeof(lists->anchors[0]));
	if (!lists->anchors)
		return -ENOMEM;
	json_object_foreach(object, name, value)
	{
		lists->anchors[lists->anchor_count++] = (struct point_anchor){
			.name = (char *)name,
			.value = (char *)json_string_value(value),
			.command = (char *)json_string_value(json_object_get(commands, name)),
		};
	}
	return 0;
}

static int fill_run(struct request *request, struct freeze_lists *lists)
{
	json_t *run = (json_t *)request_value(request, "run");
	const char *command;
	json_int_t elapsed_ns = 0;
	int status = 0;

	if (!run)
		return 0;
	if (json_unpack(run, "{s:s, s:i, s:I !}", "command", &command, "exit_status", &status,
			"elapsed_ns", &elapsed_ns) ||
	    elapsed_ns < 0)
		return err_set(&request->err, -EINVAL,
			       "freeze: 'run' must have a text 'command', and numbers "
			       "'exit_status' and 'elapsed_ns'");
	lists->run = (struct point_run){(char *)command, (uint64_t)elapsed_ns, status};
	return 0;
}

static int fill_steps(struct request *request, struct freeze_lists *lists)
{
	const json_t *steps = request_value(request, "steps");
	size_t i;
	json_t *step;

	lists->steps = calloc(json_array_size(steps) + 1, sizeof(lists->steps[0]));
	if (!lists->steps)
		return -ENOMEM;
	json_array_foreach(steps, i, step)
	{
		const char *name;
		json_int_t elapsed_ns = 0;
		int status = 0;
		if (json_unpack(step, "{s:s, s:I, s:i !}", "name", &name, "elapsed_ns", &elapsed_ns,
				"exit_status", &status) ||
		    elapsed_ns < 0)
			return err_set(&request->err, -EINVAL,
				       "freeze: each of 'steps' must have a text 'name', and "
				       "numbers 'elapsed_ns' and 'exit_status'");
		lists->steps[lists->step_count++] =
			(struct point_step){(char *)name, (uint64_t)elapsed_ns, status};
	}
	return 0;
}

static int fill_holds(struct request *request, struct freeze_lists *lists)
{
	int error = request_texts(request, "holds", &lists->holds, &lists->hold_count);
	if (!error)
		error = request_until(request, "hold_until", &lists->hold_until_ns);
	if (!error && lists->hold_until_ns && !lists->hold_count)
		error = err_set(&request->err, -EINVAL,
				"freeze: 'hold_until' is for 'holds', and there are none");
	return error;
}

static int freeze_lists_fill(struct request *request, struct freeze_lists *lists)
{
	int error = request_texts(request, "tags", &lists->tags, &lists->tag_count);
	if (!error)
		error = fill_holds(request, lists);
	if (!error)
		error = fill_anchors(request, lists);
	if (!error)
		error = fill_run(request, lists);
	if (!error)
		error = fill_steps(request, lists);
	return error;
}

static int freeze_workspace(struct request *request, const char *workspace,
			    const struct freeze_options *options, struct point *ret, bool *ret_made)
{
	struct service *service = request->service;
	struct mount_slot *slot = mounts_take(service, workspace);
	if (slot) {
		int error = mount_freeze(slot_mount(slot), options, ret, ret_made, &request->err);
		mounts_put(service, slot);
		return error;
	}
	struct head *head;
	int error = repo_head(service->repo, workspace, &head, &request->err);
	if (error)
		return error;
	error = point_freeze(head, options, ret, ret_made, &request->err);
	head_put(head);
	return error;
}

static int freeze(struct request *request, const struct freeze_lists *lists, struct point *ret,
		  bool *ret_made)
{
	const struct freeze_options options = {
		.name = request_text(request, "name"),
		.message = request_text(request, "message"),
		.by = request->by,
		.tags = lists->tags,
		.tag_count = lists->tag_count,
		.holds = lists->holds,
		.hold_count = lists->hold_count,
		.hold_until_ns = lists->hold_until_ns,
		.anchors = lists->anchors,
		.anchor_count = lists->anchor_count,
		.run = lists->run.command ? &lists->run : NULL,
		.steps = lists->steps,
		.step_count = lists->step_count,
		.if_changed = request_flag(request, "if_changed"),
	};
	char *workspace;
	int error = request_workspace(request, NULL, &workspace);
	if (error)
		return error;
	error = freeze_workspace(request, workspace, &options, ret, ret_made);
	free(workspace);
	return error;
}

int service_freeze(struct request *request, json_t **ret)
{
	uint64_t start = service_clock();
	struct freeze_lists lists = {0};
	struct point point = {0};
	bool made = false;
	json_t *json = NULL;

	int error = freeze_lists_fill(request, &lists);
	if (!error)
		error = freeze(request, &lists, &point, &made);
	if (!error)
		error = point_json_alone(request->service->repo, &point, &json);
	if (!error && json_object_set_new(json, "made", json_boolean(made)))
		error = -ENOMEM;
	if (!error)
		error = json_set_elapsed(json, start);
	point_release(&point);
	freeze_lists_release(&lists);
	if (error)
		json_decref(json);
	else
		*ret = json;
	return error;
}
