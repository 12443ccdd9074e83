/* The checker's parts: check.c has the records, check_tree.c what a single tree must be like. */
#ifndef CAIRN_SNAPSHOT_CHECK_INTERNAL_H
#define CAIRN_SNAPSHOT_CHECK_INTERNAL_H

#include "index/util/idset.h"
#include "snapshot/collect.h"
#include "snapshot/repo_internal.h"

struct checker {
	struct repo *repo;
	struct reader *reader; /* borrowed */
	void (*report)(const char *finding, void *context);
	collect_progress *progress;
	void *context;
	struct check_result result;

	char place[640];      /* what is looked at: "workspace 'main'" */
	struct idset nodes;   /* owned: seen by tree_check() */
	struct idset chunks;  /* owned: seen in an item */
	struct idset damaged; /* chunks that do not read */
	uint64_t *chunk_list; /* owned: the same, to iterate over */
	size_t chunk_capacity;
};

/* Counts and reports one finding at the current place. */
void check_report(struct checker *checker, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* True for errors that are findings and not failures of the check itself. */
bool check_is_damage(int error);

/* Everything about one tree: structure, items, and that they fit together.  `ret_counters` (not
 * changed_bytes) is a recount, valid where *ret_counted.  Errors: failures of the check itself. */
int check_tree(struct checker *checker, uint64_t root, struct head_counters *ret_counters,
	       bool *ret_counted);

/* The tree of digests of a point that has one. */
struct point_digest;
int check_digests(struct checker *checker, const struct point_digest *digest);

/* Reports each file below `root` that needs one of these chunks. */
int check_damaged_files(struct checker *checker, uint64_t root, const struct idset *damaged);

#endif
