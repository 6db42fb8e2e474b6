//! Affine maps of the world.

use nalgebra::{SMatrix, SVector};

use crate::error::{Error, Result};
use crate::field::Displacement;
use crate::grid::Grid;
use crate::par;
use crate::scalar::Real;

/// Largest condition number ‖M‖‖M⁻¹‖ (Frobenius) of a matrix that counts as invertible.
const CONDITION: f64 = 1e12;

/// An invertible affine map of the world, A(x) = M x + t, in physical units.
///
#[doc = include_str!("../docs/math/affinemap.html")]
///
/// As the initial map of a registration it takes points of the fixed image's world to those of the
/// moving image's, the direction in which images are pulled back: the moving image is read at A(x).
///
/// ```
/// use nalgebra::{SMatrix, SVector};
/// use rdmm_core::world::Affine;
/// let quarter = SMatrix::<f64, 2, 2>::new(0.0, -1.0, 1.0, 0.0);
/// let a = Affine::new(quarter, SVector::from([5.0, 0.0]))?;
/// assert_eq!(a.apply([2.0, 1.0]), [4.0, 2.0]);
/// assert_eq!(a.inverse().apply([4.0, 2.0]), [2.0, 1.0]);
/// assert_eq!(a.after(&a)?.apply([2.0, 1.0]), a.apply([4.0, 2.0]));
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Stored<D>", into = "Stored<D>"))]
pub struct Affine<const D: usize> {
    matrix: SMatrix<f64, D, D>,
    shift: SVector<f64, D>,
    /// M⁻¹.
    inverse: SMatrix<f64, D, D>,
}

impl<const D: usize> Affine<D> {
    /// x ↦ M x + t.
    ///
    /// # Errors
    /// [`Error::NonFinite`] for NaN or infinity in either; [`Error::Setting`] where the condition number
    /// of the matrix is over 1e12.
    pub fn new(matrix: SMatrix<f64, D, D>, shift: SVector<f64, D>) -> Result<Self> {
        expect_finite("matrix of an affine map", matrix.as_slice())?;
        expect_finite("shift of an affine map", shift.as_slice())?;
        let expected = "an invertible matrix (condition number at most 1e12)";
        let rows = || matrix.row_iter().map(|row| row.iter().copied().collect::<Vec<_>>());
        let refused = || {
            let found = format!("{:?}", rows().collect::<Vec<_>>());
            Error::setting("matrix of an affine map", expected, found)
        };
        let inverse = matrix.try_inverse().ok_or_else(refused)?;
        let condition = matrix.norm() * inverse.norm();
        if condition <= CONDITION { Ok(Self { matrix, shift, inverse }) } else { Err(refused()) }
    }

    /// x ↦ M x + t from plain arrays: the rows of M, as they are written, and t.
    ///
    /// # Errors
    /// Those of [`Affine::new`].
    ///
    /// ```
    /// use rdmm_core::world::Affine;
    /// let a = Affine::from_rows([[1.0, 0.5], [0.0, 1.0]], [5.0, 0.0])?;
    /// assert_eq!(a.apply([2.0, 4.0]), [9.0, 4.0]);
    /// assert_eq!(a.rows(), [[1.0, 0.5], [0.0, 1.0]]);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn from_rows(rows: [[f64; D]; D], shift: [f64; D]) -> Result<Self> {
        Self::new(SMatrix::from_fn(|r, c| rows[r][c]), shift.into())
    }

    /// x ↦ x.
    #[must_use]
    pub fn identity() -> Self {
        let one = SMatrix::identity();
        Self { matrix: one, shift: SVector::zeros(), inverse: one }
    }

    /// M.
    #[must_use]
    pub fn matrix(&self) -> &SMatrix<f64, D, D> {
        &self.matrix
    }

    /// The rows of M.
    #[must_use]
    pub fn rows(&self) -> [[f64; D]; D] {
        std::array::from_fn(|r| std::array::from_fn(|c| self.matrix[(r, c)]))
    }

    /// t.
    #[must_use]
    pub fn shift(&self) -> &SVector<f64, D> {
        &self.shift
    }

    /// det M: the volume of the image of a unit cube, negative for a reflection.
    #[must_use]
    pub fn determinant(&self) -> f64 {
        determinant(self.matrix)
    }

    /// A(x), world coordinates.
    #[must_use]
    pub fn apply(&self, point: [f64; D]) -> [f64; D] {
        (self.matrix * SVector::from(point) + self.shift).into()
    }

    /// y ↦ M⁻¹ (y − t).
    #[must_use]
    pub fn inverse(&self) -> Self {
        let shift = -(self.inverse * self.shift);
        Self { matrix: self.inverse, shift, inverse: self.matrix }
    }

    /// x ↦ A(B(x)), B first.
    ///
    /// # Errors
    /// Those of [`Affine::new`], for a composition that leaves the finite numbers or is too ill-conditioned.
    pub fn after(&self, first: &Self) -> Result<Self> {
        Self::new(self.matrix * first.matrix, self.matrix * first.shift + self.shift)
    }

    /// The map as a displacement of the grid's voxels: A(x) − x, along the grid's axes.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::NonFinite`] where points leave the numbers of `T`.
    pub fn displacement<T: Real>(&self, grid: &Grid<D>) -> Result<Displacement<T, D>> {
        self.after_displacement(&Displacement::zeros(grid)?)
    }

    /// The composition of a map id + u and this one after it, as a displacement: A(x + u(x)) − x, along
    /// the axes of u's grid. Nothing is interpolated; one pass.
    ///
    /// # Errors
    /// [`Error::NonFinite`] for NaN or infinity in u, and where points leave the numbers of `T`;
    /// [`Error::OutOfMemory`].
    ///
    /// ```
    /// use nalgebra::{SMatrix, SVector};
    /// use rdmm_core::{field::Displacement, grid::Grid, world::Affine};
    /// let grid = Grid::new([4, 4], [1.0, 1.0])?;
    /// let u = Displacement::<f64, 2>::from_fn(&grid, |_| [0.5, 0.0])?;
    /// let double = Affine::new(2.0 * SMatrix::identity(), SVector::zeros())?;
    /// let total = double.after_displacement(&u)?;
    /// assert_eq!(total.component(0)[3 * 4], 2.0 * (3.0 + 0.5) - 3.0);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    #[inline(never)]
    pub fn after_displacement<T: Real>(
        &self,
        u: &Displacement<T, D>,
    ) -> Result<Displacement<T, D>> {
        u.expect_finite("displacement")?;
        let (grid, n) = (u.grid(), u.grid().len());
        // With axes T: T⁻¹ (M (x + T u) + t − x) = T⁻¹ ((M − 1) x + t) + T⁻¹ M T u.
        let axes = grid.direction();
        let back = axes.try_inverse().unwrap_or_else(|| axes.transpose());
        let turned = back * self.matrix * axes;
        let moved = self.matrix - SMatrix::<f64, D, D>::identity();
        let mut out = Displacement::zeros(grid)?;
        par::components(out.data_mut(), n, |a, lo, chunk| {
            for (k, out) in chunk.iter_mut().enumerate() {
                let index = grid.unravel(lo + k).map(|i| i as f64);
                let rigid = moved * SVector::from(grid.to_world(index)) + self.shift;
                let affine: f64 = (0..D).map(|b| back[(a, b)] * rigid[b]).sum();
                let along = |b: usize| turned[(a, b)] * u.component(b)[lo + k].f64();
                *out = T::of(affine + (0..D).map(along).sum::<f64>());
            }
        });
        out.expect_finite("displacement through an affine map")?;
        Ok(out)
    }
}

impl<const D: usize> Default for Affine<D> {
    fn default() -> Self {
        Self::identity()
    }
}

fn expect_finite(what: &'static str, values: &[f64]) -> Result<()> {
    match values.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(index) => Err(Error::NonFinite { what, index, found: values[index] }),
    }
}

/// Determinant of a small matrix, without a division or a branch on its values: loops over many matrices become
/// vector instructions.
///
/// # References
/// Bird, *A simple division-free algorithm for computing determinants*, Information Processing Letters 111 (2011),
/// doi:10.1016/j.ipl.2011.08.006.
#[inline(always)]
pub(crate) fn determinant_of<T: Real, const D: usize>(m: [[T; D]; D]) -> T {
    // F ← μ(F)·M, D − 1 times from F = M, with μ(F) the part of F above the diagonal and −Σ_{j>i} F_jj on it.
    let mut f = m;
    for _ in 1..D {
        let mut product = [[T::zero(); D]; D];
        for i in 0..D {
            let mut behind = T::zero();
            for j in i + 1..D {
                behind += f[j][j];
            }
            for c in 0..D {
                let mut above = T::zero();
                for j in i + 1..D {
                    above += f[i][j] * m[j][c];
                }
                product[i][c] = above - behind * m[i][c];
            }
        }
        f = product;
    }
    if D % 2 == 1 { f[0][0] } else { -f[0][0] }
}

/// [`determinant_of`] a matrix.
pub(crate) fn determinant<const D: usize>(m: SMatrix<f64, D, D>) -> f64 {
    determinant_of(m.data.0)
}

/// What is stored of an affine map: checked when it is read.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename = "Affine")]
struct Stored<const D: usize> {
    matrix: SMatrix<f64, D, D>,
    shift: SVector<f64, D>,
}

#[cfg(feature = "serde")]
impl<const D: usize> TryFrom<Stored<D>> for Affine<D> {
    type Error = Error;

    fn try_from(stored: Stored<D>) -> Result<Self> {
        Self::new(stored.matrix, stored.shift)
    }
}

#[cfg(feature = "serde")]
impl<const D: usize> From<Affine<D>> for Stored<D> {
    fn from(map: Affine<D>) -> Self {
        Self { matrix: map.matrix, shift: map.shift }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;

    fn map(seed: u64) -> Affine<3> {
        let noise = random::<f64>(12, seed);
        let matrix =
            SMatrix::identity() + 0.4 * SMatrix::<f64, 3, 3>::from_column_slice(&noise[..9]);
        Affine::new(matrix, SVector::from_column_slice(&noise[9..])).unwrap()
    }

    #[test]
    fn inverses_and_compositions_act_on_points() {
        let (a, b, x) = (map(1), map(2), [0.3, -1.2, 2.0]);
        let close = |p: [f64; 3], q: [f64; 3]| (0..3).all(|c| (p[c] - q[c]).abs() < 1e-14 * 20.0);
        assert!(close(a.after(&b).unwrap().apply(x), a.apply(b.apply(x))));
        assert!(close(a.inverse().apply(a.apply(x)), x));
        assert!(close(a.after(&a.inverse()).unwrap().apply(x), x));
        let product = a.determinant() * a.inverse().determinant();
        assert!((product - 1.0).abs() < 1e-14);
        assert_eq!(Affine::<3>::identity().apply(x).map(f64::to_bits), x.map(f64::to_bits));
        assert_eq!(a.inverse().inverse().matrix(), a.matrix());
    }

    #[test]
    fn displacements_follow_the_points_on_turned_grids() {
        let turn = SMatrix::<f64, 2, 2>::new(0.6, -0.8, 0.8, 0.6);
        let grid = Grid::new([5, 6], [0.5, 2.0])
            .and_then(|g| g.with_origin([3.0, -1.0]))
            .and_then(|g| g.with_direction(turn))
            .unwrap();
        let shear = SMatrix::<f64, 2, 2>::new(1.1, 0.4, -0.3, 0.8);
        let a = Affine::new(shear, SVector::from([2.0, -5.0])).unwrap();
        let u = Displacement::from_vec(&grid, random::<f64>(60, 3)).unwrap();
        let total = a.after_displacement(&u).unwrap();
        for flat in 0..30 {
            let x = SVector::from(grid.to_world(grid.unravel(flat).map(|i| i as f64)));
            let at = |u: &Displacement<f64, 2>| {
                turn * SVector::from([u.component(0)[flat], u.component(1)[flat]])
            };
            let expected = SVector::from(a.apply((x + at(&u)).into()));
            // Rounding of coordinates of about ten.
            assert!((x + at(&total) - expected).norm() < 1e-13);
        }
        assert_eq!(Affine::identity().after_displacement(&u).unwrap().data().len(), 60);
    }

    #[test]
    fn what_cannot_be_inverted_is_refused() {
        let singular = SMatrix::<f64, 2, 2>::new(1.0, 2.0, 2.0, 4.0);
        let thin = SMatrix::<f64, 2, 2>::new(1.0, 0.0, 0.0, 1e-13);
        for matrix in [singular, thin, SMatrix::zeros()] {
            let error = Affine::new(matrix, SVector::zeros()).unwrap_err();
            assert!(matches!(error, Error::Setting { .. }), "{error}");
            assert!(error.to_string().contains("invertible"), "{error}");
        }
        let nan = SMatrix::<f64, 2, 2>::new(1.0, f64::NAN, 0.0, 1.0);
        let error = Affine::new(nan, SVector::zeros()).unwrap_err();
        assert!(matches!(error, Error::NonFinite { index: 2, .. }), "{error}");
        let far = SVector::from([0.0, f64::INFINITY]);
        let error = Affine::new(SMatrix::identity(), far).unwrap_err();
        assert!(matches!(error, Error::NonFinite { index: 1, .. }), "{error}");
        let huge = Affine::new(1e100 * SMatrix::<f64, 2, 2>::identity(), SVector::zeros()).unwrap();
        assert!(huge.after(&huge).is_err());
        let grid = Grid::new([4, 4], [1.0; 2]).unwrap();
        assert!(matches!(huge.displacement::<f32>(&grid), Err(Error::NonFinite { .. })));
    }

    #[test]
    fn the_determinant_is_full() {
        let m = SMatrix::<f64, 2, 2>::new(0.0, 2.0, 3.0, 1.0);
        assert!((determinant(m) + 6.0).abs() < 1e-15);
    }
}
