/*
 * Open, create, release.
 *
 * While a restore is under way (mount->hold) nothing new may be opened for writing: such requests
 * are parked, and executed by the restoring thread (restore.c says when).
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/ops_name_internal.h"

struct parked_open {
	struct parked_open *next;
	struct open_request open;
	char name[NAME_MAX_BYTES + 1];
};

/* Exclusive head lock. */
static int park(struct mount *mount, const struct open_request *open)
{
	struct parked_open *parked = malloc(sizeof(*parked)), **last = &mount->parked;

	if (!parked)
		return -ENOMEM;
	parked->next = NULL;
	parked->open = *open;
	if (open->name) {
		snprintf(parked->name, sizeof(parked->name), "%s", open->name);
		parked->open.name = parked->name;
	}
	while (*last)
		last = &(*last)->next;
	*last = parked;
	return 0;
}

/* Head lock. */
static bool is_released(const struct mount *mount, const struct open_request *open,
			enum parked which)
{
	return which == PARKED_ALL || !node_is_current(mount, open->node);
}

void parked_release(struct mount *mount, enum parked which)
{
	struct parked_open *released = NULL, **last = &released;

	head_lock(mount->head);
	for (struct parked_open **entry = &mount->parked; *entry;) {
		struct parked_open *parked = *entry;
		if (!is_released(mount, &parked->open, which)) {
			entry = &parked->next;
			continue;
		}
		*entry = parked->next;
		parked->next = NULL;
		*last = parked;
		last = &parked->next;
	}
	head_unlock(mount->head);
	while (released) {
		struct parked_open *next = released->next;
		open_now(mount, &released->open);
		free(released);
		released = next;
	}
}

/* ---- handles (exclusive head lock) ---- */

static int handle_open(struct mount *mount, struct inode *inode, uint64_t node, bool writes,
		       struct handle **ret)
{
	struct handle *handle = malloc(sizeof(*handle));

	if (!handle)
		return -ENOMEM;
	inode_ref(inode);
	*handle = (struct handle){
		.inode = inode, .node = node, .writes = writes, .next = mount->handles};
	if (handle->next)
		handle->next->previous = handle;
	mount->handles = handle;
	mount->open_files++;
	if (writes) {
		inode->writers++;
		mount->open_for_writing++;
	}
	*ret = handle;
	return 0;
}

void handle_close(struct mount *mount, struct handle *handle)
{
	if (handle->previous)
		handle->previous->next = handle->next;
	else
		mount->handles = handle->next;
	if (handle->next)
		handle->next->previous = handle->previous;
	mount->open_files--;
	if (handle->writes) {
		mount->open_for_writing--;
		/* A restore has cleared the count of those that it made stale. */
		if (node_is_current(mount, handle->node) && handle->inode->writers)
			handle->inode->writers--;
	}
	inode_unref(handle->inode);
	free(handle);
}

bool handle_is_current(const struct mount *mount, const struct handle *handle)
{
	return !handle->inode->gone && node_is_current(mount, handle->node);
}

/* ---- open ---- */

static bool opens_for_writing(const struct fuse_file_info *info)
{
	return (info->flags & O_ACCMODE) != O_RDONLY || info->flags & O_TRUNC;
}

static int truncate_open(struct change *change, struct inode *inode,
			 const struct open_request *open)
{
	if (!(open->info.flags & O_TRUNC) || !S_ISREG(inode->attr.mode))
		return 0;
	int error = inode_resize(change, inode, 0);
	if (error)
		return error;
	inode_kill_privileges(change->mount, change->reader, inode,
			      open->kill_privileges ? open->request : NULL);
	inode->attr.mtime = inode->attr.ctime = change->now;
	inode_mark_attr_dirty(inode);
	return 0;
}

/* The writer hears -ENOSPC from write(2) itself when there is little space left. */
static void finish_info(struct mount *mount, struct fuse_file_info *info, struct handle *handle)
{
	info->fh = (uintptr_t)handle;
	info->keep_cache = 1;
	info->direct_io = opens_for_writing(info) && store_space_low(mount->store);
}

static int open_inode(struct change *change, const struct open_request *open, struct inode *inode,
		      uint64_t node, struct handle **ret)
{
	if (inode->gone)
		return -ESTALE;
	int error = truncate_open(change, inode, open);
	if (error)
		return error;
	return handle_open(change->mount, inode, node, opens_for_writing(&open->info), ret);
}

/* Reading changes nothing, so a read-only mount allows it: no change_begin() here. */
static int open_begin(struct mount *mount, const struct open_request *open, struct change *ret)
{
	bool writes = open->creates || opens_for_writing(&open->info);

	head_lock(mount->head);
	int error = node_is_current(mount, open->node) ? 0 : -ESTALE;
	if (!error && writes && mount->hold != HOLD_NOTHING) {
		error = park(mount, open);
		if (!error)
			error = -EINPROGRESS;
	}
	if (!error)
		error = reader_acquire(mount->store, &ret->reader);
	if (error) {
		head_unlock(mount->head);
		return error;
	}
	ret->mount = mount;
	ret->tree = mount->tree;
	ret->ino = node_ino(open->node);
	ret->now = time_now();
	return 0;
}

static bool counts_as_reading(const struct open_request *open)
{
	return (open->info.flags & O_ACCMODE) == O_RDONLY && !(open->info.flags & O_NOATIME);
}

/* Does opening change what the kernel knows of the file?  It must not go on with st_blocks 0
 * (inode_to_stat()), nor with the old access time. */
static bool open_changes_attributes(struct mount *mount, const struct open_request *open,
				    const struct handle *handle)
{
	if (counts_as_reading(open))
		return atime_touch(mount, handle->inode);
	return handle->writes && !data_allocated(handle->inode);
}

static void open_existing(struct mount *mount, const struct open_request *open)
{
	struct fuse_file_info info = open->info;
	struct handle *handle;
	struct change change;
	struct inode *inode;
	bool refresh = false;

	int error = open_begin(mount, open, &change);
	if (error == -EINPROGRESS)
		return;
	if (error)
		return reply_error(mount, open->request, open->node, error);
	error = change_load(&change, change.ino, &inode);
	if (!error)
		error = open_inode(&change, open, inode, open->node, &handle);
	if (!error)
		refresh = open_changes_attributes(mount, open, handle);
	change_end(&change);
	if (refresh)
		fuse_lowlevel_notify_inval_inode(mount->session, open->node, -1, 0);
	if (error) /* an inode that the kernel knows and the tree does not is stale */
		return reply_error(mount, open->request, open->node,
				   error == -ENOENT ? -ESTALE : error);
	finish_info(mount, &info, handle);
	if (opens_for_writing(&info))
		still_note_writer(mount, open->node);
	if (fuse_reply_open(open->request, &info) == -ENOENT) {
		head_lock(mount->head);
		handle_close(mount, handle);
		head_unlock(mount->head);
	}
}

/* ---- create ---- */

/* The kernel believed that there is no such name, but there is: a restore came in between. */
static int create_found(struct change *change, const struct open_request *open, struct inode **ret)
{
	struct dirent_target target;

	int error = dirent_lookup(change->tree, change->reader, change->ino, open->name,
				  strlen(open->name), &target);
	if (error)
		return error;
	if (open->info.flags & O_EXCL)
		return -EEXIST;
	if (target.type != DT_REG)
		return -ESTALE; /* the kernel looks again */
	return change_load(change, target.ino, ret);
}

static int create_inode(struct change *change, const struct open_request *open, struct inode **ret)
{
	const struct fuse_ctx *context = fuse_req_ctx(open->request);
	const struct birth birth = {
		.parent = change->ino,
		.name = open->name,
		.mode = S_IFREG | (open->mode & 07777),
		.umask = context->umask,
		.uid = context->uid,
		.gid = context->gid,
		.hot = true,
	};
	struct inode_attr attr;
	uint64_t ino;

	int error = node_make(change, &birth, &ino, &attr, ret);
	if (error == -EEXIST && open->name)
		error = create_found(change, open, ret);
	return error;
}

static void reply_create(struct mount *mount, const struct open_request *open, uint64_t node,
			 const struct stat *stat, struct handle *handle)
{
	struct fuse_file_info info = open->info;
	struct fuse_entry_param entry;

	finish_info(mount, &info, handle);
	entry_fill(mount, node, stat, &entry);
	if (fuse_reply_create(open->request, &entry, &info) != -ENOENT)
		return;
	node_forget(mount, node, 1);
	head_lock(mount->head);
	handle_close(mount, handle);
	head_unlock(mount->head);
}

static void open_created(struct mount *mount, const struct open_request *open)
{
	struct handle *handle;
	struct change change;
	struct inode *inode;
	struct stat stat;
	uint64_t node = 0;

	int error = open_begin(mount, open, &change);
	if (error == -EINPROGRESS)
		return;
	if (error)
		return reply_error(mount, open->request, open->node, error);
	error = create_inode(&change, open, &inode);
	if (!error) {
		node = node_of(mount, inode->ino);
		error = open_inode(&change, open, inode, node, &handle);
		inode_to_stat(inode, &stat);
	}
	if (!error) {
		error = node_count_lookup(mount, node);
		if (error)
			handle_close(mount, handle);
	}
	change_end(&change);
	if (error)
		return reply_error(mount, open->request, open->node, error);
	reply_create(mount, open, node, &stat, handle);
}

/* ---- the operations ---- */

void open_now(struct mount *mount, const struct open_request *open)
{
	if (open->creates)
		open_created(mount, open);
	else
		open_existing(mount, open);
}

static void open_in_point(struct mount *mount, fuse_req_t request, uint64_t node,
			  struct fuse_file_info *info)
{
	(void)mount;
	(void)node;
	if (opens_for_writing(info))
		return (void)fuse_reply_err(request, EROFS);
	info->fh = 0;
	info->keep_cache = 1;
	fuse_reply_open(request, info);
}

void op_open(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *info)
{
	struct mount *mount = fuse_req_userdata(request);
	const struct fuse_open_in *in = request_argument();

	if (node_is_view(node))
		return open_in_point(mount, request, node, info);
	open_now(mount, &(struct open_request){
				.request = request,
				.node = node,
				.kill_privileges = in->open_flags & FUSE_OPEN_KILL_SUIDGID,
				.info = *info,
			});
}

void op_create(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode,
	       struct fuse_file_info *info)
{
	struct mount *mount = fuse_req_userdata(request);
	bool unnamed = request_frame.unnamed;

	int error = node_is_view(parent) ? -EROFS : unnamed ? 0 : check_new_name(parent, name);
	if (error)
		return reply_error(mount, request, parent, error);
	open_now(mount, &(struct open_request){
				.request = request,
				.node = parent,
				.name = unnamed ? NULL : name,
				.creates = true,
				.mode = mode,
				.info = *info,
			});
}

void op_release(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *info)
{
	struct mount *mount = fuse_req_userdata(request);
	struct handle *handle = (struct handle *)(uintptr_t)info->fh;
	enum { REAP_EVERY = 1024 };

	if (handle) {
		uint64_t ino = node_ino(node);
		struct reader *reader;

		head_lock(mount->head);
		handle_close(mount, handle);
		if (u64map_get(&mount->nodes.unlinked, ino) &&
		    !reader_acquire(mount->store, &reader)) {
			unlinked_try_delete(mount, reader, ino);
			reader_release(reader);
		}
		if (++mount->releases >= REAP_EVERY) {
			mount->releases = 0;
			inode_table_reap(&mount->inodes);
		}
		head_unlock(mount->head);
	}
	fuse_reply_err(request, 0);
}
