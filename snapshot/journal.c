/*
 * The journal (index/FORMAT.md, "Journal"):
 *
 *   TABLE_JOURNAL  0, 8 bytes                  -> the tail: number and hash of the last entry
 *                  number, 8 bytes big endian  -> entry record, then its hash (32 bytes)
 *
 * The hash of an entry is the SHA-256 of its key and its record, and the record has the hash of
 * the entry before it.  The tail says where to go on without a walk, and is compared with
 * the entries when they are verified.
 */
#include "snapshot/journal.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "index/util/bytes.h"
#include "snapshot/journal_internal.h"
#include "snapshot/point_internal.h"
#include "snapshot/workspace_internal.h"

const char *journal_action_text(enum journal_action action)
{
	switch (action) {
#define JOURNAL_ACTION_TEXT(name, number, text)                                                    \
	case JOURNAL_##name:                                                                       \
		return text;
		JOURNAL_ACTIONS(JOURNAL_ACTION_TEXT)
#undef JOURNAL_ACTION_TEXT
	}
	return "unknown";
}

int journal_hash(uint64_t number, struct bytes record, uint8_t ret[JOURNAL_HASH_BYTES])
{
	uint8_t key[8];
	put_be64(key, number);
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	if (!context)
		return -ENOMEM;
	bool done = EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1 &&
		    EVP_DigestUpdate(context, key, sizeof(key)) == 1 &&
		    EVP_DigestUpdate(context, record.data, record.length) == 1 &&
		    EVP_DigestFinal_ex(context, ret, NULL) == 1;
	EVP_MD_CTX_free(context);
	return done ? 0 : -EIO;
}

/* ---- writing ---- */

static int tail_read(struct commit *commit, struct journal_tail *ret)
{
	struct record_key key;
	struct bytes value;
	int error = commit_record(commit, TABLE_JOURNAL, record_id_key(&key, 0), &value);
	if (error == -ENOENT) {
		*ret = (struct journal_tail){0};
		return 0;
	}
	return error ? error : journal_tail_decode(value, ret);
}

int journal_tail_decode(struct bytes value, struct journal_tail *ret)
{
	if (value.length != sizeof(*ret))
		return -EUCLEAN;
	memcpy(ret, value.data, sizeof(*ret));
	return 0;
}

static void append_text(struct record_writer *writer, uint16_t tag, const char *text)
{
	if (text && *text)
		record_append_field(writer, tag, text, strlen(text));
}

static void encode(const struct journal_note *note, const struct journal_tail *tail,
		   struct record_writer *writer)
{
	struct journal_fixed fixed = {0};
	char host[256] = "";
	put_le16(fixed.length, sizeof(fixed));
	put_le16(fixed.action, (uint16_t)note->action);
	put_le64(fixed.time, (uint64_t)point_now());
	put_le64(fixed.workspace, note->workspace);
	put_le64(fixed.point, note->point);
	memcpy(fixed.previous, tail->hash, sizeof(fixed.previous));
	record_append(writer, &fixed, sizeof(fixed));
	append_text(writer, JOURNAL_FIELD_BY, note->by);
	if (gethostname(host, sizeof(host) - 1) == 0)
		append_text(writer, JOURNAL_FIELD_HOST, host);
	append_text(writer, JOURNAL_FIELD_WORKSPACE, note->workspace_name);
	append_text(writer, JOURNAL_FIELD_POINT, note->point_name);
	append_text(writer, JOURNAL_FIELD_REASON, note->reason);
	for (size_t i = 0; i < note->detail_count; i++) {
		const struct point_pair *detail = &note->details[i];
		size_t begin = record_begin_field(writer, JOURNAL_FIELD_DETAIL);
		record_append_u32(writer, (uint32_t)strlen(detail->name));
		record_append(writer, detail->name, strlen(detail->name));
		record_append(writer, detail->value, strlen(detail->value));
		record_end_field(writer, begin);
	}
}

static int put_entry(struct commit *commit, const struct journal_note *note,
		     struct journal_tail *tail)
{
	struct record_writer writer = {0};
	struct record_key key;
	uint64_t number = get_le64(tail->number) + 1;
	encode(note, tail, &writer);
	int error = writer.error;
	if (!error)
		error = journal_hash(number, (struct bytes){writer.data, writer.length},
				     tail->hash);
	record_append(&writer, tail->hash, sizeof(tail->hash));
	if (!error)
		error = writer.error;
	if (!error)
		error = commit_put_record(commit, TABLE_JOURNAL, record_id_key(&key, number),
					  (struct bytes){writer.data, writer.length});
	record_writer_release(&writer);
	put_le64(tail->number, number);
	return error;
}

struct newest {
	uint64_t id, below; /* below 0: any */
};

static int visit_newest(struct bytes key, struct bytes value, void *context)
{
	struct newest *newest = context;
	uint64_t id;
	const struct point_fixed *fixed;
	int error = point_peek(key, value, &id, &fixed);
	if (error)
		return error;
	if (newest->below && id >= newest->below)
		return 0;
	newest->id = id;
	return 1;
}

/* The first entry says which points are older than the journal. */
static int put_begin(struct commit *commit, const struct journal_note *first,
		     struct journal_tail *tail)
{
	struct newest newest = {.below = first->action == JOURNAL_FREEZE ? first->point : 0};
	int error = commit_records_from(commit, TABLE_POINTS, (struct bytes){NULL, 0}, RECORDS_DOWN,
					visit_newest, &newest);
	const struct journal_note begin = {
		.action = JOURNAL_BEGIN, .by = first->by, .point = newest.id};
	return error < 0 ? error : put_entry(commit, &begin, tail);
}

static int put_note(struct commit *commit, const struct journal_note *note)
{
	struct journal_tail tail;
	struct record_key key;
	int error = tail_read(commit, &tail);
	if (!error && get_le64(tail.number) == 0)
		error = put_begin(commit, note, &tail);
	if (!error)
		error = put_entry(commit, note, &tail);
	if (!error)
		error = commit_put_record(commit, TABLE_JOURNAL, record_id_key(&key, 0),
					  (struct bytes){&tail, sizeof(tail)});
	return error;
}

int journal_append(struct repo *repo, struct commit *commit, const struct journal_note *note)
{
	struct journal_note full = *note;
	struct workspace workspace = {0};
	(void)repo;
	char *by = point_user(note->by);
	if (!by)
		return -ENOMEM;
	full.by = by;
	int error = 0;
	if (note->workspace && !note->workspace_name) {
		error = workspace_read_in_commit(commit, note->workspace, &workspace);
		full.workspace_name = workspace.name;
		if (error == -ENOENT) /* it is being deleted */
			error = 0;
	}
	if (!error)
		error = put_note(commit, &full);
	workspace_release(&workspace);
	free(by);
	return error;
}

/* ---- reading ---- */

void journal_entry_release(struct journal_entry *entry)
{
	free(entry->by);
	free(entry->host);
	free(entry->workspace_name);
	free(entry->point_name);
	free(entry->reason);
	for (size_t i = 0; i < entry->detail_count; i++) {
		free(entry->details[i].name);
		free(entry->details[i].value);
	}
	free(entry->details);
	*entry = (struct journal_entry){0};
}

static int take_text(const uint8_t *data, size_t length, char **ret)
{
	if (length && memchr(data, 0, length))
		return -EUCLEAN;
	char *text = record_string(data, length);
	if (!text)
		return -ENOMEM;
	free(*ret);
	*ret = text;
	return 0;
}

static int take_detail(const struct record_field *field, struct journal_entry *entry)
{
	if (field->length < 4 || get_le32(field->data) > field->length - 4)
		return -EUCLEAN;
	size_t name_length = get_le32(field->data);
	const uint8_t *name = field->data + 4, *value = name + name_length;
	struct point_pair *details =
		reallocarray(entry->details, entry->detail_count + 1, sizeof(details[0]));
	if (!details)
		return -ENOMEM;
	entry->details = details;
	struct point_pair *detail = &details[entry->detail_count++];
	*detail = (struct point_pair){NULL, NULL};
	int error = take_text(name, name_length, &detail->name);
	return error ? error : take_text(value, field->length - 4 - name_length, &detail->value);
}

static int take_field(const struct record_field *field, struct journal_entry *entry)
{
	switch (field->tag) {
	case JOURNAL_FIELD_BY:
		return take_text(field->data, field->length, &entry->by);
	case JOURNAL_FIELD_HOST:
		return take_text(field->data, field->length, &entry->host);
	case JOURNAL_FIELD_WORKSPACE:
		return take_text(field->data, field->length, &entry->workspace_name);
	case JOURNAL_FIELD_POINT:
		return take_text(field->data, field->length, &entry->point_name);
	case JOURNAL_FIELD_REASON:
		return take_text(field->data, field->length, &entry->reason);
	case JOURNAL_FIELD_DETAIL:
		return take_detail(field, entry);
	default:
		return 0;
	}
}

static int take_fields(struct bytes record, size_t position, struct journal_entry *entry)
{
	char **const texts[] = {&entry->by, &entry->host, &entry->workspace_name,
				&entry->point_name, &entry->reason};
	struct record_field field;
	int got, error = 0;
	while (!error && (got = record_next_field(record, &position, &field)) == 1)
		error = take_field(&field, entry);
	if (!error)
		error = got;
	for (size_t i = 0; !error && i < sizeof(texts) / sizeof(texts[0]); i++)
		if (!*texts[i] && !(*texts[i] = record_string(NULL, 0)))
			error = -ENOMEM;
	return error;
}

int journal_decode(uint64_t number, struct bytes value, struct journal_entry *ret)
{
	if (value.length < JOURNAL_HASH_BYTES)
		return -EUCLEAN;
	struct bytes record = {value.data, value.length - JOURNAL_HASH_BYTES};
	int length = record_fixed_length(record, sizeof(struct journal_fixed));
	if (length < 0)
		return length;
	const struct journal_fixed *fixed = record.data;
	struct journal_entry entry = {
		.number = number,
		.action = (enum journal_action)get_le16(fixed->action),
		.time_ns = (int64_t)get_le64(fixed->time),
		.workspace = get_le64(fixed->workspace),
		.point = get_le64(fixed->point),
	};
	memcpy(entry.previous, fixed->previous, sizeof(entry.previous));
	memcpy(entry.hash, (const uint8_t *)value.data + record.length, sizeof(entry.hash));
	int error = take_fields(record, (size_t)length, &entry);
	if (error) {
		journal_entry_release(&entry);
		return error;
	}
	*ret = entry;
	return 0;
}

struct reading {
	int (*visit)(const struct journal_entry *entry, void *context);
	void *context;
};

static int read_entry(struct bytes key, struct bytes value, void *context)
{
	const struct reading *reading = context;
	if (key.length != 8)
		return -EUCLEAN;
	struct journal_entry entry;
	int result = journal_decode(get_be64(key.data), value, &entry);
	if (result)
		return result;
	result = reading->visit(&entry, reading->context);
	journal_entry_release(&entry);
	return result;
}

int journal_read(struct repo *repo, uint64_t after,
		 int (*visit)(const struct journal_entry *entry, void *context), void *context)
{
	struct reading reading = {visit, context};
	struct record_key key;
	struct reader *reader;
	if (after == UINT64_MAX)
		return 0;
	int error = reader_acquire(repo->store, &reader);
	if (error)
		return error;
	error = reader_records_from(reader, TABLE_JOURNAL, record_id_key(&key, after + 1),
				    RECORDS_UP, read_entry, &reading);
	reader_release(reader);
	return error;
}

int journal_last(struct repo *repo, uint64_t *ret_number)
{
	struct journal_tail tail = {0};
	struct record_key key;
	struct bytes value;
	struct reader *reader;
	int error = reader_acquire(repo->store, &reader);
	if (error)
		return error;
	error = reader_record(reader, TABLE_JOURNAL, record_id_key(&key, 0), &value);
	if (!error)
		error = journal_tail_decode(value, &tail);
	reader_release(reader);
	if (error && error != -ENOENT)
		return error;
	*ret_number = get_le64(tail.number);
	return 0;
}
