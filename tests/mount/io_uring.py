#!/usr/bin/env python3
"""FUSE over io_uring: when it is used, that nothing gets stuck in it, and how it ends.

That everything works the same through it is shown by the other tests with CAIRN_TEST_IO_URING=on.
"""
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time

from harness import (CAIRN, RING_PARAMETER, Workspace, alive, check, finish, need_fuse, need_ring, ring_offered, run,
                     workdir)

# More than a queue has entries at the start, and in one of them: it must get more.
THREADS = 60
SECONDS = 40

WORK = r"""
import os, sys
base = sys.argv[1]
os.makedirs(base, exist_ok=True)
n = 0
try:
    while True:
        path = os.path.join(base, str(n % 50))
        with open(path, "wb") as f:
            f.write(os.urandom(3000) * (1 + n % 200))
        with open(path, "rb") as f:
            f.read()
        os.rename(path, path + ".new")
        if n % 3:
            os.unlink(path + ".new")
        if n % 10 == 0:
            os.sync()
        n += 1
except OSError as error:
    print(error)
"""


def transport(one):
    mounts = one.json("status")["mounts"]
    return mounts[0]["transport"] if mounts else None


def mounted_with(one, options, offered):
    """(exit code, what it said, transport) of a mount where the kernel offers the ring ("Y") or not."""
    with ring_offered(offered):
        done = one.cairn("mount", one.path, *(["-o", options] if options else []), ok=False, timeout=30)
    how = transport(one) if done.returncode == 0 else None
    if done.returncode == 0:
        one.umount()
    return done.returncode, done.stderr, how


def choice(one):
    check(mounted_with(one, "io_uring=on", "Y") == (0, "", "io_uring"), "on: through io_uring where the kernel offers it")
    check(mounted_with(one, "io_uring=auto", "Y") == (0, "", "io_uring"), "auto: the same")
    check(mounted_with(one, None, "Y") == (0, "", "io_uring"), "auto is what is done unasked")
    check(mounted_with(one, "io_uring=off", "Y") == (0, "", "dev_fuse"), "off: not even then")
    check(mounted_with(one, "io_uring=auto", "N") == (0, "", "dev_fuse"), "auto: silently without where it does not")
    code, said, _ = mounted_with(one, "io_uring=on", "N")
    check(code == 1 and "echo Y >" + RING_PARAMETER in said and not os.path.ismount(one.path),
          "on: refused where it does not, saying what root has to do", (code, said))
    code, said, _ = mounted_with(one, "io_uring=perhaps", "Y")
    check(code == 2 and "auto, on or off" in said, "another word is wrong usage", (code, said))


def processors(one):
    """A thread on each processor is what it is made of."""
    if len(os.sched_getaffinity(0)) < 2:
        return
    pinned = "import os,sys; os.sched_setaffinity(0, {0}); os.execv(sys.argv[1], sys.argv[1:])"
    argv = [sys.executable, "-c", pinned, CAIRN, "-s", one.store, "mount", one.path, "-o"]
    with ring_offered():
        done = run(*argv, "io_uring=on", ok=False, timeout=30)
        check(done.returncode == 1 and "every processor" in done.stderr,
              "on: refused where the daemon may not run on every processor", (done.returncode, done.stderr))
        done = run(*argv, "io_uring=auto", ok=False, timeout=30)
    check(done.returncode == 0 and transport(one) == "dev_fuse", "auto: without, then", done.stderr)
    one.umount()


def contents(one):
    data = os.urandom(5 << 20)
    for size in (0, 1, 4096, 131072, 786432, 1 << 20, len(data)):
        with open(one.p("data"), "wb", buffering=0) as f:
            f.write(data[:size])
        one.remount()
        with open(one.p("data"), "rb") as f:
            got = f.read()
        if hashlib.sha256(got).digest() != hashlib.sha256(data[:size]).digest():
            return check(False, "a file of %d bytes comes back" % size)
    names = ["n" * 255] + ["%d" % i for i in range(5000)]
    os.mkdir(one.p("names"))
    for name in names:
        os.mknod(one.p("names", name))
    one.remount()
    check(sorted(os.listdir(one.p("names"))) == sorted(names), "files of all sizes and long listings come back")
    os.setxattr(one.p("data"), "user.large", data[:60000])
    os.symlink("t" * 4000, one.p("link"))
    one.remount()
    check(os.getxattr(one.p("data"), "user.large") == data[:60000] and os.readlink(one.p("link")) == "t" * 4000,
          "so do large attributes and link targets")


def many_wait(one):
    """FSYNCs, and writers that a freeze holds up, all on one processor: the WRITEs that they wait for come through."""
    os.mkdir(one.p("many"))
    stop = time.monotonic() + SECONDS
    ended, rounds, done = [], [0] * THREADS, threading.Event()

    def write(number):
        os.sched_setaffinity(0, {0})
        with open(one.p("many", str(number)), "wb", buffering=0) as f:
            while not done.is_set():
                f.write(os.urandom(5000))
                if number % 2:
                    os.fsync(f.fileno())
                if rounds[number] % 50 == 49:
                    f.seek(0)
                rounds[number] += 1
        ended.append(number)

    threads = [threading.Thread(target=write, args=(number,), daemon=True) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    points = 0
    try:
        while points < 12 and time.monotonic() < stop:
            one.cairn("freeze", "many-%d" % points, timeout=SECONDS)
            points += 1
    except subprocess.TimeoutExpired:
        pass
    done.set()
    for thread in threads:
        thread.join(timeout=max(0.1, stop - time.monotonic()))
    if not check(points == 12 and len(ended) == THREADS and all(rounds),
                 "%d writers and 12 freezes on one processor get through" % THREADS,
                 "%d points, %d of the writers ended, least rounds %d" % (points, len(ended), min(rounds))):
        os.kill(one.daemon_pid(), signal.SIGKILL)  # nobody else would let them go
        finish()


def start_work(one):
    workers = [subprocess.Popen([sys.executable, "-c", WORK, one.p("load", str(i))], stdout=subprocess.PIPE)
               for i in range(4)]
    time.sleep(1)
    return workers


def stop_work(workers):
    for worker in workers:
        worker.kill()
        worker.wait(timeout=30)
        worker.stdout.close()


def gone(pid):
    limit = time.monotonic() + 20
    while alive(pid) and time.monotonic() < limit:
        time.sleep(0.01)
    return not alive(pid)


def torn_down(one):
    for argv, what in ((("umount", one.path, "--lazy"), "cairn umount --lazy"), (None, "umount -l")):
        workers, pid = start_work(one), one.daemon_pid()
        done = run(CAIRN, *argv, ok=False, timeout=60) if argv else run("umount", "-l", one.path, ok=False, timeout=60)
        check(done.returncode == 0, "%s under load" % what, done.stderr)
        stop_work(workers)
        check(gone(pid), "and the daemon ends")
        one.check_store()
        one.mount()
    workers, pid = start_work(one), one.daemon_pid()
    os.kill(pid, signal.SIGKILL)
    started = time.monotonic()
    stop_work(workers)
    check(gone(pid) and time.monotonic() - started < 10, "kill -9 under load lets go of everybody")
    done = one.cairn("mount", one.path, "-o", "io_uring=off", ok=False, timeout=60)
    check(done.returncode == 0, "the next mount takes the dead one away", done.stderr)
    one.remount()
    check(transport(one) == "io_uring", "and the ring is made again")


def main():
    need_fuse()
    need_ring()
    one = Workspace(workdir(), options="io_uring=on")
    choice(one)
    processors(one)
    one.mount()
    for part in (contents, many_wait, torn_down):
        part(one)
    one.umount()
    one.check_store()
    finish()


main()
