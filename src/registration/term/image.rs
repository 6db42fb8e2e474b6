//! A similarity as a term: of the pair itself, and of further channels.

use super::{FinalMaps, MapCotangents, MapTerm};
use crate::comparison::{Compared, Comparison};
use crate::error::Result;
use crate::field::Image;
use crate::grid::Grid;
use crate::ops::warp::Warp;
use crate::scalar::Real;
use crate::similarity::Similarity;
use crate::world::Affine;

/// λ Sim(J₀∘A∘(id + u), J₁) as a function of u on the fixed image's grid, where J₀ shows it.
pub(in crate::registration) struct ImageTerm<T: Real, const D: usize> {
    comparison: Comparison<T, D>,
    /// A.
    initial: Affine<D>,
    warp: Warp<T, D>,
    weight: f64,
    found: Compared,
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
        let comparison = Comparison::new(moving, fixed, initial, similarity)?;
        let (warp, found) = (comparison.start(), Compared::default());
        Ok(Self { comparison, initial: *initial, warp, weight, found })
    }

    /// The same term of other images.
    pub(in crate::registration) fn exchange(
        &mut self,
        moving: &Image<T, D>,
        similarity: Box<dyn Similarity<T>>,
    ) {
        self.comparison.exchange(moving, &self.initial, similarity);
        self.warp = self.comparison.start();
    }

    /// The same term with another A.
    pub(in crate::registration) fn set_initial(&mut self, initial: &Affine<D>) {
        self.initial = *initial;
        self.comparison.set_start(initial);
        self.warp = self.comparison.start();
    }

    /// λ.
    pub(in crate::registration) fn weight(&self) -> f64 {
        self.weight
    }

    /// The loss that was found last, without its weight and without the barrier against leaving the image.
    pub(in crate::registration) fn loss(&self) -> f64 {
        self.found.loss
    }

    /// The term at u, with the barrier; its derivative λ ∂Sim/∂u = λ ∂Sim/∂(J₀∘Φ⁻¹) · ∇J₀∘Φ⁻¹ + λ ∂Sim/∂ω · ∂ω/∂u is
    /// left in `u_bar`.
    pub(super) fn value_and_gradient(&mut self, u: &[T], u_bar: &mut [T]) -> Result<f64> {
        self.found = self.comparison.evaluate(&self.warp, u, self.weight, u_bar)?;
        Ok(self.weight * (self.found.loss + self.found.barrier))
    }
}

impl<T: Real, const D: usize> MapTerm<T, D> for ImageTerm<T, D> {
    fn add(&mut self, maps: &FinalMaps<'_, T, D>, bars: &mut MapCotangents<T, D>) -> Result<f64> {
        bars.inverse.add_written(|u_bar| self.value_and_gradient(maps.inverse.data(), u_bar))?
    }
}
