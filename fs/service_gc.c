/* The request gc: collection, and what is done at rest, now. */
#include <errno.h>
#include <string.h>

#include "fs/rest.h"
#include "fs/service_internal.h"
#include "snapshot/collect.h"

/* ---- collection and its progress ---- */

int request_progress(const char *phase, uint64_t done, uint64_t total, void *context)
{
	const struct asker *asker = ((struct request *)context)->asker;
	if (asker->progress)
		asker->progress(phase, done, total, asker->context);
	return asker->gone && asker->gone(asker->context) ? -EINTR : 0;
}

int request_stop_if_gone(const char *phase, uint64_t done, uint64_t total, void *context)
{
	const struct asker *asker = ((struct request *)context)->asker;
	(void)phase;
	(void)done;
	(void)total;
	return asker->gone && asker->gone(asker->context) ? -EINTR : 0;
}

void service_remember_reclaimable(struct service *service, uint64_t bytes)
{
	struct store_statistics statistics;
	if (store_statistics(repo_store(service->repo), &statistics))
		return;
	pthread_mutex_lock(&service->lock);
	service->reclaimable = bytes;
	service->reclaimable_commit = statistics.commits;
	pthread_mutex_unlock(&service->lock);
}

/* A second gc is refused; the dry run of a status is waited for. */
static int collect(struct request *request, bool dry_run, struct sweep_result *ret)
{
	struct service *service = request->service;

	pthread_mutex_lock(&service->lock);
	bool running = service->gc_running;
	service->gc_running = true;
	pthread_mutex_unlock(&service->lock);
	if (running)
		return err_set(&request->err, -EBUSY, "a collection is running already");
	pthread_mutex_lock(&service->collect_lock);
	int error = repo_collect(service->repo, dry_run, request_progress, request, ret);
	pthread_mutex_unlock(&service->collect_lock);
	pthread_mutex_lock(&service->lock);
	service->gc_running = false;
	pthread_mutex_unlock(&service->lock);
	return error;
}

int service_collect(struct request *request, bool dry_run, struct sweep_result *ret)
{
	struct service *service = request->service;
	pthread_mutex_lock(&service->collect_lock);
	int error = repo_collect(service->repo, dry_run, request_progress, request, ret);
	pthread_mutex_unlock(&service->collect_lock);
	if (!error)
		service_remember_reclaimable(service, dry_run ? ret->stored_bytes : 0);
	return error;
}

/* ---- what lies at rest, now ---- */

static int compact_progress(uint64_t done, uint64_t total, void *context)
{
	return request_progress("recompress", done, total, context);
}

static bool asker_is_gone(void *context)
{
	return request_stop_if_gone("order", 0, 0, context) != 0;
}

/* What the daemon would do when nobody writes (fs/rest.c). */
static int compact(struct request *request, json_t **ret)
{
	struct store *store = repo_store(request->service->repo);
	struct relocation_result recompressed = {0}, ordered = {0};
	struct order_result order = {0};

	int error = relocate_recompress(store, compact_progress, request, &recompressed);
	if (!error && !asker_is_gone(request))
		error = rest_order_all(request->service, asker_is_gone, request, &order, &ordered);
	if (!error && asker_is_gone(request))
		error = -EINTR;
	if (error == -EINTR)
		return err_set(&request->err, error,
			       "interrupted; what was recompressed and put in order stays so");
	if (error == -ENOSPC)
		return err_set(
			&request->err, error,
			"too little space is free to move data to other places: free some, or "
			"delete points, and try again");
	if (error)
		return error;
	*ret = json_pack("{s:o, s:o, s:o, s:o, s:o}", "recompressed_chunks",
			 json_number(recompressed.moved), "bytes_before",
			 json_number(recompressed.stored_before), "bytes_after",
			 json_number(recompressed.stored_after), "ordered_chunks",
			 json_number(ordered.moved), "damaged_chunks",
			 json_number(recompressed.damaged + ordered.damaged));
	return *ret ? 0 : -ENOMEM;
}

int service_gc(struct request *request, json_t **ret)
{
	uint64_t start = service_clock();
	struct service *service = request->service;
	bool dry_run = request_flag(request, "dry_run");
	struct sweep_result result = {0};

	int error = collect(request, dry_run, &result);
	if (error == -EINTR)
		return err_set(&request->err, error,
			       "the collection was interrupted; what it had freed stays free");
	if (error)
		return error;
	service_remember_reclaimable(service, dry_run ? result.stored_bytes : 0);
	json_t *compacted = NULL;
	if (!dry_run && request_flag(request, "compact"))
		error = compact(request, &compacted);
	if (error) {
		json_decref(compacted);
		return error;
	}
	return json_result(json_pack("{s:o, s:o, s:o, s:o, s:o, s:o*, s:o}", "nodes",
				     json_number(result.nodes), "chunks",
				     json_number(result.chunks), "raw_bytes",
				     json_number(result.raw_bytes), "stored_bytes",
				     json_number(result.stored_bytes), "packs",
				     json_number(result.packs), "compacted", compacted,
				     "elapsed_ns", json_number(service_clock() - start)),
			   ret);
}
