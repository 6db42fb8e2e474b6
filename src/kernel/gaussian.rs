//! Unit-mass Gaussians and banks of them.

use std::sync::Arc;

use rustfft::FftPlanner;

use super::transform::Transform;
use super::{Kernel, Spectral, Workspace};
use crate::error::{Error, Result, positive};
use crate::grid::{Boundary, Grid, MAX_VOXELS};
use crate::scalar::Real;

/// σ beyond the border of a free grid after which a Gaussian is cut: exp(−7²/2) = 2e-11 of its peak.
const FREE_REACH: f64 = 7.0;

/// Fourier multiplier of the sampled, unit-mass Gaussian at `omega` radians a voxel, for a standard
/// deviation of `sigma` voxels.
///
/// The samples' spectrum is the continuous one summed over its aliases: positive at every frequency,
/// so that every matrix with it on the diagonal is positive, and the kernel itself is positive too.
pub(crate) fn multiplier(sigma: f64, omega: f64) -> f64 {
    let tau = std::f64::consts::TAU;
    let alias = |w: f64| (-0.5 * (sigma * w).powi(2)).exp();
    let sum = |w: f64| (-3..=3).map(|j| alias(w + tau * f64::from(j))).sum::<f64>();
    sum(omega) / sum(0.0)
}

/// Zeros behind a lane of a free grid so that nothing wraps around.
pub(crate) fn padding(sigma_in_voxels: f64) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "a few extents at most")]
    #[expect(clippy::cast_sign_loss, reason = "σ is positive")]
    let zeros = (FREE_REACH * sigma_in_voxels).ceil() as usize;
    zeros
}

/// Convolution with one Gaussian of unit mass, axis by axis: D passes over each component.
///
/// Symmetric and positive at every [`Boundary`]: periodic; reflecting, in the cosine basis; free, by zero
/// padding. A reflecting or periodic Gaussian keeps the integral of a field, a free one loses what leaves
/// the grid.
#[derive(Clone, Debug)]
pub struct Gaussian<T, const D: usize> {
    sigma: f64,
    grid: Grid<D>,
    axes: [(Arc<Transform<T>>, Vec<T>); D],
}

impl<T: Real, const D: usize> Gaussian<T, D> {
    /// A Gaussian of standard deviation `sigma` (physical units) on `grid`.
    ///
    /// # Errors
    /// [`Error::Sigma`] below half the coarsest spacing or above the largest extent;
    /// [`Error::OutOfMemory`] for a free grid so anisotropic that its padding cannot be held.
    ///
    /// ```
    /// use rdmm_core::{field::Image, grid::Grid, kernel::{Gaussian, Kernel, Workspace}};
    /// let grid = Grid::new([16, 16], [1.0, 1.0])?;
    /// let mut image = Image::<f64, 2>::zeros(&grid)?;
    /// image.data_mut()[8 * 16 + 8] = 1.0;
    /// let mut smooth = vec![0.0; grid.len()];
    /// Gaussian::new(&grid, 2.0)?.apply(image.data(), &mut smooth, &mut Workspace::new());
    /// assert!((smooth.iter().sum::<f64>() - 1.0).abs() < 1e-12); // unit mass
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn new(grid: &Grid<D>, sigma: f64) -> Result<Self> {
        expect_sigma(grid, 0, sigma)?;
        expect_padding::<T, D>(grid, sigma)?;
        Ok(Self::planned(grid, sigma, &mut FftPlanner::new()))
    }

    fn planned(grid: &Grid<D>, sigma: f64, planner: &mut FftPlanner<T>) -> Self {
        let axes = std::array::from_fn(|a| {
            let voxels = sigma / grid.spacing()[a];
            let transform =
                Transform::new(planner, grid.shape()[a], grid.boundary(), padding(voxels));
            let omega = transform.frequencies();
            let gain = omega.iter().map(|&w| T::of(multiplier(voxels, w))).collect();
            (Arc::new(transform), gain)
        });
        Self { sigma, grid: grid.clone(), axes }
    }

    /// Standard deviation in physical units.
    #[must_use]
    pub fn sigma(&self) -> f64 {
        self.sigma
    }

    /// The grid.
    #[must_use]
    pub fn grid(&self) -> &Grid<D> {
        &self.grid
    }
}

impl<T: Real, const D: usize> Kernel<T> for Gaussian<T, D> {
    fn apply(&self, input: &[T], out: &mut [T], ws: &mut Workspace<T>) {
        let n = self.grid.len();
        if !super::fits(n, input, out) {
            return;
        }
        for field in &mut ws.fields {
            if field.len() < n {
                field.resize(n, T::zero());
            }
        }
        let (fields, slots) = (&mut ws.fields, &mut ws.slots);
        for (input, out) in input.chunks(n).zip(out.chunks_mut(n)) {
            for (a, (transform, gain)) in self.axes.iter().enumerate() {
                let [even, odd] = fields;
                let (from, to) = if a % 2 == 0 { (odd, even) } else { (even, odd) };
                let from = if a == 0 { input } else { &from[..n] };
                let to = if a + 1 == D { &mut *out } else { &mut to[..n] };
                transform.filter(gain, from, to, slots);
            }
        }
    }

    fn shape(&self) -> Option<Vec<usize>> {
        Some(self.grid.shape().to_vec())
    }
}

/// `Ok` if the spectrum of a free grid, padded for `sigma`, can be indexed.
fn expect_padding<T, const D: usize>(grid: &Grid<D>, sigma: f64) -> Result<()> {
    if grid.boundary() != Boundary::Free {
        return Ok(());
    }
    let padded = |a: usize| grid.shape()[a].saturating_add(padding(sigma / grid.spacing()[a]));
    // Lengths grow by a factor under two to one that the FFT likes.
    let len = (0..D).fold(1usize, |len, a| len.saturating_mul(padded(a).saturating_mul(2)));
    if len >> D > MAX_VOXELS {
        return Err(Error::OutOfMemory { bytes: len.saturating_mul(size_of::<T>()) });
    }
    Ok(())
}

/// `Ok` if a Gaussian of `sigma` lives on `grid`.
fn expect_sigma<const D: usize>(grid: &Grid<D>, index: usize, sigma: f64) -> Result<()> {
    let (min, max) = (0.5 * grid.coarsest_spacing(), grid.largest_extent());
    // Rounding of physical units must not refuse a σ that is exactly half a voxel.
    if sigma >= min * (1.0 - 1e-9) && sigma <= max * (1.0 + 1e-9) {
        Ok(())
    } else {
        Err(Error::Sigma { index, found: sigma, min, max })
    }
}

/// Gaussians σ₀ < … < σ_{N−1} on one grid, with shared FFT plans.
#[derive(Clone, Debug)]
pub struct GaussianBank<T, const D: usize> {
    grid: Grid<D>,
    scales: Vec<Gaussian<T, D>>,
}

impl<T: Real, const D: usize> GaussianBank<T, D> {
    /// The bank of these standard deviations (physical units).
    ///
    /// # Errors
    /// [`Error::Length`] for an empty list, [`Error::SigmaOrder`] unless strictly increasing,
    /// [`Error::Sigma`] below half the coarsest spacing or above the largest extent,
    /// [`Error::OutOfMemory`] as for [`Gaussian::new`].
    pub fn new(grid: &Grid<D>, sigmas: &[f64]) -> Result<Self> {
        if sigmas.is_empty() {
            return Err(Error::Length { what: "σ of a bank", expected: 1, found: 0 });
        }
        for (index, &sigma) in sigmas.iter().enumerate() {
            expect_sigma(grid, index, sigma)?;
            if index > 0 && sigma <= sigmas[index - 1] {
                let previous = sigmas[index - 1];
                return Err(Error::SigmaOrder { index, found: sigma, previous });
            }
            expect_padding::<T, D>(grid, sigma)?;
        }
        let mut planner = FftPlanner::new();
        let scales = sigmas.iter().map(|&s| Gaussian::planned(grid, s, &mut planner)).collect();
        Ok(Self { grid: grid.clone(), scales })
    }

    /// The grid.
    #[must_use]
    pub fn grid(&self) -> &Grid<D> {
        &self.grid
    }

    /// The Gaussians, smallest σ first.
    #[must_use]
    pub fn scales(&self) -> &[Gaussian<T, D>] {
        &self.scales
    }

    /// The Gaussians themselves.
    #[must_use]
    pub fn into_scales(self) -> Vec<Gaussian<T, D>> {
        self.scales
    }

    /// Standard deviations, physical units.
    #[must_use]
    pub fn sigmas(&self) -> Vec<f64> {
        self.scales.iter().map(Gaussian::sigma).collect()
    }

    /// The one operator Σ_i share_i K_i: one transform pair, whatever the number of Gaussians.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Shares`] unless the shares are ≥ 0 and sum to one.
    pub fn combined(&self, shares: &[f64]) -> Result<Spectral<T, D>> {
        expect_shares(shares, self.scales.len())?;
        Ok(self.spectral(shares, |sum| sum))
    }

    /// The operator (Σ_i share_i K_i + ε)⁻¹ with ε relative to the largest multiplier, which is one:
    /// the metric's regularised inverse, to precondition with. On a free grid it is an approximation,
    /// symmetric and positive all the same.
    ///
    /// # Errors
    /// Those of [`GaussianBank::combined`], and [`Error::Setting`] unless ε is finite and positive.
    pub fn regularised_inverse(&self, shares: &[f64], epsilon: f64) -> Result<Spectral<T, D>> {
        expect_shares(shares, self.scales.len())?;
        crate::error::positive("epsilon of the inverse metric", epsilon)?;
        Ok(self.spectral(shares, |sum| 1.0 / (sum + epsilon)))
    }

    fn spectral(&self, shares: &[f64], f: impl Fn(f64) -> f64) -> Spectral<T, D> {
        let spacing = self.grid.spacing();
        let largest = self.scales.last().map_or(0.0, Gaussian::sigma);
        // A Gaussian is a product over the axes: its multipliers are computed along each axis only.
        let along = |a: usize, omega: &[f64]| -> Vec<Vec<f64>> {
            let of = |g: &Gaussian<T, D>| {
                omega.iter().map(|&w| multiplier(g.sigma / spacing[a], w)).collect()
            };
            self.scales.iter().map(of).collect()
        };
        Spectral::new(&self.grid, largest, along, |gains, k| {
            f(shares.iter().enumerate().fold(0.0, |sum, (i, share)| {
                sum + share * (0..D).map(|a| gains[a][i][k[a]]).product::<f64>()
            }))
        })
    }
}

/// Tolerance for shares that must sum to one: four digits typed by hand, e.g. three times 0.3333.
pub(crate) const SHARES: f64 = 1e-3;

/// `Ok` if there is one non-negative share a Gaussian and they sum to one.
pub(crate) fn expect_shares(shares: &[f64], gaussians: usize) -> Result<()> {
    if shares.len() != gaussians {
        let (expected, found) = (gaussians, shares.len());
        return Err(Error::Length { what: "shares of the Gaussians", expected, found });
    }
    if let Some(share) = shares.iter().find(|&&share| !(share >= 0.0 && share.is_finite())) {
        return Err(Error::setting("share of a Gaussian", "a finite number ≥ 0", share));
    }
    let found = shares.iter().fold(0.0, |sum, share| sum + share);
    if (found - 1.0).abs() > SHARES {
        let what = "shares of the Gaussians";
        return Err(Error::Shares { what, tolerance: SHARES, found });
    }
    Ok(())
}

/// `Ok` if there is a σ, and all are positive and increase strictly.
pub(crate) fn expect_increasing(sigmas: &[f64]) -> Result<()> {
    if sigmas.is_empty() {
        return Err(Error::Length { what: "σ of the Gaussians", expected: 1, found: 0 });
    }
    for (index, &sigma) in sigmas.iter().enumerate() {
        positive("σ of a Gaussian", sigma)?;
        if index > 0 && sigma <= sigmas[index - 1] {
            return Err(Error::SigmaOrder { index, found: sigma, previous: sigmas[index - 1] });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Boundary;
    use crate::testing::{check_positive, check_symmetric};

    #[test]
    fn banks_are_symmetric_and_positive_at_every_boundary() {
        for boundary in Boundary::ALL {
            let grid = Grid::new([5, 4, 7], [1.0, 1.5, 0.7]).unwrap().with_boundary(boundary);
            let bank = GaussianBank::<f64, 3>::new(&grid, &[0.8, 1.6, 4.0]).unwrap();
            for g in bank.scales() {
                check_symmetric(g, grid.len(), 1e-14);
                check_positive(g, grid.len(), 1e-14);
            }
            let sum = bank.combined(&[0.2, 0.3, 0.5]).unwrap();
            check_symmetric(&sum, grid.len(), 1e-14);
            check_positive(&sum, grid.len(), 1e-14);
            let inverse = bank.regularised_inverse(&[0.2, 0.3, 0.5], 1e-3).unwrap();
            check_symmetric(&inverse, grid.len(), 1e-10);
            check_positive(&inverse, grid.len(), 1e-10);
        }
    }

    /// Sampled Gaussians of unit mass, mirrored, repeated or cut at the border, summed directly.
    fn oracle(grid: &Grid<2>, sigma: f64, input: &[f64]) -> Vec<f64> {
        let axis = |a: usize| {
            let (n, h) = (grid.shape()[a].cast_signed(), grid.spacing()[a]);
            let g = |d: isize| (-0.5 * (d as f64 * h / sigma).powi(2)).exp();
            let mass: f64 = (-200..=200).map(g).sum();
            let folds = |j: isize, k: isize| match grid.boundary() {
                Boundary::Periodic => vec![j + k * n],
                Boundary::Reflecting => vec![j + 2 * k * n, 2 * k * n - 1 - j],
                Boundary::Free => {
                    if k == 0 {
                        vec![j]
                    } else {
                        vec![]
                    }
                }
            };
            (0..n)
                .map(|i| {
                    (0..n)
                        .map(|j| {
                            (-12..=12).flat_map(|k| folds(j, k)).map(|j| g(i - j)).sum::<f64>()
                                / mass
                        })
                        .collect::<Vec<_>>()
                })
                .collect::<Vec<_>>()
        };
        let (x, y) = (axis(0), axis(1));
        let [n, m] = grid.shape();
        let at = |i: usize, j: usize| -> f64 {
            (0..n).map(|k| (0..m).map(|l| x[i][k] * y[j][l] * input[k * m + l]).sum::<f64>()).sum()
        };
        (0..n * m).map(|f| at(f / m, f % m)).collect()
    }

    #[test]
    fn smoothing_equals_the_direct_sum_without_wrap_around() {
        for boundary in Boundary::ALL {
            let grid = Grid::new([9, 12], [1.0, 0.5]).unwrap().with_boundary(boundary);
            let input: Vec<f64> = crate::testing::random(108, 3);
            for sigma in [0.6, 1.3, 3.0] {
                let mut out = vec![f64::NAN; 108];
                let mut ws = Workspace::new();
                Gaussian::new(&grid, sigma).unwrap().apply(&input, &mut out, &mut ws);
                let expected = oracle(&grid, sigma, &input);
                for (a, b) in out.iter().zip(&expected) {
                    // Free grids cut the kernel at 7σ, where it is 2e-11 of its peak.
                    assert!((a - b).abs() < 1e-10, "{boundary:?} σ = {sigma}: {a} {b}");
                }
                let bank = GaussianBank::new(&grid, &[sigma]).unwrap();
                let mut one = vec![f64::NAN; 108];
                bank.combined(&[1.0]).unwrap().apply(&input, &mut one, &mut ws);
                for (a, b) in out.iter().zip(&one) {
                    assert!((a - b).abs() < 1e-13, "separable and joint paths agree to rounding");
                }
            }
        }
    }

    #[test]
    fn bad_banks_are_refused() {
        let grid = Grid::new([8, 8], [1.0, 2.0]).unwrap();
        let bank = |sigmas: &[f64]| GaussianBank::<f32, 2>::new(&grid, sigmas);
        assert!(matches!(bank(&[]), Err(Error::Length { .. })));
        assert!(matches!(bank(&[0.9]), Err(Error::Sigma { index: 0, .. })));
        assert!(matches!(bank(&[2.0, 17.0]), Err(Error::Sigma { index: 1, .. })));
        assert!(matches!(bank(&[f64::NAN]), Err(Error::Sigma { .. })));
        assert!(matches!(bank(&[2.0, 2.0]), Err(Error::SigmaOrder { index: 1, .. })));
        let good = bank(&[1.0, 2.0]).unwrap();
        assert!(matches!(good.combined(&[1.0]), Err(Error::Length { .. })));
        assert!(matches!(good.combined(&[0.7, 0.7]), Err(Error::Shares { .. })));
        assert!(matches!(good.combined(&[1.5, -0.5]), Err(Error::Setting { .. })));
    }
}
