/*
 * Digest: one SHA-256 over names, attributes and contents of a point.  It says what was signed
 * off, in 64 characters that an auditor can put into the minutes, and can compute again from an
 * export with standard tools (README.md has the script).
 *
 * Defined on the tree of directories, not on how cairn stores it.  Every file, directory … is one
 * line of text, its fields separated by single blanks:
 *
 *   TYPE MODE UID GID MTIME SIZE XATTRS DIGEST NAME "\n"
 *
 *   TYPE    f d l p s c b, as find(1) has them
 *   MODE    permission bits in octal, without leading zeros ("644", "4755")
 *   MTIME   seconds since 1970 rounded down, ".", nine digits of nanoseconds; "-" of a directory
 *   SIZE    in bytes, of a file or symbolic link; else "-"
 *   XATTRS  "-" without any; else SHA-256 of lines NAME "=0x" VALUE "\n", sorted as bytes, VALUE
 *           in lower-case hexadecimal.  security.selinux does not count: the host's policy gives it
 *   DIGEST  SHA-256 of the contents of a file, of the target of a symbolic link, of the lines of a
 *           directory's entries sorted by NAME (as bytes, as it stands in the line); of a
 *           device "MAJOR:MINOR" in decimal; else "-"
 *   NAME    with backslash, line feed and carriage return written as \134, \012, \015; in the
 *           name of an xattr also "=" as \075 (getfattr(1) does that)
 *
 *   The digest of a point is the SHA-256 of "cairn digest 1\n" and the line of its root, whose
 *   name is ".".
 *
 * The time of a directory tells how an archive was unpacked rather than what is in it, so it is
 * left out; so are atime, ctime and inode numbers.  Hard links count as the files that they are.
 *
 * Cost: the DIGESTs of files, links and directories are kept in a copy-on-write tree of their own
 * beside the point's (index/FORMAT.md, "DIGEST"), which starts as that of the nearest ancestor.  So
 * the next point's costs what changed: the files themselves, and the directories up to the root.
 * What is kept is trusted by digest_of_point() and not by digest_verify().
 */
#ifndef CAIRN_SNAPSHOT_DIGEST_H
#define CAIRN_SNAPSHOT_DIGEST_H

#include <stdbool.h>
#include <stdint.h>

#include "snapshot/collect.h"
#include "snapshot/repo.h"

enum { DIGEST_BYTES = 32, DIGEST_TEXT = 65 }; /* lower-case hex, terminated */

struct digest {
	uint8_t bytes[DIGEST_BYTES];
};
void digest_text(const struct digest *digest, char ret[DIGEST_TEXT]);
int digest_parse(const char *text, struct digest *ret); /* either case; -EINVAL */

/*
 * The digest of a point: the recorded one, or computed and recorded now (one commit with an entry
 * in the journal; in a store opened read-only it is computed and not recorded).  `progress` (may
 * be NULL) has the phase "digest" and counts bytes of files.  -EINTR where it stopped; -ENOENT
 * where the point was deleted meanwhile.  Needs no lock: a point does not change.
 */
int digest_of_point(struct repo *repo, uint64_t point, const char *by, collect_progress *progress,
		    void *context, struct digest *ret, bool *ret_recorded, struct errbuf *err);

struct digest_check {
	struct digest expected; /* the caller's, or the recorded one */
	struct digest found;
	bool equal;
	/* Where it is not equal to the recorded one: the first path (in order of names, from the
	 * root down) whose kept digest is another, "" for the root; owned.  NULL: unknown, because
	 * none is recorded, or it is the recorded one that was found. */
	char *path;
};
void digest_check_release(struct digest_check *check);
/* Computes the digest from the data alone, without the kept ones, and compares.  `expected` NULL:
 * with the recorded one (-ENODATA where there is none).  Data that cannot be read is an error whose
 * message names the file. */
int digest_verify(struct repo *repo, uint64_t point, const struct digest *expected,
		  collect_progress *progress, void *context, struct digest_check *ret,
		  struct errbuf *err);

#endif
