//! The energy of a pair of images on one level, and its gradient.

use std::sync::Arc;

use super::channel::ChannelTerm;
use super::checkpoint::{LevelState, Optimiser};
use super::landmarks::{LandmarkTerm, Landmarks};
use crate::adjoint::Sweep;
use crate::adjoint::sweep::Integration;
use crate::error::{Error, Result};
use crate::field::{Displacement, Image, axpy};
use crate::grid::Grid;
use crate::model::{Controls, Shooting, State, energy_scale, resampled};
use crate::ops::jacobian::{FoldBarrier, fold_barrier, smallest_determinant};
use crate::ops::resample::{Resample, Workspace};
use crate::ops::spline::Prefilter;
use crate::ops::warp::{Composition, Warp};
use crate::optim::Objective;
use crate::par;
use crate::scalar::Real;
use crate::similarity::Similarity;
use crate::space::{FlowState, StateSpace};
use crate::step::Steps;
use crate::world::Affine;

/// The parts of the energy.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Terms {
    /// ½ ∫ m₀·v₀ over V L², with the volume V and the longest extent L of the grid: no unit.
    pub regularisation: f64,
    /// The similarity loss, without its weight.
    pub similarity: f64,
    /// The losses of further channels, with their weights.
    pub channels: f64,
    /// The losses seen from the moving image, with their weights; 0 unless the model is
    /// [`TwoSided`](crate::model::TwoSided).
    pub reverse: f64,
    /// Mean squared error of the landmarks over L², with its weight.
    pub landmarks: f64,
    /// The penalties of the weights, each with its λ.
    pub penalty: f64,
    /// The barrier of [`Settings::min_jacobian`](super::Settings::min_jacobian), with its weight.
    pub folding: f64,
    /// What is minimised: regularisation + weight · similarity, and the other terms.
    pub total: f64,
}

/// What one evaluation found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Diagnostics {
    /// The parts of the energy.
    pub terms: Terms,
    /// Time steps taken.
    pub steps: usize,
    /// H(1)/H(0) − 1.
    pub energy_drift: f64,
    /// Smallest determinant of DΦ⁻¹ on the map grid.
    pub min_det: f64,
}

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
/// points:
///
#[doc = include_str!("../../docs/math/channels.html")]
pub struct PairObjective<S: Shooting<T, D>, T: Real, const D: usize> {
    shooting: S,
    sweep: Sweep<Arc<S::Evolution>>,
    similarity: Box<dyn Similarity<T>>,
    weight: f64,
    energy_scale: f64,
    /// Spline coefficients of the moving image.
    moving: Image<T, D>,
    warp: Warp<T, D>,
    initial: Affine<D>,
    upsample: Resample<T, D>,
    start: State<T, D, S>,
    /// The shape of controls.
    rest: Controls<T, D, S::Weights>,
    bar: State<T, D, S>,
    displacement: Displacement<T, D>,
    warped: Image<T, D>,
    warped_bar: Image<T, D>,
    slope: Displacement<T, D>,
    channels: Vec<ChannelTerm<T, D>>,
    reverse: Option<Reverse<T, D>>,
    landmarks: Option<LandmarkTerm<T, D>>,
    resample: Workspace<T>,
    steps: Steps,
    barrier: Option<FoldBarrier>,
    refused: usize,
    before: Option<MapBefore<T, D>>,
    /// Diagnostics of the evaluations since they were last asked for.
    seen: Vec<Diagnostics>,
}

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
        crate::error::positive("weight of the similarity", weight)?;
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
        let mut coefficients = moving.clone();
        Prefilter::new(moving.grid()).apply(coefficients.data_mut());
        Ok(Self {
            energy_scale: energy_scale(&grid),
            sweep,
            similarity,
            weight,
            warp: Warp::new(moving.grid(), fixed),
            initial: Affine::identity(),
            moving: coefficients,
            upsample: Resample::new(&grid, fixed),
            bar: start.clone(),
            start,
            rest: identity,
            displacement: Displacement::zeros(fixed)?,
            warped: Image::zeros(fixed)?,
            warped_bar: Image::zeros(fixed)?,
            slope: Displacement::zeros(fixed)?,
            channels: Vec::new(),
            reverse: None,
            landmarks: None,
            resample: Workspace::default(),
            steps,
            barrier: None,
            refused: 0,
            before: None,
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
        let fixed = self.warped.grid();
        let warp = Warp::through(moving.grid(), fixed, &self.initial);
        self.channels.push(ChannelTerm::new(moving, warp, similarity, weight)?);
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
        if !self.is_two_sided() {
            let expected = "a model that carries the forward map, such as TwoSided";
            return Err(Error::setting("model of a reverse term", expected, "one without"));
        }
        let grid = self.warped.grid();
        fixed.grid().expect_same(grid, "fixed image of a reverse term")?;
        let term = ChannelTerm::new(fixed, Warp::new(grid, grid), similarity, weight)?;
        match &mut self.reverse {
            Some(reverse) => reverse.terms.push(term),
            None => self.reverse = Some(Reverse::new(grid, term)?),
        }
        Ok(self)
    }

    /// The energy with the term of these landmarks, in place of those before.
    ///
    /// # Errors
    /// [`Error::Setting`] for a fixed point outside the grid; [`Error::OutOfMemory`].
    pub fn with_landmarks(mut self, landmarks: &Landmarks<D>) -> Result<Self> {
        let grid = self.shooting.grid();
        self.landmarks = Some(LandmarkTerm::new(landmarks, grid, &self.initial)?);
        Ok(self)
    }

    /// The same, with [`Error::Folded`] for controls whose map has a full determinant of `bound` or less
    /// at a voxel of the fixed image, and a [barrier](fold_barrier) before it; `None` for no bound.
    #[must_use]
    pub fn with_min_jacobian(mut self, bound: Option<f64>) -> Self {
        let reach = |bound: f64| bound + BARRIER_REACH * (1.0 - bound);
        self.barrier = bound.map(|bound| FoldBarrier { bound, reach: reach(bound) });
        self
    }

    /// The same, with the bound on the determinant of `before`∘Φ⁻¹ in place of that of Φ⁻¹: the whole map
    /// where one geodesic follows another. `before` is a map over the fixed image's box.
    ///
    /// # Errors
    /// [`Error::GridMismatch`] for a map over another box; [`Error::OutOfMemory`].
    pub fn with_map_before(mut self, before: &Displacement<T, D>) -> Result<Self> {
        self.before = Some(MapBefore::new(before, self.warped.grid())?);
        Ok(self)
    }

    /// Whether the model carries the forward map.
    pub(super) fn is_two_sided(&self) -> bool {
        self.start.forward().is_some()
    }

    /// Evaluations that were refused for the smallest determinant.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.refused
    }

    /// The same with an affine map A of the world after the inverse map: the moving image is read at
    /// A(x + u(x)), interpolated once, and the gradient goes through A. It counts for the channels and
    /// landmarks that are added after it.
    ///
    #[doc = include_str!("../../docs/math/totalmap.html")]
    #[must_use]
    pub fn with_initial(mut self, initial: &Affine<D>) -> Self {
        self.warp = Warp::through(self.moving.grid(), self.warped.grid(), initial);
        self.initial = *initial;
        self
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
        let (seen, refused) = (self.seen.clone(), self.refused);
        LevelState { optimiser, first, seen, steps: self.sweep.kept_steps(), refused, seconds }
    }

    /// Goes on from a state of an objective like this one.
    ///
    /// # Errors
    /// Those of [`StateSpace::expect_like`] for controls of another shape.
    pub(super) fn resume(&mut self, state: &LevelState<Controls<T, D, S::Weights>>) -> Result<()> {
        self.rest.expect_like(state.optimiser.control())?;
        self.sweep.keep_steps(state.steps);
        self.seen.clone_from(&state.seen);
        self.refused = state.refused;
        Ok(())
    }

    /// What the evaluation with this value found, once an optimiser has accepted it; forgets the others
    /// but the lowest.
    pub fn diagnostics(&mut self, value: f64) -> Diagnostics {
        let found = self.seen.iter().rev().find(|d| d.terms.total.to_bits() == value.to_bits());
        let found = found.or(self.seen.last()).copied().unwrap_or_default();
        let lowest = |a: &Diagnostics, b: &Diagnostics| a.terms.total.total_cmp(&b.terms.total);
        let finite = self.seen.iter().copied().filter(|d| d.terms.total.is_finite());
        let lowest = finite.min_by(lowest).unwrap_or(found);
        self.seen.clear();
        self.seen.extend([lowest, found]);
        if let Steps::Courant { .. } = self.steps {
            self.sweep.keep_steps(found.steps);
        }
        found
    }
}

/// The terms that depend on the forward map.
struct Reverse<T: Real, const D: usize> {
    terms: Vec<ChannelTerm<T, D>>,
    /// U on the fixed image's grid.
    forward: Displacement<T, D>,
    slope: Displacement<T, D>,
}

impl<T: Real, const D: usize> Reverse<T, D> {
    fn new(grid: &Grid<D>, term: ChannelTerm<T, D>) -> Result<Self> {
        let (forward, slope) = (Displacement::zeros(grid)?, Displacement::zeros(grid)?);
        Ok(Self { terms: vec![term], forward, slope })
    }

    /// The terms at U on the map grid; ∂/∂U on the fixed image's grid is left in `slope`.
    fn evaluate(
        &mut self,
        forward: &Displacement<T, D>,
        upsample: &Resample<T, D>,
        ws: &mut Workspace<T>,
    ) -> f64 {
        upsample.apply(forward.data(), self.forward.data_mut(), ws);
        self.slope.set_zero();
        let (u, slope) = (self.forward.data(), self.slope.data_mut());
        self.terms.iter_mut().map(|term| term.add(u, slope)).sum()
    }
}

/// The map that the moving image was read at before this registration, and the whole map.
struct MapBefore<T: Real, const D: usize> {
    composition: Composition<T, D>,
    /// Spline coefficients of U before.
    coefficients: Vec<T>,
    whole: Displacement<T, D>,
    whole_bar: Displacement<T, D>,
}

impl<T: Real, const D: usize> MapBefore<T, D> {
    fn new(before: &Displacement<T, D>, grid: &Grid<D>) -> Result<Self> {
        let before = resampled(before, grid)?;
        let composition = Composition::new(grid);
        let mut coefficients = vec![T::zero(); before.data().len()];
        composition.coefficients(before.data(), &mut coefficients);
        let whole_bar = Displacement::zeros(grid)?;
        Ok(Self { composition, coefficients, whole: before, whole_bar })
    }

    /// The barrier of w = u + U∘(id + u); adds its gradient ū = w̄ + D(U)ᵀ w̄ to `u_bar`.
    fn barrier(
        &mut self,
        u: &Displacement<T, D>,
        barrier: FoldBarrier,
        u_bar: &mut Displacement<T, D>,
    ) -> Result<(f64, f64)> {
        let Self { composition, coefficients, whole, whole_bar } = self;
        composition.compose(coefficients, u.data(), whole.data_mut());
        whole_bar.set_zero();
        let found = fold_barrier(whole, barrier, BARRIER_WEIGHT, whole_bar)?;
        let bar = whole_bar.data();
        composition.add_position_bar(coefficients, u.data(), bar, u_bar.data_mut());
        axpy(u_bar.data_mut(), T::one(), bar);
        Ok(found)
    }
}

/// Weight of the barrier, for energies without unit. With a tenth of it the optimiser meets the bound itself, where
/// every other trial is refused and iterations end early; with ten times as much, maps that must be steep end short.
const BARRIER_WEIGHT: f64 = 1e-1;

/// Where the barrier begins, from the bound (0) to the determinant of the identity (1).
const BARRIER_REACH: f64 = 0.25;

impl<S: Shooting<T, D>, T: Real, const D: usize> Objective<T> for PairObjective<S, T, D> {
    type Control = Controls<T, D, S::Weights>;

    fn evaluate(&mut self, controls: &Self::Control, gradient: &mut Self::Control) -> Result<f64> {
        self.rest.expect_like(controls)?;
        self.rest.expect_like(gradient)?;
        gradient.set_zero();
        let regularisation = self.shooting.add_energy(controls, self.energy_scale, gradient);
        let penalty = self.shooting.add_penalty(controls, gradient);

        self.shooting.set_initial_state(controls, &mut self.start);
        let energy = regularisation / self.energy_scale;
        let before = self.shooting.initial_hamiltonian(energy, &self.start)?;
        let end = self.sweep.forward(&self.start)?;
        let after = self.shooting.hamiltonian(end)?;
        let min_det = smallest_determinant(end.map());
        let (map, u) = (end.map().data(), self.displacement.data_mut());
        self.upsample.apply(map, u, &mut self.resample);
        let u = self.displacement.data();
        let (warped, slope) = (self.warped.data_mut(), self.slope.data_mut());
        self.warp.value_and_gradient(self.moving.data(), u, warped, slope);
        let similarity = self.similarity.value_and_gradient(warped, self.warped_bar.data_mut());

        // λ ∂Sim/∂u = λ ∂Sim/∂(I₀∘Φ⁻¹) · ∇I₀∘Φ⁻¹, then back through the prolongation and the flow.
        let (bar, weight) = (self.warped_bar.data(), T::of(self.weight));
        par::components(slope, bar.len(), |_, lo, chunk| {
            for (s, &bar) in chunk.iter_mut().zip(&bar[lo..]) {
                *s *= weight * bar;
            }
        });
        let channels =
            self.channels.iter_mut().fold(0.0, |sum, channel| sum + channel.add(u, slope));
        let mut folding = 0.0;
        if let Some(barrier) = self.barrier {
            let (u, bar) = (&self.displacement, &mut self.slope);
            let (mean, found) = match &mut self.before {
                None => fold_barrier(u, barrier, BARRIER_WEIGHT, bar)?,
                Some(before) => before.barrier(u, barrier, bar)?,
            };
            if !mean.is_finite() {
                self.refused += 1;
                return Err(Error::Folded { bound: barrier.bound, found });
            }
            folding = BARRIER_WEIGHT * mean;
        }
        let slope = self.slope.data();
        self.bar.set_zero();
        let mut reverse = 0.0;
        if let (Some(terms), Some(forward)) = (&mut self.reverse, end.forward()) {
            reverse = terms.evaluate(forward, &self.upsample, &mut self.resample);
            if let Some(bar) = self.bar.forward_mut() {
                let slope = terms.slope.data();
                self.upsample.transpose(slope, bar.data_mut(), &mut self.resample);
            }
        }
        let map_bar = self.bar.map_mut().data_mut();
        self.upsample.transpose(slope, map_bar, &mut self.resample);
        let landmarks = self.landmarks.as_mut().map_or(0.0, |term| term.add(map, map_bar));
        self.sweep.backward(&self.start, &mut self.bar)?;
        self.shooting.initial_state_vjp(controls, &self.bar, gradient);

        let terms = Terms {
            regularisation,
            similarity,
            channels,
            reverse,
            landmarks,
            penalty,
            folding,
            total: regularisation
                + self.weight * similarity
                + channels
                + reverse
                + landmarks
                + penalty
                + folding,
        };
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
