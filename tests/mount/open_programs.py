#!/usr/bin/env python3
"""Programs that stay open over freeze and restore: a log that several processes append to while it is rotated
and followed by tail -F, and an editor with its swap file."""
import errno
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Workspace, check, finish, need_fuse, seed, workdir  # noqa: E402

APPENDERS, ROTATIONS = 3, 4
FOREVER = 1e18


def put(path, text):
    with open(path, "w") as out:
        out.write(text)


def get(path):
    with open(path, errors="replace") as data:
        return data.read()


def until(condition, what, timeout=20):
    end = time.time() + timeout
    while not condition():
        if time.time() > end:
            return check(False, what, "not within %d seconds" % timeout)
        time.sleep(0.02)
    return True


# ---- the log ----

def is_rotated(fd, path):
    try:
        return os.stat(path).st_ino != os.fstat(fd).st_ino
    except FileNotFoundError:
        return False # between rename and create


def append_lines(path, me, notes, sync):
    """Numbered lines, one write(2) each; reopens the log when it was rotated.  Ends at an error."""
    fd, number = os.open(path, os.O_WRONLY | os.O_APPEND), 0
    while True:
        number += 1
        if is_rotated(fd, path):
            os.close(fd)
            fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.write(notes, b"began %d %.6f\n" % (number, time.time()))
        os.write(fd, b"appender %d line %d %s\n" % (me, number, b"." * (number * 37 % 200)))
        if sync:
            os.fsync(fd)
        os.write(notes, b"returned %d %.6f\n" % (number, time.time()))
        time.sleep(0.0005)


class Appenders:
    def __init__(self, one, place, sync=False):
        self.notes = [os.path.join(place, "appender%d" % n) for n in range(APPENDERS)]
        self.children = [self.launch(one.p("log"), n, sync) for n in range(APPENDERS)]

    def launch(self, path, me, sync):
        notes = os.open(self.notes[me], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        child = os.fork()
        if not child:
            code = 1
            try:
                append_lines(path, me, notes, sync)
            except OSError as error:
                code = 10 if error.errno == errno.ESTALE else 11
            finally:
                os._exit(code)
        os.close(notes)
        return child

    def bounds(self, me, before, after):
        low = high = 0
        for line in get(self.notes[me]).splitlines():
            what, number, when = line.split()
            if what == "returned" and float(when) <= before:
                low = int(number)
            if what == "began" and float(when) <= after:
                high = int(number)
        return low, high

    def get_on(self, lines):
        wanted = [self.bounds(n, FOREVER, FOREVER)[0] + lines for n in range(APPENDERS)]
        until(lambda: all(self.bounds(n, FOREVER, FOREVER)[0] >= wanted[n] for n in range(APPENDERS)), "appenders get on")

    def end(self, how=signal.SIGKILL):
        if how:
            for child in self.children:
                os.kill(child, how)
        return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in self.children]


def rotate(one, number):
    """As logrotate does it with "create"; older ones keep higher numbers away."""
    os.rename(one.p("log"), one.p("log.%d" % number))
    put(one.p("log"), "")


def read_log(top):
    """All generations, oldest first."""
    parts = sorted((name for name in os.listdir(top) if re.fullmatch(r"log\.\d+", name)), key=lambda name: int(name[4:]))
    return "".join(get(os.path.join(top, name)) for name in parts + ["log"])


def fault(text, appenders, before, after):
    """Each appender's lines are whole, in order and without a gap, up to one moment in between."""
    last = [0] * APPENDERS
    for line in text.splitlines(keepends=True):
        match = re.fullmatch(r"appender (\d+) line (\d+) (\.*)\n", line)
        if not match or len(match[3]) != int(match[2]) * 37 % 200:
            return "a line is torn: %r" % line
        last[int(match[1])] += 1
        if last[int(match[1])] != int(match[2]):
            return "a gap before %r" % line
    bounds = [appenders.bounds(n, before, after) for n in range(APPENDERS)]
    if all(low <= n <= high for (low, high), n in zip(bounds, last)):
        return None
    return "lines %s, returned and begun %s" % (last, bounds)


class Tail:
    def __init__(self, path, place):
        self.output = os.path.join(place, "tail")
        with open(self.output, "w") as out:
            self.process = subprocess.Popen(["tail", "-n", "+1", "-s", "0.1", "-F", path], stdout=out, stderr=subprocess.STDOUT)

    def shows(self, text):
        return until(lambda: text in get(self.output), "tail -F shows %r" % text)

    def end(self):
        self.process.kill()
        self.process.wait()


def log_frozen(one, place):
    put(one.p("log"), "")
    appenders, tail, points = Appenders(one, place), Tail(one.p("log"), place), []
    for n in range(ROTATIONS):
        appenders.get_on(30)
        before = time.time()
        one.cairn("freeze", "log-%d" % n)
        points.append(("log-%d" % n, before, time.time()))
        appenders.get_on(10)
        rotate(one, n)
    appenders.get_on(10)
    done = one.cairn("restore", "log-1", ok=False)
    check(done.returncode == 3 and all("(pid %d" % child in done.stderr for child in appenders.children) and "'log'" in done.stderr,
          "restore is refused while a log is appended to, and names who does", done.stderr)
    check("tail" not in done.stderr, "who only reads it is not in the way")
    appenders.end()
    end = time.time()
    for name, before, after in points:
        wrong = fault(read_log(one.p(".snapshots", name)), appenders, before, after)
        check(wrong is None, "%s: the log has every line that had returned, and none begun later" % name, wrong)
    safety = one.json("restore", "log-1")["safety_point"]["name"]
    wrong = fault(read_log(one.path), appenders, points[1][1], points[1][2])
    check(wrong is None and sorted(os.listdir(one.path)) == ["log", "log.0"], "restored: the log and its generations are those", wrong)
    with open(one.p("log"), "a") as log:
        log.write("after the restore\n")
    check(tail.shows("after the restore"), "tail -F follows the restored log")
    one.cairn("restore", safety)
    wrong = fault(read_log(one.path), appenders, end, FOREVER)
    check(wrong is None, "the safety point has every line", wrong)
    with open(one.p("log"), "a") as log:
        log.write("after going back\n")
    check(tail.shows("after going back"), "tail -F follows also there")
    tail.end()


def log_forced(one, place):
    put(one.p("log"), "")
    appenders = Appenders(one, place, sync=True)
    appenders.get_on(20)
    before = time.time()
    one.cairn("freeze", "appending")
    after = time.time()
    appenders.get_on(20)
    one.cairn("restore", "appending", "--force")
    codes = appenders.end(how=None)
    check(codes == [10] * APPENDERS, "restored by force: each appender hears ESTALE", codes)
    changed = one.cairn("diff", "appending", "@head").stdout
    wrong = fault(get(one.p("log")), appenders, before, after)
    check(wrong is None and not changed, "and no line of theirs is in the restored log", (wrong, changed))
    again = get(one.p("log"))
    with open(one.p("log"), "a") as log:
        log.write("opened anew\n")
    one.remount()
    check(get(one.p("log")) == again + "opened anew\n", "who opens it anew appends at its end")


# ---- the editor ----

class Editor:
    """vim in a terminal.  The terminal's output is thrown away, but it must be read."""

    def __init__(self, place, *argv):
        self.place, self.marks = place, 0
        self.pid, self.terminal = pty.fork()
        if not self.pid:
            os.environ.update(TERM="xterm", HOME=place)
            os.execvp("vim.tiny", ["vim.tiny", "-u", "NONE", "-i", "NONE", "-N", *argv])
        self.reader = threading.Thread(target=self.drain, daemon=True)
        self.reader.start()

    def drain(self):
        try:
            while os.read(self.terminal, 65536):
                pass
        except OSError:
            pass

    def keys(self, text):
        """Types, and waits until it has been executed: the editor then writes a file outside."""
        self.marks += 1
        mark = os.path.join(self.place, "mark%d-%d" % (self.pid, self.marks))
        command = "\x1b\x1b:silent! 1w! %s\r" % mark
        os.write(self.terminal, (text + command).encode())
        for tries in range(1, 200):
            if os.path.exists(mark):
                return self
            time.sleep(0.05)
            if tries % 10 == 0:
                os.write(self.terminal, ("\r" + command).encode()) # it asked for ENTER, which ate the first
        raise RuntimeError("vim does not answer")

    def save_anyway(self):
        """It asks first, as the file is not the one that it has read, and drops what was typed ahead."""
        os.write(self.terminal, b":w!\r")
        time.sleep(0.5)
        os.write(self.terminal, b"y")
        self.keys("")

    def end(self, how=signal.SIGKILL):
        os.kill(self.pid, how)
        os.waitpid(self.pid, 0)
        os.close(self.terminal)


def editor_refused_and_forced(one, place):
    """The point knows nothing of the editor.  When its swap file is stale, vim makes a new one, by name."""
    put(one.p("doc"), "as frozen\n")
    one.cairn("freeze", "doc")
    vim = Editor(place, one.p("doc")).keys("ofirst change\x1b:w\r").keys("osecond change\x1b:preserve\r")
    done = one.cairn("restore", "doc", ok=False)
    check(done.returncode == 3 and "(pid %d" % vim.pid in done.stderr and ".doc.swp" in done.stderr,
          "restore is refused while the editor has its swap file open, and names it", done.stderr)
    one.cairn("restore", "doc", "--force")
    vim.keys("othird change\x1b:preserve\r")
    one.cairn("sync", ok=False)
    changed = one.cairn("diff", "doc", "@head").stdout
    check(changed in ("", "+ .doc.swp\n") and get(one.p("doc")) == "as frozen\n",
          "restored by force: the document stays as restored while the editor goes on", changed)
    vim.save_anyway()
    wanted = "as frozen\nfirst change\nsecond change\nthird change\n"
    check(get(one.p("doc")) == wanted, "a file saved by its name is saved", get(one.p("doc")))
    vim.end()
    one.remount()
    changed = one.cairn("diff", "doc", "@head").stdout
    check(get(one.p("doc")) == wanted and changed in ("M doc\n", "+ .doc.swp\nM doc\n"), "and that is all that differs", changed)


def editor_recovered(one, place):
    """The point has the swap file of an editor at work: the change that was not saved comes back from it."""
    put(one.p("letter"), "dear\n")
    vim = Editor(place, one.p("letter")).keys("ofrozen with the editor open\x1b:preserve\r")
    one.cairn("freeze", "writing")
    vim.keys("olater\x1b:preserve\r")
    one.cairn("restore", "writing", "--force")
    vim.keys("oeven later\x1b:preserve\r")
    vim.end()
    changed = one.cairn("diff", "writing", "@head").stdout
    check(changed in ("", "+ .letter.swo\n"), "restored by force under the editor: the swap file is the point's", changed)
    if changed:
        os.unlink(one.p(".letter.swo"))
    rescue = Editor(place, "-r", one.p("letter")).keys("") # past what it tells about the recovery
    rescue.keys(":w!\r")
    rescue.end()
    check(get(one.p("letter")) == "dear\nfrozen with the editor open\n", "recovery from it gives what had been typed until the freeze",
          get(one.p("letter")))


def fresh(one):
    """Each part with an empty workspace."""
    for name in os.listdir(one.path):
        os.unlink(one.p(name))


def main():
    need_fuse()
    seed()
    base = workdir()
    one = Workspace(base).mount()
    parts = [log_frozen, log_forced, editor_refused_and_forced, editor_recovered]
    if not shutil.which("vim.tiny"):
        print("SKIP the editor: there is no vim.tiny")
        del parts[2:]
    for number, part in enumerate(parts):
        place = os.path.join(base, "place%d" % number)
        os.mkdir(place)
        part(one, place)
        fresh(one)
    one.umount()
    one.check_store()
    finish()


main()
