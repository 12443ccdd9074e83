#!/usr/bin/env python3
"""Attributes that must outlive a mount: every kind of file, times, owners, xattrs, ACLs, numbers and file handles;
access times as mounted; the numbers of files in points."""
import errno
import os
import stat
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, os.pardir, "conform"))
import calls  # noqa: E402
from harness import Workspace, check, finish, need_fuse, need_root, run, workdir  # noqa: E402

NAMES = (".", "file", "inline", "sparse", "directory", "link", "fifo", "socket", "character", "block", "hard", "suid")


def born(path):
    full = calls.statx(path, calls.AT_SYMLINK_NOFOLLOW)
    return full.btime if full.mask & calls.STATX_BTIME else None


def picture(path):
    """Everything that can be asked about a file, but st_dev."""
    status = os.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    return {
        "stat": (status.st_mode, status.st_ino, status.st_nlink, status.st_uid, status.st_gid, status.st_rdev,
                 status.st_size, status.st_blocks, status.st_blksize),
        "times": (status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns, born(path)),
        "xattrs": {name: os.getxattr(path, name, follow_symlinks=False)
                   for name in os.listxattr(path, follow_symlinks=False)},
        "target": os.readlink(path) if kind == stat.S_IFLNK else None,
    }


def make(ws):
    with open(ws.p("file"), "wb") as out:
        out.write(os.urandom(300000))
    with open(ws.p("inline"), "wb") as out:
        out.write(b"short")
    with open(ws.p("sparse"), "wb") as out:
        out.truncate(1 << 40)
        out.seek(1 << 30)
        out.write(os.urandom(65536))
    os.mkdir(ws.p("directory"))
    os.mkdir(ws.p("directory", "inner"))
    os.symlink("some/where", ws.p("link"))
    os.mkfifo(ws.p("fifo"))
    calls.mknod(ws.p("socket"), stat.S_IFSOCK | 0o600)
    calls.mknod(ws.p("character"), stat.S_IFCHR | 0o620, os.makedev(4, 64))
    calls.mknod(ws.p("block"), stat.S_IFBLK | 0o660, os.makedev(259, 1048575))
    os.link(ws.p("file"), ws.p("hard"))
    with open(ws.p("suid"), "wb") as out:
        out.write(b"x")
    os.chmod(ws.p("suid"), 0o7755)
    os.chmod(ws.p("directory"), 0o3775)
    for number, name in enumerate(NAMES):
        path = ws.p(name)
        calls.setxattr(path, "trusted.%s" % name, name.encode() * 400)
        if name == ".":
            continue
        if name != "suid":
            os.chown(path, 70000 + number, 4294967290 - number, follow_symlinks=False)
        # A link is read in order to compare it, which moves an access time, but not from the future.
        accessed = 9 * 10**18 if name == "link" else -10**18
        os.utime(path, ns=(accessed - number, 9 * 10**18 + 123456789 + number), follow_symlinks=False)
    calls.setxattr(ws.p("suid"), "security.capability", bytes.fromhex("0100000202040000000000000000000000000000"))
    run("setfacl", "-m", "u:1001:rwx,d:u:1002:rx", ws.p("directory"))
    run("setfacl", "-m", "u:1001:rwx", ws.p("inline"))
    calls.setxattr(ws.path, "user.root", b"of the workspace")
    run("setfacl", "-m", "u:1001:rwx,d:u:1001:rwx", ws.path)


def same(ws, before, what):
    for name in NAMES:
        after = picture(ws.p(name))
        differing = {key: (before[name][key], after[key]) for key in after if after[key] != before[name][key]}
        check(not differing, "%s: '%s' has every attribute that it had" % (what, name), differing)


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as control:
        control.write("3")


def over_remount(ws):
    make(ws)
    drop_caches()
    before = {name: picture(ws.p(name)) for name in NAMES}
    check(all(picture["times"][3] for picture in before.values()), "each has a birth time")
    ws.remount()
    same(ws, before, "after a remount")
    ws.cairn("freeze", "attributes")
    for name in NAMES[1:]:  # the root's times show the freeze
        inside = picture(ws.p(".snapshots", "attributes", name))
        live = before[name]
        check(inside["stat"][1] != live["stat"][1], "'%s' in the point has another number" % name)
        check(inside["stat"][0] == live["stat"][0] and inside["stat"][2:] == live["stat"][2:] and
              inside["times"] == live["times"] and inside["xattrs"] == live["xattrs"] and
              inside["target"] == live["target"], "'%s' in the point is alike otherwise" % name, (inside, live))
    for name in NAMES:
        os.chown(ws.p(name), 1, 1, follow_symlinks=False)
        os.utime(ws.p(name), follow_symlinks=False)
        os.removexattr(ws.p(name), "trusted." + name, follow_symlinks=False)
    run("setfacl", "-b", ws.p("inline"), ws.p("directory"))
    run("setfacl", "-m", "u:1001:r", ws.p("fifo"))
    run("setfacl", "-x", "u:1001", ws.path)
    ws.cairn("restore", "attributes")
    same(ws, before, "after a restore")
    for path in (".snapshots", ".snapshots/attributes", ".snapshots/attributes/directory"):
        status, full = os.stat(ws.p(path)), calls.statx(ws.p(path))
        check((full.mode, full.ino, full.mtime[0]) == (status.st_mode, status.st_ino, status.st_mtime_ns // 10**9),
              "statx of '%s' agrees with stat" % path)
    one, two = (os.lstat(ws.p(".snapshots", "attributes", name)) for name in ("file", "hard"))
    check(one.st_ino == two.st_ino and one.st_nlink == 2, "hard links in a point have one number")


def error_of(call, *arguments, **more):
    try:
        call(*arguments, **more)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "success"


def points_are_read_only(ws):
    path = ws.p(".snapshots", "attributes", "file")
    for place in (path, ws.p(".snapshots", "attributes"), ws.p(".snapshots")):
        for call, arguments in ((os.chmod, (0o777,)), (os.chown, (5, 5)), (os.utime, ()),
                                (calls.setxattr, ("user.a", b"b")), (os.removexattr, ("trusted.file",)),
                                (calls.utimensat, (((1, 1), (2, 2)),))):
            error = error_of(call, place, *arguments)
            check(error == "EROFS", "%s of '%s' is EROFS" % (call.__name__, place[len(ws.path):]), error)
    check(error_of(os.truncate, path, 1) == "EROFS", "truncate of a file in a point is EROFS")
    check(os.getxattr(path, "trusted.file") == b"file" * 400, "reading attributes works")


def clamped(ws):
    """Linux keeps the mtime of an open-ended range in its own memory: what counts is what is stored."""
    calls.utimensat(ws.p("file"), ((0, 0), (99999999999, 5)))
    ws.remount()
    check(os.stat(ws.p("file")).st_mtime_ns == 15032385535 * 10**9, "a time beyond 2446 is stored as the last",
          os.stat(ws.p("file")).st_mtime_ns)


def by_handle(ws, handle, flags=os.O_RDONLY):
    """st_ino, or the error."""
    mount = os.open(ws.path, os.O_RDONLY)
    try:
        fd = calls.open_by_handle_at(mount, handle, flags)
        number = os.fstat(fd).st_ino
        os.close(fd)
        return number
    except OSError as error:
        return errno.errorcode[error.errno]
    finally:
        os.close(mount)


def handles(ws):
    os.makedirs(ws.p("h/deep/er"))
    for name in ("h/keep", "h/lose", "h/deep/er/inside"):
        with open(ws.p(name), "w") as out:
            out.write(name)
    paths = ("h", "h/deep", "h/deep/er", "h/keep", "h/lose", "h/deep/er/inside")
    before = {path: calls.name_to_handle_at(ws.p(path))[1] for path in paths}
    ws.remount()
    after = {path: calls.name_to_handle_at(ws.p(path))[1] for path in paths}
    check(before == after, "file handles are the same after a remount")
    ws.remount()
    for path in paths:
        check(by_handle(ws, before[path]) == os.stat(ws.p(path)).st_ino,
              "'%s' opens by its handle right after a remount" % path, by_handle(ws, before[path]))
    os.unlink(ws.p("h/lose"))
    ws.remount()
    with open(ws.p("h/new"), "w"):
        pass
    check(by_handle(ws, before["h/lose"]) == "ESTALE", "the handle of a file that is gone is ESTALE",
          by_handle(ws, before["h/lose"]))
    check(os.stat(ws.p("h/new")).st_ino not in [os.stat(ws.p(p)).st_ino for p in paths if p != "h/lose"],
          "no number is used twice")
    ws.cairn("freeze", "handles")
    inside = calls.name_to_handle_at(ws.p(".snapshots/handles/h/keep"))[1]
    check(inside != before["h/keep"], "a file in a point has another handle")
    drop_caches()
    check(by_handle(ws, inside) == os.stat(ws.p(".snapshots/handles/h/keep")).st_ino, "and opens by it")
    for path in (".snapshots", ".snapshots/handles", ".snapshots/handles/h/deep"):
        # Only while Linux knows .snapshots: it finds a directory's place by listing, and that is not listed.
        handle = calls.name_to_handle_at(ws.p(path))[1]
        check(by_handle(ws, handle) == os.stat(ws.p(path)).st_ino, "'%s' opens by its handle" % path,
              by_handle(ws, handle))
    check(by_handle(ws, inside, os.O_RDWR) == "EROFS", "but not for writing", by_handle(ws, inside, os.O_RDWR))


def access_times(ws):
    paths = [ws.p("a"), ws.p("d"), ws.p("l")]
    with open(paths[0], "wb") as out:
        out.write(os.urandom(100000))
    os.mkdir(paths[1])
    os.symlink("a", paths[2])

    def old():
        for path in paths:
            os.utime(path, ns=(10**18, os.lstat(path).st_mtime_ns), follow_symlinks=False)

    def read():
        time.sleep(0.02)
        with open(paths[0], "rb") as file:
            file.read()
        os.listdir(paths[1])
        os.readlink(paths[2])
        return [os.lstat(path).st_atime_ns for path in paths]

    old()
    ws.cairn("freeze", "unread")
    moved = read()
    check(min(moved) > 10**18, "reading moves access times", moved)
    made = ws.json("freeze", "reread", "--if-changed")
    check(made["name"] == "unread", "reading is not a change to be frozen", made)
    ws.remount()
    check([os.lstat(path).st_atime_ns for path in paths] == [10**18] * 3, "reading alone is not stored")
    made = ws.json("freeze", "remounted", "--if-changed")
    check(made["name"] == "unread", "and not a change after a remount", made)
    moved = read()
    with open(ws.p("another"), "w") as out:
        out.write("change")
    ws.remount()
    check([os.lstat(path).st_atime_ns for path in paths] == moved, "beside a change it outlives the mount")
    check(read() == moved, "reading again soon leaves them")
    inside = ws.p(".snapshots/unread/a")
    before = os.lstat(inside).st_atime_ns
    with open(inside, "rb") as file:
        file.read()
    drop_caches()
    check(os.lstat(inside).st_atime_ns == before == 10**18, "in a point they never move")
    for options in ("noatime", "ro"):
        old() if options == "noatime" else None
        ws.umount()
        ws.options = options
        ws.mount()
        before = [os.lstat(path).st_atime_ns for path in paths]
        check(read() == before, "mounted with %s, reading leaves them" % options)
    ws.umount()
    ws.options = None
    ws.mount()


def without_xattrs(ws):
    path = ws.p("with-attributes")
    open(path, "w").close()
    os.setxattr(path, "user.word", b"kept")
    ws.umount()
    ws.options = "noxattr"
    ws.mount()
    refused = errno.EOPNOTSUPP
    for what, act in (
        ("read", lambda: os.getxattr(path, "user.word")),
        ("listed", lambda: os.listxattr(path)),
        ("set", lambda: os.setxattr(path, "user.other", b"x")),
        ("removed", lambda: os.removexattr(path, "user.word")),
    ):
        for again in ("", ", nor the second time"):
            try:
                act()
                error = 0
            except OSError as failed:
                error = failed.errno
            check(error == refused, "with noxattr no attribute can be %s%s" % (what, again), error)
    with open(path, "a") as file:
        file.write("text")
    os.chown(path, 1, 1)
    os.chmod(path, 0o640)
    now = os.lstat(path)
    check((now.st_size, now.st_uid, now.st_mode & 0o7777) == (4, 1, 0o640), "all else goes on with noxattr", now)
    ws.umount()
    ws.options = None
    ws.mount()
    names = os.listxattr(path)
    check("user.word" in names and os.getxattr(path, "user.word") == b"kept", "without noxattr they are there again", names)
    check("user.other" not in names, "and nothing else came", names)


def main():
    need_fuse()
    need_root()
    ws = Workspace(workdir()).mount()
    over_remount(ws)
    points_are_read_only(ws)
    clamped(ws)
    handles(ws)
    access_times(ws)
    without_xattrs(ws)
    ws.umount()
    ws.check_store()
    finish()


main()
