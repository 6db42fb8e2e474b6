//! Interpolation at displaced points: warping of images and composition of maps.

use std::ops::Range;

use nalgebra::SMatrix;

use super::or_nan;
use super::source::{Gathered, Source, Stencil, each_row, zeros};
use super::spline::{Prefilter, weights};
use super::taps::{Cells, LANES, Lane, Point, Weights};
use crate::error::Result;
use crate::field::{Displacement, Image, axpy};
use crate::grid::{Boundary, Grid};
use crate::par;
use crate::scalar::Real;
use crate::simd::{self, Simd, Work};
use crate::world::Affine;

/// Where the four-tap neighbourhood of a point lies, axis by axis.
struct Cell<T, const D: usize> {
    /// Offsets into the buffer of the four taps along each axis.
    offsets: [[usize; 4]; D],
    fractions: [T; D],
}

/// Cubic B-spline interpolation of fields over a `source` grid at the displaced voxels of a `target`
/// grid: the point of voxel x is x + u(x) in the world, u along the target's axes, or A(x + u(x)) with
/// an affine map A in between.
///
/// Fields are given by their spline coefficients ([`Prefilter`]), those of several components interleaved
/// ([`Prefilter::interleaved`]). Displacements, values and their cotangents are component-major. Beyond its outermost voxels a field
/// is mirrored or repeated. The interpolant is twice continuously differentiable in the position, so
/// gradients with respect to u are exact derivatives of the values. 4ᴰ reads a point; values and
/// gradients in one pass. Only [`Warp::scatter`] allocates: a list of slabs.
///
/// # References
/// Thévenaz, Blu, Unser, *Interpolation revisited*, IEEE Trans. Med. Imaging 19 (2000),
/// doi:10.1109/42.875199.
#[derive(Clone, Debug)]
pub struct Warp<T, const D: usize> {
    source: Source<D>,
    target: Grid<D>,
    /// Source index of a target index: `base · i + offset`.
    base: [[T; D]; D],
    offset: [T; D],
    /// Source index units of a displacement in physical units.
    scale: [[T; D]; D],
}

impl<T: Real, const D: usize> Warp<T, D> {
    /// The warp of fields over `source` to the voxels of `target`, both placed in the world by their
    /// origins, spacings and directions.
    #[must_use]
    pub fn new(source: &Grid<D>, target: &Grid<D>) -> Self {
        Self::through(source, target, &Affine::identity())
    }

    /// The same with an affine map of the world in between: the point of voxel x is A(x + u(x)).
    /// Derivatives with respect to u are those through A, Aᵀ ∇f∘A.
    ///
    /// ```
    /// use nalgebra::{SMatrix, SVector};
    /// use rdmm_core::{grid::Grid, ops::{spline::Prefilter, warp::Warp}, world::Affine};
    /// let grid = Grid::new([8, 8], [1.0, 1.0])?;
    /// let mut slope: Vec<f64> = (0..64).map(|i| f64::from(i / 8)).collect();
    /// Prefilter::new(&grid).apply(&mut slope);
    /// let shift = Affine::new(SMatrix::identity(), SVector::from([1.0, 0.0]))?;
    /// let mut out = vec![0.0; 64];
    /// Warp::through(&grid, &grid, &shift).values::<1>(&slope, &[0.0; 128], &mut out);
    /// assert!((out[3 * 8] - 4.0).abs() < 1e-12);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    #[must_use]
    #[inline(never)]
    pub fn through(source: &Grid<D>, target: &Grid<D>, affine: &Affine<D>) -> Self {
        let turn = source.direction().transpose() * (affine.matrix() * target.direction());
        let per_voxel =
            |a: usize, b: usize| turn[(a, b)] / source.spacing()[a] * target.spacing()[b];
        let base = SMatrix::<f64, D, D>::from_fn(per_voxel);
        let offset = source.to_index(affine.apply(target.origin()));
        Self {
            source: Source::new(source),
            target: target.clone(),
            base: rows(|a, b| snap(base[(a, b)])),
            offset: offset.map(|x| T::of(snap(x))),
            scale: rows(|a, b| turn[(a, b)] / source.spacing()[a]),
        }
    }

    /// The grid whose voxels are displaced.
    #[must_use]
    pub fn target(&self) -> &Grid<D> {
        &self.target
    }

    /// The cell of a position in source index units.
    fn cell(&self, position: [T; D]) -> Cell<T, D> {
        let cells = position.map(floor);
        let fractions = cells.map(|(_, fraction)| fraction);
        Cell { offsets: self.source.offsets(cells.map(|(first, _)| first)), fractions }
    }

    /// Walks the target voxels `lo..lo + len` in blocks that lie in a row of the last axis, and calls
    /// `f(cells, k, count)` for the block of voxels `lo + k..lo + k + count`.
    #[inline(always)]
    fn walk(
        &self,
        u: &[&[T]; D],
        (lo, len): (usize, usize),
        mut f: impl FnMut(&mut Cells<T, D>, usize, usize),
    ) {
        let row = self.target.shape()[D - 1];
        let along: Lane<T> = std::array::from_fn(|l| T::of(l as f64));
        let mut k = 0;
        while k < len {
            let index = self.target.unravel(lo + k);
            let count = LANES.min(len - k).min(row - index[D - 1]);
            let mut positions = [[T::zero(); LANES]; D];
            for a in 0..D {
                let mut start = self.offset[a];
                for b in 0..D {
                    start += self.base[a][b] * T::of(index[b] as f64);
                }
                for l in 0..LANES {
                    positions[a][l] = start + self.base[a][D - 1] * along[l];
                }
            }
            for b in 0..D {
                let shift = block(&u[b][lo + k..][..count]);
                for a in 0..D {
                    for l in 0..LANES {
                        positions[a][l] += self.scale[a][b] * shift[l];
                    }
                }
            }
            f(&mut Cells::new(&positions, &self.source), k, count);
            k += count;
        }
    }

    /// Calls `f` for the points of a block.
    #[inline(always)]
    fn each_point<const C: usize>(
        &self,
        cells: &Cells<T, D>,
        count: usize,
        field: &[[T; C]],
        taps: &mut Gathered<T, C>,
        mut f: impl FnMut(Point<T, C>),
    ) {
        for lane in 0..count.min(LANES) {
            let (stencil, taps) = if cells.inside[lane] == 1 {
                let place = cells.place(lane, &self.source);
                (&self.source.stencil, field.get(place..).unwrap_or(&[]))
            } else {
                self.source.gather(cells.first(lane), field, taps);
                (&Stencil::GATHERED, taps.as_slice())
            };
            f(Point { lane, stencil, taps });
        }
    }

    /// Values of `C` fields at the displaced voxels.
    ///
    /// `out` receives `C` components over the target.
    #[inline(never)]
    pub fn values<const C: usize>(&self, coefficients: &[T], u: &[T], out: &mut [T]) {
        let fits = self.fits::<C>(coefficients, u) && out.len() == C * self.target.len();
        if !or_nan(fits, out) {
            return;
        }
        let (u, field) = (self.split(u), coefficients.as_chunks::<C>().0);
        par::zipped(par::split::<T, C>(out, self.target.len()), |lo, mut out| {
            simd::fused(Values { warp: self, u, field, lo, out: &mut out });
        });
    }

    /// Values of `C` fields at one point, given by its fractional array index in the source grid
    /// ([`Grid::to_index`]). Beyond the outermost voxels fields are mirrored or repeated; an index
    /// that is not finite gives NaN.
    #[must_use]
    #[inline(never)]
    pub fn at_index<const C: usize>(&self, coefficients: &[T], index: [f64; D]) -> [T; C] {
        if coefficients.len() != C * self.source.len() {
            return [T::nan(); C];
        }
        self.cell(index.map(T::of)).values(coefficients.as_chunks().0)
    }

    /// Transpose of [`Warp::at_index`] in the coefficients: adds `bar` at the point to `C` components of
    /// `coefficients_bar`.
    #[inline(never)]
    pub fn scatter_at_index<const C: usize>(
        &self,
        index: [f64; D],
        bar: [T; C],
        coefficients_bar: &mut [T],
    ) {
        let n = self.source.len();
        if !or_nan(coefficients_bar.len() == C * n, coefficients_bar) {
            return;
        }
        let cell = self.cell(index.map(T::of));
        cell.scatter(bar, coefficients_bar.as_chunks_mut().0);
    }

    /// Value of one field at the displaced voxels, and its derivatives with respect to u: `gradient`
    /// has `D` components over the target, along the target's axes and in physical units.
    #[inline(never)]
    pub fn value_and_gradient(
        &self,
        coefficients: &[T],
        u: &[T],
        value: &mut [T],
        gradient: &mut [T],
    ) {
        let n = self.target.len();
        let fits = self.fits::<1>(coefficients, u) && value.len() == n && gradient.len() == D * n;
        // Where one does not fit, both are NaN.
        if !(or_nan(fits, value) & or_nan(fits, gradient)) {
            return;
        }
        let u = self.split(u);
        let out = std::iter::once(value).chain(gradient.chunks_mut(n)).collect();
        par::slices(out, |lo, out| {
            simd::fused(ValueAndGradient {
                warp: self,
                u,
                field: coefficients.as_chunks().0,
                lo,
                out,
            });
        });
    }

    /// Transpose of [`Warp::values`] in the coefficients: adds `bar` at the displaced voxels to
    /// `coefficients_bar`. Slabs of the target that reach planes of the source of their own go in parallel.
    #[inline(never)]
    pub fn scatter<const C: usize>(&self, u: &[T], bar: &[T], coefficients_bar: &mut [T]) {
        let (source, n) = (self.source.len(), self.target.len());
        let fits = bar.len() == C * n && coefficients_bar.len() == C * source;
        if !or_nan(fits && u.len() == D * n, coefficients_bar) {
            return;
        }
        let (u, bars) = (self.split(u), parts::<T, C>(bar));
        let field = coefficients_bar.as_chunks_mut().0;
        let mut slabs = self.slabs(&u);
        slabs.sort_by_key(|slab| slab.planes.start);
        while !slabs.is_empty() {
            // Those that reach apart go together. What waits for what does not depend on the threads.
            let (mut round, mut later) = (Vec::new(), Vec::new());
            let (mut rest, mut end) = (&mut *field, 0);
            for slab in slabs {
                if slab.planes.start < end {
                    later.push(slab);
                    continue;
                }
                let stride = self.source.strides[0];
                let (_, from_here) = rest.split_at_mut((slab.planes.start - end) * stride);
                let (out, after) = from_here.split_at_mut(slab.planes.len() * stride);
                (rest, end) = (after, slab.planes.end);
                round.push((slab, out));
            }
            par::each(round, |(slab, out)| {
                simd::fused(Scatter { warp: self, u, bars, slab, out });
            });
            slabs = later;
        }
    }

    /// The target in slabs along its first axis, thick against the reach of splines.
    fn slabs(&self, u: &[&[T]; D]) -> Vec<Slab> {
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

    /// Transpose of [`Warp::values`] in u: `u_bar_a += Σ_c bar_c ∂(value_c)/∂u_a`.
    #[inline(never)]
    pub fn add_position_bar<const C: usize>(
        &self,
        coefficients: &[T],
        u: &[T],
        bar: &[T],
        u_bar: &mut [T],
    ) {
        let n = self.target.len();
        let fits = self.fits::<C>(coefficients, u) && bar.len() == C * n && u_bar.len() == D * n;
        if !or_nan(fits, u_bar) {
            return;
        }
        let (u, field) = (self.split(u), coefficients.as_chunks::<C>().0);
        let bars = parts::<T, C>(bar);
        par::zipped(par::split::<T, D>(u_bar, n), |lo, mut out| {
            simd::fused(PositionBar { warp: self, u, field, bars, lo, out: &mut out });
        });
    }

    /// Derivatives with respect to u from those with respect to the source index.
    #[inline(always)]
    fn slopes(&self, by_index: &[Lane<T>; D]) -> [Lane<T>; D] {
        let mut slopes = [[T::zero(); LANES]; D];
        for b in 0..D {
            for a in 0..D {
                for l in 0..LANES {
                    slopes[b][l] += self.scale[a][b] * by_index[a][l];
                }
            }
        }
        slopes
    }

    /// Whether there are `C` components of coefficients over the source and a displacement over the
    /// target.
    fn fits<const C: usize>(&self, coefficients: &[T], u: &[T]) -> bool {
        coefficients.len() == C * self.source.len() && u.len() == D * self.target.len()
    }

    fn split<'a>(&self, u: &'a [T]) -> [&'a [T]; D] {
        let n = self.target.len();
        std::array::from_fn(|a| &u[a * n..(a + 1) * n])
    }
}

fn parts<T, const C: usize>(data: &[T]) -> [&[T]; C] {
    let n = data.len() / C.max(1);
    std::array::from_fn(|c| &data[c * n..(c + 1) * n])
}

fn rows<T: Real, const D: usize>(f: impl Fn(usize, usize) -> f64) -> [[T; D]; D] {
    std::array::from_fn(|a| std::array::from_fn(|b| T::of(f(a, b))))
}

/// Rounds to an integer what differs from it by rounding only, so that equal lattices give the
/// identity to the bit.
fn snap(x: f64) -> f64 {
    if (x - x.round()).abs() < 1e-9 { x.round() } else { x }
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

/// The numbers of a block, and zeros where it is shorter.
#[inline(always)]
fn block<T: Real>(values: &[T]) -> [T; LANES] {
    if let Some(whole) = values.first_chunk() {
        return *whole;
    }
    let mut block = [T::zero(); LANES];
    for (x, &value) in block.iter_mut().zip(values) {
        *x = value;
    }
    block
}

/// [`Warp::values`] of a chunk.
struct Values<'a, 'b, T, const C: usize, const D: usize> {
    warp: &'a Warp<T, D>,
    u: [&'a [T]; D],
    field: &'a [[T; C]],
    lo: usize,
    out: &'a mut [&'b mut [T]; C],
}

impl<T: Real, const C: usize, const D: usize> Work for Values<'_, '_, T, C, D> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { warp, u, field, lo, out } = self;
        let len = out.first().map_or(0, |chunk| chunk.len());
        let (mut weights, mut border) = (Weights::new(), zeros());
        let mut sums = [[[T::zero(); C]; 4]; LANES];
        warp.walk(&u, (lo, len), |cells, k, count| {
            weights.set_values(cells, count, &warp.source);
            warp.each_point(
                cells,
                count,
                field,
                &mut border,
                #[inline(always)]
                |point| sums[point.lane] = weights.sum(simd, point),
            );
            let mut values = [[T::zero(); C]; LANES];
            for lane in 0..count.min(LANES) {
                values[lane] = weights.value::<S, C>(lane, &sums[lane]);
            }
            for c in 0..C {
                for (out, value) in out[c][k..][..count].iter_mut().zip(&values) {
                    *out = value[c];
                }
            }
        });
    }
}

/// [`Warp::value_and_gradient`] of a chunk: the value, then the derivatives.
struct ValueAndGradient<'a, 'b, T, const D: usize> {
    warp: &'a Warp<T, D>,
    u: [&'a [T]; D],
    field: &'a [[T; 1]],
    lo: usize,
    out: &'a mut [&'b mut [T]],
}

impl<T: Real, const D: usize> Work for ValueAndGradient<'_, '_, T, D> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { warp, u, field, lo, out } = self;
        let [value, gradient @ ..] = out else { return };
        let (mut weights, mut border) = (Weights::new(), zeros());
        let mut sums = [[[[T::zero(); 1]; 4]; D]; LANES];
        warp.walk(&u, (lo, value.len()), |cells, k, count| {
            weights.set(cells, count, &warp.source);
            warp.each_point(
                cells,
                count,
                field,
                &mut border,
                #[inline(always)]
                |point| weights.slope_sums(simd, point, &mut sums[point.lane]),
            );
            let mut by_index = [[T::zero(); LANES]; D];
            for lane in 0..count.min(LANES) {
                [value[k + lane]] = weights.value::<S, 1>(lane, &sums[lane][0]);
                let slope = weights.slope::<S, 1>(lane, [T::one()], &sums[lane]);
                for a in 0..D {
                    by_index[a][lane] = slope[a];
                }
            }
            for (out, slope) in gradient.iter_mut().zip(&warp.slopes(&by_index)) {
                for (out, slope) in out[k..][..count].iter_mut().zip(slope) {
                    *out = *slope;
                }
            }
        });
    }
}

/// [`Warp::add_position_bar`] of a chunk.
struct PositionBar<'a, 'b, T, const C: usize, const D: usize> {
    warp: &'a Warp<T, D>,
    u: [&'a [T]; D],
    field: &'a [[T; C]],
    bars: [&'a [T]; C],
    lo: usize,
    out: &'a mut [&'b mut [T]; D],
}

impl<T: Real, const C: usize, const D: usize> Work for PositionBar<'_, '_, T, C, D> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { warp, u, field, bars, lo, out } = self;
        let len = out.first().map_or(0, |chunk| chunk.len());
        let (mut weights, mut border) = (Weights::new(), zeros());
        let mut sums = [[[[T::zero(); C]; 4]; D]; LANES];
        warp.walk(&u, (lo, len), |cells, k, count| {
            weights.set(cells, count, &warp.source);
            warp.each_point(
                cells,
                count,
                field,
                &mut border,
                #[inline(always)]
                |point| weights.slope_sums(simd, point, &mut sums[point.lane]),
            );
            let mut by_index = [[T::zero(); LANES]; D];
            for lane in 0..count.min(LANES) {
                let mut bar = [T::zero(); C];
                for c in 0..C {
                    bar[c] = bars[c][lo + k + lane];
                }
                let slope = weights.slope::<S, C>(lane, bar, &sums[lane]);
                for a in 0..D {
                    by_index[a][lane] = slope[a];
                }
            }
            for (out, slope) in out.iter_mut().zip(&warp.slopes(&by_index)) {
                for (out, slope) in out[k..][..count].iter_mut().zip(slope) {
                    *out += *slope;
                }
            }
        });
    }
}

/// Voxels of the target and the planes of the source that they reach.
struct Slab {
    voxels: Range<usize>,
    planes: Range<usize>,
}

/// Least planes of a slab, least voxels, and most slabs.
const THICK: usize = 8;
const VOXELS: usize = 4096;
const SLABS: usize = 16;

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

/// [`Warp::scatter`] of a slab.
struct Scatter<'a, T, const C: usize, const D: usize> {
    warp: &'a Warp<T, D>,
    u: [&'a [T]; D],
    bars: [&'a [T]; C],
    slab: Slab,
    /// The planes that the slab reaches.
    out: &'a mut [[T; C]],
}

impl<T: Real, const C: usize, const D: usize> Work for Scatter<'_, T, C, D> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { warp, u, bars, slab, out } = self;
        let Slab { voxels, planes } = slab;
        let origin = planes.start * warp.source.strides[0];
        let (mut weights, mut border) = (Weights::new(), zeros());
        warp.walk(&u, (voxels.start, voxels.len()), |cells, k, count| {
            weights.set_values(cells, count, &warp.source);
            // Neighbours share taps: the sum of one is not ready when the next comes.
            for lane in APART.into_iter().filter(|&lane| lane < count) {
                let mut bar = [T::zero(); C];
                for c in 0..C {
                    bar[c] = bars[c][voxels.start + k + lane];
                }
                if cells.inside[lane] == 1 {
                    let place = cells.place(lane, &warp.source) - origin;
                    debug_assert!(place <= out.len(), "a slab reaches all of its taps");
                    let taps = out.get_mut(place..).unwrap_or(&mut []);
                    weights.scatter(simd, lane, &warp.source.stencil, bar, taps);
                } else {
                    weights.scatter(simd, lane, &Stencil::GATHERED, bar, &mut border);
                    warp.source.release(cells.first(lane), &mut border, origin, out);
                }
            }
        });
    }
}

/// The points of a block, each four away from the last.
const APART: [usize; LANES] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];

impl<T: Real, const D: usize> Cell<T, D> {
    fn values<const C: usize>(&self, field: &[[T; C]]) -> [T; C] {
        let w = self.fractions.map(weights);
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

    fn scatter<const C: usize>(&self, bar: [T; C], out: &mut [[T; C]]) {
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

/// `image` read at x + u(x) by cubic splines, on the grid of the map. Points beyond the image read its
/// mirrored or repeated values.
///
/// # Errors
/// [`Error::NonFinite`](crate::Error::NonFinite) for NaN or infinity in image or map;
/// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
///
/// ```
/// use rdmm_core::{field::{Displacement, Image}, grid::Grid, ops::warp::warped};
/// let grid = Grid::new([8, 8], [1.0, 1.0])?;
/// let image = Image::<f64, 2>::from_fn(&grid, 1, |x, _| x[0] * x[0])?;
/// let map = Displacement::from_fn(&grid, 2, |_, axis| [1.0, 0.0][axis])?;
/// assert!((warped(&image, &map)?.data()[3 * 8] - 16.0).abs() < 1e-12);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[inline(never)]
pub fn warped<T: Real, const D: usize>(
    image: &Image<T, D>,
    map: &Displacement<T, D>,
) -> Result<Image<T, D>> {
    image.expect_finite("image")?;
    map.expect_finite("map")?;
    let mut coefficients = image.clone();
    Prefilter::new(image.grid()).apply(coefficients.data_mut());
    let mut out = Image::zeros(map.grid())?;
    let warp = Warp::new(image.grid(), map.grid());
    warp.values::<1>(coefficients.data(), map.data(), out.data_mut());
    Ok(out)
}

/// Composition of maps over one grid: u ← d + u∘(id + d), the semi-Lagrangian step.
#[derive(Clone, Debug)]
pub struct Composition<T, const D: usize> {
    prefilter: Prefilter<T, D>,
    warp: Warp<T, D>,
}

impl<T: Real, const D: usize> Composition<T, D> {
    /// Composition over `grid`.
    #[must_use]
    pub fn new(grid: &Grid<D>) -> Self {
        Self { prefilter: Prefilter::new(grid), warp: Warp::new(grid, grid) }
    }

    /// Spline coefficients of `u`, into `coefficients`: interleaved, for the other operations only.
    pub fn coefficients(&self, u: &[T], coefficients: &mut [T]) {
        self.prefilter.interleaved::<D>(u, coefficients);
    }

    /// `out ← d + u∘(id + d)` from the coefficients of u.
    pub fn compose(&self, coefficients: &[T], d: &[T], out: &mut [T]) {
        self.sample(coefficients, d, out);
        axpy(out, T::one(), d);
    }

    /// `out ← v∘(id + d)` from the coefficients of v.
    pub fn sample(&self, coefficients: &[T], d: &[T], out: &mut [T]) {
        self.warp.values::<D>(coefficients, d, out);
    }

    /// Transpose of [`Composition::sample`] in d alone: `d_bar += D(v)ᵀ bar`.
    pub fn add_position_bar(&self, coefficients: &[T], d: &[T], bar: &[T], d_bar: &mut [T]) {
        self.warp.add_position_bar::<D>(coefficients, d, bar, d_bar);
    }

    /// Transpose of [`Composition::sample`]: `d_bar += D(v)ᵀ bar`, and `bar ← Sᵀ bar`, the cotangent of v, where S
    /// samples v at id + d. The coefficients are used up.
    pub fn sample_vjp(&self, coefficients: &mut [T], d: &[T], bar: &mut [T], d_bar: &mut [T]) {
        self.add_position_bar(coefficients, d, bar, d_bar);
        par::chunks(coefficients, |_, chunk| chunk.fill(T::zero()));
        self.warp.scatter::<D>(d, bar, coefficients);
        par::chunks(bar, |_, chunk| chunk.fill(T::zero()));
        self.prefilter.add_transposed::<D>(coefficients, bar);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::dot;
    use crate::testing::random;

    fn pair(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn sampling_and_its_transpose_match() {
        for boundary in Boundary::ALL {
            let grid = Grid::new([6, 5, 7], [0.5, 1.0, 2.0]).unwrap().with_boundary(boundary);
            let n = grid.len();
            let composition = Composition::<f64, 3>::new(&grid);
            // Displacements of up to three voxels, beyond the border too.
            let d: Vec<f64> = random(3 * n, 1).iter().map(|x: &f64| 3.0 * x).collect();
            let (v, bar) = (random(3 * n, 2), random(3 * n, 3));
            let mut c = vec![0.0; 3 * n];
            composition.coefficients(&v, &mut c);
            let mut out = vec![0.0; 3 * n];
            composition.sample(&c, &d, &mut out);
            let (mut d_bar, mut v_bar) = (vec![0.0; 3 * n], bar.clone());
            composition.sample_vjp(&mut c.clone(), &d, &mut v_bar, &mut d_bar);
            let (left, right) = (pair(&out, &bar), pair(&v_bar, &v));
            assert!((left - right).abs() < 1e-12 * left.abs().max(1.0), "{boundary:?}");

            let direction: Vec<f64> = random(3 * n, 4);
            let at = |e: f64| {
                let d: Vec<f64> = d.iter().zip(&direction).map(|(d, x)| d + e * x).collect();
                let mut out = vec![0.0; 3 * n];
                composition.sample(&c, &d, &mut out);
                pair(&out, &bar)
            };
            // Central differences: e² truncation and 1e-16/e rounding meet at about 1e-9.
            let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
            let exact = pair(&d_bar, &direction);
            assert!((numeric - exact).abs() < 1e-7 * exact.abs().max(1.0), "{boundary:?}");
        }
    }

    /// Values and their transpose, in blocks of points and one by one.
    fn check_blocks<const D: usize>(shape: [usize; D]) {
        for boundary in Boundary::ALL {
            let spacing = std::array::from_fn(|a| [0.5, 1.0, 2.0, 0.8][a]);
            let grid = Grid::new(shape, spacing).unwrap().with_boundary(boundary);
            let (n, warp) = (grid.len(), Warp::<f64, D>::new(&grid, &grid));
            let (c, mut u, bar) =
                (random::<f64>(2 * n, 1), random::<f64>(D * n, 2), random(2 * n, 3));
            // Points inside, near a face, just beyond one, and far away.
            u.iter_mut().step_by(5).for_each(|u| *u *= 3.0);
            u.iter_mut().step_by(23).for_each(|u| *u *= 30.0);
            let (mut blocks, mut scattered) = (vec![f64::NAN; 2 * n], vec![0.0; 2 * n]);
            warp.values::<2>(&c, &u, &mut blocks);
            warp.scatter::<2>(&u, &bar, &mut scattered);
            let mut one_by_one = vec![0.0; 2 * n];
            for i in 0..n {
                let voxel = grid.unravel(i);
                let index =
                    std::array::from_fn(|a| voxel[a] as f64 + u[a * n + i] / grid.spacing()[a]);
                for (k, value) in warp.at_index::<2>(&c, index).into_iter().enumerate() {
                    // Sums of up to 256 products of numbers below one, in another order, at places that are
                    // rounded at up to a hundred.
                    assert!((blocks[k * n + i] - value).abs() < 1e-13, "{boundary:?} {i}");
                }
                warp.scatter_at_index(index, [bar[i], bar[n + i]], &mut one_by_one);
            }
            for (a, b) in scattered.iter().zip(&one_by_one) {
                // Some hundred of such products meet at a voxel.
                assert!((a - b).abs() < 1e-12, "{boundary:?}");
            }
            let (mut value, mut slope) = (vec![0.0; n], vec![0.0; D * n]);
            warp.value_and_gradient(&c[..n], &u, &mut value, &mut slope);
            for i in 0..D * n {
                let (a, voxel) = (i / n, grid.unravel(i % n));
                let at = |e: f64| {
                    let moved = |b: usize| u[b * n + i % n] + if a == b { e } else { 0.0 };
                    let index = |b: usize| voxel[b] as f64 + moved(b) / grid.spacing()[b];
                    let [value] = warp.at_index::<1>(&c[..n], std::array::from_fn(index));
                    value
                };
                // Central differences: e² truncation and 1e-16/e rounding, of places that are rounded at up to a hundred.
                let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((numeric - slope[i]).abs() < 1e-7, "{boundary:?} {i}");
            }
        }
    }

    #[test]
    fn blocks_of_points_equal_points_one_by_one() {
        // No multiple of a block, and axes of no more than four voxels.
        check_blocks([61]);
        check_blocks([4]);
        check_blocks([9, 37]);
        check_blocks([4, 5]);
        check_blocks([14, 12, 13]);
        check_blocks([5, 4, 33]);
        check_blocks([5, 6, 4, 18]);
    }

    /// Derivatives for `C` fields at once, and one after the other.
    fn check_position_bar<T: Real, const C: usize>() {
        let grid = Grid::new([7, 6, 21], [0.5, 1.0, 2.0]).unwrap();
        let (n, warp) = (grid.len(), Warp::<T, 3>::new(&grid, &grid));
        let (c, u, bar) = (random::<T>(C * n, 1), random::<T>(3 * n, 2), random::<T>(C * n, 3));
        let (mut at_once, mut apart) = (vec![T::one(); 3 * n], vec![T::one(); 3 * n]);
        warp.add_position_bar::<C>(&c, &u, &bar, &mut at_once);
        for k in 0..C {
            let component: Vec<T> = c.iter().copied().skip(k).step_by(C).collect();
            warp.add_position_bar::<1>(&component, &u, &bar[k * n..][..n], &mut apart);
        }
        for (a, b) in at_once.iter().zip(&apart) {
            // Sums of 64 products a field, of numbers up to four.
            let off = (*a - *b).abs();
            assert!(off < T::of(64.0 * C as f64) * T::epsilon(), "{} {C}", T::NAME);
        }
    }

    #[test]
    fn derivatives_for_several_fields_are_the_sums_of_those_for_each() {
        check_position_bar::<f32, 2>();
        check_position_bar::<f32, 3>();
        check_position_bar::<f32, 4>();
        check_position_bar::<f32, 5>();
        check_position_bar::<f64, 2>();
        check_position_bar::<f64, 3>();
        check_position_bar::<f64, 4>();
    }

    #[test]
    fn slabs_scatter_as_points_one_by_one_on_any_number_of_threads() {
        for boundary in Boundary::ALL {
            let grid = Grid::new([70, 20, 18], [0.5; 3]).unwrap().with_boundary(boundary);
            let (n, warp) = (grid.len(), Warp::<f64, 3>::new(&grid, &grid));
            // Slabs that reach apart and into each other, over both ends, and once over the whole grid.
            let mut u = random::<f64>(3 * n, 1);
            (0..n).for_each(|i| u[i] += 4.0 * (i as f64 / 2000.0).sin());
            u[5 * 360 + 7] = 90.0;
            let bar = random::<f64>(2 * n, 2);
            let scattered = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let mut out = vec![0.0; 2 * n];
                pool.install(|| warp.scatter::<2>(&u, &bar, &mut out));
                out
            };
            let (found, mut one_by_one) = (scattered(1), vec![0.0; 2 * n]);
            assert!(found.iter().zip(&scattered(3)).all(|(a, b)| a.to_bits() == b.to_bits()));
            for i in 0..n {
                let voxel = grid.unravel(i);
                let index = std::array::from_fn(|a| voxel[a] as f64 + u[a * n + i] / 0.5);
                warp.scatter_at_index(index, [bar[i], bar[n + i]], &mut one_by_one);
            }
            for (a, b) in found.iter().zip(&one_by_one) {
                // Some hundred products of numbers below one meet at a voxel.
                assert!((a - b).abs() < 1e-12, "{boundary:?}");
            }
            let rounds = warp.slabs(&warp.split(&u));
            assert!(rounds.len() > 4 && rounds.iter().any(|slab| slab.planes == (0..70)));
            assert!(rounds.iter().any(|slab| slab.planes.len() < 35), "some go together");
        }
    }

    /// A grid turned by the angle of the 3-4-5 triangle.
    fn turned(shape: [usize; 2], spacing: [f64; 2], origin: [f64; 2]) -> Grid<2> {
        let turn = SMatrix::<f64, 2, 2>::new(0.6, -0.8, 0.8, 0.6);
        let grid = Grid::new(shape, spacing).and_then(|g| g.with_origin(origin));
        grid.and_then(|g| g.with_direction(turn)).unwrap()
    }

    #[test]
    fn slabs_reach_points_whose_coordinates_cancel() {
        let source = Grid::new([32, 20], [1.0, 1.0]).unwrap();
        let target = turned([64, 32], [0.5, 0.0625], [3.982_676, 2.1]);
        let (n, warp) = (target.len(), Warp::<f32, 2>::new(&source, &target));
        let (c, bar) = (random::<f32>(source.len(), 1), random::<f32>(n, 2));
        let mut u = vec![0.0; 2 * n];
        for (k, shift) in random::<f32>(1000, 3).into_iter().enumerate() {
            // 0.6·4 = 0.8·3, to the rounding of numbers of a million; and beyond all numbers.
            let far = if k == 0 { f32::MAX / 8.0 } else { 3e5 * (1.0 + shift) };
            u[..n].fill(4.0 * far);
            u[n..].fill(3.0 * far + 4.0 * shift);
            let (mut values, mut c_bar) = (vec![0.0; n], vec![0.0; source.len()]);
            warp.values::<1>(&c, &u, &mut values);
            warp.scatter::<1>(&u, &bar, &mut c_bar);
            let (left, right) = (dot(&values, &bar), dot(&c, &c_bar));
            // Rounded sums of two thousand products of numbers below one.
            assert!((left - right).abs() < 1e-3 || (left.is_nan() && right.is_nan()), "{k}");
        }
    }

    #[test]
    fn what_is_not_finite_makes_values_nan_where_it_is() {
        // Several slabs.
        let grid = Grid::new([64, 256], [1.0, 1.0]).unwrap();
        let (n, warp) = (grid.len(), Warp::<f32, 2>::new(&grid, &grid));
        let (c, bar) = (random::<f32>(n, 1), vec![1.0; n]);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
            for at in [0, 17 * 256 + 3, n - 1, n + 5000] {
                let mut u = random::<f32>(2 * n, 2);
                u[at] = bad;
                let (mut values, mut slope) = (vec![0.0; n], vec![0.0; 2 * n]);
                warp.value_and_gradient(&c, &u, &mut values, &mut slope);
                let nan =
                    |x: &[f32]| -> Vec<usize> { (0..x.len()).filter(|&i| x[i].is_nan()).collect() };
                assert_eq!(nan(&values), [at % n], "{bad} {at}");
                assert_eq!(nan(&slope), [at % n, n + at % n], "{bad} {at}");
                let mut c_bar = vec![0.0; n];
                warp.scatter::<1>(&u, &bar, &mut c_bar);
                let taps = nan(&c_bar).len();
                assert!((1..=16).contains(&taps), "those of one point, some mirrored onto others");
            }
        }
    }

    #[test]
    fn interleaved_coefficients_are_those_of_the_components() {
        for boundary in Boundary::ALL {
            let grid = Grid::new([6, 13, 7], [1.0; 3]).unwrap().with_boundary(boundary);
            let (n, prefilter) = (grid.len(), Prefilter::new(&grid));
            let (samples, bar) = (random::<f64>(3 * n, 1), random::<f64>(3 * n, 2));
            let (mut apart, mut interleaved) = (samples.clone(), vec![f64::NAN; 3 * n]);
            prefilter.apply(&mut apart);
            prefilter.interleaved::<3>(&samples, &mut interleaved);
            for (i, voxel) in interleaved.chunks(3).enumerate() {
                for (c, x) in voxel.iter().enumerate() {
                    // The axes in another order.
                    assert!((x - apart[c * n + i]).abs() < 1e-13, "{boundary:?}");
                }
            }
            let (mut scratch, mut samples_bar) = (bar.clone(), vec![1.0; 3 * n]);
            prefilter.add_transposed::<3>(&mut scratch, &mut samples_bar);
            let right = pair(&samples_bar, &samples) - samples.iter().sum::<f64>();
            let left = pair(&interleaved, &bar);
            assert!((left - right).abs() < 1e-12 * left.abs().max(1.0), "{boundary:?}");
        }
    }

    #[test]
    fn reading_a_point_and_its_transpose_match() {
        for boundary in Boundary::ALL {
            let grid = Grid::new([6, 5, 7], [0.5, 1.0, 2.0]).unwrap().with_boundary(boundary);
            let warp = Warp::<f64, 3>::new(&grid, &grid);
            let c: Vec<f64> = random(2 * grid.len(), 1);
            // Inside, near a face, and beyond one.
            for index in [[2.3, 1.9, 4.5], [-0.3, 4.2, 0.0], [9.1, -3.7, 6.4]] {
                let (value, bar) = (warp.at_index::<2>(&c, index), [0.7, -1.3]);
                let mut c_bar = vec![1.0; c.len()];
                warp.scatter_at_index(index, bar, &mut c_bar);
                // It adds.
                let (left, right) = (pair(&value, &bar), pair(&c_bar, &c) - c.iter().sum::<f64>());
                // Rounding of 64 taps beside ones.
                assert!((left - right).abs() < 1e-13, "{boundary:?} {index:?}");
            }
            let mut short = vec![0.0; 3];
            warp.scatter_at_index([1.0; 3], [1.0], &mut short);
            assert!(short.iter().all(|x| x.is_nan()));
        }
    }

    #[test]
    fn a_zero_displacement_samples_the_voxels_and_placed_grids_agree() {
        let fine = Grid::new([8, 10], [0.5, 1.0]).unwrap();
        let coarse = fine.resampled([4, 5]).unwrap();
        let mut c: Vec<f64> = random(80, 5);
        let samples = c.clone();
        Prefilter::new(&fine).apply(&mut c);
        let mut same = vec![0.0; 80];
        Warp::new(&fine, &fine).values::<1>(&c, &[0.0; 160], &mut same);
        for (a, b) in same.iter().zip(&samples) {
            assert!((a - b).abs() < 1e-13, "interpolation, to rounding");
        }
        // The centre of a coarse voxel lies between four fine ones: move the coarse voxels onto them.
        let mut u = vec![-0.25; 40];
        u[20..].fill(-0.5);
        let mut out = vec![0.0; 20];
        Warp::new(&fine, &coarse).values::<1>(&c, &u, &mut out);
        for i in 0..4 {
            for j in 0..5 {
                assert!((out[i * 5 + j] - samples[2 * i * 10 + 2 * j]).abs() < 1e-13);
            }
        }
    }

    #[test]
    fn an_affine_map_in_between_reads_where_the_whole_map_does() {
        let source = Grid::new([9, 8], [0.5, 1.0]).unwrap();
        let target = turned([6, 7], [0.8, 0.6], [0.3, 1.0]);
        let shear = SMatrix::<f64, 2, 2>::new(0.9, 0.3, -0.2, 1.2);
        let affine = Affine::new(shear, [0.2, -0.4].into()).unwrap();
        let mut c: Vec<f64> = random(72, 1);
        Prefilter::new(&source).apply(&mut c);
        let u = Displacement::from_vec(&target, random::<f64>(84, 2)).unwrap();
        let whole = affine.after_displacement(&u).unwrap();
        let warp = Warp::through(&source, &target, &affine);
        let (mut a, mut b) = (vec![0.0; 42], vec![0.0; 42]);
        warp.values::<1>(&c, u.data(), &mut a);
        Warp::new(&source, &target).values::<1>(&c, whole.data(), &mut b);
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-13), "to rounding");

        let (bar, direction) = (random::<f64>(42, 3), random::<f64>(84, 4));
        let mut u_bar = vec![0.0; 84];
        warp.add_position_bar::<1>(&c, u.data(), &bar, &mut u_bar);
        let at = |e: f64| {
            let u: Vec<f64> = u.data().iter().zip(&direction).map(|(u, d)| u + e * d).collect();
            let mut out = vec![0.0; 42];
            warp.values::<1>(&c, &u, &mut out);
            pair(&out, &bar)
        };
        let (numeric, exact) = ((at(1e-5) - at(-1e-5)) / 2e-5, pair(&u_bar, &direction));
        // As above: central differences are good to about 1e-9.
        assert!((numeric - exact).abs() < 1e-7 * exact.abs().max(1.0));
    }
}
