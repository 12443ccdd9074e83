/*
 * The inside of a tree node (index/FORMAT.md, "Tree nodes"): private to the tree.
 *
 * A node is NODE_SIZE bytes: a header, an array of slots in order of key that grows up, and in
 * leaves a heap of values that grows down.  Between the two is free space; bytes of the heap
 * that no slot refers to are counted as garbage until the leaf is compacted.
 *
 * An inner node's slot i leads to the keys from its own key up to, not including, that of slot
 * i + 1.  Slot 0's key is all zeros and means "from the node's own lower bound": removing
 * the first child need not touch what lies below.  Separators are bounds, not copies of the first
 * key below: they stay when that key is deleted.
 *
 * Trust: whatever was just read must pass node_admit() (constant time), after which a slot may
 * be searched for, and an item be taken with leaf_item_checked().  Everything else here trusts
 * the node: it must have passed node_check() once, or be one of our own making.
 */
#ifndef CAIRN_SNAPSHOT_NODE_H
#define CAIRN_SNAPSHOT_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "index/util/bytes.h"
#include "snapshot/tree.h"

struct node_header {
	uint8_t checksum[8]; /* of the rest; index/ fills and verifies it */
	uint8_t id[8];
	uint8_t birth[8]; /* generation that made the node (I1) */
	uint8_t level;	  /* 0: leaf */
	uint8_t flags;	  /* 0 */
	uint8_t count[2]; /* slots in use, at least 1 */
	uint8_t heap[2];  /* leaf: offset of the lowest byte of the heap; inner: 0 */
	uint8_t garbage[2];
};

struct leaf_slot {
	uint8_t key[17]; /* ino, type, offset; big endian */
	uint8_t offset[2];
	uint8_t length[2];
};

struct inner_slot {
	uint8_t key[17];
	uint8_t child[8];
};

_Static_assert(sizeof(struct node_header) == 32, "format of nodes");
_Static_assert(offsetof(struct node_header, birth) == 16, "format of nodes");
_Static_assert(offsetof(struct node_header, level) == 24, "format of nodes");
_Static_assert(offsetof(struct node_header, count) == 26, "format of nodes");
_Static_assert(offsetof(struct node_header, garbage) == 30, "format of nodes");
_Static_assert(sizeof(struct leaf_slot) == 21, "format of nodes");
_Static_assert(sizeof(struct inner_slot) == 25, "format of nodes");

enum {
	NODE_HEADER = sizeof(struct node_header),
	NODE_ROOM = NODE_SIZE - NODE_HEADER,
	NODE_KEY = 17,
	LEAF_SLOTS = NODE_ROOM / sizeof(struct leaf_slot),
	INNER_SLOTS = NODE_ROOM / sizeof(struct inner_slot),
	LEAF_ITEM_MAX = sizeof(struct leaf_slot) + TREE_VALUE_MAX,
};

_Static_assert(2 * LEAF_ITEM_MAX <= NODE_ROOM, "two of the largest items fit a node");
/* A full leaf and one more item can always be cut into two leaves: the window of good places to
 * cut is not smaller than an item. */
_Static_assert(2 * NODE_ROOM - (NODE_ROOM + LEAF_ITEM_MAX) >= LEAF_ITEM_MAX, "leaves can split");

/* A key as two numbers that compare like its 17 bytes. */
struct packed_key {
	unsigned __int128 high; /* ino, type, upper seven bytes of offset */
	uint8_t low;		/* last byte of offset */
};

static inline struct packed_key key_pack(const struct tree_key *key)
{
	uint64_t middle = (uint64_t)key->type << 56 | key->offset >> 8;

	return (struct packed_key){(unsigned __int128)key->ino << 64 | middle,
				   (uint8_t)key->offset};
}

static inline struct packed_key key_load(const uint8_t *bytes)
{
	return (struct packed_key){(unsigned __int128)get_be64(bytes) << 64 | get_be64(bytes + 8),
				   bytes[16]};
}

/* No branch on the operands: a binary search guesses wrong every other time. */
static inline bool key_not_above(struct packed_key a, struct packed_key b)
{
	return (a.high < b.high) | ((a.high == b.high) & (a.low <= b.low));
}

static inline bool key_equal(struct packed_key a, struct packed_key b)
{
	return (a.high == b.high) & (a.low == b.low);
}

static inline bool key_below(struct packed_key a, struct packed_key b)
{
	return !key_not_above(b, a);
}

static inline void key_write(uint8_t *bytes, const struct tree_key *key)
{
	put_be64(bytes, key->ino);
	bytes[8] = key->type;
	put_be64(bytes + 9, key->offset);
}

static inline struct tree_key key_read(const uint8_t *bytes)
{
	return (struct tree_key){get_be64(bytes), bytes[8], get_be64(bytes + 9)};
}

static inline const struct node_header *node_header(const uint8_t *node)
{
	return (const struct node_header *)node;
}

static inline uint64_t node_id(const uint8_t *node)
{
	return get_le64(node_header(node)->id);
}

static inline uint64_t node_birth(const uint8_t *node)
{
	return get_le64(node_header(node)->birth);
}

static inline unsigned node_level(const uint8_t *node)
{
	return node_header(node)->level;
}

static inline unsigned node_count(const uint8_t *node)
{
	return get_le16(node_header(node)->count);
}

static inline unsigned node_heap(const uint8_t *node)
{
	return get_le16(node_header(node)->heap);
}

static inline unsigned node_garbage(const uint8_t *node)
{
	return get_le16(node_header(node)->garbage);
}

static inline const struct leaf_slot *leaf_slot(const uint8_t *node, unsigned slot)
{
	return (const struct leaf_slot *)(node + NODE_HEADER) + slot;
}

static inline const struct inner_slot *inner_slot(const uint8_t *node, unsigned slot)
{
	return (const struct inner_slot *)(node + NODE_HEADER) + slot;
}

static inline uint64_t inner_child(const uint8_t *node, unsigned slot)
{
	return get_le64(inner_slot(node, slot)->child);
}

static inline void inner_set_child(uint8_t *node, unsigned slot, uint64_t child)
{
	put_le64(node + NODE_HEADER + slot * sizeof(struct inner_slot) + NODE_KEY, child);
}

static inline unsigned leaf_length(const uint8_t *node, unsigned slot)
{
	return get_le16(leaf_slot(node, slot)->length);
}

static inline const uint8_t *leaf_value(const uint8_t *node, unsigned slot)
{
	return node + get_le16(leaf_slot(node, slot)->offset);
}

/* Bytes in use behind the header, without garbage. */
static inline unsigned leaf_used(const uint8_t *node)
{
	return node_count(node) * sizeof(struct leaf_slot) + NODE_SIZE - node_heap(node) -
	       node_garbage(node);
}

static inline unsigned node_used(const uint8_t *node)
{
	return node_level(node) ? node_count(node) * (unsigned)sizeof(struct inner_slot)
				: leaf_used(node);
}

/* How many keys are not above `key`.  For a constant stride the loop has no branch but its own. */
static inline unsigned slots_search(const uint8_t *slots, size_t stride, unsigned count,
				    struct packed_key key)
{
	const uint8_t *base = slots;
	unsigned left = count;

	if (count == 0)
		return 0;
	while (left > 1) {
		unsigned half = left / 2;
		const uint8_t *next = base + half * stride;

		base = key_not_above(key_load(next - stride), key) ? next : base;
		left -= half;
	}
	return (unsigned)((size_t)(base - slots) / stride) + key_not_above(key_load(base), key);
}

static inline unsigned leaf_search(const uint8_t *node, struct packed_key key)
{
	return slots_search(node + NODE_HEADER, sizeof(struct leaf_slot), node_count(node), key);
}

/* The slot whose child covers `key`. */
static inline unsigned inner_search(const uint8_t *node, struct packed_key key)
{
	/* Slot 0 is below everything (node_admit() made sure), and need not be looked at. */
	return slots_search(node + NODE_HEADER + sizeof(struct inner_slot),
			    sizeof(struct inner_slot), node_count(node) - 1, key);
}

static inline bool leaf_has_key(const uint8_t *node, unsigned slot, struct packed_key key)
{
	return key_equal(key_load(leaf_slot(node, slot)->key), key);
}

static inline void leaf_item(const uint8_t *node, unsigned slot, struct tree_item *ret)
{
	const struct leaf_slot *at = leaf_slot(node, slot);

	ret->key = key_read(at->key);
	ret->value = node + get_le16(at->offset);
	ret->length = get_le16(at->length);
}

/* The same from a leaf that only passed node_admit(): -EUCLEAN where it points outside. */
int leaf_item_checked(const uint8_t *node, unsigned slot, struct tree_item *ret);

/*
 * Whether the header is possible for a node of this level below a parent born at `birth` (a
 * root: its tree's generation).  Constant time.
 */
bool node_admit(const uint8_t *node, unsigned level, uint64_t birth);

/*
 * Checks everything about a node on its own.  Returns NULL if it is right, otherwise what is wrong
 * with it; `ret_slot` may be NULL.
 */
const char *node_check(const uint8_t *node, unsigned level, uint64_t birth, unsigned *ret_slot);
/* Whether no two values of a leaf that passed node_check() share bytes. */
bool leaf_values_disjoint(const uint8_t *node);

/* An empty node with that header. */
void node_init(uint8_t *node, uint64_t id, uint64_t birth, unsigned level);

bool leaf_fits(const uint8_t *node, unsigned length); /* one more item */
/* Both need room: leaf_fits(), or for a replacement what leaf_fits_replaced() says. */
void leaf_insert(uint8_t *node, unsigned slot, const struct tree_key *key, const void *value,
		 unsigned length);
bool leaf_fits_replaced(const uint8_t *node, unsigned slot, unsigned length);
void leaf_replace(uint8_t *node, unsigned slot, const void *value, unsigned length);
void leaf_remove(uint8_t *node, unsigned from, unsigned to); /* slots from <= slot < to */

/* Where to cut when a node overflows. */
enum cut {
	CUT_EVEN,   /* in halves, by bytes */
	CUT_LATE,   /* three quarters stay: most of what comes goes to the end */
	CUT_BEHIND, /* where the new item goes: more will follow it in order of key */
};

/* Puts an item into a leaf that has no room for it: its upper part moves to the empty `right`.
 * `replace`: the item takes the place of the one at `slot`.  Returns where the item went: the slot
 * in `node`, or that in `right` plus the count of `node`. */
unsigned leaf_split(uint8_t *node, uint8_t *right, unsigned slot, bool replace,
		    const struct tree_key *key, const void *value, unsigned length, enum cut cut);
/* Joins two neighbours in `left` (they fit), leaving `right` empty. */
void leaf_join(uint8_t *left, uint8_t *right);
/* Evens two neighbours out. */
void leaf_balance(uint8_t *left, uint8_t *right);

/* `key` is NODE_KEY bytes and must not lie in the node.  Slot 0 is for the first only. */
void inner_insert(uint8_t *node, unsigned slot, const uint8_t *key, uint64_t child);
void inner_remove(uint8_t *node, unsigned slot);
void inner_set_key(uint8_t *node, unsigned slot, const uint8_t *key);
/* Like those for leaves; `separator` is the key between the two, NODE_KEY bytes, given
 * (join, balance) and returned (split, balance). */
unsigned inner_split(uint8_t *node, uint8_t *right, unsigned slot, const uint8_t *key,
		     uint64_t child, enum cut cut, uint8_t *separator);
void inner_join(uint8_t *left, uint8_t *right, const uint8_t *separator);
void inner_balance(uint8_t *left, uint8_t *right, uint8_t *separator);

#endif
