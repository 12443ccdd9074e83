/*
 * Node numbers, look-up counts, and files that have lost their last name.
 *
 * The counts serve two ends: an unlinked inode is deleted when the kernel has forgotten it, and
 * a restore tells the kernel only about what it knows.  Views of points are not counted: they
 * never change.
 *
 * An unlinked inode:
 *
 *     unlink                       a cut                       nobody refers to it any more
 *   ----------> UNLINKED_FRESH ------------> UNLINKED_RECORDED ----------------------------> gone
 *                     |                      (ORPHAN item: deleted at the next start if we die)
 *                     +---> gone, without ever having reached the disk
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "fs/mount_internal.h"

void nodes_init(struct nodes *nodes)
{
	pthread_mutex_init(&nodes->lock, NULL);
}

void nodes_release(struct nodes *nodes)
{
	size_t position = 0;
	for (struct u64map_entry *entry; (entry = u64map_next(&nodes->gone, &position));)
		free(entry->value);
	u64map_release(&nodes->gone);
	u64map_release(&nodes->known);
	u64map_release(&nodes->aliases);
	u64map_release(&nodes->unlinked);
	pthread_mutex_destroy(&nodes->lock);
}

/* ---- aliases ---- */

static uint64_t epoch_of(const struct mount *mount, uint64_t ino)
{
	if (!mount->nodes.aliases.count)
		return 0;
	return (uintptr_t)u64map_get(&mount->nodes.aliases, ino);
}

uint64_t node_of(const struct mount *mount, uint64_t ino)
{
	return epoch_of(mount, ino) << NODE_INO_BITS | ino;
}

bool node_is_current(const struct mount *mount, uint64_t node)
{
	return node_epoch(node) == epoch_of(mount, node_ino(node));
}

int node_new_epoch(struct mount *mount, uint64_t ino)
{
	uint64_t epoch = epoch_of(mount, ino) + 1;

	if (epoch > NODE_EPOCH_MAX)
		return -EOVERFLOW;
	return u64map_put(&mount->nodes.aliases, ino, (void *)(uintptr_t)epoch);
}

/* ---- look-up counts ---- */

int node_count_lookup(struct mount *mount, uint64_t node)
{
	struct nodes *nodes = &mount->nodes;

	if (node_is_view(node))
		return 0;
	pthread_mutex_lock(&nodes->lock);
	uintptr_t count = (uintptr_t)u64map_get(&nodes->known, node);
	int error = u64map_put(&nodes->known, node, (void *)(count + 1));
	pthread_mutex_unlock(&nodes->lock);
	return error;
}

bool node_forget(struct mount *mount, uint64_t node, uint64_t count)
{
	struct nodes *nodes = &mount->nodes;
	bool last = false;

	if (node_is_view(node) || node == ROOT_INO)
		return false;
	pthread_mutex_lock(&nodes->lock);
	uint64_t known = (uintptr_t)u64map_get(&nodes->known, node);
	if (known > count) {
		u64map_put(&nodes->known, node, (void *)(uintptr_t)(known - count));
	} else if (known) {
		u64map_remove(&nodes->known, node);
		free(u64map_remove(&nodes->gone, node));
		last = true;
	}
	pthread_mutex_unlock(&nodes->lock);
	return last;
}

bool node_is_known(struct mount *mount, uint64_t node)
{
	struct nodes *nodes = &mount->nodes;

	if (node == ROOT_INO)
		return true;
	pthread_mutex_lock(&nodes->lock);
	bool known = u64map_get(&nodes->known, node) != NULL;
	pthread_mutex_unlock(&nodes->lock);
	return known;
}

size_t nodes_known(struct mount *mount)
{
	pthread_mutex_lock(&mount->nodes.lock);
	size_t count = mount->nodes.known.count;
	pthread_mutex_unlock(&mount->nodes.lock);
	return count;
}

/* ---- inodes that a restore took away ---- */

/* Without memory they answer ESTALE. */
void node_note_gone(struct mount *mount, uint64_t node, const struct inode_attr *attr)
{
	struct nodes *nodes = &mount->nodes;
	struct inode_attr *copy = malloc(sizeof(*copy));

	if (!copy)
		return;
	*copy = *attr;
	copy->nlink = 0;
	pthread_mutex_lock(&nodes->lock);
	struct inode_attr *old = u64map_get(&nodes->gone, node);
	if (u64map_put(&nodes->gone, node, copy))
		old = copy;
	pthread_mutex_unlock(&nodes->lock);
	free(old);
}

int node_gone_attributes(struct mount *mount, uint64_t node, struct inode_attr *ret)
{
	struct nodes *nodes = &mount->nodes;

	pthread_mutex_lock(&nodes->lock);
	const struct inode_attr *attr = u64map_get(&nodes->gone, node);
	if (attr)
		*ret = *attr;
	pthread_mutex_unlock(&nodes->lock);
	return attr ? 0 : -ESTALE;
}

/* ---- unlinked inodes ---- */

static void unlinked_set_count(struct nodes *nodes)
{
	atomic_store_explicit(&nodes->unlinked_count, nodes->unlinked.count, memory_order_relaxed);
}

int unlinked_reserve(struct mount *mount)
{
	return u64map_reserve(&mount->nodes.unlinked, 1);
}

void unlinked_add(struct mount *mount, struct inode *inode)
{
	struct nodes *nodes = &mount->nodes;

	inode->unlinked = true;
	if (u64map_get(&nodes->unlinked, inode->ino))
		return;
	inode_ref(inode);
	int error = u64map_put(&nodes->unlinked, inode->ino, (void *)(uintptr_t)UNLINKED_FRESH);
	assert(!error); /* reserved */
	(void)error;
	unlinked_set_count(nodes);
}

static void unlinked_drop(struct mount *mount, struct inode *inode)
{
	struct nodes *nodes = &mount->nodes;

	if (u64map_remove(&nodes->unlinked, inode->ino))
		inode_unref(inode);
	unlinked_set_count(nodes);
}

int unlinked_remove(struct mount *mount, struct reader *reader, struct inode *inode)
{
	struct nodes *nodes = &mount->nodes;

	if ((uintptr_t)u64map_get(&nodes->unlinked, inode->ino) == UNLINKED_RECORDED) {
		int error = orphan_remove(mount->tree, reader, inode->ino);
		if (error && error != -ENOENT)
			return error;
	}
	inode->unlinked = false;
	unlinked_drop(mount, inode);
	return 0;
}

/* Its ORPHAN item goes last: after an error the next start repeats the rest. */
static int unlinked_delete(struct mount *mount, struct reader *reader, struct inode *inode)
{
	uintptr_t state = (uintptr_t)u64map_get(&mount->nodes.unlinked, inode->ino);

	int error = inode_delete(mount->tree, reader, inode->ino);
	if (error && error != -ENOENT) /* not there: no cut has seen it */
		return error;
	if (state == UNLINKED_RECORDED) {
		error = orphan_remove(mount->tree, reader, inode->ino);
		if (error && error != -ENOENT)
			return error;
	}
	inode_forget_deleted(mount->engine, inode);
	unlinked_drop(mount, inode);
	return 0;
}

static bool unlinked_is_idle(struct mount *mount, struct inode *inode)
{
	return inode_references(inode) == 1 && !node_is_known(mount, node_of(mount, inode->ino));
}

void unlinked_try_delete(struct mount *mount, struct reader *reader, uint64_t ino)
{
	if (!u64map_get(&mount->nodes.unlinked, ino))
		return;
	struct inode *inode = inode_find(&mount->inodes, ino);
	/* An error leaves it to the next cut, and in the end to the next start. */
	if (inode && unlinked_is_idle(mount, inode))
		(void)unlinked_delete(mount, reader, inode);
}

/* The inodes of the map as an array, because the map changes under the work; ends with 0. */
static uint64_t *unlinked_list(const struct nodes *nodes)
{
	uint64_t *list = calloc(nodes->unlinked.count + 1, sizeof(*list));
	size_t position = 0, count = 0;
	struct u64map_entry *entry;

	if (!list)
		return NULL;
	while ((entry = u64map_next(&nodes->unlinked, &position)))
		list[count++] = entry->key;
	return list;
}

int unlinked_record(struct mount *mount, struct reader *reader)
{
	struct nodes *nodes = &mount->nodes;
	int error = 0;

	if (!nodes->unlinked.count)
		return 0;
	uint64_t *list = unlinked_list(nodes);
	if (!list)
		return -ENOMEM;
	for (size_t i = 0; list[i] && !error; i++) {
		unlinked_try_delete(mount, reader, list[i]);
		if ((uintptr_t)u64map_get(&nodes->unlinked, list[i]) != UNLINKED_FRESH)
			continue;
		error = orphan_add(mount->tree, reader, list[i]);
		if (!error) /* replaces: cannot fail */
			u64map_put(&nodes->unlinked, list[i], (void *)(uintptr_t)UNLINKED_RECORDED);
	}
	free(list);
	return error;
}

/* An orphan of the restored state: kept only while the same file is still open here. */
static void orphan_settle(struct mount *mount, struct reader *reader, uint64_t ino)
{
	struct inode *inode = inode_find(&mount->inodes, ino);
	bool listed = u64map_get(&mount->nodes.unlinked, ino);

	if (inode && !inode->gone && !listed && inode_references(inode) &&
	    !unlinked_reserve(mount)) {
		unlinked_add(mount, inode);
		listed = true;
	}
	if (listed) {
		u64map_put(&mount->nodes.unlinked, ino, (void *)(uintptr_t)UNLINKED_RECORDED);
		return;
	}
	int error = inode_delete(mount->tree, reader, ino);
	if (!error || error == -ENOENT)
		(void)orphan_remove(mount->tree, reader, ino);
	if (inode)
		inode_forget_deleted(mount->engine, inode);
}

/* Hot inodes have been refreshed from the new tree. */
void unlinked_after_switch(struct mount *mount, struct reader *reader)
{
	uint64_t *list = unlinked_list(&mount->nodes);

	for (size_t i = 0; list && list[i]; i++) {
		struct inode *inode = inode_find(&mount->inodes, list[i]);
		if (!inode->unlinked || inode->gone)
			unlinked_drop(mount, inode);
	}
	free(list);
	for (uint64_t ino = 0; !orphan_next(mount->tree, reader, ino, &ino);)
		orphan_settle(mount, reader, ino);
}

/* The kernel has let go and no handle is left. */
void unlinked_delete_all(struct mount *mount)
{
	struct reader *reader;

	head_lock(mount->head);
	uint64_t *list = unlinked_list(&mount->nodes);
	if (list && !reader_acquire(mount->store, &reader)) {
		for (size_t i = 0; list[i]; i++) {
			struct inode *inode = inode_find(&mount->inodes, list[i]);
			if (unlinked_delete(mount, reader, inode))
				unlinked_drop(mount, inode);
		}
		reader_release(reader);
	}
	free(list);
	head_unlock(mount->head);
}

/* Left by a process that died. */
int orphans_delete(struct mount *mount)
{
	struct reader *reader;
	uint64_t ino = 0;

	head_lock(mount->head);
	int error = reader_acquire(mount->store, &reader);
	if (error) {
		head_unlock(mount->head);
		return error;
	}
	while (!error && !(error = orphan_next(mount->tree, reader, ino, &ino))) {
		error = inode_delete(mount->tree, reader, ino);
		if (!error || error == -ENOENT)
			error = orphan_remove(mount->tree, reader, ino);
	}
	reader_release(reader);
	head_unlock(mount->head);
	return error == -ENOENT ? 0 : error;
}
