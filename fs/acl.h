/*
 * POSIX ACLs as the kernel hands them to a file system: the xattr representation, version 2.
 *
 *   u32 version, then per entry: u16 tag, u16 permissions, u32 id; all little endian
 *
 * Entries come in the order owner, users, owning group, groups, mask, others.  An ACL with only
 * owner, group and others says no more than the mode does: it is not stored.
 */
#ifndef CAIRN_FS_ACL_H
#define CAIRN_FS_ACL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ACL_ACCESS_NAME "system.posix_acl_access"
#define ACL_DEFAULT_NAME "system.posix_acl_default"

/* -EINVAL where it is not well formed, -EOPNOTSUPP for another version. */
int acl_check(const uint8_t *acl, size_t length);

/* The functions below want a checked ACL. */

bool acl_is_minimal(const uint8_t *acl, size_t length);
/* The permission bits of `mode` replaced by what the ACL says. */
uint32_t acl_to_mode(const uint8_t *acl, size_t length, uint32_t mode);
/* chmod: the entries follow the mode. */
void acl_set_mode(uint8_t *acl, size_t length, uint32_t mode);
/* Creation: entries and mode both become what the two have in common. */
uint32_t acl_restrict(uint8_t *acl, size_t length, uint32_t mode);

#endif
