#!/usr/bin/env python3
"""The redo log, from outside: what fsync confirmed is there after the daemon was killed, for whoever looks at the
store first; damage to the log is told, not passed over; without the log the last commit is there."""
import os
import random
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Workspace, check, finish, need_fuse, seed, workdir  # noqa: E402

BLOCK = 4096


def write(one, name, data):
    with open(one.p(name), "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())


def intact(one, files):
    """How many are not as they were written."""
    wrong = []
    for name, data in files.items():
        try:
            with open(one.p(name), "rb") as reading:
                if reading.read() != data:
                    wrong.append(name)
        except OSError as error:
            wrong.append("%s: %s" % (name, error))
    return wrong


def records(log):
    """Where the records are that a killed daemon has left: all of the epoch that the first one has."""
    with open(log, "rb") as reading:
        data = reading.read()
    epoch = data[8:16]
    return [at for at in range(0, len(data), BLOCK) if data[at:at + 4] == b"crnr" and data[at + 8:at + 16] == epoch]


def damage(log, at):
    with open(log, "r+b") as raw:
        raw.seek(at)
        old = raw.read(1)
        raw.seek(at)
        raw.write(bytes([old[0] ^ 1]))


def some_files(one, rng, prefix, count):
    files = {"%s%d" % (prefix, n): rng.randbytes(rng.choice([10, 3000, 9000, 40000])) for n in range(count)}
    for name, data in files.items():
        write(one, name, data)
    return files


def main():
    need_fuse()
    rng = random.Random(seed())
    one = Workspace(workdir()).mount()
    log = os.path.join(one.store, "redo")
    write(one, "first", b"makes the log")
    one.cairn("wait-durable")
    with open(os.path.join(one.store, "format")) as reading:
        check("readonly: redo\n" in reading.read(), "who does not know the log must not write to the store")

    files = some_files(one, rng, "a", 40)
    one.kill()
    left = records(log)
    check(len(left) >= 20, "fsync wrote records and no commits: %d" % len(left))
    seen = one.json("workspace", "list")[0]["files"]
    check(seen == len(files) + 1, "who looks at the store without mounting it sees the files", seen)
    one.mount()
    check(not intact(one, files), "and so does the next mount", intact(one, files))

    files.update(some_files(one, rng, "b", 40))
    damage(log, records(log)[5] + 100)
    done = one.cairn("check", ok=False)
    check(done.returncode == 5 and "redo log" in done.stdout + done.stderr, "check finds a damaged record", done.stdout)
    one.cairn("check")
    check(True, "whose contents the commit after it has brought into safety")
    one.kill()
    one.mount()
    check(not intact(one, files), "nothing of it was lost", intact(one, files))

    one.cairn("wait-durable")
    lost = some_files(one, rng, "c", 40)
    one.kill()
    left = records(log)
    damage(log, left[len(left) // 2] + 200)
    for command in (("mount", one.path), ("workspace", "list"), ("check",)):
        done = one.cairn(*command, ok=False)
        check(done.returncode != 0 and "redo log" in done.stderr, "%s refuses a damaged log" % command[0], done.stderr)
    os.unlink(log)
    one.mount()
    check(not intact(one, files), "without it the last commit is there", intact(one, files))
    check(len(os.listdir(one.path)) < len(files) + len(lost), "and nothing later")
    files.update(some_files(one, rng, "d", 20))
    one.kill()
    one.mount()
    check(not intact(one, files), "a new log is made and does its work", intact(one, files))
    one.check_store()
    finish()


main()
