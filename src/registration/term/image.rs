//! A similarity as a term: of the pair itself, and of further channels.

use super::{FinalMaps, MapCotangents, MapTerm};
use crate::error::Result;
use crate::field::{Image, multiply_components};
use crate::grid::Grid;
use crate::ops::spline::Prefilter;
use crate::ops::warp::Warp;
use crate::scalar::Real;
use crate::similarity::Similarity;
use crate::world::Affine;

/// λ Sim(J₀∘A∘(id + u), J₁) as a function of u on the fixed image's grid.
pub(in crate::registration) struct ImageTerm<T: Real, const D: usize> {
    /// Spline coefficients of the moving image.
    moving: Image<T, D>,
    /// A.
    initial: Affine<D>,
    warp: Warp<T, D>,
    similarity: Box<dyn Similarity<T>>,
    weight: f64,
    loss: f64,
    warped: Image<T, D>,
    warped_bar: Image<T, D>,
}

impl<T: Real, const D: usize> ImageTerm<T, D> {
    /// A term of a moving image, whose values are finite; the weight is positive.
    pub(in crate::registration) fn new(
        moving: &Image<T, D>,
        fixed: &Grid<D>,
        initial: &Affine<D>,
        similarity: Box<dyn Similarity<T>>,
        weight: f64,
    ) -> Result<Self> {
        Ok(Self {
            moving: coefficients(moving),
            initial: *initial,
            warp: Warp::through(moving.grid(), fixed, initial),
            similarity,
            weight,
            loss: 0.0,
            warped: Image::zeros(fixed)?,
            warped_bar: Image::zeros(fixed)?,
        })
    }

    /// The same term of other images.
    pub(in crate::registration) fn exchange(
        &mut self,
        moving: &Image<T, D>,
        similarity: Box<dyn Similarity<T>>,
    ) {
        (self.moving, self.similarity) = (coefficients(moving), similarity);
        let initial = self.initial;
        self.set_initial(&initial);
    }

    /// The same term with another A.
    pub(in crate::registration) fn set_initial(&mut self, initial: &Affine<D>) {
        self.initial = *initial;
        self.warp = Warp::through(self.moving.grid(), self.warped.grid(), initial);
    }

    /// λ.
    pub(in crate::registration) fn weight(&self) -> f64 {
        self.weight
    }

    /// The loss that was found last, without its weight.
    pub(in crate::registration) fn loss(&self) -> f64 {
        self.loss
    }

    /// The term at u; its derivative λ ∂Sim/∂u = λ ∂Sim/∂(J₀∘Φ⁻¹) · ∇J₀∘Φ⁻¹ is left in `u_bar`.
    pub(super) fn value_and_gradient(&mut self, u: &[T], u_bar: &mut [T]) -> f64 {
        let (warped, warped_bar) = (self.warped.data_mut(), self.warped_bar.data_mut());
        self.warp.value_and_gradient(self.moving.data(), u, warped, u_bar);
        self.loss = self.similarity.value_and_gradient(warped, warped_bar);
        multiply_components(u_bar, T::of(self.weight), warped_bar);
        self.weight * self.loss
    }
}

/// The spline coefficients of an image.
fn coefficients<T: Real, const D: usize>(image: &Image<T, D>) -> Image<T, D> {
    let mut coefficients = image.clone();
    Prefilter::new(image.grid()).apply(coefficients.data_mut());
    coefficients
}

impl<T: Real, const D: usize> MapTerm<T, D> for ImageTerm<T, D> {
    fn add(&mut self, maps: &FinalMaps<'_, T, D>, bars: &mut MapCotangents<T, D>) -> Result<f64> {
        bars.inverse.add_written(|u_bar| self.value_and_gradient(maps.inverse.data(), u_bar))
    }
}
