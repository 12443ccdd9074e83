/*
 * The mount's side of a commit, and the barrier before a freeze (I7).
 *
 * The barrier brings what the kernel holds into the daemon.  syncfs(2) starts writing back all
 * dirty pages at once but does not wait for them on FUSE (and writes times, which it waits for);
 * invalidating an inode then waits until its pages have arrived.  Only inodes that are open for
 * writing can have dirty pages: close(2) and munmap(2) write back and wait.
 *
 * Never to be called by a thread that the kernel's WRITEs depend on, nor with a lock that they
 * need: not from the dispatcher, not with the head lock.
 *
 * Holding still.  The barrier sends one file after the other, and what a process writes meanwhile
 * to a file that was sent already would be missing where a later write of the same process to
 * another file is there.  So that a point is what was at one moment, writers are made to wait: with
 * its writeback cache the kernel needs to know a file's attributes for each write(2) and asks for
 * them through the handle if it does not.  They are taken from it, the answers to such questions
 * wait, and no other answer may be kept.  What remains is a write(2) that had its attributes
 * already: the last one of its thread.  (Stores through a mapping ask for nothing: they are seen
 * if made before the barrier, and may be seen page by page if made during it.)
 *
 * Who waits may hold the lock of a regular file (lseek(2) with SEEK_END), and somebody else the lock
 * of a directory and wait for that: names must not be dropped before mount_move_on().
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/restore_internal.h"
#include "snapshot/workspace.h"

/* ---- head_ops ---- */

static int prepare(void *context)
{
	struct mount *mount = context;

	return data_flush_all(mount->engine, &mount->inodes);
}

/*
 * With its writeback cache the kernel asks for st_blocks anew when a file is closed, not while it
 * is open, be it for days, nor after munmap(2): what a commit has changed it must be told.
 *
 * Who changes a directory makes the kernel ask for its attributes anew.  But an answer from before
 * the change that somebody has not yet looked at passes for the new one, and would be believed for
 * ever; what comes from before a telling does not.
 */
static void tell_stale(struct mount *mount)
{
	for (struct inode *inode = mount->inodes.dirty; inode; inode = inode->dirty_next) {
		if (!inode_is_told_wrong(inode))
			continue;
		atomic_store_explicit(&inode->told_blocks, BLOCKS_UNTOLD, memory_order_relaxed);
		defer_stale_attributes(mount, node_of(mount, inode->ino));
	}
}

static int cut(void *context)
{
	struct mount *mount = context;
	struct reader *reader;

	int error = data_cut(mount->engine, &mount->inodes);
	if (!error)
		error = reader_acquire(mount->store, &reader);
	if (error)
		return error;
	tell_stale(mount);
	error = unlinked_record(mount, reader);
	if (!error)
		error = inode_table_write_back(&mount->inodes, reader);
	reader_release(reader);
	if (!error)
		inode_table_reap(&mount->inodes);
	return error;
}

const struct head_ops mount_head_ops = {.prepare = prepare, .cut = cut, .switched = mount_switched};

/* ---- barrier ---- */

/* The mount point may be covered by another mount, or we may not reach it: then the pages come
 * one by one, with the invalidations. */
static void sync_from_outside(void *context)
{
	const struct mount *mount = context;
	struct stat stat;

	int fd = open(mount->mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return;
	if (!fstat(fd, &stat) && stat.st_dev == mount->device)
		(void)syncfs(fd);
	close(fd);
}

void kernel_sync(struct mount *mount)
{
	(void)outside_run(sync_from_outside, mount);
}

static int compare_nodes(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Nodes that are open for writing, sorted, each perhaps several times. */
static int writer_nodes(struct mount *mount, uint64_t **ret, size_t *ret_count)
{
	size_t count = 0;

	head_lock_shared(mount->head);
	uint64_t *nodes = malloc((mount->open_for_writing + 1) * sizeof(*nodes));
	for (struct handle *handle = mount->handles; nodes && handle; handle = handle->next)
		if (handle->writes && handle_is_current(mount, handle))
			nodes[count++] = handle->node;
	head_unlock(mount->head);
	if (!nodes)
		return -ENOMEM;
	qsort(nodes, count, sizeof(*nodes), compare_nodes);
	*ret = nodes;
	*ret_count = count;
	return 0;
}

int mount_barrier(struct mount *mount, struct errbuf *err)
{
	uint64_t *nodes;
	size_t count;

	/* The kernel wrote everything back before it let go, or could not any more. */
	if (mount_has_ended(mount) || atomic_load(&mount->cut))
		return 0;
	kernel_sync(mount);
	int error = writer_nodes(mount, &nodes, &count);
	if (error)
		return err_set(err, error, "%s: no memory", mount->mountpoint);
	for (size_t i = 0; i < count && !error; i++) {
		if (i && nodes[i] == nodes[i - 1])
			continue;
		error = fuse_lowlevel_notify_inval_inode(mount->session, nodes[i], 0, 0);
		if (error == -ENOENT) /* forgotten meanwhile, so written back */
			error = 0;
	}
	free(nodes);
	if (error && mount_has_ended(mount))
		error = 0;
	if (error)
		return err_set(err, error, "%s: the kernel could not write back what it holds: %s",
			       mount->mountpoint, strerror(-error));
	return 0;
}

/* ---- holding still ---- */

struct held_question {
	struct held_question *next;
	fuse_req_t request;
	uint64_t node;
};

/* Attributes only: no waiting, so that the dispatcher may do it, too. */
static void take_attributes(struct mount *mount, uint64_t node)
{
	fuse_lowlevel_notify_inval_inode(mount->session, node, -1, 0);
}

int mount_still(struct mount *mount, struct errbuf *err)
{
	uint64_t *nodes;
	size_t count;

	atomic_store(&mount->still, true);
	int error = writer_nodes(mount, &nodes, &count);
	if (error)
		return err_set(err, error, "%s: no memory", mount->mountpoint);
	for (size_t i = 0; i < count; i++)
		if (!i || nodes[i] != nodes[i - 1])
			take_attributes(mount, nodes[i]);
	free(nodes);
	return mount_barrier(mount, err);
}

void mount_move_on(struct mount *mount)
{
	pthread_mutex_lock(&mount->questions_lock);
	atomic_store(&mount->still, false);
	struct held_question *question = mount->questions;
	mount->questions = NULL;
	pthread_mutex_unlock(&mount->questions_lock);
	while (question) {
		struct held_question *next = question->next;
		getattr_reply(mount, question->request, question->node);
		free(question);
		question = next;
	}
}

bool still_holds_question(struct mount *mount, fuse_req_t request, uint64_t node)
{
	if (!atomic_load(&mount->still))
		return false;
	struct held_question *question = malloc(sizeof(*question));
	if (!question) /* then he goes on: each file by itself is still right */
		return false;
	pthread_mutex_lock(&mount->questions_lock);
	bool held = atomic_load(&mount->still);
	if (held) {
		*question = (struct held_question){mount->questions, request, node};
		mount->questions = question;
	}
	pthread_mutex_unlock(&mount->questions_lock);
	if (!held)
		free(question);
	return held;
}

void still_note_writer(struct mount *mount, uint64_t node)
{
	if (atomic_load(&mount->still))
		take_attributes(mount, node);
}

int mount_freeze(struct mount *mount, const struct freeze_options *options, struct point *ret,
		 bool *ret_made, struct errbuf *err)
{
	pthread_mutex_lock(&mount->still_lock);
	int error = mount_still(mount, err);
	if (!error)
		error = point_freeze(mount->head, options, ret, ret_made, err);
	mount_move_on(mount);
	pthread_mutex_unlock(&mount->still_lock);
	if (!error && *ret_made)
		mount_points_changed(mount);
	return error;
}

int mount_clone(struct mount *mount, const char *name, const char *by, struct errbuf *err)
{
	pthread_mutex_lock(&mount->still_lock);
	int error = mount_still(mount, err);
	if (!error)
		error = workspace_clone_head(mount->head, name, by, err);
	mount_move_on(mount);
	pthread_mutex_unlock(&mount->still_lock);
	return error;
}
