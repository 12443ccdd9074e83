#include "snapshot/inode.h"

#include <errno.h>
#include <sys/stat.h>

#include "index/util/bytes.h"

/* (ino, INODE, 0); little endian: index/FORMAT.md, "INODE". */
enum {
	AT_MODE = 0,
	AT_NLINK = 4,
	AT_UID = 8,
	AT_GID = 12,
	AT_RDEV = 16,
	AT_FLAGS = 20,
	AT_SIZE = 24,
	AT_ALLOCATED = 32,
	AT_ATIME = 40, /* four times, TIME_SIZE bytes each */
	AT_MTIME = 52,
	AT_CTIME = 64,
	AT_BTIME = 76,
	TIME_SIZE = 12, /* s64 seconds, u32 nanoseconds */
	INODE_FLAGS_KNOWN = INODE_HAS_XATTRS | INODE_INLINE,
};

_Static_assert(AT_BTIME + TIME_SIZE == INODE_ITEM_SIZE, "INODE items are 88 bytes");
_Static_assert(AT_ALLOCATED + 8 == AT_ATIME, "times follow the numbers");

static void put_time(uint8_t *bytes, const struct timespec *time)
{
	put_le64(bytes, (uint64_t)(int64_t)time->tv_sec);
	put_le32(bytes + 8, (uint32_t)time->tv_nsec);
}

static int get_time(const uint8_t *bytes, struct timespec *ret)
{
	uint32_t nanoseconds = get_le32(bytes + 8);

	if (nanoseconds > 999999999)
		return -EUCLEAN;
	ret->tv_sec = (time_t)(int64_t)get_le64(bytes);
	ret->tv_nsec = (long)nanoseconds;
	return 0;
}

static int check_mode(uint32_t mode)
{
	if (mode & ~(uint32_t)(S_IFMT | 07777))
		return -EUCLEAN;
	switch (mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFLNK:
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		return 0;
	default:
		return -EUCLEAN;
	}
}

void inode_encode(const struct inode_attr *attr, uint8_t ret[INODE_ITEM_SIZE])
{
	put_le32(ret + AT_MODE, attr->mode);
	put_le32(ret + AT_NLINK, attr->nlink);
	put_le32(ret + AT_UID, attr->uid);
	put_le32(ret + AT_GID, attr->gid);
	put_le32(ret + AT_RDEV, attr->rdev);
	put_le32(ret + AT_FLAGS, attr->flags);
	put_le64(ret + AT_SIZE, attr->size);
	put_le64(ret + AT_ALLOCATED, attr->allocated);
	put_time(ret + AT_ATIME, &attr->atime);
	put_time(ret + AT_MTIME, &attr->mtime);
	put_time(ret + AT_CTIME, &attr->ctime);
	put_time(ret + AT_BTIME, &attr->btime);
}

int inode_decode(const uint8_t *bytes, size_t length, struct inode_attr *ret)
{
	struct inode_attr attr;

	if (length != INODE_ITEM_SIZE)
		return -EUCLEAN;
	attr.mode = get_le32(bytes + AT_MODE);
	attr.nlink = get_le32(bytes + AT_NLINK);
	attr.uid = get_le32(bytes + AT_UID);
	attr.gid = get_le32(bytes + AT_GID);
	attr.rdev = get_le32(bytes + AT_RDEV);
	attr.flags = get_le32(bytes + AT_FLAGS);
	attr.size = get_le64(bytes + AT_SIZE);
	attr.allocated = get_le64(bytes + AT_ALLOCATED);
	if (check_mode(attr.mode) || attr.flags & ~(uint32_t)INODE_FLAGS_KNOWN ||
	    attr.size > INT64_MAX || attr.allocated > INT64_MAX)
		return -EUCLEAN;
	if (get_time(bytes + AT_ATIME, &attr.atime) || get_time(bytes + AT_MTIME, &attr.mtime) ||
	    get_time(bytes + AT_CTIME, &attr.ctime) || get_time(bytes + AT_BTIME, &attr.btime))
		return -EUCLEAN;
	*ret = attr;
	return 0;
}

int inode_get(struct tree *tree, struct reader *reader, uint64_t ino, struct inode_attr *ret)
{
	const struct tree_key key = {ino, ITEM_INODE, 0};
	struct tree_item item;
	int error = tree_get(tree, reader, &key, &item);

	if (error)
		return error;
	return inode_decode(item.value, item.length, ret);
}

int inode_put(struct tree *tree, struct reader *reader, uint64_t ino, const struct inode_attr *attr)
{
	const struct tree_key key = {ino, ITEM_INODE, 0};
	uint8_t value[INODE_ITEM_SIZE];

	inode_encode(attr, value);
	return tree_put(tree, reader, &key, value, sizeof(value));
}

static int delete_types(struct tree *tree, struct reader *reader, uint64_t ino,
			enum item_type first, enum item_type last)
{
	const struct tree_key from = {ino, first, 0};
	const struct tree_key to = {ino, last, UINT64_MAX};
	int64_t count = tree_delete_range(tree, reader, &from, &to);

	return count < 0 ? (int)count : 0;
}

/* The INODE item goes last: where something fails on the way, the call can be repeated. */
int inode_delete(struct tree *tree, struct reader *reader, uint64_t ino)
{
	const struct tree_key key = {ino, ITEM_INODE, 0};
	int error;

	_Static_assert(ITEM_INLINE + 1 == ITEM_EXTENT, "contents are one range of keys");
	error = delete_types(tree, reader, ino, ITEM_INLINE, ITEM_EXTENT);
	if (!error)
		error = delete_types(tree, reader, ino, ITEM_XATTR, ITEM_XATTR);
	if (!error)
		error = tree_delete(tree, reader, &key);
	return error;
}

int orphan_add(struct tree *tree, struct reader *reader, uint64_t ino)
{
	const struct tree_key key = {0, ITEM_ORPHAN, ino};

	return tree_put(tree, reader, &key, "", 0);
}

int orphan_remove(struct tree *tree, struct reader *reader, uint64_t ino)
{
	const struct tree_key key = {0, ITEM_ORPHAN, ino};

	return tree_delete(tree, reader, &key);
}

int orphan_next(struct tree *tree, struct reader *reader, uint64_t after, uint64_t *ret_ino)
{
	const struct tree_key key = {0, ITEM_ORPHAN, after + 1};
	struct tree_cursor cursor;
	struct tree_item item;
	int error;

	if (after == UINT64_MAX)
		return -ENOENT;
	error = tree_seek(tree, reader, &key, &cursor, &item);
	if (error)
		return error;
	if (item.key.ino != 0 || item.key.type != ITEM_ORPHAN)
		return -ENOENT;
	*ret_ino = item.key.offset;
	return 0;
}
