#undef _FILE_OFFSET_BITS /* both names of each call are defined here */

#include "faults.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))

const char *const fault_kind_names[FAULT_KINDS] = {"memory", "write", "read", "sync",
						   "size",   "open",  "name", "map"};

static struct faults set;
static _Atomic bool armed;
static _Atomic uint64_t calls, committed;

void faults_set(const struct faults *faults)
{
	set = *faults;
	atomic_store(&calls, 0);
}

void faults_arm(void)
{
	atomic_store(&armed, true);
}

void faults_disarm(void)
{
	atomic_store(&armed, false);
}

uint64_t faults_calls(void)
{
	return atomic_load(&calls);
}

uint64_t faults_committed(void)
{
	return atomic_load(&committed);
}

/* 0: go on; otherwise the error, in errno too. */
static int strike(enum fault_kind kind)
{
	uint64_t call;

	if (!atomic_load(&armed) || kind != set.kind)
		return 0;
	call = atomic_fetch_add(&calls, 1) + 1;
	if (!set.at || call < set.at || (!set.forever && call > set.at))
		return 0;
	atomic_fetch_add(&committed, 1);
	if (set.error != FAULT_SHORT)
		errno = set.error;
	return set.error;
}

/* ---- memory ---- */

#ifdef FAULTS_WRAP /* ld --wrap: of the objects that are linked into the program */
#define MEMORY(name) __wrap_##name
#define REAL(name) __real_##name
#else
#define MEMORY(name) name
#define REAL(name) __libc_##name
#endif

void *REAL(malloc)(size_t size);
void *REAL(calloc)(size_t count, size_t size);
void *REAL(realloc)(void *old, size_t size);
PUBLIC void *MEMORY(malloc)(size_t size);
PUBLIC void *MEMORY(calloc)(size_t count, size_t size);
PUBLIC void *MEMORY(realloc)(void *old, size_t size);
PUBLIC void *MEMORY(reallocarray)(void *old, size_t count, size_t size);
PUBLIC void *MEMORY(aligned_alloc)(size_t alignment, size_t size);

void *MEMORY(malloc)(size_t size)
{
	return strike(FAULT_MEMORY) ? NULL : REAL(malloc)(size);
}

void *MEMORY(calloc)(size_t count, size_t size)
{
	return strike(FAULT_MEMORY) ? NULL : REAL(calloc)(count, size);
}

void *MEMORY(realloc)(void *old, size_t size)
{
	return strike(FAULT_MEMORY) ? NULL : REAL(realloc)(old, size);
}

void *MEMORY(reallocarray)(void *old, size_t count, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	return MEMORY(realloc)(old, bytes);
}

#ifdef FAULTS_WRAP
void *__real_aligned_alloc(size_t alignment, size_t size);
PUBLIC char *__wrap_strdup(const char *text);
PUBLIC int __wrap_posix_memalign(void **ret, size_t alignment, size_t size);
int __real_posix_memalign(void **ret, size_t alignment, size_t size);

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
	return strike(FAULT_MEMORY) ? NULL : __real_aligned_alloc(alignment, size);
}

int __wrap_posix_memalign(void **ret, size_t alignment, size_t size)
{
	return strike(FAULT_MEMORY) ? ENOMEM : __real_posix_memalign(ret, alignment, size);
}

char *__wrap_strdup(const char *text)
{
	size_t length = strlen(text) + 1;
	char *copy = __wrap_malloc(length);

	return copy ? memcpy(copy, text, length) : NULL;
}
#else
void *__libc_memalign(size_t alignment, size_t size);
PUBLIC int posix_memalign(void **ret, size_t alignment, size_t size);

void *aligned_alloc(size_t alignment, size_t size)
{
	return strike(FAULT_MEMORY) ? NULL : __libc_memalign(alignment, size);
}

int posix_memalign(void **ret, size_t alignment, size_t size)
{
	void *memory = strike(FAULT_MEMORY) ? NULL : __libc_memalign(alignment, size);

	if (!memory)
		return ENOMEM;
	*ret = memory;
	return 0;
}
#endif

/* ---- files ---- */

static ssize_t transfer(enum fault_kind kind, long call, int fd, const struct iovec *vector,
			int count, off_t offset)
{
	int error = strike(kind);
	struct iovec half = vector[0];

	if (error && error != FAULT_SHORT)
		return -1;
	if (error) {
		half.iov_len = (half.iov_len + 1) / 2;
		vector = &half;
		count = 1;
	}
	if (call == SYS_writev || call == SYS_readv)
		return syscall(call, fd, vector, count);
	return syscall(call, fd, vector, count, offset, 0);
}

#define DEFINE_TRANSFER(name, kind, call, pointer, type)                                           \
	PUBLIC ssize_t name(int fd, pointer data, size_t length, type offset)                      \
	{                                                                                          \
		const struct iovec vector = {(void *)(uintptr_t)data, length};                     \
		return transfer(kind, call, fd, &vector, 1, offset);                               \
	}
DEFINE_TRANSFER(pwrite, FAULT_WRITE, SYS_pwritev, const void *, off_t)
DEFINE_TRANSFER(pwrite64, FAULT_WRITE, SYS_pwritev, const void *, off64_t)
DEFINE_TRANSFER(pread, FAULT_READ, SYS_preadv, void *, off_t)
DEFINE_TRANSFER(pread64, FAULT_READ, SYS_preadv, void *, off64_t)

#define DEFINE_VECTOR(name, kind, call, type)                                                      \
	PUBLIC ssize_t name(int fd, const struct iovec *vector, int count, type offset)            \
	{                                                                                          \
		return transfer(kind, call, fd, vector, count, offset);                            \
	}
DEFINE_VECTOR(pwritev, FAULT_WRITE, SYS_pwritev, off_t)
DEFINE_VECTOR(pwritev64, FAULT_WRITE, SYS_pwritev, off64_t)
DEFINE_VECTOR(preadv, FAULT_READ, SYS_preadv, off_t)
DEFINE_VECTOR(preadv64, FAULT_READ, SYS_preadv, off64_t)

PUBLIC ssize_t writev(int fd, const struct iovec *vector, int count)
{
	return transfer(FAULT_WRITE, SYS_writev, fd, vector, count, 0);
}

PUBLIC ssize_t write(int fd, const void *data, size_t length)
{
	const struct iovec vector = {(void *)(uintptr_t)data, length};

	return transfer(FAULT_WRITE, SYS_writev, fd, &vector, 1, 0);
}

PUBLIC ssize_t read(int fd, void *data, size_t length)
{
	const struct iovec vector = {data, length};

	return transfer(FAULT_READ, SYS_readv, fd, &vector, 1, 0);
}

static int do_or_fail(enum fault_kind kind, long call, long a, long b, long c, long d)
{
	int error = strike(kind);

	return error && error != FAULT_SHORT ? -1 : (int)syscall(call, a, b, c, d);
}

PUBLIC int fdatasync(int fd)
{
	return do_or_fail(FAULT_SYNC, SYS_fdatasync, fd, 0, 0, 0);
}

PUBLIC int fsync(int fd)
{
	return do_or_fail(FAULT_SYNC, SYS_fsync, fd, 0, 0, 0);
}

PUBLIC int ftruncate(int fd, off_t length)
{
	return do_or_fail(FAULT_SIZE, SYS_ftruncate, fd, length, 0, 0);
}

PUBLIC int ftruncate64(int fd, off64_t length)
{
	return do_or_fail(FAULT_SIZE, SYS_ftruncate, fd, length, 0, 0);
}

PUBLIC int fallocate(int fd, int mode, off_t offset, off_t length)
{
	return do_or_fail(FAULT_SIZE, SYS_fallocate, fd, mode, offset, length);
}

PUBLIC int fallocate64(int fd, int mode, off64_t offset, off64_t length)
{
	return do_or_fail(FAULT_SIZE, SYS_fallocate, fd, mode, offset, length);
}

/* ---- names ---- */

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
		return do_or_fail(FAULT_OPEN, SYS_openat, AT_FDCWD, (long)path,                    \
				  flags | O_LARGEFILE, mode);                                      \
	}
DEFINE_OPEN(open)
DEFINE_OPEN(open64)

#define DEFINE_OPENAT(name)                                                                        \
	PUBLIC int name(int dirfd, const char *path, int flags, ...);                              \
	PUBLIC int name(int dirfd, const char *path, int flags, ...)                               \
	{                                                                                          \
		va_list arguments;                                                                 \
		va_start(arguments, flags);                                                        \
		mode_t mode = mode_of(flags, arguments);                                           \
		va_end(arguments);                                                                 \
		return do_or_fail(FAULT_OPEN, SYS_openat, dirfd, (long)path, flags | O_LARGEFILE,  \
				  mode);                                                           \
	}
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)

PUBLIC int mkdir(const char *path, mode_t mode);
int mkdir(const char *path, mode_t mode)
{
	return do_or_fail(FAULT_OPEN, SYS_mkdirat, AT_FDCWD, (long)path, mode, 0);
}

PUBLIC int mkdirat(int dirfd, const char *path, mode_t mode);
int mkdirat(int dirfd, const char *path, mode_t mode)
{
	return do_or_fail(FAULT_OPEN, SYS_mkdirat, dirfd, (long)path, mode, 0);
}

PUBLIC int unlinkat(int dirfd, const char *path, int flags)
{
	return do_or_fail(FAULT_NAME, SYS_unlinkat, dirfd, (long)path, flags, 0);
}

PUBLIC int renameat(int dirfd, const char *path, int new_dirfd, const char *new_path);
int renameat(int dirfd, const char *path, int new_dirfd, const char *new_path)
{
	return do_or_fail(FAULT_NAME, SYS_renameat, dirfd, (long)path, new_dirfd, (long)new_path);
}

static void *map(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
	/* Without a file it is memory of the allocator, or a thread's stack. */
	if (fd >= 0 && strike(FAULT_MAP))
		return MAP_FAILED;
	return (void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
}

PUBLIC void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
	return map(address, length, protection, flags, fd, offset);
}

PUBLIC void *mmap64(void *address, size_t length, int protection, int flags, int fd, off64_t offset)
{
	return map(address, length, protection, flags, fd, offset);
}
