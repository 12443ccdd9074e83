/*
 * Six lines, in this order, each ended by a newline:
 *
 *     cairn store
 *     version 1
 *     uuid 8-4-4-4-12 hexadecimal digits
 *     ignorable: feature ...
 *     readonly: feature ...
 *     refuse: feature ...
 *
 * A build that does not know a feature may ignore it, open the store read-only, or must
 * refuse it.  This build knows one:
 *
 *     redo    (readonly) there is a redo log, of which the first opening for writing after a crash
 *             has to make a commit; added when the log is made
 */
#include "index/format_file_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "index/format_internal.h"
#include "index/util/shell.h"

#define FEATURE_REDO " redo"

int format_make_uuid(char ret[UUID_SIZE])
{
	uint8_t bytes[16];
	size_t at = 0;

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		return -EIO;
	bytes[6] = (uint8_t)((bytes[6] & 0x0f) | 0x40);
	bytes[8] = (uint8_t)((bytes[8] & 0x3f) | 0x80);
	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			ret[at++] = '-';
		at += (size_t)snprintf(ret + at, UUID_SIZE - at, "%02x", bytes[i]);
	}
	return 0;
}

size_t format_file_print(const char *uuid, char *ret)
{
	return (size_t)snprintf(ret, FORMAT_FILE_MAX,
				"cairn store\n"
				"version %d\n"
				"uuid %s\n"
				"ignorable:\n"
				"readonly:\n"
				"refuse:\n",
				FORMAT_VERSION, uuid);
}

/* Takes the next line if it starts with `prefix`: its rest goes to `line`, without newline. */
static bool take_line(const char **text, const char *end, const char *prefix, char *line)
{
	const char *newline = memchr(*text, '\n', (size_t)(end - *text));
	size_t length = strlen(prefix);

	if (!newline || (size_t)(newline - *text) < length || memcmp(*text, prefix, length) != 0)
		return false;
	*text += length;
	memcpy(line, *text, (size_t)(newline - *text));
	line[newline - *text] = '\0';
	*text = newline + 1;
	return true;
}

static bool is_uuid(const char *text)
{
	for (int i = 0; i < UUID_SIZE - 1; i++) {
		if (i == 8 || i == 13 || i == 18 || i == 23 ? text[i] != '-'
							    : !strchr("0123456789abcdef", text[i]))
			return false;
		if (!text[i])
			return false;
	}
	return !text[UUID_SIZE - 1];
}

static int damaged(struct errbuf *err, const char *directory, const char *what)
{
	return err_set(err, -EUCLEAN,
		       "%s/format is damaged (%s): bring this small file back from a backup",
		       directory, what);
}

/* Feature names: lower-case letters, digits and '-', each after one space. */
static bool is_feature_list(const char *list)
{
	for (const char *at = list; *at; at++) {
		if (*at == ' ' ? !at[1] || at[1] == ' '
			       : !strchr("abcdefghijklmnopqrstuvwxyz0123456789-", *at))
			return false;
	}
	return !*list || *list == ' ';
}

/* Takes the features that this build knows out of a list. */
static void drop_known(char *list)
{
	const size_t length = strlen(FEATURE_REDO);
	char *at = list;

	while ((at = strstr(at, FEATURE_REDO))) {
		if (at[length] && at[length] != ' ')
			at += length;
		else
			memmove(at, at + length, strlen(at + length) + 1);
	}
}

static int check_features(const char *text, const char *end, const char *directory, bool read_only,
			  struct errbuf *err)
{
	char ignorable[FORMAT_FILE_MAX], readonly[FORMAT_FILE_MAX], refuse[FORMAT_FILE_MAX];

	if (!take_line(&text, end, "ignorable:", ignorable) || !is_feature_list(ignorable))
		return damaged(err, directory, "no line of ignorable features");
	if (!take_line(&text, end, "readonly:", readonly) || !is_feature_list(readonly))
		return damaged(err, directory, "no line of read-only features");
	if (!take_line(&text, end, "refuse:", refuse) || !is_feature_list(refuse))
		return damaged(err, directory, "no line of refused features");
	drop_known(readonly);
	if (text != end)
		return damaged(err, directory, "something follows the last line");
	if (*refuse)
		return err_set(err, -EOPNOTSUPP,
			       "the store %s uses what this version of cairn does not know:%s; "
			       "install a newer cairn to open it",
			       directory, refuse);
	if (*readonly && !read_only)
		return err_set(err, -EOPNOTSUPP,
			       "the store %s uses what this version of cairn can read but not "
			       "write:%s; install a newer cairn, or open it read-only",
			       directory, readonly);
	return 0;
}

int format_file_parse(const char *text, size_t length, const char *directory, bool read_only,
		      struct format_file *ret, struct errbuf *err)
{
	const char *end = text + length;
	char line[FORMAT_FILE_MAX];
	struct format_file file;
	char extra;
	int r;

	if (length >= FORMAT_FILE_MAX || memchr(text, '\0', length) ||
	    !take_line(&text, end, "cairn store", line) || *line)
		return damaged(err, directory, "it does not begin with \"cairn store\"");
	if (!take_line(&text, end, "version ", line) || *line < '0' || *line > '9' ||
	    sscanf(line, "%9u%c", &file.version, &extra) != 1)
		return damaged(err, directory, "no version");
	if (file.version != FORMAT_VERSION)
		return err_set(err, -EOPNOTSUPP,
			       "the store %s has format version %u, this cairn knows version %d: "
			       "install the cairn that made it",
			       directory, file.version, FORMAT_VERSION);
	if (!take_line(&text, end, "uuid ", line) || !is_uuid(line))
		return damaged(err, directory, "no uuid");
	memcpy(file.uuid, line, UUID_SIZE);
	r = check_features(text, end, directory, read_only, err);
	if (r == 0)
		*ret = file;
	return r;
}

/* At most FORMAT_FILE_MAX bytes of it. */
static int read_text(int dirfd, char *text, size_t *ret_length)
{
	size_t length = 0;
	int r = 0, fd = openat(dirfd, "format", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	while (length < FORMAT_FILE_MAX) {
		ssize_t done = read(fd, text + length, FORMAT_FILE_MAX - length);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			r = -errno;
		if (done <= 0)
			break;
		length += (size_t)done;
	}
	close(fd);
	*ret_length = length;
	return r;
}

int format_file_read(int dirfd, const char *directory, bool read_only, struct format_file *ret,
		     struct errbuf *err)
{
	char text[FORMAT_FILE_MAX], quoted[sizeof(err->text)];
	size_t length;
	int r = read_text(dirfd, text, &length);

	if (r == -ENOENT)
		return err_set(err, -ENOENT,
			       "%s is not a cairn store (no file \"format\" in it); "
			       "make one with: cairn init %s",
			       directory, shell_quote(directory, quoted, sizeof(quoted)));
	if (r < 0)
		return err_set(err, r, "cannot read %s/format: %s", directory, strerror(-r));
	return format_file_parse(text, length, directory, read_only, ret, err);
}

static int replace(const struct io *io, int dirfd, struct iovec *vector, int count)
{
	int fd =
		io->ops->open(io->context, dirfd, "format.new", O_WRONLY | O_CREAT | O_TRUNC, 0600);
	int r = fd < 0 ? fd : io->ops->write(io->context, fd, vector, count, 0);

	if (r == 0)
		r = io->ops->sync(io->context, fd);
	if (fd >= 0 && close(fd) < 0 && r == 0)
		r = -errno;
	if (r == 0 && renameat(dirfd, "format.new", dirfd, "format") < 0)
		r = -errno;
	return r;
}

int format_file_add_redo(const struct io *io, int dirfd)
{
	static const char feature[] = FEATURE_REDO;
	char text[FORMAT_FILE_MAX + 1], list[FORMAT_FILE_MAX];
	size_t length, whole;
	int r = read_text(dirfd, text, &length);

	if (r < 0)
		return r;
	text[length] = '\0';
	char *line = strstr(text, "\nreadonly:");
	char *end = line ? strchr(line + 1, '\n') : NULL;
	if (!end || length + strlen(feature) >= FORMAT_FILE_MAX)
		return -EUCLEAN;
	whole = (size_t)(end - line);
	memcpy(list, line, whole);
	list[whole] = '\0';
	drop_known(list);
	if (strlen(list) < whole)
		return 0; /* there already */
	return replace(io, dirfd,
		       (struct iovec[]){{text, (size_t)(end - text)},
					{(void *)(uintptr_t)feature, strlen(feature)},
					{end, length - (size_t)(end - text)}},
		       3);
}
