//! Transport by a velocity that is constant in time: vSVF.

use super::{Evolution, EvolutionVjp, Flow, StageMap, transport};
use crate::error::Result;
use crate::field::Velocity;
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
    grid: Grid<D>,
    len: usize,
}

impl<T: Real, const D: usize> Stationary<T, D> {
    /// Transport on `grid` with differences of the given order.
    #[must_use]
    pub fn new(grid: &Grid<D>, order: Order) -> Self {
        let (difference, len) = (Difference::new(grid, order), D * grid.len());
        Self { difference, grid: grid.clone(), len }
    }

    /// Whether the state's fields are of this grid.
    fn fits(&self, state: &State<T, D>) -> bool {
        state.body.data().len() == self.len && state.map.data().len() == self.len
    }
}

type State<T, const D: usize> = Flow<T, D, Velocity<T, D>>;

impl<T: Real, const D: usize> Evolution for Stationary<T, D> {
    type Scalar = T;
    type State = State<T, D>;
    type Velocity = Velocity<T, D>;
    type Tape = ();
    type Workspace = ();

    fn workspace(&self) -> Result<()> {
        Ok(())
    }

    fn tape(&self) -> Result<()> {
        Ok(())
    }

    fn expect_state(&self, state: &Self::State) -> Result<()> {
        self.grid.expect_same(state.map.grid(), "map of the state")
    }

    /// It is in the state.
    fn velocity(&self, _state: &Self::State, _tape: &mut (), _ws: &mut ()) {}

    fn velocity_field<'a>(&'a self, state: &'a Self::State, _tape: &'a ()) -> &'a Velocity<T, D> {
        &state.body
    }

    fn rate(
        &self,
        state: &Self::State,
        map: StageMap,
        rate: &mut Self::State,
        _tape: &(),
        _ws: &mut (),
    ) {
        if !(self.fits(state) && self.fits(rate)) {
            return rate.scale(T::nan());
        }
        rate.body.set_zero();
        transport::rate(&self.difference, &state.body, state.map_at(map), &mut rate.map);
    }
}

impl<T: Real, const D: usize> EvolutionVjp for Stationary<T, D> {
    fn rate_vjp(
        &self,
        state: &Self::State,
        map: StageMap,
        rate_bar: &Self::State,
        state_bar: &mut Self::State,
        _tape: &(),
        _ws: &mut (),
    ) {
        if !(self.fits(state) && self.fits(rate_bar) && self.fits(state_bar)) {
            return state_bar.scale(T::nan());
        }
        state_bar.body.set_zero();
        let (v, v_bar, u_bar) = (&state.body, &mut state_bar.body, &mut state_bar.map);
        let map = state.map_at(map);
        transport::rate_vjp(&self.difference, v, map, &rate_bar.map, v_bar, u_bar);
    }

    fn velocity_vjp(
        &self,
        state: &Self::State,
        velocity_bar: &Velocity<T, D>,
        state_bar: &mut Self::State,
        _tape: &(),
        _ws: &mut (),
    ) {
        if !(self.fits(state) && self.fits(state_bar)) || velocity_bar.data().len() != self.len {
            return state_bar.scale(T::nan());
        }
        state_bar.body.axpy(T::one(), velocity_bar);
    }
}
