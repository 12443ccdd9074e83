#!/usr/bin/env python3
"""PostgreSQL on a mounted workspace: frozen while pgbench runs, restored, killed; every transaction accounted for.

A server must not run as root, so the mount is root's with allow_other; a second part is all user postgres'
own: store, daemon, mount and server.
"""
import os
import pwd
import shutil
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402
from cluster import USER, Cluster, Load, adopt_orphans, need_postgresql  # noqa: E402
from harness import CAIRN, Workspace, check, finish, need_fuse, need_root, workdir  # noqa: E402

LONG = bool(os.environ.get("CAIRN_POSTGRESQL_LONG"))
SCALE, CLIENTS = (5, 12) if LONG else (2, 8)


class Frozen:
    """A point, when it was made, and what it was found to hold."""

    def __init__(self, one, name):
        self.name, self.digest = name, None
        self.before = time.time()
        one.cairn("freeze", name)
        self.after = time.time()


def visit(one, pg, load, point, what):
    """Restores the stopped cluster to a point, and looks whether it is what it was.  Returns the safety point's name."""
    safety = one.json("restore", point.name)["safety_point"]
    pg.start()
    what = "%s %s" % (what, point.name)
    load.check_state(point.before, point.after, what)
    pg.check_whole(what)
    digest = pg.digest()
    check(point.digest in (None, digest), "%s: the same as at the last visit" % what)
    point.digest = digest
    pg.stop()
    return safety and safety["name"]


def freezes_under_load(one, pg):
    load, points = Load(pg, CLIENTS, SCALE).wait_for(100), []
    for n in range(8 if LONG else 3):
        time.sleep(1.0)
        points.append(Frozen(one, "load-%d" % n))
    time.sleep(0.5)
    load.end()
    report(load, points)
    last = pg.digest()
    pg.stop()

    order = [1, 0, 2, 1] if not LONG else [4, 2, 7, 0, 1, 3, 5, 6, 4, 0]
    safeties = [visit(one, pg, load, points[n], "restored to") for n in order]
    one.cairn("restore", safeties[0])
    pg.start()
    check(pg.digest() == last, "the safety point of the first restore has the last state before it")
    pg.stop()
    for safety, n in list(zip(safeties[1:], order))[:2]:
        one.cairn("restore", safety)
        pg.start()
        check(pg.digest() == points[n].digest, "a later safety point has the state of point %d again" % n)
        pg.stop()
    pg.check_checksums("after all restores")
    pg.start()
    return load, points


def report(load, points):
    during = [load.longest(p.before, p.after) for p in points]
    quiet = load.longest(points[0].after + 0.1, points[1].before - 0.1)
    print("# freeze while pgbench runs: %s ms; longest transaction that met one: %s ms, else %.0f ms; %.0f tps" % (
        "/".join("%.0f" % (1e3 * (p.after - p.before)) for p in points), "/".join("%.0f" % (1e3 * d) for d in during),
        1e3 * quiet, load.rate(points[0].before, points[-1].after)), flush=True)


def cloned(one, pg, load, point):
    """A second server on a clone of a point, while the first one works."""
    one.cairn("clone", point.name, "second")
    two = Workspace(one.base, name="two", options="allow_other", store=one.store)
    two.workspace = "second"
    two.mount()
    busy = Load(pg, 4, SCALE).wait_for(20)
    copy = Cluster(two.p("pg"), os.path.join(one.base, "run-two"))
    copy.configure()
    copy.start()
    load.check_state(point.before, point.after, "a server on a clone, while another works on the origin", copy)
    copy.check_whole("in the clone")
    copy.stop()
    busy.end()
    two.umount()
    pg.check_whole("in the origin")


def killed_daemon(one, pg):
    for n in range(10 if LONG else 2):
        load = Load(pg, CLIENTS, SCALE).wait_for(50)
        time.sleep(0.3 + n * 0.37 % 1)
        one.kill()
        pg.kill()
        load.end()
        one.mount()
        pg.start()
        load.check_state(1e18, 1e18, "daemon killed under pgbench, mounted again, round %d" % n)
        pg.check_whole("after the kill")
    pg.stop()
    pg.check_checksums("after kills")
    pg.start()


def restarted(one, pg):
    digest = pg.digest()
    pg.stop()
    one.remount()
    pg.start()
    check(pg.digest() == digest, "umount and mount: the same cluster")


def refused(one, pg):
    load = Load(pg, CLIENTS, SCALE).wait_for(20)
    done = one.cairn("restore", "load-0", ok=False)
    check(done.returncode == 3 and "postgres (pid " in done.stderr, "restore under the running server is refused, and names it",
          (done.returncode, done.stderr))
    load.wait_for(load.cluster.numbers("SELECT count(*) FROM steps WHERE run = %d" % load.number)[0] + 20)
    check(True, "a refused restore does not disturb the server")
    load.end()


def forced(one, pg, point, rounds):
    """What the kernel still holds for the server, dirty pages and mappings, is of the abandoned state: none of it
    may come to the restored one."""
    for n in range(rounds):
        load = Load(pg, CLIENTS, SCALE).wait_for(100)
        pg.signal(signal.SIGSTOP)
        one.cairn("restore", point.name, "--force")
        pg.kill()
        load.end()
        changed = one.cairn("diff", point.name, "@head").stdout
        check(not changed, "restored by force: nothing of the server comes into the restored state", changed)
        pg.start()
        check(pg.digest() == point.digest, "and it starts from exactly that state (round %d)" % n)
        pg.check_whole("after the forced restore")
    pg.stop()
    pg.check_checksums("after forced restores")
    pg.start()


def forced_alive(one, pg, point):
    """A server that goes on meets its stale handles.  It opens other files by name until then, and may write to them
    what it remembers; so it has to be ended, and the restore repeated."""
    load, size = Load(pg, CLIENTS, SCALE).wait_for(100), os.path.getsize(pg.log)
    one.cairn("restore", point.name, "--force")
    load.process.wait(60)
    with open(pg.log) as log:
        log.seek(size)
        said = log.read()
    check("Stale file handle" in said, "restored by force under a server that goes on: its handles are stale, and it gives up", said[-500:])
    pg.kill()
    load.end()
    one.cairn("restore", point.name)
    pg.start()
    check(pg.digest() == point.digest, "once it is ended, another restore gives exactly the point's state")
    pg.check_whole("after that")


def administration(one, pg):
    """The statements that rewrite, copy and link files."""
    pg.sql("VACUUM FULL pgbench_accounts")
    load = Load(pg, 4, SCALE).wait_for(20)
    pg.sql("CREATE INDEX CONCURRENTLY ON pgbench_accounts (abalance)")
    pg.sql("REINDEX TABLE CONCURRENTLY pgbench_accounts")
    load.end()
    pg.sql("VACUUM ANALYZE")
    space = one.p("space")
    os.makedirs(space)
    shutil.chown(space, USER, USER)
    pg.sql("CREATE TABLESPACE elsewhere LOCATION '%s'" % space)
    pg.sql("CREATE TABLE far TABLESPACE elsewhere AS SELECT n, md5(n::text) FROM generate_series(1, 20000) n")
    for strategy in ("file_copy", "wal_log"):
        pg.sql("CREATE DATABASE by_%s TEMPLATE template0 STRATEGY %s" % (strategy, strategy))
        pg.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) n", database="by_" + strategy)
    pg.check_whole("after VACUUM FULL, REINDEX, CREATE DATABASE and TABLESPACE")
    dump = dumped(pg)
    point = Frozen(one, "administered")
    point.digest = pg.digest()
    pg.sql("DROP DATABASE by_wal_log")
    pg.sql("UPDATE far SET md5 = 'gone'; TRUNCATE pgbench_history")
    pg.sql("ALTER TABLE pgbench_accounts SET TABLESPACE elsewhere")
    backup(pg, one.path)
    pg.stop()
    one.cairn("restore", point.name)
    pg.start()
    check(pg.digest() == point.digest and pg.numbers("SELECT count(*) FROM far WHERE md5 = md5(n::text)") == [20000],
          "restored over DDL and a tablespace: the rows are those of the point")
    check(pg.sql("SELECT count(*) FROM t", database="by_wal_log") == "1000", "a dropped database is back")
    check(dumped(pg) == dump, "pg_dump says the same as before the freeze")
    pg.check_whole("restored over DDL")


def dumped(pg):
    """Without the key that psql is to stop at, a new one each time."""
    lines = pg.run("pg_dump", "--inserts").stdout.splitlines()
    return [line for line in lines if "restrict " not in line]


def backup(pg, mount):
    """pg_basebackup from the mount to the disk below: a cluster that starts there."""
    copy = Cluster(os.path.join(pg.place, "copy"), os.path.join(pg.place, "run"), pg.port)
    pg.run("pg_basebackup", "-D", copy.data, "-c", "fast", "-X", "stream",
           "-T", "%s=%s" % (os.path.join(mount, "space"), os.path.join(pg.place, "copied-space")))
    done = pg.run("pg_verifybackup", copy.data, ok=False)
    check(done.returncode == 0, "pg_basebackup from the mount passes pg_verifybackup", done.stdout + done.stderr)
    copy.configure()
    copy.start()
    check(copy.digest() == pg.digest(), "and the server that starts from it has the same rows")
    copy.stop()


def by_root(base):
    one = Workspace(base, options="allow_other").mount()
    os.chmod(one.path, 0o755)
    pg = Cluster(one.p("pg"), os.path.join(base, "run")).initdb()
    pg.start()
    pg.fill(SCALE)
    load, points = freezes_under_load(one, pg)
    cloned(one, pg, load, points[1])
    refused(one, pg)
    restarted(one, pg)
    killed_daemon(one, pg)
    forced(one, pg, points[2], 20 if LONG else 2)
    forced_alive(one, pg, points[2])
    administration(one, pg)
    pg.stop()
    one.umount()
    one.check_store()


def by_postgres(base):
    """In a child: everything as user postgres."""
    user = pwd.getpwnam(USER)
    program = os.path.join(base, "cairn")
    shutil.copy(CAIRN, program)
    os.chmod(program, 0o755)
    own = os.path.join(base, "own")
    os.mkdir(own)
    os.chown(own, user.pw_uid, user.pw_gid)
    harness._state["mounts"].append(os.path.join(own, "one")) # should the child not come to it
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return check(code == 0, "store, daemon, mount and server as user postgres: every step")
    os.initgroups(USER, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    os.environ["HOME"] = own
    harness.CAIRN = program
    harness._state["failed"] = 0
    adopt_orphans()
    try:
        ordinary(own)
    except Exception as error: # pylint: disable=broad-except
        check(False, "no error", error)
    os._exit(1 if harness._state["failed"] else 0)


def ordinary(own):
    one = Workspace(own).mount()
    pg = Cluster(one.p("pg"), os.path.join(own, "run")).initdb()
    pg.start()
    pg.fill(1)
    load = Load(pg, 4, 1).wait_for(50)
    point = Frozen(one, "a")
    load.wait_for(200)
    done = one.cairn("restore", "a", ok=False)
    check(done.returncode == 3 and "postgres (pid " in done.stderr, "restore under the server is refused", done.stderr)
    load.end()
    pg.stop()
    visit(one, pg, load, point, "as user postgres, restored to")
    one.umount()
    one.check_store()


def main():
    need_fuse()
    need_root()
    need_postgresql()
    if not os.stat("/dev/fuse").st_mode & 0o006 == 0o006:
        os.chmod("/dev/fuse", 0o666)
    base = workdir()
    os.chmod(base, 0o755)
    by_root(base)
    by_postgres(base)
    finish()


main()
