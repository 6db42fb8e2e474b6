//! Transport of the inverse map: ∂t u = −v − Du v, the Eulerian form of ∂tΦ⁻¹ + DΦ⁻¹ v = 0.
//!
//! A semi-Lagrangian step starts it from u = 0 and composes the result with the map so far, so that
//! only the displacement of one step is ever differentiated.

use crate::field::{Displacement, Velocity, axpy};
use crate::ops::difference::Difference;
use crate::par;
use crate::scalar::Real;

/// ∂t u_a = −v_a − Σ_j v_j ∂_j u_a; without `u`, that of u = 0.
#[inline(never)]
pub(crate) fn rate<T: Real, const D: usize>(
    d: &Difference<T, D>,
    v: &Velocity<T, D>,
    u: Option<&Displacement<T, D>>,
    rate: &mut Displacement<T, D>,
) {
    par::vectors::<T, D>(rate.data_mut(), v.grid().len(), |a, lo, chunk| {
        for (r, &v) in chunk.iter_mut().zip(&v.component(a)[lo..]) {
            *r = -v;
        }
        for j in 0..D {
            let Some(u) = u else { break };
            d.add_scaled(j, -T::one(), v.component(j), u.component(a), lo, chunk);
        }
    });
}

/// v̄_j += −ū_j − Σ_a ū_a ∂_j u_a and, in u, ← Σ_j −∂_jᵀ(v_j ū_a); without `u`, v̄ −= ū alone.
#[inline(never)]
pub(crate) fn rate_vjp<T: Real, const D: usize>(
    d: &Difference<T, D>,
    v: &Velocity<T, D>,
    u: Option<&Displacement<T, D>>,
    rate_bar: &Displacement<T, D>,
    v_bar: &mut Velocity<T, D>,
    u_bar: &mut Displacement<T, D>,
) {
    let Some(u) = u else { return axpy(v_bar.data_mut(), -T::one(), rate_bar.data()) };
    let n = v.grid().len();
    par::vectors::<T, D>(v_bar.data_mut(), n, |j, lo, chunk| {
        for (v_bar, &bar) in chunk.iter_mut().zip(&rate_bar.component(j)[lo..]) {
            *v_bar -= bar;
        }
        for a in 0..D {
            d.add_scaled(j, -T::one(), rate_bar.component(a), u.component(a), lo, chunk);
        }
    });
    par::vectors::<T, D>(u_bar.data_mut(), n, |a, lo, chunk| {
        chunk.fill(T::zero());
        for j in 0..D {
            d.add_transposed(j, -T::one(), v.component(j), rate_bar.component(a), lo, chunk);
        }
    });
}
