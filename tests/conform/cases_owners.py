"""Who may change what: chmod and chown by descriptor, set-user-ID, set-group-ID and capabilities when contents
change, access(2) with real and effective ids."""
import errno
import mmap
import os
import stat
import struct
import subprocess

import calls
from conform import as_user, case, expect, expect_equal, expect_errno, opened, skip, write_file

CAPABILITY = bytes.fromhex("0100000202040000000000000000000000000000")


def mode_of(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def expect_mode(path, mode, text):
    expect_equal(oct(mode_of(path)), oct(mode), text)


def has(path, name):
    return name in os.listxattr(path, follow_symlinks=False)


# chmod and chown by descriptor.

@case("fchmod", "a descriptor that was opened for reading is enough")
def fchmod_by_reader():
    write_file("f")
    with opened("f", os.O_RDONLY) as fd:
        os.fchmod(fd, 0o6711)
        expect_equal(oct(stat.S_IMODE(os.fstat(fd).st_mode)), oct(0o6711), "mode by descriptor")
    expect_mode("f", 0o6711, "mode by name")


@case("fchmod", "somebody else's open file is EPERM, an O_PATH descriptor EBADF")
def fchmod_refused():
    write_file("f")
    with opened("f", os.O_RDONLY) as fd, as_user(1001):
        expect_errno(errno.EPERM, os.fchmod, fd, 0o666)
    with opened("f", os.O_PATH) as fd:
        expect_errno(errno.EBADF, os.fchmod, fd, 0o666)
    expect_mode("f", 0o644, "mode")


@case("fchmod", "an unlinked file and a directory")
def fchmod_unlinked():
    write_file("f")
    os.mkdir("d")
    with opened("f", os.O_RDWR) as fd:
        os.unlink("f")
        os.fchmod(fd, 0o600)
        expect_equal(oct(os.fstat(fd).st_mode), oct(stat.S_IFREG | 0o600), "mode of the unlinked file")
        expect_equal(os.fstat(fd).st_nlink, 0, "link count")
    with opened("d", os.O_RDONLY | os.O_DIRECTORY) as fd:
        os.fchmod(fd, 0o1700)
    expect_mode("d", 0o1700, "mode of the directory")


@case("fchmod", "fchmodat2 without following refuses a symbolic link and leaves it")
def fchmodat_nofollow():
    os.symlink("x", "l")
    try:
        calls.fchmodat2("l", 0o600, calls.AT_SYMLINK_NOFOLLOW)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            skip("no fchmodat2 in this kernel")
        expect_equal(error.errno, errno.EOPNOTSUPP, "error")
    else:
        expect(False, "it succeeded")
    expect_mode("l", 0o777, "mode of the link")


@case("fchmod", "an open descriptor keeps what it was opened for")
def fchmod_later():
    write_file("f", b"x", 0o644)
    os.chown("f", 1001, 1001)
    with as_user(1001):
        fd = os.open("f", os.O_RDWR)
        os.fchmod(fd, 0)
        os.pwrite(fd, b"y", 0)
        expect_equal(os.pread(fd, 1, 0), b"y", "contents")
        os.close(fd)
        expect_errno(errno.EACCES, os.open, "f", os.O_RDONLY)


@case("fchown", "a descriptor that was opened for reading is enough")
def fchown_by_reader():
    write_file("f")
    os.chmod("f", 0o6755)
    with opened("f", os.O_RDONLY) as fd:
        os.fchown(fd, 1001, 2000)
        status = os.fstat(fd)
    expect_equal((status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)), (1001, 2000, 0o755), "owner and mode")


@case("fchown", "AT_EMPTY_PATH on a symbolic link and on an unlinked file")
def fchown_empty_path():
    os.symlink("x", "l")
    with opened("l", os.O_PATH | os.O_NOFOLLOW) as fd:
        calls.chown("", 1001, 2000, calls.AT_EMPTY_PATH, dir_fd=fd)
    expect_equal((os.lstat("l").st_uid, os.lstat("l").st_gid), (1001, 2000), "owner of the link")
    write_file("f")
    with opened("f", os.O_RDWR) as fd:
        os.unlink("f")
        os.fchown(fd, 1001, 2000)
        expect_equal(os.fstat(fd).st_uid, 1001, "owner of the unlinked file")


# Set-user-ID, set-group-ID and capabilities while a descriptor is open.

def set_id_file(mode=0o6777):
    write_file("f", b"0123456789" * 1000)
    os.chmod("f", mode)


def expect_cleared(what, action, wanted=0o777, mode=0o6777, capability=True):
    """An ordinary user who does `action(fd)` takes the bits off."""
    set_id_file(mode)
    if capability:
        calls.setxattr("f", "security.capability", CAPABILITY)
    with as_user(1001), opened("f", os.O_RDWR) as fd:
        action(fd)
        expect_equal(oct(stat.S_IMODE(os.fstat(fd).st_mode)), oct(wanted), "mode by descriptor after " + what)
    expect_mode("f", wanted, "mode after " + what)
    if capability:
        expect(not has("f", "security.capability"), "security.capability went with " + what)
    os.unlink("f")


@case("set-id", "fstat right after a write shows that they are gone")
def cleared_by_write():
    expect_cleared("write", lambda fd: os.write(fd, b"x"))
    expect_cleared("pwrite", lambda fd: os.pwrite(fd, b"x", 5000))
    expect_cleared("a write at the end", lambda fd: os.pwrite(fd, b"x", 10000))
    expect_cleared("ftruncate", lambda fd: os.ftruncate(fd, 10))
    expect_cleared("ftruncate to a larger size", lambda fd: os.ftruncate(fd, 20000))


@case("set-id", "fallocate of every kind takes them off")
def cleared_by_fallocate():
    keep = calls.FALLOC_FL_KEEP_SIZE
    for what, mode in (("allocation", 0), ("allocation beyond the end", keep),
                       ("punching", calls.FALLOC_FL_PUNCH_HOLE | keep), ("zeroing", calls.FALLOC_FL_ZERO_RANGE)):
        expect_cleared(what, lambda fd, mode=mode: calls.fallocate(fd, mode, 4096, 20000))


@case("set-id", "fallocate and copy_file_range by who is not in the group, without group execution")
def cleared_of_others_group():
    write_file("source", b"y" * 5000)
    with opened("source", os.O_RDONLY) as source:
        for action in (lambda fd: calls.fallocate(fd, 0, 0, 20000),
                       lambda fd: calls.copy_file_range(source, 0, fd, 0, 5000)):
            expect_cleared("it", action, 0o666, 0o6666, False)


@case("set-id", "copy_file_range takes them off the target")
def cleared_by_copy():
    write_file("source", b"y" * 5000)
    with opened("source", os.O_RDONLY) as source:
        expect_cleared("copy_file_range", lambda fd: calls.copy_file_range(source, 0, fd, 0, 5000))


@case("set-id", "direct and appending writes take them off")
def cleared_by_direct():
    for flag in (os.O_DIRECT, os.O_APPEND, os.O_SYNC):
        set_id_file()
        with as_user(1001), opened("f", os.O_WRONLY | flag) as fd:
            page = mmap.mmap(-1, 4096)
            page.write(b"d" * 4096)
            os.write(fd, page)
        expect_mode("f", 0o777, "mode after a write with flag %o" % flag)
        os.unlink("f")


@case("set-id", "a write by root to somebody's set-user-ID file leaves it")
def kept_by_root():
    set_id_file(0o6755)
    os.chown("f", 1001, 1001)
    os.chmod("f", 0o6755)
    with opened("f", os.O_RDWR) as fd:
        os.write(fd, b"x")
        os.ftruncate(fd, 50)
        calls.fallocate(fd, 0, 0, 100)
    expect_mode("f", 0o6755, "mode")


@case("set-id", "many writes after the first do not bring them back")
def cleared_for_good():
    set_id_file()
    with as_user(1001), opened("f", os.O_RDWR) as fd:
        for number in range(100):
            os.pwrite(fd, b"x" * 4096, number * 4096)
        os.fsync(fd)
    expect_mode("f", 0o777, "mode")


@case("set-id", "set again after a write, they stay until the next")
def set_again():
    set_id_file()
    with opened("f", os.O_RDWR) as fd:
        with as_user(1001):
            os.write(fd, b"x")
        os.chmod("f", 0o6777)
        expect_mode("f", 0o6777, "mode after chmod")
        os.fsync(fd)
        expect_mode("f", 0o6777, "mode after fsync")
        with as_user(1001):
            os.write(fd, b"x")
    expect_mode("f", 0o777, "mode after the second write")


@case("set-id", "security.capability set after a write goes with the next")
def capability_again():
    write_file("f", b"x")
    for _ in range(3):
        calls.setxattr("f", "security.capability", CAPABILITY)
        expect(has("f", "security.capability"), "it is set")
        with opened("f", os.O_WRONLY) as fd:
            os.write(fd, b"y")
        expect(not has("f", "security.capability"), "it is gone after a write")


@case("set-id", "a set-user-ID program runs as its owner")
def set_user_id_runs():
    if os.statvfs(".").f_flag & os.ST_NOSUID:
        skip("mounted nosuid")
    subprocess.run(["cp", "/usr/bin/id", "id"], check=True)
    os.chown("id", 1002, 1002)
    os.chmod("id", 0o6755)
    with as_user(1001):
        got = subprocess.run(["./id", "-u"], stdout=subprocess.PIPE, check=True).stdout
    expect_equal(got, b"1002\n", "effective user")


@case("set-id", "a program with security.capability has that capability, until somebody writes to it")
def capability_runs():
    if os.statvfs(".").f_flag & os.ST_NOSUID:
        skip("mounted nosuid")

    def effective():
        with as_user(1001):
            text = subprocess.run(["./cat", "/proc/self/status"], stdout=subprocess.PIPE, check=True).stdout
        return next(int(line.split()[1], 16) for line in text.splitlines() if line.startswith(b"CapEff:"))

    subprocess.run(["cp", "/bin/cat", "cat"], check=True)
    expect_equal(effective(), 0, "without it")
    calls.setxattr("cat", "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0))
    expect_equal(effective(), 1 << 13, "with it: CAP_NET_RAW")
    with opened("cat", os.O_RDWR) as fd:
        os.pwrite(fd, os.pread(fd, 1, 0), 0)
    expect_equal(effective(), 0, "after a write")


# access

@case("access", "real ids count for access, effective ids with AT_EACCESS")
def real_and_effective():
    write_file("f", b"x", 0o600)
    os.chown("f", 1001, 1001)
    os.setgroups([])
    os.setresgid(1002, 1001, 0)
    os.setresuid(1002, 1001, 0)
    os.close(os.open("f", os.O_RDONLY))
    expect_errno(errno.EACCES, calls.access, "f", os.R_OK)
    calls.faccessat2("f", os.R_OK | os.W_OK, calls.AT_EACCESS)
    expect_errno(errno.EACCES, calls.faccessat2, "f", os.X_OK, calls.AT_EACCESS)


@case("access", "a set-user-ID program asks for the one who started it")
def real_is_root():
    write_file("f", b"x", 0o600)
    os.setresuid(0, 1001, 0)
    calls.access("f", os.R_OK)
    expect_errno(errno.EACCES, calls.faccessat2, "f", os.R_OK, calls.AT_EACCESS)


@case("access", "the effective group by AT_EACCESS")
def effective_group():
    write_file("f", b"x", 0o640)
    os.chown("f", 0, 2000)
    os.setgroups([])
    os.setresgid(1001, 2000, 0)
    os.setresuid(1001, 1001, 0)
    expect_errno(errno.EACCES, calls.access, "f", os.R_OK)
    calls.faccessat2("f", os.R_OK, calls.AT_EACCESS)


@case("access", "a symbolic link itself has every permission")
def access_link():
    os.symlink("gone", "l")
    with as_user(1001):
        calls.faccessat2("l", os.R_OK, calls.AT_SYMLINK_NOFOLLOW)
        expect_errno(errno.ENOENT, calls.faccessat2, "l", os.F_OK)


@case("access", "unknown modes and flags are EINVAL")
def access_invalid():
    write_file("f")
    expect_errno(errno.EINVAL, calls.access, "f", 8)
    expect_errno(errno.EINVAL, calls.faccessat2, "f", os.R_OK, 0x4000)
