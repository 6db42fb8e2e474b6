//! Differentiable shooting: from initial momentum and pre-weights to maps, and the gradient back.
//!
//! [`Shoot`] is a flow on one grid. [`Shoot::forward`] gives the [`Shot`] at t = 1 and a [`Tape`], a value from which
//! [`Tape::backward`] takes [`Cotangents`] of maps, energy and weights to the exact gradient in momentum and pre-weights: the
//! transpose of the steps that were taken. It is what a network or an objective of your own needs; the objective of a pair
//! of images is [`PairObjective`](crate::registration::PairObjective).
//!
//! ```
//! use rdmm_core::field::{Momentum, Weights};
//! use rdmm_core::grid::Grid;
//! use rdmm_core::model::MultiGaussian;
//! use rdmm_core::shoot::{Cotangents, Shoot};
//!
//! let grid = Grid::<2>::unit([24, 24])?;
//! let metric = MultiGaussian::new(&[0.1, 0.2], &[0.4, 0.6])?;
//! let shoot = Shoot::<f64, 2>::rdmm(&grid, &metric, 0.1)?;
//! let m0 = Momentum::from_fn(&grid, |x| x.map(|x| 0.02 * (7.0 * x).sin()))?;
//! let h0 = Weights::from_fn(&grid, 2, |x, i| [0.6, 0.8][i] + 0.05 * x[0])?;
//!
//! // A loss of the final map: ½ Σ u².
//! let (end, tape) = shoot.forward(&m0, Some(&h0))?;
//! let bars = Cotangents { inverse_map: Some(end.inverse_map), ..Cotangents::default() };
//! let gradient = tape.backward(&bars)?;
//! assert_eq!(gradient.momentum.grid(), &grid);
//! assert_eq!(gradient.pre_weights.map(|h| h.components()), Some(2));
//! # Ok::<(), rdmm_core::Error>(())
//! ```

mod erased;
mod values;

use std::fmt;
use std::sync::Arc;

use crate::adjoint::{Checkpoints, Integration};
use crate::error::{Error, Result};
use crate::field::{Momentum, Weights};
use crate::grid::Grid;
use crate::model::{GaussianSpec, Lddmm, Model, MultiGaussian, RdmmControlled, Shooting, Vsvf};
use crate::par;
use crate::scalar::Real;

pub use erased::ControlWeights;
use erased::{Plain, Pull, Trajectories};
pub use values::{Cotangents, Gradient, Initial, Shot};

/// A flow on one grid that is shot from initial conditions, with every plan made. It can be shared between threads.
///
/// A forward pass costs the stages of its steps; the backward pass some two forward passes. Every [`Tape`] has buffers of its
/// own. Of the plans and buffers of the [`Shooting`] there are as many as were ever used at once, by [`Shoot::forward_batch`]
/// or by several threads of yours.
#[derive(Clone)]
pub struct Shoot<T: Real, const D: usize> {
    trajectories: Arc<dyn Trajectories<T, D>>,
    integration: Integration,
}

impl<T: Real, const D: usize> fmt::Debug for Shoot<T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shoot")
            .field("grid", self.grid())
            .field("integration", &self.integration)
            .finish_non_exhaustive()
    }
}

impl<T: Real, const D: usize> Shoot<T, D> {
    /// Any shooting: of a built-in model by [`Model::on`], or your own. `recipe` makes it, the same one at every call: once
    /// at first, and again whenever several threads need one at the same time.
    ///
    /// # Errors
    /// Those of `recipe`, also later, by [`Shoot::forward`] and [`Tape::backward`].
    ///
    /// ```
    /// use rdmm_core::field::{Momentum, Weights};
    /// use rdmm_core::grid::Grid;
    /// use rdmm_core::model::{Model, Rdmm};
    /// use rdmm_core::shoot::Shoot;
    ///
    /// let grid = Grid::<2>::unit([24, 24])?;
    /// let h = Weights::<f64, 2>::from_fn(&grid, 2, |_, i| [0.6, 0.8][i])?;
    /// // With pre-weights that stay as they are.
    /// let model = Rdmm::from_pre_weights(&[0.1, 0.2], h, 0.1)?;
    /// let on = grid.clone();
    /// let shoot = Shoot::<f64, 2>::new(move || model.on(&on))?;
    /// let m0 = Momentum::from_fn(&grid, |x| x.map(|x| 0.1 * x))?;
    /// assert!(shoot.forward(&m0, None)?.0.energy > 0.0);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn new<S>(recipe: impl Fn() -> Result<S> + Send + Sync + 'static) -> Result<Self>
    where
        S: Shooting<T, D, Weights: ControlWeights<T, D>, Evolution: 'static> + 'static,
    {
        let trajectories = Arc::new(Plain::of(recipe)?);
        Ok(Self { trajectories, integration: Integration::default() })
    }

    fn of_model<M>(model: M, grid: &Grid<D>) -> Result<Self>
    where
        M: Model<T, D> + Send + Sync + 'static,
        M::Shooting: Shooting<T, D, Weights: ControlWeights<T, D>, Evolution: 'static> + 'static,
    {
        let grid = grid.clone();
        Self::new(move || model.on(&grid))
    }

    /// LDDMM: EPDiff with one metric everywhere. No pre-weights.
    ///
    /// # Errors
    /// Those of [`Model::discretise`] of [`Lddmm`].
    pub fn lddmm<S: GaussianSpec<D> + 'static>(
        grid: &Grid<D>,
        metric: &MultiGaussian<S>,
    ) -> Result<Self> {
        Self::of_model(Lddmm::new(metric.clone()), grid)
    }

    /// vSVF: a velocity that is constant in time, v = K m₀. No pre-weights.
    ///
    /// # Errors
    /// Those of [`Model::discretise`] of [`Vsvf`].
    pub fn vsvf<S: GaussianSpec<D> + 'static>(
        grid: &Grid<D>,
        metric: &MultiGaussian<S>,
    ) -> Result<Self> {
        Self::of_model(Vsvf::new(metric.clone()), grid)
    }

    /// RDMM: pre-weights h₀ of the Gaussians of `metric`, one component each, are initial conditions beside the momentum and
    /// are taken as given; w = G ⋆ h with G of the standard deviation `smoothing`, physical units, on the boundary that
    /// weights need.
    ///
    /// # Errors
    /// Those of [`Model::discretise`] of [`RdmmControlled`].
    pub fn rdmm<S: GaussianSpec<D> + 'static>(
        grid: &Grid<D>,
        metric: &MultiGaussian<S>,
        smoothing: f64,
    ) -> Result<Self> {
        Self::of_model(RdmmControlled::new(metric.clone(), smoothing), grid)
    }

    /// The same with the forward map beside the inverse one: one interpolation of the velocity a stage, and its transpose.
    #[must_use]
    pub fn with_forward_map(mut self) -> Self {
        self.trajectories = self.trajectories.tracked();
        self
    }

    /// The same with another integration.
    ///
    /// # Errors
    /// Those of [`Integration::validate`].
    pub fn with_integration(mut self, integration: Integration) -> Result<Self> {
        integration.validate()?;
        self.integration = integration;
        Ok(self)
    }

    /// The grid of momentum, pre-weights and maps.
    #[must_use]
    pub fn grid(&self) -> &Grid<D> {
        self.trajectories.grid()
    }

    /// Initial conditions of the identity: no momentum, and the pre-weights of the metric where there are any.
    #[must_use]
    pub fn identity(&self) -> (Momentum<T, D>, Option<Weights<T, D>>) {
        self.trajectories.identity()
    }

    /// The state at t = 1, and the tape back from it.
    ///
    /// # Errors
    /// [`Error::GridMismatch`] or [`Error::Length`] for initial conditions of another grid or number of Gaussians, and for
    /// pre-weights that are missing or too many; [`Error::Diverged`] and [`Error::StepLimit`], which a smaller momentum may
    /// avoid; [`Error::OutOfMemory`].
    pub fn forward(
        &self,
        momentum: &Momentum<T, D>,
        pre_weights: Option<&Weights<T, D>>,
    ) -> Result<(Shot<T, D>, Tape<T, D>)> {
        self.shoot_to_end((momentum, pre_weights), &self.integration)
    }

    /// The states at several times, which increase and lie in (0, 1], and the tape back from all of them. Steps end at each
    /// of the times.
    ///
    /// # Errors
    /// Those of [`Shoot::forward`]; [`Error::Setting`] for other times, [`Error::Length`] without one.
    pub fn forward_at(
        &self,
        momentum: &Momentum<T, D>,
        pre_weights: Option<&Weights<T, D>>,
        times: &[f64],
    ) -> Result<(Vec<Shot<T, D>>, Tape<T, D>)> {
        self.shoot((momentum, pre_weights), times, &self.integration)
    }

    /// Several trajectories to t = 1, `jobs` of them at a time (at least one), in the order given. The results have the same
    /// bits whatever `jobs` and `bytes` are. A trajectory that fails does not stop the others; its errors are those of
    /// [`Shoot::forward`].
    ///
    /// `bytes` is divided equally among the tapes, and a part of it takes the place of the budget of
    /// [`Checkpoints::Stages`], as by default, or [`Checkpoints::Bytes`]. With `Stages` it bounds the stages alone: a tape
    /// holds the state of every step besides, however small its part is. With `Bytes` it bounds the states, and a part that
    /// is less than one state is refused ([`Error::Setting`]). Under other policies it has no effect.
    ///
    /// ```
    /// use rdmm_core::field::Momentum;
    /// use rdmm_core::grid::Grid;
    /// use rdmm_core::model::MultiGaussian;
    /// use rdmm_core::shoot::Shoot;
    ///
    /// let grid = Grid::<2>::unit([24, 24])?;
    /// let shoot = Shoot::<f32, 2>::lddmm(&grid, &MultiGaussian::for_grid(&grid))?;
    /// let momenta = [0.1, 0.2].map(|size| Momentum::from_fn(&grid, |x| x.map(|x| size * x)));
    /// let [a, b] = momenta;
    /// let (a, b) = (a?, b?);
    /// for trajectory in shoot.forward_batch(&[(&a, None), (&b, None)], 2, 64 << 20) {
    ///     let (end, tape) = trajectory?;
    ///     assert!(end.energy > 0.0 && tape.bytes() < 64 << 20);
    /// }
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    #[must_use]
    pub fn forward_batch(
        &self,
        initial: &[Initial<'_, T, D>],
        jobs: usize,
        bytes: usize,
    ) -> Vec<Result<(Shot<T, D>, Tape<T, D>)>> {
        let mut integration = self.integration.clone();
        match &mut integration.checkpoints {
            Checkpoints::Stages(budget) | Checkpoints::Bytes(budget) => {
                *budget = bytes / initial.len().max(1);
            }
            Checkpoints::All | Checkpoints::Every(_) | Checkpoints::Binomial(_) => {}
        }
        let shoot = |index: usize| self.shoot_to_end(initial[index], &integration);
        par::queue(initial.len(), jobs, shoot)
    }

    fn shoot_to_end(
        &self,
        initial: Initial<'_, T, D>,
        integration: &Integration,
    ) -> Result<(Shot<T, D>, Tape<T, D>)> {
        let (mut shots, tape) = self.shoot(initial, &[1.0], integration)?;
        Ok((shots.pop().ok_or_else(no_times)?, tape))
    }

    fn shoot(
        &self,
        initial: Initial<'_, T, D>,
        times: &[f64],
        integration: &Integration,
    ) -> Result<(Vec<Shot<T, D>>, Tape<T, D>)> {
        if times.is_empty() {
            return Err(no_times());
        }
        let (shots, pull) = self.trajectories.forward(initial, times, integration.clone())?;
        Ok((shots, Tape { pull, times: times.len() }))
    }
}

fn no_times() -> Error {
    Error::Length { what: "times of a trajectory", expected: 1, found: 0 }
}

/// What a trajectory leaves for its gradient: owned, and free to be sent to another thread.
pub struct Tape<T: Real, const D: usize> {
    pull: Box<dyn Pull<T, D>>,
    times: usize,
}

impl<T: Real, const D: usize> fmt::Debug for Tape<T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tape")
            .field("times", &self.times)
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

impl<T: Real, const D: usize> Tape<T, D> {
    /// Bytes of the states and stages that it holds. The buffers of the flow, a few fields, do not count.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.pull.bytes()
    }

    /// The gradient of a loss of the state at the last, or only, of the times.
    ///
    /// # Errors
    /// [`Error::GridMismatch`] or [`Error::Length`] for cotangents of another shape than the state's, and for those of what
    /// the flow does not have; [`Error::NonFinite`] for that of the energy, whose index is that of its time;
    /// [`Error::Diverged`] where the gradient leaves the finite numbers; [`Error::OutOfMemory`].
    pub fn backward(self, end: &Cotangents<T, D>) -> Result<Gradient<T, D>> {
        let mut bars = vec![None; self.times];
        if let Some(last) = bars.last_mut() {
            *last = Some(end);
        }
        self.pull.backward(&bars)
    }

    /// The gradient of a loss of the states at all times: the cotangents of each.
    ///
    /// # Errors
    /// Those of [`Tape::backward`]; [`Error::Length`] for another number of cotangents than of times.
    ///
    /// ```
    /// use rdmm_core::field::Momentum;
    /// use rdmm_core::grid::Grid;
    /// use rdmm_core::model::MultiGaussian;
    /// use rdmm_core::shoot::{Cotangents, Shoot};
    ///
    /// let grid = Grid::<2>::unit([24, 24])?;
    /// let shoot = Shoot::<f64, 2>::lddmm(&grid, &MultiGaussian::for_grid(&grid))?;
    /// let m0 = Momentum::from_fn(&grid, |x| x.map(|x| 0.2 * x))?;
    /// let (shots, tape) = shoot.forward_at(&m0, None, &[0.5, 1.0])?;
    /// let bars: Vec<_> = shots
    ///     .into_iter()
    ///     .map(|shot| Cotangents { inverse_map: Some(shot.inverse_map), ..Default::default() })
    ///     .collect();
    /// let gradient = tape.backward_at(&bars)?;
    /// assert!(gradient.momentum.data().iter().any(|x| *x != 0.0));
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn backward_at(self, bars: &[Cotangents<T, D>]) -> Result<Gradient<T, D>> {
        let (expected, found) = (self.times, bars.len());
        if expected != found {
            return Err(Error::Length { what: "cotangents of a trajectory", expected, found });
        }
        self.pull.backward(&bars.iter().map(Some).collect::<Vec<_>>())
    }
}
