/* Making files: mknod, mkdir, symlink, and the making half of create. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "fs/ops_name_internal.h"

/* Owner, group and mode as POSIX and the set-group-ID bit of the directory want them. */
static void attributes_of_birth(const struct change *change, const struct birth *birth,
				const struct inode *directory, uint32_t mode,
				struct inode_attr *ret)
{
	size_t target = birth->target ? strlen(birth->target) : 0;

	*ret = (struct inode_attr){
		.mode = mode,
		.nlink = S_ISDIR(mode) ? 2
			 : birth->name ? 1
				       : 0,
		.uid = birth->uid,
		.gid = birth->gid,
		.rdev = S_ISCHR(mode) || S_ISBLK(mode) ? birth->rdev : 0,
		.flags = birth->target ? INODE_INLINE : 0,
		.size = target,
		.allocated = target,
		.atime = change->now,
		.mtime = change->now,
		.ctime = change->now,
		.btime = change->now,
	};
	if (directory->attr.mode & S_ISGID) {
		ret->gid = directory->attr.gid;
		if (S_ISDIR(mode))
			ret->mode |= S_ISGID;
	}
}

static int check_directory(const struct inode *directory)
{
	if (!S_ISDIR(directory->attr.mode))
		return -ENOTDIR;
	return directory->attr.nlink ? 0 : -ENOENT;
}

/* Everything but the item and the name. */
static int store_birth(struct change *change, const struct birth *birth, uint64_t ino,
		       const struct inode_attr *attr, const struct inherited_acl *acl,
		       struct inode **ret_inode)
{
	int error = 0;

	if (acl->access || acl->fallback)
		error = inherited_acl_store(change, ino, acl);
	if (!error && birth->target)
		error = inline_put(change->tree, change->reader, ino, birth->target, attr->size);
	if (error)
		return error;
	if (!birth->hot) {
		*ret_inode = NULL;
		return 0;
	}
	return inode_insert(&change->mount->inodes, ino, attr, ret_inode);
}

static int insert_name(struct change *change, const struct birth *birth, uint64_t ino,
		       uint32_t mode)
{
	const struct dirent_target target = {.ino = ino, .type = IFTODT(mode)};

	if (!birth->name)
		return unlinked_reserve(change->mount);
	return dirent_insert(change->tree, change->reader, birth->parent, birth->name,
			     strlen(birth->name), &target);
}

/* The item goes first: the items of new files then come in order of key, and fill their leaves. */
static int bring_to_life(struct change *change, const struct birth *birth, uint64_t ino,
			 const struct inode_attr *attr, const struct inherited_acl *acl,
			 struct inode **ret_inode)
{
	int error = inode_put(change->tree, change->reader, ino, attr);
	if (error)
		return error;
	error = insert_name(change, birth, ino, attr->mode);
	if (!error) {
		error = store_birth(change, birth, ino, attr, acl, ret_inode);
		if (error && birth->name)
			(void)dirent_remove(change->tree, change->reader, birth->parent,
					    birth->name, strlen(birth->name));
	}
	if (error)
		(void)inode_delete(change->tree, change->reader, ino);
	return error;
}

static void count_birth(struct change *change, const struct birth *birth, struct inode *directory,
			struct inode *inode, uint32_t mode)
{
	const struct head_counters counters = {
		.directories = S_ISDIR(mode),
		.files = !S_ISDIR(mode),
	};

	if (!birth->name) {
		unlinked_add(change->mount, inode);
		return;
	}
	change_touch_directory(change, directory, S_ISDIR(mode));
	head_count(change->mount->head, &counters);
}

int node_make(struct change *change, const struct birth *birth, uint64_t *ret_ino,
	      struct inode_attr *ret_attr, struct inode **ret_inode)
{
	struct inherited_acl acl = {0};
	struct inode *directory;
	uint32_t mode = birth->mode;
	uint64_t ino;

	int error = change_load(change, birth->parent, &directory);
	if (!error)
		error = check_directory(directory);
	if (!error)
		error = acl_inherit(change, directory, birth->umask, &mode, &acl);
	if (error)
		return error;
	attributes_of_birth(change, birth, directory, mode, ret_attr);
	ino = store_next(change->mount->store, COUNTER_INODE);
	if (acl.access || acl.fallback)
		ret_attr->flags |= INODE_HAS_XATTRS;
	error = ino > NODE_INO_MAX ? -EOVERFLOW
				   : bring_to_life(change, birth, ino, ret_attr, &acl, ret_inode);
	inherited_acl_release(&acl);
	if (error)
		return error;
	count_birth(change, birth, directory, *ret_inode, mode);
	*ret_ino = ino;
	return 0;
}

int whiteout_make(struct change *change, const struct inode *directory, uint32_t uid, uint32_t gid,
		  uint64_t *ret_ino)
{
	const struct birth birth = {.name = "", .uid = uid, .gid = gid};
	struct inode_attr attr;

	uint64_t ino = store_next(change->mount->store, COUNTER_INODE);
	if (ino > NODE_INO_MAX)
		return -EOVERFLOW;
	attributes_of_birth(change, &birth, directory, S_IFCHR, &attr);
	int error = inode_put(change->tree, change->reader, ino, &attr);
	if (error)
		return error;
	*ret_ino = ino;
	return 0;
}

/* ---- the operations ---- */

static void make(fuse_req_t request, struct birth *birth)
{
	struct mount *mount = fuse_req_userdata(request);
	const struct fuse_ctx *context = fuse_req_ctx(request);
	struct change change;
	struct inode_attr attr;
	struct inode *inode;
	struct stat stat;
	uint64_t ino;

	birth->uid = context->uid;
	birth->gid = context->gid;
	birth->umask = context->umask;
	int error = check_new_name(birth->parent, birth->name);
	if (!error)
		error = change_begin(mount, birth->parent, &change);
	if (error)
		return reply_error(mount, request, birth->parent, error);
	birth->parent = change.ino;
	error = node_make(&change, birth, &ino, &attr, &inode);
	if (!error)
		error = node_count_lookup(mount, ino);
	change_end(&change);
	if (error)
		return reply_error(mount, request, birth->parent, error);
	attr_to_stat(ino, &attr, &stat);
	reply_counted_entry(mount, request, ino, &stat);
}

void op_mknod(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct birth birth = {.parent = parent, .name = name, .mode = mode, .rdev = (uint32_t)rdev};

	if (S_ISDIR(mode) || S_ISLNK(mode))
		return (void)fuse_reply_err(request, EINVAL);
	make(request, &birth);
}

void op_mkdir(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct birth birth = {.parent = parent, .name = name, .mode = S_IFDIR | (mode & 07777)};

	make(request, &birth);
}

void op_symlink(fuse_req_t request, const char *target, fuse_ino_t parent, const char *name)
{
	struct birth birth = {
		.parent = parent, .name = name, .mode = S_IFLNK | 0777, .target = target};

	if (strlen(target) > SYMLINK_MAX)
		return (void)fuse_reply_err(request, ENAMETOOLONG);
	make(request, &birth);
}
