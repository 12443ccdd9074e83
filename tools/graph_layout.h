/*
 * Where a history is drawn: order and column of each point.
 *
 * A point has one parent, so a history is a forest.  Each branch is drawn in one piece, right above
 * the point that it left from, and joins the line of that point as soon as it is drawn:
 *
 *	● after-load                 what the head stands on comes first, in the leftmost column
 *	│ ○ before-restore-2
 *	├─╯
 *	│ ● try-b                    then the other branches, the newest first
 *	│ │ ● try-a
 *	│ ├─╯
 *	│ ● before-try
 *	├─╯
 *	● before-load
 *
 * So a point in column n has lines in columns 0 to n - 1 beside it, and the widest of the branches
 * below one point need not move to the right: n points take at most log2(n) + 2 columns.
 */
#ifndef CAIRN_TOOLS_GRAPH_LAYOUT_H
#define CAIRN_TOOLS_GRAPH_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>

enum { GRAPH_NO_PARENT = -1 };

struct graph_layout;

/*
 * Lays out `count` points.  `parents[i]` is the index of the parent, less than i, or
 * GRAPH_NO_PARENT; `main_line` the index of the point that is to be in the leftmost column with its
 * ancestors (GRAPH_NO_PARENT: none).  NULL: no memory.
 */
struct graph_layout *graph_layout_new(const long *parents, size_t count, long main_line);
void graph_layout_free(struct graph_layout *layout);

struct graph_row {
	long point;	 /* index; GRAPH_NO_PARENT: a line that joins `column` + 1 into `column` */
	unsigned column; /* lines run in all columns before it */
	bool first;	 /* of a tree that has nothing to do with what was drawn before */
};

/* From top to bottom. */
size_t graph_layout_rows(const struct graph_layout *layout, const struct graph_row **ret);

#endif
