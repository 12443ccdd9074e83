/* The request to carry work over. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/service_internal.h"
#include "snapshot/carry.h"

struct carry_run {
	struct request *request;
	const struct point *from;
	char **paths; /* owned */
	size_t path_count;
	enum carry_policy policy;
	bool dry_run;
	struct mount_guard *guard;  /* NULL: not mounted */
	struct carry_result result; /* owned */
	json_t *entries;	    /* owned */
};

static const char *const policies[] = {"stop", "keep", "take", "both"};

static int request_policy(struct request *request, enum carry_policy *ret)
{
	const char *text = request_text(request, "on_conflict");
	*ret = CARRY_STOP;
	if (!text)
		return 0;
	for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++) {
		if (strcmp(policies[i], text) == 0) {
			*ret = (enum carry_policy)i;
			return 0;
		}
	}
	return err_set(&request->err, -EINVAL,
		       "'on_conflict' is stop, keep, take or both, not '%s'", text);
}

static const char *conflict_text(enum carry_conflict conflict)
{
	switch (conflict) {
#define CONFLICT_TEXT(name, text, sentence)                                                        \
	case CARRY_##name:                                                                         \
		return text;
		CARRY_CONFLICTS(CONFLICT_TEXT)
#undef CONFLICT_TEXT
	case CARRY_CLEAN:
		break;
	}
	return NULL;
}

/* ---- entries ---- */

static int set_path(json_t *json, const char *key, const char *path)
{
	return path && json_object_set_new(json, key, json_text(path)) ? -ENOMEM : 0;
}

static int add_entry(const struct carry_entry *entry, void *context)
{
	struct carry_run *run = context;
	const char op[2] = {(char)entry->op, '\0'};
	const char *resolved =
		entry->conflict && entry->resolved != CARRY_STOP ? policies[entry->resolved] : NULL;
	json_t *json = json_pack("{s:s, s:o, s:s, s:o, s:s?, s:s?}", "op", op, "path",
				 json_text(entry->path), "type", json_file_type(entry->mode),
				 "size", json_number(entry->size), "conflict",
				 conflict_text(entry->conflict), "resolution", resolved);
	if (!json)
		return -ENOMEM;
	int error = set_path(json, "old_path", entry->old_path);
	if (!error)
		error = set_path(json, "copy_path", entry->copy_path);
	if (error) {
		json_decref(json);
		return error;
	}
	return json_array_append_new(run->entries, json) ? -ENOMEM : 0;
}

static void drop_entries(void *context)
{
	json_array_clear(((struct carry_run *)context)->entries);
}

/* ---- the result ---- */

static int origin_json(struct request *request, const struct point *point, json_t **ret)
{
	return point->id ? point_json_alone(request->service->repo, point, ret)
			 : json_result(json_null(), ret);
}

static int kept_json(const struct carry_run *run, json_t **ret)
{
	const struct revise_result *revised = &run->result.revised;
	if (!revised->changed || (run->dry_run && !revised->safety_made))
		return json_result(json_null(), ret);
	return safety_json(run->request->service->repo, &revised->safety, run->dry_run, ret);
}

static int carry_json(const struct carry_run *run, json_t *blockers, json_t **ret)
{
	const struct carry_result *result = &run->result;
	json_t *from = NULL, *base = NULL, *safety = NULL, *json = NULL;
	int error = origin_json(run->request, &result->from, &from);
	if (!error)
		error = origin_json(run->request, &result->base, &base);
	if (!error)
		error = kept_json(run, &safety);
	if (!error)
		error = json_result(
			json_pack("{s:O, s:O, s:O, s:b, s:O, s:o, s:o, s:b}", "from", from, "base",
				  base, "safety_point", safety, "safety_made",
				  result->revised.safety_made, "entries", run->entries, "conflicts",
				  json_number(result->conflicts), "changed",
				  summary_json(&result->brought), "stopped", result->stopped),
			&json);
	if (!error && blockers && json_object_set(json, "would_block", blockers))
		error = -ENOMEM;
	json_decref(from);
	json_decref(base);
	json_decref(safety);
	if (error)
		json_decref(json);
	else
		*ret = json;
	return error;
}

/* The detail is what the request would have returned. */
static int refuse_conflicts(struct request *request, const struct carry_run *run, json_t *json)
{
	uint64_t count = run->result.conflicts;
	request->detail = json;
	return err_set(&request->err, -ECANCELED,
		       "nothing was carried over: %llu conflict%s with '%s'; choose what to do "
		       "about %s with --on-conflict keep, take or both, or leave paths out",
		       (unsigned long long)count, count == 1 ? "" : "s", run->from->name,
		       count == 1 ? "it" : "them");
}

/* ---- the request ---- */

static int may_change(uint64_t ino, void *context)
{
	return mount_guard_may_change(ino, ((struct carry_run *)context)->guard);
}

static int run_carry(struct head *head, struct mount_guard *guard, void *context,
		     struct errbuf *err)
{
	struct carry_run *run = context;
	const struct carry_options options = {
		.paths = (const char *const *)run->paths,
		.path_count = run->path_count,
		.policy = run->policy,
		.by = run->request->by,
		.dry_run = run->dry_run,
		.may_change = guard ? may_change : NULL,
		.entry = add_entry,
		.restart = drop_entries,
		.context = run,
	};
	run->guard = guard;
	carry_result_release(&run->result);
	drop_entries(run);
	return point_carry(head, run->from, &options, &run->result, err);
}

static int carry_into(struct request *request, const char *workspace, struct carry_run *run,
		      json_t **ret)
{
	const struct mount_revision revision = {
		.run = run_carry,
		.context = run,
		.force = request_flag(request, "force"),
		.dry_run = run->dry_run,
	};
	uint64_t start = service_clock();
	json_t *blockers = NULL, *json = NULL;
	int error =
		revise_workspace(request, workspace, &revision, run->dry_run ? &blockers : NULL);
	if (!error)
		error = carry_json(run, blockers, &json);
	json_decref(blockers);
	if (!error)
		error = json_set_elapsed(json, start);
	if (!error && run->result.stopped && !run->dry_run)
		return refuse_conflicts(request, run, json);
	if (error)
		json_decref(json);
	else
		*ret = json;
	return error;
}

static int carry(struct request *request, const char *workspace, const struct point *from,
		 json_t **ret)
{
	struct carry_run run = {.request = request,
				.from = from,
				.dry_run = request_flag(request, "dry_run"),
				.entries = json_array()};
	int error = run.entries ? request_policy(request, &run.policy) : -ENOMEM;
	if (!error)
		error = request_paths(request, "paths", &run.paths, &run.path_count);
	if (!error)
		error = carry_into(request, workspace, &run, ret);
	carry_result_release(&run.result);
	free_paths(run.paths, run.path_count);
	json_decref(run.entries);
	return error;
}

int service_carry(struct request *request, json_t **ret)
{
	const char *spec = request_text(request, "from");
	struct point from = {0};
	char *workspace;

	/* Work of another workspace comes over into the one that is meant without it. */
	int error = request_workspace(request, NULL, &workspace);
	if (error)
		return error;
	error = point_resolve(request->service->repo, workspace, spec, &from, &request->err);
	if (!error)
		error = carry(request, workspace, &from, ret);
	point_release(&from);
	free(workspace);
	return error;
}
