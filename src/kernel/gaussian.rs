//! Unit-mass Gaussians and banks of them.

use std::sync::Arc;

use nalgebra::SMatrix;
use rustfft::FftPlanner;

use super::anisotropic::{Covariance, Spectrum};
use super::axis::Axis;
use super::engine::Engine;
use super::transform::{Lattice, Transform};
use super::{Half, Kernel, Scratch, Spectral, Workspace};
use crate::error::{Error, Result, positive};
use crate::grid::{Boundary, Grid, MAX_VOXELS};
use crate::scalar::Real;

/// σ beyond the border of a free grid after which a Gaussian is cut: exp(−7²/2) = 2e-11 of its peak.
const FREE_REACH: f64 = 7.0;

/// The largest tolerance: with a larger one a Gaussian would lose its shape.
const LARGEST_TOLERANCE: f64 = 0.01;

/// Voxels of the longest axis that is a matrix.
const LONGEST: usize = 1024;

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

/// Convolution with one Gaussian of unit mass.
///
/// Symmetric and positive at every [`Boundary`]: periodic; reflecting, in the cosine basis; free, by zero
/// padding. A reflecting or periodic Gaussian keeps the integral of a field, a free one loses what leaves
/// the grid.
///
/// | covariance | boundary | cost a component |
/// | --- | --- | --- |
/// | σ², or a diagonal matrix | each | D products with a matrix, or D Fourier filters |
/// | with correlated axes | periodic, free | 2 D Fourier transforms |
///
/// Along an axis of n voxels a value takes about min(10 σ, n / 2, 2 n / σ) multiplications in `f32`, σ in
/// voxels, and half of the last on a reflecting axis whose n is a multiple of four; to make the matrices takes
/// O(n²) once. See [`Gaussian::with_tolerance`].
#[derive(Clone, Debug)]
pub struct Gaussian<T, const D: usize> {
    covariance: Covariance<D>,
    grid: Grid<D>,
    operator: Operator<T, D>,
}

/// How a Gaussian is applied.
#[derive(Clone, Debug)]
enum Operator<T, const D: usize> {
    /// A product of matrices along the axes.
    Products(Engine<T>),
    /// A product of Gaussians along the axes: one filter an axis.
    Separable([(Arc<Transform<T>>, Vec<T>); D]),
    /// One multiplier of all axes together.
    Joint(Spectral<T, D>),
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
        Self::planned(grid, isotropic(sigma)?, rounding::<T>(), &mut FftPlanner::new())
    }

    /// A Gaussian of this covariance on `grid`.
    ///
    /// A reflecting border takes axes without correlation only. A mirrored Gaussian at an angle is another
    /// Gaussian, so that smoothing the mirrored field would not be symmetric as a matrix.
    ///
    /// # Errors
    /// [`Error::Sigma`] where a principal standard deviation is below half the coarsest spacing or above the
    /// largest extent; [`Error::Setting`] for correlated axes on a reflecting grid; [`Error::OutOfMemory`] as
    /// for [`Gaussian::new`].
    ///
    /// ```
    /// use rdmm_core::grid::{Boundary, Grid};
    /// use rdmm_core::kernel::{Covariance, Gaussian};
    /// let fibre = Covariance::along([2.0, 1.0], 4.0, 1.0)?;
    /// let grid = Grid::new([32, 24], [1.0, 1.0])?;
    /// assert!(Gaussian::<f64, 2>::anisotropic(&grid, fibre).is_err()); // reflecting
    /// let gaussian = Gaussian::<f64, 2>::anisotropic(&grid.with_boundary(Boundary::Free), fibre)?;
    /// assert!((gaussian.sigma() - 8.5_f64.sqrt()).abs() < 1e-12);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn anisotropic(grid: &Grid<D>, covariance: Covariance<D>) -> Result<Self> {
        covariance.expect_on(grid, 0)?;
        Self::planned(grid, covariance, rounding::<T>(), &mut FftPlanner::new())
    }

    /// The same Gaussian, accurate to `tolerance` of its largest multiplier, which is one: the norm of the
    /// difference to the exact operator, on each axis. It stays symmetric and positive, and keeps constants
    /// where it did. The default is eight units of rounding, 1e-6 in `f32` and 2e-15 in `f64`. With zero every
    /// multiplier is applied by Fourier transforms, the reference for the others.
    ///
    /// # Errors
    /// [`Error::Setting`] unless the tolerance is from 0 to 0.01.
    ///
    /// ```
    /// use rdmm_core::{field::Image, grid::Grid, kernel::{Gaussian, Kernel}, testing::random};
    /// let grid = Grid::new([24, 20], [1.0, 1.0])?;
    /// let image = Image::<f64, 2>::from_vec(&grid, random(grid.len(), 1))?;
    /// let reference = Gaussian::new(&grid, 2.0)?.with_tolerance(0.0)?.smooth(&image)?;
    /// let close = Gaussian::new(&grid, 2.0)?.with_tolerance(1e-4)?.smooth(&image)?;
    /// let off = |(a, b): (&f64, &f64)| (a - b).abs();
    /// let largest = close.data().iter().zip(reference.data()).map(off).fold(0.0, f64::max);
    /// assert!(largest > 0.0 && largest < 1e-4);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn with_tolerance(self, tolerance: f64) -> Result<Self> {
        expect_tolerance(tolerance)?;
        Self::planned(&self.grid, self.covariance, tolerance, &mut FftPlanner::new())
    }

    fn planned(
        grid: &Grid<D>,
        covariance: Covariance<D>,
        tolerance: f64,
        planner: &mut FftPlanner<T>,
    ) -> Result<Self> {
        let (sigmas, correlation) = (covariance.axis_sigmas(), covariance.correlation());
        expect_padding::<T, D>(grid, sigmas)?;
        if correlation > 0.0 && grid.boundary() == Boundary::Reflecting {
            return Err(Error::setting(
                "correlation of two axes in the covariance of a Gaussian",
                "0 on a reflecting grid: take `Boundary::Free` or `Boundary::Periodic`",
                correlation,
            ));
        }
        let operator = if correlation > 0.0 {
            let spectrum = Spectrum::new(grid, &covariance);
            Operator::Joint(Spectral::tilted(grid, sigmas, |omega| spectrum.at(omega)))
        } else if let Some(engine) = products(grid, sigmas, tolerance) {
            Operator::Products(engine)
        } else {
            Operator::Separable(std::array::from_fn(|a| {
                let voxels = sigmas[a] / grid.spacing()[a];
                let transform =
                    Transform::new(planner, grid.shape()[a], grid.boundary(), padding(voxels));
                let omega = transform.frequencies();
                let gain = omega.iter().map(|&w| T::of(multiplier(voxels, w))).collect();
                (Arc::new(transform), gain)
            }))
        };
        Ok(Self { covariance, grid: grid.clone(), operator })
    }

    /// Standard deviation in physical units; with a covariance, the root mean square √(tr Σ / D) of the
    /// principal ones.
    #[must_use]
    pub fn sigma(&self) -> f64 {
        self.covariance.sigma()
    }

    /// The covariance, σ² on the diagonal for an isotropic Gaussian.
    #[must_use]
    pub fn covariance(&self) -> &Covariance<D> {
        &self.covariance
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
        let axes = match &self.operator {
            Operator::Joint(spectral) => return spectral.apply(input, out, ws),
            Operator::Products(engine) => {
                return engine.apply(input, out, &mut ws.fields, &mut ws.parts);
            }
            Operator::Separable(axes) => axes,
        };
        let mut fields = ws.fields.each_mut().map(|field| field.grown(n));
        let slots = &mut ws.slots;
        for (input, out) in input.chunks(n).zip(out.chunks_mut(n)) {
            for (a, (transform, gain)) in axes.iter().enumerate() {
                let [even, odd] = &mut fields;
                let (from, to) = if a % 2 == 0 { (odd, even) } else { (even, odd) };
                let from = if a == 0 { input } else { &from[..n] };
                let to = if a + 1 == D { &mut *out } else { &mut to[..n] };
                transform.filter(gain, from, to, slots);
            }
        }
    }

    fn apply_products(&self, terms: &[(&[T], &[T])], out: &mut [T], ws: &mut Workspace<T>) {
        let Operator::Products(engine) = &self.operator else {
            return super::sum_and_apply(self, terms, out, ws);
        };
        if super::products_fit(self.grid.len(), terms, out) {
            engine.apply_products(terms, out, &mut ws.fields, &mut ws.parts);
        }
    }

    fn begin_products(&self, terms: &[(&[T], &[T])], half: &mut Half<T>, ws: &mut Workspace<T>) {
        let Operator::Products(engine) = &self.operator else {
            return super::begin_and_finish(self, terms, half, ws);
        };
        let (n, len) = (self.grid.len(), terms.first().map_or(0, |(_, input)| input.len()));
        let components = if super::terms_fit(n, terms, len) { len / n } else { 0 };
        let half = half.grown(engine.half(), components);
        engine.begin_products(terms, half, &mut ws.fields[0], &mut ws.parts);
    }

    fn finish(
        &self,
        half: &Half<T>,
        component: usize,
        lo: usize,
        out: &mut [T],
        Scratch(slot): &mut Scratch<T>,
    ) {
        let Operator::Products(engine) = &self.operator else {
            return half.copy(component, lo, out);
        };
        let (values, slab) = (half.component(component), engine.slab());
        let slabs = lo.is_multiple_of(slab) && out.len().is_multiple_of(slab);
        let left = self.grid.len().checked_sub(lo);
        if values.len() == engine.half() && slabs && left.is_some_and(|left| out.len() <= left) {
            engine.finish(values, lo, out, slot);
        } else {
            out.fill(T::nan());
        }
    }

    fn shape(&self) -> Option<Vec<usize>> {
        Some(self.grid.shape().to_vec())
    }
}

/// What rounding leaves of a sum: eight units in the last place of one.
pub(super) fn rounding<T: Real>() -> f64 {
    8.0 * T::epsilon().f64()
}

/// A tolerance for Gaussians whose exact shape nobody asks for: a thousand units in the last place of one.
pub(crate) fn thousand_units<T: Real>() -> f64 {
    1000.0 * T::epsilon().f64()
}

/// `Ok` for a tolerance that still leaves a Gaussian.
pub(crate) fn expect_tolerance(tolerance: f64) -> Result<()> {
    if (0.0..=LARGEST_TOLERANCE).contains(&tolerance) {
        Ok(())
    } else {
        Err(Error::setting("tolerance of a Gaussian", "a number from 0 to 0.01", tolerance))
    }
}

/// Whether operators of this tolerance are products of matrices on a grid.
fn fits_products<const D: usize>(grid: &Grid<D>, tolerance: f64) -> bool {
    tolerance > 0.0 && grid.shape().into_iter().all(|n| n <= LONGEST)
}

/// The matrices of a Gaussian with these σ along the axes; none where the tolerance is zero, or where Fourier
/// transforms cost less.
fn products<T: Real, const D: usize>(
    grid: &Grid<D>,
    sigmas: [f64; D],
    tolerance: f64,
) -> Option<Engine<T>> {
    if !fits_products(grid, tolerance) {
        return None;
    }
    let voxels = |a: usize| sigmas[a] / grid.spacing()[a];
    let lattice = |a: usize| Lattice::new(grid.shape()[a], grid.boundary(), padding(voxels(a)));
    let axis = |a: usize| Axis::both(lattice(a), voxels(a), tolerance, a > 0 && a + 1 == D);
    let engine = Engine::cheapest(&(0..D).map(axis).collect::<Vec<_>>());
    let transforms = (0..D).map(|a| lattice(a).filter_cost()).sum();
    (engine.cost() <= transforms).then_some(engine)
}

/// σ² on the diagonal, for a σ that was checked against a grid.
fn isotropic<const D: usize>(sigma: f64) -> Result<Covariance<D>> {
    Covariance::new(SMatrix::identity() * (sigma * sigma))
}

/// `Ok` if the spectrum of a free grid, padded for these σ along its axes, can be indexed.
fn expect_padding<T, const D: usize>(grid: &Grid<D>, sigmas: [f64; D]) -> Result<()> {
    if grid.boundary() != Boundary::Free {
        return Ok(());
    }
    let padded = |a: usize| grid.shape()[a].saturating_add(padding(sigmas[a] / grid.spacing()[a]));
    // Lengths grow by a factor under two to one that the FFT likes.
    let len = (0..D).fold(1usize, |len, a| len.saturating_mul(padded(a).saturating_mul(2)));
    if len >> D > MAX_VOXELS {
        return Err(Error::OutOfMemory { bytes: len.saturating_mul(size_of::<T>()) });
    }
    Ok(())
}

/// `Ok` if a Gaussian of `sigma` lives on `grid`.
pub(super) fn expect_sigma<const D: usize>(grid: &Grid<D>, index: usize, sigma: f64) -> Result<()> {
    let (min, max) = (0.5 * grid.coarsest_spacing(), grid.largest_extent());
    // Rounding of physical units must not refuse a σ that is exactly half a voxel.
    if sigma >= min * (1.0 - 1e-9) && sigma <= max * (1.0 + 1e-9) {
        Ok(())
    } else {
        Err(Error::Sigma { index, found: sigma, min, max })
    }
}

/// Gaussians on one grid, with shared FFT plans: σ₀ < … < σ_{N−1}, or one covariance each.
#[derive(Clone, Debug)]
pub struct GaussianBank<T, const D: usize> {
    grid: Grid<D>,
    tolerance: f64,
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
        }
        let covariances: Result<Vec<_>> = sigmas.iter().map(|&sigma| isotropic(sigma)).collect();
        Self::planned(grid, &covariances?, rounding::<T>())
    }

    /// The bank of these covariances, in any order.
    ///
    /// # Errors
    /// [`Error::Length`] for an empty list; those of [`Gaussian::anisotropic`].
    ///
    /// ```
    /// use rdmm_core::grid::{Boundary, Grid};
    /// use rdmm_core::kernel::{Covariance, GaussianBank};
    /// use rdmm_core::testing::{check_positive, check_symmetric};
    /// let grid = Grid::new([16, 12], [1.0, 1.0])?.with_boundary(Boundary::Free);
    /// let scales = [Covariance::along([1.0, 1.0], 3.0, 1.0)?, Covariance::isotropic(4.0)?];
    /// let sum = GaussianBank::<f64, 2>::anisotropic(&grid, &scales)?.combined(&[0.4, 0.6])?;
    /// check_symmetric(&sum, grid.len(), 1e-13);
    /// check_positive(&sum, grid.len(), 1e-13);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn anisotropic(grid: &Grid<D>, covariances: &[Covariance<D>]) -> Result<Self> {
        if covariances.is_empty() {
            return Err(Error::Length { what: "covariances of a bank", expected: 1, found: 0 });
        }
        for (index, covariance) in covariances.iter().enumerate() {
            covariance.expect_on(grid, index)?;
        }
        Self::planned(grid, covariances, rounding::<T>())
    }

    /// The same bank with another tolerance: that of its Gaussians, see [`Gaussian::with_tolerance`], and of
    /// their sum.
    ///
    /// # Errors
    /// [`Error::Setting`] unless the tolerance is from 0 to 0.01.
    pub fn with_tolerance(self, tolerance: f64) -> Result<Self> {
        expect_tolerance(tolerance)?;
        let covariances: Vec<_> = self.scales.iter().map(|g| g.covariance).collect();
        Self::planned(&self.grid, &covariances, tolerance)
    }

    fn planned(grid: &Grid<D>, covariances: &[Covariance<D>], tolerance: f64) -> Result<Self> {
        let mut planner = FftPlanner::new();
        let gaussian = |&c: &Covariance<D>| Gaussian::planned(grid, c, tolerance, &mut planner);
        let scales = covariances.iter().map(gaussian).collect::<Result<_>>()?;
        Ok(Self { grid: grid.clone(), tolerance, scales })
    }

    /// The grid.
    #[must_use]
    pub fn grid(&self) -> &Grid<D> {
        &self.grid
    }

    /// The Gaussians in the order in which they were given.
    #[must_use]
    pub fn scales(&self) -> &[Gaussian<T, D>] {
        &self.scales
    }

    /// The Gaussians themselves.
    #[must_use]
    pub fn into_scales(self) -> Vec<Gaussian<T, D>> {
        self.scales
    }

    /// Standard deviations, physical units: [`Gaussian::sigma`] of each.
    #[must_use]
    pub fn sigmas(&self) -> Vec<f64> {
        self.scales.iter().map(Gaussian::sigma).collect()
    }

    /// The one operator Σ_i share_i K_i: one pair of transforms, whatever the number of Gaussians, or each
    /// Gaussian for itself where that costs less.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Shares`] unless the shares are ≥ 0 and sum to one.
    pub fn combined(&self, shares: &[f64]) -> Result<Spectral<T, D>> {
        expect_shares(shares, self.scales.len())?;
        Ok(self.spectral(shares, self.tolerance, |sum| sum))
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
        // It does not fall off with the frequency: every multiplier counts.
        Ok(self.spectral(shares, 0.0, |sum| 1.0 / (sum + epsilon)))
    }

    /// The operator with the multipliers f(Σ_i share_i g_i), where a sum of g below `tolerance` may count as
    /// zero.
    fn spectral(
        &self,
        shares: &[f64],
        tolerance: f64,
        f: impl Fn(f64) -> f64 + Sync,
    ) -> Spectral<T, D> {
        let spacing = self.grid.spacing();
        let sigmas: Vec<[f64; D]> =
            self.scales.iter().map(|g| g.covariance.axis_sigmas()).collect();
        let reach = std::array::from_fn(|a| sigmas.iter().fold(0.0, |m, s| s[a].max(m)));
        if self.scales.iter().any(|g| matches!(g.operator, Operator::Joint(_))) {
            let spectra: Vec<_> =
                self.scales.iter().map(|g| Spectrum::new(&self.grid, &g.covariance)).collect();
            return Spectral::tilted(&self.grid, reach, |omega| {
                f(shares
                    .iter()
                    .zip(&spectra)
                    .fold(0.0, |sum, (share, g)| sum + share * g.at(omega)))
            });
        }
        // Without correlations a Gaussian is a product over the axes: its multipliers are computed along
        // each axis only.
        let along = |a: usize, omega: &[f64]| -> Vec<Vec<f64>> {
            let of =
                |s: &[f64; D]| omega.iter().map(|&w| multiplier(s[a] / spacing[a], w)).collect();
            sigmas.iter().map(of).collect()
        };
        let table = |gains: &[Vec<Vec<f64>>; D], k: [usize; D]| {
            f(shares.iter().enumerate().fold(0.0, |sum, (i, share)| {
                sum + share * (0..D).map(|a| gains[a][i][k[a]]).product::<f64>()
            }))
        };
        let keep = |a: usize, omega: f64| {
            let gains = along(a, &[omega]);
            shares.iter().zip(gains).map(|(share, g)| share * g[0]).sum::<f64>() > tolerance
        };
        if !fits_products(&self.grid, tolerance) {
            return Spectral::new(&self.grid, reach, along, table);
        }
        // Without transforms where each Gaussian for itself costs less.
        let parts = shares.iter().zip(&self.scales).filter(|(share, _)| **share > 0.0);
        let parts = parts.map(|(&share, gaussian)| match &gaussian.operator {
            Operator::Products(engine) => Some((T::of(share), engine.clone())),
            _ => None,
        });
        Spectral::cheapest(&self.grid, reach, keep, along, table, parts.collect())
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
    fn sums_of_products_are_smoothed_as_they_are_formed() {
        fn check<T: Real, const D: usize>(
            shape: [usize; D],
            sigma: f64,
            tolerance: f64,
            halves: &mut bool,
        ) {
            for boundary in Boundary::ALL {
                let grid = Grid::new(shape, [1.0; D]).unwrap().with_boundary(boundary);
                let n = grid.len();
                let random = |components: usize, seed: u64| -> Vec<T> {
                    crate::testing::random(components * n, seed)
                };
                let (v, w) = ([random(1, 1), random(1, 2)], [random(3, 3), random(3, 4)]);
                let gaussian = Gaussian::<T, D>::new(&grid, sigma).unwrap();
                let gaussian = gaussian.with_tolerance(tolerance).unwrap();
                let mut ws = Workspace::new();
                for count in 0..=2 {
                    let terms: Vec<(&[T], &[T])> =
                        v.iter().zip(&w).map(|(v, w)| (&v[..], &w[..])).take(count).collect();
                    let mut sum = vec![T::zero(); 3 * n];
                    for (weight, input) in &terms {
                        for (i, sum) in sum.iter_mut().enumerate() {
                            *sum += weight[i % n] * input[i];
                        }
                    }
                    let mut expected = vec![T::nan(); 3 * n];
                    gaussian.apply(&sum, &mut expected, &mut ws);
                    if let Operator::Products(engine) = &gaussian.operator {
                        *halves |= engine.half() < n;
                    }
                    for kernel in [&gaussian as &dyn Kernel<T>, &TwoSteps(&gaussian)] {
                        let mut found = vec![T::nan(); 3 * n];
                        kernel.apply_products(&terms, &mut found, &mut ws);
                        assert_eq!(found, expected, "{boundary:?} {shape:?} σ = {sigma}");
                        if count > 0 {
                            let found = in_halves(kernel, &terms, 3, n / shape[0]);
                            assert_eq!(found, expected, "{boundary:?} {shape:?} σ = {sigma}");
                        }
                    }
                }
                let mut out = vec![T::zero(); 3 * n];
                for terms in [[(&v[0][1..], &w[0][..])], [(&v[0][..], &w[0][1..])]] {
                    gaussian.apply_products(&terms, &mut out, &mut ws);
                    assert!(out.iter().all(|x| x.is_nan()), "lengths that do not fit");
                    out.fill(T::zero());
                }
            }
        }

        /// Begun at once, and finished by three slabs at a time.
        fn in_halves<T: Real>(
            kernel: &dyn Kernel<T>,
            terms: &[(&[T], &[T])],
            components: usize,
            slab: usize,
        ) -> Vec<T> {
            let (mut half, mut scratch) = (Half::new(), Scratch::default());
            // What it held before must not matter.
            kernel.begin_products(&[terms[0], terms[0]], &mut half, &mut Workspace::new());
            kernel.begin_products(terms, &mut half, &mut Workspace::new());
            let n = terms[0].0.len();
            let mut out = vec![T::nan(); components * n];
            for (c, out) in out.chunks_mut(n).enumerate() {
                for (k, out) in out.chunks_mut(3 * slab).enumerate() {
                    kernel.finish(&half, c, 3 * k * slab, out, &mut scratch);
                }
            }
            out
        }

        /// A kernel that knows nothing about products.
        struct TwoSteps<'a, K>(&'a K);

        impl<T: Real, K: Kernel<T>> Kernel<T> for TwoSteps<'_, K> {
            fn apply(&self, input: &[T], out: &mut [T], ws: &mut Workspace<T>) {
                self.0.apply(input, out, ws);
            }
        }

        for sigma in [0.8, 3.0] {
            let halves = &mut false;
            check::<f64, 1>([40], sigma, rounding::<f64>(), halves);
            check::<f32, 2>([37, 70], sigma, rounding::<f32>(), halves);
            check::<f64, 3>([9, 11, 20], sigma, 1e-6, halves);
            check::<f32, 3>([9, 20, 64], sigma, 1e-4, halves);
            check::<f64, 2>([9, 11], sigma, 0.0, halves);
            assert!(sigma < 3.0 || *halves, "some have a way back");
        }
    }

    #[test]
    fn what_was_not_begun_is_not_finished() {
        let grid = Grid::new([9, 20, 64], [1.0; 3]).unwrap();
        let (n, slab) = (grid.len(), 20 * 64);
        let (w, m) = (crate::testing::random::<f64>(n, 1), crate::testing::random(2 * n, 2));
        let gaussian = Gaussian::<f64, 3>::new(&grid, 3.0).unwrap().with_tolerance(1e-4).unwrap();
        let Operator::Products(engine) = &gaussian.operator else { panic!("products") };
        assert!(engine.half() < n, "it has a way back");
        let (mut half, mut ws) = (Half::new(), Workspace::new());
        let finished = |half: &Half<f64>, component: usize, lo: usize, len: usize| {
            let mut out = vec![0.0; len];
            gaussian.finish(half, component, lo, &mut out, &mut Scratch::default());
            let nan = out.iter().filter(|x| x.is_nan()).count();
            assert!(nan == 0 || nan == len, "all or nothing");
            nan == 0
        };
        assert!(!finished(&half, 0, 0, slab), "nothing was begun");
        gaussian.begin_products(&[(&w, &m)], &mut half, &mut ws);
        assert!(finished(&half, 1, 2 * slab, 7 * slab));
        assert!(!finished(&half, 2, 0, slab), "two components were begun");
        assert!(!finished(&half, 1, 2 * slab, 8 * slab), "there are nine slabs");
        assert!(!finished(&half, 0, 1, slab) && !finished(&half, 0, 0, 1), "whole slabs");
        assert!(!finished(&half, 0, usize::MAX - (usize::MAX % slab), slab), "far away");
        for terms in [[(&w[1..], &m[..])], [(&w[..], &m[1..])]] {
            gaussian.begin_products(&terms, &mut half, &mut ws);
            assert!(!finished(&half, 0, 0, slab), "lengths that do not fit");
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
