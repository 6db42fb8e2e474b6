//! Sums of Gaussians: the metric of the recipes.

use super::GaussianSpec;
use crate::error::{Result, positive};
use crate::grid::Grid;
use crate::kernel::gaussian::{expect_tolerance, expect_weights, thousand_units};
use crate::kernel::{Covariance, GaussianBank};
use crate::ops::difference::Order;
use crate::scalar::Real;

/// A sum of Gaussians Σ w_i² K_i, and how it is discretised. `S` says what the Gaussians are given by: a
/// standard deviation (`f64`) or a [`Covariance`].
///
/// ```
/// use rdmm_core::model::MultiGaussian;
/// let metric = MultiGaussian::new(&[2.0, 8.0], &[0.4, 0.6])?.with_border(10.0)?;
/// assert_eq!((metric.sigmas(), metric.border()), (&[2.0, 8.0][..], Some(10.0)));
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "StoredMultiGaussian<S>"))]
#[cfg_attr(feature = "serde", serde(bound(deserialize = "S: Clone + serde::Deserialize<'de>")))]
pub struct MultiGaussian<S = f64> {
    sigmas: Vec<S>,
    weights: Vec<f64>,
    order: Order,
    border: Option<f64>,
    tolerance: Option<f64>,
}

/// The accuracy of a model's Gaussians. A registration does not see errors of 1e-4 in its metric, and in `f32` they
/// save up to a tenth of its time.
pub(super) fn accuracy<T: Real>(asked: Option<f64>) -> f64 {
    asked.unwrap_or_else(thousand_units::<T>)
}

impl MultiGaussian {
    /// Gaussians with these standard deviations (physical units) and weights, fourth-order differences, no
    /// window.
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length) and [`Error::WeightSum`](crate::Error::WeightSum) where the
    /// weights do not fit. The σ are checked against each grid.
    pub fn new(sigmas: &[f64], weights: &[f64]) -> Result<Self> {
        Self::of(sigmas, weights)
    }

    /// The default metric for images on `grid`: four Gaussians of 2.5, 5, 10 and 20 % of the largest extent
    /// with weights .1, .3, .3, .3. On small grids all are larger by one factor, so that the smallest spans
    /// two voxels, but at most a tenth of the extent: narrower ones fold between voxels.
    #[must_use]
    pub fn for_grid<const D: usize>(grid: &Grid<D>) -> Self {
        let extent = grid.largest_extent();
        let smallest = (0.025 * extent).max(2.0 * grid.coarsest_spacing()).min(0.1 * extent);
        Self::growing(smallest, 2.0)
    }

    /// A metric for detail: four Gaussians with the weights of [`MultiGaussian::for_grid`]. The smallest spans two voxels of
    /// the coarsest spacing, but at most a tenth of the largest extent; each other one is wider than the one before by the
    /// same factor, so that the widest spans an eighth of that extent and at least eight times the smallest.
    ///
    /// Anatomy as fine as that of a brain needs it: the smallest Gaussian of [`MultiGaussian::for_grid`] follows the extent,
    /// however much of it is background. It costs map grids of twice the voxels, or Gaussians of one voxel there
    /// ([`Settings::sigma_voxels`](crate::registration::Settings::sigma_voxels)).
    ///
    /// ```
    /// use rdmm_core::{grid::Grid, model::MultiGaussian};
    /// let metric = MultiGaussian::fine(&Grid::new([128, 128], [0.5, 0.5])?);
    /// assert_eq!(metric.sigmas(), [1.0, 2.0, 4.0, 8.0]);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    #[must_use]
    pub fn fine<const D: usize>(grid: &Grid<D>) -> Self {
        let extent = grid.largest_extent();
        let smallest = (2.0 * grid.coarsest_spacing()).min(0.1 * extent);
        Self::growing(smallest, (0.125 * extent / smallest).max(8.0).cbrt())
    }

    /// Four Gaussians, each `factor` times as wide as the one before.
    fn growing(smallest: f64, factor: f64) -> Self {
        Self {
            sigmas: [0, 1, 2, 3].map(|k| smallest * factor.powi(k)).to_vec(),
            weights: vec![0.1, 0.3, 0.3, 0.3],
            order: Order::default(),
            border: None,
            tolerance: None,
        }
    }
}

impl<const D: usize> MultiGaussian<Covariance<D>> {
    /// Gaussians with these covariances and weights, in any order, fourth-order differences, no window. Correlated
    /// axes need a periodic or free grid, see [`Gaussian::anisotropic`](crate::kernel::Gaussian::anisotropic).
    ///
    /// # Errors
    /// Those of [`MultiGaussian::new`].
    pub fn anisotropic(covariances: &[Covariance<D>], weights: &[f64]) -> Result<Self> {
        Self::of(covariances, weights)
    }
}

impl<S: Clone> MultiGaussian<S> {
    fn of(sigmas: &[S], weights: &[f64]) -> Result<Self> {
        expect_weights(weights, sigmas.len())?;
        let (sigmas, weights) = (sigmas.to_vec(), weights.to_vec());
        Ok(Self { sigmas, weights, order: Order::default(), border: None, tolerance: None })
    }

    /// The same with central differences of this order; of the fourth by default.
    #[must_use]
    pub fn with_order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// The same with a window b of this width, in physical units, that makes the velocity vanish on the border
    /// by v = b K (b m); no window by default.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) unless the width is finite and positive.
    pub fn with_border(mut self, width: f64) -> Result<Self> {
        self.border = Some(positive(BORDER, width)?);
        Ok(self)
    }

    /// The same with Gaussians of this accuracy, relative to their largest multiplier, from 0 (Fourier filters)
    /// to 0.01; see [`Gaussian::with_tolerance`](crate::kernel::Gaussian::with_tolerance). A thousand units of
    /// rounding by default: 1.2e-4 in `f32`, 2.2e-13 in `f64`. Whatever it is, the operators are symmetric,
    /// positive and differentiated exactly; models agree with one another to it.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for another number.
    pub fn with_tolerance(mut self, tolerance: f64) -> Result<Self> {
        expect_tolerance(tolerance)?;
        self.tolerance = Some(tolerance);
        Ok(self)
    }

    /// Standard deviations, physical units, increasing; or covariances.
    #[must_use]
    pub fn sigmas(&self) -> &[S] {
        &self.sigmas
    }

    /// Weights w_i² of the Gaussians, ≥ 0, of sum one.
    #[must_use]
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Order of the central differences.
    #[must_use]
    pub fn order(&self) -> Order {
        self.order
    }

    /// Width of the border window, if there is one: [`MultiGaussian::with_border`].
    #[must_use]
    pub fn border(&self) -> Option<f64> {
        self.border
    }

    /// Accuracy of the Gaussians, if it was chosen: [`MultiGaussian::with_tolerance`].
    #[must_use]
    pub fn tolerance(&self) -> Option<f64> {
        self.tolerance
    }

    pub(super) fn bank<T: Real, const D: usize>(&self, grid: &Grid<D>) -> Result<GaussianBank<T, D>>
    where
        S: GaussianSpec<D>,
    {
        S::bank(grid, &self.sigmas)?.with_tolerance(accuracy::<T>(self.tolerance))
    }
}

/// How errors name the border window.
pub(super) const BORDER: &str = "width of the border window";

/// What is stored of a sum of Gaussians: checked when it is read.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(rename = "MultiGaussian")]
struct StoredMultiGaussian<S> {
    sigmas: Vec<S>,
    weights: Vec<f64>,
    order: Order,
    border: Option<f64>,
    tolerance: Option<f64>,
}

#[cfg(feature = "serde")]
impl<S: Clone> TryFrom<StoredMultiGaussian<S>> for MultiGaussian<S> {
    type Error = crate::Error;

    fn try_from(stored: StoredMultiGaussian<S>) -> Result<Self> {
        let mut metric = Self::of(&stored.sigmas, &stored.weights)?.with_order(stored.order);
        if let Some(width) = stored.border {
            metric = metric.with_border(width)?;
        }
        if let Some(tolerance) = stored.tolerance {
            metric = metric.with_tolerance(tolerance)?;
        }
        Ok(metric)
    }
}
