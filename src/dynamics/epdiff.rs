//! Geodesic shooting: the Euler–Poincaré equation on diffeomorphisms, for any metric.

use super::{Evolution, EvolutionVjp, Flow, StageMap, momentum, transport};
use crate::error::Result;
use crate::field::{Momentum, Velocity};
use crate::grid::Grid;
use crate::metric::{self, Inputs, Metric, Outputs};
use crate::ops::difference::{Difference, Order};
use crate::scalar::Real;
use crate::space::StateSpace;

/// Momentum, and the weights of the metric where they move.
#[derive(Clone, Debug)]
pub struct Geodesic<T, const D: usize, W> {
    /// Covector density m.
    pub momentum: Momentum<T, D>,
    /// Weights of the metric, which the flow advects; `()` for LDDMM.
    pub weights: W,
}

crate::product_space!(
    @linear [T: Real, const D: usize, W: StateSpace<T>] Geodesic<T, D, W> { momentum, weights } T
);

impl<T, const D: usize, W> Geodesic<T, D, W> {
    /// What a metric is applied to.
    #[must_use]
    pub fn inputs(&self) -> Inputs<'_, T, D, W> {
        Inputs { momentum: &self.momentum, weights: &self.weights }
    }

    /// Rates or cotangents of it.
    pub fn outputs(&mut self) -> Outputs<'_, T, D, W> {
        Outputs { momentum: &mut self.momentum, weights: &mut self.weights }
    }
}

/// ∂t m + div(v) m + Dvᵀ m + Dm v = force, v = K(w) m; ∂tΦ⁻¹ + DΦ⁻¹ v = 0.
///
#[doc = include_str!("../../docs/math/epdiff.html")]
///
/// LDDMM and RDMM are this operator with a [`Homogeneous`](crate::metric::Homogeneous) and a
/// [`Mixture`](crate::metric::Mixture) metric; with constant weights the force vanishes and they agree.
///
/// div(v) m + Dm v is discretised in divergence form with the transposed difference, ∂_j(v_j m_a) ≈
/// −∂_jᵀ(v_j m_a). Then ⟨∂t m, v⟩ is zero to rounding whatever the boundary: the Hamiltonian
/// ½⟨m, K m⟩ changes by the time integrator's error only. D² differences for each of the two terms and
/// for the map.
///
/// The discrete rate, with the force of a [`Mixture`](crate::metric::Mixture):
///
#[doc = include_str!("../../docs/math/discrete.html")]
///
/// Without the force, the power cancels term by term, for any difference matrix:
///
#[doc = include_str!("../../docs/math/cancel.html")]
///
/// # References
/// Holm, Marsden, *Momentum maps and measure-valued solutions*, 2005, doi:10.1007/0-8176-4419-9_8;
/// Shen, Vialard, Niethammer 2019, arXiv:1906.00139, Theorem 2.
#[derive(Clone, Debug)]
pub struct Epdiff<M, T, const D: usize> {
    metric: M,
    difference: Difference<T, D>,
    grid: Grid<D>,
}

impl<T: Real, const D: usize, M: Metric<T, D>> Epdiff<M, T, D> {
    /// The geodesics of `metric`, with differences of the given order.
    #[must_use]
    pub fn new(grid: &Grid<D>, metric: M, order: Order) -> Self {
        Self { metric, difference: Difference::new(grid, order), grid: grid.clone() }
    }

    /// The metric.
    #[must_use]
    pub fn metric(&self) -> &M {
        &self.metric
    }

    /// The grid.
    #[must_use]
    pub fn grid(&self) -> &Grid<D> {
        &self.grid
    }

    /// H = ½ ∫ m·K(w) m, conserved by the flow.
    ///
    /// # Errors
    /// [`Error::GridMismatch`](crate::Error::GridMismatch) for a momentum or weights over another grid;
    /// [`Error::Length`](crate::Error::Length) for another number of weights than the metric has
    /// ([`Metric::expect_weights`]); [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn hamiltonian(&self, body: &Geodesic<T, D, M::Weights>) -> Result<f64> {
        self.metric.expect_weights(&self.grid, &body.weights)?;
        let mut velocity = Velocity::zeros(&self.grid)?;
        let (mut tape, mut ws) = (self.metric.tape(&self.grid)?, M::Workspace::default());
        self.metric.velocity(body.inputs(), &mut velocity, &mut tape, &mut ws);
        Ok(0.5 * body.momentum.integral_with(&velocity)?)
    }
}

impl<T: Real, const D: usize, M: Metric<T, D>> Epdiff<M, T, D> {
    /// Whether the vector fields of states and buffers are of this grid.
    fn fits(&self, states: [&EpdiffState<T, D, M>; 2], vector: &Velocity<T, D>) -> bool {
        let len = D * self.grid.len();
        let fits = |y: &EpdiffState<T, D, M>| {
            y.body.momentum.data().len() == len && y.map.data().len() == len
        };
        states.into_iter().all(fits) && vector.data().len() == len
    }
}

/// The state of [`Epdiff`].
type EpdiffState<T, const D: usize, M> = Flow<T, D, Geodesic<T, D, <M as Metric<T, D>>::Weights>>;

/// Buffers of [`Epdiff`].
#[derive(Clone, Debug)]
pub struct Workspace<T, const D: usize, W> {
    metric: W,
    velocity_bar: Velocity<T, D>,
}

/// What a velocity leaves: itself, and what the metric leaves.
#[derive(Clone, Debug)]
pub struct Tape<T, const D: usize, P> {
    velocity: Velocity<T, D>,
    metric: P,
}

impl<T: Real, const D: usize, P: metric::Tape> metric::Tape for Tape<T, D, P> {
    fn len(&self) -> usize {
        self.velocity.data().len() + self.metric.len()
    }
}

impl<T: Real, const D: usize, M: Metric<T, D>> Evolution for Epdiff<M, T, D> {
    type Scalar = T;
    type State = EpdiffState<T, D, M>;
    type Velocity = Velocity<T, D>;
    type Tape = Tape<T, D, M::Tape>;
    type Workspace = Workspace<T, D, M::Workspace>;

    fn workspace(&self) -> Result<Self::Workspace> {
        let velocity_bar = Velocity::zeros(&self.grid)?;
        Ok(Workspace { metric: M::Workspace::default(), velocity_bar })
    }

    fn tape(&self) -> Result<Self::Tape> {
        let metric = self.metric.tape(&self.grid)?;
        Ok(Tape { velocity: Velocity::zeros(&self.grid)?, metric })
    }

    fn expect_state(&self, state: &Self::State) -> Result<()> {
        self.grid.expect_same(state.map.grid(), "map of the state")
    }

    fn velocity(&self, state: &Self::State, tape: &mut Self::Tape, ws: &mut Self::Workspace) {
        let Tape { velocity, metric } = tape;
        self.metric.velocity(state.body.inputs(), velocity, metric, &mut ws.metric);
    }

    fn velocity_field<'a>(
        &'a self,
        _state: &'a Self::State,
        tape: &'a Self::Tape,
    ) -> &'a Velocity<T, D> {
        &tape.velocity
    }

    fn rate(
        &self,
        state: &Self::State,
        map: StageMap,
        rate: &mut Self::State,
        tape: &Self::Tape,
        ws: &mut Self::Workspace,
    ) {
        let (d, m, v) = (&self.difference, &state.body.momentum, &tape.velocity);
        if !self.fits([state, rate], v) {
            return rate.scale(T::nan());
        }
        momentum::rate(d, v, m, &mut rate.body.momentum);
        let rates = rate.body.outputs();
        self.metric.advect(state.body.inputs(), v, rates, &tape.metric, &mut ws.metric);
        transport::rate(d, v, state.map_at(map), &mut rate.map);
    }
}

impl<T: Real, const D: usize, M: Metric<T, D>> EvolutionVjp for Epdiff<M, T, D> {
    fn rate_vjp(
        &self,
        state: &Self::State,
        map: StageMap,
        rate_bar: &Self::State,
        state_bar: &mut Self::State,
        tape: &Self::Tape,
        ws: &mut Self::Workspace,
    ) {
        let (d, m, v) = (&self.difference, &state.body.momentum, &tape.velocity);
        let m_bar = &rate_bar.body.momentum;
        let fits = self.fits([state, rate_bar], v);
        if !fits || !self.fits([state, state_bar], &ws.velocity_bar) {
            return state_bar.scale(T::nan());
        }
        let (v_bar, map) = (&mut ws.velocity_bar, state.map_at(map));
        momentum::rate_vjp(d, (v, m), m_bar, v_bar, &mut state_bar.body.momentum);
        transport::rate_vjp(d, v, map, &rate_bar.map, v_bar, &mut state_bar.map);
        let (at, rate_bars) = (state.body.inputs(), rate_bar.body.inputs());
        let (bars, tape) = (state_bar.body.outputs(), &tape.metric);
        self.metric.rates_vjp(at, v, rate_bars, v_bar, bars, tape, &mut ws.metric);
    }

    fn velocity_vjp(
        &self,
        state: &Self::State,
        velocity_bar: &Velocity<T, D>,
        state_bar: &mut Self::State,
        tape: &Self::Tape,
        ws: &mut Self::Workspace,
    ) {
        if !self.fits([state, state_bar], velocity_bar) {
            return state_bar.scale(T::nan());
        }
        let (at, bars) = (state.body.inputs(), state_bar.body.outputs());
        self.metric.velocity_vjp(at, velocity_bar, bars, &tape.metric, &mut ws.metric);
    }
}
