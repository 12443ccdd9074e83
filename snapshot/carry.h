/*
 * Carry: brings work that was done in one line of history over into the head.
 *
 * A three-way merge of whole files between
 *      FROM   the state whose work is wanted (usually the point that a restore kept),
 *      BASE   the nearest point that FROM and the head both come from,
 *      head   the present state.
 * What changed from BASE to FROM is applied to the head.  A file is an inode (I2), so a file or
 * directory that was renamed on either side is followed; a file that was replaced under its name
 * (written anew and renamed over) is a change of the file at that path.
 *
 * The cost is what changed from BASE to FROM, not the size of the workspace or of the head's own
 * changes.
 *
 *   changed in FROM          in the head since BASE         outcome
 *   ---------------          ----------------------         -------
 *   contents, attributes     untouched                      taken
 *   the same change          the same                       nothing to do
 *   contents                 only attributes (or reverse)   both kept
 *   contents                 other contents                 conflict CARRY_BOTH_CHANGED
 *   contents                 deleted                        conflict CARRY_CHANGED_DELETED
 *   deleted                  untouched                      deleted
 *   deleted                  contents changed               conflict CARRY_DELETED_CHANGED
 *   created                  another thing at that name     conflict CARRY_CREATED_TWICE,
 *                                                           or CARRY_TYPE_CLASH (directory / file)
 *   created in a directory   directory deleted              conflict CARRY_NO_PARENT
 *   renamed                  untouched, or only changed     renamed
 *   renamed                  renamed elsewhere              conflict CARRY_RENAMED_TWICE
 *   renamed                  name taken                     conflict CARRY_CREATED_TWICE
 *   directory moved          would be below itself          conflict CARRY_CYCLE
 *   directory deleted        something added or changed     conflict CARRY_DELETED_CHANGED
 *   directory created        a directory of that name       merged entry by entry
 *   xattrs, mode, owner      differently                    conflict CARRY_BOTH_CHANGED
 *
 * Times and the sizes of directories never conflict.
 *
 * Where two lines have carried one another's work they may have several nearest points in common.
 * The newest is BASE; contents, attributes and xattrs count as untouched where they are as in any
 * of them, and where each side has them as in another one, that is a conflict.
 *
 * What both sides have is there afterwards, whatever the policy: taking FROM's side replaces or
 * deletes what FROM does not have; what is in the way and is elsewhere in FROM goes there.
 */
#ifndef CAIRN_SNAPSHOT_CARRY_H
#define CAIRN_SNAPSHOT_CARRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot/diff.h"
#include "snapshot/revise.h"

#define CARRY_CONFLICTS(X)                                                                         \
	X(BOTH_CHANGED, "both_changed", "changed on both sides")                                   \
	X(CHANGED_DELETED, "changed_deleted", "changed there, deleted here")                       \
	X(DELETED_CHANGED, "deleted_changed", "deleted there, changed here")                       \
	X(CREATED_TWICE, "created_twice", "created on both sides")                                 \
	X(TYPE_CLASH, "type_clash", "a directory on one side, a file on the other")                \
	X(RENAMED_TWICE, "renamed_twice", "renamed differently on both sides")                     \
	X(NO_PARENT, "no_parent", "its directory was deleted here")                                \
	X(CYCLE, "cycle", "the directory would lie below itself")

enum carry_conflict {
	CARRY_CLEAN,
#define CARRY_CONFLICT_NUMBER(name, text, sentence) CARRY_##name,
	CARRY_CONFLICTS(CARRY_CONFLICT_NUMBER)
#undef CARRY_CONFLICT_NUMBER
};

enum carry_policy {
	CARRY_STOP, /* any conflict: nothing is changed */
	CARRY_KEEP, /* the head's side stays */
	CARRY_TAKE, /* FROM's side replaces it */
	CARRY_BOTH, /* the head's side stays, FROM's comes beside it as "NAME.from-POINT[-N]" */
};

/* One thing that comes over, or stands in the way. */
struct carry_entry {
	enum diff_op op;      /* what happens in the head */
	const char *path;     /* in the head afterwards; borrowed, valid during the call */
	const char *old_path; /* of a rename, else NULL */
	uint32_t mode;	      /* st_mode of FROM's side, of the head's where FROM has none */
	uint64_t size;
	enum carry_conflict conflict;
	enum carry_policy resolved; /* of a conflict: what was (or would be) done about it */
	const char *copy_path;	    /* CARRY_BOTH: the name that FROM's copy got; else NULL */
};

struct carry_options {
	const char *const *paths; /* as in FROM or the head; files, or directories with all below */
	size_t path_count;	  /* 0: everything */
	enum carry_policy policy;
	const char *by;
	bool dry_run;
	/* As in struct revision. */
	int (*may_change)(uint64_t ino, void *context);
	/* Each entry, sorted by path, after the merge was computed and before it is committed (so
	 * also on a dry run, and where conflicts stop it).  Non-zero aborts. May be called
	 * again from the start after `restart`, where the disk was full. */
	int (*entry)(const struct carry_entry *entry, void *context);
	void (*restart)(void *context);
	void *context;
};

struct carry_result {
	struct point from, base; /* base.id 0: the empty state */
	struct revise_result revised;
	struct diff_summary brought;
	uint64_t conflicts;
	bool stopped; /* conflicts, and the policy says stop: nothing was changed */
};
void carry_result_release(struct carry_result *result);

/* 0 also where it stopped at conflicts (`stopped`); -ENOENT where a path is on neither side. */
int point_carry(struct head *head, const struct point *from, const struct carry_options *options,
		struct carry_result *ret, struct errbuf *err);

/* The nearest point that both come from: FROM itself or an ancestor of it that is the head's
 * base or an ancestor of that; carries count as parents too, once they took everything.
 * -ENOENT: none; the merge then starts from the empty state. */
int carry_find_base(struct head *head, const struct point *from, struct point *ret);

#endif
