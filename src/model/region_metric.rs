//! RDMM: the recipes of a metric that varies in space, on a grid.

use super::geodesic::GeodesicShooting;
use super::multi_gaussian::accuracy;
use super::regions::Advected;
use super::scale::{GaussianSpec, smallest, uniform_weights};
use super::weights::{Given, PreWeights, Softmax};
use super::{BoxedKernel, Domain, Model, MultiGaussian, Rdmm, RdmmOptimised, windowed};
use crate::dynamics::Epdiff;
use crate::error::Result;
use crate::field::Displacement;
use crate::grid::Grid;
use crate::kernel::{Gaussian, GaussianBank, Identity, Kernel};
use crate::metric::Mixture;
use crate::regularize::Regularizer;
use crate::scalar::Real;

/// The metric of RDMM.
type RegionMetric<T, const D: usize> = Mixture<BoxedKernel<T>, BoxedKernel<T>, T, D>;

/// The smoothing that the dynamics apply at every instant, and the one at the start.
fn smoothings<T: Real, const D: usize>(
    grid: &Grid<D>,
    sigma: f64,
    advected: Advected,
    tolerance: f64,
) -> Result<(BoxedKernel<T>, BoxedKernel<T>)> {
    let gaussian: BoxedKernel<T> =
        Box::new(Gaussian::for_weights(grid, sigma)?.with_tolerance(tolerance)?);
    Ok(match advected {
        Advected::PreWeights => (gaussian, Box::new(Identity)),
        Advected::Weights => (Box::new(Identity), gaussian),
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
        bank.gaussians().iter().map(|g| windowed(g.clone(), grid, border)).collect();
    let metric = Mixture::new(grid, kernels?, always, order)?;
    Ok(Epdiff::new(grid, metric, order))
}

impl<T: Real, const D: usize, S: GaussianSpec<D>> Model<T, D> for Rdmm<T, D, S> {
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
        let mean_weights = self.mean_weights(&h);
        let (always, once) = smoothings(grid, smoothing, advected, tolerance)?;
        let mut start = h.clone();
        once.apply(h.data(), start.data_mut(), &mut crate::kernel::Workspace::new());
        let (shown, _) = smoothings(grid, smoothing, advected, tolerance)?;
        let evolution = region_evolution(grid, &bank, always, self.order(), self.border())?;
        let shooting = GeodesicShooting::new(evolution, Given(start))?;
        Ok(shooting.of_bank(bank, mean_weights, shown))
    }
}

impl<T: Real, const D: usize, S: GaussianSpec<D>> Model<T, D> for RdmmOptimised<T, D, S> {
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
        let (squares, tolerance) = (metric.weights(), accuracy::<T>(metric.tolerance()));
        let bank = metric.bank(grid)?;
        let (always, once) = smoothings(grid, smoothing, advected, tolerance)?;
        let (shown, _) = smoothings(grid, smoothing, advected, tolerance)?;
        let evolution = region_evolution(grid, &bank, always, metric.order(), metric.border())?;
        let (gaussian, _) = smoothings(grid, smoothing, Advected::PreWeights, tolerance)?;
        let sigmas: Vec<f64> = metric.sigmas().iter().map(GaussianSpec::sigma).collect();
        let control = Softmax::new(grid, squares, once);
        let penalties: Vec<_> = self.penalties().iter().map(|p| (weight(&**p), &**p)).collect();
        let control = control.with_penalties(&penalties, &sigmas, gaussian)?;
        let shooting = GeodesicShooting::new(evolution, control)?;
        Ok(shooting.of_bank(bank, squares.to_vec(), shown))
    }
}

/// RDMM whose initial pre-weights are controls themselves, as given: for what has its own way to make them admissible, such
/// as a network. [`Shooting::identity`](super::Shooting::identity) has the pre-weights of `metric`, the same everywhere.
///
/// Nothing keeps Σ h_i² = 1: pre-weights that are scaled scale the metric.
///
/// # References
/// Shen, Vialard, Niethammer, `NeurIPS` 2019, arXiv:1906.00139, Section 4.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(bound(deserialize = "S: Clone + serde::Deserialize<'de>")))]
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

    /// The Gaussians, and the pre-weights of the identity.
    #[must_use]
    pub fn metric(&self) -> &MultiGaussian<S> {
        &self.metric
    }

    /// Standard deviation of G, physical units.
    #[must_use]
    pub fn smoothing(&self) -> f64 {
        self.smoothing
    }
}

impl<T: Real, const D: usize, S: GaussianSpec<D>> Model<T, D> for RdmmControlled<S> {
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
        let (squares, tolerance) = (metric.weights(), accuracy::<T>(metric.tolerance()));
        let (bank, advected) = (metric.bank(grid)?, Advected::PreWeights);
        let (always, _) = smoothings(grid, self.smoothing, advected, tolerance)?;
        let (shown, _) = smoothings(grid, self.smoothing, advected, tolerance)?;
        let evolution = region_evolution(grid, &bank, always, metric.order(), metric.border())?;
        let control = PreWeights::new(uniform_weights(grid, squares)?);
        let shooting = GeodesicShooting::new(evolution, control)?;
        Ok(shooting.of_bank(bank, squares.to_vec(), shown))
    }
}
