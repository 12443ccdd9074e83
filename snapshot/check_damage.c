/* Which files of a tree lie in damaged chunks: asked only where there are any. */
#include <errno.h>
#include <stdlib.h>

#include "snapshot/check_internal.h"
#include "snapshot/item.h"
#include "snapshot/path.h"

struct hit {
	const struct idset *damaged;
	uint64_t chunk; /* the first one hit */
};

static int note_chunk(uint64_t chunk, void *context)
{
	struct hit *hit = context;
	if (!idset_has(hit->damaged, chunk))
		return 0;
	hit->chunk = chunk;
	return 1;
}

static int report_file(struct checker *checker, struct tree *tree, uint64_t ino, uint64_t chunk)
{
	char *path = NULL;
	int error = path_of_inode(tree, checker->reader, ino, &path);
	if (error == -ENOMEM)
		return error;
	if (error)
		check_report(checker,
			     "inode %llu (no path leads to it) needs chunk %llu, which is "
			     "damaged",
			     (unsigned long long)ino, (unsigned long long)chunk);
	else
		check_report(checker, "'%s' needs chunk %llu, which is damaged", path,
			     (unsigned long long)chunk);
	free(path);
	return 0;
}

/* Each file once, by the first of its damaged chunks. */
static int walk(struct checker *checker, struct tree *tree, const struct idset *damaged)
{
	const struct tree_key first = {0};
	struct tree_cursor cursor;
	struct tree_item item;
	uint64_t reported = 0;
	int error = tree_seek(tree, checker->reader, &first, &cursor, &item);
	for (; !error; error = tree_next(&cursor, &item)) {
		struct hit hit = {damaged, 0};
		uint64_t ino = item.key.ino;
		if (ino == reported || item_chunks(&item, note_chunk, &hit) != 1)
			continue;
		reported = ino;
		error = report_file(checker, tree, ino, hit.chunk);
		if (error)
			return error;
	}
	/* What does not read was reported by the structural check. */
	return error == -ENOENT || check_is_damage(error) ? 0 : error;
}

int check_damaged_files(struct checker *checker, uint64_t root, const struct idset *damaged)
{
	struct tree *tree;
	int error = tree_open(checker->repo->store, root, 0, &tree);
	if (error)
		return error;
	error = walk(checker, tree, damaged);
	tree_close(tree);
	return error;
}
