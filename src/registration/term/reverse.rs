//! The comparison seen from the moving image.

use super::image::ImageTerm;
use super::{FinalMaps, MapCotangents, MapTerm, expect_forward};
use crate::error::Result;
use crate::scalar::Real;

/// λ Sim(J₁∘(id + U), J₀) as a function of U of the forward map on the fixed image's grid, where J₁ shows it.
pub(in crate::registration) struct ReverseTerm<T: Real, const D: usize>(
    pub(in crate::registration) ImageTerm<T, D>,
);

impl<T: Real, const D: usize> MapTerm<T, D> for ReverseTerm<T, D> {
    fn add(&mut self, maps: &FinalMaps<'_, T, D>, bars: &mut MapCotangents<T, D>) -> Result<f64> {
        let forward = expect_forward(maps)?;
        bars.forward.add_written(|u_bar| self.0.value_and_gradient(forward.data(), u_bar))?
    }

    fn needs_forward_map(&self) -> bool {
        true
    }
}
