#!/usr/bin/env python3
"""Figures for what only cairn does: freeze, restore, diff, deduplication, memory.

    CAIRN=build/release/cairn tests/bench/snapshot.py [--files 200000] [--small 1000] [--write-mib 4096]

Prints one line a figure, with medians over repeated runs; everything is measured in one run, on a
store of its own below TMPDIR.  Times are of whole commands (process start included).
"""
import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

CAIRN = os.environ.get("CAIRN", "cairn")


def run(*argv, **more):
    return subprocess.run([str(a) for a in argv], check=True, stdout=subprocess.PIPE, text=True, **more).stdout


class Bench:
    def __init__(self, base, name):
        self.store, self.path = os.path.join(base, name + ".store"), os.path.join(base, name)
        os.mkdir(self.path)
        run(CAIRN, "init", self.store)
        run(CAIRN, "-s", self.store, "mount", self.path)

    def cairn(self, *argv):
        return run(CAIRN, "-s", self.store, *argv)

    def timed(self, *argv):
        start = time.monotonic()
        self.cairn(*argv)
        return (time.monotonic() - start) * 1e3

    def end(self):
        run(CAIRN, "umount", self.path)

    def stored(self):
        """Disk space of the store, everything durable."""
        self.cairn("wait-durable")
        return sum(os.lstat(os.path.join(top, name)).st_blocks * 512
                   for top, _, names in os.walk(self.store) for name in names if name != "ballast")

    def memory(self):
        """(resident, of it not backed by the index's map) in MB."""
        import json
        pid = json.loads(self.cairn("--json", "status"))["daemon_pid"]
        fields = {}
        for line in open("/proc/%d/status" % pid):
            if line.startswith(("VmRSS", "VmHWM", "RssAnon", "RssFile")):
                fields[line.split(":")[0]] = int(line.split()[1]) / 1e3
        return fields


def fill(top, count, per_dir=500, data=b"x" * 100):
    for number in range(count):
        where = os.path.join(top, "d%04d" % (number // per_dir))
        if number % per_dir == 0:
            os.mkdir(where)
        with open(os.path.join(where, "f%06d" % number), "wb") as out:
            out.write(b"%d " % number + data)


def change(top, count, total, per_dir=500, tag=b"changed"):
    for number in random.Random(count).sample(range(total), count):
        with open(os.path.join(top, "d%04d" % (number // per_dir), "f%06d" % number), "wb") as out:
            out.write(tag + b" %d" % number)


def freeze_times(bench, tag):
    bench.cairn("freeze", tag + "-warm")
    return [bench.timed("freeze", "%s-%d" % (tag, n)) for n in range(15)]


def say(what, value):
    print("%-62s %s" % (what, value), flush=True)


def walk(path):
    """Milliseconds for the attributes of every file, as find(1) wants them."""
    start = time.monotonic()
    subprocess.run(["find", path, "-newermt", "2099-01-01"], check=True)
    return (time.monotonic() - start) * 1e3


def longest_wait(bench, others):
    """Milliseconds that the slowest `freeze` or `status` took while `others` runs."""
    process, waits, number = subprocess.Popen(others, stdout=subprocess.DEVNULL), [], 0
    while process.poll() is None:
        waits.append(bench.timed("freeze", "beside-%d-%d" % (process.pid, number)))
        waits.append(bench.timed("status"))
        number += 1
    if process.returncode:
        raise SystemExit("%s: exit code %d" % (others, process.returncode))
    return max(waits, default=0)


def restores(args, bench):
    """Restore as a whole command and the first walk after it, by how much had changed."""
    walk(bench.path)
    for what, changed, rounds in (("nothing", 0, 5), ("1 %", args.files // 100, 5), ("half", args.files // 2, 3)):
        times, walks, again = [], [], []
        for number in range(rounds):
            change(bench.path, changed, args.files, tag=b"round %d" % number)
            bench.cairn("wait-durable")
            walk(bench.path)
            times.append(bench.timed("restore", "base"))
            walks.append(walk(bench.path))
            again.append(walk(bench.path))
        say("restore, %s of %d files changed (median of %d)" % (what, args.files, rounds), "%.1f ms" % statistics.median(times))
        say("  then a first walk / a second one", "%.0f / %.0f ms" % (statistics.median(walks), statistics.median(again)))
    change(bench.path, args.files // 2, args.files, tag=b"beside")
    say("longest freeze or status beside that last one", "%.1f ms" % longest_wait(
        bench, [CAIRN, "-s", bench.store, "restore", "base"]))


def points(args, base):
    small, large = Bench(base, "small"), Bench(base, "large")
    fill(small.path, args.small)
    start = time.monotonic()
    fill(large.path, args.files)
    say("create %d files" % args.files, "%.0f files/s" % (args.files / (time.monotonic() - start)))
    say("memory with %d files seen" % args.files, large.memory())
    one, two = freeze_times(small, "s"), freeze_times(large, "l")
    a, b = statistics.median(one), statistics.median(two)
    say("freeze, clean, %d / %d files (median of 15)" % (args.small, args.files), "%.1f / %.1f ms, ratio %.2f" % (a, b, b / a))

    large.cairn("freeze", "base")
    restores(args, large)
    change(large.path, 1000, args.files)
    large.cairn("freeze", "thousand")
    diffs = [large.timed("diff", "base", "thousand") for _ in range(7)]
    say("diff, 1,000 of %d changed (median of 7)" % args.files, "%.1f ms" % statistics.median(diffs))
    shutil.rmtree(os.path.join(large.path, "d0001"))
    large.cairn("delete", "l-3")
    start = time.monotonic()
    large.cairn("gc")
    say("gc of %d files" % args.files, "%.0f ms" % ((time.monotonic() - start) * 1e3))
    small.end()
    large.end()


def dedup(args, base):
    bench = Bench(base, "dedup")
    empty = bench.stored()
    tree = bench.path + "/one"
    os.mkdir(tree)
    subprocess.run(["cp", "-a", "/usr/include", "/usr/share", tree], check=False, stderr=subprocess.DEVNULL)
    logical = int(run("du", "-sb", tree).split()[0])
    files = int(run("sh", "-c", "find '%s' -type f | wc -l" % tree))
    first = bench.stored()
    os.mkdir(bench.path + "/two")
    subprocess.run(["cp", "-a", "/usr/include", "/usr/share", bench.path + "/two"], check=False, stderr=subprocess.DEVNULL)
    second = bench.stored()
    say("tree of %d files, %.0f MB: stored" % (files, logical / 1e6), "%.1f MB" % ((first - empty) / 1e6))
    say("second copy of it", "%.2f MB more: %.2f %% of what is stored, %.2f %% of its size" % (
        (second - first) / 1e6, 100 * (second - first) / (first - empty), 100 * (second - first) / logical))
    rng = random.Random(5)
    rows = b"".join(b"%d,Tenant %06x,t%d@example.org,%.2f,open\n" % (i, rng.getrandbits(24), i, rng.random() * 1000)
                    for i in range(4_500_000))[:200_000_000]
    before = bench.stored()
    with open(bench.path + "/csv", "wb") as out:
        out.write(b"id,name,mail,amount,state\n" + rows)
    one = bench.stored()
    with open(bench.path + "/csv2", "wb") as out:
        out.write(b"id,name,mail,amount,state\n0,inserted,row,1.00,open\n" + rows)
    two = bench.stored()
    say("extract of 200 MB: stored", "%.1f MB" % ((one - before) / 1e6))
    say("the same with one row inserted at the top", "%.2f MB more: %.2f %%" % ((two - one) / 1e6, 100 * (two - one) / (one - before)))
    bench.end()


def memory(args, base):
    bench = Bench(base, "memory")
    block = os.urandom(1 << 20)
    start = time.monotonic()
    with open(bench.path + "/big", "wb") as out:
        for number in range(args.write_mib):
            out.write(number.to_bytes(8, "little") + block[8:])
        os.fsync(out.fileno())
    say("write %d MiB" % args.write_mib, "%.0f MB/s" % (args.write_mib * 1.048576 / (time.monotonic() - start)))
    say("memory of the daemon then (MB; VmHWM: the most it ever was)", bench.memory())
    bench.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=200000)
    parser.add_argument("--small", type=int, default=1000)
    parser.add_argument("--write-mib", type=int, default=4096)
    parser.add_argument("--only", choices=["points", "dedup", "memory"])
    args = parser.parse_args()
    base = tempfile.mkdtemp(prefix="cairn-bench.", dir=os.environ.get("TMPDIR") or "/var/tmp")
    try:
        for part in (points, dedup, memory):
            if args.only in (None, part.__name__):
                part(args, base)
    finally:
        for name in os.listdir(base):
            if os.path.ismount(os.path.join(base, name)):
                subprocess.run(["umount", "-l", os.path.join(base, name)], check=False)
        time.sleep(1)
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
