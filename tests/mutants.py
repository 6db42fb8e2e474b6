#!/usr/bin/env python3
"""Breaks the library on purpose, one line at a time, and says which tests notice: a Markdown table.

Usage: mutants.py [--only WORD]

Each mutant is a replacement in a copy of the tree under target/mutants, where the tests that should notice it are run. One that
no test notices survives: the line has no test. Not part of CI: a mutant costs a build of the library and of its tests.
"""

import argparse
import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "target" / "mutants" / "tree"

# What is broken; file; line as it is; line as it becomes; tests that should notice.
MUTANTS = [
    (
        "the bound of a chain is on the leg alone",
        "src/registration/chain.rs",
        "map_before: Some(&bent)",
        "map_before: None",
        "test(/chain/)",
    ),
    (
        "maps of a chain are composed in the other order",
        "src/registration/chain.rs",
        "composed(&bent, &segment.inverse_map)?",
        "composed(&segment.inverse_map, &bent)?",
        "test(/chain/)",
    ),
    (
        "the drift is taken at the last step alone",
        "src/registration/finish.rs",
        "drift = drift.max((now / energy - 1.0).abs())",
        "drift = (now / energy - 1.0).abs()",
        "test(/drift|conserv|finish|registration/)",
    ),
    (
        "landmarks do not know of an initial affine map",
        "src/registration/term/landmarks.rs",
        "let back = initial.inverse();\n        let point",
        "let back = Affine::<D>::identity();\n        let point",
        "test(/landmarks/)",
    ),
    (
        "two sides have the whole weight each",
        "src/registration/level.rs",
        "with_reverse(&fixed, similarity, share * pair.weight)",
        "with_reverse(&fixed, similarity, pair.weight)",
        "test(/symmetry|sides/)",
    ),
    (
        "nothing is smoothed before it is sampled",
        "src/pyramid.rs",
        "const ANTI_ALIAS: f64 = 0.5;",
        "const ANTI_ALIAS: f64 = 0.0;",
        "test(/pyramid/)",
    ),
    (
        "landmarks have no part in an affine registration",
        "src/affine/objective.rs",
        "matrix_bar += bar.matrix;",
        "",
        "test(/affine/)",
    ),
    (
        "starts do not follow an initial map",
        "src/affine/start.rs",
        "moving.through(&initial.inverse())",
        "moving.through(&Affine::identity())",
        "test(/affine/)",
    ),
    (
        "nothing holds a map in the moving image",
        "src/comparison.rs",
        "const WEIGHT: f64 = 10.0;",
        "const WEIGHT: f64 = 0.0;",
        "test(/comparison|partial_view/)",
    ),
    (
        "what is shown has no derivative",
        "src/comparison.rs",
        "warp.seen_vjp(u, seen_bar, u_bar);",
        "",
        "test(/comparison|partial_view/)",
    ),
    (
        "labels of one image count for the mean overlap",
        "src/evaluate/overlap.rs",
        "2.0 * self.both as f64 / self.sizes as f64",
        "self.both as f64 / self.sizes as f64",
        "test(/overlap/)",
    ),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    shutil.rmtree(COPY, ignore_errors=True)
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for file in filter(None, files):
        (COPY / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, COPY / file)
    environment = {**os.environ, "CARGO_TARGET_DIR": str(COPY.parent / "target")}
    command = ["cargo", "nextest", "run", "--all-features", "--lib", "--test", "suite", "--no-fail-fast", "-E"]
    print("| what is broken | tests that notice |\n| --- | --- |", flush=True)
    for what, file, before, after, tests in MUTANTS:
        if asked.only not in what:
            continue
        path = COPY / file
        text = path.read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{file}: expected one «{before}», found {text.count(before)}"
        path.write_text(text.replace(before, after), encoding="utf-8")
        ended = subprocess.run([*command, tests], cwd=COPY, env=environment, capture_output=True, text=True, check=False)
        path.write_text(text, encoding="utf-8")
        failed = {line.split()[-1] for line in ended.stderr.split("\n") if line.strip().startswith("FAIL")}
        if "error: could not compile" in ended.stderr:
            found = "does not compile"
        else:
            found = ", ".join(sorted(failed)) or "**none: it survives**"
        print(f"| {what} | {found} |", flush=True)


if __name__ == "__main__":
    main()
