/* Operations on names, handles and attributes. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bytes.h"

/* An fsync of one file makes all names durable as they are, and of the others' contents what has
 * reached the file system: close(2) has brought in everything. */
static void others_synced(struct world *world)
{
	for (int i = 0; i < world->file_count; i++) {
		world->files[i].name_changed = false;
		if (world->files[i].fd < 0)
			file_synced(&world->files[i]);
	}
}

void op_sync(struct world *world, struct file *file)
{
	int fd = file_fd(world, file);
	bool whole = rng_chance(&world->rng, 60);

	if (rng_chance(&world->rng, 15)) {
		trace(world, file, 0, 0, "syncfs");
		if (syncfs(fd))
			fail(world, "syncfs()");
		return; /* on FUSE it starts writing, and does not wait */
	}
	trace(world, file, 0, 0, whole ? "fsync" : "fdatasync");
	if (whole ? fsync(fd) : fdatasync(fd))
		fail(world, "fsync(f%d)", file->slot);
	file_synced(file);
	others_synced(world);
}

void op_reopen(struct world *world, struct file *file)
{
	if (file->slot < 0)
		return;
	trace(world, file, 0, 0, "reopen");
	file_close(world, file);
	if (rng_chance(&world->rng, 10) && file->linked) {
		trace(world, file, 0, SIZE_MAX, "open with O_TRUNC");
		file->fd = file_open(world, file, O_RDWR | O_TRUNC);
		image_resize(&file->image, 0);
		file->allocated = false;
		file_changed(file, 0, SIZE_MAX);
	}
}

void op_recreate(struct world *world, struct file *file)
{
	char path[4096];

	if (file->slot < 0 || !file->linked)
		return;
	trace(world, file, 0, SIZE_MAX, "unlink");
	file_path(world, file->slot, path);
	if (unlink(path))
		fail(world, "unlink(f%d)", file->slot);
	file_drop(world, file);
	if (rng_chance(&world->rng, 70))
		op_write(world, file);
}

/* `file` takes the name of `target`, whose own file goes. */
static void take_name(struct world *world, struct file *file, struct file *target)
{
	struct image image;

	file_drop(world, target);
	image = target->image;
	target->image = file->image;
	target->fd = file->fd;
	target->mapping = file->mapping;
	target->allocated = file->allocated;
	target->linked = true;
	file->image = image;
	file->fd = -1;
	file->mapping.at = NULL;
	file->linked = file->allocated = false;
	file->name_changed = true;
	file_changed(file, 0, SIZE_MAX);
}

void op_rename(struct world *world, struct file *file)
{
	struct file *target = &world->files[rng_below(&world->rng, (size_t)world->file_count)];
	char from[4096], to[4096];

	if (file->slot < 0 || !file->linked || target == file || file->image.size > target->limit)
		return;
	trace(world, file, 0, SIZE_MAX, "rename to f%d", target->slot);
	trace(world, target, 0, SIZE_MAX, "rename from f%d", file->slot);
	file_path(world, file->slot, from);
	file_path(world, target->slot, to);
	if (rename(from, to))
		fail(world, "rename(f%d, f%d)", file->slot, target->slot);
	take_name(world, file, target);
}

/* As editors save: a new file, renamed over the old one. */
void op_replace(struct world *world, struct file *file)
{
	char fresh[4096 + 8], path[4096];
	size_t length = rng_chance(&world->rng, 10) ? 0 : choose_length(world, file->limit);

	if (file->slot < 0)
		return;
	trace(world, file, 0, SIZE_MAX, "replace with %zu bytes", length);
	file_path(world, file->slot, path);
	snprintf(fresh, sizeof(fresh), "%s.new", path);
	int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		fail(world, "open(%s)", fresh);
	if (length)
		choose_contents(world, world->buffer, length);
	if (write(fd, world->buffer, length) != (ssize_t)length)
		fail(world, "write(%s)", fresh);
	if (rng_chance(&world->rng, 30) && fsync(fd))
		fail(world, "fsync(%s)", fresh);
	if (rng_chance(&world->rng, 50)) {
		close(fd);
		fd = -1;
	}
	if (rename(fresh, path))
		fail(world, "rename(%s)", fresh);
	if (fd >= 0)
		close(fd);
	file_drop(world, file);
	file->linked = true;
	image_write(&file->image, 0, world->buffer, length);
}

void op_stat(struct world *world, struct file *file)
{
	enum { SLACK = 128 << 10 }; /* maps of extents, where they count */
	struct stat stat;
	int fd = file_fd(world, file);
	size_t size = file->image.size;

	trace(world, file, 0, 0, "stat");
	if (fstat(fd, &stat))
		fail(world, "fstat(f%d)", file->slot);
	size_t blocks = (size_t)stat.st_blocks * 512;
	if ((size_t)stat.st_size != size)
		fail(world, "f%d: st_size is %lld, not %zu", file->slot, (long long)stat.st_size,
		     size);
	if (!file->allocated && blocks > size + SLACK)
		fail(world, "f%d: %zu bytes of blocks for a size of %zu", file->slot, blocks, size);
	/* tar(1) and others take it for a single hole. */
	if (!blocks && !is_zero(file->image.bytes, size))
		fail(world, "f%d: no blocks, but contents, size %zu", file->slot, size);
	if (stat.st_nlink != (file->slot >= 0))
		fail(world, "f%d: st_nlink is %lu", file->slot, (unsigned long)stat.st_nlink);
}

void op_advise(struct world *world, struct file *file)
{
	int fd = file_fd(world, file);

	trace(world, file, 0, 0, "out of the cache");
	if (rng_chance(&world->rng, 50)) {
		if (fsync(fd))
			fail(world, "fsync(f%d)", file->slot);
		file_synced(file);
		others_synced(world);
	}
	if (posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
		fail(world, "posix_fadvise(f%d)", file->slot);
}

void op_verify(struct world *world, struct file *file)
{
	trace(world, file, 0, 0, "verify");
	file_verify(world, file);
}

/* Closes a ghost. */
void op_ghost(struct world *world, struct file *file)
{
	struct file *ghost = &world->ghosts[rng_below(&world->rng, GHOSTS)];

	(void)file;
	if (ghost->fd < 0)
		return;
	trace(world, ghost, 0, SIZE_MAX, "closed");
	file_verify(world, ghost);
	file_close(world, ghost);
}
