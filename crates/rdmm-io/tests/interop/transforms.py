"""What SimpleITK, ANTs, nitransforms, fslpy and greedy make of the files in a folder.

tests/interop_transforms.rs writes the files, runs `transforms.py FOLDER` and compares: a point p of points.csv
that one of them moves stands in the same row of a file in FOLDER/theirs. Each package that is missing is named and
left out.
"""

import csv
import sys
from pathlib import Path

import numpy as np

LPS = np.array([-1.0, -1.0, 1.0])


def read_points(path):
    """Rows of a CSV with the header x,y,z,t."""
    with open(path) as file:
        return np.array([[float(row[name]) for name in "xyz"] for row in csv.DictReader(file)])


class Case:
    """A folder of one pair of images: files of ours, and results."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.dimension = int(self.folder.name[0])
        self.out = self.folder / "theirs"
        self.out.mkdir(exist_ok=True)
        self.points = read_points(self.folder / "points.csv")[:, : self.dimension]
        self.voxels = read_points(self.folder / "voxels.csv")[:, : self.dimension]

    def path(self, name):
        return str(self.folder / name)

    def lists(self):
        """Names of lists, and their files and flags in the notation of ANTs."""
        for line in (self.folder / "lists.txt").read_text().splitlines():
            name, *listed = line.split("\t")
            flags = [entry.startswith("[") and entry.endswith(",1]") for entry in listed]
            files = [entry[1:-3] if entry.startswith("[") else entry for entry in listed]
            yield name, [self.path(file) for file in files], flags

    def write_points(self, name, points):
        with open(self.out / f"{name}.csv", "w") as file:
            file.write("x,y,z,t\n")
            for point in points:
                whole = list(point) + [0.0] * (3 - len(point)) + [0.0]
                file.write(",".join(repr(float(x)) for x in whole) + "\n")


def simpleitk(case):
    import SimpleITK as sitk

    d = case.dimension

    def through(transform, points=case.points):
        return [transform.TransformPoint([float(x) for x in point]) for point in points]

    def field(name):
        image = sitk.ReadImage(case.path(name), sitk.sitkVectorFloat64)
        assert image.GetDimension() == d and image.GetNumberOfComponentsPerPixel() == d, name
        return sitk.DisplacementFieldTransform(image)

    for ending in ["nii.gz", "nrrd", "mha"]:
        case.write_points(f"sitk_warp_{ending}", through(field(f"warp.{ending}")))
    for ending in ["txt", "mat"]:
        transform = sitk.ReadTransform(case.path(f"affine.{ending}"))
        case.write_points(f"sitk_affine_{ending}", through(transform))
    # Ours carried back by the inverse of the warp, and forth by the warp.
    back = read_points(case.folder / "inverted.csv")[:, :d]
    case.write_points("sitk_there", through(field("warp.nii.gz"), back))
    back = through(field("inverse.nii.gz"))
    case.write_points("sitk_there_field", through(field("warp.nii.gz"), back))

    fixed, moving = (sitk.ReadImage(case.path(f"{name}.nii.gz")) for name in ["fixed", "moving"])
    whole = sitk.CompositeTransform(d)
    whole.AddTransform(sitk.ReadTransform(case.path("affine.mat")))
    whole.AddTransform(field("warp.nii.gz"))
    warped = sitk.Resample(moving, fixed, whole, sitk.sitkLinear, 0.0, sitk.sitkFloat64)
    sitk.WriteImage(warped, str(case.out / "sitk_warped.nii.gz"))
    # A displacement field of theirs: the warp as a function of the voxels of another grid.
    theirs = sitk.TransformToDisplacementField(
        whole, sitk.sitkVectorFloat64, moving.GetSize(), moving.GetOrigin(), moving.GetSpacing(), moving.GetDirection()
    )
    for ending in ["nii.gz", "nii", "nrrd", "mha"]:
        sitk.WriteImage(theirs, str(case.out / f"sitk_field.{ending}"))
    case.write_points("sitk_field", through(sitk.DisplacementFieldTransform(theirs)))

    # Every class that is read, with a centre where it has one.
    random = np.random.default_rng(1)
    centre = random.normal(size=d) * 20
    shift = random.normal(size=d) * 5
    matrix = (np.eye(d) + 0.2 * random.normal(size=(d, d))).ravel()
    scale = sitk.ScaleTransform(d, list(1 + 0.3 * random.random(d)))
    scale.SetCenter(centre)
    transforms = {
        "affine": sitk.AffineTransform(matrix, shift, centre),
        "translation": sitk.TranslationTransform(d, shift),
        "identity": sitk.Transform(d, sitk.sitkIdentity),
        "scale": scale,
    }
    if d == 2:
        transforms["euler"] = sitk.Euler2DTransform(centre, 0.7, shift)
        transforms["similarity"] = sitk.Similarity2DTransform(1.2, -0.4, shift, centre)
    else:
        axis = [0.3, -0.5, 0.8]
        transforms["euler"] = sitk.Euler3DTransform(centre, 0.3, -0.2, 0.5, shift)
        turned = sitk.Euler3DTransform(centre, 0.3, -0.2, 0.5, shift)
        turned.SetComputeZYX(True)
        transforms["euler_zyx"] = turned
        transforms["versor"] = sitk.VersorTransform(axis, 0.9)
        transforms["versor_rigid"] = sitk.VersorRigid3DTransform(axis, 0.9, shift, centre)
        scales, skew = [1.1, 0.8, 1.3], [0.1, -0.05, 0.02, 0.04, 0.0, -0.1]
        transforms["scale_versor"] = sitk.ScaleVersor3DTransform(scales, axis, 0.9, shift, centre)
        transforms["scale_skew"] = sitk.ScaleSkewVersor3DTransform(scales, skew, axis, 0.9, shift, centre)
        transforms["similarity"] = sitk.Similarity3DTransform(0.8, axis, 0.9, shift, centre)
    for name, transform in transforms.items():
        case.write_points(f"class_{name}", through(transform))
        for ending in ["txt", "tfm", "mat"]:
            sitk.WriteTransform(transform, str(case.out / f"class_{name}.{ending}"))
    composite = sitk.CompositeTransform(d)
    for name in ["affine", "translation", "euler"]:
        composite.AddTransform(transforms[name])
    case.write_points("class_composite", through(composite))
    sitk.WriteTransform(composite, str(case.out / "class_composite.txt"))
    return f"SimpleITK {sitk.Version_VersionString()}"


def antspy(case):
    import ants
    import pandas

    d = case.dimension
    fixed, moving = (ants.image_read(case.path(f"{name}.nii.gz")) for name in ["fixed", "moving"])
    table = pandas.read_csv(case.path("points.csv"))
    for name, files, flags in case.lists():
        moved = ants.apply_transforms_to_points(d, table, files, whichtoinvert=flags)
        case.write_points(f"ants_{name}", moved[["x", "y", "z"][:d]].to_numpy())
        warped = ants.apply_transforms(
            fixed, moving, files, interpolator="linear", whichtoinvert=flags, singleprecision=False
        )
        ants.image_write(warped, str(case.out / f"ants_{name}.nii.gz"))
    # The pair of warp and affine map on a grid larger than the warp's.
    larger = ants.image_read(case.path("larger.nii.gz"))
    files = [case.path("warp.nii.gz"), case.path("affine.mat")]
    warped = ants.apply_transforms(larger, moving, files, interpolator="linear", singleprecision=False)
    ants.image_write(warped, str(case.out / "ants_larger.nii.gz"))
    random = np.random.default_rng(2)
    affine = ants.create_ants_transform(
        transform_type="AffineTransform",
        dimension=d,
        matrix=np.eye(d) + 0.2 * random.normal(size=(d, d)),
        translation=random.normal(size=d) * 5,
        center=random.normal(size=d) * 20,
    )
    ants.write_transform(affine, str(case.out / "ants_class.mat"))
    moved = ants.apply_transforms_to_points(d, table, [str(case.out / "ants_class.mat")], whichtoinvert=[False])
    case.write_points("ants_class", moved[["x", "y", "z"][:d]].to_numpy())
    # A warp of a registration of theirs.
    found = ants.registration(
        fixed,
        moving,
        type_of_transform="SyNOnly",
        initial_transform=[case.path("affine.mat")],
        outprefix=str(case.out / "registered"),
        reg_iterations=(4, 0),
    )
    forward = found["fwdtransforms"]
    moved = ants.apply_transforms_to_points(d, table, forward, whichtoinvert=[False] * len(forward))
    case.write_points("ants_registered", moved[["x", "y", "z"][:d]].to_numpy())
    (case.out / "ants_registered.txt").write_text("\n".join(forward))
    return f"ANTsPy {ants.__version__}"


def nitransforms(case):
    import nitransforms as nt
    from nitransforms.nonlinear import DenseFieldTransform

    if case.dimension == 3:
        for ending in ["txt", "mat"]:
            affine = nt.linear.load(case.path(f"affine.{ending}"), fmt="itk")
            case.write_points(f"nitransforms_affine_{ending}", affine.map(case.points * LPS) * LPS)
        warp = DenseFieldTransform.from_filename(case.path("warp.nii.gz"), fmt="itk")
        case.write_points("nitransforms_warp", warp.map(case.voxels * LPS) * LPS)
    return f"nitransforms {nt.__version__}"


def fslpy(case):
    import fsl.version
    from fsl.data.image import Image
    from fsl.transform import affine, flirt, fnirt, nonlinear

    if case.dimension == 3:
        fixed, moving = (Image(case.path(f"{name}.nii.gz")) for name in ["fixed", "moving"])
        to_fixed = flirt.fromFlirt(flirt.readFlirt(case.path("flirt.mat")), moving, fixed, "world", "world")
        moved = affine.transform(case.points * LPS, affine.invert(to_fixed))
        case.write_points("fsl_affine", moved * LPS)
        matrix = flirt.toFlirt(to_fixed, moving, fixed, "world", "world")
        flirt.writeFlirt(matrix, str(case.out / "flirt.mat"))
        field = fnirt.readFnirt(case.path("fnirt.nii.gz"), moving, fixed, defType="relative")
        assert isinstance(field, nonlinear.DeformationField)
        world = nonlinear.convertDeformationSpace(field, "world", "world")
        moved = world.transform(case.voxels * LPS, "world", "world")
        case.write_points("fsl_warp", moved * LPS)
        fnirt.toFnirt(world).save(str(case.out / "fnirt.nii.gz"))
    return f"fslpy {fsl.version.__version__}"


def greedy(case):
    import importlib.metadata

    import picsl_greedy
    import SimpleITK as sitk

    program = picsl_greedy.Greedy2D() if case.dimension == 2 else picsl_greedy.Greedy3D()
    program.execute(
        f"-d {case.dimension} -rf {case.path('fixed.nii.gz')} -ri LINEAR "
        f"-rm {case.path('moving.nii.gz')} {case.out / 'greedy_warped.nii.gz'} -r {case.path('warp.nii.gz')}"
    )
    return f"picsl_greedy {importlib.metadata.version('picsl_greedy')}"


def main():
    ran = {}
    for folder in sys.argv[1:]:
        case = Case(folder)
        for package in [simpleitk, antspy, nitransforms, fslpy, greedy]:
            try:
                ran[package.__name__] = package(case)
            except ImportError as error:
                print(f"left out: {package.__name__}: {error}")
    Path(sys.argv[1]).parent.joinpath("ran.txt").write_text("\n".join(ran))
    print("with", ", ".join(ran.values()))


if __name__ == "__main__":
    main()
