//! Several geodesics, one after the other, for maps that one does not reach.

use std::ops::ControlFlow;

use super::WeightsOf;
use super::run::{Recipe, Registered, Registration};
use crate::error::{Error, Result};
use crate::evaluate::Folds;
use crate::field::{Displacement, Image};
use crate::model::Model;
use crate::ops::warp::{Composition, warped};
use crate::scalar::Real;
use crate::world::Affine;

/// What several registrations, each from where the last one ended, reached together.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Chain<T, const D: usize, W> {
    /// u of the whole inverse map Φ₁⁻¹∘…∘Φₙ⁻¹ on the fixed image's grid: read the moving image at x + u(x).
    pub map: Displacement<T, D>,
    /// U of the whole forward map Φₙ∘…∘Φ₁ on the same grid.
    pub forward: Displacement<T, D>,
    /// The moving image read once, at the whole map.
    pub warped: Image<T, D>,
    /// Folds of the whole map on the fixed image's grid.
    pub folds: Folds,
    /// The registrations. The moving image of each is the warped image of those before.
    pub legs: Vec<Registered<T, D, W>>,
}

impl<M: Model<T, D>, T: Real, const D: usize> Registration<M, T, D> {
    /// Registers with `legs` geodesics, one after the other: each carries what the last one left over,
    /// with its own momentum, and a regulariser that is given moves along ([`Model::advected_by`]).
    ///
    /// A geodesic pays for its length squared, so that n legs of a way d cost n (d/n)² = d²/n: what one
    /// geodesic finds too dear, several reach, each with a map of its own that is far from a fold. The
    /// whole map is a diffeomorphism but no geodesic. Maps are composed exactly and the moving image is
    /// read once in the result. [`Settings::min_jacobian`](super::Settings::min_jacobian) holds for the
    /// whole map, as far as the last level is at full resolution. Between legs the image that the optimiser sees is interpolated once a leg.
    ///
    /// # Errors
    /// [`Error::Length`] for no leg; [`Error::Setting`] where there are channels or landmarks, which belong
    /// to one map; those of [`Registration::run`].
    ///
    /// ```
    /// use rdmm_core::grid::Grid;
    /// use rdmm_core::model::{Lddmm, MultiGaussian};
    /// use rdmm_core::registration::Registration;
    /// use rdmm_core::similarity::Ssd;
    /// use rdmm_core::synthetic::Shapes;
    ///
    /// let grid = Grid::<2>::unit([32, 32])?;
    /// let pair = Shapes::default().with_outside(1).pair::<f32, 2>(&grid)?;
    /// let model = Lddmm::new(MultiGaussian::for_grid(&grid));
    /// let chain = Registration::new(model, Ssd).run_chain(&pair.fixed, &pair.moving, 2)?;
    /// assert_eq!((chain.legs.len(), chain.folds.total().folded), (2, 0));
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn run_chain(
        &self,
        fixed: &Image<T, D>,
        moving: &Image<T, D>,
        legs: usize,
    ) -> Result<Chain<T, D, WeightsOf<M, T, D>>> {
        let none = Error::Length { what: "geodesics of a chain", expected: 1, found: 0 };
        let rest = legs.checked_sub(1).ok_or(none)?;
        if self.has_further_terms() {
            let expected = "no channels and no landmarks: they belong to one map";
            return Err(Error::setting("terms of a chain", expected, "some"));
        }
        let first = self.run(fixed, moving)?;
        let (mut map, mut forward) = (first.map.clone(), first.forward.clone());
        let (mut image, mut done) = (first.warped.clone(), vec![first]);
        for _ in 0..rest {
            let carried = self.model().advected_by(&map)?;
            let leg = self.run_model(
                // The map so far holds the initial affine map.
                Recipe { model: &carried, initial: &Affine::identity(), map_before: Some(&map) },
                fixed,
                &image,
                |_| ControlFlow::Continue(()),
            )?;
            // Φ₁⁻¹∘Φ₂⁻¹ reads the map so far at the new one; Φ₂∘Φ₁ the new one at the map so far.
            map = composed(&map, &leg.map)?;
            forward = composed(&leg.forward, &forward)?;
            image = warped(moving, &map)?;
            done.push(leg);
        }
        Ok(Chain { folds: Folds::of(&map)?, warped: image, map, forward, legs: done })
    }
}

/// The displacement of (id + outer)∘(id + inner), both over one grid.
fn composed<T: Real, const D: usize>(
    outer: &Displacement<T, D>,
    inner: &Displacement<T, D>,
) -> Result<Displacement<T, D>> {
    let composition = Composition::new(outer.grid());
    let (mut coefficients, mut out) =
        (Displacement::zeros(outer.grid())?, Displacement::zeros(outer.grid())?);
    composition.coefficients(outer.data(), coefficients.data_mut());
    composition.compose(coefficients.data(), inner.data(), out.data_mut());
    Ok(out)
}
