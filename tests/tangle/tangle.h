/*
 * tangle: several processes change one tree at the same time, and others look.
 *
 *   tangle.c    the command line, and who runs
 *   change.c    the operations, chosen at random; each may meet what another process has done
 *   watch.c     what must hold at every moment, whatever the neighbours do
 *
 * Everybody works below one directory, which is the current one:
 *
 *   mess/     whatever change.c makes of it
 *   steady/   ALWAYS files that are always there, among others that come and go
 *   swing/    "a" and "b": one file, renamed back and forth; "x" and "y", always exchanged
 *   replaced/ "target", always replaced by rename
 */
#ifndef CAIRN_TESTS_TANGLE_H
#define CAIRN_TESTS_TANGLE_H

#include <stdbool.h>
#include <stdint.h>

enum { ALWAYS = 40, REPLACED_SIZE = 6000 };

struct dice {
	uint64_t state;
};
uint32_t dice_roll(struct dice *dice, uint32_t sides); /* 0 … sides - 1 */

/* Set in the parent's shared memory: everybody stops soon. */
bool time_is_up(void);
/* Says what went wrong, with errno, and ends the process with code 1. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

void change_tree(struct dice *dice); /* one operation in mess/ */

void watched_make(void); /* what is there from the start */
/* Each runs until the time is up. */
void steady_neighbours(struct dice *dice);
void steady_watch(struct dice *dice);
void swing_move(struct dice *dice);
void swing_watch(struct dice *dice);
void replaced_move(struct dice *dice);
void replaced_watch(struct dice *dice);

#endif
