//! Geodesic shooting: the Euler–Poincaré equation on diffeomorphisms, for any metric.

use super::{Evolution, EvolutionVjp, Flow, momentum, transport};
use crate::error::Result;
use crate::field::{Displacement, Momentum, Velocity};
use crate::grid::Grid;
use crate::metric::Metric;
use crate::ops::difference::{Difference, Order};
use crate::scalar::Real;
use crate::space::StateSpace;

/// Momentum, and the weights of the metric where they move.
#[derive(Clone, Debug)]
pub struct Geodesic<T, const D: usize, W> {
    /// Covector density m.
    pub momentum: Momentum<T, D>,
    /// What the metric carries; `()` for LDDMM.
    pub weights: W,
}

crate::product_space!(
    @impl [T: Real, const D: usize, W: StateSpace<T>] Geodesic<T, D, W> { momentum, weights } T
);

/// ∂t m + div(v) m + Dvᵀ m + Dm v = force, v = K(w) m; ∂tΦ⁻¹ + DΦ⁻¹ v = 0.
///
#[doc = include_str!("../../docs/math/epdiff.html")]
///
/// LDDMM and RDMM are this operator with a [`Fixed`](crate::metric::Fixed) and a
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
    /// [`Error::GridMismatch`](crate::Error::GridMismatch) for a momentum over another grid;
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn hamiltonian(&self, body: &Geodesic<T, D, M::Weights>) -> Result<f64> {
        let mut velocity = Velocity::zeros(&self.grid)?;
        let mut ws = self.metric.workspace();
        self.metric.velocity(&body.momentum, &body.weights, &mut velocity, &mut ws);
        Ok(0.5 * body.momentum.integral_with(&velocity)?)
    }
}

impl<T: Real, const D: usize, M: Metric<T, D>> Epdiff<M, T, D> {
    /// Whether the vector fields of states and buffers are of this grid.
    fn fits(&self, states: [&EpdiffState<T, D, M>; 2], ws: &Velocity<T, D>) -> bool {
        let len = D * self.grid.len();
        let fits = |y: &EpdiffState<T, D, M>| {
            y.body.momentum.data().len() == len && y.map.data().len() == len
        };
        states.into_iter().all(fits) && ws.data().len() == len
    }
}

/// The state of [`Epdiff`].
type EpdiffState<T, const D: usize, M> = Flow<T, D, Geodesic<T, D, <M as Metric<T, D>>::Weights>>;

/// Buffers of [`Epdiff`].
#[derive(Clone, Debug)]
pub struct Workspace<T, const D: usize, W> {
    metric: W,
    velocity: Velocity<T, D>,
    velocity_bar: Velocity<T, D>,
}

/// What a rate leaves for its transpose.
#[derive(Clone, Debug)]
pub struct Tape<T, const D: usize, W> {
    velocity: Velocity<T, D>,
    metric: W,
}

impl<T: Real, const D: usize, M: Metric<T, D>> Epdiff<M, T, D> {
    /// The rate with a map, or with the identity.
    fn rate_with(
        &self,
        state: &EpdiffState<T, D, M>,
        map: Option<&Displacement<T, D>>,
        rate: &mut EpdiffState<T, D, M>,
        ws: &mut Workspace<T, D, M::Workspace>,
    ) {
        let d = &self.difference;
        if !self.fits([state, rate], &ws.velocity) {
            return rate.scale(T::nan());
        }
        let Geodesic { momentum: m, weights: w } = &state.body;
        self.metric.velocity(m, w, &mut ws.velocity, &mut ws.metric);
        let v = &ws.velocity;
        momentum::rate(d, v, m, &mut rate.body.momentum);
        let rates = (&mut rate.body.momentum, &mut rate.body.weights);
        self.metric.carry(m, w, v, rates, &mut ws.metric);
        transport::rate(d, v, map, &mut rate.map);
    }

    /// The transpose of [`Epdiff::rate_with`].
    fn rate_vjp_with(
        &self,
        state: &EpdiffState<T, D, M>,
        map: Option<&Displacement<T, D>>,
        rate_bar: &EpdiffState<T, D, M>,
        state_bar: &mut EpdiffState<T, D, M>,
        ws: &mut Workspace<T, D, M::Workspace>,
    ) {
        let d = &self.difference;
        let fits = self.fits([state, rate_bar], &ws.velocity);
        if !fits || !self.fits([state, state_bar], &ws.velocity_bar) {
            return state_bar.scale(T::nan());
        }
        let Geodesic { momentum: m, weights: w } = &state.body;
        let m_bar = &rate_bar.body.momentum;
        let v = &ws.velocity;
        momentum::rate_vjp(d, (v, m), m_bar, &mut ws.velocity_bar, &mut state_bar.body.momentum);
        transport::rate_vjp(d, v, map, &rate_bar.map, &mut ws.velocity_bar, &mut state_bar.map);
        self.metric.pull_back(
            m,
            w,
            v,
            (m_bar, &rate_bar.body.weights),
            &mut ws.velocity_bar,
            (&mut state_bar.body.momentum, &mut state_bar.body.weights),
            &mut ws.metric,
        );
    }
}

impl<T: Real, const D: usize, M: Metric<T, D>> Evolution<T, D> for Epdiff<M, T, D> {
    type State = Flow<T, D, Geodesic<T, D, M::Weights>>;
    type Workspace = Workspace<T, D, M::Workspace>;

    fn workspace(&self) -> Self::Workspace {
        let velocity = Velocity::blank(&self.grid);
        let velocity_bar = velocity.clone();
        Workspace { metric: self.metric.workspace(), velocity, velocity_bar }
    }

    fn rate(&self, state: &Self::State, rate: &mut Self::State, ws: &mut Self::Workspace) {
        self.rate_with(state, Some(&state.map), rate, ws);
    }

    fn rate_at_identity(
        &self,
        state: &Self::State,
        rate: &mut Self::State,
        ws: &mut Self::Workspace,
    ) {
        self.rate_with(state, None, rate, ws);
    }

    fn velocity<'a>(
        &'a self,
        _state: &'a Self::State,
        ws: &'a Self::Workspace,
    ) -> &'a Velocity<T, D> {
        &ws.velocity
    }
}

impl<T: Real, const D: usize, M: Metric<T, D>> EvolutionVjp<T, D> for Epdiff<M, T, D> {
    type Tape = Tape<T, D, M::Tape>;

    fn tape(&self) -> Self::Tape {
        Tape { velocity: Velocity::blank(&self.grid), metric: self.metric.tape() }
    }

    fn tape_len(&self) -> usize {
        D * self.grid.len() + self.metric.tape_len()
    }

    fn exchange(&self, ws: &mut Self::Workspace, tape: &mut Self::Tape) {
        std::mem::swap(&mut ws.velocity, &mut tape.velocity);
        self.metric.exchange(&mut ws.metric, &mut tape.metric);
    }

    fn record(&self, state: &Self::State, ws: &mut Self::Workspace) {
        let Geodesic { momentum: m, weights: w } = &state.body;
        self.metric.velocity(m, w, &mut ws.velocity, &mut ws.metric);
    }

    fn rate_vjp(
        &self,
        state: &Self::State,
        rate_bar: &Self::State,
        state_bar: &mut Self::State,
        ws: &mut Self::Workspace,
    ) {
        self.rate_vjp_with(state, Some(&state.map), rate_bar, state_bar, ws);
    }

    fn rate_vjp_at_identity(
        &self,
        state: &Self::State,
        rate_bar: &Self::State,
        state_bar: &mut Self::State,
        ws: &mut Self::Workspace,
    ) {
        self.rate_vjp_with(state, None, rate_bar, state_bar, ws);
    }

    fn velocity_vjp(
        &self,
        state: &Self::State,
        velocity_bar: &Velocity<T, D>,
        state_bar: &mut Self::State,
        ws: &mut Self::Workspace,
    ) {
        if !self.fits([state, state_bar], velocity_bar) {
            return state_bar.scale(T::nan());
        }
        let Geodesic { momentum, weights } = &mut state_bar.body;
        let (m, bars) = (&state.body.momentum, (momentum, weights));
        self.metric.velocity_vjp(m, velocity_bar, bars, &mut ws.metric);
    }
}
