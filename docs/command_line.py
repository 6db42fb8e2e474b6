#!/usr/bin/env python3
"""Registers the pairs of $RDMM_DATA by `rdmm register` and prints a Markdown table.

Usage: command_line.py RDMM OUT, with the path of the program and a folder for the results. Needs Python alone.
"""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

PRESETS = ["vsvf", "lddmm", "rdmm"]


def pairs(folder):
    """The pairs of a set, as paths without endings."""
    with open(folder / "pairs.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield folder / row["fixed"], folder / row["moving"]


def oasis(data):
    for fixed, moving in pairs(data / "brain2d_oasis"):
        yield f"{fixed}.nii.gz", f"{moving}.nii.gz", []


def hippocampi(data):
    for fixed, moving in pairs(data / "hippocampus3d_msd"):
        labels = ["--fixed-labels", f"{fixed}_label.nii.gz", "--moving-labels", f"{moving}_label.nii.gz"]
        yield f"{fixed}_image.nii.gz", f"{moving}_image.nii.gz", labels


def brain(data):
    folder = data / "brain3d_colin27_icbm152"
    image = lambda name: f"{folder}/{name}_t1_2mm.nii.gz"
    mask = lambda name: f"{folder}/{name}_brainmask_2mm.nii.gz"
    labels = ["--fixed-labels", mask("icbm152"), "--moving-labels", mask("colin27")]
    yield image("icbm152"), image("colin27"), labels


# Name, pairs, what is measured, further options.
SETS = [
    ("2-D brains", oasis, "ncc_after", ["--similarity", "ssd"]),
    ("2-D brains", oasis, "ncc_after", []),
    ("hippocampi", hippocampi, "dice_whole_after", []),
    ("3-D brains", brain, "dice_whole_after", []),
    ("3-D brains", brain, "dice_whole_after", ["--affine", "none"]),
]


def main():
    program, out = sys.argv[1], Path(sys.argv[2])
    data = Path(os.environ["RDMM_DATA"])
    print("| set | preset, options | figure | pairs | folds | smallest det | exit codes | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for number, (name, listed, figure, options) in enumerate(SETS):
        for preset in PRESETS:
            reports, codes = [], []
            for index, (fixed, moving, labels) in enumerate(listed(data)):
                folder = out / f"{number}-{preset}-{index}"
                command = [program, "-q", "register", "--fixed", fixed, "--moving", moving]
                command += ["--preset", preset, "--out", folder, *labels, *options]
                codes.append(subprocess.run(command, check=False).returncode)
                reports.append(json.loads((folder / "report.json").read_text(encoding="utf-8")))
            values = [report[figure] for report in reports]
            cells = [
                name,
                " ".join([preset, *options]),
                f"{figure.removesuffix('_after').replace('_', ' ')} {sum(values) / len(values):.4f}",
                str(len(values)),
                str(sum(report["folds"] for report in reports)),
                f"{min(report['min_det'] for report in reports):.3f}",
                " ".join(map(str, sorted(set(codes)))),
                f"{sum(report['seconds'] for report in reports):.1f}",
            ]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
