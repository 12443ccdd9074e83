/* Files: handles, mappings, verification. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bytes.h"

void file_path(struct world *world, int slot, char ret[4096])
{
	snprintf(ret, 4096, "%s/f%d", world->directory, slot);
}

void point_path(struct world *world, const struct point *point, int slot, char ret[4096])
{
	snprintf(ret, 4096, "%s/.snapshots/%s/f%d", world->directory, point->name, slot);
}

int file_open(struct world *world, struct file *file, int flags)
{
	char path[4096];

	if (file->slot < 0)
		snprintf(path, sizeof(path), "/proc/self/fd/%d", file->fd);
	else
		file_path(world, file->slot, path);
	if (!file->linked && file->slot >= 0) {
		flags |= O_CREAT | O_EXCL;
		image_resize(&file->image, 0);
		file->allocated = false;
		file->linked = file->name_changed = true;
	}
	int fd = open(path, flags | O_CLOEXEC, 0644);
	if (fd < 0)
		fail(world, "open(f%d, %#x)", file->slot, (unsigned)flags);
	return fd;
}

int file_fd(struct world *world, struct file *file)
{
	if (file->fd < 0)
		file->fd = file_open(world, file, O_RDWR);
	return file->fd;
}

void file_unmap(struct world *world, struct file *file)
{
	struct mapping *mapping = &file->mapping;

	if (mapping->at && munmap(mapping->at, mapping->length))
		fail(world, "munmap()");
	mapping->at = NULL;
}

void file_close(struct world *world, struct file *file)
{
	file_unmap(world, file);
	if (file->fd >= 0 && close(file->fd))
		fail(world, "close(f%d)", file->slot);
	file->fd = -1;
}

void file_changed(struct file *file, size_t from, size_t to)
{
	if (from < file->changed_from)
		file->changed_from = from;
	if (to > file->changed_to)
		file->changed_to = to;
}

void file_synced(struct file *file)
{
	file->changed_from = SIZE_MAX;
	file->changed_to = 0;
}

void file_drop(struct world *world, struct file *file)
{
	struct file *ghost = world->ghosts;

	while (ghost < world->ghosts + GHOSTS && ghost->fd >= 0)
		ghost++;
	if (file->fd >= 0 && ghost < world->ghosts + GHOSTS && rng_chance(&world->rng, 50)) {
		struct image image = ghost->image;
		*ghost = *file;
		ghost->slot = -1;
		ghost->linked = false;
		file->image = image;
		file->fd = -1;
		file->mapping.at = NULL;
	} else {
		file_close(world, file);
	}
	image_resize(&file->image, 0);
	file->linked = file->allocated = false;
	file->name_changed = true;
	file_changed(file, 0, SIZE_MAX);
}

void ghosts_close(struct world *world)
{
	for (int i = 0; i < GHOSTS; i++)
		file_close(world, &world->ghosts[i]);
}

/* ---- verification ---- */

void verify_fd(struct world *world, const struct file *file, const struct image *image, int fd,
	       const char *what)
{
	struct stat stat;
	size_t done = 0;

	if (fstat(fd, &stat))
		fail(world, "%s: fstat(f%d)", what, file ? file->slot : -1);
	if ((size_t)stat.st_size != image->size)
		fail(world, "%s: f%d has %lld bytes, not %zu", what, file ? file->slot : -1,
		     (long long)stat.st_size, image->size);
	while (done <= image->size) {
		size_t wanted = 1 + rng_below(&world->rng, 1 << 20);
		ssize_t got = pread(fd, world->buffer, wanted, (off_t)done);
		if (got < 0)
			fail(world, "%s: pread(f%d, %zu, %zu)", what, file ? file->slot : -1,
			     wanted, done);
		if (done + (size_t)got > image->size || (!got && done < image->size))
			fail(world, "%s: f%d: %zd bytes at %zu, of %zu", what,
			     file ? file->slot : -1, got, done, image->size);
		compare(world, file, image, what, done, world->buffer, (size_t)got);
		done += (size_t)got;
		if (!got)
			break;
	}
}

void file_verify(struct world *world, struct file *file)
{
	char path[4096];
	struct stat stat;

	if (file->slot < 0) {
		if (file->fd >= 0)
			verify_fd(world, file, &file->image, file->fd, "verification");
		return;
	}
	if (!file->linked) {
		file_path(world, file->slot, path);
		if (!lstat(path, &stat) || errno != ENOENT)
			fail(world, "f%d is there", file->slot);
		return;
	}
	if (file->fd >= 0 && rng_chance(&world->rng, 50)) {
		verify_fd(world, file, &file->image, file->fd, "verification");
		return;
	}
	int fd = file_open(world, file, O_RDONLY);
	verify_fd(world, file, &file->image, fd, "verification");
	close(fd);
}

void verify_all(struct world *world)
{
	for (int i = 0; i < world->file_count; i++)
		file_verify(world, &world->files[i]);
	for (int i = 0; i < GHOSTS; i++)
		file_verify(world, &world->ghosts[i]);
}
