//! The gradient of the whole energy, from the images to the controls.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::common::{
    self, Randomise, bits, controls, fixed_steps, grid, randomised, slope, smooth,
};
use crate::for_each_model;
use rdmm_core::adjoint::Checkpoints;
use rdmm_core::adjoint::Integration;
use rdmm_core::field::Image;
use rdmm_core::grid::{Boundary, Grid};
use rdmm_core::model::{Advected, Controls, Model, RdmmOptimised, Shooting};
use rdmm_core::optim::Objective;
use rdmm_core::registration::{Landmarks, PairObjective};
use rdmm_core::similarity::{
    Histogram, Lncc, Measure, MultiLncc, MutualInformation, Ncc, Nmi, Ssd, WeightedSum, Window,
};
use rdmm_core::space::StateSpace;
use rdmm_core::step::{DOPRI5, Steps};
use rdmm_core::testing::central_difference;

/// A smooth image with contrast everywhere.
fn image<const D: usize>(grid: &Grid<D>, seed: u64) -> Image<f64, D> {
    Image::from_vec(grid, smooth(grid, 1, seed)).unwrap()
}

/// Images on `grid`, momentum and map at half its resolution.
fn objective<const D: usize, M: Model<f64, D>>(
    grid: &Grid<D>,
    model: &M,
    measure: &dyn Measure<f64, D>,
    how: Integration,
) -> PairObjective<M::Shooting, f64, D> {
    let similarity = measure.prepare(&image(grid, 2), None).unwrap();
    let shooting = model.on(&grid.coarsened(2.0).unwrap()).unwrap();
    PairObjective::new(shooting, &image(grid, 1), grid, similarity, 3.0, how).unwrap()
}

type ControlsOf<M, const D: usize> =
    Controls<f64, D, <<M as Model<f64, D>>::Shooting as Shooting<f64, D>>::Weights>;

/// Controls whose weights vary too.
fn point<const D: usize, M: Model<f64, D>>(grid: &Grid<D>, model: &M, seed: u64) -> ControlsOf<M, D>
where
    ControlsOf<M, D>: Randomise,
{
    let mut shooting = model.on(&grid.coarsened(2.0).unwrap()).unwrap();
    let mut start = randomised(&shooting.identity(), seed);
    start.momentum = controls(&mut shooting, 0.5, seed).momentum;
    start
}

/// Largest relative deviation of the gradient from central differences over a few directions, rough and
/// smooth, and the largest deviation from two of the slope of the Taylor remainder.
fn check<const D: usize, M: Model<f64, D>>(
    grid: &Grid<D>,
    model: &M,
    measure: &dyn Measure<f64, D>,
) -> (f64, f64)
where
    ControlsOf<M, D>: Randomise,
{
    check_energy(objective(grid, model, measure, fixed_steps(3)), grid, model)
}

fn check_energy<const D: usize, M: Model<f64, D>>(
    mut energy: PairObjective<M::Shooting, f64, D>,
    grid: &Grid<D>,
    model: &M,
) -> (f64, f64)
where
    ControlsOf<M, D>: Randomise,
{
    let start = point(grid, model, 5);
    let mut gradient = start.zeros_like();
    let value = energy.evaluate(&start, &mut gradient).unwrap();
    let (mut worst, mut bend) = (0.0_f64, 0.0_f64);
    for (direction, smooth) in [
        (randomised(&start, 21), false),
        (point(grid, model, 22), true),
        (point(grid, model, 23), true),
    ] {
        let exact = gradient.dot(&direction);
        let mut at = common::along(&mut energy, &start, &direction);
        // Truncation e⁴ = 1e-16 of a fifth derivative, e³ of jumps of the third; rounding 1e-16 / e = 1e-12.
        let numeric = central_difference(1e-4, &mut at);
        let size = exact.abs().max(1e-2 * gradient.norm() * direction.norm());
        worst = worst.max((numeric - exact).abs() / size);
        if smooth {
            // Both sides, so that the third order cancels; e² = 6e-8 is far above rounding. What is seen of an image
            // falls to nothing within a voxel of its faces: at larger steps higher orders show.
            let steps = [2e-3, 1e-3, 5e-4, 2.5e-4];
            let remainders = steps
                .map(|e| (at(e) - value - e * exact).abs() + (at(-e) - value + e * exact).abs());
            bend = bend.max((slope(&steps, &remainders) - 2.0).abs());
        }
    }
    (worst, bend)
}

/// End to end, against differences with the errors above.
const DIFFERENCES: f64 = 1e-6;
/// From slope 2: what the third and fourth orders do at the largest steps; slope 1 is a wrong gradient.
const TAYLOR: f64 = 0.1;

fn measures<const D: usize>() -> [Box<dyn Measure<f64, D>>; 3] {
    [Box::new(Ssd), Box::new(Ncc), Box::new(Lncc { sigma: 0.15 })]
}

#[test]
fn the_gradient_of_the_energy_equals_differences() {
    let (mut worst, mut most) = (0.0_f64, 0.0_f64);
    for boundary in Boundary::ALL {
        let grid = grid([16, 18], boundary);
        for measure in measures::<2>() {
            for_each_model!(&grid, |model| {
                let (off, taylor) = check(&grid, &model, &*measure);
                let name = Model::<f64, 2>::name(&model);
                let what = format!("{name} {} {boundary:?}", measure.name());
                assert!(off < DIFFERENCES, "{what}: {off:.1e}");
                assert!(taylor < TAYLOR, "{what}: slope off by {taylor:.3}");
                (worst, most) = (worst.max(off), most.max(taylor));
            });
        }
    }
    println!("2-D: differences {worst:.1e}, Taylor slope off by {most:.3}");
}

#[test]
fn the_gradient_of_the_energy_equals_differences_in_three_dimensions() {
    let (mut worst, mut most) = (0.0_f64, 0.0_f64);
    let grid = grid([13, 12, 14], Boundary::Reflecting);
    for measure in measures::<3>() {
        for_each_model!(&grid, |model| {
            let (off, taylor) = check(&grid, &model, &*measure);
            let name = Model::<f64, 3>::name(&model);
            assert!(off < DIFFERENCES, "{name} {}: {off:.1e}", measure.name());
            assert!(taylor < TAYLOR, "{name} {}: slope off by {taylor:.3}", measure.name());
            (worst, most) = (worst.max(off), most.max(taylor));
        });
    }
    println!("3-D: differences {worst:.1e}, Taylor slope off by {most:.3}");
}

/// Measures of the grey values −1.5 to 1.5 that the images have.
fn further_measures<const D: usize>() -> [Box<dyn Measure<f64, D>>; 4] {
    let histogram = Histogram { bins: 8, fixed: [-1.5, 1.5], moving: [-1.5, 1.5] };
    let windows = [(0.4, Window::Gaussian { sigma: 0.15 }), (0.6, Window::Box { width: 0.4 })];
    let parts: Vec<(f64, Box<dyn Measure<f64, D>>)> =
        vec![(1.0, Box::new(Ssd)), (0.5, Box::new(Ncc))];
    [
        Box::new(MultiLncc::new(&windows).unwrap()),
        Box::new(MutualInformation { histogram }),
        Box::new(Nmi { histogram }),
        Box::new(WeightedSum::new(parts).unwrap()),
    ]
}

#[test]
fn the_gradient_of_the_energy_equals_differences_for_further_measures() {
    let grid = grid([16, 18], Boundary::Reflecting);
    let model = common::rdmm_optimised(Advected::PreWeights);
    for measure in further_measures::<2>() {
        let (off, taylor) = check(&grid, &model, &*measure);
        println!("{}: {off:.1e}, {taylor:.3}", measure.name());
        assert!(off < DIFFERENCES, "{}: {off:.1e}", measure.name());
        assert!(taylor < TAYLOR, "{}: slope off by {taylor:.3}", measure.name());
    }
}

/// Points inside the box of `grid` and targets a few per cent of it away.
fn landmarks<const D: usize>(grid: &Grid<D>) -> Landmarks<D> {
    let at = |part: f64, by: f64| {
        let index = |a: usize| (part + 0.1 * a as f64) * (grid.shape()[a] as f64 - 1.0);
        grid.to_world(std::array::from_fn(index)).map(|x| x + by * grid.largest_extent())
    };
    let fixed = [at(0.11, 0.0), at(0.43, 0.0), at(0.77, 0.0)];
    Landmarks::new(&fixed, &[at(0.11, 0.03), at(0.43, -0.05), at(0.77, 0.02)], 20.0).unwrap()
}

#[test]
fn the_gradient_of_the_energy_equals_differences_with_channels_and_landmarks() {
    for boundary in Boundary::ALL {
        let grid = grid([16, 18], boundary);
        // The channel's moving image has a grid of its own.
        let other = grid.coarsened(1.5).unwrap();
        for_each_model!(&grid, |model| {
            let channel = Ncc.prepare(&image(&grid, 3), None).unwrap();
            let energy = objective::<2, _>(&grid, &model, &Ssd, fixed_steps(3))
                .with_channel(&image(&other, 4), channel, 2.0)
                .and_then(|energy| energy.with_landmarks(&landmarks(&grid)))
                .unwrap();
            let (off, taylor) = check_energy(energy, &grid, &model);
            let name = Model::<f64, 2>::name(&model);
            assert!(off < DIFFERENCES, "{name} {boundary:?}: {off:.1e}");
            assert!(taylor < TAYLOR, "{name} {boundary:?}: slope off by {taylor:.3}");
        });
    }
}

#[test]
fn a_channel_of_the_same_pair_doubles_the_weight() {
    let grid = grid([16, 18], Boundary::Reflecting);
    let model = common::rdmm_optimised(Advected::PreWeights);
    let start = point(&grid, &model, 5);
    let similarity = || Ssd.prepare(&image(&grid, 2), None).unwrap();
    let evaluate = |energy: &mut PairObjective<_, f64, 2>| {
        let mut gradient = start.zeros_like();
        (energy.evaluate(&start, &mut gradient).unwrap(), gradient)
    };
    let mut one = objective(&grid, &model, &Ssd, fixed_steps(3))
        .with_channel(&image(&grid, 1), similarity(), 3.0)
        .unwrap();
    let shooting = model.on(&grid.coarsened(2.0).unwrap()).unwrap();
    let how = fixed_steps(3);
    let mut two =
        PairObjective::new(shooting, &image(&grid, 1), &grid, similarity(), 6.0, how).unwrap();
    let ((value, mut gradient), (expected, of_two)) = (evaluate(&mut one), evaluate(&mut two));
    // The same sums in another order.
    assert!((value - expected).abs() < 1e-14 * expected);
    gradient.axpy(-1.0, &of_two);
    assert!(gradient.norm() < 1e-13 * of_two.norm());
    let terms = one.diagnostics(value).terms;
    assert!((terms.channels - 3.0 * terms.similarity).abs() < 1e-14 * terms.channels);
}

/// Penalties are a term of their own: they change the logits' gradient and nothing else.
#[test]
fn penalties_are_added_and_observers_see_them() {
    let grid = grid([16, 18], Boundary::Reflecting);
    let with = common::rdmm_optimised::<f64, 2>(Advected::PreWeights);
    let without = with.clone().with_penalties(Vec::new());
    let start = point(&grid, &with, 5);
    let evaluated = |model: &RdmmOptimised<f64, 2>| {
        let mut energy = objective::<2, _>(&grid, model, &Ssd, fixed_steps(3));
        let mut gradient = start.zeros_like();
        let value = energy.evaluate(&start, &mut gradient).unwrap();
        (energy.diagnostics(value).terms, gradient)
    };
    let ((a, slope), (b, plain)) = (evaluated(&with), evaluated(&without));
    assert!(a.penalty > 0.01 && b.penalty.abs() < 1e-300);
    assert_eq!(a.total.to_bits(), (b.total + a.penalty).to_bits());
    assert_eq!(slope.momentum.data(), plain.momentum.data());
    let mut difference = slope.weights.clone();
    difference.axpy(-1.0, &plain.weights);
    assert!(difference.norm() > 0.1 * plain.weights.norm());

    // At the start the global weights cost nothing but OMT: Σ w_i² cost_i, to rounding.
    let mut shooting = with.on(&grid).unwrap();
    let rest = shooting.identity();
    let costs = common::SIGMAS.map(|s| (0.3_f64 / s).ln() / 3.0_f64.ln());
    let expected: f64 = costs.iter().zip([0.2, 0.5, 0.3]).map(|(cost, share)| cost * share).sum();
    let found = shooting.add_penalty(&rest, &mut rest.zeros_like());
    assert!((found - 0.3 * expected).abs() < 1e-12, "{found}");
}

#[test]
fn checkpoints_do_not_change_a_bit_of_value_or_gradient() {
    let grid = grid([16, 18], Boundary::Reflecting);
    let model = common::rdmm_optimised(Advected::PreWeights);
    let adaptive = Steps::Tolerance { relative: 1e-5, at_most: 200 };
    let courant = Steps::Courant { number: 0.1, at_least: 3, at_most: 1000 };
    for (tableau, steps) in [
        (rdmm_core::step::RK4, Steps::Fixed(9)),
        (rdmm_core::step::RK4, courant),
        (DOPRI5, adaptive),
    ] {
        let results = [
            Checkpoints::All,
            Checkpoints::Every(1),
            Checkpoints::Every(4),
            Checkpoints::Binomial(1),
            Checkpoints::Binomial(3),
            Checkpoints::Binomial(100),
        ]
        .map(|checkpoints| {
            let how = Integration { tableau, steps, checkpoints, ..Integration::default() };
            let mut energy = objective::<2, _>(&grid, &model, &Ssd, how);
            let start = point(&grid, &model, 5);
            let mut gradient = start.zeros_like();
            // Twice: buffers that were used before must not matter.
            energy.evaluate(&start, &mut gradient).unwrap();
            let value = energy.evaluate(&start, &mut gradient).unwrap();
            assert!(energy.diagnostics(value).steps > 3);
            let Controls { momentum, weights } = gradient;
            (value.to_bits(), bits(momentum.data()), bits(weights.data()))
        });
        for other in &results[1..] {
            assert!(results[0] == *other, "{steps:?}");
        }
    }
}
