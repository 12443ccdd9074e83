#!/usr/bin/env python3
"""What each way of making data durable promises is there after kill -9 of the daemon; copies inside the kernel share
what is stored; fallocate refuses what the disk cannot hold."""
import errno
import mmap
import os
import random
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Workspace, check, finish, need_fuse, run, seed, workdir  # noqa: E402

RWF_DSYNC = 2


def get(path):
    with open(path, "rb") as data:
        return data.read()


def by_msync(path, data):
    fd = os.open(path, os.O_RDWR)
    view = mmap.mmap(fd, len(data))
    view[:] = data
    view.flush()
    return view  # stays mapped: nothing but msync has made it durable


def by_call(call):
    def write(path, data):
        fd = os.open(path, os.O_RDWR)
        os.pwrite(fd, data, 0)
        call(fd)
        return fd
    return write


def by_flag(flag):
    def write(path, data):
        fd = os.open(path, os.O_RDWR | flag)
        os.pwrite(fd, data, 0)
        return fd
    return write


def by_request(path, data):
    fd = os.open(path, os.O_RDWR)
    os.pwritev(fd, [data], 0, RWF_DSYNC)
    return fd


def by_unlinked_directory(path, data):
    """The file is new, and the directory synced: its name must be there."""
    os.unlink(path)
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, data, 0)
    os.fsync(fd)
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(directory)
    os.close(directory)
    return fd


WAYS = {
    "msync": by_msync,
    "fsync": by_call(os.fsync),
    "fdatasync": by_call(os.fdatasync),
    "O_SYNC": by_flag(os.O_SYNC),
    "O_DSYNC": by_flag(os.O_DSYNC),
    "RWF_DSYNC": by_request,
    "fsync of file and directory": by_unlinked_directory,
}


def promises(one, rng):
    for length in (100, 5000, 3000000):
        for name, way in WAYS.items():
            data = rng.randbytes(length)
            with open(one.p("file"), "wb") as out:
                out.write(bytes(length))
            os.sync()
            one.json("wait-durable")
            kept = way(one.p("file"), data)
            one.kill()
            if isinstance(kept, int):
                os.close(kept)
            else:
                del kept
            one.mount()
            check(get(one.p("file")) == data, "%s: %d bytes are there after the daemon was killed" % (name, length))


def stored_bytes(one):
    packs = os.path.join(one.store, "packs")
    return sum(os.stat(os.path.join(packs, name)).st_blocks * 512 for name in os.listdir(packs))


def sharing(one, rng):
    data = rng.randbytes(24 << 20)
    with open(one.p("source"), "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    one.cairn("freeze", "before")
    before = stored_bytes(one)
    with open(one.p("source"), "r+b") as source, open(one.p("copy"), "w+b") as copy:
        position = 0
        while count := os.copy_file_range(source.fileno(), copy.fileno(), len(data) - position, position, position + 777):
            position += count
        os.copy_file_range(source.fileno(), source.fileno(), 1 << 20, 5000, len(data) + 123)
        os.fsync(copy.fileno())
    run("cp", one.p(".snapshots/before/source"), one.p("again"))
    one.json("wait-durable")
    check(get(one.p("copy")) == bytes(777) + data, "a copy at another offset has the bytes")
    check(get(one.p("source")) == data + bytes(123) + data[5000:5000 + (1 << 20)], "a copy within the file, too")
    check(get(one.p("again")) == data, "and one out of a point")
    grown = stored_bytes(one) - before
    check(grown < 1 << 20, "three copies of 24 MiB of noise let the packs grow by less than 1 MiB", grown)


def refusals(one):
    free = os.statvfs(one.path)
    room = free.f_bavail * free.f_frsize
    fd = os.open(one.p("large"), os.O_RDWR | os.O_CREAT)
    for name, call in (("fallocate", lambda: os.posix_fallocate(fd, 0, room * 2)),
                       ("fallocate behind a hole", lambda: os.posix_fallocate(fd, 1 << 50, room * 2))):
        try:
            call()
            code = 0
        except OSError as error:
            code = error.errno
        check(code == errno.ENOSPC, "%s of twice the free space: ENOSPC" % name, errno.errorcode.get(code, code))
    check(os.fstat(fd).st_size == 0, "and the file is as before")
    os.posix_fallocate(fd, 0, 1 << 30)
    check(os.fstat(fd).st_size == 1 << 30, "what fits is granted")
    os.close(fd)
    os.unlink(one.p("large"))


def main():
    need_fuse()
    rng = random.Random(seed())
    one = Workspace(workdir()).mount()
    promises(one, rng)
    sharing(one, rng)
    refusals(one)
    one.umount()
    one.check_store()
    finish()


main()
