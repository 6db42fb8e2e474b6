//! Where voxels are: a lattice in the world, from the steps between them to spacing and direction.

use nalgebra::{DMatrix, SMatrix, SVector};

use crate::error::Problem;

type Result<T> = std::result::Result<T, Problem>;

/// Largest entry of |`QᵀQ` − 1| of directions that are accepted: headers hold rounded numbers. Within it
/// they are replaced by the nearest orthonormal ones.
pub(crate) const ORTHONORMAL: f64 = 1e-3;

/// A lattice in the world, axes in the order of the file (first axis fastest).
///
/// The world is ITK's: millimetres, LPS (x to the patient's left, y to the back, z to the head). Two axes
/// lie in the x-y plane.
#[derive(Clone, Debug, PartialEq)]
pub struct Geometry {
    /// Voxels an axis, two or three axes.
    pub shape: Vec<usize>,
    /// Millimetres between voxels, an axis each.
    pub spacing: Vec<f64>,
    /// World coordinates of the first voxel's centre.
    pub origin: Vec<f64>,
    /// Columns: unit vectors along the axes.
    pub direction: DMatrix<f64>,
}

/// A lattice of as many axes as are known when the code is compiled: where its voxels are, and nothing else. Unlike a
/// [`Grid`](rdmm_core::grid::Grid) it has any number of voxels an axis, as images have that are not registered.
#[derive(Clone, Debug, PartialEq)]
pub struct Lattice<const D: usize> {
    shape: [usize; D],
    spacing: [f64; D],
    origin: SVector<f64, D>,
    direction: SMatrix<f64, D, D>,
}

impl<const D: usize> Lattice<D> {
    /// Voxels along each axis.
    #[must_use]
    pub fn shape(&self) -> [usize; D] {
        self.shape
    }

    /// Number of voxels.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a lattice is never empty")]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Index of the voxel at `flat` in a volume's values, where the first axis is the fastest.
    #[must_use]
    pub fn unravel(&self, mut flat: usize) -> [usize; D] {
        self.shape.map(|n| {
            let index = flat % n;
            flat /= n;
            index
        })
    }

    /// World coordinates of a (fractional) index.
    #[must_use]
    pub fn to_world(&self, index: [f64; D]) -> [f64; D] {
        let local = SVector::<f64, D>::from_fn(|a, _| index[a] * self.spacing[a]);
        (self.origin + self.direction * local).into()
    }

    /// Fractional index of a point in world coordinates.
    #[must_use]
    pub fn to_index(&self, world: [f64; D]) -> [f64; D] {
        let local = self.direction.transpose() * (SVector::from(world) - self.origin);
        std::array::from_fn(|a| local[a] / self.spacing[a])
    }
}

impl Geometry {
    /// This lattice, of `D` axes.
    ///
    /// # Errors
    /// [`Problem::Axes`] for another dimension; [`Problem::Content`] for what is no lattice.
    ///
    /// ```
    /// # use rdmm_io::Geometry;
    /// use nalgebra::DMatrix;
    /// let geometry = Geometry {
    ///     shape: vec![48, 40, 3],
    ///     spacing: vec![1.0, 1.0, 8.0],
    ///     origin: vec![-20.0, 10.0, 5.0],
    ///     direction: DMatrix::identity(3, 3),
    /// };
    /// let lattice = geometry.lattice::<3>()?;
    /// assert_eq!(lattice.to_world([0.0, 0.0, 2.0]), [-20.0, 10.0, 21.0]);
    /// assert!(geometry.grid::<3>().is_err(), "three slices cannot be registered");
    /// # Ok::<(), rdmm_io::Problem>(())
    /// ```
    pub fn lattice<const D: usize>(&self) -> Result<Lattice<D>> {
        self.check()?;
        let axes = || Problem::Axes { expected: D, found: self.shape.len() };
        let shape = self.shape.as_slice().try_into().map_err(|_| axes())?;
        let spacing = self.spacing.as_slice().try_into().map_err(|_| axes())?;
        let origin = SVector::from_fn(|a, _| self.origin[a]);
        let direction = SMatrix::from_fn(|r, c| self.direction[(r, c)]);
        Ok(Lattice { shape, spacing, origin, direction })
    }

    /// The lattice of another spacing over the same box, which ends half a voxel beyond the outermost centres. Where the
    /// box is not a whole number of voxels it ends a part of one later, at the far end of the axis.
    ///
    /// # Errors
    /// [`Problem::Content`] unless there is a finite spacing > 0 an axis, and for more voxels than a file can hold.
    ///
    /// ```
    /// # use rdmm_io::Geometry;
    /// use nalgebra::DMatrix;
    /// let geometry = Geometry {
    ///     shape: vec![10, 20],
    ///     spacing: vec![1.0, 2.0],
    ///     origin: vec![0.0, 5.0],
    ///     direction: DMatrix::identity(2, 2),
    /// };
    /// let finer = geometry.respaced(&[0.5, 1.5])?;
    /// assert_eq!(finer.shape, [20, 27]);
    /// assert_eq!(finer.origin, [-0.25, 4.75]);
    /// # Ok::<(), rdmm_io::Problem>(())
    /// ```
    pub fn respaced(&self, spacing: &[f64]) -> Result<Self> {
        self.check()?;
        let axes = self.shape.len();
        let good = |s: &f64| s.is_finite() && *s > 0.0;
        if spacing.len() != axes || !spacing.iter().all(good) {
            let found = format!("{spacing:?} on {axes} axes");
            return Err(Problem::content("spacing", "a finite length > 0 an axis", found));
        }
        let mut found = self.clone();
        for (a, &step) in spacing.iter().enumerate() {
            // Rounding adds no voxel.
            let voxels = (self.shape[a] as f64 * self.spacing[a] / step - 1e-6).ceil().max(1.0);
            if voxels > 1e9 {
                let expected = "a spacing that leaves at most 1e9 voxels an axis";
                return Err(Problem::content(
                    "spacing",
                    expected,
                    format!("{step} along axis {a}"),
                ));
            }
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
            let voxels = voxels as usize;
            (found.shape[a], found.spacing[a]) = (voxels, step);
            for r in 0..axes {
                found.origin[r] += self.direction[(r, a)] * 0.5 * (step - self.spacing[a]);
            }
        }
        Ok(found)
    }

    /// `Ok` where the numbers of entries fit and the lattice is one.
    pub(crate) fn check(&self) -> Result<()> {
        let axes = self.shape.len();
        if !(2..=3).contains(&axes) || self.shape.contains(&0) {
            let found = format!("{:?}", self.shape);
            return Err(Problem::content("shape", "two or three axes of one voxel or more", found));
        }
        let lengths = [self.spacing.len(), self.origin.len()];
        let matrix = self.direction.shape();
        if lengths != [axes; 2] || matrix != (axes, axes) {
            let found = format!("spacing, origin and direction of {lengths:?} and {matrix:?}");
            return Err(Problem::content("geometry", "as many entries as axes", found));
        }
        let steps = &self.direction * DMatrix::from_diagonal(&self.spacing.clone().into());
        geometry(self.shape.clone(), &steps, &self.origin).map(|_| ())
    }
}

/// The lattice whose voxel `i` lies at `origin + steps · i`, in LPS millimetres.
///
/// Trailing axes of one voxel are dropped, down to two axes. Two axes in a world of three lie in its x-y
/// plane if they are orthonormal there; if not, the first axis takes the place of x and the second of y.
pub(crate) fn geometry(
    mut shape: Vec<usize>,
    steps: &DMatrix<f64>,
    origin: &[f64],
) -> Result<Geometry> {
    if let Some(axis) = shape.iter().position(|&n| n == 0) {
        return Err(Problem::content(
            "shape",
            "one voxel or more an axis",
            format!("0 along axis {axis}"),
        ));
    }
    while shape.len() > 2 && shape.last() == Some(&1) {
        shape.pop();
    }
    let axes = shape.len();
    if !(2..=3).contains(&axes) || axes > steps.nrows() || axes > steps.ncols() {
        let found = format!("the shape {shape:?} in a world of {} axes", steps.nrows());
        return Err(Problem::content(
            "image",
            "two or three axes, no more than the world's",
            found,
        ));
    }
    if let Some(found) = origin.iter().find(|x| !x.is_finite()) {
        return Err(Problem::content("origin", "finite coordinates", found));
    }
    let steps = steps.columns(0, axes);
    let spacing: Vec<f64> = steps.column_iter().map(|step| step.norm()).collect();
    for (axis, &length) in spacing.iter().enumerate() {
        if !(length.is_finite() && length > 0.0) {
            let found = format!("{length} along axis {axis}: correct the header");
            return Err(Problem::content("spacing", "a finite length > 0", found));
        }
    }
    let units = DMatrix::from_fn(steps.nrows(), axes, |r, c| steps[(r, c)] / spacing[c]);
    let inside = units.rows(0, axes).into_owned();
    if off_orthonormal(&inside) <= ORTHONORMAL {
        let (origin, direction) = (origin[..axes].to_vec(), nearest_orthonormal(inside));
        return Ok(Geometry { shape, spacing, origin, direction });
    }
    let off = off_orthonormal(&units);
    if off > ORTHONORMAL {
        let found =
            format!("axes that are off by {off:.1e}: the image is sheared, resample it first");
        return Err(Problem::content("direction", "right angles between the axes, to 1e-3", found));
    }
    let origin = units.column_iter().map(|axis| axis.iter().zip(origin).map(|(a, o)| a * o).sum());
    Ok(Geometry {
        shape,
        spacing,
        origin: origin.collect(),
        direction: DMatrix::identity(axes, axes),
    })
}

fn off_orthonormal(units: &DMatrix<f64>) -> f64 {
    let axes = units.ncols();
    (units.transpose() * units - DMatrix::identity(axes, axes)).amax()
}

/// The orthogonal factor of the polar decomposition, by Newton and Schulz: three steps take an error of
/// 1e-3 below rounding.
fn nearest_orthonormal(mut units: DMatrix<f64>) -> DMatrix<f64> {
    let axes = units.ncols();
    for _ in 0..3 {
        let gram = units.transpose() * &units;
        units *= (DMatrix::identity(axes, axes) * 3.0 - gram) * 0.5;
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounded_directions_are_made_orthonormal_and_shear_is_refused() {
        let (s, c) = 0.4_f64.sin_cos();
        let exact = DMatrix::from_row_slice(3, 3, &[c, -s, 0.0, s, c, 0.0, 0.0, 0.0, -1.0]);
        let mut rounded = exact.clone();
        rounded[(0, 1)] += 3e-4;
        let found = geometry(vec![4, 5, 6], &rounded, &[1.0, 2.0, 3.0]).unwrap();
        assert!(off_orthonormal(&found.direction) < 1e-14, "to rounding");
        assert!((&found.direction - &exact).amax() < 3e-4, "no further than what was changed");
        rounded[(0, 1)] += 3e-3;
        let error = geometry(vec![4, 5, 6], &rounded, &[1.0, 2.0, 3.0]).unwrap_err();
        assert!(error.to_string().contains("sheared"), "{error}");
    }

    #[test]
    fn axes_along_the_world_stay_exact() {
        let steps = DMatrix::from_row_slice(3, 3, &[0.0, 0.7, 0.0, -0.3, 0.0, 0.0, 0.0, 0.0, 1.1]);
        let found = geometry(vec![4, 5, 6], &steps, &[0.0; 3]).unwrap();
        let unit = [0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0];
        assert_eq!(found.direction, DMatrix::from_row_slice(3, 3, &unit));
        assert_eq!(found.spacing, [0.3, 0.7, 1.1]);
    }

    #[test]
    fn a_slice_across_the_world_keeps_its_own_axes() {
        // i along y, j along z.
        let steps = DMatrix::from_row_slice(3, 3, &[0.0, 0.0, 4.0, 2.0, 0.0, 0.0, 0.0, 3.0, 0.0]);
        let found = geometry(vec![5, 6, 1], &steps, &[7.0, 8.0, 9.0]).unwrap();
        assert_eq!(found.shape, [5, 6]);
        assert_eq!(found.spacing, [2.0, 3.0]);
        assert_eq!(found.origin, [8.0, 9.0]);
        assert_eq!(found.direction, DMatrix::identity(2, 2));
    }

    #[test]
    fn a_zero_step_names_its_axis() {
        let steps = DMatrix::from_row_slice(3, 3, &[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
        let error = geometry(vec![4, 5, 6], &steps, &[0.0; 3]).unwrap_err();
        assert!(error.to_string().contains("axis 1"), "{error}");
    }
}
