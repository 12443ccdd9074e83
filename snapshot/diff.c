/*
 * What changed, as paths.
 *
 *   collect    one walk over both trees: inodes that differ, names that come and go
 *   classify   each inode with its names becomes entries; paths are built from the directories'
 *              paths, each of which is looked up once
 *   fuse       a file that was replaced under its name (written anew and renamed over, as editors
 *              do) is two inodes, but one modified file to people: '-' and '+' of one path and one
 *              type become 'M' or 'm', or nothing where they are alike
 *
 * Memory: what changed.  Names are borrowed from the nodes; paths live in an arena.
 */
#include "snapshot/diff.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "index/util/array.h"
#include "index/util/u64map.h"
#include "snapshot/diff_internal.h"

enum {
	ARENA_BLOCK = 64 * 1024,
	DEPTH_MAX = 1 << 20, /* of directories; only a loop gets there */
};

struct arena_block {
	struct arena_block *next;
	size_t used, size;
	char bytes[];
};

struct side {
	struct tree *tree;
	struct u64map paths; /* directory -> its path, in the arena */
};

/* A directory on the way up. */
struct step {
	uint64_t ino;
	struct backref_name name;
};

struct diff {
	struct side old_side, new_side;
	struct reader *reader;
	struct arena_block *arena;
	struct inode_change *inodes; /* by ino */
	size_t inode_count, inode_capacity;
	struct name_change *names; /* by ino, lost before gained */
	size_t name_count, name_capacity;
	struct diff_entry *entries;
	size_t entry_count, entry_capacity;
	struct step *steps; /* reused */
	size_t step_capacity;
};

/* One inode on its way to entries. */
struct subject {
	struct diff_file old_file, new_file;
	bool in_old, in_new;
	const struct inode_change *change; /* NULL: only names changed */
	const struct name_change *lost, *gained;
	size_t lost_count, gained_count;
};

static void diff_release(struct diff *diff)
{
	while (diff->arena) {
		struct arena_block *block = diff->arena;

		diff->arena = block->next;
		free(block);
	}
	u64map_release(&diff->old_side.paths);
	u64map_release(&diff->new_side.paths);
	free(diff->inodes);
	free(diff->names);
	free(diff->entries);
	free(diff->steps);
}

static char *arena_alloc(struct diff *diff, size_t size)
{
	struct arena_block *block = diff->arena;
	char *bytes;

	if (!block || block->size - block->used < size) {
		size_t room = size > ARENA_BLOCK ? size : ARENA_BLOCK;

		block = malloc(sizeof(*block) + room);
		if (!block)
			return NULL;
		block->next = diff->arena;
		block->used = 0;
		block->size = room;
		diff->arena = block;
	}
	bytes = block->bytes + block->used;
	block->used += size;
	return bytes;
}

static int collect_inode(const struct inode_change *change, void *context)
{
	struct diff *diff = context;
	struct inode_change *inodes = array_reserve(diff->inodes, diff->inode_count + 1,
						    &diff->inode_capacity, sizeof(inodes[0]));

	if (!inodes)
		return -ENOMEM;
	diff->inodes = inodes;
	inodes[diff->inode_count++] = *change;
	return 0;
}

static int collect_name(const struct name_change *change, void *context)
{
	struct diff *diff = context;
	struct name_change *names = array_reserve(diff->names, diff->name_count + 1,
						  &diff->name_capacity, sizeof(names[0]));

	if (!names)
		return -ENOMEM;
	diff->names = names;
	names[diff->name_count++] = *change;
	return 0;
}

static int compare_u64(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

static int compare_names(const void *left, const void *right)
{
	const struct name_change *a = left;
	const struct name_change *b = right;
	int order = compare_u64(a->ino, b->ino);

	if (!order)
		order = compare_u64(a->gained, b->gained);
	if (!order)
		order = compare_u64(a->directory, b->directory);
	if (!order)
		order = memcmp(a->name, b->name, a->length < b->length ? a->length : b->length);
	return order ? order : compare_u64(a->length, b->length);
}

static char *join(struct diff *diff, const char *directory, const char *name, size_t length)
{
	size_t start = strlen(directory);
	char *path = arena_alloc(diff, start + 1 + length + 1);

	if (!path)
		return NULL;
	memcpy(path, directory, start);
	if (start > 0)
		path[start++] = '/';
	memcpy(path + start, name, length);
	path[start + length] = '\0';
	return path;
}

/* Collects the directories from `ino` up to one whose path is known, and returns that path. */
static int climb(struct diff *diff, struct side *side, uint64_t ino, size_t *ret_count,
		 const char **ret_path)
{
	size_t count = 0;

	for (;;) {
		const char *known = ino == ROOT_INO ? "" : u64map_get(&side->paths, ino);
		struct step *steps;
		int error;

		if (known) {
			*ret_path = known;
			*ret_count = count;
			return 0;
		}
		if (count == DEPTH_MAX)
			return -EUCLEAN;
		steps = array_reserve(diff->steps, count + 1, &diff->step_capacity,
				      sizeof(steps[0]));
		if (!steps)
			return -ENOMEM;
		diff->steps = steps;
		steps[count].ino = ino;
		error = backref_first(side->tree, diff->reader, ino, &steps[count].name);
		if (error)
			return error == -ENOENT ? -EUCLEAN : error;
		ino = steps[count++].name.directory;
	}
}

static int directory_path(struct diff *diff, struct side *side, uint64_t ino, const char **ret)
{
	const char *path;
	size_t count;
	int error = climb(diff, side, ino, &count, &path);

	while (!error && count-- > 0) {
		const struct step *step = &diff->steps[count];
		char *longer = join(diff, path, step->name.text, step->name.length);

		if (!longer)
			return -ENOMEM;
		error = u64map_put(&side->paths, step->ino, longer);
		path = longer;
	}
	if (!error)
		*ret = path;
	return error;
}

static int name_path(struct diff *diff, struct side *side, uint64_t directory, const char *name,
		     size_t length, const char **ret)
{
	const char *parent;
	int error = directory_path(diff, side, directory, &parent);

	if (error)
		return error;
	*ret = join(diff, parent, name, length);
	return *ret ? 0 : -ENOMEM;
}

static int lost_path(struct diff *diff, const struct name_change *change, const char **ret)
{
	return name_path(diff, &diff->old_side, change->directory, change->name, change->length,
			 ret);
}

static int gained_path(struct diff *diff, const struct name_change *change, const char **ret)
{
	return name_path(diff, &diff->new_side, change->directory, change->name, change->length,
			 ret);
}

static int add_entry(struct diff *diff, const struct subject *subject, enum diff_op op,
		     const char *path, const char *old_path, int contents)
{
	const struct diff_file *file = subject->in_new ? &subject->new_file : &subject->old_file;
	struct diff_entry *entries = array_reserve(diff->entries, diff->entry_count + 1,
						   &diff->entry_capacity, sizeof(entries[0]));

	if (!entries)
		return -ENOMEM;
	diff->entries = entries;
	entries[diff->entry_count++] = (struct diff_entry){
		.op = op,
		.path = path,
		.old_path = old_path,
		.ino = file->ino,
		.mode = file->attr.mode,
		.old_size = subject->in_old ? subject->old_file.attr.size : 0,
		.new_size = subject->in_new ? subject->new_file.attr.size : 0,
		.contents = contents,
	};
	return 0;
}

/* Fills in one side's attributes; false where the inode is not there. */
static int load_file(struct diff *diff, struct side *side, uint64_t ino, struct diff_file *file,
		     bool *ret_there)
{
	int error = inode_get(side->tree, diff->reader, ino, &file->attr);

	if (error && error != -ENOENT)
		return error;
	file->tree = side->tree;
	file->ino = ino;
	*ret_there = !error;
	return 0;
}

/* What people see in `ls -l`; of a directory not its times: those tell of its entries. */
static bool attributes_differ(const struct inode_attr *a, const struct inode_attr *b)
{
	if (a->mode != b->mode || a->uid != b->uid || a->gid != b->gid || a->rdev != b->rdev)
		return true;
	return !S_ISDIR(b->mode) &&
	       (a->mtime.tv_sec != b->mtime.tv_sec || a->mtime.tv_nsec != b->mtime.tv_nsec);
}

/* Of an inode that is on both sides: DIFF_MODIFIED, DIFF_ATTRIBUTES, 0, or an error. */
static int compare_subject(struct diff *diff, const struct subject *subject)
{
	const struct inode_change *change = subject->change;
	const struct diff_file *old_file = &subject->old_file;
	const struct diff_file *new_file = &subject->new_file;
	int differ = 0;

	if (!change)
		return 0;
	if (change->contents || change->resized)
		differ = diff_contents(old_file, new_file, diff->reader, change->from, change->to);
	if (differ)
		return differ < 0 ? differ : DIFF_MODIFIED;
	if (change->xattrs ||
	    (change->attributes && attributes_differ(&old_file->attr, &new_file->attr)))
		return DIFF_ATTRIBUTES;
	return 0;
}

/* Looks for a name that is not one of those gained. */
struct kept_name {
	const struct subject *subject;
	struct backref_name name;
};

static int visit_name(uint64_t directory, const struct dirent_name *name, void *context)
{
	struct kept_name *kept = context;
	const struct subject *subject = kept->subject;

	for (size_t i = 0; i < subject->gained_count; i++) {
		const struct name_change *gained = &subject->gained[i];

		if (gained->directory == directory && gained->length == name->length &&
		    memcmp(gained->name, name->text, name->length) == 0)
			return 0;
	}
	kept->name.directory = directory;
	kept->name.length = name->length;
	memcpy(kept->name.text, name->text, name->length);
	return 1;
}

/* An entry for an inode under a name that stayed.  Where none did, '+' and '-' say it all. */
static int add_changed(struct diff *diff, const struct subject *subject, enum diff_op op)
{
	struct kept_name kept = {.subject = subject};
	const char *path;
	int result;

	if (subject->new_file.ino == ROOT_INO)
		return add_entry(diff, subject, op, ".", NULL, op == DIFF_MODIFIED);
	result = backref_iterate(diff->new_side.tree, diff->reader, subject->new_file.ino,
				 visit_name, &kept);
	if (result <= 0)
		return result;
	result = name_path(diff, &diff->new_side, kept.name.directory, kept.name.text,
			   kept.name.length, &path);
	return result ? result : add_entry(diff, subject, op, path, NULL, op == DIFF_MODIFIED);
}

static int add_renamed(struct diff *diff, const struct subject *subject, int contents)
{
	const char *path, *old_path;
	int error = gained_path(diff, subject->gained, &path);

	if (!error)
		error = lost_path(diff, subject->lost, &old_path);
	if (!error)
		error = add_entry(diff, subject, DIFF_RENAMED, path, old_path, contents);
	return error;
}

static int classify(struct diff *diff, const struct subject *subject)
{
	const char *path;
	int error = 0;
	int op = 0;

	if ((subject->lost_count && !subject->in_old) ||
	    (subject->gained_count && !subject->in_new))
		return -EUCLEAN;
	if (subject->in_old && subject->in_new)
		op = compare_subject(diff, subject);
	if (op < 0)
		return op;
	if (subject->lost_count == 1 && subject->gained_count == 1)
		return add_renamed(diff, subject, op == DIFF_MODIFIED);
	for (size_t i = 0; !error && i < subject->lost_count; i++) {
		error = lost_path(diff, &subject->lost[i], &path);
		if (!error)
			error = add_entry(diff, subject, DIFF_REMOVED, path, NULL, 0);
	}
	for (size_t i = 0; !error && i < subject->gained_count; i++) {
		error = gained_path(diff, &subject->gained[i], &path);
		if (!error)
			error = add_entry(diff, subject, DIFF_ADDED, path, NULL, 0);
	}
	return error || !op ? error : add_changed(diff, subject, (enum diff_op)op);
}

/* Puts inodes and names, both in order of ino, together. */
static int classify_all(struct diff *diff)
{
	size_t inode = 0;
	size_t name = 0;
	int error = 0;

	while (!error && (inode < diff->inode_count || name < diff->name_count)) {
		struct subject subject = {0};
		uint64_t ino = UINT64_MAX;

		if (inode < diff->inode_count)
			ino = diff->inodes[inode].ino;
		if (name < diff->name_count && diff->names[name].ino < ino)
			ino = diff->names[name].ino;
		if (inode < diff->inode_count && diff->inodes[inode].ino == ino)
			subject.change = &diff->inodes[inode++];
		if (diff->names)
			subject.lost = diff->names + name;
		for (; name < diff->name_count && diff->names[name].ino == ino; name++) {
			if (!diff->names[name].gained)
				subject.lost_count++;
			else
				subject.gained_count++;
		}
		if (diff->names)
			subject.gained = subject.lost + subject.lost_count;
		error = load_file(diff, &diff->old_side, ino, &subject.old_file, &subject.in_old);
		if (!error)
			error = load_file(diff, &diff->new_side, ino, &subject.new_file,
					  &subject.in_new);
		if (!error)
			error = classify(diff, &subject);
	}
	return error;
}

static int compare_entries(const void *left, const void *right)
{
	const struct diff_entry *a = left;
	const struct diff_entry *b = right;
	int order = strcmp(a->path, b->path);

	if (order)
		return order;
	/* One path can be lost by one inode and taken by another: the loss comes first. */
	return (a->op != DIFF_REMOVED) - (b->op != DIFF_REMOVED);
}

/* Two inodes, one after the other under one path: DIFF_MODIFIED, DIFF_ATTRIBUTES, 0, or error. */
static int compare_replaced(struct diff *diff, const struct diff_entry *removed,
			    const struct diff_entry *added)
{
	struct diff_file old_file, new_file;
	bool there;
	int differ = load_file(diff, &diff->old_side, removed->ino, &old_file, &there);

	if (!differ)
		differ = load_file(diff, &diff->new_side, added->ino, &new_file, &there);
	if (!differ)
		differ = diff_contents(&old_file, &new_file, diff->reader, 0, UINT64_MAX);
	if (differ)
		return differ < 0 ? differ : DIFF_MODIFIED;
	if (attributes_differ(&old_file.attr, &new_file.attr))
		return DIFF_ATTRIBUTES;
	differ = diff_xattrs(&old_file, &new_file, diff->reader);
	return differ > 0 ? DIFF_ATTRIBUTES : differ;
}

static bool is_replacement(const struct diff_entry *removed, const struct diff_entry *added)
{
	return removed->op == DIFF_REMOVED && added->op == DIFF_ADDED &&
	       (removed->mode & S_IFMT) == (added->mode & S_IFMT) &&
	       strcmp(removed->path, added->path) == 0;
}

static int fuse(struct diff *diff)
{
	struct diff_entry *entries = diff->entries;
	size_t kept = 0;

	for (size_t i = 0; i < diff->entry_count; i++) {
		int op;

		if (i + 1 == diff->entry_count || !is_replacement(&entries[i], &entries[i + 1])) {
			entries[kept++] = entries[i];
			continue;
		}
		op = compare_replaced(diff, &entries[i], &entries[i + 1]);
		if (op < 0)
			return op;
		i++;
		if (op == 0)
			continue;
		entries[i].op = (enum diff_op)op;
		entries[i].old_size = entries[i - 1].old_size;
		entries[i].contents = op == DIFF_MODIFIED;
		entries[kept++] = entries[i];
	}
	diff->entry_count = kept;
	return 0;
}

static int diff_make(struct diff *diff)
{
	const struct diff_collector collector = {
		.inode = collect_inode, .name = collect_name, .context = diff};
	int error =
		diff_collect(diff->old_side.tree, diff->new_side.tree, diff->reader, &collector);

	if (error)
		return error;
	if (diff->name_count > 0)
		qsort(diff->names, diff->name_count, sizeof(*diff->names), compare_names);
	error = classify_all(diff);
	if (error)
		return error;
	if (diff->entry_count > 0)
		qsort(diff->entries, diff->entry_count, sizeof(*diff->entries), compare_entries);
	return fuse(diff);
}

int diff_trees(struct tree *old_tree, struct tree *new_tree, struct reader *reader,
	       int (*visit)(const struct diff_entry *entry, void *context), void *context,
	       struct errbuf *err)
{
	struct diff diff = {
		.old_side = {.tree = old_tree}, .new_side = {.tree = new_tree}, .reader = reader};
	int result = diff_make(&diff);

	if (result == -EUCLEAN || result == -EBADMSG)
		err_set(err, result,
			"the two states cannot be compared: one of them is damaged (cairn check "
			"says where)");
	for (size_t i = 0; !result && i < diff.entry_count; i++)
		result = visit(&diff.entries[i], context);
	diff_release(&diff);
	return result;
}

static int count_entry(const struct diff_entry *entry, void *context)
{
	struct diff_summary *summary = context;

	if (entry->op == DIFF_ADDED)
		summary->added++;
	else if (entry->op == DIFF_REMOVED)
		summary->removed++;
	else
		summary->modified++;
	return 0;
}

int diff_summarize(struct tree *old_tree, struct tree *new_tree, struct reader *reader,
		   struct diff_summary *ret)
{
	struct diff_summary summary = {0};
	int error = diff_trees(old_tree, new_tree, reader, count_entry, &summary, NULL);

	if (!error)
		*ret = summary;
	return error;
}
