#include "index/store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "index/format_file_internal.h"
#include "index/store_internal.h"
#include "index/util/shell.h"

/*
 * LMDB must not open an environment twice in one process (closing one would drop the file locks
 * of the other), so the stores that are open are listed here.
 */
static pthread_mutex_t open_stores_lock = PTHREAD_MUTEX_INITIALIZER;
static struct store *open_stores;

static int register_store(struct store *store, struct errbuf *err)
{
	struct stat st;
	int r = 0;

	if (fstat(store->dirfd, &st) < 0)
		return -errno;
	store->device = st.st_dev;
	store->inode = st.st_ino;
	pthread_mutex_lock(&open_stores_lock);
	for (struct store *other = open_stores; other && r == 0; other = other->next_open) {
		if (other->device == st.st_dev && other->inode == st.st_ino)
			r = err_set(err, -EBUSY,
				    "the store %s is already open in this process (%d)",
				    store->directory, (int)getpid());
	}
	if (r == 0) {
		store->next_open = open_stores;
		open_stores = store;
		store->registered = true;
	}
	pthread_mutex_unlock(&open_stores_lock);
	return r;
}

static void unregister_store(struct store *store)
{
	struct store **at = &open_stores;

	if (!store->registered)
		return;
	pthread_mutex_lock(&open_stores_lock);
	while (*at != store)
		at = &(*at)->next_open;
	*at = store->next_open;
	pthread_mutex_unlock(&open_stores_lock);
}

static int refuse_busy(struct store *store, struct errbuf *err)
{
	char text[16] = "";
	ssize_t length = pread(store->lock_fd, text, sizeof(text) - 1, 0);
	long pid = length > 0 ? strtol(text, NULL, 10) : 0;

	if (pid > 0)
		return err_set(err, -EBUSY, "the store %s is in use by process %ld",
			       store->directory, pid);
	return err_set(err, -EBUSY, "the store %s is in use by another process", store->directory);
}

bool store_is_locked(const char *directory, int *ret_pid)
{
	char path[PATH_MAX], text[16] = "";
	bool locked = false;

	if (snprintf(path, sizeof(path), "%s/lock", directory) >= (int)sizeof(path))
		return false;
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK) {
		locked = true;
		*ret_pid = pread(fd, text, sizeof(text) - 1, 0) > 0 ? atoi(text) : 0;
	}
	close(fd);
	return locked;
}

static int lock_store(struct store *store, struct errbuf *err)
{
	char text[16];
	int length;

	store->lock_fd =
		openat(store->dirfd, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (store->lock_fd < 0)
		return err_set(err, -errno, "cannot open %s/lock for writing: %s", store->directory,
			       strerror(errno));
	if (flock(store->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno == EWOULDBLOCK)
			return refuse_busy(store, err);
		return err_set(err, -errno, "cannot lock %s/lock: %s", store->directory,
			       strerror(errno));
	}
	/* Only for the message above; on a full disk it does without. */
	length = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (ftruncate(store->lock_fd, 0) == 0)
		(void)!pwrite(store->lock_fd, text, (size_t)length, 0);
	return 0;
}

static int load_state(struct store *store, struct errbuf *err)
{
	struct state state;
	MDB_txn *txn;
	int r = from_mdb(mdb_txn_begin(store->env.mdb, NULL, MDB_RDONLY, &txn));

	if (r < 0)
		return err_set(err, r, "cannot read the index of the store %s: %s",
			       store->directory, strerror(-r));
	r = env_check_uuid(&store->env, txn, store->uuid);
	if (r < 0)
		err_set(err, r, "the index of the store %s belongs to another store",
			store->directory);
	if (r == 0) {
		r = env_get_state(&store->env, txn, &state);
		if (r < 0)
			err_set(err, r,
				"the state of the store %s is damaged: bring its index "
				"back from a backup",
				store->directory);
	}
	if (r == 0) {
		for (int i = 0; i < STORE_COUNTERS; i++)
			atomic_store(&store->counters[i], state.next[i]);
		store_set_compression(store, &state.compression);
		store_note_scattered(store, state.scattered);
		atomic_store(&store->sequence, mdb_txn_id(txn));
		store->packs.next_number = state.next_pack;
		store->redo.epoch = state.redo_epoch;
	}
	mdb_txn_abort(txn);
	return r;
}

static int open_directory(struct store *store, const char *directory, struct errbuf *err)
{
	char quoted[sizeof(err->text)];
	struct format_file format;
	int r;

	store->directory = realpath(directory, NULL);
	if (!store->directory && (errno == ENOENT || errno == ENOTDIR))
		return err_set(err, -ENOENT, "there is no store %s; make one with: cairn init %s",
			       directory, shell_quote(directory, quoted, sizeof(quoted)));
	if (!store->directory)
		return err_set(err, -errno, "cannot open the store %s: %s", directory,
			       strerror(errno));
	store->dirfd = open(store->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (store->dirfd < 0)
		return err_set(err, errno == ENOTDIR ? -ENOENT : -errno,
			       "cannot open the store %s: %s", store->directory, strerror(errno));
	r = format_file_read(store->dirfd, store->directory, store_is_read_only(store), &format,
			     err);
	if (r < 0)
		return r;
	store->version = format.version;
	memcpy(store->uuid, format.uuid, sizeof(format.uuid));
	r = register_store(store, err);
	if (r == 0 && !store_is_read_only(store))
		r = lock_store(store, err);
	return r;
}

static int open_contents(struct store *store, struct errbuf *err)
{
	char path[PATH_MAX];
	int dead, r;

	store->packs.dirfd =
		openat(store->dirfd, "packs", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (store->packs.dirfd < 0)
		return err_set(err, errno == ENOENT ? -EUCLEAN : -errno,
			       "cannot open the packs of the store %s: %s", store->directory,
			       strerror(errno));
	if (snprintf(path, sizeof(path), "%s/index", store->directory) >= (int)sizeof(path))
		return err_set(err, -ENAMETOOLONG, "the path of the store is too long: %s",
			       store->directory);
	r = env_open(path, store_is_read_only(store), &store->env, err);
	if (r == 0)
		r = load_state(store, err);
	if (r == 0 && store_is_read_only(store))
		return redo_is_pending(store, &store->redo_pending, err);
	if (r < 0)
		return r;
	mdb_reader_check(store->env.mdb, &dead); /* slots of processes that crashed */
	r = packs_load(store, err);
	if (r < 0)
		return r;
	r = redo_load(store, err);
	if (r < 0)
		return r;
	space_restore_ballast(store);
	/* If punching fails now it is tried again at the next open or collection; only a store
	 * that cannot commit is of no use. */
	(void)punch_run(store);
	if (store_failed(store))
		return err_set(err, store_failed(store), "cannot write to the store %s: %s",
			       store->directory, strerror(-store_failed(store)));
	return 0;
}

/* What needs no cleaning up before it, in the order of the structure. */
static int store_new(unsigned flags, const struct io *io, struct store **ret)
{
	struct store *store = calloc(1, sizeof(*store));

	if (!store)
		return -ENOMEM;
	store->flags = flags;
	store->dirfd = -1;
	store->lock_fd = -1;
	store->io = io ? *io : (struct io){&io_system, NULL};
	redo_init(store);
	if (readers_init(store) < 0)
		goto no_readers;
	if (packs_init(store) < 0)
		goto no_packs;
	if (pending_init(&store->chunks) < 0)
		goto no_chunks;
	if (scratch_pool_init(&store->scratch) < 0)
		goto no_scratch;
	if (space_init(store) < 0)
		goto no_space;
	*ret = store;
	return 0;

no_space:
	scratch_pool_release(&store->scratch);
no_scratch:
	pending_release(&store->chunks);
no_chunks:
	packs_release(store);
no_packs:
	readers_release(store);
no_readers:
	free(store);
	return -ENOMEM;
}

static int open_store(const char *directory, unsigned flags, const struct io *io,
		      struct store **ret, struct errbuf *err)
{
	struct store *store;
	int r;

	r = store_new(flags, io, &store);
	if (r < 0)
		return err_set(err, r, "not enough memory to open the store %s", directory);
	r = open_directory(store, directory, err);
	if (r == 0) {
		space_measure(store);
		r = open_contents(store, err);
	}
	if (r < 0) {
		if (err && !err->text[0])
			err_set(err, r, "cannot open the store %s: %s", directory, strerror(-r));
		store_close(store);
		return r;
	}
	*ret = store;
	return 0;
}

/* What waits in the redo log is part of the store's state: for who only reads, too, somebody has to
 * take it over first.  A writer that has the store open has done that, and what he has in there
 * since reaches the index with his next commit. */
static int take_over_redo(const char *directory, const struct io *io, struct store **ret,
			  struct errbuf *err)
{
	struct store *writer;
	int r;

	*ret = store_close(*ret);
	r = open_store(directory, 0, io, &writer, err);
	if (r == -EROFS || r == -EACCES || r == -EPERM)
		return err_set(
			err, r,
			"the store %s has a redo log of which a commit must be made before it "
			"can be read: open it once where it can be written to",
			directory);
	if (r < 0 && r != -EBUSY)
		return r;
	if (r == 0)
		store_close(writer);
	else if (err)
		err->text[0] = '\0';
	return open_store(directory, STORE_READ_ONLY, io, ret, err);
}

int store_open(const char *directory, unsigned flags, const struct io *io, struct store **ret,
	       struct errbuf *err)
{
	struct store *store;
	int r;

	if (flags & ~(unsigned)STORE_READ_ONLY)
		return err_set(err, -EINVAL, "unknown flags for opening a store: %#x", flags);
	r = open_store(directory, flags, io, &store, err);
	if (r == 0 && store->redo_pending)
		r = take_over_redo(directory, io, &store, err);
	if (r == 0)
		*ret = store;
	return r;
}

struct store *store_close(struct store *store)
{
	if (!store)
		return NULL;
	readers_release(store);
	pending_release(&store->chunks);
	scratch_pool_release(&store->scratch);
	redo_release(store);
	packs_release(store);
	space_release(store);
	env_close(&store->env);
	unregister_store(store);
	if (store->lock_fd >= 0)
		close(store->lock_fd); /* and with it the lock */
	if (store->dirfd >= 0)
		close(store->dirfd);
	free(store->directory);
	free(store);
	return NULL;
}

const char *store_directory(const struct store *store)
{
	return store->directory;
}

const char *store_uuid(const struct store *store)
{
	return store->uuid;
}

unsigned store_format_version(const struct store *store)
{
	return store->version;
}

bool store_is_read_only(const struct store *store)
{
	return store->flags & STORE_READ_ONLY;
}

int store_failed(const struct store *store)
{
	return atomic_load(&store->failed);
}

void store_fail(struct store *store, int error)
{
	int none = 0;

	atomic_compare_exchange_strong(&store->failed, &none, error);
}

bool store_is_scattered(struct store *store)
{
	return atomic_load_explicit(&store->scattered, memory_order_relaxed);
}

void store_note_scattered(struct store *store, bool scattered)
{
	if (store_is_scattered(store) != scattered)
		atomic_store(&store->scattered, scattered);
}

uint64_t store_next(struct store *store, enum store_counter counter)
{
	return atomic_fetch_add(&store->counters[counter], 1);
}

uint64_t store_peek(struct store *store, enum store_counter counter)
{
	return atomic_load(&store->counters[counter]);
}

/* There are a few thousand packs for each terabyte. */
static int pack_blocks(struct store *store, MDB_txn *txn, uint64_t *ret)
{
	char name[PACK_NAME_SIZE];
	uint64_t number, bytes = 0;
	MDB_cursor *cursor;
	MDB_val key, value;
	struct stat st;
	int r = from_mdb(mdb_cursor_open(txn, store->env.dbi[DB_PACKS], &cursor));

	if (r < 0)
		return r;
	while ((r = from_mdb(mdb_cursor_get(cursor, &key, &value, MDB_NEXT))) == 0) {
		if (key.mv_size != sizeof(number))
			continue;
		memcpy(&number, key.mv_data, sizeof(number));
		pack_name(number, name);
		if (fstatat(store->packs.dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			bytes += (uint64_t)st.st_blocks * 512;
	}
	mdb_cursor_close(cursor);
	if (r != -ENOENT)
		return r;
	*ret = bytes;
	return 0;
}

int store_statistics(struct store *store, struct store_statistics *ret)
{
	struct store_statistics statistics = {0};
	struct reader *reader;
	struct state state;
	struct statvfs vfs;
	struct stat st;
	MDB_stat nodes, chunks;
	int r = reader_acquire(store, &reader);

	if (r < 0)
		return r;
	r = env_get_state(&store->env, reader_txn(reader), &state);
	if (r == 0)
		r = from_mdb(mdb_stat(reader_txn(reader), store->env.dbi[DB_NODES], &nodes));
	if (r == 0)
		r = from_mdb(mdb_stat(reader_txn(reader), store->env.dbi[DB_CHUNKS], &chunks));
	if (r == 0)
		r = pack_blocks(store, reader_txn(reader), &statistics.pack_bytes);
	statistics.commits = reader_sequence(reader);
	reader_release(reader);
	if (r < 0)
		return r;
	if (fstatvfs(store->dirfd, &vfs) < 0 || fstatat(store->dirfd, "index/data.mdb", &st, 0) < 0)
		return -errno;
	statistics.nodes = nodes.ms_entries;
	statistics.chunks = chunks.ms_entries;
	statistics.raw_bytes = state.raw_bytes;
	statistics.stored_bytes = state.stored_bytes;
	statistics.index_bytes = (uint64_t)st.st_blocks * 512;
	statistics.free_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	statistics.total_bytes = (uint64_t)vfs.f_blocks * vfs.f_frsize;
	*ret = statistics;
	return 0;
}
