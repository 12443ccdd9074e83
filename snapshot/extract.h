/*
 * Writing the files of a point into a plain directory, outside of cairn.
 *
 * Nothing outside of the destination is ever touched, whatever the point holds and whatever others
 * do there meanwhile: names are single components relative to a descriptor, and whatever is opened
 * is opened with openat2(2) RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS.  Files are always made anew,
 * never written into.  Directories that are there already are used as they are, their attributes
 * left alone; any other name that is there already is an error, told before anything is written,
 * unless `overwrite`: then it is replaced in one step (but no directory is, by anything), and
 * directories get the point's attributes.
 *
 * Hard links among the extracted files stay links, holes stay holes; modes, times, extended
 * attributes (security.selinux excepted: the host's policy gives it), access control lists and, for
 * root, owners, devices and set-id bits are kept.  An ordinary user gets what he may make:
 * `skipped` tells of the rest.  New directories are private to the user until all is written.
 *
 * The root's attributes go to the destination itself where everything is extracted and it was empty
 * (or `overwrite`): then the digest of the result is that of the point (snapshot/digest.h), if
 * nothing was skipped.
 */
#ifndef CAIRN_SNAPSHOT_EXTRACT_H
#define CAIRN_SNAPSHOT_EXTRACT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot/collect.h"
#include "snapshot/point.h"
#include "snapshot/repo.h"

struct extract_options {
	const char *const *paths; /* in the point; they keep their path below the destination */
	size_t path_count;	  /* 0: everything */
	bool overwrite;
	/* What could not be kept (owner, device, xattr …), once a kind and file.  May be NULL. */
	void (*skipped)(const char *path, const char *what, void *context);
	collect_progress *progress; /* phase "extract", bytes (total 0: not known); may be NULL */
	void *context;
};

struct extract_result {
	uint64_t files, directories; /* new names, without the destination */
	uint64_t bytes;		     /* of contents; holes count */
	uint64_t skipped;
};

/* `destination` is an open directory (O_PATH will do).  -ENOENT where a path is not in the point,
 * or the point was deleted meanwhile; -EEXIST, -EISDIR; -EINTR where it stopped.  On an error the
 * message names the path; what was written stays. */
int point_extract(struct repo *repo, const struct point *point, int destination,
		  const struct extract_options *options, struct extract_result *ret,
		  struct errbuf *err);

#endif
