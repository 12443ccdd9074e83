/* What opening a store does with its packs: it makes the files agree with the last commit. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "index/store_internal.h"

/* Cuts off what lies behind the committed length.  A file that is missing or too short has lost
 * chunks: reading these will say so, and the rest of the store is still good; but nothing is
 * appended to it. */
static int cut(struct store *store, uint64_t number, uint64_t length, bool *ret_whole)
{
	const struct io *io = &store->io;
	char name[PACK_NAME_SIZE];
	struct stat st;
	int fd, r;

	pack_name(number, name);
	*ret_whole = false;
	if (fstatat(store->packs.dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if ((uint64_t)st.st_size < length)
		return 0;
	*ret_whole = true;
	if ((uint64_t)st.st_size == length)
		return 0;
	fd = io->ops->open(io->context, store->packs.dirfd, name, O_RDWR, 0);
	if (fd < 0)
		return fd;
	r = io->ops->truncate(io->context, fd, length);
	close(fd);
	return r;
}

/* Tables are in order of number, so that the last one adopted as current stays so. */
static int load_pack(struct store *store, const MDB_val *key, const MDB_val *value,
		     struct errbuf *err)
{
	struct pack_entry entry;
	uint64_t number;
	bool whole;
	int r;

	if (key->mv_size != sizeof(number))
		return err_set(err, -EUCLEAN, "the table of packs is damaged");
	memcpy(&number, key->mv_data, sizeof(number));
	r = pack_decode(number, value->mv_data, value->mv_size, &entry);
	if (r == 0 && number >= store->packs.next_number)
		r = -EUCLEAN;
	if (r < 0)
		return err_set(err, r,
			       "the index entry of pack %08" PRIx64 " is damaged: the store can "
			       "still be opened read-only",
			       number);
	r = cut(store, number, entry.length, &whole);
	if (r < 0)
		return err_set(err, r, "cannot cut pack %08" PRIx64 " to %" PRIu64 " bytes: %s",
			       number, entry.length, strerror(-r));
	return pack_adopt(store, number, entry.length, whole);
}

static int load_table(struct store *store, struct errbuf *err)
{
	MDB_txn *txn;
	MDB_cursor *cursor;
	MDB_val key, value;
	int r = from_mdb(mdb_txn_begin(store->env.mdb, NULL, MDB_RDONLY, &txn));

	if (r < 0)
		return r;
	r = from_mdb(mdb_cursor_open(txn, store->env.dbi[DB_PACKS], &cursor));
	if (r == 0) {
		while ((r = from_mdb(mdb_cursor_get(cursor, &key, &value, MDB_NEXT))) == 0) {
			r = load_pack(store, &key, &value, err);
			if (r < 0)
				break;
		}
		mdb_cursor_close(cursor);
	}
	mdb_txn_abort(txn);
	return r == -ENOENT ? 0 : r;
}

/* The number of a pack from its name; 0 where it is not the name of one. */
static uint64_t parse_name(const char *name)
{
	char expected[PACK_NAME_SIZE];
	uint64_t number = strtoull(name, NULL, 16);

	pack_name(number, expected);
	return strcmp(name, expected) == 0 ? number : 0;
}

/* Removes packs that no commit knows: made, but not yet committed, before a crash, or removed by
 * a commit whose unlink a crash prevented. */
static int remove_unknown(struct store *store, struct errbuf *err)
{
	int fd = openat(store->packs.dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	int r = 0;

	if (!dir) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return r;
	}
	while (r == 0 && (errno = 0, entry = readdir(dir))) {
		uint64_t number = parse_name(entry->d_name);

		if (!number || pack_is_known(store, number))
			continue;
		r = store->io.ops->unlink(store->io.context, store->packs.dirfd, entry->d_name);
		if (r < 0)
			err_set(err, r, "cannot remove the left-over pack %s: %s", entry->d_name,
				strerror(-r));
	}
	if (r == 0 && errno)
		r = -errno;
	closedir(dir);
	return r;
}

int packs_load(struct store *store, struct errbuf *err)
{
	int r = load_table(store, err);

	return r < 0 ? r : remove_unknown(store, err);
}
