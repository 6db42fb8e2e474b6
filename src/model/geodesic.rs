//! LDDMM and RDMM: one shooting, two metrics.

use std::fmt;
use std::sync::Arc;

use super::multi_gaussian::accuracy;
use super::preconditioner::{OfBank, Preconditioner};
use super::regions::Carried;
use super::scale::{Scale, smallest, uniform_weights};
use super::weights::{Given, PreWeights, Softmax, Uniform, WeightControl};
use super::{
    BoxedInverse, BoxedKernel, Controls, Domain, Model, MultiGaussian, Rdmm, RdmmOptimised,
    Shooting, State, resampled, windowed,
};
use crate::dynamics::{Epdiff, Flow, Geodesic};
use crate::error::{Error, Result};
use crate::evaluate::local_standard_deviation;
use crate::field::{Displacement, Image, Momentum, Velocity, Weights};
use crate::grid::Grid;
use crate::kernel::{Gaussian, GaussianBank, Identity, Kernel};
use crate::metric::{Fixed, Inputs, Metric, Mixture};
use crate::optim::Euclidean;
use crate::regularize::Regularizer;
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
/// use rdmm_core::metric::Fixed;
/// use rdmm_core::model::{GeodesicShooting, Shooting, Uniform};
/// use rdmm_core::ops::difference::Order;
///
/// let grid = Grid::<2>::unit([16, 16])?;
/// let metric = Fixed::new(Gaussian::<f64, 2>::new(&grid, 0.2)?);
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
    fn of_bank(
        self,
        bank: GaussianBank<T, D>,
        mean_weights: Vec<f64>,
        smoothing: BoxedKernel<T>,
    ) -> Self {
        let sigmas = bank.scales().iter().map(Gaussian::sigma).collect();
        let local_scale = LocalScale { sigmas, mean_weights: mean_weights.clone(), smoothing };
        self.with_local_scale(local_scale).with_preconditioner(OfBank { bank, mean_weights })
    }
}

/// LDDMM: EPDiff with one multi-Gaussian metric everywhere.
///
/// # References
/// Beg et al., IJCV 61 (2005), doi:10.1023/B:VISI.0000043755.93987.aa; Vialard et al., IJCV 97 (2012),
/// doi:10.1007/s11263-011-0481-8.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(bound(deserialize = "S: Clone + serde::Deserialize<'de>")))]
pub struct Lddmm<S = f64> {
    metric: MultiGaussian<S>,
}

impl<S> Lddmm<S> {
    /// LDDMM with this metric.
    #[must_use]
    pub fn new(metric: MultiGaussian<S>) -> Self {
        Self { metric }
    }

    /// The metric.
    #[must_use]
    pub fn metric(&self) -> &MultiGaussian<S> {
        &self.metric
    }
}

impl<T: Real, const D: usize, S: Scale<D>> Model<T, D> for Lddmm<S> {
    type Shooting = GeodesicShooting<Fixed<BoxedKernel<T>>, Uniform, T, D>;

    fn name(&self) -> &'static str {
        "LDDMM"
    }

    fn smallest_sigma(&self) -> f64 {
        smallest(self.metric.sigmas())
    }

    fn advected_by(&self, _map: &Displacement<T, D>) -> Result<Self> {
        Ok(self.clone())
    }

    fn discretise(&self, Domain { grid, .. }: &Domain<D>) -> Result<Self::Shooting> {
        let metric = &self.metric;
        let (bank, shares) = (metric.bank::<T, D>(grid)?, metric.shares());
        let kernel = windowed(bank.combined(shares)?, grid, metric.border())?;
        let evolution = Epdiff::new(grid, Fixed::new(kernel), metric.order());
        let shooting = GeodesicShooting::new(evolution, Uniform)?;
        Ok(shooting.of_bank(bank, shares.to_vec(), Box::new(Identity)))
    }
}

/// The metric of RDMM.
type RegionMetric<T, const D: usize> = Mixture<BoxedKernel<T>, BoxedKernel<T>, T, D>;

/// The smoothing that the dynamics apply at every instant, and the one at the start.
fn smoothings<T: Real, const D: usize>(
    grid: &Grid<D>,
    sigma: f64,
    carried: Carried,
    tolerance: f64,
) -> Result<(BoxedKernel<T>, BoxedKernel<T>)> {
    // Weights do not vanish outside the grid, so a free grid mirrors them.
    let grid = grid.clone().with_boundary(grid.boundary().of_weights());
    let gaussian: BoxedKernel<T> =
        Box::new(Gaussian::new(&grid, sigma)?.with_tolerance(tolerance)?);
    Ok(match carried {
        Carried::PreWeights => (gaussian, Box::new(Identity)),
        Carried::Weights => (Box::new(Identity), gaussian),
    })
}

/// The evolution of RDMM on a grid.
fn region_evolution<T: Real, const D: usize>(
    grid: &Grid<D>,
    bank: &GaussianBank<T, D>,
    always: BoxedKernel<T>,
    order: crate::ops::difference::Order,
    border: Option<f64>,
) -> Result<Epdiff<RegionMetric<T, D>, T, D>> {
    let kernels: Result<Vec<_>> =
        bank.scales().iter().map(|g| windowed(g.clone(), grid, border)).collect();
    let metric = Mixture::new(grid, kernels?, always, order)?;
    Ok(Epdiff::new(grid, metric, order))
}

impl<T: Real, const D: usize, S: Scale<D>> Model<T, D> for Rdmm<T, D, S> {
    type Shooting = GeodesicShooting<RegionMetric<T, D>, Given<T, D>, T, D>;

    fn name(&self) -> &'static str {
        "RDMM"
    }

    fn smallest_sigma(&self) -> f64 {
        // G smooths weights on the same grid.
        smallest(self.sigmas()).min(self.smoothing())
    }

    fn advected_by(&self, map: &Displacement<T, D>) -> Result<Self> {
        self.read_at(map)
    }

    fn discretise(&self, domain: &Domain<D>) -> Result<Self::Shooting> {
        let Domain { grid, initial, .. } = domain;
        let (smoothing, advected) = (self.smoothing(), self.advected());
        let tolerance = accuracy::<T>(self.tolerance());
        let bank = S::bank(grid, self.sigmas())?.with_tolerance(tolerance)?;
        let h = self.initial_pre_weights(grid, initial)?;
        let mean_shares = self.mean_shares(&h);
        let (always, once) = smoothings(grid, smoothing, advected, tolerance)?;
        let mut start = h.clone();
        once.apply(h.data(), start.data_mut(), &mut crate::kernel::Workspace::new());
        let (shown, _) = smoothings(grid, smoothing, advected, tolerance)?;
        let evolution = region_evolution(grid, &bank, always, self.order(), self.border())?;
        let shooting = GeodesicShooting::new(evolution, Given(start))?;
        Ok(shooting.of_bank(bank, mean_shares, shown))
    }
}

impl<T: Real, const D: usize, S: Scale<D>> Model<T, D> for RdmmOptimised<T, D, S> {
    type Shooting = GeodesicShooting<RegionMetric<T, D>, Softmax<T, D>, T, D>;

    fn name(&self) -> &'static str {
        "RDMM optimised"
    }

    fn smallest_sigma(&self) -> f64 {
        smallest(self.metric().sigmas()).min(self.smoothing())
    }

    fn advected_by(&self, _map: &Displacement<T, D>) -> Result<Self> {
        Ok(self.clone())
    }

    fn discretise(&self, Domain { grid, level, .. }: &Domain<D>) -> Result<Self::Shooting> {
        let weight = |penalty: &dyn Regularizer<T, D>| match level {
            Some(level) => penalty.weight_on(*level),
            None => penalty.weight(),
        };
        let (metric, smoothing, advected) = (self.metric(), self.smoothing(), self.advected());
        let (shares, tolerance) = (metric.shares(), accuracy::<T>(metric.tolerance()));
        let bank = metric.bank(grid)?;
        let (always, once) = smoothings(grid, smoothing, advected, tolerance)?;
        let (shown, _) = smoothings(grid, smoothing, advected, tolerance)?;
        let evolution = region_evolution(grid, &bank, always, metric.order(), metric.border())?;
        let (gaussian, _) = smoothings(grid, smoothing, Carried::PreWeights, tolerance)?;
        let sigmas: Vec<f64> = metric.sigmas().iter().map(Scale::sigma).collect();
        let control = Softmax::new(grid, shares, once);
        let penalties: Vec<_> = self.penalties().iter().map(|p| (weight(&**p), &**p)).collect();
        let control = control.with_penalties(&penalties, &sigmas, gaussian)?;
        let shooting = GeodesicShooting::new(evolution, control)?;
        Ok(shooting.of_bank(bank, shares.to_vec(), shown))
    }
}

/// RDMM whose initial pre-weights are controls themselves, as given: for what has its own way to make them admissible, such
/// as a network. [`Shooting::identity`] has the pre-weights of `metric`, the same everywhere.
///
/// Nothing keeps Σ h_i² = 1: pre-weights that are scaled scale the metric.
///
/// # References
/// Shen, Vialard, Niethammer, `NeurIPS` 2019, arXiv:1906.00139, Section 4.
#[derive(Clone, Debug, PartialEq)]
pub struct RdmmControlled<S = f64> {
    metric: MultiGaussian<S>,
    smoothing: f64,
}

impl<S> RdmmControlled<S> {
    /// RDMM with the Gaussians of `metric` and G of this standard deviation, physical units. Pre-weights are advected.
    #[must_use]
    pub fn new(metric: MultiGaussian<S>, smoothing: f64) -> Self {
        Self { metric, smoothing }
    }
}

impl<T: Real, const D: usize, S: Scale<D>> Model<T, D> for RdmmControlled<S> {
    type Shooting = GeodesicShooting<RegionMetric<T, D>, PreWeights<T, D>, T, D>;

    fn name(&self) -> &'static str {
        "RDMM controlled"
    }

    fn smallest_sigma(&self) -> f64 {
        smallest(self.metric.sigmas()).min(self.smoothing)
    }

    fn advected_by(&self, _map: &Displacement<T, D>) -> Result<Self> {
        Ok(self.clone())
    }

    fn discretise(&self, Domain { grid, .. }: &Domain<D>) -> Result<Self::Shooting> {
        let metric = &self.metric;
        let (shares, tolerance) = (metric.shares(), accuracy::<T>(metric.tolerance()));
        let (bank, advected) = (metric.bank(grid)?, Carried::PreWeights);
        let (always, _) = smoothings(grid, self.smoothing, advected, tolerance)?;
        let (shown, _) = smoothings(grid, self.smoothing, advected, tolerance)?;
        let evolution = region_evolution(grid, &bank, always, metric.order(), metric.border())?;
        let control = PreWeights::new(uniform_weights(grid, shares)?);
        let shooting = GeodesicShooting::new(evolution, control)?;
        Ok(shooting.of_bank(bank, shares.to_vec(), shown))
    }
}
