/* Requests about what a point holds, down to the byte: its digest, and an extract of its files. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/service_internal.h"
#include "index/util/shell.h"
#include "snapshot/digest.h"
#include "snapshot/extract.h"

enum { SKIPPED_MAX = 1000 };

static int report_progress(const char *phase, uint64_t done, uint64_t total, void *context)
{
	const struct asker *asker = ((struct request *)context)->asker;

	if (asker->progress)
		asker->progress(phase, done, total, asker->context);
	return asker->gone && asker->gone(asker->context) ? -EINTR : 0;
}

static json_t *digest_json(const struct digest *digest)
{
	char text[DIGEST_TEXT];

	digest_text(digest, text);
	return json_string(text);
}

static int explain_stop(struct request *request, int error)
{
	return error == -EINTR ? err_set(&request->err, error, "the digest was interrupted")
			       : error;
}

/* ---- digest ---- */

int service_digest(struct request *request, json_t **ret)
{
	struct service *service = request->service;
	struct point point = {0};
	struct digest digest;
	json_t *json = NULL;
	bool recorded;

	int error = request_point(request, "point", &point);
	if (!error)
		error = digest_of_point(service->repo, point.id, request->by, report_progress,
					request, &digest, &recorded, &request->err);
	if (!error)
		error = point_json_by_id(service->repo, point.id, &json);
	point_release(&point);
	if (error)
		return explain_stop(request, error);
	return json_result(json_pack("{s:o, s:o, s:b}", "digest", digest_json(&digest), "point",
				     json, "recorded", recorded),
			   ret);
}

/* ---- digest_check ---- */

static int expected_digest(struct request *request, struct digest *ret, bool *ret_given)
{
	const char *text = request_text(request, "expect");

	*ret_given = text != NULL;
	if (!text || digest_parse(text, ret) == 0)
		return 0;
	return err_set(&request->err, -EINVAL, "a digest is 64 hexadecimal digits, not '%s'", text);
}

static int check_result(struct request *request, const struct point *point,
			const struct digest_check *check, json_t **ret)
{
	json_t *json = json_pack("{s:o, s:o, s:b, s:o}", "expected", digest_json(&check->expected),
				 "found", digest_json(&check->found), "equal", check->equal, "path",
				 json_text(check->path));
	if (!json)
		return -ENOMEM;
	if (check->equal) {
		*ret = json;
		return 0;
	}
	request->detail = json;
	if (check->path)
		return err_set(&request->err, -EUCLEAN,
			       "point '%s' is not what it was when its digest was computed; the "
			       "first difference is in '%s'",
			       point->name, *check->path ? check->path : ".");
	return err_set(&request->err, -EUCLEAN, "point '%s' has another digest than that",
		       point->name);
}

static int refuse_without(struct request *request, const struct point *point)
{
	char quoted[SHELL_QUOTED(NAME_MAX)];

	return err_set(
		&request->err, -ENOENT,
		"point '%s' has no digest yet: compute it with 'cairn show --digest %s', or say "
		"which one is expected",
		point->name, shell_quote(point->name, quoted, sizeof(quoted)));
}

int service_digest_check(struct request *request, json_t **ret)
{
	struct digest_check check = {0};
	struct digest expected;
	struct point point = {0};
	bool given;

	int error = expected_digest(request, &expected, &given);
	if (!error)
		error = request_point(request, "point", &point);
	if (!error)
		error = digest_verify(request->service->repo, point.id, given ? &expected : NULL,
				      report_progress, request, &check, &request->err);
	if (error == -ENODATA)
		error = refuse_without(request, &point);
	else if (!error)
		error = check_result(request, &point, &check, ret);
	digest_check_release(&check);
	point_release(&point);
	return explain_stop(request, error);
}

/* ---- extract ---- */

struct extracting {
	struct request *request;
	json_t *skipped; /* owned: array */
	bool lost;	 /* memory was out */
};

static void note_skipped(const char *path, const char *what, void *context)
{
	struct extracting *extracting = context;

	if (json_array_size(extracting->skipped) >= SKIPPED_MAX)
		return;
	json_t *json = json_pack("{s:o, s:o}", "path", json_text(*path ? path : "."), "what",
				 json_text(what));
	if (json_array_append_new(extracting->skipped, json))
		extracting->lost = true;
}

static int extract_progress(const char *phase, uint64_t done, uint64_t total, void *context)
{
	return report_progress(phase, done, total, ((struct extracting *)context)->request);
}

/* Opens the directory, made if it is missing. */
static int open_destination(struct request *request, int *ret)
{
	char *path;
	int error = request_path(request, "destination", &path);

	if (error)
		return error;
	if (mkdir(path, 0700) && errno != EEXIST)
		error = err_set(&request->err, -errno, "cannot make the directory %s: %s", path,
				strerror(errno));
	int fd = error ? -1 : open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (!error && fd < 0)
		error = err_set(&request->err, -errno, "cannot open the directory %s: %s", path,
				strerror(errno));
	free(path);
	if (!error)
		*ret = fd;
	return error;
}

/* What can be done about it. */
static int explain_extract(struct request *request, int error)
{
	struct errbuf text = request->err;

	if (error == -EINTR)
		return err_set(&request->err, error,
			       "interrupted; what was extracted so far is there");
	if (error == -EEXIST && *text.text)
		return err_set(&request->err, error, "%s; --force replaces files", text.text);
	return error;
}

static int extract_paths(struct extracting *extracting, const struct point *point, char **paths,
			 size_t count, struct extract_result *ret)
{
	struct request *request = extracting->request;
	const struct extract_options options = {
		.paths = (const char *const *)paths,
		.path_count = count,
		.overwrite = request_flag(request, "overwrite"),
		.skipped = note_skipped,
		.progress = extract_progress,
		.context = extracting,
	};
	int destination;
	int error = open_destination(request, &destination);
	if (error)
		return error;
	error = point_extract(request->service->repo, point, destination, &options, ret,
			      &request->err);
	close(destination);
	return error ? error : extracting->lost ? -ENOMEM : 0;
}

int service_extract(struct request *request, json_t **ret)
{
	struct extracting extracting = {.request = request, .skipped = json_array()};
	struct extract_result result = {0};
	struct point point = {0};
	char **paths = NULL;
	size_t count = 0;

	int error = extracting.skipped ? request_paths(request, "paths", &paths, &count) : -ENOMEM;
	if (!error)
		error = request_point(request, "point", &point);
	if (!error)
		error = extract_paths(&extracting, &point, paths, count, &result);
	point_release(&point);
	free_paths(paths, count);
	if (error) {
		json_decref(extracting.skipped);
		return explain_extract(request, error);
	}
	return json_result(json_pack("{s:o, s:o, s:o, s:o, s:o}", "files",
				     json_number(result.files), "directories",
				     json_number(result.directories), "bytes",
				     json_number(result.bytes), "skipped_count",
				     json_number(result.skipped), "skipped", extracting.skipped),
			   ret);
}
