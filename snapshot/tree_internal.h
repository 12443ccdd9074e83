/*
 * What the parts of the tree share: its drafts (nodes in memory) and the way down.
 *
 *   tree.c       the tree, its drafts, the commit protocol, tree_get()
 *   tree_edit.c  put, delete, delete_range
 *   tree_walk.c  cursors, mark, check
 *   tree_diff.c  diff
 *
 * States of a draft:
 *
 *             tree_shadow(), tree_new_node()
 *    (index) ---------------------------------> DIRTY <----------------+
 *       ^                                         |  tree_collect()     | changed again, or
 *       |  tree_committed(true)                   v                     | tree_committed(false)
 *       +------------------------------------ COMMITTING ---------------+
 *
 * Beside that, a draft is on the list `unlogged` from the moment it is changed until a record of
 * the redo log has it (tree_log()); a commit takes all of them, logged or not.
 *
 * A draft born in an older generation than the tree's now is never changed again (I1); it
 * waits for its commit all the same, since a point refers to it.
 */
#ifndef CAIRN_SNAPSHOT_TREE_INTERNAL_H
#define CAIRN_SNAPSHOT_TREE_INTERNAL_H

#include "index/util/u64map.h"
#include "snapshot/node.h"
#include "snapshot/tree.h"

enum draft_state { DRAFT_DIRTY, DRAFT_COMMITTING };

struct draft {
	uint8_t node[NODE_SIZE];
	uint8_t state;	 /* enum draft_state */
	bool stored;	 /* the index may have this id: dropping it takes a delete */
	uint16_t last;	 /* slot of the last insertion */
	uint16_t streak; /* how many in a row went in right behind the one before */
	bool unlogged;	 /* on the tree's list of that name */
	struct draft *next, *previous; /* on it */
};

struct id_list {
	uint64_t *ids; /* owned */
	size_t count;
	size_t capacity;
};

enum { TREE_SPARES = 256 };

struct tree {
	struct store *store;	  /* not owned */
	const struct tree *below; /* not owned; whose drafts are read too; NULL: none */
	uint64_t root;		  /* 0: empty */
	uint64_t generation;	  /* 0: immutable */
	struct u64map drafts;	  /* node id -> owned draft */
	struct draft *spares[TREE_SPARES];
	unsigned spare_count;
	/* Born and dropped in this generation, so that no point can refer to them. Its capacity is
	 * always enough to take back `deleting`: tree_committed() cannot fail. */
	struct id_list dropped;
	struct id_list putting;	 /* in the commit under way */
	struct id_list deleting; /* in the commit under way */
	struct draft *unlogged; /* changed, and in no record of the redo log */
	size_t dropped_logged;	/* so many of `dropped`, from the front, are in a record */
	bool changed;		 /* since the last tree_collect() */
	bool collected_change;	 /* `changed` as that tree_collect() found it */
	unsigned test_countdown; /* see tree_test_fail() */
};

/* For tests only: the allocation after `countdown` - 1 more of them fails; 0: none. */
void tree_test_fail(struct tree *tree, unsigned countdown);

int id_list_reserve(struct id_list *list, size_t extra);
void id_list_release(struct id_list *list);

/* A node in use: its draft where it has one, else in the map. */
struct tree_step {
	const uint8_t *node;
	struct draft *draft; /* NULL: clean */
	uint16_t slot;
};

/* The way from the root (level `top`) down to a leaf (level 0). */
struct tree_path {
	int top;
	struct tree_step at[TREE_DEPTH_MAX]; /* by level */
};

/* The node with that id, which passed node_admit(). */
int tree_node(const struct tree *tree, struct reader *reader, uint64_t id, unsigned level,
	      uint64_t birth, struct tree_step *ret);
/* The root, of whatever level; the tree is not empty. */
int tree_root_node(const struct tree *tree, struct reader *reader, struct tree_step *ret);
int tree_child(const struct tree *tree, struct reader *reader, const uint8_t *parent, unsigned slot,
	       struct tree_step *ret);

/* Goes down to the leaf that covers `key`.  The leaf's slot is the number of keys not above it. */
int tree_descend(const struct tree *tree, struct reader *reader, struct packed_key key,
		 struct tree_path *ret);

/*
 * Changing.  First tree_reserve() for all the nodes that a change may make and drop; after it
 * nothing below can fail.
 */
int tree_reserve(struct tree *tree, unsigned nodes, unsigned drops);
bool tree_may_change(const struct tree *tree, const struct tree_step *step); /* I1 */
/* Makes the step's node one that may be changed: under the same id, or a copy under a new one,
 * to which the caller points the parent. */
void tree_shadow(struct tree *tree, struct tree_step *step);
struct draft *tree_new_node(struct tree *tree, unsigned level);
void tree_drop(struct tree *tree, struct tree_step *step);

/* tree_diff(), and how many nodes it had to open. */
int tree_diff_counted(struct tree *old_tree, struct tree *new_tree, struct reader *reader,
		      tree_diff_visitor *visit, void *context, size_t *ret_opened);

#endif
