/*
 * Power cuts (I3, I4): random work is recorded, write by write and sync by sync; then stores are
 * made as cuts at many moments would have left them, and each is opened.  It must open without
 * repair, check clean with all data read, and be in a state that the work went through between the
 * last one that was confirmed and the last one that was begun.  Some of these openings are recorded
 * themselves, and cut as well.
 *
 * And the other way round: on a disk that ignores one kind of sync, losses must be found.
 *
 * CAIRN_TEST_SEED chooses the work and the cuts, CAIRN_POWER_SECONDS how long it takes;
 * CAIRN_POWER_KEEP=1 leaves the tape and the first bad image.
 */
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "../unit/repo_testing.h"
#include "disk.h"
#include "look.h"
#include "tape.h"
#include "workload.h"

enum { STEPS = 60, IMAGES = 250, AT_ONCE = 2, SECONDS = 20, IMAGE_TIMEOUT = 60, NESTED = 4 };

static uint64_t seed;

/* Shared with the processes that look at images. */
static struct totals {
	_Atomic uint64_t images, nested, bad, recovered_from_log;
	_Atomic uint64_t by_cut[DISK_CUTS];
	char first[1024]; /* what was wrong, of the first */
	_Atomic bool taken;
} * totals;

/* ---- one image ---- */

struct place {
	char base[128]; /* a directory of ours */
	char store[160], tape[160];
};

/* What may be found. */
struct allowed {
	const struct workload *workload;
	int confirmed, begun; /* numbers of states; -1: none, the store may be missing */
};

struct cut {
	enum disk_cut kind;
	uint64_t seed;
	uint64_t record;
};

static void complain(const struct cut *cut, const char *directory, const char *message)
{
	atomic_fetch_add(&totals->bad, 1);
	if (atomic_exchange(&totals->taken, true))
		return;
	snprintf(totals->first, sizeof(totals->first),
		 "%s: record %" PRIu64 ", cut '%s' %" PRIu64 ": %s", directory, cut->record,
		 disk_cut_names[cut->kind], cut->seed, message);
}

/* The number of the state; -1 and a message. */
static int find_state(const char *seen, const struct allowed *allowed, char message[700])
{
	for (int i = allowed->begun; i >= 0 && i >= allowed->confirmed; i--)
		if (i < allowed->workload->count && strcmp(seen, allowed->workload->states[i]) == 0)
			return i;
	for (int i = allowed->workload->count - 1; i >= 0; i--) {
		if (strcmp(seen, allowed->workload->states[i]) == 0) {
			snprintf(message, 700, "state %d, but %d was confirmed and %d begun", i,
				 allowed->confirmed, allowed->begun);
			return -1;
		}
	}
	snprintf(message, 700, "no state that ever was (%d confirmed, %d begun); found:\n%.500s",
		 allowed->confirmed, allowed->begun, seen);
	return -1;
}

/* Goes on working in a store that has come back: it can be written to and read. */
static int go_on(struct repo *repo, char **ret, char *message)
{
	struct head *head;
	int r = repo_head(repo, "main", &head, NULL);

	if (r < 0) /* before there was a workspace */
		return look_at_repo(repo, ret, message);
	put_file(head, "after the cut", 20000, 12345);
	tape_mark("begin 1");
	r = repo_sync(repo);
	if (r == 0)
		r = look_at_repo(repo, ret, message);
	tape_mark("confirmed 1");
	head_put(head);
	return r;
}

static void look_nested(const struct cut *outer, const struct place *place, char *states[2])
{
	const struct workload workload = {states, 2};
	struct allowed allowed = {&workload, 0, 0};
	struct random random = random_from(outer->seed + 7);
	struct disk *disk = disk_open(place->tape, DEAF_TO_NOTHING);
	struct disk_event event;
	uint64_t records = 0;
	char directory[200], message[700], *seen;

	while (disk_next(disk, &event))
		records++;
	disk_close(disk);
	disk = disk_open(place->tape, DEAF_TO_NOTHING);
	snprintf(directory, sizeof(directory), "%s/nested", place->base);
	while (disk_next(disk, &event)) {
		if (event.is_mark)
			allowed.begun = 1;
		if (event.is_mark && event.mark[0] == 'c')
			allowed.confirmed = 1;
		if (!event.is_change || random_below(&random, records) >= NESTED)
			continue;
		struct cut cut = {(enum disk_cut)random_below(&random, DISK_CUTS),
				  random_next(&random), disk_position(disk)};
		must(disk_cut(disk, cut.kind, cut.seed, directory));
		if (look_at_store(directory, NULL, &seen, message) < 0) {
			complain(&cut, directory, message);
		} else {
			if (find_state(seen, &allowed, message) < 0)
				complain(&cut, directory, message);
			free(seen);
		}
		atomic_fetch_add(&totals->nested, 1);
		nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	}
	disk_close(disk);
}

/* In a process of its own: what it breaks is its own, and a hang can be ended. */
static void look_at_image(const struct cut *cut, const char *directory,
			  const struct allowed *allowed, bool nested)
{
	char message[700] = "", *states[2] = {NULL, NULL};
	struct place inner;
	struct repo *repo;
	int r;

	alarm(IMAGE_TIMEOUT);
	snprintf(inner.base, sizeof(inner.base), "%.100s.in", directory);
	snprintf(inner.tape, sizeof(inner.tape), "%s/tape", inner.base);
	if (nested && mkdir(inner.base, 0700) == 0)
		must(tape_start(inner.tape, directory));
	r = look_at_store(directory, &repo, &states[0], message);
	if (r == -ENOENT && allowed->confirmed < 0)
		return; /* cut while it was made */
	if (r < 0) {
		complain(cut, directory, message);
		return;
	}
	if (find_state(states[0], allowed, message) < 0)
		complain(cut, directory, message);
	r = go_on(repo, &states[1], message);
	if (r < 0)
		complain(cut, directory, message);
	repo_close(repo);
	tape_stop();
	if (nested && r == 0)
		look_nested(cut, &inner, states);
	free(states[0]);
	free(states[1]);
}

/* ---- many images ---- */

struct slot {
	pid_t pid; /* 0: free */
	char directory[200];
	struct cut cut;
};

static bool keep(void)
{
	return getenv("CAIRN_POWER_KEEP") != NULL;
}

static void wait_for(struct slot *slot)
{
	char inner[210];
	int status;

	if (!slot->pid)
		return;
	assert_int_equal(waitpid(slot->pid, &status, 0), slot->pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		char message[64];

		snprintf(message, sizeof(message), "ended with status %#x", (unsigned)status);
		complain(&slot->cut, slot->directory, message);
	}
	slot->pid = 0;
	if (keep() && totals->taken)
		return;
	snprintf(inner, sizeof(inner), "%s.in", slot->directory);
	nftw(slot->directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	nftw(inner, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void make_image(struct disk *disk, const struct allowed *allowed, struct random *random,
		       struct slot *slot)
{
	bool nested = random_below(random, 8) == 0;

	wait_for(slot);
	if (keep() && totals->taken)
		return;
	slot->cut = (struct cut){(enum disk_cut)random_below(random, DISK_CUTS),
				 random_next(random), disk_position(disk)};
	atomic_fetch_add(&totals->images, 1);
	atomic_fetch_add(&totals->by_cut[slot->cut.kind], 1);
	fflush(NULL);
	slot->pid = fork();
	assert_true(slot->pid >= 0);
	if (slot->pid)
		return;
	must(disk_cut(disk, slot->cut.kind, slot->cut.seed, slot->directory));
	look_at_image(&slot->cut, slot->directory, allowed, nested);
	_exit(0);
}

static uint64_t count_records(const char *tape)
{
	struct disk *disk = disk_open(tape, DEAF_TO_NOTHING);
	struct disk_event event;
	uint64_t records = 0;

	while (disk_next(disk, &event))
		records += event.is_change;
	disk_close(disk);
	return records;
}

/* Makes about `wanted` images of the tape. */
static void play(const struct place *place, const struct workload *workload, enum disk_deaf deaf,
		 int wanted, struct random *random)
{
	struct allowed allowed = {workload, -1, -1};
	uint64_t records = count_records(place->tape);
	struct disk *disk = disk_open(place->tape, deaf);
	struct slot slots[AT_ONCE] = {0};
	struct disk_event event;
	unsigned next = 0;

	for (int i = 0; i < AT_ONCE; i++)
		snprintf(slots[i].directory, sizeof(slots[i].directory), "%s/image%d", place->base,
			 i);
	while (disk_next(disk, &event) && !(keep() && totals->taken)) {
		int number;

		if (event.is_mark && sscanf(event.mark, "begin %d", &number) == 1)
			allowed.begun = number > allowed.begun ? number : allowed.begun;
		if (event.is_mark && sscanf(event.mark, "confirmed %d", &number) == 1)
			allowed.confirmed = number > allowed.confirmed ? number : allowed.confirmed;
		/* A mark that confirms is a moment of its own. */
		if (random_below(random, records) < (uint64_t)wanted)
			make_image(disk, &allowed, random, &slots[next++ % AT_ONCE]);
	}
	for (int i = 0; i < AT_ONCE; i++)
		wait_for(&slots[i]);
	disk_close(disk);
}

static void place_make(struct place *place)
{
	const char *temporary = getenv("TMPDIR");

	if (!temporary)
		temporary = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	snprintf(place->base, sizeof(place->base), "%.60s/cairn-power-XXXXXX", temporary);
	assert_non_null(mkdtemp(place->base));
	snprintf(place->store, sizeof(place->store), "%s/store", place->base);
	snprintf(place->tape, sizeof(place->tape), "%s/tape", place->base);
}

static void place_remove(const struct place *place)
{
	if (keep() && totals->taken)
		print_message("kept: %s\n", place->base);
	else
		nftw(place->base, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void record(const struct place *place, uint64_t number, struct workload *ret)
{
	const struct workload_options options = {number, STEPS, number % 3 != 0};

	must(mkdir(place->store, 0700));
	must(tape_start(place->tape, place->store));
	workload_run(place->store, &options, ret);
	tape_stop();
}

static void one_round(uint64_t number, enum disk_deaf deaf, int wanted)
{
	struct random random = random_from(number + 99);
	struct workload workload;
	struct place place;

	place_make(&place);
	record(&place, number, &workload);
	play(&place, &workload, deaf, wanted, &random);
	workload_release(&workload);
	place_remove(&place);
}

static void totals_reset(void)
{
	memset(totals, 0, sizeof(*totals));
}

static double seconds_allowed(void)
{
	const char *text = getenv("CAIRN_POWER_SECONDS");

	return text ? atof(text) : SECONDS;
}

static void test_power_cuts(void **state)
{
	double end = now_ms() + seconds_allowed() * 1000;
	int rounds = 0;

	(void)state;
	totals_reset();
	while (now_ms() < end && !totals->bad)
		one_round(seed + (uint64_t)rounds++, DEAF_TO_NOTHING, IMAGES);
	print_message("%d recordings, %" PRIu64 " images, %" PRIu64
		      " of cuts while one was opened\n",
		      rounds, totals->images, totals->nested);
	for (int i = 0; i < DISK_CUTS; i++)
		print_message("  %s: %" PRIu64 "\n", disk_cut_names[i], totals->by_cut[i]);
	if (totals->bad)
		fail_msg("%" PRIu64 " bad images (round of seed %" PRIu64 "); the first: %s",
			 totals->bad, seed + (uint64_t)rounds - 1, totals->first);
}

/* Each kind of sync is needed, and this test sees where it is missing. */
static void test_deaf_disks(void **state)
{
	(void)state;
	for (int deaf = DEAF_TO_NOTHING + 1; deaf < DISK_DEAFS; deaf++) {
		totals_reset();
		for (uint64_t round = 0; round < 8 && !totals->bad; round++)
			one_round(seed + round, (enum disk_deaf)deaf, 60);
		print_message("deaf to %s: %" PRIu64 " of %" PRIu64 " images are bad: %.300s\n",
			      disk_deaf_names[deaf], totals->bad, totals->images, totals->first);
		if (!totals->bad)
			fail_msg("syncs of %s are ignored, and nothing is lost",
				 disk_deaf_names[deaf]);
	}
}

int main(void)
{
	seed = random_seed();
	totals = mmap(NULL, sizeof(*totals), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (totals == MAP_FAILED)
		return 1;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_deaf_disks),
		cmocka_unit_test(test_power_cuts),
	};
	return cmocka_run_group_tests_name("power cuts", tests, NULL, NULL);
}
