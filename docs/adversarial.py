#!/usr/bin/env python3
"""Registers generated pairs that have no good map by `rdmm`, and counts what folds in the written maps: a Markdown table.

Usage: adversarial.py RDMM OUT [--first 0] [--count 400]

Noise, textures that do not agree, objects that appear, vanish, burst or change places, at odd shapes and spacings, by every
preset, with and without an affine map, with the default weight of the similarity and with ten and a thousand times as
much. Folds are counted as in compare.py, with nothing of this project.
"""

import argparse
import collections
import json
import subprocess
from pathlib import Path

import numpy as np
import SimpleITK as sitk

import compare

PRESETS = ["vsvf", "lddmm", "rdmm"]
SHAPES = {2: [(20, 20), (33, 26), (12, 60), (64, 48), (7, 41)], 3: [(12, 12, 12), (9, 16, 11), (6, 20, 14)]}


def scenes(x, random):
    """Functions of positions from 0 to 1, along the first axis of x: pairs of them are registered."""
    middle = np.sqrt(((x - 0.5) ** 2).sum(0))
    spot = lambda at, size: np.exp(-((x - np.reshape(at, (-1, *[1] * (x.ndim - 1)))) ** 2).sum(0) / size**2)
    ends = random.uniform(0.1, 0.9, (2, len(x)))
    angle = np.arctan2(x[1] - 0.5, x[0] - 0.5)
    waves = random.uniform(5, 60, len(x))
    return {
        "noise": random.random(x.shape[1:]),
        "constant but for one voxel": (middle == middle.min()) * 1.0,
        "ball": (middle < 0.3) * 1.0,
        "shell": ((middle > 0.2) & (middle < 0.35)) * 1.0,
        "dot": (middle < 0.08) * 1.0,
        "spot": spot(ends[0], 0.15),
        "another spot": spot(ends[1], 0.1),
        "two spots": spot(ends[0], 0.12) + spot(ends[1], 0.12),
        "ramp": x[0],
        "ramp back": 1 - x[0],
        "step": (x[-1] < 0.12) * 1.0,
        "far step": (x[-1] < 0.8) * 1.0,
        "gratings": np.prod([np.cos(w * along) for w, along in zip(waves, x)], axis=0),
        "stripes": np.floor(x[0] * 9) % 2,
        "crossed stripes": np.floor(x[-1] * 11) % 2,
        "star": (np.cos(5 * angle + 20 * middle) > 0) * 1.0,
        "mirrored star": (np.cos(5 * angle - 20 * middle) > 0) * 1.0,
    }


def case(seed):
    """A pair of images and the options of its registration."""
    random = np.random.default_rng([20261201, seed])
    axes = 3 if seed % 4 == 0 else 2
    shape = SHAPES[axes][random.integers(len(SHAPES[axes]))]
    x = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n for n in shape], indexing="ij"))
    both = scenes(x, random)
    names = random.choice(list(both), 2, replace=False)
    spacing = np.exp(random.uniform(-1, 1, axes)) if random.random() < 0.5 else np.ones(axes)
    images = []
    for name in names:
        image = sitk.GetImageFromArray(both[name].astype(np.float32).T)
        image.SetSpacing(spacing.tolist())
        images.append(image)
    preset, weight = PRESETS[seed // 4 % 3], [1, 10, 1000][random.integers(3)]
    # λ of the defaults.
    similarity, usual = [("lncc", 0.07), ("ncc", 0.05), ("ssd", 0.6)][random.integers(3)]
    options = ["--preset", preset, "--similarity", similarity, "--affine", ["none", "affine"][random.integers(2)]]
    if weight != 1:
        options += ["--weight", str(usual * weight)]
    return names, images, preset, weight, options


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("out", type=Path)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=400)
    asked = parser.parse_args()
    rows = collections.defaultdict(collections.Counter)
    for seed in range(asked.first, asked.first + asked.count):
        names, images, preset, weight, options = case(seed)
        folder = asked.out / str(seed)
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / "fixed.nii.gz", folder / "moving.nii.gz"]
        for image, file in zip(images, files):
            sitk.WriteImage(image, str(file))
        command = [asked.program, "-q", "register", "--fixed", files[0], "--moving", files[1], "--out", folder / "found"]
        ended = subprocess.run(list(map(str, command + options)), capture_output=True, text=True, check=False)
        row = rows[preset, weight]
        row["pairs"] += 1
        if not (folder / "found" / "warp.nii.gz").exists():
            row["refused"] += 1
            print(f"{seed} {' to '.join(names[::-1])} {' '.join(options)}: {ended.stderr.strip()}")
            continue
        maps = [compare.field(folder / "found" / f"{name}.nii.gz") for name in ("warp", "inverse_warp")]
        there, back = map(compare.index_displacement, maps)
        counts = compare.folded_voxels(there), compare.folded_cells(there), compare.folded_cells(back)
        report = json.loads((folder / "found" / "report.json").read_text())
        row["voxels"], row["cells"], row["inverse"] = (row[k] + n for k, n in zip(("voxels", "cells", "inverse"), counts))
        row["said"] += ended.returncode == 3
        row["smoothed"] += any(one["voxels"] > 0 for one in report["unfolded"].values())
        if any(counts):
            print(f"{seed} {' to '.join(names[::-1])} {' '.join(options)}: {counts} exit {ended.returncode}")
    print("| preset | weight of the similarity | pairs | no map, with an error | folded voxels | folded cells | of the inverse | exit code 3 | smoothed |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    columns = ("pairs", "refused", "voxels", "cells", "inverse", "said", "smoothed")
    for (preset, weight), row in sorted(rows.items(), key=lambda one: (PRESETS.index(one[0][0]), one[0][1])):
        print(f"| {preset} | × {weight} | {' | '.join(str(row[column]) for column in columns)} |")


if __name__ == "__main__":
    main()
