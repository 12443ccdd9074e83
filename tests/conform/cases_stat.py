"""stat, statx and statvfs."""
import errno
import os
import socket
import stat
import subprocess
import time

import calls
from conform import case, drop_caches, expect, expect_equal, expect_errno, opened, tick, write_file

# stat and statx

@case("stat", "type, size, links and device numbers of every kind")
def every_kind():
    write_file("f", b"x" * 1234)
    os.mkdir("d")
    os.symlink("some/where", "l")
    os.mkfifo("p")
    socket.socket(socket.AF_UNIX).bind("s")
    calls.mknod("c", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    calls.mknod("b", stat.S_IFBLK | 0o600, os.makedev(259, 1048575))
    for path, kind, size, links in (("f", stat.S_IFREG, 1234, 1), ("l", stat.S_IFLNK, 10, 1), ("p", stat.S_IFIFO, 0, 1),
                                    ("s", stat.S_IFSOCK, 0, 1), ("c", stat.S_IFCHR, 0, 1), ("b", stat.S_IFBLK, 0, 1)):
        status = os.lstat(path)
        expect_equal((stat.S_IFMT(status.st_mode), status.st_size, status.st_nlink), (kind, size, links), path)
    expect_equal((os.major(os.lstat("c").st_rdev), os.minor(os.lstat("c").st_rdev)), (1, 3), "character device")
    expect_equal((os.major(os.lstat("b").st_rdev), os.minor(os.lstat("b").st_rdev)), (259, 1048575), "block device")
    expect(os.lstat("d").st_size > 0, "a directory has a size")
    expect_equal(len({os.lstat(path).st_ino for path in "fdlpscb"}), 7, "numbers")
    expect_equal({os.lstat(path).st_dev for path in "fdlpscb"}, {os.lstat(".").st_dev}, "devices")
    expect_equal({os.lstat(path).st_rdev for path in "fdlps"}, {0}, "st_rdev of what is no device")


@case("stat", "link counts of directories count their subdirectories")
def directory_links():
    os.mkdir("d")
    expect_equal(os.stat("d").st_nlink, 2, "of an empty one")
    for name in "abc":
        os.mkdir("d/" + name)
    write_file("d/f")
    os.symlink("a", "d/l")
    expect_equal(os.stat("d").st_nlink, 5, "of one with three")
    os.mkdir("e")
    os.rename("d/a", "e/a")
    expect_equal((os.stat("d").st_nlink, os.stat("e").st_nlink), (4, 3), "after a rename to another")
    os.rename("d/b", "d/c")
    expect_equal(os.stat("d").st_nlink, 3, "after a rename over one")
    os.rmdir("d/c")
    expect_equal(os.stat("d").st_nlink, 2, "after rmdir")


@case("stat", "a removed directory that is open has no links, and a later ctime")
def removed_directory():
    os.mkdir("d")
    os.mkdir("e")
    os.mkdir("g")
    with opened("d", os.O_RDONLY) as d, opened("g", os.O_RDONLY) as g:
        before = os.fstat(d), os.fstat(g)
        tick()
        os.rmdir("d")
        os.rename("e", "g")
        for old, new in zip(before, (os.fstat(d), os.fstat(g))):
            expect_equal((new.st_nlink, new.st_ino), (0, old.st_ino), "link count and number")
            expect(new.st_ctime_ns > old.st_ctime_ns, "ctime moved")
        expect_equal(os.listdir(d), [], "a removed directory is empty")
        os.fchmod(d, 0o700)
        expect_equal(oct(os.fstat(d).st_mode), oct(stat.S_IFDIR | 0o700), "its mode can be changed")


@case("stat", "link counts of files of every kind")
def file_links():
    write_file("f")
    os.mkfifo("p")
    os.symlink("x", "l")
    calls.mknod("c", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    for path in "fplc":
        for number in range(5):
            calls.link(path, "%s%d" % (path, number))
        expect_equal(os.lstat(path).st_nlink, 6, path)
        os.unlink(path + "0")
        os.rename(path + "1", path + "2")
        expect_equal(os.lstat(path).st_nlink, 5, "after unlink, and a rename over another name of it: " + path)


@case("stat", "st_blocks after close: data, a hole, a small file")
def blocks_after_close():
    write_file("data", os.urandom(1 << 20))
    expect(2048 <= os.stat("data").st_blocks <= 2048 + 64, "1 MiB of data has 2048 blocks", os.stat("data").st_blocks)
    fd = os.open("hole", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 1 << 30)
    os.close(fd)
    expect(os.stat("hole").st_blocks <= 8, "a file that is one hole has none", os.stat("hole").st_blocks)
    fd = os.open("mixed", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, os.urandom(65536), 1 << 20)
    os.ftruncate(fd, 1 << 21)
    os.close(fd)
    expect(128 <= os.stat("mixed").st_blocks <= 128 + 64, "64 KiB within a hole", os.stat("mixed").st_blocks)
    write_file("small", b"x")
    expect(1 <= os.stat("small").st_blocks <= 16, "a byte has some", os.stat("small").st_blocks)
    write_file("empty")
    expect_equal(os.stat("empty").st_blocks, 0, "an empty file")


@case("stat", "st_blocks while the file is open: after fsync, after punching, after truncation")
def blocks_while_open():
    with opened("f", os.O_RDWR | os.O_CREAT) as fd:
        os.write(fd, os.urandom(1 << 20))
        os.fsync(fd)
        expect(2048 <= os.fstat(fd).st_blocks <= 2048 + 64, "after fsync", os.fstat(fd).st_blocks)
        calls.fallocate(fd, calls.FALLOC_FL_PUNCH_HOLE | calls.FALLOC_FL_KEEP_SIZE, 0, 1 << 19)
        os.fsync(fd)
        expect(1024 <= os.fstat(fd).st_blocks <= 1024 + 64, "after punching half", os.fstat(fd).st_blocks)
        os.ftruncate(fd, 0)
        expect(os.fstat(fd).st_blocks <= 8, "after truncation to nothing", os.fstat(fd).st_blocks)


@case("stat", "st_blocks of a file that is being written is not 0")
def blocks_while_written():
    with opened("f", os.O_RDWR | os.O_CREAT) as fd:
        os.write(fd, os.urandom(1 << 20))
        expect(os.fstat(fd).st_blocks > 0, "blocks by descriptor", os.fstat(fd).st_blocks)
        expect(os.stat("f").st_blocks > 0, "blocks by name", os.stat("f").st_blocks)


@case("stat", "st_blksize is a power of two of at least 512")
def block_size():
    write_file("f")
    size = os.stat("f").st_blksize
    expect(size >= 512 and size & (size - 1) == 0, "block size", size)


@case("stat", "the size at once after a write, by descriptor and by name")
def size_at_once():
    with opened("f", os.O_RDWR | os.O_CREAT) as fd:
        for size in (1, 4095, 4096, 4097, 100000):
            os.pwrite(fd, b"x", size - 1)
            expect_equal((os.fstat(fd).st_size, os.stat("f").st_size), (size, size), "size")


@case("stat", "the empty path needs AT_EMPTY_PATH")
def empty_path():
    expect_errno(errno.ENOENT, calls.statx, "")
    with opened(".", os.O_RDONLY) as fd:
        expect_equal(calls.statx("", calls.AT_EMPTY_PATH, dir_fd=fd).ino, os.stat(".").st_ino, "number")


@case("statx", "agrees with stat in every field")
def statx_agrees():
    write_file("f", os.urandom(10000))
    os.chown("f", 1001, 2000)
    os.utime("f", ns=(10**18 + 1, 11 * 10**17 + 3))
    calls.mknod("c", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    for path in ("f", "c", "."):
        plain, full = os.stat(path), calls.statx(path)
        expect_equal((full.mode, full.nlink, full.uid, full.gid, full.ino, full.size, full.blocks, full.blksize),
                     (plain.st_mode, plain.st_nlink, plain.st_uid, plain.st_gid, plain.st_ino, plain.st_size,
                      plain.st_blocks, plain.st_blksize), path)
        for name in ("atime", "mtime", "ctime"):
            seconds, nanoseconds = getattr(full, name)
            expect_equal(seconds * 10**9 + nanoseconds, getattr(plain, "st_%s_ns" % name), name + " of " + path)
        expect_equal((full.rdev_major, full.rdev_minor), (os.major(plain.st_rdev), os.minor(plain.st_rdev)), "rdev")
        expect_equal((full.dev_major, full.dev_minor), (os.major(plain.st_dev), os.minor(plain.st_dev)), "device")
        expect_equal(full.mask & calls.STATX_BASIC_STATS, calls.STATX_BASIC_STATS, "mask")


@case("statx", "forced and lazy answers agree when nothing is pending")
def statx_sync():
    write_file("f", os.urandom(10000))
    os.sync()
    forced, lazy = calls.statx("f", calls.AT_STATX_FORCE_SYNC), calls.statx("f", calls.AT_STATX_DONT_SYNC)
    expect_equal((forced.size, forced.mode, forced.ino, forced.mtime, forced.ctime, forced.nlink),
                 (lazy.size, lazy.mode, lazy.ino, lazy.mtime, lazy.ctime, lazy.nlink), "fields")


@case("statx", "a forced answer right after a write has the new size and mtime")
def statx_forced():
    with opened("f", os.O_RDWR | os.O_CREAT) as fd:
        os.write(fd, b"x" * 12345)
        forced = calls.statx("f", calls.AT_STATX_FORCE_SYNC)
        expect_equal(forced.size, 12345, "size")
        expect_equal(forced.mtime[0] * 10**9 + forced.mtime[1], os.fstat(fd).st_mtime_ns, "mtime")


@case("statx", "flags that do not go together, and unknown ones, are EINVAL")
def statx_invalid():
    write_file("f")
    expect_errno(errno.EINVAL, calls.statx, "f", calls.AT_STATX_FORCE_SYNC | calls.AT_STATX_DONT_SYNC)
    expect_errno(errno.EINVAL, calls.statx, "f", 0x40000000)
    expect_errno(errno.EINVAL, calls.statx, "f", 0, 0x80000000)


def born(path, flags=calls.AT_SYMLINK_NOFOLLOW):
    full = calls.statx(path, flags)
    expect(full.mask & calls.STATX_BTIME, "the birth time of %s is known" % path)
    return full.btime[0] * 10**9 + full.btime[1]


@case("statx", "the birth time is when the file was made, of every kind")
def birth_time():
    before = time.clock_gettime_ns(calls.CLOCK_REALTIME_COARSE)
    write_file("f")
    os.mkdir("d")
    os.symlink("x", "l")
    os.mkfifo("p")
    calls.mknod("c", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    after = time.clock_gettime_ns(time.CLOCK_REALTIME)
    for path in "fdlpc":
        value = born(path)
        expect(before <= value <= after, "birth time of %s" % path, (before, value, after))


@case("statx", "the birth time stays through everything that moves other times")
def birth_time_stays():
    write_file("f", b"x")
    value = born("f")
    tick()
    write_file("f", b"other contents")
    os.chmod("f", 0o600)
    os.chown("f", 1001, 1001)
    os.utime("f", ns=(1, 1))
    calls.setxattr("f", "user.a", b"b")
    os.link("f", "g")
    os.rename("f", "h")
    expect_equal((born("g"), born("h")), (value, value), "birth time")
    drop_caches()
    expect_equal(born("g"), value, "birth time after the caches were dropped")


@case("statx", "a copy is born later, a file made anew as well")
def birth_time_of_copy():
    write_file("f", b"x")
    first = born("f")
    tick()
    subprocess.run(["cp", "-a", "f", "g"], check=True)
    expect(born("g") > first, "the copy is younger")
    os.unlink("f")
    write_file("f", b"x")
    expect(born("f") > first, "the new file is younger")


@case("statx", "asking for the birth time together with pending writes tells the new size")
def birth_time_and_size():
    with opened("f", os.O_RDWR | os.O_CREAT) as fd:
        os.write(fd, b"x" * 54321)
        full = calls.statx("", calls.AT_EMPTY_PATH, dir_fd=fd)
        expect_equal(full.size, 54321, "size")
        expect(full.mask & calls.STATX_BTIME, "birth time")
        os.unlink("f")
        expect(calls.statx("", calls.AT_EMPTY_PATH, dir_fd=fd).mask & calls.STATX_BTIME, "of an unlinked file")


# statvfs

@case("statvfs", "the figures are possible and name length is 255")
def statvfs_figures():
    status = os.statvfs(".")
    expect_equal(status.f_namemax, 255, "f_namemax")
    expect(status.f_bsize >= 512 and status.f_frsize >= 512, "block sizes", status)
    expect(0 < status.f_bavail <= status.f_bfree <= status.f_blocks, "blocks", status)
    expect(0 < status.f_favail <= status.f_ffree <= status.f_files, "files", status)


@case("statvfs", "by descriptor, of a file and of the directory it is the same")
def statvfs_same():
    write_file("f")
    with opened("f", os.O_RDONLY) as fd:
        one, two, three = os.fstatvfs(fd), os.statvfs("."), os.statvfs("f")
    for name in ("f_bsize", "f_frsize", "f_blocks", "f_files", "f_namemax", "f_flag", "f_fsid"):
        expect_equal(len({getattr(one, name), getattr(two, name), getattr(three, name)}), 1, name)
    expect_errno(errno.ENOENT, os.statvfs, "gone")
    expect_errno(errno.ENOTDIR, os.statvfs, "f/g")


@case("statvfs", "free space goes down as data is written and synced")
def statvfs_goes_down():
    size = 32 << 20
    shown = []
    for number in range(5):  # somebody else may free space on the same disk meanwhile
        before = os.statvfs(".")
        with opened("f%d" % number, os.O_WRONLY | os.O_CREAT) as fd:
            for _ in range(size >> 20):
                os.write(fd, os.urandom(1 << 20))
            os.fsync(fd)
        after = os.statvfs(".")
        shown.append((before.f_bfree - after.f_bfree) * before.f_frsize)
        if shown[-1] > size // 2:
            return
    expect(False, "free space went down by most of it", shown)
