"""System calls that Python's os module lacks or wraps too much.  All raise OSError."""
import ctypes
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
for _name in ("telldir", "lseek"):
    getattr(_libc, _name).restype = ctypes.c_long
for _name in ("opendir", "fdopendir", "readdir64", "mmap", "mremap"):
    getattr(_libc, _name).restype = ctypes.c_void_p

CLOCK_REALTIME_COARSE = 5

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_EACCESS = 0x200
AT_REMOVEDIR = 0x200
AT_SYMLINK_FOLLOW = 0x400
AT_NO_AUTOMOUNT = 0x800
AT_EMPTY_PATH = 0x1000
AT_STATX_FORCE_SYNC = 0x2000
AT_STATX_DONT_SYNC = 0x4000

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4

FALLOC_FL_KEEP_SIZE = 0x01
FALLOC_FL_PUNCH_HOLE = 0x02
FALLOC_FL_COLLAPSE_RANGE = 0x08
FALLOC_FL_ZERO_RANGE = 0x10
FALLOC_FL_INSERT_RANGE = 0x20
FALLOC_FL_UNSHARE_RANGE = 0x40

UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2

XATTR_CREATE = 1
XATTR_REPLACE = 2

STATX_BASIC_STATS = 0x7FF
STATX_BTIME = 0x800

MREMAP_MAYMOVE = 1
MS_ASYNC = 1
MS_INVALIDATE = 2
MS_SYNC = 4

F_OFD_GETLK = 36
F_OFD_SETLK = 37
F_OFD_SETLKW = 38

O_TMPFILE = os.O_TMPFILE
O_PATH = os.O_PATH

_SYS = {"renameat2": 316, "statx": 332, "openat2": 437, "faccessat2": 439, "fchmodat2": 452, "getdents64": 217,
        "copy_file_range": 326, "utimensat": 280, "preadv2": 327, "pwritev2": 328}


def _path(path):
    return path if path is None else ctypes.c_char_p(os.fsencode(path))


def _checked(result, *names):
    if result == -1 or result is None:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), *names[:1])
    return result


def _long(value):
    return ctypes.c_long(value)


def _syscall(name, *arguments):
    return _checked(_libc.syscall(_long(_SYS[name]), *arguments))


def set_dumpable():
    _checked(_libc.prctl(4, _long(1), _long(0), _long(0), _long(0)))


def mkdir(path, mode=0o777):
    _checked(_libc.mkdir(_path(path), mode), path)


def mknod(path, mode, device=0, dir_fd=AT_FDCWD):
    _checked(_libc.mknodat(dir_fd, _path(path), ctypes.c_uint(mode), ctypes.c_ulong(device)), path)


def link(old, new, flags=0, old_fd=AT_FDCWD, new_fd=AT_FDCWD):
    """linkat(2): without AT_SYMLINK_FOLLOW a symbolic link itself gets the new name."""
    _checked(_libc.linkat(old_fd, _path(old), new_fd, _path(new), flags), old)


def unlinkat(path, flags=0, dir_fd=AT_FDCWD):
    _checked(_libc.unlinkat(dir_fd, _path(path), flags), path)


def rename(old, new):
    _checked(_libc.rename(_path(old), _path(new)), old)


def renameat2(old, new, flags=0, old_fd=AT_FDCWD, new_fd=AT_FDCWD):
    _syscall("renameat2", _long(old_fd), _path(old), _long(new_fd), _path(new), _long(flags))


def access(path, mode):
    _checked(_libc.access(_path(path), mode), path)


def faccessat2(path, mode, flags=0, dir_fd=AT_FDCWD):
    _syscall("faccessat2", _long(dir_fd), _path(path), _long(mode), _long(flags))


def fchmodat2(path, mode, flags=0, dir_fd=AT_FDCWD):
    _syscall("fchmodat2", _long(dir_fd), _path(path), _long(mode), _long(flags))


def chown(path, uid, gid, flags=0, dir_fd=AT_FDCWD):
    """fchownat(2); -1 keeps."""
    _checked(_libc.fchownat(dir_fd, _path(path), ctypes.c_uint(uid & 0xFFFFFFFF), ctypes.c_uint(gid & 0xFFFFFFFF),
                            flags), path)


def truncate(path, size):
    _checked(_libc.truncate(_path(path), _long(size)), path)


def ftruncate(fd, size):
    _checked(_libc.ftruncate(fd, _long(size)))


def fallocate(fd, mode, offset, length):
    _checked(_libc.fallocate(fd, mode, _long(offset), _long(length)))


def posix_fallocate(fd, offset, length):
    result = _libc.posix_fallocate(fd, _long(offset), _long(length))
    if result:
        raise OSError(result, os.strerror(result))


def copy_file_range(fd_in, offset_in, fd_out, offset_out, length, flags=0):
    """Offsets None: the files' own positions.  Returns the number of bytes copied."""
    source = None if offset_in is None else ctypes.byref(ctypes.c_int64(offset_in))
    target = None if offset_out is None else ctypes.byref(ctypes.c_int64(offset_out))
    return _syscall("copy_file_range", _long(fd_in), source, _long(fd_out), target, _long(length), _long(flags))


def utimensat(path, times, flags=0, dir_fd=AT_FDCWD):
    """`times`: ((seconds, ns), (seconds, ns)) for access and modification, or None for now.  `path` None: the
    file that is open as dir_fd."""
    spec = None
    if times is not None:
        spec = ctypes.create_string_buffer(struct.pack("qqqq", *times[0], *times[1]), 32)
    _syscall("utimensat", _long(dir_fd), _path(path), spec, _long(flags))


def futimens(fd, times):
    utimensat(None, times, dir_fd=fd)


class Statx:
    """The fields of struct statx, without the prefix; times as (seconds, ns)."""

    def __init__(self, raw):
        (self.mask, self.blksize, self.attributes, self.nlink, self.uid, self.gid, self.mode, self.ino, self.size,
         self.blocks, self.attributes_mask) = struct.unpack_from("=IIQIIIHxxQQQQ", raw, 0)
        for index, name in enumerate(("atime", "btime", "ctime", "mtime")):
            setattr(self, name, struct.unpack_from("=qI", raw, 64 + 16 * index))
        (self.rdev_major, self.rdev_minor, self.dev_major, self.dev_minor, self.mnt_id, self.dio_mem_align,
         self.dio_offset_align) = struct.unpack_from("=IIIIQII", raw, 128)


def statx(path, flags=0, mask=STATX_BASIC_STATS | STATX_BTIME, dir_fd=AT_FDCWD):
    buffer = ctypes.create_string_buffer(256)
    _syscall("statx", _long(dir_fd), _path(path), _long(flags), _long(mask), buffer)
    return Statx(buffer.raw)


def openat2(path, flags, mode=0, resolve=0, dir_fd=AT_FDCWD):
    how = ctypes.create_string_buffer(struct.pack("QQQ", flags, mode, resolve), 24)
    return _syscall("openat2", _long(dir_fd), _path(path), how, _long(24))


def name_to_handle_at(path, flags=0, dir_fd=AT_FDCWD):
    """Returns (mount id, the handle as bytes for open_by_handle_at)."""
    buffer = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 8 + 128)
    mount = ctypes.c_int()
    _checked(_libc.name_to_handle_at(dir_fd, _path(path), buffer, ctypes.byref(mount), flags), path)
    size = struct.unpack_from("I", buffer.raw)[0]
    return mount.value, buffer.raw[:8 + size]


def open_by_handle_at(mount_fd, handle, flags):
    return _checked(_libc.open_by_handle_at(mount_fd, ctypes.create_string_buffer(handle, len(handle)), flags))


def setxattr(path, name, value, flags=0):
    _checked(_libc.lsetxattr(_path(path), _path(name), value, ctypes.c_size_t(len(value)), flags), path)


def fsetxattr(fd, name, value, flags=0):
    _checked(_libc.fsetxattr(fd, _path(name), value, ctypes.c_size_t(len(value)), flags))


def getxattr_into(path, name, size):
    """lgetxattr(2) with a buffer of `size` bytes (0 asks for the size).  Returns (result, bytes)."""
    buffer = ctypes.create_string_buffer(max(size, 1))
    got = _checked(_libc.lgetxattr(_path(path), _path(name), buffer, ctypes.c_size_t(size)), path)
    return got, buffer.raw[:min(got, size)]


def listxattr_into(path, size):
    buffer = ctypes.create_string_buffer(max(size, 1))
    got = _checked(_libc.llistxattr(_path(path), buffer, ctypes.c_size_t(size)), path)
    return got, buffer.raw[:min(got, size)]


def syncfs(fd):
    _checked(_libc.syncfs(fd))


def sync_file_range(fd, offset, length, flags):
    _checked(_libc.sync_file_range(fd, _long(offset), _long(length), ctypes.c_uint(flags)))


def mmap(length, protection, flags, fd, offset=0):
    """Returns the address."""
    address = _libc.mmap(None, ctypes.c_size_t(length), protection, flags, fd, _long(offset))
    return _mapped(address)


def mremap(address, old_length, new_length, flags=MREMAP_MAYMOVE):
    return _mapped(_libc.mremap(ctypes.c_void_p(address), ctypes.c_size_t(old_length), ctypes.c_size_t(new_length),
                                flags))


def _mapped(address):
    if address is None or address == ctypes.c_void_p(-1).value:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return address


def munmap(address, length):
    _checked(_libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(length)))


def msync(address, length, flags=MS_SYNC):
    _checked(_libc.msync(ctypes.c_void_p(address), ctypes.c_size_t(length), flags))


def memory_read(address, length):
    return ctypes.string_at(address, length)


def memory_write(address, data):
    ctypes.memmove(address, data, len(data))


class Entry:
    """One directory entry as getdents64(2) gives it."""

    def __init__(self, ino, offset, kind, name):
        self.ino = ino
        self.offset = offset
        self.kind = kind  # DT_…: (st_mode >> 12) & 15
        self.name = name

    def __repr__(self):
        return "Entry(%d, %d, %d, %r)" % (self.ino, self.offset, self.kind, self.name)


def getdents(fd, size=32768):
    """The next entries of an open directory; empty at its end."""
    buffer = ctypes.create_string_buffer(size)
    got = _syscall("getdents64", _long(fd), buffer, _long(size))
    raw = buffer.raw[:got]
    entries = []
    at = 0
    while at < got:
        ino, offset, length, kind = struct.unpack_from("=QqHB", raw, at)
        entries.append(Entry(ino, offset, kind, raw[at + 19:at + length].split(b"\0", 1)[0]))
        at += length
    return entries


class Dir:
    """A directory stream of the C library: readdir, telldir, seekdir, rewinddir."""

    def __init__(self, path):
        self._dir = ctypes.c_void_p(_checked(_libc.opendir(_path(path)), path))

    def read(self):
        """The next name, None at the end."""
        ctypes.set_errno(0)
        entry = _libc.readdir64(self._dir)
        if not entry:
            if ctypes.get_errno():
                _checked(-1)
            return None
        return ctypes.string_at(entry + 19)

    def rest(self):
        names = []
        while (name := self.read()) is not None:
            names.append(name)
        return names

    def tell(self):
        return _libc.telldir(self._dir)

    def seek(self, position):
        _libc.seekdir(self._dir, _long(position))

    def rewind(self):
        _libc.rewinddir(self._dir)

    def close(self):
        _libc.closedir(self._dir)


class Inotify:
    """Watches; read() returns [(watch, mask, cookie, name)] of what has arrived within `wait` seconds."""

    ACCESS, MODIFY, ATTRIB, CLOSE_WRITE, CLOSE_NOWRITE, OPEN, MOVED_FROM, MOVED_TO = (1 << n for n in range(8))
    CREATE, DELETE, DELETE_SELF, MOVE_SELF = (1 << n for n in range(8, 12))
    UNMOUNT, OVERFLOW, IGNORED = 1 << 13, 1 << 14, 1 << 15
    ISDIR = 1 << 30

    def __init__(self):
        self.fd = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def watch(self, path, mask=0xFFF):
        return _checked(_libc.inotify_add_watch(self.fd, _path(path), ctypes.c_uint(mask)), path)

    def read(self):
        events = []
        while True:
            try:
                raw = os.read(self.fd, 65536)
            except BlockingIOError:
                return events
            at = 0
            while at < len(raw):
                watch, mask, cookie, length = struct.unpack_from("iIII", raw, at)
                events.append((watch, mask, cookie, raw[at + 16:at + 16 + length].rstrip(b"\0")))
                at += 16 + length

    def close(self):
        os.close(self.fd)
