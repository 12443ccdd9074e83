#include "look.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "index/util/hash.h"
#include "snapshot/collect.h"
#include "snapshot/dirent.h"
#include "snapshot/extent.h"
#include "snapshot/inode.h"
#include "snapshot/journal.h"
#include "snapshot/point.h"
#include "snapshot/workspace.h"
#include "snapshot/xattr.h"

enum { MESSAGE = 256, FILE_MAX = 4 << 20 };

static bool plain;

void look_plainly(void)
{
	plain = true;
}

struct lines {
	char **line; /* owned */
	size_t count;
};

static void lines_add(struct lines *lines, const char *text)
{
	lines->line = reallocarray(lines->line, lines->count + 1, sizeof(*lines->line));
	if (!lines->line || !(lines->line[lines->count++] = strdup(text)))
		abort();
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted, as one text; the lines are freed. */
static char *lines_join(struct lines *lines)
{
	size_t length = 1;
	char *text, *end;

	if (lines->count)
		qsort(lines->line, lines->count, sizeof(*lines->line), by_text);
	for (size_t i = 0; i < lines->count; i++)
		length += strlen(lines->line[i]);
	text = end = malloc(length);
	if (!text)
		abort();
	*text = '\0';
	for (size_t i = 0; i < lines->count; i++) {
		end = stpcpy(end, lines->line[i]);
		free(lines->line[i]);
	}
	free(lines->line);
	*lines = (struct lines){0};
	return text;
}

/* ---- one tree ---- */

struct walk {
	struct tree *tree;
	struct reader *reader;
	struct lines lines;
	uint8_t *buffer; /* FILE_MAX bytes */
	char *message;
};

static int complain(struct walk *walk, int error, const char *path, const char *what)
{
	snprintf(walk->message, MESSAGE, "%.80s: %.60s: %.60s", path, what, strerror(-error));
	return error;
}

/* Contents (a link's target) and extended attributes. */
static int hash_file(struct walk *walk, uint64_t ino, const struct inode_attr *attr,
		     const char *path, uint64_t *ret)
{
	uint64_t parts[2] = {0, 0};
	struct errbuf err = {""};
	char names[4096], *name;
	ssize_t length;

	if (!S_ISDIR(attr->mode)) {
		length = file_read(walk->tree, walk->reader, ino, 0, walk->buffer, FILE_MAX, &err);
		if (length < 0)
			return complain(walk, (int)length, path, err.text);
		if ((uint64_t)length != attr->size)
			return complain(walk, -EUCLEAN, path, "size");
		parts[0] = hash64(walk->buffer, (size_t)length);
	}
	length = xattr_list(walk->tree, walk->reader, ino, names, sizeof(names));
	if (length < 0)
		return complain(walk, (int)length, path, "listing xattrs");
	for (name = names; name < names + length; name += strlen(name) + 1) {
		ssize_t got =
			xattr_get(walk->tree, walk->reader, ino, name, walk->buffer, FILE_MAX);

		if (got < 0)
			return complain(walk, (int)got, path, name);
		parts[1] ^= hash64(walk->buffer, (size_t)got) + hash64(name, strlen(name)) * 3;
	}
	*ret = hash64(parts, sizeof(parts));
	return 0;
}

struct below {
	struct walk *walk;
	const char *path;
};

static int walk_directory(struct walk *walk, uint64_t ino, const char *path);

static int walk_entry(const struct dirent_entry *entry, void *context)
{
	const struct below *below = context;
	struct walk *walk = below->walk;
	uint64_t ino = entry->target.ino, hash = 0;
	struct inode_attr attr;
	char path[1024], line[1200];
	int r;

	snprintf(path, sizeof(path), "%s%s%.*s", below->path, *below->path ? "/" : "",
		 (int)entry->name.length, entry->name.text);
	r = inode_get(walk->tree, walk->reader, ino, &attr);
	if (r < 0)
		return complain(walk, r, path, "no inode");
	r = hash_file(walk, ino, &attr, path, &hash);
	if (r < 0)
		return r;
	if (plain) {
		attr.mtime = (struct timespec){0};
		ino = 0;
		if (S_ISDIR(attr.mode))
			attr.size = attr.nlink = 0;
	}
	snprintf(line, sizeof(line),
		 "%s %o %u %u:%u %" PRIu64 " %" PRIu64 " %lld.%09ld %016" PRIx64 "\n", path,
		 attr.mode, attr.nlink, attr.uid, attr.gid, ino, attr.size,
		 (long long)attr.mtime.tv_sec, attr.mtime.tv_nsec, hash);
	lines_add(&walk->lines, line);
	return S_ISDIR(attr.mode) ? walk_directory(walk, entry->target.ino, path) : 0;
}

static int walk_directory(struct walk *walk, uint64_t ino, const char *path)
{
	struct below below = {walk, path};

	return dirent_iterate(walk->tree, walk->reader, ino, 0, walk_entry, &below);
}

static int walk_tree(struct repo *repo, struct tree *tree, char **ret, char *message)
{
	struct walk walk = {.tree = tree, .message = message};
	int r = reader_acquire(repo_store(repo), &walk.reader);

	if (r < 0)
		return r;
	walk.buffer = malloc(FILE_MAX);
	if (!walk.buffer)
		abort();
	r = walk_directory(&walk, ROOT_INO, "");
	if (r < 0 && !*message)
		snprintf(message, MESSAGE, "walking a tree: %s", strerror(-r));
	*ret = lines_join(&walk.lines);
	if (r < 0)
		free(*ret);
	free(walk.buffer);
	reader_release(walk.reader);
	return r;
}

static int look_at_head(struct repo *repo, const char *workspace, char **ret, char *message)
{
	struct errbuf err = {""};
	struct head *head;
	int r = repo_head(repo, workspace, &head, &err);

	if (r < 0) {
		snprintf(message, MESSAGE, "workspace %.60s: %.150s", workspace, err.text);
		return r;
	}
	head_lock_shared(head);
	r = walk_tree(repo, head_tree(head), ret, message);
	head_unlock(head);
	head_put(head);
	return r;
}

static int look_at_point(struct repo *repo, const struct point *point, char **ret, char *message)
{
	struct tree *view;
	int r = point_view(repo, point, &view);

	if (r < 0) {
		snprintf(message, MESSAGE, "point %.60s: %s", point->name, strerror(-r));
		return r;
	}
	r = walk_tree(repo, view, ret, message);
	tree_close(view);
	return r;
}

int look_at_files(struct repo *repo, const char *workspace, const char *name, char **ret,
		  char *message)
{
	struct errbuf err = {""};
	struct point point;
	int r;

	*message = '\0';
	if (!name)
		return look_at_head(repo, workspace, ret, message);
	r = point_resolve(repo, workspace, name, &point, &err);
	if (r < 0) {
		snprintf(message, MESSAGE, "point %.60s: %.150s", name, err.text);
		return r;
	}
	r = look_at_point(repo, &point, ret, message);
	point_release(&point);
	return r;
}

/* ---- all of them ---- */

static int add_heads(struct repo *repo, struct lines *lines, char *message)
{
	struct workspace *workspaces;
	size_t count;
	int r = workspace_list(repo, &workspaces, &count);

	if (r < 0)
		return r;
	for (size_t i = 0; i < count && r == 0; i++) {
		char line[512], *files;

		r = look_at_head(repo, workspaces[i].name, &files, message);
		if (r < 0)
			break;
		snprintf(line, sizeof(line), "workspace %s %016" PRIx64 "\n", workspaces[i].name,
			 hash64(files, strlen(files)));
		lines_add(lines, line);
		free(files);
	}
	workspaces_free(workspaces, count);
	return r;
}

static int add_points(struct repo *repo, struct lines *lines, char *message)
{
	struct point *points;
	size_t count;
	int r = point_list(repo, 0, &points, &count);

	if (r < 0)
		return r;
	for (size_t i = 0; i < count && r == 0; i++) {
		char line[512], *files;

		r = look_at_point(repo, &points[i], &files, message);
		if (r < 0)
			break;
		snprintf(line, sizeof(line), "point %" PRIu64 " %" PRIu64 " %s %016" PRIx64 "\n",
			 plain ? 0 : points[i].id, plain ? 0 : points[i].workspace,
			 plain && points[i].origin == POINT_SAFETY ? "(kept)" : points[i].name,
			 hash64(files, strlen(files)));
		lines_add(lines, line);
		free(files);
	}
	points_free(points, count);
	return r;
}

int look_at_repo(struct repo *repo, char **ret, char *message)
{
	struct lines lines = {0};
	int r;

	*message = '\0';
	r = add_heads(repo, &lines, message);
	if (r == 0)
		r = add_points(repo, &lines, message);
	*ret = lines_join(&lines);
	if (r < 0) {
		free(*ret);
		if (!*message)
			snprintf(message, MESSAGE, "looking: %s", strerror(-r));
	}
	return r;
}

static void keep_finding(const char *finding, void *context)
{
	char *message = context;

	if (!*message)
		snprintf(message, MESSAGE, "check: %.240s", finding);
}

static int check(struct repo *repo, char *message)
{
	struct check_result result;
	struct journal_state journal;
	int r = repo_check(repo, true, keep_finding, NULL, message, &result);

	if (r == 0 && !result.errors) {
		r = journal_verify(repo, 0, NULL, keep_finding, message, &journal);
		result.errors = r == 0 ? journal.errors : 0;
	}
	if (r < 0 && !*message)
		snprintf(message, MESSAGE, "check: %s", strerror(-r));
	return r == 0 && result.errors ? -EUCLEAN : r;
}

int look_at_store(const char *directory, struct repo **ret_repo, char **ret, char *message)
{
	struct errbuf err = {""};
	struct repo *repo;
	int r = repo_open(directory, 0, NULL, &repo, &err);

	*message = '\0';
	if (r < 0) {
		snprintf(message, MESSAGE, "open: %.240s", err.text);
		return r;
	}
	r = check(repo, message);
	if (r == 0)
		r = look_at_repo(repo, ret, message);
	if (r == 0 && ret_repo)
		*ret_repo = repo;
	else
		repo_close(repo);
	return r;
}
