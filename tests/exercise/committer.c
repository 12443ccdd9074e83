/* Commits at any time: fsync of the directory, which changes nothing and is no writer. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "bytes.h"

static void commit(struct world *world)
{
	pthread_mutex_lock(&world->committer_lock);
	if (atomic_load(&world->commits)) {
		int fd = open(world->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0 || fsync(fd)) {
			perror("bytes: fsync of the directory");
			exit(1);
		}
		close(fd);
	}
	pthread_mutex_unlock(&world->committer_lock);
}

static void *committer_run(void *context)
{
	struct world *world = context;
	struct rng rng = {.state = world->seed};

	for (;;) {
		struct timespec wait = {.tv_nsec = (long)rng_below(&rng, 4000000)};
		commit(world);
		nanosleep(&wait, NULL);
	}
	return NULL;
}

void committer_start(struct world *world)
{
	pthread_t thread;

	pthread_mutex_init(&world->committer_lock, NULL);
	if (pthread_create(&thread, NULL, committer_run, world) || pthread_detach(thread))
		fail(world, "no thread");
}

void committer_pause(struct world *world)
{
	pthread_mutex_lock(&world->committer_lock);
}

void committer_resume(struct world *world)
{
	pthread_mutex_unlock(&world->committer_lock);
}

/* Starts or ends a time of many commits. */
void op_committer(struct world *world, struct file *file)
{
	bool commits = rng_chance(&world->rng, 50);

	(void)file;
	trace(world, NULL, 0, 0, commits ? "many commits from here" : "few commits from here");
	atomic_store(&world->commits, commits);
}
