/*
 * Telling versions apart.
 *
 * Points are looked at in order, all through one reader, so that what the records refer to is
 * there.  A state is first compared with the one before it, then with the versions that have the
 * same attributes: as mtime is one of them there are hardly ever several.  Of the same inode only
 * the nodes that the trees do not share are read; contents are compared as diff does it,
 * without reading data.
 */
#include "snapshot/version.h"
#include "index/util/array.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "index/util/bytes.h"
#include "snapshot/diff_internal.h"
#include "snapshot/path.h"
#include "snapshot/point_internal.h"

/* One state of the path, in the tree of a point. */
struct state {
	uint64_t root;
	uint64_t ino; /* 0: the path is not there */
	struct inode_attr attr;
	unsigned version;
};

enum { VERSION_BUCKETS = 1024 };

struct known {
	struct state state; /* as it was first seen */
	size_t next;	    /* of the same bucket: index + 1, 0: none */
};

struct versions {
	struct store *store;
	struct reader *reader;
	uint64_t workspace; /* 0: all */
	const char *path;
	struct known *known; /* owned; version - 1 is the index */
	size_t count, capacity;
	size_t buckets[VERSION_BUCKETS]; /* by attributes: index + 1 of the newest, 0: none */
	struct state last;		 /* of the point looked at before */
	bool any;			 /* there was one */
	int (*visit)(const struct version_holder *holder, void *context);
	void *context;
};

static bool same_attributes(const struct inode_attr *a, const struct inode_attr *b)
{
	return a->mode == b->mode && a->uid == b->uid && a->gid == b->gid && a->rdev == b->rdev &&
	       a->size == b->size && a->mtime.tv_sec == b->mtime.tv_sec &&
	       a->mtime.tv_nsec == b->mtime.tv_nsec;
}

static size_t *bucket_of(struct versions *versions, const struct inode_attr *attr)
{
	uint64_t hash = (uint64_t)attr->mtime.tv_sec * 1000000007u + (uint64_t)attr->mtime.tv_nsec +
			attr->size * 31 + attr->mode;

	hash *= 0x9E3779B97F4A7C15u;
	return &versions->buckets[(hash >> 32) % VERSION_BUCKETS];
}

/* ---- comparing ---- */

static int visit_difference(const struct tree_item *old_item, const struct tree_item *new_item,
			    void *context)
{
	uint8_t type = (old_item ? old_item : new_item)->key.type;

	(void)context;
	/* Attributes were compared; where its other names are does not matter. */
	return type == ITEM_INODE || type == ITEM_BACKREF ? 0 : 1;
}

struct names_walk {
	struct tree_cursor cursor;
	struct tree_item item;
	bool found;
};

/* `error` is what tree_seek() or tree_next() said. */
static int names_settle(struct names_walk *walk, uint64_t directory, int error)
{
	if (error && error != -ENOENT)
		return error;
	walk->found =
		!error && walk->item.key.ino == directory && walk->item.key.type == ITEM_DIRENT;
	return 0;
}

/* Do the items name the same files of the same types?  1, 0, or an error. */
static int same_names(const struct tree_item *a, const struct tree_item *b)
{
	size_t a_position = 0, b_position = 0;
	struct dirent_entry left, right;
	int more, other;

	if (a->key.offset != b->key.offset)
		return 0;
	do {
		more = dirent_decode(a, &a_position, &left);
		other = dirent_decode(b, &b_position, &right);
		if (more < 0 || other < 0)
			return more < 0 ? more : other;
		if (more != other)
			return 0;
		if (more && (left.name.length != right.name.length ||
			     left.target.type != right.target.type ||
			     memcmp(left.name.text, right.name.text, left.name.length) != 0))
			return 0;
	} while (more);
	return 1;
}

static int same_directories(const struct diff_file *a, const struct diff_file *b,
			    struct reader *reader)
{
	const struct tree_key a_key = {a->ino, ITEM_DIRENT, 0}, b_key = {b->ino, ITEM_DIRENT, 0};
	struct names_walk left, right;
	int error = names_settle(&left, a->ino,
				 tree_seek(a->tree, reader, &a_key, &left.cursor, &left.item));

	if (!error)
		error = names_settle(
			&right, b->ino,
			tree_seek(b->tree, reader, &b_key, &right.cursor, &right.item));
	while (!error && left.found && right.found) {
		int same = same_names(&left.item, &right.item);
		if (same <= 0)
			return same;
		error = names_settle(&left, a->ino, tree_next(&left.cursor, &left.item));
		if (!error)
			error = names_settle(&right, b->ino, tree_next(&right.cursor, &right.item));
	}
	return error ? error : left.found == right.found;
}

static int same_files(const struct diff_file *a, const struct diff_file *b, struct reader *reader)
{
	int result;

	if (S_ISDIR(a->attr.mode)) {
		result = same_directories(a, b, reader);
		if (result <= 0)
			return result;
	} else {
		result = diff_contents(a, b, reader, 0, UINT64_MAX);
		if (result)
			return result < 0 ? result : 0;
	}
	result = diff_xattrs(a, b, reader);
	return result < 0 ? result : !result;
}

/* Attributes are the same. */
static int same_inode(const struct diff_file *a, const struct diff_file *b, struct reader *reader)
{
	const struct tree_key from = {a->ino, 0, 0}, to = {a->ino, UINT8_MAX, UINT64_MAX};
	int differs = tree_diff_range(a->tree, b->tree, reader, &from, &to, visit_difference, NULL);

	return differs <= 0 ? (differs ? differs : 1) : same_files(a, b, reader);
}

/* 1, 0, or an error. */
static int same_state(struct versions *versions, const struct state *old, const struct state *new)
{
	struct diff_file a = {.ino = old->ino, .attr = old->attr};
	struct diff_file b = {.ino = new->ino, .attr = new->attr};
	int result;

	if (!same_attributes(&old->attr, &new->attr))
		return 0;
	result = tree_open(versions->store, old->root, 0, &a.tree);
	if (!result)
		result = tree_open(versions->store, new->root, 0, &b.tree);
	if (!result)
		result = a.ino == b.ino ? same_inode(&a, &b, versions->reader)
					: same_files(&a, &b, versions->reader);
	tree_close(a.tree);
	tree_close(b.tree);
	return result;
}

/* ---- versions ---- */

static int version_add(struct versions *versions, struct state *state)
{
	size_t *bucket = bucket_of(versions, &state->attr);

	struct known *known = array_reserve(versions->known, versions->count + 1,
					    &versions->capacity, sizeof(known[0]));
	if (!known)
		return -ENOMEM;
	versions->known = known;
	state->version = (unsigned)versions->count + 1;
	versions->known[versions->count] = (struct known){*state, *bucket};
	*bucket = ++versions->count;
	return 0;
}

/* Finds or makes the version of a state. */
static int version_find(struct versions *versions, struct state *state)
{
	int same = versions->any && versions->last.ino
			   ? same_state(versions, &versions->last, state)
			   : 0;

	if (same > 0)
		state->version = versions->last.version;
	if (same)
		return same < 0 ? same : 0;
	for (size_t i = *bucket_of(versions, &state->attr); i; i = versions->known[i - 1].next) {
		same = same_state(versions, &versions->known[i - 1].state, state);
		if (same > 0)
			state->version = (unsigned)i;
		if (same)
			return same < 0 ? same : 0;
	}
	return version_add(versions, state);
}

static int state_load(struct versions *versions, uint64_t root, struct state *ret)
{
	struct state state = {.root = root};
	struct tree *tree;
	int error = tree_open(versions->store, root, 0, &tree);

	if (error)
		return error;
	error = path_lookup(tree, versions->reader, versions->path, &state.ino);
	if (!error) {
		error = inode_get(tree, versions->reader, state.ino, &state.attr);
		if (error == -ENOENT)
			error = -EUCLEAN;
	} else if (error == -ENOENT || error == -ENOTDIR) {
		state.ino = 0;
		error = 0;
	}
	tree_close(tree);
	if (!error)
		*ret = state;
	return error;
}

static int visit_point(struct bytes key, struct bytes value, void *context)
{
	struct versions *versions = context;
	const struct point_fixed *fixed;
	struct version_holder holder;
	int error = point_peek(key, value, &holder.point, &fixed);

	if (error)
		return error;
	holder.workspace = get_le64(fixed->workspace);
	if (versions->workspace && holder.workspace != versions->workspace)
		return 0;
	uint64_t root = get_le64(fixed->root);
	if (!versions->any || root != versions->last.root) {
		struct state state;
		error = state_load(versions, root, &state);
		if (!error && state.ino)
			error = version_find(versions, &state);
		if (error)
			return error;
		versions->last = state;
		versions->any = true;
	}
	if (!versions->last.ino)
		return 0;
	error = point_peek_name(value, &holder.name, &holder.name_length);
	if (error)
		return error;
	holder.created_ns = (int64_t)get_le64(fixed->created);
	holder.version = versions->last.version;
	holder.ino = versions->last.ino;
	holder.attr = &versions->last.attr;
	return versions->visit(&holder, versions->context);
}

int version_list(struct repo *repo, uint64_t workspace, const char *path,
		 int (*visit)(const struct version_holder *holder, void *context), void *context)
{
	struct versions *versions = calloc(1, sizeof(*versions));
	int error;

	if (!versions)
		return -ENOMEM;
	versions->store = repo->store;
	versions->workspace = workspace;
	versions->path = path;
	versions->visit = visit;
	versions->context = context;
	error = reader_acquire(repo->store, &versions->reader);
	if (!error)
		error = reader_records(versions->reader, TABLE_POINTS, (struct bytes){NULL, 0},
				       visit_point, versions);
	reader_release(versions->reader);
	free(versions->known);
	free(versions);
	return error;
}
