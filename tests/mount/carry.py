#!/usr/bin/env python3
"""Carry and restore of paths on a mounted workspace.  First the story that they are for: a load goes wrong while
other work goes well; the load goes back, the work comes along.  Then what programs see that have files open:
readers and writers of what does not change go on without notice, also through mappings; who writes to what
changes is named, and with --force hears ESTALE.  Each time the mount must show what a fresh one shows."""
import errno
import json
import mmap
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Workspace, check, finish, need_fuse, need_root, workdir  # noqa: E402
from picture import differences, picture  # noqa: E402

# Appends numbers, a line each, to two files in turn, and stops when stdin ends.
APPENDER = """
import os, select, sys
files = [os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT) for path in sys.argv[1:]]
number = 0
print("ready", flush=True)
while not select.select([0], [], [], 0)[0]:
    os.write(files[number % 2], b"%d\\n" % number)
    number += 1
print(number)
"""


def put(path, text, how="w"):
    with open(path, how) as out:
        out.write(text)


def get(path):
    with open(path) as data:
        return data.read()


def kept(done):
    return json.loads(done.stdout)["safety_point"]["name"]


def like_a_fresh_mount(one, what):
    before = picture(one.path, numbers=True)
    one.remount()
    found = differences(before, picture(one.path, numbers=True))
    check(not found, what + ": the mount showed what a fresh one shows", "\n".join(found))


# ---- the story ----

def story(base):
    one = Workspace(base, "story").mount()
    os.makedirs(one.p("load"))
    os.makedirs(one.p("mapping"))
    for table in ("customers", "contracts", "payments"):
        put(one.p("load", table), "".join("%s %d\n" % (table, i) for i in range(5000)))
    put(one.p("mapping", "rules"), "1: trim\n2: upper\n")
    put(one.p("mapping", "countries"), "DE\nFR\n")
    put(one.p("report.txt"), "run 1\n")
    one.cairn("freeze", "loaded", "-m", "first load, reconciled")

    # The next load goes wrong; meanwhile people work on the mapping.
    put(one.p("load", "payments"), "garbage\n")
    os.unlink(one.p("load", "contracts"))
    put(one.p("load", "rejects"), "17 rows\n")
    put(one.p("mapping", "rules"), "3: drop blanks\n", "a")
    put(one.p("mapping", "currencies"), "EUR\n")
    os.rename(one.p("mapping", "countries"), one.p("mapping", "iso-countries"))
    put(one.p("report.txt"), "run 2 went wrong\n", "a")

    abandoned = kept(one.cairn("--json", "restore", "loaded"))
    check(get(one.p("mapping", "rules")) == "1: trim\n2: upper\n" and "contracts" in os.listdir(one.p("load")),
          "all is as after the first load")
    put(one.p("report.txt"), "run 3\n", "a")
    would = one.json("carry", abandoned, "mapping", "report.txt", "-n")
    check(would["stopped"] and [e["path"] for e in would["entries"] if e["conflict"]] == ["report.txt"],
          "carry -n tells the one conflict", would)
    stopped = one.cairn("carry", abandoned, "mapping", "report.txt", ok=False)
    check(stopped.returncode == 4 and get(one.p("mapping", "rules")) == "1: trim\n2: upper\n",
          "carry stops at it, and nothing is changed", stopped.stderr)
    done = one.cairn("carry", abandoned, "mapping", "report.txt", "--on-conflict", "both")
    check(get(one.p("mapping", "rules")).endswith("3: drop blanks\n") and get(one.p("mapping", "currencies")) == "EUR\n",
          "the work on the mapping is here", done.stdout)
    check(sorted(os.listdir(one.p("mapping"))) == ["currencies", "iso-countries", "rules"], "under its new names")
    check(get(one.p("load", "payments")).count("\n") == 5000 and "rejects" not in os.listdir(one.p("load")),
          "the load is the good one")
    theirs = one.p("report.txt.from-" + abandoned)
    check(get(one.p("report.txt")) == "run 1\nrun 3\n" and get(theirs) == "run 1\nrun 2 went wrong\n",
          "both reports are there")
    put(one.p("report.txt"), get(theirs).splitlines(True)[1], "a")
    os.unlink(theirs)
    like_a_fresh_mount(one, "after a carry")
    one.cairn("restore", abandoned, "load/rejects")
    check(get(one.p("load", "rejects")) == "17 rows\n", "one file of the failed run for the analysis")
    check("carry" in one.cairn("journal").stdout, "the journal tells the story")
    one.umount()
    one.check_store()


# ---- programs at work ----

class Appender:
    """A process that writes to two files that must not be disturbed."""

    def __init__(self, *paths):
        self.paths = paths
        self.process = subprocess.Popen([sys.executable, "-c", APPENDER, *paths], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()

    def stop(self):
        out, _ = self.process.communicate("", timeout=60)
        return self.process.returncode == 0 and int(out)


def numbers(text):
    return [int(line) for line in text.split()]


def is_prefix(one, point, names):
    """Of what the appender wrote, over both files."""
    parts = [numbers(one.cairn("cat", point, name).stdout) for name in names]
    together = sorted(parts[0] + parts[1])
    # The last write(2) of a thread that is in it when the moment comes may be missing.
    return together[:-1] == list(range(len(together) - 1)), together[-5:]


def others_go_on(base):
    one = Workspace(base, "work").mount()
    names = ("log-a", "log-b")
    os.makedirs(one.p("data"))
    for i in range(200):
        put(one.p("data", "f%d" % i), "old %d\n" % i)
    put(one.p("still"), "never changes\n" * 1000)
    put(one.p("mapped"), "m" * 8192)
    one.cairn("freeze", "then")
    for i in range(0, 200, 2):
        put(one.p("data", "f%d" % i), "new %d\n" % i)
    put(one.p("data", "more"), "more\n")
    abandoned = kept(one.cairn("--json", "restore", "then"))
    appender = Appender(*[one.p(name) for name in names])
    reader = open(one.p("still"))
    reader.read(14)
    with open(one.p("mapped"), "r+b") as file:
        shared = mmap.mmap(file.fileno(), 8192)
    unchanged = open(one.p("data", "f1"))
    changed = os.open(one.p("data", "f0"), os.O_RDONLY)
    os.read(changed, 3)
    directory = os.open(one.p("data"), os.O_RDONLY | os.O_DIRECTORY)

    shared[0:4] = b"till"
    brought = json.loads(one.cairn("--json", "carry", abandoned).stdout)
    point = brought["safety_point"]["name"]
    check(brought["conflicts"] == 0 and brought["changed"] == {"added": 1, "removed": 0, "modified": 100},
          "carry while others write", brought["changed"])
    check(all(get(one.p("data", "f%d" % i)) == ("old" if i % 2 else "new") + " %d\n" % i for i in range(200)),
          "what it brought is there at once")
    check("more" in os.listdir(one.p("data")) and get(one.p("data", "more")) == "more\n", "a new file, too")
    check(one.cairn("cat", point, "mapped").stdout[:4] == "till", "the kept point has what was stored in a mapping before")
    good, detail = is_prefix(one, point, names)
    check(good, "and of a program that goes on writing what was there at one moment", detail)
    check(reader.read(14) == "never changes\n" and unchanged.read() == "old 1\n", "readers of other files go on")
    try:
        os.pread(changed, 10, 0)
        check(False, "a reader of a changed file hears ESTALE")
    except OSError as error:
        check(error.errno == errno.ESTALE, "a reader of a changed file hears ESTALE", error)
    shared[4:8] = b"goes"

    went = json.loads(one.cairn("--json", "restore", "then", "data").stdout)
    check(went["changed"] == {"added": 0, "removed": 1, "modified": 100}, "a directory goes back", went["changed"])
    check(all(get(one.p("data", "f%d" % i)) == "old %d\n" % i for i in range(200)), "its files are as they were, at once")
    check("more" not in os.listdir(directory) and "more" not in os.listdir(one.p("data")), "and so are its entries")
    good, detail = is_prefix(one, went["safety_point"]["name"], names)
    check(good, "the point that this kept is one moment, too", detail)
    shared[8:12] = b" on "
    shared.flush()
    check(get(one.p("mapped"))[:12] == "tillgoes on ", "the mapping is of the same file still")
    time.sleep(0.2)
    count = appender.stop()
    written = sorted(numbers(get(one.p(names[0]))) + numbers(get(one.p(names[1]))))
    check(count and written == list(range(count)), "the writer has lost nothing", (count, written[-3:]))
    shared.close()
    for fd in (changed, directory):
        os.close(fd)
    reader.close()
    unchanged.close()
    like_a_fresh_mount(one, "beside programs at work")
    one.umount()
    one.check_store()


# ---- who is in the way ----

def who_is_in_the_way(base):
    one = Workspace(base, "way").mount()
    os.makedirs(one.p("d"))
    put(one.p("d", "a"), "1\n")
    put(one.p("d", "b"), "1\n")
    put(one.p("other"), "1\n")
    one.cairn("freeze", "then")
    put(one.p("d", "a"), "2\n")
    put(one.p("d", "c"), "2\n")
    abandoned = kept(one.cairn("--json", "restore", "then"))
    held = os.open(one.p("d", "a"), os.O_WRONLY)
    would = one.json("carry", abandoned, "-n")["would_block"]
    check([(who["pid"], who["path"]) for who in would] == [(os.getpid(), "d/a")], "carry -n tells who would be in the way", would)
    refused = one.cairn("--json", "carry", abandoned, ok=False)
    check(refused.returncode == 3 and json.loads(refused.stdout)["error"]["detail"][0]["path"] == "d/a",
          "carry refuses, by name", refused.stdout)
    os.close(held)
    one.cairn("carry", abandoned)
    check(get(one.p("d", "a")) == "2\n" and get(one.p("d", "c")) == "2\n", "and does it as soon as the file is closed")
    other = os.open(one.p("other"), os.O_WRONLY)
    same = os.open(one.p("d", "b"), os.O_WRONLY)
    writer = os.open(one.p("d", "a"), os.O_WRONLY | os.O_APPEND)
    os.write(writer, b"unsynced\n")

    preview = one.json("restore", "then", "d", "-n")["would_block"]
    check([(who["pid"], who["path"]) for who in preview] == [(os.getpid(), "d/a")], "-n tells who would be in the way, and not others",
          preview)
    refused = one.cairn("--json", "restore", "then", "d", ok=False)
    error = json.loads(refused.stdout)["error"]
    check(refused.returncode == 3 and error["code"] == "busy" and
          [(who["pid"], who["path"]) for who in error["detail"]] == [(os.getpid(), "d/a")], "he is refused, by name", error)
    check("d/a" in one.cairn("restore", "then", "d", ok=False).stderr, "also for people")
    check(get(one.p("d", "a")) == "2\nunsynced\n" and os.path.exists(one.p("d", "c")), "and nothing has changed")
    os.write(writer, b"on\n")
    one.cairn("restore", "then", "other", "d/b", "d/c")
    check(not os.path.exists(one.p("d", "c")), "files that are written, but do not change, are in nobody's way")

    forced = kept(one.cairn("--json", "restore", "then", "d", "--force"))
    check(one.cairn("cat", forced, "d/a").stdout == "2\nunsynced\non\n", "the kept point has what was written until then")
    check(get(one.p("d", "a")) == "1\n", "with --force the file is restored")
    try:
        os.write(writer, b"late\n")
        os.fsync(writer)
        check(False, "the writer hears ESTALE")
    except OSError as error:
        check(error.errno == errno.ESTALE, "the writer hears ESTALE", error)
    os.write(other, b"3\n")
    os.write(same, b"3\n")
    os.fsync(other)
    os.fsync(same)
    check(get(one.p("other")) == "3\n" and get(one.p("d", "b")) == "3\n", "others go on writing")

    for fd in (other, same):
        os.close(fd)
    try:
        os.close(writer)
    except OSError:
        pass
    like_a_fresh_mount(one, "after --force")
    one.umount()
    one.check_store()


def main():
    need_fuse()
    need_root()
    base = workdir()
    story(base)
    others_go_on(base)
    who_is_in_the_way(base)
    finish()


main()
