//! The flow from t = 0 to 1, with the maps and the energy along it.

use std::borrow::Cow;

use rdmm_core::Error;
use rdmm_core::dynamics::{Evolution, Flow, Geodesic, Tracked};
use rdmm_core::field::{Displacement, Momentum, Velocity, Weights};
use rdmm_core::model::{AsWeights, Shooting, State};
use rdmm_core::space::StateSpace;
use rdmm_core::step::{MapTransport, RK4, Stepper, Steps};

use crate::failure::{Done, Failure};

/// Rounding of products of times and steps: an interval of 3.000000001 steps takes three.
const ROUNDING: f64 = 1e-9;

/// When steps begin and end, and which ends are shown.
#[derive(Debug)]
pub(super) struct Schedule {
    /// End of the interval and the number of its equal steps.
    intervals: Vec<(f64, usize)>,
}

impl Schedule {
    /// `steps` steps from 0 to 1, or as many an interval between `times` as keep them no longer.
    pub(super) fn new(steps: usize, times: &[f64]) -> Done<Self> {
        Steps::Fixed(steps).validate()?;
        let mut intervals = Vec::with_capacity(times.len() + 1);
        let mut from = 0.0;
        for &to in times.iter().chain(&[1.0]) {
            if !(to > from && to <= 1.0) {
                let problem = "expected increasing times between 0 and 1, both left out";
                return Err(Failure::at("--times", format!("{problem}; found {times:?}")));
            }
            let needed = (steps as f64 * (to - from) - ROUNDING).ceil().max(1.0);
            #[expect(clippy::cast_possible_truncation, reason = "no more than the steps")]
            #[expect(clippy::cast_sign_loss, reason = "at least one")]
            intervals.push((to, needed as usize));
            from = to;
        }
        Ok(Self { intervals })
    }

    /// Steps of all intervals.
    pub(super) fn steps(&self) -> usize {
        self.intervals.iter().map(|(_, steps)| steps).sum()
    }
}

/// What the flow of a model has beside the map.
pub(super) enum Moving<'a, const D: usize> {
    /// The velocity of vSVF, which stays; the momentum is not advected.
    Stationary(&'a Velocity<f64, D>),
    /// The momentum, and the weights where they vary.
    Geodesic(&'a Momentum<f64, D>, Option<&'a Weights<f64, D>>),
}

/// A body of one of the models.
pub(super) trait Body<const D: usize> {
    /// What it holds.
    fn moving(&self) -> Moving<'_, D>;
}

impl<const D: usize> Body<D> for Velocity<f64, D> {
    fn moving(&self) -> Moving<'_, D> {
        Moving::Stationary(self)
    }
}

impl<W: AsWeights<f64, D>, const D: usize> Body<D> for Geodesic<f64, D, W> {
    fn moving(&self) -> Moving<'_, D> {
        Moving::Geodesic(&self.momentum, self.weights.as_weights())
    }
}

/// The flow at a time that is shown.
pub(super) struct Instant<'a, const D: usize> {
    pub(super) time: f64,
    pub(super) energy: f64,
    /// Φ⁻¹ − id.
    pub(super) inverse: &'a Displacement<f64, D>,
    /// Φ − id.
    pub(super) forward: &'a Displacement<f64, D>,
    /// The momentum that is advected; for vSVF the initial one.
    pub(super) momentum: &'a Momentum<f64, D>,
    /// Pre-weights, or weights where these are advected; constants √share without either. None where the metric is no sum of
    /// Gaussians.
    pub(super) weights: Option<Cow<'a, Weights<f64, D>>>,
}

/// Follows the flow from `state`; `show` sees the end of each interval. Gives time and energy ½ ∫ m·v at the
/// start and after each step.
pub(super) fn follow<S, B, const D: usize>(
    shooting: &mut S,
    initial: &Momentum<f64, D>,
    state: State<f64, D, S>,
    schedule: &Schedule,
    mut show: impl FnMut(Instant<'_, D>) -> Done,
) -> Done<Vec<(f64, f64)>>
where
    S: Shooting<f64, D>,
    S::Evolution: Evolution<State = Flow<f64, D, B>>,
    B: Body<D> + StateSpace<f64>,
{
    let mut energies = vec![(0.0, energy(shooting, initial, &state)?)];
    let tracked = Tracked::new(shooting.grid(), shooting.evolution());
    let mut state = tracked.start(state);
    let stepper = Stepper::new(tracked, RK4, MapTransport::default());
    let (mut next, mut ws) = (state.zeros_like(), stepper.workspace(&state)?);
    let mut from = 0.0;
    for &(to, steps) in &schedule.intervals {
        for step in 1..=steps {
            stepper.step(&state, (to - from) / steps as f64, &mut next, &mut ws);
            std::mem::swap(&mut state, &mut next);
            if !state.is_finite() {
                let (step, steps) = (energies.len(), schedule.steps());
                return Err(Error::Diverged { step, steps }.into());
            }
            let time = from + (to - from) * step as f64 / steps as f64;
            energies.push((time, energy(shooting, initial, &state.flow)?));
        }
        from = to;
        let (momentum, weights) = match state.flow.body.moving() {
            Moving::Stationary(_) => (initial, None),
            Moving::Geodesic(momentum, weights) => (momentum, weights),
        };
        let weights = match weights {
            Some(weights) => Some(Cow::Borrowed(weights)),
            None => shooting.weights(&state.flow)?.map(Cow::Owned),
        };
        let (inverse, forward) = (&state.flow.map, &state.forward);
        let energy = energies.last().map_or(0.0, |last| last.1);
        show(Instant { time: to, energy, inverse, forward, momentum, weights })?;
    }
    Ok(energies)
}

/// ½ ∫ m·v.
fn energy<S, B, const D: usize>(
    shooting: &mut S,
    initial: &Momentum<f64, D>,
    state: &State<f64, D, S>,
) -> Done<f64>
where
    S: Shooting<f64, D>,
    S::Evolution: Evolution<State = Flow<f64, D, B>>,
    B: Body<D>,
{
    Ok(match state.body.moving() {
        Moving::Stationary(velocity) => 0.5 * initial.integral_with(velocity)?,
        Moving::Geodesic(..) => shooting.hamiltonian(state)?,
    })
}

/// max_t |H(t)/H(0) − 1|; 0 where H(0) is.
pub(super) fn drift(energies: &[(f64, f64)]) -> f64 {
    let Some(&(_, first)) = energies.first() else { return 0.0 };
    if first > 0.0 {
        energies.iter().fold(0.0, |drift, (_, now)| (now / first - 1.0).abs().max(drift))
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_take_as_many_steps_as_keep_them_short() {
        let of = |steps, times: &[f64]| Schedule::new(steps, times).unwrap().intervals;
        assert_eq!(of(10, &[]), [(1.0, 10)]);
        // 0.7 − 0.6 and 1 − 0.7 are off a tenth and three by rounding.
        assert_eq!(of(10, &[0.6, 0.7]), [(0.6, 6), (0.7, 1), (1.0, 3)]);
        assert_eq!(of(3, &[0.5]), [(0.5, 2), (1.0, 2)]);
        assert_eq!(of(1, &[0.001]), [(0.001, 1), (1.0, 1)]);
        for times in [&[0.0][..], &[1.0], &[-0.5], &[0.5, 0.5], &[0.5, 0.2], &[f64::NAN], &[1.5]] {
            assert!(Schedule::new(10, times).is_err(), "{times:?}");
        }
        assert!(Schedule::new(0, &[]).is_err());
    }

    #[test]
    fn the_drift_is_the_largest_relative_change() {
        assert_eq!(drift(&[(0.0, 2.0), (0.5, 1.0), (1.0, 2.5)]).to_bits(), 0.5_f64.to_bits());
        assert_eq!(drift(&[(0.0, 0.0), (1.0, 0.0)]).to_bits(), 0.0_f64.to_bits());
    }
}
