/*
 * What must be true of a tree, beyond its nodes being sound (tree_check) and its items decoding
 * (item_check):
 *
 *   - items belong to an inode; names and contents suit its type
 *   - each name leads to an inode that has the name as a backref, and the other way round
 *   - link counts: a file has as many as names; a directory 2 and one more for each directory in
 *     it; an orphan 0.  Directories have one name and lead up to the root
 *   - an inode without a name is an orphan, and only such a one is
 *   - extents neither overlap nor reach beyond the size, which is also how much is inline;
 *     `allocated` is the sum of both
 *
 * Items of an inode lie together, so one pass in order of key sees each inode whole; what other
 * inodes say of it (names, directories in it) is kept by number until the pass is over.
 */
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "snapshot/check_internal.h"
#include "snapshot/dirent.h"
#include "snapshot/extent.h"
#include "snapshot/inode.h"
#include "snapshot/item.h"

struct seen {
	uint64_t ino;
	uint64_t parent; /* of a directory: where its name is */
	uint32_t names;	 /* entries that lead here */
	uint32_t backrefs;
	uint32_t subdirectories;
	uint32_t nlink;
	uint32_t mode;	   /* 0: no INODE item */
	uint8_t name_type; /* DT_* in those entries */
	bool orphan;
	bool rooted; /* a directory that leads up to the root */
};

/* The inode that the pass is in. */
struct current {
	size_t index; /* in seen[] */
	uint64_t ino; /* 0: none */
	struct inode_attr attr;
	bool decoded;
	bool has_xattrs, has_entries, has_backrefs;
	uint64_t extents, extents_end, inlined;
	bool inline_gap;
};

struct pass {
	struct checker *checker;
	struct tree *tree;   /* owned */
	struct u64map index; /* owned: ino -> index in seen[] + 1 */
	struct seen *seen;   /* owned */
	size_t count, capacity;
	struct current current;
	struct head_counters counters;
};

enum { REPORT_PATH = 512, REPORT_DEPTH = 64 };

/* The end of a path of the inode, found from right to left; "" where it has none.  Not
 * path_of_inode(), which a loop of directories keeps busy for long. */
static const char *end_of_path(struct pass *pass, uint64_t ino, char buffer[REPORT_PATH])
{
	size_t start = REPORT_PATH - 1;
	buffer[start] = 0;
	for (int depth = 0; ino != ROOT_INO; depth++) {
		struct backref_name name;
		if (backref_first(pass->tree, pass->checker->reader, ino, &name))
			return "";
		if (depth == REPORT_DEPTH || name.length + 4 > start) {
			start -= 3;
			memcpy(buffer + start, "...", 3);
			break;
		}
		start -= name.length;
		memcpy(buffer + start, name.text, name.length);
		buffer[--start] = '/';
		ino = name.directory;
	}
	return buffer[start] ? buffer + start : "/";
}

/* Reports something about an inode, with a path where it has one. */
static void report_inode(struct pass *pass, uint64_t ino, const char *finding)
{
	char buffer[REPORT_PATH];
	const char *path = end_of_path(pass, ino, buffer);
	if (*path)
		check_report(pass->checker, "%s (inode %llu): %s", path, (unsigned long long)ino,
			     finding);
	else
		check_report(pass->checker, "inode %llu: %s", (unsigned long long)ino, finding);
}

__attribute__((format(printf, 3, 4))) static void report_numbers(struct pass *pass, uint64_t ino,
								 const char *format, ...)
{
	char text[256];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	report_inode(pass, ino, text);
}

/* Finds or makes what is known of an inode. */
static int see(struct pass *pass, uint64_t ino, size_t *ret_index)
{
	uintptr_t known = (uintptr_t)u64map_get(&pass->index, ino);
	if (known) {
		*ret_index = known - 1;
		return 0;
	}
	if (pass->count == pass->capacity) {
		size_t capacity = pass->capacity ? pass->capacity * 2 : 256;
		struct seen *items = reallocarray(pass->seen, capacity, sizeof(items[0]));
		if (!items)
			return -ENOMEM;
		pass->seen = items;
		pass->capacity = capacity;
	}
	int error = u64map_put(&pass->index, ino, (void *)(uintptr_t)(pass->count + 1));
	if (error)
		return error;
	pass->seen[pass->count] = (struct seen){.ino = ino};
	*ret_index = pass->count++;
	return 0;
}

/* ---- one inode ---- */

static void check_contents(struct pass *pass, const struct current *current)
{
	const struct inode_attr *attr = &current->attr;
	bool is_inline = attr->flags & INODE_INLINE;
	if (current->extents && !S_ISREG(attr->mode))
		report_inode(pass, current->ino, "has extents but is no regular file");
	if (current->inlined && !S_ISREG(attr->mode) && !S_ISLNK(attr->mode))
		report_inode(pass, current->ino,
			     "has inline contents but is neither a file nor a link");
	if (current->inlined && !is_inline)
		report_inode(pass, current->ino, "has inline contents but is not marked so");
	if (current->inline_gap)
		report_inode(pass, current->ino, "its inline contents have a gap");
	if (is_inline && current->extents)
		report_inode(pass, current->ino, "is marked inline but has extents");
	if ((is_inline || S_ISLNK(attr->mode)) && current->inlined != attr->size)
		report_numbers(pass, current->ino, "%llu bytes are inline, the size is %llu",
			       (unsigned long long)current->inlined,
			       (unsigned long long)attr->size);
	if (current->extents_end > attr->size)
		report_numbers(pass, current->ino, "an extent ends at %llu, the size is %llu",
			       (unsigned long long)current->extents_end,
			       (unsigned long long)attr->size);
	if ((S_ISREG(attr->mode) || S_ISLNK(attr->mode)) &&
	    attr->allocated != current->extents + current->inlined)
		report_numbers(pass, current->ino, "allocated is %llu, its contents take %llu",
			       (unsigned long long)attr->allocated,
			       (unsigned long long)(current->extents + current->inlined));
}

static int count_name(uint64_t directory, const struct dirent_name *name, void *context)
{
	(void)directory;
	(void)name;
	++*(uint32_t *)context;
	return 0;
}

/* backref_iterate() finds each name in its directory, or says that it is not there. */
static int check_backrefs(struct pass *pass, const struct current *current)
{
	uint32_t names = 0;
	int error = backref_iterate(pass->tree, pass->checker->reader, current->ino, count_name,
				    &names);
	if (check_is_damage(error)) {
		report_numbers(pass, current->ino, "a backref has no name that goes with it");
		return 0;
	}
	pass->seen[current->index].backrefs = names;
	return error;
}

static int finish_inode(struct pass *pass)
{
	struct current *current = &pass->current;
	if (!current->ino)
		return 0;
	int error = current->has_backrefs ? check_backrefs(pass, current) : 0;
	if (!error && current->decoded) {
		if (current->has_entries && !S_ISDIR(current->attr.mode))
			report_inode(pass, current->ino, "has entries but is no directory");
		if (current->has_xattrs && !(current->attr.flags & INODE_HAS_XATTRS))
			report_inode(pass, current->ino,
				     "has extended attributes but is not marked so");
		check_contents(pass, current);
	}
	*current = (struct current){0};
	return error;
}

static int start_inode(struct pass *pass, uint64_t ino)
{
	int error = finish_inode(pass);
	if (!error)
		error = see(pass, ino, &pass->current.index);
	if (!error)
		pass->current.ino = ino;
	return error;
}

/* ---- items ---- */

static void take_inode(struct pass *pass, const struct tree_item *item)
{
	struct current *current = &pass->current;
	if (inode_decode(item->value, item->length, &current->attr))
		return;
	current->decoded = true;
	struct seen *seen = &pass->seen[current->index];
	seen->mode = current->attr.mode;
	seen->nlink = current->attr.nlink;
	if (current->attr.nlink == 0 || item->key.ino == ROOT_INO)
		return;
	if (S_ISDIR(current->attr.mode))
		pass->counters.directories++;
	else
		pass->counters.files++;
	if (S_ISREG(current->attr.mode))
		pass->counters.bytes += (int64_t)current->attr.size;
}

static int take_entries(struct pass *pass, const struct tree_item *item)
{
	struct dirent_entry entry;
	size_t position = 0;
	pass->current.has_entries = true;
	while (dirent_decode(item, &position, &entry) == 1) {
		size_t target;
		int error = see(pass, entry.target.ino, &target);
		if (error)
			return error;
		struct seen *seen = &pass->seen[target];
		if (seen->names && seen->name_type != entry.target.type)
			report_inode(pass, seen->ino, "its names disagree about its type");
		seen->name_type = entry.target.type;
		seen->names++;
		if (entry.target.type == DT_DIR) {
			seen->parent = item->key.ino;
			pass->seen[pass->current.index].subdirectories++;
		}
	}
	return 0;
}

static void take_extent(struct pass *pass, const struct tree_item *item)
{
	struct current *current = &pass->current;
	struct extent extent;
	if (extent_decode(item, &extent))
		return;
	if (extent.offset < current->extents_end)
		report_numbers(pass, current->ino, "extents overlap at %llu",
			       (unsigned long long)extent.offset);
	current->extents_end = extent.offset + extent.length;
	current->extents += extent.length;
}

static int take_orphan(struct pass *pass, const struct tree_item *item)
{
	size_t index;
	int error = item->key.offset ? see(pass, item->key.offset, &index) : 0;
	if (!error && item->key.offset)
		pass->seen[index].orphan = true;
	return error;
}

static int take_item(struct pass *pass, const struct tree_item *item)
{
	if (item->key.ino == 0)
		return item->key.type == ITEM_ORPHAN ? take_orphan(pass, item) : 0;
	if (item->key.ino != pass->current.ino) {
		int error = start_inode(pass, item->key.ino);
		if (error)
			return error;
	}
	struct current *current = &pass->current;
	switch (item->key.type) {
	case ITEM_INODE:
		take_inode(pass, item);
		break;
	case ITEM_BACKREF:
		current->has_backrefs = true;
		break;
	case ITEM_XATTR:
		current->has_xattrs = true;
		break;
	case ITEM_DIRENT:
		return take_entries(pass, item);
	case ITEM_INLINE:
		if (item->key.offset != current->inlined)
			current->inline_gap = true;
		current->inlined += item->length;
		break;
	case ITEM_EXTENT:
		take_extent(pass, item);
		break;
	case ITEM_DIGEST:
		report_inode(pass, current->ino, "has a digest, which has a tree of its own");
		break;
	default:
		break; /* item_check() has told */
	}
	return 0;
}

static int take_items(struct pass *pass)
{
	const struct tree_key first = {0};
	struct tree_cursor cursor;
	struct tree_item item;
	int error = tree_seek(pass->tree, pass->checker->reader, &first, &cursor, &item);
	while (!error) {
		error = take_item(pass, &item);
		if (!error)
			error = tree_next(&cursor, &item);
	}
	if (error != -ENOENT)
		return error;
	return finish_inode(pass);
}

/* ---- what inodes say of each other ---- */

static uint32_t expected_nlink(const struct seen *seen)
{
	if (seen->ino != ROOT_INO && seen->names == 0)
		return 0;
	return S_ISDIR(seen->mode) ? 2 + seen->subdirectories : seen->names;
}

static void check_names(struct pass *pass, const struct seen *seen)
{
	if (seen->names != seen->backrefs)
		report_numbers(pass, seen->ino, "%u names lead to it, but it has %u backrefs",
			       seen->names, seen->backrefs);
	if (seen->names && seen->name_type != IFTODT(seen->mode))
		report_inode(pass, seen->ino, "its name says another type than its mode");
	if (seen->ino == ROOT_INO) {
		if (!S_ISDIR(seen->mode) || seen->names || seen->orphan)
			report_inode(pass, seen->ino,
				     "the root must be a directory without a name");
		return;
	}
	if (S_ISDIR(seen->mode) && seen->names > 1)
		report_numbers(pass, seen->ino, "a directory with %u names", seen->names);
	if (seen->names == 0 && !seen->orphan)
		report_inode(pass, seen->ino, "has no name and is no orphan");
	if (seen->names > 0 && seen->orphan)
		report_inode(pass, seen->ino, "is an orphan but has a name");
}

static void check_seen(struct pass *pass, const struct seen *seen)
{
	if (!seen->mode) {
		report_numbers(pass, seen->ino, "there is no such inode, but %s",
			       seen->orphan  ? "an orphan item names it"
			       : seen->names ? "a name leads to it"
					     : "items of it");
		return;
	}
	check_names(pass, seen);
	if (seen->nlink != expected_nlink(seen))
		report_numbers(pass, seen->ino, "its link count is %u, but should be %u",
			       seen->nlink, expected_nlink(seen));
}

static struct seen *find_seen(struct pass *pass, uint64_t ino)
{
	uintptr_t known = ino ? (uintptr_t)u64map_get(&pass->index, ino) : 0;
	return known ? &pass->seen[known - 1] : NULL;
}

/* Goes up from a directory; each step leads to one that is known to be rooted in the end, or
 * there are more steps than directories. */
static void check_rooted(struct pass *pass, struct seen *start)
{
	size_t steps = 0;
	struct seen *at = start;
	while (at && !at->rooted && steps++ <= pass->count)
		at = at->ino == ROOT_INO ? NULL : find_seen(pass, at->parent);
	bool lost = at && !at->rooted;
	if (lost)
		report_inode(pass, start->ino, "lies in a directory that lies in itself");
	for (at = start; at && !at->rooted; at = find_seen(pass, at->parent))
		at->rooted = true;
}

static int check_inodes(struct pass *pass)
{
	struct seen *root = find_seen(pass, ROOT_INO);
	if (!root || !root->mode)
		check_report(pass->checker, "there is no root directory");
	for (size_t i = 0; i < pass->count; i++) {
		check_seen(pass, &pass->seen[i]);
		if (S_ISDIR(pass->seen[i].mode))
			check_rooted(pass, &pass->seen[i]);
	}
	return 0;
}

static int check_whole(struct checker *checker, uint64_t root, struct head_counters *ret_counters,
		       bool *ret_counted)
{
	struct pass pass = {.checker = checker, .index = U64MAP_INIT};
	int error = tree_open(checker->repo->store, root, 0, &pass.tree);
	if (error)
		return error;
	error = take_items(&pass);
	if (!error)
		error = check_inodes(&pass);
	if (!error) {
		*ret_counters = pass.counters;
		*ret_counted = true;
	}
	u64map_release(&pass.index);
	free(pass.seen);
	tree_close(pass.tree);
	return error;
}

/* ---- items that no other root has shown ---- */

static int new_chunk(struct checker *checker, uint64_t chunk)
{
	int added = idset_add(&checker->chunks, chunk);
	if (added <= 0)
		return added;
	if (checker->result.chunks == checker->chunk_capacity) {
		size_t capacity = checker->chunk_capacity ? checker->chunk_capacity * 2 : 1024;
		uint64_t *list = reallocarray(checker->chunk_list, capacity, sizeof(list[0]));
		if (!list)
			return -ENOMEM;
		checker->chunk_list = list;
		checker->chunk_capacity = capacity;
	}
	checker->chunk_list[checker->result.chunks++] = chunk;
	return 0;
}

struct item_check {
	struct checker *checker;
	const struct tree_item *item;
};

static int check_chunk(uint64_t chunk, void *context)
{
	struct item_check *check = context;
	struct checker *checker = check->checker;
	const struct tree_item *item = check->item;
	struct chunk_info info;
	struct extent extent;
	int error = reader_chunk(checker->reader, chunk, &info);
	if (error == -ENOENT || check_is_damage(error)) {
		check_report(checker, "inode %llu: chunk %llu is not in the index",
			     (unsigned long long)item->key.ino, (unsigned long long)chunk);
		return 0;
	}
	if (error)
		return error;
	if (item->key.type == ITEM_EXTENT && extent_decode(item, &extent) == 0 &&
	    (uint64_t)extent.chunk_offset + extent.length > info.raw_length)
		check_report(checker, "inode %llu: the extent at %llu reaches beyond chunk %llu",
			     (unsigned long long)item->key.ino,
			     (unsigned long long)item->key.offset, (unsigned long long)chunk);
	return new_chunk(checker, chunk);
}

static int check_item(const struct tree_item *item, void *context)
{
	struct item_check check = {context, item};
	check.checker->result.inodes += item->key.type == ITEM_INODE;
	int error = item_check(item);
	if (check_is_damage(error)) {
		check_report(check.checker, "inode %llu: item of type %u at %llu does not decode",
			     (unsigned long long)item->key.ino, item->key.type,
			     (unsigned long long)item->key.offset);
		return 0;
	}
	return error ? error : item_chunks(item, check_chunk, &check);
}

int check_tree(struct checker *checker, uint64_t root, struct head_counters *ret_counters,
	       bool *ret_counted)
{
	struct errbuf err = {""};
	*ret_counted = false;
	int error = tree_check(checker->repo->store, checker->reader, root, &checker->nodes,
			       check_item, checker, &err);
	if (check_is_damage(error)) {
		check_report(checker, "%s", *err.text ? err.text : strerror(-error));
		return 0;
	}
	if (error)
		return error;
	error = check_whole(checker, root, ret_counters, ret_counted);
	if (check_is_damage(error)) {
		check_report(checker, "a damaged node is in the way: %s", strerror(-error));
		return 0;
	}
	return error;
}
