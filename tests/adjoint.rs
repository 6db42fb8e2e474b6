//! Gradients through whole trajectories: exact transposes, checkpoints, adaptive steps, and the
//! continuous adjoint beside them.
#![expect(clippy::unwrap_used, reason = "helpers of tests, generic over models")]

#[path = "suite/common/mod.rs"]
mod common;

use common::{Randomise, controls, fixed_steps, grid, randomised};
use rdmm_core::adjoint::Integration;
use rdmm_core::adjoint::{Checkpoints, GradientKind, Sweep};
use rdmm_core::dynamics::{Evolution, EvolutionVjp, FieldEvolution, StageMap, Tracked};
use rdmm_core::field::Velocity;
use rdmm_core::grid::{Boundary, Grid};
use rdmm_core::model::{Controls, Model, Shooting, State};
use rdmm_core::space::{FlowState, StateSpace};
use rdmm_core::step::{DOPRI5, EULER, HEUN, MIDPOINT, MapTransport, RK4, Steps};

/// One problem: a random linear functional of the end state, as a function of the controls.
struct Problem<const D: usize, S: Shooting<f64, D>> {
    shooting: S,
    sweep: Sweep<std::sync::Arc<S::Evolution>>,
    start: State<f64, D, S>,
    functional: State<f64, D, S>,
}

impl<const D: usize, S: Shooting<f64, D>> Problem<D, S>
where
    State<f64, D, S>: Randomise,
    Controls<f64, D, S::Weights>: Randomise,
{
    fn new(grid: &Grid<D>, model: &impl Model<f64, D, Shooting = S>, how: Integration) -> Self {
        let mut shooting = model.on(grid).unwrap();
        let start = shooting.initial_state(&shooting.identity());
        let sweep = Sweep::new(shooting.evolution(), &start, how).unwrap();
        let functional = randomised(&start, 11);
        Self { shooting, sweep, start, functional }
    }

    fn value(&mut self, controls: &Controls<f64, D, S::Weights>) -> f64 {
        self.shooting.set_initial_state(controls, &mut self.start);
        self.sweep.forward(&self.start).unwrap().dot(&self.functional)
    }

    fn gradient(
        &mut self,
        controls: &Controls<f64, D, S::Weights>,
    ) -> Controls<f64, D, S::Weights> {
        self.value(controls);
        let mut bar = self.functional.clone();
        self.sweep.backward(&self.start, &mut bar).unwrap();
        let mut gradient = controls.zeros_like();
        self.shooting.initial_state_vjp(controls, &bar, &mut gradient);
        gradient
    }

    /// Largest relative deviation from central differences over a few directions.
    fn deviation(&mut self, controls: &Controls<f64, D, S::Weights>) -> f64 {
        let gradient = self.gradient(controls);
        let mut worst = 0.0_f64;
        for seed in 21..24 {
            let direction = randomised(controls, 2 * seed);
            let exact = gradient.dot(&direction);
            // Fourth-order differences: truncation e⁴, rounding 1e-16/e; both below 1e-9 here.
            let e = 1e-3;
            let mut at = |k: f64| {
                let mut moved = controls.clone();
                moved.axpy(k * e, &direction);
                self.value(&moved)
            };
            let numeric = (8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) / (12.0 * e);
            worst = worst.max((numeric - exact).abs() / exact.abs().max(gradient.norm()));
        }
        worst
    }
}

/// The tolerance for gradients against differences, from the errors of the differences.
const DIFFERENCES: f64 = 1e-8;

#[test]
fn gradients_equal_differences_for_every_model_and_boundary() {
    for boundary in Boundary::ALL {
        let grid = grid([12, 11], boundary);
        for_each_model!(&grid, |model| {
            let mut problem = Problem::new(&grid, &model, fixed_steps(3));
            let controls = controls(&mut problem.shooting, 0.6, 5);
            let off = problem.deviation(&controls);
            let name = Model::<f64, 2>::name(&model);
            assert!(off < DIFFERENCES, "{name} {boundary:?}: {off:.2e}");
        });
    }
    let grid = grid([7, 6, 8], Boundary::Reflecting);
    for_each_model!(&grid, |model| {
        let mut problem = Problem::new(&grid, &model, fixed_steps(2));
        let controls = controls(&mut problem.shooting, 0.6, 6);
        let off = problem.deviation(&controls);
        assert!(off < DIFFERENCES, "{} 3-D: {off:.2e}", Model::<f64, 3>::name(&model));
    });
}

#[test]
fn gradients_equal_differences_for_every_tableau_and_map() {
    let grid = grid([12, 11], Boundary::Reflecting);
    for tableau in [EULER, MIDPOINT, HEUN, RK4, DOPRI5] {
        for transport in [MapTransport::SemiLagrangian, MapTransport::Eulerian] {
            let how = Integration { tableau, transport, ..fixed_steps(3) };
            let model = common::rdmm(&grid, rdmm_core::model::Advected::PreWeights);
            let mut problem = Problem::new(&grid, &model, how);
            let controls = controls(&mut problem.shooting, 0.4, 5);
            let off = problem.deviation(&controls);
            assert!(off < DIFFERENCES, "{}: {off:.2e}", tableau.name());
        }
    }
}

/// ⟨λ, f′ δ⟩ by differences against ⟨f′ᵀ λ, δ⟩ at a single rate, where rounding is smallest.
#[test]
fn rates_and_their_transposes_match() {
    for boundary in Boundary::ALL {
        let grid = grid([9, 10], boundary);
        for_each_model!(&grid, |model| {
            let mut shooting = model.on(&grid).unwrap();
            let controls = controls(&mut shooting, 0.5, 3);
            let mut state = shooting.initial_state(&controls);
            state.map_mut().randomise(9);
            let (lambda, delta) = (randomised(&state, 31), randomised(&state, 41));
            let evolution = shooting.evolution();
            let (mut tape, mut ws) = (evolution.tape().unwrap(), evolution.workspace().unwrap());
            let mut bar = state.zeros_like();
            let map = StageMap::OfState;
            evolution.velocity(&state, &mut tape, &mut ws);
            evolution.rate_vjp(&state, map, &lambda, &mut bar, &tape, &mut ws);
            // The rate is a polynomial of degree ≤ 5 in the state: five-point differences with e = 1 on
            // the derivative leave the degree-five term only, so use a small e.
            let e = 1e-2;
            let mut at = |k: f64| {
                let (mut moved, mut rate) = (state.clone(), state.zeros_like());
                moved.axpy(k * e, &delta);
                evolution.velocity(&moved, &mut tape, &mut ws);
                evolution.rate(&moved, map, &mut rate, &tape, &mut ws);
                rate.dot(&lambda)
            };
            let numeric = (8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) / (12.0 * e);
            let exact = bar.dot(&delta);
            let scale = bar.norm() * delta.norm();
            assert!((numeric - exact).abs() < 1e-9 * scale, "{boundary:?}: {numeric} {exact}");
        });
    }
}

/// The same for an evolution with its forward map.
#[test]
fn tracked_rates_and_velocities_have_their_transposes() {
    for boundary in Boundary::ALL {
        let grid = grid([9, 10], boundary);
        for_each_model!(&grid, |model| {
            let mut shooting = model.on(&grid).unwrap();
            let controls = controls(&mut shooting, 0.5, 3);
            let mut state = shooting.initial_state(&controls);
            state.map_mut().randomise(9);
            let tracked = Tracked::new(&grid, shooting.evolution());
            let mut state = tracked.start(state);
            state.forward.randomise(10);
            // A point on an edge of the interpolation's cells has one derivative on either side: the
            // interpolant is twice differentiable, the five-point rule wants four.
            state.forward.scale(0.03);
            let (lambda, delta) = (randomised(&state, 31), randomised(&state, 41));
            let (mut tape, mut ws) = (tracked.tape().unwrap(), tracked.workspace().unwrap());
            let (mut bar, map) = (state.zeros_like(), StageMap::OfState);
            tracked.velocity(&state, &mut tape, &mut ws);
            tracked.rate_vjp(&state, map, &lambda, &mut bar, &tape, &mut ws);
            let e = 1e-5;
            let mut at = |k: f64| {
                let (mut moved, mut rate) = (state.clone(), state.zeros_like());
                moved.axpy(k * e, &delta);
                tracked.velocity(&moved, &mut tape, &mut ws);
                tracked.rate(&moved, map, &mut rate, &tape, &mut ws);
                rate.dot(&lambda)
            };
            let numeric = (at(1.0) - at(-1.0)) / (2.0 * e);
            let (exact, scale) = (bar.dot(&delta), bar.norm() * delta.norm());
            // Truncation e² and rounding 1e-16/e.
            assert!((numeric - exact).abs() < 1e-8 * scale, "{boundary:?}: {numeric} {exact}");

            let velocity_bar = {
                let mut field = Velocity::<f64, 2>::zeros(&grid).unwrap();
                field.randomise(51);
                field
            };
            tracked.velocity(&state, &mut tape, &mut ws);
            bar.set_zero();
            tracked.velocity_vjp(&state, &velocity_bar, &mut bar, &tape, &mut ws);
            let mut at = |k: f64| {
                let mut moved = state.clone();
                moved.axpy(k * e, &delta);
                tracked.velocity(&moved, &mut tape, &mut ws);
                tracked.velocity_field(&moved, &tape).dot(&velocity_bar)
            };
            let numeric = (at(1.0) - at(-1.0)) / (2.0 * e);
            let (exact, scale) = (bar.dot(&delta), bar.norm() * delta.norm());
            assert!((numeric - exact).abs() < 1e-8 * scale, "{boundary:?}: {numeric} {exact}");
        });
    }
}

#[test]
fn checkpoint_policies_give_the_same_bits() {
    let grid = grid([12, 11], Boundary::Reflecting);
    let model = common::rdmm(&grid, rdmm_core::model::Advected::PreWeights);
    let mut shooting = Model::<f64, 2>::on(&model, &grid).unwrap();
    let bytes = size_of::<f64>()
        * StateSpace::<f64>::dimension(&shooting.initial_state(&shooting.identity()));
    let adaptive = Steps::Tolerance { relative: 1e-5, at_most: 200 };
    for (tableau, steps) in [(RK4, Steps::Fixed(11)), (DOPRI5, adaptive)] {
        let mut gradients = Vec::new();
        for checkpoints in [
            Checkpoints::All,
            Checkpoints::Every(1),
            Checkpoints::Every(4),
            Checkpoints::Binomial(1),
            Checkpoints::Binomial(3),
            Checkpoints::Binomial(50),
            Checkpoints::Bytes(5 * bytes),
            // Stages of no step, of some of the last ones, and of all.
            Checkpoints::Stages(0),
            Checkpoints::Stages(100 * bytes),
            Checkpoints::Stages(usize::MAX),
        ] {
            let how = Integration { tableau, steps, checkpoints, ..Integration::default() };
            let mut problem = Problem::new(&grid, &model, how);
            let controls = controls(&mut problem.shooting, 0.6, 5);
            // Twice: buffers that were used before must not matter.
            problem.gradient(&controls);
            gradients.push(problem.gradient(&controls));
            if let Checkpoints::Binomial(places) = checkpoints {
                problem.value(&controls);
                assert!(problem.sweep.states_held() < places);
            }
            if checkpoints == Checkpoints::Bytes(5 * bytes) {
                problem.value(&controls);
                assert!((2..=5).contains(&problem.sweep.states_held()));
                // Whole states, and the spline coefficients of the map on one trace.
                let coefficients = 2 * grid.len() * size_of::<f64>();
                assert_eq!((problem.sweep.bytes_held() - coefficients) % bytes, 0);
            }
            if let Checkpoints::Stages(budget @ 1..1_000_000) = checkpoints {
                problem.value(&controls);
                // The two of the step in hand.
                let states = problem.sweep.states_held() + 2;
                let traces = problem.sweep.bytes_held() - states * bytes;
                assert!((budget / 2..=budget).contains(&traces), "{traces} of {budget}");
            }
        }
        for other in &gradients[1..] {
            assert_eq!(gradients[0].momentum.data(), other.momentum.data());
        }
    }
}

#[test]
fn adaptive_steps_are_differentiated_as_taken() {
    let grid = grid([12, 11], Boundary::Reflecting);
    let model = common::rdmm_optimised(rdmm_core::model::Advected::PreWeights);
    let steps = Steps::Tolerance { relative: 1e-6, at_most: 200 };
    let how = Integration { tableau: DOPRI5, steps, ..Integration::default() };
    let mut problem = Problem::new(&grid, &model, how);
    let controls = controls(&mut problem.shooting, 0.6, 5);
    let gradient = problem.gradient(&controls);
    let taken = problem.sweep.step_sizes().to_vec();
    assert!(taken.len() > 2 && (taken.iter().sum::<f64>() - 1.0).abs() < 1e-14);
    // The sequence changes with the controls, so differences see its error too, which the tolerance
    // bounds: 1e-6 a step over a few steps, relative to the state.
    let direction = randomised(&controls, 42);
    let e = 1e-3;
    let mut at = |k: f64| {
        let mut moved = controls.clone();
        moved.axpy(k * e, &direction);
        problem.value(&moved)
    };
    let numeric = (at(1.0) - at(-1.0)) / (2.0 * e);
    let exact = gradient.dot(&direction);
    assert!((numeric - exact).abs() < 1e-4 * gradient.norm() * direction.norm());
}

/// The continuous adjoint approaches the exact gradient as steps and spacing shrink; it is not equal.
#[test]
fn the_continuous_adjoint_converges_to_the_discrete_one() {
    let deviation = |n: usize, steps: usize| {
        let grid = grid([n, n], Boundary::Periodic);
        let gradient = |kind: GradientKind| {
            let how = Integration { gradient: kind, ..fixed_steps(steps) };
            let model = common::lddmm();
            let mut problem = Problem::new(&grid, &model, how);
            // A smooth functional, for a limit to exist.
            for (x, y) in
                problem.functional.map.data_mut().iter_mut().zip(common::smooth(&grid, 2, 8))
            {
                *x = y;
            }
            problem.functional.body.set_zero();
            let controls = controls(&mut problem.shooting, 0.6, 5);
            problem.gradient(&controls).momentum
        };
        let (exact, mut continuous) =
            (gradient(GradientKind::Discrete), gradient(GradientKind::Continuous));
        continuous.axpy(-1.0, &exact);
        continuous.norm() / exact.norm()
    };
    let (coarse, fine) = (deviation(16, 4), deviation(32, 8));
    assert!(fine < coarse / 4.0, "{coarse:.2e} {fine:.2e}");
    assert!(fine > 1e-10, "they are different gradients");
}

/// Rates and their transposes at the identity against those of the state with a map that is zero.
fn check_at_identity<E: FieldEvolution<f64, 2>>(evolution: &E, state: &E::State, what: &str)
where
    E::State: Randomise,
{
    let mut at_rest = state.clone();
    at_rest.map_mut().set_zero();
    let (mut found, mut expected) = (state.clone(), state.clone());
    let (mut tape, mut ws) = (evolution.tape().unwrap(), evolution.workspace().unwrap());
    evolution.velocity(&at_rest, &mut tape, &mut ws);
    evolution.rate(&at_rest, StageMap::OfState, &mut expected, &tape, &mut ws);
    let bar = randomised(state, 3);
    let mut expected_bar = state.zeros_like();
    evolution.rate_vjp(&at_rest, StageMap::OfState, &bar, &mut expected_bar, &tape, &mut ws);
    evolution.velocity(state, &mut tape, &mut ws);
    evolution.rate(state, StageMap::Identity, &mut found, &tape, &mut ws);
    let mut found_bar = state.zeros_like();
    evolution.rate_vjp(state, StageMap::Identity, &bar, &mut found_bar, &tape, &mut ws);
    // The cotangent of the map is no part of it.
    found_bar.map_mut().copy_from(expected_bar.map());
    for (found, expected) in [(found, expected), (found_bar, expected_bar)] {
        let mut off = found;
        off.axpy(-1.0, &expected);
        // The same operations but for those with zeros.
        assert!(off.max_abs() == 0.0 && expected.max_abs() > 0.0, "{what}: {:e}", off.max_abs());
    }
}

#[test]
fn rates_at_the_identity_are_those_of_a_map_that_is_zero() {
    let grid = grid([9, 8], Boundary::Reflecting);
    for_each_model!(&grid, |model| {
        let mut shooting = Model::<f64, 2>::on(&model, &grid).unwrap();
        let state = shooting.initial_state(&shooting.identity());
        let evolution = shooting.evolution();
        let name = Model::<f64, 2>::name(&model);
        check_at_identity(&evolution, &randomised(&state, 1), name);
        let tracked = Tracked::new(&grid, evolution);
        check_at_identity(&tracked, &randomised(&tracked.start(state), 2), name);
    });
}
