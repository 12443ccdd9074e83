#!/usr/bin/env python3
"""Programs that people work with, on a mount: each must do what it does on any other file system.

git; a build of cairn itself with make -j; rsync there and back; tar and cpio; cp, find and du; the ways in which
editors and office programs save; sqlite3.
"""
import errno
import fcntl
import os
import random
import re
import shutil
import socket
import stat
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import CAIRN, Workspace, check, compare, finish, need_fuse, need_root, run, seed, workdir  # noqa: E402

SOURCES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ROOMS = ("CMakeLists.txt", "index", "snapshot", "fs", "tools")


def put(path, data):
    with open(path, "wb") as out:
        out.write(data)


def get(path):
    with open(path, "rb") as data:
        return data.read()


def fails(action):
    try:
        action()
    except OSError as error:
        return error.errno
    return 0


# ---- git ----

GIT = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_AUTHOR_NAME": "A. Author",
       "GIT_AUTHOR_EMAIL": "author@example.org", "GIT_COMMITTER_NAME": "A. Author",
       "GIT_COMMITTER_EMAIL": "author@example.org"}


def copy_sources(target):
    os.makedirs(target)
    for name in ROOMS:
        source = os.path.join(SOURCES, name)
        if os.path.isdir(source):
            shutil.copytree(source, os.path.join(target, name))
        else:
            shutil.copy(source, target)


def git(one, base, rng):
    origin, clone = os.path.join(base, "origin"), one.p("clone")
    copy_sources(origin)

    def command(where, *argv, ok=True):
        return run("git", "-C", where, *argv, env=GIT, ok=ok).stdout

    command(origin, "init", "-q", "-b", "main")
    command(origin, "add", ".")
    command(origin, "commit", "-q", "-m", "first")
    run("git", "clone", "-q", "--no-hardlinks", origin, clone, env=GIT)
    check(command(clone, "status", "--porcelain") == "", "git: a clone is clean")
    files = command(clone, "ls-files").split()
    for number in range(20):
        with open(os.path.join(clone, rng.choice(files)), "a") as out:
            out.write("// %d\n" % number)
        command(clone, "commit", "-q", "-a", "-m", "change %d" % number)
    command(clone, "checkout", "-q", "-b", "side", "HEAD~10")
    put(os.path.join(clone, "side"), b"on the side\n")
    command(clone, "add", "side")
    command(clone, "commit", "-q", "-m", "side")
    command(clone, "checkout", "-q", "main")
    command(clone, "merge", "-q", "-m", "merged", "side")
    command(clone, "stash", "list")
    command(clone, "gc", "-q", "--prune=now")
    check(command(clone, "fsck", "--full", "--strict") == "", "git: after commits, a merge and gc, fsck finds nothing")
    command(clone, "worktree", "add", "-q", one.p("worktree"), "side")
    check(get(one.p("worktree/side")) == b"on the side\n", "git: a second worktree")
    command(clone, "worktree", "remove", one.p("worktree"))
    command(clone, "push", "-q", "origin", "main:pushed")
    check(command(origin, "rev-parse", "pushed") == command(clone, "rev-parse", "main"), "git: push")
    one.remount()
    traced = run("git", "-C", clone, "status", "--porcelain", env=dict(GIT, GIT_TRACE2_PERF="2"), ok=False)
    check(traced.stdout == "", "git: after a remount, status is clean")
    changed = run("git", "-C", clone, "diff-files", "--name-only", env=GIT).stdout
    check(changed == "", "git: and its index still matches every file, so that nothing is read again", changed[:300])
    check(command(clone, "fsck", "--full") == "", "git: fsck finds nothing after a remount")


# ---- a build ----

def build(one):
    """Make's decisions rest on times; its jobs write and read at the same time."""
    sources, binary = one.p("sources"), one.p("binary")
    copy_sources(sources)
    run("cmake", "-S", sources, "-B", binary, "-G", "Unix Makefiles", "-DCMAKE_BUILD_TYPE=Debug", "-DBUILD_TESTING=OFF",
        "-DCMAKE_C_FLAGS=-O0 -g0")
    run("make", "-C", binary, "-j%d" % (2 * os.cpu_count()), "cairn", timeout=600)
    built = os.path.join(binary, "cairn")
    check(run(built, "--version").stdout == run(CAIRN, "--version").stdout, "make -j: the program that was built runs")
    again = run("make", "-C", binary, "cairn").stdout
    check("Building C" not in again, "make: nothing is to be done", again[-500:])
    one.remount()
    again = run("make", "-C", binary, "cairn").stdout
    check("Building C" not in again, "make: nor after a remount", again[-500:])
    os.utime(os.path.join(sources, "tools", "main.c"))
    again = run("make", "-C", binary, "cairn").stdout
    check(again.count("Building C") == 1, "make: one file touched, one file compiled", again[-500:])
    store = one.p("inner-store")
    refused = run(built, "init", store, ok=False)
    check(refused.returncode == 1 and "FUSE" in refused.stderr and not os.path.exists(store),
          "it refuses to lay a store in a workspace, and says why", refused.stderr)


# ---- copies ----

def make_zoo(top, rng):
    """Every kind of file, with every attribute that a backup must bring back."""
    os.makedirs(os.path.join(top, "a/b/c"))
    for number in range(60):
        put(os.path.join(top, "a", "file-%d" % number), rng.randbytes(rng.choice([0, 1, 100, 4096, 70000])))
    put(os.path.join(top, "large"), rng.randbytes(3000000))
    for number in range(5):
        os.link(os.path.join(top, "large"), os.path.join(top, "a/b", "link-%d" % number))
    os.symlink("../nowhere", os.path.join(top, "a/dangling"))
    os.link(os.path.join(top, "a/dangling"), os.path.join(top, "a/dangling-2"), follow_symlinks=False)
    os.mkfifo(os.path.join(top, "fifo"), 0o640)
    os.mknod(os.path.join(top, "null"), 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(os.path.join(top, "disk"), 0o600 | stat.S_IFBLK, os.makedev(259, 70000))
    with socket.socket(socket.AF_UNIX) as listener:
        inside = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
        listener.bind("/proc/self/fd/%d/socket" % inside)
        os.close(inside)
    with open(os.path.join(top, "sparse"), "wb") as out:
        for at in (0, 5 << 20, 40 << 20):
            out.seek(at)
            out.write(rng.randbytes(10000))
        out.truncate(64 << 20)
    for number, name in enumerate(("a/file-1", "a/file-2", "a/b", "large")):
        path = os.path.join(top, name)
        os.setxattr(path, "user.number", b"%d" % number)
        os.setxattr(path, "trusted.secret", rng.randbytes(500))
        os.chown(path, 1000 + number, 2000 + number)
    run("setfacl", "-m", "u:1234:rw-,g:77:r--,m::rw-", os.path.join(top, "a/file-3"))
    run("setfacl", "-d", "-m", "u:1234:rwx,g::r-x,o::---", os.path.join(top, "a/b/c"))
    os.chmod(os.path.join(top, "a/file-4"), 0o4755)
    os.chmod(os.path.join(top, "a/b"), 0o3775)
    put(os.path.join(top, "name with \"quotes\", \n a line end and \udcff bytes"), b"odd")
    put(os.path.join(top, "n" * 255), b"long")
    for number, when in enumerate((1, -1, 4102444800, 7258118400, 1234567890)):
        nanoseconds = when * 1000000000 + 123456789
        os.utime(os.path.join(top, "a", "file-%d" % (10 + number)), ns=(nanoseconds, nanoseconds))


def holes(path):
    return os.stat(path).st_blocks * 512 < (1 << 20)


def rsync_round_trip(one, plain, base):
    there, back = one.p("zoo"), os.path.join(base, "back")
    run("rsync", "-aHAXS", "--devices", "--specials", plain + "/", there + "/")
    compare(plain, there, "rsync -aHAXS: on the mount it is what it was")
    check(holes(os.path.join(there, "sparse")), "rsync -S: holes stay holes", os.stat(os.path.join(there, "sparse")).st_blocks)
    one.remount()
    run("rsync", "-aHAXS", "--devices", "--specials", there + "/", back + "/")
    compare(plain, back, "rsync -aHAXS: and what comes back from it too")
    run("rsync", "-aHAX", "--delete", "--inplace", "--no-whole-file", "--checksum", plain + "/a/", there + "/a/")
    compare(plain, there, "rsync --inplace with deltas")
    one.cairn("freeze", "zoo")
    run("rsync", "-aHAXS", one.p(".snapshots/zoo/zoo/"), os.path.join(base, "from-point/"))
    compare(plain, os.path.join(base, "from-point"), "rsync -aHAXS: from a point")


def archives(one, plain, base):
    """tar keeps all but sockets; cpio nothing beyond the classic attributes, and hard links of files only."""
    work = one.p("archives")
    os.mkdir(work)
    for top in (plain, one.p("zoo")):
        os.unlink(os.path.join(top, "socket"))
        os.utime(top, (1000000000, 1000000000))
    tar = ["tar", "--xattrs", "--xattrs-include=*", "--acls", "--sparse", "--numeric-owner", "--format=pax"]
    run(*tar, "-C", one.p("zoo"), "-cf", os.path.join(work, "zoo.tar"), ".")
    size = os.path.getsize(os.path.join(work, "zoo.tar"))
    check(size < 16 << 20, "tar --sparse found the holes", size)
    os.mkdir(os.path.join(work, "untarred"))
    run(*tar, "-C", os.path.join(work, "untarred"), "-xpf", os.path.join(work, "zoo.tar"))
    compare(plain, os.path.join(work, "untarred"), "tar: packed on the mount, unpacked on the mount")
    done = run(*tar, "-C", one.p("zoo"), "--compare", "-f", os.path.join(work, "zoo.tar"), ok=False)
    check(done.returncode == 0 and not done.stdout, "tar --compare", done.stdout + done.stderr)

    names = subprocess.run(["find", ".", "-print0"], cwd=one.p("zoo"), stdout=subprocess.PIPE, check=True).stdout
    packed = run("cpio", "-0", "-o", "-H", "newc", "--quiet", cwd=one.p("zoo"), input=names, binary=True).stdout
    out = os.path.join(work, "uncpioed")
    os.mkdir(out)
    run("cpio", "-i", "-d", "-m", "-u", "--quiet", "--no-absolute-filenames", cwd=out, input=packed, binary=True)
    done = run("rsync", "-rlpogDn", "--checksum", "--delete", "--itemize-changes", plain + "/", out + "/")
    told = [line for line in done.stdout.splitlines() if not line.startswith((".f...p", ".d...p"))]  # masks of ACLs
    links = os.stat(os.path.join(out, "large")).st_nlink
    check(not told and links == 6, "cpio: packed and unpacked", told[:5] or links)
    shutil.rmtree(work)


def copies(one, plain):
    zoo = one.p("zoo")
    for number, options in enumerate((["--reflink=auto"], ["--reflink=never", "--sparse=always"], ["--sparse=never"])):
        copy = one.p("copy-%d" % number)
        run("cp", "-a", *options, zoo, copy)
        compare(plain, copy, "cp -a %s" % " ".join(options))
        if "--sparse=never" not in options:
            check(holes(os.path.join(copy, "sparse")), "cp -a %s: holes stay holes" % " ".join(options),
                  os.stat(os.path.join(copy, "sparse")).st_blocks)
    listing = ["find", ".", "-printf", r"%p %y %s %m %U %G %n %l %T@\n"]
    for where in (".", "a"):
        there, here = (run(*listing, cwd=os.path.join(top, where), binary=True).stdout.splitlines() for top in (zoo, plain))
        # Sizes of directories are a file system's own affair.
        there, here = (sorted(re.sub(rb" d \d+ ", b" d ", line) for line in lines) for lines in (there, here))
        check(there == here, "find -printf lists %s as on the machine's own file system" % where,
              [a for a in there if a not in here][:3] + [b for b in here if b not in there][:3])
    there, here = (int(run("du", "-s", "--apparent-size", "-B1", os.path.join(top, "a")).stdout.split()[0]) for top in (zoo, plain))
    check(abs(there - here) < 20000, "du --apparent-size", (there, here))
    used = int(run("du", "-sk", zoo).stdout.split()[0])
    check(3000 < used < 10000, "du counts what is there, each file once and without its holes", used)
    check(run("find", zoo, "-links", "+5", "-type", "f").stdout.count("\n") == 6, "find -links finds the six names")
    moved = one.p("moved")
    run("mv", one.p("copy-0"), moved)
    compare(plain, moved, "mv")
    run("rm", "-rf", moved, one.p("copy-1"), one.p("copy-2"))
    check(not os.path.exists(moved), "rm -rf")


# ---- editors and office programs ----

def save_like_vim(path, data):
    """'backupcopy=no': the old file becomes the backup, a new one takes its name, then the backup goes."""
    swap = os.path.join(os.path.dirname(path), "." + os.path.basename(path) + ".swp")
    fd = os.open(swap, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    os.write(fd, b"b0VIM 9.0" + bytes(4000))
    os.fsync(fd)
    probe = os.path.join(os.path.dirname(path), "4913")
    os.close(os.open(probe, os.O_CREAT | os.O_WRONLY | os.O_EXCL | os.O_NOFOLLOW, 0o644))
    os.chown(probe, os.getuid(), os.getgid())
    os.unlink(probe)
    mode = os.stat(path).st_mode
    os.rename(path, path + "~")
    out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.write(out, data)
    os.fsync(out)
    os.fchmod(out, stat.S_IMODE(mode))
    os.close(out)
    os.unlink(path + "~")
    os.close(fd)
    os.unlink(swap)


def save_like_emacs(path, data):
    """A link as the backup, a lock that is a dangling symbolic link, and writing in place."""
    lock = os.path.join(os.path.dirname(path), ".#" + os.path.basename(path))
    os.symlink("me@here.4711:1700000000", lock)
    backup = path + ".~1~"
    os.link(path, backup)
    os.unlink(path)
    put(path, data)
    if os.readlink(lock) != "me@here.4711:1700000000" or os.path.exists(lock):
        check(False, "emacs: its lock says who edits")
    os.unlink(lock)
    os.unlink(backup)


def save_by_rename(path, data):
    """As most do: a temporary file beside it, fsync, rename over it, fsync of the directory."""
    temporary = path + ".tmp%d" % os.getpid()
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(fd, data)
    os.fchmod(fd, stat.S_IMODE(os.stat(path).st_mode))
    os.fsync(fd)
    os.close(fd)
    os.rename(temporary, path)
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(directory)
    os.close(directory)


def editors(one):
    path = one.p("document.txt")
    put(path, b"first")
    os.chmod(path, 0o640)
    for name, save in (("vim", save_like_vim), ("emacs", save_like_emacs), ("rename", save_by_rename)):
        good = True
        for number in range(20):
            reader = open(path, "rb")
            before = reader.read(5)
            data = b"%s %d " % (name.encode(), number) * 300
            save(path, data)
            reader.seek(0)
            good = good and get(path) == data and reader.read().startswith(before)
            reader.close()
        check(good, "%s: what was saved is read, and the old file stays with whoever has it open" % name)
    check(sorted(n for n in os.listdir(one.path) if n.startswith((".doc", "doc", ".#", "4913"))) == ["document.txt"],
          "nothing else is left behind")
    save_like_vim(path, b"before the crash")
    one.kill()
    one.mount()
    check(get(path) == b"before the crash", "what an editor has synced survives the daemon's death")


def office_locks(one):
    """A lock file made with O_EXCL, and a lock on the document itself, seen by the other process."""
    path, lock = one.p("table.ods"), one.p(".~lock.table.ods#")
    put(path, b"PK" * 1000)
    put(lock, b",me,here,30.11.2026 09:00,file:///home/me;")
    check(fails(lambda: os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)) == errno.EEXIST, "office: the second to come sees the lock file")
    with open(path, "r+b") as document:
        fcntl.lockf(document, fcntl.LOCK_EX | fcntl.LOCK_NB)
        child = subprocess.run([sys.executable, "-c", "import fcntl, sys\nd = open(sys.argv[1], 'r+b')\ntry:\n"
                                "    fcntl.lockf(d, fcntl.LOCK_EX | fcntl.LOCK_NB)\nexcept BlockingIOError:\n    sys.exit(9)", path],
                               check=False)
        check(child.returncode == 9, "office: and the lock on the document")
    os.unlink(lock)


def sqlite(one):
    database = one.p("data.db")
    for mode in ("wal", "delete", "truncate", "persist"):
        told = run("sqlite3", database, "pragma journal_mode=%s;" % mode,
                   "create table if not exists t (a integer primary key, b text);"
                   "with recursive c(x) as (select 1 union all select x + 1 from c where x < 5000) "
                   "insert into t (b) select '%s ' || hex(randomblob(20)) from c;" % mode,
                   "delete from t where a % 3 = 0; vacuum; pragma integrity_check;").stdout.split()
        check(told == [mode, "ok"], "sqlite3: journal_mode %s" % mode, told)
    run("sqlite3", database, ".backup '%s'" % one.p("backup.db"), ".dump").stdout
    one.remount()
    count = run("sqlite3", database, "select count(*) from t; pragma integrity_check;").stdout.split()
    copy = run("sqlite3", one.p("backup.db"), "select count(*) from t; pragma integrity_check;").stdout.split()
    check(count == copy and count[1] == "ok" and int(count[0]) > 5000, "sqlite3: the same after a remount, and in its backup", (count, copy))


def main():
    need_fuse()
    need_root()
    rng = random.Random(seed())
    base = workdir()
    one = Workspace(base, options="dev,suid").mount()
    plain = os.path.join(base, "plain")
    make_zoo(plain, rng)
    git(one, base, rng)
    build(one)
    rsync_round_trip(one, plain, base)
    archives(one, plain, base)
    copies(one, plain)
    editors(one)
    office_locks(one)
    sqlite(one)
    one.umount()
    one.check_store()
    finish()


main()
