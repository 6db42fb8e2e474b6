//! The forward map beside the inverse one: particles that the flow carries.

use super::{Evolution, EvolutionVjp, MapState};
use crate::aligned::Aligned;
use crate::field::{Displacement, Velocity, copy};
use crate::grid::Grid;
use crate::ops::compose::Composition;
use crate::scalar::Real;
use crate::space::{StateSpace, set_sum_of};

/// A state with the forward map Φ = id + `forward` of its flow.
#[derive(Clone, Debug)]
pub struct TrackedState<T, const D: usize, S> {
    /// The state itself.
    pub flow: S,
    /// U of Φ = id + U, in physical units.
    pub forward: Displacement<T, D>,
}

crate::product_space!(
    @impl [T: Real, const D: usize, S: StateSpace<T>] TrackedState<T, D, S> { flow, forward } T
);

impl<T: Real, const D: usize, S: MapState<T, D>> MapState<T, D> for TrackedState<T, D, S> {
    fn map(&self) -> &Displacement<T, D> {
        self.flow.map()
    }
    fn map_mut(&mut self) -> &mut Displacement<T, D> {
        self.flow.map_mut()
    }
    fn combine_but_map(&mut self, x: &Self, f: impl Fn(T, T) -> T + Copy + Sync) {
        self.flow.combine_but_map(&x.flow, f);
        self.forward.combine(&x.forward, f);
    }
    fn set_sum_but_map<'a>(&mut self, terms: impl Iterator<Item = (T, &'a Self)> + Clone)
    where
        Self: 'a,
    {
        self.flow.set_sum_but_map(terms.clone().map(|(a, x)| (a, &x.flow)));
        set_sum_of(&mut self.forward, terms.map(|(a, x)| (a, &x.forward)));
    }
    fn forward(&self) -> Option<&Displacement<T, D>> {
        Some(&self.forward)
    }
    fn forward_mut(&mut self) -> Option<&mut Displacement<T, D>> {
        Some(&mut self.forward)
    }
}

/// Any evolution, with ∂tΦ = v∘Φ beside it: one interpolation of the velocity (cubic) a stage.
#[derive(Clone, Debug)]
pub struct Tracked<E, T, const D: usize> {
    evolution: E,
    composition: Composition<T, D>,
    grid: Grid<D>,
}

impl<T: Real, const D: usize, E: Evolution<T, D>> Tracked<E, T, D> {
    /// `evolution` on `grid` with its forward map.
    #[must_use]
    pub fn new(grid: &Grid<D>, evolution: E) -> Self {
        Self { evolution, composition: Composition::new(grid), grid: grid.clone() }
    }

    /// The start: the identity.
    #[must_use]
    pub fn start(&self, flow: E::State) -> TrackedState<T, D, E::State> {
        TrackedState { flow, forward: Displacement::blank(&self.grid) }
    }
}

impl<T: Real, const D: usize, E: Evolution<T, D>> Tracked<E, T, D> {
    /// ∂t U = v∘(id + U), with the velocity of the last rate.
    fn track(
        &self,
        state: &TrackedState<T, D, E::State>,
        rate: &mut Displacement<T, D>,
        ws: &mut Workspace<T, D, E::Workspace>,
    ) {
        let v = self.evolution.velocity(&state.flow, &ws.evolution);
        self.composition.coefficients(v.data(), &mut ws.coefficients);
        self.composition.sample(&ws.coefficients, state.forward.data(), rate.data_mut());
    }
}

impl<T: Real, const D: usize, E: EvolutionVjp<T, D>> Tracked<E, T, D> {
    /// The transpose of [`Tracked::track`], in U and in v.
    fn track_vjp(
        &self,
        state: &TrackedState<T, D, E::State>,
        rate_bar: &TrackedState<T, D, E::State>,
        state_bar: &mut TrackedState<T, D, E::State>,
        ws: &mut Workspace<T, D, E::Workspace>,
    ) {
        let v = self.evolution.velocity(&state.flow, &ws.evolution);
        self.composition.coefficients(v.data(), &mut ws.coefficients);
        copy(rate_bar.forward.data(), ws.velocity_bar.data_mut());
        state_bar.forward.set_zero();
        self.composition.sample_vjp(
            &mut ws.coefficients,
            state.forward.data(),
            ws.velocity_bar.data_mut(),
            state_bar.forward.data_mut(),
        );
        let (bar, flow_bar) = (&ws.velocity_bar, &mut state_bar.flow);
        self.evolution.velocity_vjp(&state.flow, bar, flow_bar, &mut ws.evolution);
    }
}

/// Buffers of [`Tracked`].
#[derive(Clone, Debug)]
pub struct Workspace<T, const D: usize, W> {
    evolution: W,
    coefficients: Aligned<T>,
    velocity_bar: Velocity<T, D>,
}

impl<T: Real, const D: usize, E: Evolution<T, D>> Evolution<T, D> for Tracked<E, T, D> {
    type State = TrackedState<T, D, E::State>;
    type Workspace = Workspace<T, D, E::Workspace>;

    fn workspace(&self) -> Self::Workspace {
        let zeros = || Aligned::zeros(D * self.grid.len());
        Workspace {
            evolution: self.evolution.workspace(),
            coefficients: zeros(),
            velocity_bar: Velocity::blank(&self.grid),
        }
    }

    fn rate(&self, state: &Self::State, rate: &mut Self::State, ws: &mut Self::Workspace) {
        self.evolution.rate(&state.flow, &mut rate.flow, &mut ws.evolution);
        self.track(state, &mut rate.forward, ws);
    }

    fn rate_at_identity(
        &self,
        state: &Self::State,
        rate: &mut Self::State,
        ws: &mut Self::Workspace,
    ) {
        self.evolution.rate_at_identity(&state.flow, &mut rate.flow, &mut ws.evolution);
        self.track(state, &mut rate.forward, ws);
    }

    fn velocity<'a>(
        &'a self,
        state: &'a Self::State,
        ws: &'a Self::Workspace,
    ) -> &'a Velocity<T, D> {
        self.evolution.velocity(&state.flow, &ws.evolution)
    }
}

impl<T: Real, const D: usize, E: EvolutionVjp<T, D>> EvolutionVjp<T, D> for Tracked<E, T, D> {
    type Tape = E::Tape;

    fn tape(&self) -> Self::Tape {
        self.evolution.tape()
    }

    fn tape_len(&self) -> usize {
        self.evolution.tape_len()
    }

    fn exchange(&self, ws: &mut Self::Workspace, tape: &mut Self::Tape) {
        self.evolution.exchange(&mut ws.evolution, tape);
    }

    fn record(&self, state: &Self::State, ws: &mut Self::Workspace) {
        self.evolution.record(&state.flow, &mut ws.evolution);
    }

    fn rate_vjp(
        &self,
        state: &Self::State,
        rate_bar: &Self::State,
        state_bar: &mut Self::State,
        ws: &mut Self::Workspace,
    ) {
        let (flow, bars) = (&state.flow, (&rate_bar.flow, &mut state_bar.flow));
        self.evolution.rate_vjp(flow, bars.0, bars.1, &mut ws.evolution);
        self.track_vjp(state, rate_bar, state_bar, ws);
    }

    fn rate_vjp_at_identity(
        &self,
        state: &Self::State,
        rate_bar: &Self::State,
        state_bar: &mut Self::State,
        ws: &mut Self::Workspace,
    ) {
        let (flow, bars) = (&state.flow, (&rate_bar.flow, &mut state_bar.flow));
        self.evolution.rate_vjp_at_identity(flow, bars.0, bars.1, &mut ws.evolution);
        self.track_vjp(state, rate_bar, state_bar, ws);
    }

    fn velocity_vjp(
        &self,
        state: &Self::State,
        velocity_bar: &Velocity<T, D>,
        state_bar: &mut Self::State,
        ws: &mut Self::Workspace,
    ) {
        let (flow_bar, ws) = (&mut state_bar.flow, &mut ws.evolution);
        self.evolution.velocity_vjp(&state.flow, velocity_bar, flow_bar, ws);
    }
}
