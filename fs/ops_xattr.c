/*
 * Extended attributes, and the ACLs among them.
 *
 * The kernel checks permissions and caches ACLs; ours is to keep mode and access ACL in step and to
 * let new files inherit.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "fs/acl.h"
#include "fs/mount_internal.h"

/*
 * With noxattr the kernel hears ENOSYS, answers EOPNOTSUPP by itself from then on, and asks no
 * more: not at the first write to a file, nor at chown(2), whether it has capabilities.  It cannot
 * be told otherwise later, so this is for who mounts to choose.
 */
static bool refused(fuse_req_t request)
{
	const struct mount *mount = fuse_req_userdata(request);

	if (mount->noxattr)
		fuse_reply_err(request, ENOSYS);
	return mount->noxattr;
}

/* ---- helpers ---- */

static bool is_acl_name(const char *name)
{
	return strcmp(name, ACL_ACCESS_NAME) == 0 || strcmp(name, ACL_DEFAULT_NAME) == 0;
}

/*
 * The kernel hands any name on.  Other system.* attributes would claim a meaning that they do not
 * have here, and a name space that nobody knows has no rules.
 */
static int check_xattr_name(const char *name)
{
	static const char *const spaces[] = {"user.", "trusted.", "security."};

	if (is_acl_name(name))
		return 0;
	for (size_t i = 0; i < sizeof(spaces) / sizeof(*spaces); i++) {
		size_t length = strlen(spaces[i]);
		if (strncmp(name, spaces[i], length) == 0)
			return name[length] ? 0 : -EINVAL;
	}
	return -EOPNOTSUPP;
}

/* The value, malloc'ed. -ENODATA. */
static int read_value(struct change *change, uint64_t ino, const char *name, uint8_t **ret,
		      size_t *ret_length)
{
	ssize_t length = xattr_get(change->tree, change->reader, ino, name, NULL, 0);
	if (length < 0)
		return (int)length;
	uint8_t *value = malloc((size_t)length + 1);
	if (!value)
		return -ENOMEM;
	length = xattr_get(change->tree, change->reader, ino, name, value, (size_t)length);
	if (length < 0) {
		free(value);
		return (int)length;
	}
	*ret = value;
	*ret_length = (size_t)length;
	return 0;
}

/* A stored ACL that is not well formed is damage. */
static int read_acl(struct change *change, const struct inode *inode, const char *name,
		    uint8_t **ret, size_t *ret_length)
{
	uint8_t *acl = NULL;
	size_t length = 0;

	if (!(inode->attr.flags & INODE_HAS_XATTRS))
		return -ENODATA;
	int error = read_value(change, inode->ino, name, &acl, &length);
	if (error)
		return error;
	if (acl_check(acl, length)) {
		free(acl);
		return -EUCLEAN;
	}
	*ret = acl;
	*ret_length = length;
	return 0;
}

/* ---- ACLs of new and changed files ---- */

void inherited_acl_release(struct inherited_acl *acl)
{
	free(acl->access);
	free(acl->fallback);
	*acl = (struct inherited_acl){0};
}

int acl_inherit(struct change *change, struct inode *directory, uint32_t umask, uint32_t *mode,
		struct inherited_acl *ret)
{
	uint8_t *acl;
	size_t length;

	if (S_ISLNK(*mode))
		return 0;
	int error = read_acl(change, directory, ACL_DEFAULT_NAME, &acl, &length);
	if (error == -ENODATA) {
		*mode &= ~(umask & 0777);
		return 0;
	}
	if (error)
		return error;
	if (S_ISDIR(*mode)) {
		ret->fallback = malloc(length);
		if (!ret->fallback) {
			free(acl);
			return -ENOMEM;
		}
		memcpy(ret->fallback, acl, length);
		ret->fallback_length = length;
	}
	*mode = acl_restrict(acl, length, *mode);
	if (acl_is_minimal(acl, length)) {
		free(acl);
	} else {
		ret->access = acl;
		ret->access_length = length;
	}
	return 0;
}

int inherited_acl_store(struct change *change, uint64_t ino, const struct inherited_acl *acl)
{
	int error = 0;

	if (acl->access)
		error = xattr_set(change->tree, change->reader, ino, ACL_ACCESS_NAME, acl->access,
				  acl->access_length, XATTR_SET_ANY);
	if (!error && acl->fallback)
		error = xattr_set(change->tree, change->reader, ino, ACL_DEFAULT_NAME,
				  acl->fallback, acl->fallback_length, XATTR_SET_ANY);
	return error;
}

int acl_follow_mode(struct change *change, struct inode *inode)
{
	uint8_t *acl;
	size_t length;

	int error = read_acl(change, inode, ACL_ACCESS_NAME, &acl, &length);
	if (error)
		return error == -ENODATA ? 0 : error;
	acl_set_mode(acl, length, inode->attr.mode);
	error = xattr_set(change->tree, change->reader, inode->ino, ACL_ACCESS_NAME, acl, length,
			  XATTR_SET_ANY);
	free(acl);
	return error;
}

/* ---- set and remove ---- */

static int remove_value(struct change *change, struct inode *inode, const char *name)
{
	int error = inode->attr.flags & INODE_HAS_XATTRS
			    ? xattr_remove(change->tree, change->reader, inode->ino, name)
			    : -ENODATA;
	/* Removing an ACL that is not there is how "none" is said. */
	if (error == -ENODATA && is_acl_name(name))
		return 0;
	if (!error) {
		inode->attr.ctime = change->now;
		inode_mark_attr_dirty(inode);
	}
	return error;
}

static int set_value(struct change *change, struct inode *inode, const char *name,
		     const void *value, size_t length, enum xattr_mode mode)
{
	int error = xattr_set(change->tree, change->reader, inode->ino, name, value, length, mode);
	if (error)
		return error;
	inode->attr.flags |= INODE_HAS_XATTRS;
	inode->attr.ctime = change->now;
	inode_mark_attr_dirty(inode);
	return 0;
}

/* The mode follows the access ACL; one that says no more than the mode is not kept. */
static int set_acl(struct change *change, struct inode *inode, const char *name, const uint8_t *acl,
		   size_t length, bool kill_set_group_id)
{
	bool access = strcmp(name, ACL_ACCESS_NAME) == 0;

	int error = acl_check(acl, length);
	if (error)
		return error;
	if (S_ISLNK(inode->attr.mode))
		return -EOPNOTSUPP;
	if (!access && !S_ISDIR(inode->attr.mode))
		return -EACCES;
	if (access && acl_is_minimal(acl, length))
		error = remove_value(change, inode, name);
	else
		error = set_value(change, inode, name, acl, length, XATTR_SET_ANY);
	if (error || !access)
		return error;
	inode->attr.mode = acl_to_mode(acl, length, inode->attr.mode);
	if (kill_set_group_id)
		inode->attr.mode &= ~(uint32_t)S_ISGID;
	inode->attr.ctime = change->now;
	inode_mark_attr_dirty(inode);
	return 0;
}

static int mode_of_flags(int flags, enum xattr_mode *ret)
{
	switch (flags) {
	case 0:
		*ret = XATTR_SET_ANY;
		return 0;
	case XATTR_CREATE:
		*ret = XATTR_SET_CREATE;
		return 0;
	case XATTR_REPLACE:
		*ret = XATTR_SET_REPLACE;
		return 0;
	default:
		return -EINVAL;
	}
}

void op_setxattr(fuse_req_t request, fuse_ino_t node, const char *name, const char *value,
		 size_t length, int flags)
{
	struct mount *mount = fuse_req_userdata(request);
	bool kill = request_frame.setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID;
	enum xattr_mode mode;
	struct change change;
	struct inode *inode;

	if (refused(request))
		return;
	int error = check_xattr_name(name);
	if (!error)
		error = mode_of_flags(flags, &mode);
	if (!error)
		error = change_begin(mount, node, &change);
	if (!error) {
		error = change_load(&change, change.ino, &inode);
		if (!error && is_acl_name(name))
			error = set_acl(&change, inode, name, (const uint8_t *)value, length, kill);
		else if (!error)
			error = set_value(&change, inode, name, value, length, mode);
		change_end(&change);
	}
	reply_error(mount, request, node, error);
}

void op_removexattr(fuse_req_t request, fuse_ino_t node, const char *name)
{
	struct mount *mount = fuse_req_userdata(request);
	struct change change;
	struct inode *inode;

	if (refused(request))
		return;
	int error = check_xattr_name(name);
	if (!error)
		error = change_begin(mount, node, &change);
	if (!error) {
		error = change_load(&change, change.ino, &inode);
		if (!error)
			error = remove_value(&change, inode, name);
		change_end(&change);
	}
	reply_error(mount, request, node, error);
}

/* ---- get and list ---- */

/* Moves the names that everybody may see to the front; returns their length. */
static size_t drop_trusted_names(char *names, size_t length)
{
	static const char space[] = "trusted.";
	size_t kept = 0;

	for (size_t at = 0; at < length;) {
		size_t size = strlen(names + at) + 1;
		if (strncmp(names + at, space, sizeof(space) - 1) != 0) {
			memmove(names + kept, names + at, size);
			kept += size;
		}
		at += size;
	}
	return kept;
}

/* The kernel lets only privileged users read or write trusted.*; the list is up to us. */
static ssize_t list_without_trusted(struct scope *scope, char *buffer, size_t capacity)
{
	ssize_t length = xattr_list(scope->tree, scope->reader, scope->ino, NULL, 0);

	if (length <= 0)
		return length;
	char *names = malloc((size_t)length);
	if (!names)
		return -ENOMEM;
	length = xattr_list(scope->tree, scope->reader, scope->ino, names, (size_t)length);
	if (length > 0)
		length = (ssize_t)drop_trusted_names(names, (size_t)length);
	if (length > 0 && capacity) {
		if ((size_t)length > capacity)
			length = -ERANGE;
		else
			memcpy(buffer, names, (size_t)length);
	}
	free(names);
	return length;
}

static ssize_t get_value(struct scope *scope, const char *name, bool trusted, void *buffer,
			 size_t capacity)
{
	struct inode_attr attr;

	int error = scope_attributes(scope, scope->ino, &attr);
	if (error)
		return error;
	if (!(attr.flags & INODE_HAS_XATTRS))
		return name ? -ENODATA : 0;
	if (!name && !trusted)
		return list_without_trusted(scope, buffer, capacity);
	if (!name)
		return xattr_list(scope->tree, scope->reader, scope->ino, buffer, capacity);
	return xattr_get(scope->tree, scope->reader, scope->ino, name, buffer, capacity);
}

/* `name` NULL lists. */
static void get_or_list(fuse_req_t request, uint64_t node, const char *name, size_t capacity)
{
	struct mount *mount = fuse_req_userdata(request);
	char small[256], *buffer = small;
	struct scope scope;

	if (node == NODE_VIEW)
		return (void)(name ? fuse_reply_err(request, ENODATA)
				   : fuse_reply_xattr(request, 0));
	if (capacity > sizeof(small)) {
		buffer = malloc(capacity);
		if (!buffer)
			return (void)fuse_reply_err(request, ENOMEM);
	}
	ssize_t length = scope_enter(mount, node, &scope);
	if (!length) {
		length = get_value(&scope, name, fuse_req_ctx(request)->uid == 0, buffer, capacity);
		scope_leave(&scope);
	}
	if (length < 0)
		reply_error(mount, request, node, (int)length);
	else if (!capacity)
		fuse_reply_xattr(request, (size_t)length);
	else
		fuse_reply_buf(request, buffer, (size_t)length);
	if (buffer != small)
		free(buffer);
}

void op_getxattr(fuse_req_t request, fuse_ino_t node, const char *name, size_t capacity)
{
	if (refused(request))
		return;
	int error = check_xattr_name(name);
	if (error)
		return (void)fuse_reply_err(request, -error);
	get_or_list(request, node, name, capacity);
}

void op_listxattr(fuse_req_t request, fuse_ino_t node, size_t capacity)
{
	if (!refused(request))
		get_or_list(request, node, NULL, capacity);
}
