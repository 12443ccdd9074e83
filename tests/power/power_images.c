/*
 * power_images TAPE DIRECTORY SEED SECONDS: makes images of cuts at random moments of a tape
 * (tests/power/disk.h) in DIRECTORY and looks at each: it opens, checks clean with all data read,
 * the workspace "main" is in one of the states that are possible, and the points that were
 * confirmed are there as they were frozen.  Prints how many, and what was wrong with the first bad
 * one; exit code 1 where there is any.  Run by tests/mount/power.py, which puts the marks there:
 *
 *     state N HASH       what the workspace will be after operation N (look_at_files(), plainly,
 *                        without names that begin with ".tmp")
 *     begin N            operation N may have happened from here on
 *     confirmed N        it will not be lost
 *     frozen NAME HASH   nor will this point
 *     forget NAME        unless it is deleted, from here on
 */
#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "disk.h"
#include "index/util/hash.h"
#include "look.h"

enum {
	AT_ONCE = 2,
	STATES_MAX = 20000,
	POINTS_MAX = 500,
	TIMEOUT = 60,
	MESSAGE = 600,
	PLAY_IMAGES = 150
};

struct known_point {
	char name[64];
	uint64_t hash;
};

static uint64_t states[STATES_MAX];
static struct known_point points[POINTS_MAX];
static int point_count, confirmed = -1, begun = -1;

static struct totals {
	_Atomic uint64_t images, bad;
	_Atomic bool taken;
	char first[MESSAGE + 300];
} * totals;

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void remove_tree(const char *path)
{
	nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void take_mark(const char *mark)
{
	uint64_t hash;
	char name[64];
	int number;

	if (sscanf(mark, "state %d %" SCNx64, &number, &hash) == 2 && number < STATES_MAX) {
		states[number] = hash;
	} else if (sscanf(mark, "begin %d", &number) == 1) {
		begun = number;
	} else if (sscanf(mark, "confirmed %d", &number) == 1) {
		confirmed = number;
	} else if (sscanf(mark, "frozen %63s %" SCNx64, name, &hash) == 2 &&
		   point_count < POINTS_MAX) {
		snprintf(points[point_count].name, sizeof(name), "%s", name);
		points[point_count++].hash = hash;
	} else if (sscanf(mark, "forget %63s", name) == 1) {
		for (int i = 0; i < point_count; i++)
			if (strcmp(points[i].name, name) == 0)
				points[i] = points[--point_count];
	}
}

/* Takes the lines out that do not count. */
static uint64_t hash_files(char *files)
{
	char *to = files;

	for (char *line = files, *end; *line; line = end) {
		end = strchr(line, '\n') + 1;
		if (strncmp(line, ".tmp", 4) != 0) {
			memmove(to, line, (size_t)(end - line));
			to += end - line;
		}
	}
	*to = '\0';
	return hash64(files, (size_t)(to - files));
}

static int look_at_main(struct repo *repo, char *message)
{
	char *files;
	uint64_t hash;
	int r = look_at_files(repo, "main", NULL, &files, message);

	if (r < 0)
		return r;
	hash = hash_files(files);
	for (int i = confirmed < 0 ? 0 : confirmed; i <= begun; i++) {
		if (states[i] == hash) {
			free(files);
			return 0;
		}
	}
	snprintf(message, MESSAGE, "no state from %d (confirmed) to %d (begun): %.500s", confirmed,
		 begun, files);
	for (int i = 0; i < STATES_MAX; i++)
		if (states[i] == hash)
			snprintf(message, MESSAGE, "state %d, not one from %d (confirmed) to %d", i,
				 confirmed, begun);
	free(files);
	return -ESTALE;
}

static int look_at(const char *directory, char *message)
{
	struct repo *repo;
	char *everything, *files;
	int r = look_at_store(directory, &repo, &everything, message);

	if (r < 0)
		return r;
	r = look_at_main(repo, message);
	for (int i = 0; i < point_count && r == 0; i++) {
		r = look_at_files(repo, "main", points[i].name, &files, message);
		if (r < 0)
			break;
		if (hash_files(files) != points[i].hash) {
			snprintf(message, MESSAGE, "point %.63s is not as it was frozen",
				 points[i].name);
			r = -ESTALE;
		}
		free(files);
	}
	free(everything);
	repo_close(repo);
	return r;
}

struct slot {
	pid_t pid;
	char directory[400], what[200];
};

static void complain(const struct slot *slot, const char *message)
{
	atomic_fetch_add(&totals->bad, 1);
	if (!atomic_exchange(&totals->taken, true))
		snprintf(totals->first, sizeof(totals->first), "%s: %s", slot->what, message);
}

static void wait_for(struct slot *slot)
{
	int status;

	if (!slot->pid)
		return;
	waitpid(slot->pid, &status, 0);
	slot->pid = 0;
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		complain(slot, "the process that opened it crashed or hung");
	remove_tree(slot->directory);
}

static void make_image(struct disk *disk, uint64_t number, struct slot *slot)
{
	enum disk_cut cut = (enum disk_cut)(number % DISK_CUTS);
	char message[MESSAGE] = "";

	wait_for(slot);
	snprintf(slot->what, sizeof(slot->what), "record %" PRIu64 ", cut '%s' %" PRIu64,
		 disk_position(disk), disk_cut_names[cut], number);
	fflush(NULL);
	slot->pid = fork();
	if (slot->pid)
		return;
	alarm(TIMEOUT);
	if (disk_cut(disk, cut, number, slot->directory) < 0)
		_exit(2);
	if (look_at(slot->directory, message) < 0)
		complain(slot, message);
	atomic_fetch_add(&totals->images, 1);
	_exit(0);
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint64_t count_records(const char *tape)
{
	struct disk *disk = disk_open(tape, DEAF_TO_NOTHING);
	struct disk_event event;
	uint64_t records = 0;

	while (disk_next(disk, &event))
		records++;
	disk_close(disk);
	return records;
}

/* Several times through the tape, at other moments each time. */
static void play(const char *tape, uint64_t records, enum disk_deaf deaf, struct slot *slots,
		 uint64_t end)
{
	struct disk *disk = disk_open(tape, deaf);
	struct disk_event event;
	static unsigned next;

	point_count = 0;
	confirmed = begun = -1;
	while (disk_next(disk, &event) && now_ms() < end) {
		if (event.is_mark)
			take_mark(event.mark);
		if (begun >= 0 && (uint64_t)random() % records < PLAY_IMAGES)
			make_image(disk, (uint64_t)random(), &slots[next++ % AT_ONCE]);
	}
	for (int i = 0; i < AT_ONCE; i++)
		wait_for(&slots[i]);
	disk_close(disk);
}

int main(int argc, char **argv)
{
	struct slot slots[AT_ONCE] = {0};
	uint64_t records, end;
	int deaf = DEAF_TO_NOTHING;

	if (argc != 5 && argc != 6) {
		fprintf(stderr, "usage: power_images TAPE DIRECTORY SEED SECONDS [DEAF]\n");
		return 2;
	}
	totals = mmap(NULL, sizeof(*totals), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (totals == MAP_FAILED)
		return 2;
	while (argc == 6 && deaf < DISK_DEAFS && strcmp(argv[5], disk_deaf_names[deaf]) != 0)
		deaf++;
	look_plainly();
	srandom((unsigned)strtoul(argv[3], NULL, 10));
	end = now_ms() + (uint64_t)(atof(argv[4]) * 1000);
	records = count_records(argv[1]);
	for (int i = 0; i < AT_ONCE; i++)
		snprintf(slots[i].directory, sizeof(slots[i].directory), "%s/image%d", argv[2], i);
	while (now_ms() < end && (!totals->bad || !deaf))
		play(argv[1], records, (enum disk_deaf)deaf, slots, end);
	printf("%" PRIu64 " records, %" PRIu64 " images, %" PRIu64 " bad%s%s\n", records,
	       totals->images, totals->bad, totals->bad ? "; the first: " : "", totals->first);
	return totals->bad ? 1 : 0;
}
