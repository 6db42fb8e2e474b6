//! The spline taps of a block of points: what vector instructions share over several points.

use super::spline::{derivatives, weights};
use crate::scalar::Real;
use crate::simd::Arithmetic;

/// Points of a block.
pub(super) const LANES: usize = 16;

/// Most axes of a grid that is warped.
const AXES: u32 = 4;

/// Most rows of four taps along the last axis.
const ROWS: usize = 4_usize.pow(AXES - 1);

/// A number for each point of a block.
pub(super) type Lane<T> = [T; LANES];

/// Source positions of the points of a block, and their cells.
pub(super) struct Cells<T, const D: usize> {
    /// Positions in source index units.
    pub(super) positions: [Lane<T>; D],
    /// Whether all taps are voxels of the grid.
    pub(super) inside: Lane<bool>,
    /// Place in the buffer of the first tap, 0 unless inside.
    pub(super) first: Lane<usize>,
    fractions: [Lane<T>; D],
}

impl<T: Real, const D: usize> Cells<T, D> {
    pub(super) fn new() -> Self {
        let zeros = [[T::zero(); LANES]; D];
        let (inside, first) = ([false; LANES], [0; LANES]);
        Self { positions: zeros, inside, first, fractions: zeros }
    }

    /// Finds the cells of the positions on a grid.
    #[inline(always)]
    pub(super) fn locate(&mut self, shape: &[usize; D], strides: &[usize; D]) {
        self.inside = [true; LANES];
        self.first = [0; LANES];
        for a in 0..D {
            let (one, last) = (T::one(), T::of(shape[a] as f64 - 3.0));
            let mut below = [T::zero(); LANES];
            for l in 0..LANES {
                below[l] = self.positions[a][l].floor();
            }
            for l in 0..LANES {
                self.fractions[a][l] = self.positions[a][l] - below[l];
            }
            for l in 0..LANES {
                // NaN is nowhere.
                self.inside[l] &= (one..=last).contains(&below[l]);
            }
            for l in 0..LANES {
                let first = (below[l] - one).max(T::zero()).min(last);
                self.first[l] += first.to_index() * strides[a];
            }
        }
        for l in 0..LANES {
            self.first[l] = if self.inside[l] { self.first[l] } else { 0 };
        }
    }
}

/// Weights of the rows of taps, in the order of [`row_offsets`], and of the taps along the last axis.
pub(super) struct Weights<T> {
    rows: [Lane<T>; ROWS],
    last: [Lane<T>; 4],
}

impl<T: Real> Weights<T> {
    pub(super) fn new() -> Self {
        Self { rows: [[T::zero(); LANES]; ROWS], last: [[T::zero(); LANES]; 4] }
    }

    /// Those of values, or of the derivative along an axis.
    #[inline(always)]
    pub(super) fn set<const D: usize>(&mut self, cells: &Cells<T, D>, derivative: Option<usize>) {
        const { assert!(D <= AXES as usize, "grids of at most four axes are warped") };
        let mut count = 1;
        self.rows[0] = [T::one(); LANES];
        for a in 0..D {
            let mut along = [[T::zero(); LANES]; 4];
            for l in 0..LANES {
                let t = cells.fractions[a][l];
                let w = if derivative == Some(a) { derivatives(t) } else { weights(t) };
                for k in 0..4 {
                    along[k][l] = w[k];
                }
            }
            if a + 1 == D {
                self.last = along;
                break;
            }
            for row in (0..count).rev() {
                let before = self.rows[row];
                for k in (0..4).rev() {
                    for l in 0..LANES {
                        self.rows[4 * row + k][l] = before[l] * along[k][l];
                    }
                }
            }
            count *= 4;
        }
    }

    /// Weights of the taps along the last axis for one point.
    #[inline(always)]
    fn of_last(&self, lane: usize) -> [T; 4] {
        self.last.map(|w| w[lane])
    }
}

/// Offsets of the rows of taps from the first tap: all axes but the last, the first outermost.
pub(super) fn row_offsets<const D: usize>(strides: &[usize; D]) -> Vec<usize> {
    let leading = strides.iter().take(D.saturating_sub(1));
    leading.fold(vec![0], |rows, stride| {
        rows.iter().flat_map(|row| (0..4).map(move |k| row + k * stride)).collect()
    })
}

/// Four neighbouring taps; there are none only beyond the field, which a point that is inside does not reach.
#[inline(always)]
fn taps<T: Real>(field: &[T], at: usize) -> Option<&[T; 4]> {
    field.get(at..)?.first_chunk()
}

/// `sum` + `weight` `taps`.
#[inline(always)]
fn plus<A: Arithmetic, T: Real>(sum: [T; 4], weight: T, taps: &[T; 4]) -> [T; 4] {
    std::array::from_fn(|k| A::mul_add(weight, taps[k], sum[k]))
}

#[inline(always)]
fn dot<T: Real>(a: [T; 4], b: [T; 4]) -> T {
    let product: [T; 4] = std::array::from_fn(|k| a[k] * b[k]);
    product.into_iter().fold(T::zero(), |sum, x| sum + x)
}

/// Σ of the taps of one point that is inside: values of `C` fields by the weights of values.
#[inline(always)]
pub(super) fn values<A: Arithmetic, T: Real, const C: usize>(
    weights: &Weights<T>,
    rows: &[usize],
    (lane, first): (usize, usize),
    fields: &[&[T]; C],
) -> [T; C] {
    let mut sums = [[T::zero(); 4]; C];
    for (row, weight) in rows.iter().zip(&weights.rows) {
        for c in 0..C {
            let Some(taps) = taps(fields[c], first + row) else { continue };
            sums[c] = plus::<A, T>(sums[c], weight[lane], taps);
        }
    }
    let last = weights.of_last(lane);
    sums.map(|sum| dot(sum, last))
}

/// Derivatives of Σ_c `bars[c]` f_c at one point that is inside, by the weights of each derivative.
#[inline(always)]
pub(super) fn gradient<A: Arithmetic, T: Real, const C: usize, const D: usize>(
    weights: &[Weights<T>; D],
    rows: &[usize],
    (lane, first): (usize, usize),
    bars: [T; C],
    fields: &[&[T]; C],
) -> [T; D] {
    let mut sums = [[T::zero(); 4]; D];
    for (r, row) in rows.iter().enumerate().take(ROWS) {
        let mut sum = [T::zero(); 4];
        for c in 0..C {
            let Some(taps) = taps(fields[c], first + row) else { continue };
            sum = plus::<A, T>(sum, bars[c], taps);
        }
        for a in 0..D {
            sums[a] = plus::<A, T>(sums[a], weights[a].rows[r][lane], &sum);
        }
    }
    std::array::from_fn(|a| dot(sums[a], weights[a].of_last(lane)))
}

/// Transpose of [`values`] for one field: adds `bar` at one point that is inside.
#[inline(always)]
pub(super) fn scatter<A: Arithmetic, T: Real>(
    weights: &Weights<T>,
    rows: &[usize],
    (lane, first): (usize, usize),
    bar: T,
    out: &mut [T],
) {
    let last = weights.of_last(lane).map(|w| bar * w);
    for (row, weight) in rows.iter().zip(&weights.rows) {
        let taps = out.get_mut(first + row..).and_then(<[T]>::first_chunk_mut);
        let Some(taps) = taps else { continue };
        *taps = plus::<A, T>(*taps, weight[lane], &last);
    }
}
