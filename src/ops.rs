//! Operators on slices over a grid, each with its transpose beside it.
//!
//! Transposes are Euclidean: ⟨λ, A x⟩ = ⟨Aᵀ λ, x⟩ with plain sums.

pub mod difference;
pub mod jacobian;
pub mod resample;
pub mod spline;
pub mod warp;
