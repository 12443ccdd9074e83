"""Reading directories: complete and without doubles while entries come and go, positions, types and numbers.

And what inotify tells of changes that are made on this machine.
"""
import errno
import os
import random
import stat

import calls
from calls import Inotify
from conform import case, expect, expect_equal, expect_errno, opened, tick, write_file

DOTS = [b".", b".."]


def entries_of(fd, size=32768):
    """All entries of an open directory from where it stands."""
    found = []
    while some := calls.getdents(fd, size):
        found += some
    return found


def names_of(fd, size=32768):
    return [entry.name for entry in entries_of(fd, size)]


def fill(count, form="f%d", where="."):
    with opened(where, os.O_RDONLY) as at:
        for number in range(count):
            os.close(os.open(form % number, os.O_CREAT | os.O_EXCL | os.O_WRONLY, dir_fd=at))
    return {(form % number).encode() for number in range(count)}


def expect_once(found, wanted, text):
    """Exactly these names, each once, and the dots."""
    expect_equal(len(found), len(set(found)), text + ": no name twice")
    missing = (set(wanted) | set(DOTS)) - set(found)
    expect(not missing, text + ": no name missing", sorted(missing)[:5])
    more = set(found) - set(wanted) - set(DOTS)
    expect(not more, text + ": no name too many", sorted(more)[:5])


@case("readdir", "an empty directory has dot and dot-dot")
def empty():
    os.mkdir("d")
    with opened("d", os.O_RDONLY) as fd:
        expect_equal(sorted(names_of(fd)), DOTS, "the entries")
        expect_equal(calls.getdents(fd), [], "behind the end")
        expect_equal(calls.getdents(fd), [], "behind the end, again")


@case("readdir", "types and numbers are those of stat")
def types_and_numbers():
    os.makedirs("d/sub")
    write_file("d/file")
    os.symlink("file", "d/link")
    os.mkfifo("d/fifo")
    calls.mknod("d/sock", stat.S_IFSOCK | 0o600)
    calls.mknod("d/chr", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    calls.mknod("d/blk", stat.S_IFBLK | 0o600, os.makedev(240, 1))
    calls.link("d/file", "d/hard")
    for again in ("new", "known"):
        with opened("d", os.O_RDONLY) as fd:
            entries = entries_of(fd)
        expect_equal(len(entries), 10, "entries of the %s directory" % again)
        for entry in entries:
            status = os.lstat(b"d/" + entry.name)
            expect_equal(entry.ino, status.st_ino, "d_ino of %r" % entry.name)
            expect_equal(entry.kind, status.st_mode >> 12, "d_type of %r" % entry.name)


@case("readdir", "dot-dot follows a directory that moves")
def dot_dot_moves():
    os.makedirs("a/x")
    os.mkdir("b")
    for where in ("a", "b", "a"):
        path = where + "/x"
        if not os.path.exists(path):
            os.rename("a/x" if where == "b" else "b/x", path)
        with opened(path, os.O_RDONLY) as fd:
            numbers = {entry.name: entry.ino for entry in entries_of(fd)}
        expect_equal(numbers, {b".": os.stat(path).st_ino, b"..": os.stat(where).st_ino}, "numbers in %s" % path)


@case("readdir", "a name that stands for another file shows its new type and number at once")
def renewed_name():
    os.mkdir("d")
    write_file("other")
    for make in (lambda: write_file("d/n"), lambda: os.mkdir("d/n"), lambda: os.symlink("x", "d/n"),
                 lambda: os.mkfifo("d/n"), lambda: calls.link("other", "d/n"), lambda: os.rename("other", "d/n")):
        make()
        with opened("d", os.O_RDONLY) as fd:
            entry = next(entry for entry in entries_of(fd) if entry.name == b"n")
        status = os.lstat("d/n")
        expect_equal((entry.ino, entry.kind), (status.st_ino, status.st_mode >> 12), "d_ino and d_type")
        (os.rmdir if stat.S_ISDIR(status.st_mode) else os.unlink)("d/n")


@case("readdir", "20,000 entries, with buffers of any size")
def large():
    wanted = fill(20000)
    for size in (256, 4096, 1 << 17):
        with opened(".", os.O_RDONLY) as fd:
            expect_once(names_of(fd, size), wanted, "buffers of %d bytes" % size)
    for name in wanted:
        os.stat(name)
    expect_equal(len(os.listdir(".")), 20000, "names that os.listdir() gives")


@case("readdir", "1,000 names of 255 bytes")
def long_names():
    wanted = fill(1000, "%0255d")
    for size in (300, 1024, 32768):
        with opened(".", os.O_RDONLY) as fd:
            expect_once(names_of(fd, size), wanted, "buffers of %d bytes" % size)


@case("readdir", "a buffer too small for one entry is EINVAL")
def small_buffer():
    fill(3, "a-name-of-some-length-%d")
    with opened(".", os.O_RDONLY) as fd:
        expect_errno(errno.EINVAL, calls.getdents, fd, 8)
        expect_equal(len(names_of(fd)), 5, "entries with a larger one")


@case("readdir", "removing what was read, as rm -r does, reads all of it")
def remove_while_reading():
    wanted = fill(3000)
    with opened(".", os.O_RDONLY) as fd:
        found = []
        while some := calls.getdents(fd, 1024):
            found += [entry.name for entry in some]
            for entry in some:
                if entry.name not in DOTS:
                    os.unlink(entry.name)
    expect_once(found, wanted, "what was read")
    expect_equal(os.listdir("."), [], "what is left")


@case("readdir", "what stays is read exactly once while other names come and go")
def steady_names():
    wanted = fill(2000, "steady-%d")
    fill(500, "going-%d")
    number, chosen = 0, random.Random(1)
    with opened(".", os.O_RDONLY) as fd:
        found = []
        while some := calls.getdents(fd, 1024):
            found += [entry.name for entry in some]
            for _ in range(6):
                write_file("coming-%d" % number)
                number += 1
            for _ in range(4):
                gone = "going-%d" % chosen.randrange(500)
                if os.path.exists(gone):
                    os.unlink(gone)
            os.unlink("coming-%d" % chosen.randrange(number - 5, number))
    expect_equal(len(found), len(set(found)), "no name twice")
    expect(not wanted - set(found), "no steady name missing", sorted(wanted - set(found))[:5])


@case("readdir", "the same while another process makes and removes names")
def steady_names_two_processes():
    wanted = fill(1500, "steady-%d")
    child = os.fork()
    if child == 0:
        try:
            for number in range(100000):
                write_file("n%d" % number)
                os.rename("n%d" % number, "m%d" % number)
                if number >= 50:
                    os.unlink("m%d" % (number - 50))
        finally:
            os._exit(1)
    try:
        for _ in range(20):
            with opened(".", os.O_RDONLY) as fd:
                found = names_of(fd, 2048)
            steady = [name for name in found if name.startswith(b"steady-")]
            expect_equal(len(steady), len(wanted), "steady names read")
            expect_equal(set(steady), wanted, "steady names")
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


@case("readdir", "renaming each entry that is read, and back, comes to an end")
def rename_while_reading():
    wanted = fill(1000)
    seen = []
    with opened(".", os.O_RDONLY) as fd:
        while some := calls.getdents(fd, 512):
            for entry in some:
                if entry.name in wanted:
                    os.rename(entry.name, "temporary")
                    os.rename("temporary", entry.name)
                    seen.append(entry.name)
            expect(len(seen) < 10000, "an end is reached")
    expect_equal(set(seen), wanted, "what was read")


@case("readdir", "renaming within the directory loses no other name")
def rename_others():
    wanted = fill(1000, "steady-%d")
    fill(1000, "a%d")
    with opened(".", os.O_RDONLY) as fd:
        found, number = [], 0
        while some := calls.getdents(fd, 1024):
            found += [entry.name for entry in some]
            for _ in range(10):
                if number < 1000:
                    os.rename("a%d" % number, "b%d" % number)
                    number += 1
    steady = [name for name in found if name.startswith(b"steady-")]
    expect_equal(len(steady), 1000, "steady names read")
    expect_equal(set(steady), wanted, "steady names")


@case("readdir", "each position leads to the entry behind it")
def positions():
    fill(300)
    with opened(".", os.O_RDONLY) as fd:
        entries = entries_of(fd, 1024)
        offsets = [entry.offset for entry in entries]
        expect_equal(len(set(offsets)), len(offsets), "positions are all different")
        order = list(range(len(entries)))
        random.Random(2).shuffle(order)
        for index in order:
            os.lseek(fd, offsets[index], os.SEEK_SET)
            some = calls.getdents(fd, 300)
            if index == len(entries) - 1:
                expect_equal(some, [], "behind the last")
            else:
                expect_equal(some[0].name, entries[index + 1].name, "behind entry %d" % index)
        os.lseek(fd, 0, os.SEEK_SET)
        expect_equal(names_of(fd), [entry.name for entry in entries], "from the beginning")


@case("readdir", "a position stays good when entries before and after it go")
def positions_of_removed():
    wanted = fill(400)
    with opened(".", os.O_RDONLY) as fd:
        entries = entries_of(fd, 1024)
        middle = entries[200]
        behind = [entry.name for entry in entries[201:]]
        gone = {entry.name for entry in entries[190:220] if entry.name in wanted}
        for name in gone:
            os.unlink(name)
        os.lseek(fd, middle.offset, os.SEEK_SET)
        # POSIX leaves open whether names that went after opendir() are still read.
        found = [name for name in names_of(fd) if name not in gone]
        expect_equal(found, [name for name in behind if name not in gone], "what is read from there")


@case("readdir", "positions are good in another descriptor")
def positions_elsewhere():
    fill(200)
    with opened(".", os.O_RDONLY) as one, opened(".", os.O_RDONLY) as other:
        entries = entries_of(one)
        os.lseek(other, entries[99].offset, os.SEEK_SET)
        expect_equal(names_of(other), [entry.name for entry in entries[100:]], "what is read from there")


@case("readdir", "telldir, seekdir and rewinddir")
def streams():
    wanted = fill(500)
    stream = calls.Dir(".")
    places = []
    while True:
        place = stream.tell()
        name = stream.read()
        if name is None:
            break
        places.append((place, name))
    expect_once([name for _, name in places], wanted, "what was read")
    random.Random(3).shuffle(places)
    for place, name in places[:200]:
        stream.seek(place)
        expect_equal(stream.read(), name, "the entry at a position")
    os.unlink("f7")
    write_file("new")
    stream.rewind()
    expect_once(stream.rest(), wanted - {b"f7"} | {b"new"}, "after rewinddir")
    stream.close()


@case("readdir", "two streams on one directory do not disturb each other")
def two_streams():
    wanted = fill(1000)
    one, other = calls.Dir("."), calls.Dir(".")
    first, second = [], []
    for number in range(600):
        first.append(one.read())
        if number % 3 == 0:
            second.append(other.read())
    expect_once(first + one.rest(), wanted, "the first")
    expect_once(second + other.rest(), wanted, "the second")


@case("readdir", "an open directory read again from its beginning shows what was made and removed since")
def read_again():
    os.mkdir("d")
    fill(10, "d/f%d")
    with opened("d", os.O_RDONLY) as fd:
        expect_equal(len(names_of(fd)), 12, "entries")
        for number in range(10, 30):
            write_file("d/f%d" % number)
            os.lseek(fd, 0, os.SEEK_SET)
            expect(b"f%d" % number in names_of(fd), "a new name is seen")
            os.unlink("d/f%d" % (number - 10))
            os.lseek(fd, 0, os.SEEK_SET)
            expect(b"f%d" % (number - 10) not in names_of(fd), "a removed name is not")
        os.rename("d/f29", "d/g")
        write_file("h")
        os.rename("h", "d/h")
        os.lseek(fd, 0, os.SEEK_SET)
        names = names_of(fd)
        expect(b"g" in names and b"h" in names and b"f29" not in names, "renamed names")


@case("readdir", "a directory opened anew shows each change of another process at once")
def read_anew():
    for number in range(60):
        child = os.fork()
        if child == 0:
            write_file("f%d" % number)
            if number:
                os.unlink("f%d" % (number - 1))
            os._exit(0)
        os.waitpid(child, 0)
        expect_equal(os.listdir("."), ["f%d" % number], "the names")


@case("readdir", "what is made before the reading begins is read, though the directory is open already")
def made_before_reading():
    os.mkdir("d")
    with opened("d", os.O_RDONLY) as fd:
        wanted = fill(100, "f%d", "d")
        expect_once(names_of(fd), wanted, "what was read")


@case("readdir", "a descriptor of a directory is for reading entries only")
def directory_descriptor():
    with opened(".", os.O_RDONLY) as fd:
        expect_errno(errno.EISDIR, os.read, fd, 1)
        expect_errno(errno.EBADF, os.write, fd, b"x")
        expect_errno((errno.EINVAL, errno.EBADF), os.ftruncate, fd, 0)
        expect_errno((errno.EINVAL, errno.EBADF), calls.fallocate, fd, 0, 0, 1)
        os.fsync(fd)
        os.fdatasync(fd)
    write_file("f")
    with opened("f", os.O_RDONLY) as fd:
        expect_errno(errno.ENOTDIR, calls.getdents, fd)
    expect_errno(errno.EISDIR, os.truncate, ".", 0)


@case("readdir", "the descriptor shared with a child has one position")
def shared_position():
    wanted = fill(2000)
    with opened(".", os.O_RDONLY) as fd:
        found = [entry.name for entry in calls.getdents(fd, 2048)]
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writing, b"\0".join(entry.name for entry in calls.getdents(fd, 2048)))
            os._exit(0)
        os.waitpid(child, 0)
        found += os.read(reading, 65536).split(b"\0")
        expect_once(found + names_of(fd), wanted, "what both read")


# inotify

def names_of_mask(mask):
    names = ("ACCESS", "MODIFY", "ATTRIB", "CLOSE_WRITE", "CLOSE_NOWRITE", "OPEN", "MOVED_FROM", "MOVED_TO", "CREATE",
             "DELETE", "DELETE_SELF", "MOVE_SELF", "ISDIR", "IGNORED")
    return {name for name in names if mask & getattr(Inotify, name)}


class Watcher:
    """Events as strings: `CREATE f`, `CREATE|ISDIR d`"""

    def __init__(self, path, mask=0xFFF & ~Inotify.OPEN & ~Inotify.CLOSE_NOWRITE & ~Inotify.ACCESS):
        self.inotify = Inotify()
        self.inotify.watch(path, mask)

    def events(self):
        return [("|".join(sorted(names_of_mask(mask))) + " " + os.fsdecode(name)).strip()
                for _, mask, _, name in self.inotify.read()]

    def expect(self, text, *wanted):
        expect_equal(self.events(), list(wanted), "events of " + text)


@case("inotify", "making, changing and removing names in a watched directory")
def inotify_directory():
    os.mkdir("d")
    watch = Watcher("d")
    os.close(os.open("d/f", os.O_CREAT | os.O_WRONLY))
    watch.expect("open with O_CREAT", "CREATE f", "CLOSE_WRITE f")
    with opened("d/f", os.O_WRONLY) as fd:
        os.write(fd, b"x")
    watch.expect("a write", "MODIFY f", "CLOSE_WRITE f")
    os.truncate("d/f", 0)
    watch.expect("truncate", "MODIFY f")
    os.chmod("d/f", 0o600)
    watch.expect("chmod", "ATTRIB f")
    os.utime("d/f", (1, 1))
    watch.expect("utime", "ATTRIB f")
    os.setxattr("d/f", "user.x", b"1")
    watch.expect("setxattr", "ATTRIB f")
    calls.link("d/f", "d/g")
    watch.expect("link", "CREATE g")
    os.unlink("d/g")
    expect("DELETE g" in watch.events(), "an event of unlink")
    os.mkdir("d/e")
    watch.expect("mkdir", "CREATE|ISDIR e")
    os.rmdir("d/e")
    watch.expect("rmdir", "DELETE|ISDIR e")
    os.symlink("x", "d/l")
    os.mkfifo("d/p")
    watch.expect("symlink and mkfifo", "CREATE l", "CREATE p")


@case("inotify", "a rename is two events with one cookie, and tells the file itself")
def inotify_rename():
    os.makedirs("d/e")
    write_file("d/f")
    inotify = Inotify()
    directory = inotify.watch("d", Inotify.MOVED_FROM | Inotify.MOVED_TO)
    file = inotify.watch("d/f", Inotify.MOVE_SELF)
    os.rename("d/f", "d/g")
    events = inotify.read()
    expect_equal([(watch, names_of_mask(mask), name) for watch, mask, _, name in events],
                 [(directory, {"MOVED_FROM"}, b"f"), (directory, {"MOVED_TO"}, b"g"), (file, {"MOVE_SELF"}, b"")],
                 "events")
    expect(events[0][2] == events[1][2] != 0, "one cookie for both")
    os.rename("d/g", "d/e/g")
    expect_equal([(names_of_mask(mask), name) for _, mask, _, name in inotify.read()],
                 [({"MOVED_FROM"}, b"g"), ({"MOVE_SELF"}, b"")], "events of a rename out of the directory")
    os.rename("d/e", "d/h")
    expect_equal([(names_of_mask(mask), name) for _, mask, _, name in inotify.read()],
                 [({"MOVED_FROM", "ISDIR"}, b"e"), ({"MOVED_TO", "ISDIR"}, b"h")], "events of a directory's rename")


@case("inotify", "the end of a file is told, once its last name and descriptor are gone")
def inotify_end():
    for way in ("unlink", "open", "replaced", "rmdir"):
        name = "n-" + way
        if way == "rmdir":
            os.mkdir(name)
        else:
            write_file(name)
        watch = Watcher(name, Inotify.DELETE_SELF | Inotify.ATTRIB)
        fd = os.open(name, os.O_RDONLY) if way == "open" else None
        if way == "replaced":
            write_file("new")
            os.rename("new", name)
        else:
            (os.rmdir if way == "rmdir" else os.unlink)(name)
        if fd is not None:
            expect("DELETE_SELF" not in watch.events(), "an open file is not at its end")
            os.close(fd)
        events = watch.events()
        expect_equal(events[-2:], ["DELETE_SELF", "IGNORED"], "the last events of %s" % way)


@case("inotify", "reading is told: open, access, close")
def inotify_reading():
    os.mkdir("d")
    write_file("d/f", b"abc")
    watch = Watcher("d", Inotify.OPEN | Inotify.ACCESS | Inotify.CLOSE_NOWRITE)
    with opened("d/f", os.O_RDONLY) as fd:
        os.read(fd, 10)
    watch.expect("reading", "OPEN f", "ACCESS f", "CLOSE_NOWRITE f")
    os.listdir("d")
    expect("ISDIR|OPEN" in watch.events(), "listing is told")


# Times of directories that only a clock shows.

@case("readdir", "listing does not change mtime and ctime")
def listing_times():
    fill(10)
    before = os.stat(".")
    tick()
    for _ in range(3):
        os.listdir(".")
    now = os.stat(".")
    expect_equal((now.st_mtime_ns, now.st_ctime_ns), (before.st_mtime_ns, before.st_ctime_ns), "mtime and ctime")
