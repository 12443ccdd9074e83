#!/usr/bin/env python3
"""A great many of everything: entries in a directory, levels, links, attributes, open files, mappings.

CAIRN_MANY: entries of the large directory (50000).
"""
import ctypes
import errno
import mmap
import os
import random
import resource
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Workspace, check, finish, need_fuse, need_root, run, seed, workdir  # noqa: E402

ENTRIES = int(os.environ.get("CAIRN_MANY", "50000"))
PARTS = 20
LEVELS, LEVEL_NAME = 1200, "level-%04d-of-a-deep-chain"
LINK_MAX = 65000  # as on ext4; README names it
LIBC = ctypes.CDLL(None, use_errno=True)


def fails_with(code, action, *args, **more):
    try:
        action(*args, **more)
    except OSError as error:
        return error.errno == code
    return False


def timed(times, what, action):
    """Runs the action on PARTS equal parts.  The quickest of the last quarter against the quickest of the first:
    that leaves out what the machine does besides, and would be 30 where each step cost the square."""
    spent = []
    for part in range(PARTS):
        start = time.monotonic()
        action(part)
        spent.append(time.monotonic() - start)
    ratio = min(spent[-PARTS // 4:]) / min(spent[:PARTS // 4])
    times.append("%s %.1f s, end to beginning %.1f" % (what, sum(spent), ratio))
    return ratio < 4


def name_of(number):
    return "entry-%07d" % number


class Directory:
    """opendir(3) and its positions."""

    class Dirent(ctypes.Structure):
        _fields_ = [("ino", ctypes.c_uint64), ("off", ctypes.c_int64), ("reclen", ctypes.c_ushort),
                    ("type", ctypes.c_ubyte), ("name", ctypes.c_char * 256)]

    LIBC.opendir.restype = LIBC.readdir.restype = ctypes.c_void_p
    LIBC.telldir.restype = ctypes.c_long
    LIBC.readdir.argtypes = LIBC.telldir.argtypes = LIBC.closedir.argtypes = [ctypes.c_void_p]
    LIBC.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]

    def __init__(self, path):
        self.stream = LIBC.opendir(path.encode())

    def read(self):
        """The next name, "" at the end."""
        found = LIBC.readdir(self.stream)
        return ctypes.cast(found, ctypes.POINTER(self.Dirent)).contents.name.decode() if found else ""

    def tell(self):
        return LIBC.telldir(self.stream)

    def seek(self, position):
        LIBC.seekdir(self.stream, position)

    def close(self):
        LIBC.closedir(self.stream)


# ---- one large directory ----

def positions(path, rng, present):
    """Positions taken in one pass name the same entry later, though others came and went."""
    stream, taken = Directory(path), {}
    while True:
        at = stream.tell()
        name = stream.read()
        if not name:
            break
        if name in present and rng.random() < 300 / len(present):
            taken[name] = at
    extra = ["extra-%d" % n for n in range(200)]
    for name in extra:
        os.close(os.open(os.path.join(path, name), os.O_CREAT | os.O_WRONLY))
    wrong = []
    for name in rng.sample(sorted(taken), len(taken)):
        stream.seek(taken[name])
        found = stream.read()
        while found in extra:
            found = stream.read()
        if found != name:
            wrong.append((name, found))
    stream.close()
    for name in extra:
        os.unlink(os.path.join(path, name))
    check(taken and not wrong, "%d positions of telldir lead back to their entries, in any order" % len(taken), wrong[:5])


def removed_while_read(path, present):
    """Unlinks every other entry, and makes new ones, during one pass."""
    victims = [name for number, name in enumerate(sorted(present)) if number % 2]
    seen, begun = [], False
    with os.scandir(path) as listing:
        for number, entry in enumerate(listing):
            seen.append(entry.name)
            if number < len(present) // 10 or begun:
                continue
            begun = True
            for victim in victims:
                os.unlink(os.path.join(path, victim))
            for extra in range(100):
                os.close(os.open(os.path.join(path, "new-%d" % extra), os.O_CREAT | os.O_WRONLY))
    kept = present - set(victims)
    check(len(seen) == len(set(seen)), "a pass during which half is unlinked tells no name twice")
    check(kept <= set(seen), "nor does it lose one that stays", sorted(kept - set(seen))[:5])
    for extra in range(100):
        os.unlink(os.path.join(path, "new-%d" % extra))
    return kept


def large_directory(one, rng):
    path, other, times = one.p("large"), one.p("other"), []
    os.mkdir(path)
    os.mkdir(other)
    share = ENTRIES // PARTS

    def create(part):
        for number in range(part * share, (part + 1) * share):
            os.close(os.open(os.path.join(path, name_of(number)), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))

    def look_up(part):
        for _ in range(share // 5):
            os.lstat(os.path.join(path, name_of(rng.randrange(ENTRIES))))

    def rename(part):
        for number in range(part * share, part * share + share // 5):
            os.rename(os.path.join(path, name_of(number)), os.path.join(other if number % 2 else path, "renamed-%d" % number))

    linear = timed(times, "create", create)
    linear &= timed(times, "look up", look_up)
    names = os.listdir(path)
    check(sorted(names) == [name_of(n) for n in range(ENTRIES)], "%d entries are all listed, each once" % ENTRIES, len(names))
    check(fails_with(errno.ENOENT, os.lstat, os.path.join(path, "entry-nowhere")), "and one that is not there is not there")
    linear &= timed(times, "rename", rename)

    present = set(names)
    for part in range(PARTS):
        for number in range(part * share, part * share + share // 5):
            present.remove(name_of(number))
            if number % 2 == 0:
                present.add("renamed-%d" % number)
    check(set(os.listdir(path)) == present, "after renaming, the directory lists what it should")
    check(len(os.listdir(other)) == ENTRIES - len(present), "and so does the other one")
    positions(path, rng, present)
    one.cairn("freeze", "large")
    kept = removed_while_read(path, present)

    one.remount()
    start = time.monotonic()
    check(set(os.listdir(path)) == kept, "after a remount the other half is listed")
    times.append("list %d cold %.1f s" % (len(kept), time.monotonic() - start))
    check(set(os.listdir(one.p(".snapshots/large/large"))) == present, "the point still lists all")
    check(fails_with(errno.ENOTEMPTY, os.rmdir, path), "rmdir says that it is not empty")

    order = rng.sample(sorted(kept), len(kept))

    def remove(part):
        for name in order[part * len(order) // PARTS:(part + 1) * len(order) // PARTS]:
            os.unlink(os.path.join(path, name))

    linear &= timed(times, "unlink at random", remove)
    os.rmdir(path)
    check(not os.path.exists(path), "empty, it can be removed")
    check(linear, "times grow with the number of entries, no faster: %s" % "; ".join(times))
    run("rm", "-r", other)


def many_directories(one):
    """ext4 counts links of directories up to 65,000 and goes on; so must we."""
    os.mkdir(one.p("parents"))
    for number in range(LINK_MAX + 100):
        os.mkdir(one.p("parents", str(number)))
    check(os.stat(one.p("parents")).st_nlink == LINK_MAX + 102, "a directory holds more than 65,000 directories")
    os.mkdir(one.p("mover"))
    os.rename(one.p("mover"), one.p("parents/mover"))
    check(os.stat(one.p("parents")).st_nlink == LINK_MAX + 103, "and another can be moved there")
    run("rm", "-r", one.p("parents"))


# ---- depth ----

def down(top, levels, action=None):
    """A descriptor of the directory so many levels down; `action` makes each."""
    at = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for level in levels:
        if action:
            action(LEVEL_NAME % level, dir_fd=at)
        below = os.open(LEVEL_NAME % level, os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)
        os.close(at)
        at = below
    return at


def put_at(directory, name, data):
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=directory)
    os.write(fd, data)
    os.close(fd)


def get_at(directory, name):
    fd = os.open(name, os.O_RDONLY, dir_fd=directory)
    data = os.read(fd, 1 << 16)
    os.close(fd)
    return data


def deep_chain(one):
    for name in ("deep", "moved"):
        os.mkdir(one.p(name))
    bottom = down(one.p("deep"), range(LEVELS), os.mkdir)
    put_at(bottom, "treasure", b"at the bottom")
    one.cairn("freeze", "deep")
    middle = down(one.p("deep"), range(LEVELS // 2))
    target = os.open(one.p("moved"), os.O_RDONLY | os.O_DIRECTORY)
    os.rename(LEVEL_NAME % (LEVELS // 2), "half", src_dir_fd=middle, dst_dir_fd=target)
    check(get_at(bottom, "treasure") == b"at the bottom", "a chain of %d directories, renamed in the middle, is whole" % LEVELS)
    os.rename("half", LEVEL_NAME % (LEVELS // 2), src_dir_fd=target, dst_dir_fd=middle)
    put_at(bottom, "treasure", b"changed, at the bottom")
    path = "deep/" + "/".join(LEVEL_NAME % level for level in range(LEVELS)) + "/treasure"
    told = one.cairn("diff", "deep").stdout.splitlines()
    check("M " + path in told, "diff names a path of %d bytes" % len(path), told[-1:])
    found = one.cairn("cat", "deep", path, ok=False)
    check(found.stdout == "at the bottom", "cat finds it in the point", found.stderr[:200])

    parent = os.open("..", os.O_RDONLY | os.O_DIRECTORY, dir_fd=bottom)
    check(os.stat(LEVEL_NAME % (LEVELS - 1), dir_fd=parent).st_ino == os.fstat(bottom).st_ino, "\"..\" leads up from the bottom")
    check(fails_with(errno.ENAMETOOLONG, os.stat, one.p(path)), "a path that long in one call is ENAMETOOLONG")
    for fd in (bottom, middle, target, parent):
        os.close(fd)
    run("rm", "-r", one.p("deep"))
    one.cairn("restore", "deep")
    bottom = down(one.p("deep"), range(LEVELS))
    check(get_at(bottom, "treasure") == b"at the bottom", "restore brings the removed chain back")
    os.close(bottom)
    one.remount()
    bottom = down(one.p("deep"), range(LEVELS))
    check(get_at(bottom, "treasure") == b"at the bottom", "it is there after a remount")
    os.close(bottom)
    run("rm", "-r", one.p("deep"), one.p("moved"))


# ---- links and attributes of one file ----

def many_links(one):
    os.mkdir(one.p("links"))
    first = one.p("links", "0")
    with open(first, "w") as out:
        out.write("one file")
    for number in range(1, LINK_MAX):
        os.link(first, one.p("links", str(number)))
    check(os.stat(first).st_nlink == LINK_MAX, "a file has %d names" % LINK_MAX)
    check(fails_with(errno.EMLINK, os.link, first, one.p("links", "more")), "one more is EMLINK")
    os.rename(one.p("links", "77"), one.p("links", "seventy-seven"))
    os.unlink(one.p("links", "78"))
    os.link(first, one.p("links", "78"))
    one.cairn("freeze", "links")
    one.remount()
    inodes = {entry.inode() for entry in os.scandir(one.p("links"))}
    check(inodes == {os.stat(first).st_ino} and os.stat(first).st_nlink == LINK_MAX, "they are one file after a remount")
    with open(one.p("links", "seventy-seven"), "a") as out:
        out.write(", many names")
    told = one.cairn("diff", "links").stdout.split("\n")
    check(sum(line.startswith("M ") for line in told) >= 1, "diff tells of a change through one of them", told[:2])
    run("rm", "-r", one.p("links"))


def many_attributes(one):
    path, count = one.p("attributed"), 2000
    with open(path, "w"):
        pass
    value = {"user.attribute-%d" % n: (b"%d " % n) * (n % 60) for n in range(count)}
    for name in value:
        os.setxattr(path, name, value[name])
    check(sorted(os.listxattr(path)) == sorted(value), "a file has %d extended attributes" % count)
    one.remount()
    check(all(os.getxattr(path, name) == value[name] for name in value), "each has its value, after a remount")
    for name in list(value)[::2]:
        os.removexattr(path, name)
        del value[name]
    check(sorted(os.listxattr(path)) == sorted(value), "half of them can be removed")
    with open(one.p("wide"), "w"):
        pass
    long = ["user.%s%05d" % ("n" * 200, n) for n in range(400)]

    def fill():
        for name in long:
            os.setxattr(one.p("wide"), name, b"")
        os.listxattr(one.p("wide"))
    try:
        fill()
        told = 0
    except OSError as error:
        told = error.errno
    check(told in (errno.E2BIG, errno.ENOSPC), "more names than listxattr(2) can tell (64 KiB): E2BIG or ENOSPC", told)
    os.unlink(path)
    os.unlink(one.p("wide"))


# ---- open files and mappings ----

def many_open(one):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(10000, (hard - 500) // 2)  # mmap.mmap() keeps a copy of the descriptor
    os.mkdir(one.p("open"))
    files = [os.open(one.p("open", str(n)), os.O_RDWR | os.O_CREAT, 0o644) for n in range(count)]
    for number, fd in enumerate(files):
        os.write(fd, b"file %d" % number)
    start = time.monotonic()
    one.cairn("freeze", "open")
    print("freeze with %d files open for writing: %.2f s" % (count, time.monotonic() - start))
    for number in range(0, count, 2):
        os.unlink(one.p("open", str(number)))
    check(all(os.pread(fd, 100, 0) == b"file %d" % n for n, fd in enumerate(files)), "%d open files, half of them unlinked, "
          "hold what was written" % count)
    point = one.p(".snapshots/open/open")
    wrong = 0
    for number in range(count):
        with open(os.path.join(point, str(number)), "rb") as data:
            wrong += data.read() != b"file %d" % number
    check(not wrong, "the point that was frozen meanwhile has all of them", wrong)

    views = [mmap.mmap(fd, 6) for fd in files[1::2]]
    for view in views:
        view[0:4] = b"FILE"
    one.cairn("freeze", "mapped")
    wrong = 0
    for number in range(1, count, 2):
        with open(one.p(".snapshots/mapped/open", str(number)), "rb") as data:
            wrong += data.read() != b"FILE %d" % number
    check(not wrong, "%d mappings: what was written through them is in the point" % len(views), wrong)
    for view in views:
        view.close()
    for fd in files:
        os.close(fd)
    run("rm", "-r", one.p("open"))


def main():
    need_fuse()
    need_root()
    rng = random.Random(seed())
    one = Workspace(workdir()).mount()
    for part in (lambda: large_directory(one, rng), lambda: many_directories(one), lambda: deep_chain(one),
                 lambda: many_links(one), lambda: many_attributes(one), lambda: many_open(one)):
        part()
    one.check_store("the store is consistent")
    one.umount()
    one.check_store("the store is consistent when unmounted")
    finish()


main()
