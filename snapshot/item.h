/*
 * Items of any type, for those who walk whole trees (collect, check, send): does this item
 * decode, and which chunks does it refer to.
 */
#ifndef CAIRN_SNAPSHOT_ITEM_H
#define CAIRN_SNAPSHOT_ITEM_H

#include <stdint.h>

#include "snapshot/tree.h"

/* Every field is possible and names are in the item of their hash; -EUCLEAN. */
int item_check(const struct tree_item *item);

/* Calls `visit` with each chunk id in the item (EXTENT, XATTR).  Non-zero ends and is returned;
 * -EUCLEAN where an item of these types does not decode. */
int item_chunks(const struct tree_item *item, int (*visit)(uint64_t chunk, void *context),
		void *context);

#endif
