//! The target in slabs that write to planes of the source of their own, so that they can be scattered in parallel.

use std::ops::Range;

use super::places::Places;
use super::taps::{LANES, Lane};
use crate::grid::Boundary;
use crate::scalar::Real;

/// Voxels of the target and the planes of the source that they reach.
pub(super) struct Slab {
    pub(super) voxels: Range<usize>,
    pub(super) planes: Range<usize>,
}

/// Least planes of a slab, least voxels, and most slabs.
const THICK: usize = 8;
const VOXELS: usize = 4096;
const SLABS: usize = 16;

impl<T: Real, const D: usize> Places<T, D> {
    /// The target in slabs along its first axis, thick against the reach of splines.
    pub(super) fn slabs(&self, u: &[&[T]; D]) -> Vec<Slab> {
        let planes = self.target.shape()[0];
        let plane = self.target.len() / planes;
        // One axis has no planes to write to.
        let thick = if D == 1 {
            planes
        } else {
            THICK.max(VOXELS.div_ceil(plane)).max(planes.div_ceil(SLABS))
        };
        let slab = |from: usize| {
            let of_target = from..planes.min(from + thick);
            let voxels = of_target.start * plane..of_target.end * plane;
            Slab { planes: self.reach(u, &of_target, &voxels), voxels }
        };
        (0..planes).step_by(thick).map(slab).collect()
    }

    /// The planes of the source along its first axis that hold all taps of the points of a slab. Where a point is mirrored,
    /// its weights are folded onto the four planes at that end: all of them.
    fn reach(&self, u: &[&[T]; D], slab: &Range<usize>, voxels: &Range<usize>) -> Range<usize> {
        let n = self.source.shape[0];
        let (mut lo, mut hi) = (self.offset[0].f64(), self.offset[0].f64());
        let mut size = lo.abs() + n as f64;
        let mut add = |factor: T, first: f64, last: f64| {
            let (a, b) = (factor.f64() * first, factor.f64() * last);
            lo += a.min(b);
            hi += a.max(b);
            size += a.abs().max(b.abs());
        };
        for b in 0..D {
            let indices = if b == 0 { slab.clone() } else { 0..self.target.shape()[b] };
            add(self.base[0][b], indices.start as f64, (indices.end - 1) as f64);
            let Some((least, largest)) = range(&u[b][voxels.clone()]) else { return 0..n };
            add(self.scale[0][b], least.f64(), largest.f64());
        }
        // Positions are rounded sums of products, which are larger than the sum where they cancel.
        let rounding = 16.0 * T::epsilon().f64() * size;
        let (first, last) = ((lo - rounding).floor() - 1.0, (hi + rounding).floor() + 2.0);
        let most = T::LATTICE.f64();
        let folds_once = first >= -(n as f64).min(most) && last < (2.0 * n as f64).min(most);
        if !folds_once {
            return 0..n;
        }
        if first >= 0.0 && last < n as f64 {
            return first.to_index()..last.to_index() + 1;
        }
        if self.source.boundary == Boundary::Periodic {
            return 0..n;
        }
        // Mirrored at the first plane, at the last one, or at both.
        let lowest = first.min(2.0 * n as f64 - 1.0 - last).to_index();
        let end = last.max(-1.0 - first).to_index() + 1;
        lowest.min(n - 4)..end.max(4).min(n)
    }
}

/// Least and largest of some numbers; `None` where one is not finite.
fn range<T: Real>(values: &[T]) -> Option<(T, T)> {
    let (blocks, rest) = values.as_chunks::<LANES>();
    let any = *values.first()?;
    let rest: Lane<T> = std::array::from_fn(|l| rest.get(l).copied().unwrap_or(any));
    let (mut least, mut largest, mut zeros) = (rest, rest, [T::zero(); LANES]);
    for block in blocks.iter().chain([&rest]) {
        for l in 0..LANES {
            least[l] = if block[l] < least[l] { block[l] } else { least[l] };
            largest[l] = if block[l] > largest[l] { block[l] } else { largest[l] };
            zeros[l] += T::zero() * block[l];
        }
    }
    let finite = zeros.iter().all(|&zero| zero == T::zero());
    let (least, largest) = (least.into_iter(), largest.into_iter());
    finite.then(|| (least.fold(any, T::min), largest.fold(any, T::max)))
}
