//! The spline taps of a block of points: what vector instructions share over several points.
//!
//! Sums are formed row by row and group by group ([`Stencil`]), the last axis last.

use super::source::{AXES, Groups, Source, Stencil};
use crate::grid::Boundary;
use crate::ops::spline::{derivatives, weights};
use crate::scalar::Real;
use crate::simd::{Simd, Vector, mul_add};

/// Points of a block.
pub(super) const LANES: usize = 16;

/// A number for each point of a block.
pub(super) type Lane<T> = [T; LANES];

/// Four neighbouring taps of `C` fields.
pub(super) type Taps<T, const C: usize> = [[T; C]; 4];

/// A point of a block, with its taps from the first on.
#[derive(Clone, Copy)]
pub(super) struct Point<'a, T, const C: usize> {
    pub(super) lane: usize,
    pub(super) stencil: &'a Stencil,
    pub(super) taps: &'a [[T; C]],
}

/// Where the points of a block lie in the source.
pub(super) struct Cells<T, const D: usize> {
    /// Index of the first tap along each axis, which need not be a voxel of the grid.
    first: [Lane<i32>; D],
    fractions: [Lane<T>; D],
    /// One where the four taps along each axis are voxels of the grid, after folding too.
    pub(super) inside: Lane<i32>,
}

impl<T: Real, const D: usize> Cells<T, D> {
    /// The cells of positions in index units of a source. What is farther than any index gets NaN.
    #[inline(always)]
    pub(super) fn new(positions: &[Lane<T>; D], source: &Source<D>) -> Self {
        let zeros = [[T::zero(); LANES]; D];
        let mut cells = Self { first: [[0; LANES]; D], fractions: zeros, inside: [1; LANES] };
        for a in 0..D {
            let last = source.last[a].cast_unsigned();
            let (mut first, mut fractions) = ([0; LANES], [T::zero(); LANES]);
            for l in 0..LANES {
                let (position, below) = (positions[a][l], positions[a][l].floor());
                first[l] = (below - T::one()).lattice();
                fractions[l] = if below.abs() < T::LATTICE { position - below } else { T::nan() };
                cells.inside[l] &= i32::from(first[l].cast_unsigned() <= last);
            }
            cells.first[a] = first;
            cells.fractions[a] = fractions;
        }
        cells
    }

    /// Place of the first tap of a point that is inside.
    #[inline(always)]
    pub(super) fn place(&self, lane: usize, source: &Source<D>) -> usize {
        let mut place = 0;
        for a in 0..D {
            place += self.first[a][lane].cast_unsigned() as usize * source.strides[a];
        }
        place
    }

    /// Index of the first tap of a point along each axis.
    pub(super) fn first(&self, lane: usize) -> [isize; D] {
        self.first.each_ref().map(|first| first[lane] as isize)
    }

    /// The four weights of each point along each axis, from the last axis on.
    #[inline(always)]
    fn along(&self, weights: impl Fn(T) -> [T; 4], out: &mut [[Lane<T>; 4]; AXES]) {
        for b in 0..D {
            let mut along = [[T::zero(); LANES]; 4];
            for l in 0..LANES {
                let w = weights(self.fractions[D - 1 - b][l]);
                for k in 0..4 {
                    along[k][l] = w[k];
                }
            }
            out[b] = along;
        }
    }
}

/// Which of the four voxels at an end of an axis a tap falls on that is mirrored there, from four before them to four behind.
const MIRRORED: [usize; 12] = [3, 2, 1, 0, 0, 1, 2, 3, 3, 2, 1, 0];

/// Weights of the taps of a block of points along each axis, from the last axis on. An axis that a grid does not have is one
/// tap of weight one.
#[repr(align(64))]
pub(super) struct Weights<T, const D: usize> {
    values: [[Lane<T>; 4]; AXES],
    slopes: [[Lane<T>; 4]; AXES],
}

impl<T: Real, const D: usize> Weights<T, D> {
    pub(super) fn new() -> Self {
        let (zeros, ones) = ([T::zero(); LANES], [T::one(); LANES]);
        Self { values: [[ones, zeros, zeros, zeros]; AXES], slopes: [[zeros; 4]; AXES] }
    }

    /// Those of values.
    #[inline(always)]
    pub(super) fn set_values(&mut self, cells: &mut Cells<T, D>, count: usize, source: &Source<D>) {
        cells.along(weights, &mut self.values);
        self.fold::<false>(cells, count, source);
    }

    /// Those of values and of derivatives.
    #[inline(always)]
    pub(super) fn set(&mut self, cells: &mut Cells<T, D>, count: usize, source: &Source<D>) {
        cells.along(weights, &mut self.values);
        cells.along(derivatives, &mut self.slopes);
        self.fold::<true>(cells, count, source);
    }

    /// Turns the first `count` points, where they are near a mirrored border, into points inside: the four voxels at the
    /// border get the sums of the weights.
    #[inline(always)]
    fn fold<const DERIVATIVES: bool>(
        &mut self,
        cells: &mut Cells<T, D>,
        count: usize,
        source: &Source<D>,
    ) {
        let mirrored = source.boundary != Boundary::Periodic;
        for lane in 0..count.min(LANES) {
            if mirrored && cells.inside[lane] == 0 {
                self.fold_point::<DERIVATIVES>(cells, source, lane);
            }
        }
    }

    #[inline(never)]
    fn fold_point<const DERIVATIVES: bool>(
        &mut self,
        cells: &mut Cells<T, D>,
        source: &Source<D>,
        lane: usize,
    ) {
        // Taps of farther points are mirrored more than once, or to voxels other than the four at the end.
        let near = |a: usize| {
            let last = source.last[a];
            (-4..=last.saturating_add(4)).contains(&cells.first[a][lane])
        };
        if !(0..D).all(near) {
            return;
        }
        for b in 0..D {
            let (first, last) = (&mut cells.first[D - 1 - b][lane], source.last[D - 1 - b]);
            if (0..=last).contains(first) {
                continue;
            }
            let to = if *first < 0 { 0 } else { last };
            let beyond = (*first - to + 4).cast_unsigned() as usize;
            *first = to;
            fold_taps(&mut self.values[b], lane, beyond);
            if DERIVATIVES {
                fold_taps(&mut self.slopes[b], lane, beyond);
            }
        }
        cells.inside[lane] = 1;
    }

    /// Those of the rows of a group.
    #[inline(always)]
    fn of_rows(along: &[[Lane<T>; 4]; AXES], lane: usize) -> [T; 4] {
        let [w0, w1, w2, w3] = &along[1];
        [w0[lane], w1[lane], w2[lane], w3[lane]]
    }

    /// That of a group: of values, or of derivatives along an axis counted from the last.
    #[inline(always)]
    fn of_group(&self, lane: usize, group: usize, slope: Option<usize>) -> T {
        let (mut product, mut rest) = (T::one(), group);
        for b in 2..D {
            let along = if slope == Some(b) { &self.slopes } else { &self.values };
            product *= along[b][rest % 4][lane];
            rest /= 4;
        }
        product
    }
}

/// Sums the four weights of a point along an axis, whose first tap lies at `beyond` in [`MIRRORED`], by the voxels at the end
/// that they fall on.
#[inline(always)]
fn fold_taps<T: Real>(along: &mut [Lane<T>; 4], lane: usize, beyond: usize) {
    let mut folded = [T::zero(); 4];
    for (k, &voxel) in MIRRORED.iter().skip(beyond).take(4).enumerate() {
        folded[voxel % 4] += along[k][lane];
    }
    for k in 0..4 {
        along[k][lane] = folded[k];
    }
}

/// A row of taps in registers.
trait Row<S: Simd, T: Real, const C: usize>: Copy {
    fn load(simd: S, taps: &Taps<T, C>) -> Self;

    /// The row times a weight.
    fn times(self, simd: S, weight: T) -> Self;

    /// Itself and another row times a weight.
    fn plus(self, simd: S, weight: T, row: Self) -> Self;

    fn store(self, taps: &mut Taps<T, C>);
}

impl<S: Simd, T: Real, const C: usize> Row<S, T, C> for Taps<T, C> {
    #[inline(always)]
    fn load(_: S, taps: &Taps<T, C>) -> Self {
        *taps
    }

    #[inline(always)]
    fn times(mut self, _: S, weight: T) -> Self {
        for x in self.as_flattened_mut() {
            *x *= weight;
        }
        self
    }

    #[inline(always)]
    fn plus(mut self, _: S, weight: T, row: Self) -> Self {
        for (x, &y) in self.as_flattened_mut().iter_mut().zip(row.as_flattened()) {
            *x = mul_add::<S, T>(weight, y, *x);
        }
        self
    }

    #[inline(always)]
    fn store(self, taps: &mut Taps<T, C>) {
        *taps = self;
    }
}

/// `N` vectors, the last of which ends with the row: it may share numbers with the one before.
#[derive(Clone, Copy)]
struct Vectors<S: Simd, T: Real, const N: usize>([Vector<S, T>; N]);

impl<S: Simd, T: Real, const N: usize> Vectors<S, T, N> {
    /// Where a vector begins in a row of `len` numbers.
    #[inline(always)]
    fn at(vector: usize, len: usize) -> usize {
        (vector * Vector::<S, T>::LEN).min(len - Vector::<S, T>::LEN)
    }
}

impl<S: Simd, T: Real, const C: usize, const N: usize> Row<S, T, C> for Vectors<S, T, N> {
    #[inline(always)]
    fn load(simd: S, taps: &Taps<T, C>) -> Self {
        let mut row = [Vector::splat(simd, T::zero()); N];
        for v in 0..N {
            row[v] = Vector::load(simd, &taps.as_flattened()[Self::at(v, 4 * C)..]);
        }
        Self(row)
    }

    #[inline(always)]
    fn times(mut self, simd: S, weight: T) -> Self {
        let weight = Vector::splat(simd, weight);
        for v in 0..N {
            self.0[v] = weight * self.0[v];
        }
        self
    }

    #[inline(always)]
    fn plus(mut self, simd: S, weight: T, row: Self) -> Self {
        let weight = Vector::splat(simd, weight);
        for v in 0..N {
            self.0[v] = weight.mul_add(row.0[v], self.0[v]);
        }
        self
    }

    #[inline(always)]
    fn store(self, taps: &mut Taps<T, C>) {
        for v in 0..N {
            self.0[v].store(&mut taps.as_flattened_mut()[Self::at(v, 4 * C)..]);
        }
    }
}

/// The rows of a group; there are none only beyond the field, which no point reaches.
#[inline(always)]
fn rows<'a, T, const C: usize>(
    taps: &'a [[T; C]],
    &Stencil { groups, stride }: &Stencil,
    g: usize,
) -> Option<[&'a Taps<T, C>; 4]> {
    let group = taps.get(groups[g]..groups[g] + 3 * stride + 4)?;
    Some([
        group.first_chunk()?,
        group.get(stride..)?.first_chunk()?,
        group.get(2 * stride..)?.first_chunk()?,
        group.get(3 * stride..)?.first_chunk()?,
    ])
}

impl<T: Real, const D: usize> Weights<T, D> {
    /// Sums of the taps of a point along all axes but the last.
    #[inline(always)]
    pub(super) fn sum<S: Simd, const C: usize>(
        &self,
        simd: S,
        Point { lane, stencil, taps }: Point<T, C>,
    ) -> Taps<T, C> {
        let w = Self::of_rows(&self.values, lane);
        let mut sum = [[T::zero(); C]; 4];
        for g in 0..Groups::<D>::COUNT {
            let Some(rows) = rows(taps, stencil, g) else { continue };
            let mut group = rows[0].times(simd, w[0]);
            for j in 1..4 {
                group = group.plus(simd, w[j], *rows[j]);
            }
            sum = sum.plus(simd, self.of_group(lane, g, None), group);
        }
        sum
    }

    /// The same for derivatives: `sums[b]` for that along the b-th axis from the last. The last is summed later, so that
    /// `sums[0]` are of values.
    #[inline(always)]
    pub(super) fn slope_sums<S: Simd, const C: usize>(
        &self,
        simd: S,
        point: Point<T, C>,
        sums: &mut [Taps<T, C>; D],
    ) {
        // Of several sums at once the compiler makes less than of whole vectors.
        match (4 * C, Vector::<S, T>::LEN) {
            (8, 8) | (4, 4) => self.slope_sums_of::<S, C, Vectors<S, T, 1>>(simd, point, sums),
            (12 | 16, 8) | (8, 4) => {
                self.slope_sums_of::<S, C, Vectors<S, T, 2>>(simd, point, sums);
            }
            (12, 4) => self.slope_sums_of::<S, C, Vectors<S, T, 3>>(simd, point, sums),
            _ => self.slope_sums_of::<S, C, Taps<T, C>>(simd, point, sums),
        }
    }

    #[inline(always)]
    fn slope_sums_of<S: Simd, const C: usize, R: Row<S, T, C>>(
        &self,
        simd: S,
        Point { lane, stencil, taps }: Point<T, C>,
        out: &mut [Taps<T, C>; D],
    ) {
        let (w, dw) = (Self::of_rows(&self.values, lane), Self::of_rows(&self.slopes, lane));
        let mut sums = [R::load(simd, &[[T::zero(); C]; 4]); D];
        for g in 0..Groups::<D>::COUNT {
            let Some(rows) = rows(taps, stencil, g) else { continue };
            let first = R::load(simd, rows[0]);
            let (mut group, mut slope) = (first.times(simd, w[0]), first.times(simd, dw[0]));
            for j in 1..4 {
                let row = R::load(simd, rows[j]);
                group = group.plus(simd, w[j], row);
                slope = slope.plus(simd, dw[j], row);
            }
            let weight = self.of_group(lane, g, None);
            for b in 0..D {
                let (weight, row) = match b {
                    0 => (weight, group),
                    1 => (weight, slope),
                    _ => (self.of_group(lane, g, Some(b)), group),
                };
                sums[b] = sums[b].plus(simd, weight, row);
            }
        }
        for b in 0..D {
            sums[b].store(&mut out[b]);
        }
    }

    /// Values of `C` fields at a point from its sums.
    #[inline(always)]
    pub(super) fn value<S: Simd, const C: usize>(&self, lane: usize, sum: &Taps<T, C>) -> [T; C] {
        last_axis::<S, T, C>(&self.values, lane, sum)
    }

    /// Σ over `C` fields of `bars` times the derivatives with respect to the source index, from the sums at a point.
    #[inline(always)]
    pub(super) fn slope<S: Simd, const C: usize>(
        &self,
        lane: usize,
        bars: [T; C],
        sums: &[Taps<T, C>; D],
    ) -> [T; D] {
        let mut by_index = [T::zero(); D];
        for b in 0..D {
            let along = if b == 0 { &self.slopes } else { &self.values };
            let slopes = last_axis::<S, T, C>(along, lane, &sums[b]);
            for c in 0..C {
                by_index[D - 1 - b] = mul_add::<S, T>(bars[c], slopes[c], by_index[D - 1 - b]);
            }
        }
        by_index
    }

    /// Transpose of values: adds `bar` to the taps of one point.
    #[inline(always)]
    pub(super) fn values_vjp<S: Simd, const C: usize>(
        &self,
        simd: S,
        lane: usize,
        &Stencil { groups, stride }: &Stencil,
        bar: [T; C],
        taps: &mut [[T; C]],
    ) {
        let (w, mut last) = (Self::of_rows(&self.values, lane), [bar; 4]);
        for k in 0..4 {
            for c in 0..C {
                last[k][c] *= self.values[0][k][lane];
            }
        }
        for g in 0..Groups::<D>::COUNT {
            let bars = last.times(simd, self.of_group(lane, g, None));
            let Some(group) = taps.get_mut(groups[g]..groups[g] + 3 * stride + 4) else { continue };
            for j in 0..4 {
                let row = group.get_mut(j * stride..).and_then(<[_]>::first_chunk_mut);
                let Some(row) = row else { continue };
                *row = row.plus(simd, w[j], bars);
            }
        }
    }
}

/// Sums of the taps of a point along the last axis.
#[inline(always)]
fn last_axis<S: Simd, T: Real, const C: usize>(
    along: &[[Lane<T>; 4]; AXES],
    lane: usize,
    sum: &Taps<T, C>,
) -> [T; C] {
    let mut value = [T::zero(); C];
    for k in 0..4 {
        for c in 0..C {
            value[c] = mul_add::<S, T>(along[0][k][lane], sum[k][c], value[c]);
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::difference::fold_index;

    #[test]
    fn the_table_of_mirrored_taps_is_that_of_an_axis_of_four() {
        for (tap, &mirrored) in (-4..8).zip(&MIRRORED) {
            assert_eq!(mirrored, fold_index(tap, 4, Boundary::Reflecting), "{tap}");
        }
    }
}
