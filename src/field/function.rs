//! Fields from functions of the position.

use super::Field;
use super::kind::{Mixture, Scalar, Vectorial};
use crate::error::Result;
use crate::grid::Grid;
use crate::scalar::Real;

impl<T: Real, const D: usize> Field<T, D, Scalar> {
    /// An image from a function of the voxel's local position: array index times spacing.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory); [`Error::NonFinite`](crate::Error::NonFinite) where `f`
    /// gives NaN or infinity.
    ///
    /// ```
    /// use rdmm_core::{field::Image, grid::Grid};
    /// let ramp = Image::<f32, 2>::from_fn(&Grid::new([4, 5], [0.5, 2.0])?, |x| x[0] + x[1])?;
    /// assert_eq!(ramp.view()[[3, 1]], 3.5);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn from_fn(grid: &Grid<D>, mut f: impl FnMut([f64; D]) -> f64) -> Result<Self> {
        let mut image = Self::zeros(grid)?;
        for (flat, value) in image.data.iter_mut().enumerate() {
            *value = T::of(f(position(grid, flat)));
        }
        image.expect_finite("image")?;
        Ok(image)
    }
}

impl<T: Real, const D: usize, K: Vectorial> Field<T, D, K> {
    /// A field of vectors from a function of the voxel's local position: array index times spacing.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory); [`Error::NonFinite`](crate::Error::NonFinite) where `f`
    /// gives NaN or infinity.
    ///
    /// ```
    /// use rdmm_core::{field::Displacement, grid::Grid};
    /// let shift = Displacement::<f32, 2>::from_fn(&Grid::new([4, 5], [0.5, 2.0])?, |_| [1.0, 0.0])?;
    /// assert_eq!((shift.component(0)[7], shift.component(1)[7]), (1.0, 0.0));
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn from_fn(grid: &Grid<D>, mut f: impl FnMut([f64; D]) -> [f64; D]) -> Result<Self> {
        let (mut field, n) = (Self::zeros(grid)?, grid.len());
        for flat in 0..n {
            for (c, value) in f(position(grid, flat)).into_iter().enumerate() {
                field.data[c * n + flat] = T::of(value);
            }
        }
        field.expect_finite(K::NAME)?;
        Ok(field)
    }
}

impl<T: Real, const D: usize> Field<T, D, Mixture> {
    /// Weights of `components` Gaussians from a function of the voxel's local position, array index times spacing,
    /// and of the component: `f(position, component)`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory); [`Error::NonFinite`](crate::Error::NonFinite) where `f`
    /// gives NaN or infinity; [`Error::Length`](crate::Error::Length) for no component.
    pub fn from_fn(
        grid: &Grid<D>,
        components: usize,
        mut f: impl FnMut([f64; D], usize) -> f64,
    ) -> Result<Self> {
        let (mut weights, n) = (Self::zeros_with(grid, components)?, grid.len());
        for (flat, value) in weights.data.iter_mut().enumerate() {
            *value = T::of(f(position(grid, flat % n), flat / n));
        }
        weights.expect_finite("weights")?;
        Ok(weights)
    }
}

/// Array index times spacing of the voxel at `flat`.
fn position<const D: usize>(grid: &Grid<D>, flat: usize) -> [f64; D] {
    let (index, spacing) = (grid.unravel(flat), grid.spacing());
    std::array::from_fn(|a| index[a] as f64 * spacing[a])
}
