#!/usr/bin/env python3
"""kill -9 of the daemon at random instants (I4).

A writer carries out numbered operations one after the other; now and then it makes one durable
(fsync or freeze) and writes its number down outside.  After the kill the workspace must be exactly the state
after some operation between the last one confirmed and the last one begun: nothing confirmed is missing, what
is later is missing as a suffix, nothing is torn.  Points that were confirmed are there and whole.
"""
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import CAIRN, Workspace, check, finish, need_fuse, run, seed, workdir  # noqa: E402

ROUNDS = int(os.environ.get("CAIRN_KILL_ROUNDS", "100"))


def operation(rng, number):
    """The operation with this number, the same each time for one rng."""
    kind = rng.choice(["write", "write", "write", "rename", "unlink", "mkdir", "append", "big"])
    return {"kind": kind, "file": "f%d" % rng.randrange(12), "other": "f%d" % rng.randrange(12),
            "size": rng.choice([10, 900, 3000, 20000, 150000]), "seed": rng.randrange(1 << 30), "number": number}


def contents(op):
    size = 700000 if op["kind"] == "big" else op["size"]
    return random.Random(op["seed"]).randbytes(size)


def appended(old, op):
    """Files stay small, so that a hundred rounds stay quick."""
    return old[-300000:] + contents(op)


def model_apply(state, op):
    kind = op["kind"]
    if kind in ("write", "big"):
        state[op["file"]] = contents(op)
    elif kind == "append":
        state[op["file"]] = appended(state.get(op["file"], b""), op)
    elif kind == "rename":
        if op["file"] in state and op["file"] != op["other"]:
            state[op["other"]] = state.pop(op["file"])
    elif kind == "unlink":
        state.pop(op["file"], None)
    elif kind == "mkdir":
        state["dir%d" % (op["number"] % 7)] = None


def real_apply(top, op):
    """One system call decides each operation, so that it is there or not: data goes into a file that is
    renamed into place."""
    kind, path = op["kind"], os.path.join(top, op["file"])
    if kind in ("write", "big", "append"):
        data = contents(op)
        if kind == "append" and os.path.exists(path):
            with open(path, "rb") as old:
                data = appended(old.read(), op)
        with open(os.path.join(top, ".tmp"), "wb") as out:
            out.write(data)
        os.rename(os.path.join(top, ".tmp"), path)
    elif kind == "rename":
        if os.path.exists(path) and op["file"] != op["other"]:
            os.rename(path, os.path.join(top, op["other"]))
    elif kind == "unlink":
        if os.path.exists(path):
            os.unlink(path)
    elif kind == "mkdir":
        os.makedirs(os.path.join(top, "dir%d" % (op["number"] % 7)), exist_ok=True)


def read_state(top):
    state = {}
    for name in os.listdir(top):
        path = os.path.join(top, name)
        if name == ".tmp":
            continue
        if os.path.isdir(path):
            state[name] = None
        else:
            with open(path, "rb") as data:
                state[name] = data.read()
    return state


def writer(one, rng_seed, first, notes, points):
    """Runs in a child until the mount dies under it."""
    rng = random.Random(rng_seed)
    number = first
    try:
        while True:
            op = operation(rng, number)
            os.write(notes, b"begin %d\n" % number)
            real_apply(one.path, op)
            chance = (op["seed"] >> 3) % 20
            if chance < 4:
                fd = os.open(one.path, os.O_RDONLY)
                os.fsync(fd)
                os.close(fd)
                os.write(notes, b"durable %d\n" % number)
            elif chance == 4 and points:
                done = run(CAIRN, "-s", one.store, "freeze", "n%d-%d" % (rng_seed, number), ok=False)
                if done.returncode == 0:
                    os.write(notes, b"point %d\n" % number)
                    os.write(notes, b"durable %d\n" % number)
            number += 1
    except OSError:
        os._exit(0)


def one_round(one, rng, number, state):
    rng_seed = rng.randrange(1 << 30)
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        os.close(read_end)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        writer(one, rng_seed, 0, write_end, number % 2 == 0)
    os.close(write_end)
    time.sleep(rng.uniform(0.02, 0.5))
    one.kill(user=child)
    notes = b""
    while True:
        block = os.read(read_end, 65536)
        if not block:
            break
        notes += block
    os.close(read_end)
    os.waitpid(child, 0)
    begun, durable, points = -1, -1, []
    for line in notes.decode().splitlines():
        word, value = line.split()
        begun = int(value) if word == "begin" else begun
        durable = int(value) if word == "durable" else durable
        if word == "point":
            points.append(int(value))

    one.mount()
    found = read_state(one.path)
    replay, states = random.Random(rng_seed), dict(state)
    matched, at_points = (None, {})
    if durable == -1 and found == states:
        matched = -1
    for n in range(begun + 1):
        model_apply(states, operation(replay, n))
        if n in points:
            at_points[n] = dict(states)
        if n >= durable and found == states:
            matched = n
            break
    for n in points:
        seen = read_state(one.p(".snapshots", "n%d-%d" % (rng_seed, n)))
        if seen != at_points.get(n):
            return None, "round %d: point of operation %d is not what was frozen" % (number, n)
    if matched is None:
        return None, "round %d: durable %d, begun %d: the state is none of those in between; seed %d; found %s" % (
            number, durable, begun, rng_seed, {k: v and len(v) for k, v in sorted(found.items())})
    return found, "%d..%d -> %d" % (durable, begun, matched)


def main():
    need_fuse()
    rng = random.Random(seed())
    one = Workspace(workdir()).mount()
    state, confirmed = {}, 0
    for number in range(ROUNDS):
        state, told = one_round(one, rng, number, state)
        if state is None:
            check(False, told)
            finish()
        confirmed += 1
        try:
            os.unlink(one.p(".tmp"))
        except FileNotFoundError:
            pass
        if number % 25 == 24:
            one.umount()
            one.check_store("after %d kills the store is consistent, every chunk readable" % (number + 1))
            one.mount()
    check(confirmed == ROUNDS, "%d kills: each time a state between the last confirmed and the last begun" % ROUNDS)
    one.umount()
    one.check_store()
    finish()


main()
