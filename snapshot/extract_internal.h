/* Extracting (snapshot/extract.h): the parts. */
#ifndef CAIRN_SNAPSHOT_EXTRACT_INTERNAL_H
#define CAIRN_SNAPSHOT_EXTRACT_INTERNAL_H

#include "index/util/u64map.h"
#include "snapshot/dirent.h"
#include "snapshot/extract.h"
#include "snapshot/inode.h"

enum { EXTRACT_PIECE = 1 << 20 };
#define NO_PARENT SIZE_MAX

/* Not with its path: those of deeply nested ones would take memory like their depth squared. */
struct extract_directory {
	size_t parent; /* its index; NO_PARENT: `name` is relative to the destination */
	char *name;    /* owned; "" for the destination */
	uint64_t ino;
	struct inode_attr attr;
	bool dress;   /* it gets the point's attributes in the end */
	bool descend; /* what is in it is extracted too */
};

struct extraction {
	struct repo *repo;
	uint64_t point;
	const struct extract_options *options;
	struct errbuf *err;
	int destination;
	struct tree *tree;     /* owned */
	struct reader *reader; /* owned; renewed now and then */
	unsigned since_renewal;
	uint8_t *buffer; /* owned: EXTRACT_PIECE bytes */

	/* A queue: each one's come behind it. */
	struct extract_directory *directories; /* owned */
	size_t count, capacity;
	struct u64map links; /* ino -> struct extract_link of a file with several names */
	uint64_t total;	     /* bytes; 0: not known */
	unsigned temporary;  /* number of the last temporary name */
	bool privileged;     /* we are root */
	struct extract_result result;
};

int extraction_renew(struct extraction *extraction); /* a new reader */
void extraction_skip(struct extraction *extraction, const char *path, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* "'PATH': TEXT" */
int extraction_fail(struct extraction *extraction, int error, const char *path);

/* ---- the destination (extract_beneath.c) ---- */

/* Opens a directory below another, or itself with the path "".  Any depth. */
int beneath_directory(int root, const char *path);
/* Opens one name in a directory; `flags` as for open(2).  A new file has mode 0600. */
int beneath_open(int directory, const char *name, int flags);

/* ---- attributes (extract_attributes.c) ---- */

/* Owner, extended attributes, mode, times, in this order.  `fd` may be O_PATH. */
int extract_attributes(struct extraction *extraction, int fd, const char *path, uint64_t ino,
		       const struct inode_attr *attr);

/* ---- files (extract_file.c) ---- */

/* Makes anything but a directory under one name. */
int extract_file(struct extraction *extraction, int directory, const char *name, const char *path,
		 uint64_t ino, const struct inode_attr *attr);
void extract_links_release(struct extraction *extraction);

#endif
