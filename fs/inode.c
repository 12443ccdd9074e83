/*
 * The table of hot inodes.
 *
 * Who may free an inode?  Only inode_table_reap(), and only what it finds on the stack of
 * candidates.  An inode gets there when its last reference goes, when it becomes clean without
 * one, or when it is made.  `references` holds the count and the bit "is a candidate" in one
 * word, so that the thread that drops the last reference either puts the bit in the same step
 * (and is then the one to push it, which nobody can free before) or finds it set and never touches
 * the inode again.
 */
#include "fs/inode.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "fs/data_internal.h"

_Static_assert(sizeof(struct inode) <= 256, "hot inodes are numerous");

void inode_table_init(struct inode_table *table, struct head *head)
{
	*table = (struct inode_table){.head = head};
	atomic_init(&table->candidates, NULL);
}

static void inode_free(struct inode *inode)
{
	data_drop_segments(inode->table->flush.engine, inode);
	free(inode);
}

void inode_table_release(struct inode_table *table)
{
	data_quiesce(table);
	size_t position = 0;
	for (struct u64map_entry *entry; (entry = u64map_next(&table->by_ino, &position));)
		inode_free(entry->value);
	u64map_release(&table->by_ino);
	scattered_release(&table->scattered);
	table->dirty = table->dirty_last = NULL;
	table->dirty_count = 0;
	atomic_store(&table->candidates, NULL);
}

struct inode *inode_find(struct inode_table *table, uint64_t ino)
{
	return u64map_get(&table->by_ino, ino);
}

/* The bit is set already. */
static void candidate_push(struct inode *inode)
{
	_Atomic(struct inode *) *top = &inode->table->candidates;
	struct inode *old = atomic_load_explicit(top, memory_order_relaxed);

	do {
		inode->candidate_next = old;
	} while (!atomic_compare_exchange_weak_explicit(top, &old, inode, memory_order_release,
							memory_order_relaxed));
}

/* Exclusive lock held. */
static void candidate_consider(struct inode *inode)
{
	uint32_t none = 0;

	if (atomic_compare_exchange_strong(&inode->references, &none, INODE_CANDIDATE))
		candidate_push(inode);
}

int inode_insert(struct inode_table *table, uint64_t ino, const struct inode_attr *attr,
		 struct inode **ret)
{
	struct inode *inode = calloc(1, sizeof(*inode));
	uint64_t blocks = (attr->allocated + 511) / 512; /* from a look-up before */
	if (!inode)
		return -ENOMEM;
	inode->ino = ino;
	inode->table = table;
	inode->attr = *attr;
	atomic_init(&inode->told_blocks, blocks < BLOCKS_MIXED ? (uint32_t)blocks : BLOCKS_UNTOLD);
	atomic_init(&inode->references, 0);
	data_init(&inode->data);
	assert(!inode_find(table, ino));
	int error = u64map_put(&table->by_ino, ino, inode);
	if (error) {
		free(inode);
		return error;
	}
	candidate_consider(inode);
	*ret = inode;
	return 0;
}

int inode_load(struct inode_table *table, struct reader *reader, uint64_t ino, struct inode **ret)
{
	struct inode *inode = inode_find(table, ino);
	if (inode) {
		*ret = inode;
		return 0;
	}
	struct inode_attr attr;
	int error = inode_get(head_tree(table->head), reader, ino, &attr);
	if (error)
		return error;
	return inode_insert(table, ino, &attr, ret);
}

void inode_ref(struct inode *inode)
{
	uint32_t old = atomic_fetch_add_explicit(&inode->references, 1, memory_order_relaxed);
	assert((old & ~INODE_CANDIDATE) < INODE_CANDIDATE - 1);
	(void)old;
}

void inode_unref(struct inode *inode)
{
	uint32_t old = atomic_load_explicit(&inode->references, memory_order_relaxed);
	uint32_t new;

	do {
		assert(old & ~INODE_CANDIDATE);
		new = old == 1 ? INODE_CANDIDATE : old - 1;
	} while (!atomic_compare_exchange_weak_explicit(
		&inode->references, &old, new, memory_order_acq_rel, memory_order_relaxed));
	if (old == 1)
		candidate_push(inode);
}

uint32_t inode_references(struct inode *inode)
{
	return atomic_load(&inode->references) & ~INODE_CANDIDATE;
}

/* Oldest first: the items of new files then go into the tree in order of key, which leaves its
 * leaves fuller. */
static void dirty_list_add(struct inode_table *table, struct inode *inode)
{
	inode->dirty_next = NULL;
	inode->dirty_previous = table->dirty_last;
	if (table->dirty_last)
		table->dirty_last->dirty_next = inode;
	else
		table->dirty = inode;
	table->dirty_last = inode;
	table->dirty_count++;
}

static void dirty_list_remove(struct inode_table *table, struct inode *inode)
{
	if (inode->dirty_previous)
		inode->dirty_previous->dirty_next = inode->dirty_next;
	else
		table->dirty = inode->dirty_next;
	if (inode->dirty_next)
		inode->dirty_next->dirty_previous = inode->dirty_previous;
	else
		table->dirty_last = inode->dirty_previous;
	inode->dirty_next = inode->dirty_previous = NULL;
	table->dirty_count--;
}

void inode_update_dirty_list(struct inode *inode)
{
	bool dirty = inode->attr_dirty || data_is_dirty(&inode->data);

	if (dirty != inode->on_dirty_list) {
		inode->on_dirty_list = dirty;
		if (dirty)
			dirty_list_add(inode->table, inode);
		else
			dirty_list_remove(inode->table, inode);
	}
	if (!dirty && !inode->unlinked)
		candidate_consider(inode);
}

void inode_mark_attr_dirty(struct inode *inode)
{
	head_mark_dirty(inode->table->head);
	if (inode->attr_dirty)
		return;
	inode->attr_dirty = true;
	inode_update_dirty_list(inode);
}

void inode_forget_deleted(struct engine *engine, struct inode *inode)
{
	data_discard(engine, inode);
	inode->attr_dirty = false;
	inode->atime_waits = false;
	inode->unlinked = false;
	inode->gone = true;
	inode_update_dirty_list(inode);
}

int inode_attributes(struct inode_table *table, struct reader *reader, uint64_t ino,
		     struct inode_attr *ret)
{
	struct inode *inode = inode_find(table, ino);
	if (inode) {
		*ret = inode->attr;
		return 0;
	}
	return inode_get(head_tree(table->head), reader, ino, ret);
}

int inode_table_write_back(struct inode_table *table, struct reader *reader)
{
	struct inode *next;

	for (struct inode *inode = table->dirty; inode; inode = next) {
		next = inode->dirty_next;
		if (!inode->attr_dirty)
			continue;
		if (!inode->gone) {
			int error =
				inode_put(head_tree(table->head), reader, inode->ino, &inode->attr);
			if (error)
				return error;
		}
		inode->attr_dirty = false;
		inode->atime_waits = false;
		inode_update_dirty_list(inode);
	}
	return 0;
}

/*
 * An inode that is kept loses its bit, so that the next event makes it a candidate again.  The bit
 * goes before the state is looked at for the last time: whoever drops the last reference behind us
 * pushes it anew.
 */
static bool candidate_free(struct inode_table *table, struct inode *inode)
{
	bool keep = inode->attr_dirty || inode->atime_waits || inode->unlinked ||
		    data_is_dirty(&inode->data);
	uint32_t old = INODE_CANDIDATE;

	if (!keep &&
	    atomic_compare_exchange_strong_explicit(&inode->references, &old, 0,
						    memory_order_acq_rel, memory_order_relaxed)) {
		u64map_remove(&table->by_ino, inode->ino);
		inode_free(inode);
		return true;
	}
	old = atomic_fetch_and(&inode->references, ~INODE_CANDIDATE);
	/* The last reference went between the two: what else could bring it back here? */
	if (old == INODE_CANDIDATE && !keep)
		candidate_consider(inode);
	return false;
}

void inode_table_reap(struct inode_table *table)
{
	struct inode *inode =
		atomic_exchange_explicit(&table->candidates, NULL, memory_order_acquire);

	while (inode) {
		struct inode *next = inode->candidate_next;
		candidate_free(table, inode);
		inode = next;
	}
}
