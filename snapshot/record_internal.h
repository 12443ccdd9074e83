/*
 * Records of workspaces and points: a fixed part, then fields (tag u16, length u32, bytes), all
 * little endian.  The first two bytes say how long the fixed part is, so that it can grow.
 * What this build does not know is kept when a record is written again.
 */
#ifndef CAIRN_SNAPSHOT_RECORD_INTERNAL_H
#define CAIRN_SNAPSHOT_RECORD_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index/commit.h"
#include "index/reader.h"

enum { RECORD_FIELD_HEADER = 6, RECORD_MAX = 1 << 20 };

/* A growing buffer; the first error sticks, later appends do nothing. */
struct record_writer {
	uint8_t *data; /* owned */
	size_t length, capacity;
	int error; /* -ENOMEM, or -E2BIG past RECORD_MAX */
};

void record_writer_release(struct record_writer *writer);
void record_append(struct record_writer *writer, const void *data, size_t length);
void record_append_u32(struct record_writer *writer, uint32_t number);
void record_append_u64(struct record_writer *writer, uint64_t number);
void record_append_field(struct record_writer *writer, uint16_t tag, const void *data,
			 size_t length);
/* A field whose contents are appended between these two. */
size_t record_begin_field(struct record_writer *writer, uint16_t tag);
void record_end_field(struct record_writer *writer, size_t begin);

/* One field with an id each. */
void record_append_ids(struct record_writer *writer, uint16_t tag, const uint64_t *ids,
		       size_t count);

struct record_field {
	uint16_t tag;
	const uint8_t *data;
	size_t length;
};

/* The fixed part is complete and at least `minimum` long: its length. -EUCLEAN. */
int record_fixed_length(struct bytes record, size_t minimum);
/* The next field from *position on (start with the length of the fixed part).  1, 0 at the end,
 * -EUCLEAN. */
int record_next_field(struct bytes record, size_t *position, struct record_field *ret);

/* Copies from `old` what a build that knows a fixed part of `known` bytes and tags below
 * `first_unknown` cannot understand: the rest of the fixed part, and after that … */
void record_keep_fixed(struct record_writer *writer, struct bytes old, size_t known);
/* … the fields. */
void record_keep_fields(struct record_writer *writer, struct bytes old, uint16_t first_unknown);

/* Appends the id in a field of record_append_ids() to a malloc'ed array. */
int record_take_id(const struct record_field *field, uint64_t **ids, size_t *count);

/* A terminated copy; NULL where there is no memory. */
char *record_string(const uint8_t *data, size_t length);

/* Keys of the tables: ids are big endian, so that records come in order of id. */
struct record_key {
	uint8_t data[8 + 255];
	size_t length;
};
struct bytes record_id_key(struct record_key *key, uint64_t id);
/* TABLE_NAMES: workspace id (0: the name is a workspace's) and name.  The name has at most 255
 * bytes. */
struct bytes record_name_key(struct record_key *key, uint64_t workspace, const char *name,
			     size_t length);

/* The id that a name stands for: -ENOENT, -EUCLEAN. */
int record_find_name(struct reader *reader, uint64_t workspace, const char *name, size_t length,
		     uint64_t *ret_id);
int record_find_name_in_commit(struct commit *commit, uint64_t workspace, const char *name,
			       uint64_t *ret_id);
int record_put_name(struct commit *commit, uint64_t workspace, const char *name, uint64_t id);
int record_delete_name(struct commit *commit, uint64_t workspace, const char *name);

#endif
