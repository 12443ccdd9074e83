#!/usr/bin/env python3
"""Fifteen processes change one tree and look at it (tests/tangle), while points are frozen, compared, deleted
and collected: nothing may be lost, doubled, torn or out of step.

CAIRN_TANGLE_SECONDS: how long (20).
"""
import collections
import os
import random
import stat
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import CAIRN, Workspace, check, compare, finish, need_fuse, need_root, seed, workdir  # noqa: E402

SECONDS = int(os.environ.get("CAIRN_TANGLE_SECONDS", "20"))
TANGLE = os.environ.get("CAIRN_TANGLE") or os.path.join(os.path.dirname(os.path.abspath(CAIRN)), "tests", "tangle")
CHANGERS = 8


def walk(top):
    """What is wrong with the tree's link counts and types: [] where all is well.  Also counts its names."""
    names, links, wrong, count = collections.Counter(), {}, [], 0
    todo = [top]
    while todo:
        where = todo.pop()
        directories = 0
        with os.scandir(where) as listing:
            entries = list(listing)
        if len({entry.name for entry in entries}) != len(entries):
            wrong.append("%s lists a name twice" % where)
        for entry in entries:
            count += 1
            status = os.lstat(entry.path)
            if entry.inode() != status.st_ino or entry.is_dir(follow_symlinks=False) != stat.S_ISDIR(status.st_mode):
                wrong.append("%s: readdir and lstat differ" % entry.path)
            if stat.S_ISDIR(status.st_mode):
                directories += 1
                todo.append(entry.path)
            else:
                names[status.st_ino] += 1
                links[status.st_ino] = status.st_nlink
        if os.lstat(where).st_nlink != 2 + directories:
            wrong.append("%s: %d links, %d directories in it" % (where, os.lstat(where).st_nlink, directories))
    wrong += ["inode %d: %d links, %d names" % (ino, links[ino], names[ino]) for ino in links if links[ino] != names[ino]]
    return wrong, count


class Points:
    """Freezes, compares, deletes and collects at random; remembers what went wrong."""

    def __init__(self, one, rng):
        self.one, self.rng = one, rng
        self.names, self.wrong, self.done = [], [], collections.Counter()
        self.number = 0

    def cairn(self, *argv, allowed=(0,)):
        self.done[argv[0]] += 1
        done = self.one.cairn(*argv, ok=False, timeout=100)
        if done.returncode not in allowed:
            self.wrong.append("%s: exit code %d: %s" % (" ".join(argv), done.returncode, done.stderr[-300:]))
        return done

    def freeze(self):
        self.number += 1
        name = "p%d" % self.number
        self.cairn("freeze", name)
        self.names.append(name)

    def step(self):
        kind = self.rng.choice(["freeze", "freeze", "freeze", "diff", "diff", "delete", "gc", "look"])
        if kind == "freeze" or len(self.names) < 3:
            self.freeze()
        elif kind == "diff":
            first = self.rng.choice(self.names)
            second = self.rng.choice(self.names + ["@head"])
            self.cairn("diff", first, second)
        elif kind == "delete":
            self.cairn("delete", self.names.pop(self.rng.randrange(len(self.names))))
        elif kind == "gc":
            self.cairn("gc")
        else:
            self.look(self.rng.choice(self.names))

    def look(self, name):
        """A point is a moment: what always holds, holds in it, and its link counts are right."""
        self.done["look"] += 1
        top = self.one.p(".snapshots", name)
        wrong, _ = walk(top)
        self.wrong += ["%s: %s" % (name, w) for w in wrong]
        lost = {"always-%d" % n for n in range(40)} - set(os.listdir(os.path.join(top, "steady")))
        swing = sorted(os.listdir(os.path.join(top, "swing")))
        if lost or swing not in (["a", "x", "y"], ["b", "x", "y"]):
            self.wrong.append("%s: lost %s; in swing/ there are %s" % (name, sorted(lost), swing))
        size = os.path.getsize(os.path.join(top, "replaced", "target"))
        if size != 6000:
            self.wrong.append("%s: the file that is replaced by rename has %d bytes" % (name, size))


def settled(one, point, when):
    wrong, count = walk(one.path)
    check(not wrong, "%s link counts are the numbers of names, in a tree of %d names" % (when, count), wrong[:10])
    wrong, in_point = walk(one.p(".snapshots", point))
    check(not wrong and in_point == count, "%s so they are in the point" % when, wrong[:10] or (count, in_point))
    compare(one.path, one.p(".snapshots", point), "%s head and point are the same, byte for byte" % when)
    check(one.cairn("diff", point, "--exit-code", ok=False).returncode == 0, "%s diff says so too" % when)


def main():
    need_fuse()
    need_root()
    number = seed()
    one = Workspace(workdir()).mount()
    points = Points(one, random.Random(number))
    tangle = subprocess.Popen([TANGLE, one.path, str(SECONDS), str(number % 1000000), str(CHANGERS)],
                              stdout=subprocess.PIPE, text=True)
    tangle.stdout.readline()  # "ready"
    while tangle.poll() is None:
        points.step()
        time.sleep(0.05)
    output = tangle.communicate()[0]
    check(tangle.returncode == 0, "no process met anything that may not be: %s" % output.splitlines()[-1:], output)
    check(not points.wrong, "meanwhile each command on points succeeded, and each point was whole: %s" % (
        ", ".join("%d %s" % (count, what) for what, count in sorted(points.done.items()))), points.wrong[:5])

    one.cairn("freeze", "final")
    settled(one, "final", "at the end")
    one.check_store("the mounted store is whole, every chunk readable")
    one.remount()
    settled(one, "final", "after a remount")
    one.umount()
    one.check_store("the store is whole")
    finish()


main()
