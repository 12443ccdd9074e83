#!/usr/bin/env python3
"""What the daemon does when nobody writes: text is recompressed, files written here and there are put in order;
by itself, on request, beside a writer, and under kill -9."""
import hashlib
import os
import random
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import CAIRN, Workspace, check, finish, need_fuse, seed, workdir  # noqa: E402

TEXT, BASE = 24 << 20, 8 << 20
WORDS = "arrears balance council deposit estate flat garage holder invoice journal keys landlord".split()


def text(rng, length):
    lines = []
    while length > 0:
        lines.append("%d;%s;%s;%d.%02d\n" % (rng.randrange(10**6), rng.choice(WORDS), rng.choice(WORDS),
                                             rng.randrange(9999), rng.randrange(100)))
        length -= len(lines[-1])
    return "".join(lines).encode()


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stored(one):
    return one.json("status")["stored_bytes"]


def wait_for(condition, timeout=60):
    end = time.time() + timeout
    while not condition():
        if time.time() > end:
            return False
        time.sleep(0.2)
    return True


def scatter(path, rng, writes):
    """Random pages of a file that is there, in several commits."""
    fd = os.open(path, os.O_RDWR)
    for n in range(writes):
        os.pwrite(fd, rng.randbytes(8192), rng.randrange(BASE // 8192) * 8192)
        if n % 100 == 99:
            os.fsync(fd)
    os.fsync(fd)
    os.close(fd)


def by_itself(one, rng):
    with open(one.p("text.csv"), "wb") as file:
        file.write(text(rng, TEXT))
    with open(one.p("base"), "wb") as file:
        file.write(rng.randbytes(BASE))
    one.cairn("wait-durable")
    scatter(one.p("base"), rng, 400)
    one.cairn("wait-durable")
    contents = [digest(one.p(name)) for name in ("text.csv", "base")]
    before = stored(one)
    check(wait_for(lambda: stored(one) < before - TEXT // 12), "text becomes smaller when nobody writes",
          (before, stored(one)))
    # What is in order needs no more of it.
    ordered = wait_for(lambda: one.json("gc", "--compact")["compacted"]["ordered_chunks"] == 0, 30)
    check(ordered, "a file written here and there is in order then")
    one.remount()
    check([digest(one.p(name)) for name in ("text.csv", "base")] == contents, "contents are what they were")
    one.check_store()


def on_request(one, rng):
    scatter(one.p("base"), rng, 400)
    before = digest(one.p("base"))
    done = one.json("gc", "--compact")["compacted"]
    check(done["ordered_chunks"] > 400 and done["damaged_chunks"] == 0, "gc --compact does it now", done)
    again = one.json("gc", "--compact")["compacted"]
    check(again["ordered_chunks"] == 0 and again["recompressed_chunks"] == 0, "and once is enough", again)
    check(digest(one.p("base")) == before, "contents are what they were")
    shown = one.cairn("gc", "--compact").stdout
    check("recompressed 0 chunks" in shown and "in order" in shown, "it says what it did", shown)
    check(one.cairn("gc", "-n", "--compact", ok=False).returncode == 2, "there is no dry run of it")


def beside_a_writer(one, rng):
    waits, stop = [], threading.Event()

    def write():
        with open(one.p("log"), "ab") as file:
            while not stop.is_set():
                start = time.time()
                file.write(b"a line\n")
                file.flush()
                os.fsync(file.fileno())
                waits.append(time.time() - start)

    with open(one.p("more.csv"), "wb") as file:
        file.write(text(rng, TEXT))
    scatter(one.p("base"), rng, 400)
    before = digest(one.p("more.csv"))
    writer = threading.Thread(target=write)
    writer.start()
    one.cairn("gc", "--compact")
    stop.set()
    writer.join()
    check(len(waits) > 10 and max(waits) < 1, "fsync beside it does not wait for long",
          "%d, the longest %.3f s" % (len(waits), max(waits)))
    print("# %d fsyncs, the longest %.1f ms" % (len(waits), max(waits) * 1000))
    with open(one.p("log"), "rb") as file:
        check(file.read() == b"a line\n" * len(waits), "and what it wrote is there")
    check(digest(one.p("more.csv")) == before, "contents are what they were")


def killed(one, rng):
    for n in range(5):
        name = "killed-%d.csv" % n
        with open(one.p(name), "wb") as file:
            file.write(text(rng, TEXT // 4))
        scatter(one.p("base"), rng, 100)
        one.cairn("wait-durable")
        contents = digest(one.p(name)), digest(one.p("base"))
        command = subprocess.Popen([CAIRN, "-s", one.store, "gc", "--compact"], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0, 0.3))
        one.kill()
        command.wait(timeout=60)
        one.mount()
        check((digest(one.p(name)), digest(one.p("base"))) == contents, "killed in the middle, round %d: nothing changed" % n)
    one.check_store()


def switched_off(base, rng):
    os.mkdir(os.path.join(base, "off"))
    one = Workspace(os.path.join(base, "off"), init=["--compress-at-rest", "none"]).mount()
    with open(one.p("text.csv"), "wb") as file:
        file.write(text(rng, TEXT // 8))
    one.cairn("wait-durable")
    before = stored(one)
    done = one.json("gc", "--compact")["compacted"]
    check(done["recompressed_chunks"] == 0 and stored(one) == before, "--compress-at-rest none leaves all as it came in", done)
    check(one.json("status")["compression_at_rest"] == "lz4", "and status says so")
    one.umount()


def main():
    need_fuse()
    rng = random.Random(seed())
    base = workdir()
    one = Workspace(base).mount()
    by_itself(one, rng)
    on_request(one, rng)
    beside_a_writer(one, rng)
    killed(one, rng)
    one.umount()
    switched_off(base, rng)
    finish()


main()
