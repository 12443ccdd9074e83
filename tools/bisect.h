/*
 * Binary search along a line of states, from one that is good (number 0) to one that is bad (the
 * last).  Some may turn out not to be judgeable: then one near the middle is taken instead,
 * farther and farther away as long as that goes on.
 */
#ifndef CAIRN_TOOLS_BISECT_H
#define CAIRN_TOOLS_BISECT_H

#include <stdbool.h>
#include <stddef.h>

enum bisect_verdict { BISECT_GOOD, BISECT_BAD, BISECT_SKIP };

struct bisection {
	size_t good, bad;  /* the last known to be good, the first known to be bad */
	bool *skipped;	   /* owned; of each state */
	unsigned in_a_row; /* skipped since the last that could be judged */
};

int bisection_begin(size_t count, struct bisection *ret); /* at least two; -ENOMEM */
void bisection_release(struct bisection *bisection);

/* Which one to look at; false: there is none any more. Then `bad` is the first bad one where it
 * follows `good`, else it is that or one of those between them, which are all skipped. */
bool bisection_next(const struct bisection *bisection, size_t *ret);
void bisection_note(struct bisection *bisection, size_t index, enum bisect_verdict verdict);

/* How many may still be looked at, and how many of them will be if none is skipped. */
size_t bisection_left(const struct bisection *bisection);
unsigned bisection_steps(const struct bisection *bisection);

#endif
