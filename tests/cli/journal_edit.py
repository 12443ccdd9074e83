"""Changes the journal of a store behind cairn's back, as somebody would who has something to hide.

    journal_edit.py STORE change NUMBER OLD NEW    text in an entry
    journal_edit.py STORE rechain NUMBER OLD NEW   and every hash from there on
    journal_edit.py STORE remove NUMBER            an entry
    journal_edit.py STORE cut NUMBER               this entry and all later ones, without a trace
    journal_edit.py STORE forget POINT             the record of a point, by id

The index is dumped, changed and loaded again with LMDB's own tools; the checksums of the records,
which are against accidents only, are made right.  index/FORMAT.md, "Journal".
"""
import ctypes
import hashlib
import os
import shutil
import subprocess
import sys

xxhash = ctypes.CDLL("libxxhash.so.0")
xxhash.XXH3_64bits.restype = ctypes.c_uint64
xxhash.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
xxhash.XXH3_64bits_withSeed.restype = ctypes.c_uint64
xxhash.XXH3_64bits_withSeed.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]

CHECKSUM, HASH, PREVIOUS = 8, 32, 32
TAIL = bytes(8)


def sealed(key, value):
    seed = xxhash.XXH3_64bits(key, len(key))
    return value + xxhash.XXH3_64bits_withSeed(value, len(value), seed).to_bytes(CHECKSUM, "little")


def dump(index):
    """{table: (header lines, {key: value})}, without the checksums of the journal's values"""
    text = subprocess.run(["mdb_dump", "-a", index], stdout=subprocess.PIPE, check=True).stdout
    tables, lines = {}, iter(text.decode().splitlines())
    for line in lines:
        header = [line]
        while header[-1] != "HEADER=END":
            header.append(next(lines))
        header = [l for l in header if not l.startswith("db_pagesize=")]  # mdb_load knows it not
        name = next(l.split("=", 1)[1] for l in header if l.startswith("database="))
        rows = {}
        while (key := next(lines)) != "DATA=END":
            rows[bytes.fromhex(key)] = bytes.fromhex(next(lines))
        tables[name] = header, rows
    return tables


def load(index, tables):
    out = []
    for header, rows in tables.values():
        out += header
        for key, value in rows.items():
            out += [" " + key.hex(), " " + value.hex()]
        out.append("DATA=END")
    new = index + ".new"
    os.mkdir(new)
    subprocess.run(["mdb_load", new], input="\n".join(out + [""]).encode(), check=True)
    shutil.rmtree(index)
    os.rename(new, index)


def number_key(number):
    return number.to_bytes(8, "big")


def change(journal, number, old, new, rechain):
    assert len(old) == len(new)
    key = number_key(number)
    record, link = journal[key][:-HASH], journal[key][-HASH:]
    assert old in record, record
    journal[key] = record.replace(old, new) + link
    while rechain and key in journal:
        record = journal[key][:-HASH]
        link = hashlib.sha256(key + record).digest()
        journal[key] = record + link
        journal[TAIL] = key[::-1] + link
        key = number_key(int.from_bytes(key, "big") + 1)
        if key in journal:
            journal[key] = journal[key][:PREVIOUS] + link + journal[key][PREVIOUS + HASH:]


def cut(journal, number):
    for key in [k for k in journal if int.from_bytes(k, "big") >= number]:
        del journal[key]
    journal[TAIL] = number_key(number - 1)[::-1] + journal[number_key(number - 1)][-HASH:]


def main():
    store, what, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
    index = os.path.join(store, "index")
    tables = dump(index)
    stored = tables["journal"][1]
    journal = {key: value[:-CHECKSUM] for key, value in stored.items()}
    if what in ("change", "rechain"):
        change(journal, number, sys.argv[4].encode(), sys.argv[5].encode(), what == "rechain")
    elif what == "remove":
        del journal[number_key(number)]
    elif what == "cut":
        cut(journal, number)
    elif what == "forget":
        points = tables["points"][1]
        del points[number_key(number)]
    else:
        sys.exit(__doc__)
    stored.clear()
    stored.update((key, sealed(key, value)) for key, value in sorted(journal.items()))
    load(index, tables)


main()
