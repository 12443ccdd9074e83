"""Cases in which one of the two file systems is known to deviate from what the case expects.

{"group: name": ("ext4" | "cairn", reason)}.  A case that fails and is not listed, and a case that is listed
and passes, fail the test: the list can neither grow silently nor rot.
"""

DIFFERENCES = {
    "limits: a byte before the end of 8 EiB can be written, read, and truncated away":
        ("ext4", "files end at 16 TiB there"),
    "truncate: to 8 EiB - 1 and back":
        ("ext4", "files end at 16 TiB there"),
    "truncate: bytes stored through a mapping behind the end do not show when ftruncate makes the file longer":
        ("cairn", "FUSE does not clear them: the kernel sends the whole page once the size allows it"),
    "write: bytes stored through a mapping behind the end do not show when a write makes the file longer":
        ("cairn", "FUSE does not clear them: the kernel sends the whole page once the size allows it"),
    "utimensat: an mtime of a file that cannot be stored becomes the nearest":
        ("cairn", "with a writeback cache Linux keeps the mtime of a file itself and a FUSE file system cannot tell it "
                  "its range; what is stored, and seen by the next mount, is the nearest (tests/mount/attributes.py)"),
    "special: writing to a fifo moves its mtime and ctime":
        ("cairn", "what goes through a fifo never reaches the file system, and Linux keeps no times of its own for files of "
                  "FUSE that are not regular (S_NOCMTIME)"),
    "times: opening for reading leaves atime as long as nothing is read":
        ("cairn", "reads that the kernel answers from its cache are not told to FUSE: opening for reading has to count"),
}
