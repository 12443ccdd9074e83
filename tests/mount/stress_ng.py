#!/usr/bin/env python3
"""stress-ng's file-system stressors on a mount, with --verify, a few at a time in random company.

A stressor that fails is run again alone, and then on the machine's own file system.  Where it fails there with
the same messages it says nothing about cairn: it must then be in KNOWN, with the reason.  At the end the store
must be whole, the daemon the same process as before, and its memory within bounds.

CAIRN_STRESS_SECONDS: of each group (2).
"""
import os
import random
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Workspace, alive, check, finish, need_fuse, need_root, run, seed, workdir  # noqa: E402

SECONDS = int(os.environ.get("CAIRN_STRESS_SECONDS", "2"))
TOGETHER, WORKERS = 5, 2
MEMORY_LIMIT_MB = 600  # the engine's budgets, the mapped index, and the inodes that the kernel remembers

# Those of the filesystem class (and others that take --temp-path) that work on files of a directory.
# Not here: bind-mount, binderfs and umount (mount other file systems), io (calls syncfs on every file system
# that the machine has mounted, and fails where one of those does), procfs, and loop and swap (a block device or
# swap space on a file that a process serves can hang the machine, with any FUSE file system).
STRESSORS = """
    access aio aiol chattr chdir chmod chown chroot close copy-file dentry dir dirdeep dirmany dnotify dup exec
    fallocate fanotify fault fcntl fiemap fifo file-ioctl filename flock fpunch fsize fstat full getdent handle
    hdd inode-flags inotify io-uring iomix ioprio landlock lease link locka lockf lockofd mknod mmap msync
    msyncmany open readahead rename revio seek sendfile splice stackmmap symlink sync-file tee touch utime
    verity vm-splice xattr
    """.split()
NEWER = "acl filerace metamix sigbus unlink".split()  # than 0.15
OPTIONS = {
    "mmap": ["--mmap-file", "--mmap-bytes", "8m"],
    "fallocate": ["--fallocate-bytes", "64m"],
    "hdd": ["--hdd-bytes", "64m"],
    "iomix": ["--iomix-bytes", "64m"],
    "seek": ["--seek-punch"],
}
KNOWN = {
    "io-uring": "stress-ng before 0.16 asks IORING_OP_STATX for a path that newer kernels say is not there",
}


def known_stressors():
    """Of the two lists, what this version has."""
    text = run("stress-ng", "--help").stdout
    has = set(re.findall(r"--([a-z0-9-]+) N\b", text))
    missing = [name for name in STRESSORS if name not in has]
    print("not in this version of stress-ng: %s" % (" ".join(missing) or "none"))
    return [name for name in STRESSORS + NEWER if name in has]


def stress(names, where, number, workers=WORKERS):
    """The messages of failure by stressor; an empty dictionary where all went well."""
    os.makedirs(where, exist_ok=True)
    argv = ["stress-ng", "--verify", "--timeout", SECONDS, "--seed", number, "--temp-path", where]
    for name in names:
        argv += ["--" + name, workers] + OPTIONS.get(name, [])
    done = run(*argv, ok=False, timeout=SECONDS * 10 + 120)
    failures = {}
    for name, message in re.findall(r"fail: *\[\d+\] ([a-z0-9-]+): (.*)", done.stdout + done.stderr):
        message = re.sub(r", filesystem type: \S+|\b\d+\b|stress-ng-\S+|/\S+", "", message)
        failures.setdefault(name, set()).add(message)
    if done.returncode not in (0, 3, 4) and not failures:  # 3, 4: the machine lacks what it needs
        output = "exit code %d: %s" % (done.returncode, (done.stdout + done.stderr)[-1500:])
        failures = {name: {output} for name in names}
    return failures


def judge(name, messages, one, plain, number):
    """A failure of this stressor in company: alone, and on the machine's own file system."""
    alone = stress([name], one.p("stress"), number).get(name, set())
    there = set()
    for attempt in range(3):
        there |= stress([name], plain, number + attempt).get(name, set())
    if there and (messages | alone) <= there:
        check(name in KNOWN, "%s fails on the machine's own file system too: %s" % (
            name, KNOWN.get(name, "a reason is missing from KNOWN")), sorted(there))
        return
    check(False, "%s finds what it wrote" % name, "in company: %s\nalone: %s\non the machine's own: %s" % (
        sorted(messages), sorted(alone) or "fine", sorted(there) or "fine"))


def memory_mb(pid):
    with open("/proc/%d/status" % pid) as status:
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read()).group(1)) // 1024


def main():
    need_fuse()
    need_root()
    base = workdir()
    plain = os.path.join(base, "plain")
    number = seed()
    rng = random.Random(number)
    one = Workspace(base).mount()
    pid = one.daemon_pid()

    names = known_stressors()
    rng.shuffle(names)
    for group in (names[i:i + TOGETHER] for i in range(0, len(names), TOGETHER)):
        failures = stress(group, one.p("stress"), number)
        if not failures:
            check(True, " ".join(sorted(group)))
        for name, messages in failures.items():
            judge(name, messages, one, plain, number)

    check(alive(pid) and one.daemon_pid() == pid, "the daemon is still the same process")
    used = memory_mb(pid)
    check(used <= MEMORY_LIMIT_MB, "its memory stayed below %d MB: %d MB at most" % (MEMORY_LIMIT_MB, used))
    run("rm", "-rf", one.p("stress"))
    check(os.listdir(one.path) == [], "what the stressors left behind can be removed", os.listdir(one.path))
    one.cairn("gc")
    one.check_store("the mounted store is whole, every chunk readable")
    one.umount()
    one.check_store("and so it is when unmounted")
    finish()


main()
