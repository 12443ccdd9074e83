/* Freeze, restore, delete, gc, remount, kill. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bytes.h"

static char output[OUTPUT_SIZE];

/* ---- points ---- */

static void all_synced(struct world *world)
{
	for (int i = 0; i < world->file_count; i++) {
		file_synced(&world->files[i]);
		world->files[i].name_changed = false;
	}
}

static void close_all(struct world *world)
{
	for (int i = 0; i < world->file_count; i++)
		file_close(world, &world->files[i]);
	ghosts_close(world);
}

static struct point *point_choose(struct world *world)
{
	struct point *point = &world->points[rng_below(&world->rng, POINTS)];

	return point->name[0] ? point : NULL;
}

static void point_delete(struct world *world, struct point *point)
{
	trace(world, NULL, 0, 0, "delete %s", point->name);
	command_must(world, output, (const char *[]){"delete", point->name, NULL});
	point->name[0] = 0;
}

/* A place for a point, other than `keep`. */
static struct point *point_place(struct world *world, const struct point *keep)
{
	struct point *point = world->points;

	while (point < world->points + POINTS && point->name[0])
		point++;
	if (point < world->points + POINTS)
		return point;
	do {
		point = &world->points[rng_below(&world->rng, POINTS)];
	} while (point == keep);
	point_delete(world, point);
	return point;
}

static void point_remember(struct world *world, struct point *point, const char *name)
{
	snprintf(point->name, sizeof(point->name), "%s", name);
	for (int i = 0; i < world->file_count; i++) {
		point->linked[i] = world->files[i].linked;
		image_copy(&point->images[i], &world->files[i].image);
	}
}

static void verify_in_point(struct world *world, const struct point *point, int slot)
{
	char path[4096], what[NAME_LENGTH + 20];
	struct stat stat;

	point_path(world, point, slot, path);
	snprintf(what, sizeof(what), "in point %s", point->name);
	if (!point->linked[slot]) {
		if (!lstat(path, &stat) || errno != ENOENT)
			fail(world, "%s is there", path);
		return;
	}
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fail(world, "open(%s)", path);
	verify_fd(world, &world->files[slot], &point->images[slot], fd, what);
	close(fd);
}

static void verify_point(struct world *world, const struct point *point)
{
	for (int i = 0; i < world->file_count; i++)
		verify_in_point(world, point, i);
}

void op_verify_point(struct world *world, struct file *file)
{
	struct point *point = point_choose(world);

	(void)file;
	if (!point)
		return;
	trace(world, NULL, 0, 0, "verify %s", point->name);
	verify_point(world, point);
}

void op_read_point(struct world *world, struct file *file)
{
	struct point *point = point_choose(world);

	if (!point || file->slot < 0)
		return;
	trace(world, NULL, 0, 0, "verify f%d of %s", file->slot, point->name);
	verify_in_point(world, point, file->slot);
}

void op_freeze(struct world *world, struct file *file)
{
	struct point *point = point_place(world, NULL);
	char name[NAME_LENGTH];

	(void)file;
	/* Much that only the kernel knows of. */
	for (int i = 0; i < world->file_count && rng_chance(&world->rng, 90); i++)
		op_map_write(world, &world->files[i]);
	snprintf(name, sizeof(name), "%s%llu", world->prefix, (unsigned long long)world->number);
	trace(world, NULL, 0, 0, "freeze %s", name);
	command_must(world, output, (const char *[]){"freeze", name, NULL});
	point_remember(world, point, name);
	all_synced(world);
	if (rng_chance(&world->rng, 40))
		verify_point(world, point);
}

void op_delete_point(struct world *world, struct file *file)
{
	struct point *point = point_choose(world);

	(void)file;
	if (point)
		point_delete(world, point);
}

void op_collect(struct world *world, struct file *file)
{
	const char *const words[] = {"gc", NULL};

	(void)file;
	if (rng_chance(&world->rng, 60)) {
		trace(world, NULL, 0, 0, "gc goes on from here");
		command_start(world, words);
	} else {
		trace(world, NULL, 0, 0, "gc");
		command_must(world, output, words);
	}
}

/* ---- restore ---- */

/* The state before the restore has a name: of a new point, or of one that was the same. */
static void check_safety(struct world *world, struct point *place, const char *name)
{
	struct point *known = world->points;

	while (known < world->points + POINTS && strcmp(known->name, name) != 0)
		known++;
	errno = 0;
	if (strstr(output, "\"safety_made\": true")) {
		if (known < world->points + POINTS)
			fail(world, "the new safety point is called %s", name);
		return point_remember(world, place, name);
	}
	if (known == world->points + POINTS)
		fail(world, "the safety point %s is unknown", name);
	for (int i = 0; i < world->file_count; i++) {
		const struct image *a = &world->files[i].image, *b = &known->images[i];
		if (world->files[i].linked != known->linked[i] || a->size != b->size ||
		    (a->size && memcmp(a->bytes, b->bytes, a->size)))
			fail(world, "f%d has changed since %s, but that shall be the safety point",
			     i, name);
	}
}

static void restore_run(struct world *world, struct point *point, bool force)
{
	char name[NAME_LENGTH], safety[NAME_LENGTH];
	struct point *place = point_place(world, point);

	snprintf(name, sizeof(name), "%s", point->name);
	trace(world, NULL, 0, 0, "restore %s%s", name, force ? " by force" : "");
	command_must(world, output,
		     (const char *[]){"restore", name, force ? "--force" : NULL, NULL});
	if (output_text(output, "safety_point", "name", safety, sizeof(safety)))
		check_safety(world, place, safety);
	all_synced(world);
}

static void take_state(struct world *world, const struct point *point)
{
	for (int i = 0; i < world->file_count; i++) {
		struct file *file = &world->files[i];
		file->linked = point->linked[i];
		file->allocated = false;
		image_copy(&file->image, &point->images[i]);
	}
}

/* A file that was open for reading only: unchanged, it goes on; else ESTALE. */
static void check_witness(struct world *world, const struct image *old, int fd)
{
	struct stat stat;
	ssize_t got = pread(fd, world->buffer, BUFFER_SIZE, 0);

	if (got < 0) {
		if (errno != ESTALE)
			fail(world, "an old handle for reading");
	} else {
		if ((size_t)got != old->size)
			fail(world, "an old handle reads %zd bytes, not %zu", got, old->size);
		compare(world, NULL, old, "an old handle", 0, world->buffer, old->size);
		if (fstat(fd, &stat) && errno != ESTALE)
			fail(world, "fstat() of an old handle");
	}
	close(fd);
}

void op_restore(struct world *world, struct file *file)
{
	static struct image old;
	struct point *point = point_choose(world);
	int witness = -1;

	if (!point)
		return;
	close_all(world);
	if (file->slot >= 0 && file->linked && rng_chance(&world->rng, 60)) {
		witness = file_open(world, file, O_RDONLY);
		image_copy(&old, &file->image);
	}
	restore_run(world, point, false);
	take_state(world, point);
	if (witness >= 0)
		check_witness(world, &old, witness);
	if (rng_chance(&world->rng, 60))
		verify_all(world);
}

static sigjmp_buf out_of_mapping;

static void on_bus_error(int number)
{
	(void)number;
	siglongjmp(out_of_mapping, 1);
}

static void write_through_old_mapping(const struct file *file)
{
	const struct mapping *mapping = &file->mapping;
	struct sigaction action = {.sa_handler = on_bus_error}, old;

	if (!mapping->at || mapping->from >= file->image.size)
		return;
	sigaction(SIGBUS, &action, &old);
	if (!sigsetjmp(out_of_mapping, 1))
		memset(mapping->at, 'X', 1);
	sigaction(SIGBUS, &old, NULL);
}

/* What is written there must not be kept without an error. */
static void use_old_handle(struct world *world, struct file *file)
{
	size_t length = 1 + rng_below(&world->rng, 5000);

	if (file->fd < 0)
		return;
	write_through_old_mapping(file);
	memset(world->buffer, 'Y', length);
	off_t at = (off_t)rng_below(&world->rng, file->image.size + 1);
	if (pwrite(file->fd, world->buffer, length, at) >= 0 && !fsync(file->fd)) {
		errno = 0;
		fail(world, "f%d: a handle from before a forced restore still writes", file->slot);
	}
	if (!ftruncate(file->fd, 0))
		fail(world, "f%d: a handle from before a forced restore truncates", file->slot);
	if (file->mapping.at)
		munmap(file->mapping.at, file->mapping.length);
	file->mapping.at = NULL;
	close(file->fd);
	file->fd = -1;
}

void op_restore_forced(struct world *world, struct file *file)
{
	struct point *point = point_choose(world);

	(void)file;
	if (!point)
		return;
	restore_run(world, point, true);
	for (int i = 0; i < world->file_count; i++)
		use_old_handle(world, &world->files[i]);
	for (int i = 0; i < GHOSTS; i++)
		use_old_handle(world, &world->ghosts[i]);
	take_state(world, point);
	if (rng_chance(&world->rng, 80))
		verify_all(world);
}

/* ---- remount, kill ---- */

static void mount_again(struct world *world)
{
	command_must(world, output, (const char *[]){"mount", world->directory, NULL});
}

/* Others may look at every mount of the machine for a moment (indexers, fanotify). */
static void unmount(struct world *world)
{
	enum { BUSY = 3, TRIES = 50 };
	const char *const words[] = {"umount", world->directory, NULL};
	const struct timespec wait = {.tv_nsec = 200000000};

	int code = command(world, output, words);
	for (int i = 0; i < TRIES && code == BUSY; i++) {
		nanosleep(&wait, NULL);
		code = command(world, output, words);
	}
	errno = 0;
	if (code)
		fail(world, "cairn umount: exit code %d: %s", code, output);
}

void op_remount(struct world *world, struct file *file)
{
	(void)file;
	trace(world, NULL, 0, 0, "remount");
	close_all(world);
	committer_pause(world);
	unmount(world);
	mount_again(world);
	committer_resume(world);
	all_synced(world);
	if (rng_chance(&world->rng, 70))
		verify_all(world);
}

/* A zombie that nobody has waited for is dead. */
static bool task_is_alive(const char *pid, const char *task)
{
	char path[600], line[512], *rest;

	snprintf(path, sizeof(path), "/proc/%s/task/%s/stat", pid, task);
	FILE *file = fopen(path, "re");
	if (!file)
		return false;
	rest = fgets(line, sizeof(line), file) ? strrchr(line, ')') : NULL;
	fclose(file);
	return rest && rest[2] != 'Z' && rest[2] != 'X';
}

/* Threads die one by one, and the last one closes the files. */
static bool is_alive(long pid)
{
	char path[64], text[24];
	struct dirent *entry;
	bool alive = false;

	snprintf(text, sizeof(text), "%ld", pid);
	snprintf(path, sizeof(path), "/proc/%ld/task", pid);
	DIR *tasks = opendir(path);
	while (tasks && !alive && (entry = readdir(tasks)))
		alive = entry->d_name[0] != '.' && task_is_alive(text, entry->d_name);
	if (tasks)
		closedir(tasks);
	return alive;
}

static void forget_handles(struct file *file)
{
	if (file->mapping.at)
		munmap(file->mapping.at, file->mapping.length);
	file->mapping.at = NULL;
	if (file->fd >= 0)
		close(file->fd);
	file->fd = -1;
}

static void kill_daemon(struct world *world)
{
	const struct timespec wait = {.tv_nsec = 2000000};
	pid_t background = world->background; /* a collection dies with the daemon */

	world->background = 0;
	committer_pause(world);
	command_must(world, output, (const char *[]){"status", NULL});
	long pid = output_number(output, "daemon_pid");
	if (pid <= 1 || kill((pid_t)pid, SIGKILL))
		fail(world, "cannot kill the daemon: %s", output);
	while (is_alive(pid))
		nanosleep(&wait, NULL);
	command_abandon(world, background);
	for (int i = 0; i < world->file_count; i++)
		forget_handles(&world->files[i]);
	for (int i = 0; i < GHOSTS; i++)
		forget_handles(&world->ghosts[i]);
	if (umount2(world->directory, MNT_DETACH))
		fail(world, "umount2(%s)", world->directory);
	mount_again(world);
	committer_resume(world);
}

/* Everything was made durable: it is there. */
void op_kill_synced(struct world *world, struct file *file)
{
	int synced = 0;

	for (int i = 0; i < world->file_count; i++) {
		if (world->files[i].fd < 0)
			continue; /* close(2) has brought its contents in */
		if (fsync(world->files[i].fd))
			fail(world, "fsync(f%d)", i);
		synced++;
	}
	if (!synced && fsync(file_fd(world, file)))
		fail(world, "fsync(f%d)", file->slot);
	trace(world, NULL, 0, 0, "fsync of everything, kill -9");
	kill_daemon(world);
	all_synced(world);
	verify_all(world);
}

/* What the last fsync confirmed and nothing touched since must be there; the rest is as it was at
 * some time in between.  From here on it is what is found. */
static void adopt(struct world *world, struct file *file)
{
	char path[4096];
	struct stat stat;
	struct image *image = &file->image;

	file_path(world, file->slot, path);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && (errno != ENOENT || (file->linked && !file->name_changed)))
		fail(world, "open(f%d) after a kill", file->slot);
	if (fd >= 0 && !file->linked && !file->name_changed)
		fail(world, "f%d is there after a kill", file->slot);
	file->linked = fd >= 0;
	file->allocated = true; /* unknown */
	if (fd < 0)
		return image_resize(image, 0);
	if (fstat(fd, &stat))
		fail(world, "fstat(f%d) after a kill", file->slot);
	size_t size = (size_t)stat.st_size, kept = file->changed_from;
	if (size > BUFFER_SIZE)
		fail(world, "f%d has %zu bytes after a kill", file->slot, size);
	if (pread(fd, world->buffer, BUFFER_SIZE, 0) != (ssize_t)size)
		fail(world, "pread(f%d) after a kill", file->slot);
	close(fd);
	kept = kept < image->size ? kept : image->size;
	if (!file->name_changed && size < kept)
		fail(world, "f%d has %zu bytes after a kill, %zu were durable", file->slot, size,
		     kept);
	if (!file->name_changed)
		compare(world, file, image, "start after a kill", 0, world->buffer, kept);
	if (!file->name_changed && file->changed_to < image->size) {
		if (size != image->size)
			fail(world, "f%d has %zu bytes after a kill, not %zu", file->slot, size,
			     image->size);
		compare(world, file, image, "rest after a kill", file->changed_to,
			world->buffer + file->changed_to, size - file->changed_to);
	}
	image_resize(image, size);
	memcpy(image->bytes, world->buffer, size);
}

void op_kill(struct world *world, struct file *file)
{
	(void)file;
	trace(world, NULL, 0, 0, "kill -9");
	kill_daemon(world);
	for (int i = 0; i < world->file_count; i++)
		adopt(world, &world->files[i]);
	all_synced(world);
}
