/* Operations on the contents of files. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "bytes.h"

/* ---- reading ---- */

/* What read() of `length` bytes at `offset` must return. */
static size_t readable(const struct file *file, size_t offset, size_t length)
{
	size_t size = file->image.size;

	if (offset >= size)
		return 0;
	return length < size - offset ? length : size - offset;
}

static void check_read(struct world *world, const struct file *file, const char *what,
		       size_t offset, size_t length, ssize_t got)
{
	size_t wanted = readable(file, offset, length);

	if (got < 0 || (size_t)got != wanted)
		fail(world, "%s(f%d, %zu bytes at %zu): %zd, not %zu; the size is %zu", what,
		     file->slot, length, offset, got, wanted, file->image.size);
	compare(world, file, &file->image, what, offset, world->buffer, wanted);
}

void op_read(struct world *world, struct file *file)
{
	size_t from = choose_offset(world, file, file->limit);
	size_t length = choose_length(world, file->limit);
	int fd = file_fd(world, file);

	trace(world, file, from, from + length, "read");
	if (rng_chance(&world->rng, 30)) {
		if (lseek(fd, (off_t)from, SEEK_SET) != (off_t)from)
			fail(world, "lseek(f%d, %zu)", file->slot, from);
		check_read(world, file, "read", from, length, read(fd, world->buffer, length));
	} else {
		check_read(world, file, "pread", from, length,
			   pread(fd, world->buffer, length, (off_t)from));
	}
}

static size_t round_up(size_t value)
{
	return (value + PAGE - 1) / PAGE * PAGE;
}

void op_direct_read(struct world *world, struct file *file)
{
	size_t from = choose_offset(world, file, file->limit) / PAGE * PAGE;
	size_t length = round_up(choose_length(world, file->limit));

	trace(world, file, from, from + length, "direct read");
	int fd = file_open(world, file, O_RDONLY | O_DIRECT);
	check_read(world, file, "direct read", from, length,
		   pread(fd, world->buffer, length, (off_t)from));
	close(fd);
}

void op_map_read(struct world *world, struct file *file)
{
	size_t from, length;
	int fd = file_fd(world, file);

	if (!choose_present(world, file, &from, &length))
		return;
	int kind = rng_chance(&world->rng, 50) ? MAP_SHARED : MAP_PRIVATE;
	size_t lead = from % PAGE;
	trace(world, file, from, from + length, "mapped read");
	uint8_t *map = mmap(NULL, lead + length, PROT_READ, kind, fd, (off_t)(from - lead));
	if (map == MAP_FAILED)
		fail(world, "mmap(f%d)", file->slot);
	compare(world, file, &file->image, "mapped read", from, map + lead, length);
	size_t end = lead + length;
	if (from + length == file->image.size && !is_zero(map + end, round_up(end) - end) &&
	    !file->mapping.at)
		fail(world, "f%d: something behind the end in its last page", file->slot);
	munmap(map, lead + length);
}

/* ---- writing ---- */

static void written(struct world *world, struct file *file, size_t from, size_t length,
		    ssize_t done, const char *what)
{
	if (done < 0 || (size_t)done != length)
		fail(world, "%s(f%d, %zu bytes at %zu): %zd", what, file->slot, length, from, done);
	image_write(&file->image, from, world->buffer, length);
	file_changed(file, from, from + length);
}

void op_write(struct world *world, struct file *file)
{
	size_t from, length;
	ssize_t done;
	int fd = file_fd(world, file);

	choose_range(world, file, &from, &length);
	choose_contents(world, world->buffer, length);
	trace(world, file, from, from + length, "write");
	if (rng_chance(&world->rng, 30)) {
		if (lseek(fd, (off_t)from, SEEK_SET) != (off_t)from)
			fail(world, "lseek(f%d, %zu)", file->slot, from);
		done = write(fd, world->buffer, length);
	} else {
		done = pwrite(fd, world->buffer, length, (off_t)from);
	}
	written(world, file, from, length, done, "write");
}

void op_writev(struct world *world, struct file *file)
{
	enum { PIECES = 5 };
	struct iovec pieces[PIECES];
	size_t from, length, done = 0;
	int fd = file_fd(world, file);

	choose_range(world, file, &from, &length);
	choose_contents(world, world->buffer, length);
	for (int i = 0; i < PIECES; i++) {
		size_t piece =
			i == PIECES - 1 ? length - done : rng_below(&world->rng, length - done + 1);
		pieces[i] = (struct iovec){world->buffer + done, piece};
		done += piece;
	}
	trace(world, file, from, from + length, "writev");
	written(world, file, from, length, pwritev(fd, pieces, PIECES, (off_t)from), "pwritev");
}

void op_append(struct world *world, struct file *file)
{
	int fd = file_open(world, file, O_WRONLY | O_APPEND);
	size_t size = file->image.size;

	if (size < file->limit) {
		size_t length = choose_length(world, file->limit - size);
		choose_contents(world, world->buffer, length);
		trace(world, file, size, size + length, "append");
		written(world, file, size, length, write(fd, world->buffer, length), "append");
	}
	if (close(fd))
		fail(world, "close() after append");
}

void op_direct_write(struct world *world, struct file *file)
{
	size_t from, length;

	if (file->limit < 2 * PAGE)
		return;
	choose_range(world, file, &from, &length);
	from = from / PAGE * PAGE;
	length = round_up(length);
	if (from + length > file->limit / PAGE * PAGE)
		length = file->limit / PAGE * PAGE - from;
	if (!length || from >= file->limit / PAGE * PAGE)
		return;
	choose_contents(world, world->buffer, length);
	trace(world, file, from, from + length, "direct write");
	int fd = file_open(world, file, O_WRONLY | O_DIRECT);
	written(world, file, from, length, pwrite(fd, world->buffer, length, (off_t)from),
		"direct write");
	if (close(fd))
		fail(world, "close() after a direct write");
}

/* Long sequential writes past the page cache, twice over the same place: the first ones are being
 * stored when the second ones come. */
void op_stream(struct world *world, struct file *file)
{
	size_t from = rng_below(&world->rng, 3) * PAGE, end = file->limit / PAGE * PAGE;

	if (end < (1 << 20))
		return;
	int fd = file_open(world, file, O_WRONLY | O_DIRECT);
	for (int pass = 0; pass < 2; pass++) {
		trace(world, file, from, end, "stream");
		for (size_t at = from; at < end;) {
			size_t length = PAGE * (1 + rng_below(&world->rng, 128));
			length = length < end - at ? length : end - at;
			choose_contents(world, world->buffer, length);
			written(world, file, at, length,
				pwrite(fd, world->buffer, length, (off_t)at), "stream");
			at += length;
		}
		from += PAGE * rng_below(&world->rng, 100);
	}
	if (close(fd))
		fail(world, "close() after a stream");
}

void op_map_write(struct world *world, struct file *file)
{
	size_t from, length;
	int fd = file_fd(world, file);

	if (!choose_present(world, file, &from, &length))
		return;
	size_t lead = from % PAGE;
	int sync = (int)rng_below(&world->rng, 4);
	trace(world, file, from, from + length, "mapped write%s",
	      sync == 0	  ? " with msync"
	      : sync == 1 ? " with msync(MS_ASYNC)"
			  : "");
	uint8_t *map = mmap(NULL, lead + length, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			    (off_t)(from - lead));
	if (map == MAP_FAILED)
		fail(world, "mmap(f%d)", file->slot);
	choose_contents(world, world->buffer, length);
	memcpy(map + lead, world->buffer, length);
	if (sync < 2 && msync(map, lead + length, sync ? MS_ASYNC : MS_SYNC))
		fail(world, "msync(f%d)", file->slot);
	if (munmap(map, lead + length))
		fail(world, "munmap(f%d)", file->slot);
	written(world, file, from, length, (ssize_t)length, "mapped write");
}

static void mapping_make(struct world *world, struct file *file)
{
	enum { MAPPING_MAX = 64 * PAGE };
	struct mapping *mapping = &file->mapping;
	size_t from, length;
	int fd = file_fd(world, file);

	if (!choose_present(world, file, &from, &length))
		return;
	mapping->from = from / PAGE * PAGE;
	mapping->length = from - mapping->from + length;
	if (mapping->length > MAPPING_MAX)
		mapping->length = MAPPING_MAX;
	trace(world, file, mapping->from, mapping->from + mapping->length, "mapping made");
	void *at = mmap(NULL, mapping->length, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			(off_t)mapping->from);
	if (at == MAP_FAILED)
		fail(world, "mmap(f%d)", file->slot);
	mapping->at = at;
}

/* A mapping that stays, through which is read and written while other things happen to the file. */
void op_mapping(struct world *world, struct file *file)
{
	struct mapping *mapping = &file->mapping;

	if (!mapping->at)
		return mapping_make(world, file);
	if (rng_chance(&world->rng, 5)) {
		trace(world, file, mapping->from, mapping->from + mapping->length, "mapping gone");
		return file_unmap(world, file);
	}
	if (mapping->from >= file->image.size)
		return;
	size_t most = file->image.size - mapping->from;
	size_t skip = rng_below(&world->rng, most < mapping->length ? most : mapping->length);
	most = (most < mapping->length ? most : mapping->length) - skip;
	size_t from = mapping->from + skip, length = choose_length(world, most);
	if (rng_chance(&world->rng, 40)) {
		trace(world, file, from, from + length, "read through the mapping");
		compare(world, file, &file->image, "mapping", from, mapping->at + skip, length);
		return;
	}
	choose_contents(world, world->buffer, length);
	trace(world, file, from, from + length, "write through the mapping");
	memcpy(mapping->at + skip, world->buffer, length);
	written(world, file, from, length, (ssize_t)length, "mapping");
}

/* ---- sizes and holes ---- */

void op_truncate(struct world *world, struct file *file)
{
	char path[4096];
	size_t old = file->image.size;
	int fd = file_fd(world, file);
	size_t size = rng_chance(&world->rng, 10) ? 0 : choose_offset(world, file, file->limit);
	bool by_name = file->slot >= 0 && rng_chance(&world->rng, 20);

	trace(world, file, size < old ? size : old, SIZE_MAX, "truncate from %zu to %zu", old,
	      size);
	file_path(world, file->slot, path);
	if (by_name ? truncate(path, (off_t)size) : ftruncate(fd, (off_t)size))
		fail(world, "truncate(f%d, %zu)", file->slot, size);
	image_resize(&file->image, size);
	file_changed(file, size < old ? size : old, SIZE_MAX);
	if (size < old)
		file->allocated = false;
}

static void allocate(struct world *world, struct file *file, int mode, const char *what)
{
	size_t from, length;
	int fd = file_fd(world, file);

	choose_range(world, file, &from, &length);
	trace(world, file, from, from + length, "%s", what);
	if (fallocate(fd, mode, (off_t)from, (off_t)length))
		fail(world, "%s(f%d, %zu, %zu)", what, file->slot, from, length);
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		image_zero(&file->image, from, length);
	if (!(mode & FALLOC_FL_KEEP_SIZE) && from + length > file->image.size) {
		file_changed(file, file->image.size, SIZE_MAX);
		image_resize(&file->image, from + length);
	}
	if (!(mode & FALLOC_FL_PUNCH_HOLE))
		file->allocated = true;
	file_changed(file, from, from + length);
}

void op_punch(struct world *world, struct file *file)
{
	allocate(world, file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, "punch");
}

void op_zero(struct world *world, struct file *file)
{
	if (rng_chance(&world->rng, 50))
		allocate(world, file, FALLOC_FL_ZERO_RANGE, "zero range");
	else
		allocate(world, file, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
			 "zero range, same size");
}

void op_allocate(struct world *world, struct file *file)
{
	if (rng_chance(&world->rng, 50))
		allocate(world, file, 0, "allocate");
	else
		allocate(world, file, FALLOC_FL_KEEP_SIZE, "allocate, same size");
}

static off_t seek_data(struct world *world, const struct file *file, int fd, off_t position)
{
	const struct image *image = &file->image;
	off_t size = (off_t)image->size;
	off_t data = lseek(fd, position, SEEK_DATA);

	if (data < 0 && errno != ENXIO)
		fail(world, "lseek(f%d, %lld, SEEK_DATA)", file->slot, (long long)position);
	off_t end = data < 0 ? size : data;
	if (end < position || end > size || data == size)
		fail(world, "f%d, size %lld: data after %lld is at %lld", file->slot,
		     (long long)size, (long long)position, (long long)data);
	if (!is_zero(image->bytes + position, (size_t)(end - position)))
		fail(world, "f%d, size %lld: [%lld, %lld) is called a hole", file->slot,
		     (long long)size, (long long)position, (long long)end);
	return end;
}

/* A hole must read as zeros, and nothing else may be called one.  Data that is all zero may become
 * a hole at any time. */
void op_seek(struct world *world, struct file *file)
{
	const struct image *image = &file->image;
	int fd = file_fd(world, file);
	off_t position = (off_t)choose_offset(world, file, image->size), size = (off_t)image->size;

	trace(world, file, (size_t)position, image->size, "seek");
	errno = 0;
	if (lseek(fd, size, SEEK_DATA) >= 0 || errno != ENXIO)
		fail(world, "lseek(f%d, its size, SEEK_DATA)", file->slot);
	while (position < size) {
		off_t data = position = seek_data(world, file, fd, position);
		if (data == size)
			return;
		position = lseek(fd, data, SEEK_HOLE);
		if (position < data || position > size || (position == data && image->bytes[data]))
			fail(world, "f%d, size %lld: the hole after %lld is at %lld", file->slot,
			     (long long)size, (long long)data, (long long)position);
	}
}

/* ---- copying ---- */

/* Copies what the source's image has there; the source may be the file itself. */
static void copy(struct world *world, struct file *file, size_t to, int source_fd,
		 const struct image *source, size_t from, size_t length)
{
	loff_t in = (loff_t)from, out = (loff_t)to;
	size_t most = from < source->size ? source->size - from : 0, done = 0;
	size_t wanted = length < most ? length : most;
	int fd = file_fd(world, file);

	do { /* no further: of the same file there may be more by now */
		ssize_t count =
			copy_file_range(source_fd, &in, fd, &out, done ? wanted - done : length, 0);
		if (count < 0)
			fail(world, "copy_file_range(f%d)", file->slot);
		if (!count)
			break;
		done += (size_t)count;
	} while (done < wanted);
	if (done != wanted)
		fail(world, "copy_file_range(f%d): %zu bytes, not %zu", file->slot, done, wanted);
	if (!wanted)
		return;
	memcpy(world->buffer, source->bytes + from, wanted);
	image_write(&file->image, to, world->buffer, wanted);
	file_changed(file, to, to + wanted);
}

void op_copy(struct world *world, struct file *file)
{
	struct file *source = &world->files[rng_below(&world->rng, (size_t)world->file_count)];
	size_t to, length;
	int source_fd = file_fd(world, source);

	file_fd(world, file);
	choose_range(world, file, &to, &length);
	size_t from = choose_offset(world, source, source->image.size);
	if (source == file) {
		size_t apart = from < to ? to - from : from - to;
		length = length < apart ? length : apart;
	}
	if (!length)
		return;
	trace(world, file, to, to + length, "copy from f%d at %zu", source->slot, from);
	copy(world, file, to, source_fd, &source->image, from, length);
}

void op_copy_from_point(struct world *world, struct file *file)
{
	struct point *point = &world->points[rng_below(&world->rng, POINTS)];
	int slot = (int)rng_below(&world->rng, (size_t)world->file_count);
	struct image *source = &point->images[slot];
	char path[4096];
	size_t to, length;

	if (!point->name[0] || !point->linked[slot])
		return;
	file_fd(world, file);
	choose_range(world, file, &to, &length);
	size_t from = rng_below(&world->rng, source->size + 1);
	if (rng_chance(&world->rng, 50))
		from = from / PAGE * PAGE;
	trace(world, file, to, to + length, "copy from f%d of %s at %zu", slot, point->name, from);
	point_path(world, point, slot, path);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fail(world, "open(%s)", path);
	copy(world, file, to, fd, source, from, length);
	close(fd);
}
