/*
 * Revision: many changes to a head's tree as one step, made from below rather than through the
 * file system: carry, restore of some paths, import.
 *
 * In ONE commit, with the head locked: the present state is kept as a point (I8; not where it
 * equals the base), the head gets a new generation, `edit` changes the tree, and head and point
 * become durable together.  Where `edit` or the commit fails, the head is as it was and no point
 * was made.
 */
#ifndef CAIRN_SNAPSHOT_REVISE_H
#define CAIRN_SNAPSHOT_REVISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot/journal.h"
#include "snapshot/point.h"
#include "snapshot/repo.h"

struct revision {
	/*
	 * Changes the tree, and adds to `counters` what that makes of files, directories and
	 * bytes.  Runs with the head locked exclusively and everything acknowledged in the tree;
	 * may be called again, on the unchanged tree, where the disk was full.  It may read any
	 * point (point_exists() holds: points cannot be deleted meanwhile).  Returns 0, 1 where
	 * there was nothing to change (then the head is made durable as it is), or an error.  It
	 * must not change anything but the tree.
	 */
	int (*edit)(struct tree *tree, struct reader *reader, struct head_counters *counters,
		    void *context);
	void *context;
	/*
	 * Called after `edit` for each inode of which it changed attributes (link count and times
	 * are among them), contents or xattrs.  Non-zero where that must not be now, as a program
	 * has it open for writing: the first such answer becomes the error when all were asked.
	 * Also on a dry run.  NULL: every one may.  Head locked, as for `edit`.
	 */
	int (*may_change)(uint64_t ino, void *context);
	void *may_change_context;
	const char *what;   /* "carry", "restore": for the name of the kept point */
	const char *target; /* name of the point whose files come */
	const char *by;
	/* The entry for the journal: `details` and the head's workspace are filled in. */
	const struct journal_note *note;
	uint64_t carried; /* a point whose work is in the head from now on, 0: none */
	/* `edit` runs, and all of it is dropped: the result tells what would be, the kept point's
	 * name included. */
	bool dry_run;
};

struct revise_result {
	struct point safety; /* what was kept: new, or the base where nothing had changed */
	bool safety_made;
	bool changed; /* false: `edit` returned 1 */
	uint64_t old_root, new_root;
};
void revise_result_release(struct revise_result *result);

/* "only A, B and 3 more", for the journal: which paths a revision was about.  "" for none. */
enum { REVISE_REASON = 512 };
void revise_reason(const char *const *paths, size_t count, char ret[REVISE_REASON]);

int head_revise(struct head *head, const struct revision *revision, struct revise_result *ret,
		struct errbuf *err);

#endif
