/*
 * The index is read through its memory map, and the kernel counts each page that was touched there
 * as this process's memory, though it is page cache that can be had back at any time.  After a walk
 * over a million files that is hundreds of megabytes, which alarms operators and cgroups alike.
 *
 * madvise(MADV_DONTNEED) on a shared mapping of a file takes the pages out of the page tables and
 * leaves them in the page cache: pointers stay good, the next access maps the page again.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "index/store_internal.h"

/* Pages of files that are mapped into this process (proc(5), statm). */
static uint64_t resident_file_bytes(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	uint64_t shared = 0;

	if (!file)
		return 0;
	if (fscanf(file, "%*u %*u %" SCNu64, &shared) != 1)
		shared = 0;
	fclose(file);
	return shared * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Where one line of /proc/self/maps maps the file: advises, otherwise does nothing. */
static void trim_line(const char *line, const struct stat *file)
{
	uint64_t start, end, inode;
	unsigned major, minor;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %*s %x:%x %" SCNu64, &start, &end, &major,
		   &minor, &inode) != 5)
		return;
	if (inode == file->st_ino && makedev(major, minor) == file->st_dev)
		(void)madvise((void *)(uintptr_t)start, end - start, MADV_DONTNEED);
}

int store_trim_memory(struct store *store, uint64_t keep)
{
	char line[PATH_MAX + 128];
	struct stat st;
	int fd, r;

	if (resident_file_bytes() <= keep)
		return 0;
	r = from_mdb(mdb_env_get_fd(store->env.mdb, &fd));
	if (r == 0 && fstat(fd, &st) < 0)
		r = -errno;
	if (r < 0)
		return r;
	FILE *maps = fopen("/proc/self/maps", "re");

	if (!maps)
		return -errno;
	while (fgets(line, sizeof(line), maps))
		trim_line(line, &st);
	fclose(maps);
	return 0;
}
