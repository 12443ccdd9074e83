/* Rename: plain, without replacing, exchanging, and leaving a whiteout. */
#include <errno.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/ops_name_internal.h"

struct place {
	uint64_t ino; /* of the directory */
	struct inode *directory;
	const char *name;
	size_t length;
	struct dirent_target target;
	struct inode *inode; /* what lies there, NULL: nothing */
};

/* `change->reader` sees one directory after the other: both are hot afterwards. */
static int place_load(struct change *change, struct place *place)
{
	int error = change_load(change, place->ino, &place->directory);
	if (error) /* -ENOENT is about the name alone */
		return error == -ENOENT ? -ESTALE : error;
	if (!place->directory->attr.nlink)
		return -ENOENT;
	place->inode = NULL;
	error = dirent_lookup(change->tree, change->reader, place->ino, place->name, place->length,
			      &place->target);
	return error ? error : change_load(change, place->target.ino, &place->inode);
}

static int place_put(struct change *change, const struct place *place,
		     const struct dirent_target *target)
{
	return dirent_replace(change->tree, change->reader, place->ino, place->name, place->length,
			      target);
}

static bool is_directory(const struct inode *inode)
{
	return S_ISDIR(inode->attr.mode);
}

/* After success: times and link counts. */
static void settle(struct change *change, struct place *from, struct place *to, int from_links,
		   int to_links)
{
	change_touch_directory(change, from->directory, from_links);
	change_touch_directory(change, to->directory, to_links);
	from->inode->attr.ctime = change->now;
	inode_mark_attr_dirty(from->inode);
}

static int exchange(struct change *change, struct place *from, struct place *to)
{
	int links = 0;

	if (from->ino != to->ino)
		links = (int)is_directory(to->inode) - (int)is_directory(from->inode);
	int error = place_put(change, from, &to->target);
	if (error)
		return error;
	error = place_put(change, to, &from->target);
	if (error) {
		(void)place_put(change, from, &from->target);
		return error;
	}
	settle(change, from, to, links, -links);
	to->inode->attr.ctime = change->now;
	inode_mark_attr_dirty(to->inode);
	return 0;
}

/* What the old name stands for when the file is gone from it: nothing, or a whiteout. */
static int vacate(struct change *change, struct place *from, const struct dirent_target *whiteout)
{
	return whiteout ? place_put(change, from, whiteout)
			: dirent_remove(change->tree, change->reader, from->ino, from->name,
					from->length);
}

/* The new name first: where the second step fails, the first is undone. */
static int move(struct change *change, struct place *from, struct place *to,
		const struct dirent_target *whiteout)
{
	struct tree *tree = change->tree;
	int error;

	if (to->inode)
		error = place_put(change, to, &from->target);
	else
		error = dirent_insert(tree, change->reader, to->ino, to->name, to->length,
				      &from->target);
	if (error)
		return error;
	error = vacate(change, from, whiteout);
	if (!error)
		return 0;
	if (to->inode)
		(void)place_put(change, to, &to->target);
	else
		(void)dirent_remove(tree, change->reader, to->ino, to->name, to->length);
	return error;
}

static int move_leaving_whiteout(struct change *change, const struct fuse_ctx *context,
				 struct place *from, struct place *to)
{
	const struct head_counters counters = {.files = 1};
	struct dirent_target whiteout = {.type = DT_CHR};

	int error =
		whiteout_make(change, from->directory, context->uid, context->gid, &whiteout.ino);
	if (error)
		return error;
	error = move(change, from, to, &whiteout);
	if (error)
		(void)inode_delete(change->tree, change->reader, whiteout.ino);
	else
		head_count(change->mount->head, &counters);
	return error;
}

/* `leaver` (may be NULL) leaves a whiteout. */
static int replace(struct change *change, const struct fuse_ctx *leaver, struct place *from,
		   struct place *to)
{
	bool directory = is_directory(from->inode);
	bool moves_up = directory && from->ino != to->ino;
	int to_links = moves_up;
	int error = 0;

	if (to->inode) {
		error = check_removable(change, to->target.ino, to->inode->attr.mode, directory);
		if (!error)
			error = unlinked_reserve(change->mount);
		to_links -= directory;
	}
	if (!error)
		error = leaver ? move_leaving_whiteout(change, leaver, from, to)
			       : move(change, from, to, NULL);
	if (error)
		return error;
	settle(change, from, to, moves_up ? -1 : 0, to_links);
	if (to->inode)
		inode_drop_name(change, to->inode);
	return 0;
}

static int rename_places(struct change *change, const struct fuse_ctx *context, struct place *from,
			 struct place *to, unsigned flags)
{
	int error = place_load(change, from);
	if (error)
		return error;
	error = place_load(change, to);
	if (error && error != -ENOENT)
		return error;
	error = restore_check_name(change->mount, change->reader, from->ino, from->name);
	if (!error)
		error = restore_check_name(change->mount, change->reader, to->ino, to->name);
	if (error)
		return error;
	if (!to->directory->attr.nlink || (flags & RENAME_EXCHANGE && !to->inode))
		return -ENOENT;
	if (to->inode && flags & RENAME_NOREPLACE)
		return -EEXIST;
	if (to->inode == from->inode) /* two names of one file: POSIX says do nothing */
		return 0;
	if (flags & RENAME_EXCHANGE)
		return exchange(change, from, to);
	return replace(change, flags & RENAME_WHITEOUT ? context : NULL, from, to);
}

/* The kernel may hold a listing of a directory that got another parent. */
static void note_moved(const struct change *change, const struct place *from,
		       const struct place *to, unsigned flags, struct move_request *moved)
{
	if (from->ino == to->ino)
		return;
	if (is_directory(from->inode))
		moved->nodes[moved->count++] = node_of(change->mount, from->inode->ino);
	if (flags & RENAME_EXCHANGE && is_directory(to->inode))
		moved->nodes[moved->count++] = node_of(change->mount, to->inode->ino);
}

void op_rename(fuse_req_t request, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	       const char *new_name, unsigned flags)
{
	struct mount *mount = fuse_req_userdata(request);
	struct place from = {.ino = node_ino(parent), .name = name, .length = strlen(name)};
	struct place to = {
		.ino = node_ino(new_parent), .name = new_name, .length = strlen(new_name)};
	struct move_request moved = {.request = request};
	struct change change;
	int error = 0;

	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))
		error = -EINVAL;
	else if (name_is_reserved(parent, name) || name_is_reserved(new_parent, new_name) ||
		 node_is_view(new_parent))
		error = -EROFS;
	else if (to.length > NAME_MAX_BYTES)
		error = -ENAMETOOLONG;
	if (!error)
		error = change_begin(mount, parent, &change);
	if (!error) {
		error = node_is_current(mount, new_parent)
				? rename_places(&change, fuse_req_ctx(request), &from, &to, flags)
				: -ESTALE;
		if (!error)
			note_moved(&change, &from, &to, flags, &moved);
		change_end(&change);
	}
	if (moved.count)
		defer_move(mount, &moved);
	else
		reply_error(mount, request, parent, error);
}
