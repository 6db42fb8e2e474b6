//! How a recipe describes a Gaussian.

use crate::error::Result;
use crate::field::Weights;
use crate::grid::Grid;
use crate::kernel::{Covariance, GaussianBank};
use crate::scalar::Real;

/// One Gaussian of a recipe, in physical units: its standard deviation (`f64`) or its [`Covariance`].
pub trait GaussianSpec<const D: usize>: Clone + Send + Sync {
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

impl<const D: usize> GaussianSpec<D> for f64 {
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

impl<const D: usize> GaussianSpec<D> for Covariance<D> {
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
pub(super) fn smallest<const D: usize>(scales: &[impl GaussianSpec<D>]) -> f64 {
    scales.iter().map(GaussianSpec::smallest_sigma).fold(f64::INFINITY, f64::min)
}

/// The weights w_i from their squares w_i², the same at every voxel.
pub(super) fn uniform_weights<T: Real, const D: usize>(
    grid: &Grid<D>,
    squares: &[f64],
) -> Result<Weights<T, D>> {
    let mut weights = Weights::zeros_with(grid, squares.len())?;
    for (i, square) in squares.iter().enumerate() {
        weights.component_mut(i).fill(T::of(square.sqrt()));
    }
    Ok(weights)
}
