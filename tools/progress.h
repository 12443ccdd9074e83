/* How far a long request is: a bar on a terminal (after a second), or JSON lines on stderr. */
#ifndef CAIRN_TOOLS_PROGRESS_H
#define CAIRN_TOOLS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct invocation;

struct progress {
	enum { PROGRESS_OFF, PROGRESS_BAR, PROGRESS_LINES } form;
	int64_t started_ns, shown_ns;
	bool drawn; /* a bar is on the terminal */
};

void progress_begin(struct progress *progress, const struct invocation *invocation);
/* A service_progress (fs/service.h); context is the struct progress. */
void progress_update(const char *phase, uint64_t done, uint64_t total, void *context);
void progress_end(struct progress *progress); /* takes the bar away */

#endif
