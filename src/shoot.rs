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
/// own.
#[derive(Clone)]
pub struct Shoot<T: Real, const D: usize> {
    trajectories: Arc<dyn Trajectories<T, D>>,
    grid: Grid<D>,
    integration: Integration,
}

impl<T: Real, const D: usize> fmt::Debug for Shoot<T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shoot")
            .field("grid", &self.grid)
            .field("integration", &self.integration)
            .finish_non_exhaustive()
    }
}

impl<T: Real, const D: usize> Shoot<T, D> {
    /// Any shooting: of a built-in model by [`Model::on`], or your own.
    #[must_use]
    pub fn new<S>(shooting: S) -> Self
    where
        S: Shooting<T, D, Weights: ControlWeights<T, D>, Evolution: 'static> + 'static,
    {
        let grid = shooting.grid().clone();
        let trajectories = Arc::new(Plain::of(shooting));
        Self { trajectories, grid, integration: Integration::default() }
    }

    /// LDDMM: EPDiff with one metric everywhere. No pre-weights.
    ///
    /// # Errors
    /// Those of [`Model::discretise`] of [`Lddmm`].
    pub fn lddmm<S: GaussianSpec<D> + 'static>(
        grid: &Grid<D>,
        metric: &MultiGaussian<S>,
    ) -> Result<Self> {
        Ok(Self::new(Lddmm::new(metric.clone()).on(grid)?))
    }

    /// vSVF: a velocity that is constant in time, v = K m₀. No pre-weights.
    ///
    /// # Errors
    /// Those of [`Model::discretise`] of [`Vsvf`].
    pub fn vsvf<S: GaussianSpec<D> + 'static>(
        grid: &Grid<D>,
        metric: &MultiGaussian<S>,
    ) -> Result<Self> {
        Ok(Self::new(Vsvf::new(metric.clone()).on(grid)?))
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
        Ok(Self::new(RdmmControlled::new(metric.clone(), smoothing).on(grid)?))
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
        &self.grid
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
        let (mut shots, tape) = self.forward_at(momentum, pre_weights, &[1.0])?;
        let none = Error::Length { what: "times of a trajectory", expected: 1, found: 0 };
        Ok((shots.pop().ok_or(none)?, tape))
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

    /// Several trajectories to t = 1, `jobs` of them at a time (at least one), in the order given. `bytes` is what the tapes
    /// of all of them may keep of their stages: each has its part; what is not kept is computed again on the way back. The
    /// results have the same bits whatever `jobs` and `bytes` are. A trajectory that fails does not stop the others.
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
        integration.checkpoints = Checkpoints::Stages(bytes / initial.len().max(1));
        par::queue(initial.len(), jobs, |index| {
            let (mut shots, tape) = self.shoot(initial[index], &[1.0], &integration)?;
            let none = Error::Length { what: "times of a trajectory", expected: 1, found: 0 };
            Ok((shots.pop().ok_or(none)?, tape))
        })
    }

    fn shoot(
        &self,
        initial: Initial<'_, T, D>,
        times: &[f64],
        integration: &Integration,
    ) -> Result<(Vec<Shot<T, D>>, Tape<T, D>)> {
        if times.is_empty() {
            return Err(Error::Length { what: "times of a trajectory", expected: 1, found: 0 });
        }
        let (shots, pull) = self.trajectories.forward(initial, times, integration.clone())?;
        Ok((shots, Tape { pull, times: times.len() }))
    }
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
    /// the flow does not have; [`Error::Diverged`] where the gradient leaves the finite numbers.
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
