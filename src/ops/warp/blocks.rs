//! Interpolation at many points: what [`reference`](super::reference) defines, for blocks of points at once.
//!
//! The four operations differ in what they do at a block; the walk over the target and the weights are the same. What an
//! operation keeps from block to block are variables of its own, so that the compiler knows that nobody else writes to them.

use super::places::Places;
use super::source::{Gathered, Stencil, zeros};
use super::taps::{Cells, LANES, Lane, Point, Weights};
use crate::scalar::Real;
use crate::simd::{Simd, Work};

/// A part of the target, its voxels `lo..lo + len`, whose points are worked on.
pub(super) struct Points<'a, T, const D: usize> {
    pub(super) places: &'a Places<T, D>,
    pub(super) u: [&'a [T]; D],
    pub(super) lo: usize,
    pub(super) len: usize,
}

/// Points of a row of the target: the voxels `lo + k..lo + k + count`.
struct Block<'a, T, const D: usize> {
    places: &'a Places<T, D>,
    cells: &'a Cells<T, D>,
    weights: &'a Weights<T, D>,
    lo: usize,
    k: usize,
    count: usize,
}

impl<T: Real, const D: usize> Points<'_, T, D> {
    /// Calls `f` for the points, block by block, with weights of values and, where they are asked for, of derivatives.
    #[inline(always)]
    fn each_block<const DERIVATIVES: bool>(self, mut f: impl FnMut(Block<T, D>)) {
        let (places, lo) = (self.places, self.lo);
        let mut weights = Weights::new();
        self.each_run(
            #[inline(always)]
            |k, count, positions| {
                let mut cells = Cells::new(positions, &places.source);
                if DERIVATIVES {
                    weights.set(&mut cells, count, &places.source);
                } else {
                    weights.set_values(&mut cells, count, &places.source);
                }
                f(Block { places, cells: &cells, weights: &weights, lo, k, count });
            },
        );
    }

    /// Calls `f(k, count, positions)` for the points `k..k + count` of the part, run by run of a row of the target, with
    /// their positions in index units of the source.
    #[inline(always)]
    pub(super) fn each_run(self, mut f: impl FnMut(usize, usize, &[Lane<T>; D])) {
        let Self { places, u, lo, len } = self;
        let row = places.target.shape()[D - 1];
        let along: Lane<T> = std::array::from_fn(|l| T::of(l as f64));
        let mut k = 0;
        while k < len {
            let index = places.target.unravel(lo + k);
            let count = LANES.min(len - k).min(row - index[D - 1]);
            let mut positions = [[T::zero(); LANES]; D];
            for a in 0..D {
                let mut start = places.offset[a];
                for b in 0..D {
                    start += places.base[a][b] * T::of(index[b] as f64);
                }
                for l in 0..LANES {
                    positions[a][l] = start + places.base[a][D - 1] * along[l];
                }
            }
            for b in 0..D {
                let shift = lanes(&u[b][lo + k..][..count]);
                for a in 0..D {
                    for l in 0..LANES {
                        positions[a][l] += places.scale[a][b] * shift[l];
                    }
                }
            }
            f(k, count, &positions);
            k += count;
        }
    }
}

/// The numbers of a block, and zeros where it is shorter.
#[inline(always)]
fn lanes<T: Real>(values: &[T]) -> [T; LANES] {
    if let Some(whole) = values.first_chunk() {
        return *whole;
    }
    let mut block = [T::zero(); LANES];
    for (x, &value) in block.iter_mut().zip(values) {
        *x = value;
    }
    block
}

impl<T: Real, const D: usize> Block<'_, T, D> {
    /// Calls `f` for its points. Those beyond the border read `border`, where their taps are gathered.
    #[inline(always)]
    fn each_point<const C: usize>(
        &self,
        field: &[[T; C]],
        border: &mut Gathered<T, C>,
        mut f: impl FnMut(Point<T, C>),
    ) {
        let source = &self.places.source;
        for lane in 0..self.count.min(LANES) {
            let (stencil, taps) = if self.cells.inside[lane] == 1 {
                let place = self.cells.place(lane, source);
                (&source.stencil, field.get(place..).unwrap_or(&[]))
            } else {
                source.gather(self.cells.first(lane), field, border);
                (&Stencil::GATHERED, border.as_slice())
            };
            f(Point { lane, stencil, taps });
        }
    }

    /// Derivatives with respect to u from those with respect to the source index.
    #[inline(always)]
    fn by_displacement(&self, by_index: &[Lane<T>; D]) -> [Lane<T>; D] {
        let mut slopes = [[T::zero(); LANES]; D];
        for b in 0..D {
            for a in 0..D {
                for l in 0..LANES {
                    slopes[b][l] += self.places.scale[a][b] * by_index[a][l];
                }
            }
        }
        slopes
    }

    /// `C` numbers of the voxel at a point.
    #[inline(always)]
    fn bar<const C: usize>(&self, bars: &[&[T]; C], lane: usize) -> [T; C] {
        let mut bar = [T::zero(); C];
        for c in 0..C {
            bar[c] = bars[c][self.lo + self.k + lane];
        }
        bar
    }
}

/// `Warp::values`.
pub(super) struct Values<'a, 'b, T, const C: usize, const D: usize> {
    pub(super) points: Points<'a, T, D>,
    pub(super) field: &'a [[T; C]],
    pub(super) out: &'a mut [&'b mut [T]; C],
}

impl<T: Real, const C: usize, const D: usize> Work for Values<'_, '_, T, C, D> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { points, field, out } = self;
        let (mut border, mut sums) = (zeros(), [[[T::zero(); C]; 4]; LANES]);
        points.each_block::<false>(
            #[inline(always)]
            |block| {
                let weights = block.weights;
                block.each_point(
                    field,
                    &mut border,
                    #[inline(always)]
                    |point| sums[point.lane] = weights.sum(simd, point),
                );
                let mut values = [[T::zero(); C]; LANES];
                for lane in 0..block.count.min(LANES) {
                    values[lane] = weights.value::<S, C>(lane, &sums[lane]);
                }
                for c in 0..C {
                    for (out, value) in out[c][block.k..][..block.count].iter_mut().zip(&values) {
                        *out = value[c];
                    }
                }
            },
        );
    }
}

/// `Warp::value_and_gradient`: the value, then the derivatives.
pub(super) struct ValueAndGradient<'a, 'b, T, const D: usize> {
    pub(super) points: Points<'a, T, D>,
    pub(super) field: &'a [[T; 1]],
    pub(super) value: &'a mut [T],
    pub(super) gradient: &'a mut [&'b mut [T]],
}

impl<T: Real, const D: usize> Work for ValueAndGradient<'_, '_, T, D> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { points, field, value, gradient } = self;
        let (mut border, mut sums) = (zeros(), [[[[T::zero(); 1]; 4]; D]; LANES]);
        points.each_block::<true>(
            #[inline(always)]
            |block| {
                let (weights, k) = (block.weights, block.k);
                block.each_point(
                    field,
                    &mut border,
                    #[inline(always)]
                    |point| weights.slope_sums(simd, point, &mut sums[point.lane]),
                );
                let mut by_index = [[T::zero(); LANES]; D];
                for lane in 0..block.count.min(LANES) {
                    [value[k + lane]] = weights.value::<S, 1>(lane, &sums[lane][0]);
                    let slope = weights.slope::<S, 1>(lane, [T::one()], &sums[lane]);
                    for a in 0..D {
                        by_index[a][lane] = slope[a];
                    }
                }
                for (out, slope) in gradient.iter_mut().zip(&block.by_displacement(&by_index)) {
                    for (out, slope) in out[k..][..block.count].iter_mut().zip(slope) {
                        *out = *slope;
                    }
                }
            },
        );
    }
}

/// `Warp::position_vjp`.
pub(super) struct PositionBar<'a, 'b, T, const C: usize, const D: usize> {
    pub(super) points: Points<'a, T, D>,
    pub(super) field: &'a [[T; C]],
    pub(super) bars: [&'a [T]; C],
    pub(super) out: &'a mut [&'b mut [T]; D],
}

impl<T: Real, const C: usize, const D: usize> Work for PositionBar<'_, '_, T, C, D> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { points, field, bars, out } = self;
        let (mut border, mut sums) = (zeros(), [[[[T::zero(); C]; 4]; D]; LANES]);
        points.each_block::<true>(
            #[inline(always)]
            |block| {
                let (weights, k) = (block.weights, block.k);
                block.each_point(
                    field,
                    &mut border,
                    #[inline(always)]
                    |point| weights.slope_sums(simd, point, &mut sums[point.lane]),
                );
                let mut by_index = [[T::zero(); LANES]; D];
                for lane in 0..block.count.min(LANES) {
                    let bar = block.bar(&bars, lane);
                    let slope = weights.slope::<S, C>(lane, bar, &sums[lane]);
                    for a in 0..D {
                        by_index[a][lane] = slope[a];
                    }
                }
                for (out, slope) in out.iter_mut().zip(&block.by_displacement(&by_index)) {
                    for (out, slope) in out[k..][..block.count].iter_mut().zip(slope) {
                        *out += *slope;
                    }
                }
            },
        );
    }
}

/// `Warp::values_vjp` of a slab.
pub(super) struct Scatter<'a, T, const C: usize, const D: usize> {
    pub(super) points: Points<'a, T, D>,
    pub(super) bars: [&'a [T]; C],
    /// Where in a field the planes begin that the slab reaches, and these planes.
    pub(super) origin: usize,
    pub(super) out: &'a mut [[T; C]],
}

impl<T: Real, const C: usize, const D: usize> Work for Scatter<'_, T, C, D> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { points, bars, origin, out } = self;
        let mut border = zeros();
        points.each_block::<false>(
            #[inline(always)]
            |block| {
                let Block { places, cells, weights, count, .. } = block;
                // Neighbours share taps: the sum of one is not ready when the next comes.
                for lane in APART.into_iter().filter(|&lane| lane < count) {
                    let bar = block.bar(&bars, lane);
                    if cells.inside[lane] == 1 {
                        let place = cells.place(lane, &places.source) - origin;
                        debug_assert!(place <= out.len(), "a slab reaches all of its taps");
                        let taps = out.get_mut(place..).unwrap_or(&mut []);
                        weights.values_vjp(simd, lane, &places.source.stencil, bar, taps);
                    } else {
                        weights.values_vjp(simd, lane, &Stencil::GATHERED, bar, &mut border);
                        places.source.release(cells.first(lane), &mut border, origin, out);
                    }
                }
            },
        );
    }
}

/// The points of a block, each four away from the last.
const APART: [usize; LANES] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];
