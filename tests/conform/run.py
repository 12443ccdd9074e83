#!/usr/bin/env python3
"""The conformance test on one directory: python3 tests/conform/run.py DIR [-g GROUP]… [-v] [--list]

Runs as root.  Prints `ok`, `not ok` or `skip` for each case; exit code 1 where one failed.
"""
import argparse
import glob
import importlib
import os
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import conform  # noqa: E402 (the path comes first)
import steps  # noqa: E402


def load_all():
    """Every case of every table and module; two of one name are refused."""
    found = []
    for path in sorted(glob.glob(os.path.join(HERE, "*.tab"))):
        found += steps.load_table(path)
    for path in sorted(glob.glob(os.path.join(HERE, "cases_*.py"))):
        importlib.import_module(os.path.basename(path)[:-3])
    found += conform.cases
    keys = set()
    for one in found:
        if one.key in keys:
            raise ValueError("two cases are called `%s`" % one.key)
        keys.add(one.key)
    return found


def run_all(directory, groups=None, report=None):
    """{"group: name": "ok" | "skip: why" | what failed}; `report(key, result, seconds)` after each case."""
    results = {}
    base = tempfile.mkdtemp(prefix="conform.", dir=directory)
    os.chmod(base, 0o755)
    try:
        for number, one in enumerate(load_all()):
            if groups and one.group not in groups:
                continue
            started = time.monotonic()
            result = conform.run_case(one, os.path.join(base, str(number)))
            results[one.key] = result
            if report:
                report(one.key, result, time.monotonic() - started)
    finally:
        conform.remove_tree(base)
    return results


def print_result(key, result, seconds, verbose=True):
    late = "  (%.1f s)" % seconds if verbose and seconds > 0.5 else ""
    if result == "ok":
        if verbose:
            print("ok %s%s" % (key, late))
    elif result.startswith("skip: "):
        print("skip %s: %s" % (key, result[6:]))
    else:
        print("not ok %s%s\n    %s" % (key, late, result))
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dir")
    parser.add_argument("-g", "--group", action="append", help="only this group")
    parser.add_argument("-v", "--verbose", action="store_true", help="also what passes")
    parser.add_argument("-k", "--only", help="only cases whose name contains this")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("run.py: needs root")
    if options.only:
        whole = load_all
        globals()["load_all"] = lambda: [one for one in whole() if options.only in one.key]
    results = run_all(options.dir, options.group,
                      lambda key, result, seconds: print_result(key, result, seconds, options.verbose))
    skipped = sum(result.startswith("skip: ") for result in results.values())
    failed = sum(result != "ok" for result in results.values()) - skipped
    print("%d cases, %d failed, %d skipped" % (len(results), failed, skipped))
    sys.exit(1 if failed or not results else 0)


if __name__ == "__main__":
    main()
