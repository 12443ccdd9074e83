#!/usr/bin/env python3
"""SQLite on a mounted workspace, in WAL and rollback modes, with and without mmap: several processes write
to each database; it is frozen meanwhile, restored, restored by force, and the daemon killed.

Each writer numbers its transactions and notes outside when each began and was confirmed: a state must be
one moment between what was confirmed before an instant and what was begun after it, with no transaction torn.
"""
import hashlib
import os
import random
import shutil
import signal
import sqlite3
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Workspace, check, finish, need_fuse, run, seed, workdir  # noqa: E402

LONG = bool(os.environ.get("CAIRN_SQLITE_LONG"))
WRITERS = 2
ACCOUNTS, MONEY = 40, 1000

# name: pragmas, and whether a confirmed transaction is there after a crash
MODES = {
    "wal": (["journal_mode=WAL", "synchronous=FULL"], True),
    "wal-mapped": (["journal_mode=WAL", "synchronous=NORMAL", "mmap_size=67108864", "wal_autocheckpoint=50"], False),
    "delete": (["journal_mode=DELETE", "synchronous=FULL"], False), # does not sync the unlink that commits
    "delete-spilling": (["journal_mode=DELETE", "synchronous=EXTRA", "cache_size=5"], True),
    "truncate-mapped": (["journal_mode=TRUNCATE", "synchronous=FULL", "mmap_size=67108864"], True),
    "persist": (["journal_mode=PERSIST", "synchronous=FULL"], True),
}


WAL_MODES = ("wal", "wal-mapped")


def connect(path, mode):
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    for pragma in MODES[mode][0]:
        connection.execute("PRAGMA " + pragma).fetchall()
    return connection


def create(path, mode):
    connection = connect(path, mode)
    connection.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, money INTEGER)")
    connection.execute("CREATE TABLE step (writer INTEGER, n INTEGER, fill BLOB, PRIMARY KEY (writer, n))")
    connection.execute("CREATE INDEX by_fill ON step (substr(fill, 1, 20))")
    connection.executemany("INSERT INTO account VALUES (?, ?)", [(n, MONEY) for n in range(ACCOUNTS)])
    connection.close()


def transact(connection, rng, writer, n):
    """One transfer; every page that it touches is part of it."""
    amount, size = rng.randrange(50), rng.choice([10, 300, 3000, 20000])
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE account SET money = money - ? WHERE id = ?", (amount, rng.randrange(ACCOUNTS)))
    connection.execute("UPDATE account SET money = money + ? WHERE id = ?", (amount, rng.randrange(ACCOUNTS)))
    connection.execute("INSERT INTO step VALUES (?, ?, ?)", (writer, n, rng.randbytes(size)))
    if n > 30:
        connection.execute("UPDATE step SET fill = x'00' WHERE writer = ? AND n = ?", (writer, n - 30))
    connection.execute("COMMIT")


def write_until_error(path, mode, writer, start, rng, notes, pause):
    """SQLite syncs the directory by its name after it has deleted a journal, and lets pass that it cannot open it;
    the name of a mount that has died may already lead to the directory below.  So what COMMIT confirms counts only
    where the mount still answers afterwards."""
    connection, n = connect(path, mode), start
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    while True:
        n += 1
        if os.path.exists(pause) and mode not in WAL_MODES:
            os.write(notes, b"paused\n")
            while os.path.exists(pause):
                time.sleep(0.01)
        os.write(notes, b"began %d %.6f\n" % (n, time.time()))
        transact(connection, rng, writer, n)
        os.fstatvfs(directory)
        os.write(notes, b"confirmed %d %.6f\n" % (n, time.time()))
        time.sleep(rng.choice([0, 0.001, 0.005]))


class Writers:
    """Processes that write to one database each, several to each database, until they meet an error or are killed."""

    def __init__(self, one, place, rng):
        self.place, self.children, self.pause = place, {}, os.path.join(place, "pause")
        for mode in MODES:
            numbers = Database(one, mode).largest()
            for writer in range(WRITERS):
                self.launch(one, mode, writer, numbers.get(writer, 0), rng.randrange(1 << 30))

    def launch(self, one, mode, writer, start, number):
        notes = os.open(self.notes(mode, writer), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        os.write(notes, b"confirmed %d 0\n" % start)
        child = os.fork()
        if not child:
            code = 1
            try:
                write_until_error(one.p(mode + ".db"), mode, writer, start, random.Random(number), notes,
                                  self.pause)
            except (sqlite3.Error, OSError) as error:
                os.write(notes, b"error %s\n" % str(error).encode())
                code = 0
            finally:
                os._exit(code)
        os.close(notes)
        self.children[child] = (mode, writer)

    def notes(self, mode, writer):
        return os.path.join(self.place, "%s-%d.notes" % (mode, writer))

    def read(self, mode, writer, before, after):
        """(last confirmed until `before`, last begun until `after`, the error)"""
        low, high, error = 0, 0, None
        with open(self.notes(mode, writer)) as notes:
            for line in notes:
                word = line.split(None, 2)
                if word[0] == "error":
                    error = line.split(None, 1)[1].strip()
                elif word[0] == "confirmed" and float(word[2]) <= before:
                    low = int(word[1])
                elif word[0] == "began" and float(word[2]) <= after:
                    high = int(word[1])
        return low, max(low, high), error

    def progress(self):
        done = dict.fromkeys(MODES, 0)
        for mode, writer in self.children.values():
            done[mode] += self.read(mode, writer, 1e18, 1e18)[0]
        return done

    def get_on(self, transactions, timeout=30):
        """Until so many more have been confirmed in each database."""
        start, end = self.progress(), time.time() + timeout
        while any(now < start[mode] + transactions for mode, now in self.progress().items()):
            if time.time() > end:
                raise RuntimeError("writers do not get on: from %s to %s" % (start, self.progress()))
            time.sleep(0.05)

    def rest(self, timeout=60):
        """Those in rollback modes finish their transaction, and hold their connection."""
        with open(self.pause, "w"):
            pass
        end = time.time() + timeout
        while not all(mode in WAL_MODES or self.is_paused(mode, writer) for mode, writer in self.children.values()):
            if time.time() > end:
                raise RuntimeError("writers do not come to rest")
            time.sleep(0.02)

    def is_paused(self, mode, writer):
        with open(self.notes(mode, writer)) as notes:
            return notes.read().endswith("paused\n")

    def go_on(self):
        os.unlink(self.pause)

    def kill(self):
        for child in self.children:
            os.kill(child, signal.SIGKILL)
        self.wait()

    def wait(self, timeout=100, careless=100):
        """How they ended: (mode, writer) -> exit code, negative a signal.  SQLite itself may wait for 30 seconds.
        `careless`: seconds for modes that do not sync what they confirm, and so hear of errors late."""
        codes, start = {}, time.time()
        for child, key in self.children.items():
            limit = timeout if MODES[key[0]][1] else careless
            pid = 0
            while not pid:
                pid, status = os.waitpid(child, os.WNOHANG)
                if not pid and time.time() > start + limit:
                    os.kill(child, signal.SIGKILL)
                time.sleep(0.005)
            codes[key] = os.waitstatus_to_exitcode(status)
        self.children = {}
        return codes


class Database:
    def __init__(self, one, mode):
        self.path, self.mode = one.p(mode + ".db"), mode

    def largest(self):
        connection = connect(self.path, self.mode)
        rows = connection.execute("SELECT writer, max(n) FROM step GROUP BY writer").fetchall()
        connection.close()
        return dict(rows)

    def digest(self):
        connection, digest = connect(self.path, self.mode), hashlib.sha256()
        for query in ("SELECT * FROM account ORDER BY id", "SELECT * FROM step ORDER BY writer, n"):
            for row in connection.execute(query):
                digest.update(repr(row).encode())
        connection.close()
        return digest.hexdigest()

    def fault(self, writers, before, after):
        """Why it is not one moment in between; None if it is."""
        connection = connect(self.path, self.mode)
        try:
            answer = connection.execute("PRAGMA integrity_check").fetchall()
            total = connection.execute("SELECT sum(money) FROM account").fetchone()[0]
            rows = connection.execute("SELECT writer, count(*), max(n) FROM step GROUP BY writer").fetchall()
        except sqlite3.Error as error:
            return str(error)
        finally:
            connection.close()
        if answer != [("ok",)] or total != ACCOUNTS * MONEY:
            return "%s, %d in all accounts" % (answer[:3], total)
        found = {writer: (count, last) for writer, count, last in rows}
        for writer in range(WRITERS):
            low, high, _ = writers.read(self.mode, writer, before, after)
            count, last = found.get(writer, (0, 0))
            if count != last or not low <= last <= high:
                return "writer %d: %d rows up to %d; confirmed %d, begun %d" % (writer, count, last, low, high)
        return None


def check_state(one, writers, before, after, what, lossy=False):
    """`lossy`: after a crash, where a mode may lose what it has confirmed, but only from the end."""
    for mode, (_, durable) in MODES.items():
        since = before if durable or not lossy else 0
        fault = Database(one, mode).fault(writers, since, after)
        check(fault is None, "%s, %s: whole, with every transaction confirmed before and none begun after" % (what, mode), fault)


def digests(one):
    return {mode: Database(one, mode).digest() for mode in MODES}


def freezes(one, place, rng):
    writers, points = Writers(one, place, rng), []
    for n in range(12 if LONG else 4):
        writers.get_on(5)
        before = time.time()
        one.cairn("freeze", "busy-%d" % n)
        points.append(("busy-%d" % n, before, time.time()))
    writers.get_on(3)
    done = one.cairn("restore", "busy-0", ok=False)
    check(done.returncode == 3 and all(str(child) in done.stderr or "more" in done.stderr for child in writers.children),
          "restore is refused while they are open, and names processes", done.stderr)
    writers.get_on(2)
    end = time.time()
    writers.kill()
    last = None
    for name, before, after in points[::-1] + points[1:3]:
        safety = one.json("restore", name)["safety_point"]
        last = last or safety["name"]
        check_state(one, writers, before, after, "restored to " + name)
    one.cairn("restore", last)
    check_state(one, writers, end, 1e18, "the safety point of the first restore")
    for mode in MODES:
        done = run("sqlite3", one.p(mode + ".db"), "PRAGMA integrity_check", ".dump", timeout=60)
        check(done.stdout.startswith("ok\n") and done.stdout.rstrip().endswith("COMMIT;"), "the sqlite3 program reads %s" % mode)


def killed(one, place, rng):
    for n in range(20 if LONG else 3):
        writers = Writers(one, place, rng)
        writers.get_on(4)
        time.sleep(rng.uniform(0, 0.2))
        one.kill()
        codes = writers.wait(careless=3)
        one.mount()
        check_state(one, writers, 1e18, 1e18, "daemon killed, mounted again, round %d" % n, lossy=True)
        wrong = {key: code for key, code in codes.items() if MODES[key[0]][1] and code not in (0, -signal.SIGBUS)}
        check(not wrong, "the writers met errors", wrong)


def forced(one, place, rng):
    """A connection in a rollback mode opens its journal by name in each transaction, and names lead to the restored
    state at once; so those are between two transactions.  Those in WAL mode may be anywhere."""
    for n in range(20 if LONG else 4):
        writers = Writers(one, place, rng)
        writers.get_on(4)
        point, before = "force-%d" % n, time.time()
        one.cairn("freeze", point)
        after = time.time()
        writers.get_on(4)
        writers.rest()
        one.cairn("restore", point, "--force")
        restored = time.time()
        writers.go_on()
        codes = writers.wait()
        late = [key for key in codes if writers.read(*key, 1e18, 1e18)[0] > writers.read(*key, 1e18, restored)[1]]
        check(all(code in (0, -signal.SIGBUS) for code in codes.values()) and not late,
              "restored by force: every writer meets an error, none confirms a transaction begun later", (codes, late))
        changed = one.cairn("diff", point, "@head").stdout
        check(not changed, "and nothing of theirs is in the restored state", changed)
        check_state(one, writers, before, after, "restored by force, round %d" % n)
    found = digests(one)
    one.remount()
    check(digests(one) == found, "and that is what is durable")


def main():
    need_fuse()
    rng = random.Random(seed())
    base = workdir()
    place = os.path.join(base, "notes")
    os.mkdir(place)
    one = Workspace(base).mount()
    for mode in MODES:
        create(one.p(mode + ".db"), mode)
    freezes(one, place, rng)
    killed(one, place, rng)
    forced(one, place, rng)
    one.umount()
    one.check_store()
    shutil.rmtree(place)
    finish()


main()
