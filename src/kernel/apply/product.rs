//! Matrices along one axis, applied to many lanes at once.
//!
//! out\[i\] = Σ_j M\[i\]\[j\] in\[j\] for every lane. A block of the result stays in registers while j runs. Along a
//! strided axis the block is [`ROWS`] values of [`width`] neighbouring lanes, along the contiguous axis
//! [`width`] values of [`ROWS`] lanes: the same product with its factors exchanged.

use std::ops::Range;

use super::form::Form;
use crate::aligned::Aligned;
use crate::scalar::Real;
use crate::simd::{Simd, Vector, mul_add};

/// Rows of a register block.
pub(super) const ROWS: usize = 4;

/// Columns of a register block: a cache line. Four rows of it fill half of sixteen vector registers.
pub(super) const fn width<T>() -> usize {
    64 / size_of::<T>()
}

/// A block of rows of a matrix, from row `at` on, between its first and its last column that is not zero.
#[derive(Clone, Debug)]
struct Panel<T> {
    at: usize,
    from: usize,
    /// Column by column.
    entries: Aligned<T>,
}

/// The matrix M of lanes of `n` values into lanes of `m`, in panels.
#[derive(Clone, Debug)]
pub(super) struct Product<T> {
    n: usize,
    m: usize,
    input: Form<T>,
    output: Form<T>,
    /// Rows of a panel.
    block: usize,
    /// Whether a panel of the contiguous axis writes behind its block.
    spills: bool,
    panels: Vec<Panel<T>>,
}

/// Buffers of a product: what comes in, what goes out.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers<T> {
    input: Aligned<T>,
    output: Aligned<T>,
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
    /// for a strided axis, [`width`] for the contiguous one. `ends` are those of the blocks of rows that
    /// meet different columns: no panel has rows of two.
    pub(super) fn new(
        [m, n]: [usize; 2],
        [output, input]: [Form<T>; 2],
        block: usize,
        ends: &[usize],
        entry: impl Fn(usize, usize) -> f64,
    ) -> Self {
        let columns = input.len(n);
        let panel = |rows: Range<usize>| {
            let zero = |&j: &usize| rows.clone().all(|i| T::of(entry(i, j)).is_zero());
            let from = (0..columns).take_while(zero).count();
            let to = columns - (from..columns).rev().take_while(zero).count();
            let mut entries = Aligned::zeros((to - from) * block);
            for (j, column) in (from..to).zip(entries.chunks_mut(block)) {
                for (i, x) in rows.clone().zip(column) {
                    *x = T::of(entry(i, j));
                }
            }
            Panel { at: rows.start, from, entries }
        };
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let panels = starts.zip(ends).flat_map(|(start, &end)| {
            (start..end).step_by(block).map(move |first| {
                // The last panel of the contiguous axis begins earlier where it can, so that it is whole.
                let whole = end.max(start + block) - block;
                let first = if block == ROWS { first } else { first.min(whole) };
                first..end.min(first + block)
            })
        });
        let panels = panels.map(panel).collect();
        let short = |start: usize, end: usize| end - start < block && start < end;
        let mut starts = std::iter::once(0).chain(ends.iter().copied());
        let spills =
            ends.len() > 1 && ends.iter().any(|&end| starts.next().is_some_and(|s| short(s, end)));
        Self { n, m, input, output, block, spills, panels }
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

    /// Multiplications a lane, with what the forms of contiguous values cost.
    pub(super) fn cost(&self) -> usize {
        let multiplications: usize = self.panels.iter().map(|panel| panel.entries.len()).sum();
        let forms = if self.is_contiguous() {
            self.input.cost(self.n) + self.output.cost(self.m)
        } else {
            0
        };
        multiplications + forms
    }

    /// Calls `f` with the first row and the rows of every panel's product with `lanes` side by side, `W` lanes a value. The
    /// last panel may have up to [`ROWS`] − 1 rows too many.
    #[inline(always)]
    fn each_block<S: Simd, const W: usize>(
        &self,
        simd: S,
        lanes: &[[T; W]],
        mut f: impl FnMut(usize, [[T; W]; ROWS]),
    ) {
        for Panel { at, from, entries } in &self.panels {
            let entries = entries.as_chunks::<ROWS>().0;
            let lanes = &lanes[*from..][..entries.len()];
            f(*at, block(simd, entries.iter().copied(), lanes));
        }
    }

    /// Applies the matrix to lanes side by side, in their form.
    #[inline(always)]
    fn multiply<S: Simd, const W: usize>(&self, simd: S, lanes: &[[T; W]], out: &mut [[T; W]]) {
        self.each_block(
            simd,
            lanes,
            #[inline(always)]
            |at, block| {
                if let Some(out) = out[at..].first_chunk_mut() {
                    *out = block;
                }
            },
        );
    }

    /// Applies the matrix to lanes side by side and calls `row` with what comes out of their form. `out` is a buffer.
    #[inline(always)]
    fn multiply_rows<S: Simd, const W: usize>(
        &self,
        simd: S,
        lanes: &[[T; W]],
        out: &mut [[T; W]],
        mut row: impl FnMut(usize, &[T; W]),
    ) {
        if !matches!(self.output, Form::Plain) {
            self.multiply(simd, lanes, out);
            return self.output.store(self.m, out, row);
        }
        self.each_block(
            simd,
            lanes,
            #[inline(always)]
            |at, block| {
                for (r, lanes) in block.iter().enumerate().take(self.m - at) {
                    row(at + r, lanes);
                }
            },
        );
    }
}

/// Σ_j a_j b_jᵀ, in registers.
#[inline(always)]
fn block<S: Simd, T: Real, const R: usize, const W: usize>(
    simd: S,
    a: impl Iterator<Item = [T; R]>,
    b: &[[T; W]],
) -> [[T; W]; R] {
    match W / Vector::<S, T>::LEN {
        1 => vectors::<S, T, R, W, 1>(simd, a, b),
        2 => vectors::<S, T, R, W, 2>(simd, a, b),
        4 => vectors::<S, T, R, W, 4>(simd, a, b),
        _ => plain::<S, T, R, W>(a, b),
    }
}

/// The same without vectors.
#[inline(always)]
fn plain<S: Simd, T: Real, const R: usize, const W: usize>(
    a: impl Iterator<Item = [T; R]>,
    b: &[[T; W]],
) -> [[T; W]; R] {
    let mut sum = [[T::zero(); W]; R];
    for (a, b) in a.zip(b) {
        for r in 0..R {
            for w in 0..W {
                sum[r][w] = mul_add::<S, T>(a[r], b[w], sum[r][w]);
            }
        }
    }
    sum
}

/// The same in `C` vectors a row.
#[inline(always)]
fn vectors<S: Simd, T: Real, const R: usize, const W: usize, const C: usize>(
    simd: S,
    a: impl Iterator<Item = [T; R]>,
    b: &[[T; W]],
) -> [[T; W]; R] {
    let len = Vector::<S, T>::LEN;
    let mut sum = [[Vector::splat(simd, T::zero()); C]; R];
    for (a, b) in a.zip(b) {
        let mut b_vectors = [Vector::splat(simd, T::zero()); C];
        for c in 0..C {
            b_vectors[c] = Vector::load(simd, &b[c * len..]);
        }
        for r in 0..R {
            let a = Vector::splat(simd, a[r]);
            for c in 0..C {
                sum[r][c] = a.mul_add(b_vectors[c], sum[r][c]);
            }
        }
    }
    let mut out = [[T::zero(); W]; R];
    for r in 0..R {
        for c in 0..C {
            sum[r][c].store(&mut out[r][c * len..]);
        }
    }
    out
}

/// Applies one product, or two with a multiplication by `table` in between, to `count` lanes along a strided
/// axis: rows of `input` at a distance of `inner`, into the rows of `out`, both from `lane` on.
#[inline(always)]
pub(super) fn along_strided<T: Real, S: Simd>(
    simd: S,
    products: &[Product<T>],
    table: &[T],
    input: (&[T], usize),
    first_lane: usize,
    (out, count): (&mut (impl RowsMut<T> + ?Sized), usize),
    buffers: &mut Buffers<T>,
) {
    let work = Strips { simd, products, table, input, first_lane };
    // Two vectors a row of a block, where there are that many lanes.
    let wide = width::<T>() == Vector::<S, T>::LEN && count >= 2 * width::<T>();
    match (size_of::<T>(), wide) {
        (4, true) => work.run::<{ 2 * width::<f32>() }>((out, count), buffers),
        (4, false) => work.run::<{ width::<f32>() }>((out, count), buffers),
        (_, true) => work.run::<{ 2 * width::<f64>() }>((out, count), buffers),
        (_, false) => work.run::<{ width::<f64>() }>((out, count), buffers),
    }
}

/// The lanes of [`along_strided`].
struct Strips<'a, S, T> {
    simd: S,
    products: &'a [Product<T>],
    table: &'a [T],
    input: (&'a [T], usize),
    first_lane: usize,
}

impl<S: Simd, T: Real> Strips<'_, S, T> {
    /// Blocks of `W` lanes.
    #[inline(always)]
    fn run<const W: usize>(
        self,
        (out, count): (&mut (impl RowsMut<T> + ?Sized), usize),
        buffers: &mut Buffers<T>,
    ) {
        let Self { simd, products, table, input: (input, inner), first_lane } = self;
        let Some(first) = products.first() else { return };
        let sizes = products.iter().map(|p| p.input.len(p.n).max(p.m + ROWS));
        let len = sizes.max().unwrap_or(0);
        let (a, _) = buffers.input.grown(len * W).as_chunks_mut::<W>();
        let (b, _) = buffers.output.grown(len * W).as_chunks_mut::<W>();
        let valid = W.min(count);
        for lane in (0..count).step_by(W) {
            // The last block begins earlier, so that it is whole.
            let lane = lane.min(count - valid);
            let read = |i: usize| {
                let row = &input[i * inner + first_lane + lane..];
                if valid == W { whole(row) } else { part(&row[..valid]) }
            };
            let write = |i: usize, lanes: &[T; W]| {
                let row = out.row(i, lane, valid);
                match row.first_chunk_mut() {
                    Some(row) => *row = *lanes,
                    None => row.copy_from_slice(&lanes[..valid]),
                }
            };
            first.input.load(first.n, read, a);
            if let [_, second] = products {
                first.multiply(simd, a, b);
                first.output.pair(b);
                for (row, table) in b.iter_mut().zip(table.chunks_exact(inner)) {
                    times(simd, row, &table[first_lane + lane..]);
                }
                second.input.unpair(b);
                second.multiply_rows(simd, b, a, write);
            } else {
                first.multiply_rows(simd, a, b, write);
            }
        }
    }
}

/// Multiplies a row of lanes by their gains, as many as there are.
#[inline(always)]
fn times<S: Simd, T: Real, const W: usize>(simd: S, row: &mut [T; W], gains: &[T]) {
    let len = Vector::<S, T>::LEN;
    match gains.first_chunk::<W>() {
        Some(gains) => {
            for (x, gain) in row.chunks_exact_mut(len).zip(gains.chunks_exact(len)) {
                (Vector::load(simd, x) * Vector::load(simd, gain)).store(x);
            }
        }
        None => row.iter_mut().zip(gains).for_each(|(x, &gain)| *x *= gain),
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

/// Applies one product along the contiguous axis of `input`.
#[inline(always)]
pub(super) fn along_contiguous<T: Real, S: Simd, const W: usize>(
    simd: S,
    product: &Product<T>,
    input: &[T],
    out: &mut [T],
    buffers: &mut Buffers<T>,
) {
    let (n, m, len) = (product.n, product.m, product.input.len(product.n));
    let rows = input.len() / n;
    let input = if matches!(product.input, Form::Plain) {
        input
    } else {
        let lanes = buffers.input.grown(rows * len);
        product.input.enter(n, input, lanes);
        &*lanes
    };
    if matches!(product.output, Form::Plain) && !product.spills {
        rows_of_block::<T, S, W>(simd, product, input, len, (out, m));
    } else {
        // The last panel of a block writes behind it.
        let padded = m + W;
        let lanes = buffers.output.grown(rows * padded);
        rows_of_block::<T, S, W>(simd, product, input, len, (lanes, padded));
        product.output.leave(lanes, padded, m, out);
    }
}

/// Applies the matrix to rows of `len` values, into rows at a distance of `out_len`.
#[inline(always)]
fn rows_of_block<T: Real, S: Simd, const W: usize>(
    simd: S,
    product: &Product<T>,
    input: &[T],
    len: usize,
    out: (&mut [T], usize),
) {
    // As many sums at once as their latency asks for.
    if W == Vector::<S, T>::LEN {
        multiply_contiguous::<T, S, { 2 * ROWS }, W>(simd, product, input, len, out);
    } else {
        multiply_contiguous::<T, S, ROWS, W>(simd, product, input, len, out);
    }
}

/// The same, `R` rows at a time.
#[inline(always)]
fn multiply_contiguous<T: Real, S: Simd, const R: usize, const W: usize>(
    simd: S,
    product: &Product<T>,
    input: &[T],
    len: usize,
    (out, out_len): (&mut [T], usize),
) {
    let rows = input.len() / len;
    let count = W.min(out_len);
    for Panel { at, from, entries } in &product.panels {
        let entries = entries.as_chunks::<W>().0;
        for first in (0..rows).step_by(R) {
            // The last rows are computed again where their number is no multiple of the block.
            let first = first.min(rows.saturating_sub(R));
            let mut lanes = [&input[..0]; R];
            for (r, lane) in lanes.iter_mut().enumerate() {
                *lane = &input[(first + r).min(rows - 1) * len + from..][..entries.len()];
            }
            let values = (0..entries.len()).map(
                #[inline(always)]
                |j| {
                    let mut values = [T::zero(); R];
                    for r in 0..R {
                        values[r] = lanes[r][j];
                    }
                    values
                },
            );
            let sum = block(simd, values, entries);
            for (r, sum) in sum.iter().enumerate().take(rows - first) {
                let out = &mut out[(first + r) * out_len + at..];
                match out.first_chunk_mut() {
                    Some(out) if count == W => *out = *sum,
                    _ => out[..count].copy_from_slice(&sum[..count]),
                }
            }
        }
    }
}
