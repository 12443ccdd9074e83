/* Requests about space: prune (which points to keep), usage, and the figures of show and status. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/service_internal.h"
#include "index/util/array.h"
#include "snapshot/retention.h"
#include "snapshot/usage.h"

/* ---- rules ---- */

/* Rules as they were asked for; texts are borrowed from the request. */
struct prune_rules {
	struct retention_rules keep;
	const char **tags, **filter_tags; /* owned arrays */
	size_t filter_count;
	char *text; /* owned: the same for people, and for the journal */
};

static void rules_release(struct prune_rules *rules)
{
	free(rules->tags);
	free(rules->filter_tags);
	free(rules->text);
}

static int rule_number(struct request *request, const char *key, int *ret)
{
	const json_t *value = request_value(request, key);
	if (!value)
		return 0;
	json_int_t number = json_integer_value(value);
	if (number > 1000000)
		return err_set(&request->err, -EINVAL, "%s: more than 1000000", key);
	*ret = (int)number;
	return 0;
}

static int rule_numbers(struct request *request, struct retention_rules *keep)
{
	const struct {
		const char *key;
		int *number;
	} rules[] = {
		{"keep_last", &keep->last},	  {"keep_hourly", &keep->hourly},
		{"keep_daily", &keep->daily},	  {"keep_weekly", &keep->weekly},
		{"keep_monthly", &keep->monthly}, {"keep_yearly", &keep->yearly},
	};
	int error = 0;
	for (size_t i = 0; !error && i < sizeof(rules) / sizeof(rules[0]); i++)
		error = rule_number(request, rules[i].key, rules[i].number);
	return error;
}

static void print_number(FILE *text, const char *name, int number)
{
	if (number < 0)
		fprintf(text, " --keep-%s unlimited", name);
	else if (number > 0)
		fprintf(text, " --keep-%s %d", name, number);
}

static int rules_text(struct request *request, struct prune_rules *rules)
{
	const struct retention_rules *keep = &rules->keep;
	const char *within = request_text(request, "keep_within");
	size_t length;
	FILE *text = open_memstream(&rules->text, &length);
	if (!text)
		return -ENOMEM;
	print_number(text, "last", keep->last);
	print_number(text, "hourly", keep->hourly);
	print_number(text, "daily", keep->daily);
	print_number(text, "weekly", keep->weekly);
	print_number(text, "monthly", keep->monthly);
	print_number(text, "yearly", keep->yearly);
	if (within)
		fprintf(text, " --keep-within %s", within);
	for (size_t i = 0; i < keep->tag_count; i++)
		fprintf(text, " --keep-tag %s", keep->tags[i]);
	for (size_t i = 0; i < rules->filter_count; i++)
		fprintf(text, " --tag %s", rules->filter_tags[i]);
	bool failed = ferror(text);
	return fclose(text) || failed ? -ENOMEM : 0;
}

/* A release is due in any case. */
static int rules_read(struct request *request, struct prune_rules *ret)
{
	const char *within = request_text(request, "keep_within");
	int error = rule_numbers(request, &ret->keep);
	if (!error && within)
		error = retention_parse_duration(within, &ret->keep, &request->err);
	if (!error)
		error = request_texts(request, "keep_tags", &ret->tags, &ret->keep.tag_count);
	ret->keep.tags = ret->tags;
	if (!error)
		error = request_texts(request, "filter_tags", &ret->filter_tags,
				      &ret->filter_count);
	if (!error && !retention_is_given(&ret->keep))
		error = err_set(&request->err, -EINVAL,
				"no rule says what to keep: give at least one of --keep-last, "
				"--keep-hourly, --keep-daily, --keep-weekly, --keep-monthly, "
				"--keep-yearly, --keep-within, --keep-tag");
	return error ? error : rules_text(request, ret);
}

/* ---- choosing ---- */

struct pruning {
	struct request *request;
	struct prune_rules rules; /* owned */
	struct names names;	  /* owned */
	json_t *kept, *removed;	  /* owned */
	uint64_t *ids;		  /* owned: of those that go */
	size_t count, capacity;
	int64_t now_ns;
};

static void pruning_release(struct pruning *pruning)
{
	rules_release(&pruning->rules);
	names_release(&pruning->names);
	json_decref(pruning->kept);
	json_decref(pruning->removed);
	free(pruning->ids);
}

static json_t *reasons_json(uint32_t reasons)
{
	json_t *array = json_array();
	for (int bit = 0; array && bit < 32; bit++) {
		if (!(reasons & 1u << bit))
			continue;
		const char *text = retention_reason_text((enum retention_reason)(1u << bit));
		if (json_array_append_new(array, json_string(text))) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

/* Those that have not expired. */
static json_t *prune_holds_json(const struct point *point, int64_t now_ns)
{
	json_t *array = json_array();
	for (size_t i = 0; array && i < point->hold_count; i++) {
		const struct point_hold *hold = &point->holds[i];
		if (hold->until_ns && hold->until_ns <= now_ns)
			continue;
		json_t *json = json_pack("{s:o, s:o, s:o}", "reason", json_text(hold->reason), "by",
					 json_text(hold->by), "until",
					 hold->until_ns ? json_time(hold->until_ns) : json_null());
		if (json_array_append_new(array, json)) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

static json_t *pruned_json(struct pruning *pruning, const struct point *point)
{
	return json_pack("{s:o, s:o, s:o, s:o}", "point", json_text(point->name), "id",
			 json_number(point->id), "workspace",
			 json_text(names_of_workspace(&pruning->names, point->workspace)),
			 "created", json_time(point->created_ns));
}

static int keep_point(struct pruning *pruning, const struct point *point, uint32_t reasons)
{
	json_t *json = pruned_json(pruning, point);
	if (json_object_set_new(json, "reasons", reasons_json(reasons)) ||
	    json_object_set_new(json, "holds", prune_holds_json(point, pruning->now_ns))) {
		json_decref(json);
		return -ENOMEM;
	}
	return json_array_append_new(pruning->kept, json) ? -ENOMEM : 0;
}

static int remove_point(struct pruning *pruning, const struct point *point)
{
	uint64_t *ids =
		array_reserve(pruning->ids, pruning->count + 1, &pruning->capacity, sizeof(ids[0]));
	if (!ids)
		return -ENOMEM;
	pruning->ids = ids;
	pruning->ids[pruning->count++] = point->id;
	return json_array_append_new(pruning->removed, pruned_json(pruning, point)) ? -ENOMEM : 0;
}

static bool is_considered(const struct prune_rules *rules, const struct point *point)
{
	bool result = rules->filter_count == 0;
	for (size_t i = 0; i < rules->filter_count && !result; i++)
		result = retention_has_tags(point, rules->filter_tags[i]);
	return result;
}

/* Also of a clone in another workspace: its history would begin elsewhere. */
static bool is_base(const struct names *names, uint64_t point)
{
	for (size_t i = 0; i < names->count; i++)
		if (names->workspaces[i].base == point)
			return true;
	return false;
}

static int apply_rules(struct pruning *pruning, const struct point *points, size_t count,
		       uint64_t current)
{
	uint32_t *reasons = calloc(count + 1, sizeof(*reasons));
	bool *considered = calloc(count + 1, sizeof(*considered));
	int error = reasons && considered ? 0 : -ENOMEM;
	for (size_t i = 0; !error && i < count; i++)
		considered[i] = is_considered(&pruning->rules, &points[i]);
	if (!error)
		error = retention_apply(points, count, considered, current, &pruning->rules.keep,
					pruning->now_ns, reasons);
	for (size_t i = 0; !error && i < count; i++) {
		if (considered[i] && is_base(&pruning->names, points[i].id))
			reasons[i] |= RETENTION_CURRENT;
		if (considered[i])
			error = reasons[i] ? keep_point(pruning, &points[i], reasons[i])
					   : remove_point(pruning, &points[i]);
	}
	free(reasons);
	free(considered);
	return error;
}

static int prune_workspace(struct pruning *pruning, const struct workspace *workspace)
{
	struct point *points;
	size_t count;
	int error = point_list(pruning->request->service->repo, workspace->id, &points, &count);
	if (error)
		return error;
	error = apply_rules(pruning, points, count, workspace->base);
	points_free(points, count);
	return error;
}

/* Each workspace by itself, as restic does with its groups. */
static int prune_choose(struct pruning *pruning)
{
	struct request *request = pruning->request;
	struct repo *repo = request->service->repo;
	bool all = request_flag(request, "all_workspaces"), found = false;
	char *name = NULL;
	int error = all ? 0 : request_workspace(request, NULL, &name);
	for (size_t i = 0; !error && i < pruning->names.count; i++) {
		const struct workspace *workspace = &pruning->names.workspaces[i];
		if (!all && strcmp(workspace->name, name) != 0)
			continue;
		found = true;
		error = prune_workspace(pruning, workspace);
	}
	if (!error && !all && !found)
		error = err_set(&request->err, -ENOENT, "no workspace '%s' in %s", name,
				store_directory(repo_store(repo)));
	free(name);
	return error;
}

/* ---- prune ---- */

static int would_free(struct pruning *pruning, struct sweep_result *ret)
{
	struct request *request = pruning->request;
	struct sweep_result now = {0};
	int error = usage_of_set(request->service->repo, pruning->ids, pruning->count,
				 request_progress, request, ret);
	if (!error && !request_flag(request, "no_gc"))
		error = service_collect(request, true, &now);
	ret->nodes += now.nodes;
	ret->chunks += now.chunks;
	ret->raw_bytes += now.raw_bytes;
	ret->stored_bytes += now.stored_bytes;
	return error;
}

static void tell_mounts(struct pruning *pruning)
{
	for (size_t i = 0; i < pruning->names.count; i++)
		mounts_points_changed(pruning->request->service, pruning->names.workspaces[i].id);
}

static int prune_now(struct pruning *pruning, struct sweep_result *ret)
{
	struct request *request = pruning->request;
	int error = 0;
	if (pruning->count)
		error = point_prune(request->service->repo, pruning->ids, pruning->count,
				    pruning->rules.text + 1, request->by, &request->err);
	if (error)
		return error;
	if (pruning->count)
		tell_mounts(pruning);
	if (request_flag(request, "no_gc"))
		return 0;
	error = service_collect(request, false, ret);
	if (error)
		err_set(&request->err, error,
			"the points are gone, but giving their space back failed (%s): 'cairn gc' "
			"goes on with it",
			strerror(-error));
	return error;
}

static json_t *freed_json(const struct sweep_result *freed)
{
	return json_pack("{s:o, s:o, s:o, s:o}", "nodes", json_number(freed->nodes), "chunks",
			 json_number(freed->chunks), "raw_bytes", json_number(freed->raw_bytes),
			 "stored_bytes", json_number(freed->stored_bytes));
}

static int prune(struct pruning *pruning, json_t **ret)
{
	uint64_t start = service_clock();
	struct request *request = pruning->request;
	struct sweep_result freed = {0};
	int error = rules_read(request, &pruning->rules);
	if (!error)
		error = names_load(request->service->repo, &pruning->names);
	if (!error)
		error = prune_choose(pruning);
	if (!error)
		error = request_flag(request, "dry_run") ? would_free(pruning, &freed)
							 : prune_now(pruning, &freed);
	if (error)
		return error;
	return json_result(json_pack("{s:O, s:O, s:s, s:o, s:o}", "kept", pruning->kept, "removed",
				     pruning->removed, "rules", pruning->rules.text + 1, "freed",
				     freed_json(&freed), "elapsed_ns",
				     json_number(service_clock() - start)),
			   ret);
}

int service_prune(struct request *request, json_t **ret)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	struct pruning pruning = {
		.request = request,
		.kept = json_array(),
		.removed = json_array(),
		.now_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec,
	};
	int error = pruning.kept && pruning.removed ? prune(&pruning, ret) : -ENOMEM;
	pruning_release(&pruning);
	return error;
}

/* ---- usage ---- */

static int usage_point_json(const struct names *names, const struct usage *usage,
			    const struct point *point, json_t *array)
{
	const struct usage_point *space = usage_of(usage, point->id);
	if (!space) /* made or deleted meanwhile */
		return 0;
	json_t *json = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "point", json_text(point->name),
				 "id", json_number(point->id), "workspace",
				 json_text(names_of_workspace(names, point->workspace)),
				 "exclusive_bytes", json_number(space->exclusive_bytes),
				 "exclusive_chunks", json_number(space->exclusive_chunks),
				 "exclusive_nodes", json_number(space->exclusive_nodes));
	return json_array_append_new(array, json) ? -ENOMEM : 0;
}

/* `workspace` 0: all. */
static int usage_points_json(struct repo *repo, const struct names *names, uint64_t workspace,
			     const struct usage *usage, json_t **ret)
{
	struct point *points = NULL;
	size_t count = 0;
	json_t *array = json_array();
	int error = array ? point_list(repo, workspace, &points, &count) : -ENOMEM;
	for (size_t i = 0; !error && i < count; i++)
		error = usage_point_json(names, usage, &points[i], array);
	points_free(points, count);
	if (error)
		json_decref(array);
	else
		*ret = array;
	return error;
}

static int usage_json(struct request *request, const struct usage *usage, uint64_t workspace,
		      json_t **ret)
{
	struct repo *repo = request->service->repo;
	struct names names;
	json_t *points;
	int error = names_load(repo, &names);
	if (error)
		return error;
	error = usage_points_json(repo, &names, workspace, usage, &points);
	names_release(&names);
	if (error)
		return error;
	return json_result(json_pack("{s:o, s:o, s:o}", "points", points, "shared_bytes",
				     json_number(usage->shared_bytes), "head_bytes",
				     json_number(usage->head_bytes)),
			   ret);
}

int service_usage(struct request *request, json_t **ret)
{
	const char *name = request_text(request, "workspace");
	struct workspace workspace = {0};
	struct usage usage = {0};
	int error = name ? workspace_get(request->service->repo, name, &workspace) : 0;
	if (error == -ENOENT)
		return err_set(&request->err, error, "no workspace '%s' in %s", name,
			       store_directory(repo_store(request->service->repo)));
	if (!error)
		error = usage_measure(request->service->repo, request_progress, request, &usage);
	if (!error)
		error = usage_json(request, &usage, workspace.id, ret);
	usage_release(&usage);
	workspace_release(&workspace);
	return error;
}

/* ---- figures of show and status ---- */

/* A damaged store still shows its points: without these figures. */
static bool is_damage(int error)
{
	return error == -EBADMSG || error == -EUCLEAN;
}

int point_space_json(struct request *request, const struct point *point, json_t *object)
{
	struct repo *repo = request->service->repo;
	struct sweep_result alone = {0};
	uint64_t reachable = 0, exclusive;
	int error = usage_of_set(repo, &point->id, 1, request_stop_if_gone, request, &alone);
	if (!error)
		error = usage_reachable(repo, point, &reachable);
	if (error && !is_damage(error))
		return error;
	exclusive = alone.stored_bytes + alone.nodes * USAGE_NODE_BYTES;
	/* Two looks: what was shared then need not be now. */
	uint64_t shared = reachable > exclusive ? reachable - exclusive : 0;
	if (json_object_set_new(object, "exclusive_bytes",
				error ? json_null() : json_number(exclusive)) ||
	    json_object_set_new(object, "shared_bytes", error ? json_null() : json_number(shared)))
		return -ENOMEM;
	return 0;
}

int store_space_measure(struct request *request, struct store_space *ret)
{
	struct usage usage = {0};
	int error = usage_measure(request->service->repo, request_stop_if_gone, request, &usage);
	if (error)
		return error;
	*ret = (struct store_space){.known = true, .shared_bytes = usage.shared_bytes};
	for (size_t i = 0; i < usage.count; i++)
		ret->exclusive_bytes += usage.points[i].exclusive_bytes;
	usage_release(&usage);
	return 0;
}
