/* Paths, as seen from the root of a workspace: no leading slash, components separated by one. */
#ifndef CAIRN_SNAPSHOT_PATH_H
#define CAIRN_SNAPSHOT_PATH_H

#include <stddef.h>
#include <stdint.h>

#include "snapshot/tree.h"

/* Resolves a path ("" or "/" is the root; leading, doubled and trailing slashes and "." are
 * ignored, ".." is refused with -EINVAL; symbolic links are not followed). -ENOENT, -ENOTDIR. */
int path_lookup(struct tree *tree, struct reader *reader, const char *path, uint64_t *ret_ino);

/* One path of an inode (the first of its names in order of parent and hash): malloc'ed, "" for the
 * root. -ENOENT for an orphan. */
int path_of_inode(struct tree *tree, struct reader *reader, uint64_t ino, char **ret_path);
/* The path of the name `name` in `directory`. */
int path_of_name(struct tree *tree, struct reader *reader, uint64_t directory, const char *name,
		 size_t length, char **ret_path);

#endif
