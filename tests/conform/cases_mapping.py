"""Mappings: shared and private, beside read, write, truncate and holes; programs and libraries from the mount."""
import ctypes
import errno
import mmap
import os
import resource
import signal
import sqlite3
import struct
import subprocess
import time

import calls
from conform import as_user, case, expect, expect_equal, expect_errno, opened, skip, tick
from files import PAGE, Signal, call, child_status, get, helper, in_children, pattern, put, read_all, seeded

OTHER = 65533
RDWR = os.O_RDWR | os.O_CREAT
READ, WRITE, EXEC = mmap.PROT_READ, mmap.PROT_WRITE, mmap.PROT_EXEC
SHARED, PRIVATE = mmap.MAP_SHARED, mmap.MAP_PRIVATE
MIB = 1 << 20


def mapped(fd, length, protection=READ | WRITE, flags=SHARED, offset=0):
    return calls.mmap(length, protection, flags, fd, offset)


# ---- shared ----

@case("mmap", "a shared store is seen by read at once, and a write by the mapping")
def shared_both_ways():
    put("f", b"x" * 10000)
    with opened("f", os.O_RDWR) as fd, mmap.mmap(fd, 10000) as view, opened("f", os.O_RDONLY) as reader:
        view[5:8] = b"new"
        expect(os.pread(fd, 3, 5) == b"new" and os.pread(reader, 3, 5) == b"new", "read sees the store")
        os.pwrite(fd, b"NEW", 9000)
        expect(view[9000:9003] == b"NEW", "the mapping sees the write")
        expect(get("f") == b"x" * 5 + b"new" + b"x" * 8992 + b"NEW" + b"x" * 997, "another open sees both")
    expect(get("f") == b"x" * 5 + b"new" + b"x" * 8992 + b"NEW" + b"x" * 997, "and when all is closed")


@case("mmap", "two processes share a mapping")
def shared_processes():
    put("f", bytes(PAGE))

    def body(number):
        with opened("f", os.O_RDWR) as fd, mmap.mmap(fd, PAGE) as view:
            for n in range(number, PAGE, 4):
                view[n] = number + 1
    in_children(4, body)
    expect(get("f") == bytes(n % 4 + 1 for n in range(PAGE)), "all stores are there")


@case("mmap", "stores that were not synced are in the file after munmap and close")
def stored_at_close():
    with opened("f", RDWR) as fd:
        os.ftruncate(fd, 3 * MIB)
        view = mapped(fd, 3 * MIB)
    for at in range(0, 3 * MIB, PAGE):
        calls.memory_write(view + at, b"%07d" % at)
    calls.munmap(view, 3 * MIB)
    data = get("f")
    expect(all(data[at:at + 7] == b"%07d" % at for at in range(0, 3 * MIB, PAGE)), "each page has its bytes")


@case("mmap", "a mapping outlives its descriptor, its name, and keeps its bytes")
def outlives():
    put("f", b"contents")
    with opened("f", os.O_RDWR) as fd:
        view = mapped(fd, PAGE)
    calls.memory_write(view, b"CON")
    os.unlink("f")
    put("f", b"another file")
    expect(calls.memory_read(view, 8) == b"CONtents", "it shows the old file")
    calls.memory_write(view + 3, b"T")
    calls.msync(view, PAGE)
    expect(calls.memory_read(view, 8) == b"CONTents" and get("f") == b"another file", "and stores go there")


@case("mmap", "bytes behind the end of the last page are zero")
def zeros_behind_end():
    put("f", pattern(5000))
    with opened("f", os.O_RDONLY) as fd:
        view = mapped(fd, 2 * PAGE, READ)
        expect(calls.memory_read(view, 2 * PAGE) == pattern(5000) + bytes(2 * PAGE - 5000), "read before")
    with opened("g", RDWR) as fd:
        os.write(fd, pattern(3 * PAGE))
        os.fsync(fd)
        view = mapped(fd, 3 * PAGE)
        expect(calls.memory_read(view + 2 * PAGE, 1) != b"\0", "the mapping is warm")
        os.ftruncate(fd, PAGE + 100)
        expect(calls.memory_read(view + PAGE, PAGE) == pattern(3 * PAGE)[PAGE:PAGE + 100] + bytes(PAGE - 100),
               "after truncation")


@case("mmap", "a page behind the end: SIGBUS; after the file grew: zeros; after it shrank: SIGBUS again")
def bus_error():
    put("f", b"x" * 100)
    with opened("f", os.O_RDWR) as fd:
        view = mapped(fd, 4 * PAGE)

        def touch():
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            return calls.memory_read(view + 2 * PAGE, 1) != b"\0"

        def store():
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            calls.memory_write(view + 2 * PAGE, b"y")
        expect_equal(child_status(touch), -signal.SIGBUS, "reading behind the end")
        expect_equal(child_status(store), -signal.SIGBUS, "storing behind the end")
        os.ftruncate(fd, 3 * PAGE)
        expect_equal(child_status(touch), 0, "reading where the file has grown")
        expect_equal(child_status(store), 0, "storing where the file has grown")
        expect(os.pread(fd, 1, 2 * PAGE) == b"y", "the store is in the file")
        os.ftruncate(fd, PAGE)
        expect_equal(child_status(touch), -signal.SIGBUS, "reading what was cut off")
        os.ftruncate(fd, 3 * PAGE)
        expect_equal(child_status(touch), 0, "and grown again it is zero")


# ---- private ----

@case("mmap", "private stores stay private, also from a read-only descriptor")
def private_stores():
    put("f", b"x" * 10000)
    with opened("f", os.O_RDONLY) as fd:
        view = mapped(fd, 10000, READ | WRITE, PRIVATE)
        calls.memory_write(view, b"mine")
        expect(calls.memory_read(view, 5) == b"minex" and os.pread(fd, 4, 0) == b"xxxx", "only the mapping has them")
        calls.munmap(view, 10000)
    expect(get("f") == b"x" * 10000, "the file is as before")


@case("mmap", "a private page that was not stored to follows the file")
def private_follows():
    put("f", b"a" * (2 * PAGE))
    with opened("f", os.O_RDWR) as fd:
        view = mapped(fd, 2 * PAGE, READ | WRITE, PRIVATE)
        calls.memory_write(view, b"mine")
        os.pwrite(fd, b"b" * (2 * PAGE), 0)
        expect(calls.memory_read(view, 5) == b"minea", "a page of its own stays")
        expect(calls.memory_read(view + PAGE, 4) == b"bbbb", "the other shows the file")


# ---- permissions ----

@case("mmap", "what the descriptor does not allow: EACCES; wrong arguments: EINVAL, EBADF, ENODEV, EOVERFLOW")
def mapping_errors():
    put("f", b"x" * 10000)
    os.mkdir("d")
    with opened("f", os.O_RDONLY) as fd:
        expect_errno(errno.EACCES, mapped, fd, PAGE, READ | WRITE, SHARED)
        view = mapped(fd, PAGE, READ, SHARED)
        expect_errno(errno.EACCES, call, "mprotect", ctypes.c_void_p(view), PAGE, READ | WRITE)
        mapped(fd, PAGE, READ | WRITE, PRIVATE)
    with opened("f", os.O_WRONLY) as fd:
        expect_errno(errno.EACCES, mapped, fd, PAGE, WRITE, SHARED)
        expect_errno(errno.EACCES, mapped, fd, PAGE, READ, PRIVATE)
    with opened("f", os.O_RDWR) as fd:
        expect_errno(errno.EINVAL, mapped, fd, 0)
        expect_errno(errno.EINVAL, mapped, fd, PAGE, READ, SHARED, 100)
        expect_errno(errno.EINVAL, mapped, fd, PAGE, READ, 0)
        expect_errno((errno.EOVERFLOW, errno.EINVAL), mapped, fd, PAGE, READ, SHARED, -PAGE)
    with opened("f", os.O_RDWR | os.O_APPEND) as fd:
        mapped(fd, PAGE, READ | WRITE, SHARED)
    with opened("d", os.O_RDONLY) as fd:
        expect_errno(errno.ENODEV, mapped, fd, PAGE, READ, SHARED)
    with opened("f", os.O_PATH) as fd:
        expect_errno(errno.EBADF, mapped, fd, PAGE, READ, SHARED)
    expect_errno(errno.EBADF, mapped, 999, PAGE)


@case("mmap", "a file of another user that may only be read is mapped for reading")
def mapping_of_others():
    put("f", b"x" * 100)
    with as_user(OTHER, OTHER), opened("f", os.O_RDONLY) as fd:
        expect(calls.memory_read(mapped(fd, PAGE, READ, SHARED), 3) == b"xxx", "shared")
        expect_errno(errno.EACCES, mapped, fd, PAGE, READ | WRITE, SHARED)


# ---- msync, mremap, madvise ----

@case("msync", "MS_SYNC, MS_ASYNC, MS_INVALIDATE; EINVAL and ENOMEM for what cannot be")
def syncing():
    put("f", b"x" * (4 * PAGE))
    with opened("f", os.O_RDWR) as fd:
        view = mapped(fd, 4 * PAGE)
        calls.memory_write(view + PAGE, b"new")
        for flags in (calls.MS_ASYNC, calls.MS_SYNC, calls.MS_SYNC | calls.MS_INVALIDATE):
            calls.msync(view, 4 * PAGE, flags)
        expect(os.pread(fd, 3, PAGE) == b"new", "the store is in the file")
        expect_errno(errno.EINVAL, calls.msync, view, PAGE, calls.MS_SYNC | calls.MS_ASYNC)
        expect_errno(errno.EINVAL, calls.msync, view + 1, PAGE, calls.MS_SYNC)
        expect_errno(errno.EINVAL, calls.msync, view, PAGE, 128)
        calls.munmap(view + PAGE, PAGE)
        expect_errno(errno.ENOMEM, calls.msync, view, 4 * PAGE, calls.MS_SYNC)


@case("msync", "a store marks mtime and ctime by the time that msync returns")
def store_times():
    put("f", b"x" * PAGE)
    with opened("f", os.O_RDWR) as fd:
        view = mapped(fd, PAGE)
        for flags in (calls.MS_SYNC, calls.MS_ASYNC):
            calls.msync(view, PAGE, calls.MS_SYNC)
            before = os.stat("f")
            tick()
            calls.memory_write(view, b"new")
            calls.msync(view, PAGE, flags)
            after = os.stat("f")
            expect(after.st_mtime_ns > before.st_mtime_ns, "mtime, flags %d" % flags)
            expect(after.st_ctime_ns > before.st_ctime_ns, "ctime, flags %d" % flags)
    later = os.stat("f")
    expect_equal((later.st_mtime_ns, later.st_ctime_ns), (after.st_mtime_ns, after.st_ctime_ns),
                 "closing marks nothing more")


@case("msync", "reading through a mapping marks nothing")
def read_times():
    put("f", b"x" * PAGE)
    before = os.stat("f")
    tick()
    with opened("f", os.O_RDWR) as fd:
        view = mapped(fd, PAGE)
        expect(calls.memory_read(view, 1) == b"x", "read")
        calls.msync(view, PAGE)
    after = os.stat("f")
    expect((after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns), "the times stay")


@case("mremap", "a mapping grows with its file, keeps what was stored, and shrinks")
def remapping():
    put("f", b"x" * PAGE)
    with opened("f", os.O_RDWR) as fd:
        view = mapped(fd, PAGE)
        calls.memory_write(view, b"first")
        os.ftruncate(fd, 600 * PAGE)
        view = calls.mremap(view, PAGE, 600 * PAGE)
        calls.memory_write(view + 599 * PAGE, b"last")
        expect(calls.memory_read(view, 5) == b"first" and os.pread(fd, 4, 599 * PAGE) == b"last", "grown")
        view = calls.mremap(view, 600 * PAGE, PAGE)
        expect(calls.memory_read(view, 5) == b"first" and os.pread(fd, 4, 599 * PAGE) == b"last", "shrunk")


@case("madvise", "DONTNEED drops no store of a shared mapping; POPULATE and the others are accepted")
def advising():
    put("f", b"x" * (16 * PAGE))
    with opened("f", os.O_RDWR) as fd:
        view = mapped(fd, 16 * PAGE)
        calls.memory_write(view + 3 * PAGE, b"stored")
        for advice in (0, 1, 2, 3, 4, 16, 22, 23, 20, 21):  # NORMAL to WILLNEED, DONTNEED, POPULATE, PAGEOUT …
            call("madvise", ctypes.c_void_p(view), 16 * PAGE, advice)
        expect(calls.memory_read(view + 3 * PAGE, 6) == b"stored", "the mapping has it")
        expect(os.pread(fd, 6, 3 * PAGE) == b"stored", "so has the file")
        call("madvise", ctypes.c_void_p(view), PAGE, 9)
        expect(calls.memory_read(view, PAGE) == bytes(PAGE), "MADV_REMOVE punches a hole")
        expect(os.pread(fd, PAGE, 0) == bytes(PAGE) and os.fstat(fd).st_size == 16 * PAGE, "in the file")
        private = mapped(fd, PAGE, READ | WRITE, PRIVATE, PAGE)
        calls.memory_write(private, b"mine")
        call("madvise", ctypes.c_void_p(private), PAGE, 4)
        expect(calls.memory_read(private, 4) == b"xxxx", "a private page goes back to the file's")


@case("mmap", "MAP_POPULATE, mlock, mincore")
def populating():
    put("f", pattern(100000))
    with opened("f", os.O_RDONLY) as fd:
        view = mapped(fd, 100000, READ, SHARED | 0x8000)
        pages = (100000 + PAGE - 1) // PAGE
        vector = ctypes.create_string_buffer(pages)
        call("mincore", ctypes.c_void_p(view), 100000, vector)
        expect(all(flag & 1 for flag in vector.raw[:pages]), "all pages are there")
        call("mlock", ctypes.c_void_p(view), 100000)
        expect(calls.memory_read(view, 100000) == pattern(100000), "with their bytes")


# ---- mapping, writing, truncating and punching in turns ----

@case("mmap", "a hole that is punched shows in the mapping, and can be stored into")
def punching():
    put("f", b"x" * (64 * PAGE))
    with opened("f", os.O_RDWR) as fd, mmap.mmap(fd, 64 * PAGE) as view:
        view[0:64 * PAGE] = b"y" * (64 * PAGE)
        calls.fallocate(fd, 3, 10 * PAGE - 50, 5 * PAGE + 100)
        expect(view[10 * PAGE - 50:15 * PAGE + 50] == bytes(5 * PAGE + 100), "zeros in the hole")
        expect(view[10 * PAGE - 51] == view[15 * PAGE + 50] == ord("y"), "and not beside it")
        view[12 * PAGE] = 7
        os.fsync(fd)
        expect(os.pread(fd, 2, 12 * PAGE) == b"\7\0", "the store is in the file")


@case("mmap", "random turns of write, store, truncate, punch, copy and msync")
def random_turns():
    rng = seeded(17)
    size, top = 300000, 400000
    image = bytearray(pattern(size))
    put("f", image)
    buffer = mmap.mmap(-1, 8 * PAGE)
    turns = ["write", "store", "store", "truncate", "punch", "zero", "copy", "sync", "advise", "direct"]
    with opened("f", os.O_RDWR) as fd, opened("f", os.O_RDWR | os.O_DIRECT) as direct:
        view = mapped(fd, top)
        for n in range(500):
            turn = rng.choice(turns)
            at, length = rng.randrange(top - 1), rng.choice([1, 10, 4000, PAGE, 30000])
            data = pattern(length, n)
            inside = max(0, min(length, size - at))
            if turn == "write" and at + length <= top:
                os.pwrite(fd, data, at)
                image.extend(bytes(max(0, at + length - size)))
                image[at:at + length] = data
            elif turn == "store" and inside:
                calls.memory_write(view + at, data[:inside])
                image[at:at + inside] = data[:inside]
            elif turn == "truncate" and n % 3 == 0:
                os.ftruncate(fd, at)
                image = image[:at] + bytes(max(0, at - size))
            elif turn in ("punch", "zero") and inside:
                calls.fallocate(fd, 3 if turn == "punch" else 17, at, length)
                image[at:at + inside] = bytes(inside)
            elif turn == "copy" and size > 1000:
                to, count = rng.randrange(size), rng.randrange(1, 20000)
                source = rng.randrange(size)
                if abs(source - to) >= count and to + count <= top:
                    piece = image[source:source + count]
                    expect_equal(calls.copy_file_range(fd, source, fd, to, count), len(piece), "round %d: copied" % n)
                    image.extend(bytes(max(0, to + len(piece) - size)))
                    image[to:to + len(piece)] = piece
            elif turn == "sync":
                rng.choice([lambda: os.fsync(fd), lambda: calls.msync(view, top), lambda: os.sync()])()
            elif turn == "direct":
                at, length = at // PAGE * PAGE, rng.randrange(1, 9) * PAGE
                if at + length <= top:
                    data = pattern(length, n)
                    buffer[:length] = data
                    expect_equal(os.pwritev(direct, [memoryview(buffer)[:length]], at), length, "round %d: direct" % n)
                    image.extend(bytes(max(0, at + length - size)))
                    image[at:at + length] = data
                got = os.preadv(direct, [memoryview(buffer)], at)
                expect(buffer[:got] == image[at:at + 8 * PAGE], "round %d: a direct read" % n)
            elif turn == "advise":
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            size = len(image)
            expect_equal(os.fstat(fd).st_size, size, "round %d, %s: the size" % (n, turn))
            if n % 5 == 0:
                expect(read_all(fd) == image, "round %d, %s: reading" % (n, turn))
                expect(calls.memory_read(view, size) == image, "round %d, %s: the mapping" % (n, turn))
    calls.munmap(view, top)
    expect(get("f") == image, "at the end")


@case("mmap", "reading from a file into its own mapping, and writing from it")
def own_buffer():
    put("f", pattern(20 * PAGE))
    with opened("f", os.O_RDWR) as fd:
        view = mapped(fd, 20 * PAGE)
        memory = (ctypes.c_char * (20 * PAGE)).from_address(view)
        expect_equal(os.preadv(fd, [memoryview(memory)[10 * PAGE:20 * PAGE]], 0), 10 * PAGE, "read into the mapping")
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        expect_equal(os.pwritev(fd, [memoryview(memory)[PAGE + 7:3 * PAGE + 7]], 5 * PAGE), 2 * PAGE, "write from it")
        wanted = bytearray(pattern(20 * PAGE))
        wanted[10 * PAGE:] = wanted[:10 * PAGE]
        wanted[5 * PAGE:7 * PAGE] = wanted[PAGE + 7:3 * PAGE + 7]
        expect(read_all(fd) == wanted, "the contents")


@case("mmap", "direct reads into a mapping of the same file, of pages that are not there yet")
def own_buffer_direct():
    put("f", pattern(32 * PAGE))
    with opened("f", os.O_RDWR | os.O_DIRECT) as fd:
        view = mapped(fd, 32 * PAGE)
        memory = memoryview((ctypes.c_char * (32 * PAGE)).from_address(view))
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        expect_equal(os.preadv(fd, [memory[16 * PAGE:]], 0), 16 * PAGE, "read")
        expect(calls.memory_read(view + 16 * PAGE, 16 * PAGE) == pattern(32 * PAGE)[:16 * PAGE], "the mapping")
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        expect_equal(os.pwritev(fd, [memory[:4 * PAGE]], 8 * PAGE), 4 * PAGE, "written from pages that are not there")
    expect(get("f") == pattern(32 * PAGE)[:8 * PAGE] + pattern(32 * PAGE)[:4 * PAGE] +
           pattern(32 * PAGE)[12 * PAGE:16 * PAGE] + pattern(32 * PAGE)[:16 * PAGE], "the contents")


@case("mmap", "a hole is filled by stores of many threads, each page once")
def filling_holes():
    import threading
    with opened("f", RDWR) as fd:
        os.ftruncate(fd, 4 * MIB)
        with mmap.mmap(fd, 4 * MIB) as view:
            def body(number):
                for at in range(0, 4 * MIB, PAGE):
                    view[at + number * 8:at + number * 8 + 8] = struct.pack("<Q", number + 1)
            threads = [threading.Thread(target=body, args=(n,)) for n in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        page = b"".join(struct.pack("<Q", n + 1) for n in range(8)) + bytes(PAGE - 64)
        expect(read_all(fd) == page * (4 * MIB // PAGE), "no store is lost")


@case("mmap", "MAP_SYNC: EOPNOTSUPP; MAP_SHARED_VALIDATE with what is unknown: EOPNOTSUPP")
def validated():
    put("f", b"x" * PAGE)
    with opened("f", os.O_RDWR) as fd:
        expect_errno(errno.EOPNOTSUPP, mapped, fd, PAGE, READ, 3 | 0x80000)
        expect_errno(errno.EOPNOTSUPP, mapped, fd, PAGE, READ, 3 | 1 << 7 | 1 << 9)
        expect(calls.memory_read(mapped(fd, PAGE, READ, 3), 1) == b"x", "without such a flag it is shared")


@case("mmap", "stores beside another process's truncation: no byte of it comes back")
def stores_beside_truncation():
    put("f", b"\0" * (8 * PAGE))
    started = Signal()

    def body():
        signal.signal(signal.SIGBUS, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        fd = os.open("f", os.O_RDWR)
        view = mapped(fd, 8 * PAGE)
        started.tell()
        while True:
            calls.memory_write(view, b"s" * PAGE)
    with helper(body), opened("f", os.O_RDWR) as fd:
        started.wait()
        for _ in range(300):
            os.ftruncate(fd, 2 * PAGE)
            os.pwrite(fd, b"z" * PAGE, 4 * PAGE)
            os.ftruncate(fd, 8 * PAGE)
            expect(os.pread(fd, 2 * PAGE, 2 * PAGE) == bytes(2 * PAGE), "what lay between is zero")
            expect(set(os.pread(fd, PAGE, 0)) <= {0, ord("s")}, "the first page is the other's")


# ---- making durable, hints ----

@case("sync", "fsync, fdatasync, syncfs, sync_file_range on files and directories")
def synchronizing():
    os.mkdir("d")
    with opened("d/f", RDWR) as fd:
        os.write(fd, b"x" * 100000)
        os.fsync(fd)
        os.fdatasync(fd)
        calls.syncfs(fd)
        calls.sync_file_range(fd, 0, 0, 7)
        calls.sync_file_range(fd, 5000, 10000, 2)
        expect_errno(errno.EINVAL, calls.sync_file_range, fd, 0, 0, 64)
        expect_errno(errno.EINVAL, calls.sync_file_range, fd, -1, 10, 2)
    with opened("d/f", os.O_RDONLY) as fd:
        os.fsync(fd)
        os.fdatasync(fd)
    with opened("d", os.O_RDONLY | os.O_DIRECTORY) as fd:
        os.fsync(fd)
        os.fdatasync(fd)
        calls.syncfs(fd)
    expect_errno(errno.EBADF, os.fsync, 999)
    reader, _ = os.pipe()
    expect_errno(errno.EINVAL, os.fsync, reader)


@case("sync", "fsync of an unlinked file, and of a directory that was removed")
def synchronizing_removed():
    os.mkdir("d")
    with opened("d", os.O_RDONLY | os.O_DIRECTORY) as directory, opened("f", RDWR) as fd:
        os.write(fd, b"abc")
        os.unlink("f")
        os.rmdir("d")
        os.fsync(fd)
        os.fsync(directory)
        expect(read_all(fd) == b"abc", "the bytes are there")


@case("fadvise", "hints are accepted, change no byte; EINVAL, EBADF, ESPIPE")
def hints():
    put("f", pattern(300000))
    with opened("f", os.O_RDWR) as fd:
        os.pwrite(fd, b"dirty", 1000)
        for advice in range(6):
            os.posix_fadvise(fd, 0, 0, advice)
            os.posix_fadvise(fd, 1000, 100000, advice)
        call("readahead", fd, 0, 200000)
        expect(read_all(fd) == pattern(300000)[:1000] + b"dirty" + pattern(300000)[1005:], "the contents")
        expect_errno(errno.EINVAL, os.posix_fadvise, fd, 0, 0, 99)
    with opened("f", os.O_WRONLY) as fd:
        expect_errno(errno.EBADF, call, "readahead", fd, 0, 100)
    reader, _ = os.pipe()
    expect_errno(errno.ESPIPE, os.posix_fadvise, reader, 0, 0, 0)


# ---- asynchronous I/O ----

IO_SETUP, IO_DESTROY, IO_GETEVENTS, IO_SUBMIT = 206, 207, 208, 209


def aio(context, *requests):
    """Each (opcode, fd, buffer address, length, offset); the results in their order."""
    blocks, pointers = [], (ctypes.c_void_p * len(requests))()
    for n, (opcode, fd, address, length, offset) in enumerate(requests):
        blocks.append(ctypes.create_string_buffer(
            struct.pack("QIIHhIQQqQII", n, 0, 0, opcode, 0, fd, address, length, offset, 0, 0, 0), 64))
        pointers[n] = ctypes.addressof(blocks[n])
    expect_equal(call("syscall", IO_SUBMIT, context, len(requests), pointers), len(requests), "all submitted")
    events = ctypes.create_string_buffer(32 * len(requests))
    expect_equal(call("syscall", IO_GETEVENTS, context, len(requests), len(requests), events, None), len(requests),
                 "all come back")
    results = {}
    for n in range(len(requests)):
        data, _, result, _ = struct.unpack_from("QQqq", events.raw, 32 * n)
        results[data] = result
    return [results[n] for n in range(len(requests))]


@case("aio", "io_submit: direct and buffered reads, writes, fsync")
def asynchronous():
    context = ctypes.c_ulong(0)
    try:
        call("syscall", IO_SETUP, 16, ctypes.byref(context))
    except OSError as error:
        skip("io_setup: %s" % error)
    buffer = mmap.mmap(-1, 16 * PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
    for flags in (0, os.O_DIRECT):
        with opened("f", RDWR | os.O_TRUNC | flags) as fd:
            for n in range(8):
                buffer[n * PAGE:(n + 1) * PAGE] = bytes([65 + n]) * PAGE
            results = aio(context.value, *[(1, fd, address + n * PAGE, PAGE, n * 2 * PAGE) for n in range(8)])
            expect_equal(results, [PAGE] * 8, "written")
            expect_equal(os.fstat(fd).st_size, 15 * PAGE, "the size")
            expect_equal(aio(context.value, (2, fd, 0, 0, 0)), [0], "fsync")
            results = aio(context.value, *[(0, fd, address + (8 + n) * PAGE, PAGE, n * 2 * PAGE) for n in range(8)])
            expect_equal(results, [PAGE] * 8, "read")
            expect(buffer[8 * PAGE:] == buffer[:8 * PAGE], "the same bytes")
            expect_equal(aio(context.value, (0, fd, address, PAGE, 15 * PAGE)), [0], "at the end")
    call("syscall", IO_DESTROY, context.value)


class Ring:
    """A small io_uring: one request at a time."""

    def __init__(self):
        parameters = bytearray(120)
        view = (ctypes.c_char * 120).from_buffer(parameters)
        self.fd = call("syscall", 425, 8, view)
        self.sq = struct.unpack_from("10I", parameters, 40)  # head tail mask entries flags dropped array …
        self.cq = struct.unpack_from("10I", parameters, 80)  # head tail mask entries overflow cqes …
        self.rings = calls.mmap(PAGE, READ | WRITE, SHARED, self.fd, 0)
        self.entries = calls.mmap(PAGE, READ | WRITE, SHARED, self.fd, 0x10000000)

    def word(self, offset, value=None):
        place = ctypes.c_uint32.from_address(self.rings + offset)
        if value is not None:
            place.value = value
        return place.value

    def run(self, opcode, fd, address, length, offset, flags=0):
        tail = self.word(self.sq[1])
        slot = tail & self.word(self.sq[2])
        entry = struct.pack("BBHiQQIIQ", opcode, 0, 0, fd, offset, address, length, flags, 7) + bytes(24)
        calls.memory_write(self.entries + 64 * slot, entry)
        self.word(self.sq[6] + 4 * slot, slot)
        self.word(self.sq[1], tail + 1)
        call("syscall", 426, self.fd, 1, 1, 1, None, 0)
        head = self.word(self.cq[0])
        place = self.rings + self.cq[5] + 16 * (head & self.word(self.cq[2]))
        result = struct.unpack("Qii", ctypes.string_at(place, 16))[1]
        self.word(self.cq[0], head + 1)
        return result


@case("io_uring", "reads, writes, fsync, fallocate, past the end")
def uring():
    try:
        ring = Ring()
    except OSError as error:
        skip("io_uring_setup: %s" % error)
    fsync, fallocate, read, write = 3, 17, 22, 23
    buffer = mmap.mmap(-1, 4 * PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
    for flags in (0, os.O_DIRECT):
        with opened("f", RDWR | os.O_TRUNC | flags) as fd:
            buffer[:2 * PAGE] = pattern(2 * PAGE)
            expect_equal(ring.run(write, fd, address, 2 * PAGE, PAGE), 2 * PAGE, "written")
            expect_equal(ring.run(fsync, fd, 0, 0, 0), 0, "fsync")
            expect_equal(ring.run(read, fd, address + 2 * PAGE, 2 * PAGE, PAGE), 2 * PAGE, "read")
            expect(buffer[2 * PAGE:] == pattern(2 * PAGE), "the same bytes")
            expect_equal(ring.run(read, fd, address, PAGE, 3 * PAGE), 0, "at the end")
            expect_equal(ring.run(fallocate, fd, 10 * PAGE, 0, 0), 0, "fallocate")
            expect_equal(os.fstat(fd).st_size, 10 * PAGE, "the size")
            expect_equal(ring.run(write, 999, address, 1, 0), -errno.EBADF, "no such descriptor")
    os.close(ring.fd)


# ---- programs ----

@case("exec", "programs and shared libraries run from the mount, also while they are being replaced")
def running():
    library = next((path for path in ("/lib/x86_64-linux-gnu/libz.so.1", "/lib/x86_64-linux-gnu/libm.so.6",
                                      "/lib/aarch64-linux-gnu/libm.so.6", "/lib64/libm.so.6") if os.path.exists(path)),
                   None)
    put("cat", get("/bin/cat"), 0o755)
    put("text", b"through the copy")
    expect(subprocess.check_output(["./cat", "text"]) == b"through the copy", "a program")
    if library:
        put("lib.so", get(library), 0o755)
        before = ctypes.CDLL(os.path.abspath("lib.so"))
        put("new.so", get(library), 0o755)
        os.rename("new.so", "lib.so")
        expect(before and ctypes.CDLL(os.path.abspath("lib.so")), "a library, and its successor")
    expect(subprocess.check_output(["./cat", "text"]) == b"through the copy", "again")


@case("exec", "a program may be unlinked while it runs")
def unlinked_program():
    put("sleep", get("/bin/sleep"), 0o755)
    running_program = subprocess.Popen(["./sleep", "0.3"])
    os.unlink("sleep")
    expect_equal(running_program.wait(), 0, "its exit code")


# ---- SQLite ----

def sqlite_work(mode):
    connection = sqlite3.connect("db", timeout=30)
    expect_equal(connection.execute("pragma journal_mode = %s" % mode).fetchone()[0], mode, "the journal mode")
    connection.execute("create table t (id integer primary key, process int, text)")
    connection.commit()
    connection.close()

    def body(number):
        own = sqlite3.connect("db", timeout=60)
        for n in range(25):
            with own:
                own.execute("begin immediate")
                own.execute("insert into t (process, text) values (?, ?)", (number, "x" * (n * 100)))
        own.close()
    in_children(4, body)
    connection = sqlite3.connect("db")
    expect_equal(connection.execute("select process, count(*), sum(length(text)) from t group by process").fetchall(),
                 [(n, 25, 30000) for n in range(4)], "the rows")
    connection.execute("begin")
    connection.execute("delete from t")
    connection.rollback()
    expect_equal(connection.execute("pragma integrity_check").fetchone()[0], "ok", "integrity_check")
    expect_equal(connection.execute("select count(*) from t").fetchone()[0], 100, "after a rollback")
    connection.execute("pragma mmap_size = 100000000")
    expect_equal(connection.execute("select count(*) from t").fetchone()[0], 100, "through a mapping")
    connection.execute("vacuum")
    expect_equal(connection.execute("pragma integrity_check").fetchone()[0], "ok", "integrity_check after vacuum")
    connection.close()


@case("sqlite", "four writers with a rollback journal")
def sqlite_rollback():
    sqlite_work("delete")


@case("sqlite", "four writers with a write-ahead log")
def sqlite_wal():
    sqlite_work("wal")


@case("sqlite", "a process that dies in the middle of a transaction leaves none of it")
def sqlite_death():
    for mode in ("delete", "wal", "truncate", "persist"):
        connection = sqlite3.connect(mode)
        connection.execute("pragma journal_mode = %s" % mode)
        connection.execute("create table t (n)")
        connection.execute("insert into t values (1)")
        connection.commit()
        connection.close()

        def body():
            own = sqlite3.connect(mode)
            own.execute("pragma cache_size = 1")
            own.execute("begin")
            for n in range(3000):
                own.execute("insert into t values (?)", ("y" * 500,))
            os.kill(os.getpid(), signal.SIGKILL)
        expect_equal(child_status(body), -signal.SIGKILL, "killed")
        connection = sqlite3.connect(mode)
        expect_equal(connection.execute("select count(*) from t").fetchone()[0], 1, mode)
        connection.close()


# ---- a busy file ----

@case("mmap", "a reader in a mapping and a writer with write: each record is whole")
def mapping_beside_writer():
    put("f", bytes(PAGE))
    ready = Signal()

    def body():
        with opened("f", os.O_WRONLY) as fd:
            for n in range(1 << 30):
                os.pwrite(fd, struct.pack("<Q", n), 0)
                if n == 10:
                    ready.tell()
    with helper(body), opened("f", os.O_RDONLY) as fd:
        ready.wait()
        view, last = mapped(fd, PAGE, READ), 0
        number = ctypes.c_uint64.from_address(view)
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            value = number.value
            expect(value >= last, "it never goes back")
            last = value
        expect(last > 10, "and goes on")
