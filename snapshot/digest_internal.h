/* Computing digests (snapshot/digest.h): the parts and who does what. */
#ifndef CAIRN_SNAPSHOT_DIGEST_INTERNAL_H
#define CAIRN_SNAPSHOT_DIGEST_INTERNAL_H

#include <stddef.h>

#include "index/util/u64map.h"
#include "snapshot/digest.h"
#include "snapshot/dirent.h"
#include "snapshot/inode.h"
#include "snapshot/point.h"

/* ---- hashing (digest_hash.c) ---- */

/* SHA-256, again and again.  One thread. */
struct hasher {
	void *method;  /* owned: EVP_MD */
	void *context; /* owned: EVP_MD_CTX */
};
int hasher_init(struct hasher *ret);
void hasher_release(struct hasher *hasher); /* zeroed is fine */
int hasher_begin(struct hasher *hasher);
int hasher_add(struct hasher *hasher, const void *data, size_t length);
int hasher_end(struct hasher *hasher, struct digest *ret);

/* Longest NAME of a line, terminated: every byte may be written as four. */
enum { DIGEST_NAME_MAX = 4 * NAME_MAX_BYTES + 1 };
/* Writes the name as lines have it, and a NUL; returns its length. */
size_t digest_name(const char *name, size_t length, char ret[DIGEST_NAME_MAX]);

/* The fields of a line before DIGEST, and the blank behind; `xattrs` is used for hashing on the
 * way. */
enum { DIGEST_FIELDS_MAX = 256 };
int digest_fields(struct tree *tree, struct reader *reader, uint64_t ino,
		  const struct inode_attr *attr, struct hasher *xattrs,
		  char ret[DIGEST_FIELDS_MAX]);

/* Has this file a digest that is kept (regular file, symbolic link, directory)? */
bool digest_is_kept(uint32_t mode);
/* The DIGEST of what has none that is kept. */
void digest_of_special(const struct inode_attr *attr, char ret[DIGEST_TEXT]);

/* The value of a DIGEST item; -EUCLEAN. */
int digest_decode(const struct tree_item *item, struct digest *ret);

/* ---- what has to be computed, and doing it (digest_work.c, digest_files.c) ---- */

/* A new or changed digest, or one that goes. */
struct digest_entry {
	uint64_t ino;
	uint64_t size; /* of a file that is to be read */
	struct digest digest;
	bool gone;
	bool directory;
	bool leaf;	/* a directory: none in it is to be computed first */
	size_t parent;	/* of a directory: its entry; its own index for the root */
	size_t pending; /* of a directory: directories in it that are still to come */
};

struct digest_work {
	struct repo *repo;
	uint64_t point;
	struct tree *tree;     /* owned: the point's */
	struct tree *before;   /* owned: of the point whose digests are known; or an empty one */
	struct tree *kept;     /* owned: those digests; or an empty one */
	struct reader *reader; /* owned; renewed now and then */
	struct hasher lines, xattrs;
	collect_progress *progress;
	void *context;
	struct errbuf *err;

	struct digest_entry *entries; /* owned */
	size_t count, capacity;
	struct u64map index; /* ino -> index in entries + 1 */
	uint64_t bytes;	     /* in files to be read */
	struct digest result;
};

/* Computes all that the tree of `root` needs beyond what `kept_root` has for `before_root` (both 0:
 * everything): work->entries, in any order, and work->result.  digest_work_release() in any
 * case. */
struct digest_job {
	struct repo *repo;
	uint64_t point;
	uint64_t root, before_root, kept_root;
	collect_progress *progress;
	void *context;
};
int digest_work_run(struct digest_work *work, const struct digest_job *job, struct errbuf *err);
void digest_work_release(struct digest_work *work);
int digest_work_renew(struct digest_work *work); /* a new reader */

/* Reads and hashes the files among the entries, with several threads. */
int digest_files(struct digest_work *work);

/* The digest of an inode as far as known now: computed, else kept. -EUCLEAN: none. */
int digest_known(struct digest_work *work, uint64_t ino, struct digest *ret);

/* Entries of a directory, sorted by the NAME of their lines. */
struct digest_name_entry {
	uint64_t ino;
	char *name;    /* owned, as lines have it */
	size_t length; /* of it */
};
int digest_directory_entries(struct tree *tree, struct reader *reader, uint64_t directory,
			     struct digest_name_entry **ret, size_t *ret_count);
void digest_entries_free(struct digest_name_entry *entries, size_t count);

/* Damage where the point was deleted, and collected, under our eyes, is none: -ENOENT then. */
int digest_explain(struct repo *repo, uint64_t point, int error, struct errbuf *err);

#endif
