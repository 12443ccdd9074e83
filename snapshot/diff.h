/*
 * What changed between two trees, as people see it: paths.  O(what changed): a simultaneous
 * walk of both trees that skips shared nodes, then one line an inode.
 *
 * The same inode number is the same file (I2), so a rename is told as one.  A renamed directory
 * is one entry: its contents did not change.  An added or removed directory lists its contents.
 * Names count, not only inodes: a new hard link is '+', a lost one '-', and an inode that lost one
 * name and gained one is 'R', whatever other names it has.  A file that was replaced under its
 * name by another inode of the same type (written anew and renamed over) is 'M' or 'm', or left
 * out where contents and attributes are the same.  Orphans have no path and are left out.
 * The root is ".".
 */
#ifndef CAIRN_SNAPSHOT_DIFF_H
#define CAIRN_SNAPSHOT_DIFF_H

#include <stdint.h>

#include "snapshot/tree.h"

enum diff_op {
	DIFF_ADDED = '+',
	DIFF_REMOVED = '-',
	DIFF_MODIFIED = 'M',   /* contents differ (maybe attributes too) */
	DIFF_ATTRIBUTES = 'm', /* only mode, owner, mtime or xattrs */
	DIFF_RENAMED = 'R',    /* path differs; `contents` says whether contents do too */
};

struct diff_entry {
	enum diff_op op;
	const char *path;     /* in the new tree (in the old one for '-'); borrowed */
	const char *old_path; /* for 'R', else NULL */
	uint64_t ino;
	uint32_t mode; /* st_mode, of the new side where there is one */
	uint64_t old_size, new_size;
	int contents; /* for 'R': contents differ too */
};

/* Entries come sorted by path (bytes).  Directories whose only change is that entries came or
 * went (mtime, ctime, nlink, size) are left out.  Non-zero from `visit` ends and is returned. */
int diff_trees(struct tree *old_tree, struct tree *new_tree, struct reader *reader,
	       int (*visit)(const struct diff_entry *entry, void *context), void *context,
	       struct errbuf *err);

struct diff_summary {
	uint64_t added, removed, modified; /* modified: M, m and R */
};
int diff_summarize(struct tree *old_tree, struct tree *new_tree, struct reader *reader,
		   struct diff_summary *ret);

/*
 * For cache coherence: the raw consequences of exchanging one tree for the other.  Each inode
 * whose attributes or contents differ (or that is on one side only), each (directory, name) whose
 * target differs.  `contents` says whether pages must go too.
 */
struct diff_kernel_visitor {
	int (*inode)(uint64_t ino, int contents, void *context);
	int (*name)(uint64_t directory, const char *name, size_t length, void *context);
	void *context;
};
int diff_for_kernel(struct tree *old_tree, struct tree *new_tree, struct reader *reader,
		    const struct diff_kernel_visitor *visitor);

#endif
