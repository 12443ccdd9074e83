#include <stdint.h>
#include <stdlib.h>

#include "index/util/array.h"

enum { FIRST_CAPACITY = 16 };

void *array_reserve(void *array, size_t wanted, size_t *capacity, size_t size)
{
	size_t more = *capacity ? *capacity : FIRST_CAPACITY;

	if (array && wanted <= *capacity)
		return array;
	while (more < wanted) {
		if (more > SIZE_MAX / 2)
			return NULL;
		more *= 2;
	}
	if (more > SIZE_MAX / size)
		return NULL;
	array = reallocarray(array, more, size);
	if (array)
		*capacity = more;
	return array;
}
