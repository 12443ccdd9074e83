#!/usr/bin/env python3
"""Restore of paths on a mounted workspace, with everything warm in the kernel's caches: random trees and random
paths; below the paths the mount shows at once what the point has, all else is untouched, down to inode numbers and
times, and a fresh mount shows the same.  Programs go on in directories that were moved within the paths."""
import os
import random
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Workspace, check, finish, need_fuse, need_root, seed, workdir  # noqa: E402
from picture import differences, picture  # noqa: E402

ROUNDS = int(os.environ.get("CAIRN_PATHS_ROUNDS") or 25)
MODE, LINKS, CTIME = 0, 1, 8  # in a picture's entries


def put(path, text):
    with open(path, "w") as out:
        out.write(text)


def get(path):
    with open(path) as data:
        return data.read()


class Forest:
    def __init__(self, root, dice):
        self.root, self.dice = root, dice

    def all(self):
        directories, files = [self.root], []
        for at, names, others in os.walk(self.root):
            directories += [os.path.join(at, name) for name in names if not os.path.islink(os.path.join(at, name))]
            files += [os.path.join(at, name) for name in others]
        return directories, files

    def step(self):
        directories, files = self.all()
        new = os.path.join(self.dice.choice(directories), self.dice.choice("abcdefgh"))
        what = self.dice.choice("wwwwmmrrdlskx")
        old = self.dice.choice(files + directories[1:]) if files or len(directories) > 1 else None
        if what == "w" and not os.path.isdir(new) and not os.path.islink(new):
            put(new, "%d\n" % self.dice.randrange(1000) * self.dice.choice((1, 20, 3000)))
        elif what == "m" and not os.path.lexists(new):
            os.mkdir(new)
        elif what == "r" and old and not os.path.lexists(new) and not (new + "/").startswith(old + "/"):
            os.rename(old, new)
        elif what == "d" and old:
            if os.path.isdir(old) and not os.path.islink(old):
                shutil.rmtree(old)
            else:
                os.unlink(old)
        elif what == "l" and files and not os.path.lexists(new):
            os.link(self.dice.choice(files), new, follow_symlinks=False)
        elif what == "s" and not os.path.lexists(new):
            os.symlink("to-%s" % new[-1], new)
        elif what == "k" and old and not os.path.islink(old):
            os.chmod(old, self.dice.choice((0o700, 0o755, 0o750)))
        elif what == "x" and old and not os.path.islink(old):
            os.setxattr(old, "user.x", b"%d" % self.dice.randrange(9))


def inside(path, paths):
    return any(path == at or path.startswith(at + "/") for at in paths)


def without(entry, *fields):
    return tuple(value for i, value in enumerate(entry) if i not in fields)


def compare(before, point, after, paths):
    """What is wrong, in words."""
    parents = {os.path.dirname(path) or "." for path in paths}
    above = {at for path in paths for at in ["/".join(path.split("/")[:n]) for n in range(1, path.count("/") + 1)]}
    wrong = []
    for name in sorted(set(before) | set(point) | set(after)):
        was, then, now = before.get(name), point.get(name), after.get(name)
        if inside(name, paths):
            # Links may reach outside, and a new name is a change of the inode.
            if (then and without(then, LINKS, CTIME)) != (now and without(now[:-1], LINKS, CTIME)):
                wrong.append("%s: in the point %s, now %s" % (name, then, now))
        elif name in above and not was:
            continue
        elif name in parents:
            if not was or not now or (was[MODE], was[-1]) != (now[MODE], now[-1]):
                wrong.append("%s, a directory of theirs: before %s, now %s" % (name, was, now))
        elif was and now and max(was[LINKS], now[LINKS]) > 1 or name in above:
            # Another name of it may have come or gone inside.
            if without(was, LINKS, CTIME, 7) != without(now, LINKS, CTIME, 7):
                wrong.append("%s: before %s, now %s" % (name, was, now))
        elif was != now:
            wrong.append("%s, outside: before %s, now %s" % (name, was, now))
    return wrong


def in_the_way(before, path):
    parts = path.split("/")
    above = ["/".join(parts[:n]) for n in range(1, len(parts))]
    return any(at in before and not before[at][MODE].startswith("0o4") for at in above)


def random_trees(base, dice):
    one = Workspace(base, "trees").mount()
    forest = Forest(one.path, dice)
    point, bad = {}, []
    for number in range(ROUNDS):
        for _ in range(40 if number == 0 else 15):
            forest.step()
        if number % 5 == 0:
            one.cairn("freeze", "p%d" % number)
            point, name = picture(one.p(".snapshots", "p%d" % number)), "p%d" % number
            continue
        before = picture(one.path, numbers=True)
        candidates = [path for path in set(before) | set(point) if path != "." and not in_the_way(before, path)]
        paths = dice.sample(sorted(candidates), min(len(candidates), dice.randint(1, 3)))
        one.cairn("restore", name, *paths)
        after = picture(one.path, numbers=True)
        wrong = compare(before, point, after, paths)
        if not wrong:
            one.remount()
            wrong = differences(after, picture(one.path, numbers=True))
        bad += ["round %d, %s: %s" % (number, paths, line) for line in wrong]
    check(not bad, "random paths of random trees", "\n".join(bad))
    one.umount()
    one.check_store()


def who_stays_inside(base):
    one = Workspace(base, "inside").mount()
    os.makedirs(one.p("top", "a", "deep"))
    put(one.p("top", "a", "deep", "file"), "then\n")
    os.makedirs(one.p("elsewhere"))
    one.cairn("freeze", "then")
    os.rename(one.p("top", "a"), one.p("top", "b"))
    put(one.p("top", "b", "deep", "file"), "now\n")
    put(one.p("top", "b", "deep", "new"), "now\n")
    directory = os.open(one.p("top", "b", "deep"), os.O_RDONLY | os.O_DIRECTORY)
    check(not os.path.exists(one.p("top", "a")), "a name that is not there")
    one.cairn("restore", "then", "top")
    check(os.path.exists(one.p("top", "a")) and not os.path.exists(one.p("top", "b")), "is there at once, and the other gone")
    check(os.readlink("/proc/self/fd/%d" % directory) == one.p("top", "a", "deep"), "who is in the directory is in the moved one")
    check(os.listdir(directory) == ["file"], "and sees what the point has there")
    os.close(os.open("more", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=directory))
    check(os.path.exists(one.p("top", "a", "deep", "more")), "and works in it")
    os.close(directory)

    os.rename(one.p("top", "a"), one.p("elsewhere", "a"))
    put(one.p("elsewhere", "a", "deep", "file"), "work\n")
    one.cairn("restore", "then", "top/a")
    check(get(one.p("elsewhere", "a", "deep", "file")) == "work\n" and get(one.p("top", "a", "deep", "file")) == "then\n",
          "what was moved out of the paths stays there, and they get their own")
    shutil.rmtree(one.p("top"))
    one.cairn("restore", "then", "top/a/deep/file")
    check(get(one.p("top", "a", "deep", "file")) == "then\n", "directories on the way are made")
    done = one.cairn("restore", "then", "./file", cwd=one.p("top", "a", "deep"))
    check("top/a/deep/file of then" in done.stdout, "a path from where one stands", done.stdout)
    one.umount()
    one.check_store()


def main():
    need_fuse()
    need_root()
    dice = random.Random(seed())
    base = workdir()
    random_trees(base, dice)
    who_stays_inside(base)
    finish()


main()
