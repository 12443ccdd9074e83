#!/usr/bin/env python3
"""What memory the daemon takes, and whether it grows with what it keeps.

    CAIRN=build/release/cairn tests/bench/memory.py [--files 1000000] [--write-mib 4096] [--logical-gib 1024]

One line for each load, in MB: memory of its own (Private, without the index), pages of the index that are mapped in
(the kernel takes them back when it needs them), the most of both together since the line before, and the same 15
seconds later, when nothing is done any more.
"""
import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from places import CAIRN, run  # noqa: E402


class Watched:
    """A mounted workspace, and the daemon's memory looked at ten times a second."""

    def __init__(self, base):
        self.store, self.path = os.path.join(base, "store"), os.path.join(base, "workspace")
        os.mkdir(self.path)
        run(CAIRN, "init", self.store)
        run(CAIRN, "-s", self.store, "mount", self.path)
        self.pid = json.loads(run(CAIRN, "-s", self.store, "--json", "status"))["daemon_pid"]
        self.most, self.end = 0, False
        threading.Thread(target=self.watch, daemon=True).start()

    def now(self):
        own = mapped = 0
        with open("/proc/%d/status" % self.pid) as status:
            for line in status:
                if line.startswith("RssAnon:"):
                    own = int(line.split()[1]) / 1e3
                elif line.startswith("RssFile:"):
                    mapped = int(line.split()[1]) / 1e3
        return own, mapped

    def watch(self):
        while not self.end:
            try:
                self.most = max(self.most, sum(self.now()))
            except (FileNotFoundError, ProcessLookupError):
                return
            time.sleep(0.1)

    def load(self, what, work):
        self.most = 0
        start = time.monotonic()
        work()
        seconds, (own, mapped), most = time.monotonic() - start, self.now(), self.most
        time.sleep(15)
        later = self.now()
        print("%-44s own %6.0f  mapped %6.0f  most %6.0f  later %6.0f + %4.0f   (%.0f s)"
              % (what, own, mapped, most, *later, seconds), flush=True)

    def cairn(self, *argv):
        return run(CAIRN, "-s", self.store, *argv)

    def p(self, *parts):
        return os.path.join(self.path, *parts)


def create(one, count):
    for n in range(count):
        if n % 1000 == 0:
            os.mkdir(one.p("d%d" % (n // 1000)))
        os.close(os.open(one.p("d%d" % (n // 1000), "file-with-a-name-%d" % n), os.O_WRONLY | os.O_CREAT, 0o644))


def walk(path):
    for top, directories, names in os.walk(path):
        for name in directories + names:
            os.lstat(os.path.join(top, name))


def write(one, mib):
    block = random.Random(1).randbytes(1 << 20)
    with open(one.p("large"), "wb") as file:
        for n in range(mib):
            file.write(n.to_bytes(8, "little") + block[8:])


def write_here_and_there(one, mib, count):
    r = random.Random(2)
    fd = os.open(one.p("large"), os.O_RDWR)
    for n in range(count):
        os.pwrite(fd, r.randbytes(8192), r.randrange(mib << 7) * 8192)
    os.fsync(fd)
    os.close(fd)


def logical(one, gib):
    """Copies of one file that share what they hold, each of 16 GiB."""
    subprocess.run(["truncate", "-s", "16G", one.p("sparse")], check=True)
    with open(one.p("sparse"), "r+b") as file:
        for n in range(1024):
            file.seek(n << 24)
            file.write(os.urandom(65536))
    for n in range(gib // 16):
        subprocess.run(["cp", "--reflink=auto", "--sparse=auto", one.p("sparse"), one.p("copy-%d" % n)], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000000)
    parser.add_argument("--write-mib", type=int, default=4096)
    parser.add_argument("--logical-gib", type=int, default=1024)
    args = parser.parse_args()
    base = tempfile.mkdtemp(prefix="cairn-memory.", dir=os.environ.get("TMPDIR") or "/var/tmp")
    one = None
    try:
        one = Watched(base)
        one.load("mounted", lambda: None)
        one.load("%d files made" % args.files, lambda: create(one, args.files))
        one.load("frozen", lambda: one.cairn("freeze", "files"))
        one.load("all of them looked at", lambda: walk(one.path))
        one.load("%d MiB written" % args.write_mib, lambda: write(one, args.write_mib))
        one.load("50,000 writes here and there", lambda: write_here_and_there(one, args.write_mib, 50000))
        one.load("%d GiB, mostly sparse and shared" % args.logical_gib, lambda: logical(one, args.logical_gib))
        one.load("half of the files removed", lambda: [shutil.rmtree(one.p("d%d" % n)) for n in range(args.files // 2000)])
        one.load("point deleted, gc", lambda: (one.cairn("delete", "files"), one.cairn("gc")))
        one.load("check --read-data", lambda: one.cairn("check", "--read-data"))
    finally:
        if one:
            one.end = True
            run(CAIRN, "-s", one.store, "umount", one.path)
        subprocess.run(["rm", "-rf", "--one-file-system", base], check=False)


main()
