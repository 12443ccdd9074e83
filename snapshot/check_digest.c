/* Checking the tree of digests that a point may have: its nodes, and that there is nothing else
 * in it.  Whether the digests are right is the business of digest_verify(). */
#include <errno.h>
#include <string.h>

#include "snapshot/check_internal.h"
#include "snapshot/inode.h"
#include "snapshot/item.h"
#include "snapshot/point.h"

static int check_item(const struct tree_item *item, void *context)
{
	if (item->key.type != ITEM_DIGEST || item_check(item))
		check_report(context, "in its digests, the item of inode %llu does not decode",
			     (unsigned long long)item->key.ino);
	return 0;
}

/* Is the root's digest there? */
static int check_root(struct checker *checker, uint64_t root)
{
	const struct tree_key key = {ROOT_INO, ITEM_DIGEST, 0};
	struct tree_item item;
	struct tree *tree;
	int error = tree_open(checker->repo->store, root, 0, &tree);

	if (error)
		return error;
	error = tree_get(tree, checker->reader, &key, &item);
	tree_close(tree);
	return error;
}

int check_digests(struct checker *checker, const struct point_digest *digest)
{
	struct errbuf err = {""};

	if (!digest->known)
		return 0;
	if (!digest->root) {
		check_report(checker, "it has a digest but no tree of digests");
		return 0;
	}
	int error = tree_check(checker->repo->store, checker->reader, digest->root, &checker->nodes,
			       check_item, checker, &err);
	if (!error)
		error = check_root(checker, digest->root);
	if (error == -ENOENT || check_is_damage(error)) {
		check_report(checker, "its digests are damaged: %s",
			     *err.text		? err.text
			     : error == -ENOENT ? "that of the root is missing"
						: strerror(-error));
		return 0;
	}
	return error;
}
