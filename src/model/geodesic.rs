//! LDDMM and RDMM: one shooting, two metrics.

use std::sync::Arc;

use super::regions::{Carried, pre_weights, shares_carried};
use super::scale::{Scale, smallest, uniform_weights};
use super::weights::{Given, Softmax, Uniform, WeightControl};
use super::{
    BoxedInverse, BoxedKernel, Controls, Model, MultiGaussian, Shooting, State, accuracy,
    resampled, windowed,
};
use crate::dynamics::{Epdiff, Flow, Geodesic};
use crate::error::{Error, Result};
use crate::field::{Displacement, Momentum, Velocity, Weights};
use crate::grid::Grid;
use crate::kernel::gaussian::SHARES;
use crate::kernel::{Covariance, Gaussian, GaussianBank, Identity, Kernel, Spectral};
use crate::metric::{Fixed, Metric, Mixture};
use crate::regularize::{Omt, Range, Regularizer, TotalVariation};
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
pub struct Lddmm<S = f64> {
    /// The metric.
    pub metric: MultiGaussian<S>,
}

impl<T: Real, const D: usize, S: Scale<D>> Model<T, D> for Lddmm<S> {
    type Shooting = GeodesicShooting<Fixed<BoxedKernel<T>>, Uniform, T, D>;

    fn name(&self) -> &'static str {
        "LDDMM"
    }

    fn smallest_sigma(&self) -> f64 {
        smallest(&self.metric.sigmas)
    }

    fn carried(&self, _map: &Displacement<T, D>) -> Result<Self> {
        Ok(self.clone())
    }

    fn on(&self, grid: &Grid<D>) -> Result<Self::Shooting> {
        let MultiGaussian { shares, order, border, .. } = &self.metric;
        let bank = self.metric.bank::<T, D>(grid)?;
        let kernel = windowed(bank.combined(shares)?, grid, *border)?;
        let evolution = Epdiff::new(grid, Fixed::new(kernel), *order);
        let spread = Spread { bank, mean_shares: shares.clone(), smoothing: Box::new(Identity) };
        Ok(GeodesicShooting::new(evolution, Uniform, spread))
    }
}

/// RDMM with a given regulariser: the shares of the Gaussians at every voxel of the source image. The Gaussians
/// are given by standard deviations or, [`Rdmm::anisotropic`], by covariances.
///
/// # References
/// Shen, Vialard, Niethammer, `NeurIPS` 2019, arXiv:1906.00139.
#[derive(Clone, Debug, PartialEq)]
pub struct Rdmm<T, const D: usize, S = f64> {
    /// Standard deviations, physical units, increasing; or covariances.
    pub sigmas: Vec<S>,
    /// Shares h_i² on the source image's grid, of sum one at every voxel. A registration from an initial
    /// affine map A reads them at A(x).
    pub shares: Weights<T, D>,
    /// Standard deviation of G, physical units.
    pub smoothing: f64,
    /// Which weights the flow carries.
    pub carried: Carried,
    /// Order of the central differences.
    pub order: crate::ops::difference::Order,
    /// Width of a border window, as in [`MultiGaussian::border`].
    pub border: Option<f64>,
    /// Accuracy of the Gaussians, as in [`MultiGaussian::tolerance`].
    pub tolerance: Option<f64>,
}

impl<T: Real, const D: usize> Rdmm<T, D> {
    /// RDMM with these Gaussians, these shares (see
    /// [`shares_by_label`](crate::model::shares_by_label)) and G of this standard deviation; pre-weights
    /// are carried, fourth-order differences, no window.
    ///
    /// # Errors
    /// [`Error::Length`] unless there is a share field a σ; [`Error::Shares`] where they do not sum to
    /// one; [`Error::Setting`] for a negative share.
    pub fn new(sigmas: &[f64], shares: Weights<T, D>, smoothing: f64) -> Result<Self> {
        Self::of(sigmas, shares, smoothing)
    }
}

impl<T: Real, const D: usize> Rdmm<T, D, Covariance<D>> {
    /// RDMM whose Gaussians have these covariances, in any order, along the axes of the grid. The rest is as for
    /// [`Rdmm::new`].
    ///
    /// Correlated axes need images on a periodic or free grid, see
    /// [`Gaussian::anisotropic`](crate::kernel::Gaussian::anisotropic).
    ///
    /// # Errors
    /// Those of [`Rdmm::new`].
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use rdmm_core::grid::{Boundary, Grid};
    /// use rdmm_core::kernel::Covariance;
    /// use rdmm_core::labels::Labels;
    /// use rdmm_core::model::{Model, Rdmm, shares_by_label};
    /// let grid = Grid::new([24, 24], [1.0, 1.0])?.with_boundary(Boundary::Free);
    /// let muscle = Labels::from_vec(&grid, (0..576).map(|i| u32::from(i % 24 > 11)).collect())?;
    /// let shares = BTreeMap::from([(0, vec![1.0, 0.0]), (1, vec![0.2, 0.8])]);
    /// let shares = shares_by_label::<f64, 2>(&muscle, &shares)?;
    /// // Long along the fibres of the muscle, the same in all directions elsewhere.
    /// let scales = [Covariance::isotropic(4.0)?, Covariance::along([1.0, 1.0], 6.0, 1.5)?];
    /// let model = Rdmm::anisotropic(&scales, shares, 2.0)?;
    /// let shooting = model.on(&grid)?;
    /// # let _ = shooting;
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn anisotropic(
        covariances: &[Covariance<D>],
        shares: Weights<T, D>,
        smoothing: f64,
    ) -> Result<Self> {
        Self::of(covariances, shares, smoothing)
    }
}

impl<T: Real, const D: usize, S: Clone> Rdmm<T, D, S> {
    fn of(sigmas: &[S], shares: Weights<T, D>, smoothing: f64) -> Result<Self> {
        let model = Self {
            sigmas: sigmas.to_vec(),
            shares,
            smoothing,
            carried: Carried::default(),
            order: crate::ops::difference::Order::default(),
            border: None,
            tolerance: None,
        };
        model.validate()?;
        Ok(model)
    }

    /// `Ok` if σ and shares fit: the fields are open to change.
    fn validate(&self) -> Result<()> {
        let (expected, found) = (self.sigmas.len(), self.shares.components());
        if expected != found {
            return Err(Error::Length { what: "share fields of RDMM", expected, found });
        }
        let n = self.shares.grid().len();
        for at in 0..n {
            let of = |i: usize| self.shares.data()[i * n + at].f64();
            if let Some(bad) = (0..found).map(of).find(|x| x.is_nan() || *x < 0.0) {
                return Err(Error::setting("share of a Gaussian", "a number ≥ 0", bad));
            }
            let found: f64 = (0..found).map(of).sum();
            if found.is_nan() || (found - 1.0).abs() > SHARES {
                let what = "shares of RDMM at a voxel";
                return Err(Error::Shares { what, tolerance: SHARES, found });
            }
        }
        Ok(())
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
        smallest(&self.sigmas).min(self.smoothing)
    }

    fn carried(&self, map: &Displacement<T, D>) -> Result<Self> {
        Ok(Self { shares: shares_carried(&self.shares, map)?, ..self.clone() })
    }

    fn on(&self, grid: &Grid<D>) -> Result<Self::Shooting> {
        self.on_through(grid, &Affine::identity())
    }

    fn on_through(&self, grid: &Grid<D>, initial: &Affine<D>) -> Result<Self::Shooting> {
        self.validate()?;
        let tolerance = accuracy::<T>(self.tolerance);
        let bank = S::bank(grid, &self.sigmas)?.with_tolerance(tolerance)?;
        let h = pre_weights(&self.shares, grid, initial)?;
        let means = (0..h.components()).map(|i| {
            h.component(i).iter().map(|h| h.f64().powi(2)).sum::<f64>() / grid.len() as f64
        });
        let mean_shares = means.collect();
        let (always, once) = smoothings(grid, self.smoothing, self.carried, tolerance)?;
        let mut start = h.clone();
        once.apply(h.data(), start.data_mut(), &mut crate::kernel::Workspace::new());
        let (shown, _) = smoothings(grid, self.smoothing, self.carried, tolerance)?;
        let evolution = region_evolution(grid, &bank, always, self.order, self.border)?;
        let spread = Spread { bank, mean_shares, smoothing: shown };
        Ok(GeodesicShooting::new(evolution, Given(start), spread))
    }
}

/// RDMM with a regulariser that is optimised with the momentum.
///
/// Nothing but the penalties keeps the weights from small Gaussians, which make local deformations cheap
/// and maps steep.
///
/// # References
/// Shen, Vialard, Niethammer, `NeurIPS` 2019, arXiv:1906.00139, Section 3.
///
/// ```
/// use rdmm_core::grid::Grid;
/// use rdmm_core::model::{MultiGaussian, RdmmOptimised};
/// let grid = Grid::<2>::unit([64, 64])?;
/// let model = RdmmOptimised::<f32, 2>::new(MultiGaussian::for_grid(&grid), 0.05)?;
/// let names: Vec<_> = model.penalties.iter().map(|p| p.name()).collect();
/// assert_eq!(names, ["OMT", "total variation", "range"]);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct RdmmOptimised<T, const D: usize, S = f64> {
    /// The metric that the optimisation starts from, everywhere. For the penalties a covariance Σ counts with
    /// σ = det(Σ)^(1/2D), which must increase.
    pub metric: MultiGaussian<S>,
    /// Standard deviation of G, physical units.
    pub smoothing: f64,
    /// Which weights the flow carries.
    pub carried: Carried,
    /// What the weights cost.
    pub penalties: Vec<Arc<dyn Regularizer<T, D>>>,
}

/// Default λ of OMT, of total variation and of the range penalty, for the default weights of the
/// similarities. The validation page of the book says how they were found.
const PENALTIES: [f64; 3] = [5e-4, 1e-4, 5e-4];

impl<T: Real, const D: usize, S> RdmmOptimised<T, D, S> {
    /// RDMM that starts from this metric, with G of this standard deviation (physical units) and the
    /// default penalties; pre-weights are carried.
    ///
    /// # Errors
    /// [`Error::Shares`] where the shares of the metric do not sum to one.
    pub fn new(metric: MultiGaussian<S>, smoothing: f64) -> Result<Self> {
        let [omt, tv, range] = PENALTIES;
        let penalties: Vec<Arc<dyn Regularizer<T, D>>> = vec![
            Arc::new(Omt::new(omt)?),
            Arc::new(TotalVariation::new(tv)?),
            Arc::new(Range::new(range, &metric.shares)?),
        ];
        Ok(Self { metric, smoothing, carried: Carried::default(), penalties })
    }
}

impl<T: Real, const D: usize, S: Scale<D>> Model<T, D> for RdmmOptimised<T, D, S> {
    type Shooting = GeodesicShooting<RegionMetric<T, D>, Softmax<T, D>, T, D>;

    fn name(&self) -> &'static str {
        "RDMM optimised"
    }

    fn smallest_sigma(&self) -> f64 {
        smallest(&self.metric.sigmas).min(self.smoothing)
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
        let MultiGaussian { sigmas, shares, order, border, tolerance } = &self.metric;
        let tolerance = accuracy::<T>(*tolerance);
        let bank = self.metric.bank(grid)?;
        let (always, once) = smoothings(grid, self.smoothing, self.carried, tolerance)?;
        let (shown, _) = smoothings(grid, self.smoothing, self.carried, tolerance)?;
        let evolution = region_evolution(grid, &bank, always, *order, *border)?;
        let spread = Spread { bank, mean_shares: shares.clone(), smoothing: shown };
        let (gaussian, _) = smoothings(grid, self.smoothing, Carried::PreWeights, tolerance)?;
        let sigmas: Vec<f64> = sigmas.iter().map(Scale::sigma).collect();
        let control = Softmax::new(grid, shares, once);
        let penalties: Vec<_> = self.penalties.iter().map(|p| (weight(&**p), &**p)).collect();
        let control = control.with_penalties(&penalties, &sigmas, gaussian)?;
        Ok(GeodesicShooting::new(evolution, control, spread))
    }
}
