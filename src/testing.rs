//! Checkers and analytic problems, for this crate's tests and for those of people who add their own
//! operators, similarities, metrics or integrators.

/// `n` reproducible values in (−1, 1): the same for the same `seed` on every machine.
#[must_use]
pub fn random<T: crate::Real>(n: usize, seed: u64) -> Vec<T> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x2545_F491_4F6C_DD1D;
    let mut next = || {
        // SplitMix64 (Steele, Lea, Flood 2014, doi:10.1145/2660193.2660195).
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    (0..n).map(|_| T::of((next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0)).collect()
}

use crate::Real;
use crate::kernel::{Kernel, Workspace};

/// Asserts that a kernel on `n` voxels is symmetric: |⟨x, K y⟩ − ⟨y, K x⟩| within `tolerance` of
/// ‖x‖‖y‖, for several pairs.
///
/// # Panics
/// If it is not.
pub fn check_symmetric<T: Real>(kernel: &impl Kernel<T>, n: usize, tolerance: f64) {
    for seed in 0..8 {
        let (x, y) = (random::<T>(n, 2 * seed), random::<T>(n, 2 * seed + 1));
        let (left, right) = (pairing(&x, kernel, &y), pairing(&y, kernel, &x));
        let scale = crate::field::dot(&x, &x).sqrt() * crate::field::dot(&y, &y).sqrt();
        assert!((left - right).abs() <= tolerance * scale, "⟨x,Ky⟩ = {left}, ⟨y,Kx⟩ = {right}");
    }
}

/// Asserts that ⟨x, K x⟩ ≥ −`tolerance`·‖x‖² for rough, smooth and single-voxel x.
///
/// # Panics
/// If it is not.
pub fn check_positive<T: Real>(kernel: &impl Kernel<T>, n: usize, tolerance: f64) {
    let single = |i: usize| (0..n).map(move |j| if i == j { T::one() } else { T::zero() });
    let alternating = (0..n).map(|j| if j % 2 == 0 { T::one() } else { -T::one() });
    let rough = (0..8).map(|seed| random(n, seed));
    let fields = rough.chain([single(0).collect(), single(n / 2).collect(), alternating.collect()]);
    for x in fields {
        let (energy, size) = (pairing(&x, kernel, &x), crate::field::dot(&x, &x));
        assert!(energy >= -tolerance * size, "⟨x,Kx⟩ = {energy} for ‖x‖² = {size}");
    }
}

/// ⟨x, K y⟩, in a workspace that holds rubbish.
fn pairing<T: Real>(x: &[T], kernel: &impl Kernel<T>, y: &[T]) -> f64 {
    let mut out = vec![T::nan(); x.len()];
    let mut ws = Workspace { window: vec![T::nan(); 7].into(), ..Workspace::new() };
    kernel.apply(y, &mut out, &mut ws);
    crate::field::dot(x, &out)
}
