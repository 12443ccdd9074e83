/* Requests that look into states: diff, ls, cat. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/service_internal.h"
#include "index/util/array.h"
#include "snapshot/diff.h"
#include "snapshot/dirent.h"
#include "snapshot/extent.h"
#include "snapshot/inode.h"
#include "snapshot/path.h"

enum { CAT_PIECE = 1 << 20 };

/* ---- diff ---- */

struct diff_filter {
	char **paths; /* owned; empty: everything */
	size_t count;
};

static void diff_filter_release(struct diff_filter *filter)
{
	for (size_t i = 0; i < filter->count; i++)
		free(filter->paths[i]);
	free(filter->paths);
}

/* In place: no leading, doubled or trailing slashes, no "." components, as diff tells paths. */
static void path_normalize(char *path)
{
	const char *from = path;
	char *to = path;

	while (*from) {
		size_t length = strcspn(from, "/");
		if (length && !(length == 1 && from[0] == '.')) {
			if (to != path)
				*to++ = '/';
			memmove(to, from, length);
			to += length;
		}
		from += length;
		from += strspn(from, "/");
	}
	*to = '\0';
}

static int diff_filter_fill(struct request *request, struct diff_filter *ret)
{
	struct diff_filter filter = {0};
	const char **texts;
	size_t count;
	int error = request_texts(request, "paths", &texts, &count);
	if (error)
		return error;
	filter.paths = calloc(count ? count : 1, sizeof(*filter.paths));
	if (!filter.paths)
		error = -ENOMEM;
	for (size_t i = 0; i < count && !error; i++) {
		char *path = service_decode_text(texts[i]);
		if (path) {
			path_normalize(path);
			filter.paths[filter.count++] = path;
		} else {
			error = -ENOMEM;
		}
	}
	free(texts);
	if (error)
		diff_filter_release(&filter);
	else
		*ret = filter;
	return error;
}

/* `path` is `directory` or lies below it. */
static bool path_is_below(const char *path, const char *directory)
{
	size_t length = strlen(directory);
	if (!length)
		return true;
	return strncmp(path, directory, length) == 0 &&
	       (path[length] == '\0' || path[length] == '/');
}

static bool diff_filter_takes(const struct diff_filter *filter, const struct diff_entry *entry)
{
	if (!filter->count)
		return true;
	bool renamed_directory = entry->op == DIFF_RENAMED && S_ISDIR(entry->mode);
	for (size_t i = 0; i < filter->count; i++) {
		const char *wanted = filter->paths[i];
		if (path_is_below(entry->path, wanted))
			return true;
		if (entry->old_path && path_is_below(entry->old_path, wanted))
			return true;
		if (renamed_directory &&
		    (path_is_below(wanted, entry->path) || path_is_below(wanted, entry->old_path)))
			return true;
	}
	return false;
}

struct diff_collection {
	struct request *request;
	const struct diff_filter *filter;
	json_t *array;
};

static int diff_collect(const struct diff_entry *entry, void *context)
{
	struct diff_collection *collection = context;
	const struct asker *asker = collection->request->asker;
	char op[2] = {(char)entry->op, '\0'};

	if (!diff_filter_takes(collection->filter, entry))
		return 0;
	json_t *json =
		json_pack("{s:s, s:o, s:s, s:o, s:o}", "op", op, "path", json_text(entry->path),
			  "type", json_file_type(entry->mode), "old_size",
			  json_number(entry->old_size), "new_size", json_number(entry->new_size));
	if (json && entry->old_path &&
	    json_object_set_new(json, "old_path", json_text(entry->old_path))) {
		json_decref(json);
		return -ENOMEM;
	}
	if (json_array_append_new(collection->array, json))
		return -ENOMEM;
	/* Nobody may wait for a long list any more. */
	if (asker->gone && json_array_size(collection->array) % 1024 == 0 &&
	    asker->gone(asker->context))
		return -EINTR;
	return 0;
}

int service_diff(struct request *request, json_t **ret)
{
	const char *b = request_text(request, "b");
	const char *specs[2] = {request_text(request, "a"), b ? b : "@head"};
	struct diff_filter filter = {0};
	struct states states = {0};
	json_t *array = json_array();

	int error = array ? diff_filter_fill(request, &filter) : -ENOMEM;
	if (!error)
		error = states_open(request, specs, 2, &states);
	if (!error) {
		struct diff_collection collection = {request, &filter, array};
		error = diff_trees(states.list[0].tree, states.list[1].tree, states.reader,
				   diff_collect, &collection, &request->err);
	}
	states_release(&states);
	diff_filter_release(&filter);
	if (error)
		json_decref(array);
	else
		*ret = array;
	return error;
}

/* ---- ls ---- */

struct listed {
	char *name; /* owned */
	json_t *json;
};

struct listing {
	struct states *states;
	struct listed *entries; /* owned */
	size_t count, capacity;
};

static void listing_release(struct listing *listing)
{
	for (size_t i = 0; i < listing->count; i++) {
		free(listing->entries[i].name);
		json_decref(listing->entries[i].json);
	}
	free(listing->entries);
}

static int link_target_json(struct states *states, uint64_t ino, json_t **ret)
{
	char target[SYMLINK_MAX + 1];
	size_t length;
	int error = inline_get(states->list[0].tree, states->reader, ino, target, sizeof(target),
			       &length);
	return error ? error : json_result(json_text_of(target, length), ret);
}

static int file_json(struct states *states, const char *name, size_t length, uint64_t ino,
		     json_t **ret)
{
	struct inode_attr attr;
	char mode[16];
	int error = inode_get(states->list[0].tree, states->reader, ino, &attr);
	if (error)
		return error == -ENOENT ? -EUCLEAN : error;
	snprintf(mode, sizeof(mode), "%04o", attr.mode & 07777);
	json_t *json = json_pack("{s:o, s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "name",
				 json_text_of(name, length), "type", json_file_type(attr.mode),
				 "mode", mode, "uid", json_number(attr.uid), "gid",
				 json_number(attr.gid), "nlink", json_number(attr.nlink), "size",
				 json_number(attr.size), "mtime", json_timespec(&attr.mtime));
	if (!json)
		return -ENOMEM;
	if (S_ISLNK(attr.mode)) {
		json_t *target;
		error = link_target_json(states, ino, &target);
		if (!error && json_object_set_new(json, "target", target))
			error = -ENOMEM;
	}
	if (error)
		json_decref(json);
	else
		*ret = json;
	return error;
}

static int listing_add(struct listing *listing, const char *name, size_t length, uint64_t ino)
{
	struct listed *entries = array_reserve(listing->entries, listing->count + 1,
					       &listing->capacity, sizeof(entries[0]));
	if (!entries)
		return -ENOMEM;
	listing->entries = entries;
	struct listed *entry = &listing->entries[listing->count];
	entry->name = strndup(name, length);
	if (!entry->name)
		return -ENOMEM;
	int error = file_json(listing->states, name, length, ino, &entry->json);
	if (error)
		free(entry->name);
	else
		listing->count++;
	return error;
}

static int listing_visit(const struct dirent_entry *entry, void *context)
{
	return listing_add(context, entry->name.text, entry->name.length, entry->target.ino);
}

static int listed_compare(const void *a, const void *b)
{
	return strcmp(((const struct listed *)a)->name, ((const struct listed *)b)->name);
}

static int listing_json(struct listing *listing, json_t **ret)
{
	json_t *array = json_array();
	if (!array)
		return -ENOMEM;
	if (listing->count)
		qsort(listing->entries, listing->count, sizeof(*listing->entries), listed_compare);
	for (size_t i = 0; i < listing->count; i++) {
		if (json_array_append(array, listing->entries[i].json)) {
			json_decref(array);
			return -ENOMEM;
		}
	}
	*ret = array;
	return 0;
}

static int find_path(struct request *request, struct states *states, const char *path,
		     uint64_t *ret_ino, struct inode_attr *ret)
{
	struct tree *tree = states->list[0].tree;
	int error = path_lookup(tree, states->reader, path, ret_ino);
	if (error == -ENOENT || error == -ENOTDIR)
		return err_set(&request->err, -ENOENT, "no '%s' at %s", path,
			       request_text(request, "point"));
	if (error == -EINVAL)
		return err_set(&request->err, error, "'%s': '..' is not accepted in a path", path);
	return error ? error : inode_get(tree, states->reader, *ret_ino, ret);
}

static int list_path(struct request *request, struct states *states, char *path, json_t **ret)
{
	struct listing listing = {.states = states};
	struct inode_attr attr;
	uint64_t ino;
	int error = find_path(request, states, path, &ino, &attr);
	if (error)
		return error;
	if (S_ISDIR(attr.mode)) {
		error = dirent_iterate(states->list[0].tree, states->reader, ino, 0, listing_visit,
				       &listing);
	} else {
		path_normalize(path);
		const char *slash = strrchr(path, '/');
		const char *name = slash ? slash + 1 : path;
		error = listing_add(&listing, name, strlen(name), ino);
	}
	if (!error)
		error = listing_json(&listing, ret);
	listing_release(&listing);
	return error;
}

int service_ls(struct request *request, json_t **ret)
{
	const char *spec = request_text(request, "point");
	struct states states;
	char *path;
	int error = request_path(request, "path", &path);
	if (error)
		return error;
	error = states_open(request, &spec, 1, &states);
	if (!error) {
		error = list_path(request, &states, path, ret);
		states_release(&states);
	}
	free(path);
	return error;
}

/* ---- cat ---- */

/* All of it.  A descriptor that does not block is waited for. */
static int write_all(int fd, const char *data, size_t length)
{
	while (length) {
		ssize_t written = write(fd, data, length);
		if (written < 0 && errno == EAGAIN) {
			struct pollfd wait = {.fd = fd, .events = POLLOUT};
			poll(&wait, 1, -1);
			continue;
		}
		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return -errno;
		data += written;
		length -= (size_t)written;
	}
	return 0;
}

/* Damage where a point was deleted, and collected, under our eyes, is none. */
static int explain_damage(struct request *request, struct states *states, int error)
{
	const struct state *state = &states->list[0];
	struct point point = {0};

	if (error != -EUCLEAN && error != -EBADMSG && error != -ESTALE)
		return error;
	if (state->is_head)
		return error == -ESTALE ? err_set(&request->err, -EAGAIN,
						  "the file changed while it was read")
					: error;
	int found = point_get(request->service->repo, state->point.id, &point);
	if (found == -ENOENT)
		return err_set(&request->err, -ENOENT, "the point '%s' was deleted meanwhile",
			       state->point.name);
	point_release(&point);
	return error;
}

static int stream_file(struct request *request, struct states *states, uint64_t ino, uint64_t size,
		       int fd)
{
	const struct asker *asker = request->asker;
	uint64_t offset = 0;
	int error = 0;
	char *piece = malloc(CAT_PIECE);
	if (!piece)
		return -ENOMEM;
	while (offset < size && !error) {
		ssize_t length = file_read(states->list[0].tree, states->reader, ino, offset, piece,
					   CAT_PIECE, &request->err);
		if (length <= 0) {
			error = length < 0 ? explain_damage(request, states, (int)length)
					   : -EUCLEAN;
			break;
		}
		/* A slow consumer must not hold back the reuse of pages in the index. */
		if (!states->list[0].is_head)
			error = states_renew(states);
		if (!error)
			error = write_all(fd, piece, (size_t)length);
		offset += (uint64_t)length;
		if (asker->progress)
			asker->progress("cat", offset, size, asker->context);
	}
	free(piece);
	return error;
}

static int cat_path(struct request *request, struct states *states, const char *path, int fd,
		    json_t **ret)
{
	struct inode_attr attr;
	uint64_t ino;
	int error = find_path(request, states, path, &ino, &attr);
	if (error)
		return error;
	if (!S_ISREG(attr.mode))
		return err_set(&request->err, S_ISDIR(attr.mode) ? -EISDIR : -EOPNOTSUPP,
			       "'%s' is a %s, not a file", path, json_file_type(attr.mode));
	error = stream_file(request, states, ino, attr.size, fd);
	if (error)
		return error;
	return json_result(json_pack("{s:o}", "bytes", json_number(attr.size)), ret);
}

int service_cat(struct request *request, json_t **ret)
{
	const char *spec = request_text(request, "point");
	int fd = (int)json_integer_value(request_value(request, "fd"));
	struct states states;
	char *path;
	int error = request_path(request, "path", &path);
	if (error)
		return error;
	error = states_open(request, &spec, 1, &states);
	if (!error) {
		error = cat_path(request, &states, path, fd, ret);
		states_release(&states);
	}
	free(path);
	return error;
}
