/*
 * Owners of nodes and chunks: 0 nobody yet, SHARED more than one, else number of the owner.
 *
 *     nobody ──(an owner reaches it)──> owned ──(another one does)──> shared
 *
 * What lies below a shared node is shared, and below a node of one owner there is nothing without
 * owner.  So a walk may turn back at a shared node and at one of its own.
 */
#include "snapshot/usage.h"

#include <errno.h>
#include <stdlib.h>

#include "index/util/u64map.h"
#include "snapshot/item.h"
#include "snapshot/repo_internal.h"
#include "snapshot/roots_internal.h"

/* ---- owners of ids ---- */

enum { PAGE_IDS = 4096, SHARED = 1, HEADS = 2, FIRST_POINT = 3 };

/* Ids are dense where they live at all: pages of owners, made when first touched. */
struct owners {
	struct u64map pages; /* (id / PAGE_IDS + 1) -> owned page */
};

static void owners_release(struct owners *owners)
{
	struct u64map_entry *entry;
	size_t position = 0;
	while ((entry = u64map_next(&owners->pages, &position)))
		free(entry->value);
	u64map_release(&owners->pages);
}

static uint32_t *owners_page(struct owners *owners, uint64_t id)
{
	uint64_t key = id / PAGE_IDS + 1;
	uint32_t *page = u64map_get(&owners->pages, key);
	if (page)
		return page;
	page = calloc(PAGE_IDS, sizeof(*page));
	if (page && u64map_put(&owners->pages, key, page)) {
		free(page);
		return NULL;
	}
	return page;
}

/* 1: it changed hands, 0: nothing new, or -ENOMEM. */
static int owners_claim(struct owners *owners, uint64_t id, uint32_t owner)
{
	uint32_t *page = owners_page(owners, id);
	if (!page)
		return -ENOMEM;
	uint32_t *now = &page[id % PAGE_IDS];
	if (*now == SHARED || *now == owner)
		return 0;
	*now = *now ? SHARED : owner;
	return 1;
}

/* ---- measuring ---- */

struct measuring {
	struct repo *repo;
	struct reader *reader; /* owned */
	struct root *roots;    /* owned */
	size_t root_count;
	size_t first_point; /* heads come before it */
	collect_progress *progress;
	void *context;

	struct owners nodes, chunks; /* owned */
	uint32_t owner;		     /* whose walk it is */
};

static int measuring_begin(struct measuring *measuring)
{
	struct repo *repo = measuring->repo;
	int error = store_is_read_only(repo->store) ? 0 : repo_commit(repo);
	if (!error)
		error = reader_acquire(repo->store, &measuring->reader);
	if (!error)
		error = roots_read(measuring->reader, &measuring->roots, &measuring->root_count);
	while (!error && measuring->first_point < measuring->root_count &&
	       !measuring->roots[measuring->first_point].point)
		measuring->first_point++;
	return error;
}

static void measuring_end(struct measuring *measuring)
{
	measuring->reader = reader_release(measuring->reader);
	free(measuring->roots);
	owners_release(&measuring->nodes);
	owners_release(&measuring->chunks);
}

static int step(struct measuring *measuring, size_t done)
{
	return measuring->progress && measuring->progress("mark", done, measuring->root_count,
							  measuring->context)
		       ? -EINTR
		       : 0;
}

static int claim_node(uint64_t node, void *context)
{
	struct measuring *measuring = context;
	return owners_claim(&measuring->nodes, node, measuring->owner);
}

static int claim_chunk(uint64_t chunk, void *context)
{
	struct measuring *measuring = context;
	int claimed = owners_claim(&measuring->chunks, chunk, measuring->owner);
	return claimed < 0 ? claimed : 0;
}

static int claim_item(const struct tree_item *item, void *context)
{
	return item_chunks(item, claim_chunk, context);
}

static int claim_root(struct measuring *measuring, const struct root *root)
{
	struct store *store = measuring->repo->store;
	int error =
		tree_walk(store, measuring->reader, root->root, claim_node, claim_item, measuring);
	if (!error)
		error = tree_walk(store, measuring->reader, root->digest, claim_node, NULL,
				  measuring);
	return error;
}

static int claim_all(struct measuring *measuring)
{
	int error = 0;
	for (size_t i = 0; !error && i < measuring->root_count; i++) {
		error = step(measuring, i);
		measuring->owner = i < measuring->first_point
					   ? HEADS
					   : FIRST_POINT + (uint32_t)(i - measuring->first_point);
		if (!error)
			error = claim_root(measuring, &measuring->roots[i]);
	}
	return error;
}

static void account(struct usage *usage, uint32_t owner, uint64_t bytes, bool is_node)
{
	if (owner == SHARED) {
		usage->shared_bytes += bytes;
	} else if (owner == HEADS) {
		usage->head_bytes += bytes;
	} else {
		struct usage_point *point = &usage->points[owner - FIRST_POINT];
		point->exclusive_bytes += bytes;
		point->exclusive_nodes += is_node;
		point->exclusive_chunks += !is_node;
	}
}

/* What the index does not know, or only damaged, frees nothing. */
static uint64_t chunk_bytes(struct reader *reader, uint64_t chunk, uint64_t *ret_raw)
{
	struct chunk_info info;
	if (reader_chunk(reader, chunk, &info))
		return 0;
	if (ret_raw)
		*ret_raw = info.raw_length;
	return chunk_record_bytes(&info);
}

static void sum_up(struct measuring *measuring, struct owners *owners, bool is_node,
		   struct usage *usage)
{
	struct u64map_entry *entry;
	size_t position = 0;
	while ((entry = u64map_next(&owners->pages, &position))) {
		const uint32_t *page = entry->value;
		for (size_t i = 0; i < PAGE_IDS; i++) {
			uint64_t id = (entry->key - 1) * PAGE_IDS + i, bytes = USAGE_NODE_BYTES;
			if (page[i] && !is_node)
				bytes = chunk_bytes(measuring->reader, id, NULL);
			if (page[i] && bytes)
				account(usage, page[i], bytes, is_node);
		}
	}
}

static int usage_sum(struct measuring *measuring, struct usage *ret)
{
	size_t count = measuring->root_count - measuring->first_point;
	struct usage usage = {.count = count};
	usage.points = calloc(count + 1, sizeof(usage.points[0]));
	if (!usage.points)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		usage.points[i].point = measuring->roots[measuring->first_point + i].point;
	sum_up(measuring, &measuring->nodes, true, &usage);
	sum_up(measuring, &measuring->chunks, false, &usage);
	*ret = usage;
	return 0;
}

int usage_measure(struct repo *repo, collect_progress *progress, void *context, struct usage *ret)
{
	struct measuring measuring = {.repo = repo, .progress = progress, .context = context};
	int error = measuring_begin(&measuring);
	if (!error)
		error = claim_all(&measuring);
	if (!error)
		error = usage_sum(&measuring, ret);
	measuring_end(&measuring);
	return error;
}

void usage_release(struct usage *usage)
{
	free(usage->points);
	*usage = (struct usage){0};
}

const struct usage_point *usage_of(const struct usage *usage, uint64_t point)
{
	size_t low = 0, high = usage->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (usage->points[middle].point < point)
			low = middle + 1;
		else
			high = middle;
	}
	return low < usage->count && usage->points[low].point == point ? &usage->points[low] : NULL;
}

/* ---- sets of points ---- */

/* What marking adds to what is marked already. */
struct adding {
	struct reader *reader;
	struct idset nodes, chunks; /* owned */
	struct sweep_result added;
	bool count;
};

static void adding_release(struct adding *adding)
{
	idset_release(&adding->nodes);
	idset_release(&adding->chunks);
}

static int add_node(uint64_t node, void *context)
{
	struct adding *adding = context;
	int added = idset_add(&adding->nodes, node);
	if (added > 0 && adding->count)
		adding->added.nodes++;
	return added;
}

static int add_chunk(uint64_t chunk, void *context)
{
	struct adding *adding = context;
	uint64_t raw = 0;
	int added = idset_add(&adding->chunks, chunk);
	if (added <= 0 || !adding->count)
		return added < 0 ? added : 0;
	uint64_t bytes = chunk_bytes(adding->reader, chunk, &raw);
	adding->added.chunks += bytes != 0;
	adding->added.raw_bytes += raw;
	adding->added.stored_bytes += bytes;
	return 0;
}

static int add_item(const struct tree_item *item, void *context)
{
	return item_chunks(item, add_chunk, context);
}

static int add_root(struct store *store, struct adding *adding, const struct root *root)
{
	int error = tree_walk(store, adding->reader, root->root, add_node, add_item, adding);
	if (!error)
		error = tree_walk(store, adding->reader, root->digest, add_node, NULL, adding);
	return error;
}

/* Only the roots that are in the set, or only those that are not. */
static int add_roots(struct measuring *measuring, struct adding *adding, const struct idset *set,
		     bool in_set)
{
	int error = 0;
	adding->count = in_set;
	for (size_t i = 0; !error && i < measuring->root_count; i++) {
		const struct root *root = &measuring->roots[i];
		if ((root->point && idset_has(set, root->point)) != in_set)
			continue;
		error = step(measuring, i);
		if (!error)
			error = add_root(measuring->repo->store, adding, root);
	}
	return error;
}

int usage_of_set(struct repo *repo, const uint64_t *points, size_t count,
		 collect_progress *progress, void *context, struct sweep_result *ret)
{
	struct measuring measuring = {.repo = repo, .progress = progress, .context = context};
	struct adding adding = {.nodes = IDSET_INIT, .chunks = IDSET_INIT};
	struct idset set = IDSET_INIT;
	int error = 0;
	for (size_t i = 0; i < count && error >= 0; i++)
		error = idset_add(&set, points[i]);
	error = error < 0 ? error : measuring_begin(&measuring);
	adding.reader = measuring.reader;
	if (!error)
		error = add_roots(&measuring, &adding, &set, false);
	if (!error)
		error = add_roots(&measuring, &adding, &set, true);
	if (!error)
		*ret = adding.added;
	idset_release(&set);
	adding_release(&adding);
	measuring_end(&measuring);
	return error;
}

int usage_reachable(struct repo *repo, const struct point *point, uint64_t *ret_bytes)
{
	const struct root root = {
		.point = point->id,
		.root = point->root,
		.digest = point->digest.known ? point->digest.root : 0,
	};
	struct adding adding = {.nodes = IDSET_INIT, .chunks = IDSET_INIT, .count = true};
	int error = reader_acquire(repo->store, &adding.reader);
	if (error)
		return error;
	/* Where the point went meanwhile, its nodes may have gone too. */
	error = point_exists(adding.reader, point->id);
	if (!error)
		error = add_root(repo->store, &adding, &root);
	if (!error)
		*ret_bytes = adding.added.stored_bytes + adding.added.nodes * USAGE_NODE_BYTES;
	adding.reader = reader_release(adding.reader);
	adding_release(&adding);
	return error;
}
