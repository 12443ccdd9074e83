/*
 * The work that tests/power/test_faults.c does with faults: from making a store to opening it after
 * a crash, nearly everything that can be done to one.  A step calls what may fail with faults, the
 * rest without; where it fails it leaves what is seen of the store as it was, and can be tried
 * again.
 */
#ifndef CAIRN_TESTS_FAULT_STEPS_H
#define CAIRN_TESTS_FAULT_STEPS_H

#include "faults.h"
#include "snapshot/repo.h"

struct run {
	char base[128], store[160];
	struct repo *repo;
	struct head *head, *second; /* "main", "second" */
	struct reader *reader;
	bool exists; /* the store is made */
	const struct faults *faults;
};

struct fault_step {
	const char *name;
	int (*act)(struct run *run); /* 0, or the negative errno of the call that failed */
	bool confirms;		     /* all up to here, when it returns 0 */
	bool quiet;		     /* changes nothing that can be seen */
};
extern const struct fault_step fault_steps[];
extern const int fault_step_count;

/* Whether the error is one that these faults may lead to. */
bool fault_is_plain(const struct faults *faults, int error);

#endif
