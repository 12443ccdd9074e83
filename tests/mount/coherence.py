#!/usr/bin/env python3
"""Freeze sees every write that returned (I7); restore refuses while files are open for writing, and
with --force nothing of the abandoned state leaks in; what the kernel had cached is the restored state at once."""
import ctypes
import errno
import mmap
import os
import random
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Workspace, alive, check, finish, need_fuse, workdir  # noqa: E402


def put(path, data):
    with open(path, "wb") as out:
        out.write(data)


def get(path):
    with open(path, "rb") as data:
        return data.read()


def raises(code, action):
    try:
        action()
    except OSError as error:
        return error.errno == code
    return False


def freeze_sees(one):
    open_file = open(one.p("streaming"), "wb", buffering=0)
    open_file.write(b"a" * 3000000)
    put(one.p("mapped"), b"\0" * 1000000)
    mapped = open(one.p("mapped"), "r+b")
    view = mmap.mmap(mapped.fileno(), 0)
    for at in range(0, 1000000, 4096):
        view[at] = 77
    one.cairn("freeze", "seen")
    check(get(one.p(".snapshots/seen/streaming")) == b"a" * 3000000, "freeze has the bytes of a file that is still open (I7)")
    frozen = get(one.p(".snapshots/seen/mapped"))
    check(all(frozen[at] == 77 for at in range(0, 1000000, 4096)), "freeze has what was written through a mapping (I7)")
    open_file.write(b"later")
    view[0] = 1
    view.flush()
    check(len(get(one.p(".snapshots/seen/streaming"))) == 3000000 and get(one.p(".snapshots/seen/mapped"))[0] == 77,
          "what comes later does not reach the point")
    view.close()
    mapped.close()
    open_file.close()


def seeks_see_pages(one):
    """SEEK_DATA and SEEK_HOLE while the kernel holds pages, and a size, that it has not sent."""
    fd = os.open(one.p("seek"), os.O_RDWR | os.O_CREAT, 0o644)
    wrong = []
    for number in range(50):
        start = (number + 1) << 20
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"d" * 100000, start)
        found = os.lseek(fd, 0, os.SEEK_DATA), os.lseek(fd, start, os.SEEK_HOLE), os.lseek(fd, 0, os.SEEK_HOLE)
        if not (start - 65536 <= found[0] <= start and found[1] == start + 100000 and found[2] == 0):
            wrong.append((start, found))
    check(not wrong, "SEEK_DATA and SEEK_HOLE know of what was just written", wrong[:5])
    view = mmap.mmap(fd, 0)
    view[8192] = 1
    check(os.lseek(fd, 0, os.SEEK_DATA) <= 8192, "and of what was written through a mapping")
    view.close()
    os.close(fd)


def times_in_one_tick(one):
    """The kernel's clock for files moves in ticks, but a file system that wants finer times (as the one below may)
    moves it for all; what is stamped here must not fall behind it."""
    below = os.open(os.path.join(one.base, "below"), os.O_RDWR | os.O_CREAT)
    paths = [one.p("tick-%d" % number) for number in range(50)]
    for path in paths:
        os.fstat(below)
        os.write(below, b"x")
        put(path, b"x")
        os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
    os.close(below)
    before = [(os.stat(path).st_mtime_ns, os.stat(path).st_ctime_ns) for path in paths]
    one.remount()
    after = [(os.stat(path).st_mtime_ns, os.stat(path).st_ctime_ns) for path in paths]
    check(before == after, "a truncation in the tick of the last write leaves the times that the kernel shows",
          [pair for pair in zip(before, after) if pair[0] != pair[1]][:3])


def truncate_and_write(path, dice):
    for _ in range(12):
        fd = os.open(path, os.O_RDWR | dice.choice([0, os.O_TRUNC, os.O_APPEND]))
        os.write(fd, b"w" * dice.choice([10, 5000, 200000]))
        os.close(fd)


def sizes_agree(one):
    """Processes that truncate, by opening, what others write."""
    paths = [one.p("size-%d" % number) for number in range(150)]
    for number, path in enumerate(paths):
        put(path, b"")
        pids = []
        for worker in range(4):
            pid = os.fork()
            if not pid:
                truncate_and_write(path, random.Random(number * 4 + worker))
                os._exit(0)
            pids.append(pid)
        for pid in pids:
            os.waitpid(pid, 0)
    before = [os.stat(path).st_size for path in paths]
    one.remount()
    after = [os.stat(path).st_size for path in paths]
    check(before == after, "files that were truncated and written at once are stored with the sizes that the kernel shows",
          [pair for pair in zip(before, after) if pair[0] != pair[1]][:3])
    for path in paths:
        os.unlink(path)


def blocks_after_close(one):
    """A file that is closed and still mapped: st_blocks follows what a commit stores of it, zeros being a hole."""
    libc, size = ctypes.CDLL(None), 1 << 20
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    fd = os.open(one.p("zeros"), os.O_RDWR | os.O_CREAT)
    at = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)  # unlike Python's it keeps no descriptor
    os.write(fd, bytes(size))
    os.close(fd)
    early = os.stat(one.p("zeros")).st_blocks
    libc.munmap(at, size)
    root = os.open(one.path, os.O_RDONLY)
    os.fsync(root)
    os.close(root)
    late = os.stat(one.p("zeros")).st_blocks
    one.remount()
    stored = os.stat(one.p("zeros")).st_blocks
    check(early > 0 and late == stored == 0, "st_blocks of a file that was told before its last close is corrected",
          (early, late, stored))


def writer_order(one):
    """A writer counts up in one file; each freeze must hold at least what had returned when it began."""
    put(one.p("counter"), b"%020d" % 0)
    stop, latest = threading.Event(), [0]

    def count():
        fd = os.open(one.p("counter"), os.O_WRONLY)
        number = 0
        while not stop.is_set():
            number += 1
            os.pwrite(fd, b"%020d" % number, 0)
            latest[0] = number
        os.close(fd)
    thread = threading.Thread(target=count)
    thread.start()
    good = True
    for n in range(10):
        before = latest[0]
        one.cairn("freeze", "count-%d" % n)
        after = latest[0] + 1
        value = int(get(one.p(".snapshots/count-%d/counter" % n)))
        good = good and before <= value <= after
    stop.set()
    thread.join()
    check(good, "ten freezes under a running writer each hold what had returned, and nothing from after")


def touch_in_child(view):
    """Writes through a mapping whose file is no more: SIGBUS is a right answer, too."""
    child = os.fork()
    if not child:
        try:
            view[0] = 1
            view.flush()
        except OSError:
            pass
        os._exit(0)
    os.waitpid(child, 0)


def restore_refused(one):
    put(one.p("doc"), b"first")
    one.cairn("freeze", "doc-first")
    handle = open(one.p("doc"), "r+b", buffering=0)
    handle.write(b"SECOND")
    done = one.cairn("restore", "doc-first", ok=False)
    check(done.returncode == 3 and str(os.getpid()) in done.stderr, "restore is refused while a file is open for writing, "
          "and names the process", done.stderr)
    check(get(one.p("doc")) == b"SECOND", "a refused restore changes nothing")
    mapped = open(one.p("map2"), "w+b")
    mapped.write(b"m" * 8192)
    mapped.flush()
    view = mmap.mmap(mapped.fileno(), 0)
    one.cairn("restore", "doc-first", "--force")
    check(get(one.p("doc")) == b"first", "with --force the restored contents are there at once")
    check(raises(errno.ESTALE, lambda: (handle.write(b"THIRD"), os.fsync(handle.fileno()))),
          "the old handle answers ESTALE")
    touch_in_child(view)
    check(get(one.p("doc")) == b"first" and not os.path.exists(one.p("map2")), "nothing written later reaches the restored state")
    with open(one.p("doc"), "r+b") as new:
        new.write(b"fresh")
    check(get(one.p("doc")) == b"fresh", "a new handle on the same file works")
    try:
        view.close()
    except OSError:
        pass
    for each in (mapped, handle):
        try:
            each.close()
        except OSError:
            pass
    one.remount()
    check(get(one.p("doc")) == b"fresh", "and it is what is durable")


def caches_follow(one):
    os.makedirs(one.p("tree/sub"))
    for n in range(200):
        put(one.p("tree/sub/f%d" % n), b"old %d" % n)
    put(one.p("tree/gone"), b"will be deleted")
    put(one.p("tree/big"), os.urandom(3000000))
    big = get(one.p("tree/big"))
    one.cairn("freeze", "caches")
    check(not os.path.exists(one.p("tree/later")), "a negative entry is cached")
    os.unlink(one.p("tree/gone"))
    put(one.p("tree/later"), b"new")
    os.rename(one.p("tree/sub/f3"), one.p("tree/sub/moved"))
    for n in range(10, 60):
        put(one.p("tree/sub/f%d" % n), b"changed contents")
    os.chmod(one.p("tree/sub/f5"), 0o600)
    with open(one.p("tree/big"), "r+b") as out:
        out.seek(1000000)
        out.write(b"X" * 100000)
    get(one.p("tree/big"))
    os.listdir(one.p("tree/sub"))
    os.path.exists(one.p("tree/gone"))
    inside = os.open(one.p("tree/sub"), os.O_RDONLY)
    reader, steady = open(one.p("tree/big"), "rb"), open(one.p("tree/sub/f100"), "rb")
    ino = os.stat(one.p("tree/big")).st_ino
    one.cairn("restore", "caches")
    check(get(one.p("tree/gone")) == b"will be deleted", "a negative entry is forgotten")
    check(not os.path.exists(one.p("tree/later")), "an entry that is not in the point is gone")
    check(sorted(os.listdir(one.p("tree/sub"))) == sorted("f%d" % n for n in range(200)), "the directory lists what the point holds")
    check(all(get(one.p("tree/sub/f%d" % n)) == b"old %d" % n for n in range(200)), "contents are the point's")
    check(os.stat(one.p("tree/sub/f5")).st_mode & 0o777 == 0o644, "attributes are the point's")
    check(get(one.p("tree/big")) == big, "pages of a large file are the point's")
    check(steady.read() == b"old 100", "a file that is the same at both points stays open")
    check(raises(errno.ESTALE, reader.read), "one that was open for reading and has changed answers ESTALE")
    check(os.stat("f7", dir_fd=inside).st_size == 5, "a directory that was open goes on working")
    check(os.stat(one.p("tree/big")).st_ino == ino, "inode numbers stay")
    os.close(inside)
    reader.close()
    steady.close()


def orphans(one):
    handle = open(one.p("unlinked"), "w+b", buffering=0)
    handle.write(b"still here" * 1000)
    os.unlink(one.p("unlinked"))
    one.cairn("freeze", "with-orphan")
    handle.seek(0)
    check(handle.read() == b"still here" * 1000, "an unlinked open file lives on, also across a freeze")
    one.kill()
    try:
        handle.close()
    except OSError:
        pass
    one.mount()
    check(not os.path.exists(one.p("unlinked")), "after a crash it is gone")
    one.umount()
    one.check_store("and nothing of it is left over")
    one.mount()


def dead_mount(one):
    """A freeze must not quietly take the last commit for the present state that the crash has lost."""
    put(one.p("lost"), b"not yet committed")
    pid = one.daemon_pid()
    os.kill(pid, signal.SIGKILL)
    while alive(pid):
        time.sleep(0.01)
    for argv in (("freeze", "after-the-crash"), ("restore", "caches")):
        done = one.cairn(*argv, ok=False)
        check(done.returncode == 1 and "ended unexpectedly" in done.stderr and one.path in done.stderr,
              "%s is refused while a crashed daemon's mount is there" % argv[0], (done.returncode, done.stderr))
    one.umount()
    check(one.cairn("freeze", "after-the-crash", ok=False).returncode == 0, "once it is taken away, freeze takes what is there")
    one.mount()


def main():
    need_fuse()
    one = Workspace(workdir()).mount()
    for part in (freeze_sees, seeks_see_pages, times_in_one_tick, sizes_agree, blocks_after_close, writer_order, restore_refused, caches_follow, orphans, dead_mount):
        part(one)
    one.umount()
    one.check_store()
    finish()


main()
