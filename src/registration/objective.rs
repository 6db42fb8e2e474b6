//! The energy of a pair of images on one level, and its gradient.

use std::sync::Arc;

use super::checkpoint::{LevelState, Optimiser};
use super::landmarks::Landmarks;
use super::map_terms::MapTerms;
use super::term::image::ImageTerm;
use super::term::landmarks::LandmarkTerm;
use super::term::reverse::ReverseTerm;
use super::term::{FinalMaps, MapCotangents, MapTerm, TRACKED};
use super::terms::{Diagnostics, Shrunk, Terms};
use crate::adjoint::Integration;
use crate::adjoint::Sweep;
use crate::error::{Error, Result, positive};
use crate::field::{Displacement, Image, axpy};
use crate::grid::Grid;
use crate::model::{Controls, Shooting, State, energy_scale};
use crate::ops::cells::cell_determinants;
use crate::ops::resample::{Resample, Workspace};
use crate::optim::Objective;
use crate::scalar::Real;
use crate::similarity::Similarity;
use crate::space::{FlowState, StateSpace};
use crate::step::Steps;
use crate::world::Affine;

/// E(m₀, h₀) = ½⟨m₀, K(w₀) m₀⟩ / (V L²) + λ Sim(I₀∘Φ⁻¹(1), I₁) + Σ_k λ_k P_k(h₀, w₀), with the exact
/// gradient.
///
#[doc = include_str!("../../docs/math/energy.html")]
///
/// Momentum and map live on the model's grid, the images on theirs. The final displacement is carried to
/// the voxels of the fixed image by cubic splines and the moving image is read at the displaced points, so
/// that it is interpolated once. The division by V L² makes energies and the weight λ independent of the
/// unit of length and the same as in the paper's unit square.
///
/// [`PairObjective::with_channel`] and [`PairObjective::with_landmarks`] add further pairs of images and
/// points, [`PairObjective::with_term`] any function of the maps:
///
#[doc = include_str!("../../docs/math/channels.html")]
pub struct PairObjective<S: Shooting<T, D>, T: Real, const D: usize> {
    shooting: S,
    sweep: Sweep<Arc<S::Evolution>>,
    /// 1/(V L²).
    energy_scale: f64,
    terms: MapTerms<T, D>,
    initial: Affine<D>,
    upsample: Resample<T, D>,
    resample: Workspace<T>,
    start: State<T, D, S>,
    /// The shape of controls.
    identity: Controls<T, D, S::Weights>,
    /// Cotangent of the end, then of the start.
    bar: State<T, D, S>,
    bars: MapCotangents<T, D>,
    /// u on the fixed image's grid.
    inverse: Displacement<T, D>,
    /// U there, where a term needs it.
    forward: Option<Displacement<T, D>>,
    steps: Steps,
    refused: usize,
    /// What the momentum was last multiplied by.
    shrunk: f64,
    /// Diagnostics of the evaluations since they were last asked for.
    seen: Vec<Diagnostics>,
}

impl<S: Shooting<T, D>, T: Real, const D: usize> std::fmt::Debug for PairObjective<S, T, D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let further: Vec<&str> = self.terms.further.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("PairObjective")
            .field("maps", self.shooting.grid())
            .field("images", self.inverse.grid())
            .field("weight", &self.terms.similarity.weight())
            .field("channels", &self.terms.channels.len())
            .field("reverse", &self.terms.reverse.len())
            .field("landmarks", &self.terms.landmarks.is_some())
            .field("further", &further)
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}

/// The factor by which a momentum that is not admissible is scaled down, again and again.
pub(super) const SHRINK: f64 = 0.8;

/// How often, before the identity is taken instead: 0.8³⁰ leaves a thousandth.
const SHRINKS: u32 = 30;

impl<S: Shooting<T, D>, T: Real, const D: usize> PairObjective<S, T, D> {
    /// The energy of a moving image under `shooting`, whose grid must cover the box of `fixed`, the grid of
    /// the fixed image that `similarity` was prepared against.
    ///
    /// # Errors
    /// Those of [`Integration::validate`]; [`Error::Setting`] unless `weight` is
    /// finite and positive; [`Error::GridMismatch`] where `fixed` covers another
    /// box; [`Error::NonFinite`] for NaN or infinity in the image;
    /// [`Error::OutOfMemory`].
    ///
    /// Evaluations refuse controls of another shape than those of [`Shooting::identity`].
    pub fn new(
        mut shooting: S,
        moving: &Image<T, D>,
        fixed: &Grid<D>,
        similarity: Box<dyn Similarity<T>>,
        weight: f64,
        integration: Integration,
    ) -> Result<Self> {
        positive("weight of the similarity", weight)?;
        moving.expect_finite("moving image")?;
        let grid = shooting.grid().clone();
        if !fixed.same_box(&grid) {
            let (expected, found) = (format!("over the box of {fixed}"), grid.to_string());
            return Err(Error::GridMismatch { what: "grid of the model", expected, found });
        }
        let identity = shooting.identity();
        let start = shooting.initial_state(&identity);
        let steps = integration.steps;
        let sweep = Sweep::new(shooting.evolution(), &start, integration)?;
        let initial = Affine::identity();
        let mut bars = MapCotangents::new(fixed, &grid);
        bars.inverse.sum_mut()?;
        Ok(Self {
            energy_scale: energy_scale(&grid),
            sweep,
            terms: MapTerms::new(ImageTerm::new(moving, fixed, &initial, similarity, weight)?),
            initial,
            upsample: Resample::new(&grid, fixed),
            resample: Workspace::default(),
            bar: start.clone(),
            start,
            identity,
            bars,
            inverse: Displacement::zeros(fixed)?,
            forward: None,
            steps,
            refused: 0,
            shrunk: 1.0,
            seen: Vec::new(),
            shooting,
        })
    }

    /// The energy with λ Sim of a further moving image added; `similarity` was prepared against an image on
    /// the grid of the fixed image.
    ///
    /// # Errors
    /// [`Error::Setting`] unless `weight` is finite and positive; [`Error::NonFinite`] for NaN or infinity
    /// in the image; [`Error::OutOfMemory`].
    pub fn with_channel(
        mut self,
        moving: &Image<T, D>,
        similarity: Box<dyn Similarity<T>>,
        weight: f64,
    ) -> Result<Self> {
        positive("weight of a channel", weight)?;
        moving.expect_finite("moving image of a channel")?;
        let fixed = self.inverse.grid();
        let term = ImageTerm::new(moving, fixed, &self.initial, similarity, weight)?;
        self.terms.channels.push(term);
        Ok(self)
    }

    /// The energy with λ Sim(I₁∘Φ, J) added, the comparison seen from the moving image: `fixed` is I₁, on the
    /// grid of the fixed image, and `similarity` was prepared against the moving image as it is read there
    /// without a deformation.
    ///
    /// # Errors
    /// [`Error::Setting`] unless `weight` is finite and positive, and where the model does not carry the
    /// forward map, as [`TwoSided`](crate::model::TwoSided) does; [`Error::NonFinite`] for NaN or infinity
    /// in the image; [`Error::OutOfMemory`].
    pub fn with_reverse(
        mut self,
        fixed: &Image<T, D>,
        similarity: Box<dyn Similarity<T>>,
        weight: f64,
    ) -> Result<Self> {
        self.need_forward("model of a reverse term")?;
        positive("weight of a reverse term", weight)?;
        fixed.expect_finite("fixed image of a reverse term")?;
        let grid = self.inverse.grid();
        fixed.grid().expect_same(grid, "fixed image of a reverse term")?;
        let term = ImageTerm::new(fixed, grid, &Affine::identity(), similarity, weight)?;
        self.terms.reverse.push(ReverseTerm(term));
        Ok(self)
    }

    /// The energy with the term of these landmarks, in place of those before.
    ///
    /// # Errors
    /// [`Error::Setting`] for a fixed point outside the grid; [`Error::OutOfMemory`].
    pub fn with_landmarks(mut self, landmarks: &Landmarks<D>) -> Result<Self> {
        let grid = self.shooting.grid();
        self.terms.landmarks = Some(LandmarkTerm::new(landmarks, grid, &self.initial)?);
        Ok(self)
    }

    /// The energy with a further term, reported in [`Terms::further`] under its name.
    ///
    /// # Errors
    /// [`Error::Setting`] for a term that [needs the forward map](MapTerm::needs_forward_map) where the model
    /// does not carry it; [`Error::OutOfMemory`].
    pub fn with_term(
        mut self,
        name: impl Into<String>,
        term: Box<dyn MapTerm<T, D>>,
    ) -> Result<Self> {
        if term.needs_forward_map() {
            self.need_forward("model of a term of the forward map")?;
        }
        self.terms.further.push((name.into(), term));
        Ok(self)
    }

    /// Makes the buffer of the forward map.
    fn need_forward(&mut self, what: &'static str) -> Result<()> {
        if !self.is_two_sided() {
            return Err(Error::setting(what, TRACKED, "one without"));
        }
        if self.forward.is_none() {
            self.forward = Some(Displacement::zeros(self.inverse.grid())?);
        }
        Ok(())
    }

    /// The same, with [`Error::Folded`] for controls whose map has a
    /// [determinant](crate::ops::cells::cell_determinants) of `bound` or less, or of 1/`bound` or more, in a cell of the
    /// fixed image's grid, and a [barrier](crate::ops::barrier::fold_barrier) before it; `None` for no bound.
    #[must_use]
    pub fn with_min_jacobian(mut self, bound: Option<f64>) -> Self {
        self.terms.folding.set_bound(bound);
        self
    }

    /// The same, with the bound on the determinant of `before`∘Φ⁻¹ in place of that of Φ⁻¹: the whole map
    /// where one geodesic follows another. `before` is a map over the fixed image's box.
    ///
    /// # Errors
    /// [`Error::GridMismatch`] for a map over another box; [`Error::OutOfMemory`].
    pub fn with_map_before(mut self, before: &Displacement<T, D>) -> Result<Self> {
        self.terms.folding.set_before(before, self.inverse.grid())?;
        Ok(self)
    }

    /// The same with an affine map A of the world after the inverse map: the moving image is read at
    /// A(x + u(x)), interpolated once, and the gradient goes through A. It counts for the channels and
    /// landmarks that are added after it.
    ///
    #[doc = include_str!("../../docs/math/totalmap.html")]
    #[must_use]
    pub fn with_initial(mut self, initial: &Affine<D>) -> Self {
        self.terms.similarity.set_initial(initial);
        self.initial = *initial;
        self
    }

    /// Puts another moving image in the place of the one before, and a `similarity` that was prepared against
    /// another fixed image on the same grid. Everything else stays, the plans of the model and all buffers, and
    /// evaluations have the bits of a new objective: what [`PairObjective::diagnostics`] accepted is forgotten.
    /// Plans cost as much as a small flow: use one objective for many pairs of the same grids.
    ///
    /// # Errors
    /// [`Error::NonFinite`] for NaN or infinity in the image. The objective is what it was then.
    pub fn exchange(
        &mut self,
        moving: &Image<T, D>,
        similarity: Box<dyn Similarity<T>>,
    ) -> Result<()> {
        moving.expect_finite("moving image")?;
        self.terms.similarity.exchange(moving, similarity);
        self.forget();
        Ok(())
    }

    /// Like [`PairObjective::exchange`], for the images of a channel: they are counted from 0 in the order of
    /// [`PairObjective::with_channel`].
    ///
    /// # Errors
    /// [`Error::Length`] where there is no such channel; those of [`PairObjective::exchange`].
    pub fn exchange_channel(
        &mut self,
        channel: usize,
        moving: &Image<T, D>,
        similarity: Box<dyn Similarity<T>>,
    ) -> Result<()> {
        moving.expect_finite("moving image of a channel")?;
        let found = self.terms.channels.len();
        let expected = channel.saturating_add(1);
        let none = Error::Length { what: "channels", expected, found };
        self.terms.channels.get_mut(channel).ok_or(none)?.exchange(moving, similarity);
        self.forget();
        Ok(())
    }

    /// Like [`PairObjective::exchange`], for the images of a reverse term: they are counted from 0 in the order of
    /// [`PairObjective::with_reverse`].
    ///
    /// # Errors
    /// [`Error::Length`] where there is no such term; [`Error::GridMismatch`] for an image on another grid; those of
    /// [`PairObjective::exchange`].
    pub fn exchange_reverse(
        &mut self,
        term: usize,
        fixed: &Image<T, D>,
        similarity: Box<dyn Similarity<T>>,
    ) -> Result<()> {
        fixed.expect_finite("fixed image of a reverse term")?;
        fixed.grid().expect_same(self.inverse.grid(), "fixed image of a reverse term")?;
        let found = self.terms.reverse.len();
        let expected = term.saturating_add(1);
        let none = Error::Length { what: "reverse terms", expected, found };
        self.terms.reverse.get_mut(term).ok_or(none)?.0.exchange(fixed, similarity);
        self.forget();
        Ok(())
    }

    /// Forgets all evaluations.
    fn forget(&mut self) {
        self.sweep.forget_steps();
        self.seen.clear();
        (self.refused, self.shrunk) = (0, 1.0);
    }

    /// Like [`Objective::evaluate`], with `controls` made admissible first: where their flow cannot be integrated
    /// or a term refuses its map, the momentum is scaled down by 0.8 until they can, and after thirty times it is
    /// set to zero, the identity, which keeps any bound. For controls from elsewhere, such as those of a coarser
    /// grid.
    ///
    /// # Errors
    /// Those of [`Objective::evaluate`] that no smaller momentum avoids.
    pub fn evaluate_shrunk(
        &mut self,
        controls: &mut Controls<T, D, S::Weights>,
        gradient: &mut Controls<T, D, S::Weights>,
    ) -> Result<Shrunk> {
        let mut factor = 1.0;
        for _ in 0..SHRINKS {
            match self.evaluate(controls, gradient) {
                Ok(value) => {
                    self.shrunk = factor;
                    return Ok(Shrunk { value, factor });
                }
                Err(error) if error.is_recoverable() => {
                    controls.momentum.scale(T::of(SHRINK));
                    factor *= SHRINK;
                }
                Err(error) => return Err(error),
            }
        }
        controls.momentum.set_zero();
        self.shrunk = 0.0;
        Ok(Shrunk { value: self.evaluate(controls, gradient)?, factor: 0.0 })
    }

    /// Whether the model carries the forward map.
    fn is_two_sided(&self) -> bool {
        self.start.forward().is_some()
    }

    /// Evaluations that a term refused, such as for the smallest determinant.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.refused
    }

    /// What [`PairObjective::evaluate_shrunk`] last multiplied a momentum by; 1 before.
    #[must_use]
    pub fn shrunk(&self) -> f64 {
        self.shrunk
    }

    /// The model on this level.
    #[must_use]
    pub fn shooting(&self) -> &S {
        &self.shooting
    }

    /// The model on this level.
    #[must_use]
    pub fn into_shooting(self) -> S {
        self.shooting
    }

    /// The factor of the regulariser, 1/(V L²).
    #[must_use]
    pub fn energy_scale(&self) -> f64 {
        self.energy_scale
    }

    /// Bytes of the states of the flow that are held for the gradient.
    #[must_use]
    pub fn bytes_held(&self) -> usize {
        self.sweep.bytes_held()
    }

    /// What a level needs, with the state of its optimiser, to go on with the same bits.
    pub(super) fn state<C>(
        &self,
        optimiser: Optimiser<C>,
        first: Diagnostics,
        seconds: f64,
    ) -> LevelState<C> {
        let (seen, refused, shrunk) = (self.seen.clone(), self.refused, self.shrunk);
        let steps = self.sweep.kept_steps();
        LevelState { optimiser, first, seen, steps, refused, shrunk, seconds }
    }

    /// Goes on from a state of an objective like this one.
    ///
    /// # Errors
    /// Those of [`StateSpace::expect_like`] for controls of another shape.
    pub(super) fn resume(&mut self, state: &LevelState<Controls<T, D, S::Weights>>) -> Result<()> {
        self.identity.expect_like(state.optimiser.control())?;
        self.sweep.keep_steps(state.steps);
        self.seen.clone_from(&state.seen);
        (self.refused, self.shrunk) = (state.refused, state.shrunk);
        Ok(())
    }

    /// What the evaluation with this value found, once an optimiser has accepted it; forgets the others
    /// but the lowest. Of a value that no evaluation gave since the last call, what the last evaluation found; before the
    /// first one, zeros.
    pub fn diagnostics(&mut self, value: f64) -> Diagnostics {
        let found = self.seen.iter().rev().find(|d| d.terms.total.to_bits() == value.to_bits());
        let found = found.or(self.seen.last()).cloned().unwrap_or_default();
        let finite = self.seen.drain(..).filter(|d| d.terms.total.is_finite());
        let lowest = finite.min_by(|a, b| a.terms.total.total_cmp(&b.terms.total));
        self.seen = vec![lowest.unwrap_or_else(|| found.clone()), found.clone()];
        if let Steps::Courant { .. } = self.steps {
            self.sweep.keep_steps(found.steps);
        }
        found
    }
}

impl<S: Shooting<T, D>, T: Real, const D: usize> Objective<T> for PairObjective<S, T, D> {
    type Control = Controls<T, D, S::Weights>;

    fn evaluate(&mut self, controls: &Self::Control, gradient: &mut Self::Control) -> Result<f64> {
        self.identity.expect_like(controls)?;
        self.identity.expect_like(gradient)?;
        gradient.set_zero();
        // ½⟨m₀, K(w₀) m₀⟩ / (V L²) and Σ λ_k P_k(h₀, w₀).
        let mut terms = Terms {
            regularisation: self.shooting.add_energy(controls, self.energy_scale, gradient),
            penalty: self.shooting.add_penalty(controls, gradient),
            ..Terms::default()
        };

        // The flow to t = 1, and its maps on the fixed image's grid.
        self.shooting.set_initial_state(controls, &mut self.start);
        let energy = terms.regularisation / self.energy_scale;
        let before = self.shooting.initial_hamiltonian(energy, &self.start)?;
        let end = self.sweep.forward(&self.start)?;
        let after = self.shooting.hamiltonian(end)?;
        let (min_det, _) = cell_determinants(end.map());
        let (upsample, ws) = (&self.upsample, &mut self.resample);
        upsample.apply(end.map().data(), self.inverse.data_mut(), ws);
        if let (Some(out), Some(forward)) = (&mut self.forward, end.forward()) {
            upsample.apply(forward.data(), out.data_mut(), ws);
        }

        // The terms of the maps.
        let (inverse, inverse_on_map_grid) = (&self.inverse, end.map());
        let maps = FinalMaps { inverse, inverse_on_map_grid, forward: self.forward.as_ref() };
        if let Err(error) = self.terms.add(&maps, &mut self.bars, &mut terms) {
            self.refused += usize::from(error.is_recoverable());
            return Err(error);
        }
        terms.total = terms.sum();

        // Their derivatives, back through the prolongation and the flow.
        self.bar.set_zero();
        if let (Some(bar), Some(out)) = (self.bars.forward.sum(), self.bar.forward_mut()) {
            upsample.transpose(bar.data(), out.data_mut(), ws);
        }
        if let Some(bar) = self.bars.inverse.sum() {
            upsample.transpose(bar.data(), self.bar.map_mut().data_mut(), ws);
        }
        if let Some(bar) = self.bars.inverse_on_map_grid.sum() {
            axpy(self.bar.map_mut().data_mut(), T::one(), bar.data());
        }
        self.sweep.backward(&self.start, &mut self.bar)?;
        self.shooting.initial_state_vjp(controls, &self.bar, gradient);

        let total = terms.total;
        self.seen.push(Diagnostics {
            terms,
            steps: self.sweep.step_sizes().len(),
            energy_drift: if before > 0.0 { after / before - 1.0 } else { 0.0 },
            min_det,
        });
        Ok(total)
    }
}
