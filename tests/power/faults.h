/*
 * Faults: the Nth call of one kind fails, once or for good, wherever it comes from: cairn, LMDB or
 * the compressors.  tests/power/faults.c takes the place of the C library's calls in the program
 * that it is linked to.  Where a sanitizer has its own malloc, only those of cairn's own code can
 * fail.
 *
 * Only calls that are made between faults_arm() and faults_disarm() count, in any thread.
 */
#ifndef CAIRN_TESTS_FAULTS_H
#define CAIRN_TESTS_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

enum fault_kind {
	FAULT_MEMORY, /* malloc and its like: ENOMEM */
	FAULT_WRITE,
	FAULT_READ,
	FAULT_SYNC, /* fsync, fdatasync */
	FAULT_SIZE, /* ftruncate, fallocate */
	FAULT_OPEN, /* also mkdir */
	FAULT_NAME, /* rename, unlink */
	FAULT_MAP,  /* mmap */
	FAULT_KINDS,
};
extern const char *const fault_kind_names[FAULT_KINDS];

enum { FAULT_SHORT = 1 }; /* as `error`: half of it is written or read, which is no error */

struct faults {
	enum fault_kind kind;
	uint64_t at; /* 1: the first; 0: none */
	bool forever;
	int error; /* errno, or FAULT_SHORT */
};

void faults_set(const struct faults *faults);
void faults_arm(void);
void faults_disarm(void);
uint64_t faults_calls(void);	 /* of the kind, since faults_set() */
uint64_t faults_committed(void); /* how many have failed at all */

#endif
