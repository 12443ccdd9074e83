#!/usr/bin/env python3
"""Restores and freezes in a loop under processes that make, rename, link, write and remove: nothing crashes,
nothing hangs, no error but those that a restore may cause, and in the end the mount shows what a fresh one shows."""
import errno
import mmap
import os
import random
import shutil
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Workspace, check, finish, need_fuse, seed, workdir  # noqa: E402
from picture import differences, picture  # noqa: E402

SECONDS = float(os.environ.get("CAIRN_RACE_SECONDS") or 12)
WORKERS = int(os.environ.get("CAIRN_RACE_WORKERS") or 4)
NAMES = ["d%d" % n for n in range(6)]
# What a shared tree gives anyway, and ESTALE.
EXPECTED = {errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.EISDIR, errno.ENOTDIR, errno.EINVAL, errno.ESTALE,
            errno.EPERM, errno.ELOOP, errno.EBUSY}


def work(root, dice, stop):
    """Until told to stop, between two actions; exit code 1 at an error that must not be.  A kill in the middle of one
    makes the kernel drop the times that it was about to send, and keep them, and remember an error of the file."""
    def path():
        return os.path.join(root, *[dice.choice(NAMES) for _ in range(dice.randrange(1, 4))])

    def write():
        fd = os.open(path(), os.O_RDWR | os.O_CREAT | dice.choice([0, os.O_TRUNC, os.O_APPEND]), 0o644)
        try:
            for _ in range(dice.randrange(1, 5)):
                os.write(fd, b"w" * dice.choice([10, 5000, 200000]))
            if dice.random() < 0.1:
                os.fsync(fd)
        finally:
            os.close(fd)

    def read():
        with open(path(), "rb") as data:
            data.read(100000)

    actions = [write, write, read, lambda: os.mkdir(path()), lambda: os.mkdir(path()), lambda: os.rename(path(), path()),
               lambda: os.rename(path(), path()), lambda: os.link(path(), path()), lambda: os.symlink("x", path()),
               lambda: os.unlink(path()), lambda: os.rmdir(path()), lambda: os.stat(path()), lambda: os.listdir(path()),
               lambda: os.chmod(path(), dice.choice([0o644, 0o755])), lambda: os.utime(path(), ns=(1, dice.randrange(1 << 60))),
               lambda: os.truncate(path(), dice.randrange(10000)), lambda: os.setxattr(path(), "user.x", b"1" * dice.randrange(50)),
               lambda: os.chdir(path()), lambda: os.chdir(root), lambda: os.listdir(".")]
    while not number_in(stop):
        try:
            dice.choice(actions)()
        except OSError as error:
            if error.errno not in EXPECTED and error.errno != errno.EIO:
                print("worker: %s" % error, flush=True)
                os._exit(1)
    os._exit(0)


def start(action):
    pid = os.fork()
    if not pid:
        signal.alarm(int(SECONDS) + 300)
        try:
            action()
        finally:
            os._exit(1)
    return pid


def not_ended(pids, seconds):
    """Those that have not within this time: they are killed."""
    until = time.monotonic() + seconds
    left = set(pids)
    while left and time.monotonic() < until:
        left -= {pid for pid in left if os.waitpid(pid, os.WNOHANG)[0]}
        time.sleep(0.01)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return sorted(left)


def race(one, dice):
    root = one.p("tree")
    os.mkdir(root)
    points = ["p0"]
    one.cairn("freeze", "p0")
    pids, stop = [], mmap.mmap(-1, 4096)
    for n in range(WORKERS):
        own = random.Random(dice.randrange(1 << 32))
        pids.append(start(lambda own=own: work(root, own, stop)))
    until, restores, slowest = time.monotonic() + SECONDS, 0, 0.0
    while time.monotonic() < until:
        begin = time.monotonic()
        if dice.random() < 0.3 or len(points) < 4:
            points.append("p%d" % len(points))
            one.cairn("freeze", points[-1], timeout=120)
        else:
            one.cairn("restore", dice.choice(points[-6:]), "--force", timeout=120)
            restores += 1
        slowest = max(slowest, time.monotonic() - begin)
        time.sleep(dice.random() * 0.1)
    ended = [pid for pid in pids if os.waitpid(pid, os.WNOHANG)[0]]
    check(not ended, "%d workers met no error that must not be, over %d restores" % (WORKERS, restores))
    check(restores > 3 and slowest < 60, "no restore hung (the slowest took %.1f s)" % slowest)
    stop[0:8] = (1).to_bytes(8, "little")
    stuck = not_ended(set(pids) - set(ended), 60)
    check(not stuck, "all of them come to an end", stuck)
    return points


def number_in(memory):
    return int.from_bytes(memory[0:8], "little")


def truncate_all(paths, at):
    for number, path in enumerate(paths, 1):
        at[0:8] = number.to_bytes(8, "little")
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
        except OSError as error:
            if error.errno not in EXPECTED:
                raise
    os._exit(0)


def remove_where_it_waits(paths, at, removed):
    """Whenever `at` stands still, the file that it names is removed, for which the kernel takes the locks of its
    directory and of itself."""
    while True:
        number = number_in(at)
        time.sleep(0.0015)
        if number and number_in(at) == number:
            try:
                os.unlink(paths[number - 1])
                removed[0:8] = (number_in(removed) + 1).to_bytes(8, "little")
            except FileNotFoundError:
                pass


def locks(one):
    """An open that truncates waits for the restore; an unlink of that file holds the directory, of which the restore
    has names to tell, and must not have to wait for the open."""
    removed, restores = mmap.mmap(-1, 4096), 6
    for number in range(restores):
        base = one.p("locks-%d" % number)
        os.mkdir(base)
        paths = [os.path.join(base, "f%d" % n) for n in range(4000)]
        for path in paths:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
        one.cairn("freeze", base[len(one.path) + 1:])
        for n in range(3000):
            os.close(os.open(os.path.join(base, "late-%d" % n), os.O_WRONLY | os.O_CREAT))
        at = mmap.mmap(-1, 4096)
        pids = [start(lambda: truncate_all(paths, at)), start(lambda: remove_where_it_waits(paths, at, removed))]
        while not number_in(at):
            time.sleep(0.001)
        one.cairn("restore", base[len(one.path) + 1:], "--force", timeout=60)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        one.cairn("restore", base[len(one.path) + 1:], "--force", timeout=60)
        left = sorted(os.listdir(base))
        if left != sorted(os.path.basename(path) for path in paths):
            check(False, "what was removed and made is as it was", left[:5])
        shutil.rmtree(base)
    check(number_in(removed) >= restores, "%d times a file was removed whose open waited, over %d restores" % (number_in(removed), restores))


def settle(one):
    """A commit makes the kernel ask anew for attributes of which it may have taken an old answer for a new one."""
    root = os.open(one.path, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(root)
    os.close(root)


def same_as_fresh(one, points):
    settle(one)
    before = picture(one.path, numbers=True)
    one.cairn("freeze", "last")
    frozen = differences(picture(one.p(".snapshots/last")), {name: look[:-1] for name, look in before.items()})
    check(not frozen, "what is frozen at the end is what the mount shows (%d files)" % len(before), frozen[:3])
    one.remount()
    fresh = differences(picture(one.path, numbers=True), before)
    check(not fresh, "and so does a fresh mount", fresh[:3])
    one.cairn("restore", points[-1])
    back = differences(picture(one.path), picture(one.p(".snapshots", points[-1])))
    check(not back, "a last restore shows its point", back[:3])


def main():
    need_fuse()
    dice = random.Random(seed())
    one = Workspace(workdir()).mount()
    locks(one)
    same_as_fresh(one, race(one, dice))
    one.umount()
    one.check_store()
    finish()


main()
