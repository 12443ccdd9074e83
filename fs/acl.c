/* POSIX ACL arithmetic on the xattr representation (POSIX.1e draft 17, section 23). */
#include "fs/acl.h"

#include <errno.h>

#include "index/util/bytes.h"

enum {
	ACL_VERSION = 2,
	ACL_HEADER = 4,
	ACL_ENTRY = 8,
	TAG_OWNER = 0x01,
	TAG_USER = 0x02,
	TAG_GROUP_OWNER = 0x04,
	TAG_GROUP = 0x08,
	TAG_MASK = 0x10,
	TAG_OTHERS = 0x20,
};

static size_t entry_count(size_t length)
{
	return (length - ACL_HEADER) / ACL_ENTRY;
}

static uint16_t entry_tag(const uint8_t *acl, size_t entry)
{
	return get_le16(acl + ACL_HEADER + entry * ACL_ENTRY);
}

static uint16_t entry_permissions(const uint8_t *acl, size_t entry)
{
	return get_le16(acl + ACL_HEADER + entry * ACL_ENTRY + 2) & 7;
}

static void set_permissions(uint8_t *acl, size_t entry, uint32_t permissions)
{
	put_le16(acl + ACL_HEADER + entry * ACL_ENTRY + 2, permissions & 7);
}

/* The position of an entry of this tag, or -1. */
static long find_entry(const uint8_t *acl, size_t length, uint16_t tag)
{
	size_t count = entry_count(length);

	for (size_t i = 0; i < count; i++)
		if (entry_tag(acl, i) == tag)
			return (long)i;
	return -1;
}

static bool tag_is_named(uint16_t tag)
{
	return tag == TAG_USER || tag == TAG_GROUP;
}

int acl_check(const uint8_t *acl, size_t length)
{
	uint16_t before = 0;
	unsigned seen = 0;

	if (length < ACL_HEADER || (length - ACL_HEADER) % ACL_ENTRY)
		return -EINVAL;
	if (get_le32(acl) != ACL_VERSION)
		return -EOPNOTSUPP;
	for (size_t i = 0; i < entry_count(length); i++) {
		uint16_t tag = entry_tag(acl, i);
		if (!tag || tag & (tag - 1) || tag > TAG_OTHERS)
			return -EINVAL;
		if (get_le16(acl + ACL_HEADER + i * ACL_ENTRY + 2) > 7)
			return -EINVAL;
		/* The tags' values rise in the prescribed order. */
		if (tag < before || (tag == before && !tag_is_named(tag)))
			return -EINVAL;
		before = tag;
		seen |= tag;
	}
	if ((seen & (TAG_OWNER | TAG_GROUP_OWNER | TAG_OTHERS)) !=
	    (TAG_OWNER | TAG_GROUP_OWNER | TAG_OTHERS))
		return -EINVAL;
	return seen & (TAG_USER | TAG_GROUP) && !(seen & TAG_MASK) ? -EINVAL : 0;
}

bool acl_is_minimal(const uint8_t *acl, size_t length)
{
	(void)acl;
	return entry_count(length) == 3;
}

/* The group bits of a mode stand for the mask where there is one. */
static long group_class(const uint8_t *acl, size_t length)
{
	long mask = find_entry(acl, length, TAG_MASK);

	return mask >= 0 ? mask : find_entry(acl, length, TAG_GROUP_OWNER);
}

uint32_t acl_to_mode(const uint8_t *acl, size_t length, uint32_t mode)
{
	uint32_t owner = entry_permissions(acl, (size_t)find_entry(acl, length, TAG_OWNER));
	uint32_t group = entry_permissions(acl, (size_t)group_class(acl, length));
	uint32_t others = entry_permissions(acl, (size_t)find_entry(acl, length, TAG_OTHERS));

	return (mode & ~(uint32_t)0777) | owner << 6 | group << 3 | others;
}

void acl_set_mode(uint8_t *acl, size_t length, uint32_t mode)
{
	set_permissions(acl, (size_t)find_entry(acl, length, TAG_OWNER), mode >> 6);
	set_permissions(acl, (size_t)group_class(acl, length), mode >> 3);
	set_permissions(acl, (size_t)find_entry(acl, length, TAG_OTHERS), mode);
}

uint32_t acl_restrict(uint8_t *acl, size_t length, uint32_t mode)
{
	mode &= acl_to_mode(acl, length, mode);
	acl_set_mode(acl, length, mode);
	return mode;
}
