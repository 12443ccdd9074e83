/* STORE/format: what this directory is, for programs and for people. */
#ifndef CAIRN_INDEX_FORMAT_FILE_INTERNAL_H
#define CAIRN_INDEX_FORMAT_FILE_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#include "index/io.h"
#include "index/util/errbuf.h"

enum { FORMAT_FILE_MAX = 4096, UUID_SIZE = 37 };

struct format_file {
	unsigned version;
	char uuid[UUID_SIZE];
};

/* A random (version 4) UUID. */
int format_make_uuid(char ret[UUID_SIZE]);

/* Writes the text into `ret` of at least FORMAT_FILE_MAX bytes; returns its length. */
size_t format_file_print(const char *uuid, char *ret);

/* Enters the feature "redo" into the file, unless it is there; durable once the directory is
 * synced. */
int format_file_add_redo(const struct io *io, int dirfd);

/* `directory` is for messages.  -EOPNOTSUPP where a version or feature forbids opening it so. */
int format_file_parse(const char *text, size_t length, const char *directory, bool read_only,
		      struct format_file *ret, struct errbuf *err);

/* -ENOENT where there is none. */
int format_file_read(int dirfd, const char *directory, bool read_only, struct format_file *ret,
		     struct errbuf *err);

#endif
