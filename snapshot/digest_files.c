/*
 * Reading and hashing files, several at once: what takes the time of a first digest.
 *
 * Each worker takes the next file, and has a tree, a reader and buffers of its own.  The caller's
 * thread is one of them, and the only one that tells of progress.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot/digest_internal.h"
#include "snapshot/extent.h"
#include "snapshot/path.h"

enum {
	PIECE = 1 << 20,      /* bytes read at once */
	FILES_A_READER = 256, /* an old reader holds back the reuse of pages */
	WORKERS_MAX = 8,
};

/* What the workers share. */
struct pool {
	struct digest_work *work;
	atomic_size_t next; /* of work->entries */
	_Atomic uint64_t done;
	atomic_bool stop;
	pthread_mutex_t lock;
	int error; /* lock: the first; its message is in work->err */
};

struct worker {
	struct pool *pool;
	pthread_t thread;
	struct tree *tree;     /* owned */
	struct reader *reader; /* owned */
	struct hasher hasher;
	uint8_t *buffer; /* owned: PIECE bytes */
	unsigned files;	 /* since the reader was acquired */
	bool tells;	 /* of progress */
};

static int worker_renew(struct worker *worker)
{
	reader_release(worker->reader);
	worker->reader = NULL;
	worker->files = 0;
	return reader_acquire(repo_store(worker->pool->work->repo), &worker->reader);
}

static int tell(struct worker *worker)
{
	struct pool *pool = worker->pool;
	struct digest_work *work = pool->work;

	if (atomic_load(&pool->stop))
		return -EINTR;
	if (worker->tells && work->progress &&
	    work->progress("digest", atomic_load(&pool->done), work->bytes, work->context))
		return -EINTR;
	return 0;
}

static int hash_contents(struct worker *worker, const struct digest_entry *entry,
			 struct errbuf *err)
{
	for (uint64_t offset = 0; offset < entry->size;) {
		ssize_t length = file_read(worker->tree, worker->reader, entry->ino, offset,
					   worker->buffer, PIECE, err);
		if (length <= 0)
			return length < 0 ? (int)length : -EUCLEAN;
		int error = hasher_add(&worker->hasher, worker->buffer, (size_t)length);
		offset += (uint64_t)length;
		atomic_fetch_add(&worker->pool->done, (uint64_t)length);
		if (!error && offset < entry->size) {
			error = worker_renew(worker);
			if (!error)
				error = tell(worker);
		}
		if (error)
			return error;
	}
	return 0;
}

/* Says which file it is, and what was wrong with it. */
static int name_file(struct worker *worker, uint64_t ino, int error, const struct errbuf *detail)
{
	struct pool *pool = worker->pool;
	struct errbuf err = {""};
	char *path = NULL;
	int explained = digest_explain(pool->work->repo, pool->work->point, error, &err);

	if (explained == error && error != -EINTR && error != -ENOMEM &&
	    path_of_inode(worker->tree, worker->reader, ino, &path) == 0)
		err_set(&err, error, "'%s' cannot be read: %s", path,
			*detail->text ? detail->text : strerror(-error));
	free(path);
	pthread_mutex_lock(&pool->lock);
	if (!pool->error) {
		pool->error = explained;
		if (*err.text)
			err_set(pool->work->err, explained, "%s", err.text);
	}
	pthread_mutex_unlock(&pool->lock);
	atomic_store(&pool->stop, true);
	return explained;
}

static int hash_file(struct worker *worker, struct digest_entry *entry)
{
	struct errbuf err = {""};
	int error = tell(worker);

	if (!error && worker->files++ >= FILES_A_READER)
		error = worker_renew(worker);
	if (!error)
		error = hasher_begin(&worker->hasher);
	if (!error)
		error = hash_contents(worker, entry, &err);
	if (!error)
		error = hasher_end(&worker->hasher, &entry->digest);
	return error ? name_file(worker, entry->ino, error, &err) : 0;
}

static int worker_start(struct worker *worker, struct pool *pool)
{
	*worker = (struct worker){.pool = pool, .buffer = malloc(PIECE)};
	int error = worker->buffer ? hasher_init(&worker->hasher) : -ENOMEM;
	if (!error)
		error = tree_open(repo_store(pool->work->repo), tree_root(pool->work->tree), 0,
				  &worker->tree);
	return error ? error : worker_renew(worker);
}

static void worker_end(struct worker *worker)
{
	reader_release(worker->reader);
	tree_close(worker->tree);
	hasher_release(&worker->hasher);
	free(worker->buffer);
}

static void *worker_main(void *context)
{
	struct worker *worker = context;
	struct pool *pool = worker->pool;
	struct digest_work *work = pool->work;

	for (;;) {
		size_t i = atomic_fetch_add(&pool->next, 1);
		if (i >= work->count || atomic_load(&pool->stop))
			return NULL;
		struct digest_entry *entry = &work->entries[i];
		if (!entry->gone && !entry->directory && hash_file(worker, entry))
			return NULL;
	}
}

static unsigned workers_wanted(const struct digest_work *work)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);

	if (work->count < 16 && work->bytes < 8 * PIECE)
		return 1;
	return processors < 1 ? 1 : processors > WORKERS_MAX ? WORKERS_MAX : (unsigned)processors;
}

int digest_files(struct digest_work *work)
{
	struct pool pool = {.work = work};
	struct worker workers[WORKERS_MAX];
	unsigned wanted = workers_wanted(work), started = 1;

	pthread_mutex_init(&pool.lock, NULL);
	int error = worker_start(&workers[0], &pool);
	workers[0].tells = true;
	/* Fewer than wanted will do. */
	while (!error && started < wanted) {
		struct worker *worker = &workers[started];
		if (worker_start(worker, &pool) ||
		    pthread_create(&worker->thread, NULL, worker_main, worker)) {
			worker_end(worker);
			break;
		}
		started++;
	}
	if (!error)
		worker_main(&workers[0]);
	for (unsigned i = 1; i < started; i++)
		pthread_join(workers[i].thread, NULL);
	for (unsigned i = 0; i < started; i++)
		worker_end(&workers[i]);
	pthread_mutex_destroy(&pool.lock);
	return error ? error : pool.error;
}
