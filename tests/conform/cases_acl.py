"""POSIX ACLs: what they grant (tried as the users themselves), how mode and mask go together, what new files
inherit, what is refused."""
import errno
import os
import stat
import struct
import subprocess

import calls
from conform import as_user, case, expect, expect_equal, expect_errno, read_file, skip, tick, write_file

ACCESS = "system.posix_acl_access"
DEFAULT = "system.posix_acl_default"
TAGS = {"u": (1, 2), "g": (4, 8), "m": (16, 16), "o": (32, 32)}
NOBODY_IN_PARTICULAR = 0xFFFFFFFF


def acl(text):
    """`u::rwx,u:1001:r,g::rx,m::rwx,o::` as the value of the attribute, entries in the order given."""
    value = struct.pack("<I", 2)
    for entry in text.split(","):
        kind, who, bits = entry.split(":")
        tag = TAGS[kind][1 if who else 0]
        permissions = sum({"r": 4, "w": 2, "x": 1}[bit] for bit in bits)
        value += struct.pack("<HHI", tag, permissions, int(who) if who else NOBODY_IN_PARTICULAR)
    return value


def text_of(value):
    """The inverse of acl()."""
    names = {1: "u", 2: "u", 4: "g", 8: "g", 16: "m", 32: "o"}
    words = []
    for at in range(4, len(value), 8):
        tag, permissions, who = struct.unpack_from("<HHI", value, at)
        bits = "".join(letter for bit, letter in ((4, "r"), (2, "w"), (1, "x")) if permissions & bit)
        words.append("%s:%s:%s" % (names[tag], who if tag in (2, 8) else "", bits))
    return ",".join(words)


def set_acl(path, text, name=ACCESS):
    calls.setxattr(path, name, acl(text))


def get_acl(path, name=ACCESS):
    """None where there is none."""
    try:
        return text_of(os.getxattr(path, name))
    except OSError as error:
        if error.errno == errno.ENODATA:
            return None
        raise


def mode_of(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def may(path, flags, uid, gid=None, groups=()):
    """Whether this user can open the file so."""
    with as_user(uid, gid, groups):
        try:
            os.close(os.open(path, flags))
        except PermissionError:
            return False
        return True


def expect_may(path, letters, uid, gid=None, groups=()):
    """Exactly these of reading and writing are granted."""
    got = ("r" if may(path, os.O_RDONLY, uid, gid, groups) else "") + \
          ("w" if may(path, os.O_WRONLY, uid, gid, groups) else "")
    expect_equal(got, letters, "user %d may on %s with %s" % (uid, path, get_acl(path)))


# What an ACL grants.

@case("acl", "a named user is granted what their entry says")
def named_user():
    write_file("f", b"x", 0o600)
    expect_may("f", "", 1001)
    set_acl("f", "u::rw,u:1001:rw,u:1002:r,g::,m::rw,o::")
    expect_may("f", "rw", 1001)
    expect_may("f", "r", 1002)
    expect_may("f", "", 1003)


@case("acl", "a named group is granted what its entry says, by main and by supplementary group")
def named_group():
    write_file("f", b"x", 0o600)
    set_acl("f", "u::rw,g::,g:2000:r,g:2001:rw,m::rw,o::")
    expect_may("f", "r", 1001, 2000)
    expect_may("f", "r", 1001, 1001, [2000])
    expect_may("f", "rw", 1001, 1001, [2001])
    expect_may("f", "rw", 1001, 2000, [2001])
    expect_may("f", "", 1001)


@case("acl", "a named user's entry beats the groups and others")
def user_beats_groups():
    write_file("f", b"x", 0o600)
    set_acl("f", "u::rw,u:1001:,g::rw,g:2000:rw,m::rw,o::rw")
    expect_may("f", "", 1001, 2000)
    expect_may("f", "rw", 1002, 2000)
    expect_may("f", "rw", 1003)


@case("acl", "a group's entry that does not grant keeps others' bits from its members")
def group_beats_others():
    write_file("f", b"x", 0o600)
    set_acl("f", "u::rw,g::,g:2000:,m::rw,o::rw")
    expect_may("f", "", 1001, 2000)
    expect_may("f", "rw", 1001)


@case("acl", "the owner has the owner's entry, whatever the named ones say")
def owner_first():
    write_file("f", b"x", 0o600)
    os.chown("f", 1001, 1001)
    set_acl("f", "u::r,u:1001:rw,g::rw,m::rw,o::rw")
    expect_may("f", "r", 1001)


@case("acl", "the mask limits named users, named groups and the owning group, not owner and others")
def mask_limits():
    write_file("f", b"x", 0o600)
    os.chown("f", 1001, 2000)
    set_acl("f", "u::rw,u:1002:rw,g::rw,g:2001:rw,m::r,o::rw")
    expect_may("f", "rw", 1001)
    expect_may("f", "r", 1002)
    expect_may("f", "r", 1003, 2000)
    expect_may("f", "r", 1003, 2001)
    expect_may("f", "rw", 1004)


@case("acl", "a changed ACL counts at once")
def counts_at_once():
    write_file("f", b"x", 0o600)
    set_acl("f", "u::rw,u:1001:rw,g::,m::rw,o::")
    expect_may("f", "rw", 1001)
    set_acl("f", "u::rw,u:1001:r,g::,m::rw,o::")
    expect_may("f", "r", 1001)
    os.removexattr("f", ACCESS)
    expect_may("f", "", 1001)


@case("acl", "search, listing and creating in a directory by ACL")
def on_directories():
    os.mkdir("d", 0o700)
    write_file("d/f", b"x", 0o644)
    set_acl("d", "u::rwx,u:1001:x,u:1002:rx,u:1003:rwx,g::,m::rwx,o::")
    with as_user(1001):
        os.stat("d/f")
        expect_errno(errno.EACCES, os.listdir, "d")
        expect_errno(errno.EACCES, os.mkdir, "d/new")
    with as_user(1002):
        expect_equal(os.listdir("d"), ["f"], "listing")
        expect_errno(errno.EACCES, os.unlink, "d/f")
    with as_user(1003):
        os.mkdir("d/new")
        os.unlink("d/f")
    with as_user(1004):
        expect_errno(errno.EACCES, os.stat, "d/new")


@case("acl", "execution by ACL")
def execution():
    write_file("f", b"#!/bin/sh\nexit 0\n", 0o700)
    set_acl("f", "u::rwx,u:1001:rx,u:1002:r,g::,m::rx,o::")
    with as_user(1001):
        calls.access("f", os.X_OK)
        expect_equal(subprocess.run(["./f"], check=False).returncode, 0, "it runs")
    with as_user(1002):
        expect_errno(errno.EACCES, calls.access, "f", os.X_OK)
        expect_errno(errno.EACCES, os.execv, "./f", ["./f"])


@case("acl", "access(2) asks the ACL")
def access_asks():
    write_file("f", b"x", 0o600)
    set_acl("f", "u::rw,u:1001:r,g::,m::r,o::")
    with as_user(1001):
        calls.access("f", os.R_OK)
        expect_errno(errno.EACCES, calls.access, "f", os.W_OK)
    with as_user(1002):
        expect_errno(errno.EACCES, calls.access, "f", os.R_OK)


# Mode and mask.

@case("acl", "the group bits of the mode show the mask")
def mode_shows_mask():
    write_file("f", b"x", 0o640)
    set_acl("f", "u::rwx,u:1001:rwx,g::r,m::rx,o::x")
    expect_equal(oct(mode_of("f")), oct(0o751), "mode")
    expect_equal(get_acl("f"), "u::rwx,u:1001:rwx,g::r,m::rx,o::x", "ACL")


@case("acl", "chmod changes owner, mask and others, not the owning group's entry")
def chmod_changes_mask():
    write_file("f", b"x", 0o640)
    set_acl("f", "u::rwx,u:1001:rwx,g::r,m::rwx,o::")
    os.chmod("f", 0o601)
    expect_equal(get_acl("f"), "u::rw,u:1001:rwx,g::r,m::,o::x", "ACL after chmod 601")
    expect_equal(oct(mode_of("f")), oct(0o601), "mode")
    expect_may("f", "", 1001)
    os.chmod("f", 0o660)
    expect_equal(get_acl("f"), "u::rw,u:1001:rwx,g::r,m::rw,o::", "ACL after chmod 660")
    expect_may("f", "rw", 1001)


@case("acl", "fchmod changes the mask as well")
def fchmod_changes_mask():
    write_file("f", b"x", 0o640)
    set_acl("f", "u::rw,u:1001:rw,g::r,m::rw,o::")
    fd = os.open("f", os.O_RDONLY)
    os.fchmod(fd, 0o600)
    os.close(fd)
    expect_equal(get_acl("f"), "u::rw,u:1001:rw,g::r,m::,o::", "ACL")


@case("acl", "one that says no more than the mode is not kept")
def minimal():
    write_file("f", b"x", 0o644)
    set_acl("f", "u::rwx,g::x,o::r")
    expect_equal(oct(mode_of("f")), oct(0o714), "mode")
    expect_errno(errno.ENODATA, os.getxattr, "f", ACCESS)
    expect(ACCESS not in os.listxattr("f"), "it is not listed")


@case("acl", "one that says no more than the mode replaces one that does")
def minimal_replaces():
    write_file("f", b"x", 0o644)
    set_acl("f", "u::rw,u:1001:rw,g::r,m::rw,o::")
    set_acl("f", "u::rw,g::r,o::r")
    expect_equal(get_acl("f"), None, "ACL")
    expect_equal(oct(mode_of("f")), oct(0o644), "mode")


@case("acl", "one with a mask and no named entry is kept")
def mask_alone():
    write_file("f", b"x", 0o644)
    set_acl("f", "u::rw,g::rw,m::r,o::")
    expect_equal(get_acl("f"), "u::rw,g::rw,m::r,o::", "ACL")
    expect_equal(oct(mode_of("f")), oct(0o640), "mode")
    os.chown("f", -1, 2000)
    expect_may("f", "r", 1001, 2000)


@case("acl", "removal leaves the mode as it shows")
def removal():
    write_file("f", b"x", 0o640)
    set_acl("f", "u::rw,u:1001:rw,g::r,m::rw,o::")
    os.removexattr("f", ACCESS)
    expect_equal(oct(mode_of("f")), oct(0o660), "mode")
    expect_errno(errno.ENODATA, os.getxattr, "f", ACCESS)


@case("acl", "removing what is not there succeeds")
def remove_nothing():
    write_file("f")
    os.mkdir("d")
    os.removexattr("f", ACCESS)
    os.removexattr("d", ACCESS)
    os.removexattr("d", DEFAULT)


@case("acl", "setting one moves ctime and not mtime")
def moves_ctime():
    write_file("f")
    os.mkdir("d")
    for path, name in (("f", ACCESS), ("d", ACCESS), ("d", DEFAULT)):
        before = os.stat(path)
        tick()
        set_acl(path, "u::rwx,u:1001:rwx,g::r,m::rwx,o::", name)
        after = os.stat(path)
        expect(after.st_ctime_ns > before.st_ctime_ns, "ctime of %s moved with %s" % (path, name))
        expect_equal(after.st_mtime_ns, before.st_mtime_ns, "mtime of %s" % path)
        tick()
        os.removexattr(path, name)
        expect(os.stat(path).st_ctime_ns > after.st_ctime_ns, "ctime of %s moved with the removal" % path)


@case("acl", "set-user-ID, set-group-ID and sticky stay when the owner may keep them")
def special_bits_stay():
    os.mkdir("d")
    os.chmod("d", 0o7755)
    set_acl("d", "u::rwx,u:1001:rwx,g::rx,m::rwx,o::rx")
    expect_equal(oct(mode_of("d")), oct(0o7775), "mode")


@case("acl", "set-group-ID goes where the owner is not in the group and sets an ACL")
def set_group_id_goes():
    write_file("f", b"x", 0o755)
    os.chown("f", 1001, 2000)
    os.chmod("f", 0o2755)
    with as_user(1001):
        set_acl("f", "u::rwx,u:1002:rwx,g::rx,m::rwx,o::rx")
    expect_equal(oct(mode_of("f")), oct(0o775), "mode")
    os.chmod("f", 0o2755)
    with as_user(1001, 1001, [2000]):
        set_acl("f", "u::rwx,u:1002:rwx,g::rx,m::rwx,o::rx")
    expect_equal(oct(mode_of("f")), oct(0o2775), "mode where they are")


@case("acl", "chown leaves the entries")
def chown_leaves():
    write_file("f", b"x", 0o640)
    set_acl("f", "u::rw,u:1001:rw,g::r,m::rw,o::")
    os.chown("f", 1002, 2000)
    expect_equal(get_acl("f"), "u::rw,u:1001:rw,g::r,m::rw,o::", "ACL")
    expect_may("f", "rw", 1002)
    expect_may("f", "r", 1003, 2000)


# Who may.

@case("acl", "the owner sets and removes it, others may not")
def who_may():
    write_file("f", b"x", 0o666)
    os.chmod("f", 0o666)
    os.chown("f", 1001, 1001)
    with as_user(1002):
        expect_errno(errno.EPERM, set_acl, "f", "u::rw,u:1002:rw,g::r,m::rw,o::rw")
    with as_user(1001):
        set_acl("f", "u::rw,u:1002:rw,g::r,m::rw,o::rw")
    with as_user(1002):
        expect_errno(errno.EPERM, os.removexattr, "f", ACCESS)
        expect(get_acl("f") is not None, "everybody may read it")
    with as_user(1001):
        os.removexattr("f", ACCESS)


@case("acl", "it can be read without any permission on the file")
def readable():
    write_file("f", b"x", 0o600)
    set_acl("f", "u::rw,u:1001:rw,g::,m::rw,o::")
    with as_user(1002):
        expect_equal(get_acl("f"), "u::rw,u:1001:rw,g::,m::rw,o::", "ACL")


# What is refused.

@case("acl", "what is not well formed is EINVAL")
def malformed():
    write_file("f")
    os.mkdir("d")
    bad = {
        "no owner": "g::r,o::r", "no group": "u::r,o::r", "no others": "u::rw,g::r",
        "named without mask": "u::rw,u:1001:r,g::r,o::r", "two owners": "u::rw,u::r,g::r,o::r",
        "two masks": "u::rw,g::r,m::r,m::r,o::r", "wrong order": "g::r,u::rw,o::r",
        "mask before group": "u::rw,u:1:r,m::r,g::r,o::r",
    }
    for what, text in bad.items():
        for path, name in (("f", ACCESS), ("d", DEFAULT)):
            expect_errno(errno.EINVAL, set_acl, path, text, name)
        expect_equal(get_acl("f"), None, what)
    good = acl("u::rw,g::r,o::r")
    for value in (good[:-1], good + b"\0", good[:5], good[:3], b"\1", struct.pack("<I", 2) + b"\0" * 24,
                  good[:4] + struct.pack("<HHI", 3, 6, NOBODY_IN_PARTICULAR) + good[12:],
                  good[:4] + struct.pack("<HHI", 1, 15, NOBODY_IN_PARTICULAR) + good[12:]):
        expect_errno(errno.EINVAL, calls.setxattr, "f", ACCESS, value)
    expect_errno(errno.EOPNOTSUPP, calls.setxattr, "f", ACCESS, struct.pack("<I", 1) + good[4:])
    expect_equal(oct(mode_of("f")), oct(0o644), "the mode is as it was")


@case("acl", "a default ACL on what is no directory is EACCES")
def default_on_file():
    write_file("f")
    expect_errno(errno.EACCES, set_acl, "f", "u::rw,g::r,o::r", DEFAULT)
    expect_errno(errno.ENODATA, os.getxattr, "f", DEFAULT)


@case("acl", "a symbolic link has none")
def on_links():
    os.symlink("x", "l")
    expect_errno(errno.EOPNOTSUPP, calls.setxattr, "l", ACCESS, acl("u::rwx,u:1:r,g::rwx,m::rwx,o::rwx"))
    expect_errno((errno.EOPNOTSUPP, errno.ENODATA), os.getxattr, "l", ACCESS, follow_symlinks=False)


@case("acl", "fifos, sockets and devices have them")
def on_special_files():
    for name, kind in (("p", stat.S_IFIFO), ("s", stat.S_IFSOCK), ("c", stat.S_IFCHR), ("b", stat.S_IFBLK)):
        calls.mknod(name, kind | 0o600, os.makedev(1, 3))
        set_acl(name, "u::rw,u:1001:rw,g::,m::rw,o::")
        expect_equal(get_acl(name), "u::rw,u:1001:rw,g::,m::rw,o::", "ACL of %s" % name)
        with as_user(1001):
            calls.access(name, os.R_OK | os.W_OK)
        with as_user(1002):
            expect_errno(errno.EACCES, calls.access, name, os.R_OK)


@case("acl", "many entries")
def many_entries():
    write_file("f", b"x", 0o600)
    users = ",".join("u:%d:r" % uid for uid in range(3000, 3100))
    groups = ",".join("g:%d:r" % gid for gid in range(4000, 4100))
    text = "u::rw,%s,g::,%s,m::r,o::" % (users, groups)
    set_acl("f", text)
    expect_equal(get_acl("f"), text, "ACL")
    expect_may("f", "r", 3099)
    expect_may("f", "r", 1001, 4099)
    expect_may("f", "", 3100)


# Inheritance.

@case("acl", "a default ACL does not count for the directory itself")
def default_is_not_access():
    os.mkdir("d", 0o700)
    set_acl("d", "u::rwx,u:1001:rwx,g::,m::rwx,o::", DEFAULT)
    with as_user(1001):
        expect_errno(errno.EACCES, os.listdir, "d")
    expect_equal(oct(mode_of("d")), oct(0o700), "mode")
    expect_equal(get_acl("d"), None, "access ACL")


@case("acl", "a new file takes the default ACL, limited by the mode asked for, not by the umask")
def file_inherits():
    os.mkdir("d")
    set_acl("d", "u::rwx,u:1001:rwx,g::rx,m::rwx,o::rx", DEFAULT)
    os.umask(0o077)
    os.close(os.open("d/f", os.O_CREAT | os.O_EXCL, 0o666))
    expect_equal(get_acl("d/f"), "u::rw,u:1001:rwx,g::rx,m::rw,o::r", "ACL of a file made with 666")
    expect_equal(oct(mode_of("d/f")), oct(0o664), "mode of a file made with 666")
    os.close(os.open("d/g", os.O_CREAT | os.O_EXCL, 0o640))
    expect_equal(get_acl("d/g"), "u::rw,u:1001:rwx,g::rx,m::r,o::", "ACL of a file made with 640")
    expect_equal(oct(mode_of("d/g")), oct(0o640), "mode of a file made with 640")
    expect_errno(errno.ENODATA, os.getxattr, "d/f", DEFAULT)


@case("acl", "a new directory takes it for itself and for what will be in it")
def directory_inherits():
    os.mkdir("d")
    text = "u::rwx,u:1001:rwx,g::rx,m::rwx,o::rx"
    set_acl("d", text, DEFAULT)
    os.umask(0o077)
    os.mkdir("d/e", 0o775)
    expect_equal(get_acl("d/e", DEFAULT), text, "default ACL")
    expect_equal(get_acl("d/e"), text, "access ACL")
    expect_equal(oct(mode_of("d/e")), oct(0o775), "mode")
    os.mkdir("d/e/f", 0o700)
    expect_equal(get_acl("d/e/f", DEFAULT), text, "default ACL two levels below")
    expect_equal(get_acl("d/e/f"), "u::rwx,u:1001:rwx,g::rx,m::,o::", "access ACL two levels below")


@case("acl", "a default ACL that says no more than a mode sets modes only")
def minimal_default():
    os.mkdir("d")
    set_acl("d", "u::rwx,g::rx,o::", DEFAULT)
    os.umask(0)
    os.close(os.open("d/f", os.O_CREAT | os.O_EXCL, 0o666))
    os.mkdir("d/e", 0o777)
    expect_equal(oct(mode_of("d/f")), oct(0o640), "mode of the file")
    expect_equal(get_acl("d/f"), None, "ACL of the file")
    expect_equal(oct(mode_of("d/e")), oct(0o750), "mode of the directory")
    expect_equal(get_acl("d/e", DEFAULT), "u::rwx,g::rx,o::", "default ACL of the directory")
    expect_equal(get_acl("d/e"), None, "access ACL of the directory")


@case("acl", "a default ACL with a mask and no named entry limits the group")
def default_mask():
    os.mkdir("d")
    set_acl("d", "u::rwx,g::rwx,m::rx,o::", DEFAULT)
    os.umask(0)
    os.close(os.open("d/f", os.O_CREAT | os.O_EXCL, 0o666))
    expect_equal(get_acl("d/f"), "u::rw,g::rwx,m::r,o::", "ACL")
    expect_equal(oct(mode_of("d/f")), oct(0o640), "mode")


@case("acl", "fifos, sockets and devices inherit, symbolic links do not")
def special_files_inherit():
    os.mkdir("d")
    set_acl("d", "u::rwx,u:1001:rw,g::,m::rw,o::", DEFAULT)
    for name, kind in (("p", stat.S_IFIFO), ("s", stat.S_IFSOCK), ("c", stat.S_IFCHR)):
        calls.mknod("d/" + name, kind | 0o666, os.makedev(1, 3))
        expect_equal(get_acl("d/" + name), "u::rw,u:1001:rw,g::,m::rw,o::", "ACL of %s" % name)
    os.symlink("x", "d/l")
    expect_equal(oct(mode_of("d/l")), oct(0o777), "mode of a link")


@case("acl", "a file without a name inherits")
def tmpfile_inherits():
    os.mkdir("d")
    set_acl("d", "u::rwx,u:1001:rw,g::,m::rw,o::", DEFAULT)
    fd = os.open("d", os.O_TMPFILE | os.O_RDWR, 0o666)
    expect_equal(text_of(os.getxattr(fd, ACCESS)), "u::rw,u:1001:rw,g::,m::rw,o::", "ACL")
    calls.link("/proc/self/fd/%d" % fd, "d/f", calls.AT_SYMLINK_FOLLOW)
    expect_equal(get_acl("d/f"), "u::rw,u:1001:rw,g::,m::rw,o::", "ACL of the linked file")
    os.close(fd)


@case("acl", "what is inherited counts at once")
def inherited_counts():
    os.mkdir("d")
    set_acl("d", "u::rwx,u:1001:rwx,g::,m::rwx,o::", DEFAULT)
    os.umask(0o077)
    write_file("d/f", b"x", 0o666)
    expect_may("d/f", "rw", 1001)
    expect_may("d/f", "", 1002)
    os.mkdir("d/e", 0o777)
    with as_user(1001):
        write_file("d/e/new", b"y", 0o666)
    expect_equal(os.stat("d/e/new").st_uid, 1001, "owner of what was made so")
    expect_equal(read_file("d/e/new"), b"y", "contents")


@case("acl", "renaming and linking into a directory inherit nothing")
def no_inheritance_by_rename():
    os.mkdir("d")
    set_acl("d", "u::rwx,u:1001:rwx,g::,m::rwx,o::", DEFAULT)
    write_file("f", b"", 0o644)
    os.link("f", "d/l")
    os.rename("f", "d/f")
    expect_equal(get_acl("d/f"), None, "ACL")
    expect_equal(oct(mode_of("d/f")), oct(0o644), "mode")


@case("acl", "a set-group-ID directory with a default ACL gives both")
def set_group_id_and_default():
    os.mkdir("d")
    os.chown("d", -1, 2000)
    os.chmod("d", 0o2775)
    set_acl("d", "u::rwx,u:1001:rwx,g::rwx,m::rwx,o::rx", DEFAULT)
    os.mkdir("d/e", 0o775)
    write_file("d/f", b"", 0o666)
    expect_equal((os.stat("d/e").st_gid, oct(mode_of("d/e"))), (2000, oct(0o2775)), "the directory")
    expect_equal((os.stat("d/f").st_gid, oct(mode_of("d/f"))), (2000, oct(0o664)), "the file")


@case("acl", "removal of the default ACL brings the umask back")
def removed_default():
    os.mkdir("d")
    set_acl("d", "u::rwx,u:1001:rwx,g::rwx,m::rwx,o::rwx", DEFAULT)
    os.removexattr("d", DEFAULT)
    os.umask(0o027)
    write_file("d/f", b"", 0o666)
    expect_equal((get_acl("d/f"), oct(mode_of("d/f"))), (None, oct(0o640)), "ACL and mode")


@case("acl", "a default ACL without entries removes it")
def empty_default():
    os.mkdir("d")
    set_acl("d", "u::rwx,u:1001:rwx,g::rwx,m::rwx,o::rwx", DEFAULT)
    calls.setxattr("d", DEFAULT, struct.pack("<I", 2))
    expect_equal(get_acl("d", DEFAULT), None, "default ACL")


@case("acl", "an access ACL without entries removes it")
def empty_access():
    write_file("f", b"", 0o640)
    set_acl("f", "u::rw,u:1001:rw,g::r,m::rw,o::")
    calls.setxattr("f", ACCESS, struct.pack("<I", 2))
    expect_equal((get_acl("f"), oct(mode_of("f"))), (None, oct(0o660)), "ACL and mode")


@case("acl", "setfacl and getfacl understand each other")
def tools():
    try:
        subprocess.run(["setfacl", "--version"], stdout=subprocess.DEVNULL, check=True)
    except FileNotFoundError:
        skip("no setfacl on this machine")
    os.mkdir("d")
    write_file("d/f", b"x", 0o640)
    subprocess.run(["setfacl", "-R", "-m", "u:1001:rwX,g:2000:rX,d:u:1001:rwX,d:g:2000:rX", "d"], check=True)
    dump = subprocess.run(["getfacl", "-R", "-n", "d"], stdout=subprocess.PIPE, check=True).stdout
    for line in (b"user:1001:rwx", b"group:2000:r-x", b"default:user:1001:rwx", b"user:1001:rw-", b"group:2000:r--"):
        expect(line in dump, "getfacl prints %s" % line.decode(), dump)
    subprocess.run(["setfacl", "-R", "-b", "d"], check=True)
    expect_equal((get_acl("d"), get_acl("d", DEFAULT), get_acl("d/f")), (None, None, None), "after setfacl -b")
    subprocess.run(["setfacl", "--restore=-"], input=dump, check=True)
    again = subprocess.run(["getfacl", "-R", "-n", "d"], stdout=subprocess.PIPE, check=True).stdout
    expect_equal(again, dump, "after setfacl --restore")


@case("acl", "cp -a and hard links carry it")
def copied():
    write_file("f", b"x", 0o640)
    set_acl("f", "u::rw,u:1001:rw,g::r,m::rw,o::")
    os.link("f", "g")
    expect_equal(get_acl("g"), "u::rw,u:1001:rw,g::r,m::rw,o::", "ACL of the second name")
    subprocess.run(["cp", "-a", "f", "h"], check=True)
    expect_equal(get_acl("h"), "u::rw,u:1001:rw,g::r,m::rw,o::", "ACL of the copy")
