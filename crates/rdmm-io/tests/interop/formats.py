"""Files for and from SimpleITK and nibabel, with what these two see in them.

formats.py write FOLDER            files of all formats, each with a description
formats.py describe FOLDER FILE..  descriptions of given files
formats.py check FOLDER            compares every described file of FOLDER with its description

A description of `a.nii` is `a.nii.txt` (key: numbers) and `a.nii.npy` (values: components, then the axes
of the file, the last of them first).
"""

import pathlib
import sys

import nibabel
import numpy as np
import SimpleITK as sitk

TYPES = {
    "U8": np.uint8, "I8": np.int8, "U16": np.uint16, "I16": np.int16, "U32": np.uint32,
    "I32": np.int32, "U64": np.uint64, "I64": np.int64, "F32": np.float32, "F64": np.float64,
}  # fmt: skip
NAMES = {np.dtype(numpy): name for name, numpy in TYPES.items()}
# Headers of NIfTI hold single precision.
TOLERANCE = 1e-5


def turn(axes, flip):
    """An oblique direction, left-handed if `flip`."""
    matrix = np.eye(axes)
    for a, b in [(0, 1), (1, 2), (0, 2)]:
        if b < axes:
            plane = np.eye(axes)
            plane[a, a] = plane[b, b] = np.cos(0.4)
            plane[a, b], plane[b, a] = -np.sin(0.4), np.sin(0.4)
            matrix = matrix @ plane
    if flip:
        matrix[:, -1] *= -1
    return matrix


def image(axes, kind, components=1, flip=False, seed=0):
    """A SimpleITK image of 7 x 6 (x 5) voxels."""
    random = np.random.default_rng(seed)
    shape = [5, 6, 7][3 - axes :] + ([components] if components > 1 else [])
    dtype = np.dtype(TYPES[kind])
    if dtype.kind == "f":
        values = random.normal(size=shape).astype(dtype)
    else:
        info = np.iinfo(dtype)
        low, high = max(info.min, -(2**52)), min(info.max, 2**52)
        values = random.integers(low, high, size=shape, endpoint=True).astype(dtype)
    found = sitk.GetImageFromArray(values, isVector=components > 1)
    found.SetSpacing([0.8, 1.7, 2.9][:axes])
    found.SetOrigin([-31.5, 12.25, 100.125][:axes])
    found.SetDirection(turn(axes, flip).ravel().tolist())
    return found


def values_of(found):
    values = sitk.GetArrayFromImage(found)
    if found.GetNumberOfComponentsPerPixel() > 1:
        return np.moveaxis(values, -1, 0)
    return values[None]


def text_of(found):
    """Shape, lattice, type, and where the last voxel lies."""
    size = found.GetSize()
    kind = NAMES[sitk.GetArrayViewFromImage(found).dtype]
    last = found.TransformIndexToPhysicalPoint([n - 1 for n in size])
    direction = np.array(found.GetDirection()).reshape(len(size), len(size)).T.ravel()
    entries = {
        "shape": size,
        "spacing": found.GetSpacing(),
        "origin": found.GetOrigin(),
        "direction": direction,
        "last": last,
        "components": [found.GetNumberOfComponentsPerPixel()],
    }
    lines = [f"{key}: {' '.join(repr(float(x)) for x in entry)}" for key, entry in entries.items()]
    return "\n".join([*lines, f"sample: {kind}"]) + "\n"


def describe(folder, name, found):
    (folder / f"{name}.txt").write_text(text_of(found))
    np.save(folder / f"{name}.npy", values_of(found).astype(np.float64))


def write(folder):
    for ending in ["nii", "nii.gz", "nrrd", "nhdr", "mha", "mhd"]:
        for axes in [2, 3]:
            for seed, kind in enumerate(TYPES):
                name = f"{kind}_{axes}.{ending}"
                found = image(axes, kind, seed=seed)
                sitk.WriteImage(found, str(folder / name), useCompression=seed % 2 == 0)
                describe(folder, name, sitk.ReadImage(str(folder / name)))
            for flip in [False, True]:
                name = f"vectors_{axes}_{int(flip)}.{ending}"
                found = image(axes, "F32", components=axes, flip=flip)
                sitk.WriteImage(found, str(folder / name), useCompression=flip)
                describe(folder, name, sitk.ReadImage(str(folder / name)))
    for kind in ["U8", "U16"]:
        for components in [1, 3, 4]:
            name = f"{kind}_{components}.png"
            found = image(2, kind, components=components)
            found.SetSpacing([1, 1])
            found.SetOrigin([0, 0])
            found.SetDirection([1, 0, 0, 1])
            sitk.WriteImage(found, str(folder / name))
            describe(folder, name, found)
    write_by_nibabel(folder)


def write_by_nibabel(folder):
    """Second version, big endian, slopes, quaternions, pairs: as SimpleITK reads them."""
    random = np.random.default_rng(7)
    data = random.integers(-1000, 1000, size=(7, 6, 5)).astype(np.int16)
    affine = np.eye(4)
    affine[:3, :3] = turn(3, True) @ np.diag([0.8, 1.7, 2.9])
    affine[:3, 3] = [5, -6, 7]
    cases = {
        "plain.nii.gz": nibabel.Nifti1Image(data, affine),
        "pair.hdr": nibabel.Nifti1Pair(data, affine),
        "big.nii": nibabel.Nifti1Image(data, affine, nibabel.Nifti1Header(endianness=">")),
        "second.nii.gz": nibabel.Nifti2Image(data, affine),
        "second_big.nii": nibabel.Nifti2Image(data, affine, nibabel.Nifti2Header(endianness=">")),
        "quaternion.nii": nibabel.Nifti1Image(data, None),
        "spacing.nii": nibabel.Nifti1Image(data, None),
        "microns.nii": nibabel.Nifti1Image(data, affine),
        "slope.nii": nibabel.Nifti1Image(random.normal(size=(7, 6, 5)) * 40, affine),
    }
    cases["quaternion.nii"].set_qform(affine, 1)
    cases["quaternion.nii"].set_sform(None, 0)
    cases["spacing.nii"].header.set_zooms([2, 3, 4])
    cases["microns.nii"].header.set_xyzt_units("micron")
    cases["slope.nii"].set_data_dtype(np.int16)
    for name, found in cases.items():
        nibabel.save(found, folder / name)
        # The second version by nibabel itself: not every SimpleITK reads it.
        if name.startswith("second"):
            describe(folder, name, by_nibabel(folder / name))
        else:
            describe(folder, name, sitk.ReadImage(str(folder / name)))


def by_nibabel(path):
    """A file of NIfTI as an image of SimpleITK, by its affine map."""
    file = nibabel.load(path)
    values = np.asanyarray(file.dataobj)
    if values.dtype.fields:
        values = np.stack([values[name] for name in values.dtype.names], axis=-1)
    elif values.ndim == 5:
        values = values[:, :, :, 0]
    vector = bool(file.header["dim"][0] == 5 or file.header["datatype"] in (128, 2304))
    space = values.ndim - vector
    if space == 3 and values.shape[2] == 1:
        values, space = values[:, :, 0], 2
    order = [*range(space)][::-1] + [space] * vector
    values = values.transpose(order).astype(values.dtype.newbyteorder("="))
    found = sitk.GetImageFromArray(values, isVector=vector)
    affine = np.diag([-1, -1, 1, 1]) @ file.affine
    steps = affine[:space, :space]
    spacing = np.linalg.norm(steps, axis=0)
    found.SetSpacing(spacing.tolist())
    found.SetDirection((steps / spacing).ravel().tolist())
    found.SetOrigin(affine[:space, 3].tolist())
    return found


def entries_of(text):
    return dict(line.split(": ", 1) for line in text.splitlines())


def compare(name, expected, values, found):
    got = entries_of(text_of(found))
    for key, entry in expected.items():
        if key == "sample":
            assert got[key] == entry, f"{name}: {key} {got[key]} for {entry}"
            continue
        numbers = [np.array(text.split(), dtype=float) for text in (got[key], entry)]
        close = len(numbers[0]) == len(numbers[1]) and np.allclose(*numbers, rtol=0, atol=TOLERANCE)
        assert close, f"{name}: {key} {got[key]} for {entry}"
    seen = values_of(found)
    assert seen.shape == values.shape, f"{name}: {seen.shape} for {values.shape}"
    assert np.array_equal(seen.astype(np.float64), values), f"{name}: values"


def check(folder):
    count = 0
    for description in sorted(folder.glob("*.txt")):
        name = description.name.removesuffix(".txt")
        expected = entries_of(description.read_text())
        values = np.load(folder / f"{name}.npy")
        shape = [int(float(n)) for n in expected["shape"].split()]
        values = values.reshape([int(float(expected["components"])), *shape[::-1]]).astype(np.float64)
        path = folder / name
        # ITK takes components that are no vectors for a fifth axis, and does not read the second version.
        foreign = ".nii" in name and name.startswith(("list", "second"))
        if not foreign:
            compare(name, expected, values, sitk.ReadImage(str(path)))
        if ".nii" in name:
            compare(name + " (nibabel)", expected, values, by_nibabel(path))
            qform, sform = nibabel.load(path).get_qform(), nibabel.load(path).get_sform()
            # The quaternion is in single precision, and a small first entry of it comes from the others.
            assert np.allclose(qform, sform, atol=2e-3), f"{name}: {qform} and {sform}"
        count += 1
    print(f"{count} files")
    assert count > 0, "no descriptions"


def main():
    command, folder, *files = sys.argv[1:]
    folder = pathlib.Path(folder)
    if command == "write":
        write(folder)
    elif command == "describe":
        for index, path in enumerate(files):
            describe(folder, str(index), sitk.ReadImage(path))
    elif command == "check":
        check(folder)
    else:
        sys.exit(__doc__)


main()
