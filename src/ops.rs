//! Operators on slices over a grid, each with its transpose beside it.
//!
//! Transposes are Euclidean: ⟨λ, A x⟩ = ⟨Aᵀ λ, x⟩ with plain sums. [`inverse`] has none: it is for maps that are
//! results.
//!
//! These are the inner loops that new operators are built from. They take slices, cannot fail and do not
//! panic: where lengths do not fit the grids, what they write is NaN, which integrators and optimisers
//! report. Functions of fields ([`warp::warp()`], [`resample::Resample::field`],
//! [`jacobian::jacobian_determinant`], [`Kernel::smooth`](crate::kernel::Kernel::smooth)) check and say
//! what was expected.

use crate::scalar::Real;

/// `true` if `fits`; else everything in `out` becomes NaN.
fn or_nan<T: Real>(fits: bool, out: &mut [T]) -> bool {
    if !fits {
        out.fill(T::nan());
    }
    fits
}

pub mod barrier;
pub mod cells;
pub mod compose;
pub mod difference;
pub mod forward;
pub mod inverse;
pub mod jacobian;
mod map_space;
pub mod resample;
pub mod spline;
pub mod unfold;
pub mod warp;

pub use map_space::{Composer, SplineCoefficients};
