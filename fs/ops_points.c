/*
 * `.snapshots`: the points of the workspace as read-only directories.
 *
 * A view is a tree over a point's root, opened at the first use and kept until points change.
 * The kernel caches look-ups below `.snapshots` for ever; mount_points_changed() takes back each
 * name that was asked for.  The name is noted before the point is looked up, and taking back
 * waits in the kernel for look-ups under way, so no stale answer can slip between.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/mount_internal.h"

enum { NAMES_MAX = 4096, FIRST_COOKIE = 16 };

void points_init(struct points *points)
{
	pthread_mutex_init(&points->lock, NULL);
	points->changed = time_now();
}

static void names_free(char **names, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(names[i]);
	free(names);
}

static void view_free(struct view *view)
{
	tree_close(view->tree);
	free(view);
}

void points_release(struct points *points)
{
	while (points->views) {
		struct view *view = points->views;
		points->views = view->next;
		view_free(view);
	}
	names_free(points->names, points->name_count);
	pthread_mutex_destroy(&points->lock);
}

/* ---- views ---- */

static struct view *view_find(const struct points *points, uint64_t point)
{
	struct view *view = points->views;

	while (view && view->point != point)
		view = view->next;
	return view;
}

/* Points of other workspaces have no place here. */
static int view_make(struct mount *mount, uint64_t id, struct view **ret)
{
	struct point point;

	int error = point_get(mount->repo, id, &point);
	if (error)
		return error == -ENOENT ? -ESTALE : error;
	struct view *view = calloc(1, sizeof(*view));
	if (!view)
		error = -ENOMEM;
	else if (point.workspace != head_workspace(mount->head))
		error = -ESTALE;
	else
		error = point_view(mount->repo, &point, &view->tree);
	point_release(&point);
	if (error) {
		free(view);
		return error;
	}
	view->point = id;
	*ret = view;
	return 0;
}

int view_open(struct mount *mount, uint64_t point, struct view **ret)
{
	struct points *points = &mount->points;
	struct view *view;
	int error = 0;

	pthread_mutex_lock(&points->lock);
	view = view_find(points, point);
	if (!view) {
		error = view_make(mount, point, &view);
		if (!error) {
			view->next = points->views;
			points->views = view;
		}
	}
	if (!error) {
		view->users++;
		*ret = view;
	}
	pthread_mutex_unlock(&points->lock);
	return error;
}

void view_close(struct mount *mount, struct view *view)
{
	pthread_mutex_lock(&mount->points.lock);
	bool last = --view->users == 0 && view->dropped;
	pthread_mutex_unlock(&mount->points.lock);
	if (last)
		view_free(view);
}

/* points.lock held: the next use opens them anew, or finds that the point is gone. */
static void views_drop(struct points *points)
{
	while (points->views) {
		struct view *view = points->views;
		points->views = view->next;
		view->dropped = true;
		if (!view->users)
			view_free(view);
	}
}

/* ---- names that the kernel may know ---- */

/* False: it could not be noted, and must not be cached. */
static bool note_name(struct points *points, const char *name)
{
	bool noted = false;

	pthread_mutex_lock(&points->lock);
	for (size_t i = 0; i < points->name_count && !noted; i++)
		noted = strcmp(points->names[i], name) == 0;
	if (!noted && points->name_count < NAMES_MAX) {
		if (points->name_count == points->name_capacity) {
			size_t capacity = points->name_capacity ? 2 * points->name_capacity : 16;
			char **names = reallocarray(points->names, capacity, sizeof(*names));
			if (names) {
				points->names = names;
				points->name_capacity = capacity;
			}
		}
		if (points->name_count < points->name_capacity) {
			char *copy = strdup(name);
			if (copy)
				points->names[points->name_count++] = copy;
			noted = copy != NULL;
		}
	}
	pthread_mutex_unlock(&points->lock);
	return noted;
}

void mount_points_changed(struct mount *mount)
{
	struct points *points = &mount->points;

	pthread_mutex_lock(&points->lock);
	char **names = points->names;
	size_t count = points->name_count;
	points->names = NULL;
	points->name_count = points->name_capacity = 0;
	points->changed = time_now();
	views_drop(points);
	pthread_mutex_unlock(&points->lock);
	if (mount_has_ended(mount)) {
		names_free(names, count);
		return;
	}
	for (size_t i = 0; i < count; i++)
		fuse_lowlevel_notify_inval_entry(mount->session, NODE_VIEW, names[i],
						 strlen(names[i]));
	/* The listing and the times. -ENOENT: the kernel does not know it yet. */
	fuse_lowlevel_notify_inval_inode(mount->session, NODE_VIEW, 0, 0);
	names_free(names, count);
}

/* ---- operations ---- */

void points_stat(struct mount *mount, struct stat *ret)
{
	struct inode_attr root = {.mode = S_IFDIR};
	struct scope scope;

	if (!scope_enter(mount, ROOT_INO, &scope)) {
		(void)scope_attributes(&scope, ROOT_INO, &root);
		scope_leave(&scope);
	}
	root.mode = S_IFDIR | (root.mode & 0555);
	root.nlink = 2;
	pthread_mutex_lock(&mount->points.lock);
	root.atime = root.mtime = root.ctime = mount->points.changed;
	pthread_mutex_unlock(&mount->points.lock);
	attr_to_stat(NODE_VIEW, &root, ret);
}

void points_getattr(struct mount *mount, fuse_req_t request)
{
	struct stat stat;

	points_stat(mount, &stat);
	if (request_frame.statx)
		reply_statx(request, &stat, NULL);
	else
		reply_attr(request, &stat);
}

void points_lookup_root(struct mount *mount, fuse_req_t request)
{
	struct fuse_entry_param entry;
	struct stat stat;

	points_stat(mount, &stat);
	entry_fill(mount, NODE_VIEW, &stat, &entry);
	fuse_reply_entry(request, &entry);
}

static int view_root(struct mount *mount, uint64_t point, struct fuse_entry_param *ret)
{
	uint64_t node = NODE_VIEW | point << NODE_INO_BITS | ROOT_INO;
	struct inode_attr attr;
	struct scope scope;
	struct stat stat;

	if (point > NODE_EPOCH_MAX)
		return -EOVERFLOW;
	int error = scope_enter(mount, node, &scope);
	if (error)
		return error;
	error = scope_attributes(&scope, ROOT_INO, &attr);
	if (!error) {
		scope_stat(&scope, ROOT_INO, &attr, &stat);
		entry_fill(mount, node, &stat, ret);
	}
	scope_leave(&scope);
	return error;
}

static int lookup_point(struct mount *mount, const char *name, uint64_t *ret_id)
{
	struct point point;

	int error =
		point_by_name(mount->repo, head_workspace(mount->head), name, strlen(name), &point);
	if (error)
		return error;
	*ret_id = point.id;
	point_release(&point);
	return 0;
}

static void reply_root(struct mount *mount, fuse_req_t request)
{
	struct inode_attr attr;
	struct scope scope;
	struct stat stat;

	int error = scope_enter(mount, ROOT_INO, &scope);
	if (!error) {
		error = scope_attributes(&scope, ROOT_INO, &attr);
		scope_stat(&scope, ROOT_INO, &attr, &stat);
		scope_leave(&scope);
	}
	if (error)
		return reply_error(mount, request, ROOT_INO, error);
	reply_counted_entry(mount, request, ROOT_INO, &stat);
}

void points_lookup(struct mount *mount, fuse_req_t request, const char *name)
{
	struct fuse_entry_param entry = {0};
	uint64_t id;

	if (strcmp(name, ".") == 0)
		return points_lookup_root(mount, request);
	if (strcmp(name, "..") == 0)
		return reply_root(mount, request);
	bool noted = note_name(&mount->points, name);
	int error = lookup_point(mount, name, &id);
	if (!error)
		error = view_root(mount, id, &entry);
	if (error && error != -ENOENT)
		return reply_error(mount, request, NODE_VIEW, error);
	entry.entry_timeout = noted ? mount->remembered : 0; /* ino 0 where there is none */
	fuse_reply_entry(request, &entry);
}

/* Oldest first; the cookie of a point is made of its id. */
void points_readdir(struct mount *mount, fuse_req_t request, size_t size, off_t offset, bool plus)
{
	static const char *const dots[] = {".", ".."};
	struct buffer *buffer = buffer_new(mount->buffers, size);
	struct point *points = NULL;
	size_t count = 0, used = 0;

	int error = buffer ? point_list(mount->repo, head_workspace(mount->head), &points, &count)
			   : -ENOMEM;
	for (size_t i = 0; !error && i < 2 + count; i++) {
		const struct point *point = i < 2 ? NULL : &points[i - 2];
		uint64_t cookie = point ? FIRST_COOKIE + point->id : i + 1;
		const char *name = point ? point->name : dots[i];
		char *at = (char *)buffer->data + used;
		struct fuse_entry_param entry = {.attr.st_mode = S_IFDIR};
		if (cookie <= (uint64_t)offset)
			continue;
		entry.attr.st_ino = point ? NODE_VIEW | point->id << NODE_INO_BITS | ROOT_INO
				    : i	  ? ROOT_INO
					  : NODE_VIEW;
		size_t length = plus ? fuse_add_direntry_plus(request, at, size - used, name,
							      &entry, (off_t)cookie)
				     : fuse_add_direntry(request, at, size - used, name,
							 &entry.attr, (off_t)cookie);
		if (length > size - used)
			break;
		used += length;
	}
	if (error)
		reply_error(mount, request, NODE_VIEW, error);
	else
		fuse_reply_buf(request, (const char *)buffer->data, used);
	points_free(points, count);
	if (buffer)
		buffer_unref(mount->buffers, buffer);
}
