/*
 * Taking inodes over from one tree of a store into another: what carry and restore of paths are
 * made of.  Contents are shared by chunk id, so the cost is the number of items.
 *
 * Callers hold the head lock of the destination, and have made sure that the source's point exists
 * (snapshot/collect.h).  Both trees are read through the one reader.  `counters` gets what changes
 * of the destination's files, directories and bytes; inodes without a name do not count.
 *
 * Names and inodes are separate steps, so that files can swap names: graft_unlink() leaves an inode
 * without a name, graft_link() gives it another, and graft_bury() deletes it if none came.
 */
#ifndef CAIRN_SNAPSHOT_GRAFT_H
#define CAIRN_SNAPSHOT_GRAFT_H

#include <stdint.h>

#include "snapshot/inode.h"
#include "snapshot/repo.h"
#include "snapshot/tree.h"

enum graft_parts {
	GRAFT_CONTENTS = 1 << 0, /* bytes of a file, target of a link, with size and mtime */
	GRAFT_ATTRIBUTES =
		1 << 1, /* mode, owner, device number, and mtime of what has no contents */
	GRAFT_XATTRS = 1 << 2,
	GRAFT_ALL = 7,
	GRAFT_KEEP_MTIME = 1 << 3, /* with GRAFT_ATTRIBUTES: `to` has changed since, its mtime stays */
};

struct graft {
	struct tree *to, *from;
	struct reader *reader;
	struct head_counters *counters;
};

/* Makes these parts of `to`'s inode `ino` equal to those of `from`'s inode `source` (both of one
 * type).  An inode that is not in `to` yet is made, with all parts and no name.  ctime is now. */
int graft_inode(const struct graft *graft, uint64_t source, uint64_t ino, unsigned parts);

/* Gives an inode of `to` a name: -EEXIST, -EMLINK (directories have one name), -ENOENT where it or
 * the directory is missing. */
int graft_link(const struct graft *graft, uint64_t directory, const char *name, size_t length,
	       uint64_t ino);
/* Takes a name away. -ENOENT.  The inode stays, also the entries of a directory. */
int graft_unlink(const struct graft *graft, uint64_t directory, const char *name, size_t length);
/* Deletes an inode that has no name, with what is below it where it is a directory.  Whoever has
 * one of them open finds it gone (fs/ answers ESTALE, as after a restore).  One that has a name,
 * or is not there, is left alone. */
int graft_bury(const struct graft *graft, uint64_t ino);

#endif
