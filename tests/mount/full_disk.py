#!/usr/bin/env python3
"""A full disk: writers hear ENOSPC, what was confirmed stays readable, and deleting a point with gc
makes room again.  The store lies on a small ext4 image of its own."""
import errno
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import _state, Workspace, check, finish, need_fuse, need_root, run, workdir  # noqa: E402


def main():
    need_fuse()
    need_root()
    base = workdir()
    image, disk = os.path.join(base, "image"), os.path.join(base, "disk")
    os.mkdir(disk)
    run("truncate", "-s", "256M", image)
    run("mkfs.ext4", "-q", "-m", "0", image)
    mounted = run("mount", "-o", "loop", image, disk, ok=False)
    if mounted.returncode:
        print("SKIP full_disk: no loop device here: %s" % mounted.stderr.strip())
        sys.exit(77)
    try:
        one = Workspace(base, store=os.path.join(disk, "store")).mount()
        fill(one)
        one.umount()
    finally:
        subprocess.run(["umount", "-l", os.path.join(base, "one")], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["umount", "-l", disk], check=False)
    finish()


def fill(one):
    kept = os.urandom(20 << 20)
    with open(one.p("kept"), "wb") as out:
        out.write(kept)
        os.fsync(out.fileno())
    with open(one.p("ballast"), "wb") as out:
        for _ in range(60):
            out.write(os.urandom(1 << 20))
    one.cairn("freeze", "early")
    os.unlink(one.p("ballast"))
    with open(one.p("confirmed"), "wb") as out:
        out.write(b"confirmed" * 1000)
        os.fsync(out.fileno())

    code, written, number = 0, 0, 0
    while not code and written < 400 << 20:
        try:
            with open(one.p("fill%d" % number), "wb", buffering=0) as out:
                for _ in range(8):
                    written += out.write(os.urandom(1 << 20))
                os.fsync(out.fileno())
        except OSError as error:
            code = error.errno
        number += 1
    check(code == errno.ENOSPC, "a writer hears ENOSPC", "errno %s after %d MiB" % (code, written >> 20))

    def heard_at_write():
        fd = os.open(one.p("small"), os.O_WRONLY | os.O_CREAT)
        try:
            for _ in range(64):
                os.write(fd, os.urandom(1 << 20))
        except OSError as error:
            return error.errno == errno.ENOSPC
        finally:
            os.close(fd)
        return False
    check(heard_at_write(), "write(2) itself says so, not only fsync or close")
    with open(one.p("kept"), "rb") as data:
        check(data.read() == kept, "what was confirmed stays readable")
    done = one.cairn("freeze", "on-full-disk", ok=False)
    check(done.returncode in (0, 7), "freeze works or says that there is no space", done.stderr)
    for n in range(number):
        os.unlink(one.p("fill%d" % n))
    os.unlink(one.p("small"))
    if done.returncode == 0:
        one.cairn("delete", "on-full-disk")
    one.cairn("delete", "early")
    freed = one.json("gc")
    check(freed["stored_bytes"] > 50 << 20, "deleting and gc work on a full disk", freed)
    with open(one.p("again"), "wb") as out:
        out.write(os.urandom(30 << 20))
        os.fsync(out.fileno())
    check(os.path.getsize(one.p("again")) == 30 << 20, "after that, writing goes on")
    one.remount()
    with open(one.p("kept"), "rb") as a, open(one.p("confirmed"), "rb") as b:
        check(a.read() == kept and b.read() == b"confirmed" * 1000, "all of it is there after a remount")
    one.umount()
    one.check_store()
    one.mount()


main()
