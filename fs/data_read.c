/*
 * Reading: the map lies over the tree's extents.
 *
 * A plan is made under the head lock and holds references to all it needs from memory; chunks are
 * named by id.  Filling it reads chunks without any lock.  A chunk that a collection removed
 * meanwhile was no longer part of the file, or the plan is of an older state: -ESTALE, plan again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/data_internal.h"
#include "index/chunk.h"

enum {
	EXTENTS_AT_ONCE = 32,
	READING_AHEAD_MAX = 16, /* chunks on their way */
	FETCH_STEP = 2 << 20,	/* about EXTENTS_AT_ONCE chunks of a stream */
	AHEAD_RUN = 256 * 1024, /* so much must have been read in sequence */
	LARGE_READ = 256 * 1024,
};

/* ---- planning ---- */

struct planner {
	struct read_plan *plan;
	struct tree *tree;
	struct reader *reader;
	uint64_t ino;
	uint64_t position; /* what is planned so far ends here */
};

/* A piece at the present position; false where there is no room for one. */
static bool add_piece(struct planner *planner, int kind, uint64_t length, struct buffer *buffer,
		      uint64_t chunk, uint32_t start)
{
	struct read_plan *plan = planner->plan;

	if (plan->count == READ_PLAN_PIECES)
		return false;
	plan->pieces[plan->count++] = (struct read_piece){
		.kind = kind,
		.length = (uint32_t)length,
		.start = start,
		.buffer = buffer ? buffer_ref(buffer) : NULL,
		.chunk = chunk,
	};
	if (kind == PIECE_CHUNK)
		plan->in_memory = false;
	planner->position += length;
	return true;
}

/* From the tree alone, up to `end`.  Returns 1 where the pieces ran out. */
static int plan_extents(struct planner *planner, uint64_t end)
{
	struct extent extents[EXTENTS_AT_ONCE];

	while (planner->position < end) {
		int count =
			extent_map(planner->tree, planner->reader, planner->ino, planner->position,
				   end - planner->position, extents, EXTENTS_AT_ONCE);
		if (count < 0)
			return count;
		for (int i = 0; i < count; i++) {
			const struct extent *extent = &extents[i];
			uint64_t stop = extent->offset + extent->length;
			if (extent->offset > planner->position &&
			    !add_piece(planner, PIECE_HOLE, extent->offset - planner->position,
				       NULL, 0, 0))
				return 1;
			uint64_t skip = planner->position - extent->offset;
			stop = stop < end ? stop : end;
			if (!add_piece(planner, PIECE_CHUNK, stop - planner->position, NULL,
				       extent->chunk, extent->chunk_offset + (uint32_t)skip))
				return 1;
		}
		if (count < EXTENTS_AT_ONCE && planner->position < end &&
		    !add_piece(planner, PIECE_HOLE, end - planner->position, NULL, 0, 0))
			return 1;
	}
	return 0;
}

/* With the map over it. */
static int plan_map(struct planner *planner, const struct inode *inode, uint64_t end)
{
	struct segment *segment = map_find(&inode->data, planner->position);

	while (segment && segment->offset < end) {
		int full = 0;
		if (segment->offset > planner->position)
			full = plan_extents(planner, segment->offset);
		if (full)
			return full;
		uint64_t skip = planner->position - segment->offset;
		uint64_t stop = segment_end(segment) < end ? segment_end(segment) : end;
		if (!add_piece(planner, PIECE_MEMORY, stop - planner->position, segment->buffer, 0,
			       segment->start + (uint32_t)skip))
			return 1;
		segment = segment_next(segment);
	}
	return plan_extents(planner, end);
}

/* From the inline items, which are zeros behind their end.  -ENOENT: the file has none. */
static int plan_inline(struct planner *planner, uint64_t end)
{
	struct buffer *buffer = buffer_new(planner->plan->engine->pool, SYMLINK_MAX);
	size_t length;
	int error = buffer ? inline_get(planner->tree, planner->reader, planner->ino, buffer->data,
					buffer->capacity, &length)
			   : -ENOMEM;
	if (!error && !length)
		error = -ENOENT;
	if (!error) {
		uint64_t stop = length < end ? length : end;
		if (planner->position < stop)
			add_piece(planner, PIECE_MEMORY, stop - planner->position, buffer, 0,
				  (uint32_t)planner->position);
		if (planner->position < end)
			add_piece(planner, PIECE_HOLE, end - planner->position, NULL, 0, 0);
	}
	buffer_unref(planner->plan->engine->pool, buffer);
	return error;
}

static int plan_range(struct planner *planner, struct inode *inode, uint64_t size, uint64_t end)
{
	bool may_be_inline = inode ? (inode->attr.flags & INODE_INLINE) != 0 : size <= SYMLINK_MAX;

	if (may_be_inline) {
		int error = plan_inline(planner, end);
		if (error != -ENOENT)
			return error;
	}
	return inode ? plan_map(planner, inode, end) : plan_extents(planner, end);
}

/* How far this file has been read in sequence.  Readers share the lock; a lost update costs
 * nothing but some reading ahead. */
static void note_read(struct file_data *data, uint64_t offset, uint64_t end)
{
	uint64_t run = end - offset;

	if (atomic_load_explicit(&data->read_next, memory_order_relaxed) == offset)
		run += atomic_load_explicit(&data->read_run, memory_order_relaxed);
	else
		run = 0;
	run = run < READ_RUN_MAX ? run : READ_RUN_MAX;
	atomic_store_explicit(&data->read_run, (uint32_t)run, memory_order_relaxed);
	atomic_store_explicit(&data->read_next, end, memory_order_relaxed);
}

int data_plan_read(struct engine *engine, struct inode *inode, struct tree *tree,
		   struct reader *reader, uint64_t ino, uint64_t size, uint64_t offset,
		   size_t length, struct read_plan *ret)
{
	ret->engine = engine;
	ret->offset = offset;
	ret->length = 0;
	ret->count = 0;
	ret->in_memory = true;
	if (offset >= size || !length)
		return 0;
	uint64_t end = length < size - offset ? offset + length : size;
	/* Lengths of pieces have 32 bits. */
	if (end - offset > INT32_MAX)
		end = offset + INT32_MAX;
	struct planner planner = {
		.plan = ret,
		.tree = tree,
		.reader = reader,
		.ino = ino,
		.position = offset,
	};

	int error = plan_range(&planner, inode, size, end);
	if (error < 0) {
		data_plan_release(ret);
		return error;
	}
	ret->length = planner.position - offset;
	if (inode)
		note_read(&inode->data, offset, planner.position);
	return 0;
}

void data_plan_release(struct read_plan *plan)
{
	for (int i = 0; i < plan->count; i++)
		buffer_unref(plan->engine->pool, plan->pieces[i].buffer);
	plan->count = 0;
	plan->length = 0;
}

/* ---- filling ---- */

/*
 * A plan is filled in three rounds: what is in memory is copied; all chunks that must be loaded are
 * loaded together, a whole one straight to where it is wanted, any other through the cache, for the
 * next read will want the rest; and at last, when nobody waits for us, those are waited for that
 * another thread loads.
 */
struct filling {
	struct read_plan *plan;
	uint8_t *places[READ_PLAN_PIECES]; /* where each piece is wanted */
	struct chunk_load loads[READ_PLAN_PIECES];
	struct buffer *buffers[READ_PLAN_PIECES]; /* of each load, for the cache; or NULL: whole */
	int pieces[READ_PLAN_PIECES];		  /* that each load is for */
	int load_count;
	int later[READ_PLAN_PIECES]; /* pieces for the third round */
	int later_count;
};

static int check_bounds(const struct read_piece *piece, size_t length, struct errbuf *err)
{
	if ((uint64_t)piece->start + piece->length <= length)
		return 0;
	return err_set(err, -EUCLEAN, "chunk %llu has %zu bytes, an extent wants %llu",
		       (unsigned long long)piece->chunk, length,
		       (unsigned long long)piece->start + piece->length);
}

static int copy_from_chunk(const struct read_piece *piece, const struct buffer *buffer,
			   uint8_t *out, struct errbuf *err)
{
	int error = check_bounds(piece, buffer->used, err);

	if (!error)
		memcpy(out, buffer->data + piece->start, piece->length);
	return error;
}

static void add_load(struct filling *filling, int index, const struct chunk_info *info,
		     struct buffer *buffer)
{
	int i = filling->load_count++;

	filling->pieces[i] = index;
	filling->buffers[i] = buffer;
	filling->loads[i] = (struct chunk_load){
		.id = filling->plan->pieces[index].chunk,
		.info = *info,
		.buffer = buffer ? buffer->data : filling->places[index],
		.capacity = buffer ? buffer->capacity : filling->plan->pieces[index].length,
	};
}

/* A part of a chunk that is not in the cache; we have begun to load it. */
static int load_part(struct filling *filling, int index, const struct chunk_info *info,
		     struct errbuf *err)
{
	struct engine *engine = filling->plan->engine;
	const struct read_piece *piece = &filling->plan->pieces[index];
	struct buffer *buffer = NULL;

	int error = check_bounds(piece, info->raw_length, err);
	if (!error) {
		buffer = buffer_new(engine->pool, info->raw_length);
		error = buffer ? 0 : -ENOMEM;
	}
	if (error) {
		chunk_cache_end(engine->cache, piece->chunk, NULL);
		return error;
	}
	buffer->used = info->raw_length;
	add_load(filling, index, info, buffer);
	return 0;
}

/* A piece of a chunk in the first round. */
static int begin_chunk(struct filling *filling, int index, struct errbuf *err)
{
	struct engine *engine = filling->plan->engine;
	const struct read_piece *piece = &filling->plan->pieces[index];
	struct buffer *buffer;
	struct chunk_info info;

	int error = chunk_info(engine->store, piece->chunk, &info);
	if (error)
		return error == -ENOENT ? -ESTALE : error;
	if (piece->start == 0 && piece->length == info.raw_length &&
	    !chunk_cache_has(engine->cache, piece->chunk)) {
		add_load(filling, index, &info, NULL);
		return 0;
	}
	int begun = chunk_cache_begin(engine->cache, piece->chunk, &buffer);
	if (begun == -EBUSY) {
		filling->later[filling->later_count++] = index;
		return 0;
	}
	if (begun == 0)
		return load_part(filling, index, &info, err);
	if (begun < 0)
		return begun;
	error = copy_from_chunk(piece, buffer, filling->places[index], err);
	buffer_unref(engine->pool, buffer);
	return error;
}

static int begin_pieces(struct filling *filling, uint8_t *out, struct errbuf *err)
{
	struct read_plan *plan = filling->plan;
	int error = 0;

	for (int i = 0; i < plan->count && !error; i++) {
		const struct read_piece *piece = &plan->pieces[i];
		filling->places[i] = out;
		switch (piece->kind) {
		case PIECE_HOLE:
			memset(out, 0, piece->length);
			break;
		case PIECE_MEMORY:
			memcpy(out, piece->buffer->data + piece->start, piece->length);
			break;
		case PIECE_CHUNK:
			error = begin_chunk(filling, i, err);
			break;
		}
		out += piece->length;
	}
	return error;
}

/* The second round; with `error` it only lets go of what was begun. */
static int load_chunks(struct filling *filling, int error, struct errbuf *err)
{
	struct engine *engine = filling->plan->engine;

	if (!error)
		error = chunks_read(engine->store, filling->loads, filling->load_count, err);
	for (int i = 0; i < filling->load_count; i++) {
		struct buffer *buffer = filling->buffers[i];
		int index = filling->pieces[i];
		if (!buffer)
			continue;
		chunk_cache_end(engine->cache, filling->loads[i].id, error ? NULL : buffer);
		if (!error)
			error = copy_from_chunk(&filling->plan->pieces[index], buffer,
						filling->places[index], err);
		buffer_unref(engine->pool, buffer);
	}
	return error;
}

static int fill_later(struct filling *filling, struct errbuf *err)
{
	struct engine *engine = filling->plan->engine;
	int error = 0;

	for (int i = 0; i < filling->later_count && !error; i++) {
		int index = filling->later[i];
		const struct read_piece *piece = &filling->plan->pieces[index];
		struct buffer *buffer;
		error = chunk_cache_get(engine->cache, piece->chunk, &buffer, err);
		if (error)
			break;
		error = copy_from_chunk(piece, buffer, filling->places[index], err);
		buffer_unref(engine->pool, buffer);
	}
	return error;
}

int data_fill(struct read_plan *plan, uint8_t *out, struct errbuf *err)
{
	struct filling filling;

	filling.plan = plan;
	filling.load_count = filling.later_count = 0;
	int error = begin_pieces(&filling, out, err);
	error = load_chunks(&filling, error, err);
	return error ? error : fill_later(&filling, err);
}

/* ---- reading ahead ---- */

struct ahead_job {
	struct job job;
	struct engine *engine;
	uint64_t chunk;
};

/* An error is nobody's business yet: whoever reads the chunk will meet it. */
static void ahead_run(struct job *job)
{
	struct ahead_job *ahead = (struct ahead_job *)job;
	struct engine *engine = ahead->engine;
	struct buffer *buffer = NULL;

	if (!chunk_cache_has(engine->cache, ahead->chunk) &&
	    chunk_cache_get(engine->cache, ahead->chunk, &buffer, NULL) == 0)
		buffer_unref(engine->pool, buffer);
	atomic_fetch_sub(&engine->reading_ahead, 1);
	free(ahead);
}

void data_read_ahead(struct engine *engine, const uint64_t *chunks, int count)
{
	for (int i = 0; i < count; i++) {
		if (chunk_cache_has(engine->cache, chunks[i]))
			continue;
		if (atomic_fetch_add(&engine->reading_ahead, 1) >= READING_AHEAD_MAX) {
			atomic_fetch_sub(&engine->reading_ahead, 1);
			return;
		}
		struct ahead_job *ahead = malloc(sizeof(*ahead));
		if (!ahead) {
			atomic_fetch_sub(&engine->reading_ahead, 1);
			return;
		}
		*ahead = (struct ahead_job){
			.job = {.run = ahead_run}, .engine = engine, .chunk = chunks[i]};
		engine_submit(engine, &ahead->job, false);
	}
}

/* Asks the disk for the packs' bytes of these chunks, so that it has more to do at a time than the
 * workers wait for. */
struct fetch_job {
	struct job job;
	struct engine *engine;
	int count;
	uint64_t chunks[EXTENTS_AT_ONCE];
};

static void fetch_run(struct job *job)
{
	struct fetch_job *fetch = (struct fetch_job *)job;

	chunks_prefetch(fetch->engine->store, fetch->chunks, fetch->count);
	free(fetch);
}

/* The different chunks behind [offset, offset + length), in order. */
static int chunks_of(struct tree *tree, struct reader *reader, uint64_t ino, uint64_t offset,
		     uint64_t length, uint64_t chunks[EXTENTS_AT_ONCE])
{
	struct extent extents[EXTENTS_AT_ONCE];
	int wanted = 0;
	int count = extent_map(tree, reader, ino, offset, length, extents, EXTENTS_AT_ONCE);

	for (int i = 0; i < count; i++)
		if (!wanted || chunks[wanted - 1] != extents[i].chunk)
			chunks[wanted++] = extents[i].chunk;
	return wanted;
}

/* Keeps the disk two steps before the reader. */
static void fetch_ahead(struct engine *engine, struct inode *inode, struct tree *tree,
			struct reader *reader, uint64_t ino, uint64_t end)
{
	uint64_t next = atomic_load_explicit(&inode->data.fetch_next, memory_order_relaxed);

	if (next < end || next > end + 4 * FETCH_STEP)
		next = end;
	if (next >= end + 2 * FETCH_STEP || next >= inode->attr.size)
		return;
	struct fetch_job *fetch = malloc(sizeof(*fetch));
	if (!fetch)
		return;
	atomic_store_explicit(&inode->data.fetch_next, next + FETCH_STEP, memory_order_relaxed);
	fetch->job = (struct job){.run = fetch_run};
	fetch->engine = engine;
	fetch->count = chunks_of(tree, reader, ino, next, FETCH_STEP, fetch->chunks);
	engine_submit(engine, &fetch->job, true);
}

void data_read_ahead_after(struct engine *engine, struct inode *inode, struct tree *tree,
			   struct reader *reader, uint64_t ino, uint64_t end, size_t length)
{
	uint64_t chunks[EXTENTS_AT_ONCE];

	if (!inode || (inode->attr.flags & INODE_INLINE) ||
	    atomic_load_explicit(&inode->data.read_run, memory_order_relaxed) < AHEAD_RUN)
		return;
	fetch_ahead(engine, inode, tree, reader, ino, end);
	/* Who reads in large pieces has the next ones under way already. */
	if (length >= LARGE_READ)
		return;
	int count = chunks_of(tree, reader, ino, end, READ_AHEAD, chunks);
	data_read_ahead(engine, chunks, count);
}

/* ---- seeking ---- */

static int seek_data(struct inode *inode, struct reader *reader, uint64_t offset,
		     uint64_t *ret_offset)
{
	const struct segment *segment = map_find(&inode->data, offset);
	uint64_t best = UINT64_MAX, in_tree;

	if (segment)
		best = segment->offset > offset ? segment->offset : offset;
	int error = extent_seek_data(head_tree(inode->table->head), reader, inode->ino, offset,
				     &in_tree);
	if (error && error != -ENXIO)
		return error;
	if (!error && in_tree < best)
		best = in_tree;
	if (best >= inode->attr.size)
		return -ENXIO;
	*ret_offset = best;
	return 0;
}

static int seek_hole(struct inode *inode, struct reader *reader, uint64_t offset,
		     uint64_t *ret_offset)
{
	uint64_t size = inode->attr.size, position = offset;

	while (position < size) {
		const struct segment *segment = map_find(&inode->data, position);
		if (segment && segment->offset <= position) {
			position = segment_end(segment);
			continue;
		}
		uint64_t hole;
		int error = extent_seek_hole(head_tree(inode->table->head), reader, inode->ino,
					     position, &hole);
		if (error)
			return error;
		if (hole == position)
			break;
		/* The map may go on with data before the extents end, which changes nothing. */
		position = hole;
	}
	*ret_offset = position < size ? position : size;
	return 0;
}

int data_seek(struct inode *inode, struct reader *reader, uint64_t offset, int whence,
	      uint64_t *ret_offset)
{
	if (offset >= inode->attr.size)
		return -ENXIO;
	if (inode->attr.flags & INODE_INLINE) {
		*ret_offset = whence == SEEK_DATA ? offset : inode->attr.size;
		return 0;
	}
	if (whence == SEEK_DATA)
		return seek_data(inode, reader, offset, ret_offset);
	if (whence == SEEK_HOLE)
		return seek_hole(inode, reader, offset, ret_offset);
	return -EINVAL;
}
