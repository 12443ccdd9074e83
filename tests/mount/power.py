#!/usr/bin/env python3
"""Power cuts under a mount: the daemon's writes and syncs are recorded (tests/power/recorder.c) while numbered
operations are carried out one after the other; then stores are made as cuts at many moments would have left them, and
each is looked at (tests/power/power_images.c).

An operation is decided by one system call, so that a store has it or not; now and then all is made durable.  What was
confirmed must be there; what is there must be the state after some operation between the last one confirmed and the
last one begun; points that were confirmed are there and whole.  On a disk that ignores syncs losses must be found.

CAIRN_POWER_SECONDS says how long it takes; CAIRN_POWER_KEEP=FILE keeps the tape of a run that failed.
"""
import ctypes
import os
import random
import struct
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Workspace, check, finish, need_fuse, need_root, run, seed, workdir  # noqa: E402

SECONDS = float(os.environ.get("CAIRN_POWER_SECONDS", "15"))
OPERATIONS = 160
MARK = 12
XXH = ctypes.CDLL("libxxhash.so.0").XXH3_64bits
XXH.restype = ctypes.c_uint64
XXH.argtypes = [ctypes.c_char_p, ctypes.c_size_t]


def hash64(data):
    return XXH(data, len(data))


def state_hash(state):
    """As tests/power/look.c tells it, plainly."""
    lines = []
    for path, data in state.items():
        if data is None:
            lines.append("%s 40755 0 0:0 0 0 0.000000000 %016x\n" % (path, hash64(bytes(16))))
        else:
            lines.append("%s 100644 1 0:0 0 %d 0.000000000 %016x\n" % (
                path, len(data), hash64(struct.pack("<QQ", hash64(data), 0))))
    return hash64("".join(sorted(lines)).encode())


class Work:
    def __init__(self, one, tape, rng):
        self.one, self.rng = one, rng
        self.tape = os.open(tape, os.O_WRONLY | os.O_APPEND)
        self.state, self.number = {}, 0
        self.points = {}
        self.mark("state 0 %x" % state_hash({}))
        self.mark("begin 0")

    def mark(self, text):
        os.write(self.tape, struct.pack("<IIQQQQQQ", MARK, 0, 0, 0, 0, 0, 0, len(text)) + text.encode())

    def begin(self, state):
        """What is about to happen makes `state`."""
        self.number += 1
        self.state = state
        self.mark("state %d %x" % (self.number, state_hash(state)))
        self.mark("begin %d" % self.number)

    def confirmed(self):
        self.mark("confirmed %d" % self.number)

    def p(self, name):
        return self.one.p(name)

    def replace(self, name, data):
        """Written beside it, and renamed into place."""
        with open(self.p(".tmp"), "wb") as out:
            out.write(data)
        self.begin({**self.state, name: data})
        os.rename(self.p(".tmp"), self.p(name))

    def overwrite(self, name):
        """A page of a file that is there, by one write that is durable when it returns."""
        data = bytearray(self.state[name])
        if len(data) < 4096:
            return
        at = self.rng.randrange(len(data) // 4096) * 4096
        page = self.rng.randbytes(4096)
        data[at:at + 4096] = page
        self.begin({**self.state, name: bytes(data)})
        fd = os.open(self.p(name), os.O_WRONLY | os.O_DSYNC)
        os.pwrite(fd, page, at)
        os.close(fd)
        self.confirmed()

    def rename(self, name, other):
        state = dict(self.state)
        state[other] = state.pop(name)
        self.begin(state)
        os.rename(self.p(name), self.p(other))

    def unlink(self, name):
        state = dict(self.state)
        del state[name]
        self.begin(state)
        os.unlink(self.p(name))

    def mkdir(self, name):
        if name not in self.state:
            self.begin({**self.state, name: None})
            os.mkdir(self.p(name), 0o755)

    def truncate(self, name):
        data = self.state[name]
        size = self.rng.choice([0, len(data) // 2, len(data) + 3000])
        self.begin({**self.state, name: data[:size] + bytes(max(0, size - len(data)))})
        os.truncate(self.p(name), size)

    def sync(self):
        fd = os.open(self.one.path, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        self.confirmed()

    def freeze(self):
        name = "p%d" % self.number
        if name in self.points:
            return
        self.one.cairn("freeze", name)
        self.points[name] = dict(self.state)
        self.confirmed()
        self.mark("frozen %s %x" % (name, state_hash(self.state)))
        if len(self.points) > 4:
            old = self.rng.choice(sorted(set(self.points) - {name}))
            del self.points[old]
            self.mark("forget %s" % old)
            self.one.cairn("delete", old)

    def restore(self):
        name = self.rng.choice(sorted(self.points))
        self.begin(dict(self.points[name]))
        self.one.cairn("restore", name)
        self.confirmed()

    def carry(self):
        """What came after a point is brought back after a restore of it: the state before."""
        before = dict(self.state)
        self.freeze()
        target = "p%d" % self.number
        self.replace("carried", self.rng.randbytes(30000))
        after = dict(self.state)
        done = self.one.json("restore", target)
        self.begin(before)  # both have happened by now, and are durable
        self.confirmed()
        self.begin(after)
        self.one.cairn("carry", done["safety_point"]["name"] if isinstance(done["safety_point"], dict)
                       else done["safety_point"])
        self.confirmed()

    def step(self):
        rng, kind = self.rng, self.rng.randrange(100)
        files = sorted(name for name, data in self.state.items() if data is not None)
        name = rng.choice(files) if files else None
        if kind < 40 or not name:
            size = rng.choice([10, 900, 3000, 20000, 20000, 150000, 700000])
            self.replace("f%d" % rng.randrange(10), rng.randbytes(size // 2) * 2)
        elif kind < 48:
            self.overwrite(name)
        elif kind < 55:
            other = "f%d" % rng.randrange(10)
            if other != name:
                self.rename(name, other)
        elif kind < 61:
            self.unlink(name)
        elif kind < 64:
            self.mkdir("dir%d" % rng.randrange(5))
        elif kind < 69:
            self.truncate(name)
        elif kind < 90:
            self.sync()
        elif kind < 94:
            self.freeze()
        elif kind < 96 and self.points:
            self.restore()
        elif kind < 97:
            self.carry()
        elif kind < 98:
            self.one.cairn("gc")
        elif kind < 99:
            self.one.cairn("wait-durable")
            self.confirmed()
        else:
            time.sleep(rng.choice([0.01, 0.1]))


def record(one, tape, rng, rest):
    environment = {"LD_PRELOAD": os.environ["CAIRN_RECORDER"], "CAIRN_TAPE": tape, "CAIRN_TAPE_STORE": one.store}
    one.cairn("mount", one.path, timeout=60, env=environment)
    work = Work(one, tape, rng)
    for number in range(OPERATIONS):
        if rest and number == OPERATIONS // 2:
            time.sleep(5.5)  # a commit that nobody has asked for
        work.step()
    one.umount()
    work.confirmed()


def one_round(base, images, number, seconds, rest=False, deaf=()):
    """Returns the exit code of the tool, and what it says."""
    rng = random.Random(number)
    one = Workspace(base, "round%d" % number, init=["--compress", rng.choice(["none", "lz4", "zstd:1"])])
    tape = os.path.join(base, "tape%d" % number)
    record(one, tape, rng, rest)
    done = run(os.environ["CAIRN_POWER_IMAGES"], tape, images, number % 100000, seconds, *deaf, ok=False,
               timeout=seconds + 100)
    if done.returncode and not deaf and os.environ.get("CAIRN_POWER_KEEP"):
        run("cp", tape, os.environ["CAIRN_POWER_KEEP"])
    os.unlink(tape)
    if not deaf:
        one.check_store("round %d: the store is consistent" % number)
    run("rm", "-rf", one.store)
    return done.returncode, done.stdout.strip() or done.stderr


def main():
    need_fuse()
    need_root()
    number = seed()
    base = workdir()
    images = "/dev/shm/cairn-images-%d" % os.getpid() if os.access("/dev/shm", os.W_OK) else os.path.join(base, "images")
    os.mkdir(images)
    try:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            code, said = one_round(base, images, number, 6, number % 3 == 0)
            check(code == 0, said)
            number += 1
        for deaf in ("packs", "index", "meta", "redo"):
            code, said = one_round(base, images, number, 10, deaf=[deaf])
            check(code == 1, "a disk that ignores syncs of %s loses something: %s" % (deaf, said[:150]))
    finally:
        run("rm", "-rf", images, ok=False)
    finish()


main()
