/*
 * Extracting: a queue of directories, each of which is opened once, filled, and closed again, so
 * that no depth of nesting costs descriptors or stack.  Their attributes come at the end, those of
 * the deepest first: until then what is in them must be reachable, and keeps changing their times.
 */
#include "snapshot/extract.h"
#include "index/util/array.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot/digest_internal.h"
#include "snapshot/extract_internal.h"
#include "snapshot/path.h"

enum { NAMES_A_READER = 128 };

int extraction_renew(struct extraction *extraction)
{
	extraction->since_renewal = 0;
	extraction->reader = reader_release(extraction->reader);
	return reader_acquire(repo_store(extraction->repo), &extraction->reader);
}

void extraction_skip(struct extraction *extraction, const char *path, const char *format, ...)
{
	const struct extract_options *options = extraction->options;
	char what[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(what, sizeof(what), format, arguments);
	va_end(arguments);
	extraction->result.skipped++;
	if (options->skipped)
		options->skipped(path, what, options->context);
}

int extraction_fail(struct extraction *extraction, int error, const char *path)
{
	struct errbuf detail = {""};

	if (error == -ENOMEM || error == -EINTR)
		return error;
	/* Reading contents has said what was wrong with them. */
	if (extraction->err && *extraction->err->text)
		err_set(&detail, 0, "%s", extraction->err->text);
	return err_set(extraction->err, error, "'%s': %s", *path ? path : ".",
		       *detail.text	  ? detail.text
		       : error == -EEXIST ? "exists already in the destination"
		       : error == -EISDIR ? "a directory of that name is in the destination"
					  : strerror(-error));
}

/* "a/b" from "a" and "b"; malloc'ed. */
static char *join(const char *directory, const char *name)
{
	char *path;

	if (!*directory)
		return strdup(name);
	return asprintf(&path, "%s/%s", directory, name) < 0 ? NULL : path;
}

/* ---- directories ---- */

static int add_directory(struct extraction *extraction, size_t parent, const char *name,
			 uint64_t ino, const struct inode_attr *attr, bool dress)
{
	struct extract_directory *grown =
		array_reserve(extraction->directories, extraction->count + 1, &extraction->capacity,
			      sizeof(grown[0]));
	if (!grown)
		return -ENOMEM;
	extraction->directories = grown;
	char *copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	extraction->directories[extraction->count++] = (struct extract_directory){
		.parent = parent,
		.name = copy,
		.ino = ino,
		.attr = *attr,
		.dress = dress,
		.descend = true,
	};
	return 0;
}

/* Its path below the destination; malloc'ed. */
static char *directory_path(const struct extraction *extraction, size_t index)
{
	const struct extract_directory *list = extraction->directories;
	size_t length = 1;

	for (size_t at = index; at != NO_PARENT; at = list[at].parent)
		length += strlen(list[at].name) + 1;
	char *path = malloc(length);
	if (!path)
		return NULL;
	char *to = path + length - 1;
	*to = '\0';
	for (size_t at = index; at != NO_PARENT; at = list[at].parent) {
		size_t part = strlen(list[at].name);
		/* Nothing stands before what lies in the destination itself. */
		if (*to && part)
			*--to = '/';
		to -= part;
		memcpy(to, list[at].name, part);
	}
	memmove(path, to, strlen(to) + 1);
	return path;
}

/* 1: made; 0: it was there. */
static int make_directory(struct extraction *extraction, int directory, const char *name)
{
	bool overwrite = extraction->options->overwrite;
	struct stat now;

	if (mkdirat(directory, name, 0700) == 0)
		return 1;
	if (errno != EEXIST)
		return -errno;
	if (fstatat(directory, name, &now, AT_SYMLINK_NOFOLLOW))
		return -errno;
	if (S_ISDIR(now.st_mode))
		return 0;
	if (!overwrite)
		return -EEXIST;
	if (unlinkat(directory, name, 0) || mkdirat(directory, name, 0700))
		return -errno;
	return 1;
}

/* `parent` as for add_directory(): without one, `path` is the name to be kept. */
static int extract_name(struct extraction *extraction, int directory, size_t parent,
			const char *name, const char *path, uint64_t ino)
{
	struct inode_attr attr;
	int error = inode_get(extraction->tree, extraction->reader, ino, &attr);
	if (error)
		return error == -ENOENT ? -EUCLEAN : error;
	if (!S_ISDIR(attr.mode))
		return extract_file(extraction, directory, name, path, ino, &attr);
	int made = make_directory(extraction, directory, name);
	if (made < 0)
		return made;
	extraction->result.directories += (uint64_t)made;
	return add_directory(extraction, parent, parent == NO_PARENT ? path : name, ino, &attr,
			     made || extraction->options->overwrite);
}

/* Names that could lead elsewhere are in no sound store. */
static bool is_name(const char *name, size_t length)
{
	return length > 0 && length <= NAME_MAX_BYTES && !memchr(name, '/', length) &&
	       !memchr(name, '\0', length) && !(length == 1 && name[0] == '.') &&
	       !(length == 2 && memcmp(name, "..", 2) == 0);
}

/* ---- what is in a directory of the point ---- */

struct member {
	uint64_t ino;
	bool directory;
	char *name; /* owned */
};

struct members {
	struct member *list; /* owned */
	size_t count, capacity;
};

static void members_release(struct members *members)
{
	for (size_t i = 0; i < members->count; i++)
		free(members->list[i].name);
	free(members->list);
}

static int add_member(const struct dirent_entry *entry, void *context)
{
	struct members *members = context;

	if (!is_name(entry->name.text, entry->name.length))
		return -EUCLEAN;
	struct member *grown = array_reserve(members->list, members->count + 1, &members->capacity,
					     sizeof(grown[0]));
	if (!grown)
		return -ENOMEM;
	members->list = grown;
	char *name = strndup(entry->name.text, entry->name.length);
	if (!name)
		return -ENOMEM;
	members->list[members->count++] = (struct member){
		.ino = entry->target.ino, .directory = entry->target.type == DT_DIR, .name = name};
	return 0;
}

/* Where a member goes: `fd` is its directory in the destination, `parent` the same in the list. */
struct spot {
	int fd;
	size_t parent;
	const char *path; /* of the member */
};

typedef int member_visitor(struct extraction *extraction, const struct member *member,
			   const struct spot *spot);

static int visit_members(struct extraction *extraction, size_t index, const char *path, int fd,
			 member_visitor *visit)
{
	uint64_t ino = extraction->directories[index].ino;
	struct members members = {0};
	int error =
		dirent_iterate(extraction->tree, extraction->reader, ino, 0, add_member, &members);
	if (error)
		extraction_fail(extraction, error, path);
	for (size_t i = 0; !error && i < members.count; i++) {
		char *inside = join(path, members.list[i].name);
		const struct spot spot = {fd, index, inside};
		if (++extraction->since_renewal > NAMES_A_READER)
			error = extraction_renew(extraction);
		if (!error)
			error = inside ? visit(extraction, &members.list[i], &spot) : -ENOMEM;
		if (error && inside && !*extraction->err->text)
			extraction_fail(extraction, error, inside);
		free(inside);
	}
	members_release(&members);
	return error;
}

/* Calls `visit` for each name in each directory of the list, which grows on the way. */
static int for_each_member(struct extraction *extraction, member_visitor *visit)
{
	int error = 0;

	for (size_t i = 0; !error && i < extraction->count; i++) {
		if (!extraction->directories[i].descend)
			continue;
		char *path = directory_path(extraction, i);
		if (!path)
			return -ENOMEM;
		int fd = beneath_directory(extraction->destination, path);
		if (fd < 0)
			error = extraction_fail(extraction, fd, path);
		else
			error = visit_members(extraction, i, path, fd, visit);
		if (fd >= 0)
			close(fd);
		free(path);
	}
	return error;
}

static int extract_member(struct extraction *extraction, const struct member *member,
			  const struct spot *spot)
{
	int error = extract_name(extraction, spot->fd, spot->parent, member->name, spot->path,
				 member->ino);
	return error ? extraction_fail(extraction, error, spot->path) : 0;
}

static int dress_directory(struct extraction *extraction, size_t index, const char *path)
{
	const struct extract_directory *directory = &extraction->directories[index];
	int fd = beneath_directory(extraction->destination, path);
	if (fd < 0)
		return fd;
	int error = extract_attributes(extraction, fd, path, directory->ino, &directory->attr);
	close(fd);
	if (!error && ++extraction->since_renewal > NAMES_A_READER)
		error = extraction_renew(extraction);
	return error;
}

static int dress_directories(struct extraction *extraction)
{
	int error = 0;

	for (size_t i = extraction->count; !error && i-- > 0;) {
		if (!extraction->directories[i].dress)
			continue;
		char *path = directory_path(extraction, i);
		error = path ? dress_directory(extraction, i, path) : -ENOMEM;
		if (error)
			extraction_fail(extraction, error, path ? path : "");
		free(path);
	}
	return error;
}

/* ---- names that are taken: told before anything is written ---- */

static int survey_member(struct extraction *extraction, const struct member *member,
			 const struct spot *spot)
{
	struct inode_attr none = {0};
	struct stat now;

	if (fstatat(spot->fd, member->name, &now, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? 0 : extraction_fail(extraction, -errno, spot->path);
	if (!member->directory || !S_ISDIR(now.st_mode))
		return extraction_fail(extraction, -EEXIST, spot->path);
	return add_directory(extraction, spot->parent, member->name, member->ino, &none, false);
}

static void drop_directories(struct extraction *extraction)
{
	for (size_t i = 0; i < extraction->count; i++)
		free(extraction->directories[i].name);
	extraction->count = 0;
}

/* Only directories that are there already are looked into. */
static int survey_below(struct extraction *extraction, const char *path, uint64_t ino)
{
	struct inode_attr none = {0};
	int error = add_directory(extraction, NO_PARENT, path, ino, &none, false);

	if (!error)
		error = for_each_member(extraction, survey_member);
	drop_directories(extraction);
	return error;
}

/* The same for one path, whose name and directory are given. */
static int survey_name(struct extraction *extraction, const char *path, uint64_t ino, bool is_dir)
{
	const char *slash = strrchr(path, '/');
	char *parent = strndup(path, slash ? (size_t)(slash - path) : 0);
	struct stat now;
	if (!parent)
		return -ENOMEM;
	int directory = beneath_directory(extraction->destination, parent);
	free(parent);
	if (directory == -ENOENT)
		return 0;
	if (directory < 0)
		return extraction_fail(extraction, directory, path);
	int error = fstatat(directory, slash ? slash + 1 : path, &now, AT_SYMLINK_NOFOLLOW) ? -errno
											    : 0;
	close(directory);
	if (error)
		return error == -ENOENT ? 0 : extraction_fail(extraction, error, path);
	if (!is_dir || !S_ISDIR(now.st_mode))
		return extraction_fail(extraction, -EEXIST, path);
	return survey_below(extraction, path, ino);
}

/* ---- everything ---- */

static int is_empty(int destination, bool *ret)
{
	int fd = beneath_open(destination, ".", O_RDONLY | O_DIRECTORY);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (!directory) {
		int error = fd < 0 ? fd : -errno;
		if (fd >= 0)
			close(fd);
		return error;
	}
	*ret = true;
	while ((entry = readdir(directory)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			*ret = false;
	closedir(directory);
	return 0;
}

static int queue_everything(struct extraction *extraction)
{
	bool overwrite = extraction->options->overwrite;
	struct inode_attr attr;
	bool empty = false;
	int error = is_empty(extraction->destination, &empty);

	if (error)
		return extraction_fail(extraction, error, "");
	if (!empty && !overwrite)
		error = survey_below(extraction, "", ROOT_INO);
	if (!error)
		error = inode_get(extraction->tree, extraction->reader, ROOT_INO, &attr);
	return error ? error
		     : add_directory(extraction, NO_PARENT, "", ROOT_INO, &attr,
				     empty || overwrite);
}

/* ---- some paths ---- */

/* Only components, one slash between them. -EINVAL: "..". */
static int clean_path(const char *path, char **ret)
{
	char *clean = malloc(strlen(path) + 1), *to = clean;

	if (!clean)
		return -ENOMEM;
	while (*path) {
		size_t length = strcspn(path, "/");
		if (is_name(path, length)) {
			if (to != clean)
				*to++ = '/';
			memcpy(to, path, length);
			to += length;
		} else if (length > 1) {
			free(clean);
			return length == 2 ? -EINVAL : -ENAMETOOLONG;
		}
		path += length;
		path += *path == '/';
	}
	*to = '\0';
	*ret = clean;
	return 0;
}

static bool lies_in(const char *path, const char *directory)
{
	size_t length = strlen(directory);

	return !length || (strncmp(path, directory, length) == 0 &&
			   (path[length] == '/' || path[length] == '\0'));
}

struct selection {
	char **paths; /* owned */
	size_t count;
};

static void selection_release(struct selection *selection)
{
	for (size_t i = 0; i < selection->count; i++)
		free(selection->paths[i]);
	free(selection->paths);
}

static int compare_texts(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted, so that of those which lie in each other the outer one comes first; the inner ones are
 * left out. */
static int select_paths(struct extraction *extraction, struct selection *selection)
{
	const struct extract_options *options = extraction->options;
	size_t kept = 0;

	selection->paths = calloc(options->path_count, sizeof(selection->paths[0]));
	if (!selection->paths)
		return -ENOMEM;
	for (size_t i = 0; i < options->path_count; i++) {
		int error = clean_path(options->paths[i], &selection->paths[i]);
		if (error)
			return extraction_fail(extraction, error, options->paths[i]);
		selection->count++;
	}
	qsort(selection->paths, selection->count, sizeof(selection->paths[0]), compare_texts);
	for (size_t i = 0; i < selection->count; i++) {
		bool inner = false;
		for (size_t k = 0; k < kept && !inner; k++)
			inner = lies_in(selection->paths[i], selection->paths[k]);
		if (inner)
			free(selection->paths[i]);
		else
			selection->paths[kept++] = selection->paths[i];
	}
	selection->count = kept;
	return 0;
}

static int find_path(struct extraction *extraction, const char *path, uint64_t *ret_ino,
		     struct inode_attr *ret)
{
	int error = path_lookup(extraction->tree, extraction->reader, path, ret_ino);
	if (error == -ENOENT || error == -ENOTDIR)
		return err_set(extraction->err, -ENOENT, "'%s' is not in the point", path);
	if (!error)
		error = inode_get(extraction->tree, extraction->reader, *ret_ino, ret);
	return error ? extraction_fail(extraction, error, path) : 0;
}

/* The directories above the path; theirs are only the names on the way. */
static int extract_parents(struct extraction *extraction, const char *path)
{
	int error = 0;

	for (const char *slash = strchr(path, '/'); !error && slash;
	     slash = strchr(slash + 1, '/')) {
		char *parent = strndup(path, (size_t)(slash - path));
		char *above = parent ? strdup(parent) : NULL;
		struct inode_attr attr;
		uint64_t ino;
		char *cut = above ? strrchr(above, '/') : NULL;
		error = above ? find_path(extraction, parent, &ino, &attr) : -ENOMEM;
		if (!error) {
			if (cut)
				*cut = '\0';
			int fd = beneath_directory(extraction->destination, cut ? above : "");
			const char *name = cut ? parent + (cut - above) + 1 : parent;
			error = fd < 0 ? fd
				       : extract_name(extraction, fd, NO_PARENT, name, parent, ino);
			if (fd >= 0)
				close(fd);
			if (error)
				extraction_fail(extraction, error, parent);
			else
				extraction->directories[extraction->count - 1].descend = false;
		}
		free(above);
		free(parent);
	}
	return error;
}

static int extract_path(struct extraction *extraction, const char *path)
{
	const char *slash = strrchr(path, '/');
	struct inode_attr attr;
	uint64_t ino;
	int error = find_path(extraction, path, &ino, &attr);
	if (!error)
		error = extract_parents(extraction, path);
	if (error)
		return error;
	char *parent = strndup(path, slash ? (size_t)(slash - path) : 0);
	if (!parent)
		return -ENOMEM;
	int fd = beneath_directory(extraction->destination, parent);
	free(parent);
	error = fd < 0 ? fd
		       : extract_name(extraction, fd, NO_PARENT, slash ? slash + 1 : path, path,
				      ino);
	if (fd >= 0)
		close(fd);
	return error ? extraction_fail(extraction, error, path) : 0;
}

static int queue_paths(struct extraction *extraction)
{
	struct selection selection = {0};
	struct inode_attr attr;
	uint64_t ino;
	int error = select_paths(extraction, &selection);

	if (!error && selection.count == 1 && !*selection.paths[0]) {
		selection_release(&selection);
		return queue_everything(extraction);
	}
	for (size_t i = 0; !error && i < selection.count; i++) {
		error = find_path(extraction, selection.paths[i], &ino, &attr);
		if (!error && !extraction->options->overwrite)
			error = survey_name(extraction, selection.paths[i], ino,
					    S_ISDIR(attr.mode));
	}
	for (size_t i = 0; !error && i < selection.count; i++)
		error = extract_path(extraction, selection.paths[i]);
	selection_release(&selection);
	return error;
}

/* ---- all of it ---- */

static int extraction_run(struct extraction *extraction)
{
	bool whole = extraction->options->path_count == 0;
	int error = extraction_renew(extraction);

	if (!error)
		error = whole ? queue_everything(extraction) : queue_paths(extraction);
	if (!error)
		error = for_each_member(extraction, extract_member);
	return error ? error : dress_directories(extraction);
}

int point_extract(struct repo *repo, const struct point *point, int destination,
		  const struct extract_options *options, struct extract_result *ret,
		  struct errbuf *err)
{
	struct errbuf message = {""};
	struct extraction extraction = {
		.repo = repo,
		.point = point->id,
		.options = options,
		.err = &message,
		.destination = destination,
		.buffer = malloc(EXTRACT_PIECE),
		.links = U64MAP_INIT,
		.total = options->path_count ? 0 : point->bytes,
		.privileged = geteuid() == 0,
	};
	int error = extraction.buffer ? point_view(repo, point, &extraction.tree) : -ENOMEM;

	if (!error)
		error = extraction_run(&extraction);
	reader_release(extraction.reader);
	tree_close(extraction.tree);
	drop_directories(&extraction);
	free(extraction.directories);
	extract_links_release(&extraction);
	free(extraction.buffer);
	error = digest_explain(repo, point->id, error, &message);
	if (!error)
		*ret = extraction.result;
	else if (*message.text)
		err_set(err, error, "%s", message.text);
	return error;
}
