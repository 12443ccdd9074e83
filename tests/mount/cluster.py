"""A PostgreSQL cluster for the tests: the real server, run by user postgres, and pgbench whose every
transaction is accounted for.

Each pgbench client numbers its transactions and puts the number into a table, and pgbench logs when
each of them began and was confirmed.  So a state of the cluster can be held against any instant: each
client's numbers are 1..n without a gap, where n is at least what was confirmed to it before the instant
began and at most what it had begun before the instant ended.
"""
import ctypes
import glob
import os
import pwd
import signal
import subprocess
import sys
import time

from harness import check, run

BIN = "/usr/lib/postgresql/15/bin"
USER = "postgres"
PR_SET_CHILD_SUBREAPER = 36

SETTINGS = """
listen_addresses = ''
fsync = on
synchronous_commit = on
full_page_writes = on
shared_buffers = 16MB
min_wal_size = 32MB
max_wal_size = 64MB
checkpoint_timeout = 30s
wal_level = replica
max_wal_senders = 4
log_line_prefix = '%m [%p] '
"""

# TPC-B as pgbench has it, and the number of the transaction.
SCRIPT = r"""
\set aid random(1, 100000 * :scale)
\set bid random(1, :scale)
\set tid random(1, 10 * :scale)
\set delta random(-5000, 5000)
\set n :n + 1
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);
INSERT INTO steps VALUES (:run, :client_id, :n);
END;
"""

INVARIANTS = """
SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
       (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history),
       (SELECT count(*) FROM pgbench_history), (SELECT count(*) FROM steps)
"""


def adopt_orphans():
    """The server's ancestors end before it does: without this, init reaps it, when it likes."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def need_postgresql():
    if not os.path.exists(os.path.join(BIN, "initdb")):
        print("SKIP %s: PostgreSQL 15 is not installed" % os.path.basename(sys.argv[0]))
        sys.exit(77)
    adopt_orphans()


def words_of(path):
    try:
        with open(path) as line:
            return line.read().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def wait_gone(pid):
    """Not even a zombie is left: a server that finds the number of a process in a restored postmaster.pid
    takes that for itself, running."""
    end = time.time() + 30
    while os.path.exists("/proc/%d" % pid):
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            pass
        if time.time() > end:
            raise RuntimeError("nobody reaps process %d" % pid)
        time.sleep(0.01)


class Cluster:
    """A data directory and the server on it.  Logs and the socket lie outside, in `place`."""

    def __init__(self, data, place, port=5432):
        self.data, self.place, self.port = data, place, port
        self.log = os.path.join(place, "server.log")
        self.first = None
        owner = pwd.getpwnam(USER)
        for path in (data, place):
            os.makedirs(path, exist_ok=True)
            if os.geteuid() == 0:
                os.chown(path, owner.pw_uid, owner.pw_gid)
        os.chmod(data, 0o700)

    # ---- programs ----

    def argv(self, program, *argv):
        full = program if "/" in program else os.path.join(BIN, program)
        prefix = ["runuser", "-u", USER, "--"] if os.geteuid() == 0 else []
        return prefix + [full] + [str(a) for a in argv]

    def environment(self):
        return {"PGHOST": self.place, "PGPORT": str(self.port), "PGUSER": USER, "PGDATABASE": USER, "LC_ALL": "C",
                "HOME": self.place, "PGCONNECT_TIMEOUT": "20"}

    def run(self, program, *argv, **more):
        return run(*self.argv(program, *argv), env=self.environment(), cwd=self.place, **more)

    # ---- life ----

    def initdb(self):
        self.run("initdb", "-D", self.data, "-U", USER, "--auth=trust", "--data-checksums", "--locale=C", "-E", "UTF8")
        return self.configure()

    def configure(self):
        with open(os.path.join(self.data, "postgresql.conf"), "a") as conf:
            conf.write(SETTINGS + "unix_socket_directories = '%s'\nport = %d\n" % (self.place, self.port))
        return self

    def start(self):
        done = self.run("pg_ctl", "-D", self.data, "-l", self.log, "-w", "-t", "60", "start", ok=False, timeout=90)
        if done.returncode:
            with open(self.log) as log:
                raise RuntimeError("the server does not start: %s\n%s" % (done.stdout + done.stderr, log.read()[-3000:]))
        self.first = self.postmaster()

    def stop(self, mode="fast"):
        self.run("pg_ctl", "-D", self.data, "-m", mode, "-w", "-t", "60", "stop", timeout=90)
        wait_gone(self.first)

    def postmaster(self):
        """Its arguments name the data directory."""
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            words = words_of(path)
            if words[:1] == [os.path.join(BIN, "postgres")] and self.data in words:
                return int(path.split("/")[2])
        return None

    def pids(self):
        """The server's processes, the postmaster first."""
        first = self.postmaster()
        found = [first] if first else []
        for path in glob.glob("/proc/[0-9]*/stat") if first else []:
            try:
                with open(path) as stat:
                    if int(stat.read().rsplit(")", 1)[1].split()[1]) == first:
                        found.append(int(path.split("/")[2]))
            except (FileNotFoundError, ProcessLookupError):
                pass
        return found

    def signal(self, number):
        """The postmaster last, so that it does not act on what becomes of the others."""
        for pid in self.pids()[::-1]:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def kill(self):
        """The power goes: all processes at once.  The postmaster is stopped first: it must not see it happen."""
        if self.postmaster():
            os.kill(self.first, signal.SIGSTOP)
        self.signal(signal.SIGKILL)
        wait_gone(self.first)

    # ---- questions ----

    def sql(self, text, database=USER, ok=True):
        return self.run("psql", "-d", database, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", text, ok=ok,
                        timeout=120).stdout.strip()

    def numbers(self, text):
        return [int(each or 0) for each in self.sql(text).replace("\n", "|").split("|") if each != ""]

    def fill(self, scale):
        self.run("pgbench", "-i", "-q", "-s", scale)
        self.sql("CREATE TABLE steps (run int, client int, n int); CREATE EXTENSION amcheck")
        return self

    def check_whole(self, what):
        """Sums agree, and every index agrees with its table."""
        sums = self.numbers(INVARIANTS)
        check(sums[0] == sums[1] == sums[2] == sums[3] and sums[4] == sums[5],
              "%s: balances of accounts, tellers and branches and the history agree" % what, sums)
        done = self.run("pg_amcheck", "-a", "--heapallindexed", "--install-missing", ok=False, timeout=300)
        check(done.returncode == 0, "%s: pg_amcheck is content" % what, done.stdout + done.stderr)

    def check_checksums(self, what):
        done = self.run("pg_checksums", "--check", "-D", self.data, ok=False, timeout=300)
        check(done.returncode == 0, "%s: every page has the right checksum" % what, done.stdout + done.stderr)

    def steps(self, number):
        """client -> (how many, largest number) of one run of pgbench."""
        rows = self.sql("SELECT client, count(DISTINCT n), max(n), count(*) FROM steps WHERE run = %d GROUP BY client" % number)
        return {int(row.split("|")[0]): tuple(int(each) for each in row.split("|")[1:]) for row in rows.splitlines()}

    def digest(self):
        """All that the tables hold, as one text: two equal states have the same."""
        return self.sql("SELECT md5(string_agg(t::text, ',' ORDER BY aid)) FROM pgbench_accounts t") + "/" + \
            self.sql("SELECT md5(string_agg(t::text, ',' ORDER BY run, client, n)) FROM steps t") + "/" + \
            self.sql("SELECT count(*), sum(delta) FROM pgbench_history")


class Load:
    """pgbench in the background."""
    runs = 0

    def __init__(self, cluster, clients, scale, seconds=600):
        Load.runs += 1
        self.number, self.clients, self.cluster = Load.runs, clients, cluster
        self.prefix = os.path.join(cluster.place, "load%d" % self.number)
        script = self.prefix + ".sql"
        with open(script, "w") as out:
            out.write(SCRIPT)
        os.chmod(script, 0o644)
        argv = cluster.argv("pgbench", "-n", "-c", clients, "-j", 2, "-T", seconds, "-f", script, "-D", "n=0", "-D",
                            "run=%d" % self.number, "-D", "scale=%d" % scale, "--log", "--log-prefix=" + self.prefix)
        # Its own process group, so that runuser and pgbench are ended together.
        self.process = subprocess.Popen(argv, env=dict(os.environ, **cluster.environment()), cwd=cluster.place,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)

    def wait_for(self, steps, timeout=30):
        """Until so many transactions have been done in this run."""
        end = time.time() + timeout
        while self.cluster.numbers("SELECT count(*) FROM steps WHERE run = %d" % self.number)[0] < steps:
            if time.time() > end or self.process.poll() is not None:
                raise RuntimeError("pgbench does not get on")
            time.sleep(0.1)
        return self

    def end(self):
        """Cutting its connections is a clean end: pgbench completes its logs, which a signal would not."""
        if self.process.poll() is None:
            self.cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgbench'",
                             ok=False)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            subprocess.run(["pkill", "-KILL", "-g", str(self.process.pid)], check=False)
            self.process.wait(20)
        self.process.stderr.close()
        self.read_logs()
        return self

    def read_logs(self):
        """self.done: (client, began, confirmed) of each transaction, seconds since 1970."""
        self.done = []
        for path in glob.glob(self.prefix + ".*[0-9]"):
            with open(path) as log:
                for line in log:
                    word = line.split()
                    if len(word) >= 6:
                        confirmed = int(word[4]) + int(word[5]) / 1e6
                        self.done.append((int(word[0]), confirmed - int(word[2]) / 1e6, confirmed))

    def check_state(self, before, after, what, cluster=None):
        """The state of the cluster (or of a copy of it) is one moment between `before` and `after`."""
        low, high = [0] * self.clients, [1] * self.clients # one may be begun and in no log: it was cut off
        for client, began, confirmed in self.done:
            low[client] += confirmed <= before
            high[client] += began <= after
        found = (cluster or self.cluster).steps(self.number)
        bad = []
        for client in range(self.clients):
            distinct, largest, rows = found.get(client, (0, 0, 0))
            if not (distinct == largest == rows and low[client] <= largest <= high[client]):
                bad.append("client %d: %d rows, up to number %d; confirmed %d, begun %d" %
                           (client, rows, largest, low[client], high[client]))
        check(not bad, "%s: every transaction confirmed before is there, none begun after" % what, "\n    ".join(bad))

    def longest(self, since=0, until=1e18):
        return max((confirmed - began for _, began, confirmed in self.done if confirmed >= since and began <= until), default=0)

    def rate(self, since, until):
        return sum(since <= confirmed <= until for _, _, confirmed in self.done) / (until - since)

