#!/usr/bin/env python3
"""Registers the pairs of $RDMM_DATA by `rdmm`, ANTs (SyNCC) and greedy, measures all results by the same code, and prints a
Markdown table.

Usage: compare.py RDMM OUT [--tools rdmm,ants,greedy] [--presets lddmm,rdmm] [--sets NAME,...] [-- OPTIONS OF RDMM]

Needs the packages of crates/rdmm-io/tests/interop/requirements.txt. Maps are measured as files, with nothing of this
project: displacements are read by SimpleITK, labels and points go through them there, and folds are counted here.
"""

import argparse
import csv
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

THREADS = os.cpu_count() or 1


# What is registered: name, fixed, moving, fixed labels, moving labels, landmarks of both.


def rows(folder):
    with open(folder / "pairs.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def brains(data):
    folder = data / "brain2d_oasis"
    for row in rows(folder):
        yield [folder / f"{row[side]}.nii.gz" for side in ("fixed", "moving")], None, None


def hippocampi(data):
    folder = data / "hippocampus3d_msd"
    for row in rows(folder):
        images = [folder / f"{row[side]}_image.nii.gz" for side in ("fixed", "moving")]
        labels = [folder / f"{row[side]}_label.nii.gz" for side in ("fixed", "moving")]
        yield images, labels, None


def brain(data):
    folder = data / "brain3d_colin27_icbm152"
    names = ("icbm152", "colin27")
    images = [folder / f"{name}_t1_2mm.nii.gz" for name in names]
    yield images, [folder / f"{name}_brainmask_2mm.nii.gz" for name in names], None


def lung(data):
    folder = data / "lung2d_cine_mr"
    for row in rows(folder):
        yield [folder / row[side] for side in ("fixed", "moving")], None, None


def histology(data):
    folder = data / "histology2d_cima"
    for row in rows(folder):
        with open(folder / "landmarks_px.csv", newline="", encoding="utf-8") as file:
            points = np.array([[float(x) for x in line[1:]] for line in list(csv.reader(file))[1:]])
        yield [folder / row[side] for side in ("fixed", "moving")], None, points


SETS = {
    "brain2d_oasis": brains,
    "hippocampus3d_msd": hippocampi,
    "brain3d_colin27_icbm152": brain,
    "lung2d_cine_mr": lung,
    "histology2d_cima": histology,
}


# How it is registered: each gives the map that pulls back and its inverse, as displacement images of SimpleITK.


def prepared(path, labels=False):
    """An image as every tool reads it alike: colours as luminance, a single slice in two dimensions, without a direction."""
    image = sitk.ReadImage(str(path))
    if image.GetNumberOfComponentsPerPixel() > 1:
        channels = [sitk.VectorIndexSelectionCast(image, c, sitk.sitkFloat32) for c in range(3)]
        image = 0.299 * channels[0] + 0.587 * channels[1] + 0.114 * channels[2]
    if image.GetDimension() == 3 and image.GetSize()[2] == 1:
        image = image[:, :, 0]
    if image.GetDimension() == 2:
        image.SetDirection([1, 0, 0, 1])
        image.SetOrigin([0, 0])
    return sitk.Cast(image, sitk.sitkUInt8 if labels else sitk.sitkFloat32)


def field(path):
    return sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkVectorFloat64)


def by_rdmm(program, preset, options, fixed, moving, out):
    command = [program, "-q", "--threads", str(THREADS), "register", "--fixed", fixed, "--moving", moving]
    command += ["--preset", preset, "--out", out, *options]
    subprocess.run(list(map(str, command)), check=False)
    return field(out / "warp.nii.gz"), field(out / "inverse_warp.nii.gz")


def by_ants(fixed, moving, out):
    import ants

    images = [ants.image_read(str(path)) for path in (fixed, moving)]
    found = ants.registration(*images, type_of_transform="SyNCC", outprefix=str(out / "ants_"))
    whole = ants.apply_transforms(*images, found["fwdtransforms"], compose=str(out / "whole_"))
    back = ants.apply_transforms(*images[::-1], found["invtransforms"], compose=str(out / "back_"))
    return field(whole), field(back)


def by_greedy(fixed, moving, out):
    import picsl_greedy

    axes = sitk.ReadImage(str(fixed)).GetDimension()
    greedy = (picsl_greedy.Greedy2D if axes == 2 else picsl_greedy.Greedy3D)()
    size = "x".join(["2"] * axes)
    images = f"-threads {THREADS} -i {fixed} {moving} -m NCC {size}"
    greedy.execute(f"-a -dof 12 -ia-image-centers {images} -n 100x50x20 -o {out}/affine.mat")
    greedy.execute(f"{images} -it {out}/affine.mat -n 100x50x20 -o {out}/warp.nii.gz -oinv {out}/inv.nii.gz")
    greedy.execute(f"-rf {fixed} -r {out}/warp.nii.gz {out}/affine.mat -rc {out}/whole.nii.gz")
    greedy.execute(f"-rf {moving} -r {out}/affine.mat,-1 {out}/inv.nii.gz -rc {out}/back.nii.gz")
    return field(out / "whole.nii.gz"), field(out / "back.nii.gz")


# What is measured.


def transform(displacement):
    return sitk.DisplacementFieldTransform(sitk.Image(displacement))


def index_displacement(displacement):
    """The displacement in voxels along the axes of the image: components, then axes as SimpleITK names them."""
    axes = displacement.GetDimension()
    values = np.moveaxis(sitk.GetArrayFromImage(displacement), -1, 0).astype(float)
    direction = np.array(displacement.GetDirection()).reshape(axes, axes)
    turned = np.linalg.solve(direction * displacement.GetSpacing(), values.reshape(axes, -1))
    return turned.reshape(values.shape).transpose(0, *range(axes, 0, -1))


def folded_voxels(u):
    """Voxels with a determinant ≤ 0 by central differences, one-sided at the border."""
    axes = len(u)
    slopes = [[np.gradient(u[a], axis=b) + (a == b) for b in range(axes)] for a in range(axes)]
    return int((np.linalg.det(np.moveaxis(np.array(slopes), (0, 1), (-2, -1))) <= 0).sum())


def folded_cells(u):
    """Cells with a simplex of a determinant ≤ 0: Liu et al., doi:10.1007/s11263-024-02047-1."""
    axes = len(u)
    points = u + np.indices(u.shape[1:])
    at = lambda corner: points[(slice(None), *(slice(bit, bit - 1 or None) for bit in corner))]
    corners = list(itertools.product((0, 1), repeat=axes))
    flip = lambda corner, flipped: tuple(bit ^ (a in flipped) for a, bit in enumerate(corner))
    simplices = [(corner, [flip(corner, {a}) for a in range(axes)]) for corner in corners]
    if axes == 3:
        for corner in (corners[0], corners[-1]):
            simplices.append((corner, [flip(corner, {0, 1, 2} - {a}) for a in range(3)]))
    least = np.inf
    for base, ends in simplices:
        rest = np.linalg.det(np.array(ends, dtype=float) - np.array(base))
        edges = np.moveaxis(np.array([at(end) - at(base) for end in ends]), (0, 1), (-2, -1))
        least = np.minimum(least, np.linalg.det(edges) / rest)
    return int((least <= 0).sum())


def moved(image, like, displacement, interpolator):
    return sitk.Resample(image, like, transform(displacement), interpolator, 0.0)


def ncc(fixed, moving, displacement):
    """Correlation where the map leads into the moving image."""
    inside = moved(moving * 0 + 1, fixed, displacement, sitk.sitkNearestNeighbor)
    inside = sitk.GetArrayFromImage(inside) > 0
    warped = sitk.GetArrayFromImage(moved(moving, fixed, displacement, sitk.sitkLinear))
    return np.corrcoef(warped[inside], sitk.GetArrayFromImage(fixed)[inside])[0, 1]


def dice(fixed, moving, displacement):
    """Mean over the labels of both, without the background."""
    warped = moved(moving, fixed, displacement, sitk.sitkNearestNeighbor)
    a, b = sitk.GetArrayFromImage(fixed), sitk.GetArrayFromImage(warped)
    labels = set(np.unique(a)) & set(np.unique(sitk.GetArrayFromImage(moving))) - {0}
    return np.mean([2 * ((a == l) & (b == l)).sum() / ((a == l).sum() + (b == l).sum()) for l in labels])


def distance(points, displacement):
    """Mean distance of landmarks of the fixed image, moved, to those of the moving one: pixels."""
    there = transform(displacement)
    return np.mean([np.hypot(*(np.array(there.TransformPoint(p[:2])) - p[2:4])) for p in points])


def measured(images, labels, points, maps):
    if labels:
        found = ("Dice", dice(*[prepared(path, labels=True) for path in labels], maps[0]))
    elif points is not None:
        found = ("TRE", distance(points, maps[0]))
    else:
        found = ("NCC", ncc(*[prepared(path) for path in images], maps[0]))
    there, back = map(index_displacement, maps)
    return *found, folded_voxels(there), folded_cells(there), folded_cells(back)


def main():
    arguments = sys.argv[1:]
    options = []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, options = arguments[:at], arguments[at + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("out", type=Path)
    parser.add_argument("--tools", default="rdmm,ants,greedy")
    parser.add_argument("--presets", default="lddmm,rdmm")
    parser.add_argument("--sets", default=",".join(SETS))
    asked = parser.parse_args(arguments)
    data = Path(os.environ["RDMM_DATA"])
    runs = {}
    for tool in asked.tools.split(","):
        if tool == "rdmm":
            for preset in asked.presets.split(","):
                runs[f"rdmm {preset}"] = lambda *files, p=preset: by_rdmm(asked.program, p, options, *files)
        else:
            runs[tool] = {"ants": by_ants, "greedy": by_greedy}[tool]
    print("| set | tool | figure | folded voxels | folded cells | of the inverse | seconds |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: |", flush=True)
    for name in asked.sets.split(","):
        for tool, run in runs.items():
            found, seconds = [], 0.0
            for number, (images, labels, points) in enumerate(SETS[name](data)):
                folder = asked.out / f"{name}-{tool.replace(' ', '-')}-{number}"
                (folder / "found").mkdir(parents=True, exist_ok=True)
                files = [folder / "fixed.nii.gz", folder / "moving.nii.gz"]
                for path, file in zip(images, files):
                    sitk.WriteImage(prepared(path), str(file))
                begin = time.monotonic()
                maps = run(*files, folder / "found")
                seconds += time.monotonic() - begin
                found.append(measured(images, labels, points, maps))
            figure = f"{found[0][0]} {np.mean([one[1] for one in found]):.4f}"
            counts = [str(sum(one[k] for one in found)) for k in (2, 3, 4)]
            print(f"| {name} | {tool} | {figure} | {' | '.join(counts)} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
