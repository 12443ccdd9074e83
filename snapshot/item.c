#include "snapshot/item.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

#include "snapshot/digest_internal.h"
#include "snapshot/dirent.h"
#include "snapshot/extent.h"
#include "snapshot/inode.h"
#include "snapshot/xattr.h"

static bool is_entry_type(uint8_t type)
{
	return type == DT_REG || type == DT_DIR || type == DT_LNK || type == DT_CHR ||
	       type == DT_BLK || type == DT_FIFO || type == DT_SOCK;
}

static int check_dirent(const struct tree_item *item)
{
	struct dirent_entry entry;
	size_t position = 0;
	int found;

	if (item->length == 0)
		return -EUCLEAN;
	while ((found = dirent_decode(item, &position, &entry)) > 0) {
		const struct dirent_name *name = &entry.name;

		if (!is_entry_type(entry.target.type) || memchr(name->text, '/', name->length) ||
		    memchr(name->text, '\0', name->length) ||
		    dirent_hash(name->text, name->length) != item->key.offset)
			return -EUCLEAN;
	}
	return found;
}

static int ignore_chunk(uint64_t chunk, void *context)
{
	(void)chunk;
	(void)context;
	return 0;
}

static int check_inline(const struct tree_item *item)
{
	if (item->length == 0 || item->length > INLINE_PIECE ||
	    item->key.offset % INLINE_PIECE != 0 || item->key.offset >= SYMLINK_MAX)
		return -EUCLEAN;
	return 0;
}

int item_check(const struct tree_item *item)
{
	struct inode_attr attr;
	struct extent extent;
	struct digest digest;
	uint32_t names;

	if ((item->key.ino == 0) != (item->key.type == ITEM_ORPHAN))
		return -EUCLEAN;
	switch (item->key.type) {
	case ITEM_INODE:
		if (item->key.offset != 0)
			return -EUCLEAN;
		return inode_decode(item->value, item->length, &attr);
	case ITEM_BACKREF:
		return item->key.offset == 0 ? -EUCLEAN : backref_decode(item, &names);
	case ITEM_XATTR:
		return item->length == 0 ? -EUCLEAN : xattr_chunks(item, ignore_chunk, NULL);
	case ITEM_DIRENT:
		return check_dirent(item);
	case ITEM_INLINE:
		return check_inline(item);
	case ITEM_EXTENT:
		return extent_decode(item, &extent);
	case ITEM_DIGEST:
		return digest_decode(item, &digest);
	case ITEM_ORPHAN:
		return item->length == 0 && item->key.offset != 0 ? 0 : -EUCLEAN;
	default:
		return -EUCLEAN;
	}
}

int item_chunks(const struct tree_item *item, int (*visit)(uint64_t chunk, void *context),
		void *context)
{
	struct extent extent;
	int error;

	if (item->key.type == ITEM_XATTR)
		return xattr_chunks(item, visit, context);
	if (item->key.type != ITEM_EXTENT)
		return 0;
	error = extent_decode(item, &extent);
	return error ? error : visit(extent.chunk, context);
}
