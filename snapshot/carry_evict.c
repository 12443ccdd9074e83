/*
 * Making room for FROM's side.  What has to go in the head may have things below it, or be
 * something itself, that FROM has too, in another place: the head has only moved it.  Deleting that
 * would lose what both sides have; it is taken out first, and gets its name in FROM when the names
 * of FROM have been given.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "index/util/array.h"
#include "snapshot/carry_internal.h"

static int has_name(struct merge *merge, struct tree *tree, uint64_t ino)
{
	struct backref_name name;
	if (ino == ROOT_INO)
		return 1;
	int error = backref_first(tree, merge->reader, ino, &name);
	return error == -ENOENT ? 0 : error ? error : 1;
}

static int add_homeless(struct merge *merge, uint64_t ino)
{
	uint64_t *grown = array_reserve(merge->homeless, merge->homeless_count + 1,
					&merge->homeless_capacity, sizeof(grown[0]));
	if (!grown)
		return -ENOMEM;
	merge->homeless = grown;
	merge->homeless[merge->homeless_count++] = ino;
	return 0;
}

/* Directories to look through, and what was found in the one that is looked through. */
struct clearing {
	struct merge *merge;
	uint64_t *directories; /* owned */
	size_t count, capacity;
	struct backref_name *leaving; /* owned; names of what FROM has */
	uint64_t *inos;		      /* owned; of these */
	size_t leaving_count;
};

static int add_directory(struct clearing *clearing, uint64_t ino)
{
	uint64_t *grown = array_reserve(clearing->directories, clearing->count + 1,
					&clearing->capacity, sizeof(grown[0]));
	if (!grown)
		return -ENOMEM;
	clearing->directories = grown;
	clearing->directories[clearing->count++] = ino;
	return 0;
}

static int add_leaving(struct clearing *clearing, const struct dirent_entry *entry)
{
	size_t count = clearing->leaving_count;
	struct backref_name *leaving =
		reallocarray(clearing->leaving, count + 1, sizeof(leaving[0]));
	if (!leaving)
		return -ENOMEM;
	clearing->leaving = leaving;
	uint64_t *inos = reallocarray(clearing->inos, count + 1, sizeof(inos[0]));
	if (!inos)
		return -ENOMEM;
	clearing->inos = inos;
	leaving[count].length = entry->name.length;
	memcpy(leaving[count].text, entry->name.text, entry->name.length);
	inos[count] = entry->target.ino;
	clearing->leaving_count++;
	return 0;
}

static int look_at(const struct dirent_entry *entry, void *context)
{
	struct clearing *clearing = context;
	struct merge *merge = clearing->merge;
	int lives = has_name(merge, merge->from, entry->target.ino);
	if (lives)
		return lives < 0 ? lives : add_leaving(clearing, entry);
	return entry->target.type == DT_DIR ? add_directory(clearing, entry->target.ino) : 0;
}

static int clear_directory(struct clearing *clearing, uint64_t directory)
{
	struct merge *merge = clearing->merge;
	clearing->leaving_count = 0;
	int error = dirent_iterate(merge->graft.to, merge->reader, directory, 0, look_at, clearing);
	for (size_t i = 0; i < clearing->leaving_count && !error; i++) {
		const struct backref_name *name = &clearing->leaving[i];
		error = graft_unlink(&merge->graft, directory, name->text, name->length);
		if (!error)
			error = add_homeless(merge, clearing->inos[i]);
	}
	return error;
}

/* Takes out what FROM has, however deep. */
static int clear_all(struct merge *merge, uint64_t directory)
{
	struct clearing clearing = {.merge = merge};
	int error = add_directory(&clearing, directory);
	while (!error && clearing.count)
		error = clear_directory(&clearing, clearing.directories[--clearing.count]);
	free(clearing.directories);
	free(clearing.leaving);
	free(clearing.inos);
	return error;
}

int evict(struct merge *merge, uint64_t directory, const char *name, size_t length)
{
	struct dirent_target target;
	int error = dirent_lookup(merge->graft.to, merge->reader, directory, name, length, &target);
	if (!error)
		error = graft_unlink(&merge->graft, directory, name, length);
	int lives = error ? error : has_name(merge, merge->from, target.ino);
	if (lives)
		return lives < 0 ? lives : add_homeless(merge, target.ino);
	if (target.type == DT_DIR)
		error = clear_all(merge, target.ino);
	return error ? error : graft_bury(&merge->graft, target.ino);
}

/* Where FROM has it; into the root where that is not possible. */
static int find_home(struct merge *merge, uint64_t ino, struct backref_name *ret_name,
		     uint64_t *ret_directory)
{
	int error = backref_first(merge->from, merge->reader, ino, ret_name);
	if (!error)
		error = place_revive(merge, merge->from, ret_name->directory, CARRY_KEEP,
				     ret_directory);
	if (error || !*ret_directory) {
		*ret_directory = ROOT_INO;
		return error;
	}
	int below = lies_below(merge, *ret_directory, ino);
	if (below > 0)
		*ret_directory = ROOT_INO;
	return below < 0 ? below : 0;
}

static int settle(struct merge *merge, uint64_t ino)
{
	struct backref_name name;
	struct inode_attr attr;
	uint64_t directory, other;
	char *copy = NULL;
	int error = inode_get(merge->graft.to, merge->reader, ino, &attr);
	if (error)
		return error == -ENOENT ? 0 : error;
	int named = has_name(merge, merge->graft.to, ino);
	if (named)
		return named < 0 ? named : 0;
	error = find_home(merge, ino, &name, &directory);
	if (!error)
		error = slot_get(merge, directory, name.text, name.length, &other);
	if (error)
		return error;
	if (!other)
		return graft_link(&merge->graft, directory, name.text, name.length, ino);
	error = link_copy(merge, directory, name.text, name.length, ino, &copy);
	free(copy);
	return error;
}

int settle_homeless(struct merge *merge)
{
	int error = 0;
	for (size_t i = 0; i < merge->homeless_count && !error; i++)
		error = settle(merge, merge->homeless[i]);
	merge->homeless_count = 0;
	return error;
}
