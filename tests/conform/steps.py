"""The interpreter of the tables: a case is a line of steps, a step is a verb and its words.

    [rename]
    over an empty directory: mkdir a 755; mkdir b 755; rename a b; is b type=dir; is a gone
    over a full directory:   mkdir a 755; mkdir b 755; create b/c 644;
                             rename a b !ENOTEMPTY|EEXIST

A section names the group.  Lines that begin with blanks continue the case, `#` starts a comment.  A step
must succeed, or fail as `!ERRNO` at its end says.  Words may be quoted ('' is the empty word); `{N}` in a
word is a name of N bytes, `{pathN}` a path of N bytes whose short components lead to the current directory's `f`
or `ff`.  `<a|b>` in a name makes a case of each: `<>` in its steps stands for the one, and where there are two
such lists, `<1>` and `<2>` do.  The verbs are the functions below, one each, with their words as parameters.
"""
import errno
import itertools
import os
import re
import shlex
import stat
import subprocess
import time

import calls
from conform import Case, Failure, become, become_root, error_name, short, tick

TYPES = {"file": stat.S_IFREG, "dir": stat.S_IFDIR, "link": stat.S_IFLNK, "fifo": stat.S_IFIFO,
         "sock": stat.S_IFSOCK, "chr": stat.S_IFCHR, "blk": stat.S_IFBLK}
DEVICES = {"chr": os.makedev(1, 3), "blk": os.makedev(240, 199)}
RENAMES = {"noreplace": calls.RENAME_NOREPLACE, "exchange": calls.RENAME_EXCHANGE,
           "whiteout": calls.RENAME_WHITEOUT}
XATTR_FLAGS = {"create": calls.XATTR_CREATE, "replace": calls.XATTR_REPLACE}
TIMES = ("atime", "mtime", "ctime")

_kept = {}
_held = []


# Steps that change the process.

def step_as(who):
    """as UID[:GID[:G,G…]] or as root"""
    if who == "root":
        become_root()
        return
    parts = who.split(":")
    groups = [int(group) for group in parts[2].split(",")] if len(parts) > 2 else []
    become(int(parts[0]), int(parts[1]) if len(parts) > 1 else int(parts[0]), groups)


def step_umask(mode):
    os.umask(int(mode, 8))


def step_cd(path):
    os.chdir(path)


step_chdir = step_cd


def step_sleep(seconds):
    time.sleep(float(seconds))


# Steps that make, name and remove.

def step_mkdir(path, mode="755"):
    calls.mkdir(path, int(mode, 8))


def step_rmdir(path):
    os.rmdir(path)


def step_create(path, mode="644"):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, int(mode, 8)))


def step_mkfile(path, size):
    """mkfile PATH SIZE: a file of that many bytes, none of them zero"""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    left = int(size)
    while left:
        left -= os.write(fd, b"cairn!\n." * (min(left, 65536) // 8 or 1) if left >= 8 else b"x" * left)
    os.close(fd)


def step_write(path, text):
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, os.fsencode(text))
    finally:
        os.close(fd)


def flags_of(words):
    flags = 0
    for word in words.lower().split(","):
        flags |= getattr(os, "O_" + word.removeprefix("o_").upper())
    return flags


def step_open(path, flags="rdonly", mode="644"):
    """open PATH FLAG[,FLAG…] [MODE]: the names of O_… in small letters; it is closed again"""
    os.close(os.open(path, flags_of(flags), int(mode, 8)))


def step_hold(path, flags="rdonly", mode="644"):
    """like open, and stays open until the end of the case"""
    _held.append(os.open(path, flags_of(flags), int(mode, 8)))


def step_symlink(target, path):
    os.symlink(target, path)


def step_link(old, new):
    calls.link(old, new)


def step_linkfollow(old, new):
    calls.link(old, new, calls.AT_SYMLINK_FOLLOW)


def step_mknod(path, kind, mode="644"):
    calls.mknod(path, TYPES[kind] | int(mode, 8), DEVICES.get(kind, 0))


def step_unlink(path):
    os.unlink(path)


def step_make(path, kind, mode="644"):
    """make PATH KIND [MODE]: a file of any type; also `hard` and `moved`: `origin` linked or renamed to PATH"""
    if kind == "file":
        step_create(path, mode)
    elif kind == "dir":
        calls.mkdir(path, int(mode, 8))
    elif kind == "link":
        os.symlink("nowhere", path)
    elif kind == "hard":
        calls.link("origin", path)
    elif kind == "moved":
        calls.rename("origin", path)
    else:
        step_mknod(path, kind, mode)


def step_remove(path):
    """unlink, or rmdir where it is a directory"""
    if stat.S_ISDIR(os.lstat(path).st_mode):
        os.rmdir(path)
    else:
        os.unlink(path)


def step_rename(old, new):
    calls.rename(old, new)


def step_rename2(how, old, new):
    """rename2 noreplace|exchange|whiteout[,…] OLD NEW"""
    flags = 0
    for word in how.split(","):
        flags |= RENAMES[word]
    calls.renameat2(old, new, flags)


# Steps that change attributes.

def step_chmod(path, mode):
    os.chmod(path, int(mode, 8))


def step_chown(path, uid, gid):
    calls.chown(path, int(uid), int(gid))


def step_lchown(path, uid, gid):
    calls.chown(path, int(uid), int(gid), calls.AT_SYMLINK_NOFOLLOW)


def step_truncate(path, size):
    calls.truncate(path, int(size))


def moment(word):
    if word == "now":
        return 0, calls.UTIME_NOW
    if word == "omit":
        return 0, calls.UTIME_OMIT
    seconds, _, fraction = word.partition(".")
    return int(seconds), int(fraction.ljust(9, "0")) if fraction else 0


def step_utime(path, accessed, modified):
    """utime PATH ATIME MTIME: seconds[.fraction], now or omit"""
    calls.utimensat(path, (moment(accessed), moment(modified)))


def step_lutime(path, accessed, modified):
    calls.utimensat(path, (moment(accessed), moment(modified)), calls.AT_SYMLINK_NOFOLLOW)


def value_of(word):
    """An attribute's value: text, or 0x and hexadecimal digits."""
    return bytes.fromhex(word[2:]) if re.fullmatch(r"0x([0-9a-fA-F]{2})+", word) else os.fsencode(word)


def step_setxattr(path, name, value, how=""):
    """setxattr PATH NAME TEXT|0xHEX [create|replace]"""
    calls.setxattr(path, name, value_of(value), XATTR_FLAGS[how] if how else 0)


def step_removexattr(path, name):
    os.removexattr(path, name, follow_symlinks=False)


def step_getxattr(path, name):
    os.getxattr(path, name, follow_symlinks=False)


# Steps that only look.

def step_access(path, how):
    """access PATH letters of r, w, x, f"""
    mode = sum({"r": os.R_OK, "w": os.W_OK, "x": os.X_OK, "f": 0}[letter] for letter in how)
    calls.access(path, mode)


def step_readlink(path):
    os.readlink(path)


def step_readdir(path):
    os.listdir(path)


def step_stat(path):
    os.stat(path)


def step_lstat(path):
    os.lstat(path)


def step_statfs(path):
    os.statvfs(path)


def step_exec(path):
    """runs the file, which must exit with 0"""
    status = subprocess.run([os.path.join(".", path)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                            check=False, timeout=30).returncode
    if status:
        raise Failure("it exited with %d" % status)


# Steps that assert.

def time_of(status, name):
    value = getattr(status, "st_%s_ns" % name)
    return "%d.%09d" % divmod(value, 1000000000)


def check_field(path, status, key, wanted):
    if key == "type":
        got = next(word for word, bits in TYPES.items() if bits == stat.S_IFMT(status.st_mode))
    elif key == "mode":
        got, wanted = "%04o" % stat.S_IMODE(status.st_mode), "%04o" % int(wanted, 8)
    elif key == "target":
        got = os.readlink(path)
    elif key == "rdev":
        got = "%d:%d" % (os.major(status.st_rdev), os.minor(status.st_rdev))
    elif key in TIMES:
        got, wanted = time_of(status, key), "%d.%09d" % moment(wanted)
    elif key.startswith("xattr:"):
        try:
            got, wanted = os.getxattr(path, key[6:], follow_symlinks=False), value_of(wanted)
        except OSError as error:
            got = error_name(error.errno)
    elif key == "noxattr":
        got = "there" if wanted in os.listxattr(path, follow_symlinks=False) else wanted
    else:
        got = str(getattr(status, "st_" + key))
    if got != wanted:
        raise Failure("%s=%s, expected %s" % (key, short(got), short(wanted)))


def step_is(path, *facts):
    """is PATH KEY=VALUE…: type mode uid gid nlink size blocks target rdev atime mtime ctime xattr:NAME;
    noxattr:NAME; gone"""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        if facts == ("gone",):
            return
        raise
    if facts == ("gone",):
        raise Failure("it is still there")
    for fact in facts:
        fact = fact.replace("noxattr:", "noxattr=")
        key, _, wanted = fact.partition("=")
        check_field(path, status, key, wanted)


def identity(path):
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def step_same(one, other):
    if identity(one) != identity(other):
        raise Failure("two different files")


def step_differs(one, other):
    if identity(one) == identity(other):
        raise Failure("the same file")


def step_content(path, text=""):
    with open(path, "rb") as file:
        got = file.read()
    if got != os.fsencode(text):
        raise Failure("holds %s" % short(got))


def step_entries(path, names=""):
    """entries PATH a,b,c: exactly these names, sorted"""
    got = ",".join(sorted(os.listdir(path)))
    if got != names:
        raise Failure("has %s" % short(got))


def step_keep(path):
    """remembers the times of PATH for changed and unchanged, and lets the clock move on"""
    _kept[path] = os.lstat(path)
    tick()


def kept_changes(path, names):
    before, now = _kept[path], os.lstat(path)
    for name in names.split(","):
        key = "st_%s_ns" % name if name in TIMES else "st_" + name
        yield name, getattr(before, key), getattr(now, key)


def step_changed(path, names):
    """changed PATH ctime,mtime…: later than at `keep` (other fields: different)"""
    for name, before, now in kept_changes(path, names):
        if now == before or (name in TIMES and now < before):
            raise Failure("%s did not change (%d, now %d)" % (name, before, now))


def step_unchanged(path, names):
    for name, before, now in kept_changes(path, names):
        if now != before:
            raise Failure("%s changed by %d" % (name, now - before))


# Reading tables.

class Step:
    def __init__(self, text, place):
        self.text = " ".join(text.split())
        words = shlex.split(text)
        self.errors = ()
        if len(words) > 1 and re.fullmatch(r"![A-Z0-9|]+", words[-1]):
            self.errors = tuple(getattr(errno, name) for name in words.pop()[1:].split("|"))
        self.verb = globals().get("step_" + words[0])
        if not self.verb:
            raise ValueError("%s: no verb %s" % (place, words[0]))
        self.words = [expand(word) for word in words[1:]]

    def failure(self, what):
        return Failure("step `%s`: %s" % (self.text, what))

    def run(self):
        names = "|".join(error_name(number) for number in self.errors)
        try:
            self.verb(*self.words)
        except OSError as error:
            if error.errno not in self.errors:
                expected = ", expected " + names if self.errors else ""
                raise self.failure(error_name(error.errno) + expected) from None
            return
        except Failure as failure:
            raise self.failure(failure) from None
        if self.errors:
            raise self.failure("succeeded, expected " + names)


def expand(word):
    def path_of(match):
        length = int(match.group(1))
        return "./" * ((length - 1) // 2) + "f" * (length - (length - 1) // 2 * 2)
    word = re.sub(r"\{path(\d+)\}", path_of, word)
    return re.sub(r"\{(\d+)\}", lambda match: ("n" * int(match.group(1))), word)


def split_steps(text):
    """At each `;` that is not quoted."""
    return [part for part in re.findall(r"""(?:'[^']*'|"[^"]*"|[^;'"])+""", text) if part.strip()]


def logical_lines(path):
    """(line number, text) with continuations joined and comments gone"""
    lines = []
    with open(path, encoding="utf-8") as table:
        for number, line in enumerate(table, 1):
            line = re.sub(r"(^|\s)#.*$", "", line.rstrip("\n"))
            if not line.strip():
                continue
            if line[0] in " \t" and lines:
                lines[-1] = (lines[-1][0], lines[-1][1] + " " + line.strip())
            else:
                lines.append((number, line.rstrip()))
    return lines


def run_steps(steps):
    for step in steps:
        step.run()


def alternatives(name, text):
    """(name, steps) for each choice that `<a|b>` in the name leaves."""
    lists = [found.split("|") for found in re.findall(r"<([^<>]*\|[^<>]*)>", name)]
    if not lists:
        yield name, text
        return
    for choice in itertools.product(*lists):
        words = iter(choice)
        chosen = re.sub(r"<[^<>]*\|[^<>]*>", lambda _: next(words), name)
        steps = text.replace("<>", choice[0])
        for number, word in enumerate(choice, 1):
            steps = steps.replace("<%d>" % number, word)
        yield chosen, steps


def load_table(path):
    """The cases of a table."""
    group = None
    loaded = []
    for number, line in logical_lines(path):
        place = "%s:%d" % (os.path.basename(path), number)
        if re.fullmatch(r"\[.+\]", line):
            group = line[1:-1]
            continue
        name, colon, text = line.partition(":")
        if not colon or not group or not text.strip():
            raise ValueError("%s: neither a [section] nor a case `name: steps`" % place)
        for chosen, expanded in alternatives(name.strip(), text):
            steps = [Step(part, place) for part in split_steps(expanded)]
            loaded.append(Case(group, chosen, lambda steps=steps: run_steps(steps)))
    return loaded
