/*
 * Inside of a tree node: see node.h.
 *
 * Splitting, joining and balancing all do the same: they lay out the items of two neighbours as
 * one sequence, choose a boundary in it, and write both nodes anew from a copy.  That costs a
 * microsecond or two once per some dozens of changes, and compacts on the way.
 */
#include "snapshot/node.h"

#include <assert.h>
#include <errno.h>

static struct node_header *header_of(uint8_t *node)
{
	return (struct node_header *)node;
}

static struct leaf_slot *leaf_slot_of(uint8_t *node, unsigned slot)
{
	return (struct leaf_slot *)(node + NODE_HEADER) + slot;
}

static struct inner_slot *inner_slot_of(uint8_t *node, unsigned slot)
{
	return (struct inner_slot *)(node + NODE_HEADER) + slot;
}

static void set_count(uint8_t *node, unsigned count)
{
	put_le16(header_of(node)->count, (uint16_t)count);
}

static void set_heap(uint8_t *node, unsigned heap, unsigned garbage)
{
	put_le16(header_of(node)->heap, (uint16_t)heap);
	put_le16(header_of(node)->garbage, (uint16_t)garbage);
}

int leaf_item_checked(const uint8_t *node, unsigned slot, struct tree_item *ret)
{
	const struct leaf_slot *at = leaf_slot(node, slot);
	unsigned offset = get_le16(at->offset);
	unsigned length = get_le16(at->length);

	if (offset < node_heap(node) || offset + length > NODE_SIZE || length > TREE_VALUE_MAX)
		return -EUCLEAN;
	ret->key = key_read(at->key);
	ret->value = node + offset;
	ret->length = (uint16_t)length;
	return 0;
}

static bool key_is_zero(const uint8_t *key)
{
	return (get_le64(key) | get_le64(key + 8) | key[16]) == 0;
}

bool node_admit(const uint8_t *node, unsigned level, uint64_t birth)
{
	const struct node_header *header = node_header(node);
	unsigned count = node_count(node);
	unsigned heap = node_heap(node);
	unsigned garbage = node_garbage(node);

	if (header->level != level || header->flags != 0 || count == 0 || node_birth(node) > birth)
		return false;
	if (level > 0)
		return count <= INNER_SLOTS && heap == 0 && garbage == 0 &&
		       key_is_zero(inner_slot(node, 0)->key);
	return count <= LEAF_SLOTS && heap <= NODE_SIZE &&
	       heap >= NODE_HEADER + count * sizeof(struct leaf_slot) &&
	       garbage <= NODE_SIZE - heap;
}

static const char *check_order(const uint8_t *node, size_t stride, unsigned *ret_slot)
{
	const uint8_t *at = node + NODE_HEADER;
	struct packed_key last = key_load(at);
	unsigned count = node_count(node);

	for (unsigned slot = 1; slot < count; slot++) {
		struct packed_key key = key_load(at += stride);

		if (!key_below(last, key)) {
			*ret_slot = slot;
			return "key out of order";
		}
		last = key;
	}
	return NULL;
}

const char *node_check(const uint8_t *node, unsigned level, uint64_t birth, unsigned *ret_slot)
{
	unsigned count = node_count(node);
	unsigned sum = node_garbage(node);
	unsigned ignored;
	unsigned *slot = ret_slot ? ret_slot : &ignored;
	struct tree_item item;

	*slot = 0;
	if (node_level(node) != level)
		return "wrong level";
	if (node_birth(node) > birth)
		return "younger than what refers to it";
	if (!node_admit(node, level, birth))
		return "impossible header";
	if (level > 0) {
		for (unsigned i = 0; i < count; i++) {
			*slot = i;
			if (inner_child(node, i) == 0)
				return "refers to no child";
		}
		return check_order(node, sizeof(struct inner_slot), slot);
	}
	for (unsigned i = 0; i < count; i++) {
		*slot = i;
		if (leaf_item_checked(node, i, &item) != 0)
			return "value outside of the heap";
		sum += item.length;
	}
	*slot = 0;
	if (sum != NODE_SIZE - node_heap(node))
		return "values do not add up";
	return check_order(node, sizeof(struct leaf_slot), slot);
}

bool leaf_values_disjoint(const uint8_t *node)
{
	uint8_t taken[NODE_SIZE] = {0};
	unsigned count = node_count(node);

	for (unsigned slot = 0; slot < count; slot++) {
		unsigned offset = get_le16(leaf_slot(node, slot)->offset);
		unsigned length = leaf_length(node, slot);

		if (length > 0 && memchr(taken + offset, 1, length))
			return false;
		memset(taken + offset, 1, length);
	}
	return true;
}

void node_init(uint8_t *node, uint64_t id, uint64_t birth, unsigned level)
{
	/* All of it: nothing of the heap's past may reach the disk. */
	memset(node, 0, NODE_SIZE);
	put_le64(header_of(node)->id, id);
	put_le64(header_of(node)->birth, birth);
	header_of(node)->level = (uint8_t)level;
	if (level == 0)
		set_heap(node, NODE_SIZE, 0);
}

/* One item of a leaf, wherever it lies. */
struct loose_item {
	const uint8_t *key;
	const uint8_t *value;
	unsigned length;
};

static unsigned leaf_gather(const uint8_t *node, struct loose_item *items)
{
	unsigned count = node_count(node);

	for (unsigned slot = 0; slot < count; slot++)
		items[slot] = (struct loose_item){leaf_slot(node, slot)->key,
						  leaf_value(node, slot), leaf_length(node, slot)};
	return count;
}

/* Writes the leaf anew; the items must not lie in it. */
static void leaf_build(uint8_t *node, const struct loose_item *items, unsigned count)
{
	unsigned heap = NODE_SIZE;

	for (unsigned slot = 0; slot < count; slot++) {
		struct leaf_slot *at = leaf_slot_of(node, slot);
		unsigned length = items[slot].length;

		heap -= length;
		if (length > 0)
			memcpy(node + heap, items[slot].value, length);
		memcpy(at->key, items[slot].key, NODE_KEY);
		put_le16(at->offset, (uint16_t)(length ? heap : NODE_SIZE));
		put_le16(at->length, (uint16_t)length);
	}
	assert(heap >= NODE_HEADER + count * sizeof(struct leaf_slot));
	set_count(node, count);
	set_heap(node, heap, 0);
}

static void leaf_compact(uint8_t *node)
{
	uint8_t copy[NODE_SIZE];
	struct loose_item items[LEAF_SLOTS];

	memcpy(copy, node, NODE_SIZE);
	leaf_build(node, items, leaf_gather(copy, items));
}

static unsigned leaf_gap(const uint8_t *node)
{
	return node_heap(node) - NODE_HEADER -
	       node_count(node) * (unsigned)sizeof(struct leaf_slot);
}

bool leaf_fits(const uint8_t *node, unsigned length)
{
	return leaf_used(node) + sizeof(struct leaf_slot) + length <= NODE_ROOM;
}

bool leaf_fits_replaced(const uint8_t *node, unsigned slot, unsigned length)
{
	return leaf_used(node) - leaf_length(node, slot) + length <= NODE_ROOM;
}

/* Gives a value's bytes back to the heap.  As the heap's lower end may rise by that, an empty
 * value lies at the end of the node, where it is inside whatever happens. */
static void leaf_discard(uint8_t *node, unsigned offset, unsigned length)
{
	unsigned heap = node_heap(node);

	if (offset == heap)
		set_heap(node, heap + length, node_garbage(node));
	else
		set_heap(node, heap, node_garbage(node) + length);
}

static void leaf_place(uint8_t *node, unsigned slot, const void *value, unsigned length)
{
	struct leaf_slot *at = leaf_slot_of(node, slot);
	unsigned heap = node_heap(node) - length;

	put_le16(at->length, (uint16_t)length);
	if (length == 0) {
		put_le16(at->offset, NODE_SIZE);
		return;
	}
	memcpy(node + heap, value, length);
	put_le16(at->offset, (uint16_t)heap);
	set_heap(node, heap, node_garbage(node));
}

void leaf_insert(uint8_t *node, unsigned slot, const struct tree_key *key, const void *value,
		 unsigned length)
{
	unsigned count = node_count(node);
	struct leaf_slot *at = leaf_slot_of(node, slot);

	assert(leaf_fits(node, length) && slot <= count);
	if (leaf_gap(node) < sizeof(*at) + length)
		leaf_compact(node);
	memmove(at + 1, at, (count - slot) * sizeof(*at));
	key_write(at->key, key);
	set_count(node, count + 1);
	leaf_place(node, slot, value, length);
}

void leaf_replace(uint8_t *node, unsigned slot, const void *value, unsigned length)
{
	struct leaf_slot *at = leaf_slot_of(node, slot);
	unsigned offset = get_le16(at->offset);
	unsigned old = get_le16(at->length);

	if (length > 0 && length <= old) {
		memcpy(node + offset, value, length);
		if (length == old)
			return;
		put_le16(at->length, (uint16_t)length);
		set_heap(node, node_heap(node), node_garbage(node) + old - length);
		return;
	}
	leaf_discard(node, offset, old);
	put_le16(at->offset, NODE_SIZE);
	put_le16(at->length, 0);
	if (leaf_gap(node) < length)
		leaf_compact(node);
	leaf_place(node, slot, value, length);
}

void leaf_remove(uint8_t *node, unsigned from, unsigned to)
{
	unsigned count = node_count(node);

	/* From the end: values put in ascending order lie in the heap the other way round. */
	for (unsigned slot = to; slot-- > from;)
		leaf_discard(node, get_le16(leaf_slot(node, slot)->offset),
			     leaf_length(node, slot));
	memmove(leaf_slot_of(node, from), leaf_slot(node, to),
		(count - to) * sizeof(struct leaf_slot));
	set_count(node, count - to + from);
	if (count - to + from == 0)
		set_heap(node, NODE_SIZE, 0);
}

static unsigned loose_size(const struct loose_item *item)
{
	return (unsigned)sizeof(struct leaf_slot) + item->length;
}

static unsigned loose_total(const struct loose_item *items, unsigned count)
{
	unsigned total = 0;

	for (unsigned i = 0; i < count; i++)
		total += loose_size(&items[i]);
	return total;
}

/* The boundary with the least difference between the sides; if any boundary makes both sides fit,
 * this one does. */
static unsigned even_boundary(const struct loose_item *items, unsigned count)
{
	unsigned total = loose_total(items, count);
	unsigned left = 0;

	for (unsigned i = 0; i < count; i++) {
		unsigned with = left + loose_size(&items[i]);

		if (2 * with >= total) {
			bool rather_without = total - left < with;

			return rather_without && i > 0 ? i : i + 1;
		}
		left = with;
	}
	return count;
}

/* The first boundary with three quarters of the bytes before it. */
static unsigned late_boundary(const struct loose_item *items, unsigned count)
{
	unsigned total = loose_total(items, count);
	unsigned left = 0, boundary = 0;

	while (boundary < count && 4 * left < 3 * total)
		left += loose_size(&items[boundary++]);
	return boundary;
}

static bool boundary_fits(const struct loose_item *items, unsigned count, unsigned boundary)
{
	return loose_total(items, boundary) <= NODE_ROOM &&
	       loose_total(items + boundary, count - boundary) <= NODE_ROOM;
}

static unsigned split_boundary(const struct loose_item *items, unsigned count, unsigned slot,
			       enum cut cut)
{
	if (cut == CUT_BEHIND) {
		/* At the end the new item starts the next leaf and this one stays full; in the
		 * middle the new item ends this leaf, which then has room for what follows. */
		unsigned boundary = slot + 1 == count ? slot : slot + 1;

		if (boundary_fits(items, count, boundary))
			return boundary;
		if (slot > 0 && boundary_fits(items, count, slot))
			return slot;
	}
	if (cut == CUT_LATE) {
		unsigned boundary = late_boundary(items, count);

		if (boundary < count && boundary_fits(items, count, boundary))
			return boundary;
	}
	return even_boundary(items, count);
}

unsigned leaf_split(uint8_t *node, uint8_t *right, unsigned slot, bool replace,
		    const struct tree_key *key, const void *value, unsigned length, enum cut cut)
{
	uint8_t copy[NODE_SIZE];
	uint8_t packed[NODE_KEY];
	struct loose_item items[LEAF_SLOTS + 1];
	unsigned count, boundary;

	memcpy(copy, node, NODE_SIZE);
	key_write(packed, key);
	count = leaf_gather(copy, items);
	if (!replace) {
		memmove(items + slot + 1, items + slot, (count - slot) * sizeof(*items));
		count++;
	}
	items[slot] = (struct loose_item){packed, value, length};
	boundary = split_boundary(items, count, slot, cut);
	leaf_build(node, items, boundary);
	leaf_build(right, items + boundary, count - boundary);
	return slot;
}

static void leaf_redistribute(uint8_t *left, uint8_t *right, bool join)
{
	uint8_t copy[2][NODE_SIZE];
	struct loose_item items[2 * LEAF_SLOTS];
	unsigned count, boundary;

	memcpy(copy[0], left, NODE_SIZE);
	memcpy(copy[1], right, NODE_SIZE);
	count = leaf_gather(copy[0], items);
	count += leaf_gather(copy[1], items + count);
	boundary = join ? count : even_boundary(items, count);
	leaf_build(left, items, boundary);
	leaf_build(right, items + boundary, count - boundary);
}

void leaf_join(uint8_t *left, uint8_t *right)
{
	leaf_redistribute(left, right, true);
}

void leaf_balance(uint8_t *left, uint8_t *right)
{
	leaf_redistribute(left, right, false);
}

void inner_set_key(uint8_t *node, unsigned slot, const uint8_t *key)
{
	memcpy(inner_slot_of(node, slot)->key, key, NODE_KEY);
}

void inner_insert(uint8_t *node, unsigned slot, const uint8_t *key, uint64_t child)
{
	unsigned count = node_count(node);
	struct inner_slot *at = inner_slot_of(node, slot);

	assert(count < INNER_SLOTS && slot <= count && (slot > 0 || count == 0));
	memmove(at + 1, at, (count - slot) * sizeof(*at));
	if (slot == 0)
		memset(at->key, 0, NODE_KEY);
	else
		memcpy(at->key, key, NODE_KEY);
	put_le64(at->child, child);
	set_count(node, count + 1);
}

void inner_remove(uint8_t *node, unsigned slot)
{
	unsigned count = node_count(node);
	struct inner_slot *at = inner_slot_of(node, slot);

	memmove(at, at + 1, (count - slot - 1) * sizeof(*at));
	set_count(node, count - 1);
	if (slot == 0 && count > 1)
		memset(at->key, 0, NODE_KEY);
}

/* Writes two neighbours from one sequence of slots.  The key at the boundary moves up. */
static void inner_distribute(uint8_t *left, uint8_t *right, const struct inner_slot *slots,
			     unsigned count, unsigned boundary, uint8_t *separator)
{
	memcpy(inner_slot_of(left, 0), slots, boundary * sizeof(*slots));
	set_count(left, boundary);
	memcpy(inner_slot_of(right, 0), slots + boundary, (count - boundary) * sizeof(*slots));
	set_count(right, count - boundary);
	if (boundary < count) {
		memcpy(separator, slots[boundary].key, NODE_KEY);
		memset(inner_slot_of(right, 0)->key, 0, NODE_KEY);
	}
}

unsigned inner_split(uint8_t *node, uint8_t *right, unsigned slot, const uint8_t *key,
		     uint64_t child, enum cut cut, uint8_t *separator)
{
	struct inner_slot slots[INNER_SLOTS + 1];
	unsigned count = node_count(node);
	unsigned boundary = (count + 1) / 2;

	memcpy(slots, inner_slot(node, 0), slot * sizeof(*slots));
	memcpy(slots[slot].key, key, NODE_KEY);
	put_le64(slots[slot].child, child);
	memcpy(slots + slot + 1, inner_slot(node, slot), (count - slot) * sizeof(*slots));
	if (cut == CUT_BEHIND)
		boundary = slot == count ? slot : slot + 1;
	else if (cut == CUT_LATE)
		boundary = (count + 1) * 3 / 4;
	inner_distribute(node, right, slots, count + 1, boundary, separator);
	return slot;
}

static unsigned inner_concatenate(struct inner_slot *slots, const uint8_t *left,
				  const uint8_t *right, const uint8_t *separator)
{
	unsigned count = node_count(left);
	unsigned more = node_count(right);

	memcpy(slots, inner_slot(left, 0), count * sizeof(*slots));
	memcpy(slots + count, inner_slot(right, 0), more * sizeof(*slots));
	memcpy(slots[count].key, separator, NODE_KEY);
	return count + more;
}

void inner_join(uint8_t *left, uint8_t *right, const uint8_t *separator)
{
	struct inner_slot slots[2 * INNER_SLOTS];
	unsigned count = inner_concatenate(slots, left, right, separator);

	inner_distribute(left, right, slots, count, count, NULL);
}

void inner_balance(uint8_t *left, uint8_t *right, uint8_t *separator)
{
	struct inner_slot slots[2 * INNER_SLOTS];
	unsigned count = inner_concatenate(slots, left, right, separator);

	inner_distribute(left, right, slots, count, count / 2, separator);
}
