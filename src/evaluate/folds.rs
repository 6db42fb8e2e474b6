use super::is_interior;
use crate::error::Result;
use crate::field::Displacement;
use crate::ops::cells::CellCount;
use crate::ops::jacobian::jacobian_determinant;
use crate::scalar::Real;

/// Where a map folds: at voxels, by central differences, and in the cells between them, where it is applied.
///
/// At voxels the determinant is the full one, by second-order central differences ([`jacobian_determinant`]), as most
/// tools report it. It cannot see what the map does between the two neighbours of a voxel: a map may have no folded voxel
/// and folded cells, and is one-to-one only without the latter. The interior holds the voxels at least two voxels from every
/// face: in the outer two layers the differences of the evolution see mirrored values. Periodic grids are all interior.
///
/// ```
/// use rdmm_core::{evaluate::Folds, field::Displacement, grid::Grid};
/// let grid = Grid::new([16, 16], [1.0, 1.0])?;
/// let identity = Displacement::<f64, 2>::zeros(&grid)?;
/// let folds = Folds::of(&identity)?;
/// assert_eq!((folds.total().folded, folds.interior.voxels), (0, 12 * 12));
/// assert_eq!(folds.interior.min, 1.0);
/// assert_eq!((folds.cells.folded, folds.cells.cells), (0, 15 * 15));
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Folds {
    /// At least two voxels from every face.
    pub interior: FoldCount,
    /// The rest.
    pub border: FoldCount,
    /// The cells, by the determinants of their simplices
    /// ([`cell_determinants`](crate::ops::cells::cell_determinants)).
    pub cells: CellCount,
}

/// Folds in a part of the grid.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct FoldCount {
    /// Voxels in this part.
    pub voxels: usize,
    /// Voxels with a determinant ≤ 0.
    pub folded: usize,
    /// Sum of |det| over the voxels with a determinant < 0, without volumes.
    pub negative: f64,
    /// Smallest determinant; `f64::INFINITY` where the part holds no voxel.
    #[cfg_attr(feature = "serde", serde(with = "or_none"))]
    pub min: f64,
}

/// A number that is not finite is stored as none: JSON has no infinity.
#[cfg(feature = "serde")]
mod or_none {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    pub(super) fn serialize<S: Serializer>(min: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        Some(*min).filter(|min| min.is_finite()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::INFINITY))
    }
}

impl FoldCount {
    const EMPTY: Self = Self { voxels: 0, folded: 0, negative: 0.0, min: f64::INFINITY };

    fn add(&mut self, det: f64) {
        self.voxels += 1;
        self.folded += usize::from(det <= 0.0);
        self.negative += (-det).max(0.0);
        self.min = self.min.min(det);
    }

    /// Part of the voxels with a determinant ≤ 0; zero where there is no voxel.
    #[must_use]
    pub fn fraction(&self) -> f64 {
        self.folded as f64 / self.voxels.max(1) as f64
    }
}

impl Folds {
    /// The folds of x ↦ x + u(x). Two passes; one value a voxel for the determinants.
    ///
    /// # Errors
    /// [`Error::NonFinite`](crate::Error::NonFinite) for NaN or infinity in the map or in its determinant,
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    #[inline(never)]
    pub fn of<T: Real, const D: usize>(map: &Displacement<T, D>) -> Result<Self> {
        map.expect_finite("map")?;
        let determinant = jacobian_determinant(map)?;
        determinant.expect_finite("Jacobian determinant")?;
        let (mut interior, mut border) = (FoldCount::EMPTY, FoldCount::EMPTY);
        for (i, det) in determinant.data().iter().enumerate() {
            let region = if is_interior(map.grid(), i) { &mut interior } else { &mut border };
            region.add(det.f64());
        }
        Ok(Self { interior, border, cells: CellCount::of(map) })
    }

    /// The folds with every determinant times a factor > 0: those of the map with an affine one after it.
    pub(crate) fn scaled(self, factor: f64) -> Self {
        let scaled =
            |r: FoldCount| FoldCount { negative: factor * r.negative, min: factor * r.min, ..r };
        Self {
            interior: scaled(self.interior),
            border: scaled(self.border),
            cells: self.cells.scaled(factor),
        }
    }

    /// The voxels of interior and border together.
    #[must_use]
    pub fn total(&self) -> FoldCount {
        let (a, b) = (self.interior, self.border);
        FoldCount {
            voxels: a.voxels + b.voxels,
            folded: a.folded + b.folded,
            negative: a.negative + b.negative,
            min: a.min.min(b.min),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::grid::{Boundary, Grid};

    #[test]
    fn folds_are_counted_where_they_are() {
        // u₀ = 3·|x₀ = 4|: central differences are ±1.5 at x₀ = 3 and 5, so det is 2.5 and −0.5.
        let grid = Grid::new([10, 8], [1.0, 2.0]).unwrap();
        let bump = |x: [f64; 2], c| f64::from(u8::from(c == 0 && (x[0] - 4.0).abs() < 0.5)) * 3.0;
        let map = Displacement::<f64, 2>::from_fn(&grid, |x| std::array::from_fn(|c| bump(x, c)))
            .unwrap();
        let folds = Folds::of(&map).unwrap();
        let expected = |voxels, folded: usize| FoldCount {
            voxels,
            folded,
            negative: 0.5 * folded as f64,
            min: -0.5,
        };
        assert_eq!(folds.interior, expected(6 * 4, 4));
        assert_eq!(folds.border, expected(80 - 24, 4));
        assert_eq!(folds.total(), expected(80, 8));
        // 8 of 80, a division of small whole numbers.
        assert!((folds.total().fraction() - 0.1).abs() < 1e-15);
    }

    #[test]
    fn a_collapsed_map_is_folded_and_periodic_grids_have_no_border() {
        let grid = Grid::new([4, 4], [1.0; 2]).unwrap();
        let collapsed = |x: [f64; 2], c: usize| if c == 0 { -x[0] } else { 0.0 };
        let map =
            Displacement::<f64, 2>::from_fn(&grid, |x| std::array::from_fn(|c| collapsed(x, c)))
                .unwrap();
        let folds = Folds::of(&map).unwrap();
        assert_eq!((folds.interior.voxels, folds.border.voxels), (0, 16));
        assert!(folds.interior.min.is_infinite() && folds.interior.fraction().abs() < 1e-15);
        // Zero determinants count as folds and add nothing to the sum.
        assert_eq!((folds.border.folded, folds.border.negative.abs() < 1e-15), (16, true));
        assert_eq!((folds.cells.folded, folds.cells.cells, folds.cells.volume), (9, 9, 0.0));

        let periodic = grid.with_boundary(Boundary::Periodic);
        let identity = Displacement::<f32, 2>::zeros(&periodic).unwrap();
        assert_eq!(Folds::of(&identity).unwrap().interior.voxels, 16);
        let mut broken = identity;
        broken.data_mut()[3] = f32::NAN;
        assert!(matches!(Folds::of(&broken), Err(Error::NonFinite { index: 3, .. })));
    }
}
