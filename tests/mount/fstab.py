#!/usr/bin/env python3
"""Lines of fstab with type cairn and fuse.cairn: mount(8), mount -a, umount(8), by root and by ordinary users."""
import errno
import fcntl
import os
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402
import people  # noqa: E402
from harness import alive, check, finish, run  # noqa: E402


def fstab(*lines):
    people.write("/etc/fstab", "".join(line + "\n" for line in lines))


def escaped(path):
    return path.replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011").replace("\n", "\\012")


def make(base, name, *workspaces):
    store, point = os.path.join(base, name + ".store"), os.path.join(base, name)
    run(harness.CAIRN, "init", store)
    for workspace in workspaces:
        run(harness.CAIRN, "-s", store, "workspace", "create", workspace)
    os.mkdir(point)
    harness._state["mounts"].append(point)
    return store, point


def daemon_of(store):
    status = harness.json.loads(run(harness.CAIRN, "--json", "-s", store, "status").stdout)
    return status["daemon_pid"]


def writing(directory):
    try:
        people.write(os.path.join(directory, "x"), "x")
        return 0
    except OSError as error:
        return error.errno


def is_free(store):
    with open(os.path.join(store, "lock")) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False


def gone(pid):
    for _ in range(100):
        if not alive(pid):
            return True
        time.sleep(0.02)
    return False


def by_root(base):
    store, point = make(base, "one", "second")
    fstab("%s %s cairn nofail,_netdev,x-systemd.requires=x,comment=a,noatime 0 0" % (store, point))
    done = run("mount", point, ok=False)
    check(done.returncode == 0 and people.mounts().get(point, ("",))[0] == "fuse.cairn", "mount MOUNTPOINT mounts a line of type cairn", done.stderr)
    check("noatime" in people.mounts()[point][2], "options of the line hold", people.mounts()[point])
    check({"nosuid", "nodev"} <= set(people.mounts()[point][2].split(",")), "nosuid and nodev are set unless asked otherwise")
    people.write(os.path.join(point, "file"), "kept")
    pid = daemon_of(store)
    done = run("mount", "-a", ok=False)
    check(done.returncode == 0 and daemon_of(store) == pid, "mount -a leaves alone what is mounted", done.stdout + done.stderr)
    done = run("umount", point, ok=False)
    check(done.returncode == 0 and is_free(store), "after umount(8) the daemon has let go of the store", done.stderr)
    copy = store + ".copy"
    shutil.copytree(store, copy)
    out = run(harness.CAIRN, "-s", copy, "cat", "@head", "file", ok=False)
    check(out.stdout == "kept", "a copy of the store made right after umount(8) is complete", out.stderr)
    run("mount", "-a")
    check(os.path.exists(os.path.join(point, "file")), "mount -a mounts it again")
    run("umount", point)

    for line in ("%s#second %s cairn defaults 0 0", "%s %s cairn workspace=second 0 0", "%s %s fuse.cairn workspace=second,rw 0 0"):
        fstab(line % (store, point))
        done = run("mount", point, ok=False)
        check(people.mounts().get(point, ("", ""))[1].endswith("second"), "the workspace of '%s'" % line, done.stderr)
        run("umount", point)
    fstab("%s#second %s cairn workspace=main 0 0" % (store, point))
    done = run("mount", point, ok=False)
    check(done.returncode == 2 and "second" in done.stderr and "main" in done.stderr, "two different workspaces are refused", done.stderr)
    fstab("%s %s cairn colour=blue 0 0" % (store, point))
    done = run("mount", point, ok=False)
    check(done.returncode == 2 and "colour=blue" in done.stderr, "an unknown option is refused by its name", done.stderr)
    done = run("mount", "-s", point, ok=False)
    check(done.returncode == 0, "mount -s tolerates it", done.stderr)
    with open(os.path.join(point, "file"), "a"):
        done = run("mount", "-o", "remount,ro", point, ok=False)
        check(done.returncode != 0 and "busy" in done.stderr, "remount,ro is busy while a file is open for writing", done)
    done = run("mount", "-o", "remount,ro", point, ok=False)
    check(done.returncode == 0 and writing(point) == errno.EROFS, "remount,ro", done.stderr)
    done = run("mount", "-o", "remount,rw", point, ok=False)
    check(done.returncode == 0 and writing(point) == 0, "remount,rw", done.stderr)
    run("umount", point)
    fstab("%s %s cairn ro 0 0" % (store, point))
    run("mount", point)
    check(writing(point) == errno.EROFS, "ro in fstab")
    done = run("mount", "-o", "remount,rw", point, ok=False)
    check(done.returncode == 0 and writing(point) == 0, "and remount,rw after that", done.stderr)
    run("umount", point)
    shutil.rmtree(store + ".copy")


def odd_names(base):
    for name in ("with blanks in it", "tab\tand\\backslash", "new\nline", "comma,hash#end", "ünicode"):
        store, point = make(base, name)
        for kind in ("cairn", "fuse.cairn"):
            fstab("%s %s %s defaults 0 0" % (escaped(store), escaped(point), kind))
            done = run("mount", point, ok=False)
            check(done.returncode == 0 and os.path.ismount(point), "mount of %r, type %s" % (name, kind), done.stderr)
            done = run(harness.CAIRN, "status", cwd=point, ok=False)
            check(done.returncode == 0, "the store is found from inside %r" % name, done.stderr)
            done = run("umount", point, ok=False)
            check(done.returncode == 0 and not os.path.ismount(point), "umount of %r" % name, done.stderr)


def many(base):
    workspaces = ["w%d" % i for i in range(6)]
    store, _ = make(base, "many", *workspaces)
    points = []
    for workspace in workspaces:
        points.append(os.path.join(base, "at-" + workspace))
        os.mkdir(points[-1])
        harness._state["mounts"].append(points[-1])
    fstab(*["%s#%s %s cairn defaults 0 0" % (store, w, p) for w, p in zip(workspaces, points)])
    run("mount", "-a")
    check(all(p in people.mounts() for p in points), "six workspaces of one store by mount -a")
    pid = daemon_of(store)
    for n, point in enumerate(points):
        people.write(os.path.join(point, "file"), str(n))
    order = [3, 0, 5, 1, 4, 2]
    for position, n in enumerate(order):
        done = run("umount", points[n], ok=False)
        last = position == len(order) - 1
        check(done.returncode == 0 and is_free(store) == last, "umount in any order: the daemon %s" % (
            "lets go with the last" if last else "stays"), done.stderr)
    check(gone(pid), "and ends")
    texts = [run(harness.CAIRN, "-s", store, "-w", w, "cat", "@head", "file").stdout for w in workspaces]
    check(texts == [str(n) for n in range(6)], "each workspace has kept its file", texts)


def by_users(world):
    ann, bob = world["ann"], world["bob"]
    store, point = os.path.join(ann.home, "store"), os.path.join(ann.home, "work")
    ann.run(harness.CAIRN, "init", store, ok=True)
    ann.run("mkdir", point, ok=True)
    harness._state["mounts"].append(point)
    for options in ("noauto,user", "noauto,users,nofail"):
        fstab("%s %s cairn %s 0 0" % (store, point, options))
        done = ann.run("mount", point)
        if not check(done.returncode == 0 and point in people.mounts(), "an ordinary user mounts a line with %s" % options, done.stderr):
            continue
        check("noexec" in people.mounts()[point][2], "'%s' implies noexec" % options, people.mounts()[point])
        check(ann.do(lambda: people.write(os.path.join(point, "mine"), "x")) == os.path.join(point, "mine"), "and writes there")
        pid = harness.json.loads(ann.run(harness.CAIRN, "--json", "-s", store, "status").stdout)["daemon_pid"]
        check(os.stat("/proc/%d" % pid).st_uid == ann.uid, "the daemon runs as the user")
        done = bob.run("umount", point)
        check(done.returncode != 0 and point in people.mounts(), "another user cannot unmount it", done.stdout + done.stderr)
        done = ann.run("umount", point)
        check(done.returncode == 0 and is_free(store), "the user unmounts with umount(8), and all is done then", done.stderr)


def main():
    people.need_mount()
    if not os.path.exists("/etc/fstab"):
        print("SKIP fstab: there is no /etc/fstab to cover")
        sys.exit(77)
    base, _, world = people.machine(["ann", "bob"])
    by_root(base)
    odd_names(base)
    many(base)
    by_users(world)
    leftover = subprocess.run(["pgrep", "-f", base + "/sbin/cairn"], stdout=subprocess.PIPE, text=True, check=False).stdout
    check(not leftover, "no process is left", leftover)
    finish()


main()
