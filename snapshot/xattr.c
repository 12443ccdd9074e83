/* XATTR items: a sequence of attributes whose names have the same hash. */
#include "snapshot/xattr.h"

#include <errno.h>
#include <string.h>

#include "index/chunk.h"
#include "index/util/bytes.h"
#include "snapshot/dirent.h"

/* index/FORMAT.md, "XATTR". */
enum {
	ENTRY_KIND = 0,		/* 1 byte: enum value_kind */
	ENTRY_NAME_LENGTH = 1,	/* 1 byte */
	ENTRY_VALUE_LENGTH = 2, /* 4 bytes: of the value, wherever it is */
	ENTRY_NAME = 6,		/* then the value, or the id of its chunk */
	CHUNK_ID_SIZE = 8,
	XATTR_NAME_MAX = 255,
	XATTR_VALUE_MAX = 65536,
	VALUE_HERE_MAX = 1024,
};

enum value_kind { VALUE_HERE = 0, VALUE_CHUNK = 1 };

_Static_assert(ENTRY_NAME + XATTR_NAME_MAX + VALUE_HERE_MAX <= TREE_VALUE_MAX, "fits an item");
_Static_assert((int)XATTR_VALUE_MAX <= (int)CHUNK_MAX, "a value is at most one chunk");

struct entry {
	size_t start, end; /* in the item */
	enum value_kind kind;
	const char *name; /* borrowed, not terminated */
	size_t name_length;
	const uint8_t *value; /* borrowed; for VALUE_HERE */
	size_t value_length;
	uint64_t chunk; /* for VALUE_CHUNK */
};

/* 1: `ret` is the entry at *position, which moves on; 0: the end. */
static int entry_next(const uint8_t *bytes, size_t length, size_t *position, struct entry *ret)
{
	const uint8_t *at = bytes + *position;
	size_t left = length - *position;
	size_t stored;

	if (left == 0)
		return 0;
	if (left < ENTRY_NAME || at[ENTRY_KIND] > VALUE_CHUNK)
		return -EUCLEAN;
	ret->kind = at[ENTRY_KIND];
	ret->name = (const char *)at + ENTRY_NAME;
	ret->name_length = at[ENTRY_NAME_LENGTH];
	ret->value_length = get_le32(at + ENTRY_VALUE_LENGTH);
	stored = ret->kind == VALUE_CHUNK ? CHUNK_ID_SIZE : ret->value_length;
	if (ret->name_length == 0 || ret->value_length > XATTR_VALUE_MAX ||
	    left - ENTRY_NAME < ret->name_length + stored)
		return -EUCLEAN;
	ret->value = at + ENTRY_NAME + ret->name_length;
	ret->chunk = ret->kind == VALUE_CHUNK ? get_le64(ret->value) : 0;
	if (ret->kind == VALUE_CHUNK && (ret->chunk == 0 || ret->value_length == 0))
		return -EUCLEAN;
	ret->start = *position;
	ret->end = *position + ENTRY_NAME + ret->name_length + stored;
	*position = ret->end;
	return 1;
}

/* 1: found; 0: not there. */
static int entry_find(const uint8_t *bytes, size_t length, const char *name, size_t name_length,
		      struct entry *ret)
{
	struct entry entry;
	size_t position = 0;
	int found;

	while ((found = entry_next(bytes, length, &position, &entry)) > 0) {
		if (entry.name_length == name_length &&
		    memcmp(entry.name, name, name_length) == 0) {
			*ret = entry;
			return 1;
		}
	}
	return found;
}

static int check_name(const char *name, size_t *ret_length)
{
	size_t length = strnlen(name, XATTR_NAME_MAX + 1);

	if (length == 0 || length > XATTR_NAME_MAX)
		return -ERANGE;
	*ret_length = length;
	return 0;
}

ssize_t xattr_get(struct tree *tree, struct reader *reader, uint64_t ino, const char *name,
		  void *buffer, size_t capacity)
{
	struct tree_key key = {ino, ITEM_XATTR, 0};
	struct tree_item item;
	struct entry entry;
	size_t length;
	int error = check_name(name, &length);

	if (error)
		return error;
	key.offset = dirent_hash(name, length);
	error = tree_get(tree, reader, &key, &item);
	if (error)
		return error == -ENOENT ? -ENODATA : error;
	error = entry_find(item.value, item.length, name, length, &entry);
	if (error <= 0)
		return error ? error : -ENODATA;
	if (capacity == 0)
		return (ssize_t)entry.value_length;
	if (capacity < entry.value_length)
		return -ERANGE;
	if (entry.kind == VALUE_HERE) {
		memcpy(buffer, entry.value, entry.value_length);
	} else {
		error = chunk_read(tree_store(tree), entry.chunk, buffer, capacity, &length, NULL);
		if (error)
			return error;
		if (length != entry.value_length)
			return -EUCLEAN;
	}
	return (ssize_t)entry.value_length;
}

/* An item while it is edited.  Length 0: there is no such item. */
struct edit {
	struct tree_key key;
	size_t length;
	uint8_t bytes[TREE_VALUE_MAX];
};

/* Loads the item of a name and finds the name in it: 1, 0 (not there), or an error. */
static int edit_load(struct edit *edit, struct tree *tree, struct reader *reader, uint64_t ino,
		     const char *name, size_t name_length, struct entry *ret)
{
	struct tree_item item;
	int error;

	edit->key = (struct tree_key){ino, ITEM_XATTR, dirent_hash(name, name_length)};
	edit->length = 0;
	error = tree_get(tree, reader, &edit->key, &item);
	if (error)
		return error == -ENOENT ? 0 : error;
	if (item.length > sizeof(edit->bytes))
		return -EUCLEAN;
	memcpy(edit->bytes, item.value, item.length);
	edit->length = item.length;
	return entry_find(edit->bytes, edit->length, name, name_length, ret);
}

static void edit_cut(struct edit *edit, const struct entry *entry)
{
	memmove(edit->bytes + entry->start, edit->bytes + entry->end, edit->length - entry->end);
	edit->length -= entry->end - entry->start;
}

static int edit_append(struct edit *edit, struct store *store, const char *name, size_t name_length,
		       const void *value, size_t length)
{
	uint8_t *at = edit->bytes + edit->length;
	size_t head = ENTRY_NAME + name_length;
	size_t room = sizeof(edit->bytes) - edit->length;
	bool here = length <= VALUE_HERE_MAX && room >= head + length;
	uint64_t chunk;
	int error;

	if (!here) {
		if (length == 0 || room < head + CHUNK_ID_SIZE)
			return -ENOSPC;
		error = chunk_store(store, value, length, &chunk, NULL);
		if (error)
			return error;
		put_le64(at + head, chunk);
	} else if (length > 0) {
		memcpy(at + head, value, length);
	}
	at[ENTRY_KIND] = here ? VALUE_HERE : VALUE_CHUNK;
	at[ENTRY_NAME_LENGTH] = (uint8_t)name_length;
	put_le32(at + ENTRY_VALUE_LENGTH, (uint32_t)length);
	memcpy(at + ENTRY_NAME, name, name_length);
	edit->length += head + (here ? length : CHUNK_ID_SIZE);
	return 0;
}

int xattr_set(struct tree *tree, struct reader *reader, uint64_t ino, const char *name,
	      const void *value, size_t length, enum xattr_mode mode)
{
	struct edit edit;
	struct entry entry;
	size_t name_length;
	int error = check_name(name, &name_length);

	if (error)
		return error;
	if (length > XATTR_VALUE_MAX)
		return -E2BIG;
	error = edit_load(&edit, tree, reader, ino, name, name_length, &entry);
	if (error < 0)
		return error;
	if (error > 0 && mode == XATTR_SET_CREATE)
		return -EEXIST;
	if (error == 0 && mode == XATTR_SET_REPLACE)
		return -ENODATA;
	if (error > 0)
		edit_cut(&edit, &entry);
	error = edit_append(&edit, tree_store(tree), name, name_length, value, length);
	if (error)
		return error;
	return tree_put(tree, reader, &edit.key, edit.bytes, edit.length);
}

int xattr_remove(struct tree *tree, struct reader *reader, uint64_t ino, const char *name)
{
	struct edit edit;
	struct entry entry;
	size_t name_length;
	int error = check_name(name, &name_length);

	if (error)
		return error;
	error = edit_load(&edit, tree, reader, ino, name, name_length, &entry);
	if (error <= 0)
		return error ? error : -ENODATA;
	edit_cut(&edit, &entry);
	if (edit.length == 0)
		return tree_delete(tree, reader, &edit.key);
	return tree_put(tree, reader, &edit.key, edit.bytes, edit.length);
}

/* Appends the names in one item to the list at *length; with capacity 0 only counts. */
static int list_item(const struct tree_item *item, char *buffer, size_t capacity, size_t *length)
{
	struct entry entry;
	size_t position = 0;
	int found;

	while ((found = entry_next(item->value, item->length, &position, &entry)) > 0) {
		if (capacity > 0) {
			if (entry.name_length + 1 > capacity - *length)
				return -ERANGE;
			memcpy(buffer + *length, entry.name, entry.name_length);
			buffer[*length + entry.name_length] = '\0';
		}
		*length += entry.name_length + 1;
	}
	return found;
}

ssize_t xattr_list(struct tree *tree, struct reader *reader, uint64_t ino, char *buffer,
		   size_t capacity)
{
	const struct tree_key key = {ino, ITEM_XATTR, 0};
	struct tree_cursor cursor;
	struct tree_item item;
	size_t length = 0;
	int error = tree_seek(tree, reader, &key, &cursor, &item);

	while (!error && item.key.ino == ino && item.key.type == ITEM_XATTR) {
		error = list_item(&item, buffer, capacity, &length);
		if (error)
			return error;
		error = tree_next(&cursor, &item);
	}
	if (error && error != -ENOENT)
		return error;
	return (ssize_t)length;
}

int xattr_chunks(const struct tree_item *item, int (*visit)(uint64_t chunk, void *context),
		 void *context)
{
	struct entry entry;
	size_t position = 0;
	int found;

	while ((found = entry_next(item->value, item->length, &position, &entry)) > 0) {
		int result = entry.kind == VALUE_CHUNK ? visit(entry.chunk, context) : 0;

		if (result)
			return result;
	}
	return found;
}
