"""try and bisect as people use them: on mounted and unmounted stores, by root and by an ordinary user, with signals, and
after kill -9.  Nothing of them stays behind: no workspace, no mount, no directory, no record in the store."""
import atexit
import glob
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time

import harness
import people
from harness import CAIRN, check, finish, run

TIMEOUT = 30


def names(ws):
    return [w["name"] for w in ws.json("workspace", "list")]


def records(ws):
    return glob.glob(os.path.join(ws.store, "rehearsals", "*"))


def private(ws):
    return glob.glob(os.path.join(ws.base, "run", "*"))


def clean(ws, what, workspaces=("main",)):
    """Nothing is left, and the daemon of an unmounted store goes away."""
    mine = [m for m in people.mounts() if m.startswith(os.path.join(ws.base, "run"))]
    left = sorted(set(names(ws)) - set(workspaces)) + records(ws) + private(ws) + mine
    check(not left, "nothing is left: " + what, left)


class start(subprocess.Popen):
    """A cairn in the background.  What does not end in time is killed, with all that it started."""

    def __init__(self, ws, *argv, **more):
        super().__init__([CAIRN, "-s", ws.store, *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         start_new_session=True, **more)

    def __exit__(self, kind, error, trace):
        if kind:
            os.killpg(self.pid, signal.SIGKILL)
        return super().__exit__(kind, error, trace)


def until(what, ready, seconds=TIMEOUT):
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise RuntimeError("%s: not within %d seconds" % (what, seconds))
        time.sleep(0.01)


def put(ws, name, text):
    with open(os.path.join(ws.path, name), "w") as out:
        out.write(text)


def get(ws, name):
    with open(os.path.join(ws.path, name)) as data:
        return data.read()


# ---- try ----

def everyday(ws, state):
    """`state`: mounted or unmounted."""
    point = "p1"
    script = "pwd; cat a; echo; test ! -e late && echo early; echo new >b; rm a; echo $CAIRN_POINT/$CAIRN_WORKSPACE; stat -c %a ..; exit 7"
    done = ws.cairn("try", point, "--", "sh", "-c", script, ok=False, input="")
    lines = done.stdout.split("\n")
    check(done.returncode == 7, state + ": the exit status of CMD is that of try", done)
    check(lines[0].startswith(os.path.join(ws.base, "run", "cairn-try-")), "it runs in a private directory under $XDG_RUNTIME_DIR", lines)
    check(lines[1:3] == ["one", "early"], "which is as the point was", lines)
    check(lines[3].startswith("p1/try-") and lines[4] == "700", "it is told which, and nobody else gets in", lines)
    check("exit status 7 after " in done.stderr and "1 added, 1 removed" in done.stderr and "- a\n+ b\n" in done.stderr
          and "dropped" in done.stderr, "status, time and changes are told on stderr", done.stderr)
    clean(ws, state)

    done = ws.cairn("try", "--", "sh", "-c", "cat a late; cat", input="from stdin")
    check(done.stdout == "two2from stdin", "without a point it is the present state; stdin is CMD's", done)
    check("it changed nothing" in done.stderr, "a look changes nothing", done.stderr)
    check(ws.cairn("-q", "try", "--", "true").stderr == "", "-q: no word")
    done = ws.cairn("try", point, "--", "sh", "-c", 'echo "$#" "$1" "$2"', "sh", "--", "-x y")
    check(done.stdout == "2 -- -x y\n", "what follows the first '--' is CMD's, as it is", done)
    done = ws.cairn("try", point, "--", "sh", "-c", "%s diff $CAIRN_POINT; touch x; %s diff $CAIRN_POINT" % (CAIRN, CAIRN))
    check(done.stdout == "+ x\n", "in it, cairn diff $CAIRN_POINT tells what it has changed", done)
    clean(ws, state)


def statuses(ws):
    for words, status in ((["nosuch-command"], 127), (["./a"], 126), (["sh", "-c", "kill -KILL $$"], 137), (["sh", "-c", "exit 200"], 200)):
        done = ws.cairn("try", "p1", "--", *words, ok=False)
        check(done.returncode == status, "exit status %d, as a shell has it: %s" % (status, words[0]), done)
    for words, status in ((["try"], 2), (["try", "p1"], 2), (["try", "p1", "p2", "--", "true"], 2), (["try", "nosuch", "--", "true"], 6)):
        done = ws.cairn(*words, ok=False)
        check(done.returncode == status and done.stdout == "", "refused with %d: %s" % (status, " ".join(words)), done)
    done = run(CAIRN, "-s", os.path.join(ws.base, "nowhere"), "try", "--", "true", ok=False)
    check(done.returncode == 6 and not os.path.exists(os.path.join(ws.base, "nowhere")), "no store: 6, and none is made", done)
    clean(ws, "refusals")


def steps_and_json(ws):
    script = "{0} step extract; sleep 0.1; {0} step 'load it'; echo talk; echo x >big; exit 4".format(CAIRN)
    done = ws.cairn("--json", "try", "p1", "--", "sh", "-c", script, ok=False)
    result = json.loads(done.stdout)
    check(done.returncode == 4 and "talk" in done.stderr, "--json: stdout is the result alone", done)
    check([s["name"] for s in result["steps"]] == ["extract", "load it"], "the steps are listed", result["steps"])
    check(result["steps"][0]["elapsed_ns"] >= 10 ** 8 and result["steps"][1]["exit_status"] == 4
          and sum(s["elapsed_ns"] for s in result["steps"]) <= result["elapsed_ns"], "with their times and status", result)
    check(result["exit_status"] == 4 and result["signal"] is None and result["workspace"] is None and result["after"] is None
          and result["point"]["name"] == "p1" and result["command"].startswith("sh -c "), "and what was run", result)
    check(result["changed"]["added"] == 1 and [c["path"] for c in result["changes"]] == ["big"], "and changed", result)
    done = ws.cairn("--json", "try", "nosuch", "--", "true", ok=False)
    check(json.loads(done.stdout)["error"]["code"] == "not_found", "--json: errors too")
    check(run(CAIRN, "step", "x").returncode == 0, "step outside of a try does nothing")
    check(run(CAIRN, "step", "two\nlines", ok=False).returncode == 2, "a step's name is one line")
    clean(ws, "--json")


def keeping(ws):
    script = "{0} step load; echo 1 >kept".format(CAIRN)
    done = ws.cairn("try", "p1", "--keep=rehearsal", "--", "sh", "-c", script)
    check("rehearsal" in names(ws) and "workspace rehearsal, point after-try" in done.stderr, "--keep=NAME keeps the clone as that", done)
    shown = json.loads(ws.cairn("--json", "-w", "rehearsal", "show", "after-try").stdout)
    check(shown["run"]["exit_status"] == 0 and shown["run"]["command"].startswith("sh -c") and shown["steps"][0]["name"] == "load",
          "show of its point tells command, times and steps", shown)
    check(ws.cairn("-w", "rehearsal", "diff", "p1", "after-try").stdout == "+ kept\n", "its first point is what it was a clone of")
    done = ws.cairn("try", "p1", "--keep=rehearsal", "--", "true", ok=False)
    check(done.returncode == 1 and "exists" in done.stderr, "a name that is taken is refused before CMD runs", done)
    result = json.loads(ws.cairn("--json", "try", "-k", "--", "false", ok=False).stdout)
    kept = result["workspace"]
    check(kept.startswith("try-") and kept in names(ws) and result["after"]["name"] == "after-try", "-k: under a name of its own, also where CMD failed", result)
    check(not records(ws) and not private(ws), "nothing else is left")
    check(get_default(ws) == "main", "and main is still meant where no workspace is named")
    ws.cairn("try", "--", "true")
    check(kept in names(ws), "the next try leaves it alone")
    for name in ("rehearsal", kept):
        ws.cairn("workspace", "delete", name)
    clean(ws, "--keep")


def get_default(ws):
    return ws.json("show", "p1")["workspace"]


def only_workspace(base):
    """A store with one workspace that is not called main: a rehearsal does not make it two."""
    ws = harness.Workspace(base, "only")
    ws.cairn("workspace", "rename", "main", "sole")
    done = ws.cairn("try", "--", CAIRN, "-s", ws.store, "freeze", "now")
    check("froze now" in done.stdout, "the only workspace stays the one that is meant", done)


def clone_of_the_present(ws):
    """clone @head: what was written to a mount until now, and then each goes its own way."""
    put(ws, "a", "three")
    ws.cairn("clone", "@head", "copy")
    put(ws, "a", "two")
    check(ws.cairn("cat", "copy@head", "a").stdout == "three", "clone @head has what was written before")
    check(ws.json("diff", "copy@head", "@head") and get(ws, "a") == "two", "and the workspace goes on")
    ws.cairn("workspace", "delete", "copy")


# ---- signals ----

def signals(ws, state):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        flag = os.path.join(ws.base, "flag")
        with start(ws, "try", "p1", "--", "sh", "-c", "trap 'echo caught; exit 9' INT TERM HUP QUIT; touch %s; while :; do sleep 0.05; done" % flag) as child:
            until("CMD runs", lambda: os.path.exists(flag))
            child.send_signal(number)
            out, err = child.communicate(timeout=TIMEOUT)
        os.unlink(flag)
        check(out == "caught\n" and child.returncode == 9, "%s: %s is handed on, and CMD decides" % (state, number.name), (out, err, child.returncode))
        clean(ws, number.name)
    with start(ws, "try", "p1", "--", "sleep", "60") as child:
        until("CMD runs", lambda: private(ws) and any(m.startswith(os.path.join(ws.base, "run")) for m in people.mounts()))
        child.send_signal(signal.SIGTERM)
        out, err = child.communicate(timeout=TIMEOUT)
    check(child.returncode == 143, "CMD that dies of it: 128 + signal", (child.returncode, err))
    clean(ws, "CMD died of a signal")


def control_c(ws):
    """The terminal sends it to the whole group: CMD must get it once, not twice."""
    flag = os.path.join(ws.base, "flag")
    script = """import os, signal, time
reading, writing = os.pipe()
os.set_blocking(writing, False)
signal.set_wakeup_fd(writing)
signal.signal(signal.SIGINT, lambda *_: None)
open("%s", "w").close()
time.sleep(1)
with open("%s.new", "w") as out:
    out.write("%%d" %% len(os.read(reading, 100)))
os.rename("%s.new", "%s.count")
""" % (flag, flag, flag, flag)
    child, terminal = pty.fork()
    if not child:
        os.execv(CAIRN, [CAIRN, "-s", ws.store, "try", "p1", "--", sys.executable, "-c", script])
    until("CMD runs", lambda: os.path.exists(flag))
    os.write(terminal, b"\x03")
    until("CMD ends", lambda: os.path.exists(flag + ".count"))
    output = b""
    try:
        while chunk := os.read(terminal, 4096):
            output += chunk
    except OSError:  # EIO: the other end is closed
        pass
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(terminal)
    with open(flag + ".count") as text:
        check(text.read() == "1" and status == 0 and b"exit status 0 after" in output, "Ctrl-C reaches CMD once", (status, output))
    os.unlink(flag)
    os.unlink(flag + ".count")
    clean(ws, "Ctrl-C")


def pipe_closed(ws):
    done = run("sh", "-c", '"$0" -s "$1" try p1 -- yes | head -n 1', CAIRN, ws.store)
    check(done.stdout == "y\n" and "signal 13" in done.stderr, "who reads CMD's output may go away", done)
    clean(ws, "a closed pipe")


def early_signals(ws):
    """While it is still making the clone, at any moment."""
    codes = set()
    for delay in range(0, 60, 4):
        with start(ws, "--json", "try", "p1", "--", "sleep", "20") as child:
            time.sleep(delay / 1000)
            child.send_signal(signal.SIGINT)
            _, err = child.communicate(timeout=TIMEOUT)
        codes.add(child.returncode)
    # Before the handlers are there it just dies.
    check(codes <= {130, -signal.SIGINT}, "a signal at any moment ends it", (codes, err))
    clean(ws, "early signals")


def killed(ws, state, daemon=None):
    flag = os.path.join(ws.base, "flag")
    with start(ws, "try", "p1", "--", "sh", "-c", "(exec sleep 300) & echo $! >%s.new; touch x; mv %s.new %s; wait" % (flag, flag, flag)) as child:
        until("CMD runs", lambda: os.path.exists(flag))
        with open(flag) as text:
            sleeper = int(text.read())
        os.unlink(flag)
        if daemon:
            os.kill(ws.json("status")["daemon_pid"], signal.SIGKILL)
        child.kill()
    # Its standard output is still the sleep's: it is not read to the end.
    left = records(ws)
    check(len(left) == 1 and len(private(ws)) == 1, state + ": kill -9 leaves its things behind", left)
    done = ws.cairn("try", "--", "true")
    check("took away" in done.stderr and os.path.basename(left[0]) in done.stderr, "the next one takes them away", done)
    os.kill(sleeper, signal.SIGKILL)
    clean(ws, "kill -9, " + state)


def restarted(ws):
    """The machine went down during a try: what was mounted is gone, and so is the runtime directory."""
    flag = os.path.join(ws.base, "flag")
    with start(ws, "try", "p1", "--", "sh", "-c", "touch %s; read x" % flag, stdin=subprocess.PIPE) as child:
        until("CMD runs", lambda: os.path.exists(flag))
        os.unlink(flag)
        mountpoint = private(ws)[0] + "/work"
        child.kill()
    run(CAIRN, "umount", "--lazy", mountpoint)
    shutil.rmtree(os.path.join(ws.base, "run"))
    os.mkdir(os.path.join(ws.base, "run"))
    check(len(names(ws)) == 2 and len(records(ws)) == 1, "after a restart its clone is still there")
    ws.cairn("try", "--", "true")
    clean(ws, "a restart")


def held(ws):
    """Somebody protects a point of the clone while the try runs: it stays, and why is told."""
    done = ws.cairn("try", "p1", "--", CAIRN, "-s", ws.store, "hold", "p1", "audit of this", ok=False)
    check("cannot delete the workspace try-" in done.stderr and "audit of this" in done.stderr, "a held point is told", done)
    name = [n for n in names(ws) if n.startswith("try-")][0]
    ws.cairn("-w", name, "release", "p1")
    ws.cairn("try", "--", "true")
    clean(ws, "a hold")


def alive_is_left_alone(ws):
    flag = os.path.join(ws.base, "flag")
    with start(ws, "try", "p1", "--", "sh", "-c", "touch %s; read x; cat a" % flag, stdin=subprocess.PIPE) as child:
        until("CMD runs", lambda: os.path.exists(flag))
        os.unlink(flag)
        ws.cairn("try", "--", "true")
        out, err = child.communicate("go\n", timeout=TIMEOUT)
    check(out == "one" and child.returncode == 0, "one that runs is not disturbed by the next", (out, err))
    clean(ws, "two at a time")


def daemon_dies(ws):
    """The daemon is killed under a running try."""
    flag = os.path.join(ws.base, "flag")
    with start(ws, "try", "p1", "--", "sh", "-c", "touch %s; read x; exit 0" % flag, stdin=subprocess.PIPE) as child:
        until("CMD runs", lambda: os.path.exists(flag))
        os.unlink(flag)
        os.kill(ws.json("status")["daemon_pid"], signal.SIGKILL)
        _, err = child.communicate("go\n", timeout=TIMEOUT)
    check("cannot tell what changed" in err, "a daemon that was killed is told", err)
    clean(ws, "the daemon was killed")


def left_in_background(ws):
    done = ws.cairn("try", "p1", "--", "sh", "-c", "(exec sleep 60 >/dev/null 2>&1) & echo $!")
    os.kill(int(done.stdout), signal.SIGKILL)
    check("cut off" in done.stderr, "what CMD left running there is cut off", done)
    clean(ws, "processes in the background")


# ---- bisect ----

def make_line(ws, count):
    """b001 … with `n` counting; the first bad is wherever the test says."""
    for i in range(1, count + 1):
        put(ws, "n", "%d\n" % i)
        ws.cairn("-q", "freeze", "b%03d" % i)


def hunt(ws, count, first_bad, *options):
    done = ws.cairn("--json", "bisect", "--good", "b001", "--bad", "b%03d" % count, *options, "--",
                    "sh", "-c", "test $(cat n) -lt %d" % first_bad)
    return json.loads(done.stdout), done


def bisecting(ws, state, count, pick):
    limit = (count - 2).bit_length()
    for first_bad in [2, 3, count - 1, count] + pick:
        result, done = hunt(ws, count, first_bad)
        if result["first_bad"]["name"] != "b%03d" % first_bad or len(result["runs"]) > limit:
            break
    check(result["first_bad"]["name"] == "b%03d" % first_bad and result["parent"]["name"] == "b%03d" % (first_bad - 1),
          "%s: bisect finds the first bad point" % state, (first_bad, done))
    check(len(result["runs"]) <= limit, "in at most %d runs" % limit, result["runs"])
    check([c["path"] for c in result["changes"]] == ["n"] and result["changed"]["modified"] == 1, "and tells the change", result["changes"])
    result, done = hunt(ws, count, 5, "--writable")
    check(result["first_bad"]["name"] == "b005", "--writable finds it too", done)
    done = ws.cairn("bisect", "--good", "b001", "--bad", "b009", "--", "sh", "-c", "touch x 2>/dev/null && exit 125; echo $CAIRN_POINT $CAIRN_WORKSPACE; test $(cat n) -lt 5")
    check("first bad point: b005\n" in done.stdout and "last good point: b004\n" in done.stdout and "\nM n\n" in done.stdout,
          "the result for people; the view is read-only", done)
    check("7 points left, about 3 steps: looking at b005" in done.stderr and "b005 is bad (exit status 1" in done.stderr
          and "b005 main\n" in done.stderr, "each step, what is left, and CMD's output on stderr", done.stderr)
    clean(ws, "bisect, " + state)


def bisect_own_time(ws, count):
    times = []
    for _ in range(3):
        started = time.monotonic()
        result, _ = hunt(ws, count, count // 3)
        times.append((time.monotonic() - started - sum(r["elapsed_ns"] for r in result["runs"]) / 1e9) / len(result["runs"]))
    # The figure is 50 ms; this machine may be busy.
    with open(CAIRN, "rb") as program:
        slow = b"__asan_init" in program.read()
    check(min(times) < (0.5 if slow else 0.05), "own time a step: %.1f ms" % (min(times) * 1000), times)


def bisect_refusals(ws):
    def refused(status, word, *argv):
        done = ws.cairn("bisect", *argv, ok=False)
        check(done.returncode == status and word in done.stderr, "refused with %d: %s" % (status, " ".join(argv)), done)
    refused(2, "--bad", "--good", "b001", "--", "true")
    refused(2, "command is missing", "--good", "b001", "--bad", "b002")
    refused(2, "both", "--good", "b001", "--bad", "b001", "--", "true")
    refused(2, "freeze NAME", "--good", "b001", "--bad", "@head", "--", "true")
    refused(6, "no point", "--good", "b001", "--bad", "nosuch", "--", "true")
    refused(1, "came after", "--good", "b009", "--bad", "b003", "--", "true")
    refused(1, "cannot be run", "--good", "b001", "--bad", "b009", "--", "./nosuch")
    refused(1, "neither good nor bad", "--good", "b001", "--bad", "b009", "--", "sh", "-c", "kill -9 $$")
    refused(1, "not good", "--good", "b001", "--bad", "b009", "--check-ends", "--", "false")
    refused(1, "not bad", "--good", "b001", "--bad", "b009", "--check-ends", "--", "true")
    ws.cairn("clone", "b004", "side")
    ws.cairn("-w", "side", "freeze", "s1")
    refused(1, "--good main@b004", "-w", "side", "--good", "main@b009", "--bad", "s1", "--", "true")
    done = ws.cairn("-w", "side", "bisect", "--good", "main@b002", "--bad", "s1", "--", "sh", "-c", "test $(cat n) -lt 4")
    check("first bad point: b004" in done.stdout, "along the parents into another workspace", done)
    ws.cairn("workspace", "delete", "side")


def bisect_skips(ws):
    script = "n=$(cat n); test $n -lt 4 && exit 0; test $n -gt 6 && exit 3; exit 125"
    done = ws.cairn("bisect", "--good", "b001", "--bad", "b009", "--", "sh", "-c", script, ok=False)
    check(done.returncode == 1 and "b004 (skipped)\n  b005 (skipped)\n  b006 (skipped)\n  b007 (bad)" in done.stdout,
          "skipped points that hide it are listed", done)
    done = ws.cairn("--json", "bisect", "--good", "b001", "--bad", "b009", "--", "sh", "-c", script, ok=False)
    check(json.loads(done.stdout)["error"]["detail"]["candidates"] == ["b004", "b005", "b006", "b007"], "--json: too", done)
    done = ws.cairn("bisect", "--good", "b001", "--bad", "b009", "--", "sh", "-c", "n=$(cat n); test $n = 5 && exit 125; test $n -lt 7")
    check("first bad point: b007" in done.stdout and "b005 is skipped" in done.stderr, "skipped points elsewhere do no harm", done)


def bisect_signals(ws, state):
    for options in ([], ["--writable"]):
        flag = os.path.join(ws.base, "flag")
        script = "test $(cat n) = 5 && exit 1; touch %s; exec sleep 60" % flag
        with start(ws, "bisect", "--good", "b001", "--bad", "b009", *options, "--", "sh", "-c", script) as child:
            until("the second CMD runs", lambda: os.path.exists(flag))
            os.unlink(flag)
            child.send_signal(signal.SIGINT)
            _, err = child.communicate(timeout=TIMEOUT)
        check(child.returncode == 130 and "bisect --good b001 --bad b005 " in err, "%s: stopped, it says how to go on" % state, (child.returncode, err))
        clean(ws, "bisect was stopped")
        with start(ws, "bisect", "--good", "b001", "--bad", "b009", *options, "--", "sh", "-c", script) as child:
            until("CMD runs", lambda: os.path.exists(flag))
            os.unlink(flag)
            child.kill()
        ws.cairn("bisect", "--good", "b001", "--bad", "b002", "--", "true")
        clean(ws, "bisect was killed")


# ---- an ordinary user ----

def ordinary_user(base, ann):
    store, path = os.path.join(ann.home, "store"), os.path.join(ann.home, "mnt")
    runtime = os.path.join(ann.home, "run")
    env = {"CAIRN_STORE": store, "XDG_RUNTIME_DIR": runtime}

    def cairn(*argv, **more):
        return ann.run(harness.CAIRN, *argv, env=env, **more)
    ann.run("mkdir", path, runtime, ok=True)
    cairn("init", store, ok=True)
    for state in ("unmounted", "mounted"):
        if state == "mounted":
            cairn("mount", path, ok=True)
        cairn("freeze", "a-" + state, ok=True)
        done = cairn("try", "--", "sh", "-c", "id -u; echo x >x; stat -c %u x; exit 5")
        check(done.returncode == 5 and done.stdout == "%d\n%d\n" % (ann.uid, ann.uid), "an ordinary user tries, " + state, done)
        cairn("freeze", "b-" + state, ok=True)
        done = cairn("bisect", "--good", "a-" + state, "--bad", "b-" + state, "--check-ends", "--", "sh", "-c", "case $CAIRN_POINT in b*) exit 1;; esac")
        check("first bad point: b-" + state in done.stdout, "and bisects", done)
        left = os.listdir(runtime) + os.listdir(os.path.join(store, "rehearsals"))
        left += [w for w in cairn("workspace", "list", "-H").stdout.split() if w.startswith("try-")]
        check(not left, "and leaves nothing", left)
    cairn("umount", path, ok=True)


def unmount_private(ws):
    """Where the test itself failed half-way."""
    for mountpoint in people.mounts():
        if mountpoint.startswith(os.path.join(ws.base, "run")):
            subprocess.run(["umount", "-l", mountpoint], stderr=subprocess.DEVNULL, check=False)


def main():
    people.need_mount()
    base, program, world = people.machine(["ann"])
    global CAIRN
    CAIRN = program
    ws = harness.Workspace(base)
    os.mkdir(os.path.join(base, "run"))
    os.environ["XDG_RUNTIME_DIR"] = os.path.join(base, "run")
    atexit.register(unmount_private, ws)
    ws.mount()
    put(ws, "a", "one")
    ws.cairn("freeze", "p1")
    put(ws, "a", "two")
    put(ws, "late", "2")
    everyday(ws, "mounted")
    check((get(ws, "a"), get(ws, "late")) == ("two", "2"), "the workspace itself is never touched")
    statuses(ws)
    steps_and_json(ws)
    keeping(ws)
    clone_of_the_present(ws)
    signals(ws, "mounted")
    killed(ws, "mounted")
    control_c(ws)
    pipe_closed(ws)
    held(ws)
    alive_is_left_alone(ws)
    left_in_background(ws)
    make_line(ws, 40)
    bisecting(ws, "mounted", 40, [17, 20, 33])
    bisect_own_time(ws, 40)
    bisect_refusals(ws)
    bisect_skips(ws)
    bisect_signals(ws, "mounted")
    ws.umount()
    ws.cairn("restore", "p1")
    ws.mount()
    put(ws, "a", "two")
    put(ws, "late", "2")
    ws.umount()
    for test in (everyday, signals, killed, bisect_signals):
        test(ws, "unmounted")
    bisecting(ws, "unmounted", 40, [8])
    bisect_own_time(ws, 40)
    early_signals(ws)
    daemon_dies(ws)
    restarted(ws)
    killed(ws, "unmounted, and its daemon too", daemon=True)
    ws.cairn("check", "--read-data")
    only_workspace(base)
    ordinary_user(base, world["ann"])
    finish()


main()
