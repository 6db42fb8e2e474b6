//! Transport of the momentum by its own velocity, without the force of a metric.

use crate::field::{Momentum, Velocity};
use crate::ops::difference::Difference;
use crate::par;
use crate::scalar::Real;

/// ∂t m_a = −Σ_j ∂_j(v_j m_a) − Σ_j m_j ∂_a v_j.
#[inline(never)]
pub(crate) fn rate<T: Real, const D: usize>(
    d: &Difference<T, D>,
    v: &Velocity<T, D>,
    m: &Momentum<T, D>,
    rate: &mut Momentum<T, D>,
) {
    let (n, one) = (v.grid().len(), T::one());
    par::vectors::<T, D>(rate.data_mut(), n, |a, lo, chunk| {
        chunk.fill(T::zero());
        for j in 0..D {
            // − ∂_j(v_j m_a)
            d.add_transposed(j, one, v.component(j), m.component(a), lo, chunk);
            // − m_j ∂_a v_j
            d.add_scaled(a, -one, m.component(j), v.component(j), lo, chunk);
        }
    });
}

/// Its transpose. ⟨∂t m, m̄⟩ = ⟨m, [m̄, v]⟩: in v, the same operator with m̄ in the place of v, negated, and in m the
/// bracket v·∇m̄ − m̄·∇v.
#[inline(never)]
pub(crate) fn rate_vjp<T: Real, const D: usize>(
    d: &Difference<T, D>,
    (v, m): (&Velocity<T, D>, &Momentum<T, D>),
    rate_bar: &Momentum<T, D>,
    v_bar: &mut Velocity<T, D>,
    m_bar: &mut Momentum<T, D>,
) {
    let (n, one) = (v.grid().len(), T::one());
    par::vectors::<T, D>(v_bar.data_mut(), n, |a, lo, chunk| {
        chunk.fill(T::zero());
        for j in 0..D {
            d.add_transposed(j, -one, rate_bar.component(j), m.component(a), lo, chunk);
            d.add_scaled(a, one, m.component(j), rate_bar.component(j), lo, chunk);
        }
    });
    par::vectors::<T, D>(m_bar.data_mut(), n, |a, lo, chunk| {
        chunk.fill(T::zero());
        for j in 0..D {
            d.add_scaled(j, one, v.component(j), rate_bar.component(a), lo, chunk);
            d.add_scaled(j, -one, rate_bar.component(j), v.component(a), lo, chunk);
        }
    });
}
