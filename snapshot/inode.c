#include "snapshot/inode.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "index/util/bytes.h"

/*
 * (ino, INODE, 0): two bytes that say which fields follow, the mode, then those fields, little
 * endian (index/FORMAT.md, "INODE").  What most files have alike is left out: with 88 fixed bytes
 * these items were half of a tree.
 */
enum inode_field {
	FIELD_NLINK = 1 << 0,	  /* 4 bytes; else 1 */
	FIELD_UID = 1 << 1,	  /* 4; else 0 */
	FIELD_GID = 1 << 2,	  /* 4; else as the owner */
	FIELD_RDEV = 1 << 3,	  /* 4; else 0 */
	FIELD_SIZE_32 = 1 << 4,	  /* 4; else 0, or */
	FIELD_SIZE_64 = 1 << 5,	  /* 8 */
	FIELD_ALLOCATED = 1 << 6, /* 8; else as the size */
	FIELD_ATIME = 1 << 7,	  /* 8; else as the modification time, which is always there */
	FIELD_CTIME = 1 << 8,	  /* 8; else likewise */
	FIELD_BTIME = 1 << 9,	  /* 8; else as the change time */
	FIELDS_KNOWN = (1 << 10) - 1,
	FLAGS_SHIFT = 12, /* enum inode_flags above it */
	INODE_FLAGS_KNOWN = INODE_HAS_XATTRS | INODE_INLINE,
};

_Static_assert(2 + 2 + 4 * 4 + 8 + 8 + 4 * 8 == INODE_ITEM_MAX, "all fields at their longest");
_Static_assert(INODE_FLAGS_KNOWN << FLAGS_SHIFT <= UINT16_MAX, "the flags fit");

/* A time is 64 bits: 34 of seconds since 1901-12-13 20:45:52 UTC, 30 of nanoseconds. */
enum { NANOSECOND_BITS = 30 };
static const int64_t time_first = INT32_MIN;
static const int64_t time_last = ((int64_t)1 << 34) - 1 + INT32_MIN;

struct timespec inode_clamp_time(struct timespec time)
{
	if (time.tv_sec < time_first)
		return (struct timespec){time_first, 0};
	if (time.tv_sec > time_last)
		return (struct timespec){time_last, 0};
	return time;
}

static uint64_t time_pack(struct timespec time)
{
	time = inode_clamp_time(time);
	return (uint64_t)(time.tv_sec - time_first) << NANOSECOND_BITS | (uint64_t)time.tv_nsec;
}

static int time_unpack(uint64_t packed, struct timespec *ret)
{
	uint64_t nanoseconds = packed & (((uint64_t)1 << NANOSECOND_BITS) - 1);

	if (nanoseconds > 999999999)
		return -EUCLEAN;
	ret->tv_sec = (time_t)((int64_t)(packed >> NANOSECOND_BITS) + time_first);
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

/* Writing and reading fields one behind the other. */
struct field_writer {
	uint8_t *at;
	unsigned fields;
};

static void write_32(struct field_writer *writer, enum inode_field field, bool needed,
		     uint32_t number)
{
	if (!needed)
		return;
	writer->fields |= field;
	put_le32(writer->at, number);
	writer->at += 4;
}

static void write_64(struct field_writer *writer, enum inode_field field, bool needed,
		     uint64_t number)
{
	if (!needed)
		return;
	writer->fields |= field;
	put_le64(writer->at, number);
	writer->at += 8;
}

size_t inode_encode(const struct inode_attr *attr, uint8_t ret[INODE_ITEM_MAX])
{
	struct field_writer writer = {ret + 4, attr->flags << FLAGS_SHIFT};
	uint64_t mtime = time_pack(attr->mtime), ctime = time_pack(attr->ctime);
	uint64_t atime = time_pack(attr->atime), btime = time_pack(attr->btime);

	put_le16(ret + 2, (uint16_t)attr->mode);
	write_32(&writer, FIELD_NLINK, attr->nlink != 1, attr->nlink);
	write_32(&writer, FIELD_UID, attr->uid != 0, attr->uid);
	write_32(&writer, FIELD_GID, attr->gid != attr->uid, attr->gid);
	write_32(&writer, FIELD_RDEV, attr->rdev != 0, attr->rdev);
	write_32(&writer, FIELD_SIZE_32, attr->size && attr->size <= UINT32_MAX,
		 (uint32_t)attr->size);
	write_64(&writer, FIELD_SIZE_64, attr->size > UINT32_MAX, attr->size);
	write_64(&writer, FIELD_ALLOCATED, attr->allocated != attr->size, attr->allocated);
	write_64(&writer, 0, true, mtime);
	write_64(&writer, FIELD_ATIME, atime != mtime, atime);
	write_64(&writer, FIELD_CTIME, ctime != mtime, ctime);
	write_64(&writer, FIELD_BTIME, btime != ctime, btime);
	put_le16(ret, (uint16_t)writer.fields);
	return (size_t)(writer.at - ret);
}

struct field_reader {
	const uint8_t *at, *end;
	unsigned fields;
	bool overrun;
};

static uint64_t read_field(struct field_reader *reader, bool there, unsigned bytes,
			   uint64_t otherwise)
{
	if (!there)
		return otherwise;
	if ((size_t)(reader->end - reader->at) < bytes) {
		reader->overrun = true;
		return 0;
	}
	reader->at += bytes;
	return bytes == 4 ? get_le32(reader->at - 4) : get_le64(reader->at - 8);
}

static bool has(const struct field_reader *reader, unsigned field)
{
	return (reader->fields & field) != 0;
}

static int read_times(struct field_reader *reader, struct inode_attr *attr)
{
	uint64_t mtime = read_field(reader, true, 8, 0);
	uint64_t atime = read_field(reader, has(reader, FIELD_ATIME), 8, mtime);
	uint64_t ctime = read_field(reader, has(reader, FIELD_CTIME), 8, mtime);
	uint64_t btime = read_field(reader, has(reader, FIELD_BTIME), 8, ctime);

	if (time_unpack(mtime, &attr->mtime) || time_unpack(atime, &attr->atime) ||
	    time_unpack(ctime, &attr->ctime) || time_unpack(btime, &attr->btime))
		return -EUCLEAN;
	return 0;
}

int inode_decode(const uint8_t *bytes, size_t length, struct inode_attr *ret)
{
	struct inode_attr attr;

	if (length < 4)
		return -EUCLEAN;
	struct field_reader reader = {bytes + 4, bytes + length, get_le16(bytes), false};
	attr.mode = get_le16(bytes + 2);
	attr.flags = reader.fields >> FLAGS_SHIFT;
	attr.nlink = (uint32_t)read_field(&reader, has(&reader, FIELD_NLINK), 4, 1);
	attr.uid = (uint32_t)read_field(&reader, has(&reader, FIELD_UID), 4, 0);
	attr.gid = (uint32_t)read_field(&reader, has(&reader, FIELD_GID), 4, attr.uid);
	attr.rdev = (uint32_t)read_field(&reader, has(&reader, FIELD_RDEV), 4, 0);
	attr.size = read_field(&reader, has(&reader, FIELD_SIZE_32), 4, 0);
	attr.size = read_field(&reader, has(&reader, FIELD_SIZE_64), 8, attr.size);
	attr.allocated = read_field(&reader, has(&reader, FIELD_ALLOCATED), 8, attr.size);
	if (read_times(&reader, &attr) || reader.overrun || reader.at != reader.end)
		return -EUCLEAN;
	if (reader.fields & ~(FIELDS_KNOWN | (unsigned)INODE_FLAGS_KNOWN << FLAGS_SHIFT) ||
	    (has(&reader, FIELD_SIZE_32) && has(&reader, FIELD_SIZE_64)) || check_mode(attr.mode) ||
	    attr.size > INT64_MAX || attr.allocated > INT64_MAX)
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
	uint8_t value[INODE_ITEM_MAX];

	size_t length = inode_encode(attr, value);
	return tree_put(tree, reader, &key, value, length);
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
