//! Cubic B-spline coefficients: the symmetric prefilter along every axis.

use super::or_nan;
use crate::grid::{Boundary, Grid};
use crate::par;
use crate::scalar::Real;
use crate::simd::vectorised;

/// The Cholesky-like factors of the tridiagonal matrix ⅙(1, 4, 1) along one axis.
#[derive(Clone, Debug)]
struct Axis<T> {
    /// Sub-diagonal multipliers and inverse pivots of L D Lᵀ.
    factor: Vec<(T, T)>,
    /// For a periodic axis: the Sherman–Morrison vector z and the weight of z·e.
    cyclic: Option<(Vec<T>, T)>,
}

impl<T: Real> Axis<T> {
    fn new(n: usize, boundary: Boundary) -> Self {
        let (off, mid) = (1.0 / 6.0, 4.0 / 6.0);
        let periodic = boundary == Boundary::Periodic;
        // Mirrored ends see themselves. The periodic matrix is the one below plus off·e eᵀ with
        // e = (1, 0, …, 0, 1).
        let end = if periodic { mid - off } else { mid + off };
        let mut factor = Vec::with_capacity(n);
        let mut pivot = end;
        factor.push((0.0, 1.0 / pivot));
        for i in 1..n {
            let l = off / pivot;
            pivot = (if i + 1 == n { end } else { mid }) - l * off;
            factor.push((l, 1.0 / pivot));
        }
        let cyclic = periodic.then(|| {
            let mut z = vec![0.0; n];
            (z[0], z[n - 1]) = (1.0, 1.0);
            for i in 1..n {
                z[i] -= factor[i].0 * z[i - 1];
            }
            z[n - 1] *= factor[n - 1].1;
            for i in (0..n - 1).rev() {
                z[i] = z[i] * factor[i].1 - factor[i + 1].0 * z[i + 1];
            }
            let weight = off / (1.0 + off * (z[0] + z[n - 1]));
            (z.into_iter().map(T::of).collect(), T::of(weight))
        });
        let factor = factor.into_iter().map(|(l, p)| (T::of(l), T::of(p))).collect();
        Self { factor, cyclic }
    }

    /// Solves in place across rows, one for each point of the axis.
    #[inline(always)]
    fn solve_across(&self, rows: &mut [&mut [T]]) {
        let n = self.factor.len();
        for i in 1..n {
            let (before, from_here) = rows.split_at_mut(i);
            let l = self.factor[i].0;
            for (x, &p) in from_here[0].iter_mut().zip(&*before[i - 1]) {
                *x -= l * p;
            }
        }
        let last = self.factor[n - 1].1;
        rows[n - 1].iter_mut().for_each(|x| *x *= last);
        for i in (0..n - 1).rev() {
            let (before, after) = rows.split_at_mut(i + 1);
            let (pivot, l) = (self.factor[i].1, self.factor[i + 1].0);
            for (x, &next) in before[i].iter_mut().zip(&*after[0]) {
                *x = *x * pivot - l * next;
            }
        }
        if let Some((z, weight)) = &self.cyclic {
            for k in 0..rows[0].len() {
                let s = *weight * (rows[0][k] + rows[n - 1][k]);
                for (row, &z) in rows.iter_mut().zip(z) {
                    row[k] -= s * z;
                }
            }
        }
    }

    /// Solves in place for `L` lanes of `C` numbers a point, one after the other in memory: each recurrence
    /// waits for its last value, so that several run at once.
    #[inline(always)]
    fn solve_lanes<const C: usize, const L: usize>(&self, lanes: &mut [[T; C]]) {
        let n = self.factor.len();
        let mut lanes = par::split::<[T; C], L>(lanes, n);
        let mut previous = [[T::zero(); C]; L];
        for (i, &(l, _)) in self.factor.iter().enumerate() {
            for (lane, previous) in lanes.iter_mut().zip(&mut previous) {
                for (x, previous) in lane[i].iter_mut().zip(previous) {
                    *x -= l * *previous;
                    *previous = *x;
                }
            }
        }
        let last = self.factor[n - 1].1;
        for (lane, previous) in lanes.iter_mut().zip(&mut previous) {
            lane[n - 1] = previous.map(|x| x * last);
            *previous = lane[n - 1];
        }
        for i in (0..n - 1).rev() {
            let (pivot, l) = (self.factor[i].1, self.factor[i + 1].0);
            for (lane, next) in lanes.iter_mut().zip(&mut previous) {
                for (x, next) in lane[i].iter_mut().zip(next) {
                    *x = *x * pivot - l * *next;
                    *next = *x;
                }
            }
        }
        if let Some((z, weight)) = &self.cyclic {
            for lane in lanes {
                for c in 0..C {
                    let s = *weight * (lane[0][c] + lane[n - 1][c]);
                    for (x, &z) in lane.iter_mut().zip(z) {
                        x[c] -= s * z;
                    }
                }
            }
        }
    }

    /// Solves in place for all lanes of some blocks with `inner` lanes of `C` numbers a point.
    #[inline(always)]
    fn solve_blocks<const C: usize>(&self, inner: usize, blocks: &mut [T]) {
        let block = self.factor.len() * inner * C;
        if inner > 1 {
            for block in blocks.chunks_mut(block) {
                let mut rows: Vec<_> = block.chunks_mut(inner * C).collect();
                self.solve_across(&mut rows);
            }
            return;
        }
        // Vectors bring independent recurrences of their own.
        if C == 1 {
            self.solve_groups::<C, TOGETHER>(blocks);
        } else {
            self.solve_groups::<C, 2>(blocks);
        }
    }

    /// Solves in place for lanes of `C` numbers a point, `L` of them at once.
    #[inline(always)]
    fn solve_groups<const C: usize, const L: usize>(&self, lanes: &mut [T]) {
        let lane = self.factor.len() * C;
        let mut groups = lanes.chunks_exact_mut(L * lane);
        for group in &mut groups {
            self.solve_lanes::<C, L>(group.as_chunks_mut().0);
        }
        for lane in groups.into_remainder().chunks_mut(lane) {
            self.solve_lanes::<C, 1>(lane.as_chunks_mut().0);
        }
    }
}

/// Columns that are solved there and back: with hundreds of rows they fit into the second-level cache.
const COLUMNS: usize = 256;

/// Lanes that are solved at once.
const TOGETHER: usize = 8;

/// Turns samples into cubic B-spline coefficients.
///
/// Periodic or half-sample mirrored ends, as the grid's boundary says for weights. The matrix is
/// symmetric, so [`Prefilter::apply`] is its own transpose. Five operations a value and axis, two trips
/// through memory; it allocates places of rows, no values.
///
/// Coefficients of a field of several components are interleaved: the components of a voxel stand beside each
/// other, as [`Warp`](super::warp::Warp) reads them.
///
/// # References
/// Unser, Aldroubi, Eden, *B-spline signal processing: Part II*, IEEE Trans. Signal Process. 41
/// (1993), doi:10.1109/78.193221.
#[derive(Clone, Debug)]
pub struct Prefilter<T, const D: usize> {
    axes: [Axis<T>; D],
    lanes: [(usize, usize, usize); D],
}

impl<T: Real, const D: usize> Prefilter<T, D> {
    /// The prefilter of a grid.
    #[must_use]
    #[inline(never)]
    pub fn new(grid: &Grid<D>) -> Self {
        let boundary = grid.boundary().of_weights();
        Self {
            axes: std::array::from_fn(|a| Axis::new(grid.shape()[a], boundary)),
            lanes: std::array::from_fn(|a| grid.lanes(a)),
        }
    }

    /// Replaces samples by coefficients in every component of `data`.
    #[inline(never)]
    pub fn apply(&self, data: &mut [T]) {
        if or_nan(data.len().is_multiple_of(self.len()), data) {
            self.solve::<1>(data, |_, _| ());
        }
    }

    /// Interleaved coefficients of the `C` components of `samples`, C numbers a voxel. Both hold `C` values a voxel;
    /// other lengths make the coefficients NaN.
    ///
    /// ```
    /// use rdmm_core::{grid::Grid, ops::spline::Prefilter, ops::warp::Warp};
    /// let grid = Grid::new([6, 7], [1.0, 1.0])?;
    /// let samples: Vec<f64> = (0..84).map(|i| f64::from(i % 5)).collect();
    /// let mut coefficients = vec![0.0; 84];
    /// Prefilter::new(&grid).interleaved::<2>(&samples, &mut coefficients);
    /// let [a, b] = Warp::new(&grid, &grid).at_index::<2>(&coefficients, [3.0, 2.0]);
    /// let at = 3 * 7 + 2;
    /// assert!((a - samples[at]).abs() < 1e-12 && (b - samples[42 + at]).abs() < 1e-12);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    #[inline(never)]
    pub fn interleaved<const C: usize>(&self, samples: &[T], coefficients: &mut [T]) {
        let n = self.len();
        let fits = samples.len() == C * n && coefficients.len() == C * n;
        if C == 0 || !or_nan(fits, coefficients) {
            return;
        }
        self.solve::<C>(
            coefficients,
            #[inline(always)]
            |start, chunk| {
                let first = start / C;
                for (i, voxel) in chunk.as_chunks_mut::<C>().0.iter_mut().enumerate() {
                    for c in 0..C {
                        voxel[c] = samples[c * n + first + i];
                    }
                }
            },
        );
    }

    /// Transpose of [`Prefilter::interleaved`]: adds to `samples_bar`, and overwrites `coefficients_bar`.
    #[inline(never)]
    pub fn add_transposed<const C: usize>(
        &self,
        coefficients_bar: &mut [T],
        samples_bar: &mut [T],
    ) {
        let n = self.len();
        let fits = samples_bar.len() == C * n && coefficients_bar.len() == C * n;
        if C == 0 || !or_nan(fits, samples_bar) {
            return;
        }
        self.solve::<C>(coefficients_bar, |_, _| ());
        let bars = coefficients_bar.as_chunks::<C>().0;
        par::zipped(par::split::<T, C>(samples_bar, n), |lo, chunks| {
            for c in 0..C {
                for (out, bar) in chunks[c].iter_mut().zip(&bars[lo..]) {
                    *out += bar[c];
                }
            }
        });
    }

    fn len(&self) -> usize {
        self.lanes.first().map_or(1, |&(_, n, inner)| n * inner)
    }

    /// Solves in place for `C` numbers a voxel, after `prepare(start, chunk)` of each chunk: all axes but the first while the
    /// planes are in cache, then across the planes.
    fn solve<const C: usize>(&self, data: &mut [T], prepare: impl Fn(usize, &mut [T]) + Sync) {
        let (Some(across), [(_, n, plane), ..]) = (self.axes.first(), self.lanes.as_slice()) else {
            return;
        };
        let plane = plane * C;
        par::chunks_of(
            data,
            plane * par::CHUNK.div_ceil(plane),
            #[inline(always)]
            |start, chunk| {
                prepare(start, chunk);
                for (axis, &(_, _, inner)) in self.axes.iter().zip(&self.lanes).skip(1).rev() {
                    axis.solve_blocks::<C>(inner, chunk);
                }
            },
        );
        let mut slots = vec![(); plane.div_ceil(COLUMNS)];
        for field in data.chunks_mut(n * plane) {
            par::columns(field, plane, COLUMNS, &mut slots, |_, rows, ()| {
                vectorised(
                    #[inline(always)]
                    || across.solve_across(rows),
                );
            });
        }
    }
}

/// Values of the four cubic B-splines that reach a point at fraction `t` of a cell.
#[inline(always)]
pub(crate) fn weights<T: Real>(t: T) -> [T; 4] {
    let (one, six) = (T::one(), T::of(1.0 / 6.0));
    let s = one - t;
    let (t2, s2) = (t * t, s * s);
    let w0 = s2 * s * six;
    let w3 = t2 * t * six;
    let w1 = T::of(2.0 / 3.0) - t2 + T::of(0.5) * t2 * t;
    let w2 = T::of(2.0 / 3.0) - s2 + T::of(0.5) * s2 * s;
    [w0, w1, w2, w3]
}

/// Derivatives of [`weights`] with respect to `t`.
#[inline(always)]
pub(crate) fn derivatives<T: Real>(t: T) -> [T; 4] {
    let half = T::of(0.5);
    let s = T::one() - t;
    let (t2, s2) = (t * t, s * s);
    let (d0, d3) = (-half * s2, half * t2);
    let d1 = T::of(1.5) * t2 - T::of(2.0) * t;
    let d2 = T::of(2.0) * s - T::of(1.5) * s2;
    [d0, d1, d2, d3]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;

    /// The dense matrix that the prefilter inverts.
    fn sample(c: &[f64], boundary: Boundary) -> Vec<f64> {
        let n = c.len();
        let at = |i: isize| c[crate::ops::difference::fold_index(i, n, boundary)];
        (0..n.cast_signed()).map(|i| (at(i - 1) + 4.0 * at(i) + at(i + 1)) / 6.0).collect()
    }

    #[test]
    fn coefficients_reproduce_the_samples() {
        for boundary in Boundary::ALL {
            for n in [4, 5, 17] {
                let samples: Vec<f64> = random(n, 7);
                let mut c = samples.clone();
                Axis::new(n, boundary).solve_lanes::<1, 1>(c.as_chunks_mut().0);
                for (a, b) in sample(&c, boundary).iter().zip(&samples) {
                    assert!((a - b).abs() < 1e-13, "{boundary:?}: an exact solve, to rounding");
                }
            }
        }
    }

    #[test]
    fn lanes_and_columns_together_equal_lanes_alone() {
        for boundary in Boundary::ALL {
            let grid = Grid::new([6, 13, 7], [1.0; 3]).unwrap().with_boundary(boundary);
            let samples: Vec<f64> = random(grid.len(), 5);
            let mut found = samples.clone();
            Prefilter::new(&grid).apply(&mut found);
            let mut expected = samples;
            for axis in (0..3).rev() {
                let (outer, n, inner) = grid.lanes(axis);
                let solver = Axis::new(n, boundary);
                for lane in 0..outer * inner {
                    let at = |i: usize| (lane / inner * n + i) * inner + lane % inner;
                    let mut values: Vec<f64> = (0..n).map(|i| expected[at(i)]).collect();
                    solver.solve_lanes::<1, 1>(values.as_chunks_mut().0);
                    (0..n).for_each(|i| expected[at(i)] = values[i]);
                }
            }
            assert_eq!(found, expected, "{boundary:?}: the same operations in another order");
        }
    }

    #[test]
    fn the_prefilter_is_symmetric() {
        for boundary in Boundary::ALL {
            let grid = Grid::new([5, 4, 6], [1.0; 3]).unwrap().with_boundary(boundary);
            let p = Prefilter::<f64, 3>::new(&grid);
            let (x, y) = (random::<f64>(120, 1), random::<f64>(120, 2));
            let (mut px, mut py) = (x.clone(), y.clone());
            p.apply(&mut px);
            p.apply(&mut py);
            let left: f64 = px.iter().zip(&y).map(|(a, b)| a * b).sum();
            let right: f64 = py.iter().zip(&x).map(|(a, b)| a * b).sum();
            assert!((left - right).abs() < 1e-12 * left.abs().max(1.0));
        }
    }

    #[test]
    fn splines_sum_to_one_and_derivatives_match() {
        for t in [0.0, 0.25, 0.7, 1.0] {
            let w: [f64; 4] = weights(t);
            assert!((w.iter().sum::<f64>() - 1.0).abs() < 1e-15);
            let e = 1e-6;
            let (a, b, d) = (weights(t + e), weights(t - e), derivatives::<f64>(t));
            for k in 0..4 {
                // Central differences of a cubic: the error is e², far below 1e-9.
                assert!(((a[k] - b[k]) / (2.0 * e) - d[k]).abs() < 1e-9);
            }
        }
    }
}
