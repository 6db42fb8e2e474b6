//! The cells of a lattice under a map: where the map folds between the voxels.
//!
//! A stored map is applied between its voxels by multilinear interpolation, here and in other tools. That interpolant is
//! one-to-one in a cell, the box between 2ᴰ neighbouring voxels, only if it keeps the orientation at each of its corners:
//! the determinants of the one-sided differences there, of which each is the signed volume of a simplex of the cell. In
//! three dimensions the two tetrahedra inside the cell that no corner sees count too. Central differences, which skip the
//! voxel in the middle, cannot see such folds.
//!
//! # References
//! Liu, Chen, Wei, Prince, Carass, *On finite difference Jacobian computation in deformable image registration*,
//! Int. J. Comput. Vis. 132 (2024), doi:10.1007/s11263-024-02047-1.

use std::array::from_fn;
use std::ops::Range;

use nalgebra::SMatrix;

use crate::field::Displacement;
use crate::grid::Boundary;
use crate::par;
use crate::scalar::Real;
use crate::simd;
use crate::world::{determinant, determinant_of};

/// A simplex of a cell: one of its corners, and the `D` corners at the other ends of its edges. Bit a of a corner is set
/// where it lies beyond the first along axis a.
#[derive(Clone, Copy, Debug)]
pub(super) struct Simplex<const D: usize> {
    base: usize,
    ends: [usize; D],
    /// Its edges at rest, in voxels: `edges[b][a]` is that to the b-th end, along axis a.
    edges: [[f64; D]; D],
    /// Determinant of the edges at rest.
    rest: f64,
    /// Its part of a cell. The simplices of a cell fill it twice.
    part: f64,
}

impl<const D: usize> Simplex<D> {
    fn new(base: usize, ends: [usize; D]) -> Self {
        let place = |corner: usize, a: usize| f64::from(u8::from(corner >> a & 1 == 1));
        let edges = ends.map(|end| from_fn(|a| place(end, a) - place(base, a)));
        let rest = determinant_of(edges);
        let factorial: f64 = (1..=D).map(|k| k as f64).product();
        Self { base, ends, edges, rest, part: rest.abs() / (2.0 * factorial) }
    }

    /// Those at the corners, and those inside that no corner sees.
    fn all() -> Vec<Self> {
        let corners = (0..1_usize << D).map(|c| Self::new(c, from_fn(|b| c ^ (1 << b))));
        // In three dimensions every other corner, twice. Cells of fewer dimensions have no inside.
        let inner = [0, (1 << D) - 1]
            .map(|c: usize| Self::new(c, from_fn(|b| c ^ (1 << b) ^ ((1 << D) - 1))));
        corners.chain(inner.into_iter().filter(|_| D == 3)).collect()
    }
}

/// The cells of a map, numbered like the voxels of a grid of the cells' shape.
pub(super) struct Cells<'a, T, const D: usize> {
    map: &'a Displacement<T, D>,
    simplices: Vec<Simplex<D>>,
    shape: [usize; D],
}

/// Cells that are worked on together.
const BLOCK: usize = 512;

/// Least and largest determinant of each cell of a block.
struct Extremes<T> {
    least: Vec<T>,
    largest: Vec<T>,
}

impl<'a, T: Real, const D: usize> Cells<'a, T, D> {
    /// Those between the voxels; on a periodic grid, those between the last and the first too.
    pub(super) fn new(map: &'a Displacement<T, D>) -> Self {
        let around = usize::from(map.grid().boundary() != Boundary::Periodic);
        let shape = map.grid().shape().map(|n| n - around);
        Self { map, simplices: Simplex::all(), shape }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    fn unravel(&self, mut cell: usize) -> [usize; D] {
        let mut index = [0; D];
        for a in (0..D).rev() {
            index[a] = cell % self.shape[a];
            cell /= self.shape[a];
        }
        index
    }

    /// The voxel at a corner of a cell.
    fn corner(&self, index: [usize; D], corner: usize) -> usize {
        let grid = self.map.grid();
        let (shape, strides) = (grid.shape(), grid.strides());
        (0..D).map(|a| (index[a] + (corner >> a & 1)) % shape[a] * strides[a]).sum()
    }

    /// The voxels at the corners of a cell.
    pub(super) fn voxels(&self, cell: usize) -> impl Iterator<Item = usize> {
        let index = self.unravel(cell);
        (0..1_usize << D).map(move |corner| self.corner(index, corner))
    }

    /// The simplices of a cell under the map.
    pub(super) fn of(&self, cell: usize) -> impl Iterator<Item = Mapped<D>> {
        let (index, spacing) = (self.unravel(cell), self.map.grid().spacing());
        self.simplices.iter().map(move |simplex| {
            let base = self.corner(index, simplex.base);
            let ends = simplex.ends.map(|end| self.corner(index, end));
            // Along axis a, in voxels.
            let u = |voxel: usize, a: usize| self.map.component(a)[voxel].f64() / spacing[a];
            let edges = SMatrix::<f64, D, D>::from_fn(|b, a| {
                simplex.edges[b][a] + (u(ends[b], a) - u(base, a))
            });
            Mapped { base, ends, edges, rest: simplex.rest, part: simplex.part }
        })
    }

    /// Calls `f` for the cells `range`, each with its least and its largest determinant: NaN where there is one.
    pub(super) fn each(&self, range: Range<usize>, mut f: impl FnMut(usize, T, T)) {
        let mut found = Extremes { least: vec![T::zero(); BLOCK], largest: vec![T::zero(); BLOCK] };
        let row = self.shape[D - 1];
        // A row ends where its cells lie between a voxel and the next in memory.
        let whole = self.map.grid().shape()[D - 1] - 1;
        let mut lo = range.start;
        while lo < range.end {
            let index = self.unravel(lo);
            let along = index[D - 1];
            let end = if along < whole { whole } else { row };
            let len = BLOCK.min(range.end - lo).min(end - along);
            self.extremes(index, len, &mut found);
            for k in 0..len {
                f(lo + k, found.least[k], found.largest[k]);
            }
            lo += len;
        }
    }

    /// Determinants of `len` cells of a row, from `index` on: what [`Cells::of`] defines, for all of them at once.
    fn extremes(&self, index: [usize; D], len: usize, found: &mut Extremes<T>) {
        let corners: Vec<usize> = (0..1_usize << D).map(|c| self.corner(index, c)).collect();
        let per_voxel = self.map.grid().spacing().map(|h| T::of(1.0 / h));
        let u = |corner: usize| from_fn(|a| &self.map.component(a)[corners[corner]..][..len]);
        let Extremes { least, largest } = found;
        let (least, largest) = (&mut least[..len], &mut largest[..len]);
        least.fill(T::infinity());
        largest.fill(T::neg_infinity());
        for simplex in &self.simplices {
            let (base, ends): ([&[T]; D], [[&[T]; D]; D]) = (u(simplex.base), simplex.ends.map(u));
            let (rest, edges) = (T::of(1.0 / simplex.rest), simplex.edges.map(|e| e.map(T::of)));
            simd::vectorised(
                #[inline(always)]
                || {
                    for k in 0..len {
                        let mut mapped = [[T::zero(); D]; D];
                        for b in 0..D {
                            for a in 0..D {
                                let way = per_voxel[a] * (ends[b][a][k] - base[a][k]);
                                mapped[b][a] = edges[b][a] + way;
                            }
                        }
                        let det = rest * determinant_of(mapped);
                        // A comparison with NaN is false; once there is one, the sum keeps it.
                        let nan = T::zero() * det;
                        let (less, more) = (least[k], largest[k]);
                        least[k] = nan + if det < less { det } else { less };
                        largest[k] = nan + if det > more { det } else { more };
                    }
                },
            );
        }
    }

    /// Least and largest of all determinants; NaN where there is one.
    pub(super) fn range(&self) -> (f64, f64) {
        let leaf = |range: Range<usize>| {
            let mut found = (f64::INFINITY, f64::NEG_INFINITY);
            self.each(range, |_, least, largest| {
                found = (nan_min(found.0, least.f64()), nan_max(found.1, largest.f64()));
            });
            found
        };
        par::reduce(self.len(), leaf, |a, b| (nan_min(a.0, b.0), nan_max(a.1, b.1)))
    }
}

/// A simplex of a cell under a map.
pub(super) struct Mapped<const D: usize> {
    /// Voxels of its base and of the ends of its edges.
    pub(super) base: usize,
    pub(super) ends: [usize; D],
    /// Row b is the edge to the b-th end, in voxels.
    edges: SMatrix<f64, D, D>,
    rest: f64,
    /// Its part of a cell.
    pub(super) part: f64,
}

impl<const D: usize> Mapped<D> {
    /// Its signed volume over that at rest: one for the identity, negative where it is turned over.
    pub(super) fn determinant(&self) -> f64 {
        determinant(self.edges) / self.rest
    }

    /// Derivatives of the determinant: row b by the b-th edge, in voxels. None where it is zero.
    pub(super) fn gradient(&self) -> Option<SMatrix<f64, D, D>> {
        // ∂det/∂M = det M⁻ᵀ.
        Some(self.edges.try_inverse()?.transpose() * self.determinant())
    }
}

/// Minimum that keeps NaN.
pub(crate) fn nan_min(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

/// Maximum that keeps NaN.
pub(super) fn nan_max(a: f64, b: f64) -> f64 {
    -nan_min(-a, -b)
}

/// Least and largest determinant of the cells of x ↦ x + u(x), over all simplices at their corners and, in three
/// dimensions, inside: dimensionless, one for the identity. The multilinear interpolant of u can be one-to-one only where
/// the least is positive. NaN where there is one. One pass; nothing of the map's size is allocated.
///
/// # References
/// Liu et al., Int. J. Comput. Vis. 132 (2024), doi:10.1007/s11263-024-02047-1.
///
/// ```
/// use rdmm_core::{field::Displacement, grid::Grid, ops::cells::cell_determinants};
/// let grid = Grid::new([8, 8], [1.0, 1.0])?;
/// let mut map = Displacement::<f64, 2>::from_fn(&grid, |x| [-0.7 * x[0], 0.0])?;
/// let (least, largest) = cell_determinants(&map);
/// assert!((least - 0.3).abs() < 1e-12 && (largest - 0.3).abs() < 1e-12);
/// // A single voxel beyond its neighbours: central differences do not look at it.
/// map.component_mut(0)[3 * 8 + 4] += 0.5;
/// assert!(cell_determinants(&map).0 < 0.0);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[must_use]
#[inline(never)]
pub fn cell_determinants<T: Real, const D: usize>(map: &Displacement<T, D>) -> (f64, f64) {
    Cells::new(map).range()
}

/// What is folded of a map's cells.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct CellCount {
    /// Cells.
    pub cells: usize,
    /// Cells with a determinant ≤ 0.
    pub folded: usize,
    /// Volume that is turned over, in cells: Σ |det| of the simplices with a negative one, each by its part of a cell (the
    /// non-diffeomorphic volume of Liu et al.).
    pub volume: f64,
    /// Smallest determinant.
    pub min: f64,
    /// Largest determinant.
    pub max: f64,
}

impl CellCount {
    /// Those of a map. NaN in the map counts as a fold.
    pub(crate) fn of<T: Real, const D: usize>(map: &Displacement<T, D>) -> Self {
        let cells = Cells::new(map);
        let none = Self {
            cells: cells.len(),
            folded: 0,
            volume: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
        };
        let leaf = |range: Range<usize>| {
            let mut found = none;
            cells.each(range, |cell, least, largest| {
                found.min = nan_min(found.min, least.f64());
                found.max = nan_max(found.max, largest.f64());
                if least <= T::zero() || least.is_nan() {
                    found.folded += 1;
                    found.volume += cells
                        .of(cell)
                        .map(|simplex| simplex.part * (-simplex.determinant()).max(0.0))
                        .sum::<f64>();
                }
            });
            found
        };
        par::reduce(cells.len(), leaf, |a, b| Self {
            folded: a.folded + b.folded,
            volume: a.volume + b.volume,
            min: nan_min(a.min, b.min),
            max: nan_max(a.max, b.max),
            ..a
        })
    }

    /// How near to a fold the map comes, or its inverse: the smaller of the least determinant and of one over the
    /// largest.
    #[must_use]
    pub fn worst(&self) -> f64 {
        nan_min(self.min, self.max.recip())
    }

    /// Those of the map with an affine one of this determinant > 0 after it.
    pub(crate) fn scaled(self, factor: f64) -> Self {
        Self {
            volume: factor * self.volume,
            min: factor * self.min,
            max: factor * self.max,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Grid;
    use crate::testing::random;

    fn rough<const D: usize>(grid: &Grid<D>, size: f64, seed: u64) -> Displacement<f64, D> {
        let data = random::<f64>(D * grid.len(), seed).iter().map(|x| size * x).collect();
        Displacement::from_vec(grid, data).unwrap()
    }

    fn check<const D: usize>(shape: [usize; D]) {
        let spacing = from_fn(|a| [0.5, 1.0, 2.0][a]);
        for boundary in Boundary::ALL {
            let grid = Grid::new(shape, spacing).unwrap().with_boundary(boundary);
            let map = rough(&grid, 0.6, 3);
            let cells = Cells::new(&map);
            // A cell is filled twice.
            let whole: f64 = cells.of(0).map(|simplex| simplex.part).sum();
            assert!((whole - 1.0).abs() < 1e-15, "{whole}");
            // Parts that begin anywhere give what the cells give one by one.
            for lo in [0, 1, cells.len() / 2] {
                let mut seen = lo;
                cells.each(lo..cells.len(), |cell, least, largest| {
                    assert_eq!(cell, seen);
                    seen += 1;
                    let dets: Vec<f64> = cells.of(cell).map(|s| s.determinant()).collect();
                    let (a, b) = dets
                        .iter()
                        .fold((f64::INFINITY, f64::NEG_INFINITY), |m, &d| (m.0.min(d), m.1.max(d)));
                    // A few roundings of products of numbers of order one.
                    assert!((a - least).abs() < 1e-13 && (b - largest).abs() < 1e-13, "{cell}");
                });
                assert_eq!(seen, cells.len());
            }
        }
    }

    #[test]
    fn rows_of_cells_equal_cells_one_by_one() {
        check([9]);
        check([6, 7]);
        check([4, 5, 6]);
    }

    #[test]
    fn linear_maps_have_their_determinant_in_every_cell() {
        let grid = Grid::new([5, 6, 7], [0.5, 2.0, 1.0]).unwrap();
        let matrix = [[-2.0, 0.4, -0.2], [0.3, -2.2, 0.1], [0.0, 0.5, 0.2]];
        let map = Displacement::<f64, 3>::from_fn(&grid, |x| {
            from_fn(|c| (0..3).map(|b| matrix[c][b] * x[b]).sum())
        })
        .unwrap();
        let expected = determinant(SMatrix::<f64, 3, 3>::from_fn(|a, b| {
            matrix[a][b] + f64::from(u8::from(a == b))
        }));
        let (least, largest) = cell_determinants(&map);
        assert!((least - expected).abs() < 1e-12 && (largest - expected).abs() < 1e-12);
    }

    #[test]
    fn a_square_that_is_turned_over_has_its_area() {
        // The voxel (1, 1) moves to (−½, −½).
        let grid = Grid::new([4, 4], [1.0, 1.0]).unwrap();
        let mut map = Displacement::<f64, 2>::zeros(&grid).unwrap();
        for a in 0..2 {
            map.component_mut(a)[5] = -1.5;
        }
        let cells = Cells::new(&map);
        let dets: Vec<f64> = cells.of(0).map(|simplex| simplex.determinant()).collect();
        // Edges from (0, 0): (1, 0), (0, 1). From (1, 0): (−1, 0), (−3/2, −½), at rest (−1, 0), (0, 1). From (1, 1): (½, 3/2),
        // (3/2, ½).
        assert_eq!(dets, [1.0, -0.5, -0.5, -2.0]);
        let count = CellCount::of(&map);
        // The two cells beside it are turned over at the corners (1, 0) and (0, 1): edges (1, 0), (−3/2, −½).
        assert_eq!((count.cells, count.folded), (9, 3));
        assert!((count.volume - 0.25 * (3.0 + 0.5 + 0.5)).abs() < 1e-15, "{}", count.volume);
        assert_eq!(count.min.to_bits(), (-2.0_f64).to_bits());
    }

    #[test]
    fn nan_is_kept() {
        let grid = Grid::new([5, 40], [1.0, 1.0]).unwrap();
        for voxel in [0, 39, 77, 199] {
            let mut map = Displacement::<f32, 2>::zeros(&grid).unwrap();
            map.component_mut(1)[voxel] = f32::NAN;
            let (least, largest) = cell_determinants(&map);
            assert!(least.is_nan() && largest.is_nan(), "{voxel}");
            assert!(CellCount::of(&map).folded > 0);
        }
    }
}
