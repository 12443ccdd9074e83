"""Directories to measure side by side: ext4, libfuse's passthrough example and a workspace of cairn, all on one
fresh ext4 image, so that none has a better disk than another."""
import os
import shutil
import subprocess

CAIRN = os.environ.get("CAIRN", "cairn")
EXAMPLE = "/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c"


def run(*argv, **more):
    done = subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, **more)
    if done.returncode:
        raise RuntimeError("%s: %s" % (" ".join(map(str, argv)), done.stderr.strip()))
    return done.stdout


class Place:
    """One directory.  `cold` makes the kernel forget what it knows of it, as far as that is possible."""

    def __init__(self, label, path):
        self.label, self.path = label, path

    def p(self, *parts):
        return os.path.join(self.path, *parts)

    def stored(self):
        """Bytes that the directory's contents take on the disk; None: not measured."""
        return None

    def at_rest(self):
        pass

    def end(self):
        pass


class Passthrough(Place):
    def __init__(self, base, path):
        super().__init__("passthrough_ll", path)
        program, source = os.path.join(base, "passthrough_ll"), os.path.join(base, "image", "passthrough")
        if not os.path.exists(EXAMPLE):
            raise RuntimeError("%s is not there (package libfuse3-dev)" % EXAMPLE)
        flags = run("pkg-config", "--cflags", "--libs", "fuse3").split()
        run("cc", "-O2", "-o", program, EXAMPLE, *flags)
        os.mkdir(source)
        os.mkdir(path)
        run(program, "-o", "source=%s,writeback,cache=always" % source, path)

    def end(self):
        run("umount", self.path)


class Cairn(Place):
    def __init__(self, base, path, label="cairn", options=()):
        super().__init__(label, path)
        self.store = os.path.join(base, "image", label + ".store")
        os.mkdir(path)
        run(CAIRN, "init", self.store)
        run(CAIRN, "-s", self.store, "mount", path, *options)

    def stored(self):
        run(CAIRN, "-s", self.store, "wait-durable")
        return sum(os.lstat(os.path.join(top, name)).st_blocks * 512
                   for top, _, names in os.walk(self.store) for name in names if name not in ("ballast", "redo"))

    def at_rest(self):
        run(CAIRN, "-s", self.store, "gc", "--compact")

    def end(self):
        run(CAIRN, "-s", self.store, "umount", self.path)


class Image:
    """A sparse file with ext4 on it, mounted; removed at the end."""

    def __init__(self, base, gib):
        self.base, self.path, self.file = base, os.path.join(base, "image"), os.path.join(base, "image.ext4")
        with open(self.file, "wb") as file:
            file.truncate(gib << 30)
        run("mkfs.ext4", "-q", "-F", self.file)
        os.mkdir(self.path)
        run("mount", "-o", "loop", self.file, self.path)

    def end(self):
        run("umount", self.path)
        os.unlink(self.file)


def ordinary(base):
    """Without root: no image and nothing cold, but the same workloads."""
    os.mkdir(os.path.join(base, "image"))


def make(base, gib, others):
    """(places, what ends them), those that cannot be had left out and told."""
    places, ends, told = [], [], []
    if os.geteuid() == 0:
        image = Image(base, gib)
        ends.append(image.end)
    else:
        ordinary(base)
        told.append("not root: no fresh file system, and nothing is cold")
    plain = os.path.join(base, "image", "plain")
    os.mkdir(plain)
    places.append(Place("ext4" if os.geteuid() == 0 else "plain", plain))
    try:
        places.append(Passthrough(base, os.path.join(base, "passthrough")))
    except RuntimeError as error:
        told.append("without passthrough_ll: %s" % error)
    places.append(Cairn(base, os.path.join(base, "cairn")))
    for label, path in others:
        directory = os.path.join(path, "cairn-speed.%d" % os.getpid())
        os.mkdir(directory)
        place = Place(label, directory)
        ends.append(lambda directory=directory: shutil.rmtree(directory))
        places.append(place)
    return places, [place.end for place in places] + ends[::-1], told
