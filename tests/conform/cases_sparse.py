"""Sizes, holes, and bytes that move inside the kernel: truncate, fallocate, SEEK_HOLE, copies, splice."""
import ctypes
import errno
import mmap
import os
import stat

import calls
from conform import as_user, case, expect, expect_equal, expect_errno, opened, tick
from files import PAGE, call, child_status, get, pattern, put, read_all, seeded

OTHER = 65533
RDWR = os.O_RDWR | os.O_CREAT
KEEP, PUNCH, COLLAPSE, ZERO, INSERT = (calls.FALLOC_FL_KEEP_SIZE, calls.FALLOC_FL_PUNCH_HOLE,
                                       calls.FALLOC_FL_COLLAPSE_RANGE, calls.FALLOC_FL_ZERO_RANGE,
                                       calls.FALLOC_FL_INSERT_RANGE)
MIB = 1 << 20
MAX_OFFSET = (1 << 63) - 1


def times(name):
    status = os.stat(name)
    return status.st_mtime_ns, status.st_ctime_ns


# ---- truncate ----

@case("truncate", "longer reads zeros, shorter is gone, and stays gone when it grows again")
def grow_and_shrink():
    data = pattern(20000)
    put("f", data)
    with opened("f", os.O_RDWR) as fd:
        for size in (30000, 5000, 9000, 1, 0, 4096, 4095, 4097):
            data = data[:size] + bytes(max(0, size - len(data)))
            os.ftruncate(fd, size)
            expect(os.fstat(fd).st_size == size and read_all(fd) == data, "ftruncate to %d" % size)
    for size in (100000, 50000, 50001):
        data = data[:size] + bytes(max(0, size - len(data)))
        os.truncate("f", size)
        expect(get("f") == data, "truncate to %d" % size)


@case("truncate", "what is cut off while it is dirty in memory never comes back")
def shrink_dirty():
    with opened("f", RDWR) as fd:
        for size in (1, 100, 4095, 4096, 4097, 10000, 65537):
            os.ftruncate(fd, 0)
            os.pwrite(fd, pattern(200000), 0)
            os.ftruncate(fd, size)
            os.ftruncate(fd, 300000)
            expect(read_all(fd) == pattern(200000)[:size] + bytes(300000 - size), "at %d, dirty" % size)
            os.ftruncate(fd, 0)
            os.pwrite(fd, pattern(200000), 0)
            os.fsync(fd)
            os.ftruncate(fd, size)
            os.pwrite(fd, b"end", 250000)
            expect(read_all(fd) == pattern(200000)[:size] + bytes(250000 - size) + b"end", "at %d, stored" % size)


def store_behind_end(fd):
    """A mapping of the last page, with bytes where the file has ended."""
    os.pwrite(fd, b"x" * 5000, 0)
    os.ftruncate(fd, 5000)
    view = calls.mmap(2 * PAGE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd)
    calls.memory_write(view + 5000, b"y" * (2 * PAGE - 5000))
    return view


@case("truncate", "bytes stored through a mapping behind the end do not show when ftruncate makes the file longer")
def truncate_over_mapping():
    with opened("f", RDWR) as fd:
        view = store_behind_end(fd)
        os.ftruncate(fd, 3 * PAGE)
        expect(read_all(fd) == b"x" * 5000 + bytes(3 * PAGE - 5000), "reading")
        expect(calls.memory_read(view + 5000, 2 * PAGE - 5000) == bytes(2 * PAGE - 5000), "the mapping")


@case("write", "bytes stored through a mapping behind the end do not show when a write makes the file longer")
def write_over_mapping():
    with opened("f", RDWR) as fd:
        view = store_behind_end(fd)
        os.pwrite(fd, b"end", 20000)
        expect(read_all(fd) == b"x" * 5000 + bytes(15000) + b"end", "reading")
        expect(calls.memory_read(view + 5000, 2 * PAGE - 5000) == bytes(2 * PAGE - 5000), "the mapping")


@case("write", "bytes stored through a mapping behind the end are not in the file")
def mapping_behind_end():
    with opened("f", RDWR) as fd:
        view = store_behind_end(fd)
        calls.msync(view, 2 * PAGE)
        expect(get("f") == b"x" * 5000 and os.fstat(fd).st_size == 5000, "after msync")
    calls.munmap(view, 2 * PAGE)
    expect(get("f") == b"x" * 5000, "after munmap")


@case("truncate", "the wrong target: EISDIR, EINVAL, EACCES, ENOENT, ENOTDIR, ELOOP")
def truncate_errors():
    os.mkdir("d")
    put("f", b"abc")
    os.mkfifo("p")
    os.symlink("loop", "loop")
    os.symlink("f", "l")
    for name, code in (("d", errno.EISDIR), ("p", errno.EINVAL), ("none", errno.ENOENT), ("f/x", errno.ENOTDIR),
                       ("loop", errno.ELOOP), ("n" * 256, errno.ENAMETOOLONG)):
        expect_errno(code, os.truncate, name, 0)
    expect_errno(errno.EINVAL, os.truncate, "f", -1)
    expect_errno(errno.EFAULT, call, "truncate", 8, 0)
    with as_user(OTHER, OTHER):
        expect_errno(errno.EACCES, os.truncate, "f", 0)
    os.truncate("l", 2)
    expect(get("f") == b"ab", "a symbolic link is followed")
    with opened("f", os.O_RDWR) as fd:
        expect_errno(errno.EINVAL, os.ftruncate, fd, -1)
    with opened("f", os.O_RDONLY) as fd:
        expect_errno(errno.EINVAL, os.ftruncate, fd, 0)
    expect(get("f") == b"ab", "nothing else changed it")


@case("truncate", "permission to write is enough, ownership is not needed")
def truncate_by_other():
    put("f", b"abc")
    os.chmod("f", 0o602)
    put("g", b"abc")
    os.chmod("g", 0o444)
    os.chown("g", OTHER, OTHER)
    with as_user(OTHER, OTHER):
        os.truncate("f", 1)
        expect_errno(errno.EACCES, os.truncate, "g", 1)
    expect(get("f") == b"a" and get("g") == b"abc", "the mode decides")


@case("truncate", "marks mtime and ctime when the size changes")
def truncate_times():
    put("f", b"abc")
    for size in (100, 3, 0):
        before = times("f")
        tick()
        os.truncate("f", size)
        expect(all(now > then for now, then in zip(times("f"), before)), "truncate to %d" % size)
        before = times("f")
        tick()
        with opened("f", os.O_RDWR) as fd:
            os.ftruncate(fd, size + 1)
            expect(all(now > then for now, then in zip(times("f"), before)), "ftruncate to %d" % (size + 1))
            before = times("f")
            tick()
            os.ftruncate(fd, size + 1)
        expect(all(now > then for now, then in zip(times("f"), before)), "ftruncate to the size that it has")


@case("truncate", "a refused truncate marks nothing")
def truncate_refused_times():
    put("f", b"abc")
    before = times("f")
    tick()
    with as_user(OTHER, OTHER):
        expect_errno(errno.EACCES, os.truncate, "f", 1)
    expect_errno(errno.EINVAL, os.truncate, "f", -1)
    expect(times("f") == before, "the times stay")


@case("truncate", "gives blocks back")
def truncate_blocks():
    with opened("f", RDWR) as fd:
        os.write(fd, os.urandom(MIB))
        os.fsync(fd)
        full = os.fstat(fd).st_blocks
        expect(full >= 2000, "a MiB of noise takes its blocks", full)
        os.ftruncate(fd, MIB // 2)
        half = os.fstat(fd).st_blocks
        expect(900 <= half <= 1100, "half of it", half)
        os.ftruncate(fd, 0)
        expect(os.fstat(fd).st_blocks <= 8, "nothing", os.fstat(fd).st_blocks)
        os.ftruncate(fd, 1 << 40)
        expect(os.fstat(fd).st_blocks <= 8, "a hole takes none", os.fstat(fd).st_blocks)
    expect(os.stat("f").st_blocks == 0, "nor when it is closed", os.stat("f").st_blocks)


@case("truncate", "to 8 EiB - 1 and back")
def truncate_largest():
    put("f", b"abc")
    os.truncate("f", MAX_OFFSET)
    expect(os.stat("f").st_size == MAX_OFFSET, "st_size")
    with opened("f", os.O_RDWR) as fd:
        expect(os.lseek(fd, 0, os.SEEK_END) == MAX_OFFSET, "SEEK_END")
        expect(os.pread(fd, 8, 0) == b"abc\0\0\0\0\0" and os.pread(fd, 5, MAX_OFFSET - 5) == bytes(5), "its ends")
    os.truncate("f", 2)
    expect(get("f") == b"ab", "and back")


@case("truncate", "sparse files up to 16 TiB")
def truncate_large():
    for size in (1 << 31, (1 << 32) + 1, (1 << 40) + 5, (1 << 44) - PAGE):
        with opened("f", RDWR | os.O_TRUNC) as fd:
            os.ftruncate(fd, size)
            os.pwrite(fd, b"end", size - 3)
            expect(os.fstat(fd).st_size == size, "size %d" % size)
            os.fsync(fd)
            expect(os.pread(fd, 10, size - 6) == b"\0\0\0end", "the end of %d" % size)
            expect(os.lseek(fd, 0, os.SEEK_DATA) >= size - 65536, "SEEK_DATA in %d" % size)
            expect(os.fstat(fd).st_blocks <= 200, "blocks of %d" % size)


# ---- fallocate ----

@case("fallocate", "mode 0 makes the file longer with zeros and keeps what there is")
def allocate():
    put("f", b"abc")
    with opened("f", os.O_RDWR) as fd:
        calls.fallocate(fd, 0, 0, 100)
        expect(read_all(fd) == b"abc" + bytes(97), "to 100")
        calls.fallocate(fd, 0, 0, 50)
        expect(os.fstat(fd).st_size == 100, "it never makes it shorter")
        calls.fallocate(fd, 0, 50000, 1)
        expect(read_all(fd) == b"abc" + bytes(49998), "beyond the end")
        os.posix_fallocate(fd, 0, 60000)
        expect(os.fstat(fd).st_size == 60000, "posix_fallocate")
        os.pwrite(fd, b"z", 59999)
        expect(read_all(fd) == b"abc" + bytes(59996) + b"z", "and it can be written")


@case("fallocate", "KEEP_SIZE keeps the size")
def allocate_keep_size():
    put("f", b"abc")
    with opened("f", os.O_RDWR) as fd:
        calls.fallocate(fd, KEEP, 0, 100000)
        expect(os.fstat(fd).st_size == 3 and read_all(fd) == b"abc", "size and contents")
        os.pwrite(fd, b"d", 3)
        os.ftruncate(fd, 10)
        expect(read_all(fd) == b"abcd" + bytes(6), "growing into it brings zeros")


def punched(mode, offset, length, dirty):
    data = pattern(200000)
    put("f", data)
    with opened("f", os.O_RDWR) as fd:
        if not dirty:
            os.fsync(fd)
        else:
            os.pwrite(fd, data, 0)
        with mmap.mmap(fd, 200000) as view:
            expect(view[100000] == data[100000], "the mapping is warm")
            calls.fallocate(fd, mode, offset, length)
            end = min(offset + length, 200000)
            wanted = data[:offset] + bytes(max(0, end - offset)) + data[end:]
            expect(view[:] == wanted, "the mapping")
        wanted += bytes(max(0, offset + length - 200000)) if not mode & KEEP else b""
        expect(read_all(fd) == wanted and os.fstat(fd).st_size == len(wanted), "reading")
        os.fsync(fd)
    expect(get("f") == wanted, "reading when it is stored")


RANGES = ((0, 4096), (0, 1), (1, 1), (4095, 2), (4096, 65536), (5000, 3000), (5000, 100000), (150000, 50000),
          (150000, 90000), (0, 200000), (199999, 1), (250000, 5000))


@case("fallocate", "PUNCH_HOLE leaves zeros, exactly there, in stored and in dirty files")
def punch():
    for offset, length in RANGES:
        for dirty in (False, True):
            punched(PUNCH | KEEP, offset, length, dirty)


@case("fallocate", "ZERO_RANGE leaves zeros, and grows the file unless KEEP_SIZE")
def zero_range():
    for offset, length in RANGES:
        for dirty in (False, True):
            punched(ZERO, offset, length, dirty)
            punched(ZERO | KEEP, offset, length, dirty)


@case("fallocate", "PUNCH_HOLE gives blocks back")
def punch_blocks():
    with opened("f", RDWR) as fd:
        os.write(fd, os.urandom(MIB))
        os.fsync(fd)
        full = os.fstat(fd).st_blocks
        calls.fallocate(fd, PUNCH | KEEP, 128 << 10, 512 << 10)
        expect(full - os.fstat(fd).st_blocks == 1024, "512 KiB are 1024 blocks",
               "%d before, %d after" % (full, os.fstat(fd).st_blocks))
        expect(os.fstat(fd).st_size == MIB, "the size stays")


@case("fallocate", "COLLAPSE_RANGE and INSERT_RANGE move what follows, or EOPNOTSUPP")
def collapse_and_insert():
    data = pattern(16 * PAGE)
    put("f", data)
    with opened("f", os.O_RDWR) as fd:
        try:
            calls.fallocate(fd, COLLAPSE, 2 * PAGE, 3 * PAGE)
            data = data[:2 * PAGE] + data[5 * PAGE:]
            expect(read_all(fd) == data, "collapsed")
            calls.fallocate(fd, INSERT, PAGE, 4 * PAGE)
            data = data[:PAGE] + bytes(4 * PAGE) + data[PAGE:]
        except OSError as error:
            expect_equal(error.errno, errno.EOPNOTSUPP, "the error")
        expect(read_all(fd) == data, "the contents")


@case("fallocate", "what cannot be: EINVAL, EFBIG, EOPNOTSUPP, ESPIPE, EBADF")
def allocate_errors():
    put("f", b"abc")
    with opened("f", os.O_RDWR) as fd:
        for offset, length in ((0, 0), (0, -1), (-1, 1), (10, -5)):
            expect_errno(errno.EINVAL, calls.fallocate, fd, 0, offset, length)
            expect_errno(errno.EINVAL, calls.posix_fallocate, fd, offset, length)
        expect_errno(errno.EFBIG, calls.fallocate, fd, 0, MAX_OFFSET, 1)
        expect_errno(errno.EFBIG, calls.fallocate, fd, 0, MAX_OFFSET - 5, 10)
        expect_errno(errno.EOPNOTSUPP, calls.fallocate, fd, PUNCH, 0, 1)
        expect_errno(errno.EOPNOTSUPP, calls.fallocate, fd, PUNCH | ZERO | KEEP, 0, 1)
        expect_errno(errno.EOPNOTSUPP, calls.fallocate, fd, 1 << 30, 0, 1)
        expect(read_all(fd) == b"abc", "nothing changed")
    reader, writer = os.pipe()
    expect_errno(errno.ESPIPE, calls.fallocate, writer, 0, 0, 1)
    with opened("f", os.O_RDONLY) as fd:
        expect_errno(errno.EBADF, calls.fallocate, fd, 0, 0, 10)


@case("fallocate", "marks mtime and ctime")
def allocate_times():
    put("f", b"x" * 10000)
    with opened("f", os.O_RDWR) as fd:
        for mode, offset in ((0, 20000), (PUNCH | KEEP, 0), (ZERO | KEEP, 100), (ZERO, 30000)):
            before = times("f")
            tick()
            calls.fallocate(fd, mode, offset, 1000)
            expect(all(now > then for now, then in zip(times("f"), before)), "mode %d" % mode)


@case("fallocate", "by an ordinary user takes set-user-ID and set-group-ID away")
def allocate_kills():
    for mode in (0, KEEP, PUNCH | KEEP, ZERO):
        put("f", b"x" * 10000)
        os.chmod("f", 0o6777)
        with as_user(OTHER, OTHER), opened("f", os.O_RDWR) as fd:
            calls.fallocate(fd, mode, 0, 5000)
            expect_equal(stat.S_IMODE(os.fstat(fd).st_mode), 0o777, "mode %d" % mode)
        os.chmod("f", 0o6777)
        with opened("f", os.O_RDWR) as fd:
            calls.fallocate(fd, mode, 0, 5000)
        expect_equal(stat.S_IMODE(os.stat("f").st_mode), 0o6777, "root keeps them, mode %d" % mode)


# ---- SEEK_DATA and SEEK_HOLE ----

def layout(fd):
    """[(begin, end) of each piece of data]"""
    pieces, position = [], 0
    while True:
        try:
            begin = os.lseek(fd, position, os.SEEK_DATA)
        except OSError as error:
            expect_equal(error.errno, errno.ENXIO, "the end of SEEK_DATA")
            return pieces
        end = os.lseek(fd, begin, os.SEEK_HOLE)
        expect(position <= begin < end, "positions go on")
        pieces.append((begin, end))
        position = end


@case("seek", "an empty file, one without holes, one that is a hole")
def seek_simple():
    with opened("f", RDWR) as fd:
        for whence in (os.SEEK_DATA, os.SEEK_HOLE):
            expect_errno(errno.ENXIO, os.lseek, fd, 0, whence)
        os.write(fd, b"x" * 10000)
        for state in ("dirty", "stored"):
            expect(os.lseek(fd, 0, os.SEEK_DATA) == 0 and os.lseek(fd, 7000, os.SEEK_DATA) == 7000, state + ": data")
            expect(os.lseek(fd, 0, os.SEEK_HOLE) == 10000 and os.lseek(fd, 9999, os.SEEK_HOLE) == 10000,
                   state + ": the hole at the end")
            for offset in (10000, 10001, 1 << 40, -1):
                for whence in (os.SEEK_DATA, os.SEEK_HOLE):
                    expect_errno(errno.ENXIO, os.lseek, fd, offset, whence)
            os.fsync(fd)
        os.ftruncate(fd, 0)
        os.ftruncate(fd, MIB)
        expect_errno(errno.ENXIO, os.lseek, fd, 0, os.SEEK_DATA)
        expect(os.lseek(fd, 0, os.SEEK_HOLE) == 0 and os.lseek(fd, MIB - 1, os.SEEK_HOLE) == MIB - 1, "all hole")
        expect_errno(errno.ENXIO, os.lseek, fd, MIB, os.SEEK_HOLE)


@case("seek", "the offset moves to what was found")
def seek_moves():
    with opened("f", RDWR) as fd:
        os.pwrite(fd, b"x" * PAGE, MIB)
        expect(os.lseek(fd, 0, os.SEEK_DATA) == MIB and os.read(fd, 3) == b"xxx", "data")
        expect(os.lseek(fd, MIB, os.SEEK_HOLE) == MIB + PAGE and os.read(fd, 3) == b"", "hole")


@case("seek", "data that has just been written is found, before and after it is stored")
def seek_layout():
    wanted = [(0, 65536), (MIB, MIB + PAGE), (3 * MIB, 3 * MIB + 5000), (8 * MIB - PAGE, 8 * MIB)]
    with opened("f", RDWR) as fd:
        os.ftruncate(fd, 16 * MIB)
        for begin, end in wanted:
            os.pwrite(fd, pattern(end - begin), begin)
        wanted[2] = (3 * MIB, 3 * MIB + 2 * PAGE)
        expect_equal(layout(fd), wanted, "while it is dirty")
        expect_equal(layout(fd), wanted, "again")
        os.fsync(fd)
        expect_equal(layout(fd), wanted, "when it is stored")
        os.pwrite(fd, b"x" * PAGE, 2 * MIB)
        wanted.insert(2, (2 * MIB, 2 * MIB + PAGE))
        expect_equal(layout(fd), wanted, "when part of it is dirty")
    with opened("f", os.O_RDONLY) as fd:
        expect_equal(layout(fd), wanted, "opened again")


@case("seek", "a write beyond the end, at once")
def seek_extended():
    with opened("f", RDWR) as fd, opened("f", os.O_RDONLY) as reader:
        os.pwrite(fd, b"x" * PAGE, 10 * MIB)
        expect_equal(layout(reader), [(10 * MIB, 10 * MIB + PAGE)], "as another descriptor sees it")
        os.pwrite(fd, b"y" * 10, 20 * MIB)
        expect_equal(layout(reader), [(10 * MIB, 10 * MIB + PAGE), (20 * MIB, 20 * MIB + 10)],
                     "the last page ends with the file")


@case("seek", "what a mapping stored into a hole is data")
def seek_mapping():
    with opened("f", RDWR) as fd:
        os.ftruncate(fd, 4 * MIB)
        with mmap.mmap(fd, 4 * MIB) as view:
            view[MIB + 5] = 1
            expect_equal(layout(fd), [(MIB, MIB + PAGE)], "while it is mapped")
            view[2 * MIB] = 2
            view.flush()
            expect_equal(layout(fd), [(MIB, MIB + PAGE), (2 * MIB, 2 * MIB + PAGE)], "after msync")
            expect(view[MIB + 5] == 1 and view[MIB + 6] == 0, "and it is there")


@case("seek", "punched holes are holes, in dirty and in stored data")
def seek_punched():
    for stored in (False, True):
        with opened("f", RDWR | os.O_TRUNC) as fd:
            os.write(fd, pattern(2 * MIB))
            if stored:
                os.fsync(fd)
            calls.fallocate(fd, PUNCH | KEEP, 256 << 10, 512 << 10)
            wanted = [(0, 256 << 10), (768 << 10, 2 * MIB)]
            expect_equal(layout(fd), wanted, "stored before: %s" % stored)
            os.fsync(fd)
            expect_equal(layout(fd), wanted, "afterwards, stored before: %s" % stored)
            os.ftruncate(fd, 4 * MIB)
            expect_equal(layout(fd), wanted, "and with a hole at the end")


@case("seek", "every byte outside of what SEEK_DATA finds is zero, in a random file")
def seek_random():
    rng = seeded(11)
    image = bytearray(8 * MIB)
    with opened("f", RDWR) as fd:
        os.ftruncate(fd, 8 * MIB)
        for n in range(60):
            offset, length = rng.randrange(7 * MIB), rng.choice([1, 100, PAGE, 30000, 200000])
            if rng.random() < 0.4:
                calls.fallocate(fd, PUNCH | KEEP, offset, length)
                image[offset:offset + length] = bytes(length)
            else:
                os.pwrite(fd, pattern(length, n), offset)
                image[offset:offset + length] = pattern(length, n)
            if n % 20 == 7:
                os.fsync(fd)
            if n % 4 == 0:
                position = 0
                for begin, end in layout(fd) + [(8 * MIB, 8 * MIB)]:
                    expect(not any(image[position:begin]), "round %d: a hole holds data" % n)
                    position = end
        expect(read_all(fd) == image, "the bytes themselves")


# ---- copy_file_range ----

@case("copy_file_range", "copies between files, from and to any place")
def copy_between():
    data = pattern(300000)
    put("a", data)
    for at, to, length in ((0, 0, 300000), (0, 5, 1), (1, 0, 10), (4095, 4097, 8193), (100000, 50, 150000),
                           (65536, 65536, 65536)):
        put("b", b"z" * 200000)
        with opened("a", os.O_RDONLY) as a, opened("b", os.O_RDWR) as b:
            expect_equal(calls.copy_file_range(a, at, b, to, length), length, "the count")
            image = bytearray(b"z" * 200000)
            image.extend(bytes(max(0, to + length - 200000)))
            image[to:to + length] = data[at:at + length]
            expect(read_all(b) == image, "%d from %d to %d" % (length, at, to))
            os.fsync(b)
            expect(read_all(b) == image, "%d from %d to %d, stored" % (length, at, to))
    expect(get("a") == data, "the source is as before")


@case("copy_file_range", "at the end of the source: what there is, then 0")
def copy_end():
    put("a", b"0123456789")
    with opened("a", os.O_RDONLY) as a, opened("b", RDWR) as b:
        expect_equal(calls.copy_file_range(a, 7, b, 0, 100), 3, "up to the end")
        expect_equal(calls.copy_file_range(a, 10, b, 50, 100), 0, "at the end")
        expect_equal(calls.copy_file_range(a, 1 << 40, b, 50, 100), 0, "far behind it")
        expect_equal(calls.copy_file_range(a, 0, b, 50, 0), 0, "of nothing")
        expect(read_all(b) == b"789", "the target has just that")


@case("copy_file_range", "behind the end of the target zeros come between")
def copy_gap():
    put("a", pattern(10000))
    put("b", b"head")
    with opened("a", os.O_RDONLY) as a, opened("b", os.O_RDWR) as b:
        expect_equal(calls.copy_file_range(a, 100, b, 50000, 5000), 5000, "the count")
        expect(read_all(b) == b"head" + bytes(49996) + pattern(10000)[100:5100], "the contents")


@case("copy_file_range", "without offsets the files' positions are used and moved")
def copy_positions():
    put("a", b"0123456789")
    with opened("a", os.O_RDONLY) as a, opened("b", RDWR) as b:
        os.lseek(a, 2, os.SEEK_SET)
        expect_equal(calls.copy_file_range(a, None, b, None, 3), 3, "first")
        expect_equal(calls.copy_file_range(a, None, b, None, 3), 3, "second")
        expect(os.lseek(a, 0, os.SEEK_CUR) == 8 and os.lseek(b, 0, os.SEEK_CUR) == 6, "both moved")
        expect(read_all(b) == b"234567", "the contents")
        calls.copy_file_range(a, 0, b, 6, 2)
        expect(os.lseek(a, 0, os.SEEK_CUR) == 8 and os.lseek(b, 0, os.SEEK_CUR) == 6, "with offsets they stay")


@case("copy_file_range", "within one file; overlapping ranges: EINVAL")
def copy_within():
    data = pattern(100000)
    put("f", data)
    with opened("f", os.O_RDWR) as fd, opened("f", os.O_RDWR) as again:
        expect_equal(calls.copy_file_range(fd, 0, fd, 100000, 50000), 50000, "to its end")
        expect_equal(calls.copy_file_range(fd, 0, again, 50000, 50000), 50000, "adjacent ranges")
        expect(read_all(fd) == data[:50000] * 3, "the contents")
        for at, to in ((0, 0), (0, 999), (999, 0), (500, 1000)):
            expect_errno(errno.EINVAL, calls.copy_file_range, fd, at, again, to, 1000)
        expect(read_all(fd) == data[:50000] * 3, "nothing changed")


@case("copy_file_range", "the wrong files: EBADF, EISDIR, EINVAL, EOVERFLOW")
def copy_errors():
    put("a", b"abc")
    put("b", b"abc")
    os.mkdir("d")
    os.mkfifo("p")
    with opened("a", os.O_RDWR) as a, opened("b", os.O_RDWR) as b:
        expect_errno(errno.EINVAL, calls.copy_file_range, a, 0, b, 0, 1, 1)
        expect_errno((errno.EINVAL, errno.EOVERFLOW), calls.copy_file_range, a, -1, b, 0, 1)
        expect_errno((errno.EOVERFLOW, errno.EFBIG), calls.copy_file_range, a, 0, b, MAX_OFFSET, 100)
        with opened("b", os.O_WRONLY | os.O_APPEND) as append:
            expect_errno(errno.EBADF, calls.copy_file_range, a, 0, append, 0, 1)
        with opened("b", os.O_RDONLY) as reader, opened("b", os.O_WRONLY) as writer:
            expect_errno(errno.EBADF, calls.copy_file_range, a, 0, reader, 0, 1)
            expect_errno(errno.EBADF, calls.copy_file_range, writer, 0, a, 0, 1)
        with opened("d", os.O_RDONLY) as directory:
            expect_errno(errno.EISDIR, calls.copy_file_range, directory, 0, b, 0, 1)
            expect_errno((errno.EBADF, errno.EISDIR), calls.copy_file_range, a, 0, directory, 0, 1)
        with opened("p", os.O_RDWR) as pipe:
            expect_errno((errno.EINVAL, errno.ESPIPE), calls.copy_file_range, pipe, None, b, 0, 1)
            expect_errno((errno.EINVAL, errno.ESPIPE), calls.copy_file_range, a, 0, pipe, None, 1)
    expect(get("b") == b"abc", "nothing was copied")


@case("copy_file_range", "dirty pages of source, target and mappings count")
def copy_dirty():
    put("a", b"a" * 50000)
    put("b", b"b" * 50000)
    with opened("a", os.O_RDWR) as a, opened("b", os.O_RDWR) as b:
        with mmap.mmap(a, 50000) as source, mmap.mmap(b, 50000) as target:
            source[100:103] = b"new"
            os.pwrite(a, b"NEW", 20000)
            target[0:50000] = b"c" * 50000
            calls.copy_file_range(a, 50, b, 10, 30000)
            wanted = bytearray(b"c" * 50000)
            wanted[10:30010] = (b"a" * 50 + b"new" + b"a" * 19897 + b"NEW" + b"a" * 40000)[:30000]
            expect(target[:] == wanted, "the target's mapping")
            expect(read_all(b) == wanted, "the target")
            source[60] = 1
            expect(read_all(b) == wanted, "what comes later stays in the source")


@case("copy_file_range", "holes in the source become zeros, over data too")
def copy_holes():
    with opened("a", RDWR) as a, opened("b", RDWR) as b:
        os.ftruncate(a, 4 * MIB)
        os.pwrite(a, b"x" * PAGE, 2 * MIB)
        os.pwrite(b, b"y" * (5 * MIB), 0)
        expect_equal(calls.copy_file_range(a, 0, b, 0, 4 * MIB), 4 * MIB, "the count")
        expect(read_all(b) == bytes(2 * MIB) + b"x" * PAGE + bytes(2 * MIB - PAGE) + b"y" * MIB, "the contents")


@case("copy_file_range", "marks the target's mtime and ctime, not the source's")
def copy_times():
    put("a", b"abc")
    put("b", b"xyz")
    source, target = times("a"), times("b")
    tick()
    with opened("a", os.O_RDONLY) as a, opened("b", os.O_RDWR) as b:
        calls.copy_file_range(a, 0, b, 0, 3)
        expect(all(now > then for now, then in zip(times("b"), target)), "the target's")
    expect(times("a") == source, "the source's")
    expect(all(now > then for now, then in zip(times("b"), target)), "the target's, when it is closed")


@case("copy_file_range", "by an ordinary user takes the target's set-user-ID away")
def copy_kills():
    put("a", b"abc")
    put("b", b"xyz")
    os.chmod("b", 0o6777)
    with as_user(OTHER, OTHER), opened("a", os.O_RDONLY) as a, opened("b", os.O_RDWR) as b:
        calls.copy_file_range(a, 0, b, 0, 3)
        expect_equal(stat.S_IMODE(os.fstat(b).st_mode), 0o777, "mode")


@case("copy_file_range", "random copies within one file and between two")
def copy_random():
    rng = seeded(3)
    images = [bytearray(pattern(400000, 1)), bytearray(pattern(300000, 2))]
    for name, image in zip("ab", images):
        put(name, image)
    with opened("a", os.O_RDWR) as a, opened("b", os.O_RDWR) as b:
        files = [a, b]
        for n in range(150):
            source, target = rng.randrange(2), rng.randrange(2)
            at, to, length = rng.randrange(400000), rng.randrange(400000), rng.choice([1, 50, 4096, 20000, 150000])
            if source == target and abs(at - to) < length:
                continue
            count = calls.copy_file_range(files[source], at, files[target], to, length)
            piece = images[source][at:at + length]
            expect_equal(count, len(piece), "round %d: the count" % n)
            if piece:
                images[target].extend(bytes(max(0, to + len(piece) - len(images[target]))))
                images[target][to:to + len(piece)] = piece
            if n % 3 == 0:
                position = rng.randrange(300000)
                os.pwrite(files[target], pattern(5000, n), position)
                images[target].extend(bytes(max(0, position + 5000 - len(images[target]))))
                images[target][position:position + 5000] = pattern(5000, n)
            if n % 25 == 24:
                os.fsync(a)
            if n % 10 == 9:
                expect(read_all(a) == images[0] and read_all(b) == images[1], "round %d: the contents" % n)
    expect(get("a") == images[0] and get("b") == images[1], "the contents at the end")


# ---- sendfile and pipes ----

@case("sendfile", "between files, with and without an offset")
def sending():
    data = pattern(300000)
    put("a", data)
    with opened("a", os.O_RDONLY) as a, opened("b", RDWR) as b:
        sent = 0
        while sent < 300000:
            sent += os.sendfile(b, a, sent, 300000 - sent)
        expect(read_all(b) == data and os.lseek(a, 0, os.SEEK_CUR) == 0, "with an offset the position stays")
        os.lseek(a, 290000, os.SEEK_SET)
        expect_equal(os.sendfile(b, a, None, 100000), 10000, "up to the end")
        expect_equal(os.sendfile(b, a, None, 100), 0, "at the end")
        expect(read_all(b) == data + data[290000:], "the contents")


@case("splice", "file to pipe to file, tee, and vmsplice into a file")
def splicing():
    data = pattern(50000)
    put("a", data)
    reader, writer = os.pipe()
    again_reader, again_writer = os.pipe()
    with opened("a", os.O_RDONLY) as a, opened("b", RDWR) as b, opened("c", RDWR) as c:
        position = 0
        while position < 50000:
            count = os.splice(a, writer, 50000 - position, offset_src=position)
            expect(count > 0, "splice from the file goes on")
            expect_equal(call("tee", reader, again_writer, count, 0), count, "tee takes it all")
            expect_equal(os.splice(reader, b, count, offset_dst=position), count, "into the second file")
            expect_equal(os.splice(again_reader, c, count), count, "into the third")
            position += count
        expect_equal(os.splice(a, writer, 100, offset_src=50000), 0, "at the end")
        expect(read_all(b) == data and read_all(c) == data, "the contents")
        text = ctypes.create_string_buffer(b"from memory", 11)
        vector = (ctypes.c_void_p * 2)(ctypes.addressof(text), 11)
        expect_equal(call("vmsplice", writer, vector, 1, 0), 11, "vmsplice")
        expect_equal(os.splice(reader, b, 11, offset_dst=100), 11, "and on into the file")
        expect(os.pread(b, 11, 100) == b"from memory" and os.fstat(b).st_size == 50000, "it is there")
    with opened("b", os.O_WRONLY | os.O_APPEND) as append:
        os.write(writer, b"x")
        expect_errno(errno.EINVAL, os.splice, reader, append, 1)
    expect_errno(errno.EINVAL, os.splice, os.open("a", os.O_RDONLY), os.open("b", os.O_WRONLY), 1)


@case("splice", "what went into a pipe does not change when the file does")
def splice_snapshot():
    put("a", b"old contents")
    reader, writer = os.pipe()
    with opened("a", os.O_RDWR) as a:
        os.splice(a, writer, 12, offset_src=0)
        os.unlink("a")
    expect(os.read(reader, 100) == b"old contents", "though the file is gone")


# ---- the same file from two processes ----

@case("truncate", "a process that reads while another grows and shrinks never sees old bytes")
def truncate_beside_reader():
    put("f", b"x" * 100000)

    def reader():
        with opened("f", os.O_RDONLY) as fd:
            for _ in range(400):
                data = os.pread(fd, 100000, 0)
                zeros = data.lstrip(b"x")
                if zeros.strip(b"\0"):
                    return 1
        return 0

    child = os.fork()
    if child == 0:
        os._exit(reader())
    with opened("f", os.O_RDWR) as fd:
        for n in range(300):
            os.ftruncate(fd, 1000 + n * 37 % 5000)
            os.ftruncate(fd, 100000)
    expect_equal(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0, "the reader's result")
    expect(child_status(reader) == 0, "and at the end")
