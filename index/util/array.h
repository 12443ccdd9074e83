/*
 * Arrays that grow.
 *
 * The owner keeps pointer, count and capacity; this makes room.  Capacity doubles, so that n
 * additions cost O(n).  Not locked.
 */
#ifndef CAIRN_INDEX_UTIL_ARRAY_H
#define CAIRN_INDEX_UTIL_ARRAY_H

#include <stddef.h>

/*
 * The array with room for `wanted` elements of `size` bytes, perhaps at another place; `*capacity`
 * is changed with it.  NULL without memory; array and capacity are then as before.
 *
 *     struct root *roots = array_reserve(list->roots, list->count + 1, &list->capacity,
 *                                        sizeof(roots[0]));
 *     if (!roots)
 *             return -ENOMEM;
 *     list->roots = roots;
 */
void *array_reserve(void *array, size_t wanted, size_t *capacity, size_t size);

#endif
