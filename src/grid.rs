//! The grid: shape, spacing, origin, direction and boundary of a lattice of voxels.

use nalgebra::{SMatrix, SVector};

use crate::error::{Error, Result};

/// How fields continue beyond the grid, the same for every operator on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Boundary {
    /// Fields repeat.
    Periodic,
    /// Fields are mirrored at the faces of the outermost voxels (half-sample symmetry, cosine basis).
    #[default]
    Reflecting,
    /// Momentum is zero outside and smoothing happens in free space: the Gaussians see no border.
    /// Weights, images and maps are mirrored, as for [`Boundary::Reflecting`].
    Free,
}

impl Boundary {
    /// The boundary of weights, images and maps on such a grid: they do not vanish outside.
    #[must_use]
    pub fn of_weights(self) -> Self {
        match self {
            Self::Periodic => Self::Periodic,
            Self::Reflecting | Self::Free => Self::Reflecting,
        }
    }

    /// All boundaries, for tests and tables.
    pub const ALL: [Self; 3] = [Self::Periodic, Self::Reflecting, Self::Free];
}

/// Fewest voxels along an axis: the support of cubic splines and of fourth-order differences.
pub const MIN_VOXELS: usize = 4;

/// Most voxels of a grid.
pub const MAX_VOXELS: usize = 1 << 31;

/// Spacings whose volumes and squares are neither zero nor infinite.
const SPACINGS: std::ops::RangeInclusive<f64> = 1e-50..=1e50;

/// Largest deviation of a direction matrix from orthonormality: headers in single precision keep it.
const ORTHONORMAL: f64 = 1e-4;

/// A `D`-dimensional lattice of voxels in physical space.
///
/// Buffers over a grid are contiguous in C order: the last axis is the fastest. Components of vectors
/// follow the order of the array axes and are lengths along these axes, in physical units. Voxel
/// `i` has its centre at `origin + direction · (i ⊙ spacing)`; the grid reaches half a voxel further
/// than its outermost centres, and `extent = shape ⊙ spacing`.
///
/// ```
/// use rdmm_core::grid::Grid;
/// let grid = Grid::new([128, 96], [1.0, 1.5])?;
/// assert_eq!(grid.len(), 128 * 96);
/// assert_eq!(grid.extent(), [128.0, 144.0]);
/// assert!(Grid::new([128, 96], [1.0, -1.5]).is_err());
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "stored::Stored<D>"))]
pub struct Grid<const D: usize> {
    #[cfg_attr(feature = "serde", serde(with = "crate::scalar::serde_array"))]
    shape: [usize; D],
    #[cfg_attr(feature = "serde", serde(with = "crate::scalar::serde_array"))]
    spacing: [f64; D],
    origin: SVector<f64, D>,
    direction: SMatrix<f64, D, D>,
    boundary: Boundary,
}

impl<const D: usize> Grid<D> {
    /// A grid with its origin at zero, axes along the world's and a reflecting boundary.
    ///
    /// # Errors
    /// [`Error::AxisTooShort`] under [`MIN_VOXELS`] voxels, [`Error::GridTooLarge`] over
    /// [`MAX_VOXELS`], [`Error::Spacing`] unless each spacing lies between 1e-50 and 1e50.
    pub fn new(shape: [usize; D], spacing: [f64; D]) -> Result<Self> {
        if D == 0 {
            return Err(Error::Length { what: "axes of a grid", expected: 1, found: 0 });
        }
        for (axis, &found) in shape.iter().enumerate() {
            if found < MIN_VOXELS {
                return Err(Error::AxisTooShort { axis, expected: MIN_VOXELS, found });
            }
        }
        let len = shape.iter().try_fold(1usize, |len, &n| len.checked_mul(n));
        if len.is_none_or(|len| len > MAX_VOXELS) {
            return Err(Error::GridTooLarge { expected: MAX_VOXELS, found: format!("{shape:?}") });
        }
        for (axis, &found) in spacing.iter().enumerate() {
            if !SPACINGS.contains(&found) {
                return Err(Error::Spacing { axis, found });
            }
        }
        let (origin, direction) = (SVector::zeros(), SMatrix::identity());
        Ok(Self { shape, spacing, origin, direction, boundary: Boundary::default() })
    }

    /// A grid of `shape` whose longest extent is one: the unit of the paper's settings.
    ///
    /// # Errors
    /// Those of [`Grid::new`].
    pub fn unit(shape: [usize; D]) -> Result<Self> {
        let longest = shape.iter().copied().max().unwrap_or(1).max(1);
        Self::new(shape, [1.0 / longest as f64; D])
    }

    /// The same grid with the centre of voxel 0 at `origin`, in world coordinates.
    ///
    /// # Errors
    /// [`Error::NonFinite`] for a coordinate that is NaN or infinite.
    pub fn with_origin(mut self, origin: [f64; D]) -> Result<Self> {
        if let Some(index) = origin.iter().position(|x| !x.is_finite()) {
            return Err(Error::NonFinite { what: "origin", index, found: origin[index] });
        }
        self.origin = origin.into();
        Ok(self)
    }

    /// The same grid with array axis `a` along column `a` of `direction`.
    ///
    /// # Errors
    /// [`Error::Direction`] unless the matrix is orthonormal to 1e-4.
    pub fn with_direction(mut self, direction: SMatrix<f64, D, D>) -> Result<Self> {
        let off = direction.transpose() * direction - SMatrix::<f64, D, D>::identity();
        let found = off.iter().fold(0.0, |m, x| crate::space::nan_max(m, x.abs()));
        if found.is_nan() || found > ORTHONORMAL {
            return Err(Error::Direction { expected: ORTHONORMAL, found });
        }
        self.direction = direction;
        Ok(self)
    }

    /// The same grid with array axis `a` along the world direction `axes[a]`: [`Grid::with_direction`] with plain
    /// arrays.
    ///
    /// # Errors
    /// [`Error::Direction`] unless the directions are orthonormal to 1e-4.
    ///
    /// ```
    /// use rdmm_core::grid::Grid;
    /// let grid = Grid::new([8, 8], [1.0, 2.0])?.with_axes([[0.0, 1.0], [1.0, 0.0]])?;
    /// assert_eq!(grid.to_world([1.0, 3.0]), [6.0, 1.0]);
    /// assert_eq!(grid.axes()[0], [0.0, 1.0]);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn with_axes(self, axes: [[f64; D]; D]) -> Result<Self> {
        self.with_direction(SMatrix::from_fn(|c, a| axes[a][c]))
    }

    /// The same grid with another boundary.
    #[must_use]
    pub fn with_boundary(mut self, boundary: Boundary) -> Self {
        self.boundary = boundary;
        self
    }

    /// Voxels along each array axis.
    #[must_use]
    pub fn shape(&self) -> [usize; D] {
        self.shape
    }

    /// Distance of voxel centres along each array axis, in physical units.
    #[must_use]
    pub fn spacing(&self) -> [f64; D] {
        self.spacing
    }

    /// World coordinates of the centre of voxel 0.
    #[must_use]
    pub fn origin(&self) -> [f64; D] {
        self.origin.into()
    }

    /// Column `a` is the world direction of array axis `a`.
    #[must_use]
    pub fn direction(&self) -> &SMatrix<f64, D, D> {
        &self.direction
    }

    /// The world direction of each array axis.
    #[must_use]
    pub fn axes(&self) -> [[f64; D]; D] {
        std::array::from_fn(|a| self.direction.column(a).into_owned().into())
    }

    /// How fields continue beyond the grid.
    #[must_use]
    pub fn boundary(&self) -> Boundary {
        self.boundary
    }

    /// Number of voxels.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a grid is never empty")]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Volume of one voxel.
    #[must_use]
    pub fn cell_volume(&self) -> f64 {
        self.spacing.iter().product()
    }

    /// Volume of the whole grid.
    #[must_use]
    pub fn volume(&self) -> f64 {
        self.cell_volume() * self.len() as f64
    }

    /// Lengths of the sides, border voxels included.
    #[must_use]
    pub fn extent(&self) -> [f64; D] {
        std::array::from_fn(|a| self.shape[a] as f64 * self.spacing[a])
    }

    /// Longest side: the unit in which default lengths are stated.
    #[must_use]
    pub fn largest_extent(&self) -> f64 {
        self.extent().into_iter().fold(0.0, f64::max)
    }

    /// Coarsest spacing of the axes.
    #[must_use]
    pub fn coarsest_spacing(&self) -> f64 {
        self.spacing.into_iter().fold(0.0, f64::max)
    }

    /// How a buffer is walked along `axis`: `(outer, n, inner)`, element `i` of a lane lies at
    /// `(o·n + i)·inner + k`.
    ///
    /// # Panics
    /// If `axis` is not less than `D`.
    #[must_use]
    pub fn lanes(&self, axis: usize) -> (usize, usize, usize) {
        let outer = self.shape[..axis].iter().product();
        let inner = self.shape[axis + 1..].iter().product();
        (outer, self.shape[axis], inner)
    }

    /// Distance in the buffer of neighbours along each axis.
    #[must_use]
    pub fn strides(&self) -> [usize; D] {
        std::array::from_fn(|a| self.lanes(a).2)
    }

    /// Array index of the voxel at `flat` in the buffer.
    #[must_use]
    pub fn unravel(&self, mut flat: usize) -> [usize; D] {
        let mut index = [0; D];
        for a in (0..D).rev() {
            index[a] = flat % self.shape[a];
            flat /= self.shape[a];
        }
        index
    }

    /// World coordinates of a (fractional) array index.
    #[must_use]
    pub fn to_world(&self, index: [f64; D]) -> [f64; D] {
        let local = SVector::<f64, D>::from_fn(|a, _| index[a] * self.spacing[a]);
        (self.origin + self.direction * local).into()
    }

    /// Fractional array index of a point in world coordinates.
    #[must_use]
    pub fn to_index(&self, world: [f64; D]) -> [f64; D] {
        let local = self.direction.transpose() * (SVector::from(world) - self.origin);
        std::array::from_fn(|a| local[a] / self.spacing[a])
    }

    /// Whether a fractional array index lies between the outer faces of the grid, half a voxel beyond the outermost
    /// centres, to rounding of file headers (1e-6 of a voxel). Periodic grids repeat, so that every finite index
    /// does.
    #[must_use]
    pub fn contains_index(&self, index: [f64; D]) -> bool {
        if self.boundary == Boundary::Periodic {
            return index.iter().all(|x| x.is_finite());
        }
        let face = 0.5 + 1e-6;
        (0..D).all(|a| index[a] >= -face && index[a] <= self.shape[a] as f64 - 1.0 + face)
    }

    /// A grid of another shape over the same box: the outer faces, the direction and the boundary
    /// stay, spacing and origin follow.
    ///
    /// # Errors
    /// Those of [`Grid::new`].
    pub fn resampled(&self, shape: [usize; D]) -> Result<Self> {
        let extent = self.extent();
        let spacing = std::array::from_fn(|a| extent[a] / shape[a] as f64);
        let grid = Self::new(shape, spacing)?;
        let corner = std::array::from_fn(|a| 0.5 * spacing[a] / self.spacing[a] - 0.5);
        Ok(grid
            .with_origin(self.to_world(corner))?
            .with_direction(self.direction)?
            .with_boundary(self.boundary))
    }

    /// A grid over the same box with `factor` times fewer voxels an axis (rounded up, never under
    /// [`MIN_VOXELS`] nor over the present shape).
    ///
    /// # Errors
    /// [`Error::Setting`] unless `factor` is finite and at least one.
    pub fn coarsened(&self, factor: f64) -> Result<Self> {
        if !(factor.is_finite() && factor >= 1.0) {
            return Err(Error::setting("coarsening factor", "a finite number ≥ 1", factor));
        }
        self.resampled(self.shape.map(|n| {
            let fewer = (n as f64 / factor - 1e-9).ceil();
            #[expect(clippy::cast_possible_truncation, reason = "no larger than n")]
            #[expect(clippy::cast_sign_loss, reason = "n and factor are positive")]
            let fewer = fewer as usize;
            fewer.clamp(MIN_VOXELS, n)
        }))
    }

    /// Whether `other` has the same shape, spacing, origin and direction, to rounding of file headers
    /// (1e-4 of a voxel). The boundary does not count.
    #[must_use]
    pub fn same_lattice(&self, other: &Self) -> bool {
        let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
        if self.shape == other.shape
            && self.spacing.iter().zip(&other.spacing).all(|(a, b)| same(*a, *b))
            && self.origin.iter().zip(&other.origin).all(|(a, b)| same(*a, *b))
            && self.direction.iter().zip(&other.direction).all(|(a, b)| same(*a, *b))
        {
            return true;
        }
        let last: [f64; D] = std::array::from_fn(|a| (self.shape[a] - 1) as f64);
        let corner = |index: [f64; D]| {
            let back = other.to_index(self.to_world(index));
            back.iter().zip(index).all(|(b, i)| (b - i).abs() < 1e-4 * (1.0 + i))
        };
        self.shape == other.shape
            && corner([0.0; D])
            && corner(last)
            && (0..D).all(|a| corner(std::array::from_fn(|b| if a == b { last[a] } else { 0.0 })))
    }

    /// Whether `other` covers the same box: outer faces and direction agree to 1e-4 of a voxel. Shape
    /// and boundary do not count.
    #[must_use]
    pub fn same_box(&self, other: &Self) -> bool {
        self.resampled(other.shape).is_ok_and(|grid| grid.same_lattice(other))
    }

    /// `Ok` if `found` is the same lattice.
    ///
    /// # Errors
    /// [`Error::GridMismatch`] with both grids.
    pub fn expect_same(&self, found: &Self, what: &'static str) -> Result<()> {
        if self.same_lattice(found) {
            return Ok(());
        }
        let (expected, found) = (self.to_string(), found.to_string());
        Err(Error::GridMismatch { what, expected, found })
    }
}

impl<const D: usize> std::fmt::Display for Grid<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let origin: [f64; D] = self.origin.into();
        write!(f, "{:?} voxels of {:?} from {:?}", self.shape, self.spacing, origin)?;
        if self.direction == SMatrix::<f64, D, D>::identity() {
            return Ok(());
        }
        write!(f, " with axes along {:?}", self.axes())
    }
}

/// What is stored of a grid: checked when it is read.
#[cfg(feature = "serde")]
mod stored {
    use nalgebra::{SMatrix, SVector};

    use super::{Boundary, Grid};
    use crate::error::{Error, Result};

    #[derive(serde::Deserialize)]
    #[serde(rename = "Grid")]
    pub(super) struct Stored<const D: usize> {
        #[serde(with = "crate::scalar::serde_array")]
        shape: [usize; D],
        #[serde(with = "crate::scalar::serde_array")]
        spacing: [f64; D],
        origin: SVector<f64, D>,
        direction: SMatrix<f64, D, D>,
        boundary: Boundary,
    }

    impl<const D: usize> TryFrom<Stored<D>> for Grid<D> {
        type Error = Error;

        fn try_from(stored: Stored<D>) -> Result<Self> {
            Ok(Self::new(stored.shape, stored.spacing)?
                .with_origin(stored.origin.into())?
                .with_direction(stored.direction)?
                .with_boundary(stored.boundary))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_that_differ_in_direction_only_are_told_apart() {
        let grid = Grid::new([9, 12], [2.0, 0.5]).unwrap();
        assert_eq!(grid.to_string(), "[9, 12] voxels of [2.0, 0.5] from [0.0, 0.0]");
        let turned = grid.clone().with_axes([[0.6, 0.8], [-0.8, 0.6]]).unwrap();
        let expected = "[9, 12] voxels of [2.0, 0.5] from [0.0, 0.0] with axes along [[0.6, 0.8], [-0.8, 0.6]]";
        assert_eq!(turned.to_string(), expected);
        let error = grid.expect_same(&turned, "mask").unwrap_err().to_string();
        assert!(error.contains("[[0.6, 0.8], [-0.8, 0.6]]"), "{error}");
    }

    #[test]
    fn a_coarser_grid_covers_the_same_box() {
        let turn = SMatrix::<f64, 2, 2>::new(0.6, -0.8, 0.8, 0.6);
        let grid = Grid::new([9, 12], [2.0, 0.5])
            .and_then(|g| g.with_origin([3.0, -1.0]))
            .and_then(|g| g.with_direction(turn))
            .unwrap();
        let coarse = grid.coarsened(2.0).unwrap();
        assert_eq!(coarse.shape(), [5, 6]);
        for corner in [[-0.5, -0.5], [8.5, 11.5], [-0.5, 11.5]] {
            let world = grid.to_world(corner);
            let index = coarse.to_index(world);
            for a in 0..2 {
                let face = if corner[a] < 0.0 { -0.5 } else { coarse.shape()[a] as f64 - 0.5 };
                assert!((index[a] - face).abs() < 1e-12, "faces stay, to rounding");
            }
        }
        let back = coarse.resampled([9, 12]).unwrap();
        assert!(grid.same_lattice(&back));
    }

    #[test]
    fn bad_grids_are_refused() {
        assert!(matches!(Grid::new([3, 9], [1.0; 2]), Err(Error::AxisTooShort { axis: 0, .. })));
        assert!(matches!(Grid::new([9, 9], [1.0, 0.0]), Err(Error::Spacing { axis: 1, .. })));
        assert!(matches!(Grid::new([9, 9], [f64::NAN, 1.0]), Err(Error::Spacing { axis: 0, .. })));
        let huge = Grid::new([usize::MAX / 2, 9, 9], [1.0; 3]);
        assert!(matches!(huge, Err(Error::GridTooLarge { .. })));
        let shear = SMatrix::<f64, 2, 2>::new(1.0, 0.1, 0.0, 1.0);
        let grid = Grid::new([9, 9], [1.0; 2]).unwrap();
        assert!(matches!(grid.with_direction(shear), Err(Error::Direction { .. })));
    }
}
