//! Arithmetic of buffers: what fields of every kind do value by value.
//!
//! Operands of different lengths give NaN.

use crate::par;
use crate::scalar::Real;
use crate::space::nan_max;

/// Σ a·b in double precision.
#[inline(never)]
pub(crate) fn dot<T: Real>(a: &[T], b: &[T]) -> f64 {
    if a.len() != b.len() {
        return f64::NAN;
    }
    par::sum(a.len(), |range| {
        a[range.clone()].iter().zip(&b[range]).map(|(&a, &b)| a.f64() * b.f64()).sum()
    })
}

/// `out ← 0`.
#[inline(never)]
pub(crate) fn set_zero<T: Real>(out: &mut [T]) {
    par::chunks(out, |_, chunk| chunk.fill(T::zero()));
}

/// `out ← x`.
#[inline(never)]
pub(crate) fn copy<T: Real>(x: &[T], out: &mut [T]) {
    if out.len() != x.len() {
        return out.fill(T::nan());
    }
    par::chunks(out, |lo, chunk| chunk.copy_from_slice(&x[lo..][..chunk.len()]));
}

/// `out ← a·out + x`; NaN for buffers of different lengths.
#[inline(never)]
pub(crate) fn scale_add<T: Real>(out: &mut [T], a: T, x: &[T]) {
    if out.len() != x.len() {
        return out.fill(T::nan());
    }
    par::chunks(out, |lo, chunk| {
        for (y, &x) in chunk.iter_mut().zip(&x[lo..]) {
            *y = x + a * *y;
        }
    });
}

/// `out ← out + a·x`.
#[inline(never)]
pub(crate) fn axpy<T: Real>(out: &mut [T], a: T, x: &[T]) {
    if out.len() != x.len() {
        return out.fill(T::nan());
    }
    par::chunks(out, |lo, chunk| {
        for (y, &x) in chunk.iter_mut().zip(&x[lo..]) {
            *y += a * x;
        }
    });
}

/// `out ← a·out`.
#[inline(never)]
pub(crate) fn scale<T: Real>(out: &mut [T], a: T) {
    par::chunks(out, |_, chunk| chunk.iter_mut().for_each(|y| *y *= a));
}

/// c ← c ⊙ (a·x) for every component c of `out`, each as long as `x`.
#[inline(never)]
pub(crate) fn multiply_components<T: Real>(out: &mut [T], a: T, x: &[T]) {
    par::components(out, x.len(), |_, lo, chunk| {
        for (y, &x) in chunk.iter_mut().zip(&x[lo..]) {
            *y *= a * x;
        }
    });
}

/// `sum` + x ⊙ y, or x ⊙ y alone where it is the first term.
#[inline(always)]
pub(crate) fn add_products<T: Real>(first: bool, x: &[T], y: &[T], sum: &mut [T]) {
    for ((sum, &x), &y) in sum.iter_mut().zip(x).zip(y) {
        *sum = if first { x * y } else { *sum + x * y };
    }
}

/// `out ← Σ a·x`.
#[inline(never)]
pub(crate) fn set_sum<T: Real, const L: usize>(out: &mut [T], terms: [(T, &[T]); L]) {
    if terms.iter().any(|(_, x)| x.len() != out.len()) {
        return out.fill(T::nan());
    }
    par::chunks(
        out,
        #[inline(always)]
        |lo, chunk| {
            let terms = terms.map(|(a, x)| (a, &x[lo..][..chunk.len()]));
            let mut blocks = chunk.chunks_exact_mut(BLOCK);
            for (i, block) in blocks.by_ref().enumerate() {
                block.copy_from_slice(&sum::<T, L, BLOCK>(terms, i * BLOCK));
            }
            let rest = blocks.into_remainder();
            let from = terms.first().map_or(0, |(_, x)| x.len()) - rest.len();
            for (i, y) in rest.iter_mut().enumerate() {
                [*y] = sum(terms, from + i);
            }
        },
    );
}

/// Values of a sum that are in registers at once.
const BLOCK: usize = 16;

/// Σ a·x of `B` values from `at` on.
#[inline(always)]
fn sum<T: Real, const L: usize, const B: usize>(terms: [(T, &[T]); L], at: usize) -> [T; B] {
    let mut sum = [T::zero(); B];
    for (l, (a, x)) in terms.into_iter().enumerate() {
        let x = &x[at..][..B];
        for k in 0..B {
            sum[k] = if l == 0 { a * x[k] } else { sum[k] + a * x[k] };
        }
    }
    sum
}

/// The largest absolute value; NaN if there is one: a diverged state must not look finite.
#[inline(never)]
pub(crate) fn largest<T: Real>(values: &[T]) -> f64 {
    par::reduce(values.len(), |range| largest_of_chunk(&values[range]), nan_max)
}

#[inline(always)]
fn largest_of_chunk<T: Real>(values: &[T]) -> f64 {
    const LANES: usize = 16;
    let (mut most, mut odd) = ([T::zero(); LANES], [T::zero(); LANES]);
    let blocks = values.chunks_exact(LANES);
    let rest = blocks.remainder();
    for block in blocks {
        for (lane, x) in block.iter().enumerate() {
            let x = x.abs();
            most[lane] = if x > most[lane] { x } else { most[lane] };
            // 0 for a finite number, else NaN.
            odd[lane] += T::zero() * x;
        }
    }
    let max = |m: f64, x: &T| nan_max(m, x.f64().abs());
    let values = if odd.iter().all(T::is_zero) { rest } else { values };
    most.iter().chain(values).fold(0.0, max)
}

/// Largest Euclidean length of vectors with components of `n` values, each divided by its unit; NaN if there is one.
#[inline(never)]
pub(crate) fn longest<T: Real>(components: &[T], n: usize, units: &[f64]) -> f64 {
    let square = |i: usize| {
        let terms = units.iter().enumerate();
        terms.map(|(c, unit)| (components[c * n + i].f64() / unit).powi(2)).sum::<f64>()
    };
    par::reduce(n, |range| range.map(square).fold(0.0, nan_max), nan_max).sqrt()
}

/// Where the first value is that is NaN or infinite.
#[inline(never)]
pub(crate) fn first_not_finite<T: Real>(values: &[T]) -> Option<usize> {
    values.iter().position(|x| !x.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nan_in_any_chunk_is_the_longest_vector() {
        let n: usize = 150 * 131;
        assert!(n.div_ceil(par::CHUNK) > 2, "chunks at both ends and between");
        let values: Vec<f64> = (0..2 * n).map(|i| (0.1 * i as f64).sin()).collect();
        assert!(longest(&values, n, &[1.0, 2.0]).is_finite() && largest(&values).is_finite());
        let ends = (0..n).step_by(par::CHUNK).flat_map(|lo| [lo, (lo + par::CHUNK).min(n) - 1]);
        for at in ends.flat_map(|at| [at, n + at]) {
            let mut values = values.clone();
            values[at] = f64::NAN;
            assert!(longest(&values, n, &[1.0, 2.0]).is_nan(), "{at}");
            assert!(largest(&values).is_nan(), "{at}");
        }
    }
}
