#!/usr/bin/env python3
"""A daemon that is killed while it has the kernel write pages back: a thread of it waits for an answer that nobody will
give, and would keep the mount, the store's lock and all who wait with it for ever.  Its guardian clears it away; where
that was killed as well, as a service manager kills a whole group, the next command does."""
import os
import random
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import CAIRN, Workspace, check, finish, need_fuse, seed, workdir  # noqa: E402

ROUNDS = 5
# Many dirty pages all the time, so that a freeze has to wait for them.
WRITER = """
import mmap, os, random, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 64 << 20)
pages = mmap.mmap(fd, 64 << 20)
while True:
    for _ in range(2000):
        at = random.randrange(16384) * 4096
        pages[at:at + 8] = os.urandom(8)
    os.pwrite(fd, os.urandom(65536), random.randrange(900) * 65536)
"""


def state(pid):
    """(letter of the main thread, threads), or None."""
    try:
        with open("/proc/%d/stat" % pid) as stat:
            letter = stat.read().rsplit(")", 1)[1].split()[0]
        return letter, len(os.listdir("/proc/%d/task" % pid))
    except (FileNotFoundError, ProcessLookupError):
        return None


def lingers(pid):
    found = state(pid)
    return found is not None and found[0] == "Z" and found[1] > 1


def guardian_of(pid):
    with open("/proc/%d/task/%d/children" % (pid, pid)) as children:
        for child in children.read().split():
            with open("/proc/%s/comm" % child) as name:
                if name.read() == "cairn-guardian\n":
                    return int(child)
    return None


def ends(process, seconds):
    try:
        process.wait(timeout=seconds)
        return True
    except subprocess.TimeoutExpired:
        process.kill()
        return False


def killed(one, rng, n, with_guardian):
    pid = one.daemon_pid()
    guardian = guardian_of(pid)
    if not check(guardian is not None, "the daemon has a guardian"):
        return False
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, one.p("file-%d" % i)], stderr=subprocess.DEVNULL)
               for i in range(2)]
    time.sleep(0.4)
    freeze = subprocess.Popen([CAIRN, "-s", one.store, "freeze", "point-%d-%d" % (n, with_guardian)],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(rng.uniform(0.01, 0.1))
    if not with_guardian:
        os.kill(guardian, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.05)
    seen = lingers(pid)
    if with_guardian:
        end = time.time() + 10
        while lingers(pid) and time.time() < end:
            time.sleep(0.02)
        check(not lingers(pid), "round %d: nothing of it is left" % n, state(pid))
        time.sleep(0.2)
        check(not os.path.exists("/proc/%d" % guardian) or state(guardian)[0] == "Z", "nor of the guardian", state(guardian))
    start = time.time()
    done = one.cairn("mount", one.path, ok=False, timeout=60)
    check(done.returncode == 0, "round %d, %s: mounted again" % (n, "guarded" if with_guardian else "guardian killed, too"),
          done.stderr)
    check(time.time() - start < 15, "without waiting for long", "%.1f s" % (time.time() - start))
    check(ends(freeze, 15), "whoever waited for the daemon has heard")
    for writer in writers:
        writer.kill()
    check(all([ends(writer, 15) for writer in writers]), "so have those who wrote")
    with open(one.p("proof-%d" % n), "w") as file:
        file.write("works")
    return seen


def ended_guardian(one):
    """It goes with a daemon that ends."""
    guardian = guardian_of(one.daemon_pid())
    one.umount()
    end = time.time() + 5
    while state(guardian) and state(guardian)[0] != "Z" and time.time() < end:
        time.sleep(0.05)
    left = state(guardian)
    check(left is None or left[0] == "Z", "a guardian ends with its daemon", left)


def main():
    need_fuse()
    rng = random.Random(seed())
    one = Workspace(workdir()).mount()
    seen = 0
    for n in range(ROUNDS):
        seen += killed(one, rng, n, True)
        seen += killed(one, rng, n, False)
    print("# a thread was left behind in %d of %d kills" % (seen, 2 * ROUNDS))
    ended_guardian(one)
    one.check_store()
    finish()


main()
