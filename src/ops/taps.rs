//! The spline taps of a block of points: what vector instructions share over several points.

use super::spline::{derivatives, weights};
use crate::scalar::Real;
use crate::simd::Arithmetic;

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

/// Weights of the taps of a block of points: a product for each row, and those along the last axis.
pub(super) struct Weights<T, const D: usize> {
    /// Of derivatives along each axis; for the last, those of values.
    rows: [[Lane<T>; ROWS]; D],
    last: [Lane<T>; 4],
    last_slope: [Lane<T>; 4],
}

impl<T: Real, const D: usize> Weights<T, D> {
    pub(super) fn new() -> Self {
        let zeros = [T::zero(); LANES];
        Self { rows: [[zeros; ROWS]; D], last: [zeros; 4], last_slope: [zeros; 4] }
    }

    /// Those of values along each axis.
    #[inline(always)]
    fn along(cells: &Cells<T, D>) -> [[Lane<T>; 4]; D] {
        let mut along = [[[T::zero(); LANES]; 4]; D];
        for a in 0..D {
            along[a] = each(&cells.fractions[a], weights);
        }
        along
    }

    /// Those of values.
    #[inline(always)]
    pub(super) fn set_values(&mut self, cells: &Cells<T, D>) {
        let along = Self::along(cells);
        set_products(&mut self.rows[D - 1], &along);
        self.last = along[D - 1];
    }

    /// Those of values and of derivatives.
    #[inline(always)]
    pub(super) fn set(&mut self, cells: &Cells<T, D>) {
        let along = Self::along(cells);
        set_products(&mut self.rows[D - 1], &along);
        for a in 0..D - 1 {
            let mut along = along;
            along[a] = each(&cells.fractions[a], derivatives);
            set_products(&mut self.rows[a], &along);
        }
        self.last = along[D - 1];
        self.last_slope = each(&cells.fractions[D - 1], derivatives);
    }
}

/// The four weights of each point.
#[inline(always)]
fn each<T: Real>(fractions: &Lane<T>, weights: impl Fn(T) -> [T; 4]) -> [Lane<T>; 4] {
    let mut out = [[T::zero(); LANES]; 4];
    for l in 0..LANES {
        let w = weights(fractions[l]);
        for k in 0..4 {
            out[k][l] = w[k];
        }
    }
    out
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
fn plus<A: Arithmetic, T: Real, const C: usize>(
    sum: Taps<T, C>,
    weight: T,
    taps: &Taps<T, C>,
) -> Taps<T, C> {
    let mut out = sum;
    for k in 0..4 {
        for c in 0..C {
            out[k][c] = A::mul_add(weight, taps[k][c], sum[k][c]);
        }
    }
    out
}

impl<T: Real, const D: usize> Weights<T, D> {
    /// Values of `C` fields at a point from its sums.
    #[inline(always)]
    pub(super) fn value<A: Arithmetic, const C: usize>(
        &self,
        lane: usize,
        sums: &Taps<T, C>,
    ) -> [T; C] {
        along_last::<A, T, C>(&self.last, lane, sums)
    }

    /// Derivatives with respect to the source index.
    #[inline(always)]
    pub(super) fn gradient<A: Arithmetic, const C: usize>(
        &self,
        lane: usize,
        sums: &[Taps<T, C>; D],
    ) -> [[T; C]; D] {
        let mut gradient = [[T::zero(); C]; D];
        for a in 0..D {
            let weights = if a + 1 == D { &self.last_slope } else { &self.last };
            gradient[a] = along_last::<A, T, C>(weights, lane, &sums[a]);
        }
        gradient
    }
}

/// Σ of four taps by weights along the last axis.
#[inline(always)]
fn along_last<A: Arithmetic, T: Real, const C: usize>(
    weights: &[Lane<T>; 4],
    lane: usize,
    taps: &Taps<T, C>,
) -> [T; C] {
    let mut sum = [T::zero(); C];
    for k in 0..4 {
        for c in 0..C {
            sum[c] = A::mul_add(weights[k][lane], taps[k][c], sum[c]);
        }
    }
    sum
}

impl<T: Real, const D: usize> Weights<T, D> {
    /// Sums of the rows of taps of one point by the row weights of the derivatives along the last `K` axes.
    #[inline(always)]
    pub(super) fn sums<A: Arithmetic, const C: usize, const K: usize>(
        &self,
        lane: usize,
        offsets: &Offsets,
        field: &[[T; C]],
        out: &mut [Taps<T, C>; K],
    ) {
        // Few sums are several each: one waits for its own last value.
        let chains = if K * C == 1 {
            CHAINS
        } else if K * C <= 4 {
            2
        } else {
            1
        };
        let chains = chains.min(Rows::<D>::COUNT);
        let mut sums = [[[[T::zero(); C]; 4]; CHAINS]; K];
        for first in (0..Rows::<D>::COUNT).step_by(chains) {
            for chain in 0..chains {
                let row = first + chain;
                // There are none only beyond the field, which no point reaches.
                let Some(taps) = taps(field, offsets[row]) else { continue };
                for k in 0..K {
                    let weight = self.rows[D - K + k][row][lane];
                    sums[k][chain] = plus::<A, T, C>(sums[k][chain], weight, taps);
                }
            }
        }
        for k in 0..K {
            out[k] = sums[k][0];
            for chain in 1..chains {
                out[k] = plus::<A, T, C>(out[k], T::one(), &sums[k][chain]);
            }
        }
    }

    /// Transpose of values: adds `bar` to the taps of one point.
    #[inline(always)]
    pub(super) fn scatter<A: Arithmetic, const C: usize>(
        &self,
        lane: usize,
        offsets: &Offsets,
        bar: [T; C],
        out: &mut [[T; C]],
    ) {
        let mut last = [[T::zero(); C]; 4];
        for k in 0..4 {
            for c in 0..C {
                last[k][c] = bar[c] * self.last[k][lane];
            }
        }
        for row in 0..Rows::<D>::COUNT {
            let at = offsets[row] & PLACES;
            let taps = out.get_mut(at..at + 4).and_then(<[_]>::first_chunk_mut);
            let Some(taps) = taps else { continue };
            *taps = plus::<A, T, C>(*taps, self.rows[D - 1][row][lane], &last);
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
