//! Gaussians on one grid, their sums, and powers of these.

use super::apply::compiled::planner;
use super::apply::domain::Domain;
use super::apply::plan::Bank;
use super::covariance::Covariance;
use super::gaussian::{
    Gaussian, expect_covariance, expect_sigma, expect_tolerance, expect_weights, isotropic,
    profile, rounding,
};
use super::spectral::Spectral;
use crate::error::{Error, Result};
use crate::grid::Grid;
use crate::scalar::Real;

/// Gaussians on one grid, with shared FFT plans: σ₀ < … < σ_{N−1}, or one covariance each.
#[derive(Clone, Debug)]
pub struct GaussianBank<T, const D: usize> {
    grid: Grid<D>,
    tolerance: f64,
    gaussians: Vec<Gaussian<T, D>>,
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
    /// check_symmetric(&sum, grid.len(), 1e-13)?;
    /// check_positive(&sum, grid.len(), 1e-13)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn anisotropic(grid: &Grid<D>, covariances: &[Covariance<D>]) -> Result<Self> {
        if covariances.is_empty() {
            return Err(Error::Length { what: "covariances of a bank", expected: 1, found: 0 });
        }
        for (index, covariance) in covariances.iter().enumerate() {
            expect_covariance(grid, index, covariance)?;
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
        let covariances: Vec<_> = self.gaussians.iter().map(|g| *g.covariance()).collect();
        Self::planned(&self.grid, &covariances, tolerance)
    }

    fn planned(grid: &Grid<D>, covariances: &[Covariance<D>], tolerance: f64) -> Result<Self> {
        let domain = Domain::of(grid);
        let profiles: Result<Vec<_>> =
            covariances.iter().map(|covariance| profile::<T, D>(&domain, covariance)).collect();
        let operators = planner::<T>().gaussians(&domain, &profiles?, tolerance);
        let gaussians = covariances.iter().zip(operators);
        let gaussians =
            gaussians.map(|(&covariance, operator)| Gaussian::of(grid, covariance, operator));
        Ok(Self { grid: grid.clone(), tolerance, gaussians: gaussians.collect() })
    }

    /// The grid.
    #[must_use]
    pub fn grid(&self) -> &Grid<D> {
        &self.grid
    }

    /// The Gaussians in the order in which they were given.
    #[must_use]
    pub fn gaussians(&self) -> &[Gaussian<T, D>] {
        &self.gaussians
    }

    /// The Gaussians themselves.
    #[must_use]
    pub fn into_gaussians(self) -> Vec<Gaussian<T, D>> {
        self.gaussians
    }

    /// Standard deviations, physical units: [`Gaussian::sigma`] of each.
    #[must_use]
    pub fn sigmas(&self) -> Vec<f64> {
        self.gaussians.iter().map(Gaussian::sigma).collect()
    }

    /// The one operator Σ_i w_i² K_i: one pair of transforms, whatever the number of Gaussians, or each
    /// Gaussian for itself where that costs less.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::WeightSum`] unless the weights are ≥ 0 and sum to one.
    pub fn combined(&self, squares: &[f64]) -> Result<Spectral<T, D>> {
        expect_weights(squares, self.gaussians.len())?;
        self.spectral(squares, self.tolerance, &|sum| sum)
    }

    /// The operator (Σ_i w_i² K_i + ε)⁻¹ with ε relative to the largest multiplier, which is one:
    /// the metric's regularised inverse, to precondition with. [`GaussianBank::power`] with the exponent −1.
    ///
    /// # Errors
    /// Those of [`GaussianBank::combined`], and [`Error::Setting`] unless ε is finite and positive.
    pub fn regularised_inverse(&self, squares: &[f64], epsilon: f64) -> Result<Spectral<T, D>> {
        expect_weights(squares, self.gaussians.len())?;
        crate::error::positive("epsilon of the inverse metric", epsilon)?;
        self.power(squares, epsilon, -1.0)
    }

    /// The operator (Σ_i w_i² K_i + ε)^s for any real exponent s, with ε relative to the largest multiplier,
    /// which is one. It is symmetric and positive.
    ///
    /// Its multipliers are the powers of those of the sum: on a periodic or reflecting grid this is the power of the
    /// matrix, so that the square root twice is the sum, and s = ½ of independent noise has the covariance K + ε. On
    /// a free grid, where the matrix is cut from a larger one, it is an approximation. It does not fall off with the
    /// frequency, so that it takes Fourier transforms along every axis.
    ///
    /// # Errors
    /// Those of [`GaussianBank::combined`], and [`Error::Setting`] unless s is finite and ε finite and ≥ 0, positive
    /// for s < 0; for powers that leave the finite numbers.
    ///
    /// ```
    /// use rdmm_core::{field::Image, grid::Grid, kernel::{GaussianBank, Kernel}, testing::random};
    /// let grid = Grid::new([24, 20], [1.0, 1.0])?;
    /// let bank = GaussianBank::<f64, 2>::new(&grid, &[1.0, 3.0])?;
    /// let noise = Image::<f64, 2>::from_vec(&grid, random(grid.len(), 1))?;
    /// let (sum, root) = (bank.combined(&[0.3, 0.7])?, bank.power(&[0.3, 0.7], 0.0, 0.5)?);
    /// let (once, twice) = (sum.smooth(&noise)?, root.smooth(&root.smooth(&noise)?)?);
    /// assert!(once.data().iter().zip(twice.data()).all(|(a, b)| (a - b).abs() < 1e-13));
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn power(&self, squares: &[f64], epsilon: f64, exponent: f64) -> Result<Spectral<T, D>> {
        expect_weights(squares, self.gaussians.len())?;
        if !exponent.is_finite() {
            let expected = "a finite number";
            return Err(Error::setting("exponent of a metric", expected, exponent));
        }
        let least = if exponent < 0.0 { f64::MIN_POSITIVE } else { 0.0 };
        if !(epsilon.is_finite() && epsilon >= least) {
            let expected = "a finite number ≥ 0, and > 0 for a negative exponent";
            return Err(Error::setting("epsilon of the power of a metric", expected, epsilon));
        }
        // Powers are largest where the sum is one, or where it vanishes.
        let extreme = [epsilon, 1.0 + epsilon].map(|x| x.powf(exponent));
        if !extreme.iter().all(|x| T::of(*x).is_finite()) {
            let expected = "one for which (1 + ε)^s and ε^s are finite numbers of the type";
            return Err(Error::setting("exponent of a metric", expected, exponent));
        }
        // It does not fall off with the frequency: every multiplier counts.
        let inverse = exponent.to_bits() == (-1.0_f64).to_bits();
        if inverse {
            self.spectral(squares, 0.0, &|sum| 1.0 / (sum + epsilon))
        } else {
            self.spectral(squares, 0.0, &|sum| (sum + epsilon).powf(exponent))
        }
    }

    /// The operator with the multipliers f(Σ_i w_i² g_i), where a sum of g below `tolerance` may count as
    /// zero.
    fn spectral(
        &self,
        squares: &[f64],
        tolerance: f64,
        f: &(dyn Fn(f64) -> f64 + Sync),
    ) -> Result<Spectral<T, D>> {
        let domain = Domain::of(&self.grid);
        let profiles: Result<Vec<_>> =
            self.gaussians.iter().map(|g| profile::<T, D>(&domain, g.covariance())).collect();
        let operators: Vec<_> = self.gaussians.iter().map(|g| g.operator().clone()).collect();
        let bank = Bank { domain: &domain, profiles: &profiles?, operators: &operators };
        let operator = planner::<T>().sum(bank, squares, tolerance, f);
        Ok(Spectral::of(&self.grid, operator))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Boundary;
    use crate::kernel::{Kernel, Workspace};
    use crate::testing::{check_positive, check_symmetric, random};

    #[test]
    fn banks_are_symmetric_and_positive_at_every_boundary() {
        for boundary in Boundary::ALL {
            let grid = Grid::new([5, 4, 7], [1.0, 1.5, 0.7]).unwrap().with_boundary(boundary);
            let bank = GaussianBank::<f64, 3>::new(&grid, &[0.8, 1.6, 4.0]).unwrap();
            for g in bank.gaussians() {
                check_symmetric(g, grid.len(), 1e-14).unwrap();
                check_positive(g, grid.len(), 1e-14).unwrap();
            }
            let sum = bank.combined(&[0.2, 0.3, 0.5]).unwrap();
            check_symmetric(&sum, grid.len(), 1e-14).unwrap();
            check_positive(&sum, grid.len(), 1e-14).unwrap();
            let inverse = bank.regularised_inverse(&[0.2, 0.3, 0.5], 1e-3).unwrap();
            check_symmetric(&inverse, grid.len(), 1e-10).unwrap();
            check_positive(&inverse, grid.len(), 1e-10).unwrap();
        }
    }

    fn applied<T: Real, const D: usize>(kernel: &Spectral<T, D>, x: &[T]) -> Vec<T> {
        let mut out = vec![T::nan(); x.len()];
        kernel.apply(x, &mut out, &mut Workspace::new());
        out
    }

    #[test]
    fn powers_are_symmetric_and_positive_and_multiply() {
        for boundary in Boundary::ALL {
            let grid = Grid::new([9, 12], [1.0, 0.7]).unwrap().with_boundary(boundary);
            let bank = GaussianBank::<f64, 2>::new(&grid, &[0.8, 2.5]).unwrap();
            let (weights, epsilon) = ([0.4, 0.6], 1e-2);
            let power = |s: f64| bank.power(&weights, epsilon, s).unwrap();
            for s in [-1.5, -1.0, -0.5, 0.0, 0.3, 0.5, 1.0, 2.0] {
                // Up to ε^s = 1000 times what a multiplier of one gives.
                check_symmetric(&power(s), grid.len(), 1e-11).unwrap();
                check_positive(&power(s), grid.len(), 1e-11).unwrap();
            }
            let x: Vec<f64> = random(grid.len(), 5);
            let inverse = bank.regularised_inverse(&weights, epsilon).unwrap();
            assert_eq!(applied(&inverse, &x), applied(&power(-1.0), &x), "{boundary:?}");
            if boundary == Boundary::Free {
                continue;
            }
            let close = |a: &[f64], b: &[f64], what: &str| {
                for (a, b) in a.iter().zip(b) {
                    // Rounding, enlarged by 1/ε at most.
                    assert!((a - b).abs() < 1e-12, "{boundary:?} {what}: {a} {b}");
                }
            };
            let smooth = applied(&bank.combined(&weights).unwrap(), &x);
            let raised: Vec<f64> = smooth.iter().zip(&x).map(|(k, x)| k + epsilon * x).collect();
            close(&applied(&power(1.0), &x), &raised, "K + ε");
            let root = power(0.5);
            close(&applied(&root, &applied(&root, &x)), &raised, "the root twice");
            let back = applied(&power(-0.7), &applied(&power(0.7), &x));
            close(&back, &x, "a power and its inverse");
        }
    }

    #[test]
    fn powers_of_correlated_gaussians_multiply() {
        let grid = Grid::new([9, 12], [1.0, 0.7]).unwrap().with_boundary(Boundary::Periodic);
        let scales =
            [Covariance::along([1.0, 2.0], 2.5, 0.8).unwrap(), Covariance::isotropic(1.5).unwrap()];
        let bank = GaussianBank::<f64, 2>::anisotropic(&grid, &scales).unwrap();
        let root = bank.power(&[0.5, 0.5], 1e-2, 0.5).unwrap();
        check_symmetric(&root, grid.len(), 1e-13).unwrap();
        check_positive(&root, grid.len(), 1e-13).unwrap();
        let x: Vec<f64> = random(grid.len(), 5);
        let whole = applied(&bank.power(&[0.5, 0.5], 1e-2, 1.0).unwrap(), &x);
        for (a, b) in applied(&root, &applied(&root, &x)).iter().zip(whole) {
            assert!((a - b).abs() < 1e-13, "{a} {b}");
        }
    }

    #[test]
    fn bad_powers_are_refused() {
        let grid = Grid::new([8, 8], [1.0; 2]).unwrap();
        let bank = GaussianBank::<f32, 2>::new(&grid, &[1.0]).unwrap();
        let text = |epsilon: f64, s: f64| bank.power(&[1.0], epsilon, s).unwrap_err().to_string();
        assert!(text(1e-3, f64::NAN).contains("NaN"));
        assert!(text(1e-3, f64::INFINITY).contains("inf"));
        assert!(text(-1e-3, 0.5).contains("-0.001"));
        assert!(text(0.0, -0.5).contains("negative exponent"));
        assert!(text(1e-10, -5.0).contains("finite numbers of the type"), "1e50 is no f32");
        assert!(text(1e-3, 1e6).contains("finite numbers of the type"));
        assert!(bank.power(&[1.0], 0.0, 0.5).is_ok());
        assert!(bank.power(&[0.5], 0.1, 0.5).is_err());
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
        assert!(matches!(good.combined(&[0.7, 0.7]), Err(Error::WeightSum { .. })));
        assert!(matches!(good.combined(&[1.5, -0.5]), Err(Error::Setting { .. })));
    }
}
