/* From items that differ to inodes and names that differ, in one pass and constant memory. */
#include <errno.h>
#include <string.h>

#include "index/util/bytes.h"
#include "snapshot/diff.h"
#include "snapshot/diff_internal.h"
#include "snapshot/extent_internal.h"

struct collect {
	const struct diff_collector *collector;
	struct inode_change change; /* of the inode whose items are coming; ino 0: none yet */
};

static int flush(struct collect *collect)
{
	const struct diff_collector *collector = collect->collector;

	if (collect->change.ino == 0 || !collector->inode)
		return 0;
	return collector->inode(&collect->change, collector->context);
}

static int note_inode(struct inode_change *change, const struct tree_item *old_item,
		      const struct tree_item *new_item)
{
	struct inode_attr old_attr, new_attr;
	int error = 0;

	change->attributes = true;
	if (old_item)
		error = inode_decode(old_item->value, old_item->length, &old_attr);
	if (!error && new_item)
		error = inode_decode(new_item->value, new_item->length, &new_attr);
	if (error)
		return error;
	change->one_sided = !old_item || !new_item;
	change->resized = !change->one_sided && old_attr.size != new_attr.size;
	return 0;
}

static int note_extent(struct inode_change *change, const struct tree_item *item)
{
	struct extent extent;
	int error;

	if (!item)
		return 0;
	error = extent_decode(item, &extent);
	if (error)
		return error;
	if (extent.offset < change->from)
		change->from = extent.offset;
	if (extent_end(&extent) > change->to)
		change->to = extent_end(&extent);
	return 0;
}

/* The entry with this name in an item: 1, 0 (not there; also where there is no item), or error. */
static int find_entry(const struct tree_item *item, const struct dirent_name *name,
		      struct dirent_target *ret)
{
	struct dirent_entry entry;
	size_t position = 0;
	int found = 0;

	while (item && (found = dirent_decode(item, &position, &entry)) > 0) {
		if (entry.name.length == name->length &&
		    memcmp(entry.name.text, name->text, name->length) == 0) {
			*ret = entry.target;
			return 1;
		}
	}
	return found;
}

static int report_name(struct collect *collect, uint64_t directory,
		       const struct dirent_entry *entry, bool gained)
{
	const struct diff_collector *collector = collect->collector;
	const struct name_change change = {
		.ino = entry->target.ino,
		.directory = directory,
		.name = entry->name.text,
		.length = (uint8_t)entry->name.length,
		.gained = gained,
	};

	return collector->name ? collector->name(&change, collector->context) : 0;
}

/* Entries of `item` that are not the same in `other`. */
static int note_entries(struct collect *collect, const struct tree_item *item,
			const struct tree_item *other, bool gained)
{
	const struct diff_collector *collector = collect->collector;
	struct dirent_entry entry;
	struct dirent_target target;
	size_t position = 0;
	int more = 0;

	while (item && (more = dirent_decode(item, &position, &entry)) > 0) {
		int found = find_entry(other, &entry.name, &target);
		int result = found < 0 ? found : 0;

		if (found > 0 && target.ino == entry.target.ino && target.type == entry.target.type)
			continue;
		if (!result && (found == 0 || target.ino != entry.target.ino))
			result = report_name(collect, item->key.ino, &entry, gained);
		/* A name on both sides is told from the new one. */
		if (!result && collector->entry && (found == 0 || gained))
			result = collector->entry(item->key.ino, &entry.name, collector->context);
		if (result)
			return result;
	}
	return more;
}

static int visit_item(const struct tree_item *old_item, const struct tree_item *new_item,
		      void *context)
{
	struct collect *collect = context;
	struct inode_change *change = &collect->change;
	const struct tree_key *key = old_item ? &old_item->key : &new_item->key;
	int error = 0;

	if (key->ino == 0) /* ORPHAN */
		return 0;
	if (key->ino != change->ino) {
		error = flush(collect);
		*change = (struct inode_change){.ino = key->ino, .from = UINT64_MAX};
	}
	if (error)
		return error;
	switch (key->type) {
	case ITEM_INODE:
		return note_inode(change, old_item, new_item);
	case ITEM_XATTR:
		change->xattrs = true;
		return 0;
	case ITEM_DIRENT:
		change->entries = true;
		error = note_entries(collect, old_item, new_item, false);
		return error ? error : note_entries(collect, new_item, old_item, true);
	case ITEM_INLINE:
		change->contents = true;
		return 0;
	case ITEM_EXTENT:
		change->contents = true;
		error = note_extent(change, old_item);
		return error ? error : note_extent(change, new_item);
	default: /* backrefs mirror entries */
		return 0;
	}
}

int diff_collect(struct tree *old_tree, struct tree *new_tree, struct reader *reader,
		 const struct diff_collector *collector)
{
	struct collect collect = {.collector = collector};
	int error = tree_diff(old_tree, new_tree, reader, visit_item, &collect);

	return error ? error : flush(&collect);
}

static int kernel_inode(const struct inode_change *change, void *context)
{
	const struct diff_kernel_visitor *visitor = context;
	bool contents = change->contents || change->one_sided || change->resized || change->entries;

	if (!contents && !change->attributes && !change->xattrs)
		return 0;
	return visitor->inode(change->ino, contents, visitor->context);
}

static int kernel_entry(uint64_t directory, const struct dirent_name *name, void *context)
{
	const struct diff_kernel_visitor *visitor = context;

	return visitor->name(directory, name->text, name->length, visitor->context);
}

int diff_for_kernel(struct tree *old_tree, struct tree *new_tree, struct reader *reader,
		    const struct diff_kernel_visitor *visitor)
{
	/* The collector hands its context back as void *; nothing writes through it. */
	const struct diff_collector collector = {
		.inode = kernel_inode, .entry = kernel_entry, .context = (void *)visitor};

	return diff_collect(old_tree, new_tree, reader, &collector);
}
