#include "snapshot/order.h"

#include <errno.h>

#include "index/chunk.h"
#include "snapshot/extent.h"
#include "snapshot/tree.h"

enum {
	WINDOW = 256,		/* extents judged, and moved, together */
	GAP_MAX = 4096,		/* between two records that are still read with one call */
	PIECE_MIN = 128 * 1024, /* a window that is in pieces smaller than this is scattered */
	PIECES_MIN = 4,
	RECENT = 16, /* chunks remembered: extents around a change refer to one chunk twice */
};

struct window {
	struct extent extents[WINDOW];
	int extent_count;
	uint64_t ids[WINDOW]; /* the chunks, each once */
	int count;
};

/* The extents at `offset`, read under the head's lock; `extent_count` 0 at the end. */
static int window_map(struct head *head, uint64_t ino, uint64_t offset, struct window *window)
{
	struct reader *reader;
	int r;

	head_lock_shared(head);
	r = reader_acquire(repo_store(head_repo(head)), &reader);
	if (r == 0) {
		r = extent_map(head_tree(head), reader, ino, offset, INT64_MAX - offset,
			       window->extents, WINDOW);
		reader_release(reader);
	}
	head_unlock(head);
	window->extent_count = r > 0 ? r : 0;
	return r < 0 ? r : 0;
}

static void window_list_chunks(struct window *window)
{
	window->count = 0;
	for (int i = 0; i < window->extent_count; i++) {
		uint64_t id = window->extents[i].chunk;
		int first = window->count > RECENT ? window->count - RECENT : 0;
		int j = window->count - 1;

		while (j >= first && window->ids[j] != id)
			j--;
		if (j < first)
			window->ids[window->count++] = id;
	}
}

/* Whether it takes many small reads.  Chunks that cannot be looked up are left for who reads them.
 */
static bool window_is_scattered(struct store *store, const struct window *window)
{
	uint64_t bytes = 0, end = 0, pack = 0;
	unsigned pieces = 0;
	struct chunk_info info;

	for (int i = 0; i < window->count; i++) {
		if (chunk_info(store, window->ids[i], &info) < 0)
			continue;
		pieces += !pieces || info.pack != pack || info.offset < end ||
			  info.offset - end > GAP_MAX;
		bytes += chunk_record_bytes(&info);
		pack = info.pack;
		end = info.offset + chunk_record_bytes(&info);
	}
	return pieces >= PIECES_MIN && bytes / pieces < PIECE_MIN;
}

static int window_move(const struct window *window, struct relocation *relocation,
		       struct order_result *result)
{
	int r = 0;

	for (int i = 0; i < window->count && r == 0; i++)
		r = relocation_add(relocation, window->ids[i], true);
	if (r == 0)
		result->chunks += (uint64_t)window->count;
	return r;
}

int order_file(struct head *head, uint64_t ino, struct relocation *relocation, order_stop *stop,
	       void *context, struct order_result *result)
{
	struct store *store = repo_store(head_repo(head));
	struct window window;
	uint64_t offset = 0;

	result->files++;
	for (;;) {
		int r = window_map(head, ino, offset, &window);

		if (r < 0 || window.extent_count < PIECES_MIN)
			return r;
		window_list_chunks(&window);
		if (window_is_scattered(store, &window))
			r = window_move(&window, relocation, result);
		if (r < 0 || window.extent_count < WINDOW || (stop && stop(context)))
			return r;
		const struct extent *last = &window.extents[window.extent_count - 1];
		offset = last->offset + last->length;
	}
}

/* The first inode from `*ino` on that has an extent; -ENOENT. */
static int next_with_extents(struct head *head, uint64_t *ino)
{
	struct tree_key key = {.ino = *ino, .type = ITEM_EXTENT};
	struct tree_cursor cursor;
	struct tree_item item;
	struct reader *reader;
	int r;

	head_lock_shared(head);
	r = reader_acquire(repo_store(head_repo(head)), &reader);
	if (r == 0) {
		/* Each step leads to an extent, or to the next inode. */
		while ((r = tree_seek(head_tree(head), reader, &key, &cursor, &item)) == 0 &&
		       item.key.type != ITEM_EXTENT) {
			if (item.key.ino > key.ino && item.key.type < ITEM_EXTENT)
				key.ino = item.key.ino;
			else
				key.ino = item.key.ino + 1;
		}
		reader_release(reader);
	}
	head_unlock(head);
	if (r == 0)
		*ino = item.key.ino;
	return r;
}

int order_all(struct head *head, uint64_t *position, struct relocation *relocation,
	      order_stop *stop, void *context, struct order_result *result)
{
	uint64_t ino = *position;

	for (;;) {
		int r = next_with_extents(head, &ino);

		if (r == -ENOENT) {
			*position = 0;
			return 0;
		}
		if (r == 0)
			r = order_file(head, ino, relocation, stop, context, result);
		if (r < 0)
			return r;
		ino++;
		if (stop && stop(context)) {
			*position = ino;
			return 0;
		}
	}
}
