"""Extended attributes: sizes, lists, names (the rest: xattr.tab; ACLs: cases_acl.py)."""
import errno
import os
import subprocess

import calls
from conform import as_user, case, drop_caches, expect_equal, expect_errno, opened, write_file

# Extended attributes.

@case("xattr", "values of every size up to 65536 bytes where the file system takes them")
def value_sizes():
    write_file("f")
    for size in (0, 1, 2, 100, 255, 256, 1000, 1023, 1024, 1025, 2000, 3000):
        value = os.urandom(size)
        calls.setxattr("f", "user.a", value)
        expect_equal(os.getxattr("f", "user.a"), value, "value of %d bytes" % size)


@case("xattr", "large values", where="cairn")
def large_values():
    write_file("f")
    for size in (4096, 4097, 16384, 65535, 65536, 3000, 65536, 0):
        value = os.urandom(size)
        calls.setxattr("f", "user.a", value)
        expect_equal(os.getxattr("f", "user.a"), value, "value of %d bytes" % size)
    calls.setxattr("f", "user.a", b"a" * 65536)
    calls.setxattr("f", "user.b", b"b" * 65536)
    drop_caches()
    expect_equal((os.getxattr("f", "user.a"), os.getxattr("f", "user.b")), (b"a" * 65536, b"b" * 65536), "two of them")


@case("xattr", "a value of more than 65536 bytes is E2BIG")
def value_too_big():
    write_file("f")
    calls.setxattr("f", "user.a", b"old")
    for size in (65537, 100000, 1 << 20):
        expect_errno(errno.E2BIG, calls.setxattr, "f", "user.a", b"x" * size)
    expect_equal(os.getxattr("f", "user.a"), b"old", "the old value")


@case("xattr", "an empty value is a value")
def empty_value():
    write_file("f")
    calls.setxattr("f", "user.a", b"")
    expect_equal((os.getxattr("f", "user.a"), os.listxattr("f")), (b"", ["user.a"]), "value and list")
    expect_errno(errno.EEXIST, calls.setxattr, "f", "user.a", b"", calls.XATTR_CREATE)
    calls.setxattr("f", "user.a", b"x", calls.XATTR_REPLACE)
    calls.setxattr("f", "user.a", b"", calls.XATTR_REPLACE)
    expect_equal(os.getxattr("f", "user.a"), b"", "value")


@case("xattr", "values with every byte, zeros at the end too")
def binary_values():
    write_file("f")
    for value in (bytes(range(256)), b"\0", b"\0\0\0\0", b"text\0", b"\xff" * 99, b"\n\n"):
        calls.setxattr("f", "user.a", value)
        expect_equal(os.getxattr("f", "user.a"), value, "value")


@case("xattr", "size 0 asks for the size, a small buffer is ERANGE")
def buffer_sizes():
    write_file("f")
    calls.setxattr("f", "user.a", b"0123456789")
    expect_equal(calls.getxattr_into("f", "user.a", 0)[0], 10, "size of the value")
    expect_equal(calls.getxattr_into("f", "user.a", 10), (10, b"0123456789"), "in a buffer that just fits")
    expect_equal(calls.getxattr_into("f", "user.a", 100), (10, b"0123456789"), "in a larger buffer")
    for size in (1, 9):
        expect_errno(errno.ERANGE, calls.getxattr_into, "f", "user.a", size)
    calls.setxattr("f", "user.bc", b"")
    length = calls.listxattr_into("f", 0)[0]
    expect_equal(length, len(b"user.a\0user.bc\0"), "size of the list")
    expect_equal(sorted(calls.listxattr_into("f", length)[1].split(b"\0")), [b"", b"user.a", b"user.bc"], "list")
    for size in (1, length - 1):
        expect_errno(errno.ERANGE, calls.listxattr_into, "f", size)


@case("xattr", "a size of 0 of an empty list and an empty value")
def buffer_empty():
    write_file("f")
    expect_equal((calls.listxattr_into("f", 0)[0], calls.listxattr_into("f", 100)), (0, (0, b"")), "list")
    calls.setxattr("f", "user.a", b"")
    expect_equal((calls.getxattr_into("f", "user.a", 0)[0], calls.getxattr_into("f", "user.a", 9)), (0, (0, b"")),
                 "value")


@case("xattr", "flags that are not known, or both at once")
def unknown_flags():
    write_file("f")
    expect_errno(errno.EINVAL, calls.setxattr, "f", "user.a", b"x", 4)
    expect_errno(errno.EINVAL, calls.setxattr, "f", "user.a", b"x", 0x80)
    expect_errno((errno.EEXIST, errno.ENODATA, errno.EINVAL), calls.setxattr, "f", "user.a", b"x", 3)
    calls.setxattr("f", "user.a", b"x")
    expect_errno((errno.EEXIST, errno.ENODATA, errno.EINVAL), calls.setxattr, "f", "user.a", b"x", 3)


@case("xattr", "many attributes are listed, each once")
def many_names():
    write_file("f")
    names = ["user.name-%d" % number for number in range(100)]
    for name in names:
        calls.setxattr("f", name, name.encode())
    expect_equal(sorted(os.listxattr("f")), sorted(names), "list")
    for name in names[::3]:
        os.removexattr("f", name)
    left = [name for number, name in enumerate(names) if number % 3]
    expect_equal(sorted(os.listxattr("f")), sorted(left), "list after removals")
    for name in left:
        expect_equal(os.getxattr("f", name), name.encode(), name)


@case("xattr", "a thousand attributes, and names of more than 65536 bytes together", where="cairn")
def very_many_names():
    write_file("f")
    names = ["user.%04d" % number for number in range(1000)]
    for name in names:
        calls.setxattr("f", name, b"v")
    expect_equal(sorted(os.listxattr("f")), names, "list")
    for number in range(300):
        calls.setxattr("f", "user." + ("%03d" % number) * 83, b"v")
    expect_errno((errno.E2BIG, errno.ERANGE), os.listxattr, "f")
    expect_equal(os.getxattr("f", "user.0999"), b"v", "reading goes on")


@case("xattr", "names with every byte but 0")
def name_bytes():
    write_file("f")
    names = [b"user." + bytes([byte]) for byte in range(1, 256)]
    for chunk in (names[:60], names[60:120], names[120:180], names[180:]):
        for name in chunk:
            calls.setxattr("f", name, name)
        got = calls.listxattr_into("f", 65536)[1].split(b"\0")[:-1]
        expect_equal(sorted(got), sorted(chunk), "list")
        for name in chunk:
            expect_equal(os.getxattr("f", name), name, "value")
            os.removexattr("f", name)


@case("xattr", "names that look alike are different names")
def similar_names():
    write_file("f")
    names = ["user.a", "user.a.", "user.a.b", "user.A", "user. a", "user.a ", "user..a", "user.user.a", "user./a/b"]
    for number, name in enumerate(names):
        calls.setxattr("f", name, b"%d" % number)
    for number, name in enumerate(names):
        expect_equal(os.getxattr("f", name), b"%d" % number, name)
    expect_equal(sorted(os.listxattr("f")), sorted(names), "list")


@case("xattr", "trusted attributes are listed to root only")
def trusted_listed():
    write_file("f")
    calls.setxattr("f", "user.a", b"1")
    calls.setxattr("f", "trusted.b", b"2")
    expect_equal(sorted(os.listxattr("f")), ["trusted.b", "user.a"], "root's list")
    with as_user(1001):
        expect_equal(os.listxattr("f"), ["user.a"], "a user's list")
        expect_equal(calls.listxattr_into("f", 0)[0], len("user.a") + 1, "the size of a user's list")
        calls.listxattr_into("f", len("user.a") + 1)
        expect_errno(errno.ENODATA, os.getxattr, "f", "trusted.b")


@case("xattr", "listing needs no permission on the file")
def list_permission():
    write_file("f", b"", 0o600)
    calls.setxattr("f", "user.a", b"1")
    with as_user(1001):
        expect_equal(os.listxattr("f"), ["user.a"], "list")
        expect_errno(errno.EACCES, os.getxattr, "f", "user.a")


@case("xattr", "ACLs are listed with the others")
def acl_listed():
    os.mkdir("d")
    subprocess.run(["setfacl", "-m", "u:1001:rwx,d:u:1001:rwx", "d"], check=True)
    calls.setxattr("d", "user.a", b"1")
    expect_equal(sorted(os.listxattr("d")), ["system.posix_acl_access", "system.posix_acl_default", "user.a"], "list")


@case("xattr", "by descriptor, of an unlinked file too")
def by_descriptor():
    with opened("f", os.O_RDWR | os.O_CREAT) as fd:
        calls.fsetxattr(fd, "user.a", b"1")
        os.unlink("f")
        calls.fsetxattr(fd, "user.b", b"2")
        expect_equal(sorted(os.listxattr(fd)), ["user.a", "user.b"], "list")
        expect_equal(os.getxattr(fd, "user.b"), b"2", "value")
        os.removexattr(fd, "user.a")
        expect_equal(os.listxattr(fd), ["user.b"], "list after removal")
        expect_errno(errno.ENODATA, os.getxattr, fd, "user.a")


@case("xattr", "an O_PATH descriptor is EBADF")
def by_path_descriptor():
    write_file("f")
    with opened("f", os.O_PATH) as fd:
        expect_errno(errno.EBADF, calls.fsetxattr, fd, "user.a", b"1")


@case("xattr", "they are there after the caches were dropped")
def after_cache_drop():
    write_file("f")
    os.mkdir("d")
    os.symlink("x", "l")
    for path in "fdl":
        calls.setxattr(path, "trusted.a", path.encode())
    drop_caches()
    for path in "fdl":
        expect_equal(os.getxattr(path, "trusted.a", follow_symlinks=False), path.encode(), path)


@case("xattr", "replacing by longer and shorter values many times keeps the neighbours")
def replaced_often():
    write_file("f")
    calls.setxattr("f", "user.left", b"l" * 100)
    calls.setxattr("f", "user.right", b"r" * 100)
    for number in range(200):
        value = bytes([number]) * (number * 7 % 1500)
        calls.setxattr("f", "user.middle", value)
        expect_equal(os.getxattr("f", "user.middle"), value, "value")
    expect_equal((os.getxattr("f", "user.left"), os.getxattr("f", "user.right")), (b"l" * 100, b"r" * 100),
                 "neighbours")
