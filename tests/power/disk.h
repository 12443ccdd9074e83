/*
 * A disk that plays a tape (tests/power/tape.h), and what is left on it when the power fails.
 *
 * Durable is what a successful sync (or a write through a descriptor with O_DSYNC) covers: the
 * bytes and the size of a file, the names in a directory.  Of everything else the cut decides, for
 * each sector of 512 bytes, each size, each name on its own, or in one of the orders that file
 * systems keep (enum disk_cut).  A sector is never torn, and never older than what is durable.
 */
#ifndef CAIRN_TESTS_DISK_H
#define CAIRN_TESTS_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct disk;

/* What is left of what is not durable. */
enum disk_cut {
	CUT_NOTHING,	 /* nothing */
	CUT_EVERYTHING,	 /* all of it: the process was killed */
	CUT_PREFIX,	 /* what came first, the last of it torn */
	CUT_ORDERED,	 /* ext4, data=ordered: names and sizes up to some instant, with the data
			  * that files grew by; data that was written over older: any */
	CUT_SOME,	 /* each operation whole or not */
	CUT_SECTORS,	 /* each sector, each size, each name on its own */
	CUT_ALL_BUT_ONE, /* one operation is missing */
	CUT_ONLY_ONE,
	CUT_DATA,     /* data, but no size and no name */
	CUT_METADATA, /* sizes and names, but no data: zeros */
	DISK_CUTS,
};
extern const char *const disk_cut_names[DISK_CUTS];

/* Syncs that a disk may be told to ignore, to see that a test notices. */
enum disk_deaf {
	DEAF_TO_NOTHING,
	DEAF_TO_PACKS,
	DEAF_TO_INDEX, /* fdatasync of LMDB's file */
	DEAF_TO_META,  /* its meta page, which is written through a descriptor with O_DSYNC */
	DEAF_TO_REDO,
	DEAF_TO_NAMES, /* of directories */
	DISK_DEAFS,
};
extern const char *const disk_deaf_names[DISK_DEAFS];

struct disk_event {
	bool is_mark;
	const char *mark; /* its text; lives until the next event */
	bool is_change;	  /* something was written, synced, made or removed */
	bool is_sync_end;
};

/* Takes the whole tape in.  NULL with errno. */
struct disk *disk_open(const char *tape, enum disk_deaf deaf);
struct disk *disk_close(struct disk *disk);

/* Plays one record; false at the end. */
bool disk_next(struct disk *disk, struct disk_event *ret);
uint64_t disk_position(const struct disk *disk); /* records played */
size_t disk_waiting(const struct disk *disk);	 /* operations that are not durable */

/*
 * Writes what a cut at this moment leaves into `directory` (made anew).  The same for the same
 * `seed`.  Returns 0, or negative errno.
 */
int disk_cut(struct disk *disk, enum disk_cut cut, uint64_t seed, const char *directory);

#endif
