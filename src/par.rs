//! Parallel loops. The only file that names `rayon`.
//!
//! Every loop writes disjoint chunks whose bounds do not depend on the number of threads, and every
//! reduction adds the same chunks in the same order, so that serial and parallel runs give the same
//! bits. The body of a loop that is small, or `#[inline(always)]`, runs with the vector instructions of the
//! processor ([`vectorised`]).

use std::ops::Range;

use crate::simd::vectorised;

/// Elements of a chunk: a few chunks of a fused pass stay in the second-level cache.
pub(crate) const CHUNK: usize = 8192;

/// Parts of a loop whose threads need a scratch slot each.
pub(crate) const PARTS: usize = 16;

/// Work of fewer elements than this is done by the calling thread: a fork and a join cost more.
const SERIAL: usize = 2 * CHUNK;

/// The body of a loop over chunks: what is called with the offset of a chunk and the chunk. It is no type parameter, so
/// that loops are compiled once a type of values and not once a body; there is one call a chunk.
type Body<'a, T> = &'a (dyn Fn(usize, &mut [T]) + Sync);

/// A [`Body`] for lists of pieces, with a scratch slot.
type WithSlot<'a, T, S> = &'a (dyn Fn(usize, &mut [&mut [T]], &mut S) + Sync);

/// Calls `f(offset, chunk)` for consecutive chunks of `out`.
pub(crate) fn chunks<T: Send>(out: &mut [T], f: impl Fn(usize, &mut [T]) + Sync) {
    chunks_of(out, CHUNK, f);
}

/// Like [`chunks`], with the length of a chunk chosen by the caller.
pub(crate) fn chunks_of<T: Send>(out: &mut [T], len: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    each_chunk(out, len, SERIAL, &|lo, chunk| {
        vectorised(
            #[inline(always)]
            || f(lo, chunk),
        );
    });
}

/// Like [`chunks_of`] for few chunks of much work each: the number of elements says nothing about it.
pub(crate) fn parts<T: Send>(out: &mut [T], len: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    each_chunk(out, len, len, &f);
}

/// Calls `f` for the chunks of `out`; in parallel where it has more than `serial` elements.
#[cfg_attr(not(feature = "rayon"), expect(unused_variables, reason = "all is done by one thread"))]
#[inline(never)]
fn each_chunk<T: Send>(out: &mut [T], len: usize, serial: usize, f: Body<T>) {
    let len = len.max(1);
    #[cfg(feature = "rayon")]
    if out.len() > serial {
        use rayon::prelude::*;
        out.par_chunks_mut(len).enumerate().for_each(|(i, chunk)| f(i * len, chunk));
        return;
    }
    for (i, chunk) in out.chunks_mut(len).enumerate() {
        f(i * len, chunk);
    }
}

/// Calls `f` with each of a few items of much work.
pub(crate) fn each<I: Send>(items: Vec<I>, f: impl Fn(I) + Sync + Send) {
    #[cfg(feature = "rayon")]
    if items.len() > 1 {
        use rayon::prelude::*;
        return items.into_par_iter().with_max_len(1).for_each(f);
    }
    items.into_iter().for_each(f);
}

/// What `f` gives for every index below `len`, at most `jobs` of them at a time.
pub(crate) fn queue<R: Send>(len: usize, jobs: usize, f: impl Fn(usize) -> R + Sync) -> Vec<R> {
    #[cfg(feature = "rayon")]
    if jobs > 1 && len > 1 {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let (next, (send, receive)) = (AtomicUsize::new(0), std::sync::mpsc::channel());
        rayon::scope(|scope| {
            for _ in 0..jobs.min(len) {
                let (next, f, send) = (&next, &f, send.clone());
                scope.spawn(move |_| {
                    let indices = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
                    for i in indices.take_while(|&i| i < len) {
                        if send.send((i, f(i))).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        drop(send);
        let mut done: Vec<(usize, R)> = receive.into_iter().collect();
        done.sort_by_key(|(i, _)| *i);
        return done.into_iter().map(|(_, result)| result).collect();
    }
    let _ = jobs;
    (0..len).map(f).collect()
}

/// Calls `f(component, offset, chunk)` for chunks that never cross the border of a component of
/// `n` elements.
pub(crate) fn components<T: Send>(
    out: &mut [T],
    n: usize,
    f: impl Fn(usize, usize, &mut [T]) + Sync,
) {
    each_component(out, n, &|c, lo, chunk| {
        vectorised(
            #[inline(always)]
            || f(c, lo, chunk),
        );
    });
}

#[inline(never)]
fn each_component<T: Send>(out: &mut [T], n: usize, f: &(dyn Fn(usize, usize, &mut [T]) + Sync)) {
    let n = n.max(1);
    #[cfg(feature = "rayon")]
    if out.len() > SERIAL {
        use rayon::prelude::*;
        out.par_chunks_mut(n).enumerate().for_each(|(c, component)| {
            let chunks = component.par_chunks_mut(CHUNK).enumerate();
            chunks.for_each(|(i, chunk)| f(c, i * CHUNK, chunk));
        });
        return;
    }
    for (c, component) in out.chunks_mut(n).enumerate() {
        for (i, chunk) in component.chunks_mut(CHUNK).enumerate() {
            f(c, i * CHUNK, chunk);
        }
    }
}

/// Calls `f(part index, part, slot)`, each part of `len` elements with a scratch slot of its own.
/// There must be at least as many slots as parts.
pub(crate) fn with_slots<T: Send, S: Send>(
    out: &mut [T],
    len: usize,
    slots: &mut [S],
    f: impl Fn(usize, &mut [T], &mut S) + Sync,
) {
    each_with_slot(out, len, slots, &f);
}

#[inline(never)]
fn each_with_slot<T: Send, S: Send>(
    out: &mut [T],
    len: usize,
    slots: &mut [S],
    f: &(dyn Fn(usize, &mut [T], &mut S) + Sync),
) {
    let len = len.max(1);
    debug_assert!(out.len().div_ceil(len) <= slots.len());
    #[cfg(feature = "rayon")]
    if out.len() > SERIAL {
        use rayon::prelude::*;
        out.par_chunks_mut(len)
            .zip(slots.par_iter_mut())
            .enumerate()
            .for_each(|(i, (part, slot))| f(i, part, slot));
        return;
    }
    for (i, (part, slot)) in out.chunks_mut(len).zip(slots.iter_mut()).enumerate() {
        f(i, part, slot);
    }
}

/// Calls `f(first column, rows, slot)` for blocks of `width` columns of a matrix with rows of `inner`
/// values, with a scratch slot that no other thread has: `rows` are the pieces of all rows in these columns.
pub(crate) fn columns<T: Send, S: Send>(
    out: &mut [T],
    inner: usize,
    width: usize,
    slots: &mut [S],
    f: impl Fn(usize, &mut [&mut [T]], &mut S) + Sync,
) {
    let (inner, width) = (inner.max(1), width.max(1));
    let len = out.len();
    let mut blocks: Vec<Vec<&mut [T]>> = Vec::new();
    blocks.resize_with(inner.div_ceil(width), || Vec::with_capacity(len / inner));
    for row in out.chunks_mut(inner) {
        for (block, piece) in blocks.iter_mut().zip(row.chunks_mut(width)) {
            block.push(piece);
        }
    }
    lists_with_slots(len, blocks, slots, &|b, rows, slot| f(b * width, rows, slot));
}

/// Calls `f(offset, chunks, slot)` for the matching chunks, of `len` elements, of any number of slices of equal
/// length, with a scratch slot that no other thread has.
pub(crate) fn slices_with_slots<T: Send, S: Send>(
    slices: Vec<&mut [T]>,
    len: usize,
    slots: &mut [S],
    f: impl Fn(usize, &mut [&mut [T]], &mut S) + Sync,
) {
    let len = len.max(1);
    let total = slices.first().map_or(0, |slice| slice.len());
    let (count, elements) = (slices.len(), total * slices.len());
    let mut chunks: Vec<Vec<&mut [T]>> = Vec::new();
    chunks.resize_with(total.div_ceil(len), || Vec::with_capacity(count));
    for slice in slices {
        for (chunk, piece) in chunks.iter_mut().zip(slice.chunks_mut(len)) {
            chunk.push(piece);
        }
    }
    lists_with_slots(elements, chunks, slots, &|i, chunk, slot| f(i * len, chunk, slot));
}

/// Calls `f(index, list, slot)` for each list of pieces, of `len` elements in all. Neighbours share a slot.
#[inline(never)]
fn lists_with_slots<T: Send, S: Send>(
    len: usize,
    mut lists: Vec<Vec<&mut [T]>>,
    slots: &mut [S],
    f: WithSlot<T, S>,
) {
    debug_assert!(!slots.is_empty() || lists.is_empty());
    let share = lists.len().div_ceil(slots.len().max(1)).max(1);
    let some = |s: usize, lists: &mut [Vec<&mut [T]>], slot: &mut S| {
        for (i, list) in lists.iter_mut().enumerate() {
            f(s * share + i, list, slot);
        }
    };
    #[cfg(feature = "rayon")]
    if len > SERIAL {
        use rayon::prelude::*;
        let parts = lists.par_chunks_mut(share).zip(slots.par_iter_mut());
        return parts.enumerate().for_each(|(s, (lists, slot))| some(s, lists, slot));
    }
    let _ = len;
    for (s, (lists, slot)) in lists.chunks_mut(share).zip(slots).enumerate() {
        some(s, lists, slot);
    }
}

/// Reduces `0..len` by chunks, in a tree whose shape depends on `len` only.
#[inline(never)]
fn tree<A: Send>(
    range: Range<usize>,
    leaf: &(dyn Fn(Range<usize>) -> A + Sync),
    join: &(dyn Fn(A, A) -> A + Sync),
) -> A {
    let len = range.end - range.start;
    if len <= CHUNK {
        return leaf(range);
    }
    let mid = range.start + len.div_ceil(CHUNK).div_ceil(2) * CHUNK;
    let (left, right) = (range.start..mid, mid..range.end);
    #[cfg(feature = "rayon")]
    if len > SERIAL {
        let (a, b) = rayon::join(|| tree(left, leaf, join), || tree(right, leaf, join));
        return join(a, b);
    }
    let a = tree(left, leaf, join);
    join(a, tree(right, leaf, join))
}

/// What `join` makes of what `leaf` gives for the ranges of `0..len`, in their order.
pub(crate) fn reduce<A: Send>(
    len: usize,
    leaf: impl Fn(Range<usize>) -> A + Sync,
    join: impl Fn(A, A) -> A + Sync,
) -> A {
    let leaf = |range: Range<usize>| {
        vectorised(
            #[inline(always)]
            || leaf(range),
        )
    };
    tree(0..len, &leaf, &join)
}

/// Sum over `0..len` of what `leaf` gives for its ranges.
pub(crate) fn sum(len: usize, leaf: impl Fn(Range<usize>) -> f64 + Sync) -> f64 {
    reduce(len, leaf, |a, b| a + b)
}

/// Sums of `K` quantities at once.
pub(crate) fn sums<const K: usize>(
    len: usize,
    leaf: impl Fn(Range<usize>) -> [f64; K] + Sync,
) -> [f64; K] {
    reduce(len, leaf, |a, b| std::array::from_fn(|k| a[k] + b[k]))
}

/// Sums that are added side by side: additions that wait for one another take four times as long.
const LANES: usize = 8;

/// Σ f(i) over a range, of `K` quantities.
#[inline(always)]
pub(crate) fn lanes<const K: usize>(
    range: Range<usize>,
    mut f: impl FnMut(usize) -> [f64; K],
) -> [f64; K] {
    let mut sums = [[0.0; LANES]; K];
    let whole = range.end - range.len() % LANES;
    for first in (range.start..whole).step_by(LANES) {
        for lane in 0..LANES {
            let x = f(first + lane);
            for (sums, x) in sums.iter_mut().zip(x) {
                sums[lane] += x;
            }
        }
    }
    for (lane, i) in (whole..range.end).enumerate() {
        for (sums, x) in sums.iter_mut().zip(f(i)) {
            sums[lane] += x;
        }
    }
    sums.map(|sums| sums.iter().sum())
}

/// [`zipped`] over `L` slices, and the sums over their elements of `S` quantities that `f` gives for its chunks.
pub(crate) fn zipped_sums<T: Send, const L: usize, const S: usize>(
    parts: [&mut [T]; L],
    f: impl Fn(usize, [&mut [T]; L]) -> [f64; S] + Sync,
) -> [f64; S] {
    let join = |a: [f64; S], b: [f64; S]| std::array::from_fn(|k| a[k] + b[k]);
    zipped_from(0, parts, &|lo, chunks| vectorised_zipped(&f, lo, chunks), &join)
}

/// Largest of what `leaf` gives for its ranges. NaN is ignored, so check for it apart.
pub(crate) fn max(len: usize, leaf: impl Fn(Range<usize>) -> f64 + Sync) -> f64 {
    reduce(len, leaf, f64::max)
}

/// The first `K` components, of `n` elements each, as separate slices.
pub(crate) fn split<T, const K: usize>(data: &mut [T], n: usize) -> [&mut [T]; K] {
    let mut rest = data.chunks_mut(n.max(1));
    std::array::from_fn(|_| rest.next().unwrap_or_default())
}

/// Calls `f(offset, chunks)` with the matching chunks of `K` slices of equal length.
pub(crate) fn zipped<T: Send, const K: usize>(
    parts: [&mut [T]; K],
    f: impl Fn(usize, [&mut [T]; K]) + Sync,
) {
    zipped_from(0, parts, &|lo, chunks| vectorised_zipped(&f, lo, chunks), &|(), ()| ());
}

/// Like [`components`] for `K` components at once: a chunk of one after the other, so that what all of them read
/// is in cache.
pub(crate) fn vectors<T: Send, const K: usize>(
    out: &mut [T],
    n: usize,
    f: impl Fn(usize, usize, &mut [T]) + Sync,
) {
    zipped(
        split::<T, K>(out, n),
        #[inline(always)]
        |lo, chunks| {
            for (k, chunk) in chunks.into_iter().enumerate() {
                f(k, lo, chunk);
            }
        },
    );
}

/// Calls `f(offset, chunks)` with the matching chunks of any number of slices of equal length.
pub(crate) fn slices<T: Send>(slices: Vec<&mut [T]>, f: impl Fn(usize, &mut [&mut [T]]) + Sync) {
    slices_from(0, slices, &|lo, chunks| {
        vectorised(
            #[inline(always)]
            || f(lo, chunks),
        );
    });
}

#[inline(never)]
fn slices_from<T: Send>(
    lo: usize,
    mut slices: Vec<&mut [T]>,
    f: &(dyn Fn(usize, &mut [&mut [T]]) + Sync),
) {
    let len = slices.first().map_or(0, |slice| slice.len());
    if len <= CHUNK {
        return f(lo, &mut slices);
    }
    let mid = len.div_ceil(CHUNK).div_ceil(2) * CHUNK;
    let (left, right): (Vec<_>, Vec<_>) = slices.into_iter().map(|s| s.split_at_mut(mid)).unzip();
    #[cfg(feature = "rayon")]
    if len * left.len() > SERIAL {
        rayon::join(|| slices_from(lo, left, f), || slices_from(lo + mid, right, f));
        return;
    }
    slices_from(lo, left, f);
    slices_from(lo + mid, right, f);
}

/// Does work on `len` elements, in which there are many loops, on a thread of the pool: a loop that starts there
/// need not wake one.
pub(crate) fn inside(len: usize, work: impl FnOnce() + Send) {
    #[cfg(feature = "rayon")]
    if len > SERIAL {
        return rayon::scope(|_| work());
    }
    let _ = len;
    work();
}

#[inline(always)]
fn vectorised_zipped<T: Send, A, const K: usize>(
    f: &impl Fn(usize, [&mut [T]; K]) -> A,
    lo: usize,
    chunks: [&mut [T]; K],
) -> A {
    vectorised(
        #[inline(always)]
        || f(lo, chunks),
    )
}

#[inline(never)]
fn zipped_from<T: Send, A: Send, const K: usize>(
    lo: usize,
    parts: [&mut [T]; K],
    f: &(dyn Fn(usize, [&mut [T]; K]) -> A + Sync),
    join: &(dyn Fn(A, A) -> A + Sync),
) -> A {
    let len = parts.first().map_or(0, |part| part.len());
    if len <= CHUNK {
        return f(lo, parts);
    }
    let mid = len.div_ceil(CHUNK).div_ceil(2) * CHUNK;
    let mut halves = parts.map(|part| part.split_at_mut(mid));
    let left = halves.each_mut().map(|half| std::mem::take(&mut half.0));
    let right = halves.map(|half| half.1);
    #[cfg(feature = "rayon")]
    if len * K > SERIAL {
        let left = || zipped_from(lo, left, f, join);
        let (a, b) = rayon::join(left, || zipped_from(lo + mid, right, f, join));
        return join(a, b);
    }
    let a = zipped_from(lo, left, f, join);
    join(a, zipped_from(lo + mid, right, f, join))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_slices_come_with_their_offsets_whatever_the_slots() {
        // Shorter and longer than what one thread does alone; a last chunk that is not whole.
        for (len, chunk) in [(37 * 5 - 2, 5), (37 * 2000 - 1, 2000), (3, 7), (0, 4)] {
            for count in [1, 2, PARTS, 64] {
                let (mut a, mut b) = (vec![0; len], vec![0; len]);
                let mut slots = vec![0; count];
                let slices = vec![&mut a[..], &mut b[..]];
                slices_with_slots(slices, chunk, &mut slots, |lo, chunks, slot| {
                    *slot += chunks[0].len();
                    for (k, chunk) in chunks.iter_mut().enumerate() {
                        for (i, x) in chunk.iter_mut().enumerate() {
                            *x += 2 * (lo + i) + k;
                        }
                    }
                });
                assert!(a.into_iter().eq((0..len).map(|i| 2 * i)), "{len} by {chunk}");
                assert!(b.into_iter().eq((0..len).map(|i| 2 * i + 1)), "{len} by {chunk}");
                assert_eq!(slots.iter().sum::<usize>(), len);
            }
        }
    }
}
