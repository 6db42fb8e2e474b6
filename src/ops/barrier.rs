//! The barrier that keeps a map, and its inverse, from folding.

use std::ops::Range;

use super::cells::{Cells, nan_min};
use crate::error::Result;
use crate::field::Displacement;
use crate::par;
use crate::scalar::Real;

/// Where [`fold_barrier`] acts: from `reach` down to `bound` on a determinant, and on its reciprocal.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FoldBarrier {
    /// Determinants of this and below, and of its reciprocal and above, cost infinitely much.
    pub bound: f64,
    /// Determinants between this, below one, and its reciprocal cost nothing.
    pub reach: f64,
}

/// A barrier that keeps a map from folding, and from growing so much that its inverse folds: the mean over the cells of
/// b(d) = φ(d) + φ(1/d), with φ(d) = log²((d − bound)/(reach − bound)) between the two, 0 above `reach` and ∞ at `bound`
/// and below. d are the determinants of a cell's simplices, each by its part of a cell, as
/// [`cell_determinants`](super::cells::cell_determinants) takes them: where the barrier is finite, the multilinear
/// interpolant of the map turns no simplex over, which is what other tools count as folds. In one and two dimensions it
/// is then one-to-one in every cell; in three that is necessary, not sufficient.
///
/// φ and its slope are continuous at `reach`. Adds `scale` times the gradient to `bar` and returns the mean, without
/// `scale`, and the smallest of all d and 1/d (NaN where there is one). Nothing is added where the mean is not finite.
/// The cost is that of a pass over the map, and more only at the cells where it acts.
///
/// # Errors
/// [`Error::GridMismatch`](crate::Error::GridMismatch) for a gradient over another grid.
///
/// ```
/// use rdmm_core::{field::Displacement, grid::Grid, ops::barrier::{FoldBarrier, fold_barrier}};
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
    let cells = Cells::new(map);
    let Met { sum, smallest, cells: met } = barrier.meet(&cells);
    let mean = sum / cells.len() as f64;
    if !mean.is_finite() {
        return Ok((mean, smallest));
    }
    // b′ ∂det/∂edges, and back to the voxels at the ends of the edges, at the few cells where the barrier acts.
    let (scale, n) = (scale / cells.len() as f64, grid.len());
    let per_voxel = grid.spacing().map(f64::recip);
    for cell in met {
        for simplex in cells.of(cell) {
            let factor = scale * simplex.part * barrier.slope(simplex.determinant());
            let Some(gradient) = simplex.gradient().filter(|_| factor != 0.0) else { continue };
            for a in 0..D {
                let mut of_base = 0.0;
                for b in 0..D {
                    let slope = factor * per_voxel[a] * gradient[(b, a)];
                    bar.data_mut()[a * n + simplex.ends[b]] += T::of(slope);
                    of_base -= slope;
                }
                bar.data_mut()[a * n + simplex.base] += T::of(of_base);
            }
        }
    }
    Ok((mean, smallest))
}

/// What a barrier meets in a part of a map.
struct Met {
    /// Σ b.
    sum: f64,
    /// Smallest of all determinants and their reciprocals, NaN where there is one.
    smallest: f64,
    /// Cells where b is not zero.
    cells: Vec<usize>,
}

impl FoldBarrier {
    fn meet<T: Real, const D: usize>(self, cells: &Cells<'_, T, D>) -> Met {
        let leaf = |range: Range<usize>| {
            let mut met = Met { sum: 0.0, smallest: f64::INFINITY, cells: Vec::new() };
            cells.each(range, |cell, least, largest| {
                let worst = nan_min(least.f64(), largest.f64().recip());
                met.smallest = nan_min(met.smallest, worst);
                // A cell that holds determinants of both signs is found by its least one.
                if worst < self.reach || worst.is_nan() {
                    let of = |det: f64| self.value(det);
                    met.sum += cells.of(cell).map(|s| s.part * of(s.determinant())).sum::<f64>();
                    met.cells.push(cell);
                }
            });
            met
        };
        let join = |mut a: Met, b: Met| {
            a.cells.extend(b.cells);
            Met { sum: a.sum + b.sum, smallest: nan_min(a.smallest, b.smallest), cells: a.cells }
        };
        par::reduce(cells.len(), leaf, join)
    }

    /// b(d) = φ(d) + φ(1/d).
    fn value(self, det: f64) -> f64 {
        if det <= 0.0 { f64::INFINITY } else { self.below(det) + self.below(det.recip()) }
    }

    /// b′(d) = φ′(d) − φ′(1/d)/d².
    fn slope(self, det: f64) -> f64 {
        self.slope_below(det) - self.slope_below(det.recip()) / (det * det)
    }

    /// φ.
    fn below(self, det: f64) -> f64 {
        if det <= self.bound || det.is_nan() {
            f64::INFINITY
        } else if det < self.reach {
            ((det - self.bound) / (self.reach - self.bound)).ln().powi(2)
        } else {
            0.0
        }
    }

    /// φ′.
    fn slope_below(self, det: f64) -> f64 {
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

    fn check<const D: usize>(shape: [usize; D], reach: f64) {
        for boundary in Boundary::ALL {
            let spacing = std::array::from_fn(|a| [0.5, 1.0, 0.8][a]);
            let grid = Grid::new(shape, spacing).unwrap().with_boundary(boundary);
            let field = |seed, size: f64| {
                let data = random::<f64>(D * grid.len(), seed).iter().map(|x| size * x).collect();
                Displacement::<f64, D>::from_vec(&grid, data).unwrap()
            };
            let (map, direction) = (field(1, 0.12), field(2, 1.0));
            let barrier = FoldBarrier { bound: 0.05, reach };
            let mut bar = Displacement::zeros(&grid).unwrap();
            let (value, smallest) = fold_barrier(&map, barrier, 3.0, &mut bar).unwrap();
            assert!(value > 0.01 && smallest > 0.05 && smallest < 0.8, "{value} {smallest}");
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
            // φ″ jumps at `reach`, at few of the cells.
            assert!((order - 2.0).abs() < 0.1, "{order}");
        }
    }

    #[test]
    fn the_barrier_has_its_gradient() {
        check([9], 0.9);
        check([6, 7], 0.9);
        check([6, 7, 5], 0.9);
    }

    #[test]
    fn the_mean_is_that_of_the_definition() {
        let grid = Grid::new([6, 7], [0.5, 1.0]).unwrap();
        let data = random::<f64>(2 * grid.len(), 5).iter().map(|x| 0.15 * x).collect();
        let map = Displacement::<f64, 2>::from_vec(&grid, data).unwrap();
        let barrier = FoldBarrier { bound: 0.1, reach: 0.8 };
        let (mut sum, mut cells) = (0.0, 0.0);
        // x + u(x) at the corners of every cell, and the areas of the four triangles there.
        let at = |i: usize, j: usize| {
            let flat = i * 7 + j;
            [0, 1].map(|a| [0.5 * i as f64, j as f64][a] + map.component(a)[flat])
        };
        let phi = |d: f64| if d < 0.8 { ((d - 0.1) / 0.7).ln().powi(2) } else { 0.0 };
        for i in 0..5 {
            for j in 0..6 {
                let ring = [at(i, j), at(i + 1, j), at(i + 1, j + 1), at(i, j + 1)];
                for k in 0..4 {
                    let [p, a, b] = [ring[k], ring[(k + 1) % 4], ring[(k + 3) % 4]];
                    let area = (a[0] - p[0]) * (b[1] - p[1]) - (a[1] - p[1]) * (b[0] - p[0]);
                    sum += 0.25 * (phi(area / 0.5) + phi(0.5 / area));
                }
                cells += 1.0;
            }
        }
        let mut bar = Displacement::zeros(&grid).unwrap();
        let (mean, _) = fold_barrier(&map, barrier, 1.0, &mut bar).unwrap();
        assert!(mean > 1e-3 && (mean - sum / cells).abs() < 1e-13, "{mean} {}", sum / cells);
    }

    #[test]
    fn folds_and_explosions_cost_infinitely_much_and_flat_maps_nothing() {
        let grid = Grid::new([6, 6], [1.0, 1.0]).unwrap();
        let barrier = FoldBarrier { bound: 0.1, reach: 0.5 };
        let mut bar = Displacement::<f64, 2>::zeros(&grid).unwrap();
        let rest = Displacement::zeros(&grid).unwrap();
        assert_eq!(fold_barrier(&rest, barrier, 1.0, &mut bar).unwrap(), (0.0, 1.0));
        for factor in [-1.5, -0.95, 10.0] {
            let folded = Displacement::from_fn(&grid, |x| [factor * x[0], 0.0]).unwrap();
            let (value, smallest) = fold_barrier(&folded, barrier, 1.0, &mut bar).unwrap();
            assert!(value.is_infinite() && smallest < 0.1, "{factor}: {smallest}");
        }
        assert!(bar.data().iter().all(|g| *g == 0.0), "nothing is added");
        // A single voxel out of line, which central differences do not look at.
        let mut spike = rest.clone();
        spike.component_mut(0)[14] = 1.2;
        assert!(fold_barrier(&spike, barrier, 1.0, &mut bar).unwrap().0.is_infinite());
        let mut broken = rest;
        broken.component_mut(1)[7] = f64::NAN;
        let (mean, smallest) = fold_barrier(&broken, barrier, 1.0, &mut bar).unwrap();
        assert!(!mean.is_finite() && smallest.is_nan());
    }
}
