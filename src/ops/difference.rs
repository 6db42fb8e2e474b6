//! Central differences along an axis, and their exact transposes.

use super::or_nan;
use crate::grid::{Boundary, Grid};
use crate::scalar::Real;
use crate::simd::vectorised;

/// The order of accuracy of a central difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Order {
    /// (f₊₁ − f₋₁) / 2h.
    Second,
    /// (8 (f₊₁ − f₋₁) − (f₊₂ − f₋₂)) / 12h: the same passes, two more digits on smooth fields.
    #[default]
    Fourth,
}

impl Order {
    /// Coefficients of `f₊ₖ − f₋ₖ`, k = 1, 2, for unit spacing.
    fn coefficients(self) -> [f64; 2] {
        match self {
            Self::Second => [0.5, 0.0],
            Self::Fourth => [2.0 / 3.0, -1.0 / 12.0],
        }
    }
}

/// Voxels at either end of a lane that need the boundary rule.
const BORDER: usize = 2;

/// One row of a difference matrix along an axis: four columns, some of which may be the same.
#[derive(Clone, Copy, Debug)]
struct Row<T> {
    columns: [usize; 4],
    coefficients: [T; 4],
}

/// The difference along one axis as a banded matrix with `BORDER` special rows at either end.
#[derive(Clone, Debug)]
struct Axis<T> {
    n: usize,
    inner: usize,
    /// Coefficients of `f₊ₖ − f₋ₖ` in rows away from the ends.
    interior: [T; 2],
    /// Rows of ∂ and of ∂ᵀ at the ends: first `BORDER`, then last `BORDER`.
    rows: [Row<T>; 2 * BORDER],
    transposed_rows: [Row<T>; 2 * BORDER],
    /// Where the values beyond the ends of a lane are read: two before and two behind it.
    beyond: [usize; 2 * BORDER],
}

/// Where an index beyond a lane of `n` points reads from.
#[inline]
pub(crate) fn fold_index(i: isize, n: usize, boundary: Boundary) -> usize {
    let n = n.cast_signed();
    let folded = match boundary {
        _ if (0..n).contains(&i) => i,
        Boundary::Periodic => i.rem_euclid(n),
        Boundary::Reflecting | Boundary::Free => {
            let j = i.rem_euclid(2 * n);
            if j < n { j } else { 2 * n - 1 - j }
        }
    };
    folded.cast_unsigned()
}

impl<T: Real> Row<T> {
    /// The row times a column of values.
    #[inline(always)]
    fn dot(&self, value: impl Fn(usize) -> T) -> T {
        let Self { columns: [j1, j2, j3, j4], coefficients: [c1, c2, c3, c4] } = *self;
        (c1 * value(j1) + c2 * value(j2)) + (c3 * value(j3) + c4 * value(j4))
    }
}

impl<T: Real> Axis<T> {
    fn new(n: usize, inner: usize, spacing: f64, order: Order, boundary: Boundary) -> Self {
        let [c1, c2] = order.coefficients().map(|c| c / spacing);
        let row = |i: usize, sign: &dyn Fn(isize) -> f64| {
            let beside = [-2, -1, 1, 2].map(|k| i.cast_signed() + k);
            let coefficients = [-c2, -c1, c1, c2];
            Row {
                columns: beside.map(|j| fold_index(j, n, boundary)),
                coefficients: std::array::from_fn(|t| T::of(sign(beside[t]) * coefficients[t])),
            }
        };
        // Where a field is mirrored, ∂ᵀ is −∂ of the field that is mirrored with its sign turned.
        let outside = |j: isize| !(0..n.cast_signed()).contains(&j);
        let turned = |j| if boundary != Boundary::Periodic && outside(j) { 1.0 } else { -1.0 };
        let ends = [0, 1, n - 2, n - 1];
        let beyond = [-2, -1, n.cast_signed(), n.cast_signed() + 1];
        Self {
            n,
            inner,
            interior: [c1, c2].map(T::of),
            rows: ends.map(|i| row(i, &|_| 1.0)),
            transposed_rows: ends.map(|i| row(i, &turned)),
            beyond: beyond.map(|i| fold_index(i, n, boundary)),
        }
    }

    /// Cuts a chunk from `lo` on into a part of a lane, whole lanes of the contiguous axis, and the rest. There
    /// is rest only along another axis.
    #[inline(always)]
    fn lanes<'a>(&self, lo: usize, out: &'a mut [T]) -> (&'a mut [T], &'a mut [T], &'a mut [T]) {
        let head = lo.next_multiple_of(self.n) - lo;
        if self.inner > 1 || head > out.len() {
            return (&mut [], &mut [], out);
        }
        let (head, rest) = out.split_at_mut(head);
        let (whole, tail) = rest.split_at_mut(rest.len() / self.n * self.n);
        (head, whole, tail)
    }

    /// The rows at the ends of a lane, in the order of `rows`.
    #[inline(always)]
    fn ends(&self) -> [usize; 2 * BORDER] {
        [0, 1, self.n - 2, self.n - 1]
    }

    /// Cuts the flat range `lo..hi` into runs away from the ends of their lanes and runs within one
    /// row at an end.
    fn pieces(&self, lo: usize, hi: usize) -> impl Iterator<Item = Piece> {
        let (n, inner) = (self.n, self.inner);
        let mut from = lo;
        std::iter::from_fn(move || {
            if from >= hi {
                return None;
            }
            let row = (from / inner) % n;
            let lane = from - from % (n * inner);
            let (rows, end) = if (BORDER..n - BORDER).contains(&row) {
                (n - BORDER, None)
            } else {
                (row + 1, Some(if row < BORDER { row } else { row + 2 * BORDER - n }))
            };
            let piece = Piece { from, to: hi.min(lane + rows * inner), row, end };
            from = piece.to;
            Some(piece)
        })
    }

    /// [`Difference::add_scaled`] along this axis, `a` over the chunk alone.
    #[inline(always)]
    fn add_scaled(&self, s: T, a: &[T], f: &[T], lo: usize, out: &mut [T]) {
        let (head, whole, tail) = self.lanes(lo, out);
        let (a_head, a) = a.split_at(head.len());
        let (a_whole, a_tail) = a.split_at(whole.len());
        self.add_scaled_in_pieces(s, a_head, f, lo, head);
        let (n, at) = (self.n, lo + head.len());
        for (lane, out) in whole.chunks_exact_mut(n).enumerate() {
            let (a, f) = (&a_whole[lane * n..][..n], &f[at + lane * n..][..n]);
            self.add_scaled_lane(s, a, f, out);
        }
        self.add_scaled_in_pieces(s, a_tail, f, at + whole.len(), tail);
    }

    /// The same for one whole lane of the contiguous axis.
    #[inline(always)]
    fn add_scaled_lane(&self, s: T, a: &[T], f: &[T], out: &mut [T]) {
        let (n, [c1, c2]) = (self.n, self.interior.map(|c| s * c));
        let [before, beside, behind, last] = self.beyond.map(|i| f[i]);
        let ends = [
            [before, beside, f[0], f[1], f[2], f[3]],
            [f[n - 4], f[n - 3], f[n - 2], f[n - 1], behind, last],
        ];
        for (f, first) in ends.into_iter().zip([0, n - BORDER]) {
            for k in 0..BORDER {
                let slope = c1 * (f[k + 3] - f[k + 1]) + c2 * (f[k + 4] - f[k]);
                out[first + k] += a[first + k] * slope;
            }
        }
        let mut i = BORDER;
        while let Some((f, a, out)) = block::<T, SPAN, BLOCK>(i, f, a, out) {
            let mut sum = *out;
            for k in 0..BLOCK {
                sum[k] += a[k + 2] * (c1 * (f[k + 3] - f[k + 1]) + c2 * (f[k + 4] - f[k]));
            }
            *out = sum;
            i += BLOCK;
        }
        if let Some((f, a, out)) = block::<T, HALF_SPAN, HALF>(i, f, a, out) {
            let mut sum = *out;
            for k in 0..HALF {
                sum[k] += a[k + 2] * (c1 * (f[k + 3] - f[k + 1]) + c2 * (f[k + 4] - f[k]));
            }
            *out = sum;
            i += HALF;
        }
        for i in i..n - BORDER {
            out[i] += a[i] * (c1 * (f[i + 1] - f[i - 1]) + c2 * (f[i + 2] - f[i - 2]));
        }
    }

    /// The same for any part of a component.
    #[inline(always)]
    fn add_scaled_in_pieces(&self, s: T, a: &[T], f: &[T], lo: usize, out: &mut [T]) {
        let (inner, [c1, c2]) = (self.inner, self.interior);
        let (c1, c2) = (s * c1, s * c2);
        for Piece { from, to, row, end } in self.pieces(lo, lo + out.len()) {
            let out = &mut out[from - lo..to - lo];
            let len = out.len();
            let a = &a[from - lo..][..len];
            if let Some(end) = end {
                let Row { columns, coefficients } = self.rows[end];
                let base = from - row * inner;
                let [c1, c2, c3, c4] = coefficients.map(|c| s * c);
                let [f1, f2, f3, f4] = columns.map(|j| &f[base + j * inner..][..len]);
                for k in 0..len {
                    out[k] += a[k] * (c1 * f1[k] + c2 * f2[k] + c3 * f3[k] + c4 * f4[k]);
                }
            } else {
                let (p1, m1) = (&f[from + inner..][..len], &f[from - inner..][..len]);
                let (p2, m2) = (&f[from + 2 * inner..][..len], &f[from - 2 * inner..][..len]);
                for k in 0..len {
                    out[k] += a[k] * (c1 * (p1[k] - m1[k]) + c2 * (p2[k] - m2[k]));
                }
            }
        }
    }

    /// [`Difference::add_transposed`] along this axis.
    #[inline(always)]
    fn add_transposed(&self, s: T, a: &[T], b: &[T], lo: usize, out: &mut [T]) {
        let (head, whole, tail) = self.lanes(lo, out);
        self.add_transposed_in_pieces(s, a, b, lo, head);
        let (n, at) = (self.n, lo + head.len());
        for (lane, out) in whole.chunks_exact_mut(n).enumerate() {
            let (a, b) = (&a[at + lane * n..][..n], &b[at + lane * n..][..n]);
            self.add_transposed_lane(s, a, b, out);
        }
        self.add_transposed_in_pieces(s, a, b, at + whole.len(), tail);
    }

    /// The same for one whole lane of the contiguous axis.
    #[inline(always)]
    fn add_transposed_lane(&self, s: T, a: &[T], b: &[T], out: &mut [T]) {
        let (n, [c1, c2]) = (self.n, self.interior.map(|c| s * c));
        for (i, row) in self.ends().into_iter().zip(&self.transposed_rows) {
            out[i] += s * row.dot(|j| a[j] * b[j]);
        }
        let mut i = BORDER;
        while let Some((a, b, out)) = block::<T, SPAN, BLOCK>(i, a, b, out) {
            let mut sum = *out;
            for k in 0..BLOCK {
                sum[k] += c1 * (a[k + 1] * b[k + 1] - a[k + 3] * b[k + 3])
                    + c2 * (a[k] * b[k] - a[k + 4] * b[k + 4]);
            }
            *out = sum;
            i += BLOCK;
        }
        if let Some((a, b, out)) = block::<T, HALF_SPAN, HALF>(i, a, b, out) {
            let mut sum = *out;
            for k in 0..HALF {
                sum[k] += c1 * (a[k + 1] * b[k + 1] - a[k + 3] * b[k + 3])
                    + c2 * (a[k] * b[k] - a[k + 4] * b[k + 4]);
            }
            *out = sum;
            i += HALF;
        }
        for i in i..n - BORDER {
            out[i] += c1 * (a[i - 1] * b[i - 1] - a[i + 1] * b[i + 1])
                + c2 * (a[i - 2] * b[i - 2] - a[i + 2] * b[i + 2]);
        }
    }

    /// The same for any part of a component.
    #[inline(always)]
    fn add_transposed_in_pieces(&self, s: T, a: &[T], b: &[T], lo: usize, out: &mut [T]) {
        let (inner, [c1, c2]) = (self.inner, self.interior);
        let (c1, c2) = (s * c1, s * c2);
        // Only the columns at the ends see folded rows, so only there is ∂ᵀ not −∂.
        for Piece { from, to, row, end } in self.pieces(lo, lo + out.len()) {
            let out = &mut out[from - lo..to - lo];
            if let Some(end) = end {
                let len = out.len();
                let Row { columns, coefficients } = self.transposed_rows[end];
                let base = from - row * inner;
                let [c1, c2, c3, c4] = coefficients.map(|c| s * c);
                let [a1, a2, a3, a4] = columns.map(|j| &a[base + j * inner..][..len]);
                let [b1, b2, b3, b4] = columns.map(|j| &b[base + j * inner..][..len]);
                for k in 0..len {
                    out[k] += c1 * a1[k] * b1[k]
                        + c2 * a2[k] * b2[k]
                        + c3 * a3[k] * b3[k]
                        + c4 * a4[k] * b4[k];
                }
            } else {
                let len = out.len();
                let (i1, i2) = (inner, 2 * inner);
                let (ap1, am1) = (&a[from + i1..][..len], &a[from - i1..][..len]);
                let (ap2, am2) = (&a[from + i2..][..len], &a[from - i2..][..len]);
                let (bp1, bm1) = (&b[from + i1..][..len], &b[from - i1..][..len]);
                let (bp2, bm2) = (&b[from + i2..][..len], &b[from - i2..][..len]);
                for k in 0..len {
                    out[k] += c1 * (am1[k] * bm1[k] - ap1[k] * bp1[k])
                        + c2 * (am2[k] * bm2[k] - ap2[k] * bp2[k]);
                }
            }
        }
    }
}

/// Values that [`Difference::add`] works on at once.
const RUN: usize = 1024;

/// Values of a lane that are worked on together. Lanes are short: what a compiler makes of a loop over one of
/// them leaves half of it over. A block is summed apart, so that no operand can be what is written to.
const BLOCK: usize = 8;

/// A block with its neighbours.
const SPAN: usize = BLOCK + 2 * BORDER;

/// What may be left of a lane behind the blocks: half a block more, and its neighbours.
const HALF: usize = 4;
const HALF_SPAN: usize = HALF + 2 * BORDER;

/// The block of `out` that starts at `i`, and the operands from `BORDER` voxels before to as many behind it.
/// None where a lane ends before.
#[inline(always)]
fn block<'a, T, const S: usize, const B: usize>(
    i: usize,
    a: &'a [T],
    b: &'a [T],
    out: &'a mut [T],
) -> Option<(&'a [T; S], &'a [T; S], &'a mut [T; B])> {
    let from = i - BORDER;
    let operands = (a.get(from..)?.first_chunk()?, b.get(from..)?.first_chunk()?);
    Some((operands.0, operands.1, out.get_mut(i..)?.first_chunk_mut()?))
}

/// A run `from..to` of a buffer: within one row if `end` names a special row, else over rows away
/// from the ends.
struct Piece {
    from: usize,
    to: usize,
    row: usize,
    end: Option<usize>,
}

/// Central differences over a grid, in physical units.
///
/// Beyond the border fields repeat ([`Boundary::Periodic`]) or are mirrored at the face
/// ([`Boundary::Reflecting`] and [`Boundary::Free`]). One pass reads each operand once; chunks of a
/// field can be worked on apart, so that several terms are added while a chunk is in cache.
///
/// # References
/// Fornberg, *Generation of finite difference formulas on arbitrarily spaced grids*, Math. Comp. 51
/// (1988), doi:10.1090/S0025-5718-1988-0935077-0.
#[derive(Clone, Debug)]
pub struct Difference<T, const D: usize> {
    axes: [Axis<T>; D],
    order: Order,
}

impl<T: Real, const D: usize> Difference<T, D> {
    /// Differences of the given order with the grid's spacing and boundary.
    #[must_use]
    pub fn new(grid: &Grid<D>, order: Order) -> Self {
        let axes = std::array::from_fn(|a| {
            let (_, n, inner) = grid.lanes(a);
            Axis::new(n, inner, grid.spacing()[a], order, grid.boundary())
        });
        Self { axes, order }
    }

    /// Order of accuracy away from the border.
    #[must_use]
    pub fn order(&self) -> Order {
        self.order
    }

    /// Whether `a` and `b` are whole components and `out` a part of one, from `lo` on.
    fn fits(&self, axis: usize, a: &[T], b: &[T], lo: usize, out: &[T]) -> bool {
        let n = self.axes.first().map_or(0, |axis| axis.n * axis.inner);
        axis < D && a.len() == n && b.len() == n && lo <= n && out.len() <= n - lo
    }

    /// `out += s · a ⊙ ∂f/∂x_axis` for the chunk of `out` that starts at flat index `lo`;
    /// `a` and `f` are whole components.
    pub fn add_scaled(&self, axis: usize, s: T, a: &[T], f: &[T], lo: usize, out: &mut [T]) {
        if !or_nan(self.fits(axis, a, f, lo, out), out) {
            return;
        }
        let (axis, a) = (&self.axes[axis], &a[lo..][..out.len()]);
        vectorised(
            #[inline(always)]
            || axis.add_scaled(s, a, f, lo, out),
        );
    }

    /// `out += ∂f/∂x_axis` for the chunk of `out` that starts at flat index `lo`; `f` is a whole component.
    pub fn add(&self, axis: usize, f: &[T], lo: usize, out: &mut [T]) {
        if !or_nan(self.fits(axis, f, f, lo, out), out) {
            return;
        }
        let (axis, ones) = (&self.axes[axis], [T::one(); RUN]);
        for (k, out) in out.chunks_mut(RUN).enumerate() {
            vectorised(
                #[inline(always)]
                || axis.add_scaled(T::one(), &ones[..out.len()], f, lo + k * RUN, out),
            );
        }
    }

    /// `out += s · ∂ᵀ(a ⊙ b)` along `axis` for the chunk of `out` that starts at `lo`. Away from the
    /// border ∂ᵀ = −∂.
    pub fn add_transposed(&self, axis: usize, s: T, a: &[T], b: &[T], lo: usize, out: &mut [T]) {
        if !or_nan(self.fits(axis, a, b, lo, out), out) {
            return;
        }
        let axis = &self.axes[axis];
        vectorised(
            #[inline(always)]
            || axis.add_transposed(s, a, b, lo, out),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;

    #[test]
    fn a_plain_difference_is_one_with_the_coefficient_one() {
        for boundary in Boundary::ALL {
            let grid = Grid::new([60, 70], [0.5, 2.0]).unwrap().with_boundary(boundary);
            let difference = Difference::<f64, 2>::new(&grid, Order::Fourth);
            let (f, ones) = (random::<f64>(grid.len(), 1), vec![1.0; grid.len()]);
            for (axis, lo, len) in [(0, 0, 4200), (1, 0, 4200), (0, 37, 1500), (1, 37, 1500)] {
                let (mut plain, mut scaled) = (vec![0.5; len], vec![0.5; len]);
                difference.add(axis, &f, lo, &mut plain);
                difference.add_scaled(axis, 1.0, &ones, &f, lo, &mut scaled);
                // Other pieces, other vector instructions: one rounding of values of about ten.
                assert!(plain.iter().zip(&scaled).all(|(a, b)| (a - b).abs() < 1e-14));
            }
            let mut wrong = vec![0.0; 5];
            difference.add(2, &f, 0, &mut wrong);
            assert!(wrong.iter().all(|x| x.is_nan()));
        }
    }

    #[test]
    fn transposes_match_at_every_boundary_order_and_length() {
        for boundary in Boundary::ALL {
            for order in [Order::Second, Order::Fourth] {
                for shape in [[4, 5, 6], [7, 4, 9], [12, 8, 5]] {
                    let grid = Grid::new(shape, [0.5, 1.0, 2.0]).unwrap().with_boundary(boundary);
                    let d = Difference::<f64, 3>::new(&grid, order);
                    let n = grid.len();
                    let (a, f, g) = (random(n, 1), random(n, 2), random(n, 3));
                    for axis in 0..3 {
                        let (mut forward, mut back) = (vec![0.0; n], vec![0.0; n]);
                        // Chunks that cut lanes anywhere must give what one pass gives.
                        for (lo, chunk) in forward.chunks_mut(17).enumerate() {
                            d.add_scaled(axis, 1.0, &a, &f, lo * 17, chunk);
                        }
                        d.add_transposed(axis, 1.0, &a, &g, 0, &mut back);
                        let left: f64 = forward.iter().zip(&g).map(|(x, y)| x * y).sum();
                        let right: f64 = back.iter().zip(&f).map(|(x, y)| x * y).sum();
                        let scale = left.abs().max(1.0);
                        assert!((left - right).abs() < 1e-12 * scale, "{boundary:?} {axis}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_order_is_observed_on_a_sine() {
        for (order, expected) in [(Order::Second, 2.0), (Order::Fourth, 4.0)] {
            let error = |n: usize| {
                let h = 1.0 / n as f64;
                let grid = Grid::new([n, 4], [h, 1.0]).unwrap().with_boundary(Boundary::Periodic);
                let d = Difference::<f64, 2>::new(&grid, order);
                let tau = std::f64::consts::TAU;
                let f: Vec<f64> = (0..4 * n).map(|i| (tau * (i / 4) as f64 * h).sin()).collect();
                let mut out = vec![0.0; 4 * n];
                d.add_scaled(0, 1.0, &vec![1.0; 4 * n], &f, 0, &mut out);
                (0..4 * n)
                    .map(|i| (out[i] - tau * (tau * (i / 4) as f64 * h).cos()).abs())
                    .fold(0.0, f64::max)
            };
            let observed = (error(32) / error(64)).log2();
            assert!((observed - expected).abs() < 0.05, "{order:?}: {observed}");
        }
    }
}
