"""What the cases about contents share: bytes to write, reading it all, calls by name, processes beside."""
import contextlib
import ctypes
import os
import random
import signal
import struct

import calls
from conform import expect
from conform import read_file as get  # noqa: F401 (for the cases)
from conform import write_file as put  # noqa: F401

PAGE = 4096
libc = ctypes.CDLL(None, use_errno=True)


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]


def read_all(fd, offset=0):
    pieces = []
    while piece := os.pread(fd, 1 << 20, offset):
        pieces.append(piece)
        offset += len(piece)
    return b"".join(pieces)


def pattern(length, salt=0):
    """Bytes without a zero among them that differ from place to place."""
    number = ((salt * 2654435761) & 0xffffffff) | 1
    words = bytearray()
    while len(words) < length:
        number = (number * 6364136223846793005 + 1442695040888963407) & 0xffffffffffffffff
        words += struct.pack("<Q", number | 0x0101010101010101)
    return bytes(words[:length])


def seeded(default):
    """The same numbers in each run, unless $CAIRN_TEST_SEED names others."""
    return random.Random(int(os.environ.get("CAIRN_TEST_SEED", default)))


def call(function, *arguments):
    """A function of the C library by its name, integers as long: its result, or OSError."""
    ctypes.set_errno(0)
    entry = getattr(libc, function)
    entry.restype = ctypes.c_int if function in ("truncate", "posix_fadvise", "madvise") else ctypes.c_ssize_t
    result = entry(*[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def give_name(fd, name):
    """To an open file without one."""
    calls.link("/proc/self/fd/%d" % fd, name, calls.AT_SYMLINK_FOLLOW)


def child_status(body):
    """Runs body() in a process: its exit code, which is what the body returns, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            code = int(body() or 0)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def in_children(count, body):
    """Runs body(n) in as many processes at a time; each must end well."""
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            code = 99
            try:
                body(number)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    expect(not any(codes), "all processes end well", codes)


class Signal:
    """Between processes: tell() on one side ends wait() on the other."""

    def __init__(self):
        self.reader, self.writer = os.pipe()

    def tell(self):
        os.write(self.writer, b"x")

    def wait(self):
        return os.read(self.reader, 1)


@contextlib.contextmanager
def helper(body):
    """A process beside the case, ended with it."""
    child = os.fork()
    if child == 0:
        try:
            body()
        finally:
            os._exit(0)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
