//! The spline taps of a block of points: what vector instructions share over several points.

use super::spline::{derivatives, weights};
use crate::scalar::Real;
use crate::simd::{Simd, mul_add};

/// Points of a block.
pub(super) const LANES: usize = 16;

/// Most axes of a grid that is warped.
const AXES: u32 = 4;

/// Most rows of four taps along the last axis.
pub(super) const ROWS: usize = 4_usize.pow(AXES - 1);

/// A number for each point of a block.
pub(super) type Lane<T> = [T; LANES];

/// A place for each row of taps: all axes but the last, the first outermost.
pub(super) type Offsets = [usize; ROWS];

/// The taps of a point that are not where those of a point inside are, gathered.
pub(super) type Gathered<T, const C: usize> = [[T; C]; 4 * ROWS];

/// Where the rows of gathered taps begin.
pub(super) const GATHERED: Offsets = {
    let mut offsets = [0; ROWS];
    let mut row = 0;
    while row < ROWS {
        offsets[row] = 4 * row;
        row += 1;
    }
    offsets
};

/// Rows of taps of a grid of `D` axes.
pub(super) struct Rows<const D: usize>;

impl<const D: usize> Rows<D> {
    pub(super) const COUNT: usize = {
        assert!(1 <= D && D <= AXES as usize, "grids of one to four axes are warped");
        ROWS >> (2 * (AXES as usize - D))
    };

    /// Offsets of the rows of a point that is inside from its first tap.
    pub(super) fn offsets(strides: &[usize; D]) -> Offsets {
        std::array::from_fn(|row| {
            (0..D - 1)
                .rev()
                .fold((0, row), |(at, rest), a| (at + rest % 4 * strides[a], rest / 4))
                .0
        })
    }
}

/// Where the points of a block lie in the source.
pub(super) struct Cells<T, const D: usize> {
    /// Index of the first tap along each axis, which need not be a voxel of the grid.
    pub(super) first: [Lane<i32>; D],
    fractions: [Lane<T>; D],
}

impl<T: Real, const D: usize> Cells<T, D> {
    /// The cells of positions in source index units. What is farther than any index gets NaN.
    #[inline(always)]
    pub(super) fn new(positions: &[Lane<T>; D]) -> Self {
        let mut cells = Self { first: [[0; LANES]; D], fractions: [[T::zero(); LANES]; D] };
        for a in 0..D {
            let (mut first, mut fractions) = ([0; LANES], [T::zero(); LANES]);
            for l in 0..LANES {
                let (position, below) = (positions[a][l], positions[a][l].floor());
                first[l] = (below - T::one()).lattice();
                fractions[l] = if below.abs() < T::LATTICE { position - below } else { T::nan() };
            }
            cells.first[a] = first;
            cells.fractions[a] = fractions;
        }
        cells
    }
}

/// Weights of the taps of a block of points along each axis.
#[repr(align(64))]
pub(super) struct Weights<T, const D: usize> {
    values: [[Lane<T>; 4]; D],
    slopes: [[Lane<T>; 4]; D],
    /// Products of those of values along all axes but the last.
    rows: [Lane<T>; ROWS],
}

impl<T: Real, const D: usize> Weights<T, D> {
    pub(super) fn new() -> Self {
        let zeros = [[[T::zero(); LANES]; 4]; D];
        Self { values: zeros, slopes: zeros, rows: [[T::one(); LANES]; ROWS] }
    }

    /// Those of values.
    #[inline(always)]
    pub(super) fn set_values(&mut self, cells: &Cells<T, D>) {
        let along = cells.along(weights);
        set_products(&mut self.rows, &along);
        self.values = along;
    }

    /// Those of values and of derivatives.
    #[inline(always)]
    pub(super) fn set(&mut self, cells: &Cells<T, D>) {
        self.values = cells.along(weights);
        self.slopes = cells.along(derivatives);
    }
}

impl<T: Real, const D: usize> Cells<T, D> {
    /// The four weights of each point along each axis.
    #[inline(always)]
    fn along(&self, weights: impl Fn(T) -> [T; 4]) -> [[Lane<T>; 4]; D] {
        let mut along = [[[T::zero(); LANES]; 4]; D];
        for a in 0..D {
            for l in 0..LANES {
                let w = weights(self.fractions[a][l]);
                for k in 0..4 {
                    along[a][k][l] = w[k];
                }
            }
        }
        along
    }
}

/// The products of the weights along all axes but the last.
#[inline(always)]
fn set_products<T: Real, const D: usize>(rows: &mut [Lane<T>; ROWS], along: &[[Lane<T>; 4]; D]) {
    let mut count = 1;
    rows[0] = [T::one(); LANES];
    for along in &along[..D - 1] {
        for row in (0..count).rev() {
            let before = rows[row];
            for k in (0..4).rev() {
                for l in 0..LANES {
                    rows[4 * row + k][l] = before[l] * along[k][l];
                }
            }
        }
        count *= 4;
    }
}

/// Four neighbouring taps of `C` fields.
pub(super) type Taps<T, const C: usize> = [[T; C]; 4];

/// `sum` + `weight` `taps`.
#[inline(always)]
fn plus<S: Simd, T: Real, const C: usize>(
    sum: Taps<T, C>,
    weight: T,
    taps: &Taps<T, C>,
) -> Taps<T, C> {
    let mut out = sum;
    for k in 0..4 {
        for c in 0..C {
            out[k][c] = mul_add::<S, T>(weight, taps[k][c], sum[k][c]);
        }
    }
    out
}

impl<T: Real, const D: usize> Weights<T, D> {
    /// Sums of the taps of a point along all axes but the last.
    #[inline(always)]
    pub(super) fn sum<S: Simd, const C: usize>(
        &self,
        lane: usize,
        offsets: &Offsets,
        field: &[[T; C]],
        out: &mut Taps<T, C>,
    ) {
        // Few sums are several each: one waits for its own last value.
        let chains = if C == 1 {
            CHAINS
        } else if C <= 4 {
            2
        } else {
            1
        };
        let chains = chains.min(Rows::<D>::COUNT);
        let mut sums = [[[T::zero(); C]; 4]; CHAINS];
        for first in (0..Rows::<D>::COUNT).step_by(chains) {
            for chain in 0..chains {
                let row = first + chain;
                // There are none only beyond the field, which no point reaches.
                let Some(taps) = taps(field, offsets[row]) else { continue };
                sums[chain] = plus::<S, T, C>(sums[chain], self.rows[row][lane], taps);
            }
        }
        *out = sums[0];
        for chain in 1..chains {
            *out = plus::<S, T, C>(*out, T::one(), &sums[chain]);
        }
    }

    /// Values of `C` fields at a point from its sums.
    #[inline(always)]
    pub(super) fn value<S: Simd, const C: usize>(&self, lane: usize, sum: &Taps<T, C>) -> [T; C] {
        let mut value = [T::zero(); C];
        for k in 0..4 {
            for c in 0..C {
                value[c] = mul_add::<S, T>(self.values[D - 1][k][lane], sum[k][c], value[c]);
            }
        }
        value
    }

    /// Σ over `C` fields of `bars` times the derivatives with respect to the source index, from the sums at a point.
    #[inline(always)]
    pub(super) fn slope<S: Simd, const C: usize>(
        &self,
        lane: usize,
        bars: [T; C],
        sums: &[Taps<T, C>; D],
    ) -> [T; D] {
        let (mut values, mut slopes) = ([[T::zero(); C]; 4], [[T::zero(); C]; 4]);
        for k in 0..4 {
            for c in 0..C {
                values[k][c] = self.values[D - 1][k][lane] * bars[c];
                slopes[k][c] = self.slopes[D - 1][k][lane] * bars[c];
            }
        }
        let mut by_index = [T::zero(); D];
        for a in 0..D {
            by_index[a] = dot::<S, T, C>(if a + 1 == D { &slopes } else { &values }, &sums[a]);
        }
        by_index
    }
}

/// Σ of products, four at a time.
#[inline(always)]
fn dot<S: Simd, T: Real, const C: usize>(a: &Taps<T, C>, b: &Taps<T, C>) -> T {
    let mut sums = [T::zero(); 4];
    let fours = a.as_flattened().as_chunks().0.iter().zip(b.as_flattened().as_chunks().0);
    for (a, b) in fours {
        let (a, b): (&[T; 4], &[T; 4]) = (a, b);
        for l in 0..4 {
            sums[l] = mul_add::<S, T>(a[l], b[l], sums[l]);
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}

impl<T: Real, const D: usize> Weights<T, D> {
    /// Sums of the taps of a point along all axes but the last, axis by axis: of derivatives along each of these; for
    /// the last, of values.
    #[inline(always)]
    pub(super) fn slope_sums<S: Simd, const C: usize>(
        &self,
        lane: usize,
        offsets: &Offsets,
        field: &[[T; C]],
    ) -> [Taps<T, C>; D] {
        let zeros = [[[T::zero(); C]; 4]; D];
        let mut out = zeros;
        // Along the axes behind each.
        let mut sums = [zeros; D];
        for group in 0..Rows::<D>::COUNT.div_ceil(4) {
            let mut behind = zeros;
            for k in 0..Rows::<D>::COUNT.min(4) {
                let Some(taps) = taps(field, offsets[4 * group + k]) else { continue };
                if D == 1 {
                    behind[D - 1] = *taps;
                } else {
                    let mut row = zeros;
                    row[D - 1] = *taps;
                    self.add::<S, C>((lane, D - 2, k), &row, &mut behind);
                }
            }
            let mut rest = group;
            for axis in (0..D.saturating_sub(2)).rev() {
                let k = rest % 4;
                rest /= 4;
                self.add::<S, C>((lane, axis, k), &behind, &mut sums[axis]);
                if k < 3 {
                    break;
                }
                behind = std::mem::replace(&mut sums[axis], zeros);
            }
            out = behind;
        }
        out
    }

    /// Adds the sums at the `k`-th tap along an axis to those along it.
    #[inline(always)]
    fn add<S: Simd, const C: usize>(
        &self,
        (lane, axis, k): (usize, usize, usize),
        behind: &[Taps<T, C>; D],
        sums: &mut [Taps<T, C>; D],
    ) {
        let (value, slope) = (self.values[axis][k][lane], self.slopes[axis][k][lane]);
        sums[axis] = plus::<S, T, C>(sums[axis], slope, &behind[D - 1]);
        for a in axis + 1..D {
            sums[a] = plus::<S, T, C>(sums[a], value, &behind[a]);
        }
    }

    /// Transpose of values: adds `bar` to the taps of one point.
    #[inline(always)]
    pub(super) fn scatter<S: Simd, const C: usize>(
        &self,
        lane: usize,
        offsets: &Offsets,
        bar: [T; C],
        out: &mut [[T; C]],
    ) {
        let mut last = [[T::zero(); C]; 4];
        for k in 0..4 {
            for c in 0..C {
                last[k][c] = bar[c] * self.values[D - 1][k][lane];
            }
        }
        for row in 0..Rows::<D>::COUNT {
            let at = offsets[row] & PLACES;
            let taps = out.get_mut(at..at + 4).and_then(<[_]>::first_chunk_mut);
            let Some(taps) = taps else { continue };
            *taps = plus::<S, T, C>(*taps, self.rows[row][lane], &last);
        }
    }
}

/// Most sums that are added to in turn.
const CHAINS: usize = 4;

/// Places in a buffer: that four more do not overflow saves a comparison.
const PLACES: usize = usize::MAX >> 1;

/// Four neighbouring taps.
#[inline(always)]
fn taps<T, const C: usize>(field: &[[T; C]], at: usize) -> Option<&Taps<T, C>> {
    let at = at & PLACES;
    field.get(at..at + 4)?.first_chunk()
}
