#!/usr/bin/env python3
"""The story that cairn exists for, on real input: 20,000 files of this machine, a SQLite database and a
200 MB extract; freeze, break things, look, restore, and get the broken state back too."""
import os
import random
import shutil
import sqlite3
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import CAIRN, Workspace, check, compare, finish, need_fuse, run, workdir  # noqa: E402

FILES = int(os.environ.get("CAIRN_TOUR_FILES", "20000"))
CSV_MB = int(os.environ.get("CAIRN_TOUR_CSV_MB", "200"))


def gather(target, count):
    """Hard-copies up to `count` files of this machine's own trees, with attributes."""
    taken = 0
    for source in ("/usr/include", "/usr/share", "/usr/lib"):
        names = []
        for top, dirs, files in os.walk(source):
            dirs.sort()
            for name in sorted(files):
                path = os.path.join(top, name)
                if os.path.islink(path) or (os.path.isfile(path) and os.path.getsize(path) < 1 << 20):
                    names.append(os.path.relpath(path, "/"))
                    taken += 1
                if taken >= count:
                    break
            if taken >= count:
                break
        run("rsync", "-aHAX", "--files-from=-", "/", target, input="\n".join(names), ok=False, timeout=900)
        if taken >= count:
            break
    return taken


def extract(path, megabytes, head=b""):
    rng = random.Random(7)
    streets = ["High Street", "Mill Lane", "Church Road", "Station Road", "Green Lane", "Park Avenue"]
    with open(path, "wb") as out:
        out.write(b"id,name,email,date,amount,street,state\n" + head)
        written, row = 0, 0
        while written < megabytes * 1000 * 1000:
            lines = []
            for _ in range(2000):
                row += 1
                lines.append("%d,Tenant %06x,t%d@example.org,2026-%02d-%02d,%.2f,%s %d,%s\n" % (
                    row, rng.getrandbits(24), row, row % 12 + 1, row % 28 + 1, rng.random() * 1000,
                    streets[row % 6], rng.randrange(200), "open" if row % 3 else "closed"))
            block = "".join(lines).encode()
            out.write(block)
            written += len(block)


def database(path):
    db = sqlite3.connect(path)
    db.execute("create table tenancy (id integer primary key, name text, rent real)")
    db.executemany("insert into tenancy values (?, ?, ?)", ((i, "tenant %d" % i, i * 1.5) for i in range(50000)))
    db.commit()
    db.close()


def break_things(top, rng):
    paths, dirs = [], []
    for where, names, files in os.walk(top):
        dirs += [os.path.join(where, n) for n in names]
        paths += [os.path.join(where, n) for n in files if not os.path.islink(os.path.join(where, n))]
    rng.shuffle(paths)
    for path in paths[:60]:
        with open(path, "ab") as out:
            out.write(b"\nedited by mistake\n")
    for path in paths[60:120]:
        os.unlink(path)
    for path in paths[120:180]:
        os.rename(path, path + ".old")
    for path in paths[180:240]:
        os.truncate(path, os.path.getsize(path) // 2)
    for path in paths[240:300]:
        os.chmod(path, 0o600)
    for path in paths[300:340]:
        with open(path, "r+b") as out:
            out.seek(os.path.getsize(path) // 2)
            out.write(b"\0garbage\0")
    for number in range(50):
        with open(os.path.join(top, "new-%d" % number), "wb") as out:
            out.write(rng.randbytes(5000))
    deep = sorted((d for d in dirs if d.count("/") > top.count("/") + 2), key=len)
    shutil.rmtree(deep[len(deep) // 2])
    os.rename(deep[0], deep[0] + "-moved")
    os.link(paths[400], os.path.join(top, "linked"))
    os.symlink("nowhere", os.path.join(top, "dangling"))
    subprocess.run(["setfattr", "-n", "user.note", "-v", "wrong", paths[401]], check=True)
    db = sqlite3.connect(os.path.join(top, "staging.db"))
    db.execute("update tenancy set rent = 0")
    db.commit()
    db.close()
    with open(os.path.join(top, "extract.csv"), "r+b") as out:
        out.seek(50 * 1000 * 1000)
        out.write(b"oops" * 1000)


def main():
    need_fuse()
    base = workdir()
    plain = os.path.join(base, "plain")
    os.mkdir(plain)
    taken = gather(plain, FILES)
    database(os.path.join(plain, "staging.db"))
    extract(os.path.join(plain, "extract.csv"), CSV_MB)
    print("real input: %d files, a database, an extract of %d MB" % (taken, CSV_MB))

    one = Workspace(base).mount()
    run("rsync", "-aHAX", plain + "/", one.path + "/", timeout=900)
    compare(plain, one.path, "what was copied in reads back the same")
    frozen = one.json("freeze", "before-load", "-m", "extracts as received")
    check(frozen["name"] == "before-load" and frozen["message"] == "extracts as received", "freeze prints its point", frozen)

    break_things(one.path, random.Random(3))
    broken = os.path.join(base, "broken")
    run("rsync", "-aHAX", one.path + "/", broken + "/", timeout=900)

    check("before-load" in one.cairn("log").stdout, "log names the point")
    lines = one.cairn("diff", "before-load").stdout.splitlines()
    ops = {line[:1] for line in lines}
    check(ops == {"+", "-", "M", "m", "R"}, "diff shows added, removed, modified, attributes and renamed", sorted(ops))
    check(one.cairn("diff", "before-load", "--exit-code", ok=False).returncode == 1, "diff --exit-code says they differ")
    check("+ new-7" in lines and "M extract.csv" in lines and "M staging.db" in lines, "diff names what was done", lines[:20])

    result = one.json("restore", "before-load")
    compare(plain, one.path, "restore brings back every byte and attribute")
    kept = result["safety_point"]["name"]
    check(one.cairn("diff", "before-load", "--exit-code", ok=False).returncode == 0, "nothing differs from the point now")
    check(kept in one.cairn("log", "--graph").stdout, "the broken state was kept as a point of its own")
    compare(broken, one.p(".snapshots", kept), "the kept state is whole under .snapshots")
    compare(plain, one.p(".snapshots", "before-load"), "so is the point")

    one.cairn("restore", kept)
    compare(broken, one.path, "the broken state can be restored too")
    one.cairn("restore", "before-load")
    compare(plain, one.path, "and back again")

    with open(one.p(".snapshots", kept, "staging.db"), "rb") as a, open(os.path.join(broken, "staging.db"), "rb") as b:
        check(a.read() == b.read(), "a file of the kept state can be read in place")
    run("cp", "-a", one.p(".snapshots", kept, "new-7"), one.p("rescued"))
    with open(one.p("rescued"), "rb") as a, open(os.path.join(broken, "new-7"), "rb") as b:
        check(a.read() == b.read(), "and copied from there into the head")
    check(".snapshots" not in os.listdir(one.path), ".snapshots is not listed")
    try:
        open(one.p(".snapshots", kept, "new-7"), "r+b")
        check(False, "points cannot be written")
    except OSError as error:
        check(error.errno == 30, "points cannot be written: EROFS", error)

    os.unlink(one.p("rescued"))
    shutil.copystat(plain, one.path)
    one.remount()
    compare(plain, one.path, "the same after unmounting and mounting again")
    one.umount()
    done = run(CAIRN, "-s", one.store, "cat", "before-load", "staging.db", binary=True)
    with open(os.path.join(plain, "staging.db"), "rb") as original:
        check(done.stdout == original.read(), "cat reads from an unmounted store")
    one.check_store()
    finish()


main()
