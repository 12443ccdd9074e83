#include "tools/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "tools/command.h"

enum {
	BAR_DELAY_NS = 1000000000, /* what is done by then needs no bar */
	STEP_NS = 100000000,	   /* between two updates */
};

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void progress_begin(struct progress *progress, const struct invocation *invocation)
{
	memset(progress, 0, sizeof(*progress));
	progress->started_ns = now_ns();
	switch (invocation->progress) {
	case PROGRESS_AUTO:
		if (isatty(STDERR_FILENO) && !invocation->quiet)
			progress->form = PROGRESS_BAR;
		break;
	case PROGRESS_ALWAYS:
		progress->form = PROGRESS_BAR;
		break;
	case PROGRESS_JSON:
		progress->form = PROGRESS_LINES;
		break;
	case PROGRESS_NEVER:
		break;
	}
}

static void draw_bar(const char *phase, uint64_t done, uint64_t total)
{
	struct winsize size;
	int width = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 80;
	int room = width - 24, filled;

	if (total == 0 || room < 8) {
		fprintf(stderr, "\r%-12.12s %" PRIu64 "\033[K", phase, done);
		return;
	}
	if (room > 50)
		room = 50;
	if (done > total)
		done = total;
	filled = (int)((double)done / (double)total * room);
	fprintf(stderr, "\r%-12.12s [", phase);
	for (int i = 0; i < room; i++)
		fputc(i < filled ? '#' : ' ', stderr);
	fprintf(stderr, "] %3.0f%%\033[K", (double)done / (double)total * 100);
}

void progress_update(const char *phase, uint64_t done, uint64_t total, void *context)
{
	struct progress *progress = context;
	int64_t now = now_ns();
	bool last = total > 0 && done >= total;

	if (progress->form == PROGRESS_OFF || (now - progress->shown_ns < STEP_NS && !last))
		return;
	if (progress->form == PROGRESS_BAR) {
		if (now - progress->started_ns < BAR_DELAY_NS)
			return;
		draw_bar(phase, done, total);
		progress->drawn = true;
	} else {
		/* Phases are plain words of ours: nothing to escape. */
		fprintf(stderr,
			"{\"phase\": \"%s\", \"done\": %" PRIu64 ", \"total\": %" PRIu64 "}\n",
			phase, done, total);
	}
	progress->shown_ns = now;
}

void progress_end(struct progress *progress)
{
	if (progress->drawn)
		fputs("\r\033[K", stderr);
	progress->drawn = false;
}
