/*
 * Random work on a store, on several workspaces and points, with a second thread that syncs,
 * collects and moves chunks; all states that it goes through are kept, and the tape
 * (tests/power/tape.h) is marked:
 *
 *     begin N        state N may be on the disk from here on
 *     confirmed N    a call has returned that promised that state N will not be lost
 */
#ifndef CAIRN_TESTS_WORKLOAD_H
#define CAIRN_TESTS_WORKLOAD_H

#include <stdbool.h>
#include <stdint.h>

struct workload {
	char **states; /* owned; as look_at_repo() tells them */
	int count;
};

struct workload_options {
	uint64_t seed;
	int steps;
	bool helper; /* the second thread */
};

/* Makes a store in the empty directory `store`, works, and closes it.  The tape runs. */
void workload_run(const char *store, const struct workload_options *options, struct workload *ret);
void workload_release(struct workload *workload);

#endif
