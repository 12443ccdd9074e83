/*
 * Workspace records (index/FORMAT.md, "Workspaces and points"):
 *
 *   TABLE_WORKSPACES  id, 8 bytes big endian -> fixed part, fields
 *   TABLE_NAMES       0, 8 bytes; name       -> id, 8 bytes little endian
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "index/util/array.h"
#include "index/util/bytes.h"
#include "snapshot/record_internal.h"
#include "snapshot/workspace_internal.h"
#include "snapshot/workspace_record_internal.h"

/* The part of the fixed part that a head's commits change. */
static void put_state(uint8_t *fixed, const struct head_state *state)
{
	struct workspace_fixed *record = (struct workspace_fixed *)fixed;
	put_le64(record->root, state->root);
	put_le64(record->generation, state->generation);
	put_le64(record->base, state->base);
	put_le64(record->files, (uint64_t)state->counters.files);
	put_le64(record->directories, (uint64_t)state->counters.directories);
	put_le64(record->bytes, (uint64_t)state->counters.bytes);
	put_le64(record->changed_bytes, (uint64_t)state->counters.changed_bytes);
}

int workspace_put_state(struct commit *commit, uint64_t id, const struct head_state *state)
{
	struct record_key key;
	struct bytes old;
	int error = commit_record(commit, TABLE_WORKSPACES, record_id_key(&key, id), &old);
	if (error)
		return error == -ENOENT ? -EUCLEAN : error;
	if (record_fixed_length(old, sizeof(struct workspace_fixed)) < 0)
		return -EUCLEAN;
	struct record_writer writer = {0};
	record_append(&writer, old.data, old.length);
	error = writer.error;
	if (!error) {
		put_state(writer.data, state);
		error = commit_put_record(commit, TABLE_WORKSPACES, record_id_key(&key, id),
					  (struct bytes){writer.data, writer.length});
	}
	record_writer_release(&writer);
	return error;
}

int workspace_log_state(struct redo *redo, struct reader *reader, uint64_t id,
			const struct head_state *state)
{
	struct record_key key;
	struct bytes old;
	int error = reader_record(reader, TABLE_WORKSPACES, record_id_key(&key, id), &old);
	if (error)
		return error == -ENOENT ? -EUCLEAN : error;
	if (record_fixed_length(old, sizeof(struct workspace_fixed)) < 0)
		return -EUCLEAN;
	struct record_writer writer = {0};
	record_append(&writer, old.data, old.length);
	error = writer.error;
	if (!error) {
		put_state(writer.data, state);
		error = redo_put_record(redo, TABLE_WORKSPACES, record_id_key(&key, id),
					(struct bytes){writer.data, writer.length});
	}
	record_writer_release(&writer);
	return error;
}

static void workspace_encode(const struct workspace *workspace, struct bytes old,
			     struct record_writer *writer)
{
	struct workspace_fixed fixed = {0};
	put_le16(fixed.length, sizeof(fixed));
	put_le64(fixed.created, (uint64_t)workspace->created_ns);
	const struct head_state state = {
		.root = workspace->root,
		.generation = workspace->generation,
		.base = workspace->base,
		.counters = workspace->counters,
	};
	put_state((uint8_t *)&fixed, &state);
	record_append(writer, &fixed, sizeof(fixed));
	record_keep_fixed(writer, old, sizeof(fixed));
	record_append_field(writer, WORKSPACE_NAME, workspace->name, strlen(workspace->name));
	record_append_ids(writer, WORKSPACE_CARRIED, workspace->carried, workspace->carried_count);
	record_keep_fields(writer, old, WORKSPACE_FIRST_UNKNOWN);
}

int workspace_write(struct commit *commit, const struct workspace *workspace)
{
	struct record_key key;
	struct bytes old;
	int error =
		commit_record(commit, TABLE_WORKSPACES, record_id_key(&key, workspace->id), &old);
	if (error == -ENOENT)
		old = (struct bytes){NULL, 0};
	else if (error)
		return error;
	struct record_writer writer = {0};
	workspace_encode(workspace, old, &writer);
	error = writer.error;
	if (!error)
		error = commit_put_record(commit, TABLE_WORKSPACES,
					  record_id_key(&key, workspace->id),
					  (struct bytes){writer.data, writer.length});
	record_writer_release(&writer);
	return error;
}

static void decode_fixed(const struct workspace_fixed *fixed, struct workspace *ret)
{
	ret->root = get_le64(fixed->root);
	ret->generation = get_le64(fixed->generation);
	ret->base = get_le64(fixed->base);
	ret->created_ns = (int64_t)get_le64(fixed->created);
	ret->counters.files = (int64_t)get_le64(fixed->files);
	ret->counters.directories = (int64_t)get_le64(fixed->directories);
	ret->counters.bytes = (int64_t)get_le64(fixed->bytes);
	ret->counters.changed_bytes = (int64_t)get_le64(fixed->changed_bytes);
}

static int take_field(const struct record_field *field, struct workspace *workspace)
{
	if (field->tag == WORKSPACE_CARRIED)
		return record_take_id(field, &workspace->carried, &workspace->carried_count);
	if (field->tag != WORKSPACE_NAME || workspace->name)
		return 0;
	if (field->length == 0 || memchr(field->data, 0, field->length))
		return -EUCLEAN;
	workspace->name = record_string(field->data, field->length);
	return workspace->name ? 0 : -ENOMEM;
}

int workspace_decode(uint64_t id, struct bytes value, struct workspace *ret)
{
	int fixed = record_fixed_length(value, sizeof(struct workspace_fixed));
	if (fixed < 0)
		return fixed;
	struct workspace workspace = {.id = id};
	decode_fixed(value.data, &workspace);
	size_t position = (size_t)fixed;
	struct record_field field;
	int got, error = 0;
	while (!error && (got = record_next_field(value, &position, &field)) == 1)
		error = take_field(&field, &workspace);
	if (!error)
		error = got;
	if (!error && !workspace.name)
		error = -EUCLEAN;
	if (error) {
		workspace_release(&workspace);
		return error;
	}
	*ret = workspace;
	return 0;
}

void workspace_release(struct workspace *workspace)
{
	free(workspace->name);
	free(workspace->carried);
	*workspace = (struct workspace){0};
}

void workspaces_free(struct workspace *workspaces, size_t count)
{
	for (size_t i = 0; i < count; i++)
		workspace_release(&workspaces[i]);
	free(workspaces);
}

int workspace_read(struct reader *reader, uint64_t id, struct workspace *ret)
{
	struct record_key key;
	struct bytes value;
	int error = reader_record(reader, TABLE_WORKSPACES, record_id_key(&key, id), &value);
	return error ? error : workspace_decode(id, value, ret);
}

int workspace_read_in_commit(struct commit *commit, uint64_t id, struct workspace *ret)
{
	struct record_key key;
	struct bytes value;
	int error = commit_record(commit, TABLE_WORKSPACES, record_id_key(&key, id), &value);
	return error ? error : workspace_decode(id, value, ret);
}

int workspace_put_carried(struct commit *commit, uint64_t id, const uint64_t *carried, size_t count)
{
	struct workspace workspace;
	int error = workspace_read_in_commit(commit, id, &workspace);
	if (error)
		return error == -ENOENT ? -EUCLEAN : error;
	free(workspace.carried);
	workspace.carried = (uint64_t *)carried;
	workspace.carried_count = count;
	error = workspace_write(commit, &workspace);
	workspace.carried = NULL; /* the caller's */
	workspace_release(&workspace);
	return error;
}

int workspace_take_carried(struct commit *commit, uint64_t id, uint64_t **ret, size_t *ret_count)
{
	struct workspace workspace;
	int error = workspace_read_in_commit(commit, id, &workspace);
	if (error)
		return error == -ENOENT ? -EUCLEAN : error;
	uint64_t *carried = workspace.carried;
	size_t count = workspace.carried_count;
	workspace.carried = NULL;
	workspace_release(&workspace);
	if (count)
		error = workspace_put_carried(commit, id, NULL, 0);
	if (error) {
		free(carried);
		return error;
	}
	*ret = carried;
	*ret_count = count;
	return 0;
}

/* ---- all of them ---- */

struct workspace_array {
	struct workspace *items; /* owned */
	size_t count, capacity;
};

static int collect_workspace(struct bytes key, struct bytes value, void *context)
{
	struct workspace_array *array = context;
	if (key.length != 8)
		return -EUCLEAN;
	struct workspace *items =
		array_reserve(array->items, array->count + 1, &array->capacity, sizeof(items[0]));
	if (!items)
		return -ENOMEM;
	array->items = items;
	int error = workspace_decode(get_be64(key.data), value, &array->items[array->count]);
	if (!error)
		array->count++;
	return error;
}

static int array_finish(struct workspace_array *array, int error, struct workspace **ret,
			size_t *ret_count)
{
	if (error) {
		workspaces_free(array->items, array->count);
		return error;
	}
	*ret = array->items;
	*ret_count = array->count;
	return 0;
}

int workspaces_read(struct reader *reader, struct workspace **ret, size_t *ret_count)
{
	struct workspace_array array = {0};
	int error = reader_records(reader, TABLE_WORKSPACES, (struct bytes){NULL, 0},
				   collect_workspace, &array);
	return array_finish(&array, error, ret, ret_count);
}

int workspaces_read_in_commit(struct commit *commit, struct workspace **ret, size_t *ret_count)
{
	struct workspace_array array = {0};
	int error = commit_records(commit, TABLE_WORKSPACES, (struct bytes){NULL, 0},
				   collect_workspace, &array);
	return array_finish(&array, error, ret, ret_count);
}
