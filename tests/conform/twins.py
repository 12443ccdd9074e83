"""The same random calls on names in two directories of two file systems: same results, same trees after each.

    python3 tests/conform/twins.py DIR OTHER [--seed N] [--calls N]

What is compared: the error or the result of each call, and after each call every file's type, mode, owner, links,
size, target and ACLs, and whether its mtime or its ctime moved; and what fstat says of descriptors that stay open.
"""
import argparse
import os
import random
import stat
import struct
import sys
import tempfile

import calls
import conform

NAMES = ("a", "b", "c", "long-name-" + "x" * 200)
USERS = ((0, 0, ()), (0, 0, ()), (1000, 1000, (2000,)), (1001, 2000, ()), (1002, 1002, ()))
MODES = (0o777, 0o755, 0o700, 0o1777, 0o2775, 0o644, 0o666, 0o4755, 0o2644, 0o070, 0o500, 0)
OPEN_FLAGS = (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_CREAT | os.O_WRONLY, os.O_CREAT | os.O_RDWR,
              os.O_CREAT | os.O_EXCL | os.O_WRONLY, os.O_WRONLY | os.O_TRUNC, os.O_CREAT | os.O_TRUNC | os.O_RDWR,
              os.O_DIRECTORY, os.O_NOFOLLOW, os.O_CREAT | os.O_NOFOLLOW | os.O_RDWR, os.O_PATH,
              os.O_TMPFILE | os.O_RDWR, os.O_CREAT | os.O_DIRECTORY, os.O_WRONLY | os.O_APPEND)
RENAME_FLAGS = (0, 0, calls.RENAME_NOREPLACE, calls.RENAME_EXCHANGE, calls.RENAME_EXCHANGE,
                calls.RENAME_NOREPLACE | calls.RENAME_EXCHANGE, 8)


ATTRIBUTES = ("user.x", "system.posix_acl_access", "system.posix_acl_default")
HELD = 6  # descriptors that stay open from call to call


def random_acl(pick):
    """The value of an ACL attribute.  Never the same again: ext4 leaves ctime where the value stays as it was."""
    nobody = 0xFFFFFFFF
    tags = ((1, nobody), (2, pick.choice((1000, 1002))), (2, pick.randrange(10000, 1 << 30)), (4, nobody), (8, 2000),
            (16, nobody), (32, nobody))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, pick.randrange(8), number) for tag, number in tags)


class Tree:
    """One of the two directories, and descriptors of files in it (None: not open)."""

    def __init__(self, path):
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self.times = {}
        self.held = [None] * HELD

    def hold(self, slot, path, flags, mode):
        fd = os.open(path, flags, mode)
        if self.held[slot] is not None:
            os.close(self.held[slot])
        self.held[slot] = fd

    def with_held(self, slot, function, arguments):
        if self.held[slot] is None:
            return "not open"
        return function(self.held[slot], *arguments)

    def close(self):
        for fd in self.held:
            if fd is not None:
                os.close(fd)
        os.close(self.fd)

    def call(self, user, function, arguments):
        """What a caller sees: the result, or the error's name."""
        os.fchdir(self.fd)
        try:
            with conform.as_user(*user):
                return getattr(self, function)(*arguments) if isinstance(function, str) else function(*arguments)
        except OSError as error:
            return conform.error_name(error.errno)

    def state(self):
        """{path: what it is}, and which times moved since the last call of this."""
        os.fchdir(self.fd)
        found, times, numbers = {}, {}, {}
        pending = ["."]
        while pending:
            path = pending.pop()
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            number = numbers.setdefault(status.st_ino, len(numbers))
            found[path] = [oct(status.st_mode), status.st_uid, status.st_gid, status.st_nlink, number]
            found[path] += [attribute(path, name) for name in ATTRIBUTES]
            if kind == stat.S_IFREG:
                found[path].append(status.st_size)
            elif kind == stat.S_IFLNK:
                found[path].append(os.readlink(path))
            elif kind == stat.S_IFDIR:
                pending += [path + "/" + name for name in sorted(os.listdir(path), reverse=True)]
            else:
                found[path].append(status.st_rdev)
            times[status.st_ino] = (status.st_mtime_ns, status.st_ctime_ns)
            if status.st_ino in self.times:
                old = self.times[status.st_ino]
                found[path].append([name for name, before, now in zip(("mtime", "ctime"), old, times[status.st_ino])
                                    if before != now])
        self.times = times
        for slot, fd in enumerate(self.held):
            if fd is not None:
                status = os.fstat(fd)
                size = status.st_size if stat.S_ISREG(status.st_mode) else 0
                found["descriptor %d" % slot] = [oct(status.st_mode), status.st_uid, status.st_gid, status.st_nlink,
                                                 size]
        return found


class Chance:
    """The next call: (words, function, arguments)."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def path(self):
        pick = self.random
        parts = [pick.choice(NAMES) for _ in range(pick.choice((1, 1, 1, 2, 2, 3)))]
        if pick.random() < 0.05:
            parts.append(pick.choice((".", "..", "", "x" * 256)))
        return "/".join(parts)

    def call(self):
        pick = self.random
        one, other, mode = self.path(), self.path(), pick.choice(MODES)
        flags, size = pick.choice(OPEN_FLAGS), pick.randrange(1, 100000)
        slot = pick.randrange(HELD)
        owner, group = pick.choice((-1, 0, 1000, 1001)), pick.choice((-1, 0, 1000, 2000))
        nodes = (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFREG, stat.S_IFCHR, stat.S_IFBLK)
        table = (
            (8, open_and_close, (one, flags | os.O_NONBLOCK, mode)), (10, os.mkdir, (one, mode)),
            (4, calls.mknod, (one, pick.choice(nodes) | mode, os.makedev(240, 3))), (3, os.symlink, (other, one)),
            (4, calls.link, (one, other)), (2, calls.link, (one, other, calls.AT_SYMLINK_FOLLOW)),
            (4, os.unlink, (one,)), (4, os.rmdir, (one,)), (8, calls.rename, (one, other)),
            (8, calls.renameat2, (one, other, pick.choice(RENAME_FLAGS))), (6, os.chmod, (one, mode)),
            (4, calls.chown, (one, owner, group)), (2, calls.chown, (one, owner, group, calls.AT_SYMLINK_NOFOLLOW)),
            (3, calls.truncate, (one, size)), (3, append, (one, size)), (2, os.utime, (one, (5, 6))),
            (2, calls.access, (one, pick.randrange(8))), (1, os.readlink, (one,)), (2, names_in, (one,)),
            (1, calls.setxattr, (one, "user.x", b"%d" % pick.randrange(1 << 40), pick.randrange(3))),
            (1, os.chdir, (one,)),
            (3, tmpfile_to, (one, other, mode)),
            (2, calls.setxattr, (one, pick.choice(ATTRIBUTES[1:]), random_acl(pick))),
            (1, remove_attribute, (one, pick.choice(ATTRIBUTES))),
            (4, "hold", (slot, one, flags | os.O_NONBLOCK, mode)),
            (6, "with_held", (slot,) + pick.choice((
                (os.fchmod, (mode,)), (os.fchown, (owner, group)), (calls.ftruncate, (size,)),
                (write_regular, (b"x" * 3000,)),
                (make_below, (pick.choice(NAMES), mode)), (names_below, ()), (link_held, (one,)),
                (os.pread, (10, 0)), (os.fsync, ()), (os.posix_fallocate, (size, 100))))),
        )
        (_, function, arguments), = pick.choices(table, [weight for weight, _, _ in table])
        return function, arguments


def open_and_close(path, flags, mode):
    os.close(os.open(path, flags, mode))


def append(path, size):
    with conform.opened(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK) as fd:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.write(fd, b"x" * size)


def write_regular(fd, data):
    """A fifo's times do not move on FUSE (differences.py)."""
    return os.write(fd, data) if stat.S_ISREG(os.fstat(fd).st_mode) else None


def attribute(path, name):
    try:
        return os.getxattr(path, name, follow_symlinks=False)
    except OSError as error:
        return conform.error_name(error.errno)


def remove_attribute(path, name):
    """Removing an ACL that is not there succeeds, and Linux then moves the ctime of a FUSE file by itself."""
    os.getxattr(path, name, follow_symlinks=False)
    os.removexattr(path, name, follow_symlinks=False)


def make_below(fd, name, mode):
    os.mkdir(name, mode, dir_fd=fd)


def names_below(fd):
    return sorted(entry.name for entry in calls.getdents(fd))


def link_held(fd, name):
    calls.link("/proc/self/fd/%d" % fd, name, calls.AT_SYMLINK_FOLLOW)


def names_in(path):
    return sorted(os.listdir(path))


def tmpfile_to(directory, name, mode):
    with conform.opened(directory, os.O_TMPFILE | os.O_WRONLY, mode) as fd:
        calls.link("/proc/self/fd/%d" % fd, name, calls.AT_SYMLINK_FOLLOW)


def compare(directory, other, seed, count):
    """None, or in words where the two part."""
    chance = Chance(seed)
    trees = []
    os.umask(0o022)
    for base in (directory, other):
        path = tempfile.mkdtemp(prefix="twin.", dir=base)
        os.chmod(path, 0o777)
        trees.append(Tree(path))
    history = []
    try:
        for _ in range(count):
            user, (function, arguments) = chance.random.choice(USERS), chance.call()
            conform.tick()
            results = [tree.call(user, function, arguments) for tree in trees]
            name = getattr(function, "__name__", function)
            history.append("%s%s as %s: %s" % (name, conform.short(arguments), user, results[0]))
            states = [tree.state() for tree in trees]
            wrong = difference(results, states)
            if wrong:
                return "%s\n    after %s" % (wrong, "\n          ".join(history[-12:]))
    finally:
        for tree in trees:
            tree.close()
            conform.remove_tree(tree.path)
    return None


def difference(results, states):
    if results[0] != results[1]:
        return "results: %r and %r" % tuple(results)
    for path in sorted(set(states[0]) | set(states[1])):
        one, other = (state.get(path, "nothing") for state in states)
        if one != other:
            return "%s: %r and %r" % (path, one, other)
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dir")
    parser.add_argument("other")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--calls", type=int, default=1000)
    options = parser.parse_args()
    print("seed %d" % options.seed, flush=True)
    wrong = compare(options.dir, options.other, options.seed, options.calls)
    print(wrong or "no difference in %d calls" % options.calls)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
