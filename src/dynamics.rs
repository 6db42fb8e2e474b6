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

use crate::error::Result;
use crate::field::{Displacement, Velocity};
use crate::metric::Tape;
use crate::scalar::Real;
use crate::space::{FlowState, StateSpace, VectorField, set_sum_of};

/// A body (momentum and weights, or a velocity) and the inverse map Φ⁻¹ = id + `map` of its flow.
#[derive(Clone, Debug)]
pub struct Flow<T, const D: usize, B> {
    /// What the map is computed from.
    pub body: B,
    /// u of Φ⁻¹ = id + u, in physical units.
    pub map: Displacement<T, D>,
}

crate::product_space!(@linear [T: Real, const D: usize, B: StateSpace<T>] Flow<T, D, B> { body, map } T);

impl<T: Real, const D: usize, B: StateSpace<T>> FlowState<T> for Flow<T, D, B> {
    type Map = Displacement<T, D>;

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
    fn scale_add_but_map(&mut self, a: T, x: &Self) {
        self.body.scale_add(a, &x.body);
    }
}

/// The map that a rate is taken at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageMap {
    /// The one that the state holds.
    OfState,
    /// The identity, whatever the state holds: where a semi-Lagrangian step begins.
    Identity,
}

impl<T, const D: usize, B> Flow<T, D, B> {
    /// The displacement of a stage's map; none at the identity.
    fn map_at(&self, map: StageMap) -> Option<&Displacement<T, D>> {
        match map {
            StageMap::OfState => Some(&self.map),
            StageMap::Identity => None,
        }
    }
}

/// An autonomous evolution ∂t y = f(y) of a state with a map.
///
/// Each rate follows a velocity of the same state, by the tape that [`Evolution::velocity`] wrote. The velocity depends
/// on everything in the state but the map.
pub trait Evolution: Send + Sync {
    /// The numbers.
    type Scalar: Real;
    /// The state y.
    type State: FlowState<Self::Scalar>;
    /// The velocity field of a state.
    type Velocity: VectorField<Self::Scalar>;
    /// What a velocity leaves for rates and their transposes.
    type Tape: Tape;
    /// Buffers, owned by the caller. No result depends on what they held before.
    type Workspace: Send;

    /// Buffers for this evolution.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    fn workspace(&self) -> Result<Self::Workspace>;

    /// A blank tape, of the length of all tapes of this evolution.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    fn tape(&self) -> Result<Self::Tape>;

    /// `Ok` if this evolution moves states like `state`: over its grid. By default it takes any, and what does not fit
    /// gives NaN.
    ///
    /// # Errors
    /// [`Error::GridMismatch`](crate::Error::GridMismatch) with both.
    fn expect_state(&self, _state: &Self::State) -> Result<()> {
        Ok(())
    }

    /// Writes the velocity of `state`, and what else its rate needs, on `tape`.
    fn velocity(&self, state: &Self::State, tape: &mut Self::Tape, ws: &mut Self::Workspace);

    /// The velocity field that is on `tape`, or in `state` itself.
    fn velocity_field<'a>(
        &'a self,
        state: &'a Self::State,
        tape: &'a Self::Tape,
    ) -> &'a Self::Velocity;

    /// `rate` ← f(y), where `tape` holds the velocity of `state`.
    fn rate(
        &self,
        state: &Self::State,
        map: StageMap,
        rate: &mut Self::State,
        tape: &Self::Tape,
        ws: &mut Self::Workspace,
    );
}

/// An evolution with the transpose of its derivative.
pub trait EvolutionVjp: Evolution {
    /// `state_bar ← (∂f/∂y)ᵀ rate_bar` at `state`, where `tape` holds its velocity. At the identity, what is left in
    /// the map of `state_bar` means nothing.
    fn rate_vjp(
        &self,
        state: &Self::State,
        map: StageMap,
        rate_bar: &Self::State,
        state_bar: &mut Self::State,
        tape: &Self::Tape,
        ws: &mut Self::Workspace,
    );

    /// `state_bar += (∂v/∂y)ᵀ velocity_bar` at `state`, where `tape` holds its velocity: for what else depends on the
    /// velocity.
    fn velocity_vjp(
        &self,
        state: &Self::State,
        velocity_bar: &Self::Velocity,
        state_bar: &mut Self::State,
        tape: &Self::Tape,
        ws: &mut Self::Workspace,
    );
}

/// An evolution of fields over a grid, with its transpose: what models shoot with.
pub trait FieldEvolution<T: Real, const D: usize>:
    EvolutionVjp<Scalar = T, Velocity = Velocity<T, D>, State: FlowState<T, Map = Displacement<T, D>>>
{
}

impl<T: Real, const D: usize, E> FieldEvolution<T, D> for E where
    E: EvolutionVjp<
            Scalar = T,
            Velocity = Velocity<T, D>,
            State: FlowState<T, Map = Displacement<T, D>>,
        >
{
}

impl<E: Evolution> Evolution for Arc<E> {
    type Scalar = E::Scalar;
    type State = E::State;
    type Velocity = E::Velocity;
    type Tape = E::Tape;
    type Workspace = E::Workspace;

    fn workspace(&self) -> Result<Self::Workspace> {
        (**self).workspace()
    }

    fn tape(&self) -> Result<Self::Tape> {
        (**self).tape()
    }

    fn expect_state(&self, state: &Self::State) -> Result<()> {
        (**self).expect_state(state)
    }

    fn velocity(&self, state: &Self::State, tape: &mut Self::Tape, ws: &mut Self::Workspace) {
        (**self).velocity(state, tape, ws);
    }

    fn velocity_field<'a>(
        &'a self,
        state: &'a Self::State,
        tape: &'a Self::Tape,
    ) -> &'a Self::Velocity {
        (**self).velocity_field(state, tape)
    }

    fn rate(
        &self,
        state: &Self::State,
        map: StageMap,
        rate: &mut Self::State,
        tape: &Self::Tape,
        ws: &mut Self::Workspace,
    ) {
        (**self).rate(state, map, rate, tape, ws);
    }
}

impl<E: EvolutionVjp> EvolutionVjp for Arc<E> {
    fn rate_vjp(
        &self,
        state: &Self::State,
        map: StageMap,
        rate_bar: &Self::State,
        state_bar: &mut Self::State,
        tape: &Self::Tape,
        ws: &mut Self::Workspace,
    ) {
        (**self).rate_vjp(state, map, rate_bar, state_bar, tape, ws);
    }

    fn velocity_vjp(
        &self,
        state: &Self::State,
        velocity_bar: &Self::Velocity,
        state_bar: &mut Self::State,
        tape: &Self::Tape,
        ws: &mut Self::Workspace,
    ) {
        (**self).velocity_vjp(state, velocity_bar, state_bar, tape, ws);
    }
}
