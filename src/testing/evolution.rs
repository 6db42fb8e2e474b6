//! The contract of an evolution.

use std::cell::RefCell;

use super::differences::check_vjp;
use super::failure::{Checked, expect};
use crate::dynamics::{EvolutionVjp, StageMap};
use crate::space::{FlowState, StateSpace};

/// An evolution holds its contract at a state, for changes along `direction` and the cotangent `bar` of its rate: the
/// transposes of the rate, at the map of the state and at the identity, and of the velocity are those of what is
/// computed; rates overwrite what was there; and nothing depends on what a tape or a workspace held before.
///
/// The direction should be about as long as the state varies. Answers the largest relative deviation from differences.
///
/// # Errors
/// [`CheckError`](super::CheckError) with what does not hold, and those of the evolution's buffers.
///
/// ```
/// use rdmm_core::dynamics::Stationary;
/// use rdmm_core::testing::{check_evolution, problems::shear};
/// use rdmm_core::{grid::{Boundary, Grid}, ops::difference::Order};
///
/// let grid = Grid::<2>::unit([12, 10])?.with_boundary(Boundary::Periodic);
/// let evolution = Stationary::new(&grid, Order::Fourth);
/// let [state, direction, bar] = [shear(&grid, 0.3, 0.5)?, shear(&grid, 1.0, 1.0)?, shear(&grid, 0.7, -2.0)?];
/// check_evolution(&evolution, &state, &direction, &bar)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn check_evolution<E>(
    evolution: &E,
    state: &E::State,
    direction: &E::State,
    bar: &E::State,
) -> Checked
where
    E: EvolutionVjp<Scalar = f64>,
    E::Velocity: StateSpace<f64>,
{
    let mut bench = Bench::new(evolution)?;
    let once = bench.rate(state, StageMap::OfState);
    let size = once.max_abs();
    let over = || "a rate over what was NaN".to_owned();
    expect(size.is_finite(), over, "finite numbers", size)?;
    bench.rate(direction, StageMap::Identity);
    let mut again = bench.rate(state, StageMap::OfState);
    again.axpy(-1.0, &once);
    let found = format!("a difference of {:.1e}", again.max_abs());
    expect(again.max_abs() <= 0.0, || "a second rate".to_owned(), "that of the first", found)?;

    // A test vector of the kind of velocities.
    let velocity_bar = bench.velocity(direction);
    let bench = RefCell::new(bench);
    let mut worst = 0.0_f64;
    for (map, what) in [
        (StageMap::OfState, "rate of the evolution"),
        (StageMap::Identity, "rate of the evolution at the identity"),
    ] {
        let mut direction = direction.clone();
        if map == StageMap::Identity {
            // What is left in the cotangent of the map means nothing there.
            direction.map_mut().set_zero();
        }
        let rate = |y: &E::State| bench.borrow_mut().rate(y, map);
        let vjp = |y: &E::State, bar: &E::State| bench.borrow_mut().rate_vjp(y, map, bar);
        worst = worst.max(check_vjp(what, rate, vjp, state, &direction, bar)?);
    }
    let velocity = |y: &E::State| bench.borrow_mut().velocity(y);
    let vjp = |y: &E::State, bar: &E::Velocity| bench.borrow_mut().velocity_vjp(y, bar);
    let what = "velocity of the evolution";
    Ok(worst.max(check_vjp(what, velocity, vjp, state, direction, &velocity_bar)?))
}

/// An evolution with its buffers.
struct Bench<'a, E: EvolutionVjp> {
    evolution: &'a E,
    tape: E::Tape,
    ws: E::Workspace,
}

impl<'a, E: EvolutionVjp<Scalar = f64>> Bench<'a, E>
where
    E::Velocity: StateSpace<f64>,
{
    fn new(evolution: &'a E) -> crate::Result<Self> {
        Ok(Self { evolution, tape: evolution.tape()?, ws: evolution.workspace()? })
    }

    fn velocity(&mut self, state: &E::State) -> E::Velocity {
        self.evolution.velocity(state, &mut self.tape, &mut self.ws);
        self.evolution.velocity_field(state, &self.tape).clone()
    }

    fn rate(&mut self, state: &E::State, map: StageMap) -> E::State {
        self.evolution.velocity(state, &mut self.tape, &mut self.ws);
        let mut rate = state.clone();
        rate.scale(f64::NAN);
        self.evolution.rate(state, map, &mut rate, &self.tape, &mut self.ws);
        rate
    }

    fn rate_vjp(&mut self, state: &E::State, map: StageMap, bar: &E::State) -> E::State {
        self.evolution.velocity(state, &mut self.tape, &mut self.ws);
        let mut out = state.clone();
        out.scale(f64::NAN);
        self.evolution.rate_vjp(state, map, bar, &mut out, &self.tape, &mut self.ws);
        if map == StageMap::Identity {
            out.map_mut().set_zero();
        }
        out
    }

    /// It adds to what is there.
    fn velocity_vjp(&mut self, state: &E::State, bar: &E::Velocity) -> E::State {
        self.evolution.velocity(state, &mut self.tape, &mut self.ws);
        let mut out = state.clone();
        self.evolution.velocity_vjp(state, bar, &mut out, &self.tape, &mut self.ws);
        out.axpy(-1.0, state);
        out
    }
}
