//! Symmetry and positivity of kernels.

use super::failure::{Checked, within};
use super::random::random;
use crate::field::dot;
use crate::kernel::{Kernel, Workspace};
use crate::scalar::Real;

/// A kernel on `n` voxels is symmetric: |⟨x, K y⟩ − ⟨y, K x⟩| within `tolerance` of ‖x‖‖y‖, for several pairs of random
/// fields. Answers the largest of these ratios.
///
/// The kernel is given a workspace that a field of NaN went through.
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
    let ws = dirty(kernel, n);
    for seed in 0..8 {
        let (x, y) = (random::<T>(n, 2 * seed), random::<T>(n, 2 * seed + 1));
        let (left, right) = (pairing(&x, kernel, &y, &ws), pairing(&y, kernel, &x, &ws));
        let off = (left - right).abs() / (dot(&x, &x).sqrt() * dot(&y, &y).sqrt());
        let found = || format!("⟨x, K y⟩ = {left}, ⟨y, K x⟩ = {right}");
        largest = largest.max(within("symmetry of the kernel", off, tolerance, found)?);
    }
    Ok(largest)
}

/// ⟨x, K x⟩ ≥ −`tolerance`·‖x‖² for rough fields and for single voxels. Answers the largest −⟨x, K x⟩/‖x‖², or zero.
///
/// The kernel is given a workspace that a field of NaN went through.
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
    let ws = dirty(kernel, n);
    for x in fields {
        let (energy, size) = (pairing(&x, kernel, &x, &ws), dot(&x, &x));
        let found = || format!("⟨x, K x⟩ = {energy} for ‖x‖² = {size}");
        largest =
            largest.max(within("positivity of the kernel", -energy / size, tolerance, found)?);
    }
    Ok(largest)
}

/// A workspace through which a field of NaN went, in every buffer that the kernel uses.
fn dirty<T: Real>(kernel: &impl Kernel<T>, n: usize) -> Workspace<T> {
    let (field, mut ws) = (vec![T::nan(); n], Workspace::new());
    kernel.apply(&field, &mut field.clone(), &mut ws);
    ws
}

/// ⟨x, K y⟩, in a copy of this workspace.
fn pairing<T: Real>(x: &[T], kernel: &impl Kernel<T>, y: &[T], ws: &Workspace<T>) -> f64 {
    let mut out = vec![T::nan(); x.len()];
    kernel.apply(y, &mut out, &mut ws.clone());
    dot(x, &out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds to what it finds in its buffer.
    struct Adds;

    impl Kernel<f64> for Adds {
        fn apply(&self, input: &[f64], out: &mut [f64], ws: &mut Workspace<f64>) {
            let sum = ws.sum.grown(input.len());
            for ((sum, x), y) in sum.iter_mut().zip(input).zip(out) {
                *sum += x;
                *y = *sum;
            }
        }
    }

    #[test]
    fn a_kernel_that_reads_what_its_workspace_held_is_found_out() {
        assert!(check_symmetric(&Adds, 30, 1e-12).is_err());
        assert!(check_positive(&Adds, 30, 1e-12).is_err());
    }
}
