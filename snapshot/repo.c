/*
 * Open stores and their heads.
 *
 * The list of open heads changes only under the commit lock, so whoever commits sees a list that
 * stands still without holding anything else, and no head can be opened from a workspace record
 * that an action is about to replace.
 *
 * repo_head() on an open head and all but the last head_put() need repo->lock alone.
 */
#include "snapshot/repo.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/repo_internal.h"
#include "snapshot/workspace_internal.h"

int repo_open(const char *directory, unsigned store_flags, const struct io *io, struct repo **ret,
	      struct errbuf *err)
{
	struct repo *repo = calloc(1, sizeof(*repo));
	if (!repo)
		return err_set(err, -ENOMEM, "not enough memory to open the store %s", directory);
	int error = store_open(directory, store_flags, io, &repo->store, err);
	if (error) {
		free(repo);
		return error;
	}
	pthread_mutex_init(&repo->lock, NULL);
	pthread_rwlock_init(&repo->making, NULL);
	pthread_cond_init(&repo->turn_changed, NULL);
	pthread_cond_init(&repo->group_finished, NULL);
	*ret = repo;
	return 0;
}

static struct head *head_free(struct head *head)
{
	if (!head)
		return NULL;
	tree_close(head->tree);
	pthread_rwlock_destroy(&head->lock);
	free(head->name);
	free(head);
	return NULL;
}

struct repo *repo_close(struct repo *repo)
{
	if (!repo)
		return NULL;
	/* Left by head_put() on a full disk; the redo log has what the index has not. */
	while (repo->head_count) {
		assert(repo->heads[repo->head_count - 1]->references == 0);
		head_free(repo->heads[--repo->head_count]);
	}
	store_close(repo->store);
	pthread_cond_destroy(&repo->group_finished);
	pthread_cond_destroy(&repo->turn_changed);
	pthread_rwlock_destroy(&repo->making);
	pthread_mutex_destroy(&repo->lock);
	free(repo->heads);
	free(repo);
	return NULL;
}

struct store *repo_store(struct repo *repo)
{
	return repo->store;
}

/* ---- the commit lock ---- */

void repo_commit_lock(struct repo *repo)
{
	pthread_mutex_lock(&repo->lock);
	uint64_t ticket = repo->turn_next++;
	while (repo->turn != ticket)
		pthread_cond_wait(&repo->turn_changed, &repo->lock);
	pthread_mutex_unlock(&repo->lock);
}

void repo_commit_unlock(struct repo *repo)
{
	pthread_mutex_lock(&repo->lock);
	repo->turn++;
	pthread_cond_broadcast(&repo->turn_changed);
	pthread_mutex_unlock(&repo->lock);
}

bool repo_commit_running(const struct repo *repo)
{
	return repo->turn != repo->turn_next;
}

/* ---- opening and closing heads ---- */

/*
 * Writers are preferred: a cut must not wait for ever behind a stream of readers.  Readers may
 * therefore not take the lock recursively.
 */
static int head_init_lock(struct head *head)
{
	pthread_rwlockattr_t attributes;
	int error = pthread_rwlockattr_init(&attributes);
	if (error)
		return -error;
	pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	error = pthread_rwlock_init(&head->lock, &attributes);
	pthread_rwlockattr_destroy(&attributes);
	return -error;
}

/* Takes the name out of `record`. */
static int head_new(struct repo *repo, struct workspace *record, struct head **ret)
{
	struct head *head = calloc(1, sizeof(*head));
	if (!head)
		return -ENOMEM;
	int error = head_init_lock(head);
	if (error) {
		free(head);
		return error;
	}
	head->repo = repo;
	head->workspace = record->id;
	head->base = record->base;
	head->counters = record->counters;
	head->references = 1;
	error = tree_open(repo->store, record->root, record->generation, &head->tree);
	if (error) {
		head->tree = NULL;
		head_free(head);
		return error;
	}
	head->name = record->name;
	record->name = NULL;
	*ret = head;
	return 0;
}

/* Index of the first open head with at least this id. */
static size_t heads_position(const struct repo *repo, uint64_t workspace)
{
	size_t i = 0;
	while (i < repo->head_count && repo->heads[i]->workspace < workspace)
		i++;
	return i;
}

struct head *repo_open_head(struct repo *repo, uint64_t workspace)
{
	size_t i = heads_position(repo, workspace);
	if (i < repo->head_count && repo->heads[i]->workspace == workspace)
		return repo->heads[i];
	return NULL;
}

/* Commit lock and repo->lock held. */
static int heads_insert(struct repo *repo, struct head *head)
{
	if (repo->head_count == repo->head_capacity) {
		size_t capacity = repo->head_capacity ? repo->head_capacity * 2 : 4;
		struct head **heads = reallocarray(repo->heads, capacity, sizeof(struct head *));
		if (!heads)
			return -ENOMEM;
		repo->heads = heads;
		repo->head_capacity = capacity;
	}
	size_t i = heads_position(repo, head->workspace);
	memmove(&repo->heads[i + 1], &repo->heads[i],
		(repo->head_count - i) * sizeof(repo->heads[0]));
	repo->heads[i] = head;
	repo->head_count++;
	return 0;
}

/* Commit lock and repo->lock held. */
static void heads_remove(struct repo *repo, struct head *head)
{
	size_t i = heads_position(repo, head->workspace);
	assert(i < repo->head_count && repo->heads[i] == head);
	repo->head_count--;
	memmove(&repo->heads[i], &repo->heads[i + 1],
		(repo->head_count - i) * sizeof(repo->heads[0]));
}

/* The open head of that id with one more reference, or NULL. */
static struct head *head_take_open(struct repo *repo, uint64_t workspace)
{
	pthread_mutex_lock(&repo->lock);
	struct head *head = repo_open_head(repo, workspace);
	if (head)
		head->references++;
	pthread_mutex_unlock(&repo->lock);
	return head;
}

/* With the commit lock held, so that the record cannot change before the head is in the list. */
static int head_open(struct repo *repo, const char *workspace, struct head **ret)
{
	struct workspace record = {0};
	int error = workspace_get(repo, workspace, &record);
	if (error)
		return error;
	struct head *head = head_take_open(repo, record.id);
	if (!head) {
		error = head_new(repo, &record, &head);
		if (!error) {
			pthread_mutex_lock(&repo->lock);
			error = heads_insert(repo, head);
			pthread_mutex_unlock(&repo->lock);
			if (error)
				head = head_free(head);
		}
	}
	workspace_release(&record);
	if (!error)
		*ret = head;
	return error;
}

int repo_head(struct repo *repo, const char *workspace, struct head **ret, struct errbuf *err)
{
	struct workspace record = {0};
	int error = workspace_get(repo, workspace, &record);
	if (!error) {
		struct head *head = head_take_open(repo, record.id);
		workspace_release(&record);
		if (head) {
			*ret = head;
			return 0;
		}
		repo_commit_lock(repo);
		error = head_open(repo, workspace, ret);
		repo_commit_unlock(repo);
	}
	if (error == -ENOENT)
		return workspace_not_found(repo, workspace, err);
	if (error)
		return err_set(err, error, "cannot open workspace '%s': %s", workspace,
			       strerror(-error));
	return 0;
}

struct head *head_put(struct head *head)
{
	if (!head)
		return NULL;
	struct repo *repo = head->repo;
	pthread_mutex_lock(&repo->lock);
	bool last = head->references == 1;
	if (!last)
		head->references--;
	pthread_mutex_unlock(&repo->lock);
	if (!last)
		return NULL;

	/* Somebody may take a reference before the commit lock is ours; then it stays open.  And it
	 * stays without one where what was synced is only in the redo log, and the disk too full
	 * for a commit: who opens the workspace again must find that. */
	repo_commit_lock(repo);
	bool settled = repo_settle_redo(repo) == 0 || store_failed(repo->store);
	pthread_mutex_lock(&repo->lock);
	last = --head->references == 0 && settled;
	if (last)
		heads_remove(repo, head);
	pthread_mutex_unlock(&repo->lock);
	repo_commit_unlock(repo);
	if (last) {
		assert(!head->ops);
		head_free(head);
	}
	return NULL;
}

/* The commit lock makes sure that no commit is in the middle of the callbacks. */
int head_attach(struct head *head, const struct head_ops *ops, void *context)
{
	int error = 0;
	repo_commit_lock(head->repo);
	if (head->ops) {
		error = -EBUSY;
	} else {
		head->ops = ops;
		head->context = context;
	}
	repo_commit_unlock(head->repo);
	return error;
}

void head_detach(struct head *head)
{
	repo_commit_lock(head->repo);
	head->ops = NULL;
	head->context = NULL;
	repo_commit_unlock(head->repo);
}

/* ---- what a head knows ---- */

struct tree *head_tree(struct head *head)
{
	return head->tree;
}

uint64_t head_workspace(const struct head *head)
{
	return head->workspace;
}

const char *head_name(const struct head *head)
{
	return head->name;
}

uint64_t head_base(const struct head *head)
{
	return head->base;
}

struct repo *head_repo(const struct head *head)
{
	return head->repo;
}

static unsigned long this_thread(void)
{
	return (unsigned long)pthread_self();
}

void head_lock(struct head *head)
{
	int error = pthread_rwlock_wrlock(&head->lock);
	assert(!error);
	(void)error;
	atomic_store_explicit(&head->writer, this_thread(), memory_order_relaxed);
}

void head_lock_shared(struct head *head)
{
	int error = pthread_rwlock_rdlock(&head->lock);
	assert(!error);
	(void)error;
}

static bool head_is_locked(struct head *head)
{
	return atomic_load_explicit(&head->writer, memory_order_relaxed) == this_thread();
}

/* A writer that changed the tree need not say so: its last act here is to look. */
void head_unlock(struct head *head)
{
	if (head_is_locked(head)) {
		if (tree_is_dirty(head->tree))
			head_mark_dirty(head);
		atomic_store_explicit(&head->writer, 0, memory_order_relaxed);
	}
	pthread_rwlock_unlock(&head->lock);
}

void head_assert_locked(struct head *head)
{
	assert(head_is_locked(head));
	(void)head;
}

void head_count(struct head *head, const struct head_counters *delta)
{
	head_assert_locked(head);
	head->counters.files += delta->files;
	head->counters.directories += delta->directories;
	head->counters.bytes += delta->bytes;
	head->counters.changed_bytes += delta->changed_bytes;
}

void head_get_counters(struct head *head, struct head_counters *ret)
{
	*ret = head->counters;
}

void head_get_state(struct head *head, struct head_state *ret)
{
	*ret = (struct head_state){
		.root = tree_root(head->tree),
		.generation = tree_generation(head->tree),
		.base = head->base,
		.counters = head->counters,
	};
}

void head_mark_dirty(struct head *head)
{
	/* The common case, a head that is dirty already, leaves the cache line alone. */
	if (!atomic_load(&head->dirty))
		atomic_store(&head->dirty, true);
}
