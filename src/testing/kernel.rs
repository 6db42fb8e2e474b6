//! Symmetry and positivity of kernels.

use super::failure::{Checked, within};
use super::random::random;
use crate::field::dot;
use crate::kernel::{Kernel, Workspace};
use crate::scalar::Real;

/// A kernel on `n` voxels is symmetric: |⟨x, K y⟩ − ⟨y, K x⟩| within `tolerance` of ‖x‖‖y‖, for several pairs of random
/// fields. Answers the largest of these ratios.
///
/// The kernel is given a workspace that holds rubbish.
///
/// # Errors
/// [`CheckError::Off`](super::CheckError::Off) if it is not.
///
/// ```
/// use rdmm_core::{grid::Grid, kernel::Gaussian, testing::check_symmetric};
///
/// let grid = Grid::new([14, 12], [1.0, 1.0])?;
/// // Rounding of sums of some hundred terms.
/// check_symmetric(&Gaussian::<f64, 2>::new(&grid, 1.5)?, grid.len(), 1e-12)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn check_symmetric<T: Real>(kernel: &impl Kernel<T>, n: usize, tolerance: f64) -> Checked {
    let mut largest = 0.0_f64;
    for seed in 0..8 {
        let (x, y) = (random::<T>(n, 2 * seed), random::<T>(n, 2 * seed + 1));
        let (left, right) = (pairing(&x, kernel, &y), pairing(&y, kernel, &x));
        let off = (left - right).abs() / (dot(&x, &x).sqrt() * dot(&y, &y).sqrt());
        let found = || format!("⟨x, K y⟩ = {left}, ⟨y, K x⟩ = {right}");
        largest = largest.max(within("symmetry of the kernel", off, tolerance, found)?);
    }
    Ok(largest)
}

/// ⟨x, K x⟩ ≥ −`tolerance`·‖x‖² for rough fields and for single voxels. Answers the largest −⟨x, K x⟩/‖x‖², or zero.
///
/// The kernel is given a workspace that holds rubbish.
///
/// # Errors
/// [`CheckError::Off`](super::CheckError::Off) if it is not.
///
/// ```
/// use rdmm_core::{grid::Grid, kernel::Gaussian, testing::check_positive};
///
/// let grid = Grid::new([14, 12], [1.0, 1.0])?;
/// check_positive(&Gaussian::<f64, 2>::new(&grid, 1.5)?, grid.len(), 1e-12)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn check_positive<T: Real>(kernel: &impl Kernel<T>, n: usize, tolerance: f64) -> Checked {
    let single = |i: usize| (0..n).map(move |j| if i == j { T::one() } else { T::zero() });
    let alternating = (0..n).map(|j| if j % 2 == 0 { T::one() } else { -T::one() });
    let rough = (0..8).map(|seed| random(n, seed));
    let fields = rough.chain([single(0).collect(), single(n / 2).collect(), alternating.collect()]);
    let mut largest = 0.0_f64;
    for x in fields {
        let (energy, size) = (pairing(&x, kernel, &x), dot(&x, &x));
        let found = || format!("⟨x, K x⟩ = {energy} for ‖x‖² = {size}");
        largest =
            largest.max(within("positivity of the kernel", -energy / size, tolerance, found)?);
    }
    Ok(largest)
}

/// ⟨x, K y⟩, in a workspace that holds rubbish.
fn pairing<T: Real>(x: &[T], kernel: &impl Kernel<T>, y: &[T]) -> f64 {
    let mut out = vec![T::nan(); x.len()];
    let mut ws = Workspace { window: vec![T::nan(); 7].into(), ..Workspace::new() };
    kernel.apply(y, &mut out, &mut ws);
    dot(x, &out)
}
