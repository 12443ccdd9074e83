#!/usr/bin/env python3
"""An ordinary user mounts, works, freezes, restores and unmounts, through fusermount3."""
import os
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import CAIRN, Workspace, check, finish, need_fuse, need_root, run, workdir  # noqa: E402

USER = 65534  # nobody


def main():
    need_fuse()
    need_root()
    if not shutil.which("fusermount3"):
        print("SKIP ordinary_user: there is no fusermount3")
        sys.exit(77)
    mode = os.stat("/dev/fuse").st_mode
    if not mode & 0o006 == 0o006:
        os.chmod("/dev/fuse", 0o666)
    base = workdir()
    program = os.path.join(base, "cairn")
    shutil.copy(CAIRN, program)
    os.chmod(program, 0o755)
    os.chown(base, USER, USER)
    status = os.fork()
    if not status:
        os.setgroups([])
        os.setgid(USER)
        os.setuid(USER)
        os.environ["HOME"] = base
        import harness
        harness.CAIRN = program
        work(base, program)
        os._exit(1 if harness._state["failed"] else 0)
    code = os.waitstatus_to_exitcode(os.waitpid(status, 0)[1])
    check(code == 0, "every step as an ordinary user")
    finish()


def work(base, program):
    one = Workspace(base).mount()
    with open(one.p("mine"), "w") as out:
        out.write("first")
    os.chmod(one.p("mine"), 0o640)
    one.cairn("freeze", "a")
    with open(one.p("mine"), "w") as out:
        out.write("second")
    one.cairn("restore", "a")
    with open(one.p("mine")) as data:
        check(data.read() == "first", "freeze and restore")
    check(os.stat(one.p("mine")).st_uid == USER, "files belong to who made them")
    try:
        os.chown(one.p("mine"), 0, 0)
        check(False, "giving a file away is refused")
    except PermissionError:
        check(True, "giving a file away is refused")
    done = run(program, "status", cwd=one.path)
    check("main" in done.stdout, "a command finds its store by the directory that it is in")
    check(os.stat(one.store).st_mode & 0o077 == 0, "the store is closed to others")
    one.umount()
    one.check_store()


main()
