/* Comparing one file at two times (or two files), and what a walk of two trees collects. */
#ifndef CAIRN_SNAPSHOT_DIFF_INTERNAL_H
#define CAIRN_SNAPSHOT_DIFF_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot/dirent.h"
#include "snapshot/inode.h"
#include "snapshot/tree.h"

/* One file in one tree. */
struct diff_file {
	struct tree *tree;
	uint64_t ino;
	struct inode_attr attr;
};

/*
 * Do the contents differ?  Only bytes of [from, to) are looked at where both are in extents (the
 * caller knows that the rest is the same).  Layouts may differ where the bytes are the same; where
 * telling would need reading much data, the answer is 1.  1, 0, or an error.
 */
int diff_contents(const struct diff_file *old_file, const struct diff_file *new_file,
		  struct reader *reader, uint64_t from, uint64_t to);
/* Do the extended attributes of two inodes differ? */
int diff_xattrs(const struct diff_file *old_file, const struct diff_file *new_file,
		struct reader *reader);

/* An inode whose items differ. */
struct inode_change {
	uint64_t ino;
	uint64_t from, to; /* differing EXTENT items lie in here; from >= to: none do */
	bool attributes;   /* the INODE item */
	bool contents;	   /* INLINE or EXTENT items */
	bool xattrs;
	bool one_sided; /* the INODE item is on one side only */
	bool resized;
	bool entries; /* DIRENT items */
};

/* A name that led to `ino` and no longer does, or does now and did not. */
struct name_change {
	uint64_t ino, directory;
	const char *name; /* borrowed from a node: valid as long as the reader */
	uint8_t length;
	bool gained;
};

struct diff_collector {
	/* Inodes come in order; names in order of directory and hash.  May be NULL. */
	int (*inode)(const struct inode_change *change, void *context);
	int (*name)(const struct name_change *change, void *context);
	/* The target of the name differs in any way; called once for it.  May be NULL. */
	int (*entry)(uint64_t directory, const struct dirent_name *name, void *context);
	void *context;
};

/* Walks both trees and reports what differs, inode by inode. */
int diff_collect(struct tree *old_tree, struct tree *new_tree, struct reader *reader,
		 const struct diff_collector *collector);

#endif
