//! Matrices along one axis, applied to many lanes at once.
//!
//! out\[i\] = Σ_j M\[i\]\[j\] in\[j\] for every lane. A block of the result stays in registers while j runs. Along a
//! strided axis the block is [`ROWS`] values of [`width`] neighbouring lanes, along the contiguous axis
//! [`width`] values of [`ROWS`] lanes: the same product with its factors exchanged.

use std::ops::Range;

use crate::scalar::Real;
use crate::simd::Arithmetic;

/// Rows of a register block.
pub(super) const ROWS: usize = 4;

/// Columns of a register block: a cache line. Four rows of it fill half of sixteen vector registers.
pub(super) const fn width<T>() -> usize {
    64 / size_of::<T>()
}

/// Bytes of the lanes along a strided axis that are worked on together: half of the first-level cache.
const LANES: usize = 16 << 10;

/// Multiplications that take as long as to form the even and odd part of a value and to undo it.
pub(super) const FOLDING: usize = 8;

/// What a product makes of the values of a lane before it, or after it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Form {
    /// The values themselves.
    Plain,
    /// The values, with so many repeated periodically at either end.
    Repeated(usize),
    /// Even and odd part: sums x_j + x_{n−1−j}, the middle value of an odd n, differences x_j − x_{n−1−j}. A
    /// matrix that commutes with the reversal of the lane has two blocks of half the size in it.
    Folded,
}

impl Form {
    /// Number of values that `n` become.
    fn len(self, n: usize) -> usize {
        match self {
            Self::Plain | Self::Folded => n,
            Self::Repeated(r) => n + 2 * r,
        }
    }
}

/// A block of rows of a matrix, from row `at` on, between its first and its last column that is not zero.
#[derive(Clone, Debug)]
struct Panel<T> {
    at: usize,
    from: usize,
    /// Column by column.
    entries: Vec<T>,
}

/// The matrix M of lanes of `n` values into lanes of `m`, in panels.
#[derive(Clone, Debug)]
pub(super) struct Product<T> {
    n: usize,
    m: usize,
    input: Form,
    output: Form,
    /// Rows of a panel.
    block: usize,
    panels: Vec<Panel<T>>,
}

/// Buffers of a product: what comes in, what goes out.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers<T> {
    input: Vec<T>,
    output: Vec<T>,
}

/// Rows of lanes that can be written to: row i of a block of `count` lanes from `lane` on.
pub(super) trait RowsMut<T> {
    fn row(&mut self, i: usize, lane: usize, count: usize) -> &mut [T];
}

/// Rows at a constant distance.
pub(super) struct Strided<'a, T> {
    pub(super) data: &'a mut [T],
    pub(super) inner: usize,
}

impl<T> RowsMut<T> for Strided<'_, T> {
    #[inline(always)]
    fn row(&mut self, i: usize, lane: usize, count: usize) -> &mut [T] {
        &mut self.data[i * self.inner + lane..][..count]
    }
}

/// Rows in pieces of their own.
impl<T> RowsMut<T> for [&mut [T]] {
    #[inline(always)]
    fn row(&mut self, i: usize, lane: usize, count: usize) -> &mut [T] {
        &mut self[i][lane..][..count]
    }
}

impl<T: Real> Product<T> {
    /// The matrix with these entries between the two forms of a lane, in panels of `block` rows: [`ROWS`]
    /// for a strided axis, [`width`] for the contiguous one. Along a strided axis no panel has rows before and
    /// after `middle`, so that it meets one half of what is folded.
    pub(super) fn new(
        [m, n]: [usize; 2],
        [output, input]: [Form; 2],
        block: usize,
        middle: usize,
        entry: impl Fn(usize, usize) -> f64,
    ) -> Self {
        let columns = input.len(n);
        let panel = |rows: Range<usize>| {
            let zero = |&j: &usize| rows.clone().all(|i| T::of(entry(i, j)).is_zero());
            let from = (0..columns).take_while(zero).count();
            let to = columns - (from..columns).rev().take_while(zero).count();
            let mut entries = vec![T::zero(); (to - from) * block];
            for (j, column) in (from..to).zip(entries.chunks_mut(block)) {
                for (i, x) in rows.clone().zip(column) {
                    *x = T::of(entry(i, j));
                }
            }
            Panel { at: rows.start, from, entries }
        };
        let panels = if block == ROWS {
            let half = |rows: Range<usize>| {
                let end = rows.end;
                rows.step_by(block).map(move |first| first..end.min(first + block))
            };
            half(0..middle).chain(half(middle..m)).map(panel).collect()
        } else {
            // The last panel begins earlier, so that it is whole.
            let begin = |first: usize| first.min(m.max(block) - block);
            (0..m)
                .step_by(block)
                .map(begin)
                .map(|first| panel(first..m.min(first + block)))
                .collect()
        };
        Self { n, m, input, output, block, panels }
    }

    /// Values a lane that come in.
    pub(super) fn input_len(&self) -> usize {
        self.n
    }

    /// Values a lane that go out.
    pub(super) fn output_len(&self) -> usize {
        self.m
    }

    /// Whether the panels are those of the contiguous axis.
    pub(super) fn is_contiguous(&self) -> bool {
        self.block != ROWS
    }

    /// Multiplications a lane, with what forming even and odd parts of contiguous values costs.
    pub(super) fn cost(&self) -> usize {
        let multiplications: usize = self.panels.iter().map(|panel| panel.entries.len()).sum();
        let folded = |form: Form, len: usize| match form {
            Form::Folded if self.is_contiguous() => len * FOLDING / 2,
            _ => 0,
        };
        multiplications + folded(self.input, self.n) + folded(self.output, self.m)
    }

    /// Applies the matrix to `lanes` side by side, `W` lanes a value. The last panel writes up to [`ROWS`] − 1
    /// values behind the others.
    #[inline(always)]
    fn multiply<A: Arithmetic, const W: usize>(&self, lanes: &[[T; W]], out: &mut [[T; W]]) {
        for Panel { at, from, entries } in &self.panels {
            let entries = entries.as_chunks::<ROWS>().0;
            let lanes = &lanes[*from..][..entries.len()];
            if let Some(out) = out[*at..].first_chunk_mut() {
                *out = block::<T, A, ROWS, W>(entries.iter().copied(), lanes);
            }
        }
    }
}

/// Σ_j a_j b_jᵀ, in registers.
#[inline(always)]
fn block<T: Real, A: Arithmetic, const R: usize, const W: usize>(
    a: impl Iterator<Item = [T; R]>,
    b: &[[T; W]],
) -> [[T; W]; R] {
    let mut sum = [[T::zero(); W]; R];
    for (a, b) in a.zip(b) {
        for r in 0..R {
            for w in 0..W {
                sum[r][w] = A::mul_add(a[r], b[w], sum[r][w]);
            }
        }
    }
    sum
}

/// At least `len` values of a buffer that grows at first use only.
pub(super) fn grown<T: Real>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, T::zero());
    }
    &mut buffer[..len]
}

/// Applies one product, or two with a multiplication by `table` in between, to `count` lanes along a strided
/// axis: rows of `input` at a distance of `inner`, into the rows of `out`, both from `lane` on.
#[inline(always)]
pub(super) fn along_strided<T: Real, A: Arithmetic, const W: usize>(
    products: &[Product<T>],
    table: &[T],
    (input, inner): (&[T], usize),
    first_lane: usize,
    (out, count): (&mut (impl RowsMut<T> + ?Sized), usize),
    buffers: &mut Buffers<T>,
) {
    let (Some(first), Some(last)) = (products.first(), products.last()) else { return };
    let sizes = products.iter().map(|p| p.input.len(p.n).max(p.m + ROWS));
    let len = sizes.max().unwrap_or(0);
    let most = (LANES / (size_of::<T>() * len * W)).max(1) * W;
    let (a, _) = grown(&mut buffers.input, len * most).as_chunks_mut::<W>();
    let (b, _) = grown(&mut buffers.output, len * most).as_chunks_mut::<W>();
    for lane in (0..count).step_by(most) {
        // The last block begins earlier, so that it is whole.
        let lanes = most.min(count - lane);
        let starts = (0..lanes).step_by(W).map(|at| (lane + at).min(count.max(W) - W));
        let valid = W.min(count);
        if valid == W {
            load(
                first,
                starts.clone(),
                len,
                |i, lane| whole(&input[i * inner + first_lane + lane..]),
                a,
            );
        } else {
            load(
                first,
                starts.clone(),
                len,
                |i, lane| part(&input[i * inner + first_lane + lane..][..valid]),
                a,
            );
        }
        for ((a, b), lane) in
            a.chunks_exact_mut(len).zip(b.chunks_exact_mut(len)).zip(starts.clone())
        {
            first.multiply::<A, W>(a, b);
            if let [_, second] = products {
                for (row, table) in b.iter_mut().zip(table.chunks(inner)) {
                    for (x, &gain) in row.iter_mut().zip(&table[first_lane + lane..]) {
                        *x *= gain;
                    }
                }
                second.multiply::<A, W>(b, a);
            }
        }
        let values = if products.len() == 1 { &*b } else { &*a };
        if valid == W {
            store(last, starts, len, values, |i, lane, x| out.row(i, lane, W).copy_from_slice(x));
        } else {
            store(last, starts, len, values, |i, lane, x| {
                out.row(i, lane, valid).copy_from_slice(&x[..valid]);
            });
        }
    }
}

#[inline(always)]
fn whole<T: Real, const W: usize>(row: &[T]) -> [T; W] {
    row.first_chunk().copied().unwrap_or([T::zero(); W])
}

#[inline(always)]
fn part<T: Real, const W: usize>(row: &[T]) -> [T; W] {
    let mut lanes = [T::zero(); W];
    lanes[..row.len()].copy_from_slice(row);
    lanes
}

/// Brings the rows of blocks of lanes, each from one of `starts` on, into the form that a product reads: row by
/// row, so that memory is read in its order. A block takes `len` rows of `lanes`.
#[inline(always)]
fn load<T: Real, const W: usize>(
    product: &Product<T>,
    starts: impl Iterator<Item = usize> + Clone,
    len: usize,
    row: impl Fn(usize, usize) -> [T; W],
    lanes: &mut [[T; W]],
) {
    let n = product.n;
    let (rows, before) = match product.input {
        Form::Folded => (n / 2, n.div_ceil(2)),
        Form::Plain => (n, 0),
        Form::Repeated(r) => (n + 2 * r, n - r),
    };
    for i in 0..rows {
        for (lane, lanes) in starts.clone().zip(lanes.chunks_exact_mut(len)) {
            if product.input == Form::Folded {
                let (x, y) = (row(i, lane), row(n - 1 - i, lane));
                for w in 0..W {
                    lanes[i][w] = x[w] + y[w];
                    lanes[before + i][w] = x[w] - y[w];
                }
            } else {
                lanes[i] = row((before + i) % n, lane);
            }
        }
    }
    if product.input == Form::Folded && n % 2 == 1 {
        for (lane, lanes) in starts.zip(lanes.chunks_exact_mut(len)) {
            lanes[n / 2] = row(n / 2, lane);
        }
    }
}

/// Writes the rows of blocks of lanes from the form that a product gives, row by row.
#[inline(always)]
fn store<T: Real, const W: usize>(
    product: &Product<T>,
    starts: impl Iterator<Item = usize> + Clone,
    len: usize,
    lanes: &[[T; W]],
    mut row: impl FnMut(usize, usize, &[T; W]),
) {
    let m = product.m;
    if product.output == Form::Folded {
        let middle = m.div_ceil(2);
        for i in 0..m / 2 {
            for (lane, lanes) in starts.clone().zip(lanes.chunks_exact(len)) {
                let (even, odd) = (&lanes[i], &lanes[middle + i]);
                let (mut x, mut y) = ([T::zero(); W], [T::zero(); W]);
                for w in 0..W {
                    x[w] = even[w] + odd[w];
                    y[w] = even[w] - odd[w];
                }
                row(i, lane, &x);
                row(m - 1 - i, lane, &y);
            }
        }
        if m % 2 == 1 {
            for (lane, lanes) in starts.zip(lanes.chunks_exact(len)) {
                row(m / 2, lane, &lanes[m / 2]);
            }
        }
    } else {
        for i in 0..m {
            for (lane, lanes) in starts.clone().zip(lanes.chunks_exact(len)) {
                row(i, lane, &lanes[i]);
            }
        }
    }
}

/// Applies one product along the contiguous axis of `input`.
#[inline(always)]
pub(super) fn along_contiguous<T: Real, A: Arithmetic, const W: usize>(
    product: &Product<T>,
    input: &[T],
    out: &mut [T],
    buffers: &mut Buffers<T>,
) {
    let (n, m, len) = (product.n, product.m, product.input.len(product.n));
    let rows = input.len() / n;
    let input = if product.input == Form::Plain {
        input
    } else {
        let lanes = grown(&mut buffers.input, rows * len);
        for (row, lane) in input.chunks_exact(n).zip(lanes.chunks_exact_mut(len)) {
            enter(product.input, row, lane);
        }
        &*lanes
    };
    if product.output == Form::Folded {
        let halves = grown(&mut buffers.output, rows * m);
        multiply_rows::<T, A, W>(product, input, len, halves);
        for (halves, row) in halves.chunks_exact(m).zip(out.chunks_exact_mut(m)) {
            leave(halves, row);
        }
    } else {
        multiply_rows::<T, A, W>(product, input, len, out);
    }
}

/// Applies the matrix to rows of `len` values, [`ROWS`] at a time.
#[inline(always)]
fn multiply_rows<T: Real, A: Arithmetic, const W: usize>(
    product: &Product<T>,
    input: &[T],
    len: usize,
    out: &mut [T],
) {
    let (m, rows) = (product.m, input.len() / len);
    let count = W.min(m);
    for Panel { at, from, entries } in &product.panels {
        let entries = entries.as_chunks::<W>().0;
        for first in (0..rows).step_by(ROWS) {
            // The last rows are computed again where their number is no multiple of the block.
            let first = first.min(rows.saturating_sub(ROWS));
            let lane = |r: usize| &input[(first + r).min(rows - 1) * len + from..][..entries.len()];
            let [a, b, c, d] = [lane(0), lane(1), lane(2), lane(3)];
            let values = a.iter().zip(b).zip(c).zip(d).map(|(((&a, &b), &c), &d)| [a, b, c, d]);
            let sum = block::<T, A, ROWS, W>(values, entries);
            for (r, sum) in sum.iter().enumerate().take(rows - first) {
                let out = &mut out[(first + r) * m + at..];
                match out.first_chunk_mut() {
                    Some(out) if count == W => *out = *sum,
                    _ => out[..count].copy_from_slice(&sum[..count]),
                }
            }
        }
    }
}

/// Brings one row into the form that a product reads.
#[inline(always)]
fn enter<T: Real>(form: Form, row: &[T], lane: &mut [T]) {
    let n = row.len();
    match form {
        Form::Plain => lane.copy_from_slice(row),
        Form::Repeated(r) => {
            lane[..r].copy_from_slice(&row[n - r..]);
            lane[r..n + r].copy_from_slice(row);
            lane[n + r..].copy_from_slice(&row[..r]);
        }
        Form::Folded => {
            let (even, odd) = lane.split_at_mut(n.div_ceil(2));
            let (front, back) = (&row[..n / 2], &row[n.div_ceil(2)..]);
            let pairs = front.iter().zip(back.iter().rev());
            for ((even, odd), (&x, &y)) in even.iter_mut().zip(odd).zip(pairs) {
                *even = x + y;
                *odd = x - y;
            }
            if n % 2 == 1 {
                even[n / 2] = row[n / 2];
            }
        }
    }
}

/// One row from its even and odd part.
#[inline(always)]
fn leave<T: Real>(halves: &[T], row: &mut [T]) {
    let m = row.len();
    let (even, odd) = halves.split_at(m.div_ceil(2));
    let (front, back) = row.split_at_mut(m.div_ceil(2));
    for ((x, y), (&even, &odd)) in
        front.iter_mut().zip(back.iter_mut().rev()).zip(even.iter().zip(odd))
    {
        *x = even + odd;
        *y = even - odd;
    }
    if m % 2 == 1 {
        front[m / 2] = even[m / 2];
    }
}
