"""What the cases of the conformance test share: registering, expecting, other users, running apart.

A case is a function without arguments.  It runs as root in a forked child, in a fresh empty directory
(its current directory, mode 0755), with umask 022, so that nothing it does to itself is seen by the next:

    @case("mmap", "a shared store is seen by read")
    def shared_store():
        expect(os.pread(fd, 3, 0) == b"new", "read sees what the map wrote")
        expect_errno(errno.EBADF, os.read, 99, 1)
"""
import contextlib
import errno
import json
import os
import select
import shutil
import signal
import stat
import time
import traceback

import calls

TIME_LIMIT = 60  # seconds a case may take


class Failure(Exception):
    """What a case expected did not hold."""


class Skip(Exception):
    """The case cannot be tried here."""


class Case:
    def __init__(self, group, name, run, where=None):
        self.group = group
        self.name = name
        self.run = run
        self.where = where  # "cairn": only there; None: on every file system

    @property
    def key(self):
        return "%s: %s" % (self.group, self.name)


cases = []


def case(group, name, where=None):
    """Registers a function as a case.  `where="cairn"`: it makes sense on a cairn mount only."""
    def register(function):
        cases.append(Case(group, name, function, where))
        return function
    return register


def skip(reason):
    raise Skip(reason)


def expect(ok, text, detail=None):
    if not ok:
        raise Failure(text if detail is None else "%s: %s" % (text, detail))


def expect_equal(got, wanted, text):
    if got != wanted:
        raise Failure("%s: %s, expected %s" % (text, short(got), short(wanted)))


def short(value):
    text = repr(value)
    return text if len(text) <= 200 else "%s…%s (%d characters)" % (text[:120], text[-40:], len(text))


def error_name(number):
    return errno.errorcode.get(number, str(number))


def expect_errno(wanted, function, *arguments, **more):
    """The call must fail with this error (or one of these)."""
    wanted = wanted if isinstance(wanted, (tuple, list, set)) else (wanted,)
    names = " or ".join(error_name(number) for number in wanted)
    words = "%s(%s)" % (getattr(function, "__name__", "call"), ", ".join(short(a) for a in arguments))
    try:
        result = function(*arguments, **more)
    except OSError as error:
        if error.errno not in wanted:
            raise Failure("%s: %s, expected %s" % (words, error_name(error.errno), names)) from None
        return
    raise Failure("%s succeeded (%s), expected %s" % (words, short(result), names))


def become(uid, gid=None, groups=()):
    """Real and effective ids of this process; the saved ids stay root's, so that become_root() works."""
    gid = uid if gid is None else gid
    become_root()
    os.setgroups(list(groups))
    os.setresgid(gid, gid, 0)
    os.setresuid(uid, uid, 0)
    calls.set_dumpable()  # or /proc/self would belong to root


def become_root():
    os.setresuid(0, 0, 0)
    os.setresgid(0, 0, 0)
    os.setgroups([])


@contextlib.contextmanager
def as_user(uid, gid=None, groups=()):
    become(uid, gid, groups)
    try:
        yield
    finally:
        become_root()


def tick():
    """Waits until a time that a file system takes now is later than any it took before."""
    now = time.clock_gettime_ns(time.CLOCK_REALTIME)
    while time.clock_gettime_ns(calls.CLOCK_REALTIME_COARSE) <= now:
        time.sleep(0.001)


def write_file(path, data=b"", mode=0o644):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        while data:
            data = data[os.write(fd, data):]
    finally:
        os.close(fd)


def read_file(path):
    with open(path, "rb") as file:
        return file.read()


def drop_caches():
    """Linux forgets whatever it can do without, files that nobody uses first of all."""
    os.sync()
    try:
        with open("/proc/sys/vm/drop_caches", "w") as control:
            control.write("3")
    except OSError:
        skip("the caches cannot be dropped here")


@contextlib.contextmanager
def opened(path, flags, mode=0o644, **more):
    """A descriptor for the time of a with statement."""
    fd = os.open(path, flags, mode, **more)
    try:
        yield fd
    finally:
        os.close(fd)


def in_child(function):
    """Runs the function in a child; what it raises is raised here."""
    what, text = run_apart(function, TIME_LIMIT)
    if what == "skip":
        raise Skip(text)
    if what != "ok":
        raise Failure(text)


def mount_root(path="."):
    """The root of the mount that a path lies in."""
    path = os.path.realpath(path)
    device = os.lstat(path).st_dev
    while path != "/" and os.lstat(os.path.dirname(path)).st_dev == device:
        path = os.path.dirname(path)
    return path


def is_cairn(path="."):
    return os.path.isdir(os.path.join(mount_root(path), ".snapshots"))


def _report(pipe, function):
    try:
        function()
        result = ("ok", "")
    except Skip as reason:
        result = ("skip", str(reason))
    except Failure as failure:
        result = ("failed", str(failure))
    except BaseException as error:  # a case that breaks must say so
        frame = traceback.extract_tb(error.__traceback__)[-1]
        for entry in traceback.extract_tb(error.__traceback__):
            if os.path.basename(entry.filename).startswith("cases_"):
                frame = entry
        name = error_name(error.errno) + " " if isinstance(error, OSError) and error.errno else ""
        result = ("failed", "%s%s: %s, at %s:%d: %s" % (name, type(error).__name__, error,
                                                       os.path.basename(frame.filename), frame.lineno, frame.line))
    os.write(pipe, json.dumps(result).encode("ascii"))


def run_apart(function, limit):
    """Runs a function in a forked child of its own process group, for at most `limit` seconds.
    Returns ("ok" | "skip" | "failed", text)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setpgid(0, 0)
            os.close(reading)
            _report(writing, function)
        finally:
            os._exit(0)
    os.close(writing)
    parts = []
    end = time.monotonic() + limit
    while True:
        ready, _, _ = select.select([reading], [], [], max(0, end - time.monotonic()))
        part = os.read(reading, 65536) if ready else None
        if not part:
            break
        parts.append(part)
        if parts[-1].endswith(b"]"):
            break
    os.close(reading)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if not parts:
            os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)  # what it left behind
    if parts:
        return tuple(json.loads(b"".join(parts)))
    if time.monotonic() >= end:
        return "failed", "not finished after %d seconds" % limit
    return "failed", "ended with status %d" % status


def remove_tree(path):
    """Removes a tree as root, whatever its modes, names and depth."""
    def again(function, name, _):
        with contextlib.suppress(OSError):
            os.chmod(os.path.dirname(name), stat.S_IRWXU)
            function(name)
    shutil.rmtree(path, onerror=again)


def run_case(one, directory):
    """Runs one case in `directory`, which must not exist yet.  Returns "ok", "skip: why" or what failed."""
    os.mkdir(directory)
    os.chmod(directory, 0o755)

    def body():
        os.chdir(directory)
        os.umask(0o022)
        become_root()
        if one.where == "cairn" and not is_cairn():
            skip("only on cairn")
        one.run()

    what, text = run_apart(body, TIME_LIMIT)
    remove_tree(directory)
    if what == "ok":
        return "ok"
    return "skip: " + text if what == "skip" else text
