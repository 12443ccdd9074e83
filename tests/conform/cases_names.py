"""Names: what a table cannot say.  Bytes, limits, descriptors of directories, O_TMPFILE, unlinked files, races."""
import ctypes
import errno
import mmap
import os
import socket
import stat
import time

import calls
from conform import (as_user, case, expect, expect_equal, expect_errno, opened, read_file, skip, tick, write_file)

FIRST = b"the first contents\n"


# Bytes.

@case("names", "every byte but / and NUL is a name, and is listed as it is")
def every_byte():
    names = {bytes([byte]) for byte in range(1, 256) if byte not in b"/."}
    for name in names:
        write_file(name, name)
    expect_equal(set(os.listdir(b".")), names, "the listing")
    for name in names:
        expect_equal(read_file(name), name, "the contents of %r" % name)
        os.unlink(name)
    expect_equal(os.listdir(b"."), [], "the listing after all")


@case("names", "names that are no UTF-8, names with newlines, names that differ in composition")
def odd_names():
    names = [b"\xff\xfe", b"\xc3\x28", b"caf\xe9", b"a\nb", b"\n", b"\r", b"\x1b[31m", b"\xc0\xae\xc0\xae",
             b"\xed\xa0\x80", "é".encode(), "e\u0301".encode(), "Ａ".encode(), b"A", b"a", "ß".encode(), b"ss",
             b"\xe2\x80\x8b", b"x\xe2\x80\x8b", b"x", b"con", b"aux.", b"a.", b"a ", b"a:b", b"a\\b", "\U0001f600".encode() * 63]
    for number, name in enumerate(names):
        write_file(name, b"%d" % number)
    expect_equal(sorted(os.listdir(b".")), sorted(names), "the listing")
    for number, name in enumerate(names):
        expect_equal(read_file(name), b"%d" % number, "the contents of %r" % name)
        os.rename(name, b"moved" + name[:200])
        os.symlink(name, name)
        expect_equal(os.readlink(name), name, "the target of a link called so")
        os.unlink(name)
        os.mkdir(name)
        os.rmdir(name)


@case("names", "names of 255 bytes of any kind")
def long_names():
    names = [bytes([first]) + bytes(((first * step) % 255) + 1 for step in range(254)).replace(b"/", b"_")
             for first in (1, 7, 128, 255)]
    for name in names:
        expect_equal(len(name), 255, "the length")
        os.mkdir(name)
        write_file(name + b"/" + name, name)
        expect_errno(errno.ENAMETOOLONG, os.mkdir, name + b"x")
    expect_equal(sorted(os.listdir(b".")), sorted(names), "the listing")
    for name in names:
        expect_equal(read_file(name + b"/" + name), name, "the contents")


@case("names", "300 directories deep, which no path can name in one go")
def deep():
    name = "n" * 50
    at = os.open(".", os.O_RDONLY)
    for _ in range(300):
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)
        os.close(at)
        at = below
    start = os.getcwd()
    os.fchdir(at)
    write_file("f", FIRST)
    expect_equal(read_file("../" + name + "/f"), FIRST, "the contents")
    expect(os.getcwd() == start + ("/" + name) * 300, "getcwd tells all of it")
    expect_errno(errno.ENAMETOOLONG, os.stat, os.getcwd())
    os.unlink("f")
    for _ in range(300):
        os.chdir("..")
        os.rmdir(name)
    os.close(at)
    expect(os.path.samefile(".", start), "300 times .. leads back")


@case("names", "addresses that cannot be read are EFAULT")
def bad_address():
    libc = ctypes.CDLL(None, use_errno=True)
    write_file("f")
    bad, good = ctypes.c_void_p(1), ctypes.c_char_p(b"f")
    new = ctypes.c_char_p(b"n")

    def call(function, *arguments):
        if getattr(libc, function)(*arguments) == -1:
            raise OSError(ctypes.get_errno(), function)

    for function, *arguments in (("mkdir", bad, 0o755), ("rmdir", bad), ("unlink", bad), ("mkfifo", bad, 0o644),
                                 ("mknod", bad, 0o644, 0), ("open", bad, 0), ("open", bad, os.O_CREAT, 0o644),
                                 ("link", bad, new), ("link", good, bad), ("symlink", bad, new), ("symlink", new, bad),
                                 ("rename", bad, new), ("rename", good, bad), ("readlink", bad, new, 1),
                                 ("chdir", bad), ("access", bad, 0), ("chmod", bad, 0o644), ("truncate", bad, 0)):
        expect_errno(errno.EFAULT, call, function, *arguments)
    os.symlink("x", "l")
    expect_errno(errno.EFAULT, call, "readlink", ctypes.c_char_p(b"l"), bad, ctypes.c_size_t(10))


@case("names", "readlink fills no more than the buffer and writes no NUL")
def short_readlink():
    libc = ctypes.CDLL(None, use_errno=True)
    os.symlink("0123456789", "l")
    buffer = ctypes.create_string_buffer(b"x" * 20)
    expect_equal(libc.readlink(b"l", buffer, ctypes.c_size_t(4)), 4, "the result")
    expect_equal(buffer.raw[:6], b"0123xx", "the buffer")
    expect_equal(libc.readlink(b"l", buffer, ctypes.c_size_t(20)), 10, "the result")
    expect_equal(buffer.raw[:12], b"0123456789xx", "the buffer")


# Links.

@case("link", "by AT_EMPTY_PATH from a descriptor")
def link_empty_path():
    write_file("f", FIRST)
    with opened("f", os.O_RDONLY) as fd:
        calls.link("", "g", calls.AT_EMPTY_PATH, old_fd=fd)
        expect_equal(os.fstat(fd).st_nlink, 2, "st_nlink")
        os.unlink("f")
        calls.link("", "h", calls.AT_EMPTY_PATH, old_fd=fd)
        expect_errno(errno.ENOENT, calls.link, "", "i", 0, fd)
    expect_equal(read_file("h"), FIRST, "the contents")
    expect_errno(errno.EINVAL, calls.link, "h", "i", 0x8000)


@case("link", "another's file, as fs.protected_hardlinks says")
def protected_hardlinks():
    protected = read_file("/proc/sys/fs/protected_hardlinks").strip() != b"0"
    os.chmod(".", 0o777)
    for name, mode in (("f", 0o644), ("g", 0o4777)):
        write_file(name)
        os.chmod(name, mode)
        with as_user(1000):
            if protected:
                expect_errno(errno.EPERM, calls.link, name, name + "2")
            else:
                calls.link(name, name + "2")


# Descriptors of directories.

@case("at", "calls relative to a directory that was renamed and that the caller cannot reach by name")
def relative():
    os.makedirs("a/b")
    at = os.open("a/b", os.O_RDONLY | os.O_DIRECTORY)
    os.rename("a/b", "c")
    os.rename("a", "c/a")
    os.mkdir("d", dir_fd=at)
    write_file("c/f", FIRST)
    with opened("f", os.O_RDONLY, dir_fd=at) as fd:
        expect_equal(os.read(fd, 100), FIRST, "the contents")
    calls.mknod("p", stat.S_IFIFO | 0o644, dir_fd=at)
    os.symlink("f", "l", dir_fd=at)
    calls.link("f", "g", old_fd=at, new_fd=at)
    calls.renameat2("g", "h", 0, at, at)
    expect_equal(sorted(os.listdir(at)), ["a", "d", "f", "h", "l", "p"], "the listing")
    expect_errno(errno.EISDIR, calls.unlinkat, "d", 0, at)
    expect_errno(errno.ENOTDIR, calls.unlinkat, "f", calls.AT_REMOVEDIR, at)
    expect_errno(errno.EINVAL, calls.unlinkat, "f", 0x8000, at)
    calls.unlinkat("d", calls.AT_REMOVEDIR, at)
    for name in "fhlp":
        calls.unlinkat(name, 0, at)
    expect_equal(os.listdir("c"), ["a"], "the listing")
    os.close(at)


@case("at", "a descriptor that is no directory, or none at all")
def relative_to_nothing():
    write_file("f")
    with opened("f", os.O_RDONLY) as fd:
        for function in (lambda: os.mkdir("x", dir_fd=fd), lambda: os.open("x", os.O_RDONLY, dir_fd=fd),
                         lambda: os.symlink("x", "y", dir_fd=fd), lambda: calls.unlinkat("x", 0, fd),
                         lambda: calls.renameat2("x", "y", 0, fd, fd), lambda: calls.link("x", "y", 0, fd, fd)):
            expect_errno(errno.ENOTDIR, function)
        here = os.path.abspath("f")
        expect_equal(os.stat(here, dir_fd=fd).st_size, 0, "an absolute path does not look at the descriptor")
    expect_errno(errno.EBADF, lambda: os.mkdir("x", dir_fd=fd))
    expect_errno(errno.EBADF, lambda: calls.renameat2("f", "y", 0, fd, fd))


@case("at", "O_PATH descriptors name files and do nothing else")
def path_descriptors():
    os.mkdir("d")
    write_file("d/f", FIRST)
    os.chmod("d/f", 0)
    os.symlink("f", "d/l")
    with opened("d/f", os.O_PATH) as fd, opened("d", os.O_PATH) as at, \
            opened("d/l", os.O_PATH | os.O_NOFOLLOW) as link:
        expect_equal(os.fstat(fd).st_size, len(FIRST), "fstat")
        expect_errno(errno.EBADF, os.read, fd, 1)
        expect_errno(errno.EBADF, os.write, fd, b"x")
        expect_errno(errno.EBADF, os.fchmod, fd, 0o644)
        expect_errno(errno.EBADF, os.ftruncate, fd, 0)
        expect_errno(errno.EBADF, mmap.mmap, fd, 1, prot=mmap.PROT_READ)
        expect_errno(errno.EBADF, calls.getdents, at)
        expect_equal(os.readlink("", dir_fd=link), "f", "readlinkat of the link itself")
        expect(stat.S_ISLNK(os.fstat(link).st_mode), "fstat of the link itself")
        with opened("f", os.O_RDONLY, dir_fd=at) as again:
            expect_equal(os.read(again, 100), FIRST, "the contents below it")
        with opened("/proc/self/fd/%d" % fd, os.O_RDONLY) as again:
            expect_equal(os.read(again, 100), FIRST, "the contents reopened")
        os.chmod("/proc/self/fd/%d" % fd, 0o640)
        expect_equal(stat.S_IMODE(os.stat("d/f").st_mode), 0o640, "the mode changed through /proc")
        os.fchdir(at)
        expect_equal(sorted(os.listdir(".")), ["f", "l"], "the listing after fchdir")


@case("at", "a file handle finds its file under another name, not after it is gone")
def handles():
    os.makedirs("d/e")
    write_file("d/e/f", FIRST)
    try:
        _, handle = calls.name_to_handle_at("d/e/f")
    except OSError as error:
        skip("no file handles here: %s" % error)
    _, directory = calls.name_to_handle_at("d/e")
    os.rename("d/e/f", "g")
    os.rename("d/e", "h")
    with opened(".", os.O_RDONLY) as mount:
        fd = calls.open_by_handle_at(mount, handle, os.O_RDWR)
        expect_equal(os.read(fd, 100), FIRST, "the contents")
        expect_equal(os.fstat(fd).st_ino, os.stat("g").st_ino, "st_ino")
        os.close(fd)
        fd = calls.open_by_handle_at(mount, directory, os.O_RDONLY | os.O_DIRECTORY)
        expect_equal(os.fstat(fd).st_ino, os.stat("h").st_ino, "st_ino of the directory")
        expect(os.path.samestat(os.stat("..", dir_fd=fd), os.stat(".")), ".. of the directory")
        os.close(fd)
        os.unlink("g")
        os.rmdir("h")
        expect_errno(errno.ESTALE, calls.open_by_handle_at, mount, handle, os.O_RDONLY)
        expect_errno(errno.ESTALE, calls.open_by_handle_at, mount, directory, os.O_RDONLY)
        with as_user(1000):
            expect_errno(errno.EPERM, calls.open_by_handle_at, mount, handle, os.O_RDONLY)


# O_TMPFILE.

def tmpfile(directory=".", flags=os.O_RDWR, mode=0o666):
    return os.open(directory, flags | os.O_TMPFILE, mode)


def link_fd(fd, name):
    calls.link("/proc/self/fd/%d" % fd, name, calls.AT_SYMLINK_FOLLOW)


@case("tmpfile", "it has no name, and gets one by linkat")
def tmpfile_link():
    os.mkdir("d")
    before = os.stat("d")
    fd = tmpfile("d")
    expect_equal(os.listdir("d"), [], "the listing")
    expect_equal(os.fstat(fd).st_nlink, 0, "st_nlink")
    expect_equal(stat.S_IMODE(os.fstat(fd).st_mode), 0o644, "mode")
    expect_equal(os.stat("d").st_mtime_ns, before.st_mtime_ns, "mtime of the directory")
    os.write(fd, FIRST)
    expect_equal(os.pread(fd, 100, 0), FIRST, "what was written")
    write_file("taken")
    expect_errno(errno.EEXIST, link_fd, fd, "taken")
    expect_equal(os.fstat(fd).st_nlink, 0, "st_nlink after a failure")
    link_fd(fd, "a")
    expect_equal(os.fstat(fd).st_nlink, 1, "st_nlink")
    link_fd(fd, "d/b")
    calls.link("", "c", calls.AT_EMPTY_PATH, old_fd=fd)
    expect_equal(os.fstat(fd).st_nlink, 3, "st_nlink")
    os.write(fd, FIRST)
    os.close(fd)
    expect_equal(read_file("a"), FIRST * 2, "the contents")
    expect(os.path.samefile("a", "d/b") and os.path.samefile("a", "c"), "all names are one file")


@case("tmpfile", "O_EXCL keeps it without a name")
def tmpfile_exclusive():
    fd = tmpfile(flags=os.O_RDWR | os.O_EXCL)
    os.write(fd, FIRST)
    expect_errno(errno.ENOENT, link_fd, fd, "a")
    expect_equal(os.pread(fd, 100, 0), FIRST, "what was written")


@case("tmpfile", "it needs a directory, write permission and an open for writing")
def tmpfile_refused():
    write_file("f")
    os.mkdir("d")
    os.symlink("d", "l")
    expect_errno(errno.ENOTDIR, tmpfile, "f")
    expect_errno(errno.ENOENT, tmpfile, "none")
    expect_errno(errno.EINVAL, tmpfile, ".", os.O_RDONLY)
    os.close(tmpfile("l", os.O_WRONLY))
    with as_user(1000):
        expect_errno(errno.EACCES, tmpfile, "d")


@case("tmpfile", "owner, group, mode and umask are those of any new file")
def tmpfile_attributes():
    os.mkdir("d")
    os.chown("d", 1002, 2000)
    os.chmod("d", 0o2777)
    os.umask(0o027)
    with as_user(1000):
        fd = tmpfile("d", mode=0o777)
        now = os.fstat(fd)
        link_fd(fd, "d/f")
    expect_equal((now.st_uid, now.st_gid, stat.S_IMODE(now.st_mode)), (1000, 2000, 0o750), "uid, gid, mode")
    expect(os.path.samestat(os.stat("d/f"), now), "the linked file is the same")


@case("tmpfile", "a mode that forbids does not forbid the maker, and a linked file can be unlinked")
def tmpfile_mode():
    os.chmod(".", 0o777)
    with as_user(1000):
        fd = tmpfile(mode=0)
        os.write(fd, FIRST)
        link_fd(fd, "f")
        expect_errno(errno.EACCES, os.open, "f", os.O_RDONLY)
        os.unlink("f")
        expect_equal(os.fstat(fd).st_nlink, 0, "st_nlink")
        expect_equal(os.pread(fd, 100, 0), FIRST, "the contents")
        expect_errno(errno.ENOENT, link_fd, fd, "f")


# Unlinked, but open.

@case("unlinked", "an open file lives on")
def unlinked_file():
    write_file("f", FIRST)
    fd = os.open("f", os.O_RDWR)
    os.unlink("f")
    write_file("f", b"another")
    expect_equal(os.fstat(fd).st_nlink, 0, "st_nlink")
    expect_equal(os.pread(fd, 100, 0), FIRST, "the contents")
    os.pwrite(fd, b"THE", 0)
    os.ftruncate(fd, 9)
    os.fchmod(fd, 0o600)
    os.fchown(fd, 1000, 1000)
    os.utime(fd, ns=(1, 2))
    now = os.fstat(fd)
    expect_equal((now.st_size, now.st_uid, now.st_mtime_ns, stat.S_IMODE(now.st_mode)), (9, 1000, 2, 0o600),
                 "attributes")
    os.fsync(fd)
    with opened("/proc/self/fd/%d" % fd, os.O_RDWR) as again:
        expect_equal(os.read(again, 100), b"THE first", "the contents, reopened")
        os.write(again, b"!")
    expect_equal(os.pread(fd, 100, 0), b"THE first!", "what was written through the other")
    expect_errno(errno.ENOENT, link_fd, fd, "g")
    expect_equal(read_file("f"), b"another", "the new file of that name")
    os.close(fd)


@case("unlinked", "xattrs of an open file live on")
def unlinked_xattr():
    write_file("f")
    fd = os.open("f", os.O_RDWR)
    os.setxattr(fd, "user.a", b"1")
    os.unlink("f")
    os.setxattr(fd, "user.b", b"2")
    expect_equal(os.getxattr(fd, "user.a"), b"1", "the value")
    names = sorted(name for name in os.listxattr(fd) if name.startswith("user."))
    expect_equal(names, ["user.a", "user.b"], "the names")
    os.removexattr(fd, "user.a")
    expect_errno(errno.ENODATA, os.getxattr, fd, "user.a")


@case("unlinked", "a file that is replaced by rename lives on for who has it open")
def replaced_file():
    write_file("f", FIRST)
    write_file("g", b"new")
    calls.link("f", "h")
    with opened("f", os.O_RDWR) as fd:
        os.rename("g", "f")
        expect_equal(os.fstat(fd).st_nlink, 1, "st_nlink")
        os.rename("f", "h")
        expect_equal(os.fstat(fd).st_nlink, 0, "st_nlink")
        expect_equal(os.read(fd, 100), FIRST, "the contents")
    expect_equal(read_file("h"), b"new", "the contents of the new")


@case("unlinked", "a removed directory: empty, no names, nothing can be made in it")
def removed_directory():
    os.mkdir("d")
    fd = os.open("d", os.O_RDONLY)
    os.rmdir("d")
    expect_equal(os.fstat(fd).st_nlink, 0, "st_nlink")
    expect_errno(errno.ENOENT, calls.getdents, fd)
    for function in (lambda: os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd), lambda: os.mkdir("e", dir_fd=fd),
                     lambda: os.symlink("x", "l", dir_fd=fd), lambda: calls.mknod("p", stat.S_IFIFO | 0o644, dir_fd=fd),
                     lambda: os.stat("f", dir_fd=fd)):
        expect_errno(errno.ENOENT, function)
    os.mkdir("d")
    expect_equal(os.listdir("d"), [], "a new one of that name is another")
    expect(os.stat("d").st_ino != os.fstat(fd).st_ino, "a number of its own while the old one is open")
    os.fchmod(fd, 0o700)
    os.fchdir(fd)
    expect_errno(errno.ENOENT, os.getcwd)
    expect_equal(os.stat(".").st_nlink, 0, "st_nlink of .")
    os.chdir("..")
    expect_equal(os.listdir("."), ["d"], ".. of a removed current directory")
    os.close(fd)


@case("unlinked", "a directory that is replaced by rename has no names")
def replaced_directory():
    os.mkdir("a")
    os.mkdir("b")
    fd = os.open("b", os.O_RDONLY)
    os.rename("a", "b")
    expect_equal(os.fstat(fd).st_nlink, 0, "st_nlink")
    expect_errno(errno.ENOENT, lambda: os.mkdir("e", dir_fd=fd))
    expect_equal(os.stat("b").st_nlink, 2, "st_nlink of the other")


@case("unlinked", "a directory tree is removed below a process that stands in it")
def removed_tree():
    above = os.getcwd()
    os.makedirs("a/b/c")
    os.chdir("a/b/c")
    for path in ("a/b/c", "a/b", "a"):
        os.rmdir(os.path.join(above, path))
    expect_errno(errno.ENOENT, os.mkdir, "d")
    expect_errno(errno.ENOENT, os.mkdir, "../d")
    expect_errno(errno.ENOENT, os.stat, "../b")


@case("unlinked", "500 open files without a name keep their contents apart")
def many_unlinked():
    fds = []
    for number in range(500):
        fds.append(os.open("f", os.O_RDWR | os.O_CREAT | os.O_EXCL))
        os.write(fds[-1], b"%d" % number * 100)
        os.unlink("f")
    for number, fd in enumerate(fds):
        expect_equal(os.pread(fd, 1000, 0), b"%d" % number * 100, "the contents")
        os.close(fd)


# Files that are more than bytes.

@case("special", "a fifo carries bytes between processes")
def fifo_works():
    os.mkfifo("p")
    if os.fork() == 0:
        write_file("p", FIRST * 1000)
        os._exit(0)
    expect_equal(read_file("p"), FIRST * 1000, "what came through")
    expect_equal(os.stat("p").st_size, 0, "st_size")


@case("special", "writing to a fifo moves its mtime and ctime")
def fifo_times():
    os.mkfifo("p")
    fd = os.open("p", os.O_RDWR | os.O_NONBLOCK)
    before = os.fstat(fd)
    tick()
    os.write(fd, FIRST)
    after = os.fstat(fd)
    os.close(fd)
    expect(after.st_mtime_ns > before.st_mtime_ns and after.st_ctime_ns > before.st_ctime_ns, "both moved")


@case("special", "a socket is bound, connected and removed by its name")
def socket_works():
    server = socket.socket(socket.AF_UNIX)
    server.bind("s")
    expect(stat.S_ISSOCK(os.stat("s").st_mode), "it is a socket")
    expect_errno(errno.EADDRINUSE, socket.socket(socket.AF_UNIX).bind, "s")
    expect_errno(errno.ECONNREFUSED, socket.socket(socket.AF_UNIX).connect, "s")
    server.listen()
    os.rename("s", "t")
    calls.link("t", "u")
    client = socket.socket(socket.AF_UNIX)
    client.connect("u")
    peer, _ = server.accept()
    client.send(FIRST)
    expect_equal(peer.recv(100), FIRST, "what was sent")
    server.close()
    expect_errno(errno.ECONNREFUSED, socket.socket(socket.AF_UNIX).connect, "u")
    os.unlink("t")
    expect_errno(errno.ENOENT, socket.socket(socket.AF_UNIX).connect, "t")
    write_file("f")
    expect_errno(errno.ECONNREFUSED, socket.socket(socket.AF_UNIX).connect, "f")


@case("special", "connecting to a socket needs write permission")
def socket_permission():
    server = socket.socket(socket.AF_UNIX)
    server.bind("s")
    server.listen()
    os.chmod("s", 0o755)
    with as_user(1000):
        expect_errno(errno.EACCES, socket.socket(socket.AF_UNIX).connect, "s")
    os.chmod("s", 0o722)
    with as_user(1000):
        socket.socket(socket.AF_UNIX).connect("s")


@case("special", "a device node is its device")
def device_works():
    calls.mknod("zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    calls.mknod("full", stat.S_IFCHR | 0o666, os.makedev(1, 7))
    calls.mknod("large", stat.S_IFCHR | 0o666, os.makedev(4095, 1048575))
    with opened("zero", os.O_RDONLY) as fd:
        expect_equal(os.read(fd, 5), bytes(5), "what is read")
    with opened("full", os.O_WRONLY) as fd:
        expect_errno(errno.ENOSPC, os.write, fd, b"x")
    expect_equal(os.stat("large").st_rdev, os.makedev(4095, 1048575), "the greatest device number")
    expect_errno(errno.ENXIO, os.open, "large", os.O_RDONLY)


@case("make", "the times of a new file are the time of its making")
def birth_times():
    makers = (("file", write_file), ("dir", os.mkdir), ("fifo", os.mkfifo),
              ("link", lambda name: os.symlink("x", name)),
              ("sock", lambda name: calls.mknod(name, stat.S_IFSOCK | 0o600)),
              ("chr", lambda name: calls.mknod(name, stat.S_IFCHR | 0o600, os.makedev(1, 3))),
              ("blk", lambda name: calls.mknod(name, stat.S_IFBLK | 0o600, os.makedev(240, 1))))
    for name, make in makers:
        tick()
        before = time.clock_gettime_ns(calls.CLOCK_REALTIME_COARSE)
        make(name)
        after = time.clock_gettime_ns(time.CLOCK_REALTIME)
        status = os.lstat(name)
        for field in ("st_atime_ns", "st_mtime_ns", "st_ctime_ns"):
            expect(before <= getattr(status, field) <= after, "%s of a new %s is now" % (field, name))


# Several at once.

def together(count, function):
    """Runs function(number) in that many processes that begin together; returns the exit codes."""
    begin, end = os.pipe()
    children = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            code = 255
            try:
                os.close(end)
                os.read(begin, 1)
                code = function(number)
            finally:
                os._exit(code)
        children.append(pid)
    os.close(end)
    os.close(begin)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]


def winners(make, rounds=40):
    """How often one of 6 processes that all make the same names succeeds"""
    def attempt(number):
        won = 0
        for one in range(rounds):
            try:
                make("n%d" % one, number)
                won += 1
            except FileExistsError:
                pass
        return won
    return sum(together(6, attempt))


@case("races", "of several that make one name, one succeeds")
def one_winner():
    for kind, make in (("O_EXCL", lambda name, _: os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))),
                       ("mkdir", lambda name, _: os.mkdir(name)), ("symlink", lambda name, _: os.symlink("x", name)),
                       ("mkfifo", lambda name, _: os.mkfifo(name)),
                       ("link", lambda name, number: calls.link("o%d" % number, name))):
        os.mkdir(kind)
        os.chdir(kind)
        for number in range(6):
            write_file("o%d" % number)
        expect_equal(winners(make), 40, "of 40 names, %s made" % kind)
        os.chdir("..")


@case("races", "of several that take one name away, one succeeds")
def one_remover():
    for number in range(100):
        write_file("f%d" % number)
        os.mkdir("d%d" % number)

    def attempt(_):
        won = 0
        for number in range(100):
            for function, name in ((os.unlink, "f%d"), (os.rmdir, "d%d")):
                try:
                    function(name % number)
                    won += 1
                except FileNotFoundError:
                    pass
        return won
    expect_equal(sum(together(4, attempt)), 200, "of 200 names, removed")
    expect_equal(os.listdir("."), [], "the listing")


@case("races", "a name that is replaced over and over is never missing")
def replaced_name():
    write_file("n", FIRST)

    def attempt(number):
        for round_number in range(200):
            if number == 0:
                write_file("tmp", FIRST)
                os.rename("tmp", "n")
            elif read_file("n") != FIRST:
                return 1
        return 0
    expect_equal(together(4, attempt), [0] * 4, "exit codes")


@case("races", "two directories that move into each other do not become a loop")
def no_loop():
    os.makedirs("a")
    os.makedirs("b")

    def attempt(number):
        one, other = ("a", "b") if number % 2 else ("b", "a")
        for _ in range(100):
            try:
                os.rename(one, other + "/" + one)
                os.rename(other + "/" + one, one)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EINVAL, errno.ENOTEMPTY):
                    return error.errno
        return 0
    expect_equal(together(4, attempt), [0] * 4, "exit codes")
    found = {name for _, names, _ in os.walk(".") for name in names}
    expect_equal(found, {"a", "b"}, "directories that can still be reached")


@case("races", "exchanges and renames in both directions lose nothing")
def crossing_renames():
    for number in range(8):
        os.makedirs("d%d" % number)
        write_file("d%d/f%d" % (number, number), b"%d" % number)

    def attempt(number):
        for step in range(150):
            one = "d%d/f%d" % ((number + step) % 8, (number * step) % 8)
            other = "d%d/f%d" % ((number * 3 + step) % 8, step % 8)
            try:
                calls.renameat2(one, other, calls.RENAME_EXCHANGE if step % 3 else calls.RENAME_NOREPLACE)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EEXIST):
                    return error.errno
        return 0
    expect_equal(together(4, attempt), [0] * 4, "exit codes")
    found = sorted(read_file(os.path.join(where, name)) for where, _, names in os.walk(".") for name in names)
    expect_equal(found, [b"%d" % number for number in range(8)], "the contents of all files")


@case("races", "open with O_CREAT by one while another unlinks: never an error")
def create_and_unlink():
    def attempt(number):
        for _ in range(300):
            if number % 2:
                os.close(os.open("n", os.O_CREAT | os.O_RDWR))
            else:
                try:
                    os.unlink("n")
                except FileNotFoundError:
                    pass
        return 0
    expect_equal(together(4, attempt), [0] * 4, "exit codes")


@case("races", "a directory fills while another removes it: it is gone, or it has what was made")
def create_and_rmdir():
    def attempt(number):
        for one in range(150):
            try:
                os.mkdir("d")
            except FileExistsError:
                pass
            try:
                if number % 2:
                    write_file("d/%d" % number)
                    os.unlink("d/%d" % number)
                else:
                    os.rmdir("d")
            except FileNotFoundError:
                pass
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    return 1
        return 0
    expect_equal(together(4, attempt), [0] * 4, "exit codes")
