/* The structural check of a whole store: records first, then each tree that they refer to. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/chunk.h"
#include "index/util/bytes.h"
#include "snapshot/check_internal.h"
#include "snapshot/point_internal.h"
#include "snapshot/workspace_internal.h"

struct records {
	struct workspace *workspaces; /* owned */
	size_t workspace_count;
	struct point *points; /* owned, in order of id */
	size_t point_count, point_capacity;
};

bool check_is_damage(int error)
{
	return error == -EUCLEAN || error == -EBADMSG || error == -EOPNOTSUPP;
}

__attribute__((format(printf, 2, 3))) static void set_place(struct checker *checker,
							    const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(checker->place, sizeof(checker->place), format, arguments);
	va_end(arguments);
}

void check_report(struct checker *checker, const char *format, ...)
{
	char text[1024], finding[1700];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	snprintf(finding, sizeof(finding), "%s: %s", checker->place, text);
	checker->result.errors++;
	if (checker->report)
		checker->report(finding, checker->context);
}

/* ---- reading records, of which some may be damaged ---- */

struct reading {
	struct checker *checker;
	struct records *records;
};

static int read_workspace(struct bytes key, struct bytes value, void *context)
{
	struct reading *reading = context;
	struct records *records = reading->records;
	struct workspace *grown =
		reallocarray(records->workspaces, records->workspace_count + 1, sizeof(grown[0]));
	if (!grown)
		return -ENOMEM;
	records->workspaces = grown;
	uint64_t id = key.length == 8 ? get_be64(key.data) : 0;
	int error = id ? workspace_decode(id, value, &grown[records->workspace_count]) : -EUCLEAN;
	if (check_is_damage(error)) {
		check_report(reading->checker, "the record of workspace %llu does not decode",
			     (unsigned long long)id);
		return 0;
	}
	if (!error)
		records->workspace_count++;
	return error;
}

static int read_point(struct bytes key, struct bytes value, void *context)
{
	struct reading *reading = context;
	struct records *records = reading->records;
	if (records->point_count == records->point_capacity) {
		size_t capacity = records->point_capacity ? records->point_capacity * 2 : 64;
		struct point *grown = reallocarray(records->points, capacity, sizeof(grown[0]));
		if (!grown)
			return -ENOMEM;
		records->points = grown;
		records->point_capacity = capacity;
	}
	uint64_t id = key.length == 8 ? get_be64(key.data) : 0;
	int error = id ? point_decode(id, value, &records->points[records->point_count]) : -EUCLEAN;
	if (check_is_damage(error)) {
		check_report(reading->checker, "the record of point %llu does not decode",
			     (unsigned long long)id);
		return 0;
	}
	if (!error)
		records->point_count++;
	return error;
}

static int read_records(struct checker *checker, struct records *records)
{
	struct reading reading = {checker, records};
	const struct bytes all = {NULL, 0};
	set_place(checker, "store");
	int error =
		reader_records(checker->reader, TABLE_WORKSPACES, all, read_workspace, &reading);
	if (!error)
		error = reader_records(checker->reader, TABLE_POINTS, all, read_point, &reading);
	if (check_is_damage(error)) {
		check_report(checker, "the table of workspaces or points is damaged: %s",
			     strerror(-error));
		error = 0;
	}
	return error;
}

static void records_release(struct records *records)
{
	workspaces_free(records->workspaces, records->workspace_count);
	points_free(records->points, records->point_count);
}

static const struct point *find_point(const struct records *records, uint64_t id)
{
	size_t low = 0, high = records->point_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (records->points[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < records->point_count && records->points[low].id == id ? &records->points[low]
									   : NULL;
}

static const struct workspace *find_workspace(const struct records *records, uint64_t id)
{
	for (size_t i = 0; i < records->workspace_count; i++)
		if (records->workspaces[i].id == id)
			return &records->workspaces[i];
	return NULL;
}

/* ---- names ---- */

struct name_check {
	struct checker *checker;
	const struct records *records;
	uint64_t count;
};

static int check_name_record(struct bytes key, struct bytes value, void *context)
{
	struct name_check *check = context;
	check->count++;
	if (key.length < 9 || value.length != 8) {
		check_report(check->checker, "an entry in the table of names is malformed");
		return 0;
	}
	uint64_t workspace = get_be64(key.data), id = get_le64(value.data);
	const char *name = (const char *)key.data + 8, *known = NULL;
	size_t length = key.length - 8;
	if (workspace) {
		const struct point *point = find_point(check->records, id);
		known = point && point->workspace == workspace ? point->name : NULL;
	} else {
		const struct workspace *named = find_workspace(check->records, id);
		known = named ? named->name : NULL;
	}
	if (!known || strlen(known) != length || memcmp(known, name, length) != 0)
		check_report(check->checker, "the name '%.*s' leads to nothing that is called so",
			     (int)length, name);
	return 0;
}

static void check_has_name(struct checker *checker, uint64_t workspace, const char *name,
			   uint64_t id)
{
	uint64_t found;
	int error = record_find_name(checker->reader, workspace, name, strlen(name), &found);
	if (error || found != id)
		check_report(checker, "its name is missing in the table of names");
}

static int check_names(struct checker *checker, const struct records *records)
{
	struct name_check check = {checker, records, 0};
	set_place(checker, "store");
	int error = reader_records(checker->reader, TABLE_NAMES, (struct bytes){NULL, 0},
				   check_name_record, &check);
	if (check_is_damage(error)) {
		check_report(checker, "the table of names is damaged: %s", strerror(-error));
		return 0;
	}
	return error;
}

/* ---- workspaces and points ---- */

static void check_counters(struct checker *checker, const struct head_counters *recorded,
			   const struct head_counters *counted)
{
	if (recorded->files != counted->files)
		check_report(checker, "it should have %lld files, but has %lld",
			     (long long)recorded->files, (long long)counted->files);
	if (recorded->directories != counted->directories)
		check_report(checker, "it should have %lld directories, but has %lld",
			     (long long)recorded->directories, (long long)counted->directories);
	if (recorded->bytes != counted->bytes)
		check_report(checker, "it should have %lld bytes, but has %lld",
			     (long long)recorded->bytes, (long long)counted->bytes);
}

static int check_root(struct checker *checker, uint64_t root, const struct head_counters *recorded)
{
	struct head_counters counted = {0};
	bool valid;
	int error = check_tree(checker, root, &counted, &valid);
	if (!error && valid)
		check_counters(checker, recorded, &counted);
	return error;
}

static int check_workspace(struct checker *checker, const struct records *records,
			   const struct workspace *workspace)
{
	struct errbuf err = {""};
	set_place(checker, "workspace '%s'", workspace->name);
	if (workspace_check_name(workspace->name, &err))
		check_report(checker, "%s", err.text);
	check_has_name(checker, 0, workspace->name, workspace->id);
	if (workspace->base && !find_point(records, workspace->base))
		check_report(checker, "it is based on point %llu, which does not exist",
			     (unsigned long long)workspace->base);
	if (workspace->id >= store_peek(checker->repo->store, COUNTER_WORKSPACE) ||
	    workspace->generation >= store_peek(checker->repo->store, COUNTER_GENERATION))
		check_report(checker, "its id or generation was never given out");
	for (size_t i = 0; i < records->point_count; i++)
		if (records->points[i].generation == workspace->generation)
			check_report(checker, "it may change nodes that point '%s' shares (I1)",
				     records->points[i].name);
	return check_root(checker, workspace->root, &workspace->counters);
}

static int check_point(struct checker *checker, const struct records *records,
		       const struct point *point)
{
	struct errbuf err = {""};
	const struct workspace *workspace = find_workspace(records, point->workspace);
	set_place(checker, "point '%s@%s'", workspace ? workspace->name : "?", point->name);
	if (!workspace)
		check_report(checker, "it belongs to workspace %llu, which does not exist",
			     (unsigned long long)point->workspace);
	if (point_check_name(point->name, &err))
		check_report(checker, "%s", err.text);
	check_has_name(checker, point->workspace, point->name, point->id);
	if (point->parent && !find_point(records, point->parent))
		check_report(checker, "its parent %llu does not exist",
			     (unsigned long long)point->parent);
	if (point->id >= store_peek(checker->repo->store, COUNTER_POINT) ||
	    point->generation >= store_peek(checker->repo->store, COUNTER_GENERATION))
		check_report(checker, "its id or generation was never given out");
	const struct head_counters recorded = {
		.files = (int64_t)point->files,
		.directories = (int64_t)point->directories,
		.bytes = (int64_t)point->bytes,
	};
	int error = check_root(checker, point->root, &recorded);
	return error ? error : check_digests(checker, &point->digest);
}

static bool stopped(struct checker *checker, uint64_t done, uint64_t total)
{
	return checker->progress && checker->progress("check", done, total, checker->context);
}

static int check_all(struct checker *checker, const struct records *records, uint64_t *ret_total)
{
	uint64_t done = 0, total = records->workspace_count + records->point_count;
	int error = check_names(checker, records);
	for (size_t i = 0; !error && i < records->workspace_count; i++) {
		if (stopped(checker, done++, total))
			return -EINTR;
		error = check_workspace(checker, records, &records->workspaces[i]);
	}
	for (size_t i = 0; !error && i < records->point_count; i++) {
		if (stopped(checker, done++, total))
			return -EINTR;
		error = check_point(checker, records, &records->points[i]);
	}
	*ret_total = total;
	return error;
}

static int check_metadata(struct checker *checker, uint64_t *ret_total)
{
	struct records records = {0};
	int error = reader_acquire(checker->repo->store, &checker->reader);
	if (error)
		return error;
	error = read_records(checker, &records);
	if (!error)
		error = check_all(checker, &records, ret_total);
	records_release(&records);
	checker->reader = reader_release(checker->reader);
	checker->result.nodes = checker->nodes.count;
	return error;
}

/* ---- data ---- */

static int compare_ids(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
	return left < right ? -1 : left > right;
}

/* A chunk that went while we were looking (a collection beside us) is none of our business. */
static int check_chunk_data(struct checker *checker, uint64_t id, uint8_t *buffer)
{
	struct errbuf err = {""};
	size_t length;
	int error = chunk_read(checker->repo->store, id, buffer, CHUNK_MAX, &length, &err);
	if (error == 0 || error == -ESTALE || error == -ENOENT)
		return 0;
	if (error == -ENOMEM)
		return error;
	check_report(checker, "%s", *err.text ? err.text : strerror(-error));
	return idset_add(&checker->damaged, id) < 0 ? -ENOMEM : 0;
}

/* Every workspace and point has its say of which of its files are hit. */
static int name_damaged_files(struct checker *checker, const struct records *records)
{
	int error = 0;
	for (size_t i = 0; !error && i < records->workspace_count; i++) {
		set_place(checker, "workspace '%s'", records->workspaces[i].name);
		error = check_damaged_files(checker, records->workspaces[i].root,
					    &checker->damaged);
	}
	for (size_t i = 0; !error && i < records->point_count; i++) {
		const struct point *point = &records->points[i];
		const struct workspace *workspace = find_workspace(records, point->workspace);
		set_place(checker, "point '%s@%s'", workspace ? workspace->name : "?", point->name);
		error = check_damaged_files(checker, point->root, &checker->damaged);
	}
	return error;
}

static int check_damage_reach(struct checker *checker)
{
	struct records records = {0};
	int error = reader_acquire(checker->repo->store, &checker->reader);
	if (error)
		return error;
	/* Damaged records have been told. */
	const struct checker told = *checker;
	checker->report = NULL;
	error = read_records(checker, &records);
	checker->report = told.report;
	checker->result.errors = told.result.errors;
	if (!error)
		error = name_damaged_files(checker, &records);
	records_release(&records);
	checker->reader = reader_release(checker->reader);
	return error;
}

static int check_data(struct checker *checker, uint64_t done)
{
	uint64_t count = checker->result.chunks, total = done + count;
	uint8_t *buffer = malloc(CHUNK_MAX);
	int error = buffer ? 0 : -ENOMEM;
	/* In order of id, which is nearly the order in the packs. */
	if (count)
		qsort(checker->chunk_list, count, sizeof(checker->chunk_list[0]), compare_ids);
	for (uint64_t i = 0; !error && i < count; i++) {
		set_place(checker, "chunk %llu", (unsigned long long)checker->chunk_list[i]);
		error = i % 64 == 0 && stopped(checker, done + i, total) ? -EINTR : 0;
		if (!error)
			error = check_chunk_data(checker, checker->chunk_list[i], buffer);
	}
	free(buffer);
	return error;
}

int repo_check(struct repo *repo, bool read_data,
	       void (*report)(const char *finding, void *context), collect_progress *progress,
	       void *context, struct check_result *ret)
{
	struct checker checker = {
		.repo = repo,
		.report = report,
		.progress = progress,
		.context = context,
		.nodes = IDSET_INIT,
		.chunks = IDSET_INIT,
		.damaged = IDSET_INIT,
	};
	uint64_t roots = 0;
	int error = check_metadata(&checker, &roots);
	if (!error && read_data)
		error = check_data(&checker, roots);
	if (!error && checker.damaged.count)
		error = check_damage_reach(&checker);
	idset_release(&checker.damaged);
	idset_release(&checker.nodes);
	idset_release(&checker.chunks);
	free(checker.chunk_list);
	if (!error)
		*ret = checker.result;
	return error;
}
