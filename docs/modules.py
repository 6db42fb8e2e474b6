#!/usr/bin/env python3
"""Counts the lines of the core's modules, their tests left out, and of the largest file of each.

    docs/modules.py              prints the table of docs/src/design.md for the working tree
    docs/modules.py BEFORE       beside it, the counts of a commit
    docs/modules.py --check      fails where a file has more than 500 lines without its tests
"""

import subprocess
import sys
from collections import defaultdict

LARGEST = 500


def without_tests(text):
    """Lines up to the module of unit tests, which ends a file where there is one."""
    lines = text.splitlines()
    for at, line in enumerate(lines):
        if line.startswith("mod tests {") and lines[at - 1].strip() == "#[cfg(test)]":
            return at - 1
    return len(lines)


def git(*arguments):
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


def files(commit=None):
    """Lines of each file of src that is not a file of tests."""
    if commit:
        names = git("ls-tree", "-r", "--name-only", commit, "src").split()
    else:
        names = git("ls-files", "src").split()
    counts = {}
    for name in names:
        if name.endswith(".rs") and not name.endswith("/tests.rs"):
            if commit:
                text = git("show", f"{commit}:{name}")
            else:
                with open(name, encoding="utf-8") as file:
                    text = file.read()
            counts[name] = without_tests(text)
    return counts


def modules(counts):
    """Files, lines, and lines of the largest file of each module."""
    found = defaultdict(list)
    for name, lines in counts.items():
        found[name.split("/")[1].removesuffix(".rs")].append(lines)
    return {name: (len(lines), sum(lines), max(lines)) for name, lines in found.items()}


def main():
    now = files()
    if sys.argv[1:] == ["--check"]:
        large = {name: lines for name, lines in now.items() if lines > LARGEST}
        for name, lines in large.items():
            print(f"{name}: {lines} lines without tests, more than {LARGEST}", file=sys.stderr)
        return bool(large)
    tables = [modules(now)]
    head = ["files", "lines", "largest file"]
    if len(sys.argv) > 1:
        tables.insert(0, modules(files(sys.argv[1])))
        head = [f"{column} {when}" for when in ("before", "now") for column in head]
    print("| module | " + " | ".join(head) + " |")
    print("| --- |" + " ---: |" * len(head))
    for name in sorted(set().union(*tables)):
        cells = [str(count) for table in tables for count in table.get(name, ("–",) * 3)]
        print(f"| `{name}` | " + " | ".join(cells) + " |")
    return False


if __name__ == "__main__":
    sys.exit(main())
