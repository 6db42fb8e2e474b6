//! Transport by a velocity that is constant in time: vSVF.

use super::{Evolution, EvolutionVjp, Flow, transport};
use crate::field::{Displacement, Velocity};
use crate::grid::Grid;
use crate::ops::difference::{Difference, Order};
use crate::scalar::Real;
use crate::space::StateSpace;

/// ∂t v = 0; ∂tΦ⁻¹ + DΦ⁻¹ v = 0. The velocity is the body of the state.
///
#[doc = include_str!("../../docs/math/stationary.html")]
///
/// # References
/// Arsigny et al., *A log-Euclidean framework for statistics on diffeomorphisms*, MICCAI 2006,
/// doi:10.1007/11866565_113.
#[derive(Clone, Debug)]
pub struct Stationary<T, const D: usize> {
    difference: Difference<T, D>,
    len: usize,
}

impl<T: Real, const D: usize> Stationary<T, D> {
    /// Transport on `grid` with differences of the given order.
    #[must_use]
    pub fn new(grid: &Grid<D>, order: Order) -> Self {
        Self { difference: Difference::new(grid, order), len: D * grid.len() }
    }

    /// Whether the state's fields are of this grid.
    fn fits(&self, state: &State<T, D>) -> bool {
        state.body.data().len() == self.len && state.map.data().len() == self.len
    }

    /// The rate with a map, or with the identity.
    fn rate_with(
        &self,
        state: &State<T, D>,
        map: Option<&Displacement<T, D>>,
        rate: &mut State<T, D>,
    ) {
        if !(self.fits(state) && self.fits(rate)) {
            return rate.scale(T::nan());
        }
        rate.body.set_zero();
        transport::rate(&self.difference, &state.body, map, &mut rate.map);
    }

    /// Its transpose.
    fn rate_vjp_with(
        &self,
        state: &State<T, D>,
        map: Option<&Displacement<T, D>>,
        rate_bar: &State<T, D>,
        state_bar: &mut State<T, D>,
    ) {
        if !(self.fits(state) && self.fits(rate_bar) && self.fits(state_bar)) {
            return state_bar.scale(T::nan());
        }
        state_bar.body.set_zero();
        transport::rate_vjp(
            &self.difference,
            &state.body,
            map,
            &rate_bar.map,
            &mut state_bar.body,
            &mut state_bar.map,
        );
    }
}

type State<T, const D: usize> = Flow<T, D, Velocity<T, D>>;

impl<T: Real, const D: usize> Evolution<T, D> for Stationary<T, D> {
    type State = State<T, D>;
    type Workspace = ();

    fn workspace(&self) {}

    fn rate(&self, state: &Self::State, rate: &mut Self::State, _ws: &mut ()) {
        self.rate_with(state, Some(&state.map), rate);
    }

    fn rate_at_identity(&self, state: &Self::State, rate: &mut Self::State, _ws: &mut ()) {
        self.rate_with(state, None, rate);
    }

    fn velocity<'a>(&'a self, state: &'a Self::State, _ws: &'a ()) -> &'a Velocity<T, D> {
        &state.body
    }
}

impl<T: Real, const D: usize> EvolutionVjp<T, D> for Stationary<T, D> {
    type Tape = ();

    fn tape(&self) {}

    fn tape_len(&self) -> usize {
        0
    }

    fn exchange(&self, _ws: &mut (), _tape: &mut ()) {}

    fn record(&self, _state: &Self::State, _ws: &mut ()) {}

    fn rate_vjp(
        &self,
        state: &Self::State,
        rate_bar: &Self::State,
        state_bar: &mut Self::State,
        _ws: &mut (),
    ) {
        self.rate_vjp_with(state, Some(&state.map), rate_bar, state_bar);
    }

    fn rate_vjp_at_identity(
        &self,
        state: &Self::State,
        rate_bar: &Self::State,
        state_bar: &mut Self::State,
        _ws: &mut (),
    ) {
        self.rate_vjp_with(state, None, rate_bar, state_bar);
    }

    fn velocity_vjp(
        &self,
        state: &Self::State,
        velocity_bar: &Velocity<T, D>,
        state_bar: &mut Self::State,
        _ws: &mut (),
    ) {
        if !(self.fits(state) && self.fits(state_bar)) || velocity_bar.data().len() != self.len {
            return state_bar.scale(T::nan());
        }
        state_bar.body.axpy(T::one(), velocity_bar);
    }
}
