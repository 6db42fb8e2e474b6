//! vSVF: a stationary velocity field, parametrised by its momentum.

use std::sync::Arc;

use super::preconditioner::{OfBank, Preconditioner};
use super::scale::{Scale, smallest, uniform_weights};
use super::{
    BoxedInverse, BoxedKernel, Controls, Domain, Model, MultiGaussian, Shooting, State, resampled,
    windowed,
};
use crate::dynamics::{Flow, Stationary};
use crate::error::Result;
use crate::evaluate::local_standard_deviation;
use crate::field::{Displacement, Image, Momentum, Velocity, Weights};
use crate::grid::Grid;
use crate::kernel::{Gaussian, Kernel, Workspace};
use crate::scalar::Real;
use crate::space::StateSpace;

/// Vector-momentum parametrised stationary velocity field: v = K m for all t.
///
/// # References
/// Shen et al., *Networks for joint affine and non-parametric image registration*, CVPR 2019,
/// arXiv:1903.08811.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(bound(deserialize = "S: Clone + serde::Deserialize<'de>")))]
pub struct Vsvf<S = f64> {
    metric: MultiGaussian<S>,
}

impl<S> Vsvf<S> {
    /// vSVF with this metric.
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

/// vSVF on one grid.
pub struct VsvfShooting<T, const D: usize> {
    grid: Grid<D>,
    evolution: Arc<Stationary<T, D>>,
    gaussians: OfBank<T, D>,
    kernel: BoxedKernel<T>,
    buffer: Velocity<T, D>,
    ws: Workspace<T>,
}

impl<T: Real, const D: usize, S: Scale<D>> Model<T, D> for Vsvf<S> {
    type Shooting = VsvfShooting<T, D>;

    fn name(&self) -> &'static str {
        "vSVF"
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
        Ok(VsvfShooting {
            grid: grid.clone(),
            evolution: Arc::new(Stationary::new(grid, metric.order())),
            gaussians: OfBank { bank, mean_weights: shares.to_vec() },
            kernel,
            buffer: Velocity::zeros(grid)?,
            ws: Workspace::new(),
        })
    }
}

impl<T: Real, const D: usize> Shooting<T, D> for VsvfShooting<T, D> {
    type Weights = ();
    type Evolution = Stationary<T, D>;

    fn grid(&self) -> &Grid<D> {
        &self.grid
    }

    fn evolution(&self) -> Arc<Stationary<T, D>> {
        Arc::clone(&self.evolution)
    }

    fn identity(&self) -> Controls<T, D, ()> {
        Controls { momentum: Momentum::blank(&self.grid), weights: () }
    }

    fn initial_state(&mut self, controls: &Controls<T, D, ()>) -> State<T, D, Self> {
        let (body, map) = (Velocity::blank(&self.grid), Displacement::blank(&self.grid));
        let mut state = Flow { body, map };
        self.set_initial_state(controls, &mut state);
        state
    }

    fn set_initial_state(&mut self, controls: &Controls<T, D, ()>, state: &mut State<T, D, Self>) {
        let (m, v) = (controls.momentum.data(), state.body.data_mut());
        self.kernel.apply(m, v, &mut self.ws);
        state.map.set_zero();
    }

    fn initial_state_vjp(
        &mut self,
        _controls: &Controls<T, D, ()>,
        state_bar: &State<T, D, Self>,
        controls_bar: &mut Controls<T, D, ()>,
    ) {
        self.kernel.apply(state_bar.body.data(), self.buffer.data_mut(), &mut self.ws);
        self.add_buffer(T::one(), &mut controls_bar.momentum);
    }

    fn add_energy(
        &mut self,
        controls: &Controls<T, D, ()>,
        scale: f64,
        gradient: &mut Controls<T, D, ()>,
    ) -> f64 {
        let (m, scale) = (controls.momentum.data(), scale * self.grid.cell_volume());
        self.kernel.apply(m, self.buffer.data_mut(), &mut self.ws);
        self.add_buffer(T::of(scale), &mut gradient.momentum);
        0.5 * scale * crate::field::dot(m, self.buffer.data())
    }

    /// ½ ∫ |v|²: what a stationary field keeps. Its momentum is not part of the state.
    fn hamiltonian(&mut self, state: &State<T, D, Self>) -> Result<f64> {
        self.grid.expect_same(state.body.grid(), "velocity")?;
        Ok(0.5 * state.body.integral_with(&state.body)?)
    }

    fn initial_hamiltonian(&mut self, _energy: f64, start: &State<T, D, Self>) -> Result<f64> {
        self.hamiltonian(start)
    }

    fn prolong(&self, controls: &Controls<T, D, ()>) -> Result<Controls<T, D, ()>> {
        Ok(Controls { momentum: resampled(&controls.momentum, &self.grid)?, weights: () })
    }

    fn inverse_metric(&self, epsilon: f64) -> Result<BoxedInverse<T, Momentum<T, D>>> {
        self.gaussians.inverse(epsilon)
    }

    fn weights(&self, _state: &State<T, D, Self>) -> Result<Option<Weights<T, D>>> {
        uniform_weights(&self.grid, &self.gaussians.mean_weights).map(Some)
    }

    fn local_sigma(&self, _state: &State<T, D, Self>) -> Result<Option<Image<T, D>>> {
        let OfBank { bank, mean_weights } = &self.gaussians;
        let sigmas: Vec<f64> = bank.scales().iter().map(Gaussian::sigma).collect();
        local_standard_deviation(&uniform_weights(&self.grid, mean_weights)?, &sigmas).map(Some)
    }
}

impl<T: Real, const D: usize> VsvfShooting<T, D> {
    fn add_buffer(&self, scale: T, out: &mut Momentum<T, D>) {
        crate::field::axpy(out.data_mut(), scale, self.buffer.data());
    }
}
