/*
 * Syncing packs before anybody asks.
 *
 * While a stream is being appended the disk had better work, too: a commit at its end would
 * otherwise wait for all of it.  A thread of its own syncs the packs whenever EARLY_BYTES have
 * been appended since the last sync, because starting to write can block as well, and those who
 * append have better things to do.  A sync by a commit counts; one that fails fails the store, as
 * there.  The order of durability (I3) is not touched: bytes may be durable before anything
 * refers to them, never after.
 */
#include <signal.h>

#include "index/store_internal.h"

enum { EARLY_BYTES = 32 << 20 };

static void *early_main(void *context)
{
	struct store *store = context;
	struct packs *packs = &store->packs;
	struct pack_early *early = &packs->early;

	pthread_mutex_lock(&packs->lock);
	while (!early->stop) {
		if (early->unsynced < EARLY_BYTES || store_failed(store)) {
			pthread_cond_wait(&early->wake, &packs->lock);
			continue;
		}
		pthread_mutex_unlock(&packs->lock);
		(void)packs_sync(store); /* a failure has failed the store */
		pthread_mutex_lock(&packs->lock);
	}
	pthread_mutex_unlock(&packs->lock);
	return NULL;
}

/* Without a thread the next commit has more to wait for, no more than that. */
static void start_thread(struct store *store)
{
	struct pack_early *early = &store->packs.early;
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	early->running = pthread_create(&early->thread, NULL, early_main, store) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void pack_early_note(struct store *store, uint64_t bytes)
{
	struct pack_early *early = &store->packs.early;

	early->unsynced += bytes;
	if (early->unsynced < EARLY_BYTES)
		return;
	if (!early->running)
		start_thread(store);
	pthread_cond_signal(&early->wake);
}

void pack_early_stop(struct store *store)
{
	struct packs *packs = &store->packs;

	pthread_mutex_lock(&packs->lock);
	packs->early.stop = true;
	pthread_cond_signal(&packs->early.wake);
	pthread_mutex_unlock(&packs->lock);
	if (packs->early.running)
		pthread_join(packs->early.thread, NULL);
	packs->early.running = false;
}
