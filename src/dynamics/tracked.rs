//! The forward map beside the inverse one: particles that the flow carries.

use super::{Evolution, EvolutionVjp, FieldEvolution, StageMap};
use crate::aligned::Aligned;
use crate::error::Result;
use crate::field::{Displacement, Velocity, copy};
use crate::grid::Grid;
use crate::ops::compose::Composition;
use crate::scalar::Real;
use crate::space::{FlowState, StateSpace, set_sum_of};

/// A state with the forward map Φ = id + `forward` of its flow.
#[derive(Clone, Debug)]
pub struct TrackedState<T, const D: usize, S> {
    /// The state itself.
    pub flow: S,
    /// U of Φ = id + U, in physical units.
    pub forward: Displacement<T, D>,
}

crate::product_space!(
    @linear [T: Real, const D: usize, S: StateSpace<T>] TrackedState<T, D, S> { flow, forward } T
);

impl<T: Real, const D: usize, S: FlowState<T, Map = Displacement<T, D>>> FlowState<T>
    for TrackedState<T, D, S>
{
    type Map = Displacement<T, D>;

    fn map(&self) -> &Displacement<T, D> {
        self.flow.map()
    }
    fn map_mut(&mut self) -> &mut Displacement<T, D> {
        self.flow.map_mut()
    }
    fn scale_add_but_map(&mut self, a: T, x: &Self) {
        self.flow.scale_add_but_map(a, &x.flow);
        self.forward.scale_add(a, &x.forward);
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

impl<T: Real, const D: usize, E: FieldEvolution<T, D>> Tracked<E, T, D> {
    /// `evolution` on `grid` with its forward map.
    #[must_use]
    pub fn new(grid: &Grid<D>, evolution: E) -> Self {
        Self { evolution, composition: Composition::new(grid), grid: grid.clone() }
    }

    /// The evolution itself.
    #[must_use]
    pub fn inner(&self) -> &E {
        &self.evolution
    }

    /// The start: the identity.
    #[must_use]
    pub fn start(&self, flow: E::State) -> TrackedState<T, D, E::State> {
        TrackedState { flow, forward: Displacement::blank(&self.grid) }
    }
}

/// Buffers of [`Tracked`].
#[derive(Clone, Debug)]
pub struct Workspace<T, const D: usize, W> {
    evolution: W,
    coefficients: Aligned<T>,
    velocity_bar: Velocity<T, D>,
}

impl<T: Real, const D: usize, E: FieldEvolution<T, D>> Evolution for Tracked<E, T, D> {
    type Scalar = T;
    type State = TrackedState<T, D, E::State>;
    type Velocity = Velocity<T, D>;
    type Tape = E::Tape;
    type Workspace = Workspace<T, D, E::Workspace>;

    fn workspace(&self) -> Result<Self::Workspace> {
        Ok(Workspace {
            evolution: self.evolution.workspace()?,
            coefficients: Aligned::try_zeros(D * self.grid.len())?,
            velocity_bar: Velocity::zeros(&self.grid)?,
        })
    }

    fn tape(&self) -> Result<Self::Tape> {
        self.evolution.tape()
    }

    fn expect_state(&self, state: &Self::State) -> Result<()> {
        self.grid.expect_same(state.forward.grid(), "forward map of the state")?;
        self.evolution.expect_state(&state.flow)
    }

    fn velocity(&self, state: &Self::State, tape: &mut Self::Tape, ws: &mut Self::Workspace) {
        self.evolution.velocity(&state.flow, tape, &mut ws.evolution);
    }

    fn velocity_field<'a>(
        &'a self,
        state: &'a Self::State,
        tape: &'a Self::Tape,
    ) -> &'a Velocity<T, D> {
        self.evolution.velocity_field(&state.flow, tape)
    }

    fn rate(
        &self,
        state: &Self::State,
        map: StageMap,
        rate: &mut Self::State,
        tape: &Self::Tape,
        ws: &mut Self::Workspace,
    ) {
        self.evolution.rate(&state.flow, map, &mut rate.flow, tape, &mut ws.evolution);
        // ∂t U = v∘(id + U)
        let v = self.evolution.velocity_field(&state.flow, tape);
        self.composition.coefficients(v.data(), &mut ws.coefficients);
        self.composition.sample(&ws.coefficients, state.forward.data(), rate.forward.data_mut());
    }
}

impl<T: Real, const D: usize, E: FieldEvolution<T, D>> EvolutionVjp for Tracked<E, T, D> {
    fn rate_vjp(
        &self,
        state: &Self::State,
        map: StageMap,
        rate_bar: &Self::State,
        state_bar: &mut Self::State,
        tape: &Self::Tape,
        ws: &mut Self::Workspace,
    ) {
        let (flow, flow_bar) = (&state.flow, &mut state_bar.flow);
        self.evolution.rate_vjp(flow, map, &rate_bar.flow, flow_bar, tape, &mut ws.evolution);
        // The transpose of v∘(id + U), in U and in v.
        let v = self.evolution.velocity_field(flow, tape);
        self.composition.coefficients(v.data(), &mut ws.coefficients);
        copy(rate_bar.forward.data(), ws.velocity_bar.data_mut());
        state_bar.forward.set_zero();
        self.composition.sample_vjp(
            &mut ws.coefficients,
            state.forward.data(),
            ws.velocity_bar.data_mut(),
            state_bar.forward.data_mut(),
        );
        let v_bar = &ws.velocity_bar;
        self.evolution.velocity_vjp(flow, v_bar, flow_bar, tape, &mut ws.evolution);
    }

    fn velocity_vjp(
        &self,
        state: &Self::State,
        velocity_bar: &Velocity<T, D>,
        state_bar: &mut Self::State,
        tape: &Self::Tape,
        ws: &mut Self::Workspace,
    ) {
        let (flow_bar, ws) = (&mut state_bar.flow, &mut ws.evolution);
        self.evolution.velocity_vjp(&state.flow, velocity_bar, flow_bar, tape, ws);
    }
}
