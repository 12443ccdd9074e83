#include "tools/bisect.h"

#include <errno.h>
#include <stdlib.h>

int bisection_begin(size_t count, struct bisection *ret)
{
	bool *skipped = calloc(count, sizeof(*skipped));

	if (!skipped)
		return -ENOMEM;
	*ret = (struct bisection){.good = 0, .bad = count - 1, .skipped = skipped};
	return 0;
}

void bisection_release(struct bisection *bisection)
{
	free(bisection->skipped);
	*bisection = (struct bisection){0};
}

/* The middle; after skips 1, 1, 2, 2, 4, 4, … to both sides of it, so that a long run of states
 * that cannot be judged is left after few steps. */
static size_t target(const struct bisection *b)
{
	size_t middle = b->good + (b->bad - b->good) / 2, offset;
	unsigned turn = b->in_a_row;

	if (turn == 0)
		return middle;
	offset = (size_t)1 << ((turn - 1) / 2 < 40 ? (turn - 1) / 2 : 40);
	if (turn % 2)
		return b->bad - middle > offset ? middle + offset : b->bad - 1;
	return middle - b->good > offset ? middle - offset : b->good + 1;
}

bool bisection_next(const struct bisection *b, size_t *ret)
{
	size_t middle = target(b);

	for (size_t away = 0; away < b->bad - b->good; away++) {
		if (middle + away < b->bad && middle + away > b->good &&
		    !b->skipped[middle + away]) {
			*ret = middle + away;
			return true;
		}
		if (middle > b->good + away && !b->skipped[middle - away]) {
			*ret = middle - away;
			return true;
		}
	}
	return false;
}

void bisection_note(struct bisection *b, size_t index, enum bisect_verdict verdict)
{
	b->in_a_row = verdict == BISECT_SKIP ? b->in_a_row + 1 : 0;
	if (verdict == BISECT_GOOD)
		b->good = index;
	else if (verdict == BISECT_BAD)
		b->bad = index;
	else
		b->skipped[index] = true;
}

size_t bisection_left(const struct bisection *b)
{
	size_t left = 0;

	for (size_t i = b->good + 1; i < b->bad; i++)
		left += !b->skipped[i];
	return left;
}

unsigned bisection_steps(const struct bisection *b)
{
	unsigned steps = 0;

	for (size_t left = bisection_left(b); left > 0; left /= 2)
		steps++;
	return steps;
}
