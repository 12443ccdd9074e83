/*
 * `.snapshots`: the points of the workspace as read-only directories.
 *
 * A view is a tree over a point's root, opened at the first use and kept until the point is
 * deleted.  The kernel caches look-ups below `.snapshots` for ever.  What came, went or was renamed
 * is in the journal, in the same commit: mount_points_changed() reads on from where it was and
 * takes back just those names, so that a freeze costs the same among ten points and ten thousand.
 * Taking back waits in the kernel for look-ups under way, and comes after the commit: no stale
 * answer can slip between.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/log.h"
#include "fs/mount_internal.h"
#include "snapshot/journal.h"

enum { FIRST_COOKIE = 16 };

/* Where the end of the journal is damaged no point comes or goes: all changes write there. */
void points_init(struct points *points, struct repo *repo)
{
	pthread_mutex_init(&points->lock, NULL);
	pthread_mutex_init(&points->changing, NULL);
	points->changed = time_now();
	if (journal_last(repo, &points->journal))
		points->journal = UINT64_MAX;
}

static void view_free(struct view *view)
{
	tree_close(view->tree);
	free(view);
}

void points_release(struct points *points)
{
	for (size_t i = 0; i < POINT_VIEWS; i++) {
		while (points->views[i]) {
			struct view *view = points->views[i];
			points->views[i] = view->next;
			view_free(view);
		}
	}
	pthread_mutex_destroy(&points->changing);
	pthread_mutex_destroy(&points->lock);
}

/* ---- views ---- */

/* The link that leads to the view, or where it belongs. */
static struct view **view_link(struct points *points, uint64_t point)
{
	struct view **link = &points->views[point % POINT_VIEWS];

	while (*link && (*link)->point != point)
		link = &(*link)->next;
	return link;
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
	struct view **link = view_link(points, point);
	view = *link;
	if (!view) {
		error = view_make(mount, point, &view);
		if (!error)
			*link = view;
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

/* The point is gone: the next use finds that out. */
static void view_drop(struct points *points, uint64_t point)
{
	pthread_mutex_lock(&points->lock);
	struct view **link = view_link(points, point), *view = *link;
	bool unused = view && !view->users;
	if (view) {
		*link = view->next;
		view->dropped = true;
	}
	pthread_mutex_unlock(&points->lock);
	if (unused)
		view_free(view);
}

/* ---- what the kernel may know ---- */

static void forget_name(struct mount *mount, const char *name)
{
	if (!mount_has_ended(mount)) /* -ENOENT: the kernel does not know it */
		fuse_lowlevel_notify_inval_entry(mount->session, NODE_VIEW, name, strlen(name));
}

/* points.changing held. */
static int forget_change(const struct journal_entry *entry, void *context)
{
	struct mount *mount = context;

	mount->points.journal = entry->number;
	if (entry->workspace != head_workspace(mount->head))
		return 0;
	switch (entry->action) {
	case JOURNAL_FREEZE:
	case JOURNAL_RECEIVE:
		forget_name(mount, entry->point_name);
		break;
	case JOURNAL_DELETE:
	case JOURNAL_PRUNE:
		forget_name(mount, entry->point_name);
		view_drop(&mount->points, entry->point);
		break;
	case JOURNAL_RENAME:
		forget_name(mount, entry->point_name);
		for (size_t i = 0; i < entry->detail_count; i++)
			if (strcmp(entry->details[i].name, "old_name") == 0)
				forget_name(mount, entry->details[i].value);
		break;
	default:
		break;
	}
	return 0;
}

/* Takes back with a reader held, which is harmless: no look-up waits for its release. */
void mount_points_changed(struct mount *mount)
{
	struct points *points = &mount->points;

	pthread_mutex_lock(&points->lock);
	points->changed = time_now();
	pthread_mutex_unlock(&points->lock);
	pthread_mutex_lock(&points->changing);
	int error = journal_read(mount->repo, points->journal, forget_change, mount);
	if (error == -EBADMSG || error == -EUCLEAN) /* do not stumble over it each time */
		(void)journal_last(mount->repo, &points->journal);
	pthread_mutex_unlock(&points->changing);
	if (error)
		log_line(LOG_LEVEL_WARNING, "%s: .snapshots may show old names: %s",
			 mount_point(mount), strerror(-error));
	/* The listing and the times. -ENOENT: the kernel does not know it yet. */
	if (!mount_has_ended(mount))
		fuse_lowlevel_notify_inval_inode(mount->session, NODE_VIEW, 0, 0);
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
	int error = lookup_point(mount, name, &id);
	if (!error)
		error = view_root(mount, id, &entry);
	if (error && error != -ENOENT)
		return reply_error(mount, request, NODE_VIEW, error);
	entry.entry_timeout = mount->remembered; /* ino 0 where there is none */
	fuse_reply_entry(request, &entry);
}

/* A listing that is being filled. */
struct point_listing {
	fuse_req_t request;
	char *data;
	size_t size, used;
	off_t after; /* the cookie of what came last */
	bool plus;
};

/* 1: it is full. */
static int listing_put(struct point_listing *listing, const char *name, uint64_t ino,
		       uint64_t cookie)
{
	struct fuse_entry_param entry = {.attr = {.st_mode = S_IFDIR, .st_ino = ino}};
	char *at = listing->data + listing->used;
	size_t left = listing->size - listing->used;

	if (cookie <= (uint64_t)listing->after)
		return 0;
	size_t length = listing->plus ? fuse_add_direntry_plus(listing->request, at, left, name,
							       &entry, (off_t)cookie)
				      : fuse_add_direntry(listing->request, at, left, name,
							  &entry.attr, (off_t)cookie);
	if (length > left)
		return 1;
	listing->used += length;
	return 0;
}

static int listing_point(uint64_t id, const char *name, size_t length, void *context)
{
	char text[256];

	memcpy(text, name, length);
	text[length] = '\0';
	return listing_put(context, text, NODE_VIEW | id << NODE_INO_BITS | ROOT_INO,
			   FIRST_COOKIE + id);
}

/* Oldest first; the cookie of a point is made of its id, so that each call goes on from there. */
void points_readdir(struct mount *mount, fuse_req_t request, size_t size, off_t offset, bool plus)
{
	struct buffer *buffer = buffer_new(mount->buffers, size);
	uint64_t from = offset < FIRST_COOKIE ? 0 : (uint64_t)offset - FIRST_COOKIE + 1;

	if (!buffer)
		return reply_error(mount, request, NODE_VIEW, -ENOMEM);
	struct point_listing listing = {request, (char *)buffer->data, size, 0, offset, plus};
	int result = listing_put(&listing, ".", NODE_VIEW, 1);
	if (!result)
		result = listing_put(&listing, "..", ROOT_INO, 2);
	if (!result)
		result = point_names(mount->repo, head_workspace(mount->head), from, listing_point,
				     &listing);
	if (result < 0)
		reply_error(mount, request, NODE_VIEW, result);
	else
		fuse_reply_buf(request, listing.data, listing.used);
	buffer_unref(mount->buffers, buffer);
}
