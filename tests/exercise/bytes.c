/* The exerciser: command line, table of operations, steps.  See bytes.h. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "bytes.h"

enum { POINTS_ONLY = 1, NO_GHOSTS = 2, HUNG_SECONDS = 300 };

/* Weights in 1 / 100 of a percent or so: they need not add up to anything. */
static const struct {
	const char *name;
	operation *run;
	unsigned weight;
	unsigned flags;
} operations[] = {
	{"read", op_read, 1400, 0},
	{"write", op_write, 1600, 0},
	{"writev", op_writev, 300, 0},
	{"append", op_append, 500, 0},
	{"truncate", op_truncate, 600, 0},
	{"map_read", op_map_read, 400, 0},
	{"map_write", op_map_write, 700, 0},
	{"mapping", op_mapping, 600, 0},
	{"punch", op_punch, 400, 0},
	{"zero", op_zero, 300, 0},
	{"allocate", op_allocate, 300, 0},
	{"copy", op_copy, 500, 0},
	{"copy_from_point", op_copy_from_point, 200, POINTS_ONLY},
	{"seek", op_seek, 300, 0},
	{"direct_read", op_direct_read, 300, 0},
	{"direct_write", op_direct_write, 300, 0},
	{"stream", op_stream, 40, 0},
	{"sync", op_sync, 120, 0},
	{"reopen", op_reopen, 500, NO_GHOSTS},
	{"recreate", op_recreate, 120, NO_GHOSTS},
	{"rename", op_rename, 60, NO_GHOSTS},
	{"replace", op_replace, 120, NO_GHOSTS},
	{"stat", op_stat, 300, 0},
	{"advise", op_advise, 150, 0},
	{"verify", op_verify, 120, 0},
	{"ghost", op_ghost, 40, NO_GHOSTS},
	{"committer", op_committer, 20, 0},
	{"freeze", op_freeze, 35, POINTS_ONLY},
	{"restore", op_restore, 14, POINTS_ONLY},
	{"restore_forced", op_restore_forced, 10, POINTS_ONLY},
	{"delete_point", op_delete_point, 10, POINTS_ONLY},
	{"gc", op_collect, 12, POINTS_ONLY},
	{"remount", op_remount, 5, POINTS_ONLY},
	{"kill_synced", op_kill_synced, 4, POINTS_ONLY | NO_GHOSTS},
	{"kill", op_kill, 4, POINTS_ONLY},
	{"read_point", op_read_point, 40, POINTS_ONLY},
	{"verify_point", op_verify_point, 10, POINTS_ONLY},
};
enum { OPERATIONS = sizeof(operations) / sizeof(*operations) };

struct options {
	uint64_t steps;
	const char *only; /* ranges of steps, "3-9,12,…", or NULL: all */
	bool left_out[OPERATIONS];
	uint64_t counts[OPERATIONS];
	bool verbose;
	unsigned seconds; /* 0: no limit */
};

static struct world world; /* large; zeroed */

static const char usage[] =
	"usage: bytes [--seed N] [--steps N] [--files 1-8] [--scale 1-16] [--seconds N]\n"
	"             [--cairn COMMAND --store STORE] [--without OPERATION]...\n"
	"             [--only STEPS | --only-file FILE] [-v] DIRECTORY\n"
	"Random operations on files in DIRECTORY, an empty mount point of STORE, checked against\n"
	"images in memory.  Without a store: on any file system.  STEPS as in 3-9,12,40-99.\n"
	"Exit code 0: all agreed, 1: something did not, 2: it could not run.\n";

static void hung(int number)
{
	static const char text[] = "FAILED: a step takes longer than five minutes\n";

	(void)number;
	if (write(1, text, sizeof(text) - 1) < 0)
		_exit(2);
	_exit(1);
}

/* ---- steps ---- */

/* The step is in the list; lists are sorted. */
static bool is_wanted(const char **list, uint64_t number)
{
	while (**list) {
		char *end;
		uint64_t first = strtoull(*list, &end, 10);
		uint64_t last = *end == '-' ? strtoull(end + 1, &end, 10) : first;
		if (number <= last)
			return number >= first;
		*list = *end == ',' ? end + 1 : "";
	}
	return false;
}

static size_t choose_operation(void)
{
	unsigned sum = 0, drawn;
	size_t i;

	for (i = 0; i < OPERATIONS; i++)
		sum += operations[i].weight;
	drawn = (unsigned)rng_below(&world.rng, sum);
	for (i = 0; drawn >= operations[i].weight; i++)
		drawn -= operations[i].weight;
	return i;
}

static void step(struct options *options)
{
	rng_seed(&world.rng, world.seed, world.number);
	size_t chosen = choose_operation();
	struct file *file = &world.files[rng_below(&world.rng, (size_t)world.file_count)];
	struct file *ghost = &world.ghosts[rng_below(&world.rng, GHOSTS)];

	if (rng_chance(&world.rng, 8) && ghost->fd >= 0 && !(operations[chosen].flags & NO_GHOSTS))
		file = ghost;
	if (options->left_out[chosen] || (!world.store && operations[chosen].flags & POINTS_ONLY))
		return;
	if (options->verbose)
		fprintf(stderr, "%llu %s\n", (unsigned long long)world.number,
			operations[chosen].name);
	operations[chosen].run(&world, file);
	options->counts[chosen]++;
}

static double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void run(struct options *options)
{
	const char *list = options->only;
	double end = seconds_now() + options->seconds;
	uint64_t i;

	for (i = 0; i < options->steps; i++) {
		world.number = i;
		if (i % 256 == 0) {
			alarm(HUNG_SECONDS);
			if (options->seconds && seconds_now() > end)
				break;
		}
		if (!list || is_wanted(&list, i))
			step(options);
	}
	rng_seed(&world.rng, world.seed, i);
	command_wait(&world);
	verify_all(&world);
	if (world.store) {
		for (int k = 0; k < POINTS; k++)
			op_verify_point(&world, world.files);
		op_remount(&world, world.files);
		verify_all(&world);
	}
	for (int k = 0; k < world.file_count; k++)
		file_close(&world, &world.files[k]);
	ghosts_close(&world);
	printf("seed %llu: %llu steps agree:", (unsigned long long)world.seed,
	       (unsigned long long)i);
	for (size_t k = 0; k < OPERATIONS; k++)
		if (options->counts[k])
			printf(" %s %llu", operations[k].name,
			       (unsigned long long)options->counts[k]);
	printf("\n");
}

/* ---- the start ---- */

static void world_init(void)
{
	/* From contents that fit into the tree to streams of several batches. */
	static const size_t limits[SLOTS] = {300,     5000,   70000, 1 << 20,
					     4 << 20, 700000, 20000, (3 << 20) + 12345};
	char path[4096];

	for (int i = 0; i < SLOTS; i++) {
		struct file *file = &world.files[i];
		*file = (struct file){.slot = i, .fd = -1, .limit = limits[i]};
		if (world.file_count == 1)
			file->limit = 1 << 20;
		if (file->limit >= 700000)
			file->limit *= world.scale;
		file_synced(file);
		file_path(&world, i, path);
		if (unlink(path) && errno != ENOENT) {
			perror(path);
			exit(2);
		}
	}
	for (int i = 0; i < GHOSTS; i++)
		world.ghosts[i] = (struct file){.slot = -1, .fd = -1};
	world.buffer =
		mmap(NULL, BUFFER_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (world.buffer == MAP_FAILED) {
		perror("bytes");
		exit(2);
	}
	snprintf(world.prefix, sizeof(world.prefix), "s%llu-", (unsigned long long)world.seed);
}

static void leave_out(struct options *options, const char *name)
{
	for (size_t i = 0; i < OPERATIONS; i++) {
		if (strcmp(operations[i].name, name) == 0) {
			options->left_out[i] = true;
			return;
		}
	}
	fprintf(stderr, "bytes: no operation is called %s\n", name);
	exit(2);
}

/* A long list has no place on a command line. */
static char *read_list(const char *path)
{
	FILE *file = fopen(path, "re");
	char *list = NULL;
	size_t size = 0;

	if (!file || getline(&list, &size, file) < 0) {
		perror(path);
		exit(2);
	}
	fclose(file);
	return list;
}

static void parse(int argc, char **argv, struct options *options)
{
	static const struct option known[] = {
		{"seed", 1, NULL, 's'},	   {"steps", 1, NULL, 'n'},	{"files", 1, NULL, 'f'},
		{"cairn", 1, NULL, 'c'},   {"store", 1, NULL, 'S'},	{"without", 1, NULL, 'w'},
		{"only", 1, NULL, 'o'},	   {"only-file", 1, NULL, 'O'}, {"seconds", 1, NULL, 't'},
		{"verbose", 0, NULL, 'v'}, {"scale", 1, NULL, 'x'},	{0}};
	int option;

	while ((option = getopt_long(argc, argv, "v", known, NULL)) != -1) {
		switch (option) {
		case 's':
			world.seed = strtoull(optarg, NULL, 10);
			break;
		case 'n':
			options->steps = strtoull(optarg, NULL, 10);
			break;
		case 'f':
			world.file_count = atoi(optarg);
			break;
		case 'x':
			world.scale = strtoul(optarg, NULL, 10);
			break;
		case 'c':
			world.cairn = optarg;
			break;
		case 'S':
			world.store = optarg;
			break;
		case 'w':
			leave_out(options, optarg);
			break;
		case 'o':
			options->only = optarg;
			break;
		case 'O':
			options->only = read_list(optarg);
			break;
		case 't':
			options->seconds = (unsigned)atoi(optarg);
			break;
		case 'v':
			options->verbose = true;
			break;
		default:
			fputs(usage, stderr);
			exit(2);
		}
	}
	if (optind != argc - 1 || world.file_count < 1 || world.file_count > SLOTS ||
	    world.scale < 1 || world.scale > 16 || !world.cairn != !world.store) {
		fputs(usage, stderr);
		exit(2);
	}
	world.directory = argv[optind];
}

int main(int argc, char **argv)
{
	static struct options options = {.steps = 30000};

	world.file_count = 6;
	world.scale = 1;
	parse(argc, argv, &options);
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGALRM, hung);
	world_init();
	committer_start(&world);
	run(&options);
	return 0;
}
