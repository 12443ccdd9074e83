#!/usr/bin/env python3
"""After a restore every path, negative entry, attribute, page, xattr, ACL, symbolic link and listing seen through
the mount is the restored one at once, whatever the kernel had cached: random trees, restored in random order,
with everything warm; and what processes see that stay inside."""
import ctypes
import errno
import os
import random
import select
import signal
import stat
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Workspace, check, finish, need_fuse, need_root, run, seed, workdir  # noqa: E402
from picture import differences, picture  # noqa: E402

libc = ctypes.CDLL(None, use_errno=True)
TREES = int(os.environ.get("CAIRN_CACHES_TREES") or 2)
NAMES = ["n%d" % n for n in range(24)]


def put(path, data):
    with open(path, "wb") as out:
        out.write(data)


def get(path):
    with open(path, "rb") as data:
        return data.read()


def fails(code, action, *arguments):
    try:
        action(*arguments)
    except OSError as error:
        return error.errno == code
    return False


# ---- random trees ----

def acl(*entries):
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


class Forest:
    """Mutates the tree below `root` at random."""

    def __init__(self, root, dice):
        self.root, self.dice = root, dice

    def directories(self):
        return [self.root] + [os.path.join(at, name) for at, names, _ in os.walk(self.root) for name in names
                              if not os.path.islink(os.path.join(at, name))]

    def files(self):
        return [os.path.join(at, name) for at, _, names in os.walk(self.root) for name in names]

    def place(self):
        return os.path.join(self.dice.choice(self.directories()), self.dice.choice(NAMES))

    def any(self):
        return self.dice.choice((self.files() or [self.root]) + self.directories()[1:])

    def data(self):
        return os.urandom(self.dice.choice([0, 10, 3000, 70000, 300000]))

    def write(self):
        path = self.place()
        if not os.path.lexists(path) or os.path.isfile(path):
            put(path, self.data())

    def patch(self):
        with open(self.dice.choice([path for path in self.files() if os.path.isfile(path)]), "r+b") as out:
            out.seek(self.dice.randrange(100000))
            out.write(os.urandom(100))

    def make_directory(self):
        os.mkdir(self.place())

    def make_link(self):
        os.symlink("to-%d" % self.dice.randrange(1000), self.place())

    def make_hard_link(self):
        os.link(self.dice.choice(self.files()), self.place(), follow_symlinks=False)

    def make_special(self):
        os.mknod(self.place(), self.dice.choice([stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR]) | 0o600, os.makedev(1, 3))

    def rename(self):
        os.rename(self.any(), self.place())

    def exchange(self):
        libc.renameat2(-100, self.any().encode(), -100, self.any().encode(), 2)

    def unlink(self):
        os.unlink(self.dice.choice(self.files()))

    def remove(self):
        run("rm", "-rf", self.dice.choice(self.directories()[1:]))

    def mode(self):
        os.chmod(self.any(), self.dice.choice([0o600, 0o644, 0o755, 0o4711, 0o1777]))

    def owner(self):
        os.chown(self.any(), self.dice.randrange(3), self.dice.randrange(3), follow_symlinks=False)

    def times(self):
        os.utime(self.any(), ns=(self.dice.randrange(1 << 60), self.dice.randrange(1 << 60)), follow_symlinks=False)

    def xattr(self):
        os.setxattr(self.any(), "user.a%d" % self.dice.randrange(3), os.urandom(self.dice.randrange(200)))

    def set_acl(self):
        user = self.dice.randrange(1, 60000)
        os.setxattr(self.any(), "system.posix_acl_access", acl((1, 6, 0xffffffff), (2, self.dice.randrange(8), user),
                                                              (4, 4, 0xffffffff), (16, 7, 0xffffffff), (32, 0, 0xffffffff)))

    def truncate(self):
        os.truncate(self.dice.choice(self.files()), self.dice.randrange(100000))

    def mutate(self, count):
        actions = [self.write] * 6 + [self.make_directory] * 4 + [self.patch, self.make_link, self.make_hard_link, self.make_special,
                                                                  self.rename, self.rename, self.exchange, self.unlink, self.mode,
                                                                  self.owner, self.times, self.xattr, self.set_acl, self.truncate]
        for n in range(count):
            try:
                self.dice.choice(actions + ([self.remove] if n % 10 == 0 else []))()
            except (OSError, IndexError, ValueError):
                pass


def decision(path):
    """What the kernel lets another user do, from the attributes and ACLs that it has."""
    return tuple(os.access(path, right) for right in (os.R_OK, os.W_OK, os.X_OK))


def decisions(root, names):
    pid_in, pid_out = os.pipe()
    pid = os.fork()
    if not pid:
        os.setgroups([])
        os.setgid(1)
        os.setuid(2)
        text = repr([decision(os.path.join(root, name)) for name in names])
        with os.fdopen(pid_out, "w") as out:
            out.write(text)
        os._exit(0)
    os.close(pid_out)
    with os.fdopen(pid_in) as data:
        text = data.read()
    os.waitpid(pid, 0)
    return text


def warm(root, names):
    """Everything, and what is not there: each name of any state in each directory."""
    picture(root)
    for name in names:
        for one in NAMES[:6]:
            os.path.lexists(os.path.join(root, name, one))
        os.path.lexists(os.path.join(root, name))
    decisions(root, sorted(names))


def random_trees(one, dice, tree):
    forest = Forest(one.p("forest"), dice)
    os.mkdir(one.p("forest"))
    states, wrong = [], []
    names = set()
    for n in range(5):
        forest.mutate(150)
        one.cairn("freeze", "state-%d-%d" % (tree, n))
        states.append("state-%d-%d" % (tree, n))
        names |= set(picture(one.p("forest")))
    wanted = {state: picture(one.p(".snapshots", state, "forest")) for state in states}
    allowed = {state: decisions(one.p(".snapshots", state, "forest"), sorted(names)) for state in states}
    for n in range(15):
        state = dice.choice(states)
        warm(one.p("forest"), names)
        if n % 3 == 0:
            forest.mutate(30)
        open_now = [open(path, "rb") for path in forest.files() if stat.S_ISREG(os.lstat(path).st_mode)][:20]
        for each in open_now:
            each.read(10)
        one.cairn("restore", state)
        seen = picture(one.p("forest"))
        for each in open_now:
            each.close()
        if seen != wanted[state]:
            wrong.append((state, differences(seen, wanted[state])[:3]))
        elif decisions(one.p("forest"), sorted(names)) != allowed[state]:
            wrong.append((state, "access decisions"))
        wrong += [(state, name, "exists") for name in names - set(seen) if os.path.lexists(one.p("forest", name))]
    check(not wrong, "restores in random order, with everything warm: each shows its point at once", wrong[:3])
    before = picture(one.p("forest"), numbers=True)
    one.remount()
    fresh = differences(picture(one.p("forest"), numbers=True), before)
    check(not fresh, "a fresh mount shows the same, numbers included", fresh[:3])
    run("rm", "-rf", one.p("forest"))


# ---- processes that stay inside ----

class Inside:
    """A process with its working directory in `path`; does what it is told and tells what came of it."""

    def __init__(self, path, chroot=False):
        self.told, tell = os.pipe()
        hear, self.tell = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(tell)
            os.close(hear)
            self.ask("None")
            return
        try:
            self.serve(path, chroot, hear, tell)
        finally:
            os._exit(1)

    def serve(self, path, chroot, hear, tell):
        signal.alarm(60)
        os.chdir(path)
        if chroot:
            os.chroot(".")
            os.chdir("/")
        while True:
            text = os.read(hear, 10000).decode()
            if not text:
                return
            try:
                result = repr(eval(text))
            except OSError as error:
                result = repr(errno.errorcode[error.errno])
            os.write(tell, result.encode())

    def ask(self, text):
        os.write(self.tell, text.encode())
        return eval(os.read(self.told, 100000).decode())

    def leave(self):
        os.close(self.tell)
        os.close(self.told)
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)


def moved(one):
    """A directory with another name and another place in the target."""
    os.makedirs(one.p("old/deep/er"))
    put(one.p("old/deep/er/file"), b"1")
    put(one.p("old/side"), b"side")
    one.cairn("freeze", "moved")
    os.makedirs(one.p("new"))
    os.rename(one.p("old/deep"), one.p("new/place"))
    put(one.p("new/side"), b"new side")
    put(one.p("new/place/er/later"), b"2")
    users = [Inside(one.p("new/place")), Inside(one.p("new/place/er"))]
    handle = os.open(one.p("new/place/er"), os.O_PATH)
    one.cairn("restore", "moved")
    check(users[0].ask("os.getcwd()") == one.p("old/deep") and users[1].ask("os.getcwd()") == one.p("old/deep/er"),
          "a working directory that was renamed is at its restored place", [user.ask("os.getcwd()") for user in users])
    check(users[0].ask("open('../side').read()") == "side" and users[1].ask("open('../../side').read()") == "side",
          "so is what '..' leads to")
    check(users[1].ask("sorted(os.listdir('.'))") == ["file"] and users[1].ask("os.path.exists('later')") is False,
          "and what lies in it")
    check(os.listdir("/proc/self/fd/%d" % handle) == ["file"] and os.readlink("/proc/self/fd/%d" % handle) == one.p("old/deep/er"),
          "the same through O_PATH handles")
    check(users[1].ask("open('made', 'w').close()") is None and os.path.exists(one.p("old/deep/er/made")), "and work goes on there")
    os.close(handle)
    for user in users:
        user.leave()


def removed(one):
    """A directory that is not in the target."""
    one.cairn("freeze", "none")
    os.makedirs(one.p("gone/below/deep"))
    put(one.p("gone/below/deep/file"), b"1")
    users = [Inside(one.p("gone")), Inside(one.p("gone/below")), Inside(one.p("gone/below/deep")),
             Inside(one.p("gone/below"), chroot=True)]
    handle = os.open(one.p("gone/below"), os.O_PATH)
    reading = os.open(one.p("gone/below/deep/file"), os.O_RDONLY)
    os.stat(one.p("gone/below/deep/file"))
    safety = one.json("restore", "none")["safety_point"]["name"]
    dead = []
    for number, user in enumerate(users):
        if user.ask("os.listdir('.')"):
            dead.append((number, user.ask("os.listdir('.')")))
        for text in ("open('x', 'w')", "os.mkdir('x')", "os.stat('x')", "os.stat('file')", "os.stat('deep')") + \
                (() if number == 3 else ("os.getcwd()",)):
            if user.ask(text) != "ENOENT":
                dead.append((number, text, user.ask(text)))
        if user.ask("os.stat('.').st_nlink") != 0:
            dead.append((number, "nlink", user.ask("os.stat('.').st_nlink")))
    check(not dead, "who stays in a directory that the target does not have sees what rmdir leaves: ENOENT", dead)
    check(fails(errno.ENOENT, os.stat, "/proc/self/fd/%d/deep" % handle), "the same through O_PATH handles")
    check(fails(errno.ESTALE, os.read, reading, 1), "a file in it answers ESTALE")
    check(not os.path.exists(one.p("gone")), "its path is not there")
    os.close(handle)
    os.close(reading)
    os.mkdir(one.p("gone"))
    put(one.p("gone/other"), b"2")
    check(users[0].ask("os.listdir('.')") == [] and os.listdir(one.p("gone")) == ["other"], "nor is one made anew the same")
    one.cairn("restore", safety)
    check(os.listdir(one.p("gone")) == ["below"] and get(one.p("gone/below/deep/file")) == b"1",
          "restored once more, it is back under its path")
    put(one.p("gone/below/made"), b"3")
    os.mkdir(one.p("gone/below/deep/made"))
    check(os.path.exists(one.p("gone/below/deep/made")) and sorted(os.listdir(one.p("gone/below"))) == ["deep", "made"],
          "and can be worked in")
    check(users[1].ask("os.listdir('.')") == [] and users[1].ask("open('x', 'w')") == "ENOENT", "though who had stayed in the dead one stays there")
    for user in users:
        user.leave()


def recreated(one):
    """A directory that was removed, or made anew, and that the target has."""
    os.makedirs(one.p("twice/sub"))
    put(one.p("twice/file"), b"1")
    one.cairn("freeze", "twice")
    user, below = Inside(one.p("twice")), Inside(one.p("twice/sub"))
    run("rm", "-r", one.p("twice"))
    check(user.ask("open('x', 'w')") == "ENOENT", "a directory was removed under a process")
    os.mkdir(one.p("twice"))
    put(one.p("twice/another"), b"2")
    second = Inside(one.p("twice"))
    one.cairn("restore", "twice")
    check(sorted(os.listdir(one.p("twice"))) == ["file", "sub"] and get(one.p("twice/file")) == b"1", "restored, it lists what it had")
    put(one.p("twice/sub/new"), b"3")
    os.rename(one.p("twice/sub/new"), one.p("twice/new"))
    os.rmdir(one.p("twice/sub"))
    check(sorted(os.listdir(one.p("twice"))) == ["file", "new"], "can be worked in, and its entries removed")
    check(second.ask("os.listdir('.')") == [] and second.ask("os.stat('.').st_nlink") == 0 and
          user.ask("os.stat('.').st_nlink") == 0 and user.ask("open('x', 'w')") == "ENOENT", "the one that took its name is gone for who stays in it")
    for each in (user, below, second):
        each.leave()


def streams(one):
    """Directory streams that are half read when the restore comes."""
    os.makedirs(one.p("stream"))
    for n in range(3000):
        put(one.p("stream/keep-%04d" % n), b"")
    for n in range(1500):
        put(one.p("stream/lost-%04d" % n), b"")
    one.cairn("freeze", "stream")
    for n in range(1500):
        os.unlink(one.p("stream/lost-%04d" % n))
        put(one.p("stream/late-%04d" % n), b"")
    streams_open = [os.scandir(one.p("stream")) for _ in range(3)]
    parts = [[next(stream).name for _ in range(take)] for stream, take in zip(streams_open, (1, 700, 2500))]
    one.cairn("restore", "stream")
    os.listdir(one.p("stream"))
    for stream, part in zip(streams_open, parts):
        part += [entry.name for entry in stream]
    kept = [sorted(name for name in part if name.startswith("keep")) for part in parts]
    check(all(names == ["keep-%04d" % n for n in range(3000)] for names in kept),
          "a half-read stream has every entry of both states once", [len(names) for names in kept])
    check(all(len(set(part)) == len(part) for part in parts), "and none twice")
    check(len(os.listdir(one.p("stream"))) == 4500, "the next one has what the point has")


def bind_mounts(one):
    os.makedirs(one.p("bind/target"))
    put(one.p("bind/target/file"), b"1")
    put(one.p("bind/file"), b"1")
    one.cairn("freeze", "bind")
    outside = os.path.join(one.base, "outside")
    os.mkdir(outside)
    put(os.path.join(outside, "from-outside"), b"o")
    run("mount", "--bind", outside, one.p("bind/target"))
    elsewhere = os.path.join(one.base, "elsewhere")
    os.mkdir(elsewhere)
    run("mount", "--bind", one.p("bind"), elsewhere)
    put(one.p("bind/later"), b"2")
    put(one.p("bind/file"), b"22")
    one.cairn("restore", "bind")
    check(os.listdir(one.p("bind/target")) == ["from-outside"], "a mount on a directory that is the same stays")
    check(sorted(os.listdir(elsewhere)) == ["file", "target"] and get(os.path.join(elsewhere, "file")) == b"1",
          "a bind mount of a directory shows the restored one")
    run("umount", one.p("bind/target"))
    run("umount", elsewhere)
    check(os.listdir(one.p("bind/target")) == ["file"], "and what it covered is there")


def watchers(one):
    """inotify: no event is wrong, none crashes; the watch lives on where the directory does."""
    os.makedirs(one.p("watched/gone"))
    put(one.p("watched/file"), b"1")
    one.cairn("freeze", "watched")
    fd = libc.inotify_init1(os.O_NONBLOCK)
    for path in ("watched", "watched/file", "watched/gone"):
        if libc.inotify_add_watch(fd, one.p(path).encode(), 0xfff) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch")
    put(one.p("watched/file"), b"22")
    put(one.p("watched/later"), b"3")
    os.rmdir(one.p("watched/gone"))
    wait_events(fd)
    one.cairn("restore", "watched")
    events = wait_events(fd)
    wrong = [event for event in events if event[1] & 0x1ff and not event[1] & 0x8000 and event[2] not in (b"", b"later", b"file", b"gone")]
    check(not wrong, "inotify tells nothing of names that never were", events)
    put(one.p("watched/after"), b"4")
    check(any(name == b"after" for _, _, name in wait_events(fd)), "and goes on for a directory that lives on")
    os.close(fd)


def wait_events(fd):
    events = []
    while select.select([fd], [], [], 0.2)[0]:
        data = os.read(fd, 65536)
        while data:
            watch, mask, _, length = struct.unpack("iIII", data[:16])
            events.append((watch, mask, data[16:16 + length].rstrip(b"\0")))
            data = data[16 + length:]
    return events


def fifos(one):
    """A fifo that two processes hold, over a restore that has it, and one that does not."""
    one.cairn("freeze", "no-fifo")
    os.mkfifo(one.p("pipe"))
    one.cairn("freeze", "fifo")
    fd = os.open(one.p("pipe"), os.O_RDWR | os.O_NONBLOCK)
    os.chmod(one.p("pipe"), 0o600)
    one.cairn("restore", "fifo")
    os.write(fd, b"through")
    check(os.read(fd, 7) == b"through" and stat.S_IMODE(os.stat(one.p("pipe")).st_mode) == 0o644, "an open fifo goes on")
    one.cairn("restore", "no-fifo")
    os.write(fd, b"still")
    check(os.read(fd, 5) == b"still" and not os.path.exists(one.p("pipe")), "also when its name is gone")
    one.cairn("restore", "fifo")
    check(stat.S_ISFIFO(os.stat(one.p("pipe")).st_mode) and os.stat(one.p("pipe")).st_nlink == 1, "and when it is back")
    os.close(fd)


def main():
    need_fuse()
    need_root()
    base = workdir()
    os.chmod(base, 0o755)
    dice = random.Random(seed())
    one = Workspace(base, options="allow_other,dev").mount()
    for tree in range(TREES):
        random_trees(one, dice, tree)
    for part in (moved, removed, recreated, streams, bind_mounts, watchers, fifos):
        part(one)
    one.umount()
    one.check_store()
    finish()


main()
