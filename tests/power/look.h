/*
 * What a store holds, as text that can be compared: one line for each workspace and each point,
 * with a hash over all names, attributes, contents and extended attributes that it has.
 */
#ifndef CAIRN_TESTS_LOOK_H
#define CAIRN_TESTS_LOOK_H

#include "snapshot/repo.h"

/*
 * "point ID WORKSPACE NAME HASH\n" …, "workspace NAME HASH\n" …, sorted; free() it.  Heads that are
 * open are seen as they are in memory, under their locks.  Returns 0, or negative errno with
 * `message` (256 bytes).
 */
int look_at_repo(struct repo *repo, char **ret, char *message);

/* From now on without what depends on the clock and on how often something was tried: numbers of
 * inodes and points, times, names of points that were kept by themselves; sizes and links of
 * directories. */
void look_plainly(void);

/* Opens the store, for writing, has the checker read everything, and looks.  `ret_repo` (may be
 * NULL): the repo, still open. */
int look_at_store(const char *directory, struct repo **ret_repo, char **ret, char *message);

/* Files as lines "PATH MODE LINKS OWNER INO SIZE MTIME HASH\n" sorted, of a workspace's head, or of
 * a point of it. */
int look_at_files(struct repo *repo, const char *workspace, const char *point, char **ret,
		  char *message);

#endif
