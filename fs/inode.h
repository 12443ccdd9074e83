/*
 * Hot inodes: the truth about a file while it is open, dirty or busy (internal to fs/).
 *
 * A file that is none of these has no `struct inode`: its attributes are read from the tree.
 * While there is one, its `attr` counts, not the tree's item; `attr_dirty` says that the item is
 * behind, and the next cut (or inode_table_write_back) brings it up to date.
 *
 * Locking: the head lock covers everything here, exclusive to change, shared to read; only
 * `references` is atomic, so that a reader under the shared lock can take one.
 * A pointer from inode_find() is good while the head lock is held; with a reference, for longer.
 * Nothing is freed but under the exclusive lock: by inode_table_reap().
 */
#ifndef CAIRN_FS_INODE_H
#define CAIRN_FS_INODE_H

#include <stdbool.h>
#include <stdint.h>

#include "fs/data.h"
#include "fs/scattered.h"
#include "index/util/u64map.h"
#include "snapshot/inode.h"
#include "snapshot/repo.h"

struct inode {
	uint64_t ino;
	struct inode_table *table;
	_Atomic uint32_t references; /* handles, requests with a worker, flushes; INODE_CANDIDATE */
	uint32_t writers;	     /* handles open for writing */
	struct inode_attr attr;
	bool attr_dirty; /* the tree's INODE item is behind */
	bool on_dirty_list;
	bool unlinked;	      /* nlink is 0: delete when nothing refers to it any more */
	bool gone : 1;	      /* not in the restored tree: every use answers ESTALE */
	bool atime_waits : 1; /* attr.atime is newer than the item, which makes nothing dirty */
	/* Of a regular file: st_blocks that the kernel was told last, perhaps BLOCKS_MIXED.  Of a
	 * directory: anything but BLOCKS_UNTOLD says that it was told attributes. (relaxed) */
	_Atomic uint32_t told_blocks;
	struct inode *dirty_next, *dirty_previous; /* table->dirty */
	struct inode *candidate_next;		   /* table->candidates */
	struct file_data data;
};

#define BLOCKS_UNTOLD UINT32_MAX
/* Set: other answers went before, and the kernel may hold any of them: of two that are under way
 * at once it takes the one that it happens to look at first. */
#define BLOCKS_MIXED 0x80000000u

/* Set in `references` while the inode is on the list of candidates; not a reference. */
#define INODE_CANDIDATE 0x80000000u

/* What the engine keeps per table (private to fs/flush.c); fields with `engine`'s lock said so. */
struct table_flush {
	struct engine *engine;	    /* set by the first write, then fixed */
	struct inode *first, *last; /* files with DIRTY segments, oldest first */
	uint32_t round;		    /* of data_flush_all() */
	struct batch *done;	    /* stored, to be applied; engine lock */
	unsigned in_flight;	    /* batches taken and not yet applied; engine lock */
	unsigned users;		    /* threads and queued streams that use the table; engine lock */
};

struct inode_table {
	struct head *head; /* borrowed */
	struct u64map by_ino;
	struct inode *dirty; /* doubly linked, oldest first: attr_dirty or data dirty */
	struct inode *dirty_last;
	size_t dirty_count;
	_Atomic(struct inode *) candidates; /* without references, perhaps to be freed: a stack */
	struct table_flush flush;
	struct scattered scattered; /* files to be put in order (head lock, exclusive) */
};

void inode_table_init(struct inode_table *table, struct head *head);
/* No lock held; waits for workers that still use the table. What is dirty is dropped. */
void inode_table_release(struct inode_table *table);

/* The hot inode, or NULL. */
struct inode *inode_find(struct inode_table *table, uint64_t ino);
/* The hot inode, made from the tree's item if need be (exclusive lock). No reference is taken.
 * -ENOENT where the tree has none. */
int inode_load(struct inode_table *table, struct reader *reader, uint64_t ino, struct inode **ret);
/* For a file that is being made: attributes are given, the item is written by the caller. */
int inode_insert(struct inode_table *table, uint64_t ino, const struct inode_attr *attr,
		 struct inode **ret);

void inode_ref(struct inode *inode);
void inode_unref(struct inode *inode); /* any thread, no lock; freeing waits for a reap */
uint32_t inode_references(struct inode *inode);

/* The file is deleted (its items are gone from the tree): drops its data, answers ESTALE from here
 * on, and is freed by a reap after the last reference (exclusive lock). */
void inode_forget_deleted(struct engine *engine, struct inode *inode);

void inode_mark_attr_dirty(struct inode *inode);   /* also head_mark_dirty() */
void inode_update_dirty_list(struct inode *inode); /* after a change of attr_dirty or data */

/* Attributes as they are now: hot, or from the tree (shared lock suffices). */
int inode_attributes(struct inode_table *table, struct reader *reader, uint64_t ino,
		     struct inode_attr *ret);

/* Writes the items of all inodes with dirty attributes (exclusive lock). */
int inode_table_write_back(struct inode_table *table, struct reader *reader);
/* Frees what is clean and has no references (exclusive lock); looks only at candidates. */
void inode_table_reap(struct inode_table *table);

#endif
