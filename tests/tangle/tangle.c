/* tangle DIRECTORY SECONDS SEED [CHANGERS] */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tangle.h"

enum { MAX_PROCESSES = 128 };

/* Shared by all processes. */
struct board {
	_Atomic bool stop;
	_Atomic uint64_t changes;
};
static struct board *board;

bool time_is_up(void)
{
	return board->stop;
}

void fail(const char *format, ...)
{
	int error = errno;
	char text[4096];
	va_list list;

	va_start(list, format);
	vsnprintf(text, sizeof(text), format, list);
	va_end(list);
	printf("tangle: %s (errno %d: %s)\n", text, error, strerror(error));
	fflush(stdout);
	board->stop = true;
	_exit(1);
}

/* splitmix64 */
uint32_t dice_roll(struct dice *dice, uint32_t sides)
{
	uint64_t z = dice->state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (uint32_t)((z ^ z >> 31) >> 32) % sides;
}

static void changer(struct dice *dice)
{
	uint64_t changes = 0;

	while (!time_is_up()) {
		change_tree(dice);
		changes++;
	}
	board->changes += changes;
}

static pid_t start(void (*run)(struct dice *dice), uint64_t seed)
{
	struct dice dice = {.state = seed};
	pid_t pid = fork();

	if (pid < 0)
		fail("fork");
	if (pid)
		return pid;
	run(&dice);
	_exit(0);
}

/* Those that look and those whose work they look at. */
static void (*const others[])(struct dice *) = {
	steady_neighbours, steady_neighbours, steady_watch,   swing_move,
	swing_watch,	   replaced_move,     replaced_watch,
};
enum { OTHERS = sizeof(others) / sizeof(others[0]) };

static int wait_for_all(size_t count, unsigned seconds)
{
	time_t end = time(NULL) + seconds;
	int status, worst = 0;

	while (count) {
		pid_t pid = waitpid(-1, &status, WNOHANG);
		if (pid > 0) {
			count--;
			if (WIFSIGNALED(status))
				printf("tangle: process %d: signal %d\n", pid, WTERMSIG(status));
			worst |= status != 0;
			continue;
		}
		if (time(NULL) >= end)
			board->stop = true;
		if (time(NULL) >= end + 120) {
			printf("tangle: %zu processes hang\n", count);
			return 1;
		}
		usleep(20000);
	}
	return worst;
}

static void make_places(void)
{
	static const char *const directories[] = {"mess", "steady", "swing", "replaced"};

	for (size_t i = 0; i < 4; i++)
		if (mkdir(directories[i], 0755) && errno != EEXIST)
			fail("mkdir %s", directories[i]);
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	unsigned seconds = (unsigned)atoi(argv[2]);
	uint64_t seed = strtoull(argv[3], NULL, 10);
	size_t changers = argc > 4 ? (size_t)atoi(argv[4]) : 8;

	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	if (board == MAP_FAILED || changers + OTHERS > MAX_PROCESSES)
		return 2;
	umask(022);
	signal(SIGBUS, SIG_DFL);
	if (chdir(argv[1]))
		fail("chdir %s", argv[1]);
	make_places();
	watched_make();
	printf("ready\n");
	fflush(stdout);
	for (size_t i = 0; i < changers + OTHERS; i++)
		start(i < changers ? changer : others[i - changers], seed * 1000 + i);
	int status = wait_for_all(changers + OTHERS, seconds);
	printf("%llu changes\n", (unsigned long long)board->changes);
	return status;
}
