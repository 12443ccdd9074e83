/*
 * Directories: reading them.
 *
 * There is no open state: OPENDIR answers ENOSYS once, and the kernel then caches what it read.
 * An entry's position is the cookie of its name's hash; 1 and 2 stand for "." and "..".  Entries
 * of one hash share a cookie, so a reply never ends between them: the next one would begin
 * behind all of them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/mount_internal.h"

enum { AT_DOT = 1, AT_DOT_DOT = 2 };

/* A reply under construction. */
struct listing {
	struct scope *scope;
	fuse_req_t request;
	bool plus;
	bool atime_due;
	char *bytes;
	size_t capacity;
	size_t used;
	size_t complete; /* up to the end of the last cookie of which all entries are in */
	int error;
};

/* 1: it does not fit. */
static int add_entry(struct listing *listing, const char *name, uint64_t node,
		     const struct stat *stat, uint64_t cookie)
{
	char *at = listing->bytes + listing->used;
	size_t room = listing->capacity - listing->used;
	size_t size;

	if (listing->plus) {
		struct fuse_entry_param entry;
		entry_fill(listing->scope->mount, node, stat, &entry);
		size = fuse_add_direntry_plus(listing->request, at, room, name, &entry,
					      (off_t)cookie);
	} else {
		size = fuse_add_direntry(listing->request, at, room, name, stat, (off_t)cookie);
	}
	if (size > room)
		return 1;
	listing->used += size;
	return 0;
}

/* "." and ".." carry no attributes: a node number of 0 says so. */
static int add_dots(struct listing *listing, uint64_t position)
{
	struct scope *scope = listing->scope;
	struct stat stat = {.st_mode = S_IFDIR};
	uint64_t parent = scope->ino;

	if (position < AT_DOT) {
		stat.st_ino = scope->view ? scope_node(scope, scope->ino) : scope->ino;
		if (add_entry(listing, ".", 0, &stat, AT_DOT))
			return 1;
	}
	if (position >= AT_DOT_DOT)
		return 0;
	int error = dirent_parent(scope->tree, scope->reader, scope->ino, &parent);
	if (error && error != -ENOENT) /* a removed directory has none */
		return error;
	if (scope->view)
		stat.st_ino = scope->ino == ROOT_INO ? NODE_VIEW : scope_node(scope, parent);
	else
		stat.st_ino = parent;
	return add_entry(listing, "..", 0, &stat, AT_DOT_DOT);
}

static int visit_entry(const struct dirent_entry *entry, void *context)
{
	struct listing *listing = context;
	struct scope *scope = listing->scope;
	uint64_t ino = entry->target.ino;
	uint64_t node = scope_node(scope, ino);
	char name[NAME_MAX_BYTES + 1];
	struct inode_attr attr;
	struct stat stat;

	memcpy(name, entry->name.text, entry->name.length);
	name[entry->name.length] = 0;
	if (listing->plus) {
		int error = scope_attributes(scope, ino, &attr);
		if (error) {
			listing->error = error == -ENOENT ? -EUCLEAN : error;
			return 1;
		}
		scope_stat(scope, ino, &attr, &stat);
	} else {
		stat.st_ino = scope->view ? node : ino;
		stat.st_mode = DTTOIF(entry->target.type);
	}
	if (add_entry(listing, name, node, &stat, entry->cookie))
		return 1;
	if (entry->last_of_cookie)
		listing->complete = listing->used;
	return 0;
}

static int fill(struct listing *listing, uint64_t position)
{
	struct scope *scope = listing->scope;
	struct inode_attr attr;

	int error = scope_attributes(scope, scope->ino, &attr);
	if (error)
		return error == -ENOENT ? -ESTALE : error;
	if (!S_ISDIR(attr.mode))
		return -ENOTDIR;
	listing->atime_due = !scope->view && position == 0 && atime_is_due(scope->mount, &attr);
	error = position < AT_DOT_DOT ? add_dots(listing, position) : 0;
	listing->complete = listing->used;
	if (error)
		return error < 0 ? error : 0;
	error = dirent_iterate(scope->tree, scope->reader, scope->ino,
			       position <= AT_DOT_DOT ? 0 : position, visit_entry, listing);
	if (error < 0)
		return error;
	/* What could be read is told first; the next call meets the error again. */
	return listing->complete ? 0 : listing->error;
}

/* Calls `act` for each entry of a READDIRPLUS reply that carries a node number. */
static int each_node(struct mount *mount, const char *bytes, size_t length,
		     int (*act)(struct mount *mount, uint64_t node), size_t *ret_done)
{
	size_t at = 0;

	while (at < length) {
		const struct fuse_direntplus *entry = (const void *)(bytes + at);
		if (entry->entry_out.nodeid) {
			int error = act(mount, entry->entry_out.nodeid);
			if (error)
				break;
		}
		at += FUSE_DIRENTPLUS_SIZE(entry);
	}
	if (ret_done)
		*ret_done = at;
	return at < length ? -ENOMEM : 0;
}

static int forget_one(struct mount *mount, uint64_t node)
{
	node_forget(mount, node, 1);
	return 0;
}

/* Under the lock, as for LOOKUP.  All or nothing. */
static int count_lookups(struct listing *listing)
{
	struct mount *mount = listing->scope->mount;
	size_t done;

	if (!listing->plus || listing->scope->view)
		return 0;
	int error = each_node(mount, listing->bytes, listing->complete, node_count_lookup, &done);
	if (error)
		each_node(mount, listing->bytes, done, forget_one, NULL);
	return error;
}

static void list_directory(fuse_req_t request, uint64_t node, size_t size, off_t offset, bool plus)
{
	struct mount *mount = fuse_req_userdata(request);
	struct scope scope;
	struct listing listing = {
		.scope = &scope, .request = request, .plus = plus, .capacity = size};

	if (node == NODE_VIEW)
		return points_readdir(mount, request, size, offset, plus);
	struct buffer *buffer = buffer_new(mount->buffers, size);
	if (!buffer)
		return (void)fuse_reply_err(request, ENOMEM);
	listing.bytes = (char *)buffer->data;
	int error = scope_enter(mount, node, &scope);
	if (!error) {
		error = fill(&listing, (uint64_t)offset);
		if (!error)
			error = count_lookups(&listing);
		scope_leave(&scope);
	}
	if (!error && listing.atime_due)
		atime_note(mount, node);
	if (error)
		reply_error(mount, request, node, error);
	else if (fuse_reply_buf(request, listing.bytes, listing.complete) == -ENOENT && plus &&
		 !node_is_view(node))
		each_node(mount, listing.bytes, listing.complete, forget_one, NULL);
	buffer_unref(mount->buffers, buffer);
}

/* ENOSYS once, and the kernel asks no more; with allow_root it must go on asking. */
void op_opendir(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *info)
{
	const struct mount *mount = fuse_req_userdata(request);

	(void)node;
	if (mount->remembered > 0)
		fuse_reply_err(request, ENOSYS);
	else
		fuse_reply_open(request, info);
}

void op_readdir(fuse_req_t request, fuse_ino_t node, size_t size, off_t offset,
		struct fuse_file_info *info)
{
	(void)info;
	list_directory(request, node, size, offset, false);
}

void op_readdirplus(fuse_req_t request, fuse_ino_t node, size_t size, off_t offset,
		    struct fuse_file_info *info)
{
	(void)info;
	list_directory(request, node, size, offset, true);
}
