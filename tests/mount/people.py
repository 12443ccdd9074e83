"""A machine of our own for tests about users, fstab and mount(8): in a mount namespace of this process, /etc/passwd,
/etc/group, /etc/fstab and /etc/fuse.conf are copies, and /sbin has our helpers and nothing else.  Nobody else sees
any of it, and nothing has to be put back."""
import ctypes
import os
import pickle
import shutil
import subprocess
import sys
import traceback

import harness

CLONE_NEWNS = 0x20000
MNT_DETACH = 2
HELPERS = ("mount.cairn", "mount.fuse.cairn", "umount.cairn", "umount.fuse.cairn")
FIRST_UID = 47110  # far from those of the machine


class Person:
    """A user with a group of the same number, and further groups."""

    def __init__(self, base, number, name, groups=()):
        self.name, self.uid, self.gid, self.groups = name, FIRST_UID + number, FIRST_UID + number, tuple(groups)
        self.home = os.path.join(base, name)
        os.makedirs(self.home)
        os.chown(self.home, self.uid, self.gid)
        os.chmod(self.home, 0o755)

    def run(self, *argv, ok=False, timeout=60, cwd=None, **more):
        if cwd:  # entered as the user: root may not be allowed to
            argv = ("sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", cwd) + argv
        env = dict(os.environ, HOME=self.home, USER=self.name, **more.pop("env", {}))
        done = subprocess.run([str(a) for a in argv], user=self.uid, group=self.gid, extra_groups=self.groups, env=env,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout,
                              cwd="/", **more)
        if ok and done.returncode:
            raise RuntimeError("%s as %s: exit code %d\n%s%s" % (argv, self.name, done.returncode, done.stdout, done.stderr))
        return done

    def become(self):
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)
        os.environ.update(HOME=self.home, USER=self.name)

    def do(self, function, *arguments):
        """The result of the function, carried out in a process of this user.  An OSError comes back as its errno."""
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            try:
                self.become()
                try:
                    result = function(*arguments)
                except OSError as error:
                    result = error.errno
                with os.fdopen(writing, "wb") as out:
                    pickle.dump(result, out)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        os.close(writing)
        with os.fdopen(reading, "rb") as data:
            text = data.read()
        os.waitpid(child, 0)
        return pickle.loads(text)


def need_mount():
    harness.need_fuse()
    harness.need_root()
    for program in ("fusermount3", "mount", "umount"):
        if not shutil.which(program):
            print("SKIP %s: there is no %s" % (os.path.basename(sys.argv[0]), program))
            sys.exit(77)


def _copy_over(base, path, more):
    copy = os.path.join(base, "etc", os.path.basename(path))
    text = ""
    if os.path.exists(path):
        with open(path) as data:
            text = data.read()
    with open(copy, "w") as out:
        out.write(text + more)
    os.chmod(copy, 0o644)
    subprocess.run(["mount", "--bind", copy, path], check=True)


def machine(names, groups=None, fuse_conf=""):
    """Enters the namespace.  `names`: users to have; `groups`: {group: members}, numbered behind the users.
    Returns the directory of the test, the program, and {name: Person}."""
    base = harness.workdir()
    os.chmod(base, 0o755)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS):
        print("SKIP %s: no mount namespaces here" % os.path.basename(sys.argv[0]))
        sys.exit(77)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    # A copy of somebody's mount here would keep it alive when he unmounts it.  Not through a helper.
    for point, (kind, _, _) in mounts().items():
        if kind.startswith("fuse"):
            libc.umount2(os.fsencode(point), MNT_DETACH)
    for directory in ("etc", "sbin"):
        os.mkdir(os.path.join(base, directory))
    program = os.path.join(base, "sbin", "cairn")
    shutil.copy(harness.CAIRN, program)
    os.chmod(program, 0o755)
    for helper in HELPERS:
        os.symlink("cairn", os.path.join(base, "sbin", helper))
    harness.CAIRN = program
    numbers = {group: FIRST_UID + 50 + i for i, group in enumerate(groups or {})}
    people = {name: Person(base, i, name, [numbers[g] for g, members in (groups or {}).items() if name in members])
              for i, name in enumerate(names)}
    _copy_over(base, "/etc/passwd", "".join(
        "%s:x:%d:%d::%s:/bin/sh\n" % (p.name, p.uid, p.gid, p.home) for p in people.values()))
    _copy_over(base, "/etc/group", "".join("%s:x:%d:\n" % (p.name, p.gid) for p in people.values()) + "".join(
        "%s:x:%d:%s\n" % (group, numbers[group], ",".join(members)) for group, members in (groups or {}).items()))
    for path, text in (("/etc/fstab", ""), ("/etc/fuse.conf", fuse_conf)):
        if os.path.exists(path):
            write(os.path.join(base, "etc", os.path.basename(path)), text)
            subprocess.run(["mount", "--bind", os.path.join(base, "etc", os.path.basename(path)), path], check=True)
    # What mount(8) notes in /run/mount/utab is about this namespace only.
    os.makedirs("/run/mount", exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run/mount"], check=True)
    subprocess.run(["mount", "--bind", os.path.join(base, "sbin"), os.path.realpath("/sbin")], check=True)
    if os.stat("/dev/fuse").st_mode & 0o006 != 0o006:
        os.chmod("/dev/fuse", 0o666)
    return base, program, people


def write(path, text):
    """In place: the file may be bound to another name."""
    with open(path, "w") as out:
        out.write(text)
    return path


def get(path):
    with open(path) as data:
        return data.read()


def mounts():
    """{mount point: (type, source, options)} of this namespace; of several at one place the last."""
    table = {}
    with open("/proc/self/mountinfo") as lines:
        for line in lines:
            left, right = line.rstrip("\n").split(" - ")
            fields, (kind, source, special) = left.split(" "), right.split(" ")
            point = fields[4].encode().decode("unicode_escape").encode("latin-1").decode("utf-8", "surrogateescape")
            table[point] = (kind, source, fields[5] + "," + special)
    return table
