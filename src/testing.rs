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
    (0..n)
        .map(|_| T::of((next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0))
        .collect()
}
