/*
 * What a digest needs, and computing it: in time proportional to what differs from a point whose
 * digests are known.
 *
 *   1. the two trees are compared: files whose contents differ, directories with a line that
 *      differs, what is gone
 *   2. files are read and hashed (digest_files.c)
 *   3. directories are hashed from their entries' lines, each after those in it; what a directory
 *      lies in has another line in it, up to the root
 *
 * Without such a point, everything differs from an empty tree.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "index/util/array.h"
#include "snapshot/diff_internal.h"
#include "snapshot/digest_internal.h"
#include "snapshot/extent.h"

enum { DIRECTORIES_A_READER = 256 };

void digest_work_release(struct digest_work *work)
{
	reader_release(work->reader);
	tree_close(work->tree);
	tree_close(work->before);
	tree_close(work->kept);
	hasher_release(&work->lines);
	hasher_release(&work->xattrs);
	free(work->entries);
	u64map_release(&work->index);
	*work = (struct digest_work){0};
}

int digest_work_renew(struct digest_work *work)
{
	work->reader = reader_release(work->reader);
	return reader_acquire(repo_store(work->repo), &work->reader);
}

int digest_explain(struct repo *repo, uint64_t point, int error, struct errbuf *err)
{
	struct point found = {0};

	if (error != -EUCLEAN && error != -EBADMSG && error != -ESTALE)
		return error;
	int there = point_get(repo, point, &found);
	point_release(&found);
	return there == -ENOENT ? err_set(err, -ENOENT, "the point was deleted meanwhile") : error;
}

/* ---- entries ---- */

static struct digest_entry *find_entry(struct digest_work *work, uint64_t ino)
{
	uintptr_t known = (uintptr_t)u64map_get(&work->index, ino);

	return known ? &work->entries[known - 1] : NULL;
}

static int add_entry(struct digest_work *work, uint64_t ino, struct digest_entry **ret)
{
	struct digest_entry *grown =
		array_reserve(work->entries, work->count + 1, &work->capacity, sizeof(grown[0]));
	if (!grown)
		return -ENOMEM;
	work->entries = grown;
	int error = u64map_put(&work->index, ino, (void *)(uintptr_t)(work->count + 1));
	if (error)
		return error;
	*ret = &work->entries[work->count++];
	**ret = (struct digest_entry){.ino = ino};
	return 0;
}

int digest_known(struct digest_work *work, uint64_t ino, struct digest *ret)
{
	const struct tree_key key = {ino, ITEM_DIGEST, 0};
	const struct digest_entry *entry = find_entry(work, ino);
	struct tree_item item;

	if (entry && !entry->gone) {
		*ret = entry->digest;
		return 0;
	}
	int error = entry ? -ENOENT : tree_get(work->kept, work->reader, &key, &item);
	if (error)
		return error == -ENOENT ? -EUCLEAN : error;
	return digest_decode(&item, ret);
}

/* 1, 0, or an error. */
static int is_kept(struct digest_work *work, uint64_t ino)
{
	const struct tree_key key = {ino, ITEM_DIGEST, 0};
	struct tree_item item;
	int error = tree_get(work->kept, work->reader, &key, &item);

	return error ? error == -ENOENT ? 0 : error : 1;
}

/* ---- 1: what differs ---- */

static int need_directory(struct digest_work *work, uint64_t ino)
{
	struct digest_entry *entry = find_entry(work, ino);

	if (entry)
		return entry->directory ? 0 : -EUCLEAN;
	int error = add_entry(work, ino, &entry);
	if (!error)
		entry->directory = true;
	return error;
}

static int need_parent(uint64_t directory, const struct dirent_name *name, void *context)
{
	(void)name;
	return need_directory(context, directory);
}

static int need_removal(struct digest_work *work, uint64_t ino)
{
	struct digest_entry *entry;
	int kept = is_kept(work, ino);

	if (kept <= 0)
		return kept;
	int error = add_entry(work, ino, &entry);
	if (!error)
		entry->gone = true;
	return error;
}

static int need_file(struct digest_work *work, const struct inode_change *change,
		     const struct inode_attr *attr)
{
	struct digest_entry *entry;
	int kept = 0;

	/* A file that had no name before (an orphan) has no digest yet. */
	if (!change->contents && !change->resized && !change->one_sided)
		kept = is_kept(work, change->ino);
	if (kept)
		return kept < 0 ? kept : 0;
	int error = add_entry(work, change->ino, &entry);
	if (error)
		return error;
	entry->size = attr->size;
	work->bytes += attr->size;
	return 0;
}

static int need_inode(const struct inode_change *change, void *context)
{
	struct digest_work *work = context;
	struct inode_attr attr;
	int error = inode_get(work->tree, work->reader, change->ino, &attr);
	int kept = 0;

	/* The item of an inode that is gone, or the names that are left of one. */
	if (error == -ENOENT)
		return need_removal(work, change->ino);
	if (error)
		return error;
	if (attr.nlink == 0)
		return need_removal(work, change->ino);
	if (S_ISDIR(attr.mode)) {
		if (!change->entries && !change->one_sided)
			kept = is_kept(work, change->ino);
		if (kept < 0)
			return kept;
		error = kept ? 0 : need_directory(work, change->ino);
	} else if (digest_is_kept(attr.mode)) {
		error = need_file(work, change, &attr);
	}
	/* Who is new has a new name, so the directory's entries differ anyway. */
	if (!error && !change->one_sided)
		error = backref_iterate(work->tree, work->reader, change->ino, need_parent, work);
	return error;
}

/* The list grows on the way: each directory needs the one that it lies in. */
static int need_ancestors(struct digest_work *work)
{
	for (size_t i = 0; i < work->count; i++) {
		uint64_t parent;

		if (!work->entries[i].directory)
			continue;
		if (work->entries[i].ino == ROOT_INO) {
			work->entries[i].parent = i;
			continue;
		}
		int error = dirent_parent(work->tree, work->reader, work->entries[i].ino, &parent);
		if (!error)
			error = need_directory(work, parent);
		if (error)
			return error == -ENOENT ? -EUCLEAN : error;
		struct digest_entry *entry = find_entry(work, parent);
		work->entries[i].parent = (size_t)(entry - work->entries);
		entry->pending++;
	}
	return 0;
}

static int find_needs(struct digest_work *work)
{
	const struct diff_collector collector = {.inode = need_inode, .context = work};
	int error = diff_collect(work->before, work->tree, work->reader, &collector);

	return error ? error : need_ancestors(work);
}

/* ---- 3: directories ---- */

struct listing {
	struct digest_name_entry *entries; /* owned */
	size_t count, capacity;
};

void digest_entries_free(struct digest_name_entry *entries, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(entries[i].name);
	free(entries);
}

static int list_entry(const struct dirent_entry *found, void *context)
{
	struct listing *listing = context;
	char name[DIGEST_NAME_MAX];

	struct digest_name_entry *grown = array_reserve(listing->entries, listing->count + 1,
							&listing->capacity, sizeof(grown[0]));
	if (!grown)
		return -ENOMEM;
	listing->entries = grown;
	struct digest_name_entry *entry = &listing->entries[listing->count];
	entry->ino = found->target.ino;
	entry->length = digest_name(found->name.text, found->name.length, name);
	entry->name = strdup(name);
	if (!entry->name)
		return -ENOMEM;
	listing->count++;
	return 0;
}

static int name_compare(const void *a, const void *b)
{
	return strcmp(((const struct digest_name_entry *)a)->name,
		      ((const struct digest_name_entry *)b)->name);
}

int digest_directory_entries(struct tree *tree, struct reader *reader, uint64_t directory,
			     struct digest_name_entry **ret, size_t *ret_count)
{
	struct listing listing = {0};
	int error = dirent_iterate(tree, reader, directory, 0, list_entry, &listing);

	if (error) {
		digest_entries_free(listing.entries, listing.count);
		return error;
	}
	if (listing.count)
		qsort(listing.entries, listing.count, sizeof(listing.entries[0]), name_compare);
	*ret = listing.entries;
	*ret_count = listing.count;
	return 0;
}

static int add_line(struct digest_work *work, uint64_t ino, const char *name, size_t length)
{
	char fields[DIGEST_FIELDS_MAX], text[DIGEST_TEXT];
	struct inode_attr attr;
	struct digest digest;

	int error = inode_get(work->tree, work->reader, ino, &attr);
	if (error)
		return error == -ENOENT ? -EUCLEAN : error;
	error = digest_fields(work->tree, work->reader, ino, &attr, &work->xattrs, fields);
	if (!error && digest_is_kept(attr.mode)) {
		error = digest_known(work, ino, &digest);
		if (!error)
			digest_text(&digest, text);
	} else {
		digest_of_special(&attr, text);
	}
	if (!error)
		error = hasher_add(&work->lines, fields, strlen(fields));
	if (!error)
		error = hasher_add(&work->lines, text, strlen(text));
	if (!error)
		error = hasher_add(&work->lines, " ", 1);
	if (!error)
		error = hasher_add(&work->lines, name, length);
	return error ? error : hasher_add(&work->lines, "\n", 1);
}

static int hash_directory(struct digest_work *work, struct digest_entry *directory)
{
	struct digest_name_entry *entries;
	size_t count;
	int error = digest_directory_entries(work->tree, work->reader, directory->ino, &entries,
					     &count);
	if (error)
		return error;
	error = hasher_begin(&work->lines);
	for (size_t i = 0; !error && i < count; i++)
		error = add_line(work, entries[i].ino, entries[i].name, entries[i].length);
	if (!error)
		error = hasher_end(&work->lines, &directory->digest);
	digest_entries_free(entries, count);
	return error;
}

/* Goes from a directory up, as long as those above wait for nothing else. */
static int hash_upwards(struct digest_work *work, size_t at, size_t *left)
{
	for (;;) {
		struct digest_entry *entry = &work->entries[at];
		int error = 0;

		if (*left % DIRECTORIES_A_READER == 0)
			error = digest_work_renew(work);
		if (!error && work->progress && *left % DIRECTORIES_A_READER == 0 &&
		    work->progress("digest", work->bytes, work->bytes, work->context))
			error = -EINTR;
		if (!error)
			error = hash_directory(work, entry);
		if (error)
			return error;
		--*left;
		if (entry->parent == at || --work->entries[entry->parent].pending)
			return 0;
		at = entry->parent;
	}
}

static int hash_directories(struct digest_work *work)
{
	size_t left = 0;
	int error = 0;

	for (size_t i = 0; i < work->count; i++) {
		struct digest_entry *entry = &work->entries[i];

		left += entry->directory;
		entry->leaf = entry->directory && !entry->pending;
	}
	for (size_t i = 0; !error && i < work->count; i++)
		if (work->entries[i].leaf)
			error = hash_upwards(work, i, &left);
	/* Directories that lie in each other are never reached. */
	return error ? error : left ? -EUCLEAN : 0;
}

static int hash_root(struct digest_work *work)
{
	static const char version[] = "cairn digest 1\n";
	int error = hasher_begin(&work->lines);

	if (!error)
		error = hasher_add(&work->lines, version, sizeof(version) - 1);
	if (!error)
		error = add_line(work, ROOT_INO, ".", 1);
	return error ? error : hasher_end(&work->lines, &work->result);
}

/* ---- all of it ---- */

static int work_open(struct digest_work *work, const struct digest_job *job)
{
	struct store *store = repo_store(job->repo);
	int error = hasher_init(&work->lines);

	if (!error)
		error = hasher_init(&work->xattrs);
	if (!error)
		error = tree_open(store, job->root, 0, &work->tree);
	if (!error)
		error = tree_open(store, job->before_root, 0, &work->before);
	if (!error)
		error = tree_open(store, job->kept_root, 0, &work->kept);
	return error ? error : digest_work_renew(work);
}

int digest_work_run(struct digest_work *work, const struct digest_job *job, struct errbuf *err)
{
	*work = (struct digest_work){
		.repo = job->repo,
		.point = job->point,
		.progress = job->progress,
		.context = job->context,
		.err = err,
		.index = U64MAP_INIT,
	};
	int error = work_open(work, job);
	if (!error)
		error = find_needs(work);
	/* Reading files may take long; the workers have readers of their own. */
	work->reader = reader_release(work->reader);
	if (!error)
		error = digest_files(work);
	if (!error)
		error = digest_work_renew(work);
	if (!error)
		error = hash_directories(work);
	if (!error)
		error = hash_root(work);
	return digest_explain(job->repo, job->point, error, err);
}
