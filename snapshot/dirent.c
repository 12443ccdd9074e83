/*
 * DIRENT and BACKREF items.
 *
 * An operation touches two or three items that must agree.  It therefore runs in two steps: all
 * items are copied out and edited in memory, where every refusal (name taken, no room, damage)
 * shows before anything changed; then the edits are put into the tree, and taken back in reverse
 * if one of them fails.  Taking back touches leaves that this operation has just made its own
 * (I1), so no damage can stop it; running out of memory a second time could.
 */
#include "snapshot/dirent.h"

#include <errno.h>
#include <string.h>

#include "index/util/bytes.h"
#include "index/util/hash.h"
#include "snapshot/inode.h"

/* A DIRENT value is a sequence of entries, a BACKREF value a list of hashes or a count. */
enum {
	ENTRY_INO = 0,
	ENTRY_TYPE = 8,
	ENTRY_NAME_LENGTH = 9,
	ENTRY_NAME = 10,
	BACKREF_HASH = 8,  /* listed: a multiple of this */
	BACKREF_COUNT = 4, /* counted: exactly this */
	BACKREF_LISTED_MAX = TREE_VALUE_MAX / BACKREF_HASH,
};

_Static_assert(ENTRY_NAME + NAME_MAX_BYTES <= TREE_VALUE_MAX, "any name fits an empty item");
_Static_assert(NAME_MAX_BYTES <= UINT8_MAX, "a name's length is one byte");
_Static_assert(BACKREF_COUNT % BACKREF_HASH != 0, "the two forms differ in length");
_Static_assert(BACKREF_LISTED_MAX == 237, "part of the format");

/* Hashes: 63 bits, so that a cookie is a positive off_t; the lowest are left for "." and "..",
 * the highest for "end of directory". */
enum { HASH_LOWEST = 16 };
#define HASH_HIGHEST ((uint64_t)INT64_MAX - 1)

static uint64_t hash_mask = INT64_MAX;

void dirent_test_limit_hash(unsigned bits)
{
	hash_mask = bits >= 63 ? (uint64_t)INT64_MAX : ((uint64_t)1 << bits) - 1;
}

uint64_t dirent_hash(const char *name, size_t length)
{
	uint64_t hash = (hash64(name, length) >> 1) & hash_mask;

	if (hash < HASH_LOWEST)
		return hash + HASH_LOWEST;
	return hash > HASH_HIGHEST ? HASH_HIGHEST : hash;
}

static int check_name(const char *name, size_t length)
{
	if (length > NAME_MAX_BYTES)
		return -ENAMETOOLONG;
	if (length == 0 || memchr(name, '/', length) || memchr(name, '\0', length))
		return -EINVAL;
	return 0;
}

static bool is_dots(const char *name, size_t length)
{
	return (length == 1 && name[0] == '.') || (length == 2 && name[0] == '.' && name[1] == '.');
}

/* One entry inside a value. */
struct slot {
	size_t start, end;
	struct dirent_name name;
	struct dirent_target target;
};

/* 1: `ret` is the entry at *position, which moves on; 0: the end. */
static int slot_next(const uint8_t *value, size_t length, size_t *position, struct slot *ret)
{
	const uint8_t *entry = value + *position;
	size_t left = length - *position;
	size_t name_length;

	if (left == 0)
		return 0;
	if (left < ENTRY_NAME)
		return -EUCLEAN;
	name_length = entry[ENTRY_NAME_LENGTH];
	if (name_length == 0 || left - ENTRY_NAME < name_length)
		return -EUCLEAN;
	ret->target.ino = get_le64(entry + ENTRY_INO);
	ret->target.type = entry[ENTRY_TYPE];
	if (ret->target.ino == 0)
		return -EUCLEAN;
	ret->name.text = (const char *)entry + ENTRY_NAME;
	ret->name.length = name_length;
	ret->start = *position;
	ret->end = *position + ENTRY_NAME + name_length;
	*position = ret->end;
	return 1;
}

/* 1: found; 0: not there. */
static int slot_find(const uint8_t *value, size_t length, const char *name, size_t name_length,
		     struct slot *ret)
{
	struct slot slot;
	size_t position = 0;
	int found;

	while ((found = slot_next(value, length, &position, &slot)) > 0) {
		if (slot.name.length == name_length &&
		    memcmp(slot.name.text, name, name_length) == 0) {
			*ret = slot;
			return 1;
		}
	}
	return found;
}

int dirent_decode(const struct tree_item *item, size_t *position, struct dirent_entry *ret)
{
	struct slot slot;
	int found = slot_next(item->value, item->length, position, &slot);

	if (found <= 0)
		return found;
	ret->name = slot.name;
	ret->target = slot.target;
	ret->cookie = item->key.offset;
	ret->last_of_cookie = slot.end == item->length;
	return 1;
}

/* An item while it is edited.  Length 0: there is no such item. */
struct edit {
	struct tree_key key;
	size_t before_length, length;
	uint8_t before[TREE_VALUE_MAX];
	uint8_t value[TREE_VALUE_MAX];
};

static int edit_load(struct edit *edit, struct tree *tree, struct reader *reader, uint64_t ino,
		     enum item_type type, uint64_t offset)
{
	struct tree_item item;
	int error;

	edit->key = (struct tree_key){ino, (uint8_t)type, offset};
	edit->before_length = edit->length = 0;
	error = tree_get(tree, reader, &edit->key, &item);
	if (error)
		return error == -ENOENT ? 0 : error;
	if (item.length == 0 || item.length > TREE_VALUE_MAX)
		return -EUCLEAN;
	memcpy(edit->before, item.value, item.length);
	memcpy(edit->value, item.value, item.length);
	edit->before_length = edit->length = item.length;
	return 0;
}

static int edit_put(const struct edit *edit, struct tree *tree, struct reader *reader)
{
	if (edit->length > 0)
		return tree_put(tree, reader, &edit->key, edit->value, edit->length);
	if (edit->before_length > 0)
		return tree_delete(tree, reader, &edit->key);
	return 0;
}

static void edit_undo(const struct edit *edit, struct tree *tree, struct reader *reader)
{
	if (edit->before_length > 0)
		(void)tree_put(tree, reader, &edit->key, edit->before, edit->before_length);
	else if (edit->length > 0)
		(void)tree_delete(tree, reader, &edit->key);
}

static int edits_apply(const struct edit *const *edits, int count, struct tree *tree,
		       struct reader *reader)
{
	for (int i = 0; i < count; i++) {
		int error = edit_put(edits[i], tree, reader);

		if (error) {
			while (i-- > 0)
				edit_undo(edits[i], tree, reader);
			return error;
		}
	}
	return 0;
}

/* Where `hash` stands in the sorted list, or would. */
static size_t backref_position(const uint8_t *value, size_t length, uint64_t hash)
{
	size_t at = 0;

	while (at < length && get_le64(value + at) < hash)
		at += BACKREF_HASH;
	return at;
}

static int backref_add(struct edit *edit, uint64_t hash)
{
	size_t at;

	if (edit->length == BACKREF_COUNT) {
		uint32_t count = get_le32(edit->value);

		if (count == UINT32_MAX)
			return -EMLINK;
		put_le32(edit->value, count + 1);
		return 0;
	}
	if (edit->length % BACKREF_HASH != 0)
		return -EUCLEAN;
	if (edit->length == BACKREF_LISTED_MAX * BACKREF_HASH) {
		put_le32(edit->value, BACKREF_LISTED_MAX + 1);
		edit->length = BACKREF_COUNT;
		return 0;
	}
	at = backref_position(edit->value, edit->length, hash);
	memmove(edit->value + at + BACKREF_HASH, edit->value + at, edit->length - at);
	put_le64(edit->value + at, hash);
	edit->length += BACKREF_HASH;
	return 0;
}

static int backref_drop(struct edit *edit, uint64_t hash)
{
	size_t at;

	if (edit->length == BACKREF_COUNT) {
		uint32_t count = get_le32(edit->value);

		if (count == 0)
			return -EUCLEAN;
		put_le32(edit->value, count - 1);
		if (count == 1)
			edit->length = 0;
		return 0;
	}
	if (edit->length % BACKREF_HASH != 0)
		return -EUCLEAN;
	at = backref_position(edit->value, edit->length, hash);
	if (at == edit->length || get_le64(edit->value + at) != hash)
		return -EUCLEAN;
	edit->length -= BACKREF_HASH;
	memmove(edit->value + at, edit->value + at + BACKREF_HASH, edit->length - at);
	return 0;
}

int dirent_lookup(struct tree *tree, struct reader *reader, uint64_t directory, const char *name,
		  size_t length, struct dirent_target *ret)
{
	struct tree_key key = {directory, ITEM_DIRENT, 0};
	struct tree_item item;
	struct slot slot;
	int error = check_name(name, length);

	if (error)
		return error;
	key.offset = dirent_hash(name, length);
	error = tree_get(tree, reader, &key, &item);
	if (error)
		return error;
	error = slot_find(item.value, item.length, name, length, &slot);
	if (error <= 0)
		return error ? error : -ENOENT;
	*ret = slot.target;
	return 0;
}

/* Loads the item of a name and finds the name in it: 1, 0 (not there), or an error. */
static int load_name(struct edit *edit, struct tree *tree, struct reader *reader,
		     uint64_t directory, const char *name, size_t length, struct slot *ret)
{
	int error = check_name(name, length);

	if (error)
		return error;
	error = edit_load(edit, tree, reader, directory, ITEM_DIRENT, dirent_hash(name, length));
	if (error)
		return error;
	return slot_find(edit->value, edit->length, name, length, ret);
}

static void put_target(uint8_t *entry, const struct dirent_target *target)
{
	put_le64(entry + ENTRY_INO, target->ino);
	entry[ENTRY_TYPE] = target->type;
}

int dirent_insert(struct tree *tree, struct reader *reader, uint64_t directory, const char *name,
		  size_t length, const struct dirent_target *target)
{
	struct edit names, backref;
	struct slot slot;
	uint8_t *entry;
	int error;

	if (is_dots(name, length) || target->ino == 0)
		return -EINVAL;
	error = load_name(&names, tree, reader, directory, name, length, &slot);
	if (error)
		return error > 0 ? -EEXIST : error;
	if (names.length + ENTRY_NAME + length > TREE_VALUE_MAX)
		return -ENOSPC;
	entry = names.value + names.length;
	put_target(entry, target);
	entry[ENTRY_NAME_LENGTH] = (uint8_t)length;
	memcpy(entry + ENTRY_NAME, name, length);
	names.length += ENTRY_NAME + length;

	error = edit_load(&backref, tree, reader, target->ino, ITEM_BACKREF, directory);
	if (!error)
		error = backref_add(&backref, names.key.offset);
	if (error)
		return error;
	return edits_apply((const struct edit *const[]){&names, &backref}, 2, tree, reader);
}

int dirent_remove(struct tree *tree, struct reader *reader, uint64_t directory, const char *name,
		  size_t length)
{
	struct edit names, backref;
	struct slot slot;
	int error = load_name(&names, tree, reader, directory, name, length, &slot);

	if (error <= 0)
		return error ? error : -ENOENT;
	memmove(names.value + slot.start, names.value + slot.end, names.length - slot.end);
	names.length -= slot.end - slot.start;

	error = edit_load(&backref, tree, reader, slot.target.ino, ITEM_BACKREF, directory);
	if (!error)
		error = backref_drop(&backref, names.key.offset);
	if (error)
		return error;
	return edits_apply((const struct edit *const[]){&names, &backref}, 2, tree, reader);
}

int dirent_replace(struct tree *tree, struct reader *reader, uint64_t directory, const char *name,
		   size_t length, const struct dirent_target *target)
{
	struct edit names, lost, gained;
	struct slot slot;
	int error;

	if (target->ino == 0)
		return -EINVAL;
	error = load_name(&names, tree, reader, directory, name, length, &slot);
	if (error <= 0)
		return error ? error : -ENOENT;
	put_target(names.value + slot.start, target);
	if (slot.target.ino == target->ino)
		return edits_apply((const struct edit *const[]){&names}, 1, tree, reader);

	error = edit_load(&lost, tree, reader, slot.target.ino, ITEM_BACKREF, directory);
	if (!error)
		error = backref_drop(&lost, names.key.offset);
	if (!error)
		error = edit_load(&gained, tree, reader, target->ino, ITEM_BACKREF, directory);
	if (!error)
		error = backref_add(&gained, names.key.offset);
	if (error)
		return error;
	return edits_apply((const struct edit *const[]){&names, &lost, &gained}, 3, tree, reader);
}

static bool is_dirent(const struct tree_item *item, uint64_t directory)
{
	return item->key.ino == directory && item->key.type == ITEM_DIRENT;
}

int dirent_is_empty(struct tree *tree, struct reader *reader, uint64_t directory, bool *ret_empty)
{
	const struct tree_key key = {directory, ITEM_DIRENT, 0};
	struct tree_cursor cursor;
	struct tree_item item;
	int error = tree_seek(tree, reader, &key, &cursor, &item);

	if (error && error != -ENOENT)
		return error;
	*ret_empty = error == -ENOENT || !is_dirent(&item, directory);
	return 0;
}

static int visit_entries(const struct tree_item *item,
			 int (*visit)(const struct dirent_entry *entry, void *context),
			 void *context)
{
	struct dirent_entry entry;
	size_t position = 0;
	int result;

	while ((result = dirent_decode(item, &position, &entry)) > 0) {
		result = visit(&entry, context);
		if (result)
			return result;
	}
	return result;
}

int dirent_iterate(struct tree *tree, struct reader *reader, uint64_t directory, uint64_t cookie,
		   int (*visit)(const struct dirent_entry *entry, void *context), void *context)
{
	const struct tree_key key = {directory, ITEM_DIRENT, cookie + 1};
	struct tree_cursor cursor;
	struct tree_item item;
	int error;

	if (cookie >= HASH_HIGHEST)
		return 0;
	error = tree_seek(tree, reader, &key, &cursor, &item);
	while (!error && is_dirent(&item, directory)) {
		int result = visit_entries(&item, visit, context);

		if (result)
			return result;
		error = tree_next(&cursor, &item);
	}
	return error == -ENOENT ? 0 : error;
}

int backref_decode(const struct tree_item *item, uint32_t *ret_names)
{
	if (item->length == BACKREF_COUNT) {
		uint32_t count = get_le32(item->value);

		if (count == 0)
			return -EUCLEAN;
		*ret_names = count;
		return 0;
	}
	if (item->length == 0 || item->length % BACKREF_HASH != 0)
		return -EUCLEAN;
	for (size_t at = BACKREF_HASH; at < item->length; at += BACKREF_HASH)
		if (get_le64(item->value + at) < get_le64(item->value + at - BACKREF_HASH))
			return -EUCLEAN;
	*ret_names = item->length / BACKREF_HASH;
	return 0;
}

struct backref_walk {
	struct tree *tree;
	struct reader *reader;
	uint64_t ino;
	uint64_t directory;
	uint64_t names; /* seen in this directory */
	int (*visit)(uint64_t directory, const struct dirent_name *name, void *context);
	void *context;
};

static int visit_if_ours(const struct dirent_entry *entry, void *context)
{
	struct backref_walk *walk = context;

	if (entry->target.ino != walk->ino)
		return 0;
	walk->names++;
	return walk->visit(walk->directory, &entry->name, walk->context);
}

/* All names of the inode in one directory, through the hashes that its backref lists. */
static int walk_listed(struct backref_walk *walk, const struct tree_item *backref)
{
	uint64_t previous = 0;

	for (size_t at = 0; at < backref->length; at += BACKREF_HASH) {
		struct tree_key key = {walk->directory, ITEM_DIRENT, get_le64(backref->value + at)};
		struct tree_item item;
		int result;

		if (key.offset == previous) /* two names of one hash were found together */
			continue;
		previous = key.offset;
		result = tree_get(walk->tree, walk->reader, &key, &item);
		if (!result)
			result = visit_entries(&item, visit_if_ours, walk);
		else if (result == -ENOENT)
			result = -EUCLEAN;
		if (result)
			return result;
	}
	return 0;
}

static int walk_backref(struct backref_walk *walk, const struct tree_item *backref)
{
	uint32_t expected;
	int result = backref_decode(backref, &expected);

	if (result)
		return result;
	walk->directory = backref->key.offset;
	walk->names = 0;
	if (backref->length == BACKREF_COUNT)
		result = dirent_iterate(walk->tree, walk->reader, walk->directory, 0, visit_if_ours,
					walk);
	else
		result = walk_listed(walk, backref);
	if (!result && walk->names != expected)
		return -EUCLEAN;
	return result;
}

int backref_iterate(struct tree *tree, struct reader *reader, uint64_t ino,
		    int (*visit)(uint64_t directory, const struct dirent_name *name, void *context),
		    void *context)
{
	struct backref_walk walk = {
		.tree = tree, .reader = reader, .ino = ino, .visit = visit, .context = context};
	const struct tree_key key = {ino, ITEM_BACKREF, 0};
	struct tree_cursor cursor;
	struct tree_item item;
	int error = tree_seek(tree, reader, &key, &cursor, &item);

	while (!error && item.key.ino == ino && item.key.type == ITEM_BACKREF) {
		int result = walk_backref(&walk, &item);

		if (result)
			return result;
		error = tree_next(&cursor, &item);
	}
	return error == -ENOENT ? 0 : error;
}

static int copy_first(uint64_t directory, const struct dirent_name *name, void *context)
{
	struct backref_name *first = context;

	first->directory = directory;
	first->length = name->length;
	memcpy(first->text, name->text, name->length);
	return 1;
}

int backref_first(struct tree *tree, struct reader *reader, uint64_t ino, struct backref_name *ret)
{
	int result = backref_iterate(tree, reader, ino, copy_first, ret);

	if (result > 0)
		return 0;
	return result ? result : -ENOENT;
}

int dirent_parent(struct tree *tree, struct reader *reader, uint64_t directory,
		  uint64_t *ret_parent)
{
	const struct tree_key key = {directory, ITEM_BACKREF, 0};
	struct tree_cursor cursor;
	struct tree_item item;
	int error;

	if (directory == ROOT_INO) {
		*ret_parent = ROOT_INO;
		return 0;
	}
	error = tree_seek(tree, reader, &key, &cursor, &item);
	if (error)
		return error;
	if (item.key.ino != directory || item.key.type != ITEM_BACKREF)
		return -ENOENT;
	*ret_parent = item.key.offset;
	return 0;
}
