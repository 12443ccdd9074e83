/*
 * lseek(2) with SEEK_DATA and SEEK_HOLE.
 *
 * The kernel asks without having sent the pages that are dirty in it, be it a size that we have not
 * heard of.  Such pages turn holes into data, never data into holes.  So of our answer only a gap
 * is in doubt: for SEEK_DATA from the offset to the data that we know, for SEEK_HOLE the hole that
 * we know.  The kernel is made to send what it has of the gap, and we look again, until that
 * changes nothing.  Pages of data that we know stay in its cache.
 *
 * A file that nobody has open for writing has no dirty pages (coherence.c).
 */
#include <errno.h>
#include <unistd.h>

#include "fs/restore_internal.h"
#include "snapshot/extent.h"

enum {
	GAP_PAGE_BY_PAGE = 256 << 10, /* above that, all pages are better sent at once before */
	SEEK_ROUNDS_MAX = 64,	      /* a writer may be faster for ever */
};

/* Whatever lies in [begin, end); `end` UINT64_MAX: to the end of the file. */
struct gap {
	uint64_t begin, end;
};

/* A file of a point has only what the tree knows. */
static int seek_in_point(struct scope *scope, uint64_t offset, int whence, uint64_t *ret)
{
	struct inode_attr attr;

	int error = inode_get(scope->tree, scope->reader, scope->ino, &attr);
	if (error)
		return error;
	if (offset >= attr.size)
		return -ENXIO;
	if (attr.flags & INODE_INLINE) {
		*ret = whence == SEEK_DATA ? offset : attr.size;
		return 0;
	}
	if (whence == SEEK_DATA) {
		error = extent_seek_data(scope->tree, scope->reader, scope->ino, offset, ret);
		return !error && *ret >= attr.size ? -ENXIO : error;
	}
	error = extent_seek_hole(scope->tree, scope->reader, scope->ino, offset, ret);
	if (!error && *ret > attr.size)
		*ret = attr.size;
	return error;
}

/* As data_seek(); `ret_gap` is what a dirty page could change of it, also with -ENXIO. */
static int seek_live(struct scope *scope, const struct seek_request *seek, uint64_t *ret_found,
		     struct gap *ret_gap)
{
	struct inode *inode = seek->handle->inode;
	struct gap gap = {seek->offset, UINT64_MAX};

	int error = data_seek(inode, scope->reader, seek->offset, seek->whence, ret_found);
	if (error && error != -ENXIO)
		return error;
	if (!error && seek->whence == SEEK_DATA) {
		gap.end = *ret_found;
	} else if (!error) {
		gap.begin = *ret_found;
		int end = data_seek(inode, scope->reader, gap.begin, SEEK_DATA, &gap.end);
		if (end && end != -ENXIO)
			return end;
	}
	if (!inode->writers)
		gap.end = gap.begin;
	*ret_gap = gap;
	return error;
}

/* Answers, or says which gap the kernel should be asked about: another one than `asked`.  The
 * `last` time it answers. */
static bool seek_answer(struct mount *mount, const struct seek_request *seek,
			const struct gap *asked, bool last, struct gap *ret_gap)
{
	const struct handle *handle = seek->handle;
	struct gap gap = {0, 0};
	struct scope scope;
	uint64_t found;

	int error = scope_enter(mount, seek->node, &scope);
	if (error) {
		reply_error(mount, seek->request, seek->node, error);
		return true;
	}
	if (scope.view)
		error = seek_in_point(&scope, seek->offset, seek->whence, &found);
	else if (!handle || !handle_is_current(mount, handle))
		error = -ESTALE;
	else
		error = seek_live(&scope, seek, &found, &gap);
	scope_leave(&scope);
	bool doubt = !last && gap.begin < gap.end &&
		     (!asked || gap.begin != asked->begin || gap.end != asked->end);
	if (doubt && (!error || error == -ENXIO)) {
		*ret_gap = gap;
		return false;
	}
	if (error)
		reply_error(mount, seek->request, seek->node, error);
	else
		fuse_reply_lseek(seek->request, (off_t)found);
	return true;
}

/* Where the kernel has let go of the mount there is nothing to send, and nobody to hear the answer.
 */
void seek_finish(struct mount *mount, const struct seek_request *seek)
{
	struct gap asked, gap;

	bool done = seek_answer(mount, seek, NULL, false, &gap);
	for (int round = 0; !done; round++) {
		asked = gap;
		if (!round && gap.end - gap.begin > GAP_PAGE_BY_PAGE)
			kernel_sync(mount);
		(void)fuse_lowlevel_notify_inval_inode(
			mount->session, seek->node, (off_t)gap.begin,
			gap.end == UINT64_MAX ? 0 : (off_t)(gap.end - gap.begin));
		done = seek_answer(mount, seek, &asked, round >= SEEK_ROUNDS_MAX, &gap);
	}
}

void op_lseek(fuse_req_t request, fuse_ino_t node, off_t offset, int whence,
	      struct fuse_file_info *info)
{
	struct mount *mount = fuse_req_userdata(request);
	const struct seek_request seek = {
		.request = request,
		.handle = (struct handle *)(uintptr_t)info->fh,
		.node = node,
		.offset = (uint64_t)offset,
		.whence = whence,
	};
	struct gap gap;

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return (void)fuse_reply_err(request, EINVAL);
	if (!seek_answer(mount, &seek, NULL, false, &gap))
		defer_seek(mount, &seek);
}
