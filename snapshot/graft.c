/* Inodes from one tree into another; snapshot/graft.h. */
#include "snapshot/graft.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "snapshot/dirent.h"

static struct timespec now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_REALTIME, &time);
	return time;
}

static int64_t counted_bytes(const struct inode_attr *attr)
{
	return S_ISREG(attr->mode) ? (int64_t)attr->size : 0;
}

/* An inode comes into (1) or leaves (-1) the totals. */
static void count(const struct graft *graft, const struct inode_attr *attr, int sign)
{
	if (S_ISDIR(attr->mode))
		graft->counters->directories += sign;
	else
		graft->counters->files += sign;
	graft->counters->bytes += sign * counted_bytes(attr);
}

/* ---- items ---- */

/* Deletes the items of one type that `source` does not have. */
static int drop_items(const struct graft *graft, uint64_t source, uint64_t ino, uint8_t type)
{
	struct tree_key key = {ino, type, 0};
	for (;;) {
		struct tree_cursor cursor;
		struct tree_item item, other;
		int error = tree_seek(graft->to, graft->reader, &key, &cursor, &item);
		if (error)
			return error == -ENOENT ? 0 : error;
		if (item.key.ino != ino || item.key.type != type)
			return 0;
		key = item.key;
		const struct tree_key source_key = {source, type, key.offset};
		error = tree_get(graft->from, graft->reader, &source_key, &other);
		if (error == -ENOENT)
			error = tree_delete(graft->to, graft->reader, &key);
		if (error)
			return error;
		if (key.offset++ == UINT64_MAX)
			return 0;
	}
}

static int put_items(const struct graft *graft, uint64_t source, uint64_t ino, uint8_t type)
{
	const struct tree_key first = {source, type, 0};
	struct tree_cursor cursor;
	struct tree_item item;
	int error = tree_seek(graft->from, graft->reader, &first, &cursor, &item);
	while (!error && item.key.ino == source && item.key.type == type) {
		const struct tree_key key = {ino, type, item.key.offset};
		error = tree_put(graft->to, graft->reader, &key, item.value, item.length);
		if (!error)
			error = tree_next(&cursor, &item);
	}
	return error == -ENOENT ? 0 : error;
}

static int copy_items(const struct graft *graft, uint64_t source, uint64_t ino, uint8_t type)
{
	int error = drop_items(graft, source, ino, type);
	return error ? error : put_items(graft, source, ino, type);
}

static int copy_parts(const struct graft *graft, uint64_t source, uint64_t ino, unsigned parts)
{
	int error = 0;
	if (parts & GRAFT_CONTENTS) {
		error = copy_items(graft, source, ino, ITEM_INLINE);
		if (!error)
			error = copy_items(graft, source, ino, ITEM_EXTENT);
	}
	if (!error && (parts & GRAFT_XATTRS))
		error = copy_items(graft, source, ino, ITEM_XATTR);
	return error;
}

/* ---- inodes ---- */

static void take_flag(struct inode_attr *attr, const struct inode_attr *from, uint32_t flag)
{
	attr->flags = (attr->flags & ~flag) | (from->flags & flag);
}

static void merge_attr(struct inode_attr *attr, const struct inode_attr *from, unsigned parts)
{
	bool has_contents = S_ISREG(from->mode) || S_ISLNK(from->mode);
	if ((parts & GRAFT_CONTENTS) && has_contents) {
		attr->size = from->size;
		attr->allocated = from->allocated;
		attr->mtime = from->mtime;
		take_flag(attr, from, INODE_INLINE);
	}
	if (parts & GRAFT_ATTRIBUTES) {
		attr->mode = from->mode;
		attr->uid = from->uid;
		attr->gid = from->gid;
		attr->rdev = from->rdev;
		attr->atime = from->atime;
		if (!(parts & GRAFT_KEEP_MTIME) && (!has_contents || parts == GRAFT_ATTRIBUTES))
			attr->mtime = from->mtime;
	}
	if (parts & GRAFT_XATTRS)
		take_flag(attr, from, INODE_HAS_XATTRS);
	attr->ctime = now();
}

static int make_inode(const struct graft *graft, uint64_t source, uint64_t ino,
		      const struct inode_attr *from)
{
	struct inode_attr attr = *from;
	attr.nlink = S_ISDIR(attr.mode) ? 2 : 0;
	attr.ctime = now();
	int error = copy_parts(graft, source, ino, GRAFT_ALL);
	return error ? error : inode_put(graft->to, graft->reader, ino, &attr);
}

/* A directory without a name has the links of "." and of its subdirectories. */
static int is_named(const struct graft *graft, uint64_t ino, const struct inode_attr *attr)
{
	uint64_t parent;
	if (!S_ISDIR(attr->mode))
		return attr->nlink > 0;
	int error = dirent_parent(graft->to, graft->reader, ino, &parent);
	return error == -ENOENT ? 0 : error ? error : 1;
}

int graft_inode(const struct graft *graft, uint64_t source, uint64_t ino, unsigned parts)
{
	struct inode_attr from, attr;
	int error = inode_get(graft->from, graft->reader, source, &from);
	if (error)
		return error;
	error = inode_get(graft->to, graft->reader, ino, &attr);
	if (error == -ENOENT)
		return make_inode(graft, source, ino, &from);
	if (error)
		return error;
	if ((attr.mode & S_IFMT) != (from.mode & S_IFMT))
		return -EINVAL;
	int named = is_named(graft, ino, &attr);
	if (named < 0)
		return named;
	int64_t bytes = counted_bytes(&attr);
	error = copy_parts(graft, source, ino, parts);
	if (error)
		return error;
	merge_attr(&attr, &from, parts);
	if (named)
		graft->counters->bytes += counted_bytes(&attr) - bytes;
	if (parts & GRAFT_CONTENTS)
		graft->counters->changed_bytes += counted_bytes(&attr);
	return inode_put(graft->to, graft->reader, ino, &attr);
}

/* ---- names ---- */

static int touch_directory(const struct graft *graft, uint64_t directory, int subdirectories)
{
	struct inode_attr attr;
	int error = inode_get(graft->to, graft->reader, directory, &attr);
	if (error)
		return error;
	attr.nlink = (uint32_t)((int)attr.nlink + subdirectories);
	attr.mtime = attr.ctime = now();
	return inode_put(graft->to, graft->reader, directory, &attr);
}

static int forget_orphan(const struct graft *graft, uint64_t ino)
{
	int error = orphan_remove(graft->to, graft->reader, ino);
	return error == -ENOENT ? 0 : error;
}

int graft_link(const struct graft *graft, uint64_t directory, const char *name, size_t length,
	       uint64_t ino)
{
	struct inode_attr attr;
	int error = inode_get(graft->to, graft->reader, ino, &attr);
	if (error)
		return error;
	bool is_directory = S_ISDIR(attr.mode);
	int named = is_named(graft, ino, &attr);
	if (named < 0 || (named && is_directory))
		return named < 0 ? named : -EMLINK;
	const struct dirent_target target = {ino, (uint8_t)IFTODT(attr.mode)};
	error = dirent_insert(graft->to, graft->reader, directory, name, length, &target);
	if (!error)
		error = touch_directory(graft, directory, is_directory);
	if (error)
		return error;
	if (!is_directory)
		attr.nlink++;
	else if (attr.nlink < 2) /* removed while it was open */
		attr.nlink = 2;
	attr.ctime = now();
	if (!named)
		count(graft, &attr, 1);
	error = inode_put(graft->to, graft->reader, ino, &attr);
	return error || named ? error : forget_orphan(graft, ino);
}

int graft_unlink(const struct graft *graft, uint64_t directory, const char *name, size_t length)
{
	struct dirent_target target;
	struct inode_attr attr;
	int error = dirent_lookup(graft->to, graft->reader, directory, name, length, &target);
	if (!error)
		error = inode_get(graft->to, graft->reader, target.ino, &attr);
	if (!error)
		error = dirent_remove(graft->to, graft->reader, directory, name, length);
	if (!error)
		error = touch_directory(graft, directory, S_ISDIR(attr.mode) ? -1 : 0);
	if (error)
		return error;
	if (!S_ISDIR(attr.mode))
		attr.nlink--;
	attr.ctime = now();
	if (S_ISDIR(attr.mode) || attr.nlink == 0)
		count(graft, &attr, -1);
	return inode_put(graft->to, graft->reader, target.ino, &attr);
}

/* ---- deleting ---- */

static int first_entry(const struct dirent_entry *entry, void *context)
{
	*(struct dirent_entry *)context = *entry;
	return 1;
}

static int bury_file(const struct graft *graft, uint64_t ino)
{
	struct inode_attr attr;
	int error = inode_get(graft->to, graft->reader, ino, &attr);
	if (error || attr.nlink > 0)
		return error;
	error = inode_delete(graft->to, graft->reader, ino);
	return error ? error : forget_orphan(graft, ino);
}

/* Takes the first entry of a directory away; directories go onto the list.  1: there was one. */
static int take_entry(const struct graft *graft, uint64_t directory, uint64_t **list,
		      size_t *length)
{
	struct dirent_entry entry;
	int found = dirent_iterate(graft->to, graft->reader, directory, 0, first_entry, &entry);
	if (found <= 0)
		return found;
	char name[NAME_MAX_BYTES]; /* the entry dies with the change */
	memcpy(name, entry.name.text, entry.name.length);
	struct dirent_target target = entry.target;
	int error = graft_unlink(graft, directory, name, entry.name.length);
	if (error)
		return error;
	if (target.type != DT_DIR) {
		error = bury_file(graft, target.ino);
		return error ? error : 1;
	}
	uint64_t *grown = reallocarray(*list, *length + 1, sizeof(**list));
	if (!grown)
		return -ENOMEM;
	grown[(*length)++] = target.ino;
	*list = grown;
	return 1;
}

/* Directories without a name, one after the other; no recursion, however deep. */
static int bury_directories(const struct graft *graft, uint64_t **list, size_t length)
{
	while (length > 0) {
		uint64_t directory = (*list)[--length];
		int found;
		do
			found = take_entry(graft, directory, list, &length);
		while (found == 1);
		if (found < 0)
			return found;
		int error = inode_delete(graft->to, graft->reader, directory);
		if (error)
			return error;
	}
	return 0;
}

int graft_bury(const struct graft *graft, uint64_t ino)
{
	struct inode_attr attr;
	int error = inode_get(graft->to, graft->reader, ino, &attr);
	if (error)
		return error == -ENOENT ? 0 : error;
	int named = is_named(graft, ino, &attr);
	if (named)
		return named < 0 ? named : 0;
	if (!S_ISDIR(attr.mode))
		return bury_file(graft, ino);
	uint64_t *list = malloc(sizeof(*list));
	if (!list)
		return -ENOMEM;
	list[0] = ino;
	error = bury_directories(graft, &list, 1);
	free(list);
	return error;
}
