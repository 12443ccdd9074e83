#!/usr/bin/env python3
"""Ordinary users mount through fusermount3: what they may, what others may, and what the options mean."""
import errno
import os
import socket
import stat
import struct
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402
import people  # noqa: E402
from harness import check, finish  # noqa: E402


CAPABILITY = struct.pack("<5I", 0x02000000, 1 << 10, 0, 0, 0)  # of a well-formed kind


class Mount:
    """A store and a mount of a person."""

    def __init__(self, person, name, *options):
        self.person = person
        self.store, self.path = os.path.join(person.home, name + ".store"), os.path.join(person.home, name)
        if not os.path.exists(self.store):
            person.run(harness.CAIRN, "init", self.store, ok=True)
            person.run("mkdir", self.path, ok=True)
            harness._state["mounts"].append(self.path)
        self.options = options

    def cairn(self, *argv, ok=True, by=None):
        return (by or self.person).run(harness.CAIRN, "-s", self.store, *argv, ok=ok)

    def mount(self, ok=True):
        return self.cairn("mount", self.path, *(["-o", ",".join(self.options)] if self.options else []), ok=ok)

    def umount(self):
        self.person.run(harness.CAIRN, "umount", self.path, ok=True)

    def p(self, *parts):
        return os.path.join(self.path, *parts)


def put(path, text="text", mode=None):
    with open(path, "w") as out:
        out.write(text)
    if mode is not None:
        os.chmod(path, mode)
    return 0


def get(path):
    with open(path) as data:
        return data.read()


def look(path):
    found = os.lstat(path)
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid


def device(path):
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))


def masked(path):
    os.umask(0o027)
    os.mkdir(path)
    return look(path)[0]


def everyday(ann, team):
    """Alone, with default options."""
    one = Mount(ann, "alone")
    one.mount()
    check({"nosuid", "nodev"} <= set(people.mounts()[one.path][2].split(",")), "nosuid and nodev are set")
    check(ann.do(put, one.p("file"), "first", 0o640) == 0, "a file is written")
    check(ann.do(look, one.p("file")) == (0o640, ann.uid, ann.gid), "it belongs to who made it", ann.do(look, one.p("file")))
    check(ann.do(os.chown, one.p("file"), 0, -1) == errno.EPERM, "giving it to root is refused")
    check(ann.do(os.chown, one.p("file"), -1, 0) == errno.EPERM, "and to the group of root")
    check(ann.do(os.chown, one.p("file"), -1, team) is None, "to a group that the user is in is not")
    check(ann.do(look, one.p("file"))[2] == team, "and it has that group then")
    check(ann.do(device, one.p("device")) == errno.EPERM, "device nodes are refused")
    check(ann.do(os.mkfifo, one.p("fifo")) is None, "fifos are not")

    def listen():
        with socket.socket(socket.AF_UNIX) as listening:
            os.chdir(one.path)
            listening.bind("socket")
            listening.listen()
            with socket.socket(socket.AF_UNIX) as calling:
                calling.connect("socket")
        return 0
    check(ann.do(listen) == 0, "a socket works")
    check(ann.do(masked, one.p("masked")) == 0o750, "the umask counts")
    check(ann.do(os.chmod, one.p("file"), 0o6755) is None and ann.do(look, one.p("file"))[0] == 0o6755, "set-id bits can be set")
    check(ann.do(put, one.p("file"), "second") == 0 and ann.do(look, one.p("file"))[0] == 0o755, "and go when the file is written")

    def shared():
        os.mkdir(one.p("shared"))
        os.chown(one.p("shared"), -1, team)
        os.chmod(one.p("shared"), 0o2770)
        put(one.p("shared", "new"))
        os.mkdir(one.p("shared", "sub"))
        return look(one.p("shared", "new"))[2], look(one.p("shared", "sub"))
    check(ann.do(shared) == (team, (0o2755, ann.uid, team)), "directories hand their group down", ann.do(shared))
    check(ann.do(os.setxattr, one.p("file"), "user.note", b"x") is None, "user. attributes can be set")
    check(ann.do(os.setxattr, one.p("file"), "trusted.note", b"x") == errno.EPERM, "trusted. ones cannot")
    check(ann.do(os.getxattr, one.p("file"), "trusted.note") in (errno.ENODATA, errno.EPERM), "nor be read")
    check(ann.do(os.listxattr, one.p("file")) == ["user.note"], "and the list names what is the user's")
    check(ann.do(os.setxattr, one.p("file"), "security.capability", CAPABILITY) == errno.EPERM, "nor capabilities")
    if subprocess.run(["sh", "-c", "command -v setfacl"], stdout=subprocess.DEVNULL, check=False).returncode == 0:
        done = ann.run("setfacl", "-m", "u:%d:rw" % 12345, one.p("file"))
        listed = ann.run("getfacl", "-n", "--omit-header", one.p("file")).stdout
        check(done.returncode == 0 and "user:12345:rw-" in listed, "an ACL can be set", done.stderr + listed)

    one.cairn("freeze", "a")
    ann.do(put, one.p("file"), "third")
    one.cairn("restore", "a")
    check(ann.do(get, one.p("file")) == "second", "freeze and restore")
    check(ann.do(get, one.p(".snapshots", "a", "file")) == "second", "a point can be read")
    check("main" in ann.run(harness.CAIRN, "status", cwd=one.path).stdout, "a command finds its store by the directory that it is in")
    check(os.stat(one.store).st_mode & 0o077 == 0, "the store is closed to others")
    return one


def closed(one, bob):
    """FUSE lets nobody in but the user who mounted, not even root."""
    check(bob.do(os.listdir, one.path) == errno.EACCES, "another user gets EACCES")
    try:
        os.listdir(one.path)
        check(False, "root gets EACCES")
    except OSError as error:
        check(error.errno == errno.EACCES, "root gets EACCES", error)
    for command in (["status"], ["freeze", "b"], ["log"]):
        done = one.cairn(*command, by=bob, ok=False)
        check(done.returncode == 1 and "ermission denied" in done.stderr, "the daemon does not listen to another user: %s" % command[0], done)
    done = bob.run(harness.CAIRN, "umount", one.path)
    check(done.returncode != 0 and one.path in people.mounts(), "who cannot unmount it, either", done)
    one.umount()
    one.person.run(harness.CAIRN, "-s", one.store, "check", "--read-data", ok=True)


def options(ann):
    """Understood, ignored as mount(8) wants it, or refused by name with exit code 2."""
    one = Mount(ann, "options")
    for option in ("nofail,_netdev,auto,noauto,user,users,owner,group,x-systemd.automount,x-gvfs-show,comment=a b,defaults,rw",
                   "atime,relatime,nodiratime,noiversion,async,exec,silent,default_permissions,nonempty,use_ino", "workspace=main"):
        one.options = (option,)
        done = one.mount(ok=False)
        check(done.returncode == 0, "accepted: %s" % option, done.stderr)
        one.umount()
    for option, words in (("uid=5", "chown"), ("gid=5", "chown"), ("umask=0", "chmod"), ("colour=blue", "unknown"), ("noatim", "unknown"),
                          ("direct_io", "caches"), ("fsname=x", "table of mounts"), ("strictatime", "access times"),
                          ("remount,ro", "umount"), ("workspace=", "name"), ("allow_other,allow_root", "choose")):
        one.options = (option,)
        done = one.mount(ok=False)
        check(done.returncode == 2 and words in done.stderr and option.split(",")[0] in done.stderr, "refused: %s" % option, done)
    for option, word in (("noatime", "noatime"), ("noexec", "noexec"), ("sync", "sync"), ("ro", "ro")):
        one.options = (option,)
        one.mount()
        check(word in people.mounts()[one.path][2].split(","), "%s holds" % option, people.mounts()[one.path])
        if option == "ro":
            check(ann.do(put, one.p("x")) == errno.EROFS, "nothing can be written with ro")
            check(ann.do(os.mkdir, one.p(".snapshots/x")) == errno.EROFS, "nor made")
            check(one.cairn("freeze", "of-ro").returncode == 0, "but a point can be made")
        if option == "noexec":
            ann.do(put, one.p("script"), "#!/bin/sh\n", 0o755)
            check(ann.do(os.access, one.p("script"), os.X_OK) is False, "nothing can be run with noexec")
        one.umount()
    for option in ("allow_other", "allow_root"):
        one.options = (option,)
        done = one.mount(ok=False)
        check(done.returncode == 1 and "user_allow_other" in done.stderr and "/etc/fuse.conf" in done.stderr and option in done.stderr,
              "%s where it is not allowed: what is to be done is said" % option, done)


def together(ann, bob, eve, team):
    """allow_other: the kernel checks permissions."""
    one = Mount(ann, "together", "allow_other")
    done = one.mount(ok=False)
    if not check(done.returncode == 0, "allow_other, where fuse.conf has user_allow_other", done.stderr):
        return

    def prepare():
        os.chmod(one.path, 0o755)
        put(one.p("secret"), "s", 0o600)
        put(one.p("public"), "p", 0o644)
        for name, mode, group in (("team", 0o2770, team), ("tmp", 0o1777, -1), ("drop", 0o733, -1)):
            os.mkdir(one.p(name))
            os.chown(one.p(name), -1, group)
            os.chmod(one.p(name), mode)
        put(one.p("tmp", "ann"), "a", 0o666)
        return 0
    check(ann.do(prepare) == 0, "shared directories are made")
    check(bob.do(get, one.p("public")) == "p" and get(one.p("public")) == "p", "others read what they may, and root")
    check(bob.do(get, one.p("secret")) == errno.EACCES, "and not what they may not")
    check(get(one.p("secret")) == "s", "root may all")
    check(bob.do(put, one.p("public")) == errno.EACCES, "nor write")
    check(bob.do(put, one.p("new")) == errno.EACCES, "nor make files where they may not")
    check(bob.do(put, one.p("team", "bob")) == 0, "a member of the group may")
    check(look(one.p("team", "bob")) == (0o644, bob.uid, team), "his file is his, and the group's", look(one.p("team", "bob")))
    check(eve.do(os.listdir, one.p("team")) == errno.EACCES, "who is no member may not")
    check(bob.do(os.listdir, one.p("drop")) == errno.EACCES and bob.do(put, one.p("drop", "bob")) == 0, "a letter box takes, and does not show")
    check(bob.do(put, one.p("tmp", "bob"), "b", 0o666) == 0, "everybody writes in a sticky directory")
    check(bob.do(os.unlink, one.p("tmp", "ann")) == errno.EPERM, "but deletes there only what is his")
    check(eve.do(os.rename, one.p("tmp", "bob"), one.p("tmp", "eve")) == errno.EPERM, "and renames only what is his")
    check(ann.do(os.unlink, one.p("tmp", "bob")) is None, "its owner deletes all")
    check(bob.do(os.chmod, one.p("public"), 0o777) == errno.EPERM, "only the owner sets modes")
    os.chown(one.p("public"), eve.uid, eve.gid)
    check(eve.do(put, one.p("public"), "e") == 0 and ann.do(put, one.p("public")) == errno.EACCES, "root gives a file away, and it counts at once")
    os.setxattr(one.p("public"), "trusted.note", b"r")
    check(os.getxattr(one.p("public"), "trusted.note") == b"r" and eve.do(os.listxattr, one.p("public")) == [], "trusted. attributes are root's")
    device(one.p("null"))
    check(ann.do(lambda: os.close(os.open(one.p("null"), os.O_RDONLY))) == errno.EACCES, "a device that root makes cannot be opened (nodev)")
    check(bob.do(os.listdir, one.p(".snapshots")) == [], "others look at points, too")
    done = one.cairn("freeze", "b", by=bob, ok=False)
    check(done.returncode == 1 and "ermission denied" in done.stderr, "but only the user of the store makes them", done)
    one.cairn("freeze", "shared")
    check(bob.do(get, one.p(".snapshots", "shared", "secret")) == errno.EACCES, "permissions hold in points")
    one.umount()


def with_root(ann, bob):
    """allow_root: root and nobody else, whatever the kernel has cached."""
    one = Mount(ann, "rooted", "allow_root")
    done = one.mount(ok=False)
    if not check(done.returncode == 0, "allow_root", done.stderr):
        return
    ann.do(put, one.p("file"), "r", 0o644)
    ann.do(os.mkdir, one.p("dir"))
    ann.do(put, one.p("dir", "below"), "r", 0o644)
    ann.do(os.symlink, "file", one.p("link"))

    def all_of_it():
        """How far one gets."""
        done = []
        for function, *arguments in ((get, one.p("file")), (os.listdir, one.path), (os.listdir, one.p("dir")), (os.lstat, one.p("file")),
                                     (os.readlink, one.p("link")), (get, one.p("dir", "below")), (os.chdir, one.p("dir")), (os.stat, one.path),
                                     (os.access, one.p("file"), os.R_OK), (os.statvfs, one.path), (os.listxattr, one.p("file"))):
            try:
                if function(*arguments) is not False:
                    done.append(function.__name__)
            except OSError as error:
                if error.errno != errno.EACCES:
                    done.append("%s: %s" % (function.__name__, error))
        return done
    for _ in range(2):
        check(len(ann.do(all_of_it)) == 11, "the user does all", ann.do(all_of_it))
        check(len(all_of_it()) == 11, "and root")
        check(bob.do(all_of_it) == [], "nobody else does anything, though it is in the cache", bob.do(all_of_it))
    os.chdir("/")
    one.umount()


def main():
    people.need_mount()
    base, _, world = people.machine(["ann", "bob", "eve"], {"team": ["ann", "bob"]})
    ann, bob, eve = world["ann"], world["bob"], world["eve"]
    team = ann.groups[0]
    closed(everyday(ann, team), bob)
    options(ann)
    people.write(os.path.join(base, "etc", "fuse.conf"), "# a comment\nuser_allow_other\n")
    together(ann, bob, eve, team)
    with_root(ann, bob)
    finish()


main()
