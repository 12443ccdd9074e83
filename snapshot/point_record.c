/*
 * Point records (index/FORMAT.md, "Workspaces and points"):
 *
 *   TABLE_POINTS  id, 8 bytes big endian                    -> fixed part, fields
 *   TABLE_NAMES   workspace id, 8 bytes big endian; name    -> id, 8 bytes little endian
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "index/util/array.h"
#include "index/util/bytes.h"
#include "snapshot/point_internal.h"

static void release_holds(struct point *point)
{
	for (size_t i = 0; i < point->hold_count; i++) {
		free(point->holds[i].reason);
		free(point->holds[i].by);
	}
	free(point->holds);
}

static void release_anchors(struct point *point)
{
	for (size_t i = 0; i < point->anchor_count; i++) {
		free(point->anchors[i].name);
		free(point->anchors[i].value);
		free(point->anchors[i].command);
	}
	free(point->anchors);
}

void point_release(struct point *point)
{
	free(point->name);
	free(point->message);
	free(point->by);
	free(point->verdict_by);
	free(point->verdict_reason);
	for (size_t i = 0; i < point->tag_count; i++)
		free(point->tags[i]);
	free(point->tags);
	release_holds(point);
	release_anchors(point);
	free(point->run.command);
	for (size_t i = 0; i < point->step_count; i++)
		free(point->steps[i].name);
	free(point->steps);
	free(point->carried);
	*point = (struct point){0};
}

void points_free(struct point *points, size_t count)
{
	for (size_t i = 0; i < count; i++)
		point_release(&points[i]);
	free(points);
}

/* ---- encoding ---- */

static void encode_fixed(const struct point *point, struct point_fixed *ret)
{
	*ret = (struct point_fixed){
		.origin = (uint8_t)point->origin,
		.verdict = (uint8_t)point->verdict,
	};
	put_le16(ret->length, sizeof(*ret));
	put_le64(ret->workspace, point->workspace);
	put_le64(ret->parent, point->parent);
	put_le64(ret->root, point->root);
	put_le64(ret->generation, point->generation);
	put_le64(ret->created, (uint64_t)point->created_ns);
	put_le64(ret->files, point->files);
	put_le64(ret->directories, point->directories);
	put_le64(ret->bytes, point->bytes);
	put_le64(ret->changed_bytes, point->changed_bytes);
}

static void append_string(struct record_writer *writer, uint16_t tag, const char *string)
{
	if (string && *string)
		record_append_field(writer, tag, string, strlen(string));
}

static void append_hold(struct record_writer *writer, const struct point_hold *hold)
{
	struct hold_fixed fixed;
	put_le64(fixed.id, hold->id);
	put_le64(fixed.since, (uint64_t)hold->since_ns);
	put_le64(fixed.until, (uint64_t)hold->until_ns);
	put_le32(fixed.reason_length, (uint32_t)strlen(hold->reason));
	size_t begin = record_begin_field(writer, POINT_HOLD);
	record_append(writer, &fixed, sizeof(fixed));
	record_append(writer, hold->reason, strlen(hold->reason));
	record_append(writer, hold->by, strlen(hold->by));
	record_end_field(writer, begin);
}

static void append_pair(struct record_writer *writer, uint16_t tag, const char *name,
			const char *value)
{
	size_t begin = record_begin_field(writer, tag);
	record_append_u32(writer, (uint32_t)strlen(name));
	record_append(writer, name, strlen(name));
	record_append(writer, value, strlen(value));
	record_end_field(writer, begin);
}

static void append_verdict(struct record_writer *writer, const struct point *point)
{
	struct verdict_fixed fixed;
	if (!point->verdict_ns)
		return;
	put_le64(fixed.when, (uint64_t)point->verdict_ns);
	put_le32(fixed.by_length, (uint32_t)strlen(point->verdict_by));
	size_t begin = record_begin_field(writer, POINT_VERDICT);
	record_append(writer, &fixed, sizeof(fixed));
	record_append(writer, point->verdict_by, strlen(point->verdict_by));
	record_append(writer, point->verdict_reason, strlen(point->verdict_reason));
	record_end_field(writer, begin);
}

static void append_run(struct record_writer *writer, uint16_t tag, uint64_t elapsed_ns,
		       int exit_status, const char *text)
{
	struct run_fixed fixed;
	put_le64(fixed.elapsed, elapsed_ns);
	put_le32(fixed.exit_status, (uint32_t)exit_status);
	size_t begin = record_begin_field(writer, tag);
	record_append(writer, &fixed, sizeof(fixed));
	record_append(writer, text, strlen(text));
	record_end_field(writer, begin);
}

static void append_digest(struct record_writer *writer, const struct point_digest *digest)
{
	struct digest_fixed fixed;
	if (!digest->known)
		return;
	put_le64(fixed.root, digest->root);
	memcpy(fixed.bytes, digest->bytes, sizeof(fixed.bytes));
	record_append_field(writer, POINT_DIGEST, &fixed, sizeof(fixed));
}

/* In order of the tags. */
static void append_fields(struct record_writer *writer, const struct point *point)
{
	append_string(writer, POINT_NAME, point->name);
	append_string(writer, POINT_MESSAGE, point->message);
	append_string(writer, POINT_BY, point->by);
	for (size_t i = 0; i < point->tag_count; i++)
		record_append_field(writer, POINT_TAG, point->tags[i], strlen(point->tags[i]));
	for (size_t i = 0; i < point->hold_count; i++)
		append_hold(writer, &point->holds[i]);
	for (size_t i = 0; i < point->anchor_count; i++)
		append_pair(writer, POINT_ANCHOR, point->anchors[i].name, point->anchors[i].value);
	append_verdict(writer, point);
	for (size_t i = 0; i < point->anchor_count; i++)
		if (point->anchors[i].command)
			append_pair(writer, POINT_ANCHOR_COMMAND, point->anchors[i].name,
				    point->anchors[i].command);
	if (point->run.command)
		append_run(writer, POINT_RUN, point->run.elapsed_ns, point->run.exit_status,
			   point->run.command);
	for (size_t i = 0; i < point->step_count; i++)
		append_run(writer, POINT_STEP, point->steps[i].elapsed_ns,
			   point->steps[i].exit_status, point->steps[i].name);
	record_append_ids(writer, POINT_CARRIED, point->carried, point->carried_count);
	append_digest(writer, &point->digest);
}

void point_encode(const struct point *point, struct bytes old, struct record_writer *writer)
{
	struct point_fixed fixed;
	encode_fixed(point, &fixed);
	record_append(writer, &fixed, sizeof(fixed));
	record_keep_fixed(writer, old, sizeof(fixed));
	append_fields(writer, point);
	record_keep_fields(writer, old, POINT_FIRST_UNKNOWN);
}

/* ---- decoding ---- */

static int decode_fixed(const struct point_fixed *fixed, struct point *ret)
{
	if (fixed->origin > POINT_SAFETY || fixed->verdict > VERDICT_SUPERSEDED)
		return -EOPNOTSUPP;
	ret->origin = (enum point_origin)fixed->origin;
	ret->verdict = (enum verdict)fixed->verdict;
	ret->workspace = get_le64(fixed->workspace);
	ret->parent = get_le64(fixed->parent);
	ret->root = get_le64(fixed->root);
	ret->generation = get_le64(fixed->generation);
	ret->created_ns = (int64_t)get_le64(fixed->created);
	ret->files = get_le64(fixed->files);
	ret->directories = get_le64(fixed->directories);
	ret->bytes = get_le64(fixed->bytes);
	ret->changed_bytes = get_le64(fixed->changed_bytes);
	return 0;
}

/* A field's bytes as a string of its own; no zero bytes inside. */
static int take_string(const uint8_t *data, size_t length, char **ret)
{
	if (length && memchr(data, 0, length))
		return -EUCLEAN;
	char *string = record_string(data, length);
	if (!string)
		return -ENOMEM;
	free(*ret);
	*ret = string;
	return 0;
}

static int take_hold(const struct record_field *field, struct point_hold *hold)
{
	if (field->length < sizeof(struct hold_fixed))
		return -EUCLEAN;
	const struct hold_fixed *fixed = (const struct hold_fixed *)field->data;
	const uint8_t *text = field->data + sizeof(*fixed);
	size_t length = field->length - sizeof(*fixed);
	size_t reason_length = get_le32(fixed->reason_length);
	if (reason_length > length)
		return -EUCLEAN;
	hold->id = get_le64(fixed->id);
	hold->since_ns = (int64_t)get_le64(fixed->since);
	hold->until_ns = (int64_t)get_le64(fixed->until);
	int error = take_string(text, reason_length, &hold->reason);
	return error ? error : take_string(text + reason_length, length - reason_length, &hold->by);
}

/* Of POINT_ANCHOR and POINT_ANCHOR_COMMAND. */
static int take_pair(const struct record_field *field, char **ret_name, char **ret_value)
{
	if (field->length < 4)
		return -EUCLEAN;
	size_t name_length = get_le32(field->data);
	if (name_length > field->length - 4)
		return -EUCLEAN;
	int error = take_string(field->data + 4, name_length, ret_name);
	return error ? error
		     : take_string(field->data + 4 + name_length, field->length - 4 - name_length,
				   ret_value);
}

/* Its anchor came before.  A command without one is none of ours. */
static int take_anchor_command(const struct record_field *field, struct point *point)
{
	char *name = NULL, *command = NULL;
	int error = take_pair(field, &name, &command);
	for (size_t i = 0; !error && i < point->anchor_count; i++) {
		struct point_anchor *anchor = &point->anchors[i];
		if (anchor->command || strcmp(anchor->name, name) != 0)
			continue;
		anchor->command = command;
		command = NULL;
		break;
	}
	free(name);
	free(command);
	return error;
}

static int take_verdict(const struct record_field *field, struct point *point)
{
	if (field->length < sizeof(struct verdict_fixed))
		return -EUCLEAN;
	const struct verdict_fixed *fixed = (const struct verdict_fixed *)field->data;
	const uint8_t *text = field->data + sizeof(*fixed);
	size_t length = field->length - sizeof(*fixed);
	size_t by_length = get_le32(fixed->by_length);
	if (by_length > length)
		return -EUCLEAN;
	point->verdict_ns = (int64_t)get_le64(fixed->when);
	int error = take_string(text, by_length, &point->verdict_by);
	return error ? error
		     : take_string(text + by_length, length - by_length, &point->verdict_reason);
}

static int take_run(const struct record_field *field, uint64_t *ret_elapsed, int *ret_exit_status,
		    char **ret_text)
{
	if (field->length < sizeof(struct run_fixed))
		return -EUCLEAN;
	const struct run_fixed *fixed = (const struct run_fixed *)field->data;
	*ret_elapsed = get_le64(fixed->elapsed);
	*ret_exit_status = (int)get_le32(fixed->exit_status);
	return take_string(field->data + sizeof(*fixed), field->length - sizeof(*fixed), ret_text);
}

static int take_step(const struct record_field *field, struct point_step *step)
{
	return take_run(field, &step->elapsed_ns, &step->exit_status, &step->name);
}

static int take_digest(const struct record_field *field, struct point_digest *digest)
{
	if (field->length != sizeof(struct digest_fixed))
		return -EUCLEAN;
	const struct digest_fixed *fixed = (const struct digest_fixed *)field->data;
	digest->known = true;
	digest->root = get_le64(fixed->root);
	memcpy(digest->bytes, fixed->bytes, sizeof(digest->bytes));
	return 0;
}

static int take_field(const struct record_field *field, struct point *point)
{
	/* Counted before its contents are taken, so that a release finds what is half done. */
	switch (field->tag) {
	case POINT_NAME:
		return take_string(field->data, field->length, &point->name);
	case POINT_MESSAGE:
		return take_string(field->data, field->length, &point->message);
	case POINT_BY:
		return take_string(field->data, field->length, &point->by);
	case POINT_TAG:
		return take_string(field->data, field->length, &point->tags[point->tag_count++]);
	case POINT_HOLD:
		return take_hold(field, &point->holds[point->hold_count++]);
	case POINT_ANCHOR: {
		struct point_anchor *anchor = &point->anchors[point->anchor_count++];
		return take_pair(field, &anchor->name, &anchor->value);
	}
	case POINT_VERDICT:
		return take_verdict(field, point);
	case POINT_ANCHOR_COMMAND:
		return take_anchor_command(field, point);
	case POINT_RUN:
		return take_run(field, &point->run.elapsed_ns, &point->run.exit_status,
				&point->run.command);
	case POINT_STEP:
		return take_step(field, &point->steps[point->step_count++]);
	case POINT_CARRIED:
		return record_take_id(field, &point->carried, &point->carried_count);
	case POINT_DIGEST:
		return take_digest(field, &point->digest);
	default:
		return 0;
	}
}

/* Zeroed arrays for as many repeated fields as the record has. */
static int make_arrays(struct bytes value, size_t position, struct point *point)
{
	size_t tags = 0, holds = 0, anchors = 0, steps = 0;
	struct record_field field;
	int got;
	while ((got = record_next_field(value, &position, &field)) == 1) {
		tags += field.tag == POINT_TAG;
		holds += field.tag == POINT_HOLD;
		anchors += field.tag == POINT_ANCHOR;
		steps += field.tag == POINT_STEP;
	}
	if (got < 0)
		return got;
	if (tags && !(point->tags = calloc(tags, sizeof(point->tags[0]))))
		return -ENOMEM;
	if (holds && !(point->holds = calloc(holds, sizeof(point->holds[0]))))
		return -ENOMEM;
	if (anchors && !(point->anchors = calloc(anchors, sizeof(point->anchors[0]))))
		return -ENOMEM;
	if (steps && !(point->steps = calloc(steps, sizeof(point->steps[0]))))
		return -ENOMEM;
	return 0;
}

/* Texts that are never NULL. */
static int fill_texts(struct point *point)
{
	char **const texts[] = {&point->message, &point->by, &point->verdict_by,
				&point->verdict_reason};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (!*texts[i] && !(*texts[i] = record_string(NULL, 0)))
			return -ENOMEM;
	return 0;
}

static int take_fields(struct bytes value, size_t position, struct point *point)
{
	struct record_field field;
	int got;
	while ((got = record_next_field(value, &position, &field)) == 1) {
		int error = take_field(&field, point);
		if (error)
			return error;
	}
	if (got < 0)
		return got;
	if (!point->name || !*point->name)
		return -EUCLEAN;
	return fill_texts(point);
}

int point_decode(uint64_t id, struct bytes value, struct point *ret)
{
	int fixed = record_fixed_length(value, sizeof(struct point_fixed));
	if (fixed < 0)
		return fixed;
	struct point point = {.id = id};
	int error = decode_fixed(value.data, &point);
	if (!error)
		error = make_arrays(value, (size_t)fixed, &point);
	if (!error)
		error = take_fields(value, (size_t)fixed, &point);
	if (error) {
		point_release(&point);
		return error;
	}
	*ret = point;
	return 0;
}

int point_peek(struct bytes key, struct bytes value, uint64_t *ret_id,
	       const struct point_fixed **ret)
{
	if (key.length != 8 || record_fixed_length(value, sizeof(struct point_fixed)) < 0)
		return -EUCLEAN;
	*ret_id = get_be64(key.data);
	*ret = value.data;
	return 0;
}

int point_peek_name(struct bytes value, const char **ret, size_t *ret_length)
{
	int fixed = record_fixed_length(value, sizeof(struct point_fixed));
	size_t position = fixed < 0 ? 0 : (size_t)fixed;
	struct record_field field;
	if (fixed < 0)
		return fixed;
	while (record_next_field(value, &position, &field) == 1) {
		if (field.tag != POINT_NAME)
			continue;
		if (!field.length || field.length > 255 || memchr(field.data, 0, field.length))
			return -EUCLEAN;
		*ret = (const char *)field.data;
		*ret_length = field.length;
		return 0;
	}
	return -EUCLEAN;
}

/* ---- reading and writing ---- */

int point_read(struct reader *reader, uint64_t id, struct point *ret)
{
	struct record_key key;
	struct bytes value;
	int error = reader_record(reader, TABLE_POINTS, record_id_key(&key, id), &value);
	return error ? error : point_decode(id, value, ret);
}

int point_read_in_commit(struct commit *commit, uint64_t id, struct point *ret)
{
	struct record_key key;
	struct bytes value;
	int error = commit_record(commit, TABLE_POINTS, record_id_key(&key, id), &value);
	return error ? error : point_decode(id, value, ret);
}

int point_write(struct commit *commit, const struct point *point)
{
	struct record_key key;
	struct bytes old;
	int error = commit_record(commit, TABLE_POINTS, record_id_key(&key, point->id), &old);
	if (error == -ENOENT)
		old = (struct bytes){NULL, 0};
	else if (error)
		return error;
	struct record_writer writer = {0};
	point_encode(point, old, &writer);
	error = writer.error;
	if (!error)
		error = commit_put_record(commit, TABLE_POINTS, record_id_key(&key, point->id),
					  (struct bytes){writer.data, writer.length});
	record_writer_release(&writer);
	return error;
}

struct point_array {
	uint64_t workspace;  /* 0: of all */
	struct point *items; /* owned */
	size_t count, capacity;
};

static int collect_point(struct bytes key, struct bytes value, void *context)
{
	struct point_array *array = context;
	uint64_t id;
	const struct point_fixed *fixed;
	int error = point_peek(key, value, &id, &fixed);
	if (error)
		return error;
	if (array->workspace && get_le64(fixed->workspace) != array->workspace)
		return 0;
	struct point *items =
		array_reserve(array->items, array->count + 1, &array->capacity, sizeof(items[0]));
	if (!items)
		return -ENOMEM;
	array->items = items;
	error = point_decode(id, value, &array->items[array->count]);
	if (!error)
		array->count++;
	return error;
}

static int array_finish(struct point_array *array, int error, struct point **ret, size_t *ret_count)
{
	if (error) {
		points_free(array->items, array->count);
		return error;
	}
	*ret = array->items;
	*ret_count = array->count;
	return 0;
}

int points_read(struct reader *reader, uint64_t workspace, struct point **ret, size_t *ret_count)
{
	struct point_array array = {.workspace = workspace};
	int error = reader_records(reader, TABLE_POINTS, (struct bytes){NULL, 0}, collect_point,
				   &array);
	return array_finish(&array, error, ret, ret_count);
}

int points_read_in_commit(struct commit *commit, uint64_t workspace, struct point **ret,
			  size_t *ret_count)
{
	struct point_array array = {.workspace = workspace};
	int error = commit_records(commit, TABLE_POINTS, (struct bytes){NULL, 0}, collect_point,
				   &array);
	return array_finish(&array, error, ret, ret_count);
}
