//! LDDMM and RDMM: one shooting, two metrics.

use std::sync::Arc;

use super::multi_gaussian::accuracy;
use super::regions::Carried;
use super::scale::{Scale, smallest, uniform_weights};
use super::weights::{Given, Softmax, Uniform, WeightControl};
use super::{
    BoxedInverse, BoxedKernel, Controls, Model, MultiGaussian, Rdmm, RdmmOptimised, Shooting,
    State, resampled, windowed,
};
use crate::dynamics::{Epdiff, Flow, Geodesic};
use crate::error::{Error, Result};
use crate::field::{Displacement, Momentum, Velocity, Weights};
use crate::grid::Grid;
use crate::kernel::{Gaussian, GaussianBank, Identity, Kernel, Spectral};
use crate::metric::{Fixed, Metric, Mixture};
use crate::regularize::Regularizer;
use crate::scalar::Real;
use crate::space::StateSpace;
use crate::world::Affine;

/// Geodesic shooting with a metric and controls of its weights.
pub struct GeodesicShooting<M: Metric<T, D>, C, T: Real, const D: usize> {
    evolution: Arc<Epdiff<M, T, D>>,
    control: C,
    /// The smoothing of the carried weights, to show them.
    spread: Spread<T, D>,
    velocity: Velocity<T, D>,
    weights: M::Weights,
    weights_bar: M::Weights,
    ws: M::Workspace,
}

/// What a shooting needs to show and to precondition: the σ, the mean shares, and the smoothing.
struct Spread<T, const D: usize> {
    bank: GaussianBank<T, D>,
    mean_shares: Vec<f64>,
    smoothing: BoxedKernel<T>,
}

/// Weights that can be shown: `()` stands for the mean shares everywhere.
pub trait Shown<T, const D: usize> {
    /// The carried weights, if they vary.
    fn shown(&self) -> Option<&Weights<T, D>>;
}

impl<T, const D: usize> Shown<T, D> for () {
    fn shown(&self) -> Option<&Weights<T, D>> {
        None
    }
}

impl<T, const D: usize> Shown<T, D> for Weights<T, D> {
    fn shown(&self) -> Option<&Weights<T, D>> {
        Some(self)
    }
}

impl<M, C, T, const D: usize> GeodesicShooting<M, C, T, D>
where
    T: Real,
    M: Metric<T, D>,
    C: WeightControl<T, M::Weights>,
{
    fn new(evolution: Epdiff<M, T, D>, control: C, spread: Spread<T, D>) -> Self {
        let velocity = Velocity::blank(evolution.grid());
        let ws = evolution.metric().workspace();
        let (weights, weights_bar) = (control.blank(), control.blank());
        let evolution = Arc::new(evolution);
        Self { evolution, control, spread, velocity, weights, weights_bar, ws }
    }
}

impl<M, C, T, const D: usize> Shooting<T, D> for GeodesicShooting<M, C, T, D>
where
    T: Real,
    M: Metric<T, D, Weights: Shown<T, D>>,
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

    fn rest(&self) -> Controls<T, D, C::Control> {
        let momentum = Momentum::blank(self.grid());
        Controls { momentum, weights: self.control.neutral() }
    }

    fn blank_state(&self) -> State<T, D, Self> {
        let (momentum, weights) = (Momentum::blank(self.grid()), self.control.blank());
        Flow { body: Geodesic { momentum, weights }, map: Displacement::blank(self.grid()) }
    }

    fn start(&mut self, controls: &Controls<T, D, C::Control>, state: &mut State<T, D, Self>) {
        state.body.momentum.copy_from(&controls.momentum);
        self.control.weights(&controls.weights, &mut state.body.weights);
        state.map.set_zero();
    }

    fn start_vjp(
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
        let metric = self.evolution.metric();
        let (m, scale) = (&controls.momentum, scale * self.evolution.grid().cell_volume());
        self.control.weights(&controls.weights, &mut self.weights);
        metric.velocity(m, &self.weights, &mut self.velocity, &mut self.ws);
        let energy = 0.5 * scale * crate::field::dot(m.data(), self.velocity.data());
        let slope = gradient.momentum.data_mut();
        crate::field::axpy(slope, T::of(scale), self.velocity.data());
        self.weights_bar.set_zero();
        metric.add_energy_slope(m, T::of(scale), &mut self.weights_bar, &mut self.ws);
        let bar = &self.weights_bar;
        self.control.weights_vjp(&controls.weights, bar, &mut gradient.weights);
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
        let Geodesic { momentum, weights } = &state.body;
        let metric = self.evolution.metric();
        metric.velocity(momentum, weights, &mut self.velocity, &mut self.ws);
        Ok(0.5 * momentum.integral_with(&self.velocity)?)
    }

    fn prolong(&self, controls: &Controls<T, D, C::Control>) -> Result<Controls<T, D, C::Control>> {
        let momentum = resampled(&controls.momentum, self.grid())?;
        Ok(Controls { momentum, weights: self.control.prolong(&controls.weights)? })
    }

    fn inverse_metric(&self, epsilon: f64) -> Result<Spectral<T, D>> {
        self.spread.bank.regularised_inverse(&self.spread.mean_shares, epsilon)
    }

    fn inverse_weights_metric(&self) -> BoxedInverse<T, C::Control> {
        self.control.inverse_metric()
    }

    fn sigmas(&self) -> Vec<f64> {
        self.spread.bank.scales().iter().map(Gaussian::sigma).collect()
    }

    fn weights(&self, state: &State<T, D, Self>) -> Result<Weights<T, D>> {
        let Spread { bank, mean_shares, smoothing } = &self.spread;
        let Some(carried) = state.body.weights.shown() else {
            return uniform_weights(self.grid(), mean_shares);
        };
        let (expected, found) = (bank.scales().len(), carried.components());
        if expected != found {
            return Err(Error::Length { what: "weights of the state", expected, found });
        }
        self.grid().expect_same(carried.grid(), "weights of the state")?;
        smoothing.smooth(carried)
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

    fn carried(&self, _map: &Displacement<T, D>) -> Result<Self> {
        Ok(self.clone())
    }

    fn on(&self, grid: &Grid<D>) -> Result<Self::Shooting> {
        let metric = &self.metric;
        let (bank, shares) = (metric.bank::<T, D>(grid)?, metric.shares());
        let kernel = windowed(bank.combined(shares)?, grid, metric.border())?;
        let evolution = Epdiff::new(grid, Fixed::new(kernel), metric.order());
        let spread = Spread { bank, mean_shares: shares.to_vec(), smoothing: Box::new(Identity) };
        Ok(GeodesicShooting::new(evolution, Uniform, spread))
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

    fn carried(&self, map: &Displacement<T, D>) -> Result<Self> {
        self.read_at(map)
    }

    fn on(&self, grid: &Grid<D>) -> Result<Self::Shooting> {
        self.on_through(grid, &Affine::identity())
    }

    fn on_through(&self, grid: &Grid<D>, initial: &Affine<D>) -> Result<Self::Shooting> {
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
        let spread = Spread { bank, mean_shares, smoothing: shown };
        Ok(GeodesicShooting::new(evolution, Given(start), spread))
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

    fn carried(&self, _map: &Displacement<T, D>) -> Result<Self> {
        Ok(self.clone())
    }

    fn on(&self, grid: &Grid<D>) -> Result<Self::Shooting> {
        self.with_weights(grid, |penalty| penalty.weight())
    }

    fn on_level(
        &self,
        grid: &Grid<D>,
        _initial: &Affine<D>,
        level: usize,
    ) -> Result<Self::Shooting> {
        self.with_weights(grid, |penalty| penalty.weight_on(level))
    }
}

impl<T: Real, const D: usize, S: Scale<D>> RdmmOptimised<T, D, S> {
    /// The recipe on `grid` with the λ of each penalty as `weight` says.
    fn with_weights(
        &self,
        grid: &Grid<D>,
        weight: impl Fn(&dyn Regularizer<T, D>) -> f64,
    ) -> Result<<Self as Model<T, D>>::Shooting> {
        let (metric, smoothing, advected) = (self.metric(), self.smoothing(), self.advected());
        let (shares, tolerance) = (metric.shares(), accuracy::<T>(metric.tolerance()));
        let bank = metric.bank(grid)?;
        let (always, once) = smoothings(grid, smoothing, advected, tolerance)?;
        let (shown, _) = smoothings(grid, smoothing, advected, tolerance)?;
        let evolution = region_evolution(grid, &bank, always, metric.order(), metric.border())?;
        let spread = Spread { bank, mean_shares: shares.to_vec(), smoothing: shown };
        let (gaussian, _) = smoothings(grid, smoothing, Carried::PreWeights, tolerance)?;
        let sigmas: Vec<f64> = metric.sigmas().iter().map(Scale::sigma).collect();
        let control = Softmax::new(grid, shares, once);
        let penalties: Vec<_> = self.penalties().iter().map(|p| (weight(&**p), &**p)).collect();
        let control = control.with_penalties(&penalties, &sigmas, gaussian)?;
        Ok(GeodesicShooting::new(evolution, control, spread))
    }
}
