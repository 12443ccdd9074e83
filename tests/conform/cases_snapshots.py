"""Points below `.snapshots`: readable as ever, and EROFS for whoever would change them."""
import contextlib
import errno
import os
import stat
import subprocess

import calls
from conform import (as_user, case, expect, expect_equal, expect_errno, mount_root, opened, read_file, skip,
                     write_file)

CAIRN = os.environ.get("CAIRN", "cairn")
ALL = ["c", "empty", "f", "full", "hard", "l", "p"]
FIELDS = ("st_mode", "st_uid", "st_gid", "st_size", "st_nlink", "st_mtime_ns", "st_ctime_ns", "st_rdev")


@contextlib.contextmanager
def point(name):
    """Freezes the mount; gives the path of the current directory in that point."""
    def cairn(*arguments):
        done = subprocess.run([CAIRN, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False, timeout=30)
        if done.returncode:
            skip("cairn %s: %s" % (arguments[0], done.stdout.decode(errors="replace").strip()))
    root = mount_root()
    cairn("freeze", name)
    try:
        yield os.path.join(root, ".snapshots", name, os.path.relpath(os.getcwd(), root))
    finally:
        cairn("delete", name)


def make_tree():
    os.makedirs("d/full")
    os.mkdir("d/empty")
    write_file("d/f", b"contents\n")
    write_file("d/full/g", b"more")
    os.chmod("d/f", 0o666)
    os.chmod("d/empty", 0o777)
    os.setxattr("d/f", "user.a", b"value")
    os.symlink("f", "d/l")
    os.mkfifo("d/p", 0o666)
    calls.mknod("d/c", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    calls.link("d/f", "d/hard")
    write_file("live")


@case("snapshots", "every call that would change something is EROFS", where="cairn")
def read_only():
    make_tree()
    with point("conform-readonly") as path:
        def p(name):
            return os.path.join(path, "d", name)

        new = p("new")
        calls_that_change = (
            (os.mkdir, new), (os.mkdir, p("empty/new")), (os.symlink, "x", new), (os.mkfifo, new),
            (calls.mknod, new, stat.S_IFREG | 0o644), (calls.mknod, new, stat.S_IFCHR | 0o644, os.makedev(1, 3)),
            (os.open, new, os.O_CREAT | os.O_RDWR), (os.open, new, os.O_CREAT | os.O_RDONLY),
            (os.open, new, os.O_CREAT | os.O_EXCL | os.O_WRONLY), (os.open, p("f"), os.O_WRONLY),
            (os.open, p("f"), os.O_RDWR), (os.open, p("f"), os.O_WRONLY | os.O_TRUNC),
            (os.open, p("f"), os.O_RDWR | os.O_CREAT), (os.open, p("f"), os.O_WRONLY | os.O_APPEND),
            (os.open, p("l"), os.O_RDWR), (os.open, p("empty"), os.O_TMPFILE | os.O_RDWR),
            (calls.link, p("f"), new), (calls.link, p("c"), new), (os.unlink, p("f")), (os.unlink, p("l")),
            (os.unlink, p("p")), (os.unlink, p("c")), (os.rmdir, p("empty")), (os.rmdir, p("full")),
            (os.rename, p("f"), new), (os.rename, p("f"), p("l")), (os.rename, p("full"), p("empty")),
            (os.rename, p("f"), p("full/new")), (calls.renameat2, p("f"), p("l"), calls.RENAME_EXCHANGE),
            (calls.renameat2, p("f"), new, calls.RENAME_NOREPLACE), (os.truncate, p("f"), 0),
            (os.truncate, p("f"), 1 << 20), (os.chmod, p("f"), 0o600), (os.chmod, p("full"), 0o600),
            (os.chown, p("f"), 1, 1), (os.lchown, p("l"), 1, 1), (os.chown, p("f"), -1, -1), (os.utime, p("f")),
            (os.utime, p("f"), (1, 1)), (os.utime, p("full"), (1, 1)),
            (calls.utimensat, p("l"), ((1, 0), (1, 0)), calls.AT_SYMLINK_NOFOLLOW),
            (os.setxattr, p("f"), "user.b", b"x"), (os.setxattr, p("f"), "user.a", b"x"),
            (os.setxattr, p("f"), "trusted.b", b"x"), (os.removexattr, p("f"), "user.a"),
            (os.removexattr, p("f"), "user.none"),
            (os.setxattr, p("f"), "system.posix_acl_access",
             bytes.fromhex("0200000001000600ffffffff04000400ffffffff20000400ffffffff")),
        )
        for number, (function, *arguments) in enumerate(calls_that_change):
            try:
                expect_errno(errno.EROFS, function, *arguments)
            except Exception as error:
                raise type(error)("call %d: %s" % (number, error)) from None
        expect_equal(read_file(p("f")), b"contents\n", "the contents")
        expect_equal(sorted(os.listdir(os.path.join(path, "d"))), ALL, "the names")


@case("snapshots", "between a point and the live tree: EROFS into it, EXDEV or EROFS out of it", where="cairn")
def across():
    make_tree()
    with point("conform-across") as path:
        frozen = os.path.join(path, "d/f")
        expect_errno((errno.EROFS, errno.EXDEV), os.rename, frozen, "d/new")
        expect_errno((errno.EROFS, errno.EXDEV), os.rename, "live", os.path.join(path, "d/new"))
        expect_errno((errno.EROFS, errno.EXDEV), os.rename, "live", frozen)
        expect_errno((errno.EROFS, errno.EXDEV), os.rename, "d", os.path.join(path, "d/new"))
        expect_errno((errno.EROFS, errno.EXDEV), calls.renameat2, "live", frozen, calls.RENAME_EXCHANGE)
        expect_errno((errno.EROFS, errno.EXDEV), calls.renameat2, frozen, "live", calls.RENAME_EXCHANGE)
        expect_errno(errno.EXDEV, calls.link, frozen, "d/new")
        expect_errno((errno.EROFS, errno.EXDEV), calls.link, "live", os.path.join(path, "d/new"))
        expect_equal(sorted(os.listdir("d")), ALL, "the live names")
        with opened(frozen, os.O_RDONLY) as source, opened("copy", os.O_CREAT | os.O_RDWR) as target:
            expect_equal(calls.copy_file_range(source, 0, target, 0, 100), 9, "bytes copied out of the point")
        expect_equal(read_file("copy"), b"contents\n", "the copy")


@case("snapshots", "names that are there are EEXIST, ordinary users get EACCES first", where="cairn")
def other_errors():
    make_tree()
    with point("conform-errors") as path:
        expect_errno(errno.EEXIST, os.mkdir, os.path.join(path, "d/full"))
        expect_errno(errno.EEXIST, os.symlink, "x", os.path.join(path, "d/l"))
        expect_errno(errno.EEXIST, calls.link, os.path.join(path, "d/f"), os.path.join(path, "d/hard"))
        expect_errno(errno.EEXIST, os.open, os.path.join(path, "d/f"), os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        expect_errno(errno.ENOENT, os.unlink, os.path.join(path, "d/none"))
        expect_errno(errno.ENOENT, os.open, os.path.join(path, "d/none"), os.O_RDWR)
        expect_errno(errno.ENOTDIR, os.open, os.path.join(path, "d/f/x"), os.O_RDONLY)
        expect_errno(errno.ENAMETOOLONG, os.stat, os.path.join(path, "n" * 256))
        expect_errno(errno.EISDIR, os.open, os.path.join(path, "d"), os.O_RDWR)
        with as_user(1000):
            expect_errno((errno.EACCES, errno.EROFS), os.mkdir, os.path.join(path, "d/new"))
            expect_errno((errno.EACCES, errno.EROFS), os.unlink, os.path.join(path, "d/f"))
            expect_errno(errno.EROFS, os.mkdir, os.path.join(path, "d/empty/new"))
            expect_errno((errno.EPERM, errno.EROFS), os.chmod, os.path.join(path, "d/f"), 0o600)


@case("snapshots", "a point shows every type, attribute and name as it was, with numbers of its own", where="cairn")
def attributes():
    make_tree()
    with point("conform-attributes") as path:
        live, frozen = os.path.abspath("d"), os.path.join(path, "d")
        for name in ("", "f", "l", "p", "c", "empty", "full", "full/g"):
            one, other = os.lstat(os.path.join(live, name)), os.lstat(os.path.join(frozen, name))
            for field in FIELDS:
                expect_equal(getattr(other, field), getattr(one, field), "%s of %r" % (field, name))
            expect(other.st_ino != one.st_ino, "another number for %r" % name)
        expect(os.path.samefile(os.path.join(frozen, "f"), os.path.join(frozen, "hard")), "hard links stay links")
        expect_equal(os.readlink(os.path.join(frozen, "l")), "f", "the target of a link")
        expect_equal(os.getxattr(os.path.join(frozen, "f"), "user.a"), b"value", "an extended attribute")
        os.unlink("d/f")
        os.rename("d/full", "d/moved")
        write_file("d/hard", b"changed")
        expect_equal(read_file(os.path.join(frozen, "f")), b"contents\n", "the contents after the live file went")
        expect_equal(read_file(os.path.join(frozen, "full/g")), b"more", "a name after the live directory was renamed")
        expect_equal(read_file(os.path.join(frozen, "hard")), b"contents\n", "the contents after the live file changed")
        with opened(frozen, os.O_RDONLY) as fd:
            for entry in calls.getdents(fd):
                status = os.lstat(os.path.join(os.fsencode(frozen), entry.name))
                expect_equal((entry.ino, entry.kind), (status.st_ino, status.st_mode >> 12),
                             "number and type of %r" % entry.name)
        expect(os.path.samefile(os.path.join(frozen, "full/../.."), path), "dot-dot")


@case("snapshots", "the directory of the points cannot be changed, and is not listed", where="cairn")
def directory_of_points():
    root = mount_root()
    here = os.path.join(root, ".snapshots")
    write_file("f")
    os.mkdir("d")
    with point("conform-directory"):
        name = os.path.join(here, "conform-directory")
        expect(".snapshots" not in os.listdir(root), "it is not listed")
        expect("conform-directory" in os.listdir(here), "it lists the point")
        with opened(here, os.O_RDONLY) as fd:
            for entry in calls.getdents(fd):
                if entry.name != b"..":
                    status = os.lstat(os.path.join(os.fsencode(here), entry.name))
                    expect_equal((entry.ino, entry.kind), (status.st_ino, 4), "number and type of %r" % entry.name)
        expect(os.path.samefile(here + "/..", root), "its dot-dot is the root")
        expect(os.path.samefile(name + "/..", here), "a point's dot-dot is the directory of the points")
        new = os.path.join(here, "new")
        for number, (function, *arguments) in enumerate((
                (os.mkdir, new), (os.symlink, "x", new), (os.mkfifo, new), (calls.link, "f", new),
                (os.open, new, os.O_CREAT | os.O_WRONLY), (os.open, here, os.O_TMPFILE | os.O_RDWR), (os.rmdir, name),
                (os.rename, name, new), (os.rename, "f", new), (os.rename, "d", new), (os.rename, name, "e"),
                (os.chmod, here, 0o700), (os.chown, here, 1, 1), (os.utime, here), (os.rmdir, here),
                (os.rename, here, "e"), (os.rename, "d", here), (os.setxattr, here, "user.a", b"x"))):
            try:
                expect_errno((errno.EROFS, errno.EXDEV), function, *arguments)
            except Exception as error:
                raise type(error)("call %d: %s" % (number, error)) from None
        for function, *arguments in ((os.mkdir, here), (os.symlink, "x", here), (calls.link, "f", here),
                                     (os.mkdir, name), (calls.renameat2, "f", here, calls.RENAME_NOREPLACE)):
            expect_errno(errno.EEXIST, function, *arguments)
        expect_errno((errno.EISDIR, errno.EROFS), os.unlink, here)
        expect_errno((errno.EISDIR, errno.EROFS), os.rename, "f", here)
        expect_errno(errno.ENOENT, os.stat, new)
        os.mkdir(".snapshots")
        os.rmdir(".snapshots")
