#!/usr/bin/env python3
"""How long a collection takes, and how long it makes a writer wait.

    CAIRN=build/release/cairn tests/bench/gc.py [--points 50] [--point-mib 200] [--small 50000] [--pages]

A store of points * point-mib MiB (10 GiB): each point has rewritten the same files, so that deleting one
frees what it alone has.  Then, beside a writer that creates, writes, fsyncs and unlinks small files: a dry run, and the
collection after deleting one point; and at the end all but the newest point.  Printed: the time of the
command, the bytes it says it freed, what the packs shrank by (st_blocks), and the writer's longest waits.
Everything lies below TMPDIR and is deleted afterwards.
"""
import argparse
import json
import os
import random
import shutil
import struct
import subprocess
import tempfile
import threading
import time

CAIRN = os.environ.get("CAIRN", "cairn")
MIB = 1 << 20


def run(*argv):
    return subprocess.run([str(a) for a in argv], check=True, stdout=subprocess.PIPE, text=True).stdout


class Data:
    """Random bytes that never repeat: a counter in each 4 KiB."""

    def __init__(self):
        self.block = bytearray(random.Random(1).randbytes(MIB))
        self.number = 0

    def next(self):
        for at in range(0, MIB, 4096):
            self.number += 1
            struct.pack_into("<Q", self.block, at, self.number)
        return self.block


def fill_small(top, count):
    for number in range(count):
        where = os.path.join(top, "small", "d%04d" % (number // 500))
        if number % 500 == 0:
            os.makedirs(where)
        with open(os.path.join(where, "f%06d" % number), "wb") as out:
            out.write(b"%d " % number * 20)


def rewrite(top, mib, data, pages):
    for number in range(mib // 2):
        name = os.path.join(top, "big", "f%04d" % number)
        with open(name, "r+b" if pages and os.path.exists(name) else "wb") as out:
            for half in range(2):
                block = data.next()
                if not pages:
                    out.write(block)
                for at in range(0, MIB if pages else 0, 8192):  # every other page: each is a chunk of its own
                    os.pwrite(out.fileno(), block[at:at + 8192], 2 * (half * MIB + at))


class Writer(threading.Thread):
    """Times each of its calls."""

    def __init__(self, top):
        super().__init__()
        self.top, self.stop, self.waits = os.path.join(top, "live"), False, []
        os.makedirs(self.top, exist_ok=True)

    def timed(self, what, call):
        start = time.monotonic()
        result = call()
        self.waits.append(((time.monotonic() - start) * 1e3, what))
        return result

    def run(self):
        path, number = os.path.join(self.top, "database"), 0
        database = os.open(path, os.O_RDWR | os.O_CREAT)
        os.pwrite(database, os.urandom(4 * MIB), 0)
        while not self.stop:
            number += 1
            name = os.path.join(self.top, "n%d" % number)
            new = self.timed("create", lambda: os.open(name, os.O_WRONLY | os.O_CREAT))
            self.timed("write", lambda: os.write(new, os.urandom(3000)))
            self.timed("close", lambda: os.close(new))
            self.timed("pwrite", lambda: os.pwrite(database, os.urandom(8192), number * 8192 % (4 * MIB)))
            if number % 3 == 0:
                self.timed("fsync", lambda: os.fsync(database))
            if number > 100:
                self.timed("unlink", lambda: os.unlink(os.path.join(self.top, "n%d" % (number - 100))))
            time.sleep(0.001)
        os.close(database)

    def report(self):
        self.stop = True
        self.join()
        worst = {}
        for wait, what in self.waits:
            worst[what] = max(worst.get(what, 0), wait)
        longest = max(self.waits)
        return "longest wait %.0f ms (%s), of %d calls; %s" % (
            longest[0], longest[1], len(self.waits), ", ".join("%s %.0f" % (k, v) for k, v in sorted(worst.items())))


class Bench:
    def __init__(self, base):
        self.store, self.path = os.path.join(base, "store"), os.path.join(base, "mnt")
        os.makedirs(self.path, exist_ok=True)

    def cairn(self, *argv):
        return run(CAIRN, "-s", self.store, *argv)

    def pack_bytes(self):
        packs = os.path.join(self.store, "packs")
        total = 0
        for name in os.listdir(packs):
            try:
                total += os.stat(os.path.join(packs, name)).st_blocks * 512
            except FileNotFoundError:
                pass
        return total

    def beside_writer(self, what, *argv):
        writer = Writer(self.path)
        writer.start()
        time.sleep(1)
        before, start = self.pack_bytes(), time.monotonic()
        result = json.loads(self.cairn("--json", *argv)) if argv else {}
        if not argv:
            time.sleep(5)
        elapsed = time.monotonic() - start
        freed = before - self.pack_bytes()
        print("%-34s %6.2f s  says %.1f MiB, packs shrank by %.1f MiB; %d nodes, %d chunks" % (
            what, elapsed, result.get("stored_bytes", 0) / MIB, freed / MIB, result.get("nodes", 0), result.get("chunks", 0)))
        print("%-34s %s" % ("", writer.report()), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--point-mib", type=int, default=200)
    parser.add_argument("--small", type=int, default=50000)
    parser.add_argument("--pages", action="store_true", help="write 8 KiB pages here and there, as a database does")
    parser.add_argument("--keep-store", help="work here, use the store that is there, delete nothing else")
    args = parser.parse_args()
    base = args.keep_store or tempfile.mkdtemp(prefix="cairn-bench.", dir=os.environ.get("TMPDIR") or "/var/tmp")
    bench = Bench(base)
    made = not os.path.exists(bench.store)
    if made:
        run(CAIRN, "init", "--compress", "none", bench.store)
    bench.cairn("mount", bench.path)
    try:
        if made:
            start, data = time.monotonic(), Data()
            os.mkdir(os.path.join(bench.path, "big"))
            fill_small(bench.path, args.small)
            for number in range(args.points):
                rewrite(bench.path, args.point_mib, data, args.pages)
                bench.cairn("freeze", "point-%03d" % number)
            print("made %.1f GiB in %.0f s" % (bench.pack_bytes() / (1 << 30), time.monotonic() - start), flush=True)
        names = [point["name"] for point in json.loads(bench.cairn("--json", "log"))]
        names = sorted(name for name in names if name.startswith("point-"))
        bench.beside_writer("no collection")
        bench.beside_writer("dry run, nothing to free", "gc", "-n")
        bench.cairn("delete", names[len(names) // 2])
        bench.beside_writer("dry run, one point deleted", "gc", "-n")
        bench.beside_writer("gc, one point deleted", "gc")
        bench.beside_writer("gc again", "gc")
        if not args.keep_store:
            bench.cairn("delete", *[name for name in names[:-1] if name != names[len(names) // 2]])
            bench.beside_writer("gc, all but the newest deleted", "gc")
            print(bench.cairn("check").strip())
    finally:
        run(CAIRN, "umount", bench.path)
        if not args.keep_store:
            shutil.rmtree(base)


if __name__ == "__main__":
    main()
