#include "snapshot/path.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/dirent.h"
#include "snapshot/inode.h"

/* Longer than any path that the kernel can make by renaming; only a loop gets there. */
enum { PATH_LENGTH_MAX = 64 << 20 };

int path_lookup(struct tree *tree, struct reader *reader, const char *path, uint64_t *ret_ino)
{
	struct dirent_target at = {.ino = ROOT_INO, .type = DT_DIR};

	for (;;) {
		size_t length;
		int error;

		path += strspn(path, "/");
		if (*path == '\0')
			break;
		length = strcspn(path, "/");
		if (length == 2 && path[0] == '.' && path[1] == '.')
			return -EINVAL;
		if (length > 1 || path[0] != '.') {
			if (at.type != DT_DIR)
				return -ENOTDIR;
			error = dirent_lookup(tree, reader, at.ino, path, length, &at);
			if (error)
				return error;
		}
		path += length;
	}
	*ret_ino = at.ino;
	return 0;
}

/* A path that grows to the left: what is there ends at `capacity`. */
struct builder {
	char *buffer; /* owned */
	size_t capacity;
	size_t start;
};

static int builder_room(struct builder *builder, size_t bytes)
{
	size_t used = builder->capacity - builder->start;
	size_t capacity = 2 * (used + bytes) + 256;
	char *buffer;

	if (builder->start >= bytes)
		return 0;
	if (used + bytes > PATH_LENGTH_MAX)
		return -EUCLEAN;
	buffer = malloc(capacity);
	if (!buffer)
		return -ENOMEM;
	if (used > 0)
		memcpy(buffer + capacity - used, builder->buffer + builder->start, used);
	free(builder->buffer);
	builder->buffer = buffer;
	builder->capacity = capacity;
	builder->start = capacity - used;
	return 0;
}

/* The first call adds the terminator, later ones a slash. */
static int builder_prepend(struct builder *builder, const char *name, size_t length)
{
	int error = builder_room(builder, length + 1);

	if (error)
		return error;
	builder->buffer[builder->start - 1] = builder->start == builder->capacity ? '\0' : '/';
	builder->start -= length + 1;
	memcpy(builder->buffer + builder->start, name, length);
	return 0;
}

/* Prepends the path of a directory, up to the root. */
static int builder_climb(struct builder *builder, struct tree *tree, struct reader *reader,
			 uint64_t ino)
{
	struct backref_name name;

	while (ino != ROOT_INO) {
		int error = backref_first(tree, reader, ino, &name);

		if (!error)
			error = builder_prepend(builder, name.text, name.length);
		if (error)
			return error;
		ino = name.directory;
	}
	return 0;
}

static int builder_finish(struct builder *builder, int error, char **ret_path)
{
	if (!error && !builder->buffer)
		error = builder_prepend(builder, "", 0);
	if (error) {
		free(builder->buffer);
		return error;
	}
	memmove(builder->buffer, builder->buffer + builder->start,
		builder->capacity - builder->start);
	*ret_path = builder->buffer;
	return 0;
}

int path_of_inode(struct tree *tree, struct reader *reader, uint64_t ino, char **ret_path)
{
	struct builder builder = {0};
	int error = builder_climb(&builder, tree, reader, ino);

	return builder_finish(&builder, error, ret_path);
}

int path_of_name(struct tree *tree, struct reader *reader, uint64_t directory, const char *name,
		 size_t length, char **ret_path)
{
	struct builder builder = {0};
	int error = builder_prepend(&builder, name, length);

	if (!error)
		error = builder_climb(&builder, tree, reader, directory);
	return builder_finish(&builder, error, ret_path);
}
