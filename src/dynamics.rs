//! Evolution operators: what moves, how fast, and the transpose of that.

pub mod epdiff;
pub mod image;
pub(crate) mod momentum;
pub mod stationary;
pub mod tracked;
pub(crate) mod transport;

pub use epdiff::{Epdiff, Geodesic};
pub use image::{ImageAdjoint, ImageGeodesic};
pub use stationary::Stationary;
pub use tracked::{Tracked, TrackedState};

use std::sync::Arc;

use crate::field::{Displacement, Velocity};
use crate::scalar::Real;
use crate::space::{StateSpace, set_sum_of};

/// A body (momentum and weights, or a velocity) and the inverse map Φ⁻¹ = id + `map` of its flow.
#[derive(Clone, Debug)]
pub struct Flow<T, const D: usize, B> {
    /// What the map is computed from.
    pub body: B,
    /// u of Φ⁻¹ = id + u, in physical units.
    pub map: Displacement<T, D>,
}

crate::product_space!(@impl [T: Real, const D: usize, B: StateSpace<T>] Flow<T, D, B> { body, map } T);

/// A state that holds an inverse map, which a step may transport by its own rule.
pub trait MapState<T: Real, const D: usize>: StateSpace<T> {
    /// u of Φ⁻¹ = id + u.
    fn map(&self) -> &Displacement<T, D>;
    /// u of Φ⁻¹ = id + u, to change.
    fn map_mut(&mut self) -> &mut Displacement<T, D>;

    /// `self ← Σ a·x` in everything but the map, which stays what it is.
    fn set_sum_but_map<'a>(&mut self, terms: impl Iterator<Item = (T, &'a Self)> + Clone)
    where
        Self: 'a;

    /// `selfᵢ ← f(selfᵢ, xᵢ)` in everything but the map, which stays what it is.
    fn combine_but_map(&mut self, x: &Self, f: impl Fn(T, T) -> T + Copy + Sync);

    /// U of the forward map Φ = id + U, where the state holds it, as [`TrackedState`] does.
    fn forward(&self) -> Option<&Displacement<T, D>> {
        None
    }
    /// U of Φ = id + U, to change.
    fn forward_mut(&mut self) -> Option<&mut Displacement<T, D>> {
        None
    }
}

impl<T: Real, const D: usize, B: StateSpace<T>> MapState<T, D> for Flow<T, D, B> {
    fn map(&self) -> &Displacement<T, D> {
        &self.map
    }
    fn map_mut(&mut self) -> &mut Displacement<T, D> {
        &mut self.map
    }
    fn set_sum_but_map<'a>(&mut self, terms: impl Iterator<Item = (T, &'a Self)> + Clone)
    where
        Self: 'a,
    {
        set_sum_of(&mut self.body, terms.map(|(a, x)| (a, &x.body)));
    }
    fn combine_but_map(&mut self, x: &Self, f: impl Fn(T, T) -> T + Copy + Sync) {
        self.body.combine(&x.body, f);
    }
}

/// An autonomous evolution ∂t y = f(y) of a state with a map.
pub trait Evolution<T: Real, const D: usize>: Send + Sync {
    /// The state y.
    type State: MapState<T, D>;
    /// Buffers, owned by the caller. A rate does not depend on what they held before.
    type Workspace: Send;

    /// Buffers for this evolution.
    fn workspace(&self) -> Self::Workspace;

    /// `rate` ← f(y).
    fn rate(&self, state: &Self::State, rate: &mut Self::State, ws: &mut Self::Workspace);

    /// `rate` ← f(y) with the identity in the place of the map of y, which is not read: where a semi-Lagrangian step
    /// begins. This default copies the state; what transports a map can do better.
    fn rate_at_identity(
        &self,
        state: &Self::State,
        rate: &mut Self::State,
        ws: &mut Self::Workspace,
    ) {
        let mut state = state.clone();
        state.map_mut().set_zero();
        self.rate(&state, rate, ws);
    }

    /// The velocity field of the last [`Evolution::rate`] of `state`.
    fn velocity<'a>(
        &'a self,
        state: &'a Self::State,
        ws: &'a Self::Workspace,
    ) -> &'a Velocity<T, D>;
}

/// An evolution with the transpose of its derivative.
pub trait EvolutionVjp<T: Real, const D: usize>: Evolution<T, D> {
    /// What a rate leaves in its workspace for its transpose.
    type Tape: Send;

    /// A blank tape.
    fn tape(&self) -> Self::Tape;

    /// How many numbers are on a tape.
    fn tape_len(&self) -> usize;

    /// Exchanges what the last rate left in `ws` for what is on `tape`.
    fn exchange(&self, ws: &mut Self::Workspace, tape: &mut Self::Tape);

    /// Leaves in `ws` what [`Evolution::rate`] of `state` does, without the rate.
    fn record(&self, state: &Self::State, ws: &mut Self::Workspace);

    /// `state_bar ← (∂f/∂y)ᵀ rate_bar` at `state`, for which `ws` holds what its rate left.
    fn rate_vjp(
        &self,
        state: &Self::State,
        rate_bar: &Self::State,
        state_bar: &mut Self::State,
        ws: &mut Self::Workspace,
    );

    /// The transpose of [`Evolution::rate_at_identity`] in everything but the map: what is left in that of
    /// `state_bar` means nothing. `ws` holds what the rate or [`EvolutionVjp::record`] of `state` left, which must not
    /// depend on the map. This default copies the state.
    fn rate_vjp_at_identity(
        &self,
        state: &Self::State,
        rate_bar: &Self::State,
        state_bar: &mut Self::State,
        ws: &mut Self::Workspace,
    ) {
        let mut state = state.clone();
        state.map_mut().set_zero();
        self.rate_vjp(&state, rate_bar, state_bar, ws);
    }

    /// `state_bar += (∂v/∂y)ᵀ velocity_bar` at `state`, for which `ws` holds what its rate left: for what else
    /// depends on the velocity.
    fn velocity_vjp(
        &self,
        state: &Self::State,
        velocity_bar: &Velocity<T, D>,
        state_bar: &mut Self::State,
        ws: &mut Self::Workspace,
    );
}

impl<T: Real, const D: usize, E: Evolution<T, D>> Evolution<T, D> for Arc<E> {
    type State = E::State;
    type Workspace = E::Workspace;

    fn workspace(&self) -> Self::Workspace {
        (**self).workspace()
    }

    fn rate(&self, state: &Self::State, rate: &mut Self::State, ws: &mut Self::Workspace) {
        (**self).rate(state, rate, ws);
    }

    fn rate_at_identity(
        &self,
        state: &Self::State,
        rate: &mut Self::State,
        ws: &mut Self::Workspace,
    ) {
        (**self).rate_at_identity(state, rate, ws);
    }

    fn velocity<'a>(
        &'a self,
        state: &'a Self::State,
        ws: &'a Self::Workspace,
    ) -> &'a Velocity<T, D> {
        (**self).velocity(state, ws)
    }
}

impl<T: Real, const D: usize, E: EvolutionVjp<T, D>> EvolutionVjp<T, D> for Arc<E> {
    type Tape = E::Tape;

    fn tape(&self) -> Self::Tape {
        (**self).tape()
    }

    fn tape_len(&self) -> usize {
        (**self).tape_len()
    }

    fn exchange(&self, ws: &mut Self::Workspace, tape: &mut Self::Tape) {
        (**self).exchange(ws, tape);
    }

    fn record(&self, state: &Self::State, ws: &mut Self::Workspace) {
        (**self).record(state, ws);
    }

    fn rate_vjp(
        &self,
        state: &Self::State,
        rate_bar: &Self::State,
        state_bar: &mut Self::State,
        ws: &mut Self::Workspace,
    ) {
        (**self).rate_vjp(state, rate_bar, state_bar, ws);
    }

    fn rate_vjp_at_identity(
        &self,
        state: &Self::State,
        rate_bar: &Self::State,
        state_bar: &mut Self::State,
        ws: &mut Self::Workspace,
    ) {
        (**self).rate_vjp_at_identity(state, rate_bar, state_bar, ws);
    }

    fn velocity_vjp(
        &self,
        state: &Self::State,
        velocity_bar: &Velocity<T, D>,
        state_bar: &mut Self::State,
        ws: &mut Self::Workspace,
    ) {
        (**self).velocity_vjp(state, velocity_bar, state_bar, ws);
    }
}
