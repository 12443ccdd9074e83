/*
 * Versions of a path: which points hold it, and in which of them it is the same.
 *
 * Two states of a path are one version where contents and attributes are the same, as diff tells
 * them (type, mode, owner, device, mtime, extended attributes), whatever the inode: a file that was
 * deleted and copied back with its times is its old version again.  Of a directory the
 * contents are its own names and their types, not what lies in them.  The path is
 * followed as it is given, not the inode: what was renamed to it counts, where it went does not.
 */
#ifndef CAIRN_SNAPSHOT_VERSION_H
#define CAIRN_SNAPSHOT_VERSION_H

#include <stddef.h>
#include <stdint.h>

#include "snapshot/inode.h"
#include "snapshot/repo.h"

/* A point that holds the path.  All is borrowed, and valid during the call. */
struct version_holder {
	uint64_t point, workspace;
	const char *name; /* of the point; not terminated */
	size_t name_length;
	int64_t created_ns;
	unsigned version; /* from 1, in the order in which they first appear in a workspace's points
			   */
	uint64_t ino;
	const struct inode_attr *attr;
};

/*
 * Calls `visit` for each point of a workspace (0: of all) that holds `path`, oldest first.  Costs
 * the way down to the file for each point, and nothing where neighbours have the same tree.
 * Non-zero from `visit` ends and is returned.  -EINVAL: ".." in the path.  Where the path is a
 * directory at one point and a file at another these are versions like others.
 */
int version_list(struct repo *repo, uint64_t workspace, const char *path,
		 int (*visit)(const struct version_holder *holder, void *context), void *context);

#endif
