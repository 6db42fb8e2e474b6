//! Windows of local correlations: linear averages that are symmetric as matrices.

use crate::error::{Error, Result};
use crate::field::Weights;
use crate::grid::{Boundary, Grid};
use crate::kernel::gaussian::thousand_units;
use crate::kernel::{Gaussian, Kernel, Workspace};
use crate::ops::difference::fold_index;
use crate::par;
use crate::scalar::Real;

/// What a local correlation averages over, in physical units. Both are mirrored at the border, or
/// repeated on a periodic grid.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Window {
    /// A Gaussian: near voxels count more.
    Gaussian {
        /// Standard deviation, from half the coarsest spacing to the largest extent.
        sigma: f64,
    },
    /// A box (a cube): all voxels in it count alike, those at its faces by the part that lies inside.
    Box {
        /// Length of the sides. Its [`Window::sigma`] has the same bounds as that of a Gaussian.
        width: f64,
    },
}

impl Window {
    /// The Gaussian with the variance of a box: σ = `width` / √12 along each axis.
    ///
    /// ```
    /// use rdmm_core::similarity::Window;
    /// let (gaussian, cube) = (Window::gaussian_like_box(6.0), Window::Box { width: 6.0 });
    /// assert_eq!(gaussian.sigma(), cube.sigma());
    /// ```
    #[must_use]
    pub fn gaussian_like_box(width: f64) -> Self {
        Self::Gaussian { sigma: width / 12.0_f64.sqrt() }
    }

    /// Standard deviation along each axis, physical units.
    #[must_use]
    pub fn sigma(&self) -> f64 {
        match *self {
            Self::Gaussian { sigma } => sigma,
            Self::Box { width } => width / 12.0_f64.sqrt(),
        }
    }
}

/// A [`Window`] on one grid, with its buffers.
pub(super) enum Average<T, const D: usize> {
    Gaussian(Gaussian<T, D>, Box<Workspace<T>>),
    Box([Axis; D], Vec<T>),
}

impl<T: Real, const D: usize> Average<T, D> {
    pub(super) fn new(window: Window, grid: &Grid<D>) -> Result<Self> {
        let boundary = grid.boundary().of_weights();
        Ok(match window {
            Window::Gaussian { sigma } => {
                let grid = grid.clone().with_boundary(boundary);
                let gaussian = Gaussian::new(&grid, sigma)?;
                Self::Gaussian(gaussian.with_tolerance(thousand_units::<T>())?, Box::default())
            }
            Window::Box { width } => {
                let (sigma, h) = (window.sigma(), grid.coarsest_spacing());
                // Rounding of physical units must not refuse a width that is exactly on a bound.
                let slack = 1e-9;
                if !(sigma >= 0.5 * h * (1.0 - slack)
                    && sigma <= grid.largest_extent() * (1.0 + slack))
                {
                    let expected = "from √3 coarsest spacings to √12 largest extents";
                    return Err(Error::setting("width of a box window", expected, width));
                }
                let axis = |a: usize| Axis::new(grid.lanes(a), width / grid.spacing()[a], boundary);
                let scratch = Weights::<T, D>::zeros_with(grid, 3)?.into_vec();
                Self::Box(std::array::from_fn(axis), scratch)
            }
        })
    }

    /// `out` ← averages of the three components of `input`.
    pub(super) fn apply(&mut self, input: &[T], out: &mut [T]) {
        match self {
            Self::Gaussian(gaussian, ws) => gaussian.apply(input, out, ws),
            Self::Box(axes, scratch) => {
                out.copy_from_slice(input);
                for axis in axes {
                    scratch.copy_from_slice(out);
                    axis.apply(scratch, out);
                }
            }
        }
    }
}

/// Columns that are averaged together: their sums stay in registers and the first-level cache.
const COLUMNS: usize = 64;

/// Running averages along one axis.
pub(super) struct Axis {
    n: usize,
    inner: usize,
    /// Voxels on each side that lie in the box as a whole.
    reach: usize,
    /// Part of the next voxel on each side.
    part: f64,
    /// One over the width in voxels.
    scale: f64,
    /// Where positions −reach − 1, …, n + reach read from.
    index: Vec<usize>,
}

impl Axis {
    fn new((_, n, inner): (usize, usize, usize), voxels: f64, boundary: Boundary) -> Self {
        let side = (0.5 * (voxels - 1.0)).max(0.0);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "at most √12 largest extents in voxels"
        )]
        #[expect(clippy::cast_sign_loss, reason = "not negative")]
        let reach = side.floor() as usize;
        let first = -reach.cast_signed() - 1;
        let fold = |k: usize| fold_index(first + k.cast_signed(), n, boundary);
        Self {
            n,
            inner,
            reach,
            part: side - side.floor(),
            scale: 1.0 / (2.0 * side + 1.0),
            index: (0..n + 2 * reach + 2).map(fold).collect(),
        }
    }

    /// The window of row i: position i + k reads `index[i + k]`, k from 0 to 2 reach + 2, the first and
    /// the last in part. Sums move on by one voxel in and one out, and start anew with each chunk.
    fn apply<T: Real>(&self, input: &[T], out: &mut [T]) {
        let (inner, block) = (self.inner, self.n * self.inner);
        // Chunks long enough that their first sums cost no more than the others.
        let rows = par::CHUNK.div_ceil(inner).max(2 * self.reach + 1);
        par::chunks_of(out, rows * inner, |lo, chunk| {
            for column in (0..inner).step_by(COLUMNS) {
                let columns = COLUMNS.min(inner - column);
                let mut sums = [0.0; COLUMNS];
                for (r, out) in chunk.chunks_mut(inner).enumerate() {
                    let at = lo + r * inner;
                    let (lane, i) = (at / block * block + column, at % block / inner);
                    let row = |k: usize| &input[lane + self.index[i + k] * inner..][..columns];
                    let last = 2 * self.reach + 1;
                    if r == 0 || i == 0 {
                        sums = [0.0; COLUMNS];
                        for k in 1..=last {
                            add(&mut sums, 1.0, row(k));
                        }
                    } else {
                        add(&mut sums, 1.0, row(last));
                        add(&mut sums, -1.0, row(0));
                    }
                    let (before, after) = (row(0), row(last + 1));
                    for (c, out) in out[column..][..columns].iter_mut().enumerate() {
                        let ends = before[c].f64() + after[c].f64();
                        *out = T::of(self.scale * (sums[c] + self.part * ends));
                    }
                }
            }
        });
    }
}

fn add<T: Real>(sums: &mut [f64; COLUMNS], sign: f64, row: &[T]) {
    for (sum, x) in sums.iter_mut().zip(row) {
        *sum += sign * x.f64();
    }
}

/// Weights of a box along one axis by the overlap of voxels with it, and its mirror images.
#[cfg(test)]
pub(super) fn overlaps(n: usize, voxels: f64, periodic: bool) -> Vec<Vec<f64>> {
    let n = n.cast_signed();
    let images = |j: isize, k: isize| {
        if periodic { vec![j + k * n] } else { vec![j + 2 * k * n, 2 * k * n - 1 - j] }
    };
    // Overlap of [d − ½, d + ½] with [−w/2, w/2], over w.
    let overlap = |d: isize| {
        let (d, half) = (d as f64, 0.5 * voxels);
        ((d + 0.5).min(half) - (d - 0.5).max(-half)).max(0.0) / voxels
    };
    let weight = |i, j| (-12..=12).flat_map(|k| images(j, k)).map(|j| overlap(i - j)).sum::<f64>();
    (0..n).map(|i| (0..n).map(|j| weight(i, j)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;

    #[test]
    fn box_averages_equal_direct_sums_and_are_symmetric() {
        for boundary in Boundary::ALL {
            let grid = Grid::new([6, 70], [1.0, 0.25]).unwrap().with_boundary(boundary);
            let periodic = boundary == Boundary::Periodic;
            // The widest one reaches across the grid and its mirror images.
            for width in [1.8, 2.5, 3.0, 17.0] {
                let (wx, wy) = (overlaps(6, width, periodic), overlaps(70, 4.0 * width, periodic));
                for (w, n) in [(&wx, 6), (&wy, 70)] {
                    for (i, j) in (0..n).flat_map(|i| (0..n).map(move |j| (i, j))) {
                        assert!((w[i][j] - w[j][i]).abs() < 1e-15, "the oracle is symmetric");
                    }
                }
                let mut average = Average::new(Window::Box { width }, &grid).unwrap();
                let (input, mut out) = (random::<f64>(3 * 420, 4), vec![f64::NAN; 3 * 420]);
                average.apply(&input, &mut out);
                for (at, found) in out.iter().enumerate() {
                    let (c, i, j) = (at / 420, at % 420 / 70, at % 70);
                    let direct: f64 =
                        (0..420).map(|k| wx[i][k / 70] * wy[j][k % 70] * input[c * 420 + k]).sum();
                    // Rounding of sums of up to 420 values below one.
                    assert!((direct - found).abs() < 1e-14, "{boundary:?} {width} at {at}");
                }
            }
        }
    }

    #[test]
    fn a_box_and_its_gaussian_see_the_same_variance() {
        let grid = Grid::new([80, 80], [0.5, 0.5]).unwrap();
        let ramp: Vec<f64> = (0..6400).map(|k| 0.5 * f64::from(k / 80)).collect();
        let square: Vec<f64> = ramp.iter().map(|x| x * x).collect();
        let input = [ramp, square, vec![0.0; 6400]].concat();
        for width in [2.5, 4.0, 7.3] {
            for window in [Window::Box { width }, Window::gaussian_like_box(width)] {
                let mut average = Average::new(window, &grid).unwrap();
                let mut out = vec![f64::NAN; 3 * 6400];
                average.apply(&input, &mut out);
                let centre = 40 * 80 + 40;
                let variance = out[6400 + centre] - out[centre].powi(2);
                // Σ of a sampled Gaussian is σ² to rounding. Sums over the voxels of a box know nothing of
                // what varies within a voxel, a variance of h²/12, and at most as much more of its two ends.
                let missing = window.sigma().powi(2) - variance;
                assert!(missing.abs() < 2.0 * 0.5 * 0.5 / 12.0, "{window:?}: {missing}");
            }
        }
    }

    #[test]
    fn long_lanes_are_cut_into_chunks_without_a_trace() {
        // Three chunks along the first axis, and running sums that start anew in each.
        let grid = Grid::new([40_000, 4], [1.0, 1.0]).unwrap();
        let n = grid.len();
        let mut average = Average::new(Window::Box { width: 501.0 }, &grid).unwrap();
        let ramp: Vec<f64> = (0..3 * n).map(|k| (k % n / 4) as f64).collect();
        let mut out = vec![f64::NAN; 3 * n];
        average.apply(&ramp, &mut out);
        for i in 250..40_000 - 250 {
            // A symmetric window keeps a ramp. Values of 4e4 summed 501 times: 1e-16 · 4e4 · 501.
            assert!((out[4 * i + 1] - i as f64).abs() < 1e-8, "{i}: {}", out[4 * i + 1]);
        }
    }
}
