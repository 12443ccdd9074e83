#include "index/util/array.h"
#include "snapshot/roots_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "snapshot/point_internal.h"
#include "snapshot/workspace_internal.h"

struct root_list {
	struct root *roots; /* owned */
	size_t count, capacity;
};

static int add(struct root_list *list, const struct root *root)
{
	struct root *roots =
		array_reserve(list->roots, list->count + 1, &list->capacity, sizeof(roots[0]));
	if (!roots)
		return -ENOMEM;
	list->roots = roots;
	list->roots[list->count++] = *root;
	return 0;
}

static int add_point(struct bytes key, struct bytes value, void *context)
{
	struct point point = {0};
	uint64_t id;
	const struct point_fixed *fixed;
	int error = point_peek(key, value, &id, &fixed);
	if (!error)
		error = point_decode(id, value, &point);
	if (error)
		return error;
	const struct root root = {
		.point = id,
		.root = point.root,
		.digest = point.digest.known ? point.digest.root : 0,
	};
	point_release(&point);
	return add(context, &root);
}

static int add_heads(struct reader *reader, struct root_list *list)
{
	struct workspace *workspaces = NULL;
	size_t count = 0;
	int error = workspaces_read(reader, &workspaces, &count);
	for (size_t i = 0; !error && i < count; i++)
		error = add(list, &(struct root){.root = workspaces[i].root});
	workspaces_free(workspaces, count);
	return error;
}

int roots_read(struct reader *reader, struct root **ret, size_t *ret_count)
{
	struct root_list list = {0};
	int error = add_heads(reader, &list);
	if (!error)
		error = reader_records(reader, TABLE_POINTS, (struct bytes){NULL, 0}, add_point,
				       &list);
	if (error) {
		free(list.roots);
		return error;
	}
	*ret = list.roots;
	*ret_count = list.count;
	return 0;
}
