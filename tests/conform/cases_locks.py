"""Advisory locks: flock, POSIX record locks, locks of open file descriptions, leases."""
import errno
import fcntl
import os
import signal
import struct
import threading
import time

import calls
from conform import case, expect, expect_equal, expect_errno, opened
from files import Signal, child_status, helper, put

FLOCK = struct.Struct("hhqqi4x")
NAMES = {fcntl.F_RDLCK: "read", fcntl.F_WRLCK: "write", fcntl.F_UNLCK: "none"}
RDWR = os.O_RDWR | os.O_CREAT


def record(command, fd, kind, start=0, length=0, whence=os.SEEK_SET):
    """fcntl with a struct flock; returns (type, whence, start, length, pid) as it comes back."""
    return FLOCK.unpack(fcntl.fcntl(fd, command, FLOCK.pack(kind, whence, start, length, 0)))


def lock(fd, kind, start=0, length=0, whence=os.SEEK_SET):
    record(fcntl.F_SETLK, fd, kind, start, length, whence)


def ofd_lock(fd, kind, start=0, length=0):
    record(calls.F_OFD_SETLK, fd, kind, start, length)


def locks_seen(name, size):
    """As another process finds the file: a letter a byte, r, w, or - for none."""
    reader, writer = os.pipe()

    def body():
        with opened(name, os.O_RDWR) as fd:
            letters = ""
            for at in range(size):
                found = "w" if record(fcntl.F_GETLK, fd, fcntl.F_RDLCK, at, 1)[0] == fcntl.F_WRLCK else None
                if not found:
                    found = "-" if record(fcntl.F_GETLK, fd, fcntl.F_WRLCK, at, 1)[0] == fcntl.F_UNLCK else "r"
                letters += found
            os.write(writer, letters.encode())
        return 0
    expect_equal(child_status(body), 0, "the process that looks")
    letters = os.read(reader, size).decode()
    os.close(reader)
    os.close(writer)
    return letters


def refused(action):
    """In another process the lock is not to be had."""
    def body():
        try:
            action()
        except OSError as error:
            return 0 if error.errno in (errno.EAGAIN, errno.EACCES) else 2
        return 1
    return child_status(body) == 0


def granted(action):
    def body():
        action()
        return 0
    return child_status(body) == 0


# ---- flock ----

@case("flock", "exclusive against everything, shared against exclusive")
def flock_kinds():
    put("f")
    with opened("f", os.O_RDONLY) as fd, opened("f", os.O_RDONLY) as other:
        fcntl.flock(fd, fcntl.LOCK_EX)
        for kind in (fcntl.LOCK_SH, fcntl.LOCK_EX):
            expect_errno(errno.EWOULDBLOCK, fcntl.flock, other, kind | fcntl.LOCK_NB)
        fcntl.flock(fd, fcntl.LOCK_SH)
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
        expect_errno(errno.EWOULDBLOCK, fcntl.flock, other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(fd, fcntl.LOCK_UN)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        expect_errno(errno.EINVAL, fcntl.flock, fd, 0)


@case("flock", "belongs to the open file: kept over fork and dup, gone with the last close")
def flock_owner():
    put("f")
    fd = os.open("f", os.O_RDWR)
    copy = os.dup(fd)
    fcntl.flock(fd, fcntl.LOCK_EX)

    def attempt():
        with opened("f", os.O_RDWR) as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    expect(refused(attempt), "another process is refused")
    os.close(fd)
    expect(refused(attempt), "a duplicate keeps it")
    expect(granted(lambda: fcntl.flock(copy, fcntl.LOCK_SH)), "a child may change it")
    expect(refused(attempt), "it is shared now")
    os.close(copy)
    expect(granted(attempt), "after the last close it is gone")


@case("flock", "works on directories and read-only descriptors, and ends with the process")
def flock_directory():
    os.mkdir("d")
    taken = Signal()

    def body():
        fcntl.flock(os.open("d", os.O_RDONLY), fcntl.LOCK_EX)
        taken.tell()
        time.sleep(60)

    def attempt():
        with opened("d", os.O_RDONLY) as fd:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with helper(body):
        taken.wait()
        expect(refused(attempt), "the directory is locked")
    expect(granted(attempt), "the process has been killed")


@case("flock", "waits, and a signal interrupts the wait")
def flock_waits():
    put("f")
    with opened("f", os.O_RDWR) as fd, opened("f", os.O_RDWR) as other:
        fcntl.flock(fd, fcntl.LOCK_EX)
        threading.Timer(0.2, lambda: fcntl.flock(fd, fcntl.LOCK_UN)).start()
        started = time.monotonic()
        fcntl.flock(other, fcntl.LOCK_EX)
        expect(0.1 < time.monotonic() - started < 30, "until it is free")

        class Interrupted(Exception):
            pass

        def handler(*_):
            raise Interrupted
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            expect(False, "the lock is not to be had")
        except Interrupted:
            pass


@case("flock", "does not mind record locks, nor the other way round")
def flock_and_records():
    put("f")
    with opened("f", os.O_RDWR) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)

        def attempt():
            with opened("f", os.O_RDWR) as other:
                lock(other, fcntl.F_WRLCK)
        expect(granted(attempt), "a record lock of another process")


# ---- POSIX record locks ----

@case("record locks", "of ranges: taking, splitting, merging, giving back")
def record_ranges():
    put("f")
    with opened("f", os.O_RDWR) as fd:
        lock(fd, fcntl.F_WRLCK, 2, 6)
        expect_equal(locks_seen("f", 10), "--wwwwww--", "six bytes")
        lock(fd, fcntl.F_UNLCK, 4, 2)
        expect_equal(locks_seen("f", 10), "--ww--ww--", "split by unlocking its middle")
        lock(fd, fcntl.F_RDLCK, 3, 4)
        expect_equal(locks_seen("f", 10), "--wrrrrw--", "partly turned into a read lock")
        lock(fd, fcntl.F_WRLCK, 0, 10)
        expect_equal(locks_seen("f", 10), "wwwwwwwwww", "merged")
        lock(fd, fcntl.F_UNLCK, 5, 0)
        expect_equal(locks_seen("f", 10), "wwwww-----", "length 0 goes to the end")
        lock(fd, fcntl.F_UNLCK)
        expect_equal(locks_seen("f", 10), "----------", "all given back")


@case("record locks", "SEEK_CUR, SEEK_END and negative lengths")
def record_whence():
    put("f", b"0123456789")
    with opened("f", os.O_RDWR) as fd:
        os.lseek(fd, 3, os.SEEK_SET)
        lock(fd, fcntl.F_WRLCK, 1, 2, os.SEEK_CUR)
        expect_equal(locks_seen("f", 10), "----ww----", "from the offset")
        lock(fd, fcntl.F_WRLCK, -2, 1, os.SEEK_END)
        expect_equal(locks_seen("f", 10), "----ww--w-", "from the end")
        lock(fd, fcntl.F_WRLCK, 3, -3)
        expect_equal(locks_seen("f", 10), "www-ww--w-", "a negative length lies before the start")
        expect_errno(errno.EINVAL, lock, fd, fcntl.F_WRLCK, -1, 1)
        expect_errno(errno.EINVAL, lock, fd, fcntl.F_WRLCK, 2, -3)
        expect_errno(errno.EINVAL, lock, fd, 99, 0, 1)
        expect_errno(errno.EINVAL, lock, fd, fcntl.F_WRLCK, 0, 1, 9)
        lock(fd, fcntl.F_WRLCK, (1 << 63) - 1, 1)
        expect_errno(errno.EOVERFLOW, lock, fd, fcntl.F_WRLCK, (1 << 63) - 1, 2)


@case("record locks", "F_GETLK names the first lock in the way, with its process")
def record_getlk():
    put("f")
    with opened("f", os.O_RDWR) as fd:
        lock(fd, fcntl.F_WRLCK, 10, 5)
        lock(fd, fcntl.F_RDLCK, 100, 10)
        owner = os.getpid()
        expect_equal(record(fcntl.F_GETLK, fd, fcntl.F_WRLCK, 0, 0)[0], fcntl.F_UNLCK, "its own are never in the way")

        def body():
            with opened("f", os.O_RDWR) as other:
                kind, _, start, length, pid = record(fcntl.F_GETLK, other, fcntl.F_WRLCK, 0, 0)
                if (kind, start, length, pid) != (fcntl.F_WRLCK, 10, 5, owner):
                    return 1
                kind, _, start, length, pid = record(fcntl.F_GETLK, other, fcntl.F_WRLCK, 50, 100)
                if (kind, start, length, pid) != (fcntl.F_RDLCK, 100, 10, owner):
                    return 2
                if record(fcntl.F_GETLK, other, fcntl.F_RDLCK, 50, 100)[0] != fcntl.F_UNLCK:
                    return 3
                return 0
        expect_equal(child_status(body), 0, "as another process sees it")


@case("record locks", "conflicts: EAGAIN for others, shared readers, direction of the descriptor")
def record_conflicts():
    put("f")
    with opened("f", os.O_RDWR) as fd:
        lock(fd, fcntl.F_RDLCK, 0, 10)

        def attempt(kind, start, length, flags=os.O_RDWR):
            def body():
                with opened("f", flags) as other:
                    lock(other, kind, start, length)
            return body
        expect(granted(attempt(fcntl.F_RDLCK, 5, 10)), "two readers")
        expect(refused(attempt(fcntl.F_WRLCK, 9, 1)), "a writer within")
        expect(granted(attempt(fcntl.F_WRLCK, 10, 1)), "a writer beside")
        lock(fd, fcntl.F_WRLCK, 0, 10)
        expect(refused(attempt(fcntl.F_RDLCK, 0, 0)), "a reader against a writer")
    with opened("f", os.O_RDONLY) as fd:
        expect_errno(errno.EBADF, lock, fd, fcntl.F_WRLCK)
    with opened("f", os.O_WRONLY) as fd:
        expect_errno(errno.EBADF, lock, fd, fcntl.F_RDLCK)


@case("record locks", "closing any descriptor of the file gives all of the process back")
def record_close():
    put("f")
    with opened("f", os.O_RDWR) as fd:
        lock(fd, fcntl.F_WRLCK)
        with opened("f", os.O_RDONLY):
            expect_equal(locks_seen("f", 2), "ww", "held")
        expect_equal(locks_seen("f", 2), "--", "gone with another descriptor's close")


@case("record locks", "a child does not inherit them; they are kept over exec and end with the process")
def record_fork():
    put("f")
    with opened("f", os.O_RDWR) as fd:
        lock(fd, fcntl.F_WRLCK, 0, 10)
        expect(refused(lambda: lock(fd, fcntl.F_WRLCK, 0, 10)), "the child is another owner")
        expect_equal(locks_seen("f", 2), "ww", "and its end leaves them")
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    child = os.fork()
    if child == 0:
        fd = os.open("f", os.O_RDWR)
        os.set_inheritable(fd, True)
        lock(fd, fcntl.F_WRLCK, 0, 5)
        os.execv("/bin/sh", ["sh", "-c", "echo x >&%d; exec sleep 60" % writer])
    os.read(reader, 1)
    expect_equal(locks_seen("f", 6), "wwwww-", "kept over exec")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    expect_equal(locks_seen("f", 6), "------", "gone with the process")


@case("record locks", "F_SETLKW waits and is woken; a circle of waiters: EDEADLK")
def record_deadlock():
    put("f")
    ready = Signal()
    with opened("f", os.O_RDWR) as fd:
        lock(fd, fcntl.F_WRLCK, 0, 1)

        def body():
            other = os.open("f", os.O_RDWR)
            lock(other, fcntl.F_WRLCK, 1, 1)
            ready.tell()
            record(fcntl.F_SETLKW, other, fcntl.F_WRLCK, 0, 1)
            ready.tell()
            time.sleep(60)
        with helper(body):
            ready.wait()
            time.sleep(0.2)
            expect_errno(errno.EDEADLK, record, fcntl.F_SETLKW, fd, fcntl.F_WRLCK, 1, 1)
            lock(fd, fcntl.F_UNLCK, 0, 1)
            ready.wait()
            expect_equal(locks_seen("f", 3), "ww-", "the other one has both")


@case("record locks", "eight processes count under a lock, and lose nothing")
def record_counter():
    put("f", b"%08d" % 0)

    def body():
        with opened("f", os.O_RDWR) as fd:
            for _ in range(50):
                record(fcntl.F_SETLKW, fd, fcntl.F_WRLCK, 0, 8)
                value = int(os.pread(fd, 8, 0))
                os.pwrite(fd, b"%08d" % (value + 1), 0)
                record(fcntl.F_SETLK, fd, fcntl.F_UNLCK, 0, 8)
        return 0
    children = []
    for _ in range(8):
        child = os.fork()
        if child == 0:
            try:
                os._exit(body())
            finally:
                os._exit(9)
        children.append(child)
    expect(all(os.waitpid(child, 0)[1] == 0 for child in children), "all end well")
    with opened("f", os.O_RDONLY) as fd:
        expect_equal(int(os.read(fd, 8)), 400, "the count")


@case("record locks", "stay with the file over rename and unlink")
def record_renamed():
    put("f")
    with opened("f", os.O_RDWR) as fd:
        lock(fd, fcntl.F_WRLCK, 0, 3)
        os.rename("f", "g")
        expect_equal(locks_seen("g", 4), "www-", "under the new name")
        os.link("g", "h")
        expect_equal(locks_seen("h", 4), "www-", "under another link")
        os.unlink("g")
        os.unlink("h")
        lock(fd, fcntl.F_UNLCK)


# ---- open file description locks ----

@case("OFD locks", "belong to the open file, also within one process")
def ofd_owner():
    put("f")
    with opened("f", os.O_RDWR) as fd, opened("f", os.O_RDWR) as other:
        ofd_lock(fd, fcntl.F_WRLCK, 0, 10)
        expect_errno(errno.EAGAIN, ofd_lock, other, fcntl.F_WRLCK, 5, 1)
        expect_errno(errno.EAGAIN, lock, other, fcntl.F_WRLCK, 5, 1)
        ofd_lock(other, fcntl.F_WRLCK, 10, 1)
        kind, _, start, length, pid = record(calls.F_OFD_GETLK, other, fcntl.F_RDLCK, 0, 0)
        expect_equal((NAMES[kind], start, length, pid), ("write", 0, 10, -1), "F_OFD_GETLK")
        with opened("f", os.O_RDONLY):
            pass
        expect_errno(errno.EAGAIN, ofd_lock, other, fcntl.F_WRLCK, 0, 1)


@case("OFD locks", "are inherited over fork, and end with the last close")
def ofd_fork():
    put("f")
    fd = os.open("f", os.O_RDWR)
    ofd_lock(fd, fcntl.F_WRLCK, 0, 10)
    expect(granted(lambda: ofd_lock(fd, fcntl.F_RDLCK, 0, 5)), "a child has them, too")
    expect_equal(locks_seen("f", 11), "rrrrrwwwww-", "what the child did counts")
    copy = os.dup(fd)
    os.close(fd)
    expect_equal(locks_seen("f", 11), "rrrrrwwwww-", "a duplicate keeps them")
    os.close(copy)
    expect_equal(locks_seen("f", 11), "-----------", "and they are gone")


@case("OFD locks", "want a pid of 0: EINVAL; wait with F_OFD_SETLKW")
def ofd_details():
    put("f")
    with opened("f", os.O_RDWR) as fd, opened("f", os.O_RDWR) as other:
        for command in (calls.F_OFD_SETLK, calls.F_OFD_GETLK):
            expect_errno(errno.EINVAL, fcntl.fcntl, fd, command, FLOCK.pack(fcntl.F_WRLCK, 0, 0, 1, 7))
        ofd_lock(fd, fcntl.F_WRLCK)
        threading.Timer(0.2, lambda: ofd_lock(fd, fcntl.F_UNLCK)).start()
        started = time.monotonic()
        record(calls.F_OFD_SETLKW, other, fcntl.F_WRLCK)
        expect(0.1 < time.monotonic() - started < 30, "until it is free")


# ---- leases ----

@case("leases", "F_SETLEASE: given, told, broken by an open")
def leases():
    put("f")
    with opened("f", os.O_RDONLY) as fd:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        expect_equal(fcntl.fcntl(fd, fcntl.F_GETLEASE), fcntl.F_RDLCK, "a read lease")
        broken = []
        signal.signal(signal.SIGIO, lambda *_: broken.append(1))

        def attempt():
            expect_errno(errno.EWOULDBLOCK, os.open, "f", os.O_WRONLY | os.O_NONBLOCK)
        expect(granted(attempt), "a writer must wait")
        for _ in range(100):
            if broken:
                break
            time.sleep(0.01)
        expect(broken, "the holder hears of it")
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        with opened("f", os.O_WRONLY | os.O_NONBLOCK):
            pass
        expect_errno(errno.EAGAIN, lease_beside_writer)


def lease_beside_writer():
    with opened("f", os.O_WRONLY), opened("f", os.O_RDONLY) as fd:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)


@case("leases", "a write lease only where nobody else has the file open")
def write_lease():
    with opened("f", RDWR) as fd:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        expect_equal(fcntl.fcntl(fd, fcntl.F_GETLEASE), fcntl.F_WRLCK, "a write lease")
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        with opened("f", os.O_RDONLY):
            expect_errno(errno.EAGAIN, fcntl.fcntl, fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
