/*
 * Which files were written here and there, so that their chunks lie scattered over the packs: to
 * be put in order when the daemon is at rest (snapshot/order.h, fs/rest.c).
 *
 * The head lock, exclusive, covers it.  A hint: what is forgotten is found again by looking at all
 * files, which store_is_scattered() asks for after a remount.
 */
#ifndef CAIRN_FS_SCATTERED_H
#define CAIRN_FS_SCATTERED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index/store.h"
#include "index/util/u64map.h"

enum {
	SCATTERED_MAX = 4096,	    /* files that are named; more of them, and all are looked at */
	SCATTERED_FILE = 1 << 20,   /* bytes; smaller files are read ahead in one go anyway */
	SCATTERED_WRITE = 64 << 10, /* bytes stored at a stretch; longer ones are no fragments */
};

struct scattered {
	struct u64map inos; /* the values mean nothing */
	bool many;	    /* and others */
};

void scattered_release(struct scattered *scattered);

/* `length` bytes at `offset` of a file of `size` were stored by themselves. */
void scattered_note(struct scattered *scattered, struct store *store, uint64_t ino, uint64_t offset,
		    uint64_t length, uint64_t size);

/* Takes some out of it. `ret_many`: all files are to be looked at; forgotten with that. */
size_t scattered_take(struct scattered *scattered, uint64_t *ret, size_t capacity, bool *ret_many);

#endif
