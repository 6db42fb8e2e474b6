//! Several geodesics, one after the other, for maps that one does not reach.

use std::ops::ControlFlow;

use super::builder::Registration;
use super::level::Recipe;
use super::progress::Progress;
use super::result::Registered;
use super::run::{Begin, Job};
use crate::error::{Error, Result};
use crate::evaluate::Folds;
use crate::field::{Displacement, Image};
use crate::model::Model;
use crate::ops::compose::Composition;
use crate::ops::unfold::{Unfold, Unfolded};
use crate::ops::warp::warp;
use crate::optim::Clock;
use crate::scalar::Real;
use crate::world::Affine;

/// What several registrations, each from where the last one ended, reached together.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Chain<T, const D: usize> {
    /// u of the whole inverse map Φ₁⁻¹∘…∘Φₙ⁻¹ on the fixed image's grid: read the moving image at x + u(x).
    pub inverse_map: Displacement<T, D>,
    /// U of the whole forward map Φₙ∘…∘Φ₁ on the same grid.
    pub forward_map: Displacement<T, D>,
    /// The moving image read once, at the whole map; [`Settings::fill`](super::Settings::fill) beyond it.
    pub warped: Image<T, D>,
    /// Folds of the whole map on the fixed image's grid: determinants are those of the non-linear part times |det A|.
    pub folds: Folds,
    /// What of the whole inverse map was smoothed away because cells were beyond the bound.
    pub unfolded: Unfolded,
    /// The same of the forward map.
    pub forward_unfolded: Unfolded,
    /// The registrations. The moving image of each is the warped image of those before.
    pub segments: Vec<Registered<T, D>>,
}

impl<M: Model<T, D>, T: Real, const D: usize> Registration<M, T, D> {
    /// Registers with `segments` geodesics, one after the other: each carries what the last one left over,
    /// with its own momentum, and a regulariser that is given moves along ([`Model::advected_by`]).
    ///
    /// A geodesic pays for its length squared, so that n segments of a way d cost n (d/n)² = d²/n: what one
    /// geodesic finds too dear, several reach, each with a map of its own that is far from a fold. The
    /// whole map is a diffeomorphism but no geodesic. Maps are composed exactly and the moving image is
    /// read once in the result. [`Settings::min_jacobian`](super::Settings::min_jacobian) holds for the
    /// whole map without its affine part; where the map so far is at the bound at the resolution of a level, that level
    /// holds the next segment alone to it, and the whole map is held to it at the end. Between segments the image that the
    /// optimiser sees is interpolated once a segment; what a segment read beyond the moving image, mirrored, counts as seen
    /// in those after it.
    ///
    /// # Errors
    /// [`Error::Length`] for no segment; [`Error::Setting`] where there are channels, landmarks or further
    /// terms, which belong to one map; those of [`Registration::run`].
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
    /// assert_eq!((chain.segments.len(), chain.folds.total().folded), (2, 0));
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn run_chain(
        &self,
        fixed: &Image<T, D>,
        moving: &Image<T, D>,
        segments: usize,
    ) -> Result<Chain<T, D>> {
        self.run_chain_from(None, fixed, moving, segments, |_, _| ControlFlow::Continue(()))
    }

    /// Like [`Registration::run_chain`], with `segments` geodesics after those of `chain`, and an observer that sees each
    /// iteration of each of them, counted from 0, and can stop: the chain then ends with the best state of that
    /// geodesic. A chain that was stopped goes on from its whole map so far.
    ///
    /// # Errors
    /// Those of [`Registration::run_chain`]; [`Error::GridMismatch`] for a chain over another grid.
    pub fn run_chain_from(
        &self,
        mut chain: Option<Chain<T, D>>,
        fixed: &Image<T, D>,
        moving: &Image<T, D>,
        segments: usize,
        mut observer: impl FnMut(usize, &Progress) -> ControlFlow<()>,
    ) -> Result<Chain<T, D>> {
        if self.has_further_terms() {
            let expected = "no channels, no landmarks and no further terms: they belong to one map";
            return Err(Error::setting("terms of a chain", expected, "some"));
        }
        if let Some(chain) = &chain {
            chain.inverse_map.grid().expect_same(fixed.grid(), "fixed image of a chain")?;
        }
        let clock = Clock::new(self.settings.time_limit);
        let before = chain.as_ref().map_or(0, |chain| chain.segments.len());
        for segment in before..before + segments {
            let watch = |progress: &Progress| observer(segment, progress);
            let next = match chain.take() {
                None => self.first_leg(fixed, moving, clock, watch)?,
                Some(chain) => self.next_leg(chain, fixed, moving, clock, watch)?,
            };
            let stopped = next.segments.last().is_some_and(|segment| segment.report.stopped);
            chain = Some(next);
            if stopped {
                break;
            }
        }
        chain.ok_or(Error::Length { what: "geodesics of a chain", expected: 1, found: 0 })
    }

    fn first_leg(
        &self,
        fixed: &Image<T, D>,
        moving: &Image<T, D>,
        clock: Clock,
        mut watch: impl FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Chain<T, D>> {
        let job = Job { clock, ..self.job(self.recipe(), fixed, moving) };
        let segment = self.run_job(job, Begin::Identity, |progress, _| watch(progress))?.result;
        Ok(Chain {
            inverse_map: segment.inverse_map.clone(),
            forward_map: segment.forward_map.clone(),
            warped: segment.warped.clone(),
            folds: segment.report.folds,
            unfolded: segment.report.unfolded,
            forward_unfolded: segment.report.forward_unfolded,
            segments: vec![segment],
        })
    }

    fn next_leg(
        &self,
        chain: Chain<T, D>,
        fixed: &Image<T, D>,
        moving: &Image<T, D>,
        clock: Clock,
        mut watch: impl FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Chain<T, D>> {
        let Chain { inverse_map: before, forward_map: forward, mut segments, .. } = chain;
        // As it is read, without the fill value: its edges are none of the anatomy.
        let image = warp(moving, &before)?;
        let model = self.model().advected_by(&before)?;
        // The bound is on the non-linear part, the affine map of the first segment taken off.
        let first = segments.first().map_or_else(Affine::identity, |segment| segment.affine);
        let bent = first.inverse().after_displacement(&before)?;
        // The map so far holds the initial affine map.
        let initial = Affine::identity();
        let recipe = Recipe { model: &model, initial: &initial, map_before: Some(&bent) };
        let job = Job { clock, ..self.job(recipe, fixed, &image) };
        let segment = self.run_job(job, Begin::Identity, |progress, _| watch(progress))?.result;
        // Φ₁⁻¹∘Φ₂⁻¹ reads the map so far at the new one; Φ₂∘Φ₁ the new one at the map so far.
        let mut bent = composed(&bent, &segment.inverse_map)?;
        let mut forward = composed(&segment.forward_map, &forward)?;
        let (mut unfolded, mut forward_unfolded) = (Unfolded::default(), Unfolded::default());
        if let Some(bound) = self.settings.min_jacobian {
            let unfold = Unfold::new(bound)?;
            unfolded = unfold.apply(&mut bent)?;
            let back = first.inverse().determinant();
            forward_unfolded = unfold.with_affine(back).apply(&mut forward)?;
        }
        let folds = Folds::of(&bent)?.scaled(first.determinant().abs());
        let map = first.after_displacement(&bent)?;
        segments.push(segment);
        let warped = map.warp_filled(moving, self.settings.fill)?;
        Ok(Chain {
            inverse_map: map,
            forward_map: forward,
            warped,
            folds,
            unfolded,
            forward_unfolded,
            segments,
        })
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
