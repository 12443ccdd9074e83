/* Bytes of records and names; snapshot/record_internal.h. */
#include "snapshot/record_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "index/util/bytes.h"

void record_writer_release(struct record_writer *writer)
{
	free(writer->data);
	*writer = (struct record_writer){0};
}

/* Room for `length` more bytes; false once there was an error. */
static bool record_reserve(struct record_writer *writer, size_t length)
{
	if (writer->error)
		return false;
	if (length > RECORD_MAX - writer->length) {
		writer->error = -E2BIG;
		return false;
	}
	if (writer->length + length <= writer->capacity)
		return true;
	size_t capacity = writer->capacity ? writer->capacity : 256;
	while (capacity < writer->length + length)
		capacity *= 2;
	uint8_t *data = realloc(writer->data, capacity);
	if (!data) {
		writer->error = -ENOMEM;
		return false;
	}
	writer->data = data;
	writer->capacity = capacity;
	return true;
}

void record_append(struct record_writer *writer, const void *data, size_t length)
{
	if (!length || !record_reserve(writer, length))
		return;
	memcpy(writer->data + writer->length, data, length);
	writer->length += length;
}

void record_append_u32(struct record_writer *writer, uint32_t number)
{
	uint8_t bytes[4];
	put_le32(bytes, number);
	record_append(writer, bytes, sizeof(bytes));
}

void record_append_u64(struct record_writer *writer, uint64_t number)
{
	uint8_t bytes[8];
	put_le64(bytes, number);
	record_append(writer, bytes, sizeof(bytes));
}

void record_append_field(struct record_writer *writer, uint16_t tag, const void *data,
			 size_t length)
{
	size_t begin = record_begin_field(writer, tag);
	record_append(writer, data, length);
	record_end_field(writer, begin);
}

size_t record_begin_field(struct record_writer *writer, uint16_t tag)
{
	size_t begin = writer->length;
	uint8_t header[RECORD_FIELD_HEADER] = {0};
	put_le16(header, tag);
	record_append(writer, header, sizeof(header));
	return begin;
}

void record_end_field(struct record_writer *writer, size_t begin)
{
	if (!writer->error)
		put_le32(writer->data + begin + 2,
			 (uint32_t)(writer->length - begin - RECORD_FIELD_HEADER));
}

void record_append_ids(struct record_writer *writer, uint16_t tag, const uint64_t *ids,
		       size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint8_t id[8];
		put_le64(id, ids[i]);
		record_append_field(writer, tag, id, sizeof(id));
	}
}

int record_fixed_length(struct bytes record, size_t minimum)
{
	if (record.length < minimum || record.length < 2)
		return -EUCLEAN;
	size_t length = get_le16(record.data);
	if (length < minimum || length > record.length)
		return -EUCLEAN;
	return (int)length;
}

int record_next_field(struct bytes record, size_t *position, struct record_field *ret)
{
	size_t left = record.length - *position;
	if (left == 0)
		return 0;
	if (left < RECORD_FIELD_HEADER)
		return -EUCLEAN;
	const uint8_t *field = (const uint8_t *)record.data + *position;
	size_t length = get_le32(field + 2);
	if (length > left - RECORD_FIELD_HEADER)
		return -EUCLEAN;
	*ret = (struct record_field){
		.tag = get_le16(field),
		.data = field + RECORD_FIELD_HEADER,
		.length = length,
	};
	*position += RECORD_FIELD_HEADER + length;
	return 1;
}

void record_keep_fixed(struct record_writer *writer, struct bytes old, size_t known)
{
	int length = record_fixed_length(old, known);
	if (length < 0 || (size_t)length == known || writer->error)
		return;
	assert(writer->length == known);
	record_append(writer, (const uint8_t *)old.data + known, (size_t)length - known);
	if (!writer->error)
		put_le16(writer->data, (uint16_t)length);
}

void record_keep_fields(struct record_writer *writer, struct bytes old, uint16_t first_unknown)
{
	int fixed = record_fixed_length(old, 2);
	if (fixed < 0)
		return;
	size_t position = (size_t)fixed;
	struct record_field field;
	while (record_next_field(old, &position, &field) == 1)
		if (field.tag >= first_unknown)
			record_append_field(writer, field.tag, field.data, field.length);
}

int record_take_id(const struct record_field *field, uint64_t **ids, size_t *count)
{
	if (field->length != 8)
		return -EUCLEAN;
	uint64_t *grown = reallocarray(*ids, *count + 1, sizeof(**ids));
	if (!grown)
		return -ENOMEM;
	grown[(*count)++] = get_le64(field->data);
	*ids = grown;
	return 0;
}

char *record_string(const uint8_t *data, size_t length)
{
	char *string = malloc(length + 1);
	if (string) {
		if (length)
			memcpy(string, data, length);
		string[length] = 0;
	}
	return string;
}

/* ---- keys ---- */

struct bytes record_id_key(struct record_key *key, uint64_t id)
{
	put_be64(key->data, id);
	key->length = 8;
	return (struct bytes){key->data, key->length};
}

struct bytes record_name_key(struct record_key *key, uint64_t workspace, const char *name,
			     size_t length)
{
	assert(length <= sizeof(key->data) - 8);
	put_be64(key->data, workspace);
	memcpy(key->data + 8, name, length);
	key->length = 8 + length;
	return (struct bytes){key->data, key->length};
}

static int id_from_value(struct bytes value, uint64_t *ret_id)
{
	if (value.length != 8)
		return -EUCLEAN;
	*ret_id = get_le64(value.data);
	return 0;
}

int record_find_name(struct reader *reader, uint64_t workspace, const char *name, size_t length,
		     uint64_t *ret_id)
{
	if (length > 255)
		return -ENOENT;
	struct record_key key;
	struct bytes value;
	int error = reader_record(reader, TABLE_NAMES,
				  record_name_key(&key, workspace, name, length), &value);
	return error ? error : id_from_value(value, ret_id);
}

int record_find_name_in_commit(struct commit *commit, uint64_t workspace, const char *name,
			       uint64_t *ret_id)
{
	size_t length = strlen(name);
	if (length > 255)
		return -ENOENT;
	struct record_key key;
	struct bytes value;
	int error = commit_record(commit, TABLE_NAMES,
				  record_name_key(&key, workspace, name, length), &value);
	return error ? error : id_from_value(value, ret_id);
}

int record_put_name(struct commit *commit, uint64_t workspace, const char *name, uint64_t id)
{
	struct record_key key;
	uint8_t value[8];
	put_le64(value, id);
	return commit_put_record(commit, TABLE_NAMES,
				 record_name_key(&key, workspace, name, strlen(name)),
				 (struct bytes){value, sizeof(value)});
}

int record_delete_name(struct commit *commit, uint64_t workspace, const char *name)
{
	struct record_key key;
	return commit_delete_record(commit, TABLE_NAMES,
				    record_name_key(&key, workspace, name, strlen(name)));
}
