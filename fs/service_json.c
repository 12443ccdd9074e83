/*
 * Points, workspaces, times, names and errors as JSON.
 *
 * Every function that makes a value returns NULL where memory is out; packing with the "o" format
 * passes that on, so that only the outermost value has to be looked at (json_result).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/service_internal.h"

/* ---- names that are not UTF-8 ---- */

/* Length of the sequence that starts here: 0 where it is no UTF-8 (overlong forms, surrogates
 * and what lies beyond U+10FFFF are none). */
static size_t utf8_sequence(const uint8_t *bytes, size_t left)
{
	uint8_t first = bytes[0];
	if (first < 0x80)
		return 1;
	size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
	if (first < 0xc2 || first > 0xf4 || left < length)
		return 0;
	for (size_t i = 1; i < length; i++)
		if ((bytes[i] & 0xc0) != 0x80)
			return 0;
	uint8_t second = bytes[1];
	if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
	    (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f))
		return 0;
	return length;
}

/* U+10FF80 to U+10FFFF: they stand for bytes. */
static bool is_escape(const uint8_t *sequence, size_t length)
{
	return length == 4 && sequence[0] == 0xf4 && sequence[1] == 0x8f &&
	       (sequence[2] & 0xfe) == 0xbe;
}

char *service_encode_text(const char *bytes, size_t length)
{
	const uint8_t *from = (const uint8_t *)bytes;
	if (length > SIZE_MAX / 4 - 1)
		return NULL;
	char *text = malloc(length * 4 + 1);
	if (!text)
		return NULL;
	char *to = text;
	size_t i = 0;
	while (i < length) {
		size_t sequence = utf8_sequence(from + i, length - i);
		if (sequence && !is_escape(from + i, sequence)) {
			memcpy(to, from + i, sequence);
			to += sequence;
			i += sequence;
			continue;
		}
		uint8_t byte = from[i++];
		*to++ = (char)0xf4;
		*to++ = (char)0x8f;
		*to++ = (char)(0xbe | (byte >> 6 & 1));
		*to++ = (char)(0x80 | (byte & 0x3f));
	}
	*to = '\0';
	return text;
}

char *service_decode_text(const char *text)
{
	size_t length = strlen(text);
	char *bytes = malloc(length + 1);
	if (!bytes)
		return NULL;
	const uint8_t *from = (const uint8_t *)text;
	char *to = bytes;
	size_t i = 0;
	while (i < length) {
		if (length - i >= 4 && is_escape(from + i, 4)) {
			*to++ = (char)(0x80 | (from[i + 2] & 1) << 6 | (from[i + 3] & 0x3f));
			i += 4;
		} else {
			*to++ = text[i++];
		}
	}
	*to = '\0';
	return bytes;
}

/* ---- values ---- */

json_t *json_text_of(const char *bytes, size_t length)
{
	char *text = service_encode_text(bytes, length);
	json_t *json = text ? json_string(text) : NULL;
	free(text);
	return json;
}

json_t *json_text(const char *bytes)
{
	return bytes ? json_text_of(bytes, strlen(bytes)) : json_null();
}

json_t *json_number(uint64_t number)
{
	return json_integer((json_int_t)number);
}

json_t *json_hex(const uint8_t *bytes, size_t length)
{
	char *text = malloc(2 * length + 1);
	if (!text)
		return NULL;
	text[0] = '\0';
	for (size_t i = 0; i < length; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	json_t *json = json_string(text);
	free(text);
	return json;
}

/* RFC 3339 in the local zone, to the nanosecond. */
json_t *json_timespec(const struct timespec *time)
{
	struct tm local;
	char date[64], zone[16], text[128];

	if (!localtime_r(&time->tv_sec, &local))
		return json_null();
	if (!strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &local) ||
	    strftime(zone, sizeof(zone), "%z", &local) != 5)
		return json_null();
	snprintf(text, sizeof(text), "%s.%09ld%.3s:%s", date, time->tv_nsec, zone, zone + 3);
	return json_string(text);
}

json_t *json_time(int64_t ns)
{
	int64_t seconds = ns / 1000000000, rest = ns % 1000000000;
	if (rest < 0) {
		seconds--;
		rest += 1000000000;
	}
	struct timespec time = {.tv_sec = seconds, .tv_nsec = rest};
	return json_timespec(&time);
}

const char *json_file_type(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "link";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "socket";
	case S_IFCHR:
		return "char";
	case S_IFBLK:
		return "block";
	default:
		return "file";
	}
}

int json_result(json_t *json, json_t **ret)
{
	if (!json)
		return -ENOMEM;
	*ret = json;
	return 0;
}

/* ---- points ---- */

int names_load(struct repo *repo, struct names *ret)
{
	struct names names = {0};
	int error = workspace_list(repo, &names.workspaces, &names.count);
	if (!error)
		*ret = names;
	return error;
}

void names_release(struct names *names)
{
	workspaces_free(names->workspaces, names->count);
	*names = (struct names){0};
}

static const struct workspace *names_find(const struct names *names, uint64_t id)
{
	for (size_t i = 0; i < names->count; i++)
		if (names->workspaces[i].id == id)
			return &names->workspaces[i];
	return NULL;
}

const char *names_of_workspace(const struct names *names, uint64_t id)
{
	const struct workspace *workspace = names_find(names, id);
	return workspace ? workspace->name : NULL;
}

static json_t *tags_json(const struct point *point)
{
	json_t *array = json_array();
	for (size_t i = 0; array && i < point->tag_count; i++) {
		if (json_array_append_new(array, json_text(point->tags[i]))) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

static json_t *holds_json(const struct point *point)
{
	json_t *array = json_array();
	for (size_t i = 0; array && i < point->hold_count; i++) {
		const struct point_hold *hold = &point->holds[i];
		json_t *until = hold->until_ns ? json_time(hold->until_ns) : json_null();
		json_t *json =
			json_pack("{s:o, s:o, s:o, s:o, s:o}", "id", json_number(hold->id),
				  "reason", json_text(hold->reason), "by", json_text(hold->by),
				  "since", json_time(hold->since_ns), "until", until);
		if (json_array_append_new(array, json)) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

/* {name: value}, or {name: command} of those that have one. */
static json_t *anchors_json(const struct point *point, bool commands)
{
	json_t *object = json_object();
	for (size_t i = 0; object && i < point->anchor_count; i++) {
		const struct point_anchor *anchor = &point->anchors[i];
		const char *text = commands ? anchor->command : anchor->value;
		if (!text)
			continue;
		char *name = service_encode_text(anchor->name, strlen(anchor->name));
		int error = name ? json_object_set_new(object, name, json_text(text)) : -1;
		free(name);
		if (error) {
			json_decref(object);
			return NULL;
		}
	}
	return object;
}

static json_t *run_json(const struct point *point)
{
	const struct point_run *run = &point->run;
	if (!run->command)
		return json_null();
	return json_pack("{s:o, s:i, s:o}", "command", json_text(run->command), "exit_status",
			 run->exit_status, "elapsed_ns", json_number(run->elapsed_ns));
}

static json_t *steps_json(const struct point *point)
{
	json_t *array = json_array();
	for (size_t i = 0; array && i < point->step_count; i++) {
		const struct point_step *step = &point->steps[i];
		json_t *json = json_pack("{s:o, s:o, s:i}", "name", json_text(step->name),
					 "elapsed_ns", json_number(step->elapsed_ns), "exit_status",
					 step->exit_status);
		if (json_array_append_new(array, json)) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

/* The name of a point, or null: none, or gone meanwhile. */
static int point_name_json(struct repo *repo, uint64_t id, json_t **ret)
{
	if (!id)
		return json_result(json_null(), ret);
	struct point point = {0};
	int error = point_get(repo, id, &point);
	if (error == -ENOENT)
		return json_result(json_null(), ret);
	if (error)
		return error;
	json_t *json = json_text(point.name);
	point_release(&point);
	return json_result(json, ret);
}

/* Names of the points whose work came over, without those that are gone. */
static int carried_json(struct repo *repo, const struct point *point, json_t **ret)
{
	json_t *array = json_array(), *name;
	int error = array ? 0 : -ENOMEM;
	for (size_t i = 0; !error && i < point->carried_count; i++) {
		error = point_name_json(repo, point->carried[i], &name);
		if (!error && json_is_null(name))
			json_decref(name);
		else if (!error && json_array_append_new(array, name))
			error = -ENOMEM;
	}
	if (error)
		json_decref(array);
	else
		*ret = array;
	return error;
}

static json_t *ids_json(const uint64_t *ids, size_t count)
{
	json_t *array = json_array();
	for (size_t i = 0; array && i < count; i++) {
		if (json_array_append_new(array, json_number(ids[i]))) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

/* Who the point is, and what people said of it. */
static json_t *point_record_json(const struct point *point, const char *workspace, json_t *parent)
{
	bool judged = point->verdict_ns != 0;
	return json_pack(
		"{s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:s, s:o, s:o, s:o, s:o, "
		"s:o}",
		"name", json_text(point->name), "id", json_number(point->id), "workspace",
		json_text(workspace), "created", json_time(point->created_ns), "message",
		json_text(point->message ? point->message : ""), "by", json_text(point->by),
		"origin", point->origin == POINT_SAFETY ? "safety" : "frozen", "tags",
		tags_json(point), "holds", holds_json(point), "parent", parent, "parent_id",
		point->parent ? json_number(point->parent) : json_null(), "verdict",
		point_verdict_text(point->verdict), "verdict_by",
		json_text(judged ? point->verdict_by : NULL), "verdict_reason",
		json_text(judged ? point->verdict_reason : NULL), "verdict_time",
		judged ? json_time(point->verdict_ns) : json_null(), "anchors",
		anchors_json(point, false), "anchor_commands", anchors_json(point, true));
}

/* What is in it, and where that came from. */
static json_t *point_contents_json(const struct point *point, json_t *carried, bool current)
{
	const struct point_digest *digest = &point->digest;
	return json_pack(
		"{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b}", "files",
		json_number(point->files), "directories", json_number(point->directories), "bytes",
		json_number(point->bytes), "changed_bytes", json_number(point->changed_bytes),
		"run", run_json(point), "steps", steps_json(point), "carried", carried,
		"carried_ids", ids_json(point->carried, point->carried_count), "digest",
		digest->known ? json_hex(digest->bytes, sizeof(digest->bytes)) : json_null(),
		"current", current);
}

int point_json(struct repo *repo, const struct names *names, const struct point *point,
	       json_t **ret)
{
	const struct workspace *workspace = names_find(names, point->workspace);
	json_t *parent, *carried;
	int error = point_name_json(repo, point->parent, &parent);
	if (error)
		return error;
	error = carried_json(repo, point, &carried);
	if (error) {
		json_decref(parent);
		return error;
	}
	json_t *json = point_record_json(point, workspace ? workspace->name : NULL, parent);
	json_t *more = point_contents_json(point, carried,
					   workspace && workspace->base == point->id);
	if (!json || !more || json_object_update(json, more)) {
		json_decref(more);
		json_decref(json);
		return -ENOMEM;
	}
	json_decref(more);
	*ret = json;
	return 0;
}

int point_json_alone(struct repo *repo, const struct point *point, json_t **ret)
{
	struct names names;
	int error = names_load(repo, &names);
	if (error)
		return error;
	error = point_json(repo, &names, point, ret);
	names_release(&names);
	return error;
}

int point_json_by_id(struct repo *repo, uint64_t id, json_t **ret)
{
	struct point point = {0};
	int error = point_get(repo, id, &point);
	if (error)
		return error;
	error = point_json_alone(repo, &point, ret);
	point_release(&point);
	return error;
}

int workspace_json(struct repo *repo, const struct workspace *workspace, json_t **ret)
{
	const struct head_counters *counters = &workspace->counters;
	json_t *base;
	int error = point_name_json(repo, workspace->base, &base);
	if (error)
		return error;
	json_t *json = json_pack(
		"{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "name", json_text(workspace->name),
		"id", json_number(workspace->id), "created", json_time(workspace->created_ns),
		"base", base, "base_id",
		workspace->base ? json_number(workspace->base) : json_null(), "files",
		json_integer(counters->files), "directories",
		json_integer(counters->directories), "bytes", json_integer(counters->bytes),
		"changed_bytes", json_integer(counters->changed_bytes));
	return json_result(json, ret);
}

/* ---- errors ---- */

static const char *code_text(enum service_code code)
{
	switch (code) {
#define CODE_TEXT(name, text, number)                                                              \
	case SERVICE_##name:                                                                       \
		return text;
		SERVICE_CODES(CODE_TEXT)
#undef CODE_TEXT
	default:
		return "failed";
	}
}

/* The one place that knows which code an errno has. */
enum service_code service_code_of(int error)
{
	switch (-error) {
	case EBUSY:
	case ETXTBSY:
	case ESHUTDOWN:
		return SERVICE_BUSY;
	case ENOENT:
	case ESRCH:
		return SERVICE_NOT_FOUND;
	case ENOSPC:
	case EDQUOT:
		return SERVICE_NO_SPACE;
	case ECANCELED: /* a carry stopped */
		return SERVICE_CONFLICT;
	case EBADMSG:
	case EUCLEAN:
		return SERVICE_DAMAGED;
	case EINVAL:
	case ENAMETOOLONG:
		return SERVICE_USAGE;
	default:
		return SERVICE_FAILED;
	}
}

/* Takes `detail` over. */
json_t *service_error_detail(enum service_code code, const char *message, json_t *detail)
{
	json_t *json = json_pack("{s:{s:s, s:o, s:o}}", "error", "code", code_text(code), "message",
				 json_text(message), "detail", detail ? detail : json_null());
	return json ? json : json_null();
}

json_t *service_error(int error, const char *message)
{
	if (!message || !message[0])
		message = error ? strerror(-error) : "failed";
	json_t *detail = error == -ESHUTDOWN ? json_string(SERVICE_ENDING) : NULL;
	return service_error_detail(service_code_of(error), message, detail);
}

bool service_result_is_ending(const json_t *result)
{
	const json_t *detail = json_object_get(json_object_get(result, "error"), "detail");
	const char *text = json_string_value(detail);
	return text && strcmp(text, SERVICE_ENDING) == 0;
}

enum service_code service_result_code(const json_t *result)
{
	if (json_object_get(result, "ok"))
		return SERVICE_OK;
	const char *code =
		json_string_value(json_object_get(json_object_get(result, "error"), "code"));
	if (!code)
		return SERVICE_FAILED;
#define CODE_OF_TEXT(name, text, number)                                                           \
	if (strcmp(code, text) == 0)                                                               \
		return SERVICE_##name;
	SERVICE_CODES(CODE_OF_TEXT)
#undef CODE_OF_TEXT
	return SERVICE_FAILED;
}

uint64_t service_clock(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

int json_set_elapsed(json_t *object, uint64_t since)
{
	return json_object_set_new(object, "elapsed_ns", json_number(service_clock() - since))
		       ? -ENOMEM
		       : 0;
}
