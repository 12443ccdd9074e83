/*
 * Calls that go through our own mount, from outside.
 *
 * A thread that waits for an answer from the dispatcher of its own process cannot be killed: once
 * the request has been read, Linux waits for the answer, whatever signals come.  If the process is
 * killed then, that thread keeps /dev/fuse open, so the connection is never cut, so the answer
 * never comes: a zombie that holds the mount, the store's lock and its socket.
 *
 * Therefore such calls are made by a child that shares the memory (vfork with a stack of its own:
 * cheap, whatever the size of the process) but not the descriptors.  When the daemon dies, the
 * last descriptor of the device goes with it, and the child's call ends with an error.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/restore_internal.h"

enum { OUTSIDE_STACK = 128 * 1024 };

struct outside {
	void (*work)(void *context);
	void *context;
};

static int outside_main(void *argument)
{
	const struct outside *outside = argument;

	if (close_range(STDERR_FILENO + 1, ~0U, 0))
		return 1;
	outside->work(outside->context);
	return 0;
}

int outside_run(void (*work)(void *context), void *context)
{
	struct outside outside = {work, context};
	sigset_t all, old;
	int error = 0;

	char *stack = mmap(NULL, OUTSIDE_STACK, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (stack == MAP_FAILED)
		return -ENOMEM;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int child = clone(outside_main, stack + OUTSIDE_STACK, CLONE_VM | CLONE_VFORK, &outside);
	if (child < 0)
		error = -errno;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	while (child > 0 && waitpid(child, NULL, __WALL) < 0 && errno == EINTR)
		continue;
	munmap(stack, OUTSIDE_STACK);
	return error;
}
