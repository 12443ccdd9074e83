/* In which parts the three sides of a carry differ. */
#include <errno.h>
#include <sys/stat.h>

#include "snapshot/carry_internal.h"

static int side_load(struct merge *merge, const struct side *side, struct diff_file *ret)
{
	ret->tree = side->tree;
	ret->ino = side->ino;
	return inode_get(side->tree, merge->reader, side->ino, &ret->attr);
}

static bool attributes_differ(const struct inode_attr *a, const struct inode_attr *b)
{
	return a->mode != b->mode || a->uid != b->uid || a->gid != b->gid || a->rdev != b->rdev;
}

static bool times_differ(const struct inode_attr *a, const struct inode_attr *b)
{
	return !S_ISDIR(a->mode) &&
	       (a->mtime.tv_sec != b->mtime.tv_sec || a->mtime.tv_nsec != b->mtime.tv_nsec);
}

int compare_sides(struct merge *merge, const struct side *left, const struct side *right,
		  unsigned *ret)
{
	struct diff_file a, b;
	int error = side_load(merge, left, &a);
	if (!error)
		error = side_load(merge, right, &b);
	if (error)
		return error;
	int contents = diff_contents(&a, &b, merge->reader, 0, UINT64_MAX);
	int xattrs = contents < 0 ? contents : diff_xattrs(&a, &b, merge->reader);
	if (xattrs < 0)
		return xattrs;
	*ret = (contents ? GRAFT_CONTENTS : 0u) | (xattrs ? GRAFT_XATTRS : 0u) |
	       (attributes_differ(&a.attr, &b.attr) ? GRAFT_ATTRIBUTES : 0u) |
	       (times_differ(&a.attr, &b.attr) ? TOUCHED : 0u);
	return 0;
}

struct side in_base(const struct merge *merge, const struct unit *unit)
{
	return (struct side){merge->base, unit->base};
}

struct side in_from(const struct merge *merge, const struct unit *unit)
{
	return (struct side){merge->from, unit->from};
}

struct side in_head(const struct merge *merge, uint64_t ino)
{
	return (struct side){merge->graft.to, ino};
}

int disputed_parts(struct merge *merge, const struct unit *unit, uint64_t ino, unsigned there,
		   unsigned here, unsigned *ret)
{
	unsigned differ;
	const struct side from = in_from(merge, unit), head = in_head(merge, ino);
	*ret = there & here & GRAFT_ALL;
	int error = *ret ? compare_sides(merge, &from, &head, &differ) : 0;
	if (!error && *ret)
		*ret &= differ;
	return error;
}

/* With several bases a side has changed what it has as none of them.  Where each has it as another
 * base, both have decided, and differently. */
static int weigh_others(struct merge *merge, const struct unit *unit, uint64_t ino, unsigned *there,
			unsigned *here)
{
	const struct side from = in_from(merge, unit), head = in_head(merge, ino);
	unsigned differ;
	for (size_t i = 0; i < merge->other_count; i++) {
		const struct side other = {merge->others[i], unit->base};
		int error = compare_sides(merge, &other, &from, &differ);
		if (error == -ENOENT)
			continue;
		*there &= differ;
		if (!error)
			error = compare_sides(merge, &other, &head, &differ);
		*here &= differ;
		if (error)
			return error;
	}
	int error = compare_sides(merge, &from, &head, &differ);
	differ &= ~*there & ~*here & GRAFT_ALL;
	*there |= error ? 0 : differ;
	*here |= error ? 0 : differ;
	return error;
}

int changed_parts(struct merge *merge, const struct unit *unit, uint64_t ino, unsigned *ret_there,
		  unsigned *ret_here)
{
	const struct side base = in_base(merge, unit), from = in_from(merge, unit),
			  head = in_head(merge, ino);
	if (!unit->base) {
		int error = compare_sides(merge, &from, &head, ret_there);
		*ret_here = *ret_there;
		return error;
	}
	int error = compare_sides(merge, &base, &from, ret_there);
	if (!error)
		error = compare_sides(merge, &base, &head, ret_here);
	return error || !merge->other_count ? error
					    : weigh_others(merge, unit, ino, ret_there, ret_here);
}
