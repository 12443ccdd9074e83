/* Requests about the store as a whole: status, check, sync; and about workspaces. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/service_internal.h"
#include "snapshot/collect.h"

enum {
	MARK_NODES_MAX = 1000000, /* status marks only where the index has fewer nodes */
	FINDINGS_MAX = 1000,
};

/* ---- space ---- */

static void remember_space(struct service *service, const struct store_space *space)
{
	struct store_statistics statistics;
	if (store_statistics(repo_store(service->repo), &statistics))
		return;
	pthread_mutex_lock(&service->lock);
	service->space = *space;
	service->space_commit = statistics.commits;
	pthread_mutex_unlock(&service->lock);
}

/* ---- check ---- */

void findings_add(const char *finding, void *context)
{
	struct findings *findings = context;
	if (json_array_size(findings->array) >= FINDINGS_MAX)
		return;
	if (json_array_append_new(findings->array, json_text(finding)))
		findings->lost = true;
}

static int check_result(struct request *request, const struct check_result *result,
			json_t *findings, json_t **ret)
{
	json_t *json = json_pack("{s:o, s:o, s:o, s:o, s:o}", "nodes", json_number(result->nodes),
				 "inodes", json_number(result->inodes), "chunks",
				 json_number(result->chunks), "errors", json_number(result->errors),
				 "findings", findings);
	if (!json)
		return -ENOMEM;
	if (!result->errors) {
		*ret = json;
		return 0;
	}
	request->detail = json;
	return err_set(&request->err, -EUCLEAN, "damage found: %llu error%s",
		       (unsigned long long)result->errors, result->errors == 1 ? "" : "s");
}

/* repo_check() takes the reports' and the progress's context as one. */
struct check_context {
	struct findings findings;
	struct request *request;
	uint64_t log_errors;
};

static void check_report(const char *finding, void *context)
{
	findings_add(finding, &((struct check_context *)context)->findings);
}

static int check_progress(const char *phase, uint64_t done, uint64_t total, void *context)
{
	return request_progress(phase, done, total, ((struct check_context *)context)->request);
}

/* What only the redo log has is checked there, and then like the rest. */
static void check_log(struct request *request, struct check_context *context)
{
	struct repo *repo = request->service->repo;
	char finding[256];
	if (request->service->read_only || !redo_is_used(repo_store(repo)))
		return;
	int error = repo_verify_log(repo);
	if (error) {
		snprintf(finding, sizeof(finding),
			 "redo log: what was made durable since the last commit cannot be read "
			 "back: %s",
			 error == -EBADMSG ? "a checksum does not match" : strerror(-error));
		check_report(finding, context);
		context->log_errors++;
	}
	/* Where the disk is full the check is of the last commit. */
	(void)repo_commit(repo);
}

int service_check(struct request *request, json_t **ret)
{
	struct check_context context = {.findings = {.array = json_array()}, .request = request};
	struct check_result result = {0};
	if (!context.findings.array)
		return -ENOMEM;
	check_log(request, &context);
	int error = repo_check(request->service->repo, request_flag(request, "read_data"),
			       check_report, check_progress, &context, &result);
	if (!error && context.findings.lost)
		error = -ENOMEM;
	if (error) {
		json_decref(context.findings.array);
		if (error == -EINTR)
			err_set(&request->err, error, "the check was interrupted");
		return error;
	}
	result.errors += context.log_errors;
	return check_result(request, &result, context.findings.array, ret);
}

/* ---- sync ---- */

static int barrier_all(struct request *request)
{
	struct mount_slot **slots;
	size_t count;
	int error = mounts_take_all(request->service, true, &slots, &count);
	if (error)
		return error;
	for (size_t i = 0; i < count && !error; i++)
		error = mount_barrier(slot_mount(slots[i]), &request->err);
	mounts_put_all(request->service, slots, count);
	return error;
}

int service_sync(struct request *request, json_t **ret)
{
	struct repo *repo = request->service->repo;
	struct store_statistics statistics;
	int error = barrier_all(request);
	if (!error)
		error = repo_commit(repo);
	if (!error)
		error = store_statistics(repo_store(repo), &statistics);
	if (error)
		return error;
	return json_result(json_pack("{s:o}", "commit", json_number(statistics.commits)), ret);
}

/* ---- status ---- */

/* What the lists of a status are made from. */
struct overview {
	struct names names;
	struct point_totals *totals; /* owned */
	size_t total_count;
	struct mount_slot **slots; /* taken */
	size_t slot_count;
	uint64_t logical_bytes;
	uint64_t reclaimable_bytes;
	struct store_space space;
};

static void overview_release(struct service *service, struct overview *overview)
{
	mounts_put_all(service, overview->slots, overview->slot_count);
	free(overview->totals);
	names_release(&overview->names);
}

static int overview_load(struct service *service, struct overview *overview)
{
	int error = names_load(service->repo, &overview->names);
	if (!error)
		error = point_totals(service->repo, &overview->totals, &overview->total_count);
	if (!error)
		error = mounts_take_all(service, false, &overview->slots, &overview->slot_count);
	return error;
}

static struct mount *overview_mount(const struct overview *overview, uint64_t workspace)
{
	for (size_t i = 0; i < overview->slot_count; i++) {
		struct mount *mount = slot_mount(overview->slots[i]);
		if (head_workspace(mount_head(mount)) == workspace)
			return mount;
	}
	return NULL;
}

/* Records are as of the last commit; a mounted workspace knows better. */
static void live_counters(struct mount *mount, struct head_counters *counters)
{
	struct head *head = mount_head(mount);
	head_lock_shared(head);
	head_get_counters(head, counters);
	head_unlock(head);
}

static int workspace_status(struct service *service, struct overview *overview,
			    struct workspace *workspace, json_t **ret)
{
	struct mount *mount = overview_mount(overview, workspace->id);
	uint64_t points = 0;
	json_t *json;

	if (mount)
		live_counters(mount, &workspace->counters);
	if (workspace->counters.bytes > 0)
		overview->logical_bytes += (uint64_t)workspace->counters.bytes;
	for (size_t i = 0; i < overview->total_count; i++)
		if (overview->totals[i].workspace == workspace->id)
			points = overview->totals[i].points;
	int error = workspace_json(service->repo, workspace, &json);
	if (error)
		return error;
	if (json_object_set_new(json, "points", json_number(points)) ||
	    json_object_set_new(json, "mounted", json_text(mount ? mount_point(mount) : NULL))) {
		json_decref(json);
		return -ENOMEM;
	}
	*ret = json;
	return 0;
}

static int workspaces_status(struct service *service, struct overview *overview, json_t **ret)
{
	json_t *array = json_array();
	int error = array ? 0 : -ENOMEM;
	for (size_t i = 0; i < overview->names.count && !error; i++) {
		json_t *json;
		error = workspace_status(service, overview, &overview->names.workspaces[i], &json);
		if (!error && json_array_append_new(array, json))
			error = -ENOMEM;
	}
	if (error)
		json_decref(array);
	else
		*ret = array;
	return error;
}

static int mounts_status(const struct overview *overview, json_t **ret)
{
	json_t *array = json_array();
	for (size_t i = 0; array && i < overview->slot_count; i++) {
		struct mount *mount = slot_mount(overview->slots[i]);
		struct mount_statistics statistics = {0};
		mount_statistics(mount, &statistics);
		json_t *json = json_pack("{s:o, s:o, s:o, s:s, s:o, s:o, s:o, s:o}", "mountpoint",
					 json_text(mount_point(mount)), "workspace",
					 json_text(mount_workspace(mount)), "options",
					 json_text(mount_fuse_options(mount)), "transport",
					 mount_transport(mount), "open_files",
					 json_number(statistics.open_files), "open_for_writing",
					 json_number(statistics.open_for_writing), "known_inodes",
					 json_number(statistics.known_inodes), "dirty_bytes",
					 json_number(statistics.dirty_bytes));
		if (json_array_append_new(array, json)) {
			json_decref(array);
			return -ENOMEM;
		}
	}
	return json_result(array, ret);
}

/* Marks at most once a commit; where that is too much, or impossible, the last figures will do. */
static void measure_space(struct request *request, struct overview *overview)
{
	struct service *service = request->service;
	struct store_statistics statistics;
	struct sweep_result result = {0};
	struct store_space space = {0};

	int error = store_statistics(repo_store(service->repo), &statistics);
	pthread_mutex_lock(&service->lock);
	overview->reclaimable_bytes = service->reclaimable;
	overview->space = service->space;
	bool known = service->reclaimable_commit == statistics.commits;
	bool space_known = service->space_commit == statistics.commits;
	pthread_mutex_unlock(&service->lock);
	if (error || statistics.nodes >= MARK_NODES_MAX)
		return;
	if (!space_known && !store_space_measure(request, &space)) {
		overview->space = space;
		remember_space(service, &space);
	}
	if (known || pthread_mutex_trylock(&service->collect_lock))
		return;
	error = repo_collect(service->repo, true, request_stop_if_gone, request, &result);
	pthread_mutex_unlock(&service->collect_lock);
	if (error)
		return;
	service_remember_reclaimable(service, result.stored_bytes);
	overview->reclaimable_bytes = result.stored_bytes;
}

static json_t *health_json(struct service *service)
{
	struct store *store = repo_store(service->repo);
	int commit_error = atomic_load(&service->commit_error);

	if (store_failed(store))
		return json_string("a write to disk failed; unmount and mount again to continue "
				   "from the last commit");
	if (commit_error) {
		struct errbuf text = {""};
		err_set(&text, 0, "the last commit failed (%s) and is tried again",
			strerror(-commit_error));
		return json_text(text.text);
	}
	if (!service->read_only && store_space_low(store))
		return json_string("little space is left on the store's file system");
	return json_string("ok");
}

static json_t *ratio_json(uint64_t whole, uint64_t part)
{
	return json_real(whole && part ? (double)whole / (double)part : 1.0);
}

static json_t *space_json(const struct overview *overview,
			  const struct store_statistics *statistics)
{
	uint64_t logical_bytes = overview->logical_bytes;
	const struct store_space *space = &overview->space;
	return json_pack(
		"{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "logical_bytes",
		json_number(logical_bytes), "unique_bytes", json_number(statistics->raw_bytes),
		"stored_bytes", json_number(statistics->stored_bytes), "index_bytes",
		json_number(statistics->index_bytes), "pack_bytes",
		json_number(statistics->pack_bytes), "dedup_ratio",
		ratio_json(logical_bytes, statistics->raw_bytes), "compression_ratio",
		ratio_json(statistics->raw_bytes, statistics->stored_bytes), "exclusive_bytes",
		space->known ? json_number(space->exclusive_bytes) : json_null(), "shared_bytes",
		space->known ? json_number(space->shared_bytes) : json_null(), "reclaimable_bytes",
		json_number(overview->reclaimable_bytes), "free_bytes",
		json_number(statistics->free_bytes));
}

static json_t *identity_json(struct service *service, json_t *workspaces, json_t *mounts)
{
	struct store *store = repo_store(service->repo);
	struct store_compression compression, at_rest;
	char text[16], text_at_rest[16];

	store_get_compression(store, &compression);
	store_format_compression(&compression, text);
	/* What never lies otherwise than it came in has no setting of its own. */
	store_get_rest_compression(store, &at_rest);
	store_format_compression(at_rest.codec == CODEC_NONE ? &compression : &at_rest,
				 text_at_rest);
	return json_pack("{s:o, s:s, s:i, s:s, s:s, s:o, s:o, s:o}", "store",
			 json_text(store_directory(store)), "uuid", store_uuid(store), "format",
			 (int)store_format_version(store), "compression", text,
			 "compression_at_rest", text_at_rest, "daemon_pid",
			 service->mounts ? json_integer(getpid()) : json_null(), "workspaces",
			 workspaces, "mounts", mounts);
}

static int status_json(struct request *request, struct overview *overview, json_t **ret)
{
	struct service *service = request->service;
	struct store_statistics statistics;
	json_t *workspaces = NULL, *mounts = NULL;

	int error = store_statistics(repo_store(service->repo), &statistics);
	if (!error)
		error = workspaces_status(service, overview, &workspaces);
	if (!error)
		error = mounts_status(overview, &mounts);
	if (error) {
		json_decref(workspaces);
		return error;
	}
	for (size_t i = 0; i < overview->total_count; i++)
		overview->logical_bytes += overview->totals[i].bytes;
	json_t *json = identity_json(service, workspaces, mounts);
	json_t *space = space_json(overview, &statistics);
	if (!json || !space || json_object_update(json, space) ||
	    json_object_set_new(json, "health", health_json(service))) {
		json_decref(json);
		json_decref(space);
		return -ENOMEM;
	}
	json_decref(space);
	*ret = json;
	return 0;
}

int service_status(struct request *request, json_t **ret)
{
	/* First, as it may take a while: nothing else is held meanwhile. */
	struct overview overview = {0};
	measure_space(request, &overview);
	int error = overview_load(request->service, &overview);
	if (!error)
		error = status_json(request, &overview, ret);
	overview_release(request->service, &overview);
	return error;
}

/* ---- workspaces ---- */

static int workspace_json_by_name(struct request *request, const char *name, json_t **ret)
{
	struct repo *repo = request->service->repo;
	struct workspace workspace = {0};
	int error = workspace_get(repo, name, &workspace);
	if (error == -ENOENT)
		return err_set(&request->err, error, "no workspace '%s' in %s", name,
			       store_directory(repo_store(repo)));
	if (error)
		return error;
	error = workspace_json(repo, &workspace, ret);
	workspace_release(&workspace);
	return error;
}

static int clone_head(struct request *request, const char *workspace, const char *name)
{
	struct service *service = request->service;
	struct mount_slot *slot = mounts_take(service, workspace);
	if (slot) {
		int error = mount_clone(slot_mount(slot), name, request->by, &request->err);
		mounts_put(service, slot);
		return error;
	}
	struct head *head;
	int error = repo_head(service->repo, workspace, &head, &request->err);
	if (error)
		return error;
	error = workspace_clone_head(head, name, request->by, &request->err);
	head_put(head);
	return error;
}

int service_clone(struct request *request, json_t **ret)
{
	const char *spec = request_text(request, "point"), *name = request_text(request, "name");
	struct repo *repo = request->service->repo;
	struct point point = {0};
	char *workspace;
	int error = request_spec_workspace(request, spec, &workspace);
	if (error)
		return error;
	if (spec_is_head(spec)) {
		error = clone_head(request, workspace, name);
	} else {
		error = point_resolve(repo, workspace, spec, &point, &request->err);
		if (!error)
			error = workspace_clone(repo, &point, name, request->by, &request->err);
	}
	if (!error)
		error = workspace_json_by_name(request, name, ret);
	point_release(&point);
	free(workspace);
	return error;
}

/* "default": whether it is meant where none is named. */
static int listed_workspace_json(struct repo *repo, const struct workspace *workspace,
				 const char *default_name, json_t **ret)
{
	json_t *json;
	bool is_default = default_name && strcmp(workspace->name, default_name) == 0;
	int error = workspace_json(repo, workspace, &json);
	if (error)
		return error;
	if (json_object_set_new(json, "default", json_boolean(is_default))) {
		json_decref(json);
		return -ENOMEM;
	}
	*ret = json;
	return 0;
}

int service_workspace_list(struct request *request, json_t **ret)
{
	struct repo *repo = request->service->repo;
	char *default_name = NULL;
	struct names names;
	int error = names_load(repo, &names);
	if (error)
		return error;
	json_t *array = json_array();
	if (!array || request_workspace(request, NULL, &default_name) == -ENOMEM)
		error = -ENOMEM;
	for (size_t i = 0; i < names.count && !error; i++) {
		json_t *json;
		error = listed_workspace_json(repo, &names.workspaces[i], default_name, &json);
		if (!error && json_array_append_new(array, json))
			error = -ENOMEM;
	}
	free(default_name);
	names_release(&names);
	if (error)
		json_decref(array);
	else
		*ret = array;
	return error;
}

int service_workspace_create(struct request *request, json_t **ret)
{
	const char *name = request_text(request, "name");
	int error = workspace_create(request->service->repo, name, request->asker->uid,
				     request->asker->gid, request->by, &request->err);
	return error ? error : workspace_json_by_name(request, name, ret);
}

/* The mount table names the workspace, so its name stays while it is mounted. */
static int refuse_if_mounted(struct request *request, const char *name)
{
	struct mount_slot *slot = mounts_take(request->service, name);
	if (!slot)
		return 0;
	int error = err_set(&request->err, -EBUSY,
			    "the workspace '%s' is mounted on %s: unmount it first", name,
			    mount_point(slot_mount(slot)));
	mounts_put(request->service, slot);
	return error;
}

int service_workspace_rename(struct request *request, json_t **ret)
{
	const char *name = request_text(request, "name");
	const char *new_name = request_text(request, "new_name");
	int error = refuse_if_mounted(request, name);
	if (!error)
		error = workspace_rename(request->service->repo, name, new_name, request->by,
					 &request->err);
	return error ? error : workspace_json_by_name(request, new_name, ret);
}

static int point_names_json(struct repo *repo, uint64_t workspace, json_t **ret)
{
	struct point *points;
	size_t count;
	int error = point_list(repo, workspace, &points, &count);
	if (error)
		return error;
	json_t *array = json_array();
	for (size_t i = 0; array && i < count; i++) {
		if (json_array_append_new(array, json_text(points[i].name))) {
			json_decref(array);
			array = NULL;
		}
	}
	points_free(points, count);
	return json_result(array, ret);
}

int service_workspace_delete(struct request *request, json_t **ret)
{
	struct repo *repo = request->service->repo;
	const char *name = request_text(request, "name");
	struct workspace workspace = {0};
	json_t *points = NULL;

	int error = refuse_if_mounted(request, name);
	if (!error)
		error = workspace_get(repo, name, &workspace);
	if (error == -ENOENT)
		err_set(&request->err, error, "no workspace '%s' in %s", name,
			store_directory(repo_store(repo)));
	if (!error)
		error = point_names_json(repo, workspace.id, &points);
	if (!error)
		error = workspace_delete(repo, name, request_flag(request, "dry_run"), request->by,
					 &request->err);
	workspace_release(&workspace);
	if (error) {
		json_decref(points);
		return error;
	}
	return json_result(json_pack("{s:o, s:o}", "name", json_text(name), "points", points), ret);
}
