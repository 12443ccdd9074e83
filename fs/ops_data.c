/* Contents: read, write, fsync, fallocate, copy_file_range. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/mount_internal.h"

enum {
	READ_TRIES = 16,
	COPY_MAX = 1 << 30,
	KEPT_WRITE = 3 << 18, /* so large a write is kept in a buffer of its own (data.h) */
};

/* ---- read ---- */

/* A READ: as much of it as has been read, and the plan for what comes next. */
struct read_job {
	struct job job;
	struct mount *mount;
	fuse_req_t request;
	uint64_t node;
	struct handle *handle; /* NULL: in a point */
	bool atime_due;
	uint64_t offset;
	size_t wanted; /* clipped at the end of the file by the first plan */
	size_t done;
	uint8_t *bytes;
	struct buffer *out; /* that they lie in; NULL: in the room for the answer */
	struct read_plan plan;
};

static int plan(struct read_job *job, struct scope *scope, struct inode *inode, uint64_t size)
{
	if (job->offset >= size)
		job->wanted = 0;
	else if (job->wanted > size - job->offset)
		job->wanted = size - job->offset;
	if (job->done >= job->wanted) {
		job->plan.length = 0;
		job->plan.in_memory = true;
		return 0;
	}
	int error =
		data_plan_read(job->mount->engine, inode, scope->tree, scope->reader, scope->ino,
			       size, job->offset + job->done, job->wanted - job->done, &job->plan);
	if (!error && inode)
		data_read_ahead_after(job->mount->engine, inode, scope->tree, scope->reader,
				      scope->ino, job->offset + job->done + job->plan.length,
				      job->plan.length);
	return error;
}

static int plan_live(struct read_job *job, struct scope *scope)
{
	struct inode *inode = job->handle->inode;

	if (!handle_is_current(job->mount, job->handle))
		return -ESTALE;
	job->atime_due = atime_is_due(job->mount, &inode->attr);
	return plan(job, scope, inode, inode->attr.size);
}

static int plan_in_point(struct read_job *job, struct scope *scope)
{
	struct inode_attr attr;

	int error = inode_get(scope->tree, scope->reader, scope->ino, &attr);
	return error ? error : plan(job, scope, NULL, attr.size);
}

static int plan_next(struct read_job *job)
{
	struct scope scope;

	int error = scope_enter(job->mount, job->node, &scope);
	if (error)
		return error;
	error = job->handle ? plan_live(job, &scope) : plan_in_point(job, &scope);
	scope_leave(&scope);
	return error;
}

/* Executes the plan and as many more as it takes.  A plan ends early where it has no room for
 * more pieces; an empty one means the end of the file. */
static int read_all(struct read_job *job)
{
	struct errbuf err = {""};
	int tries = 0;
	int error = 0;

	while (job->plan.length) {
		error = data_fill(&job->plan, job->bytes + job->done, &err);
		size_t length = job->plan.length;
		data_plan_release(&job->plan);
		if (error == -ESTALE && ++tries < READ_TRIES) {
			/* Collected meanwhile: the extent points elsewhere now. */
		} else if (error) {
			break;
		} else {
			job->done += length;
			if (job->done >= job->wanted)
				return 0;
		}
		error = plan_next(job);
		if (error)
			return error;
	}
	if (error == -EBADMSG || error == -EUCLEAN) {
		log_damage(job->mount, job->node, job->offset + job->done, &err);
		error = -EIO;
	}
	return error;
}

static void read_finish(struct read_job *job, int error)
{
	struct mount *mount = job->mount;

	if (error)
		reply_error(mount, job->request, job->node, error);
	else
		fuse_reply_buf(job->request, (const char *)job->bytes, job->done);
	buffer_unref(mount->buffers, job->out);
}

static void read_run(struct job *base)
{
	struct read_job *job = (struct read_job *)base;
	struct mount *mount = job->mount;
	/* The handle may be released as soon as the reply is out. */
	struct inode *inode = job->handle ? job->handle->inode : NULL;

	read_finish(job, read_all(job));
	if (inode)
		inode_unref(inode);
	free(job);
	atomic_fetch_sub(&mount->reads_out, 1);
}

static void read_submit(struct read_job *job)
{
	if (job->handle)
		inode_ref(job->handle->inode);
	atomic_fetch_add(&job->mount->reads_out, 1);
	engine_submit(job->mount->engine, &job->job, true);
}

void op_read(fuse_req_t request, fuse_ino_t node, size_t size, off_t offset,
	     struct fuse_file_info *info)
{
	struct mount *mount = fuse_req_userdata(request);
	struct read_job *job = malloc(sizeof(*job));
	bool room = size <= request_frame.room_size;
	struct buffer *out = room ? NULL : buffer_new(mount->buffers, size);

	if (!job || (!room && !out)) {
		free(job);
		if (out)
			buffer_unref(mount->buffers, out);
		return (void)fuse_reply_err(request, ENOMEM);
	}
	job->job = (struct job){.run = read_run};
	job->mount = mount;
	job->request = request;
	job->node = node;
	job->handle = node_is_view(node) ? NULL : (struct handle *)(uintptr_t)info->fh;
	job->atime_due = false;
	job->offset = (uint64_t)offset;
	job->wanted = size;
	job->done = 0;
	job->out = out;
	job->bytes = room ? request_frame.room : out->data;
	int error = plan_next(job);
	if (!error && job->atime_due && !(info->flags & O_NOATIME))
		atime_note(mount, node);
	if (!error && !job->plan.in_memory)
		return read_submit(job);
	read_finish(job, error ? error : read_all(job));
	free(job);
}

/* ---- write ---- */

static void write_settle(struct mount *mount, struct reader *reader, struct inode *inode,
			 const struct write_request *write)
{
	const struct head_counters counters = {.changed_bytes = (int64_t)write->length};

	head_count(mount->head, &counters);
	inode_grow(mount, inode, write->offset + write->length);
	if (!write->from_cache) {
		inode->attr.mtime = inode->attr.ctime = time_now();
		inode_kill_privileges(mount, reader, inode,
				      write->kill_privileges ? write->request : NULL);
	}
	inode_mark_attr_dirty(inode);
}

int write_take_in(struct mount *mount, const struct write_request *write, struct buffer *buffer)
{
	struct inode *inode = write->handle->inode;
	struct reader *reader;

	if (write->offset > (uint64_t)INT64_MAX - write->length)
		return -EFBIG;
	head_lock(mount->head);
	int error = handle_is_current(mount, write->handle) ? 0 : -ESTALE;
	if (!error)
		error = reader_acquire(mount->store, &reader);
	if (!error) {
		if (buffer)
			error = data_write(mount->engine, inode, reader, write->offset, buffer,
					   (size_t)(write->bytes - buffer->data), write->length);
		else
			error = data_write_bytes(mount->engine, inode, reader, write->offset,
						 write->bytes, write->length);
		if (!error)
			write_settle(mount, reader, inode, write);
		reader_release(reader);
	}
	head_unlock(mount->head);
	return error;
}

/* Out of the ring, before there is a lock. NULL without memory: it is copied later. */
static struct buffer *copy_write(struct mount *mount, const struct write_request *write)
{
	struct buffer *buffer = buffer_new(mount->buffers, write->length);

	if (buffer) {
		memcpy(buffer->data, write->bytes, write->length);
		buffer->used = write->length;
	}
	return buffer;
}

void op_write(fuse_req_t request, fuse_ino_t node, const char *bytes, size_t size, off_t offset,
	      struct fuse_file_info *info)
{
	struct mount *mount = fuse_req_userdata(request);
	const struct fuse_write_in *in = request_argument();
	struct buffer *own = NULL, *buffer = request_frame.buffer;
	struct write_request write = {
		.request = request,
		.handle = (struct handle *)(uintptr_t)info->fh,
		.node = node,
		.offset = (uint64_t)offset,
		.bytes = (const uint8_t *)bytes,
		.length = size,
		.from_cache = info->writepage,
		.kill_privileges = in->write_flags & FUSE_WRITE_KILL_SUIDGID,
	};

	if (!write.handle)
		return (void)fuse_reply_err(request, EBADF);
	if (!buffer && size >= KEPT_WRITE)
		own = buffer = copy_write(mount, &write);
	if (own)
		write.bytes = own->data;
	int error = atomic_load(&mount->deferred.writes) ? -EAGAIN
							 : write_take_in(mount, &write, buffer);
	if (error == -EAGAIN)
		defer_write(mount, &write, buffer);
	else if (error)
		reply_error(mount, request, node, error);
	else
		fuse_reply_write(request, size);
	buffer_unref(mount->buffers, own);
}

/* ---- fsync ---- */

void op_fsync(fuse_req_t request, fuse_ino_t node, int only_data, struct fuse_file_info *info)
{
	struct mount *mount = fuse_req_userdata(request);
	struct handle *handle = (struct handle *)(uintptr_t)info->fh;

	(void)only_data; /* one commit serves both */
	if (node_is_view(node) || !handle)
		return (void)fuse_reply_err(request, 0);
	head_lock_shared(mount->head);
	bool current = handle_is_current(mount, handle);
	head_unlock(mount->head);
	if (!current)
		return (void)fuse_reply_err(request, ESTALE);
	defer_sync(mount, request, handle->inode);
}

void op_fsyncdir(fuse_req_t request, fuse_ino_t node, int only_data, struct fuse_file_info *info)
{
	struct mount *mount = fuse_req_userdata(request);

	(void)only_data;
	(void)info;
	if (node_is_view(node))
		return (void)fuse_reply_err(request, 0);
	defer_sync(mount, request, NULL);
}

/* ---- fallocate ---- */

/* How much of [offset, end) is a hole. */
static int count_holes(struct change *change, struct inode *inode, uint64_t offset, uint64_t end,
		       uint64_t *ret)
{
	uint64_t sum = 0;

	while (offset < end && offset < inode->attr.size) {
		uint64_t hole, next;
		int error = data_seek(inode, change->reader, offset, SEEK_HOLE, &hole);
		if (error)
			return error;
		if (hole >= end || hole >= inode->attr.size) {
			offset = hole;
			break;
		}
		error = data_seek(inode, change->reader, hole, SEEK_DATA, &next);
		if (error && error != -ENXIO)
			return error;
		if (error || next > end)
			next = end;
		sum += next - hole;
		offset = next;
	}
	*ret = offset < end ? sum + (end - offset) : sum;
	return 0;
}

/* Space is not set aside: a store that deduplicates and compresses cannot know how much.  But what
 * there is no room at present is refused: programs ask lest they fail half way. */
static int check_room(struct change *change, struct inode *inode, uint64_t offset, uint64_t length)
{
	struct store *store = change->mount->store;
	uint64_t missing = length;

	int error = store_reserve(store, missing);
	if (error) {
		error = count_holes(change, inode, offset, offset + length, &missing);
		if (!error)
			error = store_reserve(store, missing);
	}
	if (!error)
		store_unreserve(store, missing);
	return error;
}

static int allocate(struct change *change, struct inode *inode, int mode, uint64_t offset,
		    uint64_t length, fuse_req_t killer)
{
	uint64_t end = offset + length;

	if (!length || end < offset || end > INT64_MAX)
		return length ? -EFBIG : -EINVAL;
	if (!(mode & FALLOC_FL_PUNCH_HOLE)) {
		int error = check_room(change, inode, offset, length);
		if (error)
			return error;
	}
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) {
		int error =
			data_punch(change->mount->engine, inode, change->reader, offset, length);
		if (error)
			return error;
		const struct head_counters counters = {.changed_bytes = (int64_t)length};
		head_count(change->mount->head, &counters);
	}
	if (!(mode & FALLOC_FL_KEEP_SIZE) && end > inode->attr.size) {
		int error = data_truncate(change->mount->engine, inode, change->reader, end);
		if (error)
			return error;
		inode_grow(change->mount, inode, end);
	}
	inode->attr.mtime = inode->attr.ctime = change->now;
	inode_kill_privileges(change->mount, change->reader, inode, killer);
	inode_mark_attr_dirty(inode);
	return 0;
}

static bool fallocate_mode_is_known(int mode)
{
	switch (mode) {
	case 0:
	case FALLOC_FL_KEEP_SIZE:
	case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
	case FALLOC_FL_ZERO_RANGE:
	case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE:
		return true;
	default:
		return false;
	}
}

void op_fallocate(fuse_req_t request, fuse_ino_t node, int mode, off_t offset, off_t length,
		  struct fuse_file_info *info)
{
	struct mount *mount = fuse_req_userdata(request);
	struct change change;
	struct inode *inode;

	(void)info;
	if (!fallocate_mode_is_known(mode))
		return (void)fuse_reply_err(request, EOPNOTSUPP);
	int error = change_begin(mount, node, &change);
	if (!error) {
		error = change_load(&change, change.ino, &inode);
		if (!error)
			error = allocate(&change, inode, mode, (uint64_t)offset, (uint64_t)length,
					 fuse_req_ctx(request)->uid ? request : NULL);
		change_end(&change);
	}
	reply_error(mount, request, node, error);
}

/* ---- copy_file_range ---- */

/* Where the contents come from: a hot inode, or a file of a point. */
struct copy_source {
	struct inode *inode;
	struct view *view;
	uint64_t ino, size;
	fuse_req_t killer; /* of the target's set-ids: the kernel does not say, so all but root */
};

static int copy_source_live(struct change *change, uint64_t node, struct copy_source *ret)
{
	if (!node_is_current(change->mount, node))
		return -ESTALE;
	int error = change_load(change, node_ino(node), &ret->inode);
	if (!error)
		ret->size = ret->inode->attr.size;
	return error;
}

static int copy_source_in_point(struct change *change, uint64_t node, struct copy_source *ret)
{
	struct inode_attr attr;

	/* A collection may be taking the chunks of a deleted point: snapshot/collect.h. */
	if (point_exists(change->reader, ret->view->point))
		return -ESTALE;
	ret->ino = node_ino(node);
	int error = inode_get(ret->view->tree, change->reader, ret->ino, &attr);
	if (!error)
		ret->size = attr.size;
	return error;
}

static int copy_range(struct change *change, struct inode *target, uint64_t to,
		      const struct copy_source *source, uint64_t from, size_t *length)
{
	if (from >= source->size)
		*length = 0;
	else if (*length > source->size - from)
		*length = source->size - from;
	if (!*length)
		return 0;
	if (to > INT64_MAX - *length)
		return -EFBIG;
	int error = data_clone(change->mount->engine, target, to, source->inode,
			       source->view ? source->view->tree : NULL, source->ino, from, *length,
			       change->reader);
	if (error)
		return error;
	const struct head_counters counters = {.changed_bytes = (int64_t)*length};
	head_count(change->mount->head, &counters);
	inode_grow(change->mount, target, to + *length);
	target->attr.mtime = target->attr.ctime = change->now;
	inode_kill_privileges(change->mount, change->reader, target, source->killer);
	inode_mark_attr_dirty(target);
	return 0;
}

/* One round: -EAGAIN where the engine has no room. */
static int copy_once(struct mount *mount, uint64_t from_node, uint64_t from, uint64_t to_node,
		     uint64_t to, struct copy_source *source, size_t *length)
{
	struct change change;
	struct inode *target;

	int error = change_begin(mount, to_node, &change);
	if (error)
		return error;
	error = source->view ? copy_source_in_point(&change, from_node, source)
			     : copy_source_live(&change, from_node, source);
	if (!error)
		error = change_load(&change, change.ino, &target);
	if (!error)
		error = copy_range(&change, target, to, source, from, length);
	change_end(&change);
	return error;
}

void op_copy_file_range(fuse_req_t request, fuse_ino_t from_node, off_t from,
			struct fuse_file_info *from_info, fuse_ino_t to_node, off_t to,
			struct fuse_file_info *to_info, size_t length, int flags)
{
	struct mount *mount = fuse_req_userdata(request);
	struct copy_source source = {.killer = fuse_req_ctx(request)->uid ? request : NULL};
	int error = 0;

	(void)from_info;
	(void)to_info;
	if (flags)
		return (void)fuse_reply_err(request, EINVAL);
	if (length > COPY_MAX)
		length = COPY_MAX;
	if (node_is_view(from_node))
		error = view_open(mount, node_epoch(from_node), &source.view);
	if (!error) {
		error = copy_once(mount, from_node, (uint64_t)from, to_node, (uint64_t)to, &source,
				  &length);
		if (source.view)
			view_close(mount, source.view);
	}
	if (error == -EAGAIN) /* the kernel copies by itself, and is throttled as a writer */
		error = -EOPNOTSUPP;
	if (error)
		return reply_error(mount, request, to_node, error);
	fuse_reply_write(request, length);
}
