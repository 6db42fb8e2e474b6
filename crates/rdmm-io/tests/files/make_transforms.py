"""Composite transforms as SimpleITK writes them, and where it takes points: the numbers of `tests/composites.rs`.

Run in this folder, with SimpleITK 2.5.7: python make_transforms.py
"""

import numpy as np
import SimpleITK as sitk

affine = sitk.AffineTransform(3)
affine.SetMatrix((1.1, 0.2, 0, -0.1, 0.9, 0.1, 0, 0.2, 1.2))
affine.SetTranslation((3, -8, 12))
affine.SetCenter((5, 6, 7))

# Vectors of a formula, in single precision, so that nothing is lost: 5 x 4 x 6 voxels, turned and away from zero.
k, j, i = np.meshgrid(np.arange(6), np.arange(4), np.arange(5), indexing="ij")
vectors = np.stack([np.sin(i + 0.5 * j), 0.25 * k - 0.5, np.cos(j * k)], -1).astype(np.float32).astype(float)
field = sitk.GetImageFromArray(vectors, isVector=True)
field.SetSpacing((2, 2.5, 3))
field.SetOrigin((-5, -6, -7))
field.SetDirection((0, -1, 0, 1, 0, 0, 0, 0, 1))
field = sitk.DisplacementFieldTransform(field)

turn = sitk.Euler3DTransform((1, 2, 3), 0.1, -0.2, 0.3, (4, 5, 6))

composite = sitk.CompositeTransform(3)
for part in (turn, affine, field):
    composite.AddTransform(part)
for ending in ("h5", "tfm"):
    sitk.WriteTransform(composite, f"composite.{ending}")
sitk.WriteTransform(field, "field.tfm")
sitk.WriteTransform(turn, "turn.h5")

for point in ((-7, -1, 2), (-9.5, 0.25, -4), (1, 2, 3)):
    for name, transform in (("composite", composite), ("field", field), ("turn", turn)):
        print(name, point, list(transform.TransformPoint(point)))
