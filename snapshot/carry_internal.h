/*
 * The parts of carry:
 *
 *   carry.c         the base, and one carry from beginning to end
 *   carry_units.c   what FROM changed, file by file
 *   carry_merge.c   applying it to the head's tree, and what stands in the way
 *   carry_compare.c in which parts the three sides differ
 *   carry_names.c   names: where a directory of FROM is in the head, links, copies
 *   carry_evict.c   making room for FROM's side without losing what both sides have
 *   carry_report.c  what came over and what was in conflict, in order of path
 */
#ifndef CAIRN_SNAPSHOT_CARRY_INTERNAL_H
#define CAIRN_SNAPSHOT_CARRY_INTERNAL_H

#include "index/util/u64map.h"
#include "snapshot/carry.h"
#include "snapshot/diff_internal.h"
#include "snapshot/dirent.h"
#include "snapshot/graft.h"
#include "snapshot/inode.h"

/* A name that FROM took away or gave. */
struct unit_name {
	uint64_t ino, directory;
	const char *text; /* borrowed from a node: valid as long as the reader */
	uint8_t length;
	bool gained;
	bool paired; /* the name stayed, with another inode: a file that was replaced */
	bool taken;  /* a lost one that merging took away in the head, and has not put back */
};

/*
 * One file or directory that FROM changed.  A file that was replaced under its name (written
 * anew and renamed over) is one unit with two numbers.
 */
struct unit {
	uint64_t base;	 /* inode in BASE, 0: created in FROM */
	uint64_t from;	 /* inode in FROM, 0: deleted there */
	uint64_t number; /* of the two the one that it was collected by */
	uint32_t mode;	 /* st_mode, of FROM's where it has one */
	uint64_t here;	 /* what the head had replaced it by, once that was on its way elsewhere */
	unsigned depth;
	bool items;    /* its attributes, contents or xattrs may differ */
	bool absorbed; /* the other half of a replacement */
	bool excluded; /* by the caller's paths */
	bool outside;  /* of the paths; it comes all the same where something below it does */
	bool settled;  /* a conflict decided about all of it */
	struct unit_name *lost, *gained;
	size_t lost_count, gained_count;
};

struct units {
	struct unit *list; /* owned; by inode number, then by depth in FROM */
	size_t count;
	struct unit_name *names; /* owned; by inode, lost before gained */
	size_t name_count;
};

struct conflict {
	enum carry_conflict kind;
	enum carry_policy resolved;
	char *path, *copy_path; /* owned */
	uint32_t mode;
	uint64_t size;
};

struct merge {
	const struct carry_options *options;
	const char *label; /* of FROM, for the names of copies */
	struct tree *base, *from;
	struct tree *const *others; /* further bases, where lines have crossed: contents decide */
	size_t other_count;
	struct tree *head;  /* before */
	struct graft graft; /* `to` is the head's next tree */
	struct reader *reader;
	struct units units;
	struct u64map twins; /* directory made again in FROM -> the one of BASE that it replaced */
	struct u64map
		places;	    /* directory of BASE or FROM -> inode in the head, or PLACE_LEFT_OUT */
	uint64_t *homeless; /* owned; inodes that may have no name any more (carry_evict.c) */
	size_t homeless_count, homeless_capacity;
	struct conflict *conflicts; /* owned */
	size_t conflict_count, conflict_capacity;
	struct errbuf *err;
};

/* What `from` changed since `base`, into `ret`. */
int units_collect(struct merge *merge);
void units_release(struct units *units);

int merge_apply(struct merge *merge);
void merge_release(struct merge *merge);

/* ---- names (carry_names.c) ---- */

/* Where a directory of BASE or FROM is in the head now: 0 where it is not. */
int place_of(struct merge *merge, uint64_t directory, uint64_t *ret);
/* Says where; PLACE_LEFT_OUT: nowhere, and nothing is said of what was to come below it. */
#define PLACE_LEFT_OUT UINT64_MAX
int place_set(struct merge *merge, uint64_t directory, uint64_t ino);
/* True where merging itself left the directory out. */
bool place_is_left_out(const struct merge *merge, uint64_t directory);
/* Makes the directory of `tree` (FROM or BASE) again, with those above it.  A file that has its
 * name by now is evicted (CARRY_TAKE), or the directory comes beside it (CARRY_BOTH); otherwise it
 * cannot be: 0 in `ret`. */
int place_revive(struct merge *merge, struct tree *tree, uint64_t directory,
		 enum carry_policy policy, uint64_t *ret);

/* The inode of a name in the head's next tree, 0: none. */
int slot_get(struct merge *merge, uint64_t directory, const char *name, size_t length,
	     uint64_t *ret);
/* Links an inode as "NAME.from-LABEL[-N]"; `ret_name` is malloc'ed. */
int link_copy(struct merge *merge, uint64_t directory, const char *name, size_t length,
	      uint64_t ino, char **ret_name);
/* What the unit is in the head now: its own inode, or the one that the head replaced it by; 0. */
int unit_in_head(struct merge *merge, const struct unit *unit, uint64_t *ret);
/* Is `directory` the inode `ino`, or below it? 1, 0, or an error. */
int lies_below(struct merge *merge, uint64_t directory, uint64_t ino);

/* ---- comparing (carry_compare.c) ---- */

struct side {
	struct tree *tree;
	uint64_t ino;
};
struct side in_base(const struct merge *merge, const struct unit *unit);
struct side in_from(const struct merge *merge, const struct unit *unit);
struct side in_head(const struct merge *merge, uint64_t ino); /* as merging has it by now */

enum { TOUCHED = 1 << 8 }; /* beside enum graft_parts: only the mtime */

/* In which parts the two differ. */
int compare_sides(struct merge *merge, const struct side *left, const struct side *right,
		  unsigned *ret);

/* What each side changed.  Without BASE (created, and carried over before): all that differs. */
int changed_parts(struct merge *merge, const struct unit *unit, uint64_t ino, unsigned *ret_there,
		  unsigned *ret_here);
/* Parts that both sides changed, each in another way. */
int disputed_parts(struct merge *merge, const struct unit *unit, uint64_t ino, unsigned there,
		   unsigned here, unsigned *ret);

/* ---- making room (carry_evict.c) ---- */

/* Takes a name away from the head, and what is below it where that was the last one.  What FROM
 * still has somewhere is not lost by that: settle_homeless() gives it its name in FROM. */
int evict(struct merge *merge, uint64_t directory, const char *name, size_t length);
int settle_homeless(struct merge *merge);

/* ---- reporting (carry_report.c) ---- */

/* Notes a conflict, and returns in `ret` what to do: keep, take or both.  `path` is taken over
 * (NULL: no memory). `copy_path` may be filled in later. */
int conflict_add(struct merge *merge, enum carry_conflict kind, uint32_t mode, uint64_t size,
		 char *path, struct conflict **ret);
/* "DIRECTORY/NAME" in the head's next tree; NULL where there is no memory. */
char *path_in_head(struct merge *merge, uint64_t directory, const char *name, size_t length);
/* Calls options->entry for everything; counts into `ret`. */
int merge_report(struct merge *merge, struct diff_summary *ret);

#endif
