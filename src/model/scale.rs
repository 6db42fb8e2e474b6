//! How a recipe describes a Gaussian.

use crate::error::{Error, Result};
use crate::field::{Image, Weights};
use crate::grid::Grid;
use crate::kernel::{Covariance, GaussianBank};
use crate::scalar::Real;

/// One Gaussian of a recipe, in physical units: its standard deviation (`f64`) or its [`Covariance`].
pub trait Scale<const D: usize>: Clone + Send + Sync {
    /// The Gaussians on a grid.
    ///
    /// # Errors
    /// Those of [`GaussianBank::new`] or [`GaussianBank::anisotropic`].
    fn bank<T: Real>(grid: &Grid<D>, scales: &[Self]) -> Result<GaussianBank<T, D>>;

    /// The smallest standard deviation in any direction: grids are kept fine enough for it.
    fn smallest_sigma(&self) -> f64;

    /// The one σ that stands for the Gaussian in the penalties of weights.
    fn sigma(&self) -> f64;
}

impl<const D: usize> Scale<D> for f64 {
    fn bank<T: Real>(grid: &Grid<D>, scales: &[Self]) -> Result<GaussianBank<T, D>> {
        GaussianBank::new(grid, scales)
    }

    fn smallest_sigma(&self) -> f64 {
        *self
    }

    fn sigma(&self) -> f64 {
        *self
    }
}

impl<const D: usize> Scale<D> for Covariance<D> {
    fn bank<T: Real>(grid: &Grid<D>, scales: &[Self]) -> Result<GaussianBank<T, D>> {
        GaussianBank::anisotropic(grid, scales)
    }

    fn smallest_sigma(&self) -> f64 {
        self.smallest_sigma()
    }

    /// det(Σ)^(1/2D), so that elongation without a change of volume costs nothing.
    fn sigma(&self) -> f64 {
        self.volume_sigma()
    }
}

/// The smallest σ of a recipe, or infinity for an empty list, which banks refuse.
pub(super) fn smallest<const D: usize>(scales: &[impl Scale<D>]) -> f64 {
    scales.iter().map(Scale::smallest_sigma).fold(f64::INFINITY, f64::min)
}

/// Local standard deviation √(Σ w_i² σ_i²) of a regulariser, in the unit of `sigmas`, from its weights w_i: one
/// component a Gaussian, as [`Shooting::weights`](super::Shooting::weights) gives them. An image on their grid; one
/// pass over the weights.
///
/// # Errors
/// [`Error::Length`] unless there is a component a σ; [`Error::OutOfMemory`].
///
/// ```
/// use rdmm_core::{field::Weights, grid::Grid, model::local_sigma};
/// let grid = Grid::new([4, 4], [1.0, 1.0])?;
/// let weights = Weights::<f64, 2>::from_fn(&grid, 2, |_, i| [0.6, 0.8][i])?;
/// let sigma = local_sigma(&[3.0, 4.0], &weights)?;
/// assert!((sigma.data()[0].powi(2) - (0.36 * 9.0 + 0.64 * 16.0)).abs() < 1e-14);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
pub fn local_sigma<T: Real, const D: usize>(
    sigmas: &[f64],
    weights: &Weights<T, D>,
) -> Result<Image<T, D>> {
    let (expected, found) = (sigmas.len(), weights.components());
    if expected != found {
        return Err(Error::Length { what: "weights of the Gaussians", expected, found });
    }
    let mut out = Image::zeros(weights.grid())?;
    for (i, sigma) in sigmas.iter().enumerate() {
        let square = T::of(sigma * sigma);
        for (s, &w) in out.data_mut().iter_mut().zip(weights.component(i)) {
            *s += w * w * square;
        }
    }
    out.data_mut().iter_mut().for_each(|s: &mut T| *s = s.sqrt());
    Ok(out)
}

/// The weights √share, the same at every voxel.
pub(super) fn uniform_weights<T: Real, const D: usize>(
    grid: &Grid<D>,
    shares: &[f64],
) -> Result<Weights<T, D>> {
    let mut weights = Weights::zeros_with(grid, shares.len())?;
    for (i, share) in shares.iter().enumerate() {
        weights.component_mut(i).fill(T::of(share.sqrt()));
    }
    Ok(weights)
}
