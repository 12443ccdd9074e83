/*
 * Faults everywhere: the Nth allocation, write, read, sync … fails, for N = 1, 2, 3 … until the
 * work completes, once and for good; in cairn, in LMDB and in the compressors.  After each: no
 * crash, a plain negative errno, memory as it was before the call that failed, and the same call
 * succeeds when the fault is over.  After a failure from which the store cannot go on, and at the
 * end in any case, it is opened again: the checker is content, and it is in the state after some
 * step from the last that was confirmed up to the one that failed.
 *
 * CAIRN_TEST_SEED chooses which of many alike fail, CAIRN_FAULTS_SECONDS how many.
 */
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "../unit/repo_testing.h"
#include "fault_steps.h"
#include "look.h"

enum { SECONDS = 40, TIMEOUT = 60, AT_ONCE = 2, STEPS_MAX = 64 };

static uint64_t seed;

/* ---- one run ---- */

static struct totals {
	_Atomic uint64_t runs, faults, failures, stopped;
	_Atomic uint64_t by_step[STEPS_MAX];
	char first[1500];
	_Atomic bool bad;
} * totals;

static char *reference[STEPS_MAX + 1]; /* the state before each step, of a run without faults */

static void complain(const struct faults *faults, const char *step, const char *message)
{
	if (atomic_exchange(&totals->bad, true))
		return;
	snprintf(totals->first, sizeof(totals->first), "%s %" PRIu64 "%s (%s), in '%s': %.1200s",
		 fault_kind_names[faults->kind], faults->at, faults->forever ? " for good" : "",
		 faults->error == FAULT_SHORT ? "short" : strerror(faults->error), step, message);
}

static char *look(struct run *run)
{
	char message[256], *state;

	if (!run->repo)
		return strdup(run->exists ? "closed\n" : "none\n");
	if (look_at_repo(run->repo, &state, message) < 0)
		fail_msg("looking: %s", message);
	return state;
}

/* A step failed.  True: the work can go on. */
static bool recover(struct run *run, const struct faults *faults, int step, int r)
{
	char message[900];
	char *now;

	if (!fault_is_plain(faults, r)) {
		snprintf(message, sizeof(message), "returned %d (%s)", r, strerror(-r));
		complain(faults, fault_steps[step].name, message);
		return false;
	}
	atomic_fetch_add(&totals->failures, 1);
	/* Then LMDB may refuse reading, too. */
	if (run->repo && store_failed(repo_store(run->repo))) {
		atomic_fetch_add(&totals->stopped, 1);
		return false;
	}
	now = look(run);
	if (strcmp(now, reference[step]) != 0) {
		snprintf(message, sizeof(message),
			 "failed with %d and left\n%.300s\ninstead of\n%.300s", r, now,
			 reference[step]);
		complain(faults, fault_steps[step].name, message);
	}
	free(now);
	faults_set(&(struct faults){.kind = faults->kind});
	r = fault_steps[step].act(run);
	if (r < 0) {
		snprintf(message, sizeof(message), "failed once more, without a fault: %s",
			 strerror(-r));
		complain(faults, fault_steps[step].name, message);
		return false;
	}
	return true;
}

static void verify_on_disk(struct run *run, const struct faults *faults, int confirmed, int last)
{
	char message[900] = "", *seen;

	run->second = head_put(run->second);
	run->head = head_put(run->head);
	run->repo = repo_close(run->repo);
	if (!run->exists)
		return;
	if (look_at_store(run->store, &run->repo, &seen, message) < 0) {
		complain(faults, "opening once more", message);
		return;
	}
	for (int i = confirmed; i <= last; i++)
		if (strcmp(seen, reference[i]) == 0)
			goto found;
	snprintf(message, sizeof(message),
		 "not a state from before '%s' on to after '%s': %.300s\ninstead of\n%.300s",
		 confirmed < fault_step_count ? fault_steps[confirmed].name : "the end",
		 fault_steps[last - 1].name, seen, reference[confirmed]);
	complain(faults, "afterwards", message);
found:
	free(seen);
	run->repo = repo_close(run->repo);
}

static void work(struct run *run, const struct faults *faults)
{
	int confirmed = 0, step;

	run->faults = faults;
	faults_set(faults);
	for (step = 0; step < fault_step_count; step++) {
		uint64_t before = faults_committed();
		int r = fault_steps[step].act(run);

		if (faults_committed() > before)
			atomic_fetch_add(&totals->by_step[step], 1);
		if (r < 0 && !recover(run, faults, step, r)) {
			step++; /* it may have happened */
			break;
		}
		if (fault_steps[step].confirms)
			confirmed = step + 1;
	}
	verify_on_disk(run, faults, confirmed, step);
}

static void run_make(struct run *run, int number)
{
	const char *temporary = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

	*run = (struct run){0};
	snprintf(run->base, sizeof(run->base), "%s/cairn-faults-%d-%d", temporary, (int)getppid(),
		 number);
	snprintf(run->store, sizeof(run->store), "%s/store", run->base);
	assert_int_equal(mkdir(run->base, 0700), 0);
}

static void run_remove(const struct run *run)
{
	nftw(run->base, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* Without faults: the states, and how many calls there are of each kind. */
static void make_reference(uint64_t calls[FAULT_KINDS])
{
	struct run run;
	int kind = 0;

	for (; kind < FAULT_KINDS; kind++) {
		const struct faults none = {.kind = (enum fault_kind)kind};

		run_make(&run, 1000 + kind);
		run.faults = &none;
		faults_set(&none);
		for (int step = 0; step < fault_step_count; step++) {
			if (kind == 0)
				reference[step] = look(&run);
			must(fault_steps[step].act(&run));
			if (fault_steps[step].quiet && kind == 0 && step > 3) {
				char *after = look(&run);

				assert_string_equal(after, reference[step]);
				free(after);
			}
		}
		if (kind == 0)
			reference[fault_step_count] = look(&run);
		calls[kind] = faults_calls();
		run.head = head_put(run.head);
		repo_close(run.repo);
		run_remove(&run);
	}
}

/* ---- all of them ---- */

struct slot {
	pid_t pid;
	int number;
	struct faults faults;
};

static void wait_for(struct slot *slot)
{
	int status;

	if (!slot->pid)
		return;
	assert_int_equal(waitpid(slot->pid, &status, 0), slot->pid);
	slot->pid = 0;
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		char message[64];

		snprintf(message, sizeof(message), "ended with status %#x", (unsigned)status);
		complain(&slot->faults, "?", message);
	}
}

/* There where it is built with the address sanitizer. */
int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

/* cmocka's checks do not return where no test is running: this ends the process. */
static void start(struct slot *slot, const struct faults *faults)
{
	static int number;
	struct run run;

	wait_for(slot);
	slot->faults = *faults;
	slot->number = number++;
	fflush(NULL);
	slot->pid = fork();
	assert_true(slot->pid >= 0);
	if (slot->pid)
		return;
	alarm(TIMEOUT);
	run_make(&run, slot->number);
	work(&run, faults);
	if (__lsan_do_recoverable_leak_check && __lsan_do_recoverable_leak_check())
		complain(faults, "?", "memory leaks");
	atomic_fetch_add(&totals->runs, 1);
	atomic_fetch_add(&totals->faults, faults_committed());
	if (!totals->bad || !getenv("CAIRN_POWER_KEEP"))
		run_remove(&run);
	_exit(0);
}

static const struct {
	enum fault_kind kind;
	int error;
	int parts; /* of the time */
	bool also_forever;
} sorts[] = {
	{FAULT_MEMORY, ENOMEM, 12, true},     {FAULT_WRITE, EIO, 2, true},
	{FAULT_WRITE, ENOSPC, 3, true},	      {FAULT_WRITE, EINTR, 1, false},
	{FAULT_WRITE, FAULT_SHORT, 1, false}, {FAULT_READ, EIO, 2, true},
	{FAULT_READ, FAULT_SHORT, 1, false},  {FAULT_SYNC, EIO, 2, true},
	{FAULT_SYNC, ENOSPC, 1, true},	      {FAULT_SYNC, EINTR, 1, false},
	{FAULT_SIZE, EIO, 1, true},	      {FAULT_SIZE, ENOSPC, 1, true},
	{FAULT_OPEN, EMFILE, 1, true},	      {FAULT_NAME, EIO, 1, true},
	{FAULT_MAP, ENOMEM, 1, true},
};
enum { SORTS = sizeof(sorts) / sizeof(sorts[0]) };

/* Each N, or as many as there is time for, spread over all. */
static void fail_each(int sort, bool forever, uint64_t calls, double milliseconds,
		      struct random *random)
{
	struct slot slots[AT_ONCE] = {0};
	double end = now_ms() + milliseconds;
	uint64_t done = 0, stride = 1, at = 1;

	while (at <= calls && now_ms() < end && !totals->bad) {
		const struct faults faults = {sorts[sort].kind, at, forever, sorts[sort].error};

		start(&slots[done++ % AT_ONCE], &faults);
		/* As many as fit into what is left of the time, at the pace until now. */
		if (done >= 8) {
			double pace = (now_ms() - (end - milliseconds)) / (double)done;
			double fit = (end - now_ms()) / pace;

			stride = fit < 1 ? calls : 1 + (uint64_t)((double)(calls - at) / fit);
		}
		at += stride > 1 ? 1 + random_below(random, 2 * stride - 1) : 1;
	}
	for (int i = 0; i < AT_ONCE; i++)
		wait_for(&slots[i]);
	print_message("%s, %s%s: %" PRIu64 " of %" PRIu64 " calls\n",
		      fault_kind_names[sorts[sort].kind],
		      sorts[sort].error == FAULT_SHORT ? "short" : strerror(sorts[sort].error),
		      forever ? ", for good" : "", done, calls);
}

static void test_faults(void **state)
{
	const char *text = getenv("CAIRN_FAULTS_SECONDS");
	double part = 1000 * (text ? atof(text) : SECONDS);
	struct random random = random_from(seed);
	uint64_t calls[FAULT_KINDS];
	int parts = 0;

	(void)state;
	assert_true(fault_step_count <= STEPS_MAX);
	make_reference(calls);
	for (int i = 0; i < SORTS; i++)
		parts += sorts[i].parts * (sorts[i].also_forever ? 2 : 1);
	for (int i = 0; i < SORTS; i++)
		for (int forever = 0; forever <= sorts[i].also_forever; forever++)
			fail_each(i, forever, calls[sorts[i].kind], part * sorts[i].parts / parts,
				  &random);
	print_message("%" PRIu64 " runs, %" PRIu64 " faults, %" PRIu64 " calls failed, %" PRIu64
		      " times the store stopped\n",
		      totals->runs, totals->faults, totals->failures, totals->stopped);
	for (int i = 0; i < fault_step_count; i++)
		print_message("  %s: %" PRIu64 "\n", fault_steps[i].name, totals->by_step[i]);
	if (totals->bad)
		fail_msg("%s", totals->first);
}

int main(void)
{
	seed = random_seed();
	look_plainly();
	totals = mmap(NULL, sizeof(*totals), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (totals == MAP_FAILED)
		return 1;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_faults),
	};
	return cmocka_run_group_tests_name("faults", tests, NULL, NULL);
}
