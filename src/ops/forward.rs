//! Forward differences along an axis, and their exact transposes.

use super::difference::fold_index;
use super::or_nan;
use crate::grid::Grid;
use crate::scalar::Real;

/// Forward differences (f₊₁ − f) / h over a grid, in physical units, of first order.
///
/// They vanish for constants alone, as total variation needs it: central differences do not see a field
/// that alternates from voxel to voxel.
///
/// On periodic grids the last voxel's neighbour is the first; on others it is itself, so that its
/// difference is zero.
///
/// # References
/// Chambolle, *An algorithm for total variation minimization and applications*, J. Math. Imaging Vis. 20
/// (2004), doi:10.1023/B:JMIV.0000011325.36760.1e.
#[derive(Clone, Debug)]
pub struct Forward<const D: usize> {
    /// Rows, and the stride between them, of each axis.
    lanes: [(usize, usize); D],
    /// The row after the last.
    wrap: [usize; D],
    inverse_spacing: [f64; D],
    n: usize,
}

impl<const D: usize> Forward<D> {
    /// Forward differences with the grid's spacing and boundary.
    #[must_use]
    pub fn new(grid: &Grid<D>) -> Self {
        let lanes = std::array::from_fn(|a| {
            let (_, n, inner) = grid.lanes(a);
            (n, inner)
        });
        let wrap = grid.shape().map(|n| fold_index(n.cast_signed(), n, grid.boundary()));
        Self { lanes, wrap, inverse_spacing: grid.spacing().map(f64::recip), n: grid.len() }
    }

    /// Whether `f` is a whole component and `out` a part of one, from `lo` on.
    fn fits<T>(&self, axis: usize, f: &[T], lo: usize, out: &[T]) -> bool {
        axis < D && f.len() == self.n && lo <= self.n && out.len() <= self.n - lo
    }

    /// `out += ∂⁺f` along `axis` for the chunk of `out` that starts at flat index `lo`; `f` is a whole
    /// component.
    #[inline(never)]
    pub fn add<T: Real>(&self, axis: usize, f: &[T], lo: usize, out: &mut [T]) {
        if !or_nan(self.fits(axis, f, lo, out), out) {
            return;
        }
        let ((rows, inner), scale) = (self.lanes[axis], T::of(self.inverse_spacing[axis]));
        self.runs(axis, lo, out, |row, at, out| {
            let last = row + 1 == rows;
            let next = if last { at - row * inner + self.wrap[axis] * inner } else { at + inner };
            let (here, next) = (&f[at..][..out.len()], &f[next..][..out.len()]);
            for ((out, &here), &next) in out.iter_mut().zip(here).zip(next) {
                *out += scale * (next - here);
            }
        });
    }

    /// `out += ∂⁺ᵀ p` along `axis` for the chunk of `out` that starts at flat index `lo`; `p` is a whole
    /// component.
    #[inline(never)]
    pub fn add_transposed<T: Real>(&self, axis: usize, p: &[T], lo: usize, out: &mut [T]) {
        if !or_nan(self.fits(axis, p, lo, out), out) {
            return;
        }
        let ((rows, inner), scale) = (self.lanes[axis], T::of(self.inverse_spacing[axis]));
        let (last, wrap) = (rows - 1, self.wrap[axis]);
        self.runs(axis, lo, out, |row, at, out| {
            // The rows whose neighbour this is, less the row itself.
            let mut add = |scale: T, from: usize| {
                for (out, &p) in out.iter_mut().zip(&p[from..]) {
                    *out += scale * p;
                }
            };
            add(-scale, at);
            if row > 0 {
                add(scale, at - inner);
            }
            if row == wrap {
                add(scale, at - row * inner + last * inner);
            }
        });
    }

    /// Calls `f(row, at, run)` for the runs of a chunk, which starts at flat index `lo`, in the first row, in the last,
    /// and in those between: `row` is that of the first element of a run, `at` its flat index.
    fn runs<T>(
        &self,
        axis: usize,
        lo: usize,
        mut out: &mut [T],
        mut f: impl FnMut(usize, usize, &mut [T]),
    ) {
        let (rows, inner) = self.lanes[axis];
        let (block, mut at) = (rows * inner, lo);
        while !out.is_empty() {
            let place = at % block;
            let ends = [inner, block - inner, block].into_iter().filter(|end| *end > place);
            let len = ends.fold(block, usize::min) - place;
            let (run, rest) = out.split_at_mut(len.min(out.len()));
            f(place / inner, at, run);
            (at, out) = (at + len, rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Boundary;
    use crate::testing::random;

    #[test]
    fn transposes_match_at_every_boundary() {
        for boundary in Boundary::ALL {
            let grid = Grid::new([4, 7, 5], [0.5, 1.0, 2.0]).unwrap().with_boundary(boundary);
            let (forward, n) = (Forward::new(&grid), grid.len());
            let (f, g) = (random::<f64>(n, 1), random::<f64>(n, 2));
            for axis in 0..3 {
                let (mut there, mut back) = (vec![0.0; n], vec![0.0; n]);
                // Chunks that cut lanes anywhere must give what one pass gives.
                for (lo, chunk) in there.chunks_mut(17).enumerate() {
                    forward.add(axis, &f, lo * 17, chunk);
                }
                for (lo, chunk) in back.chunks_mut(13).enumerate() {
                    forward.add_transposed(axis, &g, lo * 13, chunk);
                }
                let (left, right) = (crate::field::dot(&there, &g), crate::field::dot(&back, &f));
                // Sums of 140 terms of order one, to rounding.
                assert!((left - right).abs() < 1e-12, "{boundary:?} {axis}: {left} {right}");
                assert!(left.abs() > 1e-3);
            }
        }
    }

    #[test]
    fn a_ramp_has_its_slope_and_the_border_follows_the_boundary() {
        for boundary in Boundary::ALL {
            let grid = Grid::new([4, 6], [0.5, 0.25]).unwrap().with_boundary(boundary);
            let ramp: Vec<f64> = (0..24).map(|i| 3.0 * 0.25 * f64::from(i % 6)).collect();
            let mut out = vec![0.0; 24];
            Forward::new(&grid).add(1, &ramp, 0, &mut out);
            // A few roundings of numbers of order ten.
            assert!((out[0] - 3.0).abs() < 1e-13 && (out[4] - 3.0).abs() < 1e-13);
            let last = if boundary == Boundary::Periodic { -15.0 } else { 0.0 };
            assert!((out[5] - last).abs() < 1e-13, "{boundary:?}");
        }
    }

    #[test]
    fn operands_that_do_not_fit_give_nan() {
        let grid = Grid::new([4, 4], [1.0, 1.0]).unwrap();
        let forward = Forward::new(&grid);
        for (axis, n, lo) in [(2, 16, 0), (0, 15, 0), (0, 16, 9)] {
            let mut out = [0.0_f64; 8];
            forward.add(axis, &vec![1.0; n], lo, &mut out);
            assert!(out.iter().all(|x| x.is_nan()));
            let mut out = [0.0_f64; 8];
            forward.add_transposed(axis, &vec![1.0; n], lo, &mut out);
            assert!(out.iter().all(|x| x.is_nan()));
        }
    }
}
