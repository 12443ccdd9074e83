"""Opening, reading and writing regular files."""
import ctypes
import errno
import fcntl
import mmap
import os
import resource
import signal
import stat
import struct
import subprocess
import time

import calls
from conform import as_user, case, expect, expect_equal, expect_errno, opened, tick
from files import PAGE, call, child_status, get, give_name, helper, in_children, pattern, put, read_all, seeded

OTHER = 65533  # an ordinary user
RDWR = os.O_RDWR | os.O_CREAT
MAX_OFFSET = (1 << 63) - 1


def marked(before, after, *fields):
    """Which of the times went on; the others must have stayed."""
    return all((getattr(after, "st_%s_ns" % name) > getattr(before, "st_%s_ns" % name)) == (name in fields)
               for name in ("mtime", "ctime"))


# ---- open ----

@case("open", "O_TRUNC empties a file and marks mtime and ctime")
def truncating_open():
    put("f", b"x" * 10000)
    before = os.stat("f")
    tick()
    with opened("f", os.O_WRONLY | os.O_TRUNC) as fd:
        expect(os.fstat(fd).st_size == 0 and os.fstat(fd).st_blocks <= 8, "nothing is left")
    expect(marked(before, os.stat("f"), "mtime", "ctime"), "both times are marked")
    expect(get("f") == b"", "it reads as empty")


@case("open", "O_TRUNC marks the times of a file that was empty already")
def truncating_open_empty():
    put("f")
    before = os.stat("f")
    tick()
    with opened("f", os.O_RDWR | os.O_TRUNC):
        pass
    expect(marked(before, os.stat("f"), "mtime", "ctime"), "both times are marked")


@case("open", "O_CREAT and O_TRUNC on a file that is there keep inode, mode and owner")
def truncating_create():
    put("f", b"abc", 0o640)
    os.chown("f", OTHER, OTHER)
    before = os.stat("f")
    with opened("f", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o777):
        pass
    after = os.stat("f")
    expect((after.st_ino, after.st_mode, after.st_uid, after.st_size) ==
           (before.st_ino, before.st_mode, OTHER, 0), "only the contents went")


@case("open", "O_RDONLY with O_TRUNC needs permission to write, and then empties the file")
def truncating_read_only():
    put("f", b"abc", 0o444)
    put("g", b"abc")
    os.chmod("g", 0o666)
    with as_user(OTHER, OTHER):
        expect_errno(errno.EACCES, os.open, "f", os.O_RDONLY | os.O_TRUNC)
        with opened("g", os.O_RDONLY | os.O_TRUNC) as fd:
            expect(os.fstat(fd).st_size == 0, "the file is empty")
    expect(get("f") == b"abc", "a refused O_TRUNC changes nothing")


@case("open", "O_TRUNC without permission changes neither contents nor times")
def truncating_refused():
    put("f", b"abc", 0o644)
    before = os.stat("f")
    tick()
    with as_user(OTHER, OTHER):
        expect_errno(errno.EACCES, os.open, "f", os.O_WRONLY | os.O_TRUNC)
        expect_errno(errno.EACCES, os.open, "f", os.O_RDWR | os.O_TRUNC | os.O_CREAT, 0o666)
    expect(marked(before, os.stat("f")) and get("f") == b"abc", "all is as before")


@case("open", "O_TRUNC is seen at once through descriptors and mappings that are open")
def truncating_seen():
    put("f", b"x" * (2 * PAGE))
    with opened("f", os.O_RDONLY) as reader:
        with opened("f", os.O_WRONLY | os.O_TRUNC) as writer:
            expect(os.pread(reader, 10, 0) == b"", "the reader is at the end")
            os.write(writer, b"new")
            expect(os.pread(reader, 10, 0) == b"new", "the reader sees the new contents")


@case("open", "O_EXCL: of many processes one creates the file")
def exclusive_create():
    def attempt(number):
        for n in range(20):
            try:
                fd = os.open("f%d" % n, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except FileExistsError:
                continue
            os.write(fd, b"%d" % number)
            os.mkdir("won-%d-%d" % (n, number))
    in_children(8, attempt)
    for n in range(20):
        winners = [name for name in os.listdir(".") if name.startswith("won-%d-" % n)]
        expect(len(winners) == 1, "one process made f%d, not %d" % (n, len(winners)))
        expect(get("f%d" % n).decode() == winners[0].split("-")[2], "and it holds what that one wrote")


@case("open", "O_EXCL does not follow a symbolic link")
def exclusive_link():
    os.symlink("nowhere", "l")
    expect_errno(errno.EEXIST, os.open, "l", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    expect(not os.path.exists("nowhere"), "nothing was made at its end")
    with opened("l", os.O_CREAT | os.O_WRONLY):
        expect(os.path.exists("nowhere"), "without O_EXCL its target is made")


@case("open", "O_NOATIME is for the owner and root")
def no_atime():
    put("f", b"abc")
    os.chmod("f", 0o666)
    os.chown("f", OTHER, OTHER)
    with opened("f", os.O_RDONLY | os.O_NOATIME):
        pass
    with as_user(OTHER, OTHER):
        with opened("f", os.O_RDONLY | os.O_NOATIME):
            pass
    with as_user(OTHER - 1, OTHER - 1):
        expect_errno(errno.EPERM, os.open, "f", os.O_RDONLY | os.O_NOATIME)
        with opened("f", os.O_RDONLY) as fd:
            flags = fcntl.fcntl(fd, fcntl.F_GETFL)
            expect_errno(errno.EPERM, fcntl.fcntl, fd, fcntl.F_SETFL, flags | os.O_NOATIME)


@case("open", "O_NOATIME reads without marking atime")
def no_atime_keeps():
    put("f", b"abc")
    os.utime("f", (1000, 2000))
    with opened("f", os.O_RDONLY | os.O_NOATIME) as fd:
        os.read(fd, 10)
    expect(os.stat("f").st_atime == 1000, "atime stays")


@case("open", "a file of mode 0 that is being created can be written and read")
def create_mode_0():
    os.chmod(".", 0o777)
    with as_user(OTHER, OTHER):
        with opened("f", os.O_RDWR | os.O_CREAT, 0) as fd:
            os.write(fd, b"abc")
            os.ftruncate(fd, 2)
            expect(os.pread(fd, 10, 0) == b"ab", "its creator goes on with it")
        expect_errno(errno.EACCES, os.open, "f", os.O_RDONLY)


@case("open", "the wrong kind of file: EISDIR, ENOTDIR, ELOOP, ENXIO")
def wrong_kind():
    os.mkdir("d")
    put("f")
    os.symlink("f", "l")
    os.mkfifo("p")
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_RDONLY | os.O_CREAT):
        expect_errno(errno.EISDIR, os.open, "d", flags)
    expect_errno(errno.ENOTDIR, os.open, "f", os.O_RDONLY | os.O_DIRECTORY)
    expect_errno(errno.ENOTDIR, os.open, "f/x", os.O_RDONLY)
    expect_errno(errno.ELOOP, os.open, "l", os.O_RDONLY | os.O_NOFOLLOW)
    expect_errno(errno.ENXIO, os.open, "p", os.O_WRONLY | os.O_NONBLOCK)
    expect_errno(errno.EINVAL, os.open, "new", os.O_RDWR | os.O_CREAT | os.O_DIRECTORY)


@case("open", "a descriptor does only what it was opened for: EBADF")
def wrong_direction():
    put("f", b"abc")
    with opened("f", os.O_RDONLY) as fd:
        expect_errno(errno.EBADF, os.write, fd, b"x")
        expect_errno(errno.EBADF, os.pwrite, fd, b"", 0)
        expect_errno(errno.EINVAL, os.ftruncate, fd, 0)
        expect_errno(errno.EBADF, calls.fallocate, fd, 0, 0, 10)
        expect_errno(errno.EBADF, os.posix_fallocate, fd, 0, 10)
    with opened("f", os.O_WRONLY) as fd:
        expect_errno(errno.EBADF, os.read, fd, 1)
        expect_errno(errno.EBADF, os.pread, fd, 1, 0)
    with opened("f", os.O_PATH) as fd:
        expect_errno(errno.EBADF, os.read, fd, 1)
        expect_errno(errno.EBADF, os.write, fd, b"x")
        expect_errno(errno.EBADF, os.ftruncate, fd, 0)
        expect_errno(errno.EBADF, os.fsync, fd)
        expect(os.fstat(fd).st_size == 3, "O_PATH allows fstat")
    with opened(".", os.O_RDONLY | os.O_DIRECTORY) as fd:
        expect_errno(errno.EISDIR, os.read, fd, 1)
        expect_errno(errno.EBADF, os.write, fd, b"x")
        expect_errno(errno.EINVAL, os.ftruncate, fd, 0)
        expect_errno(errno.EBADF, calls.fallocate, fd, 0, 0, 10)
    expect(get("f") == b"abc", "nothing of that changed the file")


@case("open", "a descriptor keeps its access when the file's mode changes")
def access_is_kept():
    put("f", b"abc")
    os.chmod("f", 0o666)
    with as_user(OTHER, OTHER):
        fd = os.open("f", os.O_RDWR)
    os.chmod("f", 0)
    with as_user(OTHER, OTHER):
        os.pwrite(fd, b"X", 1)
        os.ftruncate(fd, 2)
        expect(os.pread(fd, 10, 0) == b"aX", "reading and writing go on")
        expect_errno(errno.EACCES, os.open, "f", os.O_RDONLY)
    os.close(fd)


@case("open", "O_SYNC and O_DSYNC writes read back")
def synchronous_writes():
    for flag in (os.O_SYNC, os.O_DSYNC, os.O_RSYNC | os.O_SYNC):
        with opened("f", os.O_RDWR | os.O_CREAT | os.O_TRUNC | flag) as fd:
            os.write(fd, b"one")
            os.pwrite(fd, b"two", 10000)
            expect(read_all(fd) == b"one" + bytes(9997) + b"two", "they are there")
            expect(fcntl.fcntl(fd, fcntl.F_GETFL) & flag == flag, "F_GETFL tells the flag")


@case("open", "O_TMPFILE: a file without a name gets one with linkat")
def unnamed_file():
    with opened(".", os.O_RDWR | os.O_TMPFILE, 0o640) as fd:
        os.write(fd, b"contents")
        expect(os.fstat(fd).st_nlink == 0, "it has no name")
        give_name(fd, "named")
        expect(os.fstat(fd).st_nlink == 1, "now it has one")
    expect(get("named") == b"contents" and stat.S_IMODE(os.stat("named").st_mode) == 0o640, "and its contents")
    with opened(".", os.O_RDWR | os.O_TMPFILE | os.O_EXCL, 0o600) as fd:
        expect_errno(errno.ENOENT, give_name, fd, "never")
    expect_errno(errno.EINVAL, os.open, ".", os.O_RDONLY | os.O_TMPFILE)


# ---- executables ----

def program(name):
    with open("/bin/sleep", "rb") as source:
        put(name, source.read(), 0o755)
    return "./" + name


@case("exec", "a running program cannot be written: ETXTBSY")
def busy_text():
    path = program("sleeper")
    running = subprocess.Popen([path, "60"])
    try:
        tick()
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_RDONLY | os.O_TRUNC):
            expect_errno(errno.ETXTBSY, os.open, path, flags)
        expect_errno(errno.ETXTBSY, os.truncate, path, 0)
        put("new", b"new")
        os.rename("new", "sleeper")
        expect(get("sleeper") == b"new", "it can be replaced by rename")
    finally:
        running.kill()
        running.wait()


@case("exec", "a file that is open for writing cannot be run: ETXTBSY")
def busy_writer():
    path = program("sleeper")
    with opened(path, os.O_WRONLY):
        expect_errno(errno.ETXTBSY, subprocess.call, [path, "0"])
    expect(subprocess.call([path, "0"]) == 0, "after close it runs")


@case("exec", "scripts run, and need their mode")
def scripts():
    put("script", b"#!/bin/sh\necho done $1\n", 0o644)
    expect_errno(errno.EACCES, subprocess.call, ["./script"])
    os.chmod("script", 0o755)
    expect(subprocess.check_output(["./script", "well"]) == b"done well\n", "it ran")
    put("text", b"\0not a program", 0o755)
    expect_errno(errno.ENOEXEC, os.execv, "./text", ["text"])


# ---- offsets ----

@case("lseek", "offsets: EINVAL for negative ones, anything behind the end is good")
def offsets():
    with opened("f", RDWR) as fd:
        os.write(fd, b"0123456789")
        expect(os.lseek(fd, 0, os.SEEK_CUR) == 10, "the offset follows the write")
        expect(os.lseek(fd, -3, os.SEEK_END) == 7 and os.read(fd, 10) == b"789", "SEEK_END")
        expect(os.lseek(fd, -5, os.SEEK_CUR) == 5, "SEEK_CUR")
        expect_errno(errno.EINVAL, os.lseek, fd, -1, os.SEEK_SET)
        expect_errno(errno.EINVAL, os.lseek, fd, -11, os.SEEK_END)
        expect_errno(errno.EINVAL, os.lseek, fd, 0, 99)
        expect(os.lseek(fd, 0, os.SEEK_CUR) == 5, "a refused lseek leaves the offset")
        expect(os.lseek(fd, 1 << 40, os.SEEK_SET) == 1 << 40 and os.read(fd, 1) == b"", "far behind the end")
        expect(os.fstat(fd).st_size == 10, "lseek alone makes nothing longer")
        expect_errno(errno.EINVAL, os.pread, fd, 1, -1)
        expect_errno(errno.EINVAL, os.pwrite, fd, b"x", -1)


@case("lseek", "processes share the offset over fork and dup, not over open")
def shared_offset():
    put("f", b"0123456789")
    with opened("f", os.O_RDONLY) as fd, opened("f", os.O_RDONLY) as separate:
        copy = os.dup(fd)
        expect(os.read(fd, 2) == b"01" and os.read(copy, 2) == b"23", "dup")
        expect(child_status(lambda: os.read(fd, 2) != b"45") == 0 and os.read(fd, 2) == b"67", "fork")
        expect(os.read(separate, 2) == b"01", "another open")
        os.close(copy)


# ---- read and write ----

@case("read", "at and behind the end nothing comes, before it what there is")
def reading_at_end():
    put("f", b"x" * 5000)
    with opened("f", os.O_RDONLY) as fd:
        expect(os.pread(fd, 10, 5000) == b"" and os.pread(fd, 10, 1 << 50) == b"", "at the end")
        expect(len(os.pread(fd, 8192, 4096)) == 904, "across it")
        expect(os.read(fd, 0) == b"", "no bytes asked for")
        expect(os.pread(fd, 10, MAX_OFFSET - 10) == b"", "as far as an offset goes")


@case("read", "a buffer that is not there: EFAULT")
def bad_buffers():
    put("f", b"abc")
    with opened("f", os.O_RDWR) as fd:
        expect_errno(errno.EFAULT, call, "read", fd, 8, 3)
        expect_errno(errno.EFAULT, call, "write", fd, 8, 3)
    expect(get("f") == b"abc", "nothing was written")


@case("write", "behind the end it leaves zeros before")
def writing_behind_end():
    for gap in (1, 100, 4095, 4096, 5000, 70000, 1 << 21):
        with opened("f", RDWR | os.O_TRUNC) as fd:
            os.write(fd, b"head")
            os.pwrite(fd, b"tail", 4 + gap)
            expect(read_all(fd) == b"head" + bytes(gap) + b"tail", "gap of %d bytes" % gap)
            expect(os.fstat(fd).st_size == 8 + gap, "size with a gap of %d" % gap)


@case("write", "of no bytes: nothing changes, neither size nor times")
def empty_write():
    put("f", b"abc")
    before = os.stat("f")
    tick()
    with opened("f", os.O_RDWR) as fd:
        expect(os.write(fd, b"") == 0 and os.pwrite(fd, b"", 1000) == 0 and os.writev(fd, [b"", b""]) == 0,
               "it writes nothing")
        os.lseek(fd, 5000, os.SEEK_SET)
        expect(os.write(fd, b"") == 0, "behind the end neither")
    expect(os.stat("f").st_size == 3 and marked(before, os.stat("f")), "nothing changed")


@case("write", "marks mtime and ctime, reading marks neither")
def write_times():
    put("f", b"abc")
    before = os.stat("f")
    tick()
    get("f")
    expect(marked(before, os.stat("f")), "after reading")
    with opened("f", os.O_WRONLY) as fd:
        os.write(fd, b"a")
        expect(marked(before, os.fstat(fd), "mtime", "ctime"), "after writing, while it is open")
    written = os.stat("f")
    tick()
    expect(marked(before, written, "mtime", "ctime"), "after writing, when it is closed")
    with opened("f", os.O_WRONLY) as fd:
        os.fsync(fd)
    expect(marked(written, os.stat("f")), "fsync and close mark nothing")


@case("write", "one call takes many megabytes")
def large_write():
    data = pattern(1 << 20) * 9 + b"end"
    with opened("f", RDWR) as fd:
        expect(os.write(fd, data) == len(data), "in one piece")
        expect(read_all(fd) == data, "and they read back")
        expect(os.preadv(fd, [bytearray(len(data) + 10)], 0) == len(data), "in one piece too")


@case("write", "overlapping writes: the last one wins, byte for byte")
def overlapping_writes():
    rng = seeded(5)
    image = bytearray()
    with opened("f", RDWR) as fd:
        for n in range(300):
            offset = rng.randrange(200000)
            data = pattern(rng.choice([1, 7, 500, 4096, 9000, 40000]), n)
            os.pwrite(fd, data, offset)
            image.extend(bytes(max(0, offset + len(data) - len(image))))
            image[offset:offset + len(data)] = data
            if n % 50 == 49:
                expect(read_all(fd) == image, "after %d writes" % (n + 1))
            if n % 100 == 60:
                os.fsync(fd)
    expect(get("f") == image, "at the end")


@case("write", "processes write disjoint records of one page")
def shared_page():
    put("f", bytes(64 * 128))

    def body(number):
        with opened("f", os.O_WRONLY) as fd:
            for n in range(number, 128, 8):
                os.pwrite(fd, b"%c" % (65 + number) * 64, n * 64)
    in_children(8, body)
    data = get("f")
    expect(all(data[n * 64:(n + 1) * 64] == b"%c" % (65 + n % 8) * 64 for n in range(128)), "no record is lost")


@case("append", "O_APPEND writes at the end, wherever the offset is")
def appending():
    put("f", b"abc")
    with opened("f", os.O_RDWR | os.O_APPEND) as fd:
        expect(os.lseek(fd, 0, os.SEEK_CUR) == 0, "the offset begins at 0")
        os.lseek(fd, 1, os.SEEK_SET)
        os.write(fd, b"def")
        expect(os.lseek(fd, 0, os.SEEK_CUR) == 6, "and is behind what was written")
        os.pwrite(fd, b"ghi", 0)
        expect(read_all(fd) == b"abcdefghi", "pwrite appends as well, on Linux")
        with opened("f", os.O_WRONLY) as other:
            os.ftruncate(other, 2)
            os.write(fd, b"X")
            os.pwrite(other, b"tail", 10)
            os.write(fd, b"Y")
    expect(get("f") == b"abX" + bytes(7) + b"tailY", "it follows what others do to the size")


@case("append", "F_SETFL gives and takes O_APPEND")
def appending_by_fcntl():
    with opened("f", RDWR) as fd:
        os.write(fd, b"0123456789")
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_APPEND)
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, b"end")
        fcntl.fcntl(fd, fcntl.F_SETFL, flags)
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, b"AB")
        expect(read_all(fd) == b"AB23456789end", "both took effect")


@case("append", "eight processes append: no byte lost, no record torn")
def concurrent_append():
    lengths = [1, 37, 500, 4096, 5001, 70000]

    def body(number):
        with opened("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT) as fd:
            for n in range(60):
                payload = b"%c" % (65 + number) * lengths[(n * 7 + number) % len(lengths)]
                record = struct.pack("<III", number, n, len(payload)) + payload
                if os.write(fd, record) != len(record):
                    raise RuntimeError("short write")
    in_children(8, body)
    data, position, seen = get("log"), 0, [0] * 8
    while position < len(data):
        number, n, length = struct.unpack_from("<III", data, position)
        expect(number < 8 and n == seen[number], "the records of each process come in order")
        expect(data[position + 12:position + 12 + length] == b"%c" % (65 + number) * length, "each is whole")
        seen[number] += 1
        position += 12 + length
    expect(seen == [60] * 8, "none is missing: %s" % seen)


@case("append", "a reader beside an appending process sees a prefix at each moment")
def reader_beside_append():
    put("log")

    def body():
        with opened("log", os.O_WRONLY | os.O_APPEND) as fd:
            for n in range(100000):
                os.write(fd, b"%07d\n" % n)
    with helper(body):
        with opened("log", os.O_RDONLY) as fd:
            count, until = 0, time.monotonic() + 1
            while time.monotonic() < until:
                data = os.pread(fd, 1 << 16, count * 8)
                expect(all(data[at:at + 8] == b"%07d\n" % (count + at // 8) for at in range(0, len(data) - 7, 8)),
                       "every line is the one that belongs there")
                count += len(data) // 8
    expect(count > 0, "lines came")


@case("writev", "vectors: IOV_MAX pieces, empty ones, EINVAL for more")
def vectors():
    pieces = [bytes([n % 251]) * (n % 5) for n in range(1024)]
    whole = b"".join(pieces)
    with opened("f", RDWR) as fd:
        expect(os.writev(fd, pieces) == len(whole), "1024 pieces are written")
        buffers = [bytearray(len(piece)) for piece in pieces]
        expect(os.preadv(fd, buffers, 0) == len(whole) and b"".join(buffers) == whole, "and read")
        expect_errno(errno.EINVAL, os.writev, fd, [b"x"] * 1025)
        expect_errno(errno.EINVAL, os.preadv, fd, [bytearray(1)] * 1025, 0)
        expect(os.pwritev(fd, [b"ab", b"", b"cd"], 3) == 4 and os.pread(fd, 4, 3) == b"abcd", "pwritev")
        expect(os.fstat(fd).st_size == len(whole), "the size is the same")


@case("writev", "a vector that ends in a bad address: what came before it is written, the offset agrees")
def vector_with_bad_end():
    text = ctypes.create_string_buffer(b"0123456789", 10)
    vector = (ctypes.c_void_p * 4)(ctypes.addressof(text), 10, 8, 10)
    with opened("f", RDWR) as fd:
        try:
            written = call("writev", fd, vector, 2)
        except OSError as error:
            written = 0
            expect_equal(error.errno, errno.EFAULT, "the error")
        expect(written in (0, 10), "all of the first piece, or nothing", written)
        expect(read_all(fd) == b"0123456789"[:written], "the contents")
        expect_equal(os.lseek(fd, 0, os.SEEK_CUR), written, "the offset")
        vector = (ctypes.c_void_p * 2)(ctypes.addressof(text), -1)
        expect_errno(errno.EINVAL, call, "writev", fd, vector, 1)
        expect_errno(errno.EINVAL, call, "readv", fd, vector, -1)


@case("writev", "from a mapping whose pages are not there yet")
def vector_from_mapping():
    put("source", pattern(64 * PAGE))
    with opened("source", os.O_RDONLY) as source, opened("f", RDWR) as fd, \
            mmap.mmap(source, 64 * PAGE, access=mmap.ACCESS_READ) as view:
        os.posix_fadvise(source, 0, 0, os.POSIX_FADV_DONTNEED)
        memory = memoryview(view)
        pieces = [memory[n * PAGE + 5:n * PAGE + 15] for n in range(64)]
        expect_equal(os.writev(fd, pieces), 640, "the count")
        expect(read_all(fd) == b"".join(bytes(piece) for piece in pieces), "the contents")
        for piece in pieces:
            piece.release()
        memory.release()


@case("pwritev2", "RWF_APPEND, RWF_DSYNC, RWF_SYNC, RWF_HIPRI; an unknown flag: EOPNOTSUPP")
def write_flags():
    rwf_hipri, rwf_dsync, rwf_sync, rwf_append = 1, 2, 4, 16
    with opened("f", RDWR) as fd:
        os.write(fd, b"0123456789")
        os.lseek(fd, 2, os.SEEK_SET)
        expect(os.pwritev(fd, [b"end"], 0, rwf_append) == 3, "RWF_APPEND")
        expect(os.pwritev(fd, [b"A"], 0, rwf_dsync) == 1, "RWF_DSYNC")
        expect(os.pwritev(fd, [b"B"], 1, rwf_sync) == 1, "RWF_SYNC")
        expect(os.preadv(fd, [bytearray(5)], 0, rwf_hipri) == 5, "RWF_HIPRI")
        expect(read_all(fd) == b"AB23456789end", "all took effect")
        expect_errno(errno.EOPNOTSUPP, os.pwritev, fd, [b"x"], 0, 1 << 20)
        expect_errno(errno.EOPNOTSUPP, os.preadv, fd, [bytearray(1)], 0, 1 << 20)
        expect(os.lseek(fd, 0, os.SEEK_CUR) == 2, "the offset is where it was")


# ---- limits ----

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@case("limits", "RLIMIT_FSIZE: the write that crosses it is short, the next one EFBIG with SIGXFSZ")
def size_limit():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGXFSZ])
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    limit(10000)
    with opened("f", RDWR) as fd:
        expect(os.write(fd, b"x" * 9000) == 9000, "below the limit")
        expect(os.write(fd, b"x" * 9000) == 1000, "up to the limit")
        expect(not signal.sigpending(), "that brings no signal")
        expect_errno(errno.EFBIG, os.write, fd, b"x")
        expect(signal.sigpending() == {signal.SIGXFSZ}, "but this does")
        expect_errno(errno.EFBIG, os.ftruncate, fd, 10001)
        expect_errno(errno.EFBIG, os.truncate, "f", 10001)
        expect_errno(errno.EFBIG, calls.fallocate, fd, 0, 9000, 2000)
        os.ftruncate(fd, 10000)
        calls.fallocate(fd, 1, 9000, 2000)
        expect(os.pwrite(fd, b"y", 5) == 1, "within it all is allowed")
        expect(os.fstat(fd).st_size == 10000, "the size is the limit")


@case("limits", "RLIMIT_FSIZE: without a handler SIGXFSZ kills")
def size_limit_kills():
    def body():
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        limit(1000)
        with opened("f", RDWR) as fd:
            os.pwrite(fd, b"x", 1000)
    expect(child_status(body) == -signal.SIGXFSZ, "killed by the signal")
    expect(os.stat("f").st_size == 0, "and nothing was written")


@case("limits", "RLIMIT_FSIZE: ignored SIGXFSZ leaves EFBIG; copies stop at the limit")
def size_limit_copies():
    put("source", b"x" * 20000)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit(5000)
    with opened("source", os.O_RDONLY) as source, opened("f", RDWR) as fd:
        expect(os.copy_file_range(source, fd, 20000, 0, 0) == 5000, "copy_file_range stops there")
        expect_errno(errno.EFBIG, os.copy_file_range, source, fd, 10, 0, 5000)
        expect_errno(errno.EFBIG, os.pwrite, fd, b"x", 5000)
        with mmap.mmap(fd, 5000) as view:
            view[4999] = 7
    expect(get("f") == b"x" * 4999 + b"\7", "a mapping knows no limit within the size")


@case("limits", "what would end behind the largest offset: EINVAL")
def largest_offset():
    with opened("f", RDWR) as fd:
        expect_errno(errno.EINVAL, os.pwrite, fd, b"x", MAX_OFFSET)
        expect_errno(errno.EINVAL, os.pwrite, fd, b"xy", MAX_OFFSET - 1)
        expect_errno(errno.EINVAL, calls.ftruncate, fd, -1)
        expect(os.lseek(fd, 0, os.SEEK_END) == 0, "nothing was written")
        expect_errno(errno.EINVAL, call, "pwrite", fd, b"x", 1, -(1 << 63))


@case("limits", "the last byte that a file of 16 TiB can have")
def byte_at_16_tib():
    end = (1 << 44) - PAGE
    with opened("f", RDWR) as fd:
        os.ftruncate(fd, end)
        os.pwrite(fd, b"last", end - 4)
        os.fsync(fd)
        with mmap.mmap(fd, PAGE, offset=end - PAGE) as view:
            expect(view[PAGE - 4:] == b"last", "through a mapping")
            view[0:5] = b"first"
        expect(os.pread(fd, 8192, end - PAGE) == b"first" + bytes(PAGE - 9) + b"last", "its last page")


@case("limits", "a byte before the end of 8 EiB can be written, read, and truncated away")
def largest_file():
    with opened("f", RDWR) as fd:
        os.write(fd, b"head")
        expect(os.pwrite(fd, b"tail", MAX_OFFSET - 4) == 4, "the last four bytes")
        expect(os.fstat(fd).st_size == MAX_OFFSET, "the size is 8 EiB - 1")
        expect(os.fstat(fd).st_blocks < 100, "but next to nothing is allocated")
        expect(os.pread(fd, 8, MAX_OFFSET - 8) == b"\0\0\0\0tail", "the end reads back")
        os.fsync(fd)
        expect(os.pread(fd, 10, 1 << 60) == bytes(10), "between are zeros")
        found = os.lseek(fd, 1 << 20, os.SEEK_DATA)
        expect(MAX_OFFSET - 65536 < found <= MAX_OFFSET - 4, "SEEK_DATA finds the end")
        expect(os.lseek(fd, 0, os.SEEK_HOLE) <= 65536, "SEEK_HOLE finds the hole")
        os.ftruncate(fd, 4)
        expect(read_all(fd) == b"head", "and is gone again")
        os.ftruncate(fd, MAX_OFFSET)
        expect(os.fstat(fd).st_size == MAX_OFFSET, "truncate brings the size")
        expect(os.pread(fd, 4, MAX_OFFSET - 4) == bytes(4), "truncate brings zeros")
