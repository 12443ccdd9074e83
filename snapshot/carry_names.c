/* Names in a carry: where directories are in the head, links, copies. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "snapshot/carry_internal.h"

enum { PLACE_DEPTH_MAX = 4096 }; /* directories above one another that the head has no more */

/* Is it there, with a name?  1, 0, or an error. */
static int is_named(struct merge *merge, struct tree *tree, uint64_t ino, struct inode_attr *ret)
{
	struct backref_name name;
	int error = inode_get(tree, merge->reader, ino, ret);
	if (!error && ino != ROOT_INO)
		error = backref_first(tree, merge->reader, ino, &name);
	return error == -ENOENT ? 0 : error ? error : 1;
}

static int exists(struct merge *merge, struct tree *tree, uint64_t ino)
{
	struct inode_attr attr;
	int error = inode_get(tree, merge->reader, ino, &attr);
	return error == -ENOENT ? 0 : error ? error : 1;
}

int slot_get(struct merge *merge, uint64_t directory, const char *name, size_t length,
	     uint64_t *ret)
{
	struct dirent_target target = {0};
	int error = dirent_lookup(merge->graft.to, merge->reader, directory, name, length, &target);
	*ret = error ? 0 : target.ino;
	return error == -ENOENT ? 0 : error;
}

/* The head has put another file of that type under the name that `ino` has in BASE. */
static int find_replacement(struct merge *merge, uint64_t ino, uint32_t mode, unsigned depth,
			    uint64_t *ret);

/* Merging may have taken it away. */
static int still_there(struct merge *merge, uint64_t *ino)
{
	int there = *ino ? exists(merge, merge->graft.to, *ino) : 0;
	if (there == 0)
		*ino = 0;
	return there < 0 ? there : 0;
}

static int find_place(struct merge *merge, uint64_t directory, unsigned depth, uint64_t *ret)
{
	struct inode_attr attr;
	*ret = directory;
	if (directory == ROOT_INO)
		return 0;
	uint64_t known = (uint64_t)(uintptr_t)u64map_get(&merge->places, directory);
	*ret = known == PLACE_LEFT_OUT ? 0 : known;
	if (known)
		return still_there(merge, ret);
	const void *twin = u64map_get(&merge->twins, directory);
	uint64_t ino = twin ? (uint64_t)(uintptr_t)twin : directory;
	int named = is_named(merge, merge->head, ino, &attr);
	if (named > 0)
		*ret = ino;
	else if (named == 0)
		named = find_replacement(merge, ino, S_IFDIR, depth + 1, ret);
	int error = named < 0 ? named : still_there(merge, ret);
	if (error)
		return error;
	return *ret ? place_set(merge, directory, *ret) : 0;
}

static int find_replacement(struct merge *merge, uint64_t ino, uint32_t mode, unsigned depth,
			    uint64_t *ret)
{
	struct backref_name name;
	struct inode_attr attr;
	uint64_t directory, other;
	*ret = 0;
	int error = backref_first(merge->base, merge->reader, ino, &name);
	if (error || depth > PLACE_DEPTH_MAX)
		return error == -ENOENT ? 0 : error;
	error = find_place(merge, name.directory, depth, &directory);
	if (error || !directory)
		return error;
	error = slot_get(merge, directory, name.text, name.length, &other);
	if (error || !other)
		return error;
	int known = exists(merge, merge->base, other);
	if (known == 0)
		known = exists(merge, merge->from, other);
	if (known)
		return known < 0 ? known : 0;
	error = inode_get(merge->graft.to, merge->reader, other, &attr);
	if (!error && (attr.mode & S_IFMT) == (mode & S_IFMT))
		*ret = other;
	return error;
}

int place_of(struct merge *merge, uint64_t directory, uint64_t *ret)
{
	return find_place(merge, directory, 0, ret);
}

int place_set(struct merge *merge, uint64_t directory, uint64_t ino)
{
	return u64map_put(&merge->places, directory, (void *)(uintptr_t)ino);
}

bool place_is_left_out(const struct merge *merge, uint64_t directory)
{
	return (uint64_t)(uintptr_t)u64map_get(&merge->places, directory) == PLACE_LEFT_OUT;
}

/* The lowest directory that is missing although the one above it is there.  `ret_above` 0:
 * there is none that can be made. */
static int lowest_missing(struct merge *merge, struct tree *tree, uint64_t directory,
			  struct backref_name *ret_name, uint64_t *ret_ino, uint64_t *ret_above)
{
	for (unsigned depth = 0; depth < PLACE_DEPTH_MAX; depth++) {
		*ret_above = 0;
		if (place_is_left_out(merge, directory))
			return 0;
		int error = backref_first(tree, merge->reader, directory, ret_name);
		if (error)
			return error == -ENOENT ? 0 : error;
		*ret_ino = directory;
		error = place_of(merge, ret_name->directory, ret_above);
		if (error || *ret_above)
			return error;
		directory = ret_name->directory;
	}
	return 0;
}

/* One directory more; `above` is in the head. */
static int revive_one(struct merge *merge, struct tree *tree, uint64_t ino,
		      const struct backref_name *name, uint64_t above, enum carry_policy policy)
{
	struct graft graft = merge->graft;
	struct inode_attr attr;
	uint64_t taken;
	char *copy = NULL;
	int error = slot_get(merge, above, name->text, name->length, &taken);
	if (!error && taken)
		error = inode_get(merge->graft.to, merge->reader, taken, &attr);
	if (error)
		return error;
	if (taken && S_ISDIR(attr.mode))
		return place_set(merge, ino, taken);
	if (taken && policy != CARRY_TAKE && policy != CARRY_BOTH)
		return place_set(merge, ino, PLACE_LEFT_OUT);
	if (taken && policy == CARRY_TAKE)
		error = evict(merge, above, name->text, name->length);
	graft.from = tree;
	if (!error)
		error = graft_inode(&graft, ino, ino, GRAFT_ALL);
	if (!error && taken && policy == CARRY_BOTH)
		error = link_copy(merge, above, name->text, name->length, ino, &copy);
	else if (!error)
		error = graft_link(&graft, above, name->text, name->length, ino);
	free(copy);
	return error ? error : place_set(merge, ino, ino);
}

int place_revive(struct merge *merge, struct tree *tree, uint64_t directory,
		 enum carry_policy policy, uint64_t *ret)
{
	struct backref_name name;
	uint64_t ino, above;
	for (;;) {
		int error = place_of(merge, directory, ret);
		if (error || *ret)
			return error;
		error = lowest_missing(merge, tree, directory, &name, &ino, &above);
		if (error || !above)
			return error;
		error = revive_one(merge, tree, ino, &name, above, policy);
		if (error)
			return error;
	}
}

/* At most `room` bytes of a name, no half character. */
static int cut(const char *name, size_t length, size_t room)
{
	if (length <= room)
		return (int)length;
	while (room > 0 && ((unsigned char)name[room] & 0xC0) == 0x80)
		room--;
	return (int)room;
}

/* NAME is cut where the whole would be too long. */
int link_copy(struct merge *merge, uint64_t directory, const char *name, size_t length,
	      uint64_t ino, char **ret_name)
{
	char suffix[NAME_MAX_BYTES + 1], copy[NAME_MAX_BYTES + 1];
	const int label = cut(merge->label, strlen(merge->label), 100);
	for (unsigned number = 1; number; number++) {
		int used = number == 1 ? snprintf(suffix, sizeof(suffix), ".from-%.*s", label,
						  merge->label)
				       : snprintf(suffix, sizeof(suffix), ".from-%.*s-%u", label,
						  merge->label, number);
		int kept = cut(name, length, NAME_MAX_BYTES - (size_t)used);
		used = snprintf(copy, sizeof(copy), "%.*s%s", kept, name, suffix);
		int error = graft_link(&merge->graft, directory, copy, (size_t)used, ino);
		if (error == -EEXIST)
			continue;
		if (error)
			return error;
		*ret_name = strdup(copy);
		return *ret_name ? 0 : -ENOMEM;
	}
	return -EEXIST;
}

int unit_in_head(struct merge *merge, const struct unit *unit, uint64_t *ret)
{
	struct inode_attr attr;
	const uint64_t numbers[] = {unit->base, unit->from};
	*ret = unit->here; /* without its name it would not be found any more */
	if (unit->here)
		return still_there(merge, ret);
	for (size_t i = 0; i < 2; i++) {
		uint64_t ino = numbers[i];
		*ret = ino;
		int there = ino ? is_named(merge, merge->graft.to, ino, &attr) : 0;
		if (there == 0 && ino) /* between two names */
			there = is_named(merge, merge->head, ino, &attr);
		if (there < 0)
			return there;
		if (there > 0)
			return still_there(merge, ret);
	}
	*ret = 0;
	return unit->base ? find_replacement(merge, unit->base, unit->mode, 0, ret) : 0;
}

int lies_below(struct merge *merge, uint64_t directory, uint64_t ino)
{
	for (unsigned depth = 0; depth < 1u << 20; depth++) {
		if (directory == ino)
			return 1;
		if (directory == ROOT_INO)
			return 0;
		int error = dirent_parent(merge->graft.to, merge->reader, directory, &directory);
		if (error)
			return error == -ENOENT ? 0 : error;
	}
	return -EUCLEAN;
}
