//! Sums of products that a kernel is applied to: Σ_t weightₜ ⊙ inputₜ.

use crate::field::add_products;
use crate::scalar::Real;

/// Weights of one component with inputs of any number of them.
pub(crate) type Terms<'a, 'b, T> = &'a [(&'b [T], &'b [T])];

/// Whether `input` and `out` hold the same number of whole components of `n` voxels; `out` is NaN
/// otherwise.
pub(crate) fn fits<T: Real>(n: usize, input: &[T], out: &mut [T]) -> bool {
    let fits = input.len() == out.len() && input.len().is_multiple_of(n);
    if !fits {
        out.fill(T::nan());
    }
    fits
}

/// Whether every weight has `n` values and every input those of `out`, whole components; `out` is NaN otherwise.
pub(crate) fn products_fit<T: Real>(n: usize, terms: Terms<T>, out: &mut [T]) -> bool {
    let fits = terms_fit(n, terms, out.len());
    if !fits {
        out.fill(T::nan());
    }
    fits
}

/// Whether every weight has `n` values and every input `len`, whole components.
pub(crate) fn terms_fit<T>(n: usize, terms: Terms<T>, len: usize) -> bool {
    let fits = |(weight, input): &(&[T], &[T])| weight.len() == n && input.len() == len;
    len.is_multiple_of(n) && terms.iter().all(fits)
}

/// `out ← Σ_t weightₜ ⊙ inputₜ` from the value `lo` of a component on that begins at `component`.
#[inline(always)]
pub(crate) fn sum_products<T: Real>(
    terms: Terms<T>,
    (component, lo): (usize, usize),
    out: &mut [T],
) {
    if terms.is_empty() {
        out.fill(T::zero());
    }
    for (t, (weight, input)) in terms.iter().enumerate() {
        add_products(t == 0, &weight[lo..], &input[component + lo..], out);
    }
}
