#!/usr/bin/env python3
"""Figures for histories: diff, carry, bisect and find, and ten against ten thousand points.

    CAIRN=build/release/cairn tests/bench/points.py [--files 200000] [--points 10000] [--changes 1000]

Makes a store of its own below TMPDIR, and removes it.  Times are of whole commands (process start
included) in ms, unless a line says otherwise; where there are rounds, the best one, as other work
on the machine only ever adds to it.  A line that ends in MISSED did not reach its goal; the exit code is
the number of those.
"""
import argparse
import datetime
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

CAIRN = os.environ.get("CAIRN", "cairn")
missed = 0


def run(*argv, ok=True):
    done = subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if ok and done.returncode:
        raise SystemExit("%s: exit code %d: %s" % (argv, done.returncode, done.stderr))
    return done


def timed(*argv, ok=True):
    start = time.monotonic()
    run(*argv, ok=ok)
    return (time.monotonic() - start) * 1e3


def tell(what, value, unit, goal=None, more=""):
    global missed
    late = goal is not None and value >= goal
    missed += late
    print("%-58s %10.2f %-3s%s%s%s" % (what, value, unit, " (goal: < %g)" % goal if goal is not None else "",
                                      more and "  " + more, "  MISSED" if late else ""), flush=True)


class Bench:
    def __init__(self, base):
        self.store, self.path = os.path.join(base, "store"), os.path.join(base, "m")
        os.mkdir(self.path)
        run(CAIRN, "init", self.store)
        self.mount()
        self.number = 0

    def mount(self):
        return timed(CAIRN, "-s", self.store, "mount", self.path)

    def umount(self):
        return timed(CAIRN, "umount", self.path)

    def cairn(self, *argv, ok=True):
        return run(CAIRN, "-s", self.store, *argv, ok=ok)

    def timed(self, *argv, ok=True):
        return timed(CAIRN, "-s", self.store, *argv, ok=ok)

    def ask(self, **request):
        """A request straight to the daemon: what it costs without a process."""
        link = socket.socket(socket.AF_UNIX)
        link.connect(os.path.join(self.store, "control.sock"))
        link.sendall(json.dumps(request).encode() + b"\n")
        answer = b""
        while True:
            part = link.recv(1 << 20)
            if not part:
                break
            answer += part
        link.close()
        result = json.loads(answer.decode().strip().split("\n")[-1])
        if "ok" not in result:
            raise SystemExit("%s: %s" % (request, result))
        return result["ok"]

    def change(self):
        self.number += 1
        with open(os.path.join(self.path, "changing"), "w") as file:
            file.write("%d\n" % self.number)

    def freeze(self, name):
        self.change()
        self.ask(op="freeze", workspace="main", name=name)


def make_files(path, count):
    for i in range(count):
        if i % 1000 == 0:
            os.mkdir("%s/d%03d" % (path, i // 1000))
        with open("%s/d%03d/f%06d" % (path, i // 1000, i), "w") as file:
            file.write("file %d\n" % i)


def change_files(path, count, total):
    """Half of them written to; of the rest as many made, deleted and renamed."""
    step = max(1, total // count)
    for number, i in enumerate(range(0, count * step, step)):
        name = "%s/d%03d/f%06d" % (path, i // 1000, i)
        kind = number % 6 if os.path.exists(name) else 2
        if kind == 0:
            os.unlink(name)
        elif kind == 1:
            os.rename(name, name + "-renamed-%d" % count)
        else:
            with open(name + ("-new-%d" % count if kind == 2 else ""), "a") as file:
                file.write("changed\n")


# ---- ten points, ten thousand points


def fresh_lookup(bench, names):
    """µs of the first look-up of a name below .snapshots."""
    times = []
    for name in names:
        start = time.monotonic()
        os.stat(os.path.join(bench.path, ".snapshots", name))
        times.append((time.monotonic() - start) * 1e6)
    return min(times)


def measure(bench, names, rounds):
    """What one operation costs with the points that there are."""
    half = bench.ask(op="show", workspace="main", point=names[len(names) // 2])["created"]
    when = datetime.datetime.fromisoformat(half[:19] + half[-6:]) + datetime.timedelta(seconds=1)
    when = when.strftime("%Y-%m-%d %H:%M:%S")
    time.sleep(1)
    results = {}

    def note(what, value):
        results.setdefault(what, []).append(value)

    for i in range(rounds):
        name, spare = names[i % len(names)], "spare-%d-%d" % (len(names), i)
        bench.change()
        note("freeze", bench.timed("-q", "freeze", spare))
        for spec in (name, "@latest", "@5", "@{%s}" % when):
            what = "NAME" if spec == name else "@{TIME}" if spec[1] == "{" else spec
            note("resolve %s (ls)" % what, bench.timed("ls", spec, "changing"))
        note("a mistyped name", bench.timed("ls", "no-such", ok=False))
        note("show (with exact sizes)", bench.timed("show", name))
        note("rename", bench.timed("-q", "rename", spare, spare + "-b"))
        note("hold, release", bench.timed("-q", "hold", name, "bench") + bench.timed("-q", "release", name))
        note("verdict", bench.timed("-q", "verdict", name, "working"))
        note("restore, work kept", (bench.change(), bench.timed("-q", "restore", spare + "-b"))[1])
        note("restore -n", bench.timed("-n", "restore", name))
        note("delete the newest", bench.timed("-q", "delete", "@latest"))
        note("delete an old one", bench.timed("-q", "delete", names.pop(len(names) // 2)) if len(names) > 4 else
             results["delete an old one"][-1])
        note("status (with exact sizes)", bench.timed("status"))
        note("log --last 10", bench.timed("log", "--last", "10"))
        note("find (ms a command)", bench.timed("find", "d000/f000001"))
        note("umount", bench.umount())
        note("mount", bench.mount())
    note(".snapshots look-up (µs)", fresh_lookup(bench, names[-10:]))
    listed, start = 0, time.monotonic()
    while listed < 10000:
        listed += len(os.listdir(os.path.join(bench.path, ".snapshots")))
    note(".snapshots readdir (µs a name)", (time.monotonic() - start) * 1e6 / listed)
    note("log", bench.timed("-H", "log"))
    note("log --graph", bench.timed("log", "--graph"))
    return {what: min(values) for what, values in results.items()}


# These look at all points, or (exact sizes) at the whole index.
NOT_COMPARED = {"log", "log --graph", "find (ms a command)", "log --last 10", "show (with exact sizes)",
                "status (with exact sizes)"}


def scale(bench, points, rounds):
    names = ["p%d" % i for i in range(10)]
    for name in names:
        bench.freeze(name)
    few = measure(bench, list(names), rounds)
    start = time.monotonic()
    for i in range(10, points):
        bench.freeze("p%d" % i)
        if i % 100 == 99:
            bench.ask(op="restore", workspace="main", point="p%d" % (i - i % 7))
    tell("a freeze through the socket, after a write, on average", (time.monotonic() - start) / points * 1e3, "ms")
    kept = {point["name"] for point in bench.ask(op="log", workspace="main")}
    many = measure(bench, ["p%d" % i for i in range(points) if "p%d" % i in kept], rounds)
    for what in few:
        ratio = many[what] / few[what]
        if what in NOT_COMPARED:
            tell("%s: %d points" % (what, points), many[what], "ms", None, "10 points: %.2f" % few[what])
        else:
            tell("%s: %d points / 10 points" % (what, points), ratio, "x", 1.5,
                 "%.2f / %.2f" % (many[what], few[what]))
    tell("find PATH among %d points" % points, many["find (ms a command)"], "ms", 1000)


# ---- diff and carry


def carry(bench, files, changes):
    name = "changes-%d" % changes
    bench.ask(op="freeze", workspace="main", name="before-" + name)
    change_files(bench.path, changes, files)
    bench.ask(op="freeze", workspace="main", name=name)
    goal = 1000 if changes <= 1000 else None
    tell("diff of %d changes in %d files" % (changes, files),
         bench.timed("-H", "diff", "before-" + name, name), "ms", goal)
    tell("restore over %d changes" % changes, bench.timed("-q", "restore", "before-" + name), "ms")
    bench.change()
    if bench.cairn("help", "carry", ok=False).returncode:
        print("carry: this cairn has no such command")
        return
    tell("carry -n of %d changes" % changes, bench.timed("-n", "carry", name), "ms", goal)
    tell("carry of %d changes in %d files" % (changes, files), bench.timed("-q", "carry", name), "ms", goal)


# ---- bisect


def bisect(bench, base, points):
    if bench.cairn("help", "bisect", ok=False).returncode:
        print("bisect: this cairn has no such command")
        return
    bench.ask(op="freeze", workspace="main", name="b0")
    for i in range(1, points):
        bench.freeze("b%d" % i)
        if i == points * 2 // 3:
            open(os.path.join(bench.path, "broken"), "w").close()
    trace = os.path.join(base, "trace")
    command = 'test ! -e broken; code=$?; echo >>"%s"; exit $code' % trace
    start = time.monotonic()
    done = bench.cairn("bisect", "--good", "b0", "--bad", "b%d" % (points - 1), "--", "sh", "-c", command)
    whole = (time.monotonic() - start) * 1e3
    steps = len(open(trace).readlines())
    alone = timed("sh", "-c", "test ! -e broken; exit 0")
    if "b%d" % (points * 2 // 3 + 1) not in done.stdout + done.stderr:
        raise SystemExit("bisect found another point:\n" + done.stdout + done.stderr)
    tell("bisect over %d points: runs" % points, steps, "", 10.5)
    tell("bisect: own time a step", (whole - alone * steps) / max(1, steps), "ms", 50)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=200000)
    parser.add_argument("--points", type=int, default=10000)
    parser.add_argument("--changes", type=int, nargs="+", default=[1000, 100000])
    parser.add_argument("--bisect", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    base = tempfile.mkdtemp(prefix="cairn-points.", dir=os.environ.get("TMPDIR", "/var/tmp"))
    bench = None
    try:
        bench = Bench(base)
        start = time.monotonic()
        make_files(bench.path, options.files)
        bench.cairn("wait-durable")
        tell("making %d files" % options.files, time.monotonic() - start, "s")
        for changes in options.changes:
            if changes <= options.files:
                carry(bench, options.files, changes)
        if options.bisect:
            bisect(bench, base, options.bisect)
        if options.points:
            for point in bench.ask(op="log", workspace="main"):
                bench.ask(op="delete", workspace="main", points=[point["name"]])
            scale(bench, options.points, options.rounds)
    finally:
        if bench:
            run("umount", "-l", bench.path, ok=False)
        shutil.rmtree(base, ignore_errors=True)
    return min(missed, 100)


if __name__ == "__main__":
    sys.exit(main())
