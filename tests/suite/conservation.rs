//! What geodesics conserve: the Hamiltonian, and for LDDMM the momentum in the body's frame.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests, which show their figures"
)]

use crate::common::{self, FORMS, Randomise, Region, fixed_steps, grid, region, slope, smooth};
use rdmm_core::Result;
use rdmm_core::adjoint::Sweep;
use rdmm_core::dynamics::{Epdiff, Evolution, Flow, Geodesic, StageMap};
use rdmm_core::field::{Displacement, Momentum, Velocity, Weights};
use rdmm_core::grid::{Boundary, Grid};
use rdmm_core::kernel::Spectral;
use rdmm_core::metric::{Homogeneous, Inputs, Metric, Outputs};
use rdmm_core::model::{Advected, Lddmm, Model, Shooting};
use rdmm_core::ops::compose::Composition;
use rdmm_core::ops::difference::{Difference, Order};
use rdmm_core::space::StateSpace;
use std::f64::consts::TAU;

/// A metric whose force on the momentum is multiplied by a factor: 0 leaves it out, −1 flips its sign.
/// Weights are advected as before.
struct ScaledForce<M> {
    metric: M,
    factor: f64,
}

impl<const D: usize, M: Metric<f64, D>> Metric<f64, D> for ScaledForce<M> {
    type Weights = M::Weights;
    type Workspace = M::Workspace;
    type Tape = M::Tape;

    fn tape(&self, grid: &Grid<D>) -> Result<M::Tape> {
        self.metric.tape(grid)
    }

    fn velocity(
        &self,
        at: Inputs<'_, f64, D, M::Weights>,
        velocity: &mut Velocity<f64, D>,
        tape: &mut M::Tape,
        ws: &mut M::Workspace,
    ) {
        self.metric.velocity(at, velocity, tape, ws);
    }

    fn velocity_vjp(
        &self,
        _at: Inputs<'_, f64, D, M::Weights>,
        _velocity_bar: &Velocity<f64, D>,
        _bars: Outputs<'_, f64, D, M::Weights>,
        _tape: &M::Tape,
        _ws: &mut M::Workspace,
    ) {
        unreachable!("the tests only run it forwards")
    }

    fn advect(
        &self,
        at: Inputs<'_, f64, D, M::Weights>,
        velocity: &Velocity<f64, D>,
        Outputs { momentum, weights }: Outputs<'_, f64, D, M::Weights>,
        tape: &M::Tape,
        ws: &mut M::Workspace,
    ) {
        let mut forced = momentum.clone();
        let rates = Outputs { momentum: &mut forced, weights };
        self.metric.advect(at, velocity, rates, tape, ws);
        momentum.scale(1.0 - self.factor);
        momentum.axpy(self.factor, &forced);
    }

    fn rates_vjp(
        &self,
        _at: Inputs<'_, f64, D, M::Weights>,
        _velocity: &Velocity<f64, D>,
        _rate_bars: Inputs<'_, f64, D, M::Weights>,
        _velocity_bar: &mut Velocity<f64, D>,
        _bars: Outputs<'_, f64, D, M::Weights>,
        _tape: &M::Tape,
        _ws: &mut M::Workspace,
    ) {
        unreachable!("the tests only run it forwards")
    }

    fn energy_gradient(
        &self,
        at: Inputs<'_, f64, D, M::Weights>,
        scale: f64,
        bar: &mut M::Weights,
        tape: &M::Tape,
        ws: &mut M::Workspace,
    ) {
        self.metric.energy_gradient(at, scale, bar, tape, ws);
    }
}

/// Pre-weights of unit norm that vary smoothly over the grid.
fn weights<const D: usize>(grid: &Grid<D>) -> Weights<f64, D> {
    let mut weights: Weights<f64, D> = common::squares(grid);
    weights.data_mut().iter_mut().for_each(|weight| *weight = weight.sqrt());
    weights
}

/// A body at the start: smooth momentum of the given size.
fn body<const D: usize, W>(grid: &Grid<D>, size: f64, weights: W) -> Geodesic<f64, D, W> {
    let field = smooth(grid, D, 5).into_iter().map(|x| size * x).collect();
    Geodesic { momentum: Momentum::from_vec(grid, field).unwrap(), weights }
}

fn flow<const D: usize, W>(
    grid: &Grid<D>,
    body: Geodesic<f64, D, W>,
) -> Flow<f64, D, Geodesic<f64, D, W>> {
    Flow { body, map: Displacement::zeros(grid).unwrap() }
}

fn combined<const D: usize>(grid: &Grid<D>) -> Homogeneous<Spectral<f64, D>> {
    let bank = rdmm_core::kernel::GaussianBank::new(grid, &common::SIGMAS).unwrap();
    Homogeneous::new(bank.combined(&[0.2, 0.5, 0.3]).unwrap())
}

/// dH/dt over ‖ṁ‖‖v‖ along the rates, from values of H alone. H has degree two in m and two in the
/// weights, so that the five-point difference along a line is exact but for rounding.
fn semi_discrete_drift<const D: usize, M: Metric<f64, D>>(
    evolution: &Epdiff<M, f64, D>,
    body: Geodesic<f64, D, M::Weights>,
) -> f64 {
    let state = flow(evolution.grid(), body);
    let (rate, tape) = common::rate(evolution, &state);
    let velocity = evolution.velocity_field(&state, &tape).norm();
    let scale = evolution.grid().cell_volume() * rate.body.norm() * velocity;
    let e = 0.3 * state.body.norm() / rate.body.norm();
    let at = |k: f64| {
        let mut moved = state.body.clone();
        moved.axpy(k * e, &rate.body);
        evolution.hamiltonian(&moved).unwrap()
    };
    let slope = (8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) / (12.0 * e);
    (slope / scale).abs()
}

/// The same from the parts: `⟨ṁ, v⟩ + Σ ⟨ḣ_i, G⋆(m·ν_i)⟩`, and ⟨ṁ, v⟩ alone, over ‖ṁ‖‖v‖.
fn pairings<const D: usize, M: Metric<f64, D>>(
    evolution: &Epdiff<M, f64, D>,
    body: Geodesic<f64, D, M::Weights>,
) -> [f64; 2] {
    let state = flow(evolution.grid(), body);
    let (rate, _) = common::rate(evolution, &state);
    let (metric, at) = (evolution.metric(), state.body.inputs());
    let mut v = Velocity::zeros(evolution.grid()).unwrap();
    let mut slope = state.body.weights.zeros_like();
    let (mut tape, mut ws) = (metric.tape(evolution.grid()).unwrap(), M::Workspace::default());
    metric.velocity(at, &mut v, &mut tape, &mut ws);
    metric.energy_gradient(at, 1.0, &mut slope, &tape, &mut ws);
    let momentum_part = common_dot(rate.body.momentum.data(), v.data());
    let scale = rate.body.momentum.norm() * v.norm();
    [(momentum_part + rate.body.weights.dot(&slope)) / scale, momentum_part / scale]
}

fn common_dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Sums of a few thousand products, differences of nearly equal energies: 1e-13 of the Cauchy–Schwarz
/// bound.
const SEMI_DISCRETE: f64 = 1e-13;

fn check_semi_discrete<const D: usize>(grid: &Grid<D>) {
    // Rough momentum and weights: the statement is algebraic and needs no resolution.
    let rough = |seed| {
        let mut momentum = Momentum::zeros(grid).unwrap();
        momentum.randomise(seed);
        momentum
    };
    for order in [Order::Second, Order::Fourth] {
        let name = format!("{:?} {order:?} {:?}", grid.shape(), grid.boundary());
        let lddmm = Epdiff::new(grid, combined(grid), order);
        let body = || Geodesic { momentum: rough(3), weights: () };
        let off = semi_discrete_drift(&lddmm, body());
        assert!(off < SEMI_DISCRETE, "LDDMM {name}: {off:.1e}");
        assert!(pairings(&lddmm, body())[0].abs() < SEMI_DISCRETE);
        for advected in FORMS {
            let body = || {
                let mut weights = Weights::zeros_with(grid, 3).unwrap();
                weights.randomise(4);
                Geodesic { momentum: rough(5), weights }
            };
            let rdmm = Epdiff::new(grid, region(grid, advected, order), order);
            let off = semi_discrete_drift(&rdmm, body());
            assert!(off < SEMI_DISCRETE, "RDMM {advected:?} {name}: {off:.1e}");
            let [sum, momentum_part] = pairings(&rdmm, body());
            assert!(sum.abs() < SEMI_DISCRETE, "RDMM {advected:?} {name}: {sum:.1e}");
            assert!(momentum_part.abs() > 1e-3, "both parts matter: {momentum_part:.1e}");
            for factor in [0.0, -1.0] {
                let metric = ScaledForce { metric: region(grid, advected, order), factor };
                let wrong = semi_discrete_drift(&Epdiff::new(grid, metric, order), body());
                assert!(wrong > 1e-3, "force times {factor}: {wrong:.1e}");
            }
        }
    }
}

#[test]
fn the_semi_discrete_hamiltonian_is_constant() {
    for boundary in Boundary::ALL {
        check_semi_discrete(&grid([12, 15], boundary));
        check_semi_discrete(&grid([7, 6, 9], boundary));
    }
}

/// Largest |H(t)/H(0) − 1| with `steps` steps of RK4.
fn drift<const D: usize, M: Metric<f64, D>>(
    evolution: &Epdiff<M, f64, D>,
    body: &Geodesic<f64, D, M::Weights>,
    steps: usize,
) -> f64 {
    let stepper = rdmm_core::step::Stepper::new(
        ByReference(evolution),
        rdmm_core::step::RK4,
        rdmm_core::step::MapTransport::SemiLagrangian,
    );
    let mut state = flow(evolution.grid(), body.clone());
    let (mut next, mut ws) = (state.zeros_like(), stepper.workspace(&state).unwrap());
    let (before, mut worst) = (evolution.hamiltonian(body).unwrap(), 0.0_f64);
    for _ in 0..steps {
        stepper.step(&state, 1.0 / steps as f64, &mut next, &mut ws);
        std::mem::swap(&mut state, &mut next);
        worst = worst.max((evolution.hamiltonian(&state.body).unwrap() / before - 1.0).abs());
    }
    worst
}

/// An evolution that is lent to a stepper.
struct ByReference<'a, E>(&'a E);

impl<E: Evolution> Evolution for ByReference<'_, E> {
    type Scalar = E::Scalar;
    type State = E::State;
    type Velocity = E::Velocity;
    type Tape = E::Tape;
    type Workspace = E::Workspace;
    fn workspace(&self) -> Result<E::Workspace> {
        self.0.workspace()
    }
    fn tape(&self) -> Result<E::Tape> {
        self.0.tape()
    }
    fn velocity(&self, state: &E::State, tape: &mut E::Tape, ws: &mut E::Workspace) {
        self.0.velocity(state, tape, ws);
    }
    fn velocity_field<'a>(&'a self, state: &'a E::State, tape: &'a E::Tape) -> &'a E::Velocity {
        self.0.velocity_field(state, tape)
    }
    fn rate(
        &self,
        state: &E::State,
        map: StageMap,
        rate: &mut E::State,
        tape: &E::Tape,
        ws: &mut E::Workspace,
    ) {
        self.0.rate(state, map, rate, tape, ws);
    }
}

/// Order of the drift over a few numbers of steps, and the drift with the most.
fn drift_order<const D: usize, M: Metric<f64, D>>(
    evolution: &Epdiff<M, f64, D>,
    body: &Geodesic<f64, D, M::Weights>,
) -> (f64, f64) {
    let steps = [4, 8, 16];
    let drifts = steps.map(|n| drift(evolution, body, n));
    (slope(&steps.map(|n| 1.0 / f64::from(u32::try_from(n).unwrap())), &drifts), drifts[2])
}

fn check_drift<const D: usize>(grid: &Grid<D>, size: f64) {
    let order = Order::Fourth;
    let name = format!("{}-D {:?}", D, grid.boundary());
    let start = body(grid, size, ());
    let (observed, last) = drift_order(&Epdiff::new(grid, combined(grid), order), &start);
    println!("LDDMM {name}: order {observed:.2}, drift {last:.1e}");
    // Order 4 for the solution; the energy, which the exact flow of the semi-discrete system keeps,
    // may do better. 0.3 for three step counts that are not yet asymptotic.
    assert!(observed > 3.7, "LDDMM {name}: {observed:.2}, {last:.1e}");
    // Order 4 from a drift of a few per cent at most with four steps.
    assert!(last < 1e-3, "LDDMM {name}: {last:.1e}");
    for advected in FORMS {
        let start = body(grid, size, weights(grid));
        let rdmm = Epdiff::new(grid, region(grid, advected, order), order);
        let (observed, last) = drift_order(&rdmm, &start);
        println!("RDMM {advected:?} {name}: order {observed:.2}, drift {last:.1e}");
        assert!(observed > 3.7, "RDMM {advected:?} {name}: {observed:.2}, {last:.1e}");
        assert!(last < 1e-3, "RDMM {advected:?} {name}: {last:.1e}");
    }
}

#[test]
fn the_energy_drift_has_the_order_of_the_integrator() {
    for boundary in Boundary::ALL {
        check_drift(&grid([20, 18], boundary), 0.5);
        check_drift(&grid([10, 9, 11], boundary), 0.5);
    }
}

/// Without the force, or with its sign flipped, what drifts is the model and not the integrator.
#[test]
fn the_drift_stays_without_the_force_and_with_a_flipped_sign() {
    for advected in FORMS {
        for boundary in Boundary::ALL {
            let grid = grid([20, 18], boundary);
            let start = body(&grid, 0.2, weights(&grid));
            for factor in [0.0, -1.0] {
                let metric = ScaledForce { metric: region(&grid, advected, Order::Fourth), factor };
                let evolution = Epdiff::new(&grid, metric, Order::Fourth);
                let drifts = [8, 32].map(|n| drift(&evolution, &start, n));
                println!("force × {factor}, {advected:?} {boundary:?}: drifts {drifts:?}");
                assert!(drifts[1] > 1e-3, "{drifts:?}");
                // Four times the steps: RK4 would gain a factor of 256. Here it is the same but for what
                // the integrator does with eight steps; a wrong sign may also blow up.
                assert!(drifts[1] > 0.95 * drifts[0], "{drifts:?}");
            }
        }
    }
}

/// The window b K b is a metric like any other, and the velocity vanishes where b does.
#[test]
fn a_border_window_conserves_and_holds_the_border() {
    fn check<const D: usize, S>(mut shooting: S, name: &str)
    where
        S: Shooting<f64, D>,
    {
        let controls = common::controls(&mut shooting, 0.8, 5);
        let start = shooting.initial_state(&controls);
        let evolution = shooting.evolution();
        let (_, tape) = common::rate(&evolution, &start);
        let v = evolution.velocity_field(&start, &tape);
        let (grid, fastest) = (v.grid(), v.max_abs());
        for (flat, &v) in v.data().iter().enumerate() {
            let (index, shape) = (grid.unravel(flat % grid.len()), grid.shape());
            if (0..D).any(|a| index[a] == 0 || index[a] + 1 == shape[a]) {
                // b = 0 there but for the cosine's rounding.
                assert!(v.abs() < 1e-15 * fastest, "{name}: {v} of {fastest} on the border");
            }
        }
        let before = shooting.hamiltonian(&start).unwrap();
        let steps = [4, 8, 16];
        let drifts = steps.map(|n| {
            let how = fixed_steps(n);
            let mut sweep = Sweep::new(shooting.evolution(), &start, how).unwrap();
            let end = sweep.forward(&start).unwrap().clone();
            (shooting.hamiltonian(&end).unwrap() / before - 1.0).abs()
        });
        let observed = slope(&[0.25, 0.125, 0.0625], &drifts);
        println!("window {name}: order {observed:.2}, drifts {drifts:?}");
        // As for the drift without a window.
        assert!(observed > 3.7 && drifts[2] < 1e-3, "{name}: {observed:.2} {drifts:?}");
    }
    for boundary in Boundary::ALL {
        let grid = grid([20, 18], boundary);
        let lddmm = Lddmm::new(common::metric().with_border(0.2).unwrap());
        check::<2, _>(lddmm.on(&grid).unwrap(), "LDDMM");
        for advected in FORMS {
            let rdmm = common::rdmm::<f64, 2>(&grid, advected).with_border(0.2).unwrap();
            check::<2, _>(rdmm.on(&grid).unwrap(), "RDMM");
        }
    }
    let grid = grid([9, 10, 8], Boundary::Reflecting);
    let rdmm = common::rdmm::<f64, 3>(&grid, Advected::PreWeights).with_border(0.2).unwrap();
    check::<3, _>(rdmm.on(&grid).unwrap(), "RDMM 3-D");
}

/// m(t) = det(DΦ⁻¹) (DΦ⁻¹)ᵀ m₀∘Φ⁻¹ for LDDMM, to the error of the discretisation; RDMM has a force
/// and does not keep it.
#[test]
fn lddmm_conserves_the_momentum_of_the_body() {
    let off = |n: usize, with_regions: bool| {
        let grid =
            Grid::new([n, n], [1.0 / n as f64; 2]).unwrap().with_boundary(Boundary::Periodic);
        let field = |x: [f64; 2], c: usize| {
            let wave = |p: f64, q: f64, shift: f64| (TAU * (p * x[0] + q * x[1] + shift)).cos();
            [0.12 * wave(1.0, 0.0, 0.1) + 0.08 * wave(1.0, 1.0, 0.3), 0.16 * wave(0.0, 1.0, 0.7)][c]
        };
        let momentum = Momentum::from_fn(&grid, |x| std::array::from_fn(|c| field(x, c))).unwrap();
        let weights = Weights::from_fn(&grid, 3, |x, c| {
            let angle = 0.8 + 0.4 * (TAU * x[0]).sin() * (TAU * x[1]).cos();
            [0.5, 0.866 * angle.cos(), 0.866 * angle.sin()][c]
        })
        .unwrap();
        let how = fixed_steps(n / 2);
        let (m, u) = if with_regions {
            let metric: Region<f64, 2> = region(&grid, Advected::PreWeights, Order::Fourth);
            let start = flow(&grid, Geodesic { momentum: momentum.clone(), weights });
            let evolution = Epdiff::new(&grid, metric, Order::Fourth);
            let mut sweep = Sweep::new(evolution, &start, how).unwrap();
            let end = sweep.forward(&start).unwrap();
            (end.body.momentum.clone(), end.map.clone())
        } else {
            let start = flow(&grid, Geodesic { momentum: momentum.clone(), weights: () });
            let evolution = Epdiff::new(&grid, combined(&grid), Order::Fourth);
            let mut sweep = Sweep::new(evolution, &start, how).unwrap();
            let end = sweep.forward(&start).unwrap();
            (end.body.momentum.clone(), end.map.clone())
        };
        assert!(u.max_abs() > 0.05, "moves by {}", u.max_abs());

        let composition = Composition::new(&grid);
        let mut coefficients = vec![0.0; 2 * grid.len()];
        composition.coefficients(momentum.data(), &mut coefficients);
        let mut moved = coefficients.clone();
        composition.sample(&coefficients, u.data(), &mut moved);
        let difference = Difference::new(&grid, Order::Fourth);
        let len = grid.len();
        let ones = vec![1.0; len];
        let slope = |a: usize, b: usize| {
            let mut out = vec![if a == b { 1.0 } else { 0.0 }; len];
            difference.add_scaled(b, 1.0, &ones, u.component(a), 0, &mut out);
            out
        };
        let j = [[slope(0, 0), slope(0, 1)], [slope(1, 0), slope(1, 1)]];
        let mut expected = vec![0.0; 2 * len];
        for at in 0..len {
            let det = j[0][0][at] * j[1][1][at] - j[0][1][at] * j[1][0][at];
            for a in 0..2 {
                expected[a * len + at] =
                    det * (j[0][a][at] * moved[at] + j[1][a][at] * moved[len + at]);
            }
        }
        common::deviation(m.data(), &expected)
    };
    let sizes = [24, 48, 96];
    let errors = sizes.map(|n| off(n, false));
    let observed = slope(&sizes.map(|n| 1.0 / n as f64), &errors);
    println!("body momentum: order {observed:.2}, errors {errors:?}");
    // Fourth-order differences and cubic splines, with steps in proportion to the spacing; half an order
    // for grids that are not yet asymptotic.
    assert!(observed > 3.5 && errors[2] < 5e-4, "{observed:.2} {errors:?}");
    let with_force = off(96, true);
    println!("RDMM with its force: {with_force:.1e}");
    assert!(with_force > 1e-2, "RDMM has a force: {with_force:.1e}");
}
