//! Central differences along an axis, and their exact transposes.

mod rows;

pub use rows::Order;
pub(crate) use rows::fold_index;

use super::or_nan;
use crate::grid::Grid;
use crate::scalar::Real;
use crate::simd::{self, Simd, Vector, Work, update};
use rows::{Axis, BORDER, Piece, Row};

/// A term that is added to the values of a chunk, by vectors.
trait Term<T: Real>: Copy {
    /// Adds it to values away from the ends of their lanes, the first of which has the flat index `at`.
    fn add_inside<S: Simd>(self, simd: S, at: usize, out: &mut [T]);

    /// Adds it to values at the end of their lanes, from the flat index `at` on: `row` is one of [`Term::rows`], with the
    /// places of its columns.
    fn add_at_end<S: Simd>(self, simd: S, row: Row<T>, at: usize, out: &mut [T]);

    /// The rows at the ends of a lane, with the factor of the term.
    fn rows(self) -> [Row<T>; 2 * BORDER];

    /// What is differenced: `B` values from a flat index on.
    fn values<const B: usize>(self, at: usize) -> [T; B];

    /// What the differences are multiplied with.
    fn weights<const B: usize>(self, at: usize) -> [T; B];
}

/// [`Difference::add_scaled`] along an axis, `a` over the chunk from `lo` on alone.
#[derive(Clone, Copy)]
struct Scaled<'a, T> {
    axis: &'a Axis<T>,
    s: T,
    a: &'a [T],
    f: &'a [T],
    lo: usize,
}

impl<T: Real> Term<T> for Scaled<'_, T> {
    #[inline(always)]
    fn add_inside<S: Simd>(self, simd: S, at: usize, out: &mut [T]) {
        let Self { axis, s, a, f, lo } = self;
        let [c1, c2] = axis.interior.map(|c| Vector::splat(simd, s * c));
        let [m2, m1, p1, p2] = axis.beside(at).map(|i| &f[i..]);
        update(
            simd,
            out,
            [&a[at - lo..], m2, m1, p1, p2],
            #[inline(always)]
            |out, [a, m2, m1, p1, p2]| out + a * (c1 * (p1 - m1) + c2 * (p2 - m2)),
        );
    }

    #[inline(always)]
    fn add_at_end<S: Simd>(self, simd: S, row: Row<T>, at: usize, out: &mut [T]) {
        let [c1, c2, c3, c4] = row.coefficients.map(|c| Vector::splat(simd, c));
        let [f1, f2, f3, f4] = row.columns.map(|i| &self.f[i..]);
        update(
            simd,
            out,
            [&self.a[at - self.lo..], f1, f2, f3, f4],
            #[inline(always)]
            |out, [a, f1, f2, f3, f4]| out + a * ((c1 * f1 + c2 * f2) + (c3 * f3 + c4 * f4)),
        );
    }

    #[inline(always)]
    fn rows(self) -> [Row<T>; 2 * BORDER] {
        self.axis.rows.map(|row| row.times(self.s))
    }

    #[inline(always)]
    fn values<const B: usize>(self, at: usize) -> [T; B] {
        block(self.f, at)
    }

    #[inline(always)]
    fn weights<const B: usize>(self, at: usize) -> [T; B] {
        block(self.a, at - self.lo)
    }
}

/// [`Difference::add_transposed`] along an axis.
#[derive(Clone, Copy)]
struct Transposed<'a, T> {
    axis: &'a Axis<T>,
    s: T,
    a: &'a [T],
    b: &'a [T],
}

impl<T: Real> Term<T> for Transposed<'_, T> {
    #[inline(always)]
    fn add_inside<S: Simd>(self, simd: S, at: usize, out: &mut [T]) {
        let Self { axis, s, a, b } = self;
        // Only the columns at the ends see folded rows, so only there is ∂ᵀ not −∂.
        let [c1, c2] = axis.interior.map(|c| Vector::splat(simd, s * c));
        let [m2, m1, p1, p2] = axis.beside(at);
        update(
            simd,
            out,
            [&a[m2..], &b[m2..], &a[m1..], &b[m1..], &a[p1..], &b[p1..], &a[p2..], &b[p2..]],
            #[inline(always)]
            |out, [am2, bm2, am1, bm1, ap1, bp1, ap2, bp2]| {
                out + (c1 * (am1 * bm1 - ap1 * bp1) + c2 * (am2 * bm2 - ap2 * bp2))
            },
        );
    }

    #[inline(always)]
    fn add_at_end<S: Simd>(self, simd: S, row: Row<T>, _at: usize, out: &mut [T]) {
        let Self { a, b, .. } = self;
        let [c1, c2, c3, c4] = row.coefficients.map(|c| Vector::splat(simd, c));
        let [j1, j2, j3, j4] = row.columns;
        update(
            simd,
            out,
            [&a[j1..], &b[j1..], &a[j2..], &b[j2..], &a[j3..], &b[j3..], &a[j4..], &b[j4..]],
            #[inline(always)]
            |out, [a1, b1, a2, b2, a3, b3, a4, b4]| {
                out + ((c1 * (a1 * b1) + c2 * (a2 * b2)) + (c3 * (a3 * b3) + c4 * (a4 * b4)))
            },
        );
    }

    #[inline(always)]
    fn rows(self) -> [Row<T>; 2 * BORDER] {
        self.axis.transposed_rows.map(|row| row.times(self.s))
    }

    #[inline(always)]
    fn values<const B: usize>(self, at: usize) -> [T; B] {
        let (mut a, b) = (block(self.a, at), block::<T, B>(self.b, at));
        for k in 0..B {
            a[k] *= b[k];
        }
        a
    }

    #[inline(always)]
    fn weights<const B: usize>(self, _at: usize) -> [T; B] {
        [T::one(); B]
    }
}

/// Adds a term along an axis to a chunk of a component of `total` values.
struct Add<'a, T, X> {
    axis: &'a Axis<T>,
    term: X,
    total: usize,
    lo: usize,
    out: &'a mut [T],
}

impl<T: Real, X: Term<T>> Work for Add<'_, T, X> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if self.axis.inner == 1 {
            return self.along_lanes(simd);
        }
        let Self { axis, term, lo, out, .. } = self;
        let rows = term.rows();
        for Piece { from, to, row, end } in axis.pieces(lo, lo + out.len()) {
            let out = &mut out[from - lo..to - lo];
            match end {
                None => term.add_inside(simd, from, out),
                Some(end) => {
                    let Row { columns, coefficients } = rows[end];
                    let columns = columns.map(|j| from + j * axis.inner - row * axis.inner);
                    term.add_at_end(simd, Row { columns, coefficients }, from, out);
                }
            }
        }
    }
}

/// `B` values from `at` on.
#[inline(always)]
fn block<T: Real, const B: usize>(values: &[T], at: usize) -> [T; B] {
    let mut block = [T::zero(); B];
    block.copy_from_slice(&values[at..][..B]);
    block
}

impl<T: Real, X: Term<T>> Add<'_, T, X> {
    /// Along the contiguous axis: to all values as if no lane ended, and to those at the ends again.
    #[inline(always)]
    fn along_lanes<S: Simd>(self, simd: S) {
        let Self { axis, term, total, lo, out } = self;
        let seams = Seams { n: axis.n, term, rows: term.rows() };
        let mut kept = [[T::zero(); 2 * BORDER]; SEAMS + 2];
        let (mut at, end) = (lo, lo + out.len());
        while at < end {
            // Runs end within lanes.
            let to = end.min(at / axis.n * axis.n + SEAMS * axis.n + axis.n / 2);
            let out = &mut out[at - lo..to - lo];
            // The seams with a value of this run beside them.
            let lanes = at.saturating_sub(BORDER).div_ceil(axis.n)..=(to + BORDER - 1) / axis.n;
            for (lane, kept) in lanes.clone().zip(&mut kept) {
                *kept = seams.values(lane * axis.n, at, out);
            }
            let (first, last) = (at.max(BORDER), to.min(total - BORDER));
            if first < last {
                term.add_inside(simd, first, &mut out[first - at..last - at]);
            }
            for (lane, kept) in lanes.zip(&kept) {
                Seams::<T, X>::put(lane * axis.n, kept, at, out);
            }
            at = to;
        }
    }
}

/// Seams of a run: those whose values wait for it.
const SEAMS: usize = 32;

/// The places where one lane of the contiguous axis ends and the next begins: two values before and two behind.
struct Seams<T, X> {
    n: usize,
    term: X,
    rows: [Row<T>; 2 * BORDER],
}

impl<T: Real, X: Term<T>> Seams<T, X> {
    /// Rows at the ends in the order of a seam.
    const ORDER: [usize; 2 * BORDER] = [2, 3, 0, 1];

    /// Where the values at a seam are in `out`, which begins at the flat index `at`, if all of them are.
    #[inline(always)]
    fn place(seam: usize, at: usize, len: usize) -> Option<usize> {
        let place = seam.checked_sub(at + BORDER)?;
        (place + 2 * BORDER <= len).then_some(place)
    }

    /// Those of them that are.
    #[inline(always)]
    fn places(seam: usize, at: usize, len: usize) -> impl Iterator<Item = (usize, usize)> {
        (0..2 * BORDER).filter_map(move |k| {
            let place = (seam + k).checked_sub(at + BORDER)?;
            (place < len).then_some((k, place))
        })
    }

    /// The values at a seam with the term.
    #[inline(always)]
    fn values(&self, seam: usize, at: usize, out: &[T]) -> [T; 2 * BORDER] {
        let Some(place) = Self::place(seam, at, out.len()) else {
            return self.values_of_part(seam, at, out);
        };
        let Self { n, term, rows } = self;
        let beyond = |lane: usize, row: usize, column: usize| {
            let [value] = term.values(lane + rows[row].columns[column]);
            value
        };
        let (left, right) = (seam - n, seam);
        let [a, b, c, d, e, f, g, h] = term.values(seam - 2 * BORDER);
        let (behind, last) = (beyond(left, 2, 3), beyond(left, 3, 3));
        let (first, before) = (beyond(right, 0, 0), beyond(right, 0, 1));
        let columns =
            [[a, b, first, before], [b, c, before, e], [d, behind, f, g], [behind, last, g, h]];
        let (weights, mut values) = (term.weights::<4>(seam - BORDER), block::<T, 4>(out, place));
        for k in 0..2 * BORDER {
            let [c1, c2, c3, c4] = rows[Self::ORDER[k]].coefficients;
            let [x1, x2, x3, x4] = columns.map(|column| column[k]);
            values[k] += weights[k] * ((c1 * x1 + c2 * x2) + (c3 * x3 + c4 * x4));
        }
        values
    }

    /// The same where not all of them are in `out`.
    #[inline(never)]
    fn values_of_part(&self, seam: usize, at: usize, out: &[T]) -> [T; 2 * BORDER] {
        let mut values = [T::zero(); 2 * BORDER];
        for (k, place) in Self::places(seam, at, out.len()) {
            let Row { columns, coefficients: [c1, c2, c3, c4] } = self.rows[Self::ORDER[k]];
            let lane = if k < BORDER { seam - self.n } else { seam };
            let [[x1], [x2], [x3], [x4]] = columns.map(|j| self.term.values(lane + j));
            let [weight] = self.term.weights(at + place);
            values[k] = out[place] + weight * ((c1 * x1 + c2 * x2) + (c3 * x3 + c4 * x4));
        }
        values
    }

    /// Writes them.
    #[inline(always)]
    fn put(seam: usize, values: &[T; 2 * BORDER], at: usize, out: &mut [T]) {
        if let Some(place) = Self::place(seam, at, out.len()) {
            return out[place..][..2 * BORDER].copy_from_slice(values);
        }
        for (k, place) in Self::places(seam, at, out.len()) {
            out[place] = values[k];
        }
    }
}

/// Values that are worked on at once where some of them wait.
const RUN: usize = 1024;

/// Central differences over a grid, in physical units.
///
/// Beyond the border fields repeat ([`Boundary::Periodic`](crate::grid::Boundary::Periodic)) or are mirrored at the face
/// ([`Boundary::Reflecting`](crate::grid::Boundary::Reflecting) and [`Boundary::Free`](crate::grid::Boundary::Free)). One pass reads each operand once; chunks of a
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
    #[inline(never)]
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
    #[inline(never)]
    pub fn add_scaled(&self, axis: usize, s: T, a: &[T], f: &[T], lo: usize, out: &mut [T]) {
        if !or_nan(self.fits(axis, a, f, lo, out), out) {
            return;
        }
        let (axis, a) = (&self.axes[axis], &a[lo..][..out.len()]);
        let term = Scaled { axis, s, a, f, lo };
        simd::explicit(Add { axis, term, total: f.len(), lo, out });
    }

    /// `out += ∂f/∂x_axis` for the chunk of `out` that starts at flat index `lo`; `f` is a whole component.
    #[inline(never)]
    pub fn add(&self, axis: usize, f: &[T], lo: usize, out: &mut [T]) {
        if !or_nan(self.fits(axis, f, f, lo, out), out) {
            return;
        }
        let (axis, ones) = (&self.axes[axis], [T::one(); RUN]);
        for (k, out) in out.chunks_mut(RUN).enumerate() {
            let (s, a, lo) = (T::one(), &ones[..out.len()], lo + k * RUN);
            let term = Scaled { axis, s, a, f, lo };
            simd::explicit(Add { axis, term, total: f.len(), lo, out });
        }
    }

    /// `out += s · ∂ᵀ(a ⊙ b)` along `axis` for the chunk of `out` that starts at `lo`. Away from the
    /// border ∂ᵀ = −∂.
    #[inline(never)]
    pub fn add_transposed(&self, axis: usize, s: T, a: &[T], b: &[T], lo: usize, out: &mut [T]) {
        if !or_nan(self.fits(axis, a, b, lo, out), out) {
            return;
        }
        let axis = &self.axes[axis];
        let term = Transposed { axis, s, a, b };
        simd::explicit(Add { axis, term, total: a.len(), lo, out });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Boundary;
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

    /// A term, added by every set of instructions there is: the same bits.
    fn check_sets(axis: &Axis<f32>, term: impl Term<f32>, (total, lo): (usize, usize)) {
        let start: Vec<f32> = random(total - lo - 5, 9);
        let added = |add: &dyn Fn(&mut [f32])| {
            let mut out = start.clone();
            add(&mut out);
            out
        };
        let expected = added(&|out| Add { axis, term, total, lo, out }.run(simd::PORTABLE));
        let middle = added(&|out| simd::fused(Add { axis, term, total, lo, out }));
        let widest = added(&|out| simd::explicit(Add { axis, term, total, lo, out }));
        assert!(expected != start && middle == expected && widest == expected);
    }

    #[test]
    fn every_set_of_instructions_gives_the_same_bits() {
        for boundary in Boundary::ALL {
            for shape in [[4, 5, 6], [7, 9, 33], [6, 5, 64], [5, 70, 21]] {
                let grid = Grid::new(shape, [0.5, 1.0, 2.0]).unwrap().with_boundary(boundary);
                let d = Difference::<f32, 3>::new(&grid, Order::Fourth);
                let (n, lo) = (grid.len(), 17);
                let (a, f) = (random::<f32>(n, 1), random::<f32>(n, 2));
                for axis in &d.axes {
                    let scaled = Scaled { axis, s: 0.5, a: &a[lo..n - 5], f: &f, lo };
                    check_sets(axis, scaled, (n, lo));
                    check_sets(axis, Transposed { axis, s: 0.5, a: &a, b: &f }, (n, lo));
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
