//! Interpolation at one point: the definition, which the blocks of points are tested against.
//!
//! The value is Σ w₁(j₁) ⋯ w_D(j_D) c(j₁, …, j_D) over the four voxels j_a beside the point along each axis, where c
//! are the spline coefficients and w the weights of a cubic B-spline at the fraction of the point.

use super::source::{Source, each_row};
#[cfg(test)]
use crate::ops::spline::derivatives;
use crate::ops::spline::weights;
use crate::scalar::Real;

/// The four voxels beside a point along each axis, and where it lies between them.
pub(super) struct Cell<T, const D: usize> {
    /// Offsets into the buffer of the four taps along each axis.
    offsets: [[usize; 4]; D],
    fractions: [T; D],
}

impl<T: Real, const D: usize> Cell<T, D> {
    /// The cell of a position in index units of the source.
    pub(super) fn new(position: [T; D], source: &Source<D>) -> Self {
        let cells = position.map(floor);
        let fractions = cells.map(|(_, fraction)| fraction);
        Self { offsets: source.offsets(cells.map(|(first, _)| first)), fractions }
    }

    /// Values of `C` fields.
    pub(super) fn values<const C: usize>(&self, field: &[[T; C]]) -> [T; C] {
        self.sum(&self.fractions.map(weights), field)
    }

    /// Their derivatives with respect to the index along each axis: the weights of that axis are derivatives.
    #[cfg(test)]
    pub(super) fn derivatives<const C: usize>(&self, field: &[[T; C]]) -> [[T; C]; D] {
        std::array::from_fn(|a| {
            let mut w = self.fractions.map(weights);
            w[a] = derivatives(self.fractions[a]);
            self.sum(&w, field)
        })
    }

    fn sum<const C: usize>(&self, w: &[[T; 4]; D], field: &[[T; C]]) -> [T; C] {
        let last = &self.offsets[D - 1];
        let mut value = [T::zero(); C];
        each_row(&self.offsets, |_, at, digits| {
            let weight = (0..D - 1).fold(T::one(), |p, a| p * w[a][digits[a]]);
            for c in 0..C {
                let row = (0..4).fold(T::zero(), |s, k| s + w[D - 1][k] * field[at + last[k]][c]);
                value[c] += weight * row;
            }
        });
        value
    }

    /// Transpose of [`Cell::values`]: adds `bar` to the coefficients.
    pub(super) fn scatter<const C: usize>(&self, bar: [T; C], out: &mut [[T; C]]) {
        let w = self.fractions.map(weights);
        let last = &self.offsets[D - 1];
        each_row(&self.offsets, |_, at, digits| {
            let weight = (0..D - 1).fold(T::one(), |p, a| p * w[a][digits[a]]);
            for k in 0..4 {
                for c in 0..C {
                    out[at + last[k]][c] += bar[c] * (weight * w[D - 1][k]);
                }
            }
        });
    }
}

/// First tap and fraction of a position along an axis. A position that no index can name gives NaN, which
/// the callers report. (`floor` itself is a call into the C library without the target feature.)
#[inline]
fn floor<T: Real>(position: T) -> (isize, T) {
    match position.to_i32() {
        Some(towards_zero) => {
            let below =
                towards_zero as isize - isize::from(T::of(f64::from(towards_zero)) > position);
            (below - 1, position - T::of(below as f64))
        }
        None => (0, T::nan()),
    }
}
