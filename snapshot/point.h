/*
 * Points in time: immutable, named states of a workspace.
 *
 * A point is a record (index/FORMAT.md) with the root of a tree and what people said of it.  The
 * state can never change; name, tags, holds, verdict may.  History is a tree: each point knows
 * its parent, the point that the head was based on.
 *
 * `struct point` is filled by the functions below and owned by the caller: point_release().
 * Where a function takes a spec, it accepts all notations of the command line: NAME, @latest,
 * @N (N before the latest), @{time or age}, WORKSPACE@NAME, WORKSPACE@latest and so on (a point of
 * exactly that name wins), @head (only where it says so).
 */
#ifndef CAIRN_SNAPSHOT_POINT_H
#define CAIRN_SNAPSHOT_POINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot/repo.h"

enum verdict { VERDICT_OPEN, VERDICT_WORKING, VERDICT_BROKEN, VERDICT_SUPERSEDED };

struct point_hold {
	uint64_t id;
	char *reason;
	char *by;
	int64_t since_ns; /* Unix time */
	int64_t until_ns; /* 0: for ever */
};

struct point_pair {
	char *name;
	char *value;
};

struct point_anchor { /* where a neighbour stood when the point was made */
	char *name;
	char *value;
	char *command; /* that told the value, and can be asked again; NULL: given by hand */
};

/* What a rehearsal (cairn try) ran before it froze the point. */
struct point_run {
	char *command; /* NULL: none was run */
	uint64_t elapsed_ns;
	int exit_status;
};

struct point_step {
	char *name;
	uint64_t elapsed_ns;
	int exit_status;
};

struct point_digest { /* snapshot/digest.h */
	bool known;
	uint8_t bytes[32];
	uint64_t root; /* node id of the tree of digests of files and directories */
};

enum point_origin {
	POINT_FROZEN = 0, /* asked for */
	POINT_SAFETY = 1, /* kept by restore or carry (I8) */
};

struct point {
	uint64_t id;
	uint64_t workspace;
	uint64_t parent;     /* point id, 0: none */
	uint64_t root;	     /* node id, 0: empty tree */
	uint64_t generation; /* of the head when it was frozen */
	int64_t created_ns;
	uint64_t files, directories, bytes, changed_bytes;
	enum point_origin origin;
	enum verdict verdict;
	int64_t verdict_ns;   /* when it was given; 0: never */
	char *verdict_by;     /* never NULL */
	char *verdict_reason; /* never NULL */
	char *name;
	char *message; /* never NULL */
	char *by;      /* who froze it */
	char **tags;
	size_t tag_count;
	struct point_hold *holds;
	size_t hold_count;
	struct point_anchor *anchors;
	size_t anchor_count;
	struct point_run run;
	struct point_step *steps;
	size_t step_count;
	uint64_t *carried; /* points whose work came over (carry) between the parent and this one */
	size_t carried_count;
	struct point_digest digest;
};

void point_release(struct point *point);

/* -EINVAL with a message that says which rule is broken. */
int point_check_name(const char *name, struct errbuf *err);

struct freeze_options {
	const char *name; /* required */
	const char *message;
	const char *by; /* NULL: the user of this process */
	const char *const *tags;
	size_t tag_count;
	const char *const *holds; /* reasons */
	size_t hold_count;
	int64_t hold_until_ns; /* of all these holds; 0: for ever */
	const struct point_anchor *anchors;
	size_t anchor_count;
	const struct point_run *run; /* NULL: none */
	const struct point_step *steps;
	size_t step_count;
	bool if_changed; /* do nothing (ret_made = false) where the head equals its base */
};

/*
 * Freezes the head: O(1) in the size of the workspace, one commit.  -EEXIST where the name is
 * taken; -E2BIG where message, tags and anchors are too long.  With `if_changed` and nothing
 * changed, `ret` is the base and *ret_made false.
 */
int point_freeze(struct head *head, const struct freeze_options *options, struct point *ret,
		 bool *ret_made, struct errbuf *err);

struct restore_result {
	struct point target;
	struct point safety; /* what was kept: new, or the base where nothing had changed */
	bool safety_made;    /* a new point was made */
	uint64_t old_root, new_root;
};
void restore_result_release(struct restore_result *result);

/* Makes the head equal to the point; the present state is kept as a point first (I8), in the same
 * commit.  The safety point is named "before-restore-TARGET-YYYYMMDD-HHMMSS" (made unique). */
int point_restore(struct head *head, const struct point *target, const char *by,
		  struct restore_result *ret, struct errbuf *err);
/* The point that a restore would keep now: its name is right, but it is not made (`ret_made`
 * false: it is the base, and there already). */
int point_restore_would_keep(struct head *head, const struct point *target, const char *by,
			     struct point *ret, bool *ret_made);

/* 1 where the head's tree is that of its base, 0, or an error; head lock held (any way).  What fs/
 * has not yet put into the tree is not seen: commit first. */
int head_is_at_base(struct head *head);

int point_get(struct repo *repo, uint64_t id, struct point *ret); /* -ENOENT */
/* 0 or -ENOENT; cheap.  Under a head lock, with a reader acquired after it, the answer holds until
 * the lock is released: points are deleted with all heads locked. */
int point_exists(struct reader *reader, uint64_t id);
/* Finds a point by name or spec.  -ENOENT with a message that names close matches; -EINVAL for
 * @head and for what is no notation.  `workspace` may be NULL where the spec names one. */
int point_resolve(struct repo *repo, const char *workspace, const char *spec, struct point *ret,
		  struct errbuf *err);
/* By exact name in a workspace id; for path look-ups. -ENOENT. */
int point_by_name(struct repo *repo, uint64_t workspace, const char *name, size_t length,
		  struct point *ret);
/* All points of a workspace (0: of all), oldest first.  Free with points_free(). */
int point_list(struct repo *repo, uint64_t workspace, struct point **ret, size_t *ret_count);
void points_free(struct point *points, size_t count);
/* Calls `visit` with the name of each point of a workspace whose id is `from` or above, oldest
 * first (the name is borrowed, not terminated); much cheaper than point_list().  Non-zero ends and
 * is returned. */
int point_names(struct repo *repo, uint64_t workspace, uint64_t from,
		int (*visit)(uint64_t id, const char *name, size_t length, void *context),
		void *context);
/* How many points each workspace has, and their bytes together: in order of workspace id, without
 * those that have none.  free() it. */
struct point_totals {
	uint64_t workspace, points, bytes;
};
int point_totals(struct repo *repo, struct point_totals **ret, size_t *ret_count);

/* Changes of what people said of a point.  Each is one commit, with its entry in the journal.  `by`
 * NULL: the user of this process.  -ENOENT where the point is gone. */
int point_rename(struct repo *repo, uint64_t id, const char *name, const char *by,
		 struct errbuf *err);
const char *point_verdict_text(enum verdict verdict);	      /* "open" … */
int point_parse_verdict(const char *text, enum verdict *ret); /* -EINVAL */
/* `giver` says what the point is good for, `by` enters it (NULL: he who enters it).  `reason` may be
 * "". */
int point_set_verdict(struct repo *repo, uint64_t id, enum verdict verdict, const char *reason,
		      const char *giver, const char *by, struct errbuf *err);
/* Adds tags that are not there yet, removes others (-ENOENT where one is not there). -EINVAL: "".
 */
int point_set_tags(struct repo *repo, uint64_t id, const char *const *add, size_t add_count,
		   const char *const *remove, size_t remove_count, const char *by,
		   struct errbuf *err);

/* Deletes points in one commit.  -EBUSY where one is held (the message names each hold, its
 * reason, its owner and the command that lifts it).  Children are given the parent of the deleted
 * one; a head based on it likewise. */
int point_delete(struct repo *repo, const uint64_t *ids, size_t count, bool dry_run, const char *by,
		 struct errbuf *err);
/* The same for retention: the journal says "prune", and `rules` as the reason. */
int point_prune(struct repo *repo, const uint64_t *ids, size_t count, const char *rules,
		const char *by, struct errbuf *err);

int point_hold(struct repo *repo, uint64_t id, const char *reason, const char *by, int64_t until_ns,
	       uint64_t *ret_hold, struct errbuf *err);
/* `hold` 0: all holds of the point. -ENOENT. */
int point_unhold(struct repo *repo, uint64_t id, uint64_t hold, const char *by, struct errbuf *err);
/* Expired holds do not protect. */
bool point_is_held(const struct point *point, int64_t now_ns);

/* "2026-11-22 09:00[:SS]", RFC 3339, "2 hours ago", "yesterday" (this time of day), "today" (its
 * first instant), "now", "in 3 days" → Unix time in ns (local zone). -EINVAL. */
int point_parse_time(const char *text, int64_t now_ns, int64_t *ret_ns, struct errbuf *err);

/* An immutable tree over the point's state. */
int point_view(struct repo *repo, const struct point *point, struct tree **ret);

#endif
