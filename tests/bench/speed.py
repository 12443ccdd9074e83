#!/usr/bin/env python3
"""How fast a workspace is, side by side with the file system below it and with libfuse's own passthrough example.

    CAIRN=build/release/cairn tests/bench/speed.py [--quick] [--runs 3] [--only WORKLOAD,…] [--dir LABEL=DIR …]
                                                   [--json FILE] [--markdown FILE] [--update-readme]

As root everything lies on a fresh ext4 image below TMPDIR, and "cold" means that the kernel forgot all it had
cached.  What is written is made before the clock starts, and is new in each run, so that deduplication gains
nothing from the run before; sync(2) goes before each measurement.  The directories take turns, another one first
in each run; figures are medians, "~" where they spread by more than a third.  Larger is better throughout.
"""
import argparse
import json
import mmap
import os
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import places  # noqa: E402

MIB = 1 << 20
CAP = 20  # seconds, after which a loop of small operations ends
WORKLOADS = []  # (group, name, unit, function)
BEGIN, END = "<!-- speed.py: begin -->", "<!-- speed.py: end -->"


def workload(group, unit):
    def register(function):
        WORKLOADS.append((group, function.__name__, unit, function))
        return function
    return register


def cold():
    os.sync()
    if os.geteuid() == 0:
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write("3\n")


def clock(work):
    """(what it returns, seconds)"""
    os.sync()
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def rate_of(items, work):
    """Calls work(item) for each item until the time is over; per second."""
    os.sync()
    start, done = time.perf_counter(), 0
    for item in items:
        work(item)
        done += 1
        if done % 64 == 0 and time.perf_counter() - start > CAP:
            break
    return done / (time.perf_counter() - start)


class Context:
    """What the workloads of one place in one run share."""

    def __init__(self, place, options, run):
        self.place, self.quick = place, options.quick
        self.random = random.Random("%s/%d" % (os.urandom(8).hex() if options.seed is None else options.seed, run))
        self.size = (64 if options.quick else 512) * MIB
        self.files = 2000 if options.quick else 10000
        self.notes = {}
        self.fresh = None  # what the big file holds

    def p(self, *parts):
        return self.place.p(*parts)


def random_bytes(context, size):
    """What does not compress; randbytes() has a limit."""
    return b"".join(context.random.randbytes(min(MIB, size - at)) for at in range(0, size, MIB))


def write_file(path, data):
    """Large writes, and durable at the end."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    view = memoryview(data)
    for at in range(0, len(view), MIB):
        os.write(fd, view[at:at + MIB])
    os.fsync(fd)
    os.close(fd)


def read_file(path):
    buffer, total = mmap.mmap(-1, MIB), 0
    fd = os.open(path, os.O_RDONLY)
    while (got := os.readv(fd, [buffer])) > 0:
        total += got
    os.close(fd)
    return total


def measured_write(context, name, data):
    """MB/s; how much the store grew, as a share of what was written, is noted."""
    before = context.place.stored()
    _, seconds = clock(lambda: write_file(context.p(name), data))
    after = context.place.stored()
    if before is not None:
        context.notes[name] = (after - before) / len(data)
    return len(data) / 1e6 / seconds


# ---- bytes

@workload("bytes", "MB/s")
def seq_write_fresh(context):
    context.fresh = random_bytes(context, context.size)
    return measured_write(context, "fresh", context.fresh)


@workload("bytes", "MB/s")
def seq_write_dup(context):
    return measured_write(context, "dup", context.fresh)


@workload("bytes", "MB/s")
def seq_write_shifted(context):
    return measured_write(context, "shifted", b"one row more at the top\n" + context.fresh)


WORDS = """tenant landlord arrears balance council estate flat garage household income journal keyholder ledger
meter notice occupancy payment quarter repair surveyor tenancy utility vacancy warden""".split()


def text(context, size):
    """Like an extract: names, numbers and dates in rows."""
    rows, length, r = [], 0, context.random
    while length < min(size, 32 * MIB):
        row = "%d;%s;%s;%d.%02d;20%02d-%02d-%02d;%s %d;%s\n" % (
            r.randrange(10**7), r.choice(WORDS).title(), r.choice(WORDS).title(), r.randrange(5000), r.randrange(100),
            r.randrange(10, 26), r.randrange(1, 13), r.randrange(1, 29), r.choice(WORDS), r.randrange(200),
            r.choice(("open", "closed", "open", "disputed")))
        rows.append(row)
        length += len(row)
    whole = "".join(rows).encode()
    # Made larger by numbering: each copy differs in every row, as real extracts do.
    copies = [whole]
    for n in range(1, -(-size // len(whole))):
        copies.append(whole.replace(b";20", b";%d;20" % n))
    return b"".join(copies)[:size]


@workload("bytes", "MB/s")
def seq_write_text(context):
    data = text(context, context.size // 2)
    context.place.at_rest()  # what earlier runs left is not this one's gain
    rate = measured_write(context, "text", data)
    if context.place.stored() is not None:
        before = context.place.stored()
        context.place.at_rest()
        context.notes["text, at rest"] = context.notes["text"] - (before - context.place.stored()) / len(data)
    return rate


@workload("bytes", "MB/s")
def seq_read_cold(context):
    cold()
    total, seconds = clock(lambda: read_file(context.p("fresh")))
    return total / 1e6 / seconds


@workload("bytes", "MB/s")
def seq_read_warm(context):
    read_file(context.p("fresh"))
    total, seconds = clock(lambda: [read_file(context.p("fresh")) for _ in range(3)])
    return sum(total) / 1e6 / seconds


@workload("bytes", "MB/s")
def text_read_cold(context):
    cold()
    total, seconds = clock(lambda: read_file(context.p("text")))
    return total / 1e6 / seconds


# ---- places in a file

def at_random(context, count, size):
    return [context.random.randrange(context.size // size) * size for _ in range(count)]


@workload("random", "/s")
def rand_read_4k_cold(context):
    write_file(context.p("base"), random_bytes(context, context.size))
    cold()
    fd = os.open(context.p("base"), os.O_RDONLY)
    rate = rate_of(at_random(context, 4000 if context.quick else 20000, 4096), lambda at: os.pread(fd, 4096, at))
    os.close(fd)
    return rate


@workload("random", "/s")
def rand_write_4k(context):
    fd, page = os.open(context.p("base"), os.O_RDWR), context.random.randbytes(4096)
    places_, count = at_random(context, 20000 if context.quick else 100000, 4096), 0
    os.sync()
    start = time.perf_counter()
    for at in places_:
        os.pwrite(fd, page[:8] + at.to_bytes(8, "little") + page[16:], at)
        count += 1
    os.fsync(fd)
    seconds = time.perf_counter() - start
    os.close(fd)
    return count / seconds


@workload("random", "/s")
def rand_write_8k_fdatasync(context):
    fd, page = os.open(context.p("base"), os.O_RDWR), context.random.randbytes(8192)

    def write(at):
        os.pwrite(fd, at.to_bytes(8, "little") + page[8:], at)
        os.fdatasync(fd)
    rate = rate_of(at_random(context, 500 if context.quick else 4000, 8192), write)
    os.close(fd)
    return rate


@workload("random", "/s")
def append_4k(context):
    fd = os.open(context.p("log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    blocks = [context.random.randbytes(4096) for _ in range(512)]
    rate = rate_of(range(20000 if context.quick else 100000), lambda n: os.write(fd, blocks[n % 512]))
    os.close(fd)
    return rate


# ---- small files

def small_names(context, kind="f"):
    return [context.p("small", "d%d" % (n % 50), "%s%d" % (kind, n)) for n in range(context.files)]


def create(path, data):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    os.write(fd, data)
    os.close(fd)


@workload("small", "/s")
def create_small(context):
    os.mkdir(context.p("small"))
    for n in range(50):
        os.mkdir(context.p("small", "d%d" % n))
    data = context.random.randbytes(4096 + context.files)
    numbered = list(enumerate(small_names(context)))
    return rate_of(numbered, lambda item: create(item[1], data[item[0]:item[0] + 2000]))


@workload("small", "/s")
def stat_all_cold(context):
    names = small_names(context)
    cold()
    return rate_of(names, os.stat)


@workload("small", "/s")
def readdir_all_cold(context):
    cold()
    found, seconds = clock(lambda: sum(1 for n in range(50) for _ in os.scandir(context.p("small", "d%d" % n))))
    return found / seconds


def read_small(path):
    fd = os.open(path, os.O_RDONLY)
    os.read(fd, 4096)
    os.close(fd)


@workload("small", "/s")
def read_all_small_cold(context):
    names = small_names(context)
    cold()
    return rate_of(names, read_small)


@workload("small", "/s")
def read_all_small_warm(context):
    names = small_names(context)
    for name in names:
        read_small(name)
    return rate_of(names, read_small)


@workload("small", "/s")
def rename_all(context):
    return rate_of(list(zip(small_names(context), small_names(context, "g"))), lambda pair: os.rename(*pair))


@workload("small", "/s")
def unlink_all(context):
    return rate_of(small_names(context, "g"), os.unlink)


# ---- trees

def make_tree(path, r, files):
    """Something like a source tree; returns how many files and directories."""
    count = 0
    for n in range(files):
        directory = os.path.join(path, "area%d" % (n % 7), "part%d" % (n % 31))
        if n < 217:
            os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, "file%d.txt" % n), "w") as file:
            for _ in range(r.randrange(5, 200)):
                file.write(" ".join(r.choices(WORDS, k=8)) + "\n")
        count += 1
    return count + 224


@workload("trees", "/s")
def untar(context):
    with tempfile.TemporaryDirectory() as scratch:
        count = make_tree(os.path.join(scratch, "tree"), context.random, context.files // 4)
        archive = os.path.join(scratch, "tree.tar")
        with tarfile.open(archive, "w") as tar:
            tar.add(os.path.join(scratch, "tree"), "tree")
        _, seconds = clock(lambda: places.run("tar", "-xf", archive, "-C", context.place.path))
    return count / seconds


@workload("trees", "/s")
def git_clone(context):
    with tempfile.TemporaryDirectory() as scratch:
        make_tree(os.path.join(scratch, "tree"), context.random, context.files // 4)
        git = ["git", "-C", os.path.join(scratch, "tree"), "-c", "user.name=x", "-c", "user.email=x", "-c", "gc.auto=0"]
        places.run(*git, "init", "-q")
        places.run(*git, "add", ".")
        places.run(*git, "commit", "-q", "-m", "all")
        _, seconds = clock(lambda: places.run("git", "clone", "-q", "--no-hardlinks", os.path.join(scratch, "tree"),
                                              context.p("clone")))
    return 1 / seconds


@workload("trees", "/s")
def git_status_cold(context):
    cold()
    _, seconds = clock(lambda: places.run("git", "-C", context.p("clone"), "status", "--short"))
    return 1 / seconds


@workload("trees", "/s")
def rm_tree(context):
    count = sum(len(names) + 1 for _, _, names in os.walk(context.p("tree")))
    _, seconds = clock(lambda: places.run("rm", "-r", context.p("tree")))
    return count / seconds


# ---- databases

def transactions(context, name, mode):
    connection = sqlite3.connect(context.p(name), isolation_level=None)
    connection.execute("PRAGMA journal_mode=" + mode).fetchall()
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE entry (id INTEGER PRIMARY KEY, words BLOB)")
    rate = rate_of(range(200 if context.quick else 2000),
                   lambda n: connection.execute("INSERT INTO entry VALUES (?, ?)", (n, context.random.randbytes(300))))
    connection.close()
    return rate


@workload("sqlite", "/s")
def sqlite_wal(context):
    return transactions(context, "wal.db", "WAL")


@workload("sqlite", "/s")
def sqlite_rollback(context):
    return transactions(context, "rollback.db", "DELETE")


# ---- all of it

def wanted(options):
    only = options.only.split(",") if options.only else None
    unknown = set(only or ()) - {w[1] for w in WORKLOADS} - {w[0] for w in WORKLOADS}
    if unknown:
        sys.exit("speed.py: no such workload or group: " + ", ".join(sorted(unknown)))
    return [w for w in WORKLOADS if not only or w[1] in only or w[0] in only]


def clear(place):
    for name in os.listdir(place.path):
        path = place.p(name)
        shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)


def measure(options, all_places):
    figures, notes = {}, {}
    chosen = wanted(options)
    for run in range(options.runs):
        for group in dict.fromkeys(w[0] for w in chosen):
            order = all_places[run % len(all_places):] + all_places[:run % len(all_places)]
            for place in order:
                context = Context(place, options, run)
                for _, name, _, function in (w for w in chosen if w[0] == group):
                    rate = function(context)
                    figures.setdefault((name, place.label), []).append(rate)
                    print("run %d  %-24s %-15s %12.1f" % (run + 1, name, place.label, rate), file=sys.stderr, flush=True)
                for what, share in context.notes.items():
                    notes.setdefault((place.label, what), []).append(share)
                clear(place)
    return figures, notes


def cell(rates, reference):
    middle = statistics.median(rates)
    spread = "~" if len(rates) > 1 and max(rates) - min(rates) > middle / 3 else ""
    number = "%.0f" % middle if middle >= 100 else "%.1f" % middle if middle >= 10 else "%.2f" % middle
    return "%s%s%s" % (number, spread, "" if reference is None else " (%.2f)" % (middle / statistics.median(reference)))


def table(options, all_places, figures, notes):
    labels = [place.label for place in all_places]
    lines = ["| workload | unit | %s |" % " | ".join(labels), "| --- | --- |" + " ---: |" * len(labels)]
    for _, name, unit, _ in wanted(options):
        rates = [figures.get((name, label)) for label in labels]
        lines.append("| %s | %s | %s |" % (name, unit, " | ".join(
            "-" if not r else cell(r, rates[0] if i else None) for i, r in enumerate(rates))))
    if notes:
        lines += ["", "| the store grew by, as a share of what was written | |", "| --- | ---: |"]
        for (label, what), shares in notes.items():
            lines.append("| %s: %s | %.3f |" % (label, what, statistics.median(shares)))
    return "\n".join(lines) + "\n"


def update_readme(text_):
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "README.md")
    with open(path) as file:
        readme = file.read()
    before, rest = readme.split(BEGIN, 1)
    with open(path, "w") as file:
        file.write(before + BEGIN + "\n" + text_ + END + rest.split(END, 1)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="an eighth of most sizes")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", help="workloads or groups (bytes, random, small, trees, sqlite)")
    parser.add_argument("--dir", action="append", default=[], metavar="LABEL=DIR", help="measure this directory, too")
    parser.add_argument("--image-gib", type=int, default=16)
    parser.add_argument("--seed")
    parser.add_argument("--json")
    parser.add_argument("--markdown")
    parser.add_argument("--update-readme", action="store_true")
    options = parser.parse_args()
    base = tempfile.mkdtemp(prefix="cairn-speed.", dir=os.environ.get("TMPDIR") or "/var/tmp")
    all_places, ends = [], []
    try:
        all_places, ends, told = places.make(base, options.image_gib, [d.split("=", 1) for d in options.dir])
        for line in told:
            print("speed.py: " + line, file=sys.stderr)
        figures, notes = measure(options, all_places)
    finally:
        for end in ends:
            try:
                end()
            except (RuntimeError, OSError) as error:
                print("speed.py: %s" % error, file=sys.stderr)
        subprocess.run(["rm", "-rf", "--one-file-system", base], check=False)
    result = table(options, all_places, figures, notes)
    print(result, end="")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"figures": [{"workload": name, "place": label, "rates": rates} for (name, label), rates in figures.items()],
                       "growth": [{"place": label, "what": what, "shares": shares} for (label, what), shares in notes.items()]},
                      file, indent=1)
    if options.markdown:
        with open(options.markdown, "w") as file:
            file.write(result)
    if options.update_readme:
        update_readme(result)


main()
