/*
 * A tape: what a process did to the files of a store, in order, for tests that cut the power.
 *
 * tests/power/recorder.c writes it, from inside the process: it stands between the program (with
 * LMDB) and the C library.  tests/power/disk.c plays it.  A tape is a file of records, each a
 * header and `payload` bytes, appended by one write(2) each, so that several processes may share
 * it: who works on a mount adds marks of his own.
 *
 * First comes what is there when the recording begins (FILE, BYTES), all of it durable.  Then
 * operations.  Those that have a duration are two records: what is asked for, before the call, and
 * END with the same number, after it.  A sync makes durable what had ended before it began; what
 * has begun may be on the disk at any time from then on.
 */
#ifndef CAIRN_TESTS_TAPE_H
#define CAIRN_TESTS_TAPE_H

#include <stdint.h>

enum tape_kind {
	TAPE_FILE = 1,	   /* file, parent, payload: name; TAPE_DIRECTORY; length: its size */
	TAPE_BYTES = 2,	   /* file, offset, payload: bytes */
	TAPE_WRITE = 3,	   /* operation, file, offset, payload: bytes; TAPE_DURABLE: once ended */
	TAPE_TRUNCATE = 4, /* operation, file, length: its new size */
	TAPE_PUNCH = 5,	   /* operation, file, offset, length: zeros; the size stays */
	TAPE_EXTEND = 6,   /* operation, file, length: its size is at least that */
	TAPE_SYNC = 7,	   /* operation, file (or directory) */
	TAPE_END = 8,	   /* operation, length: what was returned, negative errno */
	TAPE_MAKE = 9,	   /* file, parent, payload: name; TAPE_DIRECTORY */
	TAPE_UNLINK = 10,  /* parent, payload: name */
	TAPE_RENAME = 11,  /* parent, file: the new parent, payload: name, NUL, new name */
	TAPE_MARK = 12,	   /* payload: text of who wants it */
};

enum tape_flags { TAPE_DIRECTORY = 1 << 0, TAPE_DURABLE = 1 << 1 };

struct tape_record {
	uint32_t kind;
	uint32_t flags;
	uint64_t operation;
	uint64_t file, parent; /* inode numbers */
	uint64_t offset, length;
	uint64_t payload; /* bytes that follow */
};

/*
 * In the process that is recorded.  One recording at a time.  With LD_PRELOAD the environment says
 * it all, and recording begins with the program: CAIRN_TAPE (the file), CAIRN_TAPE_STORE.
 */
int tape_start(const char *path, const char *store); /* 0, or negative errno */
void tape_stop(void);
void tape_mark(const char *text);

#endif
