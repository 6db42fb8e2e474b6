#!/usr/bin/env python3
"""Where a command spends its time, folded to the source files of this crate: a Markdown table.

usage: profile.py COMMAND [ARGUMENTS...]

Samples by `perf record`; `addr2line` gives each its stack of inlined functions, and the innermost one under src/
counts. Samples with none, such as of the C library's memcpy and of the kernel, are those of others; what a
program measures beside the crate, under crates/rdmm-validation/, is left out. COMMAND is a position-independent executable with line
tables.
"""

import collections
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = f"{Path(__file__).resolve().parents[1]}/"
# Files with less than this share are put together.
LEAST = 0.01


def run(*command, text=None):
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    program = sys.argv[1]
    with tempfile.NamedTemporaryFile(suffix=".perf") as record:
        run("perf", "record", "-q", "-F", "999", "-o", record.name, "--", *sys.argv[1:])
        script = ("perf", "script", "-i", record.name, "-F")
        samples = run(*script, "ip,dso").splitlines()
        events = run(*script, "comm", "--show-mmap-events")

    # Address in the file = address in memory − where its code was mapped + where its code belongs.
    name = re.escape(program.rsplit("/", 1)[-1])
    mapped = re.search(rf"MMAP2? .*\[(0x[0-9a-f]+)\(.*x[ps] \S*/{name}$", events, re.MULTILINE)
    code = re.search(r"LOAD +(0x\w+) (0x\w+) .* R E 0x", run("readelf", "-lW", program))
    if not mapped or not code:
        sys.exit(f"the code of {program} is not among the mappings")
    shift = (int(code[2], 16) & ~0xFFF) - int(mapped[1], 16)

    counts, others = collections.Counter(), 0
    for sample in samples:
        address, dso = sample.split(None, 1)
        if dso.strip("()").endswith("/" + program.rsplit("/", 1)[-1]):
            counts[int(address, 16) + shift] += 1
        else:
            others += 1
    addresses = [hex(address) for address in counts]
    stacks = run("addr2line", "-e", program, "-a", "-i", text="\n".join(addresses) + "\n")

    files = collections.Counter({"(others)": others})
    for stack in re.split(r"^0x", stacks, flags=re.MULTILINE)[1:]:
        address, *frames = stack.splitlines()
        # Other crates and the standard library lie elsewhere.
        own = [frame.removeprefix("./").removeprefix(ROOT).rsplit(":", 1)[0] for frame in frames]
        file = next((place for place in own if place.startswith("src/")), None)
        if file is None:
            measuring = any(place.startswith("crates/rdmm-validation/") for place in own)
            file = "(measuring)" if measuring else "(others)"
        files[file] += counts[int(address, 16)]
    del files["(measuring)"]

    total = sum(files.values())
    rows = [(file, count) for file, count in files.most_common()
            if count >= LEAST * total and file != "(others)"]
    rows.append(("(others)", total - sum(count for _, count in rows)))
    print("| file | share |\n| --- | --- |")
    for file, count in rows:
        print(f"| {file if file == '(others)' else f'`{file}`'} | {100 * count / total:.1f} % |")


if __name__ == "__main__":
    main()
