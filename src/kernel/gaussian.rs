//! Gaussians of unit mass.

use nalgebra::SMatrix;

use super::apply::compiled::planner;
use super::apply::domain::Domain;
use super::apply::plan::{Planned, expect_profile};
use super::apply::profile::Profile;
use super::covariance::Covariance;
use super::traits::{Kernel, SlabKernel};
use super::workspace::Workspace;
use crate::error::{Error, Result, positive};
use crate::grid::{Boundary, Grid};
use crate::scalar::Real;

/// The largest tolerance: with a larger one a Gaussian would lose its shape.
const LARGEST_TOLERANCE: f64 = 0.01;

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
    operator: Planned<T>,
}

/// σ in voxels of a Gaussian that is none: its multipliers are 1 to π² σ²/2 = 5e-16.
const NARROW: f64 = 1e-8;

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
    #[inline(never)]
    pub fn new(grid: &Grid<D>, sigma: f64) -> Result<Self> {
        expect_sigma(grid, 0, sigma)?;
        Self::planned(grid, isotropic(sigma)?, rounding::<T>())
    }

    /// The Gaussian of standard deviation `sigma` (physical units) that smooths the weights of a metric on `grid`:
    /// weights do not vanish outside, so that on a free grid it is the one with a reflecting border
    /// ([`Boundary::of_weights`]). [`Mixture`](crate::metric::Mixture) takes no other.
    ///
    /// # Errors
    /// Those of [`Gaussian::new`].
    ///
    /// ```
    /// use rdmm_core::{grid::{Boundary, Grid}, kernel::Gaussian};
    /// let grid = Grid::new([16, 16], [1.0, 1.0])?.with_boundary(Boundary::Free);
    /// let smoothing = Gaussian::<f32, 2>::for_weights(&grid, 2.0)?;
    /// assert_eq!(smoothing.grid().boundary(), Boundary::Reflecting);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn for_weights(grid: &Grid<D>, sigma: f64) -> Result<Self> {
        Self::new(&grid.clone().with_boundary(grid.boundary().of_weights()), sigma)
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
    #[inline(never)]
    pub fn anisotropic(grid: &Grid<D>, covariance: Covariance<D>) -> Result<Self> {
        expect_covariance(grid, 0, &covariance)?;
        Self::planned(grid, covariance, rounding::<T>())
    }

    /// A Gaussian along the axes of `grid`, of these standard deviations; none along an axis without one.
    ///
    /// # Errors
    /// [`Error::Sigma`] below half the spacing of its axis or above the extent of the grid; those of
    /// [`Gaussian::anisotropic`].
    pub(crate) fn along_axes(grid: &Grid<D>, sigmas: [Option<f64>; D]) -> Result<Self> {
        let mut matrix = SMatrix::zeros();
        for (a, sigma) in sigmas.into_iter().enumerate() {
            let h = grid.spacing()[a];
            matrix[(a, a)] = match sigma {
                None => (NARROW * h).powi(2),
                Some(sigma) => {
                    let (min, max) = (0.5 * h, grid.largest_extent());
                    if !(min..=max).contains(&sigma) {
                        return Err(Error::Sigma { index: a, found: sigma, min, max });
                    }
                    sigma * sigma
                }
            };
        }
        Self::planned(grid, Covariance::new(matrix)?, rounding::<T>())
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
    #[inline(never)]
    pub fn with_tolerance(self, tolerance: f64) -> Result<Self> {
        expect_tolerance(tolerance)?;
        Self::planned(&self.grid, self.covariance, tolerance)
    }

    fn planned(grid: &Grid<D>, covariance: Covariance<D>, tolerance: f64) -> Result<Self> {
        let domain = Domain::of(grid);
        let profile = profile::<T, D>(&domain, &covariance)?;
        let mut operators = planner::<T>().gaussians(&domain, &[profile], tolerance);
        Ok(Self::of(grid, covariance, operators.swap_remove(0)))
    }

    pub(super) fn of(grid: &Grid<D>, covariance: Covariance<D>, operator: Planned<T>) -> Self {
        Self { covariance, grid: grid.clone(), operator }
    }

    /// What applies it.
    pub(super) fn operator(&self) -> &Planned<T> {
        &self.operator
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
    #[inline(never)]
    fn apply(&self, input: &[T], out: &mut [T], ws: &mut Workspace<T>) {
        self.operator.apply(input, out, ws);
    }

    #[inline(never)]
    fn apply_products(&self, terms: &[(&[T], &[T])], out: &mut [T], ws: &mut Workspace<T>) {
        self.operator.apply_products(terms, out, ws);
    }

    fn shape(&self) -> Option<Vec<usize>> {
        Some(self.grid.shape().to_vec())
    }

    fn boundary(&self) -> Option<Boundary> {
        Some(self.grid.boundary())
    }

    fn by_slabs(&self) -> Option<&dyn SlabKernel<T>> {
        self.operator.by_slabs()
    }
}

/// A Gaussian in the voxels of its grid.
pub(super) fn profile<T, const D: usize>(
    domain: &Domain,
    covariance: &Covariance<D>,
) -> Result<Profile> {
    let correlation = covariance.correlation();
    let profile = covariance.profile(&domain.spacing, correlation > 0.0);
    expect_profile(domain, &profile, size_of::<T>())?;
    if correlation > 0.0 && domain.boundary == Boundary::Reflecting {
        return Err(Error::setting(
            "correlation of two axes in the covariance of a Gaussian",
            "0 on a reflecting grid: take `Boundary::Free` or `Boundary::Periodic`",
            correlation,
        ));
    }
    Ok(profile)
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

/// σ² on the diagonal, for a σ that was checked against a grid.
pub(super) fn isotropic<const D: usize>(sigma: f64) -> Result<Covariance<D>> {
    Covariance::new(SMatrix::identity() * (sigma * sigma))
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

/// `Ok` if `grid` resolves every principal standard deviation.
pub(super) fn expect_covariance<const D: usize>(
    grid: &Grid<D>,
    index: usize,
    covariance: &Covariance<D>,
) -> Result<()> {
    let mut sigmas = covariance.principal_sigmas().into_iter();
    sigmas.try_for_each(|sigma| expect_sigma(grid, index, sigma))
}

/// Tolerance for weights that must sum to one: four digits typed by hand, e.g. three times 0.3333.
pub(crate) const SUM_OF_WEIGHTS: f64 = 1e-3;

/// `Ok` if there is one non-negative weight a Gaussian and they sum to one.
pub(crate) fn expect_weights(squares: &[f64], gaussians: usize) -> Result<()> {
    if squares.len() != gaussians {
        let (expected, found) = (gaussians, squares.len());
        return Err(Error::Length { what: "weights of the Gaussians", expected, found });
    }
    if let Some(bad) = squares.iter().find(|&&square| !(square >= 0.0 && square.is_finite())) {
        return Err(Error::setting("weight of a Gaussian", "a finite number ≥ 0", bad));
    }
    let found = squares.iter().fold(0.0, |sum, square| sum + square);
    if (found - 1.0).abs() > SUM_OF_WEIGHTS {
        let what = "weights of the Gaussians";
        return Err(Error::WeightSum { what, tolerance: SUM_OF_WEIGHTS, found });
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
    use crate::kernel::GaussianBank;

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
    fn a_gaussian_for_weights_is_made_where_weights_live() {
        for boundary in Boundary::ALL {
            let grid = Grid::new([8, 9], [1.0, 0.5]).unwrap().with_boundary(boundary);
            let gaussian = Gaussian::<f64, 2>::for_weights(&grid, 1.5).unwrap();
            assert_eq!(gaussian.grid().boundary(), boundary.of_weights());
            let mut out = vec![f64::NAN; 72];
            gaussian.apply(&[0.7; 72], &mut out, &mut Workspace::new());
            // Rounding of two sums: weights that are the same everywhere stay.
            assert!(out.iter().all(|x| (x - 0.7).abs() < 1e-14), "{boundary:?}");
        }
    }
}
