/*
 * Putting files in order: chunks that follow each other in a file come to lie behind each other in
 * the packs, so that reading the file in sequence is a few large reads again (index/relocate.h
 * does the moving; no tree changes).  For files that were written here and there, as databases are.
 *
 * A stretch of a file is moved where it is scattered only, so that doing it again costs a look.
 * Chunks that several files share lie where the file that was put in order last has them.
 */
#ifndef CAIRN_SNAPSHOT_ORDER_H
#define CAIRN_SNAPSHOT_ORDER_H

#include <stdbool.h>
#include <stdint.h>

#include "index/relocate.h"
#include "snapshot/repo.h"

struct order_result {
	uint64_t files;	 /* looked at */
	uint64_t chunks; /* handed on to be moved */
};

/* Asked between stretches; true stops, which is no error. */
typedef bool order_stop(void *context);

/* One file of the head.  No lock held: the head is locked (shared) for a moment at a time.  What
 * is gathered in `relocation` afterwards is the caller's to flush.  A file that is gone is no
 * error. */
int order_file(struct head *head, uint64_t ino, struct relocation *relocation, order_stop *stop,
	       void *context, struct order_result *result);

/* All files of the head from `*position` (an inode number; 0: the first) on.  `*position` is where
 * to go on after a stop, and 0 at the end. */
int order_all(struct head *head, uint64_t *position, struct relocation *relocation,
	      order_stop *stop, void *context, struct order_result *result);

#endif
