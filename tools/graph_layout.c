/* See tools/graph_layout.h.  Nothing here is recursive: a history may be one long line. */
#include "tools/graph_layout.h"

#include <stdlib.h>

enum { NONE = GRAPH_NO_PARENT };

struct spot {
	long child, sibling; /* first child, next child of the same parent; in drawing order */
	long newest;	     /* of the points above */
	unsigned width;	     /* columns that this and what is above it need */
	bool main;	     /* on the way from the head to its root */
};

struct graph_layout {
	size_t count;
	struct spot *spots;	/* owned */
	struct graph_row *rows; /* owned */
	size_t row_count;
	long roots; /* the first one; linked as siblings */
};

/* Should `a` be in the column of the parent, rather than `b`? */
static bool is_straighter(const struct spot *a, const struct spot *b)
{
	if (a->main != b->main)
		return a->main;
	return a->width != b->width ? a->width > b->width : a->newest > b->newest;
}

/* Puts the straightest in front; the others stay as they are, the newest first. */
static void choose_first(struct graph_layout *layout, long *list)
{
	struct spot *spots = layout->spots;
	long best = *list, before_best = NONE;

	for (long i = *list; i != NONE && spots[i].sibling != NONE; i = spots[i].sibling) {
		if (is_straighter(&spots[spots[i].sibling], &spots[best])) {
			best = spots[i].sibling;
			before_best = i;
		}
	}
	if (before_best == NONE)
		return;
	spots[before_best].sibling = spots[best].sibling;
	spots[best].sibling = *list;
	*list = best;
}

/* Columns for what is above a point, once its children are in order. */
static unsigned width_above(const struct spot *spots, long child)
{
	unsigned width = 1;

	for (long i = child; i != NONE; i = spots[i].sibling) {
		unsigned own = spots[i].width + (i == child ? 0 : 1);
		if (own > width)
			width = own;
	}
	return width;
}

struct by_newest {
	long point, newest;
};

static int newer_first(const void *a, const void *b)
{
	long left = ((const struct by_newest *)a)->newest;
	long right = ((const struct by_newest *)b)->newest;

	return (left < right) - (left > right);
}

/* Orders a list of siblings. False: no memory. */
static bool sort_siblings(struct graph_layout *layout, long *list)
{
	struct spot *spots = layout->spots;
	struct by_newest *items;
	size_t count = 0, at = 0;

	for (long i = *list; i != NONE; i = spots[i].sibling)
		count++;
	if (count < 2)
		return true;
	items = calloc(count, sizeof(*items));
	if (!items)
		return false;
	for (long i = *list; i != NONE; i = spots[i].sibling)
		items[at++] = (struct by_newest){i, spots[i].newest};
	qsort(items, count, sizeof(*items), newer_first);
	*list = items[0].point;
	for (size_t i = 0; i < count; i++)
		spots[items[i].point].sibling = i + 1 < count ? items[i + 1].point : NONE;
	free(items);
	return true;
}

/* Children are younger than their parent: from the youngest on, everything above is known. */
static bool measure(struct graph_layout *layout, const long *parents)
{
	struct spot *spots = layout->spots;

	for (size_t i = layout->count; i-- > 0;) {
		long *list = parents[i] == NONE ? &layout->roots : &spots[parents[i]].child;
		if (!sort_siblings(layout, &spots[i].child))
			return false;
		choose_first(layout, &spots[i].child);
		spots[i].width = width_above(spots, spots[i].child);
		spots[i].newest = (long)i;
		for (long k = spots[i].child; k != NONE; k = spots[k].sibling)
			if (spots[k].newest > spots[i].newest)
				spots[i].newest = spots[k].newest;
		spots[i].sibling = *list;
		*list = (long)i;
	}
	if (!sort_siblings(layout, &layout->roots))
		return false;
	/* Trees do not stand beside each other: only the head's has to come first. */
	for (long i = layout->roots; i != NONE; i = spots[i].sibling)
		spots[i].width = 1;
	choose_first(layout, &layout->roots);
	return true;
}

static void put_row(struct graph_layout *layout, long point, unsigned column, bool first)
{
	layout->rows[layout->row_count++] = (struct graph_row){point, column, first};
}

/* Goes up to a tip along first children. */
static long climb(const struct graph_layout *layout, long at)
{
	while (layout->spots[at].child != NONE)
		at = layout->spots[at].child;
	return at;
}

/*
 * Draws one tree.  Where a point is drawn, its column says what comes next: the branch beside it in
 * the same fork, one column further right, or the fork itself.
 */
static void draw_tree(struct graph_layout *layout, const long *parents, long root)
{
	const struct spot *spots = layout->spots;
	long at = climb(layout, root);
	unsigned column = 0;
	bool first = true;

	for (;;) {
		put_row(layout, at, column, first);
		first = false;
		if (at == root)
			return;
		if (spots[parents[at]].child != at) /* a branch at the side ends here */
			put_row(layout, NONE, --column, false);
		if (spots[at].sibling != NONE) {
			column++;
			at = climb(layout, spots[at].sibling);
		} else {
			at = parents[at];
		}
	}
}

struct graph_layout *graph_layout_new(const long *parents, size_t count, long main_line)
{
	struct graph_layout *layout = calloc(1, sizeof(*layout));

	if (!layout)
		return NULL;
	layout->count = count;
	layout->roots = NONE;
	layout->spots = calloc(count + 1, sizeof(*layout->spots));
	layout->rows = calloc(2 * count + 1, sizeof(*layout->rows));
	if (!layout->spots || !layout->rows)
		goto fail;
	for (size_t i = 0; i < count; i++)
		layout->spots[i] = (struct spot){.child = NONE, .sibling = NONE};
	for (long i = main_line; i != NONE; i = parents[i])
		layout->spots[i].main = true;
	if (!measure(layout, parents))
		goto fail;
	for (long root = layout->roots; root != NONE; root = layout->spots[root].sibling)
		draw_tree(layout, parents, root);
	return layout;
fail:
	graph_layout_free(layout);
	return NULL;
}

void graph_layout_free(struct graph_layout *layout)
{
	if (!layout)
		return;
	free(layout->spots);
	free(layout->rows);
	free(layout);
}

size_t graph_layout_rows(const struct graph_layout *layout, const struct graph_row **ret)
{
	*ret = layout->rows;
	return layout->row_count;
}
