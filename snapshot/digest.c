/*
 * The digest of a point: found, computed and recorded.
 *
 * The tree of digests is changed after everything was computed, and put into the commit that
 * records it.  Its new nodes have no root until then, so no collection may begin meanwhile
 * (repo->making); the tree that it starts from must still be referred to in the commit, or the work
 * begins anew, from nothing.
 */
#include "snapshot/digest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/digest_internal.h"
#include "snapshot/point_internal.h"

/* ---- where to start ---- */

struct start {
	uint64_t point; /* 0: from nothing */
	uint64_t root, kept_root;
};

static bool take_start(const struct point *point, struct start *ret)
{
	if (!point->digest.known || !point->digest.root)
		return false;
	*ret = (struct start){point->id, point->root, point->digest.root};
	return true;
}

/* Of any point the difference can be told; the nearest has the smallest. */
static int find_nearest(struct repo *repo, const struct point *point, struct start *ret)
{
	struct point *points;
	size_t count;
	int error = point_list(repo, point->workspace, &points, &count);
	if (error)
		return error;
	uint64_t best = UINT64_MAX;
	for (size_t i = 0; i < count; i++) {
		uint64_t id = points[i].id;
		uint64_t distance = id > point->id ? id - point->id : point->id - id;
		if (id != point->id && distance < best && take_start(&points[i], ret))
			best = distance;
	}
	points_free(points, count);
	return 0;
}

/* The nearest ancestor with digests, else the nearest point of the workspace that has. */
static int find_start(struct repo *repo, const struct point *point, struct start *ret)
{
	uint64_t id = point->parent;

	*ret = (struct start){0};
	while (id) {
		struct point ancestor;
		int error = point_get(repo, id, &ancestor);
		if (error == -ENOENT)
			break;
		if (error)
			return error;
		bool found = take_start(&ancestor, ret);
		/* Parents are older: a damaged record must not lead round in circles. */
		id = ancestor.parent < id ? ancestor.parent : 0;
		point_release(&ancestor);
		if (found)
			return 0;
	}
	return find_nearest(repo, point, ret);
}

/* ---- recording ---- */

struct recording {
	struct repo *repo;
	struct digest_work *work;
	struct start start;
	struct tree *tree; /* owned */
	bool collected;
	char text[DIGEST_TEXT];
	struct point_pair detail; /* for the journal */
};

static int entry_compare(const void *a, const void *b)
{
	uint64_t left = ((const struct digest_entry *)a)->ino;
	uint64_t right = ((const struct digest_entry *)b)->ino;
	return left < right ? -1 : left > right;
}

static int put_entries(struct recording *recording, struct reader *reader)
{
	const struct digest_work *work = recording->work;
	int error = 0;
	for (size_t i = 0; !error && i < work->count; i++) {
		const struct digest_entry *entry = &work->entries[i];
		const struct tree_key key = {entry->ino, ITEM_DIGEST, 0};
		if (entry->gone)
			error = tree_delete(recording->tree, reader, &key);
		else
			error = tree_put(recording->tree, reader, &key, entry->digest.bytes,
					 DIGEST_BYTES);
	}
	return error == -ENOENT ? -EUCLEAN : error;
}

/* Outside of the commit: with a million files it takes a third of a second. */
static int build_tree(struct recording *recording)
{
	struct store *store = repo_store(recording->repo);
	struct reader *reader;
	int error = tree_open(store, recording->start.kept_root,
			      store_next(store, COUNTER_GENERATION), &recording->tree);
	if (!error)
		error = reader_acquire(store, &reader);
	if (error)
		return error;
	error = put_entries(recording, reader);
	reader_release(reader);
	return error;
}

/* Once more where the commit before was dropped for lack of space. */
static int collect_tree(struct recording *recording, struct commit *commit)
{
	if (recording->collected)
		tree_committed(recording->tree, false);
	recording->collected = true;
	return tree_collect(recording->tree, commit);
}

/* Are the digests that we started from still there?  -ESTALE: no. */
static int check_start(const struct recording *recording, struct commit *commit)
{
	struct point point;
	struct start start;
	if (!recording->start.point)
		return 0;
	int error = point_read_in_commit(commit, recording->start.point, &point);
	if (error)
		return error == -ENOENT ? -ESTALE : error;
	if (!take_start(&point, &start) || start.kept_root != recording->start.kept_root)
		error = -ESTALE;
	point_release(&point);
	return error;
}

static int apply_digest(struct commit *commit, struct point *point, struct journal_note *note,
			void *context, struct errbuf *err)
{
	struct recording *recording = context;
	const struct digest *result = &recording->work->result;
	if (point->digest.known && memcmp(point->digest.bytes, result->bytes, DIGEST_BYTES) != 0)
		return err_set(err, -EEXIST, "point '%s' has another digest already", point->name);
	if (point->digest.known)
		return 0;
	int error = check_start(recording, commit);
	if (!error)
		error = collect_tree(recording, commit);
	if (error)
		return error;
	digest_text(result, recording->text);
	recording->detail = (struct point_pair){(char *)"sha256", recording->text};
	note->details = &recording->detail;
	note->detail_count = 1;
	point->digest.known = true;
	point->digest.root = tree_root(recording->tree);
	memcpy(point->digest.bytes, result->bytes, DIGEST_BYTES);
	return 1;
}

static int record(struct repo *repo, uint64_t point, struct digest_work *work,
		  const struct start *start, const char *by, struct errbuf *err)
{
	struct recording recording = {.repo = repo, .work = work, .start = *start};
	const struct point_change change = {JOURNAL_DIGEST, by, apply_digest, &recording};
	if (work->count)
		qsort(work->entries, work->count, sizeof(work->entries[0]), entry_compare);
	/* No collection begins between the making of nodes and the commit that refers to them. */
	pthread_rwlock_rdlock(&repo->making);
	int error = build_tree(&recording);
	if (!error)
		error = point_change(repo, point, &change, err);
	pthread_rwlock_unlock(&repo->making);
	/* In the index by now, or forgotten: the tree is read through its root from here on. */
	tree_close(recording.tree);
	return error;
}

/* ---- the digest of a point ---- */

struct request {
	struct repo *repo;
	const char *by;
	collect_progress *progress;
	void *context;
};

static int compute(const struct request *request, const struct point *point,
		   const struct start *start, struct digest *ret, struct errbuf *err)
{
	const struct digest_job job = {
		.repo = request->repo,
		.point = point->id,
		.root = point->root,
		.before_root = start->root,
		.kept_root = start->kept_root,
		.progress = request->progress,
		.context = request->context,
	};
	struct digest_work work = {0};
	int error = digest_work_run(&work, &job, err);
	/* The commit must not wait for pages that our reader holds. */
	work.reader = reader_release(work.reader);
	if (!error && !store_is_read_only(repo_store(request->repo)))
		error = record(request->repo, point->id, &work, start, request->by, err);
	if (!error)
		*ret = work.result;
	digest_work_release(&work);
	return error;
}

/* Kept digests that are damaged, or went with their point meanwhile, are done without. */
static int compute_anyhow(const struct request *request, const struct point *point,
			  struct digest *ret, struct errbuf *err)
{
	const struct start nothing = {0};
	struct errbuf message = {""};
	struct start start;
	int error = find_start(request->repo, point, &start);
	if (error)
		return error;
	error = compute(request, point, &start, ret, &message);
	if (start.point && (error == -EUCLEAN || error == -EBADMSG || error == -ESTALE)) {
		message.text[0] = '\0';
		error = compute(request, point, &nothing, ret, &message);
	}
	if (error && *message.text)
		err_set(err, error, "%s", message.text);
	return error;
}

int digest_of_point(struct repo *repo, uint64_t id, const char *by, collect_progress *progress,
		    void *context, struct digest *ret, bool *ret_recorded, struct errbuf *err)
{
	const struct request request = {repo, by, progress, context};
	struct point point;
	struct digest digest;
	int error = point_get(repo, id, &point);
	if (error)
		return error == -ENOENT ? err_set(err, error, "the point is gone") : error;
	bool known = point.digest.known;
	if (known)
		memcpy(digest.bytes, point.digest.bytes, DIGEST_BYTES);
	else
		error = compute_anyhow(&request, &point, &digest, err);
	point_release(&point);
	if (error)
		return error;
	*ret = digest;
	*ret_recorded = known || !store_is_read_only(repo_store(repo));
	return 0;
}
