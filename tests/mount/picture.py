"""What a tree looks like through the mount, as a dictionary: path -> everything that a program could see, but for
atimes: looking changes them."""
import errno
import hashlib
import os
import stat


def xattrs(path):
    try:
        names = os.listxattr(path, follow_symlinks=False)
        return tuple(sorted((name, os.getxattr(path, name, follow_symlinks=False)) for name in names))
    except OSError as error:
        return errno.errorcode[error.errno]


def contents(path, mode):
    if stat.S_ISREG(mode):
        with open(path, "rb") as data:
            return hashlib.sha1(data.read()).hexdigest()
    return os.readlink(path) if stat.S_ISLNK(mode) else None


def look(path, numbers):
    at = os.lstat(path)
    size = 0 if stat.S_ISDIR(at.st_mode) else at.st_size
    return (oct(at.st_mode), at.st_nlink, at.st_uid, at.st_gid, size, at.st_rdev, at.st_blocks,
            at.st_mtime_ns, at.st_ctime_ns, xattrs(path), contents(path, at.st_mode)) + ((at.st_ino,) if numbers else ())


def picture(root, numbers=False, skip=()):
    """`numbers`: with inode numbers (those in a point are others).  The times of the root itself count, too."""
    result = {".": look(root, numbers)}

    def walk(directory, relative):
        for entry in sorted(os.listdir(directory)):
            path, name = os.path.join(directory, entry), os.path.join(relative, entry)
            if name in skip:
                continue
            result[name] = look(path, numbers)
            if result[name][0].startswith("0o4"):
                walk(path, name)
    walk(root, "")
    return result


def differences(a, b):
    """Readable, and empty where they are the same."""
    names = sorted(set(a) | set(b))
    return ["%s: %s / %s" % (name, a.get(name), b.get(name)) for name in names if a.get(name) != b.get(name)]
