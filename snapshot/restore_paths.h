/*
 * Restore of some paths: below these the head becomes equal to a point, all else stays.
 *
 * Paths are names, not inodes: what is called PATH in the point is called PATH afterwards, whatever
 * it was.
 *
 *   in the point            in the head              outcome
 *   ------------            -----------              -------
 *   a file, a link …        anything, or nothing     it is there, with contents, attributes, xattrs
 *   a directory             anything, or nothing     the same, with all below; what the point does
 *                                                    not have there is deleted
 *   nothing                 anything                 deleted, with all below
 *   nothing                 nothing                  -ENOENT
 *   in a directory          the directory is not     the directories on the way are made as in the
 *                           there                    point, without anything else that was in them
 *   in a directory          no directory, but a      -ENOTDIR
 *                           file of that name
 *
 * Nothing outside of the paths changes but for the times of directories that lose or get an entry.
 * So what was moved out of the paths since stays where it is, and the paths get another
 * file of the same contents; what was moved within them goes back and is the same inode (I2).  A
 * file with names inside and outside stays one file where it is the same in both states; otherwise
 * the names inside get a file of their own.
 */
#ifndef CAIRN_SNAPSHOT_RESTORE_PATHS_H
#define CAIRN_SNAPSHOT_RESTORE_PATHS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot/diff.h"
#include "snapshot/revise.h"

struct restore_paths_options {
	const char *const *paths; /* "" or "/": everything */
	size_t path_count;	  /* at least 1 */
	const char *by;
	bool dry_run;
	/* As in struct revision. */
	int (*may_change)(uint64_t ino, void *context);
	void *context;
};

struct restore_paths_result {
	struct point target;
	struct revise_result revised; /* `changed` is false where all was as in the point */
	struct diff_summary changed;
};
void restore_paths_result_release(struct restore_paths_result *result);

/* The head keeps its base (or is based on the point that was kept).  One commit; the cost is that
 * of comparing the point with the head, and what changes.  -ENOENT, -ENOTDIR, -EINVAL (".." in
 * a path) name the path. */
int point_restore_paths(struct head *head, const struct point *target,
			const struct restore_paths_options *options,
			struct restore_paths_result *ret, struct errbuf *err);

#endif
