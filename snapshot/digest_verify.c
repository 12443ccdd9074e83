/* Computing a digest from the data alone, and telling where it differs from the kept ones. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "snapshot/digest_internal.h"
#include "snapshot/path.h"

void digest_check_release(struct digest_check *check)
{
	free(check->path);
	*check = (struct digest_check){0};
}

static bool same(const struct digest *a, const struct digest *b)
{
	return memcmp(a->bytes, b->bytes, DIGEST_BYTES) == 0;
}

/* 1: the kept digest of the inode is not the one that was found; 0; or an error. */
static int differs(struct digest_work *work, struct tree *kept, uint64_t ino)
{
	const struct tree_key key = {ino, ITEM_DIGEST, 0};
	struct digest expected, found;
	struct inode_attr attr;
	struct tree_item item;

	int error = inode_get(work->tree, work->reader, ino, &attr);
	if (error || !digest_is_kept(attr.mode))
		return error;
	error = digest_known(work, ino, &found);
	if (error)
		return error;
	error = tree_get(kept, work->reader, &key, &item);
	if (!error)
		error = digest_decode(&item, &expected);
	if (error)
		return error == -ENOENT ? 1 : error;
	return !same(&expected, &found);
}

/* The first entry of the directory that differs; -ENOENT: none does. */
static int first_entry(struct digest_work *work, struct tree *kept, uint64_t directory,
		       uint64_t *ret)
{
	struct digest_name_entry *entries;
	size_t count;
	int found = 0;
	int error = digest_directory_entries(work->tree, work->reader, directory, &entries, &count);
	if (error)
		return error;
	for (size_t i = 0; found == 0 && i < count; i++) {
		found = differs(work, kept, entries[i].ino);
		if (found == 1)
			*ret = entries[i].ino;
	}
	digest_entries_free(entries, count);
	return found == 1 ? 0 : found < 0 ? found : -ENOENT;
}

/* Goes down from the root as long as an entry differs.  Where none does, it is the directory itself
 * whose names or attributes differ. */
static int first_path(struct digest_work *work, struct tree *kept, char **ret)
{
	struct inode_attr attr;
	uint64_t ino = ROOT_INO;
	int error = 0;

	while (!error) {
		error = inode_get(work->tree, work->reader, ino, &attr);
		if (!error && !S_ISDIR(attr.mode))
			break;
		if (!error)
			error = first_entry(work, kept, ino, &ino);
	}
	if (error && error != -ENOENT)
		return error;
	return path_of_inode(work->tree, work->reader, ino, ret);
}

/* Kept digests that cannot be read tell nothing. */
static int find_difference(struct digest_work *work, const struct point *point, char **ret)
{
	struct tree *kept;
	struct digest recorded;
	int error;

	memcpy(recorded.bytes, point->digest.bytes, DIGEST_BYTES);
	if (!point->digest.known || same(&recorded, &work->result))
		return 0;
	error = tree_open(repo_store(work->repo), point->digest.root, 0, &kept);
	if (error)
		return error;
	error = first_path(work, kept, ret);
	tree_close(kept);
	return error == -EUCLEAN || error == -EBADMSG ? 0 : error;
}

static int verify(struct repo *repo, const struct point *point, const struct digest *expected,
		  collect_progress *progress, void *context, struct digest_check *ret,
		  struct errbuf *err)
{
	const struct digest_job job = {
		.repo = repo,
		.point = point->id,
		.root = point->root,
		.progress = progress,
		.context = context,
	};
	struct digest_check check = {.expected = *expected};
	struct digest_work work = {0};
	int error = digest_work_run(&work, &job, err);

	if (!error) {
		check.found = work.result;
		check.equal = same(&check.found, &check.expected);
		if (!check.equal)
			error = find_difference(&work, point, &check.path);
	}
	digest_work_release(&work);
	if (!error)
		*ret = check;
	return error;
}

int digest_verify(struct repo *repo, uint64_t id, const struct digest *expected,
		  collect_progress *progress, void *context, struct digest_check *ret,
		  struct errbuf *err)
{
	struct digest recorded;
	struct point point;
	int error = point_get(repo, id, &point);

	if (error)
		return error == -ENOENT ? err_set(err, error, "the point is gone") : error;
	memcpy(recorded.bytes, point.digest.bytes, DIGEST_BYTES);
	if (!expected && !point.digest.known)
		error = err_set(err, -ENODATA, "point '%s' has no digest yet", point.name);
	else
		error = verify(repo, &point, expected ? expected : &recorded, progress, context,
			       ret, err);
	point_release(&point);
	return error;
}
