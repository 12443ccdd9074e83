#!/usr/bin/env python3
"""What an operation costs as the store grows tenfold, again and again: files, points, entries of a directory, the size
of a file, its fragments.

    CAIRN=build/release/cairn tests/bench/scale.py [--long] [--only SERIES,…] [--markdown FILE] [--svg FILE]

Each figure is the median of the microseconds (milliseconds for whole commands) of one operation, with everything
else as it is.  A curve that stays level does not care how large the store is.  --long goes ten times further.
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
from xml.sax.saxutils import escape

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from places import CAIRN, run  # noqa: E402

SERIES = {}


def series(unit):
    def register(function):
        SERIES[function.__name__] = (unit, function)
        return function
    return register


class Bench:
    def __init__(self, base, name):
        self.store, self.path = os.path.join(base, name + ".store"), os.path.join(base, name)
        os.mkdir(self.path)
        run(CAIRN, "init", self.store)
        run(CAIRN, "-s", self.store, "mount", self.path)
        self.random = random.Random(1)

    def cairn(self, *argv):
        return run(CAIRN, "-s", self.store, *argv)

    def p(self, *parts):
        return os.path.join(self.path, *parts)

    def end(self):
        run(CAIRN, "-s", self.store, "umount", self.path)
        shutil.rmtree(self.store)


def median_of(count, work):
    """Microseconds of work(n)."""
    times = []
    for n in range(count):
        start = time.perf_counter()
        work(n)
        times.append((time.perf_counter() - start) * 1e6)
    return statistics.median(times)


def touch(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))


def sizes(first, last, long):
    size = first
    while size <= last * (10 if long else 1):
        yield size
        size *= 10


@series("us")
def files(bench, long):
    """In a workspace of so many files: create, stat what the kernel has forgotten, and whole commands (in us, too)."""
    made = 0
    for size in sizes(1000, 100000, long):
        for n in range(made, size):
            if n % 500 == 0:
                os.makedirs(bench.p("d%d" % (n // 500)), exist_ok=True)
            touch(bench.p("d%d" % (n // 500), "f%d" % n))
        made = size
        bench.cairn("freeze", "at-%d" % size)
        names = [bench.p("d%d" % (n // 500), "f%d" % n) for n in bench.random.sample(range(size), 500)]
        os.mkdir(bench.p("more-%d" % size))
        yield size, "create", median_of(500, lambda n: touch(bench.p("more-%d" % size, "x%d" % n)))
        yield size, "rename", median_of(500, lambda n: os.rename(bench.p("more-%d" % size, "x%d" % n),
                                                                 bench.p("more-%d" % size, "y%d" % n)))
        if os.geteuid() == 0:
            os.sync()
            with open("/proc/sys/vm/drop_caches", "w") as file:
                file.write("2\n")
        yield size, "stat", median_of(500, lambda n: os.stat(names[n]))
        yield size, "freeze", median_of(5, lambda n: (touch(bench.p("t%d-%d" % (size, n))), bench.cairn("freeze", "%d-%d" % (size, n))))
        yield size, "diff of 500", median_of(3, lambda n: bench.cairn("diff", "at-%d" % size))


@series("us")
def points(bench, long):
    """With so many points: whole commands."""
    made = 0
    for size in sizes(10, 1000, long):
        for n in range(made, size):
            touch(bench.p("f%d" % n))
            bench.cairn("freeze", "p%d" % n)
        made = size
        yield size, "freeze", median_of(5, lambda n: (touch(bench.p("x%d-%d" % (size, n))), bench.cairn("freeze", "x%d-%d" % (size, n))))
        yield size, "resolve", median_of(5, lambda n: bench.cairn("diff", "--stat", "p3", "p4"))
        yield size, "delete", median_of(5, lambda n: bench.cairn("delete", "x%d-%d" % (size, n)))
        yield size, "restore", median_of(3, lambda n: bench.cairn("restore", "p%d" % (size - 1 - n)))
        bench.cairn("restore", "p%d" % (size - 1))


@series("us")
def directory(bench, long):
    """In one directory of so many entries."""
    os.mkdir(bench.p("dir"))
    made = 0
    for size in sizes(100, 100000, long):
        for n in range(made, size):
            touch(bench.p("dir", "entry-%d" % n))
        made = size
        yield size, "create", median_of(500, lambda n: touch(bench.p("dir", "new-%d" % n)))
        yield size, "rename", median_of(500, lambda n: os.rename(bench.p("dir", "new-%d" % n), bench.p("dir", "old-%d" % n)))
        yield size, "unlink", median_of(500, lambda n: os.unlink(bench.p("dir", "old-%d" % n)))
        start = time.perf_counter()
        entries = len(os.listdir(bench.p("dir")))
        yield size, "list, an entry", (time.perf_counter() - start) * 1e6 / entries


@series("us")
def file_size(bench, long):
    """In a sparse file of so many MiB."""
    for size in sizes(1, 100000, long):
        fd = os.open(bench.p("file-%d" % size), os.O_RDWR | os.O_CREAT, 0o644)
        os.ftruncate(fd, size << 20)
        blocks = [bench.random.randrange(size << 8) * 4096 for _ in range(200)]
        data = bench.random.randbytes(4096)

        def write(n):
            os.pwrite(fd, n.to_bytes(4, "little") + data[4:], blocks[n])
            os.fdatasync(fd)
        yield size, "write 4 KiB, fdatasync", median_of(200, write)
        os.close(fd)
        run(CAIRN, "-s", bench.store, "umount", bench.path)
        run(CAIRN, "-s", bench.store, "mount", bench.path)
        fd = os.open(bench.p("file-%d" % size), os.O_RDONLY)
        yield size, "read 4 KiB", median_of(200, lambda n: os.pread(fd, 4096, blocks[n]))
        os.close(fd)


@series("us")
def fragments(bench, long):
    """In a file that consists of so many pieces of 8 KiB with holes in between."""
    fd, made = os.open(bench.p("file"), os.O_RDWR | os.O_CREAT, 0o644), 0
    data = bench.random.randbytes(8192)
    for size in sizes(100, 100000, long):
        for n in range(made, size):
            os.pwrite(fd, n.to_bytes(4, "little") + data[4:], n * 16384)
        made = size
        os.fsync(fd)
        order = [bench.random.randrange(size) * 16384 for _ in range(200)]

        def write(n):
            os.pwrite(fd, (size + n).to_bytes(4, "little") + data[4:], order[n])
            os.fdatasync(fd)
        yield size, "write 8 KiB, fdatasync", median_of(200, write)
        yield size, "freeze", median_of(5, lambda n: (os.pwrite(fd, n.to_bytes(4, "little"), 0), bench.cairn("freeze", "%d-%d" % (size, n))))
    os.close(fd)


# ---- what it looks like

def table(results):
    lines = []
    for name, figures in results.items():
        columns = list(dict.fromkeys(size for size, _, _ in figures))
        lines += ["| %s, %s | %s | last / first |" % (name, SERIES[name][0], " | ".join("{:,}".format(c) for c in columns)),
                  "| --- |" + " ---: |" * (len(columns) + 1)]
        for what in dict.fromkeys(what for _, what, _ in figures):
            row = {size: value for size, operation, value in figures if operation == what}
            values = [row.get(c) for c in columns]
            lines.append("| %s | %s | %.2f |" % (what, " | ".join("-" if v is None else "%.1f" % v for v in values),
                                                 values[-1] / values[0]))
        lines.append("")
    return "\n".join(lines)


def plot(name, figures, left, top, width, height):
    """One diagram, both axes logarithmic."""
    import math
    xs, ys = [f[0] for f in figures], [f[2] for f in figures]
    low_x, high_x = math.log10(min(xs)), math.log10(max(xs))
    low_y, high_y = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)) + 1e-9)
    high_x, high_y = max(high_x, low_x + 1), max(high_y, low_y + 1)
    colours = ["#1b6ca8", "#c2571a", "#2e7d32", "#7b1fa2", "#8d6e00"]

    def x(value):
        return left + (math.log10(value) - low_x) / (high_x - low_x) * width

    def y(value):
        return top + height - (math.log10(value) - low_y) / (high_y - low_y) * height
    out = ['<text x="%d" y="%d" font-weight="bold">%s</text>' % (left, top - 12, escape(name.replace("_", " ")))]
    for power in range(low_y, high_y + 1):
        at = y(10 ** power)
        out.append('<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#ddd"/>' % (left, at, left + width, at))
        label = "%g us" % 10 ** power if power < 3 else "%g ms" % 10 ** (power - 3) if power < 6 else "%g s" % 10 ** (power - 6)
        out.append('<text x="%d" y="%.1f" text-anchor="end">%s</text>' % (left - 6, at + 4, label))
    for value in dict.fromkeys(xs):
        out.append('<text x="%.1f" y="%d" text-anchor="middle">%s</text>' % (x(value), top + height + 16, "{:,}".format(value)))
    for i, what in enumerate(dict.fromkeys(f[1] for f in figures)):
        dots = [(x(size), y(value)) for size, operation, value in figures if operation == what]
        colour = colours[i % len(colours)]
        out.append('<polyline fill="none" stroke="%s" stroke-width="2" points="%s"/>' % (colour, " ".join("%.1f,%.1f" % d for d in dots)))
        out += ['<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>' % (*d, colour) for d in dots]
        out.append('<text x="%d" y="%d" fill="%s">%s</text>' % (left + width + 8, top + 10 + 16 * i, colour, escape(what)))
    return out


def drawing(results):
    width, height, step = 380, 170, 250
    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="660" height="%d" font-family="sans-serif" font-size="12">'
           % (step * len(results) + 20), '<rect width="100%" height="100%" fill="white"/>']
    for i, (name, figures) in enumerate(results.items()):
        out += plot(name, figures, 80, 40 + step * i, width, height)
    return "\n".join(out + ["</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--only")
    parser.add_argument("--markdown")
    parser.add_argument("--svg")
    options = parser.parse_args()
    only = options.only.split(",") if options.only else list(SERIES)
    base = tempfile.mkdtemp(prefix="cairn-scale.", dir=os.environ.get("TMPDIR") or "/var/tmp")
    results = {}
    try:
        for name in only:
            bench = Bench(base, name)
            try:
                for figure in SERIES[name][1](bench, options.long):
                    results.setdefault(name, []).append(figure)
                    print("%-12s %10d  %-24s %12.1f %s" % (name, figure[0], figure[1], figure[2], SERIES[name][0]),
                          file=sys.stderr, flush=True)
            finally:
                bench.end()
    finally:
        subprocess.run(["rm", "-rf", "--one-file-system", base], check=False)
    print(table(results))
    if options.markdown:
        with open(options.markdown, "w") as file:
            file.write(table(results))
    if options.svg:
        with open(options.svg, "w") as file:
            file.write(drawing(results))


main()
