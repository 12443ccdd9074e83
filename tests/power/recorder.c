/*
 * The recorder (tests/power/tape.h): a shared library that takes the place of the C library's calls
 * which change files.  What concerns a file of the store goes onto the tape, before and after it is
 * done; everything is done by the kernel as ever.
 *
 * LMDB changes its map never by a store to memory (no MDB_WRITEMAP), but for its table of readers,
 * lock.mdb, which means nothing after a power cut.
 */
#undef _FILE_OFFSET_BITS /* both names of each call are defined here */

#include "tape.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))

enum { DESCRIPTORS = 1 << 16, BLOCK = 1 << 16 };

static struct {
	_Atomic uint64_t file; /* inode number; 0: none of ours */
	_Atomic bool durable;  /* O_DSYNC or O_SYNC */
} descriptors[DESCRIPTORS];

static _Atomic int tape = -1;
static char tape_path[PATH_MAX];
static ino_t tape_file;
static pid_t owner;
static _Atomic uint64_t operations;
static char store[PATH_MAX];
static size_t store_length;

/* A child that shares our memory but not our descriptors (fs/outside.c) is not recorded: the same
 * numbers are other files there. */
static bool is_recording(void)
{
	return atomic_load(&tape) >= 0 && getpid() == owner;
}

static void forked(void)
{
	owner = getpid();
}

/* ---- writing the tape ---- */

static int open_tape(void)
{
	return (int)syscall(SYS_openat, AT_FDCWD, tape_path,
			    O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* A process that becomes a daemon closes all descriptors that it does not know. */
static int tape_descriptor(void)
{
	int fd = atomic_load(&tape);
	struct stat st;

	if (fstat(fd, &st) < 0 || st.st_ino != tape_file) {
		fd = open_tape();
		atomic_store(&tape, fd);
	}
	return fd;
}

static void put_vector(const struct tape_record *record, const struct iovec *payload, int count)
{
	struct iovec vector[1 + IOV_MAX / 2];
	size_t total = sizeof(*record) + record->payload;

	if (count > IOV_MAX / 2)
		abort();
	vector[0] = (struct iovec){(void *)(uintptr_t)record, sizeof(*record)};
	if (count)
		memcpy(&vector[1], payload, (size_t)count * sizeof(*payload));
	if (syscall(SYS_writev, tape_descriptor(), vector, count + 1) != (long)total)
		abort(); /* a tape with a hole is worth nothing */
}

static void put(const struct tape_record *record, const void *payload)
{
	const struct iovec vector = {(void *)(uintptr_t)payload, record->payload};

	put_vector(record, &vector, record->payload ? 1 : 0);
}

static uint64_t next_operation(void)
{
	return (uint64_t)getpid() << 32 | (uint32_t)atomic_fetch_add(&operations, 1);
}

/* Keeps errno, as the caller wants it. */
static void put_end(uint64_t operation, long result)
{
	const int error = errno;
	const struct tape_record record = {.kind = TAPE_END,
					   .operation = operation,
					   .length = (uint64_t)(result < 0 ? -error : result)};

	put(&record, NULL);
	errno = error;
}

/* Descriptors are also closed inside the C library (closedir(3)), and used again by others. */
static uint64_t file_of(int fd)
{
	uint64_t file;
	struct stat st;

	if (fd < 0 || fd >= DESCRIPTORS || !is_recording())
		return 0;
	file = atomic_load(&descriptors[fd].file);
	return file && fstat(fd, &st) == 0 && st.st_ino == file ? file : 0;
}

/* ---- paths ---- */

/* The absolute path of what a call names; false: cannot tell. */
static bool resolve(int dirfd, const char *path, char ret[PATH_MAX])
{
	char link[64], base[PATH_MAX];
	ssize_t length;

	if (path[0] == '/')
		return snprintf(ret, PATH_MAX, "%s", path) < PATH_MAX;
	if (dirfd == AT_FDCWD)
		snprintf(link, sizeof(link), "/proc/self/cwd");
	else
		snprintf(link, sizeof(link), "/proc/self/fd/%d", dirfd);
	length = readlink(link, base, sizeof(base) - 1);
	if (length <= 0)
		return false;
	base[length] = '\0';
	return snprintf(ret, PATH_MAX, "%s/%s", base, path) < PATH_MAX;
}

static bool is_ours(const char *path)
{
	return strncmp(path, store, store_length) == 0 &&
	       (path[store_length] == '/' || path[store_length] == '\0');
}

/* Whether the call is about an entry of the store; if so, its directory and its name. */
static bool find_entry(int dirfd, const char *path, uint64_t *ret_parent, char ret_name[NAME_MAX])
{
	char absolute[PATH_MAX], *slash;
	struct stat st;

	if (!is_recording() || !resolve(dirfd, path, absolute) || !is_ours(absolute))
		return false;
	slash = strrchr(absolute, '/');
	snprintf(ret_name, NAME_MAX, "%s", slash + 1);
	*slash = '\0';
	if (!is_ours(absolute) || stat(absolute, &st) < 0)
		return false;
	*ret_parent = st.st_ino;
	return true;
}

static void put_name(enum tape_kind kind, uint64_t file, uint64_t parent, unsigned flags,
		     const char *name)
{
	const int error = errno;
	const struct tape_record record = {.kind = kind,
					   .flags = flags,
					   .file = file,
					   .parent = parent,
					   .payload = strlen(name)};

	put(&record, name);
	errno = error;
}

/* ---- opening and closing ---- */

static void note_descriptor(int fd, int flags)
{
	char link[64], path[PATH_MAX];
	struct stat st;
	ssize_t length;

	if (fd >= DESCRIPTORS)
		abort();
	atomic_store(&descriptors[fd].file, 0);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path) - 1);
	if (length <= 0)
		return;
	path[length] = '\0';
	if (!is_ours(path) || fstat(fd, &st) < 0)
		return;
	atomic_store(&descriptors[fd].durable, (flags & O_DSYNC) != 0);
	atomic_store(&descriptors[fd].file, st.st_ino);
}

static void note_opened(int fd, int flags, bool made, uint64_t parent, const char *name)
{
	uint64_t file;

	note_descriptor(fd, flags);
	file = file_of(fd);
	if (!file)
		return;
	if (made) {
		put_name(TAPE_MAKE, file, parent, 0, name);
	} else if (flags & O_TRUNC) {
		const struct tape_record record = {
			.kind = TAPE_TRUNCATE, .operation = next_operation(), .file = file};

		put(&record, NULL);
		put_end(record.operation, 0);
	}
}

static int open_at(int dirfd, const char *path, int flags, mode_t mode)
{
	bool ours = false, there = true;
	char name[NAME_MAX] = "";
	uint64_t parent = 0;
	int fd;

	if (flags & O_CREAT && find_entry(dirfd, path, &parent, name)) {
		ours = true;
		there = syscall(SYS_faccessat, dirfd, path, F_OK) == 0;
	}
	fd = (int)syscall(SYS_openat, dirfd, path, flags | O_LARGEFILE, mode);
	if (fd >= 0 && is_recording())
		note_opened(fd, flags, ours && !there, parent, name);
	return fd;
}

static mode_t mode_of(int flags, va_list arguments)
{
	return flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY)) ? va_arg(arguments, mode_t) : 0;
}

#define DEFINE_OPEN(name)                                                                          \
	PUBLIC int name(const char *path, int flags, ...);                                         \
	PUBLIC int name(const char *path, int flags, ...)                                          \
	{                                                                                          \
		va_list arguments;                                                                 \
		va_start(arguments, flags);                                                        \
		mode_t mode = mode_of(flags, arguments);                                           \
		va_end(arguments);                                                                 \
		return open_at(AT_FDCWD, path, flags, mode);                                       \
	}
DEFINE_OPEN(open)
DEFINE_OPEN(open64)
DEFINE_OPEN(__open_2)
DEFINE_OPEN(__open64_2)

#define DEFINE_OPENAT(name)                                                                        \
	PUBLIC int name(int dirfd, const char *path, int flags, ...);                              \
	PUBLIC int name(int dirfd, const char *path, int flags, ...)                               \
	{                                                                                          \
		va_list arguments;                                                                 \
		va_start(arguments, flags);                                                        \
		mode_t mode = mode_of(flags, arguments);                                           \
		va_end(arguments);                                                                 \
		return open_at(dirfd, path, flags, mode);                                          \
	}
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)
DEFINE_OPENAT(__openat_2)
DEFINE_OPENAT(__openat64_2)

PUBLIC int close(int fd)
{
	if (fd >= 0 && fd < DESCRIPTORS && is_recording())
		atomic_store(&descriptors[fd].file, 0);
	return (int)syscall(SYS_close, fd);
}

/* ---- changing contents ---- */

static uint64_t begin_write(uint64_t file, int fd, const struct iovec *vector, int count,
			    off_t offset)
{
	struct tape_record record = {.kind = TAPE_WRITE,
				     .operation = next_operation(),
				     .file = file,
				     .offset = (uint64_t)offset};

	if (atomic_load(&descriptors[fd].durable))
		record.flags |= TAPE_DURABLE;
	for (int i = 0; i < count; i++)
		record.payload += vector[i].iov_len;
	put_vector(&record, vector, count);
	return record.operation;
}

static ssize_t write_at(int fd, const void *data, size_t length, off_t offset)
{
	const struct iovec vector = {(void *)(uintptr_t)data, length};
	uint64_t file = file_of(fd), operation = 0;
	ssize_t done;

	if (file)
		operation = begin_write(file, fd, &vector, 1, offset);
	done = syscall(SYS_pwrite64, fd, data, length, offset);
	if (file)
		put_end(operation, done);
	return done;
}

PUBLIC ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)
{
	return write_at(fd, data, length, offset);
}

PUBLIC ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset)
{
	return write_at(fd, data, length, offset);
}

PUBLIC ssize_t write(int fd, const void *data, size_t length)
{
	const struct iovec vector = {(void *)(uintptr_t)data, length};
	uint64_t file = file_of(fd), operation = 0;
	ssize_t done;

	if (file)
		operation = begin_write(file, fd, &vector, 1, lseek(fd, 0, SEEK_CUR));
	done = syscall(SYS_write, fd, data, length);
	if (file)
		put_end(operation, done);
	return done;
}

PUBLIC ssize_t writev(int fd, const struct iovec *vector, int count)
{
	uint64_t file = file_of(fd), operation = 0;
	ssize_t done;

	if (file)
		operation = begin_write(file, fd, vector, count, lseek(fd, 0, SEEK_CUR));
	done = syscall(SYS_writev, fd, vector, count);
	if (file)
		put_end(operation, done);
	return done;
}

static ssize_t writev_at(int fd, const struct iovec *vector, int count, off_t offset, int flags)
{
	uint64_t file = file_of(fd), operation = 0;
	ssize_t done;

	if (file && flags)
		abort(); /* RWF_DSYNC and its like would have to be told */
	if (file)
		operation = begin_write(file, fd, vector, count, offset);
	done = syscall(SYS_pwritev2, fd, vector, count, offset, 0, flags);
	if (file)
		put_end(operation, done);
	return done;
}

PUBLIC ssize_t pwritev(int fd, const struct iovec *vector, int count, off_t offset)
{
	return writev_at(fd, vector, count, offset, 0);
}

PUBLIC ssize_t pwritev64(int fd, const struct iovec *vector, int count, off64_t offset)
{
	return writev_at(fd, vector, count, offset, 0);
}

PUBLIC ssize_t pwritev2(int fd, const struct iovec *vector, int count, off_t offset, int flags)
{
	return writev_at(fd, vector, count, offset, flags);
}

PUBLIC ssize_t pwritev64v2(int fd, const struct iovec *vector, int count, off64_t offset, int flags)
{
	return writev_at(fd, vector, count, offset, flags);
}

static int change(int fd, enum tape_kind kind, off_t offset, off_t length, long call, long first)
{
	const struct tape_record record = {.kind = kind,
					   .operation = next_operation(),
					   .file = file_of(fd),
					   .offset = (uint64_t)offset,
					   .length = (uint64_t)length};
	long r;

	if (record.file)
		put(&record, NULL);
	if (call == SYS_fallocate)
		r = syscall(call, fd, first, offset, length);
	else
		r = syscall(call, fd, first);
	if (record.file)
		put_end(record.operation, r);
	return (int)r;
}

PUBLIC int ftruncate(int fd, off_t length)
{
	return change(fd, TAPE_TRUNCATE, 0, length, SYS_ftruncate, length);
}

PUBLIC int ftruncate64(int fd, off64_t length)
{
	return change(fd, TAPE_TRUNCATE, 0, length, SYS_ftruncate, length);
}

static int allocate(int fd, int mode, off_t offset, off_t length)
{
	const struct tape_record record = {.kind = TAPE_EXTEND,
					   .operation = next_operation(),
					   .file = file_of(fd),
					   .length = (uint64_t)(offset + length)};
	long r;

	if (mode & FALLOC_FL_PUNCH_HOLE)
		return change(fd, TAPE_PUNCH, offset, length, SYS_fallocate, mode);
	if (mode && record.file)
		abort(); /* what it does would have to be told */
	if (record.file)
		put(&record, NULL);
	r = syscall(SYS_fallocate, fd, mode, offset, length);
	if (record.file)
		put_end(record.operation, r);
	return (int)r;
}

PUBLIC int fallocate(int fd, int mode, off_t offset, off_t length)
{
	return allocate(fd, mode, offset, length);
}

PUBLIC int fallocate64(int fd, int mode, off64_t offset, off64_t length)
{
	return allocate(fd, mode, offset, length);
}

/* ---- syncs ---- */

PUBLIC int fdatasync(int fd)
{
	return change(fd, TAPE_SYNC, 0, 0, SYS_fdatasync, 0);
}

PUBLIC int fsync(int fd)
{
	return change(fd, TAPE_SYNC, 0, 0, SYS_fsync, 0);
}

/* ---- changing names ---- */

static int unlink_at(int dirfd, const char *path, int flags)
{
	char name[NAME_MAX];
	uint64_t parent;
	bool ours = find_entry(dirfd, path, &parent, name);
	int r = (int)syscall(SYS_unlinkat, dirfd, path, flags);

	if (r == 0 && ours)
		put_name(TAPE_UNLINK, 0, parent, 0, name);
	return r;
}

PUBLIC int unlinkat(int dirfd, const char *path, int flags)
{
	return unlink_at(dirfd, path, flags);
}

PUBLIC int unlink(const char *path)
{
	return unlink_at(AT_FDCWD, path, 0);
}

PUBLIC int rmdir(const char *path)
{
	return unlink_at(AT_FDCWD, path, AT_REMOVEDIR);
}

static int rename_at(int dirfd, const char *path, int new_dirfd, const char *new_path)
{
	char name[NAME_MAX], new_name[NAME_MAX], both[2 * NAME_MAX];
	uint64_t parent, new_parent;
	bool ours = find_entry(dirfd, path, &parent, name) &&
		    find_entry(new_dirfd, new_path, &new_parent, new_name);
	int r = (int)syscall(SYS_renameat2, dirfd, path, new_dirfd, new_path, 0);

	if (r == 0 && ours) {
		const struct tape_record record = {.kind = TAPE_RENAME,
						   .file = new_parent,
						   .parent = parent,
						   .payload = strlen(name) + 1 + strlen(new_name)};

		memcpy(both, name, strlen(name) + 1);
		memcpy(both + strlen(name) + 1, new_name, strlen(new_name));
		put(&record, both);
	}
	return r;
}

PUBLIC int renameat(int dirfd, const char *path, int new_dirfd, const char *new_path)
{
	return rename_at(dirfd, path, new_dirfd, new_path);
}

PUBLIC int rename(const char *path, const char *new_path)
{
	return rename_at(AT_FDCWD, path, AT_FDCWD, new_path);
}

static int mkdir_at(int dirfd, const char *path, mode_t mode)
{
	char name[NAME_MAX];
	uint64_t parent;
	bool ours = find_entry(dirfd, path, &parent, name);
	int r = (int)syscall(SYS_mkdirat, dirfd, path, mode);
	struct stat st;

	if (r == 0 && ours && fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) == 0)
		put_name(TAPE_MAKE, st.st_ino, parent, TAPE_DIRECTORY, name);
	return r;
}

PUBLIC int mkdirat(int dirfd, const char *path, mode_t mode)
{
	return mkdir_at(dirfd, path, mode);
}

PUBLIC int mkdir(const char *path, mode_t mode)
{
	return mkdir_at(AT_FDCWD, path, mode);
}

/* ---- starting ---- */

static bool is_zero(const uint8_t *bytes, size_t length)
{
	return !length || (!bytes[0] && memcmp(bytes, bytes + 1, length - 1) == 0);
}

static void put_contents(const char *path, uint64_t file)
{
	static uint8_t bytes[BLOCK];
	struct tape_record record = {.kind = TAPE_BYTES, .file = file};
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	ssize_t done;

	while (fd >= 0 && (done = pread(fd, bytes, sizeof(bytes), (off_t)record.offset)) > 0) {
		record.payload = (uint64_t)done;
		if (!is_zero(bytes, (size_t)done))
			put(&record, bytes);
		record.offset += (uint64_t)done;
	}
	if (fd >= 0)
		syscall(SYS_close, fd);
}

static void put_tree(const char *path, uint64_t parent, const char *name)
{
	struct tape_record record = {.kind = TAPE_FILE, .parent = parent, .payload = strlen(name)};
	struct dirent *entry;
	struct stat st;
	DIR *dir;

	if (lstat(path, &st) < 0 || (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode)))
		return;
	record.file = st.st_ino;
	if (S_ISREG(st.st_mode)) {
		record.length = (uint64_t)st.st_size;
		put(&record, name);
		put_contents(path, st.st_ino);
		return;
	}
	record.flags = TAPE_DIRECTORY;
	put(&record, name);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		char below[PATH_MAX];

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (snprintf(below, sizeof(below), "%s/%s", path, entry->d_name) < PATH_MAX)
			put_tree(below, st.st_ino, entry->d_name);
	}
	if (dir)
		closedir(dir);
}

PUBLIC int tape_start(const char *path, const char *directory)
{
	struct stat st;
	int fd;

	if (atomic_load(&tape) >= 0)
		return -EBUSY;
	if (!realpath(directory, store))
		return -errno;
	store_length = strlen(store);
	snprintf(tape_path, sizeof(tape_path), "%s", path);
	fd = open_tape();
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	tape_file = st.st_ino;
	owner = getpid();
	atomic_store(&tape, fd);
	if (!st.st_size) /* the first of several processes */
		put_tree(store, 0, "");
	return 0;
}

PUBLIC void tape_stop(void)
{
	int fd = atomic_exchange(&tape, -1);

	if (fd >= 0)
		syscall(SYS_close, fd);
}

PUBLIC void tape_mark(const char *text)
{
	if (is_recording())
		put_name(TAPE_MARK, 0, 0, 0, text);
}

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("CAIRN_TAPE"), *directory = getenv("CAIRN_TAPE_STORE");

	if (pthread_atfork(NULL, NULL, forked) != 0)
		abort();
	if (path && directory && tape_start(path, directory) < 0)
		abort();
}
