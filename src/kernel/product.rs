//! Matrices along one axis, applied to many lanes at once.
//!
//! out\[i\] = Σ_j M\[i\]\[j\] in\[j\] for every lane. A block of the result stays in registers while j runs. Along a
//! strided axis the block is [`ROWS`] values of [`width`] neighbouring lanes, along the contiguous axis
//! [`width`] values of [`ROWS`] lanes: the same product with its factors exchanged.

use crate::scalar::Real;
use crate::simd::Arithmetic;

/// Rows of a register block.
pub(super) const ROWS: usize = 4;

/// Columns of a register block: a cache line. Four rows of it fill half of sixteen vector registers.
pub(super) const fn width<T>() -> usize {
    64 / size_of::<T>()
}

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
    /// for a strided axis, [`width`] for the contiguous one.
    pub(super) fn new(
        [m, n]: [usize; 2],
        [output, input]: [Form; 2],
        block: usize,
        entry: impl Fn(usize, usize) -> f64,
    ) -> Self {
        let columns = input.len(n);
        // The last panel of the contiguous axis begins earlier, so that it is whole.
        let begin =
            |first: usize| if block == ROWS { first } else { first.min(m.max(block) - block) };
        let panel = |first: usize| {
            let first = begin(first);
            let rows = first..m.min(first + block);
            let zero = |&j: &usize| rows.clone().all(|i| T::of(entry(i, j)).is_zero());
            let from = (0..columns).take_while(zero).count();
            let to = columns - (from..columns).rev().take_while(zero).count();
            let mut entries = vec![T::zero(); (to - from) * block];
            for (j, column) in (from..to).zip(entries.chunks_mut(block)) {
                for (i, x) in rows.clone().zip(column) {
                    *x = T::of(entry(i, j));
                }
            }
            Panel { at: first, from, entries }
        };
        Self { n, m, input, output, block, panels: (0..m).step_by(block).map(panel).collect() }
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

    /// Multiplications a lane.
    pub(super) fn cost(&self) -> usize {
        self.panels.iter().map(|panel| panel.entries.len()).sum()
    }

    /// Applies the matrix to `lanes` side by side, `W` lanes a value.
    #[inline(always)]
    fn multiply<A: Arithmetic, const W: usize>(&self, lanes: &[[T; W]], out: &mut [[T; W]]) {
        for (panel, out) in self.panels.iter().zip(out.chunks_mut(ROWS)) {
            let entries = panel.entries.as_chunks::<ROWS>().0;
            let lanes = &lanes[panel.from..][..entries.len()];
            out.copy_from_slice(&block::<T, A, ROWS, W>(entries.iter().copied(), lanes));
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
fn grown<T: Real>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
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
    let sizes = products.iter().map(|p| p.input.len(p.n).max(p.m.next_multiple_of(ROWS)));
    let len = W * sizes.max().unwrap_or(0);
    let (a, _) = grown(&mut buffers.input, len).as_chunks_mut::<W>();
    let (b, _) = grown(&mut buffers.output, len).as_chunks_mut::<W>();
    let (Some(first), Some(last)) = (products.first(), products.last()) else { return };
    for lane in (0..count).step_by(W) {
        // The last block begins earlier, so that it is whole.
        let lane = lane.min(count.max(W) - W);
        let lanes = W.min(count - lane);
        let from = first_lane + lane;
        if lanes == W {
            load(first, |i| whole(&input[i * inner + from..]), a);
        } else {
            load(first, |i| part(&input[i * inner + from..][..lanes]), a);
        }
        first.multiply::<A, W>(a, b);
        if let [_, second] = products {
            for (row, table) in b.iter_mut().zip(table.chunks(inner)) {
                for (x, &gain) in row.iter_mut().zip(&table[from..]) {
                    *x *= gain;
                }
            }
            second.multiply::<A, W>(b, a);
            put(last, a, (out, lane, lanes));
        } else {
            put(last, b, (out, lane, lanes));
        }
    }
}

/// [`store`] to `lanes` lanes of `out` from `lane` on.
#[inline(always)]
fn put<T: Real, const W: usize>(
    product: &Product<T>,
    values: &[[T; W]],
    (out, lane, lanes): (&mut (impl RowsMut<T> + ?Sized), usize, usize),
) {
    if lanes == W {
        store(product, values, |i, x| out.row(i, lane, W).copy_from_slice(x));
    } else {
        store(product, values, |i, x| out.row(i, lane, lanes).copy_from_slice(&x[..lanes]));
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

/// Brings the rows of a block of lanes into the form that a product reads.
#[inline(always)]
fn load<T: Real, const W: usize>(
    product: &Product<T>,
    row: impl Fn(usize) -> [T; W],
    lanes: &mut [[T; W]],
) {
    let n = product.n;
    match product.input {
        Form::Plain => {
            for (i, x) in lanes[..n].iter_mut().enumerate() {
                *x = row(i);
            }
        }
        Form::Repeated(r) => {
            let (before, rest) = lanes[..n + 2 * r].split_at_mut(r);
            let (middle, after) = rest.split_at_mut(n);
            for (i, x) in middle.iter_mut().enumerate() {
                *x = row(i);
            }
            before.copy_from_slice(&middle[n - r..]);
            after.copy_from_slice(&middle[..r]);
        }
        Form::Folded => {
            let (even, odd) = lanes[..n].split_at_mut(n.div_ceil(2));
            for (j, (even, odd)) in even.iter_mut().zip(odd).enumerate() {
                let (x, y) = (row(j), row(n - 1 - j));
                for w in 0..W {
                    even[w] = x[w] + y[w];
                    odd[w] = x[w] - y[w];
                }
            }
            if n % 2 == 1 {
                even[n / 2] = row(n / 2);
            }
        }
    }
}

/// Writes the rows of a block of lanes from the form that a product gives.
#[inline(always)]
fn store<T: Real, const W: usize>(
    product: &Product<T>,
    lanes: &[[T; W]],
    mut row: impl FnMut(usize, &[T; W]),
) {
    let m = product.m;
    if product.output == Form::Folded {
        let (even, odd) = lanes[..m].split_at(m.div_ceil(2));
        for (i, (even, odd)) in even.iter().zip(odd).enumerate() {
            let (mut x, mut y) = ([T::zero(); W], [T::zero(); W]);
            for w in 0..W {
                x[w] = even[w] + odd[w];
                y[w] = even[w] - odd[w];
            }
            row(i, &x);
            row(m - 1 - i, &y);
        }
        if m % 2 == 1 {
            row(m / 2, &even[m / 2]);
        }
    } else {
        for (i, x) in lanes[..m].iter().enumerate() {
            row(i, x);
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
