"""Direct I/O, descriptors, and files that are open without a name."""
import errno
import fcntl
import mmap
import os
import stat
import time

import calls
from conform import case, expect, expect_errno, opened
from files import PAGE, Signal, get, give_name, helper, pattern, put, read_all, write_all

OTHER = 65533  # an ordinary user
RDWR = os.O_RDWR | os.O_CREAT


# ---- O_DIRECT ----

def aligned(data):
    """A buffer that O_DIRECT takes."""
    buffer = mmap.mmap(-1, max(PAGE, (len(data) + PAGE - 1) // PAGE * PAGE))
    buffer[:len(data)] = data
    return memoryview(buffer)[:len(data)]


def direct_read(fd, length, offset):
    buffer = aligned(bytes(length))
    return bytes(buffer[:os.preadv(fd, [buffer], offset)])


@case("direct", "O_DIRECT writes and reads whole blocks")
def direct_blocks():
    data = pattern(16 * PAGE)
    with opened("f", RDWR | os.O_DIRECT) as fd:
        expect(os.writev(fd, [aligned(data)]) == len(data), "written")
        expect(direct_read(fd, len(data), 0) == data, "and read")
        expect(os.pwritev(fd, [aligned(b"z" * PAGE)], 3 * PAGE) == PAGE, "in the middle")
        expect(os.pwritev(fd, [aligned(b"y" * PAGE)], 30 * PAGE) == PAGE, "behind a hole")
        expect(direct_read(fd, PAGE, 20 * PAGE) == bytes(PAGE), "the hole is zeros")
        expect(direct_read(fd, 4 * PAGE, 29 * PAGE) == bytes(PAGE) + b"y" * PAGE, "reading ends with the file")
        expect(direct_read(fd, PAGE, 31 * PAGE) == b"" and direct_read(fd, PAGE, 64 * PAGE) == b"", "at the end")
    expect(get("f")[:16 * PAGE] == data[:3 * PAGE] + b"z" * PAGE + data[4 * PAGE:], "the page cache says the same")


@case("direct", "a direct read ends where the file ends, within a block")
def direct_end():
    put("f", pattern(5000))
    with opened("f", os.O_RDONLY | os.O_DIRECT) as fd:
        expect(direct_read(fd, 2 * PAGE, 0) == pattern(5000), "from the beginning")
        expect(direct_read(fd, 2 * PAGE, PAGE) == pattern(5000)[PAGE:], "from its last block")


@case("direct", "direct, buffered and mapped access see each other's bytes")
def direct_mixed():
    put("f", b"a" * (8 * PAGE))
    with opened("f", os.O_RDWR) as plain, opened("f", os.O_RDWR | os.O_DIRECT) as direct:
        with mmap.mmap(plain, 8 * PAGE) as view:
            expect(view[0:1] == b"a" and os.pread(plain, 1, 0) == b"a", "the cache is warm")
            os.pwritev(direct, [aligned(b"b" * PAGE)], PAGE)
            expect(os.pread(plain, PAGE, PAGE) == b"b" * PAGE, "direct write, buffered read")
            expect(view[PAGE:2 * PAGE] == b"b" * PAGE, "direct write, mapped read")
            os.pwrite(plain, b"c" * 100, 2 * PAGE)
            expect(direct_read(direct, PAGE, 2 * PAGE) == b"c" * 100 + b"a" * (PAGE - 100),
                   "buffered write, direct read")
            view[3 * PAGE:3 * PAGE + 3] = b"ddd"
            expect(direct_read(direct, PAGE, 3 * PAGE) == b"ddd" + b"a" * (PAGE - 3), "mapped write, direct read")
            os.pwrite(plain, b"e" * 10, 4 * PAGE + 10)
            os.pwritev(direct, [aligned(b"f" * PAGE)], 4 * PAGE)
            expect(os.pread(plain, PAGE, 4 * PAGE) == b"f" * PAGE, "a direct write over a dirty page")
            expect(view[4 * PAGE:5 * PAGE] == b"f" * PAGE, "also for the mapping")


@case("direct", "a direct write that makes the file longer is in st_size at once")
def direct_extend():
    with opened("f", RDWR | os.O_DIRECT) as fd:
        for n in range(1, 9):
            os.pwritev(fd, [aligned(bytes([n]) * PAGE)], (n - 1) * PAGE)
            expect(os.stat("f").st_size == n * PAGE, "after block %d" % n)
        os.pwritev(fd, [aligned(b"x" * PAGE)], 100 * PAGE)
        expect(os.lseek(fd, 0, os.SEEK_END) == 101 * PAGE, "behind a hole")


@case("direct", "O_DIRECT with O_APPEND; F_SETFL gives and takes O_DIRECT")
def direct_append():
    put("f", b"a" * PAGE)
    with opened("f", os.O_RDWR | os.O_APPEND | os.O_DIRECT) as fd:
        os.writev(fd, [aligned(b"b" * PAGE)])
        os.writev(fd, [aligned(b"c" * PAGE)])
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        expect(flags & os.O_DIRECT, "F_GETFL tells it")
        fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~os.O_DIRECT)
        os.write(fd, b"odd")
        fcntl.fcntl(fd, fcntl.F_SETFL, flags)
        expect(direct_read(fd, 4 * PAGE, 0)[-5:] == b"ccodd", "direct again")
    expect(get("f") == b"a" * PAGE + b"b" * PAGE + b"c" * PAGE + b"odd", "all is in order")


@case("direct", "direct writers and a buffered reader: each block is old or new, never mixed")
def direct_beside_buffered():
    put("f", bytes([1]) * (4 * PAGE))
    ready = Signal()

    def body():
        with opened("f", os.O_WRONLY | os.O_DIRECT) as fd:
            for n in range(100000):
                os.pwritev(fd, [aligned(bytes([1 + n % 200]) * PAGE)], (n % 4) * PAGE)
                if n == 8:
                    ready.tell()
    with helper(body), opened("f", os.O_RDONLY) as fd:
        ready.wait()
        until = time.monotonic() + 0.7
        while time.monotonic() < until:
            for n in range(4):
                block = os.pread(fd, PAGE, n * PAGE)
                expect(len(block) == PAGE and block == block[:1] * PAGE, "no block is mixed")


# ---- descriptors ----

@case("fcntl", "F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL")
def duplicates():
    put("f", b"abc")
    with opened("f", os.O_RDWR) as fd:
        copy = fcntl.fcntl(fd, fcntl.F_DUPFD, 100)
        sealed = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100)
        expect(copy >= 100 and sealed >= 100 and copy != sealed, "numbers from 100 on")
        expect(fcntl.fcntl(copy, fcntl.F_GETFD) == 0 and fcntl.fcntl(sealed, fcntl.F_GETFD) == fcntl.FD_CLOEXEC,
               "close-on-exec of one")
        expect(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR, "the access mode")
        os.close(fd)
        expect(os.pread(copy, 3, 0) == b"abc", "a duplicate outlives the original")
        os.dup2(copy, fd)
        os.close(copy)
        os.close(sealed)


@case("fcntl", "what F_SETFL cannot change it leaves alone")
def set_flags():
    put("f", b"abc")
    with opened("f", os.O_RDONLY) as fd:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_RDWR | os.O_TRUNC | os.O_CREAT | os.O_SYNC)
        expect(fcntl.fcntl(fd, fcntl.F_GETFL) == flags, "they are as before")
        expect_errno(errno.EBADF, os.write, fd, b"x")
    expect(get("f") == b"abc", "the file too")


# ---- files without a name ----

@case("unlinked", "an open file without a name does everything")
def unlinked_file():
    with opened("f", RDWR) as fd:
        os.write(fd, b"0123456789")
        os.unlink("f")
        expect(os.fstat(fd).st_nlink == 0 and os.fstat(fd).st_size == 10, "no name, all bytes")
        os.pwrite(fd, b"X", 20000)
        expect(read_all(fd) == b"0123456789" + bytes(19990) + b"X", "read and write")
        os.ftruncate(fd, 5)
        os.ftruncate(fd, 8)
        expect(read_all(fd) == b"01234\0\0\0", "ftruncate")
        os.fchmod(fd, 0o600)
        os.fchown(fd, OTHER, OTHER)
        os.utime(fd, (5, 6))
        os.setxattr(fd, "user.a", b"1")
        expect(os.getxattr(fd, "user.a") == b"1" and os.listxattr(fd) == ["user.a"], "attributes")
        state = os.fstat(fd)
        expect((stat.S_IMODE(state.st_mode), state.st_uid, state.st_mtime) == (0o600, OTHER, 6), "mode, owner, times")
        os.fsync(fd)
        os.posix_fallocate(fd, 0, 1 << 20)
        calls.fallocate(fd, 3, 0, PAGE)
        expect(os.fstat(fd).st_size == 1 << 20, "fallocate")
        with mmap.mmap(fd, 1 << 20) as view:
            view[9000] = 9
        expect(os.pread(fd, 1, 9000) == b"\t", "a mapping")
        with opened("/proc/self/fd/%d" % fd, os.O_RDWR) as again:
            os.pwrite(again, b"Z", 1)
            expect(os.pread(fd, 1, 1) == b"Z", "opened again through /proc")
        expect_errno(errno.ENOENT, give_name, fd, "again")
        with opened("copy", RDWR) as copy:
            expect(os.copy_file_range(fd, copy, 1 << 20, 0, 0) == 1 << 20, "a source of copy_file_range")
            expect(os.copy_file_range(copy, fd, 100, 0, 1 << 20) == 100, "and a target")
        expect(os.lseek(fd, 0, os.SEEK_DATA) >= 0, "SEEK_DATA")
    expect(os.listdir(".") == ["copy"], "and then it is gone")


@case("unlinked", "the file that rename replaced stays for those who have it open")
def replaced_file():
    put("old", b"old contents")
    put("new", b"new contents")
    with opened("old", os.O_RDWR) as fd:
        os.rename("new", "old")
        expect(read_all(fd) == b"old contents" and os.fstat(fd).st_nlink == 0, "its bytes are there")
        os.pwrite(fd, b"OLD", 0)
        expect(read_all(fd) == b"OLD contents" and get("old") == b"new contents", "the two are separate")


@case("unlinked", "a new file of the same name is another file")
def recreated_file():
    put("f", b"first")
    with opened("f", os.O_RDWR) as first:
        os.unlink("f")
        put("f", b"second one")
        with opened("f", os.O_RDWR) as second:
            expect(os.fstat(first).st_ino != os.fstat(second).st_ino, "inode numbers differ")
            os.ftruncate(first, 0)
            expect(read_all(second) == b"second one", "truncating one leaves the other")


@case("unlinked", "hundreds of open files without names keep their bytes over fsync")
def many_unlinked():
    files = []
    for n in range(200):
        fd = os.open("f", RDWR)
        write_all(fd, pattern(100 + n * 97, n))
        os.unlink("f")
        files.append(fd)
    os.fsync(files[-1])
    expect(all(read_all(fd) == pattern(100 + n * 97, n) for n, fd in enumerate(files)), "all of them")
    for fd in files:
        os.close(fd)
