/*
 * All I/O on pack files, through one small table: the seam for fault injection and for
 * asserting I3.  LMDB does its own I/O.
 *
 * Functions return 0 (or a count) or negative errno.  They retry EINTR and short
 * transfers themselves, so that a caller sees all or an error.
 */
#ifndef CAIRN_INDEX_IO_H
#define CAIRN_INDEX_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct io_ops {
	/* Opens a pack below the directory `dirfd`; O_CLOEXEC is added. Returns fd. */
	int (*open)(void *context, int dirfd, const char *name, int flags, mode_t mode);
	/* Writes the vector at `offset`, whole (it may change `vector`). */
	int (*write)(void *context, int fd, struct iovec *vector, int count, uint64_t offset);
	/* Fills the vector from `offset` (it may change `vector`); less only at the end of the
	 * file. Returns count. */
	ssize_t (*read)(void *context, int fd, struct iovec *vector, int count, uint64_t offset);
	int (*sync)(void *context, int fd); /* fdatasync */
	int (*sync_dir)(void *context, int fd); /* fsync of a directory */
	int (*punch)(void *context, int fd, uint64_t offset, uint64_t length);
	int (*truncate)(void *context, int fd, uint64_t length);
	int (*unlink)(void *context, int dirfd, const char *name);
};

struct io {
	const struct io_ops *ops; /* borrowed for as long as the store is open */
	void *context;		  /* handed to every call */
};

/* The real thing. */
extern const struct io_ops io_system;

#endif
