#!/usr/bin/env python3
"""Collections beside live writes.

Writers fill, rewrite, copy and delete files whose contents repeat (so that chunks that are about to be forgotten are
found again), while points come and go and gc runs without a pause.  Every file must hold what was
written last, every point what was frozen, and the packs must shrink by what gc says.  Then the daemon is killed
while gc runs, again and again.
"""
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import CAIRN, Workspace, check, finish, need_fuse, seed, workdir  # noqa: E402

SECONDS = float(os.environ.get("CAIRN_COLLECT_SECONDS", "12"))
KILLS = int(os.environ.get("CAIRN_COLLECT_KILLS", "8"))


def contents(number):
    """One of a few: most of what is written was there before, or will be again."""
    rng = random.Random(number)
    return rng.randbytes(rng.choice([300, 5000, 70000, 400000]))


class Writer(threading.Thread):
    def __init__(self, workspace, name, number):
        super().__init__(daemon=True)
        self.top, self.rng, self.stop = workspace.p(name), random.Random(number), False
        self.files, self.failure, self.longest = {}, None, 0.0
        os.mkdir(self.top)

    def write(self, name, which):
        with open(os.path.join(self.top, name), "wb") as out:
            out.write(contents(which))
            if self.rng.random() < 0.2:
                out.flush()
                os.fsync(out.fileno())
        self.files[name] = which

    def copy(self, name, other):
        with open(os.path.join(self.top, name), "rb") as old, open(os.path.join(self.top, other), "wb") as new:
            left = os.fstat(old.fileno()).st_size
            while left > 0:
                done = os.copy_file_range(old.fileno(), new.fileno(), left)
                if done == 0:
                    break
                left -= done
        self.files[other] = self.files[name]

    def step(self):
        name, other = ("f%d" % self.rng.randrange(25) for _ in range(2))
        kind = self.rng.choice(["write", "write", "copy", "unlink", "rename"])
        if kind == "write" or name not in self.files:
            self.write(name, self.rng.randrange(60))
        elif kind == "copy" and name != other:
            self.copy(name, other)
        elif kind == "unlink":
            os.unlink(os.path.join(self.top, name))
            del self.files[name]
        elif kind == "rename" and name != other:
            os.rename(os.path.join(self.top, name), os.path.join(self.top, other))
            self.files[other] = self.files.pop(name)

    def run(self):
        try:
            while not self.stop:
                start = time.monotonic()
                self.step()
                self.longest = max(self.longest, time.monotonic() - start)
        except Exception as error:  # told by the main thread
            self.failure = error

    def end(self):
        self.stop = True
        self.join(60)
        check(self.failure is None, "%s could go on writing" % os.path.basename(self.top), self.failure)
        wrong = [name for name in sorted(self.files)
                 if open(os.path.join(self.top, name), "rb").read() != contents(self.files[name])]
        check(not wrong and sorted(os.listdir(self.top)) == sorted(self.files),
              "%s has what was written last" % os.path.basename(self.top), wrong)


def fingerprint(top):
    digest = hashlib.sha256()
    for where, directories, names in os.walk(top):
        directories.sort()
        for name in sorted(names):
            with open(os.path.join(where, name), "rb") as data:
                digest.update(("%s %s\n" % (os.path.relpath(where, top), name)).encode() + data.read())
    return digest.hexdigest()


def pack_bytes(workspace):
    return sum(entry.stat().st_blocks * 512 for entry in os.scandir(os.path.join(workspace.store, "packs")))


def beside_writers(workspace, rng):
    writers = [Writer(workspace, "w%d" % n, rng.randrange(1 << 30)) for n in range(3)]
    points, made, collected, freed = {}, 0, 0, 0
    for writer in writers:
        writer.start()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        name = "p%d" % made
        made += 1
        workspace.cairn("freeze", name)
        points[name] = fingerprint(workspace.p(".snapshots", name))
        if len(points) > 4:
            gone = rng.choice(sorted(points))
            workspace.cairn("delete", gone)
            del points[gone]
        workspace.json("gc", "-n")
        result = workspace.json("gc")
        collected += 1
        freed += result["chunks"]
    for writer in writers:
        writer.end()
    print("# %d collections, %d chunks; longest wait of a writer %.0f ms" % (
        collected, freed, max(writer.longest for writer in writers) * 1e3))
    # tests/bench/gc.py has the figures; this is what no load of the machine explains.
    check(max(writer.longest for writer in writers) < 5, "no writer was locked out")
    check(collected > 2 and freed > 0, "collections found something to forget", (collected, freed))
    check(all(fingerprint(workspace.p(".snapshots", name)) == value for name, value in points.items()),
          "points are as they were frozen")
    workspace.check_store("the store is sound after collections beside writers")
    return points


def shrinks(workspace):
    with open(workspace.p("large"), "wb") as out:
        for _ in range(24):
            out.write(os.urandom(1 << 20))
    workspace.cairn("freeze", "large")
    os.unlink(workspace.p("large"))
    workspace.cairn("freeze", "without")
    workspace.json("gc")
    workspace.cairn("delete", "large")
    workspace.cairn("wait-durable")
    before = pack_bytes(workspace)
    result = workspace.json("gc")
    shrunk = before - pack_bytes(workspace)
    check(result["stored_bytes"] >= 24 << 20, "gc gives a deleted point's 24 MiB back", result)
    check(0.97 * result["stored_bytes"] <= shrunk <= 1.03 * result["stored_bytes"],
          "and the packs shrink by it (st_blocks)", (result["stored_bytes"], shrunk))


def killed(workspace, rng, points):
    for number in range(KILLS):
        for _ in range(12):
            with open(workspace.p("k%d" % rng.randrange(6)), "wb") as out:
                out.write(contents(rng.randrange(60)) + os.urandom(3000000))
            workspace.cairn("freeze", "k%d-%d" % (number, rng.randrange(1 << 40)))
        names = [point["name"] for point in workspace.json("log") if point["name"].startswith("k%d-" % number)]
        workspace.cairn("delete", *names[1:])
        collecting = subprocess.Popen([CAIRN, "-s", workspace.store, "gc"], stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL)
        time.sleep(rng.random() * 0.06)
        workspace.kill()
        collecting.wait(60)
        workspace.mount()
        if number % 3 == 0:
            workspace.check_store("the store is sound after kill -9 in a collection (%d)" % number)
    check(all(fingerprint(workspace.p(".snapshots", name)) == value for name, value in points.items()),
          "points are as they were frozen, after all kills")
    workspace.json("gc")
    workspace.umount()
    workspace.mount()
    status = workspace.json("status")
    # What was forgotten and not yet punched when the daemon died was punched since.
    check(pack_bytes(workspace) < status["stored_bytes"] * 1.05 + (4 << 20), "no room is lost by kills",
          (pack_bytes(workspace), status["stored_bytes"]))
    check(status["reclaimable_bytes"] == 0, "nothing is left to collect", json.dumps(status))
    workspace.check_store()


def main():
    need_fuse()
    rng = random.Random(seed())
    workspace = Workspace(workdir(), init=["--compress", "none"]).mount()
    points = beside_writers(workspace, rng)
    shrinks(workspace)
    killed(workspace, rng, points)
    workspace.umount()
    finish()


main()
