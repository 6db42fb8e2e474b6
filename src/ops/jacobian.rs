//! The Jacobian determinant of a map.

use std::array::from_fn;
use std::ops::Range;

use nalgebra::SMatrix;

use super::difference::{Difference, Order, fold_index};
use crate::error::Result;
use crate::field::{Displacement, Image};
use crate::grid::Grid;
use crate::par;
use crate::scalar::Real;
use crate::world::determinant;

/// The signed minor ∂det/∂m_ab: the determinant with row a replaced by the b-th unit vector.
fn cofactor<const D: usize>(mut m: SMatrix<f64, D, D>, a: usize, b: usize) -> f64 {
    for k in 0..D {
        m[(a, k)] = if k == b { 1.0 } else { 0.0 };
    }
    determinant(m)
}

/// The full determinant of D(id + u), by second-order central differences: what other tools report.
///
/// One value a voxel, dimensionless. In the outermost voxels the differences see a mirrored
/// displacement, so read the interior and the border apart
/// ([`Folds`](crate::evaluate::Folds) does).
///
/// # Errors
/// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
#[inline(never)]
pub fn jacobian_determinant<T: Real, const D: usize>(
    map: &Displacement<T, D>,
) -> Result<Image<T, D>> {
    let grid = map.grid();
    let difference = Difference::new(grid, Order::Second);
    let mut out = Image::zeros(grid)?;
    par::chunks_of(out.data_mut(), BLOCK, |lo, chunk| {
        let found = determinants(&difference, map, lo, chunk.len());
        for (out, det) in chunk.iter_mut().zip(found) {
            *out = T::of(det);
        }
    });
    Ok(out)
}

/// The smallest of the [`jacobian_determinant`]s of a map, without the image of them; NaN where there is one.
///
/// ```
/// use rdmm_core::{field::Displacement, grid::Grid, ops::jacobian::smallest_determinant};
/// let grid = Grid::new([8, 8], [1.0, 1.0])?;
/// let squeezed = Displacement::<f64, 2>::from_fn(&grid, |x| [-0.7 * x[0], 0.0])?;
/// assert!((smallest_determinant(&squeezed) - 0.3).abs() < 1e-12);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[must_use]
#[inline(never)]
pub fn smallest_determinant<T: Real, const D: usize>(map: &Displacement<T, D>) -> f64 {
    let difference = Difference::new(map.grid(), Order::Second);
    let leaf = |range: Range<usize>| {
        let found = blocks(range).flat_map(|(lo, len)| determinants(&difference, map, lo, len));
        found.fold(f64::INFINITY, nan_min)
    };
    par::reduce(map.grid().len(), leaf, nan_min)
}

/// Minimum that keeps NaN.
fn nan_min(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

/// Voxels that are worked on together: their differences stay in the second cache.
const BLOCK: usize = 1024;

/// The blocks of a range, each by its first voxel and its length.
fn blocks(range: Range<usize>) -> impl Iterator<Item = (usize, usize)> {
    let end = range.end;
    range.step_by(BLOCK).map(move |lo| (lo, BLOCK.min(end - lo)))
}

/// det D(id + u) at the voxels `lo..lo + len`.
fn determinants<T: Real, const D: usize>(
    difference: &Difference<T, D>,
    map: &Displacement<T, D>,
    lo: usize,
    len: usize,
) -> Vec<f64> {
    let mut slopes = vec![T::zero(); D * D * len];
    for (ab, slope) in slopes.chunks_mut(len).enumerate() {
        difference.add(ab % D, map.component(ab / D), lo, slope);
    }
    let of = |a: usize, b: usize| &slopes[(a * D + b) * len..][..len];
    let slopes: [[&[T]; D]; D] = from_fn(|a| from_fn(|b| of(a, b)));
    let mut out = vec![0.0; len];
    for (k, out) in out.iter_mut().enumerate() {
        *out = determinant(SMatrix::<f64, D, D>::from_fn(|a, b| {
            f64::from(u8::from(a == b)) + slopes[a][b][k].f64()
        }));
    }
    out
}

/// A barrier that keeps a map from folding: the mean over the voxels of φ(det D(id + u)),
/// φ(d) = log²((d − bound)/(reach − bound)) between the two, 0 above `reach`, and ∞ at `bound` and below.
///
/// φ and its slope are continuous at `reach`. Adds `scale` times the gradient to `bar` and returns the mean,
/// without `scale`, and the smallest determinant (NaN where there is one). Nothing is added where the mean
/// is not finite. The determinant is that of [`jacobian_determinant`].
///
/// # Errors
/// [`Error::GridMismatch`](crate::Error::GridMismatch) for a gradient over another grid;
/// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
///
/// ```
/// use rdmm_core::{field::Displacement, grid::Grid, ops::jacobian::{FoldBarrier, fold_barrier}};
/// let grid = Grid::new([8, 8], [1.0, 1.0])?;
/// let squeezed = Displacement::<f64, 2>::from_fn(&grid, |x| [-0.7 * x[0], 0.0])?;
/// let mut bar = Displacement::zeros(&grid)?;
/// let barrier = FoldBarrier { bound: 0.1, reach: 0.5 };
/// let (mean, smallest) = fold_barrier(&squeezed, barrier, 1.0, &mut bar)?;
/// assert!((smallest - 0.3).abs() < 1e-12 && mean > 0.0);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[inline(never)]
pub fn fold_barrier<T: Real, const D: usize>(
    map: &Displacement<T, D>,
    barrier: FoldBarrier,
    scale: f64,
    bar: &mut Displacement<T, D>,
) -> Result<(f64, f64)> {
    let grid = map.grid();
    grid.expect_same(bar.grid(), "gradient of the barrier")?;
    let n = grid.len();
    let Met { sum, smallest, voxels } = barrier.meet(map);
    let mean = sum / n as f64;
    if !mean.is_finite() {
        return Ok((mean, smallest));
    }
    // φ′ ∂det/∂(Du)_ab, and back through the differences, at the few voxels where the barrier acts.
    for (k, det) in voxels {
        let factor = scale / n as f64 * barrier.slope(det);
        let beside = neighbours(grid, k);
        let matrix = SMatrix::<f64, D, D>::from_fn(|a, b| {
            let [before, after] = beside[b].map(|at| map.component(a)[at].f64());
            f64::from(a == b) + (after - before) / (2.0 * grid.spacing()[b])
        });
        for a in 0..D {
            let bar = bar.component_mut(a);
            for b in 0..D {
                let slope = factor * cofactor(matrix, a, b) / (2.0 * grid.spacing()[b]);
                let [before, after] = beside[b];
                bar[after] += T::of(slope);
                bar[before] -= T::of(slope);
            }
        }
    }
    Ok((mean, smallest))
}

/// The voxels before and behind a voxel along every axis, folded back at the border.
fn neighbours<const D: usize>(grid: &Grid<D>, flat: usize) -> [[usize; 2]; D] {
    let (index, shape, strides) = (grid.unravel(flat), grid.shape(), grid.strides());
    std::array::from_fn(|a| {
        let i = index[a].cast_signed();
        let folded = |j: isize| fold_index(j, shape[a], grid.boundary());
        [i - 1, i + 1].map(|j| flat - index[a] * strides[a] + folded(j) * strides[a])
    })
}

/// Where [`fold_barrier`] acts.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FoldBarrier {
    /// Determinants of this and below cost infinitely much.
    pub bound: f64,
    /// Determinants of this and above cost nothing.
    pub reach: f64,
}

/// What a barrier meets in a part of a map.
struct Met {
    /// Σ φ.
    sum: f64,
    /// Smallest determinant, NaN where there is one.
    smallest: f64,
    /// Where φ is not zero, and the determinants there.
    voxels: Vec<(usize, f64)>,
}

impl FoldBarrier {
    fn meet<T: Real, const D: usize>(self, map: &Displacement<T, D>) -> Met {
        let difference = Difference::new(map.grid(), Order::Second);
        let leaf = |range: Range<usize>| {
            let mut met = Met { sum: 0.0, smallest: f64::INFINITY, voxels: Vec::new() };
            for (lo, len) in blocks(range) {
                for (k, det) in (lo..).zip(determinants(&difference, map, lo, len)) {
                    met.smallest = nan_min(met.smallest, det);
                    if det.is_nan() || det < self.reach {
                        met.sum += self.value(det);
                        met.voxels.push((k, det));
                    }
                }
            }
            met
        };
        let join = |mut a: Met, b: Met| {
            a.voxels.extend(b.voxels);
            Met { sum: a.sum + b.sum, smallest: nan_min(a.smallest, b.smallest), voxels: a.voxels }
        };
        par::reduce(map.grid().len(), leaf, join)
    }

    fn value(self, det: f64) -> f64 {
        if det <= self.bound || det.is_nan() {
            f64::INFINITY
        } else if det < self.reach {
            ((det - self.bound) / (self.reach - self.bound)).ln().powi(2)
        } else {
            0.0
        }
    }

    fn slope(self, det: f64) -> f64 {
        if det > self.bound && det < self.reach {
            let rest = det - self.bound;
            2.0 * (rest / (self.reach - self.bound)).ln() / rest
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::{Boundary, Grid};
    use crate::space::StateSpace;
    use crate::testing::random;

    #[test]
    fn the_barrier_has_its_gradient() {
        for boundary in Boundary::ALL {
            let grid = Grid::new([6, 7, 5], [0.5, 1.0, 0.8]).unwrap().with_boundary(boundary);
            let field = |seed, size: f64| {
                let data = random::<f64>(3 * grid.len(), seed).iter().map(|x| size * x).collect();
                Displacement::<f64, 3>::from_vec(&grid, data).unwrap()
            };
            let (map, direction) = (field(1, 0.3), field(2, 1.0));
            let barrier = FoldBarrier { bound: 0.05, reach: 1.1 };
            let mut bar = Displacement::zeros(&grid).unwrap();
            let (value, smallest) = fold_barrier(&map, barrier, 3.0, &mut bar).unwrap();
            assert!(value > 0.01 && smallest > 0.05 && smallest < 0.6, "{value} {smallest}");
            let slope = bar.dot(&direction);
            let mut at = |e: f64| {
                let mut moved = map.clone();
                moved.axpy(e, &direction);
                3.0 * fold_barrier(&moved, barrier, 0.0, &mut bar).unwrap().0
            };
            // Truncation e² of the third derivative, rounding 1e-16/e.
            let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
            assert!((numeric - slope).abs() < 1e-6 * slope.abs().max(1.0), "{numeric} {slope}");
            let mut remainder = |e: f64| (at(e) - 3.0 * value - e * slope).abs();
            let order = (remainder(2e-4) / remainder(1e-4)).log2();
            // φ″ jumps at `reach`, at few of the voxels.
            assert!((order - 2.0).abs() < 0.1, "{order}");
        }
    }

    #[test]
    fn folds_cost_infinitely_much_and_flat_maps_nothing() {
        let grid = Grid::new([6, 6], [1.0, 1.0]).unwrap();
        let barrier = FoldBarrier { bound: 0.0, reach: 0.5 };
        let mut bar = Displacement::<f64, 2>::zeros(&grid).unwrap();
        let rest = Displacement::zeros(&grid).unwrap();
        assert_eq!(fold_barrier(&rest, barrier, 1.0, &mut bar).unwrap(), (0.0, 1.0));
        let folded = Displacement::from_fn(&grid, |x| [-1.5 * x[0], 0.0]).unwrap();
        let (value, smallest) = fold_barrier(&folded, barrier, 1.0, &mut bar).unwrap();
        assert!(value.is_infinite() && smallest < 0.0);
        assert!(bar.data().iter().all(|g| *g == 0.0), "nothing is added");
    }

    #[test]
    fn the_determinant_is_full_and_in_physical_units() {
        let grid = Grid::new([8, 6, 7], [0.5, 2.0, 1.0]).unwrap();
        let matrix = [[0.1, 0.4, -0.2], [0.3, -0.2, 0.1], [0.0, 0.5, 0.2]];
        let map = Displacement::<f64, 3>::from_fn(&grid, |x| {
            std::array::from_fn(|c| (0..3).map(|b| matrix[c][b] * x[b]).sum())
        })
        .unwrap();
        let det = jacobian_determinant(&map).unwrap();
        let shifted =
            SMatrix::<f64, 3, 3>::from_fn(|a, b| matrix[a][b] + if a == b { 1.0 } else { 0.0 });
        let expected = determinant(shifted);
        let centre = det.view()[[4, 3, 3]];
        assert!((centre - expected).abs() < 1e-13, "central differences are exact on a linear map");
    }
}
