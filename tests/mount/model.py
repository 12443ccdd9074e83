#!/usr/bin/env python3
"""Model test through the mount: seeded random operations on a workspace and on a plain directory,
with freezes, restores, remounts and collections in between; the two must stay equal in every respect
that rsync sees, and each point must stay what it was."""
import os
import shutil
import stat
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import random  # noqa: E402
from harness import Workspace, check, compare, finish, need_fuse, run, seed, workdir  # noqa: E402

ROUNDS = int(os.environ.get("CAIRN_MODEL_ROUNDS", "12"))
STEPS = int(os.environ.get("CAIRN_MODEL_STEPS", "150"))


class Twin:
    """Carries every operation out twice and wants the same outcome."""

    def __init__(self, a, b, rng):
        self.tops, self.rng, self.mismatches = (a, b), rng, []
        self.clock = 1_600_000_000

    def both(self, what, action):
        outcomes = []
        for top in self.tops:
            try:
                action(top)
                outcomes.append(0)
            except OSError as error:
                outcomes.append(error.errno)
        if outcomes[0] != outcomes[1]:
            self.mismatches.append("%s: %s" % (what, outcomes))

    def pick(self, kind):
        found = []
        for where, dirs, files in os.walk(self.tops[1]):
            rel = os.path.relpath(where, self.tops[1])
            if kind in ("dir", "any"):
                found += [os.path.join(rel, d) for d in dirs]
            if kind in ("file", "any"):
                found += [os.path.join(rel, f) for f in files if stat.S_ISREG(os.lstat(os.path.join(where, f)).st_mode)]
        found.sort()
        return self.rng.choice(found) if found else None

    def fresh(self):
        parent = self.pick("dir") if self.rng.random() < 0.7 else None
        return os.path.join(parent or ".", self.rng.choice("abcdefgh") + str(self.rng.randrange(40)))

    def stamp(self, rel):
        """Times differ between the two by nature: set them alike."""
        self.clock += 1

        def set_times(top):
            path = os.path.join(top, rel)
            if os.path.lexists(path):
                os.utime(path, ns=(self.clock * 10**9 + 5, self.clock * 10**9 + 7), follow_symlinks=False)
        self.both("utime", set_times)

    def step(self):
        rng = self.rng
        name = rng.choice(["create", "create", "write", "write", "write", "truncate", "mkdir", "rename", "rename", "unlink",
                           "link", "symlink", "chmod", "xattr", "punch", "rmtree", "copy", "mmap", "append", "chown", "fifo"])
        data = rng.randbytes(rng.choice([0, 1, 100, 3000, 5000, 70000, 300000]))
        a, b = self.pick("file"), self.pick("any")
        new = self.fresh()
        offset = rng.choice([0, 1, 4095, 10000, 100000])
        getattr(self, "do_" + name)(a, b, new, data, offset)

    def do_create(self, a, b, new, data, offset):
        def act(top):
            with open(os.path.join(top, new), "xb") as out:
                out.write(data)
        self.both("create " + new, act)

    def do_write(self, a, b, new, data, offset):
        def act(top):
            with open(os.path.join(top, a), "r+b") as out:
                out.seek(offset)
                out.write(data)
        if a:
            self.both("write " + a, act)

    def do_append(self, a, b, new, data, offset):
        def act(top):
            with open(os.path.join(top, a), "ab") as out:
                out.write(data[:1000])
        if a:
            self.both("append " + a, act)

    def do_mmap(self, a, b, new, data, offset):
        import mmap

        def act(top):
            with open(os.path.join(top, a), "r+b") as out:
                size = os.fstat(out.fileno()).st_size
                if size > 10:
                    with mmap.mmap(out.fileno(), 0) as view:
                        view[size // 2:size // 2 + 3] = b"map"
        if a:
            self.both("mmap " + a, act)

    def do_truncate(self, a, b, new, data, offset):
        if a:
            self.both("truncate " + a, lambda top: os.truncate(os.path.join(top, a), offset))

    def do_punch(self, a, b, new, data, offset):
        if a:
            mode = self.rng.choice([["-p"], ["-z"], []])
            length = self.rng.choice([1, 4096, 50000])
            results = [run("fallocate", *mode, "-o", offset, "-l", length, os.path.join(top, a), ok=False).returncode
                       for top in self.tops]
            if results[0] != results[1]:
                self.mismatches.append("fallocate %s %s %s" % (mode, a, results))

    def do_copy(self, a, b, new, data, offset):
        def act(top):
            with open(os.path.join(top, a), "rb") as source, open(os.path.join(top, new), "xb") as target:
                while os.copy_file_range(source.fileno(), target.fileno(), 1 << 20):
                    pass
        if a:
            self.both("copy %s %s" % (a, new), act)

    def do_mkdir(self, a, b, new, data, offset):
        self.both("mkdir " + new, lambda top: os.mkdir(os.path.join(top, new)))

    def do_rename(self, a, b, new, data, offset):
        target = new if self.rng.random() < 0.6 else self.pick("any")
        if b and target:
            self.both("rename %s %s" % (b, target), lambda top: os.rename(os.path.join(top, b), os.path.join(top, target)))

    def do_unlink(self, a, b, new, data, offset):
        if a:
            self.both("unlink " + a, lambda top: os.unlink(os.path.join(top, a)))

    def do_link(self, a, b, new, data, offset):
        if a:
            self.both("link %s %s" % (a, new), lambda top: os.link(os.path.join(top, a), os.path.join(top, new)))

    def do_symlink(self, a, b, new, data, offset):
        self.both("symlink " + new, lambda top: os.symlink("x" * (offset % 4000 + 1), os.path.join(top, new)))

    def do_fifo(self, a, b, new, data, offset):
        self.both("mkfifo " + new, lambda top: os.mkfifo(os.path.join(top, new), 0o640))

    def do_chmod(self, a, b, new, data, offset):
        if b:
            mode = self.rng.choice([0o600, 0o644, 0o755, 0o4755, 0o2711, 0o1777])
            self.both("chmod " + b, lambda top: os.chmod(os.path.join(top, b), mode))

    def do_chown(self, a, b, new, data, offset):
        if b and os.geteuid() == 0:
            self.both("chown " + b, lambda top: os.chown(os.path.join(top, b), offset % 50, offset % 7))

    def do_xattr(self, a, b, new, data, offset):
        if a:
            key = "user.k%d" % (offset % 5)
            if self.rng.random() < 0.3:
                self.both("removexattr " + a, lambda top: os.removexattr(os.path.join(top, a), key))
            else:
                self.both("setxattr " + a, lambda top: os.setxattr(os.path.join(top, a), key, data[:600]))

    def do_rmtree(self, a, b, new, data, offset):
        d = self.pick("dir")
        if d and self.rng.random() < 0.4:
            self.both("rmtree " + d, lambda top: shutil.rmtree(os.path.join(top, d)))


def level_times(twin):
    """One utime for everything, bottom up, so that only what the test did remains to compare."""
    for top in twin.tops:
        for where, dirs, files in os.walk(top, topdown=False):
            for name in files:
                path = os.path.join(where, name)
                os.utime(path, ns=(10**18, 10**18 + len(name)), follow_symlinks=False)
            os.utime(where, ns=(10**18, 10**18 + 1))


def main():
    need_fuse()
    rng = random.Random(seed())
    base = workdir()
    one = Workspace(base, init=("--compress", rng.choice(["none", "lz4", "zstd:3"]))).mount()
    plain = os.path.join(base, "plain")
    os.mkdir(plain)
    shutil.copystat(one.path, plain)
    copies = {}
    for number in range(ROUNDS):
        twin = Twin(one.path, plain, rng)
        for _ in range(STEPS):
            twin.step()
        check(not twin.mismatches, "round %d: every call answered as on the plain directory" % number, twin.mismatches[:5])
        level_times(twin)
        if not compare(plain, one.path, "round %d: the trees are equal" % number):
            break
        name = "p%d" % number
        one.cairn("freeze", name)
        copies[name] = os.path.join(base, "copy-" + name)
        run("rsync", "-aHAX", plain + "/", copies[name] + "/")
        if rng.random() < 0.3:
            one.remount()
        if rng.random() < 0.4 and len(copies) > 1:
            back = rng.choice(sorted(copies))
            one.cairn("restore", back)
            shutil.rmtree(plain)
            run("rsync", "-aHAX", copies[back] + "/", plain + "/")
            compare(plain, one.path, "round %d: restored to %s" % (number, back))
        if rng.random() < 0.3 and len(copies) > 3:
            gone = rng.choice(sorted(copies))
            one.cairn("delete", gone)
            shutil.rmtree(copies.pop(gone))
        if rng.random() < 0.4:
            one.cairn("gc")
        for each in rng.sample(sorted(copies), min(2, len(copies))):
            compare(copies[each], one.p(".snapshots", each), "round %d: %s is what it was" % (number, each))
    for each in sorted(copies):
        compare(copies[each], one.p(".snapshots", each), "%s is what it was" % each)
    one.umount()
    one.check_store()
    finish()


main()
