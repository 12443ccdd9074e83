#!/usr/bin/env python3
"""File contents under every call that changes or reads them, with freezes, restores, remounts, collections and
kills in between, against images in memory: runs tests/exercise/bytes.c.

  CAIRN_BYTES_STEPS=N     operations on several files (30,000 unless told otherwise)
  CAIRN_BYTES_SHRINK=S    after a failure spend S seconds on finding a short sequence that still fails
"""
import os
import random
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import CAIRN, Workspace, check, finish, need_fuse, run, seed, workdir  # noqa: E402

BYTES = os.environ.get("BYTES") or os.path.join(os.path.dirname(CAIRN), "tests", "bytes")
STEPS = int(os.environ.get("CAIRN_BYTES_STEPS", "30000"))
SHRINK = float(os.environ.get("CAIRN_BYTES_SHRINK", "0"))


def command(directory, number, steps, *more, store=None):
    argv = [BYTES, "--seed", number, "--steps", steps, *more]
    if store:
        argv += ["--cairn", shutil.which(CAIRN), "--store", store]
        if os.geteuid():
            argv += ["--without", "kill", "--without", "kill_synced"]  # umount(2) of what is left
    return [str(word) for word in argv + [directory]]


def bytes_run(*arguments, **named):
    """None where all agreed, else what the exerciser said."""
    try:
        done = subprocess.run(command(*arguments, **named), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=120 + arguments[2] / 50, errors="replace")
    except subprocess.TimeoutExpired as error:
        return "no end in sight\n" + str(error.stdout)
    print("    " + done.stdout[:400].splitlines()[0] if done.stdout else "    no output", flush=True)
    return done.stdout if done.returncode else None


def ranges(steps):
    """[1, 2, 3, 7] -> "1-3,7" """
    found = []
    for step in steps:
        if found and found[-1][1] == step - 1:
            found[-1][1] = step
        else:
            found.append([step, step])
    return ",".join("%d-%d" % (a, b) if a != b else str(a) for a, b in found)


def shrink(base, number, steps, *more):
    """Leaves out ever smaller parts of the sequence, as long as what remains fails."""
    end, tries, kept = time.monotonic() + SHRINK, 0, list(range(steps))
    listing, part = os.path.join(base, "steps"), steps // 2
    while part and time.monotonic() < end:
        at = 0
        while at < len(kept) and time.monotonic() < end:
            less = kept[:at] + kept[at + part:]
            with open(listing, "w") as out:
                out.write(ranges(less) + "\n")
            tries += 1
            one = Workspace(base, "try%d" % tries).mount()
            said = bytes_run(one.path, number, steps, "--only-file", listing, *more, store=one.store)
            subprocess.run(["umount", "-l", one.path], stderr=subprocess.DEVNULL, check=False)
            shutil.rmtree(one.store, ignore_errors=True)
            if said:
                kept, text = less, said
                print(text)
            else:
                at += part
        part //= 2
    print("    the shortest that fails: --seed %d --only %s" % (number, ranges(kept)))


def failing_step(said):
    last = [line for line in said.splitlines() if line.startswith("FAILED at step ")]
    return int(last[-1].split()[3]) if last else None


def with_points(base, rng, name, steps, *more):
    """One workspace, with everything that can happen to it."""
    compress = rng.choice(["none", "lz4", "zstd:3"])
    one = Workspace(base, name, init=("--compress", compress)).mount()
    number = rng.randrange(1 << 32)
    said = bytes_run(one.path, number, steps, *more, store=one.store)
    if not check(not said, "%s: %d operations agree with the images (seed %d)" % (name, steps, number), said or ""):
        print(said)
        if SHRINK and failing_step(said) is not None:
            shrink(base, number, failing_step(said) + 1, *more)
        return
    one.umount()
    one.check_store("%s: the store is consistent" % name)


def side_by_side(base, rng, seconds):
    """Two at a time share the engine, while points are made, deleted and collected."""
    one = Workspace(base, "both").mount()
    running = []
    for name in ("a", "b"):
        os.mkdir(one.p(name))
        running.append(subprocess.Popen(command(one.p(name), rng.randrange(1 << 32), 1 << 40, "--seconds", seconds),
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"))
    number = 0
    while any(each.poll() is None for each in running) and number < 100 * seconds:
        one.cairn("freeze", "p%d" % number)
        if number >= 3:
            one.cairn("delete", "p%d" % (number - 3))
        if number % 4 == 3:
            one.cairn("gc")
        number += 1
        time.sleep(0.05)
    for each in running:
        try:
            said = each.communicate(timeout=120)[0]
        except subprocess.TimeoutExpired:
            each.kill()
            said = "no end in sight"
        check(each.returncode == 0, "two at a time: what each reads agrees with its images (%d points)" % number, said)
    one.umount()
    one.check_store("two at a time: the store is consistent")


def main():
    need_fuse()
    rng = random.Random(seed())
    base = workdir()
    if run("stat", "-f", "-c", "%T", base).stdout.strip() == "ext2/ext3":
        plain = os.path.join(base, "plain")
        os.mkdir(plain)
        said = bytes_run(plain, rng.randrange(1 << 32), 5000)
        check(not said, "the exerciser itself is right: on ext4 all agrees", said or "")
    with_points(base, rng, "several", STEPS)
    with_points(base, rng, "single", max(STEPS // 10, 1000), "--files", "1")
    with_points(base, rng, "large", max(STEPS // 30, 500), "--files", "8", "--scale", "16")
    side_by_side(base, rng, 6)
    finish()


main()
