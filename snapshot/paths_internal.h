/*
 * The parts of a restore of paths:
 *
 *   restore_paths.c   one restore from beginning to end, and the paths themselves
 *   paths_inside.c    what lies below the paths, and which inode becomes which
 *   paths_touched.c   which names below them have to be looked at
 */
#ifndef CAIRN_SNAPSHOT_PATHS_INTERNAL_H
#define CAIRN_SNAPSHOT_PATHS_INTERNAL_H

#include "index/util/idset.h"
#include "index/util/u64map.h"
#include "snapshot/dirent.h"
#include "snapshot/graft.h"
#include "snapshot/inode.h"
#include "snapshot/restore_paths.h"

enum paths_side { SIDE_HEAD, SIDE_POINT, SIDES };

struct wanted_path {
	char *text;		   /* owned: normalized */
	const char *name;	   /* its last component; "" for the root */
	uint64_t directory[SIDES]; /* that it lies in, 0: there is none */
};

/* A name that has to be looked at. */
struct touched_name {
	uint64_t directory;
	size_t text; /* in touched.text */
	uint8_t length;
};

struct touched {
	bool collected;
	struct touched_name *names; /* owned; sorted, each once */
	size_t count, capacity;
	char *text; /* owned */
	size_t text_length, text_capacity;
	struct idset climbed[SIDES]; /* inodes whose names are noted, up to the paths */
};

/* A directory of the point, and what it becomes. */
struct paths_pair {
	uint64_t source, ino;
	bool made; /* it was not in the head */
};

struct paths_list {
	struct paths_pair *pairs; /* owned */
	size_t count, capacity;
};

struct paths {
	struct tree *trees[SIDES]; /* the head before, the point */
	struct graft graft;	   /* `to` is the head's next tree */
	struct reader *reader;
	const char *label; /* name of the point */
	struct errbuf *err;
	struct wanted_path *list; /* owned; none lies below another */
	size_t count;
	struct u64map inside[SIDES]; /* directory -> does it lie below the paths? */
	struct u64map numbers;	     /* inode of the point -> inode in the head afterwards */
	struct idset taken;	     /* those of them that are not itself */
	struct touched touched;
	struct paths_list directories; /* in the order in which they are reached */
	struct paths_list loose;       /* lost a name (`ino` only) */
};

/* ---- paths_inside.c ---- */

/* Does the name lie below the paths (or is it one of them)? 1, 0, or an error. */
int name_is_inside(struct paths *paths, enum paths_side side, uint64_t directory, const char *name,
		   size_t length);
/* Which inode of the head an inode of the point becomes: itself, or what has one of its names now
 * (`occupant`, 0: nothing), or a new one. */
int number_of(struct paths *paths, uint64_t source, uint64_t occupant, uint64_t *ret);
/* In which parts (enum graft_parts) the head's next state and the point differ; times count as
 * attributes. */
int parts_that_differ(struct paths *paths, struct tree *tree, uint64_t ino, uint64_t source,
		      unsigned *ret);

/* ---- paths_touched.c ---- */

/* Names that differ, and those that lead to something that differs. */
int touched_collect(struct paths *paths);
void touched_release(struct touched *touched);
/* The first of a directory's. */
size_t touched_find(const struct touched *touched, uint64_t directory);

#endif
