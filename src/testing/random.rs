//! Numbers that are the same on every machine.

use std::f64::consts::TAU;

use crate::grid::Grid;
use crate::scalar::Real;

/// `n` reproducible values in (−1, 1): the same for the same `seed` on every machine.
///
/// ```
/// use rdmm_core::testing::random;
///
/// let values: Vec<f64> = random(100, 7);
/// assert_eq!(values, random::<f64>(100, 7));
/// assert!(values.iter().all(|x| x.abs() < 1.0));
/// ```
#[must_use]
pub fn random<T: Real>(n: usize, seed: u64) -> Vec<T> {
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

/// A smooth field of `components` components in (−2, 2), of the shape `[components, ..grid.shape()]`: a few random
/// cosines of at most two and a half periods an axis.
///
/// ```
/// use rdmm_core::{grid::Grid, testing::smooth};
///
/// let grid = Grid::<2>::unit([16, 12])?;
/// let field = smooth(&grid, 2, 1);
/// assert_eq!(field.len(), 2 * grid.len());
/// // From voxel to voxel it changes by less than it varies.
/// assert!((field[0] - field[1]).abs() < 1.5);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[must_use]
pub fn smooth<const D: usize>(grid: &Grid<D>, components: usize, seed: u64) -> Vec<f64> {
    let waves: Vec<f64> = random(components * 4 * (D + 1), seed);
    let (n, shape) = (grid.len(), grid.shape());
    let mut out = vec![0.0; components * n];
    for (flat, value) in out.iter_mut().enumerate() {
        let (c, index) = (flat / n, grid.unravel(flat % n));
        for k in 0..4 {
            let wave = &waves[(c * 4 + k) * (D + 1)..];
            let phase: f64 = (0..D)
                .map(|a| {
                    let cycles = (2.5 * wave[a]).round();
                    cycles * (index[a] as f64 + 0.5) / shape[a] as f64
                })
                .sum();
            *value += 0.5 * (TAU * (phase + wave[D])).cos();
        }
    }
    out
}

/// Positive weights of unit norm at every voxel that vary smoothly, `[count, ..grid.shape()]`.
pub(super) fn unit_weights<const D: usize>(grid: &Grid<D>, count: usize, seed: u64) -> Vec<f64> {
    let n = grid.len();
    let mut weights: Vec<f64> = smooth(grid, count, seed).iter().map(|x| (0.5 * x).exp()).collect();
    for at in 0..n {
        let norm = (0..count).map(|i| weights[i * n + at].powi(2)).sum::<f64>().sqrt();
        (0..count).for_each(|i| weights[i * n + at] /= norm);
    }
    weights
}
