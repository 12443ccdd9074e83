/*
 * Directories: DIRENT items and, as their mirror, BACKREF items.
 *
 * A name lives in the item (directory, DIRENT, hash of the name); names with the same hash share
 * one.  The hash is 63 bits (XXH3-64 shifted right, kept off 0..15 and the maximum), so that it
 * serves as a stable readdir cookie: an entry keeps its position while others come and go.
 * dirent_insert() and dirent_remove() keep the backref in step, so that a path can be told from
 * an inode number in O(depth).  They change neither link counts nor times.
 *
 * An inode may have any number of names in one directory.  The first 237 of them are listed in its
 * backref; beyond that the backref only counts them (until the last one goes), and finding
 * them costs a walk through the directory.
 *
 * Names are 1 to 255 bytes, anything but '/' and NUL (-ENAMETOOLONG, -EINVAL).
 */
#ifndef CAIRN_SNAPSHOT_DIRENT_H
#define CAIRN_SNAPSHOT_DIRENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "snapshot/tree.h"

enum { NAME_MAX_BYTES = 255 };

struct dirent_name {
	const char *text; /* not terminated */
	size_t length;
};

struct dirent_target {
	uint64_t ino;
	uint8_t type; /* DT_REG, DT_DIR … as in readdir(3) */
};

uint64_t dirent_hash(const char *name, size_t length);

int dirent_lookup(struct tree *tree, struct reader *reader, uint64_t directory, const char *name,
		  size_t length, struct dirent_target *ret); /* -ENOENT */
int dirent_insert(struct tree *tree, struct reader *reader, uint64_t directory, const char *name,
		  size_t length, const struct dirent_target *target); /* -EEXIST */
int dirent_remove(struct tree *tree, struct reader *reader, uint64_t directory, const char *name,
		  size_t length); /* -ENOENT */
/* dirent_insert() fails with -ENOSPC where too many names share one hash (7 of the longest are
 * safe), and refuses "." and ".." (-EINVAL).  Whatever fails leaves names and backrefs as they
 * were. */

/* Points an existing name at another inode (rename over it); backrefs of both follow. */
int dirent_replace(struct tree *tree, struct reader *reader, uint64_t directory, const char *name,
		   size_t length, const struct dirent_target *target); /* -ENOENT */

int dirent_is_empty(struct tree *tree, struct reader *reader, uint64_t directory, bool *ret_empty);

struct dirent_entry {
	struct dirent_name name;
	struct dirent_target target;
	uint64_t cookie; /* continue with this to get what comes after all entries of this hash */
	bool last_of_cookie; /* the next entry has another cookie */
};
/* Calls `visit` for each entry with a cookie > `cookie` (0: from the start; "." and ".." are not
 * stored), in order of cookie.  Non-zero ends and is returned; 0 at the end. */
int dirent_iterate(struct tree *tree, struct reader *reader, uint64_t directory, uint64_t cookie,
		   int (*visit)(const struct dirent_entry *entry, void *context), void *context);

/* Decodes the entries of one DIRENT item; *position starts at 0.  1: `ret` is the next entry
 * (its name borrowed from the item); 0: no more; -EUCLEAN. */
int dirent_decode(const struct tree_item *item, size_t *position, struct dirent_entry *ret);

/* Calls `visit` with each (directory, name) of an inode, in order of directory and hash.  The root
 * has none.  Non-zero ends and is returned; `visit` must not change the tree. */
int backref_iterate(struct tree *tree, struct reader *reader, uint64_t ino,
		    int (*visit)(uint64_t directory, const struct dirent_name *name, void *context),
		    void *context);
/* How many names one BACKREF item stands for; -EUCLEAN. */
int backref_decode(const struct tree_item *item, uint32_t *ret_names);
/* The first (directory, name) of an inode, copied; -ENOENT where it has no name. */
struct backref_name {
	uint64_t directory;
	size_t length;
	char text[NAME_MAX_BYTES];
};
int backref_first(struct tree *tree, struct reader *reader, uint64_t ino, struct backref_name *ret);
/* The directory that a directory lies in (ROOT_INO for the root itself); -ENOENT for one
 * that was removed. */
int dirent_parent(struct tree *tree, struct reader *reader, uint64_t directory,
		  uint64_t *ret_parent);

/* For tests only: the number of low bits of the hash that count (63: all). */
void dirent_test_limit_hash(unsigned bits);

#endif
