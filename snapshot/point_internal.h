/* Points, for the files of snapshot/ that make, change or read their records. */
#ifndef CAIRN_SNAPSHOT_POINT_INTERNAL_H
#define CAIRN_SNAPSHOT_POINT_INTERNAL_H

#include "index/util/idset.h"
#include "snapshot/journal.h"
#include "snapshot/point.h"
#include "snapshot/record_internal.h"
#include "snapshot/repo_internal.h"

struct point_fixed {
	uint8_t length[2]; /* of the fixed part */
	uint8_t origin;
	uint8_t verdict;
	uint8_t reserved[4];
	uint8_t workspace[8];
	uint8_t parent[8];
	uint8_t root[8];
	uint8_t generation[8];
	uint8_t created[8];
	uint8_t files[8];
	uint8_t directories[8];
	uint8_t bytes[8];
	uint8_t changed_bytes[8];
};
_Static_assert(sizeof(struct point_fixed) == 80, "on disk");
_Static_assert(offsetof(struct point_fixed, workspace) == 8, "on disk");
_Static_assert(offsetof(struct point_fixed, created) == 40, "on disk");
_Static_assert(offsetof(struct point_fixed, changed_bytes) == 72, "on disk");

enum point_tag {
	POINT_NAME = 1,
	POINT_MESSAGE = 2,
	POINT_BY = 3,
	POINT_TAG = 4,		  /* repeated */
	POINT_HOLD = 5,		  /* repeated; struct hold_fixed, reason, by */
	POINT_ANCHOR = 6,	  /* repeated; length of the name u32, name, value */
	POINT_VERDICT = 7,	  /* struct verdict_fixed, by, reason */
	POINT_ANCHOR_COMMAND = 8, /* repeated; of the anchor of that name; as POINT_ANCHOR */
	POINT_RUN = 9,		  /* struct run_fixed, command */
	POINT_STEP = 10,	  /* repeated; struct run_fixed, name */
	POINT_CARRIED = 11,	  /* repeated; id u64 */
	POINT_DIGEST = 12,	  /* struct digest_fixed */
	POINT_FIRST_UNKNOWN
};

struct hold_fixed {
	uint8_t id[8];
	uint8_t since[8];
	uint8_t until[8];
	uint8_t reason_length[4];
};
_Static_assert(sizeof(struct hold_fixed) == 28, "on disk");

struct verdict_fixed {
	uint8_t when[8];
	uint8_t by_length[4];
};
_Static_assert(sizeof(struct verdict_fixed) == 12, "on disk");

struct run_fixed {
	uint8_t elapsed[8];
	uint8_t exit_status[4];
};
_Static_assert(sizeof(struct run_fixed) == 12, "on disk");

struct digest_fixed {
	uint8_t root[8];
	uint8_t bytes[32];
};
_Static_assert(sizeof(struct digest_fixed) == 40, "on disk");

int point_decode(uint64_t id, struct bytes value, struct point *ret);
/* `old` is the record that is replaced (or empty): what we do not know of it is kept. */
void point_encode(const struct point *point, struct bytes old, struct record_writer *writer);

int point_read(struct reader *reader, uint64_t id, struct point *ret); /* -ENOENT */
int point_read_in_commit(struct commit *commit, uint64_t id, struct point *ret);
int point_write(struct commit *commit, const struct point *point);

/* The fixed part alone: no memory, no strings. -EUCLEAN. */
int point_peek(struct bytes key, struct bytes value, uint64_t *ret_id,
	       const struct point_fixed **ret);

/* The name in a record, borrowed from it. -EUCLEAN. */
int point_peek_name(struct bytes value, const char **ret, size_t *ret_length);

/* All points of a workspace (0: of all), oldest first. */
int points_read(struct reader *reader, uint64_t workspace, struct point **ret, size_t *ret_count);
int points_read_in_commit(struct commit *commit, uint64_t workspace, struct point **ret,
			  size_t *ret_count);

int64_t point_now(void);
/* A copy of `by`, or the name of this process' user. NULL: no memory. */
char *point_user(const char *by);

/*
 * Making a point of a head in an action: fills `ret` from the head's state (owned by the caller
 * even after an error of a later step), puts record and name, and appends to the journal.  What
 * was carried over since the base is the point's from now on, no longer the head's.
 */
int point_make(struct commit *commit, struct head *head, const struct freeze_options *options,
	       enum point_origin origin, struct point *ret);
/* Keeping the present state in an action (I8): the base where the head equals it, else a new
 * point "before-WHAT-TARGET-TIME".  `ret` is owned by the caller even after an error. */
struct point_keeping {
	const char *what;   /* "restore", "carry" */
	const char *target; /* name of a point */
	const char *by;
};
int point_keep(struct commit *commit, struct head *head, const struct point_keeping *keeping,
	       struct point *ret, bool *ret_made);
/* 1 and the base where the head equals it, 0, or an error. */
int head_equals_base(struct head *head, struct commit *commit, struct point *ret_base);

/* The entry for what was done to a point (journal.h): workspace and point are filled in. */
int point_journal(struct repo *repo, struct commit *commit, const struct point *point,
		  struct journal_note *note);

/*
 * Removes the points' records and names, gives children and heads based on them a new parent;
 * refuses held ones.  `doomed` has all the ids, `points` is sorted by id.  Each gets an entry like
 * `note` (action, by, reason) in the journal.  In an action.
 */
int points_remove(struct repo *repo, struct commit *commit, const struct idset *doomed,
		  const struct point *points, size_t count, const struct journal_note *note,
		  struct errbuf *err);
/* After it became durable: bases of open heads. */
void points_removed(struct repo *repo, const struct idset *doomed, const struct point *points,
		    size_t count);
/* Which hold, and until when (0: for ever), for the journal. */
struct hold_details {
	char number[24], until[48];
	struct point_pair pairs[2];
};
void hold_describe(uint64_t id, int64_t until_ns, struct hold_details *details,
		   struct journal_note *note);
/* 0, or -EBUSY with a message that names each hold and how to lift it. */
int points_refuse_held(const struct point *points, size_t count, struct errbuf *err);

/*
 * A change of a point's record.  `apply` runs in the action: it changes `point`, completes `note`
 * (its texts must live as long as `context`), and returns 1, or 0 where nothing is to be done, or
 * an error with a message.  It may run again where the disk was full.
 */
struct point_change {
	enum journal_action action;
	const char *by;
	int (*apply)(struct commit *commit, struct point *point, struct journal_note *note,
		     void *context, struct errbuf *err);
	void *context;
};
int point_change(struct repo *repo, uint64_t id, const struct point_change *change,
		 struct errbuf *err);

int point_name_is_taken(const char *name, struct errbuf *err); /* -EEXIST */

/* -ENOENT with a message that names close matches in the workspace. */
int point_not_found(struct repo *repo, uint64_t workspace, const char *workspace_name,
		    const char *name, struct errbuf *err);

/* The rules that names of points and workspaces share; `what` is for the message. */
int name_check(const char *what, const char *name, struct errbuf *err);

#endif
