//! Geodesic shooting: LDDMM and RDMM are this with two metrics.

use std::fmt;
use std::sync::Arc;

use super::preconditioner::{OfBank, Preconditioner};
use super::scale::uniform_weights;
use super::weights::WeightControl;
use super::{BoxedInverse, BoxedKernel, Controls, Shooting, State, resampled};
use crate::dynamics::{Epdiff, Flow, Geodesic};
use crate::error::{Error, Result};
use crate::evaluate::local_standard_deviation;
use crate::field::{Displacement, Image, Momentum, Velocity, Weights};
use crate::grid::Grid;
use crate::kernel::{Gaussian, GaussianBank, Kernel};
use crate::metric::{Inputs, Metric};
use crate::optim::Euclidean;
use crate::scalar::Real;
use crate::space::StateSpace;

/// Geodesic shooting with a metric and controls of its weights.
///
/// With any [`Metric`]: what is optional, a preconditioner and a local scale, comes by [`GeodesicShooting::with_preconditioner`]
/// and [`GeodesicShooting::with_local_scale`].
///
/// ```
/// use rdmm_core::dynamics::Epdiff;
/// use rdmm_core::grid::Grid;
/// use rdmm_core::kernel::Gaussian;
/// use rdmm_core::metric::Homogeneous;
/// use rdmm_core::model::{GeodesicShooting, Shooting, Uniform};
/// use rdmm_core::ops::difference::Order;
///
/// let grid = Grid::<2>::unit([16, 16])?;
/// let metric = Homogeneous::new(Gaussian::<f64, 2>::new(&grid, 0.2)?);
/// let mut shooting = GeodesicShooting::new(Epdiff::new(&grid, metric, Order::Fourth), Uniform)?;
/// let controls = shooting.identity();
/// let start = shooting.initial_state(&controls);
/// assert_eq!(shooting.hamiltonian(&start)?, 0.0);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
pub struct GeodesicShooting<M: Metric<T, D>, C, T: Real, const D: usize> {
    evolution: Arc<Epdiff<M, T, D>>,
    control: C,
    preconditioner: Option<Arc<dyn Preconditioner<T, D>>>,
    local_scale: Option<LocalScale<T, D>>,
    velocity: Velocity<T, D>,
    weights: M::Weights,
    weights_bar: M::Weights,
    tape: M::Tape,
    ws: M::Workspace,
}

impl<M: Metric<T, D>, C: fmt::Debug, T: Real, const D: usize> fmt::Debug
    for GeodesicShooting<M, C, T, D>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeodesicShooting")
            .field("grid", self.evolution.grid())
            .field("control", &self.control)
            .finish_non_exhaustive()
    }
}

/// What shows the regulariser of a sum of Gaussians: their σ, the weights where these do not vary, and the smoothing G
/// that makes weights of what the flow advects.
pub struct LocalScale<T, const D: usize> {
    /// Standard deviations of the Gaussians, physical units. A Gaussian with a covariance Σ counts with
    /// √(tr Σ / D), the root mean square over the directions.
    pub sigmas: Vec<f64>,
    /// Squares w_i² of the weights, averaged over the grid.
    pub mean_weights: Vec<f64>,
    /// G.
    pub smoothing: BoxedKernel<T>,
}

/// Weights that can be shown: `()` stands for the mean weights everywhere.
pub trait AsWeights<T, const D: usize> {
    /// The advected weights, if they vary.
    fn as_weights(&self) -> Option<&Weights<T, D>> {
        None
    }

    /// The same, to change.
    fn as_weights_mut(&mut self) -> Option<&mut Weights<T, D>> {
        None
    }
}

impl<T, const D: usize> AsWeights<T, D> for () {}

impl<T, const D: usize> AsWeights<T, D> for Weights<T, D> {
    fn as_weights(&self) -> Option<&Weights<T, D>> {
        Some(self)
    }

    fn as_weights_mut(&mut self) -> Option<&mut Weights<T, D>> {
        Some(self)
    }
}

impl<M, C, T, const D: usize> GeodesicShooting<M, C, T, D>
where
    T: Real,
    M: Metric<T, D>,
    C: WeightControl<T, M::Weights>,
{
    /// Shooting with the geodesics of `evolution`'s metric, from the weights that `control` gives.
    ///
    /// # Errors
    /// Those of [`Metric::tape`]; [`Error::OutOfMemory`].
    pub fn new(evolution: Epdiff<M, T, D>, control: C) -> Result<Self> {
        let velocity = Velocity::zeros(evolution.grid())?;
        let (tape, ws) = (evolution.metric().tape(evolution.grid())?, M::Workspace::default());
        let (weights, weights_bar) = (control.blank(), control.blank());
        let (evolution, preconditioner, local_scale) = (Arc::new(evolution), None, None);
        Ok(Self {
            evolution,
            control,
            preconditioner,
            local_scale,
            velocity,
            weights,
            weights_bar,
            tape,
            ws,
        })
    }

    /// The same with an approximate inverse of the metric for optimisers, in place of the identity.
    #[must_use]
    pub fn with_preconditioner(mut self, inverse: impl Preconditioner<T, D> + 'static) -> Self {
        self.preconditioner = Some(Arc::new(inverse));
        self
    }

    /// The same with a local standard deviation to show.
    #[must_use]
    pub fn with_local_scale(mut self, local_scale: LocalScale<T, D>) -> Self {
        self.local_scale = Some(local_scale);
        self
    }
}

impl<M, C, T, const D: usize> Shooting<T, D> for GeodesicShooting<M, C, T, D>
where
    T: Real,
    M: Metric<T, D, Weights: AsWeights<T, D>>,
    C: WeightControl<T, M::Weights>,
{
    type Weights = C::Control;
    type Evolution = Epdiff<M, T, D>;

    fn grid(&self) -> &Grid<D> {
        self.evolution.grid()
    }

    fn evolution(&self) -> Arc<Epdiff<M, T, D>> {
        Arc::clone(&self.evolution)
    }

    fn identity(&self) -> Controls<T, D, C::Control> {
        let momentum = Momentum::blank(self.grid());
        Controls { momentum, weights: self.control.neutral() }
    }

    fn initial_state(&mut self, controls: &Controls<T, D, C::Control>) -> State<T, D, Self> {
        let (momentum, weights) = (Momentum::blank(self.grid()), self.control.blank());
        let body = Geodesic { momentum, weights };
        let mut state = Flow { body, map: Displacement::blank(self.grid()) };
        self.set_initial_state(controls, &mut state);
        state
    }

    fn set_initial_state(
        &mut self,
        controls: &Controls<T, D, C::Control>,
        state: &mut State<T, D, Self>,
    ) {
        state.body.momentum.copy_from(&controls.momentum);
        self.control.weights(&controls.weights, &mut state.body.weights);
        state.map.set_zero();
    }

    fn initial_state_vjp(
        &mut self,
        controls: &Controls<T, D, C::Control>,
        state_bar: &State<T, D, Self>,
        controls_bar: &mut Controls<T, D, C::Control>,
    ) {
        controls_bar.momentum.axpy(T::one(), &state_bar.body.momentum);
        let bar = &state_bar.body.weights;
        self.control.weights_vjp(&controls.weights, bar, &mut controls_bar.weights);
    }

    fn add_energy(
        &mut self,
        controls: &Controls<T, D, C::Control>,
        scale: f64,
        gradient: &mut Controls<T, D, C::Control>,
    ) -> f64 {
        let Self { evolution, control, velocity, weights, weights_bar, tape, ws, .. } = self;
        let metric = evolution.metric();
        let (m, scale) = (&controls.momentum, scale * evolution.grid().cell_volume());
        control.weights(&controls.weights, weights);
        let at = Inputs { momentum: m, weights: &*weights };
        metric.velocity(at, velocity, tape, ws);
        let energy = 0.5 * scale * crate::field::dot(m.data(), velocity.data());
        crate::field::axpy(gradient.momentum.data_mut(), T::of(scale), velocity.data());
        weights_bar.set_zero();
        metric.energy_gradient(at, T::of(scale), weights_bar, tape, ws);
        control.weights_vjp(&controls.weights, weights_bar, &mut gradient.weights);
        energy
    }

    fn add_penalty(
        &mut self,
        controls: &Controls<T, D, C::Control>,
        gradient: &mut Controls<T, D, C::Control>,
    ) -> f64 {
        self.control.add_penalty(&controls.weights, &mut gradient.weights)
    }

    fn hamiltonian(&mut self, state: &State<T, D, Self>) -> Result<f64> {
        let Self { evolution, velocity, tape, ws, .. } = self;
        evolution.metric().expect_weights(evolution.grid(), &state.body.weights)?;
        evolution.metric().velocity(state.body.inputs(), velocity, tape, ws);
        Ok(0.5 * state.body.momentum.integral_with(velocity)?)
    }

    fn prolong(&self, controls: &Controls<T, D, C::Control>) -> Result<Controls<T, D, C::Control>> {
        let momentum = resampled(&controls.momentum, self.grid())?;
        Ok(Controls { momentum, weights: self.control.prolong(&controls.weights)? })
    }

    fn inverse_metric(&self, epsilon: f64) -> Result<BoxedInverse<T, Momentum<T, D>>> {
        crate::error::positive("epsilon of the inverse metric", epsilon)?;
        match &self.preconditioner {
            Some(inverse) => inverse.inverse(epsilon),
            None => Ok(Box::new(Euclidean)),
        }
    }

    fn inverse_weights_metric(&self) -> BoxedInverse<T, C::Control> {
        self.control.inverse_metric()
    }

    fn weights(&self, state: &State<T, D, Self>) -> Result<Option<Weights<T, D>>> {
        let Some(LocalScale { sigmas, mean_weights, smoothing }) = &self.local_scale else {
            return Ok(None);
        };
        let Some(advected) = state.body.weights.as_weights() else {
            return uniform_weights(self.grid(), mean_weights).map(Some);
        };
        let (expected, found) = (sigmas.len(), advected.components());
        if expected != found {
            return Err(Error::Length { what: "weights of the state", expected, found });
        }
        self.grid().expect_same(advected.grid(), "weights of the state")?;
        smoothing.smooth(advected).map(Some)
    }

    fn weights_vjp(
        &self,
        weights_bar: &Weights<T, D>,
        state_bar: &mut State<T, D, Self>,
    ) -> Result<()> {
        let bar = state_bar.body.weights.as_weights_mut();
        if let (Some(LocalScale { smoothing, .. }), Some(bar)) = (&self.local_scale, bar) {
            bar.expect_like(weights_bar)?;
            // w = G ⋆ h, and G is symmetric.
            bar.axpy(T::one(), &smoothing.smooth(weights_bar)?);
        }
        Ok(())
    }

    fn local_sigma(&self, state: &State<T, D, Self>) -> Result<Option<Image<T, D>>> {
        let Some(scale) = &self.local_scale else { return Ok(None) };
        let weights = self.weights(state)?;
        weights.map(|weights| local_standard_deviation(&weights, &scale.sigmas)).transpose()
    }
}

impl<M, C, T, const D: usize> GeodesicShooting<M, C, T, D>
where
    T: Real,
    M: Metric<T, D>,
    C: WeightControl<T, M::Weights>,
{
    /// The same with the preconditioner and the local scale of a sum of Gaussians.
    pub(super) fn of_bank(
        self,
        bank: GaussianBank<T, D>,
        mean_weights: Vec<f64>,
        smoothing: BoxedKernel<T>,
    ) -> Self {
        let sigmas = bank.gaussians().iter().map(Gaussian::sigma).collect();
        let local_scale = LocalScale { sigmas, mean_weights: mean_weights.clone(), smoothing };
        self.with_local_scale(local_scale).with_preconditioner(OfBank { bank, mean_weights })
    }
}
