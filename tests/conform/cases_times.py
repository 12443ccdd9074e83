"""Times: exact values, what each call moves, access times."""
import errno
import fcntl
import mmap
import os
import time

import calls
from conform import (as_user, case, drop_caches, expect, expect_equal, expect_errno, opened, read_file, skip, tick,
                     write_file)

# utimensat

def times_of(path):
    status = os.stat(path, follow_symlinks=False)
    return status.st_atime_ns, status.st_mtime_ns


@case("utimensat", "without times it is the present, to the nanosecond of the kernel's clock")
def utime_null():
    write_file("f")
    os.utime("f", ns=(1, 1))
    before = time.clock_gettime_ns(calls.CLOCK_REALTIME_COARSE)
    calls.utimensat("f", None)
    after = time.clock_gettime_ns(time.CLOCK_REALTIME)
    accessed, modified = times_of("f")
    expect(before <= accessed <= after and before <= modified <= after, "both are now",
           (before, accessed, modified, after))
    expect_equal(accessed, modified, "atime against mtime")


@case("utimensat", "a symbolic link itself")
def utime_link():
    write_file("f")
    os.symlink("f", "l")
    target = times_of("f")
    calls.utimensat("l", ((1000000000, 5), (1100000000, 7)), calls.AT_SYMLINK_NOFOLLOW)
    expect_equal(times_of("l"), (1000000000000000005, 1100000000000000007), "times of the link")
    expect_equal(times_of("f"), target, "times of the target")
    os.symlink("gone", "dangling")
    calls.utimensat("dangling", ((1, 2), (3, 4)), calls.AT_SYMLINK_NOFOLLOW)
    expect_equal(times_of("dangling"), (1000000002, 3000000004), "times of a dangling link")


@case("utimensat", "by descriptor, read-only or for writing, also of an unlinked file")
def utime_descriptor():
    write_file("f")
    for flags in (os.O_RDONLY, os.O_WRONLY):
        with opened("f", flags) as fd:
            calls.futimens(fd, ((1000000000, 5), (1100000000, 7)))
            expect_equal(times_of("f"), (1000000000000000005, 1100000000000000007), "times")
            calls.futimens(fd, ((0, calls.UTIME_OMIT), (0, calls.UTIME_NOW)))
            expect_equal(times_of("f")[0], 1000000000000000005, "atime")
    with opened("f", os.O_RDWR) as fd:
        os.unlink("f")
        calls.futimens(fd, ((5, 0), (6, 0)))
        expect_equal((os.fstat(fd).st_atime_ns, os.fstat(fd).st_mtime_ns), (5 * 10**9, 6 * 10**9), "unlinked")


@case("utimensat", "every number of nanoseconds")
def utime_nanoseconds():
    write_file("f")
    for number in (0, 1, 999999999, 123456789, 500000000, 1000, 999999):
        calls.utimensat("f", ((10, number), (20, 999999999 - number)))
        expect_equal(times_of("f"), (10 * 10**9 + number, 20 * 10**9 + 999999999 - number), "times")


@case("utimensat", "nanoseconds out of range are EINVAL")
def utime_invalid():
    write_file("f")
    before = times_of("f")
    for bad in (-1, 10**9, 2 * 10**9, calls.UTIME_OMIT - 1, calls.UTIME_NOW + 1):
        expect_errno(errno.EINVAL, calls.utimensat, "f", ((0, bad), (0, 0)))
        expect_errno(errno.EINVAL, calls.utimensat, "f", ((0, 0), (0, bad)))
    expect_equal(times_of("f"), before, "times")


@case("utimensat", "an explicit mtime stays after pending writes are written back")
def utime_after_write():
    with opened("f", os.O_RDWR | os.O_CREAT) as fd:
        os.write(fd, b"x" * 100000)
        calls.futimens(fd, ((1000000000, 5), (1100000000, 7)))
        os.fsync(fd)
        expect_equal(times_of("f"), (1000000000000000005, 1100000000000000007), "times after fsync")
    calls.syncfs(os.open(".", os.O_RDONLY))
    expect_equal(times_of("f"), (1000000000000000005, 1100000000000000007), "times after close and syncfs")


@case("utimensat", "a write after an explicit mtime is later again")
def write_after_utime():
    write_file("f", b"x")
    os.utime("f", ns=(1, 1))
    started = time.clock_gettime_ns(calls.CLOCK_REALTIME_COARSE)
    with opened("f", os.O_WRONLY) as fd:
        os.write(fd, b"y")
    expect(os.stat("f").st_mtime_ns >= started, "mtime is now")


@case("utimensat", "a directory's times that cannot be stored become the nearest")
def utime_clamp_directory():
    os.mkdir("d")
    calls.utimensat("d", ((20000000000, 1), (99999999999, 999999999)))
    expect_equal(times_of("d"), (15032385535 * 10**9, 15032385535 * 10**9), "beyond 2446")
    calls.utimensat("d", ((-20000000000, 1), (-2147483649, 999999999)))
    expect_equal(times_of("d"), (-2147483648 * 10**9, -2147483648 * 10**9), "before 1901")


# Times of other calls.

def moved(path, action, names, wanted=("atime", "mtime", "ctime")):
    """Which of the three moved, when `action` ran, must be `names`."""
    before = os.lstat(path)
    tick()
    action()
    after = os.lstat(path)
    got = [name for name in wanted if getattr(after, "st_%s_ns" % name) != getattr(before, "st_%s_ns" % name)]
    expect_equal(got, [name for name in wanted if name in names], "what moved")
    for name in got:
        expect(getattr(after, "st_%s_ns" % name) > getattr(before, "st_%s_ns" % name), name + " went forward")


MODIFIED = ("mtime", "ctime")


@case("times", "a write through a descriptor shows at once in fstat and stat")
def write_shows():
    with opened("f", os.O_RDWR | os.O_CREAT) as fd:
        moved("f", lambda: os.write(fd, b"hello"), MODIFIED)
        moved("f", lambda: os.pwrite(fd, b"hello", 1), MODIFIED)
        expect_equal(os.fstat(fd).st_mtime_ns, os.stat("f").st_mtime_ns, "fstat against stat")


@case("times", "a write of nothing moves nothing")
def empty_write():
    with opened("f", os.O_RDWR | os.O_CREAT) as fd:
        moved("f", lambda: os.write(fd, b""), ())
        moved("f", lambda: os.pwrite(fd, b"", 100), ())
    expect_equal(os.stat("f").st_size, 0, "size")


@case("times", "closing and fsync move nothing after the write")
def close_moves_nothing():
    fd = os.open("f", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"x" * 100000)
    moved("f", lambda: os.fsync(fd), ())
    os.write(fd, b"x" * 100000)
    moved("f", lambda: os.close(fd), ())
    moved("f", os.sync, ())


@case("times", "ftruncate to the same size moves mtime and ctime")
def ftruncate_same():
    write_file("f", b"x" * 1000)
    with opened("f", os.O_RDWR) as fd:
        moved("f", lambda: os.ftruncate(fd, 1000), MODIFIED)
        moved("f", lambda: os.ftruncate(fd, 10), MODIFIED)
        moved("f", lambda: os.ftruncate(fd, 2000), MODIFIED)


@case("times", "truncate to the same size moves mtime and ctime both or none")
def truncate_same():
    write_file("f", b"x" * 1000)
    before = os.stat("f")
    tick()
    calls.truncate("f", 1000)
    after = os.stat("f")
    expect_equal(after.st_mtime_ns != before.st_mtime_ns, after.st_ctime_ns != before.st_ctime_ns,
                 "mtime moved as ctime did")


@case("times", "fallocate that changes the size moves mtime and ctime")
def fallocate_moves():
    write_file("f", b"x" * 1000)
    with opened("f", os.O_RDWR) as fd:
        moved("f", lambda: calls.fallocate(fd, 0, 0, 10000), MODIFIED)
        moved("f", lambda: calls.fallocate(fd, calls.FALLOC_FL_PUNCH_HOLE | calls.FALLOC_FL_KEEP_SIZE, 0, 4096),
              MODIFIED)
        moved("f", lambda: calls.fallocate(fd, calls.FALLOC_FL_ZERO_RANGE, 0, 4096), MODIFIED)


@case("times", "copy_file_range moves mtime and ctime of the target only")
def copy_moves():
    write_file("a", b"x" * 10000)
    write_file("b", b"y" * 10000)
    with opened("a", os.O_RDONLY) as source, opened("b", os.O_RDWR) as target:
        os.pread(source, 1, 0)
        moved("b", lambda: calls.copy_file_range(source, 0, target, 0, 5000), MODIFIED, MODIFIED)
        moved("a", lambda: calls.copy_file_range(source, 0, target, 0, 5000), (), MODIFIED)


@case("times", "a store to a shared map moves mtime and ctime, at the latest with msync")
def mmap_moves():
    write_file("f", b"x" * 8192)
    with opened("f", os.O_RDWR) as fd:
        view = mmap.mmap(fd, 8192)

        def store():
            view[100:105] = b"hello"
            view.flush()
        moved("f", store, MODIFIED, MODIFIED)
        view.close()
    expect_equal(read_file("f")[100:105], b"hello", "contents")


@case("times", "a store to a shared map moves them though msync is never called")
def mmap_moves_without_msync():
    write_file("f", b"x" * 8192)

    def store():
        with opened("f", os.O_RDWR) as fd:
            view = mmap.mmap(fd, 8192)
            view[0:1] = b"y"
            view.close()
        os.sync()
    moved("f", store, MODIFIED, MODIFIED)


@case("times", "loading from a map moves neither mtime nor ctime")
def mmap_reads():
    write_file("f", b"x" * 8192)

    def load():
        with opened("f", os.O_RDWR) as fd:
            view = mmap.mmap(fd, 8192)
            expect_equal(view[0:1], b"x", "contents")
            view.close()
    moved("f", load, (), MODIFIED)


@case("times", "lseek, fsync, locks, fchdir and statvfs move nothing")
def lookers_move_nothing():
    write_file("f", b"x" * 8192)
    with opened("f", os.O_RDWR) as fd:
        def look():
            os.lseek(fd, 0, os.SEEK_END)
            os.lseek(fd, 0, os.SEEK_DATA)
            os.fsync(fd)
            fcntl.flock(fd, fcntl.LOCK_EX)
            fcntl.lockf(fd, fcntl.LOCK_EX)
            os.fstatvfs(fd)
        moved("f", look, ())


@case("times", "the times of a new file lie between before and after, in order with its directory")
def new_times():
    before = time.clock_gettime_ns(calls.CLOCK_REALTIME_COARSE)
    os.mkdir("d")
    write_file("d/f")
    os.symlink("x", "d/l")
    os.mkfifo("d/p")
    after = time.clock_gettime_ns(time.CLOCK_REALTIME)
    for path in ("d/f", "d/l", "d/p", "d"):
        status = os.lstat(path)
        for name in ("atime", "mtime", "ctime"):
            value = getattr(status, "st_%s_ns" % name)
            expect(before <= value <= after, "%s of %s is now" % (name, path), (before, value, after))


@case("times", "mtime of a directory is not before that of what was made in it last")
def clock_in_order():
    os.mkdir("d")
    for number in range(50):
        path = "d/%d" % number
        write_file(path, b"x")
        made, directory = os.stat(path).st_ctime_ns, os.stat("d").st_mtime_ns
        expect(made <= time.clock_gettime_ns(time.CLOCK_REALTIME), "no time in the future")
        os.utime(path)
        expect(os.stat(path).st_mtime_ns >= directory - 20 * 10**6, "clocks agree")


@case("times", "rename over and unlink of an open file move its ctime")
def unlink_open():
    write_file("f")
    write_file("g")
    with opened("f", os.O_RDONLY) as fd:
        before = os.fstat(fd)
        tick()
        os.unlink("f")
        after = os.fstat(fd)
        expect(after.st_ctime_ns > before.st_ctime_ns, "ctime moved with unlink")
        expect_equal((after.st_mtime_ns, after.st_nlink), (before.st_mtime_ns, 0), "mtime and link count")
    write_file("f")
    with opened("f", os.O_RDONLY) as fd:
        before = os.fstat(fd)
        tick()
        os.rename("g", "f")
        after = os.fstat(fd)
        expect(after.st_ctime_ns > before.st_ctime_ns and after.st_nlink == 0, "ctime moved with rename")


@case("times", "of an unlinked file: writes, chmod and setxattr move them as of any other")
def unlinked_times():
    with opened("f", os.O_RDWR | os.O_CREAT) as fd:
        os.unlink("f")
        for action, names in ((lambda: os.write(fd, b"x"), {"mtime", "ctime"}),
                              (lambda: os.fchmod(fd, 0o600), {"ctime"}),
                              (lambda: calls.fsetxattr(fd, "user.a", b"b"), {"ctime"})):
            before = os.fstat(fd)
            tick()
            action()
            after = os.fstat(fd)
            got = {name for name in ("mtime", "ctime")
                   if getattr(after, "st_%s_ns" % name) > getattr(before, "st_%s_ns" % name)}
            expect_equal(got, names, "what moved")


# Access times (relatime: a read moves atime where it is not later than mtime and ctime, or a day old).

def old_access(path):
    """atime long ago, and not later than mtime."""
    if os.statvfs(".").f_flag & os.ST_NOATIME:
        skip("mounted noatime")
    status = os.lstat(path)
    os.utime(path, ns=(10**18, status.st_mtime_ns), follow_symlinks=False)
    expect_equal(os.lstat(path).st_atime_ns, 10**18, "atime as set")
    tick()


@case("atime", "a read from the disk moves it")
def read_moves_atime():
    write_file("f", b"x" * 100000)
    old_access("f")
    drop_caches()
    moved("f", lambda: read_file("f"), ("atime",))


@case("atime", "a read of what is cached moves it")
def cached_read_moves_atime():
    write_file("f", b"x" * 100000)
    read_file("f")
    old_access("f")
    moved("f", lambda: read_file("f"), ("atime",))


@case("atime", "a second read soon after leaves it")
def relatime():
    write_file("f", b"x" * 100000)
    old_access("f")
    drop_caches()
    read_file("f")
    tick()
    moved("f", lambda: read_file("f"), ())
    drop_caches()
    moved("f", lambda: read_file("f"), ())


@case("atime", "listing a directory moves it")
def readdir_moves_atime():
    os.mkdir("d")
    write_file("d/f")
    old_access("d")
    moved("d", lambda: os.listdir("d"), ("atime",))


@case("atime", "following or reading a symbolic link moves it")
def readlink_moves_atime():
    os.symlink("x", "l")
    old_access("l")
    drop_caches()
    moved("l", lambda: os.readlink("l"), ("atime",))


@case("atime", "O_NOATIME leaves it, and is the owner's")
def noatime():
    write_file("f", b"x" * 100000)
    old_access("f")
    drop_caches()

    def read():
        with opened("f", os.O_RDONLY | os.O_NOATIME) as fd:
            os.read(fd, 1000)
    moved("f", read, ())
    with as_user(1001):
        expect_errno(errno.EPERM, os.open, "f", os.O_RDONLY | os.O_NOATIME)


@case("atime", "a write, an open and a stat leave it")
def others_leave_atime():
    write_file("f", b"x" * 100)
    old_access("f")
    with opened("f", os.O_WRONLY) as fd:
        os.write(fd, b"y")
    os.stat("f")
    expect_equal(os.stat("f").st_atime_ns, 10**18, "atime")
