//! Properties that hold for all data: reductions, symmetries, units, constraints, identities.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::common::{
    self, FORMS, Randomise, bits, controls, deviation, fixed_steps, grid, randomised, region,
    shoot, slope,
};
use crate::for_each_model;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed};
use rdmm_core::Real;
use rdmm_core::adjoint::Integration;
use rdmm_core::dynamics::{Epdiff, Evolution, FieldEvolution, Flow, Geodesic, Tracked};
use rdmm_core::field::kind::Kind;
use rdmm_core::field::{Displacement, Field, Image, Momentum, Weights};
use rdmm_core::grid::{Boundary, Grid};
use rdmm_core::kernel::GaussianBank;
use rdmm_core::metric::Homogeneous;
use rdmm_core::model::{
    Advected, Controls, Lddmm, Model, MultiGaussian, Rdmm, RdmmOptimised, Shooting, State,
};
use rdmm_core::ops::compose::Composition;
use rdmm_core::ops::difference::Order;
use rdmm_core::registration::{Level, Registration, Settings, Terms};
use rdmm_core::regularize::{Omt, Regularizer, Scheduled};
use rdmm_core::similarity::{Lncc, Measure, Ncc, Ssd};
use rdmm_core::space::{FlowState, StateSpace};
use rdmm_core::step::{MapTransport, RK4, Stepper};
use rdmm_core::synthetic::Shapes;
use rdmm_core::testing::strategies;
use std::f64::consts::TAU;
use std::sync::Arc;

/// The same cases on every run.
fn cases(cases: u32) -> Config {
    Config {
        cases,
        rng_algorithm: RngAlgorithm::ChaCha,
        rng_seed: RngSeed::Fixed(190_600_139),
        failure_persistence: None,
        ..Config::default()
    }
}

fn any_form() -> impl Strategy<Value = Advected> {
    proptest::sample::select(FORMS.to_vec())
}

/// End of a few steps of an evolution from a body and the identity map.
fn few_steps<E: Evolution>(evolution: E, start: &E::State) -> E::State {
    let stepper = Stepper::new(evolution, RK4, MapTransport::SemiLagrangian);
    let (mut state, mut ws) = (start.clone(), stepper.workspace(start).unwrap());
    let mut next = state.zeros_like();
    for _ in 0..3 {
        stepper.step(&state, 0.1, &mut next, &mut ws);
        std::mem::swap(&mut state, &mut next);
    }
    state
}

/// Deviations of RDMM with constant weights from EPDiff with the weights w²: rates of momentum and map,
/// rate of the weights over the velocity in voxels, momentum, map and weights after a few steps.
fn constant_weights<T: Real, const D: usize>(
    grid: &Grid<D>,
    advected: Advected,
    squares: &[f64],
    seed: u64,
) -> [f64; 6] {
    let mut momentum = Momentum::<T, D>::zeros(grid).unwrap();
    momentum.randomise(seed);
    let mut map = Displacement::<T, D>::zeros(grid).unwrap();
    map.randomise(seed + 1);
    let mut weights = Weights::<T, D>::zeros_with(grid, squares.len()).unwrap();
    for (i, square) in squares.iter().enumerate() {
        weights.component_mut(i).fill(T::of(square.sqrt()));
    }
    let kernel = GaussianBank::new(grid, &common::SIGMAS).unwrap().combined(squares).unwrap();
    let plain = Epdiff::new(grid, Homogeneous::new(kernel), Order::Fourth);
    let mixed = Epdiff::new(grid, region(grid, advected, Order::Fourth), Order::Fourth);
    let mut a =
        Flow { body: Geodesic { momentum: momentum.clone(), weights: () }, map: map.clone() };
    let mut b = Flow { body: Geodesic { momentum, weights: weights.clone() }, map };
    let ((a_rate, tape), (b_rate, _)) = (common::rate(&plain, &a), common::rate(&mixed, &b));
    let voxels = plain.velocity_field(&a, &tape).max_abs() / grid.spacing()[0];
    a.map.set_zero();
    b.map.set_zero();
    let (a_end, b_end) = (few_steps(plain, &a), few_steps(mixed, &b));
    [
        deviation(b_rate.body.momentum.data(), a_rate.body.momentum.data()),
        deviation(b_rate.map.data(), a_rate.map.data()),
        b_rate.body.weights.max_abs() / voxels,
        deviation(b_end.body.momentum.data(), a_end.body.momentum.data()),
        deviation(b_end.map.data(), a_end.map.data()),
        deviation(b_end.body.weights.data(), weights.data()),
    ]
}

/// The velocity of LDDMM and of RDMM with constant weights, with Gaussians of this accuracy.
fn velocities(tolerance: Option<f64>) -> [Vec<f32>; 2] {
    let grid = common::grid([31, 26], Boundary::Reflecting);
    let mut metric = common::metric();
    let of = metric.weights().to_vec();
    let squares = Weights::from_fn(&grid, of.len(), |_, i| of[i]).unwrap();
    let mut region = Rdmm::new(metric.sigmas(), squares, 0.1).unwrap();
    if let Some(tolerance) = tolerance {
        metric = metric.with_tolerance(tolerance).unwrap();
        region = region.with_tolerance(tolerance).unwrap();
    }
    [velocity(&grid, &Lddmm::new(metric)), velocity(&grid, &region)]
}

fn velocity<M: Model<f32, 2>>(grid: &Grid<2>, model: &M) -> Vec<f32> {
    let mut shooting = model.on(grid).unwrap();
    let mut controls = shooting.identity();
    controls.momentum.randomise(5);
    let state = shooting.initial_state(&controls);
    let evolution = shooting.evolution();
    let (_, tape) = common::rate(&evolution, &state);
    evolution.velocity_field(&state, &tape).data().to_vec()
}

#[test]
fn a_metric_is_as_accurate_as_its_model_says() {
    let exact = velocities(Some(0.0));
    let error = |tolerance| {
        let found = velocities(tolerance);
        [0, 1].map(|k| deviation(&found[k], &exact[k]))
    };
    // Relative to the largest velocity, of noise: what the smallest multipliers leave is some times smaller
    // than the noise itself. Two axes, and the rounding of f32.
    for tolerance in [1e-2, 1e-3, 1e-4] {
        for error in error(Some(tolerance)) {
            assert!((1e-2 * tolerance..20.0 * tolerance).contains(&error), "{tolerance}: {error}");
        }
    }
    // A thousand units of rounding.
    assert_eq!(velocities(None), velocities(Some(1000.0 * f64::from(f32::EPSILON))));
    assert!(error(Some(1e-6)).iter().all(|&error| error < 1e-5));
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn constant_weights_make_rdmm_epdiff(
        flat in strategies::grids::<2>(6..14),
        deep in strategies::grids::<3>(6..10),
        advected in any_form(),
        squares in strategies::convex::<3>(),
        seed in 0..1_000_u64,
    ) {
        // Rounding of sums of some hundred terms and of three steps. A free grid cuts each Gaussian at
        // its own 7σ and their sum at the largest one's, which is 2e-11 of the peak.
        let double = |boundary| if boundary == Boundary::Free { 1e-9 } else { 1e-12 };
        let (flat_double, deep_double) = (double(flat.boundary()), double(deep.boundary()));
        for (tolerance, off) in [
            (flat_double, constant_weights::<f64, 2>(&flat, advected, &squares, seed)),
            (deep_double, constant_weights::<f64, 3>(&deep, advected, &squares, seed)),
            (1e-5, constant_weights::<f32, 2>(&flat, advected, &squares, seed)),
            (1e-5, constant_weights::<f32, 3>(&deep, advected, &squares, seed)),
        ] {
            prop_assert!(off.iter().all(|&x| x < tolerance), "{flat:?} {deep:?} {advected:?} {off:?}");
        }
    }
}

#[test]
fn without_momentum_the_map_is_the_identity() {
    fn check<const D: usize>(grid: &Grid<D>) {
        for transport in [MapTransport::SemiLagrangian, MapTransport::Eulerian] {
            let how = Integration { transport, ..fixed_steps(4) };
            for_each_model!(grid, |model| {
                let mut shooting = Model::<f64, D>::on(&model, grid).unwrap();
                let rest = shooting.identity();
                let end = shoot(&mut shooting, &rest, how.clone());
                let name = Model::<f64, D>::name(&model);
                assert!(end.map().data().iter().all(|&u| u.abs() <= 0.0), "{name}: exactly zero");
                // Weights that vary, too: nothing advects them.
                let mut controls = shooting.identity();
                controls.weights = randomised_weights(&controls);
                let end = shoot(&mut shooting, &controls, how.clone());
                assert!(end.map().data().iter().all(|&u| u.abs() <= 0.0), "{name}: exactly zero");
            });
        }
    }
    for boundary in Boundary::ALL {
        check(&grid([12, 9], boundary));
        check(&grid([7, 6, 8], boundary));
    }
}

fn randomised_weights<const D: usize, W: StateSpace<f64> + Randomise>(
    controls: &Controls<f64, D, W>,
) -> W {
    randomised(&controls.weights, 17)
}

/// Fields whose voxels or axes were moved.
trait Rearranged<const D: usize>: Sized {
    /// Value at `index` over `grid` ← value at `source(index)`; component and axis a ← `axes[a]`.
    fn rearranged(&self, how: &Rearrangement<'_, D>) -> Self;
}

struct Rearrangement<'a, const D: usize> {
    grid: &'a Grid<D>,
    source: &'a dyn Fn([usize; D]) -> [usize; D],
    axes: [usize; D],
}

impl<T: Real, const D: usize, K: Kind> Rearranged<D> for Field<T, D, K> {
    fn rearranged(&self, how: &Rearrangement<'_, D>) -> Self {
        let (n, strides) = (how.grid.len(), self.grid().strides());
        // Components along the axes of the grid move with the axes; weights do not.
        let vector = K::components(D) == Some(D);
        let mut data = Vec::with_capacity(self.data().len());
        for c in 0..self.components() {
            let from = self.component(if vector { how.axes[c] } else { c });
            data.extend((0..n).map(|flat| {
                let source = (how.source)(how.grid.unravel(flat));
                from[(0..D).map(|a| source[a] * strides[a]).sum::<usize>()]
            }));
        }
        Self::from_vec(how.grid, data).unwrap()
    }
}

impl<const D: usize> Rearranged<D> for () {
    fn rearranged(&self, _how: &Rearrangement<'_, D>) {}
}

impl<T: Real, const D: usize, W: Rearranged<D>> Rearranged<D> for Controls<T, D, W> {
    fn rearranged(&self, how: &Rearrangement<'_, D>) -> Self {
        Self { momentum: self.momentum.rearranged(how), weights: self.weights.rearranged(how) }
    }
}

impl<T: Real, const D: usize, W: Rearranged<D>> Rearranged<D> for Geodesic<T, D, W> {
    fn rearranged(&self, how: &Rearrangement<'_, D>) -> Self {
        Self { momentum: self.momentum.rearranged(how), weights: self.weights.rearranged(how) }
    }
}

impl<T: Real, const D: usize, B: Rearranged<D>> Rearranged<D> for Flow<T, D, B> {
    fn rearranged(&self, how: &Rearrangement<'_, D>) -> Self {
        Self { body: self.body.rearranged(how), map: self.map.rearranged(how) }
    }
}

/// ‖a − b‖ / ‖b‖ over the whole state.
fn distance<S: StateSpace<f64>>(a: &S, b: &S) -> f64 {
    let mut difference = a.clone();
    difference.axpy(-1.0, b);
    difference.norm() / b.norm()
}

/// Shoots, and shoots again from rearranged controls with the rearranged model: relative distance of the
/// second end from the rearranged first one.
fn equivariance<const D: usize, M: Model<f64, D>>(
    grid: &Grid<D>,
    (model, moved_model): (&M, &M),
    how: &Rearrangement<'_, D>,
    seed: u64,
) -> f64
where
    State<f64, D, M::Shooting>: Rearranged<D>,
    Controls<f64, D, <M::Shooting as Shooting<f64, D>>::Weights>: Rearranged<D> + Randomise,
{
    let mut shooting = model.on(grid).unwrap();
    let mut start = shooting.identity();
    start.weights = randomised(&start, seed + 7).weights;
    start.momentum = controls(&mut shooting, 0.5, seed).momentum;
    let end = shoot(&mut shooting, &start, fixed_steps(4));
    let mut moved = moved_model.on(how.grid).unwrap();
    let moved_end = shoot(&mut moved, &start.rearranged(how), fixed_steps(4));
    distance(&moved_end, &end.rearranged(how))
}

/// Every model: those without weights of their own are the same after a rearrangement.
fn every_equivariance<const D: usize>(
    grid: &Grid<D>,
    how: &Rearrangement<'_, D>,
    seed: u64,
) -> Vec<f64> {
    let mut off = vec![
        equivariance(grid, (&common::vsvf(), &common::vsvf()), how, seed),
        equivariance(grid, (&common::lddmm(), &common::lddmm()), how, seed),
    ];
    for advected in FORMS {
        let model = common::rdmm::<f64, D>(grid, advected);
        let squares = model.weights().unwrap().rearranged(how);
        let moved = Rdmm::new(model.sigmas(), squares, model.smoothing()).unwrap();
        let moved = moved.with_advected(advected);
        off.push(equivariance(grid, (&model, &moved), how, seed));
        let model = common::rdmm_optimised(advected);
        off.push(equivariance(grid, (&model, &model), how, seed));
    }
    off
}

/// Rounding of four steps of sums in another order.
const REARRANGED: f64 = 1e-12;

proptest! {
    #![proptest_config(cases(12))]

    #[test]
    fn a_translation_by_voxels_translates_the_result(
        shape in proptest::array::uniform2(8..14_usize),
        deep in proptest::array::uniform3(6..9_usize),
        shift in proptest::array::uniform3(0..6_usize),
        seed in 0..1_000_u64,
    ) {
        let flat = grid(shape, Boundary::Periodic);
        let source = |i: [usize; 2]| [0, 1].map(|a| (i[a] + shift[a]) % shape[a]);
        let how = Rearrangement { grid: &flat, source: &source, axes: [0, 1] };
        let off = every_equivariance(&flat, &how, seed);
        prop_assert!(off.iter().all(|&x| x < REARRANGED), "{off:?}");

        let cube = grid(deep, Boundary::Periodic);
        let source = |i: [usize; 3]| [0, 1, 2].map(|a| (i[a] + shift[a]) % deep[a]);
        let how = Rearrangement { grid: &cube, source: &source, axes: [0, 1, 2] };
        let off = every_equivariance(&cube, &how, seed);
        prop_assert!(off.iter().all(|&x| x < REARRANGED), "{off:?}");
    }

    #[test]
    fn swapping_axes_swaps_the_result(
        shape in proptest::array::uniform2(8..14_usize),
        deep in proptest::array::uniform3(6..9_usize),
        boundary in strategies::boundaries(),
        axes in proptest::sample::select(vec![[1, 0, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]]),
        seed in 0..1_000_u64,
    ) {
        // New axis a is old axis axes[a], in shape, spacing and components.
        fn swapped<const D: usize>(grid: &Grid<D>, axes: [usize; D]) -> Grid<D> {
            let (shape, spacing) = (grid.shape(), grid.spacing());
            Grid::new(axes.map(|a| shape[a]), axes.map(|a| spacing[a]))
                .unwrap()
                .with_boundary(grid.boundary())
        }
        let flat = grid(shape, boundary);
        let turned = swapped(&flat, [1, 0]);
        let source = |i: [usize; 2]| [i[1], i[0]];
        let how = Rearrangement { grid: &turned, source: &source, axes: [1, 0] };
        let off = every_equivariance(&flat, &how, seed);
        prop_assert!(off.iter().all(|&x| x < REARRANGED), "{boundary:?} {off:?}");

        let cube = grid(deep, boundary);
        let turned = swapped(&cube, axes);
        let source = |i: [usize; 3]| {
            let mut old = [0; 3];
            for a in 0..3 {
                old[axes[a]] = i[a];
            }
            old
        };
        let how = Rearrangement { grid: &turned, source: &source, axes };
        let off = every_equivariance(&cube, &how, seed);
        prop_assert!(off.iter().all(|&x| x < REARRANGED), "{boundary:?} {axes:?} {off:?}");
    }
}

/// A grid in another unit of length.
fn in_unit<const D: usize>(grid: &Grid<D>, s: f64) -> Grid<D> {
    let (shape, spacing) = (grid.shape(), grid.spacing());
    let boundary = grid.boundary();
    Grid::new(shape, spacing.map(|h| s * h)).unwrap().with_boundary(boundary)
}

fn metric_in_unit(metric: &MultiGaussian, s: f64) -> MultiGaussian {
    let sigmas: Vec<f64> = metric.sigmas().iter().map(|x| s * x).collect();
    MultiGaussian::new(&sigmas, metric.weights()).unwrap()
}

fn rdmm_in_unit<const D: usize>(model: &Rdmm<f64, D>, s: f64) -> Rdmm<f64, D> {
    let squares = model.weights().unwrap();
    let sigmas: Vec<f64> = model.sigmas().iter().map(|x| s * x).collect();
    let squares = squares.clone().on_grid(&in_unit(squares.grid(), s)).unwrap();
    let scaled = Rdmm::new(&sigmas, squares, s * model.smoothing()).unwrap();
    scaled.with_advected(model.advected())
}

/// u in units of s, from momentum in units of s: Gaussians have unit mass, so m scales as v does.
fn map_in_unit<const D: usize, M: Model<f64, D>>(grid: &Grid<D>, model: &M, s: f64) -> Vec<f64> {
    let mut shooting = model.on(&in_unit(grid, s)).unwrap();
    let mut start = controls(&mut shooting, 0.4, 3);
    start.momentum.scale(s);
    let end = shoot(&mut shooting, &start, fixed_steps(4));
    end.map().data().iter().map(|u| u / s).collect()
}

proptest! {
    #![proptest_config(cases(16))]

    #[test]
    fn the_unit_of_length_does_not_matter(
        exponent in -3.0..3.0_f64,
        boundary in strategies::boundaries(),
        advected in any_form(),
    ) {
        let s = 10_f64.powf(exponent);
        let flat = grid([11, 14], boundary);
        let cube = grid([6, 8, 7], boundary);
        let lddmm = |s| Lddmm::new(metric_in_unit(&common::metric(), s));
        let (a, b) = (common::rdmm(&flat, advected), common::rdmm(&cube, advected));
        for (one, other) in [
            (map_in_unit(&flat, &lddmm(1.0), 1.0), map_in_unit(&flat, &lddmm(s), s)),
            (map_in_unit(&cube, &lddmm(1.0), 1.0), map_in_unit(&cube, &lddmm(s), s)),
            (map_in_unit(&flat, &a, 1.0), map_in_unit(&flat, &rdmm_in_unit(&a, s), s)),
            (map_in_unit(&cube, &b, 1.0), map_in_unit(&cube, &rdmm_in_unit(&b, s), s)),
        ] {
            // Rounding of four steps.
            prop_assert!(deviation(&other, &one) < 1e-12, "{s}: {:.1e}", deviation(&other, &one));
        }
    }
}

/// Energies of a short registration of a pair in the unit s: first and last of each level.
fn energies<M: Model<f64, 2>>(
    model: M,
    measure: impl Measure<f64, 2> + 'static,
    s: f64,
) -> Vec<Terms> {
    let grid = Grid::<2>::unit([32, 32]).unwrap();
    let pair = Shapes::default().pair::<f64, 2>(&grid).unwrap();
    let grid = in_unit(&grid, s);
    let (fixed, moving) = (pair.fixed.on_grid(&grid).unwrap(), pair.moving.on_grid(&grid).unwrap());
    let levels = vec![Level { factor: 2.0, iterations: 3 }, Level { factor: 1.0, iterations: 3 }];
    let registration =
        Registration::new(model, measure).with_settings(Settings::default().with_levels(levels));
    let levels = registration.run(&fixed, &moving).unwrap().report.levels;
    levels.into_iter().flat_map(|level| [level.first.terms, level.last.terms]).collect()
}

#[test]
fn energies_have_no_unit_of_length() {
    let metric = MultiGaussian::new(&[0.06, 0.12, 0.2], &[0.2, 0.5, 0.3]).unwrap();
    let lddmm = |s| Lddmm::new(metric_in_unit(&metric, s));
    let unit = Grid::<2>::unit([32, 32]).unwrap();
    let rdmm = |s| {
        let model = Rdmm::new(metric.sigmas(), common::squares::<f64, 2>(&unit), 0.08).unwrap();
        rdmm_in_unit(&model, s)
    };
    let measured = |s: f64| {
        [
            energies(lddmm(s), Ssd, s),
            energies(lddmm(s), Lncc { sigma: 0.1 * s }, s),
            energies(rdmm(s), Ssd, s),
        ]
    };
    let one = measured(1.0);
    assert!(one.iter().all(|terms| terms[3].total < 0.9 * terms[0].total), "{one:?}");
    // A power of two changes no mantissa: the same bits.
    assert_eq!(format!("{one:?}"), format!("{:?}", measured(256.0)));
    let mut worst = 0.0_f64;
    for (a, b) in one.iter().flatten().zip(measured(25.4).iter().flatten()) {
        let terms = [
            (a.regularisation, b.regularisation),
            (a.similarity, b.similarity),
            (a.total, b.total),
        ];
        for (a, b) in terms {
            worst = worst.max((a - b).abs() / (a.abs() + 1e-3 * one[0][0].total));
        }
    }
    println!("energies in another unit: {worst:.1e}");
    // Rounding, and what six iterations with line searches make of it.
    assert!(worst < 1e-9, "{worst:.1e}");
}

proptest! {
    #![proptest_config(cases(16))]

    #[test]
    fn squares_of_pre_weights_sum_to_one_at_the_start(
        boundary in strategies::boundaries(),
        size in 0.1..30.0_f64,
        seed in 0..1_000_u64,
    ) {
        let grid = grid([9, 12], boundary);
        // Logits, and weights read on a grid of another resolution.
        let mut optimised = common::rdmm_optimised(Advected::PreWeights).on(&grid).unwrap();
        let mut controls = randomised(&Shooting::<f64, 2>::identity(&optimised), seed);
        controls.weights.scale(size);
        let start = optimised.initial_state(&controls);
        let fine = common::grid([17, 25], boundary);
        let mut given = common::rdmm::<f64, 2>(&fine, Advected::PreWeights).on(&grid).unwrap();
        let given_start = given.initial_state(&given.identity());
        for weights in [&start.body.weights, &given_start.body.weights] {
            for at in 0..grid.len() {
                let sum: f64 = (0..3).map(|i| weights.component(i)[at].powi(2)).sum();
                // Rounding of a root, a division and three squares.
                prop_assert!((sum - 1.0).abs() < 1e-14, "{sum}");
            }
        }
    }
}

/// A periodic unit square whose voxel i lies at i·h: coarse voxels coincide with fine ones.
fn square(n: usize) -> Grid<2> {
    Grid::new([n, n], [1.0 / n as f64; 2]).unwrap().with_boundary(Boundary::Periodic)
}

fn closed_form_momentum(grid: &Grid<2>) -> Momentum<f64, 2> {
    Momentum::from_fn(grid, |x| {
        std::array::from_fn(|c| {
            let wave = |p: f64, q: f64, shift: f64| (TAU * (p * x[0] + q * x[1] + shift)).cos();
            [0.12 * wave(1.0, 0.0, 0.1) + 0.08 * wave(1.0, 1.0, 0.3), 0.16 * wave(0.0, 1.0, 0.7)][c]
        })
    })
    .unwrap()
}

/// Pre-weights of unit norm.
fn closed_form_weights(grid: &Grid<2>) -> Weights<f64, 2> {
    Weights::from_fn(grid, 3, |x, c| {
        let angle = 0.8 + 0.4 * (TAU * x[0]).sin() * (TAU * x[1]).cos();
        [0.5, 0.75_f64.sqrt() * angle.cos(), 0.75_f64.sqrt() * angle.sin()][c]
    })
    .unwrap()
}

#[test]
fn the_constraint_on_pre_weights_holds_to_the_stencils_order() {
    let sizes = [24, 48, 96];
    let steps = sizes.map(|n| 1.0 / n as f64);
    for (order, expected) in [(Order::Second, 2.0), (Order::Fourth, 4.0)] {
        let errors = sizes.map(|n| {
            let grid = square(n);
            let evolution = Epdiff::new(&grid, region(&grid, Advected::PreWeights, order), order);
            let (momentum, weights) = (closed_form_momentum(&grid), closed_form_weights(&grid));
            let map = Displacement::zeros(&grid).unwrap();
            let start = Flow { body: Geodesic { momentum, weights }, map };
            let mut sweep =
                rdmm_core::adjoint::Sweep::new(evolution, &start, fixed_steps(n / 4)).unwrap();
            let end = sweep.forward(&start).unwrap();
            let w = &end.body.weights;
            let sum = |at: usize| (0..3).map(|i| w.component(i)[at].powi(2)).sum::<f64>();
            (0..grid.len()).map(|at| (sum(at) - 1.0).abs()).fold(0.0, f64::max)
        });
        let observed = slope(&steps, &errors);
        println!("Σh² with {order:?}: order {observed:.2}, errors {errors:?}");
        // Three grids that are not yet asymptotic: within 0.5 of the order.
        assert!(observed > expected - 0.5, "{order:?}: {observed:.2} {errors:?}");
        assert!(errors[2] < 0.01, "{errors:?}");
    }
}

#[test]
fn forward_and_inverse_map_undo_each_other() {
    fn residuals<E: FieldEvolution<f64, 2>>(
        grid: &Grid<2>,
        evolution: E,
        start: E::State,
    ) -> [f64; 3] {
        let steps = grid.shape()[0] / 2;
        let tracked = Tracked::new(grid, evolution);
        let mut state = tracked.start(start);
        let stepper = Stepper::new(tracked, RK4, MapTransport::SemiLagrangian);
        let (mut next, mut ws) = (state.zeros_like(), stepper.workspace(&state).unwrap());
        for _ in 0..steps {
            stepper.step(&state, 1.0 / steps as f64, &mut next, &mut ws);
            std::mem::swap(&mut state, &mut next);
        }
        let (inverse, forward) = (state.map().data(), state.forward.data());
        let composition = Composition::new(grid);
        let residual = |outer: &[f64], inner: &[f64]| {
            let (mut coefficients, mut out) = (outer.to_vec(), outer.to_vec());
            composition.coefficients(outer, &mut coefficients);
            composition.compose(&coefficients, inner, &mut out);
            out.max_abs()
        };
        let moved = inverse.iter().fold(0.0_f64, |m, u| m.max(u.abs()));
        [residual(forward, inverse), residual(inverse, forward), moved]
    }
    let sizes = [24, 48, 96];
    let steps = sizes.map(|n| 1.0 / n as f64);
    for name in ["LDDMM", "RDMM", "vSVF"] {
        let found = sizes.map(|n| {
            let grid = square(n);
            let (momentum, weights) = (closed_form_momentum(&grid), closed_form_weights(&grid));
            let map = Displacement::zeros(&grid).unwrap();
            let kernel = || {
                let bank = GaussianBank::new(&grid, &common::SIGMAS).unwrap();
                bank.combined(&[0.2, 0.5, 0.3]).unwrap()
            };
            match name {
                "LDDMM" => {
                    let evolution = Epdiff::new(&grid, Homogeneous::new(kernel()), Order::Fourth);
                    let body = Geodesic { momentum, weights: () };
                    residuals(&grid, evolution, Flow { body, map })
                }
                "RDMM" => {
                    let metric = region(&grid, Advected::PreWeights, Order::Fourth);
                    let body = Geodesic { momentum, weights };
                    residuals(&grid, Epdiff::new(&grid, metric, Order::Fourth), Flow { body, map })
                }
                _ => {
                    let mut shooting = Model::<f64, 2>::on(&common::vsvf(), &grid).unwrap();
                    let start = shooting.initial_state(&Controls { momentum, weights: () });
                    residuals(&grid, shooting.evolution(), start)
                }
            }
        });
        for side in 0..2 {
            let errors = found.map(|f| f[side]);
            let observed = slope(&steps, &errors);
            println!(
                "{name} round trip: order {observed:.2}, {errors:?}, moved {:.2}",
                found[2][2]
            );
            // Steps in proportion to the spacing lose h⁴ each to the splines: third order over all of
            // them; half an order for grids that are not yet asymptotic. The maps move by a tenth.
            assert!(observed > 2.5 && errors[2] < 1e-4, "{name}: {observed:.2} {errors:?}");
            assert!(found[2][2] > 0.05, "{name} moved by {}", found[2][2]);
        }
    }
}

/// Voxels an axis of the image that is registered to itself.
const SELF: usize = 32;

/// Largest displacement, in voxels, of an image registered to itself with this many levels.
fn self_registration<M: Model<f64, 2>>(
    model: M,
    measure: impl Measure<f64, 2> + 'static,
    levels: usize,
) -> f64 {
    let grid = Grid::<2>::unit([SELF; 2]).unwrap();
    let image: Image<f64, 2> = Shapes::default().pair(&grid).unwrap().fixed;
    let all = [4.0, 2.0, 1.0].map(|factor| Level { factor, iterations: 5 });
    let levels = all[3 - levels..].to_vec();
    let settings = Settings::default().with_levels(levels);
    let registration = Registration::new(model, measure).with_settings(settings);
    let result = registration.run(&image, &image).unwrap();
    assert_eq!(result.report.folds.total().folded, 0);
    SELF as f64 * result.inverse_map.max_abs().max(result.forward_map.max_abs())
}

#[test]
fn an_image_registers_to_itself_with_the_identity() {
    let metric = MultiGaussian::new(&[0.06, 0.12, 0.2], &[0.2, 0.5, 0.3]).unwrap();
    let lddmm = Lddmm::new(metric.clone());
    let rdmm = RdmmOptimised::<f64, 2>::new(metric, 0.08).unwrap().with_penalties(Vec::new());
    let lncc = Lncc { sigma: 0.08 };
    let mut largest = 0.0_f64;
    for levels in 1..=3 {
        let ssd = [
            self_registration(lddmm.clone(), Ssd, levels),
            self_registration(rdmm.clone(), Ssd, levels),
        ];
        let ncc = [
            self_registration(lddmm.clone(), Ncc, levels),
            self_registration(rdmm.clone(), Ncc, levels),
        ];
        let lncc = [
            self_registration(lddmm.clone(), lncc, levels),
            self_registration(rdmm.clone(), lncc, levels),
        ];
        println!("{levels} levels, voxels: SSD {ssd:?}, NCC {ncc:?}, LNCC {lncc:?}");
        largest = ssd.into_iter().chain(ncc).chain(lncc).fold(largest, f64::max);
    }
    // Splines reproduce an image at its voxels to rounding, so gradients are rounding; the floors of the
    // variances leave NCC and LNCC gradients of about 1e-12.
    assert!(largest < 1e-6, "{largest:.1e} voxels");
    // Penalties move the weights, and the momentum's rounding with them through the joint curvature.
    let penalised = RdmmOptimised::<f64, 2>::new(rdmm.metric().clone(), 0.08).unwrap();
    let moved = self_registration(penalised, Ssd, 3);
    assert!(moved < 1e-3, "{moved:.1e} voxels");
}

/// The bits do not depend on what a workspace held before.
#[test]
fn a_second_shooting_gives_the_same_bits() {
    let grid = grid([12, 9], Boundary::Reflecting);
    for_each_model!(&grid, |model| {
        let mut shooting = model.on(&grid).unwrap();
        let (first, second) = (controls(&mut shooting, 0.4, 3), controls(&mut shooting, 0.3, 4));
        let start = Shooting::<f64, 2>::initial_state;
        let (a, b) = (start(&mut shooting, &first), start(&mut shooting, &second));
        let evolution = shooting.evolution();
        let mut sweep = rdmm_core::adjoint::Sweep::new(evolution, &a, fixed_steps(3)).unwrap();
        let once = bits(sweep.forward(&a).unwrap().map().data());
        sweep.forward(&b).unwrap();
        assert_eq!(once, bits(sweep.forward(&a).unwrap().map().data()));
    });
}

#[test]
fn a_schedule_decides_which_penalty_counts_on_which_level() {
    let grid = Grid::<2>::unit([32, 32]).unwrap();
    let pair = Shapes::default().with_outside(1).pair::<f32, 2>(&grid).unwrap();
    let model = RdmmOptimised::<f32, 2>::new(MultiGaussian::for_grid(&grid), 0.1).unwrap();
    let omt: Arc<dyn Regularizer<f32, 2>> = Arc::new(Omt::new(2e-3).unwrap());
    let penalties = |factors: &[f64]| -> Vec<Arc<dyn Regularizer<f32, 2>>> {
        vec![Arc::new(Scheduled::new(Arc::clone(&omt), factors).unwrap())]
    };
    let levels = [2.0, 1.0].map(|factor| Level { factor, iterations: 3 }).to_vec();
    let last = |factors: &[f64]| {
        let model = model.clone().with_penalties(penalties(factors));
        let settings = Settings::default().with_levels(levels.clone());
        let registration = Registration::new(model, Ssd).with_settings(settings);
        let result = registration.run(&pair.fixed, &pair.moving).unwrap();
        let of = |level: usize| result.report.levels[level].first.terms.penalty;
        [of(0), of(1)]
    };
    let [first, second] = last(&[0.0, 1.0]);
    assert!(first.abs() < f64::MIN_POSITIVE && second > 1e-5, "{first} {second}");
    // The starts of the first levels are the same weights.
    let ([double, _], [single, _]) = (last(&[2.0, 1.0]), last(&[1.0]));
    assert!((double / single - 2.0).abs() < 1e-12, "{double} {single}");
}
