#!/usr/bin/env python3
"""log --graph tells the truth: seeded random histories (freezes, restores, clones, carries, deleted and
renamed points) are drawn, the picture is parsed back and compared with what log --json says.

Each point is drawn once, every line leads to the parent, the head and the kept points are marked, the
picture stays narrow, and a thousand points are drawn fast.
"""
import json
import os
import random
import re
import socket
import subprocess
import time

from harness import CAIRN, Workspace, check, finish, need_fuse, seed, workdir

MARKS = {"utf8": ("●", "○", "│ ", "├─╯"), "ascii": ("*", "o", "| ", "|/")}


def ask(ws, **request):
    """A request straight to the daemon: fast enough for long histories."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(60)
        link.connect(os.path.join(ws.store, "control.sock"))
        link.sendall(json.dumps(request).encode() + b"\n")
        answer = b""
        while part := link.recv(1 << 20):
            answer += part
    return json.loads(answer.decode().strip().split("\n")[-1])


class History:
    def __init__(self, ws, rng):
        self.ws, self.rng, self.number, self.clones = ws, rng, 0, 0

    def points(self, workspace="main"):
        return ask(self.ws, op="log", workspace=workspace)["ok"]

    def step(self, names):
        """One random thing; `names` are points of main that are likely still there."""
        self.number += 1
        what = self.rng.random()
        with open(self.ws.p("f%d" % self.rng.randrange(5)), "w") as file:
            file.write("%d" % self.number)
        if what < 0.62 or len(names) < 3:
            name = "p%d" % self.number
            ask(self.ws, op="freeze", workspace="main", name=name)
            names.append(name)
        elif what < 0.86:
            # often far back, and often to the same one: many branches at one point
            name = names[int(self.rng.random() ** 2 * len(names))]
            result = ask(self.ws, op="restore", workspace="main", point=name)
            if "ok" in result and result["ok"]["safety_made"]:
                names.append(result["ok"]["safety_point"]["name"])
        elif what < 0.90:
            ask(self.ws, op="delete", workspace="main", points=[names.pop(self.rng.randrange(len(names)))])
        elif what < 0.94:
            name, new = self.rng.choice(names), "renamed %d" % self.number
            if "ok" in ask(self.ws, op="rename", workspace="main", point=name, new_name=new):
                names[names.index(name)] = new
        elif what < 0.97:
            self.clones += 1
            clone = "clone-%d" % self.clones
            if "ok" in ask(self.ws, op="clone", workspace="main", point=self.rng.choice(names), name=clone):
                for i in range(self.rng.randrange(3)):
                    ask(self.ws, op="freeze", workspace=clone, name="c%d" % i)
        else:
            # "carry" keeps the head as a point; what it brings does not matter here
            result = ask(self.ws, op="carry", workspace="main", **{"from": self.rng.choice(names), "on_conflict": "take"})
            if "ok" in result and result["ok"].get("safety_made"):
                kept = result["ok"]["safety_point"]
                names.append(kept["name"] if isinstance(kept, dict) else kept)


def parse(picture, marks):
    """(parents by name, text behind each name, deepest column) of a picture; AssertionError where it
    makes no sense.  Names end at two spaces."""
    made, kept, line, join = marks
    parents, texts, waiting, deepest = {}, {}, {}, 0
    joined = {}
    for row in picture.split("\n"):
        if not row:
            assert set(waiting) <= {0} and not joined, "a tree ends with loose ends"
            waiting = {}
            continue
        column = 0
        while row.startswith(line):
            row, column = row[len(line):], column + 1
        deepest = max(deepest, column)
        assert all(c in waiting for c in range(column)), "a line without a point above: " + row
        if row == join:
            joined.setdefault(column, []).append(waiting.pop(column + 1))
            assert column in waiting, "joins a line that is not there"
            continue
        assert row[:2] in (made + " ", kept + " "), "neither line nor point: " + row
        name, _, text = row[2:].partition("  ")
        assert name not in parents, "drawn twice: " + name
        assert not any(c > column for c in waiting), "a branch was left hanging above " + name
        for child in joined.pop(column, []) + ([waiting[column]] if column in waiting else []):
            parents[child] = name
        waiting[column], parents[name], texts[name] = name, None, (row[0], text)
    assert set(waiting) <= {0} and not joined, "the picture ends with loose ends"
    return parents, texts, deepest


def draw(ws, style, *options):
    env = dict(os.environ, LC_ALL="C.UTF-8" if style == "utf8" else "C", NO_COLOR="1")
    start = time.monotonic()
    done = subprocess.run([CAIRN, "-s", ws.store, "-w", "main", "log", "--graph", *options],
                          env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode(), time.monotonic() - start


def compare(ws, points, style, what, *options, drawn=None):
    """Does the picture say what log --json says?  `drawn`: names that are in it (None: all)."""
    picture, seconds = draw(ws, style, *options)
    by_id = {p["id"]: p for p in points}
    drawn = {p["name"] for p in points} if drawn is None else drawn
    expected = {}
    for point in points:
        at = by_id.get(point["parent_id"])
        while at and at["name"] not in drawn:
            at = by_id.get(at["parent_id"])
        if point["name"] in drawn:
            expected[point["name"]] = at and at["name"]
    try:
        parents, texts, deepest = parse(picture, MARKS[style])
    except (AssertionError, KeyError) as error:
        check(False, "%s: the picture can be read" % what, "%s\n%s" % (error, picture))
        return None
    check(set(parents) == set(expected), "%s: every point once" % what, set(parents) ^ set(expected))
    wrong = [(n, parents.get(n), p) for n, p in expected.items() if parents.get(n) != p]
    check(not wrong, "%s: every line leads to the parent" % what, wrong[:5])
    made, kept = MARKS[style][:2]
    wrong = [p["name"] for p in points if p["name"] in texts and
             texts[p["name"]][0] != (kept if p["origin"] == "safety" else made)]
    check(not wrong, "%s: kept points are marked" % what, wrong)
    wrong = []
    for point in points:
        told = re.search(r"(?:⇠|<~) carried (.*?)(?:  |$)", texts.get(point["name"], ("", ""))[1])
        names = [by_id[i]["name"] if i in by_id else "a deleted point" for i in point["carried_ids"]]
        if point["name"] in drawn and (told[1].split(", ") if told else []) != names:
            wrong.append((point["name"], names, told and told[1]))
    check(not wrong, "%s: what was carried into which point" % what, wrong[:5])
    here = [n for n, (_, text) in texts.items() if "you are here" in text or "<- HEAD" in text]
    check(here == [p["name"] for p in points if p["current"] and p["name"] in drawn], "%s: where the head is" % what, here)
    limit = max(1, len(expected)).bit_length() + 1
    check(deepest <= limit, "%s: %d columns beside, for %d points" % (what, deepest, len(expected)), limit)
    return texts, seconds, picture


def random_history(ws, rng, steps, what):
    history, names = History(ws, rng), []
    for _ in range(steps):
        history.step(names)
    points = history.points()
    for style in MARKS:
        compare(ws, points, style, "%s, %s" % (what, style))
    for verdict in ("working", "broken"):
        chosen = rng.choice(points)
        ask(ws, op="verdict", workspace="main", point=chosen["name"], verdict=verdict)
        result = compare(ws, history.points(), "ascii", "%s, only %s" % (what, verdict), "--verdict", verdict,
                         drawn={p["name"] for p in history.points() if p["verdict"] == verdict})
        check(result and verdict in result[0][chosen["name"]][1], "%s: says %s" % (what, verdict))
    some = points[-max(1, len(points) // 3):]
    compare(ws, history.points(), "utf8", "%s, the newest third" % what, "--last", str(len(some)),
            drawn={p["name"] for p in some})
    clones(ws, history, what)


def clones(ws, history, what):
    """Each workspace that began at a point of main is told there, once."""
    points = history.points()
    picture, _ = draw(ws, "ascii")
    told = [name for names in re.findall(r"=> workspace ((?:clone-\d+(?:, )?)+)", picture) for name in
            names.split(", ") if name]
    ids = {p["id"] for p in points}
    expected = []
    for workspace in ask(ws, op="workspace_list")["ok"]:
        if workspace["name"] == "main":
            continue
        own = {p["id"]: p for p in history.points(workspace["name"])}
        at = workspace["base_id"]
        while at in own:
            at = own[at]["parent_id"]
        if at in ids:
            expected.append(workspace["name"])
    check(sorted(told) == sorted(expected), "%s: clones are told where they began" % what, (told, expected))


def main():
    need_fuse()
    rng = random.Random(seed())
    base = workdir()
    for i, steps in enumerate((3, 30, 120)):
        with_store = Workspace(base, "history-%d" % i)
        with_store.mount()
        random_history(with_store, rng, steps, "%d steps" % steps)
        with_store.umount()
    large = Workspace(base, "large")
    large.mount()
    history, names = History(large, rng), []
    while len(names) < 1000:
        history.step(names)
    points = history.points()
    check(any(p["carried_ids"] for p in points), "something was carried in a thousand points")
    listed = time.monotonic()
    subprocess.run([CAIRN, "-s", large.store, "-w", "main", "-H", "log"], stdout=subprocess.DEVNULL, check=True)
    listed = time.monotonic() - listed
    result = compare(large, points, "utf8", "a thousand points")
    if result:
        seconds = min(result[1], draw(large, "utf8")[1], draw(large, "utf8")[1])
        check(seconds < listed + 0.5, "drawing a thousand points takes little more than listing them",
              "%.3f s, %.3f s" % (seconds, listed))
        print("# %d points drawn in %.0f ms (listed in %.0f ms)" % (len(points), seconds * 1e3, listed * 1e3))
    large.umount()
    finish()


main()
