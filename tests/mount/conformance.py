#!/usr/bin/env python3
"""POSIX to the letter: the tables and cases of tests/conform/ on a mount and on the machine's ext4.

Both are held to the same expectations, those of POSIX and the Linux manual pages.  Where one of the two is
known to deviate, tests/conform/differences.py names the case and gives the reason.  Then random calls are made
on both, and compared (tests/conform/twins.py).

CAIRN_TWIN_CALLS: how many of these.
"""
import os
import subprocess
import sys
import traceback

from harness import _state, check, finish, need_fuse, need_root, run, seed, workdir, Workspace

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "conform"))

import conform  # noqa: E402 (the path comes first)
import run as conformance  # noqa: E402
import twins  # noqa: E402
from differences import DIFFERENCES  # noqa: E402

TWIN_CALLS = int(os.environ.get("CAIRN_TWIN_CALLS", "1000"))


def ext4_directory(base):
    """The work directory itself where it is on ext4, else an image on a loop device; None where there is none."""
    path = os.path.join(base, "ext4")
    os.mkdir(path)
    if run("stat", "-f", "-c", "%T", base).stdout.strip() == "ext2/ext3":
        return path
    image = os.path.join(base, "ext4.image")
    run("truncate", "-s", "4G", image)
    made = run("mkfs.ext4", "-q", "-F", image, ok=False)
    mounted = run("mount", "-o", "loop", image, path, ok=False)
    if made.returncode or mounted.returncode:
        print("SKIP the comparison with ext4: no loop device here: %s" % mounted.stderr.strip(), flush=True)
        return None
    return path


class Count:
    def __init__(self):
        self.passed = self.skipped = self.seconds = 0


def judge(system, count, key, result, seconds):
    """One line for each case that is not simply right."""
    listed = DIFFERENCES.get(key, (None, None))
    count.seconds += seconds
    if result.startswith("skip: "):
        count.skipped += 1
        if result != "skip: only on cairn":
            print("skip - %s: %s: %s" % (system, key, result[6:]), flush=True)
    elif result == "ok":
        count.passed += 1
        if listed[0] == system:
            check(False, "%s: %s" % (system, key), "it passes, but differences.py lists it: take it off the list")
    elif listed[0] == system:
        print("differs - %s: %s: %s" % (system, key, listed[1]), flush=True)
    else:
        check(False, "%s: %s" % (system, key), result)


def run_on(system, directory):
    count = Count()
    results = conformance.run_all(directory, report=lambda *result: judge(system, count, *result))
    check(count.passed > 0, "%s: %d cases behave as they should (%d skipped), %.0f s"
          % (system, count.passed, count.skipped, count.seconds))
    return results


def run_twins(ext4, cairn):
    chosen = seed()

    def body():
        wrong = twins.compare(ext4, cairn, chosen, TWIN_CALLS)
        conform.expect(not wrong, wrong)

    what, text = conform.run_apart(body, 60 + TWIN_CALLS // 10)
    check(what == "ok", "%d random calls have the same results on both and leave the same trees" % TWIN_CALLS, text)


def end_child(function, *arguments):
    """Calls it and ends this process: 0 where all checks held.  What is to be cleaned up is the parent's."""
    code = 1
    try:
        function(*arguments)
        code = 1 if _state["failed"] else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def main():
    need_fuse()
    need_root()
    base = workdir()
    os.chmod(base, 0o755)
    known = {one.key for one in conformance.load_all()}
    check(set(DIFFERENCES) <= known, "every listed difference names a case", sorted(set(DIFFERENCES) - known))

    ext4 = ext4_directory(base)
    beside = os.fork() if ext4 else 0
    if ext4 and beside == 0:  # the two share nothing but the processor
        end_child(run_on, "ext4", ext4)

    workspace = Workspace(base, options="allow_other,dev,suid").mount()
    run_on("cairn", workspace.path)
    if ext4:
        run_twins(ext4, workspace.path)
    workspace.umount()
    workspace.check_store()
    if ext4:
        check(os.waitpid(beside, 0)[1] == 0, "ext4 behaves as the cases expect")
        subprocess.run(["umount", "-q", ext4], stderr=subprocess.DEVNULL, check=False)
    finish()


main()
