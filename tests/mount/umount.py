#!/usr/bin/env python3
"""Unmounting, by all the ways there are, and mounting again at once; mounts that died; mount points of all kinds;
the daemon's signals and surroundings."""
import ctypes
import errno
import fcntl
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402
import people  # noqa: E402
from harness import Workspace, alive, check, finish, run  # noqa: E402


def is_free(store):
    with open(os.path.join(store, "lock")) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False


def gone(pid):
    for _ in range(500):
        if not alive(pid):
            return True
        time.sleep(0.02)
    return False


def fill(one, text):
    """Enough that the daemon has something left to write."""
    for n in range(20):
        with open(one.p("file%d" % n), "wb") as out:
            out.write(text.encode() + os.urandom(1 << 20))
    people.write(one.p("last"), text)


def kept(store, text, what):
    out = run(harness.CAIRN, "-s", store, "cat", "@head", "last", ok=False)
    check(out.stdout == text, what, out.stderr)


def again(base):
    """However it was unmounted, mounting at once works, and nothing is missing."""
    one = Workspace(base, "again").mount()
    ways = {"cairn umount": [harness.CAIRN, "umount"], "umount(8)": ["umount"], "fusermount3 -u": ["fusermount3", "-u"],
            "umount(8) without its helper": ["umount", "-i"], "umount -l": ["umount", "-l"]}
    for name, way in ways.items():
        fill(one, name)
        done = run(*way, one.path, ok=False)
        check(done.returncode == 0, name, done.stderr)
        if name in ("cairn umount", "umount(8)"):
            check(is_free(one.store), "after %s the store is free" % name)
            shutil.copytree(one.store, one.store + ".copy")
            kept(one.store + ".copy", name, "a copy of the store right after %s is complete" % name)
            shutil.rmtree(one.store + ".copy")
        done = one.cairn("mount", one.path, ok=False)
        check(done.returncode == 0 and os.path.ismount(one.path), "mounting again at once after %s" % name, done.stderr)
        with open(one.p("last")) as data:
            check(data.read() == name, "and all is there")
    one.umount()


def numbers(base):
    """What NFS servers, backups and make(1) remember of files."""
    one = Workspace(base, "numbers").mount()
    for n in range(50):
        os.mkdir(one.p("d%d" % n))
        people.write(one.p("d%d" % n, "f"), str(n))

    def look():
        return {name: (os.stat(name).st_ino, os.stat(name).st_mtime_ns, os.stat(name).st_ctime_ns)
                for n in range(50) for name in (one.p("d%d" % n), one.p("d%d" % n, "f"))}
    before = look()
    one.remount()
    people.write(one.p("new"), "")
    check(look() == before, "inode numbers and times are the same after a remount")
    check(os.stat(one.p("new")).st_ino not in [ino for ino, _, _ in before.values()], "and none is used again")
    one.umount()


def waits(base):
    """The store is still in use: the mount waits, and says so."""
    one = Workspace(base, "waits")
    holder = open(os.path.join(one.store, "lock"))
    fcntl.flock(holder, fcntl.LOCK_EX)
    mounting = subprocess.Popen([harness.CAIRN, "-s", one.store, "mount", one.path], stderr=subprocess.PIPE, text=True)
    time.sleep(1.5)
    check(mounting.poll() is None and not os.path.ismount(one.path), "mount waits for whoever holds the store")
    holder.close()
    _, told = mounting.communicate(timeout=20)
    check(mounting.returncode == 0 and "waiting" in told, "then it mounts; meanwhile it has said so", told)
    one.umount()


def busy(base):
    one = Workspace(base, "busy").mount()
    people.write(one.p("last"), "busy")
    sleeper = subprocess.Popen(["sleep", "60"], cwd=one.path)
    for way in ([harness.CAIRN, "umount"], ["umount"]):
        done = run(*way, one.path, ok=False)
        check(done.returncode == 3 and str(sleeper.pid) in done.stderr and "sleep" in done.stderr,
              "%s while a process is in it: exit code 3, process named" % os.path.basename(way[0]), (done.returncode, done.stderr))
    check(os.path.ismount(one.path), "and it stays mounted")
    done = run(harness.CAIRN, "umount", "--lazy", one.path, ok=False)
    check(done.returncode == 0 and is_free(one.store), "--lazy cuts the process off", done.stderr)
    kept(one.store, "busy", "and keeps what was written")
    sleeper.kill()
    sleeper.wait()
    one.mount()
    with open(one.p("open"), "w") as held:
        held.write("written")
        held.flush()
        done = run("umount", "-l", one.path, ok=False)
        check(done.returncode == 0 and not os.path.ismount(one.path), "umount -l with an open file", done.stderr)
    one.mount()
    with open(one.p("open")) as data:
        check(data.read() == "written", "what had been written is there")
    one.umount()


def in_a_container(base):
    """A process in another mount namespace has the mount, too."""
    one = Workspace(base, "container").mount()
    pid = one.daemon_pid()

    def enter():
        ctypes.CDLL(None).unshare(people.CLONE_NEWNS)
    inside = subprocess.Popen(["sleep", "60"], cwd=one.path, preexec_fn=enter)
    done = run(harness.CAIRN, "umount", one.path, ok=False)
    check(done.returncode == 3 and str(inside.pid) in done.stderr, "a process in another mount namespace is named", done)
    inside.kill()
    inside.wait()
    inside = subprocess.Popen(["sleep", "60"], cwd="/", preexec_fn=enter)
    done = run(harness.CAIRN, "umount", one.path, ok=False, timeout=30)
    check(done.returncode == 0 and is_free(one.store) and gone(pid), "an unused copy of the mount there does not hold us", done)
    inside.kill()
    inside.wait()


def dead(base, person):
    one = Workspace(base, "dead").mount()
    people.write(one.p("last"), "dead")
    one.cairn("wait-durable")
    for user in (None, one.p("last")):
        held = open(user) if user else None
        pid = one.daemon_pid()
        os.kill(pid, signal.SIGKILL)
        gone(pid)
        done = one.cairn("mount", one.path, ok=False)
        check(done.returncode == 0 and "dead mount" in done.stderr, "mounting where the daemon died heals it%s" % (
            ", though a file of it is open" if held else ""), done)
        with open(one.p("last")) as data:
            check(data.read() == "dead", "and the work is there")
        if held:
            held.close()
    one.umount()
    one.options = "sync"
    one.mount()
    people.write(one.p("synced"), "durable at once")
    pid = one.daemon_pid()
    os.kill(pid, signal.SIGKILL)
    gone(pid)
    text = run(harness.CAIRN, "-s", one.store, "cat", "@head", "synced", ok=False)
    check(text.stdout == "durable at once", "with -o sync, what write(2) took survives kill -9", text.stderr)
    other = Workspace(base, "other")
    done = other.cairn("mount", one.path, ok=False)
    check(done.returncode == 1 and "cairn umount " + one.path in done.stderr, "the dead mount of another store is left, the command is said", done)
    done = run("umount", one.path, ok=False)
    check(done.returncode == 0 and not os.path.ismount(one.path), "umount(8) takes a dead mount away", done.stderr)

    store, point = os.path.join(person.home, "s"), os.path.join(person.home, "m")
    person.run(harness.CAIRN, "init", store, ok=True)
    os.mkdir(point)
    os.chown(point, person.uid, person.gid)
    person.run(harness.CAIRN, "-s", store, "mount", point, ok=True)
    pid = harness.json.loads(person.run(harness.CAIRN, "--json", "-s", store, "status").stdout)["daemon_pid"]
    os.kill(pid, signal.SIGKILL)
    gone(pid)
    done = person.run(harness.CAIRN, "-s", store, "mount", point)
    check(done.returncode == 0, "an ordinary user's dead mount heals, too", done)
    person.run(harness.CAIRN, "umount", point, ok=True)


def places(base):
    one = Workspace(base, "places")
    one.cairn("workspace", "create", "second")
    os.mkdir(os.path.join(one.store, "inside"))
    people.write(os.path.join(base, "a-file"), "")
    around = os.path.join(base, "around")
    os.mkdir(around)
    run(harness.CAIRN, "init", os.path.join(around, "store"))
    for store, point, code, word in (
            (one.store, os.path.join(base, "missing"), 1, "mkdir"),
            (one.store, os.path.join(base, "a-file"), 1, "not a directory"),
            (one.store, one.store, 2, "inside"),
            (one.store, os.path.join(one.store, "inside"), 2, "inside"),
            (os.path.join(around, "store"), around, 2, "hide"),
            (one.store, "/", 2, "hide")):
        done = run(harness.CAIRN, "-s", store, "-w", "main", "mount", point, ok=False)
        if not check(done.returncode == code and word in done.stderr, "mounting on %s: refused" % point[len(base):], done):
            run("umount", "-l", point, ok=False)
    os.rmdir(os.path.join(one.store, "inside"))
    people.write(one.p("below"), "hidden meanwhile")
    done = one.cairn("-w", "main", "mount", os.path.relpath(one.path, base), cwd=base, ok=False)
    check(done.returncode == 0 and not os.path.exists(one.p("below")), "on a directory that is not empty, by a relative path", done)
    done = one.cairn("-w", "second", "mount", one.path, ok=False)
    check(done.returncode == 3 and "already" in done.stderr, "on a mount: refused", done)
    done = one.cairn("-w", "main", "mount", around, ok=False)
    check(done.returncode == 3 and one.path in done.stderr, "the same workspace at a second place: refused, and the first is named", done)
    done = run(harness.CAIRN, "init", one.p("store"), ok=False)
    check(done.returncode != 0 and not os.path.exists(one.p("store", "format")), "a store on a mount of cairn: refused", done)
    os.mkdir(one.p("inner"))
    done = one.cairn("-w", "second", "mount", one.p("inner"), ok=False)
    check(done.returncode == 0, "a second workspace within the first", done)
    done = run(harness.CAIRN, "umount", one.path, ok=False)
    check(done.returncode == 3 and os.path.ismount(one.path), "then the outer one is busy", done)
    run(harness.CAIRN, "umount", one.p("inner"))
    run(harness.CAIRN, "umount", one.path)
    os.symlink(one.path, os.path.join(base, "link"))
    one.cairn("-w", "main", "mount", os.path.join(base, "link"))
    check(os.path.ismount(one.path), "by a symbolic link")
    done = run(harness.CAIRN, "umount", os.path.join(base, "link"), ok=False)
    check(done.returncode == 0 and not os.path.ismount(one.path), "and unmounted by it", done)
    check(os.path.exists(one.p("below")), "what lay below is there again")


def foreground(base):
    one = Workspace(base, "front")
    for number, ends in ((signal.SIGTERM, True), (signal.SIGINT, True), (signal.SIGHUP, False)):
        process = subprocess.Popen([harness.CAIRN, "-s", one.store, "mount", "-f", one.path], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, cwd=one.path)
        for _ in range(200):
            if os.path.ismount(one.path):
                break
            time.sleep(0.02)
        people.write(one.p("last"), str(int(number)))
        process.send_signal(number)
        if not ends:
            time.sleep(0.3)
            check(process.poll() is None and os.path.ismount(one.path), "-f: %s is ignored" % number.name)
            process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
        check(process.returncode == 0 and not os.path.ismount(one.path), "-f: SIG%s ends it with 0" % ("TERM" if not ends else number.name[3:]), (process.returncode, out, err))
        check(not out, "-f: nothing on stdout", out)
        kept(one.store, str(int(number)), "and all is durable")
    one.mount()
    pid = one.daemon_pid()
    people.write(one.p("last"), "background")
    os.kill(pid, signal.SIGTERM)
    check(gone(pid) and not os.path.ismount(one.path), "SIGTERM ends a daemon in the background, too")
    kept(one.store, "background", "and all is durable")


def may_be_spared():
    return not subprocess.run(["sh", "-c", "echo -1 >/proc/self/oom_score_adj"], stderr=subprocess.DEVNULL, check=False).returncode


def surroundings(base):
    """The daemon does not take over what binds whoever started it."""
    one = Workspace(base, "around-it")
    leak = os.open("/etc/hostname" if os.path.exists("/etc/hostname") else "/etc/passwd", os.O_RDONLY)
    os.set_inheritable(leak, True)

    def spoil():
        for number in (signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2, signal.SIGCHLD])
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 4096))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
        os.umask(0)
    done = subprocess.run([harness.CAIRN, "-s", one.store, "mount", one.path], cwd=base, preexec_fn=spoil, close_fds=False,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
    check(done.returncode == 0, "mounting with odd limits, signals and umask", done.stderr)
    pid = one.daemon_pid()
    proc = "/proc/%d/" % pid
    fds = {fd: os.readlink(proc + "fd/" + fd) for fd in os.listdir(proc + "fd")}
    check(all(fds[fd] == "/dev/null" for fd in "012"), "its standard descriptors are /dev/null", fds)
    strangers = [path for path in fds.values() if not path.startswith((one.store, "/dev/", "anon_inode:", "socket:", "pipe:", "/proc"))]
    check(not strangers, "it holds no descriptor of others", strangers)
    check(os.readlink(proc + "cwd") == "/", "its directory is /")
    with open(proc + "limits") as text:
        limits = {line[:26].strip(): line[26:].split() for line in text}
    check(limits["Max open files"][0] == "4096" and limits["Max file size"][0] == "unlimited", "its limits are as high as may be", limits)
    with open(proc + "status") as text:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in text if ":\t" in line)
    check(status["Umask"] == "0077", "its umask is its own", status["Umask"])
    ignored, blocked = int(status["SigIgn"], 16), int(status["SigBlk"], 16)
    check(not ignored & (1 << (signal.SIGCHLD - 1) | 1 << (signal.SIGUSR1 - 1)), "it ignores no signal that others ignored", hex(ignored))
    check(not blocked & (1 << (signal.SIGUSR2 - 1)), "and blocks none that others blocked", hex(blocked))
    if may_be_spared():
        with open(proc + "oom_score_adj") as text:
            check(int(text.read()) < 0, "it is among the last to go when memory is short")
    else:
        print("# oom_score_adj: not allowed to lower it here")
    with open(proc + "stat") as text:
        fields = text.read().rsplit(")", 1)[1].split()
    check(int(fields[3]) == pid and fields[4] == "0", "it has a session of its own and no terminal", fields[:6])
    with open(one.p("large"), "wb") as out:
        out.write(os.urandom(1 << 20))
        os.fsync(out.fileno())
    check(os.stat(one.p("large")).st_size == 1 << 20, "and it writes files larger than its starter might")
    os.close(leak)
    one.umount()
    check(gone(pid), "it ends, and is no zombie")


def read_only_disk(base):
    one = Workspace(base, "sealed").mount()
    people.write(one.p("last"), "x")
    one.umount()
    run("mount", "--bind", one.store, one.store)
    run("mount", "-o", "remount,bind,ro", one.store)
    for options in ([], ["-o", "ro"]):
        done = one.cairn("mount", one.path, *options, ok=False)
        check(done.returncode != 0 and "ead-only" in done.stderr and not os.path.ismount(one.path),
              "a store on a read-only file system cannot be mounted%s, and the reason is said" % (" with -o ro" if options else ""), done)
    kept(one.store, "x", "but be read")
    run("umount", one.store)


def beside_a_refused_one(base):
    """The daemon of a mount that is refused ends at once: whoever talks to it meanwhile gets another one."""
    one = Workspace(base, "beside")
    gone = 0
    script = 'while [ -e "$1" ]; do "$0" -s "$2" mount / 2>/dev/null; done'
    on = people.write(os.path.join(base, "on"), "")
    refused = [subprocess.Popen(["sh", "-c", script, harness.CAIRN, on, one.store]) for _ in range(2)]
    for _ in range(40):
        # It may have to wait longer than it does, so often is the store taken.
        if one.cairn("mount", one.path, ok=False).returncode == 0:
            time.sleep(0.05)
            gone += not os.path.ismount(one.path)
            run(harness.CAIRN, "umount", one.path, ok=False)
    os.unlink(on)
    for child in refused:
        child.wait(timeout=60)
    check(gone == 0, "a mount that was said to be there stays, though another was refused at that moment", gone)


def main():
    people.need_mount()
    base, _, world = people.machine(["ann"])
    parts = {"again": again, "numbers": numbers, "waits": waits, "busy": busy, "container": in_a_container,
             "dead": lambda b: dead(b, world["ann"]), "places": places, "foreground": foreground,
             "surroundings": surroundings, "read_only_disk": read_only_disk, "beside_a_refused_one": beside_a_refused_one}
    for name in sys.argv[1:] or parts:
        started = time.monotonic()
        parts[name](base)
        print("# %s: %.1f s" % (name, time.monotonic() - started), flush=True)
    check(not os.path.exists("/run/mount/utab") or not people.get("/run/mount/utab"), "umount(8) is not told of what is gone")
    leftover = subprocess.run(["pgrep", "-f", base + "/sbin/cairn"], stdout=subprocess.PIPE, text=True, check=False).stdout
    check(not leftover, "no process is left", leftover)
    finish()


main()
