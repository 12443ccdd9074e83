/*
 * Point records (index/FORMAT.md, "Workspaces and points"):
 *
 *   TABLE_POINTS  id, 8 bytes big endian                    -> fixed part, fields
 *   TABLE_NAMES   workspace id, 8 bytes big endian; name    -> id, 8 bytes little endian
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "index/util/bytes.h"
#include "snapshot/point_internal.h"

void point_release(struct point *point)
{
	free(point->name);
	free(point->message);
	free(point->by);
	for (size_t i = 0; i < point->tag_count; i++)
		free(point->tags[i]);
	free(point->tags);
	for (size_t i = 0; i < point->hold_count; i++) {
		free(point->holds[i].reason);
		free(point->holds[i].by);
	}
	free(point->holds);
	for (size_t i = 0; i < point->anchor_count; i++) {
		free(point->anchors[i].name);
		free(point->anchors[i].value);
	}
	free(point->anchors);
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

static void append_anchor(struct record_writer *writer, const struct point_pair *anchor)
{
	size_t begin = record_begin_field(writer, POINT_ANCHOR);
	record_append_u32(writer, (uint32_t)strlen(anchor->name));
	record_append(writer, anchor->name, strlen(anchor->name));
	record_append(writer, anchor->value, strlen(anchor->value));
	record_end_field(writer, begin);
}

void point_encode(const struct point *point, struct bytes old, struct record_writer *writer)
{
	struct point_fixed fixed;
	encode_fixed(point, &fixed);
	record_append(writer, &fixed, sizeof(fixed));
	record_keep_fixed(writer, old, sizeof(fixed));
	append_string(writer, POINT_NAME, point->name);
	append_string(writer, POINT_MESSAGE, point->message);
	append_string(writer, POINT_BY, point->by);
	for (size_t i = 0; i < point->tag_count; i++)
		record_append_field(writer, POINT_TAG, point->tags[i], strlen(point->tags[i]));
	for (size_t i = 0; i < point->hold_count; i++)
		append_hold(writer, &point->holds[i]);
	for (size_t i = 0; i < point->anchor_count; i++)
		append_anchor(writer, &point->anchors[i]);
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

static int take_anchor(const struct record_field *field, struct point_pair *anchor)
{
	if (field->length < 4)
		return -EUCLEAN;
	size_t name_length = get_le32(field->data);
	if (name_length > field->length - 4)
		return -EUCLEAN;
	int error = take_string(field->data + 4, name_length, &anchor->name);
	return error ? error
		     : take_string(field->data + 4 + name_length, field->length - 4 - name_length,
				   &anchor->value);
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
	case POINT_ANCHOR:
		return take_anchor(field, &point->anchors[point->anchor_count++]);
	default:
		return 0;
	}
}

/* Zeroed arrays for as many repeated fields as the record has. */
static int make_arrays(struct bytes value, size_t position, struct point *point)
{
	size_t tags = 0, holds = 0, anchors = 0;
	struct record_field field;
	int got;
	while ((got = record_next_field(value, &position, &field)) == 1) {
		tags += field.tag == POINT_TAG;
		holds += field.tag == POINT_HOLD;
		anchors += field.tag == POINT_ANCHOR;
	}
	if (got < 0)
		return got;
	if (tags && !(point->tags = calloc(tags, sizeof(point->tags[0]))))
		return -ENOMEM;
	if (holds && !(point->holds = calloc(holds, sizeof(point->holds[0]))))
		return -ENOMEM;
	if (anchors && !(point->anchors = calloc(anchors, sizeof(point->anchors[0]))))
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
	if (!point->message && !(point->message = record_string(NULL, 0)))
		return -ENOMEM;
	if (!point->by && !(point->by = record_string(NULL, 0)))
		return -ENOMEM;
	return 0;
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
	if (array->count == array->capacity) {
		size_t capacity = array->capacity ? array->capacity * 2 : 16;
		struct point *items = reallocarray(array->items, capacity, sizeof(array->items[0]));
		if (!items)
			return -ENOMEM;
		array->items = items;
		array->capacity = capacity;
	}
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
