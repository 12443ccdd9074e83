/*
 * The copy-on-write B+tree: a workspace is one tree, a point is a pinned root.
 *
 * After O. Rodeh, "B-trees, Shadowing, and Clones" (ACM Transactions on Storage 3(4), 2008), as
 * btrfs uses it, but without reference counts: what no root reaches is found by marking.
 *
 * A node is NODE_SIZE bytes (index/reader.h).  Clean nodes are read in place from the index's
 * memory map; changed ones live in the tree's own table until a commit has made them durable.
 *
 * I1 (shadowing): a node is changed in place only if its birth is the tree's generation.  Any
 * other node is shared with a point: it is copied under a new id first, and so is the path to it.
 *
 * Locking: none inside.  Readers of a tree hold its owner's lock shared, writers exclusive
 * (snapshot/head.h); an immutable view needs no lock.  Acquire the reader after the lock.
 *
 * Borrowed memory: a `tree_item` and a cursor point into nodes.  They die when the reader is
 * released and at any change of the tree.
 *
 * Errors: -EBADMSG, -EUCLEAN for damage; -ENOMEM; -EIO.  A failed change leaves the tree as it
 * was.
 */
#ifndef CAIRN_SNAPSHOT_TREE_H
#define CAIRN_SNAPSHOT_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index/commit.h"
#include "index/reader.h"
#include "index/redo.h"
#include "index/util/idset.h"

enum item_type {
	ITEM_INODE = 1,	  /* (ino, INODE, 0): attributes */
	ITEM_BACKREF = 2, /* (ino, BACKREF, parent ino): hashes of its names there */
	ITEM_XATTR = 3,	  /* (ino, XATTR, name hash): extended attributes of that hash */
	ITEM_DIRENT = 4,  /* (directory, DIRENT, name hash): names of that hash */
	ITEM_INLINE = 5,  /* (ino, INLINE, offset): contents of a small file, a link's target */
	ITEM_EXTENT = 6,  /* (ino, EXTENT, file offset): a piece of a chunk */
	ITEM_ORPHAN = 7,  /* (0, ORPHAN, ino): unlinked but still open */
	ITEM_DIGEST = 8,  /* (ino, DIGEST, 0): in a tree of digests only (snapshot/digest.h) */
};

/* Compared by ino, then type, then offset; on disk as 17 big-endian bytes. */
struct tree_key {
	uint64_t ino;
	uint8_t type;
	uint64_t offset;
};

int tree_key_compare(const struct tree_key *a, const struct tree_key *b);

struct tree_item {
	struct tree_key key;
	const uint8_t *value; /* borrowed */
	uint16_t length;
};

enum { TREE_VALUE_MAX = 1900 }; /* two of the largest items fit a node */

struct tree;

/* A tree over `root` (0: empty).  `generation` 0 makes an immutable view; a mutable tree owns
 * the store-wide newest generation that its head was given. */
int tree_open(struct store *store, uint64_t root, uint64_t generation, struct tree **ret);
/* A tree that starts as `below` is now, with what that has not yet committed, and under a newer
 * generation, so that no change reaches `below` (I1).  `below` must stay as it is, and open, until
 * this one is closed. */
int tree_open_over(const struct tree *below, uint64_t generation, struct tree **ret);
struct tree *tree_close(struct tree *tree); /* drops what is not committed; NULL is fine */

uint64_t tree_root(const struct tree *tree);
uint64_t tree_generation(const struct tree *tree);
struct store *tree_store(const struct tree *tree);
size_t tree_dirty_bytes(const struct tree *tree); /* memory in not yet committed nodes */

/* -ENOENT where there is no such item. */
int tree_get(struct tree *tree, struct reader *reader, const struct tree_key *key,
	     struct tree_item *ret);

/* Inserts, or replaces the value. Up to TREE_VALUE_MAX bytes (-EINVAL); `value` must not point
 * into the tree.  Putting what is there already changes nothing: the tree does not get dirty.
 * An immutable tree refuses all changes with -EROFS. */
int tree_put(struct tree *tree, struct reader *reader, const struct tree_key *key,
	     const void *value, size_t length);
int tree_delete(struct tree *tree, struct reader *reader, const struct tree_key *key); /* -ENOENT */
/* Deletes every item with from <= key <= to; returns how many, or an error (some may be gone
 * then, in order of key). */
int64_t tree_delete_range(struct tree *tree, struct reader *reader, const struct tree_key *from,
			  const struct tree_key *to);

enum { TREE_DEPTH_MAX = 16 };

/* Iteration in order of key.  Valid while neither reader nor tree changes; no clean-up needed. */
struct tree_cursor {
	struct tree *tree;
	struct reader *reader;
	int depth;
	struct {
		const uint8_t *node;
		uint16_t slot;
	} path[TREE_DEPTH_MAX];
};

/* Goes to the first item with a key >= `key`; -ENOENT where there is none. */
int tree_seek(struct tree *tree, struct reader *reader, const struct tree_key *key,
	      struct tree_cursor *ret_cursor, struct tree_item *ret);
/* Goes to the last item with a key <= `key`; -ENOENT where there is none. */
int tree_seek_before(struct tree *tree, struct reader *reader, const struct tree_key *key,
		     struct tree_cursor *ret_cursor, struct tree_item *ret);
int tree_next(struct tree_cursor *cursor, struct tree_item *ret); /* -ENOENT at the end */

/*
 * Commit protocol (the owner's lock, exclusive, around each of them):
 *   tree_collect()    puts every dirty node into the commit and deletes those that were dropped;
 *                     from here they count as "committing", and a change makes them dirty again
 *   tree_committed()  after the commit: success forgets the nodes that are still "committing"
 *                     (they are in the index now); failure makes them dirty again
 */
int tree_collect(struct tree *tree, struct commit *commit);
void tree_committed(struct tree *tree, bool success);
/* Puts what has changed since the last tree_log() or successful commit into a record of the redo
 * log. Not between tree_collect() and tree_committed().  After an error, or where the record does
 * not become durable, only a commit has all that has changed. */
int tree_log(struct tree *tree, struct redo *redo);
bool tree_is_dirty(const struct tree *tree); /* anything changed since the last tree_collect() */

/* Freeze: what is there now is shared from here on (I1). */
void tree_set_generation(struct tree *tree, uint64_t generation);
/* Restore: all dirty nodes must have been committed (or at least collected by the commit whose
 * tree_committed() is still to come); continues from `root`. */
void tree_set_root(struct tree *tree, uint64_t root, uint64_t generation);

/*
 * Differences between two trees of one store, item by item in order of key, in time proportional
 * to what differs: subtrees with the same node id are skipped.  `old_item` or `new_item` is NULL
 * where the key is on one side only; both are there where the values differ.  A non-zero return
 * of `visit` ends the walk and is returned.  Two trees of the same root are the same: compare a
 * head with what it was before its last change of generation, not within one.
 */
typedef int tree_diff_visitor(const struct tree_item *old_item, const struct tree_item *new_item,
			      void *context);
int tree_diff(struct tree *old_tree, struct tree *new_tree, struct reader *reader,
	      tree_diff_visitor *visit, void *context);

/* The same for from <= key <= to; what lies beside costs the way down to `from`. */
int tree_diff_range(struct tree *old_tree, struct tree *new_tree, struct reader *reader,
		    const struct tree_key *from, const struct tree_key *to,
		    tree_diff_visitor *visit, void *context);

/*
 * Marks every node that `root` reaches, and hands each item of each newly marked leaf to `visit`
 * (for the chunks that it refers to; a non-zero return ends the walk and is returned).  Nodes
 * already in the set are not entered again: their subtree is marked.  After an error or an early
 * end the set is incomplete, and must not be used.  Without `visit`, leaves are not read.
 */
int tree_mark(struct store *store, struct reader *reader, uint64_t root, struct idset *nodes,
	      int (*visit)(const struct tree_item *item, void *context), void *context);

/* The same where the caller keeps account of the nodes himself: `enter` returns 1 where the node and
 * what is below it are to be looked at, 0 where they are not, or an error. */
int tree_walk(struct store *store, struct reader *reader, uint64_t root,
	      int (*enter)(uint64_t node, void *context),
	      int (*visit)(const struct tree_item *item, void *context), void *context);

/* Checks the structure below `root`: checksums, key order, levels, fill, birth against the
 * parent's. Newly seen nodes only, with the same set as tree_mark().  -EUCLEAN/-EBADMSG with a
 * message. */
int tree_check(struct store *store, struct reader *reader, uint64_t root, struct idset *nodes,
	       int (*visit)(const struct tree_item *item, void *context), void *context,
	       struct errbuf *err);

#endif
