#!/usr/bin/env python3
"""Flipped bytes in a pack (I6): the read fails with EIO, the log names the place, the rest stays readable; a
wrong byte is never handed out."""
import errno
import os
import random
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Workspace, check, finish, need_fuse, seed, workdir  # noqa: E402


def main():
    need_fuse()
    rng = random.Random(seed())
    one = Workspace(workdir()).mount()
    files = {}
    for n in range(60):
        files["f%d" % n] = rng.randbytes(rng.choice([3000, 9000, 40000, 200000]))
        with open(one.p("f%d" % n), "wb") as out:
            out.write(files["f%d" % n])
    one.umount()
    packs = [os.path.join(one.store, "packs", name) for name in sorted(os.listdir(os.path.join(one.store, "packs")))]
    pack = max(packs, key=os.path.getsize)
    for _ in range(12):
        at = rng.randrange(os.path.getsize(pack))
        with open(pack, "r+b") as raw:
            raw.seek(at)
            old = raw.read(1)
            raw.seek(at)
            raw.write(bytes([old[0] ^ (1 << rng.randrange(8))]))
    one.mount()
    bad, wrong, good = [], [], 0
    for name, data in files.items():
        try:
            with open(one.p(name), "rb") as reading:
                if reading.read() == data:
                    good += 1
                else:
                    wrong.append(name)
        except OSError as error:
            bad.append(name)
            if error.errno != errno.EIO:
                wrong.append("%s: errno %d" % (name, error.errno))
    check(not wrong, "no wrong byte is handed out; the error is EIO", wrong)
    check(bad and good, "damaged files fail to read, the others are whole: %d and %d" % (len(bad), good))
    one.umount()
    done = one.cairn("check", "--read-data", ok=False)
    check(done.returncode == 5, "check --read-data finds the damage: exit code 5", done.stdout + done.stderr)
    named = [name for name in bad if name in done.stdout + done.stderr]
    check(named == bad, "and names every file that is hit", (bad, named))
    finish()


main()
