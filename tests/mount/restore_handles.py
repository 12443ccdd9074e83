#!/usr/bin/env python3
"""Restore while programs have files open: who is in the way is named; with --force nothing that they do with
their old handles reaches the restored state; readers of what did not change go on without notice, and those of
what did change hear ESTALE, never a mixture."""
import ctypes
import errno
import fcntl
import json
import mmap
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Workspace, check, finish, need_fuse, need_root, run, workdir  # noqa: E402
from picture import differences, picture  # noqa: E402

libc = ctypes.CDLL(None, use_errno=True)
SIZE = 3 * 4096 + 100
STALE, DAMAGED, MISSING, OTHER = 10, 11, 12, 13


def put(path, data):
    with open(path, "wb") as out:
        out.write(data)


def get(path):
    with open(path, "rb") as data:
        return data.read()


def libc_call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


# ---- what is done with an old handle ----

def fallocate(fd, mode, offset, length):
    libc_call("fallocate", fd, mode, ctypes.c_long(offset), ctypes.c_long(length))


def reopened(fd, flags):
    return os.open("/proc/self/fd/%d" % fd, flags)


def direct(fd):
    page = mmap.mmap(-1, 4096)
    os.pwrite(reopened_before["direct"], page, 0)


def spliced(fd):
    read, write = os.pipe()
    os.write(write, b"from a pipe")
    os.splice(read, fd, 11, offset_dst=0)


def sent(fd):
    with open("/proc/self/exe", "rb") as source:
        os.sendfile(fd, source.fileno(), 0, 5000)


def copied(fd, source, to):
    os.copy_file_range(source, to, 4096, 0, 4096)


def linked(fd):
    name = os.path.join(reopened_before["root"], "linked-%d" % os.getpid())
    libc_call("linkat", -100, b"/proc/self/fd/%d" % fd, -100, name.encode(), 0x400)


reopened_before = {}

OPERATIONS = {
    "write": lambda fd: os.write(fd, b"w" * 100),
    "pwrite of whole pages": lambda fd: os.pwrite(fd, b"p" * 8192, 0),
    "pwrite beyond the end": lambda fd: os.pwrite(fd, b"e" * 10, 1 << 20),
    "append": lambda fd: os.write(reopened_before["append"], b"a" * 10),
    "direct write": direct,
    "splice": spliced,
    "sendfile": sent,
    "ftruncate to nothing": lambda fd: os.ftruncate(fd, 0),
    "ftruncate to more": lambda fd: os.ftruncate(fd, 1 << 20),
    "fallocate": lambda fd: fallocate(fd, 0, 0, 1 << 20),
    "punch": lambda fd: fallocate(fd, 3, 0, 4096),
    "copy_file_range to it": lambda fd: copied(fd, reopened_before["steady"], fd),
    "copy_file_range within it": lambda fd: copied(fd, fd, fd),
    "fsync": os.fsync,
    "fdatasync": os.fdatasync,
    "futimens": lambda fd: os.utime(fd, ns=(1, 1)),
    "fchmod": lambda fd: os.fchmod(fd, 0o777),
    "fchown": lambda fd: os.fchown(fd, 1, 1),
    "fsetxattr": lambda fd: os.setxattr(fd, "user.late", b"late"),
    "fremovexattr": lambda fd: os.removexattr(fd, "user.early"),
    "read": lambda fd: os.pread(fd, 100, 0),
    "linkat": linked,
    "reopening": lambda fd: os.write(reopened(fd, os.O_WRONLY), b"r" * 100),
    "reopening to truncate": lambda fd: reopened(fd, os.O_WRONLY | os.O_TRUNC),
}


# These return what they like; what counts is that nothing comes of them.
def store(fd):
    view = reopened_before["view"]
    view[0:4096] = b"s" * 4096
    view[8192:8200] = b"s" * 8


def store_and_sync(fd):
    store(fd)
    reopened_before["view"].flush()


def unmap(fd):
    reopened_before["view"].close()
    reopened_before["private"].close()


SILENT = {
    "store": store,
    "store and msync": store_and_sync,
    "msync": lambda fd: reopened_before["view"].flush(),
    "munmap": unmap,
    "close": os.close,
    "exit": lambda fd: None,
    "killed": lambda fd: os.kill(os.getpid(), signal.SIGKILL),
    "locks": lambda fd: (fcntl.flock(fd, fcntl.LOCK_EX), fcntl.lockf(fd, fcntl.LOCK_UN)),
}


def prepare(fd, path, root):
    """Every sort of old handle, with pages that are dirty when the restore comes."""
    reopened_before["root"] = root
    reopened_before["append"] = reopened(fd, os.O_WRONLY | os.O_APPEND)
    reopened_before["direct"] = reopened(fd, os.O_RDWR | os.O_DIRECT)
    reopened_before["steady"] = os.open(os.path.join(root, "steady"), os.O_RDONLY)
    reopened_before["view"] = mmap.mmap(fd, 3 * 4096)
    reopened_before["private"] = mmap.mmap(fd, 4096, flags=mmap.MAP_PRIVATE)


class User:
    """A process with a handle on one file: does its operation when told."""

    def __init__(self, root, kind, operation, action):
        self.operation, self.kind = operation, kind
        self.path = os.path.join(root, kind, operation.replace(" ", "_"))
        ready, self.go = os.pipe(), os.pipe()
        self.pid = os.fork()
        if not self.pid:
            signal.alarm(120)
            os._exit(self.work(root, action, ready[1]))
        os.close(ready[1])
        if os.read(ready[0], 1) != b"r":
            raise RuntimeError("%s, %s: could not prepare" % (kind, operation))
        os.close(ready[0])
        os.close(self.go[0])

    def work(self, root, action, ready):
        try:
            os.close(self.go[1])
            fd = os.open(self.path, os.O_RDWR | (os.O_CREAT if self.kind.startswith("new") else 0), 0o600)
            if self.kind.startswith("new"):
                os.write(fd, b"n" * SIZE)
                os.setxattr(fd, "user.early", b"e")
            prepare(fd, self.path, root)
            if self.kind != "same":
                os.pwrite(fd, b"DIRTY", 5000)
                reopened_before["view"][10:20] = b"DIRTYSTORE"
            if self.kind.endswith("orphan"):
                os.unlink(self.path)
            if self.kind == "moved":
                os.rename(self.path, self.path + ".moved")
            os.write(ready, b"r")
            os.read(self.go[0], 1)
            action(fd)
            return 0
        except OSError as error:
            return {errno.ESTALE: STALE, errno.EIO: DAMAGED, errno.ENOENT: MISSING}.get(error.errno, OTHER)

    def finish(self):
        os.write(self.go[1], b"g")
        os.close(self.go[1])
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


KINDS = ["changed", "same", "moved", "orphan", "new", "new-orphan"]


def make_base(one):
    put(one.p("steady"), b"s" * SIZE)
    for kind in KINDS:
        os.mkdir(one.p(kind))
        if kind.startswith("new"):
            continue
        for operation in list(OPERATIONS) + list(SILENT):
            path = one.p(kind, operation.replace(" ", "_"))
            put(path, b"b" * SIZE)
            os.setxattr(path, "user.early", b"e")
    one.cairn("freeze", "base")
    for kind in KINDS:
        put(one.p(kind, "other"), b"other")
    put(one.p("steady2"), b"2")
    one.cairn("freeze", "other")
    one.cairn("restore", "base")


def forced(one, restores, what):
    users = [User(one.path, kind, operation, action) for kind in KINDS
             for operation, action in list(OPERATIONS.items()) + list(SILENT.items())]
    done = one.cairn("restore", "base", ok=False)
    check(done.returncode == 3, "%s: restore is refused while %d processes have files open" % (what, len(users)), done.stderr)
    for point in restores:
        one.cairn("restore", point, "--force")
    wrong = []
    for user in users:
        code = user.finish()
        if code in (STALE, -signal.SIGBUS) or (code == MISSING and user.operation == "linkat" and "orphan" in user.kind):
            continue
        if user.operation in OPERATIONS or code == OTHER:
            wrong.append("%s of a file that is %s: %d" % (user.operation, user.kind, code))
    check(not wrong, "%s: each operation on an old handle answers ESTALE" % what, wrong)
    wanted = picture(one.p(".snapshots/base"))
    check(not differences(picture(one.path), wanted), "%s: the tree is the point's" % what, differences(picture(one.path), wanted))
    one.cairn("sync", ok=False)
    numbers = picture(one.path, numbers=True)
    one.cairn("freeze", what)
    frozen = differences(picture(one.p(".snapshots", what)), wanted)
    check(not frozen, "%s: so is what is frozen afterwards" % what, frozen)
    one.remount()
    fresh = differences(picture(one.path, numbers=True), numbers)
    check(not fresh, "%s: and a fresh mount shows the same" % what, fresh)


# ---- who is in the way ----

def holder(path, flags=os.O_RDWR, user=None, chroot=None, only_mapped=False):
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        os.close(go[1])
        signal.alarm(120)
        if chroot:
            os.chroot(chroot)
            os.chdir("/")
        if user:
            os.setuid(user)
        fd = os.open(path, flags)
        if only_mapped:
            reopened_before["view"] = mmap.mmap(fd, 4096)
            os.close(fd)
        os.write(ready[1], b"r")
        os.read(go[0], 1)
        os._exit(0)
    os.close(go[0])
    os.close(ready[1])
    os.read(ready[0], 1)
    return pid, go[1]


def let_go(held):
    os.write(held[1], b"g")
    os.close(held[1])
    os.waitpid(held[0], 0)


def named(one, held, path, what, user="root"):
    done = one.cairn("--json", "restore", "base", ok=False)
    error = json.loads(done.stdout)["error"]
    detail = error["detail"] or []
    mine = [entry for entry in detail if entry["pid"] == held[0]]
    command = open("/proc/%d/comm" % held[0]).read().strip()
    check(done.returncode == 3 and error["code"] == "busy" and len(detail) == 1 and mine and mine[0]["path"] == path and
          mine[0]["command"] == command and mine[0]["user"] == user and str(held[0]) in error["message"],
          "who is in the way is named: %s" % what, error)
    text = one.cairn("restore", "base", ok=False)
    check(text.returncode == 3 and text.stderr.count(str(held[0])) == 1 and path in text.stderr, "once, in the text for people", text.stderr)
    dry = one.json("restore", "base", "--dry-run")["would_block"]
    check(dry == detail, "and the same by --dry-run", dry)
    let_go(held)


def who(one):
    os.mkdir(one.p("sub"))
    put(one.p("sub/doc"), b"d" * 5000)
    os.chmod(one.p("sub/doc"), 0o666)
    one.cairn("freeze", "doc")
    named(one, holder(one.p("sub/doc")), "sub/doc", "an open file")
    nobody = pwd.getpwnam("nobody")
    named(one, holder(one.p("sub/doc"), os.O_WRONLY, user=nobody.pw_uid), "sub/doc", "another user's process", "nobody")
    named(one, holder(one.p("sub/doc"), only_mapped=True), "sub/doc", "a shared mapping whose file is closed")
    named(one, holder("/doc", chroot=one.p("sub")), "sub/doc", "a process with its root inside")
    bound = os.path.join(one.base, "bound")
    os.mkdir(bound)
    run("mount", "--bind", one.p("sub"), bound)
    named(one, holder(os.path.join(bound, "doc")), "sub/doc", "a file that was opened through a bind mount")
    run("umount", bound)
    named(one, holder(one.p("sub/doc"), os.O_WRONLY | os.O_APPEND), "sub/doc", "an appender")
    reader = holder(one.p("sub/doc"), os.O_RDONLY)
    one.cairn("restore", "doc")
    check(True, "a file that is open for reading does not stand in the way")
    let_go(reader)


# ---- readers ----

def bus_or(view, at):
    """What a child sees at a place of a mapping: the byte, or None for SIGBUS."""
    pid = os.fork()
    if not pid:
        os._exit(view[at])
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return None if status == -signal.SIGBUS else status


def readers(one):
    size = 64 * 4096
    for name in ("quiet", "loud"):
        put(one.p(name), b"\x01" * size)
    shutil.copy(shutil.which("sleep"), one.p("steady-program"))
    put(one.p("script"), b"#!/bin/sh\nread line\necho old\n" + b"#" * 300000 + b"\necho end\n")
    one.cairn("freeze", "readers")
    put(one.p("loud"), b"\x02" * size)
    with open(one.p("script"), "r+b") as script:
        script.seek(0, 2)
        script.write(b"echo abandoned\n")
    handles = {name: os.open(one.p(name), os.O_RDONLY) for name in ("quiet", "loud")}
    views = {(name, kind): mmap.mmap(fd, size, flags=kind, prot=mmap.PROT_READ) for name, fd in handles.items()
             for kind in (mmap.MAP_SHARED, mmap.MAP_PRIVATE)}
    copy = mmap.mmap(handles["loud"], size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    copy[0] = 9
    for view in list(views.values()) + [copy]:
        view[4096 * 3]
    program = subprocess.Popen([one.p("steady-program"), "60"])
    shell = subprocess.Popen(["/bin/sh", one.p("script")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(0.2)
    one.cairn("restore", "readers")
    check(os.pread(handles["quiet"], size, 0) == b"\x01" * size, "a reader of a file that did not change goes on")
    check(all(views["quiet", kind][at] == 1 for kind in (mmap.MAP_SHARED, mmap.MAP_PRIVATE) for at in range(0, size, 4096)),
          "so do its mappings")
    check(program.poll() is None, "and a program that runs from the mount")
    program.terminate()
    program.wait()
    seen = []
    for at in range(0, size, 4096):
        try:
            seen.append(os.pread(handles["loud"], 1, at))
        except OSError as error:
            seen.append(error.errno)
    check(set(seen) == {errno.ESTALE}, "a reader of one that changed hears ESTALE everywhere", set(seen))
    mapped = {bus_or(views["loud", kind], at) for kind in (mmap.MAP_SHARED, mmap.MAP_PRIVATE) for at in range(0, size, 4096 * 5)}
    check(mapped == {None}, "and its mappings SIGBUS", mapped)
    check(copy[0] == 9 and bus_or(copy, 4096 * 3) is None, "what a private mapping had changed is still the process's own")
    check(get(one.p("loud")) == b"\x01" * size, "who opens it anew has the restored contents")
    out, err = shell.communicate(b"go\n", timeout=30)
    check(b"abandoned" not in out, "a shell that reads a script does not run into another version of it", (out, err))
    for fd in handles.values():
        os.close(fd)


def follower(one):
    put(one.p("log"), b"one\n")
    one.cairn("freeze", "log")
    with open(one.p("log"), "ab") as log:
        log.write(b"two\n")
    tail = subprocess.Popen(["tail", "-F", "--sleep-interval=0.1", one.p("log")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(0.5)
    one.cairn("restore", "log")
    time.sleep(0.5)
    with open(one.p("log"), "ab") as log:
        log.write(b"three\n")
    time.sleep(1)
    tail.terminate()
    out, err = tail.communicate(timeout=20)
    check(out.startswith("one\ntwo\n") and out.endswith("three\n"), "tail -F follows over a restore", (out, err))


def truncating_opener(one):
    """An O_TRUNC that is held by a restore keeps the kernel from writing pages back: it must not hang."""
    put(one.p("torn"), b"t" * (1 << 20))
    one.cairn("freeze", "torn")
    stop = []

    def spin(flags):
        pid = os.fork()
        if not pid:
            signal.alarm(60)
            while True:
                try:
                    fd = os.open(one.p("torn"), flags, 0o644)
                    os.pwrite(fd, b"x" * 20000, 0)
                    os.close(fd)
                except OSError:
                    pass
        stop.append(pid)
    spin(os.O_WRONLY | os.O_TRUNC)
    spin(os.O_WRONLY)
    spin(os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    start = time.monotonic()
    for _ in range(15):
        one.cairn("restore", "torn", "--force", timeout=60)
    check(time.monotonic() - start < 60, "forced restores under openers that truncate do not hang", time.monotonic() - start)
    for pid in stop:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    one.cairn("restore", "torn", "--force")
    check(get(one.p("torn")) == b"t" * (1 << 20), "and leave the point's contents")


def main():
    need_fuse()
    need_root()
    base = workdir()
    os.chmod(base, 0o755)
    one = Workspace(base, options="allow_other").mount()
    make_base(one)
    forced(one, ["base"], "once")
    forced(one, ["base", "other", "base"], "three-times")
    who(one)
    readers(one)
    follower(one)
    truncating_opener(one)
    one.umount()
    one.check_store()
    finish()


main()
