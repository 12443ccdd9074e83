#!/usr/bin/env python3
"""What digests and extracts cost.

    CAIRN=build/release/cairn tests/bench/digest.py [--files 100000] [--mib 1024]

A tree of small files (50 in a directory) and one of 64 MiB files: the first digest of each, the digest after 1 %
changed (files anywhere, then a range of one large file), that after one file changed, computing it
anew (check --digest), extracting it, and how long a writer waited meanwhile at most.  Caches of the kernel are
dropped before first digests where we may.  Everything lies below TMPDIR and is deleted afterwards.
"""
import argparse
import os
import random
import shutil
import subprocess
import tempfile
import threading
import time

CAIRN = os.environ.get("CAIRN", "cairn")
MIB = 1 << 20


def run(*argv):
    subprocess.run([CAIRN, "-q", *argv], check=True, stdout=subprocess.DEVNULL)


def timed(what, *argv):
    start = time.monotonic()
    run(*argv)
    elapsed = time.monotonic() - start
    print("%-46s %8.3f s" % (what, elapsed))
    return elapsed


def drop_caches():
    try:
        with open("/proc/sys/vm/drop_caches", "w") as out:
            out.write("3")
    except OSError:
        pass


class Writer(threading.Thread):
    """Creates small files; the longest that one took."""

    def __init__(self, directory):
        super().__init__(daemon=True)
        self.directory, self.ended, self.longest = directory, False, 0.0

    def run(self):
        number = 0
        while not self.ended:
            start = time.monotonic()
            with open(os.path.join(self.directory, "w%d" % (number % 100)), "w") as out:
                out.write("x")
            self.longest = max(self.longest, time.monotonic() - start)
            number += 1
            time.sleep(0.0005)

    def stop(self):
        self.ended = True
        self.join()
        print("%-46s %8.1f ms" % ("  a writer beside it waited at most", self.longest * 1e3))


def small_path(top, number):
    return os.path.join(top, "small", "%d" % (number // 1000), "%d" % (number % 1000 // 50), "f%d" % number)


def small_files(top, count):
    rng = random.Random(1)
    for number in range(count):
        path = small_path(top, number)
        if number % 50 == 0:
            os.makedirs(os.path.dirname(path))
        with open(path, "wb") as out:
            out.write(rng.randbytes(rng.choice([50, 200, 1000, 3000])))


def append(top, numbers):
    for number in numbers:
        with open(small_path(top, number), "ab") as out:
            out.write(b"x")


def measure_small(top, count):
    small_files(top, count)
    run("freeze", "small")
    os.mkdir(os.path.join(top, "writer"))
    drop_caches()
    writer = Writer(os.path.join(top, "writer"))
    writer.start()
    first = timed("first digest of %d files" % count, "show", "--digest", "small")
    writer.stop()
    append(top, random.Random(2).sample(range(count), count // 100))
    run("freeze", "small-1")
    second = timed("  after 1 % of them changed, anywhere", "show", "--digest", "small-1")
    print("%-46s %8.3f" % ("  ratio", second / first))
    append(top, range(count // 2, count // 2 + count // 100))
    run("freeze", "small-2")
    second = timed("  after 1 % of them changed, side by side", "show", "--digest", "small-2")
    print("%-46s %8.3f" % ("  ratio", second / first))
    append(top, [count // 3])
    run("freeze", "small-3")
    timed("  after one changed", "show", "--digest", "small-3")
    timed("  anew, from the data", "check", "--digest", "small-3")
    timed("  extract", "restore", "small", "--to", os.path.join(os.path.dirname(top), "small"))


def measure_large(top, mib):
    rng = random.Random(3)
    shutil.rmtree(os.path.join(top, "small"))
    for number in range(mib // 64):
        with open(os.path.join(top, "large%d" % number), "wb") as out:
            for _ in range(64):
                out.write(rng.randbytes(MIB))
    run("freeze", "large")
    drop_caches()
    first = timed("first digest of %d MiB in %d files" % (mib, mib // 64), "show", "--digest", "large")
    with open(os.path.join(top, "large1"), "r+b") as out:
        out.seek(20 * MIB)
        out.write(rng.randbytes(mib * MIB // 100))
    run("freeze", "large-1")
    second = timed("  after 1 % of it changed, in one file", "show", "--digest", "large-1")
    print("%-46s %8.3f" % ("  ratio", second / first))
    timed("  anew, from the data", "check", "--digest", "large-1")
    timed("  extract", "restore", "large", "--to", os.path.join(os.path.dirname(top), "large"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=100000)
    parser.add_argument("--mib", type=int, default=1024)
    options = parser.parse_args()
    scratch = tempfile.mkdtemp(prefix="cairn-bench-")
    os.environ["CAIRN_STORE"] = os.path.join(scratch, "store")
    top = os.path.join(scratch, "mount")
    os.mkdir(top)
    try:
        run("init")
        run("mount", top)
        measure_small(top, options.files)
        measure_large(top, options.mib)
    finally:
        subprocess.run([CAIRN, "umount", top], check=False)
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
