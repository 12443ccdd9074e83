"""What the mount tests share: a store and a mount of their own, checks, and comparisons.

A test is a program.  It prints one line a check and ends with finish(): exit code 0, 1 where a
check failed, 77 (skipped) where this machine cannot mount.
"""
import atexit
import contextlib
import fcntl
import glob
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

CAIRN = os.environ.get("CAIRN", "cairn")
_state = {"checks": 0, "failed": 0, "mounts": []}


def need_fuse():
    if not os.path.exists("/dev/fuse"):
        print("SKIP %s: there is no /dev/fuse on this machine" % os.path.basename(sys.argv[0]))
        sys.exit(77)
    if RING == "on":
        need_ring()


def need_root():
    if os.geteuid() != 0:
        print("SKIP %s: needs root" % os.path.basename(sys.argv[0]))
        sys.exit(77)


# "on": every Workspace is mounted with io_uring=on, by any of the tests.
RING = os.environ.get("CAIRN_TEST_IO_URING")
RING_PARAMETER = "/sys/module/fuse/parameters/enable_uring"


def need_ring():
    """FUSE over io_uring can be had here: skips where it cannot."""
    if not os.path.exists(RING_PARAMETER):
        reason = "this kernel has no FUSE over io_uring"
    elif os.geteuid() != 0:
        reason = "only root can switch FUSE over io_uring on (%s)" % RING_PARAMETER
    elif not os.access(RING_PARAMETER, os.W_OK):
        reason = "%s cannot be written here" % RING_PARAMETER
    else:
        return
    print("SKIP %s: %s" % (os.path.basename(sys.argv[0]), reason))
    sys.exit(77)


@contextlib.contextmanager
def ring_offered(value="Y"):
    """While a mount is made: it keeps the ring, and others on this machine are not concerned."""
    with open(RING_PARAMETER) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = lock.read()
        try:
            with open(RING_PARAMETER, "w") as parameter:
                parameter.write(value)
            yield
        finally:
            with open(RING_PARAMETER, "w") as parameter:
                parameter.write(before)


def check(ok, what, detail=""):
    _state["checks"] += 1
    if ok:
        print("ok - %s" % what, flush=True)
    else:
        _state["failed"] += 1
        print("not ok - %s%s" % (what, ("\n    " + str(detail)[:2000]) if detail != "" else ""), flush=True)
    return bool(ok)


def finish():
    for report in glob.glob(_state.get("reports", "/nowhere") + ".*"):
        with open(report) as text:
            check(False, "no sanitizer complains", text.read())
    print("%d checks, %d failed" % (_state["checks"], _state["failed"]), flush=True)
    sys.exit(1 if _state["failed"] or not _state["checks"] else 0)


def seed():
    """The seed of this run: printed, and fixed with CAIRN_TEST_SEED."""
    value = int(os.environ.get("CAIRN_TEST_SEED") or random.SystemRandom().randrange(1 << 32))
    print("seed %d (CAIRN_TEST_SEED=%d repeats it)" % (value, value), flush=True)
    return value


def workdir():
    base = tempfile.mkdtemp(prefix="cairn-test.", dir=os.environ.get("TMPDIR") or "/var/tmp")
    atexit.register(_cleanup, base)
    # A daemon's stderr goes nowhere: what a sanitizer finds there is collected in files.
    _state["reports"] = os.path.join(base, "sanitizer")
    for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"):
        os.environ[name] = os.environ.get(name, "") + ":log_path=" + _state["reports"]
    return base


def _cleanup(base):
    for mount in list(_state["mounts"]):
        if mount.startswith(base):
            subprocess.run(["umount", "-l", mount], stderr=subprocess.DEVNULL, check=False)
    for _ in range(50):
        if subprocess.run(["pgrep", "-f", base + "/"], stdout=subprocess.DEVNULL, check=False).returncode:
            break
        time.sleep(0.1)
    shutil.rmtree(base, ignore_errors=True)


def run(*argv, ok=True, input=None, cwd=None, env=None, timeout=300, binary=False):
    """Runs a command; raises where it fails and `ok` is true.  Returns CompletedProcess."""
    full = dict(os.environ, **(env or {}))
    done = subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, input=input,
                          cwd=cwd, env=full, timeout=timeout, text=not binary)
    if ok and done.returncode:
        raise RuntimeError("%s: exit code %d\n%s%s" % (" ".join(map(str, argv)), done.returncode, done.stdout, done.stderr))
    return done


def alive(pid):
    """False also for a zombie that nobody has waited for yet."""
    try:
        with open("/proc/%d/stat" % pid) as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Workspace:
    """A store with a mounted workspace."""

    def __init__(self, base, name="one", options=None, init=(), store=None):
        self.base = base
        self.store = store or os.path.join(base, name + ".store")
        self.path = os.path.join(base, name)
        self.options = options
        self.workspace = None
        os.makedirs(self.path, exist_ok=True)
        if not os.path.exists(os.path.join(self.store, "format")):
            run(CAIRN, "init", *init, self.store)
        _state["mounts"].append(self.path)

    def cairn(self, *argv, ok=True, **more):
        return run(CAIRN, "-s", self.store, *argv, ok=ok, **more)

    def json(self, *argv):
        return json.loads(self.cairn("--json", *argv).stdout)

    def mount(self):
        options = [self.options] if self.options else []
        if RING == "on" and "io_uring=" not in (self.options or ""):
            options.append("io_uring=on")
        extra = ["-o", ",".join(options)] if options else []
        if self.workspace:
            extra += ["-w", self.workspace]
        with ring_offered() if "io_uring=on" in ",".join(options) else contextlib.nullcontext():
            self.cairn("mount", self.path, *extra, timeout=60)
        return self

    def umount(self):
        run(CAIRN, "umount", self.path, timeout=120)

    def remount(self):
        self.umount()
        self.mount()

    def daemon_pid(self):
        return self.json("status")["daemon_pid"]

    def kill(self, user=None):
        """kill -9 of the daemon, as a crash would, and of a process that works on the mount (it would go on in
        the directory below); the dead mount is taken away.  The daemon is asked nothing before: an answer may make
        it commit."""
        with open(os.path.join(self.store, "lock")) as holder:
            pid = int(holder.read())
        os.kill(pid, signal.SIGKILL)
        while alive(pid):
            time.sleep(0.002)
        if user:
            os.kill(user, signal.SIGKILL)
            while alive(user):
                time.sleep(0.001)
        subprocess.run(["umount", "-l", self.path], check=False, stderr=subprocess.DEVNULL)

    def p(self, *parts):
        return os.path.join(self.path, *parts)

    def check_store(self, what="the store is consistent"):
        done = self.cairn("check", "--read-data", ok=False, timeout=600)
        check(done.returncode == 0, what, done.stdout + done.stderr)


def compare(a, b, what):
    """Trees equal byte for byte, attribute for attribute, as rsync sees them."""
    done = run("rsync", "-aHAX", "--checksum", "--delete", "--dry-run", "--itemize-changes",
               a.rstrip("/") + "/", b.rstrip("/") + "/", ok=False, timeout=900)
    return check(done.returncode == 0 and not done.stdout.strip(), what, done.stdout[:1500] + done.stderr[:500])
