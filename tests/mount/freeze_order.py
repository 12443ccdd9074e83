#!/usr/bin/env python3
"""Freeze under writers: a point has every write that returned before the freeze began (I7), and of the writes
that came during it a prefix, process by process: what a process wrote later is not there without what it wrote
before.  A forced restore keeps all that in its safety point."""
import errno
import mmap
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Workspace, check, finish, need_fuse, seed, workdir  # noqa: E402

FILES, ROUNDS = 8, int(os.environ.get("CAIRN_FREEZE_ROUNDS") or 15)
WIDTH = 16


def shared(size=4096):
    """Memory that children write and we read: what has returned so far."""
    return mmap.mmap(-1, size)


def note(memory, number):
    memory[0:8] = number.to_bytes(8, "little")


def noted(memory):
    return int.from_bytes(memory[0:8], "little")


def child(action):
    pid = os.fork()
    if pid:
        return pid
    try:
        action()
    except OSError as error:
        os._exit(10 if error.errno == errno.ESTALE else 1)
    os._exit(0)


def stop(pids):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        os.waitpid(pid, 0)


def number_at(path, offset=0):
    with open(path, "rb") as data:
        data.seek(offset)
        return int(data.read(WIDTH) or b"0")


# ---- writers: each writes the numbers 1, 2, 3 ... to all its places in order ----

def in_place(paths, done):
    fds = [os.open(path, os.O_RDWR | os.O_CREAT, 0o644) for path in paths]
    number = 0
    while True:
        number += 1
        for fd in fds:
            os.pwrite(fd, b"%0*d" % (WIDTH, number), 0)
        note(done, number)


def vectors(paths, done):
    """pwritev over two pages."""
    fds = [os.open(path, os.O_RDWR | os.O_CREAT, 0o644) for path in paths]
    number = 0
    while True:
        number += 1
        text = b"%0*d" % (WIDTH, number)
        for fd in fds:
            os.pwritev(fd, [text, b"." * 4096, text], 0)
        note(done, number)


def appends(paths, done):
    fds = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) for path in paths]
    number = 0
    while number < 200000:
        number += 1
        for fd in fds:
            os.write(fd, b"%0*d" % (WIDTH, number))
        note(done, number)
        if number % 16 == 0:
            time.sleep(0.001)
    time.sleep(600)


def reopening(paths, done):
    number = 0
    while True:
        number += 1
        for path in paths:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if number % 2 else 0), 0o644)
            os.write(fd, b"%0*d" % (WIDTH, number))
            os.close(fd)
        note(done, number)


def mixed(paths, done):
    """Direct writes, copies inside the kernel and plain writes in turn."""
    fds = [os.open(path, os.O_RDWR | os.O_CREAT, 0o644) for path in paths]
    direct = os.open(paths[0], os.O_RDWR | os.O_DIRECT)
    page = mmap.mmap(-1, 4096)
    number = 0
    while True:
        number += 1
        text = b"%0*d" % (WIDTH, number)
        page[0:4096] = text + b" " * (4096 - WIDTH)
        os.pwrite(direct, page, 0)
        for n, fd in enumerate(fds[1:], 1):
            if n % 2:
                os.copy_file_range(fds[0], fd, 4096, 0, 0)
            else:
                os.pwrite(fd, text, 0)
        note(done, number)


def in_place_numbers(paths):
    return [number_at(path) if os.path.exists(path) else 0 for path in paths]


def appended_numbers(paths):
    numbers = []
    for path in paths:
        with open(path, "rb") as data:
            text = data.read()
        expected = b"".join(b"%0*d" % (WIDTH, n) for n in range(1, len(text) // WIDTH + 1))
        numbers.append(len(text) // WIDTH if text == expected else -1)
    return numbers


def vector_numbers(paths):
    """A write that has not returned may be there in part."""
    pairs = [(number_at(path), number_at(path, WIDTH + 4096)) for path in paths]
    return [min(pair) if abs(pair[0] - pair[1]) <= 1 else -1 for pair in pairs]


WRITERS = [("place", in_place, in_place_numbers), ("vector", vectors, vector_numbers),
           ("append", appends, appended_numbers), ("mixed", mixed, in_place_numbers)]


def is_prefix(numbers):
    """As one process leaves them: n … n, n-1 … n-1."""
    return min(numbers) >= 0 and sorted(numbers, reverse=True) == numbers and numbers[0] - numbers[-1] <= 1


def rounds(one, dice):
    writers = []
    for name, action, read in WRITERS:
        os.mkdir(one.p(name))
        names = ["%s/%02d" % (name, n) for n in dice.sample(range(100), FILES)]
        done = shared()
        writers.append((name, names, done, read, child(lambda: action([one.p(n) for n in names], done))))
    while not all(noted(done) > 3 for _, _, done, _, _ in writers):
        time.sleep(0.01)
    missing, torn = [], []
    for n in range(ROUNDS):
        before = {name: noted(done) for name, _, done, _, _ in writers}
        one.cairn("freeze", "order-%d" % n)
        for name, names, _, read, _ in writers:
            numbers = read([one.p(".snapshots/order-%d" % n, part) for part in names])
            if min(numbers) < before[name]:
                missing.append((n, name, before[name], numbers))
            if not is_prefix(numbers):
                torn.append((n, name, numbers))
        time.sleep(dice.random() * 0.02)
    stop([pid for _, _, _, _, pid in writers])
    check(not missing, "%d freezes under %d writers have every write that had returned (I7)" % (ROUNDS, len(writers)), missing)
    check(not torn, "and a prefix of what each wrote, over all its files", torn)


def reopened(one):
    os.mkdir(one.p("again"))
    names, done = ["again/%d" % n for n in range(4)], shared()
    pid = child(lambda: reopening([one.p(n) for n in names], done))
    while noted(done) < 3:
        time.sleep(0.01)
    wrong = []
    for n in range(ROUNDS):
        before = noted(done)
        one.cairn("freeze", "again-%d" % n)
        numbers = in_place_numbers([one.p(".snapshots/again-%d" % n, part) for part in names])
        # One of them may have been truncated and not yet written.
        full = [number for number in numbers if number]
        if len(full) < len(names) - 1 or not is_prefix(full) or min(full) < before:
            wrong.append((before, numbers))
    stop([pid])
    check(not wrong, "a writer that opens, truncates and closes its files each time leaves a prefix, too", wrong)


def mappings(one):
    """What was stored through a mapping before the freeze is there, whether msync was called or not."""
    wrong = []
    fd = os.open(one.p("mapped"), os.O_RDWR | os.O_CREAT, 0o644)
    os.ftruncate(fd, 1 << 20)
    view = mmap.mmap(fd, 0)
    os.close(fd)
    for n in range(ROUNDS):
        for at in range(0, 1 << 20, 4096):
            view[at:at + WIDTH] = b"%0*d" % (WIDTH, n + at)
        if n % 2:
            view.flush()
        one.cairn("freeze", "mapped-%d" % n)
        with open(one.p(".snapshots/mapped-%d/mapped" % n), "rb") as data:
            text = data.read()
        if any(text[at:at + WIDTH] != b"%0*d" % (WIDTH, n + at) for at in range(0, 1 << 20, 4096)):
            wrong.append(n)
    view.close()
    check(not wrong, "stores through a mapping are in the point, with and without msync, also when the file is closed", wrong)


def safety_points(one, dice):
    """A forced restore under writers: what returned is in the safety point, a prefix, and nothing in the head."""
    wrong = []
    one.cairn("freeze", "base")
    for n in range(max(3, ROUNDS // 3)):
        directory = "forced-%d" % n
        os.mkdir(one.p(directory))
        names = ["%s/%d" % (directory, k) for k in range(FILES)]
        done = shared()
        pid = child(lambda: in_place([one.p(name) for name in names], done))
        while noted(done) < 3:
            time.sleep(0.005)
        time.sleep(dice.random() * 0.05)
        result = one.json("restore", "base", "--force")
        _, status = os.waitpid(pid, 0)
        numbers = in_place_numbers([one.p(".snapshots", result["safety_point"]["name"], name) for name in names])
        # One write(2) per thread may return although it came too late (fs/coherence.c).
        if not is_prefix(numbers) or numbers[-1] < noted(done) - 1 or os.path.exists(one.p(directory)) or \
                os.waitstatus_to_exitcode(status) != 10:
            wrong.append((noted(done), numbers, status))
    check(not wrong, "forced restores keep in the safety point what a writer had written, and the writer gets ESTALE", wrong)


def stat_does_not_wait(one):
    """Only writers wait: the attributes of a file that is being written are to be had during a freeze."""
    done = shared()
    pid = child(lambda: in_place([one.p("watched")], done))
    while noted(done) < 3:
        time.sleep(0.005)
    freezer = child(lambda: [one.cairn("freeze", "watched-%d" % n) for n in range(10)])
    longest, ended = 0.0, (0, 0)
    while not ended[0]:
        start = time.monotonic()
        os.stat(one.p("watched"))
        longest = max(longest, time.monotonic() - start)
        ended = os.waitpid(freezer, os.WNOHANG)
    first = noted(done)
    deadline = time.monotonic() + 20
    while noted(done) == first and time.monotonic() < deadline:
        time.sleep(0.01)
    check(ended[1] == 0 and noted(done) > first, "after ten freezes the writer goes on")
    check(longest < 20, "stat(2) is answered meanwhile", longest)
    stop([pid])


def main():
    need_fuse()
    dice = random.Random(seed())
    one = Workspace(workdir()).mount()
    rounds(one, dice)
    reopened(one)
    mappings(one)
    safety_points(one, dice)
    stat_does_not_wait(one)
    one.umount()
    one.check_store()
    finish()


main()
